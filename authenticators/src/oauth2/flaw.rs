//! Why a token is not good.

use std::fmt;

/// What is wrong with a token: for the log, never for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    Algorithm,
    Audience,
    Critical,
    EmbeddedKey,
    Expired,
    #[cfg(feature = "introspection")]
    Inactive,
    Issuer,
    KeyUnknown,
    Login,
    Malformed,
    NoExpiry,
    NotYetValid,
    Scope,
    SenderConstrained,
    Signature,
    TooLong,
    Type,
    User,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Algorithm => "the algorithm is not the key's",
            Self::Audience => "it is for another audience",
            Self::Critical => "it has critical headers",
            Self::EmbeddedKey => "it brings a key of its own, or says where to get one",
            Self::Expired => "it has expired",
            #[cfg(feature = "introspection")]
            Self::Inactive => "the server says that it is not active",
            Self::Issuer => "it is another issuer's",
            Self::KeyUnknown => "there is no such key",
            Self::Login => "the claim that names the login is missing, or no name",
            Self::Malformed => "it is no signed JWT",
            Self::NoExpiry => "it never expires",
            Self::NotYetValid => "it is not valid yet",
            Self::Scope => "it lacks a scope",
            Self::SenderConstrained => "it is bound to a key of the client's",
            Self::Signature => "the signature is wrong",
            Self::TooLong => "it is too long",
            Self::Type => "its type is not that of an access token",
            Self::User => "it is not the token of the user who was named",
        })
    }
}
