//! The state that two nodes exchange over a stream: every member, and what Serf knows.

use core::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::data::{Entry, Stamp, read_entries, read_stamps, write_entries, write_stamps};
use super::message::{Name, Versions, kind, read_ip, read_meta, read_name, read_versions, write_ip};
use super::msgpack::{
    Fault, Reader, write_array, write_boolean, write_key, write_map, write_nil, write_raw, write_raw_or_nil,
    write_unsigned,
};
use super::serf::{self, UserEvent, read_event};

/// Most members in one exchange.
pub const NODES_MAX: u64 = 256 * 1024;
/// Largest state of Serf in one exchange. memberlist, maxPushStateBytes.
pub const USER_STATE_BYTES_MAX: u64 = 20 * 1024 * 1024;
/// Most slots of events in one exchange; agents send 512.
const EVENT_SLOTS_MAX: u64 = 64 * 1024;

/// How a node is, by the one who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeState {
    /// It answers.
    Alive,
    /// It does not answer, and may still object.
    Suspect,
    /// It does not answer, and has not objected.
    Dead,
    /// It said that it leaves.
    Left,
}

/// A member as one node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: Name,
    /// Where it receives.
    pub address: SocketAddr,
    /// Its metadata.
    pub meta: Bytes,
    /// Its incarnation.
    pub incarnation: u32,
    /// How it is.
    pub state: NodeState,
    /// What it speaks.
    pub versions: Versions,
}

/// What Serf knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SerfState {
    /// The clock of members.
    pub ltime: u64,
    /// When each member's status was last announced.
    pub status_ltimes: Vec<(Name, u64)>,
    /// Who has left.
    pub left: Vec<Name>,
    /// The clock of events.
    pub event_ltime: u64,
    /// Recent events.
    pub events: Vec<UserEvent>,
    /// The clock of queries.
    pub query_ltime: u64,
    /// Ours: the keys and versions that the sender has; none from agents that do not know of them.
    pub digest: Option<Vec<Stamp>>,
    /// Ours: entries that the receiver lacks.
    pub data: Vec<Entry>,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushPull {
    /// Whether the sender is just joining.
    pub join: bool,
    /// Members.
    pub nodes: Vec<Node>,
    /// Serf's state; none if its first byte was another's.
    pub serf: Option<SerfState>,
}

/// What stands before the members.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub join: bool,
    pub nodes: u64,
    pub user_state_bytes: u64,
}

pub(super) fn read_header(reader: &mut Reader<'_>) -> Result<Header, Fault> {
    let mut header = Header { join: false, nodes: 0, user_state_bytes: 0 };
    reader.fields(&["Nodes", "UserStateLen", "Join"], |field, reader| {
        match field {
            0 => header.nodes = reader.unsigned(u64::MAX)?,
            1 => header.user_state_bytes = reader.unsigned(u64::MAX)?,
            _ => header.join = reader.boolean()?,
        }
        Ok(())
    })?;
    let over = |what, length, max| Err(Fault::Length { what, length, max });
    if header.nodes > NODES_MAX {
        return over("a list of nodes", header.nodes, NODES_MAX);
    }
    if header.user_state_bytes > USER_STATE_BYTES_MAX {
        return over("the state of a user", header.user_state_bytes, USER_STATE_BYTES_MAX);
    }
    Ok(header)
}

/// A member; none if it is one that we cannot name or reach, which is no reason to refuse the others.
pub(super) fn read_node(reader: &mut Reader<'_>) -> Result<Option<Node>, Fault> {
    let mut start = reader.clone();
    let node = read_node_strictly(reader);
    match node {
        Ok(node) => Ok(node),
        Err(fault @ Fault::Incomplete { .. }) => Err(fault),
        Err(_) => {
            // Malformed within, but its end can still be found.
            start.skip()?;
            *reader = start;
            Ok(None)
        }
    }
}

fn read_node_strictly(reader: &mut Reader<'_>) -> Result<Option<Node>, Fault> {
    let (mut name, mut ip, mut port, mut meta) = (None, None::<IpAddr>, 0, Bytes::new());
    let (mut incarnation, mut state, mut versions) = (0, NodeState::Alive, [0; 6]);
    let names = &["Name", "Addr", "Port", "Meta", "Incarnation", "State", "Vsn"];
    reader.fields(names, |field, reader| {
        match field {
            0 => name = Some(read_name(reader)?),
            1 => ip = read_ip(reader)?,
            2 => port = reader.u16()?,
            3 => meta = read_meta(reader)?,
            4 => incarnation = reader.u32()?,
            5 => {
                state = match reader.unsigned(3)? {
                    0 => NodeState::Alive,
                    1 => NodeState::Suspect,
                    2 => NodeState::Dead,
                    _ => NodeState::Left,
                }
            }
            _ => versions = read_versions(reader)?,
        }
        Ok(())
    })?;
    let (Some(name), Some(ip)) = (name.filter(|name| !name.is_empty()), ip) else { return Ok(None) };
    Ok(Some(Node { name, address: SocketAddr::new(ip, port), meta, incarnation, state, versions }))
}

/// Reads what follows the members.
pub(super) fn read_user_state(bytes: &[u8]) -> Result<Option<SerfState>, Fault> {
    match bytes.split_first() {
        Some((&serf::kind::PUSH_PULL, body)) => SerfState::read(&mut Reader::new(body)).map(Some),
        _ => Ok(None),
    }
}

