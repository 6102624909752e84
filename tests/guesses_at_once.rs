//! Exchanges that are open at the same time: the log's limit holds for all of them together, by every
//! mechanism, and only a refusal uses it up.

#![expect(
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test that goes wrong may stop here, and a match names what it is about"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use sansmtp::auth::{
    Attempt, AttemptLimits, AttemptLog, AuthQuestion, Credentials, Exchange, Mechanism, MemoryAttemptLog, Start, Step,
};
use sansmtp::{Action, Answer, Auth, AuthRequest, AuthResult, AuthTurn, Config, Connection, Peer, SecretRef};

#[path = "support/mechanisms.rs"]
mod mechanisms;
#[path = "support/scram.rs"]
mod scram;

use mechanisms::{MECHANISMS, PASSWORD, USER, every_mechanism, keys, messages, tls, zeros};

/// As many as the issue of guesses at once is about: six times the limit.
const AT_ONCE: usize = 300;
const LIMIT: u32 = 50;

fn limited(by_address: u32, by_user: u32) -> AttemptLimits {
    AttemptLimits { by_address, by_user, ..AttemptLimits::default() }
}

/// A clock that stands still: nothing drains.
fn log(limits: AttemptLimits) -> Arc<MemoryAttemptLog> {
    Arc::new(MemoryAttemptLog::new(limits, || Duration::ZERO))
}

fn configured(auth: Auth, limits: AttemptLimits) -> Arc<Config> {
    let auth = auth.attempts(log(limits)).pause(Duration::ZERO, Duration::ZERO);
    Config::builder("mx.example.org").auth(auth).implicit_tls(true).entropy(zeros).build().expect("a configuration")
}

/// A question that is open.
enum Question {
    Request(AuthRequest),
    Turn(AuthTurn),
}

/// A client that has sent all of its lines, and its connection.
struct Client {
    connection: Connection,
    input: Vec<u8>,
    used: usize,
    question: Option<Question>,
    /// The codes of the replies, challenges too, behind EHLO's.
    codes: Vec<u16>,
}

impl Client {
    fn new(config: &Arc<Config>, lines: &[u8]) -> Self {
        let mut connection = Connection::new(Arc::clone(config), SocketAddr::from(([192, 0, 2, 1], 40_000)));
        connection.tls_established(tls()).expect("nothing has been said yet");
        let input = [b"EHLO c.example\r\n", lines].concat();
        let mut client = Self { connection, input, used: 0, question: None, codes: Vec::new() };
        client.run();
        let greetings = client.codes.iter().take_while(|code| [220, 250].contains(*code)).count();
        client.codes.drain(..greetings);
        client
    }

    /// Goes on until there is nothing to do without an answer, or more input.
    fn run(&mut self) {
        loop {
            let mut input = &self.input[self.used..];
            let before = input.len();
            match self.connection.poll(Duration::ZERO, &mut input) {
                Action::Reply(reply) => self.codes.push(reply.code()),
                Action::Challenge(_) => self.codes.push(334),
                Action::CallAuthenticator(request) => self.question = Some(Question::Request(request)),
                Action::CallAuthHandler(turn) => self.question = Some(Question::Turn(turn)),
                Action::CallHook(call) => {
                    let answer = call.answer(sansmtp::Verdict::Accept);
                    self.connection.answer(answer).expect("the open question");
                }
                Action::NeedInput { .. } | Action::AwaitAnswer { .. } | Action::Close => {
                    self.used += before - input.len();
                    return;
                }
                Action::Flush { .. } | Action::Event(_) => {}
                other @ (Action::Transmit(_)
                | Action::Content(_)
                | Action::Aborted(_)
                | Action::StartTls
                | Action::Pause { .. }) => panic!("{other:?} does not belong here"),
            }
            self.used += before - input.len();
        }
    }

    fn answer(&mut self, answer: impl FnOnce(Question) -> Answer) {
        if let Some(question) = self.question.take() {
            self.connection.answer(answer(question)).expect("the open question");
            self.run();
        }
    }

    /// What became of the AUTH command.
    fn outcome(&self) -> u16 {
        *self.codes.iter().find(|code| **code != 334).unwrap_or(&0)
    }
}

/// The lines of a client that says these messages, and one more behind an error challenge.
fn lines(mechanism: &str, messages: &[Option<Vec<u8>>]) -> Vec<u8> {
    let mut lines = format!("AUTH {mechanism}");
    for (number, message) in messages.iter().enumerate() {
        match message {
            Some(message) if number == 0 && message.is_empty() => lines += " =",
            Some(message) if number == 0 => lines += &format!(" {}", STANDARD.encode(message)),
            Some(message) => lines += &format!("\r\n{}", STANDARD.encode(message)),
            None => {}
        }
    }
    (lines + "\r\n\r\n").into_bytes()
}

