//! Mailboxes as they are compared.

use std::borrow::Cow;
use std::fmt;

use crate::idn::domain_to_ascii;

/// A mailbox, without the quotes that its local-part is written with, and its domain in lower case and in A-labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mailbox {
    pub(super) local_part: String,
    pub(super) domain: String,
}

impl Mailbox {
    /// A mailbox whose parts were taken apart already. `None` without either of them.
    pub(super) fn new(local_part: String, domain: &str) -> Option<Self> {
        let domain = canonical_domain(domain)?;
        (!local_part.is_empty()).then_some(Self { local_part, domain })
    }

    /// Reads `local-part@domain`. `None` where it is something else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (local_part, domain) = text.rsplit_once('@')?;
        let local_part = match local_part.strip_prefix('"') {
            Some(quoted) => unquoted(quoted.strip_suffix('"')?)?,
            None => Some(local_part).filter(|text| is_dot_string(text))?.to_owned(),
        };
        Self::new(local_part, domain)
    }
}

/// As it would be written, with no more quotes than needed.
impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { local_part, domain } = self;
        if is_dot_string(local_part) {
            return write!(f, "{local_part}@{domain}");
        }
        write!(f, "\"{}\"@{domain}", local_part.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

/// A domain in lower case and in A-labels, so that each way to write it is the same (RFC 5890, section 2.3.2.1). `None` for
/// what is none.
pub(super) fn canonical_domain(text: &str) -> Option<String> {
    if text.starts_with('[') {
        return text.ends_with(']').then(|| text.to_ascii_lowercase());
    }
    let text = text.strip_suffix('.').unwrap_or(text);
    let in_domain =
        |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character) || !character.is_ascii();
    if text.is_empty() || !text.chars().all(in_domain) || text.chars().any(char::is_whitespace) {
        return None;
    }
    let text = text.to_lowercase();
    // What is no internationalised domain is compared as it is written.
    Some(domain_to_ascii(&text).map_or_else(|| text.clone(), Cow::into_owned))
}

/// Whether a text needs no quotes as a local-part: atoms with dots between them (RFC 5321, section 4.1.2; RFC 6531, section
/// 3.3), or anywhere else.
pub(super) fn is_dot_string(text: &str) -> bool {
    let is_usual = |character: char| is_atext(character) || character == '.';
    !text.is_empty() && text.chars().all(is_usual) && !text.chars().all(|character| character == '.')
}

/// RFC 5322, section 3.2.3, and what is beyond ASCII.
fn is_atext(character: char) -> bool {
    character.is_ascii_alphanumeric()
        || "!#$%&'*+-/=?^_`{|}~".contains(character)
        || !character.is_ascii() && !character.is_whitespace() && !character.is_control()
}

fn unquoted(text: &str) -> Option<String> {
    let mut content = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => content.push(characters.next()?),
            '"' => return None,
            character => content.push(character),
        }
    }
    (!content.chars().any(char::is_control)).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_write_a_mailbox_is_the_same() {
        for (one, other) in [
            ("tim@example.org", "tim@EXAMPLE.org"),
            ("tim@example.org", "\"tim\"@example.org"),
            ("tim@example.org", "\"t\\im\"@example.org."),
            ("a@bücher.example", "a@xn--bcher-kva.example"),
            ("a@BÜCHER.example", "a@XN--bcher-kva.example"),
            ("a@bu\u{308}cher\u{3002}example", "a@bücher.example"),
            ("jürgen@example.org", "jürgen@Example.org"),
            ("\"a b\"@example.org", "\"a\\ b\"@example.org"),
            ("a@[127.0.0.1]", "a@[127.0.0.1]"),
            ("a@[IPv6:::A]", "a@[ipv6:::a]"),
            ("a..b.@docomo.example", "\"a..b.\"@docomo.example"),
        ] {
            let (one, other) = (Mailbox::parse(one).unwrap(), Mailbox::parse(other).unwrap());
            assert_eq!(one, other);
            assert_eq!(Mailbox::parse(&one.to_string()).unwrap(), one);
        }
        for (one, other) in [
            ("tim@example.org", "Tim@example.org"),
            ("tim@example.org", "tim@example.com"),
            ("tim@example.org", "tim@example.org.org"),
            ("\"tim \"@example.org", "tim@example.org"),
            ("jürgen@example.org", "jurgen@example.org"),
        ] {
            assert_ne!(Mailbox::parse(one).unwrap(), Mailbox::parse(other).unwrap());
        }
        for text in [
            "",
            "tim",
            "@a",
            "tim@",
            "a@b@c",
            "a b@c",
            "\"a\"b\"@c",
            "\"a\\\"@c",
            "\"\"@c",
            "a@b c",
            "a@b/c",
            "..@b",
            "<a@b>",
            "a@.",
        ] {
            assert_eq!(Mailbox::parse(text), None, "{text}");
        }
    }
}
