//! Messages of Serf, carried in memberlist's: intents, events, queries and their answers.

use core::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::data::Data;
use super::message::{Name, read_ip, read_name, write_ip};
use super::msgpack::{
    Fault, Reader, write_array, write_boolean, write_key, write_map, write_nil, write_raw, write_raw_or_nil,
    write_signed, write_unsigned,
};

/// Most filters of a query.
const FILTERS_MAX: u64 = 64;
/// Longest name of an event or a query.
const EVENT_NAME_BYTES_MAX: usize = 4096;
/// Longest time a query is answered.
const QUERY_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

/// The types of messages, their first byte.
pub(crate) mod kind {
    pub const LEAVE: u8 = 0;
    pub const JOIN: u8 = 1;
    pub const PUSH_PULL: u8 = 2;
    pub const EVENT: u8 = 3;
    pub const QUERY: u8 = 4;
    pub const QUERY_RESPONSE: u8 = 5;
    pub const CONFLICT_RESPONSE: u8 = 6;
    pub const KEY_REQUEST: u8 = 7;
    pub const KEY_RESPONSE: u8 = 8;
    pub const RELAY: u8 = 9;
    /// Ours: data that spreads between nodes that announce that they understand it.
    pub const DATA: u8 = 0xd0;
}

/// A message of Serf.
#[derive(Clone, Debug, PartialEq)]
pub enum Serf {
    /// A node is about to leave.
    Leave(Intent),
    /// A node is about to join.
    Join(Intent),
    /// Somebody's event.
    Event(UserEvent),
    /// A question to some or all.
    Query(Box<Query>),
    /// An answer to one.
    Response(QueryResponse),
    /// Something to be passed on to another node.
    Relay(Relay),
    /// Keys and values of our own.
    Data(Data),
}

/// A node announces that it joins or leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// When, by the clock of members.
    pub ltime: u64,
    /// The node.
    pub node: Name,
    /// On leaving: forget it at once. Not there when joining.
    pub prune: bool,
}

/// An event that a user sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserEvent {
    /// When, by the clock of events.
    pub ltime: u64,
    /// Its name.
    pub name: Arc<str>,
    /// What it says.
    pub payload: Bytes,
    /// Whether several of a name may become one.
    pub coalesce: bool,
    /// As it came, to be passed on byte by byte with whatever we do not know of; empty if it is ours.
    pub raw: Bytes,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// When, by the clock of queries.
    pub ltime: u64,
    /// Tells queries of one time apart.
    pub id: u32,
    /// Where answers go.
    pub address: SocketAddr,
    /// Who asks; older agents do not say.
    pub source: Name,
    /// All of them have to match.
    pub filters: Vec<Bytes>,
    /// See [`QUERY_FLAG_ACK`] and [`QUERY_FLAG_NO_BROADCAST`].
    pub flags: u32,
    /// Through how many others answers go as well.
    pub relay_factor: u8,
    /// How long answers are taken.
    pub timeout: Duration,
    /// Its name.
    pub name: Arc<str>,
    /// What it says.
    pub payload: Bytes,
    /// As it came, to be passed on byte by byte; empty if it is ours.
    pub raw: Bytes,
}

/// Whoever receives the query says so at once.
pub const QUERY_FLAG_ACK: u32 = 1;
/// Whoever receives the query does not pass it on.
pub const QUERY_FLAG_NO_BROADCAST: u32 = 2;
/// The answer only says that the query came.
pub const RESPONSE_FLAG_ACK: u32 = 1;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryResponse {
    /// Of the query.
    pub ltime: u64,
    /// Of the query.
    pub id: u32,
    /// Who answers.
    pub from: Name,
    /// See [`RESPONSE_FLAG_ACK`].
    pub flags: u32,
    /// What it says.
    pub payload: Bytes,
}

/// A message for another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Where it is.
    pub address: SocketAddr,
    /// Who it is.
    pub node: Name,
    /// What to send there: one of Serf's messages with its type.
    pub inner: Bytes,
}

