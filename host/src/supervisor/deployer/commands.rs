//! What the admin API asks for: which versions there are, going back to one, dead letters, a reload, and what a reload would
//! do.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::history::{Held, Kept};
use super::candidate::Candidate;
use super::{Deployer, settings};
use crate::config::Change;
use crate::config::plan::HandlerPlan;
use crate::http::{Asked, Command, Refused, RefusedKind};
use crate::text::short;

impl Deployer {
    pub(super) fn answer(&mut self, Asked { command, answer }: Asked) {
        let said = match command {
            Command::DeadLetters(ask) => {
                self.readers.send_out(ask, &self.parts.grounds, &self.loaded.plan, answer);
                return;
            }
            Command::Versions { handler } => self.versions(&handler),
            Command::Settings { handler } => self.settings(&handler),
            Command::Rollback { handler, to } => self.roll_back(&handler, to.as_deref()),
            Command::Parked => Ok(json!({ "parked": self.parts.grounds.status.parked_report() })),
            Command::Reload => self.reload().map(|changes| told(&changes)).map_err(|lines| {
                invalid(lines.join("\n"), "mend pipeline.toml; everything goes on as it was")
            }),
            Command::Diff { toml } => self.diff(toml),
        };
        // Whoever asked may have gone.
        let _ = answer.send(said);
    }

    fn plan_of(&self, handler: &str) -> Result<HandlerPlan, Refused> {
        match self.handlers.get(handler) {
            Some(handler) => Ok(handler.plan.clone()),
            None => {
                let known: Vec<&str> = self.handlers.keys().map(AsRef::as_ref).collect();
                Err(Refused {
                    kind: RefusedKind::NotFound,
                    message: format!("no handler `{handler}` runs here"),
                    help: format!("these do: {}", known.join(", ")),
                })
            }
        }
    }

    fn settings(&self, handler: &str) -> Result<Value, Refused> {
        match self.sinks.get(handler) {
            Some(sink) => Ok(settings::of_sink(sink)),
            None => Ok(settings::of_handler(&self.plan_of(handler)?)),
        }
    }

    fn versions(&mut self, handler: &str) -> Result<Value, Refused> {
        let plan = self.plan_of(handler)?;
        let runs = self.handlers[handler].version.digest().clone();
        let history = self.history(&plan);
        let held = history.held().cloned();
        let versions: Vec<Value> = history
            .versions()
            .map(|Kept { digest, loaded_at_ms }| {
                let instead = held.as_ref().is_some_and(|held| held.digest == *digest);
                json!({
                    "digest": digest,
                    "running": *digest == runs,
                    "loaded_at_ms": loaded_at_ms,
                    "source": if instead { "rollback" } else { "file" },
                    "held": instead,
                })
            })
            .collect();
        Ok(json!({ "handler": handler, "versions": versions, "keep": plan.keep }))
    }

    /// To the version whose digest begins like this; or else to the one that was loaded before the one that runs.
    fn roll_back(&mut self, handler: &str, to: Option<&str>) -> Result<Value, Refused> {
        let plan = self.plan_of(handler)?;
        let (runs, file) =
            (self.handlers[handler].version.digest().clone(), self.handlers[handler].file.clone());
        let kept: Vec<Arc<str>> = self.history(&plan).versions().map(|kept| kept.digest.clone()).collect();
        let target = match to {
            Some(prefix) => only(&kept, prefix, handler)?,
            None => {
                let at = kept.iter().position(|digest| *digest == runs);
                let before = at.and_then(|at| kept.get(at + 1)).cloned();
                before.ok_or_else(|| Refused {
                    kind: RefusedKind::Conflict,
                    message: format!("no version of `{handler}` before {} is kept", short(&runs)),
                    help: "`wasmill versions` lists those that are; `keep` in pipeline.toml says how many"
                        .into(),
                })?
            }
        };
        if target == runs {
            return Err(Refused {
                kind: RefusedKind::Conflict,
                message: format!("`{handler}` runs {} already", short(&runs)),
                help: "`wasmill versions` lists the others".into(),
            });
        }
        let (version, compiled) = self.parts.workshop.kept(&plan, &target).map_err(|error| Refused {
            kind: RefusedKind::Conflict,
            message: format!("{} can't run: {error}", short(&target)),
            help: "nothing has changed; `wasmill versions` lists the others".into(),
        })?;
        if target == file {
            self.history(&plan).release();
        } else {
            self.history(&plan).hold(Held { digest: target.clone(), instead_of: file.clone() });
        }
        self.put_version(&plan.name, Candidate { version, compiled, file, loaded: None });
        let lasts = self.history(&plan).lasts(&target);
        Ok(json!({
            "handler": handler,
            "from": runs,
            "to": target,
            "compile_ms": compiled.ms(),
            "lasts": lasts,
        }))
    }

    /// What a reload would do if the file had this text.
    fn diff(&mut self, toml: String) -> Result<Value, Refused> {
        let judged = self.parts.file.load_as(toml).map_err(Into::into).and_then(|loaded| self.judge(loaded));
        // Not those of a plan that was only asked about.
        self.watch_files();
        match judged {
            Ok(reload) => Ok(told(&reload.changes)),
            Err(refusal) => {
                let help = "the running host would refuse this and go on as it was";
                Err(invalid(refusal.lines().join("\n"), help))
            }
        }
    }
}

/// Each with a sentence about it, for those who only show it.
fn told(changes: &[Change]) -> Value {
    let told = changes.iter().map(|change| {
        let mut told = json!(change);
        told["message"] = change.to_string().into();
        told
    });
    json!({ "changes": told.collect::<Vec<_>>() })
}

fn only(kept: &[Arc<str>], prefix: &str, handler: &str) -> Result<Arc<str>, Refused> {
    let refused = |kind, message| Refused {
        kind,
        message,
        help: "`wasmill versions` lists those that are kept".into(),
    };
    match &kept.iter().filter(|digest| digest.starts_with(prefix)).collect::<Vec<_>>()[..] {
        [one] => Ok(Arc::clone(one)),
        [] => Err(refused(RefusedKind::NotFound, format!("no version {prefix}… of `{handler}` is kept"))),
        several => Err(refused(
            RefusedKind::Invalid,
            format!("{} versions of `{handler}` begin with {prefix}", several.len()),
        )),
    }
}

fn invalid(message: String, help: &str) -> Refused {
    Refused { kind: RefusedKind::Invalid, message, help: help.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Effect, Kind};

    #[test]
    fn a_change_is_told_in_words_too() {
        let change = Change { subject: "handlers.h".into(), kind: Kind::Added, effect: Effect::Starts };
        let told = told(&[change]);
        assert_eq!(told["changes"][0]["message"], "handlers.h is new: it starts");
        assert_eq!(told["changes"][0]["subject"], "handlers.h");
    }
}
