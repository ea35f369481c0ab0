//! A simulation as a picture: the engine as the scene of the demo, the model round by round.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use serde_json::json;

use super::Args;
use crate::cli::app::App;
use crate::cli::exit::{Exit, Failure};
use crate::cli::gossip::demo::picture::{Dot, Picture};
use crate::cli::gossip::demo::spread::{Setting, SpreadScene};
use crate::cli::stage::chronicle::Chronicle;
use crate::cli::stage::theme::Theme;
use crate::cli::stage::{self, Note, Scene};
use crate::gossip::simulate::{Model, Round};

/// Ticks of a round.
const TICKS: u32 = 10;
/// Most dots that are kept of a round.
const DOTS_MAX: u32 = 4_000;

/// Plays it.
pub(super) fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    if !(args.crash.is_empty() && args.join.is_empty() && args.cut.is_empty()) {
        let message = "--crash, --join and --cut at times are not drawn";
        return Err(Failure::new(Exit::Usage, message)
            .tip("without --live they are a table; in the picture, k kills a node and p cuts the network")
            .into());
    }
    let mut scene: Box<dyn Scene> = if args.engine {
        Box::new(SpreadScene::new(Setting {
            seed: args.stage.seed,
            nodes: usize::try_from(args.nodes)?,
            fanout: args.fanout.unwrap_or(3) as usize,
            loss: args.loss,
        }))
    } else {
        Box::new(ModelScene::new(args.model()?, args.stage.seed))
    };
    stage::play(scene.as_mut(), &args.stage, app)
}

/// A run of the model, played back.
struct ModelScene {
    model: Model,
    /// Each round with its dots.
    rounds: Vec<(Round, Vec<Dot>)>,
    informed: Vec<(u32, u32)>,
    tick: u32,
    chronicle: Chronicle,
}

impl ModelScene {
    fn new(model: Model, seed: u64) -> Self {
        let each = model.nodes.div_ceil(DOTS_MAX).max(1);
        let mut rounds: Vec<(Round, Vec<Dot>)> = Vec::new();
        model.run(seed, |round, known| {
            let dot = |first: u32| {
                let end = first.saturating_add(each).min(model.nodes);
                match known.count(first..end) {
                    0 => Dot::Unaware,
                    all if all == end - first => Dot::Aware,
                    _ => Dot::Partly,
                }
            };
            let mut dots: Vec<Dot> = (0..model.nodes).step_by(each as usize).map(dot).collect();
            if let Some((_, before)) = rounds.last() {
                for (dot, before) in dots.iter_mut().zip(before) {
                    if *dot == Dot::Aware && !matches!(before, Dot::Aware | Dot::Fresh) {
                        *dot = Dot::Fresh;
                    }
                }
            }
            rounds.push((*round, dots));
        });
        let informed = rounds.iter().map(|(round, _)| (round.round, round.informed)).collect();
        Self { model, rounds, informed, tick: 0, chronicle: Chronicle::default() }
    }

    /// What it came to.
    fn end(&self) -> Note {
        let (round, _) = &self.rounds[self.rounds.len() - 1];
        let (informed, nodes) = (round.informed, self.model.nodes);
        let what = match nodes - informed {
            0 => format!("all {nodes} know after {} rounds", round.round),
            left if round.active == 0 => format!(
                "{informed} of {nodes} know after {} rounds; {left} never hear of it: nobody tells it any more",
                round.round
            ),
            left => format!("{informed} of {nodes} know after {} rounds; {left} do not yet", round.round),
        };
        Note::new(
            what,
            vec![
                ("round", json!(round.round)),
                ("informed", json!(informed)),
                ("nodes", json!(nodes)),
                ("never", json!(nodes - informed)),
            ],
        )
    }

    fn at(&self) -> usize {
        ((self.tick / TICKS) as usize).min(self.rounds.len() - 1)
    }
}

impl Scene for ModelScene {
    fn title(&self) -> String {
        "gossip · simulate".to_owned()
    }

    fn figures(&self) -> String {
        let (round, _) = &self.rounds[self.at()];
        format!(
            "fanout {}   loss {:.0} %   round {}   informed {}/{}",
            self.model.fanout,
            self.model.loss * 100.0,
            round.round,
            round.informed,
            self.model.nodes
        )
    }

    fn tick(&mut self) -> Vec<Note> {
        if self.done() {
            return Vec::new();
        }
        let begins = self.tick.is_multiple_of(TICKS);
        let (round, _) = &self.rounds[self.at()];
        let note = Note::new(
            format!(
                "round={} informed={}/{} active={} messages={} lost={}",
                round.round, round.informed, self.model.nodes, round.active, round.messages, round.lost
            ),
            vec![
                ("round", json!(round.round)),
                ("informed", json!(round.informed)),
                ("nodes", json!(self.model.nodes)),
                ("active", json!(round.active)),
                ("messages", json!(round.messages)),
                ("lost", json!(round.lost)),
            ],
        );
        self.tick += 1;
        let mut notes = if begins { vec![note] } else { Vec::new() };
        if self.done() {
            notes.push(self.end());
        }
        self.chronicle.add(&notes);
        notes
    }

    fn done(&self) -> bool {
        self.tick as usize >= self.rounds.len() * TICKS as usize
    }

    fn restart(&mut self) {
        self.tick = 0;
        self.chronicle = Chronicle::default();
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let [picture, story] = Layout::vertical([Constraint::Percentage(75), Constraint::Min(4)]).areas(area);
        let at = self.at();
        let cost = format!("{} messages, {} lost", self.rounds[at].0.messages, self.rounds[at].0.lost);
        let shown = Picture {
            dots: &self.rounds[at].1,
            nodes: u64::from(self.model.nodes),
            rounds: &self.informed[..=at],
            rounds_title: "who knows, by round",
            cost: &cost,
        };
        shown.draw(frame, picture, theme);
        self.chronicle.draw(frame, story, theme);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::simulate::{Direction, Stop};

    #[test]
    fn the_end_names_those_who_never_hear_of_it() {
        let model = Model {
            nodes: 1_000,
            fanout: 1,
            direction: Direction::Push,
            loss: 0.0,
            stop: Stop::After { feedback: true, coin: false, k: 1 },
            rounds_max: 1_000,
        };
        let mut scene = ModelScene::new(model, 7);
        let mut last = None;
        while !scene.done() {
            last = scene.tick().pop().or(last);
        }
        let text = last.unwrap().text;
        assert!(text.contains("never hear of it: nobody tells it any more"), "{text}");
    }

    #[test]
    fn a_round_is_told_once_and_the_last_dots_all_know() {
        let model = Model {
            nodes: 10_000,
            fanout: 2,
            direction: Direction::Push,
            loss: 0.2,
            stop: Stop::Never,
            rounds_max: 1_000,
        };
        let mut scene = ModelScene::new(model, 3);
        let mut notes = Vec::new();
        while !scene.done() {
            notes.extend(scene.tick());
        }
        assert_eq!(notes.len(), scene.rounds.len() + 1);
        assert!(notes.last().unwrap().text.starts_with("all 10000 know after "));
        assert_eq!(notes.last().unwrap().fields[1].1, json!(10_000));
        let (_, dots) = scene.rounds.last().unwrap();
        assert!(dots.iter().all(|dot| matches!(dot, Dot::Aware | Dot::Fresh)));
    }
}
