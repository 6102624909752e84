//! What clients call themselves at HELO, EHLO and LHLO (RFC 5321, section 4.1.1.1).
//!
//! The RFC wants a domain or an address literal. What laptops, printers and scripts send is whatever
//! their owner typed: `(none)`, `host/1`, `MY PRINTER`. A server that refuses those takes no mail from
//! them, and gains nothing: section 4.1.4 has no use for the name but to log it.

use core::fmt::{self, Write as _};

use super::path;

/// Whether a name is taken: printable, and not too long (section 4.5.3.1.2).
pub(crate) fn is_taken(name: &str) -> bool {
    (1..=MAX_OCTETS).contains(&name.len()) && name.chars().all(is_visible)
}

/// Whether it is a domain or an address literal. No extension is in use yet when a client gives its name, so
/// that it is in ASCII (RFC 6531, section 3.7.1).
pub(crate) fn is_valid(name: &str) -> bool {
    // `IPv6` is the only tag that is registered for address literals (RFC 5321, section 4.1.3).
    let has_other_tag = match name.split_once(':') {
        Some((tag, _)) => !tag.eq_ignore_ascii_case("[IPv6"),
        None => false,
    };
    name.is_ascii() && !has_other_tag && path::is_domain_or_literal(name.as_bytes())
}

/// What a client calls itself, for a look at it (RFC 5321, section 4.1.1.1).
///
/// `Display` writes the name for `Received:` fields (section 4.4) and log lines, in at most 255 octets of ASCII: a domain
/// or an address literal as it is; of another name the letters, digits, `-`, `_` and `.`, with `?` in
/// place of every other character. `unknown` where there is no name.
///
/// ```
/// use sansmtp::ClientName;
///
/// let name = ClientName::new("MY PRINTER (2nd floor)");
/// assert!(!name.is_domain_or_literal());
/// assert_eq!(name.to_string(), "MY?PRINTER??2nd?floor?");
/// assert!(ClientName::new("[192.0.2.1]").is_domain_or_literal());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientName<'n>(&'n str);

impl<'n> ClientName<'n> {
    /// Takes a name as [`Session::client_name`](crate::Session::client_name) or a hook has it.
    #[must_use]
    pub fn new(name: &'n str) -> Self {
        Self(name)
    }

    /// The name as it is.
    #[must_use]
    pub fn as_str(self) -> &'n str {
        self.0
    }

    /// Whether it is a domain or an address literal, in ASCII, as the RFC wants it. Many a good client's name is
    /// neither ([`ConfigBuilder::strict_client_names`](crate::ConfigBuilder::strict_client_names) refuses those), and
    /// that it is says nothing about whose name it is.
    #[must_use]
    pub fn is_domain_or_literal(self) -> bool {
        is_valid(self.0)
    }
}

impl fmt::Display for ClientName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name) = *self;
        if name.is_empty() {
            return f.write_str("unknown");
        }
        if is_valid(name) {
            return f.write_str(name);
        }
        let harmless = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
        // A name that the engine has taken is no longer.
        name.chars()
            .take(MAX_OCTETS)
            .try_for_each(|character| f.write_char(if harmless(character) { character } else { '?' }))
    }
}

/// Whether a character shows, or is a plain space. Those that do not could hide in a log what stands there,
/// or turn its order around.
fn is_visible(character: char) -> bool {
    let hidden = matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}');
    character == ' ' || !(character.is_control() || character.is_whitespace() || hidden)
}

const MAX_OCTETS: usize = 255;

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn any_printable_name_is_taken() {
        for name in [
            "a",
            "(none)",
            "host/1",
            "joe's-mac",
            "caf\u{e9}",
            "cafe\u{301}",
            "[fe80::1%eth0]",
            "MY PRINTER",
            "\u{5317}\u{4eac}",
        ] {
            assert!(is_taken(name), "{name}");
        }
        assert!(is_taken(&"x".repeat(255)));
        for name in
            ["", "a\0b", "a\tb", "a\u{7f}", "a\u{85}", "a\u{2028}b", "a\u{a0}b", "a\u{202e}b", "a\u{200b}", "\u{feff}a"]
        {
            assert!(!is_taken(name), "{name:?}");
        }
        assert!(!is_taken(&"x".repeat(256)) && !is_taken(&"\u{e9}".repeat(128)));
    }

    #[test]
    fn a_domain_or_address_literal_is_told_from_other_names() {
        for name in
            ["client.example.net", "localhost", "3com", "[192.0.2.1]", "[IPv6:2001:db8::1]", "xn--bcher-kva.example"]
        {
            assert!(is_valid(name), "{name}");
        }
        for name in [
            "",
            "192.0.2.1.",
            "a_b",
            "[fe80::1%eth0]",
            "[2001:db8::1]",
            "[192.0.2.1",
            "caf\u{e9}",
            "(none)",
            "a b",
            "-a",
            "a..b",
        ] {
            assert!(!is_valid(name), "{name}");
        }
    }

    #[test]
    fn nothing_breaks_out_of_a_trace_field() {
        for (name, written) in [
            ("client.example.net", "client.example.net"),
            ("[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
            ("a_b.internal", "a_b.internal"),
            ("(none)", "?none?"),
            ("a b\") (c <d@e>; by f", "a?b????c??d?e???by?f"),
            ("[fe80::1%eth0]", "?fe80??1?eth0?"),
            ("caf\u{e9}", "caf?"),
            ("", "unknown"),
        ] {
            assert_eq!(ClientName::new(name).to_string(), written, "{name}");
        }
        assert_eq!(ClientName::new(&"_".repeat(300)).to_string(), "_".repeat(255));
    }
}
