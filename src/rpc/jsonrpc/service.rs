//! One document in, at most one document out: calls run through the catalog's backends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::Instant;

use super::discover::{DISCOVER, discover};
use super::error::{ErrorObject, INVALID_PARAMS};
use super::message::{Document, Id, Incoming, Request, Response, parse_document};
use super::params::{request_messages, resolve};
use crate::rpc::backend::{Body, Call, Event, Format, Payload, Peer, Protocol, Reply, Requests};
use crate::rpc::budget::{CALL_SIZE, Part, Share};
use crate::rpc::catalog::{Method, SharedCatalog};
use crate::rpc::metrics::Metrics;
use crate::rpc::status::{Code, Status};

/// The notification that cancels a request of the same connection (Language Server Protocol).
pub const CANCEL: &str = "$/cancelRequest";
/// In `meta`: milliseconds until the caller gives up.
pub(super) const TIMEOUT: &str = "connect-timeout-ms";

/// Bounds of one document.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests in a batch.
    pub batch_max: usize,
    /// Requests of one batch that run at a time.
    pub batch_parallel_max: usize,
    /// Bytes of a document that comes in.
    pub request_size_max: usize,
    /// Bytes of one result; a stream of replies is one result.
    pub result_size_max: usize,
    /// A connection without documents is closed after so long; `None` keeps it.
    pub idle_max: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_max: 1000,
            batch_parallel_max: 64,
            request_size_max: 4 << 20,
            result_size_max: 16 << 20,
            idle_max: None,
        }
    }
}

/// Where a document came from. Clones share the table of cancellable requests.
#[derive(Clone)]
pub struct Origin {
    /// Who sent it.
    pub peer: Arc<Peer>,
    /// HTTP headers, if there were any.
    pub metadata: HeaderMap,
    /// When the caller gives up.
    pub deadline: Option<Instant>,
    /// What its connection holds.
    pub share: Arc<Share>,
    /// What can be cancelled by [`CANCEL`]: the requests of the same connection.
    pub canceller: Canceller,
}

impl Origin {
    /// A peer without headers or deadline.
    pub fn new(peer: Arc<Peer>, share: Arc<Share>) -> Self {
        Self { peer, metadata: HeaderMap::new(), deadline: None, share, canceller: Canceller::default() }
    }
}

/// The requests of one connection that can be cancelled, by the text of their id.
#[derive(Clone, Default)]
pub struct Canceller(Arc<Mutex<HashMap<Id, watch::Sender<bool>>>>);

impl Canceller {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Id, watch::Sender<bool>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, id: &Id) -> watch::Receiver<bool> {
        let (sender, receiver) = watch::channel(false);
        self.lock().insert(id.clone(), sender);
        receiver
    }

    fn forget(&self, id: &Id) {
        self.lock().remove(id);
    }

    fn cancel(&self, params: Option<&RawValue>) {
        #[derive(serde::Deserialize)]
        struct Params<'a> {
            #[serde(borrow)]
            id: &'a RawValue,
        }
        let Some(Ok(params)) = params.map(|params| serde_json::from_str::<Params<'_>>(params.get())) else {
            return;
        };
        if let Some(id) = Id::parse(params.id)
            && let Some(sender) = self.lock().get(&id)
        {
            sender.send_replace(true);
        }
    }
}

/// What to send for a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This, in one line.
    Reply(Vec<u8>),
    /// Nothing: there were only notifications.
    Silence,
    /// Nothing, and cut the connection: fault injection lost the reply.
    Lost,
}

/// The reply was lost on purpose.
struct LostReply;

/// The response to one request, if it has one, and what counts it.
type Answered = Result<Option<(Response, Part)>, LostReply>;

/// Answers documents. Clones share everything.
#[derive(Clone)]
pub struct Service {
    catalog: SharedCatalog,
    metrics: Arc<Metrics>,
    limits: Limits,
}

impl Service {
    /// Over `catalog`; numbers and counts its calls with `metrics`.
    pub fn new(catalog: SharedCatalog, metrics: Arc<Metrics>, limits: Limits) -> Self {
        Self { catalog, metrics, limits }
    }

