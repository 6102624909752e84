//! What AUTH costs in the engine alone, mechanism by mechanism, next to the hashes that its RFC makes the
//! server compute. No socket, no store: what a look-up finds is at hand.
//!
//! ```text
//! cargo bench -p sansmtp --bench sasl
//! ```
//!
//! An exchange begins behind EHLO and ends with the last reply; the client's messages are made beforehand.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sansmtp::auth::{AuthQuestion, ScramHash, ScramKeys, mechanism::CramMd5Key};
use sansmtp::{Action, AuthRequest, AuthResult, Config, Connection, Limits, Peer, Refusal, SecretRef};
use sha2::{Digest as _, Sha256};

#[path = "../tests/support/mechanisms.rs"]
mod mechanisms;
#[path = "../tests/support/scram.rs"]
mod scram;

fn main() {
    divan::main();
}

#[divan::bench_group(sample_size = 100, sample_count = 200)]
mod scram_sha_256 {
    use super::*;

    #[divan::bench]
    fn sansmtp(bencher: Bencher<'_, '_>) {
        bench(bencher, "SCRAM-SHA-256", mechanisms::PASSWORD, b"235", Store::right);
    }

    /// RFC 5802, section 3: the client's signature and key, and the server's signature.
    #[divan::bench]
    fn hashes_of_rfc_5802(bencher: Bencher<'_, '_>) {
        let bare = Bare::new();
        bencher.counter(ItemsCount::new(1_u32)).bench_local(|| bare.proof());
    }

    /// And what makes an unknown user look like any other: a salt that is nobody's.
    #[divan::bench]
    fn hashes_of_rfc_5802_and_salt_of_nobody(bencher: Bencher<'_, '_>) {
        let bare = Bare::new();
        bencher.counter(ItemsCount::new(1_u32)).bench_local(|| (bare.salt_of_nobody(), bare.proof()));
    }

    #[divan::bench]
    fn refused_wrong_password(bencher: Bencher<'_, '_>) {
        bench(bencher, "SCRAM-SHA-256", "guess", b"535", Store::right);
    }

    #[divan::bench]
    fn refused_unknown_user(bencher: Bencher<'_, '_>) {
        bench(bencher, "SCRAM-SHA-256", "guess", b"535", |_, _| AuthResult::refuse_because(Refusal::UnknownUser));
    }

    #[divan::bench]
    fn refused_disabled_account(bencher: Bencher<'_, '_>) {
        bench(bencher, "SCRAM-SHA-256", "guess", b"535", |store, _| {
            AuthResult::refuse_because(Refusal::Disabled).with_scram_keys(store.keys.clone())
        });
    }
}

#[divan::bench_group(sample_size = 100, sample_count = 200)]
mod cram_md5 {
    use super::*;

    #[divan::bench]
    fn sansmtp(bencher: Bencher<'_, '_>) {
        bench(bencher, "CRAM-MD5", mechanisms::PASSWORD, b"235", Store::right);
    }

    /// RFC 2195: one HMAC, here from the password.
    #[divan::bench]
    fn hash_of_rfc_2195(bencher: Bencher<'_, '_>) {
        bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
            let mut hmac = Hmac::<md5::Md5>::new_from_slice(black_box(mechanisms::PASSWORD.as_bytes())).ok();
            hmac.iter_mut().for_each(|hmac| hmac.update(black_box(b"<0.0@mx.example.org>")));
            hmac.map(|hmac| hmac.finalize().into_bytes())
        });
    }
}

#[divan::bench_group(sample_size = 100, sample_count = 200)]
mod without_hashes {
    use super::*;

    #[divan::bench]
    fn oauthbearer(bencher: Bencher<'_, '_>) {
        bench(bencher, "OAUTHBEARER", "", b"235", Store::right);
    }

    #[divan::bench]
    fn xoauth2(bencher: Bencher<'_, '_>) {
        bench(bencher, "XOAUTH2", "", b"235", Store::right);
    }

    #[divan::bench]
    fn plain(bencher: Bencher<'_, '_>) {
        bench(bencher, "PLAIN", mechanisms::PASSWORD, b"235", Store::right);
    }

    #[divan::bench]
    fn login(bencher: Bencher<'_, '_>) {
        bench(bencher, "LOGIN", mechanisms::PASSWORD, b"235", Store::right);
    }
}

