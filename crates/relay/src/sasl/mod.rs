//! The client's side of SASL (RFC 4422): which mechanism to log in by, and what it says. No octet is sent here.
//!
//! Written out rather than taken from `rsasl`, which leaves passwords and what is derived from them in memory, and has
//! no SCRAM-SHA-512.

mod bearer;
mod cram_md5;
mod exchange;
mod mechanism;
mod scram;

pub(crate) use self::exchange::{Binding, Exchange, ExchangeError, Login};
pub use self::mechanism::{InvalidSaslMechanism, SaslMechanism};
pub(crate) use self::mechanism::{SecretKind, choose};
