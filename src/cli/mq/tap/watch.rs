//! The tap itself: a queue of its own, bound to what is to be watched, for as long as that is wanted.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::firehose::{self, Traced};
use super::sources::{self, Bind, Plan, Wanted};
use super::{SourceArgs, too_few};
use crate::cli::app::App;
use crate::cli::exit::{Exit, Failure};
use crate::cli::mq::api::Api;
use crate::cli::mq::envelope::{self, Mode};
use crate::cli::signals;
use crate::mq::client::management::{Error as ApiError, path};
use crate::mq::client::{ConsumeOptions, Consumer, Delivery, Error, ErrorKind, Step, Topology};
use crate::mq::wire::method::queue;
use crate::mq::wire::{TableBuf, Value};
use crate::record::Record;
use crate::shutdown::Shutdown;
use crate::wait::until;

/// Messages that wait for a slow reader at most: a tap must not fill the broker's memory.
const WAITING_MAX: i64 = 100_000;

/// Exchanges and bindings that are new are looked for so often.
const REFRESH: Duration = Duration::from_secs(2);

/// Messages that are taken at most without a look at the time.
const LOOK: u64 = 256;

/// Longest time for switching the firehose off again when the user has lost patience.
const TIDY_MAX: Duration = Duration::from_secs(5);

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// After so many messages.
    pub count: Option<u64>,
    /// After this long.
    pub duration: Option<Duration>,
    /// After this long without a message.
    pub idle: Option<Duration>,
    /// Not finished by then is a failure.
    pub timeout: Option<Duration>,
}

/// A watch on a broker.
pub struct Tap {
    api: Arc<Api>,
    wanted: Arc<[Wanted]>,
    /// Bindings of the firehose do not change.
    firehose: bool,
    /// It was off before.
    switched: bool,
    consumer: Consumer,
    /// What every connection is bound to.
    first: BTreeSet<Bind>,
    bound: BTreeSet<Bind>,
    reconnects: u64,
    noted: BTreeSet<String>,
    shutdown: Shutdown,
}

impl Tap {
    /// Binds and begins to watch.
    ///
    /// # Errors
    /// Unreachable, no such exchange, no management API where it is needed.
    pub async fn start(api: Api, args: &SourceArgs, app: &App, shutdown: &Shutdown) -> anyhow::Result<Self> {
        if api.broker.is_none() {
            let message = format!("{} is a management API, which hands out no messages", api.url);
            return Err(Failure::new(Exit::Usage, message).tip("-e 'amqp://HOST?admin=URL'").into());
        }
        let wanted = args.exchanges.clone();
        let mut is_firehose = args.firehose;
        let mut switched = false;
        if is_firehose {
            switched =
                switch(&api, true).await.map_err(|error| api.failure(&error, "switch on the firehose"))?;
            if switched {
                app.printer.note(&format!("the firehose of virtual host '{}' is on", api.one_vhost()));
            }
        } else if wanted.is_empty() && is_traced(&api).await {
            // It shows more than the exchanges do, and is paid for already.
            is_firehose = true;
        }
        let plan = match is_firehose {
            true => sources::firehose(args.firehose),
            false => sources::plan(&api, &wanted)
                .await
                .map_err(|error| api.failure(&error, "find the exchanges"))?,
        };
        sources::check(&plan, &api)?;
        let consumer = consume(&api, &plan.binds, shutdown).await.map_err(|error| failure(&api, &error))?;
        let mut tap = Self {
            wanted: wanted.into(),
            firehose: is_firehose,
            switched,
            consumer,
            first: plan.binds.clone(),
            bound: plan.binds.clone(),
            reconnects: 0,
            noted: BTreeSet::new(),
            shutdown: shutdown.clone(),
            api: Arc::new(api),
        };
        tap.note(&plan, app);
        let exchanges: BTreeSet<&str> = plan.binds.iter().map(|bind| bind.exchange.as_str()).collect();
        app.printer.status(&format!("watching {}", exchanges.into_iter().collect::<Vec<_>>().join(", ")));
        Ok(tap)
    }

    fn note(&mut self, plan: &Plan, app: &App) {
        for note in &plan.notes {
            if self.noted.insert(note.clone()) {
                app.printer.note(note);
            }
        }
    }

