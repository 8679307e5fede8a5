//! What is done beyond a committed offset, as the text that Kafka keeps beside it (`OffsetCommit`'s metadata).
//!
//! A partition's offset stands before its first event that waits; later events are done already. A shard that takes
//! over, after a restart or a rebalance, reads from here which they are, and neither repeats nor leaves out any.
//!
//! The format: `w1`, then `r` or `b`, then base64 (URL-safe, unpadded). `r` is run lengths as LEB128 numbers, undone
//! and done by turns, from the committed offset up to the last that is done. `b` is the same as bits, a 1 for done, the
//! lowest bit first. The shorter one is written.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use thiserror::Error;

use crate::log::Progress;

/// Kafka's default for `offset.metadata.max.bytes`.
const METADATA_BYTES: usize = 4096;
const MARK: &str = "w";
const RUNS: &str = "w1r";
const BITS: &str = "w1b";
/// What base64 leaves of it.
const PAYLOAD_BYTES: usize = (METADATA_BYTES - RUNS.len()) * 3 / 4;
const MOST_BITS: i64 = PAYLOAD_BYTES as i64 * 8;

/// Where a partition stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beyond {
    /// In order; all of them below `end`.
    pub(super) undone: Vec<i64>,
    /// All offsets below it that are not undone are done.
    pub(super) end: i64,
}

/// Metadata that can't be followed. To go on without them would repeat events.
#[derive(Debug, Error)]
pub enum BeyondError {
    #[error("were written by a newer version of Wasmill: run that one")]
    Newer,
    #[error(
        "are damaged: stop the hosts and clear them with `kafka-consumer-groups.sh --reset-offsets`; what was done beyond \
         the committed offset is done again then"
    )]
    Damaged,
}

impl Beyond {
    /// What to commit.
    ///
    /// # Panics
    /// If it doesn't [fit](Fit).
    pub(super) fn progress(&self) -> Progress {
        let Some(&offset) = self.undone.first() else {
            return Progress { offset: self.end, metadata: String::new() };
        };
        let runs = self.runs(offset);
        let mut coded = Vec::new();
        runs.iter().for_each(|run| put(&mut coded, *run));
        let bits = self.end - offset;
        let (mark, bytes) =
            if coded.len() as i64 * 8 > bits { (BITS, self.bits(offset)) } else { (RUNS, coded) };
        let metadata =
            if runs.is_empty() { String::new() } else { format!("{mark}{}", BASE64.encode(bytes)) };
        assert!(metadata.len() <= METADATA_BYTES, "what runs fits");
        Progress { offset, metadata }
    }

    /// By what was committed. Metadata that others wrote say nothing.
    pub fn of(progress: &Progress) -> Result<Self, BeyondError> {
        let Progress { offset, metadata } = progress;
        let offset = *offset;
        let decode = |text| BASE64.decode(text).map_err(|_| BeyondError::Damaged);
        if let Some(text) = metadata.strip_prefix(RUNS) {
            Self::of_runs(offset, &decode(text)?)
        } else if let Some(text) = metadata.strip_prefix(BITS) {
            Self::of_bits(offset, &decode(text)?)
        } else if metadata
            .strip_prefix(MARK)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        {
            Err(BeyondError::Newer)
        } else {
            Ok(Self { undone: Vec::new(), end: offset })
        }
    }

    /// Whether the event there is done.
    pub fn is_done(&self, offset: i64) -> bool {
        offset < self.end && self.undone.binary_search(&offset).is_err()
    }

    /// Undone and done by turns. The last one is done.
    fn runs(&self, offset: i64) -> Vec<u64> {
        let mut runs = Vec::new();
        let (mut at, mut undone) = (offset, 0);
        for &next in &self.undone {
            if next > at {
                runs.extend([undone, next.abs_diff(at)]);
                undone = 0;
            }
            undone += 1;
            at = next + 1;
        }
        if self.end > at {
            runs.extend([undone, self.end.abs_diff(at)]);
        }
        runs
    }

    fn bits(&self, offset: i64) -> Vec<u8> {
        let bits = self.end - offset;
        let mut bytes = vec![0xff; usize::try_from(bits).unwrap_or_default().div_ceil(8)];
        let undone = self.undone.iter().copied().chain(self.end..offset + bytes.len() as i64 * 8);
        for bit in undone.map(|undone| (undone - offset) as usize) {
            bytes[bit / 8] &= !(1 << (bit % 8));
        }
        bytes
    }

    fn of_runs(offset: i64, mut bytes: &[u8]) -> Result<Self, BeyondError> {
        let mut beyond = Self { undone: Vec::new(), end: offset };
        while !bytes.is_empty() {
            let [undone, done] = [take(&mut bytes)?, take(&mut bytes)?];
            let after = |end: i64, run| end.checked_add_unsigned(run).ok_or(BeyondError::Damaged);
            let next = after(beyond.end, undone)?;
            // No more than what was written can be undone.
            if beyond.undone.len() as i64 + (next - beyond.end) > MOST_BITS {
                return Err(BeyondError::Damaged);
            }
            beyond.undone.extend(beyond.end..next);
            beyond.end = after(next, done)?;
        }
        Ok(beyond)
    }

