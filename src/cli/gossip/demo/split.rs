//! The network falls apart. Each side takes the other for dead and goes on; when it heals, both come to one view.

use std::time::Duration;

use bytes::Bytes;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::world::World;
use crate::cli::stage::theme::Theme;
use crate::cli::stage::widgets::{panel, say};
use crate::cli::stage::{Note, Scene, TICK};
use crate::gossip::engine::{Change, Event, Input, Status};
use crate::gossip::simulate::{Happened, name_of};
use crate::gossip::wire::NodeState;

const NODES: usize = 8;
/// The first of the other side.
const OTHER_SIDE: usize = NODES / 2;
/// The nodes' time in a tick: four times as fast as ours.
const STEP: Duration = TICK.saturating_mul(4);
/// How long the story waits before it goes on.
const PAUSE: Duration = Duration::from_secs(4);
const KEY: &str = "price";
const LESSON: [&str; 2] = [
    "Nobody can tell a dead node from one that cannot be reached: both sides go on.",
    "Afterwards they find each other, and of two values the newer one stays.",
];

/// Where the story is, and what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// All agree; the price is set.
    Whole,
    /// All have the price.
    Priced,
    /// One side takes the other for dead.
    Cut,
    /// Each side has a price of its own.
    Apart,
    /// All agree again.
    Healing,
    Over,
}

/// The scene.
pub(super) struct SplitScene {
    world: World,
    act: Act,
    cut: bool,
    price: u32,
}

impl SplitScene {
    /// Eight nodes that know each other.
    pub(super) fn new(seed: u64) -> Self {
        Self { world: World::new(seed, NODES), act: Act::Whole, cut: false, price: 10 }
    }

    fn set_price(&mut self, node: usize, price: u32) {
        self.price = price;
        let value = Some(Bytes::from(price.to_string()));
        self.world.network.input(node, Input::Set { key: KEY.into(), value });
        self.world.note(&name_of(node), &format!("sets {KEY} to {price}"));
    }

    fn price_at(&self, node: usize) -> Option<String> {
        let stored = self.world.network.engine(node)?.store().get(KEY)?;
        Some(String::from_utf8_lossy(stored.value.as_ref()?).into_owned())
    }

    fn toggle_cut(&mut self) {
        self.cut = !self.cut;
        for node in OTHER_SIDE..NODES {
            self.world.network.set_side(node, u32::from(self.cut));
        }
        let what = match self.cut {
            true => format!("the network is cut between n{} and n{OTHER_SIDE}", OTHER_SIDE - 1),
            false => "the network is whole again: those that failed are tried now and then".to_owned(),
        };
        self.world.note("", &what);
    }

    /// Whether every node sees every other one as wanted.
    fn all(&self, wanted: impl Fn(usize, usize, NodeState, Status) -> bool) -> bool {
        let pairs = (0..NODES).flat_map(|by| (0..NODES).map(move |of| (by, of)));
        pairs.into_iter().filter(|(by, of)| by != of).all(|(by, of)| {
            self.world.view(by, of).is_some_and(|(state, status)| wanted(by, of, state, status))
        })
    }

    fn agree(&self) -> bool {
        let first = self.price_at(0);
        self.all(|_, _, state, _| state == NodeState::Alive)
            && (0..NODES).all(|node| self.price_at(node) == first)
    }

    fn sides_agree(&self) -> bool {
        let same = |nodes: std::ops::Range<usize>| {
            let first = self.price_at(nodes.start);
            nodes.into_iter().all(|node| self.price_at(node) == first)
        };
        same(0..OTHER_SIDE) && same(OTHER_SIDE..NODES)
    }

    /// Goes to the next act when what this one waits for has been so for a while.
    fn direct(&mut self) {
        let holds = match self.act {
            Act::Whole => true,
            Act::Priced | Act::Healing => self.agree(),
            Act::Cut => self
                .all(|by, of, _, status| (by < OTHER_SIDE) == (of < OTHER_SIDE) || status == Status::Failed),
            Act::Apart => self.sides_agree(),
            Act::Over => return,
        };
        if !self.world.has_held(holds, PAUSE) {
            return;
        }
        self.act = match self.act {
            Act::Whole => {
                self.set_price(0, self.price);
                Act::Priced
            }
            Act::Priced => {
                self.toggle_cut();
                Act::Cut
            }
            Act::Cut => {
                self.set_price(1, 12);
                self.world.network.run(STEP);
                self.set_price(6, 9);
                Act::Apart
            }
            Act::Apart => {
                self.toggle_cut();
                Act::Healing
            }
            Act::Healing | Act::Over => {
                let price = self.price_at(0).unwrap_or_default();
                let what = format!("agree: {NODES} members, and {KEY} is {price}, which was set last");
                self.world.note("all", &what);
                Act::Over
            }
        };
    }

    /// What the first and the last of a change say is enough: a line for each would be sixty-four.
    fn listen(&mut self) {
        for Happened { node, event, .. } in self.world.network.happened() {
            match event {
                Event::Member { change, member } if node % OTHER_SIDE == 0 => {
                    let what = match change {
                        Change::Suspect => "suspects",
                        Change::Failed => "declares failed:",
                        Change::Join => "sees again:",
                        Change::Refuted => "hears the objection of",
                        Change::Leave | Change::Update | Change::Reap => continue,
                    };
                    self.world.note(&name_of(node), &format!("{what} {}", member.name));
                }
                _ => {}
            }
        }
    }

