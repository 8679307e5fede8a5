//! What the topics say about each id: the latest record of each topic, and the history.
//!
//! Rebuilt from the topics at every start and kept in memory, so bounded three ways: ids of a resource (the
//! most recently updated stay), bytes of a resource, records of an id's history. It says so where it has
//! dropped something, or has not read everything yet: an id that isn't here is 404 only when it never was.
//!
//! A reader that begins again may meet other topics of the same names, whose offsets start at 0. So every reading
//! stands for itself: the first record of an id replaces what an earlier reading knew of it, and what the reading
//! has not shown by its end is gone. Until then the old stays visible, said to be incomplete.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

use super::idempotency::{Claim, Fingerprint, Keys, Outcome, fingerprint};
use super::ingress::id_of;
use super::now_ms;
use super::recent::Recent;
use super::state::{Accepted, Seen, State};
use crate::config::plan::ResourcePlan;
use crate::event::{Event, Position, header, headers};

/// Of one resource: payloads, headers and what it takes to keep them.
const MAX_BYTES: usize = 128 << 20;

/// Shared by the ingress and the thread that reads the topics; cheap to clone.
#[derive(Clone)]
pub struct View {
    shared: Arc<Shared>,
}

struct Shared {
    resources: Vec<Resource>,
    caught_up: watch::Sender<bool>,
}

struct Resource {
    name: String,
    /// The topics to read: those that are shown, then perhaps the one that POST and PUT publish to.
    topics: Vec<Arc<str>>,
    /// How many of them are shown.
    shown: usize,
    /// Which of them POST and PUT publish to.
    own: usize,
    max_keys: usize,
    max_bytes: usize,
    store: Mutex<Store>,
}

struct Store {
    states: Recent<State>,
    bytes: usize,
    /// Ids dropped to keep the bounds.
    evicted: u64,
    idempotency: Keys,
    /// The last offset of this reading of each topic, by its number, and partition.
    read: HashMap<(usize, i32), i64>,
    /// How often a reader has begun.
    reading: u64,
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

/// The sizes that `/status` shows.
#[derive(Debug, Serialize)]
pub(super) struct ViewReport {
    pub(super) caught_up: bool,
    pub(super) resources: std::collections::BTreeMap<String, ResourceReport>,
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
        let resources = plans.iter().map(|plan| {
            let mut topics: Vec<_> = plan.shown().cloned().collect();
            let shown = topics.len();
            let own = topics.iter().position(|topic| *topic == plan.topic).unwrap_or(topics.len());
            if own == topics.len() {
                topics.push(plan.topic.clone());
            }
            Resource {
                name: plan.name.clone(),
                topics,
                shown,
                own,
                max_keys: plan.view_keys,
                max_bytes,
                store: Mutex::new(Store {
                    states: Recent::new(),
                    bytes: 0,
                    evicted: 0,
                    idempotency: Keys::new(plan.view_keys),
                    read: HashMap::new(),
                    reading: 0,
                }),
            }
        });
        Self {
            shared: Arc::new(Shared { resources: resources.collect(), caught_up: watch::Sender::new(false) }),
        }
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
        self.shared.resources.iter().for_each(Resource::forget_what_is_gone);
        self.shared.caught_up.send_replace(true);
    }

    /// The topics may have more than what was applied: the reader is about to begin, and from the beginning, or
    /// can't go on.
    pub fn is_behind(&self) {
        self.shared.resources.iter().for_each(Resource::read_again);
        self.shared.caught_up.send_replace(false);
    }

    fn is_caught_up(&self) -> bool {
        *self.shared.caught_up.borrow()
    }

    pub(super) async fn until_caught_up(&self) {
        let mut caught_up = self.shared.caught_up.subscribe();
        // Fails only when the sender is gone, and `self` holds it.
        let _ = caught_up.wait_for(|caught_up| *caught_up).await;
    }

    pub(super) fn claim(&self, resource: usize, key: &str, fingerprint: Fingerprint) -> Claim {
        self.shared.resources[resource].lock().idempotency.claim(key, fingerprint)
    }

    pub(super) fn settle(&self, resource: usize, key: &str, outcome: Outcome) -> Outcome {
        self.shared.resources[resource].lock().idempotency.settle(key, outcome, now_ms())
    }

    /// The broker has taken a record that this process published.
    pub(super) fn acknowledged(&self, resource: usize, id: &str, position: &Position) {
        let resource = &self.shared.resources[resource];
        let mut store = resource.lock();
        if store.read.get(&(resource.own, position.partition)).is_some_and(|read| *read >= position.offset) {
            return;
        }
        let Position { partition, offset, .. } = *position;
        let accepted = Accepted { partition, offset, reading: store.reading };
        resource.change(&mut store, id, now_ms(), |state| state.accepted = Some(accepted));
    }

