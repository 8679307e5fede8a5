//! The consuming half: one static member of a consumer group, reading committed records only.
//!
//! The group's rebalances run inside `poll`, so everything here happens on the caller's thread. What was
//! polled under an older assignment is forgotten; what was polled under this one can be committed only
//! with the [`Membership`] of this one, which the broker checks (KIP-447).

use std::collections::{HashSet, VecDeque};
use std::error::Error;
use std::mem;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{ClientConfig, ClientContext};
use rdkafka::{Offset, TopicPartitionList};
use tracing::{debug, info};

use super::client::{self, Voice};
use super::closing::Closing;
use super::record::{self, Topics};
use super::{CALL, ConnectError, native, token};
use crate::event::TopicPartition;
use crate::log::{self, Polled, SourceError};

/// Answers that a rewind looks through, at most, to serve the rebalances among them.
const STALE: usize = 1000;

pub struct Source {
    consumer: Closing<Member>,
    config: ClientConfig,
    name: String,
    subscription: Vec<Arc<str>>,
    topics: Topics,
    embedded: bool,
    /// When this member was fenced lately.
    fenced: VecDeque<Instant>,
    /// An error that came after events of the same poll: told by the next one.
    held: Option<SourceError>,
}

/// A batch is bounded in bytes as well, keys and payloads: it is copied into the component's memory, and its
/// outputs, of about that size, wait in the producer's queue.
const BATCH_BYTES: usize = 16 * 1024 * 1024;

type GroupConsumer = BaseConsumer<Group>;

/// Says farewell when it is dropped. A static member's close is silent, for it may be back soon; but who
/// unsubscribes before it leaves the group, and the others take over at once.
struct Member(Arc<GroupConsumer>);

impl Drop for Member {
    fn drop(&mut self) {
        let until = Instant::now() + CALL;
        self.0.unsubscribe();
        while native::is_member(&self.0) && Instant::now() < until {
            drop(self.0.poll(Duration::from_millis(10)));
        }
    }
}

impl Deref for Member {
    type Target = Arc<GroupConsumer>;

    fn deref(&self) -> &Arc<GroupConsumer> {
        &self.0
    }
}

/// Proof of one generation of the group.
#[derive(Clone)]
pub enum Membership {
    /// Between two assignments: nothing that was polled may be committed.
    None,
    /// For a transaction. Its generation is that of the last assignment.
    Generation(Arc<ConsumerGroupMetadata>),
    /// The embedded broker stores offsets only if the member itself commits them, so this is the member.
    Member(Weak<GroupConsumer>),
}

impl Source {
    pub(super) fn new(
        base: &client::Base,
        group: &str,
        instance: Option<&str>,
        name: String,
        topics: &[Arc<str>],
    ) -> Result<Self, ConnectError> {
        let mut config = base.consumer(group);
        if let Some(instance) = instance {
            config.set("group.instance.id", instance);
        }
        let consumer = subscribe(&config, &name, topics)?;
        Ok(Self {
            consumer,
            config,
            name,
            subscription: topics.to_vec(),
            topics: Topics::default(),
            embedded: instance.is_none(),
            fenced: VecDeque::new(),
            held: None,
        })
    }

    /// Another member has joined under this instance's name. That may be this one's own ghost: when the answer
    /// to a join is lost with its connection, the retry finds the name taken. So it joins anew, unless
    /// that does not help either: then it is another process, and the two would fence each other for ever.
    fn fenced(&mut self, reason: &str) -> SourceError {
        let now = Instant::now();
        self.fenced.push_back(now);
        while self.fenced.front().is_some_and(|&at| now - at > Duration::from_secs(60)) {
            self.fenced.pop_front();
        }
        if self.fenced.len() > 3 {
            return SourceError::Fatal(format!(
                "another process runs with the same instance name and has taken over again and again \
                 ({reason}); give each process its own `kafka.instance`"
            ));
        }
        let mut forgotten = mem::take(&mut self.consumer.context().state().forgotten);
        if let Ok(assignment) = self.consumer.assignment() {
            forgotten.extend(self.topics.partitions(&assignment));
        }
        match subscribe(&self.config, &self.name, &self.subscription) {
            Ok(consumer) => {
                consumer.context().state().forgotten = forgotten;
                self.consumer = consumer;
                SourceError::Unavailable(format!("{reason}; joins the group anew"))
            }
            Err(error) => SourceError::Fatal(error.to_string()),
        }
    }

