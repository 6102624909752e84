//! What is known of the mail transaction (RFC 5321, section 2.3.1).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::command::parameters::MailParameters;
use crate::command::path::PathSpan;
use crate::command::xtext;

/// The envelope of the mail transaction in progress: reverse-path, MAIL's parameters, forward-paths.
///
/// While a hook is asked about a path, the envelope contains it already; a refusal takes it out again.
#[derive(Clone, Default)]
pub struct Envelope {
    /// Reverse-path, AUTH identity and forward-paths, one after the other: their allocation serves
    /// every transaction of the connection.
    text: String,
    reverse_path: Option<PathSpan>,
    forward_paths: Vec<PathSpan>,
    /// Where the decoded AUTH parameter ends; it begins where the reverse-path ends.
    auth_end: Option<u32>,
    size: Option<u64>,
    body: Option<Body>,
    smtputf8: bool,
}

/// What MAIL's BODY parameter declares (RFC 6152).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Body {
    /// `7BIT`.
    SevenBit,
    /// `8BITMIME`.
    EightBitMime,
}

impl Envelope {
    /// The reverse-path, once MAIL has been accepted.
    #[must_use]
    pub fn reverse_path(&self) -> Option<Path<'_>> {
        self.reverse_path.map(|span| self.path(span))
    }

    /// The forward-paths, in the order in which they were given; duplicates are kept.
    pub fn forward_paths(&self) -> impl ExactSizeIterator<Item = Path<'_>> + DoubleEndedIterator {
        self.forward_paths.iter().map(|&span| self.path(span))
    }

    /// The size that the client declared, in octets (RFC 1870).
    #[must_use]
    pub fn declared_size(&self) -> Option<u64> {
        self.size
    }

    /// What the client declared of the content's octets (RFC 6152).
    #[must_use]
    pub fn body(&self) -> Option<Body> {
        self.body
    }

    /// Whether the message needs internationalised mail (RFC 6531).
    #[must_use]
    pub fn is_smtputf8(&self) -> bool {
        self.smtputf8
    }

    /// Who submitted the message first, by MAIL's AUTH parameter (RFC 4954, section 5): `None` when
    /// it was not given, `Some("")` for `AUTH=<>`.
    ///
    /// From a client that has not authenticated it is always `<>`, as the RFC requires. Whether an
    /// authenticated client is trusted to say it is the embedder's decision.
    #[must_use]
    pub fn auth(&self) -> Option<&str> {
        let start = self.reverse_path?.end as usize;
        self.text.get(start..self.auth_end? as usize)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.reverse_path.is_some()
    }

    pub(crate) fn recipients(&self) -> usize {
        self.forward_paths.len()
    }

    /// Opens the transaction. `path` is the mailbox that `span` describes.
    pub(crate) fn open(&mut self, line: &[u8], span: PathSpan, parameters: MailParameters<'_>, trust_auth: bool) {
        self.clear();
        self.reverse_path = self.store(line, span);
        self.size = parameters.size;
        self.body = parameters.body;
        self.smtputf8 = parameters.smtputf8;
        if let Some(auth) = parameters.auth {
            let before = self.text.len();
            // It was checked when the parameters were read.
            let _ = xtext::decode_onto(&mut self.text, auth);
            if !trust_auth || self.text.get(before..) == Some("<>") {
                self.text.truncate(before);
            }
            self.auth_end = u32::try_from(self.text.len()).ok();
        }
    }

    pub(crate) fn push_forward_path(&mut self, line: &[u8], span: PathSpan) {
        let stored = self.store(line, span);
        self.forward_paths.extend(stored);
    }

    pub(crate) fn pop_forward_path(&mut self) {
        if let Some(span) = self.forward_paths.pop() {
            self.text.truncate(span.start as usize);
        }
    }

    /// Ends the transaction. Allocations up to a size that most transactions fit in are kept.
    pub(crate) fn clear(&mut self) {
        // Taken apart, so that no field can be forgotten.
        let Self { text, reverse_path, forward_paths, auth_end, size, body, smtputf8 } = self;
        text.clear();
        if text.capacity() > KEPT_TEXT_OCTETS {
            *text = String::new();
        }
        forward_paths.clear();
        if forward_paths.capacity() > KEPT_FORWARD_PATHS {
            *forward_paths = Vec::new();
        }
        (*reverse_path, *auth_end, *size, *body, *smtputf8) = (None, None, None, None, false);
    }

    fn store(&mut self, line: &[u8], span: PathSpan) -> Option<PathSpan> {
        let mailbox = line.get(span.start as usize..span.end as usize)?;
        let start = u32::try_from(self.text.len()).ok()?;
        self.text.push_str(core::str::from_utf8(mailbox).ok()?);
        let moved = |at: u32| at - span.start + start;
        Some(PathSpan { start, end: moved(span.end), at: span.at.map(moved) })
    }

    fn path(&self, span: PathSpan) -> Path<'_> {
        Path {
            mailbox: self.text.get(span.start as usize..span.end as usize).unwrap_or_default(),
            at: span.at.map(|at| (at - span.start) as usize),
        }
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("reverse_path", &self.reverse_path())
            .field("forward_paths", &self.forward_paths().collect::<Vec<_>>())
            .field("declared_size", &self.size)
            .field("body", &self.body)
            .field("auth", &self.auth())
            .field("smtputf8", &self.smtputf8)
            .finish()
    }
}

/// A reverse-path or forward-path: a mailbox, the null reverse-path, or `<Postmaster>`.
///
/// `Display` writes it with its angle brackets.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path<'e> {
    mailbox: &'e str,
    at: Option<usize>,
}

impl<'e> Path<'e> {
    /// The mailbox as the client wrote it, without angle brackets and source route; empty for the null
    /// reverse-path.
    #[must_use]
    pub fn as_str(self) -> &'e str {
        self.mailbox
    }

    /// Whether this is the null reverse-path, `<>`.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.mailbox.is_empty()
    }

    /// The local-part as it was written, quotes included; the whole of `<Postmaster>`.
    #[must_use]
    pub fn local_part(self) -> &'e str {
        self.at.map_or(self.mailbox, |at| self.mailbox.get(..at).unwrap_or_default())
    }

    /// The domain or address literal; `None` for `<>` and `<Postmaster>`.
    #[must_use]
    pub fn domain(self) -> Option<&'e str> {
        self.mailbox.get(self.at? + 1..)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.mailbox)
    }
}

impl fmt::Debug for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

const KEPT_TEXT_OCTETS: usize = 256;
const KEPT_FORWARD_PATHS: usize = 4;
