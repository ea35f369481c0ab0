//! What Serf puts into fields of other messages: tags, coordinates, requests about keys, answers in conflicts.

use core::net::SocketAddr;
use std::collections::BTreeMap;

use super::message::{Name, Versions, read_ip, read_name, write_ip};
use super::msgpack::{
    Fault, Reader, write_array, write_boolean, write_float, write_key, write_map, write_nil, write_raw,
    write_unsigned,
};
use super::serf::kind;

/// The first byte of metadata that are tags; other metadata are the one tag `role`.
const TAGS: u8 = 0xff;
/// The first byte of an answer to a ping with a coordinate.
const COORDINATE: u8 = 1;
/// Dimensions of a coordinate. Serf, DefaultConfig.
pub const DIMENSIONS: usize = 8;
/// Most tags of a node; 512 bytes hold fewer.
const TAGS_MAX: u64 = 256;

/// Tags as a node's metadata.
pub fn encode_tags(tags: &BTreeMap<String, String>) -> Vec<u8> {
    let mut to = vec![TAGS];
    write_map(&mut to, tags.len());
    for (name, value) in tags {
        write_raw(&mut to, name.as_bytes());
        write_raw(&mut to, value.as_bytes());
    }
    to
}

/// Tags of a node. What is malformed is no tag, what is not UTF-8 is shown as well as can be.
pub fn decode_tags(meta: &[u8]) -> BTreeMap<String, String> {
    let Some((&TAGS, body)) = meta.split_first() else {
        let role = String::from_utf8_lossy(meta).into_owned();
        return if role.is_empty() { BTreeMap::new() } else { BTreeMap::from([("role".to_owned(), role)]) };
    };
    let mut tags = BTreeMap::new();
    let mut reader = Reader::new(body);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for _ in 0..reader.map(TAGS_MAX).unwrap_or(0) {
        let (Ok(name), Ok(value)) = (reader.bytes(), reader.bytes()) else { break };
        tags.insert(text(name), text(value));
    }
    tags
}

/// Where a node is in a space in which distance is round trip time. Vivaldi, with Serf's height and adjustment.
#[derive(Clone, Debug, PartialEq)]
pub struct Coordinate {
    /// Seconds in each dimension.
    pub vector: [f64; DIMENSIONS],
    /// How far off it may be, from 0 to 1.5.
    pub error: f64,
    /// Seconds that are added to every distance, in the middle.
    pub adjustment: f64,
    /// Seconds between the node and the space: what its access costs.
    pub height: f64,
}

impl Coordinate {
    /// The coordinate as the payload of an answer to a ping.
    pub fn encode(&self) -> Vec<u8> {
        let mut to = vec![COORDINATE];
        write_map(&mut to, 4);
        write_key(&mut to, "Adjustment");
        write_float(&mut to, self.adjustment);
        write_key(&mut to, "Error");
        write_float(&mut to, self.error);
        write_key(&mut to, "Height");
        write_float(&mut to, self.height);
        write_key(&mut to, "Vec");
        write_array(&mut to, DIMENSIONS);
        self.vector.iter().for_each(|component| write_float(&mut to, *component));
        to
    }

    /// Reads the payload of an answer to a ping.
    ///
    /// # Errors
    /// Another version, other dimensions, a number that is none, or malformed.
    pub fn decode(payload: &[u8]) -> Result<Self, Fault> {
        match payload.split_first() {
            Some((&COORDINATE, body)) => Self::read(&mut Reader::new(body)),
            _ => Err(Fault::Invalid("a coordinate of another version")),
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut read = Self { vector: [0.0; DIMENSIONS], error: 0.0, adjustment: 0.0, height: 0.0 };
        let mut dimensions = 0;
        reader.fields(&["Vec", "Error", "Adjustment", "Height"], |field, reader| {
            match field {
                0 => {
                    dimensions = reader.array(64)?;
                    for index in 0..dimensions {
                        let component = reader.float()?;
                        if let Some(slot) = read.vector.get_mut(index) {
                            *slot = component;
                        }
                    }
                }
                1 => read.error = reader.float()?,
                2 => read.adjustment = reader.float()?,
                _ => read.height = reader.float()?,
            }
            Ok(())
        })?;
        let numbers = read.vector.iter().chain([&read.error, &read.adjustment, &read.height]);
        if dimensions != DIMENSIONS || numbers.into_iter().any(|number| !number.is_finite()) {
            return Err(Fault::Invalid("a coordinate of other dimensions"));
        }
        Ok(read)
    }
}

/// The payload of a query about one key.
pub fn encode_key_request(key: &[u8]) -> Vec<u8> {
    let mut to = vec![kind::KEY_REQUEST];
    write_map(&mut to, 1);
    write_key(&mut to, "Key");
    write_raw(&mut to, key);
    to
}

/// The key of the payload of a query about one key.
///
/// # Errors
/// It is something else, or malformed.
pub fn decode_key_request(payload: &[u8]) -> Result<Vec<u8>, Fault> {
    let Some((&kind::KEY_REQUEST, body)) = payload.split_first() else {
        return Err(Fault::Invalid("not a request about a key"));
    };
    let mut key = Vec::new();
    Reader::new(body).fields(&["Key"], |_, reader| {
        key = reader.bytes()?.to_vec();
        Ok(())
    })?;
    Ok(key)
}

/// What a node answers to a query about keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyResponse {
    /// Whether it was done.
    pub result: bool,
    /// Why not.
    pub message: String,
    /// The keys in base64, if they were asked for.
    pub keys: Vec<String>,
    /// The primary key in base64; older agents do not say.
    pub primary: String,
}

