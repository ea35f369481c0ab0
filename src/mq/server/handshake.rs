//! From the first byte to `connection.open`: protocol header, SASL, limits, virtual host. AMQP 0-9-1, 2.2.4.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::host::{Host, wall_clock};
use super::live::Terms;
use super::users::{Mechanism, Origin};
use super::{Broker, encode};
use crate::mq::engine::Access;
use crate::mq::wire::frame::{self, Protocol};
use crate::mq::wire::method::{Long, connection};
use crate::mq::wire::{
    self, Assembler, BODY_SIZE_MAX, Event, FRAME_SIZE_MIN, Method, PROTOCOL_HEADER, ReplyCode, Table,
    TableBuf, Value,
};
use crate::transport::Stream;

/// What is asked of the socket at once, before anybody has said who it is.
const READ_SIZE: usize = 4096;

/// A client that is in.
#[derive(Debug)]
pub(super) struct Client {
    pub host: Arc<Host>,
    pub access: Arc<Access>,
    pub terms: Terms,
    pub cancel_notify: bool,
    pub blocked_notify: bool,
    /// What it has sent beyond.
    pub ahead: BytesMut,
}

/// Why nobody came in.
#[derive(Debug)]
enum Refused {
    /// The socket is to be closed without a word.
    Silently(String),
    /// The client is told.
    With { code: ReplyCode, text: String, method: (u16, u16) },
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        Self::Silently(error.to_string())
    }
}

/// Talks until the client is in; none if it is not let in, or left. It was told why then.
pub(super) async fn handshake(broker: &Broker, stream: &mut Stream) -> Option<Client> {
    let mut talk = Talk {
        assembler: Assembler::new(broker.limits.frame_max_first, BODY_SIZE_MAX),
        buffer: BytesMut::new(),
        stream,
    };
    match talk.run(broker).await {
        Ok(client) => Some(client),
        Err(Refused::Silently(why)) => {
            tracing::debug!(peer = talk.stream.peer(), why, "not let in");
            let _ = talk.stream.shutdown().await;
            None
        }
        Err(Refused::With { code, text, method }) => {
            tracing::info!(peer = talk.stream.peer(), text, "not let in");
            let mut bytes = Vec::new();
            encode::close(&mut bytes, code.number(), &text, method);
            if talk.stream.write_all(&bytes).await.is_ok() {
                super::connection::await_close_ok(
                    talk.stream,
                    &mut talk.buffer,
                    broker.limits.close_wait_max,
                )
                .await;
            }
            None
        }
    }
}

struct Talk<'a> {
    stream: &'a mut Stream,
    buffer: BytesMut,
    assembler: Assembler,
}

/// What `connection.start-ok` said.
struct Introduction {
    mechanism: String,
    response: Vec<u8>,
    properties: TableBuf,
    failure_close: bool,
    cancel_notify: bool,
    blocked_notify: bool,
}

