//! TLS where there is none, and the other way round: what a failed connection was, and the command that works.
//!
//! Nothing is switched behind anybody's back. Without a scheme, this machine is spoken to in plaintext and every
//! other one in TLS; where the other side speaks the other, the call fails and says so.

use std::ffi::OsString;
use std::time::Duration;

use crate::cli::connect::Tls;
use crate::cli::endpoint::{Endpoint, Place, Scheme, mask};
use crate::cli::exit::{Exit, Failure};
use crate::rpc::client::{Cause, Ending, probe};
use crate::transport::Address;
use crate::transport::tls::Fault;

/// Time for a look at what is spoken there, after a call has failed.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Options of the command line that are about TLS, and whether a value follows.
const TLS_FLAGS: [(&str, bool); 5] = [
    ("--insecure", false),
    ("--cacert", true),
    ("--cert", true),
    ("--cert-key", true),
    ("--server-name", true),
];

/// What is known about the way to a server when a call to it fails.
#[derive(Clone, Debug)]
pub struct Way {
    /// The endpoint as it was resolved.
    pub endpoint: Endpoint,
    /// What was said about TLS.
    pub tls: Tls,
    /// True if TLS was spoken.
    pub encrypted: bool,
    /// The command line.
    pub words: Vec<OsString>,
}

impl Way {
    /// The failure, if it is one of TLS.
    pub async fn explain(&self, ending: &Ending) -> Option<Failure> {
        let Place::Hosts(_) = self.endpoint.place else { return None };
        if let Some(failure) = ending.tls.and_then(|fault| self.distrust(fault)) {
            return Some(failure);
        }
        if !matches!(ending.cause, Cause::Unreachable | Cause::Malformed | Cause::Foreign(_)) {
            return None;
        }
        let address = self.endpoint.addresses().into_iter().next()?;
        if !matches!(address, Address::Tcp { .. }) {
            return None;
        }
        if !self.encrypted {
            return probe::speaks_tls(&address, PROBE_TIMEOUT).await.then(|| self.wants_tls(&address));
        }
        let plain = ending.tls == Some(Fault::NotTls) || probe::speaks_http(&address, PROBE_TIMEOUT).await;
        plain.then(|| self.is_plain(&address))
    }

    fn wants_tls(&self, address: &Address) -> Failure {
        let failure =
            Failure::new(Exit::Unreachable, format!("{address} speaks TLS, {} does not", self.bare()));
        let secure = match self.endpoint.scheme {
            Scheme::Http => Some(Scheme::Https),
            Scheme::Grpc => Some(Scheme::Grpcs),
            _ => None,
        };
        let url = secure.map(|scheme| Endpoint { scheme, ..self.bare() });
        // On this machine a certificate is hardly ever one that the system trusts.
        let extra: &[&str] = if address.is_loopback() || url.is_none() { &["--insecure"] } else { &[] };
        let failure = failure.tip(self.again(url.as_ref(), extra));
        match extra {
            [] => failure,
            _ => failure.tip("--cacert FILE instead of --insecure, to know whom you talk to"),
        }
    }

    fn is_plain(&self, address: &Address) -> Failure {
        if self.tls.is_wanted() {
            let message = format!("{address} does not speak TLS, and TLS was asked for");
            return Failure::new(Exit::Unreachable, message).tip(self.again(Some(&self.plain()), &[]));
        }
        let message = if self.endpoint.assumed {
            format!("{address} does not speak TLS, which is what other machines are spoken to in")
        } else {
            format!("{address} does not speak TLS, {} does", self.bare())
        };
        Failure::new(Exit::Unreachable, message)
            .tip(format!("{}    in plaintext, which others can read", self.again(Some(&self.plain()), &[])))
    }

    fn distrust(&self, fault: Fault) -> Option<Failure> {
        let url = self.bare();
        let failed = |why: &str| Failure::new(Exit::Unreachable, format!("cannot trust {url} — {why}"));
        Some(match fault {
            Fault::Untrusted => failed("nobody that is trusted here signed its certificate")
                .tip("--cacert FILE    trust the authority in FILE")
                .tip(format!("{}    trust anybody", self.again(None, &["--insecure"]))),
            Fault::WrongName => failed("its certificate is for another name")
                .tip("--server-name NAME    expect that name")
                .tip(format!("{}    trust anybody", self.again(None, &["--insecure"]))),
            Fault::OutOfDate => failed("its certificate has expired, or is not valid yet")
                .tip(format!("{}    trust it all the same", self.again(None, &["--insecure"]))),
            Fault::OurCertificate => Failure::new(
                Exit::Unreachable,
                format!("{url} asks for a certificate of ours, or another one"),
            )
            .tip("--cert FILE --cert-key FILE"),
            Fault::DistrustsUs => {
                Failure::new(Exit::Unreachable, format!("{url} does not trust the certificate of --cert"))
            }
            Fault::NotTls | Fault::NoCommonProtocol => return None,
        })
    }

    /// The endpoint without secrets.
    fn bare(&self) -> Endpoint {
        Endpoint { user: None, password: None, ..self.endpoint.clone() }
    }

    fn plain(&self) -> Endpoint {
        let scheme = match self.endpoint.scheme {
            Scheme::Grpcs => Scheme::Grpc,
            Scheme::Https => Scheme::Http,
            other => other,
        };
        Endpoint { scheme, ..self.bare() }
    }

