//! The engine's transcripts over sockets: a client plays one side of each session, a handler the other.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use rustls::ClientConfig;
use sansmtp::testing::{ClientLine, Embedder, Mismatch, Transcript};
use sansmtp::{
    Aborted, Answer, AuthRequest, AuthResult, AuthTurn, Event, Events, Handler, HookCall, Hooks, Incoming, Piece,
    Session, Timeouts,
};
use socket2::{Domain, Socket, Type};

use crate::PATIENCE;
use crate::certificate::{Negotiated, make};
use crate::client::{Client, Stream};
use crate::handler::Scripted;
use crate::server::{ANY_PORT, Kind, Plan, Running};
use crate::transcript_files::{self, Words, builder, networks};

/// Why a session is not played over a socket. There is no other reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum LeftOut {
    /// An answer comes too late. The engine goes on then; whoever embeds it does not, because a handler that is
    /// still busy cannot be asked anything: `no_answer_in_time_is_451_and_the_end`.
    LateAnswer,
    /// It depends on what there is to bind to, which the session makes up: the TLS that is really there has
    /// something else.
    ChannelBinding,
    /// Its subject is TLS, and it is to be played in the clear.
    AboutTls,
    /// Its subject is STARTTLS, or what is refused, said or told in the clear, and it is to be played under TLS.
    AboutTheClear,
}

