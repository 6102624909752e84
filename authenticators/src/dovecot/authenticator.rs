//! Dovecot behind mechanisms that the engine runs itself.

use sansmtp::auth::mechanism::BearerToken;
use sansmtp::auth::{MechanismName, Password, Refusal};
use sansmtp::{AuthQuestion, AuthRequest, AuthResult, SecretRef};
use zeroize::Zeroizing;

use super::Dovecot;
use super::client::{Client, Unanswered};
use super::error::Error;
use super::line::Line;
use super::link::Request;
use super::reply::Reply;
use super::verdict::{Accepted, of_accepted, of_refused, of_unanswered};
use crate::authenticator::is_password_mechanism;
use crate::{Answers, Authenticator, Knows};

/// Asks Dovecot about passwords by PLAIN, and about tokens by OAUTHBEARER or XOAUTH2, whichever it offers.
///
/// A password is asked about as the client sent it, and where SASLprep makes another one of it, and Dovecot refuses the
/// first, prepared. (What is passed [through](Dovecot::exchange) reaches Dovecot as it was sent.)
///
/// What else mechanisms ask for, the keys of SCRAM or a proof of CRAM-MD5, Dovecot does not give away: to offer them,
/// pass them [through](Dovecot::exchange), or [exclude](sansmtp::Auth::exclude) them.
///
/// Dovecot does not tell an unknown user from a wrong password, so whoever it refuses counts as a user of its own
/// ([`Refusal::BadCredentials`](sansmtp::Refusal::BadCredentials)), and nobody behind it in a chain is asked: it has
/// to be the last. Otherwise the users of another database could log in by names that belong to users of Dovecot.
impl Authenticator for Dovecot {
    fn authenticate(&self, request: &AuthRequest) -> AuthResult {
        match request.question() {
            AuthQuestion::Password(password) => self.check_password(request, password),
            AuthQuestion::BearerToken(token) => match self.bearer(request, token) {
                Ok((mechanism, response)) => self.ask(request, mechanism, &response),
                Err(unanswered) => of_unanswered(&unanswered, request.mechanism()),
            },
            AuthQuestion::ScramKeys(_)
            | AuthQuestion::CramMd5(_)
            | AuthQuestion::ClientCertificate(_)
            | AuthQuestion::Anonymous(_)
            | AuthQuestion::Other
            | _ => of_unanswered(&Unanswered::NotOffered, request.mechanism()),
        }
    }

    fn knows(&self, _: &AuthRequest) -> Knows {
        Knows::WhenAsked
    }

    fn answers(&self, mechanism: &str) -> Answers {
        let is = |name: &str| name.eq_ignore_ascii_case(mechanism);
        // XOAUTH2 always says whose the token is, so either will do for it.
        let by = match (is("OAUTHBEARER"), is("XOAUTH2")) {
            (true, _) => &["OAUTHBEARER"][..],
            (_, true) => &["OAUTHBEARER", "XOAUTH2"],
            _ if is_password_mechanism(mechanism) => return Answers::ForAll,
            _ => return Answers::ForNone,
        };
        // What it has not told yet it may have.
        let Ok(offered) = self.mechanisms() else { return Answers::ForSome };
        let has_any = offered.iter().any(|offered| by.iter().any(|name| offered.name == *name));
        if has_any { Answers::ForSome } else { Answers::ForNone }
    }
}

impl Dovecot {
    /// Asks about each form of a password until one is right: after that, Dovecot would count the other as a failed login.
    fn check_password(&self, request: &AuthRequest, password: Password<'_>) -> AuthResult {
        let mut refused = AuthResult::refuse();
        for form in password.forms() {
            let Some(response) = plain(request, form) else { return AuthResult::refuse() };
            let result = self.ask(request, "PLAIN".into(), &response);
            match result.refusal() {
                // What only one of the two is told, that the user may not log in for example, is the reason.
                Some(Refusal::BadCredentials) => {}
                Some(_) => refused = result,
                None => return result,
            }
        }
        refused
    }

