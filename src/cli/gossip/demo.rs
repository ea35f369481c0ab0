//! `bandy gossip demo`: what gossip does, in three scenes. The engine of real nodes decides everything in them.

mod failure;
pub(super) mod picture;
mod split;
pub(super) mod spread;
mod world;

use crate::cli::app::App;
use crate::cli::exit::Exit;
use crate::cli::stage::{self, Scene, StageArgs};

/// Arguments of `bandy gossip demo`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy gossip demo spread            # the whole screen; ? lists its keys
  bandy gossip demo failure --step    # a key after each step
  bandy gossip demo split --for 20s
  bandy gossip demo spread | head -3  # the same story as lines

Exit: 0 told · 1 the terminal is too small · see 'bandy help exit-codes'")]
pub struct Args {
    /// Which scene
    #[arg(value_enum, default_value_t = Name::Spread)]
    pub name: Name,
    #[command(flatten)]
    stage: StageArgs,
}

/// The scenes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Name {
    /// One node knows something; a few rounds later all do
    Spread,
    /// A node that is silent is suspected and objects; one that is dead does not
    Failure,
    /// The network falls apart, each side goes on, and both agree again
    Split,
}

/// Plays a scene.
///
/// # Errors
/// See [`stage::play`].
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let seed = args.stage.seed;
    let mut scene: Box<dyn Scene> = match args.name {
        Name::Spread => Box::new(spread::SpreadScene::new(spread::Setting::demo(seed))),
        Name::Failure => Box::new(failure::FailureScene::new(seed)),
        Name::Split => Box::new(split::SplitScene::new(seed)),
    };
    stage::play(scene.as_mut(), &args.stage, app)
}
