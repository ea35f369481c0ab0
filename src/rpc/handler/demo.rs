//! The built-in services: every kind of call, without a handler to write.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use http::HeaderMap;
use prost::Message;
use tokio::sync::broadcast;
use tokio::time::MissedTickBehavior;

use super::Echo;
use crate::rpc::schema::SchemaError;
use crate::rpc::{
    Backend, Call, Code, Event, Format, Method, Payload, Reply, Requests, Route, Schema, Status,
};

/// `demo.proto`, compiled; a test compares them.
const DESCRIPTORS: &[u8] = include_bytes!("demo.binpb");

/// Lines that a slow listener may be behind before it misses some.
const CHAT_BACKLOG: usize = 1024;

#[derive(Clone, PartialEq, Message)]
struct HelloRequest {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct HelloReply {
    #[prost(string, tag = "1")]
    message: String,
}

#[derive(Clone, PartialEq, Message)]
struct Operands {
    #[prost(double, tag = "1")]
    a: f64,
    #[prost(double, tag = "2")]
    b: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(double, tag = "1")]
    value: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Total {
    #[prost(double, tag = "1")]
    sum: f64,
    #[prost(uint64, tag = "2")]
    count: u64,
    #[prost(double, tag = "3")]
    mean: f64,
}

#[derive(Clone, PartialEq, Message)]
struct TicksRequest {
    #[prost(uint32, tag = "1")]
    count: u32,
    #[prost(uint32, tag = "2")]
    interval_ms: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Tick {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(int64, tag = "2")]
    unix_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(string, tag = "1")]
    from: String,
    #[prost(string, tag = "2")]
    text: String,
}

#[derive(Clone, PartialEq, Message)]
struct Amount {
    #[prost(int64, tag = "1")]
    cents: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Balance {
    #[prost(int64, tag = "1")]
    cents: i64,
    #[prost(uint64, tag = "2")]
    changes: u64,
}

/// What the services remember between calls.
#[derive(Debug)]
struct Demo {
    room: broadcast::Sender<Line>,
    account: Mutex<Balance>,
}

/// The schema of the built-in services.
///
/// # Errors
/// None: the descriptors are part of the program. A test says so.
pub fn schema() -> Result<Schema, SchemaError> {
    Schema::from_descriptor_set(DESCRIPTORS)
}

/// A route for every method of package `demo` in `schema`.
pub fn routes(schema: &Schema) -> Vec<Route> {
    let account = Mutex::new(Balance { cents: 10_000, changes: 0 });
    let demo: Arc<dyn Backend> =
        Arc::new(Services(Arc::new(Demo { room: broadcast::Sender::new(CHAT_BACKLOG), account })));
    let echo: Arc<dyn Backend> = Arc::new(Echo);
    let route = |method: Method| {
        let backend = if method.service() == "demo.Echo" { Arc::clone(&echo) } else { Arc::clone(&demo) };
        Route { method: Arc::new(method), backend }
    };
    schema.methods().filter(|method| method.path.starts_with("demo.")).map(route).collect()
}

struct Services(Arc<Demo>);

impl Backend for Services {
    fn call(&self, call: Call) -> BoxFuture<'static, Reply> {
        let demo = Arc::clone(&self.0);
        async move { demo.answer(call).await.unwrap_or_else(Reply::failed) }.boxed()
    }
}

