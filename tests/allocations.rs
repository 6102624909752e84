//! What the engine allocates: nothing for a command that fits in the read buffer, little for a
//! connection that waits, and never much before the client has authenticated.
//!
//! The counting allocator counts by thread, so tests that run at the same time do not disturb each other.

use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sansmtp::auth::{AuthQuestion, ScramKeys};
use sansmtp::{
    Action, Auth, AuthResult, Config, Connection, Envelope, Events, Handler, Hooks, Incoming, Peer, Session, Verdict,
};

#[path = "support/mechanisms.rs"]
mod mechanisms;
#[path = "support/scram.rs"]
mod scram;

use mechanisms::{MECHANISMS, every_mechanism, keys, messages, scram_client, tls, zeros};

#[test]
fn commands_allocate_nothing_after_the_first_transaction() {
    for (hooks, events) in [(Hooks::MESSAGE, Events::default()), (Hooks::ALL, Events::ALL)] {
        let mut client = Client::new(config(hooks, false));
        client.connection.set_events(events);
        client.say(EHLO, b"250");
        client.say(MAIL, b"250");
        // The envelope keeps its allocation: no later transaction here has more in it.
        for _ in 0..4 {
            client.say(b"RCPT TO:<somebody.with.a.long.name@mx.example.org>\r\n", b"250");
        }
        client.say(b"DATA\r\nHello\r\n.\r\n", b"250");
        for (command, code) in COMMANDS {
            let allocations = measure(|| client.say(command, code)).count_total;
            assert_eq!(allocations, 0, "{:?} with {hooks:?}", String::from_utf8_lossy(command));
        }
        let everything: Vec<u8> = COMMANDS.iter().flat_map(|(command, _)| command.iter().copied()).collect();
        let allocations = measure(|| client.say(&everything, b"250")).count_total;
        assert_eq!(allocations, 0, "all in one segment with {hooks:?}");
    }
}

#[test]
fn auth_plain_allocates_nothing_on_a_fresh_connection() {
    for (command, code) in [
        (AUTH, b"235"),
        (b"AUTH PLAIN AHRpbUBleGFtcGxlLm9yZwB3cm9uZw==\r\n", b"535"),
        (b"AUTH PLAIN\r\nAHRpbUBleGFtcGxlLm9yZwB0YW5zdGFhZnRhbnN0YWFm\r\n", b"235"),
        (b"AUTH PLAIN AHRpbQ==\r\n", b"501"),
        (b"AUTH PLAIN not base64\r\n", b"501"),
        (b"AUTH PLAIN not-base64\r\n", b"501"),
        (b"AUTH PLAIN\r\n*\r\n", b"501"),
        (b"AUTH X-UNKNOWN\r\n", b"504"),
    ] as [(&[u8], &[u8; 3]); 8]
    {
        for (hooks, events) in [(Hooks::NONE, Events::NONE), (Hooks::ALL, Events::ALL)] {
            let mut client = Client::new(config(hooks, true));
            client.connection.set_events(events);
            client.say(EHLO, b"250");
            let allocations = measure(|| client.say(command, code)).count_total;
            assert_eq!(allocations, 0, "{:?} with {hooks:?}", String::from_utf8_lossy(command));
        }
    }
}

#[test]
fn an_idle_connection_owns_at_most_a_kibibyte() {
    for hooks in [Hooks::NONE, Hooks::ALL] {
        let config = config(hooks, true);
        let (mut client, mut heap) = (None, 0);
        for (input, code) in [(&b""[..], b"220"), (EHLO, b"250"), (AUTH, b"235")] {
            heap += measure(|| client.get_or_insert_with(|| Client::unasked(Arc::clone(&config))).say(input, code))
                .bytes_current;
            let all = i64::try_from(size_of::<Connection>()).expect("a size") + heap;
            assert!(all <= 1024, "{all} octets after {:?}", String::from_utf8_lossy(input));
        }
    }
}

