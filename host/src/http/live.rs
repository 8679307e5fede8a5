//! `/admin/live`: the status, once a second, with what went on in the last seconds, as server-sent events.
//!
//! Nothing is queued: each event is made when the client has taken the one before, so that a slow client sees fewer. One
//! that takes nothing is closed as on any other connection.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::MissedTickBehavior;

use super::problem::Problem;
use crate::config::plan::ResourcePlan;
use crate::event::now_ms;
use crate::histogram::Histogram;
use crate::shard::Figures;
use crate::status::{Report, Status, SubscriberReport, SubscriberStatus};

/// At once. Each takes a connection, and some time of a processor once a second.
const MOST: usize = 32;
const PERIOD: Duration = Duration::from_secs(1);
/// What counts as recent.
const RECENT: Duration = Duration::from_secs(5);

/// Shared by all streams; cheap to clone.
#[derive(Clone)]
pub(super) struct Live {
    status: Status,
    resources: Arc<[Resource]>,
    places: Arc<Semaphore>,
    /// Changes when all of them are to end.
    ends: watch::Sender<()>,
}

/// One event.
#[derive(Serialize)]
struct Shown<'a> {
    at_ms: i64,
    #[serde(flatten)]
    report: &'a Report,
    resources: &'a [Resource],
    /// By subscriber.
    recent: BTreeMap<&'a str, Recent>,
}

#[derive(Debug, Serialize)]
struct Resource {
    name: String,
    topic: Arc<str>,
    /// The topics that it shows.
    view: Vec<Arc<str>>,
}

/// What a subscriber did in the last seconds.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Recent {
    events_per_s: f64,
    outputs_per_s: f64,
    failures_per_s: f64,
    /// Of a batch.
    handling_p99_ms: Option<f64>,
    commit_p99_ms: Option<f64>,
    since_request_p50_ms: Option<f64>,
    since_request_p99_ms: Option<f64>,
}

/// Where a subscriber's counters stood.
struct Mark {
    events: u64,
    outputs: u64,
    figures: Figures,
}

/// The marks of the last seconds, the oldest first.
#[derive(Default)]
struct Marks(VecDeque<(Instant, BTreeMap<String, Mark>)>);

impl Live {
    pub(super) fn new(status: Status, plans: &[ResourcePlan]) -> Self {
        let (places, ends) = (Arc::new(Semaphore::new(MOST)), watch::Sender::new(()));
        Self { status, resources: resources(plans), places, ends }
    }

    /// For a changed plan. The streams of this one end.
    pub(super) fn succeed(&self, plans: &[ResourcePlan]) -> Self {
        self.end();
        Self { resources: resources(plans), ..self.clone() }
    }

    /// Ends all streams: their clients come back, perhaps to another process.
    pub(super) fn end(&self) {
        self.ends.send_replace(());
    }
}

fn resources(plans: &[ResourcePlan]) -> Arc<[Resource]> {
    let resource = |plan: &ResourcePlan| Resource {
        name: plan.name.clone(),
        topic: plan.topic.clone(),
        view: plan.shown().cloned().collect(),
    };
    plans.iter().map(resource).collect()
}

pub(super) async fn live(State(live): State<Live>) -> Result<Response, Problem> {
    let place = live.places.clone().try_acquire_owned().map_err(|_| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Too many watch already")
            .detail(format!("{MOST} clients watch this host."))
            .retry_after(5)
    })?;
    let ends = live.ends.subscribe();
    let (sender, body) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(tell(live.status, live.resources, sender, ends, place));
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::new(body)).into_response())
}

/// Until the client has gone, or all streams are to end.
async fn tell(
    status: Status,
    resources: Arc<[Resource]>,
    mut to: Sender<Bytes>,
    mut ends: watch::Receiver<()>,
    _place: OwnedSemaphorePermit,
) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut marks = Marks::default();
    loop {
        let event = async {
            ticks.tick().await;
            let report = status.report();
            let recent = marks.next(&report, Instant::now());
            let shown = Shown { at_ms: now_ms(), report: &report, resources: &resources, recent };
            // Plain data has a JSON form.
            let json = serde_json::to_string(&shown).unwrap_or_default();
            to.send_data(format!("data: {json}\n\n").into()).await
        };
        tokio::select! {
            told = event => if told.is_err() { return },
            _ = ends.changed() => return,
        }
    }
}

impl Marks {
    /// What went on since the oldest mark; the report is the newest one then.
    fn next<'a>(&mut self, report: &'a Report, now: Instant) -> BTreeMap<&'a str, Recent> {
        while self.0.len() > 1 && self.0.front().is_some_and(|(at, _)| now - *at > RECENT) {
            self.0.pop_front();
        }
        let oldest = self.0.front();
        let of = |subscriber: &'a SubscriberReport| {
            let status = &subscriber.status;
            let recent = oldest.and_then(|(at, marks)| {
                let seconds = (now - *at).as_secs_f64();
                Some(marks.get(&status.name)?.until(status, seconds))
            });
            (status.name.as_str(), recent.unwrap_or_default())
        };
        let recent = report.subscribers.iter().map(of).collect();
        let mark = |subscriber: &SubscriberReport| {
            let status = &subscriber.status;
            let mark =
                Mark { events: status.events, outputs: status.outputs, figures: status.figures.clone() };
            (status.name.clone(), mark)
        };
        self.0.push_back((now, report.subscribers.iter().map(mark).collect()));
        recent
    }
}

impl Mark {
    fn until(&self, status: &SubscriberStatus, seconds: f64) -> Recent {
        let a_second = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        let failures = |figures: &Figures| figures.failures.values().sum::<u64>();
        let ms = |now: &Histogram, then, share| now.since(then).quantile(share).map(|us| us / 1000.0);
        let (now, then) = (&status.figures, &self.figures);
        Recent {
            events_per_s: a_second(status.events, self.events),
            outputs_per_s: a_second(status.outputs, self.outputs),
            failures_per_s: a_second(failures(now), failures(then)),
            handling_p99_ms: ms(&now.handling_us, &then.handling_us, 0.99),
            commit_p99_ms: ms(&now.commit_us, &then.commit_us, 0.99),
            since_request_p50_ms: ms(&now.since_request_us, &then.since_request_us, 0.5),
            since_request_p99_ms: ms(&now.since_request_us, &then.since_request_us, 0.99),
        }
    }
}
