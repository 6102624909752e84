//! The trace information on top of a message (RFC 5321, section 4.4).

use std::fmt;
use std::net::IpAddr;

use mail_builder::headers::date::Date;

use crate::envelope::QueueId;
use crate::idn::path_to_ascii;

/// A `Received:` field, with its line end, as `Display` writes it.
///
/// ```
/// use sansmtp_relay::QueueId;
/// use sansmtp_relay::received::{Client, Protocol, Received};
///
/// let id = QueueId::new();
/// let client = Client { name: "laptop.example", address: "192.0.2.1".parse().ok(), tls: None };
/// let protocol = Protocol { extended: true, authenticated: true, ..Protocol::default() };
/// let received = Received::new("mx.example.org", &id, protocol).from(client).recipient("<friend@example.net>");
/// assert!(received.to_string().starts_with("Received: from laptop.example ([192.0.2.1])\r\n\tby mx.example.org with ESMTPA id "));
/// ```
#[derive(Clone, Debug)]
pub struct Received<'a> {
    by: &'a str,
    id: &'a QueueId,
    protocol: Protocol,
    client: Option<Client<'a>>,
    recipient: Option<&'a str>,
    date: String,
}

/// What is known of a client.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "it is made to be filled in")]
pub struct Client<'a> {
    /// What it called itself in HELO or EHLO, in a form that can stand in a field: `Session::trace_name` of the engine.
    pub name: &'a str,
    /// Where it is connected from.
    pub address: Option<IpAddr>,
    /// What TLS negotiated, such as `TLSv1.3 TLS13_AES_256_GCM_SHA384`.
    pub tls: Option<&'a str>,
}

/// What the message came by (RFC 3848; RFC 6531, section 4.3): `ESMTPSA` and others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "it is made to be filled in")]
pub struct Protocol {
    /// The client said EHLO.
    pub extended: bool,
    /// The transaction uses SMTPUTF8.
    pub smtputf8: bool,
    /// Under TLS.
    pub tls: bool,
    /// The client is logged in.
    pub authenticated: bool,
}

impl<'a> Received<'a> {
    /// A message that is received now, by the host of this name. The field says nothing of the client.
    ///
    /// RFC 5321 wants the client's name and address in it, and who looks for the origin of abuse is glad of them. But
    /// they tell every recipient where the sender was, and what a private machine is called: a submission server may
    /// leave them out, and has both in its log, by the `id`. Then there is no `from` at all, rather than one that is made
    /// up.
    #[must_use]
    pub fn new(by: &'a str, id: &'a QueueId, protocol: Protocol) -> Self {
        Self { by, id, protocol, client: None, recipient: None, date: Date::now().to_rfc822() }
    }

    /// Tells of the client.
    #[must_use]
    pub fn from(self, client: Client<'a>) -> Self {
        Self { client: Some(client), ..self }
    }

    /// Tells of the recipient, a path in angle brackets, whose domain is written in ASCII where that does. Of a message that has several none should be told of: a second
    /// would be disclosed to the first.
    #[must_use]
    pub fn recipient(self, path: &'a str) -> Self {
        Self { recipient: Some(path), ..self }
    }
}

impl fmt::Display for Received<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { by, id, protocol, client, recipient, date } = self;
        f.write_str("Received: ")?;
        if let Some(Client { name, address, tls }) = client {
            write!(f, "from {} (", OneLine(name))?;
            match address {
                Some(IpAddr::V4(address)) => write!(f, "[{address}]")?,
                Some(IpAddr::V6(address)) => write!(f, "[IPv6:{address}]")?,
                None => f.write_str("unknown")?,
            }
            f.write_str(")\r\n\t")?;
            if let Some(tls) = tls {
                write!(f, "(using {})\r\n\t", OneLine(tls))?;
            }
        }
        write!(f, "by {} with {protocol} id {id}", OneLine(by))?;
        if let Some(path) = recipient {
            // It must not be this field for which the message needs SMTPUTF8.
            let inner = path.strip_prefix('<').and_then(|path| path.strip_suffix('>'));
            match inner.map(path_to_ascii) {
                Some(inner) => write!(f, "\r\n\tfor <{}>", OneLine(&inner))?,
                None => write!(f, "\r\n\tfor {}", OneLine(path))?,
            }
        }
        write!(f, ";\r\n\t{date}\r\n")
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.extended, self.smtputf8) {
            (true, true) => "UTF8SMTP",
            (true, false) => "ESMTP",
            (false, _) => "SMTP",
        })?;
        f.write_str(if self.tls { "S" } else { "" })?;
        f.write_str(if self.authenticated { "A" } else { "" })
    }
}

/// Whatever it holds, it ends no line.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| fmt::Write::write_char(f, if c.is_control() { '?' } else { c }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ESMTPSA: Protocol = Protocol { extended: true, smtputf8: false, tls: true, authenticated: true };

    fn field(change: impl for<'a> FnOnce(Received<'a>) -> Received<'a>) -> String {
        let id = QueueId::try_from("1a".to_owned()).unwrap();
        change(Received { date: "now".to_owned(), ..Received::new("mx.example", &id, ESMTPSA) }).to_string()
    }

    #[test]
    fn the_client_is_told_of_and_the_only_recipient() {
        let client = |address: &str| Client { name: "laptop", address: address.parse().ok(), tls: Some("TLSv1.3 X") };
        assert_eq!(
            field(|received| received.from(client("192.0.2.1")).recipient("<a@b>")),
            "Received: from laptop ([192.0.2.1])\r\n\t(using TLSv1.3 X)\r\n\tby mx.example with ESMTPSA id 1a\r\n\tfor <a@b>;\r\n\tnow\r\n"
        );
        assert!(field(|received| received.from(client("2001:db8::1"))).contains("laptop ([IPv6:2001:db8::1])\r\n"));
        let unknown = Client { tls: None, ..client("") };
        assert_eq!(
            field(|received| received.from(unknown)),
            "Received: from laptop (unknown)\r\n\tby mx.example with ESMTPSA id 1a;\r\n\tnow\r\n"
        );
    }

    #[test]
    fn nothing_of_the_client_is_there_unless_it_is_given() {
        let expected = "Received: by mx.example with ESMTPSA id 1a\r\n\tfor <a@b>;\r\n\tnow\r\n";
        assert_eq!(field(|received| received.recipient("<a@b>")), expected);
        assert!(field(|received| received.recipient("<a@grå.example>")).contains("for <a@xn--gr-zia.example>;"));
    }

    #[test]
    fn the_protocol_has_its_name() {
        for (extended, smtputf8, tls, authenticated, name) in [
            (false, false, false, false, "SMTP"),
            (true, false, false, false, "ESMTP"),
            (true, false, true, false, "ESMTPS"),
            (true, false, false, true, "ESMTPA"),
            (true, false, true, true, "ESMTPSA"),
            (true, true, true, true, "UTF8SMTPSA"),
            (true, true, false, false, "UTF8SMTP"),
        ] {
            assert_eq!(Protocol { extended, smtputf8, tls, authenticated }.to_string(), name);
        }
    }

    #[test]
    fn nothing_breaks_out_of_the_field() {
        let evil = "x\r\nBcc: y\n\r\u{85}\0";
        let client = Client { name: evil, address: None, tls: Some(evil) };
        let field = field(|received| received.from(client).recipient(evil));
        assert_eq!(field.lines().count(), 5, "{field:?}");
        assert!(field.lines().skip(1).all(|line| line.starts_with('\t')), "{field:?}");
        assert!(!field.contains(['\u{85}', '\0']), "{field:?}");
    }
}
