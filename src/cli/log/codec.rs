//! Values with a schema as JSON, and JSON as values with a schema: by a registry, or by a file.

use std::collections::HashMap;
use std::path::PathBuf;

use bytes::Bytes;

use crate::cli::app::App;
use crate::cli::exit::{Exit, Failure};
use crate::log::client::Fetched;
use crate::log::schema::registry::{self, Error, Found, Kind, Registry};
use crate::log::schema::{avro, frame, message_path, put_message_path, unframed};
use crate::record::Record;
use crate::rpc::schema::compile::Input;
use crate::rpc::schema::{MessageType, Schema};
use crate::rpc::{Format, Payload};
use crate::secret::Secret;
use crate::storage::Record as Stored;

/// Where schemas come from.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Schemas")]
pub struct SchemaArgs {
    /// Schema registry: http://[USER:PASSWORD@]HOST:8081, with ?cacert=FILE if https [env: BANDY_SCHEMA_REGISTRY]
    #[arg(hide_short_help = true, long, value_name = "URL")]
    pub registry: Option<String>,
    /// A schema of one's own: .avsc for Avro, .proto for Protobuf, .json for JSON Schema
    ///
    /// Avro and Protobuf refuse what does not fit. JSON is taken as it is: it is not held against its JSON Schema.
    #[arg(hide_short_help = true, long, value_name = "FILE")]
    pub schema: Option<PathBuf>,
    /// Message type in a .proto schema [default: its first one]
    #[arg(hide_short_help = true, long, value_name = "NAME")]
    pub message: Option<String>,
    /// A schema of one's own for keys; a .proto schema means its first message type
    #[arg(hide_short_help = true, long, value_name = "FILE")]
    pub key_schema: Option<PathBuf>,
}

/// Which part of a record has a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The key.
    Key,
    /// The value.
    Value,
}

/// A schema in a file: what it makes of values, its kind, its text.
type InFile = (Codec, Kind, String);

impl SchemaArgs {
    fn registry(&self, app: &App) -> Result<Option<Registry>, Failure> {
        let Some(url) = self.registry.clone().or_else(|| app.environment.get("BANDY_SCHEMA_REGISTRY")) else {
            return Ok(None);
        };
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", &url));
        if !["http", "https"].contains(&scheme) {
            return Err(Failure::new(
                Exit::Usage,
                format!("{scheme}:// is no schema registry: http:// or https://"),
            ));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let ca = match query.split_once('=') {
            Some(("cacert", file)) => Some(PathBuf::from(decoded(file)?)),
            None if query.is_empty() => None,
            _ => {
                let text = format!("?{query} is nothing that is said to a schema registry: ?cacert=FILE");
                return Err(Failure::new(Exit::Usage, text));
            }
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => {
                let (user, password) = user.split_once(':').unwrap_or((user, ""));
                (Some((decoded(user)?, Secret::new(decoded(password)?))), host)
            }
            None => (None, authority),
        };
        let registry = Registry::new(&format!("{scheme}://{host}{path}"), user, ca.as_deref());
        registry.map(Some).map_err(|error| failure(&error))
    }

    fn file(&self, part: Part) -> Result<Option<InFile>, Failure> {
        let (path, message) = match part {
            Part::Key => (&self.key_schema, None),
            Part::Value => (&self.schema, self.message.as_deref()),
        };
        let Some(path) = path else { return Ok(None) };
        let wrong =
            |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, format!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| Failure::unread(path.display(), &error))?;
        let codec = match path.extension().and_then(|extension| extension.to_str()) {
            Some("proto") => {
                let schema =
                    Schema::compile(std::slice::from_ref(path), &[]).map_err(|error| wrong(&error))?;
                let name =
                    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                return Ok(Some((Codec::protobuf(schema, &name, message)?, Kind::Protobuf, text)));
            }
            Some("json") => {
                serde_json::from_str::<serde_json::Value>(&text).map_err(|error| wrong(&error))?;
                return Ok(Some((Codec::Json, Kind::Json, text)));
            }
            _ => avro::Schema::parse(&text, &[]).map_err(|error| wrong(&error))?,
        };
        Ok(Some((Codec::Avro(codec), Kind::Avro, text)))
    }
}

