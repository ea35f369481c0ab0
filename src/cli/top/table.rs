//! The table of a live view: columns by the width of the screen, an order, a row that is looked at, a filter.

use crossterm::event::KeyCode;
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Cell, Row as Cells, Table as Drawn, TableState};

use crate::cli::stage::live::Key;
use crate::cli::stage::theme::Theme;
use crate::cli::stage::widgets::{ending, panel, width_of};

/// Columns of the screen that a name has before another column is left out for it.
const NAME_ROOM_MIN: usize = 22;

/// What rows can be ordered by: an enum of the pillar's.
pub trait Sort: Copy + PartialEq + 'static {
    /// As their columns stand, each with the key that chooses it.
    const ALL: &'static [(char, Self)];

    /// True for the name, which goes from a to z; all others begin with the most.
    fn is_name(self) -> bool {
        Self::ALL.iter().any(|(key, sort)| *key == 'n' && *sort == self)
    }
}

/// What rows are ordered by, and the row that is looked at, by what names it.
#[derive(Clone, Debug, Default)]
pub struct Order<S, K> {
    /// The column.
    pub sort: S,
    /// The other way round.
    pub reversed: bool,
    /// The row that is looked at.
    pub selected: Option<K>,
}

impl<S: Sort, K: Clone + PartialEq> Order<S, K> {
    /// Puts rows, which come in the order of their names, in order: the most first by what `value` says.
    pub fn arrange<R>(&self, rows: &mut [R], value: impl Fn(S, &R) -> f64) {
        rows.sort_by(|a, b| value(self.sort, b).total_cmp(&value(self.sort, a)));
        if self.reversed {
            rows.reverse();
        }
    }

    /// Does what a key of every table asks for; false if it is none. `rows` are the names in their order.
    pub fn key(&mut self, key: KeyCode, rows: &[K]) -> bool {
        match key {
            KeyCode::Right => self.step(1),
            KeyCode::Left => self.step(-1),
            KeyCode::Down => self.select(1, rows),
            KeyCode::Up => self.select(-1, rows),
            KeyCode::PageDown => self.select(10, rows),
            KeyCode::PageUp => self.select(-10, rows),
            KeyCode::Home => self.select(isize::MIN, rows),
            KeyCode::End => self.select(isize::MAX, rows),
            KeyCode::Char('o') => self.reversed = !self.reversed,
            KeyCode::Char(letter) => match S::ALL.iter().find(|(key, _)| *key == letter) {
                Some((_, sort)) => self.sort = *sort,
                None => return false,
            },
            _ => return false,
        }
        true
    }

    /// Orders by the column so many further, around the end.
    fn step(&mut self, steps: isize) {
        let at = S::ALL.iter().position(|(_, sort)| *sort == self.sort).unwrap_or(0);
        let count = S::ALL.len();
        self.sort = S::ALL[at.wrapping_add_signed(steps).wrapping_add(count) % count].1;
    }

    /// Looks at the row so many further; the first or last at the ends.
    pub fn select(&mut self, steps: isize, rows: &[K]) {
        let Some(last) = rows.len().checked_sub(1) else { return };
        let at = rows.iter().position(|row| Some(row) == self.selected.as_ref());
        let next = match at {
            Some(at) => at.saturating_add_signed(steps).min(last),
            None if steps == isize::MAX => last,
            None => 0,
        };
        self.selected = Some(rows[next].clone());
    }
}

/// The keys of every table for the help: of its rows, which `select` names, and of their order.
pub fn keys(theme: &Theme, select: &'static str) -> [Key; 3] {
    let [across, along] = theme.keys_arrow;
    [
        Key { name: across, short: "sort", long: "order by the next column" },
        Key { name: along, short: "select", long: select },
        Key { name: "o", short: "", long: "the other order" },
    ]
}

/// Only rows with a text in their name.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The text.
    pub text: String,
    /// It is being typed: every key is part of it.
    pub typing: bool,
}

