//! `--trace`: the anatomy of one call, stage by stage, on both sides.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::Invocation;
use super::body::Look;
use crate::cli::exit::{Exit, Failure};
use crate::output;
use crate::rpc::client::{CallOptions, Cause, Client, Ending};
use crate::rpc::schema::MessageType;
use crate::rpc::wire::trace::{self, Stage, Step};
use crate::rpc::{Format, Payload};

/// Columns of the client's side.
const CLIENT_WIDTH: usize = 54;
/// Bytes of a message that are shown.
const BYTES_SHOWN: usize = 16;
/// Characters of a message's fields that are shown.
const FIELDS_SHOWN: usize = 60;

/// One stage on one side.
#[derive(Serialize)]
struct Row {
    side: &'static str,
    stage: &'static str,
    at_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
}

#[derive(Serialize)]
struct View<'a> {
    method: &'a str,
    call_id: u32,
    status: &'static str,
    server_visible: bool,
    stages: Vec<Row>,
}

/// When things happened here, since the call began.
struct Times {
    serialise: Duration,
    sent: Duration,
    reply: Duration,
    decoded: Duration,
}

/// Makes the call and tells its story instead of its reply.
///
/// # Errors
/// The method streams; the call did not end well.
pub async fn run(invocation: &Invocation<'_>) -> anyhow::Result<Exit> {
    let method = &invocation.found.method;
    if method.kind.client_streams() || method.kind.server_streams() {
        let message = format!("--trace follows a unary call, but {} streams", method.path);
        return Err(Failure::new(Exit::Usage, message).into());
    }
    let mut options = CallOptions { trace: true, ..invocation.options() };
    if matches!(invocation.remote.client, Client::Compact(_) | Client::CompactDatagrams(_)) {
        options.metadata.insert(trace::NAME, HeaderValue::from_static("1"));
    }
    let start = Instant::now();
    let request = invocation.one()?;
    let serialise = start.elapsed();
    let (sent, reply) = match &invocation.remote.client {
        Client::Http(client) => {
            let receiver = client.start(&method.path, &request, &options).await;
            let sent = start.elapsed();
            match receiver {
                Ok(receiver) => (sent, receiver.unary().await),
                Err(ending) => return invocation.end(None, &ending).await,
            }
        }
        // These hand the request to a connection that is there already.
        client => (start.elapsed(), client.unary(&method.path, &request, &options).await),
    };
    if reply.ending.cause == Cause::Unreachable {
        return invocation.end(None, &reply.ending).await;
    }
    let came = start.elapsed();
    let format = invocation.format();
    let fields =
        reply.message.as_ref().map(|message| fields_of(&method.output, message, format)).unwrap_or_default();
    let times = Times { serialise, sent, reply: came, decoded: start.elapsed() };
    let steps =
        reply.ending.trailers.get(trace::NAME).and_then(|value| value.to_str().ok()).map(trace::decode);
    let story = Story {
        invocation,
        times,
        steps: steps.unwrap_or_default(),
        request: &request,
        reply: reply.message.as_ref(),
        fields,
        ending: &reply.ending,
    };
    story.tell()?;
    invocation.end(None, &reply.ending).await
}

struct Story<'a> {
    invocation: &'a Invocation<'a>,
    times: Times,
    steps: Vec<Step>,
    request: &'a Bytes,
    reply: Option<&'a Bytes>,
    fields: String,
    ending: &'a Ending,
}

