//! What `rpc serve` takes over HTTP: from which web pages, and how much.

use std::sync::Arc;
use std::time::Duration;

use crate::cli::exit::{Exit, Failure};
use crate::rpc::Metrics;
use crate::rpc::server::{Cors, Limits, Options};
use crate::units::{parse_duration, parse_size};

/// What a server takes over HTTP.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "HTTP")]
pub struct HttpArgs {
    /// Let web pages of this origin call, such as https://app.example; any for all; without it, this machine's (repeatable)
    #[arg(hide_short_help = true, long, value_name = "ORIGIN")]
    pub cors: Vec<String>,
    /// Calls at the same time on one connection
    #[arg(hide_short_help = true, long, value_name = "N", default_value_t = Limits::default().streams_max, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_streams: u32,
    /// Largest headers of a request
    #[arg(hide_short_help = true, long, value_name = "SIZE", default_value = "64K", value_parser = parse_size)]
    pub max_header_size: u64,
    /// Bytes of requests and replies held at the same time for all connections; a quarter of it for one
    #[arg(hide_short_help = true, long, value_name = "SIZE", default_value = "256M", value_parser = parse_size)]
    pub max_requests_size: u64,
    /// Close connections that make no calls for so long
    #[arg(hide_short_help = true, long, value_name = "DURATION", value_parser = parse_duration)]
    pub max_idle: Option<Duration>,
}

impl HttpArgs {
    /// As the server wants them.
    ///
    /// # Errors
    /// An origin that no browser would send.
    pub fn options(&self, message_size_max: usize, metrics: Arc<Metrics>) -> Result<Options, Failure> {
        let cors = Cors::of(&self.cors).map_err(|origin| {
            Failure::new(Exit::Usage, format!("--cors {origin}: an origin is a scheme and a host, or any"))
                .tip("--cors https://app.example")
        })?;
        let limits = Limits {
            message_size_max,
            held_size_max: usize::try_from(self.max_requests_size).unwrap_or(usize::MAX),
            header_size_max: u32::try_from(self.max_header_size).unwrap_or(u32::MAX),
            streams_max: self.max_streams,
            idle_max: self.max_idle,
            ..Limits::default()
        };
        Ok(Options { limits, cors, metrics })
    }
}
