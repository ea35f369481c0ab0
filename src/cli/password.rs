//! Asks for a password on the terminal of whoever types, and shows nothing of it.

use std::fs::File;
use std::io::{Read, Write};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use super::errors::before_colon;
use super::exit::{Exit, Failure};
use crate::secret::Secret;

/// Longer than any password; the rest of a line that is longer is an error, not a shorter password.
const SIZE_MAX: usize = 4096;

const ENTER: [u8; 2] = [b'\r', b'\n'];
const BACKSPACE: [u8; 2] = [0x08, 0x7f];
const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const CTRL_U: u8 = 0x15;

/// The terminal as it was; put back when dropped.
struct Quiet {
    terminal: File,
    before: Termios,
}

impl Quiet {
    fn new(terminal: File) -> std::io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut now = before.clone();
        // Without ISIG Ctrl-C is a byte: the signal would end us and leave the terminal mute.
        now.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        now.special_codes[SpecialCodeIndex::VMIN] = 1;
        now.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&terminal, OptionalActions::Flush, &now)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing put back.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Asks for the password of `user` at `whom`.
///
/// # Errors
/// Usage: there is no terminal, or nothing was typed. Ctrl-C ends as the signal does.
pub fn ask(user: &str, whom: &str) -> Result<Secret, Failure> {
    let nobody = || {
        Failure::new(Exit::Usage, format!("no password for {user}, and no terminal to ask for it"))
            .tip(format!("-u {user} --password-file FILE"))
    };
    let terminal = File::options().read(true).write(true).open("/dev/tty").map_err(|_| nobody())?;
    let mut quiet = Quiet::new(terminal).map_err(|_| nobody())?;
    let typed = write!(quiet.terminal, "password for {user} at {}: ", before_colon(whom))
        .and_then(|()| quiet.terminal.flush())
        .and_then(|()| line(&mut quiet.terminal));
    // The end of the line that was not shown.
    let _ = quiet.terminal.write_all(b"\r\n");
    match typed {
        Ok(Typed::Line(bytes)) if bytes.is_empty() => {
            Err(Failure::new(Exit::Usage, format!("no password was given for {user}")))
        }
        Ok(Typed::Line(bytes)) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Secret::new(text)),
            Err(_) => Err(Failure::new(Exit::Usage, "the password is not UTF-8")),
        },
        Ok(Typed::Interrupt) => Err(Failure::new(Exit::Signal(2), "interrupted")),
        Err(error) => Err(Failure::new(Exit::Failed, format!("cannot read the terminal: {error}"))),
    }
}

enum Typed {
    Line(Vec<u8>),
    Interrupt,
}

fn line(input: &mut impl Read) -> std::io::Result<Typed> {
    let (mut typed, mut byte) = (Vec::new(), [0]);
    loop {
        match input.read(&mut byte) {
            Ok(0) => return Ok(Typed::Line(typed)),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        match byte[0] {
            key if ENTER.contains(&key) => return Ok(Typed::Line(typed)),
            CTRL_D if typed.is_empty() => return Ok(Typed::Line(typed)),
            CTRL_C => return Ok(Typed::Interrupt),
            CTRL_U => typed.clear(),
            key if BACKSPACE.contains(&key) => {
                // A character may have several bytes.
                while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            _ if typed.len() == SIZE_MAX => {
                return Err(std::io::Error::other(format!("a password of over {SIZE_MAX} bytes")));
            }
            key => typed.push(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(mut keys: &[u8]) -> Option<Vec<u8>> {
        match line(&mut keys).unwrap() {
            Typed::Line(line) => Some(line),
            Typed::Interrupt => None,
        }
    }

    #[test]
    fn what_is_typed_can_be_mended() {
        assert_eq!(typed(b"secret\rrest"), Some(b"secret".to_vec()));
        assert_eq!(typed("sé\u{7f}ecret\n".as_bytes()), Some(b"secret".to_vec()));
        assert_eq!(typed(b"wrong\x15right\n"), Some(b"right".to_vec()));
        assert_eq!(typed(b"\x7f\x7fa\n"), Some(b"a".to_vec()));
        assert_eq!(typed(b"\x04"), Some(Vec::new()));
        assert_eq!(typed(b"half\x03"), None);
        assert!(line(&mut vec![b'x'; SIZE_MAX + 1].as_slice()).is_err());
    }
}
