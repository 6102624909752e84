//! Mechanisms and AUTH handlers of the embedder's own, through whole connections: two rounds, names,
//! overriding, needs, questions in the middle, and replies of their own. What must never succeed is in
//! `fail_closed.rs`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sansmtp::auth::{AttemptLog, Credentials, Exchange, Mechanism, Needs, Start, Step};
use sansmtp::testing::{Mismatch, Play};
use sansmtp::{Auth, AuthRequest, AuthResult, Config, ConfigError, SecretRef, TlsInfo, TlsVersion};

#[path = "support/embedder.rs"]
mod embedder;

use embedder::{Counts, Embedder, Ending, config, play, play_under, reply};

// ---------------------------------------------------------------------------------------------------
// The mechanism

/// Takes a name, then a code, and asks about both with data of its own.
struct OneTimeCode {
    name: &'static str,
    needs: Needs,
    /// Asks who the user is before the code.
    consults: bool,
}

impl OneTimeCode {
    fn named(name: &'static str) -> Self {
        Self { name, needs: Needs::NOTHING, consults: false }
    }
}

/// What the authenticator is asked in the middle.
struct IsKnown;

/// What the authenticator is asked at the end.
struct Code {
    digits: Vec<u8>,
    /// What the authenticator said in the middle.
    known_as: Option<String>,
}

struct Rounds {
    consults: bool,
    named: bool,
    known_as: Option<String>,
}

impl Mechanism for OneTimeCode {
    fn name(&self) -> &str {
        self.name
    }

    fn needs(&self) -> Needs {
        self.needs
    }

    fn begin(&self, _: &Start<'_>) -> Box<dyn Exchange> {
        Box::new(Rounds { consults: self.consults, named: false, known_as: None })
    }
}

impl Exchange for Rounds {
    fn step(&mut self, response: Option<SecretRef<'_>>, credentials: &mut Credentials) -> Step {
        let response = response.map_or(&[][..], SecretRef::expose_secret);
        if self.named {
            return Step::Ask(Box::new(Code { digits: response.to_vec(), known_as: self.known_as.take() }));
        }
        self.named = true;
        match credentials.set_authcid(response) {
            Ok(()) if self.consults => Step::Consult(Box::new(IsKnown)),
            Ok(()) => Step::Challenge(b"code?".into()),
            Err(malformed) => malformed.into(),
        }
    }

    fn consulted(&mut self, result: AuthResult, _: &mut Credentials) -> Step {
        if !result.success() {
            return Step::Finish(result);
        }
        self.known_as = result.login().map(Into::into);
        Step::Challenge(b"code?".into())
    }
}

fn check_code(request: &AuthRequest) -> AuthResult {
    let Some(code) = request.data::<Code>() else { return AuthResult::cannot_tell() };
    let right = request.credentials().authcid() == "tim" && code.digits == b"314159";
    match (right, &code.known_as) {
        (true, Some(login)) => AuthResult::accept().with_login(login.as_str()),
        (true, None) => AuthResult::accept(),
        (false, _) => AuthResult::refuse(),
    }
}

// ---------------------------------------------------------------------------------------------------
// Rounds, names, overriding

/// "tim", "314159" and "271828", in base64: `dGlt`, `MzE0MTU5`, `MjcxODI4`.
#[test]
fn two_rounds_with_data_of_its_own() -> Result<(), Mismatch> {
    let config = config(Auth::without_mechanisms().mechanism(OneTimeCode::named("X-CODE")));
    let mut embedder = Embedder::new(check_code);
    play(
        &config,
        &mut embedder,
        r"
        S*: 250
        C: AUTH X-CODE dGlt
        S: 334 Y29kZT8=
        C: MjcxODI4
        S: 535 5.7.8 ...
        C: MAIL FROM:<tim@example.org>
        S: 530 5.7.0 ...
        C: auth x-code
        S: 334\x20
        C: dGlt
        S: 334 Y29kZT8=
        C: *
        S: 501 5.7.0 ...
        C: AUTH X-CODE
        S: 334\x20
        C: dGlt
        S: 334 Y29kZT8=
        C: MzE0MTU5
        S: 235 2.7.0 ...
        C: MAIL FROM:<tim@example.org>
        S: 250 2.1.0 ...
        ",
    )?;
    assert_eq!(embedder.events, ["X-CODE bad-credentials 1", "X-CODE cancelled 1", "X-CODE tim ok"]);
    Ok(())
}

