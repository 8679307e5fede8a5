//! Who looks at dead letters for the admin API: on threads of their own, as it may take seconds, and only so many at once.

use std::sync::Arc;
use std::thread;

use serde_json::Value;
use tokio::sync::oneshot;

use super::subscriber::Grounds;
use crate::config::plan::Plan;
use crate::dead_letters::Ask;
use crate::http::{Refused, RefusedKind};

/// At once: each has clients of its own, and its memory.
const MOST: usize = 2;

type Way = oneshot::Sender<Result<Value, Refused>>;

/// One clone for each who reads, and one more.
#[derive(Default)]
pub(super) struct Readers(Arc<()>);

impl Readers {
    /// Answers later. A host that ends meanwhile doesn't wait: what was put back or let go by then is known when it is asked
    /// for anew.
    pub(super) fn send_out(&self, ask: Ask, grounds: &Grounds, plan: &Plan, way: Way) {
        if let Err(report) = ask.check(plan) {
            answer(way, Err(refused(RefusedKind::NotFound, &report)));
            return;
        }
        if Arc::strong_count(&self.0) > MOST {
            answer(way, Err(busy("others are looking at dead letters")));
            return;
        }
        let (seat, grounds, plan) = (self.0.clone(), grounds.clone(), plan.clone());
        let reading = move || {
            let said = ask.answer(&plan, &grounds.cluster).map_err(|report| {
                let is_away = grounds.status.broker_away();
                let kind = match &ask {
                    _ if is_away => RefusedKind::Unavailable,
                    // There is no such record.
                    Ask::Show { .. } => RefusedKind::NotFound,
                    Ask::List { .. } | Ask::Settle { .. } => RefusedKind::Conflict,
                };
                refused(kind, &report)
            });
            // Before the answer: who gets it may ask again at once.
            drop(seat);
            answer(way, said);
        };
        // Where there is no thread, the way is dropped, and whoever asked is told that nothing was done.
        if let Err(error) = thread::Builder::new().name("dead-letters".into()).spawn(reading) {
            tracing::warn!("can't start a thread to look at dead letters: {error}");
        }
    }
}

fn answer(way: Way, said: Result<Value, Refused>) {
    // Whoever asked may have gone.
    let _ = way.send(said);
}

fn busy(why: &str) -> Refused {
    Refused { kind: RefusedKind::Unavailable, message: why.into(), help: "try again in a moment".into() }
}

fn refused(kind: RefusedKind, report: &miette::Report) -> Refused {
    let help = report.help().map(|help| help.to_string()).unwrap_or_default();
    Refused { kind, message: report.to_string(), help }
}
