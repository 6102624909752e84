//! Who a user is, and whether a password is theirs.

use ldap3::controls::RawControl;
use ldap3::{LdapResult, Scope, SearchEntry, SearchOptions};
use sansmtp::auth::Refusal;
use sansmtp::{Secret, SecretRef};
use tokio::time::Instant;

use super::addresses::{ANY_ENTRY, ReadAddresses};
use super::fault::{Failure, Fault, ResultCode};
use super::pool::{Operation, Pool};
use super::template::{DnTemplate, FilterTemplate};

/// The servers, and how users are found on them.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) lookup: Lookup,
    /// The attributes that have a user's addresses; none where addresses are not asked for.
    pub(super) mail_attributes: Vec<String>,
    pub(super) searches: Pool,
    pub(super) binds: Pool,
}

/// What leads from a user's name to an entry.
#[derive(Debug)]
pub(super) enum Lookup {
    Template(DnTemplate),
    Search {
        base: String,
        scope: Scope,
        filter: FilterTemplate,
        login_attribute: Option<String>,
        /// Whom to read, and to bind as, where there is nobody.
        nobody: String,
        /// An entry that there is not.
        missing: String,
    },
}

/// Whether a user may log in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept {
        login: Option<String>,
        /// Where they are asked for.
        addresses: Option<Vec<String>>,
    },
    Refuse(Refusal),
}

impl Directory {
    /// Checks a password, of which there are one or two forms.
    pub(super) async fn check(&self, user: &str, forms: Vec<Secret>, until: Instant) -> Result<Verdict, Failure> {
        // RFC 4513, section 5.1.2: such a bind succeeds, as nobody, on servers that allow it.
        if forms.iter().any(|form| form.expose_secret().is_empty()) {
            return Ok(Verdict::Refuse(Refusal::BadCredentials));
        }
        let nobody = match &self.lookup {
            Lookup::Template(template) => {
                let whose = Whose { dn_fits: is_plain(user), known: true };
                return Ok(match self.bind(template.fill(user), forms, whose, &self.mail_attributes, until).await? {
                    Ok(addresses) => Verdict::Accept { login: None, addresses: self.wanted(addresses) },
                    Err(refusal) => Verdict::Refuse(refusal),
                });
            }
            Lookup::Search { nobody, .. } => nobody,
        };
        let (entry, refusal) = match self.find(user, until).await? {
            Found::One(entry) => (Some(entry), None),
            Found::Nobody => (None, Some(Refusal::UnknownUser)),
            Found::Several => {
                tracing::warn!("several entries match a user's name; nobody is logged in by it");
                (None, Some(Refusal::BadCredentials))
            }
        };
        let dn = entry.as_ref().map_or(nobody, |entry| &entry.dn).clone();
        let whose = Whose { dn_fits: true, known: entry.is_some() };
        let bound = self.bind(dn.clone(), forms, whose, &[], until).await?;
        if let Some(refusal) = refusal.or(bound.err()) {
            return Ok(Verdict::Refuse(refusal));
        }
        let login = entry.map(|entry| entry.login).transpose()?.flatten();
        let addresses = if self.mail_attributes.is_empty() {
            Vec::new()
        } else {
            self.searches.perform(&ReadAddresses { dn: &dn, attributes: &self.mail_attributes }, until).await?
        };
        Ok(Verdict::Accept { login, addresses: self.wanted(addresses) })
    }

    fn wanted(&self, addresses: Vec<String>) -> Option<Vec<String>> {
        (!self.mail_attributes.is_empty()).then_some(addresses)
    }

