//! The client's messages of SCRAM (RFC 5802, section 7): read to the letter, nothing decided.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::secret::Secret;

/// What is wrong with a message: the value of the server's `e` attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageError {
    InvalidEncoding,
    ExtensionsNotSupported,
    InvalidUsernameEncoding,
}

/// The first message, its names decoded and not yet prepared.
#[derive(Debug)]
pub(super) struct ClientFirst<'m> {
    pub(super) binding: Binding<'m>,
    pub(super) authzid: Option<Cow<'m, [u8]>>,
    pub(super) name: Cow<'m, [u8]>,
    pub(super) nonce: &'m [u8],
    /// What the client repeats in its final message.
    pub(super) gs2_header: &'m [u8],
    /// What both sides sign.
    pub(super) bare: &'m [u8],
}

/// What the client says of channel binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binding<'m> {
    /// `n`: it does not support it.
    NotSupported,
    /// `y`: it does, and thinks that the server does not.
    ServerLacks,
    /// `p`: it uses this type.
    Required(&'m [u8]),
}

/// The final message.
#[derive(Debug)]
pub(super) struct ClientFinal<'m> {
    /// Decoded.
    pub(super) binding: Secret,
    pub(super) nonce: &'m [u8],
    pub(super) without_proof: &'m [u8],
    /// Decoded; any length.
    pub(super) proof: Secret,
}

impl<'m> ClientFirst<'m> {
    pub(super) fn parse(message: &'m [u8]) -> Result<Self, MessageError> {
        check_length(message)?;
        let (flag, rest) = until_comma(message).ok_or(MessageError::InvalidEncoding)?;
        let binding = match flag {
            b"n" => Binding::NotSupported,
            b"y" => Binding::ServerLacks,
            _ => match flag.strip_prefix(b"p=") {
                Some(name) if is_binding_name(name) => Binding::Required(name),
                Some(_) | None => return Err(MessageError::InvalidEncoding),
            },
        };
        let (authzid, bare) = until_comma(rest).ok_or(MessageError::InvalidEncoding)?;
        let authzid = match authzid {
            b"" => None,
            _ => Some(saslname(authzid.strip_prefix(b"a=").ok_or(MessageError::InvalidEncoding)?)?),
        };
        let gs2_header = message.get(..message.len() - bare.len()).unwrap_or_default();

        let mut attributes = bare.split(|&octet| octet == b',');
        let mut next = || attributes.next().unwrap_or_default();
        let first = next();
        if first.starts_with(b"m=") {
            return Err(MessageError::ExtensionsNotSupported);
        }
        let name = saslname(first.strip_prefix(b"n=").ok_or(MessageError::InvalidEncoding)?)?;
        let nonce = next().strip_prefix(b"r=").filter(|nonce| is_nonce(nonce)).ok_or(MessageError::InvalidEncoding)?;
        attributes.try_for_each(check_extension)?;
        Ok(Self { binding, authzid, name, nonce, gs2_header, bare })
    }
}

impl<'m> ClientFinal<'m> {
    pub(super) fn parse(message: &'m [u8]) -> Result<Self, MessageError> {
        check_length(message)?;
        let invalid = MessageError::InvalidEncoding;
        // The proof is the last attribute, and base64 has no comma.
        let comma = message.iter().rposition(|&octet| octet == b',').ok_or(invalid)?;
        let (without_proof, proof) = (message.get(..comma).ok_or(invalid)?, message.get(comma + 1..).ok_or(invalid)?);
        let mut attributes = without_proof.split(|&octet| octet == b',');
        let mut next = || attributes.next().unwrap_or_default();
        let first = next();
        if first.starts_with(b"m=") {
            return Err(MessageError::ExtensionsNotSupported);
        }
        let binding = first.strip_prefix(b"c=").ok_or(invalid)?;
        let nonce = next().strip_prefix(b"r=").filter(|nonce| is_nonce(nonce)).ok_or(invalid)?;
        attributes.try_for_each(check_extension)?;
        let proof = proof.strip_prefix(b"p=").ok_or(invalid)?;
        Ok(Self { binding: decode(binding)?, nonce, without_proof, proof: decode(proof)? })
    }
}

fn check_length(message: &[u8]) -> Result<(), MessageError> {
    if message.len() <= MAX_MESSAGE_OCTETS { Ok(()) } else { Err(MessageError::InvalidEncoding) }
}

/// Decodes base64, of which a part may be right.
fn decode(encoded: &[u8]) -> Result<Secret, MessageError> {
    let mut octets = Secret::default();
    let room = octets.refill(encoded.len() / 4 * 3 + 3);
    let length = STANDARD.decode_slice(encoded, room).map_err(|_| MessageError::InvalidEncoding)?;
    octets.truncate(length);
    Ok(octets)
}

/// An extension that is not mandatory is passed over.
fn check_extension(attribute: &[u8]) -> Result<(), MessageError> {
    match attribute {
        [b'm', b'=', ..] => Err(MessageError::ExtensionsNotSupported),
        [letter, b'=', value @ ..] if letter.is_ascii_alphabetic() && !value.is_empty() && is_value(value) => Ok(()),
        _ => Err(MessageError::InvalidEncoding),
    }
}

/// `=2C` and `=3D` stand for `,` and `=`, which cannot stand for themselves.
pub(super) fn saslname(encoded: &[u8]) -> Result<Cow<'_, [u8]>, MessageError> {
    if encoded.is_empty() || !is_value(encoded) {
        return Err(MessageError::InvalidUsernameEncoding);
    }
    if !encoded.contains(&b'=') {
        return Ok(Cow::Borrowed(encoded));
    }
    let mut name = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    loop {
        rest = match rest {
            [] => return Ok(Cow::Owned(name)),
            [b'=', b'2', b'C', rest @ ..] => {
                name.push(b',');
                rest
            }
            [b'=', b'3', b'D', rest @ ..] => {
                name.push(b'=');
                rest
            }
            [b'=', ..] => return Err(MessageError::InvalidUsernameEncoding),
            [octet, rest @ ..] => {
                name.push(*octet);
                rest
            }
        };
    }
}

