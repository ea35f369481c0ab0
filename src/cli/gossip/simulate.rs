//! `bandy gossip simulate`: how fast news spread, and what it costs, in virtual time.

mod engine;
mod faults;
mod live;
mod paper;

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use crate::cli::app::App;
use crate::cli::exit::{Exit, Failure};
use crate::cli::stage::StageArgs;
use crate::gossip::simulate::{Direction, Model, Stop};
use crate::output::Column;
use crate::units::{parse_count, parse_percent};
use faults::{Cut, Several, parse_cut, parse_some};

/// Most nodes that the engine itself is run for.
const ENGINES_MAX: u64 = 10_000;
/// Most nodes of the model.
const NODES_MAX: u64 = 100_000_000;

/// Most rounds, and the longest way, if nothing is said.
const ROUNDS_DEFAULT: u32 = 10_000;
const DELAY_DEFAULT: Duration = Duration::from_millis(2);

/// Arguments of `gossip simulate`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy gossip simulate --nodes 1m                       # push: rounds until a million know
  bandy gossip simulate --nodes 1m --mode push-pull
  bandy gossip simulate --fanout 3 --loss 25%
  bandy gossip simulate --stop feedback -k 2             # until two in a row knew: some never hear
  bandy gossip simulate --engine --nodes 500 --loss 10%  # the engine of real nodes, what it costs
  bandy gossip simulate --engine --crash 3@1s            # three nodes die: when do all others know?
  bandy gossip simulate --engine --cut 50%@1s..30s       # half of them is out of reach for a while
  bandy gossip simulate --nodes 10k --live               # the same as a picture
  bandy gossip simulate --paper demers                   # the published tables beside ours
  bandy gossip simulate --nodes 100k --json | jq .informed

Without --engine it is a model: synchronous rounds, a partner at random for each call. \
One seed has one outcome.

Exit: 0 simulated · 2 too many nodes · see 'bandy help exit-codes'")]
pub struct Args {
    /// How many nodes
    #[arg(short = 'N', long, value_name = "N", default_value = "1000", value_parser = parse_count, conflicts_with = "paper")]
    pub nodes: u64,
    /// How many each calls in a round [default: 1; with --engine: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100), conflicts_with = "paper")]
    pub fanout: Option<u32>,
    /// Who calls whom
    #[arg(long, value_name = "MODE", default_value = "push", conflicts_with_all = ["engine", "paper"])]
    pub mode: Mode,
    /// When one who knows stops telling: never, after contacts that were of no use, or after any
    #[arg(long, value_name = "RULE", default_value = "never", value_parser = ["never", "feedback", "blind"], conflicts_with_all = ["engine", "paper"])]
    pub stop: String,
    /// After how many [default: 1]; with --coin: with a probability of one in so many
    #[arg(short = 'k', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=255), conflicts_with_all = ["engine", "paper"])]
    pub k: Option<u32>,
    /// Stop by chance instead of by count
    #[arg(hide_short_help = true, long, conflicts_with_all = ["engine", "paper"])]
    pub coin: bool,
    /// The share of messages that is lost
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = parse_percent, conflicts_with = "paper")]
    pub loss: f64,
    /// Most rounds
    #[arg(long, value_name = "N", default_value_t = ROUNDS_DEFAULT, conflicts_with = "paper")]
    pub rounds: u32,
    /// Run the engine of real nodes instead of the model: up to 10,000
    #[arg(long, conflicts_with = "paper")]
    pub engine: bool,
    /// Print published tables beside ours
    #[arg(hide_short_help = true, long, value_name = "PAPER", value_parser = ["demers"])]
    pub paper: Option<String>,
    /// Runs that the tables are the mean of
    #[arg(hide_short_help = true, long, value_name = "N", default_value = "200", value_parser = parse_count, requires = "paper")]
    pub runs: u64,
    /// So many nodes crash at a time, as in 3@2s
    #[arg(hide_short_help = true, long, value_name = "N@TIME", value_parser = parse_some, requires = "engine")]
    pub crash: Vec<Several>,
    /// So many nodes join at a time
    #[arg(hide_short_help = true, long, value_name = "N@TIME", value_parser = parse_some, requires = "engine")]
    pub join: Vec<Several>,
    /// A share of the nodes is cut off from the rest for a while, as in 50%@2s..30s
    #[arg(hide_short_help = true, long, value_name = "SHARE@TIME..TIME", value_parser = parse_cut, requires = "engine")]
    pub cut: Vec<Cut>,
    /// The share of messages that comes twice
    #[arg(hide_short_help = true, long, value_name = "PERCENT", default_value = "0%", value_parser = parse_percent, requires = "engine")]
    pub duplicates: f64,
    /// The longest way of a message; some are as short as nothing, so they overtake each other
    #[arg(hide_short_help = true, long, value_name = "DURATION", default_value = "2ms", value_parser = crate::units::parse_duration, requires = "engine")]
    pub delay: Duration,
    /// Draw it on the terminal
    #[arg(long, conflicts_with = "paper")]
    pub live: bool,
    #[command(flatten)]
    pub stage: StageArgs,
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
    active: u32,
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
    check(args)?;
    if args.paper.is_some() {
        return paper::run(args, app);
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
    if args.is_drawn() {
        return live::run(args, app);
    }
    if args.engine { engine::run(args, app) } else { model(args, app) }
}

