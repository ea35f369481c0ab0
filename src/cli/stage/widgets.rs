//! Pieces that scenes and live views share: title and key lines, boxes, bars, arrows, figures, graphs.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Alignment, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Sparkline};

use super::theme::Theme;

/// What the player is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Playing {
    /// Time runs.
    Running,
    /// Stopped by the viewer.
    Paused,
    /// The story is told.
    Over,
    /// Nobody can press a key: a recording or an inline picture.
    Unattended,
}

/// What stands on the top line: title on the left, the numbers of this moment on the right.
pub(super) struct Title<'a> {
    pub title: &'a str,
    /// Behind the title, for what is out of the ordinary.
    pub state: &'a str,
    pub figures: &'a str,
}

pub(super) fn title_line(frame: &mut Frame<'_>, area: Rect, title: &Title<'_>, theme: &Theme) {
    let state = if title.state.is_empty() { String::new() } else { format!("  [{}]", title.state) };
    let left = Line::from(vec![
        Span::styled(format!(" {}", title.title.replace('·', theme.dot)), theme.strong()),
        Span::styled(state, theme.warn()),
    ]);
    // Two blanks at least keep them apart.
    let room = usize::from(area.width).saturating_sub(left.width() + 2);
    frame.render_widget(Paragraph::new(left), area);
    // What does not fit gives way to the title, the first group first: the last one is the clock.
    let mut rest = Some(title.figures);
    while let Some(figures) = rest {
        let line = Line::from(format!("{figures} "));
        if line.width() <= room {
            frame.render_widget(Paragraph::new(line).alignment(Alignment::Right), area);
            return;
        }
        rest = figures.split_once("   ").map(|(_, later)| later.trim_start());
    }
}

/// The keys and what each does, as many as there is room for: one that does not fit still works.
pub(super) fn key_line<'a>(
    frame: &mut Frame<'_>,
    area: Rect,
    keys: impl IntoIterator<Item = (String, &'a str)>,
    theme: &Theme,
) {
    let mut spans = vec![Span::raw(" ")];
    let mut room = usize::from(area.width).saturating_sub(1);
    for (key, what) in keys {
        // The blanks behind the last one need no room.
        let width = width_of(&key) + width_of(what) + 1;
        if width > room {
            break;
        }
        room = room.saturating_sub(width + 2);
        spans.push(Span::styled(key, theme.accent()));
        spans.push(Span::styled(format!(" {what}  "), theme.dim()));
    }
    frame.render_widget(Paragraph::new(Line::from(spans)), area);
}

/// A box with a title; returns the room inside.
pub fn panel(frame: &mut Frame<'_>, area: Rect, title: &str, theme: &Theme, style: Style) -> Rect {
    let room = usize::from(area.width).saturating_sub(4);
    let title = if title.is_empty() { String::new() } else { format!(" {} ", fit(title, room, theme)) };
    let block = Block::bordered().border_set(theme.border).border_style(style).title(title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    inner
}

/// A bar of `width` cells, `part` of `whole` filled.
pub fn bar(width: usize, part: f64, theme: &Theme) -> String {
    // Rounding a share of a screen width cannot lose anything that matters.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to width, a screen's columns"
    )]
    let full = ((width as f64) * part.clamp(0.0, 1.0)).round() as usize;
    theme.bar_full.repeat(full) + &theme.bar_empty.repeat(width - full)
}

/// Numbers with their names before them, dim.
pub struct Figures<'a> {
    /// What there is so far.
    pub line: Line<'static>,
    /// Columns there are.
    width: u16,
    theme: &'a Theme,
}

impl<'a> Figures<'a> {
    /// None yet, on a line of so many columns.
    pub fn new(width: u16, theme: &'a Theme) -> Self {
        Self { line: Line::raw(" "), width, theme }
    }

    /// Adds a number whole, or not at all where there is no room for it.
    pub fn add(&mut self, name: &str, value: String, style: Style) {
        let name = Span::styled(format!("{name} "), self.theme.dim());
        let value = Span::styled(value, style);
        if self.line.width() + name.width() + value.width() <= usize::from(self.width) {
            self.line.extend([name, value, Span::raw("  ")]);
        }
    }
}

