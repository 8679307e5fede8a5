//! What the topics say about each id: the latest record of each topic, and the history.
//!
//! Rebuilt from the topics at every start and kept in memory, so bounded three ways: ids of a resource (the
//! most recently updated stay), bytes of a resource, records of an id's history. It says so where it has
//! dropped something, or has not read everything yet: an id that isn't here is 404 only when it never was.
//!
//! A reader that begins again may meet other topics of the same names, whose offsets start at 0. So every reading
//! stands for itself: the first record of an id replaces what an earlier reading knew of it, and what the reading
//! has not shown by its end is gone. Until then the old stays visible, said to be incomplete.

mod resource;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use tokio::sync::watch;

use super::idempotency::{Fingerprint, Outcome, Turn};
use super::state::State;
use crate::config::plan::ResourcePlan;
use crate::event::{Event, Position, now_ms};
use resource::Resource;

/// Of one resource: payloads, headers and what it takes to keep them.
const MAX_BYTES: usize = 128 << 20;

/// Shared by the ingress and the thread that reads the topics; cheap to clone.
#[derive(Clone)]
pub struct View {
    shared: Arc<Shared>,
}

struct Shared {
    /// In the plan's order; those that a reload left as they were belong to the view before it too.
    resources: Vec<Arc<Resource>>,
    caught_up: AtomicBool,
    /// How often somebody asked to be told when all is applied that the topics had then, and how many
    /// of them were told.
    asked: watch::Sender<u64>,
    told: watch::Sender<u64>,
}

/// What the view has to say about one id.
pub(super) enum Lookup {
    Found {
        state: State,
        caught_up: bool,
    },
    /// Not here so far; the rest of the topics will tell.
    NotYet,
    Never,
    /// Never seen, or dropped: this many ids were.
    Dropped {
        evicted: u64,
        max_keys: usize,
    },
}

pub(super) struct Page {
    pub(super) items: Vec<(i64, Arc<str>, State)>,
    pub(super) more: bool,
    pub(super) caught_up: bool,
    pub(super) evicted: u64,
}

/// Whose trace it is.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Traced {
    pub(super) resource: String,
    pub(super) id: Arc<str>,
}

/// The sizes that `/status` shows.
#[derive(Debug, Serialize)]
pub(super) struct ViewReport {
    pub(super) caught_up: bool,
    pub(super) resources: BTreeMap<String, ResourceReport>,
}

#[derive(Debug, Serialize)]
pub(super) struct ResourceReport {
    pub(super) ids: usize,
    pub(super) bytes: usize,
    pub(super) evicted: u64,
    pub(super) idempotency_keys: usize,
}

impl View {
    pub(super) fn new(plans: &[ResourcePlan]) -> Self {
        Self::bounded(plans, MAX_BYTES)
    }

    pub(super) fn bounded(plans: &[ResourcePlan], max_bytes: usize) -> Self {
        Self::of(plans.iter().map(|plan| Arc::new(Resource::new(plan, max_bytes))).collect())
    }

    /// The view of a plan that takes this one's place. What it shows of resources that are as they were stays
    /// visible, and isn't complete before its reader has caught up.
    ///
    /// This one's reader must have ended, with [`is_behind`](Self::is_behind), before the new one's begins: the two
    /// would each take the other's records for its own.
    ///
    /// Where no resource has changed it is this same view, whose reader goes on.
    pub(super) fn succeed(&self, plans: &[ResourcePlan]) -> Self {
        if plans.iter().eq(self.shared.resources.iter().map(|resource| &resource.plan)) {
            return self.clone();
        }
        let resource = |plan: &ResourcePlan| match self
            .shared
            .resources
            .iter()
            .find(|resource| resource.plan.name == plan.name)
        {
            Some(resource) if resource.plan == *plan => resource.clone(),
            Some(resource) => Arc::new(resource.succeed(plan)),
            None => Arc::new(Resource::new(plan, MAX_BYTES)),
        };
        Self::of(plans.iter().map(resource).collect())
    }

    fn of(resources: Vec<Arc<Resource>>) -> Self {
        let (asked, told) = (watch::Sender::new(0), watch::Sender::new(0));
        Self { shared: Arc::new(Shared { resources, caught_up: AtomicBool::new(false), asked, told }) }
    }

