//! Signed tokens, by OAUTHBEARER and XOAUTH2.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is how a test fails")]

mod attacks;
mod key_sets;
mod rotation;
#[path = "../support/mod.rs"]
mod support;

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sansmtp_authenticators::oauth2::{Jwks, Jwt, RulesError, TokenRules};
use sansmtp_authenticators::{Answers, Authenticator, Chain, oauth2};
use serde_json::{Value, json};
use support::battery::{Backend, USERS, battery, missing};
use support::login::{Door, auth, oauthbearer, xoauth2};
use support::scripted::{Users, looked_up};
use support::signer::{Signer, set};

/// The time, in seconds since 1970.
const NOW: u64 = 1_800_000_000;

fn rules() -> TokenRules {
    TokenRules::new().issuer("https://id.example.org").audience("https://mx.example.org").scope("mail.send")
}

fn at_now(jwt: Jwt) -> Jwt {
    jwt.with_clock(|| SystemTime::UNIX_EPOCH + Duration::from_secs(NOW))
}

fn jwt(rules: TokenRules, keys: &[&Signer]) -> Jwt {
    let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
    at_now(Jwt::new(rules, Jwks::from_json(&set(&keys)).unwrap()).unwrap())
}

/// What a good token says.
fn claims() -> Value {
    json!({
        "iss": "https://id.example.org",
        "aud": "https://mx.example.org",
        "sub": "tim",
        "exp": NOW + 300,
        "nbf": NOW - 10,
        "scope": "openid mail.send profile",
    })
}

/// The good claims with another value of one; without it if that is null.
fn with(claim: &str, value: Value) -> Value {
    let mut claims = claims();
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(claim);
    } else {
        claims[claim] = value;
    }
    claims
}

#[test]
fn each_algorithm_by_each_mechanism() {
    let signers = [Signer::rsa("one"), Signer::p256("two"), Signer::ed25519("three")];
    let jwt = jwt(rules(), &signers.each_ref());
    for signer in &signers {
        let token = signer.token(&claims());
        assert_eq!(auth(&jwt, &xoauth2("tim", &token)), 235, "{}", signer.alg());
        assert_eq!(auth(&jwt, &oauthbearer("", &token)), 235, "{}", signer.alg());
    }
    // RFC 9864's name for EdDSA.
    let header = json!({ "alg": "Ed25519", "kid": "three" }).to_string();
    let token = signers[2].token_with(&header, &claims().to_string());
    assert_eq!(auth(&jwt, &oauthbearer("", &token)), 235);
    for (mechanism, for_whom) in
        [("oauthbearer", Answers::ForAll), ("XOAUTH2", Answers::ForAll), ("PLAIN", Answers::ForNone)]
    {
        assert_eq!(jwt.answers(mechanism), for_whom);
    }
    for typ in ["JWT", "jwt", "at+jwt", "application/at+jwt"] {
        let header = json!({ "alg": "ES256", "kid": "two", "typ": typ, "x5t": "x" }).to_string();
        assert_eq!(auth(&jwt, &oauthbearer("", &signers[1].token_with(&header, &claims().to_string()))), 235, "{typ}");
    }
}

