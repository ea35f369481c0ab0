//! One connection: many calls at a time, written together, answered in any order.

mod stream;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, OnceCell, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::{CallOptions, DESCRIPTION_SIZE_MAX, Table, answered, failed, unanswered, unary_reply};
use crate::rpc::client::{Cause, Closed, Ending, UnaryReply};
use crate::rpc::compact::flow::{Inbox, InboxSender, Window, cost, inbox};
use crate::rpc::compact::wire::{
    Description, Frame, Hello, Kind, OVERHEAD_SIZE_MAX, PREFACE, Piece, WireError, metadata, next_frame,
    pairs, take_preface,
};
use crate::rpc::status::{Code, Status};
use crate::shutdown::Shutdown;

pub use stream::{Receiver, Sender};

/// Frames that wait to be written.
const COMMANDS_MAX: usize = 1024;
/// Over so many bytes that the server has not taken, callers wait.
const OUTPUT_SIZE_MAX: usize = 1 << 20;
/// Bytes that are asked for at a time.
const READ_SIZE: usize = 64 << 10;
/// Bytes of a reply stream that wait for their reader.
const WINDOW: u32 = 256 << 10;
/// The largest reply message that is taken.
const MESSAGE_SIZE_MAX: u32 = 64 << 20;

/// What a call hands to the connection.
enum Command {
    Start {
        request: u64,
        frame: Bytes,
        answer: Answer,
    },
    Frame(Bytes),
    /// The caller breaks a stream off, for this reason.
    GiveUp {
        request: u64,
        status: Status,
    },
}

/// Where the answer to a request goes.
enum Answer {
    Once(oneshot::Sender<Frame>),
    Stream { inbox: InboxSender<Box<Frame>>, window: Arc<Window> },
}

struct Shared {
    next: Mutex<u64>,
    /// Calls that were dropped by who made them.
    cancelled: Mutex<Vec<u64>>,
    wake: Notify,
    /// Why there is no connection any more.
    end: Mutex<Option<String>>,
    hello: Hello,
    permits: Arc<Semaphore>,
    table: OnceCell<Arc<Table>>,
}

/// A client of one server over one connection. Clones share it.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn encoded(frame: &Frame) -> Bytes {
    let mut out = BytesMut::new();
    frame.write(&mut out);
    out.freeze()
}

fn deadline_of(options: &CallOptions) -> Option<Instant> {
    // A limit beyond what the clock can count is none.
    options.timeout.and_then(|limit| Instant::now().checked_add(limit))
}

fn too_late() -> Ending {
    failed(Code::DeadlineExceeded, "no answer before the deadline", Cause::Deadline, false)
}

