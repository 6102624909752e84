//! Logins with tokens, and those that a cache remembers: a connection with EHLO and AUTH, without sockets.
//!
//! ```text
//! cargo bench -p sansmtp-authenticators --bench tokens
//! ```

#![allow(clippy::unwrap_used, reason = "a panic is how a benchmark fails")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use divan::Bencher;
use sansmtp::{Auth, AuthRequest, AuthResult, Config};
use sansmtp_authenticators::oauth2::{Jwks, Jwt, TokenRules};
use sansmtp_authenticators::{Authenticator, Cache, CacheLimits, Knows};
use serde_json::json;
use support::login::{auth_as, oauthbearer, offer};
use support::signer::{Signer, set};

fn main() {
    divan::main();
}

/// What the connection itself costs, and a cache saves all but it.
struct Always;

impl Authenticator for Always {
    fn authenticate(&self, _: &AuthRequest) -> AuthResult {
        AuthResult::accept().with_login("tim")
    }

    fn knows(&self, _: &AuthRequest) -> Knows {
        Knows::Yes
    }
}

fn log_in(bencher: Bencher<'_, '_>, authenticator: &(impl Authenticator + ?Sized), words: &str) {
    let config: Arc<Config> = offer(Auth::new());
    bencher.bench_local(|| assert_eq!(auth_as(&config, authenticator, words), 235));
}

/// "\0tim\0tanstaaftanstaaf".
const PLAIN: &str = "PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm";

#[divan::bench]
fn plain_that_costs_nothing(bencher: Bencher<'_, '_>) {
    log_in(bencher, &Always, PLAIN);
}

#[divan::bench]
fn plain_that_is_remembered(bencher: Bencher<'_, '_>) {
    log_in(bencher, &Cache::new(Always, CacheLimits::default()).unwrap(), PLAIN);
}

#[divan::bench(args = ["RS256", "ES256", "EdDSA"])]
fn signed(bencher: Bencher<'_, '_>, alg: &str) {
    let signer = match alg {
        "RS256" => Signer::rsa("one"),
        "ES256" => Signer::p256("one"),
        _ => Signer::ed25519("one"),
    };
    let rules = TokenRules::new().issuer("https://id.example.org").audience("mx").scope("mail.send");
    let jwt = Jwt::new(rules, Jwks::from_json(&set(&[signer.jwk()])).unwrap()).unwrap();
    let jwt = jwt.with_clock(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let claims = json!({
        "iss": "https://id.example.org", "aud": "mx", "sub": "tim", "scope": "mail.send", "exp": 1_800_000_300,
    });
    log_in(bencher, &jwt, &oauthbearer("", &signer.token(&claims)));
}

#[divan::bench]
fn token_that_costs_nothing(bencher: Bencher<'_, '_>) {
    log_in(bencher, &Always, &oauthbearer("", &"x".repeat(400)));
}
