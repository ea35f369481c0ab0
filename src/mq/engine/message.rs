//! A message as the broker holds it: property bytes as they came, a shared body, and the few facts decisions need.

use std::sync::Arc;

use bytes::Bytes;

use crate::mq::wire::{self, ArrayBuf, Fields, Properties, Table, TableBuf, Value};

/// Bytes that a message costs beside its properties and body: itself, its names, its place in a queue.
pub(crate) const OVERHEAD: usize = 192;

/// A published message. Queues and deliveries share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The exchange it was published to.
    pub exchange: Arc<str>,
    /// The key it was published with.
    pub routing_key: Arc<[u8]>,
    /// Property flags and values, as in a content header behind the body size (AMQP 0-9-1, 4.2.6.1).
    pub properties: Bytes,
    /// The payload.
    pub body: Bytes,
    priority: u8,
    persistent: bool,
    /// Put together by the broker when it dead-lettered: its `x-death` can be believed.
    dead: bool,
    /// Into how many queues it went: what it costs is divided among them.
    shared: u32,
    expiration: Option<u64>,
    copies: Option<Box<Copies>>,
}

/// Further routing keys of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Copies {
    /// From the header `CC`.
    shown: Vec<Arc<[u8]>>,
    /// From `BCC`, which nobody gets to see: a dead letter is routed by them again.
    hidden: Vec<Arc<[u8]>>,
}

/// What is wrong with the property `expiration`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExpirationFault {
    NoInteger,
    /// Digits with something behind them.
    Leftover(String),
    Negative(String),
    TooLarge(String),
}

/// Ten years in milliseconds: the longest time to live that RabbitMQ takes.
pub(crate) const TTL_MAX: u64 = 315_360_000_000;

/// Reads the property `expiration`: milliseconds in decimal digits.
pub(crate) fn expiration(text: &[u8]) -> Result<u64, ExpirationFault> {
    let text = String::from_utf8_lossy(text);
    let digits = text.strip_prefix(['-', '+']).unwrap_or(&text);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    if end == 0 {
        return Err(ExpirationFault::NoInteger);
    }
    if end < digits.len() {
        return Err(ExpirationFault::Leftover(digits[end..].to_owned()));
    }
    let value = digits.trim_start_matches('0');
    if text.starts_with('-') && !value.is_empty() {
        return Err(ExpirationFault::Negative(format!("-{value}")));
    }
    match value.parse::<u64>() {
        _ if value.is_empty() => Ok(0),
        Ok(millis) if millis <= TTL_MAX => Ok(millis),
        _ => Err(ExpirationFault::TooLarge(value.to_owned())),
    }
}

/// Flags that say there are no properties.
const NO_PROPERTIES: &[u8] = &[0, 0];

impl Message {
    /// From what a publisher sent.
    ///
    /// # Errors
    /// The property bytes are not what their flags say.
    #[inline]
    pub fn new(
        exchange: Arc<str>,
        routing_key: Arc<[u8]>,
        properties: Bytes,
        body: Bytes,
    ) -> Result<Self, wire::Error> {
        let mut message = Self {
            exchange,
            routing_key,
            properties,
            body,
            priority: 0,
            persistent: false,
            dead: false,
            shared: 1,
            expiration: None,
            copies: None,
        };
        if message.properties.len() != NO_PROPERTIES.len() || message.properties != NO_PROPERTIES {
            let properties = Properties::parse(&message.properties)?;
            message.priority = properties.priority().unwrap_or(0);
            message.persistent = properties.is_persistent();
            message.expiration = properties.expiration().and_then(|text| expiration(text).ok());
        }
        Ok(message)
    }

    /// A transient message without properties.
    pub fn plain(exchange: &str, routing_key: &str, body: &[u8]) -> Arc<Self> {
        Arc::new(Self {
            exchange: exchange.into(),
            routing_key: routing_key.as_bytes().into(),
            properties: Bytes::from_static(NO_PROPERTIES),
            body: Bytes::copy_from_slice(body),
            priority: 0,
            persistent: false,
            dead: false,
            shared: 1,
            expiration: None,
            copies: None,
        })
    }

