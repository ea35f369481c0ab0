//! Handshakes between both sides, over pipes.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::transport::{Address, ConnectOptions, Error, Listener, mem};

/// An authority and the files it has signed.
struct Authority {
    directory: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { directory, issuer }
    }

    fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    fn sign(&self, name: &str, edit: impl FnOnce(&mut CertificateParams)) -> IdentityFiles {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = IdentityFiles {
            certificate: self.directory.path().join(format!("{name}.pem")),
            key: self.directory.path().join(format!("{name}-key.pem")),
        };
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}

fn server_of(identity: IdentityFiles) -> TlsServerOptions {
    TlsServerOptions { identity: Identity::Files(identity), client_ca: None, alpn: Vec::new() }
}

/// Both ends of one handshake. The client's host is `localhost`.
async fn handshake(
    server: &TlsServerOptions,
    client: &TlsClientOptions,
) -> (io::Result<Stream>, Result<Stream, Error>) {
    let server = TlsServer::new(server).unwrap();
    let options = ConnectOptions { tls: Some(TlsClient::new(client).unwrap()), ..ConnectOptions::default() };
    let address = Address::Mem(mem::Network::new(1).name("server"));
    let listener = Listener::bind(&address).await.unwrap();
    let accept = async { server.accept(listener.accept().await?).await };
    let (accepted, connected) = tokio::join!(accept, Stream::connect_with(&address, &options));
    (accepted, connected)
}

fn fault_of(result: Result<Stream, Error>) -> Option<Fault> {
    match result {
        Err(Error::Tls { source, .. }) => fault(&source),
        other => panic!("expected a TLS failure, got {other:?}"),
    }
}

#[tokio::test]
async fn both_ends_verify_each_other_and_agree_on_a_protocol() {
    let authority = Authority::new();
    let mut server = server_of(authority.sign("server", |_| {}));
    server.client_ca = Some((authority.ca(), ClientAuth::Require));
    server.alpn = vec![ALPN_H2.to_vec(), ALPN_HTTP11.to_vec()];
    let client = TlsClientOptions {
        ca: Some(authority.ca()),
        identity: Some(authority.sign("bob", |_| {})),
        alpn: vec![ALPN_HTTP11.to_vec()],
        ..TlsClientOptions::default()
    };
    let (accepted, connected) = handshake(&server, &client).await;
    let (mut accepted, mut connected) = (accepted.unwrap(), connected.unwrap());
    assert!(accepted.is_tls() && connected.is_tls());
    assert_eq!(accepted.alpn(), Some(ALPN_HTTP11));
    assert_eq!(accepted.peer_certificate().unwrap().common_name.as_deref(), Some("bob"));
    assert_eq!(connected.peer_certificate().unwrap().common_name.as_deref(), Some("server"));

    connected.write_all(b"hello").await.unwrap();
    connected.flush().await.unwrap();
    assert_eq!(accepted.peek(2).await.unwrap(), b"hello");
    let mut hello = [0; 5];
    accepted.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"hello");
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_only_where_one_is_required() {
    let authority = Authority::new();
    let mut server = server_of(authority.sign("server", |_| {}));
    let client = TlsClientOptions { ca: Some(authority.ca()), ..TlsClientOptions::default() };

    server.client_ca = Some((authority.ca(), ClientAuth::Require));
    let (accepted, _) = handshake(&server, &client).await;
    assert_eq!(fault(&accepted.unwrap_err()), Some(Fault::OurCertificate));

    server.client_ca = Some((authority.ca(), ClientAuth::Request));
    let (accepted, connected) = handshake(&server, &client).await;
    assert_eq!(accepted.unwrap().peer_certificate(), None);
    connected.unwrap();
}

