//! Messages through the API: publishing one, looking at those of a queue, and the test whether both work.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value as Json, json};

use super::Management;
use super::ask::{self, Caller, Order};
use super::reply::{Outcome, Refusal, Reply};
use super::write::{fits, is_reply, table};
use crate::mq::engine::{Content, Message, Reply as Answered, Send as Out, json_of};
use crate::mq::server::host::Host;
use crate::mq::server::session::{Closed, Session};
use crate::mq::wire::method::{basic, confirm, queue};
use crate::mq::wire::{Fields, Method, TableBuf};

/// Messages that are shown at a time; a client that wants more asks again.
const GET_MAX: i64 = 10_000;

/// Bytes of bodies that are shown at a time.
const GET_SIZE_MAX: usize = 64 << 20;

/// The queue of the aliveness test: RabbitMQ's.
const ALIVENESS_QUEUE: &str = "aliveness-test";

impl Management {
    pub(super) async fn publish(&self, order: &Order<'_>, host: &Arc<Host>, exchange: &str) -> Outcome {
        let object = ask::object(order.body)?;
        let names = ["routing_key", "properties", "payload", "payload_encoding"];
        let [key, properties, payload, encoding] = ask::wanted(&object, names)?;
        if !host.look(|engine| engine.has_exchange(exchange)) {
            let vhost = host.name();
            let text = format!("no exchange '{exchange}' in vhost '{vhost}'");
            return Err(Refusal::bad_request(format!("404 NOT_FOUND - {text}")));
        }
        let key = ask::text(key, "routing_key")?;
        fits(key)?;
        let payload = payload.as_str().ok_or_else(|| Refusal::bad_request("payload_not_string"))?;
        let body = match encoding.as_str() {
            Some("string") => Bytes::from(payload.to_owned()),
            Some("base64") => {
                let decoded = STANDARD.decode(payload);
                decoded.map_err(|_| Refusal::bad_request(json!(["not_base64", payload])))?.into()
            }
            _ => return Err(Refusal::bad_request(json!(["unsupported_encoding", encoding]))),
        };
        let content = Content { properties: properties_of(properties)?.into(), body };
        let mut session = self.session(order.caller, host)?;
        let routed = publish(&mut session, exchange, key, content).await;
        match routed.map_err(|closed| Refusal::of_channel(&closed))? {
            Some(routed) => Ok(Reply::One(json!({"routed": routed}))),
            None => Err(Refusal::bad_request("rejected Unable to publish message. Check queue limits.")),
        }
    }

    pub(super) async fn get(&self, order: &Order<'_>, host: &Arc<Host>, name: &str) -> Outcome {
        let object = ask::object(order.body)?;
        let [mode, count, encoding] = ask::wanted(&object, ["ackmode", "count", "encoding"])?;
        let mode = Mode::of(mode)?;
        let count = ask::integer(count)?;
        // RabbitMQ takes less than none for all.
        let count = if count < 0 { GET_MAX } else { count.min(GET_MAX) };
        let always_base64 = match encoding.as_str() {
            Some("auto") => false,
            Some("base64") => true,
            _ => return Err(Refusal::bad_request("Unsupported encoding. Please use auto or base64.")),
        };
        let truncate = match object.get("truncate") {
            None | Some(Json::Null) => None,
            Some(bytes) => Some(usize::try_from(ask::integer(bytes)?).unwrap_or(0)),
        };
        fits(name)?;
        let mut session = self.session(order.caller, host)?;
        let refused = |closed: Closed| Refusal::of_channel(&closed);
        let (mut shown, mut tags, mut size) = (Vec::new(), Vec::new(), 0);
        for _ in 0..count {
            let get = basic::Get { queue: name, no_ack: mode.takes_at_once(), ..basic::Get::default() };
            let answers = session.call(&get.into(), None, is_answer_to_get).await.map_err(refused)?;
            let Some(Out::GetOk { tag, redelivered, remaining, message, .. }) = answers.into_iter().last()
            else {
                break;
            };
            tags.push(tag);
            size += message.body.len().min(truncate.unwrap_or(usize::MAX)) + message.properties.len();
            shown.push(Shown { message, redelivered, remaining });
            if size > GET_SIZE_MAX {
                break;
            }
        }
        // Only now: what went back at once would be shown again.
        for tag in tags.into_iter().filter(|_| !mode.takes_at_once()) {
            let requeue = mode.requeues();
            let method: Method<'_> = basic::Nack { delivery_tag: tag, multiple: false, requeue }.into();
            session.tell(&method);
        }
        let shown = shown.iter().map(|shown| shown.json(truncate, always_base64));
        Ok(Reply::Many(shown.collect()))
    }

