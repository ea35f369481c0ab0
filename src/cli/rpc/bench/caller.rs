//! The threads that make the calls: each has a runtime, its part of the connections and of the workers.
//!
//! Nothing is shared between them but the counter of calls, so that two threads make twice the load of one.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::Scope;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{Instant, timeout};

use super::request::{Request, Template};
use crate::bench::{Load, Outcome, Schedule, Stop};
use crate::cli::exit::{Exit, Failure};
use crate::cli::rpc::fleet::{Fleet, Member};
use crate::rpc::client::{
    CallOptions, Cause, Client, Connector, Ending, HttpClient, HttpProtocol, RawCall, RawConnection, Target,
};
use crate::rpc::wire::Encoding;
use crate::rpc::{Code, Kind, Method, Status};
use crate::shutdown::Shutdown;

/// A worker whose connection is gone waits this long before its next call: a server that is down is no
/// reason to turn the processor.
const PAUSE_WITHOUT_CONNECTION: Duration = Duration::from_millis(10);

/// What is called, how, and by how many.
pub struct Plan {
    pub method: Method,
    /// The request; one message, unless the method takes more.
    pub messages: Vec<Bytes>,
    /// What the request is filled in from, if each call has its own.
    pub template: Option<Template>,
    /// How often the messages are repeated in a stream of them.
    pub repeat: u32,
    /// All instances, if a registry knows them: they take turns.
    pub fleet: Option<Arc<Fleet>>,
    pub connector: Connector,
    pub options: CallOptions,
    pub url: String,
    pub connections: u32,
    pub concurrency: u32,
}

impl Plan {
    fn threads(&self) -> u32 {
        let cores =
            std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
        self.connections.min(cores).min(self.concurrency)
    }

    /// Prepared bytes on an HTTP/2 connection: gRPC's unary calls.
    fn raw_target<'a>(&self, connector: &'a Connector) -> Option<&'a Target> {
        let Connector::Http(target) = connector else { return None };
        let is_raw = self.template.is_none()
            && target.protocol == HttpProtocol::Grpc
            && self.method.kind == Kind::Unary
            && self.options.compression == Encoding::Identity;
        is_raw.then_some(target)
    }
}

/// The part of `total` that falls to one of `parts`.
fn share(total: u32, parts: u32, index: u32) -> u32 {
    total / parts + u32::from(index < total % parts)
}

/// What the threads are told.
#[derive(Clone, Default)]
struct Orders {
    load: Option<Arc<Load>>,
    interrupted: bool,
}

/// What a thread tells.
enum Word {
    Connected(Result<(), Failure>),
    Finished,
}

/// The running threads. Dropping it lets them go.
pub struct Crew {
    size: u32,
    orders: watch::Sender<Orders>,
    words: mpsc::Receiver<Word>,
    pending: u32,
}

impl Crew {
    /// Starts the threads; they connect and wait.
    pub fn start<'scope>(scope: &'scope Scope<'scope, '_>, plan: &'scope Plan) -> Self {
        let size = plan.threads();
        let orders = watch::Sender::new(Orders::default());
        let (sender, words) = mpsc::channel(usize::try_from(size).unwrap_or(1).max(1));
        for index in 0..size {
            let (sender, receiver) = (sender.clone(), orders.subscribe());
            scope.spawn(move || work(plan, index, receiver, &sender));
        }
        Self { size, orders, words, pending: size }
    }

    /// Waits until all have their connections.
    pub async fn connected(&mut self) -> Result<(), Failure> {
        for _ in 0..self.size {
            match self.words.recv().await {
                Some(Word::Connected(result)) => result?,
                Some(Word::Finished) | None => break,
            }
        }
        Ok(())
    }

    /// Begins a run on all threads.
    pub fn begin(&mut self, schedule: Schedule, stop: Stop) -> Arc<Load> {
        let lanes = usize::try_from(self.size).unwrap_or(1);
        let load = Arc::new(Load::new(schedule, stop, lanes, Instant::now()));
        self.pending = self.size;
        self.orders.send_modify(|orders| orders.load = Some(Arc::clone(&load)));
        load
    }

    /// Waits until the run has ended on all threads. Cancel safe.
    pub async fn finished(&mut self) {
        while self.pending > 0 {
            match self.words.recv().await {
                Some(Word::Finished) => self.pending -= 1,
                Some(Word::Connected(_)) => {}
                None => return,
            }
        }
    }

    /// Drops the calls in flight and waits until the run has ended.
    pub async fn interrupt(&mut self) {
        self.orders.send_modify(|orders| orders.interrupted = true);
        self.finished().await;
    }
}

