//! Ended spans on their way to the collector: a bounded queue, and the thread that sends them from there.
//!
//! What has no room in the queue, or what the collector doesn't take in time, is dropped and counted: a collector that is
//! slow or away costs spans, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver as Ended, RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry::Context;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter as _, SpanProcessor};
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tracing::warn;

use super::settings::Settings;
use crate::text::count;

/// Between two lines of the log about spans that were dropped.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Where ended spans go.
#[derive(Debug)]
pub(super) struct Queue {
    spans: mpsc::Sender<SpanData>,
    dropped: Arc<AtomicU64>,
    /// Given when what is in the queue is all that is to come.
    last: watch::Sender<bool>,
    /// Disconnected when the thread has ended.
    ended: Mutex<Ended<()>>,
}

struct Sending {
    exporter: SpanExporter,
    /// The collector, as the log calls it.
    place: String,
    spans: mpsc::Receiver<SpanData>,
    batch: usize,
    delay: Duration,
    dropped: Arc<AtomicU64>,
    /// How many of these the log has told of, and when it last did.
    told: (u64, Option<Instant>),
    /// Why the collector last didn't take some, if that is not told yet.
    reason: Option<OTelSdkError>,
}

impl Queue {
    /// Starts the thread. It ends after [`shutdown_with_timeout`](SpanProcessor::shutdown_with_timeout).
    pub(super) fn start(
        mut exporter: SpanExporter,
        resource: &Resource,
        settings: &Settings,
        dropped: Arc<AtomicU64>,
    ) -> std::io::Result<Self> {
        exporter.set_resource(resource);
        let (spans, queued) = mpsc::channel(settings.queue);
        let (last, is_last) = watch::channel(false);
        let (over, ended) = sync_channel(1);
        let sending = Sending {
            exporter,
            place: settings.place(),
            spans: queued,
            batch: settings.batch,
            delay: settings.delay,
            dropped: dropped.clone(),
            told: (0, None),
            reason: None,
        };
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("traces".into()).spawn(move || {
            runtime.block_on(sending.run(is_last));
            // Before the runtime, whose end waits for a look-up that hangs in the resolver.
            drop(over);
        })?;
        Ok(Self { spans, dropped, last, ended: Mutex::new(ended) })
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// There is nobody who asks for it.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    /// What can't be sent by then is given up.
    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.last.send_replace(true);
        match self.ended.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(timeout) {
            Err(RecvTimeoutError::Timeout) => Err(OTelSdkError::Timeout(timeout)),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Ok(()),
        }
    }
}

impl Sending {
    async fn run(mut self, mut is_last: watch::Receiver<bool>) {
        let delay = self.delay;
        let mut batch = Vec::new();
        let mut more = true;
        while more {
            tokio::select! {
                filled = self.fill(&mut batch) => more = filled,
                () = tokio::time::sleep(delay) => {}
                // Fails only when the queue is gone, and nothing more will come.
                _ = is_last.wait_for(|last| *last), if !self.spans.is_closed() => self.spans.close(),
            }
            self.send(std::mem::take(&mut batch)).await;
            self.tell();
        }
    }

    /// Until the batch is full; tells whether more may come.
    async fn fill(&mut self, batch: &mut Vec<SpanData>) -> bool {
        while batch.len() < self.batch {
            if self.spans.recv_many(batch, self.batch - batch.len()).await == 0 {
                return false;
            }
        }
        true
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        let spans = batch.len() as u64;
        if spans > 0
            && let Err(error) = self.exporter.export(batch).await
        {
            self.dropped.fetch_add(spans, Ordering::Relaxed);
            self.reason = Some(error);
        }
    }

    fn tell(&mut self) {
        let dropped = self.dropped.load(Ordering::Relaxed);
        let (told, at) = self.told;
        if dropped == told || at.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            return;
        }
        let spans = count(dropped - told, "span");
        match self.reason.take() {
            Some(error) => warn!("{spans} of traces dropped, in all {dropped}: {}: {error}", self.place),
            None => warn!("{spans} of traces dropped, in all {dropped}: more come than {} takes", self.place),
        }
        self.told = (dropped, Some(Instant::now()));
    }
}
