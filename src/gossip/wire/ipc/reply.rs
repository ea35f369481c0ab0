//! What a node answers to commands.

use core::net::SocketAddr;
use std::collections::BTreeMap;

use bytes::Bytes;

use super::{LIST_MAX, bytes, foreign, texts, write_texts};
use crate::gossip::wire::message::{Versions, read_ip, write_ip};
use crate::gossip::wire::msgpack::{
    Fault, Reader, write_array, write_boolean, write_key, write_map, write_nil, write_raw, write_unsigned,
};
use crate::gossip::wire::payload::Coordinate;

/// Appends the header of a reply; an error is empty if there is none.
pub fn write_header(to: &mut Vec<u8>, sequence: u64, error: &str) {
    write_map(to, 2);
    write_key(to, "Error");
    write_raw(to, error.as_bytes());
    write_key(to, "Seq");
    write_unsigned(to, sequence);
}

/// Writes a line of the log, which is the body of an answer to [`Request::Monitor`](super::Request::Monitor).
pub fn write_log(to: &mut Vec<u8>, line: &str) {
    write_map(to, 1);
    write_key(to, "Log");
    write_raw(to, line.as_bytes());
}

/// Reads the header of a reply.
///
/// # Errors
/// Malformed, or the bytes end.
pub fn read_header(reader: &mut Reader<'_>) -> Result<(u64, String), Fault> {
    let (mut sequence, mut error) = (0, String::new());
    reader.fields(&["Seq", "Error"], |field, reader| {
        match field {
            0 => sequence = reader.u64()?,
            _ => error = foreign(reader)?,
        }
        Ok(())
    })?;
    Ok((sequence, error))
}

/// A member, as commands see it.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberRow {
    /// Its name.
    pub name: String,
    /// Where it receives.
    pub address: Option<SocketAddr>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Serf's word for how it is.
    pub status: String,
    /// What it speaks.
    pub versions: Versions,
    /// Ours, as the rest: its incarnation.
    pub incarnation: Option<u32>,
    /// Whether it is suspected.
    pub suspect: bool,
    /// For how many milliseconds it has been so.
    pub age_ms: Option<u64>,
    /// The round trip time that coordinates predict, in microseconds.
    pub rtt_us: Option<u64>,
}

impl MemberRow {
    /// Appends the member.
    pub fn write(&self, to: &mut Vec<u8>) {
        let [protocol_min, protocol_max, protocol, delegate_min, delegate_max, delegate] = self.versions;
        write_map(to, 15);
        write_key(to, "Addr");
        match self.address {
            Some(address) => write_ip(to, address.ip()),
            None => write_nil(to),
        }
        for (key, value) in [
            ("AgeMs", self.age_ms.unwrap_or(0)),
            ("DelegateCur", u64::from(delegate)),
            ("DelegateMax", u64::from(delegate_max)),
            ("DelegateMin", u64::from(delegate_min)),
            ("Incarnation", u64::from(self.incarnation.unwrap_or(0))),
        ] {
            write_key(to, key);
            write_unsigned(to, value);
        }
        write_key(to, "Name");
        write_raw(to, self.name.as_bytes());
        for (key, value) in [
            ("Port", u64::from(self.address.map_or(0, |address| address.port()))),
            ("ProtocolCur", u64::from(protocol)),
            ("ProtocolMax", u64::from(protocol_max)),
            ("ProtocolMin", u64::from(protocol_min)),
        ] {
            write_key(to, key);
            write_unsigned(to, value);
        }
        write_key(to, "RttUs");
        match self.rtt_us {
            Some(rtt) => write_unsigned(to, rtt),
            None => write_nil(to),
        }
        write_key(to, "Status");
        write_raw(to, self.status.as_bytes());
        write_key(to, "Suspect");
        write_boolean(to, self.suspect);
        write_key(to, "Tags");
        write_texts(to, &self.tags);
    }

