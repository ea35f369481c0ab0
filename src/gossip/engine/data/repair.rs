//! What another node lacks, in parts that a stream brings.

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Engine, Entry, PART_BYTES_MAX, SENT_BYTES_MAX, Stamp, Wire, entry, size};
use crate::gossip::engine::exchange::Purpose;
use crate::gossip::engine::{Mode, Name, Output, PushPull, Serf};
use crate::gossip::wire::StreamMessage;

impl Engine {
    /// Somebody wants values that were announced to it.
    pub(in crate::gossip::engine) fn serve_fetch(
        &mut self,
        from: SocketAddr,
        name: &Name,
        stamps: &[Stamp],
        outputs: &mut Vec<Output>,
    ) {
        // Values go where the member is, not where the stream comes from; and only to one that is there.
        let Some(member) = self.members.by_name(name).filter(|member| member.address.ip() == from.ip())
        else {
            return;
        };
        let to = member.address;
        // Each once, however often it is wanted.
        let stamps: BTreeMap<&Arc<str>, &Stamp> = stamps.iter().map(|stamp| (&stamp.key, stamp)).collect();
        let wanted = stamps.into_values().filter_map(|stamp| {
            let stored = self.data.store.get(&stamp.key)?;
            (stored.version >= stamp.version).then(|| entry(&stamp.key, stored))
        });
        let entries: Vec<Entry> = wanted.collect();
        self.send_lacking(to, entries, outputs);
    }

    /// What another one lacks of what we have, by the digest in its state.
    pub(in crate::gossip::engine) fn lacking(&self, theirs: &PushPull) -> Vec<Entry> {
        if self.data.config.mode == Mode::Pull {
            return Vec::new();
        }
        let digest = theirs.serf.as_ref().and_then(|serf| serf.digest.as_deref());
        digest.map_or(Vec::new(), |digest| self.data.newer_than(digest, SENT_BYTES_MAX))
    }

    /// Sends entries over streams, so many in each that it takes them.
    pub(in crate::gossip::engine) fn send_lacking(
        &mut self,
        to: SocketAddr,
        entries: Vec<Entry>,
        outputs: &mut Vec<Output>,
    ) {
        let mut rest = entries.into_iter().peekable();
        while let Some(first) = rest.next() {
            let mut bytes = size(&first);
            let mut part = vec![first];
            while let Some(next) = rest.next_if(|next| bytes + size(next) <= PART_BYTES_MAX) {
                bytes += size(&next);
                part.push(next);
            }
            let from = self.config.name.clone();
            let rumors = Wire::Rumors { from, entries: part, feedback: false };
            self.open(to, StreamMessage::Serf(Serf::Data(rumors)), false, Purpose::Tell, outputs);
        }
    }

    /// Another one told what it has and a part of it: asks for more, for as long as what comes is news.
    pub(in crate::gossip::engine) fn ask_for_the_rest(
        &mut self,
        peer: SocketAddr,
        theirs: &[Stamp],
        before: usize,
        outputs: &mut Vec<Output>,
    ) {
        let comes = self.data.taken > before;
        let lacks = |stamp: &Stamp| self.data.store.lacks(&stamp.key, &stamp.version);
        if !comes || !theirs.iter().any(lacks) {
            return;
        }
        let mut state = self.state(false, None);
        if let Some(serf) = &mut state.serf {
            serf.digest.get_or_insert_with(|| self.data.digest());
        }
        self.open(peer, StreamMessage::PushPull(state), true, Purpose::Repair, outputs);
    }
}
