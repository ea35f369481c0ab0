//! stdin and files as records, one at a time: lines, whole files, JSON lines, CSV.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use clap::{Args, ValueEnum};

use super::exit::{Exit, Failure};
use crate::output::Separators;
use crate::record::Record;

/// Longest record that is read from a file or stdin.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

/// So much is read at once.
const READ_BYTES: usize = 64 << 10;

/// stdin without the buffer of the standard library.
pub fn stdin() -> Box<dyn Read + Send> {
    match io::stdin().as_fd().try_clone_to_owned() {
        Ok(fd) => Box::new(File::from(fd)),
        Err(_) => Box::new(io::stdin()),
    }
}

/// How records are read.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Input")]
pub struct InputArgs {
    /// Read from a file instead of stdin; - is stdin
    #[arg(long, value_name = "FILE")]
    pub input: Vec<PathBuf>,
    /// How the input is divided into records
    #[arg(short = 'I', long, value_name = "FORMAT")]
    pub input_format: Option<InputFormat>,
    /// Each input is one record: the same as -I whole
    #[arg(long, conflicts_with = "input_format")]
    pub whole: bool,
    /// What stands after each record [default: \n]
    #[arg(hide_short_help = true, short = 'D', long, value_name = "TEXT", value_parser = delimiter)]
    pub delim: Option<Delimiter>,
    /// A NUL byte stands after each record
    #[arg(hide_short_help = true, short = '0', long, conflicts_with = "delim")]
    pub null: bool,
    /// What stands between key and value; without it there are no keys
    #[arg(short = 'K', long, value_name = "TEXT", value_parser = delimiter)]
    pub key_delim: Option<Delimiter>,
}

/// How input is divided into records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum InputFormat {
    /// A record per line
    #[default]
    Lines,
    /// A record per file
    Whole,
    /// A JSON envelope per line
    Json,
    /// RFC 4180 with a header: key, value, timestamp
    Csv,
}

/// Bytes between things; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delimiter(pub Vec<u8>);

/// Parses a delimiter with `\n \t \r \0 \\ \xNN`.
///
/// # Errors
/// An empty one, or another escape.
pub fn delimiter(text: &str) -> Result<Delimiter, String> {
    let mut bytes = Vec::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        bytes.push(match rest.next() {
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('r') => b'\r',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('x') => {
                let hex: String = rest.by_ref().take(2).collect();
                let digits = hex.len() == 2 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
                digits
                    .then(|| u8::from_str_radix(&hex, 16).ok())
                    .flatten()
                    .ok_or("\\x is followed by two hex digits")?
            }
            _ => return Err("unknown escape: there are \\n \\t \\r \\0 \\\\ and \\xNN".to_owned()),
        });
    }
    if bytes.is_empty() { Err("a delimiter cannot be empty".to_owned()) } else { Ok(Delimiter(bytes)) }
}

/// Lines that need no more than to be divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainLines {
    /// The inputs; - is stdin.
    pub files: Vec<PathBuf>,
    /// What each line ends with.
    pub delimiter: u8,
    /// What stands between key and value.
    pub key: Option<Vec<u8>>,
}

/// What stands between the parts of output, by the flags `-K`, `-D` and `-0`.
pub fn separators(key: Option<&Delimiter>, record: Option<&Delimiter>, null: bool) -> Separators {
    let mut separators = Separators { key: key.map(|key| key.0.clone()), ..Separators::default() };
    match record {
        _ if null => separators.record = vec![0],
        Some(record) => separators.record.clone_from(&record.0),
        None => {}
    }
    separators
}

impl InputArgs {
    /// Output that is as the input: what comes out of one command goes into another.
    pub fn separators(&self) -> Separators {
        separators(self.key_delim.as_ref(), self.delim.as_ref(), self.null)
    }

