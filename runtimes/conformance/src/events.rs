//! What is told of connections: each opened and closed once, whatever ends it, and why.

use std::collections::BTreeSet;
use std::net::Shutdown;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sansmtp::{
    Aborted, AuthRequest, AuthResult, Envelope, Event, Events, Handler, Incoming, Path, Peer, Piece, Session, Timeouts,
    Verdict,
};

use crate::client::{Client, Stream, plain};
use crate::handler::{Play, Scripted, Seen};
use crate::server::{Kind, Running, usual_plan};
use crate::{LONG, PATIENCE};

/// The same as [`Play`], and wants to be told everything.
struct Watches {
    play: Play,
    told: Arc<Told>,
    /// What was told of this connection.
    events: Vec<String>,
}

/// What the handlers were told, one connection after the other as they were dropped.
#[derive(Default)]
struct Told {
    connections: Mutex<Vec<Vec<String>>>,
    sessions: Mutex<Vec<Session>>,
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.told.connections.lock().unwrap().push(std::mem::take(&mut self.events));
    }
}

impl Handler for Watches {
    type Message = <Play as Handler>::Message;

    fn events(&self) -> Events {
        Events::ALL
    }

    fn authenticate(&mut self, session: &Session, request: &AuthRequest) -> AuthResult {
        self.play.authenticate(session, request)
    }

    fn connect(&mut self, session: &Session) -> Verdict {
        self.told.sessions.lock().unwrap().push(session.clone());
        Verdict::Accept
    }

    fn rcpt(&mut self, session: &Session, envelope: &Envelope, forward_path: Path<'_>) -> Verdict {
        self.play.rcpt(session, envelope, forward_path)
    }

    fn call_content(&mut self, piece: Piece<'_>, incoming: &mut Incoming<Self::Message>) {
        self.play.call_content(piece, incoming);
    }

    fn message(&mut self, session: &Session, envelope: &Envelope, message: Self::Message) -> Verdict {
        self.play.message(session, envelope, message)
    }

    fn aborted(&mut self, aborted: Aborted) {
        self.play.aborted(aborted);
    }

    fn event(&mut self, event: Event<'_>) {
        self.events.push(match event {
            Event::Opened { .. } => "opened".into(),
            Event::Closed { reason, .. } => format!("closed {reason}"),
            Event::TlsEstablished { .. } => "tls".into(),
            Event::TlsFailed { reason, .. } => format!("tls-failed {reason}"),
            Event::AuthSucceeded { .. } => "auth".into(),
            Event::AuthFailed { reason, .. } => format!("auth-failed {reason}"),
            Event::TransactionBegun { .. } => "transaction".into(),
            Event::RecipientRefused { reply, .. } => format!("recipient {}", reply.code()),
            Event::MessageAccepted { octets, .. } => format!("accepted {octets}"),
            Event::CommandRefused { command, reply, .. } => format!("refused {command:?} {}", reply.code()),
            // What no test here is about.
            Event::ClientRefused { .. }
            | Event::MessageRefused { .. }
            | Event::LimitReached { .. }
            | Event::ProxyRefused { .. }
            | _ => format!("{event:?}"),
        });
        self.play.event(event);
    }
}

impl Scripted for Watches {
    fn blocks_on(&self, word: &[u8]) -> Option<Arc<Seen>> {
        self.play.blocks_on(word)
    }
}

fn start<K: Kind>(timeouts: Timeouts) -> (Running, Arc<Told>) {
    let (seen, told) = (Arc::<Seen>::default(), Arc::<Told>::default());
    let (handlers, tell) = (Arc::clone(&seen), Arc::clone(&told));
    let make = move |_: Peer| Watches { play: Play::new(&handlers), told: Arc::clone(&tell), events: Vec::new() };
    (Running::start_with::<K, _>(|config| config.timeouts(timeouts).name("submission"), seen, make), told)
}

impl Told {
    /// What was told of the only connection, once its handler has gone.
    fn only(&self, server: &Running) -> Vec<String> {
        server.seen.wait_until_all_have_gone();
        let mut connections = self.connections.lock().unwrap();
        // The handlers' last member is the one that counts them.
        let only = connections.pop().unwrap_or_default();
        assert!(connections.is_empty());
        only
    }
}

