//! How a session under TLS ends, and which of its octets are carried out.

use std::io::Write as _;
use std::time::Duration;

use rustls::version;

use crate::certificates::client_config;
use crate::server::Wait;
use crate::wire::{Cut, VERSIONS, Wire, starttls_session};

#[test]
fn nothing_behind_close_notify_is_read() {
    for version in VERSIONS {
        for (behind, later) in [(true, false), (false, false), (false, true)] {
            for cut in [Cut::Whole, Cut::Octets, Cut::Random(9)] {
                let mut wire = Wire::implicit(version).cut(cut);
                wire.say("MAIL FROM:<tim@example.org>\r\nRCPT TO:<kurt@example.org>\r\nDATA\r\n");
                let mut octets = wire.encrypt("Subject: x\r\n\r\nhalf a message\r\n");
                wire.client.send_close_notify();
                octets.extend(wire.client_sends());
                let mut more = if behind {
                    // A record that would decrypt if anybody tried: the same connection's, said later.
                    let mut record = vec![0x17, 3, 3, 0, 40];
                    record.extend([7; 40]);
                    record
                } else {
                    Vec::new()
                };
                more.extend_from_slice(b"\r\n.\r\nMAIL FROM:<attacker@example.org>\r\n");
                if later {
                    wire.carry(&octets);
                    assert!(wire.server.is_closed());
                    wire.carry(&more);
                } else {
                    octets.extend(more);
                    wire.carry(&octets);
                }
                assert!(wire.server.is_closed());
                assert_eq!(wire.server.content, b"Subject: x\r\n\r\nhalf a message\r\n");
                assert_eq!(wire.server.logged("Aborted { reason: ConnectionLost"), 1, "{:?}", wire.server.log);
                assert_eq!(wire.server.log.iter().filter(|entry| *entry == "Mail").count(), 1);
                assert_eq!(wire.server.logged("Message"), 0);
                wire.shuttle();
                assert!(wire.closed_cleanly, "close_notify is answered");
            }
        }
    }
}

#[test]
fn everything_before_close_notify_is_carried_out() {
    // However it is cut into records, and however these arrive.
    let session =
        "EHLO c.example\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nhello\r\n.\r\nNOOP\r\n";
    for record in [1, 2, 3, 5, 7, 11, 1000] {
        for cut in [Cut::Whole, Cut::Octets, Cut::Random(5)] {
            let mut wire = Wire::implicit(&version::TLS13).cut(cut);
            let mut octets = Vec::new();
            for piece in session.as_bytes().chunks(record) {
                octets.extend(wire.encrypt(std::str::from_utf8(piece).unwrap()));
            }
            wire.client.send_close_notify();
            octets.extend(wire.client_sends());
            wire.carry(&octets);
            assert!(wire.server.is_closed());
            assert_eq!(wire.server.content, b"hello\r\n", "records of {record}, {cut:?}");
            assert_eq!(wire.server.logged("Message { octets: 7 }"), 1);
            assert_eq!(wire.server.logged("Noop"), 1);
            let said = wire.shuttle();
            assert!(said.ends_with("250 2.0.0 Message accepted\r\n250 2.0.0 Ok\r\n"), "{said}");
            assert!(wire.closed_cleanly);
        }
    }
}

#[test]
fn what_was_sent_before_the_end_of_input_is_carried_out() {
    for record in [3, 1000] {
        let mut wire = Wire::implicit(&version::TLS13);
        let mut octets = Vec::new();
        for piece in b"NOOP\r\nNOOP\r\nNO".chunks(record) {
            octets.extend(wire.encrypt(std::str::from_utf8(piece).unwrap()));
        }
        // It has come, but nobody has looked at it yet.
        wire.server.unread = octets;
        wire.server.end_of_input();
        assert!(wire.server.is_closed());
        assert_eq!(wire.server.logged("Noop"), 2, "records of {record}");
        assert_eq!(wire.shuttle(), "250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n");
    }
}

#[test]
fn close_notify_behind_quit_is_a_clean_end() {
    for version in VERSIONS {
        let mut wire = Wire::implicit(version);
        wire.client.writer().write_all(b"QUIT\r\n").unwrap();
        wire.client.send_close_notify();
        let said = wire.shuttle();
        assert!(said.starts_with("221 2.0.0 "), "{said}");
        assert!(wire.closed_cleanly && wire.server.is_closed());
        // The server had closed already.
        let mut wire = Wire::implicit(version);
        wire.say("QUIT\r\n");
        wire.client.send_close_notify();
        wire.shuttle();
        assert!(wire.server.is_closed());
    }
}

