//! The harness of every server command: listen, say when ready and where, count, stop in order.
//!
//! ```text
//! words -> sockets -> pillar starts -> URLs on stdout, --url-file, --ready-fd
//!       -> SIGINT, SIGTERM: drain, wait --grace, exit 0      SIGUSR1: status on stderr
//! ```

mod announce;
mod background;
mod footprint;
mod idle;
mod listen;
mod metrics;
mod signals;
mod top;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::app::App;
use super::endpoint::{LOCAL_DEFAULT, Pillar};
use super::exit::{Exit, Failure};
use super::local::{Mode, Registration, unnamed};
use crate::metrics::Registry;
use crate::shutdown::Shutdown;
use crate::storage;
use crate::transport::tls::{
    ALPN_H2, ALPN_HTTP11, ClientAuth, Identity, IdentityFiles, TlsServer, TlsServerOptions,
};
use crate::transport::{Acceptor, Address, Datagrams, Stream, accept};
use announce::{Notice, ReadyFd};
pub use listen::{Entrance, Listen, Speaks, no_certificate};
use listen::{Front, Port, Sockets};
pub use metrics::{open_descriptors, resident_bytes};
use signals::{Asked, Signals};
pub use top::{Top, TopArg};

/// After a stop that took longer than the grace, what still runs gets this long to fall.
const FALL_TIME: Duration = Duration::from_millis(200);

/// How long a server in the background waits for the one before it, which has to write what it has, and how often it looks.
const HANDOVER: Duration = Duration::from_secs(5);
const HANDOVER_LOOK: Duration = Duration::from_millis(5);

/// Arguments of every server.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Server")]
pub struct ServerArgs {
    /// Where to listen: HOST:PORT, :PORT, unix:PATH, udp:HOST:PORT, local:NAME; :0 takes a free port
    #[arg(short, long, value_name = "ADDR", value_parser = Listen::parse)]
    pub listen: Vec<Listen>,
    /// Detach when ready, print the URL
    #[arg(short, long)]
    pub background: bool,
    /// The child of --background
    #[arg(long, hide = true)]
    pub detached: bool,
    /// The child of up: in the background, and yet at the port that all look at, or else at any
    #[arg(long, hide = true)]
    pub up: bool,
    /// Stop when no client has been connected for this long and nothing would be lost
    #[arg(hide_short_help = true, long, value_name = "DURATION", value_parser = crate::units::parse_duration)]
    pub idle_exit: Option<Duration>,
    /// Stop when this parent process ends, however it ends
    #[arg(long, value_name = "PID", hide = true)]
    pub die_with: Option<i32>,
    /// Write the URL there when ready, remove it at exit
    #[arg(long, value_name = "FILE")]
    pub url_file: Option<PathBuf>,
    /// Write the URL to this open descriptor when ready, then close it
    #[arg(hide_short_help = true, long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub ready_fd: Option<i32>,
    /// Write the process id there when ready, remove it at exit
    #[arg(hide_short_help = true, long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// How long a stop waits for what is still being done
    #[arg(hide_short_help = true, long, value_name = "DURATION", default_value = "5s", value_parser = crate::units::parse_duration)]
    pub grace: Duration,
    /// Be local:NAME
    #[arg(long, value_name = "NAME", value_parser = listen::local_name)]
    pub name: Option<String>,
    /// Serve Prometheus metrics there, at /metrics
    #[arg(hide_short_help = true, long, value_name = "ADDR")]
    pub metrics: Option<Address>,
    /// Connections at the same time
    #[arg(hide_short_help = true, long, value_name = "N", default_value_t = accept::CONNECTIONS_MAX)]
    pub max_connections: usize,
    /// TLS of its TCP listeners.
    #[command(flatten)]
    pub tls: TlsArgs,
}

