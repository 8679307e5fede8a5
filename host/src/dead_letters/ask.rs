//! What the admin API can ask for.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use miette::{IntoDiagnostic, miette};
use serde_json::Value;

use super::list::{Listing, list};
use super::settle::{Act, Wanted, settle};
use super::whole::Whole;
use super::{marks, only, subscribers};
use crate::config::plan::Plan;
use crate::event::{Position, TopicPartition};
use crate::log::kafka::{Cluster, End};
use crate::reading;

/// Letters that are listed one by one.
const MOST_EACH: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// How many there are by handler and cause, and the newest of them; of one handler or sink, or of all.
    List { of: Option<String>, cause: Option<String> },
    /// One of them, whole.
    Show { at: Position },
    /// To put some back, or to let go of them.
    Settle { of: String, wanted: Wanted, act: Act },
}

impl Ask {
    /// # Errors
    ///
    /// When the plan has no such handler, sink or topic of dead letters, or it has no such dead letters.
    pub(crate) fn check(&self, plan: &Plan) -> miette::Result<()> {
        match self {
            Self::List { of, .. } => subscribers(plan, of.as_deref()).map(drop),
            Self::Settle { of, wanted, .. } => wanted.are_of(&only(plan, of)?),
            Self::Show { at } if at.offset < 0 || at.partition < 0 => {
                Err(miette!("{at} is no position: partitions and offsets begin at 0"))
            }
            Self::Show { at } if subscribers(plan, None)?.iter().any(|of| *of.dead_letter == at.topic) => {
                Ok(())
            }
            // Not whatever the host can read.
            Self::Show { at } => Err(miette!(
                help = "`wasmill dlq ls` tells where dead letters stand",
                "{} is no topic of dead letters of this pipeline",
                at.topic
            )),
        }
    }

    /// Reads the dead letters' topics from their beginning, so it may take seconds.
    ///
    /// # Errors
    ///
    /// Those of [`Ask::check`]; when there is no record where one is to be shown; and when no broker answers.
    pub(crate) fn answer(&self, plan: &Plan, cluster: &Cluster) -> miette::Result<Value> {
        match self {
            Self::List { of: asked, cause } => {
                let of = subscribers(plan, asked.as_deref())?;
                let topics: Vec<Arc<str>> = of.iter().map(|of| of.dead_letter.clone()).collect();
                let ranges = until_now(cluster, &topics)?;
                let settled = marks::of(cluster, &ranges)?;
                let mut tail = reading::within(cluster, &ranges)?;
                let of = asked.as_ref().and(of.first());
                let wanted = Listing { of, takes: &|_| true, cause: cause.as_deref(), each: MOST_EACH };
                let listed = list(&mut tail, cluster, &settled, &wanted, |_| ())?;
                serde_json::to_value(&listed).into_diagnostic()
            }
            Self::Show { at } => serde_json::to_value(Whole::read(cluster, at)?).into_diagnostic(),
            Self::Settle { of, wanted, act } => {
                let of = only(plan, of)?;
                let ranges = until_now(cluster, std::slice::from_ref(of.dead_letter))?;
                let report = settle(cluster, &of, act, wanted, &ranges, |_| true, |_| true)?;
                serde_json::to_value(&report).into_diagnostic()
            }
        }
    }
}

/// All that is committed by now.
fn until_now(cluster: &Cluster, topics: &[Arc<str>]) -> miette::Result<BTreeMap<TopicPartition, Range<i64>>> {
    let refused = |error| reading::refused(cluster, error);
    cluster.offsets(End::Committed).map_err(refused)?.extents(topics).map_err(refused)
}
