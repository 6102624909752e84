//! Each mechanism that a real Dovecot offers, from the client's AUTH to the login.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use sansmtp::{Auth, AuthFailure, Peer, Refusal, TlsInfo, TlsVersion};
use sansmtp_authenticators::dovecot::{Dovecot, Login, Settings};
use sha1::Sha1;
use sha2::Sha256;

use crate::dialogue::{Dialogue, challenge, code};
use crate::server::{CERTIFIED, DISABLED, MASTER, Server, TOKEN_KEY};
use crate::support::login::Door as _;
use crate::support::typed;

const USER: &str = "tim";
const PASSWORD: &str = "tanstaaftanstaaf";

/// What is said at the end, and the dialogue.
type Outcome = (String, Dialogue);

/// Logs in with each of the right password, a wrong one and one of an unknown user.
fn right_and_wrong(log_in: impl Fn(Dialogue, &str, &str) -> Outcome) {
    let Some(server) = Server::start() else { return };
    let dovecot = Dovecot::connect(server.socket()).unwrap();
    let (said, dialogue) = log_in(Dialogue::in_the_clear(&dovecot), USER, PASSWORD);
    assert_eq!(said, "235 2.7.0 Authentication successful", "{}", server.log());
    assert_eq!(dialogue.session().login(), Some(USER));
    assert!(dialogue.session().auth_data::<Login>().is_some());
    for (user, password) in [(USER, "tanstaaf"), ("nobody", PASSWORD)] {
        let (said, dialogue) = log_in(Dialogue::in_the_clear(&dovecot), user, password);
        assert_eq!(said, "535 5.7.8 Authentication credentials invalid");
        assert_eq!(dialogue.failures, [AuthFailure::Refused(Refusal::BadCredentials)]);
        assert_eq!(dialogue.session().login(), None);
    }
}

/// Dovecot's own hashes are of what was typed. What is asked by the authenticator may come prepared, too.
#[test]
fn a_password_is_right_as_it_was_typed() {
    let lines: String = typed::users().map(|(name, password)| format!("{name}:{{PLAIN}}{password}\n")).collect();
    let Some(server) = Server::start_with_users("auth_failure_delay = 0\n", &(lines + "composed:{PLAIN}café\n"))
    else {
        return;
    };
    let dovecot = Dovecot::connect(server.socket()).unwrap();
    let right = typed::users().chain([("composed".to_owned(), "cafe\u{301}")]);
    for (name, password) in right {
        assert_eq!(dovecot.log_in(&name, password), 235, "{}", password.escape_unicode());
        assert_eq!(dovecot.log_in(&name, "wrong²"), 535, "{name}");
    }
}

#[test]
fn all_that_dovecot_has_are_offered() {
    let Some(server) = Server::start() else { return };
    let dovecot = Settings::unix(server.socket()).name_certificates(|_| Some(USER.into())).connect().unwrap();
    let auth = dovecot.offer(Auth::without_mechanisms()).unwrap();
    let mut tls = TlsInfo::new(TlsVersion::Tls1_3, "TLS_AES_128_GCM_SHA256");
    tls.peer_certificates.push(b"certificate".to_vec());
    let mut dialogue = Dialogue::new(dovecot.exchange(), auth, Peer::local(), Some(tls));
    let said = dialogue.say("EHLO client.example.com");
    let listed = "250-AUTH PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1 SCRAM-SHA-256 EXTERNAL OAUTHBEARER XOAUTH2";
    assert!(said.lines().any(|line| line.replace("250 AUTH", "250-AUTH") == listed), "{said}");
}

#[test]
fn plain() {
    right_and_wrong(|mut dialogue, user, password| {
        let message = format!("\0{user}\0{password}");
        let said = dialogue.auth("PLAIN", &message);
        if user != USER || password != PASSWORD {
            return (said, dialogue);
        }
        // Without an initial response, which the server then asks for.
        let Some(server) = Server::start() else { return (said, dialogue) };
        let mut other = Dialogue::in_the_clear(&Dovecot::connect(server.socket()).unwrap());
        assert_eq!(other.say("AUTH PLAIN"), "334 ");
        (other.respond(&message), other)
    });
}

#[test]
fn login() {
    right_and_wrong(|mut dialogue, user, password| {
        assert_eq!(challenge(&dialogue.say("AUTH LOGIN")), b"Username:");
        assert_eq!(challenge(&dialogue.respond(user)), b"Password:");
        (dialogue.respond(password), dialogue)
    });
    // With the name as the initial response, as some clients have it.
    right_and_wrong(|mut dialogue, user, password| {
        assert_eq!(challenge(&dialogue.auth("LOGIN", user)), b"Password:");
        (dialogue.respond(password), dialogue)
    });
}

