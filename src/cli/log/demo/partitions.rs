//! Keys choose partitions; the readers of a group share them. One reader is too slow, others join, one is killed.

use std::collections::BTreeMap;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use serde_json::json;

use crate::cli::stage::chronicle::{Chronicle, TIME};
use crate::cli::stage::theme::Theme;
use crate::cli::stage::widgets::{fit, panel, say};
use crate::cli::stage::{Note, Scene, TICK};
use crate::log::client::group::assign::{Assignor, Member};
use crate::log::client::{murmur2, of_key};
use crate::log::wire::consumer_protocol::{Partitions, Subscription};

const TOPIC: &str = "orders";
const PARTITIONS: usize = 4;
/// Records of the story.
const RECORDS: u32 = 200;
/// Ticks between two of them, as long as there is a rush and afterwards. Then one reader could just keep pace.
const EVERY: u32 = 2;
const EVERY_LATER: u32 = 3;
const RUSH: u32 = 85;
/// Ticks that a reader takes for one, and a slow one.
const TAKES: u32 = 3;
const TAKES_SLOW: u32 = 12;
/// A reader tells the group how far it is after so many ticks.
const COMMIT_EVERY: u32 = 30;
/// The group waits so many ticks for all members to join again.
const ROUND: u32 = 10;
/// Who is silent for so many ticks is out.
const SESSION: u32 = 40;
/// When the story lets readers join, and kills one.
const JOIN_AT: [u32; 2] = [170, 250];
const KILL_AT: u32 = 355;
/// A lag of so many is worth a word, and one of so few is no lag any more.
const LAG_GROWN: u32 = 20;
const LAG_MELTED: u32 = 4;
const LESSON: [&str; 2] = [
    "The records of a key stay in order: they are in one partition, and one reader has it.",
    "A reader that joins takes work from others. What a dead one has not stored is read again.",
];
const READERS_MAX: usize = 5;
/// What the key for more adds.
const BURST: u32 = 60;
const KEYS: [&str; 12] =
    ["ada", "bob", "cleo", "dan", "eve", "finn", "gus", "hana", "ivo", "june", "kim", "leo"];

/// A partition and how far the group has stored that it is.
#[derive(Debug, Default, Clone, Copy)]
struct Part {
    end: u32,
    stored: u32,
    /// The furthest that anybody has read: before it records are read again.
    seen: u32,
}

#[derive(Debug)]
struct Reader {
    name: String,
    /// What it reads, and how far it is.
    own: BTreeMap<usize, u32>,
    generation: i32,
    worked: u32,
    /// Its turn among its partitions.
    turn: usize,
    is_slow: bool,
    /// When it was killed.
    killed_at: Option<u32>,
}

/// The scene.
pub(super) struct PartitionsScene {
    seed: u64,
    dice: fastrand::Rng,
    parts: [Part; PARTITIONS],
    readers: Vec<Reader>,
    joined: u32,
    generation: i32,
    /// When the round that is under way ends.
    round_ends: Option<u32>,
    now: u32,
    sent: u32,
    wanted: u32,
    again: u32,
    last: Option<(&'static str, usize, u32)>,
    /// The viewer has taken over: the story lets nobody join or die any more.
    directed: bool,
    /// The lag has grown, and has not melted yet.
    lags: bool,
    notes: Vec<Note>,
    chronicle: Chronicle,
}

impl PartitionsScene {
    /// One reader, and records that come faster than it reads.
    pub(super) fn new(seed: u64) -> Self {
        let mut scene = Self {
            seed,
            dice: fastrand::Rng::with_seed(seed),
            parts: [Part::default(); PARTITIONS],
            readers: Vec::new(),
            joined: 0,
            generation: 0,
            round_ends: None,
            now: 0,
            sent: 0,
            wanted: RECORDS,
            again: 0,
            last: None,
            directed: false,
            lags: false,
            notes: Vec::new(),
            chronicle: Chronicle::default(),
        };
        scene.join();
        scene
    }

    /// Who reads a partition, and how far the group is in it.
    fn place(&self, at: usize) -> (Option<&Reader>, u32) {
        let reader = self.readers.iter().find(|reader| reader.own.contains_key(&at));
        (reader, reader.map_or(self.parts[at].stored, |reader| reader.own[&at]))
    }