/// In the clear and under TLS from the start.
pub fn events_come_in_their_order<K: Kind>() {
    let (server, told) = start::<K>(Timeouts::default());
    for tls in [false, true] {
        let mut client = server.connect_by(tls);
        assert!(client.ask("what").starts_with("500 "));
        client.ask("EHLO client.example");
        client.ask(plain("wrong"));
        client.ask(plain("tim"));
        client.begin_transaction();
        client.say("hello\r\n.\r\n");
        assert!(client.reply().starts_with("250 "));
        assert!(client.ask("RCPT TO:<b@example.org>").starts_with("503 "));
        client.say("QUIT\r\n");
        assert!(client.rest().starts_with("221 "));
        drop(client);
        let mut expected = vec![
            "opened",
            "refused None 500",
            "auth-failed bad-credentials",
            "auth",
            "transaction",
            "accepted 7",
            "recipient 503",
            "closed quit",
        ];
        if tls {
            expected.insert(1, "tls");
        }
        assert_eq!(told.only(&server), expected, "TLS: {tls}");
    }
}

/// By the client: whose handshake fails, who leaves, resets, is silent or breaks the rules.
pub fn each_connection_is_closed_once<K: Kind>() {
    let (server, told) = start::<K>(Timeouts::default());
    let ends = |what: &str, end: &dyn Fn(&Running), expected: &[&str]| {
        end(&server);
        let told = told.only(&server);
        assert_eq!(told.first().map(String::as_str), Some("opened"), "{what}");
        let closed = told.iter().filter(|event| event.starts_with("closed ")).count();
        assert_eq!(closed, 1, "{what}: {told:?}");
        let behind = told.len() - expected.len().min(told.len());
        assert_eq!(told[behind..], *expected, "{what}: {told:?}");
    };
    ends("leaves", &|server| drop(server.connect()), &["opened", "closed peer-closed"]);
    ends(
        "leaves under TLS",
        &|server| {
            let mut client = server.connect_tls();
            client.end();
            client.rest();
        },
        &["tls", "closed peer-closed"],
    );
    ends(
        "leaves a message",
        &|server| {
            let mut client = server.connect();
            client.begin_message();
            client.say("half a message\r\n");
            client.end();
            client.rest();
        },
        &["transaction", "closed peer-closed"],
    );
    ends(
        "leaves an exchange",
        &|server| {
            let mut client = server.connect();
            client.ask("EHLO client.example");
            client.ask("AUTH PLAIN");
        },
        &["auth-failed connection-lost", "closed peer-closed"],
    );
    ends(
        "speaks HTTP",
        &|server| {
            let mut client = server.connect();
            client.say("GET / HTTP/1.1\r\n");
            client.rest();
        },
        &["refused None 554", "closed protocol-abuse"],
    );
    ends(
        "is in the clear where TLS is",
        &|server| {
            let mut client = Client::new(server.tls);
            client.say("EHLO client.example\r\n");
            while matches!(client.read(), Ok(1..)) {}
        },
        &["opened", "tls-failed not-tls", "closed tls-failed"],
    );
    ends(
        "leaves a handshake",
        &|server| {
            let mut client = server.connect();
            client.ask("EHLO client.example");
            assert!(client.ask("STARTTLS").starts_with("220 "));
            client.end();
            while matches!(client.read(), Ok(1..)) {}
        },
        &["tls-failed connection-lost", "closed tls-failed"],
    );
    ends(
        "does not trust the certificate",
        &|server| {
            let mut client = server.connect();
            client.ask("EHLO client.example");
            assert!(client.ask("STARTTLS").starts_with("220 "));
            let mut client = client.under_tls_trusting(&crate::certificate::RENEWED.1);
            assert!(client.try_say("EHLO client.example\r\n").is_err());
            let Stream::Tls(tls) = &mut client.stream else { panic!("not under TLS") };
            while tls.conn.wants_write() {
                tls.conn.write_tls(&mut tls.sock).unwrap();
            }
            client.transport().shutdown(Shutdown::Write).unwrap();
            while matches!(client.read(), Ok(1..)) {}
        },
        &["tls-failed alert-decrypt-error", "closed tls-failed"],
    );
}

/// By the time.
pub fn who_is_silent_is_closed_once<K: Kind>() {
    let (server, told) = start::<K>(Timeouts { command: Duration::from_millis(250), ..Timeouts::default() });
    assert!(Client::new(server.clear).rest().ends_with("421 4.4.2 Timeout, closing the connection\r\n"));
    assert_eq!(told.only(&server), ["opened", "closed timeout"]);
}

