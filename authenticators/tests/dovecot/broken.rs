//! Servers that are not Dovecot, or broken, or gone: never a login, never a wait without end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use sansmtp::{Auth, AuthFailure, Peer, Refusal};
use sansmtp_authenticators::Authenticator as _;
use sansmtp_authenticators::dovecot::{Dovecot, Error, Settings};

use crate::dialogue::{Dialogue, code};
use crate::scripted::{HANG_UP, HELLO, Scripted};
use crate::server::wait_until;
use crate::support::login::{Door, at_once};

/// What follows `OK`, `CONT` and so on in the answer to an AUTH, `#` being its id.
fn answering(answer: &'static [u8]) -> Scripted {
    Scripted::start(HELLO, move |words| match words {
        ["AUTH", id, ..] | ["CONT", id, ..] => replaced(answer, id),
        _ => Vec::new(),
    })
}

fn replaced(answer: &[u8], id: &str) -> Vec<u8> {
    let pieces: Vec<&[u8]> = answer.split(|&octet| octet == b'#').collect();
    pieces.join(id.as_bytes())
}

fn dovecot(scripted: &Scripted) -> Dovecot {
    Settings::unix(scripted.socket()).time_limit(Duration::from_millis(300)).connect().unwrap()
}

fn passed_through(dovecot: &Dovecot, words: &str) -> (String, Dialogue) {
    let mut dialogue = Dialogue::in_the_clear(dovecot);
    let said = dialogue.say(&format!("AUTH {words}"));
    (said, dialogue)
}

/// NUL tim NUL tanstaaf.
const PLAIN: &str = "PLAIN AHRpbQB0YW5zdGFhZg==";

#[test]
fn replies_that_are_none_are_no_login() {
    for answer in [
        &b"OK\t#\n"[..],
        b"OK\t#\tuser=\n",
        b"OK\t#\tuser\n",
        b"OK\t#\tUser=tim\n",
        b"OK\t#\tuser=\xff\n",
        b"OK\t#\tuser=\xff\tuser=tim\n",
        b"OK\t#\tuser=a\x01nb\n",
        b"OK\t#\tuser=tim\tresp=%\n",
        b"OK\t0#x\tuser=tim\n",
        b"OK\t\tuser=tim\n",
        b"OK\t18446744073709551617\tuser=tim\n",
        b"OK\t#1\tuser=tim\n",
        b"OK \t#\tuser=tim\n",
        b"ok\t#\tuser=tim\n",
        b"\tOK\t#\tuser=tim\n",
        b"\0OK\t#\tuser=tim\n",
        b"OK\t#\tuser=tim",
        b"CONT\t#\n",
        b"CONT\t#\t#\n",
        b"CONT\t#\tnot base64\n",
        b"235 2.7.0 Authentication successful\n",
        b"\n\n\n",
        HANG_UP,
        b"",
    ] {
        let scripted = answering(answer);
        let dovecot = dovecot(&scripted);
        assert_eq!(dovecot.log_in("tim", "tanstaaf"), 454, "{}", answer.escape_ascii());
        let (said, dialogue) = passed_through(&dovecot, PLAIN);
        assert_eq!(said, "454 4.7.0 Temporary authentication failure", "{}", answer.escape_ascii());
        assert_eq!(dialogue.failures, [AuthFailure::CannotTell]);
        assert!(!dialogue.session().is_authenticated());
    }
}

#[test]
fn what_a_working_server_says_is_understood() {
    for (answer, expected) in [
        (&b"OK\t#\tuser=tim\n"[..], 235),
        (b"NEWS\t#\tuser=tim\nOK\t#\tuser=tim\n", 235),
        (b"OK\t#\tuser=tim\tnologin\n", 535),
        (b"FAIL\t#\n", 535),
        (b"FAIL\t#\tuser=\xff\treason=no such user\n", 535),
        (b"FAIL\t#\tuser=tim\tcode=temp_fail\n", 454),
    ] {
        let scripted = answering(answer);
        let dovecot = dovecot(&scripted);
        assert_eq!(dovecot.log_in("tim", "tanstaaf"), expected, "{}", answer.escape_ascii());
        let (said, _) = passed_through(&dovecot, PLAIN);
        assert_eq!(code(&said), expected, "{}", answer.escape_ascii());
        assert!(!said.contains("such user"), "{said}");
    }
}

