//! A topic exchange: a message with a routing key, bindings with patterns, and the queues that it reaches.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use serde_json::json;

use super::world::{World, plain};
use crate::cli::stage::chronicle::{Chronicle, TIME};
use crate::cli::stage::theme::Theme;
use crate::cli::stage::widgets::{Way, arrow, fit, padded, panel, say, width_of};
use crate::cli::stage::{Note, Scene, TICK};
use crate::mq::engine::ConnectionId;
use crate::mq::wire::TableBuf;
use crate::mq::wire::method::{basic, exchange, queue};

const EXCHANGE: &str = "events";
/// Queues, the pattern that binds each, and what it says.
const BINDINGS: [(&str, &str, &str); 6] = [
    ("eu", "orders.eu.*", "three words, the last is any"),
    ("orders", "orders.#", "orders, and any words behind it, or none"),
    ("paid", "*.*.paid", "any two words, then paid"),
    ("alerts", "alert.*", "alert and exactly one word"),
    ("everything", "#", "any words"),
    ("yours", "", "press b and type a pattern"),
];
const YOURS: usize = BINDINGS.len() - 1;
/// What the story publishes.
const KEYS: [&str; 8] = [
    "orders.eu.new",
    "orders.us.paid",
    "orders.eu.paid",
    "orders",
    "alert.disk",
    "alert.disk.full",
    "orders.eu",
    "news",
];
/// Ticks from the publisher to the exchange, from there to the queues, and until the next message.
const TO_EXCHANGE: u32 = 10;
const TO_QUEUES: u32 = 14;
const PAUSE: u32 = 24;
/// More is not typed.
const TYPED_MAX: usize = 40;

const LESSON: [&str; 2] = [
    "A key is words with dots between. In a pattern * is exactly one word and # any number of them.",
    "Every queue whose pattern fits gets one copy of its own.",
];
/// Columns of a pattern.
const PATTERN_WIDTH: usize = 15;

/// What the viewer types.
enum Typing {
    Key(String),
    Pattern(String),
}

/// The message that is on its way.
struct Flight {
    key: String,
    since: u32,
    /// The queues that have it, decided by the engine when it arrives at the exchange.
    reached: Option<Vec<bool>>,
    /// It has arrived everywhere and is counted.
    landed: bool,
}

/// The scene.
pub(super) struct TopicsScene {
    seed: u64,
    world: World,
    publisher: ConnectionId,
    consumers: Vec<ConnectionId>,
    counts: Vec<u32>,
    pattern: String,
    next: VecDeque<String>,
    flight: Option<Flight>,
    typing: Option<Typing>,
    now: u32,
    published: u32,
    nowhere: u32,
    /// The last line of the story was told.
    ended: bool,
    chronicle: Chronicle,
}

impl TopicsScene {
    /// Publishes eight messages in an order that `seed` chooses, then whatever is typed.
    pub(super) fn new(seed: u64) -> Self {
        let mut keys = KEYS;
        fastrand::Rng::with_seed(seed).shuffle(&mut keys);
        let mut world = World::new(seed);
        let publisher = world.connect("publisher");
        let declare = exchange::Declare { exchange: EXCHANGE, kind: "topic", ..Default::default() };
        world.tell(publisher, declare);
        let mut consumers = Vec::new();
        for (name, pattern, _) in BINDINGS {
            let consumer = world.connect("consumer");
            world.declare(consumer, name, &TableBuf::new());
            if !pattern.is_empty() {
                world.tell(consumer, bind(name, pattern));
            }
            world.consume(consumer, name, 0);
            consumers.push(consumer);
        }
        Self {
            seed,
            world,
            publisher,
            consumers,
            counts: vec![0; BINDINGS.len()],
            pattern: String::new(),
            next: keys.iter().map(|key| (*key).to_owned()).collect(),
            flight: None,
            typing: None,
            now: 0,
            published: 0,
            nowhere: 0,
            ended: false,
            chronicle: Chronicle::default(),
        }
    }

    /// The message has arrived at the exchange: which queues have it now?
    fn route(&mut self, key: &str) -> Vec<bool> {
        self.world.publish(self.publisher, EXCHANGE, key, (plain(), key.to_owned()));
        let mut reached = vec![false; BINDINGS.len()];
        for (connection, delivery) in self.world.deliveries() {
            if let Some(number) = self.consumers.iter().position(|consumer| *consumer == connection) {
                reached[number] = true;
                self.world.tell(connection, basic::Ack { delivery_tag: delivery.tag, multiple: false });
            }
        }
        self.published += 1;
        self.nowhere += u32::from(!reached.contains(&true));
        reached
    }

