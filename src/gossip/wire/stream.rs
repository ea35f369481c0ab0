//! Streams: one message each way, read as its bytes come. There is no length around it and no end of stream to wait for.

use super::compress::{compress, decompress};
use super::keyring::{KeyError, Keyring, NonceBytes};
use super::label;
use super::message::{Ack, Message, Ping, kind};
use super::msgpack::{Fault, Reader, write_key, write_map, write_raw, write_unsigned};
use super::packet::Wrapping;
use super::serf::Serf;
use super::state::{self, Header, Node, PushPull, USER_STATE_BYTES_MAX};

/// Most bytes of a stream, as they come or unpacked.
pub const STREAM_BYTES_MAX: usize = 40 * 1024 * 1024;
/// The type and length before what is encrypted.
const SEALED_HEADER_BYTES: usize = 5;
/// What the name and the metadata of a node take at least.
const NODE_PARTS_BYTES: usize = 64;

/// A message of a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamMessage {
    /// All that the sender knows.
    PushPull(PushPull),
    /// Serf's.
    Serf(Serf),
    /// Are you there? When datagrams do not come through.
    Ping(Ping),
    /// I am.
    Ack(Ack),
    /// What was asked cannot be done.
    Error(String),
}

/// Why a stream is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// A message is malformed.
    #[error("a message of type {kind}: {fault}")]
    Message {
        /// Its type.
        kind: u8,
        /// What is wrong.
        fault: Fault,
    },
    /// Not encrypted as we are.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Not encrypted, and we are.
    #[error("it is not encrypted, and this cluster is")]
    Plain,
    /// Encrypted, and we are not.
    #[error("it is encrypted, and this node has no key")]
    Encrypted,
    /// Another label than ours.
    #[error("it is labelled for another cluster")]
    Label,
    /// More than is taken.
    #[error("a stream of {length} bytes is over the limit of {STREAM_BYTES_MAX}")]
    Length {
        /// How much.
        length: u64,
    },
}

impl StreamMessage {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::PushPull(state) => state.write(to),
            Self::Serf(serf) => {
                let inner = serf.encode();
                to.push(kind::USER);
                write_map(to, 1);
                write_key(to, "UserMsgLen");
                write_unsigned(to, inner.len() as u64);
                to.extend_from_slice(&inner);
            }
            Self::Ping(ping) => Message::Ping(ping.clone()).write(to),
            Self::Ack(ack) => Message::Ack(ack.clone()).write(to),
            Self::Error(error) => {
                to.push(kind::ERROR);
                write_map(to, 1);
                write_key(to, "Error");
                write_raw(to, error.as_bytes());
            }
        }
    }

    /// The bytes of a stream that we open with this message.
    pub fn encode(&self, wrapping: &Wrapping, nonce: NonceBytes) -> Vec<u8> {
        let mut stream = Vec::with_capacity(1024);
        label::write(&mut stream, &wrapping.label);
        self.write_wrapped(wrapping, nonce, &mut stream);
        stream
    }

    /// The bytes of an answer: only who opens a stream says for which cluster it is, though the label is authenticated in
    /// both directions. memberlist, sendLocalState
    pub fn encode_answer(&self, wrapping: &Wrapping, nonce: NonceBytes) -> Vec<u8> {
        let mut stream = Vec::with_capacity(1024);
        self.write_wrapped(wrapping, nonce, &mut stream);
        stream
    }

    fn write_wrapped(&self, wrapping: &Wrapping, nonce: NonceBytes, stream: &mut Vec<u8>) {
        let mut inner = Vec::with_capacity(1024);
        self.write(&mut inner);
        let mut packed = Vec::with_capacity(inner.len() / 2);
        compress(&inner, &mut packed);
        if packed.len() < inner.len() {
            inner = packed;
        }
        match &wrapping.keyring {
            None => stream.extend_from_slice(&inner),
            Some(keyring) => {
                let length = Keyring::sealed_bytes(inner.len()) as u32;
                let mut associated = vec![kind::ENCRYPTED];
                associated.extend(length.to_be_bytes());
                stream.extend_from_slice(&associated);
                associated.extend_from_slice(wrapping.label.as_bytes());
                keyring.seal(&inner, &associated, nonce, stream);
            }
        }
    }
}

/// Reads a stream as its bytes come.
#[derive(Debug, Default)]
pub struct StreamDecoder {
    buffer: Vec<u8>,
    /// What of the buffer has been used.
    at: usize,
    /// There is nothing to be found before the buffer is that long.
    needed: usize,
    /// Nothing follows what is in the buffer: it was unpacked.
    whole: bool,
    stage: Stage,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Label,
    Encryption,
    Compression,
    Message,
    Nodes {
        header: Header,
        seen: u64,
        nodes: Vec<Node>,
    },
    Done,
}