/// A reset is no end of a session, and what was begun is told first.
pub fn a_reset_is_told_as_a_loss<K: Kind>() {
    let (server, told) = start::<K>(Timeouts::default());
    let mut client = server.connect();
    client.ask("EHLO client.example");
    client.say("AUTH PLAIN\r\n");
    client.reset();
    let told = told.only(&server);
    let ["opened", "auth-failed connection-lost", closed] = &told.iter().map(String::as_str).collect::<Vec<_>>()[..]
    else {
        panic!("{told:?}")
    };
    // Whether it is seen by a read depends on what was read of it.
    assert!(["closed lost", "closed peer-closed"].contains(closed), "{told:?}");
}

/// Also where the handler panics, is late, or is still busy when the server has no patience any more.
pub fn a_connection_whose_handler_fails_is_closed_once<K: Kind>() {
    let (server, told) = start::<K>(Timeouts::default());
    let mut client = server.connect();
    client.ask("EHLO client.example");
    assert!(client.ask(plain("panic")).starts_with("454 "));
    client.say("QUIT\r\n");
    client.rest();
    assert_eq!(told.only(&server), ["opened", "auth-failed unanswered", "closed quit"]);

    // A method that does not return in time has the handler, which is told of the end when it has returned.
    let (server, told) = start::<K>(Timeouts { answer: Duration::from_millis(250), ..Timeouts::default() });
    let mut client = server.connect();
    client.ask("EHLO client.example");
    assert!(client.ask(plain("block")).starts_with("454 "));
    assert!(client.rest().starts_with("421 "));
    server.seen.release();
    let told = told.only(&server);
    assert_eq!(told.iter().filter(|event| *event == "closed handler-failed").count(), 1, "{told:?}");
    assert_eq!(told.last().map(String::as_str), Some("closed handler-failed"), "{told:?}");
}

/// Idle ones, and one whose handler is busy.
pub fn what_is_cut_off_is_closed_once<K: Kind>() {
    let (server, told) = start::<K>(Timeouts::default());
    let mut stuck = server.connect();
    stuck.begin_message();
    let mut asking = server.connect();
    asking.ask("EHLO client.example");
    asking.say(format!("{}\r\n", plain("block")));
    server.seen.wait_for("authenticate block");
    let handshaking = Client::new(server.tls);
    let seen = Arc::clone(&server.seen);
    // The one that is busy is told when it is not.
    assert!(server.stop(Duration::ZERO) < PATIENCE);
    seen.wait_until_all_have_gone();
    let connections = told.connections.lock().unwrap();
    for told in &*connections {
        let closed: Vec<_> = told.iter().filter(|event| event.starts_with("closed ")).collect();
        assert_eq!(closed, ["closed cut-off"], "{connections:?}");
        assert_eq!(told.last(), closed.last().copied(), "{connections:?}");
    }
    // Whether the last one had been accepted by then is up to the server.
    assert!(connections.len() >= 2, "{connections:?}");
    drop((stuck, asking, handshaking));
}

/// A shutdown that everybody has time for.
pub fn a_shutdown_is_why_connections_close<K: Kind>() {
    let (server, told) = start::<K>(Timeouts::default());
    let mut client = server.connect();
    server.shutdown().begin(LONG);
    assert!(client.rest().starts_with("421 4.3.2 "));
    drop(client);
    assert_eq!(told.only(&server), ["opened", "closed shutdown"]);
}

/// Its number, where it was accepted, and the name of its listener, by which one handler tells several apart.
pub fn a_session_says_where_it_came_in<K: Kind>() {
    let (seen, told) = (Arc::<Seen>::default(), Arc::<Told>::default());
    let (handlers, tell) = (Arc::clone(&seen), Arc::clone(&told));
    let mut plan = usual_plan(|config| config.name("mx"));
    plan.other = Some(usual_plan(|config| config.name("submission")).config);
    let make = move |_: Peer| Watches { play: Play::new(&handlers), told: Arc::clone(&tell), events: Vec::new() };
    let server = Running::start_plan::<K, _>(&plan, seen, make);
    let addresses = [(server.clear, "mx"), (server.tls, "mx"), (server.others[0], "submission")];
    let mut ids = BTreeSet::new();
    for (address, name) in addresses {
        let client = Client::new(address);
        let mut client = if address == server.tls { client.under_tls() } else { client };
        client.reply();
        let session = told.sessions.lock().unwrap().pop().unwrap();
        assert_eq!((session.local_address(), session.listener()), (Some(address), Some(name)));
        assert_eq!(session.peer().address(), Some(client.socket().local_addr().unwrap()));
        assert!(session.id() > 0 && ids.insert(session.id()), "{ids:?}");
    }
}
