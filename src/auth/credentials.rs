//! Identities and password, as a mechanism gathers them.

use core::fmt;

use super::prepare::{is_prepared, prepare};
use crate::secret::{Secret, SecretRef};

/// What a mechanism has learnt: the authcid (who proves), the authzid (whom to act as), the password.
///
/// Identities are UTF-8 of at most 255 octets without control characters; passwords are UTF-8 without
/// NUL, bounded by the line limit of 12,288 octets. All of them are prepared by SASLprep (RFC 4013) when
/// they are set. `Debug` shows the identities, never the password.
#[derive(Default)]
pub struct Credentials {
    /// All three, in the order in which they came.
    octets: Secret,
    authzid: Span,
    authcid: Span,
    password: Span,
}

/// Where a part lies; one that was not set lies nowhere.
#[derive(Clone, Copy)]
struct Span {
    start: u16,
    end: u16,
}

impl Default for Span {
    fn default() -> Self {
        Self { start: u16::MAX, end: u16::MAX }
    }
}

/// An identity or a password is not what RFC 4616, section 2 and RFC 4013 allow; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedCredentials;

impl fmt::Display for MalformedCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an identity or a password is not UTF-8, too long, or holds a prohibited character")
    }
}

impl core::error::Error for MalformedCredentials {}

impl Credentials {
    pub(crate) fn with_capacity(octets: usize) -> Self {
        Self { octets: Secret::with_capacity(octets), ..Self::default() }
    }

    /// Who proves their identity; empty until the mechanism knows.
    #[must_use]
    pub fn authcid(&self) -> &str {
        self.text(self.authcid)
    }

    /// Whom the client asks to act as, where that differs from the authcid.
    #[must_use]
    pub fn authzid(&self) -> Option<&str> {
        let authzid = self.octets(self.authzid).filter(|authzid| !authzid.is_empty())?;
        if self.octets(self.authcid) == Some(authzid) { None } else { Some(self.text(self.authzid)) }
    }

    /// The password, if the mechanism carries one.
    #[must_use]
    pub fn password(&self) -> Option<SecretRef<'_>> {
        self.octets(self.password).map(SecretRef::new)
    }

    /// Sets who proves their identity.
    ///
    /// # Errors
    ///
    /// [`MalformedCredentials`] if it is not UTF-8, has over 255 octets, a control character or another
    /// that SASLprep prohibits, or nothing that it leaves.
    pub fn set_authcid(&mut self, authcid: &[u8]) -> Result<(), MalformedCredentials> {
        self.authcid = self.store_identity(authcid)?;
        Ok(())
    }

    /// Sets whom the client asks to act as.
    ///
    /// # Errors
    ///
    /// As [`set_authcid`](Self::set_authcid).
    pub fn set_authzid(&mut self, authzid: &[u8]) -> Result<(), MalformedCredentials> {
        self.authzid = self.store_identity(authzid)?;
        Ok(())
    }

    /// Sets the password. One that SASLprep prohibits is nobody's (RFC 4616, section 2), and is held as
    /// the empty one, which is refused without asking the authenticator.
    ///
    /// # Errors
    ///
    /// [`MalformedCredentials`] if it is not UTF-8 or holds a NUL.
    pub fn set_password(&mut self, password: &[u8]) -> Result<(), MalformedCredentials> {
        if is_prepared(password) {
            self.password = self.store(password)?;
            return Ok(());
        }
        let text = core::str::from_utf8(password).ok().filter(|text| !text.contains('\0'));
        let prepared = prepare(text.ok_or(MalformedCredentials)?).unwrap_or_default();
        self.password = self.store(prepared.expose_secret())?;
        Ok(())
    }

    /// Whether a part is missing that RFC 4616 wants to have at least one character.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.octets(self.authcid).is_none_or(<[u8]>::is_empty)
            || self.octets(self.password).is_some_and(<[u8]>::is_empty)
    }

    /// Whether nothing is held that could be overwritten.
    pub(crate) fn is_empty(&self) -> bool {
        self.octets.len() == 0
    }

    /// Overwrites the password and keeps the identities.
    pub(crate) fn forget_password(&mut self) {
        self.octets.overwrite(usize::from(self.password.start), usize::from(self.password.end));
        self.password = Span::default();
    }

    /// Overwrites everything, and keeps an allocation of the usual size.
    pub(crate) fn clear(&mut self) {
        self.octets.clear_and_shrink(KEPT_OCTETS);
        (self.authzid, self.authcid, self.password) = Default::default();
    }

    fn store_identity(&mut self, identity: &[u8]) -> Result<Span, MalformedCredentials> {
        if identity.len() > MAX_IDENTITY_OCTETS {
            return Err(MalformedCredentials);
        }
        if is_prepared(identity) {
            return self.store(identity);
        }
        let text = core::str::from_utf8(identity).map_err(|_| MalformedCredentials)?;
        let prepared = prepare(text).map_err(|_| MalformedCredentials)?;
        // An identity of which nothing is left is not the same as none.
        if !(1..=MAX_IDENTITY_OCTETS).contains(&prepared.len()) {
            return Err(MalformedCredentials);
        }
        self.store(prepared.expose_secret())
    }

    fn store(&mut self, octets: &[u8]) -> Result<Span, MalformedCredentials> {
        let start = u16::try_from(self.octets.len()).map_err(|_| MalformedCredentials)?;
        let end = u16::try_from(self.octets.len() + octets.len()).map_err(|_| MalformedCredentials)?;
        self.octets.extend(octets);
        Ok(Span { start, end })
    }

    fn octets(&self, span: Span) -> Option<&[u8]> {
        self.octets.expose_secret().get(usize::from(span.start)..usize::from(span.end))
    }

    fn text(&self, span: Span) -> &str {
        // Checked when it was set.
        core::str::from_utf8(self.octets(span).unwrap_or_default()).unwrap_or_default()
    }
}

