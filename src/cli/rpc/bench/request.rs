//! The request of a bench: from the words of the command line, or made to a size.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::cli::exit::{Exit, Failure};
use crate::cli::rpc::call::body::{self, Look};
use crate::cli::rpc::call::{input, read_data};
use crate::rpc::{Format, Method};

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
        let kind = &self.method.input;
        let look = Look::of(kind);
        let data = match (data, words) {
            (Some(data), _) => read_data(data)?,
            (None, []) => return Ok(None),
            (None, words) if look == Look::Json && body::are_items(words) => {
                body::from_items(kind, words)?.to_vec()
            }
            (None, words) => words.join(" ").into_bytes(),
        };
        let documents = match look {
            Look::Json => input::documents(&data)?,
            Look::Text | Look::Bytes => vec![body::to_json(look, &data)?],
        };
        Ok(Some(documents.iter().map(|json| self.encode(json)).collect::<Result<_, _>>()?))
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
