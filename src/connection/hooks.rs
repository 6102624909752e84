//! Hooks: asking, and what the verdict changes.

use core::time::Duration;

use super::{About, Connection, KEPT_OCTETS, Lapsed, Next, Outgoing, Pending, Stage};
use crate::action::Hook;
use crate::canned::{self, Canned};
use crate::command;
use crate::config::Hooks;
use crate::event::CloseReason;
use crate::question::Verdict;
use crate::reply::Reply;
use crate::secret::SecretRef;
use crate::session::Greeting;

/// What the open question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Connect,
    Hello(Greeting),
    Mail,
    Rcpt,
    Data,
    /// The first BDAT of a transaction: what DATA asks, and then so many octets.
    FirstChunk {
        octets: u64,
        last: bool,
    },
    Message {
        octets: u64,
    },
    Reset,
    Noop,
    Verify,
    Expand,
    Help,
    Unknown,
    Quit,
    /// The authenticator; its result ends the exchange, or goes back into it.
    Authenticator {
        consulted: bool,
    },
    /// The AUTH handler hook.
    Turn {
        number: u32,
        has_response: bool,
    },
}

impl Asked {
    fn hooks(self) -> Hooks {
        match self {
            Self::Connect => Hooks::CONNECT,
            Self::Hello(_) => Hooks::HELLO,
            Self::Mail => Hooks::MAIL,
            Self::Rcpt => Hooks::RCPT,
            Self::Data | Self::FirstChunk { .. } => Hooks::DATA,
            Self::Message { .. } => Hooks::MESSAGE,
            Self::Reset => Hooks::RSET,
            Self::Noop => Hooks::NOOP,
            Self::Verify => Hooks::VRFY,
            Self::Expand => Hooks::EXPN,
            Self::Help => Hooks::HELP,
            Self::Unknown => Hooks::UNKNOWN,
            Self::Quit => Hooks::QUIT,
            // Asked whenever AUTH is configured, not by subscription.
            Self::Authenticator { .. } | Self::Turn { .. } => Hooks::NONE,
        }
    }

    pub(crate) fn hook(self, held: SecretRef<'_>) -> Hook<'_> {
        // What is held as text was checked to be ASCII or UTF-8 with its line.
        let text = core::str::from_utf8(held.expose_secret()).unwrap_or_default();
        match self {
            Self::Connect => Hook::Connect,
            Self::Hello(greeting) => Hook::Hello(greeting, text),
            Self::Mail => Hook::Mail,
            Self::Rcpt => Hook::Rcpt,
            Self::Data | Self::FirstChunk { .. } => Hook::Data,
            Self::Message { octets } => Hook::Message { octets },
            Self::Reset => Hook::Reset,
            Self::Noop => Hook::Noop(text),
            Self::Verify => Hook::Verify(text),
            Self::Expand => Hook::Expand(text),
            Self::Help => Hook::Help(text),
            // The last two are never given to a hook.
            Self::Unknown | Self::Authenticator { .. } | Self::Turn { .. } => Hook::Unknown(held),
            Self::Quit => Hook::Quit,
        }
    }

    /// The codes with which a client expects the command to succeed (RFC 5321, section 4.3.2). EHLO has
    /// none to choose: its reply is the list of extensions.
    fn success_codes(self) -> &'static [u16] {
        match self {
            Self::Connect => &[220],
            Self::Hello(Greeting::Helo) | Self::Mail | Self::Message { .. } | Self::Reset | Self::Noop => &[250],
            Self::Rcpt => &[250, 251],
            Self::Data => &[354],
            Self::Verify => &[250, 251, 252],
            Self::Expand => &[250, 252],
            Self::Help => &[211, 214],
            Self::Quit => &[221],
            Self::Hello(Greeting::Ehlo | Greeting::Lhlo)
            | Self::FirstChunk { .. }
            | Self::Unknown
            | Self::Authenticator { .. }
            | Self::Turn { .. } => &[],
        }
    }
}

