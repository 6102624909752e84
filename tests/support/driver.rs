//! Drives a connection and writes down what it wants, in a form that does not depend on how its input
//! was cut.

#![allow(dead_code, reason = "each test uses its part")]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sansmtp::auth::{AuthQuestion, ScramKeys};
use sansmtp::{
    Action, Auth, AuthRequest, AuthResult, AuthTurn, Config, Connection, Events, HookCall, Hooks, Limits, Newlines,
    Peer, Quirks, Refusal, Reply, TlsInfo, TlsVersion, Verdict,
};

/// A configuration, and what the embedder does.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) starttls: bool,
    pub(crate) tls_from_start: bool,
    pub(crate) tls_required: bool,
    pub(crate) auth: bool,
    pub(crate) auth_requires_tls: bool,
    pub(crate) auth_required: bool,
    pub(crate) handler_takes_all: bool,
    pub(crate) smtputf8: bool,
    pub(crate) convert: bool,
    pub(crate) quirks: bool,
    pub(crate) small_limits: bool,
    pub(crate) hooks: bool,
    pub(crate) ends: bool,
    pub(crate) answers: Vec<u8>,
}

impl Setting {
    pub(crate) fn config(&self) -> Arc<Config> {
        let tls = self.starttls || self.tls_from_start;
        let mut builder = Config::builder("mx.example.org")
            .starttls(self.starttls)
            .implicit_tls(self.tls_from_start)
            .tls_required(self.tls_required && tls)
            .auth_required(self.auth_required && self.auth)
            .smtputf8(self.smtputf8)
            // Nonces that change make actions that change.
            .entropy(|room| {
                room.fill(0);
                true
            })
            .newlines(if self.convert { Newlines::Convert } else { Newlines::Refuse })
            .hooks(if self.hooks { Hooks::ALL } else { Hooks::MESSAGE })
            .events(if self.hooks { Events::ALL } else { Events::default() });
        if self.quirks {
            builder = builder.quirks(Quirks {
                auth_equals_line: true,
                auth_after_helo: true,
                auth_before_ehlo: true,
                space_after_colon: true,
                bare_paths: true,
                dots_in_local_parts: true,
                underscores_in_domains: true,
                unqualified_paths: true,
            });
        }
        if self.small_limits {
            builder = builder.limits(Limits {
                max_message_octets: 60,
                max_content_line_octets: 20,
                max_recipients: 2,
                max_unrecognized_commands: 4,
                ..Limits::default()
            });
        }
        if self.auth {
            let auth = Auth::new().require_tls(self.auth_requires_tls && tls).handler_mechanism("X-TURNS");
            builder = builder.auth(if self.handler_takes_all { auth.handler_takes_all() } else { auth });
        }
        builder.open_verb("XYZZY").build().expect("a sound configuration")
    }

    /// Runs a session whole, octet by octet, and cut by `cut`; says where that makes a difference, and
    /// where something succeeds that nobody has allowed.
    pub(crate) fn check(&self, octets: &[u8], cut: impl FnMut(usize) -> usize) -> Result<(), String> {
        let (config, flights) = (self.config(), flights(octets));
        let tls = self.tls_from_start.then(|| TlsInfo::new(TlsVersion::Tls1_3, "TLS_AES_128_GCM_SHA256"));
        let (answers, ends) = (&self.answers[..], self.ends);
        let session =
            Session { config: &config, tls, answers, flights: &flights, ends, keys: &[], proof_is_right: false };
        let (whole, logged_in) = session.check(cut)?;
        if self.auth && self.auth_required && !logged_in {
            let has_content = whole.items.iter().any(|item| matches!(item, Item::Content(_)));
            if has_content || whole.connection.envelope().reverse_path().is_some() {
                return Err(format!("mail without AUTH: {:#?}", whole.items));
            }
        }
        Ok(())
    }
}

