//! Listeners, the ready lines and the end of a server.

use std::sync::Arc;

use super::Args;
use crate::cli::app::App;
use crate::cli::exit::Exit;
use crate::rpc::backend::Peer;
use crate::rpc::health::HealthState;
use crate::rpc::server::Server;
use crate::shutdown::Shutdown;
use crate::transport::{Acceptor, Address, Listener, Stream};

/// gRPC's own port in all of its examples.
const PORT: u16 = 50051;

/// Serves until a signal.
///
/// # Errors
/// An address that cannot be had.
pub async fn serve(
    args: &Args,
    app: &App,
    server: &Arc<Server>,
    health: &HealthState,
    shutdown: &Shutdown,
) -> anyhow::Result<Exit> {
    let default = [Address::tcp("127.0.0.1", PORT)];
    let addresses = if args.listen.is_empty() { &default[..] } else { &args.listen };
    let acceptor = Acceptor::default();
    for address in addresses {
        let listener = Listener::bind(address).await?;
        let url = match listener.address()? {
            Address::Unix(path) => format!("unix:{}", path.display()),
            address => format!("grpc://{address}"),
        };
        let server = Arc::clone(server);
        let serve = move |stream: Stream| {
            let peer = Arc::new(Peer { address: stream.peer().to_string(), tls_subject: None });
            let server = Arc::clone(&server);
            async move { server.serve_connection(stream, peer).await }
        };
        shutdown.spawn(acceptor.clone().run(listener, shutdown.clone(), serve));
        app.printer.line(&url)?;
    }
    app.printer.flush()?;
    let signal = crate::cli::signals::interrupted().await;
    tracing::debug!(signal, "stopping");
    health.shut_down();
    shutdown.finish(args.grace).await;
    Ok(Exit::Done)
}
