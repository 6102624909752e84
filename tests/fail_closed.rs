//! What must never succeed, nor be counted twice: lines behind error challenges, and answers of the wrong
//! kind.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sansmtp::auth::mechanism::{CramMd5, External, OAuthBearer, Scram, XOAuth2};
use sansmtp::auth::{AttemptLog, Credentials, Exchange, Mechanism, ScramHash, ScramKeys, Start, Step};
use sansmtp::testing::Mismatch;
use sansmtp::{Auth, AuthRequest, AuthResult, SecretRef, TlsInfo, TlsVersion};

#[path = "support/embedder.rs"]
mod embedder;

use embedder::{Counts, Embedder, Ending, config, play, play_under, reply};

type MakeStep = fn() -> Step;
type MakeResult = fn(&AuthRequest) -> AuthResult;

// ---------------------------------------------------------------------------------------------------
// The line behind an error challenge

/// Whatever comes behind an error challenge, or nothing at all: one event, one count, and, if the client
/// is there to hear it, one reply.
#[test]
fn an_error_challenge_counts_once_whatever_follows() -> Result<(), Mismatch> {
    let endings: [(MakeStep, &str, &str, u32); 6] = [
        (|| Step::ErrorChallenge(b"e".into(), AuthResult::refuse()), "bad-credentials", "535 5.7.8 ...", 1),
        (
            || {
                let refused = AuthResult::refuse().with_message(reply("535 5.7.8 Go away")).expect("a refusal");
                Step::ErrorChallenge(b"e".into(), refused)
            },
            "bad-credentials",
            "535 5.7.8 Go away",
            1,
        ),
        (|| Step::ErrorChallenge(b"e".into(), AuthResult::cannot_tell()), "cannot-tell", "454 4.7.0 ...", 0),
        (
            || {
                let handled = AuthResult::handled_with(reply("550 5.7.1 Call us")).expect("a refusal");
                Step::ErrorChallenge(b"e".into(), handled)
            },
            "handled",
            "550 5.7.1 Call us",
            0,
        ),
        (|| Step::ErrorChallengeMalformed(b"e".into()), "malformed", "501 5.5.2 ...", 0),
        // A success is none: the mechanism contradicts itself.
        (
            || Step::ErrorChallenge(b"e".into(), AuthResult::accept().with_login("tim")),
            "cannot-tell",
            "454 4.7.0 ...",
            0,
        ),
    ];
    let lines = [
        r"C-: \r\n",
        "C: *",
        "C: AQ==",
        "C: !!!",
        "C: A",
        "C: AUTH X-ENDING dGlt",
        r"C-: *\r\r\n",
        "C*: 12400 A\nC-: \\r\\n",
        r"C-: AQ==\nAQ==\r\n",
        r"C-: \n\r\n",
        "X: eof",
        "T: 3600",
    ];
    for (step, reason, text, count) in endings {
        for line in lines {
            let counts = Arc::new(Counts::default());
            let auth = Auth::without_mechanisms().mechanism(Ending("X-ENDING", step));
            let auth = auth.attempts(Arc::clone(&counts) as Arc<dyn AttemptLog>);
            let mut embedder = Embedder::new(|_| panic!("nobody is asked"));
            let after = match line {
                "X: eof" => "S: <closed>".to_owned(),
                "T: 3600" => "S: 421 4.4.2 ...\nS: <closed>".to_owned(),
                // RFC 4954, section 4: "*" is 501, whatever was decided before.
                "C: *" => "S: 501 5.7.0 ...\nC: NOOP\nS: 250 2.0.0 ...\nX: eof\nS: <closed>".to_owned(),
                _ => format!("S: {text}\nC: NOOP\nS: 250 2.0.0 ...\nX: eof\nS: <closed>"),
            };
            let dialogue = format!("S*: 250\nC: AUTH X-ENDING dGlt\nS: 334 ZQ==\n{line}\n{after}");
            play(&config(auth), &mut embedder, &dialogue)?;
            assert_eq!(embedder.events, [format!("X-ENDING {reason} {count}")], "{line}");
            // Each of the five ways to cut is a connection.
            assert_eq!(counts.failed.load(Ordering::Relaxed), 5 * count, "{reason} {line}");
            assert_eq!(counts.succeeded.load(Ordering::Relaxed), 0, "{reason} {line}");
        }
    }
    Ok(())
}

/// The last failure that a connection is allowed closes it, and it counts behind an error challenge too.
#[test]
fn error_challenges_use_the_failures_up() -> Result<(), Mismatch> {
    let refuse: fn() -> Step = || Step::ErrorChallenge(b"e".into(), AuthResult::refuse());
    let auth = Auth::without_mechanisms().mechanism(Ending("X-ENDING", refuse)).max_failures(2);
    let mut embedder = Embedder::new(|_| panic!("nobody is asked"));
    play(
        &config(auth),
        &mut embedder,
        r"
        S*: 250
        C: AUTH X-ENDING dGlt
        S: 334 ZQ==
        C: *
        S: 501 5.7.0 ...
        C: AUTH X-ENDING dGlt
        S: 334 ZQ==
        C: *
        S: 421 4.7.0 ...
        S: <closed>
        ",
    )?;
    assert_eq!(embedder.events, ["X-ENDING bad-credentials 1", "X-ENDING bad-credentials 2"]);
    Ok(())
}

// ---------------------------------------------------------------------------------------------------
// Answers of the wrong kind

fn keys(hash: ScramHash) -> AuthResult {
    AuthResult::scram_keys(some_keys(hash))
}

