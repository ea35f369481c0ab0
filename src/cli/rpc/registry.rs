//! `bandy rpc registry`: a small service registry that Consul's clients can talk to.

use std::path::PathBuf;

use crate::cli::app::App;
use crate::cli::endpoint::Pillar;
use crate::cli::exit::{Exit, Failure};
use crate::cli::serve::{self, Entrance, Harness, Listen, Role, ServerArgs, Service, Speaks};
use crate::rpc::registry::Server;
use crate::secret::Secret;
use crate::transport::Address;
use crate::transport::tls::ALPN_HTTP11;

/// Where Consul's clients look first.
const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: u16 = 8500;

/// Arguments of `bandy rpc registry`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Run a service registry with Consul's HTTP API",
    long_about = "Run a service registry with Consul's HTTP API\n\n\
        For a small network that has no Consul. Servers register with a TTL, clients find and watch\n\
        them; what is registered lives in memory, and servers register again after a restart.",
    after_long_help = "Examples:\n  \
        bandy rpc registry                                      # on 127.0.0.1:8500\n  \
        bandy rpc registry -l 0.0.0.0:8500 --token-file secret  # for a network\n  \
        bandy rpc serve upper='tr a-z A-Z' --register consul:   # a server that registers\n  \
        bandy rpc call -e consul: bandy.Functions/upper hello   # a client that finds it"
)]
pub struct Args {
    /// Answer only requests with the token in the first line of this file
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Name of this node in answers
    #[arg(long, value_name = "NAME", default_value = "bandy")]
    pub node: String,
    /// What all servers have in common.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Serves until a signal.
///
/// # Errors
/// An address that cannot be listened on, an unreadable token file.
pub fn run(args: Args, app: &App) -> anyhow::Result<Exit> {
    let token = args.token_file.as_deref().map(token).transpose()?;
    let mut common = args.server;
    let is_local = |listen: &Listen| matches!(listen, Listen::Local(_));
    if common.name.is_some() || common.listen.iter().any(is_local) {
        let message = "a registry has no local: name; servers of this machine find each other without one";
        return Err(Failure::new(Exit::Usage, message).tip("-l :0    listen at a free port").into());
    }
    if common.listen.is_empty() {
        common.listen.push(Listen::At(Address::tcp(DEFAULT_HOST, DEFAULT_PORT), Speaks::WhatItCan));
    }
    let role = Role {
        pillar: Pillar::Rpc,
        scheme: "consul",
        alpn: &[ALPN_HTTP11],
        guarded: token.is_some(),
        at_home: false,
        certified_beside: false,
    };
    serve::run(common, app, role, async |mut harness: Harness| {
        if !harness.datagrams.is_empty() {
            return Err(Failure::new(Exit::Usage, "a registry does not answer on udp:").into());
        }
        let host = harness.listeners.iter().find_map(Entrance::host_port).map(|(host, _)| host);
        let registry = Server::new(args.node, host.unwrap_or_else(|| DEFAULT_HOST.to_owned()), token);
        let (clock, until) = (registry.clone(), harness.shutdown.clone());
        harness.shutdown.spawn(async move { clock.keep_time(&until).await });
        let shutdown = harness.shutdown.clone();
        harness.accept(move |stream| {
            let (registry, shutdown) = (registry.clone(), shutdown.clone());
            async move { registry.serve_connection(stream, &shutdown).await }
        });
        Ok(Service::default())
    })
}

fn token(path: &std::path::Path) -> anyhow::Result<Secret> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::unread(path.display(), &error))?;
    match text.lines().next().map(str::trim).filter(|line| !line.is_empty()) {
        Some(line) => Ok(Secret::new(line)),
        None => Err(Failure::new(Exit::Usage, format!("{} is empty", path.display())).into()),
    }
}
