//! Where mail is relayed to, as a URL.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use url::{ParseError, Url};
use zeroize::Zeroizing;

use super::next_hop::{NextHop, Protocol, Security};
use crate::credentials::{Credentials, Password, SecretError, SecretFile, SecretSource, TokenCommand, text_of};
use crate::sasl::{InvalidSaslMechanism, SaslMechanism};

/// Reads a URL such as `smtps://user:password@smtp.example.org:465` or `lmtp+unix:/run/dovecot/lmtp`.
///
/// | scheme | what is spoken | port |
/// |---|---|---|
/// | `smtp` | SMTP, with STARTTLS where it is offered | 25 |
/// | `smtp+starttls` | SMTP, with STARTTLS and a valid certificate | 587 |
/// | `smtps` | SMTP over TLS with a valid certificate | 465 |
/// | `lmtp` | LMTP, with STARTTLS where it is offered | 24 |
/// | `lmtp+starttls` | LMTP, with STARTTLS and a valid certificate | 24 |
/// | `lmtp+unix` | LMTP at the Unix domain socket that the path names | |
///
/// What is no letter, no digit and none of `-._~` in the user and in the password is percent-encoded (RFC 3986, section
/// 2.1). A password or a token may also come from elsewhere, as a command line is shown to every user of the machine:
///
/// * `?password-file=PATH`, `?token-file=PATH`: the first line of a file, which is read here, and again for each session;
/// * `?password-env=NAME`: an environment variable, which is read here;
/// * `?token-command=COMMAND`: the first line that a command prints ([`TokenCommand`]).
///
/// `?mechanism=NAME` has that SASL mechanism used, whatever is offered ([`Credentials::mechanism`]).
impl FromStr for NextHop {
    type Err = RelayUrlError;

    fn from_str(text: &str) -> Result<Self, RelayUrlError> {
        // The parser of URLs would drop some of these.
        if text.contains(|character: char| character.is_whitespace() || character.is_control()) {
            return Err(RelayUrlError::Unescaped);
        }
        let url = Url::parse(text).map_err(RelayUrlError::Syntax)?;
        let (protocol, security, default_port) = match url.scheme() {
            "smtp" => (Protocol::Smtp, Security::Opportunistic, 25),
            // These take submissions (RFC 6409, RFC 8314).
            "smtp+starttls" => (Protocol::Smtp, Security::StartTls, 587),
            "smtps" => (Protocol::Smtp, Security::Implicit, 465),
            // RFC 2033 has no port, and forbids 25; 24 is for "any private mail system".
            "lmtp" => (Protocol::Lmtp, Security::Opportunistic, 24),
            "lmtp+starttls" => (Protocol::Lmtp, Security::StartTls, 24),
            "lmtp+unix" => return at_socket(&url),
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
            None => default_port,
        };
        let credentials = credentials_of(&url)?;
        Ok(Self { protocol, security, host: host.to_owned(), port, socket: None, credentials })
    }
}

/// LMTP at a Unix domain socket, which has permissions in place of logins.
fn at_socket(url: &Url) -> Result<NextHop, RelayUrlError> {
    let path = decode(url.path())?;
    let is_more =
        url.query().is_some() || url.fragment().is_some() || url.host_str().is_some_and(|host| !host.is_empty());
    if is_more || !path.starts_with('/') || path.ends_with('/') {
        return Err(RelayUrlError::Socket);
    }
    Ok(NextHop {
        protocol: Protocol::Lmtp,
        security: Security::Opportunistic,
        host: "localhost".to_owned(),
        port: 0,
        socket: Some(PathBuf::from(path.as_str())),
        credentials: None,
    })
}

