//! TLS by rustls with ring: what a client trusts, what a server shows, from files.
//!
//! The provider is passed to every configuration; nothing process-wide is touched.

mod certificate;
mod files;
mod self_signed;
mod trust;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Stream;
use super::stream::Kind;

pub use certificate::Certificate;
pub use self_signed::SelfSigned;

/// ALPN's word for HTTP/2.
pub const ALPN_H2: &[u8] = b"h2";
/// ALPN's word for HTTP/1.1.
pub const ALPN_HTTP11: &[u8] = b"http/1.1";

/// A certificate or key that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The operating system's word.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// The operating system's word.
        source: io::Error,
    },
    /// The file does not hold what it should.
    #[error("{} holds no {expected}{hint}", path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
        /// What is there instead, if that is known.
        hint: &'static str,
    },
    /// The file is damaged.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key is another certificate's.
    #[error("the key in {} does not belong to the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// Which certificate.
        certificate: PathBuf,
        /// Which key.
        key: PathBuf,
    },
    /// The certificate's time is over, or has not come.
    #[error("the certificate in {} {when}", path.display())]
    Time {
        /// Which file.
        path: PathBuf,
        /// `expired on …`, `is not valid before …`.
        when: String,
    },
    /// This system has no certificate authorities.
    #[error("this system trusts no certificate authority: {0}")]
    NoSystemRoots(String),
    /// A name that no certificate can have.
    #[error("{0:?} is not a host name that a certificate could carry")]
    ServerName(String),
    /// rustls refuses the rest.
    #[error("TLS cannot be set up: {0}")]
    Other(String),
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        Self::Other(error.to_string())
    }
}

/// What an HTTP library that speaks TLS itself is given: rustls with ring, and whom to trust, which is the authorities in
/// the file `ca` or without it the system's. Reading these takes a while: where TLS is not `used`, nobody is trusted.
///
/// # Errors
/// A file that is missing or damaged; a system that has no authorities.
pub fn for_http(ca: Option<&Path>, used: bool) -> Result<ClientConfig, TlsError> {
    let roots = if used { trust::roots(ca)? } else { rustls::RootCertStore::empty() };
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A certificate with its chain and its key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// Certificate, then the chain.
    pub certificate: PathBuf,
    /// The private key; may be the same file.
    pub key: PathBuf,
}

/// What a client trusts and shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsClientOptions {
    /// Trust the authorities in this file and no others; without it those of the system.
    pub ca: Option<PathBuf>,
    /// The client's own certificate, for servers that ask.
    pub identity: Option<IdentityFiles>,
    /// Trust anybody.
    pub insecure: bool,
    /// The name to ask for and to verify instead of the host's.
    pub server_name: Option<String>,
    /// Protocols to offer, the favourite first.
    pub alpn: Vec<Vec<u8>>,
}

/// A client's side of TLS. Clones share one configuration.
#[derive(Debug, Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    server_name: Option<String>,
}

impl TlsClient {
    /// Reads the files. The system's authorities are read only if they are needed, because that takes a while.
    ///
    /// # Errors
    /// Files that are missing, damaged or do not fit each other.
    pub fn new(options: &TlsClientOptions) -> Result<Self, TlsError> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::from)?;
        let builder = if options.insecure {
            builder.dangerous().with_custom_certificate_verifier(trust::anybody(provider))
        } else {
            builder.with_root_certificates(trust::roots(options.ca.as_deref())?)
        };
        let mut config = match &options.identity {
            Some(identity) => {
                let (chain, key) = files::identity(identity)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| files::explain_identity(error, identity))?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&options.alpn);
        Ok(Self { config: Arc::new(config), server_name: options.server_name.clone() })
    }

    /// The same with other protocols to offer.
    #[must_use]
    pub fn with_alpn(&self, protocols: &[&[u8]]) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Self { config: Arc::new(config), server_name: self.server_name.clone() }
    }

    pub(super) fn name_for(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        let name = self.server_name.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName(name.to_owned()))
    }

    pub(super) async fn handshake(&self, stream: Stream, name: ServerName<'static>) -> io::Result<Stream> {
        let connector = tokio_rustls::TlsConnector::from(self.config.clone());
        let stream = connector.connect(name, stream).await?;
        Ok(Stream::new(Kind::Tls(Box::new(stream.into()))))
    }

    /// Speaks TLS over a stream that is already there, for protocols that begin it in the middle.
    ///
    /// # Errors
    /// The other end is not trusted, does not trust us, or speaks something else; [`fault`] tells which.
    pub async fn upgrade(&self, stream: Stream, host: &str) -> io::Result<Stream> {
        let name = self.name_for(host).map_err(io::Error::other)?;
        self.handshake(stream, name).await
    }
}

/// Whether clients must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// One that the authority signed, or no connection.
    Require,
    /// One that the authority signed, or none.
    Request,
}

/// What a server shows and asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsServerOptions {
    /// The certificate it shows.
    pub identity: Identity,
    /// Authorities that sign clients' certificates, and whether clients need one.
    pub client_ca: Option<(PathBuf, ClientAuth)>,
    /// Protocols to accept, the favourite first.
    pub alpn: Vec<Vec<u8>>,
}

