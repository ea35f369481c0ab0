//! The transport through real sockets: deadlines and back-off of dialling, permits, handshakes, drain, certificates.

use std::path::PathBuf;
use std::time::Duration;

use bandy::backoff::Backoff;
use bandy::shutdown::Shutdown;
use bandy::transport::tls::{
    ClientAuth, Fault, Identity, IdentityFiles, TlsClientOptions, TlsServerOptions, fault,
};
use bandy::transport::{Acceptor, Address, ConnectOptions, Error, Listener, Stream, TlsClient, TlsServer};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::support::{DEADLINE, Home};

/// Fails a test instead of letting it hang.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("it takes too long")
}

/// An accept loop that answers every byte, and tells of each connection that it serves.
struct Echo {
    address: Address,
    life: Shutdown,
    acceptor: Acceptor,
    served: mpsc::Receiver<()>,
}

impl Echo {
    async fn starts(acceptor: Acceptor) -> Self {
        let listener = Listener::bind(&Address::tcp("127.0.0.1", 0)).await.unwrap();
        let (address, life) = (listener.address().unwrap(), Shutdown::new());
        let (serving, served) = mpsc::channel(100);
        let echo = move |mut stream: Stream| {
            let serving = serving.clone();
            async move {
                serving.send(()).await.unwrap();
                let mut byte = [0];
                while stream.read_exact(&mut byte).await.is_ok() && stream.write_all(&byte).await.is_ok() {
                    let _ = stream.flush().await;
                }
            }
        };
        life.spawn(acceptor.clone().run(listener, life.clone(), echo));
        Self { address, life, acceptor, served }
    }

    async fn connect(&self) -> Stream {
        soon(Stream::connect(&self.address)).await.unwrap()
    }
}

/// Says a byte and hears it again.
async fn talks(stream: &mut Stream) {
    let mut byte = [0];
    soon(async {
        stream.write_all(b"x").await.unwrap();
        stream.flush().await.unwrap();
        stream.read_exact(&mut byte).await.unwrap();
    })
    .await;
    assert_eq!(&byte, b"x");
}

/// An address at which nobody listens.
fn nobody() -> (Address, u16) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    (Address::tcp("127.0.0.1", port), port)
}

#[tokio::test]
async fn a_server_that_never_answers_the_handshake_is_given_up_at_the_deadline() {
    // It accepts, by the kernel's queue, and says nothing.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::tcp("127.0.0.1", mute.local_addr().unwrap().port());
    let tls = TlsClient::new(&TlsClientOptions { insecure: true, ..TlsClientOptions::default() }).unwrap();
    let options = ConnectOptions { timeout: Duration::from_millis(100), tls: Some(tls) };
    let start = Instant::now();
    let error = soon(Stream::connect_with(&address, &options)).await.unwrap_err();
    assert!(matches!(&error, Error::Timeout { after, .. } if *after == options.timeout), "{error}");
    assert!(start.elapsed() >= options.timeout);
}

#[tokio::test]
async fn dialling_goes_on_until_somebody_listens_and_no_longer_than_the_deadline() {
    let backoff = Backoff { first: Duration::from_millis(5), max: Duration::from_millis(20) };
    let options = ConnectOptions::default();
    let (address, port) = nobody();
    let start = Instant::now();
    let deadline = start + Duration::from_millis(100);
    let error = soon(Stream::connect_until(&address, &options, backoff, 1, deadline)).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    // It gave up because the next attempt would have been too late, not at the first refusal.
    assert!(start.elapsed() >= Duration::from_millis(80), "{:?}", start.elapsed());

    let dialling = tokio::spawn(async move {
        Stream::connect_until(&address, &options, backoff, 1, Instant::now() + DEADLINE).await
    });
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    soon(dialling).await.unwrap().unwrap();
    drop(listener);
}

#[tokio::test]
async fn over_the_limit_the_next_is_served_when_one_has_left() {
    let mut echo = Echo::starts(Acceptor::new(2)).await;
    let (mut first, mut second, mut third) =
        (echo.connect().await, echo.connect().await, echo.connect().await);
    talks(&mut first).await;
    talks(&mut second).await;
    third.write_all(b"x").await.unwrap();
    soon(echo.served.recv()).await.unwrap();
    soon(echo.served.recv()).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(100), echo.served.recv()).await.is_err(), "no room");
    assert_eq!((echo.acceptor.door().open, echo.acceptor.door().open_max), (2, 2));
    drop(first);
    soon(echo.served.recv()).await.unwrap();
    soon(third.read_exact(&mut [0])).await.unwrap();
}

