//! SCRAM as a server speaks it (RFC 5802, RFC 7677): two messages each, and the password is never sent.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};

/// Rounds that make guessing slow: Kafka's fewest, and the default of its tools.
pub(super) const ITERATIONS: u32 = 4096;

/// Which hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    pub(super) const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The mechanism with it, by its registered name.
    pub(super) const fn mechanism(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// Bytes of what it makes.
    pub(super) fn len(self) -> usize {
        self.digest().output_len()
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        }
    }

    fn sign(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(self.hmac(), key), message).as_ref().to_vec()
    }
}

/// What is kept of a password: it lets in who knows it, and nobody who has read this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credential {
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: Vec<u8>,
    pub(super) server_key: Vec<u8>,
    /// Rounds of hashing.
    pub(super) iterations: u32,
}

impl Credential {
    /// From a password. Takes milliseconds, which is its purpose.
    pub(super) fn new(hash: Hash, password: &str, salt: &[u8]) -> Self {
        let mut salted = vec![0; hash.digest().output_len()];
        let rounds = NonZeroU32::new(ITERATIONS).unwrap_or(NonZeroU32::MIN);
        pbkdf2::derive(hash.pbkdf2(), rounds, salt, password.as_bytes(), &mut salted);
        Self::of_salted(hash, &salted, salt, ITERATIONS)
    }

    /// From a password that was hashed so many times.
    pub(super) fn of_salted(hash: Hash, salted: &[u8], salt: &[u8], iterations: u32) -> Self {
        let client_key = hash.sign(salted, b"Client Key");
        Self {
            salt: salt.to_vec(),
            stored_key: digest::digest(hash.digest(), &client_key).as_ref().to_vec(),
            server_key: hash.sign(salted, b"Server Key"),
            iterations,
        }
    }
}

/// A client's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct First {
    pub(super) user: String,
    nonce: String,
    /// Without what stands before it, as it is signed.
    bare: String,
    header: String,
}

impl First {
    /// Reads `n,,n=USER,r=NONCE`.
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(message).ok()?;
        let mut parts = text.splitn(3, ',');
        let (binding, authorize_as, bare) = (parts.next()?, parts.next()?, parts.next()?);
        // Bound to no channel; extensions that must be understood are not.
        if !matches!(binding, "n" | "y") || bare.starts_with("m=") {
            return None;
        }
        let mut fields = bare.split(',');
        let user = fields.next()?.strip_prefix("n=")?.replace("=2C", ",").replace("=3D", "=");
        let nonce = fields.next()?.strip_prefix("r=")?.to_owned();
        let header = format!("{binding},{authorize_as},");
        Some(Self { user, nonce, bare: bare.to_owned(), header })
    }

    /// The answer, and what the client's last message has to fit.
    pub(super) fn challenge(&self, hash: Hash, credential: Credential, nonce: &str) -> (String, Exchange) {
        let nonce = format!("{}{nonce}", self.nonce);
        let (salt, rounds) = (STANDARD.encode(&credential.salt), credential.iterations);
        let challenge = format!("r={nonce},s={salt},i={rounds}");
        let signed = format!("{},{challenge}", self.bare);
        let binding = STANDARD.encode(&self.header);
        (challenge, Exchange { hash, credential, nonce, signed, binding })
    }
}

/// Between the two messages of a client.
#[derive(Debug)]
pub(super) struct Exchange {
    hash: Hash,
    credential: Credential,
    nonce: String,
    signed: String,
    binding: String,
}

impl Exchange {
    /// Checks the client's proof; the answer shows that this side knows the password too.
    pub(super) fn finish(self, message: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(message).ok()?;
        let (unproven, proof) = text.rsplit_once(",p=")?;
        let mut fields = unproven.split(',');
        let binding = fields.next()?.strip_prefix("c=")?;
        let nonce = fields.next()?.strip_prefix("r=")?;
        // librdkafka before 2.6.1 puts its own nonce before the whole one again; Kafka looks at the end too.
        if binding != self.binding || !nonce.ends_with(&self.nonce) {
            return None;
        }
        let signed = format!("{},{unproven}", self.signed);
        let signature = self.hash.sign(&self.credential.stored_key, signed.as_bytes());
        let proof = STANDARD.decode(proof).ok().filter(|proof| proof.len() == signature.len())?;
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(proof, sign)| proof ^ sign).collect();
        let stored = digest::digest(self.hash.digest(), &client_key);
        if !same(stored.as_ref(), &self.credential.stored_key) {
            return None;
        }
        let server = self.hash.sign(&self.credential.server_key, signed.as_bytes());
        Some(format!("v={}", STANDARD.encode(server)))
    }
}

/// Takes as long wherever the difference is.
pub(super) fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |all, (one, other)| all | (one ^ other)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, section 3.
    #[test]
    fn the_exchange_of_the_rfc_is_spoken() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let credential = Credential::new(Hash::Sha256, "pencil", &salt);
        let first = First::parse(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        assert_eq!(first.user, "user");
        let server_nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let (challenge, exchange) = first.challenge(Hash::Sha256, credential.clone(), server_nonce);
        assert_eq!(
            challenge,
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(exchange.finish(last).as_deref(), Some("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
        for (from, to) in [("p=dH", "p=dI"), ("c=biws", "c=eSws"), ("k0,p", "k1,p"), (",p=", ",q=")] {
            let (_, exchange) = first.challenge(Hash::Sha256, credential.clone(), server_nonce);
            let wrong = std::str::from_utf8(last).unwrap().replace(from, to);
            assert_eq!(exchange.finish(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_nonce_that_librdkafka_has_doubled_is_taken() {
        let credential = Credential::new(Hash::Sha512, "secret", b"salt");
        let first = First::parse(b"n,,n=u,r=abc").unwrap();
        let (challenge, exchange) = first.challenge(Hash::Sha512, credential, "xyz");
        let unproven = "c=biws,r=abcabcxyz";
        let mut salted = vec![0; 64];
        let rounds = NonZeroU32::new(ITERATIONS).unwrap();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, rounds, b"salt", b"secret", &mut salted);
        let client_key = Hash::Sha512.sign(&salted, b"Client Key");
        let stored = digest::digest(&digest::SHA512, &client_key);
        let signed = format!("n=u,r=abc,{challenge},{unproven}");
        let signature = Hash::Sha512.sign(stored.as_ref(), signed.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, sign)| key ^ sign).collect();
        let last = format!("{unproven},p={}", STANDARD.encode(proof));
        assert!(exchange.finish(last.as_bytes()).is_some());
    }

    #[test]
    fn names_are_unescaped_and_what_is_no_first_message_is_none() {
        assert_eq!(First::parse(b"n,a=x,n=a=2Cb=3Dc,r=1,m=2").unwrap().user, "a,b=c");
        for wrong in
            [&b""[..], b"n,,", b"p=tls-unique,,n=u,r=1", b"n,,m=1,n=u,r=1", b"n,,r=1,n=u", b"\xff,,n=u,r=1"]
        {
            assert_eq!(First::parse(wrong), None);
        }
    }
}
