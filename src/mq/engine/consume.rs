//! Taking messages: consume, cancel, get, qos, and the consumers that a queue loses.

use std::sync::Arc;

use crate::mq::wire::{TableBuf, method::basic};

use super::access::Permission;
use super::clock::Timer;
use super::config::Compat;
use super::connection::ReplyTo;
use super::consumer::{Consumer, Turn};
use super::declare::damaged;
use super::fault::Fault;
use super::id::{ConsumerId, QueueId};
use super::output::{Gone, Outputs, Reply, Send};
use super::publish::REPLY_TO;
use super::queue::{self, Getting};
use super::settings::QueueKind;
use super::trace::Doer;
use super::unacked::Unacked;
use super::{At, Engine, arguments, deliver};

impl Engine {
    /// `basic.consume`. The reply goes out before the first delivery, so it is written here.
    pub(crate) fn consume(
        &mut self,
        at: At,
        method: &basic::Consume<'_>,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        let Some(channel) = self.channel(at) else { return Ok(()) };
        let known = !method.consumer_tag.is_empty()
            && (channel.consumers.contains_key(method.consumer_tag)
                || channel
                    .reply_to
                    .as_ref()
                    .is_some_and(|reply_to| *reply_to.consumer == *method.consumer_tag));
        let (count, last_queue, prefetch, global_prefetch) =
            (channel.consumers.len(), channel.last_queue.clone(), channel.prefetch, channel.global_prefetch);
        if method.queue == REPLY_TO {
            return self.consume_replies(at, method, known, out);
        }
        let name = if method.queue.is_empty() { &*last_queue } else { method.queue };
        if name.is_empty() {
            return Err(Fault::not_found("no previously declared queue"));
        }
        if known {
            return Err(reused(method.consumer_tag));
        }
        if count >= self.config.consumers_max {
            return Err(Fault::not_allowed(format_args!(
                "reached maximum ({}) of consumers per channel",
                self.config.consumers_max
            )));
        }
        self.permit(at, Permission::Read, name, || queue::resource(name, &self.vhost))?;
        let id = self.open_queue(at, name)?;
        let tag = self.consumer_tag(method.consumer_tag);
        let Some(queue) = self.queues.get_mut(id) else { return Ok(()) };
        arguments::check_consume(method.arguments, &queue.resource(&self.vhost), queue.kind)?;
        if queue.consumers.exclusive.is_some() || (method.exclusive && queue.consumers.len() > 0) {
            let resource = queue.resource(&self.vhost);
            return Err(Fault::access_refused(format_args!("{resource} in exclusive use")));
        }
        if method.exclusive && queue.single_active {
            let resource = queue.resource(&self.vhost);
            return Err(Fault::access_refused(format_args!("{resource} in exclusive use")));
        }
        if global_prefetch > 0 && queue.kind == QueueKind::Quorum {
            let resource = queue.resource(&self.vhost);
            return Err(Fault::not_implemented(format_args!("{resource} does not support global qos")));
        }
        let priority = method.arguments.get("x-priority").and_then(|value| value.as_integer()).unwrap_or(0);
        let consumer = Consumer {
            queue: id,
            connection: at.connection,
            channel: at.channel,
            tag: tag.clone(),
            no_ack: method.no_ack,
            exclusive: method.exclusive,
            priority,
            prefetch,
            unacked: 0,
            turn: if queue.single_active { Turn::Waiting } else { Turn::Ready },
            arguments: TableBuf::from(method.arguments),
        };
        let consumer_id = self.consumers.insert(consumer);
        queue.consumers.add(consumer_id);
        if method.exclusive {
            queue.consumers.exclusive = Some(consumer_id);
        }
        if !queue.single_active {
            queue.consumers.join(consumer_id, priority);
        }
        if let Some(channel) = self.channel_mut(at) {
            channel.consumers.insert(tag.clone(), consumer_id);
        }
        if !method.nowait {
            out.reply(at.connection, at.channel, Reply::BasicConsumeOk { consumer: tag });
        }
        self.choose_active(id);
        self.serve(id, at.now, out);
        Ok(())
    }

