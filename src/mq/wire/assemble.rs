//! Frames put together to methods and whole messages, per channel.

use std::collections::HashMap;
use std::ops::Deref;

use bytes::{Bytes, BytesMut};

use super::frame::{self, Frame, Kind};
use super::{BODY_SIZE_MAX, Error, Method};

/// Room made for a body at once, in bytes: what is announced is not allocated before it comes.
const BODY_ROOM: usize = 64 * 1024;

/// Bytes of a message: in the chunk that was read, or kept from earlier ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<'a> {
    /// In the chunk.
    Here(&'a [u8]),
    /// From several chunks or frames.
    Kept(Bytes),
}

impl Part<'_> {
    /// The bytes without a copy, as a share of `chunk`, which is what the [`Assembler`] was given. A small share
    /// keeps all of the chunk in memory.
    #[must_use]
    pub fn share(&self, chunk: &Bytes) -> Bytes {
        match self {
            Self::Here(bytes) => chunk.slice_ref(bytes),
            Self::Kept(bytes) => bytes.clone(),
        }
    }

    /// The bytes, copied if they stand in the chunk.
    #[must_use]
    pub fn keep(&self) -> Bytes {
        match self {
            Self::Here(bytes) => Bytes::copy_from_slice(bytes),
            Self::Kept(bytes) => bytes.clone(),
        }
    }
}

impl Deref for Part<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Here(bytes) => bytes,
            Self::Kept(bytes) => bytes,
        }
    }
}

/// The method of a content, decoded in the chunk or kept from an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Held<'a> {
    Here(Method<'a>),
    /// The payload of a frame that was decoded before.
    Kept(Bytes),
}

/// A publish, deliver, return or get-ok with its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content<'a> {
    method: Held<'a>,
    /// The properties as they came: [`Properties::parse`](super::Properties::parse) reads them.
    pub properties: Part<'a>,
    /// The whole body.
    pub body: Part<'a>,
}

impl Content<'_> {
    /// The method that the content belongs to.
    #[inline]
    pub fn method(&self) -> Method<'_> {
        match &self.method {
            Held::Here(method) => *method,
            Held::Kept(payload) => Method::decode(payload).expect("was decoded before it was kept"),
        }
    }
}

/// What frames amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// A sign of life.
    Heartbeat,
    /// A method without content.
    Method {
        /// 0 for the connection.
        channel: u16,
        /// What it says.
        method: Method<'a>,
    },
    /// A method with its content.
    Content {
        /// Never 0.
        channel: u16,
        /// What it brings.
        content: Content<'a>,
    },
    /// A content whose body was over the caller's limit and was not kept.
    Oversized {
        /// Never 0.
        channel: u16,
        /// What the body would have had, in bytes.
        body_size: u64,
    },
}

/// A content that has not all come.
#[derive(Debug)]
struct Pending {
    method: Bytes,
    id: (u16, u16),
    /// Whether [`Assembler::begun`] has told of it.
    told: bool,
    /// None until the content header comes.
    body: Option<PendingBody>,
}

#[derive(Debug)]
struct PendingBody {
    properties: Bytes,
    size: u64,
    left: u64,
    /// What has come; stays empty if the body is too large to keep.
    bytes: BytesMut,
    keep: bool,
}

/// Puts the frames of one connection together. Contents of different channels may be interleaved.
#[derive(Debug)]
pub struct Assembler {
    frame_max: u32,
    body_size_max: u64,
    pending: HashMap<u16, Pending>,
    pending_bytes: usize,
}

impl Assembler {
    /// Frames of at most `frame_max` bytes, 0 for no limit. Bodies over `body_size_max` bytes are read but not kept.
    pub fn new(frame_max: u32, body_size_max: u64) -> Self {
        Self { frame_max, body_size_max, pending: HashMap::new(), pending_bytes: 0 }
    }

    /// The limit from now on: it is negotiated.
    pub fn set_frame_max(&mut self, frame_max: u32) {
        self.frame_max = frame_max;
    }

    /// Bytes of bodies that have not all come.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Channels on which a content has begun since the last call that has not all come: time to say that there is no
    /// such channel, before more of it is kept.
    pub fn begun(&mut self) -> Vec<u16> {
        let new = |pending: &mut Pending| !std::mem::replace(&mut pending.told, true);
        self.pending.iter_mut().filter_map(|(channel, pending)| new(pending).then_some(*channel)).collect()
    }

    /// Bytes of memory that are held for them.
    #[cfg(test)]
    pub(super) fn reserved(&self) -> usize {
        self.pending
            .values()
            .filter_map(|pending| pending.body.as_ref())
            .map(|body| body.bytes.capacity())
            .sum()
    }

