//! What a reply of Dovecot means for the client.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sansmtp::auth::MechanismName;
use sansmtp::{AuthResult, Refusal, reply};

use super::client::Unanswered;
use super::error::Error;
use super::names;
use super::reply::Fields;

/// What Dovecot said of a login beside the user's name, in [`Session::auth_data`](sansmtp::Session::auth_data).
///
/// Which fields there are is up to Dovecot's configuration: `original_user` is the name as the client gave it,
/// `auth_user` the master user who logged in as another. Some may be secret, such as the `token` of OAUTHBEARER, so
/// `Debug` shows their names only.
///
/// ```
/// use sansmtp::Session;
/// use sansmtp_authenticators::dovecot::Login;
///
/// fn master_user(session: &Session) -> Option<&str> {
///     session.auth_data::<Login>()?.field("auth_user")
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Login {
    fields: Fields,
}

impl Login {
    /// The value of a field, empty for one without a value. `None` if it was not there, or is no UTF-8.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }
}

/// What an `OK` leads to.
pub(super) enum Accepted {
    Result(AuthResult),
    /// The result, if the client takes note of the additional data (RFC 4422, section 3.6), which SMTP sends in a
    /// challenge (RFC 4954, section 4).
    Challenge(Vec<u8>, AuthResult),
}

pub(super) fn of_accepted(fields: Fields, mechanism: MechanismName) -> Accepted {
    let user = fields.get("user").unwrap_or_default().to_owned();
    // Other users must not become this one by what a log, a header field or a database makes of the name.
    if !names::is_login(&user) {
        tracing::warn!(%mechanism, "Dovecot's name of the user is none that can be used");
        return Accepted::Result(AuthResult::cannot_tell());
    }
    // The password is right, but the passdb says that the user may not log in.
    if fields.has("nologin") {
        return Accepted::Result(AuthResult::refuse_because(Refusal::Disabled));
    }
    let data = fields.get("resp").map(|data| STANDARD.decode(data));
    let result = AuthResult::accept().with_login(user).with_auth_data(Login { fields });
    match data {
        None => Accepted::Result(result),
        Some(Ok(data)) if data.is_empty() => Accepted::Result(result),
        Some(Ok(data)) => Accepted::Challenge(data, result),
        Some(Err(_)) => {
            tracing::warn!(%mechanism, "Dovecot is broken: additional data of a login cannot be read");
            Accepted::Result(AuthResult::cannot_tell())
        }
    }
}

/// What a `FAIL` means. Its `reason` is not passed on: it may say what the peer must not learn.
pub(super) fn of_refused(fields: &Fields, mechanism: MechanismName) -> AuthResult {
    // Dovecot before 2.3 said the same by fields of their own.
    let is = |code: &str, field: &str| fields.get("code") == Some(code) || fields.has(field);
    if is("temp_fail", "temp") {
        tracing::warn!(%mechanism, "Dovecot cannot tell for the moment whether a login is right; its log says why");
        AuthResult::cannot_tell()
    } else if is("authz_fail", "authz") {
        AuthResult::refuse_because(Refusal::AuthzidNotGranted)
    } else if is("user_disabled", "user_disabled") || is("pass_expired", "pass_expired") {
        AuthResult::refuse_because(Refusal::Disabled)
    } else {
        // Unknown or wrong: Dovecot does not tell.
        AuthResult::refuse()
    }
}