    pub(super) fn lookup(&self, resource: usize, id: &str) -> Lookup {
        let caught_up = self.is_caught_up();
        let resource = &self.shared.resources[resource];
        let store = resource.lock();
        match store.states.get(id) {
            Some(state) => Lookup::Found { state: state.clone(), caught_up },
            None if !caught_up => Lookup::NotYet,
            None if store.evicted > 0 => {
                Lookup::Dropped { evicted: store.evicted, max_keys: resource.max_keys }
            }
            None => Lookup::Never,
        }
    }

    pub(super) fn page(&self, resource: usize, cursor: Option<(i64, Arc<str>)>, limit: usize) -> Page {
        let caught_up = self.is_caught_up();
        let store = self.shared.resources[resource].lock();
        let mut newest_first = store.states.newest_first(cursor);
        let items = newest_first
            .by_ref()
            .take(limit)
            .map(|(time, id, state)| (time, id.clone(), state.clone()))
            .collect();
        let more = newest_first.next().is_some();
        Page { items, more, caught_up, evicted: store.evicted }
    }

    pub(super) fn report(&self) -> ViewReport {
        let resources = self.shared.resources.iter().map(|resource| {
            let store = resource.lock();
            let report = ResourceReport {
                ids: store.states.len(),
                bytes: store.bytes,
                evicted: store.evicted,
                idempotency_keys: store.idempotency.len(),
            };
            (resource.name.clone(), report)
        });
        ViewReport { caught_up: self.is_caught_up(), resources: resources.collect() }
    }
}

impl Resource {
    fn lock(&self) -> MutexGuard<'_, Store> {
        // Nothing panics while it holds the lock; if something did, a stale view beats none.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, event: &Event, time: i64) {
        let Position { topic, partition, offset } = &event.position;
        let Some(topic) = self.topics.iter().position(|t| t == topic) else { return };
        let mut store = self.lock();
        let read = store.read.entry((topic, *partition)).or_insert(-1);
        if *offset <= *read {
            return;
        }
        *read = *offset;
        if topic == self.own {
            self.learn_idempotency_key(&mut store, event, time);
        }
        let Some(id) = id_of(&event.key) else { return };
        if topic < self.shown {
            let fresh = State::new(store.evicted == 0, store.reading);
            self.change(&mut store, id, time, |state| {
                if state.reading != fresh.reading {
                    *state = State { accepted: state.accepted, ..fresh };
                }
                state.apply(topic, self.shown, Seen::new(event, time));
            });
        }
        // After the change, which may have evicted it.
        if topic == self.own
            && let Some(state) = store.states.get_mut(id)
        {
            state.accepted = state
                .accepted
                .filter(|accepted| accepted.partition != *partition || accepted.offset > *offset);
        }
    }

    fn read_again(&self) {
        let mut store = self.lock();
        store.reading += 1;
        store.read.clear();
        store.evicted = 0;
        store.idempotency.read_again();
    }

    /// At the end of a reading: what none of its records speaks of. A record that was acknowledged before the
    /// reading began was there for it to show.
    fn forget_what_is_gone(&self) {
        let mut store = self.lock();
        let Store { states, bytes, reading, idempotency, .. } = &mut *store;
        states.retain(|id, state| {
            let before = size(id, state);
            state.accepted = state.accepted.filter(|accepted| accepted.reading == *reading);
            if state.reading != *reading && state.accepted.is_some() {
                *state = State { accepted: state.accepted, ..State::new(state.whole, *reading) };
            }
            *bytes -= before;
            let kept = state.reading == *reading;
            *bytes += if kept { size(id, state) } else { 0 };
            kept
        });
        idempotency.caught_up();
    }

    fn learn_idempotency_key(&self, store: &mut Store, event: &Event, time: i64) {
        let key =
            header(&event.headers, headers::IDEMPOTENCY_KEY).and_then(|key| std::str::from_utf8(key).ok());
        let method = header(&event.headers, super::resources::HTTP_METHOD);
        if let (Some(key), Some(method), Some(payload)) = (key, method, &event.payload)
            && super::request::is_idempotency_key(key)
        {
            store.idempotency.seen(key, fingerprint(method, payload), &event.position, time);
        }
    }

    /// Changes one id's state, then drops the least recently updated ids until the bounds hold again.
    fn change(&self, store: &mut Store, id: &str, time: i64, change: impl FnOnce(&mut State)) {
        // After an eviction a new id may be an old one that comes back: its past isn't whole.
        let (whole, reading) = (store.evicted == 0, store.reading);
        let before = store.states.get(id).map_or(0, |state| size(id, state));
        let state = store.states.update(id, time, || State::new(whole, reading));
        change(state);
        store.bytes = store.bytes + size(id, state) - before;
        while store.states.len() > self.max_keys || store.bytes > self.max_bytes {
            let Some((id, state)) = store.states.pop_oldest() else { break };
            store.bytes -= size(&id, &state);
            store.evicted += 1;
        }
    }
}

fn size(id: &str, state: &State) -> usize {
    state.bytes() + 2 * id.len()
}
