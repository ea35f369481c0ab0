//! `bandy with SERVER… -- COMMAND`: servers on free ports for as long as one command runs.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use super::app::App;
use super::endpoint::Pillar;
use super::exit::{Exit, Failure};
use super::local;

/// A server is ready within milliseconds; a schema may take longer to compile.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Most nodes of gossip.
const NODES_MAX: usize = 100;

/// What a server gets to stop in order before it is killed: its own grace, and a bit.
const STOP_TIMEOUT: Duration = Duration::from_secs(6);

/// What a shell is offered.
const SERVERS: &[(&str, &str)] = &[
    ("rpc", "the demo functions"),
    ("mq", "a broker of queues"),
    ("log", "a broker of logs"),
    ("gossip", "a node; gossip=N so many"),
];

/// Run a command with temporary servers
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy with rpc -- ./test.sh             # servers for one command; its exit code is ours
  bandy with rpc=api.proto -- make check
  bandy with mq -- pytest                 # a broker, its URL in BANDY_MQ_URL and AMQP_URL
  bandy with log -- pytest                # the same for Kafka's clients: KAFKA_BROKERS, …
  bandy with gossip -- serf members       # a node; SERF_RPC_ADDR is where the serf command finds it
  bandy with gossip=5 -- bandy gossip ls  # five nodes that know each other
  bandy with rpc mq                       # a shell with their URLs; 'exit' stops them

Exit: the command's · 125 no servers · 126, 127 the command cannot be run")]
pub struct WithArgs {
    /// What to start: rpc, mq, log, gossip; rpc=FILE.proto to answer its methods with their requests, or examples; gossip=N nodes
    #[arg(value_name = "SERVER", required = true, add = super::completions::words(SERVERS))]
    pub servers: Vec<String>,
    /// What to run; without it, $SHELL
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    /// Keep the servers' directory
    #[arg(long)]
    pub keep: bool,
    /// The servers' directory, instead of a temporary one; it is kept
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// Servers or a command that cannot be started.
pub fn run(args: &WithArgs, app: &App) -> anyhow::Result<Exit> {
    let wanted = args.servers.iter().map(|text| Wanted::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let twice = |n: &usize| wanted[..*n].iter().any(|other| other.pillar == wanted[*n].pillar);
    if let Some(n) = (1..wanted.len()).find(twice) {
        let name = wanted[n].pillar.name();
        return Err(set_up(format!("{name} is there twice: one of each can be had")).into());
    }
    let home = Home::new(args).map_err(|error| {
        let place = args
            .dir
            .as_ref()
            .map_or("a directory".to_owned(), |dir| format!("the directory {}", dir.display()));
        set_up(format!("cannot make {place}: {error}"))
    })?;
    let own = super::settings::Home::below(home.path());
    let before: Vec<u32> = local::Running::all(&own).into_iter().map(|server| server.pid).collect();
    let runtime = app.client_runtime()?;
    let result = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let mut servers = Servers::default();
        let result = tokio::select! {
            started = servers.start(&wanted, home.path()) => match started {
                Ok(()) => run_command(args, app, &servers, home.path(), &mut signals).await,
                Err(failure) => Err(failure.into()),
            },
            // Before there is a command, a signal is for us.
            number = signals.before_start() => Ok(Exit::Signal(number)),
        };
        servers.stop().await;
        result
    });
    // What the command has started in the background there, and left.
    let left = local::Running::all(&own).into_iter().filter(|server| !before.contains(&server.pid));
    for server in left {
        if let Err(error) = local::down::stop(&server) {
            app.printer.note(&format!("{error:#}"));
        }
    }
    if args.keep {
        app.printer.note(&format!("kept {}", home.path().display()));
    }
    result
}

fn set_up(message: String) -> Failure {
    Failure::new(Exit::SetUp, message)
}

/// One word of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    pillar: Pillar,
    /// What follows the `=` of rpc.
    proto: Option<PathBuf>,
    /// What follows the `=` of gossip.
    nodes: usize,
}