    /// Reads a member.
    ///
    /// # Errors
    /// Malformed, or the bytes end.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        const FIELDS: &[&str] = &[
            "Name",
            "Addr",
            "Port",
            "Tags",
            "Status",
            "ProtocolMin",
            "ProtocolMax",
            "ProtocolCur",
            "DelegateMin",
            "DelegateMax",
            "DelegateCur",
            "Incarnation",
            "Suspect",
            "AgeMs",
            "RttUs",
        ];
        let mut row = Self {
            name: String::new(),
            address: None,
            tags: BTreeMap::new(),
            status: String::new(),
            versions: [0; 6],
            incarnation: None,
            suspect: false,
            age_ms: None,
            rtt_us: None,
        };
        let (mut ip, mut port) = (None, 0);
        reader.fields(FIELDS, |field, reader| {
            match field {
                0 => row.name = foreign(reader)?,
                1 => ip = read_ip(reader)?,
                2 => port = reader.u16()?,
                3 => row.tags = texts(reader)?,
                4 => row.status = foreign(reader)?,
                5..=10 => row.versions[field - 5] = reader.u8()?,
                11 => row.incarnation = Some(reader.u32()?),
                12 => row.suspect = reader.boolean()?,
                13 => row.age_ms = Some(reader.u64()?),
                _ if reader.nil()? => {}
                _ => row.rtt_us = Some(reader.u64()?),
            }
            Ok(())
        })?;
        row.address = ip.map(|ip| SocketAddr::new(ip, port));
        Ok(row)
    }
}

/// Appends the body of an answer about members.
pub fn write_members(to: &mut Vec<u8>, members: &[MemberRow]) {
    write_map(to, 1);
    write_key(to, "Members");
    write_array(to, members.len());
    members.iter().for_each(|member| member.write(to));
}

/// Reads the body of an answer about members.
///
/// # Errors
/// Malformed, or the bytes end.
pub fn read_members(reader: &mut Reader<'_>) -> Result<Vec<MemberRow>, Fault> {
    let mut members = Vec::new();
    reader.fields(&["Members"], |_, reader| {
        for _ in 0..reader.array(LIST_MAX)? {
            members.push(MemberRow::read(reader)?);
        }
        Ok(())
    })?;
    Ok(members)
}

/// What a stream of events tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamRecord {
    /// `member-join`, `user`, `query`, …; ours: `data`, `missed` for events that came too fast to be told.
    pub event: String,
    /// Whom it is about.
    pub members: Vec<MemberRow>,
    /// When, by the clock of its kind.
    pub ltime: u64,
    /// The name of an event or a query; the key of data.
    pub name: String,
    /// What it says; of data: the value, if there is one.
    pub payload: Option<Bytes>,
    /// Whether several of a name may become one.
    pub coalesce: bool,
    /// Of a query: its number, for the answer. Of `missed`: how many.
    pub id: u64,
    /// Of a query: who asks. Of data: who wrote it.
    pub source: String,
    /// Ours: how many milliseconds ago it happened, if it is told again.
    pub age_ms: u64,
}

impl StreamRecord {
    /// Appends the record.
    pub fn write(&self, to: &mut Vec<u8>) {
        write_map(to, 8 + usize::from(self.age_ms > 0));
        if self.age_ms > 0 {
            write_key(to, "AgeMs");
            write_unsigned(to, self.age_ms);
        }
        write_key(to, "Coalesce");
        write_boolean(to, self.coalesce);
        write_key(to, "Event");
        write_raw(to, self.event.as_bytes());
        write_key(to, "ID");
        write_unsigned(to, self.id);
        write_key(to, "LTime");
        write_unsigned(to, self.ltime);
        write_key(to, "Members");
        write_array(to, self.members.len());
        self.members.iter().for_each(|member| member.write(to));
        write_key(to, "Name");
        write_raw(to, self.name.as_bytes());
        write_key(to, "Payload");
        match &self.payload {
            Some(payload) => write_raw(to, payload),
            None => write_nil(to),
        }
        write_key(to, "Source");
        write_raw(to, self.source.as_bytes());
    }

