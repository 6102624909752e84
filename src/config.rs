//! The configuration: built once, checked once, shared by every connection of a listener.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::ops::BitOr;
use core::time::Duration;

use crate::auth::{Auth, MechanismName, Unusable};
use crate::command::path::is_domain_or_literal;
use crate::ehlo::{EhloReplies, Listing};
use crate::extensions::Extensions;
use crate::framing::content::DotFinder;
use crate::proxy::Proxy;
use crate::session::Peer;
use crate::xclient::XClient;

/// What a listener's connections have in common.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) hostname: String,
    /// The 220 greeting, encoded.
    pub(crate) greeting: String,
    /// The 221 reply, encoded.
    pub(crate) closing: String,
    /// The reply to HELO, encoded.
    pub(crate) helo: String,
    pub(crate) ehlo: EhloReplies,
    pub(crate) dots: DotFinder,
    pub(crate) entropy: Entropy,
    pub(crate) auth: Option<Auth>,
    pub(crate) auth_required: bool,
    pub(crate) starttls: bool,
    pub(crate) tls_required: bool,
    pub(crate) smtputf8: bool,
    pub(crate) newlines: Newlines,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    pub(crate) hooks: Hooks,
    pub(crate) quirks: Quirks,
    pub(crate) extensions: Extensions,
    pub(crate) lmtp: bool,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) xclient: Option<XClient>,
}

impl Config {
    /// Begins a configuration. `hostname` is the name that the server gives itself in replies: a domain
    /// or an address literal.
    pub fn builder(hostname: impl Into<String>) -> ConfigBuilder {
        ConfigBuilder {
            hostname: hostname.into(),
            banner: "ESMTP".into(),
            entropy: Entropy::default(),
            auth: None,
            auth_required: false,
            starttls: false,
            implicit_tls: false,
            tls_required: false,
            smtputf8: false,
            newlines: Newlines::Refuse,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            hooks: Hooks::NONE,
            quirks: Quirks::default(),
            extensions: Extensions::default(),
            lmtp: false,
            proxy: None,
            xclient: None,
        }
    }

    /// The name that the server gives itself.
    #[must_use]
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// Whether a mechanism wants to know how the TLS connection can be told from others.
    #[cfg(feature = "rustls")]
    pub(crate) fn binds_channels(&self) -> bool {
        self.auth.iter().flat_map(|auth| &auth.mechanisms).any(|offer| offer.needs().channel_binding)
    }

    /// The hooks that the engine asks.
    #[must_use]
    pub fn hooks(&self) -> Hooks {
        self.hooks
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The timeouts in force.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Whether STARTTLS is offered.
    #[must_use]
    pub fn offers_starttls(&self) -> bool {
        self.starttls
    }

    /// Whether a connection from `peer` begins with a header of the PROXY protocol, for whoever counts or
    /// filters connections by their address: this one is not the client's.
    #[must_use]
    pub fn expects_proxy_header(&self, peer: Peer) -> bool {
        self.proxy.as_ref().is_some_and(|proxy| proxy.expects_header_from(peer))
    }
}

/// Makes a [`Config`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ConfigBuilder {
    hostname: String,
    banner: String,
    entropy: Entropy,
    auth: Option<Auth>,
    auth_required: bool,
    starttls: bool,
    implicit_tls: bool,
    tls_required: bool,
    smtputf8: bool,
    newlines: Newlines,
    limits: Limits,
    timeouts: Timeouts,
    hooks: Hooks,
    quirks: Quirks,
    extensions: Extensions,
    lmtp: bool,
    proxy: Option<Proxy>,
    xclient: Option<XClient>,
}

impl ConfigBuilder {
    /// The text behind the host name in the greeting. `ESMTP` unless changed; it may begin with it.
    pub fn banner(mut self, banner: impl Into<String>) -> Self {
        self.banner = banner.into();
        self
    }

