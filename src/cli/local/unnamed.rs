//! Servers that listen at addresses of their own and at no `local:`, in the background or of rpc: a file each, named by the
//! process.

use std::io;

use super::Registration;
use crate::cli::endpoint::Pillar;
use crate::cli::settings::Home;
use crate::presence::{self, Presence};

/// What the names of the files end in.
const EXTENSION: &str = "pid";

/// Leaves word of this process until the returned value is dropped.
///
/// # Errors
/// The directory or the file cannot be written.
pub fn post(home: &Home, pillar: Pillar, registration: &Registration) -> io::Result<Presence> {
    let folder = home.runtime.join(pillar.name());
    presence::create(&folder)?;
    presence::check(&folder)?;
    let path = folder.join(format!("{}.{EXTENSION}", registration.pid));
    Presence::post(&path, &serde_json::to_vec(registration)?)
}

/// What those of a pillar say that run; of a directory that others can write, nothing.
pub fn all(home: &Home, pillar: Pillar) -> Vec<Registration> {
    let words = presence::all(&home.runtime.join(pillar.name()), EXTENSION).unwrap_or_default();
    words.iter().filter_map(|word| serde_json::from_slice(&word.text).ok()).collect()
}
