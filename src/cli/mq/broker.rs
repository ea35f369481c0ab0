//! `bandy mq broker`: queues for RabbitMQ's clients.

mod admin;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::cli::app::App;
use crate::cli::endpoint::{LOCAL_DEFAULT, Pillar};
use crate::cli::exit::{Exit, Failure};
use crate::cli::serve::{self, Harness, Role, ServerArgs, Service, TopArg, open_data, stopping};
use crate::cli::settings::Home;
use crate::metrics::{self, Registry};
use crate::mq::durable::{self, Durable};
use crate::mq::engine::{Compat, Config, Totals};
use crate::mq::server::{Broker, By, Limits, Management, Process, Users};
use crate::storage;
use crate::units::{parse_duration, parse_size};
use admin::Admin;

/// Waiting messages in memory, in bytes, above which stored ones are kept on disk only: enough for a fast queue.
const PAGE_ABOVE: u64 = 64 << 20;
/// The same for messages that are stored nowhere: those are written to files that end with the broker.
const SPILL_ABOVE: u64 = 128 << 20;

/// Where the system's memory cannot be asked for, so much is taken to be there.
const MEMORY_ASSUMED: u64 = 2 << 30;

/// Arguments of `bandy mq broker`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy mq broker                        # at 127.0.0.1:5672 if free (with TLS 5671), and at local:
  bandy mq broker -l :5673 --memory      # nothing on disk; guest, guest, from this machine only
  bandy mq broker --dir /var/lib/queues  # durable queues and persistent messages are there
  bandy mq broker -l :0 --admin :0       # with RabbitMQ's management API, its URL printed second
  bandy mq broker -l amqp://:5672 -l amqps://:5671 --tls-cert cert.pem --tls-key key.pem

Exit: 0 stopped by a signal · 1 the directory is in use · 2 wrong words or user file · see 'bandy help exit-codes'")]
pub struct Args {
    /// Keep nothing on disk
    #[arg(long, conflicts_with_all = ["dir", "durability", "disk_free_min"], help_heading = "Data")]
    pub memory: bool,
    /// Where to keep durable queues and their messages [default: mq/NAME in the directory for this user's state]
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    pub dir: Option<PathBuf>,
    /// What a confirm means: memory, os (written, survives kill -9), group (synced to disk, together), each (synced alone)
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "group",
        hide_possible_values = true,
        help_heading = "Data"
    )]
    #[arg(hide_short_help = true, value_parser = ["memory", "os", "group", "each"])]
    pub durability: String,
    /// Free space on the disk below which publishers are blocked
    #[arg(hide_short_help = true, long, value_name = "SIZE", default_value = "50MB", value_parser = parse_size, help_heading = "Data")]
    pub disk_free_min: u64,
    /// Waiting messages in memory above which publishers are blocked [default: 40% of the machine's]
    #[arg(hide_short_help = true, long, value_name = "SIZE", value_parser = parse_size, help_heading = "Data")]
    pub memory_max: Option<u64>,
    /// How long a delivery may stay unacknowledged before its channel is closed, unless its queue says otherwise
    /// (x-consumer-timeout, policy consumer-timeout); 0 for any time
    #[arg(hide_short_help = true, long, value_name = "DURATION", default_value = "30m", value_parser = parse_duration, help_heading = "Access")]
    pub consumer_timeout: Duration,
    /// Users, virtual hosts and permissions: JSON as rabbitmqctl export_definitions writes it
    #[arg(long, value_name = "FILE", help_heading = "Access")]
    pub user_file: Option<PathBuf>,
    /// What is defined at the start, unless earlier runs have it: queues, users, policies, …: JSON as
    /// rabbitmqctl export_definitions writes it
    #[arg(hide_short_help = true, long, value_name = "FILE", help_heading = "Data")]
    pub definitions: Option<PathBuf>,
    /// Serve RabbitMQ's management API there, too: HOST:PORT, :PORT, https://HOST:PORT; the broker's own addresses have
    /// it unless this is none [default: 127.0.0.1:15672 if it is free and the broker listens at 5672]
    #[arg(long, value_name = "ADDR", value_parser = Admin::parse, help_heading = "Server")]
    pub admin: Option<Admin>,
    /// Which RabbitMQ to be like where versions differ
    #[arg(hide_short_help = true, long, value_name = "MAJOR", default_value = "3", value_parser = ["3", "4"], help_heading = "Access")]
    pub compat: String,

    /// Its queues, live.
    #[command(flatten)]
    pub top: TopArg,
    /// The harness's.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Runs the command.
