//! What is in a JWK Set, and what of it is used.

use sansmtp_authenticators::oauth2::{Jwks, JwksError, Jwt};
use serde_json::{Value, json};

use super::support::login::{auth, oauthbearer};
use super::support::signer::{Signer, decode, encode, set};
use super::{at_now, claims, rules};

fn with(mut jwk: Value, member: &str, value: Value) -> Value {
    if value.is_null() {
        jwk.as_object_mut().unwrap().remove(member);
    } else {
        jwk[member] = value;
    }
    jwk
}

/// What a token gets that the signer made, with a header that names the key or does not.
fn code(keys: &[Value], signer: &Signer, names_key: bool) -> u16 {
    let jwt = at_now(Jwt::new(rules(), Jwks::from_json(&set(keys)).unwrap()).unwrap());
    let mut header = json!({ "alg": signer.alg() });
    if names_key {
        header["kid"] = json!(signer.kid);
    }
    auth(&jwt, &oauthbearer("", &signer.token_with(&header.to_string(), &claims().to_string())))
}

#[test]
fn a_key_that_is_not_for_this_is_passed_over() {
    let (rsa, p256, ed25519) = (Signer::rsa("rsa"), Signer::p256("p256"), Signer::ed25519("ed25519"));
    let spare = Signer::ed25519("spare").jwk();
    let used = |signer: &Signer, jwk: Value| code(&[jwk, spare.clone()], signer, true) == 235;
    for signer in [&rsa, &p256, &ed25519] {
        let jwk = signer.jwk();
        for (member, value, good) in [
            ("use", json!("sig"), true),
            ("use", json!("enc"), false),
            ("use", json!(""), false),
            ("key_ops", json!(["verify"]), true),
            ("key_ops", json!(["sign", "verify"]), true),
            ("key_ops", json!(["encrypt"]), false),
            ("key_ops", json!([]), false),
            ("alg", json!(signer.alg()), true),
            ("alg", json!("RS512"), false),
            ("alg", json!("PS256"), false),
            ("alg", json!("RSA-OAEP"), false),
            ("alg", json!("HS256"), false),
            ("alg", json!("none"), false),
            ("kty", json!("oct"), false),
            ("kty", json!("rsa"), false),
            ("kty", Value::Null, false),
            ("kid", json!("other"), false),
            ("kid", json!(7), false),
            ("kid", Value::Null, false),
            ("x5c", json!(["x"]), true),
        ] {
            let shown = value.to_string();
            assert_eq!(used(signer, with(jwk.clone(), member, value)), good, "{} {member} {shown}", signer.alg());
        }
    }
    let n = decode(rsa.jwk()["n"].as_str().unwrap());
    for (signer, member, value, good) in [
        // 2,047 bits; 2,048 with a zero in front; and what is none.
        (&rsa, "n", json!(encode(&[&[n[0] >> 1], &n[1..]].concat())), false),
        (&rsa, "n", json!(encode(&[&[0], &n[..]].concat())), true),
        (&rsa, "n", json!(encode(&n[..128])), false),
        (&rsa, "n", json!(encode(&vec![0xff; 1_025])), false),
        (&rsa, "n", json!(""), false),
        (&rsa, "n", json!("!"), false),
        (&rsa, "n", Value::Null, false),
        (&rsa, "e", Value::Null, false),
        (&rsa, "e", json!("AQ"), false),
        (&rsa, "e", json!(""), false),
        (&p256, "crv", json!("P-384"), false),
        (&p256, "crv", json!("secp256k1"), false),
        (&p256, "crv", Value::Null, false),
        (&p256, "x", json!(encode(&[1; 31])), false),
        (&p256, "y", json!(encode(&[1; 33])), false),
        (&p256, "y", json!(encode(&[1; 32])), false),
        (&p256, "y", Value::Null, false),
        (&ed25519, "crv", json!("X25519"), false),
        (&ed25519, "crv", json!("Ed448"), false),
        (&ed25519, "x", json!(encode(&[0; 32])), false),
        (&ed25519, "x", json!(encode(&[])), false),
    ] {
        let shown = value.to_string();
        assert_eq!(used(signer, with(signer.jwk(), member, value)), good, "{} {member} {shown}", signer.alg());
    }
}

