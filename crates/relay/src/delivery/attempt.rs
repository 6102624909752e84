//! One message in a session, and the record of what came of it.

use std::io;
use std::sync::Arc;

use super::Deliverer;
use super::client::{Mail, Outcome as Sent};
use super::content::Header;
use super::error::{Error, NeedsUtf8, Step, status_of};
use super::log::{Peer, Told};
use super::messages::Message;
use super::outgoing::Kind;
use super::reply::Reply;
use super::session::{Connection, NoConnection};
use crate::dsn;
use crate::envelope::QueueId;
use crate::idn::path_to_ascii;
use crate::queue::{Health, Outcome};
use crate::routes::{Destination, Host, Protocol};
use crate::spool::{Answer, Recipient, State, Status, Timestamp};

/// What came of a job.
#[derive(Debug)]
pub(super) enum Attempt {
    Ended {
        outcome: Outcome,
        /// Whether recipients have failed for good.
        failed: bool,
        /// Whether there are recipients to be reported.
        unreported: bool,
        health: Health,
    },
    /// The mail goes to another destination, as DNS says now.
    Elsewhere(Destination),
}

impl Deliverer {
    /// Tries to deliver a message to a part of its recipients, in the connection or in a new one. What is open
    /// afterwards can carry another message.
    pub(super) async fn attempt(
        &self,
        destination: &Destination,
        job: &(QueueId, Arc<str>),
        connection: &mut Option<Connection>,
    ) -> Attempt {
        let ended = |outcome| Attempt::Ended { outcome, failed: false, unreported: false, health: Health::Unknown };
        let (id, part) = job;
        let message = match self.messages.open(&self.spool, id) {
            Ok(message) => message,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return ended(Outcome::Done),
            Err(error) => {
                tracing::error!(%id, %error, "cannot read a message; trying again");
                return ended(Outcome::Later);
            }
        };
        let mut told = Told::new(self.octets(id));
        let health = match self.router.find(part).await {
            Ok(routed) if routed.destination != *destination => {
                self.messages.close(id, message);
                return Attempt::Elsewhere(routed.destination);
            }
            Ok(routed) => self.deliver(id, &message, part, &routed.hosts, connection, &mut told).await,
            Err(no_route) => {
                self.settle(&message, part, no_route.is_permanent, &no_route.answer, None, &mut told);
                if no_route.is_permanent { Health::Unknown } else { Health::Down }
            }
        };
        self.note(destination, self.reason(&message, part, health));
        let (outcome, failed, unreported) = self.conclude(job, &message, &told).await;
        self.messages.close(id, message);
        Attempt::Ended { outcome, failed, unreported, health }
    }

    /// Tries one host after the other until every recipient has an answer that counts.
    async fn deliver(
        &self,
        id: &QueueId,
        message: &Arc<Message>,
        part: &str,
        hosts: &[Host],
        connection: &mut Option<Connection>,
        told: &mut Told,
    ) -> Health {
        let header = match self.spool.content(id).and_then(Header::read) {
            Ok(header) => header,
            Err(error) => {
                tracing::error!(%id, %error, "cannot read a message; trying again");
                return Health::Unknown;
            }
        };
        if header.received > MAX_RECEIVED {
            let text = format!("mail loop: the message has passed {} servers", header.received);
            self.settle(message, part, true, &Answer::own_words("5.4.6", &text), None, told);
            return Health::Unknown;
        }
        let doubtful = message.read(|state| self.pending(state, part).find_map(|place| in_doubt_at(state, place)));
        let mut hosts = hosts.to_vec();
        if let Some(first) = &doubtful {
            // It knows best whether it has the message.
            hosts.sort_by_key(|host| host.next_hop.host != *first);
            if connection.as_ref().is_some_and(|connection| connection.host.next_hop.host != *first)
                && let Some(connection) = connection.take()
            {
                connection.client.quit().await;
            }
        }
        let mut tried = Vec::new();
        let mut health = Health::Unknown;
        while message.read(|state| self.pending(state, part).next().is_some()) {
            let mut current = match connection.take() {
                Some(current) => {
                    tried.push(current.host.next_hop.to_string());
                    current
                }
                None => match self.connect(id, &hosts, &mut tried).await {
                    Ok(current) => current,
                    Err(Some(NoConnection { host, peer, error })) => {
                        self.settle(message, part, error.is_permanent(), &answer(&error, &host), Some(&peer), told);
                        // Where another host has said something, that was the destination's answer.
                        return if health == Health::Unknown { error.health() } else { health };
                    }
                    Err(None) => return health,
                },
            };
            let spoke = self.transactions(id, message, part, &mut current, header, told).await;
            if current.is_used && spoke.is_stale {
                // The host has ended the session while it was idle, and nothing was sent in it.
                tried.retain(|tried| *tried != current.host.next_hop.to_string());
                continue;
            }
            if spoke.is_cut_short {
                tried.retain(|tried| *tried != current.host.next_hop.to_string());
                continue;
            }
            current.is_used = true;
            health = spoke.health;
            if spoke.is_open {
                *connection = Some(current);
            }
            if !spoke.try_others || !hosts.iter().any(|host| !tried.contains(&host.next_hop.to_string())) {
                break;
            }
            if let Some(connection) = connection.take() {
                connection.client.quit().await;
            }
        }
        health
    }

