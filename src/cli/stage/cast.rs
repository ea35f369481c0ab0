//! A scene as an asciicast v2 recording, written in virtual time: same seed, same bytes.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::rc::Rc;

use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};

use super::theme::Theme;
use super::{Scene, Shown, StageArgs, TICK, draw, ticks_max};

/// The last picture stays this many ticks.
const HOLD_TICKS: u32 = 60;

/// What was drawn since it was last taken.
#[derive(Clone, Default)]
struct Screen(Rc<RefCell<Vec<u8>>>);

impl std::io::Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The whole recording.
pub(super) fn record(scene: &mut dyn Scene, args: &StageArgs, theme: &Theme) -> anyhow::Result<String> {
    let (columns, rows) = args.size.unwrap_or((100, 30));
    let header = serde_json::json!({
        "version": 2, "width": columns, "height": rows, "title": format!("bandy {}", scene.title().replace('·', theme.dot)),
        "env": {"TERM": "xterm-256color"},
    });
    let mut recording = format!("{header}\n");
    let screen = Screen::default();
    let mut terminal = Terminal::with_options(
        CrosstermBackend::new(screen.clone()),
        TerminalOptions { viewport: Viewport::Fixed(Rect::new(0, 0, columns, rows)) },
    )?;
    // A player's screen is not empty when it starts, and its cursor is somewhere.
    push(&mut recording, 0.0, b"\x1b[2J\x1b[?25l")?;
    let tick = TICK.as_secs_f64() / args.speed;
    let mut now = 0.0;
    let mut last_change = 0.0;
    for _ in 0..ticks_max(args) {
        terminal.draw(|frame| draw(frame, scene, theme, &Shown::unattended()))?;
        let bytes = screen.0.take();
        if !bytes.is_empty() {
            push(&mut recording, now, &bytes)?;
            last_change = now;
        }
        if scene.done() {
            break;
        }
        scene.tick();
        now += tick;
    }
    push(&mut recording, last_change + tick * f64::from(HOLD_TICKS), b"\x1b[?25h\r\n")?;
    Ok(recording)
}

fn push(recording: &mut String, seconds: f64, bytes: &[u8]) -> anyhow::Result<()> {
    let text = serde_json::to_string(std::str::from_utf8(bytes)?)?;
    writeln!(recording, "[{seconds:.3}, \"o\", {text}]")?;
    Ok(())
}
