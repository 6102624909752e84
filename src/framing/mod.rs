//! Octets to units: command and response lines, and message content.
//!
//! Framing comes before parsing, so that a bad line is thrown away whole. Both framers keep what
//! they need between two calls themselves; however the input is cut, they give the same units.

pub(crate) mod content;
pub(crate) mod lines;
