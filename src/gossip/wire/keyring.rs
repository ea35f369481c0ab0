//! Encryption: AES-GCM under a ring of keys, of which one seals and all open.

use aes_gcm::aead::consts::U12;
use aes_gcm::aes::Aes192;
use aes_gcm::{AeadInOut as _, AesGcm, KeyInit as _};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// The version that is written: no padding.
const VERSION: u8 = 1;
/// The version that older ones write: padded as PKCS #7 says.
const VERSION_PADDED: u8 = 0;
/// Bytes of AES-GCM's tag.
const TAG_BYTES: usize = 16;
/// What version 1 adds: the version, a nonce and the tag.
pub const OVERHEAD_BYTES: usize = 1 + NONCE_LEN + TAG_BYTES;
/// How long a key is: AES-128, AES-192 or AES-256.
pub const KEY_BYTES: [usize; 3] = [16, 24, 32];
/// Most keys in a ring.
pub const KEYS_MAX: usize = 64;

/// A random number that no other message under the same key has.
pub type NonceBytes = [u8; NONCE_LEN];

/// Why a key is not taken, or a message not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a length that AES has here.
    #[error("a key of {0} bytes: it has to be 16, 24 or 32, as `gossip keygen` writes it")]
    Length(usize),
    /// No more keys fit.
    #[error("there are {KEYS_MAX} keys already")]
    Full,
    /// Not in the ring.
    #[error("the key is not in the ring")]
    Unknown,
    /// The primary key cannot be taken away.
    #[error("the primary key cannot be removed: use another one first")]
    Primary,
    /// No key opens it.
    #[error("no key of the ring opens it")]
    Sealed,
    /// Not an encrypted message.
    #[error("not an encrypted message")]
    Plain,
}

enum Cipher {
    Ring(Box<LessSafeKey>),
    /// The length that ring does not have.
    Aes192(Box<AesGcm<Aes192, U12>>),
}

impl Cipher {
    fn new(key: &[u8]) -> Result<Self, KeyError> {
        let wrong = || KeyError::Length(key.len());
        let algorithm = match key.len() {
            16 => &AES_128_GCM,
            32 => &AES_256_GCM,
            _ => return AesGcm::new_from_slice(key).map_err(|_| wrong()).map(Box::new).map(Self::Aes192),
        };
        let key = UnboundKey::new(algorithm, key).map_err(|_| wrong())?;
        Ok(Self::Ring(Box::new(LessSafeKey::new(key))))
    }

    /// Encrypts in place and returns the tag; none if the message is longer than AES-GCM can have.
    fn seal(&self, nonce: NonceBytes, associated: &[u8], message: &mut [u8]) -> Option<[u8; TAG_BYTES]> {
        match self {
            Self::Ring(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(associated), message).ok()?;
                tag.as_ref().try_into().ok()
            }
            Self::Aes192(key) => {
                key.encrypt_inout_detached(&nonce.into(), associated, message.into()).ok().map(Into::into)
            }
        }
    }

    /// Decrypts ciphertext and tag in place and returns the length of what was in it; none if this key does not open it.
    fn open(&self, nonce: NonceBytes, associated: &[u8], sealed: &mut [u8]) -> Option<usize> {
        match self {
            Self::Ring(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.open_in_place(nonce, Aad::from(associated), sealed).ok().map(|plain| plain.len())
            }
            Self::Aes192(key) => {
                let (message, tag) = sealed.split_last_chunk_mut::<TAG_BYTES>()?;
                let tag = (*tag).into();
                key.decrypt_inout_detached(&nonce.into(), associated, (&mut *message).into(), &tag).ok()?;
                Some(message.len())
            }
        }
    }
}

struct Key {
    bytes: Vec<u8>,
    cipher: Cipher,
}

impl Key {
    fn new(bytes: &[u8]) -> Result<Self, KeyError> {
        Ok(Self { bytes: bytes.to_vec(), cipher: Cipher::new(bytes)? })
    }
}

