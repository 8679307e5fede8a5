//! Which pipeline a verb works on, and the one way to its plan. All that is wrong with it is told at once.

use std::path::{Path, PathBuf};
use std::process::Command;

use miette::{IntoDiagnostic, Report, WrapErr};

use crate::config::{self, ConfigErrors, Loaded, Overrides, Problem};
use crate::supervisor::{PipelineFile, VersionErrors, check_components};
use crate::telemetry::LogFormat;

/// Over the options that every verb has.
pub(super) const OF_ALL: &str = "Options of every verb";

/// Which pipeline, and what is said over its file.
#[derive(clap::Args)]
#[command(next_help_heading = OF_ALL)]
pub(super) struct Pipeline {
    /// The pipeline's file.
    #[arg(long, global = true, default_value = "pipeline.toml", env = "WASMILL_CONFIG", value_name = "FILE")]
    config: PathBuf,

    /// Kafka's bootstrap list (host:port,…) or `embedded`, instead of what the file says; the last one counts.
    #[arg(
        long,
        global = true,
        env = "WASMILL_KAFKA_BROKERS",
        value_name = "LIST",
        overrides_with = "brokers"
    )]
    brokers: Option<String>,

    /// This process's name among those that share the pipeline, instead of what the file says; unique and stable.
    #[arg(long, global = true, env = "WASMILL_INSTANCE", value_name = "NAME")]
    instance: Option<String>,
}

impl Pipeline {
    pub(super) fn file(&self) -> &Path {
        &self.config
    }

    /// This program once more, for another verb on the same pipeline.
    pub(super) fn of_child(&self, verb: &str, log_format: LogFormat) -> miette::Result<Command> {
        let program =
            std::env::current_exe().into_diagnostic().wrap_err("can't tell where this program is")?;
        let mut command = Command::new(program);
        command.arg(verb).arg("--config").arg(&self.config);
        let named = [("--brokers", &self.brokers), ("--instance", &self.instance)];
        for (option, value) in named.into_iter().filter_map(|(option, value)| Some((option, value.as_ref()?)))
        {
            command.arg(option).arg(value);
        }
        command.args(["--log-format", log_format.as_str()]);
        Ok(command)
    }

    /// As they are given beside the file.
    pub(super) fn named_brokers(&self) -> Option<&str> {
        self.brokers.as_deref()
    }

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
        self.pipeline_file().load()
    }

    pub(super) fn pipeline_file(&self) -> PipelineFile {
        PipelineFile { path: self.config.clone(), overrides: self.overrides() }
    }

    fn overrides(&self) -> Overrides {
        Overrides { brokers: self.brokers.clone(), instance: self.instance.clone() }
    }
}

/// Adds what is wrong with the components of the handlers that are sound otherwise.
pub(super) fn with_components(mut errors: ConfigErrors) -> ConfigErrors {
    match check_components(&errors.sound.handlers, &errors.places) {
        Err(VersionErrors::Components(problems)) => errors.add(problems),
        // No engine: that is told when there is nothing else.
        Ok(()) | Err(VersionErrors::Engine(_)) => {}
    }
    errors
}

/// An error that stands alone and nowhere in the file, such as that there is no file, needs no heading.
fn told(mut errors: ConfigErrors) -> Report {
    match &*errors.errors {
        [Problem { span: None, .. }] => Report::new(errors.errors.remove(0)),
        _ => Report::new(errors),
    }
}
