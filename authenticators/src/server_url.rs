//! URLs of servers, and the passwords in them.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use sansmtp::Secret;
use zeroize::Zeroizing;

use crate::url_text::{decoded, is_escaped, password_in_environment, password_in_file};

/// `scheme://user:password@hosts/path?name=value&…`, with everything that is secret kept apart.
///
/// The password may also come by one of the parameters `password-file`, the name of a file whose first line it is,
/// `password-env`, the name of an environment variable, and `password`.
pub(crate) struct ServerUrl {
    pub(crate) scheme: String,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    /// As written: names or addresses, with ports or not; may be empty.
    pub(crate) hosts: String,
    /// As written, without the first slash; may be empty.
    pub(crate) path: String,
    /// Values are as written.
    parameters: Vec<(String, String)>,
}

/// Why a server's URL cannot be used. Neither its text nor what it prints has anything of the URL in it but names of
/// schemes, parameters, files and environment variables.
#[derive(Debug)]
#[non_exhaustive]
pub enum InvalidUrl {
    /// It is not of the form `scheme://user:password@host:port/path?name=value`.
    Form,
    /// Not one of these schemes.
    Scheme(&'static str),
    /// A `%` is not followed by two hexadecimal digits, or what is written so is no UTF-8.
    Escape,
    /// A character that has to be written as `%` and two hexadecimal digits: `/`, `?` or `@` in a password, and `#`
    /// anywhere.
    Unescaped,
    /// There is no host, or none that can be one.
    Host,
    /// The port is not a number from 1 to 65535.
    Port,
    /// The path does not name a database.
    Database,
    /// There is no such parameter, or it is there twice.
    Parameter(String),
    /// A parameter's value is not what it should be.
    Value {
        /// Which parameter.
        name: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// There is more than one password.
    Passwords,
    /// There is no password in the file or environment variable of that name, or it is no text.
    NoPassword(String),
    /// A file cannot be read.
    File(PathBuf, io::Error),
}

impl ServerUrl {
    /// Reads a URL, and the file that has its password.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidUrl::Form)?;
        if !scheme.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.')) {
            return Err(InvalidUrl::Form);
        }
        let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = location.split_once('/').unwrap_or((location, ""));
        // Were there one in the path, the authority might end in the middle of a password.
        if path.contains('@') || query.contains('@') || rest.contains('#') {
            return Err(InvalidUrl::Unescaped);
        }
        let (login, hosts) =
            authority.rsplit_once('@').map_or((None, authority), |(login, hosts)| (Some(login), hosts));
        let (user, password) = login.map_or((None, None), |login| match login.split_once(':') {
            Some((user, password)) => (Some(user), Some(password)),
            None => (Some(login), None),
        });
        let mut url = Self {
            scheme: scheme.to_ascii_lowercase(),
            user: user.filter(|user| !user.is_empty()).map(decode).transpose()?,
            password: password.filter(|password| !password.is_empty()).map(decode_secret).transpose()?,
            hosts: hosts.to_owned(),
            path: path.to_owned(),
            parameters: Vec::new(),
        };
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').ok_or(InvalidUrl::Form)?;
            match name {
                "password" => url.set_password(decode_secret(value)?)?,
                "password-file" => {
                    let path = PathBuf::from(decode(value)?);
                    match password_in_file(&path) {
                        Ok(Some(password)) => url.set_password(password)?,
                        Ok(None) => return Err(InvalidUrl::NoPassword(path.display().to_string())),
                        Err(error) => return Err(InvalidUrl::File(path, error)),
                    }
                }
                "password-env" => {
                    let name = decode(value)?;
                    url.set_password(password_in_environment(&name).ok_or(InvalidUrl::NoPassword(name))?)?;
                }
                name if url.parameters.iter().any(|(other, _)| other == name) => {
                    return Err(InvalidUrl::Parameter(name.to_owned()));
                }
                name => url.parameters.push((name.to_owned(), value.to_owned())),
            }
        }
        Ok(url)
    }

    fn set_password(&mut self, password: Secret) -> Result<(), InvalidUrl> {
        if self.password.is_some() {
            return Err(InvalidUrl::Passwords);
        }
        self.password = Some(password);
        Ok(())
    }

    /// Takes a parameter out of the URL.
    pub(crate) fn take(&mut self, name: &str) -> Result<Option<String>, InvalidUrl> {
        let place = self.parameters.iter().position(|(other, _)| other == name);
        place.map(|place| decode(&self.parameters.swap_remove(place).1)).transpose()
    }

    /// Takes a parameter that names a file, and reads that.
    pub(crate) fn take_file(&mut self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, InvalidUrl> {
        let Some(path) = self.take(name)?.map(PathBuf::from) else { return Ok(None) };
        fs::read(&path).map(Zeroizing::new).map(Some).map_err(|error| InvalidUrl::File(path, error))
    }

    /// What nobody has taken is unknown.
    pub(crate) fn refuse_others(&self) -> Result<(), InvalidUrl> {
        self.parameters.first().map_or(Ok(()), |(name, _)| Err(InvalidUrl::Parameter(name.clone())))
    }

    /// The path, without the first slash.
    pub(crate) fn decoded_path(&self) -> Result<String, InvalidUrl> {
        decode(&self.path)
    }

    /// All hosts, with the ports that there are.
    pub(crate) fn hosts_and_ports(&self) -> Result<Vec<(String, Option<u16>)>, InvalidUrl> {
        if self.hosts.is_empty() { Ok(Vec::new()) } else { self.hosts.split(',').map(host_and_port).collect() }
    }
}

