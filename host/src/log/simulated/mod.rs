//! A log in memory: deterministic, with transactions, rebalances and injected faults.
