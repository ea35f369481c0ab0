//! Data to stdout, talk to stderr: the only place that writes to either.

mod json;
mod records;
mod table;
mod template;
mod terminal;
mod unpack;

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anstyle::Style;
use serde::Serialize;

use crate::record::{Embed, Record};

pub use records::{Records, Separators};
pub use table::{Align, Column, List};
pub use template::{Template, TemplateError};
pub use terminal::escape;

/// How data is written.
#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    /// Lists: `Table` on a terminal, `Plain` in a pipe. Records: readable on a terminal, `Value` in a pipe.
    Auto,
    /// Header and aligned columns.
    Table,
    /// Tab-separated, no header.
    Plain,
    /// The bare value.
    Value,
    /// One JSON object per line.
    Json,
    /// RFC 4180 with a header.
    Csv,
    /// As the user's own template has it.
    Template(Arc<Template>),
}

impl Format {
    /// Every word that names one.
    pub const NAMES: [&'static str; 6] = ["auto", "table", "plain", "value", "json", "csv"];

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "auto" => Self::Auto,
            "table" => Self::Table,
            "plain" => Self::Plain,
            "value" => Self::Value,
            "json" => Self::Json,
            "csv" => Self::Csv,
            _ => return None,
        })
    }
}

/// What is known about one of the two streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Screen {
    /// Columns, if a person looks at it; `None` for pipes and files.
    pub width: Option<u16>,
    /// True if it takes colour.
    pub colour: bool,
}

/// How much is said on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Talk {
    /// Errors only.
    Quiet,
    /// What a person wants to know.
    Normal,
    /// Also how it came about.
    Verbose,
    /// Also what the program did.
    Debug,
}

/// How a printer behaves; decided once, at the edge.
#[derive(Clone, Debug)]
pub struct Look {
    /// Format of data.
    pub format: Format,
    /// stdout.
    pub out: Screen,
    /// stderr.
    pub err: Screen,
    /// How much is said.
    pub talk: Talk,
}

/// Why data could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Whoever read our output has had enough. Not a failure: stop, and exit with 0.
    #[error("the reader of the output is gone")]
    ReaderGone,
    /// A full disk, say.
    #[error("cannot write the output: {0}")]
    Io(io::Error),
    /// A value of ours that has no JSON form.
    #[error("cannot write the output as JSON: {0}")]
    Json(serde_json::Error),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::ReaderGone } else { Self::Io(error) }
    }
}

/// Output is held back at most this long while more keeps coming.
const HOLD_MAX: Duration = Duration::from_millis(50);
/// Output is held back at most up to this many bytes.
const BUFFER_BYTES: usize = 64 << 10;

struct Out {
    buffer: Vec<u8>,
    sink: Box<dyn Write + Send>,
    /// When the oldest byte in the buffer came.
    since: Option<Instant>,
}

impl Out {
    fn flush(&mut self) -> Result<(), WriteError> {
        self.since = None;
        // Bytes that could not be written are dropped: an error ends the command, and trying the same
        // bytes again on exit would report it twice.
        let result = self.sink.write_all(&self.buffer).and_then(|()| self.sink.flush());
        self.buffer.clear();
        Ok(result?)
    }

    fn written(&mut self, eager: bool) -> Result<(), WriteError> {
        let held = self.since.get_or_insert_with(Instant::now).elapsed();
        if eager || self.buffer.len() >= BUFFER_BYTES || held >= HOLD_MAX { self.flush() } else { Ok(()) }
    }
}

/// Writes data and talk. Shared by reference; lines of several tasks do not mix.
pub struct Printer {
    look: Look,
    out: Mutex<Out>,
    err: Mutex<Box<dyn Write + Send>>,
}

impl std::fmt::Debug for Printer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Printer").field("look", &self.look).finish_non_exhaustive()
    }
}

impl Printer {
    /// A printer over two sinks. Data is buffered here: `out` needs no buffer of its own.
    pub fn new(look: Look, out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        let out = Out { buffer: Vec::new(), sink: out, since: None };
        Self { look, out: Mutex::new(out), err: Mutex::new(err) }
    }

    /// How it behaves.
    pub fn look(&self) -> &Look {
        &self.look
    }

    /// True if a person looks at stdout.
    pub fn is_terminal(&self) -> bool {
        self.look.out.width.is_some()
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `fill` append to the buffer, then passes it on if it is time to.
    fn data(&self, fill: impl FnOnce(&mut Vec<u8>) -> Result<(), WriteError>) -> Result<(), WriteError> {
        let mut out = self.out();
        fill(&mut out.buffer)?;
        out.written(self.is_terminal())
    }

    /// Writes bytes of someone else's as they are; on a terminal, control characters are escaped.
    ///
    /// # Errors
    /// The reader is gone, or the sink is full.
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), WriteError> {
        self.data(|buffer| {
            self.foreign()(bytes, buffer);
            Ok(())
        })
    }

