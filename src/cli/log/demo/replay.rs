//! A log is no queue: reading takes nothing away. A second group reads from the start, and one group goes back.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use serde_json::json;

use crate::cli::stage::chronicle::{Chronicle, TIME};
use crate::cli::stage::theme::Theme;
use crate::cli::stage::widgets::{fit, panel, say};
use crate::cli::stage::{Note, Scene, TICK};

/// Records of the story.
const RECORDS: usize = 48;
/// Records that are kept: the oldest go when there are more, read or not.
const KEPT: usize = 36;
/// Ticks between two of them, at least and at most.
const EVERY: (u32, u32) = (5, 11);
/// When the second group begins, and when the first goes back because of an error in its code.
const SECOND_AT: u32 = 150;
const BACK_AT: u32 = 300;
/// How far it goes back.
const BACK_BY: usize = 12;
/// What the key for more adds.
const BURST: usize = 12;
const LESSON: [&str; 2] = [
    "Reading takes nothing away: each group has its own place, and may go back.",
    "Records go when they are too old or too many, not when they were read.",
];
const KEYS: [&str; 6] = ["ada", "bob", "cleo", "dan", "eve", "finn"];

#[derive(Debug)]
struct Record {
    key: &'static str,
    euros: u32,
}

#[derive(Debug)]
struct Group {
    name: &'static str,
    position: usize,
    /// The furthest it has been: before that it reads again.
    furthest: usize,
    /// Ticks for a record.
    takes: u32,
    worked: u32,
    read: usize,
    sum: u32,
}

impl Group {
    fn new(name: &'static str, position: usize, takes: u32) -> Self {
        Self { name, position, furthest: position, takes, worked: 0, read: 0, sum: 0 }
    }
}

/// The scene.
pub(super) struct ReplayScene {
    seed: u64,
    dice: fastrand::Rng,
    records: Vec<Record>,
    /// Records before this are gone.
    start: usize,
    groups: Vec<Group>,
    now: u32,
    wanted: usize,
    next_at: u32,
    notes: Vec<Note>,
    chronicle: Chronicle,
}

impl ReplayScene {
    /// One group that reads what comes. Which orders come, and when, is from `seed`.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            dice: fastrand::Rng::with_seed(seed),
            records: Vec::new(),
            start: 0,
            groups: vec![Group::new("billing", 0, 6)],
            now: 0,
            wanted: RECORDS,
            next_at: 2,
            notes: Vec::new(),
            chronicle: Chronicle::default(),
        }
    }

    fn note(&mut self, who: &str, what: &str, offset: Option<usize>) {
        let ms = self.now * TICK.as_millis() as u32;
        self.notes.push(Note::new(
            format!("{who:<9} {what}"),
            vec![
                (TIME, json!(ms)),
                ("who", json!(who)),
                ("what", json!(what)),
                ("offset", json!(offset)),
                ("start", json!(self.start)),
                ("end", json!(self.records.len())),
            ],
        ));
    }

    fn produce(&mut self) {
        let record = Record { key: KEYS[self.dice.usize(..KEYS.len())], euros: self.dice.u32(5..100) };
        let (offset, what) =
            (self.records.len(), format!("appends {} of {}", euros(record.euros), record.key));
        self.records.push(record);
        self.note("producer", &format!("{what} @{offset}"), Some(offset));
        if offset + 1 - self.start > KEPT {
            self.start += KEPT / 4;
            let what =
                format!("removes the {} oldest, read or not: the log begins @{}", KEPT / 4, self.start);
            self.note("retention", &what, Some(self.start));
            for at in 0..self.groups.len() {
                let group = &mut self.groups[at];
                if group.position < self.start {
                    let (name, missed) = (group.name, self.start - group.position);
                    group.position = self.start;
                    self.note(
                        name,
                        &format!("was too slow: {missed} records went before it read them"),
                        None,
                    );
                }
            }
        }
    }

    fn read(&mut self) {
        for at in 0..self.groups.len() {
            let group = &mut self.groups[at];
            group.worked += 1;
            // What is known to be there is read quickly.
            let takes = if group.position < group.furthest { group.takes / 2 } else { group.takes };
            if group.worked < takes.max(1) || group.position >= self.records.len() {
                continue;
            }
            let record = &self.records[group.position];
            let (name, offset, again) = (group.name, group.position, group.position < group.furthest);
            let again = if again { "reads again" } else { "reads" };
            let what = format!("{again} {} of {} @{offset}", euros(record.euros), record.key);
            group.worked = 0;
            group.read += 1;
            group.sum += record.euros;
            group.position += 1;
            group.furthest = group.furthest.max(group.position);
            self.note(name, &what, Some(offset));
        }
    }

    /// A new group, from the first record that there is.
    fn second(&mut self) {
        if self.groups.len() > 1 {
            return;
        }
        self.groups.push(Group::new("audit", self.start, 3));
        let what = format!("begins at the start, @{}: what billing has read is still there", self.start);
        self.note("audit", &what, Some(self.start));
    }

    /// `bandy log seek -g billing orders --by -12`.
    fn back(&mut self) {
        let start = self.start;
        let group = &mut self.groups[0];
        let (old, new) = (group.position, group.position.saturating_sub(BACK_BY).max(start));
        group.position = new;
        self.note("billing", &format!("seeks {old} to {new}: the same orders pass once more"), Some(new));
    }
}

fn euros(amount: u32) -> String {
    format!("{amount} EUR")
}

impl Scene for ReplayScene {
    fn title(&self) -> String {
        "log · replay".to_owned()
    }

