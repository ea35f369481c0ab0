//! Serf's agent protocol: how commands talk to a node, port 7373. A header and a body, one after the other, both ways.
//!
//! Serf, docs/agent/rpc. A few commands are ours; a real agent refuses them as it refuses all that it does not know.

mod reply;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::msgpack::{
    Fault, Reader, write_array, write_boolean, write_key, write_map, write_nil, write_raw, write_signed,
    write_unsigned,
};
pub use reply::*;

/// Longest request or reply.
pub const IPC_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest request that a node takes.
pub const REQUEST_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Most names, tags or addresses in a list.
const LIST_MAX: u64 = 256 * 1024;

/// What is asked of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// First of all.
    Handshake,
    /// The key of the agent, if it wants one.
    Auth {
        /// The key.
        key: String,
    },
    /// Tell everybody.
    Event {
        /// Its name.
        name: String,
        /// What it says.
        payload: Bytes,
        /// Whether several of a name may become one.
        coalesce: bool,
    },
    /// Make one that failed one that left.
    ForceLeave {
        /// Who.
        node: String,
        /// Forget it at once.
        prune: bool,
    },
    /// Join these.
    Join {
        /// Addresses.
        existing: Vec<String>,
        /// Whether recent events are told again.
        replay: bool,
    },
    /// Who is there.
    Members,
    /// Who of these is there; the values are regular expressions that match all of a text.
    MembersFiltered {
        /// Tags.
        tags: BTreeMap<String, String>,
        /// Status.
        status: String,
        /// Name.
        name: String,
    },
    /// Tell what happens: `*`, or kinds of events with commas between them.
    Stream {
        /// Which.
        kinds: String,
    },
    /// Tell the log.
    Monitor {
        /// From which level on.
        level: String,
    },
    /// No more of a stream.
    Stop {
        /// Its number.
        stop: u64,
    },
    /// Leave, and end.
    Leave,
    /// Add a key.
    InstallKey {
        /// In base64.
        key: String,
    },
    /// Make a key the primary.
    UseKey {
        /// In base64.
        key: String,
    },
    /// Take a key away.
    RemoveKey {
        /// In base64.
        key: String,
    },
    /// Which keys there are.
    ListKeys,
    /// Change tags.
    Tags {
        /// To be set.
        set: BTreeMap<String, String>,
        /// To be deleted.
        delete: Vec<String>,
    },
    /// Ask.
    Query {
        /// Which members answer, by name.
        nodes: Vec<String>,
        /// Which members answer, by tag.
        tags: BTreeMap<String, String>,
        /// Whether receivers say that it came.
        acks: bool,
        /// Through how many others answers go as well.
        relay_factor: u8,
        /// How long answers are taken; nothing is as long as the cluster needs.
        timeout: Duration,
        /// Its name.
        name: String,
        /// What it says.
        payload: Bytes,
    },
    /// Answer a query of a stream.
    Respond {
        /// Its number in the stream.
        id: u64,
        /// What to say.
        payload: Bytes,
    },
    /// How the node is.
    Stats,
    /// Where a node is.
    Coordinate {
        /// Which.
        node: String,
    },
    /// Ours: measure the way to a node.
    Ping {
        /// Which.
        node: String,
    },
    /// Ours: set a key, or delete it.
    Set {
        /// The key.
        key: String,
        /// The value; none deletes it.
        value: Option<Bytes>,
    },
    /// Ours: what keys hold, all that begin so, or the one that is so.
    Get {
        /// The key, or what it begins with.
        key: String,
        /// Whether that is only the beginning.
        prefix: bool,
    },
}

