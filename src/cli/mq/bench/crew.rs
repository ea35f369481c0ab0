//! The threads of a run: a few, each with a runtime and its part of the connections.

use std::sync::Arc;
use std::thread::{Scope, available_parallelism};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};

use crate::bench::Rate;
use crate::mq::client::{Config, Error};
use crate::mq::load::{Acks, Clock, Consumer, Message, Pace, Producer, Shared, paced};

/// What all consumers read into together, at least and at most each, in bytes.
const ROOM: usize = 8 * 1024 * 1024;
const ROOM_MIN: usize = 16 * 1024;
const ROOM_MAX: usize = 256 * 1024;

/// For `connection.close` to be answered: what the broker has sent before comes first.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(5);

/// What is to be done.
pub struct Plan {
    pub config: Config,
    pub message: Message,
    pub queues: Vec<String>,
    pub producers: u32,
    pub consumers: u32,
    pub window: Option<u64>,
    pub acks: Acks,
    pub rate: Option<Rate>,
    pub count: Option<u64>,
    /// For how long messages are sent at a rate.
    pub after: Option<Duration>,
}

/// How many of `total` are on each of the threads that do it: as many threads as cores, at most.
fn threads(total: u32) -> u32 {
    let cores = available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
    total.min(cores)
}

/// What the threads are told.
#[derive(Clone, Default)]
struct Orders {
    shared: Option<Arc<Shared>>,
    stopped: bool,
}

/// What a thread tells.
enum Told {
    Connected,
    Sent,
    Failed(Error),
}

/// What became of the run.
pub enum Word {
    /// All producers have sent all.
    Sent,
    /// A connection ended.
    Failed(Error),
}

/// The running threads. Dropping it lets them go.
pub struct Crew {
    clock: Clock,
    lanes: u32,
    threads: u32,
    sending: u32,
    orders: watch::Sender<Orders>,
    told: mpsc::Receiver<Told>,
}

impl Crew {
    /// Starts the threads; they connect and wait.
    pub fn start<'scope>(scope: &'scope Scope<'scope, '_>, plan: &'scope Plan) -> Self {
        let (producing, consuming) = (threads(plan.producers), threads(plan.consumers));
        let threads = producing + consuming;
        let orders = watch::Sender::new(Orders::default());
        let (sender, told) = mpsc::channel(threads as usize + 1);
        for index in 0..consuming {
            let member = Member { plan, index, of: consuming, told: sender.clone() };
            let orders = orders.subscribe();
            scope.spawn(move || member.run(Member::consume, orders));
        }
        for index in 0..producing {
            let member = Member { plan, index, of: producing, told: sender.clone() };
            let orders = orders.subscribe();
            scope.spawn(move || member.run(Member::produce, orders));
        }
        let lanes = producing.max(consuming);
        Self { clock: Clock::new(), lanes, threads, sending: producing, orders, told }
    }

    /// Waits until all have their connections.
    pub async fn connected(&mut self) -> Result<(), Error> {
        for _ in 0..self.threads {
            match self.told.recv().await {
                Some(Told::Failed(error)) => return Err(error),
                Some(Told::Connected | Told::Sent) => {}
                None => return Err(Error::Closed),
            }
        }
        Ok(())
    }

    /// What is measured from `begin` on.
    pub fn shared(&self, start: Instant, begin: Instant) -> Arc<Shared> {
        Arc::new(Shared::new(self.clock, start, begin, self.lanes as usize))
    }

    /// Begins.
    pub fn begin(&self, start: Instant, begin: Instant) -> Arc<Shared> {
        let shared = self.shared(start, begin);
        self.orders.send_modify(|orders| orders.shared = Some(Arc::clone(&shared)));
        shared
    }

    /// The next thing that happens. Cancel safe.
    pub async fn word(&mut self) -> Word {
        loop {
            match self.told.recv().await {
                Some(Told::Connected) => {}
                Some(Told::Failed(error)) => return Word::Failed(error),
                Some(Told::Sent) => {
                    self.sending -= 1;
                    if self.sending == 0 {
                        return Word::Sent;
                    }
                }
                // All threads have ended, and have said so before.
                None => std::future::pending().await,
            }
        }
    }

    /// Ends all connections where they are.
    pub fn stop(&self) {
        self.orders.send_modify(|orders| orders.stopped = true);
    }
}

/// One thread.
struct Member<'a> {
    plan: &'a Plan,
    index: u32,
    /// Threads that do the same.
    of: u32,
    told: mpsc::Sender<Told>,
}

