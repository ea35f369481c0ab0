//! Settings of topics, and of the broker as far as they are topics' defaults: described and changed.

use std::collections::HashSet;
use std::sync::Arc;

use super::answer::{Head, Pending};
use super::config::{self, Kind, SETTINGS, Setting, Values, value_of};
use super::session::Session;
use super::topics::{Failed, Topic};
use super::{Broker, NODE_ID};
use crate::log::wire::api::alter_configs::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse,
};
use crate::log::wire::api::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use crate::log::wire::api::incremental_alter_configs::{
    self as incremental, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use crate::log::wire::api::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use crate::log::wire::{ErrorCode, api::AclOperation, api::ConfigResourceType, api::ConfigSource};

/// Kinds of values, as they are told to clients.
fn type_of(kind: Kind) -> i8 {
    match kind {
        Kind::Switch => 1,
        Kind::Word(_) => 2,
        Kind::Number(_, max) if max <= i64::from(i32::MAX) => 3,
        Kind::Number(..) => 5,
        Kind::Share => 6,
        Kind::Words(_) => 7,
    }
}

/// `DescribeConfigs`.
pub(super) fn describe(session: &Session, head: Head, request: DescribeConfigsRequest) -> Pending {
    let (synonyms, docs) = (request.include_synonyms, request.include_documentation);
    let results = request.resources.into_iter().map(|asked| {
        let found = may(session, AclOperation::DescribeConfigs, (asked.resource_type, &asked.resource_name))
            .and_then(|()| described(&session.broker, &asked, (synonyms, docs), session.advertised()));
        let (error_code, error_message, configs) = match found {
            Ok(configs) => (ErrorCode::NONE, None, configs),
            Err(Failed { error, message }) => (error, Some(message), Vec::new()),
        };
        DescribeConfigsResult {
            error_code,
            error_message,
            resource_type: asked.resource_type,
            resource_name: asked.resource_name,
            configs,
        }
    });
    let response =
        DescribeConfigsResponse { results: results.collect(), ..DescribeConfigsResponse::default() };
    Pending::ready::<DescribeConfigsRequest>(head, &response)
}

/// Whether someone may see settings, or change them.
fn may(session: &Session, operation: AclOperation, resource: (i8, &str)) -> Result<(), Failed> {
    let (is_allowed, error) = match ConfigResourceType::from_code(resource.0) {
        Some(ConfigResourceType::Topic) => {
            (session.may_topic(operation, resource.1), ErrorCode::TOPIC_AUTHORIZATION_FAILED)
        }
        Some(ConfigResourceType::Group) => {
            (session.may_group(operation, resource.1), ErrorCode::GROUP_AUTHORIZATION_FAILED)
        }
        _ => (session.may_cluster(operation), ErrorCode::CLUSTER_AUTHORIZATION_FAILED),
    };
    if is_allowed { Ok(()) } else { Err(Failed::new(error, format!("needs '{operation}'"))) }
}

fn described(
    broker: &Broker,
    asked: &DescribeConfigsResource,
    (synonyms, docs): (bool, bool),
    advertised: (String, i32),
) -> Result<Vec<DescribeConfigsResourceResult>, Failed> {
    let is_wanted = |name: &str| {
        asked
            .configuration_keys
            .as_ref()
            .is_none_or(|keys| keys.is_empty() || keys.iter().any(|key| key == name))
    };
    let defaults = broker.topics.defaults();
    match ConfigResourceType::from_code(asked.resource_type) {
        Some(ConfigResourceType::Topic) => {
            let own = topic(broker, &asked.resource_name)?.values();
            let wanted = SETTINGS.iter().filter(|setting| is_wanted(setting.name));
            Ok(wanted.map(|setting| of_topic(setting, &own, defaults, synonyms, docs)).collect())
        }
        Some(ConfigResourceType::Broker) => {
            is_this_broker(&asked.resource_name)?;
            let (host, port) = &advertised;
            let listener = format!("PLAINTEXT://{host}:{port}");
            let wanted = SETTINGS
                .iter()
                .filter(|setting| !setting.of_broker.is_empty() && is_wanted(setting.of_broker));
            let more = [
                ("auto.create.topics.enable", broker.options.auto_create.to_string(), 1),
                ("advertised.listeners", listener.clone(), 7),
                ("broker.id", NODE_ID.to_string(), 3),
                ("listeners", listener, 7),
                ("node.id", NODE_ID.to_string(), 3),
                ("num.partitions", broker.options.partitions.to_string(), 3),
            ];
            let more =
                more.into_iter().filter(|(name, ..)| is_wanted(name)).map(|(name, value, config_type)| {
                    DescribeConfigsResourceResult {
                        name: name.to_owned(),
                        value: Some(value),
                        read_only: true,
                        config_source: ConfigSource::StaticBroker as i8,
                        config_type,
                        documentation: None,
                        ..DescribeConfigsResourceResult::default()
                    }
                });
            Ok(wanted.map(|setting| of_broker(setting, defaults, docs)).chain(more).collect())
        }
        _ => Err(Failed::new(ErrorCode::INVALID_REQUEST, "only topics and brokers have settings here")),
    }
}

fn of_topic(
    setting: &Setting,
    own: &Values,
    defaults: &Values,
    with_synonyms: bool,
    docs: bool,
) -> DescribeConfigsResourceResult {
    let (value, config_source) = value_of(setting, own, defaults);
    let mut synonyms = Vec::new();
    if with_synonyms {
        let mut push = |name: &str, value: &str, source: ConfigSource| {
            synonyms.push(DescribeConfigsSynonym {
                name: name.to_owned(),
                value: Some(value.to_owned()),
                source: source as i8,
            });
        };
        if let Some(value) = own.get(setting.name) {
            push(setting.name, value, ConfigSource::Topic);
        }
        if let Some(value) = defaults.get(setting.name) {
            push(setting.of_broker, value, ConfigSource::StaticBroker);
        }
        push(setting.of_broker, setting.default, ConfigSource::Default);
    }
    DescribeConfigsResourceResult {
        name: setting.name.to_owned(),
        value: Some(value),
        read_only: false,
        config_source,
        is_sensitive: false,
        synonyms,
        config_type: type_of(setting.kind),
        documentation: docs.then(|| setting.doc.to_owned()),
    }
}

fn of_broker(setting: &Setting, defaults: &Values, docs: bool) -> DescribeConfigsResourceResult {
    let (value, config_source) = value_of(setting, &Values::new(), defaults);
    DescribeConfigsResourceResult {
        name: setting.of_broker.to_owned(),
        value: Some(value),
        // By flags at its start.
        read_only: true,
        config_source,
        is_sensitive: false,
        synonyms: Vec::new(),
        config_type: type_of(setting.kind),
        documentation: docs.then(|| setting.doc.to_owned()),
    }
}

fn topic(broker: &Broker, name: &str) -> Result<Arc<Topic>, Failed> {
    broker.topics.get(name).ok_or_else(|| {
        Failed::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, format!("The topic '{name}' does not exist."))
    })
}

