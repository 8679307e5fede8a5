//! What became of an event then and now: pure decisions, on digests.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::ignore::Ignored;
use super::published::Entry;
use crate::event::Header;
use crate::event::headers::{RESERVED_PREFIX, TRACEPARENT};

/// The first half of the sha-256 of an output or a failure: of all that counts when two are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// The host's own headers, which tell where a record came from, don't count.
    pub(super) fn of_output(
        topic: &str,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        headers: &[Header],
        ignored: &Ignored,
    ) -> Self {
        let json = payload.and_then(|payload| ignored.json(payload)).map(|json| json.to_string());
        let payload = json.as_ref().map(String::as_bytes).or(payload);
        let own = headers.iter().filter(|header| is_own(header));
        let own = own.flat_map(|header| [Some(header.name.as_bytes()), Some(header.value.as_ref())]);
        Self::of([Some(topic.as_bytes()), key, payload].into_iter().chain(own))
    }

    pub(super) fn of_failure(kind: &str, message: &str) -> Self {
        Self::of([Some(kind.as_bytes()), Some(message.as_bytes())].into_iter())
    }

    /// None is another part than an empty one.
    fn of<'a>(parts: impl Iterator<Item = Option<&'a [u8]>>) -> Self {
        let mut sha = Sha256::new();
        for part in parts {
            sha.update(part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
            sha.update(part.unwrap_or_default());
        }
        let mut half = [0; 16];
        half.copy_from_slice(&sha.finalize()[..16]);
        Self(half)
    }
}

/// A header that the handler set, or that was passed on as it was. A `traceparent` names another span each time.
pub(super) fn is_own(header: &Header) -> bool {
    !header.name.starts_with(RESERVED_PREFIX) && header.name != TRACEPARENT
}

/// What an event had led to, as the topics tell.
pub(super) struct Before<'a> {
    /// Those of one partition stand together, in their order.
    pub(super) outputs: &'a [Entry],
    pub(super) letters: &'a [Entry],
}

/// What it leads to in the replay.
pub(super) enum Now {
    Published(Vec<Fingerprint>),
    Failed(Fingerprint),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fate {
    Equal,
    Changed,
    Missing,
    New,
    Failed,
    Mended,
}

impl Fate {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Changed => "changed",
            Self::Missing => "missing",
            Self::New => "new",
            Self::Failed => "failed",
            Self::Mended => "mended",
        }
    }
}

/// Where an event was handled more than once, and has outputs as well as a dead letter, the outputs count.
pub(super) fn fate(before: &Before<'_>, now: &Now) -> Fate {
    let failed = before.letters.last().filter(|_| before.outputs.is_empty());
    match (now, failed) {
        (Now::Failed(now), Some(letter)) if letter.what == *now => Fate::Equal,
        (Now::Failed(_), Some(_)) => Fate::Changed,
        (Now::Failed(_), None) => Fate::Failed,
        (Now::Published(_), Some(_)) => Fate::Mended,
        (Now::Published(now), None) => match (before.outputs.is_empty(), now.is_empty()) {
            (true, true) => Fate::Equal,
            (true, false) => Fate::New,
            (false, true) => Fate::Missing,
            (false, false) if matching(before.outputs, now).is_equal() => Fate::Equal,
            (false, false) => Fate::Changed,
        },
    }
}

/// Outputs without an equal one on the other side, by their numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Matching {
    pub(super) before: Vec<usize>,
    pub(super) now: Vec<usize>,
    /// Equal ones come in another order. Only that within a partition is known: keys say which records share one.
    pub(super) reordered: bool,
}

impl Matching {
    fn is_equal(&self) -> bool {
        *self == Self::default()
    }
}

pub(super) fn matching(before: &[Entry], now: &[Fingerprint]) -> Matching {
    let mut open: HashMap<Fingerprint, VecDeque<usize>> = HashMap::new();
    for (number, what) in now.iter().enumerate() {
        open.entry(*what).or_default().push_back(number);
    }
    let mut matching = Matching::default();
    let mut last = None;
    for (number, entry) in before.iter().enumerate() {
        match open.get_mut(&entry.what).and_then(VecDeque::pop_front) {
            None => matching.before.push(number),
            Some(equal) => {
                let earlier = last.replace((entry.at.partition, equal));
                matching.reordered |= earlier
                    .is_some_and(|(partition, number)| partition == entry.at.partition && number > equal);
            }
        }
    }
    matching.now = open.into_values().flatten().collect();
    matching.now.sort_unstable();
    matching
}

