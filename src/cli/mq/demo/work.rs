//! Workers share a queue. One is killed in the middle: what it had goes back where it stood and is done elsewhere.

use std::collections::BTreeMap;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use serde_json::json;

use super::world::{World, plain, text};
use crate::cli::stage::chronicle::{Chronicle, TIME};
use crate::cli::stage::theme::Theme;
use crate::cli::stage::widgets::{bar, fit, fit_words, panel, say};
use crate::cli::stage::{Note, Scene, TICK};
use crate::mq::engine::ConnectionId;
use crate::mq::wire::TableBuf;
use crate::mq::wire::method::basic;

const QUEUE: &str = "jobs";
/// Jobs of the story.
const JOBS: u32 = 30;
/// Ticks between two of them, at least and at most.
const EVERY: (u32, u32) = (4, 9);
/// Ticks that a job takes, at least and at most.
const TAKES: (u32, u32) = (14, 34);
/// When the story kills a worker, and after how long it starts it again.
const KILL_AT: u32 = 110;
const START_AFTER: u32 = 90;
/// The worker that the story kills.
const VICTIM: usize = 1;
const LESSON: [&str; 2] = [
    "A job leaves the queue when it is acknowledged, not when it is delivered.",
    "A worker that dies gives back what it had: in its old place, marked redelivered.",
];
const WORKERS: usize = 3;
/// Limits that the key chooses from.
const PREFETCHES: [u16; 3] = [2, 4, 1];
/// What the key for more adds.
const BURST: u32 = 10;

/// A job that was delivered.
struct Held {
    job: u32,
    tag: u64,
    redelivered: bool,
}

struct Worker {
    connection: Option<ConnectionId>,
    /// The first is being worked on.
    held: Vec<Held>,
    /// Ticks it has worked on the first.
    worked: u32,
    done: u32,
    /// What went back when it was killed.
    lost: Vec<u32>,
}

/// The scene.
pub(super) struct WorkScene {
    seed: u64,
    dice: fastrand::Rng,
    world: World,
    producer: ConnectionId,
    workers: Vec<Worker>,
    /// Jobs in the queue, in its order, and whether each has been out before.
    waiting: BTreeMap<u32, bool>,
    now: u32,
    sent: u32,
    wanted: u32,
    next_at: u32,
    done: u32,
    redelivered: u32,
    prefetch: usize,
    /// The viewer kills and starts: the story does so no more.
    directed: bool,
    /// When the story killed.
    killed_at: Option<u32>,
    /// Jobs that a worker died with, and how many of them others have done.
    orphans: BTreeMap<u32, usize>,
    adopted: u32,
    notes: Vec<Note>,
    chronicle: Chronicle,
}

/// Ticks that a job takes: its own, whoever does it.
fn takes(seed: u64, job: u32) -> u32 {
    fastrand::Rng::with_seed(seed.wrapping_mul(31).wrapping_add(job.into())).u32(TAKES.0..=TAKES.1)
}

