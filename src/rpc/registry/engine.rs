//! What a registry knows and when it forgets: services, their checks, an index per service. Pure.
//!
//! ```text
//! register ──> passing/critical ──pass/fail/TTL over──> ... ──critical for too long──> gone
//! ```
//! The index of a service grows when something changed that a caller of it would want to know; a
//! renewal that changes nothing does not move it.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// Entries of one registry.
pub const SERVICES_MAX: usize = 10_000;
/// Consul's lower bound for forgetting, so that what works here works there.
const DEREGISTER_MIN: Duration = Duration::from_secs(60);
/// Output of a check that is kept.
const OUTPUT_SIZE_MAX: usize = 4096;

/// Health of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Fine.
    Passing,
    /// Still usable.
    Warning,
    /// Not to be called.
    Critical,
}

impl Status {
    /// As Consul writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The status of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Passing, Self::Warning, Self::Critical].into_iter().find(|status| status.name() == name)
    }
}

/// A check as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckDefinition {
    /// Empty: one is made from the service's id.
    pub id: String,
    /// For people.
    pub name: String,
    /// Critical without a renewal for this long; `None` never lapses.
    pub ttl: Option<Duration>,
    /// Until the first renewal.
    pub status: Status,
    /// The service is forgotten when critical for this long.
    pub deregister_after: Option<Duration>,
    /// For people.
    pub notes: String,
}

/// A service as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Distinguishes the entries of this registry.
    pub id: String,
    /// What callers ask for.
    pub name: String,
    /// Free words.
    pub tags: Vec<String>,
    /// Host; empty is the registry's own.
    pub address: String,
    /// Port.
    pub port: u16,
    /// Free pairs.
    pub meta: BTreeMap<String, String>,
    /// Shares of the calls when passing and when warning.
    pub weights: (u32, u32),
    /// Its checks. Without any it is always passing.
    pub checks: Vec<CheckDefinition>,
}

/// A check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// As asked for, with its id.
    pub definition: CheckDefinition,
    /// Now.
    pub status: Status,
    /// What the last renewal said.
    pub output: String,
    renewed: Instant,
    critical_since: Option<Instant>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// As asked for; its checks are in `checks`.
    pub definition: Definition,
    /// In the order they were asked for.
    pub checks: Vec<Check>,
    /// Index of its registration.
    pub created: u64,
    /// Index of its last change.
    pub modified: u64,
}

impl Service {
    /// The worst of its checks.
    pub fn status(&self) -> Status {
        self.checks.iter().map(|check| check.status).max().unwrap_or(Status::Passing)
    }
}

/// Why something was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such service.
    #[error("Unknown service ID {0:?}. Ensure that the service ID is passed, not the service name.")]
    UnknownService(String),
    /// There is no such check.
    #[error("Unknown check ID {0:?}. Ensure that the check ID is passed, not the check name.")]
    UnknownCheck(String),
    /// It has no TTL.
    #[error("CheckID {0:?} does not have associated TTL")]
    NoTtl(String),
    /// Too many.
    #[error("the registry is full: it holds at most {SERVICES_MAX} services")]
    Full,
}

/// The state of a registry.
#[derive(Debug)]
pub struct Engine {
    index: u64,
    services: BTreeMap<String, Service>,
    // Also of services without entries, so that their callers learn of the last one's end.
    index_by_name: HashMap<String, u64>,
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine {
    /// Knows nothing. Consul's indexes start over 0, because 0 in a query means "do not wait".
    pub fn new() -> Self {
        Self { index: 1, services: BTreeMap::new(), index_by_name: HashMap::new() }
    }

    /// Grows with every change.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Index of the last change of the services of that name.
    pub fn index_of(&self, name: &str) -> u64 {
        // A name never heard of has changed at the begin. One whose index was forgotten too, at worst
        // at the present index, which wakes its callers once more than needed.
        self.index_by_name.get(name).copied().unwrap_or(1)
    }

    /// Every service, by id.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    /// The service with that id.
    pub fn service(&self, id: &str) -> Option<&Service> {
        self.services.get(id)
    }

    /// Services of that name, by id.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Service> {
        self.services.values().filter(move |service| service.definition.name == name)
    }