#[test]
fn refusals_are_told_apart_by_the_event_and_not_by_the_reply() {
    for (answer, refusal) in [
        (&b"FAIL\t#\tuser=tim\n"[..], Refusal::BadCredentials),
        (b"FAIL\t#\tuser=tim\tcode=user_disabled\n", Refusal::Disabled),
        (b"FAIL\t#\tuser=tim\tcode=pass_expired\n", Refusal::Disabled),
        (b"FAIL\t#\tuser=tim\tcode=authz_fail\n", Refusal::AuthzidNotGranted),
    ] {
        let scripted = answering(answer);
        let (said, dialogue) = passed_through(&dovecot(&scripted), PLAIN);
        assert_eq!(said, "535 5.7.8 Authentication credentials invalid");
        assert_eq!(dialogue.failures, [AuthFailure::Refused(refusal)]);
    }
}

#[test]
fn a_success_that_nobody_asked_for_is_none() {
    // The client has the challenge; the server does not wait for the response.
    let scripted = Scripted::start(HELLO, |words| match words {
        ["AUTH", id, ..] => format!("CONT\t{id}\tcD0=\nOK\t{id}\tuser=tim\n").into_bytes(),
        _ => Vec::new(),
    });
    let dovecot = dovecot(&scripted);
    let (said, mut dialogue) = passed_through(&dovecot, "LOGIN");
    assert_eq!(said, "334 cD0=");
    // The reader has taken both when a later request has its answer.
    let (_other, _) = (passed_through(&dovecot, "LOGIN"), ());
    assert_eq!(code(&dialogue.respond("anything")), 454);
    assert!(!dialogue.session().is_authenticated());
}

#[test]
fn additional_data_of_a_success_goes_in_a_challenge() {
    let scripted = Scripted::start(HELLO, |words| match words {
        ["AUTH", id, ..] => format!("OK\t{id}\tuser=tim\tresp=dj1zaWduYXR1cmU=\n").into_bytes(),
        _ => Vec::new(),
    });
    let dovecot = dovecot(&scripted);
    let (said, mut dialogue) = passed_through(&dovecot, "SCRAM-SHA-256 biws");
    assert_eq!(said, "334 dj1zaWduYXR1cmU=");
    assert!(!dialogue.session().is_authenticated());
    assert_eq!(dialogue.say(""), "235 2.7.0 Authentication successful");
    assert_eq!(dialogue.session().login(), Some("tim"));

    // RFC 4954, section 4: the client may still cancel; and it has nothing more to say.
    for (response, expected) in [("*", "501 5.7.0 Authentication cancelled"), ("dGlt", "501 5.5.2")] {
        let (_, mut dialogue) = passed_through(&dovecot, "SCRAM-SHA-256 biws");
        let said = dialogue.say(response);
        assert!(said.starts_with(expected), "{said}");
        assert!(!dialogue.session().is_authenticated());
    }
    // The engine's PLAIN has no place for it.
    assert_eq!(dovecot.log_in("tim", "tanstaaf"), 454);
}

