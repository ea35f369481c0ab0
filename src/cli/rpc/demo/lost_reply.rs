//! A reply is lost: what the caller can know, and how the server tells a repetition from a new call.
//!
//! Both sides are the engines that `udp://` runs on; only network, clock and account are the demo's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use serde_json::json;

use crate::cli::stage::theme::Theme;
use crate::cli::stage::widgets::{Way, arrow, panel};
use crate::cli::stage::{Note, Scene};
use crate::rpc::catalog::method_id;
use crate::rpc::compact::engine::{
    Caller, CallerInput, CallerLimits, CallerOutput, NewCall, Random, Replier, ReplierInput, ReplierLimits,
    ReplierOutput,
};
use crate::rpc::compact::wire::{self, Hello, Kind};

/// The engines' time in one tick: a tenth of life's speed.
const TICK: Duration = Duration::from_millis(5);
/// Of a datagram, one way.
const DELAY: Duration = Duration::from_millis(100);
/// Of the withdrawal itself.
const WORK: Duration = Duration::from_millis(30);
/// Until the first repetition: longer than a round trip.
const REPEAT: Duration = Duration::from_millis(400);
/// A telling ends so long after the answer has come.
const HOLD: Duration = Duration::from_millis(150);
const BALANCE: u32 = 100;
const AMOUNT: u32 = 30;

/// What the network does to a reply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    First,
    FirstTwo,
    None,
}

/// A datagram that was sent, and what became of it.
struct Datagram {
    way: Way,
    label: String,
    sent: Instant,
    lost: bool,
}

enum Event {
    ToServer(Vec<u8>),
    ToCaller(Vec<u8>),
    Worked { run: u64, balance: u32 },
}

/// One telling: a call from its start to its answer.
struct Round {
    start: Instant,
    now: Instant,
    events: BTreeMap<(Instant, usize), Event>,
    caller: Caller,
    replier: Replier<()>,
    datagrams: Vec<Datagram>,
    sequence: usize,
    replies: u32,
    executed: u32,
    balance: u32,
    answer: Option<(Instant, u32)>,
    notes: Vec<(&'static str, String)>,
}

/// The scene.
pub(super) struct LostReplyScene {
    seed: u64,
    start: Instant,
    dedupe: bool,
    /// The first telling, without dedupe, is still to come before the second.
    both: bool,
    loss: Loss,
    round: Round,
    done: bool,
}

impl LostReplyScene {
    /// First at least once, then at most once. The engines' random numbers come from `seed`.
    pub(super) fn new(seed: u64) -> Self {
        // Engines only compare instants: which one they start at does not matter.
        let start = Instant::now();
        let round = Round::new(seed, start, false);
        Self { seed, start, dedupe: false, both: true, loss: Loss::First, round, done: false }
    }

    fn tell(&mut self, dedupe: bool) {
        self.dedupe = dedupe;
        self.done = false;
        self.round = Round::new(self.seed, self.start, dedupe);
    }

    fn mode(&self) -> &'static str {
        if self.dedupe { "at most once" } else { "at least once" }
    }
}

fn random(seed: u64) -> Random {
    let mut dice = fastrand::Rng::with_seed(seed);
    Box::new(move || dice.u64(..))
}