fn credentials_of(url: &Url) -> Result<Option<Credentials>, RelayUrlError> {
    let password = url.password().map(decode).transpose()?;
    let mut secret = password.map(|password| SecretSource::Password(Password::from(password)));
    let mut mechanism = None;
    for parameter in url.query().unwrap_or_default().split('&').filter(|parameter| !parameter.is_empty()) {
        // Neither name nor value is told: they may be the rest of a password that has a `?`.
        let (name, value) = parameter.split_once('=').ok_or(RelayUrlError::Parameter)?;
        let source = match name {
            "password-file" => from_file(&decode(value)?, SecretSource::PasswordFile, SecretSource::Password)?,
            "password-env" => password_in_environment(&decode(value)?)?,
            "token-command" => {
                let command = decode(value)?;
                if command.trim().is_empty() {
                    return Err(RelayUrlError::EmptyCommand);
                }
                SecretSource::TokenCommand(TokenCommand::new(&command))
            }
            "token-file" => from_file(&decode(value)?, SecretSource::TokenFile, SecretSource::Token)?,
            "mechanism" if mechanism.is_none() => {
                mechanism = Some(decode(value)?.parse::<SaslMechanism>().map_err(RelayUrlError::Mechanism)?);
                continue;
            }
            _ => return Err(RelayUrlError::Parameter),
        };
        if secret.replace(source).is_some() {
            return Err(RelayUrlError::Passwords);
        }
    }
    let credentials = match (url.username(), secret) {
        ("", None) if mechanism.is_none() => return Ok(None),
        ("", _) => return Err(RelayUrlError::NoUser),
        (_, None) => return Err(RelayUrlError::NoPassword),
        (authcid, Some(secret)) => Credentials { authcid: decode(authcid)?.to_string(), secret, mechanism },
    };
    if mechanism.is_some_and(|mechanism| !credentials.kind().is_for(mechanism)) {
        return Err(RelayUrlError::TokenMechanism);
    }
    Ok(Some(credentials))
}

/// Percent-decodes one half of the user information, or a parameter.
fn decode(text: &str) -> Result<Zeroizing<String>, RelayUrlError> {
    let digits = |escaped: &str| escaped.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if !text.split('%').skip(1).all(digits) {
        return Err(RelayUrlError::Unescaped);
    }
    let mut octets = Zeroizing::new(Vec::with_capacity(text.len()));
    octets.extend(percent_decode_str(text));
    text_of(&octets).map_err(|_| RelayUrlError::UserInformation)
}

fn from_file(
    path: &str,
    regular: fn(PathBuf) -> SecretSource,
    once: fn(Password) -> SecretSource,
) -> Result<SecretSource, RelayUrlError> {
    match SecretFile::open(Path::new(path)).map_err(RelayUrlError::Secret)? {
        SecretFile::Regular(path) => Ok(regular(path)),
        SecretFile::Once(line) => Ok(once(Password::from(line))),
    }
}

fn password_in_environment(name: &str) -> Result<SecretSource, RelayUrlError> {
    let value = std::env::var(name).map(Zeroizing::new).ok().filter(|value| !value.is_empty());
    let value = value.ok_or_else(|| RelayUrlError::Secret(SecretError::Empty(name.to_owned())))?;
    Ok(SecretSource::Password(Password::from(value)))
}

/// Why a text is not the URL of a next hop. Of the text, which may hold a password, it shows nothing but where the
/// password should be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelayUrlError {
    /// It is no URL.
    Syntax(ParseError),
    /// The scheme is none that there is.
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
    /// There is more than one password or token.
    Passwords,
    /// There is no password or token where it should be.
    Secret(SecretError),
    /// The command for tokens is empty.
    EmptyCommand,
    /// The mechanism is none that there is.
    Mechanism(InvalidSaslMechanism),
    /// The mechanism cannot be used with a token.
    TokenMechanism,
    /// Something else than the absolute path of a socket follows `lmtp+unix:`.
    Socket,
}

