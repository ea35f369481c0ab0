//! `bandy log broker`: partitions for Kafka's clients.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::cli::app::App;
use crate::cli::endpoint::{LOCAL_DEFAULT, Pillar};
use crate::cli::exit::{Exit, Failure};
use crate::cli::serve::{self, Entrance, Harness, Role, ServerArgs, Service, TopArg, open_data, stopping};
use crate::cli::settings::Home;
use crate::log::server::{Advertised, Broker, Counts, Health, Options, Totals, check_setting};
use crate::metrics::{Kind, Registry};
use crate::secret::Secret;
use crate::storage::{self, Durability, Store};
use crate::units::{parse_duration, parse_size};

/// Arguments of `bandy log broker`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy log broker                    # at 127.0.0.1:9092 if free (with TLS 9093), and at local:
  bandy log broker -l :9093 --memory  # nothing on disk
  bandy log broker --dir /var/lib/log --retention 30d --partitions 6
  bandy log broker -l 0.0.0.0:9092 --advertise broker.example.com
  bandy log broker -l kafka://:9092 -l kafkas://:9093 --tls-cert cert.pem --tls-key key.pem
  bandy log broker --config message.timestamp.type=LogAppendTime --config max.message.bytes=10485760

Exit: 0 stopped by a signal · 1 the directory is in use · 2 wrong words or user file · see 'bandy help exit-codes'")]
pub struct Args {
    /// Keep nothing on disk
    #[arg(long, conflicts_with_all = ["dir", "durability"], help_heading = "Data")]
    pub memory: bool,
    /// Where to keep the partitions [default: log/NAME in the directory for this user's state]
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    pub dir: Option<PathBuf>,
    /// What an acknowledgement means: memory, os (written, survives kill -9), group (synced to disk, together), each
    /// (synced alone)
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "group",
        hide_possible_values = true,
        help_heading = "Data"
    )]
    #[arg(hide_short_help = true, value_parser = ["memory", "os", "group", "each"])]
    pub durability: String,
    /// How long records are kept, unless a topic says otherwise; 'forever' for no limit
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = parse_retention, help_heading = "Topics")]
    pub retention: Retention,
    /// How much of a partition is kept, unless a topic says otherwise
    #[arg(hide_short_help = true, long, value_name = "SIZE", value_parser = parse_size, help_heading = "Topics")]
    pub retention_size: Option<u64>,
    /// Partitions of topics whose maker does not say how many
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000), help_heading = "Topics")]
    pub partitions: u32,
    /// Make no topic that nobody asked to be made
    #[arg(hide_short_help = true, long, help_heading = "Topics")]
    pub no_auto_create: bool,
    /// A setting of topics under Kafka's name for it, unless a topic says otherwise
    #[arg(hide_short_help = true, long, value_name = "NAME=VALUE", value_parser = parse_setting, help_heading = "Topics")]
    pub config: Vec<(String, String)>,
    /// Tell clients to come to this host [default: the address at which they came]; PORT=HOST:PORT for those who came to
    /// that port
    #[arg(hide_short_help = true, long, value_name = "[PORT=]HOST[:PORT]", value_parser = Advertise::parse, help_heading = "Server")]
    pub advertise: Vec<Advertise>,
    /// How long the first consumers of an empty group wait for more before they share the partitions
    #[arg(hide_short_help = true, long, value_name = "DURATION", default_value = "50ms", value_parser = parse_duration, help_heading = "Server")]
    pub rebalance_delay: Duration,
    /// Let in only the users of this file over TCP, by SASL PLAIN or SCRAM
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    pub user_file: Option<PathBuf>,
    /// A user who may do everything, whatever access rules say
    #[arg(
        hide_short_help = true,
        long,
        value_name = "USER",
        requires = "user_file",
        help_heading = "Server"
    )]
    pub super_user: Vec<String>,
    /// Refuse what no access rule (ACL) allows; without this, only what some rule is about is refused to others
    #[arg(hide_short_help = true, long, requires = "super_user", help_heading = "Server")]
    pub deny_by_default: bool,
    /// Brokers in this process
    #[arg(hide_short_help = true, long, value_name = "N", default_value_t = 1, help_heading = "Server")]
    pub nodes: u32,

    /// Its topics, live.
    #[command(flatten)]
    pub top: TopArg,
    /// The harness's.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// How long records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention(Option<Duration>);