/// What happened, with what belongs together put together.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// Octets for the peer.
    Written(Vec<u8>),
    /// Octets of content.
    Content(Vec<u8>),
    Aborted(sansmtp::Aborted),
    Event(String),
    Question(String),
    Pause(Duration),
    StartTls,
    Close,
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written(octets) => write!(f, "S: {}", octets.escape_ascii()),
            Self::Content(octets) => write!(f, "content {}", octets.escape_ascii()),
            Self::Aborted(aborted) => aborted.fmt(f),
            Self::Event(text) | Self::Question(text) => f.write_str(text),
            Self::Pause(length) => write!(f, "pause {length:?}"),
            Self::StartTls => f.write_str("start TLS"),
            Self::Close => f.write_str("close"),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Session<'s> {
    pub(crate) config: &'s Arc<Config>,
    /// TLS from the start.
    pub(crate) tls: Option<TlsInfo>,
    /// What the embedder answers, question by question, over and over.
    pub(crate) answers: &'s [u8],
    /// What comes in a group. Behind a STARTTLS in the clear, a new one begins: what an engine does with
    /// octets there depends on when they come.
    pub(crate) flights: &'s [&'s [u8]],
    pub(crate) ends: bool,
    /// What a yes to a look-up of SCRAM keys finds.
    pub(crate) keys: &'s [ScramKeys],
    /// Those keys are a yes: the client proves that it has them.
    pub(crate) proof_is_right: bool,
}

/// What a run has shown beside its items.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) items: Vec<Item>,
    /// How many answers said yes to an authenticator's or AUTH handler's question.
    pub(crate) yeses: usize,
    pub(crate) connection: Connection,
}

impl Ran {
    /// Everything written, in one piece.
    pub(crate) fn written(&self) -> Vec<u8> {
        let written = |item: &Item| if let Item::Written(octets) = item { octets.clone() } else { Vec::new() };
        self.items.iter().flat_map(written).collect()
    }

    /// How many replies with this code were written.
    pub(crate) fn replies(&self, code: &[u8]) -> usize {
        let written = self.written();
        written
            .split(|&octet| octet == b'\n')
            .filter(|line| line.starts_with(code) && line.get(3) == Some(&b' '))
            .count()
    }
}

