//! Who may send as whom: "sender and login belong together" (RFC 6409, section 6.1).
//!
//! A login may send from its own addresses only, in MAIL's reverse-path and in the header: [`SenderPolicy`] says which
//! those are, and checks both. What is kept of a login's addresses is for the embedder to look up, for example by
//! `Authenticator::addresses` of `sansmtp-authenticators`.
//!
//! ```
//! use sansmtp_relay::QueueId;
//! use sansmtp_relay::senders::{CurrentSender, KnownAddresses, SenderPolicy};
//! use sansmtp_relay::submission::Submission;
//!
//! let policy = SenderPolicy::new("mx.example.org").pattern("{user}@example.org".parse()?);
//! let look_up = |login: &str| match login {
//!     "tim" => KnownAddresses::These(vec!["tim.public@example.org".to_owned()]),
//!     _ => KnownAddresses::These(Vec::new()),
//! };
//!
//! // One for each connection: who is logged in there is looked up once.
//! let mut sender = CurrentSender::default();
//! policy.check_reverse_path(&mut sender, "tim", "tim@example.org", look_up)?;
//! let refused = policy.check_reverse_path(&mut sender, "tim", "boss@example.org", look_up).unwrap_err();
//! assert_eq!(refused.code(), 550);
//!
//! let mut message = Submission::new("mx.example.org", &QueueId::new());
//! message.push(b"From: The Boss <boss@example.org>\r\n\r\nHello\r\n", |_| Ok(()))?;
//! assert!(policy.check_header(&mut sender, "tim", message.originators(), look_up).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is checked
//!
//! - MAIL's reverse-path. The null one, `<>`, anybody may use: a user's program answers with it that a message was read
//!   (RFC 8098, section 2.1), for example.
//! - `From:`, which the recipient sees: once, with one mailbox, which is an address of the login's. Where it has several (RFC
//!   5322, section 3.6.2), one of them is, and `Sender:` has to say so. Where it is missing, as in what some devices and
//!   scripts send, the message names no author; a server that adds it takes the reverse-path.
//! - `Sender:`, where it is there: one mailbox, which is an address of the login's.
//!
//! `Resent-From:` is not looked at, and is no excuse for another `From:`. Display names are anybody's to choose. What stands
//! in a field that is no address list, or not clearly, is refused, as readers of mail differ in what they show of it.
//!
//! # Which addresses are a login's
//!
//! Those that are known of it, those that a [pattern](SenderPolicy::pattern) makes of its name, and its name, where that is
//! an address itself. Domains are compared in any case and in U-labels or A-labels, local-parts to the letter, but for
//! quotes that they do not need; [`ignore_case`](SenderPolicy::ignore_case) and
//! [`subaddress_separator`](SenderPolicy::subaddress_separator) admit more.

use std::fmt;
use std::str::FromStr;

mod address_list;
mod mailbox;
mod originators;

use mailbox::{Mailbox, canonical_domain, is_dot_string};
pub use originators::{Field, HeaderFault, Originators};

/// Which addresses a login may send from. See the [module](self).
#[derive(Clone, Debug)]
pub struct SenderPolicy {
    hostname: String,
    patterns: Vec<SenderPattern>,
    ignore_case: bool,
    subaddress_separator: Option<char>,
}

/// An address with `{user}` where a login's name goes, `{user}@example.org`; one without it, for all logins; or all of a
/// domain, `@example.org`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderPattern(String);

/// A text is no [`SenderPattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidSenderPattern;

/// What is known of the addresses of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "it is made, and not matched, by others")]
pub enum KnownAddresses {
    /// These, of which there may be none: each an address, or all of a domain, `@example.org`. Whatever is neither counts for
    /// nothing.
    These(Vec<String>),
    /// Nobody's are known, so that nobody is to be kept from sending. With a [pattern](SenderPolicy::pattern), that is none.
    Nobodys,
    /// They cannot be found out at the moment: `451 4.3.0`.
    CannotTell,
}

/// Who sends on a connection: what was found out about them, once.
#[derive(Clone, Debug, Default)]
pub struct CurrentSender {
    login: String,
    addresses: Option<Addresses>,
}

/// Why somebody may not send a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SenderRefusal {
    /// It is none of the login's addresses: `550 5.7.1`.
    NotOwn {
        /// Who is logged in.
        login: String,
        /// The address.
        address: String,
        /// Where it stands in the header; in MAIL otherwise.
        field: Option<Field>,
        /// Whether the login has any address.
        has_any: bool,
    },
    /// The header does not say who the message is from, or not clearly: `550 5.6.0`.
    Header(HeaderFault),
    /// The login's addresses cannot be found out at the moment: `451 4.3.0`.
    CannotTell,
}

#[derive(Clone, Debug)]
enum Addresses {
    Any,
    Own { mailboxes: Vec<Mailbox>, domains: Vec<String> },
}

