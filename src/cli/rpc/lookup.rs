//! From a method's name on the command line to the method: local files first, then the server's own words.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::timeout;

use super::remote::Remote;
use super::schema::SchemaArgs;
use crate::cli::errors::near_miss;
use crate::cli::exit::{Exit, Failure};
use crate::rpc::catalog::method_id;
use crate::rpc::client::resolve::{self, MethodName, Resolved, ends_with_words, is_standard};
use crate::rpc::client::{CallOptions, Client, Ending, HttpClient, ReflectError};
use crate::rpc::reflection::cache::Memory;
use crate::rpc::reflection::fetch::{Fetch, FetchError, Fetched};
use crate::rpc::schema::Schema;
use crate::rpc::{Code, Format, Kind, Method, Status};

/// A method and the types around it.
pub struct Found {
    /// The method.
    pub method: Method,
    /// All types that are known.
    pub schema: Schema,
}

/// Finds the method.
///
/// # Errors
/// Not found: no such method, or several. Those of the server and of the files.
pub async fn method(name: &MethodName, files: &SchemaArgs, remote: &Remote) -> anyhow::Result<Found> {
    remote.ask(async |remote| method_at(name, files, remote).await).await
}

async fn method_at(name: &MethodName, files: &SchemaArgs, remote: &Remote) -> anyhow::Result<Found> {
    let local = files.load()?;
    if let Some(schema) = &local {
        match resolve::resolve(name, schema.methods()) {
            Resolved::One(method) => return Ok(Found { method: *method, schema: schema.clone() }),
            Resolved::Ambiguous(paths) => return Err(ambiguous(name, &paths).into()),
            Resolved::Unknown => {}
        }
    }
    let fetched = match &remote.client {
        Client::JsonRpc(_) if local.is_none() => return Ok(schemaless(name)),
        Client::JsonRpc(_) => Err(no_reflection()),
        Client::Compact(_) | Client::CompactDatagrams(_) => described(remote).await,
        Client::Http(client) => reflect(name, client, remote).await,
    };
    let fetched = match fetched {
        Ok(fetched) => fetched,
        Err(error) => {
            return Err(match &local {
                // What the files lack, the server does not tell either.
                Some(schema) => unknown(name, "the schema files", schema, &[]).into(),
                None => no_schema(name, remote, error).await,
            });
        }
    };
    let schema = match local {
        Some(local) => Schema::merge(&[local, fetched.schema]).map_err(super::schema::failure)?,
        None => fetched.schema,
    };
    match resolve::resolve(name, schema.methods()) {
        Resolved::One(method) => Ok(Found { method: *method, schema }),
        Resolved::Ambiguous(paths) => Err(ambiguous(name, &paths).into()),
        Resolved::Unknown => Err(unknown_to_server(name, remote, &schema, &fetched.services).await.into()),
    }
}

/// Asks for the services and for what the name says about the method, in one round trip if the name is full.
async fn reflect(name: &MethodName, client: &HttpClient, remote: &Remote) -> Result<Fetched, ReflectError> {
    let mut fetch = Fetch::services();
    let full = name.service.clone().filter(|service| service.contains('.'));
    if let Some(service) = &full {
        fetch.ask_symbol(service);
    }
    let wanted = name.service.as_deref().unwrap_or("/");
    let before = remote.recall(wanted);
    let fetched = client
        .reflect(fetch.foreseeing(&before.foresight), &reflect_options(&remote.options), |fetch| {
            let Some(services) = fetch.known_services() else { return };
            let meant = |service: &&String| match &name.service {
                Some(words) => ends_with_words(service, words),
                None => true,
            };
            let fit: Vec<String> = services
                .iter()
                .filter(meant)
                .filter(|service| Some(*service) != full.as_ref())
                .cloned()
                .collect();
            fit.iter().for_each(|service| fetch.ask_symbol(service));
        })
        .await?;
    if let Some(foresight) = fetched.lesson.clone() {
        remote.learn(wanted, Memory { foresight, ..before });
    }
    Ok(fetched)
}

/// Reflection is asked with the call's credentials, but for messages of any size.
pub fn reflect_options(options: &CallOptions) -> CallOptions {
    CallOptions { message_size_max: 16 << 20, get: false, ..options.clone() }
}

