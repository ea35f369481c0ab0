//! `bandy rpc registry`: a small service registry that Consul's clients can talk to.

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::app::App;
use crate::cli::exit::{Exit, Failure};
use crate::cli::signals;
use crate::rpc::registry::{CONNECTIONS_MAX, Server};
use crate::secret::Secret;
use crate::shutdown::Shutdown;
use crate::transport::{Acceptor, Address, Listener};
use crate::units::parse_duration;

/// Where Consul's clients look first.
const DEFAULT: &str = "127.0.0.1:8500";

/// Arguments of `bandy rpc registry`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Run a service registry with Consul's HTTP API",
    long_about = "Run a service registry with Consul's HTTP API\n\n\
        For a small network that has no Consul. Servers register with a TTL, clients find and watch\n\
        them; what is registered lives in memory, and servers register again after a restart.",
    after_help = "Examples:\n  \
        bandy rpc registry                                        on 127.0.0.1:8500\n  \
        bandy rpc registry -l 0.0.0.0:8500 --token-file secret    for a network\n  \
        bandy rpc serve upper='tr a-z A-Z' --register consul:     a server that registers\n  \
        bandy rpc call -e consul: upper hello                     a client that finds it"
)]
pub struct Args {
    /// Where to listen; :0 takes a free port
    #[arg(short, long, value_name = "ADDR", default_value = DEFAULT)]
    pub listen: Vec<Address>,
    /// Answer only requests with the token in the first line of this file
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Name of this node in answers
    #[arg(long, value_name = "NAME", default_value = "bandy")]
    pub node: String,
    /// Time for connections to end after a signal
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "5s")]
    pub grace: Duration,
}

/// Serves until a signal.
///
/// # Errors
/// An address that cannot be listened on, an unreadable token file.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let token = args.token_file.as_deref().map(token).transpose()?;
    app.server_runtime()?.block_on(serve(args, token, app))
}

async fn serve(args: &Args, token: Option<Secret>, app: &App) -> anyhow::Result<Exit> {
    let mut listeners = Vec::with_capacity(args.listen.len());
    for address in &args.listen {
        if !address.is_loopback() && token.is_none() {
            app.printer.warn(&format!("{address} can be reached by others, and there is no --token-file"));
        }
        let listener = Listener::bind(address)
            .await
            .map_err(|error| Failure::new(Exit::Failed, error.to_string()).tip("listen elsewhere: -l :0"))?;
        listeners.push((listener.address()?, listener));
    }
    let host = listeners.iter().find_map(|(address, _)| match address {
        Address::Tcp { host, .. } => Some(host.clone()),
        Address::Udp { .. } | Address::Unix(_) | Address::Mem(_) => None,
    });
    let server = Server::new(args.node.clone(), host.unwrap_or_else(|| "127.0.0.1".to_owned()), token);
    let shutdown = Shutdown::new();
    let (clock, until) = (server.clone(), shutdown.clone());
    shutdown.spawn(async move { clock.keep_time(&until).await });
    let acceptor = Acceptor::new(CONNECTIONS_MAX);
    for (address, listener) in listeners {
        let (server, acceptor, until) = (server.clone(), acceptor.clone(), shutdown.clone());
        shutdown.spawn(async move { server.accept(acceptor, listener, &until).await });
        app.printer.line(&format!("consul://{address}"))?;
    }
    app.printer.flush()?;
    signals::interrupted().await;
    app.printer.note("stopping… (again to force)");
    tokio::select! {
        _ = shutdown.finish(args.grace) => {}
        _ = signals::interrupted() => {}
    }
    Ok(Exit::Done)
}

fn token(path: &std::path::Path) -> anyhow::Result<Secret> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot read {}: {error}", path.display())))?;
    match text.lines().next().map(str::trim).filter(|line| !line.is_empty()) {
        Some(line) => Ok(Secret::new(line)),
        None => Err(Failure::new(Exit::Usage, format!("{} is empty", path.display())).into()),
    }
}
