//! `bandy mq top`: what the queues of a broker do, live or as a table.

mod board;
mod draw;

use std::cell::RefCell;

use serde_json::{Value, json};

use super::api::{Api, VhostArgs};
use super::complete;
use super::ls::{passive, rows};
use super::objects::{Kind, Row, column};
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::stage::theme::Theme;
use crate::cli::top::{self, TopArgs};
use crate::mq::client::{Connection, ErrorKind};
use crate::mq::server::{Glance, Management};
use crate::output::Column;
use crate::shutdown::Shutdown;
use board::{Board, Reading, number};
use draw::Picture;

/// Arguments of `mq top`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Only these queues [default: all]
    #[arg(value_name = "QUEUE", add = completions::remote(complete::queues))]
    pub queues: Vec<String>,
    #[command(flatten)]
    top: TopArgs,
    #[command(flatten)]
    vhosts: VhostArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

const EXAMPLES: &str = "\
Examples:
  bandy mq top                      # queues of the URL's virtual host, live
  bandy mq top --all-vhosts -i 5s
  bandy mq top --once               # one table
  bandy mq top -n 10 --json | jq -c '[.timestamp, .name, .ready]'
  bandy mq top jobs -e amqp://HOST  # one queue, also where there is no management API

Into a pipe, or with -o, tables follow each other instead of the live view. Figures are those of the management API, \
which RabbitMQ gathers every five seconds; without it, AMQP tells ready and consumers of queues that are named.

Exit: 0 shown · 3 unreachable · 4 denied · 5 no such queue · see 'bandy help exit-codes'";

const COLUMNS: &[&str] = &["name", "ready", "unacked", "consumers", "in", "out", "vhost"];

/// Runs the command.
///
/// # Errors
/// The endpoint's, no such queue, output that cannot be written.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, look(args, app))
}

async fn look(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::new();
    let api = Api::find(&args.connect, &args.vhosts, app, "top", &shutdown).await?;
    // Where its management API is would take the room of what one wants to see.
    let url = api.url.split('?').next().unwrap_or_default();
    let mut board = Board::new(url, api.vhost.clone());
    let source = Source { api, names: args.queues.clone(), amqp: RefCell::default(), shutdown };
    board.take(Ok(source.first().await?));
    let read = async || source.read().await.map_err(|failure| failure.message);
    top::show(&args.top, app, &mut Picture { board, own: false }, read).await
}

/// The broker's own view in its own terminal: `mq broker --top`. Ends when the viewer wants the broker to end.
///
/// # Errors
/// A terminal that cannot be used.
pub async fn show_own(management: &Management, url: &str, theme: &Theme) -> anyhow::Result<Exit> {
    let read = || {
        let Glance { queues, overview, node } = management.glance();
        let queues = queues.iter().map(|queue| Kind::Queues.row(queue)).collect();
        Ok(Reading { queues, overview: Some(overview), nodes: vec![node] })
    };
    let mut board = Board::new(url, None);
    board.take(read());
    top::show_own(&mut Picture { board, own: true }, async || read(), theme).await
}

/// Where the figures come from.
struct Source {
    api: Api,
    names: Vec<String>,
    /// Where there is no API: the way by AMQP, once it is there.
    amqp: RefCell<Amqp>,
    shutdown: Shutdown,
}

#[derive(Default)]
enum Amqp {
    #[default]
    Unused,
    Open(Connection),
    Lost,
}

impl Source {
    /// The first answer decides which way is taken.
    async fn first(&self) -> Result<Reading, Failure> {
        let reading = match self.by_api().await {
            Ok(reading) => reading,
            Err(error) if error.is_absent() && self.api.broker.is_some() && !self.names.is_empty() => {
                self.amqp.replace(Amqp::Lost);
                self.read().await?
            }
            Err(error) => {
                let failure = self.api.failure(&error, "show the queues");
                return Err(match self.api.broker.is_some() && error.is_absent() {
                    true => failure.tip(
                        "bandy mq top QUEUE…                            AMQP tells of queues that are named",
                    ),
                    false => failure,
                });
            }
        };
        let missing = self.names.iter().find(|name| !reading.queues.iter().any(|row| row["name"] == **name));
        match missing {
            Some(name) => Err(super::connect::no_queue(name, &self.api.url)),
            None => Ok(reading),
        }
    }

