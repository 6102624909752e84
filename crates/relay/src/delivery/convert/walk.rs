//! From lines to parts (RFC 2046, section 5.1).

use super::field::{Encoding, Media};
use super::header::{Entity, Header};
use super::leaf::Leaf;
use super::{Change, Edit, MAX_EDITS, MAX_LINE_OCTETS, Unconvertible};

/// Reads a message and finds out what to change.
///
/// It holds no more than the beginning of a line, the fields that say what the content is, and the edits.
#[derive(Debug)]
pub(super) struct Walk {
    seven_bit: bool,
    line: Line,
    /// The parts with parts that are open, the outermost first.
    open: Vec<Open>,
    place: Place,
    /// Messages and parts around this place.
    depth: usize,
    edits: Vec<Edit>,
    /// What all fields that become ASCII have then.
    encoded_octets: usize,
    failure: Option<Unconvertible>,
}

/// A line, as far as it has been read.
#[derive(Debug, Default)]
struct Line {
    /// Where it begins.
    at: u64,
    octets: u64,
    /// The beginning, until there is enough of it.
    head: Vec<u8>,
    has_begun: bool,
    carriage_returns: usize,
    last: u8,
}

/// A multipart that has not ended.
#[derive(Debug)]
struct Open {
    boundary: Box<[u8]>,
    is_digest: bool,
    sealed: Option<&'static str>,
    depth: usize,
}

/// Where in the message the walk is.
#[derive(Debug)]
enum Place {
    Header(Box<Header>),
    Leaf(Box<Leaf>),
    /// In front of the first part of a multipart or behind the last one, which mail readers do not show (RFC 2046, section 5.1.1).
    Between,
}

/// What a line is among the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delimiter {
    /// A part of this multipart begins.
    Next(usize),
    /// This multipart ends.
    Close(usize),
}

impl Walk {
    pub(super) fn new(seven_bit: bool) -> Self {
        Self {
            seven_bit,
            line: Line::default(),
            open: Vec::new(),
            place: Place::Header(Box::new(Header::of_message(None, seven_bit))),
            depth: 0,
            edits: Vec::new(),
            encoded_octets: 0,
            failure: None,
        }
    }

    /// Reads the next piece of the message.
    pub(super) fn push(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while !rest.is_empty() && self.failure.is_none() {
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
            let (fragment, behind) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            self.failure = self.fragment(fragment).err();
            rest = behind;
        }
    }

    /// Says what to change; nothing, if what should be changed is not there.
    ///
    /// # Errors
    /// Where a change would lose something.
    pub(super) fn finish(mut self) -> Result<Vec<Edit>, Unconvertible> {
        if self.failure.is_none() {
            self.failure = self.end().err();
        }
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        // What is said in header fields alone is as true as it was.
        if self.edits.iter().all(|edit| matches!(edit.change, Change::Text(_))) {
            self.edits.clear();
        }
        Ok(self.edits)
    }

    /// Reads a part of a line.
    fn fragment(&mut self, fragment: &[u8]) -> Result<(), Unconvertible> {
        let ends = fragment.ends_with(b"\n");
        self.line.carriage_returns += fragment.iter().filter(|octet| **octet == b'\r').count();
        if ends && (self.line.carriage_returns != 1 || !self.line.ends_with_cr(fragment)) {
            return Err(Unconvertible::BareLineEnd);
        }
        self.line.last = fragment.last().copied().unwrap_or_default();
        let mut rest = fragment;
        if !self.line.has_begun {
            let room = MAX_HEAD_OCTETS - self.line.head.len();
            let (head, behind) = fragment.split_at_checked(room).unwrap_or((fragment, &[]));
            self.line.head.extend_from_slice(head);
            rest = behind;
            if !ends && self.line.head.len() < MAX_HEAD_OCTETS {
                return Ok(());
            }
            self.begin_line(ends && rest.is_empty())?;
        }
        if !rest.is_empty() {
            self.octets(rest, false)?;
        }
        if ends { self.end_line(2) } else { Ok(()) }
    }

    /// Reads what there is of a line, which is all of it if `is_whole`.
    fn begin_line(&mut self, is_whole: bool) -> Result<(), Unconvertible> {
        self.line.has_begun = true;
        let mut head = std::mem::take(&mut self.line.head);
        let read = self.head(&head, is_whole);
        head.clear();
        self.line.head = head;
        read
    }

