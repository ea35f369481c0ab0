//! `bandy mq demo`: what queues do, in three scenes. The broker's own engine decides everything in them.

mod dead_letter;
mod topics;
mod work;
mod world;

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use crate::cli::app::App;
use crate::cli::exit::Exit;
use crate::cli::stage::theme::Theme;
use crate::cli::stage::{self, Form, Note, Scene, StageArgs};

/// Arguments of `bandy mq demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which scene
    #[arg(value_enum, default_value_t = Name::Work)]
    pub name: Name,
    #[command(flatten)]
    stage: StageArgs,
}

/// The scenes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Name {
    /// Workers share a queue; one is killed, and nothing is lost
    Work,
    /// A topic exchange: which queues does a routing key reach?
    Topics,
    /// A message that no worker can do: tried again, later each time, then put aside
    DeadLetter,
}

/// Plays a scene.
///
/// # Errors
/// See [`stage::play`].
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let mut scene: Box<dyn Scene> = match args.name {
        Name::Work => Box::new(work::WorkScene::new(args.stage.seed)),
        Name::Topics => Box::new(topics::TopicsScene::new(args.stage.seed)),
        Name::DeadLetter => Box::new(dead_letter::DeadLetterScene::new(args.stage.seed)),
    };
    stage::play(scene.as_mut(), &args.stage, Form::of(app))
}

/// More of what happened than fits any screen is not kept.
const CHRONICLE_LINES_MAX: usize = 60;

/// What happened, for the lower part of the picture.
#[derive(Debug, Default)]
struct Chronicle(VecDeque<String>);

impl Chronicle {
    fn add(&mut self, notes: &[Note]) {
        self.0.extend(notes.iter().map(|note| note.text.clone()));
        let over = self.0.len().saturating_sub(CHRONICLE_LINES_MAX);
        self.0.drain(..over);
    }

    /// The newest at the bottom.
    fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
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
