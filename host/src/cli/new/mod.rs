//! `wasmill new`: a crate for a handler, which builds and passes its test as it is, and the lines of pipeline.toml
//! that make it part of the pipeline.
//!
//! All that can be refused is refused before anything is made; a folder is made whole or not at all.

mod files;
mod place;
mod sdk;
mod wiring;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use miette::{IntoDiagnostic, WrapErr, miette};
use serde::Serialize;

use self::place::Place;
use self::sdk::Sdk;
use self::wiring::{PipelineFile, Wiring};
use super::cargo::{TARGET, cargo};
use super::pipeline::Pipeline;
use crate::config::{Fault, check_name, check_topic};

/// Makes the crate of a new handler, and says how to add it to the pipeline.
///
/// It builds as it is, and its test runs the events in golden/. Nothing that exists is touched: with --apply
/// pipeline.toml gets the handler's lines, after the last handler, and all else in it stays as it is. The SDK is that
/// of the pipeline's clone of Wasmill; elsewhere it is written beside the crate, as wasmill-sdk/.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wasmill new alarm --subscribe readings --publish alarms
  wasmill new alarm --folder ../alarm --apply")]
pub(super) struct Args {
    /// The name of the handler in pipeline.toml, and of its crate.
    #[arg(value_parser = name)]
    name: String,

    /// The language of the crate.
    #[arg(long, value_enum, default_value_t = Lang::Rust)]
    lang: Lang,

    /// A topic that it reads; repeat it for more. `NAME.in` by default.
    #[arg(long, value_name = "TOPIC", value_parser = topic)]
    subscribe: Vec<String>,

    /// A topic that it publishes to; repeat it for more, the default topic first. `NAME.out` by default.
    #[arg(long, value_name = "TOPIC", value_parser = topic)]
    publish: Vec<String>,

    /// Where the crate goes; by default `NAME` beside pipeline.toml, or in its folder `components`, if it has one.
    #[arg(long)]
    folder: Option<PathBuf>,

    /// Builds the component, and adds the handler to pipeline.toml.
    #[arg(long)]
    apply: bool,

    /// Prints one JSON object, on stdout.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Lang {
    Rust,
}

pub(super) fn run(pipeline: &Pipeline, mut args: Args) -> miette::Result<ExitCode> {
    let Lang::Rust = args.lang;
    args.subscribe = or(args.subscribe, || format!("{}.in", args.name));
    args.publish = or(args.publish, || format!("{}.out", args.name));
    let file = pipeline.file();
    let place = Place::find(file, &args.name, args.folder.as_deref())?;
    let wiring = Wiring {
        name: &args.name,
        component: place.component.clone(),
        subscribe: &args.subscribe,
        publish: &args.publish,
    };
    let before = PipelineFile::read(file)?;
    before.has_room_for(&args.name)?;
    if args.apply {
        before.with(&wiring)?;
    }

    make(&place, &args)?;
    if args.apply {
        // Before a host that runs reads the new lines: it will look for the component.
        build(&place.folder)?;
        // It may have been edited meanwhile.
        let now = PipelineFile::read(file)?;
        now.has_room_for(&args.name)?;
        now.replace(&now.with(&wiring)?)?;
    }
    let made = Made::new(&args, &place, &wiring);
    if args.json {
        answer!("{}", serde_json::to_string_pretty(&made).into_diagnostic()?);
    } else {
        made.print(&place, file, &args.name);
    }
    Ok(ExitCode::SUCCESS)
}

fn make(place: &Place, args: &Args) -> miette::Result<()> {
    if let Sdk::ToMake(folder) = &place.sdk {
        made(folder, files::make(folder, &sdk::files()))?;
    }
    let flow = format!("{} → {}", args.subscribe.join(", "), args.publish.join(", "));
    made(
        &place.folder,
        files::make(&place.folder, &files::of_crate(&args.name, &flow, &place.sdk_from_crate)),
    )
}

fn made(folder: &Path, result: std::io::Result<()>) -> miette::Result<()> {
    result.into_diagnostic().wrap_err_with(|| format!("can't make {}", folder.display()))
}

fn build(folder: &Path) -> miette::Result<()> {
    let mut build = cargo();
    // Where the lines of pipeline.toml look for the component, wherever else cargo is told to build.
    build.current_dir(folder).args(["build", "--release", "--target", TARGET, "--target-dir", "target"]);
    let status = build.status().into_diagnostic().wrap_err("can't start cargo")?;
    if status.success() {
        return Ok(());
    }
    Err(miette!(
        help = format!(
            "cargo says why; is the target there? `rustup target add {TARGET}`. When it builds, add the handler to \
             pipeline.toml: in another folder, `wasmill new` without --apply prints its lines"
        ),
        "{} is made, and can't be built; pipeline.toml is as it was",
        folder.display()
    ))
}

/// What `--json` prints.
#[derive(Serialize)]
struct Made {
    handler: String,
    folder: String,
    files: Vec<&'static str>,
    sdk: String,
    /// Whether the SDK was written just now.
    sdk_made: bool,
    /// As pipeline.toml names it.
    component: String,
    /// The lines for pipeline.toml.
    snippet: String,
    /// Whether pipeline.toml has them.
    applied: bool,
}

impl Made {
    fn new(args: &Args, place: &Place, wiring: &Wiring) -> Self {
        let (sdk, sdk_made) = match &place.sdk {
            Sdk::There(folder) => (folder, false),
            Sdk::ToMake(folder) => (folder, true),
        };
        Self {
            handler: args.name.clone(),
            folder: place.folder.display().to_string(),
            files: files::names(),
            sdk: sdk.display().to_string(),
            sdk_made,
            component: place.component.clone(),
            snippet: wiring.to_string(),
            applied: args.apply,
        }
    }

    fn print(&self, place: &Place, file: &Path, name: &str) {
        let (folder, file, snippet) = (&self.folder, file.display(), &self.snippet);
        answer!("made {folder}: {}", self.files.join(", "));
        if self.sdk_made {
            answer!("made {}: the SDK that it is built with", self.sdk);
        }
        // Tests are built as components are, for the SDK's macros are then compiled once.
        let try_it = format!(
            "wasmill check\n  echo '{{\"sensor\": \"boiler\", \"celsius\": 93.5}}' | wasmill invoke {name} --key boiler"
        );
        if self.applied {
            answer!("built {}", place.folder.join(files::built(name)).display());
            answer!(
                "added to {file}:\n\n{snippet}\nTo test it:\n  (cd {folder} && cargo test --release)\n  {try_it}"
            );
        } else {
            answer!("\nTest it and build it (once: rustup target add {TARGET}):");
            answer!("  (cd {folder} && cargo test --release && cargo build --release --target {TARGET})");
            answer!("\nThen add it to {file}:\n\n{snippet}\nand try it:\n  {try_it}");
        }
    }
}

fn or(topics: Vec<String>, default: impl FnOnce() -> String) -> Vec<String> {
    if topics.is_empty() { vec![default()] } else { topics }
}

/// What pipeline.toml takes, and cargo as well.
fn name(name: &str) -> Result<String, String> {
    check_name(name).map_err(told)?;
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err("a crate's name starts with a letter".into());
    }
    if files::NO_CRATE.contains(&name) {
        return Err(
            "no crate can have this name: it means something in Rust, or is that of a crate it needs".into(),
        );
    }
    Ok(name.into())
}

fn topic(name: &str) -> Result<String, String> {
    check_topic(name).map_err(told)?;
    Ok(name.into())
}

fn told(Fault { message, help }: Fault) -> String {
    format!("{message}; {help}")
}
