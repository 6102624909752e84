// The loop of the README, as it stands there: `tests/readme.rs` compares the two.

use sansmtp::{Action, AuthRequest, AuthResult, Config, Connection, Hook, HookCall, Incoming, ReadBuffer, Verdict};
use std::{io, sync::Arc, time::Instant};

fn drive<S: io::Read + io::Write>(
    config: Arc<Config>,
    mut stream: S,
    users: impl Fn(&AuthRequest) -> AuthResult,
    policy: impl Fn(&HookCall<'_>) -> Verdict,
    store: impl Fn(Vec<u8>) -> Verdict,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut connection = Connection::new(config, sansmtp::Peer::local());
    let (start, mut buffer, mut out) = (Instant::now(), ReadBuffer::new(8192), Vec::new());
    let mut incoming = Incoming::new();
    loop {
        match buffer.poll(&mut connection, start.elapsed()) {
            Action::Reply(reply) => out.extend_from_slice(reply.as_bytes()),
            Action::Challenge(challenge) => out.extend_from_slice(challenge.as_bytes()),
            Action::Flush { .. } => { stream.write_all(&out)?; out.clear() }
            Action::CallAuthenticator(request) => { let result = users(&request); connection.answer(request.answer(result))? }
            Action::CallHook(call) => {
                let verdict = if let Hook::Message { octets } = call.hook() {
                    incoming.take(octets).map_or(Verdict::TryLater, &store)
                } else {
                    policy(&call)
                };
                let answer = call.answer(verdict);
                connection.answer(answer)?
            }
            Action::Content(piece) => incoming.append(piece),
            Action::NeedInput { .. } => match stream.read(buffer.room())? {
                0 => connection.end_of_input(),
                octets => buffer.filled(octets),
            },
            Action::Pause { until } => std::thread::sleep(until.saturating_sub(start.elapsed())),
            Action::Close => return Ok(()),
            // Of no concern here: nothing is answered later, no TLS, no AUTH handler hook, no log.
            Action::AwaitAnswer { .. } | Action::StartTls | Action::Transmit(_) | Action::CallAuthHandler(_) => {}
            Action::Event(_) | Action::Aborted(_) => {}
        }
    }
}
