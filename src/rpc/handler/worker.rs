//! Persistent processes that answer many calls each, as lines of JSON.
//!
//! ```text
//! ours   {"id":7,"method":"demo.Greeter/Hello","metadata":{},"message":{"name":"Ada"},"end":true}
//! theirs {"id":7,"message":{"message":"Hello, Ada!"}}
//! ```

pub mod line;
mod process;

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use http::HeaderMap;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::command::deadline_exceeded;
use super::contract::{Dialect, add_metadata, status_from_json};
use crate::exec::Program;
use crate::rpc::{Backend, Body, Call, Code, Event, Method, Payload, Reply, Requests, Schema, Status};
use crate::shutdown::Shutdown;
use crate::wait::until;
use line::Answer;
use process::Live;

/// Replies of one streaming call that wait for its caller.
const REPLIES_MAX: usize = 64;

/// Processes that answer calls. Clones share them.
#[derive(Clone, Debug)]
pub struct Workers(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    slots: Vec<Arc<Slot>>,
    next_slot: AtomicUsize,
    next_call: AtomicU64,
    running: watch::Sender<usize>,
}

/// The place of one process, which may be empty while it is started again.
#[derive(Debug, Default)]
struct Slot {
    live: Mutex<Option<Arc<Live>>>,
    last_words: Mutex<String>,
}

impl Slot {
    fn live(&self) -> Option<Arc<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, live: Option<Arc<Live>>) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = live;
    }
}

impl Workers {
    /// Starts `count` processes of `program` and keeps them running until `shutdown`.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(
        program: &Program,
        count: usize,
        line_bytes_max: usize,
        shutdown: &Shutdown,
    ) -> io::Result<Self> {
        let slots: Vec<Arc<Slot>> = (0..count.max(1)).map(|_| Arc::default()).collect();
        let pool = Arc::new(Pool {
            slots,
            next_slot: AtomicUsize::new(0),
            next_call: AtomicU64::new(1),
            running: watch::Sender::new(0),
        });
        for (number, slot) in (1..).zip(&pool.slots) {
            let post = process::Post {
                number,
                program: program.clone(),
                slot: Arc::clone(slot),
                running: pool.running.clone(),
                line_bytes_max,
                shutdown: shutdown.clone(),
            };
            post.staff()?;
        }
        Ok(Self(pool))
    }

    /// How many processes are running, now and whenever that changes.
    pub fn running(&self) -> watch::Receiver<usize> {
        self.0.running.subscribe()
    }

    /// A backend that gives calls to them. `schema` knows the types of status details.
    pub fn backend(&self, schema: &Arc<Schema>) -> Arc<dyn Backend> {
        Arc::new(WorkerBackend { pool: Arc::clone(&self.0), schema: Arc::clone(schema) })
    }
}

impl Pool {
    /// The process with the fewest calls.
    fn pick(&self) -> Result<Arc<Live>, Status> {
        let start = self.next_slot.fetch_add(1, Ordering::Relaxed);
        let order =
            (0..self.slots.len()).map(|step| &self.slots[(start.wrapping_add(step)) % self.slots.len()]);
        order.filter_map(|slot| slot.live()).min_by_key(|live| live.load()).ok_or_else(|| {
            let words = self.slots[0].last_words.lock().unwrap_or_else(PoisonError::into_inner);
            let text = if words.is_empty() { "it is being started again" } else { words.as_str() };
            Status::new(Code::Unavailable, format!("no worker is running: {text}"))
        })
    }
}

struct WorkerBackend {
    pool: Arc<Pool>,
    schema: Arc<Schema>,
}

impl Backend for WorkerBackend {
    fn call(&self, call: Call) -> BoxFuture<'static, Reply> {
        let id = self.pool.next_call.fetch_add(1, Ordering::Relaxed);
        let live = self.pool.pick();
        let schema = Arc::clone(&self.schema);
        async move {
            let result = match (live, call.method.kind.server_streams()) {
                (Err(status), _) => Err(status),
                (Ok(live), false) if matches!(call.requests, Requests::One(_)) => {
                    unary(&live, id, call, &schema).await
                }
                (Ok(live), streams) => match Conversation::start(live, id, call, schema).await {
                    Err(status) => Err(status),
                    Ok(conversation) if streams => Ok(conversation.reply_stream().await),
                    Ok(conversation) => Ok(conversation.reply_one().await),
                },
            };
            result.unwrap_or_else(Reply::failed)
        }
        .boxed()
    }
}