    /// Binds with each form of a password until one is right: after that, the server would count the other as a failed
    /// login. Why the user is refused; or else what the user may see of these attributes in that entry.
    async fn bind(
        &self,
        dn: String,
        forms: Vec<Secret>,
        whose: Whose,
        attributes: &[String],
        until: Instant,
    ) -> Result<Result<Vec<String>, Refusal>, Failure> {
        let mut refused = Refusal::BadCredentials;
        for password in forms {
            let bind = Bind { dn: dn.clone(), password, attributes };
            let (bound, addresses) = self.binds.perform(&bind, until).await?;
            match bound.verdict(whose.dn_fits) {
                Ok(None) => return Ok(Ok(addresses)),
                // What only one of the two is told, that the account is disabled for example, is the reason.
                Ok(Some(Refusal::BadCredentials)) => {}
                Ok(Some(refusal)) => refused = refusal,
                Err(fault) if whose.known || fault.is_of_every_bind() => return Err(fault.into()),
                Err(_) => {}
            }
        }
        Ok(Err(refused))
    }

    /// Whether there is such a user. `None` where only a bind could tell.
    pub(super) async fn knows(&self, user: &str, until: Instant) -> Result<Option<bool>, Failure> {
        match &self.lookup {
            Lookup::Template(_) => Ok(None),
            Lookup::Search { .. } => Ok(Some(!matches!(self.find(user, until).await?, Found::Nobody))),
        }
    }

    async fn find(&self, user: &str, until: Instant) -> Result<Found, Failure> {
        let Lookup::Search { base, scope, filter, login_attribute, nobody, missing } = &self.lookup else {
            return Ok(Found::Nobody);
        };
        let attribute = login_attribute.as_deref();
        let search = Search { base, scope: *scope, filter: filter.fill(user), attribute, matters: true };
        let found = self.searches.perform(&search, until).await?;
        // Another one, so that of two searches one finds an entry, which is read, and one does not, whoever there is.
        let base = if matches!(found, Found::Nobody) { nobody } else { missing };
        let other = Search { base, scope: Scope::Base, filter: ANY_ENTRY.to_owned(), attribute, matters: false };
        self.searches.perform(&other, until).await?;
        Ok(found)
    }
}

/// Whose entry is bound as.
#[derive(Clone, Copy)]
struct Whose {
    /// See [`Bound::verdict`].
    dn_fits: bool,
    /// It is the user's, and not the one that stands for nobody, of which the server may say what it likes.
    known: bool,
}

/// Whom a search finds.
enum Found {
    Nobody,
    One(Entry),
    Several,
}

struct Entry {
    dn: String,
    /// Looked at only after the password was found to be right.
    login: Result<Option<String>, Fault>,
}

struct Search<'a> {
    base: &'a str,
    scope: Scope,
    filter: String,
    attribute: Option<&'a str>,
    /// What comes of it makes a difference; else the server may say what it likes.
    matters: bool,
}

impl Operation for Search<'_> {
    type Output = Found;

    async fn perform(&self, ldap: &mut ldap3::Ldap) -> Result<Found, Fault> {
        // More than two need not be told.
        ldap.with_search_options(SearchOptions::new().sizelimit(2));
        let attributes = [self.attribute.unwrap_or(NO_ATTRIBUTES)];
        let mut stream = ldap.streaming_search(self.base, self.scope, &self.filter, attributes).await?;
        let mut found = Found::Nobody;
        while let Some(entry) = stream.next().await? {
            if entry.is_ref() || entry.is_intermediate() {
                // What is referred to might be any server: it is not asked, and does not get the password.
                continue;
            }
            found = match found {
                Found::Nobody => Found::One(Entry::new(SearchEntry::construct(entry), self.attribute)?),
                Found::One(_) | Found::Several => Found::Several,
            };
        }
        match (ResultCode(stream.finish().await.rc), found) {
            (ResultCode::SUCCESS, found) => Ok(found),
            (_, found) if !self.matters => Ok(found),
            // The server's own limit may be one.
            (ResultCode::SIZE_LIMIT_EXCEEDED, Found::One(_) | Found::Several) => Ok(Found::Several),
            (code, _) => Err(Fault::Search(code)),
        }
    }
}

impl Entry {
    fn new(entry: SearchEntry, attribute: Option<&str>) -> Result<Self, Fault> {
        if entry.dn.is_empty() {
            return Err(Fault::NoName);
        }
        let login = attribute.map(|_| login(&entry)).transpose();
        Ok(Self { dn: entry.dn, login })
    }
}

