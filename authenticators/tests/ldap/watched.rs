//! An authenticator that is looked at over its shoulder.

#![allow(dead_code, reason = "each test takes what it needs")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::Mutex;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sansmtp::{AuthRequest, AuthResult, Refusal};
use sansmtp_authenticators::ldap::Ldap;
use sansmtp_authenticators::{Authenticator, Knows, LoginAddresses};

use crate::support::login::{Door, auth};

/// Keeps what the last request came to.
pub(crate) struct Watched {
    ldap: Ldap,
    last: Mutex<Last>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) code: u16,
    pub(crate) login: Option<String>,
    pub(crate) refusal: Option<Refusal>,
    pub(crate) knows: Option<Knows>,
    pub(crate) addresses: Option<LoginAddresses>,
}

impl Watched {
    pub(crate) fn new(ldap: Ldap) -> Self {
        Self { ldap, last: Mutex::default() }
    }

    pub(crate) fn log_in(&self, user: &str, password: &str) -> Last {
        let code = Door::log_in(self, user, password);
        Last { code, ..std::mem::take(&mut *self.last.lock().unwrap()) }
    }

    pub(crate) fn auth(&self, words: &str) -> Last {
        let code = auth(self, words);
        Last { code, ..std::mem::take(&mut *self.last.lock().unwrap()) }
    }

    /// SCRAM-SHA-256's first message (RFC 5802).
    pub(crate) fn scram(&self, user: &str) -> Last {
        self.auth(&format!(
            "SCRAM-SHA-256 {}",
            BASE64_STANDARD.encode(format!("n,,n={user},r=fyko+d2lbbFgONRv9qkxdawL"))
        ))
    }
}

impl Authenticator for Watched {
    fn authenticate(&self, request: &AuthRequest) -> AuthResult {
        let knows = self.ldap.knows(request);
        let result = self.ldap.authenticate(request);
        *self.last.lock().unwrap() = Last {
            code: 0,
            login: result.login().map(ToOwned::to_owned),
            refusal: result.refusal(),
            knows: Some(knows),
            addresses: result.auth_data().cloned(),
        };
        result
    }

    fn knows(&self, request: &AuthRequest) -> Knows {
        self.ldap.knows(request)
    }
}
