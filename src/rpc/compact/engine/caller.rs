//! The caller's side: greets, numbers calls, and sends each again until there is an answer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{CALLS_IN_AIR_MAX, GREETING_SIZE, Random};
use crate::rpc::compact::wire::{Frame, Hello, Kind, Pair};
use crate::rpc::status::{Code, Status};

/// Times of the caller's side.
#[derive(Clone, Copy, Debug)]
pub struct CallerLimits {
    /// Until the first repetition; doubled for each further one.
    pub interval_min: Duration,
    /// Between repetitions at most.
    pub interval_max: Duration,
    /// Between repetitions of the greeting at most.
    pub greeting_interval_max: Duration,
    /// A server that does not answer the greeting for so long is not there.
    pub greeting_max: Duration,
    /// A call of which the server has said nothing for so long is given up.
    pub silence_max: Duration,
    /// An unused session is replaced after so long: a busy server may have dropped it.
    pub session_idle_max: Duration,
}

impl Default for CallerLimits {
    fn default() -> Self {
        Self {
            interval_min: Duration::from_millis(100),
            interval_max: Duration::from_secs(3),
            greeting_interval_max: Duration::from_millis(500),
            greeting_max: Duration::from_secs(3),
            silence_max: Duration::from_secs(30),
            session_idle_max: Duration::from_secs(300),
        }
    }
}

/// A call to make.
#[derive(Clone, Debug)]
pub struct NewCall {
    /// The caller's own number for it.
    pub handle: u64,
    /// Call ID.
    pub method: u32,
    /// The request.
    pub message: Bytes,
    /// Request metadata.
    pub metadata: Vec<Pair>,
    /// When to give up.
    pub deadline: Option<Instant>,
    /// Ask the server to execute every copy that comes.
    pub at_least_once: bool,
}

/// What happened.
#[derive(Debug)]
pub enum CallerInput {
    /// A call is to be made.
    Call(NewCall),
    /// A call is given up by the one who made it.
    Cancel(u64),
    /// A datagram came from the server.
    Datagram(Box<Frame>),
    /// The network says that nobody listens there.
    Refused,
    /// Time has passed.
    Tick,
}

/// What to do.
#[derive(Debug, PartialEq)]
pub enum CallerOutput {
    /// Send a datagram.
    Send(Vec<u8>),
    /// A call has ended with this answer.
    Answered(u64, Box<Frame>),
    /// A call has ended without an answer.
    Unanswered(u64, Unanswered),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Unanswered {
    /// What to say.
    pub status: Status,
    /// True if the server certainly did not execute it.
    pub untouched: bool,
}

enum State {
    Idle,
    Greeting { nonce: u64, since: Instant, again: Instant, interval: Duration },
    Ready { session: u64, used: Instant },
}

struct Pending {
    call: NewCall,
    /// True if it has been sent in the session that is ready.
    sent: bool,
    /// True if it has ever been sent.
    exposed: bool,
    again: Instant,
    interval: Duration,
    heard: Instant,
}

/// The caller's side of the protocol over datagrams.
pub struct Caller {
    limits: CallerLimits,
    random: Random,
    state: State,
    next: u64,
    calls: BTreeMap<u64, Pending>,
    by_handle: BTreeMap<u64, u64>,
}

impl Caller {
    /// A caller without a session. `random` makes nonces and jitter.
    pub fn new(limits: CallerLimits, random: Random) -> Self {
        let (calls, by_handle) = (BTreeMap::new(), BTreeMap::new());
        Self { limits, random, state: State::Idle, next: 1, calls, by_handle }
    }

    /// When to send `Tick`.
    pub fn deadline(&self) -> Option<Instant> {
        let greeting = match &self.state {
            State::Greeting { again, .. } => Some(*again),
            State::Idle | State::Ready { .. } => None,
        };
        let calls = self.calls.values().flat_map(|pending| {
            [pending.call.deadline, pending.sent.then_some(pending.again)].into_iter().flatten()
        });
        greeting.into_iter().chain(calls).min()
    }

