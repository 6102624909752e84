//! What all authenticators are.

use std::sync::Arc;

use sansmtp::{AuthRequest, AuthResult};

use crate::Addresses;

/// Answers what mechanisms want to know ([`AuthRequest::question`]), for all connections of a server.
///
/// What it answers does not tell an unknown user and a disabled one from a wrong password, nor does the time that
/// it takes.
pub trait Authenticator: Send + Sync {
    /// Answers a request. May block, for a limited time.
    ///
    /// What cannot be answered, because of a fault or because there is nothing in store for the request's mechanism,
    /// is [`AuthResult::cannot_tell`].
    fn authenticate(&self, request: &AuthRequest) -> AuthResult;

    /// Whether it is the one to [ask](Self::authenticate): whether it knows the user, or whoever a token or a
    /// certificate stands for. May block, for a limited time. Does not cost a hash.
    fn knows(&self, request: &AuthRequest) -> Knows;

    /// For whom it can answer what the mechanism of this name (in any case) asks. May block, for a limited time.
    ///
    /// PLAIN and LOGIN for all, and nothing else, unless overridden. Clients choose SCRAM where it is offered, so a
    /// server should offer it only where everybody can log in by it, or be told to.
    fn answers(&self, mechanism: &str) -> Answers {
        if is_password_mechanism(mechanism) { Answers::ForAll } else { Answers::ForNone }
    }

    /// From which addresses a user may send mail who is logged in under this name, as
    /// [`Session::login`](sansmtp::Session::login) has it. May block, for a limited time.
    ///
    /// [`Addresses::UnknownLogin`] unless overridden. An authenticator that learns them at the login attaches them to its result,
    /// as [`LoginAddresses`](crate::LoginAddresses).
    fn addresses(&self, login: &str) -> Addresses {
        let _ = login;
        Addresses::UnknownLogin
    }
}

/// Whether an [`Authenticator`] knows a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a chain of authenticators must know what to do with each")]
pub enum Knows {
    /// It does. Another one is not to be asked.
    Yes,
    /// It does not.
    No,
    /// It finds out by [`authenticate`](Authenticator::authenticate) only, of which
    /// [`UnknownUser`](sansmtp::Refusal::UnknownUser) is the result if it does not.
    WhenAsked,
    /// It cannot tell at the moment, because of a fault: as good as [`Yes`](Self::Yes), lest somebody else's user of
    /// the same name get in.
    CannotTell,
}

/// For whom an [`Authenticator`] can answer what a mechanism asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever decides what to offer must know what to do with each")]
pub enum Answers {
    /// For none of its users: the mechanism needs another authenticator.
    ForNone,
    /// For those for whom it has what the mechanism needs, or who have been given a token; others have to log in
    /// otherwise.
    ForSome,
    /// For all of its users; or for all once they have logged in by PLAIN or LOGIN.
    ForAll,
}

/// Whether a mechanism, named in any case, brings the password itself.
pub(crate) fn is_password_mechanism(mechanism: &str) -> bool {
    ["PLAIN", "LOGIN"].iter().any(|name| name.eq_ignore_ascii_case(mechanism))
}

macro_rules! passed_on {
    ($($owner:ident),*) => {$(
        impl<A: Authenticator + ?Sized> Authenticator for $owner<A> {
            fn authenticate(&self, request: &AuthRequest) -> AuthResult {
                (**self).authenticate(request)
            }

            fn knows(&self, request: &AuthRequest) -> Knows {
                (**self).knows(request)
            }

            fn answers(&self, mechanism: &str) -> Answers {
                (**self).answers(mechanism)
            }

            fn addresses(&self, login: &str) -> Addresses {
                (**self).addresses(login)
            }
        }
    )*};
}

passed_on!(Arc, Box);
