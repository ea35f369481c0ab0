//! What the engine sends, as frames.

use crate::mq::engine::{Delivery, Message, Reply, Send as Out};
use crate::mq::wire::method::{Long, access, basic, channel, confirm, connection, exchange, queue, tx};
use crate::mq::wire::{self, Method};

/// Appends a `connection.close`.
pub(super) fn close(buffer: &mut Vec<u8>, code: u16, text: &str, (class_id, method_id): (u16, u16)) {
    let close = connection::Close { reply_code: code, reply_text: text, class_id, method_id };
    wire::method(buffer, 0, &close.into());
}

/// Appends the frames of a send to a client. What only concerns the connection itself has none.
pub(super) fn send(buffer: &mut Vec<u8>, send: &Out, frame_max: u32) {
    match send {
        Out::Deliver(Delivery { channel, redelivered, tag, consumer, message }) => {
            let method = basic::Deliver {
                consumer_tag: consumer,
                delivery_tag: *tag,
                redelivered: *redelivered,
                exchange: &message.exchange,
                routing_key: &message.routing_key,
            };
            content(buffer, *channel, &method.into(), message, frame_max);
        }
        Out::GetOk { channel, tag, redelivered, remaining, message } => {
            let method = basic::GetOk {
                delivery_tag: *tag,
                redelivered: *redelivered,
                exchange: &message.exchange,
                routing_key: &message.routing_key,
                message_count: *remaining,
            };
            content(buffer, *channel, &method.into(), message, frame_max);
        }
        Out::Return { channel, code, text, message } => {
            let method = basic::Return {
                reply_code: *code,
                reply_text: text,
                exchange: &message.exchange,
                routing_key: &message.routing_key,
            };
            content(buffer, *channel, &method.into(), message, frame_max);
        }
        Out::Ack { channel, tag, multiple } => {
            let ack = basic::Ack { delivery_tag: *tag, multiple: *multiple };
            wire::method(buffer, *channel, &ack.into());
        }
        Out::Nack { channel, tag } => {
            let nack = basic::Nack { delivery_tag: *tag, multiple: false, requeue: false };
            wire::method(buffer, *channel, &nack.into());
        }
        Out::Cancel { channel, consumer } => {
            let cancel = basic::Cancel { consumer_tag: consumer, nowait: true };
            wire::method(buffer, *channel, &cancel.into());
        }
        Out::Reply { channel, reply } => answer(buffer, *channel, reply),
        Out::CloseChannel { channel, code, text, method: (class_id, method_id) } => {
            let close = channel::Close {
                reply_code: *code,
                reply_text: text,
                class_id: *class_id,
                method_id: *method_id,
            };
            wire::method(buffer, *channel, &close.into());
        }
        Out::CloseConnection { code, text, method } => close(buffer, *code, text, *method),
        Out::Block { .. } | Out::Unblock | Out::Resume => {}
    }
}

fn content(buffer: &mut Vec<u8>, channel: u16, method: &Method<'_>, message: &Message, frame_max: u32) {
    wire::content(buffer, channel, method, &message.properties, &message.body, frame_max);
}

fn answer(buffer: &mut Vec<u8>, number: u16, reply: &Reply) {
    let method: Method<'_> = match reply {
        Reply::ChannelOpenOk => channel::OpenOk { channel_id: Long(b"") }.into(),
        Reply::ChannelCloseOk => channel::CloseOk {}.into(),
        Reply::ChannelFlowOk { active } => channel::FlowOk { active: *active }.into(),
        Reply::AccessRequestOk => access::RequestOk { ticket: 1 }.into(),
        Reply::ExchangeDeclareOk => exchange::DeclareOk {}.into(),
        Reply::ExchangeDeleteOk => exchange::DeleteOk {}.into(),
        Reply::ExchangeBindOk => exchange::BindOk {}.into(),
        Reply::ExchangeUnbindOk => exchange::UnbindOk {}.into(),
        Reply::QueueDeclareOk { queue, messages, consumers } => {
            queue::DeclareOk { queue, message_count: *messages, consumer_count: *consumers }.into()
        }
        Reply::QueueBindOk => queue::BindOk {}.into(),
        Reply::QueueUnbindOk => queue::UnbindOk {}.into(),
        Reply::QueuePurgeOk { messages } => queue::PurgeOk { message_count: *messages }.into(),
        Reply::QueueDeleteOk { messages } => queue::DeleteOk { message_count: *messages }.into(),
        Reply::BasicQosOk => basic::QosOk {}.into(),
        Reply::BasicConsumeOk { consumer } => basic::ConsumeOk { consumer_tag: consumer }.into(),
        Reply::BasicCancelOk { consumer } => basic::CancelOk { consumer_tag: consumer }.into(),
        Reply::BasicGetEmpty => basic::GetEmpty { cluster_id: "" }.into(),
        Reply::BasicRecoverOk => basic::RecoverOk {}.into(),
        Reply::ConfirmSelectOk => confirm::SelectOk {}.into(),
        Reply::TxSelectOk => tx::SelectOk {}.into(),
        Reply::TxCommitOk => tx::CommitOk {}.into(),
        Reply::TxRollbackOk => tx::RollbackOk {}.into(),
    };
    wire::method(buffer, number, &method);
}