impl Round {
    fn new(seed: u64, start: Instant, dedupe: bool) -> Self {
        let limits = CallerLimits { interval_min: REPEAT, ..CallerLimits::default() };
        let mut round = Self {
            start,
            now: start,
            events: BTreeMap::new(),
            caller: Caller::new(limits, random(seed)),
            replier: Replier::new(ReplierLimits::default(), Hello::default(), random(seed + 1)),
            datagrams: Vec::new(),
            sequence: 0,
            replies: 0,
            executed: 0,
            balance: BALANCE,
            answer: None,
            notes: vec![("client", format!("withdraw({AMOUNT})"))],
        };
        round.ask(
            CallerInput::Call(NewCall {
                handle: 0,
                method: method_id("bank.Account/Withdraw"),
                message: Bytes::copy_from_slice(&AMOUNT.to_be_bytes()),
                metadata: Vec::new(),
                deadline: None,
                at_least_once: !dedupe,
            }),
            Loss::None,
        );
        round
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + after, self.sequence), event);
    }

    fn ask(&mut self, input: CallerInput, loss: Loss) {
        let mut outputs = Vec::new();
        self.caller.handle(self.now, input, &mut outputs);
        for output in outputs {
            match output {
                CallerOutput::Send(datagram) => self.transmit(Way::Right, datagram, loss),
                CallerOutput::Answered(_, frame) => {
                    let left = frame
                        .message
                        .as_deref()
                        .and_then(|bytes| bytes.try_into().ok())
                        .map(u32::from_be_bytes);
                    let left = left.unwrap_or_default();
                    self.answer = Some((self.now, left));
                    self.notes.push(("client", format!("withdraw returns: {left} left")));
                }
                CallerOutput::Unanswered(_, why) => {
                    self.answer = Some((self.now, 0));
                    self.notes.push(("client", why.status.to_string()));
                }
            }
        }
    }

    fn reply(&mut self, input: ReplierInput<()>, loss: Loss) {
        let mut outputs = Vec::new();
        self.replier.handle(self.now, input, &mut outputs);
        for output in outputs {
            match output {
                ReplierOutput::Send { datagram, .. } => self.transmit(Way::Left, datagram, loss),
                ReplierOutput::Execute { run, .. } => {
                    self.executed += 1;
                    self.balance = self.balance.saturating_sub(AMOUNT);
                    let balance = self.balance;
                    let again = if self.executed > 1 { ", again" } else { "" };
                    self.notes
                        .push(("server", format!("executes withdraw({AMOUNT}){again}: {balance} left")));
                    self.schedule(WORK, Event::Worked { run, balance });
                }
                ReplierOutput::Cancel { .. } => {}
            }
        }
    }

    /// Gives a datagram to the network. Greetings are not part of the story: they arrive at once.
    fn transmit(&mut self, way: Way, bytes: Vec<u8>, loss: Loss) {
        let kind = wire::Frame::from_datagram(&bytes).map_or(0, |frame| frame.kind);
        let arrive = |bytes| if way == Way::Right { Event::ToServer(bytes) } else { Event::ToCaller(bytes) };
        if kind == i32::from(Kind::Hello as u8) {
            return self.schedule(Duration::ZERO, arrive(bytes));
        }
        let sent_before = self.datagrams.iter().filter(|sent| sent.way == way).count();
        let (label, lost) = match way {
            Way::Right => (format!("call #1 withdraw({AMOUNT})"), false),
            Way::Left => {
                self.replies += 1;
                let lost_max = match loss {
                    Loss::None => 0,
                    Loss::First => 1,
                    Loss::FirstTwo => 2,
                };
                (format!("reply #1 {} left", self.balance), self.replies <= lost_max)
            }
        };
        match (way, sent_before) {
            (Way::Right, 0) => {}
            (Way::Right, _) => {
                self.notes.push(("client", "hears nothing, sends the same call again".to_owned()))
            }
            (Way::Left, before) if self.executed <= u32::try_from(before).unwrap_or(u32::MAX) => {
                self.notes.push(("server", "knows call #1: repeats the reply, executes nothing".to_owned()));
            }
            (Way::Left, _) => {}
        }
        if lost {
            self.notes.push(("network", format!("loses the reply: {} left", self.balance)));
        } else {
            self.schedule(DELAY, arrive(bytes));
        }
        self.datagrams.push(Datagram { way, label, sent: self.now, lost });
    }

    fn tick(&mut self, loss: Loss) {
        self.now += TICK;
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let frame = |bytes: &[u8]| wire::Frame::from_datagram(bytes).ok().map(Box::new);
            match entry.remove() {
                Event::ToServer(bytes) => {
                    if let Some(frame) = frame(&bytes) {
                        self.reply(ReplierInput::Datagram { from: (), size: bytes.len(), frame }, loss);
                    }
                }
                Event::ToCaller(bytes) => {
                    if let Some(frame) = frame(&bytes) {
                        self.ask(CallerInput::Datagram(frame), loss);
                    }
                }
                Event::Worked { run, balance } => {
                    let message = Some(Bytes::copy_from_slice(&balance.to_be_bytes()));
                    let frame = Box::new(wire::Frame { message, ..wire::Frame::new(Kind::Reply, 0) });
                    self.reply(ReplierInput::Finished { run, frame, lost: false }, loss);
                }
            }
        }
        if self.caller.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.ask(CallerInput::Tick, loss);
        }
    }

    fn over(&self) -> bool {
        self.answer.is_some_and(|(at, _)| self.now >= at + HOLD)
    }
}

