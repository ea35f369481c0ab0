//! A certificate for development: this machine's loopback names, signed by itself.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{IdentityFiles, TlsError, files};

/// The names it is good for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// How long it is good for: what browsers accept at most is 398 days.
const VALID_DAYS: i64 = 397;
const CERTIFICATE_FILE: &str = "cert.pem";
const KEY_FILE: &str = "key.pem";

/// A certificate and its key.
#[derive(Debug)]
pub struct SelfSigned {
    /// Also what a client has to trust.
    pub certificate: CertificateDer<'static>,
    /// The private key.
    pub key: PrivateKeyDer<'static>,
}

impl SelfSigned {
    /// The one kept in `directory`, or a new one, which is then kept there.
    ///
    /// # Errors
    /// Files that cannot be read or written; files there that are not a certificate and its key.
    pub fn get(directory: Option<&Path>) -> Result<Self, TlsError> {
        let Some(directory) = directory else { return Ok(make()?.0) };
        if let Some(kept) = find(directory)? {
            return Ok(kept);
        }
        let (made, certificate, key) = make()?;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| TlsError::Write { path: directory.to_owned(), source })?;
        write(&directory.join(KEY_FILE), 0o600, &key)?;
        write(&directory.join(CERTIFICATE_FILE), 0o644, &certificate)?;
        Ok(made)
    }
}

/// What is kept there and still in time.
fn find(directory: &Path) -> Result<Option<SelfSigned>, TlsError> {
    let paths =
        IdentityFiles { certificate: directory.join(CERTIFICATE_FILE), key: directory.join(KEY_FILE) };
    if !paths.certificate.exists() || !paths.key.exists() {
        return Ok(None);
    }
    let (mut chain, key) = files::identity(&paths)?;
    if files::in_time(&chain, &paths.certificate).is_err() {
        return Ok(None);
    }
    Ok(Some(SelfSigned { certificate: chain.swap_remove(0), key }))
}

fn make() -> Result<(SelfSigned, String, String), TlsError> {
    let other = |error: rcgen::Error| TlsError::Other(error.to_string());
    let key = KeyPair::generate().map_err(other)?;
    let mut params = CertificateParams::new(NAMES.map(str::to_owned)).map_err(other)?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "bandy development");
    params.distinguished_name = name;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let today = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date();
    // From yesterday, for clients whose clock is behind.
    let day = |later: i64| {
        let day = today.saturating_add(jiff::Span::new().days(later));
        // The date parts are in range by their types: month 1..=12, day 1..=31.
        rcgen::date_time_ymd(day.year().into(), day.month().unsigned_abs(), day.day().unsigned_abs())
    };
    params.not_before = day(-1);
    params.not_after = day(VALID_DAYS);
    let certificate = params.self_signed(&key).map_err(other)?;
    let (certificate_pem, key_pem) = (certificate.pem(), key.serialize_pem());
    let made = SelfSigned {
        certificate: certificate.der().clone(),
        key: PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|error| TlsError::Other(error.to_string()))?,
    };
    Ok((made, certificate_pem, key_pem))
}

fn write(path: &Path, mode: u32, text: &str) -> Result<(), TlsError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| TlsError::Write { path: path.to_owned(), source })
}
