//! Documents: one request or response, or a batch of them, as text.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::{ErrorObject, INVALID_REQUEST, PARSE_ERROR};

/// The text of an id exactly as the peer wrote it: a string, a number of any size, or null.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Id(String);

impl Id {
    /// The id of a response to something whose id could not be read.
    pub fn null() -> Self {
        Self("null".to_owned())
    }

    /// A number of our own.
    pub fn number(number: u64) -> Self {
        Self(number.to_string())
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn parse(raw: &RawValue) -> Option<Self> {
        let text = raw.get();
        match text.as_bytes().first()? {
            b'"' | b'-' | b'0'..=b'9' => Some(Self(text.to_owned())),
            _ => (text == "null").then(Self::null),
        }
    }
}

/// A request or a notification.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// `None` for a notification.
    pub id: Option<Id>,
    /// What is called.
    pub method: Cow<'a, str>,
    /// JSON text of the parameters: an array or an object.
    pub params: Option<&'a RawValue>,
    /// The members of `meta`, an extension of ours: metadata where there are no HTTP headers.
    pub meta: Option<&'a RawValue>,
}

/// One element of a document: a request, or what to answer to something that is none.
#[derive(Debug)]
pub enum Incoming<'a> {
    /// A request or a notification.
    Request(Request<'a>),
    /// The answer to something that is neither.
    Invalid(Response),
}

/// What a peer sent at once.
#[derive(Debug)]
pub enum Document<'a> {
    /// One request.
    Single(Incoming<'a>),
    /// A batch, in order, never empty.
    Batch(Vec<Incoming<'a>>),
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The id of the request.
    pub id: Id,
    /// JSON text of the result, or the error.
    pub outcome: Result<String, ErrorObject>,
}

impl Response {
    /// A response with an error.
    pub fn error(id: Id, error: ErrorObject) -> Self {
        Self { id, outcome: Err(error) }
    }

    /// Appends it as JSON in one line.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",");
        match &self.outcome {
            Ok(result) => {
                out.extend_from_slice(b"\"result\":");
                out.extend_from_slice(result.as_bytes());
            }
            Err(error) => {
                out.extend_from_slice(b"\"error\":");
                error.write(out);
            }
        }
        out.extend_from_slice(b",\"id\":");
        out.extend_from_slice(self.id.0.as_bytes());
        out.push(b'}');
    }
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
}

/// Keeps a present `null` apart from an absent member.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads one document of at most `batch_max` requests.
///
/// # Errors
/// The response to send when it is not a document at all.
pub fn parse_document(bytes: &[u8], batch_max: usize) -> Result<Document<'_>, Response> {
    let refuse = |code, message: String| Response::error(Id::null(), ErrorObject::new(code, message));
    let whole: &RawValue = serde_json::from_slice(bytes)
        .map_err(|error| refuse(PARSE_ERROR, format!("the text is not JSON: {error}")))?;
    if !whole.get().starts_with('[') {
        return Ok(Document::Single(parse_request(whole)));
    }
    let elements: Elements<'_> = serde_json::from_str(whole.get())
        .map_err(|error| refuse(PARSE_ERROR, format!("the text is not JSON: {error}")))?;
    let elements = elements.0;
    if elements.is_empty() {
        return Err(refuse(INVALID_REQUEST, "an empty batch".to_owned()));
    }
    if elements.len() > batch_max {
        let count = elements.len();
        return Err(refuse(INVALID_REQUEST, format!("a batch of {count} is over the limit of {batch_max}")));
    }
    Ok(Document::Batch(elements.into_iter().map(parse_request).collect()))
}

#[derive(Deserialize)]
struct Elements<'a>(#[serde(borrow)] Vec<&'a RawValue>);