    /// The bounds it was made with.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The answer to one document. Dropping the future cancels its calls.
    pub async fn answer(&self, origin: &Origin, document: &[u8]) -> Answer {
        match self.reply(origin, document).await {
            Ok(reply) if reply.is_empty() => Answer::Silence,
            Ok(reply) => Answer::Reply(reply),
            Err(LostReply) => Answer::Lost,
        }
    }

    /// The reply, empty if there is none to give.
    async fn reply(&self, origin: &Origin, document: &[u8]) -> Result<Vec<u8>, LostReply> {
        let mut out = Vec::new();
        let mut held = origin.share.part();
        let room = |requests: usize, held: &mut Part| {
            held.add(requests * CALL_SIZE).map_err(|status| ErrorObject::from_status(&status))
        };
        match parse_document(document, self.limits.batch_max) {
            Err(response) => response.write(&mut out),
            Ok(Document::Single(incoming)) => {
                let response = match room(1, &mut held) {
                    Ok(()) => self.answer_one(origin, incoming).await?.map(|(response, _held)| response),
                    Err(error) => refuse_one(&incoming, error),
                };
                if let Some(response) = response {
                    response.write(&mut out);
                }
            }
            Ok(Document::Batch(batch)) => {
                if let Err(error) = room(batch.len(), &mut held) {
                    Response::error(Id::null(), error).write(&mut out);
                    return Ok(out);
                }
                let answers: Vec<BoxFuture<'_, Answered>> = batch
                    .into_iter()
                    .map(|incoming| Box::pin(self.answer_one(origin, incoming)) as BoxFuture<'_, _>)
                    .collect();
                let mut answers = stream::iter(answers).buffered(self.limits.batch_parallel_max);
                while let Some(answer) = answers.next().await {
                    let Some((response, part)) = answer? else { continue };
                    held.take(part);
                    out.push(if out.is_empty() { b'[' } else { b',' });
                    response.write(&mut out);
                }
                if !out.is_empty() {
                    out.push(b']');
                }
            }
        }
        Ok(out)
    }

    async fn answer_one(&self, origin: &Origin, incoming: Incoming<'_>) -> Answered {
        let mut held = origin.share.part();
        let request = match incoming {
            Incoming::Invalid(response) => return Ok(Some((response, held))),
            Incoming::Request(request) => request,
        };
        let Some(id) = request.id.clone() else {
            if request.method == CANCEL {
                origin.canceller.cancel(request.params);
            } else {
                let _ = self.run(origin, &request, &mut held).await;
            }
            return Ok(None);
        };
        let mut cancelled = origin.canceller.register(&id);
        let outcome = tokio::select! {
            outcome = self.run(origin, &request, &mut held) => outcome,
            Ok(_) = cancelled.wait_for(|cancelled| *cancelled) => {
                Ok(Err(ErrorObject::from_status(&Status::new(Code::Canceled, "cancelled by the caller"))))
            }
        };
        origin.canceller.forget(&id);
        Ok(Some((Response { id, outcome: outcome? }, held)))
    }

    async fn run(
        &self,
        origin: &Origin,
        request: &Request<'_>,
        held: &mut Part,
    ) -> Result<Result<String, ErrorObject>, LostReply> {
        let catalog = self.catalog.load();
        if request.method == DISCOVER {
            return Ok(Ok(discover(&catalog).to_string()));
        }
        let route = match resolve(&catalog, &request.method) {
            Ok(route) => route,
            Err(error) => return Ok(Err(error.into())),
        };
        let method = &route.method;
        let mut meter = self.metrics.start(method, Instant::now());
        let call = match self.call(origin, request, Arc::clone(method)) {
            Ok(call) => call,
            Err(error) => {
                meter.end(error.to_status().code);
                return Ok(Err(error));
            }
        };
        let deadline = call.deadline;
        let answer = async {
            let reply = route.answer(call).await;
            if matches!(reply.body, Body::Lost(_)) {
                return Err(LostReply);
            }
            Ok(result_of(method, reply, self.limits.result_size_max, held).await)
        };
        let result = match deadline {
            None => answer.await?,
            Some(deadline) => tokio::time::timeout_at(deadline, answer).await.unwrap_or_else(|_| {
                Ok(Err(Status::new(Code::DeadlineExceeded, "the deadline has passed")))
            })?,
        };
        meter.end(result.as_ref().map_or_else(|status| status.code, |_| Code::Ok));
        Ok(result.map_err(|status| ErrorObject::from_status(&status)))
    }

    fn call(&self, origin: &Origin, request: &Request<'_>, method: Arc<Method>) -> Result<Call, ErrorObject> {
        let streams = method.kind.client_streams();
        let messages = request_messages(&method.input, streams, request.params)?;
        let mut payloads =
            messages.into_iter().map(|json| json.map_or(Payload::proto(Bytes::new()), Payload::json));
        let requests = match payloads.next() {
            Some(payload) if !streams => Requests::One(payload),
            first => Requests::Stream(
                stream::iter(first.into_iter().chain(payloads).map(Ok).collect::<Vec<_>>()).boxed(),
            ),
        };
        let mut metadata = origin.metadata.clone();
        let mut deadline = origin.deadline;
        if let Some(meta) = request.meta {
            let timeout = read_meta(meta, &mut metadata)?;
            let given = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
            deadline = [deadline, given].into_iter().flatten().min();
        }
        Ok(Call {
            method,
            id: self.metrics.next_call(),
            protocol: Protocol::JsonRpc,
            peer: Arc::clone(&origin.peer),
            metadata,
            deadline,
            requests,
        })
    }
}

/// Adds the members of `meta` to `metadata` and returns the timeout among them.
fn read_meta(meta: &RawValue, metadata: &mut HeaderMap) -> Result<Option<Duration>, ErrorObject> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Values {
        One(String),
        Many(Vec<String>),
    }
    let invalid = |text: String| ErrorObject::new(INVALID_PARAMS, format!("meta: {text}"));
    let members: std::collections::BTreeMap<String, Values> =
        serde_json::from_str(meta.get()).map_err(|_| invalid("not an object of strings".to_owned()))?;
    let mut timeout = None;
    for (name, values) in members {
        let values = match values {
            Values::One(value) => vec![value],
            Values::Many(values) => values,
        };
        let header =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid(format!("{name:?} is no name")))?;
        for value in values {
            if header.as_str() == TIMEOUT {
                let millis =
                    value.parse().map_err(|_| invalid(format!("{TIMEOUT} is no number: {value:?}")))?;
                timeout = Some(Duration::from_millis(millis));
                continue;
            }
            let value = HeaderValue::from_str(&value)
                .map_err(|_| invalid(format!("{name} has an unprintable value")))?;
            metadata.try_append(&header, value).map_err(|_| invalid("too many members".to_owned()))?;
        }
    }
    Ok(timeout)
}

