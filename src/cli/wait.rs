//! `bandy wait`: until servers answer in their own protocol, which an open port does not prove.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::app::App;
use super::connect::ConnectArgs;
use super::endpoint::{Endpoint, LOCAL_DEFAULT, Pillar, Place, Scheme};
use super::exit::{Exit, Failure};
use super::greet::{ATTEMPT_TIMEOUT, greet};
use crate::backoff::{Backoff, Delays};
use crate::transport::Address;

/// Between two attempts: soon at first, because a server needs tens of milliseconds to start.
const PAUSE: Backoff = Backoff { first: Duration::from_millis(10), max: Duration::from_millis(250) };

/// Wait until servers answer
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy wait rpc                # this user's own rpc server
  bandy wait grpc://localhost:50051 --timeout 5s
  bandy wait amqp://localhost   # a broker, RabbitMQ too
  bandy wait kafka://localhost  # a broker, Apache Kafka too
  bandy rpc serve -l :0 --url-file url & bandy wait --url-file url

Exit: 0 all answer · 124 --timeout passed · see 'bandy help exit-codes'")]
pub struct WaitArgs {
    /// Which servers: URLs, or pillars for what BANDY_…_URL or the context says
    #[arg(value_name = "URL|PILLAR", required_unless_present = "url_file", add = super::completions::waited_for())]
    pub servers: Vec<String>,
    /// Servers whose URLs are in this file, once it is there (repeatable)
    #[arg(long, value_name = "FILE")]
    pub url_file: Vec<PathBuf>,
    /// Give up after this long, with exit code 124
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = crate::units::parse_duration)]
    pub timeout: Duration,
}

/// Runs the command.
///
/// # Errors
/// Words that are no endpoint; the timeout.
pub fn run(args: &WaitArgs, app: &App) -> anyhow::Result<Exit> {
    let mut endpoints = Vec::new();
    for text in &args.servers {
        endpoints.push(endpoint(text, app)?);
    }
    app.client(None, async {
        let deadline = Instant::now() + args.timeout;
        let all = endpoints.iter().map(|server| answers(server, app, deadline));
        futures_util::future::try_join_all(all).await.map_err(|late| late.failure(args.timeout))?;
        for file in &args.url_file {
            let urls = urls_in(file, deadline).await.map_err(|late| late.failure(args.timeout))?;
            for url in urls.lines() {
                let server = endpoint(url, app)?;
                answers(&server, app, deadline).await.map_err(|late| late.failure(args.timeout))?;
            }
        }
        Ok(Exit::Done)
    })
}

/// Looks again and again, soon at first, until `look` finds nothing missing: what a pillar's own `wait` does. `look` says
/// what is missing, or why it cannot see; who is not there yet may come.
///
/// # Errors
/// `look`'s, unless somebody is only not there yet (3, 5); after `timeout`, what was missing last (124).
pub(super) fn until(
    app: &App,
    timeout: Option<Duration>,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<String>>,
) -> anyhow::Result<Exit> {
    let missing = std::cell::RefCell::new("nobody has answered yet".to_owned());
    let waiting = async {
        let mut pauses = PAUSE.delays(0);
        loop {
            match look().await {
                Ok(None) => return Ok(Exit::Done),
                Ok(Some(state)) => *missing.borrow_mut() = state,
                Err(error) => match error.downcast::<Failure>()? {
                    failure if matches!(failure.exit, Exit::Unreachable | Exit::NotFound) => {
                        *missing.borrow_mut() = failure.message;
                    }
                    failure => return Err(failure.into()),
                },
            }
            sleep(pauses.next().unwrap_or(PAUSE.max)).await;
        }
    };
    app.client(timeout, waiting).map_err(|error| match error.downcast::<Failure>() {
        Ok(failure) if failure.exit == Exit::Timeout => {
            Failure { message: format!("{}: {}", failure.message, missing.borrow()), ..failure }.into()
        }
        Ok(failure) => failure.into(),
        Err(error) => error,
    })
}

