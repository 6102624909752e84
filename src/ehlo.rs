//! The replies to EHLO, put together once: what differs between connections is whether STARTTLS is
//! listed, and which mechanisms are.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::auth::{Auth, MechanismName, Needs};
use crate::config::{Limits, Quirks};
use crate::extensions::Extensions;

/// What EHLO lists to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) starttls: bool,
    pub(crate) under_tls: bool,
    /// XCLIENT's attributes; none without XCLIENT.
    pub(crate) xclient: &'static str,
    /// A bit for each mechanism of the configuration.
    pub(crate) mechanisms: u32,
}

/// What the list is made of.
pub(crate) struct Listing<'c> {
    pub(crate) hostname: &'c str,
    pub(crate) limits: Limits,
    pub(crate) smtputf8: bool,
    pub(crate) auth: Option<&'c Auth>,
    pub(crate) quirks: Quirks,
    pub(crate) extensions: &'c Extensions,
}

/// A reply that was put together beforehand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usual(u8);

#[derive(Clone, Debug)]
pub(crate) struct EhloReplies {
    before: String,
    /// In the clear, and under TLS.
    after: [String; 2],
    mechanisms: Vec<MechanismName>,
    auth_equals_line: bool,
    usual: Vec<(Listed, Vec<u8>)>,
}

impl EhloReplies {
    pub(crate) fn new(listing: &Listing<'_>) -> Self {
        let Listing { hostname, limits, smtputf8, auth, quirks, extensions } = *listing;
        let after = [false, true].map(|under_tls| {
            let mut lines = String::new();
            if smtputf8 {
                lines.push_str("250-SMTPUTF8\r\n");
            }
            extensions.list(under_tls, limits, &mut lines);
            lines + "250 HELP\r\n"
        });
        let mut replies = Self {
            before: format!(
                "250-{hostname}\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250-SIZE {}\r\n",
                limits.max_message_octets
            ),
            after,
            mechanisms: auth.iter().flat_map(|auth| &auth.mechanisms).map(|offer| offer.name).collect(),
            auth_equals_line: quirks.auth_equals_line,
            usual: Vec::new(),
        };
        // The lists that most connections see: none, and those of clients without a certificate, in the
        // clear and under TLS, with and without channel binding.
        let mut lists = alloc::vec![0];
        if let Some(auth) = auth {
            let without_certificate = |offer: &&crate::auth::Offer| !offer.needs().client_certificate;
            for binding in [false, true] {
                let usable = |needs: Needs| binding || !needs.channel_binding;
                lists
                    .push(auth.bits(|offer| without_certificate(&offer) && usable(offer.needs()) && offer.is_listed()));
            }
        }
        for mechanisms in lists {
            for (starttls, under_tls) in [(false, false), (true, false), (false, true)] {
                let listed = Listed { starttls, under_tls, xclient: "", mechanisms };
                if replies.find(listed).is_none() {
                    let mut reply = Vec::new();
                    replies.compose(listed, &mut reply);
                    replies.usual.push((listed, reply));
                }
            }
        }
        replies
    }

    pub(crate) fn find(&self, listed: Listed) -> Option<Usual> {
        let place = self.usual.iter().position(|(usual, _)| *usual == listed)?;
        u8::try_from(place).ok().map(Usual)
    }

    pub(crate) fn usual(&self, Usual(place): Usual) -> &[u8] {
        self.usual.get(usize::from(place)).map(|(_, reply)| &**reply).unwrap_or_default()
    }

    /// Puts a reply together behind what is in `reply`.
    pub(crate) fn compose(&self, listed: Listed, reply: &mut Vec<u8>) {
        reply.extend_from_slice(self.before.as_bytes());
        if listed.starttls {
            reply.extend_from_slice(b"250-STARTTLS\r\n");
        }
        if !listed.xclient.is_empty() {
            reply.extend_from_slice(b"250-XCLIENT ");
            reply.extend_from_slice(listed.xclient.as_bytes());
            reply.extend_from_slice(b"\r\n");
        }
        // A list without a mechanism confuses clients; then there is no AUTH.
        if listed.mechanisms != 0 {
            self.list(b"250-AUTH ", listed.mechanisms, reply);
            if self.auth_equals_line {
                self.list(b"250-AUTH=", listed.mechanisms, reply);
            }
        }
        let [in_clear, under_tls] = &self.after;
        reply.extend_from_slice(if listed.under_tls { under_tls } else { in_clear }.as_bytes());
    }

    fn list(&self, before: &[u8], bits: u32, reply: &mut Vec<u8>) {
        reply.extend_from_slice(before);
        let listed = self.mechanisms.iter().enumerate().filter(|(place, _)| bits >> place & 1 == 1);
        for (count, (_, mechanism)) in listed.enumerate() {
            if count > 0 {
                reply.push(b' ');
            }
            reply.extend_from_slice(mechanism.as_bytes());
        }
        reply.extend_from_slice(b"\r\n");
    }
}