impl WorkScene {
    /// Three workers with two jobs each at a time. When jobs come and how long each takes is from `seed`.
    pub(super) fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        let producer = world.connect("producer");
        world.declare(producer, QUEUE, &TableBuf::new());
        let mut scene = Self {
            seed,
            dice: fastrand::Rng::with_seed(seed),
            world,
            producer,
            workers: Vec::new(),
            waiting: BTreeMap::new(),
            now: 0,
            sent: 0,
            wanted: JOBS,
            next_at: 2,
            done: 0,
            redelivered: 0,
            prefetch: 0,
            directed: false,
            killed_at: None,
            orphans: BTreeMap::new(),
            adopted: 0,
            notes: Vec::new(),
            chronicle: Chronicle::default(),
        };
        for _ in 0..WORKERS {
            scene.workers.push(Worker {
                connection: None,
                held: Vec::new(),
                worked: 0,
                done: 0,
                lost: Vec::new(),
            });
        }
        for number in 0..WORKERS {
            scene.start(number);
        }
        scene.notes.clear();
        scene
    }

    fn note(&mut self, who: &str, what: &str, job: Option<u32>) {
        let (ready, unacked) = self.world.counts(QUEUE);
        let ms = self.now * TICK.as_millis() as u32;
        self.notes.push(Note::new(
            format!("{who:<8} {what}"),
            vec![
                (TIME, json!(ms)),
                ("who", json!(who)),
                ("what", json!(what)),
                ("job", json!(job)),
                ("ready", json!(ready)),
                ("unacked", json!(unacked)),
                ("done", json!(self.done)),
            ],
        ));
    }

    fn start(&mut self, number: usize) {
        if self.workers[number].connection.is_none() {
            self.connect(number);
            self.note(&name(number), "starts", None);
        }
    }

    fn connect(&mut self, number: usize) {
        let connection = self.world.connect("worker");
        self.workers[number].connection = Some(connection);
        self.workers[number].lost.clear();
        self.world.consume(connection, QUEUE, PREFETCHES[self.prefetch]);
    }

    /// A connection closes: what was not acknowledged is back in the queue.
    fn disconnect(&mut self, number: usize) -> Option<Vec<u32>> {
        let connection = self.workers[number].connection.take()?;
        let held = std::mem::take(&mut self.workers[number].held);
        self.workers[number].worked = 0;
        self.waiting.extend(held.iter().map(|held| (held.job, true)));
        self.world.disconnect(connection);
        Some(held.iter().map(|held| held.job).collect())
    }

    /// The process is gone; the broker sees its connection close.
    fn kill(&mut self, number: usize) {
        let Some(lost) = self.disconnect(number) else { return };
        let jobs: Vec<String> = lost.iter().map(u32::to_string).collect();
        self.orphans.extend(lost.iter().map(|job| (*job, number)));
        self.workers[number].lost = lost;
        let back = match jobs.len() {
            0 => "is killed: it had nothing".to_owned(),
            1 => format!("is killed: job {} is back in the queue, where it stood", jobs[0]),
            _ => format!("is killed: jobs {} are back in the queue, where they stood", jobs.join(", ")),
        };
        self.note(&name(number), &back, None);
    }

    /// A limit is that of a consumer from its start: the workers that run consume anew.
    fn next_prefetch(&mut self) {
        self.prefetch = (self.prefetch + 1) % PREFETCHES.len();
        for number in 0..self.workers.len() {
            if self.disconnect(number).is_some() {
                self.connect(number);
            }
        }
        let what = format!("stop and begin anew, with {} at a time at most", PREFETCHES[self.prefetch]);
        self.note("workers", &what, None);
    }

    fn send(&mut self) {
        self.sent += 1;
        let job = self.sent;
        self.waiting.insert(job, false);
        self.world.publish(self.producer, "", QUEUE, (plain(), job.to_string()));
        self.note("producer", &format!("sends job {job}"), Some(job));
    }

    /// Gives every delivery to its worker.
    fn deliver(&mut self) {
        for (connection, delivery) in self.world.deliveries() {
            let Some(number) = self.workers.iter().position(|worker| worker.connection == Some(connection))
            else {
                continue;
            };
            let job = text(&delivery).parse().unwrap_or_default();
            self.waiting.remove(&job);
            self.workers[number].held.push(Held {
                job,
                tag: delivery.tag,
                redelivered: delivery.redelivered,
            });
            if delivery.redelivered {
                self.redelivered += 1;
                self.note(&name(number), &format!("gets job {job}, marked redelivered"), Some(job));
            }
        }
    }

    fn work(&mut self) {
        for number in 0..self.workers.len() {
            let worker = &mut self.workers[number];
            let (Some(connection), Some(first)) = (worker.connection, worker.held.first()) else { continue };
            worker.worked += 1;
            if worker.worked < takes(self.seed, first.job) {
                continue;
            }
            let Held { job, tag, .. } = worker.held.remove(0);
            worker.worked = 0;
            worker.done += 1;
            self.done += 1;
            self.adopted += u32::from(self.orphans.remove(&job).is_some_and(|first| first != number));
            self.world.tell(connection, basic::Ack { delivery_tag: tag, multiple: false });
            self.note(&name(number), &format!("has done job {job}: ack"), Some(job));
        }
    }

    /// Kills a worker once it has something to lose, and starts it again later.
    fn direct(&mut self) {
        match self.killed_at {
            None if self.now >= KILL_AT && !self.workers[VICTIM].held.is_empty() => {
                self.killed_at = Some(self.now);
                self.kill(VICTIM);
            }
            Some(at) if self.now == at + START_AFTER => self.start(VICTIM),
            _ => {}
        }
    }

    /// The worker that has most to lose.
    fn busiest(&self) -> Option<usize> {
        let alive = self.workers.iter().enumerate().filter(|(_, worker)| worker.connection.is_some());
        alive.max_by_key(|(number, worker)| (worker.held.len(), *number)).map(|(number, _)| number)
    }
}

