//! Servers that do not answer as they should.

use std::io::Read;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use sansmtp_authenticators::oauth2::{Introspection, IntrospectionLimits, TokenRules};
use serde_json::json;

use super::server::{Server, ok};
use super::support::logs;
use super::{FORGETFUL, ask, client, code};

fn sends(answer: Vec<u8>) -> Server {
    Server::start(move |_, stream| stream.write_all(&answer))
}

#[test]
fn forms_of_an_answer() {
    let body = r#"{"active":true,"username":"tim"}"#;
    let chunks = |head: &str, chunks: &str| format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{chunks}").into_bytes();
    for answer in [
        ok(body),
        ok(&format!(" {body}\r\n")),
        format!("HTTP/1.0 200 OK\r\n\r\n{body}").into_bytes(),
        format!("HTTP/1.1 200\r\nX: y\r\n\r\n{body}").into_bytes(),
        chunks("Transfer-Encoding: chunked", "9;a=b\r\n{\"active\"\r\n17\r\n:true,\"username\":\"tim\"}\r\n0\r\n\r\n"),
        chunks("content-length: 3\r\ntransfer-encoding: CHUNKED", &format!("20\r\n{body}\r\n0\r\nTrailer: x\r\n\r\n")),
    ] {
        let server = sends(answer.clone());
        assert_eq!(code(&ask(&server, TokenRules::new()), "x"), 235, "{}", answer.escape_ascii());
        // However it is cut.
        let server = Server::start(move |_, stream| {
            answer.iter().try_for_each(|octet| stream.write_all(&[*octet]).and_then(|()| stream.flush()))
        });
        assert_eq!(code(&ask(&server, TokenRules::new()), "x"), 235);
    }
}

