//! What has happened, as lines under a scene's picture.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::Note;
use super::theme::Theme;

/// More of what happened than fits any screen is not kept.
const LINES_MAX: usize = 60;

/// The latest lines.
#[derive(Debug, Default)]
pub struct Chronicle(VecDeque<String>);

impl Chronicle {
    /// Adds what was noted.
    pub fn add(&mut self, notes: &[Note]) {
        for note in notes {
            self.push(note.text.clone());
        }
    }

    /// Adds a line.
    pub fn push(&mut self, line: String) {
        if self.0.len() == LINES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(line);
    }

    /// Draws as many as there is room for, the newest at the bottom.
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