/// RFC 4422, section 3.1 allows hyphens and underscores; they are two names. Python's servers know one of
/// them by the other.
#[test]
fn a_dash_is_not_an_underscore() -> Result<(), Mismatch> {
    let auth = Auth::without_mechanisms()
        .mechanism(OneTimeCode::named("X-CODE"))
        .mechanism(Ending("X_CODE", || Step::Finish(AuthResult::refuse())))
        .mechanism(Ending("12345-7890_234567890", || Step::Finish(AuthResult::refuse())));
    let mut embedder = Embedder::new(check_code);
    play(
        &config(auth),
        &mut embedder,
        r"
        S: 250-mx.example.org
        S: 250-PIPELINING
        S: 250-8BITMIME
        S: 250-ENHANCEDSTATUSCODES
        S: 250-SIZE 33554432
        S: 250-AUTH X-CODE X_CODE 12345-7890_234567890
        S: 250 HELP
        C: AUTH X__CODE dGlt
        S: 504 5.5.4 ...
        C: AUTH XCODE dGlt
        S: 504 5.5.4 ...
        C: AUTH x_Code dGlt
        S: 535 5.7.8 ...
        C: AUTH 12345-7890_234567890 dGlt
        S: 535 5.7.8 ...
        C: AUTH 12345-7890_234567890X dGlt
        S: 504 5.5.4 ...
        C: AUTH x-Code dGlt
        S: 334 Y29kZT8=
        C: MzE0MTU5
        S: 235 2.7.0 ...
        ",
    )
}

#[test]
fn what_is_no_name_is_refused_when_the_configuration_is_built() {
    for name in ["", "x-code", "X CODE", "X.CODE", "X-CODE\r", "X\u{d6}DE", "123456789012345678901"] {
        let auth = Auth::new().mechanism(OneTimeCode::named(name)).require_tls(false);
        let built = Config::builder("mx.example.org").auth(auth).build();
        assert!(matches!(built, Err(ConfigError::MechanismName(_))), "{name:?}: {built:?}");
    }
}

#[test]
fn a_built_in_is_overridden_in_its_place() -> Result<(), Mismatch> {
    let auth = Auth::new().mechanism(OneTimeCode::named("PLAIN"));
    let mut embedder = Embedder::new(check_code);
    play(
        &config(auth),
        &mut embedder,
        r"
        S: 250-mx.example.org
        S: 250-PIPELINING
        S: 250-8BITMIME
        S: 250-ENHANCEDSTATUSCODES
        S: 250-SIZE 33554432
        S: 250-AUTH SCRAM-SHA-256 PLAIN LOGIN
        S: 250 HELP
        C: AUTH PLAIN AHRpbQAzMTQxNTk=
        S: 501 5.5.2 ...
        C: AUTH PLAIN dGlt
        S: 334 Y29kZT8=
        C: MzE0MTU5
        S: 235 2.7.0 ...
        ",
    )?;
    // The built-in would have taken the first message.
    assert_eq!(embedder.events, ["PLAIN malformed 0", "PLAIN tim ok"]);

    let mut embedder = Embedder::new(|_| panic!("the mechanism is the handler's"));
    embedder.turn = |turn| match turn.number() {
        0 => turn.challenge(*b"code?"),
        _ => turn.result(AuthResult::accept().with_login("tim")),
    };
    play(
        &config(Auth::new().handler_mechanism("PLAIN")),
        &mut embedder,
        "S*: 250\nC: AUTH PLAIN AHRpbQAzMTQxNTk=\nS: 334 Y29kZT8=\nC: =\nS: 501 5.5.2 ...\n\
         C: AUTH PLAIN\nS: 334 Y29kZT8=\nC: MzE0MTU5\nS: 235 2.7.0 ...",
    )?;
    assert_eq!(embedder.events, ["PLAIN malformed 0", "PLAIN tim ok"]);
    Ok(())
}

#[test]
fn what_a_mechanism_needs_hides_it() -> Result<(), Mismatch> {
    let with = |change: fn(&mut Needs)| {
        let mut needs = Needs::NOTHING;
        change(&mut needs);
        needs
    };
    let bare = TlsInfo::new(TlsVersion::Tls1_3, "TLS_AES_128_GCM_SHA256");
    let (mut certified, mut bound) = (bare.clone(), bare.clone());
    certified.peer_certificates = vec![b"a certificate".to_vec()];
    bound.exporter = Some([7; 32]);
    for (needs, present) in [
        (with(|needs| needs.client_certificate = true), certified),
        (with(|needs| needs.channel_binding = true), bound),
    ] {
        let mechanism = || OneTimeCode { needs, ..OneTimeCode::named("X-CODE") };
        let config = config(Auth::without_mechanisms().mechanism(OneTimeCode::named("X")).mechanism(mechanism()));
        let mut embedder = Embedder::new(check_code);
        for lacking in [None, Some(&bare)] {
            play_under(
                lacking,
                &config,
                &mut embedder,
                "S: 250-mx.example.org\nS: 250-PIPELINING\nS: 250-8BITMIME\n\
                 S: 250-ENHANCEDSTATUSCODES\nS: 250-SIZE 33554432\nS: 250-AUTH X\nS: 250 HELP\nC: AUTH X-CODE dGlt\nS: 504 5.5.4 ...",
            )?;
            assert_eq!(embedder.events, ["X-CODE unknown-mechanism 0"]);
        }
        play_under(
            Some(&present),
            &config,
            &mut embedder,
            "S*: 250\nC: AUTH X-CODE dGlt\nS: 334 Y29kZT8=\nC: MzE0MTU5\nS: 235 2.7.0 ...",
        )?;
    }

    let mechanism = OneTimeCode { needs: Needs::ENTROPY, ..OneTimeCode::named("X-CODE") };
    let auth = Auth::without_mechanisms().mechanism(mechanism).require_tls(false);
    let built = Config::builder("mx.example.org").auth(auth).entropy(|_| false).build();
    assert!(matches!(built, Err(ConfigError::NoEntropy)), "{built:?}");
    Ok(())
}