#[test]
fn nobody_makes_a_connection_grow_before_authenticating() {
    let auth_line = |encoded: &[u8]| [b"AUTH PLAIN ", encoded, b"\r\n"].concat();
    let (decodable, longest) = (auth_line(&[b'A'; 12_272]), auth_line(&vec![b'A'; 12_288 - 13]));
    let exchange = [&b"AUTH LOGIN\r\n"[..], &[b'A'; 12_284], b"\r\n", &[b'A'; 12_284], b"\r\n"].concat();
    let cases: [(&str, Vec<u8>); 9] = [
        ("a line without an end", vec![b'x'; 1 << 20]),
        ("an AUTH line without an end", [&b"AUTH PLAIN "[..], &[b'A'; 1 << 20]].concat()),
        ("a response without an end", [&b"AUTH PLAIN\r\n"[..], &[b'A'; 1 << 20]].concat()),
        ("headers", b"X-Header: something that is no command\r\n".repeat(50_000)),
        ("AUTH with responses of zero octets", decodable.repeat(20)),
        ("AUTH lines of the longest length", longest.repeat(20)),
        ("exchanges of the longest responses", exchange.repeat(20)),
        ("no-operations", b"NOOP\r\n".repeat(100_000)),
        ("long arguments", [&b"NOOP "[..], &[b'x'; 500], b"\r\nVRFY ", &[b'y'; 500], b"\r\n"].concat().repeat(1_000)),
    ];
    for (case, input) in cases {
        for hooks in [Hooks::NONE, Hooks::ALL] {
            for cut in [1, 100, 4096, usize::MAX] {
                let config = config(hooks, true);
                let peak = measure(|| {
                    let mut client = Client::new(config);
                    client.say(EHLO, b"250");
                    for piece in input.chunks(cut) {
                        client.send(piece);
                    }
                    assert!(!client.connection.session().is_authenticated());
                })
                .bytes_max;
                assert!(peak <= 40 << 10, "{case}, cut {cut}, {hooks:?}: {peak} octets");
            }
        }
    }
}

/// SCRAM is an exchange, and remembers what has been said: a few blocks, and none of them large.
#[test]
fn what_a_scram_exchange_allocates_is_bounded() {
    for (password, code) in [(mechanisms::PASSWORD, b"235"), ("pen", b"535")] {
        let client = scram_client("SCRAM-SHA-256", password).expect("SCRAM");
        // The configuration's entropy is zeros.
        let lines = client.lines("SCRAM-SHA-256", &"A".repeat(24));
        let mut server = Client::new(config(Hooks::NONE, true));
        server.keys = Some(keys(client.hash));
        server.say(EHLO, b"250");
        let input: Vec<u8> = lines.iter().flat_map(|line| [line.as_bytes(), b"\r\n"].concat()).collect();
        // The answer to the look-up, which copies the keys, is counted too.
        let first = measure(|| server.say(&input, code));
        assert!(first.count_total <= 32 && first.bytes_max <= 2048, "{password}: {first:?}");
        // What stays is what the connection keeps for its next use, and who has logged in.
        assert!(first.bytes_current <= 512, "{password}: {first:?}");
        if code == b"535" {
            let second = measure(|| server.say(&input, code));
            assert!(second.count_total <= first.count_total && second.bytes_current <= 0, "{second:?}");
        }
    }
}