    fn consume_replies(
        &mut self,
        at: At,
        method: &basic::Consume<'_>,
        known: bool,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        if known {
            return Err(reused(method.consumer_tag));
        }
        let tag = self.consumer_tag(method.consumer_tag);
        let token: Arc<str> = self.random_name("g1").into();
        let Some(channel) = self.channel_mut(at) else { return Ok(()) };
        if !method.no_ack {
            return Err(Fault::precondition_failed("reply consumer cannot acknowledge"));
        }
        if channel.reply_to.is_some() {
            return Err(Fault::precondition_failed("reply consumer already set"));
        }
        channel.reply_to = Some(ReplyTo { consumer: tag.clone(), token: token.clone() });
        self.reply_tokens.insert(token, (at.connection, at.channel));
        if !method.nowait {
            out.reply(at.connection, at.channel, Reply::BasicConsumeOk { consumer: tag });
        }
        Ok(())
    }

    fn consumer_tag(&mut self, asked: &str) -> Arc<str> {
        if asked.is_empty() { self.random_name("amq.ctag-").into() } else { asked.into() }
    }

    /// `basic.cancel`
    pub(crate) fn cancel(&mut self, at: At, method: &basic::Cancel<'_>, out: &mut Outputs) {
        if let Some(channel) = self.channel_mut(at) {
            if let Some(reply_to) = channel.reply_to.take_if(|held| *held.consumer == *method.consumer_tag) {
                self.reply_tokens.remove(&reply_to.token);
            } else if let Some(id) = channel.consumers.remove(method.consumer_tag) {
                self.remove_consumer(id, at, out);
            }
        }
        if !method.nowait {
            out.reply(
                at.connection,
                at.channel,
                Reply::BasicCancelOk { consumer: method.consumer_tag.into() },
            );
        }
    }

    /// Takes a consumer off its queue, which may go with it.
    fn remove_consumer(&mut self, id: ConsumerId, at: At, out: &mut Outputs) {
        if let Some(consumer) = self.consumers.get(id)
            && let Some(queue) = self.queues.get_mut(consumer.queue)
        {
            queue.consumers.remove(id, consumer.priority);
        }
        self.forget_consumer(id, at, out);
    }

    /// What there is to do for a consumer that was taken off its queue.
    pub(crate) fn forget_consumer(&mut self, id: ConsumerId, at: At, out: &mut Outputs) {
        let Some(consumer) = self.consumers.remove(id) else { return };
        if consumer.turn == Turn::Limited
            && let Some(channel) =
                self.channel_mut(At { connection: consumer.connection, channel: consumer.channel, ..at })
        {
            channel.limited.retain(|held| *held != id);
        }
        let Some(queue) = self.queues.get_mut(consumer.queue) else { return };
        if queue.consumers.active == Some(id) {
            queue.consumers.active = None;
        }
        if queue.consumers.len() > 0 {
            self.choose_active(consumer.queue);
            self.serve(consumer.queue, at.now, out);
            return;
        }
        queue.used = at.now;
        if queue.auto_delete {
            self.delete_queue(consumer.queue, at.now, out);
        } else {
            self.watch_use(consumer.queue);
        }
    }

    /// Lets the single active consumer of a queue be one that is there.
    pub(crate) fn choose_active(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get_mut(id) else { return };
        if !queue.single_active {
            return;
        }
        let consumers = &self.consumers;
        let priority = |id: &ConsumerId| consumers.get(*id).map_or(i64::MIN, |consumer| consumer.priority);
        let best = || queue.consumers.all().iter().rev().max_by_key(|id| priority(id)).copied();
        let chosen = match (self.config.compat, queue.consumers.active) {
            (Compat::V3, Some(_)) => return,
            (Compat::V3, None) if queue.kind == QueueKind::Quorum => queue.consumers.all().first().copied(),
            (Compat::V3, None) => best(),
            (Compat::V4, active) => match (active, best()) {
                (Some(active), Some(best)) if priority(&active) >= priority(&best) => return,
                (_, best) => best,
            },
        };
        let Some(chosen) = chosen else { return };
        if let Some(old) = queue.consumers.active
            && let Some(consumer) = self.consumers.get_mut(old)
        {
            consumer.turn = Turn::Waiting;
            queue.consumers.leave(old, consumer.priority);
        }
        queue.consumers.active = Some(chosen);
        if let Some(consumer) = self.consumers.get_mut(chosen) {
            consumer.turn = Turn::Ready;
            queue.consumers.join(chosen, consumer.priority);
        }
    }

