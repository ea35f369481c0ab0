//! One node knows something. Every round each who knows tells a few at random: soon all know, and nobody is in charge.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use serde_json::json;

use super::picture::{Dot, Picture};
use crate::cli::stage::chronicle::Chronicle;
use crate::cli::stage::theme::Theme;
use crate::cli::stage::widgets::say;
use crate::cli::stage::{Note, Scene};
use crate::gossip::engine::{Engine, Event, Input};
use crate::gossip::simulate::{Fate, Happened, Links, Network, name_of};
use crate::gossip::wire::{Message, Serf};

/// A round: the gossip interval.
const ROUND: Duration = Duration::from_millis(200);
/// Ticks of a round, and of one when nothing is told any more.
const TICKS: u32 = 20;
/// Nobody is asked whether it is there: this is about news.
const NEVER: Duration = Duration::from_secs(24 * 3600);
/// Ticks that the last picture of a story waits.
const WAITS: u32 = 20;
const LOSS_STEP: f64 = 0.1;
const FANOUT_MAX: usize = 6;
const LESSON: [&str; 2] = [
    "Each who knows tells a few at random, every round. Nobody keeps a list.",
    "A lost message or a dead node costs a round or two: others tell it as well.",
];

/// What the scene starts with.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// How many each tells in a round.
    pub fanout: usize,
    /// The share of datagrams that is lost.
    pub loss: f64,
}

impl Setting {
    /// Forty nodes, and every tenth message lost.
    pub fn demo(seed: u64) -> Self {
        Self { seed, nodes: 40, fanout: 3, loss: 0.1 }
    }

    /// Rounds until all know, as theory has it. Pittel 1987; with several told in a round, and some of it lost.
    fn theory(&self) -> f64 {
        let nodes = self.nodes as f64;
        let useful = self.fanout as f64 * (1.0 - self.loss);
        nodes.ln() / (1.0 + useful).ln() + nodes.ln() / useful.max(f64::MIN_POSITIVE)
    }
}

/// The scene.
pub struct SpreadScene {
    setting: Setting,
    dice: fastrand::Rng,
    network: Network,
    /// Since which round each node knows.
    known: Vec<Option<u32>>,
    gone: Vec<bool>,
    /// Rounds, and how many knew after each.
    rounds: Vec<(u32, u32)>,
    /// All of a round is told at the same moment; it is shown one after the other: a line, and who is new by it.
    unseen: VecDeque<(String, Vec<usize>)>,
    tick: u32,
    round: u32,
    /// Which piece of news this is.
    edition: u32,
    split: bool,
    /// Nothing is told any more; time runs faster, and states are exchanged.
    quiet: bool,
    /// Ticks since all knew.
    over: u32,
    messages: u64,
    lost: u64,
    chronicle: Chronicle,
    notes: Vec<Note>,
}

impl SpreadScene {
    /// Nodes that know each other, and the first of them something new.
    pub fn new(setting: Setting) -> Self {
        let mut network = Network::new(setting.seed, Links { loss: setting.loss, ..Links::default() });
        network.add_cluster(setting.nodes, |config| {
            config.gossip_nodes = setting.fanout;
            config.gossip_interval = ROUND;
            // All at once: what is drawn are rounds.
            config.gossip_phase = Some(Duration::ZERO);
            config.probe_interval = NEVER;
            config.coordinates = false;
        });
        network.sent();
        let mut scene = Self {
            setting,
            dice: fastrand::Rng::with_seed(setting.seed),
            network,
            known: vec![None; setting.nodes],
            gone: vec![false; setting.nodes],
            rounds: Vec::new(),
            unseen: VecDeque::new(),
            tick: 0,
            round: 0,
            edition: 0,
            split: false,
            quiet: false,
            over: 0,
            messages: 0,
            lost: 0,
            chronicle: Chronicle::default(),
            notes: Vec::new(),
        };
        scene.news(0);
        scene
    }

    fn event_name(&self) -> String {
        format!("news-{}", self.edition)
    }

    fn news(&mut self, from: usize) {
        self.edition += 1;
        self.known.fill(None);
        (self.messages, self.lost, self.round, self.tick, self.over) = (0, 0, 0, 0, 0);
        self.quiet = false;
        let name = self.event_name().into();
        self.network.input(from, Input::Event { name, payload: Bytes::new(), coalesce: false });
        self.learn();
        // Whoever knows tells it a round later: rounds are to end between two such moments.
        self.network.run(ROUND / 2);
        self.show_all();
        self.rounds = vec![(0, self.informed())];
        self.chronicle.push(format!("{} has news", name_of(from)));
        self.note();
    }

