//! What is known of the mail transaction (RFC 5321, section 2.3.1).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::command::parameters::{HoldParameter, MailParameters, RcptParameters};
use crate::command::path::{self, PathSpan, Rules, is_postmaster};
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
    /// Zero where none is declared: what an `Option` holds beside `None` may be anything that lay on the stack, a
    /// password even.
    size: u64,
    declares_size: bool,
    body: Option<Body>,
    smtputf8: bool,
    /// What only few transactions have.
    requests: Option<Box<Requests>>,
}

/// What the client asks for by extensions that the configuration turns on.
#[derive(Clone, Debug, Default)]
struct Requests {
    ret: Option<Ret>,
    envid: Option<String>,
    deliver_by: Option<DeliverBy>,
    priority: Option<i8>,
    hold: Option<Hold>,
    requiretls: bool,
    /// By the number of their forward-path, in order.
    recipients: Vec<(usize, RecipientRequests)>,
}

/// What is asked for one recipient (RFC 3461).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct RecipientRequests {
    notify: Option<Notify>,
    original: Option<(Box<str>, Box<str>)>,
}

/// What a delivery status notification of failure should return (RFC 3461, section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ret {
    /// `FULL`: the message.
    Full,
    /// `HDRS`: its headers.
    Headers,
}

/// When a delivery status notification is wanted (RFC 3461, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Notify {
    /// On delivery.
    pub success: bool,
    /// On failure.
    pub failure: bool,
    /// On delay.
    pub delay: bool,
}

impl Notify {
    /// `NEVER`.
    pub const NEVER: Self = Self { success: false, failure: false, delay: false };
}

/// By when a message should be delivered (RFC 2852).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliverBy {
    /// In how many seconds from now; not positive where the time has passed on the way.
    pub seconds: i32,
    /// What to do then: return the message (`R`), or notify of the delay (`N`).
    pub return_it: bool,
    /// Whether a notification of relaying is wanted (`T`).
    pub trace: bool,
}

/// How long a message is to be held (RFC 4865).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// For this many seconds.
    For(u32),
    /// Until this time, as RFC 3339 writes it.
    Until(String),
}

/// What MAIL's BODY parameter declares (RFC 6152, RFC 3030).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Body {
    /// `7BIT`.
    SevenBit,
    /// `8BITMIME`.
    EightBitMime,
    /// `BINARYMIME`: any octets, lines or not, which come by BDAT.
    BinaryMime,
}

impl Envelope {
    /// The reverse-path, once MAIL has been accepted.
    #[must_use]
    pub fn reverse_path(&self) -> Option<Path<'_>> {
        self.reverse_path.map(|span| self.path(span))
    }

    /// The forward-paths, in the order in which they were given; duplicates are kept.
    pub fn forward_paths(&self) -> impl ExactSizeIterator<Item = Path<'_>> + DoubleEndedIterator {
        self.forward_paths
            .iter()
            .enumerate()
            .map(|(number, &span)| Path { requests: self.requests_for(number), ..self.path(span) })
    }

    /// The size that the client declared, in octets (RFC 1870).
    #[must_use]
    pub fn declared_size(&self) -> Option<u64> {
        self.declares_size.then_some(self.size)
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

    /// What a notification of failure should return (DSN, RFC 3461).
    #[must_use]
    pub fn ret(&self) -> Option<Ret> {
        self.requests.as_ref()?.ret
    }

    /// The client's own name for the envelope, decoded: 1–100 printable ASCII characters (DSN, RFC 3461).
    #[must_use]
    pub fn envid(&self) -> Option<&str> {
        self.requests.as_ref()?.envid.as_deref()
    }

    /// By when the message should be delivered (DELIVERBY, RFC 2852).
    #[must_use]
    pub fn deliver_by(&self) -> Option<DeliverBy> {
        self.requests.as_ref()?.deliver_by
    }

    /// The message's priority, from -9 to 9 (MT-PRIORITY, RFC 6710). Whether this client may ask for it
    /// is the embedder's to decide.
    #[must_use]
    pub fn priority(&self) -> Option<i8> {
        self.requests.as_ref()?.priority
    }

    /// How long to hold the message (FUTURERELEASE, RFC 4865).
    #[must_use]
    pub fn hold(&self) -> Option<&Hold> {
        self.requests.as_ref()?.hold.as_ref()
    }

    /// Whether the message must not be relayed without TLS (REQUIRETLS, RFC 8689).
    #[must_use]
    pub fn requires_tls(&self) -> bool {
        self.requests.as_ref().is_some_and(|requests| requests.requiretls)
    }

    fn requests_for(&self, number: usize) -> Option<&RecipientRequests> {
        let recipients = &self.requests.as_ref()?.recipients;
        let place = recipients.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        recipients.get(place).map(|(_, requests)| requests)
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
        self.size = parameters.size.unwrap_or_default();
        self.declares_size = parameters.size.is_some();
        self.body = parameters.body;
        self.smtputf8 = parameters.smtputf8;
        self.requests = Requests::of(parameters);
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

    pub(crate) fn push_forward_path(&mut self, line: &[u8], span: PathSpan, parameters: RcptParameters<'_>) {
        let Some(stored) = self.store(line, span) else { return };
        let number = self.forward_paths.len();
        self.forward_paths.push(stored);
        if let Some(requests) = RecipientRequests::of(parameters) {
            self.requests.get_or_insert_default().recipients.push((number, requests));
        }
    }

    pub(crate) fn pop_forward_path(&mut self) {
        if let Some(span) = self.forward_paths.pop() {
            self.text.truncate(span.start as usize);
        }
        let left = self.forward_paths.len();
        if let Some(requests) = &mut self.requests {
            while requests.recipients.last().is_some_and(|(number, _)| *number >= left) {
                requests.recipients.pop();
            }
        }
    }

    /// Ends the transaction. Allocations up to a size that most transactions fit in are kept.
    pub(crate) fn clear(&mut self) {
        // Taken apart, so that no field can be forgotten.
        let Self { text, reverse_path, forward_paths, auth_end, size, declares_size, body, smtputf8, requests } = self;
        text.clear();
        if text.capacity() > KEPT_TEXT_OCTETS {
            *text = String::new();
        }
        forward_paths.clear();
        if forward_paths.capacity() > KEPT_FORWARD_PATHS {
            *forward_paths = Vec::new();
        }
        (*reverse_path, *auth_end, *body, *requests) = (None, None, None, None);
        (*size, *declares_size, *smtputf8) = (0, false, false);
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
            requests: None,
        }
    }
}

