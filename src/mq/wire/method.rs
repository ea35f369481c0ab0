//! Every method of AMQP 0-9-1 and of RabbitMQ's extensions, as a struct of its fields in the order of the wire.
//!
//! One table, in the specification's order. Reserved fields are named after what they were, because a broker has to
//! see what a client put there. Names are UTF-8; routing keys of messages are any bytes.

use super::error::Error;
use super::primitive::{Field, FieldError, Reader, Writer};
use super::{Output, Table};

pub use super::primitive::Long;

/// Octets of arguments that an error keeps: more do not fit a reply text.
const ARGUMENTS_SHOWN: usize = 128;

macro_rules! protocol {
    ($(
        $(#[$about:meta])*
        $module:ident = $class:literal {$(
            $(#[$doc:meta])*
            $Name:ident $(<$life:lifetime>)? = $id:literal, $Variant:ident, $words:literal {
                $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)?
            }
        )*}
    )*) => {
        $(
            $(#[$about])*
            pub mod $module {
                use super::*;

                /// The number of the class.
                pub const CLASS: u16 = $class;

                $(
                    $(#[$doc])*
                    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
                    #[allow(missing_docs, reason = "the specification's own names")]
                    pub struct $Name $(<$life>)? {
                        $($(#[$field_doc])* pub $field: $type,)*
                    }

                    impl $(<$life>)? $Name $(<$life>)? {
                        /// Class and number.
                        pub const ID: (u16, u16) = ($class, $id);

                        /// Appends the arguments without class and number.
                        #[inline]
                        #[allow(unused_variables, reason = "some methods have no arguments")]
                        pub(in crate::mq::wire) fn write<O: Output>(&self, writer: &mut Writer<'_, O>) {
                            $(self.$field.write(writer);)*
                            writer.end_bits();
                        }
                    }

                    impl<'a> From<$Name $(<$life>)?> for Method<'a> $(where $life: 'a, 'a: $life)? {
                        fn from(method: $Name $(<$life>)?) -> Self {
                            Method::$Variant(method)
                        }
                    }
                )*
            }
        )*

        /// One method with its arguments.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "named after class and method; documented at the structs")]
        pub enum Method<'a> {
            $($($Variant($module::$Name $(<$life>)?),)*)*
        }

        impl<'a> Method<'a> {
            /// Reads the payload of a method frame: class, number, arguments.
            ///
            /// # Errors
            /// No such method, or arguments that are not exactly those of the method.
            #[inline]
            #[expect(clippy::redundant_closure_call, reason = "the closure is where `?` of one method ends")]
            pub fn decode(payload: &'a [u8]) -> Result<Self, Error> {
                let Some((&[c0, c1, m0, m1], arguments)) = payload.split_first_chunk::<4>() else {
                    return Err(Error::UnknownFrame { kind: 1, payload: Error::snippet(payload) });
                };
                let (class, method) = (u16::from_be_bytes([c0, c1]), u16::from_be_bytes([m0, m1]));
                let mut reader = Reader::new(arguments);
                let decoded = match (class, method) {
                    $($(
                        ($class, $id) => (|| {
                            let method = $module::$Name { $($field: Field::read(&mut reader)?,)* };
                            Ok(Method::$Variant(method))
                        })(),
                    )*)*
                    _ => return Err(Error::UnknownMethod { class, method }),
                };
                match decoded {
                    Ok(decoded) if reader.rest().is_empty() => Ok(decoded),
                    Err(FieldError::Refused(error)) => Err(error),
                    Ok(_) | Err(FieldError::Cut) => Err(cannot_decode(class, method, arguments)),
                }
            }

            /// Appends class, number and arguments: the payload of a method frame. Strings that do not fit a short
            /// string are cut; [`short`](super::short) tells before.
            #[inline]
            pub fn encode<O: Output>(&self, out: &mut O) {
                let mut writer = Writer::new(out);
                match self {
                    $($(
                        Method::$Variant(method) => {
                            writer.put(&const { id_bytes($class, $id) });
                            method.write(&mut writer);
                        }
                    )*)*
                }
            }

            /// Class and number.
            pub const fn id(&self) -> (u16, u16) {
                match self {
                    $($(Method::$Variant(_) => ($class, $id),)*)*
                }
            }

            /// The specification's name: `queue.declare`.
            pub const fn name(&self) -> &'static str {
                match self {
                    $($(Method::$Variant(_) => $words,)*)*
                }
            }
        }

        /// The name of a method by class and number, for messages about closes; none if there is no such method.
        pub fn name_of(class: u16, method: u16) -> Option<&'static str> {
            match (class, method) {
                $($(($class, $id) => Some($words),)*)*
                _ => None,
            }
        }
    };
}

const fn id_bytes(class: u16, method: u16) -> [u8; 4] {
    let ([c0, c1], [m0, m1]) = (class.to_be_bytes(), method.to_be_bytes());
    [c0, c1, m0, m1]
}

#[cold]
fn cannot_decode(class: u16, method: u16, arguments: &[u8]) -> Error {
    Error::Arguments { class, method, arguments: arguments.iter().take(ARGUMENTS_SHOWN).copied().collect() }
}

protocol! {
    /// The connection as a whole; on channel 0.
    connection = 10 {
        /// The server's first words.
        Start<'a> = 10, ConnectionStart, "connection.start" {
            version_major: u8,
            version_minor: u8,
            server_properties: Table<'a>,
            /// Names with spaces between them.
            mechanisms: Long<'a>,
            /// Names with spaces between them.
            locales: Long<'a>,
        }
        /// The client's choice of a mechanism, and its credentials.
        StartOk<'a> = 11, ConnectionStartOk, "connection.start-ok" {
            client_properties: Table<'a>,
            mechanism: &'a str,
            response: Long<'a>,
            locale: &'a str,
        }
        /// A further challenge of the mechanism.
        Secure<'a> = 20, ConnectionSecure, "connection.secure" { challenge: Long<'a> }
        /// The answer to it.
        SecureOk<'a> = 21, ConnectionSecureOk, "connection.secure-ok" { response: Long<'a> }
        /// The server's limits.
        Tune = 30, ConnectionTune, "connection.tune" {
            /// The highest channel number; 0 for no limit.
            channel_max: u16,
            /// In bytes, with header and end; 0 for no limit.
            frame_max: u32,
            /// In seconds; 0 for none.
            heartbeat: u16,
        }
        /// The limits that hold from now on.
        TuneOk = 31, ConnectionTuneOk, "connection.tune-ok" {
            /// The highest channel number; 0 for no limit.
            channel_max: u16,
            /// In bytes, with header and end; 0 for no limit.
            frame_max: u32,
            /// In seconds; 0 for none.
            heartbeat: u16,
        }
        /// Enters a virtual host.
        Open<'a> = 40, ConnectionOpen, "connection.open" {
            virtual_host: &'a str,
            capabilities: &'a str,
            insist: bool,
        }
        /// The virtual host is entered.
        OpenOk<'a> = 41, ConnectionOpenOk, "connection.open-ok" { known_hosts: &'a str }
        /// Ends the connection; from either side.
        Close<'a> = 50, ConnectionClose, "connection.close" {
            reply_code: u16,
            reply_text: &'a str,
            /// The method to blame; 0 for none.
            class_id: u16,
            method_id: u16,
        }
        /// The connection has ended.
        CloseOk = 51, ConnectionCloseOk, "connection.close-ok" {}
        /// RabbitMQ: publishers have to wait.
        Blocked<'a> = 60, ConnectionBlocked, "connection.blocked" { reason: &'a str }
        /// RabbitMQ: publishers may go on.
        Unblocked = 61, ConnectionUnblocked, "connection.unblocked" {}
        /// RabbitMQ: new credentials, for those that expire.
        UpdateSecret<'a> = 70, ConnectionUpdateSecret, "connection.update-secret" {
            new_secret: Long<'a>,
            reason: &'a str,
        }
        /// RabbitMQ: the new credentials are taken.
        UpdateSecretOk = 71, ConnectionUpdateSecretOk, "connection.update-secret-ok" {}
    }

    /// One channel of a connection.
    channel = 20 {
        /// Opens the channel.
        Open<'a> = 10, ChannelOpen, "channel.open" { out_of_band: &'a str }
        /// The channel is open.
        OpenOk<'a> = 11, ChannelOpenOk, "channel.open-ok" { channel_id: Long<'a> }
        /// Stops or resumes deliveries. RabbitMQ refuses to stop.
        Flow = 20, ChannelFlow, "channel.flow" { active: bool }
        /// Deliveries are stopped or resumed.
        FlowOk = 21, ChannelFlowOk, "channel.flow-ok" { active: bool }
        /// Ends the channel; from either side.
        Close<'a> = 40, ChannelClose, "channel.close" {
            reply_code: u16,
            reply_text: &'a str,
            /// The method to blame; 0 for none.
            class_id: u16,
            method_id: u16,
        }
        /// The channel has ended.
        CloseOk = 41, ChannelCloseOk, "channel.close-ok" {}
    }

    /// Access tickets: of AMQP 0-8, and still asked for by old clients.
    access = 30 {
        /// Asks for a ticket.
        Request<'a> = 10, AccessRequest, "access.request" {
            realm: &'a str,
            exclusive: bool,
            passive: bool,
            active: bool,
            write: bool,
            read: bool,
        }
        /// A ticket, which nobody looks at.
        RequestOk = 11, AccessRequestOk, "access.request-ok" { ticket: u16 }
    }

    /// Exchanges.
    exchange = 40 {
        /// Creates an exchange, or checks that it exists as asked for.
        Declare<'a> = 10, ExchangeDeclare, "exchange.declare" {
            ticket: u16,
            exchange: &'a str,
            kind: &'a str,
            passive: bool,
            durable: bool,
            auto_delete: bool,
            internal: bool,
            nowait: bool,
            arguments: Table<'a>,
        }
        /// The exchange exists.
        DeclareOk = 11, ExchangeDeclareOk, "exchange.declare-ok" {}
        /// Deletes an exchange.
        Delete<'a> = 20, ExchangeDelete, "exchange.delete" {
            ticket: u16,
            exchange: &'a str,
            if_unused: bool,
            nowait: bool,
        }
        /// The exchange does not exist.
        DeleteOk = 21, ExchangeDeleteOk, "exchange.delete-ok" {}
        /// RabbitMQ: messages from `source` go to the exchange `destination` too.
        Bind<'a> = 30, ExchangeBind, "exchange.bind" {
            ticket: u16,
            destination: &'a str,
            source: &'a str,
            routing_key: &'a str,
            nowait: bool,
            arguments: Table<'a>,
        }
        /// RabbitMQ: the binding exists.
        BindOk = 31, ExchangeBindOk, "exchange.bind-ok" {}
        /// RabbitMQ: removes a binding.
        Unbind<'a> = 40, ExchangeUnbind, "exchange.unbind" {
            ticket: u16,
            destination: &'a str,
            source: &'a str,
            routing_key: &'a str,
            nowait: bool,
            arguments: Table<'a>,
        }
        /// RabbitMQ: the binding does not exist.
        UnbindOk = 51, ExchangeUnbindOk, "exchange.unbind-ok" {}
    }

    /// Queues.
    queue = 50 {
        /// Creates a queue, or checks that it exists as asked for. An empty name asks the server for one.
        Declare<'a> = 10, QueueDeclare, "queue.declare" {
            ticket: u16,
            queue: &'a str,
            passive: bool,
            durable: bool,
            exclusive: bool,
            auto_delete: bool,
            nowait: bool,
            arguments: Table<'a>,
        }
        /// The queue exists.
        DeclareOk<'a> = 11, QueueDeclareOk, "queue.declare-ok" {
            queue: &'a str,
            message_count: u32,
            consumer_count: u32,
        }
        /// Messages of the exchange go to the queue.
        Bind<'a> = 20, QueueBind, "queue.bind" {
            ticket: u16,
            queue: &'a str,
            exchange: &'a str,
            routing_key: &'a str,
            nowait: bool,
            arguments: Table<'a>,
        }
        /// The binding exists.
        BindOk = 21, QueueBindOk, "queue.bind-ok" {}
        /// Removes the messages that wait.
        Purge<'a> = 30, QueuePurge, "queue.purge" { ticket: u16, queue: &'a str, nowait: bool }
        /// They are removed.
        PurgeOk = 31, QueuePurgeOk, "queue.purge-ok" { message_count: u32 }
        /// Deletes a queue.
        Delete<'a> = 40, QueueDelete, "queue.delete" {
            ticket: u16,
            queue: &'a str,
            if_unused: bool,
            if_empty: bool,
            nowait: bool,
        }
        /// The queue does not exist.
        DeleteOk = 41, QueueDeleteOk, "queue.delete-ok" { message_count: u32 }
        /// Removes a binding. Has no `nowait`.
        Unbind<'a> = 50, QueueUnbind, "queue.unbind" {
            ticket: u16,
            queue: &'a str,
            exchange: &'a str,
            routing_key: &'a str,
            arguments: Table<'a>,
        }
        /// The binding does not exist.
        UnbindOk = 51, QueueUnbindOk, "queue.unbind-ok" {}
    }

    /// Messages.
    basic = 60 {
        /// Limits what is delivered before it is acknowledged.
        Qos = 10, BasicQos, "basic.qos" {
            /// In bytes; RabbitMQ takes only 0.
            prefetch_size: u32,
            prefetch_count: u16,
            /// For the channel, not for every consumer to come: RabbitMQ's meaning.
            global: bool,
        }
        /// The limit holds.
        QosOk = 11, BasicQosOk, "basic.qos-ok" {}
        /// Asks for deliveries.
        Consume<'a> = 20, BasicConsume, "basic.consume" {
            ticket: u16,
            queue: &'a str,
            consumer_tag: &'a str,
            no_local: bool,
            no_ack: bool,
            exclusive: bool,
            nowait: bool,
            arguments: Table<'a>,
        }
        /// Deliveries begin.
        ConsumeOk<'a> = 21, BasicConsumeOk, "basic.consume-ok" { consumer_tag: &'a str }
        /// Ends deliveries. RabbitMQ sends it too, when the queue is gone.
        Cancel<'a> = 30, BasicCancel, "basic.cancel" { consumer_tag: &'a str, nowait: bool }
        /// Deliveries have ended.
        CancelOk<'a> = 31, BasicCancelOk, "basic.cancel-ok" { consumer_tag: &'a str }
        /// A message for an exchange; its content follows.
        Publish<'a> = 40, BasicPublish, "basic.publish" {
            ticket: u16,
            exchange: &'a str,
            routing_key: &'a [u8],
            mandatory: bool,
            immediate: bool,
        }
        /// A message that could not be routed; its content follows.
        Return<'a> = 50, BasicReturn, "basic.return" {
            reply_code: u16,
            reply_text: &'a str,
            exchange: &'a str,
            routing_key: &'a [u8],
        }
        /// A message for a consumer; its content follows.
        Deliver<'a> = 60, BasicDeliver, "basic.deliver" {
            consumer_tag: &'a str,
            delivery_tag: u64,
            redelivered: bool,
            exchange: &'a str,
            routing_key: &'a [u8],
        }
        /// Asks for one message.
        Get<'a> = 70, BasicGet, "basic.get" { ticket: u16, queue: &'a str, no_ack: bool }
        /// The message; its content follows.
        GetOk<'a> = 71, BasicGetOk, "basic.get-ok" {
            delivery_tag: u64,
            redelivered: bool,
            exchange: &'a str,
            routing_key: &'a [u8],
            /// Messages that still wait.
            message_count: u32,
        }
        /// No message waits.
        GetEmpty<'a> = 72, BasicGetEmpty, "basic.get-empty" { cluster_id: &'a str }
        /// Deliveries are dealt with. From RabbitMQ: publishes are.
        Ack = 80, BasicAck, "basic.ack" {
            delivery_tag: u64,
            /// And all before it.
            multiple: bool,
        }
        /// A delivery is refused.
        Reject = 90, BasicReject, "basic.reject" { delivery_tag: u64, requeue: bool }
        /// Everything unacknowledged is to be delivered again, without an answer. Deprecated.
        RecoverAsync = 100, BasicRecoverAsync, "basic.recover-async" { requeue: bool }
        /// Everything unacknowledged is to be delivered again.
        Recover = 110, BasicRecover, "basic.recover" { requeue: bool }
        /// It will be.
        RecoverOk = 111, BasicRecoverOk, "basic.recover-ok" {}
        /// RabbitMQ: deliveries are refused. From RabbitMQ: publishes are.
        Nack = 120, BasicNack, "basic.nack" {
            delivery_tag: u64,
            /// And all before it.
            multiple: bool,
            requeue: bool,
        }
    }

    /// RabbitMQ: publisher confirms.
    confirm = 85 {
        /// Asks for them.
        Select = 10, ConfirmSelect, "confirm.select" { nowait: bool }
        /// Publishes are counted from 1.
        SelectOk = 11, ConfirmSelectOk, "confirm.select-ok" {}
    }

    /// Transactions.
    tx = 90 {
        /// Makes the channel transactional.
        Select = 10, TxSelect, "tx.select" {}
        /// It is.
        SelectOk = 11, TxSelectOk, "tx.select-ok" {}
        /// Makes publishes and acknowledgements happen.
        Commit = 20, TxCommit, "tx.commit" {}
        /// They have.
        CommitOk = 21, TxCommitOk, "tx.commit-ok" {}
        /// Forgets publishes and acknowledgements.
        Rollback = 30, TxRollback, "tx.rollback" {}
        /// They are.
        RollbackOk = 31, TxRollbackOk, "tx.rollback-ok" {}
    }
}

impl Method<'_> {
    /// True if a content follows: header and body.
    #[inline]
    pub const fn has_content(&self) -> bool {
        matches!(
            self,
            Method::BasicPublish(_)
                | Method::BasicReturn(_)
                | Method::BasicDeliver(_)
                | Method::BasicGetOk(_)
        )
    }
}
