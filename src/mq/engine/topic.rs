//! The bindings of a topic exchange as a tree of words: a key costs its own words, not the number of bindings.

use std::collections::HashMap;

/// Most `#` in one pattern, as RabbitMQ 4.3 limits it: each doubles what a key can cost.
pub const HASHES_MAX: usize = 16;

/// A tree from patterns to values of `T`.
#[derive(Debug)]
pub(crate) struct Topics<T> {
    nodes: Vec<Node<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Node<T> {
    /// With how often each was added.
    values: Vec<(T, u32)>,
    words: HashMap<Box<[u8]>, u32>,
    star: u32,
    hash: u32,
    parent: u32,
}

const NONE: u32 = u32::MAX;

impl<T> Node<T> {
    fn new(parent: u32) -> Self {
        Self { values: Vec::new(), words: HashMap::new(), star: NONE, hash: NONE, parent }
    }

    fn is_needless(&self) -> bool {
        self.values.is_empty() && self.words.is_empty() && self.star == NONE && self.hash == NONE
    }
}

impl<T> Default for Topics<T> {
    fn default() -> Self {
        Self { nodes: vec![Node::new(NONE)], free: Vec::new() }
    }
}

impl<T: Copy + PartialEq> Topics<T> {
    /// Adds a value under a pattern; once more when it is there already.
    pub fn insert(&mut self, pattern: &[u8], value: T) {
        let mut node = 0;
        for word in words(pattern) {
            node = self.child_or_new(node, word);
        }
        let values = &mut self.nodes[node as usize].values;
        match values.iter_mut().find(|(held, _)| *held == value) {
            Some((_, count)) => *count += 1,
            None => values.push((value, 1)),
        }
    }

    /// Takes a value away as often as it was added.
    pub fn remove(&mut self, pattern: &[u8], value: T) {
        let mut node = 0;
        let mut path = Vec::new();
        for word in words(pattern) {
            let Some(child) = self.child(node, word) else { return };
            path.push(word);
            node = child;
        }
        let values = &mut self.nodes[node as usize].values;
        let Some(at) = values.iter().position(|(held, _)| *held == value) else { return };
        values[at].1 -= 1;
        if values[at].1 == 0 {
            values.swap_remove(at);
        }
        self.prune(node, &path);
    }

    fn prune(&mut self, mut node: u32, path: &[&[u8]]) {
        for word in path.iter().rev() {
            if !self.nodes[node as usize].is_needless() {
                return;
            }
            let parent = self.nodes[node as usize].parent;
            match *word {
                b"*" => self.nodes[parent as usize].star = NONE,
                b"#" => self.nodes[parent as usize].hash = NONE,
                word => {
                    self.nodes[parent as usize].words.remove(word);
                }
            }
            self.free.push(node);
            node = parent;
        }
    }

    fn child(&self, node: u32, word: &[u8]) -> Option<u32> {
        let child = match word {
            b"*" => self.nodes[node as usize].star,
            b"#" => self.nodes[node as usize].hash,
            word => self.nodes[node as usize].words.get(word).copied().unwrap_or(NONE),
        };
        (child != NONE).then_some(child)
    }

    fn child_or_new(&mut self, node: u32, word: &[u8]) -> u32 {
        if let Some(child) = self.child(node, word) {
            return child;
        }
        let child = match self.free.pop() {
            Some(free) => {
                self.nodes[free as usize] = Node::new(node);
                free
            }
            None => {
                self.nodes.push(Node::new(node));
                (self.nodes.len() - 1) as u32
            }
        };
        match word {
            b"*" => self.nodes[node as usize].star = child,
            b"#" => self.nodes[node as usize].hash = child,
            word => {
                self.nodes[node as usize].words.insert(word.into(), child);
            }
        }
        child
    }

    /// Calls back for every value whose pattern matches; the same value more than once when several do.
    ///
    /// `*` is one word, `#` any number of them, words are what stands between dots (AMQP 0-9-1, 3.1.3.3).
    pub fn matches(&self, key: &[u8], found: &mut impl FnMut(T)) {
        let mut buffer = [&b""[..]; 32];
        let mut count = 0;
        for word in words(key) {
            if count == buffer.len() {
                let all: Vec<&[u8]> = words(key).collect();
                return self.search(&all, found);
            }
            buffer[count] = word;
            count += 1;
        }
        self.search(&buffer[..count], found);
    }