#[tokio::test]
async fn without_room_whoever_has_said_nothing_gives_way() {
    let mut echo = Echo::starts(Acceptor::new(2)).await;
    let mut silent = echo.connect().await;
    let mut first = echo.connect().await;
    talks(&mut first).await;
    // Long before the deadline of a handshake.
    let mut second = echo.connect().await;
    talks(&mut second).await;
    assert_eq!(soon(silent.read(&mut [0])).await.unwrap(), 0);
    assert_eq!((echo.acceptor.door().open, echo.acceptor.door().failed), (2, 1));
    // Whoever has said something stays, however many come.
    let mut third = echo.connect().await;
    third.write_all(b"x").await.unwrap();
    soon(echo.served.recv()).await.unwrap();
    soon(echo.served.recv()).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(1500), echo.served.recv()).await.is_err(), "no room");
    talks(&mut first).await;
    talks(&mut second).await;
}

#[tokio::test]
async fn who_says_nothing_is_left_at_the_deadline_of_the_handshake() {
    let echo = Echo::starts(Acceptor::default().with_handshake_timeout(Duration::from_millis(50))).await;
    let mut silent = echo.connect().await;
    assert_eq!(soon(silent.read(&mut [0])).await.unwrap(), 0);
    assert_eq!(echo.acceptor.door().failed, 1);
    // The deadline is of the handshake only: who has begun may pause.
    let mut slow = echo.connect().await;
    talks(&mut slow).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    talks(&mut slow).await;
}

#[tokio::test]
async fn a_drain_lets_nobody_in_and_waits_for_those_who_are() {
    let mut echo = Echo::starts(Acceptor::default()).await;
    let mut inside = echo.connect().await;
    talks(&mut inside).await;
    soon(echo.served.recv()).await.unwrap();
    echo.life.drain();
    // The listener is closed, sooner or later: then the kernel refuses.
    soon(async { while Stream::connect(&echo.address).await.is_ok() {} }).await;
    talks(&mut inside).await;
    assert!(!echo.life.finish(Duration::from_millis(50)).await, "one is still inside");
    // The grace is over.
    assert_eq!(soon(inside.read(&mut [0])).await.unwrap_or(0), 0);
}

/// An authority, and files of what it signs.
struct Authority {
    home: Home,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { home: Home::new(), issuer }
    }

    fn ca(&self) -> PathBuf {
        self.home.file("ca.pem", self.issuer.pem())
    }

    fn sign(&self, name: &str) -> IdentityFiles {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        IdentityFiles {
            certificate: self.home.file(&format!("{name}.pem"), certificate.pem()),
            key: self.home.file(&format!("{name}.key"), key.serialize_pem()),
        }
    }
}

#[tokio::test]
async fn a_client_shows_its_certificate_or_learns_that_it_has_to() {
    let authority = Authority::new();
    let server = TlsServer::new(&TlsServerOptions {
        identity: Identity::Files(authority.sign("server")),
        client_ca: Some((authority.ca(), ClientAuth::Require)),
        alpn: Vec::new(),
    });
    let echo = Echo::starts(Acceptor::default().with_tls(Some(server.unwrap()))).await;
    let client = |identity: Option<IdentityFiles>| {
        let tls = TlsClientOptions { ca: Some(authority.ca()), identity, ..TlsClientOptions::default() };
        ConnectOptions { tls: Some(TlsClient::new(&tls).unwrap()), ..ConnectOptions::default() }
    };
    let mut ada =
        soon(Stream::connect_with(&echo.address, &client(Some(authority.sign("ada"))))).await.unwrap();
    talks(&mut ada).await;
    // With TLS 1.3 the client is through before the server has looked at its certificate. However much it
    // talks: what it learns is the alert, not that the pipe is broken.
    for identity in [None, Some(Authority::new().sign("stranger"))] {
        let mut refused = soon(Stream::connect_with(&echo.address, &client(identity))).await.unwrap();
        let error = soon(async {
            loop {
                if let Err(error) = refused.write_all(&[0; 1000]).await {
                    return error;
                }
                if let Err(error) = refused.flush().await {
                    return error;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        let fault = fault(&error);
        assert!(matches!(fault, Some(Fault::OurCertificate | Fault::DistrustsUs)), "{error}: {fault:?}");
    }
}