    /// The topics to read, each once: those of every view, and those that requests are published to, since
    /// they carry the idempotency keys.
    pub fn topics(&self) -> Vec<Arc<str>> {
        let mut topics: Vec<_> = self.shared.resources.iter().flat_map(|r| &r.topics).cloned().collect();
        topics.sort();
        topics.dedup();
        topics
    }

    /// One record, in offset order within its partition; one that was applied before in this reading changes
    /// nothing. Records without a key, or with one that can't be an id (not UTF-8,
    /// longer than 255 bytes), are nobody's history and are skipped.
    pub fn apply(&self, event: &Event) {
        let now = now_ms();
        // A producer whose clock is ahead must not hold the top of the list for ever.
        let time = event.timestamp_ms.map_or(now, |t| t.clamp(0, now));
        for resource in &self.shared.resources {
            resource.apply(event, time);
        }
    }

    /// Everything that was in the topics when the reader began has been applied.
    pub fn caught_up(&self) {
        self.shared.resources.iter().for_each(|resource| resource.forget_what_is_gone());
        self.shared.caught_up.store(true, Ordering::Release);
    }

    /// The topics may have more than what was applied: the reader is about to begin, and from the beginning, or
    /// can't go on.
    pub fn is_behind(&self) {
        self.shared.resources.iter().for_each(|resource| resource.read_again());
        self.shared.caught_up.store(false, Ordering::Release);
    }

    /// Completes when everything is applied that the topics have now. The reader goes on with other views, perhaps:
    /// not for ever is this waited for.
    pub(super) async fn until_current(&self) {
        let mut question = 0;
        self.shared.asked.send_modify(|asked| {
            *asked += 1;
            question = *asked;
        });
        let mut told = self.shared.told.subscribe();
        // Fails only when the sender is gone, and `self` holds it.
        let _ = told.wait_for(|told| *told >= question).await;
    }

    /// How many questions there were that wait for [`is_current`](Self::is_current): to answer them, the reader asks
    /// where the topics end, and then reads as far.
    pub fn questions(&self) -> Option<u64> {
        let asked = *self.shared.asked.borrow();
        (asked > *self.shared.told.borrow()).then_some(asked)
    }

    /// Everything is applied that the topics had when the first so many questions had been asked.
    pub fn is_current(&self, questions: u64) {
        self.shared.told.send_replace(questions);
    }

    fn is_caught_up(&self) -> bool {
        self.shared.caught_up.load(Ordering::Acquire)
    }

    /// Whichever view's reader reads the resource's topic: a request that came before a reload is answered too.
    pub(super) async fn until_keys_are_known(&self, resource: usize) {
        self.shared.resources[resource].keys.until_complete().await;
    }

    pub(super) fn turn(&self, resource: usize, key: &str, fingerprint: Fingerprint) -> Turn {
        self.shared.resources[resource].keys.lock().turn(key, fingerprint)
    }

    pub(super) fn settle(&self, resource: usize, key: &str, outcome: Outcome) -> Outcome {
        self.shared.resources[resource].keys.lock().settle(key, outcome, now_ms())
    }

    /// The broker has taken a record that this process published.
    pub(super) fn acknowledged(&self, resource: usize, id: &str, position: &Position) {
        self.shared.resources[resource].acknowledged(id, position, now_ms());
    }

    pub(super) fn lookup(&self, resource: usize, id: &str) -> Lookup {
        self.shared.resources[resource].lookup(id, self.is_caught_up())
    }

    pub(super) fn page(&self, resource: usize, cursor: Option<(i64, Arc<str>)>, limit: usize) -> Page {
        self.shared.resources[resource].page(cursor, limit, self.is_caught_up())
    }

    /// Of which id each of these traces is, where one of the newest ids tells.
    pub(super) fn traced(&self, traces: &BTreeSet<&str>) -> BTreeMap<String, Traced> {
        let of_each = self.shared.resources.iter().flat_map(|resource| resource.traced(traces));
        of_each.collect()
    }

    pub(super) fn report(&self) -> ViewReport {
        let resources =
            self.shared.resources.iter().map(|resource| (resource.plan.name.clone(), resource.report()));
        ViewReport { caught_up: self.is_caught_up(), resources: resources.collect() }
    }
}
