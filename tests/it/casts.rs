//! Recordings in docs/casts, and the pictures made from them, equal what the program draws today.
//!
//! `SNAPSHOTS=overwrite cargo test casts` writes them anew.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The recording that the README shows as a picture.
const PICTURED: &str = "rpc-call";

/// Name of the recording and the arguments that make it.
const CASTS: [(&str, &[&str]); 12] = [
    ("gossip-failure", &["gossip", "demo", "failure"]),
    ("gossip-split", &["gossip", "demo", "split"]),
    ("gossip-spread", &["gossip", "demo", "spread"]),
    ("log-partitions", &["log", "demo", "partitions"]),
    ("log-replay", &["log", "demo", "replay"]),
    ("mq-dead-letter", &["mq", "demo", "dead-letter"]),
    ("mq-topics", &["mq", "demo", "topics"]),
    ("mq-work", &["mq", "demo", "work"]),
    ("rpc-call", &["rpc", "demo", "call"]),
    ("rpc-deadline", &["rpc", "demo", "deadline"]),
    ("rpc-lost-reply", &["rpc", "demo", "lost-reply"]),
    ("rpc-streams", &["rpc", "demo", "streams"]),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/casts")
}

fn record(arguments: &[&str]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_bandy"))
        .args(arguments)
        .args(["--size", "90x26", "--cast"])
        .arg(file.path())
        .status()
        .unwrap();
    assert!(status.success(), "{arguments:?} ended with {status}");
    std::fs::read_to_string(file.path()).unwrap()
}

#[track_caller]
fn same_or_rewritten(path: &Path, now: &str) {
    if std::env::var_os("SNAPSHOTS").is_some_and(|value| value == "overwrite") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, now).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == now,
        "{} is not what the program draws; SNAPSHOTS=overwrite cargo test casts",
        path.display()
    );
}

#[test]
fn casts_and_pictures_are_what_the_program_draws() {
    for (name, arguments) in CASTS {
        let cast = record(arguments);
        same_or_rewritten(&folder().join(format!("{name}.cast")), &cast);
        if name == PICTURED {
            same_or_rewritten(&folder().join(format!("{name}.svg")), &svg(&cast));
        }
    }
}

#[test]
fn the_same_seed_draws_the_same_bytes() {
    for (_, arguments) in CASTS {
        assert_eq!(record(arguments), record(arguments));
    }
}

/// One screen and when it appears, in seconds.
struct Picture {
    at: f64,
    screen: vt100::Screen,
}

/// Pictures of a recording, at most `pictures_max`, evenly spread, the last one always.
fn pictures(cast: &str, pictures_max: usize) -> (Vec<Picture>, f64, (u16, u16)) {
    let mut lines = cast.lines();
    let header: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    let size = |name: &str| u16::try_from(header[name].as_u64().unwrap()).unwrap();
    let (columns, rows) = (size("width"), size("height"));
    let mut parser = vt100::Parser::new(rows.try_into().unwrap(), columns.try_into().unwrap(), 0);
    let mut all: Vec<Picture> = Vec::new();
    let mut end = 0.0;
    for line in lines {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        parser.process(event[2].as_str().unwrap().as_bytes());
        end = event[0].as_f64().unwrap();
        all.push(Picture { at: end, screen: parser.screen().clone() });
    }
    // The final event only gives the cursor back.
    all.pop();
    let every = all.len().div_ceil(pictures_max).max(1);
    let last = all.len() - 1;
    let kept = all.into_iter().enumerate().filter(|(number, _)| number % every == 0 || *number == last);
    (kept.map(|(_, picture)| picture).collect(), end, (columns, rows))
}

const CELL: (f64, f64) = (8.4, 17.0);

/// An animated picture of a recording: one group of rows per screen, shown in turn by CSS.
fn svg(cast: &str) -> String {
    let (pictures, end, (columns, rows)) = pictures(cast, 45);
    let (width, height) = (f64::from(columns) * CELL.0 + 24.0, f64::from(rows) * CELL.1 + 24.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" xml:space=\"preserve\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\">\n\
         <style>\ntext{{font:14px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#d8dee9;white-space:pre}}\n\
         .b{{font-weight:bold}}.d{{opacity:.55}}.c1{{fill:#ff7a85}}.c2{{fill:#8fd694}}.c3{{fill:#f2d06b}}.c6{{fill:#6fd3e3}}\n\
         g{{visibility:hidden;animation:{end:.2}s step-end infinite}}\n"
    );
    for (number, picture) in pictures.iter().enumerate() {
        let from = picture.at / end * 100.0;
        let to = pictures.get(number + 1).map_or(100.0, |next| next.at / end * 100.0);
        let before = if number == 0 { String::new() } else { "0%{visibility:hidden}".to_owned() };
        let after = if to < 100.0 { format!("{to:.2}%{{visibility:hidden}}") } else { String::new() };
        writeln!(out, "@keyframes k{number}{{{before}{from:.2}%{{visibility:visible}}{after}}}#f{number}{{animation-name:k{number}}}").unwrap();
    }
    write!(out, "</style>\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#1d2330\"/>\n").unwrap();
    for (number, picture) in pictures.iter().enumerate() {
        writeln!(out, "<g id=\"f{number}\">").unwrap();
        for row in 0..rows {
            svg_row(&mut out, &picture.screen, row, columns);
        }
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

/// The class of a cell: colour and weight.
fn class(cell: &vt100::Cell) -> String {
    let mut names = Vec::new();
    match cell.fgcolor() {
        vt100::Color::Idx(colour @ (1 | 2 | 3 | 6)) => names.push(format!("c{colour}")),
        vt100::Color::Default | vt100::Color::Idx(_) | vt100::Color::Rgb(..) => {}
    }
    if cell.bold() {
        names.push("b".to_owned());
    }
    if cell.dim() {
        names.push("d".to_owned());
    }
    names.join(" ")
}

/// A row as runs of cells of one class, each placed by its column so that no font can shift it.
fn svg_row(out: &mut String, screen: &vt100::Screen, row: u16, columns: u16) {
    let mut column = 0;
    while column < columns {
        let cell = screen.cell(row, column).unwrap();
        let style = class(cell);
        let start = column;
        let mut text = String::new();
        while let Some(cell) =
            screen.cell(row, column).filter(|cell| class(cell) == style && column < columns)
        {
            text.push_str(if cell.has_contents() { cell.contents() } else { " " });
            column += 1;
        }
        if text.trim().is_empty() {
            continue;
        }
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let (x, y) = (12.0 + f64::from(start) * CELL.0, 26.0 + f64::from(row) * CELL.1);
        let length = f64::from(column - start) * CELL.0;
        let style = if style.is_empty() { String::new() } else { format!(" class=\"{style}\"") };
        writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{y:.0}\" textLength=\"{length:.1}\"{style}>{}</text>",
            text.trim_end_matches('\u{0}')
        )
        .unwrap();
    }
}