/// Which nodes a query is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Those named.
    Nodes(Vec<Name>),
    /// Those whose tag matches a regular expression.
    Tag {
        /// The tag; one that is not there is empty.
        tag: Arc<str>,
        /// The expression.
        expression: Arc<str>,
    },
}

impl Filter {
    /// The filter as it stands in a query.
    pub fn encode(&self) -> Bytes {
        let mut to = Vec::new();
        match self {
            Self::Nodes(nodes) => {
                to.push(0);
                write_array(&mut to, nodes.len());
                nodes.iter().for_each(|node| write_raw(&mut to, node.as_bytes()));
            }
            Self::Tag { tag, expression } => {
                to.push(1);
                write_map(&mut to, 2);
                write_key(&mut to, "Expr");
                write_raw(&mut to, expression.as_bytes());
                write_key(&mut to, "Tag");
                write_raw(&mut to, tag.as_bytes());
            }
        }
        to.into()
    }

    /// Reads a filter.
    ///
    /// # Errors
    /// It is of a kind that we do not know, or malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let Some((kind, body)) = bytes.split_first() else {
            return Err(Fault::Incomplete { needed: 1 });
        };
        let mut reader = Reader::new(body);
        match kind {
            0 => {
                let count = reader.array(body.len() as u64)?;
                // A name that is not UTF-8 is not ours: it matches nobody here.
                let names = (0..count)
                    .map(|_| reader.bytes().map(|name| Name::from(String::from_utf8_lossy(name))))
                    .collect::<Result<_, _>>()?;
                Ok(Self::Nodes(names))
            }
            1 => {
                let (mut tag, mut expression) = (Arc::from(""), Arc::from(""));
                reader.fields(&["Tag", "Expr"], |field, reader| {
                    *if field == 0 { &mut tag } else { &mut expression } =
                        Arc::from(reader.text("a filter")?);
                    Ok(())
                })?;
                Ok(Self::Tag { tag, expression })
            }
            found => Err(Fault::Type { expected: "a filter", found: *found }),
        }
    }
}

impl Serf {
    /// Appends the message with its type.
    pub fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Leave(intent) => {
                to.push(kind::LEAVE);
                write_map(to, 3);
                write_intent(to, intent);
                write_key(to, "Prune");
                write_boolean(to, intent.prune);
            }
            Self::Join(intent) => {
                to.push(kind::JOIN);
                write_map(to, 2);
                write_intent(to, intent);
            }
            Self::Event(event) if !event.raw.is_empty() => to.extend_from_slice(&event.raw),
            Self::Event(event) => {
                to.push(kind::EVENT);
                write_map(to, 4);
                write_key(to, "CC");
                write_boolean(to, event.coalesce);
                write_key(to, "LTime");
                write_unsigned(to, event.ltime);
                write_key(to, "Name");
                write_raw(to, event.name.as_bytes());
                write_key(to, "Payload");
                write_raw_or_nil(to, &event.payload);
            }
            Self::Query(query) if !query.raw.is_empty() => to.extend_from_slice(&query.raw),
            Self::Query(query) => write_query(to, query),
            Self::Response(response) => {
                to.push(kind::QUERY_RESPONSE);
                write_map(to, 5);
                write_key(to, "Flags");
                write_unsigned(to, u64::from(response.flags));
                write_key(to, "From");
                write_raw(to, response.from.as_bytes());
                write_key(to, "ID");
                write_unsigned(to, u64::from(response.id));
                write_key(to, "LTime");
                write_unsigned(to, response.ltime);
                write_key(to, "Payload");
                write_raw_or_nil(to, &response.payload);
            }
            Self::Relay(relay) => {
                to.push(kind::RELAY);
                write_map(to, 2);
                write_key(to, "DestAddr");
                write_map(to, 3);
                write_key(to, "IP");
                write_ip(to, relay.address.ip());
                write_key(to, "Port");
                write_unsigned(to, u64::from(relay.address.port()));
                write_key(to, "Zone");
                write_raw(to, b"");
                write_key(to, "DestName");
                write_raw(to, relay.node.as_bytes());
                to.extend_from_slice(&relay.inner);
            }
            Self::Data(data) => data.write(to),
        }
    }

    /// The message with its type.
    pub fn encode(&self) -> Vec<u8> {
        let mut to = Vec::with_capacity(128);
        self.write(&mut to);
        to
    }

    /// Reads a message with its type. Bytes after it are ignored, except behind a relay.
    ///
    /// # Errors
    /// The type is unknown, or the body is malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let Some((&kind, body)) = bytes.split_first() else {
            return Err(Fault::Incomplete { needed: 1 });
        };
        let reader = &mut Reader::new(body);
        match kind {
            kind::LEAVE => read_intent(reader).map(Self::Leave),
            kind::JOIN => read_intent(reader).map(Self::Join),
            kind::EVENT => {
                let mut event = read_event(reader)?;
                event.raw = Bytes::copy_from_slice(bytes);
                Ok(Self::Event(event))
            }
            kind::QUERY => {
                let mut query = read_query(reader)?;
                query.raw = Bytes::copy_from_slice(bytes);
                Ok(Self::Query(Box::new(query)))
            }
            kind::QUERY_RESPONSE => read_response(reader).map(Self::Response),
            kind::RELAY => read_relay(reader).map(Self::Relay),
            kind::DATA => Data::read(reader).map(Self::Data),
            found => Err(Fault::Type { expected: "a message of Serf", found }),
        }
    }
}

