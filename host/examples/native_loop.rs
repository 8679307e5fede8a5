//! How fast the log alone is: poll, copy, commit exactly once, on one thread and without a component.
//!
//!     kafka/start &
//!     cargo run --release --example native_loop -- 127.0.0.1:9092 [EVENTS] [BATCH]
//!
//! Prints events/s; the difference to a handler's events/s is what the sandbox costs.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmill::config::plan::{Brokers, KafkaPlan, TopicPlan};
use wasmill::event::Record;
use wasmill::log::kafka::{Cluster, Membership};
use wasmill::log::{Commit, Committer as _, Source as _};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let brokers = arguments.next().unwrap_or_else(|| "127.0.0.1:9092".into());
    let count: usize = arguments.next().map_or(Ok(500_000), |n| n.parse())?;
    let batch: usize = arguments.next().map_or(Ok(1000), |n| n.parse())?;

    let run = uuid::Uuid::now_v7().simple().to_string();
    let plan = KafkaPlan {
        brokers: Brokers::Addresses(brokers),
        properties: BTreeMap::new(),
        instance: run.clone(),
    };
    let cluster = Cluster::connect(&plan, "native-loop")?;
    let [input, output]: [Arc<str>; 2] = ["in", "out"].map(|side| format!("native-loop-{run}-{side}").into());
    let topics = [&input, &output].map(|t| TopicPlan { name: t.clone(), partitions: 1, replication: 1 });
    cluster.ensure_topics(&topics)?;

    let mut producer = cluster.committer("input", 0)?;
    for start in (0..count).step_by(10_000) {
        let publish = (start..count.min(start + 10_000)).map(|n| order(&input, n)).collect();
        producer.commit(&Commit { publish, offsets: BTreeMap::new() }, &Membership::None)?;
    }

    let mut committer = cluster.committer("loop", 0)?;
    let mut source =
        cluster.source(&format!("native-loop-{run}"), "loop", 0, std::slice::from_ref(&input))?;
    let (mut done, mut commits, mut started) = (0, 0, None);
    while done < count {
        let polled = source.poll(batch, Duration::from_millis(100))?;
        if polled.events.is_empty() {
            continue;
        }
        // From the first events on: joining the group is not part of the figure.
        let started = *started.get_or_insert_with(Instant::now);
        let mut commit = Commit::default();
        for event in polled.events {
            commit.offsets.insert(event.position.topic_partition(), event.position.offset + 1);
            commit.publish.push(Record {
                topic: output.clone(),
                key: event.key,
                payload: event.payload,
                headers: event.headers,
            });
        }
        committer.commit(&commit, &source.membership())?;
        done += commit.publish.len();
        commits += 1;
        if done >= count {
            let seconds = started.elapsed().as_secs_f64();
            println!("{done} events in {commits} transactions: {:.0} events/s", done as f64 / seconds);
        }
    }
    source.close(Duration::from_secs(5));
    Ok(())
}

/// 314 bytes, like the example pipeline's.
fn order(topic: &Arc<str>, n: usize) -> Record {
    let id = format!("o-{n:08}");
    let mut body = format!(r#"{{"order_id":"{id}","customer":{{"id":"c-00042"}},"pad":""#);
    body.extend(std::iter::repeat_n('x', 312 - body.len()));
    body.push_str("\"}");
    Record { topic: topic.clone(), key: Some(id.into()), payload: Some(body.into()), headers: Vec::new() }
}