/// The one value of the attribute that was asked for, by whichever of its names the server calls it.
fn login(entry: &SearchEntry) -> Result<String, Fault> {
    let mut values = entry.attrs.iter().filter(|(name, _)| !name.contains(';')).flat_map(|(_, values)| values);
    match (values.next(), values.next()) {
        (None, _) if entry.bin_attrs.is_empty() => Err(Fault::Login("not")),
        (Some(_), Some(_)) => Err(Fault::Login("several values of")),
        (Some(value), None) if is_login(value) => Ok(value.clone()),
        (Some(_), None) | (None, _) => Err(Fault::Login("no name as")),
    }
}

/// Whether a value may be an identity (as [`sansmtp::auth::Credentials`] has them).
fn is_login(value: &str) -> bool {
    (1..=255).contains(&value.len()) && !value.chars().any(char::is_control)
}

/// Whether every attribute's syntax that names users allows it.
fn is_plain(user: &str) -> bool {
    user.chars().all(|character| character.is_ascii_alphanumeric() || "@.-_".contains(character))
}

struct Bind<'a> {
    dn: String,
    password: Secret,
    /// To be read then, as that user.
    attributes: &'a [String],
}

impl Operation for Bind<'_> {
    type Output = (Bound, Vec<String>);

    async fn perform(&self, ldap: &mut ldap3::Ldap) -> Result<Self::Output, Fault> {
        let bound = bind(ldap, &self.dn, self.password.as_ref()).await?;
        match bound.code() {
            // Another server may be able to.
            code @ (ResultCode(51) | ResultCode(52)) => Err(Fault::Bind(code)),
            ResultCode::SUCCESS => {
                let read = ReadAddresses { dn: &self.dn, attributes: self.attributes };
                Ok((bound, read.perform(ldap).await?))
            }
            _ => Ok((bound, Vec::new())),
        }
    }
}

/// A simple bind (RFC 4513, section 5.1.3), never one with an empty name or password.
pub(super) async fn bind(ldap: &mut ldap3::Ldap, dn: &str, password: SecretRef<'_>) -> Result<Bound, Fault> {
    let Some(password) = str::from_utf8(password.expose_secret()).ok().filter(|password| !password.is_empty()) else {
        return Ok(Bound::refused());
    };
    if dn.is_empty() {
        return Err(Fault::NoName);
    }
    ldap.with_controls(vec![RawControl { ctype: PASSWORD_POLICY.to_owned(), crit: false, val: None }]);
    Ok(Bound(ldap.simple_bind(dn, password).await?))
}

/// What a bind was answered.
pub(super) struct Bound(LdapResult);

impl Bound {
    pub(super) fn code(&self) -> ResultCode {
        ResultCode(self.0.rc)
    }

    fn refused() -> Self {
        let rc = ResultCode::INVALID_CREDENTIALS.0;
        Self(LdapResult { rc, matched: String::new(), text: String::new(), refs: Vec::new(), ctrls: Vec::new() })
    }

    /// Why the user is refused, if they are. `dn_fits` says that what is wrong with the name of the entry, if anything,
    /// is not what the client wrote.
    fn verdict(&self, dn_fits: bool) -> Result<Option<Refusal>, Fault> {
        match self.code() {
            ResultCode::SUCCESS => Ok(None),
            ResultCode::INVALID_CREDENTIALS if self.is_disabled() => Ok(Some(Refusal::Disabled)),
            // 48: the entry has no password.
            ResultCode::INVALID_CREDENTIALS | ResultCode::INAPPROPRIATE_AUTHENTICATION => {
                Ok(Some(Refusal::BadCredentials))
            }
            ResultCode::NO_SUCH_OBJECT => Ok(Some(Refusal::UnknownUser)),
            // A name that the attribute's syntax does not allow is nobody's.
            ResultCode::INVALID_DN_SYNTAX if !dn_fits => Ok(Some(Refusal::UnknownUser)),
            ResultCode::UNWILLING_TO_PERFORM | ResultCode::CONSTRAINT_VIOLATION if self.is_disabled() => {
                Ok(Some(Refusal::Disabled))
            }
            code => {
                tracing::debug!(%code, diagnostic = self.0.text, "a bind was answered neither yes nor no");
                Err(Fault::Bind(code))
            }
        }
    }

