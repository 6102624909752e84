//! CRAM-MD5 (RFC 2195).

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use zeroize::Zeroizing;

/// The answer to the server's challenge: the name, and the challenge's HMAC in hexadecimal.
pub(super) fn response(authcid: &str, password: &str, challenge: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut response = Zeroizing::new(Vec::with_capacity(authcid.len() + 1 + 2 * MD5_OCTETS));
    response.extend_from_slice(authcid.as_bytes());
    response.push(b' ');
    // A key of HMAC has any length.
    let Ok(mut hmac) = Hmac::<Md5>::new_from_slice(password.as_bytes()) else { return response };
    hmac.update(challenge);
    for octet in hmac.finalize().into_bytes() {
        response.extend(
            [octet >> 4, octet & 15].map(|digit| b"0123456789abcdef".get(usize::from(digit)).copied().unwrap_or(b'0')),
        );
    }
    response
}

const MD5_OCTETS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 2195, section 2.
    #[test]
    fn the_answer_of_the_rfc() {
        let response = response("tim", "tanstaaftanstaaf", b"<1896.697170952@postoffice.reston.mci.net>");
        assert_eq!(*response, b"tim b913a602c7eda7a495b4e6e7334d3890".to_vec());
    }
}
