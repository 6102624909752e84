//! How fast the engine is on its own: octets in, actions out, no socket, beside mailin 0.6 and beside a
//! plain copy of the same octets. `connection_size` measures memory.
//!
//! ```text
//! cargo bench -p sansmtp
//! ```
//!
//! Both engines get the same octets and write their replies to a buffer. mailin wants single lines: its
//! own server copies each one out of a `BufRead`; here it gets them as slices, which is kinder. Neither
//! engine sees a clock.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use mailin::{AuthMechanism, Handler, Response, SessionBuilder};
use sansmtp::{Action, Auth, AuthResult, Config, Connection, Hooks, Verdict};

fn main() {
    divan::main();
}

/// New connection, greeting, EHLO, AUTH PLAIN with an initial response, QUIT. The client waits for each
/// reply.
mod auth_plain_session {
    use super::*;

    #[divan::bench(sample_size = 1000, sample_count = 200)]
    fn sansmtp(bencher: Bencher<'_, '_>) {
        let config = auth_config();
        let mut out = Vec::with_capacity(4096);
        bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
            let mut connection = Connection::new(Arc::clone(&config), black_box(peer()));
            let mut closed = drive(&mut connection, b"", &mut out);
            for read in AUTH_SESSION {
                closed = drive(&mut connection, black_box(read), &mut out);
            }
            assert!(closed && connection.session().is_authenticated());
        });
    }

    #[divan::bench(sample_size = 1000, sample_count = 200)]
    fn mailin(bencher: Bencher<'_, '_>) {
        let mut builder = SessionBuilder::new("mx.example.org");
        builder.enable_auth(AuthMechanism::Plain).insecure_enable_plaintext_auth();
        let mut out = Vec::with_capacity(4096);
        bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
            let mut session = builder.build(black_box(peer().ip()), Accepting);
            out.clear();
            respond(&session.greeting(), &mut out);
            flush(&out);
            let mut closed = false;
            for read in AUTH_SESSION {
                closed = feed(&mut session, black_box(read), &mut out);
            }
            assert!(closed);
        });
    }
}

/// MAIL, RCPT and DATA in one segment, then 1 KiB of content, on a connection that lives on.
mod transaction_of_1_kib {
    use super::*;

    #[divan::bench(sample_size = 1000, sample_count = 200)]
    fn sansmtp(bencher: Bencher<'_, '_>) {
        let (mut connection, mut out) = greeted();
        let content = content(1024);
        bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
            drive(&mut connection, black_box(TRANSACTION), &mut out);
            drive(&mut connection, black_box(&content), &mut out);
        });
        assert!(out.starts_with(b"250 "));
    }

    #[divan::bench(sample_size = 1000, sample_count = 200)]
    fn mailin(bencher: Bencher<'_, '_>) {
        let (mut session, mut out) = greeted_mailin();
        let content = content(1024);
        bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
            feed(&mut session, black_box(TRANSACTION), &mut out);
            feed(&mut session, black_box(&content), &mut out);
        });
        assert!(out.starts_with(b"250 "));
    }
}

/// 10 MiB of text in reads of 64 KiB.
mod content_of_10_mib {
    use super::*;

    #[divan::bench]
    fn sansmtp(bencher: Bencher<'_, '_>) {
        let (mut connection, mut out) = greeted();
        let content = content(10 << 20);
        bencher.counter(BytesCount::new(content.len())).bench_local(|| {
            drive(&mut connection, TRANSACTION, &mut out);
            for read in content.chunks(READ_OCTETS) {
                drive(&mut connection, black_box(read), &mut out);
            }
        });
        assert!(out.starts_with(b"250 "));
    }

    /// Lines are never cut by a read here: mailin leaves it to its caller to join them.
    #[divan::bench]
    fn mailin(bencher: Bencher<'_, '_>) {
        let (mut session, mut out) = greeted_mailin();
        let content = content(10 << 20);
        bencher.counter(BytesCount::new(content.len())).bench_local(|| {
            feed(&mut session, TRANSACTION, &mut out);
            feed(&mut session, black_box(&content), &mut out);
        });
        assert!(out.starts_with(b"250 "));
    }

    #[divan::bench]
    fn memory_copy(bencher: Bencher<'_, '_>) {
        let content = content(10 << 20);
        let mut buffer = vec![0; READ_OCTETS];
        bencher.counter(BytesCount::new(content.len())).bench_local(|| {
            for read in content.chunks(READ_OCTETS) {
                if let Some(room) = buffer.get_mut(..read.len()) {
                    room.copy_from_slice(black_box(read));
                }
                black_box(&buffer);
            }
        });
    }
}

