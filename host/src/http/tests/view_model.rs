//! The view against a model that forgets nothing.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::http::view::Lookup;

const KEYS: usize = 5;
const BYTES: usize = 8 << 10;

/// (topic, key, payload length, timestamp): offsets follow from the order.
fn records() -> impl Strategy<Value = Vec<(usize, u8, usize, i64)>> {
    prop::collection::vec((0..2_usize, 0..12_u8, 0..1500_usize, 0..1000_i64), 0..300)
}

proptest! {
    #[test]
    fn the_view_stays_bounded_and_agrees_with_the_topics(records in records()) {
        let mut plan = plan();
        plan.resources[0].view_keys = KEYS;
        let view = View::bounded(&plan.resources, BYTES);
        view.caught_up();
        let mut offsets = [0_i64; 2];
        let mut latest: HashMap<(u8, usize), (i64, usize)> = HashMap::new();
        let mut counts: HashMap<u8, u64> = HashMap::new();
        for (topic, key, len, time) in records {
            let name = ["parcels", "parcels_sent"][topic];
            view.apply(&event(name, offsets[topic], &key.to_string(), &"x".repeat(len), time));
            latest.insert((key, topic), (offsets[topic], len));
            *counts.entry(key).or_default() += 1;
            offsets[topic] += 1;

            let report = &view.report().resources["parcels"];
            prop_assert!(report.ids <= KEYS && report.bytes <= BYTES, "{report:?}");
            let page = view.page(0, None, 100);
            let bytes = page.items.iter().map(|(_, id, state)| state.bytes() + 2 * id.len()).sum::<usize>();
            prop_assert_eq!(bytes, report.bytes);
            prop_assert!(page.items.is_sorted_by(|a, b| (a.0, &a.1) > (b.0, &b.1)), "newest first");
        }
        for (key, count) in counts {
            match view.lookup(0, &key.to_string()) {
                Lookup::Found { state, .. } => {
                    // What was applied last is never older than what is shown, and where nothing was ever
                    // dropped they are the same.
                    for (topic, shown) in state.latest.iter().enumerate() {
                        let model = latest.get(&(key, topic));
                        let shown = shown.as_ref().map(|l| (l.step.offset, l.payload.as_ref().unwrap().len()));
                        if state.whole || shown.is_some() {
                            prop_assert_eq!(shown, model.copied());
                        }
                    }
                    prop_assert!(state.history.len() <= 64);
                    prop_assert!(state.history.is_sorted_by_key(|step| step.timestamp_ms));
                    if state.whole {
                        prop_assert_eq!(state.history.len() as u64 + state.history_dropped, count);
                    }
                }
                Lookup::Dropped { evicted, .. } => prop_assert!(evicted > 0),
                Lookup::Never | Lookup::NotYet => prop_assert!(false, "seen, and denied"),
            }
        }
    }

    #[test]
    fn reading_the_topics_again_changes_nothing(records in records()) {
        let mut plan = plan();
        plan.resources[0].view_keys = KEYS;
        let view = View::bounded(&plan.resources, BYTES);
        let events: Vec<_> = records
            .iter()
            .enumerate()
            .map(|(n, (topic, key, len, time))| {
                event(["parcels", "parcels_sent"][*topic], n as i64, &key.to_string(), &"x".repeat(len % 20), *time)
            })
            .collect();
        events.iter().for_each(|event| view.apply(event));
        let shown = || format!("{:?} {:?}", view.page(0, None, KEYS).items, view.report());
        let once = shown();
        events.iter().for_each(|event| view.apply(event));
        prop_assert_eq!(shown(), once);
    }

    /// Whatever was in the topics before they were deleted and made anew.
    #[test]
    fn a_reader_that_begins_again_leaves_what_the_topics_have_now(
        before in records(),
        now in records(),
        interrupted in 0..300_usize,
    ) {
        let read = |view: &View, records: &[(usize, u8, usize, i64)]| {
            let mut offsets = [0_i64; 2];
            for (topic, key, len, time) in records {
                let name = ["parcels", "parcels_sent"][*topic];
                let mut event = event(name, offsets[*topic], &key.to_string(), &"x".repeat(*len), *time);
                event.headers.push(Header::new(headers::IDEMPOTENCY_KEY, format!("{key}")));
                event.headers.push(Header::new("http-method", "POST"));
                view.apply(&event);
                offsets[*topic] += 1;
            }
        };
        let (again, fresh) = (View::new(&plan().resources), View::new(&plan().resources));
        read(&again, &before);
        again.caught_up();
        again.is_behind();
        read(&again, &now[..interrupted.min(now.len())]);
        again.is_behind();
        read(&again, &now);
        again.caught_up();
        read(&fresh, &now);
        fresh.caught_up();
        let shown = |view: &View| {
            let mut states: Vec<_> = view
                .page(0, None, 100)
                .items
                .into_iter()
                .map(|(_, id, state)| (id, state.latest, state.history, state.history_dropped, state.whole))
                .collect();
            states.sort_by(|a, b| a.0.cmp(&b.0));
            format!("{states:?} {:?}", view.report())
        };
        prop_assert_eq!(shown(&again), shown(&fresh));
    }
}