    /// Tells the consumers of a queue that is gone.
    pub(crate) fn cancel_consumers(&mut self, consumers: &[ConsumerId], out: &mut Outputs) {
        for id in consumers {
            let Some(consumer) = self.consumers.remove(*id) else { continue };
            let Some(connection) = self.connections.get_mut(consumer.connection) else { continue };
            let notify = connection.peer.cancel_notify;
            let Some(channel) = connection.channel_mut(consumer.channel) else { continue };
            channel.consumers.remove(&consumer.tag);
            if notify {
                out.send(
                    consumer.connection,
                    Send::Cancel { channel: consumer.channel, consumer: consumer.tag },
                );
            }
        }
    }

    /// `basic.qos`
    pub(crate) fn qos(&mut self, at: At, method: basic::Qos, out: &mut Outputs) -> Result<Reply, Fault> {
        if method.prefetch_size != 0 {
            return Err(Fault::not_implemented(format_args!("prefetch_size!=0 ({})", method.prefetch_size)));
        }
        let v4 = self.config.compat == Compat::V4;
        let Some(channel) = self.channel_mut(at) else { return Ok(Reply::BasicQosOk) };
        if method.global && !v4 {
            if channel.global_prefetch == 0 {
                // RabbitMQ begins with all that is out, what basic.get took included; of that, nothing counts later.
                channel.global_unacked = u32::try_from(channel.unacked.len()).unwrap_or(u32::MAX);
            }
            channel.global_prefetch = method.prefetch_count.into();
        } else {
            channel.prefetch = method.prefetch_count.into();
            channel.global_prefetch = 0;
        }
        channel.limited.clear();
        // A limit that rose or went lets consumers on that it held up.
        let consumers: Vec<ConsumerId> = channel.consumers.values().copied().collect();
        for id in consumers {
            if let Some(queue) = self.rejoin(id) {
                self.serve(queue, at.now, out);
            }
        }
        Ok(Reply::BasicQosOk)
    }

    /// `basic.get`. A message that is on disk is waited for.
    pub(crate) fn get(&mut self, at: At, method: &basic::Get<'_>, out: &mut Outputs) -> Result<(), Fault> {
        let last_queue = self.channel(at).map(|channel| channel.last_queue.clone()).unwrap_or_default();
        let name = if method.queue.is_empty() { &*last_queue } else { method.queue };
        if name.is_empty() {
            return Err(Fault::not_found("no previously declared queue"));
        }
        self.permit(at, Permission::Read, name, || queue::resource(name, &self.vhost))?;
        let id = self.open_queue(at, name)?;
        let opened = self.channel(at).map_or(0, |channel| channel.opened);
        let Some(queue) = self.queues.get_mut(id) else { return Ok(()) };
        queue.used = at.now;
        let getting =
            Getting { connection: at.connection, channel: at.channel, opened, no_ack: method.no_ack };
        self.expire(id, at.now);
        let Some(queue) = self.queues.get_mut(id) else { return Ok(()) };
        if queue.getting.is_empty() && !deliver::is_front_absent(queue) {
            self.hand_over(id, getting, at.now, out);
            return Ok(());
        }
        queue.getting.push_back(getting);
        deliver::want(queue, self.resident > self.config.page_above, out);
        if let Some(channel) = self.channel_mut(at) {
            channel.awaiting = true;
        }
        Ok(())
    }

