//! Tokens that somebody made who could not.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::support::login::{auth, oauthbearer, xoauth2};
use super::support::signer::{Signer, decode, encode};
use super::{claims, jwt, rules};

fn hs256(key: &[u8], header: &str) -> String {
    let signed = format!("{}.{}", encode(header.as_bytes()), encode(claims().to_string().as_bytes()));
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", encode(&mac.finalize().into_bytes()))
}

/// The public key is public: taken as the secret of an HMAC, it would let in everybody.
#[test]
fn keys_are_not_confused() {
    let (rsa, p256, ed25519) = (Signer::rsa("one"), Signer::p256("two"), Signer::ed25519("three"));
    let jwt = jwt(rules(), &[&rsa, &p256, &ed25519]);
    let text = |jwk: &Value, member: &str| jwk[member].as_str().unwrap().to_owned();
    let (rsa_jwk, ed_jwk) = (rsa.jwk(), ed25519.jwk());
    let n = text(&rsa_jwk, "n");
    for key in [&b""[..], n.as_bytes(), &decode(&n), rsa_jwk.to_string().as_bytes(), &decode(&text(&ed_jwk, "x"))] {
        for kid in ["one", "two", "three"] {
            for alg in ["HS256", "RS256", "ES256", "EdDSA"] {
                let token = hs256(key, &json!({ "alg": alg, "kid": kid }).to_string());
                assert_eq!(auth(&jwt, &oauthbearer("", &token)), 535, "{alg} {kid}");
            }
        }
    }
    // What one key signed, under the name of another, whatever algorithm it claims.
    for signer in [&rsa, &p256, &ed25519] {
        for kid in ["one", "two", "three"] {
            for alg in ["RS256", "ES256", "EdDSA"] {
                let header = json!({ "alg": alg, "kid": kid }).to_string();
                let token = signer.token_with(&header, &claims().to_string());
                let right = kid == signer.kid && alg == signer.alg();
                assert_eq!(auth(&jwt, &oauthbearer("", &token)), if right { 235 } else { 535 }, "{alg} {kid}");
            }
        }
    }
}

#[test]
fn headers() {
    let (signer, own) = (Signer::rsa("one"), Signer::p256("two"));
    let jwt = jwt(rules(), &[&signer]);
    let good = |header: &Value| signer.token_with(&header.to_string(), &claims().to_string());
    assert_eq!(auth(&jwt, &oauthbearer("", &good(&json!({ "alg": "RS256", "kid": "one" })))), 235);
    for header in [
        json!({ "alg": "none", "kid": "one" }),
        json!({ "alg": "None", "kid": "one" }),
        json!({ "alg": "rs256", "kid": "one" }),
        json!({ "alg": "RS384", "kid": "one" }),
        json!({ "alg": "PS256", "kid": "one" }),
        json!({ "alg": "", "kid": "one" }),
        json!({ "alg": null, "kid": "one" }),
        json!({ "alg": ["RS256"], "kid": "one" }),
        json!({ "kid": "one" }),
        json!({ "alg": "RS256", "kid": "none such" }),
        json!({ "alg": "RS256", "kid": "" }),
        json!({ "alg": "RS256", "kid": "One" }),
        json!({ "alg": "RS256", "kid": 1 }),
        json!({ "alg": "RS256", "kid": ["one"] }),
        json!({ "alg": "RS256", "kid": "../../dev/null" }),
        json!({ "alg": "RS256", "kid": "one", "crit": [] }),
        json!({ "alg": "RS256", "kid": "one", "crit": ["exp"], "exp": 1 }),
        json!({ "alg": "RS256", "kid": "one", "crit": null }),
        json!({ "alg": "RS256", "kid": "one", "b64": true }),
        json!({ "alg": "RS256", "kid": "one", "jwk": signer.jwk() }),
        json!({ "alg": "RS256", "kid": "one", "jwk": null }),
        json!({ "alg": "RS256", "kid": "one", "jku": "https://id.example.org/jwks.json" }),
        json!({ "alg": "RS256", "kid": "one", "x5u": "https://id.example.org/one.pem" }),
        json!({ "alg": "RS256", "kid": "one", "x5c": [] }),
        json!({ "alg": "RS256", "kid": "one", "typ": "logout+jwt" }),
        json!({ "alg": "RS256", "kid": "one", "typ": "dpop+jwt" }),
        json!({ "alg": "RS256", "kid": "one", "typ": "" }),
        json!([]),
        json!("RS256"),
    ] {
        assert_eq!(auth(&jwt, &oauthbearer("", &good(&header))), 535, "{header}");
    }
    // As they are written, where JSON has no other way to say it.
    for header in [
        r#"{"alg":"none","alg":"RS256","kid":"one"}"#,
        r#"{"alg":"RS256","kid":"two","kid":"one"}"#,
        r#"{"alg":"RS256","kid":"one"}{}"#,
        r#"{"alg":"RS256","kid":"one""#,
        "",
    ] {
        assert_eq!(auth(&jwt, &oauthbearer("", &signer.token_with(header, &claims().to_string()))), 535, "{header}");
    }
    // A key that comes with the token, and fits.
    for header in [
        json!({ "alg": "ES256", "jwk": own.jwk() }),
        json!({ "alg": "ES256", "kid": "two", "jwk": own.jwk() }),
        json!({ "alg": "ES256", "kid": "one", "jwk": own.jwk() }),
        json!({ "alg": "ES256", "kid": "one" }),
        json!({ "alg": "ES256" }),
    ] {
        let token = own.token_with(&header.to_string(), &claims().to_string());
        assert_eq!(auth(&jwt, &oauthbearer("", &token)), 535, "{header}");
    }
}

