//! One call, stage by stage: stub, method, serialise, transport, dispatch, handler, and back.

use prost::Message;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use serde_json::json;

use crate::cli::stage::theme::Theme;
use crate::cli::stage::widgets::{Way, arrow, fit, panel, say};
use crate::cli::stage::{Note, Scene};
use crate::rpc::catalog::method_id;

const PATH: &str = "demo.Greeter/Hello";
/// Whom the call greets: the seed chooses.
const NAMES: [&str; 8] = ["Bo", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hana", "Ada"];

/// Ticks that a stage stays when nothing moves in it.
const STAGE_TICKS: u32 = 24;
/// Ticks for each part of the bytes to light up.
const PART_TICKS: u32 = 10;

#[derive(Clone, PartialEq, Message)]
struct HelloRequest {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct HelloReply {
    #[prost(string, tag = "1")]
    message: String,
}

/// Some bytes and what they say.
struct Part {
    bytes: Vec<u8>,
    meaning: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Client,
    ToServer,
    Server,
    ToClient,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bytes {
    None,
    Request,
    Reply,
}

struct Stage {
    place: Place,
    name: &'static str,
    shows: String,
    says: &'static str,
    bytes: Bytes,
    ticks: u32,
}

/// The scene.
pub(super) struct CallScene {
    stages: Vec<Stage>,
    request: Vec<Part>,
    reply: Vec<Part>,
    stage: usize,
    ticks: u32,
    done: bool,
}

impl CallScene {
    /// The call `Hello(name)`, with a name that `seed` chooses.
    pub(super) fn new(seed: u64) -> Self {
        let count = NAMES.len() as u64;
        let name = NAMES[usize::try_from(seed % count).unwrap_or(0)];
        let request = HelloRequest { name: name.to_owned() };
        let reply = HelloReply { message: format!("Hello, {name}!") };
        let request_parts = frame_parts(&request.encode_to_vec(), "name", name);
        let reply_parts = frame_parts(&reply.encode_to_vec(), "message", &reply.message);
        let stages = stages(name, &reply.message, &request_parts, &reply_parts);
        Self { stages, request: request_parts, reply: reply_parts, stage: 0, ticks: 0, done: false }
    }

    fn parts(&self, bytes: Bytes) -> &[Part] {
        match bytes {
            Bytes::None => &[],
            Bytes::Request => &self.request,
            Bytes::Reply => &self.reply,
        }
    }

    /// How much of this stage is over, 0 to 1.
    fn progress(&self) -> f64 {
        f64::from(self.ticks) / f64::from(self.stages[self.stage].ticks)
    }

    fn note(&self) -> Note {
        let stage = &self.stages[self.stage];
        let side = match stage.place {
            Place::Client => "client",
            Place::Server => "server",
            Place::ToServer => "client -> server",
            Place::ToClient => "server -> client",
        };
        let hex = self.parts(stage.bytes).iter().map(|part| hex(&part.bytes)).collect::<Vec<_>>().join(" ");
        let text = format!("{side:<16}  {:<10}  {}", stage.name, stage.shows);
        let mut fields =
            vec![("side", json!(side)), ("stage", json!(stage.name)), ("shows", json!(stage.shows))];
        if !hex.is_empty() {
            fields.push(("hex", json!(hex)));
        }
        Note::new(text, fields)
    }

    /// What has happened in all.
    fn end(&self) -> Note {
        let size = |parts: &[Part]| parts.iter().map(|part| part.bytes.len()).sum::<usize>();
        let (sent, got) = (size(&self.request), size(&self.reply));
        let what = format!("one call of {PATH}: {sent} bytes there, {got} bytes back, status OK");
        Note::new(
            format!("{:<16}  {:<10}  {what}", "both", "end"),
            vec![
                ("side", json!("both")),
                ("stage", json!("end")),
                ("shows", json!(what)),
                ("sent_bytes", json!(sent)),
                ("received_bytes", json!(got)),
            ],
        )
    }

    fn draw_side(&self, frame: &mut Frame<'_>, area: Rect, place: Place, theme: &Theme) {
        let here = self.stages[self.stage].place == place && !self.done;
        let (title, style) = match place {
            Place::Client => ("client", if here { theme.accent() } else { theme.dim() }),
            _ => ("server", if here { theme.accent() } else { theme.dim() }),
        };
        let inner = panel(frame, area, title, theme, style);
        let mut lines = Vec::new();
        for (number, stage) in self.stages.iter().enumerate().filter(|(_, stage)| stage.place == place) {
            let reached = number <= self.stage;
            let now = number == self.stage && !self.done;
            let (mark, style) = match (now, reached) {
                (true, _) => (theme.here, theme.accent()),
                (false, true) => (theme.done, theme.good()),
                (false, false) => (theme.empty, theme.dim()),
            };
            lines.push(Line::from(vec![Span::styled(format!(" {mark} {}", stage.name), style)]));
            let shows = if reached { stage.shows.as_str() } else { "" };
            let shows = fit(shows, usize::from(inner.width).saturating_sub(5), theme);
            lines.push(Line::from(Span::raw(format!("     {shows}"))));
        }
        frame.render_widget(Paragraph::new(lines), inner);
    }

    fn draw_wire(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let width = usize::from(area.width);
        let row = |place: Place, way: Way, label: String| {
            let at = self.stages.iter().position(|stage| stage.place == place).expect("both ways are stages");
            let progress = match at.cmp(&self.stage) {
                std::cmp::Ordering::Less => 1.0,
                std::cmp::Ordering::Equal => self.progress(),
                std::cmp::Ordering::Greater => 0.0,
            };
            let style = if at == self.stage { theme.accent() } else { theme.dim() };
            Line::from(Span::styled(arrow(width, &label, progress, way, false, theme), style))
        };
        let size = |parts: &[Part]| parts.iter().map(|part| part.bytes.len()).sum::<usize>();
        let lines = vec![
            Line::raw(""),
            Line::raw(""),
            Line::raw(""),
            row(Place::ToServer, Way::Right, format!("DATA {} B", size(&self.request))),
            Line::raw(""),
            Line::raw(""),
            row(Place::ToClient, Way::Left, format!("DATA {} B, OK", size(&self.reply))),
        ];
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn draw_bytes(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let stage = &self.stages[self.stage];
        let inner = panel(frame, area, "the bytes", theme, theme.dim());
        let parts = self.parts(stage.bytes);
        if parts.is_empty() {
            let text = Paragraph::new(Line::styled(" nothing is on its way yet", theme.dim()));
            frame.render_widget(text, inner);
            return;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to the number of parts"
        )]
        let lit = match stage.name {
            "serialise" | "transport" => (self.progress() * parts.len() as f64).ceil() as usize,
            _ => parts.len(),
        };
        let mut hexes = vec![Span::raw(" ")];
        for (number, part) in parts.iter().enumerate() {
            let style = match (number + 1).cmp(&lit) {
                std::cmp::Ordering::Less => theme.good(),
                std::cmp::Ordering::Equal => theme.accent(),
                std::cmp::Ordering::Greater => theme.dim(),
            };
            hexes.push(Span::styled(hex(&part.bytes), style));
            hexes.push(Span::raw("  "));
        }
        let mut lines = vec![Line::from(hexes), Line::raw("")];
        for (number, part) in parts.iter().enumerate().take(lit) {
            let style = if number + 1 == lit { theme.accent() } else { theme.good() };
            lines.push(Line::from(vec![
                Span::styled(format!(" {:<24}", hex_short(&part.bytes)), style),
                Span::raw(part.meaning.clone()),
            ]));
        }
        frame.render_widget(Paragraph::new(lines), inner);
    }
}

impl Scene for CallScene {
    fn title(&self) -> String {
        "rpc · call".to_owned()
    }

    fn figures(&self) -> String {
        format!("{PATH}   stage {} of {}", self.stage + 1, self.stages.len())
    }

    fn tick(&mut self) -> Vec<Note> {
        if self.done {
            return Vec::new();
        }
        let first = self.ticks == 0;
        let mut notes = if first { vec![self.note()] } else { Vec::new() };
        self.ticks += 1;
        if self.ticks >= self.stages[self.stage].ticks {
            if self.stage + 1 == self.stages.len() {
                self.done = true;
                notes.push(self.end());
            } else {
                self.stage += 1;
                self.ticks = 0;
            }
        }
        notes
    }

    fn done(&self) -> bool {
        self.done
    }

    fn restart(&mut self) {
        self.stage = 0;
        self.ticks = 0;
        self.done = false;
    }

    fn size_max(&self) -> (u16, u16) {
        (120, 30)
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let [sides, bytes, says] =
            Layout::vertical([Constraint::Length(11), Constraint::Min(9), Constraint::Length(2)]).areas(area);
        let [client, wire, server] =
            Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2), Constraint::Fill(3)]).areas(sides);
        self.draw_side(frame, client, Place::Client, theme);
        self.draw_wire(frame, wire, theme);
        self.draw_side(frame, server, Place::Server, theme);
        self.draw_bytes(frame, bytes, theme);
        say(frame, says, &[(self.stages[self.stage].says, theme.strong())], theme);
    }
}

