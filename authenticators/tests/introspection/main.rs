//! Tokens about which an authorization server is asked.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is how a test fails")]

mod faults;
mod remembered;
mod server;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use sansmtp::Secret;
use sansmtp_authenticators::oauth2::{
    Introspection, IntrospectionClient, IntrospectionError, IntrospectionLimits, RulesError, TokenRules,
};
use sansmtp_authenticators::{Authenticator, Chain};
use serde_json::{Value, json};
use server::{Server, decoded, ok};
use support::battery::{Backend, USERS, battery};
use support::login::{Door, auth, oauthbearer, xoauth2};
use support::scripted::{Users, looked_up};
use support::signer::encode;

/// The time, in seconds since 1970.
const NOW: u64 = 1_800_000_000;

/// Remembers nothing.
const FORGETFUL: IntrospectionLimits = IntrospectionLimits {
    time: Duration::from_secs(10),
    waiting: 1000,
    active: 0,
    active_for: Duration::ZERO,
    refused: 0,
    refused_for: Duration::ZERO,
};

fn client() -> IntrospectionClient {
    IntrospectionClient::basic("mx", Secret::from(&b"the-client's-secret"[..]))
}

fn ask(server: &Server, rules: TokenRules) -> Introspection {
    Introspection::new(&server.url(), client(), rules).unwrap().limits(FORGETFUL)
}

/// A server that says the same about all tokens.
fn says(answer: &Value) -> Server {
    let answer = ok(&answer.to_string());
    Server::start(move |_, stream| stream.write_all(&answer))
}

fn at(introspection: Introspection, time: &Arc<AtomicU64>) -> Introspection {
    let time = time.clone();
    introspection.with_clock(move || SystemTime::UNIX_EPOCH + Duration::from_secs(time.load(Ordering::SeqCst)))
}

#[test]
fn the_question_is_that_of_rfc_7662() {
    let server = says(&json!({ "active": true, "username": "tim" }));
    assert_eq!(auth(&ask(&server, TokenRules::new()), &xoauth2("tim", "a+token/of~tim.-_==")), 235);
    let asked = server.last();
    assert!(asked.head.starts_with("POST /introspect?realm=a HTTP/1.1\r\n"), "{}", asked.head);
    assert_eq!(asked.header("host"), Some(&*server.address.to_string()));
    assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(asked.header("accept"), Some("application/json"));
    assert_eq!(asked.field("token").as_deref(), Some("a+token/of~tim.-_=="));
    assert_eq!(asked.field("token_type_hint").as_deref(), Some("access_token"));
    assert_eq!((asked.field("client_id"), asked.field("client_secret")), (None, None));
    let basic = asked.header("authorization").unwrap().strip_prefix("Basic ").unwrap();
    assert_eq!(BASE64_STANDARD.decode(basic).unwrap(), b"mx:the-client%27s-secret");
}

#[test]
fn the_client_shows_who_it_is() {
    let server = says(&json!({ "active": true, "username": "tim" }));
    let ask = |client| {
        let introspection = Introspection::new(&server.url(), client, TokenRules::new()).unwrap();
        assert_eq!(auth(&introspection.limits(FORGETFUL), &oauthbearer("", "x")), 235);
        server.last()
    };
    let (id, secret) = ("m x:é&=%", "s:ü&client_id=other \r\n+%00");
    let asked = ask(IntrospectionClient::post(id, Secret::from(secret.as_bytes())));
    assert_eq!(asked.header("authorization"), None);
    assert_eq!(
        (asked.field("client_id").as_deref(), asked.field("client_secret").as_deref()),
        (Some(id), Some(secret))
    );
    let asked = ask(IntrospectionClient::basic(id, Secret::from(secret.as_bytes())));
    let basic = asked.header("authorization").unwrap().strip_prefix("Basic ").unwrap();
    let pair = String::from_utf8(BASE64_STANDARD.decode(basic).unwrap()).unwrap();
    let (shown_id, shown_secret) = pair.split_once(':').unwrap();
    assert_eq!((&*decoded(shown_id), &*decoded(shown_secret)), (id, secret));
    let asked = ask(IntrospectionClient::bearer(Secret::from(&b"its.own+token=="[..])));
    assert_eq!(asked.header("authorization"), Some("Bearer its.own+token=="));
}

