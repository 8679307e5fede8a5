//! The consuming half: one static member of a consumer group, reading committed records only.
//!
//! The group's rebalances run inside `poll`, so everything here happens on the caller's thread. What was
//! polled under an older assignment is forgotten; what was polled under this one can be committed only
//! with the [`Membership`] of this one, which the broker checks (KIP-447).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::bell::Bell;
use super::closing::Closing;
use super::fencing::{Fencing, TWO_OF_A_NAME};
use super::group::{Membership, fate};
use super::member::{Member, subscribe};
use super::record::{self, Topics};
use super::{CALL, ConnectError, client, native};
use crate::event::{Event, Position, TopicPartition};
use crate::log::{self, Departure, LogError, Polled, Progress, Waker};

/// A batch is bounded in bytes as well: it is copied into the component's memory, and its outputs, of about that
/// size, wait in the producer's queue.
pub(super) const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// For a look whether a broker answers at all.
const GLANCE: Duration = Duration::from_secs(1);
/// Answers that a rewind looks through, at most, to serve the rebalances among them.
const STALE: usize = 1000;
/// After this long without an event, a new assignment is asked once whether its committed offsets can be read.
const SILENCE: Duration = Duration::from_secs(10);

pub struct Source {
    consumer: Closing<Member>,
    /// Of this consumer, and of those that take its place.
    bell: Arc<Bell>,
    config: ClientConfig,
    name: String,
    /// What gives partitions back only once all of theirs is committed.
    departure: Option<Arc<Departure>>,
    group: String,
    subscription: Vec<Arc<str>>,
    topics: Topics,
    embedded: bool,
    fenced: Fencing,
    /// An error that came after events of the same poll: told by the next one.
    held: Option<LogError>,
    /// Events that were polled while the progress of their partitions could not be read.
    stash: Vec<Event>,
    /// Partitions whose progress since their assignment, or since a rewind, was told.
    begun: HashSet<TopicPartition>,
    /// What a rewind has read of it.
    progress: BTreeMap<TopicPartition, Progress>,
    /// Partitions that were sought to their committed offset once more, since their assignment or a rewind.
    sought: HashSet<TopicPartition>,
    /// Partitions that were taken or given, which the next poll tells.
    forgotten: HashSet<TopicPartition>,
}

impl Source {
    pub(super) fn new(
        base: &client::Base,
        group: &str,
        instance: Option<&str>,
        name: String,
        topics: &[Arc<str>],
        departure: Option<Departure>,
    ) -> Result<Self, ConnectError> {
        let mut config = base.consumer(group);
        if let Some(instance) = instance {
            config.set("group.instance.id", instance);
        }
        let departure = departure.map(Arc::new);
        let bell = Arc::<Bell>::default();
        let consumer = subscribe(&config, &name, topics, departure.clone(), bell.clone())?;
        Ok(Self {
            consumer,
            bell,
            config,
            name,
            departure,
            group: group.into(),
            subscription: topics.to_vec(),
            topics: Topics::default(),
            embedded: instance.is_none(),
            fenced: Fencing::default(),
            held: None,
            stash: Vec::new(),
            begun: HashSet::new(),
            progress: BTreeMap::new(),
            sought: HashSet::new(),
            forgotten: HashSet::new(),
        })
    }

    /// Another member has joined under this instance's name. That may be this one's own ghost: when the answer
    /// to a join is lost with its connection, the retry finds the name taken. So it joins anew, unless
    /// that does not help either: then it is another process, and the two would fence each other for ever.
    fn fenced(&mut self, reason: &str) -> LogError {
        if self.fenced.again() {
            return LogError::Fatal(format!("{reason}, again and again: {TWO_OF_A_NAME}"));
        }
        let mut forgotten = mem::take(&mut self.consumer.context().own.state().forgotten);
        if let Ok(assignment) = self.consumer.assignment() {
            forgotten.extend(self.topics.partitions(&assignment));
        }
        let (departure, bell) = (self.departure.clone(), self.bell.clone());
        match subscribe(&self.config, &self.name, &self.subscription, departure, bell) {
            Ok(consumer) => {
                consumer.context().own.state().forgotten = forgotten;
                self.consumer = consumer;
                LogError::Unavailable(format!("{reason}; joins the group anew"))
            }
            Err(error) => LogError::Fatal(error.to_string()),
        }
    }

