//! The lines that come from Dovecot about a request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::escape::unescape;

/// What Dovecot says about a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// `CONT`: a challenge for the client.
    Challenge(Vec<u8>),
    /// `OK`.
    Accepted(Fields),
    /// `FAIL`.
    Refused(Fields),
}

/// A line that is no reply to a request of ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoReply {
    /// Of a kind that is not known; the protocol wants them ignored.
    Ignored,
    /// A reply to this request, or to an unknown one, that cannot be read.
    Broken(Option<u32>),
}

impl Reply {
    /// Reads a line, without its end: the request, and what is said about it.
    pub(super) fn parse(line: &[u8]) -> Result<(u32, Self), NoReply> {
        let mut fields = line.split(|&octet| octet == b'\t');
        let command = fields.next().unwrap_or_default();
        if !matches!(command, b"CONT" | b"OK" | b"FAIL") {
            return Err(NoReply::Ignored);
        }
        let id = fields.next().and_then(parse_number).ok_or(NoReply::Broken(None))?;
        let broken = NoReply::Broken(Some(id));
        let reply = match command {
            b"CONT" => match fields.next().and_then(|challenge| STANDARD.decode(challenge).ok()) {
                Some(challenge) => Self::Challenge(challenge),
                None => return Err(broken),
            },
            // Who has logged in, the reply to a login has to say.
            b"OK" => match Fields::parse(fields) {
                fields if fields.get("user").is_some_and(|user| !user.is_empty()) => Self::Accepted(fields),
                _ => return Err(broken),
            },
            _ => Self::Refused(Fields::parse(fields)),
        };
        Ok((id, reply))
    }
}

/// Fields of a reply: `name=value`, or a name alone, whose value is empty. What the values are is up to the
/// configuration of Dovecot; tokens and passwords may be among them. `None` stands for one that is not UTF-8, such as
/// a name that a client made up.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Fields {
    fields: Vec<(String, Option<Zeroizing<String>>)>,
}

impl Fields {
    fn parse<'l>(fields: impl Iterator<Item = &'l [u8]>) -> Self {
        let parsed = fields.filter(|field| !field.is_empty()).filter_map(|field| {
            let mut halves = field.splitn(2, |&octet| octet == b'=');
            let name = String::from_utf8(unescape(halves.next()?)).ok()?;
            let value = String::from_utf8(unescape(halves.next().unwrap_or_default()));
            Some((name, value.ok().map(Zeroizing::new)))
        });
        Self { fields: parsed.collect() }
    }

    /// The value of the first field of that name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.fields.iter().find(|(field, _)| field == name)?;
        value.as_ref().map(|value| value.as_str())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names().any(|field| field == name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| name.as_str())
    }
}

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// A number of digits and nothing else.
pub(super) fn parse_number(digits: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(digits).ok()?;
    let only_digits = text.bytes().all(|octet| octet.is_ascii_digit());
    text.parse().ok().filter(|_| only_digits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(reply: Result<(u32, Reply), NoReply>) -> Fields {
        match reply {
            Ok((_, Reply::Accepted(fields) | Reply::Refused(fields))) => fields,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn replies_of_dovecot_2_3() {
        assert_eq!(Reply::parse(b"CONT\t15\tUGFzc3dvcmQ6"), Ok((15, Reply::Challenge(b"Password:".to_vec()))));
        assert_eq!(Reply::parse(b"CONT\t4294967295\t"), Ok((u32::MAX, Reply::Challenge(Vec::new()))));
        let ok = fields(Reply::parse(b"OK\t1\tuser=no\tnologin"));
        assert_eq!((ok.get("user"), ok.get("nologin"), ok.get("resp")), (Some("no"), Some(""), None));
        let ok = fields(Reply::parse(b"OK\t8\tuser=cert\tnodelay=y\toriginal_user="));
        assert_eq!((ok.get("nodelay"), ok.get("original_user")), (Some("y"), Some("")));
        assert_eq!(fields(Reply::parse(b"FAIL\t14\tuser=na\x01tme\x01nx")).get("user"), Some("na\tme\nx"));
        assert_eq!(fields(Reply::parse(b"FAIL\t11\treason=Authentication request timed out")).names().count(), 1);
        assert_eq!(fields(Reply::parse(b"FAIL\t5")).names().count(), 0);
        assert_eq!(fields(Reply::parse(b"FAIL\t5\tuser=\xff\tcode=temp_fail")).get("code"), Some("temp_fail"));
        assert_eq!(fields(Reply::parse(b"OK\t1\tuser=a=b")).get("user"), Some("a=b"));
    }

    #[test]
    fn what_is_no_reply() {
        for ignored in [&b""[..], b"SPID\t1", b"ok\t1\tuser=a", b"CANCELLED\t1", b" OK\t1\tuser=a", b"OKAY\t1\tuser=a"]
        {
            assert_eq!(Reply::parse(ignored), Err(NoReply::Ignored), "{}", ignored.escape_ascii());
        }
        for broken in [
            &b"OK"[..],
            b"OK\t",
            b"OK\t-1\tuser=a",
            b"OK\t+1\tuser=a",
            b"OK\t1 \tuser=a",
            b"OK user=a",
            b"FAIL\t4294967296",
            b"CONT\tx\t",
        ] {
            let expected = if broken == b"OK user=a" { NoReply::Ignored } else { NoReply::Broken(None) };
            assert_eq!(Reply::parse(broken), Err(expected), "{}", broken.escape_ascii());
        }
        for broken in [
            &b"OK\t1"[..],
            b"OK\t1\tuser",
            b"OK\t1\tuser=",
            b"OK\t1\tUSER=a",
            b"OK\t1\t user=a",
            b"OK\t1\tuser=\xff",
            b"OK\t1\tuser=\xff\tuser=a",
            b"CONT\t1",
            b"CONT\t1\t#",
            b"CONT\t1\tA",
            b"CONT\t1\t====",
        ] {
            assert_eq!(Reply::parse(broken), Err(NoReply::Broken(Some(1))), "{}", broken.escape_ascii());
        }
    }

    #[test]
    fn values_are_not_shown() {
        let ok = Reply::parse(b"OK\t1\tuser=tim\ttoken=eyJhbGciOi\tpass=tanstaaf").unwrap();
        assert_eq!(format!("{ok:?}"), r#"(1, Accepted(["user", "token", "pass"]))"#);
    }

    proptest! {
        #[test]
        fn nothing_that_a_server_sends_is_a_login_but_what_says_so(line in prop::collection::vec(
            prop_oneof![
                any::<u8>(), Just(b'\t'), Just(b'='), Just(1),
            ], 0..100,
        ), command in prop_oneof![Just(""), Just("OK\t"), Just("FAIL\t"), Just("CONT\t"), Just("OK\t1\t"), Just("OK\t1\tuser=")]) {
            let line = [command.as_bytes(), &line].concat();
            if let Ok((id, reply)) = Reply::parse(&line) {
                let begins = |command: &str| line.starts_with(format!("{command}\t").as_bytes());
                match reply {
                    Reply::Challenge(_) => prop_assert!(begins("CONT")),
                    Reply::Refused(_) => prop_assert!(begins("FAIL")),
                    Reply::Accepted(fields) => {
                        prop_assert!(begins("OK") && line[3..].starts_with(id.to_string().as_bytes()) || line[3] == b'0');
                        prop_assert!(line.windows(6).any(|window| window == b"\tuser="));
                        prop_assert!(!fields.get("user").unwrap().is_empty());
                    }
                }
            }
        }
    }
}