    /// Its properties, to be looked at.
    pub fn properties(&self) -> Properties<'_> {
        Properties::parse(&self.properties).unwrap_or_default()
    }

    /// Bytes of the body.
    #[inline]
    pub fn body_len(&self) -> u64 {
        self.body.len() as u64
    }

    /// The property `priority`, 0 if there is none.
    #[inline]
    pub fn priority(&self) -> u8 {
        self.priority
    }

    /// Whether it was published with delivery mode 2.
    #[inline]
    pub fn is_persistent(&self) -> bool {
        self.persistent
    }

    /// The property `expiration` in milliseconds.
    #[inline]
    pub fn expiration(&self) -> Option<u64> {
        self.expiration
    }

    /// Whether its `x-death` header was written by a queue of the broker.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead
    }

    /// Whether the keys of `CC` were used to route it.
    pub(crate) fn has_copies(&self) -> bool {
        self.copies.as_ref().is_some_and(|copies| !copies.shown.is_empty())
    }

    /// Its properties as the publisher wrote them, with the header `BCC`, if it had one.
    pub(crate) fn properties_with_hidden(&self) -> Option<Bytes> {
        let hidden = self.copies.as_ref().filter(|copies| !copies.hidden.is_empty())?;
        let keys: ArrayBuf = hidden.hidden.iter().map(|key| Value::Text(key)).collect();
        let mut headers = TableBuf::from(self.headers());
        headers.set("BCC", Value::Array(keys.as_array()));
        let headers = headers.as_table();
        Some(self.rewritten(|fields| fields.headers = Some(headers)).properties)
    }

    /// As it was before it went to disk: put together by the broker or not, routed by the keys of its `CC` and of its
    /// `BCC` or not.
    pub(crate) fn restored(mut self, dead: bool, copies: bool, hidden: bool) -> Self {
        self.dead = dead;
        if !copies && !hidden {
            return self;
        }
        let keys = |name: &str| match self.headers().get(name) {
            Some(Value::Array(array)) => array.iter().filter_map(key_of).collect(),
            _ => Vec::new(),
        };
        let shown = if copies { keys("CC") } else { Vec::new() };
        let mut restored = self.clone();
        if hidden {
            let mut headers = TableBuf::from(self.headers());
            headers.remove("BCC");
            restored = self.rewritten(|fields| fields.headers = headers_or_none(headers.as_table()));
        }
        restored.set_copies(shown, if hidden { keys("BCC") } else { Vec::new() });
        restored
    }

    /// Memory that one of the queues it is in is charged for it.
    #[inline]
    pub(crate) fn cost(&self) -> u64 {
        ((self.body.len() + self.properties.len() + OVERHEAD) / self.shared.max(1) as usize) as u64
    }

    #[inline]
    pub(crate) fn share(&mut self, queues: usize) {
        self.shared = queues.max(1) as u32;
    }

    /// The key, and those of `CC`: what `x-death` records.
    pub(crate) fn routing_keys(&self) -> impl Iterator<Item = &Arc<[u8]>> {
        std::iter::once(&self.routing_key).chain(self.copies.iter().flat_map(|copies| &copies.shown))
    }

    /// Those of `CC` and of `BCC`.
    pub(crate) fn further_keys(&self) -> impl Iterator<Item = &Arc<[u8]>> {
        self.copies.iter().flat_map(|copies| copies.shown.iter().chain(&copies.hidden))
    }

    pub(crate) fn set_copies(&mut self, shown: Vec<Arc<[u8]>>, hidden: Vec<Arc<[u8]>>) {
        let any = !shown.is_empty() || !hidden.is_empty();
        self.copies = any.then(|| Box::new(Copies { shown, hidden }));
    }

    /// The property `headers`, or an empty table.
    pub fn headers(&self) -> Table<'_> {
        if !has_headers(&self.properties) {
            return Table::default();
        }
        self.properties().headers().ok().flatten().unwrap_or_default()
    }

    /// The same message with other properties.
    pub(crate) fn rewritten<'a>(&'a self, change: impl FnOnce(&mut Fields<'a>)) -> Self {
        let mut message = self.clone();
        if let Ok(mut fields) = self.properties().fields() {
            change(&mut fields);
            message.properties = fields.to_vec().into();
            message.expiration = fields.expiration.and_then(|text| expiration(text).ok());
        }
        message
    }

    /// The same message on its way through a dead-letter exchange: no longer with a time to live.
    pub(crate) fn dead_lettered<'a>(
        &'a self,
        exchange: &Arc<str>,
        key: Option<&Arc<[u8]>>,
        headers: Table<'a>,
    ) -> Self {
        let mut headers = TableBuf::from(headers);
        if key.is_some() {
            // A key of the queue stands for all that the message had.
            headers.remove("CC");
        }
        let mut message = self.rewritten(|fields| {
            (fields.headers, fields.expiration) = (headers_or_none(headers.as_table()), None);
        });
        message.exchange = exchange.clone();
        message.dead = true;
        if let Some(key) = key {
            message.routing_key = key.clone();
            message.copies = None;
        }
        message
    }
}

