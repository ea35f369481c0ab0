//! The decisions of a node: what it is told and when, against what it does.
//!
//! No clock, no socket, no randomness but what is passed in: the live node, the tests and the simulator run the same
//! code. [`Engine::handle`] is given one input at a time; afterwards nothing is left to be asked for but
//! [`Engine::deadline`], when it wants [`Input::Tick`] next. The work for an input does not grow with the cluster,
//! except where all of its state is exchanged.
//!
//! ```text
//! members      who is known
//! membership   alive, suspect, dead, and what Serf makes of it
//! suspicion    how long a suspect has to object
//! probe        asking whether somebody is there, directly, through others, over TCP
//! broadcast    news, each told a bounded number of times
//! exchange     states exchanged with one other: joining, and the repair of what news missed
//! state        what goes into such a state, and who is left out of one that is too large
//! intent       joining and leaving announced
//! event        users' events
//! query        questions and answers
//! coordinate   where nodes are, in round trip times
//! data         keys and values of our own
//! ```

mod broadcast;
mod config;
mod coordinate;
mod data;
mod event;
mod exchange;
mod intent;
mod lamport;
mod members;
mod membership;
mod output;
mod probe;
mod query;
mod state;
mod suspicion;
#[cfg(test)]
mod tests;
mod time;

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use config::{Config, DataConfig, Mode, Profile};
pub use coordinate::distance;
pub use data::{Store, Stored};
pub use members::{Member, Roster, Status};
pub use output::{
    Census, Change, Counts, Event, Input, KeyOperation, Output, QueryId, QueryOptions, Refusal, StreamReply,
    Summary,
};
pub use query::matches;
pub use time::Time;

use broadcast::{About, Broadcasts, Room};
use lamport::Lamport;
use members::Members;
use suspicion::Suspicion;
use time::{Timer, Timers};

use crate::gossip::wire::{
    Alive, COMPOUND_BYTES, META_BYTES_MAX, Message, Name, NodeState, PARTS_MAX, PushPull, Serf, VERSIONS,
    encode_tags,
};

/// The tag that says that a node understands data.
pub const DATA_TAG: &str = "dk";
/// Most news of each kind that wait to be told.
const BROADCASTS_MAX: usize = 4096;

/// A node. Its fields are in this order: what nearly every input needs lies together, for one of ten thousand nodes is
/// never in a processor's cache.
#[derive(Debug)]
#[repr(C)]
pub struct Engine {
    /// When the last input came.
    now: Time,
    /// When news are told next, if that is going to happen.
    gossip_at: Option<Time>,
    timers: Timers,
    event_clock: Lamport,
    seen_events: event::Seen,
    broadcasts: Broadcasts,
    rng: fastrand::Rng,
    /// When in each gossip interval news are told: nodes of a cluster do not all do so at once. memberlist, triggerFunc
    phase: Duration,
    sequence: u32,
    /// This node among the members.
    me: u32,
    probes: probe::Probes,
    members: Members,
    config: Config,
    suspicions: HashMap<u32, Suspicion>,
    clock: Lamport,
    query_clock: Lamport,
    intended: intent::Intended,
    leaving: intent::Leaving,
    asked: query::Asked,
    /// Streams that were opened: where to, and what for.
    exchanges: HashMap<u64, (SocketAddr, exchange::Purpose)>,
    exchange_count: u64,
    coordinate: coordinate::Client,
    data: data::Data,
    counts: Counts,
}

impl Engine {
    /// A node that knows only itself.
    ///
    /// # Errors
    /// Its tags do not fit what a node may say of itself.
    pub fn new(now: Time, config: Config, rng: fastrand::Rng) -> Result<Self, Refusal> {
        Self::with_roster(now, config, rng, Arc::default())
    }

