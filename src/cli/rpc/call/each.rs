//! `--each`: a unary call for each line of standard input, many at a time on one connection.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use super::Invocation;
use super::input::Lines;
use crate::cli::exit::{Exit, Failure};
use crate::cli::rpc::fleet::Member;
use crate::rpc::client::UnaryReply;

/// What became of a line.
enum Outcome {
    /// A reply, shown.
    Done,
    /// A failure, counted; the first is told.
    Failed(Option<Failure>),
}

/// Makes the calls.
///
/// # Errors
/// Usage: the method streams. Standard input cannot be read, or the output not be written.
pub async fn run(invocation: &Invocation<'_>) -> anyhow::Result<Exit> {
    let method = &invocation.found.method;
    if method.kind.client_streams() || method.kind.server_streams() {
        let message = format!("--each makes unary calls, but {} streams", method.path);
        return Err(Failure::new(Exit::Usage, message).into());
    }
    let lines = Lines::stdin(&method.input, invocation.format());
    let jobs = usize::from(invocation.args.jobs);
    let calls = stream::unfold(lines, |mut lines| async {
        let line = lines.next().await.transpose()?;
        Some((line, lines))
    })
    .map(|line| async move {
        let line = line?;
        let message = match line.encode(&method.input, invocation.format()) {
            Ok(message) => message,
            Err(failure) => return Ok((line.number, Err(failure))),
        };
        let started = Instant::now();
        let (reply, member) = invocation.attempt(&message).await;
        anyhow::Ok((line.number, Ok(Answer { reply, member, elapsed: started.elapsed() })))
    });
    if invocation.args.unordered {
        collect(invocation, std::pin::pin!(calls.buffer_unordered(jobs))).await
    } else {
        collect(invocation, std::pin::pin!(calls.buffered(jobs))).await
    }
}

/// What came for a line, and from whom.
struct Answer {
    reply: UnaryReply,
    member: Option<Arc<Member>>,
    elapsed: Duration,
}

type Reply = (u64, Result<Answer, Failure>);

async fn collect(
    invocation: &Invocation<'_>,
    mut replies: impl stream::Stream<Item = anyhow::Result<Reply>> + Unpin,
) -> anyhow::Result<Exit> {
    let (mut done, mut failed) = (0u64, 0u64);
    let mut first: Option<Failure> = None;
    while let Some(reply) = replies.next().await {
        let (number, reply) = reply?;
        match show(invocation, number, reply, first.is_none()).await? {
            Outcome::Done => done += 1,
            Outcome::Failed(failure) => {
                failed += 1;
                first = first.or(failure);
            }
        }
        if invocation.args.count.is_some_and(|count| done >= count) {
            break;
        }
    }
    match first {
        None => Ok(Exit::Done),
        Some(failure) if done == 0 && failed == 1 => Err(failure.into()),
        Some(failure) => {
            let message = format!("{failed} of {} calls failed, first at {}", done + failed, failure.message);
            Err(Failure { exit: Exit::Partly, message, ..failure }.into())
        }
    }
}

async fn show(
    invocation: &Invocation<'_>,
    number: u64,
    reply: Result<Answer, Failure>,
    is_first_failure: bool,
) -> anyhow::Result<Outcome> {
    let Answer { reply, member, elapsed } = match reply {
        Ok(answer) => answer,
        Err(failure) => return Ok(Outcome::Failed(Some(failure))),
    };
    invocation.show.each(&reply, elapsed)?;
    if reply.ending.status.is_ok() {
        return Ok(Outcome::Done);
    }
    if !is_first_failure {
        return Ok(Outcome::Failed(None));
    }
    let mut failure = invocation.remote.explain(member.as_deref(), invocation.path(), &reply.ending).await;
    failure.message = format!("line {number}: {}", failure.message);
    Ok(Outcome::Failed(Some(failure)))
}
