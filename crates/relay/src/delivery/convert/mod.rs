//! Changes content so that a next hop may have it, where nothing is lost by it.
//!
//! Two things in content are not for every next hop:
//!
//! * octets above 127, where it does not offer 8BITMIME (RFC 6152, section 3),
//! * lines of more than 998 octets (RFC 5321, section 4.5.3.1.6).
//!
//! [`Plan::of`] reads a message, part for part as MIME has it (RFC 2045, RFC 2046), and says what to put in place of
//! what: text becomes quoted-printable, everything else base64, and the header fields around it say so. Octets above 127
//! in header fields become encoded words (RFC 2047) and parameters (RFC 2231), where the fields have room for them. All that need
//! not change stays as it is, octet for octet. [`Conversion`] carries that out piece by piece, so that neither needs
//! more memory than the plan, whatever the size of the message.
//!
//! Some messages cannot be changed without a loss, which [`Unconvertible`] names.
//!
//! | file | what it is about |
//! |---|---|
//! | `walk.rs` | from lines to parts |
//! | `header.rs` | the header section of a message or a part |
//! | `field.rs` | what `Content-Type` and `Content-Transfer-Encoding` say |
//! | `words.rs` | header fields in ASCII |
//! | `leaf.rs` | what becomes of a part that has no parts |
//! | `encode.rs` | quoted-printable and base64 |

mod encode;
mod field;
mod header;
mod leaf;
#[cfg(test)]
mod tests;
mod walk;
mod words;

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

use self::encode::Encoder;
use self::walk::Walk;

/// What to change in a message. At most [`MAX_EDITS`] places.
#[derive(Debug)]
pub(crate) struct Plan {
    /// In the order of their places, which do not overlap.
    edits: Vec<Edit>,
    /// The size of the message with the changes, in octets.
    pub(crate) octets: u64,
    /// Whether it has octets above 127 with the changes.
    pub(crate) eight_bit: bool,
}

/// What to put in place of a range of the content. An empty range is a place to insert at.
#[derive(Debug)]
struct Edit {
    from: u64,
    to: u64,
    change: Change,
}

#[derive(Debug)]
enum Change {
    /// Something that says how the content is encoded. It is for nothing where no other change is made.
    Text(Cow<'static, [u8]>),
    /// The value of a header field.
    Field(Vec<u8>),
    /// A line end in a header field.
    Fold,
    /// The same octets, encoded. What is in an encoding already gets shorter lines, or is mended.
    Encode(Coding),
}

/// How octets are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// Text becomes quoted-printable.
    QuotedPrintable,
    /// What should be quoted-printable becomes that.
    MendedQuotedPrintable,
    /// Anything becomes base64.
    Base64,
    /// Base64 is broken into lines.
    BrokenBase64,
}

/// Why a message cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unconvertible {
    /// There is a CR or an LF without the other.
    BareLineEnd,
    /// A change would break this.
    Signed(&'static str),
    /// A header field has octets above 127, and there is no way to write it in ASCII.
    HeaderField(String),
    /// It is not clear what the parts of the message are, or their encodings.
    Malformed(&'static str),
}

/// Whether the content can be had with octets below 128 alone, as some next hop may want it.
///
/// # Errors
/// Where it cannot be read.
pub(crate) fn is_convertible(content: impl Read + Seek) -> io::Result<bool> {
    Ok(Plan::of(content, true)?.is_ok())
}

impl Plan {
    /// Finds out what to change for lines to have 998 octets at most and, with `seven_bit`, for all octets to be below 128.
    /// None is nothing. Where a long line alone cannot be changed, it is left as it is.
    ///
    /// This reads the content two times at most. It waits for the disk, and computes.
    ///
    /// # Errors
    /// Where the content cannot be read; inside, where it cannot be converted.
    pub(crate) fn of(
        mut content: impl Read + Seek,
        seven_bit: bool,
    ) -> io::Result<Result<Option<Self>, Unconvertible>> {
        let mut walk = Walk::new(seven_bit);
        each_piece(&mut content, |piece| walk.push(piece))?;
        let edits = match walk.finish() {
            Ok(edits) if edits.is_empty() => return Ok(Ok(None)),
            Ok(edits) => edits,
            Err(unconvertible) => return Ok(Err(unconvertible)),
        };
        let mut plan = Self { edits, octets: 0, eight_bit: false };
        content.seek(SeekFrom::Start(0))?;
        let (mut octets, mut eight_bit) = (0, false);
        let mut conversion = plan.conversion();
        let mut out = Vec::new();
        let mut count = |out: &mut Vec<u8>| {
            octets += u64::try_from(out.len()).unwrap_or(u64::MAX);
            eight_bit |= !out.is_ascii();
            out.clear();
        };
        each_piece(&mut content, |piece| {
            conversion.push(piece, &mut out);
            count(&mut out);
        })?;
        conversion.finish(&mut out);
        count(&mut out);
        (plan.octets, plan.eight_bit) = (octets, eight_bit);
        if seven_bit && eight_bit {
            return Ok(Err(Unconvertible::Malformed("its octets are not where its header says")));
        }
        Ok(Ok(Some(plan)))
    }

    /// Begins to carry the plan out.
    pub(crate) fn conversion(&self) -> Conversion<'_> {
        Conversion { edits: &self.edits, at: 0, encoder: None }
    }
}

