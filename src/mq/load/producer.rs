//! A producer: prepared messages, many to a write, as fast as they are taken or when they are due.

use std::collections::VecDeque;
use std::time::Duration;

use super::{BODY_SIZE_MIN, Shared};
use crate::bench::Rate;
use crate::mq::client::raw::{CHANNEL, RawConnection, refusal};
use crate::mq::client::{Config, Error};
use crate::mq::wire::frame::HEADER_SIZE;
use crate::mq::wire::method::{basic, confirm};
use crate::mq::wire::{self, Fields, Kind, Method};

/// So much is gathered before it is written, in bytes.
const PIECE_SIZE: usize = 64 * 1024;

/// Room for confirms.
const READ_SIZE: usize = 16 * 1024;

/// A producer that waits for its next message sleeps at least so long: timers are no finer than this.
const SLEEP_MIN: Duration = Duration::from_micros(50);
/// And no longer than this, to see the end of the run.
const SLEEP_MAX: Duration = Duration::from_millis(5);

/// What is sent, to each of the routes in turn.
#[derive(Debug, Clone)]
pub struct Message {
    /// Exchange and routing key of each.
    pub routes: Vec<(String, String)>,
    /// Of the body, in bytes; at least [`BODY_SIZE_MIN`].
    pub size: usize,
    /// Whether brokers are to keep it on disk.
    pub persistent: bool,
}

impl Message {
    /// The frames of method and content header for each route, and those of the body, which are always the same.
    fn frames(&self, frame_max: u32) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut properties = Vec::new();
        let mode = self.persistent.then_some(2);
        Fields { delivery_mode: mode, ..Fields::default() }.encode(&mut properties);
        let body: Vec<u8> = (0..self.size.max(BODY_SIZE_MIN)).map(|at| b'a' + (at % 26) as u8).collect();
        let mut all = Vec::new();
        let mut prefixes = Vec::new();
        let mut header_end = 0;
        for (exchange, routing_key) in &self.routes {
            let publish =
                basic::Publish { exchange, routing_key: routing_key.as_bytes(), ..Default::default() };
            let mut prefix = Vec::new();
            wire::method(&mut prefix, CHANNEL, &publish.into());
            wire::header(&mut prefix, CHANNEL, basic::CLASS, &properties, body.len() as u64);
            all.clear();
            wire::content(&mut all, CHANNEL, &publish.into(), &properties, &body, frame_max);
            header_end = prefix.len();
            prefixes.push(prefix);
        }
        (prefixes, all.split_off(header_end))
    }
}

/// How many messages a producer sends, and how many may wait for their confirm.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// All that it sends; none for no end.
    pub count: Option<u64>,
    /// The window of confirms; none for no confirms.
    pub window: Option<u64>,
    /// It is this one of so many producers: it sends the messages whose number says so.
    pub index: u64,
    /// How many there are.
    pub of: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Producer {
    connection: RawConnection,
    prefixes: Vec<Vec<u8>>,
    body: Vec<u8>,
    pace: Pace,
    out: Vec<u8>,
    /// How much of that is with the system.
    written: usize,
    /// Messages put into `out` ever, and those that stand in it.
    sent: u64,
    gathered: u64,
    confirms: Confirms,
    /// Where it counts.
    lane: usize,
    /// Counts deliveries too: there are no consumers that would.
    alone: bool,
}

/// Publishes that wait for their confirm.
#[derive(Debug, Default)]
struct Confirms {
    /// When each was sent, oldest first; 0 for one that was confirmed out of turn.
    times: VecDeque<u64>,
    /// The tag of the oldest.
    first: u64,
    waiting: u64,
}