impl Session<'_> {
    /// Runs the session whole, octet by octet, and cut by `cut`; says where that makes a difference, and
    /// where AUTH succeeds that nobody has allowed. Gives the run, and whether AUTH has succeeded in it.
    pub(crate) fn check(&self, cut: impl FnMut(usize) -> usize) -> Result<(Ran, bool), String> {
        let whole = self.run(|left| left);
        for (way, ran) in [("octet by octet", self.run(|_| 1)), ("cut", self.run(cut))] {
            if ran.items != whole.items {
                let octets = self.flights.concat().escape_ascii().to_string();
                return Err(format!("{octets}\n{way}: {:#?}\nwhole: {:#?}", ran.items, whole.items));
            }
        }
        let succeeded = |item: &Item| matches!(item, Item::Event(event) if event.starts_with("AuthSucceeded"));
        let logged_in = whole.items.iter().any(succeeded);
        let believed = whole.connection.session().is_authenticated();
        if whole.replies(b"235") > whole.yeses || (believed && !logged_in) {
            return Err(format!("235 without a yes: {:#?}", whole.items));
        }
        Ok((whole, logged_in))
    }

    /// Runs the session with its flights cut by `cut`, which says how much of what is left comes next.
    ///
    /// Panics if the engine makes no progress, or contradicts what is promised of `poll`.
    pub(crate) fn run(&self, mut cut: impl FnMut(usize) -> usize) -> Ran {
        let mut connection = Connection::new(Arc::clone(self.config), Peer::local());
        if let Some(tls) = &self.tls {
            connection.tls_established(tls.clone()).expect("TLS from the start");
        }
        let (mut items, mut now, mut questions, mut yeses) = (Vec::new(), Duration::ZERO, 0, 0);
        let mut flights = self.flights.iter().copied();
        let (mut waiting, mut input): (&[u8], &[u8]) = (&[], &[]);
        // Each octet, and each input, brings a handful of actions at the most; so does the end.
        let octets: usize = self.flights.iter().map(|flight| flight.len()).sum();
        let mut polls = 64 + 16 * (octets + self.flights.len());
        let (mut ended, mut reached) = (false, 0);
        loop {
            polls = polls.checked_sub(1).expect("no progress is made");
            let before = input.len();
            match connection.poll(now, &mut input) {
                Action::Reply(reply) => write(&mut items, reply.as_bytes()),
                Action::Challenge(challenge) => write(&mut items, challenge.as_bytes()),
                Action::Flush { deadline } => assert!(deadline > now),
                Action::Content(piece) => {
                    // A message begins at 0, and goes on where it was.
                    assert!([0, reached].contains(&piece.offset()), "{} behind {reached}", piece.offset());
                    reached = piece.offset() + u64::try_from(piece.len()).expect("a length fits");
                    match items.last_mut() {
                        Some(Item::Content(content)) => content.extend_from_slice(&piece),
                        _ => items.push(Item::Content(piece.to_vec())),
                    }
                }
                Action::Aborted(aborted) => items.push(Item::Aborted(aborted)),
                Action::Event(event) => items.push(Item::Event(format!("{event:?}"))),
                Action::CallAuthenticator(request) => {
                    items.push(Item::Question(describe_request(&request)));
                    if let Some(result) = self.result(self.answer(&mut questions), Some(&request), &mut yeses) {
                        connection.answer(request.answer(result)).expect("it was asked");
                    }
                }
                Action::CallAuthHandler(turn) => {
                    items.push(Item::Question(describe_turn(&turn)));
                    let answer = match self.answer(&mut questions) {
                        answer @ 0..128 => turn.challenge([answer]),
                        answer => match self.result(answer, None, &mut yeses) {
                            Some(result) => turn.result(result),
                            None => continue,
                        },
                    };
                    connection.answer(answer).expect("it was asked");
                }
                Action::CallHook(call) => {
                    items.push(Item::Question(describe_hook(&call)));
                    if let Some(verdict) = verdict(self.answer(&mut questions)) {
                        let answer = call.answer(verdict);
                        connection.answer(answer).expect("it was asked");
                    }
                }
                Action::StartTls => {
                    assert!(input.is_empty() && waiting.is_empty(), "a flight goes on behind STARTTLS");
                    items.push(Item::StartTls);
                    connection
                        .tls_established(TlsInfo::new(TlsVersion::Tls1_3, "TLS_AES_128_GCM_SHA256"))
                        .expect("the handshake was asked for");
                }
                Action::NeedInput { deadline } => {
                    assert!(input.is_empty() && deadline > now && !ended);
                    if waiting.is_empty() {
                        match flights.next() {
                            Some(flight) => waiting = flight,
                            None if self.ends => {
                                connection.end_of_input();
                                ended = true;
                            }
                            None => break,
                        }
                    }
                    (input, waiting) = waiting.split_at(cut(waiting.len()).clamp(waiting.len().min(1), waiting.len()));
                }
                Action::Pause { until } => {
                    assert!(until > now && input.len() == before);
                    items.push(Item::Pause(until - now));
                    now = until;
                }
                Action::Close => {
                    items.push(Item::Close);
                    // The end is the end, whatever comes.
                    assert!(matches!(connection.poll(now, &mut input), Action::Close));
                    break;
                }
                other @ (Action::AwaitAnswer { .. } | Action::Transmit(_)) => panic!("{other:?}"),
            }
        }
        Ran { items, yeses, connection }
    }

    fn answer(&self, questions: &mut usize) -> u8 {
        let answer = self.answers.get(*questions % self.answers.len().max(1)).copied().unwrap_or_default();
        *questions += 1;
        answer
    }

    /// What an answer is to a request, or to a turn.
    fn result(&self, answer: u8, request: Option<&AuthRequest>, yeses: &mut usize) -> Option<AuthResult> {
        // To act as another takes more than the right password (RFC 4422, section 3.4.1).
        let acts_as_another = request.is_some_and(|request| request.credentials().authzid().is_some());
        let keys = match request.map(AuthRequest::question) {
            Some(AuthQuestion::ScramKeys(hash)) => self.keys.iter().find(|keys| keys.hash() == hash),
            _ => None,
        };
        let yes = match keys {
            Some(keys) => AuthResult::scram_keys(keys.clone()),
            None => AuthResult::accept(),
        };
        let is_yes = keys.is_none() || self.proof_is_right;
        Some(match answer % 10 {
            0 => {
                *yeses += usize::from(is_yes && !acts_as_another);
                yes
            }
            1..3 => {
                *yeses += usize::from(is_yes);
                yes.granting_authzid()
            }
            3 => AuthResult::refuse(),
            4 => AuthResult::refuse_because(Refusal::MechanismTooWeak),
            5 => AuthResult::cannot_tell(),
            6 => AuthResult::handled_with(reply("454 4.7.0 Later")).expect("a refusal"),
            // Not what was asked for: keys of another hash, or keys at all.
            7 => AuthResult::scram_keys(
                self.keys.iter().find(|other| Some(other.hash()) != keys.map(ScramKeys::hash))?.clone(),
            ),
            // An account that is disabled looks like any other.
            8 => keys
                .into_iter()
                .cloned()
                .fold(AuthResult::refuse_because(Refusal::Disabled), AuthResult::with_scram_keys),
            _ => return None,
        })
    }
}

