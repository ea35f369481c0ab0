//! Nodes as dots, and rounds as bars.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use crate::cli::stage::theme::Theme;
use crate::cli::stage::widgets::{bar, panel};

/// A node, or several that share a dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dot {
    /// Has not heard of it.
    Unaware,
    /// Some have.
    Partly,
    /// Has just heard of it.
    Fresh,
    /// Knows.
    Aware,
    /// Is not there.
    Gone,
}

impl Dot {
    /// What stands for several.
    fn of(dots: &[Self]) -> Self {
        let living = || dots.iter().filter(|dot| **dot != Self::Gone);
        let all = |wanted: fn(Self) -> bool| living().all(|dot| wanted(*dot));
        match () {
            () if living().next().is_none() => Self::Gone,
            () if all(|dot| dot == Self::Unaware) => Self::Unaware,
            () if all(|dot| dot == Self::Fresh) => Self::Fresh,
            () if all(|dot| matches!(dot, Self::Aware | Self::Fresh)) => Self::Aware,
            () => Self::Partly,
        }
    }

    fn span(self, theme: &Theme, gap: &str) -> Span<'static> {
        let (symbol, style) = match self {
            Self::Unaware => (theme.empty, theme.dim()),
            Self::Partly => (theme.doubt, theme.warn()),
            Self::Fresh => (theme.done, theme.accent()),
            Self::Aware => (theme.done, theme.good()),
            Self::Gone => (theme.lost, theme.bad()),
        };
        Span::styled(format!("{symbol}{gap}"), style)
    }
}

/// How far a piece of news has come.
pub struct Picture<'a> {
    /// Nodes by number.
    pub dots: &'a [Dot],
    /// How many each dot stands for already.
    pub nodes: u64,
    /// How many knew after each round.
    pub rounds: &'a [u32],
    /// Above the rounds.
    pub rounds_title: &'a str,
}

impl Picture<'_> {
    /// Draws dots on the left and rounds on the right.
    pub fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let [left, right] =
            Layout::horizontal([Constraint::Percentage(45), Constraint::Percentage(55)]).areas(area);
        let inner = panel(frame, left, &self.dots_title(left, theme), theme, theme.accent());
        frame.render_widget(Paragraph::new(self.lines(inner, theme)), inner);
        let inner = panel(frame, right, self.rounds_title, theme, theme.dim());
        frame.render_widget(Paragraph::new(self.bars(inner, theme)), inner);
    }

    /// Rows, dots in a row, cells of a dot.
    fn grid(&self, area: Rect) -> (usize, usize, usize) {
        let (width, height) = (usize::from(area.width).max(1), usize::from(area.height).max(1));
        for cells in [3, 2, 1].into_iter().filter(|cells| *cells <= width) {
            let across = (width / cells).max(1);
            if self.dots.len().div_ceil(across) <= height {
                // As square as the letters are not.
                let wanted = (1..=across).find(|across| {
                    let rows = self.dots.len().div_ceil(*across);
                    rows <= height && rows * 2 <= across * cells
                });
                return (height, wanted.unwrap_or(across), cells);
            }
        }
        (height, width, 1)
    }

    fn dots_title(&self, area: Rect, theme: &Theme) -> String {
        let inner =
            Rect { width: area.width.saturating_sub(2), height: area.height.saturating_sub(2), ..area };
        let (rows, across, _) = self.grid(inner);
        let shown = self.dots.len().min(rows * across).max(1) as u64;
        match self.nodes.div_ceil(shown) {
            1 => "nodes".to_owned(),
            each => format!("nodes {} {each} each", theme.dot),
        }
    }

    fn lines(&self, area: Rect, theme: &Theme) -> Vec<Line<'static>> {
        let (rows, across, cells) = self.grid(area);
        let each = self.dots.len().div_ceil(rows * across).max(1);
        let gap = " ".repeat(cells - 1);
        let shared: Vec<Dot> = self.dots.chunks(each).map(Dot::of).collect();
        shared
            .chunks(across)
            .map(|row| Line::from(row.iter().map(|dot| dot.span(theme, &gap)).collect::<Vec<_>>()))
            .collect()
    }

    fn bars(&self, area: Rect, theme: &Theme) -> Vec<Line<'static>> {
        let most = self.nodes.max(1);
        let digits = most.to_string().len();
        let width = usize::from(area.width).saturating_sub(digits + 7);
        let skip = self.rounds.len().saturating_sub(usize::from(area.height));
        let line = |(round, informed): (usize, &u32)| {
            let part = f64::from(*informed) / most as f64;
            let style = if u64::from(*informed) == most { theme.good() } else { theme.accent() };
            Line::from(vec![
                Span::styled(format!(" {round:>3} "), theme.dim()),
                Span::raw(format!("{informed:>digits$} ")),
                Span::styled(bar(width, part, theme), style),
            ])
        };
        self.rounds.iter().enumerate().skip(skip).map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_for_several_says_whether_all_know() {
        use Dot::{Aware, Fresh, Gone, Partly, Unaware};
        assert_eq!(Dot::of(&[Aware, Unaware]), Partly);
        assert_eq!(Dot::of(&[Aware, Gone, Fresh]), Aware);
        assert_eq!(Dot::of(&[Gone, Unaware]), Unaware);
        assert_eq!(Dot::of(&[Gone]), Gone);
    }

    #[test]
    fn every_node_has_a_place() {
        for count in [1, 7, 40, 500, 10_000] {
            let dots = vec![Dot::Aware; count];
            let picture = Picture { dots: &dots, nodes: count as u64, rounds: &[], rounds_title: "" };
            for (width, height) in [(34, 10), (80, 20), (1, 1)] {
                let lines = picture.lines(Rect::new(0, 0, width, height), &Theme::ascii());
                assert!(lines.len() <= usize::from(height), "{count} in {width}x{height}");
                assert!(
                    lines.iter().all(|line| line.width() <= usize::from(width)),
                    "{count} {width}x{height}"
                );
                assert!(!lines.is_empty());
            }
        }
    }
}
