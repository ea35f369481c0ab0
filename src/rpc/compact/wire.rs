//! Bytes of the compact protocol: the preface, frames as protobuf messages, and where they end on a stream.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message as _;
use prost::encoding::{
    DecodeContext, decode_key, decode_varint, encode_varint, encoded_len_varint, skip_field,
};

use crate::rpc::wire::status::RpcStatus;

/// What a stream in each direction and every datagram begins with. The last byte is the version.
pub const PREFACE: [u8; 4] = [0xba, 0x4e, 0xd7, 0x01];
/// Bytes of a frame besides its message: metadata, status and details, and the fields of fixed size.
pub const OVERHEAD_SIZE_MAX: usize = 64 * 1024;
/// What each message costs of a stream's window besides its bytes, so that empty ones are bounded too.
pub const MESSAGE_COST: usize = 16;

/// A piece of the description.
pub const PIECE_SIZE_MAX: usize = 64 * 1024;
/// Pairs of metadata in one frame.
pub const PAIRS_MAX: usize = 1024;
/// Frames up to this size are copied out of the buffer they came in.
const COPIED_SIZE_MAX: usize = 16 * 1024;
/// Smaller frames cannot grow much when they are decoded.
const LOOKED_THROUGH_SIZE_MIN: usize = 1024;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Kind {
    /// None: such a frame is ignored, and so are numbers that are not in this list.
    Unspecified = 0,
    /// The first frame of either side.
    Hello = 1,
    /// The caller starts a call.
    Call = 2,
    /// The next message of a stream, of either side.
    Message = 3,
    /// The end of a call.
    Reply = 4,
    /// The caller gives a call up.
    Cancel = 5,
    /// The other side may send so many bytes more on this call.
    Credit = 6,
    /// Asks for a pong.
    Ping = 7,
    /// Answers a ping with its number.
    Pong = 8,
    /// The server takes no more calls.
    GoAway = 9,
    /// Asks for a piece of the description.
    Describe = 10,
    /// A piece of the description.
    Description = 11,
    /// UDP: the call has come and is being worked on.
    Working = 12,
    /// UDP: the session is not known, and the call was not started by this datagram.
    Reject = 13,
}

/// Everything that is sent: one on a stream after its length, one in a datagram after the preface.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Frame {
    /// What it is for.
    #[prost(enumeration = "Kind", tag = "1")]
    pub kind: i32,
    /// Number of the call, chosen by the caller, rising from 1. Ping, pong: any number.
    #[prost(uint64, tag = "2")]
    pub request: u64,
    /// Call ID of the method.
    #[prost(fixed32, tag = "3")]
    pub method: u32,
    /// One message of the method's type.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub message: Option<Bytes>,
    /// No more messages of this side follow.
    #[prost(bool, tag = "5")]
    pub end: bool,
    /// Metadata before the messages.
    #[prost(message, repeated, tag = "6")]
    pub metadata: Vec<Pair>,
    /// Metadata after the messages.
    #[prost(message, repeated, tag = "7")]
    pub trailers: Vec<Pair>,
    /// Time until the caller gives up.
    #[prost(uint64, optional, tag = "8")]
    pub timeout_ms: Option<u64>,
    /// How the call ended, if not OK.
    #[prost(message, optional, boxed, tag = "9")]
    pub status: Option<Box<RpcStatus>>,
    /// Bytes, for `CREDIT`.
    #[prost(uint32, tag = "10")]
    pub credit: u32,
    /// UDP: the session.
    #[prost(fixed64, tag = "11")]
    pub session: u64,
    /// UDP: every call below this number is over for the caller.
    #[prost(uint64, tag = "12")]
    pub oldest: u64,
    /// UDP: execute every copy that comes.
    #[prost(bool, tag = "13")]
    pub at_least_once: bool,
    /// For `HELLO`.
    #[prost(message, optional, boxed, tag = "14")]
    pub hello: Option<Box<Hello>>,
    /// For `DESCRIBE` and `DESCRIPTION`.
    #[prost(message, optional, boxed, tag = "15")]
    pub piece: Option<Box<Piece>>,
    /// Ignored. Makes a datagram at least as long as its answer may be.
    #[prost(bytes = "bytes", tag = "16")]
    pub padding: Bytes,
}