/// What having no reply means.
pub(super) fn of_unanswered(unanswered: &Unanswered, mechanism: MechanismName) -> AuthResult {
    match unanswered {
        // Which was logged.
        Unanswered::Fault(Error::Full) => AuthResult::cannot_tell(),
        Unanswered::Fault(error) => {
            tracing::warn!(%mechanism, %error, "cannot check a login with Dovecot");
            AuthResult::cannot_tell()
        }
        Unanswered::NotOffered => {
            tracing::warn!(%mechanism, "cannot check a login with Dovecot, which does not offer the mechanism (any more)");
            AuthResult::cannot_tell()
        }
        // RFC 4954, section 4.
        Unanswered::TooLong => AuthResult::handled_with(reply!("500 5.5.6 Authentication exchange line is too long"))
            .unwrap_or_else(|_| AuthResult::cannot_tell()),
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(error) => error.fmt(f),
            Self::NotOffered => f.write_str("Dovecot does not offer the mechanism"),
            Self::TooLong => f.write_str("the response is too long"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reply::Reply;
    use super::*;

    fn accepted(line: &str) -> Accepted {
        match Reply::parse(line.as_bytes()) {
            Ok((_, Reply::Accepted(fields))) => of_accepted(fields, "PLAIN".into()),
            other => panic!("{other:?}"),
        }
    }

    fn accepted_at_once(line: &str) -> AuthResult {
        match accepted(line) {
            Accepted::Result(result) => result,
            Accepted::Challenge(..) => panic!("a challenge for {line:?}"),
        }
    }

    fn refused(line: &str) -> AuthResult {
        match Reply::parse(line.as_bytes()) {
            Ok((_, Reply::Refused(fields))) => of_refused(&fields, "PLAIN".into()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn success_names_the_user_and_keeps_what_else_is_said() {
        let result = accepted_at_once("OK\t1\tuser=tim\toriginal_user=Tim\ttoken=eyJhbGciOi");
        assert!(result.success());
        assert_eq!(result.login(), Some("tim"));
        let login: &Login = result.auth_data().unwrap();
        assert_eq!((login.field("original_user"), login.field("resp")), (Some("Tim"), None));
        assert!(!format!("{result:?} {login:?}").contains("eyJ"));
    }

    #[test]
    fn additional_data_is_for_a_challenge() {
        let Accepted::Challenge(data, result) = accepted("OK\t1\tuser=tim\tresp=dj1zaWduYXR1cmU=") else {
            panic!("no challenge")
        };
        assert_eq!((data, result.login()), (b"v=signature".to_vec(), Some("tim")));
        assert!(accepted_at_once("OK\t1\tuser=tim\tresp=").success());
    }

    #[test]
    fn success_that_is_not_one() {
        assert_eq!(accepted_at_once("OK\t1\tuser=tim\tnologin").refusal(), Some(Refusal::Disabled));
        assert_eq!(accepted_at_once("OK\t1\tuser=tim\tnologin=y\tresp=dj0=").refusal(), Some(Refusal::Disabled));
        for broken in ["OK\t1\tuser=tim\tresp=!", "OK\t1\tuser=a\u{1}nb", "OK\t1\tuser=a\u{1}0", "OK\t1\tuser=\u{7f}"] {
            let result = accepted_at_once(broken);
            assert!(!result.success() && result.refusal().is_none(), "{broken}");
        }
        let long = "x".repeat(256);
        assert!(!accepted_at_once(&format!("OK\t1\tuser={long}")).success());
    }

    #[test]
    fn failures_by_code_and_as_older_versions_say_it() {
        for (line, refusal) in [
            ("FAIL\t1", Some(Refusal::BadCredentials)),
            ("FAIL\t1\tuser=tim\treason=no such user", Some(Refusal::BadCredentials)),
            ("FAIL\t1\tuser=tim\tcode=something_new", Some(Refusal::BadCredentials)),
            ("FAIL\t1\tuser=tim\tcode=user_disabled", Some(Refusal::Disabled)),
            ("FAIL\t1\tuser=tim\tuser_disabled", Some(Refusal::Disabled)),
            ("FAIL\t1\tuser=tim\tcode=pass_expired", Some(Refusal::Disabled)),
            ("FAIL\t1\tuser=tim\tpass_expired", Some(Refusal::Disabled)),
            ("FAIL\t1\tuser=tim\tcode=authz_fail", Some(Refusal::AuthzidNotGranted)),
            ("FAIL\t1\tuser=tim\tauthz", Some(Refusal::AuthzidNotGranted)),
            ("FAIL\t1\tuser=tim\tcode=temp_fail", None),
            ("FAIL\t1\ttemp", None),
        ] {
            let result = refused(line);
            assert_eq!(result.refusal(), refusal, "{line}");
            assert!(!result.success() && result.message().is_none(), "{line}");
        }
    }
}