    /// The input as lines, if it is lines that end with one byte; `json` is `--json`.
    pub fn plain_lines(&self, json: bool) -> Option<PlainLines> {
        let is_lines = self.input_format.map_or(!json, |format| format == InputFormat::Lines);
        let delimiter = match &self.delim {
            _ if self.null => 0,
            None => b'\n',
            Some(delimiter) => *<&[u8; 1]>::try_from(&delimiter.0[..]).ok()?.first()?,
        };
        let key = self.key_delim.as_ref().map(|delimiter| delimiter.0.clone());
        let files = if self.input.is_empty() { vec![PathBuf::from("-")] } else { self.input.clone() };
        (is_lines && !self.whole).then_some(PlainLines { files, delimiter, key })
    }

    /// Opens the inputs one after the other; `json` is `--json`, which stands for `-I json` too.
    pub fn records(&self, json: bool) -> Inputs {
        let format = match (self.input_format, self.whole) {
            (Some(format), _) => format,
            (None, true) => InputFormat::Whole,
            (None, false) if json => InputFormat::Json,
            (None, false) => InputFormat::Lines,
        };
        let delimiter = match &self.delim {
            _ if self.null => vec![0],
            Some(delimiter) => delimiter.0.clone(),
            None => b"\n".to_vec(),
        };
        let stdin = vec![PathBuf::from("-")];
        let files = if self.input.is_empty() { stdin } else { self.input.clone() };
        let key = self.key_delim.as_ref().map(|delimiter| delimiter.0.clone());
        let places = Places::new(files.len(), format == InputFormat::Whole);
        Inputs { format, delimiter, key, files: files.into_iter(), open: None, line: 0, before: 0, places }
    }
}

/// Where records stand, as people say it. Several inputs are told apart by their names, and so are records that are
/// whole files.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// How many lines there were before each input, and its name.
    inputs: Arc<Mutex<Vec<(u64, String)>>>,
    is_whole: bool,
    are_several: bool,
}

impl Places {
    /// Of so many inputs, each of which is one record, or not.
    pub fn new(inputs: usize, is_whole: bool) -> Self {
        Self { inputs: Arc::default(), is_whole, are_several: inputs > 1 }
    }

    /// True if inputs have to be told apart.
    pub fn are_several(&self) -> bool {
        self.are_several
    }

    /// An input begins after so many lines of those before it.
    pub fn begin(&self, before: u64, name: String) {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner).push((before, name));
    }

    /// The place of a line, counted over all inputs.
    pub fn of(&self, line: u64) -> String {
        let inputs = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        match inputs.iter().rev().find(|(before, _)| *before < line) {
            Some((_, name)) if self.is_whole => name.clone(),
            Some((before, name)) if self.are_several => format!("line {} of {name}", line - before),
            _ => format!("line {line}"),
        }
    }
}

/// The records of all inputs. After an error of one record the next one can be asked for.
pub struct Inputs {
    format: InputFormat,
    delimiter: Vec<u8>,
    key: Option<Vec<u8>>,
    files: std::vec::IntoIter<PathBuf>,
    open: Option<Source<Input>>,
    /// Number of the record last read, over all inputs.
    line: u64,
    /// The same before the open input.
    before: u64,
    places: Places,
}

/// An input with what has been read ahead of it.
type Input = BufReader<Box<dyn Read + Send>>;

impl Inputs {
    /// The number of the record last read, counted from 1 over all inputs: its line, if records are lines.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// What its number means to people.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// True if the next record is here already, and does not have to be waited for.
    pub fn is_ready(&self) -> bool {
        let last = *self.delimiter.last().unwrap_or(&b'\n');
        self.open.as_ref().is_some_and(|source| !source.done && source.reader.buffer().contains(&last))
    }
}

impl Iterator for Inputs {
    type Item = Result<Record, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(source) = &mut self.open {
                if let Some(record) = source.next() {
                    self.line = self.before + source.number;
                    return Some(record);
                }
                self.open = None;
            }
            let file = self.files.next()?;
            let (name, reader): (String, Box<dyn Read + Send>) = if file.as_os_str() == "-" {
                ("stdin".to_owned(), stdin())
            } else {
                match File::open(&file) {
                    Ok(open) => (file.display().to_string(), Box::new(open)),
                    Err(error) => return Some(Err(Failure::unread(file.display(), &error))),
                }
            };
            let reader = BufReader::with_capacity(READ_BYTES, reader);
            self.before = self.line;
            self.places.begin(self.before, name.clone());
            self.open =
                Some(Source::new(name, reader, self.format, self.delimiter.clone(), self.key.clone()));
        }
    }
}