/// A user, a password or a file as it is written in a URL.
fn decoded(text: &str) -> Result<String, Failure> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded
        .map(|text| text.into_owned())
        .map_err(|_| Failure::new(Exit::Usage, "the registry's URL is not UTF-8 once decoded"))
}

fn failure(error: &Error) -> Failure {
    let exit = match error {
        Error::Unreachable { .. } => Exit::Unreachable,
        Error::Denied(_) => Exit::Denied,
        Error::NotFound(_) => Exit::NotFound,
        Error::Refused(_) | Error::Answer(_) | Error::Tls(_) => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}

/// What turns bytes into JSON and back.
#[derive(Clone)]
enum Codec {
    Avro(avro::Schema),
    Protobuf(Protobuf),
    /// JSON is what it is: it is not held against its schema.
    Json,
}

/// A schema, and its message types as framed values name them.
#[derive(Clone)]
struct Protobuf {
    schema: Schema,
    /// The name of its file.
    file: String,
    /// The type that is meant where none is named.
    message: MessageType,
    /// The path to it; none if it is not of this file.
    path: Option<Vec<usize>>,
}

impl Protobuf {
    /// The type at a path.
    fn at(&self, path: &[usize]) -> Option<MessageType> {
        if self.path.as_deref() == Some(path) {
            return Some(self.message.clone());
        }
        self.schema.message(&type_name(&self.schema, &self.file, path)?)
    }
}

impl Codec {
    fn protobuf(schema: Schema, file: &str, message: Option<&str>) -> Result<Self, Failure> {
        let wrong = |text: String| Failure::new(Exit::Usage, text);
        let found = match message {
            Some(name) => name.to_owned(),
            None => type_name(&schema, file, &[0])
                .ok_or_else(|| wrong(format!("{file} has no message: say which with --message")))?,
        };
        let message =
            schema.message(&found).ok_or_else(|| wrong(format!("there is no message '{found}'")))?;
        let path = path_of(&schema, file, message.full_name());
        Ok(Self::Protobuf(Protobuf { schema, file: file.to_owned(), message, path }))
    }

    fn of(found: &Found, message: Option<&str>) -> Result<Self, Failure> {
        let wrong = |error: &dyn std::fmt::Display| {
            Failure::new(Exit::Failed, format!("schema {} of the registry: {error}", found.id))
        };
        match found.kind {
            Kind::Json => Ok(Self::Json),
            Kind::Avro => {
                let references: Vec<String> = found.references.iter().map(|(_, text)| text.clone()).collect();
                Ok(Self::Avro(avro::Schema::parse(&found.text, &references).map_err(|error| wrong(&error))?))
            }
            Kind::Protobuf => {
                let file = format!("schema-{}.proto", found.id);
                let all = found.references.iter().cloned().chain([(file.clone(), found.text.clone())]);
                let inputs: Vec<Input> = all.map(|(name, text)| Input::Text { name, text }).collect();
                let schema = Schema::compile_inputs(&inputs, &[]).map_err(|error| wrong(&error))?;
                Self::protobuf(schema, &file, message)
            }
        }
    }

    fn decode(&self, bytes: &[u8], is_framed: bool) -> Result<Bytes, String> {
        match self {
            Self::Avro(schema) => {
                let value = schema.decode(bytes).map_err(|error| error.to_string())?;
                Ok(value.to_string().into())
            }
            Self::Json => Ok(Bytes::copy_from_slice(bytes)),
            Self::Protobuf(protobuf) => {
                let (message, bytes) = match is_framed {
                    false => (protobuf.message.clone(), bytes),
                    true => {
                        let (path, rest) = message_path(bytes).ok_or("it names no message type")?;
                        (protobuf.at(&path).ok_or("it names no message type of its schema")?, rest)
                    }
                };
                let payload = Payload::proto(Bytes::copy_from_slice(bytes));
                message.convert(&payload, Format::Json).map_err(|status| status.message)
            }
        }
    }

    /// Appends the bytes of JSON text; framed ones begin with which message they are.
    fn encode(&self, text: &Bytes, is_framed: bool, out: &mut Vec<u8>) -> Result<(), String> {
        let json = || serde_json::from_slice(text).map_err(|error| format!("not JSON: {error}"));
        match self {
            Self::Avro(schema) => schema.encode(&json()?, out).map_err(|error| error.to_string()),
            Self::Json => {
                json()?;
                out.extend_from_slice(text);
                Ok(())
            }
            Self::Protobuf(Protobuf { message, path, .. }) => {
                if is_framed {
                    let path = path.as_ref().ok_or("the message type is not of this schema's own file")?;
                    put_message_path(path, out);
                }
                let payload = Payload::json(text.clone());
                let bytes = message.convert(&payload, Format::Proto);
                out.extend_from_slice(&bytes.map_err(|status| status.message)?);
                Ok(())
            }
        }
    }
}

/// The message type at a path of places: of messages in the file, then of those inside of each other.
fn type_name(schema: &Schema, file: &str, path: &[usize]) -> Option<String> {
    let all = schema.pool().files();
    let is_it = |name: &str| name == file || name.ends_with(&format!("/{file}"));
    let file = all.iter().find(|it| it.name.as_deref().is_some_and(is_it))?;
    let mut name = file.package.clone().unwrap_or_default();
    let mut messages = &file.message_type;
    for at in path {
        let message = messages.get(*at)?;
        let dot = if name.is_empty() { "" } else { "." };
        name = format!("{name}{dot}{}", message.name.as_deref()?);
        messages = &message.nested_type;
    }
    Some(name)
}

/// The path to a message type.
fn path_of(schema: &Schema, file: &str, wanted: &str) -> Option<Vec<usize>> {
    let mut path = Vec::new();
    loop {
        // One level deeper each time, along the names.
        let mut found = (0..).map_while(|at| {
            let mut longer = path.clone();
            longer.push(at);
            type_name(schema, file, &longer).map(|name| (longer, name))
        });
        let next = found.find(|(_, name)| {
            wanted == name || wanted.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('.'))
        })?;
        path = next.0;
        if next.1 == wanted {
            return Some(path);
        }
    }
}

