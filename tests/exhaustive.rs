//! Every sequence of up to five lines from a small alphabet, against a model written from the RFCs.
//!
//! Four lines deep unless `EXHAUSTIVE_DEPTH` says otherwise; five where the tests are optimised. Wherever
//! the authenticator is asked, the walk branches into all that it may do. What lies in front of a
//! sequence's last line has been looked at as a sequence of its own, so it is replayed pipelined.

#![expect(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test that goes wrong may stop here, and a match names what it is about"
)]

use std::sync::Arc;
use std::time::Duration;

use sansmtp::{
    Action, Auth, AuthResult, Config, Connection, Event, Greeting, Hook, Hooks, Peer, TlsInfo, TlsVersion, Verdict,
};

#[path = "exhaustive/model.rs"]
mod model;

use model::{ANSWERS, Answer, Command, Hello, Line, Outcome, Policy, Reads, State};

const CLEAR: Policy = Policy {
    name: "clear",
    starttls: false,
    tls_from_start: false,
    tls_required: false,
    auth: None,
    auth_required: false,
};
const UNDER_TLS_ONLY: model::Auth = model::Auth { require_tls: true, max_failures: 5 };
const ANYWHERE: model::Auth = model::Auth { require_tls: false, max_failures: 2 };

#[test]
fn clear_and_without_auth() {
    explore(CLEAR);
}

#[test]
fn starttls_offered() {
    explore(Policy { name: "starttls", starttls: true, auth: Some(UNDER_TLS_ONLY), ..CLEAR });
}

#[test]
fn starttls_required() {
    let policy = Policy { name: "starttls required", starttls: true, tls_required: true, ..CLEAR };
    explore(Policy { auth: Some(ANYWHERE), ..policy });
}

#[test]
fn tls_from_the_start() {
    explore(Policy { name: "tls", tls_from_start: true, starttls: true, auth: Some(UNDER_TLS_ONLY), ..CLEAR });
}

#[test]
fn tls_from_the_start_and_auth_required() {
    let policy = Policy { name: "tls, auth required", tls_from_start: true, auth_required: true, ..CLEAR };
    explore(Policy { auth: Some(UNDER_TLS_ONLY), ..policy });
}

#[test]
fn auth_in_the_clear() {
    explore(Policy { name: "plaintext auth", auth: Some(ANYWHERE), ..CLEAR });
}

#[test]
fn auth_in_the_clear_required_and_starttls_offered() {
    let policy = Policy { name: "plaintext auth required", starttls: true, auth_required: true, ..CLEAR };
    explore(Policy { auth: Some(ANYWHERE), ..policy });
}

#[test]
fn cuts_make_no_difference() {
    for auth_required in [false, true] {
        let policy = Policy { name: "cuts", starttls: true, auth: Some(ANYWHERE), auth_required, ..CLEAR };
        let mut walk = Walk::new(policy, 3);
        walk.compare_cuts = true;
        walk.visit(State::new(policy));
    }
}

const ALPHABET: &[Line] = &[
    line(b"EHLO client.example\r\n", Command::Ehlo),
    line(b"HELO client.example\r\n", Command::Helo),
    line(b"EHLO\r\n", Command::HelloWithoutName),
    line(b"MAIL FROM:<alice@example.com>\r\n", Command::Mail),
    line(b"MAIL FROM:<>\r\n", Command::Mail),
    line(b"MAIL FROM:alice@example.com\r\n", Command::MailBadPath),
    line(b"MAIL FROM:<alice@example.com> SIZE=1000000\r\n", Command::MailTooBig),
    line(b"MAIL FROM:<alice@example.com> AUTH=<>\r\n", Command::MailAuth),
    line(b"RCPT TO:<bob@example.org>\r\n", Command::Rcpt),
    line(b"RCPT TO:<bob@>\r\n", Command::RcptBadPath),
    line(b"DATA\r\n", Command::Data),
    line(b".\r\n", Command::Unknown),
    line(b"RSET\r\n", Command::Rset),
    line(b"NOOP\r\n", Command::Noop),
    line(b"VRFY bob\r\n", Command::Vrfy),
    line(b"HELP\r\n", Command::Help),
    line(b"QUIT\r\n", Command::Quit),
    line(b"STARTTLS\r\n", Command::StartTls),
    line(b"STARTTLS now\r\n", Command::StartTlsWithArgument),
    line(b"AUTH PLAIN AHRpbQBwdw==\r\n", Command::AuthPlain("AHRpbQBwdw==")),
    line(b"AUTH PLAIN\r\n", Command::AuthPlainAlone),
    line(b"AUTH LOGIN\r\n", Command::AuthLogin),
    line(b"AUTH GSSAPI\r\n", Command::AuthUnknownMechanism),
    line(b"AHRpbQBwdw==\r\n", Command::Unknown),
    line(b"dGlt\r\n", Command::Unknown),
    line(b"*\r\n", Command::Unknown),
    line(b"=\r\n", Command::Unknown),
    line(&OVER_LONG, Command::TooLong),
    line(b"Subject: x\n.\r\n", Command::BareNewline),
];