/// Without the password, and without parameters, whose names alone may be told.
impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerUrl").field("scheme", &self.scheme).field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl fmt::Display for InvalidUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("the URL is not of the form scheme://user:password@host:port/path?name=value"),
            Self::Scheme(expected) => write!(f, "the URL's scheme is none of {expected}"),
            Self::Escape => f.write_str("the URL has a % that is not followed by two hexadecimal digits, or no UTF-8"),
            Self::Unescaped => {
                f.write_str("the URL has a #, or a /, ? or @ in a user's name or password, that is not %-escaped")
            }
            Self::Host => f.write_str("the URL has no host, or none that can be one"),
            Self::Port => f.write_str("the URL's port is not a number from 1 to 65535"),
            Self::Database => f.write_str("the URL's path is not a database"),
            Self::Parameter(name) => write!(f, "the URL's parameter {name:?} is unknown, or there twice"),
            Self::Value { name, expected } => write!(f, "the URL's parameter {name:?} is not {expected}"),
            Self::Passwords => f.write_str("the URL has more than one password"),
            Self::NoPassword(name) => write!(f, "there is no password in {name:?}"),
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for InvalidUrl {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File(_, error) => Some(error),
            Self::Form
            | Self::Scheme(_)
            | Self::Escape
            | Self::Unescaped
            | Self::Host
            | Self::Port
            | Self::Database
            | Self::Parameter(_)
            | Self::Value { .. }
            | Self::Passwords
            | Self::NoPassword(_) => None,
        }
    }
}

fn host_and_port(text: &str) -> Result<(String, Option<u16>), InvalidUrl> {
    // An IPv6 address has colons of its own, and brackets around it.
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or(InvalidUrl::Host)?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let host = decode(host)?;
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
        return Err(InvalidUrl::Host);
    }
    let port = match port.strip_prefix(':') {
        Some(port) => Some(port.parse().ok().filter(|&port| port > 0).ok_or(InvalidUrl::Port)?),
        None if port.is_empty() => None,
        None => return Err(InvalidUrl::Host),
    };
    Ok((host, port))
}

fn decode_secret(text: &str) -> Result<Secret, InvalidUrl> {
    if !is_escaped(text) {
        return Err(InvalidUrl::Escape);
    }
    let mut octets = Vec::with_capacity(text.len());
    octets.extend(percent_decode_str(text));
    Ok(Secret::new(octets))
}

