//! The memory cap, and the smaller limits on what a guest can make the host hold for it.

use wasmtime::ResourceLimiter;

/// Bytes that one call for random numbers may ask for.
pub(super) const RANDOM_BYTES: u64 = 64 * 1024;

/// Host resources (streams, pollables, errors) that a guest may hold at one time. Each print and each sleep
/// of a well-behaved guest holds one or two.
pub(super) const RESOURCES: usize = 256;

/// Handles that a guest may hold at one time, its own resources included.
pub(super) const HANDLES: usize = 4096;

/// Bytes of a table's element, as wasmtime lays it out.
const TABLE_ELEMENT: usize = size_of::<usize>();

/// Bytes that a call may make the host hold beside the guest's own memory, whatever its cap.
const MOST_COPIED: usize = 64 * 1024 * 1024;

/// How many bytes the host copies, at most, out of a guest's answer or a guest's call of the host.
///
/// An answer is lists of lists that may overlap, so the guest's memory alone doesn't bound the copy. Three
/// times the cap fits every answer that doesn't overlap: the widest record is a header, 48 bytes here and
/// 16 there. A batch that needs more than the second bound, four times the largest that is polled, is halved.
pub(super) fn copied_bytes(memory_cap: usize) -> usize {
    memory_cap.saturating_mul(3).min(MOST_COPIED)
}

/// Counts the linear memories and tables of one instance together.
///
/// It also bounds how long one instruction takes, which no epoch interrupts: `memory.fill` of pages that were never
/// touched is about half a second a GiB (measured: 9 ms past the deadline with 64 MiB, 126 ms with 256 MiB, 0.6 s
/// with 1 GiB).
#[derive(Debug)]
pub(super) struct MemoryCap {
    cap: usize,
    used: usize,
    refused: Option<Refused>,
}

/// The guest asked for more than it can have, of this. It may have lived on with less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Cap,
    /// The maximum that its own memory declares, in bytes.
    Memory(usize),
    /// The maximum of its table or of the pool's, in elements.
    Table(usize),
}

impl MemoryCap {
    pub(super) fn new(cap: usize) -> Self {
        Self { cap, used: 0, refused: None }
    }

    /// Memory of a component never shrinks, so this is its peak too.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    pub(super) fn refused(&self) -> Option<Refused> {
        self.refused
    }

    pub(super) fn forget_refusals(&mut self) {
        self.refused = None;
    }

    fn grow(&mut self, more: usize, beyond: Option<Refused>) -> bool {
        let used = self.used.saturating_add(more);
        let refused = beyond.or((used > self.cap).then_some(Refused::Cap));
        match refused {
            Some(_) => self.refused = refused,
            None => self.used = used,
        }
        refused.is_none()
    }
}

impl ResourceLimiter for MemoryCap {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let beyond = maximum.filter(|maximum| desired > *maximum).map(Refused::Memory);
        Ok(self.grow(desired.saturating_sub(current), beyond))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let beyond = maximum.filter(|maximum| desired > *maximum).map(Refused::Table);
        Ok(self.grow(desired.saturating_sub(current).saturating_mul(TABLE_ELEMENT), beyond))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_and_tables_share_one_cap() {
        let mut cap = MemoryCap::new(1000);
        assert!(cap.memory_growing(0, 400, None).unwrap());
        assert!(cap.memory_growing(0, 400, None).unwrap());
        assert!(cap.table_growing(0, 25, None).unwrap());
        assert_eq!((cap.used(), cap.refused()), (1000, None));
        assert!(!cap.table_growing(25, 26, None).unwrap());
        assert_eq!((cap.used(), cap.refused()), (1000, Some(Refused::Cap)));
    }

    #[test]
    fn a_growth_past_a_maximum_is_refused_and_not_counted() {
        let mut cap = MemoryCap::new(1000);
        assert!(!cap.table_growing(0, 21, Some(20)).unwrap());
        assert_eq!((cap.used(), cap.refused()), (0, Some(Refused::Table(20))));
        assert!(!cap.memory_growing(100, 300, Some(200)).unwrap());
        assert_eq!((cap.used(), cap.refused()), (0, Some(Refused::Memory(200))));
    }
}