    /// Shows a part of what this round has brought, so that all is seen when it ends.
    fn show_some(&mut self) {
        let left = (TICKS - self.tick % TICKS).max(1) as usize;
        for _ in 0..self.unseen.len().div_ceil(left) {
            self.show_one();
        }
    }

    fn show_all(&mut self) {
        while self.show_one() {}
    }

    fn show_one(&mut self) -> bool {
        let Some((line, _)) = self.unseen.pop_front() else { return false };
        self.chronicle.push(line);
        true
    }

    /// Nodes whose news is not drawn yet.
    fn hidden(&self) -> HashSet<usize> {
        self.unseen.iter().flat_map(|(_, nodes)| nodes.iter().copied()).collect()
    }

    /// How many of the living are drawn as knowing.
    fn shown(&self) -> u32 {
        let hidden =
            self.hidden().into_iter().filter(|node| !self.gone[*node] && self.known[*node].is_some());
        self.informed() - hidden.count() as u32
    }

    fn informed(&self) -> u32 {
        let knows = |(known, gone): (&Option<u32>, &bool)| known.is_some() && !gone;
        self.known.iter().zip(&self.gone).filter(|pair| knows(*pair)).count() as u32
    }

    fn living(&self) -> u32 {
        self.gone.iter().filter(|gone| !**gone).count() as u32
    }

    /// Takes what nodes were told.
    fn learn(&mut self) {
        let wanted = self.event_name();
        for Happened { node, event, .. } in self.network.happened() {
            if let Event::User { name, .. } = event
                && *name == *wanted
            {
                self.known[node].get_or_insert(self.round);
            }
        }
    }

    /// Takes what was sent: who told whom, and what came of it.
    fn listen(&mut self, known_before: &[Option<u32>]) {
        let mut teller = None;
        let (mut line, mut new) = (String::new(), Vec::new());
        let mut reached = HashSet::new();
        for sent in self.network.sent() {
            let tells = |message: &Message| matches!(message, Message::Serf(Serf::Event(_)));
            if !sent.messages.iter().any(tells) {
                continue;
            }
            self.messages += 1;
            self.lost += u64::from(sent.fate == Fate::Lost);
            if teller != Some(sent.from) {
                if !line.is_empty() {
                    self.unseen.push_back((std::mem::take(&mut line), std::mem::take(&mut new)));
                }
                line = format!("{:<5} tells", name_of(sent.from));
                teller = Some(sent.from);
            }
            let outcome = match sent.fate {
                Fate::Lost => "lost",
                Fate::Nobody if self.gone[sent.to] => "is gone",
                Fate::Nobody => "cut off",
                Fate::Arrives if known_before[sent.to].is_some() => "knew",
                // Two may tell the same one in a round: the first is the one that brings it news.
                Fate::Arrives if !reached.insert(sent.to) => "just heard",
                Fate::Arrives => {
                    new.push(sent.to);
                    "new"
                }
            };
            line += &format!("  {} ({outcome})", name_of(sent.to));
        }
        if !line.is_empty() {
            self.unseen.push_back((line, new));
        }
    }

    fn note(&mut self) {
        let (informed, living) = (self.informed(), self.living());
        let text = format!(
            "round={} informed={informed}/{living} messages={} lost={}",
            self.round, self.messages, self.lost
        );
        self.note_as(text);
    }

    fn note_as(&mut self, text: String) {
        let (informed, living) = (self.informed(), self.living());
        self.notes.push(Note::new(
            text,
            vec![
                ("round", json!(self.round)),
                ("informed", json!(informed)),
                ("nodes", json!(living)),
                ("messages", json!(self.messages)),
                ("lost", json!(self.lost)),
            ],
        ));
    }

    /// Whether anybody still has something to tell.
    fn is_told(&self) -> bool {
        (0..self.setting.nodes).any(|node| self.network.engine(node).is_some_and(|node| told(node) > 0))
    }

    fn all_know(&self) -> bool {
        self.informed() == self.living()
    }

    fn living_node(&mut self, knows: bool) -> Option<usize> {
        let fits = |node: &usize| !self.gone[*node] && (!knows || self.known[*node].is_some());
        let nodes: Vec<usize> = (0..self.setting.nodes).filter(fits).collect();
        self.dice.choice(nodes)
    }