    /// Publishes a message and gets it again.
    pub(super) async fn aliveness(&self, caller: &Caller, vhost: &str) -> Outcome {
        let host = self.host_named(vhost)?;
        let mut session = self.session(caller, &host)?;
        let refused = |closed: Closed| Refusal::of_channel(&closed);
        let declare = queue::Declare { queue: ALIVENESS_QUEUE, ..queue::Declare::default() };
        session
            .call(&declare.into(), None, |send| matches!(send, Out::Reply { .. }))
            .await
            .map_err(refused)?;
        let content =
            Content { properties: Bytes::from_static(&[0, 0]), body: Bytes::from_static(b"test_message") };
        publish(&mut session, "", ALIVENESS_QUEUE, content).await.map_err(refused)?;
        let get = basic::Get { queue: ALIVENESS_QUEUE, no_ack: true, ..basic::Get::default() };
        let answers = session.call(&get.into(), None, is_answer_to_get).await.map_err(refused)?;
        match answers.last() {
            Some(Out::GetOk { .. }) => Ok(Reply::One(json!({"status": "ok"}))),
            _ => Ok(Reply::Failed(json!({"status": "failed", "reason": "the message did not come back"}))),
        }
    }
}

fn is_answer_to_get(send: &Out) -> bool {
    matches!(send, Out::GetOk { .. }) || is_reply(send, &Answered::BasicGetEmpty)
}

/// Whether a queue took it; none if one refused it.
async fn publish(
    session: &mut Session,
    exchange: &str,
    key: &str,
    content: Content,
) -> Result<Option<bool>, Closed> {
    let select: Method<'_> = confirm::Select { nowait: false }.into();
    session.call(&select, None, |send| is_reply(send, &Answered::ConfirmSelectOk)).await?;
    let publish = basic::Publish {
        exchange,
        routing_key: key.as_bytes(),
        mandatory: true,
        ..basic::Publish::default()
    };
    let answers = session
        .call(&publish.into(), Some(content), |send| matches!(send, Out::Ack { .. } | Out::Nack { .. }))
        .await?;
    if matches!(answers.last(), Some(Out::Nack { .. })) {
        return Ok(None);
    }
    Ok(Some(!answers.iter().any(|send| matches!(send, Out::Return { .. }))))
}

/// What happens to a message that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Take,
    PutBack,
    Reject,
}

impl Mode {
    fn of(name: &Json) -> Result<Self, Refusal> {
        match name.as_str() {
            Some("ack_requeue_false") => Ok(Self::Take),
            Some("ack_requeue_true" | "reject_requeue_true") => Ok(Self::PutBack),
            Some("reject_requeue_false") => Ok(Self::Reject),
            _ => Err(Refusal::bad_request(format!(
                "Invalid ackmode value: {}. Valid values are: ack_requeue_true, ack_requeue_false, \
                 reject_requeue_true, reject_requeue_false",
                name.as_str().map_or_else(|| name.to_string(), str::to_owned)
            ))),
        }
    }

    fn takes_at_once(self) -> bool {
        self == Self::Take
    }

    fn requeues(self) -> bool {
        self == Self::PutBack
    }
}

struct Shown {
    message: Arc<Message>,
    redelivered: bool,
    remaining: u32,
}

impl Shown {
    fn json(&self, truncate: Option<usize>, always_base64: bool) -> Json {
        let message = &self.message;
        let body = &message.body[..message.body.len().min(truncate.unwrap_or(usize::MAX))];
        let (payload, encoding) = match std::str::from_utf8(body) {
            Ok(text) if !always_base64 => (text.to_owned(), "string"),
            _ => (STANDARD.encode(body), "base64"),
        };
        json!({
            "payload_bytes": message.body.len(), "redelivered": self.redelivered,
            "exchange": &*message.exchange, "routing_key": String::from_utf8_lossy(&message.routing_key),
            "message_count": self.remaining, "properties": shown_properties(message), "payload": payload,
            "payload_encoding": encoding,
        })
    }
}

