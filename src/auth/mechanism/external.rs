//! EXTERNAL (RFC 4422, appendix A): the client is who its TLS certificate says.

use alloc::boxed::Box;

use super::{Exchange, Mechanism, Start, Step};
use crate::auth::{AuthResult, Credentials, Needs};
use crate::secret::SecretRef;

/// EXTERNAL, by a client certificate that the TLS layer has verified. On other connections it is neither
/// listed nor accepted.
///
/// The authenticator is asked
/// [`AuthQuestion::ClientCertificate`](crate::auth::AuthQuestion::ClientCertificate) and says, by
/// [`AuthResult::with_login`](crate::AuthResult::with_login), whom the certificate names. An authzid that
/// is another's needs [`granting_authzid`](crate::AuthResult::granting_authzid).
#[derive(Clone, Debug, Default)]
pub struct External {
    _private: (),
}

/// Asks whom the client's certificate names: an [`AuthRequest`](crate::AuthRequest)'s data. The chain is
/// in the request's [`tls`](crate::AuthRequest::tls).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientCertificate;

impl External {
    /// The mechanism.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Mechanism for External {
    fn name(&self) -> &'static str {
        "EXTERNAL"
    }

    fn needs(&self) -> Needs {
        Needs::CLIENT_CERTIFICATE
    }

    fn begin(&self, _start: &Start<'_>) -> Box<dyn Exchange> {
        Box::new(Message)
    }
}

struct Message;

impl Exchange for Message {
    fn step(&mut self, response: Option<SecretRef<'_>>, credentials: &mut Credentials) -> Step {
        let authzid = response.map_or(&[][..], SecretRef::expose_secret);
        match credentials.set_authzid(authzid) {
            Ok(()) => Step::Consult(Box::new(ClientCertificate)),
            Err(malformed) => malformed.into(),
        }
    }

    fn consulted(&mut self, result: AuthResult, credentials: &mut Credentials) -> Step {
        Step::Finish(result.unless_nameless(credentials))
    }
}
