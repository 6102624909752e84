//! Replies that a transcript alone does not reach: they need a handler, a mechanism or a shutdown.

use std::sync::Arc;
use std::time::Duration;

use sansmtp::auth::{Credentials, Exchange, First, Mechanism, Start, Step};
use sansmtp::testing::{Mismatch, Play};
use sansmtp::{
    Action, Auth, AuthRequest, AuthResult, Config, Connection, Handler, Hooks, Peer, Refusal, SecretRef, Session,
};

fn config(auth: Auth, hooks: Hooks) -> Arc<Config> {
    let auth = auth.require_tls(false).pause(Duration::ZERO, Duration::ZERO);
    Config::builder("mx.example.org").auth(auth).hooks(hooks).build().expect("a sound configuration")
}

struct Refusing(Refusal);

impl Handler for Refusing {
    type Message = ();

    fn authenticate(&mut self, _: &Session, _: &AuthRequest) -> AuthResult {
        AuthResult::refuse_because(self.0)
    }
}

/// RFC 4954, section 6. The first three must not be told apart.
#[test]
fn each_refusal_has_its_reply() -> Result<(), Mismatch> {
    for (refusal, reply, event) in [
        (Refusal::BadCredentials, "535 5.7.8 Authentication credentials invalid", "bad-credentials"),
        (Refusal::UnknownUser, "535 5.7.8 Authentication credentials invalid", "unknown-user"),
        (Refusal::Disabled, "535 5.7.8 Authentication credentials invalid", "disabled"),
        (Refusal::MechanismTooWeak, "534 5.7.9 Authentication mechanism is too weak", "mechanism-too-weak"),
        (Refusal::PasswordTransitionNeeded, "432 4.7.12 A password transition is needed", "password-transition-needed"),
        (
            Refusal::EncryptionRequired,
            "538 5.7.11 Encryption required for requested authentication mechanism",
            "encryption-required",
        ),
    ] {
        Play::new(config(Auth::new(), Hooks::NONE)).transcript_with(
            &mut Refusing(refusal),
            &format!(
                "S: 220 mx.example.org ESMTP
                 C: EHLO client.example.net
                 S*: 250
                 C: AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm
                 !: auth-failed PLAIN {event}
                 S: {reply}
                 C: QUIT
                 S: 221 2.0.0 ...
                 S: <closed>"
            ),
        )?;
    }
    Ok(())
}

/// Replies in the embedder's own words, beyond ASCII.
struct Speaking;

impl Handler for Speaking {
    type Message = ();

    fn authenticate(&mut self, _: &Session, request: &AuthRequest) -> AuthResult {
        let (result, words) = match request.credentials().authcid() {
            "tim" => (AuthResult::accept(), "235 2.7.0 Gr\u{fc}\u{df} Gott"),
            _ => (AuthResult::refuse(), "535 5.7.8 Falsches Pa\u{df}wort"),
        };
        result.with_message(words.parse().expect("a reply")).expect("its code fits")
    }
}

/// RFC 6531, section 3.7.4: SMTP servers MUST NOT say anything beyond ASCII to AUTH.
#[test]
fn what_an_authenticator_says_is_made_ascii() -> Result<(), Mismatch> {
    Play::new(config(Auth::new(), Hooks::NONE)).transcript_with(
        &mut Speaking,
        "S: 220 mx.example.org ESMTP
         C: EHLO client.example.net
         S*: 250
         C: AUTH PLAIN AG5vYm9keQB0YW5zdGFhZg==
         S: 535 5.7.8 Falsches Pa?wort
         C: AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm
         S: 235 2.7.0 Gr?? Gott
         C: QUIT
         S: 221 2.0.0 ...
         S: <closed>",
    )
}

struct ServerFirst;

impl Mechanism for ServerFirst {
    fn name(&self) -> &'static str {
        "X-SERVER-FIRST"
    }

    fn first(&self) -> First {
        First::Server
    }

    fn begin(&self, _: &Start<'_>) -> Box<dyn Exchange> {
        Box::new(Self)
    }
}

impl Exchange for ServerFirst {
    fn step(&mut self, response: Option<SecretRef<'_>>, _: &mut Credentials) -> Step {
        match response {
            None => Step::Challenge(b"hello".into()),
            Some(_) => Step::Finish(AuthResult::accept().with_login("somebody")),
        }
    }
}

