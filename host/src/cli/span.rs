//! Which records a verb reads: from one point to another, as the command line gives them, and no further. What comes
//! while it reads is for the next time, so it ends beside a busy pipeline, too.

use std::collections::BTreeMap;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use miette::miette;

use crate::cli::broker;
use crate::event::{Event, Position, TopicPartition, now_ms};
use crate::log::kafka::{Cluster, End};

/// How a point in the topics is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Point {
    Beginning,
    End,
    Ago(Duration),
    /// In milliseconds since the epoch.
    At(i64),
    /// In every partition.
    Offset(i64),
    /// In its partition alone.
    Position(Position),
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "beginning" {
            Ok(Self::Beginning)
        } else if text == "end" {
            Ok(Self::End)
        } else if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
            text.parse().map(Self::Offset).map_err(|_| "no offset is that large".into())
        } else if let Ok(position) = text.parse() {
            Ok(Self::Position(position))
        } else if let Some(time) = Self::time(text) {
            Ok(time)
        } else {
            Err("give a time (2026-11-25T08:00:00Z; or 2h, which is so long ago), an offset (1200, or \
                 readings/0/1200), `beginning` or `end`"
                .into())
        }
    }
}

/// For `--since`.
pub(super) fn time(text: &str) -> Result<Point, String> {
    Point::time(text)
        .ok_or_else(|| "give a time, such as 2026-11-25T08:00:00Z, or 2h, which is so long ago".into())
}

/// humantime reads UTC alone.
fn rfc3339_ms(text: &str) -> Option<i64> {
    let minutes = |offset: &str| {
        let (hours, minutes) = offset.split_once(':')?;
        let two = |digits: &str| (digits.len() == 2).then(|| digits.parse::<u8>().ok().map(i64::from))?;
        Some(two(hours)? * 60 + two(minutes)?)
    };
    // Behind the date, whose hyphens are no signs.
    let sign = text.get(10..)?.rfind(['+', '-']).map(|at| at + 10);
    let (utc, east) = match sign {
        None => (text.to_string(), 0),
        Some(at) => {
            let east = minutes(&text[at + 1..])?;
            (format!("{}Z", &text[..at]), if text[at..].starts_with('-') { -east } else { east })
        }
    };
    let since = humantime::parse_rfc3339(&utc).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(i64::try_from(since.as_millis()).ok()? - east * 60_000)
}

impl Point {
    fn time(text: &str) -> Option<Self> {
        let ago = || humantime::parse_duration(text).ok().map(Self::Ago);
        rfc3339_ms(text).map(Self::At).or_else(ago)
    }

    /// In milliseconds since the epoch, where it is a time.
    fn time_ms(&self) -> Option<i64> {
        match self {
            Self::At(ms) => Some(*ms),
            Self::Ago(ago) => {
                let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
                Some(now_ms().saturating_sub(ago).max(0))
            }
            Self::Beginning | Self::End | Self::Offset(_) | Self::Position(_) => None,
        }
    }
}

/// What is read of each partition.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) ranges: BTreeMap<TopicPartition, Range<i64>>,
    /// When it begins, if a time was given: in milliseconds since the epoch.
    pub(super) since_ms: Option<i64>,
    /// Between which times the records are. Their order in the log is another, as clocks differ; and the embedded broker
    /// finds none by its time.
    times: Range<i64>,
}