#[test]
fn cram_md5() {
    right_and_wrong(|mut dialogue, user, password| {
        let nonce = challenge(&dialogue.say("AUTH CRAM-MD5"));
        let mut mac = Hmac::<Md5>::new_from_slice(password.as_bytes()).unwrap();
        mac.update(&nonce);
        let said = dialogue.respond(format!("{user} {}", hex(&mac.finalize().into_bytes())));
        (said, dialogue)
    });
}

/// RFC 2831.
#[test]
fn digest_md5() {
    right_and_wrong(|mut dialogue, user, password| {
        let asked = String::from_utf8(challenge(&dialogue.say("AUTH DIGEST-MD5"))).unwrap();
        let nonce = asked.split_once("nonce=\"").unwrap().1.split_once('"').unwrap().0;
        let (cnonce, uri) = ("OA6MHXh6VqTrRk", "smtp/mx.example.org");
        let digest = |method: &str| {
            let secret = Md5::digest(format!("{user}::{password}"));
            let a1 = Md5::digest([&secret[..], format!(":{nonce}:{cnonce}").as_bytes()].concat());
            let a2 = Md5::digest(format!("{method}:{uri}"));
            hex(&Md5::digest(format!("{}:{nonce}:00000001:{cnonce}:auth:{}", hex(&a1), hex(&a2))))
        };
        let said = dialogue.respond(format!(
            "username=\"{user}\",realm=\"\",nonce=\"{nonce}\",cnonce=\"{cnonce}\",nc=00000001,qop=auth,\
             digest-uri=\"{uri}\",response={},charset=utf-8",
            digest("AUTHENTICATE")
        ));
        if code(&said) != 334 {
            return (said, dialogue);
        }
        // The server proves itself, too.
        assert_eq!(challenge(&said), format!("rspauth={}", digest("")).as_bytes());
        (dialogue.say(""), dialogue)
    });
}

/// RFC 5802, by a hash with this HMAC.
macro_rules! scram {
    ($test:ident, $name:literal, $hash:ty) => {
        #[test]
        fn $test() {
            let hmac = |key: &[u8], message: &[u8]| {
                let mut mac = Hmac::<$hash>::new_from_slice(key).unwrap();
                mac.update(message);
                mac.finalize().into_bytes()
            };
            right_and_wrong(|mut dialogue, user, password| {
                let bare = format!("n={user},r=rOprNGfwEbeRWgbNEkqO");
                let said = dialogue.auth($name, format!("n,,{bare}"));
                // Dovecot 2.3 does not challenge whoever it does not know.
                if user != USER && code(&said) != 334 {
                    return (said, dialogue);
                }
                let first = String::from_utf8(challenge(&said)).unwrap();
                let field = |name: &str| first.split(',').find_map(|field| field.strip_prefix(name)).unwrap();
                assert!(field("r=").starts_with("rOprNGfwEbeRWgbNEkqO") && field("r=").len() > 20);
                let (salt, iterations) = (crate::unbase64(field("s=")), field("i=").parse().unwrap());
                let mut salted = vec![0; <$hash>::output_size()];
                pbkdf2::pbkdf2_hmac::<$hash>(password.as_bytes(), &salt, iterations, &mut salted);
                let last = format!("c=biws,r={}", field("r="));
                let signed = format!("{bare},{first},{last}");
                let client_key = hmac(&salted, b"Client Key");
                let signature = hmac(&<$hash>::digest(client_key), signed.as_bytes());
                let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, octet)| key ^ octet).collect();
                let said = dialogue.respond(format!("{last},p={}", crate::base64(&proof)));
                if code(&said) != 334 {
                    return (said, dialogue);
                }
                let proved = hmac(&hmac(&salted, b"Server Key"), signed.as_bytes());
                assert_eq!(challenge(&said), format!("v={}", crate::base64(&proved)).as_bytes());
                assert!(!dialogue.session().is_authenticated());
                (dialogue.say(""), dialogue)
            });
        }
    };
}

scram!(scram_sha_1, "SCRAM-SHA-1", Sha1);
scram!(scram_sha_256, "SCRAM-SHA-256", Sha256);

