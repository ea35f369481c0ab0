//! A command per record: how it is told about the record, how often it is tried, and what its end means.
//!
//! The value is its stdin, or the whole envelope; where the record came from and its headers are variables
//! that begin with `BANDY_`. Nothing of a record becomes a word of a command line, so it cannot inject.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, Stream, StreamExt as _};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, ChildStdout};

use super::jobs::{Jobs, Lane};
use super::process::{Prints, Process};
use super::{Program, Retries};
use crate::record::{Embed, Record};
use crate::shutdown::Shutdown;

/// Longest variable: Linux takes no string of more than 128 KiB.
const VARIABLE_BYTES_MAX: usize = 64 << 10;
/// All variables of a record together: macOS takes 1 MiB, along with those of the user.
const VARIABLES_BYTES_MAX: usize = 256 << 10;

/// Longest answer of a command.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What a command reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// The bytes of the value; nothing if there is none.
    Value,
    /// The JSON envelope, as one line.
    Envelope(Embed),
}

/// What has to stay in order when several commands run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing.
    Any,
    /// The records of a partition.
    Partition,
    /// The records with the same key; those without one are free.
    Key,
}

/// What the end of a command means for its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Exit code 0: the record is done.
    Done,
    /// Another exit code.
    Failed(u8),
    /// Ended by this signal.
    Killed(u8),
    /// It took too long and was ended.
    TimedOut,
    /// No such command, whatever the record.
    NotFound,
    /// It is there and cannot be executed, whatever the record.
    NotExecutable,
    /// It could not be started: no more processes, no memory.
    SetUp(io::ErrorKind),
}

impl Verdict {
    /// The exit code of who gives up because of it.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed(code) => code,
            Self::Killed(signal) => 128u8.saturating_add(signal),
            Self::TimedOut => 124,
            Self::SetUp(_) => 125,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
        }
    }

    /// True if no record would fare better: there is no sense in going on.
    pub fn is_hopeless(self) -> bool {
        matches!(self, Self::NotFound | Self::NotExecutable)
    }

    fn of_status(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(0), _) => Self::Done,
            // What a shell says for the same reasons as `of_error`.
            (Some(126), _) => Self::NotExecutable,
            (Some(127), _) => Self::NotFound,
            (Some(code), _) => Self::Failed(u8::try_from(code).unwrap_or(u8::MAX)),
            (None, signal) => Self::Killed(signal.and_then(|n| u8::try_from(n).ok()).unwrap_or(u8::MAX)),
        }
    }

    fn of_error(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            // ENOEXEC, a text without #!, has no kind of its own.
            io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory => Self::NotExecutable,
            _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
                Self::NotExecutable
            }
            kind => Self::SetUp(kind),
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Failed(code) => write!(f, "exit code {code}"),
            Self::Killed(signal) => write!(f, "killed by signal {signal}"),
            Self::TimedOut => f.write_str("not finished in time"),
            Self::NotFound => f.write_str("command not found"),
            Self::NotExecutable => f.write_str("command cannot be executed"),
            Self::SetUp(kind) => write!(f, "cannot start the command: {kind}"),
        }
    }
}

/// A command that is run once per record.
#[derive(Clone, Debug)]
pub struct RecordCommand {
    /// What to run.
    pub program: Program,
    /// What it reads.
    pub reads: Reads,
    /// How long one attempt may take.
    pub deadline: Option<Duration>,
    /// What is tried again, and when.
    pub retries: Retries,
    /// Variables of ours that tell of another record, because we run for one ourselves: see
    /// [`tells_of_a_record`].
    pub stale: Vec<OsString>,
}

impl RecordCommand {
    /// Runs the command for `record`, again if it fails and may. Dropping the future ends the command
    /// and everything it started. `seed` spreads the pauses of commands that fail together.
    pub async fn run(&self, record: &Record, seed: u64, shutdown: &Shutdown) -> Verdict {
        let mut pauses = self.retries.pauses(seed);
        loop {
            let (verdict, _) = self.attempt(record, Prints::Through, shutdown).await;
            let Some(pause) = pauses.after(verdict) else { return verdict };
            tokio::time::sleep(pause).await;
        }
    }

