// The handler of the README, as it stands there: `tests/readme.rs` compares the two.

use sansmtp::auth::KnownPassword;
use sansmtp::{AuthRequest, AuthResult, Envelope, Handler, Path, Session, Verdict, reply};
use std::sync::Arc;

struct Inbox(Arc<KnownPassword>);

impl Handler for Inbox {
    type Message = Vec<u8>;

    fn authenticate(&mut self, _: &Session, request: &AuthRequest) -> AuthResult {
        // Whatever mechanism asks: SCRAM-SHA-256, PLAIN or LOGIN. Other names are refused with as much work.
        self.0.answer_for("tim", request)
    }

    fn rcpt(&mut self, session: &Session, _: &Envelope, forward_path: Path<'_>) -> Verdict {
        if forward_path.is_in_domain("example.org") || session.is_authenticated() {
            return Verdict::Accept;
        }
        reply!("550 5.7.1 We do not relay").into()
    }

    fn message(&mut self, _: &Session, _: &Envelope, message: Vec<u8>) -> Verdict {
        match std::fs::write("inbox.eml", message) {
            Ok(()) => Verdict::Accept,
            Err(_) => Verdict::TryLater,
        }
    }
}