    /// Whether the account is disabled, locked or expired, as far as the server says so.
    fn is_disabled(&self) -> bool {
        let by_policy =
            self.0.ctrls.iter().any(|control| {
                control.1.ctype == PASSWORD_POLICY && control.1.val.as_deref().is_some_and(policy_disables)
            });
        by_policy || DISABLED.iter().any(|(code, text)| *code == self.code() && self.0.text.contains(text))
    }
}

/// Whether the response control's error is one of these: password expired, account locked
/// (draft-behera-ldap-password-policy, section 6.2).
fn policy_disables(value: &[u8]) -> bool {
    matches!(value, [0x30, _, .., 0x81, 1, 0 | 1])
}

/// The password policy control. Whoever does not know it passes it over.
const PASSWORD_POLICY: &str = "1.3.6.1.4.1.42.2.27.8.5.1";

/// RFC 4511, section 4.5.1.8.
const NO_ATTRIBUTES: &str = "1.1";

/// What servers say of accounts that may not log in: Active Directory (account restriction, hours, workstation,
/// password expired, disabled, expired, password to be changed, locked out) and 389 Directory Server.
const DISABLED: [(ResultCode, &str); 10] = [
    (ResultCode::INVALID_CREDENTIALS, ", data 52f,"),
    (ResultCode::INVALID_CREDENTIALS, ", data 530,"),
    (ResultCode::INVALID_CREDENTIALS, ", data 531,"),
    (ResultCode::INVALID_CREDENTIALS, ", data 532,"),
    (ResultCode::INVALID_CREDENTIALS, ", data 533,"),
    (ResultCode::INVALID_CREDENTIALS, ", data 701,"),
    (ResultCode::INVALID_CREDENTIALS, ", data 773,"),
    (ResultCode::INVALID_CREDENTIALS, ", data 775,"),
    (ResultCode::UNWILLING_TO_PERFORM, "Account inactivated"),
    (ResultCode::CONSTRAINT_VIOLATION, "Exceed password retry limit"),
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ldap3::controls::Control;

    use super::super::pool::Limits;
    use super::super::server::{Security, Server, Servers};
    use super::*;

    fn bound(rc: u32, text: &str, policy: Option<&[u8]>) -> Bound {
        let control =
            |value: &[u8]| RawControl { ctype: PASSWORD_POLICY.to_owned(), crit: false, val: Some(value.into()) };
        Bound(LdapResult {
            rc,
            matched: String::new(),
            text: text.to_owned(),
            refs: Vec::new(),
            ctrls: policy.map(|value| Control(None, control(value))).into_iter().collect(),
        })
    }

    #[test]
    fn what_a_bind_s_result_means() {
        use Refusal::{BadCredentials, Disabled, UnknownUser};
        let active_directory = "80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data ";
        for (rc, text, policy, refusal) in [
            (0, String::new(), None, None),
            // Grace logins are left, the password has to be changed: the user is in.
            (0, String::new(), Some(b"\x30\x05\xa0\x03\x81\x01\x02".as_slice()), None),
            (0, String::new(), Some(b"\x30\x03\x81\x01\x02"), None),
            (49, String::new(), None, Some(BadCredentials)),
            (49, format!("{active_directory}52e, v1db1"), None, Some(BadCredentials)),
            (49, format!("{active_directory}525, v1db1"), None, Some(BadCredentials)),
            (49, format!("{active_directory}533, v1db1"), None, Some(Disabled)),
            (49, format!("{active_directory}775, v1db1"), None, Some(Disabled)),
            (49, String::new(), Some(b"\x30\x03\x81\x01\x01"), Some(Disabled)),
            (49, String::new(), Some(b"\x30\x03\x81\x01\x00"), Some(Disabled)),
            (49, String::new(), Some(b"\x30\x00"), Some(BadCredentials)),
            (49, String::new(), Some(b""), Some(BadCredentials)),
            (48, String::new(), None, Some(BadCredentials)),
            (32, String::new(), None, Some(UnknownUser)),
            (53, "Account inactivated. Contact system administrator.".to_owned(), None, Some(Disabled)),
            (19, "Exceed password retry limit. Please try later.".to_owned(), None, Some(Disabled)),
        ] {
            assert_eq!(bound(rc, &text, policy).verdict(true).unwrap(), refusal, "{rc} {text} {policy:?}");
        }
        for rc in [1, 2, 3, 7, 8, 10, 11, 13, 14, 19, 34, 50, 51, 52, 53, 80, 4096] {
            let fault = bound(rc, "who knows", None).verdict(true).unwrap_err();
            assert!(matches!(fault, Fault::Bind(ResultCode(code)) if code == rc), "{rc}");
        }
    }

    #[test]
    fn a_name_that_is_no_value_of_the_attribute_is_nobody_s() {
        assert!(is_plain("tim@mail-1.example.org") && !is_plain("jürgen") && !is_plain("tim "));
        assert_eq!(bound(34, "invalid DN", None).verdict(false).unwrap(), Some(Refusal::UnknownUser));
    }

    #[test]
    fn the_login_is_the_one_value() {
        let found = |attributes: &[(&str, &[&str])]| {
            let attrs = attributes
                .iter()
                .map(|(name, values)| ((*name).to_owned(), values.iter().map(|value| (*value).to_owned()).collect()));
            let entry = SearchEntry { dn: "dc=org".to_owned(), attrs: attrs.collect(), bin_attrs: [].into() };
            login(&entry).map_err(|fault| fault.to_string())
        };
        assert_eq!(found(&[("uid", &["tim"])]).unwrap(), "tim");
        assert_eq!(found(&[("userid", &["tim"]), ("uid;lang-de", &["timm"])]).unwrap(), "tim");
        assert_eq!(found(&[]).unwrap_err(), "the entry found has not the login attribute");
        assert_eq!(
            found(&[("uid", &["a", "b"])]).unwrap_err(),
            "the entry found has several values of the login attribute"
        );
        for bad in ["", "a\r\nb", "a\0", &"x".repeat(256)] {
            assert_eq!(found(&[("uid", &[bad])]).unwrap_err(), "the entry found has no name as the login attribute");
        }
        let entry = SearchEntry {
            dn: "dc=org".to_owned(),
            attrs: [].into(),
            bin_attrs: [("uid".to_owned(), vec![vec![0xff]])].into(),
        };
        assert_eq!(login(&entry).unwrap_err().to_string(), "the entry found has no name as the login attribute");
    }

    /// The engine refuses empty passwords itself, and so does this.
    #[tokio::test]
    async fn an_empty_password_is_refused_before_a_server_is_asked() {
        let servers = Servers::new(vec![Server::parse("ldap://localhost:1", Security::Cleartext).unwrap()], None);
        let second = Duration::from_secs(1);
        let pool = || {
            let limits = Limits { connect: second, operation: second, connections: 1 };
            Pool::new(servers.clone(), None, limits)
        };
        let directory = Directory {
            lookup: Lookup::Template(DnTemplate::parse("uid={user}").unwrap()),
            mail_attributes: Vec::new(),
            searches: pool(),
            binds: pool(),
        };
        let check = async |password: &str| {
            directory.check("tim", vec![Secret::from(password.as_bytes())], Instant::now() + second).await
        };
        assert_eq!(check("").await.unwrap(), Verdict::Refuse(Refusal::BadCredentials));
        assert!(matches!(check("x").await.unwrap_err().fault, Fault::Connect(_)));
    }
}
