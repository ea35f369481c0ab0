//! Foreign bytes on a terminal: control characters are shown, never obeyed.

use std::io::Write;

/// Appends `bytes` to `out` so that a terminal shows them and does nothing else: control characters and
/// bytes that are not UTF-8 as `\xNN`, invisible direction marks as `\u{NNNN}`. Tab and newline stay.
pub fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        let text = chunk.valid();
        if text.bytes().all(|byte| (b' '..0x7f).contains(&byte) || byte == b'\n' || byte == b'\t') {
            out.extend_from_slice(text.as_bytes());
        } else {
            text.chars().for_each(|c| escape_char(c, out));
        }
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}").expect("a Vec takes everything");
        }
    }
}

fn escape_char(c: char, out: &mut Vec<u8>) {
    match c {
        '\n' | '\t' => out.push(c as u8),
        c if c.is_control() => write!(out, "\\x{:02x}", u32::from(c)).expect("a Vec takes everything"),
        // Unicode's bidirectional embeddings, overrides and isolates: they reorder what a person reads.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            write!(out, "\\u{{{:x}}}", u32::from(c)).expect("a Vec takes everything");
        }
        c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::escape;
    use proptest::prelude::*;

    fn escaped(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        escape(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_stays_and_controls_are_shown() {
        assert_eq!(escaped("Grüße\t→\n".as_bytes()), "Grüße\t→\n");
        assert_eq!(escaped(b"a\x1b]0;t\x07\r\x7f\xff"), r"a\x1b]0;t\x07\x0d\x7f\xff");
        assert_eq!(escaped("\u{9b}2J\u{202e}x".as_bytes()), r"\x9b2J\u{202e}x");
    }

    proptest! {
        #[test]
        fn nothing_left_can_drive_a_terminal(bytes: Vec<u8>) {
            let text = escaped(&bytes);
            prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
        }
    }
}
