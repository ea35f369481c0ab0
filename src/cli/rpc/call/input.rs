//! The request messages of a stream: given on the command line, or one per line of standard input.

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt as _, BufReader, Stdin};

use super::body::{self, Look};
use crate::cli::app::App;
use crate::cli::exit::{Exit, Failure};
use crate::rpc::Format;
use crate::rpc::schema::MessageType;

/// The documents of a JSON text, one after the other.
///
/// # Errors
/// Usage: it is not JSON.
pub fn documents(text: &[u8]) -> Result<Vec<Bytes>, Failure> {
    serde_json::Deserializer::from_slice(text)
        .into_iter::<Box<RawValue>>()
        .map(|document| document.map(|document| Bytes::from(document.get().to_owned())))
        .collect::<Result<_, _>>()
        .map_err(|error| {
            Failure::new(Exit::Usage, format!("the request is not JSON: {error}"))
                .tip("write '{\"field\": \"value\"}', or items: field=value")
        })
}

/// A source of request messages.
pub enum Input<'a> {
    /// Known before the call.
    Given(std::vec::IntoIter<Bytes>),
    /// One per line.
    Lines(Lines<'a>),
}

impl<'a> Input<'a> {
    /// These messages.
    pub fn given(messages: Vec<Bytes>) -> Self {
        Self::Given(messages.into_iter())
    }

    /// A message for each line of standard input.
    pub fn stdin(app: &App, kind: &'a MessageType, format: Format) -> Self {
        app.printer.status(&format!("one {} per line, Ctrl-D ends", kind.full_name()));
        Self::Lines(Lines::stdin(kind, format))
    }

    /// The next message.
    ///
    /// # Errors
    /// A line that is no message names its number.
    pub async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        match self {
            Self::Given(messages) => Ok(messages.next()),
            Self::Lines(lines) => match lines.next().await? {
                Some(line) => Ok(Some(line.encode(lines.kind, lines.format)?)),
                None => Ok(None),
            },
        }
    }
}

/// Lines of standard input that become messages.
pub struct Lines<'a> {
    reader: BufReader<Stdin>,
    kind: &'a MessageType,
    format: Format,
    number: u64,
}

/// A line and where it stood.
pub struct Line {
    /// Counted from 1.
    pub number: u64,
    text: Vec<u8>,
}

impl<'a> Lines<'a> {
    /// Reads standard input.
    pub fn stdin(kind: &'a MessageType, format: Format) -> Self {
        Self { reader: BufReader::with_capacity(64 << 10, tokio::io::stdin()), kind, format, number: 0 }
    }

    /// The next line that is not empty; of text every line counts.
    ///
    /// # Errors
    /// Standard input cannot be read.
    pub async fn next(&mut self) -> anyhow::Result<Option<Line>> {
        let blank_counts = Look::of(self.kind) != Look::Json;
        loop {
            let mut text = Vec::new();
            if self.reader.read_until(b'\n', &mut text).await? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if text.last() == Some(&b'\n') {
                text.pop();
            }
            if blank_counts || !text.trim_ascii().is_empty() {
                return Ok(Some(Line { number: self.number, text }));
            }
        }
    }
}

impl Line {
    /// The message that the line says.
    ///
    /// # Errors
    /// Usage: it says none.
    pub fn encode(&self, kind: &MessageType, format: Format) -> Result<Bytes, Failure> {
        let json = body::to_json(Look::of(kind), &self.text);
        json.and_then(|json| body::encode(kind, &json, format)).map_err(|mut failure| {
            failure.message = format!("line {} of stdin is {}", self.number, failure.message);
            failure
        })
    }
}
