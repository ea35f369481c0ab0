//! Every method a client can send on a channel, and which part of the engine decides it.

use bytes::Bytes;

use crate::mq::wire::Method;

use super::bind::{Action, Binding, Target};
use super::connection::{State, Verdict};
use super::fault::Fault;
use super::output::{Outputs, Reply};
use super::publish::Publish;
use super::{At, Engine, Taken};

/// The content of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Property flags and values as on the wire.
    pub properties: Bytes,
    /// The payload.
    pub body: Bytes,
}

impl Engine {
    /// Takes a method of a channel, with its content if it has one. Methods of class `connection` are the driver's.
    ///
    /// After [`Taken::Later`] the method was not looked at: the driver gives it and what follows it on this connection
    /// again after [`super::Send::Resume`].
    pub fn handle(
        &mut self,
        at: At,
        method: &Method<'_>,
        content: Option<Content>,
        out: &mut Outputs,
    ) -> Taken {
        let Some(connection) = self.connections.get_mut(at.connection) else { return Taken::Now };
        if at.channel == 0 {
            let fault = Fault::channel_error("unexpected method in connection state running");
            self.fail(at, fault, method.id(), out);
            return Taken::Now;
        }
        match connection.channel(at.channel).map(|channel| (channel.state, channel.awaiting)) {
            Some((State::Open, true)) if waits_for_its_turn(method) => {
                connection.held = true;
                return Taken::Later;
            }
            Some((State::Open, _)) => {}
            Some((State::Closing, _)) => {
                match method {
                    Method::ChannelClose(_) => out.reply(at.connection, at.channel, Reply::ChannelCloseOk),
                    Method::ChannelCloseOk(_) => self.forget_channel(at),
                    _ => {}
                }
                return Taken::Now;
            }
            None => {
                match method {
                    Method::ChannelOpen(_) => match self.open_channel(at) {
                        Ok(reply) => {
                            self.watch_unanswered(at.now);
                            out.reply(at.connection, at.channel, reply);
                        }
                        Err(fault) => self.fail(at, fault, method.id(), out),
                    },
                    // Of a channel that was closed a moment ago.
                    Method::ChannelCloseOk(_) => {}
                    _ => self.fail(at, not_open(), method.id(), out),
                }
                return Taken::Now;
            }
        }
        match self.decide(at, method, content, out) {
            Ok(Some(reply)) => out.reply(at.connection, at.channel, reply),
            Ok(None) => {}
            Err(fault) => self.fail(at, fault, method.id(), out),
        }
        if !self.dead.is_empty() {
            self.bury(at.now, out);
        }
        Taken::Now
    }

    /// A content whose body was so large that the driver did not keep it.
    pub fn oversized(&mut self, at: At, size: u64, out: &mut Outputs) {
        self.begun(at, out);
        if self.channel(at).is_some_and(|channel| channel.state == State::Open) {
            let max = self.config.message_size_max;
            let fault = Fault::precondition_failed(format_args!(
                "message size {size} is larger than configured max size {max}"
            ));
            self.fail(at, fault, BASIC_PUBLISH, out);
        }
    }

    /// A content has begun that has not all come: only a channel that is there may go on with it.
    pub fn begun(&mut self, at: At, out: &mut Outputs) {
        if self.connections.get(at.connection).is_some_and(|held| held.channel(at.channel).is_none()) {
            self.fail(at, not_open(), BASIC_PUBLISH, out);
        }
    }

    fn forget_channel(&mut self, at: At) {
        if let Some(connection) = self.connections.get_mut(at.connection)
            && let Some(slot) = connection.channels.get_mut(usize::from(at.channel))
            && slot.take().is_some()
        {
            connection.channel_count -= 1;
        }
    }

    /// The reply to a method of an open channel, if it has one that was not written yet.
    #[inline]
    fn decide(
        &mut self,
        at: At,
        method: &Method<'_>,
        content: Option<Content>,
        out: &mut Outputs,
    ) -> Result<Option<Reply>, Fault> {
        match method {
            Method::BasicPublish(method) => {
                let Some(Content { properties, body }) = content else {
                    return Err(Fault::internal_error("publish without content"));
                };
                let publish = Publish {
                    exchange: method.exchange,
                    routing_key: method.routing_key,
                    mandatory: method.mandatory,
                    immediate: method.immediate,
                    properties,
                    body,
                };
                self.publish(at, publish, out)?;
                Ok(None)
            }
            Method::BasicAck(method) => {
                self.settle(at, method.delivery_tag, method.multiple, Verdict::Ack, out)?;
                Ok(None)
            }
            Method::BasicNack(method) => {
                let verdict = if method.requeue { Verdict::Requeue } else { Verdict::Reject };
                self.settle(at, method.delivery_tag, method.multiple, verdict, out)?;
                Ok(None)
            }
            Method::BasicReject(method) => {
                let verdict = if method.requeue { Verdict::Requeue } else { Verdict::Reject };
                self.settle(at, method.delivery_tag, false, verdict, out)?;
                Ok(None)
            }
            _ => self.decide_seldom(at, method, out),
        }
    }

