//! Each message is gathered by itself, whatever has become of those before it.

mod support {
    pub(crate) mod voids;
}

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use proptest::prelude::*;
use sansmtp::testing::Play;
use sansmtp::{
    AbortReason, Action, AsyncMailData, Config, Connection, Envelope, Handler, Hook, Hooks, Incoming, MailData, Peer,
    Piece, Session, Verdict,
};

use support::voids::{VOID, bounded};

fn config() -> Arc<Config> {
    bounded(Config::builder("mx.example.org")).build().expect("a sound configuration")
}

/// Stores what comes, and cleans nothing up.
#[derive(Default)]
struct Keeps {
    stored: Vec<Vec<u8>>,
    /// What `data` puts in front, where it is asked.
    prepared: Option<&'static [u8]>,
    voids: Vec<AbortReason>,
}

impl Handler for Keeps {
    type Message = Vec<u8>;

    fn hooks(&self) -> Hooks {
        if self.prepared.is_some() { Hooks::ALL } else { Hooks::MESSAGE }
    }

    fn data(&mut self, _: &Session, envelope: &Envelope, message: &mut Vec<u8>) -> Verdict {
        message.extend_from_slice(self.prepared.unwrap_or_default());
        let refused = envelope.reverse_path().is_some_and(|path| path.local_part() == "refused");
        if refused { Verdict::TryLater } else { Verdict::Accept }
    }

    fn message(&mut self, _: &Session, _: &Envelope, message: Vec<u8>) -> Verdict {
        self.stored.push(message);
        Verdict::Accept
    }

    fn aborted(&mut self, aborted: sansmtp::Aborted) {
        self.voids.push(aborted.reason);
    }
}

#[test]
fn a_message_behind_a_void_one_is_stored_alone() {
    for void in VOID {
        for content in ["hello\\r\\n", "", "..\\r\\n"] {
            for prepared in [None, Some(&b"X-Seen: here\r\n"[..])] {
                for cut in [usize::MAX, 1, 2, 3, 5, 8] {
                    let mut handler = Keeps { prepared, ..Keeps::default() };
                    let play = Play::new(config()).cut(cut);
                    play.transcript_with(&mut handler, &void.transcript(content)).unwrap();
                    let content = content.replace("\\r\\n", "\r\n").replace("..", ".");
                    let expected = [prepared.unwrap_or_default(), content.as_bytes()].concat();
                    assert_eq!(handler.stored, [expected], "{}, cut {cut}", void.name);
                    assert_eq!(handler.voids.len(), 1, "{}", void.name);
                }
            }
        }
    }
}

/// Where one handler serves several connections, too.
#[test]
fn a_connection_that_ends_in_the_middle_leaves_nothing_to_the_next() {
    let begun = "S*: 220\nC: EHLO c\nS*: 250\nC: MAIL FROM:<a@b>\nS*: 250\nC: RCPT TO:<c@d>\nS*: 250\n";
    for prepared in [None, Some(&b"X-Seen: here\r\n"[..])] {
        let mut handler = Keeps { prepared, ..Keeps::default() };
        let mut play = |lines: &str| {
            let transcript = format!("{begun}{lines}");
            Play::new(config()).transcript_with(&mut handler, &transcript).unwrap();
        };
        play("C: DATA\nS*: 354\nC: void\nX: eof\nA: connection-lost\nS: <closed>");
        play("C: BDAT 6\nC: void\nS*: 250\nX: eof\nA: connection-lost\nS: <closed>");
        play("C: DATA\nS*: 354\nC: void\nT: 600\nA: timeout\nS*: 421\nS: <closed>");
        play("C: DATA\nS*: 354\nC: hello\nC: .\nS*: 250");
        assert_eq!(handler.stored, [[prepared.unwrap_or_default(), b"hello\r\n"].concat()]);
    }
}

