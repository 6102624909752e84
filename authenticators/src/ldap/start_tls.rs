//! StartTLS (RFC 4511, section 4.14): the one exchange in the clear.
//!
//! `ldap3` can do it, but reads as deep as what it reads is nested, for which whoever is in between could end the
//! process. This reads one short answer, and not an octet past it: what else was sent in the clear is not taken for
//! something that came by TLS.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::fault::{Fault, ResultCode};

/// Asks the server to begin with TLS, and returns once it will.
pub(super) async fn start_tls(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> Result<(), Fault> {
    stream.write_all(REQUEST).await.map_err(Fault::Connect)?;
    if stream.read_u8().await.map_err(Fault::Connect)? != SEQUENCE {
        return Err(Fault::StartTlsResponse);
    }
    // The length, or of how many octets the length is (X.690, section 8.1.3): Active Directory always takes four.
    let mut length = usize::from(stream.read_u8().await.map_err(Fault::Connect)?);
    match length.checked_sub(LONG_FORM) {
        None => {}
        Some(octets @ 1..=4) => {
            length = 0;
            for _ in 0..octets {
                length = length << 8 | usize::from(stream.read_u8().await.map_err(Fault::Connect)?);
            }
        }
        Some(_) => return Err(Fault::StartTlsResponse),
    }
    if length > MAX_RESPONSE_OCTETS {
        return Err(Fault::StartTlsResponse);
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await.map_err(Fault::Connect)?;
    match result_code(&message) {
        Some(ResultCode::SUCCESS) => Ok(()),
        Some(code) => Err(Fault::StartTls(code)),
        None => Err(Fault::StartTlsResponse),
    }
}

/// The result code in the content of an LDAPMessage that answers request 1.
fn result_code(message: &[u8]) -> Option<ResultCode> {
    let rest = message.strip_prefix(&[INTEGER, 1, MESSAGE_ID])?;
    let [EXTENDED_RESPONSE, rest @ ..] = rest else { return None };
    let (&length, rest) = rest.split_first()?;
    let rest = rest.get(usize::from(length).saturating_sub(LONG_FORM)..)?;
    match rest {
        [ENUMERATED, 1, code, ..] => Some(ResultCode(u32::from(*code))),
        _ => None,
    }
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const ENUMERATED: u8 = 0x0a;
const EXTENDED_RESPONSE: u8 = 0x78;
const MESSAGE_ID: u8 = 1;

/// A first octet past this says of how many octets the length is.
const LONG_FORM: usize = 0x80;

/// An LDAPMessage with number 1, and in it an extended request of the name `1.3.6.1.4.1.1466.20037`.
const REQUEST: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";

/// Servers tell in some words why they refuse.
const MAX_RESPONSE_OCTETS: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of an answer, and what of it is left.
    async fn answered(answer: &[u8]) -> (Result<(), Fault>, Vec<u8>) {
        let (mut here, mut there) = tokio::io::duplex(16_384);
        there.write_all(answer).await.unwrap();
        there.shutdown().await.unwrap();
        let result = start_tls(&mut here).await;
        let mut left = Vec::new();
        here.read_to_end(&mut left).await.unwrap();
        let mut asked = [0; 31];
        there.read_exact(&mut asked).await.unwrap();
        assert_eq!(asked, REQUEST);
        (result, left)
    }

    #[tokio::test]
    async fn success_and_not_an_octet_more() {
        // As OpenLDAP answers, and as Active Directory does: long forms of lengths, and the operation's name.
        let openldap = b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00".as_slice();
        let active_directory = b"\x30\x84\x00\x00\x00\x28\x02\x01\x01\x78\x84\x00\x00\x00\x1f\
            \x0a\x01\x00\x04\x00\x04\x00\x8a\x161.3.6.1.4.1.1466.20037";
        for answer in [openldap, active_directory] {
            let (result, left) = answered(&[answer, b"more"].concat()).await;
            assert!(result.is_ok(), "{result:?}");
            assert_eq!(left, b"more");
        }
    }

    #[tokio::test]
    async fn what_is_no_success_is_told() {
        let refused = b"\x30\x81\x0e\x02\x01\x01\x78\x81\x08\x0a\x01\x02\x04\x00\x04\x01x";
        assert!(matches!(answered(refused).await.0, Err(Fault::StartTls(ResultCode(2)))));
        for bad in [
            b"HTTP/1.1 400 Bad Request\r\n".as_slice(),
            b"\x30\x82\xff\xff",
            b"\x30\x80",
            b"\x30\x85",
            b"\x30\x84\xff\xff\xff\xff",
            // The answer to another request, another operation, a result of no code.
            b"\x30\x0c\x02\x01\x02\x78\x07\x0a\x01\x00\x04\x00\x04\x00",
            b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
            b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x02\x00\x00\x04\x00\x00",
            b"\x30\x00",
            b"\x30\x05\x02\x01\x01\x78\x07",
        ] {
            assert!(matches!(answered(bad).await.0, Err(Fault::StartTlsResponse)), "{bad:x?}");
        }
        for cut in [b"".as_slice(), b"\x30", b"\x30\x0c\x02"] {
            assert!(matches!(answered(cut).await.0, Err(Fault::Connect(_))), "{cut:x?}");
        }
    }
}
