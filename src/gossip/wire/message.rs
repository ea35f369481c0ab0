//! Messages of memberlist: who is there, who is suspected, who is gone.

use core::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;

use super::msgpack::{
    Fault, Reader, write_boolean, write_key, write_map, write_raw, write_raw_or_nil, write_unsigned,
};
use super::serf::Serf;

/// The name of a node. Unique in a cluster.
pub type Name = Arc<str>;

/// Longest name of a node; a message of longer ones is refused.
pub const NAME_BYTES_MAX: usize = 512;
/// Longest metadata of a node. memberlist, MetaMaxSize.
pub const META_BYTES_MAX: usize = 512;

/// Versions of protocols: least, most and spoken, of memberlist and then of its delegate, which is Serf.
pub type Versions = [u8; 6];

/// What bandy speaks: memberlist 1 to 5, speaking 2; Serf 2 to 5, speaking 5.
pub const VERSIONS: Versions = [1, 5, 2, 2, 5, 5];

/// The types of messages, their first byte.
pub(crate) mod kind {
    pub const PING: u8 = 0;
    pub const INDIRECT_PING: u8 = 1;
    pub const ACK: u8 = 2;
    pub const SUSPECT: u8 = 3;
    pub const ALIVE: u8 = 4;
    pub const DEAD: u8 = 5;
    pub const PUSH_PULL: u8 = 6;
    pub const COMPOUND: u8 = 7;
    pub const USER: u8 = 8;
    pub const COMPRESSED: u8 = 9;
    pub const ENCRYPTED: u8 = 10;
    pub const NACK: u8 = 11;
    pub const CHECKSUM: u8 = 12;
    pub const ERROR: u8 = 13;
    pub const LABEL: u8 = 244;
}

/// One message of a packet.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Are you there?
    Ping(Ping),
    /// Ask somebody else whether it is there.
    IndirectPing(IndirectPing),
    /// I am here, or the one you asked me about is.
    Ack(Ack),
    /// The one you asked me about does not answer.
    Nack {
        /// Of the indirect ping.
        sequence: u32,
    },
    /// A node does not answer.
    Suspect(Accusation),
    /// A node is there.
    Alive(Alive),
    /// A node is gone; one that says so of itself has left.
    Dead(Accusation),
    /// Serf's.
    Serf(Serf),
}

/// Asks a node to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    /// Comes back in the answer.
    pub sequence: u32,
    /// Who is asked; another one at that address stays silent.
    pub node: Name,
    /// Who asks, and where it wants the answer; without, where the packet came from.
    pub source: Option<Source>,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where it receives.
    pub address: SocketAddr,
    /// Its name; older ones do not say.
    pub node: Name,
}

/// Asks a node to ask another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndirectPing {
    /// Comes back in the answer.
    pub sequence: u32,
    /// Where the other one is.
    pub target: SocketAddr,
    /// Who it is.
    pub node: Name,
    /// Whether to say so if it does not answer.
    pub nack: bool,
    /// Who asks.
    pub source: Option<Source>,
}

/// The answer to a ping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Of the ping.
    pub sequence: u32,
    /// Serf's: the coordinate of the node.
    pub payload: Bytes,
}

/// Somebody says of a node that it is suspect or dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accusation {
    /// Which of its incarnations.
    pub incarnation: u32,
    /// The node.
    pub node: Name,
    /// Who says so.
    pub from: Name,
}

/// A node says that it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alive {
    /// Newer than what was said before.
    pub incarnation: u32,
    /// The node.
    pub node: Name,
    /// Where it receives.
    pub address: SocketAddr,
    /// Serf's: its tags.
    pub meta: Bytes,
    /// What it speaks.
    pub versions: Versions,
}