/// Properties as RabbitMQ shows them: no properties are an empty list.
fn shown_properties(message: &Message) -> Json {
    let properties = message.properties();
    let mut shown = Map::new();
    let mut text = |name: &str, value: Option<&[u8]>| {
        if let Some(value) = value {
            shown.insert(name.to_owned(), String::from_utf8_lossy(value).into_owned().into());
        }
    };
    text("cluster_id", properties.cluster_id());
    text("app_id", properties.app_id());
    text("user_id", properties.user_id());
    text("type", properties.kind());
    text("message_id", properties.message_id());
    text("expiration", properties.expiration());
    text("reply_to", properties.reply_to());
    text("correlation_id", properties.correlation_id());
    text("content_encoding", properties.content_encoding());
    text("content_type", properties.content_type());
    for (name, value) in [
        ("timestamp", properties.timestamp()),
        ("priority", properties.priority().map(u64::from)),
        ("delivery_mode", properties.delivery_mode().map(u64::from)),
    ] {
        if let Some(value) = value {
            shown.insert(name.to_owned(), value.into());
        }
    }
    if let Ok(Some(headers)) = properties.headers() {
        shown.insert("headers".to_owned(), json_of(headers).into());
    }
    if shown.is_empty() { json!([]) } else { shown.into() }
}

/// Properties from JSON, as on the wire.
fn properties_of(json: &Json) -> Result<Vec<u8>, Refusal> {
    let empty = Map::new();
    let object = match json {
        Json::Object(object) => object,
        Json::Array(list) if list.is_empty() => &empty,
        _ => return Err(Refusal::bad_request("properties_not_object")),
    };
    let text = |name: &str| -> Result<Option<&[u8]>, Refusal> {
        match object.get(name) {
            None => Ok(None),
            Some(Json::String(text)) => fits(text).map(|()| Some(text.as_bytes())),
            Some(_) => Err(Refusal::bad_request(json!(["not_string", name]))),
        }
    };
    let number = |name: &str| -> Result<Option<u64>, Refusal> {
        let wrong = || Refusal::bad_request(json!(["not_int", name]));
        object.get(name).map(|value| value.as_u64().ok_or_else(wrong)).transpose()
    };
    let octet = |name: &str| -> Result<Option<u8>, Refusal> {
        let wrong = |_| Refusal::bad_request(json!(["not_int", name]));
        number(name)?.map(|value| u8::try_from(value).map_err(wrong)).transpose()
    };
    let headers: Option<TableBuf> = match object.get("headers") {
        None => None,
        Some(Json::Object(headers)) => Some(table(headers)?),
        Some(Json::Array(list)) if list.is_empty() => None,
        Some(_) => return Err(Refusal::bad_request("headers_not_object")),
    };
    let fields = Fields {
        content_type: text("content_type")?,
        content_encoding: text("content_encoding")?,
        headers: headers.as_ref().map(TableBuf::as_table),
        delivery_mode: octet("delivery_mode")?,
        priority: octet("priority")?,
        correlation_id: text("correlation_id")?,
        reply_to: text("reply_to")?,
        expiration: text("expiration")?,
        message_id: text("message_id")?,
        timestamp: number("timestamp")?,
        kind: text("type")?,
        user_id: text("user_id")?,
        app_id: text("app_id")?,
        cluster_id: text("cluster_id")?,
    };
    Ok(fields.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_come_back_as_they_went() {
        let json = json!({
            "headers": {"a": 1, "l": [1, "x", true, 1.5], "t": {"y": "z"}}, "content_type": "text/plain",
            "priority": 3, "timestamp": 5, "type": "t", "message_id": "m", "user_id": "guest", "app_id": "a",
            "correlation_id": "c", "reply_to": "r", "expiration": "100000", "cluster_id": "x",
            "content_encoding": "e", "delivery_mode": 2,
        });
        let bytes = properties_of(&json).unwrap();
        let message = Message::new("".into(), b"k"[..].into(), bytes.into(), Bytes::new()).unwrap();
        let shown = shown_properties(&message);
        for (name, value) in json.as_object().unwrap() {
            assert_eq!(shown[name], *value, "{name}");
        }
        assert_eq!(shown.as_object().unwrap().len(), json.as_object().unwrap().len());
    }

    #[test]
    fn properties_that_make_no_sense_are_refused() {
        let long = "x".repeat(256);
        for wrong in [
            json!("x"),
            json!([1]),
            json!({"priority": 256}),
            json!({"priority": -1}),
            json!({"delivery_mode": "2"}),
            json!({"expiration": 5}),
            json!({"timestamp": 1.5}),
            json!({"headers": {"a": null}}),
            json!({"headers": 5}),
            json!({"type": long}),
            json!({"headers": {long: 1}}),
        ] {
            assert!(properties_of(&wrong).is_err(), "{wrong}");
        }
        assert_eq!(properties_of(&json!([])).unwrap(), [0, 0]);
    }
}
