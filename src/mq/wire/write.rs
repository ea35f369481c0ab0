//! Frames appended to a buffer: methods, and messages cut to the size agreed on.

use bytes::BytesMut;

use super::frame::{END, HEADER_SIZE, Kind};
use super::{FRAME_OVERHEAD, Method};

/// What frames are appended to.
pub trait Output {
    /// Appends bytes.
    fn put(&mut self, bytes: &[u8]);
    /// The bytes so far.
    fn length(&self) -> usize;
    /// Replaces four bytes that were appended before.
    fn patch(&mut self, at: usize, bytes: [u8; 4]);
    /// Makes room for this many bytes more.
    fn make_room(&mut self, bytes: usize);
}

impl Output for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn length(&self) -> usize {
        self.len()
    }

    #[inline]
    fn patch(&mut self, at: usize, bytes: [u8; 4]) {
        self[at..at + 4].copy_from_slice(&bytes);
    }

    #[inline]
    fn make_room(&mut self, bytes: usize) {
        self.reserve(bytes);
    }
}

impl Output for BytesMut {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn length(&self) -> usize {
        self.len()
    }

    #[inline]
    fn patch(&mut self, at: usize, bytes: [u8; 4]) {
        self[at..at + 4].copy_from_slice(&bytes);
    }

    #[inline]
    fn make_room(&mut self, bytes: usize) {
        self.reserve(bytes);
    }
}

/// The seven bytes before a payload, for senders that do not copy bodies: send them, the payload, and
/// [`END`].
#[inline]
pub const fn frame_header(kind: Kind, channel: u16, size: u32) -> [u8; HEADER_SIZE] {
    let ([c0, c1], [s0, s1, s2, s3]) = (channel.to_be_bytes(), size.to_be_bytes());
    [kind.number(), c0, c1, s0, s1, s2, s3]
}

/// Appends the frame of a method.
#[inline]
pub fn method<O: Output>(out: &mut O, channel: u16, method: &Method<'_>) {
    let start = out.length();
    out.put(&frame_header(Kind::Method, channel, 0));
    method.encode(out);
    let size = (out.length() - start - HEADER_SIZE) as u32;
    out.patch(start + 3, size.to_be_bytes());
    out.put(&[END]);
}

/// Appends a heartbeat.
pub fn heartbeat<O: Output>(out: &mut O) {
    out.put(&frame_header(Kind::Heartbeat, 0, 0));
    out.put(&[END]);
}

/// Appends a method with its content: publish, deliver, return, get-ok. `properties` are the bytes of a content
/// header behind the body size, as [`Properties`](super::Properties) has them. The body is cut into frames of at
/// most `frame_max` bytes; 0 means that there is no limit. A content header cannot be cut: properties have to fit.
#[inline]
pub fn content<O: Output>(
    out: &mut O,
    channel: u16,
    sent: &Method<'_>,
    properties: &[u8],
    body: &[u8],
    frame_max: u32,
) {
    let part_size = part_size(frame_max);
    out.make_room(body.len() + properties.len() + FRAMES_SIZE);
    method(out, channel, sent);
    header(out, channel, sent.id().0, properties, body.len() as u64);
    for part in body.chunks(part_size) {
        out.put(&frame_header(Kind::Body, channel, part.len() as u32));
        out.put(part);
        out.put(&[END]);
    }
}

/// Room for the method and the overhead of three frames, for most contents.
const FRAMES_SIZE: usize = 128;

/// The part of a body that fits one frame, in bytes.
pub(super) const fn part_size(frame_max: u32) -> usize {
    match (frame_max as usize).saturating_sub(FRAME_OVERHEAD) {
        0 if frame_max == 0 => u32::MAX as usize,
        // Nobody agrees on less than FRAME_SIZE_MIN; a part has to have some size.
        0 => 1,
        size => size,
    }
}

/// Appends the content header.
#[inline]
pub fn header<O: Output>(out: &mut O, channel: u16, class: u16, properties: &[u8], body_size: u64) {
    let size = (12 + properties.len()) as u32;
    let mut fixed = [0; HEADER_SIZE + 12];
    fixed[..HEADER_SIZE].copy_from_slice(&frame_header(Kind::Header, channel, size));
    fixed[HEADER_SIZE..HEADER_SIZE + 2].copy_from_slice(&class.to_be_bytes());
    // Two bytes of weight, which is always 0.
    fixed[HEADER_SIZE + 4..].copy_from_slice(&body_size.to_be_bytes());
    out.put(&fixed);
    out.put(properties);
    out.put(&[END]);
}
