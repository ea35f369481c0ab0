//! A message that no worker can do. First it is put back, and nothing else gets done; then it waits in queues whose
//! messages expire back into the first one, later each time, and is put aside in the end.

use std::collections::BTreeMap;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use serde_json::json;

use super::world::{World, deaths, plain, text};
use crate::cli::stage::chronicle::{Chronicle, TIME};
use crate::cli::stage::theme::Theme;
use crate::cli::stage::widgets::{bar, fit_words, panel, say};
use crate::cli::stage::{Note, Scene, TICK};
use crate::mq::engine::{ConnectionId, Delivery};
use crate::mq::wire::method::basic;
use crate::mq::wire::{TableBuf, Value};

const JOBS_QUEUE: &str = "jobs";
const ASIDE: &str = "failed";
/// Queues that nobody consumes: a message expires there after so many milliseconds, and goes back to the jobs.
const WAITS: [(&str, u64); 3] = [("wait-1s", 1_000), ("wait-2s", 2_000), ("wait-4s", 4_000)];
const JOBS: u32 = 8;
/// The job that cannot be done is one of these: the seed chooses.
const POISON: (u32, u32) = (2, 4);
/// The one that fails once, because what it needs is not there yet, comes so far behind it.
const FLAKY_AFTER: (u32, u32) = (1, 3);
/// Ticks that an attempt takes.
const TAKES: u32 = 7;
/// Ticks between two jobs.
const EVERY: u32 = 4;
/// How long the first telling lasts, in ticks: it would never end.
const FIRST_TICKS: u32 = 130;
const PUT_BACK: &str = "A job that fails is put back where it stood: at the front. It fails again at once, the \
    worker does nothing else, and what waits behind it waits for ever.";
const WAIT: &str = "A job that fails waits in a queue without consumers. When its time is over, it is moved back \
    and counted in x-death. After three times it is put aside.";
const NO_WAITS: &str = "nowhere to wait: what fails goes back to the front of the queue";
/// The last picture of the second stays so long.
const HOLD_TICKS: u32 = 20;

/// Where a job is, as its deliveries and publishes tell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// Where, counted from the first job ever.
    Queue(u32),
    /// Where it stood before.
    Worker(u32),
    /// Since then, in milliseconds.
    Wait(usize, u64),
    Done,
    Aside,
}

/// One telling.
struct Round {
    world: World,
    producer: ConnectionId,
    worker: ConnectionId,
    jobs: BTreeMap<u32, At>,
    current: Option<(u32, Delivery)>,
    worked: u32,
    sent: u32,
    /// The place at the end of the queue.
    last: u32,
    attempts: BTreeMap<u32, u32>,
    now: u32,
    idle: u32,
}

/// The scene.
pub(super) struct DeadLetterScene {
    seed: u64,
    /// The second telling.
    waits: bool,
    /// The second follows the first.
    both: bool,
    poison: Vec<u32>,
    flaky: u32,
    /// What the first telling came to.
    first: Option<String>,
    round: Round,
    over: bool,
    notes: Vec<Note>,
    chronicle: Chronicle,
}

impl Round {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        let (producer, worker) = (world.connect("producer"), world.connect("worker"));
        world.declare(producer, JOBS_QUEUE, &TableBuf::new());
        world.declare(producer, ASIDE, &TableBuf::new());
        for (name, millis) in WAITS {
            let arguments = TableBuf::new()
                .with("x-message-ttl", Value::I64(millis as i64))
                // The default exchange: the routing key names the queue.
                .with("x-dead-letter-exchange", Value::text(""))
                .with("x-dead-letter-routing-key", Value::text(JOBS_QUEUE));
            world.declare(producer, name, &arguments);
        }
        world.consume(worker, JOBS_QUEUE, 1);
        Self {
            world,
            producer,
            worker,
            jobs: BTreeMap::new(),
            current: None,
            worked: 0,
            sent: 0,
            last: 0,
            attempts: BTreeMap::new(),
            now: 0,
            idle: 0,
        }
    }

    fn send(&mut self) {
        self.sent += 1;
        let job = self.sent;
        self.append(job);
        self.world.publish(self.producer, "", JOBS_QUEUE, (plain(), job.to_string()));
    }

    /// A job comes to the end of the queue.
    fn append(&mut self, job: u32) {
        self.last += 1;
        self.jobs.insert(job, At::Queue(self.last));
    }

    /// The jobs whose time in a queue of the waiting is over, as the broker sees it: oldest first.
    fn expired(&mut self) -> Vec<u32> {
        let mut expired = Vec::new();
        for (number, (name, _)) in WAITS.iter().enumerate() {
            let waiting = self.jobs.iter().filter_map(|(job, at)| match at {
                At::Wait(place, since) if *place == number => Some((*since, *job)),
                _ => None,
            });
            let mut waiting: Vec<(u64, u32)> = waiting.collect();
            waiting.sort_unstable();
            let left = self.world.counts(name).0 as usize;
            expired.extend(waiting[..waiting.len().saturating_sub(left)].iter().map(|(_, job)| *job));
        }
        expired
    }

    fn count(&self, at: impl Fn(At) -> bool) -> usize {
        self.jobs.values().filter(|held| at(**held)).count()
    }

    fn tries(&self, job: u32) -> u32 {
        self.attempts.get(&job).copied().unwrap_or(0)
    }
}

