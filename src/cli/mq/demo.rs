//! `bandy mq demo`: what queues do, in three scenes. The broker's own engine decides everything in them.

mod dead_letter;
mod topics;
mod work;
mod world;

use crate::cli::app::App;
use crate::cli::exit::Exit;
use crate::cli::stage::{self, Scene, StageArgs};

/// Arguments of `bandy mq demo`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy mq demo work                   # the whole screen; ? lists its keys
  bandy mq demo topics --speed 2x
  bandy mq demo dead-letter --inline   # drawn in the scroll-back, where it stays
  bandy mq demo work --json | jq -c .  # the same story as objects

Exit: 0 told · 1 the terminal is too small · see 'bandy help exit-codes'")]
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
    stage::play(scene.as_mut(), &args.stage, app)
}
