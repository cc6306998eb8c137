//! The front door: a bounded number of connections, each with a bounded head, until it is told to stop.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use lockgate_durable::FileError;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// What a connection may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoorLimits {
    /// Open connections; further ones wait in the listening queue.
    pub connections_max: u32,
    /// How long the head of a request may take, from the connection or from the answer before it.
    pub head_timeout: Duration,
    /// How long open requests have to end when the service stops.
    pub shutdown: Duration,
    /// What one connection buffers, bytes.
    pub read_buffer_bytes: usize,
}

/// The service cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The file that tells the address.
    #[error(transparent)]
    PortFile(#[from] FileError),
}

/// Listens at an address and serves a router until SIGTERM or Ctrl-C. Says where, before the first request is taken.
pub fn run(
    address: SocketAddr,
    port_file: Option<&Path>,
    router: Router,
    limits: DoorLimits,
) -> anyhow::Result<()> {
    crate::command::runtime()?.block_on(async {
        let listener = listen(address, port_file).await?;
        let address = listener.local_addr()?;
        crate::command::say(&format!("listening on http://{address}\n"))?;
        tracing::info!(%address, "listening");
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let stop = async move {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            tracing::info!("stopping");
        };
        serve(listener, router, limits, stop).await;
        Ok(())
    })
}

/// Listens; writes the address to a file, whole or not at all, so that whoever waits for the file needs no second look.
pub async fn listen(address: SocketAddr, port_file: Option<&Path>) -> Result<TcpListener, ServeError> {
    let wrong = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(wrong)?;
    if let Some(file) = port_file {
        let bound = listener.local_addr().map_err(wrong)?;
        lockgate_durable::write_atomic(file, format!("{bound}\n").as_bytes())?;
    }
    Ok(listener)
}

/// Serves until `stop` is ready, then lets open requests end.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: DoorLimits,
    stop: impl Future<Output = ()>,
) {
    let mut http = http1::Builder::new();
    // A head that never ends does not hold a connection for ever.
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.read_buffer_bytes);
    let connections = Arc::new(Semaphore::new(limits.connections_max as usize));
    let open = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let accept = async {
            let permit = Arc::clone(&connections).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, stream) = tokio::select! {
            () = &mut stop => break,
            (permit, accepted) = accept => match accepted {
                Ok((stream, _)) => (permit, stream),
                Err(error) => {
                    // Too many open files, or a peer that is gone already; neither ends the service.
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let connection = open.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(limits.shutdown, open.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end in time and were cut off; their senders will repeat them");
    }
}