fn name(number: usize) -> String {
    format!("w{}", number + 1)
}

impl Scene for WorkScene {
    fn title(&self) -> String {
        "mq · work".to_owned()
    }

    fn figures(&self) -> String {
        let (ready, unacked) = self.world.counts(QUEUE);
        format!(
            "ready {ready:>2}  unacked {unacked}  done {}/{}  redelivered {}",
            self.done, self.wanted, self.redelivered
        )
    }

    fn tick(&mut self) -> Vec<Note> {
        if self.done() {
            return Vec::new();
        }
        self.now += 1;
        self.world.pass(TICK.as_millis() as u64);
        if self.now >= self.next_at && self.sent < self.wanted {
            self.send();
            self.next_at = self.now + self.dice.u32(EVERY.0..=EVERY.1);
        }
        if !self.directed {
            self.direct();
        }
        self.deliver();
        self.work();
        self.deliver();
        if self.done() {
            let (done, adopted) = (self.done, self.adopted);
            let what = format!(
                "done: {done} of {done} jobs, none was lost; {adopted} by others than the one that died with them"
            );
            self.note("all", &what, None);
        }
        self.chronicle.add(&self.notes);
        std::mem::take(&mut self.notes)
    }

    fn done(&self) -> bool {
        self.done == self.wanted
    }

    fn restart(&mut self) {
        *self = Self::new(self.seed);
    }

    fn keys(&self) -> &'static [(char, &'static str)] {
        &[('k', "kill"), ('s', "start"), ('p', "prefetch"), ('m', "more")]
    }

    fn key(&mut self, key: char) {
        self.directed |= matches!(key, 'k' | 's');
        match key {
            'k' => {
                if let Some(number) = self.busiest() {
                    self.kill(number);
                }
            }
            's' => {
                if let Some(number) = self.workers.iter().position(|worker| worker.connection.is_none()) {
                    self.start(number);
                }
            }
            'p' => self.next_prefetch(),
            _ => self.wanted += BURST,
        }
        self.deliver();
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let [queue, workers, says, story] = Layout::vertical([
            Constraint::Length(4),
            Constraint::Length(6),
            Constraint::Length(3),
            Constraint::Min(4),
        ])
        .areas(area);
        self.draw_queue(frame, queue, theme);
        let columns = Layout::horizontal([Constraint::Ratio(1, 3); WORKERS]).split(workers);
        for (number, area) in columns.iter().enumerate() {
            self.draw_worker(frame, *area, number, theme);
        }
        say(frame, says, &LESSON.map(|sentence| (sentence, theme.strong())), theme);
        self.chronicle.draw(frame, story, theme);
    }
}

