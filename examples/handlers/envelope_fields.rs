//! The header fields that say what the envelope was, as aiosmtpd names them.

use sansmtp::{Envelope, Path, Session};

/// `X-Peer`, `X-MailFrom` and `X-RcptTo`. A line has one recipient at the most, so that none is too long.
pub(crate) fn envelope_fields(session: &Session, envelope: &Envelope) -> String {
    let reverse_path = envelope.reverse_path().map(shown).unwrap_or_default();
    let forward_paths = envelope.forward_paths().map(shown).collect::<Vec<_>>().join(",\r\n\t");
    format!("X-Peer: {}\r\nX-MailFrom: {reverse_path}\r\nX-RcptTo: {forward_paths}\r\n", session.peer())
}

/// A path holds no control character: the engine sees to that. It can break out of no line.
fn shown(path: Path<'_>) -> String {
    if path.is_null() { path.to_string() } else { path.as_str().to_owned() }
}
