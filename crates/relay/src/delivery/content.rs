//! A message's content on its way out.

use std::io::{self, BufRead, BufReader, Read};

/// What the header section says about how the message may travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    /// How many servers the message has passed.
    pub(crate) received: usize,
    /// Whether there is UTF-8 in it, which only a next hop with SMTPUTF8 may get (RFC 6531, section 3.4).
    pub(crate) is_ascii: bool,
}

impl Header {
    /// Reads the header section.
    ///
    /// # Errors
    /// Where the content cannot be read.
    pub(crate) fn read(content: impl Read) -> io::Result<Self> {
        let mut header = Self { received: 0, is_ascii: true };
        read_header_section(content, |line| {
            header.is_ascii &= line.is_ascii();
            let name = line.get(..RECEIVED.len()).unwrap_or_default();
            header.received += usize::from(name.eq_ignore_ascii_case(RECEIVED));
        })?;
        Ok(header)
    }
}

/// Gives the lines of the header section, with their ends, to `take`; the empty line after it is not one of them.
///
/// # Errors
/// Where the content cannot be read.
pub(crate) fn read_header_section(content: impl Read, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    // A message need not have a body, or any line end.
    let mut content = BufReader::new(content.take(MAX_HEADER_OCTETS));
    let mut line = Vec::new();
    while content.read_until(b'\n', &mut line)? > 0 && !matches!(&line[..], b"\r\n" | b"\n") {
        take(&line);
        line.clear();
    }
    Ok(())
}

/// Encodes mail data: doubles the dot at the start of a line (RFC 5321, section 4.5.2).
#[derive(Debug)]
pub(crate) struct Stuffing {
    at: At,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    LineStart,
    Middle,
    AfterCr,
}

impl Stuffing {
    pub(crate) fn new() -> Self {
        Self { at: At::LineStart }
    }

    /// Adds a piece of content to `out`.
    ///
    /// # Errors
    /// At a CR or an LF without the other: where we see text, a next hop that is lenient with line ends might see
    /// the end of the message and a new command (SMTP smuggling, CVE-2023-51764 and its siblings).
    pub(crate) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), BareLineEnd> {
        out.reserve(piece.len() + piece.len() / 32);
        for &octet in piece {
            self.at = match (self.at, octet) {
                (At::AfterCr, b'\n') => At::LineStart,
                (At::AfterCr, _) | (_, b'\n') => return Err(BareLineEnd),
                (_, b'\r') => At::AfterCr,
                (At::LineStart, b'.') => {
                    out.push(b'.');
                    At::Middle
                }
                (At::LineStart | At::Middle, _) => At::Middle,
            };
            out.push(octet);
        }
        Ok(())
    }

    /// Adds the end of mail data, completing the last line if it needs that.
    ///
    /// # Errors
    /// As [`Stuffing::push`], for a CR at the very end.
    pub(crate) fn finish(self, out: &mut Vec<u8>) -> Result<(), BareLineEnd> {
        match self.at {
            At::LineStart => out.extend_from_slice(b".\r\n"),
            At::Middle => out.extend_from_slice(b"\r\n.\r\n"),
            At::AfterCr => return Err(BareLineEnd),
        }
        Ok(())
    }
}

/// There is a CR or an LF without the other in the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BareLineEnd;

const RECEIVED: &[u8] = b"received:";
/// Where a message is all header, the rest is not worth reading.
const MAX_HEADER_OCTETS: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn stuffed(pieces: &[&[u8]]) -> Result<Vec<u8>, BareLineEnd> {
        let mut stuffing = Stuffing::new();
        let mut out = Vec::new();
        for piece in pieces {
            stuffing.push(piece, &mut out)?;
        }
        stuffing.finish(&mut out)?;
        Ok(out)
    }

    #[test]
    fn only_dots_at_line_starts_are_doubled() {
        for (content, expected) in [
            ("", ".\r\n"),
            (".", "..\r\n.\r\n"),
            (".\r\n", "..\r\n.\r\n"),
            ("a.b\r\n..\r\n", "a.b\r\n...\r\n.\r\n"),
            ("a\r\n.\r\nQUIT\r\n", "a\r\n..\r\nQUIT\r\n.\r\n"),
            ("\r\n\r\n", "\r\n\r\n.\r\n"),
            ("no end", "no end\r\n.\r\n"),
        ] {
            assert_eq!(stuffed(&[content.as_bytes()]).unwrap(), expected.as_bytes(), "{content:?}");
            let octets: Vec<_> = content.as_bytes().chunks(1).collect();
            assert_eq!(stuffed(&octets).unwrap(), expected.as_bytes(), "{content:?}, octet by octet");
        }
    }

    #[test]
    fn bare_line_ends_are_never_sent() {
        for content in ["a\n.\r\n", "a\r.\r\n", "\n", "a\r", "\r\r\n", "a\r\n\n"] {
            assert_eq!(stuffed(&[content.as_bytes()]), Err(BareLineEnd), "{content:?}");
        }
    }

    #[test]
    fn the_header_section_ends_at_the_empty_line() {
        let content = "Received: a\r\n\tReceived: no\r\nRECEIVED: b\r\nSubject: x\r\n\r\nReceived: body é\r\n";
        assert_eq!(Header::read(content.as_bytes()).unwrap(), Header { received: 2, is_ascii: true });
        assert!(!Header::read("Subject: é".as_bytes()).unwrap().is_ascii);
        assert_eq!(Header::read(&b""[..]).unwrap(), Header { received: 0, is_ascii: true });
    }
}
