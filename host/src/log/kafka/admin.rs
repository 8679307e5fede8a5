//! Topics: which exist, and making those that don't.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::metadata::Metadata;
use tracing::warn;

use super::client::{self, Base};
use super::closing::Closing;
use super::context::{self, Plain};
use super::embedded::Embedded;
use super::token::Renewal;
use super::{CALL, ConnectError};
use crate::config::plan::{TopicKind, TopicPlan};

/// How long new topics may take to show in the metadata.
const SHOWN: Duration = Duration::from_secs(15);

pub(super) fn create_embedded(
    broker: &Embedded,
    topics: &[TopicPlan],
) -> Result<Vec<Arc<str>>, ConnectError> {
    let mut created = Vec::new();
    for topic in topics {
        let new = broker
            .create_topic(&topic.name, topic.partitions)
            .map_err(|e| ConnectError::Fatal(format!("can't create topic {}: {e}", topic.name)))?;
        if new {
            created.push(topic.name.clone());
        }
    }
    Ok(created)
}

pub(super) fn existing(base: &Base, topics: &[Arc<str>]) -> Result<Vec<Arc<str>>, ConnectError> {
    let asker: Closing<BaseConsumer<Plain>> =
        Closing::new(client::create(&base.plain_client(), Plain::new("topics"))?);
    let all = metadata(&asker, None)?;
    let mut there = Vec::new();
    for topic in topics {
        let standing = match standing(&all, topic)? {
            // A broker leaves out of all topics those that may not be described, and refuses to tell of them by name.
            Standing::Absent => standing(&metadata(&asker, Some(topic))?, topic)?,
            known => known,
        };
        match standing {
            Standing::Absent => {}
            // It may hold what the caller must know of: it isn't taken for absent.
            Standing::Leaderless => {
                let reason = format!("topic {topic} has partitions without a leader");
                return Err(ConnectError::Unavailable(reason));
            }
            Standing::Led(_) => there.push(topic.clone()),
        }
    }
    Ok(there)
}

pub(super) fn create_missing(base: &Base, topics: &[TopicPlan]) -> Result<Vec<Arc<str>>, ConnectError> {
    let config = base.plain_client();
    // The admin client serves nobody's errors, and so could not say why it has no connection.
    let asker: Closing<BaseConsumer<Plain>> = Closing::new(client::create(&config, Plain::new("topics"))?);
    let metadata = metadata(&asker, None)?;
    let mut missing = Vec::new();
    for topic in topics {
        match standing(&metadata, &topic.name)? {
            // Another host may just be creating it.
            Standing::Absent | Standing::Leaderless => missing.push(topic),
            Standing::Led(there) if there != topic.partitions => {
                warn!(
                    topic = &*topic.name,
                    there,
                    planned = topic.partitions,
                    "the topic exists with another number of partitions; it stays as it is"
                );
            }
            Standing::Led(_) => {}
        }
    }
    if missing.is_empty() {
        return Ok(Vec::new());
    }

    let admin: Closing<AdminClient<Plain>> = Closing::new(client::create(&config, Plain::new("admin"))?);
    Renewal::new(&config).renew(admin.inner()).map_err(|e| ConnectError::Unavailable(e.to_string()))?;
    let new: Vec<NewTopic<'_>> = missing
        .iter()
        .map(|t| {
            let new = NewTopic::new(&t.name, t.partitions, TopicReplication::Fixed(t.replication));
            match t.kind {
                TopicKind::Events => new,
                // Until somebody has settled it, however long that takes: Kafka would drop it after a week.
                TopicKind::DeadLetters => new
                    .set("max.message.bytes", client::MAX_RECORD_BYTES)
                    .set("retention.ms", "-1")
                    .set("retention.bytes", "-1"),
                TopicKind::Marks => new.set("cleanup.policy", "compact"),
                // Void within minutes; an hour is for who looks into it.
                TopicKind::Claims => new
                    .set("cleanup.policy", "delete")
                    .set("retention.ms", "3600000")
                    .set("segment.ms", "600000")
                    .set("message.timestamp.type", "LogAppendTime"),
            }
        })
        .collect();
    let options = AdminOptions::new().operation_timeout(Some(SHOWN)).request_timeout(Some(SHOWN));
    let results = wait_for(admin.create_topics(&new, &options))
        .map_err(|e| ConnectError::Unavailable(format!("can't create topics: {e}")))?;
    let mut created = Vec::new();
    for (topic, result) in missing.iter().zip(results) {
        match result {
            Ok(_) => created.push(topic.name.clone()),
            // Another host was faster.
            Err((_, Code::TopicAlreadyExists)) => {}
            Err((name, code)) => {
                return Err(ConnectError::Fatal(format!(
                    "can't create topic {name}: {code}; {}",
                    remedy(code)
                )));
            }
        }
    }

    // The controller knows them; the brokers hear of them a moment later, and there is no event for that.
    let until = Instant::now() + SHOWN;
    loop {
        let metadata = self::metadata(&asker, None)?;
        let mut hidden = None;
        for topic in &missing {
            match standing(&metadata, &topic.name)? {
                Standing::Absent | Standing::Leaderless => hidden = Some(&topic.name),
                Standing::Led(_) => {}
            }
        }
        let Some(topic) = hidden else { return Ok(created) };
        if Instant::now() >= until {
            return Err(ConnectError::Unavailable(format!("topic {topic} does not show up")));
        }
        thread::park_timeout(Duration::from_millis(50));
    }
}