    /// Reads a record.
    ///
    /// # Errors
    /// Malformed, or the bytes end.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut record = Self::default();
        let names = &["Event", "Members", "LTime", "Name", "Payload", "Coalesce", "ID", "Source", "AgeMs"];
        reader.fields(names, |field, reader| {
            match field {
                0 => record.event = foreign(reader)?,
                1 => {
                    for _ in 0..reader.array(LIST_MAX)? {
                        record.members.push(MemberRow::read(reader)?);
                    }
                }
                2 => record.ltime = reader.u64()?,
                3 => record.name = foreign(reader)?,
                4 if reader.nil()? => {}
                4 => record.payload = Some(bytes(reader)?),
                5 => record.coalesce = reader.boolean()?,
                6 => record.id = reader.u64()?,
                7 => record.source = foreign(reader)?,
                _ => record.age_ms = reader.u64()?,
            }
            Ok(())
        })?;
        Ok(record)
    }
}

/// What comes back of a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryRecord {
    /// `ack`, `response` or `done`.
    pub kind: String,
    /// Who.
    pub from: String,
    /// What it says.
    pub payload: Bytes,
}

impl QueryRecord {
    /// Appends the record.
    pub fn write(&self, to: &mut Vec<u8>) {
        write_map(to, 3);
        write_key(to, "From");
        write_raw(to, self.from.as_bytes());
        write_key(to, "Payload");
        write_raw(to, &self.payload);
        write_key(to, "Type");
        write_raw(to, self.kind.as_bytes());
    }

    /// Reads a record.
    ///
    /// # Errors
    /// Malformed, or the bytes end.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut record = Self::default();
        reader.fields(&["Type", "From", "Payload"], |field, reader| {
            match field {
                0 => record.kind = foreign(reader)?,
                1 => record.from = foreign(reader)?,
                _ => record.payload = bytes(reader)?,
            }
            Ok(())
        })?;
        Ok(record)
    }
}

/// What came of an operation on the keys of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeysReply {
    /// What went wrong, by node.
    pub messages: BTreeMap<String, String>,
    /// How many have each key.
    pub keys: BTreeMap<String, u64>,
    /// How many have each key as their primary; ours, for agents do not say.
    pub primaries: BTreeMap<String, u64>,
    /// How many nodes there are.
    pub nodes: u64,
    /// How many could not do it.
    pub errors: u64,
    /// How many answered.
    pub responses: u64,
}

impl KeysReply {
    /// Appends the reply.
    pub fn write(&self, to: &mut Vec<u8>) {
        let counts = |to: &mut Vec<u8>, counts: &BTreeMap<String, u64>| {
            write_map(to, counts.len());
            for (key, count) in counts {
                write_raw(to, key.as_bytes());
                write_unsigned(to, *count);
            }
        };
        write_map(to, 6);
        write_key(to, "Keys");
        counts(to, &self.keys);
        write_key(to, "Messages");
        write_texts(to, &self.messages);
        for (key, value) in [("NumErr", self.errors), ("NumNodes", self.nodes), ("NumResp", self.responses)] {
            write_key(to, key);
            write_unsigned(to, value);
        }
        write_key(to, "PrimaryKeys");
        counts(to, &self.primaries);
    }

    /// Reads a reply.
    ///
    /// # Errors
    /// Malformed, or the bytes end.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut reply = Self::default();
        let names = &["Messages", "Keys", "NumNodes", "NumErr", "NumResp", "PrimaryKeys"];
        reader.fields(names, |field, reader| {
            match field {
                0 => reply.messages = texts(reader)?,
                1 | 5 => {
                    for _ in 0..reader.map(LIST_MAX)? {
                        let (key, count) = (foreign(reader)?, reader.u64()?);
                        let to = if field == 1 { &mut reply.keys } else { &mut reply.primaries };
                        to.insert(key, count);
                    }
                }
                2 => reply.nodes = reader.u64()?,
                3 => reply.errors = reader.u64()?,
                _ => reply.responses = reader.u64()?,
            }
            Ok(())
        })?;
        Ok(reply)
    }
}

