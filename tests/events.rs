//! What events tell beyond the order that the transcripts show: octets and time, the connection's number and
//! listener, and the end of a connection that nobody can say anything to any more.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test names what it is about")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sansmtp::testing::Play;
use sansmtp::{
    Action, Auth, CloseReason, Config, Connection, Event, Events, Handler, Hooks, Peer, Proxy, Session, TlsFailure,
    TlsInfo, TlsVersion, Verdict,
};

fn config(hooks: Hooks) -> Arc<Config> {
    let auth = Auth::new().require_tls(false);
    let builder = Config::builder("mx.example.org").auth(auth).starttls(true).hooks(hooks).events(Events::ALL);
    builder.name("submission").build().expect("a sound configuration")
}

/// Polls until the connection waits; writes down events, and everything else by its first word.
fn run(connection: &mut Connection, now: Duration, mut input: &[u8], seen: &mut Vec<String>) {
    loop {
        let answer = match connection.poll(now, &mut input) {
            Action::Event(Event::Closed { reason, received, sent, lasted, .. }) => {
                seen.push(format!("closed {reason} {received} {sent} {}", lasted.as_secs()));
                None
            }
            Action::Event(event) => {
                assert_eq!(event.session().listener(), Some("submission"));
                let event = format!("{event:?}");
                seen.push(event.split(' ').next().unwrap_or_default().into());
                None
            }
            Action::Aborted(aborted) => {
                seen.push(format!("aborted {:?} {}", aborted.reason, aborted.octets));
                None
            }
            Action::Reply(_) => {
                seen.push("reply".into());
                None
            }
            Action::Challenge(_) => {
                seen.push("challenge".into());
                None
            }
            Action::Flush { .. } | Action::Content(_) => None,
            Action::CallHook(call) => Some(call.answer(Verdict::Accept)),
            Action::Close => return seen.push("close".into()),
            Action::NeedInput { .. }
            | Action::AwaitAnswer { .. }
            | Action::StartTls
            | Action::Pause { .. }
            | Action::CallAuthenticator(_)
            | Action::CallAuthHandler(_)
            | Action::Transmit(_) => return,
        };
        if let Some(answer) = answer {
            connection.answer(answer).expect("it was asked");
        }
    }
}

#[test]
fn the_last_event_counts_octets_and_time() {
    let session: &[u8] = b"EHLO c\r\nNOOP\r\nQUIT\r\nwhat nobody reads";
    for cut in [1, 7, session.len()] {
        let mut connection = Connection::new(config(Hooks::NONE), Peer::local());
        let (mut seen, mut sent) = (Vec::new(), 0);
        let mut pieces = session.chunks(cut);
        let mut input: &[u8] = b"";
        let closed = loop {
            match connection.poll(Duration::from_secs(17), &mut input) {
                Action::Reply(reply) => sent += reply.as_bytes().len(),
                Action::Event(Event::Closed { reason, received, sent, lasted, .. }) => {
                    seen.push((reason, received, sent, lasted));
                }
                Action::NeedInput { .. } => input = pieces.next().expect("QUIT comes before the end"),
                Action::Close => break seen,
                _ => {}
            }
        };
        let sent = u64::try_from(sent).expect("a count");
        assert_eq!(closed, [(CloseReason::Quit, 20, sent, Duration::from_secs(17))], "cut {cut}");
    }
}

#[test]
fn an_abandoned_connection_says_nothing_and_tells_everything() {
    let transaction = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n";
    for (what, session, told) in [
        ("nothing", "", &["closed cut-off 0"][..]),
        ("a command", "NO", &["closed cut-off 2"]),
        ("an exchange", "EHLO c\r\nAUTH PLAIN\r\n", &["AuthFailed", "closed cut-off 20"]),
        ("a question", "EHLO c\r\nAUTH PLAIN AHRpbQB4\r\n", &["AuthFailed", "closed cut-off 29"]),
        (
            "a message",
            &format!("EHLO c\r\n{transaction}DATA\r\nhalf"),
            &["aborted ConnectionLost 4", "closed cut-off 50"],
        ),
        ("the handshake", "EHLO c\r\nSTARTTLS\r\n", &["closed cut-off 18"]),
        ("the end", "QUIT\r\n", &["closed quit 6"]),
    ] {
        let mut connection = Connection::new(config(Hooks::MESSAGE), Peer::local());
        let mut seen = Vec::new();
        let mut input = session.as_bytes();
        // Up to where it waits, or says its last words.
        loop {
            match connection.poll(Duration::ZERO, &mut input) {
                Action::Reply(reply) if reply.code() == 221 => break,
                Action::NeedInput { .. } | Action::StartTls | Action::CallAuthenticator(_) => break,
                _ => {}
            }
        }
        connection.abandon(CloseReason::CutOff);
        run(&mut connection, Duration::from_secs(3), b"NOOP\r\n", &mut seen);
        assert_eq!(seen.pop().as_deref(), Some("close"), "{what}");
        let seen: Vec<_> = seen.iter().map(|entry| entry.strip_suffix(" 3").unwrap_or(entry)).collect();
        for (seen, told) in seen.iter().zip(told) {
            assert!(seen.starts_with(told), "{what}: {seen} is not {told}");
        }
        assert_eq!(seen.len(), told.len(), "{what}: {seen:?}");
        // Once and for all.
        connection.abandon(CloseReason::Lost);
        let mut again = Vec::new();
        run(&mut connection, Duration::from_secs(4), b"", &mut again);
        assert_eq!(again, ["close"], "{what}");
    }
}

