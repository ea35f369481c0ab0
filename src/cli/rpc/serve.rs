//! `bandy rpc serve`: answer calls with commands, workers, files, or the built-in services.

mod http;
mod init;
mod listed;
mod reload;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::app::App;
use crate::cli::endpoint::Pillar;
use crate::cli::errors::near_miss;
use crate::cli::exit::{Exit, Failure};
use crate::cli::rpc::remote::registry_failure;
use crate::cli::rpc::top;
use crate::cli::serve::{self, Harness, ServerArgs, Service, TopArg, Vitals};
use crate::exec::Program;
use crate::rpc::backend::Peer;
use crate::rpc::catalog::SharedCatalog;
use crate::rpc::client::resolve::is_standard;
use crate::rpc::handler::{Answer, Faults, Host, Limits, Named, Offer, OfferError, Rest, Workers};
use crate::rpc::health::HealthState;
use crate::rpc::registry::RegistryUrl;
use crate::rpc::schema::Input;
use crate::rpc::server::Server;
use crate::rpc::stats::{self, Stats};
use crate::rpc::{Catalog, Method, Metrics};
use crate::shutdown::Shutdown;
use crate::units::{parse_duration, parse_percent, parse_size};
use listed::Listed;
use reload::Offering;

/// Arguments of `bandy rpc serve`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy rpc serve                                 # demo.Greeter, demo.Calc, …
  bandy rpc serve upper='tr a-z A-Z' load=uptime  # functions: text in, text out
  bandy rpc serve --proto api.proto -- ./handle   # every method, by JSON on stdin
  bandy rpc serve --proto api.proto Greeter/Hello='jq {message:.name}'
  bandy rpc serve ./handlers                      # files named pkg.Service.Method
  bandy rpc serve --proto api.proto --workers 4 -- ./worker.py

Exit: 0 stopped by a signal · 2 wrong words, handlers or schema · see 'bandy help exit-codes'")]
pub struct Args {
    /// NAME=COMMAND, NAME:=JSON for a fixed reply, NAME alone for what the COMMAND after -- answers, or a directory of handlers
    #[arg(value_name = "NAME=COMMAND")]
    pub functions: Vec<String>,
    /// Answers every method that nothing else does
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,

    /// Schema: a .proto file or a directory of them; - reads one from stdin (repeatable)
    #[arg(long, value_name = "FILE", help_heading = "Schema")]
    pub proto: Vec<PathBuf>,
    /// Where imports of --proto are looked for (repeatable)
    #[arg(hide_short_help = true, long, value_name = "DIR", help_heading = "Schema")]
    pub proto_path: Vec<PathBuf>,
    /// Schema: a compiled FileDescriptorSet (repeatable)
    #[arg(hide_short_help = true, long, value_name = "FILE", help_heading = "Schema")]
    pub protoset: Vec<PathBuf>,
    /// Do not tell clients the schema
    #[arg(hide_short_help = true, long, help_heading = "Schema")]
    pub no_reflection: bool,

    /// Answer one method with a command, as NAME=COMMAND does (repeatable)
    #[arg(short, long, value_name = "METHOD=COMMAND", help_heading = "Handlers")]
    pub method: Vec<String>,
    /// A directory of executables named by method
    #[arg(long, value_name = "DIR", help_heading = "Handlers")]
    pub handlers: Option<PathBuf>,
    /// Run the COMMAND after -- N times, each answering many calls as lines of JSON
    #[arg(long, value_name = "N", help_heading = "Handlers", requires = "command")]
    pub workers: Option<usize>,
    /// Answer with the request, or with an example of the reply if that is of another type
    #[arg(long, help_heading = "Handlers", conflicts_with = "command")]
    pub echo: bool,
    /// Commands that run at the same time; other calls wait
    #[arg(short, long, value_name = "N", default_value_t = 256, help_heading = "Handlers")]
    pub jobs: usize,
    /// Largest message, in and out
    #[arg(hide_short_help = true, long, value_name = "SIZE", default_value = "4M", value_parser = parse_size, help_heading = "Handlers")]
    pub max_msg_size: u64,
    /// Write a handler for every method of the schema into DIR, and stop
    #[arg(hide_short_help = true, long, value_name = "DIR", help_heading = "Handlers")]
    pub init: Option<PathBuf>,

