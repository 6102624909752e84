//! A durable queue of mail and its delivery over SMTP, for servers on `sansmtp`, the SMTP server engine.
//!
//! A server writes an accepted message into a [`Spool`], and says 250 when [`Incoming::commit`] has returned. A
//! [`Worker`], a thread of its own, takes it from there along a [`Route`]: to relays by SMTP or LMTP, or to the recipients' mail
//! exchangers. It tries again as a [`Schedule`] says, and tells the sender of what failed, takes long or, if it asks for
//! that, has gone well (RFC 3461, RFC 3464). Whatever happens to the process, a message that was acknowledged is delivered
//! or reported; what has no sender to be told goes to a postmaster, or is kept in the spool.
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use sansmtp_relay::{Delivery, Envelope, Route, Spool, Worker};
//!
//! let spool = Arc::new(Spool::open(Path::new("spool"))?);
//! let route = Route::Relays(vec!["smtps://user:password@smtp.example.org".parse()?]);
//! let worker = Worker::start(Arc::clone(&spool), Delivery::new(route, "mx.example.org"))?;
//!
//! let envelope = Envelope::new("tim@example.org", ["friend@example.net"]);
//! let mut incoming = Spool::begin(&spool, envelope)?;
//! incoming.write(b"Subject: Greetings\r\n\r\nHello\r\n")?;
//! incoming.commit()?;
//!
//! worker.stop(Duration::from_secs(30));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What a next hop gets is what came, octet for octet, as far as it takes that. Where it does not offer 8BITMIME, content
//! becomes quoted-printable or base64; for every next hop, lines get 998 octets at most; neither where that would break a
//! signature. Domains in other scripts become A-labels.
//!
//! [`control`] is how an operator looks into the spool and changes what waits there, while the worker runs or while none
//! does. [`maildir`] is for mail that goes no further, [`store`] for either, [`submission`] for the header of what users send, and [`received`] for
//! the field on top of it.
//!
//! The log (`tracing`) tells of every attempt, and never of a password. [`describe_metrics`] lists what is counted for the
//! recorder of the crate `metrics`, if the program installs one.
//!
//! [`senders`] says who may send as whom.

#![forbid(unsafe_code)]

pub mod control;
mod credentials;
mod delivery;
mod dsn;
pub mod durable;
mod envelope;
mod idn;
pub mod maildir;
mod metrics;
mod queue;
pub mod received;
mod reports;
mod routes;
mod sasl;
mod schedule;
pub mod senders;
mod spool;
pub mod store;
pub mod submission;
#[cfg(test)]
mod testing;

pub use credentials::{Credentials, Password, SecretError, SecretSource, TokenCommand};
pub use delivery::{Delivery, StartError, TrustHandle, Worker};
pub use dsn::{Notify, OriginalRecipient, Ret};
pub use envelope::{Envelope, InvalidQueueId, QueueId, Recipient};
pub use metrics::describe_metrics;
pub use routes::{NextHop, Protocol, RelayUrlError, Route, Security};
pub use sasl::{InvalidSaslMechanism, SaslMechanism};
pub use schedule::Schedule;
pub use spool::{Incoming, Spool};