impl Demo {
    async fn answer(self: Arc<Self>, call: Call) -> Result<Reply, Status> {
        let method = Arc::clone(&call.method);
        let requests = call.requests;
        match (method.path.as_str(), requests) {
            ("demo.Greeter/Hello", Requests::One(message)) => {
                let HelloRequest { name } = decode(&method, &message)?;
                let name = if name.is_empty() { "world" } else { &name };
                Ok(one(&HelloReply { message: format!("Hello, {name}!") }))
            }
            ("demo.Calc/Add", Requests::One(message)) => {
                let Operands { a, b } = decode(&method, &message)?;
                Ok(one(&Number { value: a + b }))
            }
            ("demo.Calc/Divide", Requests::One(message)) => {
                let Operands { a, b } = decode(&method, &message)?;
                if b == 0.0 {
                    return Err(Status::new(Code::InvalidArgument, "cannot divide by zero"));
                }
                Ok(one(&Number { value: a / b }))
            }
            ("demo.Calc/Sum", Requests::Stream(numbers)) => sum(&method, numbers).await,
            ("demo.Clock/Now", Requests::One(_)) => Ok(one(&Tick { number: 1, unix_ms: unix_ms() })),
            ("demo.Clock/Ticks", Requests::One(message)) => Ok(ticks(&decode(&method, &message)?)),
            ("demo.Chat/Talk", Requests::Stream(lines)) => Ok(self.talk(method, lines)),
            ("demo.Account/Deposit", Requests::One(message)) => {
                self.change(positive(decode(&method, &message)?)?)
            }
            ("demo.Account/Withdraw", Requests::One(message)) => {
                self.change(-positive(decode(&method, &message)?)?)
            }
            ("demo.Account/Show", Requests::One(_)) => {
                Ok(one(&*self.account.lock().unwrap_or_else(PoisonError::into_inner)))
            }
            (path, _) => Err(Status::new(Code::Unimplemented, format!("{path} has no built-in answer"))),
        }
    }

    fn change(&self, cents: i64) -> Result<Reply, Status> {
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        let after = account
            .cents
            .checked_add(cents)
            .ok_or_else(|| Status::new(Code::OutOfRange, "no bank has so much money"))?;
        if after < 0 {
            let text = format!("cannot take {} from {}", cents_text(-cents), cents_text(account.cents));
            return Err(Status::new(Code::FailedPrecondition, text));
        }
        *account = Balance { cents: after, changes: account.changes + 1 };
        Ok(one(&*account))
    }

    /// What anybody says goes to everybody, the speaker included, until the speaker hangs up.
    fn talk(&self, method: Arc<Method>, lines: BoxStream<'static, Result<Payload, Status>>) -> Reply {
        let heard = self.room.subscribe();
        let room = self.room.clone();
        let state = (lines, heard, room, method, false);
        let events = stream::unfold(Some(state), |state| async move {
            let (mut lines, mut heard, room, method, mut silent) = state?;
            loop {
                tokio::select! {
                    // What was said is heard before the end of the speaker counts.
                    biased;
                    line = heard.recv() => match line {
                        Ok(line) => {
                            let event = Event::Message(Payload::proto(line.encode_to_vec()));
                            return Some((event, Some((lines, heard, room, method, silent))));
                        }
                        Err(broadcast::error::RecvError::Lagged(_)) => {}
                        Err(broadcast::error::RecvError::Closed) => return Some((end(Status::ok()), None)),
                    },
                    said = lines.next(), if !silent => match said {
                        Some(said) => match said.and_then(|message| decode::<Line>(&method, &message)) {
                            // Fails only if nobody listens, and we do.
                            Ok(line) => drop(room.send(line)),
                            Err(status) => return Some((end(status), None)),
                        },
                        None => silent = true,
                    },
                    () = std::future::ready(()), if silent => return Some((end(Status::ok()), None)),
                }
            }
        });
        Reply::stream(events.boxed())
    }
}

fn decode<M: Message + Default>(method: &Method, message: &Payload) -> Result<M, Status> {
    let bytes = method.input.convert(message, Format::Proto)?;
    M::decode(bytes).map_err(|error| {
        Status::new(Code::InvalidArgument, format!("not a {}: {error}", method.input.full_name()))
    })
}

fn one(message: &impl Message) -> Reply {
    Reply::one(Payload::proto(message.encode_to_vec()))
}

fn end(status: Status) -> Event {
    Event::End { status, trailers: HeaderMap::new() }
}

fn positive(amount: Amount) -> Result<i64, Status> {
    match amount.cents {
        cents @ 1.. => Ok(cents),
        _ => Err(Status::new(Code::InvalidArgument, "cents must be more than 0")),
    }
}

