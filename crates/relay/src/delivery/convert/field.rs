//! What `Content-Type` and `Content-Transfer-Encoding` say (RFC 2045, sections 5 and 6).

/// What a part is, as far as that says how it can be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Media {
    /// Lines of text, or what is as good as that.
    Text,
    /// A message with parts of its own, which has no encoding (RFC 2046, section 5.2.1).
    Message,
    /// A part about messages that has no encoding either (RFC 2046, section 5.2).
    AboutMessages,
    Multipart(Multipart),
    /// S/MIME: what is encrypted or signed, whole (RFC 8551, section 3.2).
    Pkcs7,
    Other,
}

/// A part that has parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Multipart {
    pub(super) boundary: Box<[u8]>,
    /// Whether parts are messages unless they say otherwise (RFC 2046, section 5.1.5).
    pub(super) is_digest: bool,
    /// Whether it is signed or encrypted, octet for octet (RFC 1847).
    pub(super) security: Option<&'static str>,
}

/// How a part is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Not at all, and it says that it has no octets above 127, or says nothing.
    SevenBit,
    /// Not at all.
    EightBit,
    QuotedPrintable,
    Base64,
    Unknown,
}

impl Media {
    /// Reads the value of `Content-Type`, with its line ends. What makes no sense is text (RFC 2045, section 5.2), and
    /// an error where that is about the parts.
    pub(super) fn of(value: &[u8]) -> Result<Self, &'static str> {
        let mut value = Value(value);
        let kind = value.token().to_ascii_lowercase();
        value.skip();
        let subtype = if value.eat(b'/') { value.token().to_ascii_lowercase() } else { Vec::new() };
        match (&kind[..], &subtype[..]) {
            (b"text", _) | (b"", _) => Ok(Self::Text),
            (b"message", b"rfc822" | b"news") => Ok(Self::Message),
            // RFC 6532, section 3.7, and RFC 6533: these may be encoded.
            (b"message", subtype) if subtype.starts_with(b"global") => Ok(Self::Text),
            (b"message", _) => Ok(Self::AboutMessages),
            (b"application", b"pkcs7-mime" | b"x-pkcs7-mime") => Ok(Self::Pkcs7),
            (b"multipart", subtype) => Ok(Self::Multipart(Multipart {
                boundary: boundary(value)?,
                is_digest: subtype == b"digest",
                security: match subtype {
                    b"signed" => Some("signature (multipart/signed)"),
                    b"encrypted" => Some("encryption (multipart/encrypted)"),
                    _ => None,
                },
            })),
            _ => Ok(Self::Other),
        }
    }
}

impl Encoding {
    /// Reads the value of `Content-Transfer-Encoding`, with its line ends.
    pub(super) fn of(value: &[u8]) -> Self {
        let mut value = Value(value);
        let name = value.token().to_ascii_lowercase();
        value.skip();
        if !value.0.is_empty() {
            return Self::Unknown;
        }
        match &name[..] {
            b"7bit" | b"7-bit" => Self::SevenBit,
            b"8bit" | b"8-bit" | b"binary" => Self::EightBit,
            b"quoted-printable" => Self::QuotedPrintable,
            b"base64" => Self::Base64,
            _ => Self::Unknown,
        }
    }
}

/// The boundary among parameters. Every reader must find the same.
fn boundary(mut value: Value<'_>) -> Result<Box<[u8]>, &'static str> {
    let mut found: Option<Vec<u8>> = None;
    loop {
        value.skip();
        if value.0.is_empty() {
            break;
        }
        if !value.eat(b';') {
            return Err("the parameters of a multipart type make no sense");
        }
        let name = value.token().to_ascii_lowercase();
        value.skip();
        if !value.eat(b'=') {
            if name.is_empty() {
                continue;
            }
            return Err("the parameters of a multipart type make no sense");
        }
        value.skip();
        let content = value.content()?;
        if name.starts_with(b"boundary*") || (name == b"boundary" && found.replace(content).is_some()) {
            return Err("a multipart type has its boundary in pieces, or more than one");
        }
    }
    let boundary = found.ok_or("a multipart type has no boundary")?;
    let is_fine = |octet: &u8| matches!(octet, b' '..=b'~');
    if boundary.is_empty()
        || boundary.len() > MAX_BOUNDARY_OCTETS
        || !boundary.iter().all(is_fine)
        || boundary.ends_with(b" ")
    {
        return Err("a boundary is empty, too long, or not of the characters of boundaries");
    }
    Ok(boundary.into())
}

/// What is left of a field's value.
#[derive(Clone, Copy)]
struct Value<'a>(&'a [u8]);

