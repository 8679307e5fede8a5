//! What the view keeps of one resource: the states of its ids, within bounds, and the keys of its requests.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Lookup, Page, ResourceReport, Traced};
use crate::config::plan::ResourcePlan;
use crate::event::{Event, Position, header, headers};
use crate::http::idempotency::{SharedKeys, fingerprint};
use crate::http::ingress::id_of;
use crate::http::recent::Recent;
use crate::http::request::is_idempotency_key;
use crate::http::resources::HTTP_METHOD;
use crate::http::state::{Accepted, Seen, State};

/// Ids that are looked through for a trace: all of them would hold the reader up where there are many.
const SEARCHED: usize = 10_000;

pub(super) struct Resource {
    pub(super) plan: ResourcePlan,
    /// The topics to read: those that are shown, then perhaps the one that POST and PUT publish to.
    pub(super) topics: Vec<Arc<str>>,
    /// How many of them are shown.
    shown: usize,
    /// Which of them POST and PUT publish to.
    own: usize,
    max_bytes: usize,
    store: Mutex<Store>,
    pub(super) keys: Arc<SharedKeys>,
}

struct Store {
    states: Recent<State>,
    bytes: usize,
    /// Ids dropped to keep the bounds.
    evicted: u64,
    /// The last offset of this reading of each topic, by its number, and partition.
    read: HashMap<(usize, i32), i64>,
    /// How often a reader has begun.
    reading: u64,
}

impl Resource {
    pub(super) fn new(plan: &ResourcePlan, max_bytes: usize) -> Self {
        Self::with_keys(plan, max_bytes, Arc::new(SharedKeys::new(plan.view_keys)))
    }

    /// For a plan that has changed. Where requests are published to the same topic still, their keys are the same.
    pub(super) fn succeed(&self, plan: &ResourcePlan) -> Self {
        if plan.topic != self.plan.topic {
            return Self::new(plan, self.max_bytes);
        }
        self.keys.lock().resize(plan.view_keys);
        Self::with_keys(plan, self.max_bytes, self.keys.clone())
    }

    fn with_keys(plan: &ResourcePlan, max_bytes: usize, keys: Arc<SharedKeys>) -> Self {
        let mut topics: Vec<_> = plan.shown().cloned().collect();
        let shown = topics.len();
        let own = topics.iter().position(|topic| *topic == plan.topic).unwrap_or(topics.len());
        if own == topics.len() {
            topics.push(plan.topic.clone());
        }
        let store = Store { states: Recent::new(), bytes: 0, evicted: 0, read: HashMap::new(), reading: 0 };
        Self { plan: plan.clone(), topics, shown, own, max_bytes, store: Mutex::new(store), keys }
    }

    pub(super) fn lookup(&self, id: &str, caught_up: bool) -> Lookup {
        let store = self.lock();
        match store.states.get(id) {
            Some(state) => Lookup::Found { state: state.clone(), caught_up },
            None if !caught_up => Lookup::NotYet,
            None if store.evicted > 0 => {
                Lookup::Dropped { evicted: store.evicted, max_keys: self.plan.view_keys }
            }
            None => Lookup::Never,
        }
    }

    pub(super) fn page(&self, cursor: Option<(i64, Arc<str>)>, limit: usize, caught_up: bool) -> Page {
        let store = self.lock();
        let mut newest_first = store.states.newest_first(cursor);
        let items = newest_first
            .by_ref()
            .take(limit)
            .map(|(time, id, state)| (time, id.clone(), state.clone()))
            .collect();
        let more = newest_first.next().is_some();
        Page { items, more, caught_up, evicted: store.evicted }
    }

    pub(super) fn traced(&self, traces: &BTreeSet<&str>) -> Vec<(String, Traced)> {
        if traces.is_empty() {
            return Vec::new();
        }
        let store = self.lock();
        let mut found = Vec::new();
        for (_time, id, state) in store.states.newest_first(None).take(SEARCHED) {
            let traced = || Traced { resource: self.plan.name.clone(), id: id.clone() };
            let wanted = state.traces().filter(|trace| traces.contains(trace));
            found.extend(wanted.map(|trace| (trace.to_string(), traced())));
        }
        found
    }

    pub(super) fn report(&self) -> ResourceReport {
        let idempotency_keys = self.keys.lock().len();
        let store = self.lock();
        ResourceReport {
            ids: store.states.len(),
            bytes: store.bytes,
            evicted: store.evicted,
            idempotency_keys,
        }
    }

    pub(super) fn apply(&self, event: &Event, time: i64) {
        let Position { topic, partition, offset } = &event.position;
        let Some(topic) = self.topics.iter().position(|t| t == topic) else { return };
        let mut store = self.lock();
        let read = store.read.entry((topic, *partition)).or_insert(-1);
        if *offset <= *read {
            return;
        }
        *read = *offset;
        if topic == self.own {
            self.learn_idempotency_key(event, time);
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

    pub(super) fn acknowledged(&self, id: &str, position: &Position, now: i64) {
        let mut store = self.lock();
        if store.read.get(&(self.own, position.partition)).is_some_and(|read| *read >= position.offset) {
            return;
        }
        let Position { partition, offset, .. } = *position;
        let accepted = Accepted { partition, offset, reading: store.reading };
        self.change(&mut store, id, now, |state| state.accepted = Some(accepted));
    }

    pub(super) fn read_again(&self) {
        let mut store = self.lock();
        store.reading += 1;
        store.read.clear();
        store.evicted = 0;
        self.keys.read_again();
    }

    /// At the end of a reading: what none of its records speaks of. A record that was acknowledged before the
    /// reading began was there for it to show.
    pub(super) fn forget_what_is_gone(&self) {
        let mut store = self.lock();
        let Store { states, bytes, reading, .. } = &mut *store;
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
        self.keys.caught_up();
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        // Nothing panics while it holds the lock; if something did, a stale view beats none.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn_idempotency_key(&self, event: &Event, time: i64) {
        let key =
            header(&event.headers, headers::IDEMPOTENCY_KEY).and_then(|key| std::str::from_utf8(key).ok());
        let method = header(&event.headers, HTTP_METHOD);
        if let (Some(key), Some(method), Some(payload)) = (key, method, &event.payload)
            && is_idempotency_key(key)
        {
            self.keys.lock().seen(key, fingerprint(method, payload), &event.position, time);
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
        while store.states.len() > self.plan.view_keys || store.bytes > self.max_bytes {
            let Some((id, state)) = store.states.pop_oldest() else { break };
            store.bytes -= size(&id, &state);
            store.evicted += 1;
        }
    }
}

fn size(id: &str, state: &State) -> usize {
    state.bytes() + 2 * id.len()
}
