//! A deadline that travels with the call: told twice, without and with.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use serde_json::json;

use crate::cli::stage::chronicle::TIME;
use crate::cli::stage::theme::Theme;
use crate::cli::stage::widgets::{fit, panel, say};
use crate::cli::stage::{Note, Scene, TICK};

/// The story's clock is slower than its times, so that eyes can follow: one tick is this much.
const TICK_MS: u32 = 10;
/// One message between two machines.
const HOP_MS: u32 = 40;
/// What the gateway does before it asks on.
const GATEWAY_MS: u32 = 60;
/// What the answer would take, at least and at most, in steps of twenty: the seed chooses.
const WORK_MS: (u32, u32) = (700, 960);
/// How long each telling lasts.
const ROUND_MS: u32 = 1_300;
/// Deadlines that the keys choose from.
const DEADLINES_MS: [u32; 4] = [300, 500, 800, 1_200];

/// Who is busy from when to when.
struct Busy {
    from: u32,
    to: u32,
}

const WHO: &str = "A client asks a gateway, the gateway asks a store; the store needs long.";
const STAYS: &str = "Here only the client knows the deadline. The others work on after it has left.";
const TRAVELS: &str = "Now the deadline travels in the headers: grpc-timeout, connect-timeout-ms.";
const MORAL: &str = "A deadline that travels costs one header, and saves everyone behind it the work.";
const MET: &str = "The answer comes in time: it makes no difference whether the deadline travels.";

/// The scene.
pub(super) struct DeadlineScene {
    seed: u64,
    work_ms: u32,
    deadline: usize,
    travels: bool,
    now: u32,
    over: bool,
}

impl DeadlineScene {
    /// First without, then with. How long the store needs is from `seed`.
    pub(super) fn new(seed: u64) -> Self {
        let steps = fastrand::Rng::with_seed(seed).u32(0..=(WORK_MS.1 - WORK_MS.0) / 20);
        let work_ms = WORK_MS.0 + 20 * steps;
        Self { seed, work_ms, deadline: 1, travels: false, now: 0, over: false }
    }

    fn deadline_ms(&self) -> u32 {
        DEADLINES_MS[self.deadline]
    }

    /// When the reply would reach the client.
    fn reply_ms(&self) -> u32 {
        4 * HOP_MS + GATEWAY_MS + self.work_ms
    }

    /// Whether the answer comes in time.
    fn is_met(&self) -> bool {
        self.reply_ms() <= self.deadline_ms()
    }

    /// Until when the client waits.
    fn client(&self) -> Busy {
        Busy { from: 0, to: self.deadline_ms().min(self.reply_ms()) }
    }

    fn gateway(&self) -> Busy {
        let natural = self.reply_ms() - HOP_MS;
        Busy { from: HOP_MS, to: self.stopped(natural) }
    }

    fn store(&self) -> Busy {
        let from = 2 * HOP_MS + GATEWAY_MS;
        Busy { from, to: self.stopped(from + self.work_ms).max(from) }
    }

    /// The end of work: its own, or the deadline if the worker knows it.
    fn stopped(&self, natural: u32) -> u32 {
        if self.travels { natural.min(self.deadline_ms()) } else { natural }
    }

    /// Work that nobody waited for, so far.
    fn wasted_ms(&self) -> u32 {
        if self.is_met() {
            return 0;
        }
        let end = self.store().to.min(self.now);
        end.saturating_sub(self.deadline_ms().max(self.store().from))
    }

    /// Work that nobody waits for in the whole of a telling.
    fn wasted_in_all_ms(&self, travels: bool) -> u32 {
        Self { travels, now: u32::MAX, over: true, ..*self }.wasted_ms()
    }