#[test]
fn a_refused_token_is_refused_behind_its_error_and_nothing_else() {
    for (last, expected) in
        [("FAIL\t#\n", 535), ("FAIL\t#\ttemp\n", 454), ("OK\t#\tuser=tim\n", 454), ("CONT\t#\t\n", 454)]
    {
        let scripted = Scripted::start(HELLO, move |words| match words {
            ["AUTH", id, "OAUTHBEARER", ..] => format!("CONT\t{id}\te30=\n").into_bytes(),
            ["CONT", id, "AQ=="] => replaced(last.as_bytes(), id),
            _ => Vec::new(),
        });
        let dovecot = dovecot(&scripted);
        let mut dialogue = Dialogue::of_the_engine(&dovecot);
        let message = b"n,a=a=3Db,\x01auth=Bearer dG9rZW4=\x01\x01";
        let said = dialogue.auth("OAUTHBEARER", message);
        let said = if code(&said) == 334 { dialogue.respond("\x01") } else { said };
        assert_eq!(code(&said), expected, "{last}");
        assert!(scripted.hear("AUTH").ends_with(&crate::base64(message)));
    }
}

#[test]
fn cancelled_exchanges_are_cancelled_at_dovecot() {
    let scripted = Scripted::start(HELLO, |words| match words {
        ["AUTH", id, ..] => format!("CONT\t{id}\t\n").into_bytes(),
        _ => Vec::new(),
    });
    let dovecot = dovecot(&scripted);
    let id = |line: &str| line.split('\t').nth(1).unwrap().to_owned();

    // By the client.
    let (_, mut dialogue) = passed_through(&dovecot, "LOGIN");
    let asked = scripted.hear("AUTH");
    assert_eq!(dialogue.say("*"), "501 5.7.0 Authentication cancelled");
    assert_eq!(id(&scripted.hear("CANCEL")), id(&asked));

    // By a handler that does not look at events, when the next AUTH begins.
    dialogue.cancels = false;
    dialogue.say("AUTH LOGIN");
    let asked = scripted.hear("AUTH");
    dialogue.say("*");
    dialogue.say("AUTH LOGIN");
    assert_eq!(id(&scripted.hear("CANCEL")), id(&asked));

    // By the end of the connection.
    let asked = scripted.hear("AUTH");
    drop(dialogue);
    assert_eq!(id(&scripted.hear("CANCEL")), id(&asked));
}

#[test]
fn a_server_that_stops_answering_is_left_for_a_new_connection() {
    let silent = Arc::new(AtomicUsize::new(1));
    let scripted = Scripted::start(HELLO, {
        let silent = Arc::clone(&silent);
        move |words| match words {
            ["AUTH", ..] if silent.load(Ordering::SeqCst) > 0 => Vec::new(),
            ["AUTH", id, ..] => format!("OK\t{id}\tuser=tim\n").into_bytes(),
            _ => Vec::new(),
        }
    });
    let dovecot: Arc<dyn Door> = Arc::new(dovecot(&scripted));
    scripted.hear("connected");
    let began = Instant::now();
    assert_eq!(at_once(50, &dovecot, "tim", "tanstaaf", 454), 50);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    scripted.hear("closed");
    silent.store(0, Ordering::SeqCst);
    assert_eq!(at_once(50, &dovecot, "tim", "tanstaaf", 235), 50);
}

#[test]
fn a_slow_request_holds_up_nobody_else_and_is_given_up_alone() {
    let scripted = Scripted::start(HELLO, |words| match words {
        ["AUTH", id, "PLAIN", ..] => format!("OK\t{id}\tuser=tim\n").into_bytes(),
        _ => Vec::new(),
    });
    let dovecot = dovecot(&scripted);
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| passed_through(&dovecot, "LOGIN").0);
        scripted.hear("AUTH");
        while !slow.is_finished() {
            assert_eq!(dovecot.log_in("tim", "tanstaaf"), 235);
        }
        assert_eq!(code(&slow.join().unwrap()), 454);
    });
    scripted.hear("CANCEL");
    // Still the first connection.
    assert!(!scripted.heard.try_iter().any(|line| line == "connected" || line == "closed"));
}

#[test]
fn a_connection_that_ends_is_made_anew_for_the_request_that_it_took_along() {
    let times = Arc::new(Mutex::new(0));
    let scripted = Scripted::start(HELLO, move |words| match words {
        ["AUTH", id, ..] => {
            let mut times = times.lock().unwrap();
            *times += 1;
            if *times == 1 { HANG_UP.to_vec() } else { format!("OK\t{id}\tuser=tim\n").into_bytes() }
        }
        _ => Vec::new(),
    });
    assert_eq!(dovecot(&scripted).log_in("tim", "tanstaaf"), 235);
}

