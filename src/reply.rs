//! Replies (RFC 5321, section 4.2) with their enhanced status codes (RFC 2034, RFC 3463).

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use crate::canned::Canned;

/// A reply that the embedder gives: code, enhanced status code, one or more lines of text.
///
/// It is checked when it is made, so that what reaches the peer is always a well-formed reply: no
/// line can be broken out of, no code can contradict its enhanced status code.
///
/// The text may be any UTF-8. RFC 6531, section 3.7.4 allows it beyond ASCII in two places only: to RCPT in
/// 251 and 551, when MAIL had the parameter SMTPUTF8, and to VRFY and EXPN with that parameter. In any
/// other reply the client gets `?` in place of each character beyond ASCII, and 250 and 550 in place of 251 and 551, whose
/// address it could not use. A command of the embedder's own is no exception.
///
/// ```
/// use sansmtp::Reply;
///
/// let reply: Reply = "550 5.7.1 We do not relay".parse()?;
/// assert_eq!(reply.code(), 550);
/// assert_eq!(reply.as_bytes(), b"550 5.7.1 We do not relay\r\n");
///
/// let two_lines = Reply::new(250, EnhancedCode::new(2, 0, 0)?, "Queued\nas 17")?;
/// assert_eq!(two_lines.as_bytes(), b"250-2.0.0 Queued\r\n250 2.0.0 as 17\r\n");
/// # use sansmtp::EnhancedCode;
/// # Ok::<(), sansmtp::InvalidReply>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Reply {
    /// As it goes over the wire.
    encoded: Cow<'static, str>,
}

impl Reply {
    /// Makes a reply. Each `\n` in `text` begins a further line of a multi-line reply.
    ///
    /// # Errors
    ///
    /// [`InvalidReply`] says what is wrong: a code outside 200–599, an enhanced status code of another
    /// class, a control character, or a line of more than 512 octets (RFC 5321, section 4.5.3.1.5).
    pub fn new(code: u16, enhanced: impl Into<Option<EnhancedCode>>, text: &str) -> Result<Self, InvalidReply> {
        let enhanced = enhanced.into();
        if !(200..600).contains(&code) {
            return Err(InvalidReply::Code);
        }
        if let Some(enhanced) = enhanced {
            if u16::from(enhanced.class) != code / 100 {
                return Err(InvalidReply::ClassesDiffer);
            }
        }
        let mut encoded = String::with_capacity(text.len() + 16);
        let mut lines = text.split('\n').peekable();
        while let Some(line) = lines.next() {
            // Tabs are the only control characters in a textstring (RFC 5321, section 4.2).
            if line.chars().any(|character| character != '\t' && character.is_control()) {
                return Err(InvalidReply::ControlCharacter);
            }
            // What begins like an enhanced status code, where there is none, will be taken for one.
            let word = line.split(' ').next().unwrap_or_default();
            if enhanced.is_none() && word.parse().is_ok_and(|found: EnhancedCode| u16::from(found.class) != code / 100)
            {
                return Err(InvalidReply::ClassesDiffer);
            }
            let start = encoded.len();
            let separator = if lines.peek().is_some() { '-' } else { ' ' };
            push(&mut encoded, format_args!("{code}{separator}"));
            if let Some(enhanced) = enhanced {
                push(&mut encoded, format_args!("{enhanced} "));
            }
            encoded.push_str(line);
            encoded.push_str("\r\n");
            if encoded.len() - start > MAX_REPLY_LINE_OCTETS {
                return Err(InvalidReply::LineTooLong);
            }
        }
        Ok(Self { encoded: encoded.into() })
    }

    /// What [`reply!`](crate::reply!) calls, at compile time.
    #[doc(hidden)]
    #[must_use]
    pub const fn from_static(encoded: &'static str) -> Self {
        let octets = encoded.as_bytes();
        assert!(octets.len() > 5 && octets.len() <= MAX_REPLY_LINE_OCTETS, "a reply has at most 512 octets");
        let [class @ b'2'..=b'5', b'0'..=b'9', b'0'..=b'9', b' ', rest @ ..] = octets else {
            panic!("a reply begins with a code from 200 to 599 and a space");
        };
        if let [digit @ b'0'..=b'9', b'.', b'0'..=b'9', ..] = rest {
            assert!(*digit == *class, "the enhanced status code is of another class than the reply code");
        }
        let mut text = rest;
        while let [octet, more @ ..] = text {
            assert!(
                !octet.is_ascii_control() || more.is_empty() || matches!(text, [b'\r', b'\n']),
                "the text of a reply holds no control characters"
            );
            text = more;
        }
        Self { encoded: Cow::Borrowed(encoded) }
    }

