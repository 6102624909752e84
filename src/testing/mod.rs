//! Plays transcripts against a connection: tests without sockets, threads or clocks.
//!
//! A transcript reads like the examples of the RFCs. The embedder's decisions are part of it, or come
//! from a [`Handler`](crate::Handler):
//!
//! ```
//! use sansmtp::testing::Play;
//! use sansmtp::{Auth, Config};
//!
//! let auth = Auth::new().require_tls(false);
//! let config = Config::builder("mx.example.org").auth(auth).build()?;
//! Play::new(config).transcript(
//!     r"
//!     S: 220 mx.example.org ESMTP
//!     C: EHLO client.example.net
//!     S*: 250
//!     C: AUTH PLAIN
//!     S: 334\x20
//!     C: AHRpbQB0YW5zdGFhZnRhbnN0YWFm
//!     ?: authenticate PLAIN authcid=tim password=tanstaaftanstaaf -> accept
//!     S: 235 2.7.0 ...
//!     C: QUIT
//!     S: 221 2.0.0 ...
//!     S: <closed>
//!     ",
//! )?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A line's first word says what it is; white space in front of it and empty lines do not matter.
//!
//! | line | meaning |
//! | --- | --- |
//! | `# text` | a comment |
//! | `C: line` | the client sends the line and CRLF; several in a row come in one read |
//! | `C-: octets` | the client sends the octets, with nothing added |
//! | `C*: N octets` | the same, N times |
//! | `S: line` | the next line of a reply is this one; a line that ends in ` ...` says only how it begins |
//! | `S*: code` | the next reply, of any number of lines, has this code |
//! | `S: <closed>` | the connection closes |
//! | `?: question -> answer` | the connection asks, and this is the answer |
//! | `!: event` | an event, as below; a transcript without any does not look at events |
//! | `=: octets` | the content handed on since the last such line |
//! | `A: reason` | the content is void |
//! | `T: seconds` | the clock moves on |
//! | `P: seconds` | a pause of that length; pauses that are not mentioned are passed over |
//! | `TLS: start`, `TLS: fail` | the connection asks for the handshake, which succeeds or fails |
//! | `X: eof` | the client closes its side |
//!
//! Events are those that the configuration, or the handler, has told. `CODE` is the reply's; in place of a command or a
//! path that is not known stands `-`.
//!
//! | event | [`Event`](crate::Event) |
//! | --- | --- |
//! | `opened`, `closed REASON` | `Opened`, `Closed` |
//! | `tls-ok VERSION`, `tls-failed REASON` | `TlsEstablished`, `TlsFailed` |
//! | `auth-ok MECHANISM LOGIN`, `auth-failed MECHANISM REASON` | `AuthSucceeded`, `AuthFailed` |
//! | `proxy-refused REASON` | `ProxyRefused` |
//! | `client-refused CODE`, `refused COMMAND CODE`, `rcpt-refused <PATH> CODE` | `ClientRefused`, `CommandRefused`, `RecipientRefused` |
//! | `transaction <PATH>` | `TransactionBegun` |
//! | `message-ok OCTETS CODE [<PATH>]`, `message-refused OCTETS CODE [<PATH>]` | `MessageAccepted`, `MessageRefused` |
//! | `limit LIMIT` | `LimitReached` |
//!
//! In octets, `\r \n \t \0 \\ \xHH` stand for what they do in Rust.
//!
//! Questions are `connect [from PEER]`, `helo NAME`, `ehlo NAME`, `lhlo NAME`, `mail <PATH>`, `rcpt <PATH>`, `data`,
//! `message OCTETS`, `rset`, `noop`, `vrfy ARGUMENT`, `expn ARGUMENT`, `unknown`, `quit`,
//! `authenticate MECHANISM authcid=NAME [authzid=NAME] [password=WORD] [sent=WORD]` (or `token=`, `trace=`), and for
//! the AUTH handler hook `auth MECHANISM [response=WORD]`. Secrets, and what stands behind them, may be left out of a
//! question. A password is the prepared one; `sent=` is there where the client sent another, and alone where SASLprep
//! prohibits it.
//!
//! Answers are a bare reply, `drop` (the question is forgotten), `late` (it is answered after its deadline),
//! for the AUTH handler hook `challenge TEXT` and `malformed`, for LMTP's `message` `each VERDICT; VERDICT; …`
//! (`accept`, `try-later` or a reply), and for the authenticator those below, each
//! with `with REPLY` behind it if wanted. A `message` that the transcript does not mention is accepted.
//!
//! | answer | meaning |
//! | --- | --- |
//! | `accept`, `accept as LOGIN` | yes |
//! | `grant`, `grant as LOGIN` | yes, and the authzid is granted |
//! | `refuse`, `refuse because REASON` | no; `wrong`, `unknown-user`, `disabled`, `no-keys`, `too-weak`, `transition`, `encryption` |
//! | `cannot-tell` | neither |
//! | `password WORD` | what somebody says who knows the password, by whatever mechanism it is asked for |
//! | `keys [HASH] ITERATIONS SALT PASSWORD` | SCRAM keys derived so, of the mechanism's hash unless one is named; the salt in base64 |
//! | `grant-keys …`, `keys-but REASON …` | the same, granting the authzid, or refusing all the same |
//!
//! [`Transcript`] takes the same lines apart into a client's and an embedder's, to test a server or a loop of
//! one's own over its sockets.

mod player;
mod sides;
mod transcript;
mod words;

pub use player::{Mismatch, Play};
pub use sides::{ClientLine, Embedder, Transcript};