#[test]
fn what_a_token_has_to_say() {
    let signer = Signer::ed25519("one");
    let jwt = jwt(rules(), &[&signer]);
    for (claim, value, code) in [
        ("iss", json!("https://id.example.org/"), 535),
        ("iss", json!("https://ID.example.org"), 535),
        ("iss", json!(["https://id.example.org"]), 535),
        ("iss", Value::Null, 535),
        ("aud", json!(["https://other.example.org", "https://mx.example.org"]), 235),
        ("aud", json!("https://other.example.org"), 535),
        ("aud", json!("https://mx.example.org https://other.example.org"), 535),
        ("aud", json!([]), 535),
        ("aud", json!([["https://mx.example.org"]]), 535),
        ("aud", json!({ "https://mx.example.org": true }), 535),
        ("aud", Value::Null, 535),
        ("exp", json!(NOW), 235),
        ("exp", json!(NOW - 59), 235),
        ("exp", json!(NOW - 60), 535),
        ("exp", json!(0), 535),
        ("exp", json!(-1), 535),
        ("exp", json!(f64::from(u32::try_from(NOW).unwrap()) + 0.5), 235),
        ("exp", json!((NOW + 300).to_string()), 535),
        ("exp", json!([NOW + 300]), 535),
        ("exp", Value::Null, 535),
        ("nbf", json!(NOW + 60), 235),
        ("nbf", json!(NOW + 61), 535),
        ("nbf", json!("0"), 535),
        ("nbf", Value::Null, 235),
        ("scope", json!("mail.send"), 235),
        ("scope", json!(["mail.send"]), 235),
        ("scope", json!("mail.sending email.send"), 535),
        ("scope", json!("MAIL.SEND"), 535),
        ("scope", json!("mail.send\u{a0}openid"), 535),
        ("scope", json!(""), 535),
        ("scope", json!({ "mail.send": true }), 535),
        ("scope", Value::Null, 535),
        ("sub", Value::Null, 535),
        ("sub", json!(""), 535),
        ("sub", json!(7), 535),
        ("sub", json!(["tim"]), 535),
        ("sub", json!("tim\r\nroot"), 535),
        ("sub", json!("t".repeat(256)), 535),
        ("cnf", json!({ "jkt": "x" }), 535),
        ("cnf", json!({}), 535),
        ("other", json!({ "iss": "x", "deep": [[[]]] }), 235),
    ] {
        let token = signer.token(&with(claim, value.clone()));
        assert_eq!(auth(&jwt, &oauthbearer("", &token)), code, "{claim}: {value}");
    }
    for (scp, code) in [(json!(["a", "mail.send"]), 235), (json!("a mail.send"), 235), (json!(["a"]), 535)] {
        let mut claims = with("scope", Value::Null);
        claims["scp"] = scp.clone();
        assert_eq!(auth(&jwt, &oauthbearer("", &signer.token(&claims))), code, "{scp}");
    }
}

#[test]
fn all_scopes_and_one_audience() {
    let signer = Signer::ed25519("one");
    let jwt = jwt(rules().scope("profile").audience("mx"), &[&signer]);
    let code = |claims: &Value| auth(&jwt, &oauthbearer("", &signer.token(claims)));
    assert_eq!(code(&claims()), 235);
    assert_eq!(code(&with("aud", json!("mx"))), 235);
    assert_eq!(code(&with("scope", json!("mail.send"))), 535);
}

#[test]
fn the_login_is_a_claim() {
    let signer = Signer::ed25519("one");
    let jwt = |claim: &str| jwt(rules().login_claim(claim), &[&signer]);
    let mut claims = claims();
    claims["preferred_username"] = json!("Tim");
    claims["email"] = json!("tim@example.org");
    let user = |claim: &str, user: &str, claims: &Value| auth(&jwt(claim), &xoauth2(user, &signer.token(claims)));
    assert_eq!(user("sub", "tim", &claims), 235);
    assert_eq!(user("preferred_username", "Tim", &claims), 235);
    assert_eq!(user("preferred_username", "tim", &claims), 535);
    assert_eq!(user("email", "tim@example.org", &claims), 235);
    assert_eq!(user("upn", "tim", &claims), 535);
    for (verified, code) in [(json!(true), 235), (json!("true"), 235), (json!(false), 535), (json!("false"), 535)] {
        claims["email_verified"] = verified.clone();
        assert_eq!(user("email", "tim@example.org", &claims), code, "{verified}");
        assert_eq!(user("sub", "tim", &claims), 235, "what is said of the address is of no interest");
    }
}

