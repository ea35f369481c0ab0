//! A client of Consul's HTTP API: find, watch, register, renew, deregister.

use std::path::Path;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::url::{ConsulUrl, authority};
use super::{Error, Instance, Registration};
use crate::transport::tls::for_http;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a blocking query is held. Consul adds up to a sixteenth of it.
const WAIT: Duration = Duration::from_secs(60);
/// An entry that was not renewed for this long is critical: what is left after `kill -9`. The URL may say otherwise.
const TTL: Duration = Duration::from_secs(15);
/// Consul takes nothing shorter than a minute here.
const DEREGISTER_AFTER: &str = "1m";
/// Ten thousand instances with their checks.
const ANSWER_SIZE_MAX: usize = 16 * 1024 * 1024;
/// An error page is shown up to here.
const WHY_SIZE_MAX: usize = 200;

/// One agent, and the service the URL names.
#[derive(Debug)]
pub struct Consul {
    url: ConsulUrl,
    client: Client,
}

/// What a query found.
#[derive(Debug)]
pub(super) struct Found {
    /// For the next blocking query.
    pub index: u64,
    pub service: String,
    pub instances: Vec<Instance>,
    pub unhealthy: usize,
}

/// How a renewal went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    Renewed,
    /// The agent does not know the entry, or no longer.
    Forgotten,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthEntry {
    node: Node,
    service: Service,
    #[serde(default)]
    checks: Vec<Check>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(default)]
    node: String,
    #[serde(default)]
    address: String,
}

#[derive(Deserialize)]
struct Service {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Service")]
    name: String,
    #[serde(rename = "Address", default)]
    address: String,
    #[serde(rename = "Port")]
    port: u16,
    #[serde(rename = "Tags", default)]
    tags: Option<Vec<String>>,
    #[serde(rename = "Meta", default)]
    meta: Option<std::collections::HashMap<String, String>>,
    #[serde(rename = "Weights", default)]
    weights: Option<Weights>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    #[serde(default)]
    passing: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    #[serde(default)]
    status: String,
}

/// The healthy instances in the body of `/v1/health/service/NAME`, and how many others there are. Instances that do
/// not say what they speak speak `scheme`.
///
/// # Errors
/// What is wrong with the body.
pub fn parse(body: &[u8], scheme: &str) -> Result<(Vec<Instance>, usize), String> {
    let entries: Vec<HealthEntry> = serde_json::from_slice(body)
        .map_err(|error| format!("{error} in {}", excerpt(&String::from_utf8_lossy(body))))?;
    let known = entries.len();
    let passing = entries.into_iter().filter(passes).map(|entry| instance(entry, scheme));
    let instances: Vec<Instance> = passing.collect();
    let unhealthy = known - instances.len();
    Ok((instances, unhealthy))
}