impl fmt::Display for RelayUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(error) => {
                write!(f, "{error} ({ENCODE}); a relay is smtp://[user:password@]host[:port]")
            }
            Self::Scheme => {
                f.write_str("the scheme must be smtp, smtp+starttls, smtps, lmtp, lmtp+starttls or lmtp+unix")
            }
            Self::Host => write!(f, "the host must be a domain name in ASCII or an IP address ({ENCODE})"),
            Self::Port => write!(f, "the port must not be 0 ({ENCODE})"),
            Self::Rest => write!(f, "nothing but parameters may follow the port ({ENCODE})"),
            Self::Parameter => {
                write!(
                    f,
                    "the parameter is unknown, or there twice ({ENCODE}); there are ?password-file=FILE, \
                     ?password-env=NAME, ?token-file=FILE, ?token-command=COMMAND and ?mechanism=NAME"
                )
            }
            Self::NoUser => f.write_str("there is a password but no user"),
            Self::NoPassword => f.write_str(
                "there is a user but no password: smtp://user:password@host, or ?password-file=FILE behind the host",
            ),
            Self::UserInformation => {
                write!(f, "user, password and parameters must be UTF-8 without NUL once decoded ({ENCODE})")
            }
            Self::Unescaped => write!(f, "there is a blank, or a % without two hexadecimal digits ({ENCODE})"),
            Self::Passwords => f.write_str("there is more than one password or token"),
            Self::Secret(error) => error.fmt(f),
            Self::EmptyCommand => f.write_str("there is no command behind ?token-command="),
            Self::Mechanism(error) => error.fmt(f),
            Self::TokenMechanism => f.write_str("a token can be used with OAUTHBEARER and XOAUTH2 only"),
            Self::Socket => {
                f.write_str("lmtp+unix: must be followed by the absolute path of a socket, and nothing else")
            }
        }
    }
}

impl std::error::Error for RelayUrlError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Syntax(error) => Some(error),
            Self::Secret(error) => Some(error),
            Self::Mechanism(error) => Some(error),
            Self::Scheme
            | Self::Host
            | Self::Port
            | Self::Rest
            | Self::Parameter
            | Self::NoUser
            | Self::NoPassword
            | Self::UserInformation
            | Self::Unescaped
            | Self::Passwords
            | Self::EmptyCommand
            | Self::TokenMechanism
            | Self::Socket => None,
        }
    }
}

