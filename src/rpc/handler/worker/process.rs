//! One worker process: started, fed, heard, and started again when it ends.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::Slot;
use super::line::{self, Answer};
use crate::exec::{KILL_AFTER, Process, Program};
use crate::rpc::handler::contract::add_metadata;
use crate::rpc::handler::pipes::{Complaints, Output};
use crate::rpc::{Code, Status};
use crate::shutdown::{Phase, Shutdown};

/// Lines that wait for the worker to read; then calls wait.
const LINES_MAX: usize = 1024;
/// And their bytes: lines of calls that were given up meanwhile are among them.
const LINES_BYTES_MAX: usize = 64 << 20;

/// Lines written at once.
const BATCH_LINES: usize = 256;

/// A caller that does not take a reply for so long holds up all others of the worker: it is cut off.
const STALL_MAX: Duration = Duration::from_secs(5);

/// Until a worker that ended is started again: doubled each time, and forgotten after it lived for `STABLE_AFTER`.
const RESTART_FIRST: Duration = Duration::from_millis(100);
const RESTART_MAX: Duration = Duration::from_secs(10);
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// A running process, as calls see it.
#[derive(Debug)]
pub struct Live {
    lines: mpsc::Sender<Line>,
    /// Room for bytes of lines, each a permit.
    room: Arc<Semaphore>,
    calls: Mutex<Calls>,
    load: AtomicUsize,
    idle: Notify,
}

/// A line on its way to the worker, and the room that it takes.
#[derive(Debug)]
pub struct Line {
    bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

/// Room for a line.
pub struct Room<'a> {
    bytes: OwnedSemaphorePermit,
    place: mpsc::Permit<'a, Line>,
}

impl Room<'_> {
    /// Sends the line that it was asked for.
    pub fn send(self, line: Bytes) {
        self.place.send(Line { bytes: line, _room: Some(self.bytes) });
    }
}

#[derive(Debug, Default)]
struct Calls {
    // Ids grow, so the first is the oldest.
    waiting: BTreeMap<u64, Waiting>,
    ended: Option<Status>,
}

#[derive(Debug)]
enum Waiting {
    One { sender: oneshot::Sender<Answer>, headers: HeaderMap },
    Many(mpsc::Sender<Answer>),
}

impl Live {
    fn new(lines: mpsc::Sender<Line>) -> Self {
        Self {
            lines,
            room: Arc::new(Semaphore::new(LINES_BYTES_MAX)),
            calls: Mutex::default(),
            load: AtomicUsize::new(0),
            idle: Notify::new(),
        }
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room for `line`. Cancel safe.
    ///
    /// # Errors
    /// The worker has ended.
    pub async fn room_for(&self, line: &Bytes) -> Result<Room<'_>, Status> {
        let size = u32::try_from(line.len().min(LINES_BYTES_MAX)).unwrap_or(u32::MAX);
        let bytes = Arc::clone(&self.room).acquire_many_owned(size).await;
        let place = self.lines.reserve().await;
        match (bytes, place) {
            (Ok(bytes), Ok(place)) => Ok(Room { bytes, place }),
            _ => Err(self.ended()),
        }
    }

    /// Sends `line` if there is room for it now.
    pub fn try_send(&self, line: Bytes) {
        // Short, and as many as there are places at most.
        let _ = self.lines.try_send(Line { bytes: line, _room: None });
    }

    /// Calls in progress.
    pub fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// The answer to call `id` goes to `sender`.
    ///
    /// # Errors
    /// The worker has ended meanwhile.
    pub fn expect_one(&self, id: u64, sender: oneshot::Sender<Answer>) -> Result<(), Status> {
        self.expect(id, Waiting::One { sender, headers: HeaderMap::new() })
    }

    /// The answers to call `id` go to `sender`.
    ///
    /// # Errors
    /// The worker has ended meanwhile.
    pub fn expect_many(&self, id: u64, sender: mpsc::Sender<Answer>) -> Result<(), Status> {
        self.expect(id, Waiting::Many(sender))
    }