#[test]
fn what_tls_adds_leaves_in_the_same_segment() {
    // Of TLS 1.3: the server's part of the handshake, its session tickets with the greeting, EHLO's reply, the
    // farewell with close_notify. The client waits for the last of TLS 1.2 before anything is said.
    for (version, segments) in VERSIONS.into_iter().zip([2 + 1 + 2, 1 + 1 + 2]) {
        let mut wire = Wire::implicit(version);
        assert!(wire.say("QUIT\r\n").starts_with("221 2.0.0 "));
        assert!(wire.closed_cleanly && wire.server.is_closed());
        assert_eq!(wire.server.flushes, segments, "{version:?}");
    }
    // Where the client waits for nothing and is not spoken to, its tickets still reach it.
    let mut wire = Wire::new(starttls_session(), client_config(&version::TLS13));
    wire.say_in_the_clear("EHLO client.example\r\n");
    wire.say_in_the_clear("STARTTLS\r\n");
    let before = wire.server.flushes;
    wire.shuttle();
    assert_eq!(wire.server.flushes - before, 2);
    assert_eq!(wire.client.tls13_tickets_received(), 2);
}

#[test]
fn the_end_of_input_without_close_notify_voids_content() {
    let mut wire = Wire::implicit(&version::TLS13);
    wire.say("MAIL FROM:<tim@example.org>\r\nRCPT TO:<kurt@example.org>\r\nDATA\r\nhalf");
    wire.server.end_of_input();
    assert!(wire.server.is_closed());
    assert_eq!(wire.server.logged("Aborted { reason: ConnectionLost"), 1);
    assert_eq!(wire.server.logged("Message"), 0);
}

#[test]
fn a_corrupted_record_ends_it_with_an_alert() {
    for version in VERSIONS {
        for in_content in [true, false] {
            for cut in [Cut::Whole, Cut::Octets] {
                let mut wire = Wire::implicit(version).cut(cut);
                if in_content {
                    wire.say("MAIL FROM:<tim@example.org>\r\nRCPT TO:<kurt@example.org>\r\nDATA\r\nbegun\r\n");
                }
                let mut record = wire.encrypt("forged\r\n.\r\nNOOP\r\n");
                let middle = record.len() - 20;
                record[middle] ^= 1;
                record.extend(wire.encrypt("NOOP\r\n"));
                wire.carry(&record);
                assert!(wire.server.is_closed());
                assert_eq!(wire.server.logged("Aborted { reason: ConnectionLost"), usize::from(in_content));
                assert_eq!(wire.server.content, if in_content { &b"begun\r\n"[..] } else { b"" });
                assert_eq!(wire.server.logged("Noop") + wire.server.logged("Unknown"), 0);
                assert_eq!(wire.shuttle(), "");
                assert!(wire.alert().contains("AlertReceived(BadRecordMac)"), "{}", wire.alert());
            }
        }
    }
}

#[test]
fn shutting_down_is_said_under_tls() {
    let mut wire = Wire::implicit(&version::TLS13);
    wire.server.session.begin_shutdown();
    wire.server.run();
    assert_eq!(wire.shuttle(), "421 4.3.2 The server is shutting down\r\n");
    assert!(wire.closed_cleanly && wire.server.is_closed());
}

#[test]
fn a_timeout_is_said_under_tls_whatever_trickles_in() {
    let mut wire = Wire::implicit(&version::TLS13);
    let Wait::Input(due) = wire.server.wait else { panic!("{:?}", wire.server.wait) };
    // Octets of a record that never ends are no progress.
    let record = wire.encrypt("NOOP\r\n");
    for octet in &record[..record.len() - 1] {
        wire.server.now += Duration::from_secs(10);
        wire.server.feed(&[*octet]);
        if wire.server.is_closed() {
            break;
        }
        assert_eq!(wire.server.wait, Wait::Input(due));
    }
    wire.server.now = due;
    wire.server.run();
    assert!(wire.server.is_closed());
    assert_eq!(wire.shuttle(), "421 4.4.2 Timeout, closing the connection\r\n");
}