/// Keys; the first one is the primary.
pub struct Keyring {
    keys: Vec<Key>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyring({} keys)", self.keys.len())
    }
}

impl Clone for Keyring {
    fn clone(&self) -> Self {
        let keys = self.keys.iter().map(|key| Key::new(&key.bytes).expect("it was a key before")).collect();
        Self { keys }
    }
}

impl Keyring {
    /// A ring of one key.
    ///
    /// # Errors
    /// It is not 16, 24 or 32 bytes.
    pub fn new(primary: &[u8]) -> Result<Self, KeyError> {
        Ok(Self { keys: vec![Key::new(primary)?] })
    }

    /// The keys, the primary first.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.iter().map(|key| &key.bytes[..])
    }

    fn position(&self, key: &[u8]) -> Option<usize> {
        self.keys.iter().position(|known| known.bytes == key)
    }

    /// Adds a key; one that is there already stays.
    ///
    /// # Errors
    /// It is not a key, or there are too many.
    pub fn install(&mut self, key: &[u8]) -> Result<(), KeyError> {
        if self.position(key).is_some() {
            return Ok(());
        }
        if self.keys.len() >= KEYS_MAX {
            return Err(KeyError::Full);
        }
        self.keys.push(Key::new(key)?);
        Ok(())
    }

    /// Makes a key of the ring the primary.
    ///
    /// # Errors
    /// It is not in the ring.
    pub fn choose(&mut self, key: &[u8]) -> Result<(), KeyError> {
        let at = self.position(key).ok_or(KeyError::Unknown)?;
        self.keys[..=at].rotate_right(1);
        Ok(())
    }

    /// Takes a key out; one that is not there is gone already.
    ///
    /// # Errors
    /// It is the primary.
    pub fn remove(&mut self, key: &[u8]) -> Result<(), KeyError> {
        match self.position(key) {
            Some(0) => Err(KeyError::Primary),
            Some(at) => {
                self.keys.remove(at);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// How long a message of this length becomes.
    pub fn sealed_bytes(length: usize) -> usize {
        length + OVERHEAD_BYTES
    }

    /// Appends the message encrypted under the primary key: version, nonce, ciphertext, tag.
    pub fn seal(&self, message: &[u8], associated: &[u8], nonce: NonceBytes, to: &mut Vec<u8>) {
        to.push(VERSION);
        to.extend(nonce);
        let start = to.len();
        to.extend_from_slice(message);
        let tag = self.keys[0].cipher.seal(nonce, associated, &mut to[start..]);
        to.extend(tag.expect("a message is shorter than AES-GCM's 64 GiB"));
    }

    /// Whether this could be an encrypted message.
    pub fn may_be_sealed(bytes: &[u8]) -> bool {
        bytes.len() >= OVERHEAD_BYTES && bytes[0] <= VERSION
    }

    /// Decrypts with whichever key opens it.
    ///
    /// # Errors
    /// None does, or it is not an encrypted message.
    pub fn open(&self, sealed: &[u8], associated: &[u8]) -> Result<Vec<u8>, KeyError> {
        let (&version, rest) = sealed.split_first().ok_or(KeyError::Plain)?;
        let (nonce, cipher) = rest.split_first_chunk::<NONCE_LEN>().ok_or(KeyError::Plain)?;
        if version > VERSION || cipher.len() < TAG_BYTES {
            return Err(KeyError::Plain);
        }
        let mut plain = Vec::with_capacity(cipher.len());
        for key in &self.keys {
            plain.clear();
            plain.extend_from_slice(cipher);
            let Some(length) = key.cipher.open(*nonce, associated, &mut plain) else { continue };
            plain.truncate(length);
            if version == VERSION_PADDED {
                let padding = usize::from(plain.last().copied().unwrap_or(0));
                let length = length.checked_sub(padding).filter(|_| (1..=16).contains(&padding));
                plain.truncate(length.ok_or(KeyError::Plain)?);
            }
            return Ok(plain);
        }
        Err(KeyError::Sealed)
    }
}