/// What a server shows and asks for in TLS.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TlsArgs {
    /// Speak TLS with this certificate and chain (PEM)
    #[arg(hide_short_help = true, long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(hide_short_help = true, long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Speak TLS with a certificate made for localhost, kept in DIR for clients to trust
    #[arg(hide_short_help = true, long, value_name = "DIR", num_args = 0..=1, require_equals = true, conflicts_with = "tls_cert")]
    pub tls_self_signed: Option<Option<PathBuf>>,
    /// Let in only clients with a certificate that these authorities signed (PEM)
    #[arg(hide_short_help = true, long, value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// Let in clients without a certificate as well
    #[arg(hide_short_help = true, long, requires = "tls_client_ca")]
    pub tls_client_optional: bool,
}

impl TlsArgs {
    /// The server's side of TLS, if it is asked for.
    fn server(&self, role: &Role) -> anyhow::Result<Option<TlsServer>> {
        let identity = match (&self.tls_cert, &self.tls_key, &self.tls_self_signed) {
            (Some(certificate), Some(key), _) => {
                Identity::Files(IdentityFiles { certificate: certificate.clone(), key: key.clone() })
            }
            (_, _, Some(directory)) => Identity::SelfSigned(directory.clone()),
            _ if self.tls_client_ca.is_some() => {
                return Err(Failure::new(
                    Exit::Usage,
                    "--tls-client-ca needs a certificate of the server's own",
                )
                .tip("add --tls-cert FILE --tls-key FILE, or --tls-self-signed")
                .into());
            }
            _ => return Ok(None),
        };
        let wanted = if self.tls_client_optional { ClientAuth::Request } else { ClientAuth::Require };
        let alpn = role.alpn.iter().map(|name| name.to_vec()).collect();
        let client_ca = self.tls_client_ca.clone().map(|path| (path, wanted));
        Ok(Some(TlsServer::new(&TlsServerOptions { identity, client_ca, alpn })?))
    }
}

/// What a server is to those who call it.
#[derive(Debug, Clone, Copy)]
pub struct Role {
    /// Where it belongs.
    pub pillar: Pillar,
    /// Scheme of its URLs; with TLS an `s` follows.
    pub scheme: &'static str,
    /// Protocols that it speaks inside TLS, if these are told apart there.
    pub alpn: &'static [&'static [u8]],
    /// True if it lets in only those who know a secret, so that it may listen to other machines.
    pub guarded: bool,
    /// True if it uses the data of `local:`: then it is what is found there, whatever `-l` says.
    pub at_home: bool,
    /// True if it shows its certificate at ports of another kind, too.
    pub certified_beside: bool,
}

impl From<Pillar> for Role {
    fn from(pillar: Pillar) -> Self {
        let alpn: &[&[u8]] = match pillar {
            Pillar::Rpc => &[ALPN_H2, ALPN_HTTP11],
            Pillar::Mq | Pillar::Log | Pillar::Gossip => &[],
        };
        let scheme = pillar.plain_scheme().name();
        Self { pillar, scheme, alpn, guarded: false, at_home: false, certified_beside: false }
    }
}

/// What a pillar builds its server on.
#[derive(Debug)]
pub struct Harness {
    /// Open and waiting.
    pub listeners: Vec<Entrance>,
    /// Open and waiting.
    pub datagrams: Vec<Datagrams>,
    /// The URL of each, as it will be printed.
    pub urls: Vec<String>,
    /// For the listeners: limits and TLS.
    pub acceptor: Acceptor,
    /// Tasks go through it; calling `drain` on it ends the server.
    pub shutdown: Shutdown,
    /// Register numbers here.
    pub metrics: Registry,
    started: Instant,
}

/// How the process is, at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Vitals {
    /// When it started, in milliseconds since 1970.
    pub started_ms: i64,
    /// How long ago that was.
    pub uptime: Duration,
    /// What has happened at the door.
    pub door: accept::Door,
    /// Memory in use.
    pub memory_bytes: u64,
}