    /// Takes the next event from the front of `input`, and moves `input` to what stands behind it. None if more
    /// bytes are needed: what is left has to stand before the bytes that come next. Ask until there is none.
    ///
    /// # Errors
    /// See [`Error`]; nothing after it can be decoded.
    #[inline]
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, Error> {
        while let Some(frame) = self.frame(input)? {
            let event = match frame.kind {
                Kind::Method if !self.is_pending(frame.channel) => self.method(frame, input)?,
                Kind::Heartbeat if frame.channel == 0 => Some(Event::Heartbeat),
                Kind::Method | Kind::Header | Kind::Body | Kind::Heartbeat => self.part(frame)?,
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    #[inline]
    fn frame<'a>(&self, input: &mut &'a [u8]) -> Result<Option<Frame<'a>>, Error> {
        let frame = frame::decode(input, self.frame_max)?;
        if let Some(frame) = &frame {
            *input = &input[frame.size()..];
        }
        Ok(frame)
    }

    #[inline]
    fn is_pending(&self, channel: u16) -> bool {
        !self.pending.is_empty() && self.pending.contains_key(&channel)
    }

    /// A method, with its content if header and body stand right behind it.
    #[inline]
    fn method<'a>(&mut self, frame: Frame<'a>, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, Error> {
        let channel = frame.channel;
        let method = Method::decode(frame.payload)?;
        // Channel 0 has no contents: whoever decides what it may say refuses the method.
        if channel == 0 || !method.has_content() {
            return Ok(Some(Event::Method { channel, method }));
        }
        if let Some((properties, body)) = self.content_behind(channel, method.id().0, input) {
            let (properties, body) = (Part::Here(properties), Part::Here(body));
            let content = Content { method: Held::Here(method), properties, body };
            return Ok(Some(Event::Content { channel, content }));
        }
        let pending = Pending {
            method: Bytes::copy_from_slice(frame.payload),
            id: method.id(),
            told: false,
            body: None,
        };
        self.pending.insert(channel, pending);
        Ok(None)
    }

    /// Properties and body if they are the next two frames, or the body is empty. Anything else, errors among it,
    /// is left where it is.
    #[inline]
    fn content_behind<'a>(
        &self,
        channel: u16,
        class: u16,
        input: &mut &'a [u8],
    ) -> Option<(&'a [u8], &'a [u8])> {
        let mut rest = *input;
        let header = self.frame(&mut rest).ok()??;
        if header.kind != Kind::Header || header.channel != channel {
            return None;
        }
        let (fixed, properties) = header.payload.split_first_chunk::<12>()?;
        let size = header_of(fixed, class)?;
        let mut body: &[u8] = &[];
        if size > 0 {
            if size > self.body_size_max {
                return None;
            }
            let frame = self.frame(&mut rest).ok()??;
            if frame.kind != Kind::Body || frame.channel != channel || frame.payload.len() as u64 != size {
                return None;
            }
            body = frame.payload;
        }
        *input = rest;
        Some((properties, body))
    }

    /// A frame of a content that has begun before, or one that has no place here.
    fn part<'a>(&mut self, frame: Frame<'a>) -> Result<Option<Event<'a>>, Error> {
        let channel = frame.channel;
        if frame.kind == Kind::Heartbeat || channel == 0 {
            let payload = Error::snippet(frame.payload);
            return Err(Error::WrongChannel { kind: frame.kind.number(), payload });
        }
        let Some(pending) = self.pending.get_mut(&channel) else { return Err(Error::ExpectedMethod) };
        let (class, method) = pending.id;
        match &mut pending.body {
            None => {
                if frame.kind != Kind::Header {
                    return Err(Error::ExpectedHeader { class, method });
                }
                pending.body = Some(begin(frame.payload, pending.id, self.body_size_max)?);
            }
            Some(body) => {
                if frame.kind != Kind::Body {
                    return Err(Error::ExpectedBody { class, method });
                }
                let part = frame.payload;
                let left = body.left.checked_sub(part.len() as u64);
                body.left = left.ok_or(Error::BodyOverrun { class, method })?;
                if body.keep {
                    if body.bytes.capacity() - body.bytes.len() < part.len() {
                        // At most doubles: whoever announces much has to send it.
                        let more = (body.bytes.len().max(BODY_ROOM) as u64).min(body.left) as usize;
                        body.bytes.reserve(part.len() + more);
                    }
                    body.bytes.extend_from_slice(part);
                    self.pending_bytes += part.len();
                }
            }
        }
        if pending.body.as_ref().is_none_or(|body| body.left > 0) {
            return Ok(None);
        }
        let Some(Pending { method, body: Some(body), .. }) = self.pending.remove(&channel) else {
            return Ok(None);
        };
        self.pending_bytes -= body.bytes.len();
        if !body.keep {
            return Ok(Some(Event::Oversized { channel, body_size: body.size }));
        }
        let (properties, body) = (Part::Kept(body.properties), Part::Kept(body.bytes.freeze()));
        let content = Content { method: Held::Kept(method), properties, body };
        Ok(Some(Event::Content { channel, content }))
    }
}

/// Class, weight and size of a content header; the size if it is as it should be.
#[inline]
fn header_of(fixed: &[u8; 12], class: u16) -> Option<u64> {
    let [c0, c1, w0, w1, size @ ..] = *fixed;
    (u16::from_be_bytes([c0, c1]) == class && [w0, w1] == [0, 0]).then(|| u64::from_be_bytes(size))
}

fn begin(payload: &[u8], (class, method): (u16, u16), body_size_max: u64) -> Result<PendingBody, Error> {
    // The decoder of frames lets no shorter header pass.
    let Some((fixed, properties)) = payload.split_first_chunk::<12>() else {
        return Err(Error::UnknownFrame { kind: 2, payload: Error::snippet(payload) });
    };
    let Some(size) = header_of(fixed, class) else {
        let got = u16::from_be_bytes([fixed[0], fixed[1]]);
        if got == class {
            // RabbitMQ takes a weight for another kind of frame.
            return Err(Error::ExpectedHeader { class, method });
        }
        return Err(Error::HeaderClass { class, method, got });
    };
    if size > BODY_SIZE_MAX {
        return Err(Error::BodyTooLarge { class, method, size, size_max: BODY_SIZE_MAX });
    }
    let properties = Bytes::copy_from_slice(properties);
    Ok(PendingBody { properties, size, left: size, bytes: BytesMut::new(), keep: size <= body_size_max })
}
