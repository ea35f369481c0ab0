//! `bandy demo`: the tour. Real commands, typed letter by letter, against real servers of this machine.

mod script;
mod stagehand;

use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::app::App;
use super::exit::Exit;
use super::stage::theme::Theme;
use script::{ACTS, Act, How};
use stagehand::Stagehand;

/// Time between two letters at speed 1.
const LETTER: Duration = Duration::from_millis(28);
/// Pause after a command's output at speed 1.
const PAUSE: Duration = Duration::from_millis(1_400);

/// Arguments of `bandy demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// List the demos of all pillars and leave
    #[arg(long)]
    list: bool,
    /// Wait for Enter before each command
    #[arg(long)]
    step: bool,
    /// Faster or slower, such as 2x or 0.5x
    #[arg(long, value_name = "FACTOR", default_value = "1x", value_parser = super::stage::parse_speed)]
    speed: f64,
}

/// Plays the tour, or lists the demos.
///
/// # Errors
/// No temporary directory, a server that does not start, a command that fails.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let mut out = std::io::stdout();
    let result = if args.list { list(&mut out, app) } else { Tour::new(args, &mut out)?.play() };
    match result {
        // The reader of our pipe has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(Exit::Done),
        other => other,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn list(out: &mut impl Write, _app: &App) -> anyhow::Result<Exit> {
    for (command, what) in script::DEMOS {
        writeln!(out, "{command:<28}{what}")?;
    }
    Ok(Exit::Done)
}

/// The tour as it plays.
struct Tour<'a, W: Write> {
    out: &'a mut W,
    theme: Theme,
    terminal: bool,
    /// Waits between letters and commands: none in a pipe.
    pace: f64,
    step: bool,
    stagehand: Stagehand,
}

impl<'a, W: Write> Tour<'a, W> {
    fn new(args: &Args, out: &'a mut W) -> anyhow::Result<Self> {
        let terminal = std::io::stdout().is_terminal();
        let step = args.step && std::io::stdin().is_terminal();
        let pace = if terminal { 1.0 / args.speed } else { 0.0 };
        Ok(Self { out, theme: Theme::unicode(), terminal, pace, step, stagehand: Stagehand::new()? })
    }

    fn play(mut self) -> anyhow::Result<Exit> {
        for act in ACTS {
            self.act(act)?;
        }
        writeln!(self.out)?;
        self.say("That was it. Every line above works as it stands: bandy rpc --help, bandy demo --list")?;
        Ok(Exit::Done)
    }

    fn act(&mut self, act: &Act) -> anyhow::Result<()> {
        writeln!(self.out)?;
        for line in act.says.lines() {
            self.say(line)?;
        }
        self.type_command(act.command, act.how)?;
        match act.how {
            How::Run => self.stagehand.run(act.command, self.out)?,
            How::Serve => self.stagehand.serve(act.command, self.out)?,
        }
        if !self.step {
            self.wait(PAUSE);
        }
        Ok(())
    }

    fn say(&mut self, line: &str) -> std::io::Result<()> {
        let style = if self.terminal { self.theme.accent() } else { ratatui::style::Style::new() };
        self.styled(&format!("# {line}\n"), style)
    }

    fn styled(&mut self, text: &str, style: ratatui::style::Style) -> std::io::Result<()> {
        use crossterm::style::StyledContent;
        use ratatui::backend::IntoCrossterm;
        match self.terminal {
            true => {
                write!(self.out, "{}", StyledContent::new(style.into_crossterm(), text))
            }
            false => self.out.write_all(text.as_bytes()),
        }
    }

    fn type_command(&mut self, command: &str, how: How) -> std::io::Result<()> {
        self.out.write_all(b"$ ")?;
        self.out.flush()?;
        if self.step {
            // Enter was typed by the viewer and moved the cursor down; go back up to the prompt.
            let mut line = String::new();
            std::io::stdin().read_line(&mut line)?;
            self.out.write_all(b"\x1b[A\x1b[2C")?;
        }
        for letter in command.chars() {
            write!(self.out, "{letter}")?;
            if self.pace > 0.0 {
                self.out.flush()?;
                self.wait(LETTER);
            }
        }
        let end = if how == How::Serve { " &\n" } else { "\n" };
        self.out.write_all(end.as_bytes())?;
        self.out.flush()
    }

    fn wait(&self, time: Duration) {
        if self.pace > 0.0 {
            std::thread::sleep(time.mul_f64(self.pace));
        }
    }
}
