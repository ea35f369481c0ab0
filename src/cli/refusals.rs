//! Records that were not taken: the first is told at once, how many there were at the end, both with the code that the command
//! ends with.

use super::app::App;
use super::exit::{Exit, Failure};
use crate::output::Format;

/// Those of one command.
pub struct Refusals<'a> {
    app: &'a App,
    count: u64,
    /// How the first would have the command end, and where it was.
    first: Option<(Exit, String)>,
    /// The first, while nobody can say how the command will end: JSON has that in it.
    held: Option<Failure>,
}

impl<'a> Refusals<'a> {
    /// None so far.
    pub fn new(app: &'a App) -> Self {
        Self { app, count: 0, first: None, held: None }
    }

    /// True if everything was taken so far.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Counts a record that was not taken, and says it of the first.
    pub fn add(&mut self, failure: Failure, place: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.is_some() {
            return;
        }
        self.first = Some((failure.exit, place()));
        if self.app.printer.look().format == Format::Json {
            self.held = Some(failure);
        } else {
            self.app.report(&failure.into());
        }
    }

    /// Some have been taken: then the rest is a part.
    pub fn taken(&mut self, count: u64) {
        if count > 0 {
            self.tell(Exit::Partly);
        }
    }

    /// The command ends with this code, whatever was taken.
    pub fn tell(&mut self, exit: Exit) {
        if let Some(held) = self.held.take() {
            self.app.report(&Failure { exit, ..held }.into());
        }
    }

    /// The exit code where so many have been taken, and what is to be said of several that were not.
    ///
    /// # Errors
    /// Several were not taken.
    pub fn exit(mut self, taken: u64) -> anyhow::Result<Exit> {
        let Some((exit, place)) = self.first.take() else { return Ok(Exit::Done) };
        let exit = if taken > 0 { Exit::Partly } else { exit };
        self.tell(exit);
        if self.count > 1 {
            let text = format!("{} records were not taken, the first {place}", self.count);
            return Err(Failure::new(exit, text).into());
        }
        Ok(exit)
    }
}

impl Drop for Refusals<'_> {
    /// Something else ended the command, and is told, too.
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.app.report(&held.into());
        }
    }
}
