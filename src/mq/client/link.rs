//! What the task of a connection and the handles of its channels share, and where events go.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use super::login::Agreed;
use super::{Delivery, Error, Returned};
use crate::mq::wire::method::{basic, channel, connection};
use crate::mq::wire::{self, Content, Event, Method, ReplyCode};

/// Bytes that may wait to be sent before publishers wait.
pub(super) const OUT_BYTES_MAX: usize = 256 * 1024;

/// Bytes of deliveries that may wait to be taken before reading stops. Prefetch is the bound that should hold
/// before this one does; without acknowledgements there is only this one.
const INBOX_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a delivery takes besides its body and properties, about, in bytes.
const DELIVERY_OVERHEAD: usize = 256;

/// The two ends of a connection: its task on one, its owners on the other.
#[derive(Debug)]
pub(super) struct Link {
    state: Mutex<State>,
    pub agreed: Agreed,
    /// For the writer: there is something to send, or an end.
    pub wake: Notify,
    /// For all who wait to send: there is room, or an end.
    pub room: Notify,
    /// For the reader: deliveries were taken.
    pub taken: Notify,
}

#[derive(Debug)]
pub(super) struct State {
    pub out: Vec<u8>,
    /// Why nothing is sent or received any more.
    pub ended: Option<Error>,
    /// The owner is gone: close and end.
    pub leaving: bool,
    /// The broker's reason why publishers have to wait.
    pub blocked: Option<String>,
    pub channels: HashMap<u16, ChannelState>,
    inbox_bytes: usize,
}

/// A question that waits for its answer.
#[derive(Debug)]
struct Call {
    /// The method that answers.
    wanted: (u16, u16),
    reply: oneshot::Sender<Result<Reply, Error>>,
}

/// An answer, as far as somebody wants to know it.
#[derive(Debug)]
pub(super) enum Reply {
    Done,
    Declared { queue: String, messages: u32, consumers: u32 },
    Count(u32),
    Got(Option<Box<(Delivery, u32)>>),
}

/// Publishes that the broker has dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Confirm {
    pub tag: u64,
    /// And all before it.
    pub multiple: bool,
    /// False for a nack.
    pub taken: bool,
}

#[derive(Debug, Default)]
pub(super) struct ChannelState {
    calls: VecDeque<Call>,
    pub closed: Option<Error>,
    /// The handle is gone; the number is free when the broker has answered.
    pub dropped: bool,
    /// The broker has asked for silence: channel.flow.
    pub stopped: bool,
    /// At most as many as there are unconfirmed publishes.
    pub confirms: Vec<Confirm>,
    pub returns: Vec<Returned>,
    pub inbox: VecDeque<Delivery>,
    pub cancelled: bool,
    last_exchange: Option<Arc<str>>,
    /// For the one who owns the channel: something of the above has changed.
    pub event: Arc<Notify>,
}

impl Link {
    pub fn new(agreed: Agreed) -> Self {
        let state = State {
            out: Vec::new(),
            ended: None,
            leaving: false,
            blocked: None,
            // Channel 0 is the connection, which has questions too.
            channels: HashMap::from([(0, ChannelState::default())]),
            inbox_bytes: 0,
        };
        let notify = Notify::new;
        Self { state: Mutex::new(state), agreed, wake: notify(), room: notify(), taken: notify() }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; if something did, the connection would end by its own error.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends everything that waits. The first reason stays.
    pub fn end(&self, error: Error) {
        let mut state = self.state();
        let error = state.ended.get_or_insert(error).clone();
        for channel in state.channels.values_mut() {
            channel.calls.drain(..).for_each(|call| _ = call.reply.send(Err(error.clone())));
            channel.event.notify_one();
        }
        drop(state);
        self.wake.notify_one();
        self.room.notify_waiters();
    }

    /// True while so many deliveries wait that none should be read.
    pub fn is_full(&self) -> bool {
        let state = self.state();
        state.inbox_bytes > INBOX_BYTES_MAX && state.ended.is_none() && !state.leaving
    }

    /// Sends a question; the answer comes through the receiver.
    pub fn ask(
        &self,
        channel: u16,
        question: &Method<'_>,
        wanted: (u16, u16),
    ) -> Result<oneshot::Receiver<Result<Reply, Error>>, Error> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.state();
        state.open(channel)?.calls.push_back(Call { wanted, reply });
        wire::method(&mut state.out, channel, question);
        drop(state);
        self.wake.notify_one();
        Ok(answer)
    }

