//! A node is stopped: it is suspected, goes on in time, and objects. Another one is killed: nobody objects for it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::world::{View, World};
use crate::cli::stage::theme::Theme;
use crate::cli::stage::widgets::{bar, panel, say};
use crate::cli::stage::{Note, Scene, TICK};
use crate::gossip::engine::{Input, Status, Time};
use crate::gossip::simulate::{Fate, Sent, address_of, name_of};
use crate::gossip::wire::{Message, Name, NodeState};

const NODES: usize = 5;
/// The one that is stopped, and the one that is killed.
const STOPPED: usize = 4;
const KILLED: usize = 3;
/// The nodes' time in a tick: twice as fast as ours.
const STEP: Duration = TICK.saturating_mul(2);
/// How long the story waits before it goes on.
const PAUSE: Duration = Duration::from_millis(2_500);
/// How long the stopped one stays suspected: less than a suspect has at the least.
const SUSPECTED: Duration = Duration::from_millis(1_500);

/// A suspect's time is told to be shorter only if it is so by this much.
const SHORTER: Duration = Duration::from_secs(1);
const LESSON: [&str; 2] = [
    "Silence is not death: others try as well, and a suspect has time to object; the less, the more confirm it.",
    "It objects with a higher incarnation, which only the node itself may give.",
];

/// Where the story is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Calm,
    Stopped,
    Resumed,
    Killed,
    Started,
    Over,
}

/// The scene.
pub(super) struct FailureScene {
    world: World,
    act: Act,
    /// Accusations and objections that were told already: one line each.
    told: HashSet<(&'static str, String, String, u32)>,
    /// Since when each suspect is one, and when its time ends, as the first sees it whose patience ends.
    suspicions: BTreeMap<usize, (Time, Time)>,
}

impl FailureScene {
    /// Five nodes that know each other.
    pub(super) fn new(seed: u64) -> Self {
        let mut world = World::new(seed, NODES);
        // From now on it is remembered what is sent.
        world.network.sent();
        Self { world, act: Act::Calm, told: HashSet::new(), suspicions: BTreeMap::new() }
    }

    /// One line for each accusation and each objection, by whoever is the first to say it; one for all who ping in vain.
    fn listen(&mut self, sent: &[Sent]) {
        let mut in_vain: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        let mut asked: BTreeMap<(usize, Name), Vec<Name>> = BTreeMap::new();
        for Sent { from: sender, to, messages, fate, .. } in sent {
            let from = name_of(*sender);
            for message in messages {
                match message {
                    Message::Ping(_) if *fate == Fate::Nobody => {
                        in_vain.entry(*to).or_default().insert(*sender);
                    }
                    Message::IndirectPing(ping) => {
                        asked.entry((*sender, ping.node.clone())).or_default().push(name_of(*to));
                    }
                    Message::Suspect(accused) if accused.from == from => {
                        self.accuse("suspects", &from, &accused.node, accused.incarnation);
                    }
                    Message::Dead(accused) if accused.from == from => {
                        self.accuse("declares failed:", &from, &accused.node, accused.incarnation);
                    }
                    Message::Alive(alive) if alive.node == from && alive.incarnation > 1 => {
                        let key = ("alive", from.to_string(), from.to_string(), alive.incarnation);
                        if self.told.insert(key) {
                            let what = format!("objects: I am here, incarnation {}", alive.incarnation);
                            self.world.note(&from, &what);
                        }
                    }
                    _ => {}
                }
            }
        }
        for ((from, node), helpers) in asked {
            self.world.note(&name_of(from), &format!("asks {} to ping {node}", helpers.join(", ")));
        }
        for (to, senders) in in_vain {
            let senders: Vec<Name> = senders.into_iter().map(name_of).collect();
            let verb = if senders.len() == 1 { "pings" } else { "ping" };
            self.world.note(&senders.join(", "), &format!("{verb} {}: no answer", name_of(to)));
        }
    }

    fn accuse(&mut self, verb: &'static str, from: &str, node: &str, incarnation: u32) {
        if self.told.insert((verb, from.to_owned(), node.to_owned(), incarnation)) {
            self.world.note(from, &format!("{verb} {node}, incarnation {incarnation}"));
        }
    }

    /// The earliest end of the time that a suspect has, and since when it is one.
    fn suspicion(&self, node: usize) -> Option<(Time, Time)> {
        let name = name_of(node);
        let engines =
            (0..NODES).filter(|other| *other != node).filter_map(|other| self.world.network.engine(other));
        engines.filter_map(|engine| engine.suspicion_of(&name)).min_by_key(|(_, end)| *end)
    }

    /// A suspect has less time when others confirm that it is silent: otherwise the clock in its box seems broken.
    fn time(&mut self) {
        for node in 0..NODES {
            let Some((since, end)) = self.suspicion(node) else {
                self.suspicions.remove(&node);
                continue;
            };
            let now = self.world.network.now();
            if let Some((_, before)) = self.suspicions.insert(node, (since, end))
                && end + SHORTER < before
            {
                let [left, was] = [end, before].map(|end| (end - now).as_secs_f64());
                let what = format!(
                    "has {left:.0} s left to object, no longer {was:.0} s: others confirm the silence"
                );
                self.world.note(&name_of(node), &what);
            }
        }
    }

