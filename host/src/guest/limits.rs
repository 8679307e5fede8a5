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

/// How many bytes the host copies, at most, out of a guest's answer or a guest's call of the host.
///
/// An answer is lists of lists that may overlap, so the guest's memory alone doesn't bound the copy. Three
/// times the cap fits every answer that doesn't overlap: the widest record is a header, 48 bytes here and
/// 16 there.
pub(super) fn copied_bytes(memory_cap: usize) -> usize {
    memory_cap.saturating_mul(3)
}

/// Counts the linear memories and tables of one instance together.
#[derive(Debug)]
pub(super) struct MemoryCap {
    cap: usize,
    used: usize,
    /// The guest asked for more than the cap, and was refused. It may have lived on with less.
    refused: bool,
}

impl MemoryCap {
    pub(super) fn new(cap: usize) -> Self {
        Self { cap, used: 0, refused: false }
    }

    /// Memory of a component never shrinks, so this is its peak too.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    pub(super) fn refused(&self) -> bool {
        self.refused
    }

    fn grow(&mut self, more: usize, possible: bool) -> bool {
        let used = self.used.saturating_add(more);
        let fits = possible && used <= self.cap;
        if fits {
            self.used = used;
        } else {
            self.refused = true;
        }
        fits
    }
}

impl ResourceLimiter for MemoryCap {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(desired.saturating_sub(current), maximum.is_none_or(|maximum| desired <= maximum)))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(
            desired.saturating_sub(current).saturating_mul(TABLE_ELEMENT),
            maximum.is_none_or(|maximum| desired <= maximum),
        ))
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
        assert_eq!((cap.used(), cap.refused()), (1000, false));
        assert!(!cap.table_growing(25, 26, None).unwrap());
        assert_eq!((cap.used(), cap.refused()), (1000, true));
    }

    #[test]
    fn a_growth_past_the_modules_own_maximum_is_refused_and_not_counted() {
        let mut cap = MemoryCap::new(1000);
        assert!(!cap.memory_growing(100, 300, Some(200)).unwrap());
        assert_eq!((cap.used(), cap.refused()), (0, true));
    }
}