impl Connection {
    /// Asks the hook, if the configuration subscribes to it, and goes on as if it had accepted otherwise.
    pub(super) fn ask(&mut self, about: Asked, held: &[u8]) {
        let subscribed = self.hooks.contains(about.hooks());
        if let Asked::Message { octets } = about {
            self.about = Some(About::Message);
            self.counts.message = octets;
        }
        self.held.clear_and_shrink(KEPT_OCTETS);
        if matches!(about, Asked::Message { .. }) {
            self.counts.idle_since = None;
        }
        if subscribed {
            self.held.extend(held);
            self.stage = Stage::Asking { about, asked_until: None };
        } else if matches!(about, Asked::Message { .. }) {
            // Nobody keeps the message, so nobody may say that it is safe.
            self.refuse(about, canned::NO_MESSAGE_HANDLER);
        } else {
            self.settle(about, Verdict::Accept, held);
        }
    }

    /// Gives the question out, once, and waits for its answer.
    pub(super) fn await_answer(&mut self, now: Duration, about: Asked, asked_until: Option<Duration>) -> Option<Next> {
        let Some(deadline) = asked_until else {
            let deadline = now.saturating_add(self.config.timeouts.answer);
            self.stage = Stage::Asking { about, asked_until: Some(deadline) };
            return Some(match about {
                Asked::Authenticator { .. } => Next::CallAuthenticator,
                Asked::Turn { number, has_response } => Next::CallAuthHandler { number, has_response },
                Asked::Connect
                | Asked::Hello(_)
                | Asked::Mail
                | Asked::Rcpt
                | Asked::Data
                | Asked::FirstChunk { .. }
                | Asked::Message { .. }
                | Asked::Reset
                | Asked::Noop
                | Asked::Verify
                | Asked::Expand
                | Asked::Help
                | Asked::Unknown
                | Asked::Quit => Next::CallHook(about),
            });
        };
        let answer = self.answer.take();
        let is_over = answer.is_some() || self.slot.is_abandoned() || now >= deadline;
        if is_over {
            self.excuse_wait(deadline.saturating_sub(self.config.timeouts.answer), now);
        }
        match answer {
            Some(Pending::Verdict(verdict)) => {
                let mut held = core::mem::take(&mut self.held);
                self.settle(about, verdict, held.expose_secret());
                held.clear();
                self.held = held;
            }
            Some(Pending::Result(result)) => self.take_result(now, about, result),
            Some(Pending::Turn(answer)) => {
                self.held.clear_and_shrink(KEPT_OCTETS);
                self.take_turn(now, answer);
            }
            None if is_over => {
                self.slot.expire();
                if matches!(about, Asked::Authenticator { .. } | Asked::Turn { .. }) {
                    self.auth_unanswered();
                } else {
                    self.refuse(about, canned::NOT_ANSWERED);
                }
            }
            None => return Some(self.wait(now, Next::AwaitAnswer { deadline })),
        }
        None
    }

    fn settle(&mut self, about: Asked, verdict: Verdict, held: &[u8]) {
        match verdict {
            Verdict::Recipients(verdicts) if self.config.lmtp && matches!(about, Asked::Message { .. }) => {
                self.report_to_recipients(verdicts);
            }
            _ if self.config.lmtp && matches!(about, Asked::Message { .. }) => {
                self.report_to_recipients_alike(&verdict)
            }
            Verdict::Accept => self.accept(about, None, held),
            Verdict::TryLater | Verdict::Recipients(_) => self.refuse(about, canned::NOT_ANSWERED),
            Verdict::Reply(reply) if about == Asked::Unknown => {
                // Whatever the command was, only its handler knows what it means.
                self.stage = Stage::Ready;
                if reply.code() == 421 {
                    self.close(CloseReason::Refused);
                }
                self.counts.unrecognized = 0;
                self.say_reply(&reply);
            }
            Verdict::Reply(reply) if reply.is_positive() => {
                let usable = about.success_codes().contains(&reply.code());
                self.accept(about, Some(reply).filter(|_| usable), held);
            }
            Verdict::Reply(reply) => {
                self.say_verdict(about, &reply, held);
                self.undo(about);
                self.after_refusal(about, reply.code() == 421);
                self.hold_reply_back();
            }
        }
    }

    fn refuse(&mut self, about: Asked, reply: Canned) {
        if self.config.lmtp && matches!(about, Asked::Message { .. }) {
            return self.report_to_recipients_alike(&Verdict::Reply(reply.into()));
        }
        self.undo(about);
        // In place of a greeting there is only 421 and 554 (RFC 5321, section 4.3.2).
        let reply = if about == Asked::Connect { canned::NOT_GREETED } else { reply };
        self.after_refusal(about, about == Asked::Connect);
        self.say(reply);
        self.hold_reply_back();
        self.held.clear();
    }

