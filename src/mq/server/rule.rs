//! Changes taken over: what runs follows them, and they are kept over restarts with the definitions of queues.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use super::change::{Change, PermissionDefinition, TopicPermissionDefinition};
use super::users::{Users, UsersError};
use super::{Broker, live};
use crate::mq::durable::Durable;
use crate::mq::engine::{Access, DefinitionError, Pattern};

/// Kinds under which changes are kept, in the order in which a start takes them over.
const KINDS: [&str; 9] = [
    "vhost",
    "user",
    "user-limit",
    "permission",
    "topic-permission",
    "vhost-limit",
    "parameter",
    "policy",
    "operator-policy",
];

/// Why a change cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Of users, permissions, virtual hosts or limits.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// Of policies.
    #[error(transparent)]
    Policy(#[from] DefinitionError),
    /// It holds, but the disk does not have it.
    #[error("it holds until the broker stops: it could not be written to disk")]
    NotKept,
}

impl Change {
    /// The key it is kept under.
    pub(super) fn kept_as(&self) -> String {
        let (kind, names, _) = self.key();
        joined(kind, &names)
    }

    /// What it is about: a kind, names, and whether that is gone.
    fn key(&self) -> (&'static str, Vec<&str>, bool) {
        match self {
            Self::User(user) => ("user", vec![&user.name], false),
            Self::UserDeleted(name) => ("user", vec![name], true),
            Self::Vhost(vhost) => ("vhost", vec![&vhost.name], false),
            Self::VhostDeleted(name) => ("vhost", vec![name], true),
            Self::Permission(held) => ("permission", vec![&held.vhost, &held.user], false),
            Self::PermissionDeleted { user, vhost } => ("permission", vec![vhost, user], true),
            Self::TopicPermission(held) => {
                ("topic-permission", vec![&held.vhost, &held.user, &held.exchange], false)
            }
            Self::TopicPermissionDeleted { user, vhost, exchange } => {
                ("topic-permission", vec![vhost, user, exchange.as_deref().unwrap_or_default()], true)
            }
            Self::Policy { vhost, policy } => ("policy", vec![vhost, &policy.name], false),
            Self::PolicyDeleted { vhost, name } => ("policy", vec![vhost, name], true),
            Self::OperatorPolicy { vhost, policy } => ("operator-policy", vec![vhost, &policy.name], false),
            Self::OperatorPolicyDeleted { vhost, name } => ("operator-policy", vec![vhost, name], true),
            Self::GlobalParameter { name, .. } => ("parameter", vec![name], false),
            Self::GlobalParameterDeleted(name) => ("parameter", vec![name], true),
            Self::VhostLimit { vhost, name, .. } => ("vhost-limit", vec![vhost, name], false),
            Self::VhostLimitDeleted { vhost, name } => ("vhost-limit", vec![vhost, name], true),
            Self::UserLimit { user, name, .. } => ("user-limit", vec![user, name], false),
            Self::UserLimitDeleted { user, name } => ("user-limit", vec![user, name], true),
        }
    }
}

fn joined(kind: &str, names: &[&str]) -> String {
    serde_json::json!([kind, names]).to_string()
}

/// What users and permissions there are, by the keys they would be kept under.
pub(super) fn keys_of(users: &Users) -> HashSet<String> {
    let people = users.users().map(|user| joined("user", &[&user.name]));
    let vhosts = users.vhosts().map(|vhost| joined("vhost", &[&vhost.name]));
    let permissions = users.permissions().map(|held| joined("permission", &[&held.vhost, &held.user]));
    let topics = users
        .topic_permissions()
        .map(|held| joined("topic-permission", &[&held.vhost, &held.user, &held.exchange]));
    people.chain(vhosts).chain(permissions).chain(topics).collect()
}