/// One value of metadata.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Pair {
    /// Lower case.
    #[prost(string, tag = "1")]
    pub name: String,
    /// As in gRPC: visible ASCII, base64 if the name ends in `-bin`.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// What a side tells about itself.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hello {
    /// Bytes of one message that it takes.
    #[prost(uint32, tag = "1")]
    pub message_size_max: u32,
    /// Calls at a time that it takes.
    #[prost(uint32, tag = "2")]
    pub calls_max: u32,
    /// Bytes that the other side may send on a stream before it is given credit.
    #[prost(uint32, tag = "3")]
    pub window: u32,
    /// Hash of the description, from the server.
    #[prost(fixed64, tag = "4")]
    pub description_hash: u64,
    /// UDP: a number that the caller makes up; the answer repeats it.
    #[prost(fixed64, tag = "5")]
    pub nonce: u64,
    /// For a person.
    #[prost(string, tag = "6")]
    pub software: String,
}

/// A piece of the encoded [`Description`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Piece {
    /// Hash of the whole; all pieces that are put together must have the same.
    #[prost(fixed64, tag = "1")]
    pub hash: u64,
    /// Where the piece begins.
    #[prost(uint32, tag = "2")]
    pub offset: u32,
    /// Bytes of the whole.
    #[prost(uint32, tag = "3")]
    pub total: u32,
    /// The piece.
    #[prost(bytes = "bytes", tag = "4")]
    pub bytes: Bytes,
}

/// What a server offers: the Call ID table and the types.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Description {
    /// Every method, ordered by path.
    #[prost(message, repeated, tag = "1")]
    pub methods: Vec<MethodEntry>,
    /// A `google.protobuf.FileDescriptorSet`.
    #[prost(bytes = "bytes", tag = "2")]
    pub descriptor_set: Bytes,
}

/// A row of the Call ID table.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MethodEntry {
    /// Call ID.
    #[prost(fixed32, tag = "1")]
    pub id: u32,
    /// `package.Service/Method`.
    #[prost(string, tag = "2")]
    pub path: String,
    /// The caller may send several messages.
    #[prost(bool, tag = "3")]
    pub client_streams: bool,
    /// The server may send several messages.
    #[prost(bool, tag = "4")]
    pub server_streams: bool,
    /// Full name of the request type.
    #[prost(string, tag = "5")]
    pub input: String,
    /// Full name of the reply type.
    #[prost(string, tag = "6")]
    pub output: String,
}

/// Bytes that are not the compact protocol, or more than was agreed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It does not begin with the preface.
    #[error("the compact protocol begins with ba 4e d7 01, not {0:02x?}")]
    Preface([u8; 4]),
    /// A frame over the limit.
    #[error("a frame of {size} bytes is over the limit of {size_max}")]
    TooLarge {
        /// Its size.
        size: u64,
        /// The limit.
        size_max: usize,
    },
    /// Not a protobuf message.
    #[error("a frame is broken: {0}")]
    Broken(String),
}

impl Frame {
    /// A frame of `kind` for the call numbered `request`.
    pub fn new(kind: Kind, request: u64) -> Self {
        Self { kind: kind.into(), request, ..Self::default() }
    }