/// What `data` prepares for a message that it refuses belongs to no other.
#[test]
fn a_message_that_is_refused_at_data_leaves_nothing() {
    for refused in ["C: DATA\nS*: 451", "C: BDAT 6 LAST\nC: void\nS*: 451"] {
        let mut handler = Keeps { prepared: Some(b"X-Seen: here\r\n"), ..Keeps::default() };
        let transcript = format!(
            "S*: 220\nC: EHLO c\nS*: 250\nC: MAIL FROM:<refused@b>\nS*: 250\nC: RCPT TO:<c@d>\nS*: 250\n{refused}
            C: RSET\nS*: 250\nC: MAIL FROM:<a@b>\nS*: 250\nC: RCPT TO:<c@d>\nS*: 250\nC: DATA\nS*: 354\nC: .\nS*: 250"
        );
        Play::new(config()).transcript_with(&mut handler, &transcript).unwrap();
        assert_eq!(handler.stored, [b"X-Seen: here\r\n"]);
    }
}

/// Other commands may come between the chunks of one message.
#[test]
fn chunks_with_commands_between_them_are_one_message() {
    for prepared in [None, Some(&b"X-Seen: here\r\n"[..])] {
        for cut in [usize::MAX, 1, 4] {
            let mut handler = Keeps { prepared, ..Keeps::default() };
            let transcript = "S*: 220\nC: EHLO c\nS*: 250\nC: MAIL FROM:<a@b>\nS*: 250\nC: RCPT TO:<c@d>\nS*: 250
                C: BDAT 5\nC: one\nS*: 250\nC: NOOP\nS*: 250\nC: VRFY x\nS*: 252\nC: MAIL FROM:<e@f>\nS*: 503
                C: BDAT 0\nS*: 250\nC: BDAT 5\nC: two\nS*: 250\nC: XXXX\nS*: 500\nC: BDAT 0 LAST\nS*: 250";
            Play::new(config()).cut(cut).transcript_with(&mut handler, transcript).unwrap();
            assert_eq!(handler.stored, [[prepared.unwrap_or_default(), b"one\r\ntwo\r\n"].concat()]);
        }
    }
}

/// Panics over a piece with `!` in it.
#[derive(Default)]
struct Fragile(Vec<u8>);

impl MailData for Fragile {
    fn append(&mut self, piece: &[u8]) {
        assert!(!piece.contains(&b'!'), "as asked");
        self.0.extend_from_slice(piece);
    }
}

#[test]
fn a_message_that_has_lost_a_piece_is_not_given_out() {
    let pieces = [&b"one"[..], b"two!", b"three"];
    for first_lost in 0..3 {
        let mut incoming = Incoming::<Fragile>::new();
        let mut offset = 0;
        for (number, piece) in pieces.iter().enumerate() {
            let octets = if number == first_lost { piece.to_vec() } else { piece.iter().map(|_| b'x').collect() };
            let piece = Piece::new(offset, if number == first_lost { b"!" } else { &octets });
            offset += u64::try_from(piece.len()).unwrap();
            let appended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| incoming.append(piece))).is_ok();
            assert_eq!(appended, number != first_lost);
        }
        assert!(incoming.take(offset).is_none());
        // The next one has nothing to do with it.
        incoming.append(Piece::new(0, b"whole"));
        assert_eq!(incoming.take(5).map(|message| message.0), Some(b"whole".to_vec()));
        assert_eq!(incoming.take(0).map(|message| message.0), Some(Vec::new()));
    }
}

/// Waits for ever over a piece with `!` in it.
#[derive(Debug, Default, PartialEq)]
struct Slow(Vec<u8>);

impl AsyncMailData for Slow {
    async fn append(&mut self, piece: &[u8]) {
        if piece.contains(&b'!') {
            std::future::pending::<()>().await;
        }
        self.0.extend_from_slice(piece);
    }
}

