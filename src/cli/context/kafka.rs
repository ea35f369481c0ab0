//! Configuration files of Kafka's other clients, as far as they say where a cluster is and how to get in: Java's `.properties`,
//! and `kcat.conf` with its kin of librdkafka.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kafka {
    /// The endpoint.
    pub url: String,
    /// Who.
    pub user: Option<String>,
    /// With what.
    pub password: Option<String>,
    /// Certificates to trust.
    pub cacert: Option<PathBuf>,
    /// Certificate to present, and its key.
    pub cert: Option<(PathBuf, PathBuf)>,
    /// What it says and is not taken over, with the reason.
    pub left: Vec<String>,
}

/// Reads a file; `is_java` tells whose rules of escaping it has.
///
/// # Errors
/// It names no brokers, or a way in that is not known here.
pub fn read(text: &str, is_java: bool) -> Result<Kafka, String> {
    let settings = if is_java { java(text) } else { plain(text) };
    let get = |names: &[&str]| names.iter().find_map(|name| settings.get(*name)).map(String::as_str);
    let brokers = get(&["bootstrap.servers", "metadata.broker.list"]);
    let brokers = brokers.ok_or("it has no bootstrap.servers")?;
    let brokers: Vec<&str> = brokers.split(',').map(str::trim).filter(|it| !it.is_empty()).collect();
    let protocol = get(&["security.protocol"]).unwrap_or("PLAINTEXT").to_ascii_uppercase();
    let (scheme, has_login) = match protocol.as_str() {
        "PLAINTEXT" => ("kafka", false),
        "SSL" => ("kafkas", false),
        "SASL_PLAINTEXT" => ("kafka", true),
        "SASL_SSL" => ("kafkas", true),
        other => return Err(format!("security.protocol {other} is not known")),
    };
    let mut kafka = Kafka { url: format!("{scheme}://{}", brokers.join(",")), ..Kafka::default() };
    if has_login {
        let mechanism = get(&["sasl.mechanism", "sasl.mechanisms"]).unwrap_or("PLAIN").to_ascii_lowercase();
        if !["plain", "scram-sha-256", "scram-sha-512"].contains(&mechanism.as_str()) {
            return Err(format!("sasl.mechanism {mechanism} is not built: plain and scram are"));
        }
        kafka.url.push_str(&format!("?sasl={mechanism}"));
        let jaas = get(&["sasl.jaas.config"]);
        let part = |names: &[&str], option| {
            get(names).map(str::to_owned).or_else(|| jaas.and_then(|jaas| jaas_option(jaas, option)))
        };
        kafka.user = part(&["sasl.username"], "username");
        kafka.password = part(&["sasl.password"], "password");
    }
    kafka.cacert = get(&["ssl.ca.location"]).map(PathBuf::from);
    let own = get(&["ssl.certificate.location"]).zip(get(&["ssl.key.location"]));
    kafka.cert = own.map(|(cert, key)| (cert.into(), key.into()));
    match (get(&["ssl.truststore.location"]), get(&["ssl.truststore.type"])) {
        (Some(path), Some(kind)) if kind.eq_ignore_ascii_case("PEM") => kafka.cacert = Some(path.into()),
        (Some(_), _) => {
            kafka
                .left
                .push("ssl.truststore.location: only PEM is read, and --cacert FILE takes it".to_owned());
        }
        (None, _) => {}
    }
    if get(&["ssl.keystore.location"]).is_some() {
        kafka.left.push("ssl.keystore.location: --cert and --cert-key take PEM".to_owned());
    }
    Ok(kafka)
}

/// `NAME=VALUE` on each line, as it is.
fn plain(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

/// As `java.util.Properties` reads it: `=`, `:` or blanks between name and value, lines that go on after a backslash, escapes.
fn java(text: &str) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut whole = line.trim_start().to_owned();
        if whole.is_empty() || whole.starts_with(['#', '!']) {
            continue;
        }
        while whole.chars().rev().take_while(|letter| *letter == '\\').count() % 2 == 1 {
            whole.pop();
            match lines.next() {
                Some(next) => whole.push_str(next.trim_start()),
                None => break,
            }
        }
        let (name, value) = split(&whole);
        settings.insert(unescaped(name), unescaped(value));
    }
    settings
}

fn split(line: &str) -> (&str, &str) {
    let mut is_escaped = false;
    let end = line.find(|letter: char| {
        let ends = !is_escaped && (letter == '=' || letter == ':' || letter.is_whitespace());
        is_escaped = letter == '\\' && !is_escaped;
        ends
    });
    let (name, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start();
    (name, rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start())
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, if letter == '\\' { letters.next() } else { None }) {
            ('\\', Some('n')) => out.push('\n'),
            ('\\', Some('t')) => out.push('\t'),
            ('\\', Some('r')) => out.push('\r'),
            ('\\', Some('u')) => {
                let code: String = letters.by_ref().take(4).collect();
                out.extend(u32::from_str_radix(&code, 16).ok().and_then(char::from_u32));
            }
            ('\\', Some(other)) => out.push(other),
            (letter, _) => out.push(letter),
        }
    }
    out
}

/// `… required username="bob" password="a\"b";`
fn jaas_option(jaas: &str, option: &str) -> Option<String> {
    let after = jaas.split_once(&format!("{option}="))?.1;
    let mut letters = after.chars();
    let quote = letters.next().filter(|letter| matches!(letter, '"' | '\''));
    let Some(quote) = quote else {
        return after.split([' ', ';']).next().map(str::to_owned);
    };
    let mut out = String::new();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => out.extend(letters.next()),
            letter if letter == quote => return Some(out),
            letter => out.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_javas_clients_is_read() {
        let text = "# ours\nbootstrap.servers = a:9092,\\\n    b:9093\nsecurity.protocol: SASL_SSL\n\
            sasl.mechanism=SCRAM-SHA-512\nsasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule \\\n  \
            required username=\"bob\" password=\"p\\\\\"q\";\nssl.truststore.location=/ca.pem\nssl.truststore.type=PEM\n\
            ssl.keystore.location=/key.jks\n";
        let kafka = read(text, true).unwrap();
        assert_eq!(kafka.url, "kafkas://a:9092,b:9093?sasl=scram-sha-512");
        assert_eq!((kafka.user.as_deref(), kafka.password.as_deref()), (Some("bob"), Some("p\"q")));
        assert_eq!((kafka.cacert, kafka.left.len()), (Some("/ca.pem".into()), 1));
    }

    #[test]
    fn a_file_of_kcats_is_read() {
        let text = "bootstrap.servers=h\nsecurity.protocol=sasl_plaintext\nsasl.mechanisms=PLAIN\n#x\n\
            sasl.username=bob\nsasl.password=a\\b=c\nssl.ca.location=/ca\n";
        let kafka = read(text, false).unwrap();
        assert_eq!((kafka.url.as_str(), kafka.password.as_deref()), ("kafka://h?sasl=plain", Some("a\\b=c")));
        assert_eq!(read("bootstrap.servers=h", false).unwrap().url, "kafka://h");
        assert!(read("a=b", false).is_err());
        assert!(
            read("bootstrap.servers=h\nsecurity.protocol=SASL_SSL\nsasl.mechanism=GSSAPI", true).is_err()
        );
    }

    #[test]
    fn names_and_values_are_parted_as_java_does() {
        let settings = java("a b\nc\\:d = e\\u00e4\\\\\n!no\nf");
        assert_eq!(settings["a"], "b");
        assert_eq!(settings["c:d"], "eä\\");
        assert_eq!(settings["f"], "");
    }
}
