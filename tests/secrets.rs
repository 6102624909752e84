//! Looks for a password in everything that the engine says, shows or leaves behind: replies, events,
//! `Debug` and `Display` of every type, and each block of memory that is freed.

#![expect(
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test that goes wrong may stop here, and a match names what it is about"
)]

use std::collections::HashSet;
use std::fmt::{Debug, Display, Write};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use sansmtp::auth::{Credentials, Exchange, First, Mechanism, Start, Step};
use sansmtp::{
    Action, Answer, Auth, AuthRequest, AuthResult, AuthTurn, Config, Connection, Event, Hook, HookCall, Hooks, Peer,
    Reply, Secret, SecretRef, TlsInfo, TlsVersion, Verdict,
};

#[global_allocator]
static ALLOCATOR: test_alloc::TestAlloc = test_alloc::TestAlloc;

const PASSWORD: &str = "Zq7-kW?xv~29 Rj|hu";

// ---------------------------------------------------------------------------------------------------
// What is looked for

/// Each eight characters in a row of the password: plain, reversed, in hexadecimal digits and in base64 at
/// each of the three places where it may begin in a message. Eight hexadecimal digits are four octets.
fn patterns() -> &'static [&'static [u8]] {
    let mut forms = vec![PASSWORD.to_owned(), PASSWORD.chars().rev().collect()];
    let hex = |format: fn(u8) -> String| PASSWORD.bytes().map(format).collect::<String>();
    forms.extend([hex(|octet| format!("{octet:02x}")), hex(|octet| format!("{octet:02X}"))]);
    // `{:?}` of octets that are no secret to whoever prints them.
    forms.push(format!("{:?}", PASSWORD.as_bytes()).trim_matches(['[', ']']).to_owned());
    let mut patterns: Vec<Vec<u8>> = Vec::new();
    for form in &forms {
        let step = if form.len() > 2 * PASSWORD.len() - 1 { 6 } else { 1 };
        patterns.extend(form.as_bytes().windows(8).step_by(step).map(<[u8]>::to_vec));
    }
    for before in 0..3 {
        let encoded = encode(&[&vec![0; before], PASSWORD.as_bytes()].concat());
        // The characters at both ends hold bits of the neighbours too.
        let (first, last) = ((before * 8).div_ceil(6), (before + PASSWORD.len()) * 8 / 6);
        patterns.extend(encoded.as_bytes()[first..last].windows(8).map(<[u8]>::to_vec));
    }
    assert!(patterns.len() <= test_alloc::MAX_PATTERNS, "{}", patterns.len());
    let patterns: Vec<&'static [u8]> = patterns.into_iter().map(|pattern| &*pattern.leak()).collect();
    patterns.leak()
}

/// RFC 4648, section 4.
fn encode(octets: &[u8]) -> String {
    let mut text = String::new();
    for group in octets.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, octet| bits << 8 | u32::from(*octet)) << (8 * (3 - group.len()));
        for place in 0..4 {
            text.push(match place <= group.len() {
                true => {
                    let value = (bits >> (18 - 6 * place)) & 63;
                    char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[value as usize])
                }
                false => '=',
            });
        }
    }
    text
}

// ---------------------------------------------------------------------------------------------------
// Sessions that hold the password

/// What the embedder does when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reaction {
    Accept,
    Refuse,
    CannotTell,
    Drop,
    DropAnswer,
    Late,
    Panic,
    Malformed,
    Challenge,
    OwnWords,
}

const REACTIONS: [Reaction; 10] = [
    Reaction::Accept,
    Reaction::Refuse,
    Reaction::CannotTell,
    Reaction::Drop,
    Reaction::DropAnswer,
    Reaction::Late,
    Reaction::Panic,
    Reaction::Malformed,
    Reaction::Challenge,
    Reaction::OwnWords,
];

/// How a session ends, once its octets are through.
#[derive(Clone, Copy, Debug)]
enum End {
    Lost,
    Timeout,
    Dropped,
}

