//! The four kinds of call side by side: who may send more than one message.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use serde_json::json;

use crate::cli::stage::theme::Theme;
use crate::cli::stage::widgets::{fit, panel, say};
use crate::cli::stage::{Note, Scene};
use crate::rpc::Kind;

/// Ticks for one message to cross the wire.
const FLIGHT_TICKS: u32 = 16;
/// Ticks between two messages of a stream, at least and at most.
const GAP_TICKS: (u32, u32) = (5, 12);
/// Ticks between the kinds.
const PAUSE_TICKS: u32 = 12;

/// A message on its way.
struct Flight {
    kind: Kind,
    to_server: bool,
    text: &'static str,
    start: u32,
}

impl Flight {
    fn end(&self) -> u32 {
        self.start + FLIGHT_TICKS
    }
}

/// What says that no more comes from this side: no message.
const END: &str = "end";
/// Under the picture, while it plays and when all is said.
const LESSON: &str = "A stream is one call with many messages. A side that has said everything says so: end, and no message more.";
const LESSON_END: &str =
    "Four calls, and in each a status at the end: the server has the last word, whoever talked more.";

/// The scene.
pub(super) struct StreamsScene {
    seed: u64,
    flights: Vec<Flight>,
    now: u32,
    end: u32,
}

const KINDS: [(Kind, &str, &str, &str); 4] = [
    (Kind::Unary, "unary", "Greeter/Hello", "one question, one answer"),
    (Kind::ServerStream, "server stream", "Clock/Ticks", "one question, many answers, as they come"),
    (Kind::ClientStream, "client stream", "Calc/Sum", "many messages, one answer when the last was sent"),
    (Kind::Bidi, "bidirectional", "Chat/Talk", "both talk whenever they like"),
];

impl StreamsScene {
    /// The story. How fast a stream is and who says what when is from `seed`.
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let mut gap = || dice.u32(GAP_TICKS.0..=GAP_TICKS.1);
        let mut flights = Vec::new();
        let mut now = 4;
        let mut send = |kind, to_server, text, start| {
            flights.push(Flight { kind, to_server, text, start });
            start + FLIGHT_TICKS
        };
        now = send(Kind::Unary, true, "Ada", now);
        now = send(Kind::Unary, false, "Hello, Ada!", now + 4) + PAUSE_TICKS;
        now = send(Kind::ServerStream, true, "every second", now) + 4;
        let mut last = now;
        for text in ["tick 1", "tick 2", "tick 3", "tick 4", END] {
            last = send(Kind::ServerStream, false, text, now);
            now += gap();
        }
        now = last + PAUSE_TICKS;
        for text in ["1", "2", "3", "4", END] {
            last = send(Kind::ClientStream, true, text, now);
            now += gap();
        }
        now = send(Kind::ClientStream, false, "10", last + 4) + PAUSE_TICKS;
        let talk = [
            (true, "hi"),
            (false, "hello"),
            (true, "how are you?"),
            (true, "still there?"),
            (false, "fine!"),
            (false, "yes"),
            (true, END),
            (false, "bye"),
        ];
        // Nobody waits for the other, but two messages of a side do not overtake each other, nor lie on each other.
        let mut free = [now; 2];
        for (to_server, text) in talk {
            now = (now + gap()).max(free[usize::from(to_server)]);
            last = last.max(send(Kind::Bidi, to_server, text, now));
            free[usize::from(to_server)] = now + GAP_TICKS.1;
        }
        Self { seed, flights, now: 0, end: last + PAUSE_TICKS }
    }

    /// Messages in one direction: sent, and arrived.
    fn counts(&self, kind: Kind, to_server: bool) -> (usize, usize) {
        let messages = || {
            let mine = self.flights.iter().filter(move |it| it.kind == kind && it.to_server == to_server);
            mine.filter(|flight| flight.text != END)
        };
        let sent = messages().filter(|flight| flight.start <= self.now).count();
        (sent, messages().filter(|flight| flight.end() <= self.now).count())
    }

    /// Messages of all calls that have arrived, and how many there are.
    fn total(&self) -> (usize, usize) {
        let messages = || self.flights.iter().filter(|flight| flight.text != END);
        (messages().filter(|flight| flight.end() <= self.now).count(), messages().count())
    }

    fn draw_kind(&self, frame: &mut Frame<'_>, area: Rect, row: usize, theme: &Theme) {
        let (kind, name, method, says) = KINDS[row];
        let mine = || self.flights.iter().filter(|flight| flight.kind == kind);
        let begun = mine().any(|flight| flight.start <= self.now);
        let over = mine().all(|flight| flight.end() <= self.now);
        let style = match (begun, over) {
            (false, _) => theme.dim(),
            (true, false) => theme.accent(),
            (true, true) => theme.good(),
        };
        let inner = panel(frame, area, &format!("{name}   {method}"), theme, style);
        let [there, back] = [self.counts(kind, true), self.counts(kind, false)];
        let wire = usize::from(inner.width).saturating_sub(34);
        let lane = |to_server: bool| {
            let mut cells = vec![' '; wire];
            for flight in mine().filter(|flight| flight.to_server == to_server) {
                place(&mut cells, flight, self.now, theme);
            }
            cells.into_iter().collect::<String>()
        };
        let line = |left: String, cells: String, right: String| {
            Line::from(vec![
                Span::raw(format!(" {left:<16}")),
                Span::styled(cells, theme.accent()),
                Span::raw(format!("{right:>16} ")),
            ])
        };
        let lines = vec![
            line(format!("client sent {}", there.0), lane(true), format!("server has {}", there.1)),
            line(format!("client has {}", back.1), lane(false), format!("server sent {}", back.0)),
            Line::styled(
                format!(" {}", fit(says, usize::from(inner.width).saturating_sub(2), theme)),
                if begun { theme.strong() } else { theme.dim() },
            ),
        ];
        frame.render_widget(Paragraph::new(lines), inner);
    }
}