/// 513 octets.
const OVER_LONG: [u8; 513] = {
    let mut octets = [b'A'; 513];
    (octets[0], octets[1], octets[2], octets[3], octets[4]) = (b'N', b'O', b'O', b'P', b' ');
    (octets[511], octets[512]) = (b'\r', b'\n');
    octets
};

const fn line(octets: &'static [u8], command: Command) -> Line {
    Line { octets, command }
}

fn explore(policy: Policy) {
    let depth = match std::env::var("EXHAUSTIVE_DEPTH") {
        Ok(depth) => depth.parse().expect("EXHAUSTIVE_DEPTH is a number"),
        Err(_) if cfg!(debug_assertions) => 4,
        Err(_) => 5,
    };
    let mut walk = Walk::new(policy, depth);
    let mut run = Run::new(&walk);
    run.feed(b"");
    assert_eq!((run.seen.final_replies, run.seen.code), (1, 220));
    walk.visit(State::new(policy));
    println!("{}: {} sequences of up to {depth} lines", policy.name, walk.sequences);
    assert!(walk.sequences > 1000);
}

/// The walk over the tree of sequences.
struct Walk {
    policy: Policy,
    config: Arc<Config>,
    depth: usize,
    compare_cuts: bool,
    sequences: u64,

    lines: Vec<&'static Line>,
    /// What the authenticator answers, question by question.
    answers: Vec<Answer>,
    /// The lines but the last, in flights that end where TLS begins.
    flights: Vec<Vec<u8>>,
}

/// What the last line of a sequence brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    final_replies: u32,
    code: u16,
    asked: bool,
    succeeded: u32,
    failed: u32,
    starts_tls: bool,
    closed: bool,
}

impl Walk {
    fn new(policy: Policy, depth: usize) -> Self {
        let mut builder = Config::builder("mx.example.org")
            .starttls(policy.starttls)
            .implicit_tls(policy.tls_from_start)
            .tls_required(policy.tls_required)
            .auth_required(policy.auth_required)
            .limits(sansmtp::Limits { max_message_octets: 100_000, ..sansmtp::Limits::default() })
            .hooks(Hooks::MESSAGE);
        if let Some(auth) = policy.auth {
            builder = builder.auth(Auth::new().require_tls(auth.require_tls).max_failures(auth.max_failures));
        }
        let config = builder.build().expect("a sound configuration");
        let (lines, answers, flights) = (Vec::new(), Vec::new(), vec![Vec::new()]);
        Self { policy, config, depth, compare_cuts: false, sequences: 0, lines, answers, flights }
    }

    /// Adds each line to the sequence that led to `state`.
    fn visit(&mut self, state: State) {
        if self.lines.len() == self.depth || state.reads == Reads::Nothing {
            return;
        }
        for line in ALPHABET {
            self.lines.push(line);
            for answer in ANSWERS {
                self.answers.push(answer);
                let mut after = state;
                let expected = after.take(self.policy, line, answer);
                self.check(line, state, after, expected);
                if !expected.asks {
                    self.answers.pop();
                }
                self.descend(line, after, expected);
                if !expected.asks {
                    break;
                }
                self.answers.pop();
            }
            self.lines.pop();
        }
    }

