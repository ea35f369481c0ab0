//! `bandy context`: named sets of endpoints.

mod kafka;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::app::App;
use super::endpoint::{Endpoint, Pillar, is_local_name, mask};
use super::exit::{Exit, Failure};
use super::settings::{Config, Context};
use crate::output::Column;

/// Arguments of `bandy context`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true, after_long_help = EXAMPLES)]
pub struct ContextArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: ContextCommand,
}

const EXAMPLES: &str = "Examples:
  bandy context add prod --rpc grpcs://api.example.org --user bob --password-file ~/.p
  bandy context add kafka --kafka-config client.properties
  bandy context use prod       # from now on
  bandy rpc ls --context prod  # once
  bandy context use -          # back to the one before

A command takes its endpoint from -e, else from BANDY_RPC_URL (BANDY_MQ_URL, …), else from the context that
--context or BANDY_CONTEXT names, else from the current one, else it is local:.";

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// Add a context, or replace the one of that name
    Add(Box<AddArgs>),
    /// List contexts; the current one is marked
    #[command(
        visible_alias = "list",
        after_long_help = "\
Examples:
  bandy context ls
  bandy context ls -o '%{name} %{rpc}'

Exit: 0 listed · see 'bandy help exit-codes'"
    )]
    Ls,
    /// Make a context the current one; - is the one before, local is none
    #[command(after_long_help = "\
Examples:
  bandy context use prod
  bandy context use -      # the one before
  bandy context use local  # none: this user's own servers

Exit: 0 done · 5 no such context · see 'bandy help exit-codes'")]
    Use(NameArgs),
    /// Show a context
    Show(ShowArgs),
    /// Remove a context
    #[command(after_long_help = "\
Examples:
  bandy context rm prod

Exit: 0 it is gone · 5 no such context · see 'bandy help exit-codes'")]
    Rm(NameArgs),
}

/// Arguments of `add`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  bandy context add prod --rpc grpcs://api.example.org --user bob --password-file ~/.p
  bandy context add lab --mq amqp://lab/shop --log kafka://lab --use  # and make it the current one
  bandy context add kafka --kafka-config client.properties

Exit: 0 it is there · 2 an endpoint that is none · see 'bandy help exit-codes'")]
pub struct AddArgs {
    /// Its name
    pub name: String,
    /// Endpoint of rpc
    #[arg(long, value_name = "URL")]
    pub rpc: Option<String>,
    /// Endpoint of mq
    #[arg(long, value_name = "URL")]
    pub mq: Option<String>,
    /// Endpoint of log
    #[arg(long, value_name = "URL")]
    pub log: Option<String>,
    /// Take the endpoint of log and the login from a file of another Kafka client: .properties of Java's, kcat.conf
    #[arg(long, value_name = "FILE", conflicts_with_all = ["log", "user", "password_file", "token_file"])]
    pub kafka_config: Option<PathBuf>,
    /// Endpoint of gossip
    #[arg(long, value_name = "URL")]
    pub gossip: Option<String>,
    /// Who
    #[arg(short, long)]
    pub user: Option<String>,
    /// File with the password in its first line
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// File with a bearer token in its first line
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Certificates to trust (PEM)
    #[arg(long, value_name = "FILE")]
    pub cacert: Option<PathBuf>,
    /// Certificate to present (PEM)
    #[arg(long, value_name = "FILE", requires = "cert_key")]
    pub cert: Option<PathBuf>,
    /// Private key of --cert (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub cert_key: Option<PathBuf>,
    /// Name that the server's certificate must have
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// Also make it the current one
    #[arg(long = "use")]
    pub current: bool,
}

/// A name.
#[derive(Debug, Args)]
pub struct NameArgs {
    /// Name of the context
    #[arg(add = super::completions::contexts())]
    pub name: String,
}

/// Arguments of `show`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  bandy context show  # the current one
  bandy context show prod --json | jq -r .rpc

