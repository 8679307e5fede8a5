//! Compiles the raw pipeline into the plan: fills in defaults, resolves paths and references, and checks
//! what a schema can't say.
//!
//! It goes on after a fault, with a stand-in value, so that it finds them all; the caller drops the plan
//! when there were any.

mod http;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::Overrides;
use super::document::{Document, Steps};
use super::plan::{
    Allow, Brokers, HandlerPlan, KafkaPlan, LimitsPlan, MailPlan, Plan, RetryPlan, Secret, SinkPlan, Trusted,
};
use super::topology::{Topology, Use};
use super::units::Fault;
use super::{raw, smtp, units};

pub(super) fn compile(
    document: &mut Document,
    pipeline: raw::Pipeline,
    root: &Path,
    overrides: &Overrides,
) -> Plan {
    let name = pipeline_name(document, pipeline.name, root);
    let mut compiler = Compiler { document, topology: Topology::default(), root, pipeline: &name };
    let handlers: Vec<HandlerPlan> =
        pipeline.handlers.into_iter().map(|(name, handler)| compiler.handler(&name, handler)).collect();
    let sinks = pipeline.sinks.into_iter().map(|(name, sink)| compiler.sink(&name, sink)).collect::<Vec<_>>();
    let of_handlers = handlers.iter().map(|handler| (&handler.subscribe[..], &handler.dead_letter));
    let of_sinks = sinks.iter().map(|sink| (&sink.subscribe[..], &sink.dead_letter));
    let dead_letters: DeadLetters = of_handlers.chain(of_sinks).collect();
    let http = pipeline.http.map(|http| compiler.http(http, &dead_letters));
    let Compiler { document, topology, .. } = compiler;
    for sink in &sinks {
        if handlers.iter().any(|handler| handler.name == sink.name) {
            let message = "a handler has the same name, and so the same consumer group".into();
            document.error_at_key(&["sinks", &sink.name], message, Some("rename one of them".into()));
        }
    }
    let topics = topology.finish(document, &pipeline.kafka, &pipeline.topics);
    let kafka = kafka(document, pipeline.kafka, overrides);
    Plan { name, root: root.into(), kafka, http, handlers, sinks, topics }
}

fn pipeline_name(document: &mut Document, name: Option<String>, root: &Path) -> String {
    if let Some(name) = name {
        or(document, &["name"], units::name(&name), ());
        return name;
    }
    let folder = root.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name = folder.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    if name.is_empty() { "pipeline".into() } else { name.chars().take(100).collect() }
}

fn kafka(document: &mut Document, kafka: raw::Kafka, overrides: &Overrides) -> KafkaPlan {
    let brokers = if let Some(brokers) = &overrides.brokers {
        if let Err(fault) = units::brokers(brokers) {
            let place = "--brokers or $WASMILL_KAFKA_BROKERS";
            document.error_elsewhere(format!("{place}: {}", fault.message), Some(fault.help));
        }
        brokers.clone()
    } else if let Some(brokers) = kafka.brokers {
        or(document, &["kafka", "brokers"], units::brokers(&brokers), ());
        brokers
    } else {
        let help = "set `brokers` in [kafka], or give --brokers; \"embedded\" needs no Kafka at all";
        document.error_at_key(
            &["kafka"],
            "the pipeline doesn't say where its brokers are".into(),
            Some(help.into()),
        );
        String::new()
    };
    let hostname = || gethostname::gethostname().to_string_lossy().into_owned();
    let instance = overrides.instance.clone().or(kafka.instance).unwrap_or_else(hostname);
    if instance.is_empty() {
        let message = "the instance name is empty".to_string();
        let help = "give it a name of its own, or leave it out: the hostname is taken then".to_string();
        document.error_at_value(&["kafka", "instance"], message, Some(help));
    }
    KafkaPlan {
        brokers: match brokers.trim() {
            "embedded" => Brokers::Embedded,
            addresses => Brokers::Addresses(addresses.into()),
        },
        properties: secrets(kafka.properties),
        instance,
    }
}

