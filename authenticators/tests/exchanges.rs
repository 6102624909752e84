//! Whole exchanges, of a client that knows the mechanisms, with the engine, over each store that can be changed.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use rcgen::{CertificateParams, DnType, KeyPair};
use sansmtp::auth::mechanism::{CramMd5, External, OAuthBearer, Scram, XOAuth2};
use sansmtp::auth::{MalformedCredentials, ScramHash};
use sansmtp::{Action, Auth, AuthFailure, Config, Connection, Event, Peer, Refusal, TlsInfo, TlsVersion};
use sansmtp_authenticators::memory::Memory;
use sansmtp_authenticators::sqlite::Sqlite;
use sansmtp_authenticators::stored::{
    AccountError, Accounts, Keep, NewPassword, SCRAM_ITERATIONS, Stored, WritableStore,
};
use sansmtp_authenticators::{Answers, Authenticator};
use sha2::{Digest, Sha256};

type Users = Arc<dyn WritableStore>;

/// Makes a test over each store.
macro_rules! over_each_store {
    ($($case:ident,)*) => {
        mod memory {
            $(#[test] fn $case() { super::$case(super::Server::in_memory) })*
        }
        mod sqlite {
            $(#[test] fn $case() { super::$case(super::Server::in_sqlite) })*
        }
    };
}

over_each_store! {
    a_hash_that_was_made_elsewhere_is_as_good,
    mistakes_have_their_own_errors,
    one_password_opens_every_mechanism_for_passwords,
    unknown_and_disabled_users_are_asked_as_before,
    the_first_login_with_a_password_makes_its_keys,
    a_cram_md5_key_is_made_only_when_asked_for,
    whoever_gets_no_keys_looks_as_if_there_were_no_such_user,
    a_new_password_replaces_all_keys_and_leaves_tokens,
    names_and_passwords_are_prepared_when_they_are_stored,
    a_token_is_its_users_until_it_is_revoked,
    a_certificate_names_a_user_who_may_log_in,
}

struct Server {
    _directory: Option<tempfile::TempDir>,
    store: Users,
    users: Accounts<Users>,
    authenticator: Stored<Users>,
    config: Arc<Config>,
    /// What the clients' TLS knows of them.
    tls: Option<TlsInfo>,
}

/// How a login ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    LoggedIn(String),
    /// With this reply, for this reason.
    Refused(String, Option<Refusal>),
}

impl Server {
    fn in_memory(keep: Keep) -> Self {
        Self::over(None, Arc::new(Memory::new().unwrap()), keep)
    }

    fn in_sqlite(keep: Keep) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Sqlite::open_or_create(&directory.path().join("mail.db")).unwrap());
        Self::over(Some(directory), store, keep)
    }

    fn over(directory: Option<tempfile::TempDir>, store: Users, keep: Keep) -> Self {
        let scram = |hash| Scram::new(hash).iterations(SCRAM_ITERATIONS).tell_invalid_proof(false);
        let auth = Auth::new()
            .mechanism(scram(ScramHash::Sha256))
            .mechanism(scram(ScramHash::Sha1))
            .mechanism(CramMd5::new())
            .mechanism(OAuthBearer::new())
            .mechanism(XOAuth2::new())
            .mechanism(External::new())
            .require_tls(false)
            .salt_key(store.salt_key().unwrap())
            .pause(Duration::ZERO, Duration::ZERO);
        let config = Config::builder("mx.example").auth(auth).implicit_tls(true).build().unwrap();
        let authenticator = Stored::new(Arc::clone(&store)).unwrap().keep(keep);
        let users = Accounts::new(Arc::clone(&store));
        Self { _directory: directory, store, users, authenticator, config, tls: None }
    }

    /// The same users, and other keys are kept.
    fn keeping(self, keep: Keep) -> Self {
        Self::over(self._directory, self.store, keep)
    }

    /// Sends AUTH, answers each challenge as `client` says, and hears how it ends.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other actions are not for logins")]
    fn auth(&self, mechanism: &str, initial: Option<&str>, mut client: impl FnMut(&str) -> String) -> End {
        let mut connection = Connection::new(Arc::clone(&self.config), Peer::local());
        if let Some(tls) = &self.tls {
            connection.tls_established(tls.clone()).unwrap();
        }
        let initial = match initial {
            None => String::new(),
            // RFC 4954, section 4.
            Some("") => " =".to_owned(),
            Some(initial) => format!(" {}", STANDARD.encode(initial)),
        };
        let mut pending = format!("EHLO c.example\r\nAUTH {mechanism}{initial}\r\n").into_bytes();
        let (mut reply, mut refusal) = (String::new(), None);
        loop {
            let octets = std::mem::take(&mut pending);
            let mut input = octets.as_slice();
            loop {
                match connection.poll(Duration::ZERO, &mut input) {
                    Action::Reply(line) => reply = line.to_string(),
                    Action::Challenge(challenge) => {
                        let challenge = challenge.to_string();
                        let text = STANDARD.decode(challenge.trim_start_matches("334 ").trim_end()).unwrap();
                        let response = client(std::str::from_utf8(&text).unwrap());
                        pending = format!("{}\r\n", STANDARD.encode(response)).into_bytes();
                    }
                    Action::CallAuthenticator(request) => {
                        let result = self.authenticator.authenticate(&request);
                        assert!(!format!("{result:?} {request:?}").contains("tanstaaf"));
                        connection.answer(request.answer(result)).unwrap();
                    }
                    Action::Event(Event::AuthFailed { reason: AuthFailure::Refused(reason), .. }) => {
                        refusal = Some(reason);
                    }
                    Action::NeedInput { .. } => break,
                    _ => {}
                }
            }
            if pending.is_empty() {
                break;
            }
        }
        match connection.session().login() {
            Some(login) if connection.session().is_authenticated() => End::LoggedIn(login.to_owned()),
            _ => End::Refused(reply.chars().take(9).collect(), refusal),
        }
    }

    fn plain(&self, user: &str, password: &str) -> End {
        self.auth("PLAIN", Some(&format!("\0{user}\0{password}")), |_| unreachable!())
    }

    fn cram_md5(&self, user: &str, password: &str) -> End {
        self.auth("CRAM-MD5", None, |challenge| {
            let mut hmac = Hmac::<Md5>::new_from_slice(password.as_bytes()).unwrap();
            hmac.update(challenge.as_bytes());
            let digest: String = hmac.finalize().into_bytes().iter().map(|octet| format!("{octet:02x}")).collect();
            format!("{user} {digest}")
        })
    }

    fn scram_sha_256(&self, user: &str, password: &str) -> End {
        self.scram_sha_256_with_salt(user, password).0
    }

    /// Also says which salt and how many iterations the server asked for.
    fn scram_sha_256_with_salt(&self, user: &str, password: &str) -> (End, String) {
        let hmac = |key: &[u8], message: &[u8]| -> [u8; 32] {
            let mut hmac = Hmac::<Sha256>::new_from_slice(key).unwrap();
            hmac.update(message);
            hmac.finalize().into_bytes().into()
        };
        let bare = format!("n={user},r=nonce");
        let mut asked = String::new();
        let end = self.auth("SCRAM-SHA-256", Some(&format!("n,,{bare}")), |challenge| {
            if !challenge.starts_with("r=") {
                // The server's signature, or its error.
                return String::new();
            }
            let (nonce, rest) = challenge.split_once(",s=").unwrap();
            let (salt, iterations) = rest.split_once(",i=").unwrap();
            asked = rest.to_owned();
            let mut salted = [0; 32];
            let (salt, iterations) = (STANDARD.decode(salt).unwrap(), iterations.parse().unwrap());
            pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), &salt, iterations, &mut salted);
            let client_key = hmac(&salted, b"Client Key");
            let unproved = format!("c=biws,{nonce}");
            let signed = format!("{bare},{challenge},{unproved}");
            let signature = hmac(&Sha256::digest(client_key), signed.as_bytes());
            let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, octet)| key ^ octet).collect();
            format!("{unproved},p={}", STANDARD.encode(proof))
        });
        (end, asked)
    }

    fn oauthbearer(&self, token: &str) -> End {
        self.auth("OAUTHBEARER", Some(&format!("n,,\u{1}auth=Bearer {token}\u{1}\u{1}")), |_| "\u{1}".to_owned())
    }

    fn xoauth2(&self, user: &str, token: &str) -> End {
        let response = format!("user={user}\u{1}auth=Bearer {token}\u{1}\u{1}");
        self.auth("XOAUTH2", Some(&response), |_| String::new())
    }
}