#[test]
fn a_connection_is_used_for_its_lifetime_and_ends_behind_its_last_request() {
    let scripted = Scripted::start(HELLO, |words| match words {
        ["AUTH", id, "LOGIN", ..] => format!("CONT\t{id}\t\n").into_bytes(),
        ["AUTH" | "CONT", id, ..] => format!("OK\t{id}\tuser=tim\n").into_bytes(),
        _ => Vec::new(),
    });
    let settings = Settings::unix(scripted.socket()).lifetime(Duration::from_millis(100));
    let dovecot = settings.connect().unwrap();
    scripted.hear("connected");
    let (said, mut dialogue) = passed_through(&dovecot, "LOGIN");
    assert_eq!(said, "334 ");
    // A new one for new requests.
    wait_until("another connection", || {
        assert_eq!(dovecot.log_in("tim", "tanstaaf"), 235);
        scripted.heard.try_iter().find(|line| line == "connected")
    });
    // And the old one for its own.
    assert_eq!(code(&dialogue.respond("tim")), 235);
    scripted.hear("closed");
    // One that nobody uses ends by itself.
    scripted.hear("closed");
    assert_eq!(dovecot.log_in("tim", "tanstaaf"), 235);
}

#[test]
fn its_connection_and_threads_end_with_the_last_that_uses_it() {
    let scripted = answering(b"CONT\t#\t\n");
    let dovecot = dovecot(&scripted);
    let (_, dialogue) = passed_through(&dovecot, "LOGIN");
    drop(dovecot);
    assert!(!scripted.heard.try_iter().any(|line| line == "closed"));
    drop(dialogue);
    scripted.hear("closed");
}

#[test]
fn what_is_not_dovecot_is_told_when_connecting() {
    let connect = |hello: &str| {
        let scripted = Scripted::start(hello, |_| Vec::new());
        Settings::unix(scripted.socket()).time_limit(Duration::from_millis(300)).connect().unwrap_err()
    };
    assert!(matches!(connect("220 mx.example.org ESMTP\r\n"), Error::Protocol(_)));
    assert!(matches!(connect("VERSION\t2\t0\nDONE\n"), Error::Protocol(_)));
    assert!(matches!(connect(&"x".repeat(20_000)), Error::Protocol(_)));
    assert!(matches!(connect("VERSION\t1\t2\nMECH\tPLAIN\tplaintext\n"), Error::TimedOut));
    let nowhere = tempfile::tempdir().unwrap().path().join("auth");
    let error = Dovecot::connect(nowhere).unwrap_err();
    assert!(matches!(error, Error::Io(std::io::ErrorKind::NotFound)), "{error}");
    let nobody = Settings::tcp("127.0.0.1:1").time_limit(Duration::from_secs(1)).connect().unwrap_err();
    assert!(matches!(nobody, Error::Io(std::io::ErrorKind::ConnectionRefused)), "{nobody}");
    assert!(Settings::tcp("no port").connect().is_err());
}

