//! What has happened, as lines under a scene's picture.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::Note;
use super::theme::Theme;
use super::widgets::wrap;

/// More of what happened than fits any screen is not kept.
const LINES_MAX: usize = 60;

/// The field that says when something happened, in a clock of the scene's own.
pub const TIME: &str = "time_ms";

/// A note with its time before it, if the scene has a clock of its own.
pub fn line_of(note: &Note) -> String {
    match own_ms(note) {
        Some(ms) => format!("{ms:>6} ms  {}", note.text),
        None => note.text.clone(),
    }
}

/// When something happened, in the scene's own clock.
pub fn own_ms(note: &Note) -> Option<u64> {
    note.fields.iter().find(|(name, _)| *name == TIME).and_then(|(_, ms)| ms.as_u64())
}

/// The latest lines, and how far each is indented where it goes on.
#[derive(Debug, Default)]
pub struct Chronicle(VecDeque<(String, usize)>);

impl Chronicle {
    /// Adds what was noted.
    pub fn add(&mut self, notes: &[Note]) {
        for note in notes {
            let indent = if own_ms(note).is_some() { 11 } else { 2 };
            self.keep(line_of(note), indent);
        }
    }

    /// Adds a line.
    pub fn push(&mut self, line: String) {
        self.keep(line, 2);
    }

    fn keep(&mut self, line: String, indent: usize) {
        if self.0.len() == LINES_MAX {
            self.0.pop_front();
        }
        self.0.push_back((line, indent));
    }

    /// Draws as many as there is room for, the newest at the bottom. Long ones are broken between words.
    pub fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let (width, rows) = (usize::from(area.width).saturating_sub(2), usize::from(area.height));
        let mut lines: Vec<Line<'_>> = Vec::new();
        for (age, (text, indent)) in self.0.iter().rev().enumerate() {
            // What has happened is to be read, too: dim letters are not, on a projector.
            let style = if age == 0 { theme.strong() } else { Style::new() };
            let broken = wrap(text, width, *indent);
            if lines.len() + broken.len() > rows && age > 0 {
                break;
            }
            lines.extend(broken.into_iter().rev().map(|line| Line::styled(format!(" {line}"), style)));
        }
        lines.truncate(rows);
        lines.reverse();
        frame.render_widget(Paragraph::new(lines), area);
    }
}

#[cfg(test)]
pub(in crate::cli) mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::cli::stage::widgets::{Playing, width_of};
    use crate::cli::stage::{SIZE_MIN, Scene, Shown, draw};

    /// The rows of a scene's picture at this moment.
    pub fn rows(scene: &dyn Scene, (columns, rows): (u16, u16), theme: &Theme) -> Vec<String> {
        let playing = if scene.done() { Playing::Over } else { Playing::Running };
        let shown = Shown { playing, ..Shown::unattended() };
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        terminal.draw(|frame| draw(frame, scene, theme, &shown)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |row| (0..columns).map(|column| buffer[(column, row)].symbol()).collect::<String>();
        (0..rows).map(row).collect()
    }

    /// A text without the ends of its lines and what indents them.
    fn flat(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Plays a scene to its end on the smallest screen. Each figure of the title and each thing that happens stands
    /// there whole, each of the sentences does at some time, and the last line tells what has happened.
    #[track_caller]
    pub fn is_told_whole(scene: &mut dyn Scene, sentences: &[&str]) {
        plays(scene, sentences, true);
    }

    /// The same of a scene that has no chronicle in its picture.
    #[track_caller]
    pub fn is_said_whole(scene: &mut dyn Scene, sentences: &[&str]) {
        plays(scene, sentences, false);
    }

    #[track_caller]
    fn plays(scene: &mut dyn Scene, sentences: &[&str], chronicled: bool) {
        let mut missing: Vec<String> = sentences.iter().map(|sentence| flat(sentence)).collect();
        let mut last = None;
        for _ in 0..20_000 {
            let notes = scene.tick();
            for theme in [Theme::unicode(), Theme::ascii()] {
                let rows = rows(scene, SIZE_MIN, &theme);
                let figures = scene.figures();
                assert!(rows[0].trim_end().ends_with(figures.trim_end()), "{figures:?} in {:?}", rows[0]);
                let picture = flat(&rows.join(" "));
                missing.retain(|sentence| !picture.contains(sentence.as_str()));
                if let Some(note) = notes.last().filter(|note| chronicled && own_ms(note).is_some()) {
                    assert!(picture.contains(&flat(&line_of(note))), "{note:?} in\n{}", rows.join("\n"));
                }
            }
            last = notes.last().cloned().or(last);
            if scene.done() {
                assert_eq!(missing, [""; 0], "never whole on the screen");
                let last = last.expect("something happens");
                let words = last.text.split(' ').filter(|word| !word.is_empty()).count();
                assert!(words > 4, "{:?} is not the end of a story", last.text);
                return;
            }
        }
        panic!("{} never ends", scene.title());
    }

    #[test]
    fn long_lines_are_broken_and_the_newest_is_whole() {
        let mut told = Chronicle::default();
        told.push("first".to_owned());
        let fields = vec![(TIME, 250.into())];
        told.add(&[Note::new("n4 is stopped, as Ctrl-Z does: it hears nothing", fields)]);
        let mut terminal = Terminal::new(TestBackend::new(40, 3)).unwrap();
        terminal.draw(|frame| told.draw(frame, frame.area(), &Theme::ascii())).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |row| (0..40).map(|column| buffer[(column, row)].symbol()).collect::<String>();
        let lines: Vec<String> = (0..3).map(|row| line(row).trim_end().to_owned()).collect();
        assert_eq!(lines[0], " first");
        assert_eq!(lines[1], "    250 ms  n4 is stopped, as Ctrl-Z");
        assert_eq!(lines[2], "            does: it hears nothing");
        assert!(lines.iter().all(|line| width_of(line) <= 40));
    }
}
