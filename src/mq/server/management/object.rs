//! Queues, exchanges, bindings, consumers, channels and connections as RabbitMQ's API shows them.

use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value as Json, json};

use super::Management;
use super::rates::{Figures, Subject};
use super::visible::Links;
use crate::mq::engine::{
    BindingView, ChannelView, ConsumerView, Counts, Definitions, ExchangeView, QueueView, json_of,
};
use crate::mq::server::live::Link;
use crate::mq::wire::Table;

/// What a key may hold as it is: letters, digits and four signs, as in forms.
const KEY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// Counters of publishing, and of taking.
const OF_PUBLISHING: usize = 4;

/// Counters of a queue, a channel or a virtual host, in a fixed order.
pub(super) fn message_figures(counts: &Counts) -> Figures {
    let Counts { published, delivered, delivered_no_ack, got, acked, redelivered, .. } = *counts;
    vec![
        ("publish", published),
        ("confirm", counts.confirmed),
        ("drop_unroutable", counts.dropped),
        ("return_unroutable", counts.returned),
        ("ack", acked),
        ("deliver", delivered),
        ("deliver_get", delivered + delivered_no_ack + got + counts.got_no_ack),
        ("deliver_no_ack", delivered_no_ack),
        ("get", got),
        ("get_empty", counts.got_nothing),
        ("get_no_ack", counts.got_no_ack),
        ("redeliver", redelivered),
    ]
}

pub(super) fn length_figures(ready: u64, unacked: u64) -> Figures {
    vec![("messages", ready + unacked), ("messages_ready", ready), ("messages_unacknowledged", unacked)]
}

fn traffic_figures(link: &Link) -> Figures {
    let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    vec![("recv_oct", of(&link.traffic.received)), ("send_oct", of(&link.traffic.sent))]
}

/// The string as a value, or null.
fn or_null(text: Option<impl Into<String>>) -> Json {
    text.map_or(Json::Null, |text| text.into().into())
}

/// Of a connection whatever it belongs to shows.
fn brief(link: &Link) -> Json {
    let (host, port) = ends(link.ends.peer);
    json!({"name": link.name, "peer_host": host, "peer_port": port})
}

fn ends(address: Option<std::net::SocketAddr>) -> (String, u16) {
    // Unix sockets have no address.
    address.map_or_else(|| ("local".to_owned(), 0), |at| (at.ip().to_string(), at.port()))
}

/// Seconds since 1970 in ISO 8601, as RabbitMQ writes it.
pub(super) fn timestamp(millis: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(millis);
    let stamp = jiff::Timestamp::try_from(time).unwrap_or_default();
    stamp.strftime("%Y-%m-%dT%H:%M:%S.%3f+00:00").to_string()
}

/// The name of a binding among those between the same two: its key, and a hash of its arguments if it has any.
pub(super) fn properties_key(key: &[u8], arguments: Table<'_>) -> String {
    let text = String::from_utf8_lossy(key);
    let quoted = utf8_percent_encode(&text, KEY).to_string().replace("%20", "+");
    let quoted = if quoted.is_empty() { "~".to_owned() } else { quoted };
    if arguments.is_empty() {
        return quoted;
    }
    // What the key means is known to the server that made it only.
    let sorted = serde_json::to_string(&sorted(&json_of(arguments))).unwrap_or_default();
    format!("{}~{:08x}", if text.is_empty() { "" } else { &quoted }, crc32c::crc32c(sorted.as_bytes()))
}

fn sorted(arguments: &Map<String, Json>) -> Vec<(&String, &Json)> {
    let mut pairs: Vec<_> = arguments.iter().collect();
    pairs.sort_by_key(|(name, _)| *name);
    pairs
}

pub(super) fn binding(vhost: &str, view: &BindingView) -> Json {
    json!({
        "source": &*view.source, "vhost": vhost, "destination": &*view.destination,
        "destination_type": if view.is_queue { "queue" } else { "exchange" },
        "routing_key": String::from_utf8_lossy(&view.key), "arguments": json_of(view.arguments.as_table()),
        "properties_key": properties_key(&view.key, view.arguments.as_table()),
    })
}

impl Management {
    /// Counters with their rates, without the groups of which nothing has happened; none if nothing has at all.
    pub(super) fn message_stats(&self, subject: &Subject, figures: &Figures) -> Option<Json> {
        let split = OF_PUBLISHING.min(figures.len());
        let (publishing, taking) = figures.split_at(split);
        let happened = |group: &[(&str, u64)]| group.iter().any(|(_, count)| *count > 0);
        let mut shown = self.rates.with(subject, figures);
        for group in [publishing, taking] {
            if !happened(group) {
                for (name, _) in group {
                    shown.shift_remove(*name);
                    shown.shift_remove(&format!("{name}_details"));
                }
            }
        }
        (!shown.is_empty()).then_some(Json::Object(shown))
    }

