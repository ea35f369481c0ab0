//! The node of `gossip join`: its sockets, and whom it joins.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::Args;
use super::stranger;
use super::tell::{self, Own};
use crate::cli::app::App;
use crate::cli::endpoint::{Endpoint, Pillar};
use crate::cli::exit::{Exit, Failure};
use crate::cli::gossip::{discover, top};
use crate::cli::greet;
use crate::cli::serve::{Harness, Service};
use crate::gossip::agent::ipc;
use crate::gossip::agent::{Agent, KeyFile, KeyFileError, Options, Snapshot};
use crate::gossip::engine::{Config, DATA_TAG, Event, Status};
use crate::gossip::wire::{LABEL_BYTES_MAX, Wrapping};
use crate::transport::{Address, Datagrams, Listener, addresses, own_address};

/// Where Serf's agents listen for commands.
const RPC_ADDRESS: &str = "127.0.0.1:7373";
/// Connections of commands at a time.
const COMMANDS_MAX: usize = 256;

/// How the node ended, if not in order.
pub type Outcome = Arc<Mutex<Option<Failure>>>;

/// Starts the node, and joins.
///
/// # Errors
/// Addresses, keys, seeds.
pub async fn start(
    args: &Args,
    app: &App,
    mut harness: Harness,
    outcome: Outcome,
) -> anyhow::Result<Service> {
    if args.cluster.len() > LABEL_BYTES_MAX {
        let message = format!("a cluster's name has up to {LABEL_BYTES_MAX} bytes");
        return Err(Failure::new(Exit::Usage, message).into());
    }
    let listeners = harness.listeners.drain(..).map(|entrance| entrance.listener);
    let (commands, nodes): (Vec<_>, Vec<_>) =
        listeners.partition(|listener| matches!(listener, Listener::Unix(_)));
    let (datagrams, address) = sockets(args, &nodes).await?;
    let name = args.server.name.clone().unwrap_or_default();
    let (key_file, keyring) = match &args.key_file {
        None => (None, None),
        Some(path) => {
            let read = KeyFile::read(path).map_err(|error| match error {
                KeyFileError::Read { path, source } => Failure::unread(path.display(), &source),
                KeyFileError::Format { .. } => Failure::new(Exit::Usage, error.to_string()),
            })?;
            (Some(read.0), Some(read.1))
        }
    };
    let mut config = Config::new(name.as_str().into(), address, args.profile());
    config.tags = args.tag.iter().cloned().collect();
    config.tags.insert(DATA_TAG.to_owned(), "1".to_owned());
    config.data.mode = args.mode();
    config.data.epoch_ms = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
    config.overhead_bytes += if args.cluster.is_empty() { 0 } else { 2 + args.cluster.len() };
    let tags: Vec<(String, String)> = config.tags.clone().into_iter().collect();
    let seeds = seeds(args, app, &name).await?;
    config.seeds = seeds.addresses.clone();

    let wrapping = Wrapping { label: args.cluster.as_str().into(), keyring };
    let options = Options {
        config,
        wrapping: wrapping.clone(),
        datagrams,
        key_file,
        snapshot: args.snapshot.clone(),
        seed: fastrand::u64(..),
        metrics: harness.metrics.clone(),
    };
    let agent = Agent::start(options, &harness.shutdown)
        .map_err(|refusal| Failure::new(Exit::Usage, refusal.to_string()))?;
    for listener in nodes {
        agent.listen(listener, &harness.acceptor);
    }
    let mut urls = Vec::new();
    let rpc = rpc_listener(args, app).await?;
    if let Some(listener) = &rpc {
        urls.push(format!("serf://{}", listener.address()?));
    }
    serve_commands(&agent, &harness, commands.into_iter().chain(rpc));

    let (ready, is_ready) = watch::channel(false);
    tell::start(args, app, &agent, &harness, is_ready, Own { name, tags });
    end_when_displaced(&agent, &harness, outcome);
    join(args, app, &agent, &seeds).await?;
    if args.well_known && seeds.addresses.is_empty() && !args.alone {
        stranger::tell_of(address, wrapping, app, &harness.shutdown);
    }
    let url = harness.urls.first().cloned().unwrap_or_default();
    let (theme, looked_at) = (crate::cli::top::theme(false, app), agent.clone());
    let show = args.top.view(move || async move { top::show_own(&looked_at, &url, &theme).await });
    let status = agent.clone();
    Ok(Service::with_status(move || status_line(&status)).with_urls(urls).with_top(show).with_ready(
        move || {
            let _ = ready.send(true);
        },
    ))
}