fn until_comma(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let comma = memchr::memchr(b',', message)?;
    Some((message.get(..comma)?, message.get(comma + 1..)?))
}

/// RFC 5056, section 4.1: letters, digits, `.` and `-`.
fn is_binding_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-'))
}

fn is_nonce(nonce: &[u8]) -> bool {
    (1..=MAX_NONCE_OCTETS).contains(&nonce.len()) && nonce.iter().all(u8::is_ascii_graphic)
}

fn is_value(value: &[u8]) -> bool {
    !value.contains(&0) && core::str::from_utf8(value).is_ok()
}

/// Room for the longest names, both nonces and some extensions. What both sides sign is kept from one
/// message to the next, for a client that has proved nothing yet.
const MAX_MESSAGE_OCTETS: usize = 4_096;

/// Far more than any client's; what the server's own nonce comes behind has to fit into a line.
const MAX_NONCE_OCTETS: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_of_rfc_5802_section_5() {
        let first = ClientFirst::parse(b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL").unwrap();
        assert_eq!(first.binding, Binding::NotSupported);
        assert_eq!((first.authzid, &*first.name, first.nonce), (None, &b"user"[..], &b"fyko+d2lbbFgONRv9qkxdawL"[..]));
        assert_eq!((first.gs2_header, first.bare), (&b"n,,"[..], &b"n=user,r=fyko+d2lbbFgONRv9qkxdawL"[..]));
    }

    #[test]
    fn names_are_decoded_and_extensions_passed_over() {
        let first = ClientFirst::parse(b"p=tls-exporter,a=a=2Cb,n=x=3Dy,r=n,x=1").unwrap();
        assert_eq!(first.binding, Binding::Required(b"tls-exporter"));
        assert_eq!((first.authzid.as_deref(), &*first.name), (Some(&b"a,b"[..]), &b"x=y"[..]));
    }

    #[test]
    fn a_message_has_a_length() {
        let message = |octets: usize| [&b"n,,n=u,r=x,y="[..], &[b'z'; 4_096]].concat().get(..octets).unwrap().to_vec();
        assert!(ClientFirst::parse(&message(4_096)).is_ok());
        assert_eq!(ClientFirst::parse(&message(4_097)).map(|_| ()), Err(MessageError::InvalidEncoding));
    }

    #[test]
    fn what_is_no_first_message() {
        for (message, error) in [
            (&b""[..], MessageError::InvalidEncoding),
            (b"n", MessageError::InvalidEncoding),
            (b"n,", MessageError::InvalidEncoding),
            (b"n,,", MessageError::InvalidEncoding),
            (b"N,,n=u,r=x", MessageError::InvalidEncoding),
            (b"p=,,n=u,r=x", MessageError::InvalidEncoding),
            (b"p=a b,,n=u,r=x", MessageError::InvalidEncoding),
            (b"n,b=x,n=u,r=x", MessageError::InvalidEncoding),
            (b"n,,r=x,n=u", MessageError::InvalidEncoding),
            (b"n,,n=u", MessageError::InvalidEncoding),
            (b"n,,n=u,r=", MessageError::InvalidEncoding),
            (b"n,,n=u,r=a b", MessageError::InvalidEncoding),
            (b"n,,n=u,r=x,", MessageError::InvalidEncoding),
            (b"n,,n=u,r=x,1=2", MessageError::InvalidEncoding),
            (b"n,,m=x,n=u,r=x", MessageError::ExtensionsNotSupported),
            (b"n,,n=u,r=x,m=x", MessageError::ExtensionsNotSupported),
            (b"n,,n=,r=x", MessageError::InvalidUsernameEncoding),
            (b"n,,n=a=2c,r=x", MessageError::InvalidUsernameEncoding),
            (b"n,,n=a=,r=x", MessageError::InvalidUsernameEncoding),
            (b"n,,n=a\xff,r=x", MessageError::InvalidUsernameEncoding),
            (b"n,a==,n=a,r=x", MessageError::InvalidUsernameEncoding),
        ] {
            assert_eq!(ClientFirst::parse(message).map(|_| ()), Err(error), "{}", message.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_final_message() {
        assert_eq!(ClientFinal::parse(b"c=biws,r=x,y=z,p=cA==").unwrap().without_proof, b"c=biws,r=x,y=z");
        for (message, error) in [
            (&b""[..], MessageError::InvalidEncoding),
            (b"c=biws,r=x", MessageError::InvalidEncoding),
            (b"c=biws,p=cA==", MessageError::InvalidEncoding),
            (b"r=x,c=biws,p=cA==", MessageError::InvalidEncoding),
            (b"c=biw,r=x,p=cA==", MessageError::InvalidEncoding),
            (b"c=biws,r=x,p=cA=", MessageError::InvalidEncoding),
            (b"c=biws,r=x,p=cA==,y=z", MessageError::InvalidEncoding),
            (b"m=y,c=biws,r=x,p=cA==", MessageError::ExtensionsNotSupported),
            (b"c=biws,r=x,m=y,p=cA==", MessageError::ExtensionsNotSupported),
        ] {
            assert_eq!(ClientFinal::parse(message).map(|_| ()), Err(error), "{}", message.escape_ascii());
        }
    }
}