impl Confirms {
    /// Calls `each` with the time of every publish that this settles.
    fn settle(&mut self, tag: u64, multiple: bool, mut each: impl FnMut(u64)) {
        if multiple {
            while self.first <= tag
                && let Some(time) = self.times.pop_front()
            {
                self.first += 1;
                if time > 0 {
                    self.waiting -= 1;
                    each(time);
                }
            }
        } else if let Some(time) = tag.checked_sub(self.first).and_then(|at| self.times.get_mut(at as usize))
            && *time > 0
        {
            self.waiting -= 1;
            each(std::mem::take(time));
            while self.times.front() == Some(&0) {
                self.times.pop_front();
                self.first += 1;
            }
        }
    }
}

impl Producer {
    /// Connects. `lane` is where it counts in the meters; `alone` if there are no consumers.
    ///
    /// # Errors
    /// Nobody there, login refused, no confirms to be had.
    pub async fn open(
        config: &Config,
        message: &Message,
        pace: Pace,
        lane: usize,
        alone: bool,
    ) -> Result<Self, Error> {
        let mut connection = RawConnection::open(config, READ_SIZE).await?;
        if pace.window.is_some() {
            connection.ask(&confirm::Select::default().into(), confirm::SelectOk::ID).await?;
        }
        let (prefixes, body) = message.frames(connection.frame_max());
        let confirms = Confirms { first: 1, ..Confirms::default() };
        Ok(Self {
            connection,
            prefixes,
            body,
            pace,
            out: Vec::new(),
            written: 0,
            sent: 0,
            gathered: 0,
            confirms,
            lane,
            alone,
        })
    }

    /// Sends as fast as the broker takes it until all is sent, or the run is over; then waits for the confirms.
    ///
    /// # Errors
    /// The connection ends.
    pub async fn run(&mut self, shared: &Shared) -> Result<(), Error> {
        let each = self.prefixes[0].len() + self.body.len();
        let piece = (PIECE_SIZE / each).max(1) as u64;
        // Waiting for some room makes writes of many.
        let enough = self.pace.window.map_or(1, |window| (window / 4).clamp(1, piece));
        while !shared.is_over() && self.left() > 0 {
            let room = self.room();
            if room < enough.min(self.left()) {
                self.read(shared).await?;
                continue;
            }
            let now = shared.clock.nanos();
            for _ in 0..room.min(piece).min(self.left()) {
                self.put(now);
            }
            self.flush(shared).await?;
        }
        self.settle(shared).await
    }

    /// Ends the connection in order, wherever [`run`](Self::run) was left.
    ///
    /// # Errors
    /// It ends otherwise.
    pub async fn close(&mut self) -> Result<(), Error> {
        self.connection.close(&self.out[self.written..]).await
    }

    fn left(&self) -> u64 {
        self.pace.count.map_or(u64::MAX, |count| count - self.sent)
    }

    fn room(&self) -> u64 {
        self.pace.window.map_or(u64::MAX, |window| window.saturating_sub(self.confirms.waiting))
    }

    /// One message, said to be sent at `time`.
    #[inline]
    fn put(&mut self, time: u64) {
        let turn = (self.pace.index + self.sent * self.pace.of) % self.prefixes.len() as u64;
        self.out.extend_from_slice(&self.prefixes[turn as usize]);
        let at = self.out.len() + HEADER_SIZE;
        self.out.extend_from_slice(&self.body);
        self.out[at..at + BODY_SIZE_MIN].copy_from_slice(&time.to_be_bytes());
        self.sent += 1;
        self.gathered += 1;
        if self.pace.window.is_some() {
            self.confirms.times.push_back(time.max(1));
            self.confirms.waiting += 1;
        }
    }

    /// Writes what was put, reading confirms meanwhile.
    async fn flush(&mut self, shared: &Shared) -> Result<(), Error> {
        let count = std::mem::take(&mut self.gathered);
        while self.written < self.out.len() {
            self.written += self.connection.turn(&self.out[self.written..]).await?;
            self.take(shared)?;
        }
        self.out.clear();
        self.written = 0;
        let now = shared.clock.nanos();
        shared.add_sent(count, now);
        if self.alone && self.pace.window.is_none() && now >= shared.begin {
            let bytes = count * self.body.len() as u64;
            shared.meter.lane(self.lane).add_messages(count, bytes, shared.elapsed(now));
        }
        Ok(())
    }

