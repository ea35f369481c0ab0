//! Logs of the program itself, through `tracing` to stderr: quiet unless asked.

use tracing::level_filters::LevelFilter;

use super::app::App;

/// Begins to write logs: warnings; with `-v` what happens, with `-vv` why, with `-vvv` every step.
/// `BANDY_DEBUG=1` is as good as `-vv`.
pub fn start(app: &App) {
    let level = match (app.global.quiet, app.global.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, 2) => LevelFilter::DEBUG,
        (false, _) => LevelFilter::TRACE,
    };
    let level = if app.environment.is_on("BANDY_DEBUG") { level.max(LevelFilter::DEBUG) } else { level };
    let verbose = level > LevelFilter::INFO;
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(app.printer.look().err.colour)
        .with_target(verbose);
    // A subscriber that somebody else has set, as tests do, stays.
    let _ = if verbose {
        builder.with_timer(tracing_subscriber::fmt::time::uptime()).try_init()
    } else {
        builder.without_time().try_init()
    };
}
