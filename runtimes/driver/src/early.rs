//! What is read before there is a buffer for it.

use std::fmt;
use std::io;

use zeroize::Zeroize;

use crate::buffers::READ_OCTETS;
use crate::out::is_nothing_yet;

/// Room for a few commands on the stack of a thread that waits for them: so the connection needs no [read
/// buffer](crate::Conversation::read) before they have come, and the thread reads them by the call that waits.
///
/// There may be a password among them: what was read is overwritten when it is dropped.
pub struct Early {
    octets: [u8; EARLY_OCTETS],
    result: Option<io::Result<usize>>,
    used: usize,
}

impl Default for Early {
    fn default() -> Self {
        Self { octets: [0; EARLY_OCTETS], result: None, used: 0 }
    }
}

impl Early {
    /// Lets `read` read, once, unless there was nothing to read. Whether there was, if only an end or an error.
    pub(crate) fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> bool {
        let result = read(&mut self.octets);
        let nothing = |error: &io::Error| is_nothing_yet(error) || error.kind() == io::ErrorKind::Interrupted;
        if result.as_ref().is_err_and(nothing) {
            return false;
        }
        self.used = result.as_ref().map_or(0, |octets| *octets);
        self.result = Some(result);
        true
    }

    /// Moves what was read to a read buffer's `room`, and says what reading it would have said. `None` if that is
    /// still to be done.
    pub fn take(&mut self, room: &mut [u8]) -> Option<io::Result<usize>> {
        Some(self.result.take()?.and_then(|octets| {
            let (read, room) =
                self.octets.get(..octets).zip(room.get_mut(..octets)).ok_or(io::ErrorKind::InvalidInput)?;
            room.copy_from_slice(read);
            Ok(octets)
        }))
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        if let Some(used) = self.octets.get_mut(..self.used) {
            used.zeroize();
        }
    }
}

impl fmt::Debug for Early {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Early({} octets)", self.used)
    }
}

/// A group of commands (RFC 2920), or the longest line without AUTH. It must not take more of a thread's stack than
/// has been in use before.
const EARLY_OCTETS: usize = 1024;

const _: () = assert!(EARLY_OCTETS <= READ_OCTETS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_early_is_read_once() {
        let (mut early, mut room) = (Early::default(), [0; READ_OCTETS]);
        assert!(early.take(&mut room).is_none());
        assert!(early.fill(|room| {
            room[..6].copy_from_slice(b"secret");
            Ok(6)
        }));
        assert_eq!(early.take(&mut room).unwrap().unwrap(), 6);
        assert_eq!(room[..7], *b"secret\0");
        assert!(early.take(&mut room).is_none());
        assert_eq!(format!("{early:?}"), "Early(6 octets)");
    }

    #[test]
    fn an_end_and_an_error_are_something() {
        let mut early = Early::default();
        for nothing in [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut, io::ErrorKind::Interrupted] {
            assert!(!early.fill(|_| Err(nothing.into())));
            assert!(early.take(&mut []).is_none());
        }
        assert!(early.fill(|_| Ok(0)));
        assert_eq!(early.take(&mut []).unwrap().unwrap(), 0);
        assert!(early.fill(|_| Err(io::ErrorKind::ConnectionReset.into())));
        assert_eq!(early.take(&mut []).unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
