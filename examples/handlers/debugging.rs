//! Prints each message.

use std::io::{self, Write};

use sansmtp::{Envelope, Handler, Hooks, Session, Verdict};

use crate::envelope_fields::envelope_fields;

/// Prints to `out` what aiosmtpd's handler of this name prints: the message between two lines that say so, with the
/// fields of the envelope behind its header section.
pub(crate) struct Debugging<W> {
    out: W,
}

impl<W: Write> Debugging<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out }
    }

    fn print(&mut self, message: &[u8], fields: &str) -> io::Result<()> {
        // Where there is no body, the end of the header section is the end.
        let header = message.windows(4).position(|octets| octets == b"\r\n\r\n").map_or(message.len(), |at| at + 2);
        let (header, body) = message.split_at(header);
        let parts = [
            b"---------- MESSAGE FOLLOWS ----------\r\n",
            header,
            fields.as_bytes(),
            body,
            b"------------ END MESSAGE ------------\r\n",
        ];
        // In one piece: other connections print as well.
        let text = String::from_utf8_lossy(&parts.concat()).replace("\r\n", "\n");
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

impl<W: Write + Send> Handler for Debugging<W> {
    type Message = Vec<u8>;

    fn hooks(&self) -> Hooks {
        Hooks::MESSAGE
    }

    fn message(&mut self, session: &Session, envelope: &Envelope, message: Vec<u8>) -> Verdict {
        match self.print(&message, &envelope_fields(session, envelope)) {
            Ok(()) => Verdict::Accept,
            Err(_) => Verdict::TryLater,
        }
    }
}

#[cfg(test)]
mod tests {
    use sansmtp::Config;
    use sansmtp::testing::Play;

    use super::*;

    fn printed(content: &str) -> String {
        let config = Config::builder("mx.example.org").build().unwrap();
        let mut handler = Debugging::new(Vec::new());
        let transcript = format!(
            r"
            S: 220 mx.example.org ESMTP
            C: EHLO client.example
            S*: 250
            C: MAIL FROM:<a@example.org>
            C: RCPT TO:<b@example.org>
            C: RCPT TO:<c@example.org>
            C: DATA
            S*: 250
            S*: 250
            S*: 250
            S*: 354
            C-: {content}.\r\n
            S*: 250
            ",
        );
        let peer = std::net::SocketAddr::from(([192, 0, 2, 1], 25));
        Play::new(config).peer(peer).transcript_with(&mut handler, &transcript).unwrap();
        String::from_utf8(handler.out).unwrap()
    }

    #[test]
    fn a_message_is_printed_with_its_envelope() {
        let expected = "---------- MESSAGE FOLLOWS ----------\n\
            Subject: hello\n\
            X-Peer: 192.0.2.1:25\n\
            X-MailFrom: a@example.org\n\
            X-RcptTo: b@example.org,\n\
            \tc@example.org\n\
            \n\
            .body\n\
            ------------ END MESSAGE ------------\n";
        assert_eq!(printed(r"Subject: hello\r\n\r\n..body\r\n"), expected);
    }

    #[test]
    fn a_message_needs_no_body() {
        assert!(printed(r"Subject: hello\r\n").contains("Subject: hello\nX-Peer: "));
        assert!(printed("").contains("FOLLOWS ----------\nX-Peer: "));
    }
}
