//! The addresses in a header field (RFC 5322, section 3.4).
//!
//! Readers of mail that forgive more guess what a malformed field means, each in its own way, and this has to know which
//! address every one of them will show. So what is not clear is no address list.

use super::mailbox::{Mailbox, canonical_domain};

/// The mailboxes of `From:` or `Sender:`, in their order; groups (RFC 6854) are what is in them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct AddressList {
    pub(super) mailboxes: Vec<Mailbox>,
    /// Addresses that stand, without quotes, where a display name should, as some programs write them.
    pub(super) names: Vec<Mailbox>,
}

/// Reads the body of a field, of which the lines need not be unfolded. `None` where it is no address list. `local_domain`
/// completes addresses without a domain, which is not admitted in mail, but some devices write.
///
/// Taken although the RFC has it in no message of today, or not at all: route addresses, dots in display names and anywhere
/// in local-parts, comments and white space around dots, empty places between commas, and any octets beyond ASCII in
/// display names and comments.
pub(super) fn parse(body: &[u8], local_domain: &str) -> Option<AddressList> {
    let tokens = Tokenizer { rest: body }.tokens()?;
    let mut parser = Parser { tokens: &tokens, local_domain, list: AddressList::default() };
    parser.address_list()?;
    Some(parser.list)
}

#[derive(Debug, PartialEq, Eq)]
enum Token<'t> {
    Atom(&'t [u8]),
    /// Without its quotes.
    Quoted(Vec<u8>),
    /// With its brackets.
    Literal(&'t [u8]),
    Special(u8),
}

struct Tokenizer<'t> {
    rest: &'t [u8],
}

impl<'t> Tokenizer<'t> {
    fn tokens(mut self) -> Option<Vec<Token<'t>>> {
        let mut tokens = Vec::new();
        loop {
            self.skip_comments_and_white_space()?;
            let Some(&first) = self.rest.first() else { return Some(tokens) };
            tokens.push(match first {
                b'"' => Token::Quoted(self.quoted_string()?),
                b'[' => Token::Literal(self.literal()?),
                b'<' | b'>' | b'@' | b',' | b';' | b':' | b'.' => {
                    self.skip(1);
                    Token::Special(first)
                }
                octet if is_atext(octet) => Token::Atom(self.run(is_atext)),
                _ => return None,
            });
        }
    }

    fn skip(&mut self, octets: usize) {
        self.rest = self.rest.get(octets..).unwrap_or_default();
    }

    fn run(&mut self, accept: impl Fn(u8) -> bool) -> &'t [u8] {
        let length = self.rest.iter().take_while(|octet| accept(**octet)).count();
        let (run, rest) = self.rest.split_at(length);
        self.rest = rest;
        run
    }

    /// Takes one octet, and with a CR the LF behind it: alone it is none that a header may have.
    fn next(&mut self) -> Option<u8> {
        let (&octet, rest) = self.rest.split_first()?;
        self.rest = rest;
        match octet {
            b'\r' if rest.first() == Some(&b'\n') => Some(octet),
            b'\t' | b'\n' | b' '..=b'~' | 0x80.. => Some(octet),
            _ => None,
        }
    }

    fn skip_comments_and_white_space(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match (self.rest.first(), depth) {
                (None, 0) => return Some(()),
                (Some(b' ' | b'\t' | b'\r' | b'\n'), _) => drop(self.next()?),
                (Some(b'('), _) => {
                    self.skip(1);
                    depth = depth.saturating_add(1);
                }
                (_, 0) => return Some(()),
                (Some(b')'), _) => {
                    self.skip(1);
                    depth = depth.saturating_sub(1);
                }
                (Some(b'\\'), _) => {
                    self.skip(1);
                    self.next()?;
                }
                // Also where it does not end.
                (_, _) => drop(self.next()?),
            }
        }
    }

    fn quoted_string(&mut self) -> Option<Vec<u8>> {
        self.skip(1);
        let mut content = Vec::new();
        loop {
            match self.next()? {
                b'"' => return Some(content),
                b'\\' => content.push(self.next()?),
                // Of a fold, only what is behind it (section 3.2.4).
                b'\r' | b'\n' => {}
                octet => content.push(octet),
            }
        }
    }

    fn literal(&mut self) -> Option<&'t [u8]> {
        let end = self.rest.iter().position(|octet| *octet == b']')?.saturating_add(1);
        let (literal, rest) = self.rest.split_at(end);
        self.rest = rest;
        let inner = literal.get(1..end.saturating_sub(1))?;
        inner.iter().all(|octet| octet.is_ascii_graphic() && !b"[\\".contains(octet)).then_some(literal)
    }
}