    /// Offers AUTH (RFC 4954).
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = Some(auth);
        self
    }

    /// Refuses MAIL, RCPT, DATA, VRFY, EXPN and HELP with `530 5.7.0` before a successful AUTH.
    pub fn auth_required(mut self, required: bool) -> Self {
        self.auth_required = required;
        self
    }

    /// Offers STARTTLS (RFC 3207). Whoever drives the connection must be able to do the handshake.
    pub fn starttls(mut self, offered: bool) -> Self {
        self.starttls = offered;
        self
    }

    /// Says that connections can be under TLS from their start (RFC 8314, section 3). It changes nothing
    /// but what [`build`](Self::build) takes for a mistake: whether a connection is under TLS, the
    /// connection knows.
    pub fn implicit_tls(mut self, possible: bool) -> Self {
        self.implicit_tls = possible;
        self
    }

    /// Refuses everything but EHLO, HELO, NOOP, RSET, STARTTLS and QUIT with `530 5.7.0` until TLS is
    /// active (RFC 3207, section 4).
    pub fn tls_required(mut self, required: bool) -> Self {
        self.tls_required = required;
        self
    }

    /// Offers SMTPUTF8 (RFC 6531). Off unless changed: whatever stores or forwards the message must be
    /// able to handle it.
    pub fn smtputf8(mut self, offered: bool) -> Self {
        self.smtputf8 = offered;
        self
    }

    /// What to do with line ends in the content that are not CRLF.
    pub fn newlines(mut self, newlines: Newlines) -> Self {
        self.newlines = newlines;
        self
    }

    /// Where nonces come from: `fill` fills its argument with random octets, and says whether it could.
    /// The operating system's source unless changed; without the feature `std` there is none.
    ///
    /// A fixed one makes a whole exchange repeatable, in tests.
    pub fn entropy(mut self, fill: impl Fn(&mut [u8]) -> bool + Send + Sync + 'static) -> Self {
        self.entropy = Entropy { fill: Arc::new(fill) };
        self
    }

    /// Sets the limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the timeouts.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Which hooks a connection asks; [`Hooks::NONE`] unless changed. Adapters ask what their handler has,
    /// by [`Connection::set_hooks`](crate::Connection::set_hooks).
    pub fn hooks(mut self, hooks: Hooks) -> Self {
        self.hooks = hooks;
        self
    }

    /// Bends the RFCs for clients that need it.
    pub fn quirks(mut self, quirks: Quirks) -> Self {
        self.quirks = quirks;
        self
    }

    /// Offers further ESMTP extensions.
    pub fn extensions(mut self, extensions: Extensions) -> Self {
        self.extensions = extensions;
        self
    }

    /// Speaks LMTP (RFC 2033): LHLO in place of HELO and EHLO, and a reply for each recipient behind the
    /// content ([`Verdict::Recipients`](crate::Verdict::Recipients)). Not for port 25 (section 5).
    pub fn lmtp(mut self, lmtp: bool) -> Self {
        self.lmtp = lmtp;
        self
    }

    /// Expects a header of the PROXY protocol from the peers that it trusts, and from nobody else. See
    /// [`proxy`](crate::proxy).
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = Some(proxy);
        self
    }

    /// Offers XCLIENT to the peers that it trusts, and refuses it with `550 5.7.0` to anybody else. See
    /// [`xclient`](crate::xclient). Unless it is called, XCLIENT is a command that is not known.
    pub fn xclient(mut self, xclient: XClient) -> Self {
        self.xclient = Some(xclient);
        self
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] says which option is wrong and why; one that could never work, such as an AUTH
    /// that no connection would ever be offered, is refused here.
    pub fn build(self) -> Result<Arc<Config>, ConfigError> {
        if !is_domain_or_literal(self.hostname.as_bytes()) || !self.hostname.is_ascii() {
            return Err(ConfigError::Hostname);
        }
        let greeting = format!("220 {} {}", self.hostname, self.banner);
        let printable = greeting.bytes().all(|octet| matches!(octet, b' '..=b'~'));
        if !printable || greeting.len() > MAX_GREETING_OCTETS {
            return Err(ConfigError::Banner);
        }
        let tls_offloaded = self.proxy.as_ref().is_some_and(Proxy::believes_offloaded_tls);
        let tls_possible = self.starttls || self.implicit_tls || tls_offloaded;
        if self.tls_required && !tls_possible {
            return Err(ConfigError::TlsRequiredButImpossible);
        }
        let mut auth = self.auth;
        match &mut auth {
            Some(auth) => {
                auth.settle(&self.entropy).map_err(|unusable| match unusable {
                    Unusable::Name(name) => ConfigError::MechanismName(name),
                    Unusable::PolicyForNothing(name) => ConfigError::PolicyForNothing(name),
                    Unusable::TooMany => ConfigError::TooManyMechanisms,
                    Unusable::NoEntropy => ConfigError::NoEntropy,
                })?;
                if auth.mechanisms.is_empty() && !auth.takeover {
                    return Err(ConfigError::NoMechanism);
                }
                if auth.is_for_tls_only() && !tls_possible {
                    return Err(ConfigError::AuthNeedsTls);
                }
                if auth.max_failures == 0 {
                    return Err(ConfigError::ZeroLimit("max_failures"));
                }
            }
            None if self.auth_required => return Err(ConfigError::AuthRequiredButAbsent),
            None => {}
        }
        self.extensions.check()?;
        for (limit, name) in [
            (self.limits.max_message_octets == 0, "max_message_octets"),
            (self.limits.max_content_line_octets == 0, "max_content_line_octets"),
            (self.limits.max_recipients == 0, "max_recipients"),
            (self.limits.max_unrecognized_commands == 0, "max_unrecognized_commands"),
            (self.limits.max_commands == Some(0), "max_commands"),
            (self.limits.max_errors == Some(0), "max_errors"),
            (self.limits.max_transactions == Some(0), "max_transactions"),
            (self.timeouts.session.is_some_and(|session| session.is_zero()), "timeouts.session"),
            (self.timeouts.command.is_zero(), "timeouts.command"),
            (self.timeouts.content.is_zero(), "timeouts.content"),
            (self.timeouts.message.is_zero(), "timeouts.message"),
            (self.timeouts.answer.is_zero(), "timeouts.answer"),
            (self.timeouts.write.is_zero(), "timeouts.write"),
            (self.proxy.as_ref().is_some_and(|proxy| proxy.header_timeout().is_zero()), "proxy.timeout"),
        ] {
            if limit {
                return Err(ConfigError::ZeroLimit(name));
            }
        }
        let ehlo = EhloReplies::new(&Listing {
            hostname: &self.hostname,
            limits: self.limits,
            smtputf8: self.smtputf8,
            auth: auth.as_ref(),
            quirks: self.quirks,
            extensions: &self.extensions,
        });
        Ok(Arc::new(Config {
            helo: format!("250 {}\r\n", self.hostname),
            ehlo,
            dots: DotFinder::new(),
            entropy: self.entropy,
            greeting: greeting + "\r\n",
            closing: format!("221 2.0.0 {} closes the connection\r\n", self.hostname),
            hostname: self.hostname,
            auth,
            auth_required: self.auth_required,
            starttls: self.starttls,
            tls_required: self.tls_required,
            smtputf8: self.smtputf8,
            newlines: self.newlines,
            limits: self.limits,
            timeouts: self.timeouts,
            hooks: self.hooks,
            quirks: self.quirks,
            extensions: self.extensions,
            lmtp: self.lmtp,
            proxy: self.proxy,
            xclient: self.xclient,
        }))
    }
}