impl Filter {
    /// For the list of keys.
    pub fn help(long: &'static str) -> Key {
        Key { name: "/", short: "filter", long }
    }

    /// Takes a key that belongs to it; false if it does not.
    pub fn key(&mut self, key: KeyCode) -> bool {
        match (self.typing, key) {
            (false, KeyCode::Char('/')) => self.typing = true,
            (false, _) => return false,
            (true, KeyCode::Enter) => self.typing = false,
            (true, KeyCode::Esc) => *self = Self::default(),
            (true, KeyCode::Backspace) => drop(self.text.pop()),
            (true, KeyCode::Char(letter)) => self.text.push(letter),
            (true, _) => {}
        }
        true
    }

    /// Shows all rows again; false if they are.
    pub fn clear(&mut self) -> bool {
        !std::mem::take(self).text.is_empty()
    }

    /// True if a row of that name is shown.
    pub fn shows(&self, name: &str) -> bool {
        name.contains(&self.text)
    }
}

/// A column: what stands above it, how wide it is, what it orders by, what a row shows in it.
#[derive(Debug)]
pub struct Column<R, S> {
    title: &'static str,
    /// Columns of the screen; 0 stands for what is left.
    width: u16,
    /// Screens of that width and more have it.
    from: u16,
    is_number: bool,
    sort: Option<S>,
    text: fn(&R, &Theme) -> String,
    style: fn(&R, &Theme) -> Style,
}

impl<R, S> Column<R, S> {
    /// The name of the row, which takes the room that the others leave.
    pub const fn name(title: &'static str, text: fn(&R, &Theme) -> String) -> Self {
        Self::word(title, 0, text)
    }

    /// A word, of which as much of the end is shown as there is room for.
    pub const fn word(title: &'static str, width: u16, text: fn(&R, &Theme) -> String) -> Self {
        Self { title, width, from: 0, is_number: false, sort: None, text, style: |_, _| Style::new() }
    }

    /// A number, at the right edge.
    pub const fn number(title: &'static str, width: u16, text: fn(&R, &Theme) -> String) -> Self {
        Self { title, width, from: 0, is_number: true, sort: None, text, style: |_, _| Style::new() }
    }

    /// True if that stands above it.
    pub fn is(&self, title: &str) -> bool {
        self.title == title
    }

    /// Rows can be ordered by it.
    pub const fn by(mut self, sort: S) -> Self
    where
        S: Copy,
    {
        self.sort = Some(sort);
        self
    }

    /// Only on screens of that width and more.
    pub const fn from(mut self, width: u16) -> Self {
        self.from = width;
        self
    }

    /// In a style by what the row says.
    pub const fn styled(mut self, style: fn(&R, &Theme) -> Style) -> Self {
        self.style = style;
        self
    }
}

/// A table as it is drawn.
pub struct Table<'a, R, S, K> {
    /// On its border, with the border's style.
    pub title: (String, Style),
    /// Those there are; narrow screens have fewer.
    pub columns: Vec<&'a Column<R, S>>,
    /// The rows in their order.
    pub rows: &'a [&'a R],
    /// Their order, and the row that is looked at.
    pub order: &'a Order<S, K>,
    /// What names a row.
    pub id: fn(&R) -> K,
    /// Rows in which nothing happens are dim.
    pub is_idle: fn(&R) -> bool,
}

impl<'a, R, S: Sort, K: PartialEq> Table<'a, R, S, K> {
    /// The columns that a screen has room for, and what is left for the name. Where names would be cut, columns at the
    /// right give way, but for the one that the rows are ordered by.
    fn fitting(&self, screen: u16, inner: u16, theme: &Theme) -> (Vec<&'a Column<R, S>>, u16) {
        let mut columns: Vec<&Column<R, S>> =
            self.columns.iter().copied().filter(|column| screen >= column.from).collect();
        let name = columns.iter().copied().find(|column| column.width == 0);
        let names = self.rows.iter().filter_map(|row| Some(width_of(&(name?.text)(row, theme))));
        let wanted = names.max().unwrap_or(0).min(NAME_ROOM_MIN);
        loop {
            let fixed: u16 =
                columns.iter().filter(|column| column.width > 0).map(|column| column.width + 1).sum();
            let rest = inner.saturating_sub(fixed);
            let gives_way = |column: &&Column<R, S>| column.is_number && column.sort != Some(self.order.sort);
            match columns.iter().rposition(gives_way).filter(|_| usize::from(rest) < wanted) {
                Some(at) => drop(columns.remove(at)),
                None => return (columns, rest),
            }
        }
    }

