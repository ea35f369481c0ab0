//! Definitions in and out: RabbitMQ's JSON of a whole broker or of one virtual host, as 3.x and 4.x write it.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json, json};

use super::change::{Change, VhostDefinition};
use super::users::{FileUser, UsersError};
use super::{Broker, ChangeError};
use crate::mq::engine::{DefinitionError, Definitions, PolicyDefinition};

/// The RabbitMQ whose form an export has.
const RABBITMQ_VERSION: &str = "3.10.8";

/// Why definitions cannot be taken over. Everything before the one that is named was.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is not JSON, or no object.
    #[error("not a file of definitions: {0}")]
    Form(String),
    /// One that has another form.
    #[error("{member}: {reason}")]
    Member {
        /// `queues`, `users`, …
        member: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// One that names a virtual host that is not defined.
    #[error("{member}: virtual host '{vhost}' is not defined")]
    Vhost {
        /// `queues`, `policies`, …
        member: &'static str,
        /// The one that is missing.
        vhost: String,
    },
    /// They are in force, and not on disk.
    #[error("definitions cannot be stored")]
    NotStored,
    /// One that makes no sense.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// A queue, exchange or binding that makes no sense.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
}

/// What counts where a file and earlier runs differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Precedence {
    File,
    Held,
}

/// The members of a file that are lists of one thing.
fn list<T: DeserializeOwned>(file: &Map<String, Json>, member: &'static str) -> Result<Vec<T>, ImportError> {
    let Some(value) = file.get(member).filter(|value| !value.is_null()) else { return Ok(Vec::new()) };
    // 3.x and 4.x wrote the member for arguments that are none as a list.
    let items = value
        .as_array()
        .ok_or_else(|| ImportError::Member { member, reason: "expected a list".to_owned() })?;
    let one = |item: &Json| {
        let mut item = item.clone();
        if let Some(arguments) = item.get_mut("arguments")
            && arguments.as_array().is_some_and(Vec::is_empty)
        {
            *arguments = json!({});
        }
        serde_json::from_value(item)
            .map_err(|error| ImportError::Member { member, reason: error.to_string() })
    };
    items.iter().map(one).collect()
}

/// A thing, and the virtual host it belongs to.
fn placed<T: DeserializeOwned>(
    file: &Map<String, Json>,
    member: &'static str,
    vhost: Option<&str>,
) -> Result<Vec<(String, T)>, ImportError> {
    let places = file.get(member).and_then(Json::as_array).into_iter().flatten().map(|item| {
        let own = item.get("vhost").and_then(Json::as_str);
        vhost.or(own).unwrap_or("/").to_owned()
    });
    Ok(places.zip(list(file, member)?).collect())
}

/// Queues, exchanges and bindings by virtual host.
fn placed_definitions(
    file: &Map<String, Json>,
    vhost: Option<&str>,
) -> Result<BTreeMap<String, Definitions>, ImportError> {
    let mut by_vhost: BTreeMap<String, Definitions> = BTreeMap::new();
    for (vhost, queue) in placed(file, "queues", vhost)? {
        by_vhost.entry(vhost).or_default().queues.push(queue);
    }
    for (vhost, exchange) in placed(file, "exchanges", vhost)? {
        by_vhost.entry(vhost).or_default().exchanges.push(exchange);
    }
    for (vhost, binding) in placed(file, "bindings", vhost)? {
        by_vhost.entry(vhost).or_default().bindings.push(binding);
    }
    Ok(by_vhost)
}

impl Broker {
    /// Takes definitions over: of everything, or of one virtual host. What is there stays if it is not defined anew.
    ///
    /// # Errors
    /// The first that makes no sense; those before it were taken over.
    pub async fn import(&self, file: &Json, vhost: Option<&str>) -> Result<(), ImportError> {
        self.import_as(Precedence::File, file, vhost).await
    }

    /// The same at the start: what earlier runs have changed stays as it is, as RabbitMQ's documentation has it: "The
    /// definitions in the file will not overwrite anything already in the broker."
    ///
    /// # Errors
    /// As [`import`](Self::import).
    pub async fn import_at_start(&self, file: &Json) -> Result<(), ImportError> {
        self.import_as(Precedence::Held, file, None).await
    }

