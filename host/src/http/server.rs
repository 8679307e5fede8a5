//! Connections: accepted up to a cap, each with a deadline for its headers and for every write, drained at the
//! end.
//!
//! Where the cap is reached and one more comes, the connection that has waited longest for its client's next request, or
//! for the rest of its headers, is closed: so clients that connect and say nothing keep nobody out.
//!
//! The newest [`App`] answers each request, also on connections that were there before it: a reload of pipeline.toml
//! closes none.
//!
//! hyper-util instead of `axum::serve`, which has no header-read timeout: a client that sends its headers
//! a byte a minute would hold a connection for ever.

use std::future::Future;
use std::io;
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
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::App;
use super::stream::Stream;
use super::waiting::{Wait, Waiting};

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
    let waiting = Waiting::default();
    let graceful = GracefulShutdown::new();
    // Owns every connection's task: dropping it ends them.
    let mut connections = JoinSet::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).max_header_size(MAX_HEADER_BYTES).max_buf_size(MAX_BUFFER);

    let mut shutdown = pin!(shutdown);
    // One that has no slot yet; the others are in the backlog meanwhile.
    let mut accepted = None;
    let reason = loop {
        let slot = tokio::select! {
            reason = &mut shutdown => break reason,
            Some(_) = connections.join_next() => continue,
            new = listener.accept(), if accepted.is_none() => {
                match new {
                    Ok(new) => accepted = Some(new),
                    Err(error) if concerns_one_connection(&error) => {}
                    Err(error) => {
                        // Out of file descriptors, mostly: connections that end free some.
                        tracing::warn!(%error, "can't accept a connection");
                        waiting.cut_longest();
                        tokio::select! {
                            reason = &mut shutdown => break reason,
                            () = tokio::time::sleep(Duration::from_millis(100)) => {}
                        }
                    }
                }
                continue;
            }
            slot = slot(&slots, &waiting), if accepted.is_some() => slot,
        };
        let (Some((stream, peer)), Some(slot)) = (accepted.take(), slot) else { continue };
        if stream.set_nodelay(true).is_err() {
            // It is closed already.
            continue;
        }
        let now = newest();
        let stream = TokioIo::new(Stream::new(stream, now.write_timeout));
        let apps = app.clone();
        let turn = Arc::new(Turn::new(&waiting));
        let its_turn = turn.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            its_turn.of_the_host();
            request.extensions_mut().insert(ConnectInfo(peer));
            let router = apps.borrow().router.clone();
            let answer = TowerToHyperService::new(router).call(request);
            let turn = its_turn.clone();
            async move {
                let answer = answer.await;
                turn.of_the_client();
                answer
            }
        });
        let connection = http.header_read_timeout(now.header_timeout).serve_connection(stream, service);
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended early");
                },
                () = turn.is_over() => tracing::debug!(%peer, "closed to make room for another connection"),
            }
            drop(slot);
        });
    };

    drop(listener);
    newest().live.end();
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

/// One of the slots. While there is none, connections that wait for their clients are closed, one at a time.
async fn slot(slots: &Arc<Semaphore>, waiting: &Waiting) -> Option<OwnedSemaphorePermit> {
    loop {
        if let Ok(slot) = slots.clone().try_acquire_owned() {
            return Some(slot);
        }
        waiting.cut_longest();
        // None of them may have waited long enough by now.
        let slot = tokio::time::timeout(Duration::from_millis(50), slots.clone().acquire_owned()).await;
        if let Ok(slot) = slot {
            return slot.ok();
        }
    }
}

/// Whose turn it is on a connection. An answer counts as taken when it is made: a client that is slow to read it
/// is one that is waited for.
struct Turn {
    waiting: Waiting,
    wait: watch::Sender<Option<Arc<Wait>>>,
}

impl Turn {
    fn new(waiting: &Waiting) -> Self {
        Self { waiting: waiting.clone(), wait: watch::Sender::new(Some(Arc::new(waiting.begin()))) }
    }

    fn of_the_host(&self) {
        self.wait.send_replace(None);
    }

    fn of_the_client(&self) {
        self.wait.send_replace(Some(Arc::new(self.waiting.begin())));
    }

    /// Completes when it is the client's turn and its place is wanted.
    async fn is_over(&self) {
        let mut turns = self.wait.subscribe();
        loop {
            let wait = turns.borrow_and_update().clone();
            match wait {
                Some(wait) => tokio::select! {
                    // A request that is here is not cut off: it may be published already.
                    biased;
                    // Fails only when the sender is gone, and `self` holds it.
                    _ = turns.changed() => {}
                    () = wait.cut() => return,
                },
                None => {
                    let _ = turns.changed().await;
                }
            }
        }
    }
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