/// As much of the end of a name as there is room for: it tells names apart, their beginning does not.
pub fn ending(name: &str, room: usize, theme: &Theme) -> String {
    let length = name.chars().count();
    if length <= room {
        return name.to_owned();
    }
    let mark = theme.cut;
    let kept = room.saturating_sub(mark.chars().count());
    name.chars().skip(length - kept).fold(mark.to_owned(), |mut text, letter| {
        text.push(letter);
        text
    })
}

/// Columns that a text takes on the screen: some letters take two.
pub fn width_of(text: &str) -> usize {
    Span::raw(text).width()
}

/// A text in so many columns: what is too long ends in a mark.
pub fn fit(text: &str, room: usize, theme: &Theme) -> String {
    if width_of(text) <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut left = room.saturating_sub(width_of(theme.cut));
    for letter in text.chars() {
        let width = width_of(letter.encode_utf8(&mut [0; 4]));
        if width > left {
            break;
        }
        left -= width;
        kept.push(letter);
    }
    kept + if room == 0 { "" } else { theme.cut }
}

/// The same, with blanks up to so many columns.
pub fn padded(text: &str, room: usize, theme: &Theme) -> String {
    let text = fit(text, room, theme);
    let blanks = room.saturating_sub(width_of(&text));
    text + &" ".repeat(blanks)
}

/// As many words as there is room for, whole ones; a mark stands for the rest.
pub fn fit_words<'a>(words: impl IntoIterator<Item = &'a str>, room: usize, theme: &Theme) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    let all = words.join(" ");
    if width_of(&all) <= room {
        return all;
    }
    let mut kept = String::new();
    for word in words {
        if width_of(&kept) + width_of(word) + 1 + width_of(theme.cut) > room {
            break;
        }
        kept += word;
        kept.push(' ');
    }
    kept + theme.cut
}

/// Breaks a text between words into lines of at most so many columns, all but the first after `indent` blanks. A word
/// that is longer than a line is broken in itself.
pub fn wrap(text: &str, width: usize, indent: usize) -> Vec<String> {
    if text.is_empty() {
        return vec![String::new()];
    }
    let width = width.max(1);
    let indent = if indent * 2 > width { 0 } else { indent };
    let (mut lines, mut line, mut blank) = (Vec::new(), String::new(), true);
    for word in text.split(' ') {
        let gap = usize::from(!blank || word.is_empty());
        if !blank && width_of(&line) + gap + width_of(word) > width {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            blank = true;
        } else if gap == 1 {
            line.push(' ');
        }
        for letter in word.chars() {
            if width_of(&line) + width_of(letter.encode_utf8(&mut [0; 4])) > width {
                lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            }
            line.push(letter);
        }
        blank &= word.is_empty();
    }
    lines.push(line);
    lines
}

/// Sentences under a picture, each from a new line, broken between words. What does not fit ends in a mark.
pub fn say(frame: &mut Frame<'_>, area: Rect, sentences: &[(&str, Style)], theme: &Theme) {
    let (width, rows) = (usize::from(area.width).saturating_sub(2), usize::from(area.height));
    let mut lines: Vec<(String, Style)> = sentences
        .iter()
        .flat_map(|(text, style)| wrap(text, width, 0).into_iter().map(|line| (line, *style)))
        .collect();
    if lines.len() > rows {
        lines.truncate(rows);
        if let Some((last, _)) = lines.last_mut() {
            let room = width.saturating_sub(width_of(theme.cut) + 1);
            let kept = wrap(last, room, 0).swap_remove(0);
            *last = format!("{kept} {}", theme.cut);
        }
    }
    let lines: Vec<Line<'_>> =
        lines.into_iter().map(|(line, style)| Line::styled(format!(" {line}"), style)).collect();
    frame.render_widget(Paragraph::new(lines), area);
}

