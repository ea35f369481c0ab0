//! `bandy rpc call`: one call, many on one connection, or a conversation.

pub(super) mod body;
mod each;
pub(super) mod input;
mod show;
mod trace;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::complete;
use super::fleet::Member;
use super::lookup::{self, Found};
use super::remote::{self, ProtocolArgs, Remote, Wanted};
use super::schema::{SchemaArgs, warn_of_conflicts};
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::endpoint::{Endpoint, Pillar};
use crate::cli::exit::{Exit, Failure};
use crate::rpc::client::resolve::MethodName;
use crate::rpc::client::{CallOptions, Cause, Ending, Replies, Requests, RetryPolicy, UnaryReply};
use crate::rpc::registry::RegistryUrl;
use crate::rpc::{Code, Format};
use crate::units::parse_duration;
use crate::wait;
use body::Look;
use input::Input;
use show::{JsonStyle, Show};

/// Arguments of `rpc call`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Method: NAME, SERVICE/NAME, package.SERVICE/NAME, a URL that ends in one, or a call id
    #[arg(add = completions::remote(complete::methods))]
    pub method: String,
    /// Request: one JSON object or text, or items FIELD=TEXT and FIELD:=JSON; - for standard input
    #[arg(value_name = "DATA", add = completions::remote(complete::fields))]
    pub words: Vec<String>,
    /// Request: JSON or text, @FILE, or @- for standard input
    #[arg(short, long, value_name = "DATA", conflicts_with = "words")]
    pub data: Option<String>,
    /// Make one call for each line of standard input
    #[arg(long, conflicts_with_all = ["words", "data"])]
    pub each: bool,
    /// Calls at the same time
    #[arg(short, long, value_name = "N", default_value_t = 1, requires = "each", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub jobs: u16,
    /// Print replies as they come, not in the order of the input
    #[arg(hide_short_help = true, long, requires = "each")]
    pub unordered: bool,
    /// Stop after N messages
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Stop after this long without a message
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub idle: Option<Duration>,
    /// Stop after this long
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Leave the request stream open after the last message
    #[arg(hide_short_help = true, long)]
    pub no_half_close: bool,
    /// Send and print message bytes as they are, without a schema
    #[arg(hide_short_help = true, long)]
    pub raw: bool,
    /// Send a call without side effects as an HTTP GET (Connect)
    #[arg(hide_short_help = true, long)]
    pub get: bool,
    /// Tell what happens at each stage of the call
    #[arg(long, conflicts_with_all = ["each", "raw"])]
    pub trace: bool,
    /// Try again up to N times
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub retry: u32,
    /// Codes worth trying again
    #[arg(hide_short_help = true, long, value_name = "CODES", value_delimiter = ',', default_value = "unavailable", value_parser = parse_code)]
    pub retry_on: Vec<Code>,
    /// Wait until the server can be reached
    #[arg(hide_short_help = true, long)]
    pub wait_for_ready: bool,
    #[command(flatten)]
    json: JsonStyle,
    #[command(flatten)]
    schema: SchemaArgs,
    #[command(flatten)]
    protocol: ProtocolArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

const EXAMPLES: &str = "\
Examples:
  bandy rpc call upper hello                            # on this machine's server
  bandy rpc call -e :50051 Greeter/Hello name=Ada       # items make the request
  bandy rpc call grpcs://host/demo.Greeter/Hello -d @request.json
  seq 9 | jq -c '{value: .}' | bandy rpc call Calc/Sum  # a request per line
  bandy rpc call Greeter/Hello --each -j16 <requests.ndjson

Exit: 0 OK · 3 unreachable · 5 no such method · 64+N status N · 124 --timeout · see 'bandy help exit-codes'";

fn parse_code(text: &str) -> Result<Code, String> {
    let by_number = || text.parse().ok().and_then(Code::from_number);
    Code::from_name(text)
        .or_else(by_number)
        .ok_or_else(|| format!("{text:?} is no status code, such as unavailable"))
}