/// The lines of a client each, with the password in one or another form; `{…}` is filled in.
const SCRIPTS: &[&str] = &[
    // As it should be.
    "EHLO c|AUTH PLAIN {plain}|MAIL FROM:<a@b>|QUIT",
    "EHLO c|AUTH PLAIN|{plain}|NOOP",
    "EHLO c|AUTH PLAIN {plain-1}|NOOP",
    "EHLO c|AUTH PLAIN {plain-2}|NOOP",
    "EHLO c|AUTH PLAIN {plain-authzid}|NOOP",
    "EHLO c|AUTH LOGIN|dGlt|{password}|NOOP",
    "EHLO c|AUTH LOGIN dGlt|{password}|NOOP",
    "EHLO c|AUTH X-DATA {password}|NOOP",
    "EHLO c|AUTH X-DATA|{password}|{password}|NOOP",
    "EHLO c|AUTH X-CONSULT|{password}|{password}|NOOP",
    "EHLO c|AUTH X-TURNS {password}|{password}|{plain}|NOOP",
    "EHLO c|AUTH X-TURNS|{plain}|{password}|NOOP",
    // The same again and again, until it is too often.
    "EHLO c|AUTH PLAIN {plain}|AUTH PLAIN|{plain}|AUTH LOGIN|dGlt|{password}|AUTH PLAIN {plain}|AUTH PLAIN {plain}|NOOP",
    // Messages that are none.
    "EHLO c|AUTH PLAIN {plain-three-nuls}|NOOP",
    "EHLO c|AUTH PLAIN {password}|NOOP",
    "EHLO c|AUTH PLAIN {plain-not-utf8}|NOOP",
    "EHLO c|AUTH PLAIN {plain-no-authcid}|NOOP",
    "EHLO c|AUTH LOGIN {plain}|{password}|NOOP",
    "EHLO c|AUTH LOGIN|{plain}|{plain}|NOOP",
    "EHLO c|AUTH LOGIN dGlt|{plain}|NOOP",
    // No base64.
    "EHLO c|AUTH PLAIN {plain}!|NOOP",
    "EHLO c|AUTH PLAIN {plain}=|NOOP",
    "EHLO c|AUTH PLAIN !{plain}|NOOP",
    "EHLO c|AUTH PLAIN|{plain}!|NOOP",
    "EHLO c|AUTH PLAIN|{plain} |NOOP",
    "EHLO c|AUTH PLAIN|{plaintext}|NOOP",
    "EHLO c|AUTH LOGIN|dGlt|{plaintext}|NOOP",
    "EHLO c|AUTH LOGIN|dGlt|{password}\u{e9}|NOOP",
    "EHLO c|AUTH LOGIN|dGlt|{password}\n|NOOP",
    "EHLO c|AUTH LOGIN|dGlt|\r{password}|NOOP",
    "EHLO c|AUTH LOGIN|dGlt|{password}\n{password}|NOOP",
    // Bad commands.
    "EHLO c|AUTH PLAIN {plain} {plain}|AUTH  {plain}|AUTH {plain}|AUTH {plaintext}|NOOP",
    "EHLO c|AUTH PLAIN {plain}\n|AUTH PLAIN \r{plain}|AUTH PLAIN {plain}\0|AUTH PLAIN {plain}\t|NOOP",
    "AUTH PLAIN {plain}|HELO c|AUTH PLAIN {plain}|AUTH LOGIN {password}|NOOP",
    "EHLO c|AUTH GSSAPI {plain}|AUTH X-SERVER-FIRST {plain}|NOOP",
    "EHLO c|MAIL FROM:<>|AUTH PLAIN {plain}|AUTH LOGIN|dGlt|{password}|RSET",
    "EHLO c|AUTH PLAIN AHRpbQBwdw==|AUTH PLAIN {plain}|AUTH PLAIN|{plain}|NOOP",
    "EHLO c|AUTH PLAIN|*|{plain}|AUTH LOGIN|dGlt|*|{password}|NOOP",
    // Out of step.
    "{plaintext}|EHLO c|{password}|{plain}|{plaintext}|*|{plain}|NOOP",
    "EHLO c|AUTH NTLM|dGlt|{password}|NOOP",
    "EHLO c|AUTH LOGIN|!|dGlt|{password}|{plaintext}|NOOP",
    "EHLO c|pass {plaintext}|PASS {plaintext}|LOGIN tim {plaintext}|GET /?{password} HTTP/1.1",
    // Too long.
    "EHLO c|AUTH PLAIN {long}|AUTH PLAIN {longer}|NOOP",
    "EHLO c|AUTH PLAIN|{long}|AUTH PLAIN|{longer}|NOOP",
    "EHLO c|AUTH LOGIN|dGlt|{longer}|{longer}|{long}|NOOP",
    "EHLO c|AUTH LOGIN|dGlt|{longer}\n{longer}|NOOP",
    "EHLO c|AUTH X-TURNS|{long}|{long}|NOOP",
    // Cut off.
    "EHLO c|AUTH PLAIN {plain}^",
    "EHLO c|AUTH PLAIN|{plain}^",
    "EHLO c|AUTH LOGIN|dGlt|{password}^",
    "EHLO c|AUTH LOGIN|dGlt|{longer}^",
    "EHLO c|{plaintext}^",
    // TLS in between.
    "EHLO c|AUTH PLAIN {plain}|STARTTLS|EHLO c|AUTH PLAIN {plain}|NOOP",
    "EHLO c|{plain}|STARTTLS|AUTH PLAIN {plain}|EHLO c|AUTH LOGIN|dGlt|{password}|NOOP",
];

