//! Quoted-printable and base64 (RFC 2045, sections 6.7 and 6.8), piece by piece.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Coding;

/// Encodes the content of a part.
#[derive(Debug)]
pub(super) enum Encoder {
    QuotedPrintable(QuotedPrintable),
    Mended(Mended),
    Base64(Base64),
    Broken { column: usize },
}

impl Encoder {
    pub(super) fn new(coding: Coding) -> Self {
        match coding {
            Coding::QuotedPrintable => Self::QuotedPrintable(QuotedPrintable::default()),
            Coding::MendedQuotedPrintable => Self::Mended(Mended::default()),
            Coding::Base64 => Self::Base64(Base64::default()),
            Coding::BrokenBase64 => Self::Broken { column: 0 },
        }
    }

    /// Adds to `out` what is certain of the next piece.
    pub(super) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::QuotedPrintable(encoder) => piece.iter().for_each(|octet| encoder.push(*octet, out)),
            Self::Mended(encoder) => piece.iter().for_each(|octet| encoder.push(*octet, out)),
            Self::Base64(encoder) => encoder.push(piece, out),
            Self::Broken { column } => piece.iter().for_each(|octet| break_line(column, *octet, out)),
        }
    }

    /// Adds to `out` what is left. There is no line end behind the last line but that of the text itself.
    pub(super) fn finish(self, out: &mut Vec<u8>) {
        match self {
            Self::QuotedPrintable(mut encoder) => encoder.release(None, out),
            Self::Mended(_) | Self::Broken { .. } => {}
            Self::Base64(encoder) => encoder.finish(out),
        }
    }
}

/// Makes quoted-printable of text: its line ends stay line ends.
#[derive(Debug, Default)]
pub(super) struct QuotedPrintable {
    line: Line,
    /// A blank or a CR, of which the next octet says how it is to be written.
    held: Option<u8>,
}

impl QuotedPrintable {
    fn push(&mut self, octet: u8, out: &mut Vec<u8>) {
        if octet == b'\n' && self.held == Some(b'\r') {
            self.held = None;
            self.line.end(out);
            return;
        }
        self.release(Some(octet), out);
        match octet {
            b' ' | b'\t' | b'\r' => self.held = Some(octet),
            b'=' | ..=b' ' | 127.. => self.line.escaped(octet, out),
            b'!'..=b'~' => self.line.literal(octet, out),
        }
    }

    /// Writes what was held: a blank in front of a line end would be lost on the way.
    fn release(&mut self, next: Option<u8>, out: &mut Vec<u8>) {
        match self.held.take() {
            Some(blank @ (b' ' | b'\t')) if !matches!(next, None | Some(b'\r')) => self.line.literal(blank, out),
            Some(octet) => self.line.escaped(octet, out),
            None => {}
        }
    }
}

/// Makes quoted-printable of what should be that: breaks its lines where that changes nothing, and escapes octets that
/// should be.
#[derive(Debug, Default)]
pub(super) struct Mended {
    line: Line,
    /// How many octets of an escape are to come.
    escape: u8,
}

impl Mended {
    fn push(&mut self, octet: u8, out: &mut Vec<u8>) {
        match octet {
            b'\r' | b'\n' => {
                out.push(octet);
                *self = Self::default();
            }
            b'=' if self.escape == 0 => {
                self.line.reserve(3, out);
                self.line.put(b"=", out);
                self.escape = 2;
            }
            // It has room already.
            _ if self.escape > 0 => {
                self.line.put(&[octet], out);
                self.escape -= 1;
            }
            b'\t' | b' '..=b'~' => self.line.literal(octet, out),
            _ => self.line.escaped(octet, out),
        }
    }
}

/// A line of quoted-printable: 76 octets at most.
#[derive(Debug, Default)]
struct Line {
    column: usize,
}

impl Line {
    fn literal(&mut self, octet: u8, out: &mut Vec<u8>) {
        self.reserve(1, out);
        // Where a line was broken, there must be no boundary; and there are servers that drop dots.
        if self.column == 0 && matches!(octet, b'-' | b'.') {
            self.escaped(octet, out);
        } else {
            self.put(&[octet], out);
        }
    }

    fn escaped(&mut self, octet: u8, out: &mut Vec<u8>) {
        self.reserve(3, out);
        let digit = |value: u8| HEX.get(usize::from(value)).copied().unwrap_or_default();
        self.put(&[b'=', digit(octet >> 4), digit(octet & 15)], out);
    }

    /// Breaks the line where it has no room for so many octets and for the mark of a break.
    fn reserve(&mut self, octets: usize, out: &mut Vec<u8>) {
        if self.column + octets >= MAX_ENCODED_OCTETS {
            out.extend_from_slice(b"=\r\n");
            self.column = 0;
        }
    }

    fn put(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(octets);
        self.column += octets.len();
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n");
        self.column = 0;
    }
}

/// Makes base64 of anything.
#[derive(Debug, Default)]
pub(super) struct Base64 {
    /// What is to come in the next line.
    held: Vec<u8>,
    has_lines: bool,
}