    /// What an error means after which librdkafka's consumer is of no more use.
    fn ended(&mut self, code: Code) -> LogError {
        let told = self.consumer.client().fatal_error();
        let reason = told.map_or_else(|| code.to_string(), |(_, text)| text);
        match code {
            Code::FencedInstanceId => self.fenced(&reason),
            _ => LogError::Fatal(reason),
        }
    }

    /// The progress of partitions whose first events these are. librdkafka reads it to know where to begin, and keeps the
    /// metadata to itself; nobody but this member commits it from then on.
    fn begin(&mut self, events: &[Event]) -> Result<BTreeMap<TopicPartition, Progress>, LogError> {
        let mut new: BTreeSet<TopicPartition> = BTreeSet::new();
        let mut last = None;
        for Position { topic, partition, .. } in events.iter().map(|event| &event.position) {
            // Events come partition by partition.
            if last.replace((topic, partition)) != Some((topic, partition)) {
                let id = TopicPartition { topic: topic.clone(), partition: *partition };
                if !self.begun.contains(&id) {
                    new.insert(id);
                }
            }
        }
        let unread: Vec<TopicPartition> =
            new.iter().filter(|id| !self.progress.contains_key(*id)).cloned().collect();
        if !unread.is_empty() {
            let committed = self.committed(self.list(&unread)?)?;
            let progress = self.topics.progress(&committed).map_err(|error| {
                LogError::Unavailable(format!(
                    "can't read the committed offsets of group `{}`: {error}",
                    self.group
                ))
            })?;
            self.progress.extend(progress);
        }
        let told = new.iter().filter_map(|id| self.progress.remove_entry(id)).collect();
        self.begun.extend(new);
        Ok(told)
    }

    /// Where the first event of a partition stands beyond its committed offset, there may be nothing between the two: markers
    /// of transactions, what retention has deleted. Or librdkafka has gone on from elsewhere, as it does when it is told to
    /// seek while it looks up where to begin, and events would be lost without a word. So it seeks there once, and the
    /// first event that comes then is the first one.
    fn ask_again(&mut self, polled: &mut Polled) -> Result<(), LogError> {
        let Polled { events, progress, .. } = polled;
        let first = |id: &TopicPartition| {
            let first = events.iter().map(|event| &event.position);
            first.clone().find(|position| position.partition == id.partition && position.topic == id.topic)
        };
        let beyond = |(id, progress): &(&TopicPartition, &Progress)| {
            !self.sought.contains(*id) && first(id).is_some_and(|first| first.offset > progress.offset)
        };
        let again: Vec<TopicPartition> = progress.iter().filter(beyond).map(|(id, _)| id.clone()).collect();
        if again.is_empty() {
            return Ok(());
        }
        let places = again.iter().map(|id| (id, Offset::Offset(progress[id].offset)));
        let places = record::list(places).map_err(|e| LogError::Fatal(e.to_string()))?;
        if let Err(error) = self.seek(places) {
            // All of it is looked at again by the next poll.
            self.begun.retain(|partition| !progress.contains_key(partition));
            self.progress.append(progress);
            self.stash = mem::take(events);
            return Err(error);
        }
        events.retain(|event| !again.contains(&event.position.topic_partition()));
        self.begun.retain(|partition| !again.contains(partition));
        self.progress.extend(again.iter().filter_map(|id| progress.remove_entry(id)));
        self.sought.extend(again);
        Ok(())
    }

    /// Forgets what was noted of partitions that were taken or given since it was last done; tells which.
    fn forget(&mut self) -> HashSet<TopicPartition> {
        let forgotten = mem::take(&mut self.consumer.context().own.state().forgotten);
        if !forgotten.is_empty() {
            self.stash.retain(|event| !forgotten.contains(&event.position.topic_partition()));
            self.begun.retain(|partition| !forgotten.contains(partition));
            self.progress.retain(|partition, _| !forgotten.contains(partition));
            self.sought.retain(|partition| !forgotten.contains(partition));
            self.forgotten.extend(forgotten.iter().cloned());
        }
        forgotten
    }