    /// A node that knows a whole cluster, which may have this node in it.
    ///
    /// # Errors
    /// Its tags do not fit what a node may say of itself.
    pub fn with_roster(
        now: Time,
        config: Config,
        mut rng: fastrand::Rng,
        roster: Arc<Roster>,
    ) -> Result<Self, Refusal> {
        let meta = meta_of(&config.tags)?;
        let mut members = Members::new(roster);
        let me = members.id(&config.name).unwrap_or_else(|| {
            members.insert(Member {
                name: config.name.clone(),
                address: config.address,
                meta: meta.clone(),
                versions: VERSIONS,
                incarnation: 1,
                state: NodeState::Alive,
                since: now,
                status: Status::Alive,
                status_ltime: 0,
            })
        });
        let mut timers = Timers::default();
        let phase = config.gossip_phase.unwrap_or_else(|| config.gossip_interval.mul_f64(rng.f64()));
        let mut stagger = |interval: Duration| now + interval.mul_f64(rng.f64());
        timers.set(stagger(config.probe_interval), Timer::Probe);
        if config.push_pull {
            timers.set(stagger(config.push_pull_interval), Timer::PushPull);
        }
        timers.set(stagger(config.reap_interval), Timer::Reap);
        timers.set(stagger(config.reconnect_interval), Timer::Reconnect);
        let data = data::Data::new(&config);
        Ok(Self {
            config,
            rng,
            now,
            members,
            me,
            timers,
            phase,
            gossip_at: None,
            sequence: 0,
            probes: probe::Probes::default(),
            suspicions: HashMap::new(),
            broadcasts: Broadcasts::default(),
            clock: Lamport::default(),
            event_clock: Lamport::default(),
            query_clock: Lamport::default(),
            intended: intent::Intended::default(),
            leaving: intent::Leaving::default(),
            seen_events: event::Seen::default(),
            asked: query::Asked::default(),
            exchanges: HashMap::new(),
            exchange_count: 0,
            coordinate: coordinate::Client::default(),
            data,
            counts: Counts::default(),
        })
    }

    /// When the engine wants [`Input::Tick`] next.
    pub fn deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Takes an input, and appends what is to be done.
    pub fn handle(&mut self, now: Time, input: Input, outputs: &mut Vec<Output>) {
        self.now = now;
        match input {
            Input::Tick => {}
            Input::Packet { from, mut messages } => {
                // What says that somebody is there goes before what says that somebody is not.
                messages.sort_by_key(|message| !matches!(message, Message::Alive(_)));
                for message in messages {
                    self.receive(now, from, message, outputs);
                }
            }
            Input::Stream { stream, from, message } => self.serve(now, stream, from, message, outputs),
            Input::Reply { exchange, reply } => self.exchanged(now, exchange, reply, outputs),
            Input::Join { seed, replay } => self.join(seed, replay, outputs),
            Input::Leave => self.leave(now, outputs),
            Input::ForceLeave { node, prune } => self.force_leave(now, &node, prune, outputs),
            Input::Event { name, payload, coalesce } => {
                self.send_event(now, &name, payload, coalesce, outputs);
            }
            Input::Query { options, tag } => self.ask(now, options, tag, outputs),
            Input::Respond { query, payload } => self.respond(now, query, payload, outputs),
            Input::Tags(tags) => self.change_tags(now, &tags, outputs),
            Input::Ping { node, tag } => self.ping(now, &node, tag, outputs),
            Input::Set { key, value } => self.set(now, &key, value, outputs),
        }
        while let Some(timer) = self.timers.due(now) {
            self.due(now, timer, outputs);
        }
        self.arm_gossip(now);
    }

    /// Reads what the next input is likely to need, so that it is in the processor's caches by then. Changes nothing.
    pub fn fetch(&self) {
        black_box((self.now, self.event_clock, self.me, self.broadcasts.is_empty(), self.members.living()));
    }

    /// The same for what is found through what [`Engine::fetch`] reads.
    pub fn fetch_further(&self) {
        black_box((self.timers.first_set(), self.seen_events.latest(), self.broadcasts.first()));
    }