    /// Records of a partition that wait to be read.
    fn lag_of(&self, at: usize) -> u32 {
        self.parts[at].end - self.place(at).1
    }

    /// The sum of what the rows show.
    fn lag(&self) -> u32 {
        (0..PARTITIONS).map(|at| self.lag_of(at)).sum()
    }

    /// Says that the lag has grown, and that it has melted.
    fn watch(&mut self) {
        let (lag, readers) = (self.lag(), self.alive().count());
        let many = if readers == 1 { "one reader reads".to_owned() } else { format!("{readers} read") };
        if !self.lags && lag >= LAG_GROWN {
            self.lags = true;
            self.note("group", &format!("lags by {lag}: {many} less than what comes"));
        } else if self.lags && lag <= LAG_MELTED {
            self.lags = false;
            self.note("group", &format!("has caught up: the lag is {lag}, {many} as fast as it comes"));
        }
    }

    fn note(&mut self, who: &str, what: &str) {
        let ms = self.now * TICK.as_millis() as u32;
        self.notes.push(Note::new(
            format!("{who:<8} {what}"),
            vec![
                (TIME, json!(ms)),
                ("who", json!(who)),
                ("what", json!(what)),
                ("lag", json!(self.lag())),
                ("readers", json!(self.alive().count())),
            ],
        ));
    }

    fn alive(&self) -> impl Iterator<Item = &Reader> {
        self.readers.iter().filter(|reader| reader.killed_at.is_none())
    }

    fn join(&mut self) {
        if self.readers.len() == READERS_MAX {
            return;
        }
        self.joined += 1;
        let name = format!("c{}", self.joined);
        let (own, generation) = (BTreeMap::new(), -1);
        self.readers.push(Reader {
            name: name.clone(),
            own,
            generation,
            worked: 0,
            turn: 0,
            is_slow: false,
            killed_at: None,
        });
        self.note(&name, "joins the group: its partitions are divided anew");
        self.begin_round();
    }

    /// Its process is gone; the group finds out when nothing is heard of it.
    fn kill(&mut self, at: usize) {
        let now = self.now;
        let reader = &mut self.readers[at];
        if reader.killed_at.is_some() {
            return;
        }
        reader.killed_at = Some(now);
        let name = reader.name.clone();
        self.note(&name, "is killed: what it has not stored will be read again");
    }

    fn begin_round(&mut self) {
        self.round_ends.get_or_insert(self.now + ROUND);
    }

    /// The leader divides; who gives something up stores how far it was, and others get it in the next round.
    fn divide(&mut self) {
        let member = |reader: &Reader| {
            let numbers: Vec<i32> = reader.own.keys().map(|at| *at as i32).collect();
            let owned =
                if numbers.is_empty() { Partitions::new() } else { [(TOPIC.to_owned(), numbers)].into() };
            let subscription = Subscription {
                topics: vec![TOPIC.to_owned()],
                owned,
                generation: reader.generation,
                ..Subscription::default()
            };
            Member { id: reader.name.clone(), instance: None, subscription }
        };
        let members: Vec<Member> = self.readers.iter().map(member).collect();
        let topics = [(TOPIC.to_owned(), PARTITIONS)].into();
        let division = Assignor::CooperativeSticky.divide(&members, &topics);
        self.generation += 1;
        let mut gives_up = false;
        for at in 0..self.readers.len() {
            let share = division[&self.readers[at].name].get(TOPIC).cloned().unwrap_or_default();
            let share: Vec<usize> = share.into_iter().map(|number| number as usize).collect();
            let reader = &mut self.readers[at];
            reader.generation = self.generation;
            let gone: Vec<usize> = reader.own.keys().copied().filter(|it| !share.contains(it)).collect();
            let new: Vec<usize> = share.iter().copied().filter(|it| !reader.own.contains_key(it)).collect();
            for partition in &gone {
                if let Some(position) = reader.own.remove(partition) {
                    self.parts[*partition].stored = position;
                }
            }
            for partition in &new {
                reader.own.insert(*partition, self.parts[*partition].stored);
            }
            let name = reader.name.clone();
            gives_up |= !gone.is_empty();
            if !gone.is_empty() {
                self.note(&name, &format!("gives up {} and goes on with the rest", list(&gone)));
            }
            if !new.is_empty() {
                let from: Vec<String> =
                    new.iter().map(|it| format!("p{it} @{}", self.parts[*it].stored)).collect();
                self.note(&name, &format!("gets {}: where the group is", from.join(", ")));
            }
        }
        if gives_up {
            self.begin_round();
        } else {
            let idle: Vec<String> = self
                .alive()
                .filter(|reader| reader.own.is_empty())
                .map(|reader| reader.name.clone())
                .collect();
            for name in idle {
                self.note(&name, "has nothing to read: there are more readers than partitions");
            }
        }
    }