    /// Wait before each call is answered: 200ms, or 100ms..300ms
    #[arg(long, value_name = "DURATION", value_parser = parse_delay, help_heading = "Faults")]
    pub delay: Option<(Duration, Duration)>,
    /// Refuse some calls with UNAVAILABLE, undone
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = parse_percent, help_heading = "Faults")]
    pub fail: f64,
    /// Do some calls and lose the reply
    #[arg(hide_short_help = true, long, value_name = "PERCENT", default_value = "0%", value_parser = parse_percent, help_heading = "Faults")]
    pub drop_reply: f64,
    /// Makes the same calls fail every time
    #[arg(hide_short_help = true, long, value_name = "N", default_value_t = 0, help_heading = "Faults")]
    pub seed: u64,

    /// Tell a registry where these services are, such as consul://HOST; local: always knows (repeatable)
    #[arg(hide_short_help = true, long, value_name = "URL", help_heading = "Server")]
    pub register: Vec<RegistryUrl>,
    /// Endpoint that callers shall use, if it is not the one listened on: grpc://HOST:PORT
    #[arg(hide_short_help = true, long, value_name = "URL", help_heading = "Server", requires = "register")]
    pub advertise: Option<String>,
    /// Register under this name instead of one name for each service
    #[arg(hide_short_help = true, long, value_name = "NAME", help_heading = "Server", requires = "register")]
    pub service_name: Option<String>,
    /// Its calls, live.
    #[command(flatten)]
    pub top: TopArg,
    /// What it takes over HTTP.
    #[command(flatten)]
    pub http: http::HttpArgs,
    /// What all servers have in common.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `200ms`, or `100ms..300ms`: a delay and what may be added to it.