    async fn read(&mut self, shared: &Shared) -> Result<(), Error> {
        self.connection.turn(&[]).await?;
        self.take(shared)
    }

    /// Waits until everything is confirmed.
    async fn settle(&mut self, shared: &Shared) -> Result<(), Error> {
        while self.confirms.waiting > 0 {
            self.read(shared).await?;
        }
        Ok(())
    }

    /// Takes what was read.
    fn take(&mut self, shared: &Shared) -> Result<(), Error> {
        let (mut lane, mut now) = (None, 0);
        let (mut confirmed, mut refused) = (0, 0);
        while let Some(frame) = self.connection.next()? {
            if frame.kind != Kind::Method {
                continue;
            }
            let (tag, multiple, taken) = match Method::decode(frame.payload)? {
                Method::BasicAck(ack) => (ack.delivery_tag, ack.multiple, true),
                Method::BasicNack(nack) => (nack.delivery_tag, nack.multiple, false),
                method => {
                    refusal(&method)?;
                    continue;
                }
            };
            let lane = lane.get_or_insert_with(|| {
                now = shared.clock.nanos();
                shared.confirms.lane(self.lane)
            });
            let measured = now >= shared.begin;
            self.confirms.settle(tag, multiple, |time| match taken {
                true if measured => {
                    confirmed += 1;
                    lane.add_latency(now.saturating_sub(time));
                }
                true => {}
                false => refused += 1,
            });
        }
        if let Some(mut lane) = lane {
            let bytes = confirmed * self.body.len() as u64;
            lane.add_messages(confirmed, bytes, shared.elapsed(now));
            lane.add_failures("refused", refused);
        }
        Ok(())
    }
}

/// Sends the messages of several producers when they are due, until all is sent or the run is over. Between them it
/// puts its thread to sleep, more exactly than timers of tasks do: it has to have a thread, and its runtime, for itself.
///
/// # Errors
/// A connection ends.
pub async fn paced(
    producers: &mut [Producer],
    rate: &Rate,
    after: Option<Duration>,
    shared: &Shared,
) -> Result<(), Error> {
    let due = |producer: &Producer| {
        let number = producer.pace.index + producer.sent * producer.pace.of;
        let start = rate.start(number).filter(|start| after.is_none_or(|after| *start < after));
        let start = start.filter(|_| producer.left() > 0)?;
        Some(shared.start + u64::try_from(start.as_nanos()).unwrap_or(u64::MAX))
    };
    while !shared.is_over() {
        let mut next = None;
        for producer in &mut *producers {
            let now = shared.clock.nanos();
            let mut at = due(producer);
            while let Some(time) = at.filter(|time| *time <= now)
                && producer.room() > 0
                && producer.out.len() < PIECE_SIZE
            {
                producer.put(time);
                at = due(producer);
            }
            if !producer.out.is_empty() {
                producer.flush(shared).await?;
            } else if producer.pace.window.is_some() {
                producer.glance(shared).await?;
            }
            next = [next, at].into_iter().flatten().min();
        }
        let Some(next) = next else { break };
        let wait = Duration::from_nanos(next.saturating_sub(shared.clock.nanos()));
        std::thread::sleep(wait.clamp(SLEEP_MIN, SLEEP_MAX));
    }
    for producer in producers {
        producer.settle(shared).await?;
    }
    Ok(())
}

impl Producer {
    /// Takes what has come, if anything has.
    async fn glance(&mut self, shared: &Shared) -> Result<(), Error> {
        // Once round the runtime, which learns then which sockets have something.
        tokio::task::yield_now().await;
        let looked = futures_util::FutureExt::now_or_never(self.connection.turn(&[]));
        match looked {
            Some(read) => {
                read?;
                self.take(shared)
            }
            None => Ok(()),
        }
    }
}
