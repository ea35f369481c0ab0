//! Regular expressions of administrators: what RabbitMQ's permissions and policies have in practice, read by an engine
//! that takes linear time.

use regex_lite::{Regex, RegexBuilder};

/// Bytes of compiled pattern that one may take: a pattern is written by an administrator, and may still be a mistake.
const PATTERN_SIZE_MAX: usize = 1 << 20;

/// A pattern that cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pattern '{pattern}' is not a regular expression: {reason}")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A regular expression, and what else must hold at the start: `^(?!amq\.)`, which RabbitMQ's own examples have.
#[derive(Debug, Clone)]
pub struct Expression {
    source: Box<str>,
    main: Regex,
    /// Whether each is to be found.
    ahead: Vec<(bool, Regex)>,
}

impl Expression {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether it is found in a name.
    pub fn is_match(&self, name: &str) -> bool {
        self.ahead.iter().all(|(wanted, regex)| regex.is_match(name) == *wanted) && self.main.is_match(name)
    }
}

/// Compiles a regular expression of bounded size.
///
/// # Errors
/// It is none, or too large a one.
pub fn regex(pattern: &str) -> Result<Expression, PatternError> {
    let compile = |text: &str| {
        let built = RegexBuilder::new(text).size_limit(PATTERN_SIZE_MAX).build();
        built.map_err(|error| PatternError { pattern: pattern.to_owned(), reason: error.to_string() })
    };
    let text = with_literal_braces(pattern);
    let (mut ahead, mut rest) = (Vec::new(), text.strip_prefix('^').unwrap_or_default());
    while let Some((wanted, inner, after)) = look_ahead(rest) {
        ahead.push((wanted, compile(&format!("^(?:{inner})"))?));
        rest = after;
    }
    if ahead.is_empty() || has_alternatives(rest) {
        // What it cannot do is told by the engine.
        return Ok(Expression { source: pattern.into(), main: compile(&text)?, ahead: Vec::new() });
    }
    Ok(Expression { source: pattern.into(), main: compile(&format!("^{rest}"))?, ahead })
}

/// A pattern of a topic permission for one user on one virtual host, whose names stand for themselves in it.
pub(crate) fn expanded(pattern: &str, user: &str, vhost: &str) -> String {
    let pattern = pattern.replace("{username}", &regex_lite::escape(user));
    pattern.replace("{vhost}", &regex_lite::escape(vhost))
}

/// Where a piece of a pattern ends: a character, an escape, a class.
fn piece(text: &str) -> usize {
    let mut chars = text.char_indices();
    match chars.next() {
        Some((_, '\\')) => {
            let Some((_, kind)) = chars.next() else { return text.len() };
            let end = chars.next().map_or(text.len(), |(at, _)| at);
            let braced = kind == 'x' && text[end..].starts_with('{');
            if braced { text[end..].find('}').map_or(text.len(), |at| end + at + 1) } else { end }
        }
        Some((_, '[')) => {
            // A bracket that comes first is one of the class.
            let start = text[1..].strip_prefix('^').map_or(1, |_| 2);
            let mut at = start;
            while at < text.len() {
                match text.as_bytes()[at] {
                    b']' if at > start => return at + 1,
                    b'\\' => at += piece(&text[at..]),
                    b'[' if text[at..].starts_with("[:") => {
                        at += text[at..].find(":]").map_or(1, |end| end + 2);
                    }
                    _ => at += 1,
                }
            }
            text.len()
        }
        Some(_) => chars.next().map_or(text.len(), |(at, _)| at),
        None => 0,
    }
}

/// Braces that are no repetition are meant as they are.
fn with_literal_braces(pattern: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(pattern.len()), pattern);
    while !rest.is_empty() {
        if rest.starts_with('{') && !is_repetition(rest) {
            out.push('\\');
        }
        let (piece, after) = rest.split_at(piece(rest));
        out.push_str(piece);
        rest = after;
    }
    out
}

/// `{2}`, `{2,}`, `{2,3}`
fn is_repetition(text: &str) -> bool {
    let Some((inner, _)) = text[1..].split_once('}') else { return false };
    let (least, most) = inner.split_once(',').unwrap_or((inner, ""));
    !least.is_empty() && (least.chars().chain(most.chars())).all(|c| c.is_ascii_digit())
}

/// `(?=…)` or `(?!…)` at the start of a text: which, what is in it, what follows.
fn look_ahead(text: &str) -> Option<(bool, &str, &str)> {
    let wanted = if text.starts_with("(?=") { true } else { text.strip_prefix("(?!").map(|_| false)? };
    let (mut at, mut depth) = (3, 1);
    while at < text.len() {
        match text.as_bytes()[at] {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            // One that is repeated is none of these.
            let after = &text[at + 1..];
            return (!after.starts_with(['*', '+', '?', '{'])).then_some((wanted, &text[3..at], after));
        }
        at += piece(&text[at..]);
    }
    None
}

/// Whether there is a `|` outside of all groups.
fn has_alternatives(text: &str) -> bool {
    let (mut at, mut depth) = (0, 0);
    while at < text.len() {
        match text.as_bytes()[at] {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b'|' if depth == 0 => return true,
            _ => {}
        }
        at += piece(&text[at..]);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(pattern: &str, names: &[&str]) -> Vec<bool> {
        let regex = regex(pattern).unwrap();
        names.iter().map(|name| regex.is_match(name)).collect()
    }

    #[test]
    fn what_must_not_stand_at_the_start_is_understood() {
        assert_eq!(finds(r"^(?!amq\.).*", &["amq.gen-1", "amqx", "jobs", ""]), [false, true, true, true]);
        assert_eq!(
            finds(r"^(?!(amq|sys)\.)(?!.*tmp)job", &["job", "amq.job", "job.tmp"]),
            [true, false, false]
        );
        assert_eq!(finds(r"^(?=.*eu)orders[)|]$", &["orders)", "eu-orders"]), [false, false]);
        assert_eq!(finds(r"^(?=.*eu)orders", &["orders.eu", "orders.us"]), [true, false]);
        assert_eq!(finds(r"^(?![)(]x)(a|b)$", &[")x", "a", "b", "c"]), [false, true, true, false]);
    }

    #[test]
    fn what_is_not_understood_is_refused_and_not_taken_for_something_else() {
        for pattern in [r"^(?!a)b|c", r"a(?!b)", r"^(?!a", r"(?<=a)b", r"^(?!(?!a)b)c", r"^(?=a)*b", "("] {
            assert!(regex(pattern).is_err(), "{pattern}");
        }
        assert!(regex("(a{1000}){1000}").is_err());
    }

    #[test]
    fn braces_that_repeat_nothing_stand_for_themselves() {
        assert_eq!(finds("^{user}$", &["{user}", "user"]), [true, false]);
        assert_eq!(finds("^[äö]+{$", &["äö{"]), [true]);
        assert_eq!(finds(r"^a{2}b{1,}c{1,2}\x{64}[{]{,}$", &["aabcd{{,}", "abcd"]), [true, false]);
        for pattern in ["{", "a{", r"\", "[", "[]", r"[\", "é{", r"\é{x}"] {
            let _ = regex(pattern);
        }
    }

    #[test]
    fn names_stand_for_themselves_in_topic_permissions() {
        assert_eq!(expanded("^{username}.{vhost}.{client_id}", "a.b", "/"), r"^a\.b./.{client_id}");
        assert_eq!(finds(&expanded("^{username}", ".*", "/"), &["x", ".*.y"]), [false, true]);
    }
}