    fn ask(&self, request: &AuthRequest, mechanism: MechanismName, response: &[u8]) -> AuthResult {
        let client = Client { peer: request.peer(), tls: request.tls(), local: None, session_id: None };
        match client.begin(&self.server, mechanism, Some(response)).and_then(|begun| self.after_error(mechanism, begun))
        {
            Ok(Reply::Accepted(fields)) => match of_accepted(fields, mechanism) {
                // Dovecot was asked with the authzid, and has let this user act as that one.
                Accepted::Result(result) => result.granting_authzid(),
                Accepted::Challenge(..) => out_of_step(mechanism),
            },
            Ok(Reply::Refused(fields)) => of_refused(&fields, mechanism),
            Ok(Reply::Challenge(_)) => out_of_step(mechanism),
            Err(unanswered) => of_unanswered(&unanswered, mechanism),
        }
    }

    /// The mechanism and its message, of those that Dovecot offers.
    fn bearer(
        &self,
        request: &AuthRequest,
        token: &BearerToken,
    ) -> Result<(MechanismName, Zeroizing<Vec<u8>>), Unanswered> {
        let offered = self.mechanisms()?;
        let is_offered = |name: &str| offered.iter().any(|mechanism| mechanism.name == name);
        let credentials = request.credentials();
        // XOAUTH2 has an authcid, OAUTHBEARER perhaps an authzid: either is whom the token is for.
        let user = Some(credentials.authcid()).filter(|user| !user.is_empty()).or(credentials.authzid());
        let token = token.token().expose_secret();
        if is_offered("OAUTHBEARER") {
            let name = user.map(|user| format!("a={}", user.replace('=', "=3D").replace(',', "=2C")));
            let header = format!("n,{},", name.unwrap_or_default());
            let parts = [header.as_bytes(), b"\x01auth=Bearer ", token, b"\x01\x01"];
            Ok(("OAUTHBEARER".into(), concat(&parts)))
        } else if let Some(user) = user.filter(|_| is_offered("XOAUTH2")) {
            let parts = [b"user=", user.as_bytes(), b"\x01auth=Bearer ", token, b"\x01\x01"];
            Ok(("XOAUTH2".into(), concat(&parts)))
        } else {
            Err(Unanswered::NotOffered)
        }
    }

    /// A refused token comes with an error challenge first, to which any response leads to the end (RFC 7628, section
    /// 3.2.3).
    fn after_error(&self, mechanism: MechanismName, begun: (Request, Reply)) -> Result<Reply, Unanswered> {
        let (mut request, reply) = begun;
        if !matches!(reply, Reply::Challenge(_)) || mechanism == "PLAIN" {
            return Ok(reply);
        }
        let line = Line::new("CONT", request.id()).base64("", b"\x01").finish().map_err(|_| Unanswered::TooLong)?;
        let _place = self.server.enter()?;
        match request.ask(line, self.deadline())? {
            // It would be a login behind an error.
            Reply::Accepted(_) => Err(Error::Protocol("it accepts what it has refused").into()),
            reply @ (Reply::Challenge(_) | Reply::Refused(_)) => Ok(reply),
        }
    }
}

/// RFC 4616. `None` where it would not say what is meant: nobody's password.
fn plain(request: &AuthRequest, password: SecretRef<'_>) -> Option<Zeroizing<Vec<u8>>> {
    let (authcid, password) = (request.credentials().authcid(), password.expose_secret());
    let authzid = request.credentials().authzid().unwrap_or_default();
    let fits = !authcid.is_empty() && !password.is_empty();
    let parts = [authzid.as_bytes(), authcid.as_bytes(), password];
    if !fits || parts.iter().any(|part| part.contains(&0)) {
        return None;
    }
    Some(concat(&[authzid.as_bytes(), b"\0", authcid.as_bytes(), b"\0", password]))
}

/// In an allocation that does not grow, as it would leave a copy.
fn concat(parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(parts.concat())
}

fn out_of_step(mechanism: MechanismName) -> AuthResult {
    tracing::warn!(%mechanism, "cannot check a login with Dovecot: it asks for more than the mechanism has");
    AuthResult::cannot_tell()
}