/// The longest lines that there are, to every mechanism at each of its steps, from one who proves nothing.
#[test]
fn nobody_makes_a_mechanism_grow_before_authenticating() {
    let messages_of_octets: [(&str, &[u8], &[u8]); 12] = [
        ("zeros", b"", b"\0"),
        ("letters", b"", b"A"),
        ("a name", b"n,,n=", b"A"),
        ("escapes", b"n,,n=a,r=", b"=2C"),
        ("an authzid", b"n,a=", b"=2C"),
        ("a nonce", b"n,,n=tim,r=", b"x"),
        ("extensions", b"n,,n=tim,r=abc", b",x=y"),
        ("binding data", b"c=", b"biws"),
        ("a token", b"n,,\x01auth=Bearer ", b"t"),
        ("pairs", b"user=tim\x01", b"k=v\x01"),
        ("what grows by SASLprep", b"\0tim\0", "\u{fdfa}".as_bytes()),
        ("marks", b"\0tim\0q", "\u{301}".as_bytes()),
    ];
    let config = configured(every_mechanism(), Hooks::NONE, true);
    let mut highest = 0;
    for mechanism in MECHANISMS {
        let valid = messages(mechanism, "pen");
        for (what, start, repeated) in messages_of_octets {
            let message = [start, &repeated.repeat((9_190 - start.len()) / repeated.len())].concat();
            for steps in 0..=valid.len() {
                let mut input = format!("AUTH {mechanism}");
                let before = valid.iter().take(steps).map(Option::as_deref);
                for (number, message) in before.chain([Some(&*message), Some(&*message)]).enumerate() {
                    let separator = if number == 0 { " " } else { "\r\n" };
                    let encoded = message.map(|message| STANDARD.encode(message));
                    // Behind a command, an empty message is "=" (RFC 4954, section 4).
                    let encoded = encoded.map(|line| if line.is_empty() && number == 0 { "=".into() } else { line });
                    input.extend(encoded.map(|encoded| separator.to_owned() + &encoded));
                }
                let input = (input + "\r\n*\r\n").repeat(3);
                assert!(input.lines().any(|line| line.len() > 12_200) && input.lines().all(|line| line.len() < 12_287));
                for cut in [1000, usize::MAX] {
                    let peak = measure(|| {
                        let mut client = Client::unasked(Arc::clone(&config));
                        client.connection.tls_established(tls()).expect("nothing has been said yet");
                        client.say(EHLO, b"250");
                        input.as_bytes().chunks(cut).for_each(|piece| client.send(piece));
                        assert!(!client.connection.session().is_authenticated());
                    })
                    .bytes_max;
                    highest = highest.max(peak);
                    assert!(peak <= 48 << 10, "{mechanism}, {what} behind {steps}, cut {cut}: {peak} octets");
                }
            }
        }
    }
    assert!(highest > 16 << 10, "the lines get as far as the mechanisms: {highest}");
}

/// Plays a client, and the embedder, without allocating.
struct Client {
    connection: Connection,
    incoming: Incoming<()>,
    /// The code of the last reply.
    code: [u8; 3],
    /// What a look-up finds.
    keys: Option<ScramKeys>,
}

/// Accepts everything, and keeps nothing.
struct Accepts;

impl Handler for Accepts {
    type Message = ();

    fn message(&mut self, _: &Session, _: &Envelope, (): ()) -> Verdict {
        Verdict::Accept
    }
}

impl Client {
    fn new(config: Arc<Config>) -> Self {
        let mut client = Self::unasked(config);
        client.say(b"", b"220");
        client
    }

    fn unasked(config: Arc<Config>) -> Self {
        Self {
            connection: Connection::new(config, Peer::local()),
            incoming: Incoming::new(),
            code: [b'0'; 3],
            keys: None,
        }
    }

    /// Sends `input` whole and checks the code of the last reply.
    fn say(&mut self, input: &[u8], code: &[u8; 3]) {
        self.send(input);
        assert_eq!(&self.code, code, "{:?}", String::from_utf8_lossy(input));
    }

    fn send(&mut self, mut input: &[u8]) {
        loop {
            let answer = match self.connection.poll(Duration::ZERO, &mut input) {
                Action::Reply(reply) => {
                    self.code = *reply.as_bytes().first_chunk().expect("a code");
                    continue;
                }
                Action::Challenge(_) | Action::Flush { .. } | Action::Aborted(_) | Action::Event(_) => continue,
                Action::Content(piece) => {
                    self.incoming.append(piece);
                    continue;
                }
                Action::CallAuthenticator(request) => {
                    let credentials = request.credentials();
                    let right = credentials.authcid() == "tim@example.org"
                        && credentials.password().is_some_and(|password| password.ct_eq(b"tanstaaftanstaaf"));
                    let result = match (request.question(), &self.keys) {
                        (AuthQuestion::ScramKeys(_), Some(keys)) => AuthResult::scram_keys(keys.clone()),
                        _ if right => AuthResult::accept(),
                        _ => AuthResult::refuse(),
                    };
                    request.answer(result)
                }
                Action::CallHook(call) => Accepts.call_hook(call, &mut self.incoming),
                Action::NeedInput { .. } | Action::Close => return,
                other @ (Action::CallAuthHandler(_)
                | Action::Transmit(_)
                | Action::StartTls
                | Action::AwaitAnswer { .. }
                | Action::Pause { .. }) => panic!("{other:?} does not belong here"),
            };
            self.connection.answer(answer).expect("the question is open");
        }
    }
}

