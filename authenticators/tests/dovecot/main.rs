//! Dovecot's authentication service: against a real Dovecot, and against servers that are broken.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod at_once;
mod battery;
mod broken;
mod clients;
mod dialogue;
mod mechanisms;
mod scripted;
mod secrets;
mod server;
mod service;
#[path = "../support/mod.rs"]
mod support;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

pub(crate) fn base64(octets: &[u8]) -> String {
    BASE64_STANDARD.encode(octets)
}

pub(crate) fn unbase64(text: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(text).unwrap()
}
