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
//! let route = Route::Relays(vec!["smtps://user@smtp.example.org?password-file=relay-password".parse()?]);
//! let mut delivery = Delivery::new(route, "mx.example.org");
//! delivery.postmaster = Some("postmaster@example.org".to_owned());
//! let worker = Worker::start(Arc::clone(&spool), delivery)?;
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
//! # What a submission server adds
//!
//! A message from a user who is logged in: [`senders`] checks that the login may send from its reverse-path and its `From:`,
//! [`received`] writes the field on top, and [`submission`] completes the header (RFC 6409).
//!
//! ```no_run
//! # use std::sync::Arc;
//! use sansmtp_relay::received::{Client, Protocol, Received};
//! use sansmtp_relay::senders::{CurrentSender, KnownAddresses, SenderPolicy};
//! use sansmtp_relay::submission::Submission;
//! use sansmtp_relay::{Envelope, Spool};
//!
//! # fn take(spool: &Arc<Spool>, content: &[&[u8]]) -> Result<(), Box<dyn std::error::Error>> {
//! // At MAIL.
//! let policy = SenderPolicy::new("mx.example.org");
//! let addresses = |_login: &str| KnownAddresses::These(vec!["tim@example.org".to_owned()]);
//! let mut sender = CurrentSender::default();
//! policy.check_reverse_path(&mut sender, "tim", "tim@example.org", addresses)?;
//!
//! // At DATA.
//! let mut envelope = Envelope::new("tim@example.org", ["friend@example.net"]);
//! let client = Client { name: "laptop.example", address: "192.0.2.1".parse().ok(), tls: None };
//! let protocol = Protocol { extended: true, tls: true, authenticated: true, ..Protocol::default() };
//! envelope.received = Received::new("mx.example.org", &envelope.id, protocol).from(client).to_string();
//! let mut header = Submission::new("mx.example.org", &envelope.id);
//! let mut incoming = Spool::begin(spool, envelope)?;
//! for piece in content {
//!     header.push(piece, |octets| incoming.write(octets))?;
//! }
//!
//! // At the end of the mail data. Where this fails, `incoming` is dropped, and leaves nothing behind.
//! policy.check_header(&mut sender, "tim", header.originators(), addresses)?;
//! header.finish(|octets| incoming.write(octets))?;
//! incoming.commit()?;
//! # Ok(())
//! # }
//! ```
//!
//! [`maildir`] is for mail that goes no further, and [`store`] for either.
//!
//! # What an operator has
//!
//! [`control`] lists and shows what waits in the spool, and flushes, holds, releases and deletes it, while a worker runs or
//! while none does. The log (`tracing`) tells of every attempt, and never of a password. [`describe_metrics`] lists what is
//! counted for the recorder of the crate `metrics`, if the program installs one. [`Worker::trust`] has certificates read
//! anew.

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
