//! What differs between two plans of a pipeline, and what a running host does about it.
//!
//! The one judgement of that: the supervisor acts by it, its log tells it, `check --diff` shows it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::plan::{HandlerPlan, HttpPlan, Plan, ResourcePlan, SinkPlan};

/// As pipeline.toml names them.
type Keys = Vec<Cow<'static, str>>;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Change {
    /// As in pipeline.toml: `handlers.NAME`, `http`, …
    pub subject: String,
    #[serde(flatten)]
    pub kind: Kind,
    pub effect: Effect,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", tag = "change", content = "keys")]
pub enum Kind {
    Added,
    Removed,
    /// These keys of it.
    Changed(Keys),
}

/// What a running host does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Starts it.
    Starts,
    /// Finishes and commits what is under way, and leaves the consumer group.
    Drains,
    /// Drains it and starts it anew.
    Restarts,
    /// The next batch runs by it.
    BetweenBatches,
    /// The next line of the log is chosen by it.
    AtOnce,
    /// Starts or drains some of its threads; the others go on.
    Threads,
    /// Requests get it from now on.
    NextRequest,
    /// Begins to listen.
    Opens,
    /// Answers the requests that are under way, and listens no more.
    Closes,
    /// Listens at the new address, and closes the old one when its requests are answered.
    Listens,
    /// New connections get it.
    NextConnection,
    /// Nothing, where the topic exists: it stays as it is.
    WhenCreated,
    /// Nothing, until the process is restarted: the change is refused.
    NeedsRestart,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, kind, effect } = self;
        match kind {
            Kind::Added => write!(f, "{subject} is new: it {effect}"),
            Kind::Removed => write!(f, "{subject} is gone: it {effect}"),
            Kind::Changed(keys) if keys.is_empty() => write!(f, "{subject}: it {effect}"),
            Kind::Changed(keys) => write!(f, "{subject}: {}: it {effect}", keys.join(", ")),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starts => "starts",
            Self::Drains => "commits what is under way and leaves its group",
            Self::Restarts => "commits what is under way, leaves its group and joins again",
            Self::BetweenBatches => "holds from the next batch on",
            Self::AtOnce => "holds at once",
            Self::Threads => "starts or drains threads; the others go on",
            Self::NextRequest => "holds from the next request on",
            Self::Opens => "begins to listen",
            Self::Closes => "answers the requests under way and listens no more",
            Self::NextConnection => "holds for the next connections",
            Self::WhenCreated => "holds when it is created; one that exists stays as it is",
            Self::Listens => "listens at the new address, and answers what is under way at the old one",
            Self::NeedsRestart => "can't change while the host runs",
        })
    }
}

/// Everything that differs, in the order of pipeline.toml's reference.
pub fn changes(old: &Plan, new: &Plan) -> Vec<Change> {
    let mut found = Vec::new();
    let mut fixed = |subject: &str, same: bool| {
        if !same {
            found.push(changed(subject, Vec::new(), Effect::NeedsRestart));
        }
    };
    fixed("name", old.name == new.name);
    fixed("kafka.brokers", old.kafka.brokers == new.kafka.brokers);
    fixed("kafka.instance", old.kafka.instance == new.kafka.instance);
    fixed("kafka.properties", old.kafka.properties == new.kafka.properties);
    topics(&mut found, old, new);
    http(&mut found, old.http.as_ref(), new.http.as_ref());
    each(&mut found, "handlers", (&old.handlers, &new.handlers), |h| &h.name, Effect::Starts, handler);
    each(&mut found, "sinks", (&old.sinks, &new.sinks), |s| &s.name, Effect::Starts, sink);
    found
}

/// Whether the shards of a handler must leave the group and join it again: the rest changes between two batches.
pub fn joins_anew(old: &HandlerPlan, new: &HandlerPlan) -> bool {
    old.subscribe != new.subscribe
}

/// Whether the shards of a handler have something to take up: they don't care what the log shows of it.
pub fn runs_anew(old: &HandlerPlan, new: &HandlerPlan) -> bool {
    *old != HandlerPlan { log: old.log, ..new.clone() }
}

/// Whether the version that a handler runs must be looked at again: it may not be what the plan lets run.
pub fn judges_anew(old: &HandlerPlan, new: &HandlerPlan) -> bool {
    let smaller = new.limits.memory < old.limits.memory;
    old.component != new.component || old.allow != new.allow || old.sha256 != new.sha256 || smaller
}

