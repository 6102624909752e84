//! Lines of commands and SASL responses (RFC 5321, section 2.3.8: CRLF and nothing else ends one).

use memchr::memchr;

use crate::secret::Secret;

/// Cuts lines off the input. A line that lies whole in the input is not copied.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// The part of a line that earlier inputs brought. Any line may hold a password.
    partial: Secret,
    /// What to report when the CRLF that ends a refused line has come.
    discarding: Option<Discard>,
    /// The last octet thrown away was a CR.
    after_cr: bool,
}

/// What the framer found at the front of the input.
#[derive(Debug)]
pub(crate) enum Framed<'i> {
    /// A line, without its CRLF, in the input.
    Whole(&'i [u8]),
    /// A line, without its CRLF, that came in parts; the buffer goes back with [`Lines::put_back`].
    Parts(Secret),
    /// A line of more octets than its limit has ended.
    TooLong {
        /// It was an AUTH command.
        auth: bool,
    },
    /// A LF without CR: what comes before the next CRLF is thrown away.
    BareNewline,
    /// What came behind a bare newline has been thrown away, CRLF included.
    Skipped,
    /// Nothing more to take; the input is used up.
    Incomplete,
}

#[derive(Clone, Copy, Debug)]
enum Discard {
    TooLong {
        auth: bool,
    },
    /// Already reported, when it was found.
    Silently,
}

impl Lines {
    /// Takes the next line off `input`. `limit` tells from a line's beginning how many octets it may
    /// have, CRLF included; it must not change its mind once it has seen [`VERB_OCTETS`].
    pub(crate) fn next<'i>(&mut self, input: &mut &'i [u8], limit: impl Fn(&[u8]) -> usize) -> Framed<'i> {
        if input.is_empty() {
            return Framed::Incomplete;
        }
        if let Some(discard) = self.discarding {
            if !self.skip_past_crlf(input) {
                return Framed::Incomplete;
            }
            self.discarding = None;
            return match discard {
                Discard::TooLong { auth } => Framed::TooLong { auth },
                Discard::Silently => Framed::Skipped,
            };
        }
        let available: &'i [u8] = input;
        let Some(newline) = memchr(b'\n', available) else {
            return self.keep_partial(input, limit);
        };
        let (line, rest) = available.split_at(newline);
        // `rest` begins with the LF that was found.
        *input = rest.get(1..).unwrap_or_default();

        let (limit, last) = if self.partial.len() == 0 {
            (limit(line), line.last())
        } else {
            (self.limit_with(line, limit), line.last().or(self.partial.expose_secret().last()))
        };
        let ended_by_crlf = last == Some(&b'\r');
        if self.partial.len() + line.len() + 1 > limit {
            let auth = is_auth(self.beginning(line).as_slice());
            self.partial.clear_and_shrink(KEPT_OCTETS);
            if ended_by_crlf {
                return Framed::TooLong { auth };
            }
            self.after_cr = false;
            if self.skip_past_crlf(input) {
                return Framed::TooLong { auth };
            }
            self.discarding = Some(Discard::TooLong { auth });
            return Framed::Incomplete;
        }
        if !ended_by_crlf {
            self.partial.clear_and_shrink(KEPT_OCTETS);
            self.discarding = Some(Discard::Silently);
            self.after_cr = false;
            return Framed::BareNewline;
        }
        if self.partial.len() == 0 {
            return Framed::Whole(line.get(..line.len() - 1).unwrap_or_default());
        }
        self.partial.extend(line);
        self.partial.truncate(self.partial.len() - 1);
        Framed::Parts(core::mem::take(&mut self.partial))
    }

    /// Returns the buffer of [`Framed::Parts`], so that its allocation serves the next line.
    pub(crate) fn put_back(&mut self, mut line: Secret) {
        line.clear_and_shrink(KEPT_OCTETS);
        self.partial = line;
    }

    /// The first octet of the line that comes next, if it has come.
    pub(crate) fn first_octet(&self, input: &[u8]) -> Option<u8> {
        if self.discarding.is_some() {
            return None;
        }
        self.partial.expose_secret().first().or(input.first()).copied()
    }

    /// Forgets a line that has begun (RFC 3207, section 4.2: nothing crosses the upgrade).
    pub(crate) fn reset(&mut self) {
        self.partial.clear_and_shrink(0);
        self.discarding = None;
        self.after_cr = false;
    }

    fn keep_partial<'i>(&mut self, input: &mut &'i [u8], limit: impl Fn(&[u8]) -> usize) -> Framed<'i> {
        let limit = self.limit_with(input, limit);
        if self.partial.len() + input.len() > limit {
            // The line is refused whatever comes: only remember how it ends.
            let auth = is_auth(self.beginning(input).as_slice());
            self.after_cr = input.last() == Some(&b'\r');
            self.discarding = Some(Discard::TooLong { auth });
            self.partial.clear_and_shrink(KEPT_OCTETS);
        } else {
            self.partial.extend(input);
        }
        *input = &[];
        Framed::Incomplete
    }

    /// Throws octets away up to and including the next CRLF; says whether it came.
    fn skip_past_crlf(&mut self, input: &mut &[u8]) -> bool {
        while let Some(newline) = memchr(b'\n', input) {
            let crlf = match newline.checked_sub(1) {
                Some(before) => input.get(before) == Some(&b'\r'),
                None => self.after_cr,
            };
            *input = input.get(newline + 1..).unwrap_or_default();
            self.after_cr = false;
            if crlf {
                return true;
            }
        }
        if let Some(last) = input.last() {
            self.after_cr = *last == b'\r';
        }
        *input = &[];
        false
    }

    fn limit_with(&self, line: &[u8], limit: impl Fn(&[u8]) -> usize) -> usize {
        limit(self.beginning(line).as_slice())
    }

    /// The beginning of the line that `partial` and `line` make together.
    fn beginning(&self, line: &[u8]) -> Beginning {
        let mut beginning = Beginning::default();
        for (to, from) in beginning.octets.iter_mut().zip(self.partial.expose_secret().iter().chain(line)) {
            *to = *from;
            beginning.length += 1;
        }
        beginning
    }
}