fn cents_text(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

async fn sum(
    method: &Method,
    mut numbers: BoxStream<'static, Result<Payload, Status>>,
) -> Result<Reply, Status> {
    let mut total = Total::default();
    while let Some(number) = numbers.next().await {
        total.sum += decode::<Number>(method, &number?)?.value;
        total.count += 1;
    }
    #[expect(clippy::cast_precision_loss, reason = "nobody sends 2^53 numbers")]
    let count = total.count.max(1) as f64;
    total.mean = total.sum / count;
    Ok(one(&total))
}

fn ticks(request: &TicksRequest) -> Reply {
    let interval =
        Duration::from_millis(if request.interval_ms == 0 { 1000 } else { request.interval_ms.into() });
    let mut timer = tokio::time::interval(interval);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let last = if request.count == 0 { u64::MAX } else { request.count.into() };
    let events = stream::unfold((timer, 1), move |(mut timer, number)| async move {
        if number > last {
            return (number == last + 1).then(|| (end(Status::ok()), (timer, number + 1)));
        }
        timer.tick().await;
        let tick = Tick { number, unix_ms: unix_ms() };
        Some((Event::Message(Payload::proto(tick.encode_to_vec())), (timer, number + 1)))
    });
    Reply::stream(events.boxed())
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::rpc::handler::testing::{call, json, messages, status};

    #[test]
    fn the_compiled_descriptors_are_those_of_the_source() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rpc/handler");
        let compiled = Schema::compile(&[folder.join("demo.proto")], std::slice::from_ref(&folder))
            .unwrap()
            .descriptor_set();
        let file = folder.join("demo.binpb");
        if std::env::var_os("SNAPSHOTS").is_some_and(|value| value == "overwrite") {
            std::fs::write(&file, &compiled).unwrap();
        }
        assert!(compiled == DESCRIPTORS, "run SNAPSHOTS=overwrite cargo test twice");
    }

    async fn ask(path: &str, requests: &[&str]) -> Reply {
        let schema = schema().unwrap();
        let routes = routes(&schema);
        let route = routes.iter().find(|route| route.method.path == path).unwrap();
        route.backend.call(call(&route.method, requests)).await
    }

    #[tokio::test]
    async fn every_method_is_answered() {
        let schema = schema().unwrap();
        for route in routes(&schema) {
            let requests: &[&str] = if route.method.path.ends_with("/Ticks") {
                &[r#"{"count": 1, "intervalMs": 1}"#]
            } else {
                &["{}"]
            };
            let reply = route.backend.call(call(&route.method, requests)).await;
            let status = status(reply).await;
            assert_ne!(status.code, Code::Unimplemented, "{}", route.method.path);
        }
    }

    #[tokio::test]
    async fn one_of_each_kind() {
        assert_eq!(
            json("demo.HelloReply", ask("demo.Greeter/Hello", &[r#"{"name":"Ada"}"#]).await).await,
            [r#"{"message":"Hello, Ada!"}"#]
        );
        let sum = ask("demo.Calc/Sum", &[r#"{"value":1}"#, r#"{"value":5}"#]).await;
        let total = Total { sum: 6.0, count: 2, mean: 3.0 };
        assert_eq!(messages(sum).await, [Payload::proto(total.encode_to_vec())]);
        let ticks = messages(ask("demo.Clock/Ticks", &[r#"{"count":3,"intervalMs":1}"#]).await).await;
        let numbers = ticks.iter().map(|tick| Tick::decode(tick.bytes.clone()).unwrap().number);
        assert_eq!(numbers.collect::<Vec<_>>(), [1, 2, 3]);
        let lines = [r#"{"from":"ada","text":"hi"}"#, r#"{"from":"ada","text":"bye"}"#];
        assert_eq!(json("demo.Line", ask("demo.Chat/Talk", &lines).await).await, lines);
    }

    #[tokio::test]
    async fn an_account_can_be_overdrawn_by_nobody() {
        let schema = schema().unwrap();
        let routes = routes(&schema);
        let withdraw = routes.iter().find(|route| route.method.path == "demo.Account/Withdraw").unwrap();
        let call = |cents: &str| withdraw.backend.call(call(&withdraw.method, &[cents]));
        assert_eq!(
            json("demo.Balance", call(r#"{"cents": 9999}"#).await).await,
            [r#"{"cents":"1","changes":"1"}"#]
        );
        let status = status(call(r#"{"cents": 2}"#).await).await;
        assert_eq!(status, Status::new(Code::FailedPrecondition, "cannot take 0.02 from 0.01"));
    }
}