    fn touch(&mut self, name: &str) -> u64 {
        self.index += 1;
        self.index_by_name.insert(name.to_owned(), self.index);
        // Names of services long gone may not pile up: keep those that somebody could still ask for.
        if self.index_by_name.len() > 2 * SERVICES_MAX {
            let services = &self.services;
            self.index_by_name
                .retain(|name, _| services.values().any(|service| service.definition.name == *name));
        }
        self.index
    }

    /// Adds a service or replaces the one of the same id. A check that stays keeps its status.
    ///
    /// # Errors
    /// [`Refused::Full`].
    pub fn register(&mut self, now: Instant, definition: Definition) -> Result<(), Refused> {
        let old = self.services.remove(&definition.id);
        if old.is_none() && self.services.len() >= SERVICES_MAX {
            return Err(Refused::Full);
        }
        let checks = checks(now, &definition, old.as_ref().map_or(&[][..], |old| &old.checks));
        let mut service = Service { definition, checks, created: 0, modified: 0 };
        if let Some(old) = &old {
            (service.created, service.modified) = (old.created, old.modified);
            if old.definition.name != service.definition.name {
                self.touch(&old.definition.name);
            }
        }
        // Renewed times differ in every check; they are no news.
        let news = old.is_none_or(|old| {
            old.definition != service.definition
                || old.checks.iter().map(|c| c.status).ne(service.checks.iter().map(|c| c.status))
        });
        if news {
            service.modified = self.touch(&service.definition.name);
            if service.created == 0 {
                service.created = service.modified;
            }
        }
        self.services.insert(service.definition.id.clone(), service);
        Ok(())
    }

    /// Removes a service.
    ///
    /// # Errors
    /// There is none with that id.
    pub fn deregister(&mut self, id: &str) -> Result<(), Refused> {
        let service = self.services.remove(id).ok_or_else(|| Refused::UnknownService(id.to_owned()))?;
        self.touch(&service.definition.name);
        Ok(())
    }

    /// Renews a TTL check, or tells that it fails.
    ///
    /// # Errors
    /// There is no such check, or it has no TTL.
    pub fn update(&mut self, now: Instant, id: &str, status: Status, output: &str) -> Result<(), Refused> {
        let found = self.services.values_mut().find_map(|service| {
            let check = service.checks.iter_mut().find(|check| check.definition.id == id)?;
            Some((service.definition.id.clone(), check))
        });
        let (service, check) = found.ok_or_else(|| Refused::UnknownCheck(id.to_owned()))?;
        if check.definition.ttl.is_none() {
            return Err(Refused::NoTtl(id.to_owned()));
        }
        check.renewed = now;
        let end =
            output.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= OUTPUT_SIZE_MAX);
        let output = &output[..end.last().unwrap_or(0)];
        let news = check.status != status || check.output != output;
        check.output = output.to_owned();
        set_status(check, status, now);
        if news {
            self.modified(&service);
        }
        Ok(())
    }

    fn modified(&mut self, id: &str) {
        let Some(name) = self.services.get(id).map(|service| service.definition.name.clone()) else { return };
        let index = self.touch(&name);
        if let Some(service) = self.services.get_mut(id) {
            service.modified = index;
        }
    }

    /// Lets checks lapse and forgets services that were critical for too long.
    pub fn tick(&mut self, now: Instant) {
        let mut lapsed = Vec::new();
        let mut gone = Vec::new();
        for (id, service) in &mut self.services {
            for check in &mut service.checks {
                if lapse(check).is_some_and(|at| at <= now) {
                    check.output = "TTL expired".to_owned();
                    set_status(check, Status::Critical, now);
                    lapsed.push(id.clone());
                }
                if forget(check).is_some_and(|at| at <= now) {
                    gone.push(id.clone());
                }
            }
        }
        for id in lapsed {
            self.modified(&id);
        }
        for id in gone {
            // Twice in the list if two of its checks agree.
            let _ = self.deregister(&id);
        }
    }

    /// When [`Engine::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let checks = self.services.values().flat_map(|service| &service.checks);
        checks.flat_map(|check| [lapse(check), forget(check)]).flatten().min()
    }
}