fn stages(name: &str, message: &str, request: &[Part], reply: &[Part]) -> Vec<Stage> {
    let lit = |parts: &[Part]| PART_TICKS * u32::try_from(parts.len()).unwrap_or(1);
    let stage =
        |place, name, shows: String, bytes, ticks, says| Stage { place, name, shows, says, bytes, ticks };
    vec![
        stage(
            Place::Client,
            "stub",
            format!("Hello(name=\"{name}\")"),
            Bytes::None,
            STAGE_TICKS,
            "The program calls what looks like a function of its own. It now waits.",
        ),
        stage(
            Place::Client,
            "method",
            format!("number {:#010x}", method_id(PATH)),
            Bytes::None,
            STAGE_TICKS,
            "Both sides know the method by one name. gRPC sends the name; bandy's udp:// sends a number made of it.",
        ),
        stage(
            Place::Client,
            "serialise",
            "message to bytes".to_owned(),
            Bytes::Request,
            lit(request),
            "Arguments become bytes that any language can read: field number, type, length, value.",
        ),
        stage(
            Place::ToServer,
            "transport",
            "HEADERS, DATA".to_owned(),
            Bytes::Request,
            STAGE_TICKS * 2,
            "The network carries the bytes. Everything that can go wrong goes wrong here.",
        ),
        stage(
            Place::Server,
            "dispatch",
            format!("/{PATH}"),
            Bytes::Request,
            STAGE_TICKS,
            "The server finds the function that the name stands for.",
        ),
        stage(
            Place::Server,
            "handler",
            format!("name=\"{name}\""),
            Bytes::Request,
            STAGE_TICKS,
            "The bytes are a message again, and the real function runs with it.",
        ),
        stage(
            Place::Server,
            "serialise",
            format!("\"{message}\""),
            Bytes::Reply,
            lit(reply),
            "The result goes the same way back: first it becomes bytes.",
        ),
        stage(
            Place::ToClient,
            "transport",
            "DATA, TRAILERS".to_owned(),
            Bytes::Reply,
            STAGE_TICKS * 2,
            "After the data comes a status: OK here, or one of sixteen ways to fail.",
        ),
        stage(
            Place::Client,
            "return",
            format!("\"{message}\""),
            Bytes::Reply,
            STAGE_TICKS,
            "The stub returns, and the program goes on as if nothing had happened.",
        ),
    ]
}

