//! This user's own nodes on this machine: whom a command asks, and whom a new node joins.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::cli::app::App;
use crate::cli::endpoint::Pillar;
use crate::gossip::client::Client;
use crate::gossip::wire::ipc::{Request, Stats, read_stats};
use crate::transport::{Address, ConnectOptions};

/// How long one of them may take to answer: it is on this machine.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// A node's socket.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its name: `local:NAME`.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Since when.
    since: SystemTime,
}

/// All sockets, whether somebody listens or not, the newest first.
pub fn sockets(app: &App) -> Vec<Found> {
    let folder = app.home.runtime.join(Pillar::Gossip.name());
    let mut found: Vec<Found> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let path = entry.path();
            let name = path.file_name()?.to_str()?.strip_suffix(".sock")?.to_owned();
            let since = entry.metadata().and_then(|metadata| metadata.modified()).ok()?;
            Some(Found { name, path, since })
        })
        .collect();
    found.sort_by(|a, b| b.since.cmp(&a.since).then_with(|| b.name.cmp(&a.name)));
    found
}

fn options() -> ConnectOptions {
    ConnectOptions { timeout: ANSWER_TIMEOUT, ..ConnectOptions::default() }
}

async fn connect(found: &Found) -> Option<Client> {
    let (address, options) = (Address::Unix(found.path.clone()), options());
    let connecting = Client::connect(&address, &options, None);
    tokio::time::timeout(ANSWER_TIMEOUT, connecting).await.ok()?.ok()
}

/// The newest node that answers.
pub async fn newest(app: &App) -> Option<Found> {
    for found in sockets(app) {
        if connect(&found).await.is_some() {
            return Some(found);
        }
    }
    None
}

/// Where the nodes of a cluster receive that answer, but for one's own. Those that may be somebody else's are not asked:
/// who says that it is a node of this user's decides which cluster is joined.
pub async fn seeds(app: &App, own: &str, cluster: &str) -> Vec<String> {
    let mut seeds = Vec::new();
    for found in sockets(app).into_iter().filter(|found| found.name != own) {
        if let Err(failure) = app.home.trust(Pillar::Gossip, &found.name) {
            app.printer.warn(&format!("not joining local:{}: {}", found.name, failure.message));
            continue;
        }
        let Some(mut client) = connect(&found).await else { continue };
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, client.ask(&Request::Stats, read_stats)).await;
        let Ok(Ok(stats)) = asked else { continue };
        if figure(&stats, "cluster") == Some(cluster)
            && let Some(address) = figure(&stats, "address")
        {
            seeds.push(address.to_owned());
        }
    }
    seeds
}

/// A figure that only nodes of bandy have.
pub fn figure<'a>(stats: &'a Stats, name: &str) -> Option<&'a str> {
    stats.get("bandy")?.get(name).map(String::as_str)
}