impl Scene for LostReplyScene {
    fn title(&self) -> String {
        "rpc · lost reply".to_owned()
    }

    fn figures(&self) -> String {
        let ms = self.round.now.duration_since(self.round.start).as_millis();
        format!(
            "{}   executed {}   balance {}   {ms:>4} ms",
            self.mode(),
            self.round.executed,
            self.round.balance
        )
    }

    fn tick(&mut self) -> Vec<Note> {
        if self.done {
            return Vec::new();
        }
        self.round.tick(self.loss);
        let (mode, round) = (self.mode(), &mut self.round);
        let (ms, executed, balance) =
            (round.now.duration_since(round.start).as_millis(), round.executed, round.balance);
        let note = |(who, what): (&'static str, String)| {
            Note::new(
                format!("{mode:<13}  {ms:>4} ms  {who:<7}  {what}"),
                vec![
                    ("mode", json!(mode)),
                    ("at_ms", json!(ms as u64)),
                    ("who", json!(who)),
                    ("what", json!(what)),
                    ("executed", json!(executed)),
                    ("balance", json!(balance)),
                ],
            )
        };
        let notes = std::mem::take(&mut round.notes).into_iter().map(note).collect();
        if self.round.over() {
            if self.both && !self.dedupe {
                self.tell(true);
            } else {
                self.done = true;
            }
        }
        notes
    }

    fn done(&self) -> bool {
        self.done
    }

    fn restart(&mut self) {
        self.both = true;
        self.tell(false);
    }

    fn keys(&self) -> &'static [(char, &'static str)] {
        &[('d', "dedupe"), ('l', "loss")]
    }

    fn key(&mut self, key: char) {
        self.both = false;
        let dedupe = (key == 'd') != self.dedupe;
        if key == 'l' {
            self.loss = match self.loss {
                Loss::First => Loss::FirstTwo,
                Loss::FirstTwo => Loss::None,
                Loss::None => Loss::First,
            };
        }
        self.tell(dedupe);
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let [sides, says] = Layout::vertical([Constraint::Min(16), Constraint::Length(4)]).areas(area);
        let [client, wire, server] =
            Layout::horizontal([Constraint::Length(24), Constraint::Min(20), Constraint::Length(24)])
                .areas(sides);
        self.draw_client(frame, client, theme);
        self.draw_wire(frame, wire, theme);
        self.draw_server(frame, server, theme);
        frame.render_widget(Paragraph::new(self.lesson(theme)), says);
    }
}

impl LostReplyScene {
    fn draw_client(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let waits = self.round.answer.is_none();
        let inner = panel(frame, area, "client", theme, if waits { theme.accent() } else { theme.good() });
        let sent = self.round.datagrams.iter().filter(|datagram| datagram.way == Way::Right).count();
        let answer = match self.round.answer {
            None => Line::styled(format!(" {} waits", theme.doubt), theme.warn()),
            Some((_, left)) => Line::styled(format!(" {} {left} left", theme.done), theme.good()),
        };
        let lines = vec![
            Line::raw(format!(" withdraw({AMOUNT})")),
            Line::raw(""),
            Line::raw(format!(" sent {sent}x")),
            answer,
        ];
        frame.render_widget(Paragraph::new(lines), inner);
    }

