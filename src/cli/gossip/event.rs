//! `bandy gossip event`: tell all nodes something.

use std::io::Read as _;

use bytes::Bytes;

use super::connect::Node;
use crate::cli::app::App;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::Exit;
use crate::gossip::wire::ipc::Request;

/// Arguments of `gossip event`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bandy gossip event deploy v1.2.3
  date | bandy gossip event tick -         the payload from stdin
  bandy gossip event -e serf://10.0.0.7 deploy v1.2.3

Name and payload have 512 bytes together at most: what is larger does not spread.

Exit: 0 it is on its way · 1 refused · 3 no node · see 'bandy help exit-codes'")]
pub struct Args {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What it says; - for stdin
    #[arg(value_name = "PAYLOAD")]
    pub payload: Option<String>,
    /// Let handlers make one of several events of this name that come together
    #[arg(long)]
    pub coalesce: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// The payload of a command line; `-` is stdin.
///
/// # Errors
/// stdin cannot be read.
pub fn payload(text: Option<&str>) -> anyhow::Result<Bytes> {
    match text {
        Some("-") => {
            let mut bytes = Vec::new();
            std::io::stdin().lock().take(1024 * 1024 + 1).read_to_end(&mut bytes)?;
            Ok(bytes.into())
        }
        text => Ok(Bytes::from(text.unwrap_or_default().to_owned())),
    }
}

/// Runs the command.
///
/// # Errors
/// The node's.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let payload = payload(args.payload.as_deref())?;
    app.client(args.connect.timeout, async {
        let mut node = Node::open(&args.connect, app, "event").await?;
        let (name, coalesce) = (args.name.clone(), args.coalesce);
        node.ask(&Request::Event { name, payload, coalesce }, |_| Ok(())).await?;
        Ok(Exit::Done)
    })
}