/// The driver loop, until the next read: everything is answered at once, and `out` has the replies
/// then. Says whether the connection is to be closed.
fn drive(connection: &mut Connection, mut input: &[u8], out: &mut Vec<u8>) -> bool {
    out.clear();
    loop {
        match connection.poll(Duration::ZERO, &mut input) {
            Action::Reply(reply) => out.extend_from_slice(reply.as_bytes()),
            Action::Challenge(challenge) => out.extend_from_slice(challenge.as_bytes()),
            Action::Flush { .. } => flush(out),
            Action::Content(piece) => {
                black_box(piece);
            }
            Action::CallAuthenticator(request) => {
                let credentials = request.credentials();
                let right = credentials.authcid() == USER
                    && credentials.password().is_some_and(|password| password.ct_eq(PASSWORD.as_bytes()));
                let answer = request.answer(if right { AuthResult::accept() } else { AuthResult::refuse() });
                connection.answer(answer).expect("the question is open");
            }
            Action::CallHook(hook) => {
                let answer = hook.answer(Verdict::Accept);
                connection.answer(answer).expect("the question is open");
            }
            Action::NeedInput { .. } => return false,
            Action::Close => return true,
            Action::Event(event) => {
                black_box(event);
            }
            other @ (Action::CallAuthHandler(_)
            | Action::Transmit(_)
            | Action::Aborted(_)
            | Action::StartTls
            | Action::AwaitAnswer { .. }
            | Action::Pause { .. }) => panic!("{other:?} does not belong here"),
        }
    }
}

/// The same for mailin: splits lines off, as its own server does.
fn feed(session: &mut mailin::Session<Accepting>, mut input: &[u8], out: &mut Vec<u8>) -> bool {
    out.clear();
    while let Some(newline) = memchr::memchr(b'\n', input) {
        let (line, rest) = input.split_at(newline + 1);
        input = rest;
        let response = session.process(line);
        match response.action {
            mailin::Action::Reply => respond(&response, out),
            mailin::Action::Close => {
                respond(&response, out);
                flush(out);
                return true;
            }
            mailin::Action::NoReply => {}
            mailin::Action::UpgradeTls => panic!("there is no TLS here"),
        }
    }
    flush(out);
    false
}

fn respond(response: &Response, out: &mut Vec<u8>) {
    response.write_to(out).expect("a Vec takes everything");
}

/// Stands for the write to the socket.
fn flush(out: &[u8]) {
    black_box(out);
}

/// Accepts everything, and looks at content no closer than [`drive`] does.
struct Accepting;

impl Handler for Accepting {
    fn data(&mut self, piece: &[u8]) -> std::io::Result<()> {
        black_box(piece);
        Ok(())
    }

    fn auth_plain(&mut self, _authzid: &str, authcid: &str, password: &str) -> Response {
        if authcid == USER && password == PASSWORD {
            mailin::response::AUTH_OK
        } else {
            mailin::response::INVALID_CREDENTIALS
        }
    }
}

fn auth_config() -> Arc<Config> {
    let auth = Auth::new().require_tls(false).pause(Duration::ZERO, Duration::ZERO);
    Config::builder("mx.example.org").auth(auth).build().expect("a configuration")
}

fn greeted() -> (Connection, Vec<u8>) {
    let config = Config::builder("mx.example.org").hooks(Hooks::MESSAGE).build().expect("a configuration");
    let (mut connection, mut out) = (Connection::new(config, peer()), Vec::with_capacity(4096));
    drive(&mut connection, b"", &mut out);
    drive(&mut connection, EHLO, &mut out);
    (connection, out)
}

fn greeted_mailin() -> (mailin::Session<Accepting>, Vec<u8>) {
    let mut out = Vec::with_capacity(4096);
    let mut session = SessionBuilder::new("mx.example.org").build(peer().ip(), Accepting);
    respond(&session.greeting(), &mut out);
    feed(&mut session, EHLO, &mut out);
    (session, out)
}

fn peer() -> SocketAddr {
    (IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000).into()
}

/// Lines of 76 characters, none of which begins with a dot, and the end of mail data.
fn content(octets: usize) -> Vec<u8> {
    let line = b"Lorem ipsum dolor sit amet, consectetur adipisici elit, sed eiusmod tempor i\r\n";
    let mut content: Vec<u8> = line.iter().copied().cycle().take(octets / line.len() * line.len()).collect();
    content.extend_from_slice(b".\r\n");
    content
}

const READ_OCTETS: usize = 64 << 10;

const EHLO: &[u8] = b"EHLO client.example.com\r\n";
/// What the client sends, each in a segment of its own.
const AUTH_SESSION: [&[u8]; 3] = [EHLO, b"AUTH PLAIN AHRpbUBleGFtcGxlLm9yZwB0YW5zdGFhZnRhbnN0YWFm\r\n", b"QUIT\r\n"];
const USER: &str = "tim@example.org";
const PASSWORD: &str = "tanstaaftanstaaf";

const TRANSACTION: &[u8] = b"MAIL FROM:<alice@client.example.com>\r\nRCPT TO:<bob@mx.example.org>\r\nDATA\r\n";