#[test]
fn a_message_whose_piece_was_given_up_is_not_given_out() {
    let mut incoming = Incoming::<Slow>::new();
    let mut is_appended = |piece| {
        let appending = pin!(incoming.append_async(piece));
        appending.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    };
    assert!(is_appended(Piece::new(0, b"one")));
    assert!(!is_appended(Piece::new(3, b"!")));
    assert!(is_appended(Piece::new(4, b"three")));
    assert_eq!(incoming.take(9), None);
    assert!(!pin!(incoming.append_async(Piece::new(0, b"!"))).poll(&mut Context::from_waker(Waker::noop())).is_ready());
    assert_eq!(incoming.take(1), None);
}

/// Knows how many of its messages there are.
struct Watches(Arc<()>);

struct Watched(Arc<()>);

impl MailData for Watched {
    fn append(&mut self, _: &[u8]) {
        assert_eq!(Arc::strong_count(&self.0), 2, "there is another one");
    }
}

impl Watches {
    fn assert_alone(&self) {
        assert_eq!(Arc::strong_count(&self.0), 1, "a message is still there");
    }
}

impl Handler for Watches {
    type Message = Option<Watched>;

    fn mail(&mut self, _: &Session, _: &Envelope) -> Verdict {
        self.assert_alone();
        Verdict::Accept
    }

    fn data(&mut self, _: &Session, envelope: &Envelope, message: &mut Option<Watched>) -> Verdict {
        self.assert_alone();
        *message = Some(Watched(Arc::clone(&self.0)));
        let refused = envelope.reverse_path().is_some_and(|path| path.local_part() == "refused");
        if refused { Verdict::TryLater } else { Verdict::Accept }
    }

    fn message(&mut self, _: &Session, _: &Envelope, message: Option<Watched>) -> Verdict {
        if message.is_some() { Verdict::Accept } else { Verdict::TryLater }
    }

    fn aborted(&mut self, _: sansmtp::Aborted) {
        self.assert_alone();
    }
}

#[test]
fn a_message_that_is_void_is_dropped_at_once() {
    for void in VOID {
        let mut watches = Watches(Arc::new(()));
        Play::new(config()).transcript_with(&mut watches, &void.transcript("hello\\r\\n")).unwrap();
        watches.assert_alone();
    }
    for end in ["C: DATA\nS*: 354\nC: void", "C: BDAT 6\nC: void\nS*: 250", "C: RSET\nS*: 250"] {
        let mut watches = Watches(Arc::new(()));
        let transcript = format!(
            "S*: 220\nC: EHLO c\nS*: 250\nC: MAIL FROM:<refused@b>\nS*: 250\nC: RCPT TO:<c@d>\nS*: 250\nC: DATA\nS*: 451
            C: RSET\nS*: 250\nC: MAIL FROM:<a@b>\nS*: 250\nC: RCPT TO:<c@d>\nS*: 250\n{end}"
        );
        Play::new(config()).transcript_with(&mut watches, &transcript).unwrap();
        watches.assert_alone();
    }
}

/// A message of a session, and whether it comes to its end.
#[derive(Clone, Debug)]
struct Sent {
    content: Vec<u8>,
    void: Option<&'static str>,
    chunked: bool,
}

fn sent() -> impl Strategy<Value = Sent> {
    let content = proptest::collection::vec(proptest::sample::select(b"ab.\n".to_vec()), 0..40);
    let void = proptest::option::of(proptest::sample::select(vec!["\n\n", "\0", "\rx", "RSET", "EHLO"]));
    (content, void, any::<bool>()).prop_map(|(text, void, chunked)| {
        let content = String::from_utf8(text)
            .expect("it is ASCII")
            .split('\n')
            .map(|line| line.to_owned() + "\r\n")
            .collect::<String>();
        Sent { content: content.into_bytes(), void, chunked }
    })
}