    /// A queue. With details, its consumers too.
    pub(super) fn queue(&self, vhost: &str, view: &QueueView, links: &Links, rules: &Definitions) -> Json {
        let subject = Subject::Queue(vhost.into(), view.name.clone());
        let lengths = self.rates.with(
            &Subject::Length(vhost.into(), view.name.clone()),
            &length_figures(view.ready, view.unacked),
        );
        // One when nobody waits for a consumer: how long each was busy is not measured.
        let keeps_up = if view.consumers > 0 && view.ready == 0 { 1 } else { 0 };
        let exclusive = view.consumers_exclusive.as_deref();
        let mut shown = json!({
            "arguments": json_of(view.arguments.as_table()), "auto_delete": view.auto_delete,
            "consumer_capacity": keeps_up, "consumer_utilisation": keeps_up, "consumers": view.consumers,
            "durable": view.durable, "effective_policy_definition": effective(view, rules),
            "exclusive": view.exclusive.is_some(), "exclusive_consumer_tag": or_null(exclusive),
            "head_message_timestamp": view.head_timestamp,
            "memory": view.memory, "message_bytes": view.ready_bytes + view.unacked_bytes,
            "message_bytes_ready": view.ready_bytes, "message_bytes_unacknowledged": view.unacked_bytes,
            "name": &*view.name, "node": self.node, "operator_policy": view.operator_policy,
            "policy": view.policy, "recoverable_slaves": null,
            "single_active_consumer_tag": or_null(view.active_consumer.as_deref()),
            "state": if view.failed { "crashed" } else { "running" }, "type": view.kind.name(), "vhost": vhost,
        });
        if let Json::Object(shown) = &mut shown {
            shown.extend(lengths);
            if let Some(stats) = self.message_stats(&subject, &message_figures(&view.counts)) {
                shown.insert("message_stats".to_owned(), stats);
            }
            if let Some(owner) = view.exclusive.and_then(|id| links.get(&id)) {
                shown.insert("owner_pid_details".to_owned(), brief(owner));
            }
            if view.consumers == 0 {
                shown.insert("idle_since".to_owned(), timestamp(view.used).into());
            }
        }
        shown
    }

    pub(super) fn exchange(&self, vhost: &str, view: &ExchangeView) -> Json {
        let mut shown = json!({
            "arguments": json_of(view.arguments.as_table()), "auto_delete": view.auto_delete,
            "durable": view.durable, "internal": view.internal, "name": &*view.name, "type": view.kind,
            "vhost": vhost,
        });
        let (into, out) = view.passed;
        if let Json::Object(object) = &mut shown {
            if into > 0 {
                let figures = vec![("publish_in", into), ("publish_out", out)];
                let subject = Subject::Exchange(vhost.into(), view.name.clone());
                let stats = self.rates.with(&subject, &figures);
                object.insert("message_stats".to_owned(), stats.into());
            }
            if let Some(policy) = &view.policy {
                object.insert("policy".to_owned(), policy.as_str().into());
            }
        }
        shown
    }

    pub(super) fn consumer(&self, vhost: &str, view: &ConsumerView, links: &Links) -> Option<Json> {
        let link = links.get(&view.connection)?;
        let (host, port) = ends(link.ends.peer);
        Some(json!({
            "arguments": json_of(view.arguments.as_table()), "ack_required": view.acks,
            "active": view.active,
            "activity_status": if view.active { "up" } else { "waiting" },
            "channel_details": {
                "connection_name": link.name, "name": channel_name(link, view.channel), "node": self.node,
                "number": view.channel, "peer_host": host, "peer_port": port, "user": &*link.terms.user,
            },
            "consumer_tag": &*view.tag, "exclusive": view.exclusive, "prefetch_count": view.prefetch,
            "queue": {"name": &*view.queue, "vhost": vhost},
        }))
    }