/// Opens all exchanges, and answers only then; the last client is the one whose credentials are right.
/// How many were judged wrong, and what the last one got.
fn all_at_once(
    config: &Arc<Config>,
    lines_of: impl Fn(bool) -> Vec<u8>,
    answer: impl Fn(bool, Question) -> Answer,
) -> (usize, u16) {
    let mut clients: Vec<Client> =
        (1..=AT_ONCE).map(|number| Client::new(config, &lines_of(number == AT_ONCE))).collect();
    while clients.iter().any(|client| client.question.is_some()) {
        for (number, client) in clients.iter_mut().enumerate() {
            client.answer(|question| answer(number + 1 == AT_ONCE, question));
        }
    }
    let outcomes: Vec<u16> = clients.iter().map(Client::outcome).collect();
    assert!(outcomes.iter().all(|code| [235, 454, 535].contains(code)), "{outcomes:?}");
    (outcomes.iter().filter(|code| **code == 535).count(), outcomes[AT_ONCE - 1])
}

fn asked(is_right: bool, question: Question) -> Answer {
    let Question::Request(request) = question else { panic!("no hook is asked") };
    let result = match request.question() {
        AuthQuestion::ScramKeys(hash) => AuthResult::scram_keys(keys(hash)),
        _ if is_right => AuthResult::accept().with_login(USER),
        _ => AuthResult::refuse(),
    };
    request.answer(result)
}

#[test]
fn three_hundred_at_once_are_judged_as_often_as_the_limit_says() {
    for mechanism in MECHANISMS {
        for limits in [limited(LIMIT, 0), limited(0, LIMIT)] {
            // By these the client has not said who it is before it is judged.
            if limits.by_address == 0 && ["OAUTHBEARER", "EXTERNAL", "ANONYMOUS"].contains(&mechanism) {
                continue;
            }
            let config = configured(every_mechanism(), limits);
            let of = |is_right| lines(mechanism, &messages(mechanism, if is_right { PASSWORD } else { "pen" }));
            let (judged, last) = all_at_once(&config, of, asked);
            assert_eq!((judged, last), (LIMIT as usize, 454), "{mechanism} {limits:?}");
        }
    }
}

/// One that asks nobody: it knows the password, and says at once, or after it has shown it in a challenge.
struct Knowing {
    shows: bool,
    verdict: Option<bool>,
}

impl Mechanism for Knowing {
    fn name(&self) -> &str {
        "X-KNOWING"
    }

    fn begin(&self, _: &Start<'_>) -> Box<dyn Exchange> {
        Box::new(Self { shows: self.shows, verdict: None })
    }
}

impl Exchange for Knowing {
    fn step(&mut self, response: Option<SecretRef<'_>>, _: &mut Credentials) -> Step {
        let is_right = *self.verdict.get_or_insert(response.is_some_and(|response| response.ct_eq(b"pencil")));
        if std::mem::take(&mut self.shows) {
            return Step::Challenge(if is_right { b"right".into() } else { b"wrong".into() });
        }
        Step::Finish(if is_right { AuthResult::accept().with_login(USER) } else { AuthResult::refuse() })
    }
}

#[test]
fn so_are_those_of_a_mechanism_that_asks_nobody() {
    for shows in [false, true] {
        let auth = Auth::without_mechanisms().mechanism(Knowing { shows, verdict: None });
        let config = configured(auth, limited(LIMIT, 0));
        let of = |is_right| {
            let guess = if is_right { "pencil" } else { "pen" };
            lines("X-KNOWING", &[Some(guess.into()), Some(Vec::new())])
        };
        let mut clients: Vec<Client> =
            (1..=AT_ONCE).map(|number| Client::new(&config, &of(number == AT_ONCE))).collect();
        let last = clients.pop().expect("a client");
        assert_eq!(last.codes[0], 454, "neither the challenge nor the reply tells: {:?}", last.codes);
        assert_eq!(clients.iter().filter(|client| client.outcome() == 535).count(), LIMIT as usize);
    }
}

