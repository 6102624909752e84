//! The settings as a URL (RFC 4516).

use std::io;

use percent_encoding::percent_decode_str;
use sansmtp::Secret;
use zeroize::Zeroizing;

use super::builder::FoundBy;
use super::template::USER;
use super::{LdapBuilder, LdapError, LdapScope};

impl LdapBuilder {
    /// Reads a URL: `ldap://hosts/dn?attributes?scope?filter?extensions` (RFC 4516), or with `ldaps` or `ldapi`.
    ///
    /// - hosts: `host[:port]`, several with commas between them: see [`server`](Self::server).
    /// - dn: with `{user}` in it, as whom to bind ([`Ldap::bind`](super::Ldap::bind)), and nothing but extensions may
    ///   follow; else the base of a search ([`Ldap::search`](super::Ldap::search)).
    /// - attributes: none or one, the [`login_attribute`](Self::login_attribute).
    /// - scope: `base`, `one` or `sub`; `sub` where it is empty, unlike elsewhere.
    /// - filter: with `{user}` in it; `(uid={user})` where it is empty.
    /// - extensions, with commas between them:
    ///   - `bindname=`, the [`service_account`](Self::service_account), whose password is in the file of
    ///     `x-bindpw-file=`, to the end of its first line, or in the environment's variable of `x-bindpw-env=`. Both
    ///     are read once. A password in the URL itself is an error.
    ///   - `x-nobody=`: [`nobody`](Self::nobody).
    ///   - `x-ca-file=`: [`ca_file`](Self::ca_file).
    ///   - `x-cleartext`: [`allow_cleartext`](Self::allow_cleartext).
    ///   - `1.3.6.1.4.1.1466.20037` or `StartTLS`, which is so without it.
    ///
    /// `?`, `%`, and in an extension's value a comma, are percent-encoded in what they are not the syntax of; more may
    /// be. An extension that is not known is an error, with or without `!`.
    ///
    /// # Errors
    ///
    /// [`LdapError`] says which part is wrong. What the parts say is checked by [`build`](Self::build).
    pub fn from_url(url: &str) -> Result<Self, LdapError> {
        let (scheme, rest) = url.split_once("://").ok_or(LdapError::Url("scheme"))?;
        let (hosts, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if hosts.contains('@') {
            return Err(LdapError::PasswordInUrl);
        }
        let mut parts = rest.strip_prefix('/').unwrap_or(rest).split('?');
        let mut part = || parts.next().unwrap_or_default();
        let (dn, attributes, scope, filter, extensions) = (part(), part(), part(), part(), part());
        if parts.next().is_some() {
            return Err(LdapError::Url("end, after the extensions,"));
        }
        let dn = decoded(dn, "distinguished name")?;
        let mut builder = if dn.contains(USER) {
            for (setting, part) in [("an attribute", attributes), ("a scope", scope), ("a filter", filter)] {
                if !part.is_empty() {
                    return Err(LdapError::SearchOnly(setting));
                }
            }
            Self::new(FoundBy::Template(dn))
        } else {
            let filter = if filter.is_empty() { FILTER.to_owned() } else { decoded(filter, "filter")? };
            Self::new(FoundBy::Search { base: dn, filter })
        };
        builder.servers = hosts.split(',').map(|host| format!("{scheme}://{host}")).collect();
        if hosts.is_empty() {
            return Err(LdapError::NoServer);
        }
        if !attributes.is_empty() {
            builder.login_attribute = Some(decoded(attributes, "attribute")?);
        }
        builder.scope = match decoded(scope, "scope")?.to_ascii_lowercase().as_str() {
            "" => None,
            "base" => Some(LdapScope::Base),
            "one" => Some(LdapScope::OneLevel),
            "sub" => Some(LdapScope::Subtree),
            _ => return Err(LdapError::Url("scope")),
        };
        builder.extend(extensions)?;
        Ok(builder)
    }

    fn extend(&mut self, extensions: &str) -> Result<(), LdapError> {
        let mut name_of_account = None;
        let mut password = None;
        for extension in extensions.split(',').filter(|extension| !extension.is_empty()) {
            let extension = extension.strip_prefix('!').unwrap_or(extension);
            let (name, value) = match extension.split_once('=') {
                Some((name, value)) => (name, Some(decoded(value, "extension")?)),
                None => (extension, None),
            };
            let name = decoded(name, "extension")?.to_ascii_lowercase();
            let value = value.filter(|value| !value.is_empty());
            match (name.as_str(), value) {
                ("bindname", Some(dn)) => name_of_account = Some(dn),
                ("x-bindpw-file", Some(path)) => password = Some(read_file(path)?),
                ("x-bindpw-env", Some(variable)) => password = Some(read_variable(variable)?),
                ("bindpw" | "x-bindpw", _) => return Err(LdapError::PasswordInUrl),
                ("x-nobody", Some(dn)) => self.nobody = Some(dn),
                ("x-ca-file", Some(path)) => self.ca_file = Some(path.into()),
                ("x-cleartext", None) => self.allow_cleartext = true,
                ("1.3.6.1.4.1.1466.20037" | "starttls", None) => {}
                (
                    "bindname"
                    | "x-bindpw-file"
                    | "x-bindpw-env"
                    | "x-nobody"
                    | "x-ca-file"
                    | "x-cleartext"
                    | "1.3.6.1.4.1.1466.20037"
                    | "starttls",
                    _,
                ) => return Err(LdapError::ExtensionValue(name)),
                _ => return Err(LdapError::Extension(name)),
            }
        }
        self.account = match (name_of_account, password) {
            (Some(dn), Some(password)) => Some((dn, password)),
            (Some(_), None) => return Err(LdapError::NoPassword),
            (None, Some(_)) => return Err(LdapError::NotDn("service account, bindname,")),
            (None, None) => None,
        };
        Ok(())
    }
}

fn decoded(text: &str, part: &'static str) -> Result<String, LdapError> {
    // A percent sign that begins nothing is a mistake: the filter's, more often than not.
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('%') {
        if !after.get(..2).is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit())) {
            return Err(LdapError::Url(part));
        }
        rest = after;
    }
    percent_decode_str(text).decode_utf8().map(Into::into).map_err(|_| LdapError::Url(part))
}

fn read_file(path: String) -> Result<Secret, LdapError> {
    match std::fs::read(&path).map(Zeroizing::new) {
        Ok(content) => {
            let line = content.split(|octet| *octet == b'\n').next().unwrap_or_default();
            Ok(line.strip_suffix(b"\r").unwrap_or(line).into())
        }
        Err(error) => Err(LdapError::Password { from: path, error }),
    }
}

fn read_variable(name: String) -> Result<Secret, LdapError> {
    // `var_os` panics on neither of these, but other programs do.
    let value = if name.contains(['=', '\0']) { None } else { std::env::var_os(&name) };
    match value {
        Some(value) => Ok(Secret::new(value.into_encoded_bytes())),
        None => Err(LdapError::Password { from: name, error: io::ErrorKind::NotFound.into() }),
    }
}

/// Where the URL has none.
const FILTER: &str = "(uid={user})";
