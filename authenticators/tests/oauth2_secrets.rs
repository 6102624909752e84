//! Tokens, and the secret with which a server is asked about them, are not in memory that is given back.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, SystemTime};

use sansmtp::Secret;
use sansmtp_authenticators::oauth2::{Introspection, IntrospectionClient, Jwks, Jwt, TokenRules};
use support::login::auth;

#[global_allocator]
static ALLOCATOR: test_alloc::TestAlloc = test_alloc::TestAlloc;

/// With the token of [`SIGNED`].
const SIGNED_WORDS: &str = "XOAUTH2 dXNlcj10aW0BYXV0aD1CZWFyZXIgZXlKaGJHY2lPaUpGWkVSVFFTSjkuZXlKcGMzTWlPaUpwWkNJc0ltRjFaQ0k\
     2SW0xNElpd2ljM1ZpSWpvaWRHbHRJaXdpWlhod0lqb3hPREF3TURBd016QXdmUS5sWGpOOExJQUZrYm10Zl9zSk0yMEdycU\
     hBNUNqczdJZDZQMHdtTFg2dmh4NklKUmJJYjlHTno4aUhJUXZUUHQ0UXBTU0tqaW5pc0hfNGo5el9vUnVBZwEB";

/// The public key of RFC 8037, section A.2.
const KEYS: &[u8] = br#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// Of a signed token: the end as it was sent, the beginning of what that stands for, and what it claims.
static SIGNED: [&[u8]; 3] = [
    b"RbIb9GNz8iHIQvTPt4QpSSKjinisH_4j9z_oRuAg",
    b"\x95\x78\xcd\xf0\xb2\x00\x16\x46\xe6\xb5\xff\xec\x24\xcd\xb4\x1a",
    br#"{"iss":"id","aud":"mx","sub":"tim","exp":1800000300}"#,
];

/// With the token of [`OPAQUE`].
const OPAQUE_WORDS: &str = "XOAUTH2 dXNlcj10aW0BYXV0aD1CZWFyZXIgYW4tb3BhcXVlLXRva2VuLW9mLXRpbQEB";

/// Another token; the client's secret, and as it is sent.
static OPAQUE: [&[u8]; 3] = [b"an-opaque-token-of-tim", b"the-secret-of-mx", b"dGhlLXNlY3JldC1vZi1teA=="];

#[test]
fn signed_tokens() {
    let found = test_alloc::watch(&SIGNED, || {
        let rules = TokenRules::new().issuer("id").audience("mx");
        let jwt = Jwt::new(rules, Jwks::from_json(KEYS).unwrap()).unwrap();
        let jwt = jwt.with_clock(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        assert_eq!(auth(&jwt, SIGNED_WORDS), 235);
        let late = jwt.with_clock(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000));
        assert_eq!(auth(&late, SIGNED_WORDS), 535);
    });
    assert_eq!(found, [0, 0, 0]);
}

#[test]
fn introspection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // So long that the request does not fit where it is begun, and has to move.
    let url = format!("http://{}/{}", listener.local_addr().unwrap(), "x".repeat(800));
    std::thread::spawn(move || {
        for (stream, active) in listener.incoming().flatten().zip([true, false]) {
            let (mut stream, mut octets) = (stream, [0; 4_096]);
            let mut length = 0;
            while !octets[..length].ends_with(b"access_token") {
                length += stream.read(&mut octets[length..]).unwrap();
            }
            let body = format!("{{\"active\":{active},\"username\":\"tim\"}}");
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        }
    });
    let found = test_alloc::watch(&OPAQUE, || {
        let ask = || {
            let client = IntrospectionClient::basic("mx", Secret::from(OPAQUE[1]));
            Introspection::new(&url, client, TokenRules::new()).unwrap()
        };
        assert_eq!((auth(&ask(), OPAQUE_WORDS), auth(&ask(), OPAQUE_WORDS)), (235, 535));
        // Nobody is there any more.
        assert_eq!(auth(&ask(), OPAQUE_WORDS), 454);
    });
    assert_eq!(found, [0, 0, 0]);
    // It does look.
    assert_eq!(test_alloc::watch(&OPAQUE, || drop(std::hint::black_box(OPAQUE[1].to_vec()))), [0, 1, 0]);
}