    fn events(&self) -> Vec<(u32, &'static str, String)> {
        let deadline = self.deadline_ms();
        let known = |at: u32| match self.travels {
            true => format!(", {} ms left", deadline.saturating_sub(at)),
            false => String::new(),
        };
        let (store_from, work) = (self.store().from, self.work_ms);
        let mut events = vec![
            (0, "client", format!("calls, and will wait {deadline} ms")),
            (HOP_MS, "gateway", format!("has the call{}", known(HOP_MS))),
            (store_from, "store", format!("has the call{}: starts {work} ms of work", known(store_from))),
        ];
        if self.is_met() {
            let reply = self.reply_ms();
            events.push((reply - 2 * HOP_MS, "store", format!("answers after {work} ms of work")));
            events.push((reply - HOP_MS, "gateway", "passes the answer on".to_owned()));
            events.push((reply, "client", format!("has its answer, {} ms before the end", deadline - reply)));
            return events;
        }
        events.push((deadline, "client", "gives up: DEADLINE_EXCEEDED".to_owned()));
        if self.travels {
            events.push((deadline, "gateway", "stops the same instant".to_owned()));
            events.push((deadline, "store", "stops the same instant: nothing wasted".to_owned()));
        } else {
            let end = store_from + work;
            let wasted = end - deadline.max(store_from);
            events.push((end, "store", format!("finishes: {wasted} ms of work for nobody")));
            events.push((end + HOP_MS, "gateway", "passes an answer on that nobody awaits".to_owned()));
        }
        events
    }

    fn draw_bar(&self, frame: &mut Frame<'_>, area: Rect, name: &str, span: &Busy, theme: &Theme) {
        let deadline = self.deadline_ms();
        let busy = self.now >= span.from && self.now < span.to && !self.over;
        let inner = panel(frame, area, name, theme, if busy { theme.accent() } else { theme.dim() });
        let width = u32::from(inner.width.max(1));
        let cells = (0..width).map(|column| {
            let at = column * ROUND_MS / width;
            let filled = at >= span.from && at < span.to.min(self.now.max(span.from));
            let mark = (deadline * width / ROUND_MS) == column;
            match (filled, mark) {
                (true, _) if at >= deadline && !self.is_met() => Span::styled(theme.bar_wasted, theme.bad()),
                (true, _) => Span::styled(theme.bar_full, theme.good()),
                (false, true) => Span::styled("|", theme.warn()),
                (false, false) => Span::styled(theme.bar_empty, theme.dim()),
            }
        });
        let last = self.events().into_iter().rev().find(|(at, who, _)| *at <= self.now && *who == name);
        let says = last.map_or(String::new(), |(at, _, what)| format!(" {at:>5} ms  {what}"));
        let says = fit(&says, width as usize, theme);
        let lines = vec![Line::from(cells.collect::<Vec<_>>()), Line::styled(says, Style::new())];
        frame.render_widget(Paragraph::new(lines), inner);
    }
}

impl Scene for DeadlineScene {
    fn title(&self) -> String {
        "rpc · deadline".to_owned()
    }

    fn figures(&self) -> String {
        let travels = if self.travels { "travels" } else { "stays" };
        format!(
            "wasted {} ms   deadline {} ms, {travels}   {:>4} ms",
            self.wasted_ms(),
            self.deadline_ms(),
            self.now.min(ROUND_MS)
        )
    }

    fn tick(&mut self) -> Vec<Note> {
        if self.over {
            return Vec::new();
        }
        let round = if self.travels { "deadline travels" } else { "deadline stays" };
        let due = self.events().into_iter().filter(|(at, ..)| at.div_ceil(TICK_MS) * TICK_MS == self.now);
        let note = |(at, who, what): (u32, &str, String)| {
            Note::new(
                format!("{round:<16}  {who:<8} {what}"),
                vec![(TIME, json!(at)), ("round", json!(round)), ("who", json!(who)), ("what", json!(what))],
            )
        };
        let mut notes: Vec<Note> = due.map(note).collect();
        self.now += TICK_MS;
        if self.now > ROUND_MS {
            if self.travels {
                self.over = true;
                notes.push(note((ROUND_MS, "end", self.end())));
            } else {
                self.travels = true;
                self.now = 0;
            }
        }
        notes
    }