impl Harness {
    /// Tells how the process is, whenever it is asked.
    pub fn vitals(&self) -> impl Fn() -> Vitals + Send + Sync + 'static {
        let (started, acceptor) = (self.started, self.acceptor.clone());
        let started_ms = jiff::Timestamp::now().as_millisecond();
        move || Vitals {
            started_ms,
            uptime: started.elapsed(),
            door: acceptor.door(),
            memory_bytes: metrics::resident_bytes().unwrap_or(0),
        }
    }

    /// Accepts at all listeners. `serve` gets each stream, TLS and the wait for its first byte behind it, in a task
    /// of its own.
    pub fn accept<F, Fut>(&mut self, serve: F)
    where
        F: Fn(Stream) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        for Entrance { listener, is_tls } in self.listeners.drain(..) {
            let acceptor = self.acceptor.clone();
            let acceptor = if is_tls { acceptor } else { acceptor.with_tls(None) };
            self.shutdown.spawn(acceptor.run(listener, self.shutdown.clone(), serve.clone()));
        }
    }
}

/// A server that is ready.
#[derive(Default)]
pub struct Service {
    status: Option<Box<dyn Fn() -> String + Send>>,
    top: Option<Top>,
    end: Option<Box<dyn FnOnce() -> anyhow::Result<()>>>,
    ready: Option<Box<dyn FnOnce()>>,
    /// Says whether a stop now would lose something.
    holds: Option<Box<dyn Fn() -> bool>>,
    /// Where it keeps its data.
    data: Option<PathBuf>,
    /// Of listeners beside those of the protocol.
    urls: Vec<String>,
}

impl Service {
    /// With lines of its own for the status that SIGUSR1 asks for.
    pub fn with_status(status: impl Fn() -> String + Send + 'static) -> Self {
        Self { status: Some(Box::new(status)), ..Self::default() }
    }

    /// With URLs that are told behind those of the protocol.
    #[must_use]
    pub fn with_urls(self, urls: Vec<String>) -> Self {
        Self { urls, ..self }
    }

    /// With a live view in its terminal; the server stops when the view ends.
    #[must_use]
    pub fn with_top(self, top: Option<Top>) -> Self {
        Self { top, ..self }
    }

    /// With something to do once its URLs have been printed, such as to print more.
    #[must_use]
    pub fn with_ready(self, ready: impl FnOnce() + 'static) -> Self {
        Self { ready: Some(Box::new(ready)), ..self }
    }

    /// With a data directory, which a start finds again.
    #[must_use]
    pub fn with_data(self, data: Option<PathBuf>) -> Self {
        Self { data, ..self }
    }

    /// With something that a stop would lose, while this says so: then it does not stop by itself.
    #[must_use]
    pub fn with_holds(self, holds: impl Fn() -> bool + 'static) -> Self {
        Self { holds: Some(Box::new(holds)), ..self }
    }

    /// With something to do when everything else has stopped, such as closing files.
    #[must_use]
    pub fn with_end(self, end: impl FnOnce() -> anyhow::Result<()> + 'static) -> Self {
        Self { end: Some(Box::new(end)), ..self }
    }
}

/// Runs a server to its end: `start` gets its sockets and returns when it is ready to answer on them.
///
/// # Errors
/// Addresses that are taken, files that cannot be used, and what `start` returns.
pub fn run<'a, F, Fut>(args: ServerArgs, app: &App, role: impl Into<Role>, start: F) -> anyhow::Result<Exit>
where
    F: FnOnce(Harness) -> Fut + 'a,
    Fut: Future<Output = anyhow::Result<Service>> + 'a,
{
    run_any(args, app, role.into(), Box::new(move |harness| Box::pin(start(harness))))
}

/// What makes a server of its sockets. Boxed: what runs it is compiled once and not for each pillar.
type Start<'a> = Box<dyn FnOnce(Harness) -> Pin<Box<dyn Future<Output = anyhow::Result<Service>> + 'a>> + 'a>;

