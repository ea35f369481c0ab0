//! Changes of users, virtual hosts, permissions and policies; the way to those of parameters and limits.

use http::Method as Verb;
use serde_json::{Value as Json, json};

use super::Management;
use super::ask::{self, Order, missing};
use super::node;
use super::policy;
use super::reply::{Outcome, Refusal, Reply};
use super::write::fits;
use crate::mq::engine::PolicyDefinition;
use crate::mq::server::change::{
    Change, PermissionDefinition, TopicPermissionDefinition, UserDefinition, VhostDefinition, tags_of,
};
use crate::mq::server::users::{UsersError, hashed};
use crate::mq::server::{ChangeError, ImportError};

/// Whether something of that name was there before a change.
pub(super) struct Existed(pub(super) bool);

impl From<Existed> for Reply {
    fn from(existed: Existed) -> Self {
        if existed.0 { Self::Done } else { Self::Created(None) }
    }
}

impl Management {
    pub(super) async fn administer(&self, verb: &Verb, order: &Order<'_>, path: &[&str]) -> Outcome {
        let deletes = *verb == Verb::DELETE;
        match path {
            ["definitions" | "all-configuration", rest @ ..] => {
                self.import(order, rest.first().copied()).await
            }
            ["rebalance", "queues"] | ["vhosts", _, "start", _] => Ok(Reply::Done),
            ["feature-flags", name, "enable"] if node::is_feature_flag(name) => Ok(Reply::Done),
            ["feature-flags", ..] => Err(Refusal::bad_request("unsupported")),
            ["cluster-name"] => self.set_cluster_name(order).await,
            ["vhosts", name] if deletes => self.delete_vhost(name).await,
            ["vhosts", name] => self.put_vhost(order, name).await,
            ["users", "bulk-delete"] => self.delete_users(order).await,
            ["users", name] if deletes => self.delete_user(name).await,
            ["users", name] => self.put_user(order, name).await,
            ["permissions", vhost, user] if deletes => self.delete_permission(vhost, user).await,
            ["permissions", vhost, user] => self.put_permission(order, vhost, user).await,
            ["topic-permissions", vhost, user, rest @ ..] if deletes => {
                self.delete_topic_permission(vhost, user, rest.first().copied()).await
            }
            ["topic-permissions", vhost, user] => self.put_topic_permission(order, vhost, user).await,
            ["policies" | "operator-policies", vhost, name] => {
                let is_operator = path[0] != "policies";
                let host = self.host_for(order, vhost, verb)?;
                if deletes {
                    self.delete_policy(host.name(), name, is_operator).await
                } else {
                    self.put_policy(order, host.name(), name, is_operator).await
                }
            }
            ["global-parameters", name] => self.global(order, name, deletes).await,
            ["parameters", component, vhost, name] => {
                let host = self.host_for(order, vhost, verb)?;
                self.parameter(order, component, host.name(), name, deletes).await
            }
            ["vhost-limits", vhost, name] => {
                let host = self.host_for(order, vhost, verb)?;
                self.vhost_limit(order, host.name(), name, deletes).await
            }
            ["user-limits", user, name] => self.user_limit(order, user, name, deletes).await,
            _ => missing(),
        }
    }

    async fn import(&self, order: &Order<'_>, vhost: Option<&str>) -> Outcome {
        if let Some(vhost) = vhost {
            self.broker.host(vhost).ok_or_else(|| Refusal::bad_request("vhost_not_found"))?;
        }
        let file = ask::object(order.body)?;
        self.broker.import(&Json::Object(file), vhost).await.map_err(|error| match error {
            ImportError::Change(error @ ChangeError::NotKept) => Refusal::failed(&error.to_string()),
            error => Refusal::bad_request(error.to_string()),
        })?;
        Ok(Reply::Done)
    }

    pub(super) async fn apply(&self, change: Change) -> Result<(), Refusal> {
        self.broker.change(change).await.map_err(|error| match error {
            ChangeError::Users(UsersError::Pattern(wrong)) => {
                Refusal::bad_request(json!(["invalid_regexp", wrong.pattern, wrong.reason]))
            }
            ChangeError::Users(UsersError::Unknown { .. }) => Refusal::bad_request("vhost_or_user_not_found"),
            ChangeError::NotKept => Refusal::failed(&error.to_string()),
            other => Refusal::bad_request(other.to_string()),
        })
    }