    /// How all that run see one other: true if all see it so.
    fn all_see(&self, node: usize, wanted: impl Fn(Option<View>) -> bool) -> bool {
        let others = (0..NODES).filter(|other| *other != node && self.world.network.is_running(*other));
        others.into_iter().all(|other| wanted(self.world.view(other, node)))
    }

    fn is_killed(&self, node: usize) -> bool {
        self.world.network.engine(node).is_none()
    }

    fn stop(&mut self, node: usize) {
        if self.world.network.is_running(node) {
            self.world.network.pause(node);
            self.world.note(&name_of(node), "is stopped, as Ctrl-Z does: it hears nothing and says nothing");
        }
    }

    fn resume(&mut self, node: usize) {
        if !self.is_killed(node) && !self.world.network.is_running(node) {
            self.world.note(&name_of(node), "goes on, and hears what was said of it");
            self.world.network.resume(node);
        }
    }

    fn kill(&mut self, node: usize) {
        if !self.is_killed(node) {
            self.world.network.crash(node);
            self.world.note(&name_of(node), "is killed");
        }
    }

    fn start(&mut self, node: usize) {
        if self.is_killed(node) {
            self.world.network.restart(node, |_| {});
            self.world.network.input(node, Input::Join { seed: address_of(0), replay: false });
            self.world.note(&name_of(node), "is started again and joins n0");
        }
    }

    /// Goes to the next act when what this one waits for has been so for a while.
    fn direct(&mut self) {
        let alive = |view: Option<View>| view.is_some_and(|(state, _)| state == NodeState::Alive);
        let failed = |view: Option<View>| view.is_some_and(|(_, status)| status == Status::Failed);
        let suspected = |view: Option<View>| view.is_some_and(|(state, _)| state == NodeState::Suspect);
        let (holds, wait) = match self.act {
            Act::Calm => (true, PAUSE),
            Act::Stopped => (!self.all_see(STOPPED, |view| !suspected(view)), SUSPECTED),
            Act::Resumed => (self.all_see(STOPPED, alive), PAUSE),
            Act::Killed => (self.all_see(KILLED, failed), PAUSE),
            Act::Started => (self.all_see(KILLED, alive), PAUSE),
            Act::Over => return,
        };
        if !self.world.has_held(holds, wait) {
            return;
        }
        self.act = match self.act {
            Act::Calm => {
                self.stop(STOPPED);
                Act::Stopped
            }
            Act::Stopped => {
                self.resume(STOPPED);
                Act::Resumed
            }
            Act::Resumed => {
                self.kill(KILLED);
                Act::Killed
            }
            Act::Killed => {
                self.start(KILLED);
                Act::Started
            }
            Act::Started | Act::Over => {
                self.world.note("all", "agree again on who is there");
                Act::Over
            }
        };
    }

    fn draw_node(&self, frame: &mut Frame<'_>, area: Rect, node: usize, theme: &Theme) {
        let name = name_of(node);
        let (word, symbol, style) = match (self.is_killed(node), self.world.network.is_running(node)) {
            (true, _) => ("killed", theme.lost, theme.bad()),
            (false, true) => ("runs", theme.done, theme.good()),
            (false, false) => ("stopped", theme.doubt, theme.warn()),
        };
        let inner = panel(frame, area, &name, theme, style);
        let mut lines = vec![Line::styled(format!(" {symbol} {word}"), style)];
        let incarnation = (0..NODES)
            .filter(|other| *other == node || self.world.network.is_running(*other))
            .filter_map(|other| Some(self.world.network.engine(other)?.member(&name)?.incarnation))
            .max();
        let incarnation = incarnation.map_or_else(String::new, |number| format!(" incarnation {number}"));
        lines.push(Line::styled(incarnation, theme.dim()));
        // The names of those who say so are on the left, as in the rows of the other scene.
        lines.push(Line::styled(" seen by", theme.dim()));
        for other in (0..NODES).filter(|other| *other != node) {
            if self.is_killed(other) {
                continue;
            }
            let (symbol, word, style) = match self.world.view(other, node) {
                None => (theme.empty, "unknown", theme.dim()),
                Some((NodeState::Suspect, _)) => (theme.doubt, "suspect", theme.warn()),
                Some((_, Status::Failed)) => (theme.lost, "failed", theme.bad()),
                Some((_, Status::Left | Status::Leaving)) => (theme.empty, "left", theme.dim()),
                Some(_) => (theme.done, "alive", theme.good()),
            };
            let by = Span::styled(format!("  {} ", name_of(other)), theme.dim());
            lines.push(Line::from(vec![by, Span::styled(format!("{symbol} {word}"), style)]));
        }
        if let Some((since, end)) = self.suspicion(node) {
            let now = self.world.network.now();
            let part = (now - since).as_secs_f64() / (end - since).as_secs_f64().max(f64::MIN_POSITIVE);
            let width = usize::from(inner.width).saturating_sub(8);
            let left = (end - now).as_secs_f64();
            lines.resize(3 + NODES, Line::raw(""));
            lines.push(Line::styled(format!(" {} {left:>4.1}s", bar(width, part, theme)), theme.warn()));
        }
        frame.render_widget(Paragraph::new(lines), inner);
    }
}

impl Scene for FailureScene {
    fn title(&self) -> String {
        "gossip · failure".to_owned()
    }