fn is_this_broker(name: &str) -> Result<(), Failed> {
    if name.is_empty() || name == NODE_ID.to_string() {
        return Ok(());
    }
    Err(Failed::new(
        ErrorCode::INVALID_REQUEST,
        format!("there is one broker, {NODE_ID}, and none named '{name}'"),
    ))
}

/// What is to become of one setting.
struct Edit {
    name: String,
    operation: Operation,
}

enum Operation {
    Set(String),
    Unset,
    /// Adds words to a list, or takes them out.
    Append(String),
    Subtract(String),
}

/// Changes a topic's settings; how far the definitions have to be safe for it.
fn change(
    broker: &Broker,
    resource: (i8, &str),
    edits: impl FnOnce(&Values) -> Result<Values, Failed>,
    validate_only: bool,
) -> Result<Option<i64>, Failed> {
    match ConfigResourceType::from_code(resource.0) {
        Some(ConfigResourceType::Topic) => {}
        Some(ConfigResourceType::Broker) => {
            let message = "settings of the broker are flags at its start: see bandy log broker --help";
            return Err(Failed::new(ErrorCode::INVALID_REQUEST, message));
        }
        _ => {
            return Err(Failed::new(
                ErrorCode::INVALID_REQUEST,
                "only topics have settings that can be changed",
            ));
        }
    }
    let topic = topic(broker, resource.1)?;
    let values = edits(&topic.values())?;
    for (name, value) in &values {
        config::check(name, value).map_err(|why| Failed::new(ErrorCode::INVALID_CONFIG, why.0))?;
    }
    if validate_only || values == topic.values() {
        return Ok(None);
    }
    broker.topics.configure(&topic, values).map(Some)
}