    /// Sends to all pending recipients of a part.
    async fn transactions(
        &self,
        id: &QueueId,
        message: &Arc<Message>,
        part: &str,
        connection: &mut Connection,
        header: Header,
        told: &mut Told,
    ) -> Spoke {
        if !connection.client.takes_utf8() {
            self.fail_what_needs_utf8(message, part, connection, header, told);
        }
        let mut left: Vec<usize> = message.read(|state| self.pending(state, part).collect());
        let mut spoke =
            Spoke { health: Health::Up, is_open: true, is_stale: false, is_cut_short: false, try_others: false };
        let mut is_first = true;
        let mut is_doubted = false;
        while !left.is_empty() && spoke.is_open {
            let rest = left.split_off(left.len().min(connection.client.max_recipients()));
            let places = std::mem::replace(&mut left, rest);
            let Sent { refused, settled, others, is_open } =
                match self.send(id, message, &places, connection, header).await {
                    Ok(sent) => sent,
                    Err(error) => {
                        tracing::error!(%id, %error, "cannot read a message; trying again");
                        return Spoke { health: Health::Unknown, ..spoke };
                    }
                };
            spoke.is_open = is_open;
            let is_refused = |error: &Error| matches!(error, Error::Refused(Step::Mail, _) | Error::Unconvertible(_));
            if is_open
                && others.as_ref().is_err_and(Error::is_about_parameters)
                && connection.client.forget_parameters()
            {
                is_doubted = true;
                left.splice(..0, places);
                continue;
            }
            if is_doubted && others.as_ref().is_err_and(is_refused) {
                // It was not for them.
                connection.client.remember_parameters();
            }
            spoke.is_stale = is_first && others.as_ref().is_err_and(Error::is_stale_session);
            is_first = false;
            if spoke.is_stale && connection.is_used {
                return spoke;
            }
            spoke.health = health(&refused, &others);
            let next_hop = &connection.host.next_hop;
            let server = Server {
                host: &next_hop.host,
                reports: connection.client.offers_dsn(),
                has_mailboxes: next_hop.protocol == Protocol::Lmtp,
            };
            message.change(|state| {
                record(state, &places, (&refused, &settled), &others, server);
                told.recorded(state, &places, Some(&connection.peer));
            });
            let in_doubt = others.as_ref().is_err_and(Error::is_in_doubt);
            spoke.try_others = !in_doubt && message.read(|state| self.pending(state, part).next().is_some());
            if others.is_ok() {
                // More than it takes in one transaction: the next one has them, at once, and is smaller.
                left.splice(..0, behind_accepted(&places, &refused));
                spoke.is_cut_short = !is_open && !left.is_empty();
            }
            // Recorded before anything else is waited for: this is the moment that a crash must not undo.
            if others.is_ok() && spoke.try_others {
                self.save(message).await;
            }
        }
        spoke
    }

