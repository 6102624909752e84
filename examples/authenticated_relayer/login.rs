//! What the user database says to each mechanism's question.

use sansmtp::{AuthQuestion, AuthRequest, AuthResult, Refusal};

use crate::user_name;
use crate::users::{Check, Error, Keep, Scram, User, Users};

/// Answers a login. What the peer hears does not tell an unknown user and a disabled one from a wrong password.
pub(crate) fn authenticate(users: &Users, keep: Keep, request: &AuthRequest) -> AuthResult {
    let authcid = request.credentials().authcid();
    let result = match request.question() {
        AuthQuestion::Password(password) => users.check_password(authcid, password.expose_secret(), keep).map(of_check),
        AuthQuestion::ScramKeys(hash) => users.scram_keys(authcid, hash).map(of_scram),
        AuthQuestion::CramMd5(response) => users.check_cram_md5(authcid, response).map(of_check),
        AuthQuestion::BearerToken(token) => {
            users.find_by_token(token.token().expose_secret()).map(|user| of_token(user, authcid))
        }
        AuthQuestion::ClientCertificate(chain) => find_by_certificate(users, chain).map(of_certificate),
        AuthQuestion::Anonymous(_) | AuthQuestion::Other | _ => return AuthResult::cannot_tell(),
    };
    result.unwrap_or_else(|error| {
        tracing::error!(%error, mechanism = %request.mechanism(), "cannot check a login");
        AuthResult::cannot_tell()
    })
}

fn of_check(check: Check) -> AuthResult {
    match check {
        Check::Accepted => AuthResult::accept(),
        Check::Disabled => AuthResult::refuse_because(Refusal::Disabled),
        Check::NoKey => AuthResult::refuse_because(Refusal::PasswordTransitionNeeded),
        Check::UnknownUser => AuthResult::refuse_because(Refusal::UnknownUser),
        Check::WrongPassword => AuthResult::refuse(),
    }
}

fn of_scram(scram: Scram) -> AuthResult {
    let disabled = || AuthResult::refuse_because(Refusal::Disabled);
    match scram {
        Scram::Keys(keys) => AuthResult::scram_keys(keys),
        Scram::Disabled(Some(keys)) => disabled().with_scram_keys(keys),
        Scram::Disabled(None) => disabled(),
        Scram::NoKeys => AuthResult::refuse_because(Refusal::PasswordTransitionNeeded),
        Scram::UnknownUser => AuthResult::refuse_because(Refusal::UnknownUser),
    }
}

/// XOAUTH2 says whose the token should be; OAUTHBEARER leaves that to the token.
fn of_token(user: Option<User>, authcid: &str) -> AuthResult {
    match user {
        Some(user) if authcid.is_empty() || authcid == user.name => of_user(user),
        Some(_) | None => AuthResult::refuse(),
    }
}

fn of_certificate(user: Option<User>) -> AuthResult {
    user.map_or_else(|| AuthResult::refuse_because(Refusal::UnknownUser), of_user)
}

fn of_user(user: User) -> AuthResult {
    if user.disabled {
        AuthResult::refuse_because(Refusal::Disabled).with_login(user.name)
    } else {
        AuthResult::accept().with_login(user.name)
    }
}

/// The user whom a verified certificate names; of several, the first that there is.
fn find_by_certificate(users: &Users, chain: &[Vec<u8>]) -> Result<Option<User>, Error> {
    for name in user_name::of_certificate(chain) {
        if let Some(user) = users.find(&name)? {
            return Ok(Some(user));
        }
    }
    Ok(None)
}

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;
