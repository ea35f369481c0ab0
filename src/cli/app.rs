//! What every command is given: the global flags, resolved, and the way to report.

use super::exit::{Exit, Failure};

/// Flags that every command takes.
#[derive(Debug, Clone, clap::Args)]
pub struct GlobalArgs {
    /// Output format: auto, table, plain, value, json, csv, or a % template
    #[arg(short, long, global = true, value_name = "FORMAT", env = "BANDY_OUTPUT")]
    pub output: Option<String>,
    /// One JSON object per line
    #[arg(long, global = true, conflicts_with = "output")]
    pub json: bool,
    /// Say less on stderr
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more on stderr
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// Given to every `run`.
#[derive(Debug)]
pub struct App {
    /// The global flags as they were given.
    pub global: GlobalArgs,
}

impl App {
    /// Resolves the flags.
    pub fn new(global: &GlobalArgs) -> Self {
        Self { global: global.clone() }
    }

    /// A runtime for one client command: one thread, nothing else to start.
    ///
    /// # Errors
    /// The operating system's.
    pub fn client_runtime(&self) -> anyhow::Result<tokio::runtime::Runtime> {
        Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
    }

    /// A runtime for servers: a thread per core.
    ///
    /// # Errors
    /// The operating system's.
    pub fn server_runtime(&self) -> anyhow::Result<tokio::runtime::Runtime> {
        Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
    }

    /// Prints an error with its tips on stderr and returns its exit code.
    pub fn report(&self, error: &anyhow::Error) -> Exit {
        anstream::eprintln!("error: {error}");
        match error.downcast_ref::<Failure>() {
            Some(failure) => {
                for tip in &failure.tips {
                    anstream::eprintln!("  tip: {tip}");
                }
                failure.exit
            }
            None => Exit::Failed,
        }
    }
}