///
/// # Errors
/// A wrong user file; an address that cannot be had.
pub fn run(args: Args, app: &App) -> anyhow::Result<Exit> {
    args.top.check(Pillar::Mq)?;
    let dir = data_dir(&args, app)?;
    let definitions = args.definitions.as_deref().map(read_definitions).transpose()?;
    let users = match &args.user_file {
        None if has_users(definitions.as_ref()) => Users::nobody(),
        None => Users::default(),
        Some(path) => {
            let text =
                std::fs::read_to_string(path).map_err(|error| Failure::unread(path.display(), &error))?;
            Users::parse(&text)
                .map_err(|error| Failure::new(Exit::Usage, format!("{}: {error}", path.display())))?
        }
    };
    let compat = if args.compat == "4" { Compat::V4 } else { Compat::V3 };
    let limits = Limits { memory_max: args.memory_max.unwrap_or_else(memory_max), ..Limits::like(compat) };
    let config = Config {
        page_above: PAGE_ABOVE.min(limits.memory_max / 4),
        spill_above: SPILL_ABOVE.min(limits.memory_max / 2),
        consumer_timeout_ms: timeout_ms(args.consumer_timeout),
        ..Config::like(compat)
    };
    let keeping = dir.map(|dir| durable::Options {
        dir,
        durability: match args.durability.as_str() {
            "os" => storage::Durability::Os,
            "each" => storage::Durability::Each,
            _ => storage::Durability::Group,
        },
        disk_free_min: args.disk_free_min,
    });
    // It lets in only whom it knows; guest only from this machine.
    let at_home = args.dir.is_none() && keeping.is_some();
    let certified_beside = args.admin.as_ref().is_some_and(Admin::is_tls);
    let role = Role { guarded: true, at_home, certified_beside, ..Role::from(Pillar::Mq) };
    let waits = args.server.detached;
    serve::run(args.server, app, role, async |harness| {
        let opened = admin::open(args.admin.as_ref(), &harness, app).await?;
        let urls = opened.urls();
        let durable = match &keeping {
            Some(options) => Some(Arc::new(open(options, waits).await?)),
            None => None,
        };
        let broker = Broker::new(users, limits, &config, durable.clone(), harness.shutdown.clone());
        if let Some(durable) = &durable {
            durable.start()?;
            stop_on_failure(durable, &harness);
        }
        if let Some(definitions) = &definitions {
            let path = args.definitions.unwrap_or_default();
            let imported = broker.import_at_start(definitions).await;
            imported.map_err(|error| Failure::new(Exit::Usage, format!("{}: {error}", path.display())))?;
        }
        let is_off = opened.is_off;
        let management = admin::serve(opened, &broker, &harness);
        let url = harness.urls.first().cloned().unwrap_or_default();
        let (theme, looked_at) = (crate::cli::top::theme(false, app), Arc::clone(&management));
        let show = args.top.view(move || async move { super::top::show_own(&looked_at, &url, &theme).await });
        let answering = if is_off { None } else { Some(management) };
        let service = start(&broker, answering, harness).with_urls(urls).with_top(show);
        let service = service.with_holds(move || broker.would_lose());
        Ok(match durable {
            None => service,
            Some(durable) => {
                service.with_data(Some(durable.dir().to_owned())).with_end(move || end(&durable))
            }
        })
    })
}

