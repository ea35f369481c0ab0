//! What happens at the node of `gossip join`: lines, and the user's command for each.

use std::ffi::OsString;
use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::Args;
use crate::cli::app::App;
use crate::cli::gossip::coalesce::Coalescer;
use crate::cli::gossip::envelope::{self, Values};
use crate::cli::gossip::handler::Handler;
use crate::cli::gossip::watch::{cannot_run, too_fast};
use crate::cli::serve::Harness;
use crate::exec::Program;
use crate::gossip::agent::Agent;
use crate::gossip::agent::ipc::{self, Kinds};
use crate::gossip::engine::{Event, Input, QueryId};
use crate::gossip::wire::ipc::StreamRecord;
use crate::shutdown::Shutdown;
use crate::wait::until;

/// Handlers that run at a time.
const HANDLERS_MAX: usize = 16;

/// Who the node is, to its handlers.
pub struct Own {
    /// Its name.
    pub name: String,
    /// Its tags.
    pub tags: Vec<(String, String)>,
}

/// Whom to tell.
struct Teller {
    /// A printer of its own, which lives as long as the task.
    printing: App,
    silent: bool,
    handler: Option<Handler>,
    running: Arc<Semaphore>,
    agent: Agent,
    shutdown: Shutdown,
}

/// Prints what happens once the URLs have been printed, and runs the user's command for it.
pub fn start(
    args: &Args,
    app: &App,
    agent: &Agent,
    harness: &Harness,
    mut ready: watch::Receiver<bool>,
    own: Own,
) {
    let path = app.environment.get("PATH").map(OsString::from);
    let program = Program::from_words(args.command.clone(), path.as_deref());
    let shutdown = harness.shutdown.clone();
    let handler = program.map(|program| Handler {
        program: Arc::new(program),
        name: own.name.clone(),
        tags: own.tags,
        shutdown: shutdown.clone(),
    });
    let Ok(printing) = App::new(&app.global) else { return };
    let silent = args.server.detached || args.quiet_events || args.top.top;
    let mut events = agent.watch();
    let running = Arc::new(Semaphore::new(HANDLERS_MAX));
    let teller = Teller { printing, silent, handler, running, agent: agent.clone(), shutdown };
    let mut coalescer = args.coalesce.map(Coalescer::new);
    harness.shutdown.spawn(async move {
        if ready.wait_for(|ready| *ready).await.is_err() {
            return;
        }
        let kinds = Kinds::parse("*,bandy");
        loop {
            let deadline = coalescer.as_ref().and_then(Coalescer::deadline);
            let event = tokio::select! {
                biased;
                event = events.recv() => event,
                () = until(deadline) => {
                    for record in coalescer.iter_mut().flat_map(|waiting| waiting.due(Instant::now())) {
                        teller.tell(record, None).await;
                    }
                    continue;
                }
                // Displaced, it does not leave in order.
                () = teller.agent.gone() => break,
            };
            let event = match event {
                Ok(event) => event,
                Err(RecvError::Lagged(_)) if silent => continue,
                Err(RecvError::Lagged(missed)) => {
                    teller.printing.printer.warn(&too_fast(missed));
                    continue;
                }
                Err(RecvError::Closed) => break,
            };
            if *event == Event::Left {
                break;
            }
            let Some(record) = ipc::record(&event, &kinds) else { continue };
            let query = match &*event {
                Event::Query { query, .. } => Some(*query),
                _ => None,
            };
            let now = match &mut coalescer {
                None => Some(record),
                Some(waiting) => waiting.take(Instant::now(), record),
            };
            if let Some(record) = now {
                teller.tell(record, query).await;
            }
        }
        for record in coalescer.iter_mut().flat_map(Coalescer::rest) {
            teller.tell(record, None).await;
        }
    });
}

impl Teller {
    async fn tell(&self, record: StreamRecord, query: Option<QueryId>) {
        let printer = &self.printing.printer;
        let now = jiff::Timestamp::now().as_millisecond();
        if !self.silent && envelope::write(&self.printing, &record, now, Values::Begun).is_err() {
            // Whoever read it has left: the node stays.
            tracing::debug!("nobody reads the events any more");
        }
        let _ = printer.flush();
        let Some(handler) = self.handler.clone() else { return };
        let Ok(permit) = self.running.clone().acquire_owned().await else { return };
        let agent = self.agent.clone();
        self.shutdown.spawn(async move {
            let _permit = permit;
            let handled = match handler.run(&record).await {
                Ok(handled) => handled,
                Err(error) => return tracing::warn!("{}", cannot_run(&handler, &error)),
            };
            if let Some(failure) = handled.failure {
                tracing::warn!("{failure}");
            }
            if let (Some(payload), Some(query)) = (handled.answer, query) {
                let input = Input::Respond { query, payload };
                if let Ok(Err(refusal)) = agent.with(move |core| core.input(input)).await {
                    tracing::warn!("the handler's answer is not sent: {refusal}");
                }
            }
        });
    }
}