/// RFC 4954, section 4: an initial response where the server speaks first MUST be refused with 501.
#[test]
fn no_initial_response_where_the_server_speaks_first() -> Result<(), Mismatch> {
    Play::new(config(Auth::new().mechanism(ServerFirst), Hooks::NONE)).transcript(
        r"
        S: 220 mx.example.org ESMTP
        C: EHLO client.example.net
        S*: 250
        C: AUTH X-SERVER-FIRST aGVsbG8=
        !: auth-failed X-SERVER-FIRST initial-response-not-allowed
        S: 501 5.7.0 The mechanism takes no initial response
        C: AUTH X-SERVER-FIRST =
        !: auth-failed X-SERVER-FIRST initial-response-not-allowed
        S: 501 5.7.0 The mechanism takes no initial response
        C: AUTH x-server-first
        S: 334 aGVsbG8=
        C-: \r\n
        !: auth-ok X-SERVER-FIRST somebody
        S: 235 2.7.0 Authentication successful
        ",
    )
}

/// RFC 5321, section 4.3.2: in place of the greeting there is 220, 421 or 554, and RFC 2034 gives the
/// greeting no enhanced status code.
#[test]
fn a_connect_hook_without_an_answer_turns_the_client_away() -> Result<(), Mismatch> {
    let play = || Play::new(config(Auth::new(), Hooks::CONNECT));
    for answer in ["drop", "late"] {
        play().transcript(&format!(
            "?: connect -> {answer}
             S: 421 Temporary failure, try again later
             S: <closed>"
        ))?;
    }
    Ok(())
}

/// Nobody keeps the message, so nobody may say that it is safe.
#[test]
fn a_message_that_nobody_asks_for_is_not_accepted() -> Result<(), Mismatch> {
    Play::new(config(Auth::new(), Hooks::NONE)).transcript(
        "S: 220 mx.example.org ESMTP
         C: HELO client.example.net
         S: 250 mx.example.org
         C: MAIL FROM:<a@example.net>
         S: 250 2.1.0 ...
         C: RCPT TO:<b@example.org>
         S: 250 2.1.5 ...
         C: DATA
         S: 354 ...
         C: .
         S: 451 4.3.5 Nothing here takes messages",
    )
}

fn replies(connection: &mut Connection, mut input: &[u8]) -> String {
    let mut replies = String::new();
    loop {
        match connection.poll(Duration::ZERO, &mut input) {
            Action::Reply(reply) => replies += &format!("{}\n", reply.code()),
            Action::CallHook(call) => {
                let answer = call.answer(sansmtp::Verdict::Accept);
                connection.answer(answer).expect("the question was asked");
            }
            Action::NeedInput { .. } => return replies,
            Action::Close => return replies + "closed",
            Action::Challenge(_)
            | Action::Transmit(_)
            | Action::Flush { .. }
            | Action::CallAuthenticator(_)
            | Action::CallAuthHandler(_)
            | Action::Content(_)
            | Action::Aborted(_)
            | Action::Event(_)
            | Action::StartTls
            | Action::AwaitAnswer { .. }
            | Action::Pause { .. } => {}
        }
    }
}

/// RFC 5321, section 4.1.1.10.
#[test]
fn a_client_is_done_when_it_says_so() {
    for (said, ends, is_done) in
        [("QUIT\r\n", false, true), ("NOOP\r\n", true, true), ("GET / HTTP/1.1\r\n", false, false)]
    {
        let mut connection = Connection::new(config(Auth::new(), Hooks::NONE), Peer::local());
        if ends {
            connection.end_of_input();
        }
        assert!(replies(&mut connection, said.as_bytes()).ends_with("closed"), "{said}");
        assert_eq!(connection.is_peer_done(), is_done, "{said}");
    }
}

/// RFC 5321, section 3.8: 421 before the connection closes; what is going on is finished first.
#[test]
fn a_shutdown_lets_the_message_end() {
    let mut connection = Connection::new(config(Auth::new(), Hooks::MESSAGE), Peer::local());
    let begun = b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nSubject: x\r\n";
    assert_eq!(replies(&mut connection, begun), "220\n250\n250\n250\n354\n");
    connection.begin_shutdown();
    connection.begin_shutdown();
    assert_eq!(replies(&mut connection, b"\r\nx\r\n.\r\nNOOP\r\n"), "250\n421\nclosed");

    let mut idle = Connection::new(config(Auth::new(), Hooks::NONE), Peer::local());
    assert_eq!(replies(&mut idle, b"EHLO c\r\nNO"), "220\n250\n");
    idle.begin_shutdown();
    assert_eq!(replies(&mut idle, b""), "421\nclosed");
}