    /// Fails the recipients to whom the message cannot go without SMTPUTF8. The others may have it.
    fn fail_what_needs_utf8(
        &self,
        message: &Message,
        part: &str,
        connection: &Connection,
        header: Header,
        told: &mut Told,
    ) {
        let host = connection.host.next_hop.host.as_str();
        let failed: Vec<_> = message.read(|state| {
            let all = if !path_to_ascii(&state.reverse_path).is_ascii() {
                Some(NeedsUtf8::Address)
            } else {
                (state.smtputf8 && !header.is_ascii).then_some(NeedsUtf8::Header)
            };
            let needs = |place: usize| {
                let path = path_to_ascii(&state.recipients.get(place)?.forward_path);
                let own = (!path.is_ascii()).then_some(NeedsUtf8::Address);
                own.or(all).map(|needs| (place, needs))
            };
            self.pending(state, part).filter_map(needs).collect()
        });
        for (place, needs) in failed {
            let answer = answer(&Error::NoSmtpUtf8(needs), host);
            message.change(|state| {
                each(state, &[place], |recipient| recipient.settle(true, answer.clone()));
                told.recorded(state, &[place], Some(&connection.peer));
            });
        }
    }

    async fn send(
        &self,
        id: &QueueId,
        message: &Message,
        places: &[usize],
        connection: &mut Connection,
        header: Header,
    ) -> io::Result<Sent> {
        let (reverse_path, paths, kind, smtputf8, mail_dsn, rcpt_dsn) = message.read(|state| {
            let recipients = places.iter().filter_map(|place| state.recipients.get(*place));
            let parameters = |recipient: &Recipient| dsn::rcpt_parameters(recipient.notify, recipient.orcpt.as_ref());
            let (paths, rcpt_dsn): (Vec<String>, Vec<String>) = recipients
                .map(|recipient| (path_to_ascii(&recipient.forward_path).into_owned(), parameters(recipient)))
                .unzip();
            let mail_dsn = dsn::mail_parameters(state.ret, state.envid.as_deref());
            let kind = Kind { eight_bit: state.eight_bit, long_lines: state.long_lines };
            (path_to_ascii(&state.reverse_path).into_owned(), paths, kind, state.smtputf8, mail_dsn, rcpt_dsn)
        });
        let needs_smtputf8 =
            !reverse_path.is_ascii() || paths.iter().any(|path| !path.is_ascii()) || (smtputf8 && !header.is_ascii);
        let content = match self.outgoing(id, kind, connection.client.takes_eight_bit(needs_smtputf8)).await? {
            Ok(content) => content,
            Err(unconvertible) => {
                let refused = vec![None; places.len()];
                return Ok(Sent {
                    settled: refused.clone(),
                    refused,
                    others: Err(Error::Unconvertible(unconvertible)),
                    is_open: true,
                });
            }
        };
        let recipients: Vec<&str> = paths.iter().map(String::as_str).collect();
        let mail = Mail {
            reverse_path: &reverse_path,
            recipients: &recipients,
            mail_dsn: &mail_dsn,
            rcpt_dsn: &rcpt_dsn,
            needs_smtputf8,
        };
        Ok(connection.client.send(mail, content).await)
    }

