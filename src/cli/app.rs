//! What every command is given: printer, settings, runtimes. Environment, terminal and clock are reached here.

use std::ffi::OsString;
use std::fs::File;
use std::future::Future;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::Poll;
use std::time::Duration;

use clap::ValueEnum;

use super::completions;
use super::errors::{JsonError, near_miss, one_line, without_number};
use super::exit::{Exit, Failure};
use super::settings::{Environment, Home};
use super::signals;
use super::there;
use crate::output::{Format, Look, Printer, Screen, Talk, Template, WriteError};

/// Who made a mistake waits no longer than this for a tip that has to be asked for.
pub const TIP_WAIT_MAX: Duration = Duration::from_millis(500);

/// Flags that every command takes.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct GlobalArgs {
    /// auto table plain value json csv, or a template with % [env: BANDY_OUTPUT]
    #[arg(short, long, global = true, allow_negative_numbers = true, value_name = "FORMAT", add = completions::words(completions::FORMATS))]
    pub output: Option<String>,
    /// One JSON object per line: the same as -o json
    #[arg(long, global = true, conflicts_with = "output")]
    pub json: bool,
    /// Say less on stderr
    #[arg(hide_short_help = true, short, long, global = true)]
    pub quiet: bool,
    /// Say more on stderr
    #[arg(hide_short_help = true, short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// When to use colour
    #[arg(hide_short_help = true, long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
}

impl GlobalArgs {
    /// What can be made out of words that clap refuses: enough to report the error as it was asked for.
    pub fn guess(words: &[OsString]) -> Self {
        let mut guess = Self::default();
        let mut words = words.iter().skip(1).map_while(|word| word.to_str()).take_while(|word| *word != "--");
        while let Some(word) = words.next() {
            match word {
                "--json" => guess.json = true,
                "-q" | "--quiet" => guess.quiet = true,
                "-o" | "--output" => guess.output = words.next().map(str::to_owned),
                "--color" => {
                    guess.color =
                        words.next().and_then(|when| Color::from_str(when, true).ok()).unwrap_or_default()
                }
                _ => {
                    if let Some(format) = word.strip_prefix("--output=").or_else(|| word.strip_prefix("-o")) {
                        guess.output = Some(format.to_owned());
                    }
                    if let Some(when) = word.strip_prefix("--color=") {
                        guess.color = Color::from_str(when, true).unwrap_or_default();
                    }
                }
            }
        }
        guess
    }
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal that can, unless `NO_COLOR` is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Given to every `run`.
#[derive(Debug)]
pub struct App {
    /// Data to stdout, talk to stderr.
    pub printer: Printer,
    /// The environment, as far as the program looks at it.
    pub environment: Environment,
    /// This user's directories.
    pub home: Home,
    /// The global flags as they were given.
    pub global: GlobalArgs,
    /// The command line, for tips that say it better.
    pub words: Vec<OsString>,
    /// False where nobody can be asked, such as for a password: in completion.
    pub asks: bool,
    /// The words of the command line that lead to its server, once it is known which: see [`there`].
    pub there: OnceLock<Option<String>>,
}

/// What a command does. Boxed: what runs it is compiled once and not for each command.
type Work<'a> = Pin<Box<dyn Future<Output = anyhow::Result<Exit>> + 'a>>;

impl App {
    /// Resolves the flags with the environment of the process.
    ///
    /// # Errors
    /// An output format that is none.
    pub fn new(global: &GlobalArgs) -> Result<Self, Failure> {
        let environment = Environment::Process;
        let look = look(global, &environment)?;
        Ok(Self {
            printer: Printer::new(look, stdout(), Box::new(std::io::stderr())),
            home: Home::new(&environment),
            environment,
            global: global.clone(),
            words: std::env::args_os().collect(),
            asks: true,
            there: OnceLock::new(),
        })
    }

    /// A runtime for one client command: one thread, nothing else to start.
    ///
    /// # Errors
    /// The operating system's.
    pub fn client_runtime(&self) -> anyhow::Result<tokio::runtime::Runtime> {
        enough_descriptors()?;
        Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
    }

    /// A runtime for servers: a thread per core.
    ///
    /// # Errors
    /// The operating system's.
    pub fn server_runtime(&self) -> anyhow::Result<tokio::runtime::Runtime> {
        enough_descriptors()?;
        Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
    }

    /// Runs a client's work to its end, at most for `timeout` (then exit 124).
    ///
    /// SIGINT and SIGTERM drop the work where it waits: what has to be put in order then belongs into a
    /// `Drop`, or the work listens to [`signals::interrupted`] itself. Output that is held back is passed
    /// on whenever the work has to wait for something.
    ///
    /// # Errors
    /// The work's own, the timeout, and output that cannot be written.
    pub fn client(
        &self,
        timeout: Option<Duration>,
        work: impl Future<Output = anyhow::Result<Exit>>,
    ) -> anyhow::Result<Exit> {
        self.client_on(self.client_runtime()?, timeout, Box::pin(work))
    }

