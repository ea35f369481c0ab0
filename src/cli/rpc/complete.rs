//! What a shell is offered after `bandy rpc`: methods, fields of requests, symbols, as the server or the files say.

use std::time::Duration;

use super::lookup;
use super::openrpc::Document;
use super::remote::{self, ProtocolArgs, Remote, Wanted};
use super::schema::SchemaArgs;
use crate::cli::app::App;
use crate::cli::completions::{Candidate, Typed};
use crate::cli::endpoint::{Endpoint, Pillar};
use crate::rpc::client::Client;
use crate::rpc::client::resolve::{MethodName, Resolved, is_standard, resolve};
use crate::rpc::registry::Local;
use crate::rpc::schema::{MessageType, Schema};

use buffa_descriptor::{FieldKind, SingularKind};

/// After this, what the server offered the last time is good enough.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(100);

/// Methods, as short as they can be called.
pub fn methods(app: &App, typed: &Typed) -> Vec<Candidate> {
    let mut paths = paths(app, typed).unwrap_or_default();
    if paths.iter().any(|path| !is_standard(service(path))) && !typed.current.starts_with("grpc.") {
        paths.retain(|path| !is_standard(service(path)));
    }
    paths.sort();
    paths.dedup();
    forms(&paths, &typed.current)
}

/// Services.
pub fn services(app: &App, typed: &Typed) -> Vec<Candidate> {
    let paths = paths(app, typed).unwrap_or_default();
    let mut names: Vec<String> = paths.iter().map(|path| service(path).to_owned()).collect();
    names.sort();
    names.dedup();
    let short = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let fits = |name: &String| name.starts_with(&typed.current);
    let shorts: Vec<String> = names.iter().map(|name| short(name)).filter(fits).collect();
    let words = if typed.current.contains('.') || shorts.is_empty() { names } else { shorts };
    words.into_iter().map(plain).collect()
}

/// Services, methods and messages.
pub fn symbols(app: &App, typed: &Typed) -> Vec<Candidate> {
    let mut found = services(app, typed);
    found.extend(methods(app, typed));
    found
}

/// Fields of the request of the method that was typed before, with what follows their name.
pub fn fields(app: &App, typed: &Typed) -> Vec<Candidate> {
    let Some(name) = typed.positionals.first() else { return Vec::new() };
    let Some(kind) = request(app, typed, &MethodName::parse(name)) else { return Vec::new() };
    let given =
        |field: &str| typed.positionals.iter().any(|word| word.split([':', '=']).next() == Some(field));
    let fields = kind.descriptor().fields().iter().filter(|field| !given(field.name()));
    let candidate = |field: &buffa_descriptor::FieldDescriptor| {
        let (sign, about) = match field.kind() {
            FieldKind::Singular(SingularKind::Scalar(_)) => ("=", ""),
            FieldKind::Singular(SingularKind::Enum(_)) => ("=", "enum"),
            FieldKind::Singular(SingularKind::Message(_)) => (":=", "JSON object"),
            FieldKind::List(_) => (":=", "JSON list"),
            FieldKind::Map { .. } => (":=", "JSON object"),
        };
        Candidate { word: format!("{}{sign}", field.name()), about: about.to_owned() }
    };
    fields.map(candidate).collect()
}

fn plain(word: String) -> Candidate {
    Candidate { word, about: String::new() }
}

fn service(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(service, _)| service)
}