    /// The same, with what the last attempt printed: at most 64 MiB, more is a failure.
    pub async fn answer(&self, record: &Record, seed: u64, shutdown: &Shutdown) -> (Verdict, Bytes) {
        let mut pauses = self.retries.pauses(seed);
        loop {
            let (verdict, printed) = self.attempt(record, Prints::StdoutToUs, shutdown).await;
            let Some(pause) = pauses.after(verdict) else { return (verdict, printed) };
            tokio::time::sleep(pause).await;
        }
    }

    /// Runs it for every record, up to `jobs_max` at once, and tells what became of each as it ends.
    ///
    /// Within a lane of `order` the next record begins when the verdict about the one before has been
    /// taken and another one is asked for: who stops asking has stopped the lane. Dropping the stream
    /// ends all commands.
    pub fn run_all<'a, S>(
        &'a self,
        records: S,
        jobs_max: usize,
        order: Order,
        shutdown: &'a Shutdown,
    ) -> impl Stream<Item = (Record, Verdict)> + 'a
    where
        S: Stream<Item = Record> + Unpin + 'a,
    {
        let state = (records.fuse(), Jobs::new(jobs_max), FuturesUnordered::new(), 0u64);
        futures_util::stream::unfold(
            state,
            move |(mut records, mut jobs, mut running, mut seed)| async move {
                loop {
                    while let Some((lane, record)) = jobs.start() {
                        seed += 1;
                        let number = seed;
                        running.push(async move {
                            let verdict = self.run(&record, number, shutdown).await;
                            (lane, record, verdict)
                        });
                    }
                    tokio::select! {
                        biased;
                        Some((lane, record, verdict)) = running.next() => {
                            jobs.finished(lane.as_ref());
                            return Some(((record, verdict), (records, jobs, running, seed)));
                        }
                        Some(record) = records.next(), if jobs.has_room() => jobs.push(lane(order, &record), record),
                        else => return None,
                    }
                }
            },
        )
    }

    async fn attempt(&self, record: &Record, prints: Prints, shutdown: &Shutdown) -> (Verdict, Bytes) {
        let mut printed = Vec::new();
        let verdict = self.attempt_into(record, prints, &mut printed, shutdown).await;
        if printed.len() > ANSWER_BYTES_MAX {
            return (Verdict::SetUp(io::ErrorKind::FileTooLarge), Bytes::new());
        }
        (verdict, printed.into())
    }

    async fn attempt_into(
        &self,
        record: &Record,
        prints: Prints,
        printed: &mut Vec<u8>,
        shutdown: &Shutdown,
    ) -> Verdict {
        let stale = self.stale.iter().map(|name| (name.clone(), None));
        let own = variables(record).into_iter().map(|(name, value)| (name, Some(value)));
        let mut process = match Process::start(&self.program, stale.chain(own), prints, shutdown) {
            Ok(process) => process,
            Err(error) => return Verdict::of_error(&error),
        };
        let (stdin, stdout) = (process.stdin.take(), process.stdout.take());
        let input = self.input(record);
        let work = async {
            // Only the command's end counts. It may end without having read.
            let feeding = async {
                feed(stdin, input).await;
                std::future::pending::<()>().await;
            };
            // What it printed is read to the end, which is that of the command.
            let ending = async { tokio::join!(process.wait(), drain(stdout, printed)).0 };
            tokio::select! {
                biased;
                status = ending => status,
                () = feeding => unreachable!("it never ends"),
            }
        };
        let status = match self.deadline {
            None => Ok(work.await),
            Some(deadline) => tokio::time::timeout(deadline, work).await,
        };
        match status {
            Ok(Ok(status)) => Verdict::of_status(status),
            Ok(Err(error)) => Verdict::of_error(&error),
            Err(_) => {
                process.end().await;
                Verdict::TimedOut
            }
        }
    }

    fn input(&self, record: &Record) -> Bytes {
        match self.reads {
            Reads::Value => record.value.clone().unwrap_or_default(),
            Reads::Envelope(embed) => {
                let mut line = Vec::new();
                record.write_json(embed, &mut line);
                line.push(b'\n');
                line.into()
            }
        }
    }
}

