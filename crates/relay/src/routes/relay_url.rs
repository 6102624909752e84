//! Where mail is relayed to: `smtp://`, `smtp+starttls://` and `smtps://` URLs.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use url::{ParseError, Url};
use zeroize::Zeroizing;

use super::next_hop::{Credentials, NextHop, Password, Security};

/// Reads a URL such as `smtps://user:password@smtp.example.org:465`.
///
/// What is no letter, no digit and none of `-._~` in the user and in the password is percent-encoded (RFC 3986, section
/// 2.1). A password may also be the first line of a file, `?password-file=PATH`, which is read here, or in an environment
/// variable, `?password-env=NAME`: a command line is shown to every user of the machine.
impl FromStr for NextHop {
    type Err = RelayUrlError;

    fn from_str(text: &str) -> Result<Self, RelayUrlError> {
        // The parser of URLs would drop some of these.
        if text.contains(|character: char| character.is_whitespace() || character.is_control()) {
            return Err(RelayUrlError::Unescaped);
        }
        let url = Url::parse(text).map_err(RelayUrlError::Syntax)?;
        let security = match url.scheme() {
            "smtp" => Security::Opportunistic,
            "smtp+starttls" => Security::StartTls,
            "smtps" => Security::Implicit,
            _ => return Err(RelayUrlError::Scheme),
        };
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
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
        let mut password = url.password().map(decode).transpose()?;
        for parameter in url.query().unwrap_or_default().split('&').filter(|parameter| !parameter.is_empty()) {
            // Neither name nor value is told: they may be the rest of a password that has a `?`.
            let (name, value) = parameter.split_once('=').ok_or(RelayUrlError::Parameter)?;
            let elsewhere = match name {
                "password-file" => password_in_file(&decode(value)?)?,
                "password-env" => password_in_environment(&decode(value)?)?,
                _ => return Err(RelayUrlError::Parameter),
            };
            if password.replace(elsewhere).is_some() {
                return Err(RelayUrlError::Passwords);
            }
        }
        match (url.username(), password) {
            ("", None) => Ok(None),
            (_, None) => Err(RelayUrlError::NoPassword),
            ("", Some(_)) => Err(RelayUrlError::NoUser),
            (authcid, Some(password)) => {
                Ok(Some(Self { authcid: decode(authcid)?.to_string(), password: Password::from(password) }))
            }
        }
    }
}

/// Percent-decodes one half of the user information, or a parameter. NUL separates the parts of a PLAIN message and
/// cannot be in one (RFC 4616).
fn decode(text: &str) -> Result<Zeroizing<String>, RelayUrlError> {
    let digits = |escaped: &str| escaped.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if !text.split('%').skip(1).all(digits) {
        return Err(RelayUrlError::Unescaped);
    }
    let mut octets = Zeroizing::new(Vec::with_capacity(text.len()));
    octets.extend(percent_decode_str(text));
    text_of(&octets)
}

fn text_of(octets: &[u8]) -> Result<Zeroizing<String>, RelayUrlError> {
    match std::str::from_utf8(octets) {
        Ok(text) if !text.contains('\0') => Ok(Zeroizing::new(text.to_owned())),
        Ok(_) | Err(_) => Err(RelayUrlError::UserInformation),
    }
}

/// The first line of a file.
fn password_in_file(path: &str) -> Result<Zeroizing<String>, RelayUrlError> {
    let explain = |error: io::Error| RelayUrlError::File(path.into(), error.kind());
    // Growing would leave copies behind.
    let mut content = Zeroizing::new(Vec::with_capacity(MAX_FILE_OCTETS));
    let file = File::open(path).map_err(explain)?;
    file.take(MAX_FILE_OCTETS as u64).read_to_end(&mut content).map_err(explain)?;
    let line = content.split(|octet| *octet == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() { Err(RelayUrlError::Empty(path.to_owned())) } else { text_of(line) }
}

fn password_in_environment(name: &str) -> Result<Zeroizing<String>, RelayUrlError> {
    let value = std::env::var(name).map(Zeroizing::new).ok().filter(|value| !value.is_empty());
    value.ok_or_else(|| RelayUrlError::Empty(name.to_owned()))
}

/// Why a text is not the URL of a next hop. Of the text, which may hold a password, it shows nothing but where the
/// password should be.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Something follows the port, and is no parameter.
    Rest,
    /// What follows the `?` is no parameter that there is.
    Parameter,
    /// There is a password without a user.
    NoUser,
    /// There is a user without a password.
    NoPassword,
    /// User or password are not UTF-8 once decoded, or have a NUL.
    UserInformation,
    /// White space, a control character, or a `%` that two hexadecimal digits do not follow.
    Unescaped,
    /// There is more than one password.
    Passwords,
    /// The file of the password cannot be read.
    File(PathBuf, io::ErrorKind),
    /// There is no password in the file or environment variable of that name.
    Empty(String),
}