    async fn set_cluster_name(&self, order: &Order<'_>) -> Outcome {
        if !order.caller.is_administrator() {
            return Err(Refusal::not_authorised("Not administrator user"));
        }
        let object = ask::object(order.body)?;
        let [name] = ask::wanted(&object, ["name"])?;
        let value = ask::text(name, "name")?.into();
        self.apply(Change::GlobalParameter { name: "cluster_name".to_owned(), value }).await?;
        Ok(Reply::Done)
    }

    async fn put_vhost(&self, order: &Order<'_>, name: &str) -> Outcome {
        fits(name)?;
        let object = ask::object(order.body)?;
        let held = self.broker.users().vhost(name).cloned();
        let existed = Existed(held.is_some());
        let mut definition =
            held.unwrap_or_else(|| VhostDefinition { name: name.to_owned(), ..Default::default() });
        // What is not said is empty again.
        definition.description.clear();
        definition.tags.clear();
        if let Some(description) = object.get("description") {
            definition.description = ask::text(description, "description")?.to_owned();
        }
        if let Some(tags) = object.get("tags") {
            definition.tags = tags_of(tags);
        }
        if let Some(kind) = object.get("default_queue_type").and_then(Json::as_str) {
            definition.default_queue_type = Some(kind.to_owned());
        }
        definition.tracing = ask::boolean(object.get("tracing"))?.unwrap_or(definition.tracing);
        let change = Change::Vhost(definition);
        self.apply(change).await?;
        if !existed.0 {
            // Whoever makes one may use it: RabbitMQ's API, not its command line.
            let all = || ".*".to_owned();
            let everything = PermissionDefinition {
                user: order.caller.name.to_string(),
                vhost: name.to_owned(),
                configure: all(),
                write: all(),
                read: all(),
            };
            self.apply(Change::Permission(everything)).await?;
        }
        Ok(existed.into())
    }

    async fn delete_vhost(&self, name: &str) -> Outcome {
        if self.broker.users().vhost(name).is_none() {
            return missing();
        }
        self.apply(Change::VhostDeleted(name.to_owned())).await?;
        Ok(Reply::Done)
    }

    async fn put_user(&self, order: &Order<'_>, name: &str) -> Outcome {
        fits(name)?;
        let object = ask::object(order.body)?;
        let tags = object.get("tags").or_else(|| object.get("administrator"));
        let Some(tags) = tags else { return Err(Refusal::bad_request("tags_not_present")) };
        let held = self.broker.users().user(name).cloned();
        let existed = Existed(held.is_some());
        let mut user = UserDefinition {
            name: name.to_owned(),
            tags: tags_of(tags),
            limits: held.map(|held| held.limits).unwrap_or_default(),
            ..UserDefinition::default()
        };
        match (object.get("password_hash"), object.get("password")) {
            (Some(hash), _) => {
                user.password_hash = ask::text(hash, "password_hash")?.to_owned();
                let algorithm = object.get("hashing_algorithm").and_then(Json::as_str);
                user.hashing_algorithm = algorithm.map(str::to_owned);
            }
            (None, Some(password)) => {
                let password = ask::text(password, "password")?;
                // An empty one lets nobody in.
                user.password_hash = if password.is_empty() { String::new() } else { hashed(password) };
            }
            (None, None) => {}
        }
        let hash = user.password_hash.clone();
        self.broker.change(Change::User(user)).await.map_err(|error| match error {
            ChangeError::Users(UsersError::Hash(_)) => Refusal::bad_request(json!(["not_base64", hash])),
            ChangeError::NotKept => Refusal::failed(&error.to_string()),
            other => Refusal::bad_request(other.to_string()),
        })?;
        Ok(existed.into())
    }

    async fn delete_user(&self, name: &str) -> Outcome {
        if self.broker.users().user(name).is_none() {
            return missing();
        }
        self.apply(Change::UserDeleted(name.to_owned())).await?;
        Ok(Reply::Done)
    }

    async fn delete_users(&self, order: &Order<'_>) -> Outcome {
        let object = ask::object(order.body)?;
        let [names] = ask::wanted(&object, ["users"])?;
        let names: Vec<&str> = names.as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        for name in &names {
            if self.broker.users().user(name).is_none() {
                return Err(Refusal::bad_request(json!(["no_such_user", name])));
            }
        }
        for name in names {
            self.apply(Change::UserDeleted(name.to_owned())).await?;
        }
        Ok(Reply::Done)
    }