    /// Sends what has no answer.
    pub fn tell(&self, channel: u16, method: &Method<'_>) -> Result<(), Error> {
        let mut state = self.state();
        state.open(channel)?;
        wire::method(&mut state.out, channel, method);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Takes what a chunk of whole frames brought. An error is for the connection to end with.
    pub fn receive(&self, assembler: &mut wire::Assembler, chunk: &Bytes) -> Result<(), Error> {
        let mut input = &chunk[..];
        let mut state = self.state();
        let mut changed = Changed::default();
        let result = loop {
            match assembler.next(&mut input) {
                Ok(Some(event)) => {
                    if let Err(error) = state.take(&event, chunk, &mut changed) {
                        break Err(error);
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => {
                    state.close_for(&error);
                    break Err(error.into());
                }
            }
        };
        for channel in changed.channels {
            if let Some(channel) = state.channels.get(&channel) {
                channel.event.notify_one();
            }
        }
        let wake = !state.out.is_empty();
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        if changed.room {
            self.room.notify_waiters();
        }
        result
    }
}

/// Who is to be told after a chunk.
#[derive(Default)]
struct Changed {
    /// Few, and mostly one.
    channels: Vec<u16>,
    room: bool,
}

impl Changed {
    fn channel(&mut self, number: u16) {
        if self.channels.last() != Some(&number) {
            self.channels.push(number);
        }
    }
}

impl State {
    /// The channel if it can still be spoken on.
    pub fn open(&mut self, number: u16) -> Result<&mut ChannelState, Error> {
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        if self.leaving {
            return Err(Error::Closed);
        }
        let channel = self.channels.get_mut(&number).ok_or(Error::Closed)?;
        match &channel.closed {
            Some(error) => Err(error.clone()),
            None => Ok(channel),
        }
    }

    /// Takes a delivery out of the channel's inbox.
    pub fn next_delivery(&mut self, number: u16) -> Option<Delivery> {
        let delivery = self.channels.get_mut(&number)?.inbox.pop_front()?;
        self.inbox_bytes = self.inbox_bytes.saturating_sub(size_of_delivery(&delivery));
        Some(delivery)
    }

    /// Forgets a channel and what waits in it.
    pub fn forget(&mut self, number: u16) {
        if let Some(channel) = self.channels.remove(&number) {
            let bytes: usize = channel.inbox.iter().map(size_of_delivery).sum();
            self.inbox_bytes = self.inbox_bytes.saturating_sub(bytes);
        }
    }

    /// Says why the connection ends, to a broker that sent what cannot be decoded.
    fn close_for(&mut self, error: &wire::Error) {
        let (class_id, method_id) = error.failing_method();
        let reply_text = &error.reply_text();
        let reply_code = error.code().number();
        let close = connection::Close { reply_code, reply_text, class_id, method_id };
        wire::method(&mut self.out, 0, &close.into());
    }

    fn take(&mut self, event: &Event<'_>, chunk: &Bytes, changed: &mut Changed) -> Result<(), Error> {
        match event {
            Event::Heartbeat => Ok(()),
            Event::Method { channel: 0, method } => self.take_connection(method, changed),
            Event::Method { channel, method } => self.take_method(*channel, method, changed),
            Event::Content { channel, content } => self.take_content(*channel, content, chunk, changed),
            // The limit is the protocol's own: only a body over 512 MiB comes here.
            Event::Oversized { .. } => Err(Error::Unexpected("a message over 512 MiB")),
        }
    }

    fn take_connection(&mut self, method: &Method<'_>, changed: &mut Changed) -> Result<(), Error> {
        match method {
            Method::ConnectionClose(close) => {
                wire::method(&mut self.out, 0, &connection::CloseOk {}.into());
                Err(Error::Connection {
                    code: close.reply_code,
                    text: close.reply_text.to_owned(),
                    class: close.class_id,
                    method: close.method_id,
                })
            }
            Method::ConnectionBlocked(blocked) => {
                tracing::warn!(target: "status", "the broker makes publishers wait: {}", blocked.reason);
                self.blocked = Some(blocked.reason.to_owned());
                Ok(())
            }
            Method::ConnectionUnblocked(_) => {
                self.blocked = None;
                changed.room = true;
                Ok(())
            }
            Method::ConnectionCloseOk(_) => Err(Error::Closed),
            method => self.answer(0, method, Reply::Done),
        }
    }

    fn take_method(&mut self, number: u16, method: &Method<'_>, changed: &mut Changed) -> Result<(), Error> {
        let Some(channel) = self.channels.get_mut(&number) else {
            // Something of a channel that was closed from here.
            return Ok(());
        };
        let confirm = |tag, multiple, taken| Confirm { tag, multiple, taken };
        match method {
            Method::BasicAck(ack) => channel.confirms.push(confirm(ack.delivery_tag, ack.multiple, true)),
            Method::BasicNack(nack) => {
                channel.confirms.push(confirm(nack.delivery_tag, nack.multiple, false))
            }
            Method::BasicCancel(_) => channel.cancelled = true,
            Method::ChannelFlow(flow) => {
                channel.stopped = !flow.active;
                changed.room = true;
                wire::method(&mut self.out, number, &channel::FlowOk { active: flow.active }.into());
            }
            Method::ChannelClose(close) => {
                wire::method(&mut self.out, number, &channel::CloseOk {}.into());
                let error = Error::Channel {
                    code: close.reply_code,
                    text: close.reply_text.to_owned(),
                    class: close.class_id,
                    method: close.method_id,
                };
                // A close that was sent from here at the same time is answered still.
                let crossed = channel.calls.back().is_some_and(|call| call.wanted == channel::CloseOk::ID);
                let failed = channel.calls.len() - usize::from(crossed);
                channel.calls.drain(..failed).for_each(|call| _ = call.reply.send(Err(error.clone())));
                channel.closed = Some(error);
                if channel.dropped && channel.calls.is_empty() {
                    self.forget(number);
                }
                changed.room = true;
            }
            Method::ChannelCloseOk(_) => {
                channel.closed.get_or_insert(Error::Closed);
                let dropped = channel.dropped;
                self.answer(number, method, Reply::Done)?;
                // While there is a handle, the number is taken.
                if dropped {
                    self.forget(number);
                }
                return Ok(());
            }
            Method::QueueDeclareOk(ok) => {
                let (messages, consumers) = (ok.message_count, ok.consumer_count);
                let reply = Reply::Declared { queue: ok.queue.to_owned(), messages, consumers };
                return self.answer(number, method, reply);
            }
            Method::QueuePurgeOk(ok) => return self.answer(number, method, Reply::Count(ok.message_count)),
            Method::QueueDeleteOk(ok) => return self.answer(number, method, Reply::Count(ok.message_count)),
            Method::BasicGetEmpty(_) => return self.answer(number, method, Reply::Got(None)),
            method => return self.answer(number, method, Reply::Done),
        }
        changed.channel(number);
        Ok(())
    }

    /// Gives an answer to the question that has waited longest: a broker answers in order.
    fn answer(&mut self, number: u16, method: &Method<'_>, reply: Reply) -> Result<(), Error> {
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        // A get is answered by one of two methods.
        let id = match method.id() {
            basic::GetEmpty::ID => basic::GetOk::ID,
            id => id,
        };
        match channel.calls.pop_front() {
            Some(call) if call.wanted == id => {
                // Nobody may be waiting any more.
                let _ = call.reply.send(Ok(reply));
                Ok(())
            }
            Some(_) | None => Err(Error::Unexpected(method.name())),
        }
    }

    fn take_content(
        &mut self,
        number: u16,
        content: &Content<'_>,
        chunk: &Bytes,
        changed: &mut Changed,
    ) -> Result<(), Error> {
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        match content.method() {
            Method::BasicDeliver(deliver) => {
                let delivery = Delivery {
                    tag: deliver.delivery_tag,
                    epoch: 0,
                    redelivered: deliver.redelivered,
                    exchange: channel.exchange(deliver.exchange),
                    routing_key: share(chunk, deliver.routing_key),
                    properties: content.properties.share(chunk),
                    body: content.body.share(chunk),
                };
                self.inbox_bytes += size_of_delivery(&delivery);
                channel.inbox.push_back(delivery);
                changed.channel(number);
                Ok(())
            }
            Method::BasicReturn(returned) => {
                channel.returns.push(Returned {
                    code: returned.reply_code,
                    text: returned.reply_text.to_owned(),
                    exchange: returned.exchange.to_owned(),
                    routing_key: share(chunk, returned.routing_key),
                    properties: content.properties.share(chunk),
                    body: content.body.share(chunk),
                });
                changed.channel(number);
                Ok(())
            }
            Method::BasicGetOk(ok) => {
                let delivery = Delivery {
                    tag: ok.delivery_tag,
                    epoch: 0,
                    redelivered: ok.redelivered,
                    exchange: channel.exchange(ok.exchange),
                    routing_key: share(chunk, ok.routing_key),
                    properties: content.properties.share(chunk),
                    body: content.body.share(chunk),
                };
                let reply = Reply::Got(Some(Box::new((delivery, ok.message_count))));
                self.answer(number, &ok.into(), reply)
            }
            method => Err(Error::Unexpected(method.name())),
        }
    }
}

impl ChannelState {
    /// The name of an exchange, which is mostly that of the delivery before.
    fn exchange(&mut self, name: &str) -> Arc<str> {
        match &self.last_exchange {
            Some(last) if **last == *name => last.clone(),
            Some(_) | None => self.last_exchange.insert(name.into()).clone(),
        }
    }
}

/// A share of the chunk if the bytes stand in it, or a copy.
fn share(chunk: &Bytes, bytes: &[u8]) -> Bytes {
    match chunk.as_ptr_range().contains(&bytes.as_ptr()) {
        true => chunk.slice_ref(bytes),
        false => Bytes::copy_from_slice(bytes),
    }
}

fn size_of_delivery(delivery: &Delivery) -> usize {
    delivery.body.len() + delivery.properties.len() + DELIVERY_OVERHEAD
}

/// The reply code of an orderly end.
pub(super) const GOODBYE: u16 = ReplyCode::ReplySuccess.number();
