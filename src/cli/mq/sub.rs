//! `bandy mq sub`: a copy of everything that is published to topics.

use super::complete;
use super::connect::Broker;
use super::envelope::Mode;
use super::incoming::{Bounds, Fate, ReadArgs, Writing};
use super::publish::{TOPIC_EXCHANGE, exchange_there};
use super::work::{Work, WorkArgs};
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::Exit;
use crate::mq::client::{ConsumeOptions, Consumer, Step, Topology};
use crate::mq::wire::TableBuf;
use crate::shutdown::Shutdown;

/// Arguments of `mq sub`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy mq sub                       # everything, until Ctrl-C
  bandy mq sub orders. invoices.     # orders.eu, orders.eu.paid, invoices.7, …
  bandy mq sub 'orders.+.paid' -n 1  # one word where the + is
  bandy mq sub orders. -g billing    # share the messages with others of the group billing
  bandy mq sub orders. --json | jq .value

PATTERN: words with dots; + (or *) is one word, # any number of them, a dot at the end everything \
below. Whoever subscribes gets what is published from then on. A group has a queue, which is kept \
when nobody listens.

Exit: 0 done · 5 no such exchange · 6 fewer than -n · 124 --timeout · see 'bandy help exit-codes'")]
pub struct Args {
    /// Topics to subscribe to [default: all]
    #[arg(value_name = "PATTERN")]
    pub patterns: Vec<String>,
    /// Run once per message: body on stdin
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
    /// Share the messages with others of this group; its queue is kept, under this name
    #[arg(short, long, value_name = "NAME", value_parser = super::queue::parse_name, help_heading = "Taking")]
    pub group: Option<String>,
    /// Exchange instead of amq.topic
    #[arg(short = 'x', long, value_name = "NAME", value_parser = super::queue::parse_exchange, add = completions::remote(complete::exchanges), help_heading = "Taking")]
    pub exchange: Option<String>,
    /// Messages to have at hand before the first of them is acknowledged
    #[arg(long, value_name = "N", help_heading = "Taking")]
    pub prefetch: Option<u16>,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    work: WorkArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// What is fetched ahead where nothing says otherwise.
const PREFETCH: u16 = 1000;

/// Runs the command.
///
/// # Errors
/// The endpoint's, no such exchange, output that cannot be written.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client_to_its_end(sub(args, app))
}

async fn sub(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::new();
    let work = Work::new(&args.work, args.command.clone(), &args.read, app)?.map(Work::of_topics);
    let broker = Broker::resolve(&args.connect, app, "sub")?;
    let mut bounds = Bounds::new(&args.read, args.read.count, broker.timeout);
    let options = ConsumeOptions {
        queue: args.group.clone().unwrap_or_default(),
        prefetch: args.prefetch.unwrap_or(match work {
            Some(_) => u16::try_from(args.work.jobs).unwrap_or(u16::MAX),
            None => PREFETCH,
        }),
        ..ConsumeOptions::default()
    };
    let started =
        bounds.hurry(Consumer::start(broker.config.clone(), topology(args), options, &shutdown)).await;
    let consumer = match started {
        Ok(consumer) => consumer.map_err(|error| broker.failure(&error))?,
        Err(end) => return bounds.exit(end, None),
    };
    app.printer.status(&format!("subscribed at {}; Ctrl-C ends", broker.url));
    match work {
        Some(work) => work.run(&broker, consumer, bounds, args.read.count).await,
        None => {
            // What others of the group could have had must not be lost in a pipe.
            let one_by_one = args.group.is_some() && args.read.count.is_none() && args.prefetch.is_none();
            let (mode, fate) = (Mode::Topic, Fate::Acked);
            let writing = Writing { app, broker: &broker, args: &args.read, mode, fate, one_by_one };
            writing.run(consumer, bounds, args.read.count).await
        }
    }
}

/// The queue and its bindings.
fn topology(args: &Args) -> Topology {
    let exchange = args.exchange.as_deref().unwrap_or(TOPIC_EXCHANGE);
    let mut steps: Vec<Step> = exchange_there(exchange).into_iter().collect();
    let is_shared = args.group.is_some();
    let name = args.group.clone().unwrap_or_default();
    steps.push(Step::Queue {
        name: name.clone(),
        passive: false,
        durable: is_shared,
        exclusive: !is_shared,
        auto_delete: !is_shared,
        arguments: TableBuf::new(),
    });
    let all = ["#".to_owned()];
    let patterns = if args.patterns.is_empty() { &all[..] } else { &args.patterns };
    for pattern in patterns {
        let routing_key = binding_key(pattern);
        let (queue, exchange) = (name.clone(), exchange.to_owned());
        steps.push(Step::Bind { queue, exchange, routing_key, arguments: TableBuf::new() });
    }
    Topology(steps)
}

/// AMQP's form of a pattern: `+` is `*`, and a dot at the end is `.#`.
pub(super) fn binding_key(pattern: &str) -> String {
    let words: Vec<&str> = pattern.split('.').map(|word| if word == "+" { "*" } else { word }).collect();
    let key = words.join(".");
    if key.len() > 1 && key.ends_with('.') { format!("{key}#") } else { key }
}

#[cfg(test)]
mod tests {
    use super::binding_key;

    #[test]
    fn patterns_have_spellings_that_no_shell_takes_apart() {
        for (pattern, key) in [
            ("orders", "orders"),
            ("orders.", "orders.#"),
            ("orders.+.paid", "orders.*.paid"),
            ("+.paid", "*.paid"),
            ("a+b.c", "a+b.c"),
            ("orders.#", "orders.#"),
            ("*", "*"),
            (".", "."),
            ("", ""),
        ] {
            assert_eq!(binding_key(pattern), key, "{pattern}");
        }
    }
}
