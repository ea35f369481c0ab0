//! `bandy log demo`: what a log does, in two scenes. The client's own partitioner and assignor decide in them.

mod partitions;
mod replay;

use crate::cli::app::App;
use crate::cli::exit::Exit;
use crate::cli::stage::{self, Scene, StageArgs};

/// Arguments of `bandy log demo`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy log demo partitions           # the whole screen; ? lists its keys
  bandy log demo replay --step        # a key after each step
  bandy log demo partitions --seed 3  # another story
  bandy log demo replay | head -3     # the same story as lines

Exit: 0 told · 1 the terminal is too small · see 'bandy help exit-codes'")]
pub struct Args {
    /// Which scene
    #[arg(value_enum, default_value_t = Name::Partitions)]
    pub name: Name,
    #[command(flatten)]
    stage: StageArgs,
}

/// The scenes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Name {
    /// Keys choose partitions, readers of a group share them, lag melts
    Partitions,
    /// A log is no queue: others read it again, and one goes back
    Replay,
}

/// Plays a scene.
///
/// # Errors
/// See [`stage::play`].
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let mut scene: Box<dyn Scene> = match args.name {
        Name::Partitions => Box::new(partitions::PartitionsScene::new(args.stage.seed)),
        Name::Replay => Box::new(replay::ReplayScene::new(args.stage.seed)),
    };
    stage::play(scene.as_mut(), &args.stage, app)
}
