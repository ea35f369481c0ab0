//! Both sides over a network that loses, doubles and reorders, with a server that restarts: seeded.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::engine::{
    Caller, CallerInput, CallerLimits, CallerOutput, NewCall, Random, Replier, ReplierInput, ReplierLimits,
    ReplierOutput,
};
use super::wire::{Frame, Hello, Kind};
use crate::rpc::status::Code;

fn random(seed: u64) -> Random {
    // splitmix64
    let mut state = seed;
    Box::new(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

#[derive(Clone, Copy)]
struct Faults {
    /// Of a thousand datagrams.
    loss: u64,
    double: u64,
    delay_max_ms: u64,
    work_max_ms: u64,
    restart: bool,
    at_least_once: bool,
    limits: ReplierLimits,
}

const CALM: Faults = Faults {
    loss: 0,
    double: 0,
    delay_max_ms: 1,
    work_max_ms: 1,
    restart: false,
    at_least_once: false,
    limits: ReplierLimits {
        sessions_max: 10,
        calls_max: 10_000,
        running_max: 1000,
        cache_size_max: 1 << 20,
        reply_age_max: Duration::from_secs(120),
    },
};

enum Event {
    ToServer(Vec<u8>),
    ToCaller(Vec<u8>),
    Worked { server: u64, run: u64, payload: Bytes },
    Call(u64),
    Restart,
}

#[derive(Default)]
struct History {
    executed: HashMap<u64, u32>,
    answered: HashMap<u64, Bytes>,
    unanswered: HashMap<u64, Code>,
    datagrams: u64,
}

struct World {
    faults: Faults,
    dice: Random,
    now: Instant,
    start: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    server: u64,
    replier: Replier<()>,
    caller: Caller,
    history: History,
}

impl World {
    fn new(seed: u64, faults: Faults) -> Self {
        let now = Instant::now();
        Self {
            faults,
            dice: random(seed),
            now,
            start: now,
            events: BTreeMap::new(),
            sequence: 0,
            server: 0,
            replier: Replier::new(faults.limits, Hello::default(), random(seed + 1)),
            caller: Caller::new(CallerLimits::default(), random(seed + 2)),
            history: History::default(),
        }
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + after, self.sequence), event);
    }

    fn transmit(&mut self, make: impl Fn() -> Event) {
        self.history.datagrams += 1;
        let copies = if (self.dice)() % 1000 < self.faults.double { 2 } else { 1 };
        for _ in 0..copies {
            if (self.dice)() % 1000 >= self.faults.loss {
                let delay = Duration::from_micros((self.dice)() % (self.faults.delay_max_ms * 1000));
                self.schedule(delay, make());
            }
        }
    }

    fn caller_input(&mut self, input: CallerInput) {
        let mut outputs = Vec::new();
        self.caller.handle(self.now, input, &mut outputs);
        for output in outputs {
            match output {
                CallerOutput::Send(datagram) => self.transmit(|| Event::ToServer(datagram.clone())),
                CallerOutput::Answered(handle, frame) => {
                    let previous = match &frame.status {
                        None => self.history.answered.insert(handle, frame.message.unwrap()).is_some(),
                        Some(status) => {
                            assert_eq!(status.code, 2, "{status:?}");
                            self.history.unanswered.insert(handle, Code::Unknown).is_some()
                        }
                    };
                    assert!(!previous, "call {handle} ended twice");
                }
                CallerOutput::Unanswered(handle, why) => {
                    assert!(self.history.unanswered.insert(handle, why.status.code).is_none());
                    assert!(!why.untouched || !self.history.executed.contains_key(&handle));
                }
            }
        }
    }

    fn server_input(&mut self, input: ReplierInput<()>) {
        let mut outputs = Vec::new();
        self.replier.handle(self.now, input, &mut outputs);
        for output in outputs {
            match output {
                ReplierOutput::Send { datagram, .. } => self.transmit(|| Event::ToCaller(datagram.clone())),
                ReplierOutput::Execute { run, frame, .. } => {
                    let payload = frame.message.unwrap();
                    let call = u64::from_le_bytes(payload[..8].try_into().unwrap());
                    *self.history.executed.entry(call).or_default() += 1;
                    let delay = Duration::from_micros((self.dice)() % (self.faults.work_max_ms * 1000));
                    self.schedule(delay, Event::Worked { server: self.server, run, payload });
                }
                ReplierOutput::Cancel { .. } => {}
            }
        }
    }

    fn run(mut self, calls: u64) -> History {
        for call in 1..=calls {
            let at = Duration::from_micros((self.dice)() % 500_000);
            self.schedule(at, Event::Call(call));
        }
        if self.faults.restart {
            self.schedule(Duration::from_millis(250), Event::Restart);
        }
        loop {
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let timers = [self.caller.deadline(), self.replier.deadline()];
            let ended = self.history.answered.len() + self.history.unanswered.len() == calls as usize;
            if ended && event.is_none() {
                return self.history;
            }
            let timer = timers.into_iter().flatten().min().filter(|_| !ended);
            self.now = [event, timer]
                .into_iter()
                .flatten()
                .min()
                .expect("calls wait and nothing will happen")
                .max(self.now);
            assert!(self.now - self.start < Duration::from_secs(300), "calls do not end");
            if event.is_none_or(|event| event > self.now) {
                self.caller_input(CallerInput::Tick);
                self.server_input(ReplierInput::Tick);
                continue;
            }
            match self.events.pop_first().map(|(_, event)| event) {
                None => {}
                Some(Event::Call(handle)) => self.caller_input(CallerInput::Call(NewCall {
                    handle,
                    method: 7,
                    message: Bytes::copy_from_slice(&handle.to_le_bytes()),
                    metadata: Vec::new(),
                    deadline: None,
                    at_least_once: self.faults.at_least_once,
                })),
                Some(Event::ToServer(datagram)) => {
                    let frame = Box::new(Frame::from_datagram(&datagram).unwrap());
                    let input = ReplierInput::Datagram { from: (), size: datagram.len(), frame };
                    self.server_input(input);
                }
                Some(Event::ToCaller(datagram)) => {
                    let frame = Frame::from_datagram(&datagram).unwrap();
                    self.caller_input(CallerInput::Datagram(Box::new(frame)));
                }
                Some(Event::Worked { server, run, payload }) if server == self.server => {
                    let frame = Frame { message: Some(payload), ..Frame::new(Kind::Reply, 0) };
                    self.server_input(ReplierInput::Finished { run, frame: Box::new(frame), lost: false });
                }
                Some(Event::Worked { .. }) => {}
                Some(Event::Restart) => {
                    self.server += 1;
                    let seed = (self.dice)();
                    self.replier = Replier::new(self.faults.limits, Hello::default(), random(seed));
                }
            }
        }
    }
}

