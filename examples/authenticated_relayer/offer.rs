//! Which mechanisms to offer: those that were asked for, or those that do no harm.

use std::sync::Arc;

use sansmtp::Auth;
use sansmtp::auth::Policy;
use sansmtp_authenticators::dovecot::Dovecot;
use sansmtp_authenticators::{Answers, Authenticator};

use crate::failure::Failure;
use crate::mechanisms::Mechanism;
use crate::options::Serve;

/// Which mechanisms to offer for these users, at least one.
///
/// Clients choose SCRAM where it is offered, and those of users without the keys for it would never get in. So unless it
/// is asked for, it is offered where all who have a password have, or get, the keys.
///
/// # Errors
/// Names a mechanism that was asked for, and that nobody can log in by.
pub(crate) fn offered(
    asked_for: &[Mechanism],
    members: &[Arc<dyn Authenticator>],
    client_ca: bool,
) -> Result<Vec<Mechanism>, Failure> {
    let some =
        |mechanism: Mechanism| members.iter().any(|member| member.answers(&mechanism.name()) != Answers::ForNone);
    if let Some(&mechanism) = asked_for.iter().find(|mechanism| !some(**mechanism)) {
        let name = mechanism.name();
        return Err(Failure::plain(format!("nobody in --users can log in by {name}, which --mechanisms names")));
    }
    if !asked_for.is_empty() {
        return Ok(asked_for.to_vec());
    }
    let has_passwords = |member: &&Arc<dyn Authenticator>| member.answers("PLAIN") != Answers::ForNone;
    let everybody = |mechanism: Mechanism| {
        some(mechanism)
            && members.iter().filter(has_passwords).all(|member| member.answers(&mechanism.name()) == Answers::ForAll)
    };
    let has_tokens_alone = members.iter().any(|member| !has_passwords(&member));
    let by_default = |mechanism: &Mechanism| match mechanism {
        Mechanism::ScramSha256 => everybody(*mechanism),
        Mechanism::Plain | Mechanism::Login => some(*mechanism),
        Mechanism::OAuthBearer | Mechanism::XOAuth2 => has_tokens_alone && some(*mechanism),
        Mechanism::External => client_ca && some(*mechanism),
        Mechanism::ScramSha256Plus
        | Mechanism::ScramSha512Plus
        | Mechanism::ScramSha512
        | Mechanism::ScramSha1Plus
        | Mechanism::ScramSha1
        | Mechanism::CramMd5
        | Mechanism::Anonymous => false,
    };
    let offered: Vec<Mechanism> = Mechanism::all().filter(by_default).collect();
    if offered.is_empty() { Err(Failure::plain("nobody in --users can log in by any mechanism")) } else { Ok(offered) }
}

/// Offers what Dovecot does once it is there, or what was asked for. Until then, what was asked for is listed, or PLAIN and
/// LOGIN, which whoever wants to log in can try.
fn passed_through_later(options: &Serve, dovecot: &Dovecot) -> Auth {
    let mut auth = Auth::without_mechanisms().require_tls(!options.allow_plaintext_auth);
    let asked_for: Vec<String> = options.mechanisms.iter().map(|mechanism| mechanism.name()).collect();
    for name in &asked_for {
        auth = auth.handler_mechanism(name);
    }
    let until_then: Vec<&str> = match asked_for.as_slice() {
        [] => vec!["PLAIN", "LOGIN"],
        names => names.iter().map(String::as_str).collect(),
    };
    auth = dovecot.offer_later(auth, &until_then);
    for name in Dovecot::NAMES {
        let is_asked_for = asked_for.is_empty() || until_then.contains(&name);
        if !is_asked_for || name == "EXTERNAL" && options.client_ca.is_none() {
            auth = auth.exclude(name);
        } else if Dovecot::NAMED_PLAINTEXT.contains(&name) && options.allow_plaintext_auth {
            auth = auth.policy(name, Policy::new());
        }
    }
    auth
}

/// Offers the mechanisms of Dovecot, or those of them that were asked for, for the AUTH handler hook.
///
/// # Errors
/// Names a mechanism that was asked for, and that Dovecot does not offer; or says why Dovecot cannot be asked.
pub(crate) fn passed_through(options: &Serve, dovecot: &Dovecot) -> Result<Auth, Failure> {
    let explain = |error| Failure::new("cannot learn which mechanisms there are", error);
    let offered = match dovecot.mechanisms() {
        Err(error) if error.is_temporary() => return Ok(passed_through_later(options, dovecot)),
        offered => offered.map_err(explain)?,
    };
    let mut auth = Auth::without_mechanisms().require_tls(!options.allow_plaintext_auth);
    // Those that were asked for first, in their order.
    for mechanism in &options.mechanisms {
        let name = mechanism.name();
        if !offered.iter().any(|offered| offered.name == name.as_str()) {
            return Err(Failure::plain(format!("Dovecot does not offer {name}, which --mechanisms names")));
        }
        auth = auth.handler_mechanism(&name);
    }
    auth = dovecot.offer(auth).map_err(explain)?;
    for offered in offered {
        let name = offered.name.as_str();
        let asked_for = |mechanism: &Mechanism| mechanism.name() == name;
        let is_external = name == "EXTERNAL" && options.client_ca.is_none();
        if is_external || !options.mechanisms.is_empty() && !options.mechanisms.iter().any(asked_for) {
            auth = auth.exclude(name);
        } else if offered.plaintext && options.allow_plaintext_auth {
            auth = auth.policy(name, Policy::new());
        }
    }
    Ok(auth)
}

