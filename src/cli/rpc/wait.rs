//! `bandy rpc wait`: until a server, or one of its services, is ready for calls.

use std::time::Duration;

use tokio::time::Instant;

use super::complete;
use super::health::{self, Health};
use super::remote::{ProtocolArgs, Remote, Wanted};
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure, within};

/// Arguments of `rpc wait`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Wait for this service, not for the whole server
    #[arg(add = completions::remote(complete::services))]
    pub service: Option<String>,
    #[command(flatten)]
    protocol: ProtocolArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

const EXAMPLES: &str = "\
Examples:
  bandy rpc wait -e :50051  # until it is SERVING, at most 30 s
  bandy rpc wait -e :50051 demo.Greeter --timeout 5s

Exit: 0 ready · 124 not within --timeout · see 'bandy help exit-codes'";

/// Time to wait unless --timeout says otherwise.
const WAIT_DEFAULT: Duration = Duration::from_secs(30);
/// Longest wait for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// First and longest pause between two questions.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Runs the command.
///
/// # Errors
/// Not ready in time.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(None, wait(args, app))
}

async fn wait(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let limit = args.connect.timeout.unwrap_or(WAIT_DEFAULT);
    let deadline = Instant::now() + limit;
    let service = args.service.as_deref().unwrap_or("");
    let (mut pause, mut latest) = (PAUSE.0, String::from("no answer"));
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let asked = tokio::time::timeout(left, ask(args, service, app)).await;
        match asked {
            Ok(Ok(Health::Serving | Health::Unchecked)) => return Ok(Exit::Done),
            Ok(Ok(health)) => {
                latest = format!("{} is {}", if service.is_empty() { "it" } else { service }, health.name())
            }
            // Words that are wrong stay wrong; a server that is not there may come.
            Ok(Err(error)) if is_lasting(&error) => return Err(error),
            Ok(Err(error)) => latest = error.to_string(),
            Err(_) => {}
        }
        if Instant::now() + pause >= deadline {
            return Err(Failure::new(Exit::Timeout, format!("not ready {} — {latest}", within(limit))).into());
        }
        app.printer.detail(&latest);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

async fn ask(args: &Args, service: &str, app: &App) -> anyhow::Result<Health> {
    // Opened anew each time: at local: another server may have come.
    let remote =
        Remote::open(&args.connect, &args.protocol, Wanted::service(args.service.as_deref()), app).await?;
    Ok(health::check(&remote, service, ANSWER_MAX).await?)
}

fn is_lasting(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Failure>().is_some_and(|failure| matches!(failure.exit, Exit::Usage | Exit::Denied))
}