/// The JSON of a reply: the message, or an array of all messages if the method streams them.
async fn result_of(
    method: &Method,
    reply: Reply,
    size_max: usize,
    held: &mut Part,
) -> Result<String, Status> {
    let streams = method.kind.server_streams();
    let mut events = match reply.body {
        Body::Failed { status, .. } => return Err(status),
        Body::One { message, .. } => {
            let json = to_json(method, &message, size_max)?;
            held.add(json.len())?;
            return Ok(if streams { format!("[{json}]") } else { json });
        }
        Body::Stream(events) => events,
        Body::Lost(_) => return Err(Status::new(Code::Unavailable, "the reply was lost")),
    };
    let mut messages = Vec::new();
    let mut size = 2;
    loop {
        match events.next().await {
            Some(Event::Message(message)) => {
                let json = to_json(method, &message, size_max)?;
                size += json.len() + 1;
                if size > size_max {
                    return Err(too_large(method, size_max));
                }
                held.add(json.len())?;
                messages.push(json);
            }
            Some(Event::End { status, .. }) if !status.is_ok() => return Err(status),
            Some(Event::End { .. }) => break,
            None => return Err(Status::new(Code::Internal, "the reply ended without a status")),
        }
    }
    if streams {
        return Ok(format!("[{}]", messages.join(",")));
    }
    let count = messages.len();
    match (messages.pop(), count) {
        (Some(json), 1) => Ok(json),
        _ => Err(Status::new(Code::Internal, format!("{} replied with {count} messages", method.path))),
    }
}

