//! A sans-IO SMTP server protocol engine, with authentication at its heart.
//!
//! A [`Connection`] takes octets, the time and answers, and gives [`Action`]s. It opens no socket, reads
//! no clock, starts no thread and knows no runtime, so that the same code serves any of them, and a unit
//! test too.
//!
//! ```text
//!              ┌───────── no socket, clock, thread, runtime ─────────┐
//! octets ─────►│ tls ─► framing ─► commands, AUTH, content           │─► Action
//! answers ────►│ AuthResult, Verdict                                 │
//!              └─────────────────────────────────────────────────────┘
//!                ▲ driven by sansmtp-smol, -tokio or -threads, a loop of your own, or a unit test
//! ```
//!
//! # The loop
//!
//! This is a whole SMTP server for one connection, on blocking sockets:
//!
//! ```
//! use sansmtp::{Action, Auth, AuthQuestion, AuthResult, Config, Connection, Hook, Hooks, Incoming, ReadBuffer, Verdict, reply};
//! use std::io::{Read, Write};
//! use std::net::TcpStream;
//! use std::time::Instant;
//!
//! fn serve(mut stream: TcpStream) -> Result<(), Box<dyn std::error::Error>> {
//!     // The authenticator below has no keys for SCRAM.
//!     let auth = Auth::new().exclude("SCRAM-SHA-256").require_tls(false);
//!     let config = Config::builder("mx.example.org").auth(auth).auth_required(true).hooks(Hooks::MESSAGE).build()?;
//!     let mut connection = Connection::new(config, stream.peer_addr()?);
//!     let (start, mut buffer, mut out) = (Instant::now(), ReadBuffer::new(8192), Vec::new());
//!     let mut incoming = Incoming::<Vec<u8>>::new();
//!     loop {
//!         match buffer.poll(&mut connection, start.elapsed()) {
//!             Action::Reply(reply) => out.extend_from_slice(reply.as_bytes()),
//!             Action::Challenge(challenge) => out.extend_from_slice(challenge.as_bytes()),
//!             Action::Flush { .. } => {
//!                 stream.write_all(&out)?;
//!                 out.clear();
//!             }
//!             Action::CallAuthenticator(request) => {
//!                 let result = match request.question() {
//!                     AuthQuestion::Password(password) if password.ct_eq(b"tanstaaftanstaaf") => AuthResult::accept(),
//!                     _ => AuthResult::refuse(),
//!                 };
//!                 connection.answer(request.answer(result))?;
//!             }
//!             Action::CallHook(call) => {
//!                 // Asked for the end of a message only.
//!                 let verdict = match call.hook() {
//!                     Hook::Message { octets } => incoming.take(octets).map_or(Verdict::TryLater, store),
//!                     _ => Verdict::Accept,
//!                 };
//!                 let answer = call.answer(verdict);
//!                 connection.answer(answer)?;
//!             }
//!             Action::Content(piece) => incoming.append(piece),
//!             Action::Aborted(_) => incoming.discard(),
//!             Action::Event(event) => println!("{event:?}"),
//!             Action::NeedInput { deadline } => {
//!                 stream.set_read_timeout(Some(deadline.saturating_sub(start.elapsed()).max(MINIMUM)))?;
//!                 match stream.read(buffer.room()) {
//!                     Ok(0) => connection.end_of_input(),
//!                     Ok(octets) => buffer.filled(octets),
//!                     // The next poll sees the clock.
//!                     Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
//!                     Err(error) => return Err(error.into()),
//!                 }
//!             }
//!             Action::Pause { until } => std::thread::sleep(until.saturating_sub(start.elapsed())),
//!             Action::Close => return Ok(()),
//!             // Every question is answered at once, and TLS is not configured.
//!             Action::AwaitAnswer { .. } | Action::CallAuthHandler(_) | Action::StartTls | Action::Transmit(_) => {}
//!         }
//!     }
//! }
//!
//! /// Nothing is stored here, so nothing is promised.
//! fn store(message: Vec<u8>) -> Verdict {
//!     println!("{} octets", message.len());
//!     reply!("451 4.3.0 Come back later").into()
//! }
//! # const MINIMUM: std::time::Duration = std::time::Duration::from_millis(1);
//! #
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #     let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! #     let mut client = TcpStream::connect(listener.local_addr()?)?;
//! #     let server = std::thread::spawn(move || serve(listener.accept().unwrap().0).map_err(|error| error.to_string()));
//! #     client.write_all(b"EHLO c\r\nAUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n\
//! #         Subject: x\r\n\r\nx\r\n.\r\nQUIT\r\n")?;
//! #     let mut replies = String::new();
//! #     client.read_to_string(&mut replies)?;
//! #     assert!(replies.contains("\r\n235 2.7.0 ") && replies.contains("\r\n354 ") && replies.contains("\r\n451 4.3.0 Come"));
//! #     assert!(replies.ends_with("\r\n221 2.0.0 mx.example.org closes the connection\r\n"));
//! #     server.join().unwrap()?;
//! #     Ok(())
//! # }
//! ```
//!
//! # What holds
//!
//! * **However the input is cut, the actions are the same.** Only when a wait begins depends on it.
//! * **Octets are borrowed, questions are owned.** A command that lies whole in the input is parsed in
//!   place; content is handed on as slices of the input. A question can go to another thread.
//! * **The answer consumes the question.** Answering twice, or in the wrong kind, does not compile. A
//!   question that is dropped, by a panic too, is a temporary failure at the next poll, and one that is
//!   held too long becomes one at its deadline. Nothing leads from an omission to 235 or 250.
//! * **Every buffer is bounded** by the configuration, and so is every wait.
//! * **No allocation in steady state.** A command that lies whole in the input is answered, and content
//!   handed on, without touching the heap. What does allocate: AUTH by any mechanism but PLAIN, a
//!   transaction of more than 4 forward-paths or 256 octets of paths, more than 64 octets of argument for
//!   a subscribed hook, a command with more white space than one space between its words, and whatever a reply or
//!   result of the embedder's own brings along.
//! * **Secrets are typed**: redacted, zeroized, compared in constant time ([`Secret`]).
//!
//! # Where to look
//!
//! | for | see |
//! | --- | --- |
//! | limits, timeouts, policy | [`Config`] |
//! | mechanisms, and one of your own | [`Auth`], [`auth::mechanism`] |
//! | what an authenticator is asked | [`AuthQuestion`], [`auth::ScramKeys`] |
//! | failures across connections | [`auth::AttemptLog`] |
//! | hooks and authenticator as methods | [`Handler`], [`AsyncHandler`] |
//! | what gathers a message | [`MailData`], [`Incoming`] |
//! | TLS (feature `rustls`) | `tls::Session` |
//! | whom a proxy or filter speaks for | [`proxy`], [`xclient`] |
//! | what an operator wants to see | [`Event`], [`Events`] |
//! | tests without sockets (feature `testing`) | `testing` |
//! | aiosmtpd's names for all that | [`coming_from_aiosmtpd`] |
//!
//! Features: `std` (on; without it the engine needs `alloc` only, but takes its randomness from
//! [`ConfigBuilder::entropy`] and, having no tables for SASLprep, refuses identities beyond ASCII and has such
//! passwords as they were sent only), `rustls`, `testing`.