#[test]
fn so_are_those_that_the_handler_judges() {
    let alone = |auth: Auth| auth.handler_mechanism("X-TURNS");
    for auth in [alone(Auth::new()), Auth::new().handler_takes_all(), Auth::new().handler_mechanism("PLAIN")] {
        for mechanism in ["X-TURNS", "PLAIN"] {
            let config = configured(auth.clone(), limited(LIMIT, 0));
            let probe = Client::new(&config, &lines(mechanism, &[Some("\0tim\0pen".into())]));
            if !matches!(probe.question, Some(Question::Turn(_))) {
                continue;
            }
            drop(probe);
            let of = |_| lines(mechanism, &[Some("\0tim\0pen".into()), Some(b"code".into())]);
            let (judged, last) = all_at_once(&config, of, |is_right, question| {
                let Question::Turn(turn) = question else { panic!("no authenticator is asked") };
                match (turn.number(), is_right) {
                    (0, _) => turn.challenge(*b"code?"),
                    (_, true) => turn.result(AuthResult::accept().with_login(USER)),
                    (_, false) => turn.result(AuthResult::refuse()),
                }
            });
            assert_eq!((judged, last), (LIMIT as usize, 454), "{mechanism} {auth:?}");
        }
    }
}

/// With a limit of one, a second exchange is let in when the first has ended without a refusal, in whatever
/// way, and not before.
#[test]
fn every_end_but_a_refusal_leaves_the_limit_as_it_was() {
    type End = fn(&mut Client);
    let ends: [(&str, &str, End); 11] = [
        ("success", "AHRpbQBwZW5jaWw=", |client| client.answer(|question| asked(true, question))),
        ("cannot tell", "AHRpbQBwZW5jaWw=", |client| {
            client.answer(|question| request(question).answer(AuthResult::cannot_tell()));
        }),
        ("a reply of its own", "AHRpbQBwZW5jaWw=", |client| {
            let reply = "454 4.7.0 Not now".parse().expect("a reply");
            let handled = AuthResult::handled_with(reply).expect("no success");
            client.answer(|question| request(question).answer(handled));
        }),
        ("keys for which nobody asked", "AHRpbQBwZW5jaWw=", |client| {
            let keys = AuthResult::scram_keys(keys(sansmtp::auth::ScramHash::Sha256));
            client.answer(|question| request(question).answer(keys));
        }),
        ("a dropped question", "AHRpbQBwZW5jaWw=", |client| {
            client.question = None;
            client.run();
        }),
        ("a panic", "AHRpbQBwZW5jaWw=", |client| {
            let question = client.question.take();
            let panicked = std::thread::spawn(move || {
                let _question = question;
                panic!("on purpose");
            });
            assert!(panicked.join().is_err());
            client.run();
        }),
        ("a dropped answer", "AHRpbQBwZW5jaWw=", |client| {
            let question = client.question.take().expect("a question");
            drop(asked(true, question));
            client.run();
        }),
        ("an answer that comes too late", "AHRpbQBwZW5jaWw=", |client| {
            let mut nothing: &[u8] = &[];
            while !matches!(client.connection.poll(Duration::from_secs(3600), &mut nothing), Action::Reply(_)) {}
            let answer = asked(false, client.question.take().expect("a question"));
            assert!(client.connection.answer(answer).is_err());
        }),
        ("the peer is gone", "AHRpbQBwZW5jaWw=", |client| {
            client.connection.end_of_input();
            client.question = None;
            client.run();
        }),
        ("the connection is dropped", "AHRpbQBwZW5jaWw=", |client| {
            let config = Arc::clone(client.connection.config());
            client.connection = Connection::new(config, Peer::local());
        }),
        ("the connection is dropped with its answer", "AHRpbQBwZW5jaWw=", |client| {
            let question = client.question.take().expect("a question");
            client.connection.answer(asked(true, question)).expect("the open question");
            let config = Arc::clone(client.connection.config());
            client.connection = Connection::new(config, Peer::local());
        }),
    ];
    for (end, response, carry_out) in ends {
        let config = configured(every_mechanism(), limited(1, 1));
        let line = format!("AUTH PLAIN {response}\r\n");
        let mut first = Client::new(&config, line.as_bytes());
        assert!(first.question.is_some(), "{end}");
        assert_eq!(Client::new(&config, line.as_bytes()).outcome(), 454, "{end}: while the first is open");
        carry_out(&mut first);
        let mut second = Client::new(&config, line.as_bytes());
        second.answer(|question| asked(true, question));
        assert_eq!(second.outcome(), 235, "{end}");
        drop(first);
        // Nor is anything given back twice.
        let mut third = Client::new(&config, line.as_bytes());
        assert_eq!(Client::new(&config, line.as_bytes()).outcome(), 454, "{end}: while the third is open");
        third.answer(|question| asked(false, question));
        assert_eq!(third.outcome(), 535, "{end}");
        assert_eq!(Client::new(&config, line.as_bytes()).outcome(), 454, "{end}: after a refusal");
    }
}