    fn rebind(&mut self, pattern: String) {
        let (name, consumer) = (BINDINGS[YOURS].0, self.consumers[YOURS]);
        if !self.pattern.is_empty() {
            let unbind = queue::Unbind {
                queue: name,
                exchange: EXCHANGE,
                routing_key: &self.pattern,
                ..Default::default()
            };
            self.world.tell(consumer, unbind);
        }
        if !pattern.is_empty() {
            self.world.tell(consumer, bind(name, &pattern));
        }
        self.pattern = pattern;
    }

    fn pattern(&self, number: usize) -> &str {
        if number == YOURS { &self.pattern } else { BINDINGS[number].1 }
    }

    /// What has happened in all.
    fn end(&self) -> Note {
        let ms = self.now * TICK.as_millis() as u32;
        let bound = BINDINGS.iter().zip(&self.counts).filter(|((name, pattern, _), _)| {
            !pattern.is_empty() || (*name == BINDINGS[YOURS].0 && !self.pattern.is_empty())
        });
        let queues: Vec<String> = bound.map(|((name, ..), count)| format!("{name} {count}")).collect();
        let what = format!("{} published, copies in queues: {}", self.published, queues.join(", "));
        let fields = vec![
            (TIME, json!(ms)),
            ("what", json!(what)),
            ("published", json!(self.published)),
            ("nowhere", json!(self.nowhere)),
        ];
        Note::new(what, fields)
    }

    fn note(&self, key: &str, reached: &[bool]) -> Note {
        let queues: Vec<&str> = BINDINGS
            .iter()
            .zip(reached)
            .filter(|(_, reached)| **reached)
            .map(|((name, ..), _)| *name)
            .collect();
        let to = if queues.is_empty() { "no queue: it is dropped".to_owned() } else { queues.join(", ") };
        let ms = self.now * TICK.as_millis() as u32;
        Note::new(
            format!("{key:<18} -> {to}"),
            vec![(TIME, json!(ms)), ("routing_key", json!(key)), ("queues", json!(queues))],
        )
    }
}

fn bind<'a>(queue: &'a str, pattern: &'a str) -> queue::Bind<'a> {
    queue::Bind { queue, exchange: EXCHANGE, routing_key: pattern, ..Default::default() }
}

impl Scene for TopicsScene {
    fn title(&self) -> String {
        "mq · topics".to_owned()
    }

    fn figures(&self) -> String {
        format!("published {}   to no queue {}", self.published, self.nowhere)
    }

    fn tick(&mut self) -> Vec<Note> {
        if self.done() {
            return Vec::new();
        }
        self.now += 1;
        self.world.pass(TICK.as_millis() as u64);
        let Some(flight) = &self.flight else {
            if let Some(key) = self.next.pop_front() {
                self.flight = Some(Flight { key, since: self.now, reached: None, landed: false });
            }
            return Vec::new();
        };
        let (key, age) = (flight.key.clone(), self.now - flight.since);
        let mut notes = Vec::new();
        if age == TO_EXCHANGE {
            let reached = self.route(&key);
            notes.push(self.note(&key, &reached));
            self.chronicle.add(&notes);
            if let Some(flight) = &mut self.flight {
                flight.reached = Some(reached);
            }
        }
        if age == TO_EXCHANGE + TO_QUEUES
            && let Some(flight) = &mut self.flight
            && let Some(reached) = &flight.reached
        {
            flight.landed = true;
            self.counts.iter_mut().zip(reached).for_each(|(count, reached)| *count += u32::from(*reached));
        }
        if age >= TO_EXCHANGE + TO_QUEUES + PAUSE && !self.next.is_empty() {
            self.flight = None;
        }
        if !self.ended && self.done() {
            self.ended = true;
            notes.push(self.end());
            self.chronicle.add(&notes);
        }
        notes
    }

    fn done(&self) -> bool {
        let landed = |flight: &Flight| self.now - flight.since >= TO_EXCHANGE + TO_QUEUES + PAUSE;
        self.next.is_empty() && self.typing.is_none() && self.flight.as_ref().is_none_or(landed)
    }

    fn restart(&mut self) {
        *self = Self::new(self.seed);
    }