/// Shows values as JSON.
pub struct Decoder {
    registry: Option<Registry>,
    /// What is at hand for values.
    local: Option<Codec>,
    /// And for keys.
    local_key: Option<Codec>,
    /// Schemas by their numbers; of those that cannot be had, why.
    known: HashMap<u32, Result<Codec, String>>,
    keys: bool,
    /// One value that is shown as it is has been told of.
    has_complained: bool,
}

impl Decoder {
    /// The decoder that the flags ask for, if they do. With `keys` keys are decoded, too.
    ///
    /// # Errors
    /// A file that cannot be read, or is no schema.
    pub fn new(args: &SchemaArgs, keys: bool, app: &App) -> Result<Option<Self>, Failure> {
        let registry = args.registry(app)?;
        let local = args.file(Part::Value)?.map(|(codec, ..)| codec);
        let own = args.file(Part::Key)?.map(|(codec, ..)| codec);
        if registry.is_none() && local.is_none() && own.is_none() {
            return Ok(None);
        }
        let keys = keys || own.is_some();
        let local_key = own.or_else(|| local.clone());
        Ok(Some(Self { registry, local, local_key, known: HashMap::new(), keys, has_complained: false }))
    }

    /// Asks for the schemas that the records of a batch name.
    ///
    /// # Errors
    /// The registry cannot be reached.
    pub async fn prepare(&mut self, fetched: &Fetched) -> Result<(), Failure> {
        let Some(registry) = &self.registry else { return Ok(()) };
        for record in fetched.wanted().flatten() {
            let key = record.key.filter(|_| self.keys);
            for (id, _) in [record.value, key].into_iter().flatten().filter_map(unframed) {
                if self.known.contains_key(&id) {
                    continue;
                }
                let codec = match registry.by_id(id).await {
                    // One that cannot be used is no reason not to read on.
                    Ok(found) => Codec::of(&found, None).map_err(|why| why.message),
                    Err(registry::Error::NotFound(_)) => Err(format!("the registry has no schema {id}")),
                    Err(error) => return Err(failure(&error)),
                };
                self.known.insert(id, codec);
            }
        }
        Ok(())
    }