impl fmt::Display for RelayUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(error) => {
                write!(f, "{error} ({ENCODE}); a relay is smtp://[user:password@]host[:port]")
            }
            Self::Scheme => f.write_str("the scheme must be smtp, smtp+starttls or smtps"),
            Self::Host => write!(f, "the host must be a domain name in ASCII or an IP address ({ENCODE})"),
            Self::Port => write!(f, "the port must not be 0 ({ENCODE})"),
            Self::Rest => write!(f, "nothing but parameters may follow the port ({ENCODE})"),
            Self::Parameter => {
                write!(f, "the parameter is unknown ({ENCODE}); there are ?password-file=FILE and ?password-env=NAME")
            }
            Self::NoUser => f.write_str("there is a password but no user"),
            Self::NoPassword => f.write_str("there is a user but no password"),
            Self::UserInformation => f.write_str("user and password must be UTF-8 without NUL once decoded"),
            Self::Unescaped => write!(f, "there is a blank, or a % without two hexadecimal digits ({ENCODE})"),
            Self::Passwords => f.write_str("there is more than one password"),
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Empty(name) => write!(f, "there is no password in {name}"),
        }
    }
}

impl std::error::Error for RelayUrlError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let Self::Syntax(error) = self { Some(error) } else { None }
    }
}

/// Where a password has one of these, what is in front of it is taken for something else.
const ENCODE: &str = "percent-encode / ? # @ : % and blanks in user and password, as %2F %3F %23 %40 %3A %25 %20";
const MAX_FILE_OCTETS: usize = 64 * 1024;

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
            "smtp://me:hunter2 @mx.example",
            "smtp://me:25?hunter2@mx.example",
            "smtp://me:25?hunter2=3@mx.example",
            "smtp://me:hunter2%@mx.example",
            "smtp://me:hunter2@mx.example?password-file=/none/such",
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
    fn what_may_come_of_a_password_that_is_not_encoded_says_how_to_encode_it() {
        for password in
            ["pa/ss", "25/x", "pa#ss", "12#x", "pa?ss", "12?x", "12?x=y", "0", "100%", "1%zz", "a b", "a\tb", "a b/"]
        {
            // Without more in front of it, 0 is a port.
            let url = if password == "0" {
                "smtp://mx.example:0".to_owned()
            } else {
                format!("smtp://me:{password}@mx.example")
            };
            let error = url.parse::<NextHop>().unwrap_err().to_string();
            assert!(error.contains("percent-encode"), "{password}: {error}");
        }
    }

    #[test]
    fn a_password_can_be_in_a_file_or_in_the_environment() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a pass&word");
        let url = |user: &str, parameter: &str| format!("smtps://{user}mx.example?{parameter}").parse::<NextHop>();
        let in_file = format!("password-file={}", path.display().to_string().replace(' ', "%20").replace('&', "%26"));
        for (content, expected) in
            [("p@ss/ %41?", "p@ss/ %41?"), ("pass\n", "pass"), ("pass\r\nmore\n", "pass"), ("\u{e9} \n", "\u{e9} ")]
        {
            std::fs::write(&path, content).unwrap();
            let credentials = url("me%40x@", &in_file).unwrap().credentials.unwrap();
            assert_eq!((credentials.authcid.as_str(), credentials.password.expose()), ("me@x", expected));
        }
        let empty = || RelayUrlError::Empty(path.display().to_string());
        for (content, error) in [
            (&b""[..], empty()),
            (b"\nx", empty()),
            (b"\xff", RelayUrlError::UserInformation),
            (b"a\0b", RelayUrlError::UserInformation),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(url("me@", &in_file), Err(error));
        }
        std::fs::write(&path, "pass").unwrap();
        let from_environment = url("me@", "password-env=PATH").unwrap().credentials.unwrap();
        assert_eq!(from_environment.password.expose(), std::env::var("PATH").unwrap());
        for (user, parameter, error) in [
            ("", in_file.as_str(), RelayUrlError::NoUser),
            ("me:x@", &in_file, RelayUrlError::Passwords),
            ("me@", &format!("{in_file}&{in_file}"), RelayUrlError::Passwords),
            ("me@", "password-env=NONE_SUCH_X", RelayUrlError::Empty("NONE_SUCH_X".to_owned())),
            ("me@", "password-env=", RelayUrlError::Empty(String::new())),
            ("me@", "password-file=/none/such", RelayUrlError::File("/none/such".into(), io::ErrorKind::NotFound)),
            ("me@", "password=x", RelayUrlError::Parameter),
            ("me@", "", RelayUrlError::NoPassword),
        ] {
            assert_eq!(url(user, parameter), Err(error), "{user}{parameter}");
        }
        let error = url("me@", "password-file=/none/such").unwrap_err().to_string();
        assert_eq!(error, "/none/such: entity not found");
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
