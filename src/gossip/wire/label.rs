//! Labels tell clusters apart that share a network. memberlist 0.3 and later.

use super::message::kind;

/// Longest label.
pub const LABEL_BYTES_MAX: usize = 255;

/// Appends the header of a label, if there is one.
pub(super) fn write(to: &mut Vec<u8>, label: &str) {
    if !label.is_empty() {
        let label = &label.as_bytes()[..label.len().min(LABEL_BYTES_MAX)];
        to.extend([kind::LABEL, label.len() as u8]);
        to.extend_from_slice(label);
    }
}

/// What follows the label, if it is the one expected.
pub(super) fn strip<'a>(bytes: &'a [u8], expected: &str) -> Option<&'a [u8]> {
    if bytes.first() != Some(&kind::LABEL) {
        return expected.is_empty().then_some(bytes);
    }
    let (&length, rest) = bytes.get(1..)?.split_first()?;
    let (label, rest) = rest.split_at_checked(usize::from(length))?;
    (label == expected.as_bytes() && !label.is_empty()).then_some(rest)
}

/// How many bytes the header of the label at the start of a stream has: none yet if more are needed.
pub(super) fn header_bytes(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [kind::LABEL, length, ..] => Some(2 + usize::from(*length)),
        [kind::LABEL] | [] => None,
        _ => Some(0),
    }
}
