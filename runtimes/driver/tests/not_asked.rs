//! What a client hears whose handler could not be asked.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use std::io;
use std::net::TcpListener;

use sansmtp::{Auth, Config, Events, Hooks, Peer};
use sansmtp_driver::{Conversation, Out, Security, Setup, Step, Unanswered};

/// Lets a client say something, and settles all that is asked by it in this way. What the client hears.
fn hear(client: &str, hooks: Hooks, unanswered: Unanswered) -> String {
    let config = Config::builder("mx.example.org").auth(Auth::new().require_tls(false)).build().unwrap();
    let mut setup = Setup::new(config);
    setup.add(TcpListener::bind("127.0.0.1:0").unwrap().into(), Security::Clear);
    let (_listener, service) = setup.start().unwrap().pop().unwrap();
    let (conversation, ()) = setup.open(&service, Peer::local(), None, |_| (hooks, Events::NONE, ())).unwrap();
    let mut conversation: Box<Conversation> = conversation;
    let (mut out, mut heard) = (Out::default(), String::new());
    let mut client = Some(client);
    loop {
        match conversation.step(&mut out) {
            None | Some(Step::Event(..)) => {}
            Some(Step::Write { .. }) => {
                let mut write = |octets: &[u8]| {
                    heard.push_str(std::str::from_utf8(octets).unwrap());
                    Ok(octets.len())
                };
                assert!(out.write(&mut write).unwrap());
            }
            Some(Step::Ask(..)) => conversation.settle(Err(unanswered)),
            Some(Step::Read { .. }) => {
                let said = client.take();
                let read = |room: &mut [u8]| {
                    let said = said.ok_or(io::ErrorKind::WouldBlock)?.as_bytes();
                    room.get_mut(..said.len()).unwrap().copy_from_slice(said);
                    Ok(said.len())
                };
                if !conversation.read(read) {
                    return heard;
                }
            }
            Some(Step::Sleep { .. }) => panic!("{heard}"),
            Some(Step::Close) => return heard + "closed",
        }
    }
}

#[test]
fn what_is_not_asked_is_a_temporary_failure_and_the_end() {
    let mail = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\nNOOP\r\n";
    for (client, hooks, reply) in [
        ("AUTH PLAIN AHRpbQB4\r\nNOOP\r\n", Hooks::NONE, "454 4.7.0 "),
        ("NOOP\r\nNOOP\r\n", Hooks::NOOP, "451 4.3.0 "),
        (mail, Hooks::MAIL, "451 4.3.0 "),
        (mail, Hooks::MESSAGE, "451 4.3.0 "),
    ] {
        let heard = hear(&format!("EHLO c\r\n{client}"), hooks, Unanswered::NotAsked);
        let (_, end) = heard.split_once(" HELP\r\n").unwrap();
        let said: Vec<_> = end.split("\r\n").collect();
        let [.., refused, last, "closed"] = &said[..] else { panic!("{client}: {heard}") };
        assert!(refused.starts_with(reply) && last.starts_with("421 "), "{client}: {heard}");
    }
}
