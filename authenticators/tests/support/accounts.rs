//! Users about whom a stranger is not to find out anything, and what a stranger does to find out.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sansmtp::auth::ScramHash;
use sansmtp::auth::mechanism::{CramMd5, Scram};
use sansmtp::{Action, Auth, AuthFailure, Config, Connection, Event, Limits, Peer, Refusal};
use sansmtp_authenticators::Authenticator;
use sansmtp_authenticators::stored::{Accounts, Keep, NewPassword, SCRAM_ITERATIONS, WritableStore};

/// Names of the same length, and why each is refused where the password is wrong, and where the mechanism's key is looked
/// for.
pub(crate) const ACCOUNTS: [(&str, Refusal, Refusal); 4] = [
    ("known", Refusal::BadCredentials, Refusal::BadCredentials),
    ("ghost", Refusal::UnknownUser, Refusal::UnknownUser),
    // Whether the password is right counts first, where it can be told.
    ("gated", Refusal::BadCredentials, Refusal::Disabled),
    ("plain", Refusal::BadCredentials, Refusal::NoKeys),
];

pub(crate) const MECHANISMS: [&str; 5] = ["PLAIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// Adds them, but the ghost, and others who have keys: a name without a user is most likely of their kind.
pub(crate) fn add_to<S: WritableStore>(store: S) -> S {
    let others = NewPassword::new(b"another", Keep::ScramAndCramMd5).unwrap();
    (0..60).for_each(|number| assert!(store.insert(&format!("u{number:04}"), &others).unwrap()));
    let users = Accounts::new(store);
    users.add("known", b"tanstaaf", Keep::ScramAndCramMd5).unwrap();
    users.add("gated", b"tanstaaf", Keep::ScramAndCramMd5).unwrap();
    users.set_disabled("gated", true).unwrap();
    users.add("plain", b"tanstaaf", Keep::Nothing).unwrap();
    users.into_store()
}

/// The same in a file: of each user either a hash or keys.
pub(crate) fn lines() -> String {
    let hash = NewPassword::new(b"tanstaaf", Keep::Nothing).unwrap();
    let keys = NewPassword::new(b"tanstaaf", Keep::Scram).unwrap();
    let keys = keys.keys().scram(ScramHash::Sha256).unwrap();
    let others: String = (0..60).map(|number| format!("u{number:04}:{keys}\n")).collect();
    format!("{others}known:{keys}\ngated:!{keys}\nplain:{}\n", hash.hash())
}

pub(crate) fn config() -> Arc<Config> {
    config_of(Auth::new())
}

/// The same with what `auth` has already.
pub(crate) fn config_of(auth: Auth) -> Arc<Config> {
    let scram = |hash| Scram::new(hash).iterations(SCRAM_ITERATIONS);
    let auth = auth
        .mechanism(scram(ScramHash::Sha1))
        .mechanism(scram(ScramHash::Sha256))
        .mechanism(scram(ScramHash::Sha512))
        .mechanism(CramMd5::new())
        .require_tls(false)
        .salt_key([7; 32].as_slice().into())
        .max_failures(u32::MAX)
        .pause(Duration::ZERO, Duration::ZERO);
    let limits = Limits { max_errors: None, max_commands: None, ..Limits::default() };
    let config = Config::builder("mx.example").auth(auth).starttls(true).limits(limits);
    config
        .entropy(|octets| {
            octets.fill(0);
            true
        })
        .build()
        .unwrap()
}

/// A connection behind EHLO.
pub(crate) struct Stranger {
    connection: Connection,
    /// What the server said since the last line.
    pub(crate) said: String,
    pub(crate) refusal: Option<Refusal>,
}

impl Stranger {
    pub(crate) fn new(config: &Arc<Config>) -> Self {
        let connection = Connection::new(Arc::clone(config), Peer::local());
        let mut stranger = Self { connection, said: String::with_capacity(4096), refusal: None };
        stranger.say(b"EHLO c.example\r\n", &sansmtp_authenticators::Chain::new());
        stranger
    }

    /// Sends a line, and hears what is said to it.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other actions are not for logins")]
    pub(crate) fn say(&mut self, line: &[u8], users: &dyn Authenticator) {
        self.said.clear();
        let mut input = line;
        loop {
            match self.connection.poll(Duration::ZERO, &mut input) {
                Action::Reply(reply) => self.said.push_str(std::str::from_utf8(reply.as_bytes()).unwrap()),
                Action::Challenge(challenge) => {
                    self.said.push_str(std::str::from_utf8(challenge.as_bytes()).unwrap());
                }
                Action::CallAuthenticator(request) => {
                    let result = users.authenticate(&request);
                    self.connection.answer(request.answer(result)).unwrap();
                }
                Action::Event(Event::AuthFailed { reason: AuthFailure::Refused(reason), .. }) => {
                    self.refusal = Some(reason);
                }
                Action::NeedInput { .. } => return,
                _ => {}
            }
        }
    }
}

/// The lines of an exchange by which somebody who has no password asks about a user.
pub(crate) fn exchange(mechanism: &str, user: &str) -> Vec<Vec<u8>> {
    let line = |text: String| format!("{text}\r\n").into_bytes();
    let encode = |text: String| BASE64_STANDARD.encode(text);
    match mechanism {
        "PLAIN" => vec![line(format!("AUTH PLAIN {}", encode(format!("\0{user}\0guess"))))],
        "CRAM-MD5" => vec![line("AUTH CRAM-MD5".to_owned()), line(encode(format!("{user} {}", "0".repeat(32))))],
        _ => {
            let first = line(format!("AUTH {mechanism} {}", encode(format!("n,,n={user},r=nonce"))));
            // The server's part of the nonce is what the configuration's entropy makes of zeros.
            let octets = match mechanism {
                "SCRAM-SHA-1" => 20,
                "SCRAM-SHA-256" => 32,
                _ => 64,
            };
            let proof = BASE64_STANDARD.encode(vec![0; octets]);
            vec![first, line(encode(format!("c=biws,r=nonce{},p={proof}", "A".repeat(24)))), line(String::new())]
        }
    }
}