fn logged_in(user: &str) -> End {
    End::LoggedIn(user.to_owned())
}

fn refused(refusal: Refusal) -> End {
    End::Refused("535 5.7.8".to_owned(), Some(refusal))
}

/// Nothing is in store for the mechanism, which only the event tells.
fn keyless() -> End {
    refused(Refusal::NoKeys)
}

fn one_password_opens_every_mechanism_for_passwords(start: Start) {
    let server = start(Keep::ScramAndCramMd5);
    server.users.add("tim", PASSWORD.as_bytes(), Keep::ScramAndCramMd5).unwrap();
    type Login = fn(&Server, &str, &str) -> End;
    for login in [Server::plain as Login, Server::scram_sha_256, Server::cram_md5] {
        assert_eq!(login(&server, "tim", PASSWORD), logged_in("tim"));
        assert_eq!(login(&server, "tim", "wrong"), refused(Refusal::BadCredentials));
        assert_eq!(login(&server, "tom", PASSWORD), refused(Refusal::UnknownUser));
        server.users.set_disabled("tim", true).unwrap();
        assert_eq!(login(&server, "tim", PASSWORD), refused(Refusal::Disabled));
        server.users.set_disabled("tim", false).unwrap();
    }
}

fn unknown_and_disabled_users_are_asked_as_before(start: Start) {
    let server = start(Keep::Scram);
    server.users.add("tim", PASSWORD.as_bytes(), Keep::Scram).unwrap();
    let known = server.scram_sha_256_with_salt("tim", "wrong").1;
    server.users.set_disabled("tim", true).unwrap();
    assert_eq!(server.scram_sha_256_with_salt("tim", "wrong").1, known);
    let unknown = server.scram_sha_256_with_salt("tom", "wrong").1;
    assert_eq!(server.scram_sha_256_with_salt("tom", "wrong").1, unknown);
    assert_eq!(unknown.len(), known.len());
    let iterations = format!(",i={SCRAM_ITERATIONS}");
    assert!(unknown.ends_with(&iterations) && known.ends_with(&iterations) && unknown != known);
}