    /// Ends an attempt: gives up what is too old, and says when the rest is tried again.
    async fn conclude(&self, job: &(QueueId, Arc<str>), message: &Arc<Message>, told: &Told) -> (Outcome, bool, bool) {
        let (_, part) = job;
        let attempts = self.queue().attempts(job).saturating_add(1);
        let now = Timestamp::now();
        let (left, failed, unreported) = message.change(|state| {
            let places: Vec<usize> = self.pending(state, part).collect();
            let is_over = now.since(state.arrived) >= self.schedule.give_up_after;
            if is_over {
                let otherwise = Answer::own_words("4.4.7", "no attempt was possible");
                each(state, &places, |recipient| recipient.give_up(otherwise.clone()));
            }
            let left = !is_over && !places.is_empty();
            state.attempts = state.attempts.max(attempts);
            // The last attempt is at the very end of the time, not long after it.
            let end = state.arrived.after(self.schedule.give_up_after).max(now.after(self.schedule.first));
            // With nothing left to try, a crash before the report or the end must not put these off.
            let next = if left { now.after(self.schedule.pause_after(attempts)).min(end) } else { now };
            state.next_attempt = next;
            for &place in &places {
                told.ended(state, place, left.then(|| next.since(now)));
            }
            (left, self.places(state, part, Status::Failed).next().is_some(), state.owes_report())
        });
        // What nothing is left to do for is forgotten at once, and not when the queue comes to it: the next message of the
        // session would otherwise begin in a moment at which a crash has this one sent again.
        self.save(message).await;
        (if left { Outcome::Later } else { Outcome::Done }, failed, unreported)
    }

    /// Records the state, on a thread that may wait for the disk.
    async fn save(&self, message: &Arc<Message>) {
        let (spool, message) = (Arc::clone(&self.spool), Arc::clone(message));
        let saved = tokio::task::spawn_blocking(move || message.save(&spool)).await;
        if let Ok(Err(error)) = saved {
            // As with a full disk. Until there is room, what is known in memory counts.
            tracing::error!(%error, "cannot record the state of a message; it is kept in memory");
        }
    }

    /// Notes for all pending recipients of a part what the attempt came to.
    fn settle(
        &self,
        message: &Message,
        part: &str,
        is_permanent: bool,
        answer: &Answer,
        peer: Option<&Peer>,
        told: &mut Told,
    ) {
        message.change(|state| {
            let places: Vec<usize> = self.pending(state, part).collect();
            each(state, &places, |recipient| recipient.settle(is_permanent, answer.clone()));
            told.recorded(state, &places, peer);
        });
    }

    /// The size of a message's content, for the log.
    pub(super) fn octets(&self, id: &QueueId) -> u64 {
        self.spool.content(id).and_then(|content| content.metadata()).map_or(0, |metadata| metadata.len())
    }

    /// Why the destination is not to be asked at the moment, if it is not.
    fn reason(&self, message: &Message, part: &str, health: Health) -> Option<Answer> {
        match health {
            Health::Unknown | Health::Up => None,
            Health::Busy | Health::Full | Health::Down => message.read(|state| {
                let place = self.pending(state, part).next()?;
                state.recipients.get(place)?.last.clone()
            }),
        }
    }

    fn pending<'a>(&'a self, state: &'a State, part: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.places(state, part, Status::Pending)
    }

    /// The places of the recipients of a part that have this status.
    pub(super) fn places<'a>(
        &'a self,
        state: &'a State,
        part: &'a str,
        status: Status,
    ) -> impl Iterator<Item = usize> + 'a {
        let of_part = state.recipients.iter().enumerate().filter(move |(_, recipient)| {
            recipient.status == status && self.router.part(&recipient.forward_path) == part
        });
        of_part.map(|(place, _)| place)
    }
}

/// What came of speaking with a host.
struct Spoke {
    health: Health,
    /// Whether the session can take another message.
    is_open: bool,
    /// Whether the session had ended before anything was sent.
    is_stale: bool,
    /// Whether the server wants another session for the rest.
    is_cut_short: bool,
    /// Whether another host may take what this one did not.
    try_others: bool,
}

/// The server whose replies a transaction had.
#[derive(Clone, Copy)]
struct Server<'a> {
    host: &'a str,
    /// Whether it reports on success.
    reports: bool,
    /// Whether it delivers, and relays nothing.
    has_mailboxes: bool,
}