impl Talk<'_> {
    async fn run(&mut self, broker: &Broker) -> Result<Client, Refused> {
        self.header().await?;
        let origin = origin(self.stream);
        let mut mechanisms = "PLAIN AMQPLAIN".to_owned();
        if origin.certificate.is_some() {
            mechanisms.push_str(" EXTERNAL");
        }
        let properties = server_properties(broker.limits.version);
        let start = connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: properties.as_table(),
            mechanisms: Long(mechanisms.as_bytes()),
            locales: Long(b"en_US"),
        };
        self.say(&start.into()).await?;

        // Who has not said who it is gets no explanations.
        let said = self.next(|method| match method {
            Method::ConnectionStartOk(ok) => Some(introduction(&ok)),
            _ => None,
        });
        let said = said.await.map_err(|refused| match refused {
            Refused::With { text, .. } => Refused::Silently(text),
            silent => silent,
        })?;
        let offered = mechanisms.split(' ').any(|offered| offered == said.mechanism);
        let Some(mechanism) = Mechanism::of(&said.mechanism).filter(|_| offered) else {
            return Err(Refused::Silently(format!("unknown authentication mechanism '{}'", said.mechanism)));
        };
        let known = broker.users().authenticate(mechanism, &said.response, &origin);
        let logins = &broker.logins;
        let count = if known.is_some() { &logins.let_in } else { &logins.refused };
        count.fetch_add(1, Ordering::Relaxed);
        let Some(user) = known else {
            let text = format!(
                "Login was refused using authentication mechanism {}. For details see the broker logfile.",
                said.mechanism
            );
            let code = ReplyCode::AccessRefused;
            return Err(if said.failure_close {
                Refused::With { code, text: code.reply_text(text), method: (0, 0) }
            } else {
                Refused::Silently(text)
            });
        };

        let limits = &broker.limits;
        let offer = connection::Tune {
            channel_max: limits.channel_max,
            frame_max: limits.frame_max,
            heartbeat: limits.heartbeat,
        };
        self.say(&offer.into()).await?;
        let tuned = self.next(|method| match method {
            Method::ConnectionTuneOk(ok) => Some(ok),
            _ => None,
        });
        let tuned = tuned.await?;
        agreed("frame_max", FRAME_SIZE_MIN, limits.frame_max, tuned.frame_max)?;
        agreed("channel_max", 1, u32::from(limits.channel_max), u32::from(tuned.channel_max))?;
        self.assembler.set_frame_max(tuned.frame_max);

        let vhost = self.next(|method| match method {
            Method::ConnectionOpen(open) => Some(open.virtual_host.to_owned()),
            _ => None,
        });
        let vhost = vhost.await?;
        let refuse = |text: String| {
            let code = ReplyCode::NotAllowed;
            Refused::With { code, text: code.reply_text(text), method: connection::Open::ID }
        };
        let host = broker.host(&vhost).ok_or_else(|| refuse(format!("vhost {vhost} not found")))?;
        let access = broker
            .users()
            .access(&user, &vhost)
            .ok_or_else(|| refuse(format!("access to vhost '{vhost}' refused for user '{user}'")))?;
        if let Some(text) = broker.too_many(&user, &vhost) {
            return Err(refuse(text));
        }
        self.say(&connection::OpenOk { known_hosts: "" }.into()).await?;
        Ok(Client {
            host,
            access,
            terms: Terms {
                user,
                mechanism: mechanism.name(),
                client_properties: said.properties,
                channel_max: tuned.channel_max,
                frame_max: tuned.frame_max,
                heartbeat: tuned.heartbeat,
                connected_at: wall_clock(),
            },
            cancel_notify: said.cancel_notify,
            blocked_notify: said.blocked_notify,
            ahead: std::mem::take(&mut self.buffer),
        })
    }

    /// The eight bytes that a client begins with.
    async fn header(&mut self) -> Result<(), Refused> {
        loop {
            match frame::protocol(&self.buffer) {
                Protocol::Amqp091 => {
                    self.buffer.advance(PROTOCOL_HEADER.len());
                    return Ok(());
                }
                Protocol::Incomplete => self.read().await?,
                Protocol::Other => {
                    self.stream.write_all(&PROTOCOL_HEADER).await?;
                    return Err(Refused::Silently("speaks another protocol".to_owned()));
                }
            }
        }
    }

    async fn read(&mut self) -> Result<(), Refused> {
        self.buffer.reserve(READ_SIZE);
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            return Err(Refused::Silently("left".to_owned()));
        }
        Ok(())
    }

    async fn say(&mut self, method: &Method<'_>) -> Result<(), Refused> {
        let mut bytes = Vec::new();
        wire::method(&mut bytes, 0, method);
        self.stream.write_all(&bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// The method that is due; `take` knows it.
    async fn next<R>(&mut self, mut take: impl FnMut(Method<'_>) -> Option<R>) -> Result<R, Refused> {
        loop {
            // By its header: of a content the assembler would keep all that comes, for as long as the handshake lasts.
            if self.buffer.get(1..3).is_some_and(|channel| *channel != [0, 0]) {
                let code = ReplyCode::UnexpectedFrame;
                let text = code.reply_text("frame of a channel before connection.open");
                return Err(Refused::With { code, text, method: (0, 0) });
            }
            let mut input = &self.buffer[..];
            let event = self.assembler.next(&mut input);
            let taken = match event {
                Ok(Some(Event::Heartbeat)) => None,
                Ok(Some(Event::Method { channel: 0, method: Method::ConnectionClose(_) })) => {
                    self.say(&connection::CloseOk {}.into()).await?;
                    return Err(Refused::Silently("closed the connection".to_owned()));
                }
                Ok(Some(Event::Method { channel: 0, method })) => match take(method) {
                    Some(taken) => Some(taken),
                    None => {
                        let code = ReplyCode::ChannelError;
                        let text = code.reply_text("unexpected method before connection.open");
                        return Err(Refused::With { code, text, method: method.id() });
                    }
                },
                // Of another channel nothing gets here.
                Ok(Some(Event::Method { .. } | Event::Content { .. } | Event::Oversized { .. }) | None) => {
                    None
                }
                Err(error) => {
                    let (text, method) = (error.reply_text(), error.failing_method());
                    return Err(Refused::With { code: error.code(), text, method });
                }
            };
            let used = self.buffer.len() - input.len();
            self.buffer.advance(used);
            match taken {
                Some(taken) => return Ok(taken),
                None if used > 0 => {}
                None => self.read().await?,
            }
        }
    }
}

/// A limit that the client chose: not below what there has to be, nor above what was offered. RabbitMQ's words.
fn agreed(name: &str, min: u32, offered: u32, chosen: u32) -> Result<(), Refused> {
    let text = if chosen != 0 && chosen < min {
        format!("negotiated {name} = {chosen} is lower than the minimum allowed value ({min})")
    } else if offered != 0 && (chosen == 0 || chosen > offered) {
        format!("negotiated {name} = {chosen} is higher than the maximum allowed value ({offered})")
    } else {
        return Ok(());
    };
    let code = ReplyCode::NotAllowed;
    Err(Refused::With { code, text: code.reply_text(text), method: connection::TuneOk::ID })
}

fn origin(stream: &Stream) -> Origin {
    Origin {
        // Unix sockets never leave the machine.
        is_local: stream.peer_address().is_none_or(|peer| peer.ip().to_canonical().is_loopback()),
        certificate: stream.peer_certificate().map(|held| (held.common_name, held.subject)),
    }
}

fn introduction(ok: &connection::StartOk<'_>) -> Introduction {
    let capabilities = match ok.client_properties.get("capabilities") {
        Some(Value::Table(table)) => table,
        _ => Table::default(),
    };
    let can = |name: &str| capabilities.get(name).and_then(|value| value.as_bool()).unwrap_or(false);
    Introduction {
        mechanism: ok.mechanism.to_owned(),
        response: ok.response.0.to_vec(),
        properties: ok.client_properties.into(),
        failure_close: can("authentication_failure_close"),
        cancel_notify: can("consumer_cancel_notify"),
        blocked_notify: can("connection.blocked"),
    }
}

/// What RabbitMQ announces, as far as it is there; under its name, for clients act by it. What it really is stands under
/// `platform`.
fn server_properties(version: &str) -> TableBuf {
    let mut capabilities = TableBuf::new();
    for name in [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ] {
        capabilities.push(name, Value::Bool(true));
    }
    TableBuf::new()
        .with("capabilities", Value::Table(capabilities.as_table()))
        .with("cluster_name", Value::text("bandy"))
        .with("copyright", Value::text("The authors of bandy"))
        .with("information", Value::text("Licensed under the Apache License 2.0 or the MIT license."))
        .with("platform", Value::text(concat!("bandy ", env!("CARGO_PKG_VERSION"))))
        .with("product", Value::text("RabbitMQ"))
        .with("version", Value::text(version))
}