/// The octets of a script, in flights that end behind STARTTLS.
fn flights(script: &str) -> Vec<&'static [u8]> {
    let plain = |message: &[&[u8]]| encode(&message.concat());
    let password = PASSWORD.as_bytes();
    let mut text = script.trim_end_matches('^').replace('|', "\r\n");
    if !script.ends_with('^') {
        text.push_str("\r\n");
    }
    for (name, octets) in [
        ("{plaintext}", PASSWORD.to_owned()),
        ("{password}", encode(password)),
        ("{plain}", plain(&[b"\0tim\0", password])),
        ("{plain-1}", plain(&[b"\0timo\0", password])),
        ("{plain-2}", plain(&[b"\0timon\0", password])),
        ("{plain-authzid}", plain(&[b"kurt\0tim\0", password])),
        ("{plain-three-nuls}", plain(&[b"\0tim\0", password, b"\0"])),
        ("{plain-not-utf8}", plain(&[b"\0tim\0", password, b"\xff"])),
        ("{plain-no-authcid}", plain(&[b"\0\0", password])),
        ("{long}", plain(&[b"\0tim\0", &password.repeat(400)])),
        ("{longer}", encode(password).repeat(600)),
    ] {
        text = text.replace(name, &octets);
    }
    assert!(!text.contains('{'), "{text}");
    let octets: &'static [u8] = text.into_bytes().leak();
    match octets.windows(10).position(|window| window == b"STARTTLS\r\n") {
        Some(at) => vec![&octets[..at + 10], &octets[at + 10..]],
        None => vec![octets],
    }
}

// ---------------------------------------------------------------------------------------------------
// Mechanisms with secrets of their own

/// Takes a secret, then another, and asks about both; or asks after the first already, and again.
struct TwoSecrets {
    name: &'static str,
    consults: bool,
}

struct Gathering {
    consults: bool,
    gathered: Option<Secret>,
}

struct Both {
    first: Secret,
    second: Option<Secret>,
}

impl Mechanism for TwoSecrets {
    fn name(&self) -> &str {
        self.name
    }

    fn begin(&self, _start: &Start<'_>) -> Box<dyn Exchange> {
        Box::new(Gathering { consults: self.consults, gathered: None })
    }
}

