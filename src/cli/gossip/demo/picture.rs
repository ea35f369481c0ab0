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

/// How dots are laid out.
struct Grid {
    rows: usize,
    across: usize,
    cells: usize,
    lines: usize,
}

/// How far a piece of news has come.
pub struct Picture<'a> {
    /// Nodes by number.
    pub dots: &'a [Dot],
    /// How many each dot stands for already.
    pub nodes: u64,
    /// Rounds, and how many knew after each.
    pub rounds: &'a [(u32, u32)],
    /// Above the rounds.
    pub rounds_title: &'a str,
    /// What it has cost: above the dots.
    pub cost: &'a str,
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

    /// Rows, dots in a row, cells of a dot and lines of a row: as far apart as there is room for.
    fn grid(&self, area: Rect) -> Grid {
        let (width, height) = (usize::from(area.width).max(1), usize::from(area.height).max(1));
        let scales = [(8, 4), (6, 3), (4, 2), (3, 1), (2, 1), (1, 1)];
        for (cells, lines) in scales.into_iter().filter(|(cells, _)| *cells <= width) {
            let (most, rows) = ((width / cells).max(1), height.div_ceil(lines));
            if self.dots.len().div_ceil(most) <= rows {
                // As square as the letters are not.
                let wanted = (1..=most).find(|across| {
                    let needed = self.dots.len().div_ceil(*across);
                    needed <= rows && needed * lines * 2 <= across * cells
                });
                return Grid { rows, across: wanted.unwrap_or(most), cells, lines };
            }
        }
        Grid { rows: height, across: width, cells: 1, lines: 1 }
    }

    fn dots_title(&self, area: Rect, theme: &Theme) -> String {
        let inner =
            Rect { width: area.width.saturating_sub(2), height: area.height.saturating_sub(2), ..area };
        let Grid { rows, across, .. } = self.grid(inner);
        let shown = self.dots.len().min(rows * across).max(1) as u64;
        match self.nodes.div_ceil(shown) {
            1 => format!("nodes   {}", self.cost),
            each => format!("{each} nodes a dot, {} some know", theme.doubt),
        }
    }

    fn lines(&self, area: Rect, theme: &Theme) -> Vec<Line<'static>> {
        let Grid { rows, across, cells, lines } = self.grid(area);
        let each = self.dots.len().div_ceil(rows * across).max(1);
        let gap = " ".repeat(cells - 1);
        let shared: Vec<Dot> = self.dots.chunks(each).map(Dot::of).collect();
        let rows = shared
            .chunks(across)
            .map(|row| Line::from(row.iter().map(|dot| dot.span(theme, &gap)).collect::<Vec<_>>()));
        let spaced = rows.flat_map(|row| std::iter::once(row).chain(vec![Line::raw(""); lines - 1]));
        spaced.take(usize::from(area.height).max(1)).collect()
    }

    fn bars(&self, area: Rect, theme: &Theme) -> Vec<Line<'static>> {
        let most = self.nodes.max(1);
        let digits = most.to_string().len();
        let width = usize::from(area.width).saturating_sub(digits + 7);
        let skip = self.rounds.len().saturating_sub(usize::from(area.height));
        let line = |(round, informed): &(u32, u32)| {
            let part = f64::from(*informed) / most as f64;
            // A bar is full when all know, and not before.
            let almost = width.saturating_sub(1) as f64 / width.max(1) as f64;
            let part = if u64::from(*informed) == most { part } else { part.min(almost) };
            let style = if u64::from(*informed) == most { theme.good() } else { theme.accent() };
            Line::from(vec![
                Span::styled(format!(" {round:>3} "), theme.dim()),
                Span::raw(format!("{informed:>digits$} ")),
                Span::styled(bar(width, part, theme), style),
            ])
        };
        self.rounds.iter().skip(skip).map(line).collect()
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
    fn a_bar_is_full_only_when_all_know() {
        let rounds = [(3, 999), (4, 1_000)];
        let picture =
            Picture { dots: &[Dot::Aware], nodes: 1_000, rounds: &rounds, rounds_title: "", cost: "" };
        let theme = Theme::ascii();
        let bars: Vec<String> =
            picture.bars(Rect::new(0, 0, 30, 5), &theme).iter().map(ToString::to_string).collect();
        assert!(bars[0].ends_with("#.") && bars[1].ends_with("##"), "{bars:?}");
    }

    #[test]
    fn few_nodes_use_the_room_there_is() {
        let dots = [Dot::Aware; 40];
        let picture = Picture { dots: &dots, nodes: 40, rounds: &[], rounds_title: "", cost: "" };
        for (width, height) in [(34, 10), (43, 14), (86, 24)] {
            let lines = picture.lines(Rect::new(0, 0, width, height), &Theme::ascii());
            let widest = lines.iter().map(Line::width).max().unwrap();
            assert!(lines.len() * 3 >= usize::from(height) * 2, "{} of {height}", lines.len());
            assert!(widest * 2 >= usize::from(width), "{widest} of {width}");
        }
    }

    #[test]
    fn every_node_has_a_place() {
        for count in [1, 7, 40, 500, 10_000] {
            let dots = vec![Dot::Aware; count];
            let picture =
                Picture { dots: &dots, nodes: count as u64, rounds: &[], rounds_title: "", cost: "" };
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