/// What each subscriber reads, and where its dead letters go.
type DeadLetters<'a> = Vec<(&'a [Arc<str>], &'a Arc<str>)>;

struct Compiler<'a, 't> {
    document: &'a mut Document<'t>,
    topology: Topology,
    root: &'a Path,
    pipeline: &'a str,
}

impl Compiler<'_, '_> {
    fn handler(&mut self, name: &str, handler: raw::Handler) -> HandlerPlan {
        let at = |key: &'static str| ["handlers", name, key];
        self.check_name(&["handlers", name]);
        let subscribe =
            self.topology.mention_all(self.document, &at("subscribe"), &handler.subscribe, Use::Read);
        let publish =
            self.topology.mention_all(self.document, &at("publish"), &handler.publish, Use::Published);
        if publish.iter().any(|topic| subscribe.contains(topic)) {
            let message = format!("`{name}` publishes to a topic that it subscribes to");
            let help = "fine if some events end there; otherwise each one goes round for ever".to_string();
            self.document.warning_at_value(&at("publish"), message, Some(help));
        }
        if handler.component.is_empty() {
            let help = "name its .wasm file".to_string();
            self.document.error_at_value(&at("component"), "the component has no file".into(), Some(help));
        }
        for variable in handler.env.keys() {
            if let Err(fault) = units::variable(variable) {
                let place = ["handlers", name, "env", variable];
                self.document.error_at_key(&place, fault.message, Some(fault.help));
            }
        }
        let sha256 = handler.sha256.map(|digest| {
            let digest = units::sha256(&digest);
            or(self.document, &at("sha256"), digest, String::new()).into()
        });
        let limits = handler.limits;
        let at_limit = |key: &'static str| ["handlers", name, "limits", key];
        let (memory, time) = (
            units::size(&limits.memory, 1 << 20, 4 << 30),
            units::duration(&limits.time, Duration::from_millis(1), Duration::from_secs(60)),
        );
        HandlerPlan {
            name: name.into(),
            group: format!("wasmill.{}.{name}", self.pipeline),
            component: self.root.join(handler.component),
            sha256,
            allow: self.allow(name, handler.allow),
            keep: handler.keep,
            dead_letter: self.dead_letter("handlers", name, handler.dead_letter, &subscribe),
            subscribe,
            publish,
            env: secrets(handler.env),
            retry: self.retry("handlers", name, &handler.retry, handler.retry.attempts_of_handler()),
            limits: LimitsPlan {
                memory: or(self.document, &at_limit("memory"), memory, 64 << 20),
                time: or(self.document, &at_limit("time"), time, Duration::from_secs(1)),
                batch: limits.batch,
            },
            shards: handler.shards,
            log: handler.log.map(level),
        }
    }

    fn allow(&mut self, name: &str, entries: Option<Vec<String>>) -> Allow {
        let Some(entries) = entries else { return Allow::all() };
        let mut allow = Allow::none();
        for (index, entry) in entries.iter().enumerate() {
            let added = allow.add(entry);
            or(self.document, &["handlers", name, "allow", &index.to_string()], added, ());
        }
        allow
    }

