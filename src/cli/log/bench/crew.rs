//! The threads of a run: one for each producer and consumer, with a runtime and connections of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Scope;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};

use crate::bench::{Meter, Rate};
use crate::log::client::{
    Assignment, Cluster, Config, ConsumeOptions, Consumer, Error, Message, Outcome, ProduceOptions, Producer,
    TopicHandle,
};
use crate::shutdown::Shutdown;

/// The time of sending stands at the front of every value.
pub const STAMP_BYTES: usize = 8;
/// Between two looks whether it is over, in records.
const LOOK_EVERY: u64 = 64;

/// What is to be done.
pub struct Plan {
    pub config: Config,
    pub topic: String,
    pub partitions: i32,
    pub producers: u32,
    pub consumers: u32,
    pub count: Option<u64>,
    pub rate: Option<Rate>,
    pub size: usize,
    pub options: ProduceOptions,
}

/// What all threads count, and when it is over.
pub struct Shared {
    base: Instant,
    /// When all had their connections, and began.
    begun: AtomicU64,
    /// Records that were read, with their latencies from sending.
    pub read: Meter,
    /// Records that were acknowledged, with their latencies from sending.
    pub acknowledged: Meter,
    sent: AtomicU64,
    read_ever: AtomicU64,
    is_over: AtomicBool,
    progress: Notify,
}

impl Shared {
    fn nanos(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// From the begin to a time.
    fn elapsed(&self, nanos: u64) -> Duration {
        Duration::from_nanos(nanos.saturating_sub(self.begun.load(Ordering::Relaxed)))
    }

    /// Producers stop at their next record.
    pub fn stop(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Do producers stop?
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Records that were sent.
    pub fn sent_ever(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    /// Records that were read.
    pub fn read_ever(&self) -> u64 {
        self.read_ever.load(Ordering::Acquire)
    }

    /// Returns when everything that was sent has been read. Nothing more may be sent by then.
    pub async fn all_read(&self) {
        while self.read_ever() < self.sent_ever() {
            self.progress.notified().await;
        }
    }
}

/// What a thread tells.
enum Told {
    Ready,
    Sent,
    Failed(Error),
}

/// What became of the run.
pub enum Word {
    /// All producers have sent all, and have heard what became of it.
    Sent,
    /// A connection ended.
    Failed(Error),
}

/// The running threads. Dropping it lets them go.
pub struct Crew {
    pub shared: Arc<Shared>,
    threads: u32,
    sending: u32,
    orders: watch::Sender<Order>,
    told: mpsc::Receiver<Told>,
}

/// What the threads are told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Wait,
    Go,
    Leave,
}

impl Crew {
    /// Starts the threads; they connect and wait.
    pub fn start<'scope>(scope: &'scope Scope<'scope, '_>, plan: &'scope Plan) -> Self {
        let base = Instant::now();
        let lanes = |count: u32| Meter::new(count.max(1) as usize, base.into());
        let shared = Arc::new(Shared {
            base,
            begun: AtomicU64::new(0),
            read: lanes(plan.consumers),
            acknowledged: lanes(plan.producers),
            sent: AtomicU64::new(0),
            read_ever: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            progress: Notify::new(),
        });
        let threads = plan.producers + plan.consumers;
        let orders = watch::Sender::new(Order::Wait);
        let (sender, told) = mpsc::channel(threads as usize + 1);
        for index in 0..threads {
            let member = Member {
                plan,
                index,
                shared: Arc::clone(&shared),
                told: sender.clone(),
                orders: orders.subscribe(),
            };
            scope.spawn(move || member.run());
        }
        Self { shared, threads, sending: plan.producers, orders, told }
    }

    /// Waits until all have their connections.
    pub async fn ready(&mut self) -> Result<(), Error> {
        for _ in 0..self.threads {
            match self.told.recv().await {
                Some(Told::Failed(error)) => return Err(error),
                Some(Told::Ready | Told::Sent) => {}
                None => return Err(Error::Closed),
            }
        }
        Ok(())
    }

    /// Begins.
    pub fn go(&self) {
        self.shared.begun.store(self.shared.nanos(), Ordering::Relaxed);
        self.orders.send_replace(Order::Go);
    }

    /// Ends everything where it is.
    pub fn dismiss(&self) {
        self.shared.stop();
        self.orders.send_replace(Order::Leave);
    }

    /// The next thing that happens. Cancel safe.
    pub async fn word(&mut self) -> Word {
        loop {
            match self.told.recv().await {
                Some(Told::Ready) => {}
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
}

/// One thread: the first ones produce, the others consume.
struct Member<'a> {
    plan: &'a Plan,
    index: u32,
    shared: Arc<Shared>,
    told: mpsc::Sender<Told>,
    orders: watch::Receiver<Order>,
}

impl Member<'_> {
    fn run(mut self) {
        let told = self.told.clone();
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                // Nobody listens only if the run has failed elsewhere; so below.
                let _ = told.blocking_send(Told::Failed(error.into()));
                return;
            }
        };
        runtime.block_on(async {
            let mut dismissed = self.orders.clone();
            let work = async {
                match self.index.checked_sub(self.plan.producers) {
                    None => self.produce().await,
                    Some(index) => self.consume(index).await,
                }
            };
            let ended = tokio::select! {
                ended = work => ended,
                _ = dismissed.wait_for(|order| *order == Order::Leave) => Ok(()),
            };
            if let Err(error) = ended {
                let _ = told.send(Told::Failed(error)).await;
            }
        });
    }

    /// Says that it is ready, and waits for the others.
    async fn begin(&mut self) {
        let _ = self.told.send(Told::Ready).await;
        let _ = self.orders.wait_for(|order| *order != Order::Wait).await;
    }