/// Where random octets come from.
#[derive(Clone)]
pub(crate) struct Entropy {
    fill: Arc<Fill>,
}

type Fill = dyn Fn(&mut [u8]) -> bool + Send + Sync;

impl Entropy {
    pub(crate) fn fill(&self, octets: &mut [u8]) -> Result<(), NoEntropy> {
        if (self.fill)(octets) { Ok(()) } else { Err(NoEntropy) }
    }
}

impl Default for Entropy {
    fn default() -> Self {
        #[cfg(feature = "std")]
        let fill = |octets: &mut [u8]| getrandom::fill(octets).is_ok();
        #[cfg(not(feature = "std"))]
        let fill = |_: &mut [u8]| false;
        Self { fill: Arc::new(fill) }
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy")
    }
}

/// The entropy function gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoEntropy;

impl fmt::Display for NoEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no random octets are to be had")
    }
}

impl core::error::Error for NoEntropy {}

/// Why a configuration cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The host name is neither a domain nor an address literal.
    Hostname,
    /// The banner holds something other than printable ASCII, or makes the greeting too long.
    Banner,
    /// A mechanism has a name that RFC 4422 does not allow.
    MechanismName(MechanismName),
    /// A policy names a mechanism that is not offered.
    PolicyForNothing(MechanismName),
    /// There are more than 32 mechanisms.
    TooManyMechanisms,
    /// A mechanism needs random octets, and the entropy function gives none.
    NoEntropy,
    /// Every mechanism is excluded: AUTH could never be offered.
    NoMechanism,
    /// BINARYMIME is for BDAT, which CHUNKING offers.
    BinaryMimeWithoutChunking,
    /// FUTURERELEASE holds for 1 to 999,999,999 seconds, until a time in UTC.
    FutureRelease,
    /// AUTH requires TLS, and there is none: AUTH could never be offered.
    AuthNeedsTls,
    /// Authentication is required, and AUTH is not configured: no mail could ever be sent.
    AuthRequiredButAbsent,
    /// TLS is required, and there is none.
    TlsRequiredButImpossible,
    /// A limit or timeout of zero would refuse everything.
    ZeroLimit(&'static str),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hostname => f.write_str("hostname: neither a domain nor an address literal"),
            Self::Banner => f.write_str("banner: not printable ASCII, or too long for a greeting of 512 octets"),
            Self::MechanismName(name) => {
                write!(f, "auth: {name:?} is no mechanism name (1 to 20 of A-Z, 0-9, hyphen, underscore)")
            }
            Self::PolicyForNothing(name) => {
                write!(f, "auth: a policy is for {name:?}, which is not among the mechanisms")
            }
            Self::TooManyMechanisms => f.write_str("auth: there are more than 32 mechanisms"),
            Self::NoEntropy => f.write_str("entropy: none is to be had, and a mechanism of auth needs it"),
            Self::NoMechanism => f.write_str("auth: no mechanism is left, so AUTH could never be offered"),
            Self::BinaryMimeWithoutChunking => f.write_str("extensions: binarymime needs chunking"),
            Self::FutureRelease => f.write_str(
                "extensions: future_release takes 1 to 999999999 seconds and a time such as 2030-01-01T00:00:00Z",
            ),
            Self::AuthNeedsTls => f.write_str(
                "auth: require_tls holds, but neither starttls nor implicit_tls is set, so AUTH could never be offered",
            ),
            Self::AuthRequiredButAbsent => f.write_str("auth_required: needs auth to be configured"),
            Self::TlsRequiredButImpossible => f.write_str("tls_required: needs starttls or implicit_tls"),
            Self::ZeroLimit(name) => write!(f, "{name}: must not be zero"),
        }
    }
}

