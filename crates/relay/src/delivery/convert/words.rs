//! Octets above 127 in header fields: encoded words (RFC 2047) and parameters (RFC 2231).

/// Writes the value of a field in ASCII, such that a reader shows what it would have shown. The value begins behind the
/// colon and has its line ends. None is that there is no way to.
pub(super) fn value_in_ascii(name: &str, value: &[u8]) -> Option<Vec<u8>> {
    let name = name.to_ascii_lowercase();
    // Next to other encoded words, blanks would be lost.
    if value.windows(2).any(|window| window == b"=?") {
        return None;
    }
    match name.strip_prefix("resent-").unwrap_or(&name) {
        "subject" | "comments" | "content-description" | "organization" | "thread-topic" => Some(text(value)),
        "from" | "sender" | "reply-to" | "to" | "cc" | "disposition-notification-to" | "list-id" => mailboxes(value),
        "content-type" | "content-disposition" => parameters(value),
        // RFC 2047, section 5: these are text, whoever made them up.
        other if other.starts_with("x-") => Some(text(value)),
        _ => None,
    }
}

/// Unstructured text (RFC 5322, section 3.2.5): from the first word that needs it to the last one.
fn text(value: &[u8]) -> Vec<u8> {
    let is_blank = |octet: &u8| matches!(octet, b' ' | b'\t' | b'\r' | b'\n');
    let first = value.iter().position(|octet| !octet.is_ascii()).unwrap_or(value.len());
    let last = value.iter().rposition(|octet| !octet.is_ascii()).unwrap_or(value.len());
    let from = value.get(..first).and_then(|before| before.iter().rposition(is_blank)).map_or(0, |blank| blank + 1);
    let to = value.get(last..).and_then(|after| after.iter().position(is_blank)).map_or(value.len(), |end| last + end);
    let before = value.get(..from).unwrap_or_default();
    let mut out = before.to_vec();
    if before.iter().all(is_blank) {
        // The first word stands in the line of the field's name.
        out = b" ".to_vec();
    }
    out.extend_from_slice(&encoded_words(&unfolded(value.get(from..to).unwrap_or_default())));
    out.extend_from_slice(value.get(to..).unwrap_or_default());
    out
}

/// A list of mailboxes (RFC 5322, section 3.4), of which the names may need it, and not the addresses.
fn mailboxes(value: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = value;
    while !rest.is_empty() {
        let end = phrase_end(rest)?;
        let (phrase, behind) = rest.split_at_checked(end)?;
        let is_name = behind.first() == Some(&b'<');
        match (phrase.is_ascii(), is_name) {
            (true, _) => out.extend_from_slice(phrase),
            (false, true) => {
                out.push(b' ');
                out.extend_from_slice(&encoded_words(&name(phrase)?));
                out.extend_from_slice(b"\r\n ");
            }
            (false, false) => return None,
        }
        let behind_address = if is_name { behind.iter().position(|octet| *octet == b'>')? } else { 0 };
        let (address, behind) = behind.split_at_checked((behind_address + 1).min(behind.len()))?;
        if !address.is_ascii() {
            return None;
        }
        out.extend_from_slice(address);
        rest = behind;
    }
    Some(out)
}

/// Where what may be a name ends: at "<", or at what is between mailboxes. None where there are comments, or quotes
/// without an end.
fn phrase_end(value: &[u8]) -> Option<usize> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, octet) in value.iter().enumerate() {
        match octet {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            b'(' => return None,
            b'<' | b',' | b';' | b':' => return Some(at),
            _ => {}
        }
    }
    (!is_quoted).then_some(value.len())
}

/// The text of a name, without its quotes. None where it is no name.
fn name(phrase: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let (mut is_quoted, mut is_escaped) = (false, false);
    for octet in unfolded(phrase) {
        match octet {
            b'\\' if !is_escaped => is_escaped = true,
            b'"' if !is_escaped => is_quoted = !is_quoted,
            b'@' if !is_quoted => return None,
            _ => {
                text.push(octet);
                is_escaped = false;
            }
        }
    }
    Some(text.trim_ascii().to_vec())
}

/// A value with parameters (RFC 2045, section 5.1): those that need it are written as RFC 2231 has it.
fn parameters(value: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let parts = split_parameters(value)?;
    for (number, part) in parts.iter().enumerate() {
        if part.is_ascii() {
            if number > 0 {
                out.push(b';');
            }
            out.extend_from_slice(part);
            continue;
        }
        let equals = part.iter().position(|octet| *octet == b'=').filter(|_| number > 0)?;
        let (name, content) = part.split_at_checked(equals)?;
        let content = unfolded(content.get(1..)?);
        let content = match content.trim_ascii() {
            [b'"', quoted @ .., b'"'] => unescaped(quoted),
            bare => bare.to_vec(),
        };
        let is_token = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.');
        if !name.trim_ascii().iter().all(is_token) || content.len() > MAX_PARAMETER_OCTETS {
            return None;
        }
        let line_end: &[u8] = if part.ends_with(b"\r\n") { b"\r\n" } else { b"" };
        if parts.iter().any(|other| is_extended(other, name.trim_ascii())) {
            // This one is for readers that do not know RFC 2231. There must not be two of a name.
            out.extend_from_slice(line_end);
            continue;
        }
        out.push(b';');
        out.extend_from_slice(name.trim_ascii_end());
        out.extend_from_slice(format!("*={}''", charset(&content)).as_bytes());
        for octet in content {
            if is_token(&octet) { out.push(octet) } else { out.extend_from_slice(format!("%{octet:02X}").as_bytes()) }
        }
        out.extend_from_slice(line_end);
    }
    Some(out)
}