    fn produce(&mut self) {
        let key = KEYS[self.dice.usize(..KEYS.len())];
        let at = usize::try_from(of_key(key.as_bytes(), PARTITIONS)).unwrap_or(0);
        self.last = Some((key, at, self.parts[at].end));
        self.parts[at].end += 1;
        self.sent += 1;
    }

    fn read(&mut self) {
        for reader in self.readers.iter_mut().filter(|reader| reader.killed_at.is_none()) {
            reader.worked += 1;
            if reader.worked >= if reader.is_slow { TAKES_SLOW } else { TAKES } {
                // Its partitions take turns, as far as there is something in them.
                let own: Vec<usize> = reader.own.keys().copied().collect();
                let waiting = (0..own.len()).map(|step| own[(reader.turn + step) % own.len()]);
                let next = waiting.into_iter().find(|at| reader.own[at] < self.parts[*at].end);
                if let Some(at) = next {
                    let position = reader.own.entry(at).or_default();
                    let part = &mut self.parts[at];
                    self.again += u32::from(*position < part.seen);
                    *position += 1;
                    part.seen = part.seen.max(*position);
                    reader.worked = 0;
                    reader.turn += 1;
                }
            }
            if self.now.is_multiple_of(COMMIT_EVERY) || self.sent == self.wanted {
                for (at, position) in &reader.own {
                    self.parts[*at].stored = *position;
                }
            }
        }
    }

    fn bury(&mut self) {
        let now = self.now;
        let is_over = |reader: &Reader| reader.killed_at.is_some_and(|at| now >= at + SESSION);
        if let Some(at) = self.readers.iter().position(is_over) {
            let reader = self.readers.remove(at);
            let own: Vec<usize> = reader.own.keys().copied().collect();
            let what = format!("is silent for too long: {} goes to others", list(&own));
            self.note(&reader.name, if own.is_empty() { "is silent for too long" } else { &what });
            self.begin_round();
        }
    }
}

fn list(partitions: &[usize]) -> String {
    partitions.iter().map(|at| format!("p{at}")).collect::<Vec<_>>().join(", ")
}

impl Scene for PartitionsScene {
    fn title(&self) -> String {
        "log · partitions".to_owned()
    }

    fn figures(&self) -> String {
        let readers = self.alive().count();
        format!(
            "readers {readers}   lag {}   read again {}   {TOPIC} {}/{}",
            self.lag(),
            self.again,
            self.sent,
            self.wanted
        )
    }

    fn tick(&mut self) -> Vec<Note> {
        if self.done() {
            return Vec::new();
        }
        self.now += 1;
        // What a viewer asks for is a rush as well.
        let rush = self.sent < RUSH || self.wanted > RECORDS;
        let every = if rush { EVERY } else { EVERY_LATER };
        if self.now.is_multiple_of(every) && self.sent < self.wanted {
            self.produce();
            if self.sent == RUSH {
                self.note("producer", "slows down: as many come now as one reader can read");
            }
        }
        if !self.directed && JOIN_AT.contains(&self.now) {
            self.join();
        }
        if !self.directed && self.now == KILL_AT {
            self.kill(1);
        }
        self.bury();
        if self.round_ends.is_some_and(|end| self.now >= end) {
            self.round_ends = None;
            self.divide();
        }
        self.read();
        self.watch();
        if self.done() {
            let (again, sent) = (self.again, self.sent);
            self.note(
                "group",
                &format!("has read all {sent} records; {again} of them twice, none was left out"),
            );
        }
        self.chronicle.add(&self.notes);
        std::mem::take(&mut self.notes)
    }

