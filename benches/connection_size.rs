//! What an idle connection owns: the value itself and what it holds on the heap. Apart from `engine`,
//! because a counting allocator would slow both engines down there.

use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use sansmtp::{Action, Auth, AuthResult, Config, Connection, Hooks, Peer, Verdict};

fn main() {
    let auth = Auth::new().require_tls(false);
    let config = Config::builder("mx.example.org").auth(auth).hooks(Hooks::ALL).build().expect("a configuration");
    println!("An idle connection, in octets:\n{:24}{:>8}{:>8}{:>8}", "", "size_of", "heap", "all");
    let mut connection = None;
    let mut heap = 0;
    for (name, input) in STEPS {
        heap += measure(|| {
            let connection = connection.get_or_insert_with(|| Connection::new(Arc::clone(&config), Peer::local()));
            drive(connection, input);
        })
        .bytes_current;
        let size = size_of::<Connection>() as i64;
        println!("{name:24}{size:>8}{heap:>8}{:>8}", size + heap);
    }
}

fn drive(connection: &mut Connection, mut input: &[u8]) {
    loop {
        let answer = match connection.poll(Duration::ZERO, &mut input) {
            Action::CallAuthenticator(request) => request.answer(AuthResult::accept()),
            Action::CallHook(hook) => hook.answer(Verdict::Accept),
            Action::NeedInput { .. } => return,
            Action::Flush { .. } | Action::Reply(_) | Action::Event(_) | Action::Content(_) => continue,
            other @ (Action::CallAuthHandler(_)
            | Action::Challenge(_)
            | Action::Transmit(_)
            | Action::Aborted(_)
            | Action::StartTls
            | Action::AwaitAnswer { .. }
            | Action::Pause { .. }
            | Action::Close) => panic!("{other:?} does not belong here"),
        };
        connection.answer(answer).expect("the question is open");
    }
}

const STEPS: [(&str, &[u8]); 4] = [
    ("after connecting", b""),
    ("after EHLO", b"EHLO client.example.com\r\n"),
    ("after AUTH", b"AUTH PLAIN AHRpbUBleGFtcGxlLm9yZwB0YW5zdGFhZnRhbnN0YWFm\r\n"),
    (
        "after a transaction",
        b"MAIL FROM:<tim@example.org> BODY=8BITMIME SIZE=7\r\nRCPT TO:<bob@mx.example.org>\r\n\
        RCPT TO:<alice@mx.example.org>\r\nDATA\r\nHello\r\n.\r\n",
    ),
];
