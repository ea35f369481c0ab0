//! What GET answers.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::Management;
use super::ask::{Ask, Caller, missing, one};
use super::node;
use super::object;
use super::people;
use super::reply::{Outcome, Reply};
use crate::mq::engine::{BindingView, Definitions};
use crate::mq::server::host::Host;

/// The default exchange has a name of its own in paths.
pub(super) fn exchange_name(name: &str) -> &str {
    if name == "amq.default" { "" } else { name }
}

impl Management {
    pub(super) fn read(&self, ask: &Ask<'_>, path: &[&str]) -> Outcome {
        let caller = ask.caller;
        match path {
            ["overview"] => Ok(Reply::One(self.overview(caller))),
            ["cluster-name"] => Ok(Reply::One(json!({"name": self.cluster_name()}))),
            ["nodes"] => Ok(Reply::Many(vec![self.node()])),
            ["nodes", name] if *name == self.node => Ok(Reply::One(self.node())),
            ["nodes", name, "memory"] if *name == self.node => Ok(Reply::One(self.memory())),
            ["extensions"] => Ok(Reply::Many(vec![json!({"javascript": "dispatcher.js"})])),
            ["whoami"] => Ok(Reply::One(json!({"name": &*caller.name, "tags": caller.tags}))),
            ["auth"] => Ok(Reply::One(json!({"enable_uaa": false, "uaa_client_id": "", "uaa_location": ""}))),
            ["feature-flags"] => Ok(Reply::Many(node::feature_flags())),
            ["healthchecks", "node"] => Ok(Reply::One(json!({"status": "ok"}))),
            ["healthchecks", "node", name] if *name == self.node => Ok(Reply::One(json!({"status": "ok"}))),
            ["health", "checks", check @ ..] => self.health(check),
            ["connections" | "channels" | "consumers", ..] | ["vhosts", _, "connections" | "channels"] => {
                self.read_clients(caller, path)
            }
            ["exchanges" | "queues" | "bindings", ..] => self.read_objects(caller, path),
            ["policies" | "operator-policies", ..] => self.read_policies(caller, path),
            ["parameters", rest @ ..] => self.parameters(rest),
            ["global-parameters"] => {
                let all = self.global_parameters();
                Ok(Reply::Many(all.iter().map(|(name, value)| Self::global_parameter(name, value)).collect()))
            }
            ["global-parameters", name] => {
                one(self.global_parameters().get(*name).map(|value| Self::global_parameter(name, value)))
            }
            ["definitions" | "all-configuration", ..] => self.export(ask, path.get(1).copied()),
            _ => self.read_people(caller, path),
        }
    }

    fn read_people(&self, caller: &Caller, path: &[&str]) -> Outcome {
        let users = || self.broker.users();
        let user = |name: &str| users().user(name).map(people::user);
        match path {
            ["users"] => Ok(Reply::Many(users().users().map(people::user).collect())),
            ["users", "without-permissions"] => Ok(Reply::Many(self.users_without_permissions())),
            ["users", name] => one(user(name)),
            ["users", name, of] => {
                let users = users();
                if users.user(name).is_none() {
                    return missing();
                }
                Ok(Reply::Many(match *of {
                    "permissions" => users
                        .permissions()
                        .filter(|held| held.user == *name)
                        .map(people::permission)
                        .collect(),
                    _ => users
                        .topic_permissions()
                        .filter(|held| held.user == *name)
                        .map(people::topic_permission)
                        .collect(),
                }))
            }
            ["permissions"] => Ok(Reply::Many(users().permissions().map(people::permission).collect())),
            ["permissions", vhost, name] => {
                let users = users();
                let mut held = users.permissions();
                one(held.find(|held| held.vhost == *vhost && held.user == *name).map(people::permission))
            }
            ["topic-permissions"] => {
                Ok(Reply::Many(users().topic_permissions().map(people::topic_permission).collect()))
            }
            ["topic-permissions", vhost, name, rest @ ..] => {
                let users = users();
                let held = users.topic_permissions().filter(|held| {
                    held.vhost == *vhost
                        && held.user == *name
                        && rest.first().is_none_or(|exchange| *exchange == held.exchange)
                });
                let held: Vec<Json> = held.map(people::topic_permission).collect();
                if held.is_empty() { missing() } else { Ok(Reply::Many(held)) }
            }
            ["vhosts"] => Ok(Reply::Many(self.vhosts(caller))),
            ["vhosts", name] => {
                let definition = users().vhost(name).cloned();
                one(definition.map(|definition| self.vhost(&definition)))
            }
            ["vhosts", name, of] => {
                let users = users();
                if users.vhost(name).is_none() {
                    return missing();
                }
                Ok(Reply::Many(match *of {
                    "permissions" => users
                        .permissions()
                        .filter(|held| held.vhost == *name)
                        .map(people::permission)
                        .collect(),
                    _ => users
                        .topic_permissions()
                        .filter(|held| held.vhost == *name)
                        .map(people::topic_permission)
                        .collect(),
                }))
            }
            ["vhost-limits"] => {
                let own = users().vhosts_of(&caller.name);
                Ok(Reply::Many(self.vhost_limits(|vhost| caller.is_monitor() || own.contains(vhost))))
            }
            ["vhost-limits", vhost] => {
                self.host_named(vhost)?;
                Ok(Reply::Many(self.vhost_limits(|held| held == *vhost)))
            }
            ["user-limits"] => Ok(Reply::Many(self.user_limits(|_| true))),
            ["user-limits", name] => {
                if users().user(name).is_none() {
                    return missing();
                }
                Ok(Reply::Many(self.user_limits(|held| held == *name)))
            }
            _ => missing(),
        }
    }

