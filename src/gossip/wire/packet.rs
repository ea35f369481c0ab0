//! Datagrams: messages in their layers, which are label, encryption, checksum, compression, compound.

use super::compress::{compress, decompress};
use super::keyring::{KeyError, Keyring, NonceBytes};
use super::label;
use super::message::{Message, kind};
use super::msgpack::Fault;

/// How deep layers may be nested; agents use compression over compound, and a checksum.
const DEPTH_MAX: usize = 5;
/// What the compressed parts of a datagram may become together.
const UNPACKED_BYTES_MAX: usize = 1024 * 1024;
/// Most messages of a datagram: those of one compound.
const MESSAGES_MAX: usize = 4096;
/// Most parts of a compound.
pub const PARTS_MAX: usize = 255;
/// What a compound adds: its type and count.
pub const COMPOUND_BYTES: usize = 2;
/// What a compound adds for each part: its length.
pub const PART_BYTES: usize = 2;

/// Why a datagram, or a part of one, is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// A message is malformed.
    #[error("a message of type {kind}: {fault}")]
    Message {
        /// Its type.
        kind: u8,
        /// What is wrong.
        fault: Fault,
    },
    /// The checksum is another one.
    #[error("the checksum is 0x{found:08x}, and 0x{computed:08x} was expected")]
    Checksum {
        /// What the packet says.
        found: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// Not encrypted as we are.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Encrypted, by all appearances, and we are not.
    #[error("it is encrypted, and this node has no key")]
    Encrypted,
    /// Another label than ours.
    #[error("it is labelled for another cluster")]
    Label,
    /// Cut short, or nested too deeply.
    #[error("{0}")]
    Layers(&'static str),
}

/// How packets and streams are wrapped.
#[derive(Clone, Debug, Default)]
pub struct Wrapping {
    /// Tells clusters on one network apart; none is empty. memberlist 0.3 and later.
    pub label: Box<str>,
    /// Encrypts everything.
    pub keyring: Option<Keyring>,
}

/// The messages of a datagram, and the first of its parts that was not understood.
#[derive(Debug, Default)]
pub struct Packet {
    /// What was understood.
    pub messages: Vec<Message>,
    /// What was not.
    pub fault: Option<PacketError>,
}

impl Packet {
    /// Reads a datagram. What is in order is kept, whatever else is wrong with it.
    pub fn decode(datagram: &[u8], wrapping: &Wrapping) -> Self {
        let mut packet = Self::default();
        let mut unpacked = UNPACKED_BYTES_MAX;
        let outcome =
            label::strip(datagram, &wrapping.label).ok_or(PacketError::Label).and_then(
                |inner| match &wrapping.keyring {
                    Some(keyring) => {
                        let opened = keyring.open(inner, wrapping.label.as_bytes())?;
                        packet.read(&opened, DEPTH_MAX, &mut unpacked)
                    }
                    None => packet.read(inner, DEPTH_MAX, &mut unpacked).map_err(|fault| {
                        // Nothing says so: it begins with a version, as a ping begins with its type, and makes no sense.
                        if Keyring::may_be_sealed(inner) { PacketError::Encrypted } else { fault }
                    }),
                },
            );
        if let Err(fault) = outcome {
            packet.fault.get_or_insert(fault);
        }
        packet
    }

    fn read(&mut self, bytes: &[u8], depth: usize, unpacked: &mut usize) -> Result<(), PacketError> {
        let depth = depth.checked_sub(1).ok_or(PacketError::Layers("layers are nested too deeply"))?;
        let Some((&kind, body)) = bytes.split_first() else { return Ok(()) };
        let failed = |fault| PacketError::Message { kind, fault };
        match kind {
            kind::CHECKSUM => {
                let (found, rest) =
                    body.split_first_chunk().ok_or(PacketError::Layers("a checksum is four bytes"))?;
                let (found, computed) = (u32::from_be_bytes(*found), crc32fast::hash(rest));
                if found != computed {
                    return Err(PacketError::Checksum { found, computed });
                }
                self.read(rest, depth, unpacked)
            }
            kind::COMPRESSED => {
                let inner = decompress(body, *unpacked).map_err(failed)?;
                *unpacked -= inner.len();
                self.read(&inner, depth, unpacked)
            }
            kind::COMPOUND => self.read_compound(body, depth, unpacked),
            // Agents ignore it too.
            kind::USER if body.is_empty() => Ok(()),
            _ if self.messages.len() >= MESSAGES_MAX => Err(PacketError::Layers("too many messages")),
            _ => {
                self.messages.push(Message::decode(kind, body).map_err(failed)?);
                Ok(())
            }
        }
    }

    fn read_compound(&mut self, body: &[u8], depth: usize, unpacked: &mut usize) -> Result<(), PacketError> {
        const SHORT: PacketError = PacketError::Layers("a compound is cut short");
        let (&count, rest) = body.split_first().ok_or(SHORT)?;
        let (lengths, mut rest) = rest.split_at_checked(2 * usize::from(count)).ok_or(SHORT)?;
        for length in lengths.chunks_exact(2) {
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            // The parts before the cut are whole.
            let (part, after) = rest.split_at_checked(length).ok_or(SHORT)?;
            rest = after;
            if let Err(fault) = self.read(part, depth, unpacked) {
                self.fault.get_or_insert(fault);
            }
        }
        Ok(())
    }
}

/// What wraps a datagram.
#[derive(Clone, Copy, Debug)]
pub struct Layers {
    /// Whether its bytes are checked; older ones than protocol 5 do not know how.
    pub checksum: bool,
    /// Whether it is compressed if that makes it smaller.
    pub compress: bool,
    /// For encryption.
    pub nonce: NonceBytes,
}

/// Writes messages as one datagram. There are [`PARTS_MAX`] at most.
pub fn encode(messages: &[Message], wrapping: &Wrapping, layers: Layers) -> Vec<u8> {
    let mut inner = Vec::with_capacity(256);
    if let [message] = messages {
        message.write(&mut inner);
    } else {
        let messages = &messages[..messages.len().min(PARTS_MAX)];
        inner.extend([kind::COMPOUND, messages.len() as u8]);
        inner.resize(COMPOUND_BYTES + PART_BYTES * messages.len(), 0);
        for (index, message) in messages.iter().enumerate() {
            let start = inner.len();
            message.write(&mut inner);
            let length = u16::try_from(inner.len() - start).expect("a part fits a datagram");
            let at = COMPOUND_BYTES + PART_BYTES * index;
            inner[at..at + PART_BYTES].copy_from_slice(&length.to_be_bytes());
        }
    }
    if layers.compress {
        let mut packed = Vec::new();
        compress(&inner, &mut packed);
        if packed.len() < inner.len() {
            inner = packed;
        }
    }
    let mut datagram = Vec::with_capacity(inner.len() + 64);
    label::write(&mut datagram, &wrapping.label);
    let checksum = layers.checksum.then(|| crc32fast::hash(&inner));
    if let Some(keyring) = &wrapping.keyring {
        if let Some(checksum) = checksum {
            inner.splice(..0, [kind::CHECKSUM].into_iter().chain(checksum.to_be_bytes()));
        }
        keyring.seal(&inner, wrapping.label.as_bytes(), layers.nonce, &mut datagram);
    } else {
        if let Some(checksum) = checksum {
            datagram.push(kind::CHECKSUM);
            datagram.extend(checksum.to_be_bytes());
        }
        datagram.extend_from_slice(&inner);
    }
    datagram
}
