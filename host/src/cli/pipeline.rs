//! Which pipeline a verb works on, and the one way to its plan.
//!
//! pipeline.toml is judged by three: `config` knows the file, `log::kafka` which properties its client library
//! takes, `guest` which components can be linked. All that they find is told at once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use miette::Report;

use crate::config::plan::Secret;
use crate::config::{self, ConfigErrors, Loaded, Overrides, Places, Problem};
use crate::log::kafka::{PropertyFault, property_faults};
use crate::supervisor::{VersionErrors, load_components};

/// Which pipeline, and what is said over its file.
#[derive(clap::Args)]
pub(super) struct Pipeline {
    /// The pipeline's file.
    #[arg(long, global = true, default_value = "pipeline.toml", env = "WASMILL_CONFIG", value_name = "FILE")]
    config: PathBuf,

    /// Kafka's bootstrap list (host:port,…) or `embedded`, over what the file says; the last one counts.
    #[arg(
        long,
        global = true,
        env = "WASMILL_KAFKA_BROKERS",
        value_name = "LIST",
        overrides_with = "brokers"
    )]
    brokers: Option<String>,

    /// This process's name among those that share the pipeline, over what the file says; unique and stable.
    #[arg(long, global = true, env = "WASMILL_INSTANCE", value_name = "NAME")]
    instance: Option<String>,
}

impl Pipeline {
    /// For verbs that look at what runs. What is merely doubtful is told by `check` and `run`.
    pub(super) fn load(&self) -> miette::Result<Loaded> {
        self.judge().map_err(told)
    }

    /// For `run`: of components it tells only what stands beside other errors. Those of a sound file show when
    /// they are loaded.
    pub(super) fn load_to_run(&self) -> miette::Result<Loaded> {
        let mut loaded = self.judge().map_err(|errors| told(with_components(errors)))?;
        for warning in loaded.warnings.drain(..) {
            tell!("{:?}", Report::new(warning));
        }
        Ok(loaded)
    }

    /// For verbs that reach no broker: the file needn't name one, nor what belongs to it work.
    pub(super) fn load_without_broker(&self) -> miette::Result<Loaded> {
        let mut overrides = self.overrides();
        overrides.brokers.get_or_insert_with(|| "embedded".into());
        config::load(&self.config, &overrides).map_err(told)
    }

    /// Everything but the components.
    pub(super) fn judge(&self) -> Result<Loaded, ConfigErrors> {
        match config::load(&self.config, &self.overrides()) {
            Ok(loaded) => {
                let refused = refused(&loaded.plan.kafka.properties, &loaded.places);
                if refused.is_empty() { Ok(loaded) } else { Err(loaded.refused(refused)) }
            }
            Err(mut errors) => {
                errors.add(refused(&errors.sound.kafka_properties, &errors.places));
                Err(errors)
            }
        }
    }

    fn overrides(&self) -> Overrides {
        Overrides { brokers: self.brokers.clone(), instance: self.instance.clone() }
    }
}

/// Adds what is wrong with the components of the handlers that are sound otherwise.
pub(super) fn with_components(mut errors: ConfigErrors) -> ConfigErrors {
    match load_components(&errors.sound.handlers, &errors.places) {
        Err(VersionErrors::Components(problems)) => errors.add(problems),
        // No engine: that is told when there is nothing else.
        Ok(_) | Err(VersionErrors::Engine(_)) => {}
    }
    errors
}

fn refused(properties: &BTreeMap<String, Secret>, places: &Places) -> Vec<Problem> {
    let problem = |PropertyFault { name, reason, help }| {
        places.kafka_property(&name, format!("`{name}` can't be set: {reason}"), help)
    };
    property_faults(properties).into_iter().map(problem).collect()
}

/// An error that stands alone and nowhere in the file, such as that there is no file, needs no heading.
fn told(mut errors: ConfigErrors) -> Report {
    match &*errors.errors {
        [Problem { span: None, .. }] => Report::new(errors.errors.remove(0)),
        _ => Report::new(errors),
    }
}
