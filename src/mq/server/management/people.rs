//! Users, virtual hosts, permissions and limits as RabbitMQ's API shows them.

use serde_json::{Map, Value as Json, json};

use super::Management;
use super::ask::Caller;
use super::object::{length_figures, message_figures};
use super::rates::Subject;
use crate::mq::server::change::{
    PermissionDefinition, TopicPermissionDefinition, UserDefinition, VhostDefinition,
};

pub(super) fn user(user: &UserDefinition) -> Json {
    json!({
        "name": user.name, "password_hash": user.password_hash, "hashing_algorithm": user.hashing_algorithm,
        "tags": user.tags, "limits": user.limits,
    })
}

pub(super) fn permission(permission: &PermissionDefinition) -> Json {
    let PermissionDefinition { user, vhost, configure, write, read } = permission;
    json!({"user": user, "vhost": vhost, "configure": configure, "write": write, "read": read})
}

pub(super) fn topic_permission(permission: &TopicPermissionDefinition) -> Json {
    let TopicPermissionDefinition { user, vhost, exchange, write, read } = permission;
    json!({"user": user, "vhost": vhost, "exchange": exchange, "write": write, "read": read})
}

impl Management {
    pub(super) fn vhost(&self, definition: &VhostDefinition) -> Json {
        let VhostDefinition { name, description, tags, default_queue_type, tracing } = definition;
        let kind = default_queue_type.as_deref().unwrap_or("undefined");
        let mut metadata = Map::new();
        metadata.insert("description".to_owned(), description.as_str().into());
        metadata.insert("tags".to_owned(), json!(tags));
        let mut shown = json!({
            "cluster_state": {&*self.node: "running"}, "default_queue_type": kind, "description": description,
            "metadata": metadata, "name": name, "tags": tags, "tracing": tracing,
        });
        let Some(host) = self.broker.host(name) else { return shown };
        let (counts, totals) = host.look(|engine| (engine.counts(), engine.totals()));
        if let Json::Object(shown) = &mut shown {
            let key: std::sync::Arc<str> = name.as_str().into();
            let figures = message_figures(&counts);
            if let Some(stats) = self.message_stats(&Subject::Vhost(key.clone()), &figures) {
                shown.insert("message_stats".to_owned(), stats);
            }
            let lengths = length_figures(totals.ready, totals.unacked);
            shown.extend(self.rates.with(&Subject::VhostLength(key), &lengths));
        }
        shown
    }

    /// Virtual hosts that the caller may know of: all for who watches.
    pub(super) fn vhosts(&self, caller: &Caller) -> Vec<Json> {
        let users = self.broker.users();
        let own = users.vhosts_of(&caller.name);
        let seen = users.vhosts().filter(|vhost| caller.is_monitor() || own.contains(&vhost.name));
        let definitions: Vec<VhostDefinition> = seen.cloned().collect();
        drop(users);
        definitions.iter().map(|definition| self.vhost(definition)).collect()
    }

    pub(super) fn users_without_permissions(&self) -> Vec<Json> {
        let users = self.broker.users();
        users.users().filter(|one| users.vhosts_of(&one.name).is_empty()).map(user).collect()
    }

    pub(super) fn vhost_limits(&self, wanted: impl Fn(&str) -> bool) -> Vec<Json> {
        let users = self.broker.users();
        let mut by_vhost: Vec<(String, Map<String, Json>)> = Vec::new();
        for (vhost, name, value) in users.vhost_limits().filter(|(vhost, ..)| wanted(vhost)) {
            if by_vhost.last().is_none_or(|(held, _)| held != vhost) {
                by_vhost.push((vhost.to_owned(), Map::new()));
            }
            if let Some((_, limits)) = by_vhost.last_mut() {
                limits.insert(name.to_owned(), value.into());
            }
        }
        by_vhost.into_iter().map(|(vhost, limits)| json!({"vhost": vhost, "value": limits})).collect()
    }

    pub(super) fn user_limits(&self, wanted: impl Fn(&str) -> bool) -> Vec<Json> {
        let users = self.broker.users();
        let limited = users.users().filter(|user| !user.limits.is_empty() && wanted(&user.name));
        limited.map(|user| json!({"user": user.name, "value": user.limits})).collect()
    }
}
