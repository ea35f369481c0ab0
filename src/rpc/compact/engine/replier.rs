//! The server's side: sessions, calls in progress, and replies kept for those who ask again.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{CALLS_IN_AIR_MAX, Random};
use crate::rpc::compact::wire::{Frame, Hello, Kind};
use crate::rpc::status::{Code, Status};

/// Bounds of what is kept.
#[derive(Clone, Copy, Debug)]
pub struct ReplierLimits {
    /// Sessions; the longest unused goes first, those without a call before all others.
    pub sessions_max: usize,
    /// Calls that are remembered, so that none is executed twice, of all sessions together; to remember another, the
    /// longest unused session is forgotten.
    pub calls_max: usize,
    /// Calls that run at a time; more are left to be sent again.
    pub running_max: usize,
    /// Bytes of replies that are kept.
    pub cache_size_max: usize,
    /// How long a reply is kept.
    pub reply_age_max: Duration,
}

impl Default for ReplierLimits {
    fn default() -> Self {
        Self {
            sessions_max: 16_384,
            calls_max: 128 * 1024,
            running_max: 1024,
            cache_size_max: 16 << 20,
            reply_age_max: Duration::from_secs(120),
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum ReplierInput<A> {
    /// A datagram came.
    Datagram {
        /// From whom.
        from: A,
        /// Its size.
        size: usize,
        /// What was in it.
        frame: Box<Frame>,
    },
    /// A call that was to be executed is done.
    Finished {
        /// Its number.
        run: u64,
        /// The reply.
        frame: Box<Frame>,
        /// The first sending of it is lost, by fault injection.
        lost: bool,
    },
    /// Time has passed.
    Tick,
}

/// What to do.
#[derive(Debug, PartialEq)]
pub enum ReplierOutput<A> {
    /// Send a datagram.
    Send {
        /// Where.
        to: A,
        /// What.
        datagram: Vec<u8>,
    },
    /// Execute a call and come back with `Finished`.
    Execute {
        /// Its number here.
        run: u64,
        /// Who asks.
        from: A,
        /// The call.
        frame: Box<Frame>,
    },
    /// Stop executing; nothing needs to come back.
    Cancel {
        /// Its number here.
        run: u64,
    },
}

/// What is known of one call.
#[derive(Debug)]
enum Entry {
    Working {
        run: u64,
    },
    Done {
        datagram: Vec<u8>,
    },
    /// It was executed, or cancelled; its reply is not kept any more.
    Forgotten,
}

#[derive(Debug)]
struct Session {
    nonce: u64,
    used: Instant,
    called: bool,
    /// Calls below are over for the caller.
    oldest: u64,
    entries: BTreeMap<u64, Entry>,
    running: usize,
}

#[derive(Debug)]
struct Run<A> {
    session: u64,
    request: u64,
    to: A,
    kept: bool,
}

/// The server's side of the protocol over datagrams; `A` is where a datagram comes from.
pub struct Replier<A> {
    limits: ReplierLimits,
    hello: Hello,
    random: Random,
    sessions: HashMap<u64, Session>,
    by_nonce: HashMap<u64, u64>,
    runs: HashMap<u64, Run<A>>,
    next_run: u64,
    /// Kept replies, oldest first; may name some that are gone already.
    kept: VecDeque<(Instant, u64, u64)>,
    kept_size: usize,
    /// Entries of all sessions.
    calls: usize,
}

impl<A: Copy> Replier<A> {
    /// Greets with `hello`. `random` makes session numbers, which nobody must be able to guess.
    pub fn new(limits: ReplierLimits, hello: Hello, random: Random) -> Self {
        Self {
            limits,
            hello,
            random,
            sessions: HashMap::new(),
            by_nonce: HashMap::new(),
            runs: HashMap::new(),
            next_run: 0,
            kept: VecDeque::new(),
            kept_size: 0,
            calls: 0,
        }
    }

    /// When to send `Tick`.
    pub fn deadline(&self) -> Option<Instant> {
        self.kept.front().map(|(at, ..)| *at + self.limits.reply_age_max)
    }

    /// Takes one input and adds what to do to `outputs`.
    pub fn handle(&mut self, now: Instant, input: ReplierInput<A>, outputs: &mut Vec<ReplierOutput<A>>) {
        match input {
            ReplierInput::Datagram { from, size, frame } => {
                match Kind::try_from(frame.kind).unwrap_or(Kind::Unspecified) {
                    Kind::Hello => self.greet(now, from, size, &frame, outputs),
                    Kind::Call => self.call(now, from, frame, outputs),
                    Kind::Cancel => self.cancel(&frame, outputs),
                    Kind::Ping => {
                        let pong = Frame::new(Kind::Pong, frame.request);
                        outputs.push(ReplierOutput::Send { to: from, datagram: pong.datagram() });
                    }
                    Kind::Unspecified
                    | Kind::Message
                    | Kind::Reply
                    | Kind::Credit
                    | Kind::Pong
                    | Kind::GoAway
                    | Kind::Describe
                    | Kind::Description
                    | Kind::Working
                    | Kind::Reject => {}
                }
            }
            ReplierInput::Finished { run, frame, lost } => self.finish(now, run, *frame, lost, outputs),
            ReplierInput::Tick => {}
        }
        self.forget_old(now);
    }

    fn greet(
        &mut self,
        now: Instant,
        to: A,
        size: usize,
        frame: &Frame,
        outputs: &mut Vec<ReplierOutput<A>>,
    ) {
        let nonce = frame.hello.as_ref().map_or(0, |hello| hello.nonce);
        let session = match self.by_nonce.get(&nonce) {
            Some(session) => *session,
            None => self.open(now, nonce),
        };
        let hello = Some(Box::new(Hello { nonce, ..self.hello.clone() }));
        let datagram = Frame { session, hello, ..Frame::new(Kind::Hello, 0) }.datagram();
        // Whoever forges the sender's address gets no more bytes sent there than they spend themselves.
        if datagram.len() <= size {
            outputs.push(ReplierOutput::Send { to, datagram });
        }
    }

    fn open(&mut self, now: Instant, nonce: u64) -> u64 {
        if self.sessions.len() >= self.limits.sessions_max {
            self.close_unused(|session| (session.called, session.used));
        }
        let session = (self.random)();
        let entries = BTreeMap::new();
        let new = Session { nonce, used: now, called: false, oldest: 0, entries, running: 0 };
        self.sessions.insert(session, new);
        self.by_nonce.insert(nonce, session);
        session
    }

    /// Closes the first session, in the order of `rank`, in which no call runs; false if there is none.
    fn close_unused<K: Ord>(&mut self, rank: impl Fn(&Session) -> K) -> bool {
        let unused = self.sessions.iter().filter(|(_, session)| session.running == 0);
        let first = unused.min_by_key(|(_, session)| rank(session)).map(|(id, _)| *id);
        first.inspect(|id| self.close(*id)).is_some()
    }

    fn close(&mut self, id: u64) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.by_nonce.remove(&session.nonce);
        self.calls -= session.entries.len();
        self.kept_size -= session.entries.values().map(Entry::size).sum::<usize>();
    }

    fn call(&mut self, now: Instant, from: A, mut frame: Box<Frame>, outputs: &mut Vec<ReplierOutput<A>>) {
        let (id, request) = (frame.session, frame.request);
        let send = |frame: Frame| ReplierOutput::Send {
            to: from,
            datagram: Frame { session: id, ..frame }.datagram(),
        };
        let Some(session) = self.sessions.get_mut(&id) else {
            outputs.push(send(Frame::new(Kind::Reject, request)));
            return;
        };
        (session.used, session.called) = (now, true);
        if frame.oldest > session.oldest {
            session.oldest = frame.oldest;
            let rest = session.entries.split_off(&frame.oldest);
            for entry in std::mem::replace(&mut session.entries, rest).into_values() {
                self.calls -= 1;
                self.kept_size -= entry.size();
            }
        }
        if request < session.oldest || request - session.oldest >= CALLS_IN_AIR_MAX {
            return;
        }
        match session.entries.get(&request) {
            Some(Entry::Working { run }) => {
                if let Some(run) = self.runs.get_mut(run) {
                    run.to = from;
                }
                outputs.push(send(Frame::new(Kind::Working, request)));
            }
            Some(Entry::Done { datagram }) => {
                outputs.push(ReplierOutput::Send { to: from, datagram: datagram.clone() });
            }
            Some(Entry::Forgotten) => {
                let text = "outcome unknown: the call was executed, but its reply is no longer kept";
                let status = Status::new(Code::Unknown, text);
                let frame =
                    Frame { status: Some(Box::new((&status).into())), ..Frame::new(Kind::Reply, request) };
                outputs.push(send(frame));
            }
            // It will be sent again, also where room is made for it.
            None if self.runs.len() >= self.limits.running_max => {}
            None if !frame.at_least_once && self.calls >= self.limits.calls_max => {
                self.close_unused(|session| session.used);
            }
            None => {
                self.next_run += 1;
                let (run, kept) = (self.next_run, !frame.at_least_once);
                if kept {
                    self.calls += 1;
                    session.entries.insert(request, Entry::Working { run });
                }
                session.running += 1;
                self.runs.insert(run, Run { session: id, request, to: from, kept });
                // What does not belong to a call is not kept for as long as it runs.
                (frame.padding, frame.trailers) = (Bytes::new(), Vec::new());
                (frame.status, frame.hello, frame.piece) = (None, None, None);
                outputs.push(ReplierOutput::Execute { run, from, frame });
            }
        }
    }

    fn cancel(&mut self, frame: &Frame, outputs: &mut Vec<ReplierOutput<A>>) {
        let Some(session) = self.sessions.get_mut(&frame.session) else { return };
        let Some(entry) = session.entries.get_mut(&frame.request) else { return };
        if let Entry::Working { run } = *entry {
            *entry = Entry::Forgotten;
            session.running -= 1;
            self.runs.remove(&run);
            outputs.push(ReplierOutput::Cancel { run });
        }
    }

    fn finish(
        &mut self,
        now: Instant,
        run: u64,
        frame: Frame,
        lost: bool,
        outputs: &mut Vec<ReplierOutput<A>>,
    ) {
        let Some(Run { session: id, request, to, kept }) = self.runs.remove(&run) else { return };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.running -= 1;
        session.used = now;
        let datagram = Frame { session: id, request, kind: Kind::Reply.into(), ..frame }.datagram();
        if kept && let Some(entry) = session.entries.get_mut(&request) {
            self.kept_size += datagram.len();
            *entry = Entry::Done { datagram: datagram.clone() };
            self.kept.push_back((now, id, request));
        }
        if !lost {
            outputs.push(ReplierOutput::Send { to, datagram });
        }
    }

    /// Drops replies that are too old or too many.
    fn forget_old(&mut self, now: Instant) {
        while let Some((at, id, request)) = self.kept.front().copied() {
            let old = now.saturating_duration_since(at) >= self.limits.reply_age_max;
            if !old && self.kept_size <= self.limits.cache_size_max {
                break;
            }
            self.kept.pop_front();
            if let Some(session) = self.sessions.get_mut(&id)
                && let Some(entry @ Entry::Done { .. }) = session.entries.get_mut(&request)
            {
                self.kept_size -= entry.size();
                *entry = Entry::Forgotten;
            }
        }
    }
}

impl Entry {
    fn size(&self) -> usize {
        match self {
            Self::Done { datagram } => datagram.len(),
            Self::Working { .. } | Self::Forgotten => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_many_sessions_are_remembered_up_to_a_bound_and_none_is_executed_twice() {
        let limits = ReplierLimits { calls_max: 100, ..ReplierLimits::default() };
        let mut count = 0;
        let random = Box::new(move || {
            count += 1;
            count
        });
        let mut replier = Replier::new(limits, Hello::default(), random);
        let (mut now, mut outputs, mut executed) = (Instant::now(), Vec::new(), Vec::new());
        for session in 1..=50 {
            let hello = Some(Box::new(Hello { nonce: session, ..Hello::default() }));
            let greeting = Box::new(Frame { hello, ..Frame::new(Kind::Hello, 0) });
            let input = ReplierInput::Datagram { from: (), size: 256, frame: greeting };
            replier.handle(now, input, &mut outputs);
            for request in [1, 2, 3, 1, 2, 3] {
                now += Duration::from_millis(1);
                let call = Box::new(Frame { session, ..Frame::new(Kind::Call, request) });
                let input = ReplierInput::Datagram { from: (), size: 256, frame: call };
                replier.handle(now, input, &mut outputs);
                for output in std::mem::take(&mut outputs) {
                    let ReplierOutput::Execute { run, frame, .. } = output else { continue };
                    executed.push((frame.session, frame.request));
                    let frame = Box::new(Frame::new(Kind::Reply, 0));
                    replier.handle(now, ReplierInput::Finished { run, frame, lost: false }, &mut outputs);
                }
                let remembered: usize = replier.sessions.values().map(|session| session.entries.len()).sum();
                assert_eq!(replier.calls, remembered);
                assert!(remembered <= 100);
            }
        }
        assert_eq!(executed.len(), 150, "the second sending finds room if the first did not");
        executed.dedup();
        assert_eq!(executed.len(), 150);
    }
}
