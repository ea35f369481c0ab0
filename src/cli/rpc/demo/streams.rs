//! The four kinds of call side by side: who may send more than one message.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use serde_json::json;

use crate::cli::stage::theme::Theme;
use crate::cli::stage::widgets::panel;
use crate::cli::stage::{Note, Scene};
use crate::rpc::Kind;

/// Ticks for one message to cross the wire.
const FLIGHT_TICKS: u32 = 16;
/// Ticks between two messages of a stream.
const GAP_TICKS: u32 = 8;
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

/// The scene.
pub(super) struct StreamsScene {
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
    /// The story.
    pub(super) fn new() -> Self {
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
        for text in ["tick 1", "tick 2", "tick 3", "tick 4", "end"] {
            last = send(Kind::ServerStream, false, text, now);
            now += GAP_TICKS;
        }
        now = last + PAUSE_TICKS;
        for text in ["1", "2", "3", "4", "end"] {
            last = send(Kind::ClientStream, true, text, now);
            now += GAP_TICKS;
        }
        now = send(Kind::ClientStream, false, "10", last + 4) + PAUSE_TICKS;
        let talk = [
            (true, "hi", 0),
            (false, "hello", 12),
            (true, "how are you?", 18),
            (true, "still there?", 26),
            (false, "fine!", 30),
            (false, "yes", 40),
            (true, "end", 44),
            (false, "bye", 58),
        ];
        for (to_server, text, after) in talk {
            last = last.max(send(Kind::Bidi, to_server, text, now + after));
        }
        Self { flights, now: 0, end: last + PAUSE_TICKS }
    }

    fn counts(&self, kind: Kind) -> (usize, usize) {
        let arrived = |to_server| {
            let mine =
                self.flights.iter().filter(|flight| flight.kind == kind && flight.to_server == to_server);
            mine.filter(|flight| flight.end() <= self.now && flight.text != "end").count()
        };
        (arrived(true), arrived(false))
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
        let (sent, received) = self.counts(kind);
        let wire = usize::from(inner.width).saturating_sub(26);
        let lane = |to_server: bool| {
            let mut cells = vec![' '; wire];
            for flight in mine().filter(|flight| flight.to_server == to_server) {
                place(&mut cells, flight, self.now, theme);
            }
            cells.into_iter().collect::<String>()
        };
        let line = |left: String, cells: String, right: String| {
            Line::from(vec![
                Span::raw(format!(" {left:<12}")),
                Span::styled(cells, theme.accent()),
                Span::raw(format!("{right:>12} ")),
            ])
        };
        let lines = vec![
            line(format!("client {sent}"), lane(true), format!("{sent} server")),
            line(format!("       {received}"), lane(false), format!("{received}       ")),
            Line::styled(format!(" {says}"), if begun { theme.strong() } else { theme.dim() }),
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
        let arrived = self.flights.iter().filter(|flight| flight.end() <= self.now).count();
        format!("messages {arrived}/{}", self.flights.len())
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
        arrived.map(note).collect()
    }

    fn done(&self) -> bool {
        self.now >= self.end
    }

    fn restart(&mut self) {
        self.now = 0;
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let rows =
            Layout::vertical([Constraint::Length(5); 4]).spacing(u16::from(area.height > 24)).split(area);
        for (row, area) in rows.iter().enumerate() {
            self.draw_kind(frame, *area, row, theme);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_arrives_once() {
        let mut scene = StreamsScene::new();
        let mut notes = 0;
        while !scene.done() {
            notes += scene.tick().len();
        }
        assert_eq!(notes, scene.flights.len());
        assert_eq!(scene.counts(Kind::Unary), (1, 1));
        assert_eq!(scene.counts(Kind::ServerStream), (1, 4));
        assert_eq!(scene.counts(Kind::ClientStream), (4, 1));
        assert_eq!(scene.counts(Kind::Bidi), (3, 4));
    }
}
