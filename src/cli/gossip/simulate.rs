//! `bandy gossip simulate`: how fast news spread, and what it costs, in virtual time.

use std::time::Duration;

use bytes::Bytes;
use clap::ValueEnum;
use serde::Serialize;

use crate::cli::app::App;
use crate::cli::exit::{Exit, Failure};
use crate::gossip::engine::{Event, Input};
use crate::gossip::simulate::{DEMERS, Direction, Happened, Links, Model, Network, Stop};
use crate::output::Column;
use crate::units::{parse_count, parse_percent};

/// Most nodes that the engine itself is run for.
const ENGINES_MAX: u64 = 10_000;
/// Most nodes of the model.
const NODES_MAX: u64 = 100_000_000;
/// Rounds of the engine without anything new after which it has ended.
const CALM_ROUNDS: u32 = 25;

/// Arguments of `gossip simulate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bandy gossip simulate --nodes 1m                       push: rounds until a million know
  bandy gossip simulate --nodes 1m --mode push-pull
  bandy gossip simulate --fanout 3 --loss 25%
  bandy gossip simulate --stop feedback -k 2             told until two in a row knew: some never hear of it
  bandy gossip simulate --engine --nodes 500 --loss 10%  the engine of real nodes: an event, and what it costs
  bandy gossip simulate --paper demers                   the published tables beside ours
  bandy gossip simulate --nodes 100k --json | jq .informed

Without --engine it is a model: synchronous rounds, a partner at random for each call. One seed has one outcome.

Exit: 0 simulated · 2 too many nodes · see 'bandy help exit-codes'")]
pub struct Args {
    /// How many nodes
    #[arg(short = 'N', long, value_name = "N", default_value = "1000", value_parser = parse_count)]
    pub nodes: u64,
    /// How many each calls in a round [default: 1; with --engine: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub fanout: Option<u32>,
    /// Who calls whom
    #[arg(long, value_name = "MODE", default_value = "push", conflicts_with = "engine")]
    pub mode: Mode,
    /// When one who knows stops telling: never, after contacts that were of no use, or after any
    #[arg(long, value_name = "RULE", default_value = "never", value_parser = ["never", "feedback", "blind"], conflicts_with = "engine")]
    pub stop: String,
    /// After how many; with --coin: with a probability of one in so many
    #[arg(short = 'k', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=255))]
    pub k: u32,
    /// Stop by chance instead of by count
    #[arg(long)]
    pub coin: bool,
    /// The share of messages that is lost
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = parse_percent)]
    pub loss: f64,
    /// Most rounds
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub rounds: u32,
    /// What decides everything that is left to chance
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub seed: u64,
    /// Run the engine of real nodes instead of the model: up to 10,000
    #[arg(long, conflicts_with = "paper")]
    pub engine: bool,
    /// Print published tables beside ours
    #[arg(long, value_name = "PAPER", value_parser = ["demers"])]
    pub paper: Option<String>,
    /// Runs that the tables are the mean of
    #[arg(long, value_name = "N", default_value = "200", value_parser = parse_count)]
    pub runs: u64,
}

/// Who calls whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Those who know tell
    Push,
    /// Everybody asks
    Pull,
    /// Everybody calls, and both then know
    PushPull,
}

#[derive(Serialize)]
struct Row {
    round: u32,
    informed: u32,
    active: Option<u32>,
    messages: u64,
    lost: u64,
}

const COLUMNS: [Column; 5] = [
    Column::right("round"),
    Column::right("informed"),
    Column::right("active"),
    Column::right("messages"),
    Column::right("lost"),
];

/// Runs the command.
///
/// # Errors
/// Too many nodes, and output that cannot be written.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    if args.paper.is_some() {
        return paper(args, app);
    }
    let max = if args.engine { ENGINES_MAX } else { NODES_MAX };
    if args.nodes == 0 || args.nodes > max {
        let failure =
            Failure::new(Exit::Usage, format!("{} nodes: from 1 to {max} can be simulated so", args.nodes));
        return Err(match args.engine {
            true => failure.tip("without --engine, up to 100 million"),
            false => failure,
        }
        .into());
    }
    if args.engine { engine(args, app) } else { model(args, app) }
}