impl Request {
    /// The word on the wire.
    pub fn command(&self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Auth { .. } => "auth",
            Self::Event { .. } => "event",
            Self::ForceLeave { .. } => "force-leave",
            Self::Join { .. } => "join",
            Self::Members => "members",
            Self::MembersFiltered { .. } => "members-filtered",
            Self::Stream { .. } => "stream",
            Self::Monitor { .. } => "monitor",
            Self::Stop { .. } => "stop",
            Self::Leave => "leave",
            Self::InstallKey { .. } => "install-key",
            Self::UseKey { .. } => "use-key",
            Self::RemoveKey { .. } => "remove-key",
            Self::ListKeys => "list-keys",
            Self::Tags { .. } => "tags",
            Self::Query { .. } => "query",
            Self::Respond { .. } => "respond",
            Self::Stats => "stats",
            Self::Coordinate { .. } => "get-coordinate",
            Self::Ping { .. } => "bandy-ping",
            Self::Set { .. } => "bandy-set",
            Self::Get { .. } => "bandy-get",
        }
    }

    /// Appends the request with its header.
    pub fn write(&self, sequence: u64, to: &mut Vec<u8>) {
        write_map(to, 2);
        write_key(to, "Command");
        write_raw(to, self.command().as_bytes());
        write_key(to, "Seq");
        write_unsigned(to, sequence);
        let text = |to: &mut Vec<u8>, key: &str, value: &str| {
            write_key(to, key);
            write_raw(to, value.as_bytes());
        };
        let flag = |to: &mut Vec<u8>, key: &str, value: bool| {
            write_key(to, key);
            write_boolean(to, value);
        };
        match self {
            Self::Members | Self::Leave | Self::ListKeys | Self::Stats => {}
            Self::Handshake => {
                write_map(to, 1);
                write_key(to, "Version");
                write_unsigned(to, 1);
            }
            Self::Auth { key } => {
                write_map(to, 1);
                text(to, "AuthKey", key);
            }
            Self::Event { name, payload, coalesce } => {
                write_map(to, 3);
                flag(to, "Coalesce", *coalesce);
                text(to, "Name", name);
                write_key(to, "Payload");
                write_raw(to, payload);
            }
            Self::ForceLeave { node, prune } => {
                write_map(to, 2);
                text(to, "Node", node);
                flag(to, "Prune", *prune);
            }
            Self::Join { existing, replay } => {
                write_map(to, 2);
                write_key(to, "Existing");
                write_list(to, existing);
                flag(to, "Replay", *replay);
            }
            Self::MembersFiltered { tags, status, name } => {
                write_map(to, 3);
                text(to, "Name", name);
                text(to, "Status", status);
                write_key(to, "Tags");
                write_texts(to, tags);
            }
            Self::Stream { kinds } => {
                write_map(to, 1);
                text(to, "Type", kinds);
            }
            Self::Monitor { level } => {
                write_map(to, 1);
                text(to, "LogLevel", level);
            }
            Self::Stop { stop } => {
                write_map(to, 1);
                write_key(to, "Stop");
                write_unsigned(to, *stop);
            }
            Self::InstallKey { key } | Self::UseKey { key } | Self::RemoveKey { key } => {
                write_map(to, 1);
                text(to, "Key", key);
            }
            Self::Tags { set, delete } => {
                write_map(to, 2);
                write_key(to, "DeleteTags");
                write_list(to, delete);
                write_key(to, "Tags");
                write_texts(to, set);
            }
            Self::Query { nodes, tags, acks, relay_factor, timeout, name, payload } => {
                write_map(to, 7);
                write_key(to, "FilterNodes");
                write_list(to, nodes);
                write_key(to, "FilterTags");
                write_texts(to, tags);
                text(to, "Name", name);
                write_key(to, "Payload");
                write_raw(to, payload);
                write_key(to, "RelayFactor");
                write_unsigned(to, u64::from(*relay_factor));
                flag(to, "RequestAck", *acks);
                write_key(to, "Timeout");
                write_signed(to, i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX));
            }
            Self::Respond { id, payload } => {
                write_map(to, 2);
                write_key(to, "ID");
                write_unsigned(to, *id);
                write_key(to, "Payload");
                write_raw(to, payload);
            }
            Self::Coordinate { node } | Self::Ping { node } => {
                write_map(to, 1);
                text(to, "Node", node);
            }
            Self::Set { key, value } => {
                write_map(to, 2);
                text(to, "Key", key);
                write_key(to, "Value");
                match value {
                    Some(value) => write_raw(to, value),
                    None => write_nil(to),
                }
            }
            Self::Get { key, prefix } => {
                write_map(to, 2);
                text(to, "Key", key);
                flag(to, "Prefix", *prefix);
            }
        }
    }

    /// Reads a request with its header. A command that is not known is named instead.
    ///
    /// # Errors
    /// Malformed, or the bytes end: then more are needed.
    pub fn read(reader: &mut Reader<'_>) -> Result<(u64, Result<Self, String>), Fault> {
        let (mut command, mut sequence) = (String::new(), 0);
        reader.fields(&["Command", "Seq"], |field, reader| {
            match field {
                0 => command = text(reader)?,
                _ => sequence = reader.u64()?,
            }
            Ok(())
        })?;
        let request = match command.as_str() {
            "handshake" => {
                reader.skip()?;
                Self::Handshake
            }
            "auth" => Self::Auth { key: one(reader, "AuthKey")? },
            "event" => read_event(reader)?,
            "force-leave" => {
                let (mut node, mut prune) = (String::new(), false);
                reader.fields(&["Node", "Prune"], |field, reader| {
                    match field {
                        0 => node = text(reader)?,
                        _ => prune = reader.boolean()?,
                    }
                    Ok(())
                })?;
                Self::ForceLeave { node, prune }
            }
            "join" => {
                let (mut existing, mut replay) = (Vec::new(), false);
                reader.fields(&["Existing", "Replay"], |field, reader| {
                    match field {
                        0 => existing = list(reader)?,
                        _ => replay = reader.boolean()?,
                    }
                    Ok(())
                })?;
                Self::Join { existing, replay }
            }
            "members" => Self::Members,
            "members-filtered" => {
                let (mut tags, mut status, mut name) = (BTreeMap::new(), String::new(), String::new());
                reader.fields(&["Tags", "Status", "Name"], |field, reader| {
                    match field {
                        0 => tags = texts(reader)?,
                        1 => status = text(reader)?,
                        _ => name = text(reader)?,
                    }
                    Ok(())
                })?;
                Self::MembersFiltered { tags, status, name }
            }
            "stream" => Self::Stream { kinds: one(reader, "Type")? },
            "monitor" => Self::Monitor { level: one(reader, "LogLevel")? },
            "stop" => {
                let mut stop = 0;
                reader.fields(&["Stop"], |_, reader| {
                    stop = reader.u64()?;
                    Ok(())
                })?;
                Self::Stop { stop }
            }
            "leave" => Self::Leave,
            "install-key" => Self::InstallKey { key: one(reader, "Key")? },
            "use-key" => Self::UseKey { key: one(reader, "Key")? },
            "remove-key" => Self::RemoveKey { key: one(reader, "Key")? },
            "list-keys" => Self::ListKeys,
            "tags" => {
                let (mut set, mut delete) = (BTreeMap::new(), Vec::new());
                reader.fields(&["Tags", "DeleteTags"], |field, reader| {
                    match field {
                        0 => set = texts(reader)?,
                        _ => delete = list(reader)?,
                    }
                    Ok(())
                })?;
                Self::Tags { set, delete }
            }
            "query" => read_query(reader)?,
            "respond" => {
                let (mut id, mut payload) = (0, Bytes::new());
                reader.fields(&["ID", "Payload"], |field, reader| {
                    match field {
                        0 => id = reader.u64()?,
                        _ => payload = bytes(reader)?,
                    }
                    Ok(())
                })?;
                Self::Respond { id, payload }
            }
            "stats" => Self::Stats,
            "get-coordinate" => Self::Coordinate { node: one(reader, "Node")? },
            "bandy-ping" => Self::Ping { node: one(reader, "Node")? },
            "bandy-set" => {
                let (mut key, mut value) = (String::new(), None);
                reader.fields(&["Key", "Value"], |field, reader| {
                    match field {
                        0 => key = text(reader)?,
                        _ if reader.nil()? => value = None,
                        _ => value = Some(bytes(reader)?),
                    }
                    Ok(())
                })?;
                Self::Set { key, value }
            }
            "bandy-get" => {
                let (mut key, mut prefix) = (String::new(), false);
                reader.fields(&["Key", "Prefix"], |field, reader| {
                    match field {
                        0 => key = text(reader)?,
                        _ => prefix = reader.boolean()?,
                    }
                    Ok(())
                })?;
                Self::Get { key, prefix }
            }
            _ => return Ok((sequence, Err(command))),
        };
        Ok((sequence, Ok(request)))
    }
}

