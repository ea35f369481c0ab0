//! From a stream to an open virtual host: protocol header, SASL, limits. AMQP 0-9-1, 2.2.4.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::{Config, Credentials, Error, ServerInfo};
use crate::mq::wire::method::{Long, connection};
use crate::mq::wire::{self, FRAME_SIZE_MIN, Method, PROTOCOL_HEADER, Table, TableBuf, Value, frame};
use crate::transport::Stream;
use crate::transport::sasl::{EXTERNAL, Plain};

/// What both sides agreed on.
#[derive(Debug, Clone)]
pub(super) struct Agreed {
    pub server: ServerInfo,
    /// In bytes; 0 for no limit.
    pub frame_max: u32,
    /// The highest channel number.
    pub channel_max: u16,
    /// Zero for none.
    pub heartbeat: Duration,
}

/// The name of RabbitMQ's older mechanism: a field table instead of bytes with NULs.
const AMQPLAIN: &str = "AMQPLAIN";

/// Bytes of the largest frame before the limits are agreed on: servers tell much about themselves.
const START_FRAME_SIZE_MAX: u32 = 1 << 20;

/// How long a broker may take for its first word, which costs it nothing: RabbitMQ gives a client as long for the whole login.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// Logs in and opens the virtual host, within the time that a question may take. What was read beyond that stays in
/// `input`.
pub(super) async fn login(
    stream: &mut Stream,
    input: &mut BytesMut,
    config: &Config,
) -> Result<Agreed, Error> {
    wire::short(&config.vhost)?;
    let mut greeter = Greeter { stream, input, frame_max: START_FRAME_SIZE_MAX, asked: "the greeting" };
    let limit = GREETING_TIMEOUT.min(config.reply_timeout);
    match timeout(limit, greeter.greet()).await {
        Ok(met) => met?,
        Err(_) => return Err(Error::Mute(limit)),
    }
    let after = config.reply_timeout;
    let agreed = timeout(after, greeter.log_in(config)).await;
    agreed.unwrap_or_else(|_| Err(Error::Timeout { what: greeter.asked, after }))
}

struct Greeter<'a> {
    stream: &'a mut Stream,
    input: &'a mut BytesMut,
    frame_max: u32,
    /// What was said last, and is to be answered.
    asked: &'static str,
}

impl Greeter<'_> {
    /// Says the first words, and hears whether AMQP is spoken.
    async fn greet(&mut self) -> Result<(), Error> {
        self.stream.write_all(&PROTOCOL_HEADER).await?;
        self.stream.flush().await?;
        self.check_protocol().await
    }

    async fn log_in(&mut self, config: &Config) -> Result<Agreed, Error> {
        let mut says_why = false;
        let (server, response) = self
            .ask(&[], |method| match method {
                Method::ConnectionStart(start) => {
                    says_why = tells_of_refusals(start.server_properties);
                    Some(answer(&start, config))
                }
                _ => None,
            })
            .await??;
        let user = match &config.credentials {
            Credentials::Password { user, .. } => user.clone(),
            Credentials::External => "the certificate's user".to_owned(),
        };
        let refused = |error| match error {
            // RabbitMQ tells clients that can understand it; other brokers just leave.
            Error::Ended | Error::Lost(_) if !says_why => Error::LoginRefused { user: user.clone() },
            error => error,
        };
        self.asked = "connection.start-ok";
        let tune = self
            .ask(&response, |method| match method {
                Method::ConnectionTune(tune) => Some(tune),
                _ => None,
            })
            .await
            .map_err(refused)?;
        let agreed = agree(tune, config, server);
        self.frame_max = agreed.frame_max;
        let mut out = Vec::new();
        let tune_ok = connection::TuneOk {
            channel_max: agreed.channel_max,
            frame_max: agreed.frame_max,
            heartbeat: agreed.heartbeat.as_secs() as u16,
        };
        wire::method(&mut out, 0, &tune_ok.into());
        wire::method(
            &mut out,
            0,
            &connection::Open { virtual_host: &config.vhost, ..Default::default() }.into(),
        );
        self.asked = "connection.open";
        self.ask(&out, |method| matches!(method, Method::ConnectionOpenOk(_)).then_some(())).await?;
        Ok(agreed)
    }

    /// Tells a broker of another version, and what is no broker, by their first bytes.
    async fn check_protocol(&mut self) -> Result<(), Error> {
        while self.input.len() < PROTOCOL_HEADER.len() {
            self.read().await?;
        }
        match &self.input[..] {
            [b'A', b'M', b'Q', b'P', ..] => {
                Err(Error::NotAmqp("the server speaks another version of AMQP, not 0-9-1".to_owned()))
            }
            [1, 0, 0, ..] => Ok(()),
            [b'H', b'T', b'T', b'P', ..] => {
                Err(Error::NotAmqp("the server speaks HTTP, not AMQP 0-9-1".to_owned()))
            }
            // The first byte of a TLS alert or handshake.
            [0x15 | 0x16, 3, ..] => Err(Error::NotAmqp("the server speaks TLS: use amqps://".to_owned())),
            _ => Err(Error::NotAmqp("the server does not speak AMQP 0-9-1".to_owned())),
        }
    }

    async fn read(&mut self) -> Result<(), Error> {
        match self.stream.read_buf(self.input).await? {
            0 => Err(Error::Ended),
            _ => Ok(()),
        }
    }

    /// Sends, and takes the method that comes; a close is an error.
    async fn ask<T>(
        &mut self,
        sent: &[u8],
        mut take: impl FnMut(Method<'_>) -> Option<T>,
    ) -> Result<T, Error> {
        self.stream.write_all(sent).await?;
        self.stream.flush().await?;
        loop {
            let Some(found) = frame::decode(self.input, self.frame_max)? else {
                self.read().await?;
                continue;
            };
            let size = found.size();
            if found.kind == wire::Kind::Method {
                return match Method::decode(found.payload)? {
                    Method::ConnectionClose(close) => {
                        let error = Error::Connection {
                            code: close.reply_code,
                            text: close.reply_text.to_owned(),
                            class: close.class_id,
                            method: close.method_id,
                        };
                        let mut out = Vec::new();
                        wire::method(&mut out, 0, &connection::CloseOk {}.into());
                        // A courtesy: the broker has said why.
                        let _ = self.stream.write_all(&out).await;
                        Err(error)
                    }
                    method => {
                        let taken = take(method).ok_or(Error::Unexpected(method.name()));
                        let _ = self.input.split_to(size);
                        taken
                    }
                };
            }
            let _ = self.input.split_to(size);
        }
    }
}

