//! One HTTP connection: hyper's machinery with our limits, driven together with its calls.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service as _, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::again::Again;
use super::exchange::{self, Answer};
use super::pace::{Pace, Phase, Timed};
use super::reply::{LostReply, ReplyBody};
use super::{Peer, Server};
use crate::rpc::budget::Share;

/// Streams that a peer opens and resets at once: CVE-2023-44487. More close the connection.
const PENDING_RESETS_MAX: usize = 20;
/// Streams that we reset because of the peer's errors: CVE-2025-8671. More close the connection.
const LOCAL_RESETS_MAX: usize = 1024;
/// Calls that end before their replies leave in one write. A peer works on the first while we work on the next; each write
/// costs as much as a call, so that a few are not worth one.
const CALLS_PER_WRITE: usize = 16;
/// Bytes of replies that wait in one stream for the peer to read.
const SEND_BUFFER_SIZE: usize = 256 * 1024;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Hands the calls of a connection to the task of the connection.
///
/// One task for both, instead of one for each call, spares a wake-up across threads and a contended
/// lock per call, lets all replies of a batch leave in one write, and ends all calls with their connection.
#[derive(Clone, Default)]
struct SameTask(Arc<Mutex<Vec<Task>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for SameTask {
    fn execute(&self, task: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(task));
    }
}

impl SameTask {
    fn take(&self, into: &mut FuturesUnordered<Task>) {
        into.extend(self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..));
    }
}

/// Serves HTTP/2 until it ends.
pub async fn serve_http2<S>(server: &Arc<Server>, stream: S, peer: Arc<Peer>, share: Arc<Share>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = server.limits();
    let tasks = SameTask::default();
    let window = server.budget.window();
    let mut connection = pin!(
        http2::Builder::new(tasks.clone())
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .initial_stream_window_size(window.stream_size())
            .initial_connection_window_size(window.size())
            .max_concurrent_streams(limits.streams_max)
            .max_header_list_size(limits.header_size_max)
            .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
            .max_local_error_reset_streams(LOCAL_RESETS_MAX)
            .max_send_buf_size(SEND_BUFFER_SIZE)
            .keep_alive_interval(limits.keepalive_interval)
            .keep_alive_timeout(limits.keepalive_wait_max)
            .serve_connection(TokioIo::new(stream), service(server, &peer, &share))
    );
    let (mut calls, again) = (FuturesUnordered::new(), Again::new());
    let mut draining = pin!(server.shutdown.draining());
    let mut stopped = pin!(server.shutdown.stopped());
    let mut idle = pin!(tokio::time::sleep(limits.idle_max.unwrap_or_default()));
    let (mut told, mut was_idle) = (false, true);
    let ended = poll_fn(|cx| {
        if stopped.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if !told && draining.as_mut().poll(cx).is_ready() {
            told = true;
            connection.as_mut().graceful_shutdown();
        }
        let polled = again.poll(cx, |cx| {
            loop {
                if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                    return Poll::Ready(ended);
                }
                tasks.take(&mut calls);
                let before = calls.len();
                for _ in 0..CALLS_PER_WRITE {
                    if !matches!(calls.poll_next_unpin(cx), Poll::Ready(Some(()))) {
                        break;
                    }
                }
                if calls.len() == before {
                    return Poll::Pending;
                }
                // Calls have ended: their replies leave now, many in one write, and not after a trip of this
                // task through the scheduler. Tokio's budget ends this loop even under a flood of requests.
            }
        });
        if polled.is_ready() {
            return polled;
        }
        if let Some(idle_max) = limits.idle_max {
            if calls.is_empty() && !was_idle {
                idle.as_mut().reset(tokio::time::Instant::now() + idle_max);
            }
            was_idle = calls.is_empty();
            if was_idle && !told && idle.as_mut().poll(cx).is_ready() {
                told = true;
                connection.as_mut().graceful_shutdown();
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    });
    report(&peer, ended.await);
}

/// Serves HTTP/1.1 until it ends.
pub async fn serve_http1<S>(server: &Arc<Server>, stream: S, peer: Arc<Peer>, share: Arc<Share>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = server.limits();
    let header_size_max = usize::try_from(limits.header_size_max).unwrap_or(usize::MAX);
    let pace = Pace::new();
    let calls = service(server, &peer, &share);
    let timed = service_fn(|request| {
        let (calling, answer) = (pace.call(), calls.call(request));
        async move { answer.await.map(|response| response.map(|body| Timed::new(body, calling))) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .header_read_timeout(None)
            // hyper's own lower bound.
            .max_buf_size(header_size_max.max(8192))
            .pipeline_flush(true)
            .serve_connection(TokioIo::new(pace.watch(stream)), timed)
    );
    let mut draining = pin!(server.shutdown.draining());
    let mut stopped = pin!(server.shutdown.stopped());
    let mut late = pin!(tokio::time::sleep(limits.first_bytes_wait_max));
    let mut told = false;
    let ended = poll_fn(|cx| {
        if stopped.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if !told && draining.as_mut().poll(cx).is_ready() {
            told = true;
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(ended);
        }
        let phase = pace.phase();
        let Some(deadline) = phase.deadline(limits.first_bytes_wait_max, limits.idle_max) else {
            return Poll::Pending;
        };
        if late.deadline() != deadline {
            late.as_mut().reset(deadline);
        }
        if late.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        if let Phase::Head(_) = phase {
            tracing::debug!(peer = peer.address, "headers were not complete in time");
        }
        Poll::Ready(Ok(()))
    });
    report(&peer, ended.await);
}

fn service(
    server: &Arc<Server>,
    peer: &Arc<Peer>,
    share: &Arc<Share>,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<ReplyBody>,
    Error = LostReply,
    Future = impl Future<Output = Answer> + Send + use<>,
> + use<> {
    let (server, peer, share) = (Arc::clone(server), Arc::clone(peer), Arc::clone(share));
    service_fn(move |request| {
        let (server, peer) = (Arc::clone(&server), Arc::clone(&peer));
        exchange::answer(server, peer, request, share.part())
    })
}

fn report(peer: &Peer, ended: hyper::Result<()>) {
    if let Err(error) = ended {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::debug!(peer = peer.address, %error, cause, "connection ended");
    }
}