fn read_event(reader: &mut Reader<'_>) -> Result<Request, Fault> {
    let (mut name, mut payload, mut coalesce) = (String::new(), Bytes::new(), false);
    reader.fields(&["Name", "Payload", "Coalesce"], |field, reader| {
        match field {
            0 => name = text(reader)?,
            1 => payload = bytes(reader)?,
            _ => coalesce = reader.boolean()?,
        }
        Ok(())
    })?;
    Ok(Request::Event { name, payload, coalesce })
}

fn read_query(reader: &mut Reader<'_>) -> Result<Request, Fault> {
    let (mut nodes, mut tags, mut acks, mut relay_factor) = (Vec::new(), BTreeMap::new(), false, 0);
    let (mut timeout, mut name, mut payload) = (Duration::ZERO, String::new(), Bytes::new());
    let names = &["FilterNodes", "FilterTags", "RequestAck", "RelayFactor", "Timeout", "Name", "Payload"];
    reader.fields(names, |field, reader| {
        match field {
            0 => nodes = list(reader)?,
            1 => tags = texts(reader)?,
            2 => acks = reader.boolean()?,
            3 => relay_factor = reader.u8()?,
            4 => {
                let nanos = reader.integer()?.clamp(0, i128::from(i64::MAX));
                timeout = Duration::from_nanos(nanos as u64);
            }
            5 => name = text(reader)?,
            _ => payload = bytes(reader)?,
        }
        Ok(())
    })?;
    Ok(Request::Query { nodes, tags, acks, relay_factor, timeout, name, payload })
}

