//! Authenticators for [`sansmtp`], the SMTP server engine, over the user databases that people already have.
//!
//! An [`Authenticator`] is shared by all connections, and answers what a mechanism wants to know. A handler passes
//! the engine's question on to it:
//!
//! ```
//! use std::sync::Arc;
//!
//! use sansmtp::{AuthRequest, AuthResult, Handler, Session};
//! use sansmtp_authenticators::Authenticator;
//!
//! struct Submission {
//!     users: Arc<dyn Authenticator>,
//! }
//!
//! impl Handler for Submission {
//!     fn authenticate(&mut self, _: &Session, request: &AuthRequest) -> AuthResult {
//!         self.users.authenticate(request)
//!     }
//! }
//! ```
//!
//! Authenticators block: they hash passwords, and wait for servers. The adapters call a
//! [`Handler`](sansmtp::Handler) where it may block; none of them needs an asynchronous runtime of the embedder's.
//! Each waits for a limited time only, and what it cannot find out by then is
//! [`AuthResult::cannot_tell`](sansmtp::AuthResult::cannot_tell), `454 4.7.0`, never a refusal.
//!
//! Each is behind a feature of its own name, but [`Chain`], which puts one behind the other.

#[cfg(feature = "valkey")]
pub mod attempts;
mod authenticator;
#[cfg(feature = "cache")]
mod cache;
mod chain;
#[cfg(feature = "dovecot")]
pub mod dovecot;
#[cfg(feature = "ldap")]
pub mod ldap;
#[cfg(feature = "memory")]
pub mod memory;
#[cfg(feature = "oauth2")]
pub mod oauth2;
#[cfg(feature = "passwd")]
pub mod passwd;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "postgres", feature = "valkey"))]
mod server_url;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(feature = "stored")]
pub mod stored;
#[cfg(any(feature = "introspection", feature = "ldap", feature = "postgres"))]
mod tls_client;
#[cfg(any(feature = "ldap", feature = "postgres", feature = "valkey"))]
mod url_text;

pub use authenticator::{Answers, Authenticator, Knows};
#[cfg(feature = "cache")]
pub use cache::{Cache, CacheLimits};
pub use chain::Chain;
#[cfg(any(feature = "postgres", feature = "valkey"))]
pub use server_url::InvalidUrl;
#[cfg(any(feature = "introspection", feature = "ldap", feature = "postgres"))]
pub use tls_client::InvalidRoots;