/// Whether the server says so when it does not let a client in.
fn tells_of_refusals(properties: Table<'_>) -> bool {
    match properties.get("capabilities") {
        Some(Value::Table(capabilities)) => {
            matches!(capabilities.get("authentication_failure_close"), Some(Value::Bool(true)))
        }
        _ => false,
    }
}

/// The server's words about itself, and the answer to them.
fn answer(start: &connection::Start<'_>, config: &Config) -> Result<(ServerInfo, Vec<u8>), Error> {
    let offered = String::from_utf8_lossy(start.mechanisms.0).into_owned();
    let offers = |name: &str| offered.split_ascii_whitespace().any(|mechanism| mechanism == name);
    let (mechanism, response) = match &config.credentials {
        Credentials::Password { user, password } if !offers(Plain::NAME) && offers(AMQPLAIN) => {
            let login = TableBuf::new()
                .with("LOGIN", Value::text(user))
                .with("PASSWORD", Value::text(password.expose()));
            (AMQPLAIN, login.as_table().as_bytes().to_vec())
        }
        Credentials::Password { user, password } if offers(Plain::NAME) => {
            (Plain::NAME, Plain::new(user, password.clone()).response())
        }
        Credentials::Password { .. } => return Err(Error::Mechanism { offered, wanted: Plain::NAME }),
        Credentials::External if offers(EXTERNAL) => (EXTERNAL, Vec::new()),
        Credentials::External => return Err(Error::Mechanism { offered, wanted: EXTERNAL }),
    };
    let properties = client_properties(config);
    let answer = connection::StartOk {
        client_properties: properties.as_table(),
        mechanism,
        response: Long(&response),
        locale: "en_US",
    };
    let mut out = Vec::new();
    wire::method(&mut out, 0, &answer.into());
    Ok((server_info(start.server_properties), out))
}

/// What RabbitMQ shows about a connection, and what it may send.
fn client_properties(config: &Config) -> TableBuf {
    let mut capabilities = TableBuf::new();
    for name in [
        "authentication_failure_close",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "exchange_exchange_bindings",
        "publisher_confirms",
    ] {
        capabilities.push(name, Value::Bool(true));
    }
    let mut properties = TableBuf::new()
        .with("product", Value::text("bandy"))
        .with("version", Value::text(env!("CARGO_PKG_VERSION")))
        .with("platform", Value::text("Rust"))
        .with("capabilities", Value::Table(capabilities.as_table()));
    if !config.name.is_empty() {
        properties.push("connection_name", Value::text(&config.name));
    }
    properties
}

fn server_info(properties: Table<'_>) -> ServerInfo {
    let text = |name| properties.get(name).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    ServerInfo {
        product: text("product"),
        version: text("version"),
        cluster_name: text("cluster_name"),
        platform: text("platform"),
    }
}

/// The lower of two limits, where 0 is none.
fn agree(tune: connection::Tune, config: &Config, server: ServerInfo) -> Agreed {
    let lower = |ours: u64, theirs: u64| match (ours, theirs) {
        (0, limit) | (limit, 0) => limit,
        (ours, theirs) => ours.min(theirs),
    };
    let heartbeat = config.heartbeat.as_secs().min(u16::MAX.into());
    // Zero from us turns them off; RabbitMQ takes it.
    let heartbeat = if heartbeat == 0 { 0 } else { lower(heartbeat, tune.heartbeat.into()) };
    let channel_max = lower(u16::MAX.into(), tune.channel_max.into()) as u16;
    let frame_max = lower(config.frame_max.into(), tune.frame_max.into()) as u32;
    // A server that asks for less than the specification allows gets the least that is allowed.
    let frame_max = if frame_max == 0 { 0 } else { frame_max.max(FRAME_SIZE_MIN) };
    Agreed { server, frame_max, channel_max, heartbeat: Duration::from_secs(heartbeat) }
}