#[test]
fn only_what_clients_should_use_is_offered() {
    let hello = "VERSION\t1\t4\nMECH\tPLAIN\tplaintext\nMECH\tCRAM-MD5\tdictionary\tactive\nMECH\tANONYMOUS\tanonymous\n\
        MECH\tEXTERNAL\nMECH\tAPOP\tprivate\nMECH\tSCRAM-SHA-256-PLUS\tchannel-binding\nMECH\tSCRAM-SHA-256\nDONE\n";
    let scripted = Scripted::start(hello, |_| Vec::new());
    let dovecot = Dovecot::connect(scripted.socket()).unwrap();
    let listed = |auth: Auth, tls| {
        let mut dialogue = Dialogue::new(dovecot.exchange(), auth, Peer::local(), tls);
        let said = dialogue.say("EHLO client.example.com");
        said.lines().find_map(|line| line.split_once("AUTH ")).map(|(_, names)| names.to_owned())
    };
    let tls = || sansmtp::TlsInfo::new(sansmtp::TlsVersion::Tls1_3, "TLS_AES_128_GCM_SHA256");
    let offered = |auth: Auth| dovecot.offer(auth).unwrap();
    assert_eq!(listed(offered(Auth::without_mechanisms()), Some(tls())).unwrap(), "PLAIN CRAM-MD5 SCRAM-SHA-256");
    let clear = || offered(Auth::without_mechanisms().require_tls(false));
    assert_eq!(listed(clear(), None).unwrap(), "CRAM-MD5 SCRAM-SHA-256");
    let asked = clear().handler_mechanism("ANONYMOUS");
    assert_eq!(listed(asked, None).unwrap(), "CRAM-MD5 SCRAM-SHA-256 ANONYMOUS");

    let named = Settings::unix(scripted.socket()).name_certificates(|_| Some("tim".into())).connect().unwrap();
    let external = || named.offer(Auth::without_mechanisms()).unwrap();
    assert_eq!(listed(external(), Some(tls())).unwrap(), "PLAIN CRAM-MD5 SCRAM-SHA-256");
    let mut certified = tls();
    certified.peer_certificates.push(b"certificate".to_vec());
    assert_eq!(listed(external(), Some(certified)).unwrap(), "PLAIN CRAM-MD5 EXTERNAL SCRAM-SHA-256");
}

#[test]
fn a_dovecot_that_is_away_at_the_start_is_found_later() {
    let directory = tempfile::tempdir().unwrap();
    let dovecot = Settings::unix(directory.path().join("auth")).connect_or_later().unwrap();
    let dialogue = || {
        let auth = dovecot.offer_later(Auth::without_mechanisms().require_tls(false), &["PLAIN", "CRAM-MD5"]);
        let auth = auth.policy("PLAIN", sansmtp::auth::Policy::new());
        Dialogue::new(dovecot.exchange(), auth, Peer::local(), None)
    };
    let listed = || {
        let said = dialogue().say("EHLO client.example.com");
        said.lines().find_map(|line| line.split_once("AUTH ")).map(|(_, names)| names.to_owned()).unwrap()
    };
    assert_eq!(listed(), "PLAIN CRAM-MD5");
    assert_eq!(code(&dialogue().say("AUTH PLAIN")), 454);
    assert_eq!(dovecot.answers("XOAUTH2"), sansmtp_authenticators::Answers::ForSome);

    let _scripted = Scripted::start_in(directory, HELLO, |words| match words {
        ["AUTH", id, ..] => format!("OK\t{id}\tuser=tim\n").into_bytes(),
        _ => Vec::new(),
    });
    // Whoever says EHLO makes it be tried. LOGIN and OAUTHBEARER are for TLS.
    wait_until("what Dovecot offers", || (listed() == "PLAIN SCRAM-SHA-256").then_some(()));
    assert_eq!(code(&dialogue().say("AUTH PLAIN")), 235);
    assert_eq!(code(&dialogue().say("AUTH CRAM-MD5")), 504);
}

#[test]
fn a_mechanism_that_is_not_offered_is_not_named() {
    let hello = "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tAPOP\tprivate\nDONE\n";
    let scripted = Scripted::start(hello, |words| match words {
        ["AUTH", id, ..] => format!("OK\t{id}\tuser=tim\n").into_bytes(),
        _ => Vec::new(),
    });
    let dovecot = dovecot(&scripted);
    // It was, when EHLO's list was made; or the handler takes whatever a client names.
    let auth = Auth::without_mechanisms().handler_mechanism("CRAM-MD5").handler_takes_all().require_tls(false);
    let mut dialogue = Dialogue::new(dovecot.exchange(), auth, Peer::local(), None);
    for mechanism in ["CRAM-MD5", "APOP", "X-WHATEVER"] {
        assert_eq!(code(&dialogue.say(&format!("AUTH {mechanism}"))), 454);
    }
    assert!(!scripted.heard.try_iter().any(|line| line.starts_with("AUTH")));
    assert_eq!(code(&dialogue.say("AUTH PLAIN")), 235);
}