    /// The virtual hosts that a path is about: the named one, or all that the caller may use.
    fn hosts_in(
        &self,
        caller: &Caller,
        vhost: Option<&&str>,
    ) -> Result<Vec<Arc<Host>>, super::reply::Refusal> {
        match vhost {
            Some(vhost) => Ok(vec![self.host_named(vhost)?]),
            None => Ok(self.hosts_of(caller)),
        }
    }

    fn read_clients(&self, caller: &Caller, path: &[&str]) -> Outcome {
        match path {
            ["connections"] => Ok(Reply::Many(self.connections(caller, |_| true))),
            ["connections", "username", name] => {
                Ok(Reply::Many(self.connections(caller, |link| *link.terms.user == **name)))
            }
            ["vhosts", vhost, "connections"] => {
                self.host_named(vhost)?;
                Ok(Reply::Many(self.connections(caller, |link| link.host.name() == *vhost)))
            }
            ["connections", name] => one(self.connections(caller, |link| link.name == *name).pop()),
            ["connections", name, "channels"] => {
                let link = self.links_of(caller).into_iter().find(|link| link.name == *name);
                let Some(link) = link else { return missing() };
                let mut channels = self.channels_on(&link.host, caller);
                channels.retain(|channel| channel["connection_details"]["name"] == *link.name);
                Ok(Reply::Many(channels))
            }
            ["channels"] => {
                let hosts = if caller.is_monitor() { self.broker.hosts() } else { self.hosts_of(caller) };
                Ok(Reply::Many(by_name(
                    hosts.iter().flat_map(|host| self.channels_on(host, caller)).collect(),
                )))
            }
            ["vhosts", vhost, "channels"] => {
                let host = self.host_named(vhost)?;
                Ok(Reply::Many(by_name(self.channels_on(&host, caller))))
            }
            ["channels", name] => {
                let hosts = self.broker.hosts();
                let mut all = hosts.iter().flat_map(|host| self.channels_on(host, caller));
                let Some(mut channel) = all.find(|channel| channel["name"] == **name) else {
                    return missing();
                };
                let consumers = self.consumers(&hosts);
                let own: Vec<Json> = consumers
                    .into_iter()
                    .filter(|consumer| consumer["channel_details"]["name"] == **name)
                    .collect();
                if let Json::Object(channel) = &mut channel {
                    channel.insert("consumer_details".to_owned(), own.into());
                    channel.insert("publishes".to_owned(), json!([]));
                    channel.insert("deliveries".to_owned(), json!([]));
                }
                Ok(Reply::One(channel))
            }
            ["consumers", rest @ ..] => {
                Ok(Reply::Many(self.consumers(&self.hosts_in(caller, rest.first())?)))
            }
            _ => missing(),
        }
    }

    fn connections(
        &self,
        caller: &Caller,
        wanted: impl Fn(&crate::mq::server::live::Link) -> bool,
    ) -> Vec<Json> {
        let mut links = self.links_of(caller);
        links.retain(|link| wanted(link));
        let mut views = std::collections::HashMap::new();
        for host in self.broker.hosts() {
            if links.iter().any(|link| Arc::ptr_eq(&link.host, &host)) {
                let name: Arc<str> = host.name().into();
                host.look(|engine| {
                    for view in engine.connections() {
                        views.insert((name.clone(), view.id), (view.channels, view.blocked));
                    }
                });
            }
        }
        let shown = links.iter().map(|link| {
            let (channels, blocked) =
                views.get(&(link.host.name().into(), link.id)).copied().unwrap_or_default();
            self.connection(link, channels, blocked)
        });
        by_name(shown.collect())
    }

