//! PLAIN (RFC 4616).

use alloc::boxed::Box;

use memchr::memchr;

use super::{Exchange, Mechanism, Start, Step};
use crate::auth::{Credentials, MalformedCredentials};
use crate::secret::SecretRef;

/// PLAIN: `[authzid] NUL authcid NUL passwd` in one message.
#[derive(Clone, Debug, Default)]
pub struct Plain {
    misplaced_identity: bool,
}

impl Plain {
    /// PLAIN to the letter of RFC 4616.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `user NUL NUL passwd` for a login of `user`, as some old clients mean it. Off unless
    /// changed: by the RFC it is a request to act as `user` without saying who asks.
    #[must_use]
    pub fn allow_misplaced_identity(mut self, allowed: bool) -> Self {
        self.misplaced_identity = allowed;
        self
    }
}

impl Mechanism for Plain {
    fn name(&self) -> &'static str {
        "PLAIN"
    }

    fn begin(&self, _start: &Start<'_>) -> Box<dyn Exchange> {
        // A single message has no state, so neither box allocates.
        if self.misplaced_identity { Box::new(LenientMessage) } else { Box::new(Message) }
    }
}

struct Message;
struct LenientMessage;

impl Exchange for Message {
    fn step(&mut self, response: Option<SecretRef<'_>>, credentials: &mut Credentials) -> Step {
        read(response, credentials, false)
    }
}

impl Exchange for LenientMessage {
    fn step(&mut self, response: Option<SecretRef<'_>>, credentials: &mut Credentials) -> Step {
        read(response, credentials, true)
    }
}

fn read(response: Option<SecretRef<'_>>, credentials: &mut Credentials, misplaced_identity: bool) -> Step {
    let message = response.map_or(&[][..], SecretRef::expose_secret);
    let Some((authzid, (authcid, password))) = split(message).and_then(|(authzid, rest)| Some((authzid, split(rest)?)))
    else {
        return Step::Malformed;
    };
    if memchr(0, password).is_some() {
        return Step::Malformed;
    }
    let (authzid, authcid) =
        if misplaced_identity && authcid.is_empty() { (authcid, authzid) } else { (authzid, authcid) };
    let mut set = || -> Result<(), MalformedCredentials> {
        credentials.set_authzid(authzid)?;
        credentials.set_authcid(authcid)?;
        credentials.set_password(password)
    };
    match set() {
        Ok(()) => Step::AskPassword,
        Err(malformed) => malformed.into(),
    }
}

/// What stands before the first NUL, and behind it.
fn split(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let nul = memchr(0, message)?;
    Some((message.get(..nul)?, message.get(nul + 1..)?))
}
