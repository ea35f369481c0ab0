//! The engine of real nodes, in many copies: an event, and what becomes of nodes that crash, join or are cut off.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::Args;
use crate::cli::app::App;
use crate::cli::exit::Exit;
use crate::gossip::engine::{Change, Event, Input, Time};
use crate::gossip::simulate::{Happened, Links, Network, address_of};
use crate::output::Column;

/// A round: the gossip interval.
const ROUND: Duration = Duration::from_millis(200);
/// Rounds without anything new after which news do not spread any further.
const CALM_ROUNDS: u32 = 25;
/// Rounds without a change of members after which their views stay as they are.
const SETTLED_ROUNDS: u32 = 1_500;

#[derive(Serialize)]
struct Row {
    round: u32,
    informed: u32,
    suspects: u64,
    failed: u64,
    disagree: usize,
    messages: u64,
    lost: u64,
}

const COLUMNS: [Column; 7] = [
    Column::right("round"),
    Column::right("informed"),
    Column::right("suspects"),
    Column::right("failed"),
    Column::right("disagree"),
    Column::right("messages"),
    Column::right("lost"),
];

/// What is done to the network, when.
enum Deed {
    Crash(u64),
    Join(u64),
    Cut(f64),
    Heal,
}

struct Simulation<'a> {
    args: &'a Args,
    dice: fastrand::Rng,
    network: Network,
    alive: Vec<bool>,
    /// What is still to be done, the last first.
    deeds: Vec<(Time, Deed)>,
    informed: Vec<bool>,
    suspects: u64,
    failed: u64,
    /// The last round in which something became of a member.
    changed: u32,
}

impl<'a> Simulation<'a> {
    fn new(args: &'a Args) -> anyhow::Result<Self> {
        let links = Links {
            loss: args.loss,
            duplicates: args.duplicates,
            delay_max: args.delay,
            delay_min: Links::default().delay_min.min(args.delay),
            ..Links::default()
        };
        let mut network = Network::new(args.stage.seed, links);
        let nodes = usize::try_from(args.nodes)?;
        let fanout = args.fanout;
        let faults = !(args.crash.is_empty() && args.join.is_empty() && args.cut.is_empty());
        network.add_cluster(nodes, |config| {
            // What only repairs, and costs more than all the rest with so many nodes, is off where nothing breaks.
            config.push_pull = faults;
            config.coordinates = false;
            if let Some(fanout) = fanout {
                config.gossip_nodes = fanout as usize;
            }
        });
        let at = |time: Duration| Time::default() + time;
        let mut deeds: Vec<(Time, Deed)> = Vec::new();
        deeds.extend(args.crash.iter().map(|some| (at(some.at), Deed::Crash(some.nodes))));
        deeds.extend(args.join.iter().map(|some| (at(some.at), Deed::Join(some.nodes))));
        for cut in &args.cut {
            deeds.push((at(cut.from), Deed::Cut(cut.share)));
            deeds.push((at(cut.to), Deed::Heal));
        }
        deeds.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
        Ok(Self {
            args,
            dice: fastrand::Rng::with_seed(args.stage.seed),
            network,
            alive: vec![true; nodes],
            deeds,
            informed: vec![false; nodes],
            suspects: 0,
            failed: 0,
            changed: 0,
        })
    }

    fn living(&self) -> usize {
        self.alive.iter().filter(|alive| **alive).count()
    }

    /// How many of the living know.
    fn know(&self) -> usize {
        self.alive.iter().zip(&self.informed).filter(|(alive, informed)| **alive && **informed).count()
    }

    /// How many of the living hold another number of nodes for living.
    fn disagree(&self) -> usize {
        let living = self.living();
        let wrong = |node: &usize| self.network.engine(*node).is_some_and(|engine| engine.living() != living);
        (0..self.alive.len()).filter(|node| self.alive[*node] && wrong(node)).count()
    }

    fn take(&mut self, round: u32) {
        for Happened { event, node, .. } in self.network.happened() {
            match event {
                Event::User { .. } => self.informed[node] = true,
                Event::Member { change, .. } => {
                    self.changed = round;
                    match change {
                        Change::Suspect => self.suspects += 1,
                        Change::Failed => self.failed += 1,
                        _ => {}
                    }
                }
                _ => {}
            }
        }
    }

    /// One of the living, but for the first: it is the one that the others join.
    fn victim(&mut self) -> Option<usize> {
        let nodes: Vec<usize> = (1..self.alive.len()).filter(|node| self.alive[*node]).collect();
        self.dice.choice(nodes)
    }

    fn act(&mut self, deed: &Deed) {
        match deed {
            Deed::Crash(count) => {
                for _ in 0..*count {
                    let Some(node) = self.victim() else { return };
                    self.network.crash(node);
                    self.alive[node] = false;
                }
            }
            Deed::Join(count) => {
                for _ in 0..*count {
                    let fanout = self.args.fanout;
                    let node = self.network.add(|config| {
                        config.coordinates = false;
                        if let Some(fanout) = fanout {
                            config.gossip_nodes = fanout as usize;
                        }
                    });
                    self.alive.push(true);
                    self.informed.push(false);
                    self.network.input(node, Input::Join { seed: address_of(0), replay: true });
                }
            }
            Deed::Cut(share) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a share of a count"
                )]
                let count = (self.alive.len() as f64 * share).round() as usize;
                for node in self.alive.len() - count..self.alive.len() {
                    self.network.set_side(node, 1);
                }
            }
            Deed::Heal => (0..self.alive.len()).for_each(|node| self.network.set_side(node, 0)),
        }
    }

    /// Lets a round pass, and does what is due in it.
    fn run(&mut self) {
        let end = self.network.now() + ROUND;
        while let Some((at, deed)) = self.deeds.pop_if(|(at, _)| *at < end) {
            self.network.run(at - self.network.now());
            self.act(&deed);
        }
        self.network.run(end - self.network.now());
    }
}

/// Runs until all know and agree, or nothing changes any more.
pub(super) fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let mut simulation = Simulation::new(args)?;
    simulation.network.input(0, Input::Event { name: "news".into(), payload: Bytes::new(), coalesce: false });
    let mut list = app.printer.list(&COLUMNS);
    let mut calm = 0;
    let mut informed = 0;
    for round in 0..=args.rounds {
        simulation.take(round);
        let (know, living, disagree) = (simulation.know(), simulation.living(), simulation.disagree());
        let totals = simulation.network.totals();
        list.row(&Row {
            round,
            informed: u32::try_from(know)?,
            suspects: simulation.suspects,
            failed: simulation.failed,
            disagree,
            messages: totals.packets,
            lost: totals.lost,
        })?;
        calm = if know == informed { calm + 1 } else { 0 };
        informed = know;
        let spread = know == living || calm > CALM_ROUNDS;
        let settled = disagree == 0 || round - simulation.changed > SETTLED_ROUNDS;
        let over = args.stage.for_.is_some_and(|time| ROUND * (round + 1) > time);
        if over || spread && settled && simulation.deeds.is_empty() {
            break;
        }
        simulation.run();
    }
    list.finish()?;
    let totals = simulation.network.totals();
    let disagree = match simulation.disagree() {
        0 => "all agree on who is there".to_owned(),
        some => format!("{some} do not agree on who is there"),
    };
    app.printer.status(&format!(
        "{informed} of {} know, {disagree}, after {:.1} s; {} inputs handled",
        simulation.living(),
        (simulation.network.now() - Time::default()).as_secs_f64(),
        totals.inputs
    ));
    Ok(Exit::Done)
}
