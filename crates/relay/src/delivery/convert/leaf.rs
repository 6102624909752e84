//! What becomes of a part that has no parts.

use super::field::{Encoding, Media};
use super::header::{Entity, Fields};
use super::words::{OTHER_CHARSET, UTF_8};
use super::{Change, Coding, Edit, Unconvertible};

/// The content of a part, as far as it has been read.
#[derive(Debug)]
pub(super) struct Leaf {
    media: Media,
    encoding: Encoding,
    sealed: Option<&'static str>,
    fields: Fields,
    /// What is to be changed in the header section anyway.
    edits: Vec<Edit>,
    from: u64,
    has_eight_bit: bool,
    has_long_line: bool,
    utf8: Utf8,
    /// Whether what should be in an encoding is.
    valid: Validity,
}

/// Whether text looks like UTF-8, as far as it has been read.
#[derive(Debug, Default)]
struct Utf8 {
    /// The beginning of a character.
    held: Vec<u8>,
    is_other: bool,
}

/// Whether octets are in an encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Validity {
    Valid,
    /// In quoted-printable, so many octets after the "=": none, one digit, or a blank.
    Escape(u8),
    Invalid,
}

impl Leaf {
    /// Begins a part whose content is at `from`.
    pub(super) fn new(entity: Entity, from: u64) -> Self {
        let Entity { media, encoding, sealed, edits, fields, .. } = entity;
        let (has_eight_bit, has_long_line, valid) = (false, false, Validity::Valid);
        let utf8 = Utf8::default();
        Self { media, encoding, sealed, fields, edits, from, has_eight_bit, has_long_line, utf8, valid }
    }

    /// Reads octets of the content.
    pub(super) fn push(&mut self, octets: &[u8]) {
        self.has_eight_bit |= !octets.is_ascii();
        if !self.fields.has_content_type {
            self.utf8.push(octets);
        }
        match self.encoding {
            Encoding::SevenBit | Encoding::EightBit | Encoding::Unknown => {}
            Encoding::QuotedPrintable => self.valid = octets.iter().fold(self.valid, Validity::quoted_printable),
            Encoding::Base64 => {
                let is_fine = |octet: &u8| {
                    octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/' | b'=' | b' ' | b'\t' | b'\r' | b'\n')
                };
                if !octets.iter().all(is_fine) {
                    self.valid = Validity::Invalid;
                }
            }
        }
    }

    pub(super) fn has_long_line(&mut self) {
        self.has_long_line = true;
    }

    /// How many places are to be changed at most.
    pub(super) fn edits(&self) -> usize {
        self.edits.len() + 3
    }

    /// Says what to change, where the content ends at `to`.
    pub(super) fn finish(mut self, to: u64, seven_bit: bool) -> Result<Vec<Edit>, Unconvertible> {
        let must_change = seven_bit && self.has_eight_bit;
        if let Some(what) = self.sealed {
            return if must_change { Err(Unconvertible::Signed(what)) } else { Ok(in_order(self.edits)) };
        }
        let coding = if must_change || self.has_long_line { self.coding() } else { None };
        let mut edits = std::mem::take(&mut self.edits);
        let Some(coding) = coding else {
            if must_change {
                let is_about_messages = self.media == Media::AboutMessages;
                return Err(Unconvertible::Malformed(if is_about_messages {
                    "a part of a type that has no encoding has octets above 127"
                } else {
                    "a part that should be encoded has octets above 127"
                }));
            }
            if seven_bit && self.encoding == Encoding::EightBit {
                edits.extend(self.fields.seven_bit());
            }
            return Ok(in_order(edits));
        };
        let charset = (self.has_eight_bit && self.media == Media::Text).then(|| self.utf8.charset());
        match coding {
            Coding::QuotedPrintable => edits.extend(self.fields.name("quoted-printable", charset)),
            Coding::Base64 => edits.extend(self.fields.name("base64", charset)),
            Coding::MendedQuotedPrintable | Coding::BrokenBase64 => {}
        }
        edits.push(Edit { from: self.from, to, change: Change::Encode(coding) });
        Ok(in_order(edits))
    }

    /// How the content is to be encoded, if it can be.
    fn coding(&self) -> Option<Coding> {
        match self.encoding {
            Encoding::SevenBit | Encoding::EightBit => match self.media {
                Media::Text => Some(Coding::QuotedPrintable),
                Media::AboutMessages => None,
                Media::Message | Media::Multipart(_) | Media::Pkcs7 | Media::Other => Some(Coding::Base64),
            },
            Encoding::QuotedPrintable => (self.valid == Validity::Valid).then_some(Coding::MendedQuotedPrintable),
            Encoding::Base64 => (self.valid == Validity::Valid).then_some(Coding::BrokenBase64),
            Encoding::Unknown => None,
        }
    }
}

impl Utf8 {
    fn push(&mut self, mut octets: &[u8]) {
        while let Some((first, rest)) = octets.split_first().filter(|_| !self.held.is_empty() && !self.is_other) {
            self.held.push(*first);
            octets = rest;
            match str::from_utf8(&self.held) {
                Ok(_) => self.held.clear(),
                Err(error) => self.is_other = error.error_len().is_some(),
            }
        }
        if let Err(error) = str::from_utf8(octets) {
            self.is_other |= error.error_len().is_some();
            if !self.is_other {
                self.held.extend_from_slice(octets.get(error.valid_up_to()..).unwrap_or_default());
            }
        }
    }

    fn charset(&self) -> &'static str {
        if self.is_other || !self.held.is_empty() { OTHER_CHARSET } else { UTF_8 }
    }
}

impl Validity {
    /// Reads an octet of quoted-printable: two digits follow an "=", or the line end, perhaps with blanks in front.
    fn quoted_printable(self, octet: &u8) -> Self {
        match (self, octet) {
            (Self::Invalid, _) => Self::Invalid,
            (Self::Valid, b'=') => Self::Escape(0),
            (Self::Valid, _) | (Self::Escape(0 | 2), b'\n') => Self::Valid,
            (Self::Escape(0 | 2), b'\r' | b' ' | b'\t') => Self::Escape(2),
            (Self::Escape(0), octet) if octet.is_ascii_hexdigit() => Self::Escape(1),
            (Self::Escape(1), octet) if octet.is_ascii_hexdigit() => Self::Valid,
            (Self::Escape(_), _) => Self::Invalid,
        }
    }
}

/// The fields' order is that of the header section, whatever is to be done about them.
fn in_order(mut edits: Vec<Edit>) -> Vec<Edit> {
    edits.sort_by_key(|edit| edit.from);
    edits
}
