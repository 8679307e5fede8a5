//! The command line: one file a verb. Output goes to standard output, everything else to standard error;
//! the exit code is 0, 1 (it didn't work) or 2 (usage).

mod check;

mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Loaded, Overrides};
use crate::telemetry::{self, LogFormat};

/// Runs sandboxed WebAssembly components on Kafka events, exactly once.
#[derive(Parser)]
#[command(name = "wasmill", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    pipeline: Pipeline,

    /// How log lines look; WASMILL_LOG=debug shows more of them
    #[arg(long, value_enum, default_value_t, global = true, env = "WASMILL_LOG_FORMAT")]
    log_format: LogFormat,

    #[command(subcommand)]
    verb: Verb,
}

/// Which pipeline, and what is said over its file.
#[derive(Args)]
struct Pipeline {
    /// The pipeline's file
    #[arg(long, global = true, default_value = "pipeline.toml", env = "WASMILL_CONFIG", value_name = "FILE")]
    config: PathBuf,

    /// Kafka's bootstrap list (host:port,…) or `embedded`, over what the file says
    #[arg(long, global = true, env = "WASMILL_KAFKA_BROKERS", hide_env_values = true)]
    brokers: Option<String>,

    /// This process's name among those that share the pipeline, over what the file says; unique and stable
    #[arg(long, global = true, env = "WASMILL_INSTANCE", value_name = "NAME")]
    instance: Option<String>,
}

#[derive(Subcommand)]
enum Verb {
    Run(run::Args),
    Check(check::Args),
}

/// The whole program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::init(cli.log_format);
    let result = match cli.verb {
        Verb::Run(args) => cli.pipeline.load().and_then(|loaded| run::run(&loaded, &args)),
        Verb::Check(args) => check::run(&cli.pipeline.config, &cli.pipeline.overrides(), &args),
    };
    result.unwrap_or_else(|report| {
        // Colours and drawn lines are for terminals; the handler sees to that by itself.
        eprintln!("{report:?}");
        ExitCode::FAILURE
    })
}

impl Pipeline {
    fn overrides(&self) -> Overrides {
        Overrides { brokers: self.brokers.clone(), instance: self.instance.clone() }
    }

    fn load(&self) -> miette::Result<Loaded> {
        let mut loaded = config::load(&self.config, &self.overrides())?;
        for warning in loaded.warnings.drain(..) {
            eprintln!("{:?}", miette::Report::new(warning));
        }
        Ok(loaded)
    }
}