/// Notes what came of a transaction for the recipients at these places.
fn record(
    state: &mut State,
    places: &[usize],
    (refused, settled): (&[Option<Reply>], &[Option<Reply>]),
    others: &Result<Reply, Error>,
    Server { host, reports, has_mailboxes }: Server<'_>,
) {
    // RFC 3461, sections 5.2.1 and 5.2.2: a next hop that offers DSN reports on success from here on.
    let owed: Vec<bool> = places
        .iter()
        .map(|place| !reports && state.recipients.get(*place).is_some_and(|recipient| state.wishes(recipient).success))
        .collect();
    for ((place, (refused, settled)), is_owed) in places.iter().zip(refused.iter().zip(settled)).zip(owed) {
        let Some(recipient) = state.recipients.get_mut(*place) else { continue };
        recipient.in_doubt_at = None;
        match (refused, settled, others) {
            (Some(reply), _, _) => {
                // RFC 5321, section 4.5.3.1.10: 552 to RCPT is an old way to say "no more in this transaction".
                let is_permanent = reply.is_permanent() && reply.code != TOO_MUCH;
                recipient.settle(is_permanent, reply_answer(reply, is_permanent, host));
            }
            (None, Some(reply), _) if !reply.is_positive() => {
                let is_permanent = reply.is_permanent();
                recipient.settle(is_permanent, reply_answer(reply, is_permanent, host));
            }
            (None, None, Err(error)) => {
                recipient.settle(error.is_permanent(), answer(error, host));
                recipient.in_doubt_at = error.is_in_doubt().then(|| host.to_owned());
            }
            (None, Some(reply), _) | (None, None, Ok(reply)) => {
                recipient.status = if is_owed { Status::Relayed } else { Status::Delivered };
                recipient.is_in_mailbox = has_mailboxes;
                let status = reply.enhanced_status().unwrap_or("2.0.0").to_owned();
                recipient.last = Some(Answer { status, ..reply_answer(reply, false, host) });
            }
        }
    }
}

/// The places of the recipients that were refused for now behind one that was accepted (RFC 5321, section
/// 4.5.3.1.10): 452, as it should be, or what others say.
fn behind_accepted(places: &[usize], refused: &[Option<Reply>]) -> Vec<usize> {
    let replies = places.iter().zip(refused).skip_while(|(_, refused)| refused.is_some());
    let is_for_now = |reply: &Reply| !reply.is_permanent() || reply.code == TOO_MUCH;
    replies.filter(|(_, refused)| refused.as_ref().is_some_and(is_for_now)).map(|(place, _)| *place).collect()
}

/// What a transaction says about the destination.
fn health(refused: &[Option<Reply>], others: &Result<Reply, Error>) -> Health {
    match others {
        Ok(_) => Health::Up,
        // It may be greylisting, which is about the message, or a limit, which is not.
        Err(Error::NoRecipients) if refused.iter().flatten().all(Reply::is_about_policy) => Health::Busy,
        Err(error) => error.health(),
    }
}

fn each(state: &mut State, places: &[usize], mut change: impl FnMut(&mut Recipient)) {
    for place in places {
        if let Some(recipient) = state.recipients.get_mut(*place) {
            change(recipient);
        }
    }
}

fn in_doubt_at(state: &State, place: usize) -> Option<String> {
    state.recipients.get(place)?.in_doubt_at.clone()
}

fn answer(error: &Error, host: &str) -> Answer {
    // What did not reach the host cannot be what it said.
    let reached = !matches!(error, Error::Network(Step::Connect, _) | Error::Timeout(Step::Connect));
    Answer {
        status: error.status(),
        remote_mta: reached.then(|| host.to_owned()),
        text: if reached { error.to_string() } else { format!("{host}: {error}") },
        is_reply: error.reply().is_some(),
        at: Timestamp::now(),
    }
}

fn reply_answer(reply: &Reply, permanent: bool, host: &str) -> Answer {
    Answer {
        status: status_of(reply, permanent),
        remote_mta: Some(host.to_owned()),
        text: reply.to_string(),
        is_reply: true,
        at: Timestamp::now(),
    }
}

/// RFC 5321, section 6.3, counts at least a hundred as a sure sign; fifty is what servers do.
const MAX_RECEIVED: usize = 50;
const TOO_MUCH: u16 = 552;