#[cfg(test)]
mod tests {
    use sansmtp::{AuthRequest, AuthResult};
    use sansmtp_authenticators::Knows;

    use super::*;

    /// Answers these for all, and those for some.
    struct Member(&'static [&'static str], &'static [&'static str]);

    impl Authenticator for Member {
        fn authenticate(&self, _: &AuthRequest) -> AuthResult {
            AuthResult::cannot_tell()
        }

        fn knows(&self, _: &AuthRequest) -> Knows {
            Knows::No
        }

        fn answers(&self, mechanism: &str) -> Answers {
            match (self.0.contains(&mechanism), self.1.contains(&mechanism)) {
                (true, _) => Answers::ForAll,
                (false, true) => Answers::ForSome,
                (false, false) => Answers::ForNone,
            }
        }
    }

    const DATABASE: Member =
        Member(&["PLAIN", "LOGIN", "SCRAM-SHA-256", "EXTERNAL"], &["CRAM-MD5", "OAUTHBEARER", "XOAUTH2"]);
    const DIRECTORY: Member = Member(&["PLAIN", "LOGIN"], &[]);
    const TOKENS: Member = Member(&["OAUTHBEARER", "XOAUTH2"], &[]);
    const SOME_KEYS: Member = Member(&["PLAIN", "LOGIN"], &["SCRAM-SHA-256"]);

    fn offer(asked_for: &[Mechanism], members: impl IntoIterator<Item = Member>) -> Result<Vec<Mechanism>, String> {
        let members: Vec<_> = members.into_iter().map(|member| Arc::new(member) as Arc<dyn Authenticator>).collect();
        offered(asked_for, &members, false).map_err(|failure| failure.to_string())
    }

    #[test]
    fn scram_is_offered_where_everybody_has_keys() {
        use Mechanism::{Login, OAuthBearer, Plain, ScramSha256, XOAuth2};
        assert_eq!(offer(&[], [DATABASE]).unwrap(), [ScramSha256, Plain, Login]);
        assert_eq!(offer(&[], [DATABASE, DATABASE]).unwrap(), [ScramSha256, Plain, Login]);
        assert_eq!(offer(&[], [DIRECTORY]).unwrap(), [Plain, Login]);
        assert_eq!(offer(&[], [DATABASE, DIRECTORY]).unwrap(), [Plain, Login]);
        assert_eq!(offer(&[], [SOME_KEYS]).unwrap(), [Plain, Login]);
        // Who shows a token chooses no mechanism for passwords.
        assert_eq!(offer(&[], [DATABASE, TOKENS]).unwrap(), [ScramSha256, Plain, Login, OAuthBearer, XOAuth2]);
        assert_eq!(offer(&[], [TOKENS]).unwrap(), [OAuthBearer, XOAuth2]);
        assert!(offer(&[], [Member(&[], &[])]).is_err());
    }

    #[test]
    fn what_is_asked_for_is_offered_unless_nobody_could_use_it() {
        use Mechanism::{CramMd5, Plain, ScramSha256};
        assert_eq!(offer(&[ScramSha256, Plain], [DATABASE, DIRECTORY]).unwrap(), [ScramSha256, Plain]);
        assert_eq!(offer(&[ScramSha256], [SOME_KEYS]).unwrap(), [ScramSha256]);
        assert_eq!(offer(&[CramMd5], [DATABASE]).unwrap(), [CramMd5]);
        let error = offer(&[Plain, ScramSha256], [DIRECTORY]).unwrap_err();
        assert!(error.contains("SCRAM-SHA-256") && error.contains("--mechanisms"), "{error}");
        assert!(offer(&[CramMd5], [DIRECTORY, TOKENS]).is_err());
    }

    #[test]
    fn external_is_for_clients_with_a_certificate() {
        let database: [Arc<dyn Authenticator>; 1] = [Arc::new(DATABASE)];
        let offered = offered(&[], &database, true).unwrap();
        assert_eq!(offered.last(), Some(&Mechanism::External));
    }
}