/// Runs the command.
///
/// # Errors
/// Everything that is not an OK reply.
pub fn run(mut args: Args, app: &App) -> anyhow::Result<Exit> {
    take_url(&mut args)?;
    app.client(args.connect.timeout, call(&args, app))
}

/// Whether a method has its server in front: a URL, or `HOST:PORT/` as `-e` takes it without a scheme.
fn names_server(method: &str) -> bool {
    let place = method.split_once('/').and_then(|(place, _)| place.rsplit_once(':'));
    let has_port = place.is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    has_port || method.contains("://") || method.starts_with("unix:")
}

/// A method written as a URL names its server, too.
fn take_url(args: &mut Args) -> anyhow::Result<()> {
    if !names_server(&args.method) {
        return Ok(());
    }
    if args.connect.endpoint.is_some() {
        return Err(
            Failure::new(Exit::Usage, "the server is named twice: in the method's URL and by -e").into()
        );
    }
    if RegistryUrl::is_registry(&args.method) && !args.method.starts_with("local:") {
        return take_registry(args);
    }
    let mut endpoint = Endpoint::parse(Pillar::Rpc, &args.method).map_err(Failure::from)?;
    let Some(method) = endpoint.take_method() else {
        return Err(Failure::new(Exit::Usage, format!("{endpoint} names no method"))
            .tip(format!("write {endpoint}/package.Service/Method"))
            .into());
    };
    // The text itself, because an endpoint prints with its password masked.
    let without_method = args.method.trim_end_matches(&method).trim_end_matches('/').to_owned();
    args.connect.endpoint = Some(without_method);
    args.method = method;
    Ok(())
}

/// A registry's URL ends in the service, after which the method stands here; what is said to the registry comes after both.
fn take_registry(args: &mut Args) -> anyhow::Result<()> {
    let (place, query) =
        args.method.split_once('?').map_or((&*args.method, None), |(place, query)| (place, Some(query)));
    let named = place.rsplit_once('/').and_then(|(rest, method)| Some((rest.rsplit_once('/')?, method)));
    let Some(((registry, service), method)) = named.filter(|((registry, _), _)| !registry.ends_with('/'))
    else {
        let text = format!("{place} names no method");
        return Err(Failure::new(Exit::Usage, text)
            .tip("write REGISTRY://HOST/package.Service/Method")
            .into());
    };
    args.connect.endpoint = Some(match query {
        Some(query) => format!("{registry}?{query}"),
        None => registry.to_owned(),
    });
    args.method = format!("{service}/{method}");
    Ok(())
}

/// One invocation of the command, once the method is known.
struct Invocation<'a> {
    args: &'a Args,
    app: &'a App,
    remote: Remote,
    found: &'a Found,
    show: Show<'a>,
}

async fn call(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let name = MethodName::parse(&args.method);
    // Each stage in a box of its own: together they are so large that the pages they take on the stack are felt.
    let remote = Box::pin(Remote::open(&args.connect, &args.protocol, Wanted::Method(&name), app)).await?;
    if args.raw {
        return Box::pin(raw(args, app, &name, &remote)).await;
    }
    let policy = args.policy();
    let found =
        Box::pin(wait_ready(&policy, || Box::pin(lookup::method(&name, &args.schema, &remote)))).await?;
    warn_of_conflicts(&found.schema, app);
    let show = Show::new(app, &found, args.json.clone(), remote.options.format);
    let invocation = Invocation { args, app, remote, found: &found, show };
    if args.each || kind_streams(&invocation) {
        invocation.remote.follow()?;
    }
    if args.each {
        return Box::pin(each::run(&invocation)).await;
    }
    if args.trace {
        return Box::pin(trace::run(&invocation)).await;
    }
    let kind = invocation.found.method.kind;
    match (kind.client_streams(), kind.server_streams()) {
        (false, false) => Box::pin(invocation.unary()).await,
        (false, true) => Box::pin(invocation.server_stream()).await,
        (true, _) => Box::pin(invocation.client_stream()).await,
    }
}