    fn decide_seldom(
        &mut self,
        at: At,
        method: &Method<'_>,
        out: &mut Outputs,
    ) -> Result<Option<Reply>, Fault> {
        let unless = |nowait: bool, reply: Reply| if nowait { None } else { Some(reply) };
        match method {
            Method::ChannelOpen(_) => Err(Fault::channel_error("second 'channel.open' seen")),
            Method::ChannelClose(_) => {
                self.close_channel(at, out);
                Ok(Some(Reply::ChannelCloseOk))
            }
            Method::ChannelFlow(method) if !method.active => Err(Fault::not_implemented("active=false")),
            Method::ChannelFlow(_) => Ok(Some(Reply::ChannelFlowOk { active: true })),
            Method::ChannelFlowOk(_) | Method::ChannelCloseOk(_) | Method::BasicCancelOk(_) => Ok(None),
            Method::AccessRequest(_) => Ok(Some(Reply::AccessRequestOk)),
            Method::ExchangeDeclare(method) => {
                self.declare_exchange(at, method, out).map(|reply| unless(method.nowait, reply))
            }
            Method::ExchangeDelete(method) => {
                self.exchange_delete(at, method, out).map(|reply| unless(method.nowait, reply))
            }
            Method::ExchangeBind(method) => {
                let binding = Binding {
                    source: method.source,
                    target: Target::Exchange(method.destination),
                    key: method.routing_key,
                    arguments: method.arguments,
                };
                self.binding(at, Action::Add, binding, out)?;
                Ok(unless(method.nowait, Reply::ExchangeBindOk))
            }
            Method::ExchangeUnbind(method) => {
                let binding = Binding {
                    source: method.source,
                    target: Target::Exchange(method.destination),
                    key: method.routing_key,
                    arguments: method.arguments,
                };
                self.binding(at, Action::Remove, binding, out)?;
                Ok(unless(method.nowait, Reply::ExchangeUnbindOk))
            }
            Method::QueueDeclare(method) => {
                self.declare_queue(at, method, out).map(|reply| unless(method.nowait, reply))
            }
            Method::QueueDelete(method) => {
                self.queue_delete(at, method, out).map(|reply| unless(method.nowait, reply))
            }
            Method::QueuePurge(method) => self.purge(at, method.queue, method.nowait, out),
            Method::QueueBind(method) => {
                let binding = Binding {
                    source: method.exchange,
                    target: Target::Queue(method.queue),
                    key: method.routing_key,
                    arguments: method.arguments,
                };
                self.binding(at, Action::Add, binding, out)?;
                Ok(unless(method.nowait, Reply::QueueBindOk))
            }
            Method::QueueUnbind(method) => {
                let binding = Binding {
                    source: method.exchange,
                    target: Target::Queue(method.queue),
                    key: method.routing_key,
                    arguments: method.arguments,
                };
                self.binding(at, Action::Remove, binding, out)?;
                Ok(Some(Reply::QueueUnbindOk))
            }
            _ => self.decide_basic(at, method, out),
        }
    }

    fn decide_basic(
        &mut self,
        at: At,
        method: &Method<'_>,
        out: &mut Outputs,
    ) -> Result<Option<Reply>, Fault> {
        match method {
            Method::BasicQos(method) => self.qos(at, *method, out).map(Some),
            Method::BasicConsume(method) => self.consume(at, method, out).map(|()| None),
            Method::BasicCancel(method) => {
                self.cancel(at, method, out);
                Ok(None)
            }
            Method::BasicGet(method) => self.get(at, method, out).map(|()| None),
            Method::BasicRecover(method) => {
                self.recover(at, method.requeue, out)?;
                Ok(Some(Reply::BasicRecoverOk))
            }
            Method::BasicRecoverAsync(method) => self.recover(at, method.requeue, out).map(|()| None),
            Method::ConfirmSelect(method) => {
                let reply = self.confirm_select(at)?;
                Ok((!method.nowait).then_some(reply))
            }
            Method::TxSelect(_) => self.tx_select(at).map(Some),
            Method::TxCommit(_) => self.commit(at, out).map(|()| None),
            Method::TxRollback(_) => self.rollback(at).map(Some),
            _ => Err(Fault::command_invalid("unimplemented method")),
        }
    }
}

/// Class and number of `basic.publish`.
const BASIC_PUBLISH: (u16, u16) = (60, 40);

fn not_open() -> Fault {
    Fault::channel_error("expected 'channel.open'")
}

/// Whether a method is answered, so that it must not overtake one that is not answered yet.
fn waits_for_its_turn(method: &Method<'_>) -> bool {
    !matches!(
        method,
        Method::BasicPublish(_)
            | Method::BasicAck(_)
            | Method::BasicNack(_)
            | Method::BasicReject(_)
            | Method::ChannelClose(_)
            | Method::ChannelCloseOk(_)
    )
}
