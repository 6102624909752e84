//! Read buffers, shared by the connections that have something to read.

use std::sync::{Mutex, MutexGuard, PoisonError};

use sansmtp::ReadBuffer;

/// A pool of read buffers: as many are in use as connections are reading at the same time, not as there
/// are connections.
///
/// A peer that does not read keeps the buffer with what it has said and was not answered yet. So buffers for commands are
/// small, and only so many large ones are given out at a time.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "a connection that has none has room for a pointer only")]
struct Free {
    small: Vec<Box<ReadBuffer>>,
    large: Vec<Box<ReadBuffer>>,
    large_in_use: usize,
}

impl Buffers {
    /// A buffer, large if there is one and it is wanted.
    pub(crate) fn take(&self, is_large_wanted: bool) -> Box<ReadBuffer> {
        let mut free = self.free();
        let is_large = is_large_wanted && free.large_in_use < MAX_LARGE_BUFFERS;
        let (buffer, octets) = if is_large {
            free.large_in_use += 1;
            (free.large.pop(), LARGE_OCTETS)
        } else {
            (free.small.pop(), SMALL_OCTETS)
        };
        drop(free);
        buffer.unwrap_or_else(|| Box::new(ReadBuffer::new(octets)))
    }

    /// Takes a buffer back, overwritten.
    pub(crate) fn give_back(&self, mut buffer: Box<ReadBuffer>) {
        buffer.release();
        let mut free = self.free();
        let kept = if is_large(&buffer) {
            free.large_in_use -= 1;
            &mut free.large
        } else {
            &mut free.small
        };
        if kept.len() < KEPT_BUFFERS {
            kept.push(buffer);
        }
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        // No panic leaves it half changed.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it is one for content.
pub(crate) fn is_large(buffer: &ReadBuffer) -> bool {
    buffer.capacity() >= LARGE_OCTETS
}

/// For commands and SASL responses.
const SMALL_OCTETS: usize = 4 * 1024;
/// For content.
const LARGE_OCTETS: usize = 64 * 1024;
/// How many connections read content into large buffers at a time. Others read it into small ones.
const MAX_LARGE_BUFFERS: usize = 256;
/// How many of each that are not in use are kept.
const KEPT_BUFFERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_are_large() {
        let buffers = Buffers::default();
        let taken: Vec<_> = (0..MAX_LARGE_BUFFERS + 3).map(|_| buffers.take(true)).collect();
        assert_eq!(taken.iter().filter(|buffer| is_large(buffer)).count(), MAX_LARGE_BUFFERS);
        assert!(!is_large(&buffers.take(false)));
        taken.into_iter().for_each(|buffer| buffers.give_back(buffer));
        let free = buffers.free();
        assert_eq!((free.large.len(), free.small.len(), free.large_in_use), (KEPT_BUFFERS, 3, 0));
        drop(free);
        assert!(is_large(&buffers.take(true)));
    }
}