    fn keys(&self) -> &'static [(char, &'static str)] {
        &[('t', "type a key"), ('b', "bind yours")]
    }

    fn key(&mut self, key: char) {
        self.typing = Some(match key {
            't' => Typing::Key(String::new()),
            _ => Typing::Pattern(self.pattern.clone()),
        });
    }

    fn is_typing(&self) -> bool {
        self.typing.is_some()
    }

    fn typed(&mut self, letter: char) {
        let Some(typing) = &mut self.typing else { return };
        let (Typing::Key(text) | Typing::Pattern(text)) = typing;
        match letter {
            '\n' => match self.typing.take() {
                Some(Typing::Key(key)) => {
                    // What is on its way arrives first; what has arrived makes room.
                    self.flight.take_if(|flight| flight.landed);
                    self.next.push_front(key);
                }
                Some(Typing::Pattern(pattern)) => self.rebind(pattern),
                None => {}
            },
            '\x1b' => self.typing = None,
            '\x08' => _ = text.pop(),
            letter if text.chars().count() < TYPED_MAX && !letter.is_control() => text.push(letter),
            _ => {}
        }
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let rows = BINDINGS.len() as u16 + 2;
        let [message, wires, says, story] = Layout::vertical([
            Constraint::Length(4),
            Constraint::Length(rows),
            Constraint::Length(3),
            Constraint::Min(4),
        ])
        .areas(area);
        self.draw_message(frame, message, theme);
        self.draw_wires(frame, wires, theme);
        say(frame, says, &LESSON.map(|sentence| (sentence, theme.strong())), theme);
        self.chronicle.draw(frame, story, theme);
    }
}

impl TopicsScene {
    fn draw_message(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let inner = panel(frame, area, "publisher", theme, theme.accent());
        let cursor = theme.bar_full;
        let line = match (&self.typing, &self.flight) {
            (Some(Typing::Key(text)), _) => {
                Line::styled(format!(" routing key: {text}{cursor}"), theme.accent())
            }
            (Some(Typing::Pattern(text)), _) => {
                Line::styled(format!(" pattern for the queue yours: {text}{cursor}"), theme.accent())
            }
            (None, Some(flight)) => {
                let part = f64::from(self.now - flight.since) / f64::from(TO_EXCHANGE);
                let key = if flight.key.is_empty() { "(no words)" } else { &flight.key };
                // An arrow of ten columns, whatever is typed.
                let room = usize::from(inner.width).saturating_sub(4 + EXCHANGE.len() + 11);
                let key = fit(key, room.saturating_sub(10), theme);
                let width = room.saturating_sub(width_of(&key));
                Line::from(vec![
                    Span::styled(format!(" {key}  "), theme.strong()),
                    Span::styled(arrow(width, "", part, Way::Right, false, theme), theme.accent()),
                    Span::styled(format!(" exchange {EXCHANGE}"), theme.strong()),
                ])
            }
            (None, None) => Line::raw(""),
        };
        let hint = if self.typing.is_some() { " Enter: done   Esc: not" } else { "" };
        frame.render_widget(Paragraph::new(vec![line, Line::styled(hint, theme.dim())]), inner);
    }