impl SerfState {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(serf::kind::PUSH_PULL);
        let entries = !self.data.is_empty();
        write_map(to, 6 + usize::from(self.digest.is_some()) + usize::from(entries));
        write_key(to, "EventLTime");
        write_unsigned(to, self.event_ltime);
        write_key(to, "Events");
        self.write_events(to);
        if entries {
            let mut data = Vec::new();
            write_entries(&mut data, &self.data);
            write_key(to, "KV");
            write_raw(to, &data);
        }
        if let Some(digest) = &self.digest {
            let mut data = Vec::new();
            write_stamps(&mut data, digest);
            write_key(to, "KVDigest");
            write_raw(to, &data);
        }
        write_key(to, "LTime");
        write_unsigned(to, self.ltime);
        write_key(to, "LeftMembers");
        write_array(to, self.left.len());
        self.left.iter().for_each(|name| write_raw(to, name.as_bytes()));
        write_key(to, "QueryLTime");
        write_unsigned(to, self.query_ltime);
        write_key(to, "StatusLTimes");
        write_map(to, self.status_ltimes.len());
        for (name, ltime) in &self.status_ltimes {
            write_raw(to, name.as_bytes());
            write_unsigned(to, *ltime);
        }
    }

    /// Events of one time stand together. Agents send a slot for each of 512 times and skip those without.
    fn write_events(&self, to: &mut Vec<u8>) {
        if self.events.is_empty() {
            return write_nil(to);
        }
        let slots = || self.events.chunk_by(|a, b| a.ltime == b.ltime);
        write_array(to, slots().count());
        for slot in slots() {
            write_map(to, 2);
            write_key(to, "Events");
            write_array(to, slot.len());
            for event in slot {
                write_map(to, 2);
                write_key(to, "Name");
                write_raw(to, event.name.as_bytes());
                write_key(to, "Payload");
                write_raw_or_nil(to, &event.payload);
            }
            write_key(to, "LTime");
            write_unsigned(to, slot[0].ltime);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut state = Self::default();
        let names =
            &["LTime", "StatusLTimes", "LeftMembers", "EventLTime", "Events", "QueryLTime", "KVDigest", "KV"];
        reader.fields(names, |field, reader| {
            match field {
                0 => state.ltime = reader.u64()?,
                1 => {
                    for _ in 0..reader.map(NODES_MAX)? {
                        let name = reader.bytes()?;
                        let ltime = reader.u64()?;
                        if let Ok(name) = std::str::from_utf8(name) {
                            state.status_ltimes.push((Name::from(name), ltime));
                        }
                    }
                }
                2 => {
                    for _ in 0..reader.array(NODES_MAX)? {
                        if let Ok(name) = std::str::from_utf8(reader.bytes()?) {
                            state.left.push(Name::from(name));
                        }
                    }
                }
                3 => state.event_ltime = reader.u64()?,
                4 => {
                    for _ in 0..reader.array(EVENT_SLOTS_MAX)? {
                        read_slot(reader, &mut state.events)?;
                    }
                }
                5 => state.query_ltime = reader.u64()?,
                6 => state.digest = Some(read_stamps(&mut Reader::new(reader.bytes()?))?),
                _ => state.data = read_entries(&mut Reader::new(reader.bytes()?))?,
            }
            Ok(())
        })?;
        Ok(state)
    }
}

fn read_slot(reader: &mut Reader<'_>, to: &mut Vec<UserEvent>) -> Result<(), Fault> {
    let (mut ltime, begin) = (0, to.len());
    reader.fields(&["LTime", "Events"], |field, reader| {
        match field {
            0 => ltime = reader.u64()?,
            _ => {
                for _ in 0..reader.array(EVENT_SLOTS_MAX)? {
                    to.push(read_event(reader)?);
                }
            }
        }
        Ok(())
    })?;
    to[begin..].iter_mut().for_each(|event| event.ltime = ltime);
    Ok(())
}

impl PushPull {
    /// Appends the message as it stands in a stream.
    pub fn write(&self, to: &mut Vec<u8>) {
        let mut user = Vec::new();
        if let Some(serf) = &self.serf {
            serf.write(&mut user);
        }
        to.push(kind::PUSH_PULL);
        write_map(to, 3);
        write_key(to, "Join");
        write_boolean(to, self.join);
        write_key(to, "Nodes");
        write_unsigned(to, self.nodes.len() as u64);
        write_key(to, "UserStateLen");
        write_unsigned(to, user.len() as u64);
        for node in &self.nodes {
            write_map(to, 7);
            write_key(to, "Addr");
            write_ip(to, node.address.ip());
            write_key(to, "Incarnation");
            write_unsigned(to, u64::from(node.incarnation));
            write_key(to, "Meta");
            write_raw_or_nil(to, &node.meta);
            write_key(to, "Name");
            write_raw(to, node.name.as_bytes());
            write_key(to, "Port");
            write_unsigned(to, u64::from(node.address.port()));
            write_key(to, "State");
            write_unsigned(to, node.state as u64);
            write_key(to, "Vsn");
            write_raw(to, &node.versions);
        }
        to.extend_from_slice(&user);
    }
}