#[derive(Default)]
struct Beginning {
    octets: [u8; VERB_OCTETS],
    length: usize,
}

impl Beginning {
    fn as_slice(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }
}

/// Whether a line that begins so is an AUTH command, whose limit is that of SASL responses.
pub(crate) fn is_auth(beginning: &[u8]) -> bool {
    beginning.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH"))
        && matches!(beginning.get(4), None | Some(b' ' | b'\t' | b'\r'))
}

/// How much of a line tells its verb: the longest verb that has a limit of its own, and a space.
pub(crate) const VERB_OCTETS: usize = 5;

/// A partial line's buffer is kept for the next one up to this size.
const KEPT_OCTETS: usize = 128;

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::*;

    fn frames(input: &[u8], cut: usize) -> Vec<String> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for mut piece in input.chunks(cut) {
            loop {
                match lines.next(&mut piece, |start| if is_auth(start) { 40 } else { 10 }) {
                    Framed::Whole(line) => found.push(String::from_utf8_lossy(line).into_owned()),
                    Framed::Parts(line) => {
                        found.push(String::from_utf8_lossy(line.expose_secret()).into_owned());
                        lines.put_back(line);
                    }
                    Framed::TooLong { auth } => found.push(format!("too long, auth {auth}")),
                    Framed::BareNewline => found.push("bare".into()),
                    Framed::Skipped => {}
                    Framed::Incomplete => break,
                }
            }
        }
        found
    }

    #[test]
    fn only_crlf_ends_a_line() {
        for cut in 1..30 {
            assert_eq!(frames(b"NOOP\r\nA\nNOOP\r\nQUIT\r\n\r\n", cut), ["NOOP", "bare", "QUIT", ""]);
            assert_eq!(frames(b"A\rB\r\nC\r\r\n", cut), ["A\rB", "C\r"]);
        }
    }

    #[test]
    fn a_line_too_long_is_reported_once_and_at_its_end() {
        for cut in 1..60 {
            assert_eq!(frames(b"12345678\r\n123456789\r\nAB\r\n", cut), ["12345678", "too long, auth false", "AB"]);
            assert_eq!(frames(b"1234567890123\n\r456\r\r\nAB\r\n", cut), ["too long, auth false", "AB"]);
            assert_eq!(
                frames(b"AUTH 567890123\r\nauth 56789012345678901234567890123456789\r\nAB\r\n", cut),
                ["AUTH 567890123", "too long, auth true", "AB"]
            );
            assert_eq!(frames(b"AUTHX567890123\r\n", cut), ["too long, auth false"]);
        }
    }

    #[test]
    fn a_peer_that_never_ends_its_line_makes_nothing_grow() {
        let mut lines = Lines::default();
        for _ in 0..10_000 {
            let mut piece: &[u8] = b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
            assert!(matches!(lines.next(&mut piece, |_| 512), Framed::Incomplete));
            assert!(lines.partial.capacity() <= 1024);
        }
    }
}