/// The changes of earlier runs.
pub(super) fn kept(durable: &Durable) -> Vec<Change> {
    let all = KINDS.iter().flat_map(|kind| durable.kept(kind));
    let read = |(names, value): (Vec<String>, serde_json::Value)| match serde_json::from_value(value) {
        Ok(change) => Some(change),
        Err(error) => {
            tracing::error!(?names, %error, "a change that this version cannot read");
            None
        }
    };
    all.filter_map(read).collect()
}

impl Broker {
    /// Keeps a change over restarts.
    async fn keep(&self, change: &Change) -> Result<(), ChangeError> {
        let Some(durable) = &self.durable else { return Ok(()) };
        let (kind, names, is_gone) = change.key();
        // What is there at every start, or in a definition of its user, has to be taken away again.
        let is_given = self.given.contains(&joined(kind, &names)) || kind == "user-limit";
        let value = if is_gone && !is_given { None } else { serde_json::to_value(change).ok() };
        if !durable.keep(kind, &names, value).await {
            tracing::error!(kind, ?names, "a change is not on disk: it holds until the broker stops");
            return Err(ChangeError::NotKept);
        }
        Ok(())
    }

    /// Permissions, limits and rules that go with a user or a virtual host, as changes.
    fn gone_with(&self, change: &Change) -> Vec<Change> {
        let users = self.users();
        let (of_user, of_vhost) = match change {
            Change::UserDeleted(name) => (Some(name), None),
            Change::VhostDeleted(name) => (None, Some(name)),
            Change::TopicPermissionDeleted { user, vhost, exchange: None } => {
                let held =
                    users.topic_permissions().filter(|held| held.user == *user && held.vhost == *vhost);
                return held.map(topic_gone).collect();
            }
            _ => return Vec::new(),
        };
        let concerns = |user: &String, vhost: &String| Some(user) == of_user || Some(vhost) == of_vhost;
        let mut gone: Vec<Change> = users
            .topic_permissions()
            .filter(|held| concerns(&held.user, &held.vhost))
            .map(topic_gone)
            .collect();
        gone.extend(
            users
                .permissions()
                .filter(|held| concerns(&held.user, &held.vhost))
                .map(|held| Change::PermissionDeleted { user: held.user.clone(), vhost: held.vhost.clone() }),
        );
        let limits = users.vhost_limits().filter(|(vhost, ..)| of_vhost.is_some_and(|held| held == vhost));
        gone.extend(limits.map(|(vhost, name, _)| Change::VhostLimitDeleted {
            vhost: vhost.to_owned(),
            name: name.to_owned(),
        }));
        drop(users);
        let host = of_vhost.and_then(|vhost| self.host(vhost));
        if let (Some(host), Some(vhost)) = (host, of_vhost) {
            let rules = host.look(|engine| engine.rules());
            gone.extend(
                rules
                    .policies
                    .into_iter()
                    .map(|policy| Change::PolicyDeleted { vhost: vhost.clone(), name: policy.name }),
            );
            gone.extend(
                rules
                    .operator_policies
                    .into_iter()
                    .map(|policy| Change::OperatorPolicyDeleted { vhost: vhost.clone(), name: policy.name }),
            );
        }
        gone
    }

    /// Takes a change over, lets what runs follow it, and keeps it over restarts: the one way in which users, virtual
    /// hosts, permissions, policies and limits change. Returns when it is on disk.
    ///
    /// # Errors
    /// It makes no sense, and nothing has changed; or it holds, and is not kept.
    pub async fn change(&self, change: Change) -> Result<(), ChangeError> {
        let _one = self.changing.lock().await;
        self.check(&change)?;
        let gone = self.gone_with(&change);
        self.users.write().unwrap_or_else(PoisonError::into_inner).apply(&change)?;
        self.take_effect(&change);
        for change in gone.iter().chain([&change]) {
            self.keep(change).await?;
        }
        Ok(())
    }