impl core::error::Error for ConfigError {}

/// Sizes and counts that a connection cannot exceed.
///
/// Command lines have RFC 5321's 512 octets, and what extensions add to them: 26 for SIZE, 17 for
/// 8BITMIME, 500 for AUTH, 10 for SMTPUTF8 on MAIL, and what each of [`Extensions`] adds; 12,288 for AUTH commands and SASL responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The size of a message in octets, after transparency (RFC 1870): 32 MiB unless changed.
    pub max_message_octets: u64,
    /// The length of a line of content in octets, CRLF included. RFC 5321, section 4.5.3.1.6 asks for at
    /// least 1,000; much mail in the wild has longer ones, so it is 65,536 unless changed.
    pub max_content_line_octets: usize,
    /// Forward-paths in a transaction: 1,000 unless changed; RFC 5321, section 4.5.3.1.8 asks for at
    /// least 100.
    pub max_recipients: usize,
    /// Commands in a row that are not recognised, after which the connection is closed: 10 unless
    /// changed.
    pub max_unrecognized_commands: u32,
    /// Commands on a connection, SASL responses and chunks not counted, after which it is closed with
    /// `421 4.7.0`: no limit unless changed.
    pub max_commands: Option<u32>,
    /// Replies with 4xx and 5xx on a connection, those to refused credentials not counted, after which it
    /// is closed with `421 4.7.0`: 100 unless changed. Whoever tries out addresses gets no further.
    pub max_errors: Option<u32>,
    /// Mail transactions on a connection, of which one more is refused with `421 4.7.0`: no limit unless
    /// changed.
    pub max_transactions: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_octets: 32 << 20,
            max_content_line_octets: 65_536,
            max_recipients: 1_000,
            max_unrecognized_commands: 10,
            max_commands: None,
            max_errors: Some(100),
            max_transactions: None,
        }
    }
}

