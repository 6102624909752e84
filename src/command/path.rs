//! Reverse-path and forward-path (RFC 5321, section 4.1.2; RFC 6531, section 3.3).

use core::net::Ipv6Addr;

/// Where a path lies in the text that it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathSpan {
    /// Of the mailbox, without angle brackets and source route; empty for the null reverse-path.
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// Of the `@` between local-part and domain; none for the null reverse-path and `<Postmaster>`.
    pub(crate) at: Option<u32>,
}

/// Which path is read: each has one form of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// May be null.
    Reverse,
    /// May be `<Postmaster>`, without a domain.
    Forward,
}

/// What is admitted beyond RFC 5321.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, each with its own name")]
pub(crate) struct Rules {
    /// A mailbox without angle brackets, up to the next space.
    pub(crate) brackets_optional: bool,
    /// UTF-8 (RFC 6531).
    pub(crate) utf8: bool,
    /// Dots anywhere in a local-part without quotes.
    pub(crate) dots_anywhere: bool,
    /// Underscores in domains.
    pub(crate) underscores: bool,
    /// A local-part alone.
    pub(crate) unqualified: bool,
}

impl Rules {
    /// RFC 5321 and nothing else.
    pub(crate) const STRICT: Self =
        Self { brackets_optional: false, utf8: false, dots_anywhere: false, underscores: false, unqualified: false };
}

/// Reads the path at the front of `text` and says how many octets it takes.
pub(crate) fn parse(text: &[u8], kind: Kind, rules: Rules) -> Option<(PathSpan, usize)> {
    let mut cursor = Cursor { text, at: 0, rules };
    let bracketed = cursor.take(b'<');
    if !bracketed && !rules.brackets_optional {
        return None;
    }
    if bracketed && kind == Kind::Reverse && cursor.take(b'>') {
        return Some((PathSpan { start: 1, end: 1, at: None }, cursor.at));
    }
    let routed = bracketed && cursor.peek() == Some(b'@');
    if routed {
        cursor.source_route()?;
    }
    let start = cursor.at;
    cursor.local_part()?;
    let local_part = text.get(start..cursor.at)?;
    let at = cursor.at;
    let at = if cursor.take(b'@') {
        cursor.domain_or_literal()?;
        Some(u32::try_from(at).ok()?)
    } else if !routed && (rules.unqualified || kind == Kind::Forward && is_postmaster(local_part)) {
        None
    } else {
        return None;
    };
    let end = cursor.at;
    if bracketed && !cursor.take(b'>') {
        return None;
    }
    let mailbox = text.get(start..end)?;
    if !(mailbox.is_ascii() || rules.utf8 && core::str::from_utf8(mailbox).is_ok()) {
        return None;
    }
    let span = PathSpan { start: u32::try_from(start).ok()?, end: u32::try_from(end).ok()?, at };
    Some((span, cursor.at))
}

/// Whether this is the local-part that every server has, in any case (section 4.5.1).
pub(crate) fn is_postmaster(local_part: &[u8]) -> bool {
    local_part.eq_ignore_ascii_case(b"postmaster")
}

/// Whether `text` is an ASCII mailbox, with a domain, and nothing else.
pub(crate) fn is_mailbox(text: &[u8], rules: Rules) -> bool {
    let rules = Rules { brackets_optional: true, utf8: false, unqualified: false, ..rules };
    let starts_plain = !text.starts_with(b"<") && !text.starts_with(b"@");
    starts_plain && parse(text, Kind::Reverse, rules).is_some_and(|(_, used)| used == text.len())
}

/// Whether `name` is a domain or an address literal, as RFC 5321 wants HELO's and EHLO's argument.
pub(crate) fn is_domain_or_literal(name: &[u8]) -> bool {
    let mut cursor = Cursor { text: name, at: 0, rules: Rules::STRICT };
    cursor.domain_or_literal().is_some() && cursor.at == name.len()
}

