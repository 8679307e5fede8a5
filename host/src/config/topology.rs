//! Which topics there are, and who writes and reads each: the topics of the plan, and warnings about
//! those that lead nowhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::document::{Document, Steps};
use super::plan::{TopicKind, TopicPlan};
use super::raw;
use super::structure::nearest;
use super::units;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Published,
    Read,
    DeadLetters,
    Claims,
}

#[derive(Default)]
pub(super) struct Topology {
    topics: BTreeMap<Arc<str>, Vec<(Use, Vec<String>)>>,
}

impl Topology {
    /// Notes that the value at `path` names a topic; an illegal name becomes an error.
    pub(super) fn mention(
        &mut self,
        document: &mut Document,
        path: Steps,
        name: &str,
        r#use: Use,
    ) -> Arc<str> {
        if let Err(fault) = units::topic(name) {
            document.error_at_value(path, fault.message, Some(fault.help));
        }
        let name: Arc<str> =
            self.topics.get_key_value(name).map_or_else(|| name.into(), |(name, _)| name.clone());
        let place = path.iter().map(|step| step.to_string()).collect();
        self.topics.entry(name.clone()).or_default().push((r#use, place));
        name
    }

    /// [`mention`](Self::mention) for a list, in which no name may stand twice.
    pub(super) fn mention_all(
        &mut self,
        document: &mut Document,
        path: Steps,
        names: &[String],
        r#use: Use,
    ) -> Vec<Arc<str>> {
        let mut topics: Vec<Arc<str>> = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let index = index.to_string();
            let path = [path, &[&*index]].concat();
            if topics.iter().any(|topic| **topic == **name) {
                document.error_at_value(
                    &path,
                    "the topic stands twice in this list".into(),
                    Some("remove one of them".into()),
                );
                continue;
            }
            topics.push(self.mention(document, &path, name, r#use));
        }
        topics
    }

    /// A topic that the host has for itself, and that pipeline.toml doesn't name.
    pub(super) fn add(&mut self, name: &Arc<str>, r#use: Use) {
        self.topics.entry(name.clone()).or_default().push((r#use, Vec::new()));
    }

    /// Warns of topics that nobody fills or nobody reads, and lists them all, sorted by name.
    pub(super) fn finish(
        mut self,
        document: &mut Document,
        kafka: &raw::Kafka,
        settings: &BTreeMap<String, raw::Topic>,
    ) -> Vec<TopicPlan> {
        self.warn(document);
        for name in settings.keys() {
            let path = ["topics", name];
            if self.topics.contains_key(&**name) {
                continue;
            }
            if let Err(fault) = units::topic(name) {
                document.error_at_key(&path, fault.message, Some(fault.help));
            }
            let help = match nearest(name, self.topics.keys().map(|topic| &**topic)) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => "it is created nevertheless; remove it if it is left over".into(),
            };
            document.warning_at_key(
                &path,
                "no handler, sink or resource names this topic".into(),
                Some(help),
            );
            self.topics.insert(name.as_str().into(), Vec::new());
        }
        self.topics
            .into_iter()
            .map(|(name, uses)| {
                let own = settings.get(&*name);
                let is = |wanted| uses.iter().any(|(r#use, _)| *r#use == wanted);
                let kind = match (is(Use::DeadLetters), is(Use::Claims)) {
                    (true, _) => TopicKind::DeadLetters,
                    (false, true) => TopicKind::Claims,
                    (false, false) => TopicKind::Events,
                };
                // One order for all claims.
                let usual = if kind == TopicKind::Claims { 1 } else { kafka.partitions };
                let partitions = own.and_then(|own| own.partitions).unwrap_or(usual);
                // -1 leaves it to the broker's default.replication.factor (KIP-464).
                let replication = own.and_then(|own| own.replication).or(kafka.replication).unwrap_or(-1);
                TopicPlan { name, partitions, replication, kind }
            })
            .collect()
    }

    fn warn(&self, document: &mut Document) {
        for (name, uses) in &self.topics {
            let is = |wanted| uses.iter().any(|(r#use, _)| *r#use == wanted);
            if is(Use::DeadLetters) || is(Use::Claims) {
                continue;
            }
            let (message, help) = match (is(Use::Published), is(Use::Read)) {
                (true, true) | (false, false) => continue,
                (false, true) => ("nothing here publishes to this topic", "fine if something else does"),
                (true, false) => ("nothing here reads this topic", "fine if something else does"),
            };
            let others = self.topics.keys().filter(|other| *other != name).map(|other| &**other);
            let help = match nearest(name, others.filter(|other| differ_by_a_slip(name, other))) {
                Some(nearest) => format!("did you mean `{nearest}`? If not: {help}"),
                None => help.into(),
            };
            let place: Vec<&str> = uses[0].1.iter().map(String::as_str).collect();
            document.warning_at_value(&place, message.into(), Some(help));
        }
    }
}

/// `readings` and `readings_daily` are alike and yet two topics; `readings_dialy` is a slip.
fn differ_by_a_slip(a: &str, b: &str) -> bool {
    strsim::osa_distance(a, b) <= 2
}