fn instance(entry: HealthEntry, scheme: &str) -> Instance {
    let HealthEntry { node, service, .. } = entry;
    let host = if service.address.is_empty() { node.address } else { service.address };
    let own = service.meta.as_ref().and_then(|meta| meta.get("scheme"));
    let scheme = own.map_or(scheme, String::as_str);
    let url = format!("{scheme}://{}", authority(&host, service.port));
    let weight = service.weights.map_or(1, |weights| weights.passing);
    Instance {
        weight: u16::try_from(weight.clamp(1, 65535)).unwrap_or(1),
        tags: service.tags.unwrap_or_default(),
        // A service id is unique on its node only.
        ..Instance::new(format!("{}/{}", node.node, service.id), service.name, url)
    }
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

impl Consul {
    /// Prepares to ask; connects to nothing yet.
    ///
    /// # Errors
    /// An unreadable token or certificate file.
    pub fn new(url: &ConsulUrl) -> Result<Self, Error> {
        let mut headers = HeaderMap::new();
        if let Some(file) = &url.token_file {
            headers.insert(HeaderName::from_static("x-consul-token"), token(file)?);
        }
        let tls = for_http(url.cacert.as_deref(), url.tls)?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            // The environment is read by nobody below the command line, HTTP_PROXY included.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .default_headers(headers)
            .build()
            .map_err(|error| Error::Unreachable { registry: url.to_string(), why: reason(&error) })?;
        Ok(Self { url: url.clone(), client })
    }

    fn ttl(&self) -> Duration {
        self.url.ttl.unwrap_or(TTL)
    }

    /// How often an entry is renewed: two renewals may be lost.
    pub(super) fn renew_every(&self) -> Duration {
        self.ttl() / 3
    }

    /// The service to ask for: the one in the URL, else the one of the called method.
    pub(super) fn service<'a>(&'a self, called: Option<&'a str>) -> Result<&'a str, Error> {
        self.url
            .service
            .as_deref()
            .or(called)
            .filter(|service| !service.is_empty())
            .ok_or_else(|| Error::NoService { registry: self.url.to_string() })
    }

    pub(super) async fn resolve(&self, called: Option<&str>) -> Result<Vec<Instance>, Error> {
        let found = self.query(self.service(called)?, 0).await?;
        self.healthy(found)
    }

    /// The instances found; it is an error if there are none.
    pub(super) fn healthy(&self, found: Found) -> Result<Vec<Instance>, Error> {
        if found.instances.is_empty() {
            return Err(Error::NotFound {
                service: found.service,
                registry: self.url.to_string(),
                unhealthy: found.unhealthy,
            });
        }
        Ok(found.instances)
    }

    /// Asks for a service; with an index over 0 the answer comes when something changed since, or
    /// after a minute.
    pub(super) async fn query(&self, service: &str, index: u64) -> Result<Found, Error> {
        let mut path = format!("/v1/health/service/{}?", encode(service));
        for (name, value) in [("tag", &self.url.tag), ("dc", &self.url.datacenter)] {
            if let Some(value) = value {
                path.push_str(&format!("{name}={}&", encode(value)));
            }
        }
        let mut patience = ANSWER_TIMEOUT;
        if index > 0 {
            path.push_str(&format!("index={index}&wait={}s", WAIT.as_secs()));
            patience += WAIT + WAIT / 16;
        }
        let response = self.send(Method::GET, &path, None, patience).await?;
        let response = self.accepted(response).await?;
        let next = response.headers().get("x-consul-index").and_then(|value| value.to_str().ok());
        let next: u64 = next.and_then(|value| value.parse().ok()).unwrap_or(0);
        let body = self.body(response, patience).await?;
        let (instances, unhealthy) = parse(&body, &self.url.scheme).map_err(|why| self.strange(why))?;
        // Consul's documentation: an index that goes backwards starts again from 0.
        let index = if next < index { 0 } else { next };
        Ok(Found { index, service: service.to_owned(), unhealthy, instances })
    }

    /// Registers, or registers anew: the same service at the same address replaces itself.
    /// Returns the entry's id.
    pub(super) async fn register(&self, registration: &Registration) -> Result<String, Error> {
        let (scheme, host, port) = address(&registration.url)?;
        let id = format!("{}@{}", registration.service, authority(&host, port));
        let body = json!({
            "ID": id,
            "Name": registration.service,
            "Tags": registration.tags,
            "Address": host,
            "Port": port,
            "Meta": {"scheme": scheme},
            "Check": {
                "TTL": format!("{}ms", self.ttl().as_millis()),
                "Status": "passing",
                "DeregisterCriticalServiceAfter": DEREGISTER_AFTER,
            },
        });
        let response = self
            .send(
                Method::PUT,
                "/v1/agent/service/register?replace-existing-checks=true",
                Some(body),
                ANSWER_TIMEOUT,
            )
            .await?;
        self.accepted(response).await?;
        Ok(id)
    }

    pub(super) async fn renew(&self, id: &str) -> Result<Renewal, Error> {
        let path = format!("/v1/agent/check/pass/{}", encode(&format!("service:{id}")));
        let response = self.send(Method::PUT, &path, None, ANSWER_TIMEOUT).await?;
        match response.status() {
            // Agents before 1.11 say 500 where later ones say 404.
            StatusCode::NOT_FOUND | StatusCode::INTERNAL_SERVER_ERROR => Ok(Renewal::Forgotten),
            _ => self.accepted(response).await.map(|_| Renewal::Renewed),
        }
    }

    pub(super) async fn deregister(&self, id: &str) -> Result<(), Error> {
        let path = format!("/v1/agent/service/deregister/{}", encode(id));
        let response = self.send(Method::PUT, &path, None, ANSWER_TIMEOUT).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(()),
            _ => self.accepted(response).await.map(drop),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
        patience: Duration,
    ) -> Result<Response, Error> {
        let scheme = if self.url.tls { "https" } else { "http" };
        let url = format!("{scheme}://{}{path}", self.url.authority);
        let mut request = self.client.request(method, url).timeout(patience);
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await.map_err(|error| self.unreachable(&error, patience))
    }

    /// The response if it is a success; else the error that its status and text say.
    async fn accepted(&self, response: Response) -> Result<Response, Error> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self.body(response, ANSWER_TIMEOUT).await.unwrap_or_default();
        let said = excerpt(String::from_utf8_lossy(&body).trim());
        let why = if said.is_empty() { status.to_string() } else { format!("{}: {said}", status.as_u16()) };
        Err(match status.as_u16() {
            401 | 403 => Error::Denied { registry: self.url.to_string(), why },
            500.. => Error::Unreachable { registry: self.url.to_string(), why },
            _ => self.strange(why),
        })
    }

    async fn body(&self, mut response: Response, patience: Duration) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error, patience))? {
            if body.len() + chunk.len() > ANSWER_SIZE_MAX {
                return Err(self.strange(format!("more than {ANSWER_SIZE_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn unreachable(&self, error: &reqwest::Error, patience: Duration) -> Error {
        let why = if error.is_timeout() && !error.is_connect() {
            format!("no answer within {} s", patience.as_secs())
        } else {
            reason(error)
        };
        Error::Unreachable { registry: self.url.to_string(), why }
    }

    fn strange(&self, why: String) -> Error {
        Error::Answer { registry: self.url.to_string(), why }
    }
}

fn passes(entry: &HealthEntry) -> bool {
    entry.checks.iter().all(|check| check.status == "passing")
}

/// The innermost cause: reqwest's own words are only the URL again.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn excerpt(text: &str) -> String {
    let end = text.char_indices().nth(WHY_SIZE_MAX).map_or(text.len(), |(end, _)| end);
    text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn address(url: &str) -> Result<(String, String, u16), Error> {
    let no = || Error::Unsupported(format!("cannot register {url} with Consul: it needs HOST:PORT"));
    let (scheme, place) = url.split_once("://").ok_or_else(no)?;
    let (host, port) = place.trim_end_matches('/').rsplit_once(':').ok_or_else(no)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = port.parse().map_err(|_| no())?;
    if host.is_empty() || host.contains('/') {
        return Err(no());
    }
    Ok((scheme.to_owned(), host.to_owned(), port))
}

fn token(path: &Path) -> Result<HeaderValue, Error> {
    let failed = |source| Error::File { what: "read", path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let line = text.lines().next().unwrap_or_default().trim();
    let invalid =
        |_| failed(std::io::Error::new(std::io::ErrorKind::InvalidData, "its first line is no token"));
    let mut value = HeaderValue::from_str(line).map_err(invalid)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::{Registry, RegistryUrl, Server, Watch};
    use super::*;
    use crate::secret::Secret;
    use crate::shutdown::Shutdown;
    use crate::transport::{Acceptor, Address, Listener};

    async fn listen() -> (Listener, String) {
        let listener = Listener::bind(&Address::tcp("127.0.0.1", 0)).await.unwrap();
        let url = format!("consul://{}", listener.address().unwrap());
        (listener, url)
    }

    async fn start(token: Option<Secret>) -> (Server, String, Shutdown) {
        let (listener, url) = listen().await;
        let (server, shutdown) = (Server::new("node", "127.0.0.1", token), Shutdown::new());
        let (accepting, stop) = (server.clone(), shutdown.clone());
        shutdown.spawn(Acceptor::default().run(listener, shutdown.clone(), move |stream| {
            let (server, stop) = (accepting.clone(), stop.clone());
            async move { server.serve_connection(stream, &stop).await }
        }));
        (server, url, shutdown)
    }

    /// Answers every connection with the same bytes.
    async fn fake(answer: &'static [u8]) -> (String, Shutdown) {
        let (listener, url) = listen().await;
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        shutdown.spawn(async move {
            let mut open = Vec::new();
            loop {
                let mut stream = tokio::select! {
                    () = stop.draining() => return,
                    stream = listener.accept() => stream.unwrap(),
                };
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer).await;
                open.push(stream);
            }
        });
        (url, shutdown)
    }

    fn open(url: &str) -> Registry {
        let url: RegistryUrl = url.parse().unwrap();
        Registry::open(&url, Path::new("/nonexistent")).unwrap()
    }

    fn registration(port: u16) -> Registration {
        Registration {
            service: "demo.Greeter".to_owned(),
            url: format!("grpc://10.0.0.1:{port}"),
            tags: vec!["v1".to_owned()],
            methods: Vec::new(),
        }
    }

    async fn resolve(url: &str) -> Result<Vec<Instance>, Error> {
        open(url).resolve(Some("demo.Greeter")).await
    }

    fn urls(instances: &[Instance]) -> Vec<&str> {
        instances.iter().map(|instance| instance.url.as_str()).collect()
    }

    #[tokio::test]
    async fn a_registered_server_is_found_until_it_stops() {
        let (_server, url, registry_life) = start(None).await;
        assert!(matches!(resolve(&url).await, Err(Error::NotFound { unhealthy: 0, .. })));
        let (one, two) = (Shutdown::new(), Shutdown::new());
        let _first = open(&url).register(registration(1), &one).await.unwrap();
        let second = open(&url).register(registration(2), &two).await.unwrap();
        let found = resolve(&format!("{url}?tag=v1")).await.unwrap();
        assert_eq!(urls(&found), ["grpc://10.0.0.1:1", "grpc://10.0.0.1:2"]);
        assert!(resolve(&format!("{url}?tag=v2")).await.is_err());
        assert!(one.finish(Duration::from_secs(5)).await);
        assert_eq!(urls(&resolve(&url).await.unwrap()), ["grpc://10.0.0.1:2"]);
        drop(second);
        assert!(two.finish(Duration::from_secs(5)).await, "a dropped lease deregisters too");
        assert!(resolve(&url).await.is_err());
        assert!(registry_life.finish(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn a_watch_tells_of_changes_as_they_happen() {
        let (_server, url, registry_life) = start(None).await;
        let life = Shutdown::new();
        let mut watch = Watch::new(open(&url), Some("demo.Greeter".to_owned()));
        assert_eq!(watch.changed().await.unwrap(), []);
        let lease = open(&url).register(registration(1), &life).await.unwrap();
        assert_eq!(urls(&watch.changed().await.unwrap()), ["grpc://10.0.0.1:1"]);
        lease.update(registration(2));
        // The new entry comes before the former goes, so both may be seen for a moment.
        let mut seen = watch.changed().await.unwrap();
        while urls(&seen) != ["grpc://10.0.0.1:2"] {
            seen = watch.changed().await.unwrap();
        }
        assert!(life.finish(Duration::from_secs(5)).await);
        assert_eq!(watch.changed().await.unwrap(), []);
        assert!(
            registry_life.finish(Duration::from_secs(5)).await,
            "a waiting query does not hold up the end"
        );
    }

    #[tokio::test]
    async fn an_agent_that_forgot_is_told_again() {
        let (server, url, _life) = start(None).await;
        let RegistryUrl::Consul(parsed) = url.parse().unwrap() else { panic!("not consul") };
        let consul = Consul::new(&parsed).unwrap();
        let id = consul.register(&registration(1)).await.unwrap();
        assert_eq!(consul.renew(&id).await.unwrap(), Renewal::Renewed);
        consul.deregister(&id).await.unwrap();
        assert_eq!(consul.renew(&id).await.unwrap(), Renewal::Forgotten);
        consul.deregister(&id).await.unwrap();
        drop(server);
    }

    #[tokio::test]
    async fn a_token_is_read_from_a_file_and_its_lack_is_denied() {
        let (_server, url, _life) = start(Some(Secret::new("s3cret"))).await;
        let denied = resolve(&url).await.unwrap_err();
        assert!(matches!(&denied, Error::Denied { why, .. } if why.starts_with("403")), "{denied}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\n").unwrap();
        let with_token = format!("{url}?token-file={}", file.path().display());
        assert!(matches!(resolve(&with_token).await, Err(Error::NotFound { .. })));
    }

    #[tokio::test]
    async fn an_agent_that_is_down_is_unreachable() {
        let (listener, url) = listen().await;
        drop(listener);
        let error = resolve(&url).await.unwrap_err();
        assert!(matches!(&error, Error::Unreachable { .. }), "{error}");
        assert_eq!(
            error.to_string(),
            format!("cannot reach the registry {url}: Connection refused (os error 111)")
        );
    }

    #[tokio::test]
    async fn strange_answers_are_named() {
        for (answer, expected) in [
            (&b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"a\": nul"[..], "something else than expected"),
            (
                b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n[{\"Node\": 42}]",
                "something else than expected",
            ),
            (b"HTTP/1.1 500 No\r\ncontent-length: 17\r\n\r\nNo cluster leader", "500: No cluster leader"),
            (
                b"HTTP/1.1 403 No\r\ncontent-length: 17\r\n\r\nPermission denied",
                "refused: 403: Permission denied",
            ),
            (b"HTTP/1.1 301 Go\r\nlocation: /ui\r\ncontent-length: 0\r\n\r\n", "301"),
            (b"\x16\x03\x01 this is not HTTP\r\n\r\n", "cannot reach"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n[]", "no answer within"),
        ] {
            let (url, _life) = fake(answer).await;
            let started = Instant::now();
            let error = resolve(&url).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(started.elapsed() < ANSWER_TIMEOUT + Duration::from_secs(5));
        }
    }

    #[tokio::test]
    async fn only_host_and_port_can_be_registered() {
        let life = Shutdown::new();
        let unix = Registration { url: "unix:/run/a".to_owned(), ..registration(1) };
        let error = open("consul:").register(unix, &life).await.unwrap_err();
        assert!(matches!(error, Error::Unsupported(_)), "{error}");
        for url in ["list:a:1", "dns:localhost:1"] {
            assert!(matches!(open(url).register(registration(1), &life).await, Err(Error::Unsupported(_))));
        }
    }

    #[tokio::test]
    async fn a_call_without_a_service_asks_for_one() {
        let error = open("consul://h").resolve(None).await.unwrap_err();
        assert!(matches!(error, Error::NoService { .. }), "{error}");
    }
}
