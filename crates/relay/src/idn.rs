//! Domains in letters of every script, as DNS and servers without SMTPUTF8 know them (RFC 5890).

use std::borrow::Cow;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};

/// The domain with A-labels in place of U-labels (UTS #46, without its transitional part). What is ASCII is given back
/// as it is, an address literal too; none is no domain.
pub(crate) fn domain_to_ascii(domain: &str) -> Option<Cow<'_, str>> {
    if domain.is_ascii() {
        return Some(Cow::Borrowed(domain));
    }
    // Some characters stand for others in ASCII, among which are those that end a path.
    Uts46::new().to_ascii(domain.as_bytes(), AsciiDenyList::STD3, Hyphens::Allow, DnsLength::Verify).ok()
}

/// The domain in the one form that stands for all in which it may be written; what is no domain, in small letters.
pub(crate) fn same_domain(domain: &str) -> String {
    domain_to_ascii(domain).map_or_else(|| domain.to_lowercase(), |ascii| ascii.to_ascii_lowercase())
}

/// The path with its domain in A-labels (RFC 5890), where that makes it ASCII: then it needs no SMTPUTF8.
///
/// `path` has no angle brackets. One whose local-part is not in ASCII, or whose domain is none, is given back as it is.
pub(crate) fn path_to_ascii(path: &str) -> Cow<'_, str> {
    match path.rsplit_once('@') {
        Some((local, domain)) if local.is_ascii() && !domain.is_ascii() => {
            domain_to_ascii(domain).map_or(Cow::Borrowed(path), |domain| Cow::Owned(format!("{local}@{domain}")))
        }
        Some(_) | None => Cow::Borrowed(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_become_ascii_where_that_says_the_same() {
        for (path, expected) in [
            ("", ""),
            ("info@grå.test", "info@xn--gr-zia.test"),
            ("info@GRÅ.Test", "info@xn--gr-zia.test"),
            ("info@gra\u{30a}.test", "info@xn--gr-zia.test"),
            ("info@straße.test", "info@xn--strae-oqa.test"),
            ("info@例え。テスト", "info@xn--r8jz45g.xn--zckzah"),
            ("\"a@b\"@grå.test", "\"a@b\"@xn--gr-zia.test"),
            ("info@Plain.Test", "info@Plain.Test"),
            ("info@[192.0.2.1]", "info@[192.0.2.1]"),
            ("jörg@grå.test", "jörg@grå.test"),
            ("jörg", "jörg"),
        ] {
            assert_eq!(path_to_ascii(path), expected, "{path}");
        }
    }

    #[test]
    fn a_domain_is_the_same_in_all_its_forms() {
        for domain in ["grå.test", "GRÅ.Test", "gra\u{30a}.test", "XN--GR-ZIA.test"] {
            assert_eq!(same_domain(domain), "xn--gr-zia.test");
        }
        assert_eq!((same_domain("[IPv6:::1]"), same_domain("Ü Ü")), ("[ipv6:::1]".to_owned(), "ü ü".to_owned()));
    }

    #[test]
    fn what_is_no_domain_stays() {
        // A full-width ">" and "@", and what has no place in a label.
        let long = format!("a@{}é", "x".repeat(64));
        for path in ["a@b\u{ff1e}é", "a@é\u{ff20}b", "a@é b", "a@é\u{2060}\u{378}", "a@é..b", &long] {
            assert_eq!(path_to_ascii(path), path);
        }
    }
}
