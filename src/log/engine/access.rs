//! Who may do what: access rules (ACLs) as Kafka's authorizer reads them.
//!
//! A rule that denies wins. A rule for the name itself, for `*` or for names that begin with something counts; so does one for
//! `User:*` and for the host `*`. Where there is no rule for a thing at all, the policy decides.

use std::collections::{BTreeMap, BTreeSet};

use crate::log::wire::api::{AclOperation, AclPermission, PatternType, ResourceType};

/// The only name of the cluster as a thing that rules are about.
pub const CLUSTER: &str = "kafka-cluster";
/// Everybody, every host, every name.
const ANY: &str = "*";
const EVERYONE: &str = "User:*";

/// What a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    /// The kind of thing.
    pub kind: ResourceType,
    /// Its name, or how its name begins.
    pub name: String,
    /// Which of both.
    pub pattern: PatternType,
}

/// Whom a rule lets do what, or keeps from it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// As `User:name`.
    pub principal: String,
    /// An address, or `*`.
    pub host: String,
    /// What it is about.
    pub operation: AclOperation,
    /// Whether it allows or denies.
    pub permission: AclPermission,
}

/// Which rules are meant: what is none is any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The kind of thing; any matches all.
    pub kind: ResourceType,
    /// The name in the rule, or with [`PatternType::Match`] the name of a thing.
    pub name: Option<String>,
    /// How the name in the rule is meant.
    pub pattern: PatternType,
    /// Whom it is for.
    pub principal: Option<String>,
    /// From where.
    pub host: Option<String>,
    /// What it is about.
    pub operation: AclOperation,
    /// Whether it allows or denies.
    pub permission: AclPermission,
}

/// Someone who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// As `User:name`.
    pub principal: String,
    /// Its address.
    pub host: String,
}

/// All rules.
#[derive(Debug, Clone, Default)]
pub struct Access {
    rules: BTreeMap<Pattern, BTreeSet<Entry>>,
    /// What is about nothing that a rule is for is allowed (`allow.everyone.if.no.acl.found`).
    pub is_open: bool,
}

impl Filter {
    /// Whether it means a rule.
    pub fn means(&self, pattern: &Pattern, entry: &Entry) -> bool {
        let is = |wanted: &Option<String>, text: &str| wanted.as_deref().is_none_or(|wanted| wanted == text);
        let fits_name = match (self.pattern, &self.name) {
            (PatternType::Any, _) => is(&self.name, &pattern.name),
            (PatternType::Match, Some(name)) => match pattern.pattern {
                PatternType::Prefixed => name.starts_with(&pattern.name),
                _ => pattern.name == *name || pattern.name == ANY,
            },
            (PatternType::Match, None) => true,
            (kind, _) => pattern.pattern == kind && is(&self.name, &pattern.name),
        };
        fits_name
            && (self.kind == ResourceType::Any || self.kind == pattern.kind)
            && is(&self.principal, &entry.principal)
            && is(&self.host, &entry.host)
            && (self.operation == AclOperation::Any || self.operation == entry.operation)
            && (self.permission == AclPermission::Any || self.permission == entry.permission)
    }
}

impl Access {
    /// No rules; whether without one everything is allowed.
    pub fn new(is_open: bool) -> Self {
        Self { rules: BTreeMap::new(), is_open }
    }

    /// Adds a rule. Says whether it is new.
    pub fn add(&mut self, pattern: Pattern, entry: Entry) -> bool {
        self.rules.entry(pattern).or_default().insert(entry)
    }

    /// Takes a rule out.
    pub fn remove(&mut self, pattern: &Pattern, entry: &Entry) {
        if let Some(entries) = self.rules.get_mut(pattern) {
            entries.remove(entry);
            if entries.is_empty() {
                self.rules.remove(pattern);
            }
        }
    }

    /// Whether there is such a rule.
    pub fn has(&self, pattern: &Pattern, entry: &Entry) -> bool {
        self.rules.get(pattern).is_some_and(|entries| entries.contains(entry))
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rules.values().map(BTreeSet::len).sum()
    }

    /// Those that a filter means.
    pub fn find(&self, filter: &Filter) -> Vec<(Pattern, Entry)> {
        let all = self
            .rules
            .iter()
            .flat_map(|(pattern, entries)| entries.iter().map(move |entry| (pattern, entry)));
        all.filter(|(pattern, entry)| filter.means(pattern, entry))
            .map(|(pattern, entry)| (pattern.clone(), entry.clone()))
            .collect()
    }

