//! A scene as lines: the same story for a pipe, with virtual times.

use std::io::{BufWriter, Write};

use super::chronicle::{TIME, own_ms};
use super::{Form, Scene, StageArgs, TICK, ticks_max};
use crate::cli::exit::Exit;
use crate::output::WriteError;

/// Writes one line per note, as fast as the reader takes them. A reader that leaves ends it quietly.
pub(super) fn play(scene: &mut dyn Scene, args: &StageArgs, form: Form) -> anyhow::Result<Exit> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let written = write_all(scene, args, form, &mut out).and_then(|()| out.flush());
    written.map_err(WriteError::from)?;
    Ok(Exit::Done)
}

fn write_all(
    scene: &mut dyn Scene,
    args: &StageArgs,
    form: Form,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let mut now_ms = 0;
    for _ in 0..ticks_max(args) {
        if scene.done() {
            break;
        }
        for note in scene.tick() {
            match form {
                Form::Json => {
                    let mut object = serde_json::Map::new();
                    object.insert(TIME.to_owned(), now_ms.into());
                    object.extend(note.fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
                    serde_json::to_writer(&mut *out, &object)?;
                    out.write_all(b"\n")?;
                }
                // One clock: the story's own, where it has one.
                Form::Lines | Form::Terminal => {
                    writeln!(out, "{:>6} ms  {}", own_ms(&note).unwrap_or(now_ms), note.text)?;
                }
            }
        }
        now_ms += TICK.as_millis() as u64;
    }
    Ok(())
}
