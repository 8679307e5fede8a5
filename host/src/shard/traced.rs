//! The spans of what a shard runs, while traces are on.

use super::window::Slot;
use super::{Shard, Submitted, is_for_another};
use crate::event::{Handler, Outcome};
use crate::log::CommitError;
use crate::telemetry::traces::{Batch, Began, SubscriberTracer};

impl<S, C, H: Handler> Shard<S, C, H> {
    /// From the next batch on.
    pub fn trace(&mut self, tracer: Option<SubscriberTracer>) {
        self.tracer = tracer;
    }

    /// Of a batch that has run, whose outputs get their events' contexts. The outcomes are those of the first slots.
    pub(super) fn spans(
        &mut self,
        began: Option<Began>,
        slots: &[Slot],
        outcomes: &mut [Outcome],
    ) -> Option<Batch> {
        let (tracer, began) = (self.tracer.as_ref()?, began?);
        let mut ran = tracer.ran(began, &self.identity.digest);
        for (slot, outcome) in slots.iter().zip(outcomes) {
            let event = self.window.event(*slot);
            if is_for_another(event, &self.identity.name) {
                continue;
            }
            if let Some(traceparent) = ran.event(event, self.window.attempt(*slot), outcome) {
                self.window.add_header(*slot, traceparent);
            }
        }
        ran.batch(&self.handler.calls())
    }
}

/// Nothing of these became visible.
pub(super) fn refused<'a>(submitted: impl Iterator<Item = &'a mut Submitted>, error: &CommitError) {
    for spans in submitted.filter_map(|submitted| submitted.spans.take()) {
        spans.refused(&error.to_string());
    }
}