/// Cuts octets into flights: behind each line that begins as STARTTLS does, a new one.
pub(crate) fn flights(octets: &[u8]) -> Vec<&[u8]> {
    let (mut flights, mut flight_at, mut line_at) = (Vec::new(), 0, 0);
    for at in 2..=octets.len() {
        if octets[..at].ends_with(b"\r\n") {
            let line = &octets[line_at..at];
            line_at = at;
            if line.get(..8).is_some_and(|verb| verb.eq_ignore_ascii_case(b"STARTTLS")) {
                flights.push(&octets[flight_at..at]);
                flight_at = at;
            }
        }
    }
    flights.push(&octets[flight_at..]);
    flights
}

fn write(items: &mut Vec<Item>, octets: &[u8]) {
    assert!(octets.ends_with(b"\r\n") && octets.is_ascii());
    match items.last_mut() {
        Some(Item::Written(written)) => written.extend_from_slice(octets),
        _ => items.push(Item::Written(octets.to_vec())),
    }
}

fn verdict(answer: u8) -> Option<Verdict> {
    Some(match answer % 32 {
        0..24 => Verdict::Accept,
        24 => Verdict::TryLater,
        25 => Verdict::Reply(reply("550 5.7.1 No")),
        26 => Verdict::Reply(reply("450 4.7.1 Not now")),
        27 => Verdict::Reply(reply("250 2.0.0 Yes")),
        28 => Verdict::Reply(reply("421 4.3.2 Bye")),
        29 => Verdict::Reply(reply("354 Go on")),
        30 => Verdict::Reply(reply("252 2.5.0 Perhaps")),
        _ => return None,
    })
}

fn reply(text: &str) -> Reply {
    text.parse().expect("a reply")
}

fn describe_request(request: &AuthRequest) -> String {
    let credentials = request.credentials();
    let forms = |password: sansmtp::auth::Password<'_>| {
        password.forms().map(|form| form.expose_secret().to_vec()).collect::<Vec<_>>()
    };
    let password = credentials.password().map(forms);
    format!("{request:?} {password:?}")
}

fn describe_turn(turn: &AuthTurn) -> String {
    format!("{turn:?} {:?}", turn.response().map(|response| response.expose_secret().to_vec()))
}

fn describe_hook(call: &HookCall<'_>) -> String {
    match call.hook() {
        sansmtp::Hook::Unknown(line) => format!("{:?}", line.expose_secret()),
        hook => format!("{hook:?} {:?} {:?}", call.session(), call.envelope()),
    }
}
