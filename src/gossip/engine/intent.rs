//! Joining and leaving announced: who leaves after saying so has left, who just vanishes has failed.

use std::collections::HashMap;
use std::time::Duration;

use super::{
    About, Change, Engine, Event, Message, Name, NodeState, Output, Refusal, Serf, Status, Time, Timer,
};
use crate::gossip::wire::{Accusation, Intent};

/// How long an announcement about a node waits for the node to become known. Serf, RecentIntentTimeout.
const INTENDED_TIMEOUT: Duration = Duration::from_secs(300);
/// Most announcements that wait.
const INTENDED_MAX: usize = 4096;

/// How many rounds of news the announcement that a node leaves is ahead of its leaving.
const HEAD_START_INTERVALS: u32 = 3;

/// Announcements about nodes that are not known yet.
#[derive(Debug, Default)]
pub(super) struct Intended {
    by_name: HashMap<Name, Announced>,
}

/// The last announcement about a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announced {
    pub ltime: u64,
    pub leaves: bool,
    at: Time,
}

impl Intended {
    pub fn take(&mut self, name: &Name) -> Option<Announced> {
        self.by_name.remove(name)
    }

    /// True if it is news.
    fn put(&mut self, name: &Name, ltime: u64, leaves: bool, at: Time) -> bool {
        let announced = Announced { ltime, leaves, at };
        let full = self.by_name.len() >= INTENDED_MAX;
        match self.by_name.get_mut(name) {
            Some(known) if known.ltime >= ltime => false,
            Some(known) => {
                *known = announced;
                true
            }
            None if full => false,
            None => {
                self.by_name.insert(name.clone(), announced);
                true
            }
        }
    }

    pub fn forget_before(&mut self, now: Time) {
        self.by_name.retain(|_, announced| now - announced.at < INTENDED_TIMEOUT);
    }
}

/// How far this node is with leaving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Here,
    /// The intent is being told.
    Announced,
    /// The leaving itself is being told.
    Gone,
    /// Everybody has been told, those who have not heard it may still ask.
    Lingering,
    Left,
}

/// How far this node is with leaving, and until when it stays there.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    step: Step,
    until: Time,
}

impl Leaving {
    /// Whether the node no longer says that it is there.
    pub fn begun(&self) -> bool {
        self.step != Step::Here
    }

    fn gone(&self) -> bool {
        matches!(self.step, Step::Gone | Step::Lingering | Step::Left)
    }
}

impl Engine {
    /// A node says that it leaves. Serf, handleNodeLeaveIntent.
    pub(super) fn leave_intent(&mut self, now: Time, intent: Intent, outputs: &mut Vec<Output>) {
        if self.clock.witness(intent.ltime) && self.take_leave(now, &intent, outputs) {
            self.broadcasts.push(About::Intents, Message::Serf(Serf::Leave(intent)));
            self.broadcasts.prune(About::Intents, super::BROADCASTS_MAX.max(2 * self.members.len()));
        }
    }

    /// The same from another's state: it is told already.
    pub(super) fn merge_leave(&mut self, now: Time, intent: &Intent, outputs: &mut Vec<Output>) {
        self.take_leave(now, intent, outputs);
    }

    fn take_leave(&mut self, now: Time, intent: &Intent, outputs: &mut Vec<Output>) -> bool {
        let Some(id) = self.members.id(&intent.node) else {
            return self.intended.put(&intent.node, intent.ltime, true, now);
        };
        let Some(member) = self.members.get(id) else { return false };
        let (status, state) = (member.status, member.state);
        if intent.ltime <= member.status_ltime {
            return false;
        }
        if id == self.me && !self.leaving.begun() {
            // Somebody wants us gone, or remembers an earlier life of ours.
            let ltime = self.clock.tick();
            self.members.change(id, |member| member.status_ltime = ltime);
            let node = self.config.name.clone();
            self.broadcasts
                .push(About::Intents, Message::Serf(Serf::Join(Intent { ltime, node, prune: false })));
            return false;
        }
        self.members.change(id, |member| {
            member.status_ltime = intent.ltime;
            match status {
                Status::Alive => member.status = Status::Leaving,
                Status::Failed => {
                    member.status = Status::Left;
                    member.since = now;
                    if member.state == NodeState::Dead {
                        member.state = NodeState::Left;
                    }
                }
                Status::Leaving | Status::Left => {}
            }
        });
        if status == Status::Failed {
            self.tell(Change::Leave, id, outputs);
        }
        if intent.prune && !matches!(state, NodeState::Alive | NodeState::Suspect) {
            self.erase(id, outputs);
        }
        true
    }