/// Only the identities: a password is not multiplied.
impl Clone for Credentials {
    fn clone(&self) -> Self {
        let (authzid, authcid, password) = (self.authzid, self.authcid, self.password);
        let mut clone = Self { octets: self.octets.expose_secret().into(), authzid, authcid, password };
        clone.forget_password();
        clone
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("authcid", &self.authcid())
            .field("authzid", &self.authzid())
            .field("password", &self.password())
            .finish()
    }
}

const MAX_IDENTITY_OCTETS: usize = 255;
const KEPT_OCTETS: usize = 128;

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn debug_shows_identities_and_no_password() {
        let mut credentials = Credentials::default();
        credentials.set_password(b"tanstaaf").unwrap();
        credentials.set_authcid(b"tim").unwrap();
        let shown = format!("{credentials:?}");
        assert!(shown.contains("tim") && !shown.contains("tanstaaf"), "{shown}");
    }

    #[test]
    fn what_could_break_a_log_line_or_a_query_is_refused() {
        let mut credentials = Credentials::default();
        for bad in [&b"a\nb"[..], b"a\0b", b"\xff", b"\x7f", "\u{85}".as_bytes(), &[b'a'; 256]] {
            assert_eq!(credentials.set_authcid(bad), Err(MalformedCredentials));
            assert_eq!(credentials.set_authzid(bad), Err(MalformedCredentials));
        }
        assert_eq!(credentials.set_password(b"a\0b"), Err(MalformedCredentials));
        assert_eq!(credentials.set_password(b"\xff"), Err(MalformedCredentials));
        assert_eq!(credentials.authcid(), "");
        assert!(credentials.password().is_none());
    }

    #[test]
    fn an_authzid_equal_to_the_authcid_is_none() {
        let mut credentials = Credentials::default();
        credentials.set_authzid(b"tim").unwrap();
        credentials.set_authcid(b"tim").unwrap();
        assert_eq!(credentials.authzid(), None);
        credentials.set_authzid(b"kurt").unwrap();
        assert_eq!(credentials.authzid(), Some("kurt"));
    }
}