/// One step of reading.
enum Step {
    Go(Stage),
    /// The buffer has to be that long.
    Wait(usize),
    Message(StreamMessage),
}

impl StreamDecoder {
    /// Reads the answer on a stream that we have opened: it has no label.
    pub fn of_answer() -> Self {
        Self { stage: Stage::Encryption, ..Self::default() }
    }

    /// Takes bytes that came.
    ///
    /// # Errors
    /// There are more than a stream may have.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        let length = self.buffer.len() + bytes.len();
        if length > STREAM_BYTES_MAX {
            return Err(StreamError::Length { length: length as u64 });
        }
        // What was unpacked has an end: nothing belongs behind it.
        if !self.whole {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// How many bytes are held, about: a node that has been read is more than its bytes were.
    pub fn held_bytes(&self) -> usize {
        let nodes = match &self.stage {
            Stage::Nodes { nodes, .. } => nodes.capacity(),
            _ => 0,
        };
        self.buffer.capacity() + nodes * (size_of::<Node>() + NODE_PARTS_BYTES)
    }

    /// The message, once it has come; there is one.
    ///
    /// # Errors
    /// It is malformed, over a limit, or not wrapped as ours are.
    pub fn next_message(&mut self, wrapping: &Wrapping) -> Result<Option<StreamMessage>, StreamError> {
        while self.buffer.len() >= self.needed {
            let step = match std::mem::replace(&mut self.stage, Stage::Done) {
                Stage::Label => self.label(wrapping)?,
                Stage::Encryption => self.encryption(wrapping)?,
                Stage::Compression => self.compression()?,
                Stage::Message => self.message()?,
                Stage::Nodes { header, seen, nodes } => self.nodes(header, seen, nodes)?,
                Stage::Done => return Ok(None),
            };
            match step {
                Step::Go(stage) => self.stage = stage,
                Step::Wait(needed) => self.needed = needed,
                Step::Message(message) => return Ok(Some(message)),
            }
        }
        Ok(None)
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    /// More bytes are needed for `stage`; or a fault, if none will come.
    fn wait(&mut self, stage: Stage, needed: usize, kind: u8) -> Result<Step, StreamError> {
        let needed = self.at.saturating_add(needed);
        if self.whole {
            return Err(StreamError::Message { kind, fault: Fault::Incomplete { needed } });
        }
        if needed > STREAM_BYTES_MAX {
            return Err(StreamError::Length { length: needed as u64 });
        }
        self.stage = stage;
        Ok(Step::Wait(needed))
    }

    fn unpacked(&mut self, bytes: Vec<u8>) {
        (self.buffer, self.at, self.needed, self.whole) = (bytes, 0, 0, true);
    }

    fn label(&mut self, wrapping: &Wrapping) -> Result<Step, StreamError> {
        let length = self.rest().len();
        let Some(header) = label::header_bytes(self.rest()) else {
            return self.wait(Stage::Label, length + 1, kind::LABEL);
        };
        if length < header {
            return self.wait(Stage::Label, header, kind::LABEL);
        }
        label::strip(self.rest(), &wrapping.label).ok_or(StreamError::Label)?;
        self.at += header;
        Ok(Step::Go(Stage::Encryption))
    }

    fn encryption(&mut self, wrapping: &Wrapping) -> Result<Step, StreamError> {
        match (self.rest().first(), &wrapping.keyring) {
            (None, _) => return self.wait(Stage::Encryption, 1, kind::ENCRYPTED),
            (Some(&kind::ENCRYPTED), None) => return Err(StreamError::Encrypted),
            // Whoever has no key says so in the clear.
            (Some(&kind::ERROR), Some(_)) => return Ok(Step::Go(Stage::Message)),
            (Some(&kind::ENCRYPTED), Some(_)) => {}
            (Some(_), Some(_)) => return Err(StreamError::Plain),
            (Some(_), None) => return Ok(Step::Go(Stage::Compression)),
        }
        let Some(header) = self.rest().first_chunk::<SEALED_HEADER_BYTES>() else {
            return self.wait(Stage::Encryption, SEALED_HEADER_BYTES, kind::ENCRYPTED);
        };
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        let mut associated = header.to_vec();
        associated.extend_from_slice(wrapping.label.as_bytes());
        let Some(sealed) = self.rest().get(SEALED_HEADER_BYTES..SEALED_HEADER_BYTES.saturating_add(length))
        else {
            let needed = SEALED_HEADER_BYTES.saturating_add(length);
            return self.wait(Stage::Encryption, needed, kind::ENCRYPTED);
        };
        let keyring = wrapping.keyring.as_ref().ok_or(StreamError::Encrypted)?;
        let plain = keyring.open(sealed, &associated)?;
        self.unpacked(plain);
        Ok(Step::Go(Stage::Compression))
    }

    fn compression(&mut self) -> Result<Step, StreamError> {
        let Some((&first, body)) = self.rest().split_first() else {
            return self.wait(Stage::Compression, 1, kind::COMPRESSED);
        };
        if first != kind::COMPRESSED {
            return Ok(Step::Go(Stage::Message));
        }
        let failed = |fault| StreamError::Message { kind: kind::COMPRESSED, fault };
        let mut whole = Reader::new(body);
        match whole.skip() {
            Ok(()) => {}
            Err(Fault::Incomplete { needed }) => {
                return self.wait(Stage::Compression, 1 + needed, kind::COMPRESSED);
            }
            Err(fault) => return Err(failed(fault)),
        }
        let plain = decompress(body, STREAM_BYTES_MAX).map_err(failed)?;
        self.unpacked(plain);
        Ok(Step::Go(Stage::Message))
    }

    fn message(&mut self) -> Result<Step, StreamError> {
        let Some((&kind, body)) = self.rest().split_first() else {
            return self.wait(Stage::Message, 1, kind::PUSH_PULL);
        };
        let outcome = match kind {
            kind::PUSH_PULL => {
                let mut reader = Reader::new(body);
                state::read_header(&mut reader).map(|header| {
                    let used = 1 + reader.position();
                    (used, Step::Go(Stage::Nodes { header, seen: 0, nodes: Vec::new() }))
                })
            }
            kind::USER => read_user(body).map(|serf| (0, Step::Message(StreamMessage::Serf(serf)))),
            kind::ERROR => read_error(body).map(|error| (0, Step::Message(StreamMessage::Error(error)))),
            kind::PING | kind::ACK => Message::decode(kind, body).map(|message| {
                let message = match message {
                    Message::Ping(ping) => StreamMessage::Ping(ping),
                    Message::Ack(ack) => StreamMessage::Ack(ack),
                    _ => unreachable!("the type says which"),
                };
                (0, Step::Message(message))
            }),
            found => Err(Fault::Type { expected: "a message of a stream", found }),
        };
        match outcome {
            Ok((used, step)) => {
                self.at += used;
                Ok(step)
            }
            Err(Fault::Incomplete { needed }) => self.wait(Stage::Message, 1 + needed, kind),
            Err(fault) => Err(StreamError::Message { kind, fault }),
        }
    }

    fn nodes(&mut self, header: Header, mut seen: u64, mut nodes: Vec<Node>) -> Result<Step, StreamError> {
        let kind = kind::PUSH_PULL;
        while seen < header.nodes {
            let mut reader = Reader::new(self.rest());
            match state::read_node(&mut reader) {
                Ok(node) => nodes.extend(node),
                Err(Fault::Incomplete { needed }) => {
                    return self.wait(Stage::Nodes { header, seen, nodes }, needed, kind);
                }
                Err(fault) => return Err(StreamError::Message { kind, fault }),
            }
            self.at += reader.position();
            seen += 1;
        }
        // Bounded when the header was read.
        debug_assert!(header.user_state_bytes <= USER_STATE_BYTES_MAX);
        let length = header.user_state_bytes as usize;
        let Some(user) = self.rest().get(..length) else {
            return self.wait(Stage::Nodes { header, seen, nodes }, length, kind);
        };
        let serf = state::read_user_state(user).map_err(|fault| StreamError::Message { kind, fault })?;
        Ok(Step::Message(StreamMessage::PushPull(PushPull { join: header.join, nodes, serf })))
    }
}

fn read_user(body: &[u8]) -> Result<Serf, Fault> {
    let mut length = 0;
    let mut reader = Reader::new(body);
    reader.fields(&["UserMsgLen"], |_, reader| {
        length = reader.unsigned(u64::MAX)?;
        Ok(())
    })?;
    if length > USER_STATE_BYTES_MAX {
        return Err(Fault::Length { what: "a message of a user", length, max: USER_STATE_BYTES_MAX });
    }
    let needed = reader.position() + length as usize;
    let inner = reader.rest().get(..length as usize).ok_or(Fault::Incomplete { needed })?;
    Serf::decode(inner).map_err(|fault| match fault {
        // It is all there, so more bytes will not help.
        Fault::Incomplete { .. } => Fault::Invalid("a message of a user that ends early"),
        fault => fault,
    })
}

fn read_error(body: &[u8]) -> Result<String, Fault> {
    let mut error = String::new();
    Reader::new(body).fields(&["Error"], |_, reader| {
        error = String::from_utf8_lossy(reader.bytes()?).into_owned();
        Ok(())
    })?;
    Ok(error)
}