fn checks(now: Instant, definition: &Definition, old: &[Check]) -> Vec<Check> {
    let mut checks: Vec<Check> = Vec::with_capacity(definition.checks.len());
    for (number, check) in (1..).zip(&definition.checks) {
        let mut check = check.clone();
        if check.id.is_empty() {
            let suffix = if definition.checks.len() > 1 { format!(":{number}") } else { String::new() };
            check.id = format!("service:{}{suffix}", definition.id);
        }
        if check.name.is_empty() {
            check.name = format!("Service '{}' check", definition.name);
        }
        check.deregister_after = check.deregister_after.map(|after| after.max(DEREGISTER_MIN));
        let known = old.iter().find(|old| old.definition == check);
        let status = check.status;
        checks.push(match known {
            // What is registered anew with "passing" means it.
            Some(known) if status != Status::Passing => known.clone(),
            _ => Check {
                definition: check,
                status,
                output: String::new(),
                renewed: now,
                critical_since: (status == Status::Critical).then_some(now),
            },
        });
    }
    checks
}

fn set_status(check: &mut Check, status: Status, now: Instant) {
    check.status = status;
    check.critical_since = match status {
        Status::Critical => check.critical_since.or(Some(now)),
        Status::Passing | Status::Warning => None,
    };
}

fn lapse(check: &Check) -> Option<Instant> {
    let ttl = check.definition.ttl.filter(|_| check.status != Status::Critical)?;
    check.renewed.checked_add(ttl)
}