/// What a server said of itself; nothing at all if it says nothing and there are files that do.
///
/// # Errors
/// Anything else that went wrong.
pub fn unless_described(fetched: anyhow::Result<Fetched>, has_files: bool) -> anyhow::Result<Fetched> {
    match fetched {
        Err(error)
            if has_files && error.downcast_ref::<Failure>().is_some_and(|it| it.exit == Exit::NotFound) =>
        {
            Ok(Fetched { services: Vec::new(), schema: Schema::default(), missing: Vec::new(), lesson: None })
        }
        other => other,
    }
}

/// Everything the server says about itself.
///
/// # Errors
/// The server's.
pub async fn everything(remote: &Remote) -> anyhow::Result<Fetched> {
    remote.ask(async |remote| everything_at(remote).await).await
}

async fn everything_at(remote: &Remote) -> anyhow::Result<Fetched> {
    let options = reflect_options(&remote.options);
    let fetched = match &remote.client {
        Client::Http(client) => whole(client, remote, &options).await,
        Client::Compact(_) | Client::CompactDatagrams(_) => described(remote).await,
        Client::JsonRpc(_) => Err(no_reflection()),
    };
    match fetched {
        Ok(fetched) => Ok(fetched),
        Err(error) => Err(schema_failure(remote, error).await),
    }
}

/// The types around a symbol of which the server speaks only if it is asked by its full name; `None` if it knows none.
pub async fn unlisted(remote: &Remote, symbol: &str) -> Option<Schema> {
    let Client::Http(client) = &remote.client else { return None };
    let symbol = symbol.split('/').next().unwrap_or(symbol).trim_start_matches('.');
    let fetched = client.reflect(Fetch::symbols([symbol]), &reflect_options(&remote.options), |_| {}).await;
    fetched.ok().filter(|fetched| fetched.missing.is_empty()).map(|fetched| fetched.schema)
}

/// What methods are kept under: no service has such a name.
const EVERYTHING: &str = "*";

async fn whole(client: &HttpClient, remote: &Remote, options: &CallOptions) -> Result<Fetched, ReflectError> {
    let before = remote.recall(EVERYTHING);
    let fetched = client.reflect(Fetch::everything().foreseeing(&before.foresight), options, |_| {}).await?;
    let methods: Vec<String> = fetched.schema.methods().map(|method| method.path).collect();
    if fetched.lesson.is_some() || methods != before.methods {
        let foresight = fetched.lesson.clone().unwrap_or(before.foresight);
        remote.learn(EVERYTHING, Memory { foresight, methods });
    }
    Ok(fetched)
}

/// Paths of the methods that a server offers; those of the last time if it does not say so within `limit`.
pub async fn paths(remote: &Remote, limit: Duration) -> Vec<String> {
    match timeout(limit, everything(remote)).await {
        Ok(Ok(fetched)) => {
            let offered =
                |method: &Method| fetched.services.iter().any(|service| service == method.service());
            fetched.schema.methods().filter(offered).map(|method| method.path).collect()
        }
        Ok(Err(_)) | Err(_) => remote.recall(EVERYTHING).methods,
    }
}

/// What a server of the compact protocol says about itself.
async fn described(remote: &Remote) -> Result<Fetched, ReflectError> {
    let call = |ending| ReflectError::Call(Box::new(ending));
    let table = async {
        match &remote.client {
            Client::Compact(client) => client.connection(&remote.options).await?.table().await,
            Client::CompactDatagrams(client) => client.socket().await?.table().await,
            Client::Http(_) | Client::JsonRpc(_) => unreachable!("only the compact protocol has a table"),
        }
    };
    let table = match remote.options.timeout {
        Some(limit) => match timeout(limit, table).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Ending::deadline()),
        },
        None => table.await,
    };
    let table = table.map_err(call)?;
    let schema = Schema::from_descriptor_set(&table.descriptor_set).map_err(FetchError::Schema)?;
    // Health and reflection are in the table, but everyone has their types.
    let schema = Schema::merge(&[schema, Schema::standard().clone()]).map_err(FetchError::Schema)?;
    let service = |path: &str| path.split_once('/').map_or("", |(service, _)| service).to_owned();
    let services: BTreeSet<String> = table.methods().map(|method| service(&method.path)).collect();
    Ok(Fetched { services: services.into_iter().collect(), schema, missing: Vec::new(), lesson: None })
}

fn no_reflection() -> ReflectError {
    let status = Status::new(Code::Unimplemented, "JSON-RPC has no schema");
    ReflectError::Call(Box::new(Ending::given_up(status)))
}