impl Wanted {
    fn parse(text: &str) -> Result<Self, Failure> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let Some(pillar) = Pillar::ALL.into_iter().find(|pillar| pillar.name() == name) else {
            return Err(Failure::new(
                Exit::SetUp,
                format!("'{name}' is not a server: rpc, mq, log and gossip are"),
            )
            .tip("a command follows after '--': bandy with mq -- CMD"));
        };
        let value = value.filter(|value| !value.is_empty());
        let mut wanted = Self { pillar, proto: None, nodes: 1 };
        match (pillar, value) {
            (_, None) => {}
            (Pillar::Rpc, Some(file)) => wanted.proto = Some(PathBuf::from(file)),
            (Pillar::Gossip, Some(count)) => {
                let nodes = count.parse().ok().filter(|nodes| (1..=NODES_MAX).contains(nodes));
                wanted.nodes = nodes.ok_or_else(|| {
                    Failure::new(
                        Exit::SetUp,
                        format!("gossip=N starts 1 to {NODES_MAX} nodes, not '{count}'"),
                    )
                })?;
            }
            (Pillar::Log, Some("1")) => {}
            (Pillar::Log, Some(_)) => {
                let message = format!("'{text}': a log of several nodes is not built yet");
                return Err(Failure::new(Exit::SetUp, message).tip("bandy with log -- CMD    one node"));
            }
            (Pillar::Mq, Some(_)) => {
                return Err(Failure::new(Exit::SetUp, format!("{name} takes no value: '{text}'")));
            }
        }
        Ok(wanted)
    }

    fn words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec![self.pillar.name().into(), "serve".into()];
        if matches!(self.pillar, Pillar::Mq | Pillar::Log) {
            words.push("--memory".into());
        }
        if self.pillar == Pillar::Gossip {
            // Its events are not read: only its URLs are.
            words.extend(["--rpc", "127.0.0.1:0", "--quiet-events"].map(OsString::from));
        }
        if let Some(proto) = &self.proto {
            words.extend(["--echo".into(), "--proto".into(), proto.into()]);
        }
        words
    }
}

/// The directory of all servers.
enum Home {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Home {
    fn new(args: &WithArgs) -> std::io::Result<Self> {
        if let Some(dir) = &args.dir {
            super::settings::Home::create_private(dir)?;
            return Ok(Self::Kept(std::path::absolute(dir)?));
        }
        let temporary = tempfile::Builder::new().prefix("bandy-with-").tempdir()?;
        Ok(if args.keep { Self::Kept(temporary.keep()) } else { Self::Temporary(temporary) })
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }
}

/// Servers that run, killed when dropped.
#[derive(Default)]
struct Servers {
    children: Vec<Child>,
    variables: Vec<(&'static str, String)>,
}

impl Servers {
    async fn start(&mut self, wanted: &[Wanted], home: &Path) -> Result<(), Failure> {
        for server in wanted {
            let starting = tokio::time::timeout(START_TIMEOUT, self.start_one(server, home));
            starting.await.map_err(|_| {
                set_up(format!("the {} server is not ready after {START_TIMEOUT:?}", server.pillar.name()))
            })??;
            // The others find the first one by themselves; whoever asks, asks the first.
            let known = self.variables.len();
            for _ in 1..server.nodes {
                let starting = tokio::time::timeout(START_TIMEOUT, self.start_one(server, home));
                starting
                    .await
                    .map_err(|_| set_up(format!("a node is not ready after {START_TIMEOUT:?}")))??;
                self.variables.truncate(known);
            }
        }
        Ok(())
    }

