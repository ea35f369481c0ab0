//! The broker's numbers for Prometheus, under the names, types and sentences of `rabbitmq_prometheus` 3.10 where the
//! meaning is the same. What only Erlang has, or nobody counts here, is left out.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::live::Link;
use super::{Broker, node_name};
use crate::mq::durable::Durable;
use crate::mq::engine::{ChannelView, Churn, Counts, QueueView, Totals};

/// RabbitMQ's two pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// `/metrics`: sums.
    Broker,
    /// `/metrics/per-object`: each queue, channel and connection.
    Object,
}

/// What the broker cannot know of its process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process {
    /// Bytes of memory in use.
    pub memory: u64,
    /// Descriptors that are open.
    pub descriptors: u64,
}

/// Everything, read at one time.
#[derive(Default)]
struct Snapshot {
    totals: Totals,
    counts: Counts,
    churn: Churn,
    /// With their virtual hosts.
    queues: Vec<(Arc<str>, QueueView)>,
    /// With their virtual hosts and names.
    channels: Vec<(Arc<str>, String, ChannelView)>,
    /// With the number of their channels.
    links: Vec<(Arc<Link>, u16)>,
}

impl Broker {
    /// The page.
    pub fn prometheus(&self, by: By, process: Process) -> String {
        let snapshot = self.snapshot();
        let mut page = Page { text: String::new(), by };
        self.node(&mut page, &snapshot, process);
        queues(&mut page, &snapshot.queues);
        channels(&mut page, &snapshot);
        connections(&mut page, &snapshot.links);
        totals(&mut page, &snapshot);
        page.text
    }

    fn snapshot(&self) -> Snapshot {
        let mut all = Snapshot { totals: self.totals(), ..Snapshot::default() };
        let links = self.live.all();
        for host in self.hosts() {
            let vhost: Arc<str> = host.name().into();
            let here = links.iter().filter(|link| Arc::ptr_eq(&link.host, &host));
            let here: HashMap<_, _> = here.map(|link| (link.id, link)).collect();
            host.look(|engine| {
                all.counts += engine.counts();
                all.churn += engine.churn();
                all.queues.extend(engine.queues().map(|queue| (vhost.clone(), queue)));
                for channel in engine.channels() {
                    if let Some(link) = here.get(&channel.connection) {
                        let name = format!("{} ({})", link.name, channel.number);
                        all.channels.push((vhost.clone(), name, channel));
                    }
                }
                for connection in engine.connections() {
                    if let Some(link) = here.get(&connection.id) {
                        all.links.push((Arc::clone(link), connection.channels));
                    }
                }
            });
        }
        all.queues.sort_by(|a, b| (&a.0, &a.1.name).cmp(&(&b.0, &b.1.name)));
        all.channels.sort_by(|a, b| a.1.cmp(&b.1));
        all.links.sort_by_key(|(link, _)| link.serial);
        all
    }