/// Runs the mechanism's exchange on one new connection after the other.
fn bench(
    bencher: Bencher<'_, '_>,
    mechanism: &str,
    password: &str,
    code: &[u8; 3],
    answer: impl Fn(&Store, &AuthRequest) -> AuthResult,
) {
    let auth = mechanisms::every_mechanism().pause(Duration::ZERO, Duration::ZERO);
    let builder = Config::builder("mx.example.org").auth(auth).implicit_tls(true).entropy(mechanisms::zeros);
    // One connection serves all of them.
    let builder = builder.limits(Limits { max_errors: None, ..Limits::default() });
    let (config, store) = (builder.build().expect("a configuration"), Store::new());
    let lines = lines(mechanism, password);
    let greeted = || {
        let mut connection = Connection::new(Arc::clone(&config), Peer::local());
        connection.tls_established(mechanisms::tls()).expect("nothing has been said yet");
        step(&mut connection, b"EHLO client.example.com\r\n", |_| AuthResult::cannot_tell());
        connection
    };
    bencher.counter(ItemsCount::new(1_u32)).with_inputs(greeted).bench_local_values(|mut connection| {
        let mut last = [0; 3];
        for line in &lines {
            last = step(&mut connection, black_box(line), |request| answer(&store, request));
        }
        assert_eq!(&last, code);
        // What is left is dropped outside.
        connection
    });
}

/// Each in a segment of its own.
fn lines(mechanism: &str, password: &str) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for message in mechanisms::messages(mechanism, password) {
        let encoded = message.map(|message| STANDARD.encode(message)).unwrap_or_default();
        let start = if lines.is_empty() { format!("AUTH {mechanism} ") } else { String::new() };
        let line = start + &encoded;
        lines.push(format!("{}\r\n", line.trim_end()).into_bytes());
    }
    lines
}

/// Feeds a line, and gives the code of the reply.
fn step(connection: &mut Connection, mut line: &[u8], answer: impl Fn(&AuthRequest) -> AuthResult) -> [u8; 3] {
    let mut code = [0; 3];
    loop {
        match connection.poll(Duration::ZERO, &mut line) {
            Action::Reply(reply) => code = *reply.as_bytes().first_chunk().expect("a code"),
            Action::Challenge(challenge) => {
                black_box(challenge.as_bytes());
            }
            Action::CallAuthenticator(request) => {
                let result = answer(&request);
                connection.answer(request.answer(result)).expect("the question is open");
            }
            Action::NeedInput { .. } | Action::Close => return code,
            Action::Flush { .. } | Action::Event(_) => {}
            other @ (Action::CallAuthHandler(_)
            | Action::CallHook(_)
            | Action::Transmit(_)
            | Action::Content(_)
            | Action::Aborted(_)
            | Action::StartTls
            | Action::AwaitAnswer { .. }
            | Action::Pause { .. }) => panic!("{other:?} does not belong here"),
        }
    }
}

/// What is known of the one user, ready to be compared.
struct Store {
    keys: ScramKeys,
    cram_md5: CramMd5Key,
}

impl Store {
    fn new() -> Self {
        let password = SecretRef::new(mechanisms::PASSWORD.as_bytes());
        Self { keys: mechanisms::keys(ScramHash::Sha256), cram_md5: CramMd5Key::derive(password) }
    }

    fn right(&self, request: &AuthRequest) -> AuthResult {
        let right = match request.question() {
            AuthQuestion::ScramKeys(_) => return AuthResult::scram_keys(self.keys.clone()),
            AuthQuestion::Password(password) => password.ct_eq(mechanisms::PASSWORD.as_bytes()),
            AuthQuestion::CramMd5(response) => response.verify_key(&self.cram_md5),
            AuthQuestion::BearerToken(token) => {
                let right = token.token().ct_eq(mechanisms::TOKEN.as_bytes());
                return if right { AuthResult::accept().with_login(mechanisms::USER) } else { AuthResult::refuse() };
            }
            AuthQuestion::ClientCertificate(_) | AuthQuestion::Anonymous(_) | AuthQuestion::Other | _ => false,
        };
        if right { AuthResult::accept() } else { AuthResult::refuse() }
    }
}

/// The hashes of SCRAM alone, over messages of the same lengths.
struct Bare {
    auth_message: Vec<u8>,
    stored_key: [u8; 32],
    server_key: [u8; 32],
    proof: [u8; 32],
}

impl Bare {
    fn new() -> Self {
        let client = scram::Client::new(ScramHash::Sha256, mechanisms::USER, "guess", mechanisms::SALT, 1);
        let server_first = client.server_first(&"A".repeat(24));
        let last = client.last(&server_first).message;
        let without_proof = last.split(",p=").next().unwrap_or_default();
        let auth_message = format!("{},{server_first},{without_proof}", client.first().trim_start_matches("n,,"));
        Self { auth_message: auth_message.into(), stored_key: [1; 32], server_key: [2; 32], proof: [3; 32] }
    }

    fn proof(&self) -> (bool, [u8; 32]) {
        let client_signature = hmac(black_box(&self.stored_key), &self.auth_message);
        let client_key: Vec<u8> = client_signature.iter().zip(&self.proof).map(|(left, right)| left ^ right).collect();
        let right = Sha256::digest(&client_key)[..] == self.stored_key;
        (right, hmac(black_box(&self.server_key), &self.auth_message))
    }

    fn salt_of_nobody(&self) -> [u8; 32] {
        hmac(black_box(&self.server_key), b"salt\0SCRAM-SHA-256\0tim")
    }
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    hmac.update(message);
    hmac.finalize().into_bytes().into()
}
