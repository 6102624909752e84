//! The end of mail data, looked for and nothing else.

use memchr::memmem::Finder;

/// What the content that has come so far ends in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content {
    tail: [u8; 4],
}

impl Content {
    /// At its beginning, where a line begins.
    pub(crate) fn begin() -> Self {
        Self { tail: *b"  \r\n" }
    }

    /// Takes more of it; how many of these octets are content, the end of mail data included, if they hold its end.
    pub(crate) fn take(&mut self, octets: &[u8], end: &Finder<'_>) -> Option<usize> {
        // The end may be cut in two: the last four octets, and the first four of these.
        let (mut seam, head) = ([0; 8], octets.get(..4).unwrap_or(octets));
        let length = self.tail.len() + head.len();
        for (place, octet) in seam.iter_mut().zip(self.tail.iter().chain(head)) {
            *place = *octet;
        }
        let seam = seam.get(..length).unwrap_or_default();
        if let Some(at) = end.find(seam) {
            return Some(at + END.len() - self.tail.len());
        }
        if let Some(at) = end.find(octets) {
            return Some(at + END.len());
        }
        let last = octets.last_chunk().or_else(|| seam.last_chunk());
        self.tail = *last.unwrap_or(&self.tail);
        None
    }
}

pub(crate) const END: &[u8] = b"\r\n.\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_however_it_is_cut() {
        let finder = Finder::new(END);
        for (octets, ends_at) in [
            (&b"a\r\n.\r\nQUIT\r\n"[..], Some(6)),
            (b".\r\nQUIT\r\n", Some(3)),
            (b"a\n.\r\n\r\n.\n\r\n..\r\n", None),
            (b"a\r\n.\r\r\n.\r\n", Some(10)),
        ] {
            for size in 1..=octets.len() {
                let (mut content, mut taken, mut found) = (Content::begin(), 0, None);
                for piece in octets.chunks(size) {
                    found = content.take(piece, &finder).map(|end| taken + end);
                    if found.is_some() {
                        break;
                    }
                    taken += piece.len();
                }
                assert_eq!(found, ends_at, "pieces of {size}");
            }
        }
    }
}