    /// Rules for a thing, whomever they are for.
    fn about<'a>(&'a self, kind: ResourceType, name: &'a str) -> impl Iterator<Item = &'a Entry> + 'a {
        let exactly = |name: &str, pattern| self.rules.get(&Pattern { kind, name: name.to_owned(), pattern });
        let itself = exactly(name, PatternType::Literal);
        let any = if name == ANY { None } else { exactly(ANY, PatternType::Literal) };
        itself.into_iter().chain(any).chain(self.beginnings(kind, name)).flatten()
    }

    /// Rules for names that begin as this one does, longest beginning first.
    fn beginnings<'a>(
        &'a self,
        kind: ResourceType,
        name: &'a str,
    ) -> impl Iterator<Item = &'a BTreeSet<Entry>> + 'a {
        let prefixed =
            move |name: &str| Pattern { kind, name: name.to_owned(), pattern: PatternType::Prefixed };
        let first = Pattern { kind, name: String::new(), pattern: PatternType::Unknown };
        let mut left = Some(name);
        std::iter::from_fn(move || {
            while let Some(beginning) = left {
                // What stands last before it shares the longest beginning with it: all longer ones have no rule.
                let (pattern, entries) = self.rules.range(&first..=&prefixed(beginning)).next_back()?;
                let shared = shared(beginning, &pattern.name);
                let is_whole = shared == pattern.name;
                left = if is_whole { shorter(shared) } else { Some(shared) };
                if is_whole && pattern.pattern == PatternType::Prefixed {
                    return Some(entries);
                }
            }
            None
        })
    }

    /// Whether somebody may do something to a thing.
    pub fn allows(&self, who: &Who, operation: AclOperation, kind: ResourceType, name: &str) -> bool {
        let (mut is_about, mut is_allowed) = (false, false);
        for entry in self.about(kind, name) {
            is_about = true;
            if !entry.is_for(who) {
                continue;
            }
            let means = entry.operation == operation || entry.operation == AclOperation::All;
            match entry.permission {
                AclPermission::Deny if means => return false,
                AclPermission::Allow => is_allowed |= means || implies(entry.operation, operation),
                _ => {}
            }
        }
        is_allowed || !is_about && self.is_open
    }

    /// Whether somebody may do something to any thing of a kind, whatever its name. What a denial for all names takes away is
    /// not given by others.
    pub fn allows_any(&self, who: &Who, operation: AclOperation, kind: ResourceType) -> bool {
        let says = |entries: &BTreeSet<Entry>, permission| {
            let is_it = |entry: &Entry| {
                entry.permission == permission
                    && entry.is_for(who)
                    && (entry.operation == AclOperation::All || entry.operation == operation)
            };
            entries.iter().any(is_it)
        };
        let all = Pattern { kind, name: ANY.to_owned(), pattern: PatternType::Literal };
        if self.rules.get(&all).is_some_and(|entries| says(entries, AclPermission::Deny)) {
            return false;
        }
        let is_given = |(pattern, entries): (&Pattern, &BTreeSet<Entry>)| {
            let is_literal = pattern.pattern == PatternType::Literal;
            let is_all = is_literal && pattern.name == ANY;
            let mut beginnings = self.beginnings(kind, &pattern.name);
            // A single name that is denied takes nothing from those that begin with it.
            says(entries, AclPermission::Allow)
                && !(is_literal && says(entries, AclPermission::Deny))
                && (is_all || !beginnings.any(|entries| says(entries, AclPermission::Deny)))
        };
        self.is_open || self.rules.iter().filter(|(pattern, _)| pattern.kind == kind).any(is_given)
    }
}

impl Entry {
    fn is_for(&self, who: &Who) -> bool {
        (self.principal == who.principal || self.principal == EVERYONE)
            && (self.host == who.host || self.host == ANY)
    }
}

/// The beginning that two names share.
fn shared<'a>(one: &'a str, other: &str) -> &'a str {
    let same = one.chars().zip(other.chars()).take_while(|(one, other)| one == other);
    one.get(..same.map(|(char, _)| char.len_utf8()).sum()).unwrap_or_default()
}

/// Without its last character; none if there is none.
fn shorter(name: &str) -> Option<&str> {
    let mut chars = name.chars();
    chars.next_back().map(|_| chars.as_str())
}

