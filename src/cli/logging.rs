//! Logs of the program itself, through `tracing` to stderr: quiet unless asked, and held back while a picture is there.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use anstyle::{AnsiColor, Style};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber, dispatcher};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::app::App;

/// Lines that are kept while a picture has the terminal; the oldest go first.
const HELD_MAX: usize = 200;

/// The target of what is told like warnings and is none, such as that a connection is back.
const STATUS: &str = "status";

static HELD: Mutex<Option<VecDeque<String>>> = Mutex::new(None);

fn held() -> MutexGuard<'static, Option<VecDeque<String>>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

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
    // What h2 warns of is what a peer does, such as a PING that nobody asked for: nothing a user could mend.
    let of_h2 = if verbose { level } else { LevelFilter::ERROR };
    let targets = Targets::new().with_default(level).with_target("h2", of_h2);
    let late =
        Late { level, verbose, colour: app.printer.look().err.colour, targets, writer: OnceLock::new() };
    // A subscriber that somebody else has set, as tests do, stays.
    let _ = dispatcher::set_global_default(Dispatch::new(late));
}

/// Makes what writes the lines when there is one to write: most commands have none, and it takes memory and time.
struct Late {
    level: LevelFilter,
    verbose: bool,
    colour: bool,
    targets: Targets,
    writer: OnceLock<Dispatch>,
}

impl Late {
    fn writer(&self) -> &Dispatch {
        self.writer.get_or_init(|| {
            let builder = tracing_subscriber::fmt()
                .with_max_level(self.level)
                .with_writer(|| Line)
                .with_ansi(self.colour)
                .with_target(self.verbose);
            if self.verbose {
                Dispatch::new(builder.with_timer(tracing_subscriber::fmt::time::uptime()).finish())
            } else if self.level < LevelFilter::INFO {
                Dispatch::new(builder.event_format(Plain { colour: self.colour }).finish())
            } else {
                Dispatch::new(builder.without_time().finish())
            }
        })
    }
}

/// What nobody asked for is told as everything else is that people read: `warning: …`, without the words of logs.
struct Plain {
    colour: bool,
}

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let metadata = event.metadata();
        let (word, colour) = match *metadata.level() {
            Level::ERROR => ("error", AnsiColor::Red),
            _ => ("warning", AnsiColor::Yellow),
        };
        // A status is no warning, though it is told with them.
        if metadata.target() != STATUS {
            let style = if self.colour { colour.on_default().bold() } else { Style::new() };
            write!(writer, "{style}{word}:{style:#} ")?;
        }
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

impl Subscriber for Late {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.targets.would_enable(metadata.target(), metadata.level())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.writer().new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.writer().record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.writer().record_follows_from(span, follows);
    }

    fn event(&self, event: &Event<'_>) {
        self.writer().event(event);
    }

    fn enter(&self, span: &Id) {
        self.writer().enter(span);
    }

    fn exit(&self, span: &Id) {
        self.writer().exit(span);
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.writer().clone_span(span)
    }

    fn try_close(&self, span: Id) -> bool {
        self.writer().try_close(span)
    }
}

/// Keeps logs off the terminal until it is dropped; then they are written.
pub struct Hold(());

impl Hold {
    /// Begins to hold them back.
    pub fn start() -> Self {
        held().get_or_insert_with(VecDeque::new);
        Self(())
    }

    /// The latest line that is held back.
    pub fn latest() -> Option<String> {
        held().as_ref()?.back().cloned()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let lines = held().take().unwrap_or_default();
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

/// Takes one line: the subscriber writes each with one call.
struct Line;

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *held() {
            Some(lines) => {
                if lines.len() == HELD_MAX {
                    lines.pop_front();
                }
                lines.push_back(String::from_utf8_lossy(bytes).trim_end().to_owned());
                Ok(bytes.len())
            }
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