fn the_first_login_with_a_password_makes_its_keys(start: Start) {
    let server = start(Keep::ScramAndCramMd5);
    for name in ["tim", "old"] {
        server.users.add(name, PASSWORD.as_bytes(), Keep::Nothing).unwrap();
    }
    assert_eq!(server.scram_sha_256("tim", PASSWORD), keyless());
    assert_eq!(server.cram_md5("tim", PASSWORD), keyless());
    assert_eq!(server.plain("tim", "wrong"), refused(Refusal::BadCredentials));
    assert_eq!(server.scram_sha_256("tim", PASSWORD), keyless());

    assert_eq!(server.plain("tim", PASSWORD), logged_in("tim"));
    assert_eq!(server.scram_sha_256("tim", PASSWORD), logged_in("tim"));
    assert_eq!(server.cram_md5("tim", PASSWORD), logged_in("tim"));
    assert_eq!(server.scram_sha_256("tim", "wrong"), refused(Refusal::BadCredentials));
    // A user who may not log in is like any whose password is wrong.
    server.users.set_disabled("old", true).unwrap();
    assert_eq!(server.scram_sha_256("old", PASSWORD), refused(Refusal::Disabled));
    assert_eq!(server.plain("old", PASSWORD), refused(Refusal::Disabled));
    server.users.set_disabled("old", false).unwrap();
    assert_eq!(server.scram_sha_256("old", PASSWORD), keyless());
}

fn a_cram_md5_key_is_made_only_when_asked_for(start: Start) {
    let server = start(Keep::Scram);
    server.users.add("tim", PASSWORD.as_bytes(), Keep::Scram).unwrap();
    assert_eq!(server.plain("tim", PASSWORD), logged_in("tim"));
    assert_eq!(server.cram_md5("tim", PASSWORD), keyless());
    // The server offers CRAM-MD5 from now on.
    let server = server.keeping(Keep::ScramAndCramMd5);
    assert_eq!(server.cram_md5("tim", PASSWORD), keyless());
    assert_eq!(server.plain("tim", PASSWORD), logged_in("tim"));
    assert_eq!(server.cram_md5("tim", PASSWORD), logged_in("tim"));
}

fn whoever_gets_no_keys_looks_as_if_there_were_no_such_user(start: Start) {
    let server = start(Keep::Nothing);
    server.users.add("tim", PASSWORD.as_bytes(), Keep::Nothing).unwrap();
    assert_eq!(server.plain("tim", PASSWORD), logged_in("tim"));
    let (refusal, asked) = server.scram_sha_256_with_salt("tim", PASSWORD);
    assert_eq!(refusal, keyless());
    assert_eq!(asked.len(), server.scram_sha_256_with_salt("tom", PASSWORD).1.len());
    assert_eq!(server.scram_sha_256_with_salt("tim", PASSWORD).1, asked);
    assert_eq!(server.cram_md5("tim", PASSWORD), keyless());
    assert_eq!(server.authenticator.answers("SCRAM-SHA-256"), Answers::ForSome);
    let mut server = server.keeping(Keep::Scram);
    assert_eq!(server.authenticator.answers("SCRAM-SHA-256"), Answers::ForAll);
    assert_eq!(server.scram_sha_256("tim", PASSWORD), keyless());
    assert_eq!(server.scram_sha_256("tom", PASSWORD), refused(Refusal::UnknownUser));
    // Unless it is asked for by name.
    server.authenticator = server.authenticator.reveal_users_without_keys(true);
    let told = End::Refused("432 4.7.1".to_owned(), Some(Refusal::PasswordTransitionNeeded));
    assert_eq!(
        [server.scram_sha_256("tim", PASSWORD), server.cram_md5("tim", PASSWORD)],
        [(); 2].map(|()| told.clone())
    );
}