    async fn define(&self, precedence: Precedence, change: Change) -> Result<(), ImportError> {
        if precedence == Precedence::Held && self.kept.contains(&change.kept_as()) {
            return Ok(());
        }
        Ok(self.change(change).await?)
    }

    async fn import_as(
        &self,
        precedence: Precedence,
        file: &Json,
        vhost: Option<&str>,
    ) -> Result<(), ImportError> {
        let file = file.as_object().ok_or_else(|| ImportError::Form("expected an object".to_owned()))?;
        if vhost.is_none() {
            for user in list::<FileUser>(file, "users")? {
                self.define(precedence, Change::User(user.into())).await?;
            }
            for vhost in list::<VhostDefinition>(file, "vhosts")? {
                self.define(precedence, Change::Vhost(vhost)).await?;
            }
            for permission in list(file, "permissions")? {
                self.define(precedence, Change::Permission(permission)).await?;
            }
            for permission in list(file, "topic_permissions")? {
                self.define(precedence, Change::TopicPermission(permission)).await?;
            }
            for parameter in list::<Json>(file, "global_parameters")? {
                let name = parameter.get("name").and_then(Json::as_str).unwrap_or_default().to_owned();
                // That of the broker it comes from is its own.
                if let (Some(value), true) = (parameter.get("value"), name != "internal_cluster_id") {
                    self.define(precedence, Change::GlobalParameter { name, value: value.clone() }).await?;
                }
            }
        }
        for (vhost, parameter) in placed::<Json>(file, "parameters", vhost)? {
            self.import_parameter(precedence, &vhost, &parameter).await?;
        }
        for (vhost, policy) in placed(file, "policies", vhost)? {
            check_policy(precedence, "policies", &policy, false)?;
            self.define(precedence, Change::Policy { vhost, policy }).await?;
        }
        for (vhost, definitions) in placed_definitions(file, vhost)? {
            let Some(host) = self.host(&vhost) else {
                return Err(ImportError::Vhost { member: "queues, exchanges or bindings", vhost });
            };
            // Between what is not there: RabbitMQ leaves such a binding out without a word.
            let mut leave = |error: DefinitionError| {
                if error.what != "binding" {
                    return Err(error);
                }
                tracing::warn!(%error, vhost, "a binding is left out");
                Ok(())
            };
            host.run(|engine, out, now| engine.define_unless(now, &definitions, out, &mut leave))?;
            if !host.settled().await {
                return Err(ImportError::NotStored);
            }
        }
        Ok(())
    }