#[test]
fn what_the_answer_has_to_say() {
    let time = Arc::new(AtomicU64::new(NOW));
    let good = json!({
        "active": true, "username": "tim", "sub": "7", "iss": "https://id.example.org", "aud": ["mx", "x"],
        "scope": "mail.send", "exp": NOW + 60,
    });
    let rules = || TokenRules::new().issuer("https://id.example.org").audience("mx").scope("mail.send");
    for (claim, value, code) in [
        ("active", json!(true), 235),
        ("active", json!(false), 535),
        ("username", json!("kurt"), 535),
        ("username", json!(""), 535),
        ("username", json!(["tim"]), 535),
        ("username", Value::Null, 535),
        ("iss", Value::Null, 235),
        ("iss", json!("https://other.example.org"), 535),
        ("aud", json!("mx"), 235),
        ("aud", json!("x"), 535),
        ("aud", Value::Null, 535),
        ("scope", json!("mail.read"), 535),
        ("scope", Value::Null, 535),
        ("exp", Value::Null, 235),
        ("exp", json!(NOW - 61), 535),
        ("nbf", json!(NOW + 61), 535),
        ("cnf", json!({ "x5t#S256": "x" }), 535),
    ] {
        let mut answer = good.clone();
        if value.is_null() {
            answer.as_object_mut().unwrap().remove(claim);
        } else {
            answer[claim] = value.clone();
        }
        let server = says(&answer);
        let introspection = at(ask(&server, rules()), &time);
        assert_eq!(auth(&introspection, &xoauth2("tim", "x")), code, "{claim}: {value}");
    }
    // Where nothing is asked for, it is the server's business.
    let server = says(&json!({ "active": true, "username": "tim" }));
    assert_eq!(auth(&ask(&server, TokenRules::new()), &oauthbearer("tim", "x")), 235);
    assert_eq!(auth(&ask(&server, TokenRules::new()), &oauthbearer("kurt", "x")), 535);
    let server = says(&good);
    assert_eq!(auth(&at(ask(&server, TokenRules::new().login_claim("sub")), &time), &xoauth2("7", "x")), 235);
}

#[test]
fn tls_to_a_server_that_is_who_it_says() {
    let authority = rcgen::CertificateParams::new([]).map(|mut params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
    });
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let authority_certificate = authority.clone().unwrap().self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority.unwrap(), authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = |name: &str| {
        let certificate = rcgen::CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let config = config.unwrap().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key);
        let answer = ok(r#"{"active":true,"username":"tim"}"#);
        Server::start_with(move |_, stream| stream.write_all(&answer), Some(Arc::new(config.unwrap())))
    };
    let mut roots = RootCertStore::empty();
    roots.add(authority_certificate.der().clone()).unwrap();
    let tls = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let tls = Arc::new(tls.with_root_certificates(roots).with_no_client_auth());
    for (name, code) in [("127.0.0.1", 235), ("127.0.0.2", 454)] {
        let server = server(name);
        let introspection =
            Introspection::new_with_tls(&server.url(), client(), TokenRules::new(), tls.clone()).unwrap();
        assert_eq!(auth(&introspection, &xoauth2("tim", "x")), code, "a certificate for {name}");
        // Nothing was asked before it was known who is there.
        assert_eq!(server.take_count(), usize::from(code == 235));
        // The operating system knows no such authority.
        let introspection = Introspection::new(&server.url(), client(), TokenRules::new()).unwrap();
        assert_eq!(auth(&introspection, &xoauth2("tim", "x")), 454);
        assert_eq!(server.take_count(), 0);
    }
}