#[test]
fn shapes() {
    let signer = Signer::ed25519("one");
    let jwt = jwt(rules(), &[&signer]);
    let token = signer.token(&claims());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let none = encode(br#"{"alg":"none"}"#);
    for shape in [
        format!("{signed}."),
        signed.to_owned(),
        format!("{signed}.{signature}."),
        format!("{signed}.{signature}.x"),
        format!(".{signed}.{signature}"),
        format!("{header}..{signature}"),
        format!(".{payload}.{signature}"),
        format!("{none}.{payload}."),
        format!("{none}.{payload}.{signature}"),
        format!("{header}.{payload}.{payload}.{signature}"),
        format!("{header}.{payload}.{payload}.{payload}.{signature}"),
        format!("{signed}.{signature}="),
        format!("{signed}.{signature}=="),
        format!("{signed}.A{signature}"),
        format!("{signed}.{}", &signature[1..]),
        format!("{signed}.{}", encode(&[0; 64])),
        format!("{signed}.{}", encode(&[])),
        format!("{}.{signature}", signed.replace('.', "..")),
        payload.to_owned(),
        "...".to_owned(),
        ".".to_owned(),
        "x".to_owned(),
    ] {
        assert_eq!(auth(&jwt, &xoauth2("tim", &shape)), 535, "{shape}");
    }
    assert_eq!(auth(&jwt, &xoauth2("tim", &token)), 235);
}

/// No character of it can be another, not even one that would be the same octets.
#[test]
fn no_character_can_be_changed() {
    for signer in [Signer::p256("one"), Signer::ed25519("one")] {
        let jwt = jwt(rules(), &[&signer]);
        let token = signer.token(&claims());
        assert_eq!(auth(&jwt, &oauthbearer("", &token)), 235);
        for (at, character) in token.char_indices() {
            let next = match character {
                'Z' => 'a',
                'z' => '0',
                '9' => '-',
                '-' => '_',
                '_' => 'A',
                '.' => 'x',
                other => char::from(u8::try_from(other).unwrap() + 1),
            };
            let changed = format!("{}{next}{}", &token[..at], &token[at + 1..]);
            assert_eq!(auth(&jwt, &oauthbearer("", &changed)), 535, "{at} of {token}");
        }
    }
}

#[test]
fn what_is_too_long_is_not_looked_at() {
    let signer = Signer::ed25519("one");
    let padded = |octets: usize| {
        let mut claims = claims();
        claims["padding"] = json!("x".repeat(octets));
        signer.token(&claims)
    };
    let token = padded(5_000);
    let small = || jwt(rules(), &[&signer]);
    assert_eq!(auth(&small(), &oauthbearer("", &token)), 235);
    assert_eq!(auth(&small().max_token_octets(token.len()), &oauthbearer("", &token)), 235);
    assert_eq!(auth(&small().max_token_octets(token.len() - 1), &oauthbearer("", &token)), 535);
    assert_eq!(auth(&small(), &oauthbearer("", &padded(6_500))), 535);
}

/// Deep JSON must not end the process.
#[test]
fn deep_claims_are_refused() {
    let signer = Signer::ed25519("one");
    let jwt = jwt(rules(), &[&signer]);
    let deep = format!(r#"{{"iss":"https://id.example.org","x":{}1{}}}"#, "[".repeat(2_000), "]".repeat(2_000));
    let header = json!({ "alg": "EdDSA", "kid": "one" }).to_string();
    assert_eq!(auth(&jwt, &oauthbearer("", &signer.token_with(&header, &deep))), 535);
    assert_eq!(auth(&jwt, &oauthbearer("", &signer.token_with(&deep, &claims().to_string()))), 535);
}