    /// A node says that it joins. Serf, handleNodeJoinIntent.
    pub(super) fn join_intent(&mut self, now: Time, intent: Intent) {
        if self.clock.witness(intent.ltime) && self.merge_join(now, &intent) {
            self.broadcasts.push(About::Intents, Message::Serf(Serf::Join(intent)));
            self.broadcasts.prune(About::Intents, super::BROADCASTS_MAX.max(2 * self.members.len()));
        }
    }

    /// The same from another's state. True if it is news.
    pub(super) fn merge_join(&mut self, now: Time, intent: &Intent) -> bool {
        let Some(id) = self.members.id(&intent.node) else {
            return self.intended.put(&intent.node, intent.ltime, false, now);
        };
        let Some(member) = self.members.get(id) else { return false };
        if intent.ltime <= member.status_ltime {
            return false;
        }
        self.members.change(id, |member| {
            member.status_ltime = intent.ltime;
            if member.status == Status::Leaving {
                member.status = Status::Alive;
            }
        });
        true
    }

    /// Begins to leave: first announced, then done, so that others know it for leaving. Serf, Leave.
    pub(super) fn leave(&mut self, now: Time, outputs: &mut Vec<Output>) {
        if self.leaving.begun() {
            return;
        }
        if self.members.living() <= 1 {
            self.leaving.step = Step::Left;
            return outputs.push(Output::Event(Event::Left));
        }
        let (ltime, me) = (self.clock.tick(), self.me);
        self.members.change(me, |member| {
            (member.status, member.status_ltime) = (Status::Leaving, ltime);
        });
        let intent = Intent { ltime, node: self.config.name.clone(), prune: false };
        self.broadcasts.push_last(About::Intents, Message::Serf(Serf::Leave(intent)));
        self.leave_step(now, Step::Announced, self.config.leave_timeout);
    }

    fn leave_step(&mut self, now: Time, step: Step, wait: Duration) {
        self.leaving = Leaving { step, until: now + wait };
        self.timers.set(now + wait, Timer::Leave);
    }

    /// The last news have been sent as often as they need to be.
    pub(super) fn leaving_told(&mut self, now: Time) {
        let wait = match self.leaving.step {
            // Those who were told pass it on before they hear that the node is gone: to them it would have failed.
            Step::Announced => self.config.gossip_interval * HEAD_START_INTERVALS,
            Step::Gone => Duration::ZERO,
            Step::Here | Step::Lingering | Step::Left => return,
        };
        self.leaving.until = self.leaving.until.min(now + wait);
        self.timers.set(self.leaving.until, Timer::Leave);
    }

    pub(super) fn leave_goes_on(&mut self, now: Time, outputs: &mut Vec<Output>) {
        if now < self.leaving.until {
            return;
        }
        // Whoever was last has nobody to say goodbye to.
        if self.leaving.begun() && self.leaving.step != Step::Left && self.members.living() <= 1 {
            self.leaving.step = Step::Left;
            return outputs.push(Output::Event(Event::Left));
        }
        match self.leaving.step {
            Step::Announced => {
                let me = self.me();
                let (incarnation, node) = (me.incarnation, me.name.clone());
                let accusation = Accusation { incarnation, node: node.clone(), from: node };
                self.broadcasts.forget(self.me);
                self.broadcasts.push_last(About::Members, Message::Dead(accusation));
                self.leave_step(now, Step::Gone, self.config.leave_timeout);
            }
            Step::Gone => self.leave_step(now, Step::Lingering, self.config.leave_linger),
            Step::Lingering => {
                self.leaving.step = Step::Left;
                outputs.push(Output::Event(Event::Left));
            }
            Step::Here | Step::Left => {}
        }
    }

    /// Makes a member that failed one that left. Serf, RemoveFailedNode.
    pub(super) fn force_leave(&mut self, now: Time, node: &Name, prune: bool, outputs: &mut Vec<Output>) {
        let refusal = match self.members.by_name(node) {
            None => Some(Refusal::Unknown { node: node.clone() }),
            Some(member) if member.is_living() => Some(Refusal::Living { node: node.clone() }),
            Some(_) => None,
        };
        if let Some(refusal) = refusal {
            return outputs.push(Output::Event(Event::Refused { tag: None, refusal }));
        }
        let intent = Intent { ltime: self.clock.tick(), node: node.clone(), prune };
        if self.take_leave(now, &intent, outputs) {
            self.broadcasts.push(About::Intents, Message::Serf(Serf::Leave(intent)));
        }
    }

    /// Whether the node has said that it is gone.
    pub fn is_gone(&self) -> bool {
        self.leaving.gone()
    }
}
