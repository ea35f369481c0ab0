//! A process per call.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream;
use http::HeaderMap;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::contract::{Control, ControlFile, Dialect, Host, environment, exit_status};
use super::lines::Values;
use super::pipes::{Complaints, Feed, Output};
use crate::exec::{Process, Program};
use crate::rpc::{Backend, Body, Call, Code, Event, Method, Reply, Requests, Schema, Status};
use crate::wait::until;

/// Runs a program for each call: request on stdin, reply on stdout, exit code as status.
#[derive(Clone)]
pub struct Command(Arc<Inner>);

struct Inner {
    program: Program,
    dialect: Dialect,
    schema: Arc<Schema>,
    host: Arc<Host>,
}

impl Command {
    /// `schema` knows the types of status details.
    pub fn new(program: Program, dialect: Dialect, schema: Arc<Schema>, host: Arc<Host>) -> Self {
        Self(Arc::new(Inner { program, dialect, schema, host }))
    }
}

impl Backend for Command {
    fn call(&self, call: Call) -> BoxFuture<'static, Reply> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let streams = call.method.kind.server_streams();
            match inner.start(call).await {
                Err(status) => Reply::failed(status),
                Ok(running) if streams => running.reply_stream().await,
                Ok(running) => running.reply_one().await,
            }
        })
    }
}

impl Inner {
    async fn start(self: Arc<Self>, call: Call) -> Result<Running, Status> {
        let first = match &call.requests {
            Requests::One(message) => self.dialect.request(&call.method, message)?,
            Requests::Stream(_) => Bytes::new(),
        };
        let permit = tokio::select! {
            permit = Arc::clone(&self.host.jobs).acquire_owned() => permit.ok(),
            () = until(call.deadline) => return Err(deadline_exceeded()),
        };
        let control = self.host.control_file(call.id);
        let variables = environment(&call, &control);
        let mut process = Process::spawn(&self.program, variables, &self.host.shutdown)
            .map_err(|error| not_started(&self.program, &error))?;
        let who = format!("{} #{}", call.method.path, call.id);
        Ok(Running {
            feed: Feed::new(process.stdin.take(), first, Some(call.requests)),
            output: Output::new(process.stdout.take()),
            complaints: Complaints::new(process.stderr.take(), who),
            values: Values::new(self.host.limits.message_bytes_max),
            process,
            control,
            deadline: call.deadline,
            method: call.method,
            inner: self,
            exit: None,
            _permit: permit,
        })
    }
}

fn not_started(program: &Program, error: &io::Error) -> Status {
    // Running out of processes, memory or descriptors passes; anything else will not.
    let passing = [
        rustix::io::Errno::AGAIN,
        rustix::io::Errno::NOMEM,
        rustix::io::Errno::MFILE,
        rustix::io::Errno::NFILE,
    ]
    .iter()
    .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()));
    let code = if passing { Code::Unavailable } else { Code::Internal };
    Status::new(code, format!("the handler is not runnable: {program}: {error}"))
}

pub(super) fn deadline_exceeded() -> Status {
    Status::new(Code::DeadlineExceeded, "the deadline passed before the handler was done")
}