/// Where a password has one of these, what is in front of it is taken for something else.
const ENCODE: &str = "percent-encode / ? # @ : % and blanks in user and password, as %2F %3F %23 %40 %3A %25 %20";

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    /// The password, if it is one that is kept.
    fn password(credentials: &Credentials) -> &str {
        let SecretSource::Password(password) = &credentials.secret else { panic!("{credentials:?}") };
        password.expose()
    }

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
        assert_eq!(password(&credentials), "p@ss:/%é");
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
        for password in [
            "pa/ss", "25/x", "pa#ss", "12#x", "pa?ss", "12?x", "12?x=y", "0", "100%", "1%zz", "100%ff", "a%00b", "a b",
            "a\tb", "a b/",
        ] {
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
            assert_eq!(
                (credentials.authcid.as_str(), &credentials.secret),
                ("me@x", &SecretSource::PasswordFile(path.clone()))
            );
            assert_eq!(crate::credentials::read_first_line(&path).unwrap().as_str(), expected);
        }
        let empty = || RelayUrlError::Secret(SecretError::Empty(path.display().to_string()));
        for (content, error) in [
            (&b""[..], empty()),
            (b"\nx", empty()),
            (b"\xff", RelayUrlError::Secret(SecretError::NotText)),
            (b"a\0b", RelayUrlError::Secret(SecretError::NotText)),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(url("me@", &in_file), Err(error));
        }
        let absent = |name: &str| RelayUrlError::Secret(SecretError::Empty(name.to_owned()));
        std::fs::write(&path, "pass").unwrap();
        let from_environment = url("me@", "password-env=PATH").unwrap().credentials.unwrap();
        assert_eq!(password(&from_environment), std::env::var("PATH").unwrap());
        for (user, parameter, error) in [
            ("", in_file.as_str(), RelayUrlError::NoUser),
            ("me:x@", &in_file, RelayUrlError::Passwords),
            ("me@", &format!("{in_file}&{in_file}"), RelayUrlError::Passwords),
            ("me@", "password-env=NONE_SUCH_X", absent("NONE_SUCH_X")),
            ("me@", "password-env=", absent("")),
            (
                "me@",
                "password-file=/none/such",
                RelayUrlError::Secret(SecretError::File("/none/such".into(), ErrorKind::NotFound)),
            ),
            ("me@", "password=x", RelayUrlError::Parameter),
            ("me@", "", RelayUrlError::NoPassword),
        ] {
            assert_eq!(url(user, parameter), Err(error), "{user}{parameter}");
        }
        let error = url("me@", "password-file=/none/such").unwrap_err().to_string();
        assert_eq!(error, "/none/such: entity not found");
    }

    #[test]
    fn a_token_comes_from_a_file_or_a_command() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "t0ken\n").unwrap();
        let credentials = |text: &str| parse(text).credentials.unwrap();
        let in_file = credentials(&format!("smtps://me@mx.example?token-file={}", path.display()));
        assert_eq!((in_file.secret, in_file.mechanism), (SecretSource::TokenFile(path), None));
        let printed = credentials("smtps://me@mx.example?mechanism=xoauth2&token-command=oama%20access%20me%26you");
        assert_eq!(printed.secret, SecretSource::TokenCommand(TokenCommand::new("oama access me&you")));
        assert_eq!(printed.mechanism, Some(SaslMechanism::XOAuth2));
        let forced = credentials("smtps://me:pass@mx.example?mechanism=SCRAM-SHA-256-PLUS");
        assert_eq!(forced.mechanism, Some(SaslMechanism::ScramSha256Plus));
        for (text, error) in [
            (
                "smtps://me@mx.example?token-file=/none/such",
                RelayUrlError::Secret(SecretError::File("/none/such".into(), ErrorKind::NotFound)),
            ),
            ("smtps://me@mx.example?token-command=%20", RelayUrlError::EmptyCommand),
            ("smtps://me:x@mx.example?token-command=x", RelayUrlError::Passwords),
            ("smtps://mx.example?token-command=x", RelayUrlError::NoUser),
            ("smtps://mx.example?mechanism=PLAIN", RelayUrlError::NoUser),
            ("smtps://me@mx.example?mechanism=PLAIN", RelayUrlError::NoPassword),
            ("smtps://me:x@mx.example?mechanism=NTLM", RelayUrlError::Mechanism(InvalidSaslMechanism)),
            ("smtps://me:x@mx.example?mechanism=PLAIN&mechanism=LOGIN", RelayUrlError::Parameter),
            ("smtps://me@mx.example?token-command=x&mechanism=PLAIN", RelayUrlError::TokenMechanism),
        ] {
            assert_eq!(text.parse::<NextHop>(), Err(error), "{text}");
        }
    }

    #[test]
    fn lmtp_is_spoken_over_tcp_and_at_sockets() {
        let hop = parse("lmtp://store.example");
        assert_eq!((hop.protocol, hop.security, hop.port), (Protocol::Lmtp, Security::Opportunistic, 24));
        let hop = parse("lmtp+starttls://me:pass@store.example:2424");
        assert_eq!((hop.protocol, hop.security, hop.port), (Protocol::Lmtp, Security::StartTls, 2424));
        for text in ["lmtp+unix:/run/dove%20cot/lmtp", "lmtp+unix:///run/dove%20cot/lmtp"] {
            let hop = parse(text);
            assert_eq!((hop.protocol, hop.socket.as_deref()), (Protocol::Lmtp, Some(Path::new("/run/dove cot/lmtp"))));
            assert!(hop.allows_plaintext() && !hop.requires_valid_certificate());
            assert_eq!(hop.to_string(), "lmtp+unix:/run/dove cot/lmtp");
        }
        for text in [
            "lmtp+unix:run/lmtp",
            "lmtp+unix:",
            "lmtp+unix:/",
            "lmtp+unix:/run/x?password-file=y",
            "lmtp+unix://host/run/x",
            "lmtp+unix:/x#y",
        ] {
            assert_eq!(text.parse::<NextHop>(), Err(RelayUrlError::Socket), "{text}");
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
