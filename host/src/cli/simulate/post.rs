//! Posting: so many requests at a time, at a rate or as fast as the host answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::Value;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;

use crate::cli::host::Host;

pub(super) struct Posting {
    pub(super) host: Host,
    pub(super) resource: String,
    /// The property of the answer that holds the new key.
    pub(super) key: String,
    /// One for each request, in order.
    pub(super) bodies: Vec<Bytes>,
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
    pub(super) async fn run(self, parallel: u16) {
        let posting = Arc::new(self);
        let next = Arc::new(AtomicUsize::new(0));
        let begin = Instant::now();
        let mut workers = JoinSet::new();
        for _ in 0..parallel {
            workers.spawn(posting.clone().work(next.clone(), begin));
        }
        workers.join_all().await;
    }

    async fn work(self: Arc<Self>, next: Arc<AtomicUsize>, begin: Instant) {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(body) = self.bodies.get(index) else { return };
            if let Some(rate) = self.rate {
                let due = begin + Duration::from_secs_f64(index as f64 / rate);
                tokio::time::sleep_until(due.into()).await;
            }
            let started = Instant::now();
            let answer = self.host.post(&self.resource, body.clone()).await;
            let took = started.elapsed();
            let key = answer.and_then(|(status, body)| self.key(status, &body));
            if self.answers.send(Answer { started, took, key }).await.is_err() {
                return;
            }
        }
    }

    fn key(&self, status: StatusCode, body: &[u8]) -> Result<Bytes, String> {
        // A proxy in between may answer anything; what is no JSON has no key and no detail.
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        if !status.is_success() {
            let detail = body["detail"].as_str().or(body["title"].as_str()).unwrap_or_default();
            return Err(format!("{status}: {detail}"));
        }
        match body[&self.key].as_str() {
            Some(key) => Ok(Bytes::copy_from_slice(key.as_bytes())),
            None => Err(format!("{status}, but the answer has no \"{}\"", self.key)),
        }
    }
}