/// A graph of the latest values, the last of them at the right edge.
pub fn graph(frame: &mut Frame<'_>, area: Rect, title: &str, history: &VecDeque<u64>, theme: &Theme) {
    let inner = panel(frame, area, title, theme, theme.dim());
    let room = usize::from(inner.width);
    let data: Vec<u64> = history.iter().rev().take(room).rev().copied().collect();
    let empty = u16::try_from(room - data.len()).unwrap_or(0);
    let place = Rect { x: inner.x + empty, width: inner.width - empty, ..inner };
    let graph = Sparkline::default().data(data).bar_set(theme.columns.clone()).style(theme.good());
    frame.render_widget(graph, place);
}

/// The direction of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the left to the right.
    Right,
    /// From the right to the left.
    Left,
}

/// An arrow `width` cells wide with `label` on it, grown to `progress` (0 to 1) of its way; `lost` ends it in a cross.
pub fn arrow(width: usize, label: &str, progress: f64, way: Way, lost: bool, theme: &Theme) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to width, a screen's columns"
    )]
    let length = ((width as f64) * progress.clamp(0.0, 1.0)).round() as usize;
    if length == 0 {
        return " ".repeat(width);
    }
    let head = match (lost, way) {
        (true, _) => theme.lost,
        (false, Way::Right) => theme.head_right,
        (false, Way::Left) => theme.head_left,
    };
    let shaft = length - 1;
    let label = if label.is_empty() { String::new() } else { format!(" {label} ") };
    let text: String = label.chars().take(shaft).collect();
    let rest = shaft - text.chars().count();
    let before = rest.min(2);
    let line = theme.shaft.repeat(before) + &text + &theme.shaft.repeat(rest - before);
    let gap = " ".repeat(width - length);
    match way {
        Way::Right => line + head + &gap,
        Way::Left => gap + head + &line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_grows_keeps_its_width_and_shows_loss() {
        let theme = Theme::ascii();
        assert_eq!(arrow(12, "ab", 1.0, Way::Right, false, &theme), "-- ab ----->");
        assert_eq!(arrow(12, "ab", 0.5, Way::Right, false, &theme), "- ab >      ");
        assert_eq!(arrow(12, "ab", 0.5, Way::Left, false, &theme), "      <- ab ");
        assert_eq!(arrow(4, "", 1.0, Way::Right, true, &theme), "---x");
        assert_eq!(arrow(4, "long label", 0.0, Way::Right, false, &theme), "    ");
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        assert_eq!(ending("a.b.Service/Method", 18, &Theme::ascii()), "a.b.Service/Method");
        assert_eq!(ending("a.b.Service/Method", 17, &Theme::ascii()), "~b.Service/Method");
        assert_eq!(ending("abc", 0, &Theme::unicode()), "…");
    }

    #[test]
    fn what_does_not_fit_ends_in_a_mark() {
        let theme = Theme::ascii();
        assert_eq!(fit("orders.*.paid", 13, &theme), "orders.*.paid");
        assert_eq!(fit("orders.*.paid", 8, &theme), "orders.~");
        assert_eq!((fit("日本語", 5, &theme), fit("ab", 0, &theme)), ("日本~".to_owned(), String::new()));
        assert_eq!(padded("日本", 6, &theme), "日本  ");
        assert_eq!(fit_words(["3", "9", "10", "11"], 9, &theme), "3 9 10 11");
        assert_eq!(fit_words(["3", "9", "10", "11"], 8, &theme), "3 9 10 ~");
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("the same call again", 10, 0), ["the same", "call again"]);
        assert_eq!(wrap("  50 ms  n4 is gone", 12, 3), ["  50 ms  n4", "   is gone"]);
        assert_eq!(wrap("abcdef", 4, 0), ["abcd", "ef"]);
        assert_eq!(wrap("", 4, 0), [""]);
        for width in 0..30 {
            let text = wrap("what a dead one has not stored is read again", width, 2);
            assert!(text.iter().all(|line| width_of(line) <= width.max(1)), "{width}: {text:?}");
        }
    }

    #[test]
    fn a_bar_is_never_wider_than_its_room() {
        let theme = Theme::ascii();
        assert_eq!(bar(4, 0.5, &theme), "##..");
        assert_eq!(bar(4, 7.0, &theme), "####");
        assert_eq!(bar(4, -1.0, &theme), "....");
    }
}