impl WorkScene {
    fn draw_queue(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let inner = panel(
            frame,
            area,
            &format!("queue {QUEUE}: next on the left, {} was out before", theme.doubt),
            theme,
            theme.accent(),
        );
        let mut spans = vec![Span::raw(" ")];
        let mut room = usize::from(inner.width).saturating_sub(4);
        for (job, returned) in &self.waiting {
            let label = job.to_string();
            if label.len() + 1 > room {
                spans.push(Span::styled(theme.cut, theme.dim()));
                break;
            }
            room -= label.len() + 1;
            let style = if *returned { theme.warn() } else { theme.good() };
            let label = if *returned { format!("{label}{} ", theme.doubt) } else { format!("{label} ") };
            room = room.saturating_sub(usize::from(*returned));
            spans.push(Span::styled(label, style));
        }
        if self.waiting.is_empty() {
            spans.push(Span::styled("empty", theme.dim()));
        }
        let prefetch = PREFETCHES[self.prefetch];
        let sent = format!(
            " {} producer has sent {} of {}   {} a worker takes {prefetch} at most (prefetch)",
            theme.here, self.sent, self.wanted, theme.dot
        );
        let lines = vec![Line::styled(sent, theme.dim()), Line::from(spans)];
        frame.render_widget(Paragraph::new(lines), inner);
    }

    fn draw_worker(&self, frame: &mut Frame<'_>, area: Rect, number: usize, theme: &Theme) {
        let worker = &self.workers[number];
        let alive = worker.connection.is_some();
        let style = match (alive, worker.held.is_empty()) {
            (false, _) => theme.bad(),
            (true, true) => theme.dim(),
            (true, false) => theme.good(),
        };
        let inner = panel(frame, area, &name(number), theme, style);
        let marked = |held: &Held| format!("{}{}", held.job, if held.redelivered { theme.doubt } else { "" });
        let room = usize::from(inner.width).saturating_sub(1);
        let mut lines = Vec::new();
        match worker.held.first() {
            _ if !alive => {
                lines.push(Line::styled(format!(" {} killed", theme.lost), theme.bad()));
                let fates = self.fates(&worker.lost).into_iter();
                lines.extend(
                    fates.map(|fate| Line::styled(format!(" {}", fit(&fate, room, theme)), theme.warn())),
                );
            }
            None => lines.push(Line::styled(" waits", theme.dim())),
            Some(first) => {
                let part = f64::from(worker.worked) / f64::from(takes(self.seed, first.job));
                let width = usize::from(inner.width).saturating_sub(8).min(30);
                let style = if first.redelivered { theme.warn() } else { theme.good() };
                lines.push(Line::styled(format!(" {:<4} {}", marked(first), bar(width, part, theme)), style));
                let rest: Vec<String> = worker.held[1..].iter().map(marked).collect();
                let next = match rest.is_empty() {
                    true => "has no other".to_owned(),
                    false => format!("then {}", fit_words(rest.iter().map(String::as_str), room - 5, theme)),
                };
                lines.push(Line::styled(format!(" {next}"), theme.dim()));
            }
        }
        lines.resize(lines.len().max(3), Line::raw(""));
        lines.push(Line::raw(format!(" done {}", worker.done)));
        frame.render_widget(Paragraph::new(lines), inner);
    }