    async fn put_permission(&self, order: &Order<'_>, vhost: &str, user: &str) -> Outcome {
        let object = ask::object(order.body)?;
        let [configure, write, read] = ask::wanted(&object, ["configure", "write", "read"])?;
        let existed = Existed(self.broker.users().access(user, vhost).is_some());
        self.apply(Change::Permission(PermissionDefinition {
            user: user.to_owned(),
            vhost: vhost.to_owned(),
            configure: ask::text(configure, "configure")?.to_owned(),
            write: ask::text(write, "write")?.to_owned(),
            read: ask::text(read, "read")?.to_owned(),
        }))
        .await?;
        Ok(existed.into())
    }

    async fn delete_permission(&self, vhost: &str, user: &str) -> Outcome {
        if self.broker.users().access(user, vhost).is_none() {
            return missing();
        }
        self.apply(Change::PermissionDeleted { user: user.to_owned(), vhost: vhost.to_owned() }).await?;
        Ok(Reply::Done)
    }

    fn topics_of(&self, vhost: &str, user: &str, exchange: Option<&str>) -> usize {
        let users = self.broker.users();
        let held = users.topic_permissions().filter(|held| {
            held.vhost == vhost && held.user == user && exchange.is_none_or(|name| name == held.exchange)
        });
        held.count()
    }

    async fn put_topic_permission(&self, order: &Order<'_>, vhost: &str, user: &str) -> Outcome {
        let object = ask::object(order.body)?;
        let [exchange, write, read] = ask::wanted(&object, ["exchange", "write", "read"])?;
        let existed = Existed(self.topics_of(vhost, user, None) > 0);
        self.apply(Change::TopicPermission(TopicPermissionDefinition {
            user: user.to_owned(),
            vhost: vhost.to_owned(),
            exchange: ask::text(exchange, "exchange")?.to_owned(),
            write: ask::text(write, "write")?.to_owned(),
            read: ask::text(read, "read")?.to_owned(),
        }))
        .await?;
        Ok(existed.into())
    }

    async fn delete_topic_permission(&self, vhost: &str, user: &str, exchange: Option<&str>) -> Outcome {
        if self.topics_of(vhost, user, exchange) == 0 {
            return missing();
        }
        self.apply(Change::TopicPermissionDeleted {
            user: user.to_owned(),
            vhost: vhost.to_owned(),
            exchange: exchange.map(str::to_owned),
        })
        .await?;
        Ok(Reply::Done)
    }

    /// Whether there is a policy of that name.
    pub(super) fn has_policy(&self, vhost: &str, name: &str, is_operator: bool) -> bool {
        let Some(host) = self.broker.host(vhost) else { return false };
        let rules = host.look(|engine| engine.rules());
        let list = if is_operator { rules.operator_policies } else { rules.policies };
        list.iter().any(|policy| policy.name == name)
    }

    async fn put_policy(&self, order: &Order<'_>, vhost: &str, name: &str, is_operator: bool) -> Outcome {
        let object = ask::object(order.body)?;
        let [pattern, definition] = ask::wanted(&object, ["pattern", "definition"])?;
        let policy = policy::read(name, pattern, definition, &object, is_operator)
            .map_err(|why| Refusal::bad_request(format!("Validation failed\n\n{why}\n")))?;
        let existed = Existed(self.has_policy(vhost, name, is_operator));
        self.apply(of_policy(vhost, policy, is_operator)).await?;
        Ok(existed.into())
    }

    pub(super) async fn delete_policy(&self, vhost: &str, name: &str, is_operator: bool) -> Outcome {
        if !self.has_policy(vhost, name, is_operator) {
            return missing();
        }
        let (vhost, name) = (vhost.to_owned(), name.to_owned());
        self.apply(if is_operator {
            Change::OperatorPolicyDeleted { vhost, name }
        } else {
            Change::PolicyDeleted { vhost, name }
        })
        .await?;
        Ok(Reply::Done)
    }
}

/// The change that sets a policy.
pub(super) fn of_policy(vhost: &str, policy: PolicyDefinition, is_operator: bool) -> Change {
    let vhost = vhost.to_owned();
    if is_operator { Change::OperatorPolicy { vhost, policy } } else { Change::Policy { vhost, policy } }
}