impl Message {
    /// Appends the message as it stands in a packet.
    pub fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Ping(ping) => {
                to.push(kind::PING);
                write_map(to, 2 + ping.source.as_ref().map_or(0, |_| 3));
                write_key(to, "Node");
                write_raw(to, ping.node.as_bytes());
                write_key(to, "SeqNo");
                write_unsigned(to, u64::from(ping.sequence));
                write_source(to, ping.source.as_ref());
            }
            Self::IndirectPing(ping) => {
                to.push(kind::INDIRECT_PING);
                write_map(to, 5 + ping.source.as_ref().map_or(0, |_| 3));
                write_key(to, "Nack");
                write_boolean(to, ping.nack);
                write_key(to, "Node");
                write_raw(to, ping.node.as_bytes());
                write_key(to, "Port");
                write_unsigned(to, u64::from(ping.target.port()));
                write_key(to, "SeqNo");
                write_unsigned(to, u64::from(ping.sequence));
                write_source(to, ping.source.as_ref());
                write_key(to, "Target");
                write_ip(to, ping.target.ip());
            }
            Self::Ack(ack) => {
                to.push(kind::ACK);
                write_map(to, 2);
                write_key(to, "Payload");
                write_raw_or_nil(to, &ack.payload);
                write_key(to, "SeqNo");
                write_unsigned(to, u64::from(ack.sequence));
            }
            Self::Nack { sequence } => {
                to.push(kind::NACK);
                write_map(to, 1);
                write_key(to, "SeqNo");
                write_unsigned(to, u64::from(*sequence));
            }
            Self::Suspect(accusation) => write_accusation(to, kind::SUSPECT, accusation),
            Self::Dead(accusation) => write_accusation(to, kind::DEAD, accusation),
            Self::Alive(alive) => {
                to.push(kind::ALIVE);
                write_map(to, 6);
                write_key(to, "Addr");
                write_ip(to, alive.address.ip());
                write_key(to, "Incarnation");
                write_unsigned(to, u64::from(alive.incarnation));
                write_key(to, "Meta");
                write_raw_or_nil(to, &alive.meta);
                write_key(to, "Node");
                write_raw(to, alive.node.as_bytes());
                write_key(to, "Port");
                write_unsigned(to, u64::from(alive.address.port()));
                write_key(to, "Vsn");
                write_raw(to, &alive.versions);
            }
            Self::Serf(serf) => {
                to.push(kind::USER);
                serf.write(to);
            }
        }
    }

    /// The message as it stands in a packet.
    pub fn encode(&self) -> Vec<u8> {
        let mut to = Vec::with_capacity(128);
        self.write(&mut to);
        to
    }

    /// Reads a message of type `kind` from what follows its type. Bytes after it are ignored.
    ///
    /// # Errors
    /// The type is not one of a single message, or the body is malformed.
    pub fn decode(kind: u8, body: &[u8]) -> Result<Self, Fault> {
        let reader = &mut Reader::new(body);
        Ok(match kind {
            kind::PING => Self::Ping(read_ping(reader)?),
            kind::INDIRECT_PING => Self::IndirectPing(read_indirect_ping(reader)?),
            kind::ACK => Self::Ack(read_ack(reader)?),
            kind::NACK => {
                let mut sequence = 0;
                reader.fields(&["SeqNo"], |_, reader| {
                    sequence = reader.u32()?;
                    Ok(())
                })?;
                Self::Nack { sequence }
            }
            kind::SUSPECT => Self::Suspect(read_accusation(reader)?),
            kind::DEAD => Self::Dead(read_accusation(reader)?),
            kind::ALIVE => Self::Alive(read_alive(reader)?),
            kind::USER => Self::Serf(Serf::decode(body)?),
            found => return Err(Fault::Type { expected: "a message", found }),
        })
    }
}

pub(super) fn write_ip(to: &mut Vec<u8>, ip: IpAddr) {
    // Agents compare addresses byte by byte: one form for each.
    match ip.to_canonical() {
        IpAddr::V4(ip) => write_raw(to, &ip.octets()),
        IpAddr::V6(ip) => write_raw(to, &ip.octets()),
    }
}

/// An address of 4 or 16 bytes; none if there are no bytes.
pub(super) fn read_ip(reader: &mut Reader<'_>) -> Result<Option<IpAddr>, Fault> {
    let bytes = reader.bytes()?;
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        Ok(Some(IpAddr::from(v4)))
    } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
        Ok(Some(IpAddr::from(v6).to_canonical()))
    } else if bytes.is_empty() {
        Ok(None)
    } else {
        Err(Fault::Length { what: "an IP address", length: bytes.len() as u64, max: 16 })
    }
}

pub(super) fn read_name(reader: &mut Reader<'_>) -> Result<Name, Fault> {
    let name = reader.text("a name of a node")?;
    if name.len() > NAME_BYTES_MAX {
        let length = name.len() as u64;
        return Err(Fault::Length { what: "a name of a node", length, max: NAME_BYTES_MAX as u64 });
    }
    Ok(Name::from(name))
}

/// Metadata may be longer than allowed: whoever counts members decides what becomes of it.
pub(super) fn read_meta(reader: &mut Reader<'_>) -> Result<Bytes, Fault> {
    let meta = reader.bytes()?;
    if meta.len() > META_BYTES_MAX {
        let length = meta.len() as u64;
        return Err(Fault::Length { what: "metadata of a node", length, max: META_BYTES_MAX as u64 });
    }
    Ok(Bytes::copy_from_slice(meta))
}

/// Six versions; a node of the first protocol has none. More than six are some future's, and not ours to keep.
pub(super) fn read_versions(reader: &mut Reader<'_>) -> Result<Versions, Fault> {
    let bytes = reader.bytes()?;
    match bytes.first_chunk() {
        Some(versions) => Ok(*versions),
        None if bytes.is_empty() => Ok([0; 6]),
        None => Err(Fault::Invalid("versions of protocols are six bytes")),
    }
}

fn named(name: Option<Name>) -> Result<Name, Fault> {
    name.filter(|name| !name.is_empty()).ok_or(Fault::Invalid("a message without the name of a node"))
}

