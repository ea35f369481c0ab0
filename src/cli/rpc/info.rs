//! `bandy rpc info`: what a symbol is, as .proto text, an example to fill in, or a JSON Schema.

use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use buffa_descriptor::MessageIndex;
use serde::Serialize;

use super::complete;
use super::lookup;
use super::openrpc::Document;
use super::remote::{ProtocolArgs, Remote, Wanted};
use super::schema::SchemaArgs;
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::errors::near_miss;
use crate::cli::exit::{Exit, Failure};
use crate::cli::figures::counted;
use crate::output::Format;
use crate::rpc::client::Client;
use crate::rpc::schema::{MessageType, Schema};

/// Arguments of `rpc info`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Service, method, message, enum, field or extension; the last words of its name are enough
    #[arg(required_unless_present_any = ["export", "protoset_out"], add = completions::remote(complete::symbols))]
    pub symbol: Option<String>,
    /// Print a message to fill in; of a method, its request
    #[arg(long, conflicts_with = "json_schema")]
    pub example: bool,
    /// Print a JSON Schema of the message; of a method, of its request
    #[arg(long)]
    pub json_schema: bool,
    /// Write all .proto files into this directory
    #[arg(long, value_name = "DIR")]
    pub export: Option<PathBuf>,
    /// Write all descriptors into this file
    #[arg(long, value_name = "FILE")]
    pub protoset_out: Option<PathBuf>,
    #[command(flatten)]
    schema: SchemaArgs,
    #[command(flatten)]
    protocol: ProtocolArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

const EXAMPLES: &str = "\
Examples:
  bandy rpc info Greeter -e :50051             # its definition, from the server
  bandy rpc info demo.Greeter/Hello --example  # a request to fill in
  bandy rpc info HelloRequest --proto api.proto --json-schema
  bandy rpc info -e :50051 --export ./api      # all of it as .proto files

Exit: 0 shown · 3 unreachable · 5 no such symbol, or no reflection · see 'bandy help exit-codes'";

/// Runs the command.
///
/// # Errors
/// The server's, the files', and a symbol that is not there.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, show(args, app))
}

async fn show(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let schema = match load(args, app).await? {
        Loaded::Schema(schema) => schema,
        Loaded::Document(document) => return discovered(args, &document, app),
    };
    if let Some(symbol) = &args.symbol {
        let name = find(&schema, symbol)?;
        if args.example || args.json_schema {
            let message = message_of(&schema, &name).ok_or_else(|| not_a_message(&schema, &name))?;
            let value = if args.example { message.example() } else { message.json_schema() };
            if app.printer.look().format == Format::Json {
                app.printer.json(&value)?;
            } else {
                app.printer.line(&serde_json::to_string_pretty(&value)?)?;
            }
        } else {
            define(&schema, &name, app)?;
        }
    }
    if let Some(directory) = &args.export {
        let count = export(&schema, directory)?;
        app.printer.note(&format!("{} written to {}", counted(count as u64, "file"), directory.display()));
    }
    if let Some(file) = &args.protoset_out {
        std::fs::write(file, schema.descriptor_set())
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(Exit::Done)
}

/// What there is to look into.
enum Loaded {
    /// Protobuf's types.
    Schema(Schema),
    /// What a server of JSON-RPC says.
    Document(Document),
}

/// Shows what a server of JSON-RPC says: JSON, because there is no .proto.
fn discovered(args: &Args, document: &Document, app: &App) -> anyhow::Result<Exit> {
    let Some(symbol) = &args.symbol else {
        let failure = Failure::new(Exit::Usage, "a server of JSON-RPC has no .proto files to export");
        return Err(failure.tip("ask it by grpc:// if it speaks that, too").into());
    };
    let symbol = document.find(symbol)?;
    let (as_json, definition) = match (args.example, args.json_schema) {
        (true, _) => (None, document.example(&symbol)),
        (_, true) => (None, document.json_schema(&symbol)),
        _ => (Some(symbol.definition().to_string()), symbol.definition().clone()),
    };
    if app.printer.look().format != Format::Json {
        app.printer.line(&serde_json::to_string_pretty(&definition)?)?;
    } else if let Some(text) = as_json {
        let (symbol, kind) = (symbol.name(), symbol.kind());
        app.printer.json(&Definition { symbol, kind, file: "", definition: &text })?;
    } else {
        app.printer.json(&definition)?;
    }
    Ok(Exit::Done)
}

async fn load(args: &Args, app: &App) -> anyhow::Result<Loaded> {
    let files = args.schema.load()?;
    if let (Some(files), None) = (&files, &args.connect.endpoint) {
        return Ok(Loaded::Schema(files.clone()));
    }
    let wanted = args.symbol.as_deref().map_or(Wanted::Anything, Wanted::Symbol);
    let remote = Remote::open(&args.connect, &args.protocol, wanted, app).await?;
    if let Client::JsonRpc(client) = &remote.client {
        return Ok(match files {
            // What the server says of itself says nothing about protobuf.
            Some(files) => Loaded::Schema(files),
            None => Loaded::Document(Document::fetch(client, &remote).await?),
        });
    }
    let mut fetched = lookup::unless_described(lookup::everything(&remote).await, files.is_some())?.schema;
    if let Some(symbol) = &args.symbol
        && find(&fetched, symbol).is_err()
        && let Some(more) = lookup::unlisted(&remote, symbol).await
    {
        fetched = Schema::merge(&[fetched, more]).map_err(super::schema::failure)?;
    }
    Ok(Loaded::Schema(match files {
        Some(files) => super::schema::merge(&[files, fetched], app)?,
        None => fetched,
    }))
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Definition<'a> {
    symbol: &'a str,
    kind: &'static str,
    file: &'a str,
    definition: &'a str,
}

fn define(schema: &Schema, name: &str, app: &App) -> anyhow::Result<()> {
    let text = schema.print_symbol(name).unwrap_or_default();
    let definition = text.trim_end();
    if app.printer.look().format != Format::Json {
        return Ok(app.printer.line(definition)?);
    }
    let file = schema.file_of_symbol(name).unwrap_or_default();
    let kind = kind(schema, name);
    Ok(app.printer.json(&Definition { symbol: name, kind, file: &file, definition })?)
}

fn kind(schema: &Schema, name: &str) -> &'static str {
    let pool = schema.pool();
    let parent = name.rsplit_once('.').map_or("", |(parent, _)| parent);
    match () {
        () if schema.services().any(|service| service == name) => "service",
        () if schema.services().any(|service| service == parent) => "method",
        () if pool.message_index(name).is_some() => "message",
        () if pool.enum_index(name).is_some() => "enum",
        () if pool.extension_by_name(name).is_some() => "extension",
        () if pool.message_index(parent).is_some_and(|index| is_member(schema, index, name)) => "field",
        () => "value",
    }
}

