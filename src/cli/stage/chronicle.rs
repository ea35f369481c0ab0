//! What happened in a scene, for the lower part of its picture.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::Note;
use super::theme::Theme;

/// More of what happened than fits any screen is not kept.
const LINES_MAX: usize = 60;

/// What happened, the newest last.
#[derive(Debug, Default)]
pub struct Chronicle(VecDeque<String>);

impl Chronicle {
    /// Remembers notes.
    pub fn add(&mut self, notes: &[Note]) {
        self.0.extend(notes.iter().map(|note| note.text.clone()));
        let over = self.0.len().saturating_sub(LINES_MAX);
        self.0.drain(..over);
    }

    /// The newest at the bottom.
    pub fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let rows = usize::from(area.height);
        let skip = self.0.len().saturating_sub(rows);
        let shown = self.0.iter().skip(skip);
        let last = self.0.len().saturating_sub(skip + 1);
        let lines: Vec<Line<'_>> = shown
            .enumerate()
            .map(|(row, text)| {
                Line::styled(format!(" {text}"), if row == last { theme.strong() } else { theme.dim() })
            })
            .collect();
        frame.render_widget(Paragraph::new(lines), area);
    }
}
