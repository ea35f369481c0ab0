//! Unary calls over datagrams: the engine decides when to send again, one task owns the socket.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::{Notify, OnceCell, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::{CallOptions, DESCRIPTION_SIZE_MAX, Table, failed, unanswered, unary_reply};
use crate::rpc::client::{Cause, Ending, UnaryReply};
use crate::rpc::compact::engine::{Caller, CallerInput, CallerLimits, CallerOutput, NewCall};
use crate::rpc::compact::server::unguessable;
use crate::rpc::compact::wire::{Description, Frame, Kind, Piece, pairs};
use crate::rpc::status::Code;
use crate::shutdown::Shutdown;
use crate::transport::Datagrams;
use crate::transport::udp::DATAGRAM_BYTES_MAX;
use crate::wait::until;

/// Calls that wait to be taken by the socket's task.
const COMMANDS_MAX: usize = 256;
/// Bytes of a datagram that are not the request and its metadata.
const OVERHEAD: usize = 128;
/// A question for a piece of the description is padded to this; the piece is at most as long.
const DESCRIBE_SIZE: usize = 1200;
/// A piece that has not come after so long is asked for again.
const DESCRIBE_AGAIN: Duration = Duration::from_millis(250);
/// So often.
const DESCRIBE_TRIES_MAX: u32 = 12;

enum Command {
    Call(NewCall, oneshot::Sender<UnaryReply>),
    Describe(Vec<u8>, oneshot::Sender<io::Result<Frame>>),
}

struct Shared {
    next: AtomicU64,
    cancelled: Mutex<Vec<u64>>,
    wake: Notify,
    table: OnceCell<Arc<Table>>,
}

/// A client of one server over UDP. Clones share a socket.
#[derive(Clone)]
pub struct DatagramClient {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

fn closed() -> Ending {
    failed(Code::Unavailable, "the client is closed", Cause::Unreachable, false)
}

impl DatagramClient {
    /// A client over a connected `socket`.
    pub fn new(socket: Datagrams, shutdown: &Shutdown) -> Self {
        let shared = Shared {
            next: AtomicU64::new(1),
            cancelled: Mutex::default(),
            wake: Notify::new(),
            table: OnceCell::new(),
        };
        let shared = Arc::new(shared);
        let (commands, queue) = mpsc::channel(COMMANDS_MAX);
        shutdown.spawn(run(socket, Arc::clone(&shared), queue));
        Self { shared, commands }
    }

    /// Makes a unary call of the method with that Call ID: executed at most once, unless the options say
    /// at least once.
    pub async fn unary(&self, method: u32, message: Bytes, options: &CallOptions) -> UnaryReply {
        let metadata = pairs(&options.metadata);
        let size = message.len() + metadata.iter().map(prost::Message::encoded_len).sum::<usize>() + OVERHEAD;
        if size > DATAGRAM_BYTES_MAX {
            let text = format!(
                "a request of {size} bytes does not fit into a datagram of {DATAGRAM_BYTES_MAX}: use tcp://"
            );
            return unanswered(failed(Code::ResourceExhausted, text, Cause::GivenUp, true));
        }
        let now = Instant::now();
        let handle = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let call = NewCall {
            handle,
            method,
            message,
            metadata,
            deadline: options.timeout.and_then(|limit| now.checked_add(limit)).map(Instant::into_std),
            at_least_once: options.at_least_once,
        };
        let (sender, receiver) = oneshot::channel();
        if self.commands.send(Command::Call(call, sender)).await.is_err() {
            return unanswered(closed());
        }
        let guard = CancelOnDrop { shared: &self.shared, handle };
        let reply = receiver.await.unwrap_or_else(|_| unanswered(closed()));
        std::mem::forget(guard);
        reply
    }

    /// The Call ID table and the types, fetched once, piece by piece.
    ///
    /// # Errors
    /// The server does not answer, or what it answers is broken.
    pub async fn table(&self) -> Result<Arc<Table>, Ending> {
        self.shared.table.get_or_try_init(|| self.fetch_table()).await.map(Arc::clone)
    }

    /// The Call ID that the server has for `package.Service/Method`.
    ///
    /// # Errors
    /// Those of [`DatagramClient::table`].
    pub async fn method(&self, path: &str) -> Result<u32, Ending> {
        Ok(self.table().await?.call_id(path))
    }

    /// Waits until the server has answered one question.
    ///
    /// # Errors
    /// It does not.
    pub async fn reach(&self) -> Result<(), Ending> {
        self.piece(0).await.map(drop)
    }

    async fn fetch_table(&self) -> Result<Arc<Table>, Ending> {
        let broken = |text: &str| failed(Code::Internal, text, Cause::Malformed, true);
        let (mut whole, mut hash) = (Vec::new(), None);
        loop {
            let piece = self.piece(u32::try_from(whole.len()).unwrap_or(u32::MAX)).await?;
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
        }
    }

