//! Posting: so many requests at a time, at a rate or as fast as the host answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::StatusCode;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;

use crate::cli::host::Host;

pub(super) struct Posting {
    pub(super) host: Host,
    pub(super) resource: String,
    /// The property of the answer that holds the new key.
    pub(super) key: String,
    /// Each request takes one of them.
    pub(super) bodies: Vec<Bytes>,
    pub(super) seed: u32,
    /// Requests in all.
    pub(super) count: u32,
    /// Requests a second.
    pub(super) rate: Option<f64>,
    pub(super) answers: Sender<Answer>,
}

/// What the host said to one POST.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) started: Instant,
    pub(super) took: Duration,
    /// The new key; or why there is none, for people.
    pub(super) key: Result<Bytes, String>,
}

impl Posting {
    /// Until all is posted, or nobody waits for the answers any more.
    pub(super) async fn run(self, parallel: u16) {
        let posting = Arc::new(self);
        let next = Arc::new(AtomicU64::new(0));
        let begin = Instant::now();
        let mut workers = JoinSet::new();
        for _ in 0..parallel {
            workers.spawn(posting.clone().work(next.clone(), begin));
        }
        tokio::select! {
            _all_posted = workers.join_all() => {}
            () = posting.answers.closed() => {}
        }
    }

    async fn work(self: Arc<Self>, next: Arc<AtomicU64>, begin: Instant) {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= self.count.into() {
                return;
            }
            if let Some(rate) = self.rate {
                let due = begin + Duration::from_secs_f64(index as f64 / rate);
                tokio::time::sleep_until(due.into()).await;
            }
            let started = Instant::now();
            let answer = self.host.post(&self.resource, self.body(index)).await;
            let took = started.elapsed();
            let key = answer.and_then(|(status, body)| self.key(status, &body));
            if self.answers.send(Answer { started, took, key }).await.is_err() {
                return;
            }
        }
    }

    /// Chosen by the seed and the request's number alone, whichever worker posts it.
    fn body(&self, index: u64) -> Bytes {
        let mut rng = StdRng::seed_from_u64(u64::from(self.seed) << 32 | index);
        self.bodies[rng.random_range(0..self.bodies.len())].clone()
    }

    fn key(&self, status: StatusCode, body: &[u8]) -> Result<Bytes, String> {
        // A proxy in between may answer anything; what is no JSON has no key and no detail.
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        if !status.is_success() {
            let detail = body["detail"].as_str().or(body["title"].as_str()).unwrap_or_default();
            // Of a body's faults the first, with its place.
            let fault = &body["errors"][0];
            let fault = match (fault["pointer"].as_str(), fault["detail"].as_str()) {
                (Some(pointer), Some(detail)) => format!(": {pointer} {detail}"),
                (Some(_) | None, _) => String::new(),
            };
            return Err(format!("{status}: {detail}{fault}"));
        }
        match body[&self.key].as_str() {
            Some(key) => Ok(Bytes::copy_from_slice(key.as_bytes())),
            None => Err(format!("{status}, but the answer has no \"{}\"", self.key)),
        }
    }
}
