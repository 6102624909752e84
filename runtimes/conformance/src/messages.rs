//! Messages one behind another: nothing of one gets into the next.

use std::sync::Arc;

use sansmtp::testing::Transcript;

use crate::certificate::TLS;
use crate::handler::{Keeps, Seen};
use crate::server::{Kind, Running};
use crate::transcripts::play_client;
use crate::voids::{VOID, bounded};

/// Whether its handler is asked before a message, and may prepare it, or only at its end.
fn each_handler<K: Kind>(test: impl Fn(&Running)) {
    test(&Running::start::<K>(bounded));
    let seen = Arc::new(Seen::default());
    let keeps = Arc::clone(&seen);
    test(&Running::start_with::<K, _>(bounded, seen, move |_| Keeps(Arc::clone(&keeps))));
}

fn stored(server: &Running) -> Vec<Vec<u8>> {
    std::mem::take(&mut *server.seen.messages.lock().unwrap())
}

/// On a connection that a relay keeps, they are of different senders.
pub fn a_void_message_gets_into_no_other<K: Kind>() {
    each_handler::<K>(|server| {
        for tls in [false, true] {
            for void in VOID.iter().filter(|void| !tls || void.is_without_tls()) {
                for content in ["hello\\r\\n", ""] {
                    let transcript = Transcript::parse(&void.transcript(content)).unwrap();
                    let played = play_client(server.connect_silently(tls), &transcript, &TLS.1, false);
                    assert_eq!(played, Ok(()), "{}, TLS {tls}", void.name);
                    let content = content.replace("\\r\\n", "\r\n").into_bytes();
                    assert_eq!(stored(server), [content], "{}, TLS {tls}", void.name);
                }
            }
        }
    });
}

/// Nor one whose client has gone.
pub fn a_message_that_breaks_off_gets_into_no_other<K: Kind>() {
    each_handler::<K>(|server| {
        for tls in [false, true] {
            let mut leaving = server.connect_by(tls);
            leaving.begin_message();
            leaving.say("void\r\n");
            drop(leaving);
            let mut client = server.connect_by(tls);
            client.begin_message();
            assert!(client.ask("hello\r\n.").starts_with("250 "));
            assert_eq!(stored(server), [b"hello\r\n"]);
        }
    });
}

/// Other commands, and what hooks say to them, may come between the chunks (RFC 3030, section 2).
pub fn chunks_with_commands_between_them_are_one_message<K: Kind>() {
    each_handler::<K>(|server| {
        for tls in [false, true] {
            let mut client = server.connect_by(tls);
            client.ask("EHLO client.example");
            client.ask("MAIL FROM:<a@example.org>");
            client.ask("RCPT TO:<b@example.org>");
            for line in ["BDAT 5\r\none", "NOOP", "BDAT 5\r\ntwo", "BDAT 0", "NOOP", "BDAT 0 LAST"] {
                assert!(client.ask(line).starts_with("250 "), "{line:?}");
            }
            assert_eq!(stored(server), [b"one\r\ntwo\r\n"]);
        }
    });
}

/// What was prepared for it is dropped.
pub fn a_message_that_is_refused_at_data_gets_into_no_other<K: Kind>() {
    let server = Running::start::<K>(bounded);
    for tls in [false, true] {
        for (refused, reply) in [("DATA", "451 4.3.0 "), ("BDAT 6 LAST\r\nvoid", "451 4.3.0 ")] {
            let mut client = server.connect_by(tls);
            client.ask("EHLO client.example");
            client.ask("MAIL FROM:<refuse@example.org>");
            client.ask("RCPT TO:<b@example.org>");
            assert!(client.ask(refused).starts_with(reply));
            client.ask("RSET");
            client.begin_transaction();
            assert!(client.ask(".").starts_with("250 "));
            assert_eq!(stored(&server), [b""]);
        }
    }
}

/// A handler that panics over a message may have the next one.
pub fn a_panic_over_a_message_is_its_end<K: Kind>() {
    let server = Running::start::<K>(|config| config);
    for tls in [false, true] {
        for word in ["PANIC", "EXPLODE"] {
            let mut client = server.connect_by(tls);
            client.begin_message();
            assert!(client.ask(&format!("{word}\r\n.")).starts_with("451 4.3.0 "));
            client.begin_transaction();
            assert!(client.ask("hello\r\n.").starts_with("250 "));
            assert_eq!(stored(&server), [b"hello\r\n"]);
            assert!(client.ask("QUIT").starts_with("221 "));
        }
    }
}