    /// The reply code, 200–599.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.view().code()
    }

    /// The enhanced status code, if the reply has one.
    #[must_use]
    pub fn enhanced_code(&self) -> Option<EnhancedCode> {
        self.view().enhanced_code()
    }

    /// Whether the reply is a positive completion or intermediate one (2xx, 3xx).
    #[must_use]
    pub fn is_positive(&self) -> bool {
        self.code() < 400
    }

    /// The reply as it goes over the wire, every line ended by CRLF.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.encoded.as_bytes()
    }

    /// Appends the reply for a client that takes no UTF-8 (RFC 6531, section 3.7.4.1). It is no longer than the reply.
    pub(crate) fn write_ascii(&self, out: &mut Vec<u8>) {
        if self.encoded.is_ascii() {
            return out.extend_from_slice(self.encoded.as_bytes());
        }
        for line in self.encoded.split_inclusive('\n') {
            let start = out.len();
            out.extend(line.chars().map(|character| u8::try_from(character).ok().filter(u8::is_ascii).unwrap_or(b'?')));
            // What is said to be another address would not be one.
            match out.get_mut(start..start + 3) {
                Some(code) if code == b"251" => code.copy_from_slice(b"250"),
                Some(code) if code == b"551" => code.copy_from_slice(b"550"),
                Some(_) | None => {}
            }
        }
    }

    pub(crate) fn view(&self) -> ReplyRef<'_> {
        ReplyRef::new(self.encoded.as_bytes())
    }
}

impl From<Canned> for Reply {
    fn from(Canned(encoded): Canned) -> Self {
        Self { encoded: encoded.into() }
    }
}

impl FromStr for Reply {
    type Err = InvalidReply;

    /// Reads `CODE [ENHANCED] TEXT`, the form in which replies are written in RFCs and handlers.
    ///
    /// A first word of three numbers with dots is the enhanced status code.
    fn from_str(line: &str) -> Result<Self, InvalidReply> {
        let (code, rest) = line.split_once(' ').unwrap_or((line, ""));
        if code.len() != 3 || !code.bytes().all(|octet| octet.is_ascii_digit()) {
            return Err(InvalidReply::Code);
        }
        let code = code.parse().map_err(|_| InvalidReply::Code)?;
        let (first, text) = rest.split_once(' ').unwrap_or((rest, ""));
        match first.parse::<EnhancedCode>() {
            Ok(enhanced) => Self::new(code, enhanced, text),
            Err(_) => Self::new(code, None, rest),
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.view(), f)
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({self})")
    }
}

/// A one-line [`Reply`] from a literal, checked when it is compiled.
///
/// ```
/// use sansmtp::{Verdict, reply};
///
/// let verdict: Verdict = reply!("550 5.7.1 We do not relay").into();
/// # let _ = verdict;
/// ```
///
/// ```compile_fail
/// // The classes differ.
/// let reply = sansmtp::reply!("550 2.0.0 No");
/// ```
#[macro_export]
macro_rules! reply {
    ($text:literal) => {
        const { $crate::Reply::from_static(concat!($text, "\r\n")) }
    };
}

/// A reply on its way to the peer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ReplyRef<'a> {
    encoded: &'a [u8],
}

impl<'a> ReplyRef<'a> {
    pub(crate) const fn new(encoded: &'a [u8]) -> Self {
        Self { encoded }
    }

    /// The reply code.
    #[must_use]
    pub fn code(self) -> u16 {
        self.encoded.iter().take(3).fold(0, |code, digit| code * 10 + u16::from(digit.wrapping_sub(b'0')))
    }

    /// The enhanced status code, if the reply has one.
    #[must_use]
    pub fn enhanced_code(self) -> Option<EnhancedCode> {
        let text = self.encoded.get(4..)?;
        let end = text.iter().position(|&octet| octet == b' ' || octet == b'\r')?;
        core::str::from_utf8(text.get(..end)?).ok()?.parse().ok()
    }

    /// The reply as it goes over the wire, every line ended by CRLF.
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        self.encoded
    }
}

impl fmt::Display for ReplyRef<'_> {
    /// Writes the lines separated by `\n`, for logs and messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = core::str::from_utf8(self.encoded).unwrap_or_default();
        for (index, line) in text.lines().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(line)?;
        }
        Ok(())
    }
}

impl fmt::Debug for ReplyRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({self})")
    }
}

/// An enhanced status code: class, subject and detail (RFC 3463, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EnhancedCode {
    class: u8,
    subject: u16,
    detail: u16,
}

