//! The settings as a URL (RFC 4516).

use std::io;

use super::builder::FoundBy;
use super::server::{Security, Server};
use super::template::USER;
use super::{LdapBuilder, LdapError, LdapScope};
use crate::url_text::{decoded, password_in_environment, password_in_file};

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
    ///   - `x-mail-attribute=`: [`mail_attribute`](Self::mail_attribute); repeatable.
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
        let dn = decode(dn, "distinguished name")?;
        let mut builder = if dn.contains(USER) {
            for (setting, part) in [("an attribute", attributes), ("a scope", scope), ("a filter", filter)] {
                if !part.is_empty() {
                    return Err(LdapError::SearchOnly(setting));
                }
            }
            Self::new(FoundBy::Template(dn))
        } else {
            let filter = if filter.is_empty() { FILTER.to_owned() } else { decode(filter, "filter")? };
            Self::new(FoundBy::Search { base: dn, filter })
        };
        builder.servers = hosts.split(',').map(|host| format!("{scheme}://{host}")).collect();
        if hosts.is_empty() {
            return Err(LdapError::NoServer);
        }
        // What is in front of an `@` may be a password with a `/` or a `?` in it.
        if url.contains('@')
            && builder.servers.iter().any(|server| Server::parse(server, Security::Cleartext).is_none())
        {
            return Err(LdapError::PasswordInUrl);
        }
        if !attributes.is_empty() {
            builder.login_attribute = Some(decode(attributes, "attribute")?);
        }
        builder.scope = match decode(scope, "scope")?.to_ascii_lowercase().as_str() {
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
                Some((name, value)) => (name, Some(decode(value, "extension")?)),
                None => (extension, None),
            };
            let name = decode(name, "extension")?.to_ascii_lowercase();
            let value = value.filter(|value| !value.is_empty());
            match (name.as_str(), value) {
                ("bindname", Some(dn)) => name_of_account = Some(dn),
                ("x-bindpw-file", Some(path)) => match password_in_file(path.as_ref()) {
                    Ok(found) => password = Some(found.ok_or(LdapError::NoPassword)?),
                    Err(error) => return Err(LdapError::Password { from: path, error }),
                },
                ("x-bindpw-env", Some(variable)) => {
                    let missing = |from| LdapError::Password { from, error: io::ErrorKind::NotFound.into() };
                    password = Some(password_in_environment(&variable).ok_or_else(|| missing(variable))?);
                }
                ("bindpw" | "x-bindpw", _) => return Err(LdapError::PasswordInUrl),
                ("x-nobody", Some(dn)) => self.nobody = Some(dn),
                ("x-mail-attribute", Some(name)) => self.mail_attributes.push(name),
                ("x-ca-file", Some(path)) => self.ca_file = Some(path.into()),
                ("x-cleartext", None) => self.allow_cleartext = true,
                ("1.3.6.1.4.1.1466.20037" | "starttls", None) => {}
                (
                    "bindname"
                    | "x-bindpw-file"
                    | "x-bindpw-env"
                    | "x-nobody"
                    | "x-mail-attribute"
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

/// A percent sign that begins nothing is a mistake: the filter's, more often than not.
fn decode(text: &str, part: &'static str) -> Result<String, LdapError> {
    decoded(text).ok_or(LdapError::Url(part))
}

/// Where the URL has none.
const FILTER: &str = "(uid={user})";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> LdapBuilder {
        LdapBuilder::from_url(url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    #[test]
    fn templates() {
        for url in [
            "ldaps://ldap.example.org/uid={user},dc=example,dc=org",
            "ldaps://ldap.example.org/uid=%7Buser%7D%2Cdc=example%2cdc=org???",
        ] {
            let builder = read(url);
            assert!(
                matches!(&builder.found_by, FoundBy::Template(dn) if dn == "uid={user},dc=example,dc=org"),
                "{url}"
            );
            assert_eq!(builder.servers, ["ldaps://ldap.example.org"]);
            assert!(builder.account.is_none() && !builder.allow_cleartext);
        }
    }

    #[test]
    fn searches() {
        let builder = read("ldap://a,b:1389/dc=example,dc=org");
        assert!(
            matches!(&builder.found_by, FoundBy::Search { base, filter } if base == "dc=example,dc=org" && filter == "(uid={user})")
        );
        assert_eq!(builder.servers, ["ldap://a", "ldap://b:1389"]);
        assert_eq!((builder.login_attribute, builder.scope), (None, None));

        let builder =
            read("ldapi://%2Frun%2Fldapi/ou=a%3Fb?mail?one?(%26(mail={user})(o=%c3%bc))?!StartTLS,x-cleartext");
        assert!(
            matches!(&builder.found_by, FoundBy::Search { base, filter } if base == "ou=a?b" && filter == "(&(mail={user})(o=ü))")
        );
        assert_eq!(builder.servers, ["ldapi://%2Frun%2Fldapi"]);
        assert_eq!((builder.login_attribute.as_deref(), builder.scope), (Some("mail"), Some(LdapScope::OneLevel)));
        assert!(builder.allow_cleartext);

        let builder = read("ldap://a/uid={user},dc=b????x-mail-attribute=mail,x-mail-attribute=mailAlternateAddress");
        assert!(builder.has_mail_attribute() && !read("ldap://a/dc=b").has_mail_attribute());
        assert_eq!(builder.mail_attributes, ["mail", "mailAlternateAddress"]);

        let builder = read("ldap://a?uid?base??x-ca-file=/etc/ca.pem,X-Nobody=cn=a%2Cdc=b");
        assert!(matches!(&builder.found_by, FoundBy::Search { base, .. } if base.is_empty()));
        assert_eq!(builder.scope, Some(LdapScope::Base));
        assert_eq!(builder.nobody.as_deref(), Some("cn=a,dc=b"));
        assert_eq!(builder.ca_file.unwrap(), std::path::Path::new("/etc/ca.pem"));
    }

    #[test]
    fn the_service_account_s_password_comes_from_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        for content in ["it's a secret", "it's a secret\n", "it's a secret\r\nnot this\n"] {
            let file = directory.path().join("secret");
            std::fs::write(&file, content).unwrap();
            let url = format!("ldap://a/dc=b????bindname=cn=c%2Cdc=b,x-bindpw-file={}", file.display());
            let builder = read(&url);
            assert!(!format!("{builder:?}").contains("it's"));
            let (dn, password) = builder.account.unwrap();
            assert_eq!((dn.as_str(), password.expose_secret()), ("cn=c,dc=b", b"it's a secret".as_slice()));
        }
        // A variable that every environment of a test has.
        let value = std::env::var("CARGO_MANIFEST_DIR").unwrap();
        let builder = read("ldap://a/dc=b????bindname=cn=c%2Cdc=b,x-bindpw-env=CARGO_MANIFEST_DIR");
        assert_eq!(builder.account.unwrap().1.expose_secret(), value.as_bytes());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (url, said) in [
            ("ldap.example.org", "the URL's scheme cannot be read"),
            ("ldap:///dc=b", "no server is named"),
            (
                "ldap://tim:hunter2@a/dc=b",
                "a password in the URL can be seen by everybody: name a file by x-bindpw-file or a variable by x-bindpw-env",
            ),
            (
                "ldap://a/dc=b????bindname=cn=c,x-bindpw=hunter2",
                "a password in the URL can be seen by everybody: name a file by x-bindpw-file or a variable by x-bindpw-env",
            ),
            ("ldap://a/dc=b????bindname=cn=c", "the service account has no password"),
            (
                "ldap://a/dc=b????x-bindpw-env=CARGO_MANIFEST_DIR",
                "the service account, bindname, is no distinguished name",
            ),
            (
                "ldap://a/dc=b????bindname=cn=c,x-bindpw-file=/nonexistent/file",
                "cannot read the service account's password from /nonexistent/file: No such file or directory (os error 2)",
            ),
            (
                "ldap://a/dc=b????bindname=cn=c,x-bindpw-env=NO_SUCH_VARIABLE",
                "cannot read the service account's password from NO_SUCH_VARIABLE: entity not found",
            ),
            (
                "ldap://a/dc=b????bindname=cn=c,x-bindpw-env=A%3DB",
                "cannot read the service account's password from A=B: entity not found",
            ),
            ("ldap://a/dc=b????bindname=cn=c,dc=b", "there is no extension \"dc\" of the URL"),
            ("ldap://a/dc=b????!x-unknown=hunter2", "there is no extension \"x-unknown\" of the URL"),
            ("ldap://a/dc=b????x-ca-file", "the extension \"x-ca-file\" of the URL has no value that fits"),
            ("ldap://a/dc=b????x-cleartext=yes", "the extension \"x-cleartext\" of the URL has no value that fits"),
            ("ldap://a/dc=b????x-nobody=", "the extension \"x-nobody\" of the URL has no value that fits"),
            ("ldap://a/dc=b??all", "the URL's scope cannot be read"),
            ("ldap://a/dc=b???(uid=%)", "the URL's filter cannot be read"),
            ("ldap://a/dc=b???(uid=%ff)", "the URL's filter cannot be read"),
            ("ldap://a/dc=b?????", "the URL's end, after the extensions, cannot be read"),
            ("ldap://a/uid={user},dc=b?uid", "an attribute is for a search, but users are found by a template"),
            ("ldap://a/uid={user},dc=b??sub", "a scope is for a search, but users are found by a template"),
            ("ldap://a/uid={user},dc=b???(a=b)", "a filter is for a search, but users are found by a template"),
            (
                "ldap://a/dc=b????x-mail-attribute",
                "the extension \"x-mail-attribute\" of the URL has no value that fits",
            ),
            ("ldap://a/dc=b????x-mail-attribute=a b", "the mail attribute \"a b\" is no attribute"),
            // What only building it finds.
            ("ldap://a/b", "the search base \"b\" is no distinguished name"),
            ("ldap://a/{user},dc=b", "\"{user},dc=b\" is no distinguished name with {user} in a value"),
            ("ldap://a/dc=b???(uid=tim)", "\"(uid=tim)\" is no search filter with {user} in a value"),
            ("ldap://a/dc=b?a,b", "the login attribute \"a,b\" is no attribute"),
            ("ldap://a/dc=b????x-nobody=c", "the entry of nobody is no distinguished name"),
            (
                "ldap://a/dc=b????bindname=c,x-bindpw-env=CARGO_MANIFEST_DIR",
                "the service account is no distinguished name",
            ),
            (
                "ldap://a/uid={user}????bindname=dc=c,x-bindpw-env=CARGO_MANIFEST_DIR",
                "a service account is for a search, but users are found by a template",
            ),
            ("ldap://a,b:c/dc=b", "\"ldap://b:c\" is no ldap://host[:port], ldaps://host[:port] or ldapi://path"),
            ("http://a/dc=b", "\"http://a\" is no ldap://host[:port], ldaps://host[:port] or ldapi://path"),
            (
                "ldap://a/dc=b????x-ca-file=/nonexistent/file",
                "cannot read root certificates from /nonexistent/file: No such file or directory (os error 2)",
            ),
        ] {
            let error = super::super::Ldap::from_url(url).map(|_| ()).unwrap_err();
            assert_eq!(error.to_string(), said, "{url}");
            assert!(!format!("{error:?}").contains("hunter2"), "{url}");
        }
    }
    /// As in the URL of all of it.
    #[test]
    fn a_password_in_a_server_s_url_is_not_shown() {
        for server in ["ldaps://tim:hunter2@a", "ldap://tim:hunter2/@a", "ldap://tim:hunter2?@a:1"] {
            let error = super::super::Ldap::bind("uid={user}").server(server).build().map(|_| ()).unwrap_err();
            assert!(matches!(error, LdapError::PasswordInUrl), "{error:?}");
        }
    }
}