fn write_intent(to: &mut Vec<u8>, intent: &Intent) {
    write_key(to, "LTime");
    write_unsigned(to, intent.ltime);
    write_key(to, "Node");
    write_raw(to, intent.node.as_bytes());
}

fn read_intent(reader: &mut Reader<'_>) -> Result<Intent, Fault> {
    let (mut ltime, mut node, mut prune) = (0, None, false);
    reader.fields(&["LTime", "Node", "Prune"], |field, reader| {
        match field {
            0 => ltime = reader.u64()?,
            1 => node = Some(read_name(reader)?),
            _ => prune = reader.boolean()?,
        }
        Ok(())
    })?;
    let node = node.ok_or(Fault::Invalid("an intent without the name of a node"))?;
    Ok(Intent { ltime, node, prune })
}

fn read_event_name(reader: &mut Reader<'_>) -> Result<Arc<str>, Fault> {
    let name = reader.text("a name of an event")?;
    if name.len() > EVENT_NAME_BYTES_MAX {
        let (length, max) = (name.len() as u64, EVENT_NAME_BYTES_MAX as u64);
        return Err(Fault::Length { what: "a name of an event", length, max });
    }
    Ok(Arc::from(name))
}

pub(super) fn read_event(reader: &mut Reader<'_>) -> Result<UserEvent, Fault> {
    let mut event = UserEvent {
        ltime: 0,
        name: Arc::from(""),
        payload: Bytes::new(),
        coalesce: false,
        raw: Bytes::new(),
    };
    reader.fields(&["LTime", "Name", "Payload", "CC"], |field, reader| {
        match field {
            0 => event.ltime = reader.u64()?,
            1 => event.name = read_event_name(reader)?,
            2 => event.payload = Bytes::copy_from_slice(reader.bytes()?),
            _ => event.coalesce = reader.boolean()?,
        }
        Ok(())
    })?;
    Ok(event)
}

fn write_query(to: &mut Vec<u8>, query: &Query) {
    to.push(kind::QUERY);
    write_map(to, 11);
    write_key(to, "Addr");
    write_ip(to, query.address.ip());
    write_key(to, "Filters");
    if query.filters.is_empty() {
        write_nil(to);
    } else {
        write_array(to, query.filters.len());
        query.filters.iter().for_each(|filter| write_raw(to, filter));
    }
    write_key(to, "Flags");
    write_unsigned(to, u64::from(query.flags));
    write_key(to, "ID");
    write_unsigned(to, u64::from(query.id));
    write_key(to, "LTime");
    write_unsigned(to, query.ltime);
    write_key(to, "Name");
    write_raw(to, query.name.as_bytes());
    write_key(to, "Payload");
    write_raw_or_nil(to, &query.payload);
    write_key(to, "Port");
    write_unsigned(to, u64::from(query.address.port()));
    write_key(to, "RelayFactor");
    write_unsigned(to, u64::from(query.relay_factor));
    write_key(to, "SourceNode");
    write_raw(to, query.source.as_bytes());
    write_key(to, "Timeout");
    write_signed(to, i64::try_from(query.timeout.as_nanos()).unwrap_or(i64::MAX));
}