fn parse_retention(text: &str) -> Result<Retention, String> {
    if text == "forever" {
        return Ok(Retention(None));
    }
    parse_duration(text).map(|age| Retention(Some(age))).map_err(|error| error.to_string())
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, such as retention.ms=86400000")?;
    check_setting(name, value)?;
    Ok((name.to_owned(), value.to_owned()))
}

/// One `--advertise`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertise {
    /// For those who came to that port.
    came_to: Option<u16>,
    host: String,
    port: Option<u16>,
}

impl Advertise {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected HOST, HOST:PORT or PORT=HOST:PORT, got '{text}'");
        let (came_to, rest) = match text.split_once('=') {
            Some((port, rest)) => (Some(port.parse().map_err(|_| wrong())?), rest),
            None => (None, text),
        };
        let (host, port) = match rest.rsplit_once(':') {
            // An IPv6 address without brackets has colons of its own.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, Some(port.parse().map_err(|_| wrong())?))
            }
            _ => (rest, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_host = !host.contains(':') || host.parse::<std::net::Ipv6Addr>().is_ok();
        if host.is_empty() || !is_host || came_to.is_some() && port.is_none() {
            return Err(wrong());
        }
        Ok(Self { came_to, host: host.to_owned(), port })
    }
}

/// Runs the command.
///
/// # Errors
/// A directory that cannot be used; an address that cannot be had.
pub fn run(args: Args, app: &App) -> anyhow::Result<Exit> {
    if args.nodes != 1 {
        return Err(Failure::new(Exit::Usage, "a broker of several nodes is not built yet: --nodes is 1")
            .tip("bandy log broker    one node; its data keeps when there are more")
            .into());
    }
    args.top.check(Pillar::Log)?;
    let dir = data_dir(&args, app)?;
    let durability = match args.durability.as_str() {
        "os" => Durability::Os,
        "each" => Durability::Each,
        _ => Durability::Group,
    };
    let mut options = options(&args);
    if let Some(path) = &args.user_file {
        options.users = read_users(path)?;
        if let Some(stranger) = args.super_user.iter().find(|user| !options.users.contains_key(*user)) {
            let message = format!("--super-user {stranger}: {} has no such user", path.display());
            return Err(Failure::new(Exit::Usage, message).into());
        }
    }
    // With users it lets in only whom it knows.
    let at_home = args.dir.is_none() && dir.is_some();
    let role = Role { guarded: !options.users.is_empty(), at_home, ..Role::from(Pillar::Log) };
    let waits = args.server.detached;
    serve::run(args.server, app, role, async |harness| {
        options.advertised.beside = beside(&harness);
        let store = match &dir {
            None => Store::memory(storage::Options::default()),
            Some(dir) => {
                open_data(waits, || {
                    Store::open(dir, storage::Options { durability, ..storage::Options::default() })
                })
                .await
            }
        };
        let store = store.map_err(|error| cannot_open(dir.as_deref(), &error))?;
        let broker = Broker::open(store, options, harness.shutdown.clone())
            .map_err(|error| cannot_open(dir.as_deref(), &error))?;
        let ending = Arc::clone(&broker);
        let in_memory = Arc::clone(&broker);
        let url = harness.urls.first().cloned().unwrap_or_default();
        let (theme, looked_at) = (crate::cli::top::theme(false, app), Arc::clone(&broker));
        let show = args.top.view(move || async move { super::top::show_own(&looked_at, &url, &theme).await });
        let service = start(&broker, harness).with_top(show).with_end(move || Ok(ending.close()?));
        Ok(match &dir {
            None => service.with_holds(move || in_memory.totals().topics > 0),
            Some(_) => service.with_data(dir),
        })
    })
}

