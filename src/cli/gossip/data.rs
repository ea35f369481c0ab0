//! `bandy gossip set`, `get`, `del` and `keys`: values that all nodes of bandy in a cluster come to have.

use bytes::Bytes;
use serde_json::json;

use super::complete;
use super::connect::Node;
use super::event::payload;
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::gossip::wire::ipc::{DataRow, Request, read_data};
use crate::output::{Column, Format, Separators};
use crate::record::{Embed, Record};

/// Arguments of `gossip set`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy gossip set limit 100            # all our nodes in the cluster have it within seconds
  bandy gossip set config - < app.toml  # up to 1 MiB; large values are fetched, not pushed
  bandy gossip watch --event data       # see changes as they come

Of two values that are set at once the one with the larger version stays, on all nodes the same. Real Serf agents are \
members of the same cluster and do not see keys.

Exit: 0 set · 1 refused · 3 no node · see 'bandy help exit-codes'")]
pub struct SetArgs {
    /// The key
    #[arg(value_name = "KEY", add = completions::remote(complete::keys))]
    pub key: String,
    /// Its value; - for stdin
    #[arg(value_name = "VALUE")]
    pub value: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Arguments of `gossip get`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy gossip get limit
  bandy gossip get limit --json | jq .version

Exit: 0 printed · 3 no node · 5 no such key · see 'bandy help exit-codes'")]
pub struct GetArgs {
    /// The key
    #[arg(value_name = "KEY", add = completions::remote(complete::keys))]
    pub key: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Arguments of `gossip del`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy gossip del limit

That it was deleted is told and kept like a value, so that nobody who was away brings it back.

Exit: 0 deleted · 3 no node · 5 no such key · see 'bandy help exit-codes'")]
pub struct DelArgs {
    /// The key
    #[arg(value_name = "KEY", add = completions::remote(complete::keys))]
    pub key: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Arguments of `gossip keys`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy gossip keys       # all keys: KEY VERSION WRITER VALUE
  bandy gossip keys app.  # those that begin so
  bandy gossip keys --json

Exit: 0 listed · 3 no node · 6 none · see 'bandy help exit-codes'")]
pub struct KeysArgs {
    /// What keys begin with
    #[arg(value_name = "PREFIX", add = completions::remote(complete::keys), default_value = "", hide_default_value = true)]
    pub prefix: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Sets a key.
///
/// # Errors
/// The node's.
pub fn set(args: &SetArgs, app: &App) -> anyhow::Result<Exit> {
    let value = payload(Some(&args.value))?;
    app.client(args.connect.timeout, async {
        let mut node = Node::open(&args.connect, app, "set").await?;
        node.ask(&Request::Set { key: args.key.clone(), value: Some(value) }, |_| Ok(())).await?;
        Ok(Exit::Done)
    })
}

async fn find(node: &mut Node, key: &str) -> Result<DataRow, Failure> {
    let request = Request::Get { key: key.to_owned(), prefix: false };
    let found = node.ask(&request, read_data).await?;
    found.into_iter().next().ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("no key '{key}' at {}", node.url))
            .there_for("bandy gossip keys", "which there are")
    })
}

/// Prints the value of a key.
///
/// # Errors
/// The node's, and output that cannot be written.
pub fn get(args: &GetArgs, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, async {
        let mut node = Node::open(&args.connect, app, "get").await?;
        let row = find(&mut node, &args.key).await?;
        match app.printer.look().format {
            Format::Auto | Format::Value | Format::Plain | Format::Table => {
                app.printer.bytes(&row.value)?;
                if !row.value.ends_with(b"\n") {
                    app.printer.bytes(b"\n")?;
                }
            }
            Format::Json | Format::Csv | Format::Template(_) => {
                let mut records = app.printer.records(Separators::default(), Embed::Never);
                records.write(&Record {
                    key: Some(Bytes::from(row.key)),
                    value: Some(row.value),
                    headers: Vec::new(),
                    timestamp: None,
                    provenance: vec![("version", json!(row.version)), ("node", json!(row.writer))],
                })?;
            }
        }
        Ok(Exit::Done)
    })
}

/// Deletes a key.
///
/// # Errors
/// The node's.
pub fn del(args: &DelArgs, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, async {
        let mut node = Node::open(&args.connect, app, "del").await?;
        find(&mut node, &args.key).await?;
        node.ask(&Request::Set { key: args.key.clone(), value: None }, |_| Ok(())).await?;
        Ok(Exit::Done)
    })
}

/// Lists keys.
///
/// # Errors
/// The node's, and output that cannot be written.
pub fn keys(args: &KeysArgs, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, async {
        let mut node = Node::open(&args.connect, app, "keys").await?;
        let request = Request::Get { key: args.prefix.clone(), prefix: true };
        let rows = node.ask(&request, read_data).await?;
        if rows.is_empty() {
            return Err(Failure::new(Exit::Nothing, format!("no keys at {}", node.url)).into());
        }
        let columns =
            [Column::left("key"), Column::right("version"), Column::left("writer"), Column::left("value")];
        let mut list = app.printer.list(&columns);
        for row in &rows {
            let mut value = serde_json::Map::new();
            value.insert("key".to_owned(), json!(row.key));
            value.insert("version".to_owned(), json!(row.version));
            value.insert("writer".to_owned(), json!(row.writer));
            match std::str::from_utf8(&row.value) {
                Ok(text) => value.insert("value".to_owned(), json!(text)),
                Err(_) => {
                    use base64::prelude::{BASE64_STANDARD, Engine as _};
                    value.insert("value_base64".to_owned(), json!(BASE64_STANDARD.encode(&row.value)))
                }
            };
            list.row(&value)?;
        }
        list.finish()?;
        Ok(Exit::Done)
    })
}