fn read_query(reader: &mut Reader<'_>) -> Result<Query, Fault> {
    const FIELDS: &[&str] = &[
        "LTime",
        "ID",
        "Addr",
        "Port",
        "SourceNode",
        "Filters",
        "Flags",
        "RelayFactor",
        "Timeout",
        "Name",
        "Payload",
    ];
    let (mut ltime, mut id, mut ip, mut port, mut source) = (0, 0, None, 0, None);
    let (mut filters, mut flags, mut relay_factor, mut timeout) = (Vec::new(), 0, 0, Duration::ZERO);
    let (mut name, mut payload) = (Arc::from(""), Bytes::new());
    reader.fields(FIELDS, |field, reader| {
        match field {
            0 => ltime = reader.u64()?,
            1 => id = reader.u32()?,
            2 => ip = read_ip(reader)?,
            3 => port = reader.u16()?,
            4 => source = Some(read_name(reader)?),
            5 => {
                let count = reader.array(FILTERS_MAX)?;
                filters = (0..count)
                    .map(|_| reader.bytes().map(Bytes::copy_from_slice))
                    .collect::<Result<_, _>>()?;
            }
            6 => flags = reader.u32()?,
            7 => relay_factor = reader.u8()?,
            8 => {
                let nanos = reader.integer()?.clamp(0, QUERY_TIMEOUT_MAX.as_nanos() as i128);
                timeout = Duration::from_nanos(nanos as u64);
            }
            9 => name = read_event_name(reader)?,
            _ => payload = Bytes::copy_from_slice(reader.bytes()?),
        }
        Ok(())
    })?;
    let ip = ip.ok_or(Fault::Invalid("a query without an address"))?;
    let (address, source) = (SocketAddr::new(ip, port), source.unwrap_or_else(|| Name::from("")));
    let raw = Bytes::new();
    Ok(Query { ltime, id, address, source, filters, flags, relay_factor, timeout, name, payload, raw })
}

fn read_response(reader: &mut Reader<'_>) -> Result<QueryResponse, Fault> {
    let (mut ltime, mut id, mut from, mut flags, mut payload) = (0, 0, None, 0, Bytes::new());
    reader.fields(&["LTime", "ID", "From", "Flags", "Payload"], |field, reader| {
        match field {
            0 => ltime = reader.u64()?,
            1 => id = reader.u32()?,
            2 => from = Some(read_name(reader)?),
            3 => flags = reader.u32()?,
            _ => payload = Bytes::copy_from_slice(reader.bytes()?),
        }
        Ok(())
    })?;
    let from = from.ok_or(Fault::Invalid("an answer that does not say whose"))?;
    Ok(QueryResponse { ltime, id, from, flags, payload })
}

fn read_relay(reader: &mut Reader<'_>) -> Result<Relay, Fault> {
    let (mut ip, mut port, mut node) = (None, 0, None);
    reader.fields(&["DestAddr", "DestName"], |field, reader| match field {
        0 => reader.fields(&["IP", "Port", "Zone"], |field, reader| {
            match field {
                0 => ip = read_ip(reader)?,
                1 => port = reader.u16()?,
                _ => reader.skip()?,
            }
            Ok(())
        }),
        _ => {
            node = Some(read_name(reader)?);
            Ok(())
        }
    })?;
    let ip = ip.ok_or(Fault::Invalid("something to pass on, but not where to"))?;
    let inner = Bytes::copy_from_slice(reader.rest());
    Ok(Relay { address: SocketAddr::new(ip, port), node: node.unwrap_or_else(|| Name::from("")), inner })
}