/// The records of one input.
struct Source<R> {
    name: String,
    reader: R,
    format: InputFormat,
    delimiter: Vec<u8>,
    key: Option<Vec<u8>>,
    // Number of the record last read, which for lines is the number of the line.
    number: u64,
    header: Option<Vec<String>>,
    done: bool,
}

impl<R: BufRead> Source<R> {
    fn new(name: String, reader: R, format: InputFormat, delimiter: Vec<u8>, key: Option<Vec<u8>>) -> Self {
        Self { name, reader, format, delimiter, key, number: 0, header: None, done: false }
    }

    fn next(&mut self) -> Option<Result<Record, Failure>> {
        while !self.done {
            let bytes = match self.read() {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return None,
                Err(failure) => {
                    // There is no telling where the next record would begin.
                    self.done = true;
                    return Some(Err(failure));
                }
            };
            match self.record(bytes) {
                Ok(None) => {}
                Ok(Some(record)) => return Some(Ok(record)),
                Err(failure) => return Some(Err(failure)),
            }
        }
        None
    }

    fn place(&self) -> String {
        format!("line {} of {}", self.number, self.name)
    }

    fn read(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let mut bytes = Vec::new();
        let read = match self.format {
            InputFormat::Whole => {
                self.done = true;
                let limit = u64::try_from(RECORD_BYTES_MAX + 1).unwrap_or(u64::MAX);
                (&mut self.reader).take(limit).read_to_end(&mut bytes)
            }
            InputFormat::Csv => csv_row(&mut self.reader, &mut bytes),
            InputFormat::Lines | InputFormat::Json => until(&mut self.reader, &self.delimiter, &mut bytes),
        };
        self.number += 1;
        let read = read.map_err(|error| Failure::unread(&self.name, &error))?;
        if bytes.len() > RECORD_BYTES_MAX {
            let message = format!("{} is longer than the limit of {RECORD_BYTES_MAX} bytes", self.place());
            return Err(Failure::new(Exit::Usage, message));
        }
        Ok((read > 0 || self.format == InputFormat::Whole).then_some(bytes))
    }

    fn record(&mut self, mut bytes: Vec<u8>) -> Result<Option<Record>, Failure> {
        match self.format {
            InputFormat::Whole => Ok(Some(Record::of(bytes))),
            InputFormat::Lines => {
                if bytes.ends_with(&self.delimiter) {
                    bytes.truncate(bytes.len() - self.delimiter.len());
                }
                let split = self.key.as_ref().and_then(|key| Some((find(&bytes, key)?, key.len())));
                Ok(Some(match split {
                    Some((at, length)) => {
                        let value = bytes[at + length..].to_vec();
                        bytes.truncate(at);
                        Record { key: Some(bytes.into()), ..Record::of(value) }
                    }
                    None => Record::of(bytes),
                }))
            }
            InputFormat::Json if bytes.trim_ascii().is_empty() => Ok(None),
            InputFormat::Json => Record::from_json(&bytes).map(Some).map_err(|error| {
                let message = format!("{} is not an envelope: {error}", self.place());
                Failure::new(Exit::Usage, message).tip("without --json each line is sent as it is")
            }),
            InputFormat::Csv => self.csv(&bytes),
        }
    }