    fn done(&self) -> bool {
        self.sent == self.wanted && self.parts.iter().all(|part| part.stored == part.end)
    }

    fn restart(&mut self) {
        *self = Self::new(self.seed);
    }

    fn keys(&self) -> &'static [(char, &'static str)] {
        &[('a', "add reader"), ('d', "kill one"), ('s', "slow one"), ('m', "more")]
    }

    fn key(&mut self, key: char) {
        self.directed |= matches!(key, 'a' | 'd');
        match key {
            'a' => self.join(),
            'd' if self.alive().count() > 1 => {
                let alive = |reader: &Reader| reader.killed_at.is_none();
                if let Some(at) = self.readers.iter().rposition(alive) {
                    self.kill(at);
                }
            }
            's' => {
                let slow = self.readers.iter_mut().find(|reader| reader.killed_at.is_none());
                if let Some(reader) = slow {
                    reader.is_slow = !reader.is_slow;
                    let what =
                        if reader.is_slow { "has become slow: its lag grows" } else { "is quick again" };
                    let name = reader.name.clone();
                    self.note(&name, what);
                }
            }
            'm' => self.wanted += BURST,
            _ => {}
        }
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let [parts, says, story] = Layout::vertical([
            Constraint::Length(PARTITIONS as u16 * 2 + 4),
            Constraint::Length(4),
            Constraint::Min(4),
        ])
        .areas(area);
        let inner = panel(frame, parts, &format!("topic {TOPIC}, group billing"), theme, theme.accent());
        let mut lines = Vec::new();
        let most = self.parts.iter().map(|part| part.end).max().unwrap_or(0).max(40);
        for at in 0..PARTITIONS {
            lines.extend([self.row(at, most, usize::from(inner.width), theme), Line::raw("")]);
        }
        let last = self.last.map_or_else(String::new, |(key, at, offset)| {
            let hash = murmur2(key.as_bytes());
            format!(" last: key={key} hash 0x{hash:08x} {} p{at} @{offset}", theme.head_right)
        });
        lines.push(Line::styled(last, theme.dim()));
        let width = usize::from(inner.width);
        lines.push(Line::raw(fit(&self.who_reads_what(theme), width, theme)));
        frame.render_widget(Paragraph::new(lines), inner);
        say(frame, says, &LESSON.map(|sentence| (sentence, theme.strong())), theme);
        self.chronicle.draw(frame, story, theme);
    }
}

impl PartitionsScene {
    /// Each reader with its partitions, also one that has none.
    fn who_reads_what(&self, theme: &Theme) -> String {
        let readers = self.readers.iter().map(|reader| {
            let own: Vec<usize> = reader.own.keys().copied().collect();
            match (reader.killed_at, own.is_empty()) {
                (Some(_), _) => format!("{} {}", reader.name, theme.lost),
                (None, true) => format!("{} idle", reader.name),
                (None, false) => format!("{} {}", reader.name, list(&own).replace(',', "")),
            }
        });
        format!(" readers: {}", readers.collect::<Vec<_>>().join("   "))
    }