/// In milliseconds; none for any time.
fn timeout_ms(timeout: Duration) -> Option<u64> {
    (!timeout.is_zero()).then(|| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
}

/// Where durable queues are kept; none for nowhere.
fn data_dir(args: &Args, app: &App) -> anyhow::Result<Option<PathBuf>> {
    if args.memory || args.durability == "memory" {
        if args.dir.is_some() {
            return Err(Failure::new(Exit::Usage, "--durability memory keeps nothing, so --dir has no use")
                .tip("bandy mq broker --memory")
                .into());
        }
        return Ok(None);
    }
    let name = args.server.name.as_deref().unwrap_or(LOCAL_DEFAULT);
    let dir = args.dir.clone().unwrap_or_else(|| app.home.state.join("mq").join(name));
    if args.dir.is_none() {
        Home::create_private(&dir)
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot use {}: {error}", dir.display())))?;
    }
    Ok(Some(dir))
}

/// A broker that cannot keep what is declared makes no promises: it stops.
fn stop_on_failure(durable: &Arc<Durable>, harness: &Harness) {
    let (durable, shutdown) = (Arc::clone(durable), harness.shutdown.clone());
    harness.shutdown.spawn(async move {
        tokio::select! {
            () = durable.failed() => shutdown.drain(),
            () = shutdown.draining() => {}
        }
    });
}

fn end(durable: &Durable) -> anyhow::Result<()> {
    let closed = durable.close();
    if let Some(error) = durable.failure() {
        let dir = durable.dir().display();
        return Err(Failure::new(Exit::Failed, format!("definitions cannot be stored: {error}"))
            .tip(format!("look at the disk of {dir} first (dmesg), then start the broker anew"))
            .into());
    }
    Ok(closed?)
}

async fn open(options: &durable::Options, waits: bool) -> anyhow::Result<Durable> {
    let opened = open_data(waits, || Durable::open(options.clone())).await;
    opened.map_err(|error| cannot_open(&options.dir, &error).into())
}

fn cannot_open(dir: &Path, error: &storage::Error) -> Failure {
    let failure = Failure::new(Exit::Failed, error.to_string());
    match error {
        storage::Error::Locked { holder, .. } => failure
            .tip(format!("{:<28}if that one is not to run any more", stopping(*holder)))
            .tip("bandy mq broker --dir DIR   another directory, or --name NAME for one of its own")
            .tip("bandy mq broker --memory    nothing on disk"),
        storage::Error::Corrupt { .. } => {
            failure.tip(format!("it holds the definitions of queues: restore {} from a copy", dir.display()))
        }
        _ => failure,
    }
}

fn start(broker: &Arc<Broker>, management: Option<Arc<Management>>, mut harness: Harness) -> Service {
    register(&harness.metrics, broker);
    let serving = Arc::clone(broker);
    let broker = Arc::clone(broker);
    harness.accept(move |stream| {
        let (broker, management) = (Arc::clone(&serving), management.clone());
        async move {
            match &management {
                Some(management) => broker.serve_with(management, stream).await,
                None => broker.serve(stream).await,
            }
        }
    });
    Service::with_status(move || {
        let Totals { connections, channels, queues, consumers, ready, unacked, .. } = broker.totals();
        format!(
            "connections {connections}  channels {channels}  queues {queues}  consumers {consumers}  \
            ready {ready}  unacked {unacked}\n"
        )
    })
}

fn read_definitions(path: &Path) -> Result<serde_json::Value, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::unread(path.display(), &error))?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::new(Exit::Usage, format!("{}: not a file of definitions: {error}", path.display()))
    })
}

/// Who defines users wants no other: RabbitMQ makes no guest then.
fn has_users(definitions: Option<&serde_json::Value>) -> bool {
    let users = definitions.and_then(|file| file.get("users")?.as_array());
    users.is_some_and(|users| !users.is_empty())
}

/// RabbitMQ's pages, under RabbitMQ's names where the meaning is the same.
fn register(registry: &Registry, broker: &Arc<Broker>) {
    for (path, by) in [(metrics::PATH, By::Broker), ("/metrics/per-object", By::Object)] {
        let broker = Arc::clone(broker);
        registry.page(path, move || {
            let memory = serve::resident_bytes().unwrap_or(0);
            broker.prometheus(by, Process { memory, descriptors: serve::open_descriptors() })
        });
    }
}

/// RabbitMQ's watermark: 40% of the machine's memory.
fn memory_max() -> u64 {
    let info = rustix::system::sysinfo();
    let total = info.totalram.saturating_mul(u64::from(info.mem_unit.max(1)));
    if total == 0 { MEMORY_ASSUMED } else { total / 10 * 4 }
}