#[test]
fn a_token_that_names_no_key_is_for_the_only_one() {
    let (one, two, rsa) = (Signer::ed25519("one"), Signer::ed25519("two"), Signer::rsa("rsa"));
    assert_eq!(code(&[one.jwk(), rsa.jwk()], &one, false), 235);
    assert_eq!(code(&[one.jwk(), rsa.jwk()], &rsa, false), 235);
    assert_eq!(code(&[with(one.jwk(), "kid", Value::Null)], &one, false), 235);
    assert_eq!(code(&[one.jwk(), two.jwk()], &one, false), 535);
    assert_eq!(code(&[one.jwk(), two.jwk()], &one, true), 235);
    // Only those that are used count.
    assert_eq!(code(&[one.jwk(), with(two.jwk(), "use", json!("enc"))], &one, false), 235);
}

#[test]
fn a_set_that_cannot_be_used() {
    let (one, two) = (Signer::ed25519("one"), Signer::p256("one"));
    let read = |content: &[u8]| Jwks::from_json(content).map(|_| ()).unwrap_err();
    for content in [&b""[..], b"[]", b"{}", b"null", b"{\"keys\":{}}", b"{\"keys\":[", b"{\"keys\":[],\"keys\":[]}"] {
        assert!(matches!(read(content), JwksError::Syntax { .. }), "{}", content.escape_ascii());
    }
    let oct = json!({ "kty": "oct", "kid": "one", "k": encode(b"secret"), "alg": "HS256" });
    for keys in [vec![], vec![json!({})], vec![json!("x"), json!(null)], vec![oct.clone()]] {
        assert!(matches!(read(&set(&keys)), JwksError::NoUsableKey), "{keys:?}");
    }
    assert!(matches!(read(&set(&[one.jwk(), two.jwk()])), JwksError::DuplicateKid { index: 1 }));
    assert!(matches!(read(&set(&[one.jwk(), one.jwk()])), JwksError::DuplicateKid { index: 1 }));
    // One that is not used cannot be taken for the other.
    assert_eq!(code(&[oct, one.jwk()], &one, true), 235);
    let private = with(two.jwk(), "d", json!(encode(&[7; 32])));
    let error = read(&set(&[one.jwk(), private]));
    assert!(matches!(error, JwksError::PrivateKey { index: 1 }));
    assert!(!format!("{error} {error:?}").contains(&encode(&[7; 32])));
    let mut large = set(&[one.jwk()]);
    large.resize(256 * 1024, b' ');
    assert!(Jwks::from_json(&large).is_ok());
    large.push(b' ');
    assert!(matches!(read(&large), JwksError::TooLarge));
}

/// PyJWT 2.6 leaves out the zeros in front of a coordinate, Java's numbers have one more.
#[test]
fn zeros_in_front_of_a_coordinate_do_not_count() {
    let begins_with_zero = |signer: &Signer| decode(signer.jwk()["x"].as_str().unwrap())[0] == 0;
    let signer = (0..100_000).map(|_| Signer::p256("one")).find(begins_with_zero).unwrap();
    let x = decode(signer.jwk()["x"].as_str().unwrap());
    for x in [&x[..], &x[1..], &[&[0, 0], &x[..]].concat()] {
        assert_eq!(code(&[with(signer.jwk(), "x", json!(encode(x)))], &signer, true), 235, "{} octets", x.len());
    }
    let spare = Signer::ed25519("spare").jwk();
    assert_eq!(code(&[with(signer.jwk(), "x", json!(encode(&x[2..]))), spare], &signer, true), 535);
    let edwards = (0..100_000).map(|_| Signer::ed25519("one")).find(begins_with_zero).unwrap();
    let x = decode(edwards.jwk()["x"].as_str().unwrap());
    let spare = Signer::p256("spare").jwk();
    assert_eq!(code(&[with(edwards.jwk(), "x", json!(encode(&x[1..]))), spare], &edwards, true), 535);
}