    fn figures(&self) -> String {
        format!("{} packets   {:.1} s", self.world.network.totals().packets, self.world.ms() as f64 / 1_000.0)
    }

    fn tick(&mut self) -> Vec<Note> {
        if self.done() {
            return Vec::new();
        }
        self.world.network.run(STEP);
        let sent = self.world.network.sent();
        self.listen(&sent);
        self.time();
        if !self.world.directed {
            self.direct();
        }
        self.world.take_notes()
    }

    fn done(&self) -> bool {
        self.act == Act::Over && !self.world.directed
    }

    fn restart(&mut self) {
        *self = Self::new(self.world.seed);
    }

    fn keys(&self) -> &'static [(char, &'static str)] {
        &[('s', "stop n4"), ('g', "go on"), ('k', "kill n3"), ('b', "start")]
    }

    fn key(&mut self, key: char) {
        self.world.directed = true;
        match key {
            's' => self.stop(STOPPED),
            'g' => self.resume(STOPPED),
            'k' => self.kill(KILLED),
            _ => self.start(KILLED),
        }
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let [nodes, says, story] =
            Layout::vertical([Constraint::Length(11), Constraint::Length(4), Constraint::Min(4)]).areas(area);
        let columns = Layout::horizontal([Constraint::Ratio(1, NODES as u32); NODES]).split(nodes);
        for (node, area) in columns.iter().enumerate() {
            self.draw_node(frame, *area, node, theme);
        }
        say(frame, says, &LESSON.map(|sentence| (sentence, theme.strong())), theme);
        self.world.draw(frame, story, theme);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::stage::chronicle::tests::is_told_whole;

    #[test]
    fn all_that_is_said_fits_the_smallest_screen() {
        is_told_whole(&mut FailureScene::new(7), &LESSON);
    }

    #[test]
    fn keys_go_on_after_the_end() {
        let (mut scene, _) = play(7);
        scene.key('s');
        for _ in 0..2_000 {
            scene.tick();
            if !scene.all_see(STOPPED, |view| view.is_some_and(|(state, _)| state == NodeState::Alive)) {
                return;
            }
        }
        panic!("time stands still");
    }

    fn play(seed: u64) -> (FailureScene, Vec<Note>) {
        let mut scene = FailureScene::new(seed);
        let mut notes = Vec::new();
        while !scene.done() {
            notes.extend(scene.tick());
            assert!(scene.world.ms() < 600_000, "{:?} never ends", scene.act);
        }
        (scene, notes)
    }

    #[test]
    fn the_stopped_one_objects_and_the_killed_one_fails() {
        for seed in 0..10 {
            let (_, notes) = play(seed);
            let has = |node: &str, part: &str| {
                notes.iter().any(|note| note.fields[1].1 == json!(node) && note.text.contains(part))
            };
            assert!(has("n4", "objects: I am here, incarnation 2"), "seed {seed}");
            assert!(!notes.iter().any(|note| note.text.contains("declares failed: n4")), "seed {seed}");
            assert!(notes.iter().any(|note| note.text.contains("suspects n3")), "seed {seed}");
            assert!(has("n3", "no longer"), "seed {seed}: its time is cut short, and that is said");
            assert!(notes.iter().any(|note| note.text.contains("declares failed: n3")), "seed {seed}");
        }
    }

    #[test]
    fn one_seed_is_one_story() {
        assert_eq!(play(3).1, play(3).1);
        assert_ne!(play(3).1, play(4).1);
    }

    #[test]
    fn keys_in_any_order_leave_a_cluster_that_recovers() {
        let mut scene = FailureScene::new(2);
        let mut dice = fastrand::Rng::with_seed(2);
        for _ in 0..1_000 {
            scene.tick();
            if dice.u8(..) < 8 {
                scene.key(['s', 'g', 'k', 'b'][dice.usize(..4)]);
            }
        }
        scene.key('g');
        scene.key('b');
        let agreed = |scene: &FailureScene| {
            (0..NODES).all(|node| {
                scene.all_see(node, |view| view.is_some_and(|(state, _)| state == NodeState::Alive))
            })
        };
        for _ in 0..3_000 {
            scene.tick();
            if agreed(&scene) {
                return;
            }
        }
        panic!("they do not agree");
    }
}