    /// Takes one input and adds what to do to `outputs`.
    pub fn handle(&mut self, now: Instant, input: CallerInput, outputs: &mut Vec<CallerOutput>) {
        match input {
            CallerInput::Call(call) => {
                let number = self.next;
                self.next += 1;
                self.by_handle.insert(call.handle, number);
                let interval = self.limits.interval_min;
                let pending = Pending { call, sent: false, exposed: false, again: now, interval, heard: now };
                self.calls.insert(number, pending);
            }
            CallerInput::Cancel(handle) => {
                if let Some(number) = self.by_handle.get(&handle).copied() {
                    self.give_up(number, outputs);
                }
            }
            CallerInput::Datagram(frame) => self.take(now, frame, outputs),
            CallerInput::Refused => self.refused(outputs),
            CallerInput::Tick => {}
        }
        self.look_at_time(now, outputs);
        self.send_unsent(now, outputs);
    }

    fn take(&mut self, now: Instant, frame: Box<Frame>, outputs: &mut Vec<CallerOutput>) {
        let kind = Kind::try_from(frame.kind).unwrap_or(Kind::Unspecified);
        if let (Kind::Hello, State::Greeting { nonce, .. }) = (kind, &self.state) {
            if frame.hello.as_ref().is_some_and(|hello| hello.nonce == *nonce) {
                self.state = State::Ready { session: frame.session, used: now };
            }
            return;
        }
        let State::Ready { session, used } = &mut self.state else { return };
        if frame.session != *session {
            return;
        }
        *used = now;
        match kind {
            Kind::Reply => {
                if let Some(pending) = self.remove(frame.request) {
                    outputs.push(CallerOutput::Answered(pending.call.handle, frame));
                }
            }
            Kind::Working => {
                let interval_max = self.limits.interval_max;
                if let Some(pending) = self.calls.get_mut(&frame.request) {
                    pending.heard = now;
                    // Nothing was lost: there is no hurry any more.
                    pending.interval = interval_max;
                    pending.again = pending.again.max(now + interval_max / 2);
                }
            }
            Kind::Reject => self.lose_session(now, outputs),
            Kind::Unspecified
            | Kind::Hello
            | Kind::Call
            | Kind::Message
            | Kind::Cancel
            | Kind::Credit
            | Kind::Ping
            | Kind::Pong
            | Kind::GoAway
            | Kind::Describe
            | Kind::Description => {}
        }
    }

    /// The server does not know the session: what it did with the calls is not known either.
    fn lose_session(&mut self, now: Instant, outputs: &mut Vec<CallerOutput>) {
        self.state = State::Idle;
        let exposed = |pending: &Pending| pending.exposed && !pending.call.at_least_once;
        let lost: Vec<u64> =
            self.calls.iter().filter(|(_, pending)| exposed(pending)).map(|(number, _)| *number).collect();
        for number in lost {
            if let Some(pending) = self.remove(number) {
                let text = "outcome unknown: the server has forgotten this session, it may have restarted";
                outputs.push(unanswered(pending.call.handle, Code::Unknown, text, false));
            }
        }
        for pending in self.calls.values_mut() {
            (pending.sent, pending.heard) = (false, now);
        }
    }

    fn remove(&mut self, number: u64) -> Option<Pending> {
        let pending = self.calls.remove(&number)?;
        self.by_handle.remove(&pending.call.handle);
        Some(pending)
    }

    /// Drops a call and tells the server, once: a call that is over matters to nobody if that gets lost.
    fn give_up(&mut self, number: u64, outputs: &mut Vec<CallerOutput>) -> Option<Pending> {
        let pending = self.remove(number)?;
        if let (true, State::Ready { session, .. }) = (pending.sent, &self.state) {
            let cancel = Frame { session: *session, ..Frame::new(Kind::Cancel, number) };
            outputs.push(CallerOutput::Send(cancel.datagram()));
        }
        Some(pending)
    }

    /// Before there is a session, a refusal is an answer. Later the server may be about to come back, and the
    /// network may be wrong about the one datagram of many.
    fn refused(&mut self, outputs: &mut Vec<CallerOutput>) {
        if matches!(self.state, State::Greeting { .. }) {
            self.nobody("connection refused", outputs);
        }
    }

    fn nobody(&mut self, why: &str, outputs: &mut Vec<CallerOutput>) {
        self.state = State::Idle;
        self.by_handle.clear();
        for pending in std::mem::take(&mut self.calls).into_values() {
            outputs.push(unanswered(pending.call.handle, Code::Unavailable, why, !pending.exposed));
        }
    }