    fn kill(&mut self) {
        if self.living() > 1
            && let Some(node) = self.living_node(false)
        {
            self.network.crash(node);
            self.gone[node] = true;
            self.chronicle.push(format!("{} is killed", name_of(node)));
        }
    }

    fn toggle_split(&mut self) {
        self.split = !self.split;
        for node in self.setting.nodes / 2..self.setting.nodes {
            self.network.set_side(node, u32::from(self.split));
        }
        self.chronicle.push(match self.split {
            true => {
                "the network is cut: the upper half and the lower half do not reach each other".to_owned()
            }
            false => "the network is whole again".to_owned(),
        });
    }
}

fn told(engine: &Engine) -> usize {
    engine.queued()[2]
}

impl Scene for SpreadScene {
    fn title(&self) -> String {
        if self.split { "gossip · spread · cut".to_owned() } else { "gossip · spread".to_owned() }
    }

    fn figures(&self) -> String {
        format!(
            "fanout {}   loss {:.0} %   round {}   informed {}/{}",
            self.setting.fanout,
            self.network.loss() * 100.0,
            self.round,
            self.shown(),
            self.living()
        )
    }

    fn tick(&mut self) -> Vec<Note> {
        if self.done() {
            return Vec::new();
        }
        if self.all_know() {
            self.show_some();
            self.over += 1;
            self.tick += 1;
            return std::mem::take(&mut self.notes);
        }
        let before = self.known.clone();
        self.network.run(if self.quiet { ROUND } else { ROUND / TICKS });
        self.tick += if self.quiet { TICKS } else { 1 };
        self.round = self.tick.div_ceil(TICKS);
        self.learn();
        self.listen(&before);
        let ends = self.tick.is_multiple_of(TICKS);
        match ends || self.quiet {
            true => self.show_all(),
            false => self.show_some(),
        }
        if ends || self.all_know() {
            let informed = self.informed();
            // Rounds in which nobody heard of it are not drawn once it is quiet: they would be a hundred.
            if !self.quiet || informed != before.iter().flatten().count() as u32 {
                self.rounds.push((self.round, informed));
                self.note();
            }
        }
        if self.all_know() {
            let what = format!(
                "all know after {} rounds: {} messages, {} of them lost",
                self.round, self.messages, self.lost
            );
            self.unseen.push_back((what.clone(), Vec::new()));
            self.note_as(what);
        } else if ends && !self.quiet && !self.is_told() {
            self.quiet = true;
            let left = self.living() - self.informed();
            let what = format!(
                "nobody tells it any more, and {left} never heard of it: they learn it when states are exchanged"
            );
            self.chronicle.push(what.clone());
            self.note_as(what);
        }
        std::mem::take(&mut self.notes)
    }

    fn done(&self) -> bool {
        self.all_know() && self.over >= WAITS
    }

    fn restart(&mut self) {
        *self = Self::new(self.setting);
    }

