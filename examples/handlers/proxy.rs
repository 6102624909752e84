//! Stands for another server: each command of a transaction is passed on when it comes, and answered as that server
//! answers it.
//!
//! So what the client is told is true at every step. aiosmtpd's handler takes the message first, and says 250 whatever
//! becomes of it.

use std::io;

use sansmtp::{Body, Envelope, Handler, Hooks, MailData, Path, Session, Verdict, reply};

use crate::next_hop::{Failure, NextHop, Reply};

/// One connection's handler, with a connection of its own to the next hop.
pub(crate) struct Proxy {
    address: String,
    hop: Option<NextHop>,
}

/// A message on its way, with the connection that it takes. Dropped in the middle, it closes that, which is how the next
/// hop learns that there is no message.
pub(crate) struct Transfer {
    hop: NextHop,
    /// Whether all of it could be sent so far.
    sent: io::Result<()>,
}

impl MailData for Transfer {
    fn append(&mut self, piece: &[u8]) {
        if self.sent.is_ok() {
            self.sent = self.hop.content(piece);
        }
    }
}

impl Proxy {
    pub(crate) fn new(address: String) -> Self {
        Self { address, hop: None }
    }

    /// Has the next hop answer. Where it cannot, or says that it is about to close, the connection to it is over.
    fn answer(&mut self, ask: impl FnOnce(&mut NextHop) -> io::Result<Reply>) -> Result<Reply, Verdict> {
        let lost = || Verdict::from(reply!("451 4.4.2 The connection to the next hop was lost"));
        let hop = self.hop.as_mut().ok_or_else(lost)?;
        match ask(hop) {
            Ok(reply) => {
                if reply.code == CLOSING {
                    self.hop = None;
                }
                Ok(reply)
            }
            Err(error) => {
                eprintln!("{}: {error}", self.address);
                self.hop = None;
                Err(lost())
            }
        }
    }

    fn pass_on(&mut self, line: &str) -> Verdict {
        self.answer(|hop| hop.command(line)).map_or_else(|lost| lost, |reply| verdict(&reply))
    }
}

impl Handler for Proxy {
    type Message = Option<Transfer>;

    fn hooks(&self) -> Hooks {
        Hooks::MAIL | Hooks::RCPT | Hooks::DATA | Hooks::MESSAGE | Hooks::RSET | Hooks::QUIT
    }

    fn mail(&mut self, session: &Session, envelope: &Envelope) -> Verdict {
        // A transaction can be given up without RSET, by EHLO for one.
        self.reset(session);
        let hop = match self.hop.take().map_or_else(|| NextHop::connect(&self.address), Ok) {
            Ok(hop) => self.hop.insert(hop),
            Err(Failure::Refused(reply)) => return verdict(&reply),
            Err(Failure::Network(error)) => {
                eprintln!("{}: {error}", self.address);
                return reply!("451 4.4.1 The next hop cannot be reached").into();
            }
        };
        let mut line =
            format!("MAIL FROM:{}", envelope.reverse_path().map(|path| path.to_string()).unwrap_or_default());
        if let Some(octets) = envelope.declared_size().filter(|_| hop.takes_size) {
            line += &format!(" SIZE={octets}");
        }
        // Where 8BITMIME is not offered, the content goes as it is: the other way, to recode it, breaks signatures.
        if envelope.body() == Some(Body::EightBitMime) && hop.takes_8bit {
            line += " BODY=8BITMIME";
        }
        hop.in_transaction = true;
        self.pass_on(&line)
    }

    fn rcpt(&mut self, _: &Session, _: &Envelope, forward_path: Path<'_>) -> Verdict {
        self.pass_on(&format!("RCPT TO:{forward_path}"))
    }

    fn data(&mut self, _: &Session, _: &Envelope, message: &mut Option<Transfer>) -> Verdict {
        match self.answer(|hop| hop.command("DATA")) {
            Ok(reply) if reply.code == START_MAIL_INPUT => {
                *message = self.hop.take().map(|hop| Transfer { hop, sent: Ok(()) });
                Verdict::Accept
            }
            Ok(reply) if reply.is_positive() => Verdict::TryLater,
            Ok(reply) => verdict(&reply),
            Err(lost) => lost,
        }
    }

    fn message(&mut self, _: &Session, _: &Envelope, message: Option<Transfer>) -> Verdict {
        let Some(Transfer { hop, sent }) = message else { return Verdict::TryLater };
        self.hop = Some(hop);
        let answered = self.answer(|hop| {
            sent?;
            hop.in_transaction = false;
            hop.end_of_content()
        });
        answered.map_or_else(|lost| lost, |reply| verdict(&reply))
    }

    fn reset(&mut self, _: &Session) -> Verdict {
        if let Some(hop) = self.hop.as_mut().filter(|hop| hop.in_transaction) {
            hop.in_transaction = false;
            self.pass_on("RSET");
        }
        Verdict::Accept
    }

    fn quit(&mut self, _: &Session) -> Verdict {
        self.pass_on("QUIT");
        Verdict::Accept
    }
}

/// The next hop's reply as our own. Only that *it* is closing is no reason to close here.
fn verdict(reply: &Reply) -> Verdict {
    let code = if reply.code == CLOSING { 451 } else { reply.code };
    let text = reply.lines.join("\n").replace(|character: char| !character.is_ascii(), "?");
    let made =
        sansmtp::Reply::new(code, None, &text).or_else(|_| sansmtp::Reply::new(code, None, "The next hop says so"));
    made.map_or(Verdict::TryLater, Verdict::Reply)
}

const START_MAIL_INPUT: u16 = 354;
const CLOSING: u16 = 421;