/// Writes a flying message into its lane.
fn place(cells: &mut [char], flight: &Flight, now: u32, theme: &Theme) {
    if now < flight.start || now >= flight.end() || cells.is_empty() {
        return;
    }
    let label = if flight.to_server {
        format!("{}{}", flight.text, theme.head_right)
    } else {
        format!("{}{}", theme.head_left, flight.text)
    };
    let room = cells.len().saturating_sub(label.chars().count());
    let passed = (now - flight.start) as usize;
    let along = room * passed / (FLIGHT_TICKS as usize - 1);
    let start = if flight.to_server { along } else { room - along.min(room) };
    for (cell, letter) in cells[start.min(room)..].iter_mut().zip(label.chars()) {
        *cell = letter;
    }
}

impl Scene for StreamsScene {
    fn title(&self) -> String {
        "rpc · streams".to_owned()
    }

    fn figures(&self) -> String {
        let (arrived, all) = self.total();
        format!("messages arrived {arrived}/{all}")
    }

    fn tick(&mut self) -> Vec<Note> {
        if self.done() {
            return Vec::new();
        }
        self.now += 1;
        let arrived = self.flights.iter().filter(|flight| flight.end() == self.now);
        let note = |flight: &Flight| {
            let (_, name, method, _) =
                KINDS[KINDS.iter().position(|kind| kind.0 == flight.kind).unwrap_or(0)];
            let way = if flight.to_server { "client -> server" } else { "server -> client" };
            Note::new(
                format!("{name:<14}  {method:<14}  {way}  {}", flight.text),
                vec![
                    ("kind", json!(name)),
                    ("method", json!(method)),
                    ("way", json!(way)),
                    ("text", json!(flight.text)),
                ],
            )
        };
        let mut notes: Vec<Note> = arrived.map(note).collect();
        if self.done() {
            let (arrived, all) = self.total();
            let what = format!("four calls are over: {arrived} of {all} messages have arrived");
            notes.push(Note::new(what, vec![("arrived", json!(arrived)), ("messages", json!(all))]));
        }
        notes
    }

    fn done(&self) -> bool {
        self.now >= self.end
    }

    fn restart(&mut self) {
        *self = Self::new(self.seed);
    }

    fn size_max(&self) -> (u16, u16) {
        (120, 30)
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let [kinds, says] = Layout::vertical([Constraint::Fill(1), Constraint::Length(2)]).areas(area);
        let rows =
            Layout::vertical([Constraint::Length(5); 4]).spacing(u16::from(kinds.height > 24)).split(kinds);
        for (row, area) in rows.iter().enumerate() {
            self.draw_kind(frame, *area, row, theme);
        }
        let lesson = if self.done() { LESSON_END } else { LESSON };
        say(frame, says, &[(lesson, theme.strong())], theme);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::stage::chronicle::tests::is_said_whole;

    #[test]
    fn every_message_arrives_once() {
        let mut scene = StreamsScene::new(7);
        let mut notes = 0;
        while !scene.done() {
            notes += scene.tick().len();
            for (kind, ..) in KINDS {
                let [there, back] = [scene.counts(kind, true), scene.counts(kind, false)];
                assert!(there.0 >= there.1 && back.0 >= back.1, "nothing arrives before it is sent");
            }
        }
        assert_eq!(notes, scene.flights.len() + 1);
        let both = |kind| (scene.counts(kind, true), scene.counts(kind, false));
        assert_eq!(both(Kind::Unary), ((1, 1), (1, 1)));
        assert_eq!(both(Kind::ServerStream), ((1, 1), (4, 4)));
        assert_eq!(both(Kind::ClientStream), ((4, 4), (1, 1)));
        assert_eq!(both(Kind::Bidi), ((3, 3), (4, 4)));
        let sum: usize = KINDS.iter().map(|(kind, ..)| both(*kind).0.1 + both(*kind).1.1).sum();
        assert_eq!(scene.total(), (sum, sum), "the title counts what the boxes count");
    }

    #[test]
    fn what_is_on_its_way_is_sent_and_not_there() {
        let mut scene = StreamsScene::new(7);
        while scene.counts(Kind::ClientStream, true) != (4, 2) {
            assert!(!scene.done(), "a stream does not wait for answers");
            scene.tick();
        }
    }

    #[test]
    fn all_that_is_said_fits_the_smallest_screen() {
        let says: Vec<&str> = KINDS.iter().map(|kind| kind.3).chain([LESSON, LESSON_END]).collect();
        is_said_whole(&mut StreamsScene::new(7), &says);
    }

    #[test]
    fn another_seed_sends_at_other_times() {
        let times = |seed| StreamsScene::new(seed).flights.iter().map(|it| it.start).collect::<Vec<_>>();
        assert_ne!(times(7), times(8));
    }
}
