//! `bandy rpc ls`: services, or the methods of one, with their string and integer ids.

use serde::Serialize;
use serde_json::Value;

use super::complete;
use super::lookup;
use super::openrpc::Document;
use super::remote::{self, ProtocolArgs, Remote, Wanted};
use super::schema::SchemaArgs;
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::errors::near_miss;
use crate::cli::exit::{Exit, Failure};
use crate::output::Column;
use crate::rpc::catalog::method_id;
use crate::rpc::client::Client;
use crate::rpc::client::resolve::ends_with_words;
use crate::rpc::jsonrpc::client as jsonrpc;
use crate::rpc::schema::Schema;
use crate::rpc::{Kind, Method};

/// Arguments of `rpc ls`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Only the methods of this service; the last words of its name are enough
    #[arg(add = completions::remote(complete::services))]
    pub service: Option<String>,
    #[command(flatten)]
    schema: SchemaArgs,
    #[command(flatten)]
    protocol: ProtocolArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

const EXAMPLES: &str = "\
Examples:
  bandy rpc ls                    # all methods of your servers on this machine
  bandy rpc ls -e :50051          # those of a server
  bandy rpc ls -e :50051 Greeter  # those of one service
  bandy rpc ls --proto api.proto  # those of a file; no server is asked
  bandy rpc ls --json | jq -r .method

Exit: 0 listed · 3 unreachable · 5 no such service, or no reflection · see 'bandy help exit-codes'";

const COLUMNS: &[Column] = &[
    Column::left("service"),
    Column::left("method"),
    Column::left("kind"),
    Column::right("id"),
    Column::left("request"),
    Column::left("reply"),
];

/// Where several servers are listed.
const PLACED_COLUMNS: &[Column] = &[
    Column::left("service"),
    Column::left("method"),
    Column::left("kind"),
    Column::right("id"),
    Column::left("request"),
    Column::left("reply"),
    Column::left("server"),
];

#[derive(Serialize)]
struct Row<'a> {
    service: &'a str,
    method: &'a str,
    kind: &'static str,
    id: u32,
    request: &'a str,
    reply: &'a str,
}

/// Runs the command.
///
/// # Errors
/// The server's, the files', and a service that is not there.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, list(args, app))
}

async fn list(args: &Args, app: &App) -> anyhow::Result<Exit> {
    // Files that are wrong are told of before any server is asked.
    let local = args.schema.load()?;
    if local.is_none()
        && let Some(servers) = remote::local_servers(&args.connect, app)?
    {
        return everywhere(args, &servers, app).await;
    }
    let (schema, services, by) = match local {
        Some(files) if args.connect.endpoint.is_none() => (files, Vec::new(), "the schema files".to_owned()),
        local => {
            let wanted = Wanted::service(args.service.as_deref());
            let remote = Remote::open(&args.connect, &args.protocol, wanted, app).await?;
            if let Client::JsonRpc(client) = &remote.client
                && local.is_none()
            {
                return discovered(args, client, &remote, app).await;
            }
            let fetched = lookup::unless_described(lookup::everything(&remote).await, local.is_some())?;
            // What the server offers, as its own schema or the files describe it.
            let schema = match local {
                Some(files) => super::schema::merge(&[files, fetched.schema], app)?,
                None => fetched.schema,
            };
            (schema, fetched.services, remote.url)
        }
    };
    let mut methods: Vec<Method> = schema.methods().collect();
    if !services.is_empty() {
        methods.retain(|method| services.iter().any(|service| service == method.service()));
    }
    if let Some(wanted) = &args.service {
        methods.retain(|method| ends_with_words(method.service(), wanted));
        if methods.is_empty() {
            return Err(unknown(wanted, &by, &schema).into());
        }
    }
    methods.sort_by(|a, b| a.path.cmp(&b.path));
    let mut table = app.printer.list(COLUMNS);
    for method in &methods {
        table.row(&row(method))?;
    }
    table.finish()?;
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct PlacedRow<'a> {
    #[serde(flatten)]
    row: Row<'a>,
    server: &'a str,
}

