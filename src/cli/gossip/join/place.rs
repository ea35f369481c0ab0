//! The name and the port of a node that was given none: the first that are free, so that a second terminal needs no words.

use std::fs::File;

use crate::cli::app::App;
use crate::cli::endpoint::Pillar;
use crate::cli::exit::{Exit, Failure};
use crate::cli::serve::{Listen, ServerArgs, Speaks};
use crate::cli::settings::Home;
use crate::transport::{Address, Datagrams, Listener, Stream};

/// The port that nodes look at first.
pub const PORT: u16 = 7946;
/// How many ports after it are tried.
const PORTS_MAX: u16 = 200;
/// How many names are tried.
const NAMES_MAX: u32 = 10_000;

/// Held while names and ports are chosen: two nodes that start at once must not choose the same.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "closing it unlocks")] File);

/// Fills in the name and the address, if they were not said. The lock is to be held until both are taken.
///
/// # Errors
/// No directory for sockets, or no name or port is free.
pub fn choose(server: &mut ServerArgs, app: &App) -> anyhow::Result<Option<Lock>> {
    let folder = app.home.runtime.join(Pillar::Gossip.name());
    Home::create_private(&folder)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot use {}: {error}", folder.display())))?;
    let lock = File::create(folder.join("lock"))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)?;
    let runtime = app.client_runtime()?;
    // `-l local:NAME` is a name as well.
    let named = server.listen.iter().find_map(|listen| match listen {
        Listen::Local(name) => Some(name.clone()),
        Listen::At(..) => None,
    });
    server.listen.retain(|listen| matches!(listen, Listen::At(..)));
    let named = named.filter(|name| name != crate::cli::endpoint::LOCAL_DEFAULT);
    if server.name.is_none() {
        server.name = Some(match named {
            Some(name) => name,
            None => runtime.block_on(free_name(app))?,
        });
    }
    if server.listen.is_empty() {
        let port = runtime.block_on(free_port())?;
        server.listen.push(Listen::At(Address::tcp("127.0.0.1", port), Speaks::WhatItCan));
    }
    Ok(Some(Lock(lock)))
}

/// The first of n1, n2, … whose socket nobody listens at.
async fn free_name(app: &App) -> Result<String, Failure> {
    for name in (1..=NAMES_MAX).map(|number| format!("n{number}")) {
        let path = app.home.socket(Pillar::Gossip, &name);
        if !path.exists() || Stream::connect(&Address::Unix(path)).await.is_err() {
            return Ok(name);
        }
    }
    Err(Failure::new(Exit::Failed, format!("{NAMES_MAX} nodes of yours are running")).tip("--name NAME"))
}

/// The first port that is free for streams and datagrams.
async fn free_port() -> Result<u16, Failure> {
    let host = || "127.0.0.1".to_owned();
    for port in PORT..PORT + PORTS_MAX {
        let stream = Listener::bind(&Address::Tcp { host: host(), port }).await;
        let datagrams = Datagrams::bind(&Address::Udp { host: host(), port }).await;
        if stream.is_ok() && datagrams.is_ok() {
            return Ok(port);
        }
    }
    let last = PORT + PORTS_MAX - 1;
    Err(Failure::new(Exit::Failed, format!("no port from {PORT} to {last} is free"))
        .tip("-l :0    listen at any port that is"))
}