    pub(super) fn channels_on(&self, host: &Arc<Host>, caller: &Caller) -> Vec<Json> {
        let mut links = self.links_on(host);
        if !caller.is_monitor() {
            links.retain(|_, link| link.terms.user == caller.name);
        }
        let views: Vec<_> = host.look(|engine| engine.channels().collect());
        let shown = views.iter().filter_map(|view| {
            let link = links.get(&view.connection)?;
            Some(self.channel(host.name(), view, link))
        });
        shown.collect()
    }

    fn consumers(&self, hosts: &[Arc<Host>]) -> Vec<Json> {
        let mut all = Vec::new();
        for host in hosts {
            let links = self.links_on(host);
            let mut views: Vec<_> = host.look(|engine| engine.consumers().collect());
            views.sort_by(|a, b| (&a.queue, &a.tag).cmp(&(&b.queue, &b.tag)));
            all.extend(views.iter().filter_map(|view| self.consumer(host.name(), view, &links)));
        }
        all
    }

    fn read_objects(&self, caller: &Caller, path: &[&str]) -> Outcome {
        let bindings = |vhost: &str, wanted: &dyn Fn(&BindingView) -> bool| -> Outcome {
            let host = self.host_named(vhost)?;
            Ok(Reply::Many(self.bindings(&host, wanted)))
        };
        match path {
            ["queues"] | ["queues", _] => {
                let hosts = self.hosts_in(caller, path.get(1))?;
                Ok(Reply::Many(hosts.iter().flat_map(|host| self.queues(host)).collect()))
            }
            ["queues", vhost, name] => self.one_queue(vhost, name),
            ["queues", vhost, name, "bindings"] => {
                bindings(vhost, &|view| view.is_queue && *view.destination == **name)
            }
            ["exchanges"] | ["exchanges", _] => {
                let hosts = self.hosts_in(caller, path.get(1))?;
                Ok(Reply::Many(hosts.iter().flat_map(|host| self.exchanges(host)).collect()))
            }
            ["exchanges", vhost, name] => {
                let (host, name) = (self.host_named(vhost)?, exchange_name(name));
                let view = host.look(|engine| engine.exchanges().find(|view| *view.name == *name));
                let mut shown = view.map(|view| self.exchange(vhost, &view));
                if let Some(Json::Object(shown)) = &mut shown {
                    shown.insert("incoming".to_owned(), json!([]));
                    shown.insert("outgoing".to_owned(), json!([]));
                }
                one(shown)
            }
            ["exchanges", vhost, name, "bindings", "source"] => {
                bindings(vhost, &|view| *view.source == *exchange_name(name))
            }
            ["exchanges", vhost, name, "bindings", "destination"] => {
                bindings(vhost, &|view| !view.is_queue && *view.destination == *exchange_name(name))
            }
            ["bindings"] => {
                let hosts = self.hosts_of(caller);
                Ok(Reply::Many(hosts.iter().flat_map(|host| self.bindings(host, &|_| true)).collect()))
            }
            ["bindings", vhost] => bindings(vhost, &|_| true),
            ["bindings", vhost, "e", from, kind, to] => {
                bindings(vhost, &|view| leads(view, exchange_name(from), *kind == "q", to))
            }
            ["bindings", vhost, "e", from, kind, to, key] => {
                let found =
                    self.binding_named(&self.host_named(vhost)?, exchange_name(from), *kind == "q", to, key);
                one(found.map(|view| object::binding(vhost, &view)))
            }
            _ => missing(),
        }
    }

    pub(super) fn queues(&self, host: &Arc<Host>) -> Vec<Json> {
        let links = self.links_on(host);
        let (mut views, rules) = host.look(|engine| (engine.queues().collect::<Vec<_>>(), engine.rules()));
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views.iter().map(|view| self.queue(host.name(), view, &links, &rules)).collect()
    }

