//! What is told to a real Dovecot, how it holds back, and how it is reloaded.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sansmtp::{Auth, Peer, TlsInfo, TlsVersion};
use sansmtp_authenticators::dovecot::{Dovecot, Settings};

use crate::dialogue::{Dialogue, code};
use crate::server::{Server, wait_until};
use crate::support::login::{Door, at_once};

#[test]
fn dovecot_learns_of_the_client() {
    let Some(server) = Server::start() else { return };
    let dovecot = Settings::unix(server.socket()).service("submission").connect().unwrap();
    let auth = dovecot.offer(Auth::without_mechanisms()).unwrap();
    let exchange = dovecot.exchange().session_id("a session\tof mine").local_address("192.0.2.25:587".parse().unwrap());
    let peer = Peer::from("198.51.100.7:4711".parse::<SocketAddr>().unwrap());
    let tls = TlsInfo::new(TlsVersion::Tls1_3, "TLS_AES_128_GCM_SHA256");
    let mut dialogue = Dialogue::new(exchange, auth, peer, Some(tls));
    assert_eq!(code(&dialogue.auth("PLAIN", "\0tim\0wrong")), 535);
    let line = server.logged("Password mismatch");
    // As `auth_verbose` shows it: escaped, as it came.
    assert!(line.contains("(tim,198.51.100.7,<a session\tof mine>)"), "{line}");
    // `debug` shows what it was told, but for the response.
    let told = server.logged("client in: AUTH");
    for field in ["service=submission", "secured=tls", "lip=192.0.2.25", "lport=587", "rip=198.51.100.7", "rport=4711"]
    {
        assert!(told.contains(field), "{field}: {told}");
    }
}

#[test]
fn a_refusal_held_back_is_in_nobodys_way() {
    // As it is unless configured otherwise.
    let Some(server) = Server::start_with("auth_failure_delay = 2 secs\n") else { return };
    let dovecot: Arc<dyn Door> = Arc::new(Settings::unix(server.socket()).max_waiting(200).connect().unwrap());
    std::thread::scope(|scope| {
        let began = Instant::now();
        let refused = scope.spawn(|| at_once(100, &dovecot, "tim", "wrong", 535));
        server.logged("Password mismatch");
        assert_eq!(at_once(100, &dovecot, "tim", "tanstaaftanstaaf", 235), 100);
        assert!(!refused.is_finished(), "the refusals came within {:?}", began.elapsed());
        assert_eq!(refused.join().unwrap(), 100);
        // All of them together.
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    });
}

#[test]
fn an_exchange_does_not_outlive_its_server_and_the_next_does_not_need_it() {
    let Some(mut server) = Server::start() else { return };
    let dovecot = Dovecot::connect(server.socket()).unwrap();
    let mut dialogue = Dialogue::in_the_clear(&dovecot);
    assert_eq!(code(&dialogue.say("AUTH LOGIN")), 334);
    server.stop();
    assert_eq!(code(&dialogue.respond("tim")), 454);
    assert_eq!(code(&dialogue.say("AUTH LOGIN")), 454);
    server.start_again();
    assert_eq!(code(&dialogue.say("AUTH LOGIN")), 334);
    assert_eq!(code(&dialogue.respond("tim")), 334);
    assert_eq!(code(&dialogue.respond("tanstaaftanstaaf")), 235);
}

#[test]
fn what_a_reload_changes_counts_when_the_connection_is_past_its_lifetime() {
    let Some(server) = Server::start() else { return };
    let settings = Settings::unix(server.socket()).lifetime(Duration::from_millis(100));
    let dovecot = settings.connect().unwrap();
    assert_eq!(dovecot.log_in("tim", "tanstaaftanstaaf"), 235);
    server.reload_with("auth_default_realm = example.com\n");
    wait_until("the configuration", || {
        // Users now have another name.
        (dovecot.log_in("tim", "tanstaaftanstaaf") == 535).then_some(())
    });
}

#[test]
fn over_tcp_as_over_a_unix_socket() {
    let Some(server) = Server::start() else { return };
    let dovecot = Settings::tcp(format!("127.0.0.1:{}", server.port)).connect().unwrap();
    assert_eq!(dovecot.log_in("tim", "tanstaaftanstaaf"), 235);
    assert_eq!(dovecot.log_in("tim", "wrong"), 535);
}

#[test]
fn responses_of_any_length_that_the_engine_takes_get_through_and_end_nobodys_connection() {
    let Some(server) = Server::start() else { return };
    let dovecot = Dovecot::connect(server.socket()).unwrap();
    let mut other = Dialogue::in_the_clear(&dovecot);
    assert_eq!(code(&other.say("AUTH LOGIN")), 334);
    // The engine takes 12,288 octets of base64.
    for length in [6_000, 9_000, 9_180] {
        let mut dialogue = Dialogue::in_the_clear(&dovecot);
        assert_eq!(code(&dialogue.auth("PLAIN", format!("\0tim\0{}", "x".repeat(length)))), 535, "{length}");
    }
    // What makes the line too long for Dovecot does not go there.
    let exchange = dovecot.exchange().session_id("s".repeat(5_000));
    let auth = Auth::without_mechanisms().handler_mechanism("PLAIN").require_tls(false);
    let mut dialogue = Dialogue::new(exchange, auth, Peer::local(), None);
    let said = dialogue.auth("PLAIN", format!("\0tim\0{}", "x".repeat(9_180)));
    assert_eq!(said, "500 5.5.6 Authentication exchange line is too long");
    // Still there.
    assert_eq!(code(&other.respond("tim")), 334);
    assert_eq!(code(&other.respond("tanstaaftanstaaf")), 235);
}