impl Client {
    /// Greets the server at the other end of `stream` and waits for its greeting, until `deadline`.
    ///
    /// # Errors
    /// The other end does not speak the protocol, leaves, or is silent.
    pub async fn connect<S>(mut stream: S, deadline: Instant, shutdown: &Shutdown) -> Result<Self, Ending>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let greeting = timeout_at(deadline, greet(&mut stream)).await;
        let (hello, input) = match greeting {
            Ok(Ok(greeting)) => greeting,
            Ok(Err(ending)) => return Err(ending),
            Err(_) => {
                return Err(failed(Code::Unavailable, "the server does not greet", Cause::Unreachable, true));
            }
        };
        let permits = Arc::new(Semaphore::new(hello.calls_max.max(1) as usize));
        let shared = Arc::new(Shared {
            next: Mutex::new(1),
            cancelled: Mutex::default(),
            wake: Notify::new(),
            end: Mutex::default(),
            hello,
            permits,
            table: OnceCell::new(),
        });
        let (commands, queue) = mpsc::channel(COMMANDS_MAX);
        let connection = Connection {
            shared: Arc::clone(&shared),
            answers: HashMap::new(),
            input,
            output: BytesMut::new(),
            leaving: false,
        };
        shutdown.spawn(connection.run(stream, queue));
        Ok(Self { shared, commands })
    }

    /// True if no more calls can be made on this connection.
    pub fn is_closed(&self) -> bool {
        self.shared.permits.is_closed() || self.commands.is_closed()
    }

    /// What the server told about itself.
    pub fn hello(&self) -> &Hello {
        &self.shared.hello
    }

    /// Makes a unary call of the method with that Call ID.
    pub async fn unary(&self, method: u32, message: Bytes, options: &CallOptions) -> UnaryReply {
        let deadline = deadline_of(options);
        if let Some(ending) = self.too_large(&message) {
            return unanswered(ending);
        }
        let frame = Frame { message: Some(message), end: true, ..call_frame(method, options) };
        let call = self.ask(frame);
        match deadline {
            None => call.await,
            Some(deadline) => timeout_at(deadline, call).await.unwrap_or_else(|_| unanswered(too_late())),
        }
    }

    /// Sends a request and waits for its one answer; dropping the future cancels the call.
    async fn ask(&self, frame: Frame) -> UnaryReply {
        let _permit = match self.permit().await {
            Ok(permit) => permit,
            Err(ending) => return unanswered(ending),
        };
        let (sender, receiver) = oneshot::channel();
        let request = match self.start(frame, Answer::Once(sender)).await {
            Ok(request) => request,
            Err(ending) => return unanswered(ending),
        };
        let mut guard = CancelOnDrop { shared: &self.shared, request: Some(request) };
        let answer = receiver.await;
        guard.request = None;
        answer.map_or_else(|_| unanswered(self.shared.lost(false)), unary_reply)
    }

    /// Starts a call of a method that takes a stream.
    ///
    /// # Errors
    /// There is no connection any more.
    pub async fn stream(&self, method: u32, options: &CallOptions) -> Result<(Sender, Receiver), Ending> {
        let (receiver, window) = self.open(call_frame(method, options), options).await?;
        let sender = Sender { client: self.clone(), request: receiver.request, window, open: true };
        Ok((sender, receiver))
    }

    /// Makes a call with one request and a stream of replies.
    ///
    /// # Errors
    /// There is no connection any more, or the request is too large.
    pub async fn server_stream(
        &self,
        method: u32,
        message: Bytes,
        options: &CallOptions,
    ) -> Result<Receiver, Ending> {
        if let Some(ending) = self.too_large(&message) {
            return Err(ending);
        }
        let frame = Frame { message: Some(message), end: true, ..call_frame(method, options) };
        Ok(self.open(frame, options).await?.0)
    }

    /// Starts a call with more than one answer; the window is for its further requests.
    async fn open(&self, frame: Frame, options: &CallOptions) -> Result<(Receiver, Arc<Window>), Ending> {
        let deadline = deadline_of(options);
        let permit = self.permit().await?;
        let (sender, inbox) = inbox(WINDOW);
        let window = Window::new(self.shared.hello.window);
        let request =
            self.start(frame, Answer::Stream { inbox: sender, window: Arc::clone(&window) }).await?;
        let receiver = Receiver {
            client: self.clone(),
            request,
            inbox,
            deadline,
            headers: None,
            next: None,
            ending: None,
            _permit: permit,
        };
        Ok((receiver, window))
    }

    /// The Call ID table and the types, fetched once per connection.
    ///
    /// # Errors
    /// The connection broke, or the description is broken or too large.
    pub async fn table(&self) -> Result<Arc<Table>, Ending> {
        self.shared.table.get_or_try_init(|| self.fetch_table()).await.map(Arc::clone)
    }

    /// The Call ID that the server has for `package.Service/Method`.
    ///
    /// # Errors
    /// Those of [`Client::table`].
    pub async fn method(&self, path: &str) -> Result<u32, Ending> {
        Ok(self.table().await?.call_id(path))
    }

    async fn fetch_table(&self) -> Result<Arc<Table>, Ending> {
        let broken = |text: &str| failed(Code::Internal, text, Cause::Malformed, true);
        let mut whole = Vec::new();
        let mut hash = None;
        loop {
            let offset = u32::try_from(whole.len()).unwrap_or(u32::MAX);
            let piece = Some(Box::new(Piece { offset, ..Piece::default() }));
            let (sender, receiver) = oneshot::channel();
            self.start(Frame { piece, ..Frame::new(Kind::Describe, 0) }, Answer::Once(sender)).await?;
            let frame = receiver.await.map_err(|_| self.shared.lost(true))?;
            let piece = frame.piece.ok_or_else(|| broken("a description without a piece"))?;
            if piece.total > DESCRIPTION_SIZE_MAX {
                return Err(broken("the description is too large"));
            }
            if *hash.get_or_insert(piece.hash) != piece.hash {
                // It changed while it was being fetched.
                (hash, whole) = (None, Vec::new());
                continue;
            }
            whole.extend_from_slice(&piece.bytes);
            if whole.len() >= piece.total as usize {
                let description =
                    Description::decode(&whole[..]).map_err(|_| broken("the description is broken"))?;
                return Ok(Arc::new(Table::new(piece.hash, description)));
            }
            if piece.bytes.is_empty() {
                return Err(broken("the description has an empty piece"));
            }
        }
    }

    /// Sends a ping and waits for its pong.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn ping(&self) -> Result<Duration, Ending> {
        let (sender, receiver) = oneshot::channel();
        let since = Instant::now();
        self.start(Frame::new(Kind::Ping, 0), Answer::Once(sender)).await?;
        receiver.await.map_err(|_| self.shared.lost(true))?;
        Ok(since.elapsed())
    }

    fn too_large(&self, message: &Bytes) -> Option<Ending> {
        let (size, size_max) = (message.len(), self.shared.hello.message_size_max);
        (size > size_max as usize).then(|| {
            let text = format!("a request of {size} bytes is over the server's limit of {size_max}");
            failed(Code::ResourceExhausted, text, Cause::GivenUp, true)
        })
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Ending> {
        Arc::clone(&self.shared.permits).acquire_owned().await.map_err(|_| self.shared.lost(true))
    }

    /// Numbers a request and hands it to the connection. Numbers rise in the order of writing.
    async fn start(&self, mut frame: Frame, answer: Answer) -> Result<u64, Ending> {
        let permit = self.commands.reserve().await.map_err(|_| self.shared.lost(true))?;
        let mut next = lock(&self.shared.next);
        let request = *next;
        *next += 1;
        frame.request = request;
        permit.send(Command::Start { request, frame: encoded(&frame), answer });
        Ok(request)
    }
}

