//! The memory that a hash fills.

use std::fmt;
use std::ops::{Deref, DerefMut};

use argon2::Block;
use zeroize::Zeroize as _;

/// The memory of one hash at a time, kept from one to the next and wiped in between.
///
/// A hash that takes megabytes would otherwise have them allocated each time. Allocators do not always use a freed
/// block of that size again: in glibc's, an aligned one (as Argon2's are) stays resident where small blocks lie around
/// it (its bug 14581), and every thread's arena keeps some of the others. So what is resident would grow with the
/// number of logins.
#[derive(Default)]
pub(crate) struct HashMemory {
    /// Allocated once, at the most that is ever kept. Pages that no hash has needed yet are not resident.
    kept: Vec<Block>,
}

/// Zeroed memory for one hash, wiped when it is dropped.
#[derive(Debug)]
pub(crate) enum Lent<'a> {
    Kept(&'a mut [Block]),
    /// More than is kept.
    Own(Vec<Block>),
}

impl HashMemory {
    /// Lends as many blocks of 1 KiB. `None` where there is no such memory.
    pub(crate) fn lend(&mut self, blocks: usize) -> Option<Lent<'_>> {
        if blocks > MOST_KEPT {
            let mut own = Vec::new();
            own.try_reserve_exact(blocks).ok()?;
            own.resize(blocks, Block::new());
            return Some(Lent::Own(own));
        }
        if self.kept.capacity() < MOST_KEPT {
            self.kept.try_reserve_exact(MOST_KEPT).ok()?;
        }
        if self.kept.len() < blocks {
            self.kept.resize(blocks, Block::new());
        }
        self.kept.get_mut(..blocks).map(Lent::Kept)
    }
}

impl Deref for Lent<'_> {
    type Target = [Block];

    fn deref(&self) -> &[Block] {
        match self {
            Lent::Kept(blocks) => blocks,
            Lent::Own(blocks) => blocks,
        }
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut [Block] {
        match self {
            Lent::Kept(blocks) => blocks,
            Lent::Own(blocks) => blocks,
        }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.iter_mut().for_each(Block::zeroize);
    }
}

impl fmt::Debug for HashMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashMemory")
    }
}

/// 32 MiB: enough for all hashes but foreign ones of high cost. Larger blocks are mapped by themselves and go back to
/// the system when they are freed (in glibc's allocator on 64 bits, whatever was freed before).
const MOST_KEPT: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lent_is_zero_again_and_at_the_same_place() {
        let mut memory = HashMemory::default();
        let mut places = Vec::new();
        for blocks in [1, 64, 3, 19 * 1024, 64, MOST_KEPT] {
            let mut lent = memory.lend(blocks).unwrap();
            assert_eq!(lent.len(), blocks);
            assert!(lent.iter().all(|block| block.as_ref().iter().all(|word| *word == 0)));
            lent.iter_mut().for_each(|block| block.as_mut().fill(u64::MAX));
            places.push(lent.as_ptr());
        }
        assert!(places.iter().all(|place| *place == places[0]));
        assert!(memory.kept.iter().all(|block| block.as_ref().iter().all(|word| *word == 0)));
    }

    #[test]
    fn no_more_is_kept_than_that() {
        let mut memory = HashMemory::default();
        assert_eq!(memory.lend(MOST_KEPT + 1).unwrap().len(), MOST_KEPT + 1);
        assert_eq!(memory.kept.capacity(), 0);
        assert_eq!(memory.lend(1).unwrap().len(), 1);
        assert_eq!(memory.lend(MOST_KEPT + 1).unwrap().len(), MOST_KEPT + 1);
        assert_eq!(memory.kept.capacity(), MOST_KEPT);
        assert!(memory.lend(usize::MAX).is_none());
    }
}
