//! A password as a client sent it, and as SASLprep has it.

use core::fmt;

use super::credentials::MalformedCredentials;
use super::prepare::{is_prepared, prepare};
use crate::secret::{Secret, SecretRef};

/// A password that a client sent, to be compared with what is stored.
///
/// What is stored was made of one of two forms, and only who made it knows which: of the password as it was typed
/// (`htpasswd`, directories, nearly every other program), or of what SASLprep (RFC 4013) makes of it (PostgreSQL's
/// SCRAM keys, [`ScramKeys::derive`](super::ScramKeys::derive)). RFC 4616, section 2 asks for the latter, and lets a
/// server compare otherwise where what is stored wants it. For passwords of printable ASCII both are the same; for `m²`
/// they are not: SASLprep makes `m2` of it.
///
/// [`check`](Self::check) and [`ct_eq`](Self::ct_eq) compare both, always, so that neither the time nor the order tells
/// which of them is right:
///
/// ```
/// use sansmtp::auth::{AuthQuestion, AuthResult};
///
/// fn is_right(question: AuthQuestion<'_>, verify: impl Fn(&[u8]) -> bool) -> bool {
///     match question {
///         AuthQuestion::Password(password) => password.check(|form| verify(form.expose_secret())),
///         _ => false,
///     }
/// }
/// ```
#[derive(Clone, Copy)]
pub struct Password<'a> {
    as_sent: SecretRef<'a>,
    /// `None` if SASLprep prohibits it.
    prepared: Option<SecretRef<'a>>,
}

impl<'a> Password<'a> {
    pub(super) fn new(as_sent: &'a [u8], prepared: Option<&'a [u8]>) -> Self {
        Self { as_sent: SecretRef::new(as_sent), prepared: prepared.map(SecretRef::new) }
    }

    /// Whether `is_right` says so of one form at least.
    ///
    /// It is called for each form, once or twice, whatever it says: how often depends on nothing but what the client
    /// sent. For a name without a user call it likewise, with a hash that costs as much.
    pub fn check(self, mut is_right: impl FnMut(SecretRef<'a>) -> bool) -> bool {
        self.forms().fold(false, |right, form| is_right(form) | right)
    }

    /// Whether one of the forms is `other`. Compares in time that depends on the lengths only.
    #[must_use]
    pub fn ct_eq(self, other: &[u8]) -> bool {
        self.check(|form| form.ct_eq(other))
    }

    /// The octets that the client sent, which are UTF-8 without NUL; none where SASLprep leaves nothing of them.
    #[must_use]
    pub fn as_sent(self) -> SecretRef<'a> {
        self.as_sent
    }

    /// The password as SASLprep has it, which may be the same; `None` if SASLprep prohibits it.
    /// [`prepare_password`] says why.
    #[must_use]
    pub fn prepared(self) -> Option<SecretRef<'a>> {
        self.prepared
    }

    /// The forms that differ, as it was sent first: for comparisons that can fail, or that are asynchronous. Whoever
    /// ends early shows by the time which form was right.
    pub fn forms(self) -> impl Iterator<Item = SecretRef<'a>> + use<'a> {
        // Nothing is stored here but what the client has sent, so there is nothing to find out by the time.
        let other = self.prepared.filter(|prepared| prepared.expose_secret() != self.as_sent.expose_secret());
        core::iter::once(self.as_sent).chain(other)
    }
}

impl fmt::Debug for Password<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password([redacted])")
    }
}

/// Prepares a password that is to be stored, by SASLprep (RFC 4013), so that whatever form a client sends is right.
///
/// Code points that Unicode 3.2 did not know are taken, as they are from clients: a password may hold an emoji.
///
/// # Errors
///
/// [`MalformedCredentials`] if it is empty, not UTF-8, has a NUL or what SASLprep
/// [prohibits](MalformedCredentials::Prohibited).
pub fn prepare_password(password: &[u8]) -> Result<Secret, MalformedCredentials> {
    if password.is_empty() {
        return Err(MalformedCredentials::Empty);
    }
    let prepared = prepared_form(password)?;
    Ok(prepared.unwrap_or_else(|| password.into()))
}

