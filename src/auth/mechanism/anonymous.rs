//! ANONYMOUS (RFC 4505): no proof at all, and a trace for whoever reads the logs.

use alloc::boxed::Box;
use alloc::string::String;

use super::{Exchange, Mechanism, Start, Step};
use crate::auth::Credentials;
use crate::secret::SecretRef;

/// ANONYMOUS. Anybody gets in who is let in: it is not offered unless asked for, and even then the
/// authenticator is asked, [`AuthQuestion::Anonymous`](crate::auth::AuthQuestion::Anonymous).
///
/// The authcid is `anonymous`.
#[derive(Clone, Debug, Default)]
pub struct Anonymous {
    _private: (),
}

/// What an anonymous client says of itself, perhaps nothing: an [`AuthRequest`](crate::AuthRequest)'s data.
/// 255 characters at the most, none of them a control character; true or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    text: String,
}

impl Trace {
    /// The text: an email address, or any other.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Anonymous {
    /// The mechanism.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Mechanism for Anonymous {
    fn name(&self) -> &'static str {
        "ANONYMOUS"
    }

    fn begin(&self, _start: &Start<'_>) -> Box<dyn Exchange> {
        Box::new(Message)
    }
}

struct Message;

impl Exchange for Message {
    fn step(&mut self, response: Option<SecretRef<'_>>, credentials: &mut Credentials) -> Step {
        let Ok(text) = core::str::from_utf8(response.map_or(&[][..], SecretRef::expose_secret)) else {
            return Step::Malformed;
        };
        // RFC 4505, section 2: 255 characters, not octets.
        if text.chars().nth(MAX_TRACE_CHARACTERS).is_some() || text.chars().any(char::is_control) {
            return Step::Malformed;
        }
        match credentials.set_authcid(b"anonymous") {
            Ok(()) => Step::Ask(Box::new(Trace { text: text.into() })),
            Err(malformed) => malformed.into(),
        }
    }
}

const MAX_TRACE_CHARACTERS: usize = 255;