/// Whether the shards of a sink must start anew: only their number changes while they run.
pub fn starts_anew(old: &SinkPlan, new: &SinkPlan) -> bool {
    *old != SinkPlan { shards: old.shards, ..new.clone() }
}

fn handler(old: &HandlerPlan, new: &HandlerPlan) -> (Keys, Effect) {
    let keys = differing([
        ("component", old.component != new.component),
        ("subscribe", old.subscribe != new.subscribe),
        ("publish", old.publish != new.publish),
        ("dead_letter", old.dead_letter != new.dead_letter),
        ("env", old.env != new.env),
        ("allow", old.allow != new.allow),
        ("sha256", old.sha256 != new.sha256),
        ("keep", old.keep != new.keep),
        ("retry", old.retry != new.retry),
        ("limits", old.limits != new.limits),
        ("shards", old.shards != new.shards),
        ("log", old.log != new.log),
    ]);
    let effect = match joins_anew(old, new) {
        true => Effect::Restarts,
        false if keys == ["shards"] => Effect::Threads,
        false if keys == ["log"] => Effect::AtOnce,
        false => Effect::BetweenBatches,
    };
    (keys, effect)
}

fn sink(old: &SinkPlan, new: &SinkPlan) -> (Keys, Effect) {
    let keys = differing([
        ("subscribe", old.subscribe != new.subscribe),
        ("receipts", old.receipts != new.receipts),
        ("dead_letter", old.dead_letter != new.dead_letter),
        ("smtp", old.mail != new.mail),
        ("retry", old.retry != new.retry),
        ("batch", old.batch != new.batch),
        ("shards", old.shards != new.shards),
        ("timeout", old.timeout != new.timeout),
    ]);
    let effect = if starts_anew(old, new) { Effect::Restarts } else { Effect::Threads };
    (keys, effect)
}

/// Topics come and go with those who name them; here is what else is said of them.
fn topics(found: &mut Vec<Change>, old: &Plan, new: &Plan) {
    for new in &new.topics {
        let Some(old) = old.topics.iter().find(|old| old.name == new.name) else { continue };
        let keys = differing([
            ("partitions", old.partitions != new.partitions),
            ("replication", old.replication != new.replication),
        ]);
        if !keys.is_empty() {
            found.push(changed(&format!("topics.{}", new.name), keys, Effect::WhenCreated));
        }
    }
}

fn http(found: &mut Vec<Change>, old: Option<&HttpPlan>, new: Option<&HttpPlan>) {
    let (old, new) = match (old, new) {
        (None, None) => return,
        (None, Some(_)) => return found.push(change("http", Kind::Added, Effect::Opens)),
        (Some(_), None) => return found.push(change("http", Kind::Removed, Effect::Closes)),
        (Some(old), Some(new)) => (old, new),
    };
    if old.listen != new.listen {
        found.push(changed("http", vec!["listen".into()], Effect::Listens));
    }
    if old.header_timeout != new.header_timeout {
        found.push(changed("http", vec!["header_timeout".into()], Effect::NextConnection));
    }
    let keys = differing([
        ("body_limit", old.body_limit != new.body_limit),
        ("body_timeout", old.body_timeout != new.body_timeout),
    ]);
    if !keys.is_empty() {
        found.push(changed("http", keys, Effect::NextRequest));
    }
    let of = (&old.resources[..], &new.resources[..]);
    each(found, "http.resources", of, |r| &r.name, Effect::NextRequest, resource);
}

fn resource(old: &ResourcePlan, new: &ResourcePlan) -> (Keys, Effect) {
    let keys = differing([
        ("topic", old.topic != new.topic),
        ("key", old.key != new.key),
        ("schema", old.schema != new.schema),
        ("view", old.view != new.view || old.dead_letters != new.dead_letters),
        ("view_keys", old.view_keys != new.view_keys),
    ]);
    (keys, Effect::NextRequest)
}

