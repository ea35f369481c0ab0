//! A command per event: what it finds in its environment, Serf's variables and ours, and what its stdout is for.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::envelope;
use crate::exec::{Prints, Process, Program, variables};
use crate::gossip::wire::ipc::StreamRecord;
use crate::shutdown::Shutdown;

/// Longest answer that is read of a handler; a query takes less.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// How long a handler may take.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(60);

/// A user's command, and who this node is.
#[derive(Clone, Debug)]
pub struct Handler {
    /// What is run.
    pub program: Arc<Program>,
    /// The node's name.
    pub name: String,
    /// Its tags.
    pub tags: Vec<(String, String)>,
    /// What runs ends with it.
    pub shutdown: Shutdown,
}

/// How a command ended.
#[derive(Debug)]
pub struct Handled {
    /// Of a query: what it printed, if it ended well.
    pub answer: Option<Bytes>,
    /// In what way it did not end well, and for what.
    pub failure: Option<String>,
}

impl Handler {
    /// Runs the command for what happened.
    ///
    /// # Errors
    /// It could not be run, or took too long.
    pub async fn run(&self, record: &StreamRecord) -> std::io::Result<Handled> {
        let query = record.event == "query";
        let prints = if query { Prints::StdoutToUs } else { Prints::Through };
        let environment = self.environment(record).into_iter().map(|(name, value)| (name, Some(value)));
        let mut process = Process::start(&self.program, environment, prints, &self.shutdown)?;
        let run = async {
            if let Some(mut stdin) = process.stdin.take() {
                // A command that does not read is no failure.
                let _ = stdin.write_all(&input(record)).await;
            }
            let mut answer = Vec::new();
            if let Some(stdout) = process.stdout.take() {
                stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
            }
            let status = process.wait().await?;
            let answer = (query && status.success() && !answer.is_empty()).then(|| answer.into());
            let failure = (!status.success()).then(|| self.failure(record, status));
            std::io::Result::Ok(Handled { answer, failure })
        };
        match tokio::time::timeout(HANDLER_TIMEOUT, run).await {
            Ok(answer) => answer,
            Err(_) => {
                process.end().await;
                Err(std::io::Error::other(format!("it took longer than {HANDLER_TIMEOUT:?}")))
            }
        }
    }

    fn failure(&self, record: &StreamRecord, status: std::process::ExitStatus) -> String {
        let command = self.program.argv().first().map(|word| word.to_string_lossy()).unwrap_or_default();
        let about = [record.event.as_str(), record.name.as_str()].join(" ");
        format!("{command}, for {}: {status}", about.trim_end())
    }

    /// Serf's variables, and those of every command that bandy runs for a record.
    fn environment(&self, record: &StreamRecord) -> Vec<(OsString, OsString)> {
        let mut all: Vec<(OsString, OsString)> = vec![
            ("SERF_EVENT".into(), record.event.clone().into()),
            ("SERF_SELF_NAME".into(), self.name.clone().into()),
        ];
        // Serf 0.9 has it, empty without such a tag.
        let role = self.tags.iter().find(|(tag, _)| tag == "role").map(|(_, role)| role.clone());
        all.push(("SERF_SELF_ROLE".into(), role.unwrap_or_default().into()));
        let mut add = |name: &str, value: &str| all.push((name.into(), value.into()));
        for (tag, value) in &self.tags {
            let tag: String = tag
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
                .collect();
            add(&format!("SERF_TAG_{tag}"), value);
        }
        match record.event.as_str() {
            "user" => {
                add("SERF_USER_EVENT", &record.name);
                add("SERF_USER_LTIME", &record.ltime.to_string());
            }
            "query" => {
                add("SERF_QUERY_NAME", &record.name);
                add("SERF_QUERY_LTIME", &record.ltime.to_string());
            }
            _ => {}
        }
        let of = envelope::records(record, jiff::Timestamp::now().as_millisecond());
        all.extend(of.first().map(variables).unwrap_or_default());
        all.retain(|(name, value)| ![name, value].iter().any(|text| text.as_encoded_bytes().contains(&0)));
        all
    }
}

/// What it reads: the payload and a newline, or a line for each member: name, address, role, tags. Serf, invoke.go.
fn input(record: &StreamRecord) -> Vec<u8> {
    if record.members.is_empty() {
        let mut payload = record.payload.clone().unwrap_or_default().to_vec();
        if !payload.is_empty() && record.event != "data" && !payload.ends_with(b"\n") {
            payload.push(b'\n');
        }
        return payload;
    }
    let clean = |text: &str| text.replace('\t', "\\t").replace('\n', "\\n");
    let mut lines = String::new();
    for member in &record.members {
        let address = member.address.map_or_else(String::new, |address| address.ip().to_string());
        let role = member.tags.get("role").map_or("", String::as_str);
        let tags: Vec<String> = member.tags.iter().map(|(tag, value)| format!("{tag}={value}")).collect();
        let fields = [clean(&member.name), address, clean(role), clean(&tags.join(","))];
        lines.push_str(&fields.join("\t"));
        lines.push('\n');
    }
    lines.into_bytes()
}
