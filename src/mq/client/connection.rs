//! One connection, as long as it lasts.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::timeout;

use super::channel::Channel;
use super::link::{ChannelState, GOODBYE, Link};
use super::{Config, Error, driver, login};
use crate::mq::wire::method::{channel, connection};
use crate::mq::wire::{self, Method};
use crate::shutdown::Shutdown;
use crate::transport::Stream;

/// What a broker says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// `RabbitMQ`
    pub product: String,
    /// `3.13.7`
    pub version: String,
    /// `rabbit@host`
    pub cluster_name: String,
    /// `Erlang/OTP 26`
    pub platform: String,
}

/// A connection that is logged in and in its virtual host. Dropping it closes it in the background.
#[derive(Debug)]
pub struct Connection {
    link: Arc<Link>,
    reply_timeout: Duration,
}

impl Connection {
    /// Connects and logs in, once. Its task runs until the connection is closed or dropped, or `shutdown` stops.
    ///
    /// # Errors
    /// Nobody there, no broker there, login or virtual host refused.
    pub async fn open(config: &Config, shutdown: &Shutdown) -> Result<Self, Error> {
        let mut stream = Stream::connect_with(&config.address, &config.connect).await?;
        let mut input = BytesMut::new();
        let agreed = login::login(&mut stream, &mut input, config).await?;
        let link = Arc::new(Link::new(agreed));
        shutdown.spawn(driver::drive(stream, input, link.clone(), shutdown.clone()));
        Ok(Self { link, reply_timeout: config.reply_timeout })
    }

    /// What the broker says about itself.
    pub fn server(&self) -> &ServerInfo {
        &self.link.agreed.server
    }

    /// The largest frame, in bytes; 0 for no limit.
    pub fn frame_max(&self) -> u32 {
        self.link.agreed.frame_max
    }

    /// The interval of heartbeats; zero for none.
    pub fn heartbeat(&self) -> Duration {
        self.link.agreed.heartbeat
    }

    /// The broker's reason why publishers have to wait, while they have to.
    pub fn blocked(&self) -> Option<String> {
        self.link.state().blocked.clone()
    }

    /// Why the connection has ended; none while it has not.
    pub fn ended(&self) -> Option<Error> {
        self.link.state().ended.clone()
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// The broker allows no more, or the connection has ended.
    pub async fn channel(&self) -> Result<Channel, Error> {
        let channel_max = self.link.agreed.channel_max;
        let number = {
            let mut state = self.link.state();
            let free = (1..=channel_max).find(|number| !state.channels.contains_key(number));
            let number = free.ok_or(Error::Channels(channel_max))?;
            state.channels.insert(number, ChannelState::default());
            number
        };
        // From here on, dropping the channel frees the number.
        let opened = Channel::new(self.link.clone(), number, self.reply_timeout);
        opened.done(&channel::Open::default().into(), channel::OpenOk::ID).await?;
        Ok(opened)
    }

    /// Closes the connection, when everything that was sent before has been dealt with.
    ///
    /// # Errors
    /// It ended in another way before.
    pub async fn close(self) -> Result<(), Error> {
        let answer = {
            let goodbye =
                connection::Close { reply_code: GOODBYE, reply_text: "Goodbye", ..Default::default() };
            self.link.ask(0, &Method::from(goodbye), connection::CloseOk::ID)?
        };
        let ended = match timeout(self.reply_timeout, answer).await {
            Ok(Ok(Err(error))) => error,
            // The answer ends the connection, so that it never comes as an answer.
            Ok(Ok(Ok(_)) | Err(_)) => Error::Closed,
            Err(_) => return Err(Error::Timeout { what: "connection.close", after: self.reply_timeout }),
        };
        match ended {
            // A broker that closes the socket instead of answering has closed all the same.
            Error::Closed | Error::Ended => Ok(()),
            error => Err(error),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut state = self.link.state();
        if state.ended.is_none() && !state.leaving {
            state.leaving = true;
            let goodbye =
                connection::Close { reply_code: GOODBYE, reply_text: "Goodbye", ..Default::default() };
            wire::method(&mut state.out, 0, &goodbye.into());
        }
        drop(state);
        self.link.wake.notify_one();
        // The reader may be waiting for somebody to take deliveries.
        self.link.taken.notify_one();
    }
}
