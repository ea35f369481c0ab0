//! `bandy gossip join`: a node of a Serf cluster in the foreground. What happens is printed; Ctrl-C leaves in order.

mod place;
mod run;
mod stranger;
mod tell;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::coalesce;
use super::tag;
use crate::cli::app::App;
use crate::cli::endpoint::{Endpoint, Pillar, Place as Where};
use crate::cli::exit::{Exit, Failure};
use crate::cli::serve::{self, Role, ServerArgs, TopArg};
use crate::gossip::engine::{Mode, Profile};
use crate::transport::Address;
use crate::units::parse_duration;

/// Arguments of `gossip join`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy gossip join                 # a node; in a second terminal: one that finds the first
  bandy gossip join 10.0.0.7        # join the cluster of a Serf agent, or of a node of bandy
  bandy gossip join -l 0.0.0.0:7946 10.0.0.7 --name web1 --tag role=web
  bandy gossip join -- ./handle.sh  # a command per event: payload on stdin, SERF_*, BANDY_*
  bandy gossip join --key-file key  # encrypted; 'bandy gossip keygen' makes a key

First its URLs are printed, then a line for everything that happens. Ctrl-C or SIGTERM: the node leaves, and the others \
know that it did. Ctrl-Z: it is suspected, fails, and objects when you type fg. The real serf command drives it at the \
serf:// URL, and every bandy gossip verb does at its local: name.

Exit: 0 left in order · 1 another node has its name · 3 no seed answered · see 'bandy help exit-codes'")]
pub struct Args {
    /// Nodes of the cluster: HOST, HOST:PORT or gossip://HOST:PORT [default: your nodes on this machine]
    #[arg(value_name = "SEED", value_parser = seed)]
    pub seeds: Vec<String>,
    /// Run once per event; what it prints for a query is the answer
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    /// A tag of the node, which all others see (repeatable)
    #[arg(long, value_name = "TAG=VALUE", value_parser = tag::of_node, help_heading = "Node")]
    pub tag: Vec<(String, String)>,
    /// Where others reach the node, if it is not where it listens
    #[arg(hide_short_help = true, long, value_name = "HOST:PORT", help_heading = "Node")]
    pub advertise: Option<Address>,
    /// Join nobody
    #[arg(long, conflicts_with = "seeds", help_heading = "Cluster")]
    pub alone: bool,
    /// Keeps clusters on one network apart; real agents need memberlist 0.3 and the same label
    #[arg(
        hide_short_help = true,
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true,
        help_heading = "Cluster"
    )]
    pub cluster: String,
    /// Timers that suit one machine, one building, or several continents
    #[arg(long, value_name = "NAME", default_value = "lan", value_parser = ["local", "lan", "wan"], help_heading = "Cluster")]
    pub profile: String,
    /// Encrypt with the key in this file; a JSON list of keys takes part in their rotation
    #[arg(long, value_name = "FILE", help_heading = "Cluster")]
    pub key_file: Option<PathBuf>,
    /// Join what happens within PERIOD, or until a third of it was quiet, into fewer events, as Serf's agent does in 3s
    #[arg(
        long,
        value_name = "PERIOD",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = coalesce::PERIOD,
        value_parser = parse_duration,
        help_heading = "Node"
    )]
    pub coalesce: Option<Duration>,
    /// Tell events again that happened before the node joined
    #[arg(hide_short_help = true, long, help_heading = "Cluster")]
    pub replay: bool,
    /// Remember the cluster there, and join it again after a restart
    #[arg(hide_short_help = true, long, value_name = "FILE", help_heading = "Cluster")]
    pub snapshot: Option<PathBuf>,
    /// How keys and values spread: push, pull or push-pull
    #[arg(hide_short_help = true, long, value_name = "MODE", default_value = "push-pull", value_parser = ["push", "pull", "push-pull"], help_heading = "Cluster")]
    pub mode: String,
    /// Serve Serf's agent protocol there, or none [default: 127.0.0.1:7373 if it is free]
    #[arg(hide_short_help = true, long, value_name = "ADDR", help_heading = "Node")]
    pub rpc: Option<String>,
    /// Whether nothing was said about where to listen.
    #[arg(skip)]
    pub well_known: bool,
    /// Print the URLs and nothing more
    #[arg(long, hide = true)]
    pub quiet_events: bool,
    /// Its members, live. What a command prints would be in the picture.
    #[command(flatten)]
    pub top: TopArg,
    /// The harness's.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// An address to join; without `gossip://`.
fn seed(text: &str) -> Result<String, String> {
    let endpoint = Endpoint::parse(Pillar::Gossip, text).map_err(|error| error.message)?;
    match &endpoint.place {
        Where::Hosts(hosts) if endpoint.scheme == crate::cli::endpoint::Scheme::Gossip => {
            let seeds: Vec<String> = hosts
                .iter()
                .map(|(host, port)| match host.contains(':') {
                    true => format!("[{host}]:{port}"),
                    false => format!("{host}:{port}"),
                })
                .collect();
            Ok(seeds.join(","))
        }
        _ => Err(format!("expected HOST, HOST:PORT or gossip://HOST:PORT, got '{text}'")),
    }
}

impl Args {
    fn profile(&self) -> Profile {
        match self.profile.as_str() {
            "local" => Profile::Local,
            "wan" => Profile::Wan,
            _ => Profile::Lan,
        }
    }

    fn mode(&self) -> Mode {
        match self.mode.as_str() {
            "push" => Mode::Push,
            "pull" => Mode::Pull,
            _ => Mode::PushPull,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// An address that cannot be had, a wrong key file, no seed that answers.
pub fn run(mut args: Args, app: &App) -> anyhow::Result<Exit> {
    let tls = &args.server.tls;
    if tls.tls_cert.is_some() || tls.tls_self_signed.is_some() || tls.tls_client_ca.is_some() {
        return Err(Failure::new(Exit::Usage, "gossip has an encryption of its own, and no TLS")
            .tip("bandy gossip keygen > key && bandy gossip join --key-file key")
            .into());
    }
    if args.server.idle_exit.is_some() {
        return Err(Failure::new(Exit::Usage, "a node is there for others, so it has no --idle-exit").into());
    }
    args.top.check(Pillar::Gossip)?;
    if args.top.top && !args.command.is_empty() {
        return Err(Failure::new(
            Exit::Usage,
            "--top has the terminal, so there is no room for what a command prints",
        )
        .tip("bandy gossip watch -- COMMAND    in another terminal")
        .into());
    }
    args.well_known = args.server.listen.is_empty();
    // The parent of one in the background takes no name: its child does.
    let lock = match args.server.background && !args.server.detached {
        true => None,
        false => place::choose(&mut args.server, app)?,
    };
    let role = Role { guarded: args.key_file.is_some(), ..Role::from(Pillar::Gossip) };
    let server = args.server.clone();
    let outcome = std::sync::Arc::new(std::sync::Mutex::new(None));
    let ended = outcome.clone();
    let exit = serve::run(server, app, role, async |harness| {
        let service = run::start(&args, app, harness, ended).await;
        drop(lock);
        service
    })?;
    let failed = outcome.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    failed.map_or(Ok(exit), |failure: Failure| Err(failure.into()))
}
