//! JSON text: colour for a terminal, indentation for a person.

use anstyle::{AnsiColor, Style};

use super::terminal::escape;

const KEY: Style = AnsiColor::Blue.on_default().bold();
const STRING: Style = AnsiColor::Green.on_default();
const OTHER: Style = AnsiColor::Yellow.on_default();

/// Walks over JSON text as (kind, text) pieces. Text that is not JSON comes out whole, piece by piece.
struct Pieces<'a>(&'a [u8]);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece {
    String,
    Space,
    Punctuation,
    Word,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = (Piece, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.0;
        let (kind, length) = match *text.first()? {
            b'"' => (Piece::String, string_length(text)),
            b' ' | b'\t' | b'\n' | b'\r' => {
                (Piece::Space, run_length(text, |byte| byte.is_ascii_whitespace()))
            }
            b'{' | b'}' | b'[' | b']' | b',' | b':' => (Piece::Punctuation, 1),
            _ => (
                Piece::Word,
                run_length(text, |byte| !byte.is_ascii_whitespace() && !b"\"{}[],:".contains(&byte)),
            ),
        };
        let (piece, rest) = text.split_at(length.max(1));
        self.0 = rest;
        Some((kind, piece))
    }
}

fn run_length(text: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    text.iter().position(|byte| !belongs(*byte)).unwrap_or(text.len())
}

fn string_length(text: &[u8]) -> usize {
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Appends `text` in colour. Control characters in it are escaped as on any terminal.
pub(super) fn colour(text: &[u8], out: &mut Vec<u8>) {
    let mut pieces = Pieces(text).peekable();
    while let Some((kind, piece)) = pieces.next() {
        let style = match kind {
            Piece::Space | Piece::Punctuation => Style::new(),
            Piece::Word => OTHER,
            Piece::String if pieces.peek().is_some_and(|(_, next)| *next == b":") => KEY,
            Piece::String => STRING,
        };
        out.extend_from_slice(style.render().to_string().as_bytes());
        escape(piece, out);
        out.extend_from_slice(style.render_reset().to_string().as_bytes());
    }
}

/// Appends `text` with two spaces of indentation per level.
pub(super) fn indent(text: &[u8], out: &mut Vec<u8>) {
    let mut level = 0usize;
    let new_line = |level: usize, out: &mut Vec<u8>| {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', 2 * level));
    };
    let mut pieces = Pieces(text).filter(|(kind, _)| *kind != Piece::Space).peekable();
    while let Some((_, piece)) = pieces.next() {
        match piece {
            b"{" | b"[" => {
                out.extend_from_slice(piece);
                if let Some((_, close)) = pieces.next_if(|(_, next)| matches!(*next, b"}" | b"]")) {
                    out.extend_from_slice(close);
                } else {
                    level += 1;
                    new_line(level, out);
                }
            }
            b"}" | b"]" => {
                level = level.saturating_sub(1);
                new_line(level, out);
                out.extend_from_slice(piece);
            }
            b"," => {
                out.push(b',');
                new_line(level, out);
            }
            b":" => out.extend_from_slice(b": "),
            _ => out.extend_from_slice(piece),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with(edit: impl Fn(&[u8], &mut Vec<u8>), text: &str) -> String {
        let mut out = Vec::new();
        edit(text.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn indentation_leaves_strings_alone() {
        let text = r#"{"a":[1,{"b":"x, \"y\": [}"},[],{}],"c":null}"#;
        let pretty = with(indent, text);
        assert_eq!(
            pretty,
            "{\n  \"a\": [\n    1,\n    {\n      \"b\": \"x, \\\"y\\\": [}\"\n    },\n    [],\n    {}\n  ],\n  \"c\": null\n}"
        );
    }

    #[test]
    fn keys_and_values_differ_in_colour() {
        let text = with(colour, r#"{"a":"b"}"#);
        assert!(
            text.contains(&format!("{KEY}\"a\"")) && text.contains(&format!("{STRING}\"b\"")),
            "{text:?}"
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text: Vec<u8>) {
            for edit in [indent, colour] {
                edit(&text, &mut Vec::new());
            }
        }
    }
}
