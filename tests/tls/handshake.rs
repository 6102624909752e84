//! Octets in the clear where TLS should begin (CVE-2011-0411), and handshakes that do not end.

use std::sync::Arc;
use std::time::Duration;

use rustls::version;
use sansmtp::Timeouts;
use sansmtp::tls::Session;

use crate::certificates::{client_config, server_config};
use crate::server::{Server, Wait};
use crate::wire::{Cut, Wire, config, connection, implicit_session, starttls_session};

#[test]
fn clear_octets_behind_starttls_are_never_commands() {
    for (first, second) in [
        ("STARTTLS\r\nRSET\r\n", ""),
        ("STARTTLS\r\n", "EHLO attacker.example\r\nRSET\r\n"),
        ("STARTTLS\r\n", "\r\n"),
        ("STARTTLS\r\n", "\x17\x03\x03"),
        ("STARTTLS\r\n\n", ""),
        ("STARTTLS\r\n\x16", ""),
    ] {
        let mut wire = Wire::new(starttls_session(), client_config(&version::TLS13));
        wire.say_in_the_clear("EHLO client.example\r\n");
        let mut said = wire.say_in_the_clear(first);
        said += &wire.say_in_the_clear(second);
        assert!(said.ends_with("554 5.5.0 Octets in the clear behind STARTTLS\r\n"), "{first:?} {second:?}: {said}");
        assert!(wire.server.is_closed());
        assert_eq!(wire.server.logged("Reset"), 0);
        assert_eq!(wire.server.logged("Hello"), 1);
        // And it stays so.
        let hello = wire.client_sends();
        wire.server.feed(&hello);
        assert!(wire.server.is_closed() && wire.server.sent.is_empty());
    }
}

#[test]
fn octet_by_octet_too() {
    let mut wire = Wire::new(starttls_session(), client_config(&version::TLS13)).cut(Cut::Octets);
    wire.say_in_the_clear("EHLO client.example\r\n");
    let said = wire.say_in_the_clear("STARTTLS\r\nRSET\r\n");
    assert!(said.starts_with("220 2.0.0 ") && said.contains("\r\n554 5.5.0 "), "{said}");
    assert!(wire.server.is_closed());
    assert_eq!(wire.server.logged("Reset"), 0);
}

#[test]
fn garbage_for_a_client_hello_ends_it() {
    const GARBAGE: [&[u8]; 5] = [
        // A Finished.
        b"\x16\x03\x01\x00\x04\x14\x00\x00\x00",
        // A handshake record that is none.
        b"\x16\x03\x01\x00\x05hello",
        b"\x16\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"EHLO client.example\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ];
    for (number, garbage) in GARBAGE.into_iter().enumerate() {
        for implicit in [true, false] {
            if number >= 3 && !implicit {
                // In the clear behind STARTTLS: another test.
                continue;
            }
            let session = if implicit { implicit_session() } else { starttls_session() };
            let mut server = Server::new(session);
            if !implicit {
                server.feed(b"EHLO client.example\r\n");
                server.feed(b"STARTTLS\r\n");
                server.sent.clear();
            }
            let hooks = server.log.len();
            server.feed(garbage);
            assert!(server.is_closed(), "{garbage:?}");
            // An alert record, fatal, and nothing else. rustls sends none for what is no record at all.
            match server.sent[..] {
                [] => assert_ne!(number, 0),
                [kind, _, _, 0, 2, level, _] => assert_eq!((kind, level), (21, 2)),
                _ => panic!("{garbage:?}: {:?}", server.sent),
            }
            assert_eq!(server.log.len(), hooks);
        }
    }
}

#[test]
fn starttls_that_nobody_can_do_closes_the_connection() {
    let mut server = Server::new(Session::new(connection(config(|builder| builder)), None));
    server.feed(b"EHLO client.example\r\nSTARTTLS\r\n");
    assert!(server.is_closed());
}

#[test]
fn a_handshake_has_a_deadline() {
    let timeouts = Timeouts { command: Duration::from_secs(60), ..Timeouts::default() };
    for implicit in [true, false] {
        for begun in [true, false] {
            let config = config(|builder| builder.timeouts(timeouts));
            let session = if implicit {
                Session::implicit(connection(config), Arc::new(server_config())).unwrap()
            } else {
                Session::new(connection(config), Some(Arc::new(server_config())))
            };
            let mut wire = Wire::new(session, client_config(&version::TLS13));
            if !implicit {
                wire.say_in_the_clear("EHLO client.example\r\n");
                wire.server.now = Duration::from_secs(7);
                wire.say_in_the_clear("STARTTLS\r\n");
            }
            let due = wire.server.now + timeouts.command;
            assert_eq!(wire.server.wait, Wait::Input(due));
            let clear = wire.server.clear.clone();
            if begun {
                // An octet at a time, it stays the same deadline.
                let hello = wire.client_sends();
                for octet in &hello[..20] {
                    wire.server.now += Duration::from_secs(1);
                    wire.server.feed(&[*octet]);
                    assert_eq!(wire.server.wait, Wait::Input(due));
                }
            }
            wire.server.now = due - Duration::from_millis(1);
            wire.server.run();
            assert_eq!(wire.server.wait, Wait::Input(due));
            wire.server.now = due;
            wire.server.run();
            assert!(wire.server.is_closed());
            assert_eq!(wire.server.clear, clear, "no reply in the clear where the client expects TLS");
            assert!(wire.server.sent.is_empty());
        }
    }
}

#[test]
fn the_end_of_input_in_a_handshake_is_the_end() {
    for implicit in [true, false] {
        for carried in [0, 1, 100, usize::MAX] {
            let session = if implicit { implicit_session() } else { starttls_session() };
            let mut wire = Wire::new(session, client_config(&version::TLS13));
            if !implicit {
                wire.say_in_the_clear("EHLO client.example\r\n");
                wire.say_in_the_clear("STARTTLS\r\n");
            }
            let clear = wire.server.clear.clone();
            let hello = wire.client_sends();
            wire.server.feed(&hello[..carried.min(hello.len())]);
            wire.server.end_of_input();
            assert!(wire.server.is_closed());
            assert_eq!(wire.server.clear, clear);
        }
    }
}