/// A process at work on a call. Dropping it ends the process and all that it started.
struct Running {
    // First, so that it is told to end before its pipes are closed.
    process: Process,
    feed: Feed,
    output: Output,
    complaints: Complaints,
    values: Values,
    control: ControlFile,
    deadline: Option<Instant>,
    method: Arc<Method>,
    inner: Arc<Inner>,
    // Set once the process has ended and its pipes are drained.
    exit: Option<Status>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Running {
    /// Waits for one thing to happen: a request written, something printed, the end. Cancel safe.
    ///
    /// # Errors
    /// The call is over, whatever the process still does.
    async fn step(&mut self) -> Result<(), Status> {
        let (method, dialect) = (&self.method, self.inner.dialect);
        tokio::select! {
            fed = self.feed.advance(|message| dialect.request(method, message)), if !self.feed.is_closed() => fed,
            () = self.output.read(self.values.buffer()), if self.output.is_open() => Ok(()),
            () = self.complaints.read(), if self.complaints.is_open() => Ok(()),
            exit = self.process.wait() => {
                let bytes_max = self.inner.host.limits.message_bytes_max;
                self.output.drain(self.values.buffer(), bytes_max.saturating_mul(2));
                let last_words = self.complaints.finish();
                self.exit = Some(match exit {
                    Ok(exit) => exit_status(exit, last_words),
                    Err(error) => Status::new(Code::Internal, format!("cannot wait for the handler: {error}")),
                });
                Ok(())
            }
            () = until(self.deadline) => Err(deadline_exceeded()),
        }
    }

    /// What the handler wrote beside its messages. Mistakes in it are the handler's failure.
    fn control(&self) -> Result<Control, Status> {
        self.control.read(&self.inner.schema).map_err(|error| {
            Status::new(Code::Internal, format!("the handler wrote a bad control file: {error}"))
        })
    }

    /// Runs to the end; stdout is one message.
    async fn reply_one(mut self) -> Reply {
        let bytes_max = self.inner.host.limits.message_bytes_max;
        while self.exit.is_none() {
            if let Err(status) = self.step().await {
                return Reply::failed(status);
            }
            if self.values.buffer().len() > bytes_max {
                let text = format!("the handler's reply is over the limit of {bytes_max} bytes");
                return Reply::failed(Status::new(Code::ResourceExhausted, text));
            }
        }
        let (control, status) = self.end();
        let printed: BytesMut = self.values.buffer().split();
        let reply = if status.is_ok() {
            self.inner.dialect.reply(&self.method, printed.freeze())
        } else {
            Err(status)
        };
        let body = match reply {
            Ok(message) => Body::One { message, trailers: control.trailers },
            Err(status) => Body::Failed { status, trailers: control.trailers },
        };
        Reply { headers: control.headers, body }
    }

    /// Control data and status, once the process has ended.
    fn end(&mut self) -> (Control, Status) {
        let exit = self.exit.take().unwrap_or_else(Status::ok);
        match self.control() {
            Ok(mut control) => {
                let status = control.status.take().unwrap_or(exit);
                (control, status)
            }
            Err(status) => (Control::default(), status),
        }
    }

    /// Leading metadata goes out with the first message; a failure before it has no stream.
    async fn reply_stream(mut self) -> Reply {
        match self.next_event().await {
            Event::End { status, trailers } => {
                let headers = self.control().map(|control| control.headers).unwrap_or_default();
                let body = if status.is_ok() {
                    Body::Stream(Box::pin(stream::once(async { Event::End { status, trailers } })))
                } else {
                    Body::Failed { status, trailers }
                };
                Reply { headers, body }
            }
            first @ Event::Message(_) => match self.control() {
                Err(status) => Reply::failed(status),
                Ok(control) => {
                    let rest = stream::unfold(Some(self), |running| async {
                        let mut running = running?;
                        let event = running.next_event().await;
                        let ended = matches!(event, Event::End { .. });
                        Some((event, (!ended).then_some(running)))
                    });
                    let events = futures_util::StreamExt::chain(stream::once(async { first }), rest);
                    Reply { headers: control.headers, body: Body::Stream(Box::pin(events)) }
                }
            },
        }
    }

    async fn next_event(&mut self) -> Event {
        loop {
            let value = if self.exit.is_some() { self.values.rest() } else { self.values.next_value() };
            match value {
                Err(error) => {
                    let text = format!("the handler printed {error}");
                    return failed(Status::new(Code::ResourceExhausted, text));
                }
                Ok(Some(printed)) => {
                    return match self.inner.dialect.reply(&self.method, printed) {
                        Ok(message) => Event::Message(message),
                        Err(status) => failed(status),
                    };
                }
                Ok(None) if self.exit.is_some() => {
                    let (control, status) = self.end();
                    return Event::End { status, trailers: control.trailers };
                }
                Ok(None) => {
                    if let Err(status) = self.step().await {
                        return failed(status);
                    }
                }
            }
        }
    }
}

fn failed(status: Status) -> Event {
    Event::End { status, trailers: HeaderMap::new() }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::time::Duration;

    use futures_util::StreamExt;

    use super::*;
    use crate::rpc::Payload;
    use crate::rpc::handler::contract::{Limits, metadata_json};
    use crate::rpc::handler::demo;
    use crate::rpc::handler::testing::{all, call, json, method, status};
    use crate::shutdown::Shutdown;

    fn shell(text: &str) -> Program {
        Program::from_text(text, Some(OsStr::new("/usr/local/bin:/usr/bin:/bin")))
    }

    fn host(limits: Limits) -> Arc<Host> {
        Host::new(limits, &Shutdown::new()).unwrap()
    }

    fn command(text: &str) -> Command {
        let schema = Arc::new(demo::schema().unwrap());
        Command::new(shell(text), Dialect::Json, schema, host(Limits::default()))
    }

    async fn run(path: &str, text: &str, requests: &[&str]) -> Reply {
        command(text).call(call(&method(path), requests)).await
    }

    async fn greet(text: &str) -> Status {
        status(run("demo.Greeter/Hello", text, &["{}"]).await).await
    }

    fn is(status: &Status, code: Code, text: &str) {
        assert_eq!((status.code, status.message.as_str()), (code, text));
    }

    #[tokio::test]
    async fn request_in_reply_out() {
        let text = r#"read request; echo "$request" >&2; echo '{"message": "got it"}'"#;
        let reply = run("demo.Greeter/Hello", text, &[r#"{"name": "Ada"}"#]).await;
        assert_eq!(json("demo.HelloReply", reply).await, [r#"{"message":"got it"}"#]);
    }

    #[tokio::test]
    async fn requests_are_canonical_whatever_the_caller_wrote() {
        let request = "{\n \"interval_ms\": \"5\",\n \"count\": 1.0\n}";
        let text = r#"read -r line; printf '{"number": %s}' "$(printf %s "$line" | tr -dc 0-9)""#;
        let reply = run("demo.Clock/Ticks", text, &[request]).await;
        assert_eq!(json("demo.Tick", reply).await, [r#"{"number":"15"}"#]);
        let status = status(run("demo.Greeter/Hello", "cat", &[r#"{"nmae": 1}"#]).await).await;
        assert_eq!(status.code, Code::InvalidArgument);
    }

    #[tokio::test]
    async fn a_text_function_needs_no_json() {
        let source = r#"syntax = "proto3"; import "google/protobuf/wrappers.proto";
            service F { rpc upper(google.protobuf.StringValue) returns (google.protobuf.StringValue); }"#;
        let input = crate::rpc::schema::Input::Text { name: "f.proto".into(), text: source.into() };
        let text = Arc::new(Schema::compile_inputs(&[input], &[]).unwrap().methods().next().unwrap());
        let backend =
            Command::new(shell("tr a-z A-Z; echo"), Dialect::Text, Arc::default(), host(Limits::default()));
        let (messages, status, _) = all(backend.call(call(&text, &["\"hello\\n\""])).await).await;
        assert!(status.is_ok(), "{status}");
        assert_eq!(messages, [Payload::proto(prost::Message::encode_to_vec(&"HELLO\n".to_owned()))]);
    }

    #[tokio::test]
    async fn streams_go_both_ways_line_by_line() {
        let lines = [r#"{"from":"ada","text":"1"}"#, r#"{"from":"ada","text":"2"}"#];
        assert_eq!(json("demo.Line", run("demo.Chat/Talk", "cat", &lines).await).await, lines);
        // The second request is sent only after the first reply came: nothing waits for the end.
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let mut conversation = call(&method("demo.Chat/Talk"), &[]);
        let requests = stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|text: &str| (Ok(Payload::json(text)), receiver))
        });
        conversation.requests = Requests::Stream(requests.boxed());
        sender.send(lines[0]).await.unwrap();
        let Body::Stream(mut events) = command("cat").call(conversation).await.body else {
            panic!("no stream")
        };
        assert!(matches!(events.next().await, Some(Event::Message(_))));
        sender.send(lines[1]).await.unwrap();
        assert!(matches!(events.next().await, Some(Event::Message(_))));
        drop(sender);
        assert!(matches!(events.next().await, Some(Event::End { status, .. }) if status.is_ok()));
    }

    #[tokio::test]
    async fn many_requests_make_one_reply() {
        let text = r#"n=0; while read -r line; do n=$((n+1)); done; echo "{\"count\": $n}""#;
        let reply = run("demo.Calc/Sum", text, &[r#"{"value":1}"#, r#"{"value":2}"#]).await;
        assert_eq!(json("demo.Total", reply).await, [r#"{"count":"2"}"#]);
    }

    #[tokio::test]
    async fn the_exit_code_is_the_status_and_the_last_line_its_message() {
        is(
            &greet("echo first >&2; echo 'no such person' >&2; exit 69").await,
            Code::NotFound,
            "no such person",
        );
        is(&greet("exit 3").await, Code::Unknown, "the handler ended with exit code 3");
        is(&greet("kill -9 $$").await, Code::Unknown, "the handler was killed by signal 9");
        is(
            &greet("exec /nowhere/to/be/found 2>/dev/null").await,
            Code::Internal,
            "the handler is not runnable: exit 127",
        );
        let status =
            status(run("demo.Clock/Ticks", "echo '{}'; echo enough >&2; exit 72", &["{}"]).await).await;
        is(&status, Code::ResourceExhausted, "enough");
    }

    #[tokio::test]
    async fn what_cannot_be_started_is_internal() {
        let schema = Arc::new(demo::schema().unwrap());
        let backend = Command::new(
            Program::from_path("/nowhere/handler"),
            Dialect::Json,
            schema,
            host(Limits::default()),
        );
        let status = status(backend.call(call(&method("demo.Greeter/Hello"), &["{}"])).await).await;
        assert_eq!(status.code, Code::Internal);
        assert!(status.message.starts_with("the handler is not runnable: /nowhere/handler: "), "{status}");
    }

    #[tokio::test]
    async fn garbage_is_internal() {
        for text in [
            "echo nonsense",
            "echo '{\"message\": 1}'",
            "echo '{} {}'",
            "printf '{'",
            "head -c 9 /dev/urandom",
        ] {
            let status = greet(text).await;
            assert_eq!(status.code, Code::Internal, "{text}: {status}");
            assert!(status.message.starts_with("the handler's reply is not a demo.HelloReply: "), "{status}");
        }
        let (messages, status, _) =
            all(run("demo.Clock/Ticks", "echo '{}'; echo nonsense; sleep 100", &["{}"]).await).await;
        assert_eq!((messages.len(), status.code), (1, Code::Internal));
    }

    #[tokio::test]
    async fn nothing_printed_is_an_empty_message() {
        let reply = run("demo.Greeter/Hello", "true", &["{}"]).await;
        assert_eq!(json("demo.HelloReply", reply).await, ["{}"]);
        let (messages, status, _) = all(run("demo.Clock/Ticks", "true", &["{}"]).await).await;
        assert!(messages.is_empty() && status.is_ok(), "{status}");
    }

    #[tokio::test]
    async fn a_full_pipe_blocks_nobody() {
        // Far more than a pipe holds, in both directions and to stderr, by a handler that reads last.
        let name = "x".repeat(1 << 20);
        let text = r#"yes error | head -c 300000 >&2; printf '{"message":"'; yes | tr -d '\n' | head -c 1000000; printf '"}'; wc -c >&2"#;
        let reply = run("demo.Greeter/Hello", text, &[&format!(r#"{{"name":"{name}"}}"#)]).await;
        assert_eq!(json("demo.HelloReply", reply).await[0].len(), 1_000_000 + r#"{"message":""}"#.len());
        // And by one that reads nothing at all.
        let reply = run("demo.Greeter/Hello", "echo '{}'", &[&format!(r#"{{"name":"{name}"}}"#)]).await;
        assert_eq!(json("demo.HelloReply", reply).await, ["{}"]);
    }

    #[tokio::test]
    async fn a_reply_over_the_limit_is_refused() {
        let limits = Limits { message_bytes_max: 1000, ..Limits::default() };
        let backend = Command::new(shell("yes"), Dialect::Json, Arc::default(), host(limits));
        let status = status(backend.call(call(&method("demo.Greeter/Hello"), &["{}"])).await).await;
        is(&status, Code::ResourceExhausted, "the handler's reply is over the limit of 1000 bytes");
        let backend =
            Command::new(shell("yes '[' | tr -d '\\n'"), Dialect::Json, Arc::default(), host(limits));
        let status = crate::rpc::handler::testing::status(
            backend.call(call(&method("demo.Clock/Ticks"), &["{}"])).await,
        )
        .await;
        is(&status, Code::ResourceExhausted, "the handler printed a message of more than 1000 bytes");
    }

    #[tokio::test]
    async fn metadata_and_details_go_through_the_control_file() {
        let text = r#"
            echo '{"headers": {"x-first": "1"}}' >> "$BANDY_CONTROL"
            echo '{"message": "ignored"}'
            echo '{"trailers": {"x-last": ["2", "3"]}}' >> "$BANDY_CONTROL"
            echo '{"status": {"code": "ABORTED", "message": "again", "details":
              [{"@type": "type.googleapis.com/demo.Number", "value": 2}]}}' >> "$BANDY_CONTROL""#;
        let reply = run("demo.Greeter/Hello", text, &["{}"]).await;
        assert_eq!(metadata_json(&reply.headers).to_string(), r#"{"x-first":["1"]}"#);
        let (_, status, trailers) = all(reply).await;
        assert_eq!(metadata_json(&trailers).to_string(), r#"{"x-last":["2","3"]}"#);
        is(&status, Code::Aborted, "again");
        assert_eq!(status.details[0].type_name, "demo.Number");
        assert_eq!(status.details[0].value[..], [9, 0, 0, 0, 0, 0, 0, 0, 0x40]);
        let status = greet("echo nonsense >> $BANDY_CONTROL; echo '{}'").await;
        assert!(status.message.starts_with("the handler wrote a bad control file: "), "{status}");
    }

    #[tokio::test]
    async fn leading_metadata_comes_with_the_first_streamed_message() {
        let text = r#"echo '{"headers":{"a":"b"}}' > "$BANDY_CONTROL"; echo '{}'; sleep 100"#;
        let reply = run("demo.Clock/Ticks", text, &["{}"]).await;
        assert_eq!(metadata_json(&reply.headers).to_string(), r#"{"a":["b"]}"#);
    }

    #[tokio::test]
    async fn the_call_is_described_in_the_environment() {
        let mut request = call(&method("demo.Greeter/Hello"), &["{}"]);
        request.metadata.append("x-trace.id", "7f".parse().unwrap());
        request.metadata.append("x-trace.id", "80".parse().unwrap());
        request.deadline = Some(Instant::now() + Duration::from_secs(3600));
        let text = r#"[ "$BANDY_DEADLINE_MS" -gt 3500000 ] || exit 1
            printf '{"message": "%s %s %s %s %s"}' "$BANDY_METHOD" "$BANDY_CALL_ID" "$BANDY_PEER" "$BANDY_PROTOCOL" "$BANDY_HEADER_X_TRACE_ID"
            [ "$BANDY_HEADERS" = '{"x-trace.id":["7f","80"]}' ]"#;
        let reply = command(text).call(request).await;
        assert_eq!(
            json("demo.HelloReply", reply).await,
            [r#"{"message":"demo.Greeter/Hello 7 127.0.0.1:5 grpc 7f, 80"}"#]
        );
    }

    /// Runs `text`, which prints its process id in the first message, and returns it.
    async fn group_of(events: &mut stream::BoxStream<'static, Event>) -> rustix::process::Pid {
        let Some(Event::Message(message)) = events.next().await else { panic!("no first message") };
        let tick = method("demo.Clock/Ticks").output.convert(&message, crate::rpc::Format::Json).unwrap();
        let tick: serde_json::Value = serde_json::from_slice(&tick).unwrap();
        rustix::process::Pid::from_raw(tick["number"].as_str().unwrap().parse().unwrap()).unwrap()
    }

    async fn gone(group: rustix::process::Pid) {
        let empty = async {
            while rustix::process::test_kill_process_group(group).is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), empty).await.expect("the handler is still there");
    }

    #[tokio::test]
    async fn a_cancelled_call_leaves_no_process() {
        let text = r#"sleep 100 & echo "{\"number\": $$}"; sleep 100"#;
        let Body::Stream(mut events) = run("demo.Clock/Ticks", text, &["{}"]).await.body else {
            panic!("no stream")
        };
        let group = group_of(&mut events).await;
        drop(events);
        gone(group).await;
    }

    #[tokio::test]
    async fn the_deadline_ends_a_handler_that_hangs() {
        let mut request = call(&method("demo.Clock/Ticks"), &["{}"]);
        request.deadline = Some(Instant::now() + Duration::from_millis(300));
        let text = r#"trap '' TERM; echo "{\"number\": $$}"; while :; do sleep 1; done"#;
        let Body::Stream(mut events) = command(text).call(request).await.body else { panic!("no stream") };
        let group = group_of(&mut events).await;
        let end = events.next().await;
        assert!(matches!(end, Some(Event::End { status, .. }) if status.code == Code::DeadlineExceeded));
        drop(events);
        gone(group).await;
    }

    #[tokio::test]
    async fn children_that_keep_the_pipe_open_do_not_keep_the_caller() {
        let reply = run("demo.Greeter/Hello", "sleep 100 & echo '{\"message\":\"up\"}'", &["{}"]).await;
        assert_eq!(json("demo.HelloReply", reply).await, [r#"{"message":"up"}"#]);
    }

    #[tokio::test]
    async fn a_handler_may_close_its_output_and_go_on() {
        is(&greet("exec 1>&-; sleep 0.05; echo late >&2; exit 70").await, Code::AlreadyExists, "late");
    }

    #[tokio::test]
    async fn calls_over_the_limit_of_jobs_wait_for_their_turn() {
        let limits = Limits { jobs_max: 1, ..Limits::default() };
        let schema = Arc::new(demo::schema().unwrap());
        let backend =
            Command::new(shell("read -r line; echo \"$line\""), Dialect::Json, schema, host(limits));
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let mut first = call(&method("demo.Chat/Talk"), &[]);
        let requests = stream::once(async { receiver.await.map_err(|_| Status::new(Code::Canceled, "")) });
        first.requests = Requests::Stream(requests.boxed());
        let first = Shutdown::new().spawn(backend.call(first));
        let mut second = call(&method("demo.Greeter/Hello"), &["{}"]);
        second.deadline = Some(Instant::now() + Duration::from_millis(50));
        // Whoever is first, the second cannot end while the first is at work.
        tokio::task::yield_now().await;
        let status = status(backend.call(second).await).await;
        assert_eq!(status.code, Code::DeadlineExceeded);
        sender.send(Payload::json(r#"{"text":"done"}"#)).unwrap();
        assert_eq!(json("demo.Line", first.await.unwrap()).await, [r#"{"text":"done"}"#]);
    }
}