    fn head(&mut self, head: &[u8], is_whole: bool) -> Result<(), Unconvertible> {
        if let Some(delimiter) = self.delimiter(head, is_whole)? {
            return self.delimit(delimiter, to_u64(head.len()));
        }
        if head == b"\r\n" && matches!(self.place, Place::Header(_)) {
            self.line.octets = 2;
            return self.end_header();
        }
        if let Place::Header(header) = &mut self.place {
            header.begin(self.line.at, head)?;
        }
        self.octets(head, true)
    }

    /// Reads octets of a line that is no delimiter. The header has had `is_head`.
    fn octets(&mut self, octets: &[u8], is_head: bool) -> Result<(), Unconvertible> {
        let at = self.line.at + self.line.octets;
        self.line.octets += to_u64(octets.len());
        match &mut self.place {
            Place::Header(header) => {
                if !is_head {
                    header.more(octets)?;
                }
                header.look_at(at, octets);
                let edits = header.edits();
                self.has_room_for(edits)
            }
            Place::Leaf(leaf) => {
                leaf.push(octets);
                Ok(())
            }
            Place::Between if self.seven_bit && !octets.is_ascii() => {
                Err(Unconvertible::Malformed("it has octets above 127 outside of its parts"))
            }
            Place::Between => Ok(()),
        }
    }

    /// Ends a line, whose line end has so many octets.
    fn end_line(&mut self, line_end: u64) -> Result<(), Unconvertible> {
        let end = self.line.at + self.line.octets;
        let is_long = self.line.octets > to_u64(MAX_LINE_OCTETS) + line_end;
        match &mut self.place {
            Place::Header(header) => header.end_line(end),
            Place::Leaf(leaf) if is_long => leaf.has_long_line(),
            Place::Leaf(_) | Place::Between => {}
        }
        let head = std::mem::take(&mut self.line.head);
        self.line = Line { at: end, head, ..Line::default() };
        Ok(())
    }

    /// Ends a header section at the line that is being read, which is empty.
    fn end_header(&mut self) -> Result<(), Unconvertible> {
        let Place::Header(header) = std::mem::replace(&mut self.place, Place::Between) else { return Ok(()) };
        let entity = header.finish(self.line.at)?;
        self.encoded(entity.encoded_octets)?;
        let body = self.line.at + self.line.octets;
        let is_encoded = matches!(entity.encoding, Encoding::QuotedPrintable | Encoding::Base64 | Encoding::Unknown);
        match &entity.media {
            Media::Multipart(_) if is_encoded => Err(Unconvertible::Malformed("a multipart type has an encoding")),
            Media::Multipart(multipart) => {
                let boundary = &multipart.boundary;
                if self.open.iter().any(|open| is_mistakable(&open.boundary, boundary)) {
                    return Err(Unconvertible::Malformed("two parts have the same boundary"));
                }
                let open = Open {
                    boundary: boundary.clone(),
                    is_digest: multipart.is_digest,
                    sealed: entity.sealed,
                    depth: self.depth,
                };
                self.open.push(open);
                self.deeper()?;
                self.container(entity)
            }
            Media::Message if !is_encoded => {
                self.deeper()?;
                self.place = Place::Header(Box::new(Header::of_message(entity.sealed, self.seven_bit)));
                self.container(entity)
            }
            Media::Text | Media::Message | Media::AboutMessages | Media::Pkcs7 | Media::Other => {
                let leaf = Leaf::new(entity, body);
                let edits = leaf.edits();
                self.place = Place::Leaf(Box::new(leaf));
                self.has_room_for(edits)
            }
        }
    }

    /// Counts what header fields have once they are ASCII.
    fn encoded(&mut self, octets: usize) -> Result<(), Unconvertible> {
        self.encoded_octets += octets;
        if self.encoded_octets > MAX_ENCODED_OCTETS {
            return Err(Unconvertible::Malformed("it has too much that is to be changed in header sections"));
        }
        Ok(())
    }

