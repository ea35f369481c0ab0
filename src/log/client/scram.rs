//! SCRAM as a client speaks it (RFC 5802, RFC 7677): the password is never sent, and the broker has to show that it knows it.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};

/// Fewest rounds that are believed (RFC 7677, 4): fewer make the password easy to guess for whoever listens.
const ITERATIONS_MIN: u32 = 4096;
/// Most rounds that are done for a broker: about a second.
const ITERATIONS_MAX: u32 = 2_000_000;

/// Which hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256
    Sha256,
    /// SHA-512
    Sha512,
}

/// The broker does not keep to the exchange, or does not know the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A message that is none.
    #[error("the broker's part of the SCRAM login cannot be read")]
    Form,
    /// Our nonce is not at the front of its own.
    #[error("the broker answered another SCRAM login")]
    Nonce,
    /// Too few rounds, or too many.
    #[error("the broker asks for {0} rounds of SCRAM; {ITERATIONS_MIN} to {ITERATIONS_MAX} are done")]
    Iterations(u32),
    /// It does not know the password: somebody else is there.
    #[error("the broker has not shown that it knows the password")]
    Proof,
}

/// A client's first message has been said.
#[derive(Debug)]
pub struct First {
    hash: Hash,
    nonce: String,
    bare: String,
}

/// The last one has been said; the broker's proof is awaited.
#[derive(Debug, PartialEq, Eq)]
pub struct Last {
    proof: Vec<u8>,
}

impl Hash {
    fn parts(self) -> (pbkdf2::Algorithm, hmac::Algorithm, &'static digest::Algorithm) {
        match self {
            Self::Sha256 => (pbkdf2::PBKDF2_HMAC_SHA256, hmac::HMAC_SHA256, &digest::SHA256),
            Self::Sha512 => (pbkdf2::PBKDF2_HMAC_SHA512, hmac::HMAC_SHA512, &digest::SHA512),
        }
    }

    fn sign(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(self.parts().1, key), message).as_ref().to_vec()
    }
}

impl First {
    /// The first message of `user`, with a nonce that nobody could have guessed.
    pub fn new(hash: Hash, user: &str, nonce: &str) -> (Self, String) {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={user},r={nonce}");
        let message = format!("n,,{bare}");
        (Self { hash, nonce: nonce.to_owned(), bare }, message)
    }

    /// The answer to the broker's challenge.
    ///
    /// # Errors
    /// It is none, or asks for what is not done.
    pub fn answer(self, challenge: &[u8], password: &str) -> Result<(Last, String), Broken> {
        let challenge = std::str::from_utf8(challenge).map_err(|_| Broken::Form)?;
        let mut fields = challenge.split(',');
        let mut field = |name| fields.next().and_then(|field| field.strip_prefix(name)).ok_or(Broken::Form);
        let (nonce, salt, iterations) = (field("r=")?, field("s=")?, field("i=")?);
        let salt = STANDARD.decode(salt).map_err(|_| Broken::Form)?;
        let iterations: u32 = iterations.parse().map_err(|_| Broken::Form)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(Broken::Nonce);
        }
        let rounds = NonZeroU32::new(iterations)
            .filter(|_| (ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations))
            .ok_or(Broken::Iterations(iterations))?;
        let (derive, _, hash) = self.hash.parts();
        let mut salted = vec![0; hash.output_len()];
        pbkdf2::derive(derive, rounds, &salt, password.as_bytes(), &mut salted);
        let client_key = self.hash.sign(&salted, b"Client Key");
        let stored_key = digest::digest(hash, &client_key);
        // "n,," in base64: bound to no channel.
        let unproven = format!("c=biws,r={nonce}");
        let signed = format!("{},{challenge},{unproven}", self.bare);
        let signature = self.hash.sign(stored_key.as_ref(), signed.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, sign)| key ^ sign).collect();
        let server_key = self.hash.sign(&salted, b"Server Key");
        let last = Last { proof: self.hash.sign(&server_key, signed.as_bytes()) };
        Ok((last, format!("{unproven},p={}", STANDARD.encode(proof))))
    }
}

impl Last {
    /// Checks that the broker knows the password, too.
    ///
    /// # Errors
    /// It does not, or says something else.
    pub fn check(&self, message: &[u8]) -> Result<(), Broken> {
        let text = std::str::from_utf8(message).map_err(|_| Broken::Form)?;
        let proof = text.split(',').next().and_then(|field| field.strip_prefix("v=")).ok_or(Broken::Form)?;
        let proof = STANDARD.decode(proof).map_err(|_| Broken::Form)?;
        if proof == self.proof { Ok(()) } else { Err(Broken::Proof) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHALLENGE: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn first() -> First {
        First::new(Hash::Sha256, "user", "rOprNGfwEbeRWgbNEkqO").0
    }

    /// RFC 7677, section 3.
    #[test]
    fn the_exchange_of_the_rfc_is_spoken() {
        let (first, message) = First::new(Hash::Sha256, "user", "rOprNGfwEbeRWgbNEkqO");
        assert_eq!(message, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let (last, message) = first.answer(CHALLENGE.as_bytes(), "pencil").unwrap();
        assert_eq!(
            message,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(last.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
        assert_eq!(last.check(b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Err(Broken::Proof));
        assert_eq!(last.check(b"e=invalid-proof"), Err(Broken::Form));
    }

    #[test]
    fn what_a_broker_must_not_ask_for_is_refused() {
        for (from, to, broken) in [
            ("r=rOp", "r=xOp", Broken::Nonce),
            ("i=4096", "i=4095", Broken::Iterations(4095)),
            ("i=4096", "i=4000000000", Broken::Iterations(4_000_000_000)),
            ("i=4096", "i=0", Broken::Iterations(0)),
            ("s=W", "s=!", Broken::Form),
            (",i=4096", "", Broken::Form),
        ] {
            let challenge = CHALLENGE.replace(from, to);
            assert_eq!(first().answer(challenge.as_bytes(), "pencil").unwrap_err(), broken, "{challenge}");
        }
        let echo = "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(first().answer(echo.as_bytes(), "pencil").unwrap_err(), Broken::Nonce);
    }

    #[test]
    fn signs_in_names_are_escaped() {
        assert_eq!(First::new(Hash::Sha512, "a,b=c", "x").1, "n,,n=a=2Cb=3Dc,r=x");
    }
}
