//! Which paths there are, which methods each has, and who may use it.

use http::{HeaderMap, Method, StatusCode, header};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Management;
use super::ask::Caller;
use super::reply::{Refusal, Reply};
use crate::mq::server::users::Denied;

/// Who may use a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Anybody, known or not.
    Nothing,
    /// A tag of management.
    Manager,
    /// Who may do something on the virtual host of the path.
    Vhost,
    Monitor,
    Policymaker,
    Administrator,
}

const READ: &str = "HEAD, GET, OPTIONS";
const POST: &str = "POST, OPTIONS";
const DELETE: &str = "DELETE, OPTIONS";
const PUT: &str = "PUT, OPTIONS";
const READ_PUT: &str = "HEAD, GET, PUT, OPTIONS";
const READ_POST: &str = "HEAD, GET, POST, OPTIONS";
const READ_DELETE: &str = "HEAD, GET, DELETE, OPTIONS";
const READ_PUT_DELETE: &str = "HEAD, GET, PUT, DELETE, OPTIONS";
const PUT_DELETE: &str = "PUT, DELETE, OPTIONS";

/// `*` stands for anything, `:vhost` for the virtual host. The first that fits counts.
const ROUTES: &[(&str, &str, Need)] = &[
    ("overview", READ, Need::Manager),
    ("cluster-name", READ_PUT, Need::Manager),
    ("nodes", READ, Need::Monitor),
    ("nodes/*", READ, Need::Monitor),
    ("nodes/*/memory", READ, Need::Monitor),
    ("extensions", READ, Need::Manager),
    ("definitions", READ_POST, Need::Administrator),
    ("all-configuration", READ_POST, Need::Administrator),
    ("definitions/*", READ_POST, Need::Administrator),
    ("parameters", READ, Need::Policymaker),
    ("parameters/*", READ, Need::Policymaker),
    ("parameters/*/:vhost", READ, Need::Policymaker),
    ("parameters/*/:vhost/*", READ_PUT_DELETE, Need::Policymaker),
    ("global-parameters", READ, Need::Policymaker),
    ("global-parameters/*", READ_PUT_DELETE, Need::Policymaker),
    ("policies", READ, Need::Manager),
    ("policies/:vhost", READ, Need::Vhost),
    ("policies/:vhost/*", READ_PUT_DELETE, Need::Policymaker),
    ("operator-policies", READ, Need::Manager),
    ("operator-policies/:vhost", READ, Need::Vhost),
    ("operator-policies/:vhost/*", READ_PUT_DELETE, Need::Administrator),
    ("vhost-limits", READ, Need::Manager),
    ("vhost-limits/:vhost", READ, Need::Vhost),
    ("vhost-limits/*/*", PUT_DELETE, Need::Administrator),
    ("user-limits", READ, Need::Administrator),
    ("user-limits/*", READ, Need::Administrator),
    ("user-limits/*/*", PUT_DELETE, Need::Administrator),
    ("connections", READ, Need::Manager),
    ("connections/username/*", READ_DELETE, Need::Manager),
    ("connections/*", READ_DELETE, Need::Manager),
    ("connections/*/channels", READ, Need::Manager),
    ("channels", READ, Need::Manager),
    ("channels/*", READ, Need::Manager),
    ("consumers", READ, Need::Manager),
    ("consumers/:vhost", READ, Need::Vhost),
    ("exchanges", READ, Need::Manager),
    ("exchanges/:vhost", READ, Need::Vhost),
    ("exchanges/:vhost/*", READ_PUT_DELETE, Need::Vhost),
    ("exchanges/:vhost/*/publish", POST, Need::Vhost),
    ("exchanges/:vhost/*/bindings/source", READ, Need::Vhost),
    ("exchanges/:vhost/*/bindings/destination", READ, Need::Vhost),
    ("queues", READ, Need::Manager),
    ("queues/:vhost", READ, Need::Vhost),
    ("queues/:vhost/*", READ_PUT_DELETE, Need::Vhost),
    ("queues/:vhost/*/bindings", READ, Need::Vhost),
    ("queues/:vhost/*/contents", DELETE, Need::Vhost),
    ("queues/:vhost/*/get", POST, Need::Vhost),
    ("queues/:vhost/*/actions", POST, Need::Administrator),
    ("bindings", READ, Need::Manager),
    ("bindings/:vhost", READ, Need::Vhost),
    ("bindings/:vhost/e/*/e/*", READ_POST, Need::Vhost),
    ("bindings/:vhost/e/*/q/*", READ_POST, Need::Vhost),
    ("bindings/:vhost/e/*/e/*/*", READ_DELETE, Need::Vhost),
    ("bindings/:vhost/e/*/q/*/*", READ_DELETE, Need::Vhost),
    ("vhosts", READ, Need::Manager),
    ("vhosts/*", READ_PUT_DELETE, Need::Administrator),
    ("vhosts/*/permissions", READ, Need::Administrator),
    ("vhosts/*/topic-permissions", READ, Need::Administrator),
    ("vhosts/:vhost/connections", READ, Need::Vhost),
    ("vhosts/:vhost/channels", READ, Need::Vhost),
    ("vhosts/*/start/*", POST, Need::Administrator),
    ("users/bulk-delete", POST, Need::Administrator),
    ("users/without-permissions", READ, Need::Administrator),
    ("users", READ, Need::Administrator),
    ("users/*", READ_PUT_DELETE, Need::Administrator),
    ("users/*/permissions", READ, Need::Administrator),
    ("users/*/topic-permissions", READ, Need::Administrator),
    ("whoami", READ, Need::Manager),
    ("auth", READ, Need::Nothing),
    ("permissions", READ, Need::Administrator),
    ("permissions/*/*", READ_PUT_DELETE, Need::Administrator),
    ("topic-permissions", READ, Need::Administrator),
    ("topic-permissions/*/*", READ_PUT_DELETE, Need::Administrator),
    ("topic-permissions/*/*/*", READ_DELETE, Need::Administrator),
    ("feature-flags", READ, Need::Manager),
    ("feature-flags/*/enable", PUT, Need::Administrator),
    ("aliveness-test/:vhost", READ, Need::Vhost),
    ("healthchecks/node", READ, Need::Manager),
    ("healthchecks/node/*", READ, Need::Manager),
    ("health/checks/alarms", READ, Need::Manager),
    ("health/checks/local-alarms", READ, Need::Manager),
    ("health/checks/certificate-expiration/*/*", READ, Need::Manager),
    ("health/checks/port-listener/*", READ, Need::Manager),
    ("health/checks/protocol-listener/*", READ, Need::Manager),
    ("health/checks/virtual-hosts", READ, Need::Manager),
    ("health/checks/node-is-mirror-sync-critical", READ, Need::Manager),
    ("health/checks/node-is-quorum-critical", READ, Need::Manager),
    ("rebalance/queues", POST, Need::Administrator),
];

