//! Who may do what here: the rules, kept among the definitions, and those above them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use serde_json::json;

use super::definitions::{Change, Definitions, key};
use super::topics::Failed;
use crate::log::engine::access::{Access, Entry, Filter, Pattern, Who, operations};
use crate::log::wire::ErrorCode;
use crate::log::wire::api::{AclOperation, AclPermission, PatternType, ResourceType};

/// Most rules: each is looked at when there is any doubt.
const RULES_MAX: usize = 100_000;

/// A rule, and what it is about.
pub(super) type Rule = (Pattern, Entry);

/// The rules at work.
#[derive(Debug)]
pub(super) struct Guard {
    access: RwLock<Access>,
    /// There are no rules, and without one everything is allowed: nothing has to be looked at.
    lets_all: AtomicBool,
    /// Counts how often rules changed.
    changes: AtomicU64,
    /// As `User:name`: they may do everything.
    above: BTreeSet<String>,
    definitions: Arc<Definitions>,
}

impl Guard {
    /// With the rules that are defined.
    pub(super) fn open(definitions: &Arc<Definitions>, above: &BTreeSet<String>, is_open: bool) -> Self {
        let mut access = Access::new(is_open);
        for (names, _) in definitions.of_kind("acl") {
            match read(&names) {
                Some((pattern, entry)) => {
                    access.add(pattern, entry);
                }
                None => tracing::error!(?names, "an access rule that this version cannot read is left alone"),
            }
        }
        Self {
            lets_all: AtomicBool::new(is_open && access.is_empty()),
            access: RwLock::new(access),
            changes: AtomicU64::new(0),
            above: above.iter().map(|name| format!("User:{name}")).collect(),
            definitions: Arc::clone(definitions),
        }
    }

    fn access(&self) -> RwLockReadGuard<'_, Access> {
        self.access.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is refused to anybody.
    pub(super) fn lets_all(&self) -> bool {
        self.lets_all.load(Ordering::Acquire)
    }

    /// Another number when rules are others.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    pub(super) fn allows(&self, who: &Who, operation: AclOperation, kind: ResourceType, name: &str) -> bool {
        self.above.contains(&who.principal) || self.access().allows(who, operation, kind, name)
    }

    pub(super) fn allows_any(&self, who: &Who, operation: AclOperation, kind: ResourceType) -> bool {
        self.above.contains(&who.principal) || self.access().allows_any(who, operation, kind)
    }

    /// The rules that a filter means.
    pub(super) fn find(&self, filter: &Filter) -> Vec<Rule> {
        self.access().find(filter)
    }

    /// Adds rules that are not there yet; up to where the definitions have to be safe for it.
    ///
    /// # Errors
    /// They are too many, or cannot be written down; nothing has changed.
    pub(super) fn add(&self, rules: &[Rule]) -> Result<i64, Failed> {
        let mut access = self.access.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = |(pattern, entry): &&Rule| !access.has(pattern, entry);
        let new: BTreeSet<&Rule> = rules.iter().filter(is_new).collect();
        if access.len() + new.len() > RULES_MAX {
            let message = format!("there are {} access rules; up to {RULES_MAX} are kept", access.len());
            return Err(Failed::new(ErrorCode::INVALID_REQUEST, message));
        }
        let end = self.write(new.iter().map(|rule| (written(rule), Some(json!({})))))?;
        for (pattern, entry) in new {
            access.add(pattern.clone(), entry.clone());
        }
        self.changed(&access);
        Ok(end)
    }

    /// Takes out the rules that a filter means; those, and up to where the definitions have to be safe for it.
    ///
    /// # Errors
    /// It cannot be written down; nothing has changed.
    pub(super) fn remove(&self, filter: &Filter) -> Result<(Vec<Rule>, i64), Failed> {
        let mut access = self.access.write().unwrap_or_else(PoisonError::into_inner);
        let gone = access.find(filter);
        let end = self.write(gone.iter().map(|rule| (written(rule), None)))?;
        gone.iter().for_each(|(pattern, entry)| access.remove(pattern, entry));
        self.changed(&access);
        Ok((gone, end))
    }

    fn write(&self, changes: impl Iterator<Item = Change>) -> Result<i64, Failed> {
        Ok(self.definitions.change(changes.collect())?)
    }

    fn changed(&self, access: &Access) {
        self.lets_all.store(access.is_open && access.is_empty(), Ordering::Release);
        self.changes.fetch_add(1, Ordering::Release);
    }
}

fn written((pattern, entry): &Rule) -> String {
    let words = [
        pattern.kind.word(),
        pattern.pattern.word(),
        &pattern.name,
        &entry.principal,
        &entry.host,
        entry.operation.word(),
        entry.permission.word(),
    ];
    key("acl", &words)
}

fn read(names: &[String]) -> Option<Rule> {
    let [kind, how, name, principal, host, operation, permission] = names else { return None };
    let pattern = Pattern {
        kind: ResourceType::from_word(kind)?,
        name: name.clone(),
        pattern: PatternType::from_word(how)?,
    };
    let entry = Entry {
        principal: principal.clone(),
        host: host.clone(),
        operation: AclOperation::from_word(operation)?,
        permission: AclPermission::from_word(permission)?,
    };
    Some((pattern, entry))
}

/// Bits of what somebody may do to a thing, as descriptions tell them.
pub(super) fn authorized(kind: ResourceType, may: impl Fn(AclOperation) -> bool) -> i32 {
    operations(kind)
        .iter()
        .filter(|operation| may(**operation))
        .fold(0, |bits, operation| bits | 1 << *operation as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Options, Store};

    #[test]
    fn a_rule_that_is_there_already_is_not_written_again() {
        let store = Store::memory(Options::default()).unwrap();
        let definitions = Arc::new(Definitions::open(&store).unwrap());
        let guard = Guard::open(&definitions, &BTreeSet::new(), true);
        let pattern =
            Pattern { kind: ResourceType::Topic, name: "t".to_owned(), pattern: PatternType::Literal };
        let rule = |name: &str| {
            let entry = Entry {
                principal: format!("User:{name}"),
                host: "*".to_owned(),
                operation: AclOperation::Read,
                permission: AclPermission::Allow,
            };
            (pattern.clone(), entry)
        };
        let end = guard.add(&[rule("a"), rule("a")]).unwrap();
        assert_eq!(guard.add(&[rule("a")]), Ok(end));
        assert_eq!(guard.add(&[rule("a"), rule("b")]), Ok(end + 1));
    }
}