impl KeyResponse {
    /// The payload of the answer.
    pub fn encode(&self) -> Vec<u8> {
        let mut to = vec![kind::KEY_RESPONSE];
        write_map(&mut to, 4);
        write_key(&mut to, "Keys");
        if self.keys.is_empty() {
            write_nil(&mut to);
        } else {
            write_array(&mut to, self.keys.len());
            self.keys.iter().for_each(|key| write_raw(&mut to, key.as_bytes()));
        }
        write_key(&mut to, "Message");
        write_raw(&mut to, self.message.as_bytes());
        write_key(&mut to, "PrimaryKey");
        write_raw(&mut to, self.primary.as_bytes());
        write_key(&mut to, "Result");
        write_boolean(&mut to, self.result);
        to
    }

    /// Reads the payload of an answer.
    ///
    /// # Errors
    /// It is something else, or malformed.
    pub fn decode(payload: &[u8]) -> Result<Self, Fault> {
        let Some((&kind::KEY_RESPONSE, body)) = payload.split_first() else {
            return Err(Fault::Invalid("not an answer about keys"));
        };
        let mut response = Self::default();
        Reader::new(body).fields(&["Result", "Message", "Keys", "PrimaryKey"], |field, reader| {
            match field {
                0 => response.result = reader.boolean()?,
                1 => response.message = String::from_utf8_lossy(reader.bytes()?).into_owned(),
                2 => {
                    for _ in 0..reader.array(1024)? {
                        response.keys.push(String::from_utf8_lossy(reader.bytes()?).into_owned());
                    }
                }
                _ => response.primary = String::from_utf8_lossy(reader.bytes()?).into_owned(),
            }
            Ok(())
        })?;
        Ok(response)
    }
}

/// Whom a node holds for the owner of a name that two nodes have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The name.
    pub node: Name,
    /// Where the node is that it knows by the name.
    pub address: SocketAddr,
    /// What that one speaks.
    pub versions: Versions,
    /// Serf's number of its status; 1 is alive.
    pub status: u8,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl Conflict {
    /// The payload of the answer.
    pub fn encode(&self) -> Vec<u8> {
        let [protocol_min, protocol_max, protocol, delegate_min, delegate_max, delegate] =
            self.versions.map(u64::from);
        let mut to = vec![kind::CONFLICT_RESPONSE];
        let number = |to: &mut Vec<u8>, key, value| {
            write_key(to, key);
            write_unsigned(to, value);
        };
        write_map(&mut to, 11);
        write_key(&mut to, "Addr");
        write_ip(&mut to, self.address.ip());
        number(&mut to, "DelegateCur", delegate);
        number(&mut to, "DelegateMax", delegate_max);
        number(&mut to, "DelegateMin", delegate_min);
        write_key(&mut to, "Name");
        write_raw(&mut to, self.node.as_bytes());
        number(&mut to, "Port", u64::from(self.address.port()));
        number(&mut to, "ProtocolCur", protocol);
        number(&mut to, "ProtocolMax", protocol_max);
        number(&mut to, "ProtocolMin", protocol_min);
        number(&mut to, "Status", u64::from(self.status));
        write_key(&mut to, "Tags");
        write_map(&mut to, self.tags.len());
        for (name, value) in &self.tags {
            write_raw(&mut to, name.as_bytes());
            write_raw(&mut to, value.as_bytes());
        }
        to
    }

    /// The node and its address in the payload of an answer.
    ///
    /// # Errors
    /// It is something else, or malformed.
    pub fn decode(payload: &[u8]) -> Result<(Name, SocketAddr), Fault> {
        let Some((&kind::CONFLICT_RESPONSE, body)) = payload.split_first() else {
            return Err(Fault::Invalid("not an answer about a conflict"));
        };
        let (mut node, mut ip, mut port) = (None, None, 0);
        Reader::new(body).fields(&["Name", "Addr", "Port"], |field, reader| {
            match field {
                0 => node = Some(read_name(reader)?),
                1 => ip = read_ip(reader)?,
                _ => port = reader.u16()?,
            }
            Ok(())
        })?;
        let absent = Fault::Invalid("an answer about a conflict without a node");
        let (Some(node), Some(ip)) = (node, ip) else { return Err(absent) };
        Ok((node, SocketAddr::new(ip, port)))
    }
}
