//! Lines out of what is read.

use std::time::Instant;

use zeroize::Zeroizing;

use super::error::Error;
use super::line::MAX_LINE_OCTETS;
use super::stream::Stream;

/// Lines of a stream. What is held is zeroized, as fields of replies may be secret.
pub(super) struct Lines {
    buffer: Zeroizing<Vec<u8>>,
    /// What has been read, and not been given out.
    start: usize,
    end: usize,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self { buffer: Zeroizing::new(vec![0; MAX_LINE_OCTETS]), start: 0, end: 0 }
    }

    /// Waits for the next line, until `deadline` if there is one, and gives it without its end.
    pub(super) fn next(&mut self, stream: &Stream, deadline: Option<Instant>) -> Result<&[u8], Error> {
        loop {
            let held = self.buffer.get(self.start..self.end).unwrap_or_default();
            if let Some(length) = held.iter().position(|&octet| octet == b'\n') {
                let line = self.start..self.start + length;
                self.start = line.end + 1;
                return Ok(self.buffer.get(line).unwrap_or_default());
            }
            self.read(stream, deadline)?;
        }
    }

    fn read(&mut self, stream: &Stream, deadline: Option<Instant>) -> Result<(), Error> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        if room.is_empty() {
            return Err(Error::Protocol("it sends too long a line"));
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(Error::TimedOut);
        }
        stream.set_read_timeout(left)?;
        match stream.read(room) {
            Ok(0) => Err(Error::Closed),
            Ok(length) => {
                self.end += length;
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_come_whole_however_they_are_split_and_too_long_ones_not_at_all() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let ours = Stream::Unix(ours);
        let mut lines = Lines::new();
        let longest = vec![b'x'; MAX_LINE_OCTETS - 1];
        let writing = std::thread::spawn({
            let longest = longest.clone();
            move || {
                for piece in [&b"OK\t1"[..], b"\tuser=a\nFA", b"IL\t2\n\n", &longest, b"\n", &longest, b"xx\n"] {
                    theirs.write_all(piece).unwrap();
                }
            }
        });
        for expected in [&b"OK\t1\tuser=a"[..], b"FAIL\t2", b"", &longest] {
            assert_eq!(lines.next(&ours, None).unwrap(), expected);
        }
        assert!(matches!(lines.next(&ours, None), Err(Error::Protocol(_))));
        drop(ours);
        // The end of its last line has nobody to read it.
        let _ = writing.join();
    }

    #[test]
    fn the_end_and_the_deadline_are_told_apart() {
        let (theirs, ours) = UnixStream::pair().unwrap();
        let ours = Stream::Unix(ours);
        let mut lines = Lines::new();
        let soon = Some(Instant::now() + Duration::from_millis(1));
        assert!(matches!(lines.next(&ours, soon), Err(Error::TimedOut)));
        assert!(matches!(lines.next(&ours, soon), Err(Error::TimedOut)), "passed already");
        drop(theirs);
        assert!(matches!(lines.next(&ours, None), Err(Error::Closed)));
    }
}