    /// What can be wrong with a change beside what users can tell.
    fn check(&self, change: &Change) -> Result<(), ChangeError> {
        match change {
            Change::Policy { vhost, policy } | Change::OperatorPolicy { vhost, policy } => {
                self.host(vhost).ok_or_else(|| UsersError::NoVhost(vhost.clone()))?;
                policy.policy()?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Lets what runs follow a change.
    pub(super) fn take_effect(&self, change: &Change) {
        match change {
            Change::User(user) => self.follow(&user.name, None),
            Change::UserDeleted(name) => {
                self.send_away(|link| *link.terms.user == **name, &format!("user '{name}' was deleted"));
            }
            Change::Vhost(vhost) => {
                self.open_host(&vhost.name);
                let node = vhost.tracing.then(|| super::node_name().into());
                if let Some(host) = self.host(&vhost.name) {
                    host.run(|engine, _, _| engine.set_tracing(node));
                }
            }
            Change::VhostDeleted(name) => {
                let closed = self.hosts.write().unwrap_or_else(PoisonError::into_inner).remove(name);
                self.send_away(|link| link.host.name() == *name, &format!("vhost '{name}' is deleted"));
                if let Some(host) = closed {
                    host.close();
                }
            }
            Change::Permission(PermissionDefinition { user, vhost, .. })
            | Change::PermissionDeleted { user, vhost }
            | Change::TopicPermission(TopicPermissionDefinition { user, vhost, .. })
            | Change::TopicPermissionDeleted { user, vhost, .. } => self.follow(user, Some(vhost)),
            Change::Policy { vhost, policy } => {
                if let (Some(host), Ok(policy)) = (self.host(vhost), policy.policy()) {
                    host.run(|engine, out, now| engine.set_policy(now, policy, out));
                }
            }
            Change::OperatorPolicy { vhost, policy } => {
                if let (Some(host), Ok(policy)) = (self.host(vhost), policy.policy()) {
                    host.run(|engine, out, now| engine.set_operator_policy(now, policy, out));
                }
            }
            Change::PolicyDeleted { vhost, name } => {
                if let Some(host) = self.host(vhost) {
                    host.run(|engine, out, now| engine.remove_policy(now, name, out));
                }
            }
            Change::OperatorPolicyDeleted { vhost, name } => {
                if let Some(host) = self.host(vhost) {
                    host.run(|engine, out, now| engine.remove_operator_policy(now, name, out));
                }
            }
            Change::GlobalParameter { name, value } => {
                self.parameters().insert(name.clone(), value.clone());
            }
            Change::GlobalParameterDeleted(name) => {
                self.parameters().remove(name);
            }
            Change::VhostLimit { vhost, .. } | Change::VhostLimitDeleted { vhost, .. } => {
                let queues = self.users().vhost_limit(vhost, "max-queues");
                let queues = queues.map(|queues| usize::try_from(queues).unwrap_or(usize::MAX));
                if let Some(host) = self.host(vhost) {
                    host.run(|engine, _, _| engine.set_queues_max(queues));
                }
            }
            Change::UserLimit { user, .. } | Change::UserLimitDeleted { user, .. } => {
                self.allowance(user);
            }
        }
    }

    /// Gives a user's connections what the user may do now.
    fn follow(&self, user: &str, vhost: Option<&str>) {
        for host in self.hosts() {
            if vhost.is_none_or(|vhost| vhost == host.name()) {
                let access = self.users().access(user, host.name());
                // Who may do nothing any more stays, and may do nothing.
                let access = access.unwrap_or_else(|| {
                    Arc::new(Access {
                        configure: Pattern::Empty,
                        write: Pattern::Empty,
                        read: Pattern::Empty,
                        topics: HashMap::new(),
                        impersonates: false,
                    })
                });
                host.run(|engine, _, _| engine.set_access(user, &access));
            }
        }
    }

    fn send_away(&self, whom: impl Fn(&live::Link) -> bool, reason: &str) {
        self.live.all().iter().filter(|link| whom(link)).for_each(|link| link.close(reason));
    }
}

fn topic_gone(held: &TopicPermissionDefinition) -> Change {
    let TopicPermissionDefinition { user, vhost, exchange, .. } = held.clone();
    Change::TopicPermissionDeleted { user, vhost, exchange: Some(exchange) }
}