    fn receive(&mut self, now: Time, from: SocketAddr, message: Message, outputs: &mut Vec<Output>) {
        match message {
            Message::Ping(ping) => self.answer_ping(now, from, ping, outputs),
            Message::IndirectPing(ping) => self.forward_ping(now, from, ping, outputs),
            Message::Ack(ack) => self.acked(now, &ack, outputs),
            Message::Nack { sequence } => self.probes.nacked(sequence),
            Message::Suspect(accusation) => self.suspect(now, &accusation, outputs),
            Message::Alive(alive) => self.alive(now, alive, outputs),
            Message::Dead(accusation) => self.dead(now, &accusation, outputs),
            Message::Serf(serf) => self.receive_serf(now, serf, outputs),
        }
    }

    fn receive_serf(&mut self, now: Time, serf: Serf, outputs: &mut Vec<Output>) {
        match serf {
            Serf::Leave(intent) => self.leave_intent(now, intent, outputs),
            Serf::Join(intent) => self.join_intent(now, intent),
            Serf::Event(event) => self.receive_event(event, outputs),
            Serf::Query(query) => self.receive_query(now, *query, outputs),
            Serf::Response(response) => self.receive_response(now, response, outputs),
            Serf::Relay(relay) => self.relay(&relay, outputs),
            Serf::Data(data) => self.receive_data(now, data, outputs),
        }
    }

    fn due(&mut self, now: Time, timer: Timer, outputs: &mut Vec<Output>) {
        match timer {
            Timer::Gossip => self.gossip(now, outputs),
            Timer::Probe => self.probe(now, outputs),
            Timer::ProbeLate(sequence) => self.probe_indirectly(now, sequence, outputs),
            Timer::ProbeOver(sequence) => self.probe_over(now, sequence, outputs),
            Timer::ForwardLate(sequence) => self.forward_late(sequence, outputs),
            Timer::ForwardOver(sequence) => self.probes.forward_over(sequence),
            Timer::Suspicion(member) => self.suspicion_due(now, member, outputs),
            Timer::PushPull => self.push_pull(now, outputs),
            Timer::Query(ltime, id) => self.query_over(now, QueryId { ltime, id }, outputs),
            Timer::Reap => self.reap(now, outputs),
            Timer::Reconnect => self.reconnect(now, outputs),
            Timer::Leave => self.leave_goes_on(now, outputs),
            Timer::Data => self.data_due(now, outputs),
        }
    }

    /// The next moment at which news are told: half an interval away on average.
    fn next_round(&self, now: Time) -> Time {
        now.next_in_phase(self.config.gossip_interval, self.phase)
    }

    /// Nothing is told without news: an idle node does not wake up for it.
    fn arm_gossip(&mut self, now: Time) {
        if self.gossip_at.is_none() && !self.broadcasts.is_empty() {
            let at = self.next_round(now);
            self.gossip_at = Some(at);
            self.timers.set(at, Timer::Gossip);
        }
    }

    /// Tells a few what is queued. memberlist, gossip.
    fn gossip(&mut self, now: Time, outputs: &mut Vec<Output>) {
        self.gossip_at = None;
        let (me, dead) = (self.me, self.config.gossip_to_the_dead);
        let targets = self.members.sample(&mut self.rng, self.config.gossip_nodes, |id, member| {
            let lately = member.state == NodeState::Dead && now - member.since < dead;
            id != me && (member.is_living() || lately)
        });
        if targets.is_empty() {
            // Nobody is left to be told that this node leaves.
            self.leaving_told(now);
        }
        for id in targets {
            let mut messages = Vec::new();
            self.fill(now, &mut self.room(), &mut messages);
            if messages.is_empty() {
                break;
            }
            self.send_to(id, messages, outputs);
        }
    }

    fn room(&self) -> Room {
        let bytes = self.config.packet_bytes.saturating_sub(self.config.overhead_bytes + COMPOUND_BYTES);
        Room { bytes, parts: PARTS_MAX }
    }

    /// Adds news to a datagram.
    fn fill(&mut self, now: Time, room: &mut Room, messages: &mut Vec<Message>) {
        let limit = self.config.retransmit_limit(self.members.living());
        if self.broadcasts.fill(room, limit, messages) {
            self.leaving_told(now);
        }
    }

