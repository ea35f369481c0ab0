//! Replies that need no process: the same every time, or the request itself.

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use http::HeaderMap;

use crate::rpc::{Backend, Call, Code, Event, Payload, Reply, Requests, Status};

/// Answers every request with the same messages.
#[derive(Clone, Debug)]
pub struct Fixed {
    messages: Vec<Payload>,
}

impl Fixed {
    /// They must be messages of the method it is put behind: exactly one, unless it streams.
    pub fn new(messages: Vec<Payload>) -> Self {
        Self { messages }
    }
}

impl Backend for Fixed {
    fn call(&self, call: Call) -> BoxFuture<'static, Reply> {
        let mut messages = self.messages.clone();
        Box::pin(async move {
            // A caller that streams is heard to the end, or it would be cut off while it sends.
            if let Requests::Stream(mut requests) = call.requests {
                while let Some(request) = requests.next().await {
                    if let Err(status) = request {
                        return Reply::failed(status);
                    }
                }
            }
            if call.method.kind.server_streams() {
                let end = Event::End { status: Status::ok(), trailers: HeaderMap::new() };
                let events = messages.into_iter().map(Event::Message).chain([end]);
                return Reply::stream(stream::iter(events).boxed());
            }
            match messages.pop() {
                Some(message) => Reply::one(message),
                None => Reply::failed(Status::new(Code::Unimplemented, "there is no reply to give")),
            }
        })
    }
}

/// Sends every message back as it came. For methods whose reply type is their request type.
#[derive(Clone, Copy, Debug)]
pub struct Echo;

impl Backend for Echo {
    fn call(&self, call: Call) -> BoxFuture<'static, Reply> {
        let streams = call.method.kind.server_streams();
        match call.requests {
            Requests::One(message) => Box::pin(std::future::ready(Reply::one(message))),
            Requests::Stream(requests) if streams => {
                Box::pin(std::future::ready(Reply::stream(Box::pin(echo_all(requests)))))
            }
            // One reply to many requests: the last one.
            Requests::Stream(requests) => Box::pin(async move {
                let mut last = Err(Status::new(Code::InvalidArgument, "no message to echo"));
                futures_util::pin_mut!(requests);
                while let Some(message) = requests.next().await {
                    let failed = message.is_err();
                    last = message;
                    if failed {
                        break;
                    }
                }
                last.map_or_else(Reply::failed, Reply::one)
            }),
        }
    }
}

fn echo_all(
    requests: stream::BoxStream<'static, Result<Payload, Status>>,
) -> impl stream::Stream<Item = Event> + Send + 'static {
    let end = |status| Event::End { status, trailers: HeaderMap::new() };
    stream::unfold(Some(requests), move |requests| async move {
        let mut requests = requests?;
        Some(match requests.next().await {
            Some(Ok(message)) => (Event::Message(message), Some(requests)),
            Some(Err(status)) => (end(status), None),
            None => (end(Status::ok()), None),
        })
    })
}