    /// Hands every message to `take` with the time since the epoch in microseconds, until an end is reached.
    ///
    /// # Errors
    /// The broker's, those of `take`, and the timeout.
    pub async fn run(
        mut self,
        ends: Ends,
        app: &App,
        take: impl FnMut(&Record, i64) -> anyhow::Result<()>,
    ) -> anyhow::Result<Exit> {
        let mut count = 0;
        let result = tokio::select! {
            biased;
            signal = signals::interrupted() => Ok(Exit::Signal(signal)),
            result = self.watch(ends, app, take, &mut count) => result,
        };
        if self.switched {
            match timeout(TIDY_MAX, switch(&self.api, false)).await {
                Ok(Ok(_)) => app.printer.note("the firehose is off again"),
                Ok(Err(_)) | Err(_) => app.printer.warn(&format!(
                    "the firehose of virtual host '{}' is still on: rabbitmqctl trace_off -p {}",
                    self.api.one_vhost(),
                    self.api.one_vhost()
                )),
            }
        }
        Ok(too_few(ends.count, count, result?)?)
    }

    async fn watch(
        &mut self,
        ends: Ends,
        app: &App,
        mut take: impl FnMut(&Record, i64) -> anyhow::Result<()>,
        count: &mut u64,
    ) -> anyhow::Result<Exit> {
        let started = Instant::now();
        let at = |after: Option<Duration>, since: Instant| after.and_then(|after| since.checked_add(after));
        let mut last = started;
        let mut refresh = interval_at(started + REFRESH, REFRESH);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The API is asked while messages are read.
        let mut planning: Option<Planning> = None;
        while ends.count != Some(*count) {
            // Under load, too, the time has to be looked at.
            let here = if *count % LOOK == LOOK - 1 { None } else { self.consumer.try_next() };
            if here.is_none() {
                app.printer.flush()?;
            }
            let delivery = match here {
                Some(delivery) => delivery,
                None => tokio::select! {
                    biased;
                    () = until(at(ends.timeout, started)) => {
                        let limit = ends.timeout.unwrap_or_default();
                        return Err(Failure::new(Exit::Timeout, format!("not finished within {limit:?}")).into());
                    }
                    () = until(at(ends.duration, started)) => break,
                    () = until(at(ends.idle, last)) => break,
                    _ = refresh.tick(), if planning.is_none() && !self.firehose => {
                        let (api, wanted) = (Arc::clone(&self.api), Arc::clone(&self.wanted));
                        planning = Some(Box::pin(async move { sources::plan(&api, &wanted).await }));
                        continue;
                    }
                    plan = planned(&mut planning) => {
                        planning = None;
                        // What fails is asked again.
                        if let Ok(plan) = plan {
                            self.follow(&plan, app).await;
                        }
                        continue;
                    }
                    next = self.consumer.next() => match next {
                        Ok(Some(delivery)) => delivery,
                        Ok(None) => break,
                        Err(error) => {
                            self.restart(error).await?;
                            continue;
                        }
                    },
                },
            };
            last = Instant::now();
            if at(ends.duration, started).is_some_and(|end| last >= end) {
                break;
            }
            let Some(record) = self.record(delivery) else { continue };
            take(&record, jiff::Timestamp::now().as_microsecond())?;
            *count += 1;
        }
        Ok(Exit::Done)
    }

    /// The record of a message; `None` for what is no message of anybody.
    fn record(&self, delivery: Delivery) -> Option<Record> {
        let (delivery, more) = match self.firehose {
            true => {
                let Traced { delivery, provenance } = firehose::decode(&delivery)?;
                (delivery, provenance)
            }
            false => (delivery, Vec::new()),
        };
        let mut record = envelope::record(&delivery, "", Mode::Topic).ok()?;
        // Of the tap's own queue nobody wants to know.
        record.provenance.retain(|(name, _)| !matches!(*name, "queue" | "delivery_tag"));
        if !more.contains(&("event", "deliver".into())) {
            record.provenance.retain(|(name, _)| *name != "redelivered");
        }
        record.provenance.extend(more);
        Some(record)
    }