fn parse_delay(text: &str) -> Result<(Duration, Duration), String> {
    let duration = |text: &str| parse_duration(text).map_err(|error| error.to_string());
    match text.split_once("..") {
        None => Ok((duration(text)?, Duration::ZERO)),
        Some((from, to)) => {
            let (from, to) = (duration(from)?, duration(to)?);
            let jitter = to.checked_sub(from).ok_or("a range goes from the shorter to the longer delay")?;
            Ok((from, jitter))
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Wrong names, handlers or schemas; an address that cannot be had.
pub fn run(args: Args, app: &App) -> anyhow::Result<Exit> {
    let search_path = std::env::var_os("PATH");
    let mut offer = offer(&args, search_path.as_deref())?;
    if let Some(directory) = &args.init {
        return init::run(directory, &offer, app);
    }
    args.top.check(Pillar::Rpc)?;
    let program = Program::from_words(args.command.clone(), search_path.as_deref());
    let server = args.server.clone();
    serve::run(server, app, Pillar::Rpc, async |harness| {
        offer.rest = rest(&args, program, &harness.shutdown)?;
        start(&args, app, offer, harness).await
    })
}

/// What answers the methods that nothing else does.
fn rest(args: &Args, program: Option<Program>, shutdown: &Shutdown) -> Result<Rest, Failure> {
    Ok(match (program, args.workers) {
        (None, _) if args.echo => Rest::Echo,
        (None, _) => Rest::Nobody,
        (Some(program), None) => Rest::Command(program),
        (Some(program), Some(count)) => {
            let workers =
                Workers::start(&program, count, message_bytes_max(args).saturating_mul(2), shutdown);
            Rest::Workers(workers.map_err(|error| not_runnable(&program, &error))?)
        }
    })
}

fn message_bytes_max(args: &Args) -> usize {
    usize::try_from(args.max_msg_size).unwrap_or(usize::MAX)
}

/// Puts the offer behind the sockets.
async fn start(args: &Args, app: &App, offer: Offer, mut harness: Harness) -> anyhow::Result<Service> {
    let shutdown = harness.shutdown.clone();
    let limits = Limits { message_bytes_max: message_bytes_max(args), jobs_max: args.jobs };
    let (catalog, health) = (SharedCatalog::default(), HealthState::new());
    let metrics = Arc::new(Metrics::new(&harness.metrics));
    let stats = Stats::new(Arc::clone(&metrics), health.clone(), &catalog, process(harness.vitals()));
    let offering = Offering {
        offer,
        host: Host::new(limits, &shutdown)?,
        catalog,
        health,
        reflection: !args.no_reflection,
        stats: stats.clone(),
    };
    let notes = offering.renew().map_err(explain)?;
    notes.iter().for_each(|note| app.printer.note(note));
    let catalog = offering.catalog.load();
    let options = args.http.options(limits.message_bytes_max, metrics)?;
    let server = Server::new(offering.catalog.clone(), options, shutdown.clone());
    let mut listed = Listed::new(args, app, &harness)?;
    for socket in harness.datagrams.drain(..) {
        let server = Arc::clone(&server);
        shutdown.spawn(async move { server.serve_datagrams(socket).await });
    }
    let answering = Arc::clone(&server);
    harness.accept(move |stream| {
        let tls_subject = stream.peer_certificate().map(|certificate| certificate.subject);
        let peer = Arc::new(Peer { address: stream.peer(), tls_subject });
        let server = Arc::clone(&answering);
        async move { server.serve_connection(stream, peer).await }
    });
    listed.tell(&catalog).await.map_err(|error| registry_failure(&error))?;
    banner(app, &catalog);
    let (health, leaving) = (offering.health.clone(), shutdown.clone());
    offering.watch(listed, &shutdown);
    shutdown.spawn(async move {
        leaving.draining().await;
        health.shut_down();
    });
    let url = harness.urls.first().cloned().unwrap_or_default();
    let theme = crate::cli::top::theme(false, app);
    let show = args.top.view(move || async move { top::show_own(&stats, &url, &theme).await });
    Ok(Service::with_status(move || server.metrics().status()).with_top(show))
}

/// What the harness knows of the process, as the statistics have it.
fn process(vitals: impl Fn() -> Vitals + Send + Sync + 'static) -> stats::Host {
    Arc::new(move |stats| {
        let vitals = vitals();
        stats.started_ms = vitals.started_ms;
        stats.uptime_us = u64::try_from(vitals.uptime.as_micros()).unwrap_or(u64::MAX);
        stats.connections = vitals.door.open as u64;
        stats.connections_max = vitals.door.open_max as u64;
        stats.connections_total = vitals.door.accepted;
        stats.memory_bytes = vitals.memory_bytes;
    })
}

/// Methods shown to a person; who wants all asks `bandy rpc ls`.
const BANNER_METHODS: usize = 12;

/// For a person: what there is, and a line to paste.
fn banner(app: &App, catalog: &Catalog) {
    let mut methods: Vec<&Method> = catalog
        .routes()
        .map(|route| &*route.method)
        .filter(|method| !is_standard(method.service()))
        .collect();
    methods.sort_by(|a, b| a.path.cmp(&b.path));
    for method in methods.iter().take(BANNER_METHODS) {
        app.printer.status(&format!("  {}", method.path));
    }
    if methods.len() > BANNER_METHODS {
        app.printer.status(&format!("  … and {} more", methods.len() - BANNER_METHODS));
    }
    let hello = methods.iter().find(|method| method.path == "demo.Greeter/Hello");
    match (hello, methods.first()) {
        (Some(_), _) => app.printer.status("try: bandy rpc call Greeter/Hello name=Ada"),
        (None, Some(method)) if method.service() == "bandy.Functions" => {
            app.printer.status(&format!("try: bandy rpc call {} hello", method.name()));
        }
        (None, Some(method)) => app.printer.status(&format!("try: bandy rpc call {}", method.path)),
        (None, None) => {}
    }
}

fn not_runnable(program: &Program, error: &std::io::Error) -> Failure {
    let exit = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
    Failure::new(Exit::Command(exit), format!("cannot run {program}: {error}"))
}

/// What the words on the command line mean.
fn offer(args: &Args, search_path: Option<&OsStr>) -> Result<Offer, Failure> {
    let mut offer = Offer {
        directory: args.handlers.clone(),
        include_paths: args.proto_path.clone(),
        descriptor_sets: args.protoset.clone(),
        ..Offer::default()
    };
    for path in &args.proto {
        offer.protos.push(if path.as_os_str() == "-" {
            let text = std::io::read_to_string(std::io::stdin())
                .map_err(|error| Failure::unread("stdin", &error))?;
            Input::Text { name: "stdin.proto".to_owned(), text }
        } else {
            Input::Path(path.clone())
        });
    }
    for text in args.functions.iter().chain(&args.method) {
        match named(text, search_path) {
            Some(Named { answer: Answer::Rest, .. }) if std::path::Path::new(text).is_dir() => {
                if offer.directory.replace(text.into()).is_some() {
                    return Err(Failure::new(Exit::Usage, "only one directory of handlers can be served"));
                }
            }
            Some(Named { answer: Answer::Rest, name }) if args.command.is_empty() => {
                return Err(Failure::new(
                    Exit::Usage,
                    format!("nothing answers '{name}': it is no directory, and there is no command"),
                )
                .tip(format!("bandy rpc serve {name}='tr a-z A-Z'")));
            }
            Some(named) if text.ends_with('=') && matches!(named.answer, Answer::Command(_)) => {
                return Err(Failure::new(Exit::Usage, format!("'{text}' has no command behind the ="))
                    .tip(format!("bandy rpc serve {}='tr a-z A-Z'", named.name)));
            }
            Some(named) => offer.named.push(named),
            None => {
                return Err(Failure::new(Exit::Usage, format!("'{text}' has no name before the ="))
                    .tip("bandy rpc serve upper='tr a-z A-Z'"));
            }
        }
    }
    let (delay, jitter) = args.delay.unwrap_or_default();
    offer.faults = Faults { delay, jitter, fail: args.fail, drop_reply: args.drop_reply, seed: args.seed };
    Ok(offer)
}

/// `NAME=COMMAND`, `NAME:=JSON` or `NAME`.
fn named(text: &str, search_path: Option<&OsStr>) -> Option<Named> {
    let (name, answer) = match text.split_once('=') {
        None => (text, Answer::Rest),
        Some((name, json)) if name.ends_with(':') => {
            (name.trim_end_matches(':'), Answer::Fixed(json.to_owned()))
        }
        Some((name, command)) => (name, Answer::Command(Program::from_text(command, search_path))),
    };
    (!name.is_empty()).then(|| Named { name: name.to_owned(), answer })
}

/// The error of an offer, with what helps.
fn explain(error: OfferError) -> anyhow::Error {
    let failure = Failure::new(Exit::Usage, error.to_string());
    match error {
        OfferError::UnknownMethod { name, methods } => {
            let failure = match near_miss(&name, methods.iter().map(String::as_str)) {
                Some(near) => failure.tip(format!("did you mean '{near}'?")),
                None => match methods.first() {
                    Some(first) => failure.tip(format!("the first of {} is {first}", methods.len())),
                    None => failure.tip("name a schema: --proto FILE"),
                },
            };
            failure.into()
        }
        OfferError::NoMethods => failure
            .tip("bandy rpc serve --proto api.proto -- COMMAND    the methods of a schema")
            .tip("bandy rpc serve NAME -- COMMAND                 a function: text in, text out")
            .into(),
        OfferError::Read { .. } => Failure { exit: Exit::Failed, ..failure }.into(),
        OfferError::Schema(error) => super::schema::failure(error).into(),
        OfferError::Ambiguous { .. } | OfferError::Reply { .. } => failure.into(),
    }
}