    /// Draws it.
    pub fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let (title, style) = &self.title;
        let inner = panel(frame, area, title, theme, *style);
        let (columns, rest) = self.fitting(area.width, inner.width, theme);
        // Down is the most first, up the least: a before z.
        let mark = theme.order[usize::from(self.order.reversed != self.order.sort.is_name())];
        let head = |column: &&Column<R, S>| {
            let marked = column.sort == Some(self.order.sort);
            let text = if marked { format!("{}{mark}", column.title) } else { column.title.to_owned() };
            aligned(text, column.is_number)
        };
        let header = Cells::new(columns.iter().map(head).map(Cell::from)).style(theme.strong());
        let row = |row: &&R| {
            let cell = |column: &&Column<R, S>| {
                let text = (column.text)(row, theme);
                let room = usize::from(if column.width > 0 { column.width } else { rest });
                let text = if column.is_number { text } else { ending(&text, room, theme) };
                Cell::from(aligned(text, column.is_number).style((column.style)(row, theme)))
            };
            let style = if (self.is_idle)(row) { theme.dim() } else { Style::new() };
            Cells::new(columns.iter().map(cell)).style(style)
        };
        let width = |column: &&Column<R, S>| match column.width {
            0 => Constraint::Fill(1),
            width => Constraint::Length(width),
        };
        let chosen = self.order.selected.as_ref();
        let selected = self.rows.iter().position(|row| Some(&(self.id)(row)) == chosen);
        let table = Drawn::new(self.rows.iter().map(row), columns.iter().map(width))
            .header(header)
            .row_highlight_style(Style::new().reversed())
            .column_spacing(1);
        let mut state = TableState::new().with_selected(selected);
        frame.render_stateful_widget(table, inner, &mut state);
        // Under the header.
        let shown = state.offset() + usize::from(inner.height.saturating_sub(1));
        if let Some(more) = self.rows.len().checked_sub(shown).filter(|more| *more > 0) {
            let text = Line::styled(format!(" {more} more "), *style);
            let width = u16::try_from(text.width()).unwrap_or(0).min(inner.width);
            let bottom = area.bottom().saturating_sub(1);
            frame.render_widget(text, Rect { x: inner.right() - width, y: bottom, width, height: 1 });
        }
    }
}

