//! Behind a proxy: the header of the PROXY protocol comes before TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::version;
use sansmtp::Proxy;
use sansmtp::tls::Session;

use crate::certificates::{client_config, server_config};
use crate::server::Wait;
use crate::wire::{Cut, PLAIN, VERSIONS, Wire, config, connection};

const HEADER: &[u8] = b"PROXY TCP4 198.51.100.7 203.0.113.25 56324 465\r\n";

/// Version 2, TCP over IPv4: the client's TLS 1.2 was taken off.
const OFFLOADED: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x1E\xC6\x33\x64\x07\xCB\0\x71\x19\xDC\x04\x01\xD1\
    \x20\0\x0F\x01\0\0\0\x01\x21\0\x07TLSv1.2";

/// Connections come from 192.0.2.1.
fn proxied(trusted: &str, implicit: bool) -> Session {
    let proxy = Proxy::from_networks([trusted.parse().unwrap()]).believe_offloaded_tls(true);
    let connection = connection(config(|builder| builder.proxy(proxy)));
    let tls = Arc::new(server_config());
    if implicit { Session::implicit(connection, tls).unwrap() } else { Session::new(connection, Some(tls)) }
}

impl Wire {
    fn session(&self) -> &sansmtp::Session {
        self.server.session.connection().session()
    }

    fn is_silent(&self) -> bool {
        self.server.sent.is_empty() && self.server.clear.is_empty() && self.server.transmitted.is_empty()
    }
}

#[test]
fn the_header_is_in_front_of_implicit_tls() {
    for version in VERSIONS {
        for header in [HEADER, OFFLOADED] {
            for cut in [Cut::Whole, Cut::Octets, Cut::Random(3)] {
                let mut wire = Wire::new(proxied("192.0.2.1", true), client_config(version)).cut(cut);
                assert_eq!(wire.server.wait, Wait::Input(Duration::from_secs(5)));
                let hello = wire.client_sends();
                wire.carry(&header[..header.len() - 1]);
                assert!(wire.is_silent() && wire.server.log.is_empty());
                // The rest of the header and the first flight of TLS in one segment.
                wire.carry(&[&header[header.len() - 1..], &hello].concat());
                assert!(!wire.server.sent.is_empty() && wire.server.clear.is_empty());
                assert_eq!(wire.shuttle(), "220 mx.example.org ESMTP\r\n");

                assert!(wire.say("EHLO client.example\r\n").contains("\r\n250-AUTH "));
                assert_eq!(wire.say(PLAIN), "235 2.7.0 Authentication successful\r\n");
                assert!(
                    wire.server
                        .log
                        .iter()
                        .any(|entry| { entry.starts_with("AuthSucceeded") && entry.contains("198.51.100.7:56324") })
                );
                let (session, proxy) = (wire.session(), wire.session().proxy().unwrap());
                assert_eq!(session.peer(), SocketAddr::from(([198, 51, 100, 7], 56324)).into());
                assert_eq!(proxy.proxy(), SocketAddr::from(([192, 0, 2, 1], 4321)).into());
                // The handshake that was done is the one that counts.
                assert!(!session.tls().unwrap().cipher_suite.is_empty() && !session.is_tls_offloaded());

                // Under TLS, nobody is asked for a header again.
                assert!(wire.say("PROXY TCP4 192.0.2.9 192.0.2.25 1 25\r\n").starts_with("500 5.5.1 "));
                assert!(wire.say("QUIT\r\n").starts_with("221 "));
                assert!(wire.closed_cleanly);
            }
        }
    }
}

#[test]
fn the_header_is_in_front_of_starttls_too() {
    for cut in [Cut::Whole, Cut::Octets] {
        let mut wire = Wire::new(proxied("192.0.2.1", false), client_config(&version::TLS13)).cut(cut);
        assert!(wire.is_silent());
        wire.carry(HEADER);
        assert_eq!(wire.say_in_the_clear(""), "220 mx.example.org ESMTP\r\n");
        wire.say_in_the_clear("EHLO client.example\r\n");
        assert!(wire.say_in_the_clear("STARTTLS\r\n").starts_with("220 2.0.0 "));
        wire.shuttle();
        assert!(wire.say("EHLO client.example\r\n").starts_with("250-"));
        // It is no word of the client's, so it is not forgotten.
        assert_eq!(wire.session().peer().to_string(), "198.51.100.7:56324");
        assert!(wire.session().proxy().is_some() && wire.session().is_under_tls());
    }
}

