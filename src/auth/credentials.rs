//! Identities and password, as a mechanism gathers them.

use core::fmt;

use super::lower_case::lower_case;
use super::password::{Password, prepared_form};
use super::prepare::{Prohibited, is_prepared, prepare};
use crate::secret::Secret;

/// What a mechanism has learnt: the authcid (who proves), the authzid (whom to act as), the password.
///
/// Identities are UTF-8 of at most 255 octets without control characters, prepared by SASLprep (RFC 4013).
/// Passwords are UTF-8 without NUL, bounded by the line limit of 12,288 octets, and kept both as they were
/// sent and prepared. `Debug` shows the identities, never the password.
#[derive(Default)]
pub struct Credentials {
    /// All of it, in the order in which it came.
    octets: Secret,
    authzid: Span,
    authcid: Span,
    password: Span,
    /// The password as SASLprep has it: the same place where that is the same, none where it is prohibited.
    prepared: Span,
    /// Whether identities are held in lower case.
    ignore_case: bool,
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

/// Why an identity or a password cannot be held (RFC 4616, section 2 and RFC 4013); nothing was changed. Tells nothing
/// of what was given but this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MalformedCredentials {
    /// There is nothing, where something has to be.
    Empty,
    /// It is not UTF-8.
    NotUtf8,
    /// It has a NUL, which ends each part of a PLAIN message.
    Nul,
    /// It is longer than 255 octets, for an identity, or than a line can bring.
    TooLong,
    /// SASLprep prohibits it.
    Prohibited(Prohibited),
}

impl fmt::Display for MalformedCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::NotUtf8 => f.write_str("it is not UTF-8"),
            Self::Nul => f.write_str("it has a NUL"),
            Self::TooLong => f.write_str("it is too long"),
            Self::Prohibited(prohibited) => prohibited.fmt(f),
        }
    }
}

impl core::error::Error for MalformedCredentials {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Prohibited(prohibited) => Some(prohibited),
            Self::Empty | Self::NotUtf8 | Self::Nul | Self::TooLong => None,
        }
    }
}

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
    pub fn password(&self) -> Option<Password<'_>> {
        Some(Password::new(self.octets(self.password)?, self.octets(self.prepared)))
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

    /// Sets the password. One that SASLprep prohibits is held as it is, without a prepared form: what is stored of it
    /// may have been made by a program that prepares nothing. One of which SASLprep leaves nothing is held as the empty
    /// one, which is refused without asking the authenticator (RFC 4616, section 2).
    ///
    /// # Errors
    ///
    /// [`MalformedCredentials`] if it is not UTF-8 or holds a NUL.
    pub fn set_password(&mut self, password: &[u8]) -> Result<(), MalformedCredentials> {
        let (password, prepared) = match prepared_form(password) {
            Ok(prepared) => (password, Ok(prepared)),
            Err(MalformedCredentials::Prohibited(Prohibited::NothingLeft)) => (&[][..], Ok(None)),
            Err(MalformedCredentials::Prohibited(_)) => (password, Err(Span::default())),
            Err(malformed) => return Err(malformed),
        };
        let span = self.store(password)?;
        self.prepared = match prepared {
            Ok(Some(prepared)) => self.store(prepared.expose_secret())?,
            Ok(None) => span,
            Err(none) => none,
        };
        self.password = span;
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
        for form in [self.password, self.prepared] {
            self.octets.overwrite(usize::from(form.start), usize::from(form.end));
        }
        (self.password, self.prepared) = Default::default();
    }

    /// Holds the identities that are set from now on in lower case, or as they are.
    pub(crate) fn ignore_case(&mut self, ignored: bool) {
        self.ignore_case = ignored;
    }

    /// Overwrites everything, and keeps an allocation of the usual size.
    pub(crate) fn clear(&mut self) {
        self.octets.clear_and_shrink(KEPT_OCTETS);
        (self.authzid, self.authcid, self.password, self.prepared) = Default::default();
    }

    fn store_identity(&mut self, identity: &[u8]) -> Result<Span, MalformedCredentials> {
        if identity.len() > MAX_IDENTITY_OCTETS {
            return Err(MalformedCredentials::TooLong);
        }
        if is_prepared(identity) && !(self.ignore_case && identity.iter().any(u8::is_ascii_uppercase)) {
            return self.store(identity);
        }
        let text = core::str::from_utf8(identity).map_err(|_| MalformedCredentials::NotUtf8)?;
        // An identity of which nothing is left is not the same as none.
        let prepared = prepare(text).map_err(MalformedCredentials::Prohibited)?;
        let lower = match core::str::from_utf8(prepared.expose_secret()) {
            Ok(prepared) if self.ignore_case => Some(lower_case(prepared)),
            Ok(_) | Err(_) => None,
        };
        let identity = lower.as_ref().map_or(prepared.expose_secret(), |lower| lower.as_bytes());
        if identity.len() > MAX_IDENTITY_OCTETS {
            return Err(MalformedCredentials::TooLong);
        }
        self.store(identity)
    }

    fn store(&mut self, octets: &[u8]) -> Result<Span, MalformedCredentials> {
        let start = u16::try_from(self.octets.len()).map_err(|_| MalformedCredentials::TooLong)?;
        let end = u16::try_from(self.octets.len() + octets.len()).map_err(|_| MalformedCredentials::TooLong)?;
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
        let Self { authzid, authcid, password, prepared, ignore_case, .. } = *self;
        let octets = self.octets.expose_secret().into();
        let mut clone = Self { octets, authzid, authcid, password, prepared, ignore_case };
        clone.forget_password();
        clone
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("authcid", &self.authcid())
            .field("authzid", &self.authzid())
            .field("password", &self.password().map(Password::as_sent))
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
        use MalformedCredentials::{NotUtf8, Nul, Prohibited, TooLong};
        let control = Prohibited(super::Prohibited::ControlCharacter);
        for (bad, why) in [
            (&b"a\nb"[..], control),
            (b"a\0b", control),
            (b"\xff", NotUtf8),
            (b"\x7f", control),
            ("\u{85}".as_bytes(), control),
            (&[b'a'; 256], TooLong),
        ] {
            assert_eq!(credentials.set_authcid(bad), Err(why));
            assert_eq!(credentials.set_authzid(bad), Err(why));
        }
        assert_eq!(credentials.set_password(b"a\0b"), Err(Nul));
        assert_eq!(credentials.set_password(b"\xff"), Err(NotUtf8));
        assert_eq!(credentials.authcid(), "");
        assert!(credentials.password().is_none());
    }

    #[test]
    fn both_forms_of_a_password_are_overwritten() {
        let mut credentials = Credentials::default();
        credentials.set_authcid(b"tim").unwrap();
        credentials.set_password("m²".as_bytes()).unwrap();
        let clone = credentials.clone();
        credentials.forget_password();
        for forgotten in [&credentials, &clone] {
            assert!(forgotten.password().is_none());
            assert_eq!(forgotten.octets.expose_secret(), b"tim\0\0\0\0\0");
        }
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
