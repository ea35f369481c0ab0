//! `bandy mq broker`: queues for RabbitMQ's clients.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cli::app::App;
use crate::cli::endpoint::Pillar;
use crate::cli::exit::{Exit, Failure};
use crate::cli::serve::{self, Harness, Role, ServerArgs, Service};
use crate::metrics::{Kind, Registry};
use crate::mq::engine::{Compat, Config, Totals};
use crate::mq::server::{Broker, Counts, Limits, Users};
use crate::units::parse_size;

/// Where the system's memory cannot be asked for, so much is taken to be there.
const MEMORY_ASSUMED: u64 = 2 << 30;

/// Arguments of `bandy mq broker`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bandy mq broker                        at 127.0.0.1:5672 if it is free, and for this user at local:
  bandy mq broker -l :5673 --memory      anywhere; user guest, password guest, from this machine only
  bandy mq broker -l 0.0.0.0:5671 --tls-cert cert.pem --tls-key key.pem --user-file users.json

Queues and messages are kept in memory and end with the broker, durable ones too: --dir is not in this version yet.

Exit: 0 stopped by a signal · 2 wrong words or user file · see 'bandy help exit-codes'")]
pub struct Args {
    /// Keep nothing on disk; in this version it never does
    #[arg(long, conflicts_with = "dir", help_heading = "Data")]
    pub memory: bool,
    /// Where to keep durable queues: not in this version yet
    #[arg(long, value_name = "DIR", hide = true, help_heading = "Data")]
    pub dir: Option<PathBuf>,
    /// Waiting messages in memory above which publishers are blocked [default: 40% of the machine's]
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = "Data")]
    pub memory_max: Option<u64>,
    /// Users, virtual hosts and permissions: JSON as rabbitmqctl export_definitions writes it
    #[arg(long, value_name = "FILE", help_heading = "Access")]
    pub user_file: Option<PathBuf>,
    /// Which RabbitMQ to be like where versions differ
    #[arg(long, value_name = "MAJOR", default_value = "3", value_parser = ["3", "4"], help_heading = "Access")]
    pub compat: String,

    /// The harness's.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Runs the command.
///
/// # Errors
/// A wrong user file; an address that cannot be had.
pub fn run(args: Args, app: &App) -> anyhow::Result<Exit> {
    if args.dir.is_some() {
        return Err(Failure::new(Exit::Usage, "--dir is not in this version yet: queues are kept in memory")
            .tip("bandy mq broker --memory")
            .into());
    }
    let users = match &args.user_file {
        None => Users::default(),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::new(Exit::NotFound, format!("cannot read {}: {error}", path.display()))
            })?;
            Users::parse(&text)
                .map_err(|error| Failure::new(Exit::Usage, format!("{}: {error}", path.display())))?
        }
    };
    let limits = Limits { memory_max: args.memory_max.unwrap_or_else(memory_max), ..Limits::default() };
    let compat = if args.compat == "4" { Compat::V4 } else { Compat::V3 };
    let config = Config { compat, ..Config::default() };
    // It lets in only whom it knows; guest only from this machine.
    let role = Role { guarded: true, ..Role::from(Pillar::Mq) };
    serve::run(args.server, app, role, async |harness| Ok(start(users, limits, &config, harness)))
}

fn start(users: Users, limits: Limits, config: &Config, mut harness: Harness) -> Service {
    let broker = Broker::new(users, limits, config, harness.shutdown.clone());
    register(&harness.metrics, &broker);
    let serving = Arc::clone(&broker);
    harness.accept(move |stream| {
        let broker = Arc::clone(&serving);
        async move { broker.serve(stream).await }
    });
    Service::with_status(move || {
        let Totals { connections, channels, queues, consumers, ready, unacked, .. } = broker.totals();
        format!(
            "connections {connections}  channels {channels}  queues {queues}  consumers {consumers}  \
            ready {ready}  unacked {unacked}\n"
        )
    })
}

/// Under RabbitMQ's names where the meaning is the same.
fn register(registry: &Registry, broker: &Arc<Broker>) {
    type Of = fn(&Totals) -> u64;
    type Counted = fn(&Counts) -> &AtomicU64;
    let totals: [(&'static str, &'static str, Of); 6] = [
        ("rabbitmq_connections", "Connections that are open.", |totals| totals.connections as u64),
        ("rabbitmq_channels", "Channels that are open.", |totals| totals.channels as u64),
        ("rabbitmq_queues", "Queues.", |totals| totals.queues as u64),
        ("rabbitmq_consumers", "Consumers.", |totals| totals.consumers as u64),
        ("rabbitmq_queue_messages_ready", "Messages ready to be delivered.", |totals| totals.ready),
        ("rabbitmq_queue_messages_unacked", "Messages delivered and not yet acknowledged.", |totals| {
            totals.unacked
        }),
    ];
    for (name, help, of) in totals {
        let broker = Arc::clone(broker);
        registry.ask(Kind::Gauge, name, help, move || of(&broker.totals()) as f64);
    }
    let counts: [(&'static str, &'static str, Counted); 2] = [
        ("rabbitmq_global_messages_received_total", "Messages received from publishers.", |counts| {
            &counts.received
        }),
        ("rabbitmq_global_messages_delivered_total", "Messages delivered to consumers.", |counts| {
            &counts.delivered
        }),
    ];
    for (name, help, of) in counts {
        let counts = Arc::clone(broker.counts());
        registry.ask(Kind::Counter, name, help, move || of(&counts).load(Ordering::Relaxed) as f64);
    }
}

/// RabbitMQ's watermark: 40% of the machine's memory.
fn memory_max() -> u64 {
    let info = rustix::system::sysinfo();
    let total = info.totalram.saturating_mul(u64::from(info.mem_unit.max(1)));
    if total == 0 { MEMORY_ASSUMED } else { total / 10 * 4 }
}