// ---------------------------------------------------------------------------------------------------
// Questions in the middle, and replies of one's own

#[test]
fn a_question_in_the_middle() -> Result<(), Mismatch> {
    let mechanism = || OneTimeCode { consults: true, ..OneTimeCode::named("X-CODE") };
    let config = config(Auth::without_mechanisms().mechanism(mechanism()));
    let mut embedder = Embedder::new(|request| {
        if request.data::<IsKnown>().is_none() {
            return check_code(request);
        }
        match request.credentials().authcid() {
            "tim" => AuthResult::accept().with_login("tim@example.org"),
            "down" => AuthResult::cannot_tell(),
            _ => AuthResult::refuse(),
        }
    });
    play(
        &config,
        &mut embedder,
        r"
        S*: 250
        C: AUTH X-CODE dG9t
        S: 535 5.7.8 ...
        C: AUTH X-CODE ZG93bg==
        S: 454 4.7.0 ...
        C: AUTH X-CODE dGlt
        S: 334 Y29kZT8=
        C: MjcxODI4
        S: 535 5.7.8 ...
        C: AUTH X-CODE dGlt
        S: 334 Y29kZT8=
        C: MzE0MTU5
        S: 235 2.7.0 ...
        ",
    )?;
    let expected =
        ["X-CODE bad-credentials 1", "X-CODE cannot-tell 1", "X-CODE bad-credentials 2", "X-CODE tim@example.org ok"];
    assert_eq!(embedder.events, expected);

    // A yes in the middle is not a yes: without the second answer there is no 235.
    for answer in ["drop", "late"] {
        Play::new(Arc::clone(&config)).transcript(&format!(
            "S: 220 mx.example.org ESMTP
             C: EHLO c.example
             S*: 250
             C: AUTH X-CODE dGlt
             ?: authenticate X-CODE authcid=tim -> {answer}
             S: 454 4.7.0 ...
             C: AUTH X-CODE dGlt
             ?: authenticate X-CODE authcid=tim -> accept
             S: 334 Y29kZT8=
             C: MzE0MTU5
             ?: authenticate X-CODE authcid=tim -> {answer}
             S: 454 4.7.0 ...
             C: NOOP
             S: 250 2.0.0 ...
             C: MAIL FROM:<tim@example.org>
             S: 530 5.7.0 ..."
        ))?;
    }
    Ok(())
}

/// What is handled otherwise ends with its own reply: nobody is logged in, nothing is counted.
#[test]
fn mechanism_and_hook_answer_by_a_reply_of_their_own() -> Result<(), Mismatch> {
    for below in ["235 2.7.0 Welcome", "334 Go on", "250 2.0.0 Fine", "421 4.7.0 Bye"] {
        assert!(AuthResult::handled_with(reply(below)).is_err(), "{below}");
    }
    let counts = Arc::new(Counts::default());
    let auth = Auth::without_mechanisms()
        .mechanism(Ending("X-MECHANISM", || Step::Finish(elsewhere())))
        .mechanism(OneTimeCode::named("X-ANSWER"))
        .handler_mechanism("X-TURN")
        .attempts(Arc::clone(&counts) as Arc<dyn AttemptLog>);
    // A name does not make it a success.
    let mut embedder = Embedder::new(|_| elsewhere().with_login("tim"));
    embedder.turn = |turn| match turn.number() {
        0 => turn.challenge(*b"code?"),
        _ => turn.result(elsewhere()),
    };
    play(
        &config(auth),
        &mut embedder,
        r"
        S*: 250
        C: AUTH X-MECHANISM dGlt
        S: 432 4.7.12 Visit our web page
        C: AUTH X-ANSWER dGlt
        S: 334 Y29kZT8=
        C: MzE0MTU5
        S: 432 4.7.12 Visit our web page
        C: AUTH X-TURN
        S: 334 Y29kZT8=
        C: MzE0MTU5
        S: 432 4.7.12 Visit our web page
        C: MAIL FROM:<tim@example.org>
        S: 530 5.7.0 ...
        ",
    )?;
    assert_eq!(embedder.events, ["X-MECHANISM handled 0", "X-ANSWER handled 0", "X-TURN handled 0"]);
    assert_eq!((counts.failed.load(Ordering::Relaxed), counts.succeeded.load(Ordering::Relaxed)), (0, 0));
    Ok(())
}

fn elsewhere() -> AuthResult {
    AuthResult::handled_with(reply("432 4.7.12 Visit our web page")).expect("a refusal")
}
