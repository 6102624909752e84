//! What is to be written.

use std::fmt;
use std::io;

/// Octets on their way to the peer.
#[derive(Default)]
pub struct Out {
    octets: Vec<u8>,
    written: usize,
}

impl Out {
    pub(crate) fn append(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
    }

    /// Writes what there is by `write`. `false` if it could not take all yet (`WouldBlock`, or `TimedOut`):
    /// it is time to wait, and to call again.
    ///
    /// # Errors
    ///
    /// Those of `write`.
    pub fn write(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<bool> {
        while let Some(rest) = self.octets.get(self.written..).filter(|rest| !rest.is_empty()) {
            match write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(octets) => self.written += octets,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_nothing_yet(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.clear();
        self.octets.shrink_to(KEPT_OCTETS);
        Ok(true)
    }

    pub(crate) fn clear(&mut self) {
        self.written = 0;
        self.octets.clear();
    }
}

impl fmt::Debug for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A challenge may hold what only the client should see.
        write!(f, "Out({} octets)", self.octets.len() - self.written)
    }
}

/// Whether a read or a write failed only because nothing was ready, or its time was up.
#[must_use]
pub fn is_nothing_yet(error: &io::Error) -> bool {
    // What the end of a socket's timeout is called depends on the system.
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

const KEPT_OCTETS: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_written_is_written_next_time() {
        let mut out = Out::default();
        out.append(b"abc");
        let (mut wire, mut calls) = (Vec::<u8>::new(), 0);
        let mut write = |rest: &[u8]| {
            calls += 1;
            match calls {
                1 => Err(io::ErrorKind::Interrupted.into()),
                3 => Err(io::ErrorKind::WouldBlock.into()),
                _ => {
                    wire.extend(rest.iter().take(2));
                    Ok(rest.len().min(2))
                }
            }
        };
        assert!(!out.write(&mut write).unwrap());
        assert!(out.write(&mut write).unwrap());
        assert!(out.write(&mut write).unwrap());
        assert_eq!(wire, b"abc");
        assert_eq!(out.write(|_| Ok(0)).ok(), Some(true));
        out.append(b"d");
        assert_eq!(out.write(|_| Ok(0)).unwrap_err().kind(), io::ErrorKind::WriteZero);
    }
}
