//! The battery itself, against a map.

mod support;

use std::sync::Arc;

use sansmtp::auth::AuthQuestion;
use sansmtp::{AuthRequest, AuthResult, Refusal};
use sansmtp_authenticators::{Authenticator, Knows};
use support::battery::{Backend, USERS, battery};
use support::login::Door;

struct Map;

impl Authenticator for Map {
    fn authenticate(&self, request: &AuthRequest) -> AuthResult {
        let found = USERS.iter().find(|(user, _)| *user == request.credentials().authcid());
        match (request.question(), found) {
            (_, None) => AuthResult::refuse_because(Refusal::UnknownUser),
            (AuthQuestion::Password(given), Some((_, password))) if given.ct_eq(password.as_bytes()) => {
                AuthResult::accept()
            }
            _ => AuthResult::refuse(),
        }
    }

    fn knows(&self, _: &AuthRequest) -> Knows {
        Knows::WhenAsked
    }
}

impl Backend for Map {
    fn start() -> Option<Self> {
        Some(Self)
    }

    fn door(&self) -> Arc<dyn Door> {
        Arc::new(Self)
    }
}

battery!(Map);