/// True if the call may last.
fn kind_streams(invocation: &Invocation<'_>) -> bool {
    let kind = invocation.found.method.kind;
    kind.client_streams() || kind.server_streams()
}

impl Args {
    fn policy(&self) -> RetryPolicy {
        RetryPolicy { retries: self.retry, codes: self.retry_on.clone(), wait_for_ready: self.wait_for_ready }
    }
}

/// Repeats what fails because nobody is there yet, if that is to be waited out.
async fn wait_ready<T, F, W>(policy: &RetryPolicy, mut work: W) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
    W: FnMut() -> F,
{
    let mut waits = 0;
    loop {
        let done = work().await;
        if !policy.wait_for_ready || !remote::is_unreachable(&done) {
            return done;
        }
        tokio::time::sleep(policy.pause_between_waits(waits, fastrand::f64())).await;
        waits += 1;
    }
}

impl Invocation<'_> {
    fn path(&self) -> &str {
        &self.found.method.path
    }

    fn options(&self) -> CallOptions {
        let get = self.args.get && self.found.method.no_side_effects;
        CallOptions { get, ..self.remote.options.clone() }
    }

    fn format(&self) -> Format {
        self.remote.options.format
    }

    /// The messages given on the command line; `None` if there are none.
    fn given(&self) -> anyhow::Result<Option<Vec<Bytes>>> {
        let kind = &self.found.method.input;
        let look = Look::of(kind);
        let data = match (&self.args.data, self.args.words.as_slice()) {
            (Some(data), _) => read_data(data)?,
            (None, []) => return Ok(None),
            // A message per line, as without it.
            (None, words) if is_stdin(words) && self.found.method.kind.client_streams() => return Ok(None),
            (None, words) if is_stdin(words) => read_data("@-")?,
            (None, words) if look == Look::Json && body::are_items(words) => {
                let json = body::from_items(kind, words)?;
                return Ok(Some(vec![body::encode(kind, &json, self.format())?]));
            }
            (None, words) if look == Look::Json && words.len() == 1 => words.concat().into_bytes(),
            // Words of text, as echo takes them.
            (None, words) => words.join(" ").into_bytes(),
        };
        let documents = match look {
            Look::Json => input::documents(&data)?,
            Look::Text | Look::Bytes => vec![body::to_json(look, &data)?],
        };
        let encode = |json: &Bytes| body::encode(kind, json, self.format());
        Ok(Some(documents.iter().map(encode).collect::<Result<_, _>>()?))
    }

    /// The only message of a call that takes one.
    fn one(&self) -> anyhow::Result<Bytes> {
        let Some(messages) = self.given()? else { return Ok(self.empty()?) };
        match <[Bytes; 1]>::try_from(messages) {
            Ok([message]) => Ok(message),
            Err(messages) => {
                let message = format!("{} takes one message, {} were given", self.path(), messages.len());
                Err(Failure::new(Exit::Usage, message).tip("make a call for each: --each <FILE").into())
            }
        }
    }

    fn empty(&self) -> Result<Bytes, Failure> {
        let kind = &self.found.method.input;
        let json = match Look::of(kind) {
            // A method whose parameters nobody knows may have none.
            Look::Json if lookup::is_schemaless(&self.found.method, self.format()) => {
                return Ok(Bytes::new());
            }
            Look::Json => Bytes::from_static(b"{}"),
            Look::Text | Look::Bytes => Bytes::from_static(b"\"\""),
        };
        body::encode(kind, &json, self.format())
    }

    /// Makes a unary call, again if the policy says so.
    async fn attempt(&self, message: &Bytes) -> (UnaryReply, Option<Arc<Member>>) {
        let (policy, options) = (self.args.policy(), self.options());
        let (mut attempts, mut waits) = (0, 0);
        loop {
            let (reply, member) = self.remote.unary(self.path(), message, &options).await;
            let absent = policy.is_absence(&reply.ending);
            attempts += u32::from(!absent);
            let Some(pause) = policy.pause(&reply.ending, attempts, waits, fastrand::f64()) else {
                return (reply, member);
            };
            waits += u32::from(absent);
            self.app.printer.detail(&format!("{} — again in {pause:.1?}", reply.ending.status));
            tokio::time::sleep(pause).await;
        }
    }

    async fn unary(&self) -> anyhow::Result<Exit> {
        let message = self.one()?;
        let started = Instant::now();
        let (reply, member) = self.attempt(&message).await;
        self.show.headers(&reply.headers);
        self.show.unary(&reply, started.elapsed())?;
        self.end(member.as_deref(), &reply.ending).await
    }

    async fn server_stream(&self) -> anyhow::Result<Exit> {
        let message = self.one()?;
        let started = Instant::now();
        let options = self.options();
        let (policy, mut attempts, mut waits) = (self.args.policy(), 0, 0);
        loop {
            let (opened, member) = self.remote.server_stream(self.path(), &message, &options).await;
            let ending = match opened {
                Ok(receiver) => match self.receive(receiver, started).await? {
                    Received::Enough(exit) => return Ok(exit),
                    Received::Ended { ending, received: 0 } if !ending.status.is_ok() => {
                        // Nothing has come: where it never arrived, another instance may take it.
                        if let Some(fleet) = self.remote.fleet()
                            && let Some(member) = &member
                            && ending.cause == Cause::Unreachable
                        {
                            fleet.note(member, false);
                            if ending.untouched && fleet.has_others(member) {
                                continue;
                            }
                        }
                        ending
                    }
                    Received::Ended { ending, received } => {
                        return self.ended(member.as_deref(), &ending, received, started).await;
                    }
                },
                Err(ending) => ending,
            };
            // A stream of which something was printed is not begun again.
            let absent = policy.is_absence(&ending);
            attempts += u32::from(!absent);
            let Some(pause) = policy.pause(&ending, attempts, waits, fastrand::f64()) else {
                return self.ended(member.as_deref(), &ending, 0, started).await;
            };
            waits += u32::from(absent);
            self.app.printer.detail(&format!("{} — again in {pause:.1?}", ending.status));
            tokio::time::sleep(pause).await;
        }
    }

    async fn client_stream(&self) -> anyhow::Result<Exit> {
        let input = match self.given()? {
            Some(messages) => Input::given(messages),
            None => Input::stdin(self.app, &self.found.method.input, self.format()),
        };
        let started = Instant::now();
        let kind = self.found.method.kind;
        let (both, member) = self.remote.stream(self.path(), kind, &self.options()).await;
        let (sender, receiver) = match both {
            Ok(both) => both,
            Err(ending) => return self.ended(member.as_deref(), &ending, 0, started).await,
        };
        let mut receiving = std::pin::pin!(self.receive(receiver, started));
        let mut sending = std::pin::pin!(self.send(sender, input));
        // The server may answer before, while and after it is sent to, or not let us finish.
        let received = tokio::select! {
            received = &mut receiving => received?,
            sent = &mut sending => {
                // Kept, so that a stream that is to stay open does.
                let _sender = sent?;
                receiving.await?
            }
        };
        match received {
            Received::Enough(exit) => Ok(exit),
            Received::Ended { ending, received } => {
                self.ended(member.as_deref(), &ending, received, started).await
            }
        }
    }

    async fn send(&self, mut sender: Requests, mut input: Input<'_>) -> anyhow::Result<Requests> {
        while let Some(message) = input.next().await? {
            if sender.send(&message).await.is_err() {
                return Ok(sender);
            }
        }
        if !self.args.no_half_close {
            sender.finish().await;
        }
        Ok(sender)
    }

    /// Prints what comes until the end, or until it is enough.
    async fn receive(&self, mut receiver: Replies, started: Instant) -> anyhow::Result<Received> {
        let until = self.args.duration.and_then(|duration| started.checked_add(duration));
        let mut received = 0;
        let mut said_headers = false;
        loop {
            let idle = self.args.idle.and_then(|idle| Instant::now().checked_add(idle));
            let stop = [until, idle].into_iter().flatten().min();
            let message = tokio::select! {
                message = receiver.message() => message,
                () = wait::until(stop) => return Ok(Received::Enough(self.enough(received))),
            };
            if !said_headers {
                said_headers = true;
                self.show.headers(receiver.headers().await);
            }
            let Some(message) = message else { break };
            self.show.streamed(&message)?;
            received += 1;
            if self.args.count.is_some_and(|count| received >= count) {
                return Ok(Received::Enough(Exit::Done));
            }
        }
        Ok(Received::Ended { ending: receiver.end().await, received })
    }

    /// Says how a stream ended.
    async fn ended(
        &self,
        member: Option<&Member>,
        ending: &Ending,
        received: u64,
        started: Instant,
    ) -> anyhow::Result<Exit> {
        self.show.end(ending, started.elapsed())?;
        self.end(member, ending).await?;
        Ok(self.enough(received))
    }

    /// Fewer than were asked for are not enough.
    fn enough(&self, received: u64) -> Exit {
        if self.args.count.is_some_and(|count| received < count) { Exit::Nothing } else { Exit::Done }
    }

    async fn end(&self, member: Option<&Member>, ending: &Ending) -> anyhow::Result<Exit> {
        if ending.status.is_ok() {
            return Ok(Exit::Done);
        }
        self.show.details(&ending.status);
        Err(self.remote.explain(member, self.path(), ending).await.into())
    }
}