    /// Writes one line of data.
    ///
    /// # Errors
    /// The reader is gone, or the sink is full.
    pub fn line(&self, text: &str) -> Result<(), WriteError> {
        self.data(|buffer| {
            self.foreign()(text.as_bytes(), buffer);
            buffer.push(b'\n');
            Ok(())
        })
    }

    /// Writes text of our own, escape sequences and all, and passes it on at once.
    ///
    /// # Errors
    /// The reader is gone, or the sink is full.
    pub fn draw(&self, text: &str) -> Result<(), WriteError> {
        self.data(|buffer| {
            buffer.extend_from_slice(text.as_bytes());
            Ok(())
        })?;
        self.flush()
    }

    /// Writes text of our own as it is, such as help with its colours.
    ///
    /// # Errors
    /// The reader is gone, or the sink is full.
    pub fn own(&self, text: &str) -> Result<(), WriteError> {
        self.data(|buffer| {
            buffer.extend_from_slice(text.as_bytes());
            Ok(())
        })
    }

    /// Writes one JSON value as one line, coloured on a terminal.
    ///
    /// # Errors
    /// The reader is gone, or the sink is full.
    pub fn json<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), WriteError> {
        self.data(|buffer| {
            if self.look.out.colour {
                let text = serde_json::to_vec(value).map_err(WriteError::Json)?;
                json::colour(&text, buffer);
            } else {
                serde_json::to_writer(&mut *buffer, value).map_err(WriteError::Json)?;
            }
            buffer.push(b'\n');
            Ok(())
        })
    }

    /// Writes JSON text that someone else made: indented and coloured for a person, as it is into a pipe.
    ///
    /// # Errors
    /// The reader is gone, or the sink is full.
    pub fn json_text(&self, text: &[u8]) -> Result<(), WriteError> {
        if !self.is_terminal() {
            return self.data(|buffer| {
                buffer.extend_from_slice(text);
                buffer.push(b'\n');
                Ok(())
            });
        }
        let mut pretty = Vec::new();
        json::indent(text, &mut pretty);
        self.data(|buffer| {
            if self.look.out.colour {
                json::colour(&pretty, buffer);
            } else {
                escape(&pretty, buffer);
            }
            buffer.push(b'\n');
            Ok(())
        })
    }

    /// Writes records, each as its format has it.
    pub fn records(&self, separators: Separators, embed: Embed) -> Records<'_> {
        Records::new(self, separators, embed)
    }

    /// Writes a single record; a value that is JSON is shown as JSON.
    ///
    /// # Errors
    /// The reader is gone, or the sink is full.
    pub fn record(&self, record: &Record) -> Result<(), WriteError> {
        self.records(Separators::default(), Embed::IfJson).write(record)
    }

    /// The same for the record of that number, counted from 1.
    ///
    /// # Errors
    /// The reader is gone, or the sink is full.
    pub fn numbered(&self, record: &Record, number: u64) -> Result<(), WriteError> {
        self.records(Separators::default(), Embed::IfJson).after(number.saturating_sub(1)).write(record)
    }

    /// How bytes of someone else's are passed on.
    fn foreign(&self) -> template::Foreign {
        if self.is_terminal() { escape } else { |bytes, buffer| buffer.extend_from_slice(bytes) }
    }

    /// A list with these columns: push rows, then finish it.
    pub fn list<'a>(&'a self, columns: &'a [Column]) -> List<'a> {
        List::new(self, columns)
    }

    /// Writes one object: in JSON as a line, else as a line per key that has a value.
    ///
    /// # Errors
    /// The reader is gone, or the sink is full.
    pub fn object<T: Serialize>(&self, value: &T) -> Result<(), WriteError> {
        table::object(self, value)
    }

    /// Passes on what is held back.
    ///
    /// # Errors
    /// The reader is gone, or the sink is full.
    pub fn flush(&self) -> Result<(), WriteError> {
        let mut out = self.out();
        if out.buffer.is_empty() { Ok(()) } else { out.flush() }
    }

    /// Says something a person wants to know; not with `-q`.
    pub fn note(&self, text: &str) {
        if self.look.talk >= Talk::Normal {
            self.say(text);
        }
    }

    /// Says something that only a person at a terminal wants to know; not with `-q`.
    pub fn status(&self, text: &str) {
        if self.look.err.width.is_some() {
            self.note(text);
        }
    }

    /// Says how something came about; only with `-v`.
    pub fn detail(&self, text: &str) {
        if self.look.talk >= Talk::Verbose {
            self.say(text);
        }
    }

    /// Warns of something that still works; not with `-q`.
    pub fn warn(&self, text: &str) {
        if self.look.talk >= Talk::Normal {
            let label = self.paint(anstyle::AnsiColor::Yellow.on_default().bold(), "warning:");
            self.say_painted(&label, text);
        }
    }

    /// Reports an error and its tips; always.
    pub fn error(&self, message: &str, tips: &[String]) {
        let label = self.paint(anstyle::AnsiColor::Red.on_default().bold(), "error:");
        self.say_painted(&label, message);
        let label = self.paint(anstyle::AnsiColor::Green.on_default(), "tip:");
        for (n, tip) in tips.iter().enumerate() {
            self.say_painted(&if n == 0 { format!("  {label}") } else { "      ".to_owned() }, tip);
        }
    }

    /// `text` in a style, if stderr takes colour.
    pub fn paint(&self, style: Style, text: &str) -> String {
        if self.look.err.colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    /// Writes a line on stderr whatever the talk is, such as an error in JSON.
    pub fn say(&self, text: &str) {
        self.say_painted("", text);
    }

    /// Writes text of our own on stderr as it is.
    pub fn say_own(&self, text: &str) {
        let mut err = self.err.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = err.write_all(text.as_bytes());
    }

    fn say_painted(&self, label: &str, text: &str) {
        let mut line = label.as_bytes().to_vec();
        if !label.is_empty() {
            line.push(b' ');
        }
        if self.look.err.width.is_some() {
            escape(text.as_bytes(), &mut line);
        } else {
            line.extend_from_slice(text.as_bytes());
        }
        line.push(b'\n');
        let mut err = self.err.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody is left to tell that stderr is closed.
        let _ = err.write_all(&line);
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        // The command's end flushes and reports; this is for a panic on the way there.
        let _ = self.flush();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Arc;

    /// A sink that a test can look into.
    #[derive(Clone, Default)]
    pub(crate) struct Tap(Arc<Mutex<Vec<u8>>>);

    impl Tap {
        pub(crate) fn text(&self) -> String {
            String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
        }
    }

    impl Write for Tap {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    pub(crate) fn printer(format: Format, width: Option<u16>) -> (Printer, Tap, Tap) {
        let screen = Screen { width, colour: false };
        let (out, err) = (Tap::default(), Tap::default());
        let look = Look { format, out: screen, err: screen, talk: Talk::Normal };
        (Printer::new(look, Box::new(out.clone()), Box::new(err.clone())), out, err)
    }

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_pipe_gets_bytes_when_flushed_a_terminal_at_once() {
        let (pipe, out, _) = printer(Format::Auto, None);
        pipe.line("one").unwrap();
        assert_eq!(out.text(), "");
        pipe.flush().unwrap();
        assert_eq!(out.text(), "one\n");
        let (terminal, out, _) = printer(Format::Auto, Some(80));
        terminal.line("one").unwrap();
        assert_eq!(out.text(), "one\n");
    }

    #[test]
    fn a_full_buffer_is_passed_on() {
        let (pipe, out, _) = printer(Format::Auto, None);
        pipe.bytes(&vec![b'x'; BUFFER_BYTES]).unwrap();
        assert_eq!(out.text().len(), BUFFER_BYTES);
    }

    #[test]
    fn foreign_bytes_cannot_drive_the_terminal() {
        let (terminal, out, err) = printer(Format::Auto, Some(80));
        terminal.bytes(b"\x1b[2Jhi\xff").unwrap();
        terminal.note("\x1b[2J");
        assert_eq!(out.text(), "\\x1b[2Jhi\\xff");
        assert_eq!(err.text(), "\\x1b[2J\n");
        let (pipe, out, _) = printer(Format::Auto, None);
        pipe.bytes(b"\x1b[2Jhi\xff").unwrap();
        pipe.flush().unwrap();
        assert_eq!(out.0.lock().unwrap().as_slice(), b"\x1b[2Jhi\xff");
    }

    #[test]
    fn a_reader_that_left_is_not_a_failure_of_the_disk() {
        let (model, _, err) = printer(Format::Auto, None);
        let gone = Printer::new(model.look().clone(), Box::new(Gone), Box::new(err));
        gone.line("x").unwrap();
        assert!(matches!(gone.flush(), Err(WriteError::ReaderGone)));
    }

    #[test]
    fn quiet_says_errors_only() {
        let (model, _, _) = printer(Format::Auto, None);
        let err = Tap::default();
        let look = Look { talk: Talk::Quiet, ..model.look().clone() };
        let quiet = Printer::new(look, Box::new(Tap::default()), Box::new(err.clone()));
        quiet.note("note");
        quiet.warn("warning");
        quiet.detail("detail");
        quiet.error("broken", &["fix it".to_owned()]);
        assert_eq!(err.text(), "error: broken\n  tip: fix it\n");
    }
}
