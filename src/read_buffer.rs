//! The buffer between a socket and a connection, for drivers to share.

use alloc::boxed::Box;
use core::fmt;

use zeroize::Zeroize;

/// Octets read and not yet taken by the connection.
///
/// What has been taken may have been a password: [`release`](Self::release) overwrites all that was ever
/// read into the buffer since, before somebody else uses it.
pub struct ReadBuffer {
    octets: Box<[u8]>,
    start: usize,
    end: usize,
    /// How far octets have been read since the last `release`.
    dirty: usize,
}

impl ReadBuffer {
    /// A buffer of so many octets.
    #[must_use]
    pub fn new(octets: usize) -> Self {
        Self { octets: alloc::vec![0; octets].into(), start: 0, end: 0, dirty: 0 }
    }

    /// What has been read and not taken.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        self.octets.get(self.start..self.end).unwrap_or_default()
    }

    /// Says that the first `octets` of [`unread`](Self::unread) have been taken.
    pub fn take(&mut self, octets: usize) {
        self.start = self.start.saturating_add(octets).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// The room to read into. There is some whenever everything has been taken.
    pub fn room(&mut self) -> &mut [u8] {
        self.octets.get_mut(self.end..).unwrap_or_default()
    }

    /// Says that `octets` have been read into [`room`](Self::room).
    pub fn filled(&mut self, octets: usize) {
        self.end = self.end.saturating_add(octets).min(self.octets.len());
        self.dirty = self.dirty.max(self.end);
    }

    /// Empties the buffer and overwrites what was in it.
    pub fn release(&mut self) {
        if let Some(used) = self.octets.get_mut(..self.dirty) {
            used.zeroize();
        }
        (self.start, self.end, self.dirty) = (0, 0, 0);
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        self.release();
    }
}

impl fmt::Debug for ReadBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadBuffer({} unread)", self.end - self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_overwritten() {
        let mut buffer = ReadBuffer::new(8);
        buffer.room()[..6].copy_from_slice(b"secret");
        buffer.filled(6);
        assert_eq!(buffer.unread(), b"secret");
        buffer.take(2);
        assert_eq!(buffer.unread(), b"cret");
        buffer.take(4);
        assert_eq!(buffer.room().len(), 8);
        buffer.release();
        assert_eq!(buffer.room(), [0; 8]);
    }
}
