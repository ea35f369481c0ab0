//! A queue that has to be there: whether it is, and who may make it.

use super::connect::Broker;
use crate::cli::exit::Failure;
use crate::mq::client::{Error, ErrorKind, Step};
use crate::mq::wire::{TableBuf, method};
use crate::shutdown::Shutdown;

/// The name of a queue. An empty one is none to AMQP: whoever declares it gets a new queue with a name of the broker's
/// (AMQP 0-9-1, queue.declare).
///
/// # Errors
/// It is empty, or has a line's end in it.
pub fn parse_name(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("a queue has a name".to_owned()) } else { parse_exchange(text) }
}

/// The name of an exchange, of which the empty one is the default. RabbitMQ takes line ends out of the names of queues and
/// exchanges where they are declared, bound and removed, and leaves them in routing keys: what was made, or removed, would
/// be another than what was asked for, and what is sent would not find it.
///
/// # Errors
/// It has a line's end in it.
pub fn parse_exchange(text: &str) -> Result<String, String> {
    if text.contains(['\r', '\n']) {
        return Err("brokers take line ends out of names: choose one without".to_owned());
    }
    Ok(text.to_owned())
}

/// It exists, whatever it is like.
pub fn there(name: &str) -> Step {
    step(name, true)
}

/// It exists and survives a restart.
pub fn durable(name: &str) -> Step {
    step(name, false)
}

fn step(name: &str, passive: bool) -> Step {
    let (name, arguments) = (name.to_owned(), TableBuf::new());
    Step::Queue { name, passive, durable: true, exclusive: false, auto_delete: false, arguments }
}

/// True if a question failed because a queue is not there.
pub fn is_missing(error: &Error) -> bool {
    let (class, number) = method::queue::Declare::ID;
    let of_declare =
        matches!(error, Error::Channel { class: c, method: m, .. } if (*c, *m) == (class, number));
    of_declare && error.kind() == ErrorKind::NotFound
}

/// True at a broker of one's own: it is there to be tried with.
///
/// # Errors
/// It cannot be reached.
pub async fn may_create(broker: &Broker, shutdown: &Shutdown) -> Result<bool, Failure> {
    let connection = broker.open(shutdown).await?;
    let is_own = broker.is_own(&connection);
    // It has said what was asked.
    let _ = connection.close().await;
    Ok(is_own)
}