/// Short forms of paths that go on with what was typed; full ones if a package is being typed, or if a short form
/// could mean several.
fn forms(paths: &[String], current: &str) -> Vec<Candidate> {
    let by_service = |path: &String| {
        let service = service(path).rsplit('.').next().unwrap_or_default();
        let method = path.rsplit('/').next().unwrap_or_default();
        // A function has no service to speak of.
        if service == "Functions" || service.is_empty() {
            method.to_owned()
        } else {
            format!("{service}/{method}")
        }
    };
    let by_method = |path: &String| path.rsplit('/').next().unwrap_or_default().to_owned();
    let unique = |form: &dyn Fn(&String) -> String| -> Vec<Candidate> {
        let all: Vec<String> = paths.iter().map(form).collect();
        let once = |word: &String| all.iter().filter(|other| *other == word).count() == 1;
        let word = |(path, word): (&String, &String)| if once(word) { word.clone() } else { path.clone() };
        let words = paths.iter().zip(&all).map(word);
        words.filter(|word| word.starts_with(current)).map(plain).collect()
    };
    let full =
        || paths.iter().filter(|path| path.starts_with(current)).cloned().map(plain).collect::<Vec<_>>();
    if current.contains('.') {
        return full();
    }
    let found = unique(&by_service);
    if !found.is_empty() {
        return found;
    }
    let found = full();
    if found.is_empty() { unique(&by_method) } else { found }
}

fn files(typed: &Typed) -> Option<Schema> {
    let paths = |flag| typed.values(flag).map(Into::into).collect();
    let args = SchemaArgs {
        proto: paths("--proto"),
        proto_path: paths("--proto-path"),
        protoset: paths("--protoset"),
    };
    args.load().ok()?
}

/// Paths of all methods: of the files, of this machine's servers, or of the server that was typed.
fn paths(app: &App, typed: &Typed) -> Option<Vec<String>> {
    if let Some(schema) = files(typed) {
        return Some(schema.methods().map(|method| method.path).collect());
    }
    let connect = typed.connect.resolve(app, Pillar::Rpc).ok();
    if connect.is_some_and(|connect| connect.endpoint == Endpoint::local()) {
        // They are listed: nobody has to be asked.
        let servers = Local::new(&remote::services(app)).list().ok()?;
        return Some(servers.into_iter().flat_map(|server| server.methods).collect());
    }
    app.client_runtime().ok()?.block_on(async {
        let remote =
            Remote::open(&typed.connect, &ProtocolArgs::default(), Wanted::Anything, app).await.ok()?;
        if let Client::JsonRpc(client) = &remote.client {
            let document = Document::fetch(client, &remote).await.ok()?;
            return Some(document.methods().map(|(name, _)| name.to_owned()).collect());
        }
        Some(lookup::paths(&remote, ANSWER_TIME_MAX).await)
    })
}

/// The request type of a method.
fn request(app: &App, typed: &Typed, name: &MethodName) -> Option<MessageType> {
    if let Some(schema) = files(typed) {
        return match resolve(name, schema.methods()) {
            Resolved::One(method) => Some(method.input),
            Resolved::Ambiguous(_) | Resolved::Unknown => None,
        };
    }
    app.client_runtime().ok()?.block_on(async {
        let wanted = Wanted::Method(name);
        let remote = Remote::open(&typed.connect, &ProtocolArgs::default(), wanted, app).await.ok()?;
        let found = lookup::method(name, &SchemaArgs::default(), &remote).await.ok()?;
        Some(found.method.input)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_offered_as_short_as_they_are_clear() {
        let paths =
            ["demo.Greeter/Hello", "demo.Calc/Sum", "a.Log/Get", "b.Log/Get", "bandy.Functions/upper"];
        let paths = paths.map(str::to_owned);
        let words = |current: &str| -> Vec<String> {
            forms(&paths, current).into_iter().map(|candidate| candidate.word).collect()
        };
        assert_eq!(words("Gr"), ["Greeter/Hello"]);
        assert_eq!(words("Greeter/"), ["Greeter/Hello"]);
        assert_eq!(words("up"), ["upper"]);
        assert_eq!(words("demo.C"), ["demo.Calc/Sum"]);
        assert_eq!(words("de"), ["demo.Greeter/Hello", "demo.Calc/Sum"]);
        assert_eq!(words("He"), ["Hello"]);
        assert_eq!(words(""), ["Greeter/Hello", "Calc/Sum", "a.Log/Get", "b.Log/Get", "upper"]);
        assert!(words("nothing").is_empty());
    }
}