    fn sink(&mut self, name: &str, sink: raw::Sink) -> SinkPlan {
        let at = |key: &'static str| ["sinks", name, key];
        self.check_name(&["sinks", name]);
        let subscribe =
            self.topology.mention_all(self.document, &at("subscribe"), &sink.subscribe, Use::Read);
        let receipts = sink
            .receipts
            .map(|topic| self.topology.mention(self.document, &at("receipts"), &topic, Use::Published));
        if receipts.as_ref().is_some_and(|topic| subscribe.contains(topic)) {
            let message = "the sink would send its own receipts, and receipts of those, for ever".into();
            let help = "give `receipts` a topic that the sink doesn't read".to_string();
            self.document.error_at_value(&at("receipts"), message, Some(help));
        }
        let mut mail = match smtp::parse(&sink.smtp, self.root, sink.username, sink.password) {
            Ok(mail) => mail,
            Err((message, help)) => {
                self.document.error_at_value(&at("smtp"), message, Some(help.into()));
                MailPlan::Folder(self.root.into())
            }
        };
        // An empty one is a variable that was left empty: "${SMTP_CA_FILE:-}".
        if let Some(file) = sink.ca_file.filter(|file| !file.is_empty()) {
            let pem = self.document.read(self.root.join(file)).map_err(unreadable);
            let ca = pem.and_then(|pem| smtp::trusted(pem).map_err(Into::into)).unwrap_or_else(|fault| {
                let help = "`ca_file` wants one or more certificates in PEM form".to_string();
                self.document.error_at_value(&at("ca_file"), fault, Some(help));
                Trusted::default()
            });
            match &mut mail {
                MailPlan::Smtp(smtp) => smtp.ca = ca,
                MailPlan::Folder(_) => {}
            }
        }
        let timeout = units::duration(&sink.timeout, Duration::from_millis(100), Duration::from_secs(240));
        SinkPlan {
            name: name.into(),
            group: format!("wasmill.{}.{name}", self.pipeline),
            dead_letter: self.dead_letter("sinks", name, sink.dead_letter, &subscribe),
            subscribe,
            receipts,
            mail,
            retry: self.retry("sinks", name, &sink.retry, sink.retry.attempts_of_sink()),
            batch: sink.batch,
            shards: sink.shards,
            timeout: or(self.document, &at("timeout"), timeout, Duration::from_secs(30)),
        }
    }

    fn retry(&mut self, kind: &str, name: &str, retry: &raw::Retry, attempts: raw::Attempts) -> RetryPlan {
        let backoff = units::backoff(&retry.backoff);
        let (backoff_min, backoff_max) =
            or(self.document, &[kind, name, "retry", "backoff"], backoff, (Duration::ZERO, Duration::ZERO));
        let attempts = match attempts {
            raw::Attempts::Count(count) => Some(count),
            raw::Attempts::Word(raw::Forever::Forever) => None,
        };
        RetryPlan { attempts, backoff_min, backoff_max }
    }

    fn dead_letter(
        &mut self,
        kind: &str,
        name: &str,
        topic: Option<String>,
        subscribe: &[Arc<str>],
    ) -> Arc<str> {
        let path = [kind, name, "dead_letter"];
        let topic = topic.unwrap_or_else(|| format!("{name}.dlq"));
        let topic = self.topology.mention(self.document, &path, &topic, Use::DeadLetters);
        if subscribe.contains(&topic) {
            let message = format!("`{name}` would read its own dead letters, and fail on them, for ever");
            self.document.error_at_value(&path, message, Some("give it another `dead_letter` topic".into()));
        }
        topic
    }

    fn check_name(&mut self, path: Steps) {
        if let Err(fault) = path.last().map_or(Ok(()), |name| units::name(name)) {
            self.document.error_at_key(path, fault.message, Some(fault.help));
        }
    }
}

/// The value, or an error at `path` and the stand-in.
fn or<T>(document: &mut Document, path: Steps, result: Result<T, Fault>, stand_in: T) -> T {
    result.unwrap_or_else(|fault| {
        document.error_at_value(path, fault.message, Some(fault.help));
        stand_in
    })
}

fn level(level: raw::LogLevel) -> LevelFilter {
    match level {
        raw::LogLevel::Off => LevelFilter::OFF,
        raw::LogLevel::Error => LevelFilter::ERROR,
        raw::LogLevel::Warn => LevelFilter::WARN,
        raw::LogLevel::Info => LevelFilter::INFO,
        raw::LogLevel::Debug => LevelFilter::DEBUG,
        raw::LogLevel::Trace => LevelFilter::TRACE,
    }
}

fn secrets(values: BTreeMap<String, raw::Scalar>) -> BTreeMap<String, Secret> {
    values.into_iter().map(|(name, value)| (name, Secret::new(value.into_text()))).collect()
}

fn unreadable(error: std::io::Error) -> String {
    format!("can't read the file, which is looked for from the folder of pipeline.toml: {error}")
}