    /// A wire for each binding, from its pattern to its queue.
    fn draw_wires(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let inner = panel(frame, area, &format!("exchange {EXCHANGE} (topic)"), theme, theme.dim());
        let wire = usize::from(inner.width).saturating_sub(16 + 20);
        let mut lines = Vec::new();
        for (number, (name, _, says)) in BINDINGS.iter().enumerate() {
            let reached = self.flight.as_ref().and_then(|flight| flight.reached.as_ref());
            let lit = reached.map(|reached| reached[number]);
            let age = self.flight.as_ref().map_or(0, |flight| self.now - flight.since);
            let part = f64::from(age.saturating_sub(TO_EXCHANGE)) / f64::from(TO_QUEUES);
            let landed = age >= TO_EXCHANGE + TO_QUEUES;
            let pattern = padded(self.pattern(number), PATTERN_WIDTH - 1, theme);
            let says = match number == YOURS && !self.pattern.is_empty() {
                true => "yours, from the keyboard",
                false => *says,
            };
            let style = match lit {
                Some(true) => theme.good(),
                Some(false) | None => theme.dim(),
            };
            let middle = match lit {
                Some(true) => arrow(wire, "", part, Way::Right, false, theme),
                Some(false) | None => {
                    format!(" {}", padded(says, wire.saturating_sub(1), theme))
                }
            };
            let mark = match lit {
                Some(true) if landed => theme.done,
                _ => theme.empty,
            };
            lines.push(Line::from(vec![
                Span::styled(
                    format!(" {pattern} "),
                    if lit == Some(true) { theme.good() } else { theme.strong() },
                ),
                Span::styled(middle, style),
                Span::styled(format!(" {mark} {name:<11}{:>4}", self.counts[number]), style),
            ]));
        }
        frame.render_widget(Paragraph::new(lines), inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::stage::chronicle::tests::{is_told_whole, rows};

    #[test]
    fn all_that_is_said_fits_the_smallest_screen() {
        let says: Vec<&str> = BINDINGS.iter().map(|binding| binding.2).chain(LESSON).collect();
        is_told_whole(&mut TopicsScene::new(7), &says);
    }

    #[test]
    fn another_seed_publishes_in_another_order() {
        assert_ne!(TopicsScene::new(7).next, TopicsScene::new(8).next);
    }

    #[test]
    fn what_is_on_its_way_is_counted_though_a_key_is_typed() {
        let mut scene = TopicsScene::new(7);
        for _ in 0..TO_EXCHANGE + 5 {
            scene.tick();
        }
        scene.key('t');
        "alert.x\n".chars().for_each(|letter| scene.typed(letter));
        told(&mut scene);
        assert_eq!((scene.published, scene.counts[4]), (9, 9), "everything has them all");
    }

    #[test]
    fn long_and_wide_patterns_end_in_a_mark_and_move_nothing() {
        let mut scene = TopicsScene::new(7);
        let row = |scene: &TopicsScene| {
            let rows = rows(scene, (80, 24), &Theme::unicode());
            rows.into_iter().find(|row| row.contains("yours")).unwrap()
        };
        let plain = row(&scene);
        scene.rebind("日本語日本語日本語".to_owned());
        let wide = row(&scene);
        assert!(wide.contains('…') && wide.contains("from the keyboard"), "{wide}");
        assert!(plain.trim_end().ends_with('│') && wide.trim_end().ends_with('│'), "{wide}");
        let number = |row: &str| row.trim_end_matches([' ', '│']).ends_with(" 0");
        assert!(number(&plain) && number(&wide), "{plain}\n{wide}");
    }

    fn told(scene: &mut TopicsScene) -> Vec<(String, String)> {
        let mut told = Vec::new();
        while !scene.done() {
            for note in scene.tick().iter().filter(|note| note.fields[1].0 == "routing_key") {
                let field = |name| note.fields.iter().find(|(found, _)| *found == name).unwrap().1.clone();
                told.push((field("routing_key").as_str().unwrap().to_owned(), field("queues").to_string()));
            }
        }
        told
    }

    #[test]
    fn each_key_reaches_the_queues_whose_patterns_fit() {
        let mut told = told(&mut TopicsScene::new(7));
        told.sort_by_key(|(key, _)| KEYS.iter().position(|known| known == key));
        let expected = [
            ("orders.eu.new", r#"["eu","orders","everything"]"#),
            ("orders.us.paid", r#"["orders","paid","everything"]"#),
            ("orders.eu.paid", r#"["eu","orders","paid","everything"]"#),
            ("orders", r#"["orders","everything"]"#),
            ("alert.disk", r#"["alerts","everything"]"#),
            ("alert.disk.full", r#"["everything"]"#),
            ("orders.eu", r#"["orders","everything"]"#),
            ("news", r#"["everything"]"#),
        ];
        let expected = expected.map(|(key, queues)| (key.to_owned(), queues.to_owned()));
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_typed_is_bound_and_published() {
        let mut scene = TopicsScene::new(7);
        told(&mut scene);
        let type_in = |scene: &mut TopicsScene, key, text: &str| {
            scene.key(key);
            text.chars().for_each(|letter| scene.typed(letter));
        };
        type_in(&mut scene, 'b', "a.#.zz\x08\n");
        assert_eq!((scene.pattern.as_str(), scene.is_typing()), ("a.#.z", false));
        type_in(&mut scene, 't', "a.b.c.z\n");
        assert_eq!(told(&mut scene), [("a.b.c.z".to_owned(), r#"["everything","yours"]"#.to_owned())]);
        type_in(&mut scene, 'b', "\x08\x08\x08\x08\x08q\n");
        type_in(&mut scene, 't', "a.z\n");
        assert_eq!(told(&mut scene), [("a.z".to_owned(), r#"["everything"]"#.to_owned())]);
        type_in(&mut scene, 't', "never\x1b");
        assert!(scene.done() && told(&mut scene).is_empty());
    }
}