    fn csv(&mut self, row: &[u8]) -> Result<Option<Record>, Failure> {
        let text = std::str::from_utf8(row).map_err(|_| {
            Failure::new(Exit::Usage, format!("row {} of {} is not UTF-8", self.number, self.name))
        })?;
        // What was read to its end went on until the quotes were closed.
        if row.iter().filter(|byte| **byte == b'"').count() % 2 == 1 {
            let message = format!("row {} of {} has a quote that is not closed", self.number, self.name);
            return Err(Failure::new(Exit::Usage, message).tip("a quote in a cell is written twice"));
        }
        let cells = csv_cells(text);
        let Some(header) = &self.header else {
            if !cells.iter().any(|cell| cell == "value") {
                let message = format!("the header of {} has no column \"value\"", self.name);
                return Err(Failure::new(Exit::Usage, message));
            }
            self.header = Some(cells);
            return Ok(None);
        };
        let mut record = Record::default();
        for (name, cell) in header.iter().zip(cells) {
            match name.as_str() {
                "key" if !cell.is_empty() => record.key = Some(cell.into()),
                "value" => record.value = Some(cell.into()),
                "headers" if !cell.is_empty() => {
                    record.set_headers(cell.as_bytes()).map_err(|error| {
                        let message = format!("row {} of {}: headers: {error}", self.number, self.name);
                        Failure::new(Exit::Usage, message)
                            .tip(r#"headers are JSON: {"name":"value"}, as they are written with -o csv"#)
                    })?;
                }
                "timestamp" if !cell.is_empty() => {
                    record.timestamp = Some(cell.parse().map_err(|_| {
                        let message =
                            format!("row {} of {}: '{cell}' is no timestamp", self.number, self.name);
                        Failure::new(Exit::Usage, message)
                    })?);
                }
                _ => {}
            }
        }
        Ok(Some(record))
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// Reads to the end of `delimiter`, or of the input, or one byte over the limit.
fn until(reader: &mut impl BufRead, delimiter: &[u8], bytes: &mut Vec<u8>) -> io::Result<usize> {
    let last = *delimiter.last().unwrap_or(&b'\n');
    while !bytes.ends_with(delimiter) && bytes.len() <= RECORD_BYTES_MAX {
        let limit = u64::try_from(RECORD_BYTES_MAX + 1 - bytes.len()).unwrap_or(u64::MAX);
        if reader.by_ref().take(limit).read_until(last, bytes)? == 0 {
            break;
        }
    }
    Ok(bytes.len())
}

/// Reads lines until the quotes are closed.
fn csv_row(reader: &mut impl BufRead, bytes: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        let before = bytes.len();
        let mut line = Vec::new();
        until(reader, b"\n", &mut line)?;
        bytes.extend_from_slice(&line);
        let open = bytes.iter().filter(|byte| **byte == b'"').count() % 2 == 1;
        if !open || bytes.len() == before || bytes.len() > RECORD_BYTES_MAX {
            return Ok(bytes.len());
        }
    }
}

/// RFC 4180.
fn csv_cells(row: &str) -> Vec<String> {
    let row = row.strip_suffix('\n').unwrap_or(row);
    let row = row.strip_suffix('\r').unwrap_or(row);
    let mut cells = vec![String::new()];
    let mut quoted = false;
    let mut letters = row.chars().peekable();
    while let Some(c) = letters.next() {
        let cell = cells.last_mut().expect("there is always a cell");
        match c {
            '"' if quoted && letters.next_if_eq(&'"').is_some() => cell.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            c => cell.push(c),
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(
        text: &[u8],
        format: InputFormat,
        delimiter: &[u8],
        key: Option<&[u8]>,
    ) -> Vec<Result<Record, String>> {
        let mut source =
            Source::new("stdin".into(), text, format, delimiter.to_vec(), key.map(<[u8]>::to_vec));
        std::iter::from_fn(|| source.next()).map(|record| record.map_err(|failure| failure.message)).collect()
    }

    fn values(text: &[u8], delimiter: &[u8]) -> Vec<Vec<u8>> {
        let records = read(text, InputFormat::Lines, delimiter, None);
        records.into_iter().map(|record| record.unwrap().value.unwrap().to_vec()).collect()
    }

    #[test]
    fn lines_end_at_their_delimiter() {
        assert_eq!(values(b"a\n\nb", b"\n"), [&b"a"[..], b"", b"b"]);
        assert_eq!(values(b"a\0b\0", b"\0"), [b"a", b"b"]);
        assert_eq!(values(b"a;-b--c", b"--"), [&b"a;-b"[..], b"c"]);
        assert_eq!(values(b"", b"\n"), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn a_key_stands_before_its_delimiter() {
        let records = read(b"ada:hi:you\nnone\n", InputFormat::Lines, b"\n", Some(b":"));
        let ada = Record { key: Some("ada".into()), ..Record::of("hi:you") };
        assert_eq!(records, [Ok(ada), Ok(Record::of("none"))]);
    }

    #[test]
    fn a_whole_input_is_one_record_even_if_empty() {
        assert_eq!(read(b"a\nb\n", InputFormat::Whole, b"\n", None), [Ok(Record::of("a\nb\n"))]);
        assert_eq!(read(b"", InputFormat::Whole, b"\n", None), [Ok(Record::of(""))]);
    }

    #[test]
    fn a_bad_envelope_is_named_and_the_next_is_read() {
        let records = read(b"{\"value\":1}\n\n{}\n{\"value\":2}\n", InputFormat::Json, b"\n", None);
        assert_eq!(
            records,
            [
                Ok(Record::of("1")),
                Err("line 3 of stdin is not an envelope: missing \"value\"".to_owned()),
                Ok(Record::of("2"))
            ]
        );
    }

    #[test]
    fn csv_has_quotes_and_a_header() {
        let text = b"key,other,value,timestamp\r\na,x,\"1,\"\"2\"\"\n3\",7\r\n,y,z,\r\n";
        let first = Record { key: Some("a".into()), timestamp: Some(7), ..Record::of("1,\"2\"\n3") };
        assert_eq!(read(text, InputFormat::Csv, b"\n", None), [Ok(first), Ok(Record::of("z"))]);
        let open = read(b"value\na\n\"b\nc\n", InputFormat::Csv, b"\n", None);
        let unclosed = "row 3 of stdin has a quote that is not closed".to_owned();
        assert_eq!(open, [Ok(Record::of("a")), Err(unclosed)]);
        let text = br#"headers,value
"{""a"":[""1"",null],""b"":""2""}",x
"[[""a"",""1""],[""b"",""2""],[""a"",""3""]]",y
,z
[1],w
"#;
        let mut rows = read(text, InputFormat::Csv, b"\n", None);
        let error = rows.remove(3).unwrap_err();
        assert!(error.starts_with("row 5 of stdin: headers: "), "{error}");
        let header = |name: &str, value: &'static str| (name.to_owned(), Some(value.into()));
        let headers = [
            vec![header("a", "1"), ("a".to_owned(), None), header("b", "2")],
            vec![header("a", "1"), header("b", "2"), header("a", "3")],
            Vec::new(),
        ];
        let expected = ["x", "y", "z"].map(Record::of).into_iter().zip(headers);
        assert_eq!(rows, expected.map(|(it, headers)| Ok(Record { headers, ..it })).collect::<Vec<_>>());
        let error = read(b"a,b\n", InputFormat::Csv, b"\n", None).remove(0).unwrap_err();
        assert!(error.contains("no column \"value\""), "{error}");
    }

    #[test]
    fn delimiters_are_written_with_escapes() {
        assert_eq!(delimiter(r"\t\x00,").unwrap().0, b"\t\0,");
        assert!(delimiter("").is_err() && delimiter(r"\q").is_err() && delimiter(r"\x1").is_err());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text: Vec<u8>, delimiter in proptest::collection::vec(0u8..4, 1..3)) {
            for format in [InputFormat::Lines, InputFormat::Whole, InputFormat::Json, InputFormat::Csv] {
                read(&text, format, &delimiter, Some(&delimiter));
            }
        }

        #[test]
        fn lines_lose_nothing(lines in proptest::collection::vec("[a-z]{0,5}", 0..6)) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let read: Vec<_> = values(text.as_bytes(), b"\n").into_iter().map(|line| String::from_utf8(line).unwrap()).collect();
            prop_assert_eq!(read, lines);
        }
    }
}
