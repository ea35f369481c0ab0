//! SASL mechanisms as bytes: what a client says, and what a server reads. Both brokers share them.

use crate::secret::Secret;

/// What PLAIN carries: RFC 4616.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plain {
    /// Whose rights are asked for; empty for those of the user.
    pub authorize_as: String,
    /// Who logs in.
    pub user: String,
    /// With what.
    pub password: Secret,
}

/// Text that is no PLAIN response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a PLAIN response: expected two NUL bytes between three texts")]
pub struct NotPlain;

impl Plain {
    /// The name of the mechanism.
    pub const NAME: &'static str = "PLAIN";

    /// A user's own rights.
    pub fn new(user: impl Into<String>, password: Secret) -> Self {
        Self { authorize_as: String::new(), user: user.into(), password }
    }

    /// The one message of a client.
    pub fn response(&self) -> Vec<u8> {
        [self.authorize_as.as_bytes(), b"\0", self.user.as_bytes(), b"\0", self.password.expose().as_bytes()]
            .concat()
    }

    /// Reads it on a server.
    ///
    /// # Errors
    /// It has another form, or is not UTF-8.
    pub fn parse(response: &[u8]) -> Result<Self, NotPlain> {
        let text = std::str::from_utf8(response).map_err(|_| NotPlain)?;
        let mut parts = text.split('\0');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(authorize_as), Some(user), Some(password), None) => Ok(Self {
                authorize_as: authorize_as.to_owned(),
                user: user.to_owned(),
                password: Secret::new(password),
            }),
            _ => Err(NotPlain),
        }
    }
}

/// Who the client is, TLS has shown: RFC 4422, appendix A. Its response is the identity asked for, empty for that
/// of the certificate.
pub const EXTERNAL: &str = "EXTERNAL";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_reads_what_it_writes() {
        let plain = Plain::new("guest", Secret::new("pä\tss"));
        assert_eq!(plain.response(), "\0guest\0pä\tss".as_bytes());
        assert_eq!(Plain::parse(&plain.response()), Ok(plain));
        for bad in [b"guest".as_slice(), b"\0guest", b"\0a\0b\0c", b"\0\xff\0b"] {
            assert_eq!(Plain::parse(bad), Err(NotPlain), "{bad:?}");
        }
    }
}