#[test]
fn whatever_is_no_answer_is_no_refusal() {
    let body = r#"{"active":true,"username":"tim"}"#;
    let with_status = |status: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 32\r\n\r\n{body}").into_bytes();
    let chunked = |chunks: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}").into_bytes();
    for answer in [
        vec![],
        b"\r\n".to_vec(),
        b"220 mx.example.org ESMTP\r\n".to_vec(),
        vec![0xff; 4_096],
        body.as_bytes().to_vec(),
        with_status("301 Moved\r\nLocation: http://127.0.0.1:1/"),
        with_status("307 Moved\r\nLocation: http://127.0.0.1:1/"),
        with_status("201 Created"),
        with_status("400 Bad Request"),
        with_status("401 Unauthorized"),
        with_status("403 Forbidden"),
        with_status("404 Not Found"),
        with_status("429 Too Many Requests"),
        with_status("500 Internal Server Error"),
        with_status("503 Service Unavailable"),
        with_status("100 Continue"),
        ok(""),
        ok("true"),
        ok("[true]"),
        ok("{}"),
        ok(r#"{"active":"true","username":"tim"}"#),
        ok(r#"{"active":1,"username":"tim"}"#),
        ok(r#"{"active":null,"username":"tim"}"#),
        ok(r#"{"Active":true,"username":"tim"}"#),
        ok(&format!("{body}{body}")),
        ok(&format!("<html>{body}</html>")),
        ok(&"[".repeat(10_000)),
        // More was announced than came, and less.
        format!("HTTP/1.1 200 OK\r\nContent-Length: 33\r\n\r\n{body}").into_bytes(),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 31\r\n\r\n{body}").into_bytes(),
        format!("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{body}").into_bytes(),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n{body}").into_bytes(),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n{body}").into_bytes(),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{body}").into_bytes(),
        chunked(&format!("20\r\n{body}\r\n")),
        chunked(&format!("20\r\n{body}")),
        chunked(&format!("20\r\n{body}xx0\r\n\r\n")),
        chunked("ffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
        chunked("fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
        chunked("-1\r\n{}\r\n0\r\n\r\n"),
        chunked("x\r\n"),
        // Without end.
        [ok("")[..17].to_vec(), b"X: y\r\n".repeat(1_000)].concat(),
        [ok("")[..17].to_vec(), vec![b'x'; 200_000]].concat(),
        [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b' '; 200_000], body.into()].concat(),
        chunked(&"1\r\n \r\n".repeat(100_000)),
    ] {
        let server = sends(answer.clone());
        let start = answer.get(..120).unwrap_or(&answer);
        assert_eq!(code(&ask(&server, TokenRules::new()), "x"), 454, "{}", start.escape_ascii());
        assert_eq!(server.take_count(), 1);
    }
}

#[test]
fn a_server_that_is_slow_is_waited_for_so_long_and_no_longer() {
    let limits = IntrospectionLimits { time: Duration::from_millis(400), ..FORGETFUL };
    let never = TcpListener::bind("127.0.0.1:0").unwrap();
    let never_url = format!("http://{}/", never.local_addr().unwrap());
    let drip = Server::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")?;
        loop {
            stream.write_all(b" ")?;
            stream.flush()?;
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    // A handshake that never comes to an end.
    let tls_url = never_url.replace("http:", "https:");
    for url in [never_url, drip.url(), tls_url] {
        let introspection = Introspection::new(&url, client(), TokenRules::new()).unwrap().limits(limits);
        let started = Instant::now();
        assert_eq!(code(&introspection, "x"), 454, "{url}");
        let took = started.elapsed();
        assert!((limits.time..Duration::from_secs(5)).contains(&took), "{url}: {took:?}");
    }
}

#[test]
fn nobody_there() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in [format!("http://{free}/"), format!("http://localhost:{}/", free.port())] {
        assert_eq!(code(&Introspection::new(&url, client(), TokenRules::new()).unwrap(), "x"), 454, "{url}");
    }
    // RFC 6761, section 6.4: there is never such a host.
    let introspection = Introspection::new("https://id.invalid/", client(), TokenRules::new()).unwrap();
    assert_eq!(code(&introspection, "x"), 454);
}

#[test]
fn a_name_is_resolved() {
    let server = sends(ok(r#"{"active":true,"username":"tim"}"#));
    let url = format!("http://localhost:{}/", server.address.port());
    assert_eq!(code(&Introspection::new(&url, client(), TokenRules::new()).unwrap(), "x"), 235);
}

#[test]
fn secrets_are_shown_to_the_server_only() {
    let secrets =
        ["the-client's-secret", "the-client%27s-secret", "bXg6dGhl", "dG9rZW4tb2Ytc29tZWJvZHk", "somebody-by-name"];
    let [.., token, user] = secrets;
    let answers = [
        ok(&json!({ "active": true, "username": user }).to_string()),
        ok(r#"{"active":false}"#),
        format!("HTTP/1.1 500 {token}\r\nX: {token}\r\n\r\n{token}").into_bytes(),
        token.as_bytes().to_vec(),
    ];
    let mut shown = String::new();
    for answer in answers {
        let server = sends(answer);
        let introspection = ask(&server, TokenRules::new());
        let (code, log) = logs::collect_here(|| {
            [code(&introspection, token), {
                drop(server);
                code(&introspection, token)
            }]
        });
        assert!([[535, 454], [454, 454]].contains(&code), "{code:?}");
        assert_eq!(log.lines().count(), 2, "{log}");
        shown.push_str(&format!("{log} {introspection:?} {introspection:#?}"));
    }
    for line in ["status 500", "not active", "not the token of the user", "not as RFC 7662"] {
        assert!(shown.contains(line), "{line} is not in {shown}");
    }
    for secret in secrets {
        assert!(!shown.contains(secret), "{secret} is in {shown}");
    }
}

/// It does not wait for the end of a connection that the server keeps open.
#[test]
fn an_answer_is_taken_when_it_is_whole() {
    let server = Server::start(|_, stream| {
        stream.write_all(&ok(r#"{"active":true,"username":"tim"}"#))?;
        stream.flush()?;
        std::thread::sleep(Duration::from_secs(60));
        Ok(())
    });
    let started = Instant::now();
    assert_eq!(code(&ask(&server, TokenRules::new()), "x"), 235);
    assert!(started.elapsed() < Duration::from_secs(5));
}

/// A server that closes without having read everything.
#[test]
fn a_connection_that_breaks_is_no_refusal() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut one = [0];
            let _ = stream.read(&mut one);
        }
    });
    let introspection = Introspection::new(&url, client(), TokenRules::new()).unwrap();
    for _ in 0..10 {
        assert_eq!(code(&introspection, &"x".repeat(4_000)), 454);
    }
}

#[test]
fn a_limit_without_end_is_no_fault() {
    let server = sends(ok(r#"{"active":true,"username":"tim"}"#));
    let limits = IntrospectionLimits { time: Duration::MAX, active_for: Duration::MAX, ..FORGETFUL };
    assert_eq!(code(&ask(&server, TokenRules::new()).limits(limits), "x"), 235);
}