fn aligned(text: String, is_number: bool) -> Line<'static> {
    if is_number { Line::raw(text).right_aligned() } else { Line::raw(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    enum By {
        #[default]
        Name,
        Size,
    }

    impl Sort for By {
        const ALL: &'static [(char, Self)] = &[('n', Self::Name), ('s', Self::Size)];
    }

    fn sorted(order: &Order<By, char>) -> String {
        let mut rows = vec![('a', 1), ('b', 3), ('c', 2), ('d', 3)];
        order.arrange(&mut rows, |by, row| match by {
            By::Name => 0.0,
            By::Size => f64::from(row.1),
        });
        rows.into_iter().map(|row| row.0).collect()
    }

    const COLUMNS: [Column<(&str, u32), By>; 4] = [
        Column::name("ROW", |row: &(&str, u32), _| row.0.to_owned()).by(By::Name),
        Column::number("SIZE", 8, |row: &(&str, u32), _| row.1.to_string()).by(By::Size),
        Column::number("A", 8, |_: &(&str, u32), _| "1".to_owned()),
        Column::number("B", 8, |_: &(&str, u32), _| "2".to_owned()),
    ];

    fn drawn(width: u16, order: &Order<By, String>) -> String {
        let rows = [&("demo.Greeter/SayHello", 123_456)];
        let table = Table {
            title: (String::new(), Style::new()),
            columns: COLUMNS.iter().collect(),
            rows: &rows,
            order,
            id: |row| row.0.to_owned(),
            is_idle: |_| false,
        };
        let mut terminal = ratatui::Terminal::new(ratatui::backend::TestBackend::new(width, 4)).unwrap();
        terminal.draw(|frame| table.draw(frame, frame.area(), &Theme::ascii())).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn columns_give_way_to_names_but_for_the_one_that_orders() {
        let mut order = Order::default();
        let wide = drawn(60, &order);
        assert!(wide.contains("SIZE") && wide.contains(" B") && wide.contains("demo.Greeter/SayHello"));
        order.sort = By::Size;
        let narrow = drawn(36, &order);
        assert!(narrow.contains("SIZEv") && narrow.contains("123456"), "{narrow}");
        assert!(narrow.contains("demo.Greeter/SayHello") && !narrow.contains(" A"), "{narrow}");
    }

    #[test]
    fn names_go_up_from_a_and_all_else_down_from_the_most() {
        let mut order = Order::default();
        assert!(drawn(60, &order).contains("ROW^"));
        order.reversed = true;
        assert!(drawn(60, &order).contains("ROWv"));
        order = Order { sort: By::Size, ..Order::default() };
        assert!(drawn(60, &order).contains("SIZEv"));
    }

    #[test]
    fn the_most_comes_first_and_equals_by_name() {
        let mut order = Order::default();
        assert_eq!(sorted(&order), "abcd");
        assert!(order.key(KeyCode::Char('s'), &[]));
        assert_eq!(sorted(&order), "bdca");
        order.key(KeyCode::Char('o'), &[]);
        assert_eq!(sorted(&order), "acdb");
        order.key(KeyCode::Right, &[]);
        assert_eq!(order.sort, By::Name);
        order.key(KeyCode::Left, &[]);
        assert_eq!(order.sort, By::Size);
        assert!(!order.key(KeyCode::Char('x'), &[]) && !order.key(KeyCode::Tab, &[]));
    }

    #[test]
    fn the_selection_stays_with_its_row_and_stops_at_the_ends() {
        let mut order = Order::<By, char>::default();
        order.key(KeyCode::Down, &[]);
        assert_eq!(order.selected, None);
        let rows = ['a', 'b', 'c'];
        for (key, expected) in [
            (KeyCode::Down, 'a'),
            (KeyCode::Down, 'b'),
            (KeyCode::PageDown, 'c'),
            (KeyCode::Up, 'b'),
            (KeyCode::Home, 'a'),
            (KeyCode::Up, 'a'),
            (KeyCode::End, 'c'),
        ] {
            order.key(key, &rows);
            assert_eq!(order.selected, Some(expected), "{key:?}");
        }
        order.key(KeyCode::Down, &['c', 'd', 'a']);
        assert_eq!(order.selected, Some('d'));
        // What is gone is looked for no more.
        order.key(KeyCode::End, &['a', 'b']);
        assert_eq!(order.selected, Some('b'));
    }

    #[test]
    fn what_is_typed_into_a_filter_is_no_key() {
        let mut filter = Filter::default();
        assert!(!filter.key(KeyCode::Char('q')) && filter.key(KeyCode::Char('/')) && filter.typing);
        for letter in ['j', 'x', '\u{8}', 'o'] {
            let key = if letter == '\u{8}' { KeyCode::Backspace } else { KeyCode::Char(letter) };
            assert!(filter.key(key));
        }
        assert!(filter.key(KeyCode::Enter) && !filter.typing);
        assert!(filter.shows("jobs") && !filter.shows("orders"));
        filter.key(KeyCode::Char('/'));
        filter.key(KeyCode::Esc);
        assert!(!filter.typing && filter.shows("orders"));
    }
}
