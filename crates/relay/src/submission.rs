//! What a submission server does about the header of a message (RFC 6409, section 8).
//!
//! - `Date` and `Message-ID` are added where they are missing.
//! - `Bcc`, `Resent-Bcc` and `Return-Path` are taken out. Blind copies are nobody else's concern (RFC 5322, section
//!   3.6.3), and only final delivery adds a return path (RFC 5321, section 4.4).
//!
//! Everything else passes octet for octet, also what is no header field: then it is not clear where the header section
//! ends, and nothing is added. Neither is anything added to a message with a `DKIM-Signature`, which may say that a field
//! is not there (RFC 6376, section 5.4).

use std::io;

use crate::envelope::QueueId;
use crate::senders::Originators;
use mail_builder::headers::date::Date;

/// The content of one message on its way in, of which it keeps no more than the beginning of a line, and of its header who it
/// says that it is from.
#[derive(Debug)]
pub struct Submission {
    at: At,
    /// The beginning of a line, while it may become a field of any name.
    held: Vec<u8>,
    /// Whether the field goes on that the last line was in.
    kept: bool,
    first_line: bool,
    seen: Seen,
    originators: Originators,
    date: String,
    message_id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In the part of a line that is `held`, or in front of a line.
    Begin,
    /// In the rest of a line of the header section.
    Rest,
    Body,
}

/// What there is in the header section.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    date: bool,
    message_id: bool,
    signature: bool,
    /// A line that is no field, nor part of one.
    other: bool,
}

/// What a line is, as its beginning tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line<'a> {
    Continuation,
    /// The end of the header section.
    Empty,
    /// By its name.
    Field(&'a [u8]),
    Other,
}

impl Submission {
    /// A message that is received now, by this host, under this name.
    pub fn new(hostname: &str, id: &QueueId) -> Self {
        Self {
            at: At::Begin,
            held: Vec::new(),
            kept: true,
            first_line: true,
            seen: Seen::default(),
            originators: Originators::default(),
            date: Date::now().to_rfc822(),
            message_id: format!("{id}@{hostname}"),
        }
    }

    /// Takes a piece of the message, and gives `out` what goes on.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn push(&mut self, piece: &[u8], mut out: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut rest = piece;
        while let Some((&octet, behind)) = rest.split_first() {
            match self.at {
                At::Begin => {
                    self.held.push(octet);
                    rest = behind;
                    self.begin_line(&mut out)?;
                }
                At::Rest => {
                    let end = rest.iter().position(|octet| *octet == b'\n').map(|at| at.saturating_add(1));
                    let (line, behind) = rest.split_at(end.unwrap_or(rest.len()));
                    self.originators.push(line);
                    if self.kept {
                        out(line)?;
                    }
                    if end.is_some() {
                        self.at = At::Begin;
                    }
                    rest = behind;
                }
                At::Body => return out(rest),
            }
        }
        Ok(())
    }

    /// Who the header says that the message is from, as far as it has come.
    #[must_use]
    pub fn originators(&self) -> &Originators {
        &self.originators
    }

    /// Gives `out` what goes on at the end of the message.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finish(mut self, mut out: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        match self.at {
            At::Begin if self.held.is_empty() => self.add(&mut out),
            // No field has ended, so it is none.
            At::Begin => out(&self.held),
            At::Rest => {
                if self.kept && self.adds() {
                    out(b"\r\n")?;
                }
                self.add(&mut out)
            }
            At::Body => Ok(()),
        }
    }

    /// Looks at the beginning of a line, whether it tells by now what it is.
    fn begin_line(&mut self, out: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let Some(line) = Line::of(&self.held) else { return Ok(()) };
        match line {
            Line::Continuation => {
                self.seen.other |= self.first_line;
                self.originators.push(&self.held);
            }
            Line::Empty => {
                self.add(out)?;
                self.at = At::Body;
                return out(&std::mem::take(&mut self.held));
            }
            Line::Field(name) => {
                let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
                self.seen.date |= is("Date");
                self.seen.message_id |= is("Message-ID");
                self.seen.signature |= is("DKIM-Signature");
                self.kept = !DROPPED.into_iter().any(is);
                self.originators.begin_field(name);
            }
            Line::Other => {
                // A line that mbox files have in front of each message.
                let from_line = self.held.starts_with(b"From ") || self.held.starts_with(b">From ");
                let is_envelope = self.first_line && from_line;
                self.seen.other |= !is_envelope;
                // With so many blanks in front of a colon it may be a field all the same.
                let is_clear = is_envelope && self.held.get(b"From ".len()).is_some_and(u8::is_ascii_graphic);
                self.originators.begin_other(if is_clear { b"" } else { &self.held });
                self.kept = true;
            }
        }
        self.first_line = false;
        if self.kept {
            out(&self.held)?;
        }
        self.at = if self.held.ends_with(b"\n") { At::Begin } else { At::Rest };
        self.held.clear();
        Ok(())
    }

    fn adds(&self) -> bool {
        !(self.seen.other || self.seen.signature || (self.seen.date && self.seen.message_id))
    }

    /// Adds what is missing behind the last field.
    fn add(&mut self, out: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        if !self.adds() {
            return Ok(());
        }
        if !self.seen.date {
            out(format!("Date: {}\r\n", self.date).as_bytes())?;
        }
        if !self.seen.message_id {
            out(format!("Message-ID: <{}>\r\n", self.message_id).as_bytes())?;
        }
        Ok(())
    }
}