    fn keys(&self) -> &'static [(char, &'static str)] {
        &[('l', "loss +"), ('L', "-"), ('f', "fanout"), ('n', "news"), ('k', "kill"), ('p', "cut")]
    }

    fn key(&mut self, key: char) {
        match key {
            'l' | 'L' => {
                let step = if key == 'l' { LOSS_STEP } else { -LOSS_STEP };
                let loss = (self.network.loss() + step).clamp(0.0, 0.9);
                self.network.links().loss = loss;
                self.setting.loss = loss;
            }
            'f' => {
                // What a node is set to is so from its start.
                self.setting.fanout = self.setting.fanout % FANOUT_MAX + 1;
                self.restart();
            }
            'n' => {
                if let Some(node) = self.living_node(false) {
                    self.news(node);
                }
            }
            'k' => self.kill(),
            _ => self.toggle_split(),
        }
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let [picture, says, story] =
            Layout::vertical([Constraint::Percentage(55), Constraint::Length(2), Constraint::Min(4)])
                .areas(area);
        let hidden = self.hidden();
        let dot = |node: usize| match (self.gone[node], self.known[node]) {
            (true, _) => Dot::Gone,
            (false, None) => Dot::Unaware,
            (false, Some(_)) if hidden.contains(&node) => Dot::Unaware,
            (false, Some(since)) if since == self.round && !self.done() => Dot::Fresh,
            (false, Some(_)) => Dot::Aware,
        };
        let dots: Vec<Dot> = (0..self.known.len()).map(dot).collect();
        // The round that is on is the last bar: it grows with the number in the title.
        let mut rounds: Vec<(u32, u32)> =
            self.rounds.iter().copied().filter(|(round, _)| *round < self.round || *round == 0).collect();
        if self.round > 0 && (!self.quiet || self.all_know()) {
            rounds.push((self.round, self.shown()));
        }
        let cost = format!("{} messages, {} lost", self.messages, self.lost);
        let title = format!("who knows, by round {} theory {:.1}", theme.dot, self.setting.theory());
        let nodes = u64::from(self.living());
        Picture { dots: &dots, nodes, rounds: &rounds, rounds_title: &title, cost: &cost }
            .draw(frame, picture, theme);
        say(frame, says, &LESSON.map(|sentence| (sentence, theme.strong())), theme);
        self.chronicle.draw(frame, story, theme);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::stage::chronicle::tests::{is_told_whole, rows};

    #[test]
    fn all_that_is_said_fits_the_smallest_screen() {
        let mut scene = SpreadScene::new(Setting { loss: 0.9, ..Setting::demo(7) });
        is_told_whole(&mut scene, &LESSON);
        assert!(rows(&scene, (80, 24), &Theme::unicode())[0].contains("loss 90 %"));
        is_told_whole(&mut SpreadScene::new(Setting::demo(7)), &["all know after"]);
    }

    #[test]
    fn the_first_round_already_tells_and_a_round_is_shown_bit_by_bit() {
        let mut scene = SpreadScene::new(Setting { loss: 0.0, ..Setting::demo(7) });
        let mut seen = HashSet::new();
        while scene.round <= 3 {
            scene.tick();
            seen.insert(scene.shown());
        }
        assert_eq!(scene.rounds[1], (1, 4), "the first tells three in the first round");
        assert!(seen.len() > 6, "{seen:?}");
    }

    #[test]
    fn whoever_is_behind_the_cut_is_not_gone() {
        let mut scene = SpreadScene::new(Setting::demo(7));
        scene.key('p');
        let mut told = Vec::new();
        for _ in 0..5 * TICKS {
            scene.tick();
            told.extend(scene.unseen.iter().map(|(line, _)| line.clone()));
        }
        let told = told.join("\n");
        assert!(told.contains("(cut off)") && !told.contains("nobody there"), "{told}");
        assert!(told.lines().all(|line| !line.contains("is gone")), "{told}");
    }

    fn play(setting: Setting) -> (SpreadScene, Vec<Note>) {
        let mut scene = SpreadScene::new(setting);
        let mut notes = Vec::new();
        for _ in 0..100_000 {
            notes.extend(scene.tick());
            if scene.done() {
                return (scene, notes);
            }
        }
        panic!("it never ends: {} of {}", scene.informed(), scene.living());
    }

    #[test]
    fn all_know_about_when_theory_says() {
        let mut rounds = Vec::new();
        for seed in 0..20 {
            let (scene, notes) = play(Setting::demo(seed));
            rounds.push(f64::from(scene.round));
            assert_eq!(notes.first().unwrap().fields[1].1, json!(1));
            assert_eq!(notes.last().unwrap().fields[1].1, json!(40));
        }
        let mean = rounds.iter().sum::<f64>() / rounds.len() as f64;
        let theory = Setting::demo(0).theory();
        assert!((mean - theory).abs() < 2.0, "{mean} rounds, {theory} in theory");
    }

    #[test]
    fn whoever_never_heard_of_it_learns_it_from_states() {
        let (scene, _) = play(Setting { seed: 1, nodes: 60, fanout: 1, loss: 0.6 });
        assert!(scene.quiet, "with so much lost some are not told");
    }

    #[test]
    fn the_same_seed_is_the_same_story_whatever_keys_are_pressed() {
        let run = || {
            let mut scene = SpreadScene::new(Setting::demo(5));
            let mut notes = Vec::new();
            for turn in 0..600 {
                notes.extend(scene.tick());
                if turn % 37 == 0 {
                    scene.key(['l', 'k', 'p', 'n', 'L', 'f', 'k', 'p'][turn / 37 % 8]);
                }
            }
            notes
        };
        assert_eq!(run(), run());
    }
}
