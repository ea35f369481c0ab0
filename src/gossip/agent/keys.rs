//! The keys of the cluster in a file: one in base64, or a JSON list with the primary first, as Serf's keyring file.

use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::gossip::wire::{KEY_BYTES, KeyError, Keyring};

/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Where keys are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    path: PathBuf,
    /// A list can hold what is installed later; a single key is left as it is.
    is_list: bool,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's word.
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("{path} has no key, and no JSON list of keys: {why}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// A key in base64.
///
/// # Errors
/// It is not one.
pub fn decode_key(text: &str) -> Result<Vec<u8>, String> {
    let key = BASE64_STANDARD.decode(text.trim()).map_err(|_| {
        // Which letter is wrong is left out: it is of a secret.
        "a key is 16, 24 or 32 bytes in base64, and this is not base64".to_owned()
    })?;
    match KEY_BYTES.contains(&key.len()) {
        true => Ok(key),
        false => Err(KeyError::Length(key.len()).to_string()),
    }
}

impl KeyFile {
    /// Reads keys.
    ///
    /// # Errors
    /// The file cannot be read, or has no keys.
    pub fn read(path: &Path) -> Result<(Self, Keyring), KeyFileError> {
        let failed = |source| KeyFileError::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
            return Err(failed(std::io::Error::other("it is too long")));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let wrong = |why: String| KeyFileError::Format { path: path.to_owned(), why };
        let is_list = text.trim_start().starts_with('[');
        let words: Vec<String> = match is_list {
            true => serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?,
            false => vec![text.trim().to_owned()],
        };
        let mut keyring: Option<Keyring> = None;
        for word in &words {
            let key = decode_key(word).map_err(wrong)?;
            match &mut keyring {
                None => keyring = Some(Keyring::new(&key).map_err(|error| wrong(error.to_string()))?),
                Some(keyring) => keyring.install(&key).map_err(|error| wrong(error.to_string()))?,
            }
        }
        let keyring = keyring.ok_or_else(|| wrong("it is empty".to_owned()))?;
        Ok((Self { path: path.to_owned(), is_list }, keyring))
    }

    /// Writes the keys that are in use now, if the file can hold them.
    pub(super) fn write(&self, keyring: &Keyring) -> std::io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt as _;
        if !self.is_list {
            return Ok(());
        }
        let keys: Vec<String> = keyring.keys().map(|key| BASE64_STANDARD.encode(key)).collect();
        let text = serde_json::to_string_pretty(&keys)?;
        let new = self.path.with_extension("new");
        let mut file = std::fs::OpenOptions::new();
        let mut file = file.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        std::fs::rename(new, &self.path)
    }
}
