//! `bandy demo`: the tour. Real commands, typed letter by letter, against real servers of this machine.

mod script;
mod stagehand;

use std::io::IsTerminal;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use tokio::io::{AsyncBufReadExt, BufReader, Stdin};

use super::app::App;
use super::exit::{Exit, Failure};
use crate::output::{Column, Format, Printer};
use script::{ACTS, Act, How};
use stagehand::Stagehand;

/// Time between two letters at speed 1.
const LETTER: Duration = Duration::from_millis(28);
/// Pause after a command's output at speed 1.
const PAUSE: Duration = Duration::from_millis(1_400);

/// Arguments of `bandy demo`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy demo         # the tour: it types, real servers answer
  bandy demo --step  # Enter for each command
  bandy demo --speed 2x
  bandy demo --list  # the demos of all pillars

Exit: 0 shown · 1 a command of it failed · see 'bandy help exit-codes'")]
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
    if args.list {
        return list(&app.printer);
    }
    let format = &app.printer.look().format;
    if matches!(format, Format::Json | Format::Csv | Format::Template(_)) {
        let failure = Failure::new(Exit::Usage, "the tour is lines of a shell: it has no other form");
        return Err(failure
            .tip("bandy rpc demo call --json    a story that has; bandy demo --list has all of them")
            .into());
    }
    app.client(None, Tour::new(args, &app.printer)?.play())
}

fn list(printer: &Printer) -> anyhow::Result<Exit> {
    const COLUMNS: &[Column] = &[Column::left("demo"), Column::left("shows")];
    let mut list = printer.list(COLUMNS);
    for demo in script::DEMOS {
        list.row(demo)?;
    }
    list.finish()?;
    Ok(Exit::Done)
}

/// The tour as it plays.
struct Tour<'a> {
    printer: &'a Printer,
    /// Factor on all waits: none in a pipe.
    pace: f64,
    /// The viewer's Enter key, if each command waits for it.
    step: Option<BufReader<Stdin>>,
    stagehand: Stagehand,
}

impl<'a> Tour<'a> {
    fn new(args: &Args, printer: &'a Printer) -> anyhow::Result<Self> {
        let step = (args.step && std::io::stdin().is_terminal()).then(|| BufReader::new(tokio::io::stdin()));
        let pace = if printer.is_terminal() { 1.0 / args.speed } else { 0.0 };
        Ok(Self { printer, pace, step, stagehand: Stagehand::new()? })
    }

    async fn play(mut self) -> anyhow::Result<Exit> {
        for act in ACTS {
            self.act(act).await?;
        }
        self.say("\nThat was it. Every line above works as it stands.\nbandy --help, bandy demo --list")?;
        Ok(Exit::Done)
    }

    async fn act(&mut self, act: &Act) -> anyhow::Result<()> {
        if !act.says.is_empty() {
            self.say(&format!("\n{}", act.says))?;
        }
        self.type_command(act.command, act.how).await?;
        match act.how {
            How::Run => self.stagehand.run(act.command).await?,
            How::Serve => {
                let url = self.stagehand.serve(act.command).await?;
                self.printer.draw(&url)?;
            }
        }
        if self.step.is_none() {
            self.wait(PAUSE).await;
        }
        Ok(())
    }

    fn say(&self, text: &str) -> anyhow::Result<()> {
        let style = Style::new().fg_color(Some(AnsiColor::Cyan.into()));
        for line in text.lines() {
            let line = if line.is_empty() { String::new() } else { format!("# {line}") };
            let line = if self.printer.look().out.colour { format!("{style}{line}{style:#}") } else { line };
            self.printer.draw(&format!("{line}\n"))?;
        }
        Ok(())
    }

    async fn type_command(&mut self, command: &str, how: How) -> anyhow::Result<()> {
        self.printer.draw("$ ")?;
        if let Some(keys) = &mut self.step {
            keys.read_line(&mut String::new()).await?;
            // The Enter moved the cursor down; back up to the prompt.
            self.printer.draw("\x1b[A\x1b[2C")?;
        }
        let line = format!("{command}{}", if how == How::Serve { " &" } else { "" });
        if self.pace == 0.0 {
            self.printer.draw(&line)?;
        } else {
            for letter in line.chars() {
                self.printer.draw(letter.encode_utf8(&mut [0; 4]))?;
                self.wait(LETTER).await;
            }
        }
        Ok(self.printer.draw("\n")?)
    }

    async fn wait(&self, time: Duration) {
        if self.pace > 0.0 {
            tokio::time::sleep(time.mul_f64(self.pace)).await;
        }
    }
}
