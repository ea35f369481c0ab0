//! Colours and symbols: sixteen-colour names only, so that light and dark terminals both work; never colour alone.

use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::{self, border};

/// What a scene draws with.
#[derive(Debug, Clone)]
pub struct Theme {
    /// Frame around a box.
    pub border: border::Set<'static>,
    /// Done, alive.
    pub done: &'static str,
    /// In progress, doubted.
    pub doubt: &'static str,
    /// Failed, lost.
    pub lost: &'static str,
    /// Not yet.
    pub empty: &'static str,
    /// The step that is on.
    pub here: &'static str,
    /// Shaft of an arrow.
    pub shaft: &'static str,
    /// Head of an arrow to the right.
    pub head_right: &'static str,
    /// Head of an arrow to the left.
    pub head_left: &'static str,
    /// Filled part of a bar.
    pub bar_full: &'static str,
    /// Empty part of a bar.
    pub bar_empty: &'static str,
    /// Part of a bar that was for nothing.
    pub bar_wasted: &'static str,
    /// Between words of a title.
    pub dot: &'static str,
    /// Name of the key that steps.
    pub key_step: &'static str,
    /// Names of the arrow keys: left and right, up and down.
    pub keys_arrow: [&'static str; 2],
    /// The most first, the least first.
    pub order: [&'static str; 2],
    /// Columns of a graph.
    pub columns: symbols::bar::Set<'static>,
    /// Stands for what was cut off.
    pub cut: &'static str,
    /// The letter for a millionth.
    pub micro: &'static str,
    /// False if nothing is to be coloured; bold and dim stay.
    pub colour: bool,
}

const ASCII_BORDER: border::Set<'static> = border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

const ASCII_COLUMNS: symbols::bar::Set<'static> = symbols::bar::Set {
    full: "#",
    seven_eighths: "#",
    three_quarters: "#",
    five_eighths: "#",
    half: ":",
    three_eighths: ":",
    one_quarter: ".",
    one_eighth: ".",
    empty: " ",
};

impl Theme {
    /// Symbols that every modern terminal font has.
    pub fn unicode() -> Self {
        Self {
            border: border::ROUNDED,
            done: "●",
            doubt: "◐",
            lost: "✕",
            empty: "○",
            here: "▶",
            shaft: "─",
            head_right: "▶",
            head_left: "◀",
            bar_full: "█",
            bar_empty: "░",
            bar_wasted: "▒",
            dot: "·",
            key_step: "→",
            keys_arrow: ["←→", "↑↓"],
            order: ["▼", "▲"],
            columns: symbols::bar::NINE_LEVELS,
            cut: "…",
            micro: "µ",
            colour: true,
        }
    }

    /// Seven-bit symbols.
    pub fn ascii() -> Self {
        Self {
            border: ASCII_BORDER,
            done: "*",
            doubt: "?",
            lost: "x",
            empty: "o",
            here: ">",
            shaft: "-",
            head_right: ">",
            head_left: "<",
            bar_full: "#",
            bar_empty: ".",
            bar_wasted: "!",
            dot: "-",
            key_step: "right",
            keys_arrow: ["<- ->", "up/down"],
            order: ["v", "^"],
            columns: ASCII_COLUMNS,
            cut: "~",
            micro: "u",
            colour: true,
        }
    }

    /// The same without colours, if that is wanted.
    #[must_use]
    pub fn coloured(self, colour: bool) -> Self {
        Self { colour, ..self }
    }

    fn colour(&self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    /// A heading.
    pub fn strong(&self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Beside the point.
    pub fn dim(&self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// What the eye should follow.
    pub fn accent(&self) -> Style {
        self.colour(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// It worked.
    pub fn good(&self) -> Style {
        self.colour(Color::Green)
    }

    /// It may fail.
    pub fn warn(&self) -> Style {
        self.colour(Color::Yellow)
    }

    /// It failed.
    pub fn bad(&self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }
}
