//! Replies, counted by their line ends and checked by their codes.

use std::fmt;

/// A reply's code.
pub(crate) type Code = [u8; 3];

/// Counts the replies to one step, as their octets come.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    counted: usize,
    /// A line whose end has not come.
    partial: Vec<u8>,
}

impl Replies {
    /// Takes octets of replies, of which those with `codes` are to come; whether they have all come.
    ///
    /// # Errors
    /// The line that is not what is to come. Nothing after it is looked at.
    pub(crate) fn take(&mut self, octets: &[u8], codes: &[Code]) -> Result<bool, Unexpected> {
        for line in octets.split_inclusive(|octet| *octet == b'\n') {
            if line.last() != Some(&b'\n') {
                self.partial.extend_from_slice(line);
            } else if self.partial.is_empty() {
                self.take_line(line, codes)?;
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                self.take_line(&whole, codes)?;
            }
        }
        let complete = self.counted == codes.len() && self.partial.is_empty();
        if complete {
            self.counted = 0;
        }
        Ok(complete)
    }

    fn take_line(&mut self, line: &[u8], codes: &[Code]) -> Result<(), Unexpected> {
        let expected = codes.get(self.counted);
        match (expected, line.split_at_checked(3)) {
            (Some(expected), Some((code, rest))) if code == expected => {
                if !rest.starts_with(b"-") {
                    self.counted += 1;
                }
                Ok(())
            }
            _ => Err(Unexpected { expected: expected.copied(), line: String::from_utf8_lossy(line).trim_end().into() }),
        }
    }
}

/// A reply that was not to come.
#[derive(Debug)]
pub(crate) struct Unexpected {
    expected: Option<Code>,
    line: String,
}

impl fmt::Display for Unexpected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.expected {
            Some(code) => write!(f, "instead of {} came {:?}", String::from_utf8_lossy(code), self.line),
            None => write!(f, "when nothing was to come came {:?}", self.line),
        }
    }
}

impl std::error::Error for Unexpected {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_of_several_lines_counts_once() {
        let mut replies = Replies::default();
        assert!(!replies.take(b"250-mx\r\n250-SIZE\r\n", &[*b"250"]).unwrap());
        assert!(replies.take(b"250 HELP\r\n", &[*b"250"]).unwrap());
    }

    #[test]
    fn replies_may_come_in_any_pieces() {
        let (octets, codes) = (b"250 a\r\n250-b\r\n250 c\r\n354 d\r\n", [*b"250", *b"250", *b"354"]);
        for size in 1..=octets.len() {
            let mut replies = Replies::default();
            let complete: Vec<bool> = octets.chunks(size).map(|piece| replies.take(piece, &codes).unwrap()).collect();
            let (last, before) = complete.split_last().unwrap();
            assert!(*last, "pieces of {size}");
            assert!(!before.contains(&true), "pieces of {size}");
        }
    }

    #[test]
    fn the_count_starts_anew_with_each_step() {
        let mut replies = Replies::default();
        assert!(replies.take(b"250 a\r\n", &[*b"250"]).unwrap());
        assert!(!replies.take(b"250 a\r\n", &[*b"250", *b"354"]).unwrap());
        assert!(replies.take(b"354 b\r\n", &[*b"250", *b"354"]).unwrap());
    }

    #[test]
    fn another_code_is_an_error_in_each_line() {
        for octets in [&b"550 no\r\n"[..], b"250-a\r\n550 no\r\n", b"25\r\n", b"\r\n"] {
            assert!(Replies::default().take(octets, &[*b"250"]).is_err());
        }
        let error = Replies::default().take(b"454 4.7.0 later\r\n", &[*b"235"]).unwrap_err();
        assert_eq!(error.to_string(), "instead of 235 came \"454 4.7.0 later\"");
    }

    #[test]
    fn one_reply_too_many_is_an_error() {
        assert!(Replies::default().take(b"250 a\r\n250 b\r\n", &[*b"250"]).is_err());
    }
}