struct Parser<'t> {
    tokens: &'t [Token<'t>],
    local_domain: &'t str,
    list: AddressList,
}

impl<'t> Parser<'t> {
    fn address_list(&mut self) -> Option<()> {
        let mut in_group = false;
        loop {
            while self.take(b',') {}
            if self.tokens.is_empty() {
                return (!in_group).then_some(());
            }
            if !(in_group && self.peek() == Some(b';')) && self.address(in_group)? {
                in_group = true;
                continue;
            }
            if in_group && self.take(b';') {
                in_group = false;
            }
            if !(self.tokens.is_empty() || self.peek() == Some(b',')) {
                return None;
            }
        }
    }

    /// Reads an address, or the name of a group, of which it says so.
    fn address(&mut self, in_group: bool) -> Option<bool> {
        let words = self.words();
        match self.peek() {
            Some(b':') if !in_group && !words.is_empty() => {
                self.take(b':');
                return Some(true);
            }
            Some(b'<') => {}
            _ => {
                let mailbox = self.mailbox(words)?;
                if self.peek() != Some(b'<') {
                    self.list.mailboxes.push(mailbox);
                    return Some(false);
                }
                self.list.names.push(mailbox);
            }
        }
        self.take(b'<');
        if self.peek() == Some(b'@') {
            self.route()?;
        }
        let words = self.words();
        let mailbox = self.mailbox(words)?;
        self.list.mailboxes.push(mailbox);
        self.take(b'>').then_some(false)
    }

    /// A route in front of an address (section 4.4). Without commas between its domains, it would have an address in it.
    fn route(&mut self) -> Option<()> {
        loop {
            if !self.take(b'@') {
                return None;
            }
            canonical_domain(&self.domain()?)?;
            if self.take(b':') {
                return Some(());
            }
            if !self.take(b',') {
                return None;
            }
            while self.take(b',') {}
        }
    }

    /// A mailbox whose local-part was read.
    fn mailbox(&mut self, local_part: &[Token<'_>]) -> Option<Mailbox> {
        let local_part = local_part_of(local_part)?;
        if self.take(b'@') {
            let domain = self.domain()?;
            return Mailbox::new(local_part, &domain);
        }
        Mailbox::new(local_part, self.local_domain)
    }

    fn domain(&mut self) -> Option<String> {
        if let [Token::Literal(literal), rest @ ..] = self.tokens {
            self.tokens = rest;
            return String::from_utf8(literal.to_vec()).ok();
        }
        let mut domain = Vec::new();
        while let [Token::Atom(label), rest @ ..] = self.tokens {
            self.tokens = rest;
            domain.extend_from_slice(label);
            if !self.take(b'.') {
                break;
            }
            domain.push(b'.');
        }
        String::from_utf8(domain).ok()
    }

    /// What may be a display name or a local-part.
    fn words(&mut self) -> &'t [Token<'t>] {
        let is_word = |token: &&Token<'_>| !matches!(token, Token::Special(octet) if *octet != b'.');
        let length = self.tokens.iter().take_while(is_word).count();
        let (words, rest) = self.tokens.split_at(length);
        self.tokens = rest;
        words
    }

    fn peek(&self) -> Option<u8> {
        if let Some(Token::Special(octet)) = self.tokens.first() { Some(*octet) } else { None }
    }

    fn take(&mut self, octet: u8) -> bool {
        let found = self.peek() == Some(octet);
        if found {
            self.tokens = self.tokens.get(1..).unwrap_or_default();
        }
        found
    }
}

