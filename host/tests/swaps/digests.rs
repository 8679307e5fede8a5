//! Which version made the output of which event.

use std::collections::BTreeMap;

use wasmill::event::Event;
use wasmill::event::headers::{DIGEST, SOURCE};

use crate::common::orders::text;

/// By the partition that the events came from: their offsets, and the digest of what ran them.
#[derive(Default)]
pub(crate) struct Digests {
    partitions: BTreeMap<String, BTreeMap<i64, usize>>,
    /// Each digest once.
    names: Vec<String>,
}

impl Digests {
    pub(crate) fn note(&mut self, output: &Event) {
        let (source, digest) = (text(output, SOURCE), text(output, DIGEST));
        let (partition, offset) = source.rsplit_once('/').unwrap();
        let offset: i64 = offset.parse().unwrap();
        let digest = self.names.iter().rposition(|name| name == digest).unwrap_or_else(|| {
            self.names.push(digest.into());
            self.names.len() - 1
        });
        let before = self.partitions.entry(partition.into()).or_default().insert(offset, digest);
        assert!(before.is_none(), "{source} has two outputs");
    }

    /// Each partition's offsets have no hole, and their digests come in unbroken stretches, in the order of `swapped`,
    /// where some may have run nothing of it. Gives how many of `swapped` have outputs at all.
    pub(crate) fn follow(&self, swapped: &[String]) -> usize {
        let mut ran = vec![false; swapped.len()];
        for (partition, digests) in &self.partitions {
            assert!(digests.keys().copied().eq(0..digests.len() as i64), "{partition}: offsets are missing");
            let mut stretches: Vec<(i64, usize)> = Vec::new();
            for (&offset, &digest) in digests {
                if stretches.last().is_none_or(|(_, last)| *last != digest) {
                    stretches.push((offset, digest));
                }
            }
            let mut at = 0;
            for (offset, digest) in stretches {
                let name = &self.names[digest];
                let next = swapped[at..].iter().position(|swapped| swapped == name);
                let next = next.unwrap_or_else(|| {
                    panic!("{partition}/{offset} and on: {name} ran after {}", swapped[at])
                });
                at += next;
                ran[at] = true;
            }
        }
        ran.into_iter().filter(|ran| *ran).count()
    }
}