fn parse_request(raw: &RawValue) -> Incoming<'_> {
    let invalid = |id: Option<Id>, message: String| {
        Incoming::Invalid(Response::error(
            id.unwrap_or_else(Id::null),
            ErrorObject::new(INVALID_REQUEST, message),
        ))
    };
    if !raw.get().starts_with('{') {
        return invalid(None, "a request is an object".to_owned());
    }
    let fields: Fields<'_> = match serde_json::from_str(raw.get()) {
        Ok(fields) => fields,
        Err(error) => return invalid(None, format!("not a request: {error}")),
    };
    let id = match fields.id.map(Id::parse) {
        None => None,
        Some(Some(id)) => Some(id),
        Some(None) => return invalid(None, "id must be a string, a number or null".to_owned()),
    };
    if fields.jsonrpc.map(RawValue::get) != Some("\"2.0\"") {
        return invalid(id, "jsonrpc must be \"2.0\"".to_owned());
    }
    let Some(Ok(method)) = fields.method.map(|method| serde_json::from_str::<Text<'_>>(method.get())) else {
        return invalid(id, "method must be a string".to_owned());
    };
    if let Some(params) = fields.params
        && !params.get().starts_with(['{', '['])
    {
        return invalid(id, "params must be an array or an object".to_owned());
    }
    Incoming::Request(Request { id, method: method.0, params: fields.params, meta: fields.meta })
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Appends a request; without `id`, a notification. `params` and `meta` are JSON text.
pub fn encode_request(
    out: &mut Vec<u8>,
    id: Option<&Id>,
    method: &str,
    params: Option<&str>,
    meta: Option<&str>,
) {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"method\":");
    write_string(out, method);
    for (name, value) in [("params", params), ("meta", meta), ("id", id.map(Id::as_str))] {
        if let Some(value) = value {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            out.extend_from_slice(value.as_bytes());
        }
    }
    out.push(b'}');
}

/// Reads one response or a batch of them, as a client gets it.
///
/// # Errors
/// Text that is neither.
pub fn parse_responses(bytes: &[u8]) -> Result<Vec<Response>, String> {
    let whole: &RawValue = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if !whole.get().starts_with('[') {
        return Ok(vec![parse_response(whole)?]);
    }
    let elements: Elements<'_> = serde_json::from_str(whole.get()).map_err(|error| error.to_string())?;
    elements.0.into_iter().map(parse_response).collect()
}

fn parse_response(raw: &RawValue) -> Result<Response, String> {
    #[derive(Deserialize)]
    struct Fields<'a> {
        #[serde(borrow, default, deserialize_with = "present")]
        id: Option<&'a RawValue>,
        #[serde(borrow, default, deserialize_with = "present")]
        result: Option<&'a RawValue>,
        error: Option<ErrorObject>,
    }
    let fields: Fields<'_> = serde_json::from_str(raw.get()).map_err(|error| error.to_string())?;
    let id = fields.id.map_or_else(|| Some(Id::null()), Id::parse);
    let id = id.ok_or("id is neither a string nor a number nor null")?;
    match (fields.error, fields.result) {
        (Some(error), _) => Ok(Response::error(id, error)),
        (None, Some(result)) => Ok(Response { id, outcome: Ok(result.get().to_owned()) }),
        (None, None) => Err("neither result nor error".to_owned()),
    }
}