/// The job that cannot be done, and the one that fails once.
fn troubled(seed: u64) -> (u32, u32) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let poison = dice.u32(POISON.0..=POISON.1);
    (poison, poison + dice.u32(FLAKY_AFTER.0..=FLAKY_AFTER.1))
}

impl DeadLetterScene {
    /// Which job cannot be done, and which fails once, is from `seed`.
    pub(super) fn new(seed: u64) -> Self {
        let (poison, flaky) = troubled(seed);
        Self {
            seed,
            waits: false,
            both: true,
            poison: vec![poison],
            flaky,
            first: None,
            round: Round::new(seed),
            over: false,
            notes: Vec::new(),
            chronicle: Chronicle::default(),
        }
    }

    fn tell(&mut self, waits: bool) {
        self.waits = waits;
        self.over = false;
        self.round = Round::new(self.seed);
        self.poison = vec![troubled(self.seed).0];
        if waits {
            self.note(None, "the same jobs again: now there are queues to wait in");
        }
    }

    /// What this telling came to.
    fn outcome(&self) -> String {
        let round = &self.round;
        let (done, aside) = (round.count(|at| at == At::Done), round.count(|at| at == At::Aside));
        let poison = self.poison[0];
        let tries = round.tries(poison);
        let aside = if self.waits { format!(", {aside} put aside") } else { String::new() };
        let mode = self.mode();
        format!("{mode}: {done} of {} done{aside}, job {poison} tried {tries} times", round.sent)
    }

    fn mode(&self) -> &'static str {
        if self.waits { "wait and retry" } else { "put back" }
    }

    /// Tells something of a job, or of all.
    fn note(&mut self, job: impl Into<Option<u32>>, what: &str) {
        let job = job.into();
        let ms = self.round.now * TICK.as_millis() as u32;
        let (mode, attempts) = (self.mode(), job.map(|job| self.round.tries(job)));
        let who = job.map_or_else(String::new, |job| format!("job {job:<2} "));
        self.notes.push(Note::new(
            format!("{mode:<14}  {who}{what}"),
            vec![
                (TIME, json!(ms)),
                ("mode", json!(mode)),
                ("job", json!(job)),
                ("what", json!(what)),
                ("attempts", json!(attempts)),
            ],
        ));
    }

    fn deliver(&mut self) {
        for (_, delivery) in self.round.world.deliveries() {
            let job = text(&delivery).parse().unwrap_or_default();
            let stood = match self.round.jobs.get(&job) {
                Some(At::Queue(stood)) => *stood,
                _ => 0,
            };
            self.round.jobs.insert(job, At::Worker(stood));
            *self.round.attempts.entry(job).or_default() += 1;
            self.round.current = Some((job, delivery));
            self.round.worked = 0;
        }
    }

    fn fails(&self, job: u32) -> bool {
        self.poison.contains(&job) || (job == self.flaky && self.round.tries(job) == 1)
    }

    fn work(&mut self) {
        self.round.worked += 1;
        if self.round.worked < TAKES {
            return;
        }
        let Some((job, delivery)) = self.round.current.take() else { return };
        let (worker, tag) = (self.round.worker, delivery.tag);
        if !self.fails(job) {
            self.round.jobs.insert(job, At::Done);
            self.note(job, "is done: ack");
            self.round.world.tell(worker, basic::Ack { delivery_tag: tag, multiple: false });
        } else if self.waits {
            self.set_aside(job, &delivery);
        } else {
            if let Some(At::Worker(stood)) = self.round.jobs.get(&job).copied() {
                self.round.jobs.insert(job, At::Queue(stood));
            }
            self.note(job, &format!("fails, attempt {}: put back, at the front", self.round.tries(job)));
            self.round.world.tell(worker, basic::Reject { delivery_tag: tag, requeue: true });
        }
    }

    /// What failed is published again, to wait; what has waited everywhere is put aside. The header x-death, which
    /// the broker writes when a message expires, says how often it has waited.
    fn set_aside(&mut self, job: u32, delivery: &Delivery) {
        let waited = deaths(delivery) as usize;
        let (to, at) = match WAITS.get(waited) {
            Some((name, _)) => (*name, At::Wait(waited, self.round.world.now)),
            None => (ASIDE, At::Aside),
        };
        self.round.jobs.insert(job, at);
        let tries = self.round.tries(job);
        let what = match at {
            At::Aside => format!("fails, attempt {tries}: enough, it goes to {to}"),
            _ => format!("fails, attempt {tries}: it goes to {to}"),
        };
        self.note(job, &what);
        let content = (delivery.message.properties.clone(), delivery.message.body.clone());
        let worker = self.round.worker;
        self.round.world.publish(worker, "", to, content);
        self.round.world.tell(worker, basic::Ack { delivery_tag: delivery.tag, multiple: false });
    }
}

