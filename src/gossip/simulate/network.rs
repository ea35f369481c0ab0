//! Engines in one process, and the links between them.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::queue::Queue;
use crate::gossip::engine::{
    Config, Engine, Event, Input, Member, Output, Roster, Status, StreamReply, Time,
};
use crate::gossip::wire::{
    Layers, Message, Name, NodeState, Packet, StreamDecoder, StreamMessage, VERSIONS, Wrapping, encode,
};

/// How long a stream waits for its answer.
const STREAM_TIMEOUT: Duration = Duration::from_secs(10);
/// Where the addresses of nodes begin: 10.0.0.1.
const FIRST_ADDRESS: u32 = 0x0a00_0001;
const PORT: u16 = 7946;
/// Fewer nodes are in a processor's caches anyway.
const FETCH_NODES_MIN: usize = 4096;
/// Of more nodes the first would be out of the caches again before their turn.
const FETCH_MAX: usize = 256;
const NEVER: Time = Time(u64::MAX);

/// The address of a node of a simulation.
pub fn address_of(node: usize) -> SocketAddr {
    let ip = Ipv4Addr::from(FIRST_ADDRESS + u32::try_from(node).unwrap_or(u32::MAX - FIRST_ADDRESS));
    SocketAddr::new(IpAddr::V4(ip), PORT)
}

/// The name of a node of a simulation.
pub fn name_of(node: usize) -> Name {
    format!("n{node}").into()
}

fn node_at(address: SocketAddr) -> Option<usize> {
    match address.ip() {
        IpAddr::V4(ip) => u32::from(ip).checked_sub(FIRST_ADDRESS).map(|node| node as usize),
        IpAddr::V6(_) => None,
    }
}

/// What links do to datagrams; streams are only delayed.
#[derive(Clone, Debug)]
pub struct Links {
    /// The share of datagrams that is lost, from 0 to 1.
    pub loss: f64,
    /// The share that comes twice.
    pub duplicates: f64,
    /// The shortest way.
    pub delay_min: Duration,
    /// The longest way; datagrams overtake each other.
    pub delay_max: Duration,
    /// Whether everything passes through its bytes, as it does between real nodes.
    pub wire: bool,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            loss: 0.0,
            duplicates: 0.0,
            delay_min: Duration::from_micros(500),
            delay_max: Duration::from_millis(2),
            wire: false,
        }
    }
}

/// What has been sent and handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Inputs that engines have handled.
    pub inputs: u64,
    /// Datagrams sent.
    pub packets: u64,
    /// Datagrams lost.
    pub lost: u64,
    /// Streams opened.
    pub streams: u64,
}

/// Something that a node was told.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    /// When.
    pub at: Time,
    /// To which node.
    pub node: usize,
    /// What.
    pub event: Event,
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is on its way.
    Arrives,
    /// The link lost it.
    Lost,
    /// Nobody takes it: crashed, stopped, or on another side.
    Nobody,
}

/// A datagram that was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// When.
    pub at: Time,
    /// By which node.
    pub from: usize,
    /// To which node.
    pub to: usize,
    /// What is in it.
    pub messages: Vec<Message>,
    /// What becomes of it.
    pub fate: Fate,
}

#[derive(Debug)]
struct Node {
    /// Elsewhere: whoever only asks where a node is does not fetch all of it.
    engine: Option<Box<Engine>>,
    /// Stopped, not dead: what comes waits.
    #[expect(
        clippy::box_collection,
        reason = "hardly any node is paused, and all are as small as they can be"
    )]
    paused: Option<Box<Vec<Input>>>,
    /// At the end of all time, if not at all.
    wakes_at: Time,
    side: u32,
    life: u32,
}

#[derive(Debug)]
enum Pending {
    Packet { node: u32, life: u32, from: u32, messages: Vec<Message> },
    Input { node: u32, life: u32, input: Box<Input> },
    Wake { node: u32, life: u32 },
    StreamOver { stream: u64 },
}

