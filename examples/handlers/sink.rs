//! Takes mail, and throws it away.

use sansmtp::{Envelope, Handler, Hooks, Session, Verdict};

pub(crate) struct Sink;

impl Handler for Sink {
    type Message = ();

    fn hooks(&self) -> Hooks {
        Hooks::MESSAGE
    }

    fn message(&mut self, _: &Session, _: &Envelope, (): ()) -> Verdict {
        Verdict::Accept
    }
}

#[cfg(test)]
mod tests {
    use sansmtp::Config;
    use sansmtp::testing::Play;

    use super::*;

    #[test]
    fn anything_is_taken() {
        let config = Config::builder("mx.example.org").build().unwrap();
        let transcript = r"
            S: 220 mx.example.org ESMTP
            C: HELO client.example
            C: MAIL FROM:<>
            C: RCPT TO:<anybody@example.org>
            C: DATA
            S*: 250
            S*: 250
            S*: 250
            S*: 354
            C: .
            S*: 250
        ";
        Play::new(config).transcript_with(&mut Sink, transcript).unwrap();
    }
}
