//! States exchanged with one other node over a stream: joining, and the repair of what news missed.

use core::net::SocketAddr;

use super::{
    About, Engine, Event, Input, Message, Name, NodeState, Output, PushPull, Serf, StreamReply, Time, Timer,
};
use crate::gossip::wire::data::{Data, Stamp};
use crate::gossip::wire::{Accusation, Ack, Alive, Intent, Node, SerfState, StreamMessage};

/// What a stream was opened for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Joining.
    Join {
        seed: SocketAddr,
        replay: bool,
        /// Whether anybody wants to know what came of it.
        told: bool,
    },
    /// The repair of what news missed.
    Repair,
    /// A probe, when datagrams do not come through.
    Ping { sequence: u32 },
    /// Something to be told, without an answer.
    Tell,
}

/// Which data another one has.
fn digest_of(state: &PushPull) -> Vec<Stamp> {
    state.serf.as_ref().and_then(|serf| serf.digest.clone()).unwrap_or_default()
}

impl Engine {
    pub(super) fn open(
        &mut self,
        to: SocketAddr,
        message: StreamMessage,
        answered: bool,
        purpose: Purpose,
        outputs: &mut Vec<Output>,
    ) {
        self.exchange_count += 1;
        let exchange = self.exchange_count;
        self.exchanges.insert(exchange, (to, purpose));
        outputs.push(Output::Open { exchange, to, message: Box::new(message), answered });
    }

    pub(super) fn join(&mut self, seed: SocketAddr, replay: bool, outputs: &mut Vec<Output>) {
        let state = StreamMessage::PushPull(self.state(true, None));
        self.open(seed, state, true, Purpose::Join { seed, replay, told: true }, outputs);
    }

    /// Exchanges states with somebody. memberlist, pushPull.
    pub(super) fn push_pull(&mut self, now: Time, outputs: &mut Vec<Output>) {
        let interval = self.config.push_pull_interval(self.members.living());
        self.timers.set(now + interval, Timer::PushPull);
        let me = self.me;
        let alive = |id: u32, state| id != me && state == NodeState::Alive;
        let found = self.members.sample(&mut self.rng, 1, |id, member| alive(id, member.state));
        if let Some(to) = found.first().and_then(|id| self.members.get(*id)).map(|member| member.address) {
            let state = StreamMessage::PushPull(self.state(false, None));
            self.open(to, state, true, Purpose::Repair, outputs);
        }
    }

    /// Tries to reach one that failed: the more likely the more there are. Serf, reconnect. A node that is alone tries
    /// where it joined first.
    pub(super) fn reconnect(&mut self, now: Time, outputs: &mut Vec<Output>) {
        self.timers.set(now + self.config.reconnect_interval, Timer::Reconnect);
        if self.leaving.begun() {
            return;
        }
        let failed = self.members.failed.len();
        if failed > 0 {
            let others = self.members.len() - failed - self.members.left.len();
            let likely = failed as f64 / others.max(1) as f64;
            if self.rng.f64() <= likely {
                let at = self.rng.usize(0..failed);
                let id = self.members.failed.iter().nth(at);
                let member = id.and_then(|id| self.members.get(*id));
                if let Some(seed) = member.map(|member| member.address) {
                    self.rejoin(seed, outputs);
                }
            }
        }
        if self.members.living() == 1 {
            for seed in self.config.seeds.clone() {
                self.rejoin(seed, outputs);
            }
        }
    }

    fn rejoin(&mut self, seed: SocketAddr, outputs: &mut Vec<Output>) {
        let state = StreamMessage::PushPull(self.state(true, None));
        self.open(seed, state, true, Purpose::Join { seed, replay: true, told: false }, outputs);
    }

    /// Somebody opened a stream.
    pub(super) fn serve(
        &mut self,
        now: Time,
        stream: u64,
        from: SocketAddr,
        message: StreamMessage,
        outputs: &mut Vec<Output>,
    ) {
        let mut answer = |message| outputs.push(Output::Answer { stream, message: Box::new(message) });
        match message {
            StreamMessage::PushPull(theirs) => {
                answer(StreamMessage::PushPull(self.state(false, theirs.serf.as_ref())));
                // Only one who joins a node that is alone may be far ahead: it brings a cluster with it. Anybody can say
                // that it joins, and whoever leaps ahead is deaf to what all others say.
                let alone = theirs.join && self.members.living() == 1;
                self.merge(now, theirs, alone, outputs);
            }
            StreamMessage::Ping(ping) if ping.node.is_empty() || ping.node == self.config.name => {
                answer(StreamMessage::Ack(Ack { sequence: ping.sequence, payload: bytes::Bytes::new() }));
            }
            StreamMessage::Serf(Serf::Data(Data::Fetch { from: name, stamps })) => {
                self.serve_fetch(from, &name, &stamps, outputs);
            }
            StreamMessage::Serf(serf) => self.receive_serf(now, serf, outputs),
            StreamMessage::Ping(_) | StreamMessage::Ack(_) | StreamMessage::Error(_) => {}
        }
    }