/// The methods of several servers of this machine. One that has just gone is left out.
async fn everywhere(args: &Args, servers: &[String], app: &App) -> anyhow::Result<Exit> {
    let mut found: Vec<(Method, &str)> = Vec::new();
    let mut last = None;
    for server in servers {
        let connect = ConnectArgs { endpoint: Some(server.clone()), ..args.connect.clone() };
        let remote = Remote::open(&connect, &args.protocol, Wanted::Anything, app).await?;
        match lookup::everything(&remote).await {
            Ok(fetched) => {
                let offered = |method: &Method| fetched.services.iter().any(|name| name == method.service());
                found
                    .extend(fetched.schema.methods().filter(offered).map(|method| (method, server.as_str())));
            }
            Err(error) => {
                app.printer.detail(&format!("{server}: {error:#}"));
                last = Some(error);
            }
        }
    }
    if let (true, Some(error)) = (found.is_empty(), last) {
        return Err(error);
    }
    if let Some(wanted) = &args.service {
        found.retain(|(method, _)| ends_with_words(method.service(), wanted));
        if found.is_empty() {
            let message = format!("no service '{wanted}' at local:");
            return Err(Failure::new(Exit::NotFound, message).there("see all of them: bandy rpc ls").into());
        }
    }
    found.sort_by(|a, b| (a.1, &a.0.path).cmp(&(b.1, &b.0.path)));
    let mut table = app.printer.list(PLACED_COLUMNS);
    for (method, server) in &found {
        table.row(&PlacedRow { row: row(method), server })?;
    }
    table.finish()?;
    Ok(Exit::Done)
}

fn row(method: &Method) -> Row<'_> {
    Row {
        service: method.service(),
        method: method.name(),
        kind: kind_name(method.kind),
        id: method.id,
        request: method.input.full_name(),
        reply: method.output.full_name(),
    }
}

/// The methods that a server of JSON-RPC lists itself. Their names need not be `Service/Method`, and all are unary.
async fn discovered(
    args: &Args,
    client: &jsonrpc::Client,
    remote: &Remote,
    app: &App,
) -> anyhow::Result<Exit> {
    let document = Document::fetch(client, remote).await?;
    let mut methods: Vec<(&str, &Value)> = document.methods().collect();
    let service = |name: &str| name.rsplit_once(['/', '.']).map_or("", |(service, _)| service).to_owned();
    if let Some(wanted) = &args.service {
        methods.retain(|(name, _)| ends_with_words(&service(name), wanted));
        if methods.is_empty() {
            let message = format!("no service '{wanted}' at {}", remote.url);
            return Err(Failure::new(Exit::NotFound, message).there("see all of them: bandy rpc ls").into());
        }
    }
    methods.sort_by(|a, b| a.0.cmp(b.0));
    let mut table = app.printer.list(COLUMNS);
    for (name, method) in &methods {
        let service = service(name);
        let id = method["x-call-id"].as_u64().and_then(|id| u32::try_from(id).ok());
        table.row(&Row {
            method: name.strip_prefix(service.as_str()).unwrap_or(name).trim_start_matches(['/', '.']),
            service: &service,
            kind: kind_name(Kind::Unary),
            id: id.unwrap_or_else(|| method_id(name)),
            request: "",
            reply: method["result"]["name"].as_str().unwrap_or_default(),
        })?;
    }
    table.finish()?;
    Ok(Exit::Done)
}

/// The kind of a method in one word.
pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Unary => "unary",
        Kind::ClientStream => "client-stream",
        Kind::ServerStream => "server-stream",
        Kind::Bidi => "bidi",
    }
}

fn unknown(wanted: &str, by: &str, schema: &Schema) -> Failure {
    let failure = Failure::new(Exit::NotFound, format!("no service '{wanted}' at {by}"));
    let short = |service: &str| service.rsplit('.').next().unwrap_or_default().to_owned();
    let names: Vec<String> =
        schema.services().flat_map(|service| [service.to_owned(), short(service)]).collect();
    match near_miss(wanted, names.iter().map(String::as_str)) {
        Some(near) => failure.tip(format!("did you mean '{near}'?")),
        None => failure.there("see all of them: bandy rpc ls"),
    }
}