fn work(plan: &Plan, index: u32, mut orders: watch::Receiver<Orders>, words: &mpsc::Sender<Word>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::new(Exit::Failed, format!("cannot start a thread's runtime: {error}"));
            let _ = words.blocking_send(Word::Connected(Err(failure)));
            return;
        }
    };
    let threads = plan.threads();
    let workers = usize::try_from(share(plan.concurrency, threads, index)).unwrap_or(1);
    runtime.block_on(async {
        let caller = Caller::connect(plan, share(plan.connections, threads, index)).await;
        let (caller, result) = match caller {
            Ok(caller) => (Some(caller), Ok(())),
            Err(failure) => (None, Err(failure)),
        };
        // Gone only if the command has failed elsewhere.
        let _ = words.send(Word::Connected(result)).await;
        let Some(caller) = caller else { return };
        while orders.changed().await.is_ok() {
            let now = orders.borrow_and_update().clone();
            let (Some(load), false) = (now.load, now.interrupted) else { return };
            let mut interrupts = orders.clone();
            let interrupt = async {
                // An error is the end of the command: the same.
                let _ = interrupts.wait_for(|orders| orders.interrupted).await;
            };
            let lane = usize::try_from(index).unwrap_or(0);
            load.drive(lane, workers, async |_| caller.call().await, interrupt).await;
            let _ = words.send(Word::Finished).await;
        }
    });
}

/// The connections of one thread.
struct Caller<'a> {
    plan: &'a Plan,
    way: Way<'a>,
    connections: u32,
}

enum Way<'a> {
    /// One server.
    One(Lines),
    /// Instances in turn; each gets its connections when it is first called.
    Fleet { fleet: &'a Fleet, lines: RefCell<HashMap<usize, Rc<Lines>>>, opening: Mutex<()> },
}

/// The connections to one server.
struct Lines {
    kind: LineKind,
    // Not the number of the call: two threads take turns, and would each use half of their connections.
    next: Cell<usize>,
}

enum LineKind {
    /// gRPC's unary calls, prepared once.
    Raw { client: Box<HttpClient>, call: Box<RawCall>, connections: Vec<RefCell<RawConnection>> },
    /// Everything else.
    Clients(Vec<Client>),
}

impl Lines {
    async fn open(plan: &Plan, connector: &Connector, connections: u32) -> Result<Self, Ending> {
        let kind = if let Some(target) = plan.raw_target(connector) {
            let client = Box::new(HttpClient::new(target.clone(), Shutdown::new()));
            let call = Box::new(client.prepare(&plan.method.path, &plan.messages[0], &plan.options));
            let mut lines = Vec::new();
            for _ in 0..connections {
                lines.push(RefCell::new(client.raw_connection().await?));
            }
            LineKind::Raw { client, call, connections: lines }
        } else {
            LineKind::Clients((0..connections).map(|_| connector.client(Shutdown::new())).collect())
        };
        Ok(Self { kind, next: Cell::new(0) })
    }

    fn turn(&self, of: usize) -> usize {
        let turn = self.next.get();
        self.next.set(turn.wrapping_add(1));
        turn % of
    }
}

impl<'a> Caller<'a> {
    async fn connect(plan: &'a Plan, connections: u32) -> Result<Self, Failure> {
        let way = match &plan.fleet {
            Some(fleet) => Way::Fleet { fleet, lines: RefCell::default(), opening: Mutex::new(()) },
            None => Way::One(Lines::open(plan, &plan.connector, connections).await.map_err(|ending| {
                let message = format!("cannot reach {} — {}", plan.url, ending.status.message);
                Failure::new(Exit::Unreachable, message)
            })?),
        };
        Ok(Self { plan, way, connections })
    }

    /// One call, from its start to its end.
    async fn call(&self) -> Outcome {
        let limit = self.plan.options.timeout.unwrap_or(Duration::MAX);
        let call = async {
            match &self.way {
                Way::One(lines) => self.call_on(lines).await,
                Way::Fleet { fleet, lines, opening } => {
                    let member = fleet.pick()?;
                    let result = match self.lines_of(&member, lines, opening).await {
                        Ok(lines) => self.call_on(&lines).await,
                        Err(ending) => Err(ending),
                    };
                    let reached = !matches!(&result, Err(ending) if ending.cause == Cause::Unreachable);
                    fleet.note(&member, reached);
                    result
                }
            }
        };
        let ending = match timeout(limit, call).await {
            Ok(Ok(done)) => return done,
            Ok(Err(ending)) => ending,
            Err(_) => return Outcome::Failed("timeout".into()),
        };
        if ending.cause == Cause::Unreachable {
            tokio::time::sleep(PAUSE_WITHOUT_CONNECTION).await;
        }
        Outcome::Failed(class(&ending))
    }