/// A pillar's word means its current endpoint; a URL names its pillar by its scheme.
fn endpoint(text: &str, app: &App) -> anyhow::Result<Server> {
    if let Some(pillar) = Pillar::ALL.into_iter().find(|pillar| pillar.name() == text) {
        let endpoint = ConnectArgs::default().resolve(app, pillar)?.endpoint;
        return Ok(Server { pillar, endpoint });
    }
    // The names of the schemes are no hosts, either.
    let spoken = |pillar: &Pillar| pillar.plain_scheme().name() == text;
    if let Some(pillar) = Pillar::ALL.into_iter().find(spoken) {
        let failure = Failure::new(Exit::Usage, format!("'{text}' is neither a URL nor a pillar"));
        return Err(failure
            .tip(format!("bandy wait {}", pillar.name()))
            .tip(format!("bandy wait {text}://HOST"))
            .into());
    }
    // A host of that name would be rare.
    let is_word = text.bytes().all(|byte| byte.is_ascii_alphabetic());
    let near = super::errors::near_miss(text, Pillar::ALL.iter().map(|pillar| pillar.name()));
    if let (true, Some(near)) = (is_word, near) {
        let failure = Failure::new(Exit::Usage, format!("'{text}' is neither a URL nor a pillar"));
        return Err(failure.tip(format!("did you mean '{near}'?  (a host: grpc://{text})")).into());
    }
    // Without a scheme it is rpc's: the words of all pillars look alike there.
    let Some(pillar) = Pillar::ALL.into_iter().find(|pillar| Endpoint::parse(*pillar, text).is_ok()) else {
        let scheme = text.split(':').next().unwrap_or(text);
        let speaks = |pillar: &Pillar| scheme.starts_with(pillar.plain_scheme().name());
        let pillar = Pillar::ALL.into_iter().find(speaks).unwrap_or(Pillar::Rpc);
        return Err(Failure::from(Endpoint::parse(pillar, text).expect_err("no pillar takes it")).into());
    };
    Ok(Server { pillar, endpoint: Endpoint::parse(pillar, text).map_err(Failure::from)? })
}

/// Who is waited for, and what it has to speak.
struct Server {
    pillar: Pillar,
    endpoint: Endpoint,
}

/// What did not happen in time.
#[derive(Debug)]
pub(super) struct Late {
    what: String,
    why: String,
}

impl Late {
    fn failure(self, after: Duration) -> Failure {
        let Self { what, why } = self;
        let after = if after.is_zero() { "at once".to_owned() } else { format!("after {after:?}") };
        Failure::new(Exit::Timeout, format!("{what} {after}: {why}"))
    }
}

async fn urls_in(file: &Path, deadline: Instant) -> Result<String, Late> {
    let mut pauses = PAUSE.delays(0);
    loop {
        let why = match std::fs::read_to_string(file) {
            // Servers write it in one go.
            Ok(text) if !text.trim().is_empty() => return Ok(text),
            Ok(_) => "it is empty".to_owned(),
            Err(error) => error.to_string(),
        };
        if !pause(&mut pauses, deadline).await {
            return Err(Late { what: format!("no URL in {}", file.display()), why });
        }
    }
}

/// False if the deadline has come.
async fn pause(pauses: &mut Delays, deadline: Instant) -> bool {
    let pause = pauses.next().unwrap_or(PAUSE.max);
    let left = deadline.saturating_duration_since(Instant::now());
    sleep(pause.min(left)).await;
    pause < left
}

/// Where a server is now, and what is spoken there. Who says no place means the newest, wherever it listens.
async fn meant(server: &Server, app: &App) -> Result<(Vec<Address>, Scheme), String> {
    let Server { pillar, endpoint } = server;
    let scheme = endpoint.scheme;
    let addresses = match &endpoint.place {
        Place::Local(name) if *pillar == Pillar::Gossip && name == LOCAL_DEFAULT => {
            super::gossip::newest(app).await.into_iter().collect()
        }
        Place::Local(name) => {
            let is_any = *pillar == Pillar::Rpc && name == LOCAL_DEFAULT;
            if is_any && let Some(newest) = super::rpc::newest(app).map_err(|failure| failure.message)? {
                return Ok((newest.addresses(), newest.scheme));
            }
            vec![Address::Unix(app.home.socket(*pillar, name))]
        }
        Place::Unix(_) | Place::Dir(_) | Place::Hosts(_) => endpoint.addresses(),
    };
    Ok((addresses, scheme))
}

/// Returns when the server answers in its protocol.
async fn answers(server: &Server, app: &App, deadline: Instant) -> Result<(), Late> {
    let Server { pillar, endpoint } = server;
    let mut pauses = PAUSE.delays(0);
    loop {
        let attempt = async {
            let (addresses, scheme) = meant(server, app).await?;
            let mut result = Err("there is none".to_owned());
            for address in &addresses {
                result = greet(*pillar, address, scheme).await;
                if result.is_ok() {
                    break;
                }
            }
            result
        };
        let limit = ATTEMPT_TIMEOUT.min(deadline.saturating_duration_since(Instant::now()));
        let why = match tokio::time::timeout(limit, attempt).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => why,
            Err(_) => "it does not answer".to_owned(),
        };
        if !pause(&mut pauses, deadline).await {
            return Err(Late { what: format!("{endpoint} is not ready"), why });
        }
    }
}
