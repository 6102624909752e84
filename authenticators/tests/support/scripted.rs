//! Authenticators that say what a test wants, and note down that they were asked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use sansmtp::auth::AuthQuestion;
use sansmtp::{AuthRequest, AuthResult, Refusal};
use sansmtp_authenticators::{Authenticator, Knows};

/// What the members of a chain were asked, in order: `"1 knows"`, `"2 authenticates"`, ….
pub(crate) type Asked = Arc<Mutex<Vec<String>>>;

/// One that says the same to everybody.
#[derive(Clone, Debug)]
pub(crate) struct Scripted {
    pub(crate) name: usize,
    pub(crate) knows: Knows,
    /// `None` where it must not be asked.
    pub(crate) result: Option<AuthResult>,
    pub(crate) asked: Asked,
}

impl Authenticator for Scripted {
    fn authenticate(&self, _: &AuthRequest) -> AuthResult {
        self.asked.lock().unwrap().push(format!("{} authenticates", self.name));
        self.result.clone().expect("it is not to be asked")
    }

    fn knows(&self, _: &AuthRequest) -> Knows {
        self.asked.lock().unwrap().push(format!("{} knows", self.name));
        self.knows
    }
}

/// Users with passwords in the clear, which can be out of order for a while.
pub(crate) struct Users {
    users: Mutex<Vec<(String, String)>>,
    pub(crate) out_of_order: AtomicBool,
    asked: Mutex<usize>,
    knows: fn(bool) -> Knows,
}

impl Users {
    /// Whose `knows` says what this makes of there being such a user.
    pub(crate) fn new<'u>(users: impl IntoIterator<Item = &'u (&'u str, &'u str)>, knows: fn(bool) -> Knows) -> Self {
        let users = users.into_iter().map(|(user, password)| ((*user).to_owned(), (*password).to_owned())).collect();
        Self { users: Mutex::new(users), out_of_order: AtomicBool::new(false), asked: Mutex::new(0), knows }
    }

    pub(crate) fn set_password(&self, user: &str, password: &str) {
        let mut users = self.users.lock().unwrap();
        users.retain(|(known, _)| known != user);
        users.push((user.to_owned(), password.to_owned()));
    }

    /// How often `authenticate` was called since this was asked.
    pub(crate) fn take_asked(&self) -> usize {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn password(&self, request: &AuthRequest) -> Option<String> {
        let users = self.users.lock().unwrap();
        let found = users.iter().find(|(user, _)| user == request.credentials().authcid());
        found.map(|(_, password)| password.clone())
    }
}

impl Authenticator for Users {
    fn authenticate(&self, request: &AuthRequest) -> AuthResult {
        *self.asked.lock().unwrap() += 1;
        if self.out_of_order.load(Ordering::SeqCst) {
            return AuthResult::cannot_tell();
        }
        match (request.question(), self.password(request)) {
            (AuthQuestion::Password(_), None) => AuthResult::refuse_because(Refusal::UnknownUser),
            (AuthQuestion::Password(given), Some(password)) if given.ct_eq(password.as_bytes()) => AuthResult::accept(),
            (AuthQuestion::Password(_), Some(_)) => AuthResult::refuse(),
            _ => AuthResult::cannot_tell(),
        }
    }

    fn knows(&self, request: &AuthRequest) -> Knows {
        if self.out_of_order.load(Ordering::SeqCst) {
            return Knows::CannotTell;
        }
        // Whoever has no tokens knows nobody by one.
        let is_password = matches!(request.question(), AuthQuestion::Password(_));
        if is_password { (self.knows)(self.password(request).is_some()) } else { Knows::No }
    }
}

/// As a database knows them.
pub(crate) fn looked_up(is_user: bool) -> Knows {
    if is_user { Knows::Yes } else { Knows::No }
}

/// As an LDAP server that allows nothing but binds.
pub(crate) fn when_asked(_: bool) -> Knows {
    Knows::WhenAsked
}