    /// Decodes a frame. A large message shares memory with `bytes`; a small one is copied, so that none keeps a
    /// buffer alive that is many times its size.
    ///
    /// # Errors
    /// Bytes that are no such message, or with more besides it than is allowed.
    pub fn parse(bytes: Bytes) -> Result<Self, WireError> {
        let frame = if bytes.len() > COPIED_SIZE_MAX {
            look_through(&bytes)?;
            Self::decode(bytes)
        } else {
            if bytes.len() > LOOKED_THROUGH_SIZE_MIN {
                look_through(&bytes)?;
            }
            Self::decode(&bytes[..])
        };
        frame.map_err(|error| WireError::Broken(error.to_string()))
    }

    /// Appends the frame after its length.
    pub fn write(&self, out: &mut BytesMut) {
        let size = self.encoded_len();
        out.reserve(size + 10);
        encode_varint(size as u64, out);
        self.encode_raw(out);
    }

    /// The datagram of this frame.
    pub fn datagram(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(PREFACE.len() + self.encoded_len());
        out.extend_from_slice(&PREFACE);
        self.encode_raw(&mut out);
        out
    }

    /// Decodes a datagram.
    ///
    /// # Errors
    /// Another preface, bytes that are no frame.
    pub fn from_datagram(bytes: &[u8]) -> Result<Self, WireError> {
        let (preface, rest) = bytes.split_first_chunk().ok_or(WireError::Broken("too short".to_owned()))?;
        if *preface != PREFACE {
            return Err(WireError::Preface(*preface));
        }
        Self::parse(Bytes::copy_from_slice(rest))
    }
}

/// Refuses, before anything is decoded, a frame with more besides its message than is allowed: two bytes of an empty
/// pair become more than fifty in memory.
fn look_through(bytes: &[u8]) -> Result<(), WireError> {
    const MESSAGE: u32 = 4;
    const PAIRS: [u32; 2] = [6, 7];
    let broken = |error: prost::DecodeError| WireError::Broken(error.to_string());
    let mut rest = bytes;
    let (mut besides, mut pairs) = (bytes.len(), 0);
    while !rest.is_empty() {
        let (tag, wire_type) = decode_key(&mut rest).map_err(broken)?;
        let before = rest.len();
        skip_field(wire_type, tag, &mut rest, DecodeContext::default()).map_err(broken)?;
        if tag == MESSAGE {
            besides -= before - rest.len();
        }
        pairs += usize::from(PAIRS.contains(&tag));
    }
    // A piece of the description is as large as a message may be, and does not grow.
    if pairs > PAIRS_MAX {
        return Err(WireError::Broken(format!(
            "{pairs} pairs of metadata are over the limit of {PAIRS_MAX}"
        )));
    }
    if besides > OVERHEAD_SIZE_MAX + PIECE_SIZE_MAX {
        let size = besides as u64;
        return Err(WireError::TooLarge { size, size_max: OVERHEAD_SIZE_MAX + PIECE_SIZE_MAX });
    }
    Ok(())
}

/// Appends the frame of a unary reply that is one message and OK: `kind`, `request` and `message` of
/// [`Frame`], and nothing else. The bytes are those of [`Frame::write`].
pub fn write_reply(out: &mut BytesMut, request: u64, message: &[u8]) {
    const KIND: &[u8] = &[1 << 3, Kind::Reply as u8];
    let message_size = message.len() as u64;
    let request_size = if request == 0 { 0 } else { 1 + encoded_len_varint(request) };
    let size = KIND.len() + request_size + 1 + encoded_len_varint(message_size) + message.len();
    out.reserve(size + 10);
    encode_varint(size as u64, out);
    out.put_slice(KIND);
    if request != 0 {
        out.put_u8(2 << 3);
        encode_varint(request, out);
    }
    out.put_u8(4 << 3 | 2);
    encode_varint(message_size, out);
    out.put_slice(message);
}

