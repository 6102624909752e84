//! What a connection and its driver hold for a client that has not authenticated, whatever it sends and however little it
//! reads. Under TLS the engine's layer holds more: `tests/bounded.rs` of the engine.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use std::io;
use std::net::TcpListener;

use allocation_counter::measure;
use sansmtp::{Answer, Auth, AuthResult, Config, Events, Hooks, Limits, Peer, Verdict};
use sansmtp_driver::{Conversation, Out, Question, Security, Service, Setup, Step};

/// One line in a buffer that has grown to it; what was read and not looked at; replies.
const MAX_HELD: i64 = 22 << 10;
/// With what was read of content and behind it.
const MAX_HELD_WITH_CONTENT: i64 = 80 << 10;

fn set_up() -> (Setup, Service) {
    let limits = Limits { max_unrecognized_commands: u32::MAX, max_errors: None, ..Limits::default() };
    let auth = Auth::new().require_tls(false);
    let config = Config::builder("mx.example.org").auth(auth).limits(limits).build().unwrap();
    let mut setup = Setup::new(config);
    setup.add(TcpListener::bind("127.0.0.1:0").unwrap().into(), Security::Clear);
    let (_, service) = setup.start().unwrap().pop().unwrap();
    (setup, service)
}

fn answer(question: Question<'_>) -> Option<Answer> {
    match question {
        Question::Hook(call) => Some(call.answer(Verdict::Accept)),
        Question::Authenticator(_, request) => Some(request.answer(AuthResult::refuse())),
        Question::AuthHandler(..) | Question::Content(_) | Question::Aborted(_) => None,
    }
}

/// Serves a client that has sent all of `said`, and takes so much of what is written to it, until it has to be waited for.
fn serve(conversation: &mut Conversation, out: &mut Out, mut said: &[u8], mut window: usize) {
    loop {
        match conversation.step(out) {
            None | Some(Step::Event(..)) => {}
            Some(Step::Write { .. }) => {
                let write = |octets: &[u8]| {
                    let taken = octets.len().min(window);
                    window -= taken;
                    if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
                };
                if !out.write(write).unwrap() {
                    return;
                }
            }
            Some(Step::Ask(question, _)) => {
                let answer = answer(question);
                conversation.settle(Ok(answer));
            }
            Some(Step::Read { .. }) => {
                let read = |room: &mut [u8]| {
                    if said.is_empty() {
                        Err(io::ErrorKind::WouldBlock.into())
                    } else {
                        io::Read::read(&mut said, room)
                    }
                };
                if !conversation.read(read) {
                    return;
                }
            }
            Some(Step::Sleep { .. }) => return,
            Some(Step::Close) => panic!("closed"),
        }
    }
}

/// What is held at last.
fn held(said: &[u8], window: usize) -> i64 {
    let (setup, service) = set_up();
    let mut all = None;
    let memory = measure(|| {
        let (mut conversation, ()) =
            setup.open(&service, Peer::local(), None, |_| (Hooks::MESSAGE, Events::ALL, ())).unwrap();
        let mut out = Out::default();
        serve(&mut conversation, &mut out, said, window);
        all = Some((conversation, out));
    });
    memory.bytes_current + i64::try_from(size_of::<Out>()).unwrap()
}

#[test]
fn who_does_not_read_is_not_read_from() {
    let auth = [&b"AUTH PLAIN "[..], &[b'A'; 12_270]].concat();
    let cases: [(&str, Vec<u8>); 7] = [
        ("nothing", Vec::new()),
        ("an AUTH line that does not end", auth.clone()),
        ("AUTH lines", [&auth[..], b"\r\n"].concat().repeat(33)),
        ("RSET", b"RSET\r\n".repeat(66_667)),
        ("NOOP", b"NOOP\r\n".repeat(66_667)),
        ("EHLO", b"EHLO client.example\r\n".repeat(20_000)),
        ("unknown commands", b"X\r\n".repeat(133_333)),
    ];
    for (case, said) in cases {
        for window in [100, 1000, 10_000, 100_000] {
            let held = held(&said, window);
            assert!(held <= MAX_HELD, "{case} and {window} octets read: {held}");
        }
    }
}

/// Content is read with a large buffer; what comes behind it stays in that until there is room for its replies.
#[test]
fn what_comes_with_content_is_not_more_than_one_read() {
    let mail = "EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n";
    let begin = [mail.as_bytes(), &vec![b' '; 4096 - mail.len()], b"\r\n"].concat();
    for said in
        [[&begin[..], b".\r\n", &b"RSET\r\n".repeat(66_667)].concat(), [&begin[..], &b"x\r\n".repeat(100_000)].concat()]
    {
        let held = held(&said, 2000);
        assert!(held <= MAX_HELD_WITH_CONTENT, "{held}");
    }
}