impl Exchange for Gathering {
    fn step(&mut self, response: Option<SecretRef<'_>>, credentials: &mut Credentials) -> Step {
        let response = Secret::from(response.map_or(&[][..], SecretRef::expose_secret));
        if credentials.set_authcid(b"tim").is_err() || credentials.set_password(response.expose_secret()).is_err() {
            return Step::Malformed;
        }
        match self.gathered.take() {
            None if self.consults => {
                self.gathered = Some(Secret::from(response.expose_secret()));
                Step::Consult(Box::new(Both { first: response, second: None }))
            }
            None => {
                self.gathered = Some(response);
                Step::Challenge(b"And?".into())
            }
            Some(first) => Step::Ask(Box::new(Both { first, second: Some(response) })),
        }
    }

    fn consulted(&mut self, result: AuthResult, _credentials: &mut Credentials) -> Step {
        if result.success() { Step::Challenge(b"And?".into()) } else { Step::Finish(result) }
    }
}

struct ServerFirst;

impl Mechanism for ServerFirst {
    fn name(&self) -> &str {
        "X-SERVER-FIRST"
    }

    fn first(&self) -> First {
        First::Server
    }

    fn begin(&self, _start: &Start<'_>) -> Box<dyn Exchange> {
        Box::new(Gathering { consults: false, gathered: None })
    }
}

fn config(hooks: Hooks, takes_all: bool, newlines: sansmtp::Newlines) -> Arc<Config> {
    let auth = Auth::new()
        .require_tls(false)
        .mechanism(TwoSecrets { name: "X-DATA", consults: false })
        .mechanism(TwoSecrets { name: "X-CONSULT", consults: true })
        .mechanism(ServerFirst)
        .handler_mechanism("X-TURNS");
    let auth = if takes_all { auth.handler_takes_all() } else { auth };
    let builder = Config::builder("mx.example.org").auth(auth).starttls(true).hooks(hooks).newlines(newlines);
    let builder = builder.events(sansmtp::Events::ALL).name("submission");
    builder.build().expect("a sound configuration")
}

// ---------------------------------------------------------------------------------------------------
// The driver, which shows everything

/// Everything that could be logged; nothing where memory is what is looked at.
#[derive(Default)]
struct Sink {
    is_open: bool,
    text: String,
    octets: Vec<u8>,
}

impl Sink {
    fn show(&mut self, value: &(impl Debug + ?Sized)) {
        if self.is_open {
            let _ = writeln!(self.text, "{value:?} {value:#?}");
        }
    }

    fn display(&mut self, value: &(impl Display + ?Sized)) {
        if self.is_open {
            let _ = writeln!(self.text, "{value}");
        }
    }
}

struct Driver<'d> {
    /// On the heap, so that what lies in the connection itself is searched too when it is freed.
    connection: Box<Connection>,
    now: Duration,
    reaction: Reaction,
    late: Option<Answer>,
    /// The questions so far, to see that a script did what it is for.
    questions: usize,
    sink: &'d mut Sink,
}

impl Driver<'_> {
    fn feed(&mut self, mut input: &'static [u8]) -> bool {
        loop {
            self.sink.show(&*self.connection);
            self.sink.show(self.connection.session());
            self.sink.show(self.connection.envelope());
            let action = self.connection.poll(self.now, &mut input);
            self.sink.show(&action);
            let answer = match action {
                Action::Reply(reply) => {
                    self.sink.display(&reply);
                    self.sink.octets.extend_from_slice(reply.as_bytes());
                    continue;
                }
                Action::Challenge(challenge) => {
                    self.sink.display(&challenge);
                    self.sink.octets.extend_from_slice(challenge.as_bytes());
                    continue;
                }
                Action::Event(event) => {
                    show_event(self.sink, event);
                    continue;
                }
                Action::CallAuthenticator(request) => {
                    self.questions += 1;
                    answer_request(self.sink, self.reaction, request)
                }
                Action::CallAuthHandler(turn) => {
                    self.questions += 1;
                    answer_turn(self.sink, self.reaction, turn)
                }
                Action::CallHook(call) => answer_hook(self.sink, call),
                Action::StartTls => {
                    self.connection
                        .tls_established(TlsInfo::new(TlsVersion::Tls1_3, "TLS_AES_128_GCM_SHA256"))
                        .expect("it was asked for");
                    continue;
                }
                Action::AwaitAnswer { deadline } => {
                    self.now = deadline;
                    continue;
                }
                Action::Pause { until } => {
                    self.now = until;
                    continue;
                }
                Action::NeedInput { .. } => return true,
                Action::Close => return false,
                Action::Content(_) | Action::Aborted(_) | Action::Flush { .. } => continue,
                other => panic!("{other:?}"),
            };
            if let Some(late) = self.late.take() {
                let refused = self.connection.answer(late).expect_err("it came too late");
                self.sink.show(&refused);
                self.sink.display(&refused);
            }
            if let Some(answer) = answer {
                self.sink.show(&answer);
                match self.reaction {
                    Reaction::Late => self.late = Some(answer),
                    Reaction::DropAnswer => drop(answer),
                    _ => self.connection.answer(answer).expect("it was asked"),
                }
            }
        }
    }

    fn end(mut self, end: End) {
        match end {
            End::Lost => {
                self.connection.end_of_input();
                self.feed(b"");
            }
            End::Timeout => {
                self.now += Duration::from_secs(3600);
                self.feed(b"");
            }
            End::Dropped => {}
        }
        if let Some(late) = self.late.take() {
            let _ = self.connection.answer(late);
        }
        self.sink.show(&*self.connection);
        self.sink.show(&**self.connection.config());
    }
}

