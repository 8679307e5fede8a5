//! Asks the brokers, every now and then, where the partitions end that this host's shards own: by one connection and, as a
//! rule, one request to each broker, whoever looks at the status however often.
//!
//! A consumer hears of the ends of its partitions itself, but not of those that are paused, or of which enough is on its way
//! to it: just where something waits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tracing::debug;

use super::signal::Signal;
use super::subscriber::Grounds;
use crate::event::TopicPartition;
use crate::log::kafka::{Cluster, ConnectError, End, Offsets};
use crate::status::{Extents, Owned, Status};

const EVERY: Duration = Duration::from_secs(5);
/// While nothing is known.
const SOON: Duration = Duration::from_millis(500);

pub(super) fn watch_lag(grounds: &Grounds) -> miette::Result<()> {
    let Grounds { cluster, status, .. } = grounds.clone();
    grounds.threads.spawn("lag".into(), &grounds.stop, move |stop| {
        let mut watch = Watch { cluster: &cluster, status: &status, stop, known: Extents::default() };
        let mut offsets = None;
        loop {
            if offsets.is_none() {
                // A record of a transaction that is open is one that waits.
                offsets = cluster.offsets(End::Written).ok();
            }
            if let Some(offsets) = &mut offsets {
                watch.look(offsets);
            }
            if stop.wait(if watch.known.ends.is_empty() { SOON } else { EVERY }) {
                return;
            }
        }
    })?;
    Ok(())
}

struct Watch<'a> {
    cluster: &'a Cluster,
    status: &'a Status,
    stop: &'a Signal,
    /// What nobody answers for stays as it was.
    known: Extents,
}

impl Watch<'_> {
    fn look(&mut self, offsets: &mut Offsets) {
        let owned = self.status.owned();
        let partitions: BTreeSet<&TopicPartition> =
            owned.iter().flat_map(|owned| owned.partitions.keys()).collect();
        self.known.ends.retain(|partition, _| partitions.contains(partition));
        let partitions: Vec<TopicPartition> = partitions.into_iter().cloned().collect();
        if partitions.is_empty() || self.is_vain() {
            return;
        }
        match offsets.ends(&partitions) {
            Ok(ends) => self.known.ends.extend(ends),
            // A topic whose broker is away says nothing of the others.
            Err(_) => partitions.chunk_by(|one, other| one.topic == other.topic).for_each(|topic| {
                if !self.is_vain() {
                    match offsets.ends(topic) {
                        Ok(ends) => self.known.ends.extend(ends),
                        Err(error) => debug!("where topic {} ends: {error}", topic[0].topic),
                    }
                }
            }),
        }
        let starts = owned.iter().map(|of_one| (of_one.subscriber.clone(), self.starts(offsets, of_one)));
        self.known.starts = starts.collect();
        self.status.extents(self.known.clone());
    }

    /// Each question may take some seconds, where there is no answer.
    fn is_vain(&self) -> bool {
        self.stop.given() || self.status.broker_away()
    }

    /// Where the group begins in partitions of which nothing has come yet: there may be nothing, or much may have to be
    /// handled before. What was known is asked for again only where it would make a lag.
    fn starts(&self, offsets: &mut Offsets, owned: &Owned) -> BTreeMap<TopicPartition, i64> {
        let before = self.known.starts.get(&owned.subscriber);
        let (mut starts, mut asked) = (BTreeMap::new(), Vec::new());
        for partition in owned.partitions.iter().filter(|(_, next)| next.is_none()).map(|(of, _)| of) {
            let start = before.and_then(|before| before.get(partition)).copied();
            match (start, self.known.ends.get(partition)) {
                (Some(start), Some(end)) if start >= *end => _ = starts.insert(partition.clone(), start),
                (_, Some(_)) => asked.push(partition.clone()),
                (_, None) => {}
            }
        }
        if !asked.is_empty() && !self.is_vain() {
            match self.committed(offsets, &owned.group, asked) {
                Ok(committed) => starts.extend(committed),
                Err(error) => debug!("where group {} begins: {error}", owned.group),
            }
        }
        starts
    }

    fn committed(
        &self,
        offsets: &mut Offsets,
        group: &str,
        partitions: Vec<TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, i64>, ConnectError> {
        let progress = self.cluster.progress(group, partitions.iter().cloned())?;
        let mut starts: BTreeMap<_, _> =
            progress.into_iter().map(|(partition, progress)| (partition, progress.offset)).collect();
        let new: Vec<_> =
            partitions.into_iter().filter(|partition| !starts.contains_key(partition)).collect();
        if !new.is_empty() {
            starts.extend(offsets.beginnings(&new)?);
        }
        Ok(starts)
    }
}