/// The differences of what has names.
fn each<'a, T: PartialEq, N: AsRef<str> + 'a>(
    found: &mut Vec<Change>,
    table: &str,
    (old, new): (&'a [T], &'a [T]),
    name: impl Fn(&'a T) -> &'a N,
    starts: Effect,
    compare: impl Fn(&T, &T) -> (Keys, Effect),
) {
    let names: BTreeSet<&str> = old.iter().chain(new).map(|one| name(one).as_ref()).collect();
    let find = |of: &'a [T], wanted: &str| of.iter().find(|one| name(one).as_ref() == wanted);
    for wanted in names {
        let subject = format!("{table}.{wanted}");
        match (find(old, wanted), find(new, wanted)) {
            (Some(old), Some(new)) if old != new => {
                let (keys, effect) = compare(old, new);
                found.push(changed(&subject, keys, effect));
            }
            (None, Some(_)) => found.push(change(&subject, Kind::Added, starts)),
            (Some(_), None) => {
                let effect = if starts == Effect::Starts { Effect::Drains } else { starts };
                found.push(change(&subject, Kind::Removed, effect));
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
}

fn differing<const N: usize>(keys: [(&'static str, bool); N]) -> Keys {
    keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key.into()).collect()
}

fn changed(subject: &str, keys: Keys, effect: Effect) -> Change {
    change(subject, Kind::Changed(keys), effect)
}

fn change(subject: &str, kind: Kind, effect: Effect) -> Change {
    Change { subject: subject.into(), kind, effect }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, parse};

    const BEFORE: &str = "
        name = 'shop'
        kafka.brokers = 'kafka:9092'
        [http.resources.readings]
        topic = 'readings'
        key = 'id'
        [handlers.format]
        component = 'f.wasm'
        subscribe = ['readings']
        publish = ['mails']
        [sinks.mail]
        subscribe = ['mails']
        smtp = 'smtp://localhost'
    ";

    fn told(edit: &[(&str, &str)]) -> Vec<String> {
        let plan = |text: String| {
            let loaded = parse(text, "/shop/pipeline.toml".as_ref(), &|_| None, &Overrides::default());
            loaded.map_err(|errors| errors.errors).unwrap().plan
        };
        let mut after = BEFORE.to_string();
        for (old, new) in edit {
            assert!(after.contains(old), "{old}");
            after = after.replace(old, new);
        }
        changes(&plan(BEFORE.into()), &plan(after)).iter().map(Change::to_string).collect()
    }

    #[test]
    fn every_change_is_told_with_what_the_host_does_about_it() {
        let end = "smtp = 'smtp://localhost'";
        for (edit, expected) in [
            (("name = 'shop'", "name = 'shop' # a comment"), vec![]),
            (("kafka:9092", "other:9092"), vec!["kafka.brokers: it can't change while the host runs"]),
            (("'f.wasm'", "'g.wasm'"), vec!["handlers.format: component: it holds from the next batch on"]),
            (
                ("publish = ['mails']", "publish = ['mails']\nenv = { A = 1 }\nshards = 2"),
                vec!["handlers.format: env, shards: it holds from the next batch on"],
            ),
            (
                ("publish = ['mails']", "publish = ['mails']\nshards = 2"),
                vec!["handlers.format: shards: it starts or drains threads; the others go on"],
            ),
            (
                ("publish = ['mails']", "publish = ['mails']\nlog = 'warn'"),
                vec!["handlers.format: log: it holds at once"],
            ),
            (
                ("subscribe = ['readings']", "subscribe = ['readings', 'others']"),
                vec![
                    "handlers.format: subscribe: it commits what is under way, leaves its group and joins again",
                ],
            ),
            (
                ("smtp://localhost", "smtp://127.0.0.1"),
                vec!["sinks.mail: smtp: it commits what is under way, leaves its group and joins again"],
            ),
            (
                ("key = 'id'", "key = 'name'"),
                vec!["http.resources.readings: key: it holds from the next request on"],
            ),
            (
                ("[http.resources", "[http]\nlisten = '127.0.0.1:1'\nbody_limit = '1 KiB'\n[http.resources"),
                vec![
                    "http: listen: it listens at the new address, and answers what is under way at the old one",
                    "http: body_limit: it holds from the next request on",
                ],
            ),
            (
                (
                    end,
                    "smtp = 'smtp://localhost'\n[sinks.more]\nsubscribe = ['mails']\nsmtp = 'smtp://localhost'",
                ),
                vec!["sinks.more is new: it starts"],
            ),
        ] {
            assert_eq!(told(&[edit]), expected, "{edit:?}");
        }
    }

    #[test]
    fn what_is_gone_drains() {
        let edit = [("[sinks.mail]", "[sinks.post]")];
        assert_eq!(
            told(&edit),
            [
                "sinks.mail is gone: it commits what is under way and leaves its group",
                "sinks.post is new: it starts"
            ]
        );
    }
}