/// True if the last word of `name` is a field or oneof of the message, not a value of an enum in it.
fn is_member(schema: &Schema, index: MessageIndex, name: &str) -> bool {
    let message = schema.pool().message(index);
    let last = name.rsplit('.').next().unwrap_or(name);
    message.fields().iter().any(|field| field.name() == last)
        || message.oneofs().iter().any(|oneof| oneof.name() == last)
}

fn not_a_message(schema: &Schema, name: &str) -> Failure {
    let failure = Failure::new(Exit::Usage, format!("'{name}' is neither a message nor a method"));
    let inner = schema.methods().find(|method| method.service() == name);
    match inner {
        Some(method) => {
            failure.there(format!("of one of its methods: bandy rpc info {} --example", method.path))
        }
        None => failure,
    }
}

/// The full name of a symbol given by its last words.
fn find(schema: &Schema, symbol: &str) -> Result<String, Failure> {
    let wanted = symbol.trim_start_matches('.').replacen('/', ".", 1);
    if schema.file_of_symbol(&wanted).is_some() {
        return Ok(wanted);
    }
    let all = names(schema);
    let fits =
        |name: &&String| name.strip_suffix(wanted.as_str()).is_some_and(|before| before.ends_with('.'));
    let found: Vec<&String> = all.iter().filter(fits).collect();
    match found[..] {
        [only] => Ok(only.clone()),
        [] => {
            let short = |name: &String| name.rsplit('.').next().unwrap_or_default().to_owned();
            let candidates: Vec<String> = all.iter().flat_map(|name| [name.clone(), short(name)]).collect();
            let failure = Failure::new(Exit::NotFound, format!("no symbol '{symbol}' in this schema"));
            Err(match near_miss(&wanted, candidates.iter().map(String::as_str)) {
                Some(near) => failure.tip(format!("did you mean '{near}'?")),
                None => failure.there("see the services: bandy rpc ls"),
            })
        }
        [first, ..] => {
            let list = found.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            let message = format!("'{symbol}' is {} symbols: {list}", found.len());
            Err(Failure::new(Exit::NotFound, message).there(format!("say which: bandy rpc info {first}")))
        }
    }
}

/// Full names of services, methods, messages, enums and extensions.
fn names(schema: &Schema) -> Vec<String> {
    let pool = schema.pool();
    let mut names: Vec<String> = schema.services().map(str::to_owned).collect();
    names.extend(schema.methods().map(|method| method.path.replacen('/', ".", 1)));
    names.extend(pool.messages().iter().map(|message| message.full_name().to_owned()));
    names.extend(pool.enums().iter().map(|item| item.full_name().to_owned()));
    names.extend(pool.extensions().iter().map(|extension| extension.full_name().to_owned()));
    names
}

/// The message, or a method's request.
fn message_of(schema: &Schema, name: &str) -> Option<MessageType> {
    let is_named = |path: &str| path.replacen('/', ".", 1) == name;
    schema.message(name).or_else(|| Some(schema.methods().find(|method| is_named(&method.path))?.input))
}

/// Writes every file but the well-known ones. The names may be a peer's: none leaves the directory.
fn export(schema: &Schema, directory: &Path) -> anyhow::Result<usize> {
    let mut count = 0;
    for name in schema.pool().files().iter().filter_map(|file| file.name.as_deref()) {
        if name.starts_with("google/protobuf/") {
            continue;
        }
        let relative = Path::new(name);
        if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            let message =
                format!("the schema has a file called '{}', which is no relative path", name.escape_debug());
            return Err(Failure::new(Exit::Failed, message).into());
        }
        let path = directory.join(relative);
        let parent = path.parent().unwrap_or(directory);
        std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        let text = schema.print_file(name).unwrap_or_default();
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        count += 1;
    }
    Ok(count)
}
