//! The request of a bench: from the words of the command line, or made to a size.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::cli::exit::{Exit, Failure};
use crate::cli::payload::Payload;
use crate::cli::rpc::call::body::{self, Look};
use crate::cli::rpc::call::{input, read_data};
use crate::rpc::{Format, Method};

/// Data and words with blanks, filled in anew for each call.
pub struct Template {
    data: Option<Payload>,
    words: Vec<Payload>,
    number: AtomicU64,
}

impl Template {
    /// Reads the blanks.
    ///
    /// # Errors
    /// Blanks that are none; a file that cannot be read.
    pub fn parse(data: Option<&str>, words: &[String]) -> anyhow::Result<Self> {
        let payload =
            |text: &[u8]| Payload::parse(text).map_err(|error| Failure::new(Exit::Usage, error.to_string()));
        let data = data.map(read_data).transpose()?.map(|data| payload(&data)).transpose()?;
        let words = words.iter().map(|word| payload(word.as_bytes())).collect::<Result<_, _>>()?;
        Ok(Self { data, words, number: AtomicU64::new(1) })
    }

    /// The messages of the next call.
    ///
    /// # Errors
    /// What is filled in is no such message.
    pub fn next(&self, request: &Request<'_>) -> Result<Vec<Bytes>, Failure> {
        self.fill(request, self.number.fetch_add(1, Ordering::Relaxed))
    }

    /// The messages of the call of that number, without counting it.
    ///
    /// # Errors
    /// What is filled in is no such message.
    pub fn fill(&self, request: &Request<'_>, number: u64) -> Result<Vec<Bytes>, Failure> {
        let (now, mut random) = (jiff::Timestamp::now(), fastrand::Rng::new());
        let data = self.data.as_ref().map(|data| data.fill(number, now, &mut random));
        let words = self.words.iter().map(|word| word.fill(number, now, &mut random));
        let words: Vec<String> = words.map(|word| String::from_utf8_lossy(&word).into_owned()).collect();
        request.messages(data, &words)
    }
}

/// Makes the messages of one method.
pub struct Request<'a> {
    pub method: &'a Method,
    pub format: Format,
}

impl Request<'_> {
    /// The messages given; `None` if there are none.
    ///
    /// # Errors
    /// Words that are no such message.
    pub fn given(&self, data: Option<&str>, words: &[String]) -> anyhow::Result<Option<Vec<Bytes>>> {
        match (data, words) {
            (None, []) => Ok(None),
            (Some(data), _) => Ok(Some(self.messages(Some(read_data(data)?), &[])?)),
            (None, words) => Ok(Some(self.messages(None, words)?)),
        }
    }

    fn messages(&self, data: Option<Vec<u8>>, words: &[String]) -> Result<Vec<Bytes>, Failure> {
        let kind = &self.method.input;
        let look = Look::of(kind);
        let data = match (data, words) {
            (Some(data), _) => data,
            (None, words) if look == Look::Json && body::are_items(words) => {
                body::from_items(kind, words)?.to_vec()
            }
            (None, words) => words.join(" ").into_bytes(),
        };
        let documents = match look {
            Look::Json => input::documents(&data)?,
            Look::Text | Look::Bytes => vec![body::to_json(look, &data)?],
        };
        documents.iter().map(|json| self.encode(json)).collect()
    }

    /// The message with nothing in it.
    ///
    /// # Errors
    /// There is none: a required field.
    pub fn empty(&self) -> Result<Bytes, Failure> {
        self.filled(0)
    }

    /// A message whose text or bytes, or whose first such field, is that long.
    ///
    /// # Errors
    /// It has no such field.
    pub fn filled(&self, size: usize) -> Result<Bytes, Failure> {
        let kind = &self.method.input;
        let text = vec![b'x'; size];
        let json = match Look::of(kind) {
            look @ (Look::Text | Look::Bytes) => body::to_json(look, &text)?,
            Look::Json if size == 0 => Bytes::from_static(b"{}"),
            Look::Json => {
                let (field, look) = body::first_filler(kind.descriptor()).ok_or_else(|| {
                    let message = format!("{} has no field of text or bytes to fill", kind.full_name());
                    Failure::new(Exit::Usage, message).tip("give the request itself instead of -s")
                })?;
                let filler = body::to_json(look, &text)?;
                let filler: Value = serde_json::from_slice(&filler).expect("it was just written");
                Value::Object(Map::from_iter([(field, filler)])).to_string().into()
            }
        };
        self.encode(&json)
    }

    fn encode(&self, json: &Bytes) -> Result<Bytes, Failure> {
        body::encode(&self.method.input, json, self.format)
    }
}