/// Takes the next whole frame out of what has come on a stream, without its length.
///
/// # Errors
/// A length over `size_max`, known before anything is kept for it.
pub fn next_frame(buffer: &mut BytesMut, size_max: usize) -> Result<Option<Bytes>, WireError> {
    let mut rest = &buffer[..];
    let whole_length = rest.iter().take(10).any(|byte| *byte < 0x80);
    if !whole_length {
        return if rest.len() >= 10 {
            Err(WireError::Broken("a length without end".to_owned()))
        } else {
            Ok(None)
        };
    }
    let size = decode_varint(&mut rest).map_err(|error| WireError::Broken(error.to_string()))?;
    let fits = usize::try_from(size).ok().filter(|size| *size <= size_max);
    let Some(frame_size) = fits else { return Err(WireError::TooLarge { size, size_max }) };
    let length_size = buffer.len() - rest.len();
    if rest.len() < frame_size {
        return Ok(None);
    }
    buffer.advance(length_size);
    Ok(Some(buffer.split_to(frame_size).freeze()))
}

/// Takes the preface off the beginning of a stream; `false` if it has not come whole.
///
/// # Errors
/// Other bytes.
pub fn take_preface(buffer: &mut BytesMut) -> Result<bool, WireError> {
    let Some(preface) = buffer.first_chunk::<4>() else { return Ok(false) };
    if *preface != PREFACE {
        return Err(WireError::Preface(*preface));
    }
    buffer.advance(PREFACE.len());
    Ok(true)
}