fn show_event(sink: &mut Sink, event: Event<'_>) {
    match event {
        Event::AuthSucceeded { peer, mechanism, login, .. } => {
            sink.display(&peer);
            sink.display(&mechanism);
            sink.display(login);
        }
        Event::AuthFailed { mechanism, authcid, reason, failures, .. } => {
            sink.show(&mechanism.map(|mechanism| mechanism.to_string()));
            sink.display(authcid.unwrap_or_default());
            sink.display(&reason);
            sink.show(&failures);
        }
        Event::Closed { reason, received, sent, lasted, .. } => {
            sink.display(&reason);
            sink.show(&(received, sent, lasted));
        }
        Event::CommandRefused { command, reply, .. } => {
            sink.display(command.unwrap_or_default());
            sink.display(&reply);
        }
        Event::LimitReached { limit, .. } => sink.display(&limit),
        Event::TransactionBegun { envelope, .. } => sink.show(envelope),
        Event::Opened { session, .. } | Event::TlsEstablished { session, .. } => sink.show(session),
        other => sink.show(&other.session()),
    }
    // Whatever it is: an adapter may log it like that.
    sink.show(&event);
}

fn result(sink: &mut Sink, reaction: Reaction) -> AuthResult {
    let reply = |text: &str| text.parse::<Reply>().expect("a reply");
    let result = match reaction {
        Reaction::Refuse | Reaction::Malformed | Reaction::Challenge => AuthResult::refuse(),
        Reaction::CannotTell => AuthResult::cannot_tell(),
        Reaction::OwnWords => AuthResult::handled_with(reply("535 5.7.8 Sorry")).expect("a refusal"),
        _ => AuthResult::accept(),
    };
    // What an authenticator attaches is not shown either.
    let result = result.with_auth_data(PASSWORD);
    sink.show(&result);
    result
}

fn answer_request(sink: &mut Sink, reaction: Reaction, request: AuthRequest) -> Option<Answer> {
    let credentials = request.credentials();
    sink.show(&request);
    sink.show(credentials);
    sink.show(&credentials.password());
    sink.display(credentials.authcid());
    sink.display(credentials.authzid().unwrap_or_default());
    if let Some(data) = request.data::<Both>() {
        sink.show(&data.first);
        sink.show(&data.second);
    }
    match reaction {
        Reaction::Drop => None,
        Reaction::Panic => {
            let panicked = std::panic::catch_unwind(AssertUnwindSafe(move || {
                let _request = request;
                panic!("the authenticator broke");
            }));
            assert!(panicked.is_err());
            None
        }
        _ => Some(request.answer(result(sink, reaction))),
    }
}