fn text(reader: &mut Reader<'_>) -> Result<String, Fault> {
    Ok(reader.text("a word")?.to_owned())
}

/// As well as can be: what other nodes call themselves may be anything.
fn foreign(reader: &mut Reader<'_>) -> Result<String, Fault> {
    Ok(String::from_utf8_lossy(reader.bytes()?).into_owned())
}

fn bytes(reader: &mut Reader<'_>) -> Result<Bytes, Fault> {
    Ok(Bytes::copy_from_slice(reader.bytes()?))
}

fn one(reader: &mut Reader<'_>, name: &str) -> Result<String, Fault> {
    let mut value = String::new();
    reader.fields(&[name], |_, reader| {
        value = text(reader)?;
        Ok(())
    })?;
    Ok(value)
}

fn list(reader: &mut Reader<'_>) -> Result<Vec<String>, Fault> {
    let count = reader.array(LIST_MAX)?;
    (0..count).map(|_| foreign(reader)).collect()
}

fn texts(reader: &mut Reader<'_>) -> Result<BTreeMap<String, String>, Fault> {
    let count = reader.map(LIST_MAX)?;
    (0..count).map(|_| Ok((foreign(reader)?, foreign(reader)?))).collect()
}

fn write_list(to: &mut Vec<u8>, list: &[String]) {
    write_array(to, list.len());
    list.iter().for_each(|text| write_raw(to, text.as_bytes()));
}

