//! The header section of a message or of a part, line by line.

use std::borrow::Cow;

use super::field::{Encoding, Media};
use super::words::value_in_ascii;
use super::{Change, Edit, MAX_LINE_OCTETS, Plan, Unconvertible};

/// A header section, as far as it has been read.
#[derive(Debug)]
pub(super) struct Header {
    /// Whether it is a message's, and not a part's.
    is_message: bool,
    /// What a change to the part would break, as far as is known.
    pub(super) sealed: Option<&'static str>,
    /// Whether the part is a message unless it says otherwise.
    is_in_digest: bool,
    content_type: Option<Vec<u8>>,
    encoding: Option<Vec<u8>>,
    /// Where the field is that says so.
    encoding_at: (u64, u64),
    has_mime_version: bool,
    field: Option<Field>,
    name: String,
    folding: Folding,
    edits: Vec<Edit>,
    value: Value,
    /// Of all fields that are written in ASCII, how many octets that makes. None where octets above 127 may stay.
    encoded_octets: Option<usize>,
}

/// The value of the field that is being read.
#[derive(Debug, Default)]
struct Value {
    /// Where it begins.
    at: u64,
    octets: Vec<u8>,
    is_too_long: bool,
    is_eight_bit: bool,
    /// How many edits there are for the fields in front of it.
    edits: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    ContentType,
    Encoding,
    Other,
}

/// What a header section says of the part.
#[derive(Debug)]
pub(super) struct Entity {
    pub(super) media: Media,
    pub(super) encoding: Encoding,
    pub(super) sealed: Option<&'static str>,
    /// What is to be changed in the header section whatever becomes of the content.
    pub(super) edits: Vec<Edit>,
    pub(super) encoded_octets: usize,
    pub(super) fields: Fields,
}

/// The fields that a change of the encoding changes.
#[derive(Debug)]
pub(super) struct Fields {
    encoding_at: Option<(u64, u64)>,
    pub(super) has_content_type: bool,
    /// Whether it is a message that does not say that it is MIME.
    lacks_mime_version: bool,
    /// Where the empty line is.
    end: u64,
}

impl Header {
    /// With `seven_bit`, its fields become ASCII.
    pub(super) fn of_message(sealed: Option<&'static str>, seven_bit: bool) -> Self {
        Self::new(true, sealed, false, seven_bit)
    }

    pub(super) fn of_part(sealed: Option<&'static str>, is_in_digest: bool, seven_bit: bool) -> Self {
        Self::new(false, sealed, is_in_digest, seven_bit)
    }

    fn new(is_message: bool, sealed: Option<&'static str>, is_in_digest: bool, seven_bit: bool) -> Self {
        Self {
            is_message,
            sealed,
            is_in_digest,
            content_type: None,
            encoding: None,
            encoding_at: (0, 0),
            has_mime_version: false,
            field: None,
            name: String::new(),
            folding: Folding::default(),
            edits: Vec::new(),
            value: Value::default(),
            encoded_octets: seven_bit.then_some(0),
        }
    }