fn options(args: &Args) -> Options {
    let mut topic_defaults: BTreeMap<String, String> = args.config.iter().cloned().collect();
    let retention_ms = args.retention.0.map_or("-1".to_owned(), |age| age.as_millis().to_string());
    topic_defaults.entry("retention.ms".to_owned()).or_insert(retention_ms);
    if let Some(size) = args.retention_size {
        topic_defaults.entry("retention.bytes".to_owned()).or_insert(size.to_string());
    }
    let mut advertised = Advertised::default();
    for Advertise { came_to, host, port } in args.advertise.iter().cloned() {
        match (came_to, port) {
            (Some(came_to), Some(port)) => advertised.by_port.push((came_to, (host, port))),
            _ => advertised.host = Some((host, port)),
        }
    }
    Options {
        auto_create: !args.no_auto_create,
        partitions: args.partitions as usize,
        topic_defaults,
        advertised,
        rebalance_delay: args.rebalance_delay,
        super_users: args.super_user.iter().cloned().collect(),
        is_open: !args.deny_by_default,
        ..Options::default()
    }
}

/// A file of users.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct UserFile {
    users: Vec<User>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    name: String,
    password: String,
}

fn read_users(path: &Path) -> Result<BTreeMap<String, Secret>, Failure> {
    let wrong = |what: String| Failure::new(Exit::Usage, format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| Failure::unread(path.display(), &error))?;
    let file: UserFile = serde_json::from_str(&text).map_err(|error| {
        wrong(format!("not a file of users: {error}"))
            .tip(r#"{"users": [{"name": "alice", "password": "secret"}]}"#)
    })?;
    if file.users.is_empty() {
        return Err(wrong("it has no users, so nobody could come in".to_owned()));
    }
    let mut users = BTreeMap::new();
    for User { name, password } in file.users {
        if name.is_empty() || password.is_empty() {
            return Err(wrong("a user needs a name and a password".to_owned()));
        }
        if users.insert(name.clone(), Secret::new(password)).is_some() {
            return Err(wrong(format!("user '{name}' is there twice")));
        }
    }
    Ok(users)
}

/// Where someone who came through a Unix socket can come over TCP: speaking no TLS, as there, if that is possible.
fn beside(harness: &Harness) -> Option<(String, u16)> {
    let plaintext = harness.listeners.iter().filter(|entrance| !entrance.is_tls);
    let tls = harness.listeners.iter().filter(|entrance| entrance.is_tls);
    plaintext.chain(tls).find_map(Entrance::host_port)
}

/// Where partitions are kept; none for nowhere.
fn data_dir(args: &Args, app: &App) -> anyhow::Result<Option<PathBuf>> {
    if args.memory || args.durability == "memory" {
        if args.dir.is_some() {
            return Err(Failure::new(Exit::Usage, "--durability memory keeps nothing, so --dir has no use")
                .tip("bandy log broker --memory")
                .into());
        }
        return Ok(None);
    }
    let name = args.server.name.as_deref().unwrap_or(LOCAL_DEFAULT);
    let dir = args.dir.clone().unwrap_or_else(|| app.home.state.join("log").join(name));
    if args.dir.is_none() {
        Home::create_private(&dir)
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot use {}: {error}", dir.display())))?;
    }
    Ok(Some(dir))
}

fn cannot_open(dir: Option<&Path>, error: &storage::Error) -> Failure {
    let failure = Failure::new(Exit::Failed, error.to_string());
    match error {
        storage::Error::Locked { holder, .. } => failure
            .tip(format!("{:<28}if that one is not to run any more", stopping(*holder)))
            .tip("bandy log broker --dir DIR   another directory, or --name NAME for one of its own")
            .tip("bandy log broker --memory    nothing on disk"),
        storage::Error::Corrupt { .. } => {
            let dir = dir.unwrap_or(Path::new("the directory")).display();
            failure.tip(format!("it holds the definitions of topics: restore {dir} from a copy"))
        }
        _ => failure,
    }
}

fn start(broker: &Arc<Broker>, mut harness: Harness) -> Service {
    register(&harness.metrics, broker);
    let serving = Arc::clone(broker);
    let broker = Arc::clone(broker);
    harness.accept(move |stream| {
        let broker = Arc::clone(&serving);
        async move { broker.serve(stream).await }
    });
    Service::with_status(move || {
        let Totals { topics, partitions, groups, members } = broker.totals();
        format!("topics {topics}  partitions {partitions}  groups {groups}  members {members}\n")
    })
}

fn register(registry: &Registry, broker: &Arc<Broker>) {
    type Of = fn(&Totals) -> usize;
    type Counted = fn(&Counts) -> &AtomicU64;
    type Fit = fn(&Health) -> u64;
    let totals: [(&'static str, &'static str, Of); 4] = [
        ("bandy_log_topics", "Topics, the broker's own included.", |totals| totals.topics),
        ("bandy_log_partitions", "Partitions of all topics.", |totals| totals.partitions),
        ("bandy_log_groups", "Groups, with members or with offsets.", |totals| totals.groups),
        ("bandy_log_group_members", "Members of all groups.", |totals| totals.members),
    ];
    for (name, help, of) in totals {
        let broker = Arc::clone(broker);
        registry.ask(Kind::Gauge, name, help, move || of(&broker.totals()) as f64);
    }
    let counts: [(&'static str, &'static str, Counted); 4] = [
        ("bandy_log_records_in_total", "Records from producers.", |counts| &counts.records_in),
        ("bandy_log_bytes_in_total", "Bytes of batches from producers.", |counts| &counts.bytes_in),
        ("bandy_log_bytes_out_total", "Bytes of batches to consumers.", |counts| &counts.bytes_out),
        ("bandy_log_requests_total", "Requests.", |counts| &counts.requests),
    ];
    for (name, help, of) in counts {
        let counts = Arc::clone(broker.counts());
        registry.ask(Kind::Counter, name, help, move || of(&counts).load(Ordering::Relaxed) as f64);
    }
    let health: [(Kind, &'static str, &'static str, Fit); 4] = [
        (
            Kind::Gauge,
            "bandy_log_partitions_damaged",
            "Partitions that cannot be opened; those that nobody needed yet are not known.",
            |health| health.unopened,
        ),
        (
            Kind::Gauge,
            "bandy_log_partitions_offline",
            "Partitions that are offline since the disk failed.",
            |health| health.offline,
        ),
        (
            Kind::Counter,
            "bandy_log_torn_tails_total",
            "Ends of partitions that a crash had cut short, and that were cut off.",
            |health| health.torn,
        ),
        (
            Kind::Counter,
            "bandy_log_appends_refused_total",
            "Appends that were refused because the disk is full.",
            |health| health.refused_full,
        ),
    ];
    for (kind, name, help, of) in health {
        let broker = Arc::clone(broker);
        registry.ask(kind, name, help, move || of(&broker.health()) as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advertised_addresses_have_three_forms() {
        let parsed = |text: &str| Advertise::parse(text).map(|one| (one.came_to, one.host, one.port));
        assert_eq!(parsed("broker"), Ok((None, "broker".to_owned(), None)));
        assert_eq!(parsed("broker:9092"), Ok((None, "broker".to_owned(), Some(9092))));
        assert_eq!(parsed("9094=localhost:19094"), Ok((Some(9094), "localhost".to_owned(), Some(19094))));
        assert_eq!(parsed("[::1]:9092"), Ok((None, "::1".to_owned(), Some(9092))));
        assert_eq!(parsed("fe80::1"), Ok((None, "fe80::1".to_owned(), None)));
        for wrong in ["", ":9092", "9094=localhost", "x=localhost:1", "host:port"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