    /// What became of the jobs that a worker died with.
    fn fates(&self, lost: &[u32]) -> Vec<String> {
        let out =
            |job: &u32| self.workers.iter().any(|worker| worker.held.iter().any(|held| held.job == *job));
        let (queued, rest): (Vec<u32>, Vec<u32>) =
            lost.iter().partition(|job| self.waiting.contains_key(*job));
        let (out, done): (Vec<u32>, Vec<u32>) = rest.into_iter().partition(out);
        let list = |(jobs, where_): (Vec<u32>, &str)| {
            let jobs: Vec<String> = jobs.iter().map(u32::to_string).collect();
            (!jobs.is_empty()).then(|| format!("{} {where_}", jobs.join(" ")))
        };
        [(queued, "back in the queue"), (out, "at another worker"), (done, "done by another")]
            .into_iter()
            .filter_map(list)
            .take(2)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::stage::chronicle::tests::is_told_whole;

    #[test]
    fn all_that_is_said_fits_the_smallest_screen() {
        for seed in [7, 8] {
            is_told_whole(&mut WorkScene::new(seed), &LESSON);
        }
    }

    #[test]
    fn the_story_kills_whatever_else_is_pressed() {
        let mut scene = WorkScene::new(7);
        for key in ['m', 'p'] {
            scene.tick();
            scene.key(key);
            assert!(scene.workers.iter().all(|worker| worker.connection.is_some()));
        }
        assert!(!scene.notes.iter().any(|note| note.text.contains("killed")), "nobody has killed yet");
        let mut notes = Vec::new();
        while !scene.done() {
            notes.extend(scene.tick());
        }
        assert!(notes.iter().any(|note| note.text.contains("w2       is killed")));
        assert!(scene.adopted > 0 && scene.done == JOBS + BURST);
    }

    #[test]
    fn what_a_killed_worker_had_is_followed_to_where_it_is() {
        let mut scene = WorkScene::new(7);
        while scene.killed_at.is_none() {
            scene.tick();
        }
        let lost = scene.workers[VICTIM].lost.clone();
        assert!(scene.fates(&lost).join(" ").contains("back in the queue"));
        while lost.iter().any(|job| scene.orphans.contains_key(job)) {
            scene.tick();
        }
        let all: Vec<String> = lost.iter().map(u32::to_string).collect();
        assert_eq!(scene.fates(&lost), [format!("{} done by another", all.join(" "))]);
    }

    #[test]
    fn keys_go_on_after_the_end() {
        let mut scene = WorkScene::new(7);
        while !scene.done() {
            scene.tick();
        }
        scene.key('m');
        while !scene.done() {
            scene.tick();
        }
        assert_eq!(scene.done, JOBS + BURST);
    }

    /// What is drawn of the queue is what the engine has.
    #[track_caller]
    fn agrees(scene: &WorkScene) {
        let (ready, unacked) = scene.world.counts(QUEUE);
        let held: usize = scene.workers.iter().map(|worker| worker.held.len()).sum();
        assert_eq!((scene.waiting.len() as u64, held as u64), (ready, unacked), "at {}", scene.now);
    }

    #[test]
    fn every_job_is_done_once_though_a_worker_is_killed() {
        let mut scene = WorkScene::new(7);
        while !scene.done() {
            scene.tick();
            agrees(&scene);
        }
        assert_eq!((scene.done, scene.sent), (JOBS, JOBS));
        assert!(scene.redelivered >= 1, "the story kills a worker that has something");
        let done: u32 = scene.workers.iter().map(|worker| worker.done).sum();
        assert_eq!(done, JOBS);
    }

    #[test]
    fn jobs_of_a_killed_worker_stand_where_they_stood() {
        let mut scene = WorkScene::new(1);
        while scene.waiting.len() < 3 {
            scene.tick();
        }
        scene.key('k');
        let lost = scene.workers.iter().find(|worker| worker.connection.is_none()).unwrap().lost.clone();
        assert!(!lost.is_empty());
        agrees(&scene);
        let others: Vec<u32> =
            scene.workers.iter().flat_map(|worker| &worker.held).map(|held| held.job).collect();
        for job in lost {
            assert!(scene.waiting.get(&job) == Some(&true) || others.contains(&job), "job {job} is gone");
        }
    }

    #[test]
    fn keys_leave_nothing_behind() {
        let mut scene = WorkScene::new(3);
        let mut dice = fastrand::Rng::with_seed(3);
        for _ in 0..2_000 {
            scene.tick();
            if dice.u8(..) < 20 {
                scene.key(['k', 's', 'p', 'm'][dice.usize(..4)]);
            }
            agrees(&scene);
        }
    }
}