    /// What is read, what waits, who reads, how far behind.
    fn row(&self, at: usize, most: u32, width: usize, theme: &Theme) -> Line<'static> {
        let part = self.parts[at];
        let (reader, position) = self.place(at);
        let room = width.saturating_sub(38).max(10);
        let cells = |count: u32| (count as usize * room).div_ceil(most as usize).min(room);
        let (read, end) = (cells(position), cells(part.end));
        let lag = part.end - position;
        let style = match reader {
            None => theme.warn(),
            Some(reader) if reader.killed_at.is_some() => theme.bad(),
            Some(_) if lag > 12 => theme.warn(),
            Some(_) => theme.good(),
        };
        let who = match reader {
            None => format!("{} nobody", theme.empty),
            Some(reader) if reader.killed_at.is_some() => format!("{} {}", theme.lost, reader.name),
            Some(reader) => {
                format!("{} {}", if reader.is_slow { theme.doubt } else { theme.done }, reader.name)
            }
        };
        Line::from(vec![
            Span::raw(format!(" p{at} ")),
            Span::styled(theme.bar_empty.repeat(read), theme.dim()),
            Span::styled(theme.bar_full.repeat(end.saturating_sub(read)), style),
            Span::raw(" ".repeat(room - end.max(read).min(room))),
            Span::raw(format!(" end {:>3}  ", part.end)),
            Span::styled(format!("{who:<9}"), style),
            Span::raw(format!("@{position:<4}lag {lag:<3}")),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::stage::chronicle::tests::is_told_whole;

    #[test]
    fn all_that_is_said_fits_the_smallest_screen() {
        is_told_whole(&mut PartitionsScene::new(7), &LESSON);
    }

    #[test]
    fn lag_grows_under_one_reader_and_melts_when_others_join() {
        for seed in 0..20 {
            let mut scene = PartitionsScene::new(seed);
            let mut lags = Vec::new();
            while !scene.done() {
                scene.tick();
                lags.push(scene.lag());
            }
            let at = |tick: u32| lags[tick as usize - 1];
            assert!(at(JOIN_AT[0]) >= LAG_GROWN, "seed {seed}: {}", at(JOIN_AT[0]));
            assert!(at(KILL_AT) < at(JOIN_AT[0]), "seed {seed}: {}", at(KILL_AT));
            assert!(lags.len() < 700, "seed {seed}: nobody waits so long: {}", lags.len());
        }
    }

    #[test]
    fn a_reader_without_a_partition_is_drawn_and_said() {
        let mut scene = PartitionsScene::new(7);
        (0..4).for_each(|_| scene.key('a'));
        let mut notes = Vec::new();
        for _ in 0..60 {
            notes.extend(scene.tick());
        }
        assert!(notes.iter().any(|note| note.text.contains("more readers than partitions")));
        assert!(scene.who_reads_what(&Theme::ascii()).contains("c5 idle"));
    }

    #[test]
    fn the_lag_of_the_title_is_the_sum_of_the_rows() {
        let mut scene = PartitionsScene::new(7);
        while !scene.done() {
            scene.tick();
            let row = |at| {
                let text = scene.row(at, 100, 78, &Theme::ascii()).to_string();
                let lag = text.rsplit("lag ").next().unwrap().trim();
                lag.parse::<u32>().unwrap()
            };
            let sum: u32 = (0..PARTITIONS).map(row).sum();
            assert!(scene.figures().contains(&format!("lag {sum}   ")), "{sum}: {}", scene.figures());
        }
    }

    /// A partition has one reader at most, who is between what is stored and the end.
    #[track_caller]
    fn holds(scene: &PartitionsScene) {
        for (at, part) in scene.parts.iter().enumerate() {
            let readers: Vec<u32> =
                scene.readers.iter().filter_map(|reader| reader.own.get(&at).copied()).collect();
            assert!(readers.len() <= 1, "p{at} has {} readers at {}", readers.len(), scene.now);
            assert!(part.stored <= part.seen && part.seen <= part.end);
            assert!(
                readers
                    .iter()
                    .all(|position| part.stored <= *position && *position <= part.seen.max(part.stored))
            );
        }
    }

    #[test]
    fn everything_is_read_though_a_reader_is_killed() {
        for seed in 0..20 {
            let mut scene = PartitionsScene::new(seed);
            while !scene.done() {
                scene.tick();
                holds(&scene);
                assert!(scene.now < 10_000, "seed {seed} does not end");
            }
            assert!(scene.parts.iter().all(|part| part.seen == part.end && part.stored == part.end));
            assert_eq!(scene.readers.len(), 2, "three joined, one was killed");
        }
    }

    #[test]
    fn keys_leave_nothing_behind() {
        let mut scene = PartitionsScene::new(3);
        let mut dice = fastrand::Rng::with_seed(3);
        for _ in 0..3_000 {
            scene.tick();
            if dice.u8(..) < 20 {
                scene.key(['a', 'd', 's', 'm'][dice.usize(..4)]);
            }
            holds(&scene);
        }
        while !scene.done() {
            scene.tick();
        }
        assert!(scene.parts.iter().all(|part| part.seen == part.end));
    }
}