/// A gRPC frame around a message with one string field, part by part.
fn frame_parts(message: &[u8], field: &str, value: &str) -> Vec<Part> {
    let part = |bytes: &[u8], meaning: String| Part { bytes: bytes.to_vec(), meaning };
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    vec![
        part(&[0], "not compressed".to_owned()),
        part(&length.to_be_bytes(), format!("a message of {length} bytes follows")),
        part(&message[..1], format!("field 1 ({field}), length-delimited")),
        part(&message[1..2], format!("{} bytes", message[1])),
        part(&message[2..], format!("\"{value}\"")),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// At most seven bytes, for a column.
fn hex_short(bytes: &[u8]) -> String {
    if bytes.len() > 7 { format!("{} ..", hex(&bytes[..6])) } else { hex(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::stage::chronicle::tests::is_said_whole;

    #[test]
    fn the_parts_are_the_frame_that_grpc_sends() {
        let scene = CallScene::new(7);
        let bytes: Vec<u8> = scene.request.iter().flat_map(|part| part.bytes.clone()).collect();
        assert_eq!(bytes, [0, 0, 0, 0, 5, 0x0a, 3, b'A', b'd', b'a']);
    }

    #[test]
    fn every_stage_is_noted_once_in_order() {
        let mut scene = CallScene::new(7);
        let mut names = Vec::new();
        while !scene.done() {
            names.extend(scene.tick().into_iter().map(|note| note.fields[1].1.as_str().unwrap().to_owned()));
        }
        let expected = [
            "stub",
            "method",
            "serialise",
            "transport",
            "dispatch",
            "handler",
            "serialise",
            "transport",
            "return",
            "end",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn all_that_is_said_fits_the_smallest_screen() {
        for seed in 0..8 {
            let mut scene = CallScene::new(seed);
            let says: Vec<&str> = scene.stages.iter().map(|stage| stage.says).collect();
            is_said_whole(&mut scene, &says);
        }
    }

    #[test]
    fn another_seed_greets_somebody_else() {
        let said = |seed| CallScene::new(seed).tick()[0].text.clone();
        assert!(said(7).contains("\"Ada\"") && said(8).contains("\"Bo\""));
    }
}
