//! Runs the binary: a builder that reads as a sentence, hermetic and with a deadline.
//!
//! ```text
//! bandy("rpc call -e :1 upper").stdin("hello").runs().exits(3).complains("cannot connect");
//! let server = bandy("rpc serve -l :0 upper='tr a-z A-Z'").starts();
//! bandy("rpc call upper hello").endpoint(&server).runs().prints("HELLO\n");
//! ```

#![allow(dead_code, reason = "the vocabulary is for every area; not each is said yet")]

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// Nothing that a test waits for takes this long, on the slowest machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Between two looks at what nobody tells.
const POLL: Duration = Duration::from_millis(5);

/// Held by a test that opens thousands of connections: two of them would use up the descriptors of this process.
pub static CROWD: Mutex<()> = Mutex::new(());

/// A directory for everything that a command keeps; removed with its last user.
#[derive(Clone, Debug)]
pub struct Home(Arc<tempfile::TempDir>);

impl Home {
    /// An empty one.
    pub fn new() -> Self {
        Self(Arc::new(tempfile::Builder::new().prefix("bandy-it-").tempdir().unwrap()))
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file in it and returns its path.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Writes an executable file in it and returns its path.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.file(name, text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

/// A command that is about to run.
#[derive(Clone, Debug)]
pub struct Cmd {
    program: PathBuf,
    words: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    stdin: Vec<u8>,
    home: Home,
    folder: Option<PathBuf>,
    deadline: Duration,
}

/// `bandy` with these words, split as a shell would.
#[track_caller]
pub fn bandy(words: &str) -> Cmd {
    command(env!("CARGO_BIN_EXE_bandy"), words)
}

/// A shell script that finds `bandy` in its PATH.
#[track_caller]
pub fn shell(shell: &str, script: &str) -> Cmd {
    let command = command(shell, "-c").arg(script);
    let bin = Path::new(env!("CARGO_BIN_EXE_bandy")).parent().unwrap();
    command.in_path(bin)
}

/// Any program with these words.
#[track_caller]
pub fn command(program: impl AsRef<Path>, words: &str) -> Cmd {
    Cmd {
        program: program.as_ref().to_owned(),
        words: shell_words::split(words).expect("words of a test").into_iter().map(OsString::from).collect(),
        variables: Vec::new(),
        stdin: Vec::new(),
        home: Home::new(),
        folder: None,
        deadline: DEADLINE,
    }
}

impl Cmd {
    /// Adds one word as it is.
    pub fn arg(mut self, word: impl Into<OsString>) -> Self {
        self.words.push(word.into());
        self
    }

    /// Adds words, split as a shell would.
    #[track_caller]
    pub fn with(mut self, words: &str) -> Self {
        self.words
            .extend(shell_words::split(words).expect("words of a test").into_iter().map(OsString::from));
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Shares the home of other commands.
    pub fn home(mut self, home: &Home) -> Self {
        self.home = home.clone();
        self
    }

    /// Runs in that folder.
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Puts a folder at the front of PATH.
    pub fn in_path(self, folder: &Path) -> Self {
        let mut path = OsString::from(folder);
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        self.env("PATH", path)
    }

    /// What it reads.
    pub fn stdin(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.stdin = bytes.as_ref().to_vec();
        self
    }

    /// Adds `-e URL` of a running server, and shares its home.
    pub fn endpoint(self, server: &Running) -> Self {
        let home = server.home.clone();
        self.arg("-e").arg(&server.url).home(&home)
    }

    fn build(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.words)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.0.path())
            .env("BANDY_HOME", self.home.0.path())
            // What a test needs it starts itself, and stops.
            .env("BANDY_AUTOSTART", "0")
            .env("TZ", "UTC")
            .env("LC_ALL", "C.UTF-8")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }

    /// Starts it and goes on; the caller reads its lines.
    #[track_caller]
    pub fn spawns(self) -> Running {
        let mut child =
            self.build().spawn().unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        let mut stdin = child.stdin.take().unwrap();
        let bytes = self.stdin.clone();
        if !bytes.is_empty() {
            // It may end without reading all of it.
            drop(stdin.write_all(&bytes));
        }
        let (send, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            for line in stdout.split(b'\n').map_while(Result::ok) {
                if send.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        let stderr = Arc::new(Said::default());
        let (sink, mut source) = (Arc::clone(&stderr), child.stderr.take().unwrap());
        let errors = std::thread::spawn(move || copy(&mut source, &sink));
        Running {
            name: format!("{:?}", self.words),
            url: String::new(),
            home: self.home,
            stdin: Some(stdin),
            lines,
            stderr,
            threads: vec![reader, errors],
            deadline: self.deadline,
            child,
            status: None,
        }
    }

    /// Starts a server: waits for the line with its URL.
    #[track_caller]
    pub fn starts(self) -> Running {
        let mut server = self.spawns();
        server.url = server.line();
        server
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn runs(self) -> Ran {
        let mut child =
            self.build().spawn().unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        let mut stdin = child.stdin.take().unwrap();
        let bytes = self.stdin.clone();
        let writer = std::thread::spawn(move || drop(stdin.write_all(&bytes)));
        let (out, err) = (Arc::new(Said::default()), Arc::new(Said::default()));
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (out_sink, err_sink) = (Arc::clone(&out), Arc::clone(&err));
        let threads = vec![
            writer,
            std::thread::spawn(move || copy(&mut stdout, &out_sink)),
            std::thread::spawn(move || copy(&mut stderr, &err_sink)),
        ];
        let status = wait(&mut child, self.deadline);
        let Some(status) = status else {
            kill_group(&child);
            let (out, err) = (out.bytes(), err.bytes());
            let (out, err) = (String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
            panic!("{:?} did not end within {:?}\nstdout: {out}\nstderr: {err}", self.words, self.deadline);
        };
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        Ran { name: format!("{:?}", self.words), status, stdout: out.bytes(), stderr: err.bytes() }
    }
}

/// What has come through a pipe so far, and who waits for more of it.
#[derive(Default)]
struct Said {
    bytes: Mutex<Vec<u8>>,
    more: Condvar,
}

impl Said {
    fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    /// False if `text` has not come within `limit`.
    fn waits_for(&self, text: &str, limit: Duration) -> bool {
        let missing = |bytes: &mut Vec<u8>| !String::from_utf8_lossy(bytes).contains(text);
        let bytes = self.bytes.lock().unwrap();
        let waited = self.more.wait_timeout_while(bytes, limit, missing).unwrap();
        !waited.1.timed_out()
    }
}

fn copy(from: &mut impl Read, to: &Said) {
    let mut buffer = [0; 8192];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        to.bytes.lock().unwrap().extend_from_slice(&buffer[..length]);
        to.more.notify_all();
    }
}

/// Asks again and again, for what nobody tells: files, sockets of others.
#[track_caller]
pub fn until(what: impl Display, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(POLL);
    }
}

/// The page of a server's metrics, at the place that it has told.
#[track_caller]
pub fn get_metrics(server: &Running) -> String {
    server.says("/metrics");
    let text = server.stderr();
    let at = text.lines().find_map(|line| line.split_once("metrics at http://")).unwrap().1;
    let mut stream = std::net::TcpStream::connect(at.strip_suffix("/metrics").unwrap()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Waits for the end of `child`; `None` after `limit`.
fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if start.elapsed() > limit {
            return None;
        }
        std::thread::sleep(POLL);
    }
}

fn kill_group(child: &Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
}

/// A command that runs, such as a server. Killed with its whole group when dropped.
pub struct Running {
    name: String,
    /// The first line of a server.
    pub url: String,
    /// Its home.
    pub home: Home,
    /// What it reads; `None` once closed.
    pub stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr: Arc<Said>,
    threads: Vec<JoinHandle<()>>,
    deadline: Duration,
    child: Child,
    status: Option<ExitStatus>,
}

impl Running {
    /// The next line of stdout.
    #[track_caller]
    pub fn line(&mut self) -> String {
        match self.lines.recv_timeout(self.deadline) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("{}: no line\nstderr: {}", self.name, self.stderr()),
            Err(RecvTimeoutError::Disconnected) => {
                let status = wait(&mut self.child, self.deadline);
                panic!("{}: ended ({status:?}) instead of a line\nstderr: {}", self.name, self.stderr())
            }
        }
    }

    /// Everything it has complained so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.bytes()).into_owned()
    }

    /// Waits until it has said `text` on stderr.
    #[track_caller]
    pub fn says(&self, text: &str) {
        assert!(
            self.stderr.waits_for(text, self.deadline),
            "{}: never said {text:?}\nstderr: {}",
            self.name,
            self.stderr()
        );
    }

    /// Writes to its stdin.
    #[track_caller]
    pub fn writes(&mut self, text: &str) {
        self.stdin.as_mut().expect("stdin is closed").write_all(text.as_bytes()).unwrap();
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Closes its stdin and waits for its end; the lines that nobody took are its stdout.
    #[track_caller]
    pub fn ends(mut self) -> Ran {
        self.stdin = None;
        let Some(status) = wait(&mut self.child, self.deadline) else {
            panic!("{} did not end within {:?}\nstderr: {}", self.name, self.deadline, self.stderr());
        };
        self.status = Some(status);
        std::mem::take(&mut self.threads).into_iter().for_each(|thread| thread.join().unwrap());
        let stdout = self.lines.iter().flat_map(|line| [line.into_bytes(), vec![b'\n']].concat()).collect();
        Ran { name: self.name.clone(), status, stdout, stderr: self.stderr.bytes() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.status.is_none() {
            kill_group(&self.child);
            let _ = self.child.wait();
        }
    }
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ran {
    name: String,
    status: ExitStatus,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it complained.
    pub stderr: Vec<u8>,
}

impl Ran {
    /// What it printed, as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// What it printed: one line, a JSON object.
    #[track_caller]
    pub fn object(&self) -> serde_json::Value {
        let text = self.out();
        assert_eq!(text.lines().count(), 1, "{text}\nstderr: {}", self.err());
        serde_json::from_str(&text).unwrap()
    }

    /// What it complained, as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The code that it ended with; a signal counts as 128 and its number, as in a shell.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// It ended with this [code](Self::code).
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        let actual = self.code();
        assert_eq!(actual, code, "exit of {}\nstdout: {}\nstderr: {}", self.name, self.out(), self.err());
        self
    }

    /// It was ended by this signal, and not by an exit code that looks like it.
    #[track_caller]
    pub fn dies_by(self, signal: Signal) -> Self {
        assert_eq!(self.status.signal(), Some(signal.as_raw()), "{}\nstderr: {}", self.name, self.err());
        self
    }

    /// It ended with 0 and printed exactly this.
    #[track_caller]
    pub fn prints(self, text: &str) -> Self {
        let ran = self.exits(0);
        assert_eq!(ran.out(), text, "stdout of {}\nstderr: {}", ran.name, ran.err());
        ran
    }

    /// It ended with 0 and its stdout has this in it.
    #[track_caller]
    pub fn shows(self, part: &str) -> Self {
        let ran = self.exits(0);
        assert!(ran.out().contains(part), "{} did not show {part:?}\nstdout: {}", ran.name, ran.out());
        ran
    }

    /// Its stderr has this in it.
    #[track_caller]
    pub fn complains(self, part: &str) -> Self {
        assert!(self.err().contains(part), "{} did not say {part:?}\nstderr: {}", self.name, self.err());
        self
    }

    /// It said nothing on stderr.
    #[track_caller]
    pub fn silently(self) -> Self {
        assert_eq!(self.err(), "", "stderr of {}", self.name);
        self
    }
}

/// A number of a JSON object.
#[track_caller]
pub fn number(object: &serde_json::Value, key: &str) -> f64 {
    object[key].as_f64().unwrap_or_else(|| panic!("no {key} in {object}"))
}