    fn one_queue(&self, vhost: &str, name: &str) -> Outcome {
        let host = self.host_named(vhost)?;
        let links = self.links_on(&host);
        let (view, rules, consumers) = host.look(|engine| {
            let consumers: Vec<_> = engine.consumers().filter(|consumer| *consumer.queue == *name).collect();
            (engine.queue(name), engine.rules(), consumers)
        });
        let mut shown = view.map(|view| self.queue(vhost, &view, &links, &rules));
        if let Some(Json::Object(shown)) = &mut shown {
            let details = consumers.iter().filter_map(|view| self.consumer(vhost, view, &links)).collect();
            shown.insert("consumer_details".to_owned(), details);
            shown.insert("incoming".to_owned(), json!([]));
            shown.insert("deliveries".to_owned(), json!([]));
        }
        one(shown)
    }

    fn exchanges(&self, host: &Arc<Host>) -> Vec<Json> {
        let mut views: Vec<_> = host.look(|engine| engine.exchanges().collect());
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views.iter().map(|view| self.exchange(host.name(), view)).collect()
    }

    fn bindings(&self, host: &Arc<Host>, wanted: &dyn Fn(&BindingView) -> bool) -> Vec<Json> {
        let mut views: Vec<_> = host.look(|engine| engine.bindings().filter(|view| wanted(view)).collect());
        views.sort_by(|a, b| (&a.source, &a.destination, &a.key).cmp(&(&b.source, &b.destination, &b.key)));
        views.iter().map(|view| object::binding(host.name(), view)).collect()
    }

    /// The binding that a key of properties stands for.
    pub(super) fn binding_named(
        &self,
        host: &Arc<Host>,
        from: &str,
        is_queue: bool,
        to: &str,
        key: &str,
    ) -> Option<BindingView> {
        let named = |view: &BindingView| {
            let own = object::properties_key(&view.key, view.arguments.as_table());
            // Whoever makes a path of it may have decoded it once already.
            own == key
                || percent_encoding::percent_decode_str(&own.replace('+', " ")).decode_utf8_lossy() == key
        };
        host.look(|engine| engine.bindings().find(|view| leads(view, from, is_queue, to) && named(view)))
    }

    fn read_policies(&self, caller: &Caller, path: &[&str]) -> Outcome {
        let list = |host: &Arc<Host>| {
            let Definitions { policies, operator_policies, .. } = host.look(|engine| engine.rules());
            let mut policies = if path[0] == "policies" { policies } else { operator_policies };
            policies.sort_by(|a, b| a.name.cmp(&b.name));
            let shown = policies.iter().map(|policy| {
                json!({
                    "vhost": host.name(), "name": policy.name, "pattern": policy.pattern,
                    "apply-to": policy.apply_to, "definition": policy.definition, "priority": policy.priority,
                })
            });
            shown.collect::<Vec<Json>>()
        };
        match path {
            [_] | [_, _] => {
                let hosts = self.hosts_in(caller, path.get(1))?;
                Ok(Reply::Many(hosts.iter().flat_map(list).collect()))
            }
            [_, vhost, name] => {
                let host = self.host_named(vhost)?;
                one(list(&host).into_iter().find(|policy| policy["name"] == **name))
            }
            _ => missing(),
        }
    }
}

fn leads(view: &BindingView, from: &str, is_queue: bool, to: &str) -> bool {
    *view.source == *from && view.is_queue == is_queue && *view.destination == *to
}

fn by_name(mut list: Vec<Json>) -> Vec<Json> {
    list.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    list
}

impl Management {
    /// What components keep here: operator policies and limits of virtual hosts. Policies are among them for who asks
    /// for them by name.
    fn parameters(&self, path: &[&str]) -> Outcome {
        let exported = self.broker.export(None).unwrap_or_default();
        let mut all = exported["parameters"].as_array().cloned().unwrap_or_default();
        if path.first() == Some(&"policy") {
            let policies = exported["policies"].as_array().into_iter().flatten().cloned();
            all = policies.map(super::parameter::of_policy).collect();
        }
        for (name, wanted) in ["component", "vhost", "name"].iter().zip(path) {
            all.retain(|parameter| parameter[*name] == **wanted);
        }
        if path.len() == 3 { one(all.pop()) } else { Ok(Reply::Many(all)) }
    }

    fn export(&self, ask: &Ask<'_>, vhost: Option<&str>) -> Outcome {
        match self.broker.export(vhost) {
            Some(file) => Ok(Reply::File(file, ask.query.get("download").map(str::to_owned))),
            None => Err(super::reply::Refusal::bad_request("vhost_not_found")),
        }
    }
}
