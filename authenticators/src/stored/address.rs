//! Users' addresses, as they are stored.

/// An address, `tim@example.org`, or all of a domain, `@example.org`, as a store keeps it: the domain in lower case.
/// `None` for what is neither.
///
/// A local-part may have quotes (RFC 5321, section 4.1.2) and characters beyond ASCII (RFC 6531, section 3.3). An
/// internationalised domain stays as it is written, in U-labels or in A-labels.
#[must_use]
pub fn prepare_address(text: &str) -> Option<String> {
    let (local_part, domain) = text.rsplit_once('@')?;
    if text.len() > MAX_ADDRESS_OCTETS || !is_local_part(local_part) || !is_domain(domain) {
        return None;
    }
    Some(format!("{local_part}@{}", domain.to_lowercase()))
}

/// Or nothing, in front of a domain.
fn is_local_part(text: &str) -> bool {
    let Some(quoted) = text.strip_prefix('"') else {
        return text.chars().all(|character| !is_blank(character) && !SPECIALS.contains(character));
    };
    let Some(quoted) = quoted.strip_suffix('"') else { return false };
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        let escaped = character == '\\';
        let character = if escaped { characters.next() } else { Some(character) };
        if character.is_none_or(|character| character.is_control() || character == '"' && !escaped) {
            return false;
        }
    }
    true
}

fn is_domain(text: &str) -> bool {
    if let Some(literal) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return !literal.is_empty()
            && !literal.chars().any(|character| is_blank(character) || "[]\\".contains(character));
    }
    let in_label =
        |character: char| character.is_ascii_alphanumeric() || "-_".contains(character) || !character.is_ascii();
    text.len() <= 255
        && text.split('.').all(|label| {
            !label.is_empty() && label.chars().all(|character| in_label(character) && !is_blank(character))
        })
}

fn is_blank(character: char) -> bool {
    character.is_whitespace() || character.is_control()
}

/// Those of RFC 5322, section 3.2.3, but for the dot.
const SPECIALS: &str = "()<>[]:;@\\,\"";

/// A local-part of 64 octets, an `@` and a domain of 255 (RFC 5321, section 4.5.3.1).
const MAX_ADDRESS_OCTETS: usize = 320;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_domains() {
        for (text, kept) in [
            ("tim@example.org", "tim@example.org"),
            ("Tim.O'Hara+x@Example.ORG", "Tim.O'Hara+x@example.org"),
            ("@Example.org", "@example.org"),
            ("user@localhost", "user@localhost"),
            ("\"a@b, \\\"c\"@example.org", "\"a@b, \\\"c\"@example.org"),
            ("jürgen@BÜCHER.example", "jürgen@bücher.example"),
            ("tim@[IPv6:::1]", "tim@[ipv6:::1]"),
        ] {
            assert_eq!(prepare_address(text).as_deref(), Some(kept), "{text}");
        }
        let long = format!("{}@example.org", "x".repeat(320));
        for text in [
            "",
            "tim",
            "@",
            "tim@",
            "tim@a..b",
            "tim@.a",
            "tim@a.",
            "t m@a",
            "tim@a b",
            "<tim@a>",
            "tim@a,tom@a",
            "a@b@c",
            "\"a@b",
            "\"a\"b\"@c",
            "\"a\\\"@b",
            "tim@[]",
            "tim@a\n",
            "smtp:tim@a",
            "{user}@a/b",
            "tim@*",
            &long,
        ] {
            assert_eq!(prepare_address(text), None, "{text}");
        }
    }
}
