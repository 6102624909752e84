//! What a login is remembered by: a keyed hash of everything that the answer may depend on.

use std::io;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sansmtp::auth::AuthQuestion;
use sansmtp::{AuthRequest, Secret};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Makes [`Mark`]s, under a key of its own.
pub(super) struct Marker {
    key: Secret,
}

/// A login that can be recognised and not read.
pub(super) struct Mark {
    /// Of all of it.
    whole: Secret,
    /// Of the password or token alone, which is the same whatever it came by.
    secret: Secret,
}

impl Marker {
    /// A new key, of as many octets as the hash has (RFC 2104, section 3).
    pub(super) fn new() -> io::Result<Self> {
        let mut key = vec![0; 32];
        let filled = getrandom::fill(&mut key);
        let key = Secret::new(key);
        filled?;
        Ok(Self { key })
    }

    /// `None` for a question that is about neither a password nor a token. A password is what the client sent: two that
    /// SASLprep makes the same one of are two.
    pub(super) fn mark(&self, request: &AuthRequest) -> Option<Mark> {
        let credentials = request.credentials();
        let (kind, secret, host, port) = match request.question() {
            AuthQuestion::Password(password) => (&b"password"[..], password.as_sent(), None, None),
            AuthQuestion::BearerToken(token) => (&b"token"[..], token.token(), token.host(), token.port()),
            AuthQuestion::ScramKeys(_)
            | AuthQuestion::CramMd5(_)
            | AuthQuestion::ClientCertificate(_)
            | AuthQuestion::Anonymous(_)
            | AuthQuestion::Other
            | _ => return None,
        };
        let secret = self.hash(&[Some(kind), Some(credentials.authcid().as_bytes()), Some(secret.expose_secret())])?;
        let port = port.map(u16::to_be_bytes);
        let mechanism = request.mechanism();
        let mut parts = vec![
            Some(secret.expose_secret()),
            Some(mechanism.as_str().as_bytes()),
            credentials.authzid().map(str::as_bytes),
            request.tls().map(|_| &b"TLS"[..]),
            host.map(str::as_bytes),
            port.as_ref().map(<[u8; 2]>::as_slice),
        ];
        // An authenticator may go by the certificate, or name the user by it.
        parts.extend(request.tls().iter().flat_map(|tls| &tls.peer_certificates).map(|der| Some(der.as_slice())));
        let whole = self.hash(&parts)?;
        Some(Mark { whole, secret })
    }

    /// Each part with its length in front, so that no two lists hash alike.
    fn hash(&self, parts: &[Option<&[u8]>]) -> Option<Secret> {
        // It takes keys of every length.
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.expose_secret()).ok()?;
        for part in parts {
            // No part is of so many octets.
            let octets = part.map_or(u64::MAX, |part| u64::try_from(part.len()).unwrap_or(u64::MAX - 1));
            mac.update(&octets.to_be_bytes());
            mac.update(part.unwrap_or_default());
        }
        let hash = Zeroizing::new(<[u8; 32]>::from(mac.finalize().into_bytes()));
        Some(Secret::from(hash.as_slice()))
    }

    #[cfg(test)]
    pub(super) fn of_test(&self, number: u64) -> Mark {
        let hash = || self.hash(&[Some(&number.to_be_bytes())]).unwrap();
        Mark { whole: hash(), secret: hash() }
    }
}

impl Mark {
    /// A part of it, for finding its place.
    pub(super) fn place(&self) -> u64 {
        self.whole.expose_secret().iter().take(8).fold(0, |place, octet| place << 8 | u64::from(*octet))
    }

    /// Compares in constant time.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.whole.ct_eq(other.whole.expose_secret())
    }

    /// Compares in constant time.
    pub(super) fn has_secret_of(&self, other: &Self) -> bool {
        self.secret.ct_eq(other.secret.expose_secret())
    }
}
