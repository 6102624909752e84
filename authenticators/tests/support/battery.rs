//! What every authenticator has to pass, against its real server.

use std::sync::Arc;

use super::login::{Door, at_once};

/// The real server of an authenticator, with the [`USERS`] in it.
pub(crate) trait Backend: Sized {
    /// Starts it. `None`, after the reason was printed, where it is not installed; with `CI=true` that is a panic
    /// ([`missing`]).
    fn start() -> Option<Self>;

    /// The way in by the authenticator, which lives on when the server is stopped.
    fn door(&self) -> Arc<dyn Door>;

    /// Stops the server, and waits until it has ended. `false` where there is nothing to stop.
    fn stop(&mut self) -> bool {
        false
    }

    /// Starts it again, where it was, and waits until it can be asked.
    fn start_again(&mut self) {}

    /// The way in by an authenticator whose server accepts connections and never answers, with a short time limit.
    /// `None` where there is no server.
    fn stalled(&self) -> Option<Arc<dyn Door>> {
        None
    }
}

/// Who there is, with the password.
pub(crate) const USERS: [(&str, &str); 4] = [
    ("tim", "tanstaaftanstaaf"),
    ("alice@example.org", "correct horse battery staple"),
    ("jürgen", "pässwörd€"),
    ("o'brien", "quote'and\\backslash\"*)(uid=*"),
];

/// What could be syntax to a server, as a name and as a password.
const INJECTED: [&str; 30] = [
    // SQL.
    "' OR '1'='1",
    "tim' --",
    "tim'; DROP TABLE \"user\"; --",
    "\" OR \"\"=\"",
    "tim\\",
    "$1",
    "?1",
    "%",
    "ti_",
    // LDAP: filters (RFC 4515) and names (RFC 4514).
    "*",
    "t*",
    "tim)(uid=*",
    "*)(|(uid=*",
    "tim,ou=people",
    "uid=tim",
    "cn=admin,dc=example,dc=org",
    "#04024869",
    "tim\\2a",
    "tim+cn=x",
    // Dovecot: fields, lines. (Control characters do not get so far; their escapes might.)
    "tim user=root",
    "tim\\tuser=root",
    "tim\u{a0}nologin",
    "nologin",
    "resp=dGltAHRpbQ==",
    // Files, URLs.
    "tim:x",
    "../tim",
    "tim@",
    "tim%40",
    "tim#",
    "#tim",
];

/// Makes a test of each case.
macro_rules! battery {
    ($backend:ty: $($case:ident,)*) => {
        $(
            #[test]
            fn $case() {
                if let Some(backend) = <$backend as $crate::support::battery::Backend>::start() {
                    $crate::support::battery::$case(backend);
                }
            }
        )*
    };
    ($backend:ty) => {
        $crate::support::battery::battery!($backend:
            the_right_password_and_no_other,
            whoever_is_unknown_is_refused_as_if_the_password_were_wrong,
            what_is_empty_is_refused,
            names_and_passwords_are_never_syntax,
            a_thousand_at_once,
            a_server_that_comes_back_is_asked_again,
            a_server_that_never_answers_is_not_waited_for,
        );
    };
}
pub(crate) use battery;

pub(crate) fn the_right_password_and_no_other(backend: impl Backend) {
    let door = backend.door();
    let are_let_in = || each(&door, USERS, 235);
    are_let_in();
    let wrong = USERS.iter().flat_map(|(user, password)| {
        let others = [format!("{password}x"), "x".to_owned(), password[1..].to_owned(), password.to_uppercase()];
        others.map(|wrong| (*user, wrong))
    });
    each(&door, wrong, 535);
    let others = USERS.iter().map(|(_, password)| password).cycle().skip(1);
    each(&door, USERS.iter().zip(others).map(|((user, _), password)| (user, password)), 535);
    are_let_in();
}

pub(crate) fn whoever_is_unknown_is_refused_as_if_the_password_were_wrong(backend: impl Backend) {
    let unknown = ["nobody", "ti", "timm", "tim@example.org", "TIMOTHY", "юзер", "root"];
    each(&backend.door(), unknown.map(|name| (name, "tanstaaftanstaaf")), 535);
}

pub(crate) fn what_is_empty_is_refused(backend: impl Backend) {
    each(&backend.door(), [("tim", ""), ("", "tanstaaftanstaaf"), ("", "")], 535);
}

pub(crate) fn names_and_passwords_are_never_syntax(backend: impl Backend) {
    let door = backend.door();
    let attempts = INJECTED
        .iter()
        .flat_map(|injected| [(*injected, "tanstaaftanstaaf"), ("tim", *injected), (*injected, *injected)]);
    each(&door, attempts, 535);
    each(&door, USERS, 235);
}

/// All at the same time, as servers may hold refusals back.
fn each<U, P>(door: &Arc<dyn Door>, attempts: impl IntoIterator<Item = (U, P)>, code: u16)
where
    U: AsRef<str> + Send,
    P: AsRef<str> + Send,
{
    std::thread::scope(|scope| {
        for (user, password) in attempts {
            scope.spawn(move || {
                let (user, password) = (user.as_ref(), password.as_ref());
                assert_eq!(door.log_in(user, password), code, "{user:?} with {password:?}");
            });
        }
    });
}

pub(crate) fn a_thousand_at_once(backend: impl Backend) {
    let door = backend.door();
    assert_eq!(at_once(1000, &door, "tim", "tanstaaftanstaaf", 235), 1000);
    assert_eq!(at_once(100, &door, "tim", "wrong", 535), 100);
}

pub(crate) fn a_server_that_comes_back_is_asked_again(mut backend: impl Backend) {
    let door = backend.door();
    assert_eq!(door.log_in("tim", "tanstaaftanstaaf"), 235);
    if !backend.stop() {
        return;
    }
    for (user, password) in [("tim", "tanstaaftanstaaf"), ("tim", "wrong"), ("nobody", "wrong")] {
        assert_eq!(door.log_in(user, password), 454, "{user} with {password:?} while there is no server");
    }
    backend.start_again();
    assert_eq!(door.log_in("tim", "wrong"), 535);
    assert_eq!(door.log_in("tim", "tanstaaftanstaaf"), 235);
}

pub(crate) fn a_server_that_never_answers_is_not_waited_for(backend: impl Backend) {
    if let Some(door) = backend.stalled() {
        assert_eq!(door.log_in("tim", "tanstaaftanstaaf"), 454);
        assert_eq!(at_once(20, &door, "tim", "tanstaaftanstaaf", 454), 20);
    }
}

/// Says why a test does nothing, or fails where it must not.
pub(crate) fn missing(what: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{what} is not installed");
    eprintln!("skipped: {what} is not installed");
}
