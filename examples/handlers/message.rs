//! Parses each message, and prints a summary.

use std::io::{self, Write};

use mail_parser::{Address, MessageParser, MimeHeaders};
use sansmtp::{Envelope, Handler, Hooks, Session, Verdict, reply};

use crate::envelope_fields::envelope_fields;

/// What `aiosmtpd.handlers.Message` is the base class of: a handler that works on a parsed message.
pub(crate) struct Messages<W> {
    out: W,
}

impl<W: Write> Messages<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out }
    }

    fn print(&mut self, summary: &str) -> io::Result<()> {
        // In one piece: other connections print as well.
        self.out.write_all(format!("{summary}\n").as_bytes())?;
        self.out.flush()
    }
}

/// What the envelope and the header fields say, and the beginning of the text.
fn summary(message: &[u8], fields: &str) -> Option<String> {
    let message = MessageParser::default().parse(message)?;
    let mut lines = fields.replace("\r\n", "\n");
    let addresses = [("From", message.from()), ("To", message.to()), ("Cc", message.cc())];
    for (name, addresses) in addresses {
        lines += &addresses.map(|addresses| line(name, &shown(addresses))).unwrap_or_default();
    }
    lines += &message.date().map(|date| line("Date", &date.to_rfc3339())).unwrap_or_default();
    lines += &message.subject().map(|subject| line("Subject", subject)).unwrap_or_default();
    lines +=
        &message.body_text(0).map(|text| line("Text", text.lines().next().unwrap_or_default())).unwrap_or_default();
    for part in message.attachments() {
        let name = part.attachment_name().unwrap_or("without a name");
        lines += &line("Attachment", &format!("{name}, {} octets", part.contents().len()));
    }
    Some(lines)
}

impl<W: Write + Send> Handler for Messages<W> {
    type Message = Vec<u8>;

    fn hooks(&self) -> Hooks {
        Hooks::MESSAGE
    }

    fn message(&mut self, session: &Session, envelope: &Envelope, message: Vec<u8>) -> Verdict {
        match summary(&message, &envelope_fields(session, envelope)).map(|summary| self.print(&summary)) {
            Some(Ok(())) => Verdict::Accept,
            Some(Err(_)) => Verdict::TryLater,
            None => reply!("554 5.6.0 This is no message").into(),
        }
    }
}

/// What comes out of an encoded word is anything, escape sequences of the terminal as well.
fn line(name: &str, text: &str) -> String {
    format!("{name}: {}\n", text.replace(char::is_control, "?"))
}

fn shown(addresses: &Address<'_>) -> String {
    let one = |address: &mail_parser::Addr<'_>| match (address.name(), address.address()) {
        (Some(name), Some(address)) => format!("{name} <{address}>"),
        (name, address) => name.or(address).unwrap_or_default().to_owned(),
    };
    addresses.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use sansmtp::Config;
    use sansmtp::testing::Play;

    use super::*;

    #[test]
    fn a_message_is_summed_up() {
        let config = Config::builder("mx.example.org").build().unwrap();
        let mut handler = Messages::new(Vec::new());
        let transcript = r#"
            S: 220 mx.example.org ESMTP
            C: EHLO client.example
            S*: 250
            C: MAIL FROM:<tim@example.org>
            C: RCPT TO:<friend@example.org>
            C: RCPT TO:<hidden@example.org>
            C: DATA
            S*: 250
            S*: 250
            S*: 250
            S*: 354
            C: From: Tim <tim@example.org>
            C: To: "A friend" <friend@example.org>, others@example.org
            C: Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe=1B[0m?=
            C: Date: Tue, 01 Apr 2025 12:00:00 +0000
            C: MIME-Version: 1.0
            C: Content-Type: multipart/mixed; boundary=x
            C:
            C: --x
            C: Content-Type: text/plain
            C:
            C: Hello,
            C: friend.
            C: --x
            C: Content-Type: application/octet-stream
            C: Content-Disposition: attachment; filename=a.bin
            C: Content-Transfer-Encoding: base64
            C:
            C: AAAA
            C: --x--
            C: .
            S*: 250
        "#;
        Play::new(config).transcript_with(&mut handler, transcript).unwrap();
        let expected = "X-Peer: local\n\
            X-MailFrom: tim@example.org\n\
            X-RcptTo: friend@example.org,\n\
            \thidden@example.org\n\
            From: Tim <tim@example.org>\n\
            To: A friend <friend@example.org>, others@example.org\n\
            Date: 2025-04-01T12:00:00Z\n\
            Subject: Grüße?[0m\n\
            Text: Hello,\n\
            Attachment: a.bin, 3 octets\n\
            \n";
        assert_eq!(String::from_utf8(handler.out).unwrap(), expected);
    }
}