    /// Key and value of a record as JSON; none for what stays as it is. The first of these is told of.
    pub fn decode(&mut self, record: &Stored<'_>, fetched: &Fetched, app: &App) -> Decoded {
        let mut why = None;
        let mut one = |bytes, local| {
            self.decoded(bytes, local).unwrap_or_else(|error| {
                why.get_or_insert(error);
                None
            })
        };
        let value = record.value.and_then(|value| one(value, self.local.as_ref()));
        let key = record.key.filter(|_| self.keys).and_then(|key| one(key, self.local_key.as_ref()));
        if let Some(why) = why.filter(|_| !self.has_complained) {
            self.has_complained = true;
            let place = format!("{} p{} @{}", fetched.topic, fetched.partition, record.offset);
            app.printer.warn(&format!("{place} is shown as it is: {why}"));
        }
        Decoded { key, value }
    }

    /// The JSON of a value, for which there may be a schema at hand; none if it is none that has one.
    fn decoded(&self, bytes: &[u8], local: Option<&Codec>) -> Result<Option<Bytes>, String> {
        match (unframed(bytes), local) {
            (Some((id, rest)), local) if self.registry.is_some() || local.is_none() => {
                match self.known.get(&id) {
                    Some(codec) => codec.as_ref().map_err(Clone::clone)?.decode(rest, true).map(Some),
                    None => Ok(None),
                }
            }
            // A framed value whose schema is at hand.
            (Some((_, rest)), Some(local)) => {
                local.decode(rest, true).or_else(|_| local.decode(bytes, false)).map(Some)
            }
            (None, Some(local)) => local.decode(bytes, false).map(Some),
            (_, None) => Ok(None),
        }
    }
}

/// What became of a record's key and value.
pub struct Decoded {
    key: Option<Bytes>,
    value: Option<Bytes>,
}

impl Decoded {
    /// The record as it is shown, for filters and for output without an envelope.
    pub fn shown<'a>(&'a self, record: &Stored<'a>) -> Stored<'a> {
        Stored {
            key: self.key.as_deref().or(record.key),
            value: self.value.as_deref().or(record.value),
            ..*record
        }
    }

    /// Puts it into the envelope.
    pub fn put(self, record: &mut Record) {
        record.value = self.value.or(record.value.take());
        record.key = self.key.or(record.key.take());
    }
}

/// Makes values of JSON.
pub struct Encoder {
    codec: Codec,
    /// The number that they are framed with; none without a registry.
    id: Option<u32>,
}

impl Encoder {
    /// The encoder of keys or values that the flags ask for, if they do: of the newest schema of `subject`, or of a file,
    /// which is registered if there is a registry.
    ///
    /// # Errors
    /// The registry's; a file that cannot be read, or is no schema.
    pub async fn open(
        args: &SchemaArgs,
        part: Part,
        subject: &str,
        app: &App,
    ) -> Result<Option<Self>, Failure> {
        let (registry, file) = (args.registry(app)?, args.file(part)?);
        match (registry, file) {
            (None, None) => Ok(None),
            (None, Some((codec, ..))) => Ok(Some(Self { codec, id: None })),
            (Some(registry), Some((codec, kind, text))) => {
                let id = registry.register(subject, kind, &text).await.map_err(|error| failure(&error))?;
                Ok(Some(Self { codec, id: Some(id) }))
            }
            (Some(registry), None) => {
                let found = registry.latest(subject).await.map_err(|error| match &error {
                    Error::NotFound(_) => failure(&error).tip(match part {
                        Part::Key => "--key-schema FILE registers one, --key-subject names another",
                        Part::Value => "--schema FILE registers one, --subject names another",
                    }),
                    _ => failure(&error),
                })?;
                let message = args.message.as_deref().filter(|_| part == Part::Value);
                Ok(Some(Self { codec: Codec::of(&found, message)?, id: Some(found.id) }))
            }
        }
    }

    /// The bytes of a value.
    ///
    /// # Errors
    /// It is no JSON, or does not fit the schema.
    pub fn encode(&self, text: &Bytes) -> Result<Bytes, String> {
        let mut out = self.id.map(frame).unwrap_or_default();
        self.codec.encode(text, self.id.is_some(), &mut out)?;
        Ok(out.into())
    }
}
