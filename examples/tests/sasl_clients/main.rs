//! Mail clients that others wrote log in to the running `authenticated_relayer` with every mechanism that they know:
//! over STARTTLS and over implicit TLS, with the right credential and a wrong one. The server logs at `trace` all the
//! while, and no password and no token may be in what it writes.

#[path = "../support/mod.rs"]
mod support;

mod command_line;
mod gsasl;
mod libraries;

/// Everything that the relayer can offer, with the mechanisms of channel binding.
const EVERY_MECHANISM: &str = "SCRAM-SHA-512-PLUS,SCRAM-SHA-256-PLUS,SCRAM-SHA-1-PLUS,\
    SCRAM-SHA-512,SCRAM-SHA-256,SCRAM-SHA-1,PLAIN,LOGIN,CRAM-MD5,OAUTHBEARER,XOAUTH2,EXTERNAL";
