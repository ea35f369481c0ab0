//! `rpc serve --init DIR`: a handler to start from for every method of a schema.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;

use crate::cli::app::App;
use crate::cli::exit::{Exit, Failure};
use crate::rpc::handler::Offer;
use crate::rpc::{Kind, Method};

/// Writes the files that are not there yet.
///
/// # Errors
/// No schema, or a directory that cannot be written.
pub fn run(directory: &Path, offer: &Offer, app: &App) -> anyhow::Result<Exit> {
    let schema = offer.schema()?;
    let methods: Vec<Method> = schema.methods().collect();
    if methods.is_empty() {
        let failure = Failure::new(Exit::Usage, "the schema has no methods to write handlers for");
        return Err(failure.tip("bandy rpc serve --init DIR --proto api.proto").into());
    }
    let mut written = 0;
    for method in &methods {
        let folder = directory.join(method.service());
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join(format!("{}.sh", method.name()));
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&path);
        match file {
            Ok(mut file) => {
                file.write_all(skeleton(method).as_bytes())
                    .with_context(|| format!("cannot write {}", path.display()))?;
                written += 1;
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot write {}", path.display())),
        }
    }
    app.printer.note(&format!("{written} of {} handlers written to {}", methods.len(), directory.display()));
    Ok(Exit::Done)
}

/// A script that says what comes and what is expected, and answers UNIMPLEMENTED.
fn skeleton(method: &Method) -> String {
    let (input, output) = (method.input.full_name(), method.output.full_name());
    let mut text = String::from("#!/bin/sh\n");
    let asks = if method.kind.client_streams() { "one per line until the caller is done" } else { "one" };
    let answers = if method.kind.server_streams() { "as many as there are, each on a line" } else { "one" };
    let _ = writeln!(text, "# {}", method.path);
    let _ = writeln!(text, "# stdin:  {input} as JSON, {asks}");
    let _ = writeln!(text, "#         {}", method.input.example());
    let _ = writeln!(text, "# stdout: {output} as JSON, {answers}");
    let _ = writeln!(text, "#         {}", method.output.example());
    text.push_str(
        "# exit:   0 is OK, 64+N is gRPC status N (69 NOT_FOUND, 76 UNIMPLEMENTED); stderr is the message\n",
    );
    text.push_str("# BANDY_METHOD, BANDY_PEER, BANDY_DEADLINE_MS and BANDY_HEADER_<NAME> tell more\n");
    match method.kind {
        Kind::Unary | Kind::ServerStream => text.push_str("request=$(cat)\n"),
        Kind::ClientStream | Kind::Bidi => {
            text.push_str("while IFS= read -r request; do\n  echo \"got $request\" >&2\ndone\n");
        }
    }
    let _ = writeln!(text, "echo \"{} is not written yet\" >&2\nexit 76", method.path);
    text
}