    /// Begins anew where an exchange that everything was bound to has gone while the connection was lost.
    async fn restart(&mut self, error: Error) -> anyhow::Result<()> {
        let lost = |api: &Api| failure(api, &error);
        if error.kind() != ErrorKind::NotFound || !self.wanted.is_empty() || self.firehose {
            return Err(lost(&self.api).into());
        }
        let plan = sources::plan(&self.api, &self.wanted).await.map_err(|_| lost(&self.api))?;
        self.consumer = consume(&self.api, &plan.binds, &self.shutdown).await.map_err(|_| lost(&self.api))?;
        (self.first, self.bound) = (plan.binds.clone(), plan.binds);
        self.reconnects = 0;
        Ok(())
    }

    /// Binds what is new. What fails is tried again the next time.
    async fn follow(&mut self, plan: &Plan, app: &App) {
        if self.consumer.reconnects() != self.reconnects {
            self.reconnects = self.consumer.reconnects();
            self.bound = self.first.clone();
        }
        self.note(plan, app);
        let missing: Vec<Bind> = plan.binds.difference(&self.bound).cloned().collect();
        for bind in missing {
            let Some(connection) = self.consumer.connection() else { return };
            let Ok(channel) = connection.channel().await else { return };
            let arguments = arguments(&bind);
            let question = queue::Bind {
                queue: self.consumer.queue(),
                exchange: &bind.exchange,
                routing_key: &bind.key,
                arguments: arguments.as_table(),
                ..Default::default()
            };
            if channel.queue_bind(question).await.is_ok() {
                self.bound.insert(bind);
            }
        }
        // What was unbound or deleted may come again, and is then bound again.
        self.bound.retain(|bind| plan.binds.contains(bind));
    }
}

type Planning = Pin<Box<dyn Future<Output = Result<Plan, ApiError>>>>;

async fn planned(planning: &mut Option<Planning>) -> Result<Plan, ApiError> {
    match planning {
        Some(planning) => planning.await,
        None => std::future::pending().await,
    }
}

fn arguments(bind: &Bind) -> TableBuf {
    match bind.headers {
        // All of none: every message.
        true => TableBuf::new().with("x-match", Value::text("all")),
        false => TableBuf::new(),
    }
}

async fn consume(api: &Api, binds: &BTreeSet<Bind>, shutdown: &Shutdown) -> Result<Consumer, Error> {
    let broker = api.broker.as_ref().expect("looked at first");
    let mut config = broker.config.clone();
    if let Some(vhost) = &api.vhost {
        config.vhost.clone_from(vhost);
    }
    let mut steps = vec![Step::Queue {
        name: String::new(),
        passive: false,
        durable: false,
        exclusive: true,
        auto_delete: true,
        arguments: TableBuf::new().with("x-max-length", Value::I64(WAITING_MAX)),
    }];
    steps.extend(binds.iter().map(|bind| Step::Bind {
        queue: String::new(),
        exchange: bind.exchange.clone(),
        routing_key: bind.key.clone(),
        arguments: arguments(bind),
    }));
    let options = ConsumeOptions { no_ack: true, ..ConsumeOptions::default() };
    Consumer::start(config, Topology(steps), options, shutdown).await
}

fn failure(api: &Api, error: &Error) -> Failure {
    api.broker.as_ref().expect("looked at first").failure(error)
}

/// True if the firehose of the virtual host is on.
async fn is_traced(api: &Api) -> bool {
    let vhost = api.management.get(&path(&["vhosts", api.one_vhost()])).await;
    vhost.is_ok_and(|vhost| vhost["tracing"] == true)
}

/// Switches the firehose; true if it was the other way before. What else is said of the virtual host stays.
async fn switch(api: &Api, on: bool) -> Result<bool, ApiError> {
    let place = path(&["vhosts", api.one_vhost()]);
    let vhost = api.management.get(&place).await?;
    if vhost["tracing"] == on {
        return Ok(false);
    }
    let mut wanted = json!({ "tracing": on });
    if let Some(text) = vhost["description"].as_str().filter(|text| !text.is_empty()) {
        wanted["description"] = text.into();
    }
    if let Some(tags) = vhost["tags"].as_array().filter(|tags| !tags.is_empty()) {
        let tags: Vec<&str> = tags.iter().filter_map(Json::as_str).collect();
        wanted["tags"] = tags.join(",").into();
    }
    api.management.put(&place, &wanted).await?;
    Ok(true)
}
