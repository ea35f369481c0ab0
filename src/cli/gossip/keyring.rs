//! `bandy gossip keygen` and `keyring`: keys that encrypt a cluster, and their rotation.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Serialize;
use serde_json::json;

use super::connect::Node;
use crate::cli::app::App;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::figures::counted;
use crate::gossip::wire::ipc::{KeysReply, Request};
use crate::output::{Column, Format};

/// Arguments of `gossip keygen`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy gossip keygen > key && chmod 600 key
  bandy gossip join --key-file key

It is random bytes in base64: 32, as 'serf keygen' prints them, unless --bits says otherwise.")]
pub struct KeygenArgs {
    /// How long the key is: AES-128, AES-192 or AES-256
    #[arg(long, value_name = "N", default_value = "256", value_parser = ["128", "192", "256"])]
    pub bits: String,
}

/// Prints a new key.
///
/// # Errors
/// The system has no random numbers.
pub fn keygen(args: &KeygenArgs, app: &App) -> anyhow::Result<Exit> {
    let mut key = [0; 32];
    let key = match args.bits.as_str() {
        "128" => &mut key[..16],
        "192" => &mut key[..24],
        _ => &mut key[..],
    };
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), key)
        .map_err(|_| Failure::new(Exit::Failed, "the system has no random numbers"))?;
    let key = BASE64_STANDARD.encode(key);
    match app.printer.look().format {
        Format::Json => app.printer.json(&json!({"key": key}))?,
        _ => app.printer.line(&key)?,
    }
    Ok(Exit::Done)
}

/// Arguments of `gossip keyring`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy gossip keyring list          # which keys there are, and how many nodes have each
  new=$(bandy gossip keygen)
  bandy gossip keyring install $new  # every node can open what is sealed with it
  bandy gossip keyring use $new      # every node seals with it
  bandy gossip keyring remove $old   # nobody opens what is sealed with the old one

A key on a command line is seen by whoever lists processes: - reads it from stdin.

Exit: 0 all nodes did it · 1 some did not · 3 no node · see 'bandy help exit-codes'")]
pub struct Args {
    /// What to do
    #[arg(value_name = "DO", value_parser = ["list", "install", "use", "remove"])]
    pub what: String,
    /// The key in base64; - for stdin
    #[arg(value_name = "KEY", required_if_eq_any = [("what", "install"), ("what", "use"), ("what", "remove")])]
    pub key: Option<String>,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Serialize)]
struct Row {
    key: String,
    nodes: u64,
    primary: u64,
}

/// Runs the command.
///
/// # Errors
/// The node's, and those of others of its cluster.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let key = match args.key.as_deref() {
        Some("-") => {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line)?;
            line.trim().to_owned()
        }
        key => key.unwrap_or_default().to_owned(),
    };
    let request = match args.what.as_str() {
        "install" => Request::InstallKey { key },
        "use" => Request::UseKey { key },
        "remove" => Request::RemoveKey { key },
        _ => Request::ListKeys,
    };
    app.client(args.connect.timeout, async {
        let mut node = Node::open(&args.connect, app, "keyring").await?;
        let reply = node.ask(&request, KeysReply::read).await?;
        if request == Request::ListKeys {
            let columns = [Column::left("key"), Column::right("nodes"), Column::right("primary")];
            let mut list = app.printer.list(&columns);
            for (key, nodes) in &reply.keys {
                let primary = reply.primaries.get(key).copied().unwrap_or(0);
                list.row(&Row { key: key.clone(), nodes: *nodes, primary })?;
            }
            list.finish()?;
        } else {
            app.printer.status(&format!("{} of {} did it", reply.responses, counted(reply.nodes, "node")));
        }
        Ok(Exit::Done)
    })
}