#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

mod action;
pub mod auth;
mod canned;
// Its code is compiled and run with an adapter at hand: the documentation tests of sansmtp-smol.
#[cfg_attr(not(doctest), doc = include_str!("coming_from_aiosmtpd.md"))]
pub mod coming_from_aiosmtpd {}
mod command;
mod config;
mod connection;
mod ehlo;
mod envelope;
mod event;
mod extensions;
mod framing;
mod handler;
mod help;
mod mail_data;
mod network;
pub mod proxy;
mod question;
mod read_buffer;
mod reply;
mod secret;
mod session;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "rustls")]
pub mod tls;
pub mod xclient;

pub use action::{AbortReason, Aborted, Action, AuthFailure, Challenge, Hook, HookCall, HookQuestion};
pub use auth::{Auth, AuthQuestion, AuthRequest, AuthResult, AuthTurn, Hidden, MechanismName, Refusal};
pub use command::client_name::ClientName;
pub use config::{Config, ConfigBuilder, ConfigError, Events, Hooks, Limits, Newlines, NoEntropy, Quirks, Timeouts};
pub use connection::Connection;
pub use envelope::{Body, DeliverBy, Envelope, Hold, Notify, Path, Ret};
pub use event::{CloseReason, Event, OwnedClosed, ReachedLimit, TlsFailure};
pub use extensions::{Extensions, FutureRelease};
pub use handler::{AsyncHandler, Handler, OwnedHookCall};
pub use mail_data::{AsyncMailData, Incoming, MailData, Piece};
pub use network::{InvalidNetwork, Network};
pub use proxy::{Proxy, ProxyInfo};
pub use question::{Answer, NotAsked, Verdict};
pub use read_buffer::{Poll, ReadBuffer};
pub use reply::{EnhancedCode, InvalidReply, Reply, ReplyRef};
pub use secret::{Secret, SecretRef};
pub use session::{Greeting, Peer, Session, TlsInfo, TlsVersion};
pub use xclient::{XClient, XClientInfo};