/// An answer that is not one to the question fails closed: neither 235 nor a count against the client.
#[test]
fn answers_of_the_wrong_kind_fail_closed() -> Result<(), Mismatch> {
    let auth = || {
        Auth::new()
            .mechanism(Scram::new(ScramHash::Sha1))
            .mechanism(Scram::new(ScramHash::Sha512))
            .mechanism(CramMd5::new())
            .mechanism(OAuthBearer::new())
            .mechanism(XOAuth2::new())
            .mechanism(External::new())
            .mechanism(Asking)
            .handler_mechanism("X-TURN")
    };
    // "n,,n=tim,r=abc"; ".tim.x"; "tim " and 32 digits; "n,,^Aauth=Bearer x^A^A"; "user=tim^Aauth=Bearer x^A^A".
    let scram = |name| format!("C: AUTH {name} biwsbj10aW0scj1hYmM=");
    let plain = "C: AUTH PLAIN AHRpbQB4".to_owned();
    let login = "C: AUTH LOGIN dGlt\nS: 334 UGFzc3dvcmQ6\nC: eA==".to_owned();
    let cram_md5 = "C: AUTH CRAM-MD5\nS*: 334\nC: dGltIDAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVm".to_owned();
    let bearer = "C: AUTH OAUTHBEARER biwsAWF1dGg9QmVhcmVyIHgBAQ==".to_owned();
    let xoauth2 = "C: AUTH XOAUTH2 dXNlcj10aW0BYXV0aD1CZWFyZXIgeAEB".to_owned();
    let (external, code) = ("C: AUTH EXTERNAL =".to_owned(), "C: AUTH X-CODE dGlt".to_owned());
    let cases: [(String, MakeResult); 21] = [
        (scram("SCRAM-SHA-256"), |_| AuthResult::accept()),
        (scram("SCRAM-SHA-256"), |_| AuthResult::accept().with_login("tim").granting_authzid()),
        (scram("SCRAM-SHA-1"), |_| AuthResult::accept().with_scram_keys(some_keys(ScramHash::Sha1))),
        (scram("SCRAM-SHA-1"), |_| keys(ScramHash::Sha256)),
        (scram("SCRAM-SHA-256"), |_| keys(ScramHash::Sha1)),
        (scram("SCRAM-SHA-256"), |_| keys(ScramHash::Sha512)),
        (scram("SCRAM-SHA-512"), |_| keys(ScramHash::Sha256)),
        (plain.clone(), |_| keys(ScramHash::Sha256)),
        (plain, |_| keys(ScramHash::Sha256).with_login("tim").granting_authzid()),
        (login, |_| keys(ScramHash::Sha256)),
        (cram_md5, |_| keys(ScramHash::Sha1)),
        (bearer.clone(), |_| AuthResult::accept()),
        (bearer.clone(), |_| AuthResult::accept().granting_authzid()),
        (bearer.clone(), |_| AuthResult::accept().with_login("")),
        (bearer, |_| keys(ScramHash::Sha256).with_login("tim")),
        (xoauth2, |_| keys(ScramHash::Sha256).with_login("tim")),
        (external.clone(), |_| AuthResult::accept()),
        (external.clone(), |_| AuthResult::accept().granting_authzid()),
        (external.clone(), |_| AuthResult::accept().with_login("")),
        (external, |_| keys(ScramHash::Sha256).with_login("tim")),
        (code, |_| keys(ScramHash::Sha256).with_login("tim")),
    ];
    let mut tls = TlsInfo::new(TlsVersion::Tls1_3, "TLS_AES_128_GCM_SHA256");
    tls.peer_certificates = vec![b"a certificate".to_vec()];
    for (index, (lines, answer)) in cases.into_iter().enumerate() {
        let mut embedder = Embedder::new(answer);
        let dialogue = format!("S*: 250\n{lines}\nS: 454 4.7.0 ...\nC: MAIL FROM:<tim@example.org>\nS: 530 5.7.0 ...");
        play_under(Some(&tls), &config(auth()), &mut embedder, &dialogue)
            .unwrap_or_else(|mismatch| panic!("case {index}: {mismatch}"));
        assert_eq!(embedder.events.len(), 1, "{:?}", embedder.events);
        assert!(embedder.events.iter().all(|event| event.ends_with("cannot-tell 0")), "{:?}", embedder.events);
    }

    let mut embedder = Embedder::new(|_| panic!("the mechanism is the handler's"));
    embedder.turn = |turn| turn.result(keys(ScramHash::Sha256).with_login("tim"));
    play(&config(auth()), &mut embedder, "S*: 250\nC: AUTH X-TURN\nS: 454 4.7.0 ...")?;
    assert_eq!(embedder.events, ["X-TURN cannot-tell 0"]);
    Ok(())
}

fn some_keys(hash: ScramHash) -> ScramKeys {
    ScramKeys::derive(hash, b"pencil", b"salt", 1).expect("good parameters")
}

/// Asks about data of its own at once.
struct Asking;

impl Mechanism for Asking {
    fn name(&self) -> &str {
        "X-CODE"
    }

    fn begin(&self, _: &Start<'_>) -> Box<dyn Exchange> {
        Box::new(Self)
    }
}

impl Exchange for Asking {
    fn step(&mut self, _: Option<SecretRef<'_>>, credentials: &mut Credentials) -> Step {
        match credentials.set_authcid(b"tim") {
            Ok(()) => Step::Ask(Box::new(())),
            Err(malformed) => malformed.into(),
        }
    }
}
