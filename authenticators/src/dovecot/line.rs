//! The lines that go to Dovecot.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::escape::escape;

/// A line under construction; zeroized, as it may hold a password.
///
/// It has room for the longest line from the beginning, so that no copy is left behind by growing.
pub(super) struct Line {
    octets: Zeroizing<Vec<u8>>,
    overflow: bool,
}

/// The line would be longer than Dovecot takes. It would close the connection of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Line {
    /// Begins a line with a command about a request.
    pub(super) fn new(command: &str, id: u32) -> Self {
        let mut line = Self { octets: Zeroizing::new(Vec::with_capacity(MAX_LINE_OCTETS)), overflow: false };
        line.push(command.as_bytes());
        line.push(b"\t");
        line.push(id.to_string().as_bytes());
        line
    }

    /// Adds a field, escaped.
    pub(super) fn field(mut self, value: &[u8]) -> Self {
        self.push(b"\t");
        escape(value, |piece| self.push(piece));
        self
    }

    /// Adds `name=value`.
    pub(super) fn pair(mut self, name: &str, value: &str) -> Self {
        self.push(b"\t");
        self.push(name.as_bytes());
        self.push(b"=");
        escape(value.as_bytes(), |piece| self.push(piece));
        self
    }

    /// Adds a field of `prefix` and the octets in base64.
    pub(super) fn base64(mut self, prefix: &str, octets: &[u8]) -> Self {
        self.push(b"\t");
        self.push(prefix.as_bytes());
        let start = self.octets.len();
        let encoded = base64::encoded_len(octets.len(), true).unwrap_or(usize::MAX);
        if encoded > MAX_LINE_OCTETS - start {
            self.overflow = true;
            return self;
        }
        self.octets.resize(start + encoded, 0);
        let room = self.octets.get_mut(start..).unwrap_or_default();
        self.overflow |= STANDARD.encode_slice(octets, room).is_err();
        self
    }

    /// Ends the line.
    pub(super) fn finish(mut self) -> Result<Zeroizing<Vec<u8>>, TooLong> {
        self.push(b"\n");
        if self.overflow { Err(TooLong) } else { Ok(self.octets) }
    }

    fn push(&mut self, octets: &[u8]) {
        if octets.len() > MAX_LINE_OCTETS - self.octets.len() {
            self.overflow = true;
        } else {
            self.octets.extend_from_slice(octets);
        }
    }
}

/// Dovecot 2.3 and 2.4 take lines of so many octets (`AUTH_CLIENT_MAX_LINE_LENGTH`), and send none that are longer.
/// The engine's longest response, 12,288 octets, has room in it.
pub(super) const MAX_LINE_OCTETS: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    fn line(line: Line) -> String {
        String::from_utf8(line.finish().unwrap().to_vec()).unwrap()
    }

    #[test]
    fn fields_are_escaped_and_responses_encoded() {
        let auth = Line::new("AUTH", 7).field(b"PLAIN").pair("service", "smtp").pair("session", "a\tnologin\nCPID\t1");
        let auth = auth.field(b"secured=tls").base64("resp=", b"\0tim\0tanstaaf");
        let expected = "AUTH\t7\tPLAIN\tservice=smtp\tsession=a\u{1}tnologin\u{1}nCPID\u{1}t1\tsecured=tls\tresp=AHRpbQB0YW5zdGFhZg==\n";
        assert_eq!(line(auth), expected);
        assert_eq!(line(Line::new("CONT", 7).base64("", b"")), "CONT\t7\t\n");
        assert_eq!(line(Line::new("CANCEL", u32::MAX)), "CANCEL\t4294967295\n");
    }

    #[test]
    fn a_line_is_never_longer_than_dovecot_takes() {
        let most = (MAX_LINE_OCTETS - "CONT\t1\t\n".len()) / 4 * 3;
        let longest = Line::new("CONT", 1).base64("", &vec![b'x'; most]).finish().unwrap();
        assert!(longest.len() <= MAX_LINE_OCTETS && longest.len() > MAX_LINE_OCTETS - 4);
        assert_eq!(longest.capacity(), MAX_LINE_OCTETS);
        assert_eq!(Line::new("CONT", 1).base64("", &vec![b'x'; most + 1]).finish().unwrap_err(), TooLong);
        assert_eq!(Line::new("AUTH", 1).pair("session", &"\t".repeat(9_000)).finish().unwrap_err(), TooLong);
        let full = Line::new("AUTH", 1).field(&[b'x'; MAX_LINE_OCTETS - "AUTH\t1\t".len()]);
        assert_eq!(full.finish().unwrap_err(), TooLong);
    }
}