impl Story<'_> {
    fn tell(&self) -> anyhow::Result<()> {
        let printer = &self.invocation.app.printer;
        let method = &self.invocation.found.method;
        if printer.look().format == output::Format::Json {
            let mut stages = self.client_rows();
            stages.extend(self.server_rows());
            stages.sort_by(|a, b| a.at_ms.total_cmp(&b.at_ms));
            let status = self.ending.status.code.name();
            let server_visible = !self.steps.is_empty();
            let view = View { method: &method.path, call_id: method.id, status, server_visible, stages };
            return Ok(printer.json(&view)?);
        }
        let mut lines = self.side_by_side();
        let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
        if let Some(room) = printer.look().out.width.map(usize::from).filter(|room| longest > *room) {
            lines = one_below_the_other(self.client_rows(), self.server_rows(), room);
        }
        lines.iter().try_for_each(|line| printer.line(line))?;
        Ok(())
    }

    /// The client on the left, the server on the right, with arrows between them.
    fn side_by_side(&self) -> Vec<String> {
        let mut lines = vec![format!("{:<CLIENT_WIDTH$}server", " client")];
        let (client, server) = (self.client_rows(), self.server_rows());
        // All times are as wide as the widest, so that what follows them stays in its column.
        let width = width_of_times(client.iter().chain(&server));
        let mut server = server.into_iter();
        let right = |row: Option<Row>| row.map(|row| text(&row, width)).unwrap_or_default();
        for (at, row) in client.iter().enumerate() {
            let left = format!(" {}", text(row, width));
            // The request's arrow leads to the first stage over there, the reply's comes from the last.
            if row.stage != "transport" {
                lines.push(left);
            } else if at < 4 {
                let opposite = if self.steps.is_empty() { self.invisible() } else { right(server.next()) };
                lines.push(format!("{}▶ {opposite}", arrow(&left, CLIENT_WIDTH - 2)));
                while server.len() > 1 {
                    lines.push(format!("{:CLIENT_WIDTH$}{}", "", right(server.next())));
                }
            } else {
                let line = format!("{} {}", arrow(&left, CLIENT_WIDTH - 1), right(server.next()));
                lines.push(line.trim_end().to_owned());
            }
        }
        lines
    }

    fn client_rows(&self) -> Vec<Row> {
        let method = &self.invocation.found.method;
        let times = &self.times;
        let row = |stage, at: Duration, bytes, detail| Row {
            side: "client",
            stage,
            at_ms: millis(at),
            bytes,
            detail,
        };
        let size = self.reply.map_or(0, Bytes::len);
        let status = self.ending.status.code.name();
        let (there, back, end) = match self.invocation.remote.client {
            Client::Http(_) => ("HEADERS, DATA", "DATA", "TRAILERS "),
            Client::Compact(_) | Client::CompactDatagrams(_) => ("CALL", "REPLY", ""),
            Client::JsonRpc(_) => ("request", "response", ""),
        };
        let request = format!(
            "{}   {}",
            hex(self.request),
            fields_of(&method.input, self.request, self.invocation.format())
        );
        let mut rows = vec![
            row("stub", Duration::ZERO, None, method.path.clone()),
            row("call id", Duration::ZERO, None, format!("{} ({:#010x})", method.id, method.id)),
            row("serialise", times.serialise, Some(self.request.len()), request.trim().to_owned()),
            row("transport", times.sent, None, format!("── {} {} B", there, self.request.len())),
            row("transport", times.reply, None, format!("◀── {back} {size} B, {end}{status}")),
        ];
        if self.reply.is_some() {
            rows.push(row("decode", times.decoded, Some(size), self.fields.clone()));
        }
        rows.push(row("return", times.decoded, None, status.to_owned()));
        rows
    }

    /// The server counts from when it had the headers. Both ways are taken to last equally long.
    fn server_rows(&self) -> Vec<Row> {
        let Some(last) = self.steps.last() else { return Vec::new() };
        let away = self.times.reply.saturating_sub(self.times.sent).saturating_sub(last.at);
        let begin = self.times.sent + away / 2;
        let path = &self.invocation.found.method.path;
        let detail = |step: &Step| match step.stage {
            Stage::Dispatch => format!("/{path}"),
            Stage::Decode => self.invocation.found.method.input.full_name().to_owned(),
            Stage::Handler => path.rsplit('/').next().unwrap_or_default().to_owned(),
            Stage::Serialise => self.invocation.found.method.output.full_name().to_owned(),
        };
        let row = |step: &Step| Row {
            side: "server",
            stage: step.stage.name(),
            at_ms: millis(begin + step.at),
            bytes: Some(step.size).filter(|size| *size > 0),
            detail: detail(step),
        };
        self.steps.iter().map(row).collect()
    }

    fn invisible(&self) -> String {
        format!("server: {:.2} ms, not visible", millis(self.times.reply.saturating_sub(self.times.sent)))
    }
}

/// For a screen that is too narrow for both: by time, each line at most as long as there is room.
fn one_below_the_other(client: Vec<Row>, server: Vec<Row>, room: usize) -> Vec<String> {
    let width = width_of_times(client.iter().chain(&server));
    let mut rows: Vec<Row> = client.into_iter().chain(server).collect();
    rows.sort_by(|a, b| a.at_ms.total_cmp(&b.at_ms));
    let line = |row: &Row| {
        let text = format!(" {}  {}", row.side, text(row, width));
        if text.chars().count() <= room {
            return text;
        }
        text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
    };
    rows.iter().map(line).collect()
}

fn width_of_times<'a>(rows: impl Iterator<Item = &'a Row>) -> usize {
    format!("{:.2}", rows.map(|row| row.at_ms).fold(0.0, f64::max)).len()
}

fn text(row: &Row, width: usize) -> String {
    let size = row.bytes.map(|bytes| format!("{bytes} B   ")).unwrap_or_default();
    format!("{:>width$.2} ms {:<10} {size}{}", row.at_ms, row.stage, row.detail).trim_end().to_owned()
}

/// The text, drawn out with a line to that many columns.
fn arrow(text: &str, width: usize) -> String {
    let used = text.chars().count() + 1;
    format!("{text} {}", "─".repeat(width.saturating_sub(used)))
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 100.0
}

fn hex(bytes: &[u8]) -> String {
    let shown: Vec<String> = bytes.iter().take(BYTES_SHOWN).map(|byte| format!("{byte:02x}")).collect();
    let more = if bytes.len() > BYTES_SHOWN { " …" } else { "" };
    format!("{}{more}", shown.join(" "))
}

/// The fields of a message with their numbers: `name(1)="Ada"`.
fn fields_of(kind: &MessageType, message: &Bytes, format: Format) -> String {
    let payload = Payload { format, bytes: message.clone() };
    let json = kind.convert(&payload, Format::Json).unwrap_or_default();
    let text = match (Look::of(kind), serde_json::from_slice(&json)) {
        (Look::Json, Ok(Value::Object(fields))) => {
            let field = |(name, value): (String, Value)| {
                let number = kind.descriptor().fields().iter().find(|field| field.json_name() == name);
                number.map_or_else(
                    || format!("{name}={value}"),
                    |field| format!("{}({})={value}", field.name(), field.number()),
                )
            };
            fields.into_iter().map(field).collect::<Vec<_>>().join(" ")
        }
        (_, Ok(value)) => format!("value(1)={value}"),
        (_, Err(_)) => String::new(),
    };
    if text.chars().count() <= FIELDS_SHOWN {
        return text;
    }
    text.chars().take(FIELDS_SHOWN).chain(['…']).collect()
}
