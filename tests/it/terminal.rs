//! Runs the binary in a terminal of its own, presses keys, and looks at the screen.

use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use crate::support::{DEADLINE, Home};

/// Device status report 6 of ECMA-48.
const ASKS_CURSOR: &[u8] = b"\x1b[6n";

/// A terminal with `bandy` in it. What runs there is killed when it is dropped.
pub struct Terminal {
    master: Box<dyn MasterPty + Send>,
    writer: Arc<Mutex<Box<dyn Write + Send>>>,
    child: Box<dyn Child + Send + Sync>,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

struct Seen {
    screen: vt100::Parser,
    /// Everything that was written, as it was written.
    bytes: Vec<u8>,
    closed: bool,
}

fn size((columns, rows): (u16, u16)) -> PtySize {
    PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 }
}

impl Terminal {
    /// Runs `bandy` with these words on a screen of so many columns and rows.
    pub fn run(words: &str, home: &Home, columns_rows: (u16, u16), variables: &[(&str, &str)]) -> Self {
        let pair = native_pty_system().openpty(size(columns_rows)).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_bandy"));
        command.args(shell_words::split(words).unwrap());
        command.env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", home.path("."));
        command.env("BANDY_HOME", home.path("."));
        command.env("TERM", "xterm-256color");
        for (name, value) in variables {
            command.env(name, value);
        }
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let (columns, rows) = columns_rows;
        let screen = vt100::Parser::new(rows.try_into().unwrap(), columns.try_into().unwrap(), 0);
        let seen = Arc::new((Mutex::new(Seen { screen, bytes: Vec::new(), closed: false }), Condvar::new()));
        let mut reader = pair.master.try_clone_reader().unwrap();
        let writer = Arc::new(Mutex::new(pair.master.take_writer().unwrap()));
        let (shared, answers) = (Arc::clone(&seen), Arc::clone(&writer));
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            loop {
                // A terminal whose program has ended reads as an error.
                let count = reader.read(&mut buffer).unwrap_or(0);
                let mut seen = shared.0.lock().unwrap();
                seen.screen.process(&buffer[..count]);
                seen.bytes.extend_from_slice(&buffer[..count]);
                // Asked where its cursor is, a terminal answers.
                if buffer[..count].windows(ASKS_CURSOR.len()).any(|part| part == ASKS_CURSOR) {
                    let (row, column) = seen.screen.screen().cursor_position();
                    let _ = write!(answers.lock().unwrap(), "\x1b[{};{}R", row + 1, column + 1);
                }
                seen.closed = count == 0;
                shared.1.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        Self { master: pair.master, writer, child, seen }
    }

    /// Presses keys.
    pub fn types(&mut self, keys: &str) {
        let mut writer = self.writer.lock().unwrap();
        writer.write_all(keys.as_bytes()).unwrap();
        writer.flush().unwrap();
    }

    /// Makes it another size.
    pub fn resizes(&self, columns_rows: (u16, u16)) {
        let (columns, rows) = columns_rows;
        self.seen
            .0
            .lock()
            .unwrap()
            .screen
            .screen_mut()
            .set_size(rows.try_into().unwrap(), columns.try_into().unwrap());
        self.master.resize(size(columns_rows)).unwrap();
    }

    /// Waits until the screen fits; what it then shows.
    #[track_caller]
    pub fn shows(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        let mut seen = self.seen.0.lock().unwrap();
        loop {
            let screen = seen.screen.screen().contents();
            if fits(&screen) {
                return screen;
            }
            assert!(!seen.closed && start.elapsed() < DEADLINE, "never showed {what}:\n{screen}");
            seen = self.seen.1.wait_timeout(seen, DEADLINE).unwrap().0;
        }
    }

    /// Waits until the screen has this text.
    #[track_caller]
    pub fn shows_text(&self, text: &str) -> String {
        self.shows(text, |screen| screen.contains(text))
    }

    /// Everything that was written so far, escape sequences and all.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.seen.0.lock().unwrap().bytes).into_owned()
    }

    /// Waits for the end; the exit code, 128 and more for signals, and what is on the screen then.
    #[track_caller]
    pub fn ends(mut self) -> (u32, String) {
        let start = Instant::now();
        let mut seen = self.seen.0.lock().unwrap();
        while !seen.closed {
            assert!(start.elapsed() < DEADLINE, "did not end:\n{}", seen.screen.screen().contents());
            seen = self.seen.1.wait_timeout(seen, DEADLINE).unwrap().0;
        }
        assert!(!seen.screen.screen().alternate_screen(), "the terminal was not given back");
        assert!(!seen.screen.screen().hide_cursor(), "the cursor was not given back");
        let screen = seen.screen.screen().contents();
        drop(seen);
        let status = self.child.wait().unwrap();
        let code = match status.signal() {
            Some(name) if name.contains("Interrupt") => 130,
            Some(name) if name.contains("Terminated") => 143,
            Some(name) => panic!("ended by {name}"),
            None => status.exit_code(),
        };
        (code, screen)
    }

    /// The process in it.
    pub fn id(&self) -> u32 {
        self.child.process_id().unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}
