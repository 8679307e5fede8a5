//! Durations, sizes and names as pipeline.toml writes them.
//!
//! The messages quote nothing: the value may be a secret that landed in the wrong place.

use std::time::Duration;

use bytesize::ByteSize;

/// "250 ms", "30s", "1m 30s", within `least..=most`.
pub(super) fn duration(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|_| "not a duration; write one as \"250 ms\", \"30 s\" or \"5 min\"".to_string())?;
    if (least..=most).contains(&duration) {
        Ok(duration)
    } else {
        let (least, most) = (humantime::format_duration(least), humantime::format_duration(most));
        Err(format!("out of range: from {least} to {most}"))
    }
}

/// "16 MiB", "512kB", "1048576", within `least..=most`.
pub(super) fn size(text: &str, least: u64, most: u64) -> Result<usize, String> {
    let ByteSize(bytes) = text.parse().map_err(|_| "not a size; write one as \"512 KiB\" or \"16 MiB\"")?;
    match usize::try_from(bytes) {
        Ok(size) if (least..=most).contains(&bytes) => Ok(size),
        Ok(_) | Err(_) => Err(format!("out of range: from {} to {}", ByteSize(least), ByteSize(most))),
    }
}

/// "200ms..30s": the shortest and the longest wait.
pub(super) fn backoff(text: &str) -> Result<(Duration, Duration), String> {
    let (least, most) = (Duration::from_millis(1), Duration::from_secs(3600));
    let (min, max) = text
        .split_once("..")
        .ok_or("not a range of durations; write the first and the longest wait as \"200ms..30s\"")?;
    let (min, max) = (duration(min, least, most)?, duration(max, least, most)?);
    if min <= max { Ok((min, max)) } else { Err("the first wait is longer than the longest".into()) }
}

/// What Kafka takes as a topic: org.apache.kafka.common.internals.Topic.validate.
pub(super) fn topic(name: &str) -> Result<(), &'static str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name {
        "" => Err("a topic's name can't be empty"),
        "." | ".." => Err("a topic's name can't be \".\" or \"..\""),
        _ if name.len() > 249 => Err("a topic's name has at most 249 characters"),
        _ if !name.chars().all(legal) => Err("a topic's name has letters, digits, '.', '_' and '-' only"),
        _ => Ok(()),
    }
}

/// A name of a handler, sink, resource or pipeline: part of paths, groups and topics.
pub(super) fn name(name: &str) -> Result<(), &'static str> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match name {
        "" => Err("a name can't be empty"),
        _ if name.len() > 100 => Err("a name has at most 100 characters"),
        _ if !name.chars().all(legal) => Err("a name has lower-case letters, digits and hyphens only"),
        _ => Ok(()),
    }
}

/// A bootstrap list as librdkafka takes it: `host`, `host:port`, `[::1]:port`, separated by commas.
pub(super) fn brokers(list: &str) -> Result<(), &'static str> {
    for broker in list.split(',').map(str::trim) {
        let host = match broker.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                port.parse::<u16>().map_err(|_| "a broker's port is a number up to 65535")?;
                host
            }
            Some(_) | None => broker,
        };
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err("not a list of brokers; write it as \"host:9092,host:9092\", or \"embedded\"");
        }
    }
    Ok(())
}
