//! Read buffers of a loop: ten thousand connections that wait share a few.

use sansmtp::ReadBuffer;

/// Those that nobody has.
#[derive(Default)]
pub(crate) struct Buffers(Vec<ReadBuffer>);

impl Buffers {
    /// One to read into, if there is none with something unread.
    pub(crate) fn take(&mut self) -> ReadBuffer {
        self.0.pop().unwrap_or_else(|| ReadBuffer::new(8192))
    }

    /// The buffer, if something in it is unread. Otherwise somebody else may have it, overwritten.
    pub(crate) fn give_back(&mut self, mut buffer: ReadBuffer) -> Option<ReadBuffer> {
        if !buffer.is_empty() {
            return Some(buffer);
        }
        buffer.release();
        self.0.push(buffer);
        None
    }
}