/// Datagrams at the port of the first listener, and where others reach it.
async fn sockets(args: &Args, nodes: &[Listener]) -> anyhow::Result<(Datagrams, SocketAddr)> {
    let no_address = || {
        Failure::new(Exit::Usage, "a node needs an address that others can reach")
            .tip("-l :0    any free port")
    };
    let bound = nodes.first().ok_or_else(no_address)?.address()?;
    let Address::Tcp { host, port } = bound else { return Err(no_address().into()) };
    let datagrams = Datagrams::bind(&Address::Udp { host: host.clone(), port }).await.map_err(|error| {
        Failure::new(Exit::Failed, format!("{error}; streams have this port already"))
            .tip("-l :0    another port")
    })?;
    let advertised = match &args.advertise {
        Some(Address::Tcp { host, port }) => {
            let host = if host.is_empty() { "127.0.0.1" } else { host };
            let found = addresses(host, *port).await;
            let found =
                found.map_err(|error| Failure::new(Exit::Usage, format!("--advertise {host}: {error}")))?;
            found.first().copied()
        }
        Some(_) => return Err(Failure::new(Exit::Usage, "--advertise takes HOST:PORT").into()),
        None => None,
    };
    let local = datagrams.local_address()?;
    let reached = advertised.unwrap_or_else(|| match local.ip().is_unspecified() {
        true => SocketAddr::new(own_address("", local.is_ipv6()), local.port()),
        false => local,
    });
    Ok((datagrams, reached))
}

/// Whom to join.
struct Seeds {
    addresses: Vec<SocketAddr>,
    /// Whether it is a failure if none of them answers.
    demanded: bool,
    failures: Vec<String>,
}

async fn seeds(args: &Args, app: &App, name: &str) -> anyhow::Result<Seeds> {
    let mut seeds = Seeds { addresses: Vec::new(), demanded: !args.seeds.is_empty(), failures: Vec::new() };
    let mut words: Vec<String> =
        args.seeds.iter().flat_map(|seeds| seeds.split(',')).map(str::to_owned).collect();
    if words.is_empty() && !args.alone {
        words = discover::seeds(app, name, &args.cluster).await;
    }
    for word in words {
        match ipc::resolve(&word).await {
            Ok(address) => seeds.addresses.push(address),
            Err(error) => seeds.failures.push(format!("{word}: {error}")),
        }
    }
    if let Some(snapshot) = args.snapshot.as_deref().and_then(Snapshot::read).filter(|last| !last.left) {
        seeds.addresses.extend(snapshot.alive.into_values().take(10));
    }
    seeds.addresses.dedup();
    Ok(seeds)
}

/// Joins all that answer.
async fn join(args: &Args, app: &App, agent: &Agent, seeds: &Seeds) -> anyhow::Result<()> {
    let joins = seeds.addresses.iter().map(|seed| async move {
        agent.join(*seed, args.replay).await.map_err(|error| format!("{seed}: {error}"))
    });
    let outcomes = futures_util::future::join_all(joins).await;
    let failures: Vec<String> = seeds
        .failures
        .iter()
        .cloned()
        .chain(outcomes.iter().filter_map(|o| o.as_ref().err().cloned()))
        .collect();
    let joined = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    if joined == 0 && seeds.demanded {
        return Err(nobody_joined(&failures, args).into());
    }
    for failure in failures {
        app.printer.note(&format!("cannot join {failure}"));
    }
    Ok(())
}