fn edited(before: &Values, edits: &[Edit]) -> Result<Values, Failed> {
    let mut values = before.clone();
    let mut seen = HashSet::new();
    for Edit { name, operation } in edits {
        if !seen.insert(name) {
            let message = format!("'{name}' is named more than once in the request");
            return Err(Failed::new(ErrorCode::INVALID_REQUEST, message));
        }
        let Some(setting) = config::find(name) else {
            return Err(Failed::new(ErrorCode::INVALID_CONFIG, format!("Unknown topic config name: {name}")));
        };
        let is_list = matches!(setting.kind, Kind::Words(_));
        let words = || -> Vec<String> {
            let value = values.get(name).map_or(setting.default, String::as_str);
            value.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        let joined = match operation {
            Operation::Unset => {
                values.remove(name);
                continue;
            }
            Operation::Set(value) => value.clone(),
            Operation::Append(_) | Operation::Subtract(_) if !is_list => {
                let message = format!("'{name}' is no list: words cannot be added to it or taken out");
                return Err(Failed::new(ErrorCode::INVALID_CONFIG, message));
            }
            Operation::Append(value) => {
                let mut words = words();
                let new: Vec<String> = value
                    .split(',')
                    .filter(|word| !words.iter().any(|known| known == word))
                    .map(str::to_owned)
                    .collect();
                words.extend(new);
                words.join(",")
            }
            Operation::Subtract(value) => {
                let gone: Vec<&str> = value.split(',').collect();
                words()
                    .into_iter()
                    .filter(|word| !gone.contains(&word.as_str()))
                    .collect::<Vec<_>>()
                    .join(",")
            }
        };
        values.insert(name.clone(), joined);
    }
    Ok(values)
}

/// `IncrementalAlterConfigs`.
pub(super) fn alter_some(
    session: &Arc<Session>,
    head: Head,
    request: IncrementalAlterConfigsRequest,
) -> Pending {
    let mut end = None;
    let responses = request.resources.into_iter().map(|asked| {
        let edits: Result<Vec<Edit>, Failed> = asked.configs.into_iter().map(edit).collect();
        let resource = (asked.resource_type, asked.resource_name.as_str());
        let edits = may(session, AclOperation::AlterConfigs, resource).and(edits);
        let done = edits.and_then(|edits| {
            change(&session.broker, resource, |before| edited(before, &edits), request.validate_only)
        });
        let (error_code, error_message) = outcome(done, &mut end);
        incremental::AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: asked.resource_type,
            resource_name: asked.resource_name,
        }
    });
    let response = IncrementalAlterConfigsResponse {
        responses: responses.collect(),
        ..IncrementalAlterConfigsResponse::default()
    };
    Pending::when_defined::<IncrementalAlterConfigsRequest>(&session.broker.definitions, end, head, response)
}

fn edit(asked: incremental::AlterableConfig) -> Result<Edit, Failed> {
    let value = || {
        let message = format!("Null value not supported for : {}", asked.name);
        asked.value.clone().ok_or_else(|| Failed::new(ErrorCode::INVALID_REQUEST, message))
    };
    let operation = match asked.config_operation {
        0 => Operation::Set(value()?),
        1 => Operation::Unset,
        2 => Operation::Append(value()?),
        3 => Operation::Subtract(value()?),
        other => return Err(Failed::new(ErrorCode::INVALID_REQUEST, format!("Unknown operation {other}"))),
    };
    Ok(Edit { name: asked.name, operation })
}

/// `AlterConfigs`: what is not named is at its default again.
pub(super) fn alter_all(session: &Arc<Session>, head: Head, request: AlterConfigsRequest) -> Pending {
    let mut end = None;
    let responses = request.resources.into_iter().map(|asked| {
        let edits: Vec<Edit> = asked
            .configs
            .into_iter()
            .map(|config| Edit {
                name: config.name,
                operation: config.value.map_or(Operation::Unset, Operation::Set),
            })
            .collect();
        let resource = (asked.resource_type, asked.resource_name.as_str());
        let done = may(session, AclOperation::AlterConfigs, resource).and_then(|()| {
            change(&session.broker, resource, |_| edited(&Values::new(), &edits), request.validate_only)
        });
        let (error_code, error_message) = outcome(done, &mut end);
        AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: asked.resource_type,
            resource_name: asked.resource_name,
        }
    });
    let response = AlterConfigsResponse { responses: responses.collect(), ..AlterConfigsResponse::default() };
    Pending::when_defined::<AlterConfigsRequest>(&session.broker.definitions, end, head, response)
}

fn outcome(done: Result<Option<i64>, Failed>, end: &mut Option<i64>) -> (ErrorCode, Option<String>) {
    match done {
        Ok(safe) => {
            *end = (*end).max(safe);
            (ErrorCode::NONE, None)
        }
        Err(Failed { error, message }) => (error, Some(message)),
    }
}

/// `ListConfigResources`: topics and the broker.
pub(super) fn list(session: &Session, head: Head, request: &ListConfigResourcesRequest) -> Pending {
    if !session.may_cluster(AclOperation::DescribeConfigs) {
        let error_code = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
        let response = ListConfigResourcesResponse { error_code, ..ListConfigResourcesResponse::default() };
        return Pending::ready::<ListConfigResourcesRequest>(head, &response);
    }
    let is_wanted = |kind: ConfigResourceType| {
        // Version 0 asks for subscriptions to metrics, of which there are none.
        head.version > 0
            && (request.resource_types.is_empty() || request.resource_types.contains(&(kind as i8)))
    };
    let mut resources = Vec::new();
    if is_wanted(ConfigResourceType::Topic) {
        let one = |topic: &Arc<Topic>| ConfigResource {
            resource_name: topic.name.clone(),
            resource_type: ConfigResourceType::Topic as i8,
        };
        resources.extend(session.broker.topics.all().iter().map(one));
    }
    if is_wanted(ConfigResourceType::Broker) {
        let resource_type = ConfigResourceType::Broker as i8;
        resources.push(ConfigResource { resource_name: NODE_ID.to_string(), resource_type });
    }
    let response =
        ListConfigResourcesResponse { config_resources: resources, ..ListConfigResourcesResponse::default() };
    Pending::ready::<ListConfigResourcesRequest>(head, &response)
}
