//! Which method is meant: `Method`, `Svc/Method`, `pkg.Svc.Method`, or a call id, against what a server offers.

use crate::rpc::Method;
use crate::rpc::catalog::method_id;

/// A method as it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodName {
    /// As it was given.
    pub text: String,
    /// The service, or the last words of its name; `None` if only the method was named.
    pub service: Option<String>,
    /// The method.
    pub method: String,
    /// The integer call id that it may be.
    pub id: Option<u32>,
}

impl MethodName {
    /// Understands a name. A leading slash is allowed, as in a path.
    pub fn parse(text: &str) -> Self {
        let given = text;
        let text = text.trim_start_matches('/');
        let id = match text.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        };
        let (service, method) = match text.rsplit_once('/').or_else(|| text.rsplit_once('.')) {
            Some((service, method)) => (Some(service.to_owned()), method),
            None => (None, text),
        };
        Self { text: given.to_owned(), service, method: method.to_owned(), id }
    }

    /// `package.Service/Method` if a package is named, so that it can be meant as it is.
    pub fn full_path(&self) -> Option<String> {
        let service = self.service.as_deref().filter(|service| service.contains('.'))?;
        Some(format!("{service}/{}", self.method))
    }

    /// True if it may mean the method of this path.
    pub fn fits(&self, path: &str) -> bool {
        if self.id.is_some_and(|id| id == method_id(path)) {
            return true;
        }
        let Some((service, method)) = path.split_once('/') else { return false };
        method == self.method && self.service.as_deref().is_none_or(|wanted| ends_with_words(service, wanted))
    }
}

/// True if `name` is `wanted` or ends in `.wanted`.
pub fn ends_with_words(name: &str, wanted: &str) -> bool {
    name.strip_suffix(wanted).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

impl std::fmt::Display for MethodName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.service {
            Some(service) => write!(f, "{service}/{}", self.method),
            None => f.write_str(&self.method),
        }
    }
}

/// What a name means.
#[derive(Clone, Debug)]
pub enum Resolved {
    /// One method.
    One(Box<Method>),
    /// Several: their paths.
    Ambiguous(Vec<String>),
    /// None.
    Unknown,
}

/// Finds the method. A full name wins over suffixes, other services over those every server has.
pub fn resolve(name: &MethodName, methods: impl IntoIterator<Item = Method>) -> Resolved {
    let mut found: Vec<Method> = methods.into_iter().filter(|method| name.fits(&method.path)).collect();
    let exact =
        |method: &Method| name.service.as_deref() == Some(method.service()) && name.method == method.name();
    if let Some(at) = found.iter().position(exact) {
        return Resolved::One(Box::new(found.swap_remove(at)));
    }
    if found.iter().any(|method| !is_standard(method.service())) {
        found.retain(|method| !is_standard(method.service()));
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found.dedup_by(|a, b| a.path == b.path);
    match <[Method; 1]>::try_from(found) {
        Ok([method]) => Resolved::One(Box::new(method)),
        Err(found) if found.is_empty() => Resolved::Unknown,
        Err(found) => Resolved::Ambiguous(found.into_iter().map(|method| method.path).collect()),
    }
}

/// True for the services that servers offer about themselves.
pub fn is_standard(service: &str) -> bool {
    service.starts_with("grpc.reflection.")
        || service.starts_with("grpc.health.")
        || service.starts_with("grpc.channelz.")
        || service == crate::rpc::stats::SERVICE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::schema::{Input, Schema};

    fn methods() -> Vec<Method> {
        let text = "syntax = \"proto3\"; package demo; message M {} \
            service Greeter { rpc Hello(M) returns (M); rpc Check(M) returns (M); } \
            service Other { rpc Hello(M) returns (M); }";
        let input = Input::Text { name: "demo.proto".to_owned(), text: text.to_owned() };
        Schema::compile_inputs(&[input], &[]).unwrap().methods().collect()
    }

    fn found(name: &str) -> String {
        match resolve(&MethodName::parse(name), methods()) {
            Resolved::One(method) => method.path,
            Resolved::Ambiguous(paths) => paths.join(" or "),
            Resolved::Unknown => "none".to_owned(),
        }
    }

    #[test]
    fn any_unique_suffix_is_enough() {
        for name in [
            "demo.Greeter/Hello",
            "/demo.Greeter/Hello",
            "Greeter/Hello",
            "demo.Greeter.Hello",
            "Greeter.Hello",
        ] {
            assert_eq!(found(name), "demo.Greeter/Hello", "{name}");
        }
        assert_eq!(found("Check"), "demo.Greeter/Check");
        assert_eq!(found("Hello"), "demo.Greeter/Hello or demo.Other/Hello");
        for name in ["eeter/Hello", "emo.Greeter/Hello", "hello", "", "/", "."] {
            assert_eq!(found(name), "none", "{name}");
        }
    }

    #[test]
    fn a_call_id_is_a_name_too() {
        let id = crate::rpc::catalog::method_id("demo.Other/Hello");
        assert_eq!(found(&id.to_string()), "demo.Other/Hello");
        assert_eq!(found(&format!("{id:#x}")), "demo.Other/Hello");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_name(text: String) {
            let _ = resolve(&MethodName::parse(&text), methods());
        }
    }
}