    fn descend(&mut self, line: &Line, after: State, expected: Outcome) {
        let before = self.flights.last_mut().expect("a flight");
        let length = before.len();
        before.extend_from_slice(line.octets);
        if expected.starts_tls {
            self.flights.push(Vec::new());
        }
        self.visit(after);
        if expected.starts_tls {
            self.flights.pop();
        }
        self.flights.last_mut().expect("a flight").truncate(length);
    }

    fn check(&mut self, line: &Line, before: State, after: State, expected: Outcome) {
        self.sequences += 1;
        let mut run = Run::new(self);
        run.replays = true;
        for flight in &self.flights {
            run.feed(flight);
        }
        assert!(!run.seen.closed, "the end came early: {}", self.describe());
        (run.replays, run.seen) = (false, Seen::default());
        run.feed(line.octets);

        let wanted = Seen {
            final_replies: u32::from(expected.code.is_some()),
            code: expected.code.unwrap_or_default(),
            asked: expected.asks,
            succeeded: u32::from(expected.ends_auth == Some(true)),
            failed: u32::from(expected.ends_auth == Some(false)),
            starts_tls: expected.starts_tls,
            closed: after.reads == Reads::Nothing,
        };
        assert!(run.seen == wanted, "{}\n  seen {:?}\nwanted {wanted:?}", self.describe(), run.seen);
        run.check_knowledge(after, || self.describe());
        assert_safe(self.policy, line, before, &run.seen, run.last_answer(), || self.describe());

        if self.compare_cuts && !after.tls {
            self.check_cuts();
        }
    }

    /// The whole sequence octet by octet, and all at once, against line by line.
    fn check_cuts(&self) {
        let [flight] = &self.flights[..] else { return };
        let whole: Vec<u8> = flight.iter().chain(self.lines.last().expect("a line").octets).copied().collect();
        let lines: Vec<&[u8]> = self.lines.iter().map(|line| line.octets).collect();
        let written = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let mut run = Run::new(self);
            run.transcript = Some(Vec::new());
            pieces.for_each(|piece| run.feed(piece));
            (run.transcript.unwrap_or_default(), run.seen)
        };
        let by_line = written(&mut lines.into_iter());
        assert_eq!(written(&mut whole.chunks(1)), by_line, "octet by octet: {}", self.describe());
        assert_eq!(written(&mut [&whole[..]].into_iter()), by_line, "at once: {}", self.describe());
    }

    fn describe(&self) -> String {
        let mut text = format!("[{}] {:?}", self.policy.name, self.answers);
        for line in &self.lines {
            text = text + "\n  C: " + &line.octets.escape_ascii().to_string().chars().take(60).collect::<String>();
        }
        text
    }
}

/// The properties that matter most, spelt out without the model's table.
fn assert_safe(
    policy: Policy,
    line: &Line,
    before: State,
    seen: &Seen,
    answer: Option<Answer>,
    describe: impl Fn() -> String,
) {
    let authenticates = seen.code == 235 || seen.succeeded > 0;
    assert!(!authenticates || (seen.asked && answer == Some(Answer::Yes)), "235 without a yes: {}", describe());
    let is_mail = before.reads == Reads::Commands && line.octets.starts_with(b"MAIL");
    let permitted = !policy.auth_required || before.authenticated;
    assert!(!is_mail || seen.code != 250 || permitted, "250 to MAIL without AUTH: {}", describe());
}

/// One connection.
struct Run<'w> {
    walk: &'w Walk,
    connection: Connection,
    now: Duration,
    asked: usize,
    /// What comes has been looked at before.
    replays: bool,
    seen: Seen,
    transcript: Option<Vec<u8>>,
}

impl<'w> Run<'w> {
    fn new(walk: &'w Walk) -> Self {
        let mut connection = Connection::new(Arc::clone(&walk.config), Peer::local());
        if walk.policy.tls_from_start {
            connection
                .tls_established(TlsInfo::new(TlsVersion::Tls1_3, "TLS_AES_128_GCM_SHA256"))
                .expect("TLS from the start");
        }
        Self {
            walk,
            connection,
            now: Duration::ZERO,
            asked: 0,
            replays: false,
            seen: Seen::default(),
            transcript: None,
        }
    }

