//! Certificates and keys in PEM files, with an answer for every way in which they can be wrong.

use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{Certificate, IdentityFiles, TlsError, read};

/// The chain and the key of `files`.
pub(super) fn identity(
    files: &IdentityFiles,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    Ok((certificates(&files.certificate)?, key(&files.key)?))
}

/// All certificates in a file: at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| damaged(path, &error))?;
    if found.is_empty() {
        return Err(TlsError::Missing {
            path: path.to_owned(),
            expected: "certificate",
            hint: instead(&text),
        });
    }
    Ok(found)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path)?;
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(TlsError::Missing {
            path: path.to_owned(),
            expected: "private key that can be read",
            hint: instead(&text),
        }),
        Err(error) => Err(damaged(path, &error)),
    }
}

fn damaged(path: &Path, error: &pem::Error) -> TlsError {
    TlsError::Damaged { path: path.to_owned(), reason: error.to_string() }
}

/// What a file holds that does not hold what it should.
fn instead(text: &[u8]) -> &'static str {
    let holds = |label: &str| text.windows(label.len()).any(|window| window == label.as_bytes());
    if holds("-----BEGIN ENCRYPTED PRIVATE KEY-----") || holds("Proc-Type: 4,ENCRYPTED") {
        "; its key is encrypted: decrypt it with 'openssl pkey -in FILE -out PLAIN'"
    } else if holds("-----BEGIN OPENSSH PRIVATE KEY-----") {
        "; it is an SSH key"
    } else if holds("PRIVATE KEY-----") {
        "; it is a private key"
    } else if holds("-----BEGIN CERTIFICATE REQUEST-----") {
        "; it is a certificate request"
    } else if holds("-----BEGIN CERTIFICATE-----") {
        "; it is a certificate"
    } else if text.first() == Some(&0x30) {
        "; it looks like DER: convert it with 'openssl x509 -inform der' or 'openssl pkey -inform der'"
    } else {
        "; it is not PEM"
    }
}

/// Refuses a certificate that no client would accept today.
pub(super) fn in_time(chain: &[CertificateDer<'_>], path: &Path) -> Result<(), TlsError> {
    let Some(certificate) = chain.first().and_then(|der| Certificate::read(der)) else { return Ok(()) };
    let now = jiff::Timestamp::now();
    let when = if now > certificate.not_after {
        format!("expired on {}", certificate.not_after)
    } else if now < certificate.not_before {
        format!("is not valid before {}", certificate.not_before)
    } else {
        return Ok(());
    };
    Err(TlsError::Time { path: path.to_owned(), when })
}

/// rustls' word on a certificate and key that do not go together.
pub(super) fn explain_identity(error: rustls::Error, files: &IdentityFiles) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Mismatch { certificate: files.certificate.clone(), key: files.key.clone() }
        }
        rustls::Error::InvalidCertificate(error) => {
            TlsError::Damaged { path: files.certificate.clone(), reason: format!("{error:?}") }
        }
        rustls::Error::General(reason) => TlsError::Damaged { path: files.key.clone(), reason },
        other => TlsError::from(other),
    }
}