    async fn read(&self) -> Result<Reading, Failure> {
        let known = self.amqp.replace(Amqp::Lost);
        match known {
            Amqp::Unused => {
                self.amqp.replace(Amqp::Unused);
                self.by_api().await.map_err(|error| self.api.failure(&error, "show the queues"))
            }
            Amqp::Open(connection) if connection.ended().is_none() => self.by_amqp(connection).await,
            Amqp::Open(_) | Amqp::Lost => {
                let broker = self.api.broker.as_ref().expect("looked at first");
                let connection = broker.open(&self.shutdown).await?;
                self.by_amqp(connection).await
            }
        }
    }

    async fn by_api(&self) -> Result<Reading, crate::mq::client::management::Error> {
        let mut queues = rows(&self.api, Kind::Queues).await?;
        if !self.names.is_empty() {
            queues.retain(|row| self.names.iter().any(|name| row["name"] == **name));
        }
        // Who may see queues need not see these.
        let overview = self.api.management.get("/overview").await.unwrap_or_else(|_| json!({}));
        let nodes = self.api.management.list("/nodes").await.unwrap_or_default();
        Ok(Reading { queues, overview: Some(overview), nodes })
    }

    async fn by_amqp(&self, connection: Connection) -> Result<Reading, Failure> {
        let broker = self.api.broker.as_ref().expect("looked at first");
        let mut queues = Vec::new();
        for name in &self.names {
            let channel = connection.channel().await.map_err(|error| broker.failure(&error))?;
            match channel.queue_declare(passive(name)).await {
                Ok(declared) => {
                    let mut row = Kind::Queues
                        .row(&json!({"name": name, "messages_ready": declared.messages,
                        "consumers": declared.consumers, "vhost": broker.config.vhost}));
                    for key in ["in", "out", "type", "exclusive", "features"] {
                        row.insert(key.to_owned(), Value::Null);
                    }
                    queues.push(row);
                }
                // It may be there again later.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(broker.failure(&error)),
            }
        }
        self.amqp.replace(Amqp::Open(connection));
        Ok(Reading { queues, overview: None, nodes: Vec::new() })
    }
}

/// Writes one table of what is known, `number` counting from 0.
fn table(app: &App, board: &Board, number: u64) -> anyhow::Result<()> {
    let printer = &app.printer;
    if let Some(reason) = &board.lost {
        printer.note(reason);
        return Ok(());
    }
    let for_people = top::begin_table(app, number)?;
    let sum = |key: &str| board.sum(key).map_or_else(|| "-".to_owned(), |sum| format!("{sum:.0}"));
    printer.status(&format!(
        "ready {}  unacked {}  queues {}",
        sum("ready"),
        sum("unacked"),
        board.now.queues.len()
    ));
    let names = if for_people && board.vhost.is_some() { &COLUMNS[..COLUMNS.len() - 1] } else { COLUMNS };
    let columns: Vec<Column> = names.iter().map(|name| column(name)).collect();
    let mut list = printer.list(&columns);
    let timestamp = jiff::Timestamp::now().as_millisecond();
    let mut rows: Vec<&Row> = board.rows();
    // The busiest first, so that head shows what matters.
    let busy = |row: &Row| number_of(row, "in") + number_of(row, "out");
    rows.sort_by(|a, b| busy(b).total_cmp(&busy(a)));
    for row in rows {
        let mut row = row.clone();
        row.insert("timestamp".to_owned(), json!(timestamp));
        list.row(&row)?;
    }
    list.finish()?;
    Ok(())
}

fn number_of(row: &Row, key: &str) -> f64 {
    number(row, key).unwrap_or(0.0)
}