fn call_frame(method: u32, options: &CallOptions) -> Frame {
    let timeout = options.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    Frame { method, timeout_ms: timeout, metadata: pairs(&options.metadata), ..Frame::new(Kind::Call, 0) }
}

impl Shared {
    fn lost(&self, untouched: bool) -> Ending {
        let why = lock(&self.end).clone().unwrap_or_else(|| "the connection is closed".to_owned());
        failed(Code::Unavailable, why, Cause::Unreachable, untouched)
    }

    fn cancel(&self, request: u64) {
        lock(&self.cancelled).push(request);
        self.wake.notify_one();
    }
}

/// Cancels a call whose future is dropped before its answer.
struct CancelOnDrop<'a> {
    shared: &'a Shared,
    request: Option<u64>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(request) = self.request {
            self.shared.cancel(request);
        }
    }
}

async fn greet<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<(Hello, BytesMut), Ending> {
    let gone = |error: std::io::Error| failed(Code::Unavailable, error.to_string(), Cause::Unreachable, true);
    let foreign = |error: WireError| failed(Code::Unavailable, error.to_string(), Cause::Malformed, true);
    let hello = Hello {
        message_size_max: MESSAGE_SIZE_MAX,
        window: WINDOW,
        software: concat!("bandy/", env!("CARGO_PKG_VERSION")).to_owned(),
        ..Hello::default()
    };
    let mut output = BytesMut::from(&PREFACE[..]);
    Frame { hello: Some(Box::new(hello)), ..Frame::new(Kind::Hello, 0) }.write(&mut output);
    stream.write_all(&output).await.map_err(gone)?;
    let mut input = BytesMut::new();
    let mut greeted = false;
    loop {
        if stream.read_buf(&mut input).await.map_err(gone)? == 0 {
            let text = "the server closed the connection instead of a greeting";
            return Err(failed(Code::Unavailable, text, Cause::Malformed, true));
        }
        greeted = greeted || take_preface(&mut input).map_err(foreign)?;
        if greeted && let Some(bytes) = next_frame(&mut input, OVERHEAD_SIZE_MAX).map_err(foreign)? {
            let frame = Frame::parse(bytes).map_err(foreign)?;
            let hello = frame.hello.filter(|_| frame.kind == Kind::Hello as i32);
            let hello = hello.ok_or_else(|| {
                failed(Code::Unavailable, "the server does not greet", Cause::Malformed, true)
            })?;
            return Ok((*hello, input));
        }
    }
}

struct Connection {
    shared: Arc<Shared>,
    answers: HashMap<u64, Answer>,
    input: BytesMut,
    output: BytesMut,
    leaving: bool,
}

