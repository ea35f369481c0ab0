//! A deadline that travels with the call: told twice, without and with.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use serde_json::json;

use crate::cli::stage::theme::Theme;
use crate::cli::stage::widgets::panel;
use crate::cli::stage::{Note, Scene, TICK};

/// The story's clock is slower than its times, so that eyes can follow: one tick is this much.
const TICK_MS: u32 = 10;
/// One message between two machines.
const HOP_MS: u32 = 40;
/// What the gateway does before it asks on.
const GATEWAY_MS: u32 = 60;
/// What the answer would take.
const WORK_MS: u32 = 900;
/// How long each telling lasts.
const ROUND_MS: u32 = 1_300;
/// Deadlines that the keys choose from.
const DEADLINES_MS: [u32; 4] = [300, 500, 800, 1_200];

/// Who is busy from when to when.
struct Busy {
    from: u32,
    to: u32,
}

/// The scene.
pub(super) struct DeadlineScene {
    deadline: usize,
    travels: bool,
    now: u32,
    over: bool,
}

impl DeadlineScene {
    /// First without, then with.
    pub(super) fn new() -> Self {
        Self { deadline: 1, travels: false, now: 0, over: false }
    }

    fn deadline_ms(&self) -> u32 {
        DEADLINES_MS[self.deadline]
    }

    /// When the reply would reach the client.
    fn reply_ms() -> u32 {
        4 * HOP_MS + GATEWAY_MS + WORK_MS
    }

    /// Until when the client waits.
    fn client(&self) -> Busy {
        Busy { from: 0, to: self.deadline_ms().min(Self::reply_ms()) }
    }

    fn gateway(&self) -> Busy {
        let natural = Self::reply_ms() - HOP_MS;
        Busy { from: HOP_MS, to: self.stopped(natural) }
    }

    fn store(&self) -> Busy {
        let from = 2 * HOP_MS + GATEWAY_MS;
        Busy { from, to: self.stopped(from + WORK_MS).max(from) }
    }

    /// The end of work: its own, or the deadline if the worker knows it.
    fn stopped(&self, natural: u32) -> u32 {
        if self.travels { natural.min(self.deadline_ms()) } else { natural }
    }

    /// Work that nobody waited for, so far.
    fn wasted_ms(&self) -> u32 {
        let end = self.store().to.min(self.now);
        end.saturating_sub(self.deadline_ms().max(self.store().from))
    }

    fn events(&self) -> Vec<(u32, &'static str, String)> {
        let deadline = self.deadline_ms();
        let known = |at: u32| match self.travels {
            true => format!(", {} ms left", deadline.saturating_sub(at)),
            false => String::new(),
        };
        let store_from = self.store().from;
        let mut events = vec![
            (0, "client", format!("calls, and will wait {deadline} ms")),
            (HOP_MS, "gateway", format!("has the call{}", known(HOP_MS))),
            (store_from, "store", format!("has the call{}: starts {WORK_MS} ms of work", known(store_from))),
        ];
        if deadline >= Self::reply_ms() {
            events.push((Self::reply_ms(), "client", "has its answer in time".to_owned()));
            return events;
        }
        events.push((deadline, "client", "gives up: DEADLINE_EXCEEDED".to_owned()));
        if self.travels {
            events.push((deadline, "gateway", "stops the same instant".to_owned()));
            events.push((deadline, "store", "stops the same instant: nothing wasted".to_owned()));
        } else {
            let end = store_from + WORK_MS;
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
                (true, _) if at >= deadline => Span::styled(theme.bar_wasted, theme.bad()),
                (true, _) => Span::styled(theme.bar_full, theme.good()),
                (false, true) => Span::styled("|", theme.warn()),
                (false, false) => Span::styled(theme.bar_empty, theme.dim()),
            }
        });
        let last = self.events().into_iter().rev().find(|(at, who, _)| *at <= self.now && *who == name);
        let says = last.map_or(String::new(), |(at, _, what)| format!(" {at:>5} ms  {what}"));
        let lines = vec![Line::from(cells.collect::<Vec<_>>()), Line::styled(says, Style::new())];
        frame.render_widget(Paragraph::new(lines), inner);
    }
}

impl Scene for DeadlineScene {
    fn title(&self) -> String {
        "rpc · deadline".to_owned()
    }

    fn figures(&self) -> String {
        let travels = if self.travels { "travels with the call" } else { "stays at the client" };
        format!(
            "deadline {} ms, {travels}   {:>4} ms   wasted {:>3} ms",
            self.deadline_ms(),
            self.now.min(ROUND_MS),
            self.wasted_ms()
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
                format!("{round:<16}  {at:>5} ms  {who:<8} {what}"),
                vec![
                    ("round", json!(round)),
                    ("at_ms", json!(at)),
                    ("who", json!(who)),
                    ("what", json!(what)),
                ],
            )
        };
        let notes = due.map(note).collect();
        self.now += TICK_MS;
        if self.now > ROUND_MS {
            if self.travels {
                self.over = true;
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
        *self = Self { deadline: self.deadline, ..Self::new() };
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
        let second = match (self.travels, self.over) {
            (false, _) => " Here only the client knows the deadline. The others work on after it has left.",
            (true, false) => " Now the deadline travels in the headers: grpc-timeout, connect-timeout-ms.",
            (true, true) => {
                " A deadline that travels costs one header, and saves everyone behind it the work."
            }
        };
        let lines = vec![
            Line::styled(
                " A client asks a gateway, the gateway asks a store; the store needs long.",
                theme.strong(),
            ),
            Line::styled(second, theme.strong()),
            Line::styled(
                format!(
                    " ({slow} times slower than life; | is the deadline, {} is work for nobody)",
                    theme.bar_wasted
                ),
                theme.dim(),
            ),
        ];
        frame.render_widget(Paragraph::new(lines), says);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_deadline_that_travels_wastes_nothing() {
        let mut scene = DeadlineScene::new();
        let mut wasted = Vec::new();
        while !scene.done() {
            scene.tick();
            if scene.now == ROUND_MS {
                wasted.push(scene.wasted_ms());
            }
        }
        assert_eq!(wasted, [540, 0]);
    }

    #[test]
    fn a_long_deadline_is_met() {
        let mut scene = DeadlineScene::new();
        scene.key('d');
        scene.key('d');
        assert_eq!(scene.deadline_ms(), 1_200);
        assert!(scene.events().iter().any(|(.., what)| what.contains("in time")));
    }
}
