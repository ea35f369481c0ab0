//! The name of a log: a UUID, and never a word that a peer chose.

use std::fmt;
use std::str::FromStr;

/// Names one log in a data directory. Topics and queues map their names to it; no name of theirs becomes a path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId(u128);

/// Text that is not a UUID in its canonical form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a UUID such as 4f2c7e9a-0b1d-4c3e-8f5a-6b7c8d9e0f1a")]
pub struct IdError {
    /// What was given.
    pub text: String,
}

impl LogId {
    /// A new random name (RFC 9562, version 4).
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = [0; 16];
        let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        if filled != bytes.len() {
            return Err(std::io::Error::other("the system gave too few random bytes"));
        }
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Ok(Self::from_bytes(bytes))
    }

    /// The 16 bytes as they stand in protocols.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// The 16 bytes as they stand in protocols.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        write!(f, "{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for LogId {
    type Err = IdError;

    /// Only the form that `Display` prints: one log has one directory name.
    fn from_str(text: &str) -> Result<Self, IdError> {
        let hex: String = text.chars().filter(|&c| c != '-').collect();
        let id = u128::from_str_radix(&hex, 16).map(Self).ok();
        id.filter(|id| id.to_string() == text).ok_or_else(|| IdError { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_nothing_else_is_one() {
        let id = LogId::random().unwrap();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(LogId::from_bytes(id.to_bytes()), id);
        for bad in [
            "",
            "..",
            "4f2c7e9a",
            "4F2C7E9A-0B1D-4C3E-8F5A-6B7C8D9E0F1A",
            "+f2c7e9a-0b1d-4c3e-8f5a-6b7c8d9e0f1a",
        ] {
            assert!(bad.parse::<LogId>().is_err(), "{bad}");
        }
    }
}
