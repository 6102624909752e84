//! The server's side: a session, polled until it waits.

use std::time::Duration;

use sansmtp::tls::Session;
use sansmtp::{Action, AuthRequest, AuthResult, HookQuestion, Verdict};

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Input(Duration),
    Answer(Duration),
    Closed,
}

/// A question that is kept open.
pub(crate) enum Open {
    Hook(HookQuestion),
    Authenticator(AuthRequest),
}

pub(crate) struct Server {
    pub(crate) session: Session,
    pub(crate) now: Duration,
    /// Given to the session and not taken yet.
    pub(crate) unread: Vec<u8>,
    /// Appended and not flushed.
    pub(crate) out: Vec<u8>,
    /// Flushed and not carried to the client yet.
    pub(crate) sent: Vec<u8>,
    /// How often something was flushed.
    pub(crate) flushes: usize,
    /// All that ever came as `Transmit`.
    pub(crate) transmitted: Vec<u8>,
    /// All that ever came as a reply in the clear.
    pub(crate) clear: String,
    /// Questions, aborts and events.
    pub(crate) log: Vec<String>,
    pub(crate) content: Vec<u8>,
    /// Keeps questions open instead of answering them.
    pub(crate) hold: bool,
    pub(crate) open: Option<Open>,
    pub(crate) wait: Wait,
}

impl Server {
    pub(crate) fn new(session: Session) -> Self {
        let mut server = Self {
            session,
            now: Duration::ZERO,
            unread: Vec::new(),
            out: Vec::new(),
            sent: Vec::new(),
            flushes: 0,
            transmitted: Vec::new(),
            clear: String::new(),
            log: Vec::new(),
            content: Vec::new(),
            hold: false,
            open: None,
            wait: Wait::Closed,
        };
        server.run();
        server
    }

    pub(crate) fn feed(&mut self, octets: &[u8]) {
        self.unread.extend_from_slice(octets);
        self.run();
    }

    pub(crate) fn end_of_input(&mut self) {
        self.session.end_of_input();
        self.run();
    }

    /// Polls until the session waits.
    pub(crate) fn run(&mut self) {
        loop {
            let unread = std::mem::take(&mut self.unread);
            let mut input = &unread[..];
            let (mut answer, mut wait) = (None, None);
            match self.session.poll(self.now, &mut input) {
                Action::Reply(reply) => {
                    assert!(self.transmitted.is_empty(), "in the clear, after TLS: {reply:?}");
                    self.clear.push_str(&String::from_utf8_lossy(reply.as_bytes()));
                    self.out.extend_from_slice(reply.as_bytes());
                }
                Action::Challenge(challenge) => {
                    assert!(self.transmitted.is_empty(), "a challenge in the clear, after TLS");
                    self.clear.push_str(&String::from_utf8_lossy(challenge.as_bytes()));
                    self.out.extend_from_slice(challenge.as_bytes());
                }
                Action::Transmit(ciphertext) => {
                    self.transmitted.extend_from_slice(ciphertext);
                    self.out.extend_from_slice(ciphertext);
                }
                Action::Flush { .. } => {
                    self.flushes += 1;
                    self.sent.append(&mut self.out);
                }
                Action::CallAuthenticator(request) => {
                    let credentials = request.credentials();
                    let right = credentials.password().is_some_and(|password| password.ct_eq(b"tanstaaftanstaaf"));
                    self.log.push(format!("authenticate {} {}", request.mechanism(), credentials.authcid()));
                    if self.hold {
                        self.open = Some(Open::Authenticator(request));
                    } else {
                        let result = if right { AuthResult::accept() } else { AuthResult::refuse() };
                        answer = Some(request.answer(result));
                    }
                }
                Action::CallAuthHandler(turn) => panic!("not configured: {turn:?}"),
                Action::CallHook(call) => {
                    self.log.push(format!("{:?}", call.hook()));
                    if self.hold {
                        self.open = Some(Open::Hook(call.into_question()));
                    } else {
                        answer = Some(call.answer(Verdict::Accept));
                    }
                }
                Action::Content(piece) => self.content.extend_from_slice(&piece),
                Action::Aborted(aborted) => self.log.push(format!("{aborted:?}")),
                Action::Event(event) => self.log.push(format!("{event:?}")),
                Action::StartTls => panic!("the layer does the handshake itself"),
                Action::NeedInput { deadline } => wait = Some(Wait::Input(deadline)),
                Action::AwaitAnswer { deadline } => wait = Some(Wait::Answer(deadline)),
                Action::Pause { until } => self.now = until,
                Action::Close => wait = Some(Wait::Closed),
            }
            let taken = unread.len() - input.len();
            self.unread = unread;
            self.unread.drain(..taken);
            if let Some(answer) = answer {
                self.session.answer(answer).unwrap();
            }
            let Some(wait) = wait else { continue };
            assert!(self.out.is_empty(), "a flush comes before every wait and before the end: {wait:?}");
            if matches!(wait, Wait::Input(_)) {
                assert!(self.unread.is_empty(), "input is used up before more is asked for");
            }
            self.wait = wait;
            return;
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.wait == Wait::Closed
    }

    pub(crate) fn logged(&self, what: &str) -> usize {
        self.log.iter().filter(|entry| entry.contains(what)).count()
    }
}