fn decode(text: &str) -> Result<String, InvalidUrl> {
    decoded(text).ok_or(InvalidUrl::Escape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(url: &str) -> Result<Option<Vec<u8>>, InvalidUrl> {
        Ok(ServerUrl::parse(url)?.password.map(|password| password.expose_secret().to_vec()))
    }

    #[test]
    fn the_parts_come_apart() {
        let mut url = ServerUrl::parse("postgres://ma%40il:p%2fw%3A@db.example.org:5433/ma%20il?a=1%262&b=").unwrap();
        assert_eq!((url.scheme.as_str(), url.user.as_deref()), ("postgres", Some("ma@il")));
        assert_eq!(url.password.as_ref().unwrap().expose_secret(), b"p/w:");
        assert_eq!((url.hosts.as_str(), url.path.as_str()), ("db.example.org:5433", "ma%20il"));
        assert_eq!(url.hosts_and_ports().unwrap(), [("db.example.org".to_owned(), Some(5433))]);
        assert_eq!(url.take("a").unwrap().as_deref(), Some("1&2"));
        assert_eq!(url.take("a").unwrap(), None);
        assert!(matches!(url.refuse_others(), Err(InvalidUrl::Parameter(name)) if name == "b"));
        assert_eq!(url.take("b").unwrap().as_deref(), Some(""));
        url.refuse_others().unwrap();
    }

    #[test]
    fn hosts_are_names_and_addresses() {
        for (hosts, expected) in [
            ("localhost", ("localhost", None)),
            ("192.0.2.1:6380", ("192.0.2.1", Some(6380))),
            ("[2001:db8::1]:6380", ("2001:db8::1", Some(6380))),
            ("[2001:db8::1]", ("2001:db8::1", None)),
        ] {
            let url = ServerUrl::parse(&format!("redis://{hosts}/0")).unwrap();
            assert_eq!(url.hosts_and_ports().unwrap(), [(expected.0.to_owned(), expected.1)]);
        }
        let several = ServerUrl::parse("postgres://a:1,[::1]/x").unwrap().hosts_and_ports().unwrap();
        assert_eq!(several, [("a".to_owned(), Some(1)), ("::1".to_owned(), None)]);
        assert_eq!(ServerUrl::parse("postgres:///x").unwrap().hosts_and_ports().unwrap(), []);
        for hosts in [":6379", "a:b", "a:0", "a:65536", "a:1:2", "[::1", "[::1]1", "a b", "a,", "%2Frun"] {
            let url = ServerUrl::parse(&format!("redis://{hosts}/0")).unwrap();
            assert!(url.hosts_and_ports().is_err(), "{hosts}");
        }
    }

    #[test]
    fn the_password_comes_from_one_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pass word");
        for (content, expected) in [("in a file\n", "in a file"), ("in a file", "in a file"), ("a\r\nb\n", "a")] {
            fs::write(&path, content).unwrap();
            let url = format!("redis://h?password-file={}", path.display().to_string().replace(' ', "%20"));
            assert_eq!(password(&url).unwrap().as_deref(), Some(expected.as_bytes()));
            let url = format!("redis://:other@h?password-file={}", path.display());
            assert!(matches!(password(&url), Err(InvalidUrl::Passwords)));
        }
        fs::write(&path, "\nnot the first line").unwrap();
        let url = format!("redis://h?password-file={}", path.display());
        assert!(matches!(password(&url), Err(InvalidUrl::NoPassword(name)) if name == path.display().to_string()));
        assert!(matches!(password("redis://h?password-file=/none/such"), Err(InvalidUrl::File(..))));
        let variable = std::env::var("PATH").unwrap();
        assert_eq!(password("redis://h?password-env=PATH").unwrap().as_deref(), Some(variable.as_bytes()));
        assert!(matches!(password("redis://h?password-env=NONE_SUCH_X"), Err(InvalidUrl::NoPassword(_))));
        assert_eq!(password("redis://h?password=x%20y").unwrap().as_deref(), Some(&b"x y"[..]));
        assert_eq!(password("redis://user:@h").unwrap(), None);
    }

    /// Wherever a part of the password may end up when its owner does not escape it.
    #[test]
    fn no_error_shows_the_password() {
        for secret in ["tan/staaf", "tan?staaf", "tan#staaf", "tan@staaf", "tan%staaf", "tan:staaf", "tan/a?staaf=b"] {
            let text = format!("redis://user:{secret}@h:1/0");
            let shown = match ServerUrl::parse(&text) {
                Ok(url) => format!("{url:?} {:?} {:?}", url.hosts_and_ports(), url.refuse_others()),
                Err(error) => format!("{error:?} {error}"),
            };
            assert!(!shown.contains("tan") && !shown.contains("staaf"), "{shown}");
        }
    }
}
