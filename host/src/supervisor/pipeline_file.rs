//! pipeline.toml, judged: `config` knows the file, `log::kafka` which properties its client library takes. (Which
//! components can be linked is `guest`'s to say: see `versions`.)

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::plan::Secret;
use crate::config::{self, ConfigErrors, Loaded, Overrides, Places, Problem};
use crate::log::kafka::{PropertyFault, property_faults};

/// Which file, and what the command line says over it.
#[derive(Clone, Debug)]
pub struct PipelineFile {
    pub path: PathBuf,
    pub overrides: Overrides,
}

impl PipelineFile {
    pub fn load(&self) -> Result<Loaded, ConfigErrors> {
        judged(config::load(&self.path, &self.overrides))
    }

    /// As if the file had this text.
    pub fn load_as(&self, text: String) -> Result<Loaded, ConfigErrors> {
        let env = |name: &str| std::env::var(name).ok();
        judged(config::parse(text, &self.path, &env, &self.overrides))
    }

    /// Whether the file has the text that it had then.
    pub(super) fn is_still(&self, loaded: &Loaded) -> bool {
        config::read(&self.path).is_ok_and(|text| loaded.places.are_of(&text))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn judged(loaded: Result<Loaded, ConfigErrors>) -> Result<Loaded, ConfigErrors> {
    match loaded {
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

fn refused(properties: &BTreeMap<String, Secret>, places: &Places) -> Vec<Problem> {
    let problem = |PropertyFault { name, reason, help }| {
        places.kafka_property(&name, format!("`{name}` can't be set: {reason}"), help)
    };
    property_faults(properties).into_iter().map(problem).collect()
}