    /// Answers those who wait for the front of a queue, as far as it has come.
    pub(crate) fn hand_over_waiting(&mut self, id: QueueId, now: u64, out: &mut Outputs) {
        while let Some(queue) = self.queues.get_mut(id)
            && !deliver::is_front_absent(queue)
            && let Some(getting) = queue.getting.pop_front()
        {
            let at = At { now, connection: getting.connection, channel: getting.channel };
            if self.channel(at).is_some_and(|channel| channel.opened == getting.opened) {
                self.answered(at, out);
                self.hand_over(id, getting, now, out);
            }
        }
    }

    /// What a queue has on disk cannot be read or written: nobody waits for it any more, and whoever comes is told so.
    pub(crate) fn give_up(&mut self, id: QueueId, now: u64, out: &mut Outputs) {
        let Some(queue) = self.queues.get_mut(id) else { return };
        queue.offline = true;
        let consumers = std::mem::take(&mut queue.consumers).all().to_vec();
        let getting = std::mem::take(&mut queue.getting);
        let fault = damaged(queue, &self.vhost);
        self.cancel_consumers(&consumers, out);
        for Getting { connection, channel, opened, .. } in getting {
            let at = At { now, connection, channel };
            if self.channel(at).is_some_and(|channel| channel.opened == opened) {
                self.answered(at, out);
                self.fail(at, fault.clone(), BASIC_GET, out);
            }
        }
    }

    fn hand_over(&mut self, id: QueueId, getting: Getting, now: u64, out: &mut Outputs) {
        let Getting { connection, channel: number, no_ack, .. } = getting;
        let at = At { now, connection, channel: number };
        let memory_is_short = self.resident > self.config.page_above;
        let Self { queues, connections, timers, tracer, .. } = self;
        let Some(held) = connections.get_mut(connection) else { return };
        let peer = tracer.is_some().then(|| held.peer.clone());
        let (Some(queue), Some(channel)) = (queues.get_mut(id), held.channel_mut(number)) else { return };
        let Some(entry) = queue.ready.pop() else {
            queue.counts.got_nothing += 1;
            channel.counts.got_nothing += 1;
            out.reply(connection, number, Reply::BasicGetEmpty);
            return;
        };
        for counts in [&mut queue.counts, &mut channel.counts] {
            *(if no_ack { &mut counts.got_no_ack } else { &mut counts.got }) += 1;
            counts.redelivered += u64::from(entry.redelivered);
        }
        if let Some(offset) = entry.place.as_log() {
            deliver::note_delivery(queue, offset, now, timers);
        }
        let tag = channel.tag();
        let remaining = u32::try_from(queue.ready.len()).unwrap_or(u32::MAX);
        let (message, redelivered) = (deliver::shown(queue, &entry), entry.redelivered);
        if let (Some(tracer), Some(peer)) = (tracer, &peer) {
            let by = Doer { peer, channel: number, now };
            tracer.delivered(&queue.name, &message, redelivered, &by);
        }
        out.send(connection, Send::GetOk { channel: number, tag, redelivered, remaining, message });
        deliver::want(queue, memory_is_short, out);
        if no_ack {
            self.let_go_of(id, &entry, Gone::Acked, at.now, out);
        } else {
            queue.unacked += 1;
            queue.unacked_bytes += entry.message.body_len();
            channel.unacked.push(Unacked { tag, queue: id, consumer: None, entry, since: now });
        }
        self.expire(id, now);
    }

    /// Sets the timer of a queue that is deleted when nobody uses it.
    pub(crate) fn watch_use(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get_mut(id) else { return };
        let Some(expires) = queue.settings.expires else { return };
        let due = queue.used.saturating_add(expires);
        if queue.is_unused() && due < queue.expiry_timer {
            queue.expiry_timer = due;
            self.timers.set(due, Timer::Queue(id));
        }
    }
}

/// Class and number of `basic.get`.
const BASIC_GET: (u16, u16) = (60, 70);

fn reused(tag: &str) -> Fault {
    Fault::not_allowed(format_args!("attempt to reuse consumer tag '{tag}'"))
}