fn model(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let stop = match args.stop.as_str() {
        "never" => Stop::Never,
        rule => Stop::After { feedback: rule == "feedback", coin: args.coin, k: args.k },
    };
    let direction = match args.mode {
        Mode::Push => Direction::Push,
        Mode::Pull => Direction::Pull,
        Mode::PushPull => Direction::PushPull,
    };
    let nodes = u32::try_from(args.nodes)?;
    let fanout = args.fanout.unwrap_or(1);
    let model = Model { nodes, fanout, direction, loss: args.loss, stop, rounds_max: args.rounds };
    let mut list = app.printer.list(&COLUMNS);
    let mut written = Ok(());
    let outcome = model.run(args.seed, |round| {
        if written.is_ok() {
            written = list.row(&Row {
                round: round.round,
                informed: round.informed,
                active: Some(round.active),
                messages: round.messages,
                lost: round.lost,
            });
        }
    });
    written?;
    list.finish()?;
    app.printer.status(&format!(
        "{} of {nodes} know after {} rounds; {:.2} messages for each node; {} never heard of it",
        outcome.last.informed,
        outcome.last.round,
        outcome.traffic,
        nodes - outcome.last.informed
    ));
    Ok(Exit::Done)
}

/// One event among engines that all know each other; a round is a gossip interval.
fn engine(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let links = Links { loss: args.loss, ..Links::default() };
    let mut network = Network::new(args.seed, links);
    let nodes = usize::try_from(args.nodes)?;
    let fanout = args.fanout;
    network.add_cluster(nodes, |config| {
        config.push_pull = false;
        config.coordinates = false;
        if let Some(fanout) = fanout {
            config.gossip_nodes = fanout as usize;
        }
    });
    network.input(0, Input::Event { name: "news".into(), payload: Bytes::new(), coalesce: false });
    let mut list = app.printer.list(&COLUMNS);
    let (mut informed, mut suspects, mut calm) = (0u32, 0u64, 0);
    let interval = Duration::from_millis(200);
    for round in 0..=args.rounds {
        let before = informed;
        for Happened { event, .. } in network.happened() {
            match event {
                Event::User { .. } => informed += 1,
                Event::Member { .. } => suspects += 1,
                _ => {}
            }
        }
        let totals = network.totals();
        list.row(&Row { round, informed, active: None, messages: totals.packets, lost: totals.lost })?;
        calm = if informed == before { calm + 1 } else { 0 };
        if informed as usize == nodes || calm > CALM_ROUNDS {
            break;
        }
        network.run(interval);
    }
    list.finish()?;
    let totals = network.totals();
    app.printer.status(&format!(
        "{informed} of {nodes} know after {:.1} s; {} inputs handled; {suspects} suspicions and changes of members",
        (network.now() - crate::gossip::engine::Time::default()).as_secs_f64(),
        totals.inputs
    ));
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct PaperRow {
    table: u32,
    of: &'static str,
    k: u32,
    residue_paper: f64,
    residue: f64,
    traffic_paper: f64,
    traffic: f64,
    last_paper: f64,
    last: f64,
}

fn paper(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let columns = [
        Column::right("table"),
        Column::left("of"),
        Column::right("k"),
        Column::right("residue_paper"),
        Column::right("residue"),
        Column::right("traffic_paper"),
        Column::right("traffic"),
        Column::right("last_paper"),
        Column::right("last"),
    ];
    let round = |value: f64, digits: i32| (value * 10f64.powi(digits)).round() / 10f64.powi(digits);
    let runs = u32::try_from(args.runs)?;
    let mut list = app.printer.list(&columns);
    for published in DEMERS {
        let ours = published.ours(runs, args.seed);
        list.row(&PaperRow {
            table: published.table,
            of: published.title(),
            k: published.k,
            residue_paper: published.residue,
            residue: round(ours.residue, 6),
            traffic_paper: published.traffic,
            traffic: round(ours.traffic, 3),
            last_paper: published.last_delay,
            last: round(ours.last_delay, 2),
        })?;
    }
    list.finish()?;
    app.printer.status(&format!("Demers et al. 1987, 1,000 nodes; ours are means of {runs} runs"));
    Ok(Exit::Done)
}
