//! An allocator for tests. It counts, thread by thread, and searches every block that the thread frees
//! for patterns that must not be in one.
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: test_alloc::TestAlloc = test_alloc::TestAlloc;
//!
//! let counts = test_alloc::counts();
//! drop(Vec::<u8>::with_capacity(100));
//! assert_eq!(test_alloc::counts().allocations, counts.allocations + 1);
//!
//! let found = test_alloc::watch(&[b"hunter2"], || drop(b"my hunter2".to_vec()));
//! assert_eq!(found, [1]);
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};

/// The allocator; put one into a `#[global_allocator]` static.
#[derive(Debug)]
pub struct TestAlloc;

/// What a thread has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Allocations, and reallocations that moved or not.
    pub allocations: u64,
    /// Blocks given back.
    pub frees: u64,
    /// Octets allocated and not given back. Negative where the thread freed what others allocated.
    pub live_octets: i64,
}

/// How many patterns can be watched at once.
pub const MAX_PATTERNS: usize = 160;

thread_local! {
    static COUNTS: Cell<Counts> = const { Cell::new(Counts { allocations: 0, frees: 0, live_octets: 0 }) };
    static PATTERNS: Cell<&'static [&'static [u8]]> = const { Cell::new(&[]) };
    /// A bit for each pair of octets that a pattern begins with.
    static BEGINNINGS: RefCell<[u64; 1024]> = const { RefCell::new([0; 1024]) };
    static FOUND: Cell<[u32; MAX_PATTERNS]> = const { Cell::new([0; MAX_PATTERNS]) };
}

/// What this thread has done so far.
#[must_use]
pub fn counts() -> Counts {
    COUNTS.get()
}

/// Runs `body`; says, pattern by pattern, how often it was in the blocks that this thread freed meanwhile.
///
/// A block that is still live when `body` returns is not looked at: drop in `body` what matters.
///
/// # Panics
///
/// With more than [`MAX_PATTERNS`] patterns or one of fewer than two octets, and when called from within
/// `body`.
pub fn watch(patterns: &'static [&'static [u8]], body: impl FnOnce()) -> Vec<u32> {
    assert!(patterns.len() <= MAX_PATTERNS && PATTERNS.get().is_empty());
    FOUND.set([0; MAX_PATTERNS]);
    BEGINNINGS.with_borrow_mut(|beginnings| {
        *beginnings = [0; 1024];
        for pattern in patterns {
            let pair = pair(pattern[0], pattern[1]);
            beginnings[pair / 64] |= 1 << (pair % 64);
        }
    });
    PATTERNS.set(patterns);
    body();
    PATTERNS.set(&[]);
    FOUND.get()[..patterns.len()].to_vec()
}

fn count(allocated: usize, freed: usize, change: impl FnOnce(&mut Counts)) {
    // While a thread ends, its counters may be gone.
    let _ = COUNTS.try_with(|counts| {
        let mut changed = counts.get();
        changed.live_octets += allocated as i64 - freed as i64;
        change(&mut changed);
        counts.set(changed);
    });
}

fn pair(first: u8, second: u8) -> usize {
    usize::from(first) << 8 | usize::from(second)
}

fn search(block: &[u8]) {
    // A thread that ends has nothing to watch.
    let patterns = PATTERNS.try_with(Cell::get).unwrap_or_default();
    if patterns.is_empty() {
        return;
    }
    BEGINNINGS.with_borrow(|beginnings| {
        for (at, octets) in block.windows(2).enumerate() {
            let pair = pair(octets[0], octets[1]);
            if beginnings[pair / 64] & 1 << (pair % 64) != 0 {
                note_those_at(&block[at..], patterns);
            }
        }
    });
}

#[cold]
fn note_those_at(block: &[u8], patterns: &[&[u8]]) {
    let mut found = FOUND.get();
    for (found, pattern) in found.iter_mut().zip(patterns) {
        *found += u32::from(block.starts_with(pattern));
    }
    FOUND.set(found);
}

// SAFETY: every call goes on to `System` with the arguments that it came with. `realloc` is left to its
// default, which allocates, copies and frees, so that the block that is left behind is searched too.
unsafe impl GlobalAlloc for TestAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0, |counts| counts.allocations += 1);
        // Zeroed, so that `dealloc` can read all of it.
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract, which is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the same contract.
        unsafe { self.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, layout.size(), |counts| counts.frees += 1);
        // SAFETY: the block was allocated by `alloc` above with this layout, and its owner is done with
        // it. What its owner moved into it may have left padding, which reads as what lay there.
        search(unsafe { std::slice::from_raw_parts(block, layout.size()) });
        // SAFETY: the same contract.
        unsafe { System.dealloc(block, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: TestAlloc = TestAlloc;

    #[test]
    fn what_a_reallocation_leaves_behind_is_searched() {
        let found = watch(&[b"secret", b"other"], || {
            let mut octets = Vec::with_capacity(8);
            octets.extend_from_slice(b"a secret");
            octets.reserve_exact(1000);
            std::hint::black_box(&mut octets).fill(0);
        });
        assert_eq!(found, [1, 0]);
    }

    #[test]
    fn live_octets_return_to_where_they_were() {
        let before = counts();
        let mut octets = vec![1u8; 100];
        assert_eq!(counts().live_octets, before.live_octets + 100);
        octets.reserve_exact(100);
        assert_eq!(counts().live_octets, before.live_octets + 200);
        drop(octets);
        assert_eq!(counts().live_octets, before.live_octets);
        assert_eq!(counts().allocations, before.allocations + 2);
        assert_eq!(counts().frees, before.frees + 2);
    }
}
