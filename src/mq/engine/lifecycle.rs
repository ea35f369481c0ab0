//! Connections and channels come and go: opening, closing, faults, credit, alarms, answers to publishers.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::confirm::Answer;
use super::connection::{Channel, Connection, Mode, Peer, State};
use super::consumer::Turn;
use super::fault::Fault;
use super::id::{ConnectionId, ConsumerId, QueueId};
use super::output::{Outputs, Reply, Send};
use super::{At, Engine};

impl Engine {
    /// Takes in a connection whose user was let onto this virtual host.
    pub fn connect(&mut self, peer: Peer) -> ConnectionId {
        let credit = i64::from(self.config.credit);
        self.connections.insert(Connection {
            peer,
            channels: Vec::new(),
            channel_count: 0,
            exclusive: Vec::new(),
            credit,
            starved: VecDeque::new(),
            blocked: false,
            held: false,
        })
    }

    /// Lets go of everything a connection holds: channels, consumers, unacknowledged messages, exclusive queues. For
    /// `connection.close` and for a socket that closed.
    pub fn disconnect(&mut self, now: u64, id: ConnectionId, out: &mut Outputs) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let numbers: Vec<u16> = (0..connection.channels.len() as u32)
            .map(|number| number as u16)
            .filter(|number| connection.channel(*number).is_some())
            .collect();
        // Consumers first, or what one channel gives back would go out to the next one that is about to close.
        let consumers = self.take_consumers(id, &numbers);
        let mut stirred = Vec::new();
        for number in numbers {
            stirred.extend(self.drop_channel(At { now, connection: id, channel: number }, out));
        }
        let at = At { now, connection: id, channel: 0 };
        consumers.into_iter().for_each(|consumer| self.forget_consumer(consumer, at, out));
        let exclusive =
            self.connections.remove(id).map(|connection| connection.exclusive).unwrap_or_default();
        for queue in exclusive {
            self.delete_queue(queue, now, out);
        }
        stirred.into_iter().for_each(|queue| self.serve(queue, now, out));
        self.bury(now, out);
    }

    /// Gives a user's connections the permissions that hold now.
    pub fn set_access(&mut self, user: &str, access: &Arc<super::Access>) {
        for id in self.connections.ids() {
            if let Some(connection) = self.connections.get_mut(id)
                && *connection.peer.user == *user
            {
                connection.peer.access = access.clone();
            }
        }
        self.generation += 1;
    }

    /// Deletes every queue and every exchange that was declared.
    pub fn delete_all(&mut self, now: u64, out: &mut Outputs) {
        for id in self.queues.ids() {
            if self.queues.get(id).is_some_and(|queue| !queue.hidden) {
                self.delete_queue(id, now, out);
            }
        }
        for id in self.exchanges.ids() {
            let own = |name: &str| !name.is_empty() && !name.starts_with("amq.");
            if self.exchanges.get(id).is_some_and(|exchange| own(&exchange.name)) {
                self.delete_exchange(id, now, out);
            }
        }
        self.bury(now, out);
    }

    /// How many queues there may be.
    pub fn set_queues_max(&mut self, queues: Option<usize>) {
        self.config.queues_max = queues;
    }

    /// So many bytes of deliveries were written to the socket: [`super::OutLane::cost`].
    pub fn written(&mut self, now: u64, id: ConnectionId, cost: u64, out: &mut Outputs) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.credit = connection.credit.saturating_add_unsigned(cost).min(self.config.credit.into());
        if connection.starved.is_empty() || connection.credit < i64::from(self.config.credit / 2) {
            return;
        }
        // Each of them once, as far as the credit goes: what takes all of it is last in line the next time.
        for _ in 0..connection.starved.len() {
            let Some(connection) = self.connections.get_mut(id).filter(|held| held.credit > 0) else { break };
            let Some(consumer) = connection.starved.pop_front() else { break };
            if let Some(queue) = self.rejoin(consumer) {
                self.serve(queue, now, out);
            }
        }
        self.bury(now, out);
    }

    /// Memory or disk is short: connections that publish are blocked. `None` unblocks them.
    pub fn set_alarm(&mut self, reason: Option<&str>, out: &mut Outputs) {
        self.alarm = reason.map(Arc::from);
        if self.alarm.is_some() {
            return;
        }
        for id in self.connections.ids() {
            if let Some(connection) = self.connections.get_mut(id)
                && std::mem::take(&mut connection.blocked)
            {
                out.send(id, Send::Unblock);
            }
        }
    }

    /// Whether a publish has to wait, because memory or disk is short: its connection is told that it is blocked. RabbitMQ
    /// too lets no publish through any more, and all that comes on that connection behind it waits.
    pub fn holds_back(&mut self, id: ConnectionId, out: &mut Outputs) -> bool {
        let Some(reason) = self.alarm.clone() else { return false };
        self.block(id, reason, out);
        true
    }

    pub(crate) fn block(&mut self, id: ConnectionId, reason: Arc<str>, out: &mut Outputs) {
        if let Some(connection) = self.connections.get_mut(id)
            && !connection.blocked
        {
            connection.blocked = true;
            out.send(id, Send::Block { reason });
        }
    }

    /// `channel.open`
    pub(crate) fn open_channel(&mut self, at: At) -> Result<Reply, Fault> {
        self.opened = self.opened.wrapping_add(1);
        let opened = self.opened;
        let Some(connection) = self.connections.get_mut(at.connection) else {
            return Ok(Reply::ChannelOpenOk);
        };
        let max = connection.peer.channel_max;
        if max > 0 && connection.channel_count >= max {
            return Err(Fault::not_allowed(format_args!(
                "number of channels opened ({}) has reached the negotiated channel_max ({max})",
                connection.channel_count
            )));
        }
        let taken = connection.peer.allowance.take().map_err(|max| {
            Fault::not_allowed(format_args!(
                "number of channels opened for user '{}' has reached the maximum allowed user limit of ({max})",
                connection.peer.user
            ))
        })?;
        let number = usize::from(at.channel);
        if number >= connection.channels.len() {
            connection.channels.resize_with(number + 1, || None);
        }
        connection.channels[number] = Some(Box::new(Channel::new(opened, Some(taken))));
        connection.channel_count += 1;
        self.churn.channels_opened += 1;
        Ok(Reply::ChannelOpenOk)
    }

    /// The client closes a channel, or has answered that the broker did.
    pub(crate) fn close_channel(&mut self, at: At, out: &mut Outputs) {
        self.answer_one(at, out);
        let consumers = self.take_consumers(at.connection, &[at.channel]);
        let stirred = self.drop_channel(at, out);
        consumers.into_iter().for_each(|consumer| self.forget_consumer(consumer, at, out));
        stirred.into_iter().for_each(|queue| self.serve(queue, at.now, out));
    }

    /// Takes the consumers of channels off their queues, so that nothing more goes to them; they are still to be forgotten.
    fn take_consumers(&mut self, id: ConnectionId, channels: &[u16]) -> Vec<ConsumerId> {
        let Some(connection) = self.connections.get_mut(id) else { return Vec::new() };
        let mut taken: Vec<ConsumerId> = Vec::new();
        for number in channels {
            let Some(channel) = connection.channel_mut(*number) else { continue };
            if let Some(reply_to) = channel.reply_to.take() {
                self.reply_tokens.remove(&reply_to.token);
            }
            taken.extend(std::mem::take(&mut channel.consumers).into_values());
        }
        let mut by_queue: HashMap<QueueId, HashSet<ConsumerId>> = HashMap::new();
        for id in &taken {
            if let Some(consumer) = self.consumers.get_mut(*id) {
                // What it gives back makes no room for more.
                consumer.turn = Turn::Waiting;
                by_queue.entry(consumer.queue).or_default().insert(*id);
            }
        }
        for (queue, gone) in by_queue {
            if let Some(queue) = self.queues.get_mut(queue) {
                queue.consumers.remove_all(&gone);
            }
        }
        taken
    }

    fn drop_channel(&mut self, at: At, out: &mut Outputs) -> Vec<QueueId> {
        let stirred = self.return_all(at, out);
        self.tell_exchange(at);
        if let Some(counts) = self.channel(at).map(Channel::counts) {
            self.past += counts;
            self.churn.channels_closed += 1;
        }
        if let Some(connection) = self.connections.get_mut(at.connection)
            && let Some(slot) = connection.channels.get_mut(usize::from(at.channel))
            && slot.take().is_some()
        {
            connection.channel_count -= 1;
        }
        stirred
    }

    /// Ends a channel or a connection because of a fault. Nothing that it held is kept.
    pub(crate) fn fail(&mut self, at: At, fault: Fault, method: (u16, u16), out: &mut Outputs) {
        let Fault { code, text } = fault;
        if code.closes_connection() {
            out.send(at.connection, Send::CloseConnection { code: code.number(), text, method });
            self.disconnect(at.now, at.connection, out);
            return;
        }
        self.close_channel(at, out);
        out.send(
            at.connection,
            Send::CloseChannel { channel: at.channel, code: code.number(), text, method },
        );
        if let Some(connection) = self.connections.get_mut(at.connection)
            && let Some(slot) = connection.channels.get_mut(usize::from(at.channel))
        {
            let mut channel = Box::new(Channel::new(0, None));
            channel.state = State::Closing;
            *slot = Some(channel);
            connection.channel_count += 1;
        }
    }

    /// What a channel waited for has come: a held-back command may be given again.
    pub(crate) fn answered(&mut self, at: At, out: &mut Outputs) {
        let Some(connection) = self.connections.get_mut(at.connection) else { return };
        if let Some(channel) = connection.channel_mut(at.channel) {
            channel.awaiting = false;
        }
        if std::mem::take(&mut connection.held) {
            out.send(at.connection, Send::Resume);
        }
    }

    /// A publish is stored by one more queue, or was not.
    pub(crate) fn settle_publish(&mut self, at: At, seq: u64, done: bool, out: &mut Outputs) {
        let Some(channel) = self.channel_mut(at) else { return };
        match &mut channel.mode {
            Mode::Plain => {}
            Mode::Confirm(confirms) => {
                if !done {
                    confirms.refuse(seq);
                }
                confirms.settle(seq);
                if !channel.answers_due {
                    channel.answers_due = true;
                    self.answers.push((at.connection, at.channel));
                }
            }
            Mode::Transaction(transaction) => {
                transaction.refused |= !done;
                transaction.confirms.settle(seq);
                if let Err(fault) = self.end_commit(at, out) {
                    self.fail(at, fault, TX_COMMIT, out);
                }
            }
        }
    }

    /// Sends publishers the answers due.
    pub(crate) fn answer_all(&mut self, out: &mut Outputs) {
        let mut due = std::mem::take(&mut self.answers);
        for (connection, channel) in due.drain(..) {
            self.answer_one(At { now: 0, connection, channel }, out);
        }
        self.answers = due;
    }

    fn answer_one(&mut self, at: At, out: &mut Outputs) {
        let Some(channel) = self.channel_mut(at) else { return };
        if !std::mem::take(&mut channel.answers_due) {
            return;
        }
        let Mode::Confirm(confirms) = &mut channel.mode else { return };
        let number = at.channel;
        confirms.answers(&mut |answer| {
            out.send(
                at.connection,
                match answer {
                    Answer::Ack { seq, multiple } => Send::Ack { channel: number, tag: seq, multiple },
                    Answer::Nack { seq } => Send::Nack { channel: number, tag: seq },
                },
            );
        });
    }
}

/// Class and number of `tx.commit`.
pub(crate) const TX_COMMIT: (u16, u16) = (90, 20);