    fn expect(&self, id: u64, waiting: Waiting) -> Result<(), Status> {
        let mut calls = self.calls();
        if let Some(status) = &calls.ended {
            return Err(status.clone());
        }
        calls.waiting.insert(id, waiting);
        self.load.store(calls.waiting.len(), Ordering::Relaxed);
        Ok(())
    }

    /// Takes a call off the list; false if it was not on it.
    pub fn forget(&self, id: u64) -> bool {
        let mut calls = self.calls();
        let known = calls.waiting.remove(&id).is_some();
        self.counted(&calls);
        known
    }

    fn counted(&self, calls: &Calls) {
        self.load.store(calls.waiting.len(), Ordering::Relaxed);
        if calls.waiting.is_empty() {
            self.idle.notify_waiters();
        }
    }

    /// Why there is no answer.
    pub fn ended(&self) -> Status {
        let slow = || Status::new(Code::ResourceExhausted, "the caller took too long to take the replies");
        self.calls().ended.clone().unwrap_or_else(slow)
    }

    /// All calls fail with `status`; there will be no more.
    fn end(&self, status: Status) {
        let mut calls = self.calls();
        calls.ended = Some(status);
        calls.waiting.clear();
        self.counted(&calls);
    }

    /// Gives a line to the call it answers.
    async fn dispatch(&self, line: &Bytes) {
        let (id, mut answer) = match line::parse(line) {
            Ok(parsed) => parsed,
            Err((id, error)) => {
                let start = String::from_utf8_lossy(&line[..line.len().min(80)]);
                let text = format!("the worker printed what is not an answer ({error}): {start}");
                tracing::warn!(target: "bandy::handler", "{text}");
                let error = serde_json::json!({ "code": "INTERNAL", "message": text });
                (id, Answer { error: Some(error), ..Answer::default() })
            }
        };
        let slow = {
            let mut calls = self.calls();
            let Some(id) = id.or_else(|| calls.waiting.keys().next().copied()) else { return };
            match calls.waiting.remove(&id) {
                // An answer to a call that was cancelled, most likely.
                None => None,
                Some(Waiting::One { sender, mut headers }) => {
                    add_metadata(&mut headers, std::mem::take(&mut answer.headers));
                    if answer.ends_unary() {
                        self.counted(&calls);
                        let _ = sender.send(Answer { headers, ..answer });
                    } else {
                        calls.waiting.insert(id, Waiting::One { sender, headers });
                    }
                    None
                }
                Some(Waiting::Many(sender)) => {
                    if answer.ends_stream() {
                        self.counted(&calls);
                    } else {
                        calls.waiting.insert(id, Waiting::Many(sender.clone()));
                    }
                    match sender.try_send(answer) {
                        Err(mpsc::error::TrySendError::Full(answer)) => Some((id, sender, answer)),
                        Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
                    }
                }
            }
        };
        if let Some((id, sender, answer)) = slow
            && sender.send_timeout(answer, STALL_MAX).await.is_err()
            && self.forget(id)
        {
            self.try_send(line::cancel(id));
        }
    }

    async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.calls().waiting.is_empty() {
                return;
            }
            idle.await;
        }
    }
}

/// The duty to keep one process running.
#[derive(Debug)]
pub struct Post {
    pub number: usize,
    pub program: Program,
    pub slot: Arc<Slot>,
    pub running: watch::Sender<usize>,
    pub line_bytes_max: usize,
    pub shutdown: Shutdown,
}

impl Post {
    /// Starts the first process, and keeps one there from now on.
    ///
    /// # Errors
    /// It cannot be started. Later failures are logged and tried again.
    pub fn staff(self) -> io::Result<()> {
        let process = self.spawn()?;
        let (live, lines) = self.enter();
        let shutdown = self.shutdown.clone();
        shutdown.spawn(async move {
            let mut words = self.work(process, &live, lines).await;
            let mut delay = RESTART_FIRST;
            let mut began = Instant::now();
            loop {
                if began.elapsed() > STABLE_AFTER {
                    delay = RESTART_FIRST;
                }
                if self.shutdown.phase() != Phase::Running {
                    return;
                }
                tracing::warn!(target: "bandy::handler", "worker {}: {words}; starting it again in {delay:?}", self.number);
                tokio::select! {
                    () = self.shutdown.draining() => return,
                    () = tokio::time::sleep(delay) => {}
                }
                delay = (delay * 2).min(RESTART_MAX);
                began = Instant::now();
                words = match self.spawn() {
                    Ok(process) => {
                        let (live, lines) = self.enter();
                        self.work(process, &live, lines).await
                    }
                    Err(error) => format!("cannot be started: {error}"),
                };
            }
        });
        Ok(())
    }

