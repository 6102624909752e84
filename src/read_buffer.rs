//! The buffer between a socket and a connection, for drivers to share.

use alloc::boxed::Box;
use core::fmt;
use core::time::Duration;

use zeroize::Zeroize;

use crate::action::Action;
use crate::connection::Connection;

/// What can be polled with input: a [`Connection`], or a layer around one.
pub trait Poll {
    /// Says what to do next, as [`Connection::poll`] does.
    fn poll<'c, 'i: 'c>(&'c mut self, now: Duration, input: &mut &'i [u8]) -> Action<'c>;
}

impl Poll for Connection {
    fn poll<'c, 'i: 'c>(&'c mut self, now: Duration, input: &mut &'i [u8]) -> Action<'c> {
        Self::poll(self, now, input)
    }
}

/// Octets read and not yet taken by the connection.
///
/// What has been taken may have been a password: [`release`](Self::release) overwrites all that was ever
/// read into the buffer since, before somebody else uses it.
pub struct ReadBuffer {
    octets: Box<[u8]>,
    start: usize,
    end: usize,
    /// How many octets the last poll took: they may still be looked at by its action.
    taken: usize,
    /// How far octets have been read since the last `release`.
    dirty: usize,
}

impl ReadBuffer {
    /// A buffer of so many octets.
    #[must_use]
    pub fn new(octets: usize) -> Self {
        Self { octets: alloc::vec![0; octets.max(1)].into(), start: 0, end: 0, taken: 0, dirty: 0 }
    }

    /// Polls `connection` with what has been read.
    pub fn poll<'c>(&'c mut self, connection: &'c mut impl Poll, now: Duration) -> Action<'c> {
        self.forget_taken();
        let mut input = self.octets.get(self.start..self.end).unwrap_or_default();
        let available = input.len();
        let action = connection.poll(now, &mut input);
        self.taken = available - input.len();
        action
    }

    /// How many octets it is for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.octets.len()
    }

    /// Whether the connection has taken all that was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end - self.start == self.taken
    }

    /// The room to read into. There is some whenever the connection needs input.
    pub fn room(&mut self) -> &mut [u8] {
        self.forget_taken();
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
        (self.start, self.end, self.taken, self.dirty) = (0, 0, 0, 0);
    }

    fn forget_taken(&mut self) {
        self.start = self.start.saturating_add(core::mem::take(&mut self.taken)).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        self.release();
    }
}

impl fmt::Debug for ReadBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadBuffer({} unread)", self.end - self.start - self.taken)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::mail_data::Piece;

    /// Takes so many octets a poll.
    struct Taking(usize);

    impl Poll for Taking {
        fn poll<'c, 'i: 'c>(&'c mut self, _: Duration, input: &mut &'i [u8]) -> Action<'c> {
            let (taken, rest) = input.split_at(self.0.min(input.len()));
            *input = rest;
            Action::Content(Piece::new(0, taken))
        }
    }

    fn next(buffer: &mut ReadBuffer, octets: usize) -> Vec<u8> {
        let mut taking = Taking(octets);
        let Action::Content(piece) = buffer.poll(&mut taking, Duration::ZERO) else { unreachable!() };
        piece.to_vec()
    }

    #[test]
    fn nothing_is_lost_or_seen_twice() {
        let mut buffer = ReadBuffer::new(8);
        buffer.room()[..6].copy_from_slice(b"abcdef");
        buffer.filled(6);
        assert_eq!(next(&mut buffer, 2), b"ab");
        assert!(!buffer.is_empty());
        assert_eq!(buffer.room().len(), 2);
        buffer.room().copy_from_slice(b"gh");
        buffer.filled(2);
        assert_eq!(next(&mut buffer, 5), b"cdefg");
        assert_eq!(next(&mut buffer, 5), b"h");
        assert!(buffer.is_empty());
        // All taken: there is room again, though no poll came in between.
        assert_eq!(buffer.room().len(), 8);
        assert_eq!(next(&mut buffer, 5), b"");
    }

    #[test]
    fn what_was_read_is_overwritten() {
        let mut buffer = ReadBuffer::new(8);
        buffer.room()[..6].copy_from_slice(b"secret");
        buffer.filled(6);
        assert_eq!(next(&mut buffer, 6), b"secret");
        assert_eq!(&buffer.room()[..6], b"secret");
        buffer.release();
        assert_eq!(buffer.room(), [0; 8]);
    }
}