/// What can be done to things of a kind.
pub fn operations(kind: ResourceType) -> &'static [AclOperation] {
    use AclOperation::{
        Alter, AlterConfigs, ClusterAction, Create, CreateTokens, Delete, Describe, DescribeConfigs,
        DescribeTokens, IdempotentWrite, Read, TwoPhaseCommit, Write,
    };
    match kind {
        ResourceType::Topic => &[Read, Write, Create, Describe, Delete, Alter, DescribeConfigs, AlterConfigs],
        ResourceType::Group => &[Read, Describe, Delete, DescribeConfigs, AlterConfigs],
        ResourceType::Cluster => {
            &[Create, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite, Alter, Describe]
        }
        ResourceType::TransactionalId => &[Describe, Write, TwoPhaseCommit],
        ResourceType::DelegationToken => &[Describe],
        ResourceType::User => &[CreateTokens, DescribeTokens],
        ResourceType::Unknown | ResourceType::Any => &[],
    }
}

/// Who may read, write, delete or alter something may know of it.
fn implies(allowed: AclOperation, asked: AclOperation) -> bool {
    match asked {
        AclOperation::Describe => matches!(
            allowed,
            AclOperation::Read | AclOperation::Write | AclOperation::Delete | AclOperation::Alter
        ),
        AclOperation::DescribeConfigs => allowed == AclOperation::AlterConfigs,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(name: &str) -> Who {
        Who { principal: format!("User:{name}"), host: "10.0.0.1".to_owned() }
    }

    fn topic(name: &str, pattern: PatternType) -> Pattern {
        Pattern { kind: ResourceType::Topic, name: name.to_owned(), pattern }
    }

    fn entry(principal: &str, operation: AclOperation, permission: AclPermission) -> Entry {
        Entry { principal: format!("User:{principal}"), host: ANY.to_owned(), operation, permission }
    }

    fn access(rules: &[(Pattern, Entry)], is_open: bool) -> Access {
        let mut access = Access::new(is_open);
        rules.iter().cloned().for_each(|(pattern, entry)| assert!(access.add(pattern, entry)));
        access
    }

    #[test]
    fn without_a_rule_the_policy_decides_and_with_one_only_rules_do() {
        let rule = (topic("t", PatternType::Literal), entry("a", AclOperation::Read, AclPermission::Allow));
        for is_open in [true, false] {
            let access = access(std::slice::from_ref(&rule), is_open);
            let read = |name: &str, topic: &str| {
                access.allows(&who(name), AclOperation::Read, ResourceType::Topic, topic)
            };
            assert_eq!((read("a", "t"), read("b", "t"), read("b", "u")), (true, false, is_open));
            // Another kind of thing of that name is another thing.
            let group = access.allows(&who("b"), AclOperation::Read, ResourceType::Group, "t");
            assert_eq!(group, is_open);
        }
    }

    #[test]
    fn names_begin_or_are_any_and_a_denial_wins() {
        let rules = [
            (topic("ab", PatternType::Prefixed), entry("a", AclOperation::Write, AclPermission::Allow)),
            (topic("*", PatternType::Literal), entry("*", AclOperation::Read, AclPermission::Allow)),
            (topic("abc", PatternType::Literal), entry("a", AclOperation::All, AclPermission::Deny)),
        ];
        let access = access(&rules, false);
        let may = |operation, topic: &str| access.allows(&who("a"), operation, ResourceType::Topic, topic);
        assert!(may(AclOperation::Write, "ab") && may(AclOperation::Write, "abd"));
        assert!(!may(AclOperation::Write, "a") && !may(AclOperation::Write, "b"));
        assert!(may(AclOperation::Read, "zz") && !may(AclOperation::Read, "abc"));
        assert!(!may(AclOperation::Write, "abc"));
        assert!(may(AclOperation::Describe, "abd") && !may(AclOperation::Alter, "abd"));
    }

    #[test]
    fn hosts_count() {
        let mut rule = entry("a", AclOperation::Read, AclPermission::Allow);
        rule.host = "10.0.0.2".to_owned();
        let access = access(&[(topic("t", PatternType::Literal), rule)], false);
        let other = Who { host: "10.0.0.2".to_owned(), ..who("a") };
        let may = |who: &Who| access.allows(who, AclOperation::Read, ResourceType::Topic, "t");
        assert_eq!((may(&who("a")), may(&other)), (false, true));
    }

    #[test]
    fn any_thing_of_a_kind_is_enough_unless_it_is_denied() {
        let rules = [
            (topic("t", PatternType::Literal), entry("a", AclOperation::Write, AclPermission::Allow)),
            (topic("t", PatternType::Literal), entry("b", AclOperation::Write, AclPermission::Allow)),
            (topic("*", PatternType::Literal), entry("b", AclOperation::Write, AclPermission::Deny)),
        ];
        let access = access(&rules, false);
        let may = |name: &str| access.allows_any(&who(name), AclOperation::Write, ResourceType::Topic);
        assert_eq!((may("a"), may("b"), may("c")), (true, false, false));
        assert!(!access.allows_any(&who("a"), AclOperation::Write, ResourceType::Group));
    }

    #[test]
    fn an_open_policy_lets_do_something_to_any_thing_unless_all_names_are_denied() {
        let allow = (topic("t", PatternType::Literal), entry("a", AclOperation::Write, AclPermission::Allow));
        let deny = (topic("*", PatternType::Literal), entry("b", AclOperation::All, AclPermission::Deny));
        let access = access(&[allow, deny], true);
        let may = |name: &str| access.allows_any(&who(name), AclOperation::Write, ResourceType::Topic);
        assert_eq!((may("a"), may("b"), may("c")), (true, false, true));
    }

    #[test]
    fn names_with_a_beginning_are_denied_by_beginnings_of_it_only() {
        let rule = |name: &str, pattern, user: &str, permission| {
            (topic(name, pattern), entry(user, AclOperation::Write, permission))
        };
        use {AclPermission::*, PatternType::*};
        let may = |rules: &[(Pattern, Entry)]| {
            access(rules, false).allows_any(&who("a"), AclOperation::Write, ResourceType::Topic)
        };
        let allowed = rule("ab", Prefixed, "a", Allow);
        assert!(may(&[allowed.clone(), rule("ab", Literal, "a", Deny), rule("abc", Prefixed, "a", Deny)]));
        assert!(!may(&[allowed.clone(), rule("a", Prefixed, "a", Deny)]));
        assert!(!may(&[allowed, rule("ab", Prefixed, "a", Deny)]));
        let named = rule("ab", Literal, "a", Allow);
        assert!(!may(&[named.clone(), rule("a", Prefixed, "a", Deny)]));
        assert!(may(&[named, rule("b", Prefixed, "a", Deny), rule("a", Literal, "a", Deny)]));
        assert!(may(&[rule("*", Literal, "a", Allow), rule("a", Prefixed, "a", Deny)]));
    }

    #[test]
    fn all_beginnings_that_have_rules_are_found_among_many_others() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut name =
            || -> String { (0..rng.usize(0..6)).map(|_| *rng.choice(&['a', 'b', 'é']).unwrap()).collect() };
        let mut access = Access::new(false);
        for at in 0..300 {
            let pattern = if at % 3 == 0 { PatternType::Literal } else { PatternType::Prefixed };
            access.add(topic(&name(), pattern), entry("a", AclOperation::Read, AclPermission::Allow));
        }
        for _ in 0..300 {
            let name = name();
            let is_beginning = |pattern: &&Pattern| {
                pattern.pattern == PatternType::Prefixed && name.starts_with(&pattern.name)
            };
            let wanted = access.rules.keys().filter(is_beginning).count();
            assert_eq!(access.beginnings(ResourceType::Topic, &name).count(), wanted, "{name}");
        }
    }

    #[test]
    fn filters_find_by_rule_and_by_what_applies_to_a_name() {
        let rules = [
            (topic("ab", PatternType::Prefixed), entry("a", AclOperation::Write, AclPermission::Allow)),
            (topic("*", PatternType::Literal), entry("b", AclOperation::Read, AclPermission::Allow)),
            (topic("abc", PatternType::Literal), entry("a", AclOperation::All, AclPermission::Deny)),
        ];
        let mut access = access(&rules, false);
        let all = Filter {
            kind: ResourceType::Any,
            name: None,
            pattern: PatternType::Any,
            principal: None,
            host: None,
            operation: AclOperation::Any,
            permission: AclPermission::Any,
        };
        let count = |access: &Access, filter: Filter| access.find(&filter).len();
        assert_eq!(count(&access, all.clone()), 3);
        let named = |name: &str, pattern| Filter { name: Some(name.to_owned()), pattern, ..all.clone() };
        assert_eq!(count(&access, named("abc", PatternType::Match)), 3);
        assert_eq!(count(&access, named("abc", PatternType::Literal)), 1);
        assert_eq!(count(&access, named("ab", PatternType::Any)), 1);
        assert_eq!(count(&access, Filter { principal: Some("User:a".into()), ..all.clone() }), 2);
        assert_eq!(count(&access, Filter { permission: AclPermission::Deny, ..all.clone() }), 1);
        assert_eq!(count(&access, Filter { kind: ResourceType::Group, ..all.clone() }), 0);
        for (pattern, entry) in access.find(&all) {
            access.remove(&pattern, &entry);
        }
        assert!(access.is_empty());
    }
}