fn answer_turn(sink: &mut Sink, reaction: Reaction, turn: AuthTurn) -> Option<Answer> {
    sink.show(&turn);
    sink.show(&turn.response());
    match reaction {
        Reaction::Drop => None,
        Reaction::Malformed => Some(turn.malformed()),
        Reaction::Challenge => Some(turn.challenge("More")),
        Reaction::Accept if turn.number() == 0 => Some(turn.challenge_verbatim("Once more")),
        _ => Some(turn.result(result(sink, reaction).with_login("tim"))),
    }
}

fn answer_hook(sink: &mut Sink, call: HookCall<'_>) -> Option<Answer> {
    sink.show(&call);
    sink.show(&call.hook());
    if let Hook::Unknown(line) = call.hook() {
        sink.show(&line);
        // On its way to another thread.
        let owned = call.into_owned();
        sink.show(&owned);
        struct Nobody;
        impl sansmtp::Handler for Nobody {
            type Message = ();
        }
        return Some(owned.answer_by(&mut Nobody, &mut sansmtp::Incoming::new()));
    }
    let question = call.into_question();
    sink.show(&question);
    Some(question.answer(Verdict::Accept))
}

// ---------------------------------------------------------------------------------------------------
// The tests

/// Runs every script in every way and gives what was shown, what was freed and how much was asked.
fn run_all(
    hooks: Hooks,
    takes_all: bool,
    cuts: &[usize],
    shows: bool,
    mut check: impl FnMut(&dyn Fn() -> String, &Sink, &[u32]),
) {
    let patterns = if shows { &[] } else { patterns() };
    let config = config(hooks, takes_all, sansmtp::Newlines::Refuse);
    let mut questions = 0;
    for script in SCRIPTS {
        let flights = flights(script);
        for reaction in REACTIONS {
            for &cut in cuts {
                // Lines of 12 KiB need not come octet by octet.
                let is_long = flights.iter().any(|flight| flight.len() > 4_000);
                let cut = if is_long { cut.max(999) } else { cut };
                for end in [End::Lost, End::Timeout, End::Dropped] {
                    let mut sink = Sink { is_open: shows, ..Sink::default() };
                    let found = test_alloc::watch(patterns, || {
                        let mut driver = Driver {
                            connection: Box::new(Connection::new(Arc::clone(&config), Peer::local())),
                            now: Duration::ZERO,
                            reaction,
                            late: None,
                            questions: 0,
                            sink: &mut sink,
                        };
                        let mut pieces = flights.iter().flat_map(|flight| flight.chunks(cut));
                        while pieces.next().is_some_and(|piece| driver.feed(piece)) {}
                        questions += driver.questions;
                        driver.end(end);
                    });
                    check(&|| format!("{script:?} {reaction:?} cut {cut} {end:?}"), &sink, &found);
                }
            }
        }
    }
    assert!(questions > 100, "the scripts get as far as the authenticator");
}

/// What is looked for, ready to be found fast: every pattern has eight octets.
struct Search {
    patterns: HashSet<&'static [u8]>,
    beginnings: [bool; 1 << 16],
}

impl Search {
    fn new() -> Self {
        let mut beginnings = [false; 1 << 16];
        let patterns: HashSet<&[u8]> = patterns().iter().copied().collect();
        for pattern in &patterns {
            beginnings[usize::from(pattern[0]) << 8 | usize::from(pattern[1])] = true;
        }
        Self { patterns, beginnings }
    }

    /// Where there is something of the password, if anywhere.
    fn find(&self, octets: &[u8]) -> Option<String> {
        let is_found = |window: &[u8]| {
            self.beginnings[usize::from(window[0]) << 8 | usize::from(window[1])] && self.patterns.contains(window)
        };
        let at = octets.windows(8).position(is_found)?;
        Some(octets[at.saturating_sub(60)..(at + 60).min(octets.len())].escape_ascii().to_string())
    }
}