#[test]
fn tls_that_the_proxy_took_off_is_believed_by_name_only() {
    for believed in [false, true] {
        let proxy = Proxy::from_trusted(|_| true).believe_offloaded_tls(believed);
        let session = Session::new(connection(config(|builder| builder.proxy(proxy))), Some(Arc::new(server_config())));
        let mut wire = Wire::new(session, client_config(&version::TLS13));
        wire.carry(OFFLOADED);
        let listed = wire.say_in_the_clear("EHLO client.example\r\n");
        assert_eq!((listed.contains("AUTH "), listed.contains("STARTTLS")), (believed, !believed));
        assert_eq!((wire.session().is_under_tls(), wire.session().is_tls_offloaded()), (believed, believed));
        assert!(wire.session().proxy().unwrap().ssl().unwrap().is_over_tls());
        if let Some(tls) = wire.session().tls() {
            assert_eq!(tls.version, sansmtp::TlsVersion::Tls1_2);
            assert!(tls.exporter.is_none() && tls.server_end_point.is_none() && tls.peer_certificates.is_empty());
        }
    }
}

#[test]
fn without_its_header_a_proxy_gets_no_handshake() {
    for cut in [Cut::Whole, Cut::Octets] {
        let mut wire = Wire::new(proxied("192.0.2.1", true), client_config(&version::TLS13)).cut(cut);
        let hello = wire.client_sends();
        wire.carry(&hello);
        assert!(wire.server.is_closed() && wire.is_silent());
        assert_eq!(wire.server.logged("ProxyRefused"), 1);
    }
}

#[test]
fn with_a_header_nobody_else_gets_a_handshake() {
    let mut wire = Wire::new(proxied("192.0.2.2", true), client_config(&version::TLS13));
    wire.carry(HEADER);
    assert!(wire.server.is_closed() && wire.server.clear.is_empty());
    assert_eq!(wire.server.logged("ProxyRefused"), 0);
}

#[test]
fn header_and_handshake_have_deadlines_of_their_own() {
    let mut wire = Wire::new(proxied("192.0.2.1", true), client_config(&version::TLS13));
    for octet in HEADER {
        assert_eq!(wire.server.wait, Wait::Input(Duration::from_secs(5)));
        wire.server.now += Duration::from_millis(90);
        wire.server.feed(&[*octet]);
    }
    assert_eq!(wire.server.wait, Wait::Input(wire.server.now + Duration::from_secs(300)));

    let mut wire = Wire::new(proxied("192.0.2.1", true), client_config(&version::TLS13));
    wire.server.feed(&HEADER[..20]);
    wire.server.now = Duration::from_secs(5);
    wire.server.run();
    assert!(wire.server.is_closed() && wire.is_silent());
    assert_eq!(wire.server.logged("Timeout"), 1);
}

#[test]
fn the_end_of_input_at_a_header_is_the_end() {
    for (octets, refused) in [(0, 1), (20, 1), (HEADER.len(), 0)] {
        let mut wire = Wire::new(proxied("192.0.2.1", true), client_config(&version::TLS13));
        wire.server.feed(&HEADER[..octets]);
        wire.server.end_of_input();
        assert!(wire.server.is_closed() && wire.is_silent());
        assert_eq!(wire.server.logged("ConnectionLost"), refused);
    }
}

#[test]
fn shutting_down_before_a_header_is_silent() {
    for implicit in [true, false] {
        let mut wire = Wire::new(proxied("192.0.2.1", implicit), client_config(&version::TLS13));
        wire.server.session.begin_shutdown();
        wire.server.run();
        assert!(wire.server.is_closed() && wire.is_silent());
    }
}