    /// Parameters of components: operator policies and limits are kept as such.
    async fn import_parameter(
        &self,
        precedence: Precedence,
        vhost: &str,
        parameter: &Json,
    ) -> Result<(), ImportError> {
        let text = |name: &str| parameter.get(name).and_then(Json::as_str).unwrap_or_default();
        let value = parameter.get("value").cloned().unwrap_or_default();
        match text("component") {
            "operator_policy" => {
                let mut value = value;
                if let Json::Object(value) = &mut value {
                    value.insert("name".to_owned(), text("name").into());
                }
                let policy: PolicyDefinition = serde_json::from_value(value).map_err(|error| {
                    ImportError::Member { member: "parameters", reason: error.to_string() }
                })?;
                check_policy(precedence, "parameters", &policy, true)?;
                self.define(precedence, Change::OperatorPolicy { vhost: vhost.to_owned(), policy }).await?;
            }
            "vhost-limits" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    let value = value.as_i64().unwrap_or(-1);
                    let (vhost, name) = (vhost.to_owned(), name.clone());
                    self.define(precedence, Change::VhostLimit { vhost, name, value }).await?;
                }
            }
            other => tracing::warn!(component = other, name = text("name"), "parameter is of no use here"),
        }
        Ok(())
    }

    /// Everything that is defined, or what is on one virtual host; none if there is no such one.
    pub fn export(&self, vhost: Option<&str>) -> Option<Json> {
        let mut file = Map::new();
        file.insert("rabbit_version".to_owned(), RABBITMQ_VERSION.into());
        let mut hosts = match vhost {
            Some(vhost) => vec![self.host(vhost)?],
            None => self.hosts(),
        };
        hosts.sort_by(|a, b| a.name().cmp(b.name()));
        if vhost.is_none() {
            file.insert("rabbitmq_version".to_owned(), RABBITMQ_VERSION.into());
            file.insert("product_name".to_owned(), "bandy".into());
            file.insert("product_version".to_owned(), env!("CARGO_PKG_VERSION").into());
            let users = self.users();
            file.insert("users".to_owned(), users.users().map(|user| json!(user)).collect());
            file.insert("vhosts".to_owned(), users.vhosts().map(exported_vhost).collect());
            file.insert("permissions".to_owned(), users.permissions().map(|held| json!(held)).collect());
            file.insert(
                "topic_permissions".to_owned(),
                users.topic_permissions().map(|held| json!(held)).collect(),
            );
            drop(users);
            let global = self.parameters();
            let global = global.iter().map(|(name, value)| json!({"name": name, "value": value}));
            file.insert("global_parameters".to_owned(), global.collect());
        }
        let mut lists: [Vec<Json>; 5] = Default::default();
        for host in &hosts {
            let definitions = host.look(|engine| engine.definitions());
            let place = |mut item: Json| {
                if let (None, Json::Object(item)) = (vhost, &mut item) {
                    item.insert("vhost".to_owned(), host.name().into());
                }
                item
            };
            // RabbitMQ leaves it out of queues, exchanges and bindings only.
            let of_host = |mut item: Json| {
                if let Json::Object(item) = &mut item {
                    item.insert("vhost".to_owned(), host.name().into());
                }
                item
            };
            let [parameters, policies, queues, exchanges, bindings] = &mut lists;
            parameters.extend(self.exported_limits(host.name()).map(of_host));
            parameters.extend(definitions.operator_policies.iter().map(|policy| {
                let PolicyDefinition { name, pattern, apply_to, priority, definition } = policy;
                of_host(json!({
                    "component": "operator_policy", "name": name,
                    "value": {
                        "pattern": pattern, "apply-to": apply_to, "priority": priority, "definition": definition,
                    },
                }))
            }));
            policies.extend(definitions.policies.iter().map(|policy| of_host(json!(policy))));
            queues.extend(definitions.queues.iter().map(|queue| place(json!(queue))));
            exchanges.extend(definitions.exchanges.iter().map(|exchange| place(json!(exchange))));
            bindings.extend(definitions.bindings.iter().map(|binding| place(json!(binding))));
        }
        let names = ["parameters", "policies", "queues", "exchanges", "bindings"];
        file.extend(names.into_iter().map(str::to_owned).zip(lists.map(Json::Array)));
        Some(file.into())
    }

    fn exported_limits(&self, vhost: &str) -> impl Iterator<Item = Json> {
        let users = self.users();
        let held = users.vhost_limits().filter(|(held, ..)| *held == vhost);
        let limits: Map<String, Json> =
            held.map(|(_, name, value)| (name.to_owned(), value.into())).collect();
        let limits = (!limits.is_empty()).then_some(limits);
        limits
            .map(|limits| json!({"component": "vhost-limits", "name": "limits", "value": limits}))
            .into_iter()
    }
}

/// Whether the settings of a policy can be. At a start, those of a later RabbitMQ are no reason not to start.
fn check_policy(
    precedence: Precedence,
    member: &'static str,
    policy: &PolicyDefinition,
    is_operator: bool,
) -> Result<(), ImportError> {
    match (super::management::policy::check_settings(&policy.definition, is_operator), precedence) {
        (Err(reason), Precedence::File) => {
            Err(ImportError::Member { member, reason: format!("'{}': {reason}", policy.name) })
        }
        (Err(reason), Precedence::Held) => {
            tracing::warn!(policy = policy.name, reason, "settings of a policy are of no use here");
            Ok(())
        }
        (Ok(()), _) => Ok(()),
    }
}

/// What is not said stays as it was in RabbitMQ 3.10: the name alone.
fn exported_vhost(vhost: &VhostDefinition) -> Json {
    let mut exported = json!({"name": vhost.name});
    if let Json::Object(exported) = &mut exported
        && (!vhost.description.is_empty() || !vhost.tags.is_empty())
    {
        exported.insert("description".to_owned(), vhost.description.as_str().into());
        exported.insert("tags".to_owned(), json!(vhost.tags));
        exported.insert("metadata".to_owned(), json!({"description": vhost.description, "tags": vhost.tags}));
    }
    exported
}

impl From<UsersError> for ImportError {
    fn from(error: UsersError) -> Self {
        Self::Change(ChangeError::Users(error))
    }
}