    fn client_on(
        &self,
        runtime: tokio::runtime::Runtime,
        timeout: Option<Duration>,
        work: Work<'_>,
    ) -> anyhow::Result<Exit> {
        let work = async {
            let work = self.flushing(work);
            let timed = async {
                match timeout {
                    None => work.await,
                    // No time is not enough for anything, whoever would say so first.
                    Some(Duration::ZERO) => Err(Failure::timed_out(Duration::ZERO).into()),
                    Some(limit) => tokio::time::timeout(limit, work)
                        .await
                        .unwrap_or_else(|_| Err(Failure::timed_out(limit).into())),
                }
            };
            tokio::select! {
                biased;
                result = timed => result,
                signal = signals::interrupted() => Ok(Exit::Signal(signal)),
            }
        };
        self.run_on(runtime, Box::pin(work))
    }

    fn run_on(&self, runtime: tokio::runtime::Runtime, work: Work<'_>) -> anyhow::Result<Exit> {
        let result = runtime.block_on(work);
        // A thread may be stuck in a read of stdin: it must not keep the command from ending.
        runtime.shutdown_background();
        self.printer.flush()?;
        result
    }

    /// The same with a thread of its own for everything that the work spawns, such as the task of a connection:
    /// it goes on while the work reads, computes, or waits for the reader of its output.
    ///
    /// # Errors
    /// As [`client`](Self::client).
    pub fn client_with_driver(
        &self,
        timeout: Option<Duration>,
        work: impl Future<Output = anyhow::Result<Exit>>,
    ) -> anyhow::Result<Exit> {
        self.client_on(self.driver_runtime()?, timeout, Box::pin(work))
    }

    /// The same for work that looks after signals and time itself, because it has to put something in order when
    /// it is cut short.
    ///
    /// # Errors
    /// The work's own, and output that cannot be written.
    pub fn client_to_its_end(
        &self,
        work: impl Future<Output = anyhow::Result<Exit>>,
    ) -> anyhow::Result<Exit> {
        self.run_on(self.driver_runtime()?, Box::pin(work))
    }

    fn driver_runtime(&self) -> anyhow::Result<tokio::runtime::Runtime> {
        enough_descriptors()?;
        Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
    }

    /// `work`, with the output passed on each time it has nothing more to do at once.
    async fn flushing(&self, mut work: Work<'_>) -> anyhow::Result<Exit> {
        std::future::poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => match self.printer.flush() {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error.into())),
            },
        })
        .await
    }

    /// Ends a command: passes on the output, reports an error with its tips, and says how to exit.
    pub fn finish(&self, result: anyhow::Result<Exit>) -> Exit {
        match result.and_then(|exit| Ok(self.printer.flush().map(|()| exit)?)) {
            Ok(exit) => exit,
            Err(mut error) => {
                if let Some(failure) = error.downcast_mut() {
                    self.ask_for_tip(failure);
                }
                self.report(&error)
            }
        }
    }

    /// Asks for the tip that a failure has to ask for.
    fn ask_for_tip(&self, failure: &mut Failure) {
        let Some(later) = failure.later.take() else { return };
        let ask = async { tokio::time::timeout(TIP_WAIT_MAX, later.0()).await.ok().flatten() };
        if let Some(tip) = self.client_runtime().ok().and_then(|runtime| runtime.block_on(ask)) {
            failure.tips.insert(0, tip);
        }
    }

    /// A tip as it is shown: with the server that was spoken to.
    pub fn filled(&self, tip: &str) -> String {
        there::filled(tip, self.there.get().and_then(Option::as_deref))
    }

    /// Prints an error with its tips on stderr and returns its exit code.
    pub fn report(&self, error: &anyhow::Error) -> Exit {
        if matches!(error.downcast_ref(), Some(WriteError::ReaderGone)) {
            return Exit::Done;
        }
        let failure = error.downcast_ref::<Failure>();
        let exit = failure.map_or(Exit::Failed, |failure| failure.exit);
        let tips = failure.map_or(&[][..], |failure| &failure.tips);
        let tips: Vec<_> = tips.iter().map(|tip| self.filled(tip)).collect();
        let message = one_line(error);
        if self.printer.look().format == Format::Json {
            let view = JsonError::new(exit, &message, &tips);
            self.printer.say(&serde_json::to_string(&view).expect("text and a number have a JSON form"));
            return exit;
        }
        self.printer.error(&message, &tips);
        if self.printer.look().talk >= Talk::Verbose {
            for cause in error.chain().skip(1) {
                self.printer.say(&format!("  because: {}", without_number(&cause.to_string())));
            }
        }
        if self.printer.look().talk >= Talk::Debug {
            self.printer.say(&format!("{error:?}"));
        }
        exit
    }
}

/// A runtime panics where its own descriptors cannot be had.
fn enough_descriptors() -> Result<(), Failure> {
    const DESCRIPTORS_MIN: u64 = 32;
    match rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        Some(limit) if limit < DESCRIPTORS_MIN => {
            Err(Failure::new(Exit::Failed, format!("no more than {limit} files may be open at once"))
                .tip("ulimit -n 1024"))
        }
        _ => Ok(()),
    }
}