/// A method of JSON-RPC, which takes and returns any JSON, by the very name that was given.
fn schemaless(name: &MethodName) -> Found {
    let any = Schema::standard().message(ANY_JSON).expect("a test compiles the well-known types");
    let method = Method {
        path: name.text.clone(),
        id: method_id(&name.text),
        kind: Kind::Unary,
        no_side_effects: false,
        input: any.clone(),
        output: any,
    };
    Found { method, schema: Schema::standard().clone() }
}

/// True if nothing is known of the method but that it takes and returns JSON.
pub fn is_schemaless(method: &Method, format: Format) -> bool {
    format == Format::Json && method.output.full_name() == ANY_JSON
}

/// Any JSON value.
const ANY_JSON: &str = "google.protobuf.Value";

async fn no_schema(name: &MethodName, remote: &Remote, error: ReflectError) -> anyhow::Error {
    let error = schema_failure(remote, error).await;
    match error.downcast::<Failure>() {
        Ok(failure) if failure.exit == Exit::Failed || failure.exit == Exit::NotFound => {
            failure.there(format!("send bytes without a schema: bandy rpc call {name} --raw -d @FILE")).into()
        }
        Ok(failure) => failure.into(),
        Err(error) => error,
    }
}

/// What to tell a person about a server that could not be asked for its schema.
pub async fn schema_failure(remote: &Remote, error: ReflectError) -> anyhow::Error {
    let files = "name the schema: --proto FILE or --protoset FILE";
    let url = &remote.url;
    match error {
        ReflectError::Call(ending) if ending.status.code == Code::Unimplemented => {
            Failure::new(Exit::NotFound, format!("{url} does not describe itself — it offers no reflection"))
                .tip(files)
                .into()
        }
        ReflectError::Call(ending) => remote.explain(None, "reflection", &ending).await.into(),
        ReflectError::Fetch(
            error @ (FetchError::Answer(_) | FetchError::TooLarge | FetchError::Schema(_)),
        ) => Failure::new(Exit::Failed, format!("{url}: {error}")).tip(files).into(),
        ReflectError::Fetch(FetchError::Status(status)) => Failure::new(
            Exit::Status(status.code.number()),
            format!("{url} does not describe itself — {status}"),
        )
        .tip(files)
        .into(),
    }
}

fn ambiguous(name: &MethodName, paths: &[String]) -> Failure {
    let failure =
        Failure::new(Exit::NotFound, format!("'{name}' is {} methods: {}", paths.len(), paths.join(", ")));
    match paths.first() {
        Some(path) => failure.there(format!("say which: bandy rpc call {path}")),
        None => failure,
    }
}

/// The near misses of a method come from every service of the server.
async fn unknown_to_server(
    name: &MethodName,
    remote: &Remote,
    schema: &Schema,
    services: &[String],
) -> Failure {
    match everything(remote).await {
        Ok(all) => unknown(name, &remote.url, &all.schema, services),
        Err(_) => unknown(name, &remote.url, schema, services),
    }
}

fn unknown(name: &MethodName, by: &str, schema: &Schema, services: &[String]) -> Failure {
    let failure = Failure::new(Exit::NotFound, format!("'{name}' is not offered by {by}"));
    let methods: Vec<Method> = schema.methods().filter(|method| !is_standard(method.service())).collect();
    if let Some(path) = nearest(name, &methods) {
        return failure.tip(format!("did you mean '{path}'?"));
    }
    if methods.is_empty() && services.iter().all(|service| is_standard(service)) {
        return failure.tip("it offers no services of its own");
    }
    failure.there("see what it offers: bandy rpc ls")
}

/// The method that was probably meant, as its full path.
fn nearest<'a>(name: &MethodName, methods: &'a [Method]) -> Option<&'a str> {
    let given = name.to_string();
    // Compared with as many words as were given.
    let shortened = |method: &'a Method| -> &'a str {
        match &name.service {
            None => method.name(),
            Some(service) => {
                let words = service.split('.').count();
                let dots = method.service().rmatch_indices('.').nth(words - 1);
                dots.map_or(method.path.as_str(), |(at, _)| &method.path[at + 1..])
            }
        }
    };
    let candidates: Vec<(&str, &str)> =
        methods.iter().map(|method| (shortened(method), method.path.as_str())).collect();
    let near = near_miss(&given, candidates.iter().map(|(short, _)| *short))?;
    candidates.iter().find(|(short, _)| *short == near).map(|(_, path)| *path)
}