impl Base64 {
    fn push(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        while !piece.is_empty() {
            if self.held.len() == LINE_OCTETS {
                self.line(out);
            }
            let (part, rest) = piece.split_at_checked(LINE_OCTETS - self.held.len()).unwrap_or((piece, &[]));
            self.held.extend_from_slice(part);
            piece = rest;
        }
    }

    fn line(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.has_lines, true) {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(STANDARD.encode(&self.held).as_bytes());
        self.held.clear();
    }

    fn finish(mut self, out: &mut Vec<u8>) {
        if !self.held.is_empty() {
            self.line(out);
        }
    }
}

/// Passes base64 on, in lines of the usual length.
fn break_line(column: &mut usize, octet: u8, out: &mut Vec<u8>) {
    match octet {
        b'\r' | b'\n' => *column = 0,
        _ if *column == MAX_ENCODED_OCTETS => {
            out.extend_from_slice(b"\r\n");
            *column = 1;
        }
        _ => *column += 1,
    }
    out.push(octet);
}

const MAX_ENCODED_OCTETS: usize = 76;
/// What makes a line of that length in base64.
const LINE_OCTETS: usize = 57;
const HEX: &[u8; 16] = b"0123456789ABCDEF";

#[cfg(test)]
mod tests {
    use super::*;

    /// However the text is cut into pieces.
    fn encoded(coding: Coding, text: &[u8]) -> String {
        let encode = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let (mut encoder, mut out) = (Encoder::new(coding), Vec::new());
            pieces.for_each(|piece| encoder.push(piece, &mut out));
            encoder.finish(&mut out);
            String::from_utf8(out).unwrap()
        };
        let whole = encode(&mut std::iter::once(text));
        for size in 1..60 {
            assert_eq!(encode(&mut text.chunks(size)), whole, "{size}");
        }
        assert!(whole.split("\r\n").all(|line| line.len() <= MAX_ENCODED_OCTETS), "{whole}");
        whole
    }

    #[test]
    fn quoted_printable_keeps_what_it_can() {
        for (text, expected) in [
            ("", ""),
            ("Grüße\r\n", "Gr=C3=BC=C3=9Fe\r\n"),
            ("a = b", "a =3D b"),
            ("blank \r\ntab\t\r\n \r\n\r\nend ", "blank=20\r\ntab=09\r\n=20\r\n\r\nend=20"),
            ("a  b\tc", "a  b\tc"),
            (".\r\n--x\r\na.-", "=2E\r\n=2D-x\r\na.-"),
            ("a\rb\r\r\n", "a=0Db=0D\r\n"),
            ("\0\u{7f}", "=00=7F"),
        ] {
            assert_eq!(encoded(Coding::QuotedPrintable, text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn lines_are_broken_where_a_break_is_no_line_end() {
        let x = |count| "x".repeat(count);
        assert_eq!(encoded(Coding::QuotedPrintable, x(75).as_bytes()), x(75));
        assert_eq!(encoded(Coding::QuotedPrintable, x(76).as_bytes()), format!("{}=\r\nx", x(75)));
        let text = format!("{}--boundary", x(75));
        assert_eq!(encoded(Coding::QuotedPrintable, text.as_bytes()), format!("{}=\r\n=2D-boundary", x(75)));
        assert_eq!(encoded(Coding::QuotedPrintable, format!("{}é", x(73)).as_bytes()), format!("{}=\r\n=C3=A9", x(73)));
        assert_eq!(
            encoded(Coding::QuotedPrintable, format!("{} \r\n", x(75)).as_bytes()),
            format!("{}=\r\n=20\r\n", x(75))
        );

        let mended = |text: &str| encoded(Coding::MendedQuotedPrintable, text.as_bytes());
        let legal = format!("a=C3=BC=\r\nb=20\r\n{}\r\n. -\r\n", x(75));
        assert_eq!(mended(&legal[..legal.len() - 5]), &legal[..legal.len() - 5]);
        assert_eq!(mended(&format!("{}=C3=BC", x(73))), format!("{}=\r\n=C3=BC", x(73)));
        assert_eq!(mended("ü=C3"), "=C3=BC=C3");
        assert_eq!(mended(&format!("{}--b", x(75))), format!("{}=\r\n=2D-b", x(75)));
    }

    #[test]
    fn base64_comes_in_lines() {
        for length in [0, 1, 2, 3, 56, 57, 58, 114, 200] {
            let octets: Vec<u8> = (0..length).collect();
            let text = encoded(Coding::Base64, &octets);
            assert_eq!(STANDARD.decode(text.replace("\r\n", "")).unwrap(), octets);
            assert!(!text.ends_with('\n'));
            let one_line = STANDARD.encode(&octets);
            assert_eq!(encoded(Coding::BrokenBase64, one_line.as_bytes()), text);
        }
        assert_eq!(encoded(Coding::BrokenBase64, b"YQ==\r\n\r\nYg==\r\n"), "YQ==\r\n\r\nYg==\r\n");
    }
}