/// Words with dots between them, before, behind, or in a row.
fn local_part_of(tokens: &[Token<'_>]) -> Option<String> {
    let mut local_part = Vec::new();
    let (mut behind_word, mut has_word) = (false, false);
    for token in tokens {
        let word = match token {
            Token::Special(b'.') => {
                local_part.push(b'.');
                behind_word = false;
                continue;
            }
            Token::Atom(_) | Token::Quoted(_) if behind_word => return None,
            Token::Atom(word) => word,
            Token::Quoted(word) => word.as_slice(),
            Token::Literal(_) | Token::Special(_) => return None,
        };
        local_part.extend_from_slice(word);
        (behind_word, has_word) = (true, true);
    }
    let local_part = String::from_utf8(local_part).ok()?;
    let is_clear = !local_part.chars().any(char::is_control) && !has_encoded_word(&local_part);
    (has_word && is_clear).then_some(local_part)
}

/// Whether there is what looks like an encoded word, which must not be in an address (RFC 2047, section 5). Some readers
/// decode it there all the same, and show the address that is in it.
fn has_encoded_word(local_part: &str) -> bool {
    local_part.split_once("=?").is_some_and(|(_, behind)| behind.contains("?="))
}

/// RFC 5322, section 3.2.3, and everything beyond ASCII.
fn is_atext(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&octet) || octet >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailboxes(body: &[u8]) -> Option<Vec<String>> {
        let list = parse(body, "mx.example")?;
        let shown = |mailboxes: &[Mailbox]| mailboxes.iter().map(ToString::to_string).collect::<Vec<_>>();
        Some([shown(&list.mailboxes), shown(&list.names)].concat())
    }

    #[test]
    fn what_a_field_names() {
        let tim = &["tim@example.org"][..];
        for (body, expected) in [
            // RFC 5322, appendix A, and section 3.4.
            ("tim@example.org", tim),
            (" <tim@example.org>\r\n", tim),
            (" Tim <tim@Example.ORG>", tim),
            ("\"Tim, of \\\"Example\\\" <boss@example.org>\" <tim@example.org>", tim),
            ("Tim Q. Public <tim@example.org>", tim),
            ("Pete(A nice \\) chap) <tim(his account)@silly.test(his host)>", &["tim@silly.test"]),
            (
                "A Group:Chris Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;",
                &["c@a.test", "joe@where.test", "jdoe@one.test"],
            ),
            ("Undisclosed recipients:;", &[]),
            ("(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;", &[]),
            ("a@b.test, Group: c@d.test;, e@f.test", &["a@b.test", "c@d.test", "e@f.test"]),
            ("John Doe <jdoe@machine(comment).  example>", &["jdoe@machine.example"]),
            (
                "Mary Smith <@node.test,@other.test:mary@example.net>, , jdoe@test  . example",
                &["mary@example.net", "jdoe@test.example"],
            ),
            ("Joe <john . doe @example.org>", &["john.doe@example.org"]),
            // Folded, wherever that is allowed.
            ("Tim\r\n <tim@example.org>\r\n", tim),
            (" \r\n\ttim@example.org \r\n \r\n", tim),
            ("\"Tim\r\n Public\" <\r\n tim@example.org\r\n >", tim),
            ("=?utf-8?q?boss=40example.org?= <tim@example.org>", tim),
            ("=?UTF-8?B?VGlt?= =?UTF-8?B?IFB1YmxpYw==?= <tim@example.org>", tim),
            ("(boss@example.org) tim@example.org", tim),
            ("tim@example.org (Tim (of (Example)))", tim),
            ("tim@example.org (boss@example.org, )", tim),
            ("[Example] Tim <tim@example.org>", tim),
            ("\"tim\"@example.org", tim),
            ("\"t\\im\"@example.org", tim),
            ("\"a@b, c\"@example.org", &["\"a@b, c\"@example.org"]),
            ("a..b.@docomo.example", &["a..b.@docomo.example"]),
            ("tim@[192.0.2.1]", &["tim@[192.0.2.1]"]),
            ("tim@example.org.", tim),
            ("jürgen@bücher.example", &["jürgen@xn--bcher-kva.example"]),
            ("Jürgen <tim@example.org>", tim),
            // Without a domain.
            ("root", &["root@mx.example"]),
            ("Cron <root>", &["root@mx.example"]),
            ("Public, Tim <tim@example.org>", &["Public@mx.example", "tim@example.org"]),
            // Where a reader may show either, both count.
            ("boss@example.org <tim@example.org>", &["tim@example.org", "boss@example.org"]),
            ("boss@example.org, tim@example.org", &["boss@example.org", "tim@example.org"]),
            ("", &[]),
            (" \r\n", &[]),
        ] {
            assert_eq!(mailboxes(body.as_bytes()).unwrap_or_else(|| panic!("{body:?}")), expected, "{body:?}");
        }
        assert_eq!(mailboxes(b"J\xfcrgen (\xff) <tim@example.org>").unwrap(), tim);
    }

    #[test]
    fn what_is_not_clear_is_nothing() {
        for body in [
            "Tim Public",
            "tim@",
            "@example.org",
            "<>",
            "<tim@example.org",
            "tim@example.org>",
            "<tim@example.org> <boss@example.org>",
            "<tim@example.org> boss@example.org",
            "tim@example.org boss@example.org",
            "Tim tim@example.org <tim@example.org>",
            "tim@example.org; boss@example.org",
            "tim@example.org:",
            "Group: tim@example.org",
            "Group: Other: tim@example.org;;",
            ": tim@example.org;",
            "Group: tim@example.org; boss@example.org",
            "\"tim@example.org",
            "(tim@example.org",
            "tim@example.org)",
            "tim\\@example.org",
            "tim@exam ple.org",
            "tim@\"example.org\"",
            "tim@[192.0.2.1",
            "t im@example.org",
            "tim@example.org\0",
            "tim@example.org\r, boss@example.org",
            "\"\r\"@example.org",
            "\"a\tb\"@example.org",
            "(\x01) tim@example.org",
            "tim@example.org@example.com",
            "\"\"@example.org",
            "...@example.org",
            "tim@example!org",
            "<<tim@example.org>>",
            "<@a.test tim@example.org>",
            "<@boss@example.org:tim@example.org>",
            "<@:tim@example.org>",
            // Some readers decode what stands in an address, too.
            "=?utf-8?q?boss=40example.org?=@example.net",
            "tim+=?utf-8?q?=00?==?utf-8?b?Ym9zcw==?=@example.net",
            "Tim <=?utf-8?q?boss=40example.org=3E?=@example.net>",
            "\"=?utf-8?q?boss=40example.org?=\"@example.net",
            "=?utf-8?q?boss=40example.org?=",
        ] {
            assert_eq!(mailboxes(body.as_bytes()), None, "{body:?}");
        }
        assert_eq!(mailboxes(b"\xfc@example.org"), None);
        assert_eq!(mailboxes(b"a@\xfc.example"), None);
    }

    /// Whatever is in a field, each address that is read of it can be written, and means the same then.
    #[test]
    fn what_is_read_can_be_written_and_read_again() {
        let pieces = [
            "tim",
            "@",
            "example.org",
            "<",
            ">",
            ",",
            ";",
            ":",
            "\"",
            "\\",
            "(",
            ")",
            " ",
            "\r\n ",
            ".",
            "[",
            "]",
            "ü",
            "\0",
            "\r",
            "=?utf-8?q?x?=",
        ];
        let mut random = fastrand::Rng::with_seed(1);
        let mut read = 0;
        for _ in 0..50_000 {
            let body: String = (0..random.usize(1..12)).filter_map(|_| random.choice(pieces)).collect();
            let Some(list) = parse(body.as_bytes(), "mx.example") else { continue };
            for mailbox in list.mailboxes.iter().chain(&list.names) {
                read += 1;
                let written = mailbox.to_string();
                assert_eq!(Mailbox::parse(&written).as_ref(), Some(mailbox), "{body:?}");
                let again = parse(written.as_bytes(), "other.example").unwrap_or_else(|| panic!("{body:?} {written}"));
                assert_eq!(
                    (again.mailboxes.as_slice(), again.names.len()),
                    (std::slice::from_ref(mailbox), 0),
                    "{body:?}"
                );
            }
        }
        assert!(read > 1000, "{read}");
    }

    /// However deep and however long it is.
    #[test]
    fn it_takes_a_time_that_grows_with_the_length_alone() {
        let deep = [&b"(".repeat(100_000)[..], &b")".repeat(100_000), b"tim@example.org"].concat();
        assert_eq!(mailboxes(&deep).unwrap(), ["tim@example.org"]);
        assert_eq!(mailboxes(&b"(".repeat(100_000)), None);
        assert_eq!(mailboxes(&b",".repeat(100_000)).unwrap(), [""; 0]);
        assert_eq!(mailboxes(&b"a:;".repeat(100_000)), None);
        assert_eq!(mailboxes(&b"a@b,".repeat(1000)).unwrap().len(), 1000);
    }
}