/// The response to a request that there is no room for; none to a notification.
fn refuse_one(incoming: &Incoming<'_>, error: ErrorObject) -> Option<Response> {
    match incoming {
        Incoming::Request(request) => request.id.clone().map(|id| Response::error(id, error)),
        Incoming::Invalid(response) => Some(response.clone()),
    }
}

fn too_large(method: &Method, size_max: usize) -> Status {
    let text = format!("the result of {} is over the limit of {size_max} bytes", method.path);
    Status::new(Code::ResourceExhausted, text)
}

fn to_json(method: &Method, message: &Payload, size_max: usize) -> Result<String, Status> {
    let json = method.output.convert(message, Format::Json).map_err(|status| Status {
        // The caller is not to blame for what a handler replied.
        code: Code::Internal,
        ..status
    })?;
    if json.len() > size_max {
        return Err(too_large(method, size_max));
    }
    let text = serde_json::from_slice::<&RawValue>(&json)
        .map_err(|error| Status::new(Code::Internal, format!("{} replied no JSON: {error}", method.path)))?
        .get();
    // Line ends stand only between tokens in JSON, and would end the document where a line is one.
    Ok(if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ") } else { text.to_owned() })
}

impl Limits {
    /// What to answer to a document that was refused for its size before it was read.
    pub fn refuse_size(&self) -> Vec<u8> {
        let text = format!("the document is over the limit of {} bytes", self.request_size_max);
        let mut out = Vec::new();
        Response::error(Id::null(), ErrorObject::new(super::INVALID_REQUEST, text)).write(&mut out);
        out
    }
}

impl Service {
    /// What to send for a document that there is no room for.
    pub fn refuse(status: &Status) -> Vec<u8> {
        let mut out = Vec::new();
        Response::error(Id::null(), ErrorObject::from_status(status)).write(&mut out);
        out
    }

    /// What to send instead of `reply`, which is over the `size_max` bytes of a datagram: its id, and why. `None` if
    /// that is too long as well.
    pub fn refuse_reply(reply: &[u8], size_max: usize) -> Option<Vec<u8>> {
        let id = match super::message::parse_responses(reply).as_deref() {
            Ok([response]) => response.id.clone(),
            Ok(_) | Err(_) => Id::null(),
        };
        let size = reply.len();
        let long = format!(
            "the reply of {size} bytes is over the {size_max} that this datagram may be answered with: \
             append spaces to the request, or use TCP"
        );
        let fitting = |error| {
            let mut out = Vec::new();
            Response::error(id.clone(), error).write(&mut out);
            (out.len() <= size_max).then_some(out)
        };
        let error = |text| ErrorObject::from_status(&Status::new(Code::ResourceExhausted, text));
        // Little room: without `data`, which says the same once more.
        let short = || ErrorObject { data: None, ..error(format!("{size} B: pad, or use TCP")) };
        fitting(error(long)).or_else(|| fitting(short()))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::rpc::catalog::{Catalog, Kind};
    use crate::rpc::testing::{Function, catalog, echo, origin};

    const TEXT: &str = "google.protobuf.StringValue";

    fn service(catalog: Catalog) -> Service {
        let limits = Limits { batch_max: 5, result_size_max: 100, ..Limits::default() };
        Service::new(SharedCatalog::new(catalog), Arc::default(), limits)
    }

    fn echo_service() -> Service {
        service(catalog(
            &[
                ("demo.Echo/Say", TEXT, Kind::Unary),
                ("demo.Echo/Stream", TEXT, Kind::ServerStream),
                ("demo.Echo/Collect", TEXT, Kind::ClientStream),
            ],
            &echo(),
        ))
    }

    async fn ask(service: &Service, document: &str) -> Option<String> {
        match service.answer(&origin(), document.as_bytes()).await {
            Answer::Reply(reply) => Some(String::from_utf8(reply).unwrap()),
            Answer::Silence => None,
            Answer::Lost => panic!("lost"),
        }
    }

    #[tokio::test]
    async fn one_request_one_response() {
        let service = echo_service();
        let reply = ask(&service, r#"{"jsonrpc":"2.0","method":"Say","params":["hi"],"id":1.50}"#).await;
        assert_eq!(reply.unwrap(), r#"{"jsonrpc":"2.0","result":"hi","id":1.50}"#);
        let reply = ask(&service, r#"{"jsonrpc":"2.0","method":"demo.Echo.Say","id":"a"}"#).await;
        assert_eq!(reply.unwrap(), r#"{"jsonrpc":"2.0","result":"","id":"a"}"#);
    }

    #[tokio::test]
    async fn notifications_get_no_reply_and_run() {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let backend = Function(move |call: Call| -> BoxFuture<'static, Reply> {
            sender.try_send(call.id).unwrap();
            async { Reply::failed(Status::new(Code::Internal, "unseen")) }.boxed()
        });
        let service = service(catalog(&[("demo.Echo/Say", TEXT, Kind::Unary)], &(Arc::new(backend) as _)));
        assert_eq!(ask(&service, r#"{"jsonrpc":"2.0","method":"Say","params":["hi"]}"#).await, None);
        assert_eq!(receiver.try_recv(), Ok(1));
        assert_eq!(ask(&service, r#"[{"jsonrpc":"2.0","method":"Nobody"}]"#).await, None);
    }

    #[tokio::test]
    async fn a_batch_is_answered_in_order_without_its_notifications() {
        let service = echo_service();
        let reply = ask(
            &service,
            r#"[{"jsonrpc":"2.0","method":"Say","params":["a"],"id":1}, {"jsonrpc":"2.0","method":"Say","params":["b"]},
               2, {"jsonrpc":"2.0","method":"No","id":3}, {"jsonrpc":"2.0","method":"Say","params":{"x":4},"id":4}]"#,
        );
        let reply: Vec<serde_json::Value> = serde_json::from_str(&reply.await.unwrap()).unwrap();
        let short: Vec<_> =
            reply.iter().map(|r| format!("{} {}{}", r["id"], r["result"], r["error"]["code"])).collect();
        assert_eq!(short, ["1 \"a\"null", "null null-32600", "3 null-32601", "4 null-32602"]);
    }

    #[tokio::test]
    async fn streams_are_arrays() {
        let service = echo_service();
        let reply = ask(&service, r#"{"jsonrpc":"2.0","method":"Stream","params":["a"],"id":1}"#).await;
        assert_eq!(reply.unwrap(), r#"{"jsonrpc":"2.0","result":["a"],"id":1}"#);
        let reply = ask(&service, r#"{"jsonrpc":"2.0","method":"Collect","params":["b","c"],"id":1}"#).await;
        assert_eq!(reply.unwrap(), r#"{"jsonrpc":"2.0","result":"b","id":1}"#);
        let reply = ask(&service, r#"{"jsonrpc":"2.0","method":"Collect","id":1}"#).await.unwrap();
        assert!(reply.contains(r#""error":{"code":-32602,"message":"no message""#), "{reply}");
    }

    #[tokio::test]
    async fn an_endless_stream_ends_at_the_size_limit() {
        let backend = Function(|_: Call| -> BoxFuture<'static, Reply> {
            let message = || Event::Message(Payload::json(&b"\"tick\""[..]));
            async move { Reply::stream(stream::repeat_with(message).boxed()) }.boxed()
        });
        let service =
            service(catalog(&[("demo.Clock/Tick", TEXT, Kind::ServerStream)], &(Arc::new(backend) as _)));
        let reply = ask(&service, r#"{"jsonrpc":"2.0","method":"Tick","id":1}"#).await.unwrap();
        assert!(
            reply.contains(
                r#""code":-32008,"message":"the result of demo.Clock/Tick is over the limit of 100"#
            ),
            "{reply}"
        );
    }

    #[tokio::test]
    async fn a_deadline_in_meta_is_kept() {
        let backend = Function(|_: Call| -> BoxFuture<'static, Reply> { std::future::pending().boxed() });
        let service = service(catalog(&[("demo.Clock/Tick", TEXT, Kind::Unary)], &(Arc::new(backend) as _)));
        let request = r#"{"jsonrpc":"2.0","method":"Tick","id":1,"meta":{"connect-timeout-ms":"20"}}"#;
        let reply = ask(&service, request).await.unwrap();
        assert!(reply.contains(r#""code":-32004"#), "{reply}");
        let reply =
            ask(&service, r#"{"jsonrpc":"2.0","method":"Tick","id":1,"meta":{"a b":"20"}}"#).await.unwrap();
        assert!(reply.contains(r#""code":-32602,"message":"meta: "#), "{reply}");
    }

    #[tokio::test]
    async fn a_request_can_be_cancelled_by_its_id() {
        let (started, mut starts) = tokio::sync::mpsc::channel(1);
        let backend = Function(move |_: Call| -> BoxFuture<'static, Reply> {
            started.try_send(()).unwrap();
            std::future::pending().boxed()
        });
        let service = service(catalog(&[("demo.Clock/Tick", TEXT, Kind::Unary)], &(Arc::new(backend) as _)));
        let origin = origin();
        let wait = service.answer(&origin, br#"{"jsonrpc":"2.0","method":"Tick","id":"x"}"#);
        let cancel = async {
            starts.recv().await.unwrap();
            service
                .answer(&origin, br#"{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":"x"}}"#)
                .await
        };
        let (reply, none) = tokio::join!(wait, cancel);
        assert_eq!(none, Answer::Silence);
        let Answer::Reply(reply) = reply else { panic!("{reply:?}") };
        assert!(String::from_utf8(reply).unwrap().contains(r#""code":-32800"#));
        assert!(origin.canceller.lock().is_empty());
    }

    #[tokio::test]
    async fn a_lost_reply_is_not_sent() {
        let backend = Function(|_: Call| -> BoxFuture<'static, Reply> {
            let body = Body::Lost(Box::new(Reply::one(Payload::json(&b"1"[..])).body));
            async { Reply { headers: HeaderMap::new(), body } }.boxed()
        });
        let service = service(catalog(&[("demo.Echo/Say", TEXT, Kind::Unary)], &(Arc::new(backend) as _)));
        let document = br#"{"jsonrpc":"2.0","method":"Say","id":1}"#;
        assert_eq!(service.answer(&origin(), document).await, Answer::Lost);
    }

    #[tokio::test]
    async fn a_handler_that_replies_over_several_lines_does_not_break_the_line() {
        let backend = Function(|_: Call| -> BoxFuture<'static, Reply> {
            async { Reply::one(Payload::json(&b"{\n \"a\":\r\n1}"[..])) }.boxed()
        });
        let service =
            service(catalog(&[("d.E/F", "google.protobuf.Struct", Kind::Unary)], &(Arc::new(backend) as _)));
        let reply = ask(&service, r#"{"jsonrpc":"2.0","method":"F","id":1}"#).await.unwrap();
        assert_eq!(reply, r#"{"jsonrpc":"2.0","result":{  "a":  1},"id":1}"#);
    }

    #[tokio::test]
    async fn discovery_describes_every_method() {
        let reply =
            ask(&echo_service(), r#"{"jsonrpc":"2.0","method":"rpc.discover","id":1}"#).await.unwrap();
        let reply: serde_json::Value = serde_json::from_str(&reply).unwrap();
        let method = &reply["result"]["methods"][1];
        assert_eq!(method["name"], "demo.Echo/Say");
        assert_eq!(method["params"], serde_json::json!([{"name":"value","schema":{"type":"string"}}]));
        assert_eq!(reply["result"]["methods"][2]["result"]["schema"]["type"], "array");
    }
}