impl Connection {
    async fn run<S>(mut self, stream: S, mut commands: mpsc::Receiver<Command>)
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let shared = Arc::clone(&self.shared);
        let mut batch = Vec::new();
        let end = loop {
            if let Err(error) = self.take_input() {
                break error;
            }
            let roomy = self.output.len() < OUTPUT_SIZE_MAX;
            tokio::select! {
                biased;
                count = commands.recv_many(&mut batch, COMMANDS_MAX), if roomy => {
                    if count == 0 {
                        // The last client and the last call are gone.
                        let _ = writer.write_all_buf(&mut self.output).await;
                        break "the connection is closed".to_owned();
                    }
                    batch.drain(..).for_each(|command| self.take_command(command));
                }
                size = writer.write_buf(&mut self.output), if !self.output.is_empty() => {
                    if let Err(error) = size {
                        break format!("the connection broke: {error}");
                    }
                }
                size = read(&mut reader, &mut self.input) => match size {
                    Ok(0) if self.leaving => break "the server is shutting down".to_owned(),
                    Ok(0) => break "the server closed the connection".to_owned(),
                    Ok(_) => {}
                    Err(error) => break format!("the connection broke: {error}"),
                },
                () = shared.wake.notified() => self.cancel(),
            }
        };
        *lock(&shared.end) = Some(end);
        shared.permits.close();
        let _ = writer.shutdown().await;
    }

    fn take_command(&mut self, command: Command) {
        match command {
            Command::Start { request, frame, answer } => {
                self.answers.insert(request, answer);
                self.output.extend_from_slice(&frame);
            }
            Command::Frame(frame) => self.output.extend_from_slice(&frame),
            Command::GiveUp { request, status } => {
                if let Some(Answer::Stream { inbox, .. }) = self.answers.remove(&request) {
                    Frame::new(Kind::Cancel, request).write(&mut self.output);
                    let status = Some(Box::new((&status).into()));
                    inbox.fail(Box::new(Frame { status, ..Frame::new(Kind::Cancel, request) }));
                }
            }
        }
    }

    fn cancel(&mut self) {
        for request in std::mem::take(&mut *lock(&self.shared.cancelled)) {
            if self.answers.remove(&request).is_some() {
                Frame::new(Kind::Cancel, request).write(&mut self.output);
            }
        }
    }

    fn take_input(&mut self) -> Result<(), String> {
        let size_max = MESSAGE_SIZE_MAX as usize + OVERHEAD_SIZE_MAX;
        while let Some(bytes) = next_frame(&mut self.input, size_max).map_err(|error| error.to_string())? {
            self.take_frame(Frame::parse(bytes).map_err(|error| error.to_string())?)?;
        }
        Ok(())
    }

    fn take_frame(&mut self, frame: Frame) -> Result<(), String> {
        let request = frame.request;
        match Kind::try_from(frame.kind).unwrap_or(Kind::Unspecified) {
            Kind::Reply | Kind::Pong | Kind::Description => match self.answers.remove(&request) {
                // Nobody waits for an answer that was given up.
                Some(Answer::Once(sender)) => drop(sender.send(frame)),
                Some(Answer::Stream { inbox, .. }) => inbox.fail(Box::new(frame)),
                None => {}
            },
            Kind::Message => {
                let Some(Answer::Stream { inbox, .. }) = self.answers.get(&request) else { return Ok(()) };
                let overrun = |_| format!("call {request} was sent more than its window allows");
                let mut frame = frame;
                let message = frame.message.take();
                if !frame.metadata.is_empty() {
                    inbox.note(Box::new(frame)).map_err(overrun)?;
                }
                if let Some(message) = message {
                    inbox.push(message, None).map_err(overrun)?;
                }
            }
            Kind::Credit => {
                if let Some(Answer::Stream { window, .. }) = self.answers.get(&request) {
                    window.give(frame.credit);
                }
            }
            Kind::Ping => Frame::new(Kind::Pong, request).write(&mut self.output),
            Kind::GoAway => match frame.status {
                Some(status) => return Err(Status::from(*status).message),
                None => {
                    self.leaving = true;
                    self.shared.permits.close();
                    *lock(&self.shared.end) = Some("the server is shutting down".to_owned());
                }
            },
            // What only a caller sends, only UDP knows, and what later versions may send.
            Kind::Unspecified
            | Kind::Hello
            | Kind::Call
            | Kind::Cancel
            | Kind::Describe
            | Kind::Working
            | Kind::Reject => {}
        }
        Ok(())
    }
}

async fn read(reader: &mut (impl AsyncRead + Unpin), input: &mut BytesMut) -> std::io::Result<usize> {
    input.reserve(READ_SIZE);
    reader.read_buf(input).await
}