impl Member<'_> {
    fn run(
        self,
        work: impl AsyncFnOnce(&Self, &mut watch::Receiver<Orders>) -> Result<(), Error>,
        mut orders: watch::Receiver<Orders>,
    ) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                // Nobody listens only if the run has failed elsewhere; so below.
                let _ = self.told.blocking_send(Told::Failed(Error::Lost(Arc::new(error))));
                return;
            }
        };
        runtime.block_on(async {
            if let Err(error) = work(&self, &mut orders).await {
                let _ = self.told.send(Told::Failed(error)).await;
            }
        });
    }

    /// Says that it is ready, and waits for the others.
    async fn start(&self, orders: &mut watch::Receiver<Orders>) -> Option<Arc<Shared>> {
        let _ = self.told.send(Told::Connected).await;
        let orders = orders.wait_for(|orders| orders.shared.is_some()).await.ok()?;
        orders.shared.clone()
    }

    /// Those of `total` that are this thread's.
    fn mine(&self, total: u32) -> impl Iterator<Item = u32> {
        (self.index..total).step_by(self.of as usize)
    }

    async fn consume(&self, orders: &mut watch::Receiver<Orders>) -> Result<(), Error> {
        let plan = self.plan;
        let stopped = stopped(orders.clone());
        let room = (ROOM / plan.consumers as usize).clamp(ROOM_MIN, ROOM_MAX);
        let mut consumers = Vec::new();
        let worked = async {
            for index in self.mine(plan.consumers) {
                let queues = queues_of(&plan.queues, index as usize, plan.consumers as usize);
                let opened = Consumer::open(&plan.config, &queues, plan.acks, self.index as usize, room);
                consumers.push(opened.await?);
            }
            let Some(shared) = self.start(orders).await else { return Ok(()) };
            let mut running: FuturesUnordered<_> =
                consumers.iter_mut().map(|consumer| consumer.run(&shared)).collect();
            while let Some(ended) = running.next().await {
                ended?;
            }
            Ok(())
        };
        let ended = tokio::select! {
            ended = worked => ended,
            () = stopped => Ok(()),
        };
        close(consumers.iter_mut().map(Consumer::close)).await;
        ended
    }

    async fn produce(&self, orders: &mut watch::Receiver<Orders>) -> Result<(), Error> {
        let stopped = stopped(orders.clone());
        let mut producers = Vec::new();
        let ended = tokio::select! {
            ended = self.send(&mut producers, orders) => ended,
            () = stopped => Ok(()),
        };
        close(producers.iter_mut().map(Producer::close)).await;
        ended
    }

    async fn send(
        &self,
        producers: &mut Vec<Producer>,
        orders: &mut watch::Receiver<Orders>,
    ) -> Result<(), Error> {
        let plan = self.plan;
        let of = u64::from(plan.producers);
        for index in self.mine(plan.producers).map(u64::from) {
            let share = |count: u64| count / of + u64::from(index < count % of);
            let pace = Pace { count: plan.count.map(share), window: plan.window, index, of };
            let alone = plan.consumers == 0;
            let producer =
                Producer::open(&plan.config, &plan.message, pace, self.index as usize, alone).await?;
            producers.push(producer);
        }
        let Some(shared) = self.start(orders).await else { return Ok(()) };
        match &plan.rate {
            Some(rate) => paced(producers, rate, plan.after, &shared).await?,
            None => {
                let mut running: FuturesUnordered<_> =
                    producers.iter_mut().map(|producer| producer.run(&shared)).collect();
                while let Some(ended) = running.next().await {
                    ended?;
                }
            }
        }
        let _ = self.told.send(Told::Sent).await;
        // The connections stay until all is received.
        std::future::pending().await
    }
}

/// Returns when the run is over, or the command is.
async fn stopped(mut orders: watch::Receiver<Orders>) {
    let _ = orders.wait_for(|orders| orders.stopped).await;
}

/// Ends connections in order; a broker that does not answer in time is left.
async fn close(each: impl Iterator<Item = impl Future<Output = Result<(), Error>>>) {
    let mut closing: FuturesUnordered<_> = each.collect();
    let all = async { while closing.next().await.is_some() {} };
    let _ = tokio::time::timeout(CLOSE_WAIT_MAX, all).await;
}

/// The queues that a consumer takes from: one if there are enough consumers, else its part of them.
fn queues_of(queues: &[String], index: usize, consumers: usize) -> Vec<String> {
    match consumers >= queues.len() {
        true => vec![queues[index % queues.len()].clone()],
        false => queues.iter().skip(index).step_by(consumers).cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_has_a_consumer_and_every_consumer_a_queue() {
        let queues: Vec<String> = (0..7).map(|number| number.to_string()).collect();
        for consumers in 1..20 {
            let all: Vec<Vec<String>> =
                (0..consumers).map(|index| queues_of(&queues, index, consumers)).collect();
            assert!(all.iter().all(|taken| !taken.is_empty()), "{consumers}");
            assert!(queues.iter().all(|queue| all.iter().any(|taken| taken.contains(queue))), "{consumers}");
        }
    }
}