Exit: 0 shown · 5 no such context · see 'bandy help exit-codes'")]
pub struct ShowArgs {
    /// Name of the context [default: the current one]
    #[arg(add = super::completions::contexts())]
    pub name: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// No such context; a file that cannot be read or written.
pub fn run(args: ContextArgs, app: &App) -> anyhow::Result<Exit> {
    let file = &app.home.config;
    let config = Config::load(file)?;
    match args.command {
        ContextCommand::Add(args) => add(*args, config, app),
        ContextCommand::Ls => list(app, &config),
        ContextCommand::Use(args) => switch(&args.name, config, app),
        ContextCommand::Show(args) => show(args.name, &config, app),
        ContextCommand::Rm(args) => remove(&args.name, config, file),
    }
}

fn add(mut args: AddArgs, mut config: Config, app: &App) -> anyhow::Result<Exit> {
    let file = &app.home.config;
    if !is_local_name(&args.name) || matches!(args.name.as_str(), "-" | "local") {
        let why = "a name is up to 64 letters, digits, '.', '_' and '-', and not 'local'";
        return Err(Failure::new(Exit::Usage, format!("'{}': {why}", args.name)).into());
    }
    if let Some(path) = args.kafka_config.take() {
        take_over(&path, &mut args, app)?;
    }
    let context = Context {
        rpc: args.rpc,
        mq: args.mq,
        log: args.log,
        gossip: args.gossip,
        user: args.user,
        password_file: args.password_file.map(absolute).transpose()?,
        token_file: args.token_file.map(absolute).transpose()?,
        cacert: args.cacert.map(absolute).transpose()?,
        cert: args.cert.map(absolute).transpose()?,
        cert_key: args.cert_key.map(absolute).transpose()?,
        server_name: args.server_name,
    };
    let mut endpoints = 0;
    for pillar in Pillar::ALL {
        if let Some(text) = context.endpoint(pillar) {
            Endpoint::parse(pillar, text).map_err(Failure::from)?;
            endpoints += 1;
        }
    }
    if endpoints == 0 {
        let failure = Failure::new(Exit::Usage, "a context without an endpoint");
        return Err(failure.tip(format!("bandy context add {} --rpc grpc://HOST", args.name)).into());
    }
    if args.current {
        config.make_current(Some(args.name.clone()));
    }
    config.contexts.insert(args.name, context);
    config.save(file)?;
    Ok(Exit::Done)
}

/// Takes what a file of another Kafka client says. The password goes into a file of its own that nobody else can read.
fn take_over(path: &Path, args: &mut AddArgs, app: &App) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::unread(path.display(), &error))?;
    let is_java = path.extension().is_some_and(|extension| extension == "properties");
    let kafka = kafka::read(&text, is_java)
        .map_err(|why| Failure::new(Exit::Usage, format!("{}: {why}", path.display())))?;
    for left in &kafka.left {
        app.printer.warn(&format!("left out: {left}"));
    }
    args.log = Some(kafka.url);
    args.user = kafka.user;
    args.cacert = args.cacert.take().or(kafka.cacert);
    if let (None, Some((cert, key))) = (&args.cert, kafka.cert) {
        (args.cert, args.cert_key) = (Some(cert), Some(key));
    }
    if let Some(password) = kafka.password {
        let file = password_file(&app.home.config, &args.name);
        write_secret(&file, &password).map_err(|error| {
            Failure::new(Exit::Failed, format!("cannot write {}: {error}", file.display()))
        })?;
        app.printer.status(&format!("the password is in {}", file.display()));
        args.password_file = Some(file);
    }
    Ok(())
}

/// Where the password of a context is kept that came out of a foreign file.
fn password_file(config: &Path, context: &str) -> PathBuf {
    config.with_file_name(format!("password-{context}"))
}

fn write_secret(path: &Path, secret: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // One that was there before may be readable by others.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{secret}")
}

/// A context works in every folder.
fn absolute(path: PathBuf) -> std::io::Result<PathBuf> {
    std::path::absolute(path)
}

#[derive(Serialize)]
struct View<'a> {
    name: &'a str,
    current: bool,
    rpc: Option<String>,
    mq: Option<String>,
    log: Option<String>,
    gossip: Option<String>,
    user: Option<&'a str>,
}

const COLUMNS: &[Column] = &[
    Column::left("name"),
    Column::left("current").shown(|value| if value == true { "*".to_owned() } else { String::new() }),
    Column::left("rpc"),
    Column::left("mq"),
    Column::left("log"),
    Column::left("gossip"),
    Column::left("user"),
];

impl<'a> View<'a> {
    fn new(name: &'a str, config: &'a Config) -> Option<Self> {
        let context = config.contexts.get(name)?;
        let endpoint = |pillar| context.endpoint(pillar).map(mask);
        Some(Self {
            name,
            current: config.current.as_deref() == Some(name),
            rpc: endpoint(Pillar::Rpc),
            mq: endpoint(Pillar::Mq),
            log: endpoint(Pillar::Log),
            gossip: endpoint(Pillar::Gossip),
            user: context.user.as_deref(),
        })
    }
}

fn list(app: &App, config: &Config) -> anyhow::Result<Exit> {
    let mut list = app.printer.list(COLUMNS);
    for view in config.contexts.keys().filter_map(|name| View::new(name, config)) {
        list.row(&view)?;
    }
    list.finish()?;
    Ok(Exit::Done)
}

fn switch(name: &str, mut config: Config, app: &App) -> anyhow::Result<Exit> {
    let name = match name {
        "-" => Some(config.previous.clone().ok_or_else(|| {
            Failure::new(Exit::NotFound, "there was no context before").tip("bandy context use NAME")
        })?),
        "local" => None,
        name => Some(name.to_owned()),
    };
    if let Some(name) = &name {
        config.context(name)?;
    }
    config.make_current(name);
    config.save(&app.home.config)?;
    app.printer.status(&format!("context {}", config.current.as_deref().unwrap_or("local")));
    Ok(Exit::Done)
}

fn show(name: Option<String>, config: &Config, app: &App) -> anyhow::Result<Exit> {
    let Some(name) = name.or_else(|| config.current.clone()) else {
        let failure = Failure::new(Exit::NotFound, "no context is the current one");
        return Err(failure.tip("bandy context use NAME").into());
    };
    let context = config.context(&name)?;
    let mut masked = context.clone();
    for endpoint in [&mut masked.rpc, &mut masked.mq, &mut masked.log, &mut masked.gossip] {
        *endpoint = endpoint.as_deref().map(mask);
    }
    app.printer.object(&masked)?;
    Ok(Exit::Done)
}

fn remove(name: &str, mut config: Config, file: &Path) -> anyhow::Result<Exit> {
    let own = config.context(name)?.password_file.clone().filter(|own| *own == password_file(file, name));
    config.contexts.remove(name);
    for place in [&mut config.current, &mut config.previous] {
        if place.as_deref() == Some(name) {
            *place = None;
        }
    }
    config.save(file)?;
    if let Some(own) = own
        && let Err(error) = std::fs::remove_file(&own)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        let text = format!("the context is gone, its password in {} is not: {error}", own.display());
        return Err(Failure::new(Exit::Failed, text).into());
    }
    Ok(Exit::Done)
}
