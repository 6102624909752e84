//! The TLS layer against rustls's own client, octets carried in memory: what goes through it, how it ends,
//! and what is never looked at.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod certificates;
mod ending;
mod events;
mod handshake;
mod inside;
mod proxied;
mod server;
mod sessions;
mod wire;