fn nothing_shows(hooks: Hooks, takes_all: bool) {
    quiet_panics();
    let search = Search::new();
    let mut found = Vec::new();
    run_all(hooks, takes_all, &[usize::MAX, 7], true, |name, sink, _| {
        for shown in [sink.text.as_bytes(), &sink.octets] {
            found.extend(search.find(shown).map(|around| format!("{}: {around}", name())));
        }
    });
    assert!(!PANIC_SHOWED_IT.load(Ordering::SeqCst), "a panic shows the password");
    assert!(found.is_empty(), "{} leaks, such as\n{}", found.len(), found[..found.len().min(5)].join("\n"));
}

fn nothing_stays(hooks: Hooks, takes_all: bool) {
    quiet_panics();
    let patterns = patterns();
    let mut dirty = Vec::new();
    run_all(hooks, takes_all, &[usize::MAX, 7, 1], false, |name, _, found| {
        if let Some(index) = found.iter().position(|times| *times > 0) {
            dirty.push(format!("{}: {} times {}", name(), found[index], patterns[index].escape_ascii()));
        }
    });
    assert!(
        dirty.is_empty(),
        "{} sessions leave it behind, such as\n{}",
        dirty.len(),
        dirty[..dirty.len().min(5)].join("\n")
    );
}

#[test]
fn no_sink_shows_the_password() {
    nothing_shows(Hooks::NONE, false);
}

#[test]
fn no_sink_shows_the_password_when_every_hook_is_asked() {
    nothing_shows(Hooks::ALL, false);
}

#[test]
fn no_sink_shows_the_password_to_the_auth_handler() {
    nothing_shows(Hooks::UNKNOWN, true);
}

#[test]
fn no_freed_block_holds_the_password() {
    nothing_stays(Hooks::NONE, false);
}

#[test]
fn no_freed_block_holds_the_password_when_every_hook_is_asked() {
    nothing_stays(Hooks::ALL, false);
}

#[test]
fn no_freed_block_holds_the_password_that_went_through_the_auth_handler() {
    nothing_stays(Hooks::UNKNOWN, true);
}

/// The search finds what is there.
#[test]
fn the_search_finds_what_is_there() {
    let (search, patterns) = (Search::new(), patterns());
    for message in [format!("\0tim\0{PASSWORD}"), format!("\0timo\0{PASSWORD}"), format!("\0timon\0{PASSWORD}")] {
        let line = encode(message.as_bytes());
        assert!(search.find(message.as_bytes()).is_some());
        assert!(search.find(line.as_bytes()).is_some());
        assert!(search.find(format!("{:?}", message.as_bytes()).as_bytes()).is_some());
        let found = test_alloc::watch(patterns, || drop(std::hint::black_box(line.clone())));
        assert!(found.iter().any(|times| *times > 0));
    }
    assert!(search.find(&PASSWORD.as_bytes()[3..11]).is_some());
    assert!(search.find(PASSWORD.chars().rev().collect::<String>().as_bytes()).is_some());
    assert!(search.find(b"The password is correct.").is_none());
}

/// What else a secret goes through.
#[test]
fn secrets_and_credentials_are_overwritten_however_they_grow() {
    let patterns = patterns();
    let found = test_alloc::watch(patterns, || {
        let mut credentials = Credentials::default();
        for length in 0..200 {
            // Each setter adds to one buffer, which has to move now and then.
            credentials.set_password(PASSWORD.as_bytes()).expect("a good password");
            credentials.set_authcid(b"tim").expect("a good name");
            assert!(length < 200);
        }
        drop(Secret::from(PASSWORD.as_bytes()));
        drop(Secret::new(PASSWORD.as_bytes().to_vec()));
    });
    assert!(found.iter().all(|blocks| *blocks == 0));
}

/// Panics that the driver asks for say nothing; any other is shown as usual, and checked if it is not a
/// test's own.
fn quiet_panics() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let is_own = panic.location().is_some_and(|location| location.file().ends_with("secrets.rs"));
            let text = panic.to_string();
            if !is_own && text.contains(PASSWORD) {
                PANIC_SHOWED_IT.store(true, Ordering::SeqCst);
            }
            if !text.contains("the authenticator broke") {
                usual(panic);
            }
        }));
    });
}

static PANIC_SHOWED_IT: AtomicBool = AtomicBool::new(false);