fn write_source(to: &mut Vec<u8>, source: Option<&Source>) {
    let Some(source) = source else { return };
    write_key(to, "SourceAddr");
    write_ip(to, source.address.ip());
    write_key(to, "SourceNode");
    write_raw(to, source.node.as_bytes());
    write_key(to, "SourcePort");
    write_unsigned(to, u64::from(source.address.port()));
}

#[derive(Default)]
struct SourceFields {
    ip: Option<IpAddr>,
    port: u16,
    node: Option<Name>,
}

impl SourceFields {
    fn source(self) -> Option<Source> {
        let ip = self.ip.filter(|_| self.port > 0)?;
        Some(Source {
            address: SocketAddr::new(ip, self.port),
            node: self.node.unwrap_or_else(|| Name::from("")),
        })
    }
}

fn read_ping(reader: &mut Reader<'_>) -> Result<Ping, Fault> {
    let (mut sequence, mut node, mut source) = (0, None, SourceFields::default());
    reader.fields(&["SeqNo", "Node", "SourceAddr", "SourcePort", "SourceNode"], |field, reader| {
        match field {
            0 => sequence = reader.u32()?,
            1 => node = Some(read_name(reader)?),
            2 => source.ip = read_ip(reader)?,
            3 => source.port = reader.u16()?,
            _ => source.node = Some(read_name(reader)?),
        }
        Ok(())
    })?;
    // Old agents leave the name out: whoever is there is meant.
    Ok(Ping { sequence, node: node.unwrap_or_else(|| Name::from("")), source: source.source() })
}

fn read_indirect_ping(reader: &mut Reader<'_>) -> Result<IndirectPing, Fault> {
    let (mut sequence, mut ip, mut port, mut node, mut nack) = (0, None, 0, None, false);
    let mut source = SourceFields::default();
    let names = &["SeqNo", "Target", "Port", "Node", "Nack", "SourceAddr", "SourcePort", "SourceNode"];
    reader.fields(names, |field, reader| {
        match field {
            0 => sequence = reader.u32()?,
            1 => ip = read_ip(reader)?,
            2 => port = reader.u16()?,
            3 => node = Some(read_name(reader)?),
            4 => nack = reader.boolean()?,
            5 => source.ip = read_ip(reader)?,
            6 => source.port = reader.u16()?,
            _ => source.node = Some(read_name(reader)?),
        }
        Ok(())
    })?;
    let ip = ip.ok_or(Fault::Invalid("an indirect ping without a target"))?;
    let target = SocketAddr::new(ip, port);
    Ok(IndirectPing { sequence, target, node: named(node)?, nack, source: source.source() })
}

fn read_ack(reader: &mut Reader<'_>) -> Result<Ack, Fault> {
    let (mut sequence, mut payload) = (0, Bytes::new());
    reader.fields(&["SeqNo", "Payload"], |field, reader| {
        match field {
            0 => sequence = reader.u32()?,
            _ => payload = Bytes::copy_from_slice(reader.bytes()?),
        }
        Ok(())
    })?;
    Ok(Ack { sequence, payload })
}

fn write_accusation(to: &mut Vec<u8>, kind: u8, accusation: &Accusation) {
    to.push(kind);
    write_map(to, 3);
    write_key(to, "From");
    write_raw(to, accusation.from.as_bytes());
    write_key(to, "Incarnation");
    write_unsigned(to, u64::from(accusation.incarnation));
    write_key(to, "Node");
    write_raw(to, accusation.node.as_bytes());
}

fn read_accusation(reader: &mut Reader<'_>) -> Result<Accusation, Fault> {
    let (mut incarnation, mut node, mut from) = (0, None, None);
    reader.fields(&["Incarnation", "Node", "From"], |field, reader| {
        match field {
            0 => incarnation = reader.u32()?,
            1 => node = Some(read_name(reader)?),
            _ => from = Some(read_name(reader)?),
        }
        Ok(())
    })?;
    Ok(Accusation { incarnation, node: named(node)?, from: from.unwrap_or_else(|| Name::from("")) })
}

fn read_alive(reader: &mut Reader<'_>) -> Result<Alive, Fault> {
    let (mut incarnation, mut node, mut ip, mut port) = (0, None, None, 0);
    let (mut meta, mut versions) = (Bytes::new(), [0; 6]);
    reader.fields(&["Incarnation", "Node", "Addr", "Port", "Meta", "Vsn"], |field, reader| {
        match field {
            0 => incarnation = reader.u32()?,
            1 => node = Some(read_name(reader)?),
            2 => ip = read_ip(reader)?,
            3 => port = reader.u16()?,
            4 => meta = read_meta(reader)?,
            _ => versions = read_versions(reader)?,
        }
        Ok(())
    })?;
    let ip = ip.ok_or(Fault::Invalid("a node without an address"))?;
    Ok(Alive { incarnation, node: named(node)?, address: SocketAddr::new(ip, port), meta, versions })
}