/// What SASLprep makes of a password; `None` where it leaves it as it is.
pub(super) fn prepared_form(password: &[u8]) -> Result<Option<Secret>, MalformedCredentials> {
    if is_prepared(password) {
        return Ok(None);
    }
    let text = core::str::from_utf8(password).map_err(|_| MalformedCredentials::NotUtf8)?;
    // RFC 4616, section 2: NUL ends it.
    if text.contains('\0') {
        return Err(MalformedCredentials::Nul);
    }
    let prepared = prepare(text).map_err(MalformedCredentials::Prohibited)?;
    Ok(Some(prepared).filter(|prepared| prepared.expose_secret() != password))
}

static_assertions::assert_impl_all!(Password<'_>: Send, Sync);

#[cfg(all(test, feature = "std"))]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::super::Credentials;
    use super::*;

    fn with(password: &str, look: impl FnOnce(Password<'_>)) {
        let mut credentials = Credentials::default();
        credentials.set_password(password.as_bytes()).expect("text without NUL");
        look(credentials.password().expect("it was set"));
    }

    fn forms(password: &str) -> Vec<Vec<u8>> {
        let mut forms = Vec::new();
        with(password, |password| forms = password.forms().map(|form| form.expose_secret().to_vec()).collect());
        forms
    }

    #[test]
    fn there_are_two_forms_where_they_differ() {
        for (sent, prepared) in [
            ("tanstaaf", None),
            ("m²", Some("m2")),
            ("a\u{a0}b", Some("a b")),
            ("cafe\u{301}", Some("caf\u{e9}")),
            ("caf\u{e9}", None),
            ("\u{1F512}key", None),
            // Prohibited.
            ("שלום123", None),
            ("a\tb", None),
        ] {
            let expected: Vec<Vec<u8>> = [Some(sent), prepared].into_iter().flatten().map(Into::into).collect();
            assert_eq!(forms(sent), expected, "{}", sent.escape_unicode());
        }
        with("שלום123", |password| assert!(password.prepared().is_none()));
        // Nothing is left of it, so it is the empty one.
        with("\u{ad}", |password| assert!(password.as_sent().ct_eq(b"") && password.ct_eq(b"")));
        with("tim", |password| assert!(password.prepared().is_some_and(|prepared| prepared.ct_eq(b"tim"))));
        with("", |password| assert!(password.prepared().is_some_and(|prepared| prepared.ct_eq(b""))));
    }

    #[test]
    fn all_forms_are_compared_whichever_is_right() {
        for right in [&b"m2"[..], "m²".as_bytes(), b"m", b""] {
            let mut asked = vec![];
            with("m²", |password| {
                let is_right = password.check(|form| {
                    asked.push(form.expose_secret().to_vec());
                    form.ct_eq(right)
                });
                assert_eq!(is_right, right.first() == Some(&b'm') && right.len() > 1);
                assert_eq!(password.ct_eq(right), is_right);
            });
            assert_eq!(asked, ["m²".as_bytes(), b"m2"]);
        }
    }

    #[test]
    fn what_is_stored_is_prepared_or_refused_with_the_reason() {
        let prepared = |password: &[u8]| prepare_password(password).map(|secret| secret.expose_secret().to_vec());
        assert_eq!(prepared("m²".as_bytes()), Ok(b"m2".to_vec()));
        assert_eq!(prepared(b"m2"), Ok(b"m2".to_vec()));
        assert_eq!(prepared(b""), Err(MalformedCredentials::Empty));
        assert_eq!(prepared(b"a\0"), Err(MalformedCredentials::Nul));
        assert_eq!(prepared(b"\xff"), Err(MalformedCredentials::NotUtf8));
        let why = |password: &str| match prepared(password.as_bytes()) {
            Err(MalformedCredentials::Prohibited(why)) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(why("שלום123"), super::super::Prohibited::DirectionAtEnds);
        assert_eq!(why("\u{ad}"), super::super::Prohibited::NothingLeft);
    }
}