    fn look_at_time(&mut self, now: Instant, outputs: &mut Vec<CallerOutput>) {
        if let State::Greeting { since, .. } = &self.state
            && now.saturating_duration_since(*since) >= self.limits.greeting_max
        {
            let why = "no answer to its greetings: nobody is there, or the datagrams are lost";
            self.nobody(why, outputs);
        }
        let late = |pending: &Pending| pending.call.deadline.is_some_and(|deadline| deadline <= now);
        let silence_max = self.limits.silence_max;
        let silent =
            |pending: &Pending| pending.sent && now.saturating_duration_since(pending.heard) >= silence_max;
        let over: Vec<u64> = self
            .calls
            .iter()
            .filter(|(_, pending)| late(pending) || silent(pending))
            .map(|(number, _)| *number)
            .collect();
        for number in over {
            let Some(pending) = self.give_up(number, outputs) else { continue };
            let (handle, untouched) = (pending.call.handle, !pending.exposed);
            outputs.push(if late(&pending) {
                unanswered(handle, Code::DeadlineExceeded, "no answer before the deadline", untouched)
            } else {
                unanswered(
                    handle,
                    Code::Unknown,
                    "outcome unknown: the server does not answer any more",
                    false,
                )
            });
        }
    }

    fn send_unsent(&mut self, now: Instant, outputs: &mut Vec<CallerOutput>) {
        let Some((&oldest, _)) = self.calls.first_key_value() else { return };
        if let State::Ready { used, .. } = &self.state {
            let idle = now.saturating_duration_since(*used) >= self.limits.session_idle_max;
            if idle && self.calls.values().all(|pending| !pending.sent) {
                self.state = State::Idle;
            }
        }
        if let State::Idle = self.state {
            let (nonce, interval) = ((self.random)(), self.limits.interval_min);
            self.state = State::Greeting { nonce, since: now, again: now, interval };
        }
        match &mut self.state {
            State::Idle => {}
            State::Greeting { nonce, again, interval, .. } => {
                if *again <= now {
                    outputs.push(CallerOutput::Send(greeting(*nonce)));
                    *again = now + jitter(*interval, &mut self.random);
                    *interval = (*interval * 2).min(self.limits.greeting_interval_max);
                }
            }
            State::Ready { session, used } => {
                for (number, pending) in self.calls.range_mut(..oldest + CALLS_IN_AIR_MAX) {
                    if pending.sent && pending.again > now {
                        continue;
                    }
                    if !pending.sent {
                        (pending.sent, pending.exposed) = (true, true);
                        (pending.heard, *used) = (now, now);
                    }
                    outputs.push(CallerOutput::Send(datagram(now, *session, *number, oldest, &pending.call)));
                    pending.again = now + jitter(pending.interval, &mut self.random);
                    pending.interval = (pending.interval * 2).min(self.limits.interval_max);
                }
            }
        }
    }
}

fn unanswered(handle: u64, code: Code, text: &str, untouched: bool) -> CallerOutput {
    CallerOutput::Unanswered(handle, Unanswered { status: Status::new(code, text), untouched })
}

fn greeting(nonce: u64) -> Vec<u8> {
    let hello = Some(Box::new(Hello { nonce, ..Hello::default() }));
    let mut frame = Frame { hello, ..Frame::new(Kind::Hello, 0) };
    let size = frame.datagram().len();
    frame.padding = vec![0; GREETING_SIZE - size].into();
    frame.datagram()
}

fn datagram(now: Instant, session: u64, number: u64, oldest: u64, call: &NewCall) -> Vec<u8> {
    let left = call.deadline.map(|deadline| deadline.saturating_duration_since(now).as_millis());
    let frame = Frame {
        method: call.method,
        message: Some(call.message.clone()),
        end: true,
        metadata: call.metadata.clone(),
        timeout_ms: left.map(|left| u64::try_from(left).unwrap_or(u64::MAX)),
        session,
        oldest,
        at_least_once: call.at_least_once,
        ..Frame::new(Kind::Call, number)
    };
    frame.datagram()
}

/// Three to five quarters of `interval`: many callers must not come back all at once.
fn jitter(interval: Duration, random: &mut Random) -> Duration {
    let share = u32::try_from(random() % 512).unwrap_or(0);
    interval * (768 + share) / 1024
}