/// Figures of a node, in groups.
pub type Stats = BTreeMap<String, BTreeMap<String, String>>;

/// Appends figures.
pub fn write_stats(to: &mut Vec<u8>, stats: &Stats) {
    write_map(to, stats.len());
    for (group, figures) in stats {
        write_raw(to, group.as_bytes());
        write_texts(to, figures);
    }
}

/// Reads figures.
///
/// # Errors
/// Malformed, or the bytes end.
pub fn read_stats(reader: &mut Reader<'_>) -> Result<Stats, Fault> {
    let count = reader.map(LIST_MAX)?;
    (0..count).map(|_| Ok((foreign(reader)?, texts(reader)?))).collect()
}

/// Appends how many there are, as `join` answers.
pub fn write_number(to: &mut Vec<u8>, name: &str, number: u64) {
    write_map(to, 1);
    write_key(to, name);
    write_unsigned(to, number);
}

/// Reads a number by its name; nil is none.
///
/// # Errors
/// Malformed, or the bytes end.
pub fn read_number(reader: &mut Reader<'_>, name: &str) -> Result<Option<u64>, Fault> {
    let mut number = None;
    reader.fields(&[name], |_, reader| {
        number = if reader.nil()? { None } else { Some(reader.u64()?) };
        Ok(())
    })?;
    Ok(number)
}

/// Appends a coordinate, if it is known.
pub fn write_coordinate(to: &mut Vec<u8>, coordinate: Option<&Coordinate>) {
    write_map(to, 1 + usize::from(coordinate.is_some()));
    if let Some(coordinate) = coordinate {
        write_key(to, "Coord");
        // Behind the version, which belongs to answers to pings.
        to.extend_from_slice(&coordinate.encode()[1..]);
    }
    write_key(to, "Ok");
    write_boolean(to, coordinate.is_some());
}

/// What a key holds, as commands see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataRow {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Bytes,
    /// The counter of its version.
    pub version: u64,
    /// Who wrote it.
    pub writer: String,
}

/// Appends what keys hold.
pub fn write_data(to: &mut Vec<u8>, rows: &[DataRow]) {
    write_array(to, rows.len());
    for row in rows {
        write_array(to, 4);
        write_raw(to, row.key.as_bytes());
        write_raw(to, &row.value);
        write_unsigned(to, row.version);
        write_raw(to, row.writer.as_bytes());
    }
}

/// Reads what keys hold.
///
/// # Errors
/// Malformed, or the bytes end.
pub fn read_data(reader: &mut Reader<'_>) -> Result<Vec<DataRow>, Fault> {
    let mut rows = Vec::new();
    for _ in 0..reader.array(LIST_MAX)? {
        let mut row = DataRow { key: String::new(), value: Bytes::new(), version: 0, writer: String::new() };
        reader.fields(&["Key", "Value", "Version", "Writer"], |field, reader| {
            match field {
                0 => row.key = foreign(reader)?,
                1 => row.value = bytes(reader)?,
                2 => row.version = reader.u64()?,
                _ => row.writer = foreign(reader)?,
            }
            Ok(())
        })?;
        rows.push(row);
    }
    Ok(rows)
}

/// Reads a coordinate, if it is known.
///
/// # Errors
/// Malformed, or the bytes end.
pub fn read_coordinate(reader: &mut Reader<'_>) -> Result<Option<Coordinate>, Fault> {
    let (mut coordinate, mut known) = (None, false);
    reader.fields(&["Coord", "Ok"], |field, reader| {
        match field {
            0 if reader.nil()? => {}
            0 => {
                coordinate = Some(reader.rest());
                reader.skip()?;
            }
            _ => known = reader.boolean()?,
        }
        Ok(())
    })?;
    // Of a node that it does not know an agent sends a coordinate that is none. Serf, handleGetCoordinate.
    coordinate.filter(|_| known).map(|bytes| Coordinate::read(&mut Reader::new(bytes))).transpose()
}
