//! What the tests of all authenticators share.

#![allow(dead_code, unused_imports, unused_macros, reason = "each test takes what it needs")]
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is how a test fails")]

#[cfg(feature = "stored")]
pub(crate) mod accounts;
#[cfg(feature = "stored")]
pub(crate) mod addresses;
pub(crate) mod battery;
pub(crate) mod login;
pub(crate) mod logs;
#[cfg(feature = "postgres")]
pub(crate) mod postgresql;
pub(crate) mod scram_secret;
pub(crate) mod scripted;
#[cfg(feature = "oauth2")]
pub(crate) mod signer;
pub(crate) mod stalled;
#[cfg(feature = "stored")]
pub(crate) mod stores;
pub(crate) mod typed;
#[cfg(feature = "valkey")]
pub(crate) mod valkey;
pub(crate) mod wait;
