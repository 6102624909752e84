//! What is told of TLS: that it is there, or why it is not, and the end of the connection behind that, once.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use sansmtp::tls::Session;
use sansmtp::{CloseReason, Events};

use crate::certificates::{AUTHORITY, asking_server_config, client_config, server_config};
use crate::server::Server;
use crate::wire::{Cut, VERSIONS, Wire, config, connection};

fn session(server: ServerConfig, implicit: bool) -> Session {
    let connection = connection(config(|builder| builder.events(Events::ALL)));
    if implicit {
        Session::implicit(connection, Arc::new(server)).unwrap()
    } else {
        Session::new(connection, Some(Arc::new(server)))
    }
}

/// Ready for the first octet of TLS.
fn wire(server: ServerConfig, client: ClientConfig, implicit: bool) -> Wire {
    let mut wire = Wire::new(session(server, implicit), client);
    if !implicit {
        wire.say_in_the_clear("EHLO client.example\r\n");
        wire.say_in_the_clear("STARTTLS\r\n");
    }
    wire
}

/// The events, by name, with their reasons.
fn told(server: &Server) -> Vec<String> {
    let reason = |event: &str| {
        let (_, behind) = event.split_once("reason: ")?;
        Some(behind.split([',', ' ']).next().unwrap_or_default().to_owned())
    };
    let is_event = |entry: &&String| entry.contains("session: ");
    let name = |event: &str| event.split(' ').next().unwrap_or_default().to_owned();
    let describe = |event: &String| match reason(event) {
        Some(reason) => format!("{} {reason}", name(event)),
        None => name(event),
    };
    server.log.iter().filter(is_event).map(describe).collect()
}

#[test]
fn a_handshake_is_told_once() {
    for version in VERSIONS {
        for implicit in [true, false] {
            for cut in [Cut::Whole, Cut::Octets] {
                let mut wire = wire(server_config(), client_config(version), implicit).cut(cut);
                wire.shuttle();
                wire.say("QUIT\r\n");
                assert_eq!(told(&wire.server), ["Opened", "TlsEstablished", "Closed Quit"], "{version:?} {implicit}");
            }
        }
    }
}

#[test]
fn a_handshake_that_fails_says_why() {
    let only_13 = || {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(&[&version::TLS13]).unwrap().with_no_client_auth();
        builder.with_single_cert(AUTHORITY.server.chain.clone(), AUTHORITY.server.key()).unwrap()
    };
    let with_alpn = || {
        let mut config = server_config();
        config.alpn_protocols = vec![b"smtp".to_vec()];
        config
    };
    let with_other_alpn = || {
        let mut config = client_config(&version::TLS13);
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    };
    let distrustful = || {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
    };
    for implicit in [true, false] {
        for (server, client, reason) in [
            (server_config(), distrustful(), "Alert(48)"),
            (only_13(), client_config(&version::TLS12), "NoCommonVersion"),
            (with_alpn(), with_other_alpn(), "NoCommonApplicationProtocol"),
            (asking_server_config(), client_config(&version::TLS12), "NoClientCertificate"),
        ] {
            let mut wire = wire(server, client, implicit);
            wire.shuttle();
            let failed = format!("TlsFailed {reason}");
            assert_eq!(told(&wire.server), ["Opened", &failed, "Closed TlsFailed"], "implicit: {implicit}");
        }
        for (hello, reason) in [
            (&b"\x16\x03\x01\x00\x05hello"[..], "NotTls"),
            // As old devices say it: TLS 1.0, one suite, no extension.
            (&TLS_1_0_HELLO, "NoCommonVersion"),
        ] {
            let mut wire = wire(server_config(), client_config(&version::TLS13), implicit);
            wire.server.feed(hello);
            let failed = format!("TlsFailed {reason}");
            assert_eq!(told(&wire.server), ["Opened", &failed, "Closed TlsFailed"], "implicit: {implicit}");
        }
    }
    let mut clear = Server::new(session(server_config(), true));
    clear.feed(b"EHLO client.example\r\n");
    assert_eq!(told(&clear), ["Opened", "TlsFailed NotTls", "Closed TlsFailed"]);
}

#[test]
fn a_handshake_that_does_not_end_says_so() {
    for implicit in [true, false] {
        for (begun, ends, reasons) in [
            (true, true, ["TlsFailed ConnectionLost", "Closed TlsFailed"]),
            (true, false, ["TlsFailed Timeout", "Closed TlsFailed"]),
            (false, false, ["TlsFailed Timeout", "Closed TlsFailed"]),
        ] {
            let mut wire = wire(server_config(), client_config(&version::TLS13), implicit);
            if begun {
                let hello = wire.client_sends();
                wire.server.feed(&hello[..20]);
            }
            if ends {
                wire.server.end_of_input();
            } else {
                wire.server.now += Duration::from_secs(301);
                wire.server.run();
            }
            assert_eq!(told(&wire.server), [&["Opened"][..], &reasons].concat(), "implicit: {implicit}");
        }
    }
    // Who only looks whether the port is open has not failed at TLS; who has asked for it has.
    let mut looks = Server::new(session(server_config(), true));
    looks.end_of_input();
    assert_eq!(told(&looks), ["Opened", "Closed PeerClosed"]);
    let mut asks = wire(server_config(), client_config(&version::TLS13), false);
    asks.server.end_of_input();
    assert_eq!(told(&asks.server), ["Opened", "TlsFailed ConnectionLost", "Closed TlsFailed"]);
}

#[test]
fn tls_that_breaks_later_says_so_too() {
    for version in VERSIONS {
        let mut wire = wire(server_config(), client_config(version), true);
        wire.shuttle();
        let mut record = vec![0x17, 3, 3, 0, 40];
        record.extend([7; 40]);
        wire.server.feed(&record);
        assert_eq!(told(&wire.server), ["Opened", "TlsEstablished", "TlsFailed Undecipherable", "Closed TlsFailed"]);
    }
}

#[test]
fn an_abandoned_session_is_closed_in_silence() {
    for (implicit, shuttles) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut wire = wire(server_config(), client_config(&version::TLS13), implicit);
        if shuttles {
            wire.shuttle();
        }
        wire.server.sent.clear();
        wire.server.session.abandon(CloseReason::CutOff);
        wire.server.run();
        assert!(wire.server.is_closed() && wire.server.sent.is_empty());
        assert_eq!(told(&wire.server).last().map(String::as_str), Some("Closed CutOff"));
        assert_eq!(wire.server.logged("Closed {"), 1);
    }
}

/// Version, random, no session, one suite with RSA key exchange, no compression.
const TLS_1_0_HELLO: [u8; 50] = {
    let mut hello = [7; 50];
    let (start, end) = ([0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 1], [0, 0, 2, 0, 0x2f, 1, 0]);
    let mut at = 0;
    while at < start.len() {
        hello[at] = start[at];
        at += 1;
    }
    at = 0;
    while at < end.len() {
        hello[43 + at] = end[at];
        at += 1;
    }
    hello
};
