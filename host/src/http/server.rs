//! Connections: accepted up to a cap, each with a deadline for its headers and for every write, drained at the
//! end.
//!
//! The newest [`App`] answers each request, also on connections that were there before it: a reload of pipeline.toml
//! closes none.
//!
//! hyper-util instead of `axum::serve`, which has no header-read timeout: a client that sends its headers
//! a byte a minute would hold a connection for ever.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::App;
use super::stream::Stream;

/// Request line and headers; more gets 431.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// What a connection has read and nobody has taken yet.
const MAX_BUFFER: usize = 64 * 1024;
/// How long requests under way may take to end once the shutdown has begun.
const DRAIN: Duration = Duration::from_secs(5);

/// Why a listener closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Another one goes on with the same app.
    Moved,
    /// Nothing is taken any more: records on their way to the broker are waited for as well, also those whose clients
    /// have gone.
    Ended,
}

/// Serves until `shutdown` completes, then answers what is under way, for `DRAIN` at most, and closes.
pub async fn serve(
    listener: TcpListener,
    app: watch::Receiver<Arc<App>>,
    shutdown: impl Future<Output = Shutdown>,
) {
    let newest = || app.borrow().clone();
    let slots = Arc::new(Semaphore::new(newest().max_connections));
    let graceful = GracefulShutdown::new();
    // Owns every connection's task: dropping it ends them.
    let mut connections = JoinSet::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).max_header_size(MAX_HEADER_BYTES).max_buf_size(MAX_BUFFER);

    let mut shutdown = pin!(shutdown);
    let reason = loop {
        let accepted = tokio::select! {
            reason = &mut shutdown => break reason,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &slots) => accepted,
        };
        let (stream, peer, slot) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if concerns_one_connection(&error) => continue,
            Err(error) => {
                // Out of file descriptors, mostly: connections that end will free some.
                tracing::warn!(%error, "can't accept a connection");
                tokio::select! {
                    reason = &mut shutdown => break reason,
                    () = tokio::time::sleep(Duration::from_millis(100)) => continue,
                }
            }
        };
        let now = newest();
        let stream = TokioIo::new(Stream::new(stream, now.write_timeout));
        let apps = app.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            let router = apps.borrow().router.clone();
            TowerToHyperService::new(router).call(request)
        });
        let connection = http.header_read_timeout(now.header_timeout).serve_connection(stream, service);
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended early");
            }
            drop(slot);
        });
    };

    drop(listener);
    let drained = async {
        graceful.shutdown().await;
        match reason {
            Shutdown::Moved => {}
            Shutdown::Ended => newest().ingress.drained().await,
        }
    };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("requests were still under way {} s into the shutdown: cut off", DRAIN.as_secs());
    }
}

/// A slot first, so that a full house leaves clients in the backlog instead of accepting to refuse.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer, slot))
}

fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::InvalidInput
    )
}
