//! Hashes of passwords, RabbitMQ's: four bytes of salt, then the SHA-256 or SHA-512 of salt and password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;

use super::UsersError;
use crate::mq::server::change::{SHA256, UserDefinition};

/// Bytes of salt before a hash: RabbitMQ's.
const SALT_SIZE: usize = 4;

/// A salted hash.
#[derive(Clone)]
pub(super) struct Hash {
    algorithm: &'static digest::Algorithm,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Hash {
    /// That of a user; none if no password lets the user in.
    pub fn read(user: &UserDefinition) -> Result<Option<Self>, UsersError> {
        let algorithm = match user.hashing_algorithm.as_deref() {
            None | Some(SHA256) => &digest::SHA256,
            Some("rabbit_password_hashing_sha512") => &digest::SHA512,
            Some(other) => {
                let algorithm = other.to_owned();
                return Err(UsersError::Algorithm { user: user.name.clone(), algorithm });
            }
        };
        if user.password_hash.is_empty() {
            return Ok(None);
        }
        let bytes = STANDARD.decode(&user.password_hash).ok();
        let Some(bytes) = bytes.filter(|bytes| bytes.len() == SALT_SIZE + algorithm.output_len()) else {
            return Err(UsersError::Hash(user.name.clone()));
        };
        let (salt, hash) = bytes.split_at(SALT_SIZE);
        Ok(Some(Self { algorithm, salt: salt.to_vec(), hash: hash.to_vec() }))
    }

    pub fn matches(&self, password: &[u8]) -> bool {
        let given = digest(self.algorithm, &self.salt, password);
        // All of it is compared whatever differs, so that the time tells nothing.
        given.len() == self.hash.len()
            && given.iter().zip(&self.hash).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

/// The hash of a password as definitions write it, with a new salt.
pub(crate) fn hashed(password: &str) -> String {
    let mut salt = [0; SALT_SIZE];
    fastrand::fill(&mut salt);
    let hash = digest(&digest::SHA256, &salt, password.as_bytes());
    STANDARD.encode([&salt[..], &hash].concat())
}

fn digest(algorithm: &'static digest::Algorithm, salt: &[u8], password: &[u8]) -> Vec<u8> {
    let mut context = digest::Context::new(algorithm);
    context.update(salt);
    context.update(password);
    context.finish().as_ref().to_vec()
}