static SESSIONS: LazyLock<Vec<transcript_files::Session>> = LazyLock::new(|| {
    transcript_files::sessions(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/transcripts"))
});

/// Those that are in the clear, and those under TLS of which TLS is not the point.
pub fn transcripts_in_the_clear<K: Kind>() {
    use LeftOut::{AboutTls, ChannelBinding, LateAnswer};
    play_all::<K>(false, &[(LateAnswer, 10), (ChannelBinding, 1), (AboutTls, 74)]);
}

/// Those that are under TLS, and those in the clear of which that is not the point.
pub fn transcripts_under_tls<K: Kind>() {
    use LeftOut::{AboutTheClear, ChannelBinding, LateAnswer};
    play_all::<K>(true, &[(LateAnswer, 10), (ChannelBinding, 32), (AboutTheClear, 114)]);
}

/// Plays all but so many.
fn play_all<K: Kind>(tls: bool, expected: &[(LeftOut, usize)]) {
    let mut left_out = BTreeMap::<_, usize>::new();
    let mut fitting = Vec::new();
    for session in SESSIONS.iter() {
        match fit(session, tls) {
            Ok(words) => fitting.push((session, words)),
            Err(reason) => *left_out.entry(reason).or_default() += 1,
        }
    }
    println!("TLS {tls}: {} sessions of {}, without {left_out:?}", fitting.len(), SESSIONS.len());
    assert_eq!(left_out, expected.iter().copied().collect(), "another session is left out, or one no longer");
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some((session, words)) = fitting.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(mismatch) = play::<K>(&session.lines, words, tls) {
                        failures.lock().unwrap().push(format!("{}:{}: {mismatch}", session.file, mismatch.line));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of {} sessions fail:\n{}", failures.len(), fitting.len(), failures.join("\n"));
}

/// Most of the time goes into waiting for the other end.
const AT_A_TIME: usize = 8;

/// The words of a session as it is to be played.
fn fit(session: &transcript_files::Session, tls: bool) -> Result<Words, LeftOut> {
    let mut words = session.words.clone();
    let has_any = |list: &[&str]| list.iter().any(|word| words.contains_key(*word));
    let mentions_any = |list: &[&str]| list.iter().any(|text| session.lines.contains(text));
    if session.lines.lines().any(|line| line.starts_with("?:") && line.ends_with("-> late")) {
        return Err(LeftOut::LateAnswer);
    }
    match (words.contains_key("tls-now"), tls) {
        (true, false) => {
            let about = ["client-cert", "end-point", "exporter", "policy", "require-tls", "requiretls", "tls-version"];
            if has_any(&about) || mentions_any(&["STARTTLS"]) {
                return Err(LeftOut::AboutTls);
            }
            words.remove("tls-now");
            words.insert("no-tls".into(), String::new());
        }
        (false, true) => {
            let about = has_any(&["policy", "require-tls", "events"])
                || mentions_any(&["STARTTLS", "TLS: ", "S: 538", CLIENT_HELLO])
                // In front of TLS, a proxy's header is the first line. It is not, where it comes in pieces or not.
                || has_any(&["proxy-trusted"]) && mentions_any(&["T: ", "X: eof"]);
            if about {
                return Err(LeftOut::AboutTheClear);
            }
            words.remove("no-tls");
            words.insert("tls-now".into(), String::new());
        }
        _ => {}
    }
    if words.get("mechanisms").is_some_and(|mechanisms| mechanisms.contains("-PLUS")) {
        let has_channel = words.contains_key("end-point") || words.contains_key("exporter");
        let is_under_tls = tls || mentions_any(&["TLS: start"]);
        if is_under_tls && (!has_channel || mentions_any(&BINDINGS)) {
            return Err(LeftOut::ChannelBinding);
        }
    }
    // Nothing of a pause is seen here but that it takes time.
    words.insert("no-auth-delay".into(), String::new());
    Ok(words)
}

const CLIENT_HELLO: &str = r"C-: \x16\x03";

/// In base64: `c=` with a type of channel binding, and the error of one that is not supported.
const BINDINGS: [&str; 2] = ["Yz1jRDEwYkhN", "ZT11bnN1cHBvcnRlZC1jaGFubmVsLWJpbmRpbmctdHlwZQ"];

fn play<K: Kind>(lines: &str, words: &Words, tls: bool) -> Result<(), Mismatch> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&ANY_PORT.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let (lines, words) = from(address, lines, words);
    let transcript = Transcript::parse(&lines)?;
    let mut config = builder(&words);
    if lines.contains("\nT: ") && lines.contains("421 4.4.2") {
        let limit = Duration::from_millis(500);
        config = config.timeouts(Timeouts { command: limit, content: limit, ..Timeouts::default() });
    }
    let config = config.build().unwrap();
    let negotiated = Negotiated {
        old: words.get("tls-version").is_some_and(|version| version == "1.2"),
        client_certificate: words.contains_key("client-cert"),
    };
    let (servers_end, clients_end) = make(negotiated);
    let (sender, outcome) = channel();
    let embedder = transcript.embedder(config.hooks()).with_events(config.events());
    let embedder = Mutex::new(Some(Reports { embedder, to: sender }));
    let plan = Plan { tls: Some(servers_end), implicit: Some(ANY_PORT), ..Plan::new(config) };
    let server = Running::start_plan::<K, _>(&plan, Arc::default(), move |_| {
        embedder.lock().unwrap().take().expect("there is one connection")
    });
    let to = if tls { server.tls } else { server.clear };
    socket.connect(&to.into()).unwrap();
    let mut client = Client::over(TcpStream::from(socket)).unwrap();
    let expects_header = plan.config.expects_proxy_header(address.into());
    if tls && !expects_header {
        client = client.under_tls_trusting(&clients_end);
    }
    let said = play_client(client, &transcript, &clients_end, tls && expects_header);
    let seen = outcome.recv_timeout(PATIENCE).expect("the handler goes when its connection has gone");
    said.and(seen)
}

/// The session, with `address` for the peer that it names, trusted or not as that is.
fn from(address: SocketAddr, lines: &str, words: &Words) -> (String, Words) {
    let mut words = words.clone();
    let Some(peer) = words.get("peer").cloned() else { return (lines.into(), words) };
    let named = peer.parse::<SocketAddr>().unwrap();
    for list in ["proxy-trusted", "xclient"] {
        let Some(trusted) = words.get_mut(list) else { continue };
        let contains = |address: SocketAddr| networks(trusted).iter().any(|network| network.contains(address.ip()));
        match (contains(named), contains(address)) {
            (true, false) => *trusted += ",127.0.0.1",
            (false, true) => *trusted = "203.0.113.0/24".into(),
            _ => {}
        }
    }
    (lines.replace(&peer, &address.to_string()), words)
}

/// Plays the client. Behind a proxy's header, TLS begins with the second line.
pub(crate) fn play_client(
    mut client: Client,
    transcript: &Transcript,
    tls: &Arc<ClientConfig>,
    mut has_header: bool,
) -> Result<(), Mismatch> {
    let (mut unsent, mut closed) = (Vec::new(), false);
    for (line, what) in transcript.client() {
        if let ClientLine::Send(octets) = what {
            unsent.extend_from_slice(octets);
            if !std::mem::take(&mut has_header) {
                continue;
            }
        }
        // A server that has closed takes no more: what it said before is there to be read.
        let _ = client.try_say(std::mem::take(&mut unsent));
        let found = match what {
            ClientLine::Send(_) | ClientLine::Handshake { succeeds: true } => {
                client = client.under_tls_trusting(tls);
                continue;
            }
            ClientLine::Handshake { succeeds: false } | ClientLine::End => {
                let _ = client.try_end();
                continue;
            }
            ClientLine::Wait(_) => continue,
            ClientLine::Line { .. } | ClientLine::Closed => client.line(),
            ClientLine::Reply(_) => client.try_reply().map(Some),
        };
        let is_handshaking = matches!(&client.stream, Stream::Tls(tls) if tls.conn.is_handshaking());
        let as_expected = match (what, &found) {
            (ClientLine::Line { text, exact: true }, Ok(Some(found))) => found == text,
            (ClientLine::Line { text, .. }, Ok(Some(found))) => found.starts_with(text),
            (ClientLine::Reply(code), Ok(Some(found))) => found.lines().all(|line| line.starts_with(&code.to_string())),
            (ClientLine::Closed, Ok(None)) => true,
            // There is no good end to TLS that has not begun.
            (ClientLine::Closed, Err(_)) => is_handshaking,
            _ => false,
        };
        if !as_expected {
            return Err(Mismatch { line, expected: format!("{what:?}"), found: Some(format!("{found:?}")) });
        }
        closed = matches!(what, ClientLine::Closed);
    }
    let _ = client.try_say(unsent);
    let _ = client.try_end();
    match client.line() {
        Ok(None) => Ok(()),
        _ if closed => Ok(()),
        found => Err(Mismatch { line: 0, expected: "nothing more".into(), found: Some(format!("{found:?}")) }),
    }
}

/// A transcript's embedder, which says how it went when it goes.
struct Reports {
    embedder: Embedder,
    to: Sender<Result<(), Mismatch>>,
}

impl Drop for Reports {
    fn drop(&mut self) {
        // Nobody waits for it any more if the client's side has failed.
        let _ = self.to.send(self.embedder.finish());
    }
}

impl Handler for Reports {
    type Message = ();

    fn hooks(&self) -> Hooks {
        self.embedder.hooks()
    }

    fn events(&self) -> Events {
        self.embedder.events()
    }

    fn authenticate(&mut self, session: &Session, request: &AuthRequest) -> AuthResult {
        self.embedder.authenticate(session, request)
    }

    fn auth(&mut self, session: &Session, turn: AuthTurn) -> Answer {
        self.embedder.auth(session, turn)
    }

    fn aborted(&mut self, aborted: Aborted) {
        self.embedder.aborted(aborted);
    }

    fn event(&mut self, event: Event<'_>) {
        self.embedder.event(event);
    }

    fn call_hook(&mut self, call: HookCall<'_>, incoming: &mut Incoming<()>) -> Answer {
        self.embedder.call_hook(call, incoming)
    }

    fn call_content(&mut self, piece: Piece<'_>, incoming: &mut Incoming<()>) {
        self.embedder.call_content(piece, incoming);
    }
}

impl Scripted for Reports {
    const WATCHES_CONTENT: bool = true;
}