/// Where a server's certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Files.
    Files(IdentityFiles),
    /// One made for this machine's loopback names. With a directory it is kept there, so that clients can be told
    /// to trust `cert.pem`; a valid one found there is used again.
    SelfSigned(Option<PathBuf>),
}

/// So much of what a refused client has already sent is read before it is left.
const REFUSED_BYTES_MAX: u64 = 64 * 1024;
/// So long is waited for it to leave by itself.
const REFUSED_WAIT: Duration = Duration::from_secs(1);

/// A server's side of TLS. Clones share one configuration.
#[derive(Debug, Clone)]
pub struct TlsServer {
    config: Arc<ServerConfig>,
    expires: Option<jiff::Timestamp>,
}

impl TlsServer {
    /// Reads or makes the certificate.
    ///
    /// # Errors
    /// Files that are missing, damaged, out of date or do not fit each other.
    pub fn new(options: &TlsServerOptions) -> Result<Self, TlsError> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::from)?;
        let builder = match &options.client_ca {
            None => builder.with_no_client_auth(),
            Some((path, wanted)) => {
                let roots = Arc::new(trust::roots_in(path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                let verifier = match wanted {
                    ClientAuth::Require => verifier,
                    ClientAuth::Request => verifier.allow_unauthenticated(),
                };
                builder.with_client_cert_verifier(
                    verifier.build().map_err(|error| TlsError::Other(error.to_string()))?,
                )
            }
        };
        let expires = |shown: Option<&CertificateDer<'_>>| Some(Certificate::read(shown?)?.not_after);
        let (mut config, expires) = match &options.identity {
            Identity::Files(identity) => {
                let (chain, key) = files::identity(identity)?;
                let expires = expires(chain.first());
                files::in_time(&chain, &identity.certificate)?;
                let config = builder
                    .with_single_cert(chain, key)
                    .map_err(|error| files::explain_identity(error, identity))?;
                (config, expires)
            }
            Identity::SelfSigned(directory) => {
                let made = SelfSigned::get(directory.as_deref())?;
                let expires = expires(Some(&made.certificate));
                let config =
                    builder.with_single_cert(vec![made.certificate], made.key).map_err(TlsError::from)?;
                (config, expires)
            }
        };
        config.alpn_protocols.clone_from(&options.alpn);
        Ok(Self { config: Arc::new(config), expires })
    }

    /// When the certificate runs out.
    pub fn expires(&self) -> Option<jiff::Timestamp> {
        self.expires
    }

    /// Answers a client's handshake. Give it a deadline: a client may be silent for ever.
    ///
    /// # Errors
    /// The client speaks something else, or shows no certificate where one is required; [`fault`] tells which.
    pub async fn accept(&self, stream: Stream) -> io::Result<Stream> {
        let accepting = tokio_rustls::TlsAcceptor::from(self.config.clone()).accept(stream);
        match accepting.into_fallible().await {
            Ok(stream) => Ok(Stream::new(Kind::Tls(Box::new(stream.into())))),
            Err((error, mut stream)) => {
                // The client may have begun to talk. Closing on unread bytes would take back the alert that
                // tells it why.
                let rest = async {
                    stream.shutdown().await?;
                    tokio::io::copy(&mut stream.take(REFUSED_BYTES_MAX), &mut tokio::io::sink()).await
                };
                let _ = tokio::time::timeout(REFUSED_WAIT, rest).await;
                Err(error)
            }
        }
    }
}

/// What was wrong in a handshake, as far as the person in front of it can do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nobody we trust signed the certificate.
    Untrusted,
    /// The certificate is for another name.
    WrongName,
    /// The certificate's time is over or has not come.
    OutOfDate,
    /// The other end does not speak TLS.
    NotTls,
    /// The other end wants a certificate of ours, or another one.
    OurCertificate,
    /// The other end does not trust the certificate that we show.
    DistrustsUs,
    /// No protocol in common.
    NoCommonProtocol,
}

/// Finds what was wrong in a handshake's error.
pub fn fault(error: &io::Error) -> Option<Fault> {
    use rustls::{AlertDescription as Alert, CertificateError as Bad, Error as E, InvalidMessage};
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        E::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => Some(Fault::Untrusted),
        E::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            Some(Fault::WrongName)
        }
        E::InvalidCertificate(
            Bad::Expired | Bad::ExpiredContext { .. } | Bad::NotValidYet | Bad::NotValidYetContext { .. },
        ) => Some(Fault::OutOfDate),
        E::InvalidMessage(InvalidMessage::InvalidContentType) => Some(Fault::NotTls),
        E::NoCertificatesPresented => Some(Fault::OurCertificate),
        E::AlertReceived(
            Alert::CertificateRequired
            | Alert::CertificateUnknown
            | Alert::BadCertificate
            | Alert::DecryptError
            | Alert::AccessDenied,
        ) => Some(Fault::OurCertificate),
        E::AlertReceived(Alert::UnknownCA) => Some(Fault::DistrustsUs),
        E::AlertReceived(Alert::NoApplicationProtocol) | E::NoApplicationProtocol => {
            Some(Fault::NoCommonProtocol)
        }
        _ => None,
    }
}

/// True if the other end said why it ends the connection.
pub(super) fn is_alert(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::AlertReceived(_)))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