/// Carries out a [`Plan`], over the content that it was made for.
#[derive(Debug)]
pub(crate) struct Conversion<'a> {
    /// Those that are not done yet.
    edits: &'a [Edit],
    /// How much of the content has been read.
    at: u64,
    /// Of the first edit, if that has been begun.
    encoder: Option<Encoder>,
}

impl Conversion<'_> {
    /// Adds to `out` what the next piece of content becomes.
    pub(crate) fn push(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        loop {
            let edit = self.edits.first();
            // Up to the next edit, or up to its end.
            let is_inside = edit.is_some_and(|edit| edit.from <= self.at);
            let until = edit.map_or(u64::MAX, |edit| if is_inside { edit.to } else { edit.from });
            let length = usize::try_from(until.saturating_sub(self.at)).unwrap_or(usize::MAX).min(piece.len());
            let (part, rest) = piece.split_at_checked(length).unwrap_or((piece, &[]));
            self.at += u64::try_from(length).unwrap_or_default();
            match edit.map(|edit| &edit.change) {
                Some(Change::Encode(coding)) if is_inside => {
                    self.encoder.get_or_insert_with(|| Encoder::new(*coding)).push(part, out);
                }
                Some(Change::Text(_) | Change::Field(_) | Change::Fold) if is_inside => {}
                Some(_) | None => out.extend_from_slice(part),
            }
            piece = rest;
            if is_inside && self.at >= until {
                self.end(out);
            } else if piece.is_empty() {
                return;
            }
        }
    }

    /// Adds to `out` what is left when the content has ended.
    pub(crate) fn finish(mut self, out: &mut Vec<u8>) {
        while self.edits.first().is_some_and(|edit| edit.from <= self.at) {
            self.end(out);
        }
    }

    /// Ends the first edit.
    fn end(&mut self, out: &mut Vec<u8>) {
        let Some((edit, rest)) = self.edits.split_first() else { return };
        self.edits = rest;
        match &edit.change {
            Change::Text(text) => out.extend_from_slice(text),
            Change::Field(value) => out.extend_from_slice(value),
            Change::Fold => out.extend_from_slice(b"\r\n"),
            Change::Encode(_) => {}
        }
        if let Some(encoder) = self.encoder.take() {
            encoder.finish(out);
        }
    }
}

fn each_piece(content: &mut impl Read, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut piece = vec![0; PIECE_OCTETS];
    loop {
        match content.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => take(piece.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl fmt::Display for Unconvertible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BareLineEnd => f.write_str("it has a CR or an LF without the other"),
            Self::Signed(what) => write!(f, "that would break its {what}"),
            Self::HeaderField(name) => {
                write!(f, "its header field {name} has octets above 127 where there is no way to encode them")
            }
            Self::Malformed(why) => f.write_str(why),
        }
    }
}

/// Octets in a line, without its end (RFC 5321, section 4.5.3.1.6; RFC 5322, section 2.1.1).
pub(crate) const MAX_LINE_OCTETS: usize = 998;
/// Messages in which more is to be changed are not changed. No message that people write comes near.
const MAX_EDITS: usize = 4000;
const PIECE_OCTETS: usize = 32 * 1024;