fn run_any(args: ServerArgs, app: &App, role: Role, start: Start<'_>) -> anyhow::Result<Exit> {
    if args.background && !args.detached {
        return background::start(app);
    }
    // Before anything is opened, so that the number cannot be one of ours.
    let ready_fd = args.ready_fd.map(ReadyFd::take).transpose()?;
    if args.detached {
        announce::close_inherited();
        background::detach();
    }
    if let Some(parent) = args.die_with
        && !die_with(parent)
    {
        return Ok(Exit::Done);
    }
    raise_descriptor_limit();
    let runtime = app.server_runtime()?;
    let result = runtime.block_on(serve(&args, app, role, ready_fd, start));
    // Tasks of users' commands may be anywhere: they are dropped, which ends those processes.
    runtime.shutdown_timeout(FALL_TIME);
    result
}

async fn serve(
    args: &ServerArgs,
    app: &App,
    role: Role,
    ready_fd: Option<ReadyFd>,
    start: Start<'_>,
) -> anyhow::Result<Exit> {
    // First of all: a signal that comes while the server starts is not to be lost.
    let mut signals = Signals::new(args.detached)?;
    let started = Instant::now();
    let acceptor = Acceptor::new(args.max_connections).with_tls(args.tls.server(&role)?);
    let sockets = open(args, app, &role, &acceptor).await?;
    let mut urls = sockets.urls.clone();
    warn_if_exposed(args, app, &role, &sockets);

    let shutdown = Shutdown::new();
    let registry = Registry::default();
    metrics::register(&registry, &acceptor);
    if let Some(address) = &args.metrics {
        let bound = metrics::serve(address, registry.clone(), &shutdown).await?;
        app.printer.note(&format!("metrics at http://{bound}/metrics"));
    }
    let harness = Harness {
        listeners: sockets.listeners,
        datagrams: sockets.datagrams,
        urls: sockets.urls,
        acceptor: acceptor.clone(),
        shutdown: shutdown.clone(),
        metrics: registry,
        started,
    };
    let mut service = tokio::select! {
        service = start(harness) => service?,
        _ = signals.stop() => return Ok(Exit::Done),
    };
    urls.append(&mut service.urls);
    let mut registration = Registration {
        pid: std::process::id(),
        urls: urls.iter().cloned().chain(sockets.unasked).collect(),
        started_ms: jiff::Timestamp::now().as_millisecond(),
        mode: match (args.idle_exit, args.background) {
            (Some(_), _) => Mode::Idle,
            (None, true) => Mode::Background,
            (None, false) => Mode::Foreground,
        },
        data: service.data.take(),
    };
    // What has no `local:` is found by its process: in the background nobody sees it, and calls go to it unasked.
    let is_found = registration.mode == Mode::Background || role.pillar == Pillar::Rpc;
    let _unnamed = match names(&registration.urls).next() {
        None if is_found => Some(
            unnamed::post(&app.home, role.pillar, &registration).context("cannot be found by 'status'")?,
        ),
        _ => None,
    };
    let mut notices = announce_ready(args, app, role.pillar, ready_fd, &urls, &registration)?;
    if let Some(ready) = service.ready.take() {
        ready();
    }

    let holds = service.holds.take().unwrap_or_else(|| Box::new(|| false));
    let socket = names(&registration.urls).next().map(|name| app.home.socket(role.pillar, name));
    let idle = async {
        match args.idle_exit {
            Some(limit) => idle::wait(limit, &acceptor, &*holds, socket.as_deref()).await,
            None => std::future::pending().await,
        }
    };
    let mut idle = std::pin::pin!(idle);
    let mut small = std::pin::pin!(footprint::stay_small(footprint::processor_time));
    let mut turn = None;
    let mut top = service.top.take().map(|open| open());
    let mut result = Ok(Exit::Done);
    loop {
        tokio::select! {
            // The pillar has ended itself.
            () = shutdown.draining() => break,
            () = &mut small => {}
            held = &mut idle, if registration.mode == Mode::Idle => {
                app.printer.note("no client for a while: stopping");
                turn = held;
                break;
            }
            asked = signals.next() => match asked {
                Asked::Stop => break,
                // It stays anyway, or as long as its terminal wants it.
                Asked::GiveWay if registration.mode != Mode::Idle => {}
                Asked::GiveWay => {
                    // A client that has just ended is at the door for a moment more.
                    tokio::time::sleep(if acceptor.door().open > 0 { idle::AT_THE_DOOR } else { Duration::ZERO }).await;
                    if acceptor.door().open == 0 && !holds() {
                        break;
                    }
                    registration.mode = Mode::Background;
                    notices.extend(register(app, role.pillar, &registration)?);
                }
                // It is on the screen already.
                Asked::Status if top.is_some() => {}
                Asked::Status => {
                    app.printer.say(status(&urls, &acceptor, started.elapsed(), &service).trim_end());
                }
            },
            shown = async { match &mut top {
                Some(top) => top.await,
                None => std::future::pending().await,
            } } => {
                // Whatever key ended it, a server that stops in order has done what it was asked to.
                result = shown.map(|_| Exit::Done);
                break;
            }
        }
    }
    // The terminal is for messages again.
    drop(top);
    stop(args, app, &shutdown, &mut signals).await;
    if let Some(end) = service.end.take() {
        result = end().and(result);
    }
    drop(notices);
    if let Some(turn) = turn {
        turn.until_exit();
    }
    result
}