impl Scene for DeadLetterScene {
    fn title(&self) -> String {
        "mq · dead letter".to_owned()
    }

    fn figures(&self) -> String {
        let round = &self.round;
        let attempts: u32 = round.attempts.values().sum();
        format!(
            "{}   attempts {attempts}   done {}/{}   {} {}",
            self.mode(),
            round.count(|at| at == At::Done),
            round.sent.max(JOBS),
            ASIDE,
            round.count(|at| at == At::Aside)
        )
    }

    fn tick(&mut self) -> Vec<Note> {
        if self.over {
            return Vec::new();
        }
        let round = &mut self.round;
        round.now += 1;
        round.world.pass(TICK.as_millis() as u64);
        for job in round.expired() {
            self.round.append(job);
            self.note(job, "has waited: in the queue again");
        }
        let round = &mut self.round;
        if round.sent < JOBS && round.now.is_multiple_of(EVERY) {
            round.send();
        }
        self.deliver();
        if self.round.current.is_some() {
            self.work();
            self.deliver();
        }
        let round = &mut self.round;
        let settled = round.sent >= JOBS && round.count(|at| !matches!(at, At::Done | At::Aside)) == 0;
        round.idle += u32::from(settled);
        let (tired, settled) = (!self.waits && round.now >= FIRST_TICKS, round.idle >= HOLD_TICKS);
        if tired && self.both {
            self.first = Some(self.outcome());
            self.tell(true);
        } else if settled {
            self.over = true;
            let told: Vec<String> = self.first.iter().cloned().chain([self.outcome()]).collect();
            self.note(None, &format!("end. {}", told.join("; ")));
        }
        let notes = std::mem::take(&mut self.notes);
        self.chronicle.add(&notes);
        notes
    }

    fn done(&self) -> bool {
        self.over
    }

    fn restart(&mut self) {
        self.both = true;
        self.first = None;
        self.chronicle = Chronicle::default();
        self.tell(false);
    }