impl Requests {
    fn of(parameters: MailParameters<'_>) -> Option<Box<Self>> {
        let MailParameters { ret, envid, deliver_by, priority, hold, requiretls, .. } = parameters;
        let any = ret.is_some()
            || envid.is_some()
            || deliver_by.is_some()
            || priority.is_some()
            || hold.is_some()
            || requiretls;
        any.then(|| {
            // What is decoded here was checked when the parameters were read.
            let envid = envid.map(|encoded| {
                let mut text = String::with_capacity(encoded.len());
                let _ = xtext::decode_onto(&mut text, encoded);
                text
            });
            let hold = hold.map(|hold| match hold {
                HoldParameter::For(seconds) => Hold::For(seconds),
                HoldParameter::Until(time) => Hold::Until(String::from_utf8_lossy(time).into_owned()),
            });
            Box::new(Self { ret, envid, deliver_by, priority, hold, requiretls, recipients: Vec::new() })
        })
    }
}

impl RecipientRequests {
    fn of(parameters: RcptParameters<'_>) -> Option<Self> {
        let RcptParameters { notify, original } = parameters;
        let original = original.map(|(kind, encoded)| {
            let kind = String::from_utf8_lossy(kind).into_owned();
            let mut address = String::with_capacity(encoded.len());
            let decoded = xtext::decode_onto(&mut address, encoded);
            if decoded.is_none() || kind.eq_ignore_ascii_case("utf-8") {
                address.clear();
                let _ = xtext::decode_utf8_onto(&mut address, encoded);
            }
            (kind.into(), address.into())
        });
        (notify.is_some() || original.is_some()).then_some(Self { notify, original })
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("reverse_path", &self.reverse_path())
            .field("forward_paths", &self.forward_paths().collect::<Vec<_>>())
            .field("declared_size", &self.declared_size())
            .field("body", &self.body)
            .field("auth", &self.auth())
            .field("smtputf8", &self.smtputf8)
            .field("requests", &self.requests)
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
    requests: Option<&'e RecipientRequests>,
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

    /// Whether the mailbox is in `domain`, in any case (RFC 5321, section 2.4). `<Postmaster>` is in every
    /// domain: without one it is the server's own, whatever that is called (section 4.5.1).
    ///
    /// Internationalised domains are compared as they are written: neither turned into A-labels, nor in any case
    /// beyond ASCII.
    #[must_use]
    pub fn is_in_domain(self, domain: &str) -> bool {
        match self.domain() {
            Some(own) => own.eq_ignore_ascii_case(domain),
            None => is_postmaster(self.mailbox.as_bytes()),
        }
    }

    /// Whether this is the `mailbox`, which is written with or without angle brackets. As RFC 5321, section 2.4
    /// says, domains are compared in any case, local-parts to the letter, but for `postmaster`; a local-part
    /// with quotes that it does not need is the one without them (section 4.1.2).
    ///
    /// `<Postmaster>` is postmaster's mailbox in every domain (section 4.5.1). What is no mailbox matches nothing.
    #[must_use]
    pub fn matches(self, mailbox: &str) -> bool {
        let rules =
            Rules { brackets_optional: true, utf8: true, dots_anywhere: true, underscores: true, unqualified: true };
        let read = path::parse(mailbox.as_bytes(), path::Kind::Reverse, rules);
        let Some((span, _)) = read.filter(|(_, used)| *used == mailbox.len()) else { return false };
        let other = Path {
            mailbox: mailbox.get(span.start as usize..span.end as usize).unwrap_or_default(),
            at: span.at.map(|at| (at - span.start) as usize),
            requests: None,
        };
        let both_postmaster = [self, other].iter().all(|path| is_postmaster(path.local_part().as_bytes()));
        let same_local_part = both_postmaster || unquoted(self.local_part()).eq(unquoted(other.local_part()));
        let same_domain = match (self.domain(), other.domain()) {
            (Some(own), Some(other)) => own.eq_ignore_ascii_case(other),
            (None, Some(_)) => both_postmaster,
            (own, other) => own == other,
        };
        same_local_part && same_domain
    }

    /// When a notification about this recipient is wanted (DSN, RFC 3461); `None` where the client does
    /// not say, and for a reverse-path.
    #[must_use]
    pub fn notify(self) -> Option<Notify> {
        self.requests?.notify
    }

    /// To whom the message was addressed first (DSN's ORCPT, RFC 3461): the type of the address, such as
    /// `rfc822`, and the address, decoded.
    #[must_use]
    pub fn original_recipient(self) -> Option<(&'e str, &'e str)> {
        self.requests?.original.as_ref().map(|(kind, address)| (&**kind, &**address))
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

/// The characters of a local-part without the quoting that they are written with.
fn unquoted(local_part: &str) -> impl Iterator<Item = char> + '_ {
    let content = local_part.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let (content, quoted) = content.map_or((local_part, false), |content| (content, true));
    let mut escaped = false;
    content.chars().filter(move |&character| {
        escaped = quoted && !escaped && character == '\\';
        !escaped
    })
}

const KEPT_TEXT_OCTETS: usize = 256;
const KEPT_FORWARD_PATHS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn path(mailbox: &str) -> Path<'_> {
        Path { mailbox, at: mailbox.rfind('@'), requests: None }
    }

