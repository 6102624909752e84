//! Where TLS records end (RFC 8446, section 5.1).

/// How far into a record the ciphertext has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Records {
    /// How much of the record's header has come.
    header: usize,
    /// The two octets of the header that say how long the rest is.
    length: [u8; 2],
    /// How much of the rest is still to come, once the header has.
    left: usize,
}

impl Records {
    /// Goes to the end of the present record, or of `octets`. How many octets that is.
    pub(super) fn pass_one(&mut self, octets: &[u8]) -> usize {
        let mut passed = 0;
        for octet in octets.iter().take(HEADER_OCTETS - self.header.min(HEADER_OCTETS)) {
            match self.header {
                3 => self.length = [*octet, 0],
                4 => self.left = usize::from(u16::from_be_bytes([self.length[0], *octet])),
                _ => {}
            }
            self.header += 1;
            passed += 1;
        }
        if self.header == HEADER_OCTETS {
            let rest = self.left.min(octets.len() - passed);
            self.left -= rest;
            passed += rest;
            if self.left == 0 {
                *self = Self::default();
            }
        }
        passed
    }

    /// Goes to the end of `octets`.
    pub(super) fn pass(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            let passed = self.pass_one(octets);
            octets = octets.get(passed..).unwrap_or_default();
        }
    }
}

const HEADER_OCTETS: usize = 5;

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn records_end_where_their_headers_say() {
        let stream = [&b"\x16\x03\x01\x00\x03abc"[..], b"\x17\x03\x03\x00\x00", b"\x17\x03\x03\x01\x00", &[b'x'; 256]];
        let stream = stream.concat();
        for cut in 1..stream.len() {
            let (mut records, mut ends, mut at) = (Records::default(), Vec::new(), 0);
            for mut piece in stream.chunks(cut) {
                while !piece.is_empty() {
                    let passed = records.pass_one(piece);
                    assert!(passed > 0);
                    at += passed;
                    piece = &piece[passed..];
                    if records.header == 0 {
                        ends.push(at);
                    }
                }
            }
            assert_eq!(ends, [8, 13, stream.len()]);
            let mut records = Records::default();
            records.pass(&stream[..stream.len() - cut]);
            assert_eq!(records.pass_one(&stream[stream.len() - cut..]) < cut, cut > 261);
        }
    }
}
