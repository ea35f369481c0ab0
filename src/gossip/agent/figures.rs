//! What a node counts, for Prometheus: its members, what it sends and is sent, how it probes, and what waits.

use super::mismatch::Mismatches;
use crate::gossip::engine::{Change, Counts, Engine, Event};
use crate::gossip::wire::{Message, Serf};
use crate::metrics::{Counter, Family, Gauge, Registry};

/// Kinds of messages, as labels.
const KINDS: [&str; 14] = [
    "ping",
    "indirect_ping",
    "ack",
    "nack",
    "suspect",
    "alive",
    "dead",
    "leave",
    "join",
    "event",
    "query",
    "response",
    "relay",
    "data",
];

fn kind(message: &Message) -> usize {
    match message {
        Message::Ping(_) => 0,
        Message::IndirectPing(_) => 1,
        Message::Ack(_) => 2,
        Message::Nack { .. } => 3,
        Message::Suspect(_) => 4,
        Message::Alive(_) => 5,
        Message::Dead(_) => 6,
        Message::Serf(Serf::Leave(_)) => 7,
        Message::Serf(Serf::Join(_)) => 8,
        Message::Serf(Serf::Event(_)) => 9,
        Message::Serf(Serf::Query(_)) => 10,
        Message::Serf(Serf::Response(_)) => 11,
        Message::Serf(Serf::Relay(_)) => 12,
        Message::Serf(Serf::Data(_)) => 13,
    }
}

/// What goes in, or out.
#[derive(Clone, Debug)]
pub(super) struct Way {
    datagrams: Counter,
    datagram_bytes: Counter,
    messages: [Counter; KINDS.len()],
    /// Streams: accepted, or opened.
    pub streams: Counter,
    /// Bytes of streams.
    pub stream_bytes: Counter,
}

impl Way {
    /// A datagram.
    pub fn datagram(&self, bytes: usize, messages: &[Message]) {
        self.datagrams.increment();
        self.datagram_bytes.add(bytes as u64);
        messages.iter().for_each(|message| self.messages[kind(message)].increment());
    }
}

/// All of it. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    /// What others send.
    pub received: Way,
    /// What this node sends.
    pub sent: Way,
    /// Datagrams that are malformed, or sealed with a key that is not known.
    pub malformed: Counter,
    /// Peers that encrypt otherwise.
    pub mismatches: Mismatches,
    /// Datagrams that the system did not send.
    pub unsent: Counter,
    /// Streams that came to nothing.
    pub streams_failed: Counter,
    /// Events that watchers were too slow for.
    pub events_missed: Counter,
    events: Family<Counter>,
    probes: [Counter; 4],
    members_refused: Counter,
    keys_dropped: Counter,
    members: [Gauge; 4],
    queues: [Gauge; 5],
    clocks: [Gauge; 3],
    health: Gauge,
    incarnation: Gauge,
    keys: Gauge,
    tombstones: Gauge,
    data_bytes: Gauge,
    counted: Counts,
}