/// What would have no effect is told instead of being left out.
fn check(args: &Args) -> Result<(), Failure> {
    let usage = |why: String| Err(Failure::new(Exit::Usage, why));
    let (stage, drawn) = (&args.stage, args.is_drawn());
    let of_pictures = [
        ("--speed", (stage.speed - 1.0).abs() > f64::EPSILON),
        ("--step", stage.step),
        ("--ascii", stage.ascii),
        ("--size", stage.size.is_some()),
        ("--for", stage.for_.is_some() && !args.engine),
    ];
    if let Some((flag, _)) = of_pictures.iter().find(|(_, said)| *said && !drawn) {
        return Err(Failure::new(Exit::Usage, format!("{flag} is for a picture, and this is a table"))
            .tip("--live draws it, --cast FILE records it"));
    }
    if args.paper.is_some() && drawn {
        return usage("the tables of a paper are not drawn".to_owned());
    }
    let not_drawn = [
        ("--duplicates", args.duplicates > 0.0),
        ("--delay", args.delay != DELAY_DEFAULT),
        ("--rounds", args.rounds != ROUNDS_DEFAULT),
    ];
    if let Some((flag, _)) = not_drawn.iter().find(|(_, said)| *said && drawn && args.engine) {
        return usage(format!("{flag} has no effect on the picture of an engine"));
    }
    if args.stop == "never" && (args.coin || args.k.is_some()) {
        let flag = if args.coin { "--coin" } else { "-k" };
        let why = format!("{flag} says when one who knows stops telling, and here nobody ever does");
        return Err(Failure::new(Exit::Usage, why).tip("--stop feedback, or --stop blind"));
    }
    let of = |some: &[Several]| some.iter().map(|some| some.nodes).fold(0, u64::saturating_add);
    let (all, crashes) = (args.nodes.saturating_add(of(&args.join)), of(&args.crash));
    if crashes > 0 && crashes >= all {
        return usage(format!("{crashes} of {all} nodes are to crash: one has to be left"));
    }
    Ok(())
}

impl Args {
    /// Whether it is a picture, now or later.
    fn is_drawn(&self) -> bool {
        self.live || self.stage.inline || self.stage.cast.is_some()
    }
}

impl Args {
    fn model(&self) -> anyhow::Result<Model> {
        let stop = match self.stop.as_str() {
            "never" => Stop::Never,
            rule => Stop::After { feedback: rule == "feedback", coin: self.coin, k: self.k.unwrap_or(1) },
        };
        let direction = match self.mode {
            Mode::Push => Direction::Push,
            Mode::Pull => Direction::Pull,
            Mode::PushPull => Direction::PushPull,
        };
        let nodes = u32::try_from(self.nodes)?;
        let fanout = self.fanout.unwrap_or(1);
        Ok(Model { nodes, fanout, direction, loss: self.loss, stop, rounds_max: self.rounds })
    }
}

fn model(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let model = args.model()?;
    let nodes = model.nodes;
    let mut list = app.printer.list(&COLUMNS);
    let mut written = Ok(());
    let outcome = model.run(args.stage.seed, |round, _| {
        if written.is_ok() {
            written = list.row(&Row {
                round: round.round,
                informed: round.informed,
                active: round.active,
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