fn key_of(value: Value<'_>) -> Option<Arc<[u8]>> {
    match value {
        Value::Text(text) => Some(Arc::from(text)),
        _ => None,
    }
}

/// Whether property bytes have headers, by their flag.
#[inline]
pub(crate) fn has_headers(properties: &[u8]) -> bool {
    properties.first().is_some_and(|flags| flags & 0x20 != 0)
}

fn headers_or_none(headers: Table<'_>) -> Option<Table<'_>> {
    (!headers.is_empty()).then_some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiration_is_digits_within_ten_years() {
        assert_eq!(expiration(b"0"), Ok(0));
        assert_eq!(expiration(b"0060000"), Ok(60_000));
        assert_eq!(expiration(b"abc"), Err(ExpirationFault::NoInteger));
        assert_eq!(expiration(b""), Err(ExpirationFault::NoInteger));
        assert_eq!(expiration(b"-1"), Err(ExpirationFault::Negative("-1".into())));
        assert_eq!(expiration(b"5s"), Err(ExpirationFault::Leftover("s".into())));
        let large = "99999999999999999999999";
        assert_eq!(expiration(large.as_bytes()), Err(ExpirationFault::TooLarge(large.into())));
    }

    #[test]
    fn properties_that_decisions_need_are_read_once_and_lies_are_refused() {
        // delivery-mode 2, priority 7, reply-to "ab", expiration "60"
        let properties = [0b0001_1011, 0, 2, 7, 2, b'a', b'b', 2, b'6', b'0'];
        let new = |bytes: &[u8]| {
            Message::new("".into(), b"q"[..].into(), Bytes::copy_from_slice(bytes), Bytes::new())
        };
        let message = new(&properties).unwrap();
        assert_eq!((message.priority(), message.is_persistent(), message.expiration()), (7, true, Some(60)));
        for cut in 0..properties.len() {
            assert!(new(&properties[..cut]).is_err(), "{cut} bytes");
        }
    }

    #[test]
    fn a_dead_letter_keeps_its_properties_but_not_its_time() {
        let properties = [0b0001_1011, 0, 2, 7, 2, b'a', b'b', 2, b'6', b'0'];
        let message =
            Message::new("".into(), b"q"[..].into(), Bytes::copy_from_slice(&properties), Bytes::new())
                .unwrap();
        let dead = message.dead_lettered(&"dlx".into(), None, Table::default());
        assert_eq!(&dead.properties[..], [0b0001_1010, 0, 2, 7, 2, b'a', b'b']);
        assert_eq!((dead.expiration(), &*dead.exchange, &*dead.routing_key), (None, "dlx", &b"q"[..]));
    }
}