/// OAUTHBEARER's authzid and XOAUTH2's user have to be the token's.
#[test]
fn the_user_who_is_named_is_the_tokens() {
    let signer = Signer::ed25519("one");
    let strict = jwt(rules(), &[&signer]);
    let lax = jwt(rules().ignore_case(true), &[&signer]);
    for (sub, named, strictly, laxly) in [
        ("tim", "tim", 235, 235),
        ("tim", "Tim", 535, 235),
        ("Tim", "tim", 535, 235),
        ("JÜRGEN", "jürgen", 535, 235),
        // Decomposed: prepared alike on both sides (RFC 4013).
        ("ju\u{308}rgen", "j\u{fc}rgen", 235, 235),
        ("tim", "kurt", 535, 535),
        ("tim", "tim@example.org", 535, 535),
        ("tim@example.org", "tim", 535, 535),
        ("tim", "ti", 535, 535),
        ("tim", "timm", 535, 535),
    ] {
        let token = signer.token(&with("sub", json!(sub)));
        for (jwt, code) in [(&strict, strictly), (&lax, laxly)] {
            assert_eq!(auth(jwt, &xoauth2(named, &token)), code, "{sub} as {named}");
            assert_eq!(auth(jwt, &oauthbearer(named, &token)), code, "{sub} as {named}, OAUTHBEARER");
        }
    }
}

#[test]
fn of_several_issuers_each_has_its_own_keys() {
    let (ours, theirs) = (Signer::ed25519("one"), Signer::ed25519("one"));
    let other = TokenRules::new().issuer("https://login.example.com").audience("mx");
    let chain =
        Chain::new().then(jwt(rules(), &[&ours])).then(jwt(other, &[&theirs])).then(Users::new(&USERS, looked_up));
    let their_claims = json!({ "iss": "https://login.example.com", "aud": "mx", "sub": "kurt", "exp": NOW + 10 });
    assert_eq!(auth(&chain, &xoauth2("tim", &ours.token(&claims()))), 235);
    assert_eq!(auth(&chain, &xoauth2("kurt", &theirs.token(&their_claims))), 235);
    // Neither signs for the other.
    assert_eq!(auth(&chain, &xoauth2("tim", &theirs.token(&claims()))), 535);
    assert_eq!(auth(&chain, &xoauth2("kurt", &ours.token(&their_claims))), 535);
    for nobodys in ["x", "x.y.z", &ours.token(&with("iss", json!("https://evil.example")))] {
        assert_eq!(auth(&chain, &xoauth2("tim", nobodys)), 535, "{nobodys}");
    }
    // Passwords are none of its business.
    assert_eq!(
        (chain.log_in("tim", "tanstaaftanstaaf"), chain.log_in("tim", "x"), chain.log_in("nobody", "x")),
        (235, 535, 535)
    );
}

#[test]
fn rules_that_would_accept_too_much_are_none() {
    let new = |rules| Jwt::new(rules, Jwks::from_json(&set(&[Signer::ed25519("one").jwk()])).unwrap()).map(|_| ());
    assert_eq!(new(TokenRules::new().audience("mx")), Err(RulesError::NoIssuer));
    assert_eq!(new(TokenRules::new().issuer("https://id.example.org")), Err(RulesError::NoAudience));
    for (rules, setting) in [
        (rules().issuer(""), "issuer"),
        (rules().audience(""), "audience"),
        (rules().scope(""), "scope"),
        (rules().scope("a b"), "scope"),
        (rules().login_claim(""), "login claim"),
    ] {
        let error = new(rules).unwrap_err();
        assert_eq!(error, RulesError::Empty(setting));
        assert!(error.to_string().contains(setting));
    }
}

#[test]
fn neither_log_nor_debug_shows_a_token_or_whose_it_is() {
    let (signer, stranger) = (Signer::ed25519("one"), Signer::ed25519("one"));
    let jwt = jwt(rules(), &[&signer]);
    let secret = with("sub", json!("a-name-of-somebody"));
    let tokens = [signer.token(&with("exp", json!(1))), stranger.token(&secret), signer.token(&secret)];
    let (codes, log) = support::logs::collect_here(|| {
        let words = tokens.each_ref().map(|token| [xoauth2("another-name", token), oauthbearer("another-name", token)]);
        words.as_flattened().iter().map(|words| auth(&jwt, words)).collect::<Vec<_>>()
    });
    assert_eq!(codes, [535; 6]);
    assert_eq!(log.matches("DEBUG").count(), log.lines().count(), "{log}");
    for (flaw, count) in [("it has expired", 2), ("the signature is wrong", 2), ("not the token of the user", 1)] {
        assert_eq!(log.matches(flaw).count(), count, "{flaw} in {log}");
    }
    let shown = format!("{log} {jwt:?} {jwt:#?}");
    for token in &tokens {
        assert!(token.split('.').skip(1).all(|part| !shown.contains(part)), "{shown}");
    }
    assert!(!shown.contains("a-name-of-somebody") && !shown.contains("another-name"), "{shown}");
}

