//! Read buffers, shared by the connections that have something to read.

use std::sync::{Mutex, PoisonError};

use sansmtp::ReadBuffer;

/// A pool of read buffers: as many are in use as connections are reading at the same time, not as there
/// are connections.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    #[expect(clippy::vec_box, reason = "a connection that has none has room for a pointer only")]
    free: Mutex<Vec<Box<ReadBuffer>>>,
}

impl Buffers {
    pub(crate) fn take(&self) -> Box<ReadBuffer> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| Box::new(ReadBuffer::new(READ_OCTETS)))
    }

    /// Takes a buffer back, overwritten.
    pub(crate) fn give_back(&self, mut buffer: Box<ReadBuffer>) {
        buffer.release();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT_BUFFERS {
            free.push(buffer);
        }
    }
}

pub(crate) const READ_OCTETS: usize = 64 * 1024;
const KEPT_BUFFERS: usize = 64;