/// The names among the URLs that are `local:NAME`.
fn names(urls: &[String]) -> impl Iterator<Item = &str> {
    let names = urls.iter().filter_map(|url| url.strip_prefix("local:"));
    names.map(|name| if name.is_empty() { LOCAL_DEFAULT } else { name })
}

async fn open(args: &ServerArgs, app: &App, role: &Role, acceptor: &Acceptor) -> anyhow::Result<Sockets> {
    let pillar = role.pillar;
    let front = Front { scheme: role.scheme, has_tls: acceptor.speaks_tls() };
    if args.listen.is_empty() {
        let name = args.name.as_deref().unwrap_or(LOCAL_DEFAULT);
        let port = pillar.port(front.has_tls).map_or(Port::None, |port| match (args.up, args.background) {
            (true, _) => Port::OrAny(port),
            // A server in the background is this user's own; it does not take the port that all look at.
            (false, true) => Port::None,
            (false, false) => Port::IfFree(port),
        });
        return Sockets::open_default(name, port, front, pillar, app).await;
    }
    let named = args.name.clone().map(Listen::Local);
    let mut wanted: Vec<_> = args.listen.iter().cloned().chain(named).collect();
    let unasked = role.at_home && !wanted.iter().any(|listen| matches!(listen, Listen::Local(_)));
    if unasked {
        wanted.push(Listen::Local(LOCAL_DEFAULT.to_owned()));
    }
    let speaks = |wanted: &[Speaks]| {
        args.listen.iter().any(|listen| matches!(listen, Listen::At(_, speaks) if wanted.contains(speaks)))
    };
    let is_plaintext = speaks(&[Speaks::Plaintext]) && !speaks(&[Speaks::Tls, Speaks::WhatItCan]);
    if front.has_tls && is_plaintext && !role.certified_beside {
        let scheme = front.scheme;
        let message = format!("a certificate has no use where every -l is {scheme}://, which speaks no TLS");
        return Err(Failure::new(Exit::Usage, message)
            .tip(format!("-l {scheme}s://HOST:PORT    speaks it"))
            .into());
    }
    let mut sockets = Sockets::open(&wanted, front, pillar, app).await?;
    if unasked {
        sockets.unasked = sockets.urls.pop();
    }
    Ok(sockets)
}

fn warn_if_exposed(args: &ServerArgs, app: &App, role: &Role, sockets: &Sockets) {
    let certified = args.tls.tls_client_ca.is_some() && !args.tls.tls_client_optional;
    let is_open = if certified { sockets.exposed_plaintext } else { sockets.exposed };
    if is_open && !role.guarded {
        app.printer
            .warn("other machines reach this server, and it asks nobody who they are (--tls-client-ca does)");
    }
}

/// Leaves word beside the sockets of `local:`.
fn register(app: &App, pillar: Pillar, registration: &Registration) -> anyhow::Result<Vec<Notice>> {
    let text = serde_json::to_string(registration)?;
    let paths = names(&registration.urls).map(|name| Registration::path(&app.home, pillar, name));
    paths.map(|path| Notice::post(&path, text.clone())).collect()
}

