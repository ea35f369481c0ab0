//! `bandy rpc demo`: what a remote call is, in four scenes.

mod call;
mod deadline;
mod lost_reply;
mod streams;

use crate::cli::app::App;
use crate::cli::exit::Exit;
use crate::cli::stage::{self, Scene, StageArgs};

/// Arguments of `bandy rpc demo`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy rpc demo call                   # the whole screen; ? lists its keys
  bandy rpc demo lost-reply --seed 3    # another story
  bandy rpc demo deadline --step        # a key after each step
  bandy rpc demo streams | head -3      # the same story as lines
  bandy rpc demo call --cast call.cast  # a recording for asciinema

Exit: 0 told · 1 the terminal is too small · see 'bandy help exit-codes'")]
pub struct Args {
    /// Which scene
    #[arg(value_enum, default_value_t = Name::Call)]
    pub name: Name,
    #[command(flatten)]
    stage: StageArgs,
}

/// The scenes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Name {
    /// One call, stage by stage, with its bytes
    Call,
    /// A reply is lost: was the account debited twice?
    LostReply,
    /// A deadline that travels, and one that does not
    Deadline,
    /// The four kinds of call
    Streams,
}

/// Plays a scene.
///
/// # Errors
/// See [`stage::play`].
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let mut scene: Box<dyn Scene> = match args.name {
        Name::Call => Box::new(call::CallScene::new(args.stage.seed)),
        Name::LostReply => Box::new(lost_reply::LostReplyScene::new(args.stage.seed)),
        Name::Deadline => Box::new(deadline::DeadlineScene::new(args.stage.seed)),
        Name::Streams => Box::new(streams::StreamsScene::new(args.stage.seed)),
    };
    stage::play(scene.as_mut(), &args.stage, app)
}