impl<'a> Value<'a> {
    /// Leaves out blanks, line ends and comments.
    fn skip(&mut self) {
        let mut depth = 0_usize;
        let mut escaped = false;
        while let Some((first, rest)) = self.0.split_first() {
            match first {
                _ if escaped => escaped = false,
                b'\\' if depth > 0 => escaped = true,
                b'(' => depth += 1,
                b')' if depth > 0 => depth -= 1,
                b' ' | b'\t' | b'\r' | b'\n' => {}
                _ if depth > 0 => {}
                _ => return,
            }
            self.0 = rest;
        }
    }

    fn eat(&mut self, octet: u8) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if *first == octet => {
                self.0 = rest;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Takes a token, which may be empty.
    fn token(&mut self) -> &'a [u8] {
        self.skip();
        self.until(|octet| {
            matches!(
                octet,
                b'(' | b')' | b'<' | b'>' | b'@' | b',' | b';' | b':' | b'\\' | b'"' | b'/' | b'[' | b']' | b'?' | b'='
            ) || octet <= b' '
        })
    }

    /// Takes a parameter's value. Many are written without the quotes that they need.
    fn content(&mut self) -> Result<Vec<u8>, &'static str> {
        if !self.eat(b'"') {
            let content = self.until(|octet| octet == b';' || octet <= b' ');
            let is_clear = !content.iter().any(|octet| matches!(octet, b'(' | b')' | b'"' | b'\\'));
            return if is_clear {
                Ok(content.to_vec())
            } else {
                Err("the parameters of a multipart type make no sense")
            };
        }
        let mut content = Vec::new();
        while let Some((first, rest)) = self.0.split_first() {
            self.0 = rest;
            match first {
                b'"' => return Ok(content),
                b'\\' => {
                    let (escaped, rest) = self.0.split_first().unwrap_or((&b'"', &[]));
                    content.push(*escaped);
                    self.0 = rest;
                }
                b'\r' | b'\n' => {}
                _ => content.push(*first),
            }
        }
        Err("the parameters of a multipart type make no sense")
    }

    fn until(&mut self, is_end: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|octet| is_end(*octet)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at_checked(end).unwrap_or((self.0, &[]));
        self.0 = rest;
        taken
    }
}

/// Longer than the 70 octets of RFC 2046, section 5.1.1.
pub(super) const MAX_BOUNDARY_OCTETS: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_in_the_forms_that_they_come_in() {
        for (value, expected) in [
            (" text/plain; charset=utf-8\r\n", Media::Text),
            (" TEXT / (a \\) b) HTML\r\n", Media::Text),
            ("text", Media::Text),
            ("", Media::Text),
            (";", Media::Text),
            ("message/rfc822", Media::Message),
            ("message/global-delivery-status", Media::Text),
            ("message/delivery-status", Media::AboutMessages),
            ("application/pkcs7-mime; smime-type=signed-data", Media::Pkcs7),
            ("application/json", Media::Other),
        ] {
            assert_eq!(Media::of(value.as_bytes()), Ok(expected), "{value:?}");
        }
    }

    #[test]
    fn boundaries_in_the_forms_that_they_come_in() {
        for (parameters, expected) in [
            ("; boundary=abc", "abc"),
            (";\r\n\tcharset=\"x;y\"; BOUNDARY = \"a \\\"b\\\\\" (comment);\r\n", "a \"b\\"),
            ("; boundary=----=_Part_1:2?/3; type=\"text/html\"", "----=_Part_1:2?/3"),
            ("; boundary=\"fol\r\n ded\";", "fol ded"),
        ] {
            let value = format!("multipart/mixed{parameters}");
            let Ok(Media::Multipart(multipart)) = Media::of(value.as_bytes()) else { panic!("{value:?}") };
            assert_eq!(multipart.boundary.escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
        }
        for wrong in [
            "",
            ";",
            "; boundary",
            "; boundary=",
            "; boundary=\"\"",
            "; boundary=\"a",
            "; boundary=\"a \"",
            "; boundary=a; boundary=b",
            "; boundary*0=a; boundary*1=b",
            "; boundary=a(b)",
            "; boundary=\"é\"",
            " boundary=a",
        ] {
            let value = format!("multipart/mixed{wrong}");
            assert!(Media::of(value.as_bytes()).is_err(), "{value:?}");
        }
    }

    #[test]
    fn encodings_in_the_forms_that_they_come_in() {
        for (value, expected) in [
            (" 7bit\r\n", Encoding::SevenBit),
            ("8BIT (really)\r\n", Encoding::EightBit),
            ("binary", Encoding::EightBit),
            (" Quoted-Printable \r\n", Encoding::QuotedPrintable),
            ("base64", Encoding::Base64),
            ("", Encoding::Unknown),
            ("base64; x=y", Encoding::Unknown),
            ("uuencode", Encoding::Unknown),
        ] {
            assert_eq!(Encoding::of(value.as_bytes()), expected, "{value:?}");
        }
    }
}
