//! Workers share a queue. One is killed in the middle: what it had goes back where it stood and is done elsewhere.

use std::collections::BTreeMap;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use serde_json::json;

use super::world::{World, plain, text};
use crate::cli::stage::chronicle::Chronicle;
use crate::cli::stage::theme::Theme;
use crate::cli::stage::widgets::{bar, panel};
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
/// When the story kills a worker, and when it starts it again.
const KILL_AT: u32 = 110;
const START_AT: u32 = 200;
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
    /// The viewer has taken over: the story does not kill any more.
    directed: bool,
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
            format!("{ms:>6} ms  {who:<8} {what}"),
            vec![
                ("at_ms", json!(ms)),
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
        let connection = self.world.connect("worker");
        self.workers[number].connection = Some(connection);
        self.workers[number].lost.clear();
        self.world.consume(connection, QUEUE, PREFETCHES[self.prefetch]);
        self.note(&name(number), "starts", None);
    }

    /// The process is gone; the broker sees its connection close.
    fn kill(&mut self, number: usize) {
        let Some(connection) = self.workers[number].connection.take() else { return };
        let held = std::mem::take(&mut self.workers[number].held);
        self.workers[number].worked = 0;
        self.workers[number].lost = held.iter().map(|held| held.job).collect();
        self.waiting.extend(held.iter().map(|held| (held.job, true)));
        let jobs: Vec<String> = held.iter().map(|held| held.job.to_string()).collect();
        self.world.disconnect(connection);
        let back = match jobs.len() {
            0 => "is killed: it had nothing".to_owned(),
            1 => format!("is killed: job {} is back in the queue, where it stood", jobs[0]),
            _ => format!("is killed: jobs {} are back in the queue, where they stood", jobs.join(", ")),
        };
        self.note(&name(number), &back, None);
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
            self.world.tell(connection, basic::Ack { delivery_tag: tag, multiple: false });
            self.note(&name(number), &format!("has done job {job}: ack"), Some(job));
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
        if !self.directed && self.now == KILL_AT {
            self.kill(1);
        }
        if !self.directed && self.now == START_AT {
            self.start(1);
        }
        self.deliver();
        self.work();
        self.deliver();
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
        self.directed = true;
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
            'p' => {
                self.prefetch = (self.prefetch + 1) % PREFETCHES.len();
                // A limit is that of a consumer from its start: the workers start anew, one after the other.
                for number in 0..self.workers.len() {
                    if self.workers[number].connection.is_some() {
                        self.kill(number);
                        self.start(number);
                    }
                }
            }
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
        let lesson = " A job leaves the queue when it is acknowledged, not when it is delivered.\n \
            A worker that dies gives back what it had: in its old place, redelivered.";
        frame.render_widget(Paragraph::new(lesson).style(theme.strong()), says);
        self.chronicle.draw(frame, story, theme);
    }
}

impl WorkScene {
    fn draw_queue(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let inner = panel(frame, area, &format!("queue {QUEUE}: next on the left"), theme, theme.accent());
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
        let sent = format!(" {} producer has sent {} of {}", theme.here, self.sent, self.wanted);
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
        let mut lines = Vec::new();
        match worker.held.first() {
            _ if !alive => {
                lines.push(Line::styled(format!(" {} killed", theme.lost), theme.bad()));
                let lost: Vec<String> = worker.lost.iter().map(u32::to_string).collect();
                let back = if lost.is_empty() {
                    String::new()
                } else {
                    format!(" {} back in the queue", lost.join(" "))
                };
                lines.push(Line::styled(back, theme.warn()));
            }
            None => lines.extend([Line::styled(" waits", theme.dim()), Line::raw("")]),
            Some(first) => {
                let part = f64::from(worker.worked) / f64::from(takes(self.seed, first.job));
                let width = usize::from(inner.width).saturating_sub(8).min(30);
                let style = if first.redelivered { theme.warn() } else { theme.good() };
                lines.push(Line::styled(format!(" {:<4} {}", marked(first), bar(width, part, theme)), style));
                let rest: Vec<String> = worker.held[1..].iter().map(marked).collect();
                lines.push(Line::styled(
                    format!(" holds {} (prefetch {})", rest.join(" "), PREFETCHES[self.prefetch]),
                    theme.dim(),
                ));
            }
        }
        lines.push(Line::raw(""));
        lines.push(Line::raw(format!(" done {}", worker.done)));
        frame.render_widget(Paragraph::new(lines), inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
