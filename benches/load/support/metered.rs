//! Reads that tell whether there is more to read.

use std::io::{self, Read};

/// A stream that remembers whether its last read got less than there was room for.
///
/// Then the socket is empty, and on edge-triggered epoll whatever comes later is another event: reading once more, only
/// to see that there is nothing, would be a system call for nothing.
pub(crate) struct Metered<'s, S> {
    stream: &'s mut S,
    pub(crate) drained: bool,
}

impl<'s, S> Metered<'s, S> {
    pub(crate) fn new(stream: &'s mut S) -> Self {
        Self { stream, drained: false }
    }
}

impl<S: Read> Read for Metered<'_, S> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let octets = self.stream.read(room)?;
        self.drained = octets < room.len();
        Ok(octets)
    }
}
