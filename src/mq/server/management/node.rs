//! The broker as a whole: overview, its one node, and checks of its health.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::Management;
use super::ask::Caller;
use super::object::{length_figures, message_figures};
use super::rates::{Figures, Subject};
use super::reply::{Outcome, Refusal, Reply};
use crate::mq::durable::Durable;
use crate::mq::engine::{Counts, Totals};
use crate::mq::server::host::Host;

/// The RabbitMQ whose API this is; tools look at it to know what they may ask.
pub(super) const RABBITMQ_VERSION: &str = "3.10.8";

const EXCHANGE_TYPES: [(&str, &str); 6] = [
    ("direct", "AMQP direct exchange, as per the AMQP specification"),
    ("fanout", "AMQP fanout exchange, as per the AMQP specification"),
    ("headers", "AMQP headers exchange, as per the AMQP specification"),
    ("topic", "AMQP topic exchange, as per the AMQP specification"),
    ("x-consistent-hash", "Consistent Hashing Exchange"),
    ("x-delayed-message", "Delayed Message Exchange"),
];

/// What is always on here; RabbitMQ 3.10 lists the same.
const FEATURE_FLAGS: [(&str, &str); 8] = [
    ("classic_mirrored_queue_version", "Support setting version for classic mirrored queues"),
    ("drop_unroutable_metric", "Count unroutable publishes to be dropped in stats"),
    ("empty_basic_get_metric", "Count AMQP `basic.get` on empty queues in stats"),
    (
        "implicit_default_bindings",
        "Default bindings are now implicit, instead of being stored in the database",
    ),
    ("maintenance_mode_status", "Maintenance mode status"),
    ("quorum_queue", "Support queues of type `quorum`"),
    ("user_limits", "Configure connection and channel limits for a user"),
    ("virtual_host_metadata", "Virtual host metadata (description, tags, etc)"),
];

fn exchange_types() -> Json {
    let one = |(name, description): &(&str, &str)| json!({"name": name, "description": description, "enabled": true});
    EXCHANGE_TYPES.iter().map(one).collect()
}

pub(super) fn feature_flags() -> Vec<Json> {
    let one = |(name, desc): &(&str, &str)| {
        json!({
            "name": name, "desc": desc, "doc_url": "", "state": "enabled", "stability": "stable",
            "provided_by": "bandy",
        })
    };
    FEATURE_FLAGS.iter().map(one).collect()
}

pub(super) fn is_feature_flag(name: &str) -> bool {
    FEATURE_FLAGS.iter().any(|(known, _)| *known == name)
}