/// Reads what a command prints, and one byte more than is allowed.
async fn drain(stdout: Option<ChildStdout>, printed: &mut Vec<u8>) {
    if let Some(stdout) = stdout {
        let _ = stdout.take(ANSWER_BYTES_MAX as u64 + 1).read_to_end(printed).await;
    }
}

/// Writes the input and closes the pipe. A command that reads no further is none of our business.
async fn feed(stdin: Option<ChildStdin>, input: Bytes) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(&input).await;
    }
}

fn lane(order: Order, record: &Record) -> Option<Lane> {
    match order {
        Order::Any => None,
        Order::Key => record.key.as_ref().map(|key| key.to_vec()),
        Order::Partition => {
            let origin = |name| record.origin(name).map(Value::to_string).unwrap_or_default();
            Some(format!("{} {}", origin("topic"), origin("partition")).into_bytes())
        }
    }
}

/// The variables that tell a command about its record.
///
/// `BANDY_KEY`, `BANDY_TIMESTAMP`, `BANDY_HEADER_<NAME>`, `BANDY_TAG_<NAME>` and one for each field that
/// says where the record came from: `BANDY_TOPIC`, `BANDY_OFFSET`, … Names are in capitals with `_` for
/// every other character; values under one name are joined by `", "`. What no variable can hold is left
/// out, and is only in the envelope: a NUL byte, more than 64 KiB, more than 256 KiB together.
pub fn variables(record: &Record) -> Vec<(OsString, OsString)> {
    let mut found: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut add = |name: String, value: &[u8]| match found.entry(name) {
        std::collections::btree_map::Entry::Vacant(entry) => drop(entry.insert(value.to_vec())),
        std::collections::btree_map::Entry::Occupied(mut entry) => {
            entry.get_mut().extend_from_slice(b", ");
            entry.get_mut().extend_from_slice(value);
        }
    };
    if let Some(key) = &record.key {
        add("BANDY_KEY".to_owned(), key);
    }
    if let Some(timestamp) = record.timestamp {
        add("BANDY_TIMESTAMP".to_owned(), timestamp.to_string().as_bytes());
    }
    for (name, value) in &record.provenance {
        match value {
            Value::Null => {}
            Value::Object(tags) if *name == "tags" => {
                for (tag, value) in tags {
                    add(format!("{TAG}{}", variable_name(tag)), plain(value).as_bytes());
                }
            }
            value => add(format!("BANDY_{}", variable_name(name)), plain(value).as_bytes()),
        }
    }
    for (name, value) in &record.headers {
        add(format!("{HEADER}{}", variable_name(name)), value.as_deref().unwrap_or_default());
    }
    let mut room = VARIABLES_BYTES_MAX;
    found.retain(|name, value| {
        let size = name.len() + value.len() + 2;
        let fits = size <= VARIABLE_BYTES_MAX && size <= room && !value.contains(&0);
        room -= if fits { size } else { 0 };
        fits
    });
    found.into_iter().map(|(name, value)| (name.into(), OsString::from_vec(value))).collect()
}

const HEADER: &str = "BANDY_HEADER_";
const TAG: &str = "BANDY_TAG_";

/// What stands in the other variables that a command may find, but for headers and tags.
const ORIGINS: &[&str] = &[
    "KEY",
    "TIMESTAMP",
    "TOPIC",
    "PARTITION",
    "OFFSET",
    "QUEUE",
    "EXCHANGE",
    "ROUTING_KEY",
    "DELIVERY_TAG",
    "REDELIVERED",
    "PROPERTIES",
    "EVENT",
    "NODE",
    "ADDR",
    "INCARNATION",
    "LTIME",
];

