//! Bodies that are being read or published: within a time, and of all of them together only so many and so many
//! bytes, however many clients send slowly.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;

/// Bytes of all bodies under way, or four of the largest if that is more. What holds them takes up to twice that.
const BYTES: usize = 64 << 20;

#[derive(Clone)]
pub(super) struct Bodies {
    limit: usize,
    timeout: Duration,
    /// Fewer than connections: what is left answers probes and reads.
    pub(super) slots: Arc<Semaphore>,
    pub(super) bytes: Arc<Semaphore>,
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
        Self { limit, timeout, slots: Arc::new(Semaphore::new(most)), bytes }
    }

    /// For a plan that takes this one's place: what is being read counts on, unless the limit asks for other room.
    pub(super) fn succeed(&self, limit: usize, timeout: Duration) -> Self {
        let bytes = if room(limit) == room(self.limit) {
            self.bytes.clone()
        } else {
            Arc::new(Semaphore::new(room(limit)))
        };
        Self { limit, timeout, slots: self.slots.clone(), bytes }
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
        let slot = self.slots.clone().try_acquire_owned().map_err(|_none| no_room())?;
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
                kept = kept.take().filter(|_| read <= limit).and_then(|(mut kept, mut share)| {
                    let more =
                        self.bytes.clone().try_acquire_many_owned(u32::try_from(bytes.len()).ok()?).ok()?;
                    match &mut share {
                        Some(share) => share.merge(more),
                        None => share = Some(more),
                    }
                    kept.extend_from_slice(&bytes);
                    Some((kept, share))
                });
            }
            Ok::<_, axum::Error>(())
        };
        let outcome = tokio::time::timeout(timeout, reading).await;
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

/// Bytes of all bodies, each of at most `limit`.
fn room(limit: usize) -> usize {
    BYTES.max(limit.saturating_mul(4))
}

fn no_room() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Too many bodies are under way")
        .detail("Nothing was published.")
        .retry_after(1)
        .close()
}