#[tokio::test]
async fn distrust_is_told_apart() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let trusting = |ca: PathBuf| TlsClientOptions { ca: Some(ca), ..TlsClientOptions::default() };

    let server = server_of(authority.sign("server", |_| {}));
    let (_, unknown) = handshake(&server, &trusting(stranger.ca())).await;
    assert_eq!(fault_of(unknown), Some(Fault::Untrusted));

    let elsewhere =
        TlsClientOptions { server_name: Some("example.org".to_owned()), ..trusting(authority.ca()) };
    let (_, wrong) = handshake(&server, &elsewhere).await;
    assert_eq!(fault_of(wrong), Some(Fault::WrongName));

    let careless = TlsClientOptions { insecure: true, ..elsewhere };
    let (_, connected) = handshake(&server, &careless).await;
    connected.unwrap();
}

#[tokio::test]
async fn a_server_without_tls_is_recognised() {
    let address = Address::Mem(mem::Network::new(1).name("plain"));
    let listener = Listener::bind(&address).await.unwrap();
    let tls = TlsClient::new(&TlsClientOptions { insecure: true, ..TlsClientOptions::default() }).unwrap();
    let options = ConnectOptions { tls: Some(tls), ..ConnectOptions::default() };
    let plain = async {
        let mut stream = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream
    };
    let (_, result) = tokio::join!(plain, Stream::connect_with(&address, &options));
    assert_eq!(fault_of(result), Some(Fault::NotTls));
}

#[tokio::test]
async fn a_development_certificate_is_kept_and_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let kept = directory.path().join("tls");
    let server = TlsServerOptions {
        identity: Identity::SelfSigned(Some(kept.clone())),
        client_ca: None,
        alpn: Vec::new(),
    };
    for _ in 0..2 {
        for name in ["localhost", "127.0.0.1", "::1"] {
            let client = TlsClientOptions {
                ca: Some(kept.join("cert.pem")),
                server_name: Some(name.to_owned()),
                ..TlsClientOptions::default()
            };
            let (_, connected) = handshake(&server, &client).await;
            connected.unwrap();
        }
    }
    let first = SelfSigned::get(Some(&kept)).unwrap().certificate;
    assert_eq!(SelfSigned::get(Some(&kept)).unwrap().certificate, first);
    assert_ne!(SelfSigned::get(None).unwrap().certificate, first);
}

#[test]
fn every_wrong_file_has_its_own_answer() {
    let authority = Authority::new();
    let good = authority.sign("good", |_| {});
    let other = authority.sign("other", |_| {});
    let expired = authority.sign("expired", |params| params.not_after = rcgen::date_time_ymd(2001, 2, 3));
    let early = authority.sign("early", |params| params.not_before = rcgen::date_time_ymd(2999, 1, 1));
    let path = |name: &str, text: &str| {
        let path = authority.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let encrypted =
        path("enc", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let damaged = path("damaged", "-----BEGIN CERTIFICATE-----\n****\n-----END CERTIFICATE-----\n");
    let cut = path("cut", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    let prose = path("prose", "hello\n");
    let with = |certificate: &PathBuf, key: &PathBuf| {
        let files = IdentityFiles { certificate: certificate.clone(), key: key.clone() };
        TlsServer::new(&server_of(files)).unwrap_err().to_string()
    };
    let absent = authority.directory.path().join("absent");
    for (message, expected) in [
        (with(&absent, &good.key), "cannot read"),
        (with(&good.certificate, &absent), "cannot read"),
        (with(&good.key, &good.key), "holds no certificate; it is a private key"),
        (
            with(&good.certificate, &good.certificate),
            "holds no private key that can be read; it is a certificate",
        ),
        (with(&good.certificate, &encrypted), "decrypt it with 'openssl pkey"),
        (with(&prose, &good.key), "it is not PEM"),
        (with(&damaged, &good.key), "is damaged"),
        (with(&cut, &good.key), "is damaged"),
        (with(&good.certificate, &other.key), "does not belong to the certificate"),
        (with(&expired.certificate, &expired.key), "expired on 2001-02-03"),
        (with(&early.certificate, &early.key), "is not valid before 2999-01-01"),
    ] {
        assert!(message.contains(expected), "{message:?} does not say {expected:?}");
    }
}
