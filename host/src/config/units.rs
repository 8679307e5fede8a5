//! Durations, sizes and names as pipeline.toml writes them.
//!
//! The messages quote nothing: the value may be a secret that landed in the wrong place.

use std::time::Duration;

use bytesize::ByteSize;

/// What is wrong, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) message: String,
    pub(crate) help: String,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

/// "250 ms", "30s", "1m 30s", within `least..=most`.
pub(super) fn duration(text: &str, least: Duration, most: Duration) -> Result<Duration, Fault> {
    let duration = humantime::parse_duration(text)
        .map_err(|_| Fault::new("not a duration", "write one as \"250 ms\", \"30 s\" or \"5 min\""))?;
    if (least..=most).contains(&duration) {
        Ok(duration)
    } else {
        let (least, most) = (humantime::format_duration(least), humantime::format_duration(most));
        Err(Fault::new("the duration is out of range", format!("write one from \"{least}\" to \"{most}\"")))
    }
}

/// "16 MiB", "512kB", "1048576", within `least..=most`.
pub(super) fn size(text: &str, least: u64, most: u64) -> Result<usize, Fault> {
    let ByteSize(bytes) =
        text.parse().map_err(|_| Fault::new("not a size", "write one as \"512 KiB\" or \"16 MiB\""))?;
    match usize::try_from(bytes) {
        Ok(size) if (least..=most).contains(&bytes) => Ok(size),
        Ok(_) | Err(_) => {
            let help = format!("write one from \"{}\" to \"{}\"", ByteSize(least), ByteSize(most));
            Err(Fault::new("the size is out of range", help))
        }
    }
}

/// "200ms..30s": the shortest and the longest wait.
pub(super) fn backoff(text: &str) -> Result<(Duration, Duration), Fault> {
    let (least, most) = (Duration::from_millis(1), Duration::from_secs(3600));
    let (min, max) = text.split_once("..").ok_or_else(|| {
        Fault::new("not a range of durations", "write the first and the longest wait as \"200ms..30s\"")
    })?;
    let (min, max) = (duration(min, least, most)?, duration(max, least, most)?);
    if min <= max {
        Ok((min, max))
    } else {
        Err(Fault::new("the first wait is longer than the longest", "write the shorter one first"))
    }
}

/// What Kafka takes as a topic: org.apache.kafka.common.internals.Topic.validate.
pub(crate) fn topic(name: &str) -> Result<(), Fault> {
    let bad = |message| Err(Fault::new(message, "take 1 to 249 letters, digits, '.', '_' and '-'"));
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name {
        "" => bad("a topic's name can't be empty"),
        "." | ".." => bad("a topic's name can't be \".\" or \"..\""),
        _ if name.len() > 249 => bad("a topic's name has at most 249 characters"),
        _ if !name.chars().all(legal) => bad("a topic's name has letters, digits, '.', '_' and '-' only"),
        _ => Ok(()),
    }
}

/// A name of a handler, sink, resource or pipeline: part of paths, groups and topics.
pub(crate) fn name(name: &str) -> Result<(), Fault> {
    let bad = |message| Err(Fault::new(message, "take 1 to 100 lower-case letters, digits and hyphens"));
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match name {
        "" => bad("a name can't be empty"),
        _ if name.len() > 100 => bad("a name has at most 100 characters"),
        _ if !name.chars().all(legal) => bad("a name has lower-case letters, digits and hyphens only"),
        _ => Ok(()),
    }
}

/// What an environment can hold.
pub(super) fn variable(name: &str) -> Result<(), Fault> {
    let bad = |message| Err(Fault::new(message, "name it as in \"LOG_LEVEL\""));
    match name {
        "" => bad("a variable's name can't be empty"),
        _ if name.contains('=') => bad("a variable's name can't have a '='"),
        _ if name.contains('\0') => bad("a variable's name can't have a NUL"),
        _ => Ok(()),
    }
}

/// A SHA-256 in hex, made lower-case.
pub(super) fn sha256(text: &str) -> Result<String, Fault> {
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(Fault::new("not a SHA-256", "write its 64 hex digits, as `sha256sum FILE` prints them"))
    }
}

/// A bootstrap list as librdkafka takes it: `host`, `host:port`, `[::1]:port`, separated by commas.
pub(super) fn brokers(list: &str) -> Result<(), Fault> {
    let bad = |message| Fault::new(message, "write it as \"host:9092,host:9092\", or \"embedded\"");
    for broker in list.split(',').map(str::trim) {
        let host = match broker.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                port.parse::<u16>().map_err(|_| bad("a broker's port is a number up to 65535"))?;
                host
            }
            Some(_) | None => broker,
        };
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(bad("not a list of brokers"));
        }
    }
    Ok(())
}
