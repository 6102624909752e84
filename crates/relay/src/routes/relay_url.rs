//! Where mail is relayed to: `smtp://`, `smtp+starttls://` and `smtps://` URLs.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use url::{ParseError, Url};
use zeroize::Zeroizing;

use super::next_hop::{Credentials, NextHop, Password, Security};

impl FromStr for NextHop {
    type Err = RelayUrlError;

    fn from_str(text: &str) -> Result<Self, RelayUrlError> {
        let url = Url::parse(text).map_err(RelayUrlError::Syntax)?;
        let security = match url.scheme() {
            "smtp" => Security::Opportunistic,
            "smtp+starttls" => Security::StartTls,
            "smtps" => Security::Implicit,
            _ => return Err(RelayUrlError::Scheme),
        };
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(RelayUrlError::Rest);
        }
        let host = url.host_str().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_address = host.parse::<IpAddr>().is_ok();
        let is_name = |host: &str| host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
        if host.is_empty() || !(is_address || is_name(host)) {
            return Err(RelayUrlError::Host);
        }
        let port = match url.port() {
            Some(0) => return Err(RelayUrlError::Port),
            Some(port) => port,
            None => security.default_port(),
        };
        Ok(Self { security, host: host.to_owned(), port, credentials: Credentials::of(&url)? })
    }
}

impl Credentials {
    fn of(url: &Url) -> Result<Option<Self>, RelayUrlError> {
        match (url.username(), url.password()) {
            ("", None) => Ok(None),
            (_, None) => Err(RelayUrlError::NoPassword),
            ("", Some(_)) => Err(RelayUrlError::NoUser),
            (authcid, Some(password)) => {
                let authcid = decode(authcid)?;
                let password = decode(password)?;
                Ok(Some(Self { authcid: authcid.to_string(), password: Password::from(password) }))
            }
        }
    }
}

/// Percent-decodes one half of the user information. NUL separates the parts of a PLAIN message and cannot be
/// in one (RFC 4616).
fn decode(text: &str) -> Result<Zeroizing<String>, RelayUrlError> {
    let octets = Zeroizing::new(percent_decode_str(text).collect::<Vec<u8>>());
    match std::str::from_utf8(&octets) {
        Ok(text) if !text.contains('\0') => Ok(Zeroizing::new(text.to_owned())),
        Ok(_) | Err(_) => Err(RelayUrlError::UserInformation),
    }
}

/// Why a text is not the URL of a next hop. Shows nothing of the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelayUrlError {
    /// It is no URL.
    Syntax(ParseError),
    /// The scheme is none of the three.
    Scheme,
    /// The host is neither a domain name in ASCII nor an IP address.
    Host,
    /// The port is 0.
    Port,
    /// Something follows the port.
    Rest,
    /// There is a password without a user.
    NoUser,
    /// There is a user without a password.
    NoPassword,
    /// User or password are not UTF-8 once decoded, or have a NUL.
    UserInformation,
}

impl fmt::Display for RelayUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(error) => write!(f, "not a URL such as smtp://[user:password@]host[:port]: {error}"),
            Self::Scheme => f.write_str("the scheme must be smtp, smtp+starttls or smtps"),
            Self::Host => f.write_str("the host must be a domain name in ASCII or an IP address"),
            Self::Port => f.write_str("the port must not be 0"),
            Self::Rest => f.write_str(
                "nothing may follow the port (write / ? # @ : % in a user or password as %2F %3F %23 %40 %3A %25)",
            ),
            Self::NoUser => f.write_str("there is a password but no user"),
            Self::NoPassword => f.write_str("there is a user but no password"),
            Self::UserInformation => f.write_str("user and password must be UTF-8 without NUL once decoded"),
        }
    }
}

impl std::error::Error for RelayUrlError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let Self::Syntax(error) = self { Some(error) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> NextHop {
        text.parse().unwrap()
    }

    #[test]
    fn ports_follow_the_scheme() {
        for (text, security, port) in [
            ("smtp://mx.example", Security::Opportunistic, 25),
            ("smtp+starttls://mx.example", Security::StartTls, 587),
            ("smtps://mx.example/", Security::Implicit, 465),
            ("smtps://mx.example:2465", Security::Implicit, 2465),
        ] {
            let url = parse(text);
            assert_eq!((url.security, url.port, url.host.as_str()), (security, port, "mx.example"), "{text}");
            assert_eq!(url.credentials, None);
        }
        assert_eq!(parse("smtp://[::1]:2525").host, "::1");
        assert_eq!(parse("smtp://[::1]:2525").to_string(), "smtp://[::1]:2525");
    }

    #[test]
    fn user_information_is_percent_decoded() {
        let credentials = parse("smtps://me%40example.org:p%40ss%3A%2F%25%C3%A9@mx.example").credentials.unwrap();
        assert_eq!(credentials.authcid, "me@example.org");
        assert_eq!(credentials.password.expose(), "p@ss:/%é");
    }

    #[test]
    fn passwords_are_never_shown() {
        let url = parse("smtps://me:hunter2@mx.example");
        assert_eq!(url.to_string(), "smtps://mx.example:465");
        assert!(!format!("{url:?} {url:#?} {url}").contains("hunter2"));
        for wrong in [
            "http://me:hunter2@mx.example",
            "smtp://me:hunter2/3@mx.example",
            "smtp://me:25/hunter2@mx.example",
            "smtp://me:hunter2@mx.example:notaport",
            "smtp://me:hunter2%00@mx.example",
            "smtp://me:hunter2@",
            "smtp://:hunter2@mx.example",
            "smtp://me:hunter2@mx.example:25/path",
            "smtp://me:hunter2@mx.example:0",
            "me:hunter2@mx.example",
        ] {
            let error = wrong.parse::<NextHop>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{wrong}");
        }
    }

    #[test]
    fn passwords_need_tls_except_on_loopback() {
        for (text, allows_plaintext, requires_valid_certificate) in [
            ("smtp://mx.example", true, false),
            ("smtp://a:b@mx.example", false, true),
            ("smtp://a:b@localhost", true, false),
            ("smtp://a:b@127.0.0.1", true, false),
            ("smtp://a:b@[::1]", true, false),
            ("smtp+starttls://localhost", false, true),
            ("smtps://a:b@mx.example", false, true),
        ] {
            let url = parse(text);
            assert_eq!(url.allows_plaintext(), allows_plaintext, "{text}");
            assert_eq!(url.requires_valid_certificate(), requires_valid_certificate, "{text}");
        }
    }

    #[test]
    fn a_user_without_a_password_is_refused() {
        assert_eq!("smtp://me@mx.example".parse::<NextHop>(), Err(RelayUrlError::NoPassword));
        assert_eq!("smtp://m%C3%BC.example".parse::<NextHop>(), Err(RelayUrlError::Host));
    }
}