impl EnhancedCode {
    /// Makes an enhanced status code.
    ///
    /// # Errors
    ///
    /// [`InvalidReply::EnhancedCode`] unless `class` is 2, 4 or 5 and the others have at most three
    /// digits.
    pub const fn new(class: u8, subject: u16, detail: u16) -> Result<Self, InvalidReply> {
        if matches!(class, 2 | 4 | 5) && subject < 1000 && detail < 1000 {
            Ok(Self { class, subject, detail })
        } else {
            Err(InvalidReply::EnhancedCode)
        }
    }

    /// 2 success, 4 persistent transient failure, 5 permanent failure.
    #[must_use]
    pub fn class(self) -> u8 {
        self.class
    }

    /// What the status is about: addressing, mailbox, mail system, network, protocol, content, security.
    #[must_use]
    pub fn subject(self) -> u16 {
        self.subject
    }

    /// The precise condition.
    #[must_use]
    pub fn detail(self) -> u16 {
        self.detail
    }
}

impl FromStr for EnhancedCode {
    type Err = InvalidReply;

    fn from_str(text: &str) -> Result<Self, InvalidReply> {
        let mut numbers = text.split('.').map(|digits| {
            let plain = (1..=3).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit());
            digits.parse::<u16>().ok().filter(|_| plain).ok_or(InvalidReply::EnhancedCode)
        });
        let mut number = || numbers.next().unwrap_or(Err(InvalidReply::EnhancedCode));
        let (class, subject, detail) = (number()?, number()?, number()?);
        if numbers.next().is_some() {
            return Err(InvalidReply::EnhancedCode);
        }
        Self::new(u8::try_from(class).map_err(|_| InvalidReply::EnhancedCode)?, subject, detail)
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// Why a reply could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidReply {
    /// The code is not a number from 200 to 599.
    Code,
    /// The enhanced status code is not `2|4|5.subject.detail`.
    EnhancedCode,
    /// Code and enhanced status code are of different classes.
    ClassesDiffer,
    /// The text holds a control character.
    ControlCharacter,
    /// A line has more than 512 octets, CRLF included.
    LineTooLong,
}

impl fmt::Display for InvalidReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Code => "a reply begins with a code from 200 to 599",
            Self::EnhancedCode => "an enhanced status code is 2, 4 or 5 and two numbers, with dots between",
            Self::ClassesDiffer => "the enhanced status code is of another class than the reply code",
            Self::ControlCharacter => "the text of a reply holds no control characters",
            Self::LineTooLong => "a line of a reply has at most 512 octets",
        })
    }
}

impl core::error::Error for InvalidReply {}

/// RFC 5321, section 4.5.3.1.5.
const MAX_REPLY_LINE_OCTETS: usize = 512;

fn push(text: &mut String, arguments: fmt::Arguments<'_>) {
    // Writing to a String cannot fail; the trait only has to allow for sinks that can.
    let _ = fmt::Write::write_fmt(text, arguments);
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn a_reply_cannot_be_broken_out_of() {
        assert_eq!("250 ok\r\n250 forged".parse::<Reply>(), Err(InvalidReply::ControlCharacter));
        assert_eq!(Reply::new(250, None, "a\rb"), Err(InvalidReply::ControlCharacter));
        assert_eq!(Reply::new(250, None, "a\0b"), Err(InvalidReply::ControlCharacter));
    }

    #[test]
    fn codes_are_checked() {
        assert_eq!("2500 ok".parse::<Reply>(), Err(InvalidReply::Code));
        assert_eq!("099 ok".parse::<Reply>(), Err(InvalidReply::Code));
        assert_eq!("ok".parse::<Reply>(), Err(InvalidReply::Code));
        assert_eq!("250 5.0.0 no".parse::<Reply>(), Err(InvalidReply::ClassesDiffer));
        assert_eq!(EnhancedCode::new(3, 0, 0), Err(InvalidReply::EnhancedCode));
        assert!("5.7".parse::<EnhancedCode>().is_err());
        assert!("5.7.1.2".parse::<EnhancedCode>().is_err());
        assert!("5.+7.1".parse::<EnhancedCode>().is_err());
    }

    #[test]
    fn what_is_no_enhanced_code_is_text() -> Result<(), InvalidReply> {
        let reply: Reply = "250 mx.example.org greets you".parse()?;
        assert_eq!(reply.enhanced_code(), None);
        assert_eq!(reply.to_string(), "250 mx.example.org greets you");
        assert_eq!("421".parse::<Reply>()?.as_bytes(), b"421 \r\n");
        Ok(())
    }
}