    /// What an error means after which librdkafka's consumer is of no more use.
    fn ended(&mut self, code: Code) -> SourceError {
        let told = self.consumer.client().fatal_error();
        let reason = told.map_or_else(|| code.to_string(), |(_, text)| text);
        match code {
            Code::FencedInstanceId => self.fenced(&reason),
            _ => SourceError::Fatal(reason),
        }
    }

    fn assignment(&self) -> Result<TopicPartitionList, SourceError> {
        self.consumer.assignment().map_err(|e| SourceError::Unavailable(e.to_string()))
    }

    fn list(&self, partitions: &[TopicPartition]) -> Result<TopicPartitionList, SourceError> {
        record::list(partitions.iter().map(|p| (p, Offset::Invalid)))
            .map_err(|e| SourceError::Fatal(e.to_string()))
    }
}

impl log::Source for Source {
    type Membership = Membership;

    fn poll(&mut self, max_events: usize, wait: Duration) -> Result<Polled, SourceError> {
        if let Some(held) = self.held.take() {
            return Err(held);
        }
        let mut polled = Polled::default();
        let mut wait = wait;
        let mut bytes = 0;
        while polled.events.len() < max_events && bytes < BATCH_BYTES {
            // None comes at the end of the wait, and at once after a rebalance: so all events of one
            // call that precede a rebalance precede the loop's end, too.
            match self.consumer.poll(wait) {
                Some(Ok(message)) => {
                    bytes += message.key_len() + message.payload_len();
                    polled.events.push(self.topics.event(&message));
                }
                None => break,
                // The events of this poll come again, to whomever the group gives them.
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => return Err(self.ended(code)),
                // Of several errors the last one counts, told when what came with them is handled.
                Some(Err(error)) => {
                    if let Some(error) = fate(&error, &self.consumer.context().voice) {
                        self.held = Some(error);
                    }
                }
            }
            wait = Duration::ZERO;
        }
        if polled.events.is_empty()
            && let Some(error) = self.held.take()
        {
            return Err(error);
        }
        if !polled.events.is_empty() {
            self.consumer.context().voice.works();
        }
        let forgotten = mem::take(&mut self.consumer.context().state().forgotten);
        polled.events.retain(|e| !forgotten.contains(&e.position.topic_partition()));
        polled.forgotten = forgotten.into_iter().collect();
        Ok(polled)
    }

    fn membership(&self) -> Membership {
        match &self.consumer.context().state().generation {
            None => Membership::None,
            Some(_) if self.embedded => Membership::Member(Arc::downgrade(&self.consumer)),
            Some(generation) => Membership::Generation(generation.clone()),
        }
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), SourceError> {
        let list = self.list(partitions)?;
        self.consumer.pause(&list).map_err(|e| SourceError::Unavailable(e.to_string()))
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), SourceError> {
        let list = self.list(partitions)?;
        self.consumer.resume(&list).map_err(|e| SourceError::Unavailable(e.to_string()))
    }

    fn rewind(&mut self) -> Result<(), SourceError> {
        // Only a poll serves rebalances. After an outage the group waits for this member to give its
        // partitions back, and answers nothing before. What comes out is polled again after the seek.
        self.consumer.pause(&self.assignment()?).map_err(|e| SourceError::Unavailable(e.to_string()))?;
        // Partitions that are assigned just then are not paused: their events must not keep us here.
        for _ in 0..STALE {
            let Some(stale) = self.consumer.poll(Duration::ZERO) else { break };
            if let Err(KafkaError::MessageConsumptionFatal(code)) = stale {
                drop(stale);
                return Err(self.ended(code));
            }
        }
        let assignment = self.assignment()?;
        if assignment.count() == 0 {
            return Ok(());
        }
        let unavailable = |e: KafkaError| SourceError::Unavailable(format!("can't rewind: {e}"));
        // The answer waits for an open transaction over these offsets to end (KIP-447).
        let committed = self.consumer.committed_offsets(assignment, CALL).map_err(unavailable)?;
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
        let sought = self.consumer.seek_partitions(target, CALL).map_err(unavailable)?;
        for element in sought.elements() {
            element.error().map_err(unavailable)?;
        }
        self.consumer.resume(&sought).map_err(unavailable)
    }