/// Tells everybody who wants to know. stdout comes last: who reads it may look into the files at once.
fn announce_ready(
    args: &ServerArgs,
    app: &App,
    pillar: Pillar,
    ready_fd: Option<ReadyFd>,
    urls: &[String],
    registration: &Registration,
) -> anyhow::Result<Vec<Notice>> {
    let text: String = urls.iter().map(|url| format!("{url}\n")).collect();
    let mut notices = register(app, pillar, registration)?;
    if let Some(path) = &args.pidfile {
        notices.push(Notice::pid(path)?);
    }
    if let Some(path) = &args.url_file {
        notices.push(Notice::post(path, text.clone())?);
    }
    if let Some(descriptor) = ready_fd {
        descriptor.tell(&text);
    }
    // A reader that is gone does not matter to a server.
    let end = if args.detached { "\n" } else { "" };
    let _ = app.printer.bytes(format!("{text}{end}").as_bytes());
    let _ = app.printer.flush();
    if args.detached {
        let log = app.home.runtime.join(format!("{}.log", pillar.name()));
        super::settings::Home::create_private(&app.home.runtime)?;
        background::release(&log)?;
    }
    Ok(notices)
}

/// Drains; a second signal, or the end of the grace, cuts it short.
async fn stop(args: &ServerArgs, app: &App, shutdown: &Shutdown, signals: &mut Signals) {
    let grace = args.grace;
    let finish = shutdown.finish(grace);
    let mut finish = std::pin::pin!(finish);
    // Nothing to wait for is nothing to say.
    let quick = tokio::time::timeout(Duration::from_millis(20), &mut finish).await;
    if quick.is_ok() {
        return;
    }
    // A server that goes with another process has nobody at its terminal who stops it.
    if args.die_with.is_none() {
        app.printer.note("stopping… (again to force)");
    }
    tokio::select! {
        in_time = finish => if !in_time {
            app.printer.note(&format!("gave up waiting after {grace:?}"));
        },
        _ = signals.stop() => shutdown.stop(),
    }
}

fn status(urls: &[String], acceptor: &Acceptor, up: Duration, service: &Service) -> String {
    let door = acceptor.door();
    let memory = metrics::resident_bytes().unwrap_or(0) / (1024 * 1024);
    let mut text = format!(
        "pid {}  up {} s  memory {memory} MiB\n{}\nconnections {} of {}  accepted {}  failed {}\n",
        std::process::id(),
        up.as_secs(),
        urls.join("  "),
        door.open,
        door.open_max,
        door.accepted,
        door.failed,
    );
    if let Some(more) = &service.status {
        text.push_str(&more());
    }
    text
}

/// Opens a data directory. A server that is started in the background waits for the one before it to end.
///
/// # Errors
/// What `open` says; of a directory in use after that time.
pub async fn open_data<T>(
    waits: bool,
    open: impl Fn() -> Result<T, storage::Error>,
) -> Result<T, storage::Error> {
    let deadline = Instant::now() + HANDOVER;
    loop {
        match open() {
            Err(storage::Error::Locked { .. }) if waits && Instant::now() < deadline => {
                tokio::time::sleep(HANDOVER_LOOK).await;
            }
            other => return other,
        }
    }
}

/// How to stop whoever holds a data directory.
pub fn stopping(holder: Option<u32>) -> String {
    format!("kill {}", holder.map_or_else(|| "PID".to_owned(), |id| id.to_string()))
}

/// Has the kernel stop us when the parent ends, kill -9 included. False if it is gone already.
fn die_with(parent: i32) -> bool {
    use rustix::process;
    let _ = process::set_parent_process_death_signal(Some(process::Signal::TERM));
    process::getppid().is_some_and(|now| now.as_raw_nonzero().get() == parent)
}

/// As many descriptors as the administrator allows: each connection needs one, and the default is often 1,024.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