/// What has come of a stream.
enum Received {
    /// As much as was asked for, in messages or in time.
    Enough(Exit),
    /// All that there was.
    Ended { ending: Ending, received: u64 },
}

/// A lone `-`, which is standard input here as in other commands.
fn is_stdin(words: &[String]) -> bool {
    matches!(words, [word] if word == "-")
}

/// Data as it is written: the text itself, `@FILE`, or `@-`.
pub(super) fn read_data(data: &str) -> anyhow::Result<Vec<u8>> {
    use anyhow::Context as _;
    use std::io::Read as _;
    match data.strip_prefix('@') {
        None => Ok(data.as_bytes().to_vec()),
        Some("-") => {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read standard input")?;
            Ok(bytes)
        }
        Some(path) => std::fs::read(Path::new(path)).with_context(|| format!("cannot read {path}")),
    }
}

/// Bytes out, bytes in: no schema is asked for.
async fn raw(args: &Args, app: &App, name: &MethodName, remote: &Remote) -> anyhow::Result<Exit> {
    let Some(path) = name.service.as_ref().map(|service| format!("{service}/{}", name.method)) else {
        return Err(Failure::new(Exit::Usage, format!("'{name}' is not a full name"))
            .tip("without a schema a method is package.Service/Method")
            .into());
    };
    let message = match (&args.data, args.words.as_slice()) {
        (Some(data), _) => read_data(data)?,
        (None, words) if is_stdin(words) => read_data("@-")?,
        (None, words) => words.join(" ").into_bytes(),
    };
    let (receiver, member) = remote.server_stream(&path, &message.into(), &remote.options).await;
    let mut receiver = match receiver {
        Ok(receiver) => receiver,
        Err(ending) => return Err(remote.explain(member.as_deref(), &path, &ending).await.into()),
    };
    let mut received = 0;
    while let Some(message) = receiver.message().await {
        if app.printer.is_terminal() {
            app.printer.line(&crate::rpc::client::describe(&message))?;
        } else {
            app.printer.bytes(&message)?;
        }
        received += 1;
        if args.count.is_some_and(|count| received >= count) {
            return Ok(Exit::Done);
        }
    }
    let ending = receiver.end().await;
    if ending.status.is_ok() {
        return Ok(Exit::Done);
    }
    Err(remote.explain(member.as_deref(), &path, &ending).await.into())
}
