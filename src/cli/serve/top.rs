//! `--top`: a server that shows in its own terminal what it does.

use std::future::Future;

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;

use crate::cli::endpoint::Pillar;
use crate::cli::exit::{Exit, Failure};
use crate::cli::stage::terminal::can_draw;

/// A live view of the server in its own terminal, opened when it is ready.
pub type Top = Box<dyn FnOnce() -> LocalBoxFuture<'static, anyhow::Result<Exit>>>;

/// The flag of the servers that have such a view.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TopArg {
    /// Show what it does live in this terminal, instead of logging
    #[arg(long, conflicts_with = "background", help_heading = "Server")]
    pub top: bool,
}

impl TopArg {
    /// Looks whether there is a terminal, before anything is opened.
    ///
    /// # Errors
    /// There is none.
    pub fn check(&self, pillar: Pillar) -> Result<(), Failure> {
        if self.top && !can_draw() {
            let tip = format!("bandy {} top --once    one table, wherever it goes", pillar.name());
            return Err(Failure::new(Exit::Usage, "--top needs a terminal").tip(tip));
        }
        Ok(())
    }

    /// The view, if it is wanted.
    pub fn view<F>(&self, open: impl FnOnce() -> F + 'static) -> Option<Top>
    where
        F: Future<Output = anyhow::Result<Exit>> + 'static,
    {
        if self.top { Some(Box::new(move || open().boxed_local())) } else { None }
    }
}