/// Paths whose bodies RabbitMQ takes only when they are said to be JSON.
const JSON_ONLY: &[&str] = &[
    "operator-policies/:vhost/*",
    "vhost-limits/*/*",
    "user-limits/*/*",
    "definitions",
    "all-configuration",
    "definitions/*",
    "feature-flags/*/enable",
];

/// A path that there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    pattern: &'static str,
    methods: &'static str,
    need: Need,
    /// Its body has to be said to be JSON.
    pub wants_json: bool,
}

fn fits(pattern: &str, path: &[&str]) -> bool {
    let mut parts = pattern.split('/');
    let all = path
        .iter()
        .all(|given| parts.next().is_some_and(|part| part == *given || part == "*" || part == ":vhost"));
    all && parts.next().is_none()
}

/// The path, or 404.
pub(super) fn find(path: &[&str]) -> Result<Route, Refusal> {
    let found = ROUTES.iter().find(|(pattern, ..)| fits(pattern, path));
    let (pattern, methods, need) = *found.ok_or_else(Refusal::nothing_there)?;
    Ok(Route { pattern, methods, need, wants_json: JSON_ONLY.contains(&pattern) })
}

impl Route {
    /// Whether it has the method, or 405. OPTIONS is answered at once.
    pub fn method(&self, method: &Method) -> Result<Option<Reply>, Refusal> {
        let known = self.methods.split(", ").any(|known| known == method.as_str());
        match method {
            _ if !known => Err(Refusal::method(self.methods)),
            &Method::OPTIONS => Ok(Some(Reply::Methods(self.methods))),
            _ => Ok(None),
        }
    }