impl SenderPolicy {
    /// A login's name that is an address, and addresses that are known. `hostname` is the domain of addresses without one.
    pub fn new(hostname: impl Into<String>) -> Self {
        Self { hostname: hostname.into(), patterns: Vec::new(), ignore_case: false, subaddress_separator: None }
    }

    /// Adds an address to every login. A name that would need quotes in one gets none.
    #[must_use]
    pub fn pattern(mut self, pattern: SenderPattern) -> Self {
        self.patterns.push(pattern);
        self
    }

    /// Whether local-parts are compared without regard to case. Off unless changed.
    #[must_use]
    pub fn ignore_case(mut self, ignored: bool) -> Self {
        self.ignore_case = ignored;
        self
    }

    /// Makes `tim+anything@example.org` an address of whose `tim@example.org` is, with `+` as the separator (RFC 5233,
    /// section 1). None unless set: who has not set it up so may give `tim+x` to somebody else.
    #[must_use]
    pub fn subaddress_separator(mut self, separator: Option<char>) -> Self {
        self.subaddress_separator = separator;
        self
    }

    /// Whether this login may send from the reverse-path, without angle brackets, empty if null. `look_up` is asked for its
    /// addresses, unless they were found out before and the reverse-path is among them.
    ///
    /// # Errors
    /// Why not, for the reply to MAIL.
    pub fn check_reverse_path(
        &self,
        sender: &mut CurrentSender,
        login: &str,
        reverse_path: &str,
        look_up: impl FnMut(&str) -> KnownAddresses,
    ) -> Result<(), SenderRefusal> {
        if reverse_path.is_empty() {
            return Ok(());
        }
        let mailbox = if reverse_path.contains('@') {
            Mailbox::parse(reverse_path)
        } else {
            Mailbox::parse(&format!("{reverse_path}@{}", self.hostname))
        };
        self.check(sender, login, look_up, |addresses| match (addresses, &mailbox) {
            (Addresses::Any, _) => Ok(()),
            (_, Some(mailbox)) if self.owns(addresses, mailbox) => Ok(()),
            _ => Err(not_own(login, reverse_path.to_owned(), None, addresses)),
        })
    }

    /// Whether this login may send a message with such a header, of which all has to have come.
    ///
    /// # Errors
    /// Why not, for the reply to the end of the mail data.
    pub fn check_header(
        &self,
        sender: &mut CurrentSender,
        login: &str,
        header: &Originators,
        look_up: impl FnMut(&str) -> KnownAddresses,
    ) -> Result<(), SenderRefusal> {
        self.check(sender, login, look_up, |addresses| {
            if matches!(addresses, Addresses::Any) {
                return Ok(());
            }
            let authors = header.authors(&self.hostname).map_err(SenderRefusal::Header)?;
            let foreign = |mailbox: &&Mailbox| !self.owns(addresses, mailbox);
            // Of several, each could be the one who sends.
            let from = authors.from.first().filter(|_| authors.from.iter().all(|mailbox| foreign(&mailbox)));
            let names = authors.names.iter().map(|(field, mailbox)| (*field, mailbox));
            let all = from.map(|mailbox| (Field::From, mailbox)).into_iter();
            let all = all.chain(authors.sender.as_ref().map(|mailbox| (Field::Sender, mailbox))).chain(names);
            match all.into_iter().find(|(_, mailbox)| foreign(mailbox)) {
                Some((field, mailbox)) => Err(not_own(login, mailbox.to_string(), Some(field), addresses)),
                None => Ok(()),
            }
        })
    }

    /// Judges by what was found out before, and if that leads to a refusal, by what is so now.
    fn check(
        &self,
        sender: &mut CurrentSender,
        login: &str,
        mut look_up: impl FnMut(&str) -> KnownAddresses,
        judge: impl Fn(&Addresses) -> Result<(), SenderRefusal>,
    ) -> Result<(), SenderRefusal> {
        let known = sender.addresses.as_ref().filter(|_| sender.login == login);
        if known.is_some_and(|addresses| judge(addresses).is_ok()) {
            return Ok(());
        }
        *sender = CurrentSender::default();
        let addresses = match look_up(login) {
            KnownAddresses::CannotTell => return Err(SenderRefusal::CannotTell),
            KnownAddresses::Nobodys if self.patterns.is_empty() => Addresses::Any,
            KnownAddresses::Nobodys => self.addresses(login, &[]),
            KnownAddresses::These(addresses) => self.addresses(login, &addresses),
        };
        let judged = judge(&addresses);
        *sender = CurrentSender { login: login.to_owned(), addresses: Some(addresses) };
        judged
    }