/// Many nodes.
#[derive(Debug)]
pub struct Network {
    now: Time,
    rng: fastrand::Rng,
    links: Links,
    nodes: Vec<Node>,
    pending: Queue<Pending>,
    /// Streams that wait for an answer: who opened them, in which life, and its number there.
    streams: HashMap<u64, (usize, u32, u64)>,
    stream_count: u64,
    totals: Totals,
    happened: Vec<Happened>,
    /// Datagrams since they were asked for, if anybody wants them.
    sent: Option<Vec<Sent>>,
    outputs: Vec<Output>,
}

impl Network {
    /// No nodes yet.
    pub fn new(seed: u64, links: Links) -> Self {
        Self {
            now: Time::default(),
            rng: fastrand::Rng::with_seed(seed),
            links,
            nodes: Vec::new(),
            pending: Queue::default(),
            streams: HashMap::new(),
            stream_count: 0,
            totals: Totals::default(),
            happened: Vec::new(),
            sent: None,
            outputs: Vec::new(),
        }
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// What has been sent and handled so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Changes what links do.
    pub fn links(&mut self) -> &mut Links {
        &mut self.links
    }

    /// The share of datagrams that is lost.
    pub fn loss(&self) -> f64 {
        self.links.loss
    }

    /// Adds a node. It knows only itself.
    pub fn add(&mut self, configure: impl FnOnce(&mut Config)) -> usize {
        let node = self.nodes.len();
        self.nodes.push(Node { engine: None, paused: None, wakes_at: NEVER, side: 0, life: 0 });
        self.start(node, Arc::default(), configure);
        node
    }

    /// Adds nodes that all know each other.
    pub fn add_cluster(&mut self, count: usize, configure: impl Fn(&mut Config)) {
        let member = |node: usize| Member {
            name: name_of(node),
            address: address_of(node),
            meta: Bytes::from_static(b"\xff\x80"),
            versions: VERSIONS,
            incarnation: 1,
            state: NodeState::Alive,
            since: Time::default(),
            status: Status::Alive,
            status_ltime: 1,
        };
        let roster = Arc::new(Roster::new((0..count).map(member).collect()));
        for node in 0..count {
            self.nodes.push(Node { engine: None, paused: None, wakes_at: NEVER, side: 0, life: 0 });
            self.start(node, roster.clone(), &configure);
        }
    }

    fn start(&mut self, node: usize, roster: Arc<Roster>, configure: impl FnOnce(&mut Config)) {
        let mut config = Config::new(name_of(node), address_of(node), crate::gossip::engine::Profile::Lan);
        configure(&mut config);
        let rng = self.rng.fork();
        let engine =
            Engine::with_roster(self.now, config, rng, roster).expect("the tags of a simulation fit");
        self.nodes[node].engine = Some(Box::new(engine));
        self.schedule(node);
    }

    /// How many nodes there have been.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A node, unless it has crashed.
    pub fn engine(&self, node: usize) -> Option<&Engine> {
        self.nodes[node].engine.as_deref()
    }

    /// Ends a node without a word.
    pub fn crash(&mut self, node: usize) {
        let slot = &mut self.nodes[node];
        slot.engine = None;
        slot.paused = None;
        slot.wakes_at = NEVER;
        slot.life += 1;
    }

    /// Starts a node again that has crashed: with its name and address, and without memory.
    pub fn restart(&mut self, node: usize, configure: impl FnOnce(&mut Config)) {
        self.crash(node);
        self.start(node, Arc::default(), configure);
    }

    /// Stops a node, as Ctrl-Z does.
    pub fn pause(&mut self, node: usize) {
        self.nodes[node].paused.get_or_insert_default();
    }

    /// Lets a stopped node go on, with all that came meanwhile.
    pub fn resume(&mut self, node: usize) {
        for input in *self.nodes[node].paused.take().unwrap_or_default() {
            self.input(node, input);
        }
        self.input(node, Input::Tick);
    }

    /// Puts a node on a side: only nodes of one side reach each other.
    pub fn set_side(&mut self, node: usize, side: u32) {
        self.nodes[node].side = side;
    }

    /// What nodes were told since this was asked last.
    pub fn happened(&mut self) -> Vec<Happened> {
        std::mem::take(&mut self.happened)
    }

    /// What was sent since this was asked last; from the first time that it is asked.
    pub fn sent(&mut self) -> Vec<Sent> {
        self.sent.replace(Vec::new()).unwrap_or_default()
    }

    /// Whether a node is there and goes on.
    pub fn is_running(&self, node: usize) -> bool {
        self.nodes[node].engine.is_some() && self.nodes[node].paused.is_none()
    }

    /// Gives a node an input now.
    pub fn input(&mut self, node: usize, input: Input) {
        let slot = &mut self.nodes[node];
        if let Some(waiting) = &mut slot.paused {
            return waiting.push(input);
        }
        let Some(engine) = &mut slot.engine else { return };
        self.totals.inputs += 1;
        let mut outputs = std::mem::take(&mut self.outputs);
        engine.handle(self.now, input, &mut outputs);
        for output in outputs.drain(..) {
            self.output(node, output);
        }
        self.outputs = outputs;
        self.schedule(node);
    }

    fn schedule(&mut self, node: usize) {
        let slot = &mut self.nodes[node];
        let Some(at) = slot.engine.as_deref().and_then(Engine::deadline) else { return };
        let at = at.max(self.now);
        if at < slot.wakes_at {
            slot.wakes_at = at;
            let life = slot.life;
            self.pending.put(at, Pending::Wake { node: node as u32, life });
        }
    }

    fn put_input(&mut self, at: Time, node: usize, life: u32, input: Input) {
        self.pending.put(at, Pending::Input { node: node as u32, life, input: Box::new(input) });
    }

    fn delay(&mut self) -> Duration {
        let (least, most) = (self.links.delay_min, self.links.delay_max);
        least + most.saturating_sub(least).mul_f64(self.rng.f64())
    }

    /// The node at an address, if it is there and on the same side.
    fn reach(&self, from: usize, to: SocketAddr) -> Option<usize> {
        let to = node_at(to).filter(|to| *to < self.nodes.len())?;
        let there = self.nodes[to].engine.is_some() && self.nodes[to].side == self.nodes[from].side;
        there.then_some(to)
    }

    fn output(&mut self, node: usize, output: Output) {
        match output {
            Output::Send { to, messages, checksum } => self.send(node, to, messages, checksum),
            Output::Open { exchange, to, message, answered } => {
                self.open(node, exchange, to, *message, answered);
            }
            Output::Answer { stream, message } => {
                if let Some((to, life, exchange)) = self.streams.remove(&stream) {
                    let reply = StreamReply::Message(self.through_stream(*message));
                    let at = self.now + self.delay();
                    self.put_input(at, to, life, Input::Reply { exchange, reply });
                }
            }
            Output::Event(event) => self.happened.push(Happened { at: self.now, node, event }),
        }
    }

    fn send(&mut self, node: usize, to: SocketAddr, messages: Vec<Message>, checksum: bool) {
        self.totals.packets += 1;
        let target = node_at(to).filter(|to| *to < self.nodes.len());
        let reached = self.reach(node, to);
        let lost = reached.is_some() && self.rng.f64() < self.links.loss;
        if let (Some(sent), Some(to)) = (&mut self.sent, target) {
            let fate = match (lost, reached) {
                (true, _) => Fate::Lost,
                (false, Some(to)) if self.nodes[to].paused.is_none() => Fate::Arrives,
                (false, _) => Fate::Nobody,
            };
            sent.push(Sent { at: self.now, from: node, to, messages: messages.clone(), fate });
        }
        let Some(to) = reached else { return };
        if lost {
            self.totals.lost += 1;
            return;
        }
        let messages = if self.links.wire { through_packet(&messages, checksum) } else { messages };
        let copies = 1 + usize::from(self.rng.f64() < self.links.duplicates);
        let life = self.nodes[to].life;
        let (from, to) = (node as u32, to as u32);
        for messages in std::iter::repeat_n(messages, copies) {
            let at = self.now + self.delay();
            self.pending.put(at, Pending::Packet { node: to, life, from, messages });
        }
    }

    fn open(&mut self, node: usize, exchange: u64, to: SocketAddr, message: StreamMessage, answered: bool) {
        self.totals.streams += 1;
        let life = self.nodes[node].life;
        let Some(to) = self.reach(node, to) else {
            let failed = Input::failed(exchange, "nobody is there");
            return self.put_input(self.now + STREAM_TIMEOUT, node, life, failed);
        };
        self.stream_count += 1;
        let stream = self.stream_count;
        let at = self.now + self.delay() + self.delay();
        let message = self.through_stream(message);
        let their_life = self.nodes[to].life;
        self.put_input(at, to, their_life, Input::Stream { stream, from: address_of(node), message });
        if answered {
            self.streams.insert(stream, (node, life, exchange));
            self.pending.put(self.now + STREAM_TIMEOUT, Pending::StreamOver { stream });
        } else {
            self.put_input(at, node, life, Input::Reply { exchange, reply: StreamReply::Sent });
        }
    }

    fn through_stream(&self, message: StreamMessage) -> StreamMessage {
        if !self.links.wire {
            return message;
        }
        let wrapping = Wrapping::default();
        let mut decoder = StreamDecoder::default();
        decoder.push(&message.encode(&wrapping, [0; 12])).expect("it fits");
        decoder.next_message(&wrapping).expect("we wrote it").expect("all of it")
    }

    /// Does the next thing that is due until then. False if there is none.
    fn step(&mut self, until: Time) -> bool {
        let nodes = &self.nodes;
        let Some((at, pending)) = self.pending.take(until, |soon| fetch(nodes, soon)) else { return false };
        self.now = at;
        let lives = |node: u32, life: u32| self.nodes[node as usize].life == life;
        match pending {
            Pending::Packet { node, life, from, messages } if lives(node, life) => {
                self.input(node as usize, Input::Packet { from: address_of(from as usize), messages });
            }
            Pending::Input { node, life, input } if lives(node, life) => self.input(node as usize, *input),
            // One that an earlier deadline has overtaken is not wanted any more.
            Pending::Wake { node, life } if lives(node, life) && self.nodes[node as usize].wakes_at == at => {
                let slot = &mut self.nodes[node as usize];
                slot.wakes_at = NEVER;
                if slot.paused.is_none() {
                    self.input(node as usize, Input::Tick);
                }
            }
            Pending::StreamOver { stream } => {
                if let Some((node, life, exchange)) = self.streams.remove(&stream)
                    && self.nodes[node].life == life
                {
                    self.input(node, Input::failed(exchange, "no answer came"));
                }
            }
            Pending::Packet { .. } | Pending::Input { .. } | Pending::Wake { .. } => {}
        }
        true
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
        self.now = until;
    }

    /// Lets time pass until something holds, which is looked at after each thing that happens; false if it never did.
    pub fn run_until(&mut self, at_most: Duration, mut holds: impl FnMut(&Self) -> bool) -> bool {
        let until = self.now + at_most;
        loop {
            if holds(self) {
                return true;
            }
            if !self.step(until) {
                self.now = until;
                return false;
            }
        }
    }
}

/// Asks for the state of those nodes that have something to do soon, of all at the same time: one after the other, each
/// would be waited for.
fn fetch(nodes: &[Node], soon: &[(u64, Pending)]) {
    if nodes.len() < FETCH_NODES_MIN || soon.len() > FETCH_MAX {
        return;
    }
    let engine = |(_, pending): &(u64, Pending)| match pending {
        Pending::Packet { node, .. } | Pending::Wake { node, .. } => nodes[*node as usize].engine.as_deref(),
        Pending::Input { .. } | Pending::StreamOver { .. } => None,
    };
    soon.iter().filter_map(engine).for_each(Engine::fetch);
    soon.iter().filter_map(engine).for_each(Engine::fetch_further);
}

fn through_packet(messages: &[Message], checksum: bool) -> Vec<Message> {
    let wrapping = Wrapping::default();
    let layers = Layers { checksum, compress: messages.len() > 1, nonce: [0; 12] };
    let packet = Packet::decode(&encode(messages, &wrapping, layers), &wrapping);
    assert_eq!(packet.fault, None, "we wrote it");
    packet.messages
}