fn config(hooks: Hooks, auth_required: bool) -> Arc<Config> {
    configured(Auth::new(), hooks, auth_required)
}

fn configured(auth: Auth, hooks: Hooks, auth_required: bool) -> Arc<Config> {
    let auth = auth.require_tls(false).pause(Duration::ZERO, Duration::ZERO).max_failures(u32::MAX);
    let limits = sansmtp::Limits { max_unrecognized_commands: u32::MAX, ..Default::default() };
    Config::builder("mx.example.org")
        .auth(auth)
        .auth_required(auth_required)
        .smtputf8(true)
        .entropy(zeros)
        .limits(limits)
        .hooks(hooks)
        .build()
        .expect("a configuration")
}

const EHLO: &[u8] = b"EHLO client.example.com\r\n";
const MAIL: &[u8] = b"MAIL FROM:<tim@example.org> SIZE=1000 BODY=8BITMIME SMTPUTF8 AUTH=tim+40example.org\r\n";
const RCPT: &[u8] = b"RCPT TO:<bob@mx.example.org>\r\n";
const AUTH: &[u8] = b"AUTH PLAIN AHRpbUBleGFtcGxlLm9yZwB0YW5zdGFhZnRhbnN0YWFm\r\n";

/// Commands one after the other, with what they are answered.
const COMMANDS: [(&[u8], &[u8; 3]); 37] = [
    (b"NOOP\r\n", b"250"),
    (b"NOOP with an argument\r\n", b"250"),
    (b"HELO client.example.com\r\n", b"250"),
    (b"EHLO client.example.com\r\n", b"250"),
    (b"EHLO\r\n", b"501"),
    (b"VRFY bob\r\n", b"252"),
    (b"VRFY\r\n", b"501"),
    (b"EXPN list\r\n", b"502"),
    (b"HELP\r\n", b"214"),
    (b"XYZZY\r\n", b"500"),
    (b"AHRpbUBleGFtcGxlLm9yZwB3cm9uZw==\r\n", b"500"),
    (b"NOOP \x01\r\n", b"501"),
    (b"\r\n", b"500"),
    (b"NOOP\rNOOP\r\n", b"500"),
    (b"NOOP\nNOOP\r\nNOOP\r\n", b"250"),
    (b"STARTTLS\r\n", b"502"),
    (b"RCPT TO:<bob@mx.example.org>\r\n", b"503"),
    (b"DATA\r\n", b"503"),
    (b"MAIL FROM:tim@example.org\r\n", b"501"),
    (b"MAIL FROM:<tim@example.org> X-UNKNOWN=1\r\n", b"555"),
    (b"MAIL FROM:<>\r\n", b"250"),
    (MAIL, b"503"),
    (b"RSET\r\n", b"250"),
    (MAIL, b"250"),
    (b"RCPT TO:<bob@mx.example.org\r\n", b"501"),
    (RCPT, b"250"),
    (b"RCPT TO:<postmaster>\r\n", b"250"),
    (b"RCPT TO:<@a.example,@b.example:\"quoted string\"@[192.0.2.1]>\r\n", b"250"),
    (b"RCPT TO:<bob@[IPv6:::ffff:192.0.2.1]>\r\n", b"250"),
    (b"RCPT TO:<bob@[x-tag:anything]> NOTIFY=NEVER\r\n", b"555"),
    (b"AUTH PLAIN =\r\n", b"503"),
    (b"DATA\r\n", b"354"),
    (b"Subject: Hello\r\n\r\n..A line with a dot\r\n", b"354"),
    (b"and another.\r\n.\r\n", b"250"),
    (b"MAIL FROM:<tim@example.org>\r\nRCPT TO:<bob@mx.example.org>\r\nDATA\r\n", b"354"),
    (b"A bare \n line feed\r\n.\r\n", b"554"),
    (b"RSET\r\n", b"250"),
];