/// How long the engine waits (RFC 5321, section 4.5.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a whole command line, SASL response or TLS handshake, however many reads it takes: five
    /// minutes unless changed (section 4.5.3.2.7).
    pub command: Duration,
    /// For more content, from one piece to the next: five minutes unless changed.
    pub content: Duration,
    /// For the embedder's answer: five minutes unless changed.
    pub answer: Duration,
    /// For the peer to take what is written to it: five minutes unless changed.
    pub write: Duration,
    /// For the whole content of a message, however it trickles in: an hour unless changed. A message of
    /// the largest size must be able to come in that time.
    pub message: Duration,
    /// For the whole connection: no limit unless changed. When it has passed, what is in progress ends as
    /// by a timeout of its own.
    pub session: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        let five_minutes = Duration::from_secs(300);
        Self {
            command: five_minutes,
            content: five_minutes,
            answer: five_minutes,
            write: five_minutes,
            message: Duration::from_secs(3600),
            session: None,
        }
    }
}

/// What to do with line ends in the content that are not CRLF. In a command or a SASL response they are
/// always refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Newlines {
    /// Refuses content that holds one with `554 5.6.11`, once it has ended. What SMTP smuggling needs is
    /// a server that does anything else.
    #[default]
    Refuse,
    /// For old senders: a bare CR or LF is handed on as CRLF. It never ends the content, and a dot behind
    /// it is no more than a dot.
    Convert,
}

/// Bends of the RFCs for clients that need them. All off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, each with its own name")]
pub struct Quirks {
    /// Lists the mechanisms a second time as `250-AUTH=…`, for Outlook Express and its age.
    pub auth_equals_line: bool,
    /// Takes AUTH after HELO, for printers and scanners that skip EHLO.
    pub auth_after_helo: bool,
    /// Takes `MAIL FROM: <path>` and `RCPT TO: <path>`, with spaces behind the colon.
    pub space_after_colon: bool,
    /// Takes paths without angle brackets.
    pub bare_paths: bool,
}

/// The hooks that a connection asks. A hook that is not asked has its default answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hooks(u16);

impl Hooks {
    /// No hook.
    pub const NONE: Self = Self(0);
    /// Before the greeting; by default the client is greeted with 220.
    pub const CONNECT: Self = Self(1);
    /// HELO and EHLO; by default `250`.
    pub const HELLO: Self = Self(1 << 1);
    /// MAIL; by default `250 2.1.0`.
    pub const MAIL: Self = Self(1 << 2);
    /// RCPT; by default `250 2.1.5`.
    pub const RCPT: Self = Self(1 << 3);
    /// DATA, before the content; by default 354.
    pub const DATA: Self = Self(1 << 4);
    /// The end of a message; by default `451 4.3.5`, as the engine itself keeps no message.
    pub const MESSAGE: Self = Self(1 << 5);
    /// RSET; by default `250 2.0.0`. The transaction is gone whatever is answered.
    pub const RSET: Self = Self(1 << 6);
    /// NOOP; by default `250 2.0.0`.
    pub const NOOP: Self = Self(1 << 7);
    /// VRFY; by default `252 2.5.0`.
    pub const VRFY: Self = Self(1 << 8);
    /// EXPN; by default `502 5.5.1`.
    pub const EXPN: Self = Self(1 << 9);
    /// Commands that the engine does not know; by default `500 5.5.1`.
    pub const UNKNOWN: Self = Self(1 << 10);
    /// QUIT; by default `221 2.0.0`. The connection closes whatever is answered.
    pub const QUIT: Self = Self(1 << 11);
    /// Every hook.
    pub const ALL: Self = Self((1 << 12) - 1);

    /// Whether every hook of `other` is among these.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These hooks and those of `other`, in constants.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOr for Hooks {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

/// RFC 5321, section 4.5.3.1.5, less the CRLF.
const MAX_GREETING_OCTETS: usize = 510;