    /// The connections to an instance, opened by the first who needs them.
    async fn lines_of(
        &self,
        member: &Arc<Member>,
        lines: &RefCell<HashMap<usize, Rc<Lines>>>,
        opening: &Mutex<()>,
    ) -> Result<Rc<Lines>, Box<Ending>> {
        // The fleet keeps its members: the address stays theirs.
        let key = Arc::as_ptr(member).addr();
        let known = || lines.borrow().get(&key).map(Rc::clone);
        if let Some(known) = known() {
            return Ok(known);
        }
        let _one = opening.lock().await;
        if let Some(known) = known() {
            return Ok(known);
        }
        let opened = Lines::open(self.plan, &member.remote.connector, self.connections.max(1)).await;
        let opened = Rc::new(opened.map_err(Box::new)?);
        lines.borrow_mut().insert(key, Rc::clone(&opened));
        Ok(opened)
    }

    async fn call_on(&self, lines: &Lines) -> Result<Outcome, Box<Ending>> {
        match &lines.kind {
            LineKind::Raw { client, call, connections } => {
                let slot = &connections[lines.turn(connections.len())];
                self.raw(client, call, slot).await
            }
            LineKind::Clients(clients) => self.general(&clients[lines.turn(clients.len())]).await,
        }
    }

    async fn raw(
        &self,
        client: &HttpClient,
        call: &RawCall,
        slot: &RefCell<RawConnection>,
    ) -> Result<Outcome, Box<Ending>> {
        let mut connection = slot.borrow().clone();
        match connection.call(call).await {
            Ok(bytes) => Ok(Outcome::Done { messages: 1, bytes: count(call.request_bytes() + bytes) }),
            Err(ending) => {
                // The next call gets a new connection, if there is one to be had.
                if ending.cause == Cause::Unreachable
                    && let Ok(fresh) = client.raw_connection().await
                {
                    *slot.borrow_mut() = fresh;
                }
                Err(ending)
            }
        }
    }

    async fn general(&self, client: &Client) -> Result<Outcome, Box<Ending>> {
        let Plan { method, options, .. } = self.plan;
        let filled = self.filled()?;
        let messages = filled.as_deref().unwrap_or(&self.plan.messages);
        let sent: usize = messages.iter().map(Bytes::len).sum();
        let path = &method.path;
        if method.kind == Kind::Unary {
            let reply = client.unary(path, &messages[0], options).await;
            return match reply.message {
                Some(message) if reply.ending.status.is_ok() => {
                    Ok(Outcome::Done { messages: 1, bytes: count(sent + message.len()) })
                }
                Some(_) | None => Err(Box::new(reply.ending)),
            };
        }
        let (mut received, mut bytes) = (0, sent);
        let mut receiver = if method.kind.client_streams() {
            let (mut sender, mut receiver) =
                client.stream(path, method.kind, options).await.map_err(Box::new)?;
            let send = async {
                for message in messages {
                    if sender.send(message).await.is_err() {
                        // The server has ended the call: the receiver knows how.
                        return;
                    }
                }
                sender.finish().await;
            };
            // Both at once: a server that answers before it has read everything must not fill up.
            let read = async {
                while let Some(message) = receiver.message().await {
                    received += 1;
                    bytes += message.len();
                }
            };
            tokio::join!(send, read);
            receiver
        } else {
            client.server_stream(path, &messages[0], options).await.map_err(Box::new)?
        };
        while let Some(message) = receiver.message().await {
            received += 1;
            bytes += message.len();
        }
        let ending = receiver.end().await;
        if ending.status.is_ok() {
            Ok(Outcome::Done { messages: received, bytes: count(bytes) })
        } else {
            Err(Box::new(ending))
        }
    }
}

impl Caller<'_> {
    /// The messages of this call, if each has its own.
    fn filled(&self) -> Result<Option<Vec<Bytes>>, Box<Ending>> {
        let Some(template) = &self.plan.template else { return Ok(None) };
        let request = Request { method: &self.plan.method, format: self.plan.options.format };
        let messages = template.next(&request).map_err(|failure| {
            Box::new(Ending::given_up(Status::new(Code::InvalidArgument, failure.message)))
        })?;
        if !self.plan.method.kind.client_streams() {
            return Ok(Some(messages));
        }
        Ok(Some((0..self.plan.repeat).flat_map(|_| messages.iter().cloned()).collect()))
    }
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// What an ending is counted as.
fn class(ending: &Ending) -> std::borrow::Cow<'static, str> {
    match ending.cause {
        Cause::Answered => ending.status.code.name().into(),
        Cause::Unreachable => "unreachable".into(),
        Cause::Deadline => "timeout".into(),
        Cause::GivenUp => "given up".into(),
        Cause::Malformed => "malformed answer".into(),
        Cause::Foreign(status) => format!("HTTP {}", status.as_u16()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_differ_by_one_at_most() {
        for (total, parts) in [(1, 1), (7, 2), (100, 3), (3, 3)] {
            let shares: Vec<u32> = (0..parts).map(|index| share(total, parts, index)).collect();
            assert_eq!(shares.iter().sum::<u32>(), total);
            assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
        }
    }
}