    fn of_bits(offset: i64, bytes: &[u8]) -> Result<Self, BeyondError> {
        let last = bytes.last().filter(|last| **last != 0).ok_or(BeyondError::Damaged)?;
        let bits = bytes.len() as i64 * 8 - i64::from(last.leading_zeros());
        let end = offset.checked_add(bits).ok_or(BeyondError::Damaged)?;
        let undone = |bit: &i64| bytes[*bit as usize / 8] & (1 << (bit % 8)) == 0;
        Ok(Self { undone: (0..bits).filter(undone).map(|bit| offset + bit).collect(), end })
    }
}

/// Finds how far a partition's events may run: whatever becomes of them, what is to be written down fits.
///
/// Among offsets that follow each other, any choice of undone ones fits as bits while they span no more than there are.
/// As runs, each undone one costs a byte and the length of the gap behind it; to take one away never makes the rest
/// dearer.
#[derive(Default)]
pub(super) struct Fit {
    first: Option<i64>,
    last: i64,
    bytes: usize,
}

impl Fit {
    /// Whether it fits with this one too, which comes after all others.
    pub(super) fn takes(&mut self, offset: i64) -> bool {
        let first = *self.first.get_or_insert(offset);
        if first != offset {
            self.bytes += 1 + length(offset.abs_diff(self.last + 1).max(1));
        }
        self.last = offset;
        // One more, for the undone byte of the last one; the done run behind it is at most one event long.
        offset - first < MOST_BITS || self.bytes + 2 <= PAYLOAD_BYTES
    }
}

/// Of a LEB128 number, in bytes.
fn length(number: u64) -> usize {
    (64 - number.leading_zeros()).div_ceil(7).max(1) as usize
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Result<u64, BeyondError> {
    let mut number = 0_u64;
    for shift in (0..63).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(BeyondError::Damaged)?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(BeyondError::Damaged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Offsets with gaps, as transactions and compaction leave them, and which of them are done.
    fn offsets() -> impl Strategy<Value = (Vec<i64>, Vec<bool>)> {
        let gap = prop_oneof![20 => Just(1..2_i64), 3 => Just(1..4), 1 => Just(1..1_000_000)];
        let gaps = prop::collection::vec(gap.prop_flat_map(|gap| gap), 1..4000);
        (0..1_000_000_i64, gaps, prop::collection::vec(any::<bool>(), 4000), 0..3_u8).prop_map(
            |(first, gaps, mut done, how)| {
                let offsets: Vec<i64> = gaps
                    .iter()
                    .scan(first, |at, gap| {
                        *at += gap;
                        Some(*at)
                    })
                    .collect();
                match how {
                    0 => {}
                    1 => done.fill(true),
                    _ => done.iter_mut().enumerate().for_each(|(n, done)| *done = n % 2 == 1),
                }
                done[0] = false;
                (offsets, done)
            },
        )
    }

    proptest! {
        #[test]
        fn whatever_of_what_fits_is_done_can_be_written_down_and_read_again((offsets, done) in offsets()) {
            let mut fit = Fit::default();
            let fitting: Vec<i64> = offsets.iter().copied().take_while(|offset| fit.takes(*offset)).collect();
            prop_assert!(!fitting.is_empty());
            let is_done = |n: &usize| done[*n];
            let end = (0..fitting.len()).rev().find(is_done).map_or(fitting[0], |last| fitting[last] + 1);
            let undone = fitting.iter().enumerate().filter(|(n, offset)| !done[*n] && **offset < end);
            let beyond = Beyond { undone: undone.map(|(_, offset)| *offset).collect(), end };
            let progress = beyond.progress();
            prop_assert!(progress.metadata.len() <= METADATA_BYTES);
            prop_assert_eq!(progress.offset, fitting[0]);
            prop_assert!(fitting.iter().enumerate().all(|(n, at)| beyond.is_done(*at) == (*at < end && done[n])));
            prop_assert_eq!(Beyond::of(&progress).unwrap(), beyond);
        }

        #[test]
        fn text_from_anywhere_is_read_without_a_panic(text in "w1[rb][A-Za-z0-9_-]{0,80}|.{0,20}", offset in 0..i64::MAX) {
            if let Ok(beyond) = Beyond::of(&Progress { offset, metadata: text }) {
                prop_assert!(beyond.end >= offset);
                prop_assert!(beyond.undone.iter().all(|undone| (offset..beyond.end).contains(undone)));
            }
        }
    }

    #[test]
    fn nothing_is_written_where_the_offset_says_it_all() {
        let beyond = Beyond { undone: vec![], end: 7 };
        assert_eq!(beyond.progress(), Progress { offset: 7, metadata: String::new() });
    }

    #[test]
    fn the_shorter_form_is_written() {
        let far = Beyond { undone: vec![5], end: 100_000 };
        assert_eq!(far.progress().metadata, "w1rAZqNBg");
        let alternating = Beyond { undone: (0..1000).step_by(2).collect(), end: 1000 };
        let metadata = alternating.progress().metadata;
        assert!(metadata.starts_with(BITS) && metadata.len() < 180, "{metadata}");
    }

    #[test]
    fn metadata_of_others_say_nothing_and_those_of_a_newer_version_are_no_guess() {
        let of = |metadata: &str| Beyond::of(&Progress { offset: 3, metadata: metadata.into() });
        for foreign in ["", "NO_METADATA", "wasm"] {
            assert_eq!(of(foreign).unwrap(), Beyond { undone: vec![], end: 3 });
        }
        assert!(matches!(of("w2xyz"), Err(BeyondError::Newer)));
        for damaged in ["w1r!", "w1rgA", "w1b", "w1bAA"] {
            assert!(matches!(of(damaged), Err(BeyondError::Damaged)), "{damaged}");
        }
    }
}