fn a_new_password_replaces_all_keys_and_leaves_tokens(start: Start) {
    let server = start(Keep::Scram);
    server.users.add("tim", b"old password", Keep::ScramAndCramMd5).unwrap();
    let token = server.users.add_token("tim").unwrap();
    server.users.set_password("tim", PASSWORD.as_bytes(), Keep::Scram).unwrap();
    assert_eq!(server.scram_sha_256("tim", "old password"), refused(Refusal::BadCredentials));
    assert_eq!(server.scram_sha_256("tim", PASSWORD), logged_in("tim"));
    assert_eq!(server.cram_md5("tim", "old password"), keyless());
    assert_eq!(server.oauthbearer(&token), logged_in("tim"));
    server.users.set_password("tim", PASSWORD.as_bytes(), Keep::ScramAndCramMd5).unwrap();
    assert_eq!(server.cram_md5("tim", PASSWORD), logged_in("tim"));
}

fn names_and_passwords_are_prepared_when_they_are_stored(start: Start) {
    let server = start(Keep::ScramAndCramMd5);
    server.users.add("Jose\u{301}", "pa\u{308}ss\u{ad}word\u{a0}1".as_bytes(), Keep::ScramAndCramMd5).unwrap();
    for password in ["pässword 1", "pa\u{308}ss\u{ad}word\u{a0}1"] {
        assert_eq!(server.plain("José", password), logged_in("José"));
    }
    assert_eq!(server.plain("Jose\u{301}", "pässword 1"), logged_in("José"));
    assert_eq!(server.scram_sha_256("José", "pässword 1"), logged_in("José"));
    assert_eq!(server.cram_md5("José", "pässword 1"), logged_in("José"));
    server.users.delete("Jose\u{301}").unwrap();
}

fn a_token_is_its_users_until_it_is_revoked(start: Start) {
    let server = start(Keep::Scram);
    server.users.add("tim", PASSWORD.as_bytes(), Keep::Scram).unwrap();
    server.users.add("tom", PASSWORD.as_bytes(), Keep::Scram).unwrap();
    let (first, second) = (server.users.add_token("tim").unwrap(), server.users.add_token("tim").unwrap());
    let of_tom = server.users.add_token("tom").unwrap();
    assert_ne!(*first, *second);
    for token in [&first, &second] {
        assert_eq!(server.oauthbearer(token), logged_in("tim"));
        assert_eq!(server.xoauth2("tim", token), logged_in("tim"));
        assert_eq!(server.xoauth2("tom", token), refused(Refusal::BadCredentials));
    }
    assert_eq!(server.oauthbearer("noToken"), refused(Refusal::BadCredentials));
    // A token is no password, and a password no token.
    assert_eq!(server.plain("tim", &first), refused(Refusal::BadCredentials));
    assert_eq!(server.oauthbearer(PASSWORD), refused(Refusal::BadCredentials));

    server.users.set_disabled("tim", true).unwrap();
    assert_eq!(server.oauthbearer(&first), refused(Refusal::Disabled));
    assert_eq!(server.xoauth2("tim", &first), refused(Refusal::Disabled));
    server.users.set_disabled("tim", false).unwrap();

    assert_eq!(server.users.drop_tokens("tim").unwrap(), 2);
    assert_eq!(server.users.drop_tokens("tim").unwrap(), 0);
    assert_eq!(server.oauthbearer(&first), refused(Refusal::BadCredentials));
    assert_eq!(server.xoauth2("tim", &second), refused(Refusal::BadCredentials));
    assert_eq!(server.oauthbearer(&of_tom), logged_in("tom"));
    server.users.delete("tom").unwrap();
    server.users.add("tom", PASSWORD.as_bytes(), Keep::Scram).unwrap();
    assert_eq!(server.oauthbearer(&of_tom), refused(Refusal::BadCredentials));
}