impl Figures {
    pub fn new(registry: &Registry) -> Self {
        let kinds = |family: &Family<Counter>| KINDS.map(|kind| family.with(&[kind]));
        let received = Way {
            datagrams: registry.counter("bandy_gossip_datagrams_in_total", "Datagrams that came."),
            datagram_bytes: registry.counter("bandy_gossip_datagram_bytes_in_total", "Bytes of them."),
            messages: kinds(&registry.counters(
                "bandy_gossip_messages_in_total",
                "Messages in datagrams that came.",
                &["kind"],
            )),
            streams: registry.counter("bandy_gossip_streams_in_total", "Streams that others opened."),
            stream_bytes: registry.counter("bandy_gossip_stream_bytes_in_total", "Bytes read of streams."),
        };
        let sent = Way {
            datagrams: registry.counter("bandy_gossip_datagrams_out_total", "Datagrams that were sent."),
            datagram_bytes: registry.counter("bandy_gossip_datagram_bytes_out_total", "Bytes of them."),
            messages: kinds(&registry.counters(
                "bandy_gossip_messages_out_total",
                "Messages in datagrams that were sent.",
                &["kind"],
            )),
            streams: registry.counter("bandy_gossip_streams_out_total", "Streams that were opened."),
            stream_bytes: registry
                .counter("bandy_gossip_stream_bytes_out_total", "Bytes written to streams."),
        };
        let members = registry.gauges("bandy_gossip_members", "Members, by state.", &["state"]);
        let queues = registry.gauges("bandy_gossip_queue_length", "News that wait to be told.", &["queue"]);
        let clocks = registry.gauges("bandy_gossip_clock", "Logical times.", &["clock"]);
        Self {
            received,
            sent,
            malformed: registry.counter(
                "bandy_gossip_datagrams_malformed_total",
                "Datagrams that are malformed, or sealed with a key that is not known.",
            ),
            mismatches: Mismatches::new(registry),
            unsent: registry
                .counter("bandy_gossip_datagrams_unsent_total", "Datagrams that the system did not send."),
            streams_failed: registry
                .counter("bandy_gossip_streams_failed_total", "Streams that came to nothing."),
            events_missed: registry.counter(
                "bandy_gossip_events_missed_total",
                "Events that were not told to watchers that are too slow, once for each of them.",
            ),
            events: registry.counters("bandy_gossip_events_total", "What the node was told of.", &["event"]),
            probes: [
                registry.counter("bandy_gossip_probes_total", "Members that were probed."),
                registry.counter(
                    "bandy_gossip_probes_indirect_total",
                    "Probes that had no answer in time, and went on through others and over TCP.",
                ),
                registry.counter("bandy_gossip_probes_failed_total", "Probes that nobody answered."),
                registry.counter(
                    "bandy_gossip_refutations_total",
                    "How often the node said that it is there, against what was said of it.",
                ),
            ],
            members_refused: registry.counter(
                "bandy_gossip_members_refused_total",
                "Members that were not taken, as there are too many.",
            ),
            keys_dropped: registry.counter(
                "bandy_gossip_keys_dropped_total",
                "Keys that were dropped for newer ones of others, as there was no room.",
            ),
            members: ["alive", "suspect", "failed", "left"].map(|state| members.with(&[state])),
            queues: ["members", "intents", "events", "queries", "data"].map(|queue| queues.with(&[queue])),
            clocks: ["members", "events", "queries"].map(|clock| clocks.with(&[clock])),
            health: registry
                .gauge("bandy_gossip_health_score", "How slow the node thinks that it is; 0 is well."),
            incarnation: registry.gauge("bandy_gossip_incarnation", "The node's incarnation."),
            keys: registry.gauge("bandy_gossip_keys", "Keys that have a value."),
            tombstones: registry.gauge("bandy_gossip_tombstones", "Keys that were deleted lately."),
            data_bytes: registry.gauge("bandy_gossip_data_bytes", "Bytes of keys and values."),
            counted: Counts::default(),
        }
    }

    /// Something happened.
    pub fn event(&self, event: &Event) {
        let word = match event {
            Event::Member { change, .. } => match change {
                Change::Join => "join",
                Change::Leave => "leave",
                Change::Failed => "failed",
                Change::Update => "update",
                Change::Reap => "reap",
                Change::Suspect => "suspect",
                Change::Refuted => "alive",
            },
            Event::User { .. } => "event",
            Event::Query { .. } => "query",
            Event::Data(_) => "data",
            Event::Conflict { .. } => "conflict",
            Event::Incompatible { .. } => "incompatible",
            Event::Keys { .. }
            | Event::Asked { .. }
            | Event::Ack { .. }
            | Event::Response { .. }
            | Event::QueryOver { .. }
            | Event::Joined { .. }
            | Event::Pinged { .. }
            | Event::Displaced
            | Event::Left
            | Event::Refused { .. } => return,
        };
        self.events.with(&[word]).increment();
    }

    /// How the engine is now.
    pub fn look(&mut self, engine: &Engine) {
        let put = |gauge: &Gauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        let census = engine.census();
        let states = [census.alive, census.suspect, census.failed, census.left];
        self.members.iter().zip(states).for_each(|(gauge, count)| put(gauge, count as u64));
        let [news, intents, events, queries] = engine.queued();
        let queued = [news, intents, events, queries, engine.rumor_count()];
        self.queues.iter().zip(queued).for_each(|(gauge, count)| put(gauge, count as u64));
        self.clocks.iter().zip(engine.clocks()).for_each(|(gauge, time)| put(gauge, time));
        put(&self.health, u64::from(engine.awareness()));
        put(&self.incarnation, u64::from(engine.me().incarnation));
        let store = engine.store();
        put(&self.keys, store.values() as u64);
        put(&self.tombstones, (store.len() - store.values()) as u64);
        put(&self.data_bytes, store.bytes() as u64);
        let (now, before) = (engine.counts(), std::mem::replace(&mut self.counted, engine.counts()));
        let grown = [
            now.probes - before.probes,
            now.probes_indirect - before.probes_indirect,
            now.probes_failed - before.probes_failed,
            now.refutations - before.refutations,
        ];
        if now.members_refused > 0 && before.members_refused == 0 {
            tracing::warn!("there are {} members: more are not taken", census.alive + census.suspect);
        }
        if now.keys_dropped > 0 && before.keys_dropped == 0 {
            tracing::warn!("the keys and values of all nodes do not fit: the oldest are dropped");
        }
        self.keys_dropped.add(now.keys_dropped - before.keys_dropped);
        self.members_refused.add(now.members_refused - before.members_refused);
        self.probes.iter().zip(grown).for_each(|(counter, grown)| counter.add(grown));
    }
}