/// PyJWT, which shares nothing with what checks them here, makes keys and tokens.
#[test]
fn what_an_independent_implementation_signs() {
    let script = r#"
import json, sys, jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
claims, keys, tokens = json.loads(sys.argv[1]), [], []
for alg, kind, key in [
    ("RS256", RSAAlgorithm, rsa.generate_private_key(65537, 2048)),
    ("RS256", RSAAlgorithm, rsa.generate_private_key(3, 3072)),
    ("ES256", ECAlgorithm, ec.generate_private_key(ec.SECP256R1())),
    ("EdDSA", OKPAlgorithm, ed25519.Ed25519PrivateKey.generate()),
]:
    kid = f"key {len(keys)}"
    jwk = json.loads(kind.to_jwk(key.public_key())) if hasattr(kind, "to_jwk") else None
    keys.append({**jwk, "kid": kid, "use": "sig"})
    for other in (True, False):
        signed = claims if other else {**claims, "exp": 1}
        tokens.append([jwt.encode(signed, key, alg, headers={"kid": kid}), 235 if other else 535])
tokens.append([jwt.encode(claims, rsa.generate_private_key(65537, 2048), "RS256", headers={"kid": "key 0"}), 535])
tokens.append([jwt.encode(claims, "secret", "HS256", headers={"kid": "key 0"}), 535])
tokens.append([jwt.encode(claims, None, "none", headers={"kid": "key 0"}), 535])
print(json.dumps({"jwks": {"keys": keys}, "tokens": tokens}))
"#;
    let made = Command::new("/usr/bin/python3").args(["-c", script, &claims().to_string()]).output();
    let Some(made) = made.ok().filter(|made| made.status.success()) else { return missing("python3-jwt") };
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let keys = Jwks::from_json(made["jwks"].to_string().as_bytes()).unwrap();
    let jwt = at_now(Jwt::new(rules(), keys).unwrap());
    let tokens = made["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 11);
    for pair in tokens {
        let (token, code) = (pair[0].as_str().unwrap(), pair[1].as_u64().unwrap());
        assert_eq!(u64::from(auth(&jwt, &oauthbearer("", token))), code, "{token}");
    }
}

/// Whoever has the right password gets a token; others make one up.
struct Issuer {
    jwt: Arc<Jwt>,
    right: Signer,
    wrong: Signer,
}

impl Door for Issuer {
    fn log_in(&self, user: &str, password: &str) -> u16 {
        let signer = if USERS.contains(&(user, password)) { &self.right } else { &self.wrong };
        let token = signer.token(&with("sub", json!(user)));
        // XOAUTH2 has no message without a user.
        auth(&*self.jwt, &if user.is_empty() { oauthbearer("", &token) } else { xoauth2(user, &token) })
    }
}

struct Tokens;

impl Backend for Tokens {
    fn start() -> Option<Self> {
        Some(Self)
    }

    fn door(&self) -> Arc<dyn Door> {
        let (right, wrong) = (Signer::p256("one"), Signer::p256("one"));
        Arc::new(Issuer { jwt: Arc::new(jwt(rules(), &[&right])), right, wrong })
    }
}

battery!(Tokens);

#[test]
fn errors_say_what_is_wrong() {
    let error = Jwks::file("/nowhere/jwks.json").unwrap_err();
    assert!(matches!(error, oauth2::JwksError::Io(_)) && error.to_string().contains("No such file"), "{error}");
    // The wrong file, whose content is nobody's business.
    let error = Jwks::from_json(b"{\n  \"keys\": \"hunter2\"}").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2") && error.to_string().contains("line 2"), "{error}");
}
