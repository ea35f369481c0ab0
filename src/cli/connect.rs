//! Arguments that every client shares: which server, credentials, TLS, timeout.

/// Which server, and how to reach it.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectArgs {
    /// Which server
    #[arg(short, long, value_name = "URL")]
    pub endpoint: Option<String>,
}