    /// The command line once more, with another endpoint and other words about TLS; only the endpoint if
    /// there may be a secret in it.
    fn again(&self, url: Option<&Endpoint>, extra: &[&str]) -> String {
        let url = url.map(ToString::to_string);
        let words: Vec<String> = self.words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let drops_tls = extra.is_empty();
        rewritten(&words, url.as_deref(), drops_tls, extra).unwrap_or_else(|| {
            let url = url.map(|url| format!("-e {url}"));
            url.into_iter().chain(extra.iter().map(|word| (*word).to_owned())).collect::<Vec<_>>().join(" ")
        })
    }
}

/// The words with `-e URL` in place of what names the endpoint there, or added; `None` if they may hold a secret.
fn rewritten(words: &[String], url: Option<&str>, drops_tls: bool, extra: &[&str]) -> Option<String> {
    let secret = |word: &String| {
        // Of a URL that stays.
        if url.is_none() && mask(word) != **word {
            return true;
        }
        let word = word.to_lowercase();
        ["authorization", "cookie", "token", "key:", "key="].iter().any(|name| word.contains(name))
    };
    if words.len() < 3 || words.iter().any(secret) {
        return None;
    }
    let mut kept = vec!["bandy".to_owned()];
    let mut endpoint = url.map(|url| ["-e".to_owned(), url.to_owned()]);
    let mut rest = words[1..].iter().peekable();
    while let Some(word) = rest.next() {
        let is =
            |flag: &str| word == flag || word.strip_prefix(flag).is_some_and(|rest| rest.starts_with('='));
        let skips_value = |flag: &str| word == flag;
        if url.is_some() && (is("--endpoint") || (word.starts_with("-e") && !word.starts_with("--"))) {
            if skips_value("--endpoint") || skips_value("-e") {
                rest.next();
            }
            kept.extend(endpoint.take().into_iter().flatten());
            continue;
        }
        if let Some((flag, valued)) = TLS_FLAGS.iter().find(|(flag, _)| drops_tls && is(flag)) {
            if *valued && skips_value(flag) {
                rest.next();
            }
            continue;
        }
        // A password on the command line is asked for instead.
        if is("--user") || (word.starts_with("-u") && !word.starts_with("--")) {
            let valued = word == "-u" || word == "--user";
            let user = if valued {
                rest.next()?.as_str()
            } else {
                word.trim_start_matches("--user=").trim_start_matches("-u")
            };
            kept.extend(["-u".to_owned(), user.split(':').next().unwrap_or_default().to_owned()]);
            continue;
        }
        // A method that names its server.
        if let (Some(url), Some((_, after))) = (url, word.split_once("://"))
            && endpoint.is_some()
            && let Some((_, path)) = after.split_once('/')
            && !word.starts_with('-')
        {
            let base = url.trim_end_matches('/');
            let base = base.split_once("://").map_or(base, |(scheme, rest)| {
                &base[..scheme.len() + 3 + rest.find('/').unwrap_or(rest.len())]
            });
            kept.push(format!("{base}/{path}"));
            endpoint = None;
            continue;
        }
        kept.push(word.clone());
    }
    kept.extend(endpoint.into_iter().flatten());
    kept.extend(extra.iter().map(|word| (*word).to_owned()));
    Some(kept.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
}

/// A word as a shell takes it, with no more quotes than a person would write.
fn quoted(word: &str) -> std::borrow::Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:=@%+,-".contains(c);
    if word.is_empty() || !word.chars().all(plain) { shell_words::quote(word) } else { word.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(line: &str, url: &str, drops_tls: bool, extra: &[&str]) -> Option<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        rewritten(&words, Some(url), drops_tls, extra)
    }

    #[test]
    fn the_command_is_said_again_with_the_other_endpoint() {
        let url = "grpcs://h:1";
        for (line, expected) in [
            ("x/bandy rpc call -e h:1 A/B n=1", "bandy rpc call -e grpcs://h:1 A/B n=1"),
            ("bandy rpc call -eh:1 A/B", "bandy rpc call -e grpcs://h:1 A/B"),
            ("bandy rpc call --endpoint=h:1 A/B", "bandy rpc call -e grpcs://h:1 A/B"),
            ("bandy rpc call A/B --endpoint h:1 --cacert f", "bandy rpc call A/B -e grpcs://h:1"),
            ("bandy rpc call A/B", "bandy rpc call A/B -e grpcs://h:1"),
            ("bandy rpc call grpc://h:1/A/B {\"a\":1}", "bandy rpc call grpcs://h:1/A/B '{\"a\":1}'"),
            ("bandy rpc call -u bob:pw -e h:1 A/B", "bandy rpc call -u bob -e grpcs://h:1 A/B"),
        ] {
            assert_eq!(again(line, url, true, &[]).as_deref(), Some(expected), "{line}");
        }
        assert_eq!(
            again("bandy rpc ls -e :1 --cacert f", url, false, &["--insecure"]).as_deref(),
            Some("bandy rpc ls -e grpcs://h:1 --cacert f --insecure")
        );
    }

    #[test]
    fn a_command_with_a_secret_is_not_repeated() {
        assert_eq!(again("bandy rpc call -H Authorization:x A/B", "grpcs://h:1", true, &[]), None);
    }
}