    /// Reads the beginning of a line that is not empty and begins at `at`.
    pub(super) fn begin(&mut self, at: u64, head: &[u8]) -> Result<(), Unconvertible> {
        self.folding = Folding::default();
        if !matches!(head.first(), Some(b' ' | b'\t')) {
            self.end_field(at)?;
            let colon = head.iter().position(|octet| *octet == b':').unwrap_or_default();
            let name = head.get(..colon).unwrap_or_default().trim_ascii_end();
            if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
                return Err(Unconvertible::Malformed(NO_FIELD));
            }
            self.name = String::from_utf8_lossy(name.get(..MAX_NAME_OCTETS).unwrap_or(name)).into_owned();
            let value = head.get(colon + 1..).unwrap_or_default();
            let begins_at = at + u64::try_from(head.len() - value.len()).unwrap_or_default();
            self.value = Value { at: begins_at, edits: self.edits.len(), ..Value::default() };
            return self.field(at, value);
        }
        match self.field {
            None => Err(Unconvertible::Malformed(NO_FIELD)),
            Some(_) => self.more(head),
        }
    }

    /// Begins a field.
    fn field(&mut self, at: u64, value: &[u8]) -> Result<(), Unconvertible> {
        let is_first = |known: &Option<Vec<u8>>| match known {
            None => Ok(Some(Vec::new())),
            Some(_) => Err(Unconvertible::Malformed("a header says twice what the content is, or how it is encoded")),
        };
        self.field = Some(match self.name.to_ascii_lowercase().as_str() {
            "content-type" => {
                self.content_type = is_first(&self.content_type)?;
                Field::ContentType
            }
            "content-transfer-encoding" => {
                self.encoding = is_first(&self.encoding)?;
                self.encoding_at = (at, at);
                Field::Encoding
            }
            "mime-version" => {
                self.has_mime_version = true;
                Field::Other
            }
            "dkim-signature" | "arc-message-signature" if self.is_message => {
                self.sealed = self.sealed.or(Some("signature (DKIM)"));
                Field::Other
            }
            _ => Field::Other,
        });
        self.more(value)
    }

    /// Ends the field that is being read, and writes it in ASCII.
    fn end_field(&mut self, end: u64) -> Result<(), Unconvertible> {
        let Some(encoded_octets) = self.encoded_octets.as_mut().filter(|_| self.value.is_eight_bit) else {
            return Ok(());
        };
        let Value { at, octets, is_too_long, edits, .. } = std::mem::take(&mut self.value);
        let value = if is_too_long { None } else { value_in_ascii(&self.name, &octets) };
        let value = value.ok_or_else(|| Unconvertible::HeaderField(self.name.clone()))?;
        let value = folded(self.name.len() + 1, value);
        *encoded_octets += value.len();
        if *encoded_octets > MAX_ENCODED_OCTETS {
            return Err(Unconvertible::HeaderField(self.name.clone()));
        }
        self.edits.truncate(edits);
        self.edits.push(Edit { from: at, to: end, change: Change::Field(value) });
        Ok(())
    }

    /// Whether there are octets above 127 that must not be.
    pub(super) fn has_eight_bit(&self) -> bool {
        self.encoded_octets.is_some_and(|octets| octets > 0 || self.value.is_eight_bit)
    }

    /// Reads more of a line.
    pub(super) fn more(&mut self, octets: &[u8]) -> Result<(), Unconvertible> {
        if self.encoded_octets.is_some() {
            self.value.is_eight_bit |= !octets.is_ascii();
            self.value.is_too_long |= self.value.octets.len() + octets.len() > MAX_FIELD_OCTETS;
            if !self.value.is_too_long {
                self.value.octets.extend_from_slice(octets);
            }
        }
        let value = match self.field {
            Some(Field::ContentType) => self.content_type.as_mut(),
            Some(Field::Encoding) => self.encoding.as_mut(),
            Some(Field::Other) | None => None,
        };
        if let Some(value) = value {
            value.extend_from_slice(octets);
            if value.len() > MAX_FIELD_OCTETS {
                return Err(Unconvertible::Malformed("a header field that says what the content is has no end"));
            }
        }
        Ok(())
    }

    /// Sees all octets of a line that begins at `at`, a few at a time, and finds where to break it.
    pub(super) fn look_at(&mut self, at: u64, octets: &[u8]) {
        if self.field != Some(Field::Encoding) {
            self.folding.push(at, octets, &mut self.edits);
        }
    }

    /// Ends a line.
    pub(super) fn end_line(&mut self, end: u64) {
        if self.field == Some(Field::Encoding) {
            self.encoding_at.1 = end;
        }
    }

    /// How many places are to be changed so far.
    pub(super) fn edits(&self) -> usize {
        self.edits.len()
    }

    /// Ends the header section, whose empty line is at `end`.
    pub(super) fn finish(mut self, end: u64) -> Result<Entity, Unconvertible> {
        self.end_field(end)?;
        let media = match &self.content_type {
            Some(value) => Media::of(value).map_err(Unconvertible::Malformed)?,
            None if self.is_in_digest => Media::Message,
            None => Media::Text,
        };
        let encoded_octets = self.encoded_octets.unwrap_or_default();
        if let Some(what) = self.sealed.filter(|_| encoded_octets > 0) {
            return Err(Unconvertible::Signed(what));
        }
        // What seals the content alone has nothing to do with these fields.
        let edits = if self.sealed.is_some() { Vec::new() } else { self.edits };
        let sealed = self.sealed.or(match &media {
            Media::Multipart(multipart) => multipart.security,
            Media::Pkcs7 => Some("signature or encryption (S/MIME)"),
            Media::Text | Media::Message | Media::AboutMessages | Media::Other => None,
        });
        Ok(Entity {
            media,
            encoding: self.encoding.as_deref().map_or(Encoding::SevenBit, Encoding::of),
            sealed,
            edits,
            encoded_octets,
            fields: Fields {
                encoding_at: self.encoding.is_some().then_some(self.encoding_at),
                has_content_type: self.content_type.is_some(),
                lacks_mime_version: self.is_message && !self.has_mime_version,
                end,
            },
        })
    }
}