    fn keys(&self) -> &'static [(char, &'static str)] {
        &[('d', "dead letters"), ('p', "poison"), ('m', "more")]
    }

    fn key(&mut self, key: char) {
        match key {
            'd' => {
                self.both = false;
                self.tell(!self.waits);
            }
            'p' => {
                self.poison.push(self.round.sent + 1);
                self.round.send();
            }
            _ => self.round.send(),
        }
        self.over = false;
        self.round.idle = 0;
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let [line, waits, says, story] = Layout::vertical([
            Constraint::Length(5),
            Constraint::Length(5),
            Constraint::Length(4),
            Constraint::Min(4),
        ])
        .areas(area);
        let [queue, worker, aside] =
            Layout::horizontal([Constraint::Min(26), Constraint::Length(30), Constraint::Length(22)])
                .areas(line);
        self.draw_queue(frame, queue, theme);
        self.draw_worker(frame, worker, theme);
        self.draw_aside(frame, aside, theme);
        if self.waits {
            let columns = Layout::horizontal([Constraint::Ratio(1, 3); WAITS.len()]).split(waits);
            for (number, area) in columns.iter().enumerate() {
                self.draw_wait(frame, *area, number, theme);
            }
        } else {
            let inner = panel(frame, waits, "", theme, theme.dim());
            say(frame, inner, &[("", theme.dim()), (NO_WAITS, theme.dim())], theme);
        }
        let lesson = if self.waits { WAIT } else { PUT_BACK };
        let first = self.first.as_deref().unwrap_or_default();
        say(frame, says, &[(lesson, theme.strong()), (first, theme.accent())], theme);
        self.chronicle.draw(frame, story, theme);
    }
}

impl DeadLetterScene {
    fn label(&self, job: u32, theme: &Theme) -> String {
        format!("{job}{}", if self.poison.contains(&job) { theme.lost } else { "" })
    }

    /// The jobs that are somewhere, as many as there is room for.
    fn labels(&self, theme: &Theme, room: usize, at: impl Fn(At) -> bool) -> String {
        let mut jobs: Vec<(At, u32)> =
            self.round.jobs.iter().map(|(job, held)| (*held, *job)).filter(|(held, _)| at(*held)).collect();
        jobs.sort_by_key(|(held, job)| match held {
            At::Queue(stands) => (*stands, 0),
            At::Worker(_) | At::Wait(..) | At::Done | At::Aside => (0, *job),
        });
        let labels: Vec<String> = jobs.iter().map(|(_, job)| self.label(*job, theme)).collect();
        fit_words(labels.iter().map(String::as_str), room, theme)
    }

    fn draw_queue(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let inner = panel(frame, area, &format!("queue {JOBS_QUEUE}"), theme, theme.accent());
        let ready = self.round.world.counts(JOBS_QUEUE).0;
        let room = usize::from(inner.width).saturating_sub(1);
        let done = format!("done {}: ", self.round.count(|at| at == At::Done));
        let names = self.labels(theme, room.saturating_sub(done.len()), |at| at == At::Done);
        let waiting = self.labels(theme, room, |at| matches!(at, At::Queue(_)));
        let lines = vec![
            Line::raw(format!(" ready {ready}")),
            Line::raw(format!(" {}", if waiting.is_empty() { "empty" } else { &waiting })),
            Line::styled(format!(" {done}{names}"), theme.good()),
        ];
        frame.render_widget(Paragraph::new(lines), inner);
    }

    fn draw_worker(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let current = self.round.current.as_ref().map(|(job, _)| *job);
        let fails = current.is_some_and(|job| self.fails(job));
        let style = match (current, fails) {
            (None, _) => theme.dim(),
            (Some(_), true) => theme.bad(),
            (Some(_), false) => theme.good(),
        };
        let inner = panel(frame, area, "worker", theme, style);
        let lines = match current {
            None => vec![Line::styled(" waits", theme.dim())],
            Some(job) => {
                let part = f64::from(self.round.worked) / f64::from(TAKES);
                vec![
                    Line::from(vec![
                        Span::styled(format!(" {:<4} ", self.label(job, theme)), style),
                        Span::styled(bar(18, part, theme), style),
                    ]),
                    Line::raw(format!(" attempt {}", self.round.tries(job))),
                ]
            }
        };
        frame.render_widget(Paragraph::new(lines), inner);
    }

    fn draw_aside(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let count = self.round.count(|at| at == At::Aside);
        let style = if count > 0 { theme.bad() } else { theme.dim() };
        let inner = panel(frame, area, &format!("queue {ASIDE}: {count}"), theme, style);
        let room = usize::from(inner.width).saturating_sub(1);
        let lines = vec![
            Line::styled(format!(" {}", self.labels(theme, room, |at| at == At::Aside)), style),
            Line::styled(" for a person to see", theme.dim()),
        ];
        frame.render_widget(Paragraph::new(lines), inner);
    }