#[test]
fn settings_that_are_wrong_are_named() {
    let new = |url: &str, client, rules| Introspection::new(url, client, rules).map(|_| ()).unwrap_err();
    for url in [
        "",
        "id.example.org",
        "ftp://id.example.org/",
        "http://id.example.org/introspect",
        "http://127.0.0.1.example.org/",
        "https://",
        "https:///introspect",
        "https://user:password@id.example.org/",
        "https://id.example.org:port/",
        "https://id.example.org:99999/",
        "https://id.example.org/a b",
        "https://id.example.org/\r\nX: y",
        "https://id.example.org/#x",
        "https://[::1/",
        "https://i_d!.example.org/",
    ] {
        let error = new(url, client(), TokenRules::new());
        assert!(matches!(error, IntrospectionError::Endpoint(_)), "{url}: {error:?}");
        assert!(error.to_string().contains("endpoint") && !error.to_string().contains("password@"), "{error}");
    }
    for url in [
        "http://localhost:1/",
        "http://127.0.0.1",
        "http://[::1]:1?a",
        "https://id.example.org",
        "https://[2001:db8::1]",
    ] {
        assert!(Introspection::new(url, client(), TokenRules::new()).is_ok(), "{url}");
    }
    let secret = |text: &str| Secret::from(text.as_bytes());
    for client in [
        IntrospectionClient::basic("", secret("x")),
        IntrospectionClient::basic("mx", secret("")),
        IntrospectionClient::post("", secret("x")),
        IntrospectionClient::bearer(secret("")),
        IntrospectionClient::bearer(secret("a\r\nX: b")),
    ] {
        let error = new("https://id.example.org/", client, TokenRules::new());
        assert!(matches!(error, IntrospectionError::Client(_)), "{error:?}");
    }
    let error = new("https://id.example.org/", client(), TokenRules::new().audience(""));
    assert!(matches!(error, IntrospectionError::Rules(RulesError::Empty("audience"))), "{error:?}");
}

/// One that the server does not know may be somebody else's; one that it knows is nobody else's.
#[test]
fn in_a_chain() {
    let answers = |asked: &server::Asked, stream: &mut dyn std::io::Write| match asked.field("token").as_deref() {
        Some("good") => stream.write_all(&ok(r#"{"active":true,"username":"tim"}"#)),
        Some("other") => stream.write_all(&ok(r#"{"active":true,"username":"kurt"}"#)),
        _ => stream.write_all(&ok(r#"{"active":false}"#)),
    };
    let (mut one, two) = (Server::start(answers), says(&json!({ "active": true, "username": "tim" })));
    let chain = Chain::new()
        .then(ask(&one, TokenRules::new()))
        .then(ask(&two, TokenRules::new()))
        .then(Users::new(&USERS, looked_up));
    assert_eq!((auth(&chain, &xoauth2("tim", "good")), two.take_count()), (235, 0));
    assert_eq!((auth(&chain, &xoauth2("tim", "other")), two.take_count()), (535, 0));
    assert_eq!((auth(&chain, &xoauth2("tim", "unknown")), two.take_count()), (235, 1));
    one.stop();
    assert_eq!((auth(&chain, &xoauth2("tim", "unknown")), two.take_count()), (454, 0));
    // Passwords are none of its business.
    assert_eq!((chain.log_in("tim", "tanstaaftanstaaf"), chain.log_in("tim", "x")), (235, 535));
    assert_eq!(chain.log_in("nobody", "x"), 535);
}

/// A token is the user and the password, and the server knows whose it is.
struct Tokens(Server);

struct ByToken(Introspection);

impl Door for ByToken {
    fn log_in(&self, user: &str, password: &str) -> u16 {
        let token = encode(format!("{user}\0{password}").as_bytes());
        // XOAUTH2 has no message without a user.
        auth(&self.0, &if user.is_empty() { oauthbearer("", &token) } else { xoauth2(user, &token) })
    }
}

impl Backend for Tokens {
    fn start() -> Option<Self> {
        Some(Self(Server::start(|asked, stream| {
            let token = asked.field("token").unwrap();
            let known = USERS.iter().find(|(user, password)| token == encode(format!("{user}\0{password}").as_bytes()));
            let answer = match known {
                Some((user, _)) => json!({ "active": true, "username": user }),
                None => json!({ "active": false }),
            };
            stream.write_all(&ok(&answer.to_string()))
        })))
    }

    fn door(&self) -> Arc<dyn Door> {
        Arc::new(ByToken(ask(&self.0, TokenRules::new())))
    }

    fn stop(&mut self) -> bool {
        self.0.stop();
        true
    }

    fn start_again(&mut self) {
        self.0.start_again();
    }

    fn stalled(&self) -> Option<Arc<dyn Door>> {
        let url = format!("http://{}/", support::stalled::tcp());
        let introspection = Introspection::new(&url, client(), TokenRules::new()).unwrap();
        let limits = IntrospectionLimits { time: Duration::from_millis(300), ..FORGETFUL };
        Some(Arc::new(ByToken(introspection.limits(limits))))
    }
}

battery!(Tokens);

fn code(introspection: &impl Authenticator, token: &str) -> u16 {
    auth(introspection, &xoauth2("tim", token))
}
