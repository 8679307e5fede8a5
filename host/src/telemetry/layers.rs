//! The layers of the log that know handlers: [`Shown`] chooses the lines, [`Kept`] keeps the newest of each handler.
//!
//! `EnvFilter` knows the names of an event's fields and not their values, so it can't tell one handler from another; what
//! the plan says of one goes before what it says of all.

use std::collections::BTreeMap;
use std::fmt::Debug;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Layer};

use super::handlers::{HandlerLogs, Line, PRINTED};
use crate::event::now_ms;

/// Which lines there are, for all layers. (The host opens no spans, so those aren't told to the filter.)
pub(super) struct Shown {
    pub(super) by_default: EnvFilter,
    pub(super) handlers: HandlerLogs,
}

/// Keeps what is shown.
pub(super) struct Kept(pub(super) HandlerLogs);

impl Shown {
    /// Of some handler, perhaps: only the event itself says of which one it is.
    fn may_show(&self, metadata: &Metadata<'_>) -> bool {
        names_a_handler(metadata) && *metadata.level() <= self.handlers.highest()
    }
}

impl<S: Subscriber> Layer<S> for Shown {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        let by_default = Layer::<S>::register_callsite(&self.by_default, metadata);
        if by_default.is_never() && self.may_show(metadata) { Interest::sometimes() } else { by_default }
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        self.by_default.enabled(metadata, context) || self.may_show(metadata)
    }

    fn event_enabled(&self, event: &Event<'_>, context: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if !names_a_handler(metadata) {
            return true;
        }
        let mut heading = Heading::default();
        event.record(&mut heading);
        let by_default = || self.by_default.enabled(metadata, context);
        self.handlers.admits(&heading.handler, metadata, heading.left_out, by_default)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.by_default.max_level_hint().map(|highest| highest.max(self.handlers.highest()))
    }
}

impl<S: Subscriber> Layer<S> for Kept {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        if !names_a_handler(metadata) {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields(mut fields) = fields;
        let Some(handler) = fields.remove(HANDLER) else { return };
        let line = Line {
            number: 0,
            at_ms: now_ms(),
            level: name(*metadata.level()),
            printed: metadata.target() == PRINTED,
            message: fields.remove("message").unwrap_or_default(),
            trace: fields.remove("trace"),
            fields,
        };
        self.0.keep(&handler, line);
    }
}

const HANDLER: &str = "handler";

fn names_a_handler(metadata: &Metadata<'_>) -> bool {
    metadata.fields().field(HANDLER).is_some()
}

fn name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// What of an event is asked for before anything is made of it.
#[derive(Default)]
struct Heading {
    handler: String,
    left_out: Option<u64>,
}

impl Visit for Heading {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == HANDLER {
            self.handler = value.into();
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "left_out" {
            self.left_out = Some(value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == HANDLER {
            self.handler = format!("{value:?}");
        }
    }
}

/// All of them, as text.
#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// What is kept of a line of each level about each of them.
    fn kept(handlers: &HandlerLogs, by_default: &str) -> Vec<(&'static str, Vec<&'static str>)> {
        let names = ["plain", "quiet", "loud", "off"];
        let shown = Shown { by_default: EnvFilter::new(by_default), handlers: handlers.clone() };
        let subscriber = tracing_subscriber::registry().with(Kept(handlers.clone())).with(shown);
        tracing::subscriber::with_default(subscriber, || {
            for handler in names {
                tracing::trace!(handler, "a line");
                tracing::debug!(handler = %handler, shard = 0, "a line");
                tracing::info!(target: "guest", handler, "a line");
                tracing::error!(handler, "a line");
                tracing::error!("nobody's");
            }
        });
        let levels = |name| handlers.newest(name).unwrap().into_iter().map(|line| line.level).collect();
        names.into_iter().map(|name| (name, levels(name))).collect()
    }

    #[test]
    fn what_the_plan_says_of_one_goes_before_what_is_said_of_all() {
        let plan = [
            ("plain", None),
            ("quiet", Some(LevelFilter::ERROR)),
            ("loud", Some(LevelFilter::DEBUG)),
            ("off", Some(LevelFilter::OFF)),
        ];
        for (by_default, plain) in [
            ("info", &["info", "error"][..]),
            ("error", &["error"]),
            ("off", &[]),
            ("trace", &["trace", "debug", "info", "error"]),
            ("info,guest=off", &["error"]),
            ("off,[{handler}]=debug", &["debug", "info", "error"]),
        ] {
            let handlers = HandlerLogs::default();
            handlers.follow(plan);
            let (quiet, loud) = (vec!["error"], vec!["debug", "info", "error"]);
            let expected = [("plain", plain.to_vec()), ("quiet", quiet), ("loud", loud), ("off", vec![])];
            assert_eq!(kept(&handlers, by_default), expected, "{by_default}");
        }
    }

    #[test]
    fn a_line_is_kept_with_all_that_it_says() {
        let handlers = HandlerLogs::default();
        handlers.follow([("one", None)]);
        let subscriber = tracing_subscriber::registry().with(Kept(handlers.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let handler = "one";
            tracing::warn!(target: "guest", handler, trace = "aa", count = 3, "{} words", "two");
        });
        let [line] = &handlers.newest("one").unwrap()[..] else { panic!("one line") };
        assert_eq!((&*line.message, line.trace.as_deref(), line.printed), ("two words", Some("aa"), true));
        assert_eq!(line.fields, BTreeMap::from([("count", "3".to_string())]));
    }
}