    /// The virtual host in the path.
    fn vhost<'a>(&self, path: &[&'a str]) -> Option<&'a str> {
        let at = self.pattern.split('/').position(|part| part == ":vhost")?;
        path.get(at).copied()
    }
}

impl Management {
    /// Who asks, if that one may use the path.
    pub(super) fn admit(
        &self,
        route: &Route,
        headers: &HeaderMap,
        path: &[&str],
        is_local: bool,
    ) -> Result<Caller, Refusal> {
        if route.need == Need::Nothing {
            return Ok(Caller { name: "".into(), tags: Vec::new() });
        }
        let Some(given) = headers.get(header::AUTHORIZATION) else { return Err(Refusal::who_are_you()) };
        let (name, password) =
            basic(given.as_bytes()).ok_or_else(|| Refusal::bare(StatusCode::BAD_REQUEST))?;
        let users = self.broker.users();
        let name = users.login(&name, &password, is_local).map_err(|denied| match denied {
            Denied::Credentials => Refusal::login_failed(),
            Denied::NotLocal => Refusal::not_authorised("User can only log in via localhost"),
        })?;
        let tags = users.user(&name).map(|user| user.tags.clone()).unwrap_or_default();
        let caller = Caller { name, tags };
        let vhost = route.vhost(path);
        if !caller.is_manager() {
            return Err(Refusal::not_authorised("Not management user"));
        }
        let admitted = match route.need {
            Need::Nothing | Need::Manager | Need::Vhost => true,
            Need::Monitor => caller.is_monitor(),
            Need::Policymaker => caller.is_policymaker(),
            Need::Administrator => caller.is_administrator(),
        };
        if !admitted {
            return Err(Refusal::not_authorised(match route.need {
                Need::Administrator => "Not administrator user",
                Need::Monitor => "Not monitor user",
                _ => "User not authorised to access object",
            }));
        }
        let closed =
            |vhost: &str| users.vhost(vhost).is_some() && users.access(&caller.name, vhost).is_none();
        if route.need == Need::Vhost && vhost.is_some_and(closed) {
            return Err(Refusal::not_authorised("User not authorised to access virtual host"));
        }
        drop(users);
        Ok(caller)
    }
}

/// Name and password of the header Authorization: RFC 7617.
fn basic(header: &[u8]) -> Option<(String, Vec<u8>)> {
    let (scheme, rest) = header.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = STANDARD.decode(rest.trim_ascii()).ok()?;
    let at = decoded.iter().position(|byte| *byte == b':')?;
    let name = String::from_utf8(decoded[..at].to_vec()).ok()?;
    Some((name, decoded[at + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_their_methods() {
        let has = |path: &[&str], method: Method| find(path).unwrap().method(&method).is_ok();
        assert!(has(&["queues", "/", "a"], Method::PUT) && !has(&["queues", "/"], Method::PUT));
        assert!(has(&["users", "bulk-delete"], Method::POST));
        assert!(!has(&["users", "bulk-delete"], Method::GET));
        assert!(find(&["nope"]).is_err() && find(&[]).is_err() && find(&["overview", "x"]).is_err());
        assert_eq!(find(&["queues", "/", "a"]).unwrap().vhost(&["queues", "/", "a"]), Some("/"));
    }

    #[test]
    fn credentials_may_hold_colons_and_any_bytes() {
        let given = |text: &[u8]| [b"Basic ".to_vec(), STANDARD.encode(text).into_bytes()].concat();
        assert_eq!(basic(&given(b"a:b:c")), Some(("a".to_owned(), b"b:c".to_vec())));
        assert_eq!(basic(&given(b"a:\xff")), Some(("a".to_owned(), b"\xff".to_vec())));
        for wrong in [&b"Basic"[..], b"Basic !", b"Bearer x", b"", &given(b"abc"), &given(b"\xff:")] {
            assert_eq!(basic(wrong), None, "{wrong:?}");
        }
    }
}