    #[test]
    fn domains_are_compared_in_any_case_and_postmaster_is_in_each() {
        for mailbox in ["a@example.org", "a@EXAMPLE.Org", "Postmaster", "POSTMASTER", "postmaster@example.org"] {
            assert!(
                path(mailbox).is_in_domain("example.org") && path(mailbox).is_in_domain("Example.ORG"),
                "{mailbox}"
            );
        }
        for mailbox in ["", "a@example.org.evil", "a@notexample.org", "a@sub.example.org", "root", "postmaster@evil"] {
            assert!(!path(mailbox).is_in_domain("example.org"), "{mailbox}");
        }
        assert!(path("a@[IPv6:::1]").is_in_domain("[ipv6:::1]"));
    }

    #[test]
    fn mailboxes_are_compared_as_rfc_5321_says() {
        for (mailbox, other) in [
            ("Tim@example.org", "Tim@EXAMPLE.org"),
            ("Tim@example.org", "<Tim@example.org>"),
            ("\"Tim\"@example.org", "Tim@example.org"),
            ("Tim@example.org", "\"T\\im\"@example.org"),
            ("\"a b\"@example.org", "\"a\\ b\"@example.org"),
            ("\"a\\\\b\"@example.org", "\"\\a\\\\b\"@example.org"),
            ("POSTMASTER@example.org", "postmaster@example.org"),
            ("Postmaster", "postmaster"),
            ("Postmaster", "postmaster@example.org"),
            ("root", "root"),
            ("", "<>"),
        ] {
            assert!(path(mailbox).matches(other), "{mailbox} {other}");
        }
        for (mailbox, other) in [
            ("tim@example.org", "Tim@example.org"),
            ("tim@example.org", "tim@example.com"),
            ("tim@example.org", "tim"),
            ("tim@example.org", "tim@example.org x"),
            ("tim@example.org", ""),
            ("postmaster@example.org", "postmaster"),
            ("root", "root@example.org"),
            ("", "tim@example.org"),
            ("\"a\\\\b\"@example.org", "\"ab\"@example.org"),
        ] {
            assert!(!path(mailbox).matches(other), "{mailbox} {other}");
        }
    }
}