    async fn produce(&mut self) -> Result<(), Error> {
        let mut config = self.plan.config.clone();
        config.seed = config.seed.wrapping_add(self.index.into());
        let cluster = Cluster::open(config, &Shutdown::new()).await?;
        let mut producer = Producer::new(cluster, self.plan.options.clone());
        let topic = producer.topic(&self.plan.topic).await?;
        self.begin().await;
        let mut sender = Sender {
            shared: &self.shared,
            lane: self.index as usize,
            value: vec![b'x'; self.plan.size],
            stamps: VecDeque::new(),
            first: 0,
        };
        let (of, index) = (u64::from(self.plan.producers), u64::from(self.index));
        let share = self.plan.count.map(|count| count / of + u64::from(index < count % of));
        let begun = self.shared.nanos();
        for number in 0..share.unwrap_or(u64::MAX) {
            match &self.plan.rate {
                None => {
                    if number.is_multiple_of(LOOK_EVERY) && self.shared.is_over() {
                        break;
                    }
                    let stamp = self.shared.nanos();
                    sender.put(&mut producer, topic, stamp).await?;
                }
                Some(rate) => {
                    // Producers take the turns of one schedule.
                    let Some(due) = rate.start(number * of + index) else { break };
                    let due = begun + u64::try_from(due.as_nanos()).unwrap_or(u64::MAX);
                    if !sender.wait(&mut producer, due).await? {
                        break;
                    }
                    sender.put(&mut producer, topic, due).await?;
                }
            }
        }
        producer.flush().await?;
        sender.settle(&mut producer);
        let _ = self.told.send(Told::Sent).await;
        Ok(())
    }

    async fn consume(&mut self, index: u32) -> Result<(), Error> {
        let cluster = Cluster::open(self.plan.config.clone(), &Shutdown::new()).await?;
        let mine = (0..self.plan.partitions).filter(|it| it.unsigned_abs() % self.plan.consumers == index);
        let topic: Arc<str> = self.plan.topic.as_str().into();
        let all = |partition| Assignment { topic: topic.clone(), partition, from: 0, to: None };
        let assignments: Vec<Assignment> = mine.map(all).collect();
        let mut consumer = Consumer::new(cluster, ConsumeOptions::default(), assignments);
        self.begin().await;
        let lane = index as usize;
        while let Some(fetched) = consumer.next().await? {
            let now = self.shared.nanos();
            let (mut count, mut bytes) = (0, 0);
            let mut tally = self.shared.read.lane(lane);
            for record in fetched.wanted() {
                let value = record?.value.unwrap_or_default();
                let stamp = value.first_chunk().map_or(now, |stamp| u64::from_be_bytes(*stamp));
                tally.add_latency(now.saturating_sub(stamp));
                count += 1;
                bytes += value.len() as u64;
            }
            tally.add_messages(count, bytes, self.shared.elapsed(now));
            drop(tally);
            self.shared.read_ever.fetch_add(count, Ordering::AcqRel);
            self.shared.progress.notify_one();
        }
        // More consumers than partitions: nothing comes, and that is no failure.
        std::future::pending().await
    }
}

/// What a producer remembers of what it has sent.
struct Sender<'a> {
    shared: &'a Shared,
    lane: usize,
    value: Vec<u8>,
    /// When the records without an outcome were sent, from number `first` on; those that have one are 0.
    stamps: VecDeque<u64>,
    first: u64,
}

impl Sender<'_> {
    async fn put(&mut self, producer: &mut Producer, topic: TopicHandle, stamp: u64) -> Result<(), Error> {
        self.value[..STAMP_BYTES].copy_from_slice(&stamp.to_be_bytes());
        let timestamp = jiff::Timestamp::now().as_millisecond();
        let message = Message { value: Some(&self.value), timestamp, ..Message::default() };
        let (_, is_full) = producer.put(topic, None, &message)?;
        self.stamps.push_back(stamp.max(1));
        self.shared.sent.fetch_add(1, Ordering::AcqRel);
        if is_full {
            producer.make_room().await?;
            self.settle(producer);
        }
        Ok(())
    }

    /// Waits until a record is due, and meanwhile sends what there is; false if the run is over before.
    async fn wait(&mut self, producer: &mut Producer, due: u64) -> Result<bool, Error> {
        loop {
            if self.shared.is_over() {
                return Ok(false);
            }
            let now = self.shared.nanos();
            if now >= due {
                return Ok(true);
            }
            // Not longer than this: whoever stops the run is not to wait.
            let pause = Duration::from_nanos(due - now).min(Duration::from_millis(50));
            tokio::select! {
                biased;
                () = tokio::time::sleep(pause) => {}
                flushed = producer.flush(), if producer.waiting() > 0 => flushed?,
            }
            self.settle(producer);
        }
    }

    /// Looks at what became of records.
    fn settle(&mut self, producer: &mut Producer) {
        let now = self.shared.nanos();
        let mut tally = self.shared.acknowledged.lane(self.lane);
        let size = self.value.len() as u64;
        for Outcome { ids, result } in producer.outcomes() {
            let count = ids.len() as u64;
            match result {
                Ok(_) => tally.add_messages(count, count * size, self.shared.elapsed(now)),
                Err(_) => tally.add_failures("refused", count),
            }
            for id in ids {
                let at = usize::try_from(id - self.first).unwrap_or(usize::MAX);
                if let Some(stamp) = self.stamps.get_mut(at) {
                    tally.add_latency(now.saturating_sub(*stamp));
                    *stamp = 0;
                }
            }
        }
        drop(tally);
        while self.stamps.front() == Some(&0) {
            self.stamps.pop_front();
            self.first += 1;
        }
    }
}