    fn accept(&mut self, about: Asked, reply: Option<Reply>, held: &[u8]) {
        self.stage = Stage::Ready;
        let default = match about {
            Asked::Connect => Outgoing::Greeting,
            Asked::Hello(greeting) => {
                self.session.greet(greeting, held);
                // RFC 5321, section 4.1.4: as if RSET had been given.
                self.clear_transaction();
                self.hello_reply(greeting)
            }
            Asked::Mail => Outgoing::Canned(canned::MAIL_OK),
            Asked::Rcpt => Outgoing::Canned(canned::RCPT_OK),
            Asked::Data => {
                self.begin_content();
                Outgoing::Canned(canned::DATA_START)
            }
            // The reply comes behind the chunk.
            Asked::FirstChunk { octets, last } => return self.begin_chunk(octets, last),
            Asked::Message { .. } => {
                self.lapsed = Some(Lapsed::Transaction);
                self.counts.errors = 0;
                Outgoing::Canned(canned::MESSAGE_OK)
            }
            Asked::Reset => {
                self.clear_transaction();
                Outgoing::Canned(canned::RESET)
            }
            Asked::Noop => Outgoing::Canned(canned::NOOP),
            Asked::Verify => Outgoing::Canned(canned::VRFY),
            Asked::Expand => Outgoing::Canned(canned::NOT_IMPLEMENTED),
            Asked::Help => self.help_reply(),
            Asked::Quit => {
                self.quits = true;
                self.close(CloseReason::Quit);
                Outgoing::Farewell
            }
            Asked::Unknown => return self.count_unrecognized(canned::UNRECOGNIZED),
            // Answered by results and turns, not by verdicts.
            Asked::Authenticator { .. } | Asked::Turn { .. } => return,
        };
        self.outgoing = Some(default);
        if let Some(reply) = reply {
            self.say_verdict(about, &reply, held);
        }
    }

    /// Says what a hook answers, in ASCII where the client has not said that it takes UTF-8: RFC 6531,
    /// sections 3.7.4.1 and 3.7.4.2 say where it may.
    fn say_verdict(&mut self, about: Asked, reply: &Reply, held: &[u8]) {
        let takes_utf8 = match about {
            Asked::Rcpt => self.envelope.is_smtputf8() && matches!(reply.code(), 251 | 551),
            Asked::Verify | Asked::Expand => self.config.smtputf8 && command::ends_with_smtputf8(held),
            Asked::Connect
            | Asked::Hello(_)
            | Asked::Mail
            | Asked::Data
            | Asked::FirstChunk { .. }
            | Asked::Message { .. }
            | Asked::Reset
            | Asked::Noop
            | Asked::Help
            | Asked::Unknown
            | Asked::Quit
            | Asked::Authenticator { .. }
            | Asked::Turn { .. } => false,
        };
        if takes_utf8 {
            self.say_reply_in_utf8(reply);
        } else {
            self.say_reply(reply);
        }
    }

    /// Takes back what a refused command had put down for its hook to look at.
    fn undo(&mut self, about: Asked) {
        match about {
            Asked::Rcpt => self.lapsed = Some(Lapsed::ForwardPath),
            // A message that is refused is over (RFC 5321, section 3.3).
            Asked::Mail | Asked::Message { .. } => self.lapsed = Some(Lapsed::Transaction),
            // RSET forgets the transaction even when its hook fails: the client relies on that.
            Asked::Reset => self.clear_transaction(),
            Asked::Connect => self.turned_away = true,
            // RFC 5321, section 4.1.4: the server stays in the state it was in.
            Asked::Hello(_)
            | Asked::Data
            | Asked::FirstChunk { .. }
            | Asked::Noop
            | Asked::Verify
            | Asked::Expand
            | Asked::Help
            | Asked::Unknown
            | Asked::Quit
            | Asked::Authenticator { .. }
            | Asked::Turn { .. } => {}
        }
    }

    fn after_refusal(&mut self, about: Asked, close: bool) {
        if let Asked::FirstChunk { octets, .. } = about {
            // RFC 3030, section 2: the octets come all the same, and the reply behind them.
            return self.discard_chunk(octets, close);
        }
        self.quits |= about == Asked::Quit;
        self.stage = Stage::Ready;
        if self.quits {
            self.close(CloseReason::Quit);
        } else if close {
            self.close(CloseReason::Refused);
        }
    }
}
