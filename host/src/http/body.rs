//! Bodies that are being read or published: within a time, and of all of them together only so many and so many
//! bytes, however many clients send slowly. Where there is no room for one that comes, the slowest gives its own up.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::problem::Problem;
use super::waiting::Waiting;

/// Bytes of all bodies under way, or four of the largest if that is more. What holds them takes up to twice that.
const BYTES: usize = 64 << 20;
/// How long a body waits for the room that others are to give up, and for that of one before the next is cut.
const ROOM: Duration = Duration::from_secs(1);
const GIVEN_UP: Duration = Duration::from_millis(50);

#[derive(Clone)]
pub(super) struct Bodies {
    limit: usize,
    timeout: Duration,
    /// Fewer than connections: what is left answers probes and reads.
    pub(super) slots: Arc<Semaphore>,
    pub(super) bytes: Arc<Semaphore>,
    /// Those that are being read.
    waiting: Waiting,
}

/// A whole body; its share of the bounds ends with it.
pub(super) struct Taken {
    pub(super) bytes: Bytes,
    _slot: OwnedSemaphorePermit,
    _share: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    /// Each of at most `limit` bytes, complete within `timeout`.
    pub(super) fn new(limit: usize, timeout: Duration, most: usize) -> Self {
        let bytes = Arc::new(Semaphore::new(room(limit)));
        Self { limit, timeout, slots: Arc::new(Semaphore::new(most)), bytes, waiting: Waiting::default() }
    }

    /// For a plan that takes this one's place: what is being read counts on, unless the limit asks for other room.
    pub(super) fn succeed(&self, limit: usize, timeout: Duration) -> Self {
        let bytes = if room(limit) == room(self.limit) {
            self.bytes.clone()
        } else {
            Arc::new(Semaphore::new(room(limit)))
        };
        Self { limit, timeout, slots: self.slots.clone(), bytes, waiting: self.waiting.clone() }
    }

    /// All of the body, or the problem. A body that is too large, or for which there is no room, is read to its end
    /// all the same (up to a point), and thrown away: closing on a client that still sends would reset the
    /// connection before it reads why. Of more bodies than there are slots for, that is the price.
    pub(super) async fn read(&self, request: &HeaderMap, mut body: Body) -> Result<Taken, Problem> {
        let Self { limit, timeout, .. } = *self;
        let too_large = || {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large")
                .detail(format!("At most {limit} bytes are taken."))
                .close()
        };
        let most_discarded = limit.saturating_mul(4).max(16 << 20);
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > limit && (request.contains_key(header::EXPECT) || announced > most_discarded) {
            return Err(too_large());
        }
        let slot = self.room(&self.slots, 1).await.ok_or_else(no_room)?;
        let wait = self.waiting.begin();
        // Until there is no room for more, or it is too large.
        let mut kept = Some((BytesMut::new(), None::<OwnedSemaphorePermit>));
        let mut read = 0;
        let reading = async {
            while let Some(frame) = body.frame().await {
                let Ok(bytes) = frame?.into_data() else { continue };
                read += bytes.len();
                if read > most_discarded {
                    break;
                }
                let Some((whole, share)) = kept.as_mut().filter(|_| read <= limit) else {
                    kept = None;
                    continue;
                };
                match (self.room(&self.bytes, bytes.len()).await, share) {
                    (None, _) => kept = None,
                    (Some(more), Some(share)) => {
                        share.merge(more);
                        whole.extend_from_slice(&bytes);
                    }
                    (Some(more), share) => {
                        *share = Some(more);
                        whole.extend_from_slice(&bytes);
                    }
                }
            }
            Ok::<_, axum::Error>(())
        };
        let outcome = tokio::select! {
            biased;
            outcome = tokio::time::timeout(timeout, reading) => outcome,
            () = wait.cut() => return Err(cut()),
        };
        drop(wait);
        match (outcome, kept) {
            _ if read > limit => Err(too_large()),
            (Ok(Ok(())), Some((bytes, share))) => {
                Ok(Taken { bytes: bytes.freeze(), _slot: slot, _share: share })
            }
            (Ok(Ok(())) | Err(_), None) => Err(no_room()),
            (Ok(Err(error)), _) => Err(Problem::new(StatusCode::BAD_REQUEST, "body", "The body broke off")
                .detail(error.to_string())
                .close()),
            (Err(_elapsed), Some(_)) => {
                Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "slow-body", "The body took too long")
                    .detail(format!("It must be complete within {} ms.", timeout.as_millis()))
                    .close())
            }
        }
    }
}

impl Bodies {
    /// So many of the permits; if there are too few, those of the bodies that have been read longest.
    async fn room(&self, of: &Arc<Semaphore>, many: usize) -> Option<OwnedSemaphorePermit> {
        let many = u32::try_from(many).ok()?;
        if let Ok(room) = of.clone().try_acquire_many_owned(many) {
            return Some(room);
        }
        let until = Instant::now() + ROOM;
        while self.waiting.cut_longest() && Instant::now() < until {
            let room = tokio::time::timeout(GIVEN_UP, of.clone().acquire_many_owned(many)).await;
            if let Ok(Ok(room)) = room {
                return Some(room);
            }
        }
        None
    }
}

/// Bytes of all bodies, each of at most `limit`.
fn room(limit: usize) -> usize {
    BYTES.max(limit.saturating_mul(4))
}

fn cut() -> Problem {
    Problem::new(StatusCode::REQUEST_TIMEOUT, "slow-body", "The body took too long")
        .detail("So many bodies are under way that the slowest had to give way. Nothing was published.")
        .close()
}

fn no_room() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Too many bodies are under way")
        .detail("Nothing was published.")
        .retry_after(1)
        .close()
}