#[test]
fn a_connection_that_was_never_polled_is_opened_and_closed() {
    let mut connection = Connection::new(config(Hooks::ALL), Peer::local());
    connection.abandon(CloseReason::CutOff);
    let mut seen = Vec::new();
    run(&mut connection, Duration::ZERO, b"", &mut seen);
    assert_eq!(seen, ["Opened", "closed cut-off 0 0 0", "close"]);
}

#[test]
fn a_session_has_its_number_and_where_it_came_in() {
    let local: SocketAddr = "192.0.2.1:587".parse().expect("an address");
    let connection = Connection::new(config(Hooks::NONE), Peer::local()).with_id(7).with_local_address(local);
    let session = connection.session();
    assert_eq!((session.id(), session.local_address(), session.listener()), (7, Some(local), Some("submission")));

    let unnamed = Config::builder("mx.example.org").build().expect("a sound configuration");
    let connection = Connection::new(unnamed, Peer::local());
    let session = connection.session();
    assert_eq!((session.id(), session.local_address(), session.listener()), (0, None, None));
}

/// What came in stays what it is: under TLS, and behind a proxy that has another address for itself.
#[test]
fn where_it_came_in_outlasts_tls_and_a_proxy() {
    let local: SocketAddr = "192.0.2.1:465".parse().expect("an address");
    let proxy: SocketAddr = "192.0.2.9:4000".parse().expect("an address");
    let config = Config::builder("mx.example.org")
        .proxy(Proxy::from_networks(["192.0.2.9".parse().expect("a network")]))
        .implicit_tls(true)
        .name("smtps")
        .build()
        .expect("a sound configuration");
    let mut connection = Connection::new(config, proxy).with_id(9).with_local_address(local);
    let mut header: &[u8] = b"PROXY TCP4 198.51.100.7 203.0.113.1 56324 465\r\n";
    while connection.poll_proxy_header(Duration::ZERO, &mut header).is_some() {}
    connection.tls_established(TlsInfo::new(TlsVersion::Tls1_3, "TLS_AES_128_GCM_SHA256")).expect("the header is over");
    let session = connection.session();
    assert_eq!((session.id(), session.local_address(), session.listener()), (9, Some(local), Some("smtps")));
    assert_eq!(session.peer().to_string(), "198.51.100.7:56324");
    let destination = session.proxy().and_then(|proxy| proxy.destination()).map(|address| format!("{address:?}"));
    assert!(destination.is_some_and(|destination| destination.contains("203.0.113.1")));
}

#[test]
fn a_handshake_that_the_driver_does_is_told_when_it_fails() {
    for (reason, word) in
        [(TlsFailure::Alert(48), "alert-unknown-ca"), (TlsFailure::NoCommonVersion, "no-common-version")]
    {
        let mut connection = Connection::new(config(Hooks::NONE), Peer::local());
        let mut seen = Vec::new();
        run(&mut connection, Duration::ZERO, b"EHLO c\r\nSTARTTLS\r\n", &mut seen);
        connection.tls_failed(reason);
        let failed = match connection.poll(Duration::ZERO, &mut &b""[..]) {
            Action::Event(Event::TlsFailed { reason, .. }) => reason.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(failed, word);
    }
}

/// A driver that never says how its handshake went.
#[test]
fn a_handshake_that_takes_too_long_has_failed() {
    let mut connection = Connection::new(config(Hooks::NONE), Peer::local());
    let mut seen = Vec::new();
    run(&mut connection, Duration::ZERO, b"EHLO c\r\nSTARTTLS\r\n", &mut seen);
    seen.clear();
    run(&mut connection, Duration::from_secs(300), b"", &mut seen);
    let [failed, closed, close] = &seen[..] else { panic!("{seen:?}") };
    assert!(failed == "TlsFailed" && closed.starts_with("closed tls-failed 18 ") && close == "close", "{seen:?}");
}

/// What a test without sockets gives a handler that goes by it.
#[test]
fn a_played_session_says_where_it_came_in() {
    struct Asserts;

    impl Handler for Asserts {
        type Message = ();

        fn connect(&mut self, session: &Session) -> Verdict {
            let local: SocketAddr = "192.0.2.1:587".parse().expect("an address");
            let is_told = (session.id(), session.local_address(), session.listener());
            assert_eq!(is_told, (7, Some(local), Some("submission")));
            Verdict::Accept
        }
    }

    let play = Play::new(config(Hooks::NONE)).id(7).local_address("192.0.2.1:587".parse().expect("an address"));
    play.transcript_with(&mut Asserts, "!: opened\nS*: 220").expect("a greeting");
}