    fn figures(&self) -> String {
        let read: Vec<String> =
            self.groups.iter().map(|group| format!("{} read {}", group.name, group.read)).collect();
        format!("orders @{}..{}  {}", self.start, self.records.len(), read.join("  "))
    }

    fn tick(&mut self) -> Vec<Note> {
        if self.done() {
            return Vec::new();
        }
        self.now += 1;
        if self.now >= self.next_at && self.records.len() < self.wanted {
            self.produce();
            self.next_at = self.now + self.dice.u32(EVERY.0..=EVERY.1);
        }
        if self.now == SECOND_AT {
            self.second();
        }
        if self.now == BACK_AT {
            self.back();
        }
        self.read();
        if self.done() {
            let read: Vec<String> =
                self.groups.iter().map(|group| format!("{} has read {}", group.name, group.read)).collect();
            let left = self.records.len() - self.start;
            let what = format!("{} orders came: {}; {left} are still there", self.wanted, read.join(", "));
            self.note("all", &what, None);
        }
        self.chronicle.add(&self.notes);
        std::mem::take(&mut self.notes)
    }

    fn done(&self) -> bool {
        self.records.len() == self.wanted
            && self.groups.iter().all(|group| group.position == self.records.len())
            && self.now > BACK_AT
    }

    fn restart(&mut self) {
        *self = Self::new(self.seed);
    }

    fn keys(&self) -> &'static [(char, &'static str)] {
        &[('g', "new group"), ('b', "go back"), ('m', "more")]
    }

    fn key(&mut self, key: char) {
        match key {
            'g' => self.second(),
            'b' => self.back(),
            _ => self.wanted += BURST,
        }
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let [log, says, story] =
            Layout::vertical([Constraint::Length(8), Constraint::Length(3), Constraint::Min(4)]).areas(area);
        let inner = panel(frame, log, "orders, partition 0: the oldest on the left", theme, theme.accent());
        let room = usize::from(inner.width).saturating_sub(12);
        // As many cells as fit, and the place of each offset among them.
        let first = self.records.len().saturating_sub(room);
        let mut tape = vec![Span::raw(" log      ")];
        for offset in first..self.records.len() {
            let (cell, style) = match offset < self.start {
                true => (theme.empty, theme.dim()),
                false => (theme.done, theme.good()),
            };
            tape.push(Span::styled(cell, style));
        }
        // The number of every tenth stands under it.
        let mut numbers = String::new();
        for offset in (first..self.records.len()).filter(|offset| offset.is_multiple_of(10)) {
            numbers += &" ".repeat((offset - first).saturating_sub(numbers.len()));
            numbers += &offset.to_string();
        }
        let numbers = fit(&format!(" offset   {numbers}"), usize::from(inner.width), theme);
        let mut lines = vec![Line::from(tape), Line::styled(numbers, theme.dim())];
        for group in &self.groups {
            let at = group.position.saturating_sub(first);
            let style = if group.position < group.furthest { theme.warn() } else { theme.accent() };
            lines.push(Line::from(vec![
                Span::styled(format!(" {:<9}", group.name), style),
                Span::raw(" ".repeat(at.min(room))),
                Span::styled("^", style),
                Span::styled(format!("{}", group.position), theme.dim()),
            ]));
        }
        lines.resize(5, Line::raw(""));
        let sums: Vec<String> = self
            .groups
            .iter()
            .map(|group| format!("{}: {} read, {}", group.name, group.read, euros(group.sum)))
            .collect();
        lines.push(Line::styled(format!(" {}", sums.join("   ")), theme.dim()));
        frame.render_widget(Paragraph::new(lines), inner);
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
        is_told_whole(&mut ReplayScene::new(7), &LESSON);
    }

    #[test]
    fn a_place_stands_still_as_long_as_there_is_room() {
        let mut scene = ReplayScene::new(7);
        let column = |scene: &ReplayScene| {
            let rows = rows(scene, (80, 24), &Theme::ascii());
            let row = rows.into_iter().find(|row| row.contains("offset")).unwrap();
            row.find(" 10")
        };
        while scene.start == 0 {
            scene.tick();
        }
        let before = column(&scene);
        while !scene.done() {
            scene.tick();
        }
        assert!(before.is_some() && before == column(&scene), "records that go leave their place");
    }

    #[test]
    fn keys_go_on_after_the_end() {
        let mut scene = ReplayScene::new(7);
        for key in ['b', 'm'] {
            while !scene.done() {
                scene.tick();
            }
            scene.key(key);
            assert!(!scene.done());
        }
    }

    #[test]
    fn both_groups_read_to_the_end_and_one_reads_some_twice() {
        for seed in 0..20 {
            let mut scene = ReplayScene::new(seed);
            while !scene.done() {
                scene.tick();
                assert!(
                    scene
                        .groups
                        .iter()
                        .all(|it| scene.start <= it.position && it.position <= scene.records.len())
                );
                assert!(scene.now < 10_000, "seed {seed} does not end");
            }
            let [billing, audit] = &scene.groups[..] else { panic!("two groups") };
            assert!(billing.read > RECORDS, "seed {seed}: {} of {RECORDS}", billing.read);
            assert!(audit.read <= RECORDS && audit.position == RECORDS);
        }
    }

    #[test]
    fn keys_never_lead_out_of_the_log() {
        let mut scene = ReplayScene::new(3);
        let mut dice = fastrand::Rng::with_seed(3);
        for _ in 0..3_000 {
            scene.tick();
            if dice.u8(..) < 20 {
                scene.key(['g', 'b', 'm'][dice.usize(..3)]);
            }
            assert!(
                scene
                    .groups
                    .iter()
                    .all(|it| scene.start <= it.position && it.position <= scene.records.len())
            );
        }
    }
}
