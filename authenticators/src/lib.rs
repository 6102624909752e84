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
//!     type Message = ();
//!
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
//! Whoever waits occupies a thread, and connections share a pool of those (500 with smol, 512 with tokio). So only a few
//! logins wait at the same time, and one more is `454 4.7.0` at once: 96 for each server (256 for Dovecot, which holds
//! refusals back), 256 for a hash and for the count of failures, 352 in a [`Chain`]. A server that hangs leaves threads for everything else.
//!
//! # Which form of a password
//!
//! SASLprep (RFC 4013), by which RFC 4616 and RFC 5802 prepare passwords, makes `m2` of `m²`, `é` of `e` with an accent
//! behind it, a space of a no-break space, and prohibits Hebrew before digits. Clients send PLAIN and LOGIN what was typed,
//! or prepare it; hashes are made of the one or the other. So an authenticator is given
//! [both](sansmtp::auth::Password), and a password is right if one of them is:
//!
//! | what is stored | made of | compared with |
//! |---|---|---|
//! | by `Accounts` and `user add`, in memory, SQLite or PostgreSQL: Argon2id, SCRAM keys | the prepared password; one that SASLprep prohibits is not taken, with the reason | both forms (SCRAM's clients prepare) |
//! | by `Accounts` likewise: CRAM-MD5 keys | both forms, as RFC 2195 prepares nothing and only some clients do | the client's digest with both; PLAIN and LOGIN with both forms |
//! | elsewhere: `htpasswd`, `doveadm pw`, `mkpasswd`, `/etc/shadow`, in a file of users or imported | what was typed, mostly | both forms |
//! | by PostgreSQL: SCRAM keys | the prepared password; what PostgreSQL's SASLprep prohibits (all that Unicode 3.2 did not know, too), as it was typed | both forms |
//! | in an LDAP directory | what was typed, mostly | both forms: a second bind if the first is refused |
//! | in Dovecot | what was typed | both forms, the second if the first is refused; what is passed through, as it was sent |
//! | in a [`Cache`], for a short while | what was sent | what is sent |
//!
//! In a store, two forms are two hashes, for a user and for a name without one, whichever is right. In LDAP and Dovecot
//! the second form is left out when the first was right, as those count failures; both refuse in two steps whomever they
//! refuse. What follows the first 72 octets of a password makes no difference to bcrypt: a longer one is not refused, since
//! its hash was made all the same. A password of which SASLprep leaves nothing is an empty one.
//!
//! # Which addresses a login may send from
//!
//! [`Authenticator::addresses`] tells it, so that a submission server can keep its users from sending as somebody else (RFC
//! 6409, section 6.1): SQLite, PostgreSQL and memory [keep them](stored::Accounts::add_address), and an LDAP directory has
//! them in an [attribute](ldap::LdapBuilder::mail_attribute), which is read at the login and comes with its result, as
//! [`LoginAddresses`]. The others have none.
//!
//! # Features
//!
//! None is on unless asked for. [`Chain`], which puts one behind the other, needs none, nor does [`sending`], which limits
//! what a login sends.
//!
//! | feature | what it is | mechanisms that it can answer | what it pulls in |
//! |---|---|---|---|
//! | `cache` | [`Cache`]: what another one said a short while ago | those of the other one; remembers PLAIN, LOGIN, and tokens if told to | `hmac`, `sha2` |
//! | `dovecot` | [Dovecot's auth service](dovecot) | all that Dovecot offers, by the AUTH handler hook; in a chain PLAIN, LOGIN, OAUTHBEARER, XOAUTH2 | `base64` |
//! | `introspection` | [`Introspection`](oauth2::Introspection): tokens that the authorization server is asked about | OAUTHBEARER, XOAUTH2 | what `oauth2` does, `httparse`, `rustls` |
//! | `ldap` | [an LDAP directory](ldap) | PLAIN, LOGIN | `ldap3`, `rustls`; `tokio`, hidden on a thread |
//! | `memory` | [users in memory](memory), for tests and small tools | those of `stored` | what `stored` does |
//! | `oauth2` | [`Jwt`](oauth2::Jwt): tokens that are signed | OAUTHBEARER, XOAUTH2 | `ring`, `serde_json` |
//! | `passwd` | [a file of `user:hash` lines](passwd) | PLAIN, LOGIN, EXTERNAL; SCRAM and CRAM-MD5 for whoever has keys in it | what `stored` does |
//! | `postgres` | [a PostgreSQL database](postgres), for a fleet of servers | those of `stored` | what `stored` does, `tokio-postgres`, `rustls`; `tokio`, hidden on a thread |
//! | `source` | [where users are](source), as an option of a program names it | those of the ones that it names | `cache`, `dovecot`, `ldap`, `oauth2`, `passwd`, `postgres`, `sqlite` |
//! | `sqlite` | [an SQLite database](sqlite), for one machine | those of `stored` | what `stored` does, `rusqlite` with SQLite |
//! | `stored` | what stores of users share, also [those of your own](stored) | PLAIN, LOGIN, EXTERNAL, SCRAM; CRAM-MD5 where its key is kept; OAUTHBEARER and XOAUTH2 with tokens that are given out | `argon2`, `bcrypt`, `sansmtp-scrypt`, `sha-crypt`, `pbkdf2` |
//! | `valkey` | [failures](attempts), and [what is sent](sending), counted for a fleet in Valkey or Redis | those of the authenticator that it guards | `redis`, `rustls` |

// Of what is not there nothing can be linked to.
#![cfg_attr(
    not(all(
        feature = "cache",
        feature = "dovecot",
        feature = "introspection",
        feature = "ldap",
        feature = "memory",
        feature = "passwd",
        feature = "postgres",
        feature = "source",
        feature = "sqlite",
        feature = "valkey"
    )),
    allow(rustdoc::broken_intra_doc_links)
)]

mod addresses;
#[cfg(feature = "valkey")]
pub mod attempts;
mod authenticator;
#[cfg(feature = "cache")]
mod cache;
mod chain;
#[cfg(feature = "valkey")]
mod counting;
#[cfg(feature = "dovecot")]
pub mod dovecot;
#[cfg(feature = "ldap")]
pub mod ldap;
mod limit;
#[cfg(feature = "memory")]
pub mod memory;
#[cfg(feature = "oauth2")]
pub mod oauth2;
#[cfg(feature = "passwd")]
pub mod passwd;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod sending;
#[cfg(any(feature = "postgres", feature = "valkey"))]
mod server_url;
#[cfg(feature = "source")]
pub mod source;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(feature = "stored")]
pub mod stored;
#[cfg(any(feature = "introspection", feature = "ldap", feature = "postgres"))]
mod tls_client;
#[cfg(any(feature = "ldap", feature = "postgres", feature = "valkey"))]
mod url_text;

pub use addresses::{Addresses, LoginAddresses, MAX_ADDRESSES};
pub use authenticator::{Answers, Authenticator, Knows};
#[cfg(feature = "cache")]
pub use cache::{Cache, CacheLimits};
pub use chain::Chain;
#[cfg(any(feature = "postgres", feature = "valkey"))]
pub use server_url::InvalidUrl;
#[cfg(any(feature = "introspection", feature = "ldap", feature = "postgres"))]
pub use tls_client::InvalidRoots;
