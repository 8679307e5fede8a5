//! The pipeline's brokers, as the verbs that read their topics find them.

use indicatif::ProgressBar;
use miette::IntoDiagnostic;

use super::host::Host;
use crate::config::plan::{Brokers, Plan};
use crate::event::Event;
use crate::log::kafka::{Cluster, Tail};
use crate::reading;
pub(super) use crate::reading::{away, batch, record, refused, tail, within};

/// The brokers of the pipeline. Of an embedded one only the host that runs it knows the address: no other is asked.
pub(super) fn connect(url: Option<&str>, plan: &Plan) -> miette::Result<Cluster> {
    match &plan.kafka.brokers {
        Brokers::Addresses(_) => Cluster::connect(&plan.kafka, &plan.name).into_diagnostic(),
        Brokers::Embedded => {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().into_diagnostic()?;
            runtime.block_on(async { Host::new(url, plan)?.running(plan).await })?.cluster(plan)
        }
    }
}

/// Sees every record that was there when the tail was made. Tells how many, on a terminal, while it reads.
pub(super) fn read_to_the_end(
    tail: &mut Tail,
    cluster: &Cluster,
    see: impl FnMut(Event),
) -> miette::Result<u64> {
    let spinner = ProgressBar::new_spinner().with_message("reading");
    let read = reading::read_to_the_end(tail, cluster, see, |read| spinner.set_position(read))?;
    spinner.finish_and_clear();
    Ok(read)
}