/// Tells the worker that nobody waits for the answer any more, unless it came.
struct Pending {
    live: Arc<Live>,
    id: u64,
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.live.forget(self.id) {
            // A worker so far behind that the line does not fit answers in vain.
            self.live.try_send(line::cancel(self.id));
        }
    }
}

/// The common case, without a channel for streams.
async fn unary(live: &Arc<Live>, id: u64, call: Call, schema: &Schema) -> Result<Reply, Status> {
    let Requests::One(message) = &call.requests else {
        return Err(Status::new(Code::Internal, "a stream for a method with one request"));
    };
    let message = Dialect::Json.request(&call.method, message)?;
    let opening = line::open(id, &call, Some(&message));
    let (sender, receiver) = oneshot::channel();
    live.expect_one(id, sender)?;
    let pending = Pending { live: Arc::clone(live), id };
    let answer = async {
        live.room_for(&opening).await?.send(opening);
        receiver.await.map_err(|_| live.ended())
    };
    let answer = tokio::select! {
        answer = answer => answer?,
        () = until(call.deadline) => return Err(deadline_exceeded()),
    };
    drop(pending);
    Ok(last_reply(&call.method, answer, HeaderMap::new(), schema))
}

/// The reply of a method that does not stream, in the line that ends it.
fn last_reply(method: &Method, answer: Answer, mut headers: HeaderMap, schema: &Schema) -> Reply {
    add_metadata(&mut headers, answer.headers);
    let trailers = answer.trailers;
    let result = match answer.error {
        Some(error) => Err(error_status(&error, schema)),
        None => Dialect::Json.reply(method, answer.message.unwrap_or_default()),
    };
    let body = match result {
        Ok(message) => Body::One { message, trailers },
        Err(status) => Body::Failed { status, trailers },
    };
    Reply { headers, body }
}

fn error_status(error: &serde_json::Value, schema: &Schema) -> Status {
    status_from_json(error, schema)
        .unwrap_or_else(|wrong| Status::new(Code::Internal, format!("the worker's error is wrong: {wrong}")))
}

/// Room for a line, if there is one.
async fn room_for<'a>(live: &'a Live, line: Option<&Bytes>) -> Result<process::Room<'a>, Status> {
    match line {
        Some(line) => live.room_for(line).await,
        None => std::future::pending().await,
    }
}

/// A call with a stream in it.
struct Conversation {
    requests: Option<BoxStream<'static, Result<Payload, Status>>>,
    // A line on its way to the worker.
    unsent: Option<Bytes>,
    replies: mpsc::Receiver<Answer>,
    pending: Pending,
    method: Arc<Method>,
    deadline: Option<Instant>,
    schema: Arc<Schema>,
}

impl Conversation {
    async fn start(live: Arc<Live>, id: u64, mut call: Call, schema: Arc<Schema>) -> Result<Self, Status> {
        let message = match &call.requests {
            Requests::One(message) => Some(Dialect::Json.request(&call.method, message)?),
            Requests::Stream(_) => None,
        };
        let opening = line::open(id, &call, message.as_ref());
        let (sender, replies) = mpsc::channel(REPLIES_MAX);
        live.expect_many(id, sender)?;
        let requests = match std::mem::replace(&mut call.requests, Requests::One(Payload::json(Bytes::new())))
        {
            Requests::Stream(requests) => Some(requests),
            Requests::One(_) => None,
        };
        let pending = Pending { live, id };
        let (method, deadline) = (call.method, call.deadline);
        Ok(Self { requests, unsent: Some(opening), replies, pending, method, deadline, schema })
    }

    /// The worker's next line. Sends what the caller says meanwhile. Cancel safe.
    async fn next(&mut self) -> Result<Answer, Status> {
        let live = &self.pending.live;
        loop {
            tokio::select! {
                answer = self.replies.recv() => return answer.ok_or_else(|| live.ended()),
                () = until(self.deadline) => return Err(deadline_exceeded()),
                room = room_for(live, self.unsent.as_ref()), if self.unsent.is_some() => {
                    let room = room?;
                    room.send(self.unsent.take().unwrap_or_default());
                }
                request = next_request(&mut self.requests), if self.unsent.is_none() && self.requests.is_some() => {
                    self.unsent = Some(match request {
                        Some(message) => {
                            line::message(self.pending.id, &Dialect::Json.request(&self.method, &message?)?)
                        }
                        None => {
                            self.requests = None;
                            line::end(self.pending.id)
                        }
                    });
                }
            }
        }
    }

    async fn reply_one(mut self) -> Reply {
        let mut headers = HeaderMap::new();
        loop {
            match self.next().await {
                Err(status) => return Reply::failed(status),
                Ok(answer) if answer.ends_unary() => {
                    return last_reply(&self.method, answer, headers, &self.schema);
                }
                Ok(answer) => add_metadata(&mut headers, answer.headers),
            }
        }
    }