/// Appends `text` as a JSON string.
pub(super) fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a vector takes every byte, a string is always valid JSON");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn single(text: &str) -> Incoming<'_> {
        match parse_document(text.as_bytes(), 10) {
            Ok(Document::Single(incoming)) => incoming,
            other => panic!("{other:?}"),
        }
    }

    fn request(text: &str) -> Request<'_> {
        match single(text) {
            Incoming::Request(request) => request,
            Incoming::Invalid(response) => panic!("{response:?}"),
        }
    }

    fn refusal(text: &str) -> (i64, String) {
        match parse_document(text.as_bytes(), 3) {
            Ok(Document::Single(Incoming::Invalid(response))) | Err(response) => {
                (response.outcome.unwrap_err().code, response.id.0)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ids_are_kept_verbatim() {
        for id in ["1", "\"a\\u0041\"", "null", "-1", "1.50", "1e400", "123456789012345678901234567890"] {
            let text = format!(r#"{{"jsonrpc":"2.0","method":"m","id":{id}}}"#);
            assert_eq!(request(&text).id.unwrap().as_str(), id);
        }
        assert_eq!(request(r#"{"jsonrpc":"2.0","method":"m"}"#).id, None);
    }

    #[test]
    fn what_is_not_a_request_is_refused_as_the_specification_says() {
        let null = || "null".to_owned();
        assert_eq!(
            refusal(r#"{"jsonrpc":"2.0","method":"foobar,"params":"bar","baz]"#),
            (PARSE_ERROR, null())
        );
        assert_eq!(refusal(r#"{"jsonrpc":"2.0","method":1,"params":"bar"}"#), (INVALID_REQUEST, null()));
        assert_eq!(
            refusal(r#"[{"jsonrpc":"2.0","method":"sum","id":"1"},{"jsonrpc":"2.0","method""#).0,
            PARSE_ERROR
        );
        assert_eq!(refusal("[]"), (INVALID_REQUEST, null()));
        assert_eq!(refusal("1"), (INVALID_REQUEST, null()));
        assert_eq!(refusal("[1,2,3,4]"), (INVALID_REQUEST, null()));
        assert_eq!(refusal(r#"{"method":"m","id":7}"#), (INVALID_REQUEST, "7".to_owned()));
        assert_eq!(refusal(r#"{"jsonrpc":"2.0","method":"m","id":[7]}"#), (INVALID_REQUEST, null()));
        assert_eq!(refusal(r#"{"jsonrpc":"2.0","method":"m","id":true}"#), (INVALID_REQUEST, null()));
        assert_eq!(
            refusal(r#"{"jsonrpc":"2.0","method":"m","params":"x","id":1}"#),
            (INVALID_REQUEST, "1".to_owned())
        );
        assert_eq!(refusal("\u{0}\u{1}"), (PARSE_ERROR, null()));
        assert_eq!(refusal(""), (PARSE_ERROR, null()));
    }

    #[test]
    fn a_batch_keeps_good_and_bad_elements_apart_and_in_order() {
        let Ok(Document::Batch(batch)) =
            parse_document(br#"[1, {"jsonrpc":"2.0","method":"m","id":1}, {"foo":"boo"}]"#, 10)
        else {
            panic!("not a batch");
        };
        assert!(matches!(batch[0], Incoming::Invalid(_)));
        assert!(matches!(&batch[1], Incoming::Request(request) if request.method == "m"));
        assert!(matches!(batch[2], Incoming::Invalid(_)));
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_stack_overflow() {
        let deep = "[".repeat(200_000) + &"]".repeat(200_000);
        let text = format!(r#"{{"jsonrpc":"2.0","method":"m","params":{deep},"id":1}}"#);
        // Raw parameters are scanned without recursion; the message decoder has its own limit.
        assert_eq!(request(&text).id.unwrap().as_str(), "1");
        assert!(parse_document(deep.as_bytes(), 10).is_ok());
    }

    #[test]
    fn requests_and_responses_round_trip() {
        let mut bytes = Vec::new();
        encode_request(&mut bytes, Some(&Id::number(3)), "a.B/\"C", Some("[1]"), Some(r#"{"k":"v"}"#));
        assert_eq!(
            std::str::from_utf8(&bytes).unwrap(),
            r#"{"jsonrpc":"2.0","method":"a.B/\"C","params":[1],"meta":{"k":"v"},"id":3}"#
        );
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(request(&text).method, "a.B/\"C");
        let response = Response { id: Id::number(3), outcome: Ok("null".to_owned()) };
        let mut bytes = Vec::new();
        response.write(&mut bytes);
        assert_eq!(parse_responses(&bytes).unwrap(), [response]);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_document(&bytes, 3);
            let _ = parse_responses(&bytes);
        }

        #[test]
        fn json_like_garbage_never_panics(text in r#"[\[\]{}",:0-9a-z\\ ]{0,80}"#) {
            let _ = parse_document(text.as_bytes(), 3);
            let _ = parse_responses(text.as_bytes());
        }
    }
}
