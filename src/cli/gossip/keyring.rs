//! `bandy gossip keygen` and `keyring`: keys that encrypt a cluster, and their rotation.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Read as _};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Serialize;
use serde_json::json;

use super::connect::Node;
use crate::cli::app::App;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::figures::counted;
use crate::gossip::agent::decode_key;
use crate::gossip::wire::ipc::{KeysReply, Request};
use crate::output::{Column, Format};

/// Longest line that is read for a key.
const KEY_LINE_BYTES_MAX: u64 = 1024;

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

Exit: 0 all nodes did it · 1 none did · 3 no node · 7 some did not · see 'bandy help exit-codes'")]
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
    /// None of a Serf agent, which does not tell.
    primary: Option<u64>,
}

/// A key of a command line, or a line of stdin.
fn key(args: &Args) -> anyhow::Result<String> {
    let key = match args.key.as_deref() {
        Some("-") => {
            let mut line = String::new();
            std::io::stdin().lock().take(KEY_LINE_BYTES_MAX).read_line(&mut line)?;
            line.trim().to_owned()
        }
        key => key.unwrap_or_default().to_owned(),
    };
    match decode_key(&key) {
        Ok(_) => Ok(key),
        Err(why) => Err(Failure::new(Exit::Usage, why).tip("bandy gossip keygen    makes one").into()),
    }
}

/// Runs the command.
///
/// # Errors
/// The node's, and those of others of its cluster.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let request = match args.what.as_str() {
        "install" => Request::InstallKey { key: key(args)? },
        "use" => Request::UseKey { key: key(args)? },
        "remove" => Request::RemoveKey { key: key(args)? },
        _ if args.key.is_some() => {
            return Err(Failure::new(Exit::Usage, "'list' takes no key: it lists all of them").into());
        }
        _ => Request::ListKeys,
    };
    app.client(args.connect.timeout, async {
        let mut node = Node::open(&args.connect, app, "keyring").await?;
        let asked = node.client.ask_all(&request, KeysReply::read).await;
        let (reply, failed) = asked.map_err(|error| node.failure(&error))?;
        if request == Request::ListKeys {
            let columns = [Column::left("key"), Column::right("nodes"), Column::right("primary")];
            let mut list = app.printer.list(&columns);
            let told = reply.primaries.keys().any(|key| !key.is_empty());
            for (key, nodes) in &reply.keys {
                let primary = told.then(|| reply.primaries.get(key).copied().unwrap_or(0));
                list.row(&Row { key: key.clone(), nodes: *nodes, primary })?;
            }
            list.finish()?;
        }
        if failed.is_some() {
            return Err(failure(&reply, &node.url).into());
        }
        if request != Request::ListKeys {
            app.printer.status(&format!("{} of {} did it", reply.responses, counted(reply.nodes, "node")));
        }
        for (why, nodes) in by_message(&reply) {
            app.printer.note(&format!("{}: {why}", nodes.join(", ")));
        }
        Ok(Exit::Done)
    })
}

/// What nodes said, and which.
fn by_message(reply: &KeysReply) -> BTreeMap<&str, Vec<&str>> {
    let mut nodes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (node, message) in reply.messages.iter().filter(|(_, message)| !message.is_empty()) {
        nodes.entry(message).or_default().push(node);
    }
    nodes
}

/// Not all nodes did it: who did not, and why.
fn failure(reply: &KeysReply, url: &str) -> Failure {
    let did = reply.responses.saturating_sub(reply.errors);
    let said = by_message(reply).into_iter().map(|(why, nodes)| format!("{}: {why}", nodes.join(", ")));
    let mut why: Vec<String> = said.collect();
    match reply.nodes.saturating_sub(reply.responses) {
        0 => {}
        silent => why.push(format!("{} did not answer", counted(silent, "node"))),
    }
    let exit = if did == 0 { Exit::Failed } else { Exit::Partly };
    let message = format!("{url}: {did} of {} did it — {}", counted(reply.nodes, "node"), why.join("; "));
    Failure::new(exit, message)
}