    fn draw_server(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let wrong = self.round.executed > 1;
        let inner = panel(frame, area, "server", theme, if wrong { theme.bad() } else { theme.accent() });
        let style = if wrong { theme.bad() } else { theme.strong() };
        let kept =
            if self.dedupe && self.round.executed > 0 { "reply #1 is kept" } else { "nothing is kept" };
        let lines = vec![
            Line::styled(format!(" balance {}", self.round.balance), style),
            Line::raw(""),
            Line::styled(format!(" executed {}x", self.round.executed), style),
            Line::styled(format!(" {kept}"), theme.dim()),
        ];
        frame.render_widget(Paragraph::new(lines), inner);
    }

    /// Every datagram as an arrow below the one before.
    fn draw_wire(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let width = usize::from(area.width);
        let mut lines = vec![Line::raw("")];
        for datagram in &self.round.datagrams {
            let flown =
                self.round.now.saturating_duration_since(datagram.sent).as_secs_f64() / DELAY.as_secs_f64();
            // What is lost is lost half way.
            let (progress, gone) =
                if datagram.lost { (flown.min(0.5), flown >= 0.5) } else { (flown, false) };
            let style = match (gone, flown < 1.0) {
                (true, _) => theme.bad(),
                (false, true) => theme.accent(),
                (false, false) => theme.good(),
            };
            let text = arrow(width, &datagram.label, progress, datagram.way, gone, theme);
            lines.push(Line::from(Span::styled(text, style)));
            lines.push(Line::raw(""));
        }
        let rows = usize::from(area.height);
        let skip = lines.len().saturating_sub(rows);
        frame.render_widget(Paragraph::new(lines.split_off(skip)), area);
    }

    fn lesson(&self, theme: &Theme) -> Vec<Line<'static>> {
        let repeated = self.round.datagrams.iter().filter(|datagram| datagram.way == Way::Right).count() > 1;
        let text = match (self.dedupe, self.round.executed, repeated, self.round.answer.is_some()) {
            (_, 0, ..) => "A call crosses a network that may lose it, or its reply.",
            (_, 1, false, false) => {
                "The reply is gone. The client cannot tell this from a lost call: it can only ask again."
            }
            (false, 1, ..) => "The same call is on its way again.",
            (false, _, _, false) => {
                "The server takes the repetition for a new call. The account is debited twice."
            }
            (false, _, _, true) => "At least once: harmless for reading, wrong for money.",
            (true, _, _, false) => "The repetition carries the number of the first: the server looks it up.",
            (true, _, _, true) => "At most once: executed once, answered as often as needed.",
        };
        vec![
            Line::raw(""),
            Line::styled(format!(" {text}"), theme.strong()),
            Line::styled(" (ten times slower than life; these are the engines behind udp://)", theme.dim()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(scene: &mut LostReplyScene) -> Vec<(String, u32, u32)> {
        let mut ends = Vec::new();
        while !scene.done() {
            let before = (scene.mode().to_owned(), scene.round.executed, scene.round.balance);
            scene.tick();
            if scene.done() || scene.mode() != before.0 {
                ends.push(before);
            }
        }
        ends
    }

    #[test]
    fn without_dedupe_the_account_is_debited_twice_and_with_it_once() {
        let mut scene = LostReplyScene::new(7);
        assert_eq!(
            told(&mut scene),
            [("at least once".to_owned(), 2, 40), ("at most once".to_owned(), 1, 70)]
        );
    }

    #[test]
    fn a_network_that_loses_nothing_needs_no_dedupe() {
        let mut scene = LostReplyScene::new(7);
        scene.loss = Loss::None;
        assert_eq!(
            told(&mut scene),
            [("at least once".to_owned(), 1, 70), ("at most once".to_owned(), 1, 70)]
        );
    }
}