/// Metadata as pairs.
pub fn pairs(metadata: &HeaderMap) -> Vec<Pair> {
    let pair = |(name, value): (&HeaderName, &HeaderValue)| Pair {
        name: name.as_str().to_owned(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    };
    metadata.iter().map(pair).collect()
}

/// Pairs as metadata; those that cannot be metadata are left out.
pub fn metadata(pairs: &[Pair]) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    for pair in pairs {
        let name = HeaderName::from_bytes(pair.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(pair.value.clone());
        if let (Ok(name), Ok(value)) = (name, value)
            && metadata.try_append(name, value).is_err()
        {
            break;
        }
    }
    metadata
}

/// Hash of an encoded description: 64-bit FNV-1a.
pub fn description_hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
    }

    fn on_stream(frame: &Frame) -> String {
        let mut out = BytesMut::new();
        frame.write(&mut out);
        hex(&out)
    }

    /// The examples of docs/compact.md.
    #[test]
    fn golden_bytes() {
        let hello = Hello { message_size_max: 4 << 20, calls_max: 1024, window: 262_144, ..Hello::default() };
        let frame = Frame { hello: Some(Box::new(hello)), ..Frame::new(Kind::Hello, 0) };
        assert_eq!(on_stream(&frame), "10 08 01 72 0c 08 80 80 80 02 10 80 08 18 80 80 10");
        let call = Frame {
            method: 0x1234_5678,
            message: Some(Bytes::from_static(b"\x0a\x03Ada")),
            end: true,
            timeout_ms: Some(1000),
            ..Frame::new(Kind::Call, 1)
        };
        assert_eq!(on_stream(&call), "15 08 02 10 01 1d 78 56 34 12 22 05 0a 03 41 64 61 28 01 40 e8 07");
        let reply = Frame { message: Some(Bytes::from_static(b"\x0a\x02Hi")), ..Frame::new(Kind::Reply, 1) };
        assert_eq!(on_stream(&reply), "0a 08 04 10 01 22 04 0a 02 48 69");
        let status = RpcStatus { code: 5, message: "no".to_owned(), details: Vec::new() };
        let failed = Frame { status: Some(Box::new(status)), ..Frame::new(Kind::Reply, 2) };
        assert_eq!(on_stream(&failed), "0c 08 04 10 02 4a 06 08 05 12 02 6e 6f");
        let udp = Frame { session: 7, oldest: 1, ..call };
        assert_eq!(
            hex(&udp.datagram()),
            "ba 4e d7 01 08 02 10 01 1d 78 56 34 12 22 05 0a 03 41 64 61 28 01 40 e8 07 \
             59 07 00 00 00 00 00 00 00 60 01"
        );
    }

    #[test]
    fn the_short_writer_writes_what_the_long_one_does() {
        for request in [0, 1, 127, 128, 300_000, u64::MAX] {
            for message in [&b""[..], b"x", &[7; 300]] {
                let frame = Frame {
                    message: Some(Bytes::copy_from_slice(message)),
                    ..Frame::new(Kind::Reply, request)
                };
                let (mut long, mut short) = (BytesMut::new(), BytesMut::new());
                frame.write(&mut long);
                write_reply(&mut short, request, message);
                assert_eq!(long, short);
            }
        }
    }

    #[test]
    fn frames_are_found_wherever_the_network_cuts() {
        let frame = Frame { message: Some(Bytes::from(vec![1; 200])), ..Frame::new(Kind::Message, 9) };
        let mut bytes = BytesMut::new();
        frame.write(&mut bytes);
        frame.write(&mut bytes);
        for step in 1..bytes.len() {
            let (mut buffer, mut found) = (BytesMut::new(), 0);
            for piece in bytes.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(bytes) = next_frame(&mut buffer, 1000).unwrap() {
                    assert_eq!(Frame::parse(bytes).unwrap(), frame);
                    found += 1;
                }
            }
            assert_eq!(found, 2);
        }
    }

    #[test]
    fn giant_lengths_are_refused_before_anything_is_kept() {
        let mut buffer = BytesMut::from(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1][..]);
        assert_eq!(
            next_frame(&mut buffer, 100),
            Err(WireError::TooLarge { size: 0xffff_ffff, size_max: 100 })
        );
        let mut buffer = BytesMut::from(&[0xff; 10][..]);
        assert!(matches!(next_frame(&mut buffer, 100), Err(WireError::Broken(_))));
        let mut buffer = BytesMut::from(&[0xff; 9][..]);
        assert_eq!(next_frame(&mut buffer, 100), Ok(None));
        assert_eq!(take_preface(&mut BytesMut::from("PRI * HT")), Err(WireError::Preface(*b"PRI ")));
    }

    #[test]
    fn what_grows_in_memory_is_refused_before_it_is_decoded() {
        let pair = Pair::default();
        let frame = Frame { metadata: vec![pair.clone(); PAIRS_MAX], ..Frame::new(Kind::Call, 1) };
        assert_eq!(Frame::from_datagram(&frame.datagram()).unwrap().metadata.len(), PAIRS_MAX);
        let frame = Frame { trailers: vec![pair], ..frame };
        let error = Frame::from_datagram(&frame.datagram()).unwrap_err();
        assert_eq!(error.to_string(), "a frame is broken: 1025 pairs of metadata are over the limit of 1024");
        // Large messages are what large frames are for.
        let message = Some(Bytes::from(vec![0; 1 << 20]));
        let frame = Frame { message: message.clone(), ..Frame::new(Kind::Call, 1) };
        assert_eq!(Frame::parse(frame.encode_to_vec().into()).unwrap().message, message);
        let frame = Frame { padding: Bytes::from(vec![0; 1 << 20]), message: None, ..frame };
        assert!(matches!(Frame::parse(frame.encode_to_vec().into()), Err(WireError::TooLarge { .. })));
    }

    #[test]
    fn metadata_survives() {
        let mut map = HeaderMap::new();
        map.append("x-a", HeaderValue::from_static("1"));
        map.append("x-a", HeaderValue::from_static("2"));
        assert_eq!(metadata(&pairs(&map)), map);
        let bad = [Pair { name: "a b".to_owned(), value: Bytes::from_static(b"\n") }];
        assert!(metadata(&bad).is_empty());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Frame::from_datagram(&bytes);
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(frame)) = next_frame(&mut buffer, 64) {
                let _ = Frame::parse(frame);
            }
            let _ = Description::decode(&bytes[..]);
        }
    }
}