struct Cursor<'t> {
    text: &'t [u8],
    at: usize,
    /// What is admitted.
    rules: Rules,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, octet: u8) -> bool {
        let found = self.peek() == Some(octet);
        self.at += usize::from(found);
        found
    }

    /// Takes one or more octets that `accept` takes.
    fn run(&mut self, accept: impl Fn(u8) -> bool) -> Option<()> {
        let length = self.text.get(self.at..)?.iter().take_while(|&&octet| accept(octet)).count();
        self.at += length;
        (length > 0).then_some(())
    }

    /// `A-d-l ":"`, accepted and ignored as section 4.1.1.3 asks.
    fn source_route(&mut self) -> Option<()> {
        loop {
            if !self.take(b'@') {
                return None;
            }
            self.domain()?;
            if self.take(b':') {
                return Some(());
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn local_part(&mut self) -> Option<()> {
        if self.take(b'"') {
            return self.rest_of_quoted_string();
        }
        if self.rules.dots_anywhere {
            let start = self.at;
            self.run(|octet| is_atext(octet) || octet == b'.')?;
            let has_more_than_dots = self.text.get(start..self.at)?.iter().any(|&octet| octet != b'.');
            return has_more_than_dots.then_some(());
        }
        loop {
            self.run(is_atext)?;
            if !self.take(b'.') {
                return Some(());
            }
        }
    }

    fn rest_of_quoted_string(&mut self) -> Option<()> {
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                b'\\' => {
                    if !matches!(self.text.get(self.at + 1)?, b' '..=b'~') {
                        return None;
                    }
                    self.at += 2;
                }
                b' '..=b'~' | 0x80.. => self.at += 1,
                _ => return None,
            }
        }
    }

    fn domain_or_literal(&mut self) -> Option<()> {
        if self.peek() == Some(b'[') { self.address_literal() } else { self.domain() }
    }

    /// Dot-separated labels of letters, digits and inner hyphens, or of UTF-8 (RFC 6531).
    fn domain(&mut self) -> Option<()> {
        let (start, underscores) = (self.at, self.rules.underscores);
        loop {
            let label = self.at;
            let is_usual = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet >= 0x80;
            self.run(|octet| is_usual(octet) || underscores && octet == b'_')?;
            let label = self.text.get(label..self.at)?;
            if label.len() > 63 || label.first() == Some(&b'-') || label.last() == Some(&b'-') {
                return None;
            }
            if !self.take(b'.') {
                break;
            }
        }
        // RFC 5321, section 4.5.3.1.2.
        (self.at - start <= 255).then_some(())
    }

    /// An address literal (section 4.1.3).
    fn address_literal(&mut self) -> Option<()> {
        let rest = self.text.get(self.at..)?;
        let close = memchr::memchr(b']', rest)?;
        let content = core::str::from_utf8(rest.get(1..close)?).ok()?;
        let valid = match content.split_once(':') {
            None => is_ipv4(content),
            Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6") => is_ipv6(address),
            Some((tag, rest)) => {
                // General-address-literal: Standardized-tag ":" 1*dcontent
                tag.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
                    && tag.ends_with(|last: char| last.is_ascii_alphanumeric())
                    && !rest.is_empty()
                    && rest.bytes().all(|octet| matches!(octet, b'!'..=b'Z' | b'^'..=b'~'))
            }
        };
        self.at += close + 1;
        valid.then_some(())
    }
}

/// An IPv6 address in which `::` stands for at least two groups, and whose last two groups may be written
/// as an IPv4 address (section 4.1.3).
fn is_ipv6(text: &str) -> bool {
    if let Some((groups, tail)) = text.rsplit_once(':').filter(|(_, tail)| tail.contains('.')) {
        let mut sixteen_bit = [0; LONGEST_IPV6];
        let Some(room) = sixteen_bit.get_mut(..groups.len() + 4) else { return false };
        let (start, end) = room.split_at_mut(groups.len());
        start.copy_from_slice(groups.as_bytes());
        end.copy_from_slice(b":1:1");
        return is_ipv4(tail) && core::str::from_utf8(room).is_ok_and(is_ipv6);
    }
    let groups = text.split(':').filter(|group| !group.is_empty()).count();
    text.parse::<Ipv6Addr>().is_ok() && (groups == 8 || groups <= 6)
}

/// `Snum 3("." Snum)`, where a number may have leading zeros and is decimal all the same.
fn is_ipv4(text: &str) -> bool {
    let is_number = |digits: &str| {
        (1..=3).contains(&digits.len())
            && digits.bytes().all(|octet| octet.is_ascii_digit())
            && digits.parse::<u8>().is_ok()
    };
    text.split('.').count() == 4 && text.split('.').all(is_number)
}

/// Eight groups of four digits, and the colons between them.
const LONGEST_IPV6: usize = 39;