    fn draw_wait(&self, frame: &mut Frame<'_>, area: Rect, number: usize, theme: &Theme) {
        let (name, millis) = WAITS[number];
        let here = self.round.jobs.iter().filter_map(|(job, at)| match at {
            At::Wait(place, since) if *place == number => Some((*job, *since)),
            _ => None,
        });
        let here: Vec<(u32, u64)> = here.collect();
        let style = if here.is_empty() { theme.dim() } else { theme.warn() };
        let inner = panel(frame, area, &format!("queue {name}"), theme, style);
        let width = usize::from(inner.width).saturating_sub(8).min(30);
        let mut lines: Vec<Line<'_>> = here
            .iter()
            .take(usize::from(inner.height))
            .map(|(job, since)| {
                let part = (self.round.world.now - since) as f64 / millis as f64;
                Line::styled(
                    format!(" {:<4} {}", self.label(*job, theme), bar(width, part, theme)),
                    theme.warn(),
                )
            })
            .collect();
        if lines.is_empty() {
            lines.push(Line::styled(" no consumers", theme.dim()));
        }
        frame.render_widget(Paragraph::new(lines), inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::stage::chronicle::tests::{is_told_whole, rows};

    /// What is drawn is what the engine has.
    #[track_caller]
    fn agrees(scene: &DeadLetterScene) {
        let round = &scene.round;
        let ready = |queue| round.world.counts(queue).0 as usize;
        assert_eq!(round.count(|at| matches!(at, At::Queue(_))), ready(JOBS_QUEUE), "at {}", round.now);
        assert_eq!(round.count(|at| at == At::Aside), ready(ASIDE));
        for (number, (name, _)) in WAITS.iter().enumerate() {
            assert_eq!(
                round.count(|at| matches!(at, At::Wait(place, _) if place == number)),
                ready(name),
                "{name}"
            );
        }
    }

    #[test]
    fn put_back_blocks_the_queue_and_waiting_does_not() {
        for seed in 0..20 {
            let mut scene = DeadLetterScene::new(seed);
            let (poison, flaky) = troubled(seed);
            let mut first = None;
            while !scene.done() {
                if !scene.waits {
                    first = Some((scene.round.count(|at| at == At::Done), scene.round.tries(poison)));
                }
                scene.tick();
                agrees(&scene);
            }
            let (done, tries) = first.unwrap();
            assert_eq!(done as u32, poison - 1, "only what stood before it is done");
            assert!(tries > 8, "{tries}");
            let round = &scene.round;
            assert_eq!((round.count(|at| at == At::Done), round.count(|at| at == At::Aside)), (7, 1));
            // Once, and once after each wait.
            assert_eq!((round.tries(poison), round.tries(flaky), round.tries(1)), (4, 2, 1), "seed {seed}");
        }
        assert_ne!(troubled(7), troubled(8));
    }

    #[test]
    fn more_poison_is_put_aside_too_and_the_second_telling_comes() {
        let mut scene = DeadLetterScene::new(7);
        for _ in 0..60 {
            scene.tick();
        }
        scene.key('p');
        while !scene.done() {
            scene.tick();
            agrees(&scene);
        }
        assert!(scene.waits && scene.round.count(|at| at == At::Aside) == 1);
        scene.key('p');
        while !scene.done() {
            scene.tick();
            agrees(&scene);
        }
        assert_eq!(scene.round.count(|at| at == At::Aside), 2, "keys go on after the end");
    }

    #[test]
    fn all_that_is_said_fits_the_smallest_screen() {
        let mut scene = DeadLetterScene::new(7);
        is_told_whole(&mut scene, &[PUT_BACK, WAIT, NO_WAITS, "put back: "]);
    }

    #[test]
    fn many_jobs_are_cut_between_them_and_counted() {
        let mut scene = DeadLetterScene::new(7);
        scene.key('d');
        for _ in 0..8 {
            scene.key('p');
        }
        while !scene.done() {
            scene.tick();
        }
        let theme = Theme::unicode();
        let labels = scene.labels(&theme, 20, |at| at == At::Aside);
        assert!(labels.ends_with("✕ …") && scene.round.count(|at| at == At::Aside) == 8, "{labels}");
        assert!(rows(&scene, (80, 24), &theme).iter().any(|row| row.contains("queue failed: 8")));
    }
}
