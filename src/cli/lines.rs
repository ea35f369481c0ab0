//! stdin and files as runs of whole lines, as they were read: for those who need no record of each line.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::exit::{Exit, Failure};
use super::records::{Places, RECORD_BYTES_MAX, stdin};

/// So much is read at once.
const READ_BYTES: usize = 256 << 10;
/// Runs that are read ahead.
const AHEAD_MAX: usize = 4;

/// Lines that follow each other in one input.
#[derive(Debug)]
pub struct Run {
    /// Number of the first one over all inputs, from 1.
    pub first: u64,
    /// The lines; the last one of an input may lack its delimiter.
    pub bytes: Bytes,
}

/// The runs as they come. What is here is handed over when more would have to be waited for.
#[derive(Debug)]
pub struct Runs(mpsc::Receiver<Result<Run, Failure>>);

impl Runs {
    /// Begins to read lines that end with `delimiter`. The thread is left alone with whatever it waits for when this is
    /// dropped. `places` learns of each input.
    pub fn start(files: Vec<PathBuf>, delimiter: u8, places: Places) -> Self {
        let (runs, receiver) = mpsc::channel(AHEAD_MAX);
        std::thread::spawn(move || {
            let mut before = 0;
            for file in files {
                let is_stdin = file.as_os_str() == "-";
                let name = if is_stdin { "stdin".to_owned() } else { file.display().to_string() };
                places.begin(before, name.clone());
                let mut last = before;
                let mut give = |run: Run| {
                    let first = before + run.first;
                    if places.are_several() {
                        last = first - 1 + split(&run.bytes, delimiter).count() as u64;
                    }
                    runs.blocking_send(Ok(Run { first, ..run })).is_ok()
                };
                let input: Result<Box<dyn Read + Send>, _> =
                    if is_stdin { Ok(stdin()) } else { File::open(&file).map(|file| Box::new(file) as _) };
                let read = match input {
                    Ok(input) => read(input, &name, delimiter, &mut give),
                    Err(error) => Err(Failure::unread(&name, &error)),
                };
                before = last;
                match read {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(failure) => {
                        if runs.blocking_send(Err(failure)).is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Self(receiver)
    }

    /// The next lines, or why an input is not read on; `None` after the last. May be dropped: nothing is lost.
    pub async fn next(&mut self) -> Option<Result<Run, Failure>> {
        self.0.recv().await
    }
}

/// Reads to the end of the input; false if nobody wants more.
fn read(
    mut input: impl Read,
    name: &str,
    delimiter: u8,
    mut give: impl FnMut(Run) -> bool,
) -> Result<bool, Failure> {
    let mut buffer = BytesMut::new();
    let mut filled = 0;
    let mut first = 1;
    loop {
        // Zeroed once: what is handed over is never written to again.
        if buffer.len() - filled < READ_BYTES / 2 {
            buffer.resize(filled + READ_BYTES, 0);
        }
        let read = match input.read(&mut buffer[filled..]) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read.map_err(|error| Failure::unread(name, &error))?,
        };
        let (end, is_last) = match memchr::memrchr(delimiter, &buffer[filled..filled + read]) {
            _ if read == 0 => (filled, true),
            Some(at) => (filled + at + 1, false),
            None => (0, false),
        };
        filled += read;
        if filled - end > RECORD_BYTES_MAX {
            let line = first + memchr::memchr_iter(delimiter, &buffer[..end]).count() as u64;
            let text = format!("line {line} of {name} is longer than the limit of {RECORD_BYTES_MAX} bytes");
            return Err(Failure::new(Exit::Usage, text));
        }
        if end > 0 {
            let bytes = buffer.split_to(end).freeze();
            filled -= end;
            let count = memchr::memchr_iter(delimiter, &bytes).count() as u64;
            if !give(Run { first, bytes }) {
                return Ok(false);
            }
            first += count;
        }
        if is_last {
            return Ok(true);
        }
    }
}

/// The lines of a run, without their delimiters.
pub fn split(bytes: &[u8], delimiter: u8) -> impl Iterator<Item = &[u8]> {
    let mut ends = memchr::memchr_iter(delimiter, bytes);
    let mut from = 0;
    std::iter::from_fn(move || {
        let end = match ends.next() {
            Some(end) => end,
            None if from < bytes.len() => bytes.len(),
            None => return None,
        };
        let line = &bytes[from..end];
        from = end + 1;
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives what it has in pieces of so many bytes.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let count = self.1.min(self.0.len()).min(into.len());
            into[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn lines(text: &[u8], piece: usize) -> Vec<(u64, Vec<u8>)> {
        let mut lines = Vec::new();
        let read = read(Pieces(text, piece), "stdin", b'\n', |run| {
            lines.extend((run.first..).zip(split(&run.bytes, b'\n').map(<[u8]>::to_vec)));
            true
        });
        assert!(read.unwrap());
        lines
    }

    #[test]
    fn the_last_line_needs_no_delimiter_and_empty_ones_count() {
        let expected =
            |of: &[&str]| (1..).zip(of.iter().map(|it| it.as_bytes().to_vec())).collect::<Vec<_>>();
        assert_eq!(lines(b"a\n\nbc", 2), expected(&["a", "", "bc"]));
        assert_eq!(lines(b"a\n\n", 100), expected(&["a", ""]));
        assert_eq!(lines(b"", 1), expected(&[]));
    }

    proptest! {
        #[test]
        fn lines_are_those_of_the_text_however_they_come(text in "[a\n]{0,40}", piece in 1usize..9) {
            let mut expected: Vec<&str> = text.split('\n').collect();
            if expected.last() == Some(&"") {
                expected.pop();
            }
            let seen = lines(text.as_bytes(), piece);
            prop_assert!(seen.iter().zip(1..).all(|((line, _), number)| *line == number));
            let seen: Vec<&str> = seen.iter().map(|(_, line)| std::str::from_utf8(line).unwrap()).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