/// The same behind a challenge, where the client is the one who does not go on.
#[test]
fn an_exchange_that_is_not_finished_leaves_the_limit_as_it_was() {
    type End = fn(&mut Client);
    let ends: [(&str, End); 5] = [
        ("cancelled", |client| client.input.extend_from_slice(b"*\r\n")),
        ("not base64", |client| client.input.extend_from_slice(b"!\r\n")),
        ("not what the mechanism expects", |client| client.input.extend_from_slice(b"AA==\r\n*\r\n")),
        ("too long", |client| client.input.extend_from_slice(&[&[b'A'; 12_400][..], b"\r\n"].concat())),
        ("the peer is gone", |client| client.connection.end_of_input()),
    ];
    for mechanism in ["SCRAM-SHA-256", "LOGIN"] {
        let first_message = messages(mechanism, PASSWORD).into_iter().find_map(|message| message).expect("a message");
        let begin = lines(mechanism, &[Some(first_message)]);
        let begin = begin.strip_suffix(b"\r\n").expect("an empty line");
        for (end, carry_out) in ends {
            let config = configured(every_mechanism(), limited(1, 1));
            let mut first = Client::new(&config, begin);
            first.answer(|question| asked(false, question));
            assert_eq!(first.codes, [334], "{mechanism} {end}");
            assert_eq!(Client::new(&config, begin).codes[0], 454, "{mechanism} {end}: while the first is open");
            carry_out(&mut first);
            first.run();
            let mut second = Client::new(&config, b"AUTH PLAIN AHRpbQBwZW5jaWw=\r\n");
            second.answer(|question| asked(true, question));
            assert_eq!(second.outcome(), 235, "{mechanism} {end}");
        }
    }
}

fn request(question: Question) -> AuthRequest {
    match question {
        Question::Request(request) => request,
        Question::Turn(_) => panic!("no hook is asked"),
    }
}

// ---------------------------------------------------------------------------------------------------
// Any order

/// What happens next to one of the exchanges.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Opens { mechanism: &'static str, user: &'static str },
    IsRefused(Index),
    Succeeds(Index),
    CannotTell(Index),
    IsCancelled(Index),
    LosesItsPeer(Index),
    LosesItsQuestion(Index),
    IsDropped(Index),
}

fn happens() -> impl Strategy<Value = Happens> {
    let open = (select(vec!["PLAIN", "LOGIN", "SCRAM-SHA-256", "X-TURNS"]), select(vec!["tim", "tom", "joe"]));
    prop_oneof![
        6 => open.prop_map(|(mechanism, user)| Happens::Opens { mechanism, user }),
        3 => any::<Index>().prop_map(Happens::IsRefused),
        1 => any::<Index>().prop_map(Happens::Succeeds),
        1 => any::<Index>().prop_map(Happens::CannotTell),
        1 => any::<Index>().prop_map(Happens::IsCancelled),
        1 => any::<Index>().prop_map(Happens::LosesItsPeer),
        1 => any::<Index>().prop_map(Happens::LosesItsQuestion),
        1 => any::<Index>().prop_map(Happens::IsDropped),
    ]
}

/// The lines by which a user begins, as far as the client goes by itself.
fn beginning(mechanism: &str, user: &str) -> Vec<u8> {
    let message = match mechanism {
        "PLAIN" => format!("\0{user}\0pen"),
        "SCRAM-SHA-256" => format!("n,,n={user},r=abc"),
        _ => user.to_owned(),
    };
    format!("AUTH {mechanism} {}\r\n", STANDARD.encode(message)).into_bytes()
}

