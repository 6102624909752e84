//! Where mail is relayed to: `smtp://`, `smtp+starttls://` and `smtps://` URLs.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use url::{ParseError, Url};
use zeroize::Zeroizing;

/// A next hop as the command line names it.
///
/// Neither `Debug` nor `Display` shows the password, and `Display` leaves the authcid out too, so that the
/// value can go to logs and reports as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RelayUrl {
    pub(crate) security: Security,
    /// A domain name in ASCII, or an IP address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) credentials: Option<Credentials>,
}

/// How the connection to a next hop is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    /// `smtp://`: STARTTLS where it is offered (RFC 7435). A password never goes over plain text to a host
    /// other than this one.
    Opportunistic,
    /// `smtp+starttls://`: STARTTLS, with a valid certificate, or no delivery.
    StartTls,
    /// `smtps://`: TLS from the first octet, with a valid certificate (RFC 8314).
    Implicit,
}

/// What this program logs in with at a next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) authcid: String,
    pub(crate) password: Password,
}

/// A password that `Debug` does not show and that is wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Password(Zeroizing<String>);

impl Password {
    /// Shows the password to the code that must send it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl RelayUrl {
    /// Whether the host is this machine, by address or by the name that RFC 6761 (section 6.3) reserves.
    pub(crate) fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }

    /// Whether the certificate must be valid for the host.
    ///
    /// Where plain text would be good enough, so is a certificate that nobody vouches for.
    pub(crate) fn requires_valid_certificate(&self) -> bool {
        self.security != Security::Opportunistic || (self.credentials.is_some() && !self.is_loopback())
    }

    /// Whether a session without TLS may go on to log in and to send.
    pub(crate) fn allows_plaintext(&self) -> bool {
        self.security == Security::Opportunistic && (self.credentials.is_none() || self.is_loopback())
    }
}

impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = &self.host;
        let port = self.port;
        if host.contains(':') {
            write!(f, "{}://[{host}]:{port}", self.security.scheme())
        } else {
            write!(f, "{}://{host}:{port}", self.security.scheme())
        }
    }
}

impl FromStr for RelayUrl {
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

impl Security {
    fn scheme(self) -> &'static str {
        match self {
            Self::Opportunistic => "smtp",
            Self::StartTls => "smtp+starttls",
            Self::Implicit => "smtps",
        }
    }

    /// 25 relays between servers, 587 and 465 take submissions (RFC 6409, RFC 8314).
    fn default_port(self) -> u16 {
        match self {
            Self::Opportunistic => 25,
            Self::StartTls => 587,
            Self::Implicit => 465,
        }
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
                Ok(Some(Self { authcid: authcid.to_string(), password: Password(password) }))
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
pub(crate) enum RelayUrlError {
    Syntax(ParseError),
    Scheme,
    Host,
    Port,
    Rest,
    NoUser,
    NoPassword,
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

    fn parse(text: &str) -> RelayUrl {
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
            let error = wrong.parse::<RelayUrl>().unwrap_err();
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
        assert_eq!("smtp://me@mx.example".parse::<RelayUrl>(), Err(RelayUrlError::NoPassword));
        assert_eq!("smtp://m%C3%BC.example".parse::<RelayUrl>(), Err(RelayUrlError::Host));
    }
}