    fn spawn(&self) -> io::Result<Process> {
        let variables = [(OsString::from("BANDY_WORKER"), OsString::from(self.number.to_string()))];
        Process::spawn(&self.program, variables, &self.shutdown)
    }

    fn enter(&self) -> (Arc<Live>, mpsc::Receiver<Line>) {
        let (sender, lines) = mpsc::channel(LINES_MAX);
        let live = Arc::new(Live::new(sender));
        self.slot.set(Some(Arc::clone(&live)));
        self.running.send_modify(|count| *count += 1);
        (live, lines)
    }

    /// Runs the process to its end and says how it ended.
    async fn work(&self, mut process: Process, live: &Arc<Live>, lines: mpsc::Receiver<Line>) -> String {
        let stdin = process.stdin.take();
        let mut output = Output::new(process.stdout.take());
        let mut complaints = Complaints::new(process.stderr.take(), format!("worker {}", self.number));
        let leaving = async {
            self.shutdown.draining().await;
            live.idle().await;
        };
        let mut why = tokio::select! {
            // What it printed before it stopped reading is still heard.
            () = async { feed(stdin, lines).await; tokio::time::sleep(KILL_AFTER).await } => "it reads no more".to_owned(),
            why = hear(&mut output, live, self.line_bytes_max) => why,
            () = async { while complaints.is_open() { complaints.read().await; } std::future::pending().await } => String::new(),
            () = leaving => "the server stops".to_owned(),
        };
        // Nobody is sent here any more; what was not answered will not be.
        self.slot.set(None);
        self.running.send_modify(|count| *count -= 1);
        // Its input is closed: a worker that ends by itself gets the time to.
        if let Ok(Ok(exit)) = tokio::time::timeout(KILL_AFTER, process.wait()).await
            && !exit.success()
        {
            why = exit.to_string();
        }
        let words = complaints.finish();
        let why = if words.is_empty() { why } else { format!("{why}: {words}") };
        *self.slot.last_words.lock().unwrap_or_else(PoisonError::into_inner) = why.clone();
        live.end(Status::new(Code::Unavailable, format!("the worker ended: {why}")));
        why
    }
}

/// Writes lines, as many as there are at once. Returns when the worker reads no more.
async fn feed(stdin: Option<ChildStdin>, mut lines: mpsc::Receiver<Line>) {
    let Some(mut stdin) = stdin else { return };
    let mut batch = Vec::with_capacity(BATCH_LINES);
    let mut bytes = Vec::new();
    while lines.recv_many(&mut batch, BATCH_LINES).await > 0 {
        bytes.clear();
        batch.drain(..).for_each(|line| bytes.extend_from_slice(&line.bytes));
        if stdin.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Dispatches lines until there are no more, and says why.
async fn hear(output: &mut Output, live: &Live, line_bytes_max: usize) -> String {
    let mut buffer = BytesMut::new();
    let mut scanned = 0;
    while output.is_open() {
        output.read(&mut buffer).await;
        while let Some(end) = buffer[scanned..].iter().position(|&byte| byte == b'\n') {
            let line = buffer.split_to(scanned + end + 1).freeze();
            scanned = 0;
            let text = line.slice_ref(line.trim_ascii());
            if !text.is_empty() {
                live.dispatch(&text).await;
            }
        }
        scanned = buffer.len();
        if scanned > line_bytes_max {
            return format!("it printed a line of more than {line_bytes_max} bytes");
        }
    }
    "it ended".to_owned()
}
