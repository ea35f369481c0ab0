//! Colours and symbols: sixteen-colour names only, so that light and dark terminals both work; never colour alone.

use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::border;

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
        }
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
        Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// It worked.
    pub fn good(&self) -> Style {
        Style::new().fg(Color::Green)
    }

    /// It may fail.
    pub fn warn(&self) -> Style {
        Style::new().fg(Color::Yellow)
    }

    /// It failed.
    pub fn bad(&self) -> Style {
        Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
    }
}