/// Whether it is the parameter of this name in the form of RFC 2231, or a section of it.
fn is_extended(parameter: &[u8], name: &[u8]) -> bool {
    let parameter = parameter.trim_ascii_start();
    let (begin, behind) = parameter.split_at_checked(name.len()).unwrap_or_default();
    begin.eq_ignore_ascii_case(name) && behind.starts_with(b"*")
}

fn split_parameters(value: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = value.split(|octet| {
        match octet {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            _ => {}
        }
        *octet == b';' && !is_quoted
    });
    let parts: Vec<_> = parts.collect();
    (!is_quoted).then_some(parts)
}

fn unescaped(quoted: &[u8]) -> Vec<u8> {
    let mut is_escaped = false;
    let octets = quoted.iter().filter(|octet| {
        is_escaped = **octet == b'\\' && !is_escaped;
        !is_escaped
    });
    octets.copied().collect()
}

/// Without line ends: the blanks behind them are the text's.
fn unfolded(value: &[u8]) -> Vec<u8> {
    value.iter().copied().filter(|octet| !matches!(octet, b'\r' | b'\n')).collect()
}

/// Encoded words, each in a line of its own, as each may have 75 octets.
fn encoded_words(text: &[u8]) -> Vec<u8> {
    let charset = charset(text);
    let mut out = Vec::new();
    let mut word = String::new();
    let characters: Vec<&[u8]> = match str::from_utf8(text) {
        Ok(text) => text.split_inclusive(|_| true).map(str::as_bytes).collect(),
        Err(_) => text.chunks(1).collect(),
    };
    let room = MAX_WORD_OCTETS - charset.len() - "=??Q??=".len();
    let mut end = |word: &mut String| {
        let before = if out.is_empty() { "" } else { "\r\n " };
        out.extend_from_slice(format!("{before}=?{charset}?Q?{word}?=").as_bytes());
        word.clear();
    };
    for character in characters {
        // A character must not be in two words.
        let encoded: String = character
            .iter()
            .map(|octet| match octet {
                b' ' => "_".to_owned(),
                octet if octet.is_ascii_alphanumeric() => char::from(*octet).to_string(),
                octet => format!("={octet:02X}"),
            })
            .collect();
        if word.len() + encoded.len() > room {
            end(&mut word);
        }
        word.push_str(&encoded);
    }
    end(&mut word);
    out
}

fn charset(text: &[u8]) -> &'static str {
    if str::from_utf8(text).is_ok() { UTF_8 } else { OTHER_CHARSET }
}

/// What is that by its looks is that by all odds.
pub(super) const UTF_8: &str = "utf-8";
/// Of anything else nobody has said what it is (RFC 1428, section 3).
pub(super) const OTHER_CHARSET: &str = "unknown-8bit";

/// RFC 2047, section 2.
const MAX_WORD_OCTETS: usize = 75;
/// So that its line has 998 octets at most.
const MAX_PARAMETER_OCTETS: usize = 300;

#[cfg(test)]
mod tests {
    use mail_parser::{MessageParser, MimeHeaders};

    use super::*;

    fn in_ascii(name: &str, value: &str) -> Option<String> {
        value_in_ascii(name, value.as_bytes()).map(|value| String::from_utf8(value).unwrap())
    }

    #[test]
    fn text_is_encoded_from_the_first_word_that_needs_it_to_the_last() {
        for (value, expected) in [
            (" Grüße\r\n", " =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n"),
            ("é\r\n", " =?utf-8?Q?=C3=A9?=\r\n"),
            (" a b é c d\r\n", " a b =?utf-8?Q?=C3=A9?= c d\r\n"),
            (" a é b\r\n é. c\r\n", " a =?utf-8?Q?=C3=A9_b_=C3=A9=2E?= c\r\n"),
            ("\r\n é\r\n", " =?utf-8?Q?=C3=A9?=\r\n"),
        ] {
            assert_eq!(in_ascii("Subject", value).as_deref(), Some(expected), "{value:?}");
        }
        assert_eq!(value_in_ascii("X-A", b" a \xfc\r\n").unwrap(), b" a =?unknown-8bit?Q?=FC?=\r\n");
        assert_eq!(in_ascii("Subject", " =?utf-8?Q?a?= é\r\n"), None, "the blank would be lost");
        assert_eq!(in_ascii("Thread-Topic", " é\r\n").unwrap(), " =?utf-8?Q?=C3=A9?=\r\n");
        assert_eq!(in_ascii("List-Id", " é <a.b>\r\n").unwrap(), " =?utf-8?Q?=C3=A9?=\r\n <a.b>\r\n");
        assert_eq!(in_ascii("References", " <é>\r\n"), None);
    }

