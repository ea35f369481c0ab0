//! A client of schema registries: Confluent's HTTP API, which others speak, too.

use std::path::Path;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Method, StatusCode};
use serde::Deserialize;

use crate::secret::Secret;
use crate::transport::tls::{TlsError, for_http};

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Schemas that one refers to, and those they refer to, all together.
const REFERENCES_MAX: usize = 200;

/// Why a registry did not help.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be reached.
    #[error("cannot reach the schema registry at {url}: {why}")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// Why not.
        why: String,
    },
    /// It has no such schema or subject.
    #[error("the schema registry has no {0}")]
    NotFound(String),
    /// It does not let us in.
    #[error("the schema registry does not let us in ({0})")]
    Denied(u16),
    /// It refuses.
    #[error("the schema registry refuses: {0}")]
    Refused(String),
    /// There is no trusting anybody.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It answers what cannot be read.
    #[error("the schema registry answers what cannot be read: {0}")]
    Answer(String),
}

/// What kind of schema it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Avro.
    #[default]
    Avro,
    /// Protocol Buffers.
    Protobuf,
    /// JSON Schema.
    Json,
}

impl Kind {
    /// The registry's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::Protobuf => "PROTOBUF",
            Self::Json => "JSON",
        }
    }

    fn from_name(name: Option<&str>) -> Result<Self, Error> {
        match name {
            // Only Avro is not named.
            None | Some("AVRO") => Ok(Self::Avro),
            Some("PROTOBUF") => Ok(Self::Protobuf),
            Some("JSON") => Ok(Self::Json),
            Some(other) => Err(Error::Answer(format!("a schema of kind {other}"))),
        }
    }
}

/// A schema that a registry knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub id: u32,
    /// What kind it is.
    pub kind: Kind,
    /// Its text.
    pub text: String,
    /// Those it refers to, and those that they refer to, before those that do: name and text.
    pub references: Vec<(String, String)>,
}

#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    id: u32,
    #[serde(default)]
    schema: String,
    #[serde(rename = "schemaType")]
    kind: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Debug, Clone, Deserialize)]
struct Reference {
    name: String,
    subject: String,
    version: i64,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    message: Option<String>,
}

/// A registry.
#[derive(Debug, Clone)]
pub struct Registry {
    url: String,
    user: Option<(String, Secret)>,
    client: Client,
}

impl Registry {
    /// The registry at an HTTP URL, whose certificate one of the authorities in the file `ca` has signed, or one of the
    /// system's; connects to nothing yet.
    ///
    /// # Errors
    /// No TLS to be had.
    pub fn new(url: &str, user: Option<(String, Secret)>, ca: Option<&Path>) -> Result<Self, Error> {
        let url = url.trim_end_matches('/').to_owned();
        let tls = for_http(ca, url.starts_with("https:"))?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            // The environment is read by nobody below the command line, HTTP_PROXY included.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ANSWER_TIMEOUT)
            .build()
            .map_err(|error| Error::Unreachable { url: url.clone(), why: reason(&error) })?;
        Ok(Self { url, user, client })
    }

    /// The schema of a number.
    ///
    /// # Errors
    /// There is none; the registry does not answer.
    pub async fn by_id(&self, id: u32) -> Result<Found, Error> {
        let path = format!("/schemas/ids/{id}");
        let answer = self.ask(Method::GET, &path, None, &format!("schema {id}")).await?;
        self.whole(Answer { id, ..answer }).await
    }

    /// The newest schema of a subject.
    ///
    /// # Errors
    /// There is none; the registry does not answer.
    pub async fn latest(&self, subject: &str) -> Result<Found, Error> {
        let path = format!("/subjects/{}/versions/latest", encode(subject));
        let answer = self.ask(Method::GET, &path, None, &format!("subject '{subject}'")).await?;
        self.whole(answer).await
    }

    /// Registers a schema under a subject, if it is not there yet; its number.
    ///
    /// # Errors
    /// It is none, or does not go with those before it; the registry does not answer.
    pub async fn register(&self, subject: &str, kind: Kind, text: &str) -> Result<u32, Error> {
        let mut body = serde_json::json!({ "schema": text });
        if kind != Kind::Avro {
            body["schemaType"] = kind.name().into();
        }
        let path = format!("/subjects/{}/versions", encode(subject));
        let what = format!("subject '{subject}'");
        Ok(self.ask(Method::POST, &path, Some(body.to_string()), &what).await?.id)
    }

    /// With all that it refers to.
    async fn whole(&self, answer: Answer) -> Result<Found, Error> {
        let kind = Kind::from_name(answer.kind.as_deref())?;
        let mut references: Vec<(String, String)> = Vec::new();
        let mut open = answer.references;
        let mut asked = 0;
        while let Some(reference) = open.pop() {
            if references.iter().any(|(name, _)| *name == reference.name) {
                continue;
            }
            asked += 1;
            if asked > REFERENCES_MAX {
                return Err(Error::Answer(format!("a schema with more than {REFERENCES_MAX} references")));
            }
            let Reference { name, subject, version } = reference;
            let path = format!("/subjects/{}/versions/{version}", encode(&subject));
            let what = format!("version {version} of subject '{subject}'");
            let inner = self.ask(Method::GET, &path, None, &what).await?;
            open.extend(inner.references);
            references.push((name, inner.schema));
        }
        // Found from the outside in.
        references.reverse();
        Ok(Found { id: answer.id, kind, text: answer.schema, references })
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        what: &str,
    ) -> Result<Answer, Error> {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some((user, password)) = &self.user {
            request = request.basic_auth(user, Some(password.expose()));
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/vnd.schemaregistry.v1+json").body(body);
        }
        let unreachable =
            |error: reqwest::Error| Error::Unreachable { url: self.url.clone(), why: reason(&error) };
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if text.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Error::Answer(format!("more than {ANSWER_BYTES_MAX} bytes")));
            }
            text.extend_from_slice(&chunk);
        }
        match status {
            StatusCode::NOT_FOUND => return Err(Error::NotFound(what.to_owned())),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(Error::Denied(status.as_u16())),
            status if !status.is_success() => {
                let said = serde_json::from_slice::<Refusal>(&text).ok().and_then(|refusal| refusal.message);
                return Err(Error::Refused(said.unwrap_or_else(|| status.to_string())));
            }
            _ => {}
        }
        serde_json::from_slice(&text).map_err(|error| Error::Answer(error.to_string()))
    }
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The innermost cause: reqwest's own words are only the URL again.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
