//! The engine, and those who wait for something of it.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::KeyFile;
use super::feed::{self, Feed, Watch};
use super::figures::Figures;
use crate::gossip::engine::{
    Engine, Event, Input, KeyOperation, Output, QueryId, QueryOptions, Refusal, Summary, Time,
};
use crate::gossip::wire::{
    KEY_BYTES, KeyError, KeyResponse, Layers, Message, Name, StreamMessage, Wrapping, encode,
    encode_key_request,
};

/// Answers that wait for whoever asked.
const ANSWERS_MAX: usize = 4096;
/// Most of what happened lately that is remembered.
const HISTORY_MAX: usize = 256;
/// Bytes of names and values of it.
const HISTORY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Shorter datagrams do not become shorter by compression.
const COMPRESS_FROM: usize = 2;

/// What comes of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A member has received it.
    Ack(Name),
    /// A member has answered.
    Response(Name, Bytes),
    /// That was all.
    Over(Summary),
}

/// Answers to a query as they come.
#[derive(Debug)]
pub struct Answers {
    /// How long they are taken.
    pub timeout: Duration,
    /// The answers; the last one says that it was.
    pub answers: mpsc::Receiver<Answer>,
}

/// What came of an operation on the keys of all nodes.
#[derive(Clone, Debug, Default)]
pub struct KeysOutcome {
    /// What each node that answered said.
    pub responses: Vec<(Name, KeyResponse)>,
    /// How many nodes there are.
    pub nodes: usize,
}

/// Something that happened before it was asked for.
#[derive(Debug)]
pub(super) struct Lately {
    /// How long before.
    pub age: Duration,
    /// What.
    pub event: Arc<Event>,
}

/// What happened lately.
#[derive(Debug, Default)]
struct History {
    events: VecDeque<(Time, Arc<Event>)>,
    bytes: usize,
}

impl History {
    fn push(&mut self, now: Time, event: Arc<Event>) {
        self.bytes += feed::size(&event);
        self.events.push_back((now, event));
        while self.events.len() > HISTORY_MAX || self.bytes > HISTORY_BYTES_MAX {
            let Some((_, oldest)) = self.events.pop_front() else { break };
            self.bytes -= feed::size(&oldest);
        }
    }
}

/// The engine and its surroundings, within the task that owns it.
#[derive(Debug)]
pub struct Core {
    engine: Engine,
    now: Time,
    events: Feed,
    /// What happened lately, to be told again.
    history: History,
    wrapping: Arc<RwLock<Wrapping>>,
    key_file: Option<KeyFile>,
    outputs: Vec<Output>,
    pending: Vec<Output>,
    refusal: Option<Refusal>,
    joins: HashMap<SocketAddr, Vec<oneshot::Sender<Result<(), String>>>>,
    queries: HashMap<QueryId, mpsc::Sender<Answer>>,
    asked: Option<(QueryId, Duration)>,
    pings: HashMap<u64, oneshot::Sender<Option<Duration>>>,
    streams: HashMap<u64, oneshot::Sender<StreamMessage>>,
    tags: u64,
    nonces: fastrand::Rng,
    left: bool,
    displaced: bool,
    figures: Figures,
}

impl Core {
    pub(super) fn new(
        engine: Engine,
        events: Feed,
        wrapping: Arc<RwLock<Wrapping>>,
        key_file: Option<KeyFile>,
        figures: Figures,
    ) -> Self {
        Self {
            engine,
            now: Time::default(),
            events,
            history: History::default(),
            wrapping,
            key_file,
            outputs: Vec::new(),
            pending: Vec::new(),
            refusal: None,
            joins: HashMap::new(),
            queries: HashMap::new(),
            asked: None,
            pings: HashMap::new(),
            streams: HashMap::new(),
            tags: 0,
            nonces: fastrand::Rng::new(),
            left: false,
            displaced: false,
            figures,
        }
    }

    /// Counts what there is now.
    pub(super) fn look(&mut self) {
        self.figures.look(&self.engine);
    }

    /// What happened lately with how long ago it was, and what happens from now on.
    pub(super) fn watch_again(&self) -> (Vec<Lately>, Watch) {
        let lately = |(at, event): &(Time, Arc<Event>)| Lately { age: self.now - *at, event: event.clone() };
        (self.history.events.iter().map(lately).collect(), self.events.watch())
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The time of the engine.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Whether other nodes hold another one for the owner of this one's name.
    pub fn is_displaced(&self) -> bool {
        self.displaced
    }

    /// Whether datagrams are encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.wrapping.read().unwrap_or_else(PoisonError::into_inner).keyring.is_some()
    }

    /// What keeps its cluster apart from others; empty if nothing does.
    pub fn label(&self) -> String {
        self.wrapping.read().unwrap_or_else(PoisonError::into_inner).label.to_string()
    }