fn forget(check: &Check) -> Option<Instant> {
    check.critical_since?.checked_add(check.definition.deregister_after?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TTL: Duration = Duration::from_secs(15);

    fn definition(id: &str, name: &str) -> Definition {
        Definition {
            id: id.to_owned(),
            name: name.to_owned(),
            tags: Vec::new(),
            address: "10.0.0.1".to_owned(),
            port: 1,
            meta: BTreeMap::new(),
            weights: (1, 1),
            checks: vec![CheckDefinition {
                id: String::new(),
                name: String::new(),
                ttl: Some(TTL),
                status: Status::Critical,
                deregister_after: Some(Duration::from_secs(60)),
                notes: String::new(),
            }],
        }
    }

    fn status(engine: &Engine, id: &str) -> Option<Status> {
        engine.service(id).map(Service::status)
    }

    #[test]
    fn a_service_passes_while_it_renews_lapses_and_is_forgotten() {
        let start = Instant::now();
        let mut engine = Engine::new();
        engine.register(start, definition("a1", "a")).unwrap();
        assert_eq!(status(&engine, "a1"), Some(Status::Critical));
        engine.update(start, "service:a1", Status::Passing, "").unwrap();
        assert_eq!(engine.deadline(), Some(start + TTL));
        engine.tick(start + TTL / 2);
        assert_eq!(status(&engine, "a1"), Some(Status::Passing));
        engine.update(start + TTL / 2, "service:a1", Status::Passing, "").unwrap();
        engine.tick(start + TTL);
        assert_eq!(status(&engine, "a1"), Some(Status::Passing), "renewed in between");
        let lapsed = engine.deadline().unwrap();
        engine.tick(lapsed);
        assert_eq!(status(&engine, "a1"), Some(Status::Critical));
        assert_eq!(engine.deadline(), Some(lapsed + Duration::from_secs(60)));
        engine.tick(lapsed + Duration::from_secs(60));
        assert_eq!((status(&engine, "a1"), engine.deadline()), (None, None));
        assert_eq!(
            engine.update(lapsed, "service:a1", Status::Passing, ""),
            Err(Refused::UnknownCheck("service:a1".to_owned()))
        );
    }

    #[test]
    fn the_index_of_a_service_moves_with_its_news_only() {
        let now = Instant::now();
        let mut engine = Engine::new();
        assert_eq!(engine.index_of("a"), 1);
        engine.register(now, definition("a1", "a")).unwrap();
        engine.update(now, "service:a1", Status::Passing, "ok").unwrap();
        let known = engine.index_of("a");
        engine.update(now, "service:a1", Status::Passing, "ok").unwrap();
        engine.register(now, definition("b1", "b")).unwrap();
        assert_eq!(engine.index_of("a"), known, "a renewal and another service are no news");
        engine.update(now, "service:a1", Status::Warning, "ok").unwrap();
        assert!(engine.index_of("a") > known);
        let known = engine.index_of("a");
        engine.deregister("a1").unwrap();
        assert!(engine.index_of("a") > known, "its end is news");
    }

    #[test]
    fn registering_again_replaces_and_keeps_a_status_that_was_not_given() {
        let now = Instant::now();
        let mut engine = Engine::new();
        engine.register(now, definition("a1", "a")).unwrap();
        engine.update(now, "service:a1", Status::Passing, "").unwrap();
        engine.register(now, definition("a1", "a")).unwrap();
        assert_eq!(status(&engine, "a1"), Some(Status::Passing));
        let known = engine.index_of("a");
        engine.register(now, Definition { port: 2, ..definition("a1", "b") }).unwrap();
        assert_eq!(engine.services().count(), 1);
        assert!(engine.index_of("a") > known, "it is no longer an a");
        assert_eq!(engine.named("b").next().unwrap().definition.port, 2);
    }

    #[test]
    fn a_check_without_ttl_cannot_be_renewed() {
        let now = Instant::now();
        let mut engine = Engine::new();
        let mut service = definition("a1", "a");
        service.checks[0].ttl = None;
        engine.register(now, service).unwrap();
        assert!(matches!(engine.update(now, "service:a1", Status::Passing, ""), Err(Refused::NoTtl(_))));
    }

    #[test]
    fn a_full_registry_refuses_new_ones_and_renews_old_ones() {
        let now = Instant::now();
        let mut engine = Engine::new();
        for number in 0..SERVICES_MAX {
            engine.register(now, definition(&number.to_string(), "a")).unwrap();
        }
        assert_eq!(engine.register(now, definition("more", "a")), Err(Refused::Full));
        assert_eq!(engine.register(now, definition("7", "a")), Ok(()));
    }

    proptest! {
        #[test]
        fn the_clock_alone_ends_everything(
            steps in prop::collection::vec((0usize..5, 0usize..4, 0u64..40), 0..60),
        ) {
            let mut now = Instant::now();
            let mut engine = Engine::new();
            let mut index = engine.index();
            for (action, which, seconds) in steps {
                now += Duration::from_secs(seconds);
                engine.tick(now);
                prop_assert!(engine.deadline().is_none_or(|deadline| deadline > now));
                let id = format!("s{which}");
                match action {
                    0 => engine.register(now, definition(&id, "a")).unwrap(),
                    1 => drop(engine.deregister(&id)),
                    2 => drop(engine.update(now, &format!("service:{id}"), Status::Passing, "")),
                    3 => drop(engine.update(now, &format!("service:{id}"), Status::Critical, "no")),
                    _ => {}
                }
                prop_assert!(engine.index() >= index && engine.index_of("a") <= engine.index());
                index = engine.index();
            }
            // Nobody renews: every service lapses, then is forgotten.
            for _ in 0..20 {
                let Some(deadline) = engine.deadline() else { break };
                engine.tick(deadline);
            }
            prop_assert_eq!(engine.services().count(), 0);
        }
    }
}
