//! A sans-IO SMTP server engine.

#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

mod action;
pub mod auth;
mod canned;
mod command;
mod config;
mod connection;
mod envelope;
mod framing;
mod handler;
mod question;
mod read_buffer;
mod reply;
mod secret;
mod session;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "rustls")]
pub mod tls;

pub use action::{AbortReason, Aborted, Action, AuthFailure, Challenge, Event, Hook, HookCall, HookQuestion};
pub use auth::{Auth, AuthRequest, AuthResult, AuthTurn, Hidden, MechanismName, Refusal};
pub use config::{Config, ConfigBuilder, ConfigError, Hooks, Limits, Newlines, Quirks, Timeouts};
pub use connection::Connection;
pub use envelope::{Body, Envelope, Path};
pub use handler::{AsyncHandler, Handler, OwnedHookCall};
pub use question::{Answer, NotAsked, Verdict};
pub use read_buffer::ReadBuffer;
pub use reply::{EnhancedCode, InvalidReply, Reply, ReplyRef};
pub use secret::{Secret, SecretRef};
pub use session::{Greeting, Peer, Session, TlsInfo};