    pub(super) fn set_now(&mut self, now: Time) {
        self.now = now;
    }

    pub(super) fn has_left(&self) -> bool {
        self.left
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.engine.deadline()
    }

    pub(super) fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.pending)
    }

    pub(super) fn act(&mut self, now: Time, input: Input) {
        self.now = now;
        let mut outputs = std::mem::take(&mut self.outputs);
        self.engine.handle(now, input, &mut outputs);
        for output in outputs.drain(..) {
            match output {
                Output::Event(event) => self.event(event),
                Output::Answer { stream, message } => {
                    if let Some(answer) = self.streams.remove(&stream) {
                        let _ = answer.send(*message);
                    }
                }
                output => self.pending.push(output),
            }
        }
        self.outputs = outputs;
    }

    /// Gives the engine an input that it may refuse.
    ///
    /// # Errors
    /// It does.
    pub fn input(&mut self, input: Input) -> Result<(), Refusal> {
        self.refusal = None;
        self.act(self.now, input);
        self.refusal.take().map_or(Ok(()), Err)
    }

    fn event(&mut self, event: Event) {
        self.figures.event(&event);
        match &event {
            Event::Refused { tag, refusal } => {
                if let Some(tag) = tag {
                    self.pings.remove(tag);
                }
                self.refusal = Some(refusal.clone());
                return;
            }
            Event::Joined { seed, failure } => {
                for waiting in self.joins.remove(seed).unwrap_or_default() {
                    let _ = waiting.send(failure.clone().map_or(Ok(()), Err));
                }
            }
            Event::Asked { query, timeout, .. } => self.asked = Some((*query, *timeout)),
            Event::Ack { query, from } => self.answer(*query, Answer::Ack(from.clone())),
            Event::Response { query, from, payload } => {
                self.answer(*query, Answer::Response(from.clone(), payload.clone()));
            }
            Event::QueryOver { query, summary } => {
                self.answer(*query, Answer::Over(*summary));
                self.queries.remove(query);
            }
            Event::Pinged { tag, time } => {
                if let Some(waiting) = self.pings.remove(tag) {
                    let _ = waiting.send(*time);
                }
            }
            Event::Keys { query, operation, key } => {
                let response = self.keys(*operation, key).encode();
                let (query, payload) = (*query, response.into());
                return self.act(self.now, Input::Respond { query, payload });
            }
            Event::Left => self.left = true,
            Event::Displaced => self.displaced = true,
            Event::Incompatible { node } => {
                tracing::warn!("{node} speaks another version of the protocol: its state is refused");
            }
            Event::Conflict { node, known, other } => {
                tracing::warn!("{node} is at {known} and, another one, at {other}");
            }
            Event::Member { .. } | Event::User { .. } | Event::Query { .. } | Event::Data(_) => {}
        }
        let event = Arc::new(event);
        if matches!(*event, Event::Member { .. } | Event::User { .. } | Event::Data(_)) {
            self.history.push(self.now, event.clone());
        }
        self.events.send(&event);
    }

    fn answer(&mut self, query: QueryId, answer: Answer) {
        if let Some(asker) = self.queries.get(&query)
            && asker.try_send(answer).is_err()
        {
            // Nobody listens any more, or not fast enough for answers that end soon anyway.
            tracing::debug!("an answer is lost: nobody took it");
        }
    }

    pub(super) fn join(&mut self, seed: SocketAddr, replay: bool) -> oneshot::Receiver<Result<(), String>> {
        let (sender, receiver) = oneshot::channel();
        self.joins.entry(seed).or_default().push(sender);
        self.act(self.now, Input::Join { seed, replay });
        receiver
    }

    pub(super) fn query(&mut self, options: QueryOptions) -> Result<Answers, Refusal> {
        self.tags += 1;
        self.asked = None;
        self.refusal = None;
        // The first answer, this node's own, may come at once: it is put aside until somebody can take it.
        let (sender, answers) = mpsc::channel(ANSWERS_MAX);
        let mut outputs = std::mem::take(&mut self.outputs);
        self.engine.handle(self.now, Input::Query { options, tag: self.tags }, &mut outputs);
        for output in outputs.drain(..) {
            match output {
                Output::Event(event) => {
                    self.event(event);
                    if let Some((query, _)) = self.asked {
                        self.queries.entry(query).or_insert_with(|| sender.clone());
                    }
                }
                output => self.pending.push(output),
            }
        }
        self.outputs = outputs;
        if let Some(refusal) = self.refusal.take() {
            return Err(refusal);
        }
        let timeout = self.asked.map_or(Duration::ZERO, |(_, timeout)| timeout);
        Ok(Answers { timeout, answers })
    }

    /// Measures the way to a member. Nothing comes if it does not answer.
    ///
    /// # Errors
    /// It is not known.
    pub fn ping(&mut self, node: Name) -> Result<oneshot::Receiver<Option<Duration>>, Refusal> {
        self.tags += 1;
        let (sender, receiver) = oneshot::channel();
        self.pings.retain(|_, waiting| !waiting.is_closed());
        self.pings.insert(self.tags, sender);
        self.input(Input::Ping { node, tag: self.tags })?;
        Ok(receiver)
    }

    pub(super) fn stream(
        &mut self,
        now: Time,
        from: SocketAddr,
        message: StreamMessage,
        answer: oneshot::Sender<StreamMessage>,
    ) {
        self.tags += 1;
        let stream = self.tags;
        self.streams.insert(stream, answer);
        self.act(now, Input::Stream { stream, from, message });
        // Whatever has no answer now will have none.
        self.streams.remove(&stream);
    }

    pub(super) fn encode(&mut self, messages: &[Message], checksum: bool) -> Vec<u8> {
        let mut nonce = [0; 12];
        let wrapping = self.wrapping.read().unwrap_or_else(PoisonError::into_inner);
        if wrapping.keyring.is_some() {
            random(&mut nonce, &mut self.nonces);
        }
        let layers = Layers { checksum, compress: messages.len() >= COMPRESS_FROM, nonce };
        encode(messages, &wrapping, layers)
    }

    /// Does what a query about keys wants. Serf, keymanager's handlers.
    fn keys(&mut self, operation: KeyOperation, key: &[u8]) -> KeyResponse {
        use base64::prelude::{BASE64_STANDARD, Engine as _};
        let mut wrapping = self.wrapping.write().unwrap_or_else(PoisonError::into_inner);
        let Some(keyring) = &mut wrapping.keyring else {
            let message = "this node does not encrypt".to_owned();
            return KeyResponse { message, ..KeyResponse::default() };
        };
        let done = match operation {
            KeyOperation::Install => keyring.install(key),
            KeyOperation::Use => keyring.choose(key),
            KeyOperation::Remove => keyring.remove(key),
            KeyOperation::List => Ok(()),
        };
        let mut response = KeyResponse { result: done.is_ok(), ..KeyResponse::default() };
        let text = |key: &[u8]| BASE64_STANDARD.encode(key);
        match (operation, done) {
            (_, Err(error)) => response.message = error.to_string(),
            (KeyOperation::List, Ok(())) => {
                response.keys = keyring.keys().map(text).collect();
                response.primary = response.keys.first().cloned().unwrap_or_default();
            }
            (_, Ok(())) => {
                if let Some(Err(error)) = self.key_file.as_ref().map(|file| file.write(keyring)) {
                    response.message = format!("the keys are in use, but not written: {error}");
                }
            }
        }
        response
    }

    /// The query that does something to the keys of all nodes.
    ///
    /// # Errors
    /// The key is none.
    pub fn key_query(operation: KeyOperation, key: &[u8]) -> Result<QueryOptions, KeyError> {
        let name = match operation {
            KeyOperation::Install => "_serf_install-key",
            KeyOperation::Use => "_serf_use-key",
            KeyOperation::Remove => "_serf_remove-key",
            KeyOperation::List => "_serf_list-keys",
        };
        if operation != KeyOperation::List && !KEY_BYTES.contains(&key.len()) {
            return Err(KeyError::Length(key.len()));
        }
        let payload = match operation {
            KeyOperation::List => Bytes::new(),
            _ => encode_key_request(key).into(),
        };
        Ok(QueryOptions {
            name: name.into(),
            payload,
            filters: Vec::new(),
            acks: false,
            relay_factor: 0,
            timeout: None,
        })
    }
}

/// Random bytes of the system; of a generator that it seeded, should it have none to give.
pub(super) fn random(bytes: &mut [u8; 12], fallback: &mut fastrand::Rng) {
    use ring::rand::SecureRandom as _;
    if ring::rand::SystemRandom::new().fill(bytes).is_err() {
        fallback.fill(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::wire::data::{Entry, Value, Version};

    #[test]
    fn what_is_remembered_to_be_told_again_has_a_bound_in_bytes() {
        let mut history = History::default();
        let version = || Version { counter: 1, writer: "a".into() };
        for _ in 0..100 {
            let value = Value::Bytes(vec![0; 1 << 20].into());
            let entry = Entry { key: "k".into(), version: version(), value };
            history.push(Time::default(), Arc::new(Event::Data(entry)));
        }
        assert_eq!(history.events.len(), 3);
        for _ in 0..1000 {
            let (name, payload) = ("e".into(), Bytes::from_static(b"x"));
            let event = Event::User { ltime: 1, name, payload, coalesce: false };
            history.push(Time::default(), Arc::new(event));
        }
        assert_eq!((history.events.len(), history.bytes), (HISTORY_MAX, 2 * HISTORY_MAX));
    }
}
