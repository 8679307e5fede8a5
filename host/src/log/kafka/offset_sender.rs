//! Offsets of a transaction, sent in bounded time.
//!
//! librdkafka forgets the time limit of `send_offsets_to_transaction` once it looks for the group's coordinator, and
//! waits until some broker's connection changes, perhaps for ever (librdkafka issues 5456 and 5511). So the call is
//! made on a thread of its own, one for each producer. When it takes too long, both are left alone: the thread ends, and
//! the producer with it, if the call returns; meanwhile a new producer of the same transactional.id has fenced it.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::KafkaError;
use rdkafka::producer::{Producer, ProducerContext};

use super::CALL;
use super::failed::Failed;

/// How long a call may take. It is a few milliseconds as a rule, and nothing else would end it, so the first limit is a
/// short one: after an outage, one subscriber after another may run into it. Each that is run into doubles the next, up to
/// the time that both of its requests may take, and a broker that is slow has several times what its last answer took.
const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(2 * CALL.as_secs() + 1);
const TIMES_THE_LAST: u32 = 4;

/// Of one transactional.id, over its producers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience(Duration);

impl Default for Patience {
    fn default() -> Self {
        Self(LEAST)
    }
}

pub(super) struct OffsetSender {
    /// `None` while it is dropped.
    offsets: Option<SyncSender<(TopicPartitionList, Arc<ConsumerGroupMetadata>)>>,
    answers: Receiver<Result<(), KafkaError>>,
    /// `None` once a call has taken too long. Ends with `offsets`.
    thread: Option<JoinHandle<()>>,
}

impl OffsetSender {
    pub(super) fn new<C, P>(producer: Arc<P>) -> io::Result<Self>
    where
        C: ProducerContext,
        P: Producer<C> + Send + Sync + 'static,
    {
        let (offsets, to_send) = sync_channel::<(TopicPartitionList, Arc<ConsumerGroupMetadata>)>(1);
        let (answer, answers) = sync_channel(1);
        let thread = thread::Builder::new().name("offsets".into()).spawn(move || {
            for (offsets, group) in to_send {
                // Nobody listens any more when it took too long.
                let _ = answer.send(producer.send_offsets_to_transaction(&offsets, &group, CALL));
            }
        })?;
        Ok(Self { offsets: Some(offsets), answers, thread: Some(thread) })
    }

    /// After an error of ours the producer is of no more use.
    pub(super) fn send(
        &mut self,
        offsets: TopicPartitionList,
        group: Arc<ConsumerGroupMetadata>,
        patience: &mut Patience,
    ) -> Result<(), Failed> {
        let began = Instant::now();
        let sent = self.offsets.as_ref().is_some_and(|sender| sender.send((offsets, group)).is_ok());
        let limit = patience.0;
        match self.answers.recv_timeout(limit) {
            Ok(answer) if sent => {
                patience.0 = (TIMES_THE_LAST * began.elapsed()).clamp(LEAST, MOST);
                answer.map_err(Failed::of("commit offsets"))
            }
            Ok(_) | Err(_) => {
                self.thread = None;
                patience.0 = (2 * limit).min(MOST);
                Err(Failed::unsure(format!(
                    "could not commit offsets: no coordinator of the group within {limit:?}"
                )))
            }
        }
    }
}

impl Drop for OffsetSender {
    fn drop(&mut self) {
        self.offsets = None;
        if let Some(thread) = self.thread.take() {
            // It is in no call, and nothing in it panics.
            let _ = thread.join();
        }
    }
}