    /// Sends one message, and news with it.
    fn send_with_news(&mut self, now: Time, to: SocketAddr, message: Message, outputs: &mut Vec<Output>) {
        let mut room = self.room();
        let mut messages = Vec::with_capacity(1);
        let fits = !self.broadcasts.is_empty() && room.take(message.encode().len());
        messages.push(message);
        if fits {
            self.fill(now, &mut room, &mut messages);
        }
        self.send_plainly(to, messages, outputs);
    }

    /// Sends what is meant for an address: a checksum is only for whom news are told. memberlist, rawSendMsgPacket
    fn send_plainly(&self, to: SocketAddr, messages: Vec<Message>, outputs: &mut Vec<Output>) {
        let checksum = false;
        outputs.push(Output::Send { to, messages, checksum });
    }

    /// Sends something to a member as news are sent, with a checksum if it takes one.
    fn send_to(&self, id: u32, messages: Vec<Message>, outputs: &mut Vec<Output>) {
        if let Some(member) = self.members.get(id) {
            outputs.push(Output::Send { to: member.address, messages, checksum: member.takes_checksums() });
        }
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// This node.
    pub fn me(&self) -> &Member {
        self.members.get(self.me).expect("a node never forgets itself")
    }

    /// All members, this node among them, in the order in which they became known.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().map(|(_, member)| member)
    }

    /// A member by name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.by_name(name)
    }

    /// How many members may be there, this node among them.
    pub fn living(&self) -> usize {
        self.members.living()
    }

    /// What the node is set to.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The clocks of members, events and queries.
    pub fn clocks(&self) -> [u64; 3] {
        [self.clock.time(), self.event_clock.time(), self.query_clock.time()]
    }

    /// Sets the clocks to what a snapshot remembers, at least.
    pub fn restore_clocks(&mut self, [members, events, queries]: [u64; 3]) {
        self.clock.witness_any(members);
        self.event_clock.witness_any(events);
        self.query_clock.witness_any(queries);
        self.seen_events.ignore_until(self.event_clock.time());
        self.asked.ignore_until(self.query_clock.time());
    }

    /// How slow the node thinks that it is, from 0. Lifeguard, IV.A
    pub fn awareness(&self) -> u32 {
        self.probes.awareness()
    }

    /// Since when a member is suspected, and until when it may object.
    pub fn suspicion_of(&self, name: &str) -> Option<(Time, Time)> {
        let suspicion = self.suspicions.get(&self.members.id(name)?)?;
        Some((suspicion.since, suspicion.deadline()))
    }

    /// How many news wait to be told: about members, intents, events, queries.
    pub fn queued(&self) -> [usize; 4] {
        [About::Members, About::Intents, About::Events, About::Queries]
            .map(|about| self.broadcasts.len(about))
    }

    /// How many keys and values are still told.
    pub fn rumor_count(&self) -> usize {
        self.data.rumor_count()
    }

    /// How many members are how.
    pub fn census(&self) -> Census {
        let suspect = self.suspicions.len();
        Census {
            alive: self.members.living().saturating_sub(suspect),
            suspect,
            failed: self.members.failed.len(),
            left: self.members.left.len(),
        }
    }

    /// What was counted since the start.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// This node's coordinate.
    pub fn coordinate(&self) -> &crate::gossip::wire::Coordinate {
        self.coordinate.own()
    }

    /// The coordinate that a member said last.
    pub fn coordinate_of(&self, name: &str) -> Option<&crate::gossip::wire::Coordinate> {
        let id = self.members.id(name)?;
        if id == self.me { Some(self.coordinate.own()) } else { self.coordinate.of(id) }
    }

    /// Keys and values.
    pub fn store(&self) -> &Store {
        self.data.store()
    }
}

/// Tags as metadata.
fn meta_of(tags: &BTreeMap<String, String>) -> Result<Bytes, Refusal> {
    let meta = encode_tags(tags);
    if meta.len() > META_BYTES_MAX {
        return Err(Refusal::Tags { bytes: meta.len() });
    }
    Ok(meta.into())
}