    fn deeper(&mut self) -> Result<(), Unconvertible> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(Unconvertible::Malformed("its parts are nested too deeply")) } else { Ok(()) }
    }

    /// Changes the header section of what has parts.
    fn container(&mut self, entity: Entity) -> Result<(), Unconvertible> {
        let mut edits = entity.edits;
        if entity.sealed.is_none() {
            let relabel = self.seven_bit && entity.encoding == Encoding::EightBit;
            edits.extend(entity.fields.of_container(relabel));
        }
        edits.sort_by_key(|edit| edit.from);
        self.edits.extend(edits);
        self.has_room_for(0)
    }

    /// What the line is among the parts, if it is something.
    fn delimiter(&self, head: &[u8], is_whole: bool) -> Result<Option<Delimiter>, Unconvertible> {
        let Some(text) = head.strip_prefix(b"--") else { return Ok(None) };
        let begins = |open: &Open| text.starts_with(&open.boundary);
        let end =
            text.iter().rposition(|octet| !matches!(octet, b' ' | b'\t' | b'\r' | b'\n')).map_or(0, |last| last + 1);
        let line = text.get(..end).unwrap_or_default();
        let places = || self.open.iter().enumerate().rev().filter(|_| is_whole);
        for (place, open) in places() {
            if line == &*open.boundary {
                return Ok(Some(Delimiter::Next(place)));
            }
            if line.strip_suffix(b"--") == Some(&*open.boundary) {
                return Ok(Some(Delimiter::Close(place)));
            }
        }
        // RFC 2046, section 5.1.1, has readers that are content with the beginning.
        if self.open.iter().any(begins) {
            Err(Unconvertible::Malformed("a line is only the beginning of a boundary"))
        } else {
            Ok(None)
        }
    }

    /// Goes on behind a delimiter.
    fn delimit(&mut self, delimiter: Delimiter, octets: u64) -> Result<(), Unconvertible> {
        // The line end in front of it belongs to the delimiter.
        self.end_part(self.line.at, 2)?;
        self.line.octets = octets;
        let (place, ends) = match delimiter {
            Delimiter::Next(place) => (place, false),
            Delimiter::Close(place) => (place, true),
        };
        self.open.truncate(place + 1);
        if let Some(open) = self.open.last() {
            self.depth = open.depth + usize::from(!ends);
            if !ends {
                self.place = Place::Header(Box::new(Header::of_part(open.sealed, open.is_digest, self.seven_bit)));
            }
        }
        if ends {
            self.open.truncate(place);
        }
        Ok(())
    }

    /// Ends the part at this place, which is followed by a line end of so many octets that is not its own.
    fn end_part(&mut self, end: u64, line_end: u64) -> Result<(), Unconvertible> {
        match std::mem::replace(&mut self.place, Place::Between) {
            // It has no content, and no empty line in front of that.
            Place::Header(header) if header.has_eight_bit() => {
                let entity = header.finish(end)?;
                self.encoded(entity.encoded_octets)?;
                self.edits.extend(entity.edits);
                self.has_room_for(0)
            }
            Place::Header(_) | Place::Between => Ok(()),
            Place::Leaf(leaf) => {
                let end = end.saturating_sub(line_end);
                let edits = leaf.finish(end, self.seven_bit)?;
                self.edits.extend(edits);
                self.has_room_for(0)
            }
        }
    }

    /// Ends the message.
    fn end(&mut self) -> Result<(), Unconvertible> {
        if self.line.carriage_returns > 0 {
            return Err(Unconvertible::BareLineEnd);
        }
        if !self.line.has_begun && !self.line.head.is_empty() {
            self.begin_line(true)?;
        }
        self.end_line(0)?;
        self.end_part(self.line.at, 0)
    }

    fn has_room_for(&self, more: usize) -> Result<(), Unconvertible> {
        if self.edits.len() + more > MAX_EDITS {
            return Err(Unconvertible::Malformed("it has too many parts to be changed"));
        }
        Ok(())
    }
}

impl Line {
    /// Whether there is a CR in front of the LF with which the line ends.
    fn ends_with_cr(&self, fragment: &[u8]) -> bool {
        fragment.ends_with(b"\r\n") || (fragment.len() == 1 && self.last == b'\r')
    }
}

/// Whether a delimiter may be that of either.
fn is_mistakable(one: &[u8], other: &[u8]) -> bool {
    one == other || one.strip_suffix(b"--") == Some(other) || other.strip_suffix(b"--") == Some(one)
}

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Enough to know a delimiter.
const MAX_HEAD_OCTETS: usize = 1024;
const MAX_DEPTH: usize = 50;
const MAX_ENCODED_OCTETS: usize = 256 * 1024;