    fn close(mut self, deadline: Duration) {
        self.consumer.deadline = deadline;
    }
}

fn subscribe(
    config: &ClientConfig,
    name: &str,
    topics: &[Arc<str>],
) -> Result<Closing<Member>, ConnectError> {
    let group = Group { voice: Voice::new(name), state: Mutex::default() };
    let consumer: GroupConsumer = client::create(config, group)?;
    let topics: Vec<&str> = topics.iter().map(AsRef::as_ref).collect();
    consumer
        .subscribe(&topics)
        .map_err(|e| ConnectError::Fatal(format!("can't subscribe to {}: {e}", topics.join(", "))))?;
    Ok(Closing::new(Member(Arc::new(consumer))))
}

/// What the rebalance callbacks leave for `poll`.
pub struct Group {
    voice: Voice,
    state: Mutex<GroupState>,
}

#[derive(Default)]
struct GroupState {
    generation: Option<Arc<ConsumerGroupMetadata>>,
    forgotten: HashSet<TopicPartition>,
}

impl Group {
    fn state(&self) -> MutexGuard<'_, GroupState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(state: &mut GroupState, partitions: &TopicPartitionList) {
        state.forgotten.extend(Topics::default().partitions(partitions));
    }
}

impl ClientContext for Group {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        Ok(token::read(config)?)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.voice.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.voice.error(&error, reason);
    }
}

impl ConsumerContext for Group {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(partitions) => {
                let lost = consumer.assignment_lost();
                let client = self.voice.name();
                info!(target: "wasmill::kafka", client, partitions = partitions.count(), lost, "partitions revoked");
                let mut state = self.state();
                // From here to the next assignment, no generation vouches for anything.
                state.generation = None;
                Self::forget(&mut state, partitions);
            }
            Rebalance::Assign(partitions) => {
                let client = self.voice.name();
                info!(target: "wasmill::kafka", client, partitions = partitions.count(), "partitions assigned");
            }
            Rebalance::Error(error) => debug!(target: "wasmill::kafka", "rebalance failed: {error}"),
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                let generation = consumer.group_metadata().map(Arc::new);
                let mut state = self.state();
                state.generation = generation;
                Self::forget(&mut state, partitions);
            }
            Rebalance::Revoke(_) | Rebalance::Error(_) => {}
        }
    }

    fn main_queue_min_poll_interval(&self) -> rdkafka::util::Timeout {
        rdkafka::util::Timeout::After(Duration::from_millis(500))
    }
}

/// What an error in place of a record means; `None` when librdkafka mends it without us.
fn fate(error: &KafkaError, voice: &Voice) -> Option<SourceError> {
    let code = error.rdkafka_error_code()?;
    match code {
        Code::TopicAuthorizationFailed => {
            Some(SourceError::Fatal(format!("{code}: grant this client Read and Describe on the topic")))
        }
        Code::GroupAuthorizationFailed => {
            Some(SourceError::Fatal(format!("{code}: grant this client Read on the consumer group")))
        }
        Code::ClusterAuthorizationFailed => Some(SourceError::Fatal(code.to_string())),
        Code::PollExceeded => Some(SourceError::Unavailable(
            "a batch took longer than max.poll.interval.ms, so the group went on without this member; \
             it joins again"
                .into(),
        )),
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::SSL
        | Code::UnknownTopicOrPartition
        | Code::UnknownTopic => Some(SourceError::Unavailable(voice.explain(error))),
        // Lost connections, a moved leader, a coordinator on its way: the error callback has logged it. There is
        // one of these for each attempt to connect, and records wait behind them: none may cost a pause.
        passing => {
            debug!(target: "wasmill::kafka", "{passing}");
            None
        }
    }
}
