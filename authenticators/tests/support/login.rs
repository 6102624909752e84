//! Logs in, as a client does: by what the engine makes of an AUTH command.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sansmtp::{Action, Auth, Config, Connection, Peer, TlsInfo};
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
///
/// The lines that follow are the responses to challenges; behind them, to what is wrong with a token, ^A (RFC 7628,
/// section 3.2.3).
pub(crate) fn auth(authenticator: &(impl Authenticator + ?Sized), words: &str) -> u16 {
    auth_as(&offer(Auth::new()), authenticator, words)
}

/// The words of XOAUTH2 with a token that is to be this user's.
pub(crate) fn xoauth2(user: &str, token: &str) -> String {
    format!("XOAUTH2 {}", BASE64_STANDARD.encode(format!("user={user}\x01auth=Bearer {token}\x01\x01")))
}

/// The words of OAUTHBEARER, with the authzid if it is not empty.
pub(crate) fn oauthbearer(authzid: &str, token: &str) -> String {
    let authzid = if authzid.is_empty() { String::new() } else { format!("a={authzid}") };
    format!("OAUTHBEARER {}", BASE64_STANDARD.encode(format!("n,{authzid},\x01auth=Bearer {token}\x01\x01")))
}

/// Offers all mechanisms that need nothing of TLS.
pub(crate) fn offer(auth: Auth) -> Arc<Config> {
    let offered = auth
        .mechanism(sansmtp::auth::mechanism::OAuthBearer::new())
        .mechanism(sansmtp::auth::mechanism::XOAuth2::new())
        .require_tls(false);
    Config::builder("mx.example.org")
        .auth(offered.pause(Duration::ZERO, Duration::ZERO))
        .starttls(true)
        .build()
        .unwrap()
}

/// As [`auth`], with a configuration of one's own.
pub(crate) fn auth_as(config: &Arc<Config>, authenticator: &(impl Authenticator + ?Sized), words: &str) -> u16 {
    auth_over(None, config, authenticator, words)
}

/// As [`auth_as`], under TLS if there is any.
pub(crate) fn auth_over(
    mut tls: Option<TlsInfo>,
    config: &Arc<Config>,
    authenticator: &(impl Authenticator + ?Sized),
    words: &str,
) -> u16 {
    let mut connection = Connection::new(config.clone(), Peer::local());
    let mut lines = words.split("\r\n");
    let auth = format!("EHLO client.example.com\r\nAUTH {}\r\n", lines.next().unwrap());
    let starts = tls.is_some().then(|| "EHLO client.example.com\r\nSTARTTLS\r\n".to_owned());
    let (mut line, mut next) = starts.map_or((auth.clone(), None), |starts| (starts, Some(auth)));
    let mut last = 0;
    loop {
        let mut challenged = false;
        let mut input = line.as_bytes();
        loop {
            match connection.poll(Duration::ZERO, &mut input) {
                Action::Reply(reply) => last = reply.code(),
                Action::Challenge(_) => challenged = true,
                Action::CallAuthenticator(request) => {
                    let result = authenticator.authenticate(&request);
                    connection.answer(request.answer(result)).unwrap();
                }
                Action::CallHook(call) => {
                    let answer = call.answer(sansmtp::Verdict::Accept);
                    connection.answer(answer).unwrap();
                }
                Action::NeedInput { .. } | Action::Close => break,
                Action::Pause { until } => panic!("a pause until {until:?} that nobody asked for"),
                Action::StartTls => connection.tls_established(tls.take().unwrap()).unwrap(),
                Action::Flush { .. } | Action::Event(_) => {}
                other @ (Action::Transmit(_)
                | Action::CallAuthHandler(_)
                | Action::Content(_)
                | Action::Aborted(_)
                | Action::AwaitAnswer { .. }) => panic!("{other:?} does not belong here"),
            }
        }
        line = match next.take() {
            Some(auth) => auth,
            None if challenged => format!("{}\r\n", lines.next().unwrap_or("AQ==")),
            None => return last,
        };
    }
}

/// So many at the same time, each by a thread of its own. How many got the code.
pub(crate) fn at_once(count: usize, door: &Arc<dyn Door>, user: &str, password: &str, code: u16) -> usize {
    std::thread::scope(|scope| {
        let attempts: Vec<_> = (0..count).map(|_| scope.spawn(|| door.log_in(user, password) == code)).collect();
        attempts.into_iter().map(|attempt| usize::from(attempt.join().unwrap())).sum()
    })
}