    fn done(&self) -> bool {
        self.over
    }

    fn restart(&mut self) {
        *self = Self { deadline: self.deadline, ..Self::new(self.seed) };
    }

    fn keys(&self) -> &'static [(char, &'static str)] {
        &[('d', "deadline"), ('t', "travels or not")]
    }

    fn key(&mut self, key: char) {
        match key {
            'd' => self.deadline = (self.deadline + 1) % DEADLINES_MS.len(),
            _ => self.travels = !self.travels,
        }
        self.now = 0;
        self.over = false;
    }

    fn size_max(&self) -> (u16, u16) {
        (120, 30)
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let [client, gateway, store, says] = Layout::vertical([
            Constraint::Length(4),
            Constraint::Length(4),
            Constraint::Length(4),
            Constraint::Min(5),
        ])
        .spacing(1)
        .areas(area);
        self.draw_bar(frame, client, "client", &self.client(), theme);
        self.draw_bar(frame, gateway, "gateway", &self.gateway(), theme);
        self.draw_bar(frame, store, "store", &self.store(), theme);
        let slow = TICK.as_millis() / u128::from(TICK_MS);
        let second = match (self.is_met(), self.travels, self.over) {
            (true, _, true) => MET,
            (_, false, _) => STAYS,
            (false, true, true) => MORAL,
            (_, true, _) => TRAVELS,
        };
        // What the first telling came to stays to be compared with.
        let compare = if self.travels { self.end() } else { String::new() };
        let wasted = theme.bar_wasted;
        let legend =
            format!("({slow} times slower than life; | is the deadline, {wasted} is work for nobody)");
        let sentences = [
            (WHO, theme.strong()),
            (second, theme.strong()),
            (compare.as_str(), if self.over { theme.accent() } else { theme.dim() }),
            (legend.as_str(), theme.dim()),
        ];
        say(frame, says, &sentences, theme);
    }
}

impl DeadlineScene {
    /// What both tellings come to.
    fn end(&self) -> String {
        let [stays, travels] = [false, true].map(|travels| self.wasted_in_all_ms(travels));
        match (self.is_met(), self.over) {
            (true, _) => format!("the answer takes {} ms, less than the deadline", self.reply_ms()),
            (false, true) => format!(
                "work for nobody: {stays} ms when the deadline stayed, {travels} ms when it travelled"
            ),
            (false, false) => format!("when it stayed with the client: {stays} ms of work for nobody"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::stage::chronicle::tests::is_said_whole;

    #[test]
    fn only_a_deadline_that_travels_wastes_nothing() {
        for seed in 0..20 {
            let mut scene = DeadlineScene::new(seed);
            let mut wasted = Vec::new();
            while !scene.done() {
                scene.tick();
                if scene.now == ROUND_MS {
                    wasted.push(scene.wasted_ms());
                }
            }
            assert_eq!(wasted, [2 * HOP_MS + GATEWAY_MS + scene.work_ms - 500, 0], "seed {seed}");
        }
        assert_ne!(DeadlineScene::new(7).work_ms, DeadlineScene::new(8).work_ms);
    }

    #[test]
    fn a_long_deadline_is_met_and_everybody_says_so() {
        let mut scene = DeadlineScene::new(7);
        scene.key('d');
        scene.key('d');
        assert_eq!(scene.deadline_ms(), 1_200);
        for who in ["client", "gateway", "store"] {
            let last = scene.events().into_iter().rev().find(|event| event.1 == who).unwrap();
            assert!(last.2.contains("answer"), "{last:?}");
        }
        is_said_whole(&mut scene, &[WHO, STAYS, TRAVELS, MET]);
        assert_eq!(scene.wasted_ms(), 0, "what was asked for is not wasted");
    }

    #[test]
    fn all_that_is_said_fits_the_smallest_screen() {
        is_said_whole(&mut DeadlineScene::new(7), &[WHO, STAYS, TRAVELS, MORAL, "ms when it travelled"]);
    }
}