    fn node(&self, page: &mut Page, snapshot: &Snapshot, process: Process) {
        let durable = self.durable.as_deref();
        if page.by == By::Broker {
            let disk = durable.is_some_and(Durable::disk_is_short);
            let memory = self.hosts().iter().any(|host| host.is_short());
            for (name, what, is_short) in
                [("free_disk_space", "free disk space", disk), ("memory_used", "VM memory", memory)]
            {
                let name = format!("rabbitmq_alarms_{name}_watermark");
                let help = format!("is 1 if {what} watermark alarm is in effect");
                page.one(&name, &help, Kind::Untyped, f64::from(u8::from(is_short)));
            }
        }
        let (opened, closed) = self.live.churn();
        let churn = &snapshot.churn;
        for (name, what, value) in [
            ("connections_opened", "connections opened", opened),
            ("connections_closed", "connections closed or terminated", closed),
            ("channels_opened", "channels opened", churn.channels_opened),
            ("channels_closed", "channels closed", churn.channels_closed),
            ("queues_declared", "queues declared", churn.queues_declared),
            ("queues_created", "queues created", churn.queues_created),
            ("queues_deleted", "queues deleted", churn.queues_deleted),
        ] {
            let (name, help) = (format!("rabbitmq_{name}_total"), format!("Total number of {what}"));
            page.one(&name, &help, Kind::Counter, value as f64);
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(0);
        let sockets = self.live.count(|_| true) as u64;
        let free = durable.and_then(Durable::disk_free).unwrap_or(0);
        let free_min = durable.map_or(0, Durable::disk_free_min);
        for (name, help, value) in [
            ("process_open_fds", "Open file descriptors", process.descriptors),
            ("process_open_tcp_sockets", "Open TCP sockets", sockets),
            ("process_resident_memory_bytes", "Memory used in bytes", process.memory),
            ("disk_space_available_bytes", "Disk space available in bytes", free),
            ("process_max_fds", "Open file descriptors limit", limit),
            ("process_max_tcp_sockets", "Open TCP sockets limit", limit),
            ("resident_memory_limit_bytes", "Memory high watermark in bytes", self.limits.memory_max),
            ("disk_space_available_limit_bytes", "Free disk space low watermark in bytes", free_min),
        ] {
            page.one(&format!("rabbitmq_{name}"), help, Kind::Gauge, value as f64);
        }
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (let_in, refused) = (of(&self.logins.let_in), of(&self.logins.refused));
        for (name, what, value) in [
            ("attempts", "authorization attempts", let_in + refused),
            ("attempts_succeeded", "successful authentication attempts", let_in),
            ("attempts_failed", "failed authentication attempts", refused),
        ] {
            page.head(
                &format!("rabbitmq_auth_{name}_total"),
                &format!("Total number of {what}"),
                Kind::Counter,
            );
            page.sample(&format!("rabbitmq_auth_{name}_total"), &[PROTOCOL], value as f64);
        }
        let version = self.limits.version;
        page.head("rabbitmq_build_info", "RabbitMQ & Erlang/OTP version info", Kind::Untyped);
        let labels = [("rabbitmq_version", version), ("product_name", "bandy"), ("product_version", VERSION)];
        page.sample("rabbitmq_build_info", &labels, 1.0);
        page.head("rabbitmq_identity_info", "RabbitMQ node & cluster identity info", Kind::Untyped);
        let node = node_name();
        let labels = [("rabbitmq_node", &*node), ("rabbitmq_cluster", &node)];
        page.sample("rabbitmq_identity_info", &labels, 1.0);
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
const PROTOCOL: (&str, &str) = ("protocol", "amqp091");

fn queues(page: &mut Page, queues: &[(Arc<str>, QueueView)]) {
    type Of = fn(&QueueView) -> u64;
    let gauges: [(&str, &str, Of); 7] = [
        ("messages_ready", "Messages ready to be delivered to consumers", |it| it.ready),
        ("messages_unacked", "Messages delivered to consumers but not yet acknowledged", |it| it.unacked),
        ("messages", "Sum of ready and unacknowledged messages - total queue depth", |it| {
            it.ready + it.unacked
        }),
        ("consumers", "Consumers on a queue", |it| it.consumers as u64),
        ("messages_bytes", "Size in bytes of ready and unacknowledged messages", |it| {
            it.ready_bytes + it.unacked_bytes
        }),
        ("messages_ready_bytes", "Size in bytes of ready messages", |it| it.ready_bytes),
        ("messages_unacked_bytes", "Size in bytes of all unacknowledged messages", |it| it.unacked_bytes),
    ];
    for (name, help, of) in gauges {
        let each = queues
            .iter()
            .map(|(vhost, queue)| (vec![("vhost", &**vhost), ("queue", &*queue.name)], of(queue) as f64));
        page.each(&format!("rabbitmq_queue_{name}"), help, Kind::Gauge, each);
    }
    if page.by == By::Object {
        let name = "rabbitmq_queue_head_message_timestamp";
        page.head(name, "Timestamp of the first message in the queue, if any", Kind::Gauge);
        for (vhost, queue) in queues {
            if let Some(at) = queue.head_timestamp {
                page.sample(name, &[("vhost", vhost), ("queue", &queue.name)], at as f64);
            }
        }
    }
    let each = queues.iter().map(|(vhost, queue)| {
        (vec![("queue_vhost", &**vhost), ("queue", &*queue.name)], queue.counts.published as f64)
    });
    let name = "rabbitmq_queue_messages_published_total";
    page.each(name, "Total number of messages published to queues", Kind::Counter, each);
}

fn channels(page: &mut Page, snapshot: &Snapshot) {
    type Of = fn(&ChannelView) -> u64;
    let channels = &snapshot.channels;
    let gauges: [(&str, &str, Of); 7] = [
        ("channel_consumers", "Consumers on a channel", |it| it.consumers as u64),
        ("channel_messages_unacked", "Delivered but not yet acknowledged messages", |it| it.unacked as u64),
        ("channel_messages_unconfirmed", "Published but not yet confirmed messages", |it| {
            it.unconfirmed as u64
        }),
        ("channel_messages_uncommitted", "Messages received in a transaction but not yet committed", |it| {
            it.uncommitted as u64
        }),
        ("channel_acks_uncommitted", "Message acknowledgements in a transaction not yet committed", |it| {
            it.acks_uncommitted as u64
        }),
        ("consumer_prefetch", "Limit of unacknowledged messages for each consumer", |it| {
            u64::from(it.prefetch)
        }),
        ("channel_prefetch", "Total limit of unacknowledged messages for all consumers on a channel", |it| {
            u64::from(it.global_prefetch)
        }),
    ];
    for (name, help, of) in gauges {
        let each = channels.iter().map(|(_, name, channel)| (vec![("channel", &**name)], of(channel) as f64));
        page.each(&format!("rabbitmq_{name}"), help, Kind::Gauge, each);
    }
    for (name, _, of_channel, help) in COUNTERS {
        let (name, help) = (format!("rabbitmq_channel_{name}_total"), format!("Total number of {help}"));
        match page.by {
            // Those of channels that are closed, too: a counter does not go back.
            By::Broker => page.one(&name, &help, Kind::Counter, of_channel(&snapshot.counts) as f64),
            By::Object => {
                let each = channels.iter().map(|(vhost, channel, view)| {
                    (vec![("channel", &**channel), ("vhost", &**vhost)], of_channel(&view.counts) as f64)
                });
                page.each(&name, &help, Kind::Counter, each);
            }
        }
    }
}

type OfCounts = fn(&Counts) -> u64;

/// What is counted of messages: its name of channels, its name of the whole broker, where it is, what it is.
const COUNTERS: [(&str, &str, OfCounts, &str); 11] = [
    (
        "messages_published",
        "messages_received",
        |it| it.published,
        "messages published into an exchange on a channel",
    ),
    (
        "messages_confirmed",
        "messages_confirmed",
        |it| it.confirmed,
        "messages published into an exchange and confirmed on the channel",
    ),
    (
        "messages_unroutable_returned",
        "messages_unroutable_returned",
        |it| it.returned,
        "messages published as mandatory into an exchange and returned to the publisher as unroutable",
    ),
    (
        "messages_unroutable_dropped",
        "messages_unroutable_dropped",
        |it| it.dropped,
        "messages published as non-mandatory into an exchange and dropped as unroutable",
    ),
    (
        "get_ack",
        "messages_delivered_get_manual_ack",
        |it| it.got,
        "messages fetched with basic.get in manual acknowledgement mode",
    ),
    (
        "get",
        "messages_delivered_get_auto_ack",
        |it| it.got_no_ack,
        "messages fetched with basic.get in automatic acknowledgement mode",
    ),
    (
        "messages_delivered_ack",
        "messages_delivered_consume_manual_ack",
        |it| it.delivered,
        "messages delivered to consumers in manual acknowledgement mode",
    ),
    (
        "messages_delivered",
        "messages_delivered_consume_auto_ack",
        |it| it.delivered_no_ack,
        "messages delivered to consumers in automatic acknowledgement mode",
    ),
    (
        "messages_redelivered",
        "messages_redelivered",
        |it| it.redelivered,
        "messages redelivered to consumers",
    ),
    ("messages_acked", "messages_acknowledged", |it| it.acked, "messages acknowledged by consumers"),
    ("get_empty", "messages_get_empty", |it| it.got_nothing, "times basic.get operations fetched no message"),
];

fn connections(page: &mut Page, links: &[(Arc<Link>, u16)]) {
    type Of = fn(&Link) -> &AtomicU64;
    let counters: [(&str, &str, Of); 4] = [
        ("incoming_bytes", "bytes received", |link| &link.traffic.received),
        ("outgoing_bytes", "bytes sent", |link| &link.traffic.sent),
        ("incoming_packets", "packets received", |link| &link.traffic.reads),
        ("outgoing_packets", "packets sent", |link| &link.traffic.writes),
    ];
    for (name, what, of) in counters {
        let each = links.iter().map(|(link, _)| {
            // RabbitMQ calls a connection's label so, too.
            (vec![("channel", &*link.name)], of(link).load(Ordering::Relaxed) as f64)
        });
        let (name, help) =
            (format!("rabbitmq_connection_{name}_total"), format!("Total number of {what} on a connection"));
        page.each(&name, &help, Kind::Counter, each);
    }
    let each = links.iter().map(|(link, channels)| (vec![("channel", &*link.name)], f64::from(*channels)));
    page.each("rabbitmq_connection_channels", "Channels on a connection", Kind::Gauge, each);
}

fn totals(page: &mut Page, snapshot: &Snapshot) {
    let Snapshot { totals, counts, channels, .. } = snapshot;
    for (name, help, value) in [
        ("connections", "Connections currently open", totals.connections),
        ("channels", "Channels currently open", totals.channels),
        ("consumers", "Consumers currently connected", totals.consumers),
        ("queues", "Queues available", totals.queues),
    ] {
        page.one(&format!("rabbitmq_{name}"), help, Kind::Gauge, value as f64);
    }
    let publishers = channels.iter().filter(|(_, _, channel)| channel.counts.published > 0).count();
    let delivered = counts.delivered + counts.delivered_no_ack + counts.got + counts.got_no_ack;
    let mut global = |name: &str, help: &str, kind: Kind, value: f64| {
        let name = format!("rabbitmq_global_{name}");
        page.head(&name, help, kind);
        page.sample(&name, &[PROTOCOL], value);
    };
    global("consumers", "Current number of consumers", Kind::Gauge, totals.consumers as f64);
    global("publishers", "Current number of publishers", Kind::Gauge, publishers as f64);
    for (_, name, of, what) in COUNTERS {
        global(
            &format!("{name}_total"),
            &format!("Total number of {what}"),
            Kind::Counter,
            of(counts) as f64,
        );
    }
    let help = "Total number of messages delivered to consumers";
    global("messages_delivered_total", help, Kind::Counter, delivered as f64);
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Untyped,
}

/// Prometheus' text format, version 0.0.4.
struct Page {
    text: String,
    by: By,
}

impl Page {
    fn head(&mut self, name: &str, help: &str, kind: Kind) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Untyped => "untyped",
        };
        // Writing to a string cannot fail.
        let _ = write!(self.text, "# TYPE {name} {kind}\n# HELP {name} {help}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{}{label}=\"{text}\"", if at == 0 { '{' } else { ',' });
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{end} {value}");
    }

    fn one(&mut self, name: &str, help: &str, kind: Kind, value: f64) {
        self.head(name, help, kind);
        self.sample(name, &[], value);
    }

    /// One sample for each object, or their sum.
    fn each<'a>(
        &mut self,
        name: &str,
        help: &str,
        kind: Kind,
        each: impl Iterator<Item = (Vec<(&'a str, &'a str)>, f64)>,
    ) {
        match self.by {
            By::Broker => self.one(name, help, kind, each.map(|(_, value)| value).sum()),
            By::Object => {
                self.head(name, help, kind);
                each.for_each(|(labels, value)| self.sample(name, &labels, value));
            }
        }
    }
}