/// Of one topic, or of all in one request: one for each would each wait its time for a broker that is away.
fn metadata(asker: &BaseConsumer<Plain>, topic: Option<&str>) -> Result<Metadata, ConnectError> {
    // Serves a token, where one is needed.
    drop(asker.poll(Duration::ZERO));
    asker.fetch_metadata(topic, CALL).map_err(|error| {
        context::listen(asker);
        let error = asker.context().voice.explain(&error);
        ConnectError::Unavailable(format!("can't ask for the topics: {error}"))
    })
}

/// How a topic stands.
enum Standing {
    Absent,
    /// It is new, or brokers are away.
    Leaderless,
    /// So many partitions, each with a leader.
    Led(i32),
}

fn standing(metadata: &Metadata, topic: &str) -> Result<Standing, ConnectError> {
    let unavailable = |e: String| ConnectError::Unavailable(format!("metadata of topic {topic}: {e}"));
    let Some(topic_metadata) = metadata.topics().iter().find(|t| t.name() == topic) else {
        return Ok(Standing::Absent);
    };
    match topic_metadata.error().map(Code::from) {
        None => {}
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => return Ok(Standing::Absent),
        Some(Code::LeaderNotAvailable) => return Ok(Standing::Leaderless),
        Some(code @ (Code::TopicAuthorizationFailed | Code::InvalidTopic)) => {
            return Err(ConnectError::Fatal(format!("topic {topic}: {code}; {}", remedy(code))));
        }
        Some(code) => return Err(unavailable(code.to_string())),
    }
    let led = topic_metadata.partitions().iter().filter(|p| p.leader() >= 0).count();
    let all = topic_metadata.partitions().len();
    Ok(if led == all && all > 0 {
        Standing::Led(i32::try_from(all).unwrap_or(i32::MAX))
    } else {
        Standing::Leaderless
    })
}

fn remedy(code: Code) -> &'static str {
    match code {
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            "create it by hand, or grant this client Create and Describe"
        }
        Code::InvalidReplicationFactor => "the cluster has fewer brokers than `replication` asks for",
        Code::InvalidTopic => "Kafka refuses that name",
        _ => "create it by hand with what the cluster's policy asks for",
    }
}

/// Runs one future to its end on this thread, inside or outside a runtime.
fn wait_for<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