/// True for the name of a variable that tells of a record. A command that runs for a record, and runs us,
/// has such ones: a record without a key must not seem to have that of the other.
pub fn tells_of_a_record(variable: &OsStr) -> bool {
    let Some(name) = variable.to_str().and_then(|name| name.strip_prefix("BANDY_")) else { return false };
    ["HEADER_", "TAG_"].iter().any(|prefix| name.starts_with(prefix)) || ORIGINS.contains(&name)
}

fn variable_name(name: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    name.chars().map(letter).collect()
}

/// Text as it is, everything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use futures_util::stream;

    use super::*;
    use crate::backoff::Backoff;

    fn record(value: &str, key: Option<&str>, origin: &[(&'static str, Value)]) -> Record {
        Record {
            key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
            provenance: origin.to_vec(),
            ..Record::of(value.to_owned())
        }
    }

    /// A command that runs its input as a shell script.
    fn script() -> RecordCommand {
        command("sh -s")
    }

    fn command(text: &str) -> RecordCommand {
        RecordCommand {
            program: Program::from_text(text, Some(OsStr::new("/usr/bin:/bin"))),
            reads: Reads::Value,
            deadline: None,
            retries: Retries::none(),
            stale: Vec::new(),
        }
    }

    async fn verdict(command: &RecordCommand, record: &Record) -> Verdict {
        let run = async { command.run(record, 1, &Shutdown::new()).await };
        tokio::time::timeout(Duration::from_secs(50), run).await.expect("it does not end")
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    fn told(record: &Record) -> Vec<(String, String)> {
        let text = |text: OsString| text.into_string().unwrap();
        variables(record).into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn what_a_record_has_is_in_variables() {
        let header = |name: &str, value: &'static str| (name.to_owned(), Some(Bytes::from(value)));
        let mut full = record(
            "v",
            Some("ada"),
            &[
                ("topic", "orders".into()),
                ("partition", 0.into()),
                ("offset", 42.into()),
                ("node", Value::Null),
                ("tags", serde_json::json!({"dc-1": "eu", "role": "web"})),
                ("properties", serde_json::json!({"priority": 3})),
            ],
        );
        full.timestamp = Some(1_763_884_814_123);
        full.headers =
            vec![header("trace-id", "7f"), header("x", "1"), ("none".into(), None), header("X", "2")];
        let expected = [
            ("BANDY_HEADER_NONE", ""),
            ("BANDY_HEADER_TRACE_ID", "7f"),
            ("BANDY_HEADER_X", "1, 2"),
            ("BANDY_KEY", "ada"),
            ("BANDY_OFFSET", "42"),
            ("BANDY_PARTITION", "0"),
            ("BANDY_PROPERTIES", r#"{"priority":3}"#),
            ("BANDY_TAG_DC_1", "eu"),
            ("BANDY_TAG_ROLE", "web"),
            ("BANDY_TIMESTAMP", "1763884814123"),
            ("BANDY_TOPIC", "orders"),
        ];
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        assert_eq!(told(&full), expected.map(own));
        assert!(expected.iter().all(|(name, _)| tells_of_a_record(OsStr::new(name))));
        for other in ["BANDY_HOME", "BANDY_MQ_URL", "BANDY_CONTEXT", "BANDY_OUTPUT", "KEY", "BANDY_"] {
            assert!(!tells_of_a_record(OsStr::new(other)), "{other}");
        }
        assert_eq!(told(&Record::of("v")), []);
    }

    #[test]
    fn what_no_variable_can_hold_is_left_out() {
        let header = |name: &str, size: usize| (name.to_owned(), Some(Bytes::from(vec![b'x'; size])));
        let mut large = record("v", Some("a\0b"), &[]);
        large.headers = vec![header("a", 64 << 10), header("b", 60 << 10)];
        assert_eq!(
            told(&large).iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["BANDY_HEADER_B"]
        );
        large.headers = (0..9).map(|n| header(&n.to_string(), 60 << 10)).collect();
        assert_eq!(told(&large).len(), 4);
    }

    #[tokio::test]
    async fn a_command_is_given_value_and_variables_and_none_of_another_record() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let text = format!("{{ cat; echo; env; }} >'{}'", out.display());
        let mut told = command(&text);
        let orders = record("a\nb", None, &[("topic", "orders".into())]);
        assert_eq!(verdict(&told, &orders).await, Verdict::Done);
        let has = |variable: &str| read(&out).lines().any(|line| line.starts_with(variable));
        assert!(read(&out).starts_with("a\nb\n"));
        assert!(has("BANDY_TOPIC=orders") && !has("BANDY_KEY="));
        // HOME stands for a variable of another record: it is one that every test has.
        assert!(has("HOME="));
        told.stale = vec!["HOME".into()];
        assert_eq!(verdict(&told, &orders).await, Verdict::Done);
        assert!(has("BANDY_TOPIC=orders") && !has("HOME="));
    }

    #[tokio::test]
    async fn a_command_may_be_given_the_envelope() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let mut all = command(&format!("cat >'{}'", out.display()));
        all.reads = Reads::Envelope(Embed::Never);
        assert_eq!(verdict(&all, &record("7", Some("k"), &[])).await, Verdict::Done);
        assert_eq!(read(&out), "{\"key\":\"k\",\"value\":\"7\"}\n");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn it_prints_where_we_print() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let text = format!(
            "o=$(readlink /proc/$$/fd/1) e=$(readlink /proc/$$/fd/2); printf '%s\\n' \"$o\" \"$e\" >'{}'",
            out.display()
        );
        assert_eq!(verdict(&script(), &Record::of(text)).await, Verdict::Done);
        let ours = |n: u8| std::fs::read_link(format!("/proc/self/fd/{n}")).unwrap();
        assert_eq!(read(&out), format!("{}\n{}\n", ours(1).display(), ours(2).display()));
    }

    #[tokio::test]
    async fn every_end_has_its_verdict_and_exit_code() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("text");
        std::fs::write(&file, "no program").unwrap();
        let words = |word: &Path| RecordCommand {
            program: Program::from_words(vec![word.into()], None).unwrap(),
            ..script()
        };
        for (command, value, expected, code) in [
            (script(), "exit 0", Verdict::Done, 0),
            (script(), "exit 3", Verdict::Failed(3), 3),
            (script(), "kill -9 $$", Verdict::Killed(9), 137),
            (script(), "/no/such/command", Verdict::NotFound, 127),
            (words(Path::new("/no/such/command")), "", Verdict::NotFound, 127),
            (words(&file), "", Verdict::NotExecutable, 126),
            (words(folder.path()), "", Verdict::NotExecutable, 126),
        ] {
            let verdict = verdict(&command, &Record::of(value)).await;
            assert_eq!((verdict, verdict.exit_code()), (expected, code), "{value}");
            assert_eq!(verdict.is_hopeless(), (126..128).contains(&code));
        }
        assert_eq!(Verdict::TimedOut.exit_code(), 124);
        assert_eq!(Verdict::of_error(&io::Error::from(io::ErrorKind::OutOfMemory)).exit_code(), 125);
    }

    #[tokio::test]
    async fn a_command_need_not_read_its_input() {
        let large = Record::of(vec![b'x'; 1 << 20]);
        assert_eq!(verdict(&command("exit 0"), &large).await, Verdict::Done);
        // The pipe stays open in a child that it leaves behind.
        assert_eq!(verdict(&command("sleep 100 & exit 4"), &large).await, Verdict::Failed(4));
    }

    #[tokio::test]
    async fn one_that_takes_too_long_is_ended_with_its_children() {
        let mut slow = command("sleep 100 & wait");
        slow.deadline = Some(Duration::from_millis(50));
        assert_eq!(verdict(&slow, &Record::of("")).await, Verdict::TimedOut);
    }

    #[tokio::test]
    async fn dropping_it_ends_the_command() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let shutdown = Shutdown::new();
        let (endless, any) =
            (command(&format!("exec 3>'{}'; sleep 100 & wait", fifo.display())), Record::of(""));
        // Opening it waits for the command; its end is the end of all that hold it.
        let opened = shutdown.spawn(async move { tokio::fs::File::open(fifo).await.unwrap() });
        let mut end = tokio::select! {
            _ = endless.run(&any, 1, &shutdown) => panic!("it ended"),
            opened = opened => opened.unwrap(),
        };
        let mut read = Vec::new();
        let ended = end.read_to_end(&mut read);
        assert_eq!(tokio::time::timeout(Duration::from_secs(50), ended).await.unwrap().unwrap(), 0);
    }

    #[tokio::test]
    async fn a_failure_is_tried_again_until_it_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let text = format!("echo x >>'{0}'; [ $(wc -l <'{0}') -ge 3 ]", log.display());
        let once = script();
        assert_eq!(verdict(&once, &Record::of(text.clone())).await, Verdict::Failed(1));
        let backoff = Backoff { first: Duration::from_millis(1), max: Duration::from_millis(1) };
        let thrice = RecordCommand { retries: Retries { attempts: 3, backoff }, ..script() };
        assert_eq!(verdict(&thrice, &Record::of(text)).await, Verdict::Done);
        assert_eq!(read(&log), "x\nx\nx\n");
    }

    async fn all(
        command: &RecordCommand,
        records: Vec<Record>,
        jobs: usize,
        order: Order,
    ) -> Vec<(String, Verdict)> {
        let shutdown = Shutdown::new();
        let outcomes = command.run_all(stream::iter(records), jobs, order, &shutdown);
        let outcomes = outcomes.map(|(record, verdict)| {
            (String::from_utf8_lossy(&record.key.unwrap_or_default()).into_owned(), verdict)
        });
        tokio::time::timeout(Duration::from_secs(50), outcomes.collect()).await.expect("it does not end")
    }

    #[tokio::test]
    async fn several_run_at_once_and_each_outcome_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        // Each of the two waits for the other.
        let writer = record(&format!("echo x >'{}'", fifo.display()), Some("writer"), &[]);
        let reader = record(&format!("read line <'{}'; exit 5", fifo.display()), Some("reader"), &[]);
        let mut ended = all(&script(), vec![writer, reader], 2, Order::Any).await;
        ended.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(ended, [("reader".into(), Verdict::Failed(5)), ("writer".into(), Verdict::Done)]);
    }

    #[tokio::test]
    async fn records_of_a_partition_run_in_order_beside_those_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let at = |partition: i32, n: i32| {
            let text = format!("echo {n} >>'{}/{partition}'", folder.path().display());
            record(&text, None, &[("topic", "t".into()), ("partition", partition.into())])
        };
        let records = (0..12).map(|n| at(n % 3, n)).collect();
        let ended = all(&script(), records, 4, Order::Partition).await;
        assert!(ended.len() == 12 && ended.iter().all(|(_, verdict)| *verdict == Verdict::Done));
        assert_eq!(read(&folder.path().join("1")), "1\n4\n7\n10\n");
    }

    #[tokio::test]
    async fn who_stops_asking_has_stopped_the_lane() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let fails = |n: i32| record(&format!("echo {n} >>'{}'; exit 1", log.display()), Some("k"), &[]);
        let (command, shutdown) = (script(), Shutdown::new());
        {
            let records = stream::iter([fails(1), fails(2)]);
            let mut outcomes = std::pin::pin!(command.run_all(records, 2, Order::Key, &shutdown));
            assert_eq!(outcomes.next().await.unwrap().1, Verdict::Failed(1));
        }
        assert_eq!(read(&log), "1\n");
    }
}