/// What holds in every world: all calls end, each is executed at most once, a reply is that of its execution.
#[track_caller]
fn check(history: &History, calls: u64) {
    assert_eq!(history.answered.len() + history.unanswered.len(), calls as usize);
    for (call, count) in &history.executed {
        assert_eq!(*count, 1, "call {call} was executed {count} times");
    }
    for (call, reply) in &history.answered {
        assert_eq!(reply[..], call.to_le_bytes());
        assert!(history.executed.contains_key(call), "call {call} was answered and not executed");
    }
}

#[test]
fn a_calm_network_needs_one_datagram_each_way() {
    let history = World::new(1, CALM).run(100);
    check(&history, 100);
    assert_eq!(history.answered.len(), 100);
    assert_eq!(history.datagrams, 202, "a greeting and a call, both ways");
}

#[test]
fn each_call_is_executed_once_over_a_bad_network() {
    for seed in 0..200 {
        let faults = Faults { loss: 300, double: 300, delay_max_ms: 400, work_max_ms: 300, ..CALM };
        let history = World::new(seed, faults).run(50);
        check(&history, 50);
        assert_eq!(history.answered.len(), 50, "seed {seed}: {:?}", history.unanswered);
    }
}

#[test]
fn a_restart_of_the_server_never_executes_a_call_again() {
    let mut unknown = 0;
    for seed in 0..200 {
        let faults =
            Faults { loss: 200, double: 200, delay_max_ms: 300, work_max_ms: 300, restart: true, ..CALM };
        let history = World::new(seed, faults).run(50);
        check(&history, 50);
        assert!(history.unanswered.values().all(|code| *code == Code::Unknown));
        unknown += history.unanswered.len();
    }
    assert!(unknown > 0, "no restart hit a call");
}

#[test]
fn replies_that_are_no_longer_kept_are_not_made_again() {
    let limits = ReplierLimits { cache_size_max: 100, ..CALM.limits };
    let mut unknown = 0;
    for seed in 0..200 {
        let history = World::new(seed, Faults { loss: 400, delay_max_ms: 50, limits, ..CALM }).run(50);
        check(&history, 50);
        unknown += history.unanswered.len();
    }
    assert!(unknown > 0, "no reply was dropped");
}

#[test]
fn few_permits_for_running_calls_delay_calls_and_lose_none() {
    let limits = ReplierLimits { running_max: 2, ..CALM.limits };
    let history = World::new(5, Faults { work_max_ms: 100, limits, ..CALM }).run(50);
    check(&history, 50);
    assert_eq!(history.answered.len(), 50);
}

#[test]
fn at_least_once_executes_copies_again() {
    let faults =
        Faults { loss: 400, double: 200, delay_max_ms: 50, at_least_once: true, restart: true, ..CALM };
    let history = World::new(3, faults).run(50);
    assert_eq!(history.answered.len(), 50);
    assert!(history.executed.values().any(|count| *count > 1));
}

#[test]
fn a_server_that_is_not_there_is_told_after_the_greeting() {
    let history = World::new(3, Faults { loss: 1000, ..CALM }).run(5);
    assert!(history.executed.is_empty());
    assert!(history.unanswered.values().all(|code| *code == Code::Unavailable));
}

#[test]
fn a_short_greeting_gets_no_answer() {
    let mut replier = Replier::new(CALM.limits, Hello::default(), random(1));
    let mut outputs = Vec::new();
    let frame = Box::new(Frame::new(Kind::Hello, 0));
    replier.handle(Instant::now(), ReplierInput::Datagram { from: (), size: 6, frame }, &mut outputs);
    assert_eq!(outputs, []);
}