    /// Walks the set of reachable nodes word by word, so that a pattern of many `#` costs nodes times words
    /// and not two to the power of them.
    fn search(&self, key: &[&[u8]], found: &mut impl FnMut(T)) {
        let mut here = Vec::with_capacity(8);
        let mut next = Vec::with_capacity(8);
        self.reach(0, false, &mut here);
        for word in key {
            for &(node, through_hash) in &here {
                let at = &self.nodes[node as usize];
                if through_hash {
                    self.reach(node, true, &mut next);
                }
                if at.star != NONE {
                    self.reach(at.star, false, &mut next);
                }
                if let Some(&child) = at.words.get(*word) {
                    self.reach(child, false, &mut next);
                }
            }
            here.clear();
            std::mem::swap(&mut here, &mut next);
        }
        for (node, _) in here {
            for (value, _) in &self.nodes[node as usize].values {
                found(*value);
            }
        }
    }

    /// Adds a node, and those that `#` reaches from it without a word.
    fn reach(&self, node: u32, through_hash: bool, into: &mut Vec<(u32, bool)>) {
        if into.contains(&(node, through_hash)) {
            return;
        }
        into.push((node, through_hash));
        let hash = self.nodes[node as usize].hash;
        if hash != NONE {
            self.reach(hash, true, into);
        }
    }
}

/// The words of a key or pattern: an empty one has none, RabbitMQ's reading of the empty key.
fn words(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let empty = key.is_empty();
    key.split(|byte| *byte == b'.').skip(usize::from(empty))
}

/// Whether a pattern is one that the tree takes.
pub(crate) fn is_allowed(pattern: &[u8]) -> bool {
    words(pattern).filter(|word| *word == b"#").count() <= HASHES_MAX
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tree(patterns: &[&str]) -> Topics<usize> {
        let mut tree = Topics::default();
        for (number, pattern) in patterns.iter().enumerate() {
            tree.insert(pattern.as_bytes(), number);
        }
        tree
    }

    fn found(tree: &Topics<usize>, key: &str) -> Vec<usize> {
        let mut found = Vec::new();
        tree.matches(key.as_bytes(), &mut |value| found.push(value));
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The rule, word by word, without a tree.
    fn matches(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern.first(), key.first()) {
            (None, None) => true,
            (Some(&"#"), _) => {
                matches(&pattern[1..], key) || (!key.is_empty() && matches(pattern, &key[1..]))
            }
            (Some(&"*"), Some(_)) => matches(&pattern[1..], &key[1..]),
            (Some(word), Some(other)) => word == other && matches(&pattern[1..], &key[1..]),
            _ => false,
        }
    }

    #[test]
    fn star_is_one_word_and_hash_any_number() {
        let tree = tree(&["a.*", "a.#", "#", "*.b", "a.b", "#.b", "a.#.c", "", "*"]);
        assert_eq!(found(&tree, "a.b"), [0, 1, 2, 3, 4, 5]);
        assert_eq!(found(&tree, "a"), [1, 2, 8]);
        assert_eq!(found(&tree, "a.x.y.c"), [1, 2, 6]);
        assert_eq!(found(&tree, "a.c"), [0, 1, 2, 6]);
        assert_eq!(found(&tree, ""), [2, 7]);
        assert_eq!(found(&tree, "b"), [2, 5, 8]);
    }

    #[test]
    fn a_pattern_bound_twice_stays_until_both_are_gone_and_leaves_nothing() {
        let mut tree = tree(&["a.b"]);
        tree.insert(b"a.b", 0);
        tree.remove(b"a.b", 0);
        assert_eq!(found(&tree, "a.b"), [0]);
        tree.remove(b"a.b", 0);
        assert_eq!(found(&tree, "a.b"), [0; 0]);
        assert_eq!(tree.nodes.len() - tree.free.len(), 1);
    }

    proptest! {
        #[test]
        fn the_tree_agrees_with_the_rule(
            patterns in proptest::collection::vec(proptest::collection::vec("[ab*#]", 0..5), 1..20),
            key in proptest::collection::vec("[ab]", 0..6),
            removed in 0_usize..20,
        ) {
            let joined: Vec<String> = patterns.iter().map(|words| words.join(".")).collect();
            let mut tree = tree(&joined.iter().map(String::as_str).collect::<Vec<_>>());
            let removed = removed % patterns.len();
            tree.remove(joined[removed].as_bytes(), removed);
            let key: Vec<&str> = key.iter().map(String::as_str).collect();
            let expected: Vec<usize> = (0..patterns.len())
                .filter(|at| *at != removed)
                .filter(|at| matches(&patterns[*at].iter().map(String::as_str).collect::<Vec<_>>(), &key))
                .collect();
            prop_assert_eq!(found(&tree, &key.join(".")), expected);
        }
    }
}