    fn addresses(&self, login: &str, known: &[String]) -> Addresses {
        let of_patterns = self.patterns.iter().filter_map(|pattern| pattern.fill(login));
        // A name is one address, and never a domain.
        let name = Mailbox::parse(login).map(|_| login.to_owned());
        let (mut mailboxes, mut domains) = (Vec::new(), Vec::new());
        for address in known.iter().cloned().chain(of_patterns).chain(name) {
            match address.strip_prefix('@') {
                Some(domain) => domains.extend(canonical_domain(domain)),
                None => mailboxes.extend(Mailbox::parse(&address).map(|mailbox| self.compared(mailbox))),
            }
        }
        Addresses::Own { mailboxes, domains }
    }

    fn owns(&self, addresses: &Addresses, mailbox: &Mailbox) -> bool {
        let Addresses::Own { mailboxes, domains } = addresses else { return true };
        let mailbox = self.compared(mailbox.clone());
        let user = self.subaddress_separator.and_then(|separator| {
            let (user, _) = mailbox.local_part.split_once(separator)?;
            Mailbox::new(user.to_owned(), &mailbox.domain)
        });
        domains.contains(&mailbox.domain)
            || mailboxes.contains(&mailbox)
            || user.is_some_and(|user| mailboxes.contains(&user))
    }

    fn compared(&self, mailbox: Mailbox) -> Mailbox {
        let Mailbox { local_part, domain } = mailbox;
        Mailbox { local_part: if self.ignore_case { local_part.to_lowercase() } else { local_part }, domain }
    }
}

impl SenderPattern {
    fn fill(&self, login: &str) -> Option<String> {
        if !self.0.contains(USER) {
            return Some(self.0.clone());
        }
        // Quotes around a name would make it another one's address.
        let filled = self.0.replace(USER, Some(login).filter(|login| is_dot_string(login))?);
        is_address_or_domain(&filled).then_some(filled)
    }
}

impl FromStr for SenderPattern {
    type Err = InvalidSenderPattern;

    fn from_str(text: &str) -> Result<Self, InvalidSenderPattern> {
        let example = text.replace(USER, "user");
        let braces = example.contains(['{', '}']);
        if !braces && is_address_or_domain(&example) { Ok(Self(text.to_owned())) } else { Err(InvalidSenderPattern) }
    }
}

impl fmt::Display for InvalidSenderPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a pattern is {user}@example.org, with the login's name for {user}, or @example.org for all of a domain",
        )
    }
}

impl std::error::Error for InvalidSenderPattern {}

impl SenderRefusal {
    /// The code of the reply: 550 or 451.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::NotOwn { .. } | Self::Header(_) => 550,
            Self::CannotTell => 451,
        }
    }

    /// The enhanced status code of the reply: its class, subject and detail (RFC 3463).
    #[must_use]
    pub fn enhanced_code(&self) -> (u8, u16, u16) {
        match self {
            Self::NotOwn { .. } => (5, 7, 1),
            Self::Header(_) => (5, 6, 0),
            Self::CannotTell => (4, 3, 0),
        }
    }
}

/// The text of the reply, which fits into one, in ASCII.
impl fmt::Display for SenderRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOwn { login, address, field, has_any } => {
                let (login, address) = (Shown(login), Shown(address));
                match field {
                    Some(field) => write!(f, "{field} has {address}, which is no address of the login {login}")?,
                    None => write!(f, "{address} is no address of the login {login}")?,
                }
                f.write_str(if *has_any {
                    "; send from one of yours, or have it added by who runs this server"
                } else {
                    ", which has none yet; have it added by who runs this server"
                })
            }
            Self::Header(fault) => fault.fmt(f),
            Self::CannotTell => f.write_str("Whose address it is cannot be found out now; try again later"),
        }
    }
}

impl std::error::Error for SenderRefusal {}

/// A text of the client's, made safe for a reply.
struct Shown<'t>(&'t str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut characters = self.0.chars();
        for character in characters.by_ref().take(MAX_SHOWN) {
            let shown = if matches!(character, ' '..='~') { character } else { '?' };
            write!(f, "{shown}")?;
        }
        if characters.next().is_some() { f.write_str("...") } else { Ok(()) }
    }
}

fn not_own(login: &str, address: String, field: Option<Field>, addresses: &Addresses) -> SenderRefusal {
    let has_any = match addresses {
        Addresses::Any => true,
        Addresses::Own { mailboxes, domains } => !(mailboxes.is_empty() && domains.is_empty()),
    };
    SenderRefusal::NotOwn { login: login.to_owned(), address, field, has_any }
}

fn is_address_or_domain(text: &str) -> bool {
    match text.strip_prefix('@') {
        Some(domain) => canonical_domain(domain).is_some(),
        None => Mailbox::parse(text).is_some(),
    }
}

const USER: &str = "{user}";

/// Of an address or a login, so many characters are shown: a line of a reply has 512 octets.
const MAX_SHOWN: usize = 120;

#[cfg(test)]
mod tests;