    /// Returns at the first line that says something: metadata goes out with it.
    async fn reply_stream(mut self) -> Reply {
        let mut headers = HeaderMap::new();
        loop {
            let answer = match self.next().await {
                Err(status) => {
                    return Reply { headers, body: Body::Failed { status, trailers: HeaderMap::new() } };
                }
                Ok(answer) => answer,
            };
            let said_something =
                !answer.headers.is_empty() || answer.message.is_some() || answer.ends_stream();
            add_metadata(&mut headers, answer.headers.clone());
            if !said_something {
                continue;
            }
            if let (None, Some(error)) = (&answer.message, &answer.error) {
                let status = error_status(error, &self.schema);
                return Reply { headers, body: Body::Failed { status, trailers: answer.trailers } };
            }
            let first = self.events(answer);
            let rest = stream::unfold(Some(self), |conversation| async {
                let mut conversation = conversation?;
                let events = match conversation.next().await {
                    Ok(answer) => conversation.events(answer),
                    Err(status) => vec![Event::End { status, trailers: HeaderMap::new() }],
                };
                let ended = matches!(events.last(), Some(Event::End { .. }));
                Some((stream::iter(events), (!ended).then_some(conversation)))
            });
            let ended = matches!(first.last(), Some(Event::End { .. }));
            let first = stream::iter(first);
            let events = if ended { first.boxed() } else { first.chain(rest.flatten()).boxed() };
            return Reply { headers, body: Body::Stream(events) };
        }
    }

    /// What a line means in a stream: a message, the end, or both.
    fn events(&self, answer: Answer) -> Vec<Event> {
        let ends = answer.ends_stream();
        let mut events = Vec::new();
        let mut status =
            answer.error.as_ref().map_or_else(Status::ok, |error| error_status(error, &self.schema));
        let mut broken = false;
        if let Some(message) = answer.message {
            match Dialect::Json.reply(&self.method, message) {
                Ok(message) => events.push(Event::Message(message)),
                Err(wrong) => (status, broken) = (wrong, true),
            }
        }
        if ends || broken {
            events.push(Event::End { status, trailers: answer.trailers });
        }
        events
    }
}

