//! A bounded map that keeps its most recently updated keys, and lists them newest first from any point.
//!
//! Own code instead of an LRU crate: those order by access (a GET must not keep a key alive), and can't
//! start a listing in the middle. Ordered by the time of the update and then by key, so that two processes
//! that read the same topics agree on the order and on each other's cursors.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

pub(super) struct Recent<V> {
    entries: HashMap<Arc<str>, (i64, V)>,
    order: BTreeSet<(i64, Arc<str>)>,
}

impl<V> Recent<V> {
    pub(super) fn new() -> Self {
        Self { entries: HashMap::new(), order: BTreeSet::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, key: &str) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    /// The value of `key`, made if there is none, now updated at `time`; an earlier time than the last
    /// changes nothing.
    pub(super) fn update(&mut self, key: &str, time: i64, make: impl FnOnce() -> V) -> &mut V {
        let key: Arc<str> = match self.entries.get_key_value(key) {
            Some((known, _)) => known.clone(),
            None => key.into(),
        };
        let (updated, value) = self.entries.entry(key.clone()).or_insert_with(|| {
            self.order.insert((time, key.clone()));
            (time, make())
        });
        if time > *updated {
            self.order.remove(&(*updated, key.clone()));
            self.order.insert((time, key));
            *updated = time;
        }
        value
    }

    /// Keeps those that `keep`, which may change them, says yes to.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&str, &mut V) -> bool) {
        let order = &mut self.order;
        self.entries.retain(|key, (time, value)| {
            keep(key, value) || {
                order.remove(&(*time, key.clone()));
                false
            }
        });
    }

    pub(super) fn pop_oldest(&mut self) -> Option<(Arc<str>, V)> {
        let (_, key) = self.order.pop_first()?;
        let (_, value) = self.entries.remove(&key)?;
        Some((key, value))
    }

    /// From just after `cursor`, which need not be in the map, to the oldest.
    pub(super) fn newest_first(
        &self,
        cursor: Option<(i64, Arc<str>)>,
    ) -> impl Iterator<Item = (i64, &Arc<str>, &V)> {
        let end = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        self.order
            .range((Bound::Unbounded, end))
            .rev()
            .filter_map(|(time, key)| self.entries.get(key).map(|(_, value)| (*time, key, value)))
    }
}