/// RFC 5322, section 3.2.3, and UTF-8 beyond ASCII as RFC 6531 adds it.
fn is_atext(octet: u8) -> bool {
    matches!(octet,
        b'0'..=b'9' | b'A'..=b'Z' | b'^'..=b'~' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'/' | b'=' | b'?' | 0x80..)
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;

    use super::*;

    const STRICT: Rules = Rules::STRICT;
    const UTF8: Rules = Rules { utf8: true, ..STRICT };

    fn forward(path: &str) -> Option<String> {
        let (span, used) = parse(path.as_bytes(), Kind::Forward, UTF8)?;
        assert_eq!(used, path.len(), "{path:?} was not read to its end");
        Some(path[span.start as usize..span.end as usize].into())
    }

    #[test]
    fn good_paths() {
        for (path, mailbox) in [
            ("<a@b>", "a@b"),
            ("<\"a b\\\"c\"@example.org>", "\"a b\\\"c\"@example.org"),
            ("<\"\"@example.org>", "\"\"@example.org"),
            ("<a@[127.0.0.1]>", "a@[127.0.0.1]"),
            ("<a@[127.000.0.001]>", "a@[127.000.0.001]"),
            ("<a@[IPv6:::1]>", "a@[IPv6:::1]"),
            ("<a@[x-tag:anything]>", "a@[x-tag:anything]"),
            ("<@one.example,@two.example:a@b.example>", "a@b.example"),
            ("<postMASTER>", "postMASTER"),
            ("<j\u{fc}rg@b\u{fc}cher.example>", "j\u{fc}rg@b\u{fc}cher.example"),
            ("<a.b+c=d@xn--bcher-kva.example>", "a.b+c=d@xn--bcher-kva.example"),
        ] {
            assert_eq!(forward(path).as_deref(), Some(mailbox), "{path:?}");
        }
        assert_eq!(parse(b"<>", Kind::Reverse, UTF8), Some((PathSpan { start: 1, end: 1, at: None }, 2)));
        assert_eq!(parse(b"<a@b> SIZE=1", Kind::Reverse, UTF8).map(|(_, used)| used), Some(5));
        assert_eq!(
            parse(b"a@b SIZE=1", Kind::Reverse, Rules { brackets_optional: true, ..STRICT }).map(|(_, used)| used),
            Some(3)
        );
    }

    #[test]
    fn bad_paths() {
        for path in [
            "",
            "<",
            "<>",
            "a@b",
            "<a>",
            "<a@>",
            "<@b>",
            "<a@b",
            "<a b@c>",
            "<.a@b>",
            "<a.@b>",
            "<a..b@c>",
            "<a@-b>",
            "<a@b->",
            "<a@b.>",
            "<a@.b>",
            "<a@b..c>",
            "<a@b_c>",
            "<\"a@b>",
            "<\"a\"b@c>",
            "<a@[]>",
            "<a@[1.2.3]>",
            "<a@[IPv6:1]>",
            "<a@[IPv6:1:2:3:4:5:6:7::]>",
            "<a@[256.0.0.1]>",
            "<a@[-:x]>",
            "<a@[x:]>",
            "<@a:b>",
            "<@a,b:c@d>",
            "<@a@b>",
            "<@a:postmaster>",
            "<a@b,c>",
            "<a@b\0>",
            "<\"a\x01\"@b>",
            "<<a@b>>",
            "<a@(c)b>",
        ] {
            assert_eq!(forward(path), None, "{path:?}");
        }
        assert_eq!(parse(b"<postmaster>", Kind::Reverse, UTF8), None);
        let label = "a".repeat(64);
        assert_eq!(forward(&format!("<a@{label}>")), None);
        assert_eq!(forward(&format!("<a@{}b>", "abcdefg.".repeat(32))), None);
    }

    #[test]
    fn each_bend_of_the_grammar_is_its_own() {
        let dots = Rules { dots_anywhere: true, ..STRICT };
        let underscores = Rules { underscores: true, ..STRICT };
        let unqualified = Rules { unqualified: true, ..STRICT };
        for (path, bend) in [
            ("<a..b.@docomo.ne.jp>", dots),
            ("<.a@b>", dots),
            ("<user@internal_exchange>", underscores),
            ("<user@my_host.example.com>", underscores),
            ("<@my_host:user@_b_>", underscores),
            ("<root>", unqualified),
            ("<\"ro ot\">", unqualified),
        ] {
            for kind in [Kind::Forward, Kind::Reverse] {
                let read = |rules| parse(path.as_bytes(), kind, rules).map(|(_, used)| used);
                assert_eq!((read(STRICT), read(bend)), (None, Some(path.len())), "{path}");
            }
        }
        let all =
            Rules { brackets_optional: true, utf8: true, dots_anywhere: true, underscores: true, unqualified: true };
        for path in [
            "",
            "<",
            ">",
            "<...@b>",
            "<.>",
            "<a@>",
            "<@b>",
            "<@a:root>",
            "<a@b..c>",
            "<a@-b>",
            "<a b@c>",
            "<a\0>",
            "<a@b\r>",
        ] {
            let read = parse(path.as_bytes(), Kind::Forward, all);
            assert!(read.is_none_or(|(_, used)| used < path.len()), "{path:?}");
        }
        assert!(parse(b"<>", Kind::Forward, all).is_none());
    }
}
