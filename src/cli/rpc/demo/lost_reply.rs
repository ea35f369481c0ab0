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

use crate::cli::stage::chronicle::TIME;
use crate::cli::stage::theme::Theme;
use crate::cli::stage::widgets::{Way, arrow, panel, say};
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
/// A telling ends so long after the answer has come: its result is to be read.
const HOLD: Duration = Duration::from_millis(350);
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

/// What a telling came to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    mode: &'static str,
    executed: u32,
    balance: u32,
}

impl Told {
    fn text(&self) -> String {
        let Self { mode, executed, balance } = self;
        format!("{mode}: executed {}, {balance} left", times(*executed))
    }
}

/// The scene.
pub(super) struct LostReplyScene {
    seed: u64,
    start: Instant,
    dedupe: bool,
    /// What earlier tellings came to.
    told: Vec<Told>,
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
        let (dedupe, both, loss) = (false, true, Loss::First);
        Self { seed, start, dedupe, told: Vec::new(), both, loss, round, done: false }
    }

    fn tell(&mut self, dedupe: bool) {
        self.dedupe = dedupe;
        self.done = false;
        self.round = Round::new(self.seed, self.start, dedupe);
    }

    fn outcome(&self) -> Told {
        Told { mode: self.mode(), executed: self.round.executed, balance: self.round.balance }
    }

    /// What has happened in all tellings.
    fn summary(&self) -> String {
        let told: Vec<String> = self.told.iter().map(Told::text).collect();
        told.join("; ")
    }

    fn mode(&self) -> &'static str {
        if self.dedupe { "at most once" } else { "at least once" }
    }
}

/// How often, in words.
fn times(count: u32) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        count => format!("{count} times"),
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
            notes: vec![(
                "client",
                match dedupe {
                    false => format!("withdraw({AMOUNT})"),
                    true => format!("withdraw({AMOUNT}), from a server that remembers its replies"),
                },
            )],
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
                (format!("reply #1: {}", self.balance), self.replies <= lost_max)
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
        let loss = match self.loss {
            Loss::None => "loses nothing",
            Loss::First => "loses 1 reply",
            Loss::FirstTwo => "loses 2 replies",
        };
        format!("network {loss}   {}   {ms:>4} ms", self.mode())
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
                format!("{mode:<13}  {who:<7}  {what}"),
                vec![
                    (TIME, json!(ms as u64)),
                    ("mode", json!(mode)),
                    ("who", json!(who)),
                    ("what", json!(what)),
                    ("executed", json!(executed)),
                    ("balance", json!(balance)),
                ],
            )
        };
        let mut notes: Vec<Note> = std::mem::take(&mut round.notes).into_iter().map(note).collect();
        if self.round.over() {
            let outcome = self.outcome();
            self.told.retain(|told| told.mode != outcome.mode);
            self.told.push(outcome);
            if self.both && !self.dedupe {
                self.tell(true);
            } else {
                self.done = true;
                notes.push(note(("end", self.summary())));
            }
        }
        notes
    }

    fn done(&self) -> bool {
        self.done
    }

    fn restart(&mut self) {
        self.both = true;
        self.told.clear();
        self.tell(false);
    }

    fn keys(&self) -> &'static [(char, &'static str)] {
        &[('d', "dedupe"), ('l', "loss")]
    }

    fn key(&mut self, key: char) {
        self.both = false;
        let dedupe = (key == 'd') != self.dedupe;
        if key == 'l' {
            // With another network other things come of it.
            self.told.clear();
            self.loss = match self.loss {
                Loss::First => Loss::FirstTwo,
                Loss::FirstTwo => Loss::None,
                Loss::None => Loss::First,
            };
        }
        self.tell(dedupe);
    }

    fn size_max(&self) -> (u16, u16) {
        (120, 30)
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let [sides, says] = Layout::vertical([Constraint::Min(16), Constraint::Length(6)]).areas(area);
        let [client, wire, server] =
            Layout::horizontal([Constraint::Length(24), Constraint::Min(20), Constraint::Length(24)])
                .areas(sides);
        self.draw_client(frame, client, theme);
        self.draw_wire(frame, wire, theme);
        self.draw_server(frame, server, theme);
        let lesson = self.lesson();
        let told: Vec<String> = self.told.iter().map(Told::text).collect();
        let slow = "(ten times slower than life; these are the engines behind udp://)";
        let mut sentences = vec![("", theme.dim()), (lesson.as_str(), theme.strong())];
        sentences.extend(told.iter().map(|told| (told.as_str(), theme.accent())));
        sentences.push((slow, theme.dim()));
        say(frame, says, &sentences, theme);
    }
}