    fn seek(&self, target: TopicPartitionList) -> Result<TopicPartitionList, LogError> {
        let unavailable = |e: KafkaError| LogError::Unavailable(format!("can't rewind: {e}"));
        let sought = self.consumer.seek_partitions(target, CALL).map_err(unavailable)?;
        for element in sought.elements() {
            element.error().map_err(unavailable)?;
        }
        Ok(sought)
    }

    fn assignment(&self) -> Result<TopicPartitionList, LogError> {
        self.consumer.assignment().map_err(|e| LogError::Unavailable(e.to_string()))
    }

    /// The answer waits until no open transaction holds these offsets (KIP-447).
    fn committed(&self, assignment: TopicPartitionList) -> Result<TopicPartitionList, LogError> {
        self.consumer.committed_offsets(assignment, CALL).map_err(|error| {
            let code = self.consumer.context().voice.explain(&error.rdkafka_error_code().unwrap_or(Code::Fail));
            let what = format!("can't read the committed offsets of group `{}`: {code}", self.group);
            let topic = self.subscription.first().map(AsRef::as_ref);
            match self.consumer.fetch_metadata(topic, GLANCE) {
                Ok(_) => LogError::Unavailable(format!(
                    "{what}, though a broker answers. If this goes on, a transaction over them was never ended: \
                     `kafka-transactions.sh find-hanging` names it and `abort` ends it"
                )),
                Err(_) => LogError::Unavailable(what),
            }
        })
    }

    /// No error is to be told, and no rebalance.
    fn is_undisturbed(&self) -> bool {
        self.held.is_none() && self.consumer.context().own.state().forgotten.is_empty()
    }

    /// librdkafka waits without a word, and for ever, for offsets that never become stable.
    fn break_silence(&self) -> Result<(), LogError> {
        let silent = self.consumer.context().own.state().silent_since;
        if silent.is_some_and(|since| since.elapsed() > SILENCE) {
            self.committed(self.assignment()?)?;
            self.consumer.context().own.state().silent_since = None;
        }
        Ok(())
    }

    fn list(&self, partitions: &[TopicPartition]) -> Result<TopicPartitionList, LogError> {
        record::list(partitions.iter().map(|p| (p, Offset::Invalid)))
            .map_err(|e| LogError::Fatal(e.to_string()))
    }
}

impl log::Source for Source {
    type Membership = Membership;

