//! What keeps a member in its group: it joins, divides when it leads, sends heartbeats, and joins again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::assign::{Assignor, Member};
use super::{Event, GOODBYE_TIMEOUT, MemberOptions, Place, Release};
use crate::log::client::{Cluster, Connection, Coordinates, Error};
use crate::log::wire::api::heartbeat::HeartbeatRequest;
use crate::log::wire::api::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use crate::log::wire::api::leave_group::{LeaveGroupRequest, MemberIdentity};
use crate::log::wire::api::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use crate::log::wire::consumer_protocol::{
    PROTOCOL_TYPE, Partitions, Subscription, assignment_to_bytes, parse_assignment,
};
use crate::log::wire::{ErrorCode, Request};

/// So many heartbeats are sent in a session timeout: two may be lost.
const HEARTBEATS: u32 = 3;
/// The leader looks for partitions that have been added so often.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Who this member is to the group just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    /// Its id; empty before it has one.
    pub member: String,
    /// The generation that it is in; -1 for none.
    pub generation: i32,
}

impl Default for Standing {
    fn default() -> Self {
        Self { member: String::new(), generation: -1 }
    }
}

/// A member, as its task has it.
pub(super) struct Task {
    cluster: Cluster,
    options: MemberOptions,
    standing: watch::Sender<Standing>,
    events: mpsc::Sender<Result<Event, Error>>,
    /// A connection of its own: a join holds up all that is asked after it.
    coordinator: Option<Connection>,
    owned: BTreeSet<Place>,
    /// How the group was divided last.
    assignor: Option<Assignor>,
    /// How many partitions the topics had when this member divided them; none if another one leads.
    divided: Option<BTreeMap<String, usize>>,
}

/// What a round of joining has come to.
enum Round {
    /// These are the member's partitions.
    Division(Assignor, BTreeSet<Place>),
    /// The group has gone on meanwhile: once more.
    Again,
}

impl Task {
    pub(super) fn new(
        cluster: Cluster,
        options: MemberOptions,
        standing: watch::Sender<Standing>,
        events: mpsc::Sender<Result<Event, Error>>,
    ) -> Self {
        let (owned, divided) = (BTreeSet::new(), None);
        Self { cluster, options, standing, events, coordinator: None, owned, assignor: None, divided }
    }

    /// Takes part until `left` ends, or it is shut out.
    pub(super) async fn run(mut self, left: oneshot::Receiver<()>) {
        let result = tokio::select! {
            result = self.take_part() => result,
            _ = left => Ok(()),
        };
        if let Err(error) = result {
            let _ = self.events.send(Err(error)).await;
        }
        let _ = timeout(GOODBYE_TIMEOUT, self.leave()).await;
    }

    async fn take_part(&mut self) -> Result<(), Error> {
        loop {
            let (assignor, places) = self.join().await?;
            if !self.take(assignor, places).await {
                self.stay().await?;
            }
            // Without cooperation nobody knows who reads what until everybody has let go of everything.
            if !self.assignor.is_some_and(Assignor::is_cooperative) {
                let owned = std::mem::take(&mut self.owned);
                self.give_up(owned).await;
            }
        }
    }

    /// Changes to what was divided; true if something was given up that others wait for in a next round.
    async fn take(&mut self, assignor: Assignor, places: BTreeSet<Place>) -> bool {
        let gone: BTreeSet<Place> = self.owned.difference(&places).cloned().collect();
        let new: Vec<Place> = places.difference(&self.owned).cloned().collect();
        let is_cooperative = assignor.is_cooperative();
        (self.assignor, self.owned) = (Some(assignor), places);
        let gives_up = !gone.is_empty() && is_cooperative;
        match is_cooperative {
            true => self.give_up(gone).await,
            // The group has changed to a way in which others read already what was kept here.
            false => self.lose(gone).await,
        }
        // Even nothing at all is told: the member is in.
        let _ = self.events.send(Ok(Event::Assigned(new))).await;
        gives_up
    }

    /// Waits until the reader has let go of these; the group hears of us meanwhile.
    async fn give_up(&mut self, places: BTreeSet<Place>) {
        if places.is_empty() {
            return;
        }
        let (release, mut released) = oneshot::channel();
        let event = Event::Revoked(places.into_iter().collect(), Release(release));
        if self.events.send(Ok(event)).await.is_err() {
            return;
        }
        let mut beats = self.beats();
        loop {
            tokio::select! {
                _ = &mut released => return,
                // What it answers shows when we join again.
                _ = beats.tick() => drop(self.beat().await),
            }
        }
    }

    async fn lose(&mut self, places: BTreeSet<Place>) {
        if !places.is_empty() {
            let _ = self.events.send(Ok(Event::Lost(places.into_iter().collect()))).await;
        }
    }