/// Sends what is missing before the credentials are judged.
fn go_on(client: &mut Client, mechanism: &str) {
    match mechanism {
        "LOGIN" => client.input.extend_from_slice(b"cGVu\r\n"),
        "SCRAM-SHA-256" => {
            client.answer(|question| asked(false, question));
            let nonce = format!("abc{}", "A".repeat(24));
            let proof = format!("c=biws,r={nonce},p={}", STANDARD.encode([0; 32]));
            client.input.extend_from_slice(format!("{}\r\n\r\n", STANDARD.encode(proof)).as_bytes());
        }
        _ => {}
    }
    client.run();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever the order: what is judged and what may still be judged stay within the limits together, and
    /// when all is over nothing is used up but by refusals.
    #[test]
    fn no_order_judges_more_or_loses_any(
        (by_address, by_user) in (0..6_u32, 0..4_u32),
        steps in vec(happens(), 1..60),
    ) {
        let limits = limited(by_address, by_user);
        let log = log(limits);
        let auth = every_mechanism().handler_mechanism("X-TURNS").attempts(Arc::clone(&log) as Arc<dyn AttemptLog>);
        let auth = auth.pause(Duration::ZERO, Duration::ZERO);
        let builder = Config::builder("mx.example.org").auth(auth).implicit_tls(true).entropy(zeros);
        let config = builder.build().expect("a configuration");
        // The handler hook has no name to count by.
        let mut refused = Vec::new();
        let mut open: Vec<(Client, &str, &str)> = Vec::new();
        for step in steps {
            let (index, step) = match step {
                Happens::Opens { mechanism, user } => {
                    let client = Client::new(&config, &beginning(mechanism, user));
                    if client.codes.first() == Some(&454) {
                        let counts = |name: &str| open.iter().filter(|(_, _, open)| *open == name).count()
                            + refused.iter().filter(|refused| **refused == name).count();
                        let all = open.len() + refused.len();
                        let name = if mechanism == "X-TURNS" { "" } else { user };
                        let is_full = |limit: u32, count: usize| limit > 0 && count >= limit as usize;
                        prop_assert!(
                            is_full(by_address, all) || !name.is_empty() && is_full(by_user, counts(name)),
                            "turned away with room left"
                        );
                    } else {
                        open.push((client, mechanism, if mechanism == "X-TURNS" { "" } else { user }));
                    }
                    let is_within = |limit: u32, count: usize| limit == 0 || count <= limit as usize;
                    prop_assert!(is_within(by_address, open.len() + refused.len()));
                    for name in ["tim", "tom", "joe"] {
                        let count = open.iter().filter(|(_, _, open)| *open == name).count()
                            + refused.iter().filter(|refused| **refused == name).count();
                        prop_assert!(is_within(by_user, count));
                    }
                    continue;
                }
                Happens::IsRefused(index)
                | Happens::Succeeds(index)
                | Happens::CannotTell(index)
                | Happens::IsCancelled(index)
                | Happens::LosesItsPeer(index)
                | Happens::LosesItsQuestion(index)
                | Happens::IsDropped(index) => (index, step),
            };
            if open.is_empty() {
                continue;
            }
            let (mut client, mechanism, user) = open.swap_remove(index.index(open.len()));
            match step {
                Happens::IsRefused(_) => {
                    go_on(&mut client, mechanism);
                    client.answer(|question| judged(question, AuthResult::refuse()));
                    prop_assert_eq!(client.outcome(), 535);
                    refused.push(user);
                }
                Happens::Succeeds(_) if mechanism != "SCRAM-SHA-256" => {
                    go_on(&mut client, mechanism);
                    client.answer(|question| judged(question, AuthResult::accept().with_login(USER)));
                    prop_assert_eq!(client.outcome(), 235);
                }
                Happens::CannotTell(_) => {
                    go_on(&mut client, if mechanism == "SCRAM-SHA-256" { "" } else { mechanism });
                    client.answer(|question| judged(question, AuthResult::cannot_tell()));
                    prop_assert_eq!(client.outcome(), 454);
                }
                Happens::LosesItsQuestion(_) => {
                    client.question = None;
                    client.run();
                }
                Happens::IsCancelled(_) => {
                    client.answer(|question| match question {
                        Question::Turn(turn) => turn.challenge(*b"code?"),
                        other @ Question::Request(_) => asked(true, other),
                    });
                    client.input.extend_from_slice(b"*\r\n");
                    client.run();
                }
                Happens::LosesItsPeer(_) => {
                    client.connection.end_of_input();
                    client.question = None;
                    client.run();
                }
                Happens::Opens { .. } | Happens::Succeeds(_) | Happens::IsDropped(_) => {}
            }
        }
        drop(open);
        // As many as the refusals have left are admitted, and no more.
        for name in ["tim", "tom", "joe"] {
            let peer = SocketAddr::from(([192, 0, 2, 1], 1)).into();
            let attempt = Attempt::new(peer, "PLAIN".into(), name);
            let left = |limit: u32, used: usize| if limit == 0 { usize::MAX } else { limit as usize - used };
            let used = refused.iter().filter(|refused| **refused == name).count();
            let expected = left(by_address, refused.len()).min(left(by_user, used)).min(10);
            let admitted: Vec<_> = std::iter::from_fn(|| log.admit(&attempt)).take(10).collect();
            prop_assert_eq!(admitted.len(), expected, "{}", name);
            admitted.into_iter().for_each(|reservation| log.release(reservation));
        }
    }
}

fn judged(question: Question, result: AuthResult) -> Answer {
    match question {
        Question::Request(request) => request.answer(result),
        Question::Turn(turn) => turn.result(result),
    }
}
