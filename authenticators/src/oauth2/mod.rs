//! Access tokens of an OAuth 2.0 authorization server, by OAUTHBEARER (RFC 7628) and XOAUTH2.
//!
//! [`Jwt`] checks tokens that are signed (RFC 7519, RFC 9068) by itself, with the public keys of the server in a
//! [`Jwks`]. `Introspection`, behind the feature of this name, asks the server about each token (RFC 7662), whatever it
//! looks like. What a token has to say is in [`TokenRules`] for both.
//!
//! ```
//! use sansmtp::auth::Auth;
//! use sansmtp::auth::mechanism::{OAuthBearer, XOAuth2};
//! use sansmtp_authenticators::oauth2::{Jwks, Jwt, TokenRules};
//!
//! fn tokens() -> Result<Jwt, Box<dyn std::error::Error>> {
//!     let rules = TokenRules::new()
//!         .issuer("https://id.example.org")
//!         .audience("https://mx.example.org")
//!         .scope("mail.send")
//!         .login_claim("email");
//!     Ok(Jwt::new(rules, Jwks::file("/etc/mail/jwks.json")?)?)
//! }
//!
//! // The mechanisms tell clients with another token what they need (RFC 7628, section 3.2.2).
//! let auth = Auth::new()
//!     .mechanism(OAuthBearer::new().scope("mail.send").openid_configuration(
//!         "https://id.example.org/.well-known/openid-configuration"))
//!     .mechanism(XOAuth2::new().scope("mail.send"));
//! # let _ = (tokens, auth);
//! ```
//!
//! A token that is not good is refused (535), whatever is wrong with it; what that was is a line of `tracing` at the
//! level `debug`, without the token and whatever it says.

mod flaw;
#[cfg(feature = "introspection")]
mod introspection;
mod jwk;
mod jwks;
mod jws;
mod jwt;
mod rules;

use crate::Answers;

#[cfg(feature = "introspection")]
pub use introspection::{Introspection, IntrospectionClient, IntrospectionError, IntrospectionLimits};
pub use jwks::{Jwks, JwksError};
pub use jwt::Jwt;
pub use rules::{RulesError, TokenRules};

/// All of its users have tokens, and nothing else.
fn answers(mechanism: &str) -> Answers {
    let is_bearer = ["OAUTHBEARER", "XOAUTH2"].iter().any(|name| name.eq_ignore_ascii_case(mechanism));
    if is_bearer { Answers::ForAll } else { Answers::ForNone }
}