    fn row(&self, by: usize, theme: &Theme) -> Line<'static> {
        let mut spans = vec![Span::styled(format!(" {:<4}", name_of(by)), theme.strong())];
        for of in 0..NODES {
            if of == OTHER_SIDE {
                spans.push(Span::styled(if self.cut { " | " } else { "   " }, theme.bad()));
            }
            let (symbol, style) = match self.world.view(by, of) {
                None => (theme.empty, theme.dim()),
                Some((NodeState::Suspect, _)) => (theme.doubt, theme.warn()),
                Some((NodeState::Alive, _)) => (theme.done, theme.good()),
                Some(_) => (theme.lost, theme.bad()),
            };
            spans.push(Span::styled(format!(" {symbol} "), style));
        }
        spans.push(Span::raw("   "));
        spans.push(match self.price_at(by) {
            Some(price) => {
                let style = if price == self.price.to_string() { theme.good() } else { theme.warn() };
                Span::styled(format!("{KEY} {price}"), style)
            }
            None => Span::styled(format!("no {KEY}"), theme.dim()),
        });
        Line::from(spans)
    }
}

impl Scene for SplitScene {
    fn title(&self) -> String {
        if self.cut { "gossip · split · cut".to_owned() } else { "gossip · split".to_owned() }
    }

    fn figures(&self) -> String {
        let totals = self.world.network.totals();
        format!(
            "{} packets   {} streams   {:.1} s",
            totals.packets,
            totals.streams,
            self.world.ms() as f64 / 1_000.0
        )
    }

    fn tick(&mut self) -> Vec<Note> {
        if self.done() {
            return Vec::new();
        }
        self.world.network.run(STEP);
        self.listen();
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
        &[('p', "cut/heal"), ('a', "price above"), ('b', "below")]
    }

    fn key(&mut self, key: char) {
        self.world.directed = true;
        match key {
            'p' => self.toggle_cut(),
            'a' => self.set_price(1, self.price + 1),
            _ => self.set_price(6, self.price + 1),
        }
    }

    fn size_max(&self) -> (u16, u16) {
        (110, 50)
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let [views, says, story] =
            Layout::vertical([Constraint::Length(12), Constraint::Length(3), Constraint::Min(4)]).areas(area);
        let title = format!(
            "each row is what one node sees   {} alive  {} suspect  {} failed",
            theme.done, theme.doubt, theme.lost
        );
        let inner = panel(frame, views, &title, theme, if self.cut { theme.bad() } else { theme.accent() });
        let mut head = vec![Span::raw("     ")];
        for of in 0..NODES {
            if of == OTHER_SIDE {
                head.push(Span::raw("   "));
            }
            head.push(Span::styled(name_of(of).to_string() + " ", theme.dim()));
        }
        let mut lines = vec![Line::from(head)];
        for by in 0..NODES {
            if by == OTHER_SIDE {
                let rule = if self.cut { theme.shaft.repeat(40) } else { String::new() };
                lines.push(Line::styled(
                    format!(" {rule}"),
                    if self.cut { theme.bad() } else { Style::new() },
                ));
            }
            lines.push(self.row(by, theme));
        }
        frame.render_widget(Paragraph::new(lines), inner);
        say(frame, says, &LESSON.map(|sentence| (sentence, theme.strong())), theme);
        self.world.draw(frame, story, theme);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::stage::chronicle::tests::is_told_whole;

    #[test]
    fn all_that_is_said_fits_the_smallest_screen() {
        is_told_whole(&mut SplitScene::new(7), &LESSON);
    }

    #[test]
    fn keys_go_on_after_the_end() {
        let mut scene = SplitScene::new(7);
        while !scene.done() {
            scene.tick();
        }
        scene.key('a');
        for _ in 0..500 {
            scene.tick();
            if scene.price_at(7).as_deref() == Some("10") {
                return;
            }
        }
        panic!("the price of one never comes to the others: {:?}", scene.price_at(7));
    }

    #[test]
    fn both_sides_come_to_one_view_and_the_newer_price() {
        for seed in 0..5 {
            let mut scene = SplitScene::new(seed);
            let mut apart = false;
            while !scene.done() {
                scene.tick();
                apart |=
                    scene.price_at(0).as_deref() == Some("12") && scene.price_at(7).as_deref() == Some("9");
                assert!(scene.world.ms() < 600_000, "seed {seed}: {:?} never ends", scene.act);
            }
            assert!(apart, "seed {seed}: each side has a price of its own for a while");
            assert!((0..NODES).all(|node| scene.price_at(node).as_deref() == Some("9")), "seed {seed}");
            assert!(scene.all(|_, _, state, _| state == NodeState::Alive), "seed {seed}");
        }
    }

    #[test]
    fn keys_in_any_order_end_in_one_view() {
        let mut scene = SplitScene::new(4);
        for key in ['a', 'p', 'b', 'a', 'p', 'p', 'b'] {
            scene.key(key);
            for _ in 0..40 {
                scene.tick();
            }
        }
        if scene.cut {
            scene.key('p');
        }
        for _ in 0..5_000 {
            scene.tick();
            if scene.agree() {
                return;
            }
        }
        panic!("they do not agree");
    }
}
