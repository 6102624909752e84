//! OAUTHBEARER (RFC 7628) and XOAUTH2.

use zeroize::Zeroizing;

use super::exchange::Login;

/// The client's only message of OAUTHBEARER (RFC 7628, section 3.1).
pub(super) fn oauth_bearer(login: &Login<'_>) -> Zeroizing<Vec<u8>> {
    let port = login.port.to_string();
    // RFC 5801, section 4: a comma would end the authzid, and "=" begins an escape.
    let authzid = login.authcid.replace('=', "=3D").replace(',', "=2C");
    wiped(&[
        "n,a=",
        &authzid,
        ",\x01host=",
        login.host,
        "\x01port=",
        &port,
        "\x01auth=Bearer ",
        login.secret,
        "\x01\x01",
    ])
}

/// The client's only message of XOAUTH2, as Google describes it.
pub(super) fn xoauth2(login: &Login<'_>) -> Zeroizing<Vec<u8>> {
    wiped(&["user=", login.authcid, "\x01auth=Bearer ", login.secret, "\x01\x01"])
}

fn wiped(parts: &[&str]) -> Zeroizing<Vec<u8>> {
    let mut message = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum()));
    parts.iter().for_each(|part| message.extend_from_slice(part.as_bytes()));
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==";

    /// RFC 7628, section 4.1.
    #[test]
    fn the_message_of_the_rfc() {
        let login = Login { authcid: "user@example.com", secret: TOKEN, host: "server.example.com", port: 143 };
        let expected =
            format!("n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer {TOKEN}\x01\x01");
        assert_eq!(*oauth_bearer(&login), expected.into_bytes());
        let odd = Login { authcid: "a,b=c", ..login };
        assert!(oauth_bearer(&odd).starts_with(b"n,a=a=2Cb=3Dc,\x01host="));
    }

    /// Google, "OAuth 2.0 Mechanism", initial client response.
    #[test]
    fn the_message_of_googles_description() {
        let login = Login {
            authcid: "someuser@example.com",
            secret: "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg",
            host: "",
            port: 1,
        };
        let expected =
            b"user=someuser@example.com\x01auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg\x01\x01";
        assert_eq!(*xoauth2(&login), expected.to_vec());
    }
}
