//! Where each posted body has been seen, and when.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::event::Event;

use super::post::Answer;

pub(super) struct Journeys {
    /// The view's topics, then the dead letter topics.
    pub(super) topics: Vec<Arc<str>>,
    /// How many of `topics` are the view's.
    pub(super) view: usize,
    /// By key. Until every POST is answered also those of keys that nobody here posted (yet): a record may
    /// be seen before its POST is answered, and others may be posting too.
    journeys: HashMap<Bytes, Journey>,
    /// From POST to its answer, of the accepted ones.
    pub(super) answers: Vec<Duration>,
    pub(super) refusals: BTreeMap<String, u64>,
    done: u64,
    all_answered: bool,
}

#[derive(Clone)]
pub(super) struct Journey {
    posted: Option<Instant>,
    /// For each topic: when the key was first seen there, and how often in all.
    seen: Vec<(Option<Instant>, u32)>,
}

impl Journeys {
    pub(super) fn new(topics: Vec<Arc<str>>, view: usize) -> Self {
        Self {
            topics,
            view,
            journeys: HashMap::new(),
            answers: Vec::new(),
            refusals: BTreeMap::new(),
            done: 0,
            all_answered: false,
        }
    }

    pub(super) fn answered(&mut self, answer: Answer) {
        match answer.key {
            Ok(key) => {
                self.answers.push(answer.took);
                self.change(key, |journey| journey.posted = Some(answer.started));
            }
            Err(reason) => *self.refusals.entry(reason).or_default() += 1,
        }
    }

    /// No answer comes any more: other keys than those that were posted are of no use.
    pub(super) fn all_answered(&mut self) {
        if !self.all_answered {
            self.all_answered = true;
            self.journeys.retain(|_, journey| journey.posted.is_some());
        }
    }

    pub(super) fn arrived(&mut self, event: &Event, now: Instant) {
        let topic = self.topics.iter().position(|topic| *topic == event.position.topic);
        if let (Some(topic), Some(key)) = (topic, &event.key)
            && (!self.all_answered || self.journeys.contains_key(key))
        {
            self.change(key.clone(), |journey| {
                let (first, count) = &mut journey.seen[topic];
                first.get_or_insert(now);
                *count += 1;
            });
        }
    }

    fn change(&mut self, key: Bytes, change: impl FnOnce(&mut Journey)) {
        let (view, topics) = (self.view, self.topics.len());
        let journey = self
            .journeys
            .entry(key)
            .or_insert_with(|| Journey { posted: None, seen: vec![(None, 0); topics] });
        let was_done = journey.is_done(view);
        change(journey);
        self.done += u64::from(!was_done && journey.is_done(view));
    }

    /// The posted ones alone.
    pub(super) fn posted(&self) -> impl Iterator<Item = &Journey> {
        self.journeys.values().filter(|journey| journey.posted.is_some())
    }

    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// Accepted and not done.
    pub(super) fn missing(&self) -> u64 {
        self.answers.len() as u64 - self.done
    }

    pub(super) fn refused(&self) -> u64 {
        self.refusals.values().sum()
    }

    pub(super) fn line(&self) -> String {
        format!("{} posted, {} refused", self.answers.len() as u64 + self.refused(), self.refused())
    }
}

impl Journey {
    fn is_done(&self, view: usize) -> bool {
        self.posted.is_some() && self.seen[view - 1..].iter().any(|(first, _)| first.is_some())
    }

    pub(super) fn is_dead_lettered(&self, view: usize) -> bool {
        self.seen[view..].iter().any(|(first, _)| first.is_some())
    }

    /// From the POST to the first record in this topic.
    pub(super) fn latency(&self, topic: usize) -> Option<Duration> {
        Some(self.seen[topic].0?.saturating_duration_since(self.posted?))
    }

    pub(super) fn count(&self, topic: usize) -> u32 {
        self.seen[topic].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Position;

    fn journeys() -> Journeys {
        Journeys::new(vec!["in".into(), "out".into(), "handler.dlq".into()], 2)
    }

    fn event(topic: &str, key: &'static str) -> Event {
        Event {
            position: Position { topic: topic.into(), partition: 0, offset: 0 },
            timestamp_ms: None,
            key: Some(key.into()),
            payload: None,
            headers: Vec::new(),
        }
    }

    fn accepted(key: &'static str, started: Instant) -> Answer {
        Answer { started, took: Duration::from_millis(1), key: Ok(key.into()) }
    }

    #[test]
    fn a_record_that_is_seen_before_its_post_is_answered_counts() {
        let (mut journeys, start) = (journeys(), Instant::now());
        journeys.arrived(&event("out", "a"), start + Duration::from_millis(5));
        assert_eq!((journeys.done(), journeys.missing()), (0, 0));
        journeys.answered(accepted("a", start));
        assert_eq!((journeys.done(), journeys.missing()), (1, 0));
        assert_eq!(journeys.posted().next().unwrap().latency(1), Some(Duration::from_millis(5)));
    }

    #[test]
    fn done_is_the_last_topic_of_the_view_or_a_dead_letter() {
        let (mut journeys, start) = (journeys(), Instant::now());
        for key in ["a", "b", "c"] {
            journeys.answered(accepted(key, start));
            journeys.arrived(&event("in", key), start);
        }
        assert_eq!(journeys.missing(), 3);
        journeys.arrived(&event("out", "a"), start);
        journeys.arrived(&event("handler.dlq", "b"), start);
        assert_eq!((journeys.done(), journeys.missing()), (2, 1));
        assert_eq!(journeys.posted().filter(|j| j.is_dead_lettered(2)).count(), 1);
    }

    #[test]
    fn once_all_posts_are_answered_only_their_keys_are_kept() {
        let (mut journeys, start) = (journeys(), Instant::now());
        journeys.arrived(&event("in", "stranger"), start);
        journeys.answered(accepted("a", start));
        journeys.all_answered();
        journeys.arrived(&event("out", "another stranger"), start);
        journeys.arrived(&event("out", "a"), start);
        assert_eq!((journeys.journeys.len(), journeys.done()), (1, 1));
    }

    #[test]
    fn what_others_post_and_what_comes_twice_changes_nothing_but_its_count() {
        let (mut journeys, start) = (journeys(), Instant::now());
        journeys.arrived(&event("out", "stranger"), start);
        journeys.arrived(&event("elsewhere", "a"), start);
        journeys.answered(accepted("a", start));
        for after in [7, 9] {
            journeys.arrived(&event("out", "a"), start + Duration::from_millis(after));
        }
        assert_eq!((journeys.done(), journeys.posted().count()), (1, 1));
        let journey = journeys.posted().next().unwrap();
        assert_eq!((journey.latency(1), journey.count(1)), (Some(Duration::from_millis(7)), 2));
    }
}