fn a_certificate_names_a_user_who_may_log_in(start: Start) {
    let mut server = start(Keep::Scram);
    server.users.add("tim", PASSWORD.as_bytes(), Keep::Scram).unwrap();
    server.users.add("tom", PASSWORD.as_bytes(), Keep::Scram).unwrap();
    server.users.set_disabled("tom", true).unwrap();
    let mut external = |name: &str, authzid: &str| {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        let certificate = parameters.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let mut tls = TlsInfo::new(TlsVersion::Tls1_3, "TLS13_AES_256_GCM_SHA384");
        tls.peer_certificates = vec![certificate.der().to_vec()];
        server.tls = Some(tls);
        server.auth("EXTERNAL", Some(authzid), |_| unreachable!())
    };
    assert_eq!(external("tim", ""), logged_in("tim"));
    assert_eq!(external("tim", "tim"), logged_in("tim"));
    assert_eq!(external("tim", "tom"), refused(Refusal::AuthzidNotGranted));
    assert_eq!(external("tom", ""), refused(Refusal::Disabled));
    assert_eq!(external("somebody", ""), refused(Refusal::UnknownUser));
}

fn mistakes_have_their_own_errors(start: Start) {
    let Server { users, .. } = &start(Keep::Scram);
    users.add("tim", b"x", Keep::Nothing).unwrap();
    assert!(matches!(users.add("tim", b"y", Keep::Scram), Err(AccountError::Exists(_))));
    assert!(matches!(users.set_password("tam", b"y", Keep::Scram), Err(AccountError::Unknown(_))));
    assert!(matches!(users.set_disabled("tam", true), Err(AccountError::Unknown(_))));
    assert!(matches!(users.delete("tam"), Err(AccountError::Unknown(_))));
    assert!(matches!(users.add_token("tam"), Err(AccountError::Unknown(_))));
    assert!(matches!(users.drop_tokens("tam"), Err(AccountError::Unknown(_))));
    let refused = |password: &[u8]| users.add("tam", password, Keep::Scram).unwrap_err();
    assert!(matches!(refused(b""), AccountError::EmptyPassword));
    assert!(matches!(refused(b"a\0b"), AccountError::NulInPassword));
    assert!(matches!(refused(b"a\tb"), AccountError::Password(MalformedCredentials::Prohibited(_))));
    assert!(matches!(refused(b"\xFF"), AccountError::Password(MalformedCredentials::NotUtf8)));
    let told = refused("שלום123".as_bytes()).to_string();
    assert!(told.contains("right-to-left") && !told.contains("שלום") && !told.contains("control"), "{told}");
    assert!(matches!(refused(&[b'x'; 1025]), AccountError::LongPassword));
    for name in ["", "a\0b", "a\nb", "a\u{7f}", &"x".repeat(256)] {
        assert!(matches!(users.add(name, b"x", Keep::Scram), Err(AccountError::Name(_))), "{name:?}");
    }
    users.add(&"x".repeat(255), &[b'x'; 1024], Keep::Nothing).unwrap();
    let names: Vec<_> = users.list().unwrap().into_iter().map(|user| user.name).collect();
    assert_eq!(names, ["tim".to_owned(), "x".repeat(255)]);
    assert!(matches!(NewPassword::new(b"", Keep::Nothing), Err(AccountError::EmptyPassword)));
}

fn a_hash_that_was_made_elsewhere_is_as_good(start: Start) {
    let server = start(Keep::Scram);
    // Of "pencil" (RFC 7677, section 3), as PostgreSQL writes it, and of "U*U", a vector of Openwall's.
    let keys = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
                WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    server.users.add_hash("pen", keys).unwrap();
    server.users.add_hash("tim", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW").unwrap();
    assert!(matches!(server.users.add_hash("tom", "{PLAIN}U*U"), Err(AccountError::Unreadable(_))));
    assert!(matches!(server.users.add_hash("tim", keys), Err(AccountError::Exists(_))));
    // There are keys of its own for the one mechanism, and the first login makes those for all.
    assert_eq!(server.scram_sha_256("pen", "pencil"), logged_in("pen"));
    assert_eq!(server.scram_sha_256("tim", "U*U"), keyless());
    for (name, password) in [("pen", "pencil"), ("tim", "U*U")] {
        assert_eq!(server.plain(name, "wrong"), refused(Refusal::BadCredentials));
        assert_eq!(server.plain(name, password), logged_in(name));
        assert_eq!(server.scram_sha_256(name, password), logged_in(name));
        assert_eq!(server.scram_sha_256(name, "wrong"), refused(Refusal::BadCredentials));
        assert_eq!(server.plain(name, password), logged_in(name));
    }
}

type Start = fn(Keep) -> Server;

const PASSWORD: &str = "tanstaaftanstaaf";