async fn next_request(
    requests: &mut Option<BoxStream<'static, Result<Payload, Status>>>,
) -> Option<Result<Payload, Status>> {
    match requests {
        Some(requests) => requests.next().await,
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::time::Duration;

    use super::*;
    use crate::rpc::handler::testing::{all, call, json, method, status};
    use crate::rpc::handler::{contract, demo};

    struct Crew {
        workers: Workers,
        backend: Arc<dyn Backend>,
        shutdown: Shutdown,
    }

    fn crew(text: &str, count: usize) -> Crew {
        let shutdown = Shutdown::new();
        let program = Program::from_text(text, Some(OsStr::new("/usr/local/bin:/usr/bin:/bin")));
        let workers = Workers::start(&program, count, 1 << 20, &shutdown).unwrap();
        let backend = workers.backend(&Arc::new(demo::schema().unwrap()));
        Crew { workers, backend, shutdown }
    }

    impl Crew {
        async fn ask(&self, path: &str, requests: &[&str]) -> Reply {
            self.backend.call(call(&method(path), requests)).await
        }
    }

    #[tokio::test]
    async fn the_simplest_worker_is_cat() {
        let crew = crew("cat", 2);
        for _ in 0..10 {
            let reply = crew.ask("demo.Echo/Say", &[r#"{"text":"a\n\"b"}"#]).await;
            assert_eq!(json("demo.Words", reply).await, [r#"{"text":"a\n\"b"}"#]);
        }
        let lines = [r#"{"from":"a","text":"1"}"#, r#"{"from":"a","text":"2"}"#];
        assert_eq!(json("demo.Line", crew.ask("demo.Chat/Talk", &lines).await).await, lines);
        assert!(crew.shutdown.finish(Duration::from_secs(20)).await, "workers end when their input does");
    }

    #[tokio::test]
    async fn answers_without_an_id_belong_to_the_oldest_call() {
        let crew = crew(r#"while read -r line; do echo '{"message":{"message":"hi"}}'; done"#, 1);
        let both = futures_util::future::join(
            crew.ask("demo.Greeter/Hello", &["{}"]),
            crew.ask("demo.Greeter/Hello", &["{}"]),
        );
        let (first, second) = both.await;
        assert_eq!(json("demo.HelloReply", first).await, [r#"{"message":"hi"}"#]);
        assert_eq!(json("demo.HelloReply", second).await, [r#"{"message":"hi"}"#]);
    }

    #[tokio::test]
    async fn answers_come_in_any_order() {
        // Answers the second call before the first.
        let text = r#"read -r a; read -r b; for line in "$b" "$a"; do id=${line#*:}; echo "{\"id\":${id%%,*},\"message\":{\"message\":\"${id%%,*}\"}}"; done; cat >/dev/null"#;
        let crew = crew(text, 1);
        let both = futures_util::future::join(
            crew.ask("demo.Greeter/Hello", &["{}"]),
            crew.ask("demo.Greeter/Hello", &["{}"]),
        );
        let (first, second) = both.await;
        assert_eq!(json("demo.HelloReply", first).await, [r#"{"message":"1"}"#]);
        assert_eq!(json("demo.HelloReply", second).await, [r#"{"message":"2"}"#]);
    }

    #[tokio::test]
    async fn metadata_errors_and_streams() {
        let text = r#"while read -r line; do case $line in
            *Greeter*) echo '{"id":1,"headers":{"a":"1"}}'; echo '{"id":1,"error":{"code":5,"message":"nobody"},"trailers":{"b":"2"}}';;
            *Ticks*) echo '{"id":2,"headers":{"a":"1"}}'; echo '{"id":2,"message":{"number":1}}'; echo '{"id":2,"message":{"number":2}}'; echo '{"id":2,"end":true,"trailers":{"b":"2"}}';;
            *Add*) echo '{"id":3,"message":{"value":"nonsense"}}';;
            *Divide*) echo 'debug print';;
        esac; done"#;
        let crew = crew(text, 1);
        let reply = crew.ask("demo.Greeter/Hello", &["{}"]).await;
        assert_eq!(contract::metadata_json(&reply.headers).to_string(), r#"{"a":["1"]}"#);
        let (_, status, trailers) = all(reply).await;
        assert_eq!((status, trailers["b"].to_str().unwrap()), (Status::new(Code::NotFound, "nobody"), "2"));
        let reply = crew.ask("demo.Clock/Ticks", &["{}"]).await;
        assert_eq!(contract::metadata_json(&reply.headers).to_string(), r#"{"a":["1"]}"#);
        let (messages, status, trailers) = all(reply).await;
        assert_eq!((messages.len(), status, trailers["b"].to_str().unwrap()), (2, Status::ok(), "2"));
        for path in ["demo.Calc/Add", "demo.Calc/Divide"] {
            let status = super::tests::status(crew.ask(path, &["{}"]).await).await;
            assert_eq!(status.code, Code::Internal, "{status}");
        }
    }

    #[tokio::test]
    async fn a_worker_that_dies_fails_its_calls_and_comes_back() {
        let crew = crew(r#"read -r line; echo 'cannot go on' >&2; exit 3"#, 1);
        let status = status(crew.ask("demo.Greeter/Hello", &["{}"]).await).await;
        assert_eq!(status.code, Code::Unavailable);
        assert!(status.message.ends_with("exit status: 3: cannot go on"), "{status}");
        let mut running = crew.workers.running();
        running.wait_for(|count| *count == 0).await.unwrap();
        running.wait_for(|count| *count == 1).await.unwrap();
    }

    #[tokio::test]
    async fn the_worker_hears_that_nobody_waits() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let text = format!(
            "read -r a; read -r b; echo \"$b\" > {0}.new; mv {0}.new {0}; cat >/dev/null",
            log.display()
        );
        let crew = crew(&text, 1);
        let mut late = call(&method("demo.Greeter/Hello"), &["{}"]);
        late.deadline = Some(Instant::now() + Duration::from_millis(100));
        assert_eq!(status(crew.backend.call(late).await).await.code, Code::DeadlineExceeded);
        let heard = async {
            while !log.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), heard).await.unwrap();
        assert_eq!(std::fs::read_to_string(log).unwrap(), "{\"id\":1,\"cancel\":true}\n");
    }

    #[tokio::test]
    async fn what_cannot_run_is_said_at_once() {
        let result = Workers::start(&Program::from_path("/nowhere/worker"), 1, 100, &Shutdown::new());
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut_off() {
        let crew = crew("head -c 3000000 /dev/zero | tr '\\0' x; cat >/dev/null", 1);
        let status = status(crew.ask("demo.Greeter/Hello", &["{}"]).await).await;
        assert_eq!(status.code, Code::Unavailable, "{status}");
        assert!(status.message.contains("a line of more than 1048576 bytes"), "{status}");
    }
}