    async fn piece(&self, offset: u32) -> Result<Piece, Ending> {
        for _ in 0..DESCRIBE_TRIES_MAX {
            let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
            let piece = Some(Box::new(Piece { offset, ..Piece::default() }));
            let mut frame = Frame { piece, ..Frame::new(Kind::Describe, number) };
            frame.padding = vec![0; DESCRIBE_SIZE].into();
            let (sender, receiver) = oneshot::channel();
            let command = Command::Describe(frame.datagram(), sender);
            self.commands.send(command).await.map_err(|_| closed())?;
            let answer = match timeout(DESCRIBE_AGAIN, receiver).await {
                Ok(Ok(Err(error))) => return Err(Ending::nobody(&error)),
                Ok(Ok(Ok(frame))) => Some(frame),
                Ok(Err(_)) | Err(_) => None,
            };
            if let Some(frame) = answer
                && let Some(piece) = frame.piece
                && piece.offset == offset
                && (!piece.bytes.is_empty() || piece.total == offset)
            {
                return Ok(*piece);
            }
        }
        let text = format!("no answer to {DESCRIBE_TRIES_MAX} datagrams: nobody is there, or they are lost");
        Err(failed(Code::Unavailable, text, Cause::Unreachable, true))
    }
}

/// Cancels a call whose future is dropped before its answer.
struct CancelOnDrop<'a> {
    shared: &'a Shared,
    handle: u64,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        self.shared.cancelled.lock().unwrap_or_else(PoisonError::into_inner).push(self.handle);
        self.shared.wake.notify_one();
    }
}

async fn run(socket: Datagrams, shared: Arc<Shared>, mut commands: mpsc::Receiver<Command>) {
    let mut caller = Caller::new(CallerLimits::default(), unguessable());
    let mut waiting: HashMap<u64, oneshot::Sender<UnaryReply>> = HashMap::new();
    let mut describing: Option<oneshot::Sender<io::Result<Frame>>> = None;
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let mut outputs = Vec::new();
    loop {
        let deadline = caller.deadline().map(Instant::from_std);
        let mut inputs = Vec::new();
        tokio::select! {
            command = commands.recv() => match command {
                None => return,
                Some(Command::Call(call, sender)) => {
                    waiting.insert(call.handle, sender);
                    inputs.push(CallerInput::Call(call));
                }
                Some(Command::Describe(datagram, sender)) => {
                    describing = Some(sender);
                    // A question that is lost is asked again.
                    let _ = socket.send(&datagram).await;
                }
            },
            received = socket.recv(&mut buffer) => {
                match received.map(|size| Frame::from_datagram(&buffer[..size])) {
                    Ok(Ok(frame)) if frame.kind == Kind::Description as i32 => {
                        if let Some(sender) = describing.take() {
                            let _ = sender.send(Ok(frame));
                        }
                    }
                    Ok(Ok(frame)) => inputs.push(CallerInput::Datagram(Box::new(frame))),
                    // Anybody's: it is the end of nothing.
                    Ok(Err(_)) => {}
                    // ICMP: nobody listens there.
                    Err(error) => {
                        inputs.push(CallerInput::Refused);
                        if let Some(sender) = describing.take() {
                            let _ = sender.send(Err(error));
                        }
                    }
                }
            }
            () = shared.wake.notified() => {
                let cancelled =
                    std::mem::take(&mut *shared.cancelled.lock().unwrap_or_else(PoisonError::into_inner));
                inputs.extend(cancelled.into_iter().map(CallerInput::Cancel));
            }
            () = until(deadline) => {
                inputs.push(CallerInput::Tick);
            }
        }
        for input in inputs {
            caller.handle(Instant::now().into_std(), input, &mut outputs);
        }
        for output in outputs.drain(..) {
            match output {
                CallerOutput::Send(datagram) => {
                    // A datagram that is lost here is sent again like one lost on the way.
                    let _ = socket.send(&datagram).await;
                }
                CallerOutput::Answered(handle, frame) => answer(&mut waiting, handle, unary_reply(*frame)),
                CallerOutput::Unanswered(handle, why) => {
                    let cause = match why.status.code {
                        Code::DeadlineExceeded => Cause::Deadline,
                        _ => Cause::Unreachable,
                    };
                    let ending = failed(why.status.code, why.status.message, cause, why.untouched);
                    answer(&mut waiting, handle, unanswered(ending));
                }
            }
        }
        waiting.retain(|_, sender| !sender.is_closed());
    }
}

fn answer(waiting: &mut HashMap<u64, oneshot::Sender<UnaryReply>>, handle: u64, reply: UnaryReply) {
    if let Some(sender) = waiting.remove(&handle) {
        // Who has given up needs no answer.
        drop(sender.send(reply));
    }
}