    /// The group knows this member no more: everything is somebody else's by now.
    async fn is_forgotten(&mut self) {
        self.standing.send_replace(Standing::default());
        self.assignor = None;
        let owned = std::mem::take(&mut self.owned);
        self.lose(owned).await;
    }

    fn beats(&self) -> tokio::time::Interval {
        let every = (self.options.session_timeout / HEARTBEATS).max(Duration::from_millis(1));
        let mut beats = interval(every);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beats
    }

    /// In touch until the group is to be divided anew.
    async fn stay(&mut self) -> Result<(), Error> {
        let mut beats = self.beats();
        let mut looked = Instant::now();
        // The first one comes at once, and says nothing new.
        beats.tick().await;
        loop {
            beats.tick().await;
            match self.beat().await {
                Ok(ErrorCode::NONE) => {}
                Ok(ErrorCode::REBALANCE_IN_PROGRESS) => return Ok(()),
                Ok(ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION) => {
                    self.is_forgotten().await;
                    return Ok(());
                }
                Ok(code) if !code.is_retriable() => {
                    return Err(Error::refused(HeartbeatRequest::KEY, code, None));
                }
                Err(error) if !error.is_transient() => return Err(error),
                // Another coordinator, or none for a while.
                Ok(_) | Err(_) => self.coordinator = None,
            }
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                if self.has_grown().await {
                    return Ok(());
                }
            }
        }
    }

    /// Is there something that this member, as the leader, has not divided?
    async fn has_grown(&self) -> bool {
        let Some(divided) = &self.divided else { return false };
        let names: Vec<&str> = divided.keys().map(String::as_str).collect();
        self.counts(&names).await.is_ok_and(|counts| counts != *divided)
    }

    async fn beat(&mut self) -> Result<ErrorCode, Error> {
        let Standing { member, generation } = self.standing.borrow().clone();
        let request = HeartbeatRequest {
            group_id: self.options.group.clone(),
            generation_id: generation,
            member_id: member,
            group_instance_id: self.options.instance.clone(),
        };
        Ok(self.ask(&request, Duration::ZERO).await?.1.error_code)
    }

    /// Asks the coordinator, which may take `longer`; the version in which it was asked, and the answer.
    async fn ask<R: Request>(&mut self, request: &R, longer: Duration) -> Result<(i16, R::Response), Error> {
        let connection = match &self.coordinator {
            Some(connection) if connection.ended().is_none() => connection.clone(),
            _ => {
                let found = self.cluster.coordinator_alone(Coordinates::Group, &self.options.group).await?;
                self.coordinator.insert(found).clone()
            }
        };
        let version = connection.version::<R>(i16::MAX)?;
        Ok((version, connection.send(request, version, longer)?.await?))
    }

    /// Joins, as often as it takes.
    async fn join(&mut self) -> Result<(Assignor, BTreeSet<Place>), Error> {
        let mut pause = self.cluster.retries(&format!("group '{}'", self.options.group));
        loop {
            match self.round().await {
                Ok(Round::Division(assignor, places)) => return pause.worked(Ok((assignor, places))),
                Ok(Round::Again) => {}
                Err(error) if error.is_transient() && pause.again(&error).await => self.coordinator = None,
                Err(error) => return Err(error),
            }
        }
    }

    async fn round(&mut self) -> Result<Round, Error> {
        let request = self.join_request();
        let (_, joined) = self.ask(&request, self.options.rebalance_timeout).await?;
        match joined.error_code {
            ErrorCode::NONE => {}
            // From version 4 on a member is given its id first, so that none is left over from a lost answer (KIP-394).
            ErrorCode::MEMBER_ID_REQUIRED => {
                self.standing.send_replace(Standing { member: joined.member_id, generation: -1 });
                return Ok(Round::Again);
            }
            ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION => {
                self.is_forgotten().await;
                return Ok(Round::Again);
            }
            ErrorCode::REBALANCE_IN_PROGRESS => return Ok(Round::Again),
            code => return Err(Error::refused(JoinGroupRequest::KEY, code, None)),
        }
        let name = joined.protocol_name.clone().unwrap_or_default();
        let assignor = Assignor::from_name(&name)
            .ok_or_else(|| Error::NotReady(format!("group {} is divided by '{name}'", self.options.group)))?;
        let assignments = self.divide(assignor, &joined).await?;
        let request = SyncGroupRequest {
            group_id: self.options.group.clone(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            group_instance_id: self.options.instance.clone(),
            protocol_type: Some(PROTOCOL_TYPE.to_owned()),
            protocol_name: Some(name),
            assignments,
        };
        let (_, synced) = self.ask(&request, self.options.rebalance_timeout).await?;
        match synced.error_code {
            ErrorCode::NONE => {}
            ErrorCode::REBALANCE_IN_PROGRESS => {
                let member = joined.member_id;
                self.standing.send_modify(|standing| standing.member = member);
                return Ok(Round::Again);
            }
            ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION => {
                self.is_forgotten().await;
                return Ok(Round::Again);
            }
            code => return Err(Error::refused(SyncGroupRequest::KEY, code, None)),
        }
        let partitions = parse_assignment(&synced.assignment)?;
        let generation = joined.generation_id;
        self.standing.send_replace(Standing { member: joined.member_id, generation });
        let each = partitions.into_iter();
        let places = each.flat_map(|(topic, numbers)| numbers.into_iter().map(move |it| (topic.clone(), it)));
        Ok(Round::Division(assignor, places.collect()))
    }

    fn join_request(&self) -> JoinGroupRequest {
        let Standing { member, generation } = self.standing.borrow().clone();
        let mut owned = Partitions::new();
        for (topic, number) in &self.owned {
            owned.entry(topic.clone()).or_default().push(*number);
        }
        let topics = self.options.topics.clone();
        let metadata = Subscription { topics, owned, generation, ..Subscription::default() }.to_bytes();
        let protocols = self.options.assignors.iter().map(|assignor| JoinGroupRequestProtocol {
            name: assignor.name().to_owned(),
            metadata: metadata.clone(),
        });
        let ms = |duration: Duration| i32::try_from(duration.as_millis()).unwrap_or(i32::MAX);
        JoinGroupRequest {
            group_id: self.options.group.clone(),
            session_timeout_ms: ms(self.options.session_timeout),
            rebalance_timeout_ms: ms(self.options.rebalance_timeout),
            member_id: member,
            group_instance_id: self.options.instance.clone(),
            protocol_type: PROTOCOL_TYPE.to_owned(),
            protocols: protocols.collect(),
            reason: None,
        }
    }

    /// What each member gets, if this one is to say so.
    async fn divide(
        &mut self,
        assignor: Assignor,
        joined: &JoinGroupResponse,
    ) -> Result<Vec<SyncGroupRequestAssignment>, Error> {
        self.divided = None;
        if joined.leader != joined.member_id || joined.members.is_empty() {
            return Ok(Vec::new());
        }
        let member = |it: &crate::log::wire::api::join_group::JoinGroupResponseMember| {
            // A member that nobody understands gets nothing, and the others go on.
            let subscription = Subscription::parse(&it.metadata).unwrap_or_default();
            Member { id: it.member_id.clone(), instance: it.group_instance_id.clone(), subscription }
        };
        let members: Vec<Member> = joined.members.iter().map(member).collect();
        let names: BTreeSet<&str> =
            members.iter().flat_map(|it| it.subscription.topics.iter().map(String::as_str)).collect();
        let counts = self.counts(&names.into_iter().collect::<Vec<_>>()).await?;
        if joined.skip_assignment {
            self.divided = Some(counts);
            return Ok(Vec::new());
        }
        let division = assignor.divide(&members, &counts);
        self.divided = Some(counts);
        let share = |(member_id, partitions): (String, Partitions)| {
            let assignment = assignment_to_bytes(0, &partitions);
            SyncGroupRequestAssignment { member_id, assignment }
        };
        Ok(division.into_iter().map(share).collect())
    }

    /// How many partitions topics have; those that are not there have none.
    async fn counts(&self, names: &[&str]) -> Result<BTreeMap<String, usize>, Error> {
        let response = self.cluster.metadata(Some(names), false).await?;
        let count = |it: &crate::log::wire::api::metadata::MetadataResponseTopic| {
            Some((it.name.clone()?, it.partitions.len()))
        };
        Ok(response.topics.iter().filter_map(count).collect())
    }

    /// Says goodbye, unless this member has a lasting name to come back under.
    async fn leave(&mut self) {
        let Standing { member, .. } = self.standing.borrow().clone();
        if member.is_empty() || self.options.instance.is_some() {
            return;
        }
        // Over another connection: on this one an unanswered join may be in the way.
        let group = &self.options.group;
        let found = self.cluster.coordinator_for_goodbye(Coordinates::Group, group).await;
        let Ok(connection) = found else { return };
        let Ok(version) = connection.version::<LeaveGroupRequest>(i16::MAX) else { return };
        let mut request = LeaveGroupRequest { group_id: group.clone(), ..Default::default() };
        match version {
            ..3 => request.member_id = member,
            3.. => request.members = vec![MemberIdentity { member_id: member, ..Default::default() }],
        }
        if let Ok(answer) = connection.send(&request, version, Duration::ZERO) {
            let _ = answer.await;
        }
    }
}