/// stdout without the line buffer of the standard library: the printer has its own.
fn stdout() -> Box<dyn Write + Send> {
    match std::io::stdout().as_fd().try_clone_to_owned() {
        Ok(fd) => Box::new(File::from(fd)),
        Err(_) => Box::new(std::io::stdout()),
    }
}

fn look(global: &GlobalArgs, environment: &Environment) -> Result<Look, Failure> {
    let format = match (&global.output, global.json) {
        (_, true) => Format::Json,
        (Some(text), false) => format(text)?,
        (None, false) => environment.get("BANDY_OUTPUT").map_or(Ok(Format::Auto), |text| format(&text))?,
    };
    let talk = match (global.quiet, global.verbose) {
        _ if environment.is_on("BANDY_DEBUG") => Talk::Debug,
        (true, _) => Talk::Quiet,
        (false, 0) => Talk::Normal,
        (false, 1) => Talk::Verbose,
        (false, _) => Talk::Debug,
    };
    Ok(Look {
        format,
        talk,
        out: screen(&std::io::stdout(), global.color, environment),
        err: screen(&std::io::stderr(), global.color, environment),
    })
}

fn format(text: &str) -> Result<Format, Failure> {
    if text.contains('%') {
        let template = Template::parse(text, jiff::tz::TimeZone::system);
        let template = template
            .map_err(|error| Failure::new(Exit::Usage, error.to_string()).tip("bandy help templates"))?;
        return Ok(Format::Template(template.into()));
    }
    Format::from_name(text).ok_or_else(|| {
        let failure = Failure::new(Exit::Usage, format!("'{text}' is not an output format"));
        match near_miss(text, Format::NAMES) {
            Some(near) => failure.tip(format!("did you mean '{near}'?")),
            // What kcat's flag of this name takes.
            None if matches!(text, "beginning" | "end" | "stored") || text.parse::<i64>().is_ok() => {
                failure.tip(format!("--from {text}    of 'log consume' is where to begin"))
            }
            None => {
                failure.tip(format!("one of {}, or a template such as '%k %v'", Format::NAMES.join(", ")))
            }
        }
    })
}

fn screen(stream: &(impl IsTerminal + AsFd), color: Color, environment: &Environment) -> Screen {
    let forced = environment.get("BANDY_FORCE_TTY").map(|columns| columns.parse().unwrap_or(80));
    let width = forced.or_else(|| {
        stream.is_terminal().then(|| {
            let size = rustix::termios::tcgetwinsize(stream).map_or(0, |size| size.ws_col);
            let columns = environment.get("COLUMNS").and_then(|columns| columns.parse().ok());
            if size > 0 { size } else { columns.unwrap_or(80) }
        })
    });
    Screen { width, colour: colour(width.is_some(), color, environment) }
}

/// As <https://no-color.org> and <https://bixense.com/clicolors> have it; the flag wins over both.
fn colour(terminal: bool, color: Color, environment: &Environment) -> bool {
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto if environment.get("NO_COLOR").is_some() => false,
        Color::Auto if environment.is_on("CLICOLOR_FORCE") => true,
        Color::Auto if environment.get("CLICOLOR").as_deref() == Some("0") => false,
        Color::Auto => terminal && environment.get("TERM").as_deref() != Some("dumb"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Environment::Fixed(variables.iter().map(own).collect())
    }

    #[test]
    fn colour_follows_the_flag_then_the_conventions() {
        for (terminal, flag, variables, expected) in [
            (true, Color::Auto, &[][..], true),
            (false, Color::Auto, &[], false),
            (true, Color::Auto, &[("NO_COLOR", "1")], false),
            (true, Color::Auto, &[("TERM", "dumb")], false),
            (true, Color::Auto, &[("CLICOLOR", "0")], false),
            (false, Color::Auto, &[("CLICOLOR_FORCE", "1")], true),
            (false, Color::Auto, &[("CLICOLOR_FORCE", "0")], false),
            (false, Color::Auto, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
            (false, Color::Always, &[("NO_COLOR", "1")], true),
            (true, Color::Never, &[("CLICOLOR_FORCE", "1")], false),
        ] {
            assert_eq!(colour(terminal, flag, &environment(variables)), expected, "{flag:?} {variables:?}");
        }
    }

    #[test]
    fn the_output_flag_wins_over_the_environment() {
        let set = environment(&[("BANDY_OUTPUT", "csv")]);
        let flags = |output: Option<&str>, json| GlobalArgs {
            output: output.map(str::to_owned),
            json,
            ..GlobalArgs::default()
        };
        assert_eq!(look(&flags(None, false), &set).unwrap().format, Format::Csv);
        assert_eq!(look(&flags(Some("plain"), false), &set).unwrap().format, Format::Plain);
        assert_eq!(look(&flags(None, true), &set).unwrap().format, Format::Json);
        let error = look(&flags(Some("jsno"), false), &set).unwrap_err();
        assert_eq!((error.exit, error.tips), (Exit::Usage, vec!["did you mean 'json'?".to_owned()]));
    }
}
