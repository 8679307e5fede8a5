//! Whether all that was sent has come, and only once, by consecutive numbers.
#![allow(dead_code)] // each example is a crate of its own and uses what it needs

use std::collections::BTreeSet;

/// Those that have come. It takes little memory as long as few of them are late.
#[derive(Default)]
pub(crate) struct Numbers {
    /// After the greatest that has come.
    next: u64,
    /// Of those before it.
    missing: BTreeSet<u64>,
    doubled: u64,
}

impl Numbers {
    /// One more has come. Fails where it is so far ahead that it is no use to go on.
    pub(crate) fn note(&mut self, number: u64) -> Result<(), String> {
        const FAR: u64 = 1_000_000;
        if number > self.next + FAR {
            return Err(format!("{number} came where {} was due", self.next));
        }
        if number >= self.next {
            self.missing.extend(self.next..number);
            self.next = number + 1;
        } else if !self.missing.remove(&number) {
            self.doubled += 1;
        }
        Ok(())
    }

    /// What is wrong with those that have come: one is missing before another one, or came twice.
    pub(crate) fn faults(&self) -> Option<String> {
        self.faults_of(self.next)
    }

    /// What is wrong where all below `count` have been sent.
    pub(crate) fn faults_of(&self, count: u64) -> Option<String> {
        let Self { next, missing, doubled } = self;
        let lost = missing.len() as u64 + count.saturating_sub(*next);
        let never_sent = next.saturating_sub(count);
        let first = missing.first().unwrap_or(next);
        (lost + doubled + never_sent > 0).then(|| {
            format!(
                "of {count}, {lost} are missing (from {first} on), {doubled} came twice, and as many as {never_sent} were \
                 never sent"
            )
        })
    }
}