impl LostReplyScene {
    fn draw_client(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let waits = self.round.answer.is_none();
        let inner = panel(frame, area, "client", theme, if waits { theme.accent() } else { theme.good() });
        let sent = self.round.sent(Way::Right).count();
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

    /// What the picture of this moment means: never more than can be seen in it.
    fn lesson(&self) -> String {
        let round = &self.round;
        let calls = round.sent(Way::Right).count();
        let gone = round.sent(Way::Left).filter(|datagram| datagram.is_gone(round.now)).count();
        let repeated = calls > 1;
        // The latest datagram is a reply that is gone: nobody knows but the network.
        let in_doubt = round.datagrams.last().is_some_and(|last| last.is_gone(round.now));
        let debited = times(round.executed);
        match (round.answer.is_some(), self.dedupe) {
            (true, _) if gone == 0 => {
                "Nothing was lost: whether the server remembers makes no difference.".to_owned()
            }
            (true, false) => {
                format!("{AT_LEAST_ONCE} The account is debited {debited}.")
            }
            (true, true) => AT_MOST_ONCE.to_owned(),
            (false, _) if round.executed == 0 => STARTS.to_owned(),
            (false, _) if in_doubt && gone == 1 => LOST.to_owned(),
            (false, _) if in_doubt => "This reply is lost as well: the client asks once more.".to_owned(),
            (false, _) if !repeated => "The server debits the account and answers.".to_owned(),
            (false, false) if round.executed > 1 => {
                format!("The server takes the repetition for a new call: the account is debited {debited}.")
            }
            (false, true) if round.sent(Way::Left).count() > 1 => KNOWN.to_owned(),
            (false, _) => AGAIN.to_owned(),
        }
    }
}

const STARTS: &str = "A call crosses a network that may lose it, or its reply.";
const LOST: &str =
    "The reply is lost. The client cannot tell this from a lost call: it can only wait, and ask again.";
const AGAIN: &str = "The client has waited for long enough: the same call is on its way again.";
const KNOWN: &str =
    "The repetition carries the number of the first: the server looks it up, and does nothing.";
const AT_LEAST_ONCE: &str = "At least once: harmless for reading, wrong for money.";
const AT_MOST_ONCE: &str = "At most once: executed once, answered as often as needed.";

impl Datagram {
    /// What is lost is lost half way.
    fn is_gone(&self, now: Instant) -> bool {
        self.lost && now.saturating_duration_since(self.sent) * 2 >= DELAY
    }
}

impl Round {
    fn sent(&self, way: Way) -> impl Iterator<Item = &Datagram> {
        self.datagrams.iter().filter(move |datagram| datagram.way == way)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::stage::chronicle::tests::is_said_whole;

    fn told(scene: &mut LostReplyScene) -> Vec<Told> {
        while !scene.done() {
            scene.tick();
        }
        scene.told.clone()
    }

    fn outcome(mode: &'static str, executed: u32, balance: u32) -> Told {
        Told { mode, executed, balance }
    }

    #[test]
    fn without_dedupe_the_account_is_debited_twice_and_with_it_once() {
        let expected = [outcome("at least once", 2, 40), outcome("at most once", 1, 70)];
        assert_eq!(told(&mut LostReplyScene::new(7)), expected);
    }

    #[test]
    fn a_network_that_loses_nothing_needs_no_dedupe() {
        let mut scene = LostReplyScene::new(7);
        scene.loss = Loss::None;
        assert_eq!(told(&mut scene), [outcome("at least once", 1, 70), outcome("at most once", 1, 70)]);
    }

    #[test]
    fn the_reply_is_called_lost_once_it_is_and_only_then() {
        for loss in [Loss::First, Loss::FirstTwo, Loss::None] {
            let mut scene = LostReplyScene::new(7);
            scene.loss = loss;
            while !scene.done() {
                let gone = scene.round.datagrams.iter().any(|datagram| datagram.is_gone(scene.round.now));
                let says = scene.lesson();
                assert!(gone || !says.contains("lost."), "{says}");
                assert!(gone || !says.contains("again"), "{says}");
                assert!(loss != Loss::None || !scene.lesson().contains("lost as well"), "{says}");
                scene.tick();
            }
            let says = scene.lesson();
            assert_eq!(says.starts_with("Nothing was lost"), loss == Loss::None, "{says}");
        }
    }

    #[test]
    fn all_that_is_said_fits_the_smallest_screen() {
        let says = [STARTS, LOST, AGAIN, KNOWN, AT_LEAST_ONCE, AT_MOST_ONCE, "is debited twice."];
        is_said_whole(&mut LostReplyScene::new(7), &says);
        let both = ["at least once: executed twice, 40 left", "at most once: executed once, 70 left"];
        is_said_whole(&mut LostReplyScene::new(7), &both);
    }

    #[test]
    fn keys_tell_it_once_more_after_the_end() {
        let mut scene = LostReplyScene::new(7);
        told(&mut scene);
        scene.key('d');
        assert_eq!((scene.done(), scene.mode()), (false, "at least once"));
        assert_eq!(told(&mut scene).len(), 2, "both results stay to be compared");
    }
}
