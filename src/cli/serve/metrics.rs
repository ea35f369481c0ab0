//! `--metrics ADDR`: the numbers as a page for Prometheus, and `/healthz` for everybody else.

use ::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;

use crate::metrics::{Kind, Registry};
use crate::shutdown::{Phase, Shutdown};
use crate::transport::{Acceptor, Address, Error, Listener, http};

/// Scrapers at the same time: a person and two Prometheus servers are three.
const CONNECTIONS_MAX: usize = 64;

/// Serves the page until the server stops; returns where.
pub async fn serve(address: &Address, registry: Registry, shutdown: &Shutdown) -> Result<Address, Error> {
    let listener = Listener::bind(address).await?;
    let bound = listener.address().map_err(|source| Error::Listen { address: address.clone(), source })?;
    let phase = shutdown.clone();
    let accepting = Acceptor::new(CONNECTIONS_MAX).run(listener, shutdown.clone(), move |stream| {
        let (registry, shutdown) = (registry.clone(), phase.clone());
        async move {
            let answer = |request| std::future::ready(answer(&request, &registry, shutdown.phase()));
            http::serve(stream, &shutdown, answer).await;
        }
    });
    shutdown.spawn(accepting);
    Ok(bound)
}

fn answer(request: &Request<Incoming>, registry: &Registry, phase: Phase) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let is_question = matches!(*request.method(), Method::GET | Method::HEAD);
    let page = is_question.then(|| registry.at(path)).flatten();
    let (status, kind, text) = match (request.method(), path) {
        _ if page.is_some() => {
            (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", page.unwrap_or_default())
        }
        (&Method::GET | &Method::HEAD, "/healthz") => match phase {
            Phase::Running => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
            Phase::Draining | Phase::Stopped => {
                (StatusCode::SERVICE_UNAVAILABLE, "text/plain", "stopping\n".to_owned())
            }
        },
        (&Method::GET | &Method::HEAD, _) => {
            let paths = registry.paths().join(", ");
            (StatusCode::NOT_FOUND, "text/plain", format!("here are {paths} and /healthz\n"))
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// What every server tells about itself: its process and its door.
pub fn register(registry: &Registry, acceptor: &Acceptor) {
    let start = jiff::Timestamp::now().as_second() as f64;
    registry.ask(Kind::Gauge, "process_start_time_seconds", "When the process started.", move || start);
    registry.ask(Kind::Gauge, "process_resident_memory_bytes", "Memory in use.", || {
        resident_bytes().unwrap_or(0) as f64
    });
    registry.ask(Kind::Gauge, "process_open_fds", "Open file descriptors.", || open_descriptors() as f64);
    let door = |ask: fn(crate::transport::accept::Door) -> u64| {
        let acceptor = acceptor.clone();
        move || ask(acceptor.door()) as f64
    };
    registry.ask(Kind::Gauge, "bandy_connections", "Connections now.", door(|door| door.open as u64));
    registry.ask(
        Kind::Gauge,
        "bandy_connections_max",
        "Connections that may be at the same time.",
        door(|door| door.open_max as u64),
    );
    registry.ask(
        Kind::Counter,
        "bandy_connections_total",
        "Connections since the start.",
        door(|door| door.accepted),
    );
    registry.ask(
        Kind::Counter,
        "bandy_handshakes_failed_total",
        "Connections that ended in TLS or said nothing.",
        door(|door| door.failed),
    );
    registry.ask(
        Kind::Counter,
        "bandy_accept_starved_total",
        "How often there was no descriptor for a connection.",
        door(|door| door.starved),
    );
}

/// Descriptors of this process that are open.
pub fn open_descriptors() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as u64
}

/// Memory of this process that is in RAM: the second number of /proc/self/statm is in pages.
pub fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