#[cfg(test)]
mod tests {
    use super::super::published::Place;
    use super::*;

    fn what(text: &str) -> Fingerprint {
        Fingerprint::of_failure("", text)
    }

    fn entries(texts: &[(u32, &str)]) -> Vec<Entry> {
        let source = Place { partition: 0, offset: 0 };
        let entry = |(offset, (partition, text)): (i64, &(u32, &str))| Entry {
            source,
            at: Place { partition: *partition, offset },
            what: what(text),
        };
        (0..).zip(texts).map(entry).collect()
    }

    fn of(outputs: &[(u32, &str)], letters: &[(u32, &str)], now: Result<&[&str], &str>) -> Fate {
        let (outputs, letters) = (entries(outputs), entries(letters));
        let now = match now {
            Ok(now) => Now::Published(now.iter().map(|text| what(text)).collect()),
            Err(message) => Now::Failed(what(message)),
        };
        fate(&Before { outputs: &outputs, letters: &letters }, &now)
    }

    #[test]
    fn every_pair_of_fates_has_a_name() {
        assert_eq!(of(&[], &[], Ok(&[])), Fate::Equal);
        assert_eq!(of(&[(1, "a"), (2, "b")], &[], Ok(&["b", "a"])), Fate::Equal);
        assert_eq!(of(&[(1, "a")], &[], Ok(&["b"])), Fate::Changed);
        assert_eq!(of(&[(1, "a")], &[], Ok(&["a", "a"])), Fate::Changed);
        assert_eq!(of(&[(1, "a")], &[], Ok(&[])), Fate::Missing);
        assert_eq!(of(&[], &[], Ok(&["a"])), Fate::New);
        assert_eq!(of(&[(1, "a")], &[], Err("no")), Fate::Failed);
        assert_eq!(of(&[], &[], Err("no")), Fate::Failed);
        assert_eq!(of(&[], &[(9, "no")], Err("no")), Fate::Equal);
        assert_eq!(of(&[], &[(9, "no")], Err("never")), Fate::Changed);
        assert_eq!(of(&[], &[(9, "no")], Ok(&["a"])), Fate::Mended);
        assert_eq!(of(&[], &[(9, "no")], Ok(&[])), Fate::Mended);
        assert_eq!(of(&[(1, "a")], &[(9, "no")], Ok(&["a"])), Fate::Equal);
    }

    #[test]
    fn the_order_counts_within_a_partition() {
        let before = entries(&[(1, "a"), (1, "b"), (2, "c")]);
        let now = |texts: [&str; 3]| matching(&before, &texts.map(what));
        assert!(now(["c", "a", "b"]).is_equal());
        assert_eq!(now(["b", "a", "c"]), Matching { reordered: true, ..Matching::default() });
        assert_eq!(now(["a", "d", "b"]), Matching { before: vec![2], now: vec![1], reordered: false });
    }

    #[test]
    fn what_the_host_writes_and_how_json_is_laid_out_do_not_count() {
        let header = |name: &'static str| Header::new(name, "v");
        let of = |payload: &str, headers: &[Header]| {
            let ignored = Ignored(vec!["/id".into()]);
            Fingerprint::of_output("t", None, Some(payload.as_bytes()), headers, &ignored)
        };
        let same = of(r#"{"a":1,"b":2}"#, &[]);
        assert_eq!(same, of(r#"{ "b": 2, "id": 7, "a": 1 }"#, &[header("wasmill-digest")]));
        assert_ne!(same, of(r#"{"a":1,"b":3}"#, &[]));
        assert_ne!(same, of(r#"{"a":1,"b":2}"#, &[header("mine")]));
        let none = Ignored(vec![]);
        assert_ne!(
            Fingerprint::of_output("t", None, Some(b""), &[], &none),
            Fingerprint::of_output("t", Some(b""), None, &[], &none)
        );
    }
}
