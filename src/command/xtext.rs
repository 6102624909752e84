//! xtext (RFC 3461, section 4; RFC 4954, section 8): how MAIL's AUTH parameter writes a mailbox.

use alloc::string::String;

use super::path::{self, Rules};

/// Decodes `encoded` onto the end of `text`. `None`, and `text` as it was, unless it is well-formed,
/// not empty, and decodes to printable UTF-8.
pub(crate) fn decode_onto(text: &mut String, encoded: &[u8]) -> Option<()> {
    let before = text.len();
    let decoded = decode(encoded, |character| text.push(character));
    if decoded.is_none() {
        text.truncate(before);
    }
    decoded
}

/// Whether `encoded` is xtext for a mailbox or for `<>` (RFC 4954, section 8).
pub(crate) fn is_mailbox_or_null(encoded: &[u8], rules: Rules) -> bool {
    let mut decoded = [0; MAX_DECODED_OCTETS];
    let mut length = 0;
    let fits = decode(encoded, |character| {
        if let (Some(octet), Ok(decoded)) = (decoded.get_mut(length), u8::try_from(character)) {
            *octet = decoded;
        }
        length += 1;
    });
    fits.is_some() && decoded.get(..length).is_some_and(|decoded| decoded == b"<>" || path::is_mailbox(decoded, rules))
}

/// Whether `encoded` is xtext for printable ASCII.
pub(crate) fn is_xtext(encoded: &[u8]) -> bool {
    decode(encoded, |_| ()).is_some()
}

/// Whether `encoded` is an internationalised address as ORCPT has it (RFC 6533, section 3):
/// `utf-8-addr-xtext` or `utf-8-addr-unitext`.
pub(crate) fn is_utf8_address(encoded: &[u8]) -> bool {
    decode_utf8(encoded, |_| ()).is_some()
}

/// Decodes such an address onto the end of `text`; `None`, and `text` as it was, if it is none.
pub(crate) fn decode_utf8_onto(text: &mut String, encoded: &[u8]) -> Option<()> {
    let before = text.len();
    let decoded = decode_utf8(encoded, |character| text.push(character));
    if decoded.is_none() {
        text.truncate(before);
    }
    decoded
}

fn decode_utf8(encoded: &[u8], mut sink: impl FnMut(char)) -> Option<()> {
    let mut rest = core::str::from_utf8(encoded).ok().filter(|text| !text.is_empty())?;
    while let Some(character) = rest.chars().next() {
        rest = match character {
            // `\x{1F980}`: what cannot be written otherwise.
            '\\' => {
                let (digits, behind) = rest.strip_prefix("\\x{")?.split_once('}')?;
                let usual = (2..=6).contains(&digits.len()) && digits.bytes().all(|digit| hex(digit).is_some());
                let character = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
                if !usual || character.is_control() {
                    return None;
                }
                sink(character);
                behind
            }
            '+' | '=' => return None,
            _ if character == ' ' || character.is_control() => return None,
            _ => {
                sink(character);
                rest.get(character.len_utf8()..)?
            }
        };
    }
    Some(())
}

fn decode(encoded: &[u8], mut sink: impl FnMut(char)) -> Option<()> {
    if encoded.is_empty() {
        return None;
    }
    let mut octets = encoded.iter().copied();
    while let Some(octet) = octets.next() {
        let decoded = match octet {
            b'+' => hex(octets.next()?)? << 4 | hex(octets.next()?)?,
            b'=' => return None,
            b'!'..=b'~' => octet,
            _ => return None,
        };
        // A mailbox outside ASCII would have to be in an internationalised form that RFC 4954 does not
        // have; control characters could break out of whatever line the mailbox is written into.
        if !matches!(decoded, b' '..=b'~') {
            return None;
        }
        sink(char::from(decoded));
    }
    Some(())
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// More than the 500 octets that the parameter may add to a command line.
const MAX_DECODED_OCTETS: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(encoded: &str) -> Option<String> {
        let mut text = String::new();
        decode_onto(&mut text, encoded.as_bytes()).map(|()| text)
    }

    #[test]
    fn the_example_of_rfc_4954_section_5() {
        assert_eq!(decoded("e+3Dmc2@example.com").as_deref(), Some("e=mc2@example.com"));
    }

    #[test]
    fn what_is_not_xtext_is_refused() {
        for bad in ["", "+", "+3", "+G0", "a=b", "a b", "a\u{e9}", "+0D+0A", "+FF"] {
            assert_eq!(decoded(bad), None, "{bad:?}");
        }
    }
}
