//! Which addresses belong to a login.

/// The addresses of one login, where the check of the login finds them, too: attached to the result, so that the session has
/// them as [`auth_data`](sansmtp::Session::auth_data), and no second look-up is needed.
///
/// They are as [`Addresses::Known`] has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginAddresses(Vec<String>);

/// What an [`Authenticator`](crate::Authenticator) knows of the addresses that a login may send from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever decides who may send must know what to do with each")]
pub enum Addresses {
    /// These, of which there may be none. Each is an address, `tim@example.org`, or all of a domain, `@example.org`; a
    /// name that is an address itself need not be among them. At most [`MAX_ADDRESSES`].
    Known(Vec<String>),
    /// The login is not from here, or no user's addresses are kept here: another authenticator may have them.
    UnknownLogin,
    /// The login is from here, and no login here has ever been given an address, nor is one by its name: who may send
    /// from which cannot be told. Only said where that is
    /// [asked for](crate::stored::Stored::addresses_are_optional).
    NeverGiven,
    /// They cannot be found out at the moment: `451 4.3.0`, and never leave to send.
    CannotTell,
}

impl LoginAddresses {
    /// All of them.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl FromIterator<String> for LoginAddresses {
    fn from_iter<I: IntoIterator<Item = String>>(addresses: I) -> Self {
        Self(addresses.into_iter().take(MAX_ADDRESSES).collect())
    }
}

/// How many addresses one login has at the most. A domain counts as one.
pub const MAX_ADDRESSES: usize = 1000;