/// RFC 7519, signed by HS256.
fn token(user: &str, key: &[u8]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = format!(r#"{{"sub":"{user}","iat":{},"exp":{}}}"#, now - 5, now + 600);
    let encode = |part: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(part);
    let signed = format!("{}.{}", encode(br#"{"alg":"HS256","typ":"JWT"}"#), encode(claims.as_bytes()));
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", encode(&mac.finalize().into_bytes()))
}

#[test]
fn oauthbearer_and_xoauth2() {
    let Some(server) = Server::start() else { return };
    let dovecot = Dovecot::connect(server.socket()).unwrap();
    let (right, forged) = (token(USER, TOKEN_KEY), token(USER, b"another key"));
    let message = |mechanism: &str, token: &str| match mechanism {
        "OAUTHBEARER" => format!("n,a={USER},\x01auth=Bearer {token}\x01\x01"),
        _ => format!("user={USER}\x01auth=Bearer {token}\x01\x01"),
    };
    for mechanism in ["OAUTHBEARER", "XOAUTH2"] {
        for dialogue in [Dialogue::in_the_clear, Dialogue::of_the_engine] {
            let mut accepted = dialogue(&dovecot);
            assert_eq!(code(&accepted.auth(mechanism, message(mechanism, &right))), 235, "{}", server.log());
            assert_eq!(accepted.session().login(), Some(USER));
            let login: &Login = accepted.session().auth_data().unwrap();
            assert_eq!(login.field("token"), Some(&right[..]));
            assert!(!format!("{login:?}").contains(&right));

            let mut refused = dialogue(&dovecot);
            let said = refused.auth(mechanism, message(mechanism, &forged));
            // RFC 7628, section 3.2.2.
            let error = String::from_utf8(challenge(&said)).unwrap();
            assert!(error.starts_with("{\"status\":"), "{error}");
            assert_eq!(code(&refused.respond("\x01")), 535);
        }
    }
}

#[test]
fn external() {
    let Some(server) = Server::start() else { return };
    // As if it were a certificate.
    let name = |chain: &[Vec<u8>]| String::from_utf8(chain[0].clone()).ok();
    let dovecot = Settings::unix(server.socket()).name_certificates(name).connect().unwrap();
    let log_in = |certificate: &str| {
        let mut tls = TlsInfo::new(TlsVersion::Tls1_3, "TLS_AES_128_GCM_SHA256");
        tls.peer_certificates.push(certificate.into());
        let auth = dovecot.offer(Auth::without_mechanisms()).unwrap();
        let mut dialogue = Dialogue::new(dovecot.exchange(), auth, Peer::local(), Some(tls));
        (code(&dialogue.auth("EXTERNAL", "")), dialogue.session().login().map(str::to_owned))
    };
    assert_eq!(log_in(CERTIFIED), (235, Some(CERTIFIED.to_owned())), "{}", server.log());
    assert_eq!(log_in("nobody"), (535, None));
    assert_eq!(log_in("certified\tcert_username=tim"), (535, None));
    assert_eq!(log_in(""), (535, None));
}

#[test]
fn anonymous_where_it_is_asked_for() {
    let Some(server) = Server::start() else { return };
    let dovecot = Dovecot::connect(server.socket()).unwrap();
    let mut dialogue = Dialogue::in_the_clear(&dovecot);
    assert_eq!(code(&dialogue.auth("ANONYMOUS", "somebody")), 504);
    let auth = Auth::without_mechanisms().handler_mechanism("ANONYMOUS").require_tls(false);
    let mut dialogue = Dialogue::new(dovecot.exchange(), auth, Peer::local(), None);
    assert_eq!(code(&dialogue.auth("ANONYMOUS", "somebody")), 235);
    let login: &Login = dialogue.session().auth_data().unwrap();
    assert_eq!((dialogue.session().login(), login.field("anonymous")), (Some("anonymous"), Some("")));
}

#[test]
fn a_user_who_may_not_log_in_does_not() {
    let Some(server) = Server::start() else { return };
    let dovecot = Dovecot::connect(server.socket()).unwrap();
    let (user, password) = DISABLED;
    for dialogue in [Dialogue::in_the_clear, Dialogue::of_the_engine] {
        let mut dialogue = dialogue(&dovecot);
        let said = dialogue.auth("PLAIN", format!("\0{user}\0{password}"));
        assert_eq!(said, "535 5.7.8 Authentication credentials invalid");
        assert_eq!(dialogue.failures, [AuthFailure::Refused(Refusal::Disabled)]);
    }
}

#[test]
fn a_master_user_acts_as_another_and_nobody_else_does() {
    let Some(server) = Server::start() else { return };
    let dovecot = Dovecot::connect(server.socket()).unwrap();
    for dialogue in [Dialogue::in_the_clear, Dialogue::of_the_engine] {
        let mut accepted = dialogue(&dovecot);
        assert_eq!(
            code(&accepted.auth("PLAIN", format!("{USER}\0{}\0{}", MASTER.0, MASTER.1))),
            235,
            "{}",
            server.log()
        );
        assert_eq!(accepted.session().login(), Some(USER));
        assert_eq!(accepted.session().auth_data::<Login>().unwrap().field("auth_user"), Some(MASTER.0));
        let mut same = dialogue(&dovecot);
        assert_eq!(code(&same.auth("PLAIN", format!("{USER}\0{USER}\0{PASSWORD}"))), 235);
        let mut refused = dialogue(&dovecot);
        assert_eq!(code(&refused.auth("PLAIN", format!("{CERTIFIED}\0{USER}\0{PASSWORD}"))), 535);
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
