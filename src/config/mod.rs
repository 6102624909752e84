//! The configuration: built once, checked once, shared by every connection of a listener.

mod entropy;
mod error;
mod events;
mod hooks;
mod limits;

pub(crate) use entropy::Entropy;
pub use entropy::NoEntropy;
pub use error::ConfigError;
pub use events::Events;
pub use hooks::Hooks;
pub use limits::{Limits, Newlines, Quirks, Timeouts};

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::auth::{Auth, Unusable};
use crate::command::path::is_domain_or_literal;
use crate::command::{self, Verb};
use crate::ehlo::{EhloReplies, Listing};
use crate::extensions::Extensions;
use crate::framing::content::DotFinder;
use crate::help::{Commands, HelpReplies};
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
    pub(crate) help: HelpReplies,
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
    pub(crate) events: Events,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) quirks: Quirks,
    pub(crate) extensions: Extensions,
    pub(crate) lmtp: bool,
    pub(crate) strict_client_names: bool,
    pub(crate) open_verbs: Vec<String>,
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
            events: Events::default(),
            name: None,
            quirks: Quirks::default(),
            extensions: Extensions::default(),
            lmtp: false,
            strict_client_names: false,
            open_verbs: Vec::new(),
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

    /// The events that the engine tells.
    #[must_use]
    pub fn events(&self) -> Events {
        self.events
    }

    /// What the listener is called, if it has a name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
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

    /// Whether a line begins with a verb of the embedder's that is open to everybody.
    pub(crate) fn is_open(&self, line: &[u8]) -> bool {
        let word = command::first_word(line);
        self.open_verbs.iter().any(|verb| verb.as_bytes().eq_ignore_ascii_case(word))
    }

    /// Whether a connection from `peer` begins with a header of the PROXY protocol, for whoever counts or
    /// filters connections by their address: this one is not the client's.
    #[must_use]
    pub fn expects_proxy_header(&self, peer: Peer) -> bool {
        self.proxy.as_ref().is_some_and(|proxy| proxy.expects_header_from(peer))
    }

    /// Whether `peer` may use XCLIENT, for whoever counts or filters connections by their address: it speaks for others.
    #[must_use]
    pub fn offers_xclient(&self, peer: Peer) -> bool {
        self.xclient.as_ref().is_some_and(|xclient| xclient.trusts(peer))
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
    events: Events,
    name: Option<Arc<str>>,
    quirks: Quirks,
    extensions: Extensions,
    lmtp: bool,
    strict_client_names: bool,
    open_verbs: Vec<String>,
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

    /// Refuses MAIL, RCPT, DATA, BDAT, VRFY, EXPN, HELP, and commands of the embedder's own
    /// ([`Hooks::UNKNOWN`]), with `530 5.7.0` before a successful AUTH (RFC 4954, section 6).
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

    /// Refuses everything but EHLO, NOOP, STARTTLS and QUIT with `530 5.7.0` until TLS is active (RFC 3207,
    /// section 4), commands of the embedder's own ([`Hooks::UNKNOWN`]) too.
    ///
    /// AUTH has `538 5.7.11` for it (RFC 4954, section 6), a command that nobody knows `500 5.5.1`, and XCLIENT, which
    /// proxies say in front of the client, is taken. In LMTP, a client has to say STARTTLS before LHLO.
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
        self.entropy = Entropy::new(fill);
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

    /// Which events a connection tells; [`Events::default`] unless changed. Adapters tell what their handler
    /// wants, and what is logged, by [`Connection::set_events`](crate::Connection::set_events).
    pub fn events(mut self, events: Events) -> Self {
        self.events = events;
        self
    }

    /// What the listeners with this configuration are called, as `submission` or `mx`: for
    /// [`Session::listener`](crate::Session::listener), by which one handler for several of them tells them
    /// apart, and for logs. No name unless set.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
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

    /// Refuses names at HELO, EHLO and LHLO that are neither a domain nor an address literal (RFC 5321,
    /// section 4.1.1.1) with `501`. Off unless changed: laptops, printers and scripts have names such as
    /// `(none)` or `MY PRINTER`, could not send mail at all, and what a client calls itself proves nothing.
    /// [`Session::is_client_name_valid`](crate::Session::is_client_name_valid) tells the names apart.
    pub fn strict_client_names(mut self, strict: bool) -> Self {
        self.strict_client_names = strict;
        self
    }

    /// Names a verb of the embedder's own that everybody may use: before TLS and AUTH also where they are
    /// required. Each call adds one; its case does not matter.
    ///
    /// Other commands that the engine does not know are for the hook [`Hooks::UNKNOWN`] as well, which is asked about
    /// them once TLS and AUTH are active where they are required. None needs EHLO: they are no mail transaction
    /// (RFC 5321, section 4.1.4).
    pub fn open_verb(mut self, verb: impl Into<String>) -> Self {
        self.open_verbs.push(verb.into());
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
        if !self.open_verbs.iter().all(|verb| is_own_verb(verb.as_bytes())) {
            return Err(ConfigError::OpenVerb);
        }
        for (limit, name) in [
            (self.limits.max_message_octets == 0, "max_message_octets"),
            (self.limits.max_content_line_octets == 0, "max_content_line_octets"),
            (self.limits.max_recipients == 0, "max_recipients"),
            (self.limits.max_unrecognized_commands == 0, "max_unrecognized_commands"),
            (self.limits.max_commands == Some(0), "max_commands"),
            (self.limits.max_errors == Some(0), "max_errors"),
            (self.limits.max_handshake_octets == 0, "max_handshake_octets"),
            (self.limits.max_transactions == Some(0), "max_transactions"),
            (self.timeouts.session == Some(Duration::ZERO), "timeouts.session"),
            (self.timeouts.before_auth == Some(Duration::ZERO), "timeouts.before_auth"),
            (self.timeouts.before_message == Some(Duration::ZERO), "timeouts.before_message"),
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
        let open_verbs: Vec<_> = self.open_verbs.iter().map(|verb| verb.to_ascii_uppercase()).collect();
        let help = HelpReplies::new(&Commands {
            lmtp: self.lmtp,
            chunking: self.extensions.chunking,
            auth: auth.is_some(),
            own_verbs: &open_verbs,
        });
        Ok(Arc::new(Config {
            help,
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
            events: self.events,
            name: self.name,
            quirks: self.quirks,
            extensions: self.extensions,
            lmtp: self.lmtp,
            strict_client_names: self.strict_client_names,
            open_verbs,
            proxy: self.proxy,
            xclient: self.xclient,
        }))
    }
}

/// Whether a word can be a command of the embedder's.
fn is_own_verb(word: &[u8]) -> bool {
    (1..=MAX_VERB_OCTETS).contains(&word.len())
        && word.iter().all(|&octet| octet.is_ascii_alphanumeric() || octet == b'-')
        && command::verb(word) == Verb::Unknown
}

/// Longer than any other command.
const MAX_VERB_OCTETS: usize = 32;

/// RFC 5321, section 4.5.3.1.5, less the CRLF.
const MAX_GREETING_OCTETS: usize = 510;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_that_is_open_to_everybody_is_a_word_and_not_the_engine_s() {
        let build = |verb: &str| Config::builder("mx.example.org").open_verb("XFOO").open_verb(verb).build();
        for verb in ["X", "xBar-2", &"X".repeat(32)] {
            assert!(
                build(verb).is_ok_and(|config| config.is_open(format!("{verb} 1").to_ascii_lowercase().as_bytes()))
            );
        }
        for verb in
            ["", "X FOO", "XFOO ", "X\r\n", "X_Y", "caf\u{e9}", &"X".repeat(33), "mail", "AUTH", "starttls", "Xclient"]
        {
            assert_eq!(build(verb).err(), Some(ConfigError::OpenVerb), "{verb:?}");
        }
    }
}
