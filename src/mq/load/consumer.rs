//! A consumer: deliveries decoded where they were read, acknowledged in bulk.

use super::{BODY_SIZE_MIN, Shared};
use crate::mq::client::raw::{CHANNEL, RawConnection, refusal};
use crate::mq::client::{Config, Error};
use crate::mq::wire::method::basic;
use crate::mq::wire::{self, Kind, Method};

/// How deliveries are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// Not at all: the broker takes them for acknowledged when they are sent.
    Auto,
    /// So many at a time, with so many on their way at most; 0 for no limit.
    Every {
        /// Deliveries to an acknowledgement.
        deliveries: u64,
        /// Deliveries that are not acknowledged yet.
        prefetch: u16,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Consumer {
    connection: RawConnection,
    acks: Acks,
    lane: usize,
    progress: Progress,
    /// Acknowledgements, and how much of them is with the system.
    out: Vec<u8>,
    written: usize,
}

/// How far the deliveries have come.
#[derive(Debug, Default)]
struct Progress {
    /// Of the delivery that is coming.
    tag: u64,
    /// Of the last that has come whole, and of the last that was acknowledged.
    whole: u64,
    acknowledged: u64,
    /// Bytes of the body that are still to come.
    body_left: u64,
    /// The next part of a body is its first, and has the time.
    is_first: bool,
}

impl Consumer {
    /// Connects and consumes the queues. `room` is the size of the read buffer, in bytes.
    ///
    /// # Errors
    /// Nobody there, login refused, a queue that is not there.
    pub async fn open(
        config: &Config,
        queues: &[String],
        acks: Acks,
        lane: usize,
        room: usize,
    ) -> Result<Self, Error> {
        let mut connection = RawConnection::open(config, room).await?;
        if let Acks::Every { prefetch, .. } = acks {
            let qos = basic::Qos { prefetch_count: prefetch, ..Default::default() };
            connection.ask(&qos.into(), basic::QosOk::ID).await?;
        }
        let mut consumer =
            Self { connection, acks, lane, progress: Progress::default(), out: Vec::new(), written: 0 };
        for queue in queues {
            let consume = basic::Consume { queue, no_ack: acks == Acks::Auto, ..Default::default() };
            consumer.connection.ask(&consume.into(), basic::ConsumeOk::ID).await?;
        }
        Ok(consumer)
    }

    /// Takes deliveries until the connection ends: drop the future when there are enough.
    ///
    /// # Errors
    /// The connection ends.
    pub async fn run(&mut self, shared: &Shared) -> Result<(), Error> {
        loop {
            self.take(shared)?;
            if self.written == self.out.len() {
                self.out.clear();
                self.written = 0;
                self.acknowledge();
            }
            self.written += self.connection.turn(&self.out[self.written..]).await?;
        }
    }

    /// Ends the connection in order, wherever [`run`](Self::run) was left.
    ///
    /// # Errors
    /// It ends otherwise.
    pub async fn close(&mut self) -> Result<(), Error> {
        self.connection.close(&self.out[self.written..]).await
    }

    fn acknowledge(&mut self) {
        let Acks::Every { deliveries, .. } = self.acks else { return };
        let progress = &mut self.progress;
        if progress.whole >= progress.acknowledged + deliveries {
            let ack = basic::Ack { delivery_tag: progress.whole, multiple: true };
            wire::method(&mut self.out, CHANNEL, &ack.into());
            progress.acknowledged = progress.whole;
        }
    }

    /// Takes what was read.
    fn take(&mut self, shared: &Shared) -> Result<(), Error> {
        let now = shared.clock.nanos();
        let (mut count, mut bytes) = (0, 0);
        let measured = now >= shared.begin;
        let mut lane = shared.meter.lane(self.lane);
        let Self { connection, progress, .. } = self;
        while let Some(frame) = connection.next()? {
            match frame.kind {
                Kind::Method => match Method::decode(frame.payload)? {
                    Method::BasicDeliver(deliver) => progress.tag = deliver.delivery_tag,
                    method => refusal(&method)?,
                },
                Kind::Header => {
                    let size = frame.payload.get(4..12).and_then(|bytes| bytes.try_into().ok());
                    progress.body_left = size.map_or(0, u64::from_be_bytes);
                    progress.is_first = true;
                }
                Kind::Body => {
                    if measured
                        && std::mem::take(&mut progress.is_first)
                        && let Some(time) = frame.payload.first_chunk::<BODY_SIZE_MIN>()
                    {
                        lane.add_latency(now.saturating_sub(u64::from_be_bytes(*time)));
                    }
                    bytes += frame.payload.len() as u64;
                    progress.body_left = progress.body_left.saturating_sub(frame.payload.len() as u64);
                    if progress.body_left == 0 {
                        progress.whole = progress.tag;
                        count += 1;
                    }
                }
                Kind::Heartbeat => {}
            }
        }
        if measured && bytes > 0 {
            lane.add_messages(count, bytes, shared.elapsed(now));
        }
        drop(lane);
        if count > 0 {
            shared.add_received(count);
        }
        Ok(())
    }
}
