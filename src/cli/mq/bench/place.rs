//! Where the messages of a run go: queues of its own, and an exchange for fan-out; made before and removed after.

use std::time::Duration;

use tokio::time::timeout;

use crate::cli::exit::Failure;
use crate::cli::mq::connect::Broker;
use crate::mq::client::{Channel, Connection, Error};
use crate::mq::wire::method::{exchange, queue};
use crate::mq::wire::{TableBuf, Value};
use crate::shutdown::Shutdown;

/// A queue that nobody has used for so long is gone, in milliseconds: what a killed run leaves behind.
const EXPIRES_MILLIS: i32 = 10 * 60 * 1000;

/// So long removing may take: a queue may hold millions.
const REMOVE_WAIT_MAX: Duration = Duration::from_secs(30);

/// See the module.
pub struct Place {
    exchange: Option<String>,
    queues: Vec<String>,
    connection: Connection,
}

impl Place {
    /// Makes it.
    ///
    /// # Errors
    /// No broker, or it refuses.
    pub async fn make(broker: &Broker, queues: u32, fan_out: bool, durable: bool) -> Result<Self, Failure> {
        let run = format!("bandy-bench-{:016x}", fastrand::u64(..));
        let connection = broker.open(&Shutdown::new()).await?;
        let place = Self {
            exchange: fan_out.then(|| run.clone()),
            queues: (1..=queues).map(|number| format!("{run}-{number}")).collect(),
            connection,
        };
        let made = place.declare(durable).await;
        match made {
            Ok(()) => Ok(place),
            Err(error) => {
                let failure = broker.failure(&error);
                // What was made before the refusal.
                let _ = place.remove(broker).await;
                Err(failure)
            }
        }
    }

    async fn declare(&self, durable: bool) -> Result<(), Error> {
        let channel = self.connection.channel().await?;
        if let Some(name) = &self.exchange {
            let declare = exchange::Declare { exchange: name, kind: "fanout", durable, ..Default::default() };
            channel.exchange_declare(declare).await?;
        }
        let arguments = TableBuf::new().with("x-expires", Value::I32(EXPIRES_MILLIS));
        for name in &self.queues {
            let declare = queue::Declare {
                queue: name,
                durable,
                arguments: arguments.as_table(),
                ..Default::default()
            };
            channel.queue_declare(declare).await?;
            if let Some(exchange) = &self.exchange {
                channel.queue_bind(queue::Bind { queue: name, exchange, ..Default::default() }).await?;
            }
        }
        Ok(())
    }

    /// The queues.
    pub fn queues(&self) -> &[String] {
        &self.queues
    }

    /// Exchange and routing key of each message in turn.
    pub fn routes(&self) -> Vec<(String, String)> {
        match &self.exchange {
            Some(exchange) => vec![(exchange.clone(), String::new())],
            None => self.queues.iter().map(|queue| (String::new(), queue.clone())).collect(),
        }
    }

    /// Removes it, with what is still in it.
    ///
    /// # Errors
    /// The broker is gone, or refuses.
    pub async fn remove(self, broker: &Broker) -> Result<(), Failure> {
        let Self { exchange, queues, connection } = self;
        let removing = async {
            let connection = match connection.ended() {
                None => connection,
                // It may have come back.
                Some(_) => Connection::open(&broker.config, &Shutdown::new()).await?,
            };
            let channel = connection.channel().await?;
            delete(&channel, exchange.as_deref(), &queues).await?;
            connection.close().await
        };
        match timeout(REMOVE_WAIT_MAX, removing).await {
            Ok(removed) => removed.map_err(|error| broker.failure(&error)),
            Err(_) => Err(broker.failure(&Error::Timeout { what: "queue.delete", after: REMOVE_WAIT_MAX })),
        }
    }
}

async fn delete(channel: &Channel, exchange: Option<&str>, queues: &[String]) -> Result<(), Error> {
    for queue in queues {
        channel.queue_delete(queue::Delete { queue, ..Default::default() }).await?;
    }
    if let Some(exchange) = exchange {
        channel.exchange_delete(exchange::Delete { exchange, ..Default::default() }).await?;
    }
    Ok(())
}