    /// What came of a stream that was opened.
    pub(super) fn exchanged(
        &mut self,
        now: Time,
        exchange: u64,
        reply: StreamReply,
        outputs: &mut Vec<Output>,
    ) {
        let Some((peer, purpose)) = self.exchanges.remove(&exchange) else { return };
        let state = match reply {
            StreamReply::Message(StreamMessage::PushPull(state)) => Ok(state),
            StreamReply::Message(StreamMessage::Ack(ack)) => {
                if let Purpose::Ping { sequence } = purpose
                    && ack.sequence == sequence
                {
                    self.probes.contacted(sequence);
                }
                return;
            }
            StreamReply::Message(StreamMessage::Error(error)) => Err(format!("it says: {error}")),
            StreamReply::Message(_) => Err("it answered something else".to_owned()),
            StreamReply::Failed(why) => Err(why),
            StreamReply::Sent => return,
        };
        let joined = match (state, &purpose) {
            (Ok(state), Purpose::Join { replay, told, .. }) => {
                if !replay && let Some(serf) = &state.serf {
                    self.seen_events.ignore_until(serf.event_ltime);
                }
                let lacking = self.lacking(&state);
                let (theirs, taken) = (digest_of(&state), self.taken());
                let asked_before = state.serf.as_ref().map_or(0, |serf| serf.query_ltime);
                let refused = self.merge(now, state, true, outputs);
                if *told {
                    // What was asked before is not for a node that was not there; whoever repeats it, perhaps to do harm.
                    self.asked.ignore_until(asked_before.min(self.query_clock.time()));
                }
                match refused {
                    Some(node) => Err(format!("{node} there speaks another version of the protocol")),
                    None => {
                        self.answered_at(peer);
                        self.send_lacking(peer, lacking, outputs);
                        self.ask_for_the_rest(peer, &theirs, taken, outputs);
                        self.announce_joined(now);
                        Ok(())
                    }
                }
            }
            (Ok(state), Purpose::Repair) => {
                let lacking = self.lacking(&state);
                let (theirs, taken) = (digest_of(&state), self.taken());
                self.merge(now, state, false, outputs);
                self.answered_at(peer);
                self.send_lacking(peer, lacking, outputs);
                self.ask_for_the_rest(peer, &theirs, taken, outputs);
                return;
            }
            (Ok(_), Purpose::Ping { .. } | Purpose::Tell) => return,
            (Err(why), _) => Err(why),
        };
        if let Purpose::Join { seed, told: true, .. } = purpose {
            outputs.push(Output::Event(Event::Joined { seed, failure: joined.err() }));
        }
    }

    /// Whoever is at an address has answered.
    fn answered_at(&mut self, peer: SocketAddr) {
        let member = self.members.by_address(peer);
        if let Some(id) = member.and_then(|member| self.members.id(&member.name)) {
            self.probes.answered(id);
        }
    }

    /// Everybody hears that this node has joined. Serf, broadcastJoin.
    fn announce_joined(&mut self, now: Time) {
        let _ = now;
        let ltime = self.clock.tick();
        let me = self.me;
        self.members.change(me, |member| member.status_ltime = ltime);
        let node = self.config.name.clone();
        self.broadcasts.push(About::Intents, Message::Serf(Serf::Join(Intent { ltime, node, prune: false })));
    }

    /// Takes what another node knows. Names one that speaks what the cluster does not, and takes nothing then.
    fn merge(&mut self, now: Time, state: PushPull, any: bool, outputs: &mut Vec<Output>) -> Option<Name> {
        let speaks = |node: &Node| (node.name.clone(), node.versions);
        let spoken: Vec<_> =
            state.nodes.iter().filter(|node| node.state == NodeState::Alive).map(speaks).collect();
        if let Some(node) = self.incompatible(&spoken) {
            outputs.push(Output::Event(Event::Incompatible { node: node.clone() }));
            return Some(node);
        }
        for node in state.nodes {
            self.merge_node(now, node, outputs);
        }
        self.merge_serf(now, state.serf?, any, outputs);
        None
    }

    fn merge_node(&mut self, now: Time, node: Node, outputs: &mut Vec<Output>) {
        let Node { name, address, meta, incarnation, state, versions } = node;
        let accusation = |from| Accusation { incarnation, node: name.clone(), from };
        match state {
            NodeState::Alive => {
                self.alive(now, Alive { incarnation, node: name, address, meta, versions }, outputs);
            }
            NodeState::Left => self.dead(now, &accusation(name.clone()), outputs),
            // Not dead at once: it may have objected to somebody else.
            NodeState::Suspect | NodeState::Dead => {
                self.suspect(now, &accusation(self.config.name.clone()), outputs);
            }
        }
    }

    fn merge_serf(&mut self, now: Time, serf: SerfState, any: bool, outputs: &mut Vec<Output>) {
        let mut plausible = true;
        for (clock, ltime) in [
            (&mut self.clock, serf.ltime),
            (&mut self.event_clock, serf.event_ltime),
            (&mut self.query_clock, serf.query_ltime),
        ] {
            // What is said is the time of what happens next.
            let last = ltime.saturating_sub(1);
            if any { clock.witness_any(last) } else { plausible &= last == 0 || clock.witness(last) }
        }
        if !plausible {
            return;
        }
        let left: std::collections::HashSet<&Name> = serf.left.iter().collect();
        for (node, ltime) in &serf.status_ltimes {
            let intent = Intent { ltime: *ltime, node: node.clone(), prune: false };
            if left.contains(node) {
                self.merge_leave(now, &intent, outputs);
            } else {
                self.merge_join(now, &intent);
            }
        }
        for event in serf.events {
            self.merge_event(event, outputs);
        }
        self.merge_data(now, serf.data, outputs);
    }
}

/// An input that a driver makes of a failure.
impl Input {
    /// The stream of an exchange came to nothing.
    pub fn failed(exchange: u64, why: impl std::fmt::Display) -> Self {
        Self::Reply { exchange, reply: StreamReply::Failed(why.to_string()) }
    }
}
