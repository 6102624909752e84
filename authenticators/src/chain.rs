//! Several user databases, one behind the other.

use std::fmt;
use std::sync::Arc;

use sansmtp::{AuthRequest, AuthResult, Refusal};

use crate::limit::{self, Limit};
use crate::{Addresses, Answers, Authenticator, Knows};

/// Asks the first of several authenticators that [knows](Authenticator::knows) the user, and no other.
///
/// ```
/// use std::sync::Arc;
///
/// use sansmtp_authenticators::{Authenticator, Chain};
///
/// fn both(staff: Arc<dyn Authenticator>, customers: Arc<dyn Authenticator>) -> Chain {
///     Chain::new().then(staff).then(customers)
/// }
/// ```
///
/// Of two that know a user of the same name, the later one's can never log in: not with a wrong password of the
/// earlier one's, and not while the earlier one [cannot tell](Knows::CannotTell) whether it knows the name. That is
/// `454 4.7.0`, and so is everything else that is neither a yes nor a no of whoever knows the user: a mechanism for
/// which it has nothing in store is not tried elsewhere.
///
/// One that finds out only [when asked](Knows::WhenAsked), and [cannot tell](AuthResult::cannot_tell), ends the search
/// in the same way, for want of a password for example. Where mechanisms are offered that it can do nothing with, it
/// is the last.
///
/// # What the time tells
///
/// Whom nobody knows the last authenticator refuses, as if it were one of its own users whose password is wrong: it
/// has the same questions behind it and the same work to do. (Where it has no answer to the mechanism for anybody,
/// the one before it does so.) A user of an earlier authenticator is found sooner, by the time that the later ones
/// take to look the name up, and is refused by another authenticator: where this takes visibly longer or shorter than
/// the last one does, the time tells that there is such a user, but never anything of the password. So the last is
/// the one whose users are to be hidden best; several that hash alike hide all of them but for the look-ups.
///
/// # How many wait
///
/// Each member has a limit of its own of logins that wait for it, so that one which hangs leaves room for the users of the
/// others. All of them together have one, too: [`max_waiting`](Self::max_waiting).
#[derive(Clone)]
pub struct Chain {
    members: Vec<Arc<dyn Authenticator>>,
    waiting: Arc<Limit>,
}

impl Chain {
    /// A chain without anybody to ask, which [cannot tell](AuthResult::cannot_tell) anything.
    #[must_use]
    pub fn new() -> Self {
        Self { members: Vec::new(), waiting: Arc::new(limit_of(limit::OF_A_CHAIN)) }
    }

    /// How many logins may be under way at the same time, in all members together: 352 unless changed. Each occupies a
    /// thread, so keep it well below the size of the pool that connections share (500 with smol, 512 with tokio). One more
    /// is `454 4.7.0` at once.
    #[must_use]
    pub fn max_waiting(mut self, logins: usize) -> Self {
        self.waiting = Arc::new(limit_of(logins));
        self
    }

    /// Adds an authenticator, to be asked when none of those before it knows the user.
    #[must_use]
    pub fn then(mut self, member: impl Authenticator + 'static) -> Self {
        self.members.push(Arc::new(member));
        self
    }

    /// Has whoever is the last one able to do so refuse a user whom nobody knows. Those that have `refused` already
    /// had to, to find out.
    fn refuse(&self, request: &AuthRequest, refused: Vec<Option<AuthResult>>) -> AuthResult {
        for (member, refused) in self.members.iter().zip(refused).rev() {
            let result = refused.unwrap_or_else(|| member.authenticate(request));
            // It said that it does not know the user, so this is no fault that hides one: it has nothing to say to the
            // mechanism. Refused must be all the same, or only users of those that have would be.
            if !cannot_tell(&result) {
                return result;
            }
        }
        AuthResult::cannot_tell()
    }
}

impl Authenticator for Chain {
    fn authenticate(&self, request: &AuthRequest) -> AuthResult {
        let Some(_place) = self.waiting.enter() else { return AuthResult::cannot_tell() };
        let mut refused = Vec::with_capacity(self.members.len());
        for member in &self.members {
            match member.knows(request) {
                Knows::Yes => return member.authenticate(request),
                Knows::No => refused.push(None),
                Knows::WhenAsked => {
                    let result = member.authenticate(request);
                    if result.refusal() != Some(Refusal::UnknownUser) {
                        return result;
                    }
                    refused.push(Some(result));
                }
                Knows::CannotTell => return AuthResult::cannot_tell(),
            }
        }
        self.refuse(request, refused)
    }

    fn knows(&self, request: &AuthRequest) -> Knows {
        let Some(_place) = self.waiting.enter() else { return Knows::CannotTell };
        self.members.iter().map(|member| member.knows(request)).find(|answer| *answer != Knows::No).unwrap_or(Knows::No)
    }

    /// For all where each of its members does so for all of its users; for none where none does.
    fn answers(&self, mechanism: &str) -> Answers {
        let of_members = self.members.iter().map(|member| member.answers(mechanism));
        let both = |one: Answers, other: Answers| if one == other { one } else { Answers::ForSome };
        of_members.reduce(both).unwrap_or(Answers::ForNone)
    }

    /// Those that the first member has which knows the login, as that is the one that logs it in.
    fn addresses(&self, login: &str) -> Addresses {
        let Some(_place) = self.waiting.enter() else { return Addresses::CannotTell };
        let of_members = self.members.iter().map(|member| member.addresses(login));
        of_members.into_iter().find(|known| *known != Addresses::UnknownLogin).unwrap_or(Addresses::UnknownLogin)
    }
}

impl Default for Chain {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: Authenticator + 'static> FromIterator<A> for Chain {
    fn from_iter<I: IntoIterator<Item = A>>(members: I) -> Self {
        members.into_iter().fold(Self::new(), Self::then)
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("members", &self.members.len()).finish()
    }
}

fn limit_of(logins: usize) -> Limit {
    Limit::new("several authenticators", logins)
}

fn cannot_tell(result: &AuthResult) -> bool {
    !result.success() && !result.handled() && result.refusal().is_none() && result.keys().is_none()
}