#[test]
fn what_a_client_sends_stays_in_its_field() {
    let scripted = answering(b"FAIL\t#\n");
    let dovecot = dovecot(&scripted);
    let mut tls = sansmtp::TlsInfo::new(sansmtp::TlsVersion::Tls1_3, "TLS_AES_128_GCM_SHA256");
    tls.server_name = Some("mx\tnologin\nAUTH\t99\tANONYMOUS\tservice=x".into());
    tls.peer_certificates.push(b"certificate".to_vec());
    let exchange =
        dovecot.exchange().session_id("a\tb\nc\rd\0e\x01f").local_address("[::ffff:192.0.2.1]:587".parse().unwrap());
    let auth = dovecot.offer(Auth::without_mechanisms()).unwrap();
    let peer = Peer::from("[2001:db8::1]:4711".parse::<std::net::SocketAddr>().unwrap());
    let mut dialogue = Dialogue::new(exchange, auth, peer, Some(tls));
    let response = b"\0tim\nCANCEL\t1\0tanstaaf\tresp=\n";
    assert_eq!(code(&dialogue.auth("PLAIN", response)), 535);
    let expected = "AUTH\t1\tPLAIN\tservice=smtp\tsecured=tls\t\
        local_name=mx\u{1}tnologin\u{1}nAUTH\u{1}t99\u{1}tANONYMOUS\u{1}tservice=x\tvalid-client-cert\t\
        session=a\u{1}tb\u{1}nc\u{1}rd\u{1}0e\u{1}1f\tlip=192.0.2.1\tlport=587\trip=2001:db8::1\trport=4711\tnologin\tresp=";
    assert_eq!(scripted.hear("AUTH"), format!("{expected}{}", crate::base64(response)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_server_says_only_ok_with_a_user_is_a_login(said in prop::collection::vec(
        prop_oneof![
            3 => prop::sample::select(vec![&b"OK"[..], b"CONT", b"FAIL", b"\t", b"\t", b"\n", b"#", b"#", b"user=tim", b"user=",
                b"=", b"\x01n", b"\x01", b"temp", b"nologin", b"resp="]).prop_map(<[u8]>::to_vec),
            1 => any::<u8>().prop_map(|octet| vec![octet]),
        ], 0..12,
    )) {
        let said = [&said.concat()[..], b"\nFAIL\t#\n"].concat();
        let scripted = Scripted::start(HELLO, {
            let said = said.clone();
            move |words| match words {
                ["AUTH", id, ..] => replaced(&said, id),
                _ => Vec::new(),
            }
        });
        let code = dovecot(&scripted).log_in("tim", "tanstaaf");
        let ok = replaced(&said, "1");
        let says_ok = ok.split(|&octet| octet == b'\n').any(|line| {
            line.starts_with(b"OK\t1\t") && line.split(|&octet| octet == b'\t').any(|field| field.starts_with(b"user=") && field.len() > 5)
        });
        prop_assert!(code == 454 || code == 535 || code == 235 && says_ok, "{code}: {}", said.escape_ascii());
    }
}

#[test]
fn limits_without_end_are_no_fault() {
    let scripted = Scripted::start(HELLO, |words| match words {
        ["AUTH", id, ..] => format!("OK\t{id}\tuser=tim\n").into_bytes(),
        _ => Vec::new(),
    });
    let settings = Settings::unix(scripted.socket()).time_limit(Duration::MAX).lifetime(Duration::MAX);
    let dovecot = settings.connect().unwrap();
    assert_eq!([dovecot.log_in("tim", "x"), dovecot.log_in("tim", "x")], [235, 235]);
}