impl Span {
    /// Ends with what is committed now. All of the topics must be there.
    pub(super) fn resolve(
        cluster: &Cluster,
        topics: &[Arc<str>],
        from: &Point,
        to: &Point,
    ) -> miette::Result<Self> {
        let refused = |error| broker::refused(cluster, error);
        let mut offsets = cluster.offsets(End::Committed).map_err(refused)?;
        let extents = offsets.extents(topics).map_err(refused)?;
        let (since_ms, until_ms) = (from.time_ms(), to.time_ms());
        let mut look_up = |time_ms: Option<i64>| match time_ms {
            Some(ms) if !cluster.is_embedded() => {
                offsets.since(extents.keys().cloned(), ms).map(Some).map_err(refused)
            }
            Some(_) | None => Ok(None),
        };
        let (starts, ends) = (look_up(since_ms)?, look_up(until_ms)?);
        let alone = alone(&extents, from, to)?;
        let ranges = extents.into_iter().filter(|(id, _)| alone.as_ref().is_none_or(|alone| alone == id));
        let ranges = ranges.map(|(id, extent)| {
            let at = |point: &Point, found: &Option<BTreeMap<TopicPartition, i64>>, otherwise: i64| {
                let at = match (point, found) {
                    (Point::Offset(offset), _) => *offset,
                    (Point::Position(position), _) => position.offset,
                    (Point::Beginning, _) => extent.start,
                    (Point::End, _) => extent.end,
                    // No record is as late.
                    (Point::At(_) | Point::Ago(_), Some(found)) => *found.get(&id).unwrap_or(&extent.end),
                    (Point::At(_) | Point::Ago(_), None) => otherwise,
                };
                at.clamp(extent.start, extent.end)
            };
            let start = at(from, &starts, extent.start);
            let end = at(to, &ends, extent.end).max(start);
            (id, start..end)
        });
        let times = since_ms.unwrap_or(i64::MIN)..until_ms.unwrap_or(i64::MAX);
        Ok(Self { ranges: ranges.collect(), since_ms, times })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.values().all(Range::is_empty)
    }

    /// Whether it is from between the points by its own time, too.
    pub(super) fn takes(&self, event: &Event) -> bool {
        event.timestamp_ms.is_none_or(|ms| self.times.contains(&ms))
    }
}

/// The partition that is meant alone, if one is.
fn alone(
    extents: &BTreeMap<TopicPartition, Range<i64>>,
    from: &Point,
    to: &Point,
) -> miette::Result<Option<TopicPartition>> {
    let partition = |point: &Point| match point {
        Point::Position(position) => Some(position.topic_partition()),
        Point::Beginning | Point::End | Point::Ago(_) | Point::At(_) | Point::Offset(_) => None,
    };
    let (first, last) = (partition(from), partition(to));
    if let (Some(first), Some(last)) = (&first, &last)
        && first != last
    {
        return Err(miette!(
            help = "without a topic, an offset counts for all partitions",
            "--from is in {first} and --to in {last}: a position means its partition alone"
        ));
    }
    let alone = first.or(last);
    if let Some(id) = alone.as_ref().filter(|id| !extents.contains_key(id)) {
        let known: Vec<String> = extents.keys().map(TopicPartition::to_string).collect();
        return Err(miette!(
            help = format!("there are: {}", known.join(", ")),
            "there is no partition {id} to read"
        ));
    }
    Ok(alone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_offsets_are_told_apart() {
        let point = |text: &str| text.parse::<Point>();
        assert_eq!(point("beginning"), Ok(Point::Beginning));
        assert_eq!(point("0"), Ok(Point::Offset(0)));
        assert_eq!(point("2h"), Ok(Point::Ago(Duration::from_secs(7200))));
        assert_eq!(
            point("in.put/1/7"),
            Ok(Point::Position(Position { topic: "in.put".into(), partition: 1, offset: 7 }))
        );
        let at = Ok(Point::At(1_790_000_000_123));
        assert_eq!(point("2026-09-21T14:13:20.123Z"), at);
        assert_eq!(point("2026-09-21T16:43:20.123+02:30"), at);
        assert_eq!(point("2026-09-21T06:13:20.123-08:00"), at);
        for wrong in
            ["", "yesterday", "-5", "2026-09-21", "2026-09-21T14:13:20", "99999999999999999999", "in/0/-1"]
        {
            assert!(point(wrong).is_err(), "{wrong}");
        }
        assert_eq!(time("2h").ok(), point("2h").ok());
        assert_eq!(time("2026-09-21T14:13:20.123Z"), at);
        assert!(time("beginning").is_err() && time("in/1/7").is_err());
    }

    #[test]
    fn a_position_means_its_partition_alone() {
        let id = |partition| TopicPartition { topic: "in".into(), partition };
        let extents = BTreeMap::from([(id(0), 0..9), (id(1), 0..9)]);
        let alone = |from: &str, to: &str| alone(&extents, &from.parse().unwrap(), &to.parse().unwrap());
        assert_eq!(alone("3", "end").unwrap(), None);
        assert_eq!(alone("in/1/3", "end").unwrap(), Some(id(1)));
        assert_eq!(alone("beginning", "in/0/3").unwrap(), Some(id(0)));
        assert!(alone("in/0/3", "in/1/3").unwrap_err().to_string().contains("in/0"));
        assert!(alone("out/0/3", "end").is_err());
    }
}