impl<'a> Line<'a> {
    /// What the line is that begins so; none while that is open. It was open for every shorter beginning.
    fn of(begin: &'a [u8]) -> Option<Self> {
        let blank = |octet: &u8| matches!(octet, b' ' | b'\t');
        let (last, before) = begin.split_last()?;
        match (*last, before) {
            (b' ' | b'\t', []) => Some(Self::Continuation),
            (b'\n', [] | [b'\r']) => Some(Self::Empty),
            (b'\r', []) => None,
            // Blanks may stand in front of the colon (RFC 5322, section 4.5).
            (b':', [_, ..]) => Some(Self::Field(before.trim_ascii_end())),
            (b' ' | b'\t', _) if begin.len() < MAX_HELD_OCTETS => None,
            (b'!'..=b'9' | b';'..=b'~', _) if begin.len() < MAX_HELD_OCTETS => {
                before.last().is_some_and(|octet| blank(octet) || *octet == b'\r').then_some(Self::Other)
            }
            _ => Some(Self::Other),
        }
    }
}

/// In any case.
const DROPPED: [&str; 3] = ["Bcc", "Resent-Bcc", "Return-Path"];
/// As long as a line should be (RFC 5322, section 2.1.1).
const MAX_HELD_OCTETS: usize = 998;

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        let id = QueueId::try_from("1a".to_owned()).unwrap();
        let mut submission = Submission { date: "now".to_owned(), ..Submission::new("mx.example", &id) };
        let mut passed = Vec::new();
        for piece in pieces {
            submission
                .push(piece, |octets| {
                    passed.extend_from_slice(octets);
                    Ok(())
                })
                .unwrap();
            assert!(submission.held.len() <= MAX_HELD_OCTETS);
        }
        submission
            .finish(|octets| {
                passed.extend_from_slice(octets);
                Ok(())
            })
            .unwrap();
        passed
    }

    /// However the message is cut into pieces.
    fn passed(content: &[u8]) -> Vec<u8> {
        let whole = pieces(std::iter::once(content));
        assert_eq!(pieces(content.chunks(1)), whole, "{}", content.escape_ascii());
        for at in (0..content.len()).take(300) {
            let (one, other) = content.split_at(at);
            assert_eq!(pieces([one, other].into_iter()), whole, "{} at {at}", content.escape_ascii());
        }
        whole
    }

    const DATE: &str = "Date: now\r\n";
    const ID: &str = "Message-ID: <1a@mx.example>\r\n";

    #[test]
    fn what_is_missing_is_added_behind_the_last_field() {
        let both = &format!("{DATE}{ID}");
        for (header, added) in [
            ("Subject: x\r\n", both.as_str()),
            ("Date: x\r\n", ID),
            ("dAtE : x\r\n", ID),
            ("Message-Id: <a@b>\r\nSubject: x\r\n", DATE),
            ("message-id:\r\n <a@b>\r\nDATE:x\r\n", ""),
            ("Resent-Date: x\r\nX-Date: x\r\nX: Date: x\r\n Date: x\r\n", both),
            ("From tim Tue Apr  1 12:00:00 2025\r\nDate: x\r\n", ID),
            ("", both),
        ] {
            for body in ["\r\n", "\r\nDate: x\r\n\r\nBcc: x\r\n", ""] {
                let expected = format!("{header}{added}{body}");
                assert_eq!(passed(format!("{header}{body}").as_bytes()), expected.as_bytes(), "{header:?} {body:?}");
            }
        }
        assert_eq!(passed(b"Subject: x"), format!("Subject: x\r\n{both}").as_bytes());
        assert_eq!(passed(b"Subject: x\r\nBcc: y"), format!("Subject: x\r\n{both}").as_bytes());
        assert_eq!(passed(b"Subject: x\r\nsub"), b"Subject: x\r\nsub");
    }

    #[test]
    fn blind_copies_and_return_paths_are_taken_out() {
        let rest = "Date: x\r\nMessage-ID: <a@b>\r\n\tx\r\n";
        let body = "\r\nBcc: this is text\r\nReturn-Path: <>\r\n";
        for dropped in [
            "Bcc: a@b\r\n",
            "bcc:a@b\r\n",
            "BCC \t: a@b,\r\n c@d\r\n\te@f\r\n \r\n g@h\r\n",
            "Bcc:\r\n",
            "Resent-Bcc: a@b\r\nBcc: c@d\r\n",
            "Return-Path: <a@b>\r\nRETURN-PATH:\r\n <a@b>\r\n",
        ] {
            for header in [format!("{dropped}{rest}"), format!("{rest}{dropped}"), format!("{dropped}{rest}{dropped}")]
            {
                let expected = format!("{rest}{body}");
                assert_eq!(passed(format!("{header}{body}").as_bytes()), expected.as_bytes(), "{header:?}");
            }
        }
        // Also where it is not clear that the header section still goes on.
        assert_eq!(passed(b"no field\r\nBcc: a@b\r\nX: y\r\n\r\nBcc: z\r\n"), b"no field\r\nX: y\r\n\r\nBcc: z\r\n");
    }

    #[test]
    fn whatever_else_there_is_passes_octet_for_octet() {
        let long = [&b"x".repeat(3000)[..], b":\r\nBcc"].concat();
        let blanks = [b"Bcc", &b" ".repeat(3000)[..], b": x"].concat();
        for header in [
            &b"Bccc: x"[..],
            b"Bc: x",
            b"X-Bcc: x\r\n Bcc: x",
            b"Subject: Gr\xfc\xdfe\xff\r\n\t\xc3\xbc \t",
            b"\xfcber: x",
            b"B cc: x",
            b"Bcc x: y",
            b": x",
            b":",
            b"hello",
            b"Bcc",
            b"Bcc\rx: y",
            b"\rBcc: x",
            b"\0: x",
            b" Bcc: x",
            b"DKIM-Signature: v=1; h=date:message-id",
            &long,
            &blanks,
        ] {
            for body in [&b"\r\n\r\nBcc: x\r\n"[..], b"\r\n"] {
                // Nothing is missing, so that it does not matter which of them are fields.
                let content = [header, b"\r\nDate: x\r\nMessage-ID: <a@b>", body].concat();
                assert_eq!(passed(&content), content, "{}", content.escape_ascii());
            }
        }
        for content in [
            &b"hello\r\nworld\r\n"[..],
            b"From: a@b\r\nfolded wrongly\r\n\r\nx\r\n",
            b" Subject: x\r\n\r\n",
            b"From: a@b\r\nDKIM-Signature: v=1;\r\n\th=date\r\n\r\n",
            b"Subject: x\r\nFrom tim Tue Apr  1\r\n\r\n",
        ] {
            assert_eq!(passed(content), content, "{}", content.escape_ascii());
        }
    }
}
