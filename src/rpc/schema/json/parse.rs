//! A JSON reader that the caller pulls: no tree, no copy of text without escapes.

use std::borrow::Cow;

use super::{ConvertError, NESTING_MAX};

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Object,
    Array,
    Text,
    Number,
    True,
    False,
    Null,
}

impl Next {
    /// For error messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::Array => "a list",
            Self::Text => "a string",
            Self::Number => "a number",
            Self::True | Self::False => "a boolean",
            Self::Null => "null",
        }
    }
}

#[derive(Clone)]
pub struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub fn wrong(&self, message: &str) -> ConvertError {
        let before = self.text.get(..self.at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        ConvertError::new(format!("not JSON: {message} at line {line} column {column}"))
    }

    fn skip_space(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub fn next(&mut self) -> Result<Next, ConvertError> {
        self.skip_space();
        match self.byte() {
            Some(b'{') => Ok(Next::Object),
            Some(b'[') => Ok(Next::Array),
            Some(b'"') => Ok(Next::Text),
            Some(b'-' | b'0'..=b'9') => Ok(Next::Number),
            Some(b't') => Ok(Next::True),
            Some(b'f') => Ok(Next::False),
            Some(b'n') => Ok(Next::Null),
            Some(_) => Err(self.wrong("expected a value")),
            None => Err(self.wrong("the text ends where a value is expected")),
        }
    }

    /// True and past it if this byte comes next.
    pub fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        let taken = self.byte() == Some(byte);
        self.at += usize::from(taken);
        taken
    }

    pub fn expect(&mut self, byte: u8) -> Result<(), ConvertError> {
        if self.take(byte) { Ok(()) } else { Err(self.wrong(&format!("expected '{}'", char::from(byte)))) }
    }

    pub fn word(&mut self, word: &str) -> Result<(), ConvertError> {
        self.skip_space();
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        Err(self.wrong(&format!("expected {word}")))
    }

    /// Within an object or list after an element: true if there is another.
    pub fn more(&mut self, close: u8) -> Result<bool, ConvertError> {
        if self.take(b',') {
            return Ok(true);
        }
        self.expect(close)
            .map(|()| false)
            .map_err(|_| self.wrong(&format!("expected ',' or '{}'", char::from(close))))
    }

    pub fn end(&mut self) -> Result<(), ConvertError> {
        self.skip_space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.wrong("expected the end")) }
    }

    pub fn number(&mut self) -> Result<&'a str, ConvertError> {
        self.skip_space();
        let start = self.at;
        let digits = |parser: &mut Self| {
            let from = parser.at;
            while matches!(parser.byte(), Some(b'0'..=b'9')) {
                parser.at += 1;
            }
            parser.at > from
        };
        self.at += usize::from(self.byte() == Some(b'-'));
        let leading_zero = self.byte() == Some(b'0');
        let whole = self.at;
        let mut good = digits(self) && !(leading_zero && self.at > whole + 1);
        if self.byte() == Some(b'.') {
            self.at += 1;
            good &= digits(self);
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            good &= digits(self);
        }
        if good { Ok(&self.text[start..self.at]) } else { Err(self.wrong("a malformed number")) }
    }

    pub fn string(&mut self) -> Result<Cow<'a, str>, ConvertError> {
        self.expect(b'"')?;
        let start = self.at;
        let mut owned: Option<String> = None;
        let mut from = start;
        loop {
            match self.byte() {
                None => return Err(self.wrong("a string without an end")),
                Some(b'"') => {
                    let rest = &self.text[from..self.at];
                    self.at += 1;
                    return Ok(match owned {
                        None => Cow::Borrowed(rest),
                        Some(text) => Cow::Owned(text + rest),
                    });
                }
                Some(b'\\') => {
                    let text = owned.get_or_insert_default();
                    text.push_str(&self.text[from..self.at]);
                    self.at += 1;
                    let c = self.escape()?;
                    text.push(c);
                    from = self.at;
                }
                Some(0..0x20) => return Err(self.wrong("a control character in a string")),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<char, ConvertError> {
        let byte = self.byte();
        self.at += 1;
        Ok(match byte {
            Some(b'n') => '\n',
            Some(b't') => '\t',
            Some(b'r') => '\r',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b @ (b'"' | b'\\' | b'/')) => char::from(b),
            Some(b'u') => {
                let first = self.hex()?;
                if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with("\\u") {
                    self.at += 2;
                    let second = self.hex()?;
                    let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400);
                    let whole = low.and_then(|low| char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + low));
                    return whole.ok_or_else(|| self.wrong("half a surrogate pair"));
                }
                char::from_u32(first).ok_or_else(|| self.wrong("half a surrogate pair"))?
            }
            _ => {
                self.at -= 1;
                return Err(self.wrong("an unknown escape"));
            }
        })
    }

    fn hex(&mut self) -> Result<u32, ConvertError> {
        let digits = self.text.get(self.at..self.at + 4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let number = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        self.at += if number.is_some() { 4 } else { 0 };
        number.ok_or_else(|| self.wrong("expected four hexadecimal digits"))
    }

    /// Past one value of any kind.
    pub fn skip(&mut self, depth: usize) -> Result<(), ConvertError> {
        if depth > NESTING_MAX {
            return Err(self.wrong(&format!("nested deeper than {NESTING_MAX} levels")));
        }
        match self.next()? {
            Next::Text => self.string().map(drop),
            Next::Number => self.number().map(drop),
            Next::True => self.word("true"),
            Next::False => self.word("false"),
            Next::Null => self.word("null"),
            Next::Array => {
                self.expect(b'[')?;
                let mut more = !self.take(b']');
                while more {
                    self.skip(depth + 1)?;
                    more = self.more(b']')?;
                }
                Ok(())
            }
            Next::Object => {
                self.expect(b'{')?;
                let mut more = !self.take(b'}');
                while more {
                    self.string()?;
                    self.expect(b':')?;
                    self.skip(depth + 1)?;
                    more = self.more(b'}')?;
                }
                Ok(())
            }
        }
    }
}