    fn poll(&mut self, max_events: usize, wait: Duration) -> Result<Polled, LogError> {
        if let Some(held) = self.held.take() {
            return Err(held);
        }
        // A rewind serves rebalances as well, and a poll that failed has told of none: what comes now is of after them.
        self.forget();
        let voice = &self.consumer.context().voice;
        voice.reach_again(self.consumer.client());
        let mut polled = Polled { events: mem::take(&mut self.stash), ..Polled::default() };
        let until = Instant::now() + wait;
        let mut bytes: usize = polled.events.iter().map(Event::bytes).sum();
        while polled.events.len() < max_events && bytes < BATCH_BYTES {
            // None comes after a rebalance, too: so all events of one call that precede a rebalance precede the loop's
            // end, and nothing is waited for after it.
            match self.consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    let event = self.topics.event(&message);
                    bytes += event.bytes();
                    polled.events.push(event);
                }
                // Or after a line of librdkafka's log.
                None if polled.events.is_empty() && self.is_undisturbed() => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() || self.consumer.queue.wait(left) {
                        break;
                    }
                }
                None => break,
                // The events of this poll come again, to whomever the group gives them.
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => return Err(self.ended(code)),
                // Of several errors the last one counts, told when what came with them is handled.
                Some(Err(error)) => {
                    self.consumer.context().voice.heard(&error);
                    if let Some(error) = fate(&error, &self.consumer.context().voice) {
                        self.held = Some(error);
                    }
                }
            }
        }
        if polled.events.is_empty() {
            if let Some(error) = self.held.take() {
                return Err(error);
            }
            self.break_silence()?;
        } else {
            self.consumer.context().voice.works();
            self.consumer.context().own.state().silent_since = None;
        }
        // What comes after a rebalance is left to the next poll: all of these came before.
        let forgotten = self.forget();
        polled.events.retain(|e| !forgotten.contains(&e.position.topic_partition()));
        polled.forgotten = mem::take(&mut self.forgotten).into_iter().collect();
        match self.begin(&polled.events) {
            Ok(progress) => polled.progress = progress,
            Err(error) => {
                // What is forgotten must be told, and now.
                self.stash = mem::take(&mut polled.events);
                self.held.get_or_insert(error);
            }
        }
        if let Err(error) = self.ask_again(&mut polled) {
            self.held.get_or_insert(error);
        }
        Ok(polled)
    }

    fn waker(&self) -> Waker {
        let bell = self.bell.clone();
        Arc::new(move || bell.ring())
    }

    fn membership(&self) -> Membership {
        match &self.consumer.context().own.state().generation {
            None => Membership::None,
            Some(_) if self.embedded => Membership::Member(Arc::downgrade(&self.consumer)),
            Some(generation) => Membership::Generation(generation.clone()),
        }
    }

    fn positions(&self) -> BTreeMap<TopicPartition, Option<i64>> {
        let owned: Vec<_> = self.consumer.context().own.state().owned.iter().cloned().collect();
        let given = self.list(&owned).ok().and_then(|list| {
            native::set_positions(&self.consumer, &list);
            record::offsets(&list).ok()
        });
        let next = |id: &TopicPartition| {
            let stashed = self.stash.iter().map(|event| &event.position);
            let stashed = stashed.clone().find(|p| p.partition == id.partition && p.topic == id.topic);
            let rewound = self.progress.get(id).map(|progress| progress.offset);
            let given = given.as_ref().and_then(|given| given.get(id)).copied();
            stashed.map(|position| position.offset).or(rewound.max(given))
        };
        owned.iter().map(|id| (id.clone(), next(id))).collect()
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), LogError> {
        let list = self.list(partitions)?;
        self.consumer.pause(&list).map_err(|e| LogError::Unavailable(e.to_string()))
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), LogError> {
        let list = self.list(partitions)?;
        self.consumer.resume(&list).map_err(|e| LogError::Unavailable(e.to_string()))
    }

    fn rewind(&mut self) -> Result<(), LogError> {
        // Only a poll serves rebalances. After an outage the group waits for this member to give its
        // partitions back, and answers nothing before. What comes out is polled again after the seek.
        self.consumer.pause(&self.assignment()?).map_err(|e| LogError::Unavailable(e.to_string()))?;
        // Partitions that are assigned just then are not paused: their events must not keep us here.
        for _ in 0..STALE {
            let Some(stale) = self.consumer.poll(Duration::ZERO) else { break };
            match stale {
                Err(KafkaError::MessageConsumptionFatal(code)) => return Err(self.ended(code)),
                Err(error) => self.consumer.context().voice.heard(&error),
                Ok(_) => {}
            }
        }
        let assignment = self.assignment()?;
        if assignment.count() == 0 {
            return Ok(());
        }
        let unavailable = |e: KafkaError| LogError::Unavailable(format!("can't rewind: {e}"));
        let committed = self.committed(assignment)?;
        self.stash.clear();
        self.begun.clear();
        self.sought.clear();
        self.progress = self.topics.progress(&committed).map_err(unavailable)?;
        let mut target = TopicPartitionList::new();
        for element in committed.elements() {
            element.error().map_err(unavailable)?;
            let offset = match element.offset() {
                Offset::Offset(offset) => Offset::Offset(offset),
                Offset::Invalid
                | Offset::Beginning
                | Offset::End
                | Offset::Stored
                | Offset::OffsetTail(_) => Offset::Beginning,
            };
            target.add_partition_offset(element.topic(), element.partition(), offset).map_err(unavailable)?;
        }
        let sought = self.seek(target)?;
        self.consumer.resume(&sought).map_err(unavailable)
    }

    fn close(mut self, deadline: Duration) {
        self.consumer.deadline = deadline;
    }
}