/// Breaks the lines of a field's value that are too long, of which the first begins in this column.
fn folded(column: usize, value: Vec<u8>) -> Vec<u8> {
    if column + value.len() <= MAX_LINE_OCTETS {
        return value;
    }
    let mut folding = Folding { column, has_text: true, ..Folding::default() };
    let mut folds = Vec::new();
    let mut at = 0;
    for line in value.split_inclusive(|octet| *octet == b'\n') {
        folding.push(at, line, &mut folds);
        at += u64::try_from(line.len()).unwrap_or_default();
        folding = Folding::default();
    }
    let plan = Plan { edits: folds, octets: 0, eight_bit: false };
    let (mut conversion, mut out) = (plan.conversion(), Vec::with_capacity(value.len() + 2 * plan.edits.len()));
    conversion.push(&value, &mut out);
    conversion.finish(&mut out);
    out
}

impl Fields {
    /// What makes the header section name this encoding, and this charset of text that has octets above 127, where it
    /// names none.
    pub(super) fn name(&self, encoding: &'static str, charset: Option<&'static str>) -> Vec<Edit> {
        let mut edits = Vec::new();
        let mut added = String::new();
        let field = format!("Content-Transfer-Encoding: {encoding}\r\n");
        if self.lacks_mime_version {
            added.push_str(MIME_VERSION);
        }
        if let Some(charset) = charset.filter(|_| !self.has_content_type) {
            added.push_str(&format!("Content-Type: text/plain; charset={charset}\r\n"));
        }
        match self.encoding_at {
            Some((from, to)) => edits.push(Edit { from, to, change: Change::Text(field.into_bytes().into()) }),
            None => added.push_str(&field),
        }
        if !added.is_empty() {
            edits.push(self.insertion(added.into_bytes().into()));
        }
        edits
    }

    /// What makes a message with parts one of MIME, and 7bit where it says otherwise and `relabel` is set.
    pub(super) fn of_container(&self, relabel: bool) -> Vec<Edit> {
        let mut edits = Vec::new();
        if let Some((from, to)) = self.encoding_at.filter(|_| relabel) {
            edits.push(Edit { from, to, change: Change::Text(SEVEN_BIT.into()) });
        }
        if self.lacks_mime_version {
            edits.push(self.insertion(MIME_VERSION.as_bytes().into()));
        }
        edits
    }

    /// What makes a part without octets above 127 say so.
    pub(super) fn seven_bit(&self) -> Vec<Edit> {
        let edit = |(from, to)| Edit { from, to, change: Change::Text(SEVEN_BIT.into()) };
        self.encoding_at.map(edit).into_iter().collect()
    }

    fn insertion(&self, text: Cow<'static, [u8]>) -> Edit {
        Edit { from: self.end, to: self.end, change: Change::Text(text) }
    }
}

/// Finds out where a line is too long, and can be broken at a blank (RFC 5322, section 2.2.3).
#[derive(Debug, Default)]
struct Folding {
    column: usize,
    /// Where the last blank is that has text in front of it in its line, and its column.
    blank: Option<(u64, usize)>,
    is_blank: bool,
    has_text: bool,
}

impl Folding {
    fn push(&mut self, at: u64, octets: &[u8], folds: &mut Vec<Edit>) {
        for (octet, at) in octets.iter().zip(at..) {
            let is_blank = matches!(octet, b' ' | b'\t');
            if is_blank && !self.is_blank && self.has_text {
                self.blank = Some((at, self.column));
            }
            self.is_blank = is_blank;
            self.column += 1;
            if is_blank || matches!(octet, b'\r' | b'\n') {
                continue;
            }
            self.has_text = true;
            if self.column > MAX_LINE_OCTETS
                && let Some((blank, column)) = self.blank.take()
            {
                folds.push(Edit { from: blank, to: blank, change: Change::Fold });
                self.column -= column;
            }
        }
    }
}

const NO_FIELD: &str = "a header section has a line that is no field";
const MIME_VERSION: &str = "MIME-Version: 1.0\r\n";
const SEVEN_BIT: &[u8] = b"Content-Transfer-Encoding: 7bit\r\n";
/// What all fields of a header section may have in ASCII that were not.
const MAX_ENCODED_OCTETS: usize = 128 * 1024;
/// What a field may have that is changed, or says something about the content.
const MAX_FIELD_OCTETS: usize = 16 * 1024;
/// As much of a field's name as a report has room for.
const MAX_NAME_OCTETS: usize = 64;
