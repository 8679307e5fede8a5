//! Publishing single records from async code: the HTTP ingress, which answers 2xx only after the broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};

use tokio::sync::oneshot;

use super::client::{self, Base};
use super::closing::Closing;
use super::context::Context;
use super::{ConnectError, native, record};
use crate::event::{Position, Record};
use crate::log::{Publish, PublishError, Publishing};

/// Idempotent, acknowledged by all replicas. Share it by reference; dropping it waits for what is under way,
/// a few seconds at most.
pub struct Publisher {
    polled: Closing<Polled>,
    give_up: Duration,
}

/// How late a stop is seen, at most: an acknowledgement ends a poll. rdkafka takes what is left of it in whole milliseconds and
/// spins through the rest, which is next to nothing with these 100 us more, and otherwise nearly one.
const STEP: Duration = Duration::from_micros(50_100);

/// From the moment at which librdkafka gives a record up to its report: it looks once a second.
const REPORT: Duration = Duration::from_secs(1);

struct Polled {
    producer: Arc<BaseProducer<Context<Acknowledgements>>>,
    stop: Arc<AtomicBool>,
    /// Serves the acknowledgements; ends when `stop` is set, joined on drop.
    poller: Option<JoinHandle<()>>,
}

impl Publisher {
    pub(super) fn new(base: &Base, give_up: Duration) -> Result<Self, ConnectError> {
        let mut config = base.producer();
        // Whoever asked repeats the request when there is no answer: a record that came late, after the repetition,
        // would be a second one.
        config.set("message.timeout.ms", give_up.as_millis().max(1).to_string());
        let context = Context::<Acknowledgements>::new("publisher");
        let producer: Arc<BaseProducer<_>> = Arc::new(client::create(&config, context)?);
        let stop = Arc::new(AtomicBool::new(false));
        let poller = {
            let (producer, stop) = (producer.clone(), stop.clone());
            thread::Builder::new()
                .name("publisher".into())
                .spawn(move || {
                    while !stop.load(Ordering::Acquire) {
                        producer.poll(STEP);
                        producer.context().voice.reach_again(producer.client());
                    }
                })
                .map_err(|e| ConnectError::Fatal(format!("can't start a thread: {e}")))?
        };
        Ok(Self { polled: Closing::new(Polled { producer, stop, poller: Some(poller) }), give_up })
    }
}

impl Publish for Publisher {
    fn publish(&self, record: Record, timeout: Duration) -> Publishing<'_> {
        Box::pin(async move {
            // Not sooner than the record is given up: until then it may still be written.
            let timeout = timeout.max(self.give_up) + REPORT;
            let (sender, receiver) = oneshot::channel();
            self.polled
                .producer
                .send(record::base_record(&record, Box::new(sender)))
                .map_err(|(error, _)| publish_error(&error))?;
            match tokio::time::timeout(timeout, receiver).await {
                Ok(Ok(Ok((partition, offset)))) => Ok(Position { topic: record.topic, partition, offset }),
                Ok(Ok(Err(error))) => Err(match publish_error(&error) {
                    PublishError::Unavailable(_) => {
                        PublishError::Unavailable(self.polled.producer.context().voice.explain(&error))
                    }
                    clear @ (PublishError::TooLarge(_)
                    | PublishError::Overloaded
                    | PublishError::Refused(_)) => clear,
                }),
                // The sender is dropped only with the producer.
                Ok(Err(_)) => Err(PublishError::Unavailable("the publisher was closed".into())),
                Err(_) => Err(PublishError::Unavailable(format!("no answer within {timeout:?}"))),
            }
        })
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        let limit = Duration::from_secs(2);
        native::flush(&self.producer, limit, limit, || false);
        self.stop.store(true, Ordering::Release);
        if let Some(poller) = self.poller.take() {
            // It panics only if a callback does.
            let _ = poller.join();
        }
    }
}

fn publish_error(error: &KafkaError) -> PublishError {
    match error.rdkafka_error_code() {
        Some(Code::QueueFull) => PublishError::Overloaded,
        Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize) => {
            PublishError::TooLarge(error.to_string())
        }
        Some(
            Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::UnknownPartition
            | Code::InvalidTopic
            | Code::PolicyViolation
            | Code::InvalidRecord
            | Code::InvalidArgument,
        ) => PublishError::Refused(error.to_string()),
        _ => PublishError::Unavailable(error.to_string()),
    }
}

type Acknowledgement = Result<(i32, i64), KafkaError>;

#[derive(Default)]
struct Acknowledgements;

impl ProducerContext for Context<Acknowledgements> {
    type DeliveryOpaque = Box<oneshot::Sender<Acknowledgement>>;

    fn delivery(&self, result: &DeliveryResult<'_>, sender: Self::DeliveryOpaque) {
        let answer = match result {
            Ok(message) => {
                self.voice.works();
                Ok((message.partition(), message.offset()))
            }
            Err((error, _)) => Err(error.clone()),
        };
        // Whoever asked may have stopped waiting.
        let _ = sender.send(answer);
    }
}
