//! A mechanism of one's own: two rounds, its own data for the authenticator, and a dialogue with it that
//! needs no socket. The client says its name, the server asks for a code, and the authenticator is asked
//! about both.
//!
//! ```sh
//! cargo run --example custom_mechanism
//! ```

use std::error::Error;
use std::time::Duration;

use sansmtp::auth::{Credentials, Exchange, Mechanism, Start, Step};
use sansmtp::{Action, Auth, AuthRequest, AuthResult, Config, Connection, Peer, Secret, SecretRef};

/// `X-CODE`: registered once; begins an exchange for each AUTH command.
struct OneTimeCode;

struct Rounds {
    named: bool,
}

/// What the authenticator gets.
struct Code(Secret);

impl Mechanism for OneTimeCode {
    fn name(&self) -> &str {
        "X-CODE"
    }

    fn begin(&self, _: &Start<'_>) -> Box<dyn Exchange> {
        Box::new(Rounds { named: false })
    }
}

impl Exchange for Rounds {
    /// Sees responses as they are: base64, `*`, line lengths and counting are the engine's.
    fn step(&mut self, response: Option<SecretRef<'_>>, credentials: &mut Credentials) -> Step {
        let response = response.map_or(&[][..], SecretRef::expose_secret);
        if self.named {
            return Step::Ask(Box::new(Code(response.into())));
        }
        self.named = true;
        match credentials.set_authcid(response) {
            Ok(()) => Step::Challenge(b"code?".into()),
            Err(malformed) => malformed.into(),
        }
    }
}

fn authenticate(request: &AuthRequest) -> AuthResult {
    match request.data::<Code>() {
        Some(Code(code)) if request.credentials().authcid() == "tim" && code.ct_eq(b"314159") => AuthResult::accept(),
        Some(_) => AuthResult::refuse(),
        None => AuthResult::cannot_tell(),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let auth = Auth::without_mechanisms().mechanism(OneTimeCode).require_tls(false);
    let mut connection = Connection::new(Config::builder("mx.example.org").auth(auth).build()?, Peer::local());
    let mut now = Duration::ZERO;
    // "tim" with a wrong code, and with the right one, in base64.
    for line in ["EHLO c.example", "AUTH X-CODE dGlt", "MjcxODI4", "AUTH X-CODE dGlt", "MzE0MTU5", "QUIT"] {
        println!("C: {line}");
        let octets = format!("{line}\r\n");
        let mut input = octets.as_bytes();
        loop {
            match connection.poll(now, &mut input) {
                Action::Reply(reply) => println!("S: {reply}"),
                Action::Challenge(challenge) => println!("S: {challenge}"),
                Action::CallAuthenticator(request) => {
                    let result = authenticate(&request);
                    connection.answer(request.answer(result))?;
                }
                Action::Event(event) => println!("   {event:?}"),
                // Nobody has to wait before a wrong code is refused here.
                Action::Pause { until } => now = until,
                Action::NeedInput { .. } | Action::Close => break,
                // There is no socket, no TLS, no mail and no hook.
                Action::Flush { .. } | Action::Transmit(_) | Action::StartTls | Action::AwaitAnswer { .. } => {}
                Action::Content(_) | Action::Aborted(_) | Action::CallHook(_) | Action::CallAuthHandler(_) => {}
            }
        }
    }
    println!("logged in as {:?}", connection.session().login());
    Ok(())
}