/// No seed lets this node in: none is there, or they have other keys, or something else is there.
fn nobody_joined(failures: &[String], args: &Args) -> Failure {
    let all = failures.join("; ");
    let says = |words: &[&str]| words.iter().any(|words| all.contains(words));
    let failed = |what: &str| Failure::new(Exit::Unreachable, format!("{what} — {all}"));
    // In the words of our nodes, and in those of agents. memberlist, readStream and decryptPayload.
    if args.key_file.is_none() {
        // Agents say so in a form that this node cannot read, and that tells as much.
        if says(&["encrypted"]) {
            return failed("no seed takes what is not encrypted")
                .tip("--key-file FILE    with the key of that cluster");
        }
    } else if says(&["this node has no key", "encryption is not configured", "it is not encrypted"]) {
        let seeds = args.seeds.join(", ");
        let message = format!("no seed encrypts, as --key-file wants it: {seeds}");
        return Failure::new(Exit::Unreachable, message)
            .tip("leave out --key-file, or give the key to the nodes of that cluster first");
    } else if says(&["no key of the ring opens it", "No installed keys could decrypt"]) {
        return failed("no seed knows the key of --key-file")
            .tip("bandy gossip keyring list    at a node of that cluster: the keys that it takes");
    }
    let first = args.seeds.first().and_then(|seeds| seeds.split(',').next());
    let endpoint = first.and_then(|seed| Endpoint::parse(Pillar::Gossip, seed).ok());
    failed("no seed answered")
        .tip("bandy gossip join --alone    be the first node of a cluster")
        .ask(endpoint.and_then(|endpoint| greet::ask(&endpoint, Pillar::Gossip)))
}

async fn rpc_listener(args: &Args, app: &App) -> anyhow::Result<Option<Listener>> {
    let asked = match args.rpc.as_deref() {
        Some("none") => return Ok(None),
        Some(text) => {
            Some(text.parse::<Address>().map_err(|error| Failure::new(Exit::Usage, error.to_string()))?)
        }
        None => None,
    };
    // Whoever chose where to listen gets no port that was not asked for.
    let default = asked.is_none() && args.well_known;
    let address = match &asked {
        Some(address) => address.clone(),
        None if default => RPC_ADDRESS.parse().map_err(anyhow::Error::msg)?,
        None => return Ok(None),
    };
    match Listener::bind(&address).await {
        Ok(listener) => {
            if !address.is_loopback() {
                app.printer
                    .warn("other machines can command this node at its --rpc address: it asks for no key");
            }
            Ok(Some(listener))
        }
        Err(_) if asked.is_none() => Ok(None),
        Err(error) => Err(Failure::new(Exit::Failed, error.to_string()).into()),
    }
}

fn serve_commands(agent: &Agent, harness: &Harness, listeners: impl Iterator<Item = Listener>) {
    let acceptor = harness.acceptor.beside(COMMANDS_MAX);
    for listener in listeners {
        let (agent, shutdown) = (agent.clone(), harness.shutdown.clone());
        let serve = move |stream| ipc::serve(agent.clone(), shutdown.clone(), stream);
        harness.shutdown.spawn(acceptor.clone().run(listener, harness.shutdown.clone(), serve));
    }
}

/// A node whose name another one has, by the word of most others, ends.
fn end_when_displaced(agent: &Agent, harness: &Harness, outcome: Outcome) {
    let (mut events, shutdown, agent) = (agent.watch(), harness.shutdown.clone(), agent.clone());
    harness.shutdown.spawn(async move {
        loop {
            match events.recv().await {
                Ok(event) if *event == Event::Displaced => break,
                Ok(event) if *event == Event::Left => return,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
        let name = agent.with(|core| core.engine().me().name.clone()).await;
        let name = name.map_or_else(|_| String::new(), |name| name.to_string());
        let failure = Failure::new(Exit::Failed, format!("another node of the cluster has the name {name}"))
            .tip("bandy gossip join --name NAME    another name");
        *outcome.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(failure);
        // Not in order: to leave would make the other one leave, in the eyes of all.
        shutdown.stop();
    });
}

/// The node in a line, for SIGUSR1.
fn status_line(agent: &Agent) -> String {
    let (sender, receiver) = std::sync::mpsc::channel();
    let agent = agent.clone();
    let asked = tokio::runtime::Handle::try_current().map(|runtime| {
        runtime.spawn_blocking(move || {
            let runtime = tokio::runtime::Handle::current();
            let counted = runtime.block_on(agent.with(|core| {
                let engine = core.engine();
                let count = |status| engine.members().filter(|member| member.status == status).count();
                (count(Status::Alive), count(Status::Failed), count(Status::Left), engine.awareness())
            }));
            let _ = sender.send(counted);
        })
    });
    let counted = asked.ok().and_then(|_| receiver.recv_timeout(Duration::from_millis(200)).ok());
    match counted {
        Some(Ok((alive, failed, left, score))) => {
            format!("alive {alive}  failed {failed}  left {left}  health score {score}\n")
        }
        Some(Err(_)) | None => "the node does not answer\n".to_owned(),
    }
}
