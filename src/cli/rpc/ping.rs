//! `bandy rpc ping`: round trips of the health check, as ping(8) shows them.

use tokio::time::Instant;

use super::complete;
use super::health::{self, Health};
use super::remote::{ProtocolArgs, Remote, Wanted};
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::Exit;
use crate::cli::ping::{self, ANSWER_MAX, Answer, Missed, PingArgs};

/// Arguments of `rpc ping`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Ask about this service, not the whole server
    #[arg(add = completions::remote(complete::services))]
    pub service: Option<String>,
    #[command(flatten)]
    often: PingArgs,
    #[command(flatten)]
    protocol: ProtocolArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

const EXAMPLES: &str = "\
Examples:
  bandy rpc ping -e :50051  # until Ctrl-C
  bandy rpc ping -e :50051 -n 3 --json

Exit: 0 all answered · 3 none answered · 7 some did not · see 'bandy help exit-codes'";

/// Runs the command.
///
/// # Errors
/// The endpoint's, and output that cannot be written.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, ping(args, app))
}

async fn ping(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let remote =
        Remote::open(&args.connect, &args.protocol, Wanted::service(args.service.as_deref()), app).await?;
    let service = args.service.as_deref().unwrap_or("");
    let url = remote.url.trim_end_matches(':');
    let trips = ping::round_trips(&args.often, url, app, async |_| {
        let at = Instant::now();
        // A server without the health service answers all the same.
        let health = health::check(&remote, service, ANSWER_MAX).await.map_err(Missed::Once)?;
        let time = at.elapsed();
        let end = (health == Health::NotFound).then(|| health::not_found(service, &remote));
        Ok(Answer { status: health.name(), time, end })
    });
    trips.await
}