    async fn start_one(&mut self, server: &Wanted, home: &Path) -> Result<(), Failure> {
        let name = server.pillar.name();
        let failed = |error: std::io::Error| set_up(format!("cannot start the {name} server: {error}"));
        let mut child = Command::new(std::env::current_exe().map_err(failed)?)
            .args(server.words())
            // The command's words are to be read, and not what its servers say of themselves.
            .args(["--quiet", "-l", ":0", "-l", "local:", "--die-with"])
            .arg(std::process::id().to_string())
            .env("BANDY_HOME", home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Not in the terminal's foreground: Ctrl-C is for the command, which may still need its servers.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let stdout = child.stdout.take().ok_or_else(|| set_up("no stdout".to_owned()))?;
        self.children.push(child);
        let mut lines = BufReader::new(stdout).lines();
        // Its own error is on stderr already.
        let url = lines.next_line().await.map_err(failed)?;
        let mut url = url.ok_or_else(|| set_up(format!("the {name} server did not start")))?;
        if server.pillar == Pillar::Gossip {
            // Behind where it listens and its name: where commands ask it.
            while !url.starts_with("serf://") {
                let next = lines.next_line().await.map_err(failed)?;
                url = next.ok_or_else(|| set_up(format!("the {name} server did not start")))?;
            }
        }
        self.variables.extend(local::variables(server.pillar, &url));
        Ok(())
    }

    async fn stop(&mut self) {
        for child in &self.children {
            tell(child, rustix::process::Signal::TERM);
        }
        let all = async {
            for child in &mut self.children {
                let _ = child.wait().await;
            }
        };
        if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
            for child in &mut self.children {
                let _ = child.kill().await;
            }
        }
    }
}

fn tell(child: &Child, signal: rustix::process::Signal) {
    // None if it has ended: then its id may be somebody else's.
    if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process(id, signal);
    }
}

async fn run_command(
    args: &WithArgs,
    app: &App,
    servers: &Servers,
    home: &Path,
    signals: &mut Signals,
) -> anyhow::Result<Exit> {
    let mut words = args.command.iter().cloned();
    let shell =
        || app.environment.get("SHELL").filter(|shell| !shell.is_empty()).unwrap_or("/bin/sh".to_owned());
    let program = words.next().unwrap_or_else(|| shell().into());
    let mut command = Command::new(&program);
    command
        .args(words)
        .envs(servers.variables.iter().cloned())
        .env("BANDY_HOME", home)
        .env("BANDY_AUTOSTART", "0");
    if args.command.is_empty() {
        // Shells that read no start-up file of their own show it.
        command.env("PS1", format!("(bandy {}) $ ", args.servers.join(" ")));
        for (name, value) in &servers.variables {
            app.printer.status(&format!("{name}={value}"));
        }
        app.printer.status("'exit' stops the servers");
    }
    let mut child = command.spawn().map_err(|error| {
        let code = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
        Failure::new(Exit::Command(code), format!("cannot run {}: {error}", program.to_string_lossy()))
    })?;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(Exit::Command(code(status?))),
            signal = signals.next_to_forward() => tell(&child, signal),
        }
    }
}

/// As a shell counts it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// Signals that would end us, and with us the servers, before the command has ended.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    /// The terminal sends Ctrl-C to the whole foreground group: the command has it already.
    from_terminal: bool,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let foreground = std::fs::File::open("/dev/tty")
            .ok()
            .and_then(|terminal| rustix::termios::tcgetpgrp(&terminal).ok())
            .is_some_and(|group| group == rustix::process::getpgrp());
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            from_terminal: foreground,
        })
    }

    /// The next signal that the command does not have yet.
    async fn next_to_forward(&mut self) -> rustix::process::Signal {
        use rustix::process::Signal;
        loop {
            let (signal, by_key) = tokio::select! {
                _ = self.interrupt.recv() => (Signal::INT, true),
                _ = self.quit.recv() => (Signal::QUIT, true),
                _ = self.terminate.recv() => (Signal::TERM, false),
                _ = self.hangup.recv() => (Signal::HUP, false),
            };
            if !(by_key && self.from_terminal) {
                return signal;
            }
        }
    }

    async fn before_start(&mut self) -> u8 {
        let number = tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.quit.recv() => SignalKind::quit(),
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.hangup.recv() => SignalKind::hangup(),
        };
        u8::try_from(number.as_raw_value()).expect("signals have small numbers")
    }
}
