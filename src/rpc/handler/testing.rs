//! Calls and replies for the tests of backends.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::HeaderMap;

use super::demo;
use crate::rpc::backend::{Peer, Protocol};
use crate::rpc::{Body, Call, Event, Format, Method, Payload, Reply, Requests, Status};

/// A call of `method` with JSON messages.
pub fn call(method: &Arc<Method>, requests: &[&str]) -> Call {
    let messages: Vec<_> = requests.iter().map(|text| Payload::json((*text).to_owned())).collect();
    let requests = if method.kind.client_streams() {
        Requests::Stream(stream::iter(messages.into_iter().map(Ok)).boxed())
    } else {
        Requests::One(messages[0].clone())
    };
    Call {
        method: Arc::clone(method),
        id: 7,
        protocol: Protocol::Grpc,
        peer: Arc::new(Peer { address: "127.0.0.1:5".into(), tls_subject: None }),
        metadata: HeaderMap::new(),
        deadline: None,
        requests,
    }
}

/// The method of the built-in services with that path.
pub fn method(path: &str) -> Arc<Method> {
    let schema = demo::schema().unwrap();
    Arc::new(schema.methods().find(|method| method.path == path).unwrap())
}

/// Everything in a reply.
pub async fn all(reply: Reply) -> (Vec<Payload>, Status, HeaderMap) {
    match reply.body {
        Body::One { message, trailers } => (vec![message], Status::ok(), trailers),
        Body::Failed { status, trailers } => (vec![], status, trailers),
        Body::Lost(_) => panic!("the reply was lost"),
        Body::Stream(mut events) => {
            let mut messages = Vec::new();
            while let Some(event) = events.next().await {
                match event {
                    Event::Message(message) => messages.push(message),
                    Event::End { status, trailers } => {
                        assert!(events.next().await.is_none(), "something after the end");
                        return (messages, status, trailers);
                    }
                }
            }
            panic!("a stream without an end after {} messages", messages.len())
        }
    }
}

/// The messages of a reply that succeeded.
pub async fn messages(reply: Reply) -> Vec<Payload> {
    let (messages, status, _) = all(reply).await;
    assert!(status.is_ok(), "{status}");
    messages
}

/// How a reply ended.
pub async fn status(reply: Reply) -> Status {
    all(reply).await.1
}

/// The messages of a reply that succeeded, of a built-in type, in JSON.
pub async fn json(type_name: &str, reply: Reply) -> Vec<Bytes> {
    let message_type = demo::schema().unwrap().message(type_name).unwrap();
    let messages = messages(reply).await;
    messages.iter().map(|message| message_type.convert(message, Format::Json).unwrap()).collect()
}