impl Sent {
    /// The commands for it, behind RCPT. Whether it is accepted in the end.
    fn send(&self, session: &mut Vec<u8>) -> bool {
        let mut content = self.content.clone();
        match self.void {
            // Only a message in chunks can be given up.
            Some(command @ ("RSET" | "EHLO")) => {
                let command = if command == "EHLO" { "EHLO c\r\n" } else { "RSET\r\n" };
                session.extend_from_slice(format!("BDAT {}\r\n", content.len()).as_bytes());
                session.extend_from_slice(&content);
                session.extend_from_slice(command.as_bytes());
                return false;
            }
            Some(octets) => content.extend_from_slice(format!("{octets}\r\n").as_bytes()),
            None => {}
        }
        if self.chunked {
            let (first, last) = content.split_at(content.len() / 2);
            session.extend_from_slice(format!("BDAT {}\r\n", first.len()).as_bytes());
            session.extend_from_slice(first);
            session.extend_from_slice(format!("NOOP\r\nBDAT {} LAST\r\n", last.len()).as_bytes());
            session.extend_from_slice(last);
        } else {
            session.extend_from_slice(b"DATA\r\n");
            let text = String::from_utf8(content).expect("it is ASCII");
            for line in text.split_inclusive("\r\n") {
                let dot = if line.starts_with('.') { "." } else { "" };
                session.extend_from_slice(format!("{dot}{line}").as_bytes());
            }
            session.extend_from_slice(b".\r\n");
        }
        self.void.is_none()
    }
}

/// Those that a loop stores which does nothing about messages that are void.
fn stored(session: &[u8], prepares: bool, mut cuts: impl Iterator<Item = usize>) -> Vec<Vec<u8>> {
    let config = Config::builder("mx.example.org")
        .extensions(sansmtp::Extensions { chunking: true, ..sansmtp::Extensions::default() })
        .limits(sansmtp::Limits { max_errors: None, ..sansmtp::Limits::default() })
        .build()
        .expect("a sound configuration");
    let mut connection = Connection::new(config, Peer::local());
    let mut handler = Keeps { prepared: prepares.then_some(&b"prepared "[..]), ..Keeps::default() };
    connection.set_hooks(handler.hooks());
    let (mut rest, mut input, mut incoming) = (session, &[][..], Incoming::new());
    loop {
        match connection.poll(Duration::ZERO, &mut input) {
            Action::Content(piece) => incoming.append(piece),
            Action::CallHook(call) => {
                assert!(prepares || matches!(call.hook(), Hook::Message { .. }));
                let answer = handler.call_hook(call, &mut incoming);
                connection.answer(answer).expect("it was asked");
            }
            Action::NeedInput { .. } if rest.is_empty() => return handler.stored,
            Action::NeedInput { .. } => (input, rest) = rest.split_at(cuts.next().unwrap_or(1).clamp(1, rest.len())),
            Action::Reply(_) | Action::Flush { .. } | Action::Aborted(_) | Action::Event(_) => {}
            other @ (Action::Challenge(_)
            | Action::Transmit(_)
            | Action::CallAuthenticator(_)
            | Action::CallAuthHandler(_)
            | Action::StartTls
            | Action::AwaitAnswer { .. }
            | Action::Pause { .. }
            | Action::Close) => panic!("{other:?}"),
        }
    }
}

proptest! {
    /// However they come one behind another, each message that is accepted is its own octets.
    #[test]
    fn each_accepted_message_is_its_own_octets(
        messages in proptest::collection::vec(sent(), 1..8),
        cuts in proptest::collection::vec(1_usize..100, 0..50),
        prepares in any::<bool>(),
    ) {
        let (mut session, mut expected) = (b"EHLO c\r\n".to_vec(), Vec::new());
        for message in &messages {
            session.extend_from_slice(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n");
            if message.send(&mut session) {
                let prepared: &[u8] = if prepares { b"prepared " } else { b"" };
                expected.push([prepared, &message.content].concat());
            }
        }
        prop_assert_eq!(stored(&session, prepares, cuts.into_iter()), expected);
    }
}
