//! Logs in, as a client does: by what the engine makes of an AUTH command.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sansmtp::{Action, Auth, Config, Connection, Peer};
use sansmtp_authenticators::Authenticator;

/// A way in. The code of the reply to an attempt: 235, 535, 454, ….
pub(crate) trait Door: Send + Sync {
    fn log_in(&self, user: &str, password: &str) -> u16;
}

/// AUTH PLAIN.
impl<A: Authenticator + ?Sized> Door for A {
    fn log_in(&self, user: &str, password: &str) -> u16 {
        auth(self, &format!("PLAIN {}", BASE64_STANDARD.encode(format!("\0{user}\0{password}"))))
    }
}

/// Sends `AUTH` with these words; all mechanisms that need nothing of TLS are offered. The code of the reply.
pub(crate) fn auth(authenticator: &(impl Authenticator + ?Sized), words: &str) -> u16 {
    let offered = Auth::new()
        .mechanism(sansmtp::auth::mechanism::OAuthBearer::new())
        .mechanism(sansmtp::auth::mechanism::XOAuth2::new())
        .require_tls(false);
    let config = Config::builder("mx.example.org").auth(offered.pause(Duration::ZERO, Duration::ZERO)).build().unwrap();
    let mut connection = Connection::new(config, Peer::local());
    let input = format!("EHLO client.example.com\r\nAUTH {words}\r\n");
    let mut input = input.as_bytes();
    let mut last = 0;
    loop {
        match connection.poll(Duration::ZERO, &mut input) {
            Action::Reply(reply) => last = reply.code(),
            Action::CallAuthenticator(request) => {
                let result = authenticator.authenticate(&request);
                connection.answer(request.answer(result)).unwrap();
            }
            Action::CallHook(call) => {
                let answer = call.answer(sansmtp::Verdict::Accept);
                connection.answer(answer).unwrap();
            }
            Action::NeedInput { .. } | Action::Close => return last,
            Action::Pause { until } => panic!("a pause until {until:?} that nobody asked for"),
            Action::Flush { .. } | Action::Event(_) => {}
            other @ (Action::Challenge(_)
            | Action::Transmit(_)
            | Action::CallAuthHandler(_)
            | Action::Content(_)
            | Action::Aborted(_)
            | Action::StartTls
            | Action::AwaitAnswer { .. }) => panic!("{other:?} does not belong here"),
        }
    }
}

/// So many at the same time, each by a thread of its own. How many got the code.
pub(crate) fn at_once(count: usize, door: &Arc<dyn Door>, user: &str, password: &str, code: u16) -> usize {
    std::thread::scope(|scope| {
        let attempts: Vec<_> = (0..count).map(|_| scope.spawn(|| door.log_in(user, password) == code)).collect();
        attempts.into_iter().map(|attempt| usize::from(attempt.join().unwrap())).sum()
    })
}