/// Nanoseconds since 1970 of the machine's boot do not matter: a process counts its own time.
fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Management {
    /// Everything that rates are taken of.
    pub(super) fn figures(&self) -> HashMap<Subject, Figures> {
        let mut all = HashMap::new();
        let (mut counts, mut totals) = (Counts::default(), Totals::default());
        for host in self.broker.hosts() {
            let vhost: Arc<str> = host.name().into();
            let links = self.links_on(&host);
            host.look(|engine| {
                let (of_host, sums) = (engine.counts(), engine.totals());
                counts += of_host;
                totals.ready += sums.ready;
                totals.unacked += sums.unacked;
                all.insert(Subject::Vhost(vhost.clone()), message_figures(&of_host));
                let lengths = length_figures(sums.ready, sums.unacked);
                all.insert(Subject::VhostLength(vhost.clone()), lengths);
                for queue in engine.queues() {
                    let lengths = length_figures(queue.ready, queue.unacked);
                    all.insert(Subject::Length(vhost.clone(), queue.name.clone()), lengths);
                    let figures = message_figures(&queue.counts);
                    all.insert(Subject::Queue(vhost.clone(), queue.name), figures);
                }
                for exchange in engine.exchanges() {
                    let figures = vec![("publish_in", exchange.passed.0), ("publish_out", exchange.passed.1)];
                    all.insert(Subject::Exchange(vhost.clone(), exchange.name), figures);
                }
                for channel in engine.channels() {
                    if let Some(link) = links.get(&channel.connection) {
                        let subject = Subject::Channel(link.serial, channel.number);
                        all.insert(subject, message_figures(&channel.counts));
                    }
                }
            });
        }
        all.insert(Subject::Everything, message_figures(&counts));
        all.insert(Subject::Totals, length_figures(totals.ready, totals.unacked));
        all.insert(Subject::Churn, self.churn());
        all.insert(Subject::Node, self.levels());
        all.extend(self.broker.live.all().iter().map(|link| Self::connection_figures(link)));
        all
    }

    fn churn(&self) -> Figures {
        let (came, went) = self.broker.live.churn();
        let mut churn = crate::mq::engine::Churn::default();
        for host in self.broker.hosts() {
            churn += host.look(|engine| engine.churn());
        }
        vec![
            ("channel_closed", churn.channels_closed),
            ("channel_created", churn.channels_opened),
            ("connection_closed", went),
            ("connection_created", came),
            ("queue_created", churn.queues_created),
            ("queue_declared", churn.queues_declared),
            ("queue_deleted", churn.queues_deleted),
        ]
    }

    pub(super) fn overview(&self, caller: &Caller) -> Json {
        self.overview_of(caller, &self.hosts_of(caller))
    }

    /// Of these virtual hosts, as the caller may see it.
    pub(super) fn overview_of(&self, caller: &Caller, hosts: &[Arc<Host>]) -> Json {
        let (mut counts, mut totals) = (Counts::default(), Totals::default());
        for host in hosts {
            let (of_host, sums) = host.look(|engine| (engine.counts(), engine.totals()));
            counts += of_host;
            totals.exchanges += sums.exchanges;
            totals.queues += sums.queues;
            totals.consumers += sums.consumers;
            totals.ready += sums.ready;
            totals.unacked += sums.unacked;
        }
        let links = self.links_of(caller);
        let channels: usize = hosts.iter().map(|host| self.channels_on(host, caller).len()).sum();
        let mut shown = json!({
            "management_version": RABBITMQ_VERSION, "rates_mode": "basic",
            "sample_retention_policies": {"global": [], "basic": [], "detailed": []},
            "exchange_types": exchange_types(), "product_version": env!("CARGO_PKG_VERSION"),
            "product_name": "bandy", "rabbitmq_version": RABBITMQ_VERSION, "cluster_name": self.cluster_name(),
            "erlang_version": "", "erlang_full_version": "", "release_series_support_status": "supported",
            "disable_stats": false, "enable_queue_totals": false,
            "message_stats": self.message_stats(&Subject::Everything, &message_figures(&counts)).unwrap_or(json!({})),
            "churn_rates": self.rates.with(&Subject::Churn, &self.churn()),
            "queue_totals": self.rates.with(&Subject::Totals, &length_figures(totals.ready, totals.unacked)),
            "object_totals": {
                "channels": channels, "connections": links.len(), "consumers": totals.consumers,
                "exchanges": totals.exchanges, "queues": totals.queues,
            },
            "statistics_db_event_queue": 0, "node": self.node,
        });
        if caller.is_monitor()
            && let Json::Object(shown) = &mut shown
        {
            shown.insert("listeners".to_owned(), self.listeners());
            shown.insert("contexts".to_owned(), self.contexts());
        }
        shown
    }

    fn listeners(&self) -> Json {
        let one = |fact: &super::ListenerFact| {
            json!({
                "node": self.node, "protocol": fact.protocol, "ip_address": fact.host, "port": fact.port,
                "socket_opts": {"nodelay": true},
            })
        };
        self.facts.listeners.iter().map(one).collect()
    }

    fn contexts(&self) -> Json {
        let of_api = self.facts.listeners.iter().filter(|fact| fact.protocol.starts_with("http"));
        let one = |fact: &super::ListenerFact| {
            json!({
                "ssl_opts": [], "node": self.node, "description": "RabbitMQ Management", "path": "/",
                "ip": fact.host, "port": fact.port.to_string(),
            })
        };
        of_api.map(one).collect()
    }

    pub(super) fn node(&self) -> Json {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(0);
        let short = self.broker.hosts().iter().any(|host| host.is_short());
        let durable = self.broker.durable.as_deref();
        let mut shown = json!({
            "partitions": [], "os_pid": std::process::id().to_string(), "fd_total": limit,
            "sockets_total": limit, "mem_limit": self.broker.limits.memory_max, "mem_alarm": short,
            "disk_free_limit": durable.map_or(0, Durable::disk_free_min),
            "disk_free_alarm": durable.is_some_and(Durable::disk_is_short), "proc_total": 0, "rates_mode": "basic",
            "uptime": millis(self.started.elapsed()), "run_queue": 0,
            "processors": std::thread::available_parallelism().map_or(1, usize::from),
            "exchange_types": exchange_types(),
            "auth_mechanisms": [
                {"name": "AMQPLAIN", "description": "QPid AMQPLAIN mechanism", "enabled": true},
                {"name": "EXTERNAL", "description": "SASL EXTERNAL authentication mechanism", "enabled": true},
                {"name": "PLAIN", "description": "SASL PLAIN authentication mechanism", "enabled": true},
            ],
            "applications": [
                {"name": "bandy", "description": "bandy mq broker", "version": env!("CARGO_PKG_VERSION")},
                {"name": "rabbit", "description": "RabbitMQ", "version": RABBITMQ_VERSION},
            ],
            "contexts": self.contexts(), "log_files": [],
            "db_dir": durable.map_or_else(String::new, |durable| durable.dir().display().to_string()), "config_files": [], "net_ticktime": 60,
            "enabled_plugins": ["rabbitmq_management"], "mem_calculation_strategy": "rss", "name": self.node,
            "type": "disc", "running": true, "being_drained": false, "cluster_links": [],
        });
        if let Json::Object(shown) = &mut shown {
            shown.extend(self.rates.with(&Subject::Node, &self.levels()));
            shown.extend(self.rates.with(&Subject::Churn, &self.churn()));
        }
        shown
    }

    /// What the process takes of the machine.
    fn levels(&self) -> Figures {
        let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let disk = self.broker.durable.as_ref().and_then(|durable| durable.disk_free());
        vec![
            ("mem_used", (self.facts.memory)()),
            ("fd_used", descriptors as u64),
            ("sockets_used", self.broker.live.count(|_| true) as u64),
            ("proc_used", 0),
            ("disk_free", disk.unwrap_or(0)),
        ]
    }

    pub(super) fn memory(&self) -> Json {
        let total = (self.facts.memory)();
        json!({"memory": {"total": {"rss": total, "allocated": total, "erlang": 0}, "strategy": "rss"}})
    }

    /// Checks of health: RabbitMQ answers 200 or 503.
    pub(super) fn health(&self, check: &[&str]) -> Outcome {
        let good = || Ok(Reply::One(json!({"status": "ok"})));
        let listeners = &self.facts.listeners;
        match check {
            ["alarms" | "local-alarms"] => {
                let memory = self.broker.hosts().iter().any(|host| host.is_short());
                let disk = self.broker.durable.as_ref().is_some_and(|durable| durable.disk_is_short());
                let alarms: Vec<Json> = [("disk", disk), ("memory", memory)]
                    .into_iter()
                    .filter(|(_, short)| *short)
                    .map(|(resource, _)| json!({"node": self.node, "resource": resource}))
                    .collect();
                if alarms.is_empty() {
                    return good();
                }
                let reason = "There are alarms in effect in the cluster";
                Ok(Reply::Failed(json!({"status": "failed", "reason": reason, "alarms": alarms})))
            }
            ["certificate-expiration", within, unit] => self.certificate_expiration(within, unit),
            ["port-listener", port] => {
                let port: u16 = port.parse().map_err(|_| Refusal::bad_request("Invalid port"))?;
                if listeners.iter().any(|fact| fact.port == port) {
                    return Ok(Reply::One(json!({"status": "ok", "port": port})));
                }
                let ports: Vec<u16> = listeners.iter().map(|fact| fact.port).collect();
                let reason = "No active listener";
                Ok(Reply::Failed(
                    json!({"status": "failed", "reason": reason, "missing": port, "ports": ports}),
                ))
            }
            ["protocol-listener", protocol] => {
                let meant = match *protocol {
                    "amqp091" | "amqp" | "amqp0.9.1" | "amqp-091" => "amqp",
                    "amqps" | "amqp/ssl" | "tls" => "amqp/ssl",
                    "https" => "https",
                    other => other,
                };
                if listeners.iter().any(|fact| fact.protocol == meant) {
                    return Ok(Reply::One(json!({"status": "ok", "protocol": meant})));
                }
                let all: Vec<&str> = listeners.iter().map(|fact| fact.protocol).collect();
                let reason = "No active listener";
                Ok(Reply::Failed(
                    json!({"status": "failed", "reason": reason, "missing": meant, "protocols": all}),
                ))
            }
            ["virtual-hosts"] => good(),
            ["node-is-mirror-sync-critical" | "node-is-quorum-critical"] => {
                Ok(Reply::One(json!({"status": "ok", "reason": "single node cluster"})))
            }
            _ => Err(Refusal::nothing_there()),
        }
    }

    fn certificate_expiration(&self, within: &str, unit: &str) -> Outcome {
        const DAY: i64 = 24 * 60 * 60;
        let days = match unit {
            "days" => 1,
            "weeks" => 7,
            "months" => 30,
            "years" => 365,
            _ => {
                let units = "Time unit not recognised. Supported units: days, weeks, months, years.";
                return Err(Refusal::bad_request(units));
            }
        };
        let within: i64 = within
            .parse()
            .ok()
            .filter(|within| *within >= 0)
            .ok_or_else(|| Refusal::bad_request("Invalid expiration date requested"))?;
        let until = jiff::Timestamp::now().as_second().saturating_add(within.saturating_mul(days * DAY));
        match self.facts.certificate_expires {
            Some(expires) if expires <= until => Ok(Reply::Failed(
                json!({"status": "failed", "reason": "Certificates expiring", "expired": [{"node": self.node}]}),
            )),
            Some(_) | None => Ok(Reply::One(json!({"status": "ok"}))),
        }
    }

    /// Values that others keep here, and those that RabbitMQ's tools expect.
    pub(super) fn global_parameters(&self) -> BTreeMap<String, Json> {
        let mut all: BTreeMap<String, Json> = self.broker.parameters().clone();
        all.entry("internal_cluster_id".to_owned())
            .or_insert_with(|| format!("rabbitmq-cluster-id-{}", self.node).into());
        all
    }

    pub(super) fn cluster_name(&self) -> String {
        let set =
            self.broker.parameters().get("cluster_name").and_then(|name| name.as_str().map(str::to_owned));
        set.unwrap_or_else(|| self.node.clone())
    }

    pub(super) fn global_parameter(name: &str, value: &Json) -> Json {
        let mut shown = Map::new();
        shown.insert("value".to_owned(), value.clone());
        shown.insert("name".to_owned(), name.into());
        shown.into()
    }
}
