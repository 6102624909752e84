//! Replies of the next hop (RFC 5321, section 4.2).

use std::fmt;

/// A whole reply, of one or more lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    /// The texts after the code, without line ends.
    pub(crate) lines: Vec<String>,
}

impl Reply {
    /// Adds a line to the reply that is being read, and says whether it was the last one.
    ///
    /// # Errors
    /// Where the line is not one of a reply, or not one of the same.
    pub(crate) fn push(reply: &mut Option<Self>, line: &[u8]) -> Result<bool, NotAReply> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (code, rest) = line.split_at_checked(3).ok_or(NotAReply)?;
        let code = code
            .iter()
            .try_fold(0, |code, digit| digit.is_ascii_digit().then(|| code * 10 + u16::from(digit - b'0')))
            .filter(|code| (200..600).contains(code))
            .ok_or(NotAReply)?;
        let (last, text) = match rest.split_first() {
            None => (true, &[][..]),
            Some((b' ', text)) => (true, text),
            Some((b'-', text)) => (false, text),
            Some(_) => return Err(NotAReply),
        };
        // It is kept for each recipient.
        let kept: usize = reply.iter().flat_map(|reply| &reply.lines).map(String::len).sum();
        let text = text.get(..MAX_TEXT_OCTETS.saturating_sub(kept)).unwrap_or(text);
        // Replies go into logs and reports, where a control character has no business.
        let text = String::from_utf8_lossy(text).replace(char::is_control, "?");
        match reply {
            None => *reply = Some(Self { code, lines: vec![text] }),
            Some(reply) if reply.code == code && reply.lines.len() < MAX_LINES => reply.lines.push(text),
            Some(_) => return Err(NotAReply),
        }
        Ok(last)
    }

    /// Whether it is a success, and not one that asks for more (RFC 5321, section 4.2.1).
    pub(crate) fn is_positive(&self) -> bool {
        (200..300).contains(&self.code)
    }

    pub(crate) fn is_negative(&self) -> bool {
        self.code >= 400
    }

    /// Whether no command should follow it: the server leaves, or it says what does not belong there, and what does may
    /// come later.
    pub(crate) fn ends_session(&self) -> bool {
        self.is_closing() || !(self.is_positive() || self.is_negative())
    }

    /// Whether trying again is pointless.
    pub(crate) fn is_permanent(&self) -> bool {
        self.code >= 500
    }

    /// Whether the server ends the session with it (RFC 5321, section 3.8).
    pub(crate) fn is_closing(&self) -> bool {
        self.code == 421
    }

    /// Whether it refuses for now, for a reason of policy: too much mail, or a sender that it does not know yet.
    pub(crate) fn is_about_policy(&self) -> bool {
        self.code == 450 && self.enhanced_status().is_some_and(|status| status.starts_with("4.7."))
    }

    /// The enhanced status code (RFC 2034), if there is one that agrees with the reply code.
    pub(crate) fn enhanced_status(&self) -> Option<&str> {
        let word = self.lines.first()?.split(' ').next()?;
        let mut parts = word.split('.');
        let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
        let number = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        let agrees = class.parse() == Ok(self.code / 100);
        (parts.next().is_none() && agrees && number(subject) && number(detail)).then_some(word)
    }
}

/// The reply in one line, which is not endless.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.lines.join(" / ");
        match text.char_indices().nth(MAX_TOLD_CHARACTERS) {
            Some((end, _)) => write!(f, "{} {}...", self.code, text.get(..end).unwrap_or_default()),
            None => write!(f, "{} {text}", self.code),
        }
    }
}

/// What came is not a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotAReply;

/// More than any server's EHLO reply has.
const MAX_LINES: usize = 200;
/// Of all lines. More is read, and not kept.
const MAX_TEXT_OCTETS: usize = 8 * 1024;
/// As much as a log and a report have room for.
const MAX_TOLD_CHARACTERS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Reply>, NotAReply> {
        let mut reply = None;
        for line in text.split_inclusive('\n') {
            if Reply::push(&mut reply, line.as_bytes())? {
                return Ok(reply);
            }
        }
        Ok(None)
    }

    #[test]
    fn one_line_and_several() {
        let reply = read("550 5.1.1 no such user\r\n").unwrap().unwrap();
        assert_eq!((reply.to_string().as_str(), reply.enhanced_status()), ("550 5.1.1 no such user", Some("5.1.1")));
        let reply = read("250-mx\r\n250-SIZE\r\n250 OK\r\n").unwrap().unwrap();
        assert_eq!(reply.to_string(), "250 mx / SIZE / OK");
        assert_eq!(reply.enhanced_status(), None);
        assert_eq!(read("250-mx\r\n").unwrap(), None);
        assert_eq!(read("250\n").unwrap().unwrap().lines, [""]);
    }

    #[test]
    fn status_codes_that_do_not_agree_are_ignored() {
        for text in ["550 4.1.1 x", "550 5.1 x", "550 5.1.1.1 x", "550 5.x.1 x", "550 5.1111.1 x", "550"] {
            assert_eq!(read(text).unwrap().unwrap().enhanced_status(), None, "{text}");
        }
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let line = "\u{e9}".repeat(2000);
        let text: String = (0..199).map(|_| format!("550-{line}\r\n")).collect();
        let reply = read(&format!("{text}550 end\r\n")).unwrap().unwrap();
        assert!(reply.lines.iter().map(String::len).sum::<usize>() <= MAX_TEXT_OCTETS, "{reply:?}");
        assert_eq!((reply.code, reply.lines.len()), (550, 200));
        assert_eq!(reply.to_string(), format!("550 {}...", "\u{e9}".repeat(1000)));
        let short = read(&format!("550 {}\r\n", "x".repeat(1000))).unwrap().unwrap();
        assert_eq!(short.to_string(), format!("550 {}", "x".repeat(1000)));
    }

    #[test]
    fn what_is_not_a_reply_is_refused() {
        for text in ["", "25", "2x0 ok", "250ok", "999 x", "100 x", "250-a\r\n251 b\r\n", "HTTP/1.1 400 Bad Request"] {
            assert!(read(text).is_err() || text.is_empty(), "{text}");
        }
        assert_eq!(read("250 a\tb\x1b[0m\r\n").unwrap().unwrap().lines, ["a?b?[0m"]);
    }
}