    pub(super) fn channel(&self, vhost: &str, view: &ChannelView, link: &Link) -> Json {
        let mut shown = json!({
            "acks_uncommitted": view.acks_uncommitted, "confirm": view.confirms, "connection_details": brief(link),
            "consumer_count": view.consumers, "global_prefetch_count": view.global_prefetch,
            "messages_unacknowledged": view.unacked, "messages_uncommitted": view.uncommitted,
            "messages_unconfirmed": view.unconfirmed, "name": channel_name(link, view.number),
            "node": self.node, "number": view.number, "pending_raft_commands": 0,
            "prefetch_count": view.prefetch, "state": if view.is_closing { "closing" } else { "running" },
            "transactional": view.transactional, "user": &*link.terms.user,
            "user_who_performed_action": &*link.terms.user, "vhost": vhost,
        });
        let subject = Subject::Channel(link.serial, view.number);
        if let Some(stats) = self.message_stats(&subject, &message_figures(&view.counts))
            && let Json::Object(shown) = &mut shown
        {
            shown.insert("message_stats".to_owned(), stats);
        }
        shown
    }

    pub(super) fn connection(&self, link: &Link, channels: u16, blocked: bool) -> Json {
        let (terms, ends_of) = (&link.terms, &link.ends);
        let ((host, port), (peer_host, peer_port)) = (ends(ends_of.local), ends(ends_of.peer));
        let state = match (link.outbox.is_closing(), blocked) {
            (true, _) => "closing",
            (false, true) => "blocked",
            (false, false) => "running",
        };
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let mut shown = json!({
            "auth_mechanism": terms.mechanism, "channel_max": terms.channel_max, "channels": channels,
            "client_properties": json_of(terms.client_properties.as_table()),
            "connected_at": terms.connected_at, "frame_max": terms.frame_max, "host": host, "name": link.name,
            "node": self.node, "peer_cert_issuer": null, "peer_cert_subject": or_null(ends_of.subject.as_deref()),
            "peer_cert_validity": null, "peer_host": peer_host, "peer_port": peer_port, "port": port,
            "protocol": "AMQP 0-9-1", "recv_cnt": count(&link.traffic.reads),
            "send_cnt": count(&link.traffic.writes), "send_pend": 0, "ssl": ends_of.is_tls,
            "ssl_cipher": null, "ssl_hash": null, "ssl_key_exchange": null, "ssl_protocol": null,
            "state": state, "timeout": terms.heartbeat, "type": "network", "user": &*terms.user,
            "user_who_performed_action": &*terms.user, "vhost": link.host.name(),
        });
        // RabbitMQ's clients give themselves a name.
        let named = terms.client_properties.as_table().get("connection_name");
        if let Json::Object(shown) = &mut shown {
            if let Some(name) = named.and_then(|name| name.as_str().map(str::to_owned)) {
                shown.insert("user_provided_name".to_owned(), name.into());
            }
            shown.extend(self.rates.with(&Subject::Connection(link.serial), &traffic_figures(link)));
        }
        shown
    }

    pub(super) fn connection_figures(link: &Link) -> (Subject, Figures) {
        (Subject::Connection(link.serial), traffic_figures(link))
    }
}

pub(super) fn channel_name(link: &Link, number: u16) -> String {
    format!("{} ({number})", link.name)
}

/// What the policies of a queue come to: the smaller of two numbers, and otherwise the policy's before the operator's.
fn effective(view: &QueueView, rules: &Definitions) -> Map<String, Json> {
    let named = |list: &[crate::mq::engine::PolicyDefinition], name: &Option<String>| {
        let found = name.as_ref().and_then(|name| list.iter().find(|policy| policy.name == *name));
        found.map(|policy| policy.definition.clone()).unwrap_or_default()
    };
    let mut merged = named(&rules.policies, &view.policy);
    for (name, value) in named(&rules.operator_policies, &view.operator_policy) {
        match merged.get(&name).map(|held| (held.as_i64(), value.as_i64())) {
            Some((Some(held), Some(limit))) if limit >= held => {}
            Some((Some(_), Some(_))) | None => {
                merged.insert(name, value);
            }
            Some(_) => {}
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mq::wire::{TableBuf, Value};

    #[test]
    fn a_binding_is_named_by_its_key_and_its_arguments() {
        let none = Table::default();
        assert_eq!(properties_key(b"", none), "~");
        assert_eq!(properties_key(b"a.b/c", none), "a.b%2Fc");
        assert_eq!(properties_key(b"k k/~", none), "k+k%2F%7E");
        let arguments = TableBuf::new().with("x", Value::I32(1)).with("a", Value::text("b"));
        let turned = TableBuf::new().with("a", Value::text("b")).with("x", Value::I32(1));
        let key = properties_key(b"k", arguments.as_table());
        assert!(key.starts_with("k~") && key.len() == 10, "{key}");
        assert_eq!(key, properties_key(b"k", turned.as_table()));
        assert!(properties_key(b"", arguments.as_table()).starts_with('~'));
        assert_eq!(timestamp(1_795_702_660_971), "2026-11-26T14:17:40.971+00:00");
    }
}