/// Appends names and texts.
pub fn write_texts(to: &mut Vec<u8>, texts: &BTreeMap<String, String>) {
    write_map(to, texts.len());
    for (name, text) in texts {
        write_raw(to, name.as_bytes());
        write_raw(to, text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As an agent of Serf 0.9.4 answers about a node that it does not know.
    #[test]
    fn a_coordinate_that_is_not_known_is_none() {
        let mut body = b"\x82\xa5Coord\x84".to_vec();
        for name in ["Adjustment", "Error", "Height"] {
            write_key(&mut body, name);
            body.extend_from_slice(b"\xcb\0\0\0\0\0\0\0\0");
        }
        body.extend_from_slice(b"\xa3Vec\xc0\xa2Ok\xc2");
        assert_eq!(read_coordinate(&mut Reader::new(&body)), Ok(None));
        *body.last_mut().unwrap() = 0xc3;
        assert!(read_coordinate(&mut Reader::new(&body)).is_err());
    }

    fn every_request() -> Vec<Request> {
        let tags = || BTreeMap::from([("role".to_owned(), "web".to_owned())]);
        let (key, node) = (|| "k".to_owned(), || "n1".to_owned());
        let payload = || Bytes::from_static(b"\x00\xffp");
        vec![
            Request::Handshake,
            Request::Auth { key: key() },
            Request::Event { name: "deploy".into(), payload: payload(), coalesce: true },
            Request::ForceLeave { node: node(), prune: true },
            Request::Join { existing: vec!["10.0.0.1:7946".into()], replay: true },
            Request::Members,
            Request::MembersFiltered { tags: tags(), status: "alive".into(), name: "n.*".into() },
            Request::Stream { kinds: "*".into() },
            Request::Monitor { level: "INFO".into() },
            Request::Stop { stop: 70_000 },
            Request::Leave,
            Request::InstallKey { key: key() },
            Request::UseKey { key: key() },
            Request::RemoveKey { key: key() },
            Request::ListKeys,
            Request::Tags { set: tags(), delete: vec!["old".into()] },
            Request::Query {
                nodes: vec![node()],
                tags: tags(),
                acks: true,
                relay_factor: 2,
                timeout: Duration::from_millis(1500),
                name: "load".into(),
                payload: payload(),
            },
            Request::Respond { id: 9, payload: payload() },
            Request::Stats,
            Request::Coordinate { node: node() },
            Request::Ping { node: node() },
            Request::Set { key: key(), value: Some(payload()) },
            Request::Set { key: key(), value: None },
            Request::Get { key: key(), prefix: true },
        ]
    }

    #[test]
    fn requests_are_read_as_they_were_written_and_never_before_their_end() {
        for (index, request) in every_request().into_iter().enumerate() {
            let mut bytes = Vec::new();
            request.write(index as u64, &mut bytes);
            for cut in 0..bytes.len() {
                let fault = Request::read(&mut Reader::new(&bytes[..cut])).unwrap_err();
                assert!(matches!(fault, Fault::Incomplete { .. }), "{request:?} at {cut}: {fault}");
            }
            let mut reader = Reader::new(&bytes);
            assert_eq!(Request::read(&mut reader), Ok((index as u64, Ok(request))));
            assert_eq!(reader.position(), bytes.len());
        }
        let unknown = b"\x82\xa7Command\xa3fly\xa3Seq\x07";
        assert_eq!(Request::read(&mut Reader::new(unknown)), Ok((7, Err("fly".to_owned()))));
    }

    #[test]
    fn replies_are_read_as_they_were_written() {
        let row = MemberRow {
            name: "n1".into(),
            address: Some("10.0.0.1:7946".parse().unwrap()),
            tags: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            status: "alive".into(),
            versions: [1, 5, 2, 2, 5, 5],
            incarnation: Some(7),
            suspect: true,
            age_ms: Some(90_000),
            rtt_us: None,
        };
        let mut to = Vec::new();
        write_header(&mut to, 3, "no");
        write_members(&mut to, std::slice::from_ref(&row));
        let record = StreamRecord {
            event: "user".into(),
            members: vec![row.clone()],
            ltime: 5,
            name: "deploy".into(),
            payload: Some(Bytes::new()),
            ..StreamRecord::default()
        };
        record.write(&mut to);
        let answer = QueryRecord { kind: "ack".into(), from: "n2".into(), payload: Bytes::new() };
        answer.write(&mut to);
        let keys = KeysReply {
            keys: BTreeMap::from([("a=".to_owned(), 3)]),
            nodes: 3,
            responses: 3,
            ..KeysReply::default()
        };
        keys.write(&mut to);
        let data = DataRow { key: "a".into(), value: Bytes::new(), version: 1 << 40, writer: "n1".into() };
        write_data(&mut to, std::slice::from_ref(&data));
        let reader = &mut Reader::new(&to);
        assert_eq!(read_header(reader), Ok((3, "no".to_owned())));
        assert_eq!(read_members(reader), Ok(vec![row]));
        assert_eq!(StreamRecord::read(reader), Ok(record));
        assert_eq!(QueryRecord::read(reader), Ok(answer));
        assert_eq!(KeysReply::read(reader), Ok(keys));
        assert_eq!(read_data(reader), Ok(vec![data]));
        assert_eq!(reader.position(), to.len());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), which in 0usize..24) {
            let _ = Request::read(&mut Reader::new(&bytes));
            let mut framed = Vec::new();
            every_request()[which].write(1, &mut framed);
            let head = framed.len() / 2;
            framed.truncate(head);
            framed.extend(&bytes);
            let _ = Request::read(&mut Reader::new(&framed));
            let _ = (read_members(&mut Reader::new(&bytes)), StreamRecord::read(&mut Reader::new(&bytes)));
            let _ = (read_stats(&mut Reader::new(&bytes)), read_data(&mut Reader::new(&bytes)));
        }
    }
}