    fn last_answer(&self) -> Option<Answer> {
        self.walk.answers.get(self.asked.checked_sub(1)?).copied()
    }

    /// Gives input and carries out what is asked for, until more input is needed.
    fn feed(&mut self, mut input: &[u8]) {
        loop {
            match self.connection.poll(self.now, &mut input) {
                Action::Reply(_) | Action::Challenge(_) if self.replays => {}
                Action::Reply(reply) => self.seen.take_reply(reply.as_bytes(), &mut self.transcript),
                Action::Challenge(challenge) => self.seen.take_reply(challenge.as_bytes(), &mut self.transcript),
                Action::Flush { .. } | Action::Content(_) | Action::Aborted(_) => {}
                Action::CallAuthenticator(request) => {
                    self.seen.asked = true;
                    let answer = self.walk.answers.get(self.asked).copied();
                    self.asked += 1;
                    let result = match answer {
                        Some(Answer::Yes) => AuthResult::accept(),
                        Some(Answer::No) => AuthResult::refuse(),
                        Some(Answer::CannotTell) => AuthResult::cannot_tell(),
                        Some(Answer::Nothing) => continue,
                        None => panic!("one question too many: {}", self.walk.describe()),
                    };
                    self.connection.answer(request.answer(result)).expect("it was asked");
                }
                Action::CallHook(call) => {
                    assert!(matches!(call.hook(), Hook::Message { .. }));
                    let answer = call.answer(Verdict::Accept);
                    self.connection.answer(answer).expect("it was asked");
                }
                Action::Event(event) => match event {
                    Event::AuthSucceeded { .. } => self.seen.succeeded += 1,
                    Event::AuthFailed { .. } => self.seen.failed += 1,
                    other => panic!("{other:?}"),
                },
                Action::StartTls => {
                    self.seen.starts_tls = true;
                    self.connection
                        .tls_established(TlsInfo::new(TlsVersion::Tls1_3, "TLS_AES_128_GCM_SHA256"))
                        .expect("the handshake was asked for");
                }
                Action::NeedInput { .. } => return assert!(input.is_empty()),
                Action::Pause { until } => self.now = until,
                Action::Close => {
                    self.seen.closed = true;
                    return;
                }
                other @ (Action::AwaitAnswer { .. } | Action::CallAuthHandler(_) | Action::Transmit(_)) => {
                    panic!("{other:?}: {}", self.walk.describe())
                }
            }
        }
    }

    /// What the connection says of the client is what the model knows of it.
    fn check_knowledge(&self, after: State, describe: impl Fn() -> String) {
        let (session, envelope) = (self.connection.session(), self.connection.envelope());
        let hello = match session.greeting() {
            Some(Greeting::Helo) => Some(Hello::Helo),
            Some(Greeting::Ehlo | Greeting::Lhlo) => Some(Hello::Ehlo),
            None => None,
        };
        let transaction = envelope.reverse_path().map(|_| envelope.forward_paths().len());
        assert!(
            session.is_under_tls() == after.tls
                && hello == after.hello
                && session.is_authenticated() == after.authenticated
                && session.login().is_some() == after.authenticated
                && session.client_name().is_empty() == after.hello.is_none()
                && session.failed_authentications() == after.failures
                && transaction == after.transaction,
            "{}\n{session:?}\n{envelope:?}\n{after:?}",
            describe()
        );
    }
}

impl Seen {
    fn take_reply(&mut self, octets: &[u8], transcript: &mut Option<Vec<u8>>) {
        // Of one reply, only the last line has no hyphen (RFC 5321, section 4.2.1).
        for line in octets.split_inclusive(|&octet| octet == b'\n') {
            let [digits @ .., b'\r', b'\n'] = line else { panic!("a reply without CRLF: {line:?}") };
            if digits.get(3) != Some(&b'-') {
                self.final_replies += 1;
                self.code = digits.iter().take(3).fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
            }
        }
        if let Some(transcript) = transcript {
            transcript.extend_from_slice(octets);
        }
    }
}