    #[test]
    fn long_text_comes_in_words_that_are_not_too_long() {
        let subject = "Ünïcödé \u{1f600} ".repeat(40);
        let field = format!("Subject:{}\r\n\r\n", in_ascii("Subject", &format!(" {subject}")).unwrap().trim_end());
        assert!(field.lines().all(|line| line.len() <= 76 + "Subject:".len()), "{field}");
        assert_eq!(MessageParser::default().parse(&field).unwrap().subject().unwrap(), subject.trim_end());
    }

    #[test]
    fn names_are_encoded_and_addresses_are_not() {
        for (value, expected) in [
            (" Jörg <j@b>\r\n", Some(" =?utf-8?Q?J=C3=B6rg?=\r\n <j@b>\r\n")),
            (
                " a@b, \"Jörg, \\\"X\\\"\" Y\r\n <j@b>, c <d@e>\r\n",
                Some(" a@b, =?utf-8?Q?J=C3=B6rg=2C_=22X=22_Y?=\r\n <j@b>, c <d@e>\r\n"),
            ),
            (" jörg@b\r\n", None),
            (" J <jörg@b>\r\n", None),
            (" \"jörg\"@b\r\n", None),
            (" jörg@b <j@b>\r\n", None),
            (" j@b (Jörg)\r\n", None),
            (" \"Jörg <j@b>\r\n", None),
            (" J <j@b> é\r\n", None),
            (" Jörg <j@b\r\n", None),
        ] {
            assert_eq!(in_ascii("Resent-To", value).as_deref(), expected, "{value:?}");
        }
    }

    #[test]
    fn parameters_are_written_as_rfc_2231_has_it() {
        for (name, value, expected) in [
            (
                "Content-Disposition",
                " attachment;\r\n\tfilename=\"Über sicht;.pdf\"; size=3\r\n",
                Some(" attachment;\r\n\tfilename*=utf-8''%C3%9Cber%20sicht%3B.pdf; size=3\r\n"),
            ),
            ("Content-Type", " a/b; name=é\r\n", Some(" a/b; name*=utf-8''%C3%A9\r\n")),
            (
                "Content-Disposition",
                " attachment; filename=\"é\"; FileName*=utf-8''%C3%A9\r\n",
                Some(" attachment; FileName*=utf-8''%C3%A9\r\n"),
            ),
            (
                "Content-Type",
                " a/b; name*0*=utf-8''%C3;\r\n name*1*=%A9; name=é\r\n",
                Some(" a/b; name*0*=utf-8''%C3;\r\n name*1*=%A9\r\n"),
            ),
            ("Content-Type", " a/é; name=e\r\n", None),
            ("Content-Type", " a/b; é\r\n", None),
            ("Content-Type", " a/b; é=e\r\n", None),
            ("Content-Type", " a/b; name=\"é\r\n", None),
            ("Content-Type", " a/b; name*0=é\r\n", None),
        ] {
            assert_eq!(in_ascii(name, value).as_deref(), expected, "{value:?}");
        }
        let field = in_ascii("Content-Disposition", " attachment; filename=\"a \\\"é\\\"\"\r\n").unwrap();
        let message = format!("Content-Disposition:{field}\r\n");
        let message = MessageParser::default().parse(&message).unwrap();
        let disposition = message.content_disposition().unwrap();
        assert_eq!(disposition.attribute("filename"), Some("a \"é\""));
    }

    #[test]
    fn no_value_is_too_strange() {
        let mut random = fastrand::Rng::with_seed(3);
        let words = ["é", "\"", "\\", "<", ">", ",", ";", "=", "@", "(", " ", "\r\n ", "a", ":", "?", "\u{1f600}"];
        for _ in 0..20_000 {
            let value: String = (0..random.usize(..12)).map(|_| words[random.usize(..words.len())]).collect();
            let value = format!(" {value}é\r\n");
            for name in ["Subject", "To", "Content-Type"] {
                if let Some(out) = value_in_ascii(name, value.as_bytes()) {
                    let out = String::from_utf8(out).unwrap();
                    assert!(out.is_ascii() && out.ends_with("\r\n"), "{name}: {value:?} {out:?}");
                    let is_folded = |line: &str| line.starts_with([' ', '\t']);
                    assert!(out.lines().skip(1).all(is_folded), "{name}: {value:?} {out:?}");
                }
            }
        }
    }
}
