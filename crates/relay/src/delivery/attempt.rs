//! One attempt to deliver one message.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::client::{Mail, Outcome, Session};
use super::content::Header;
use super::error::{Error, Step, status_of};
use super::reply::Reply;
use super::tls::ClientTls;
use crate::envelope::QueueId;
use crate::reports;
use crate::routes::{MailExchangers, NextHop, Route};
use crate::schedule::Schedule;
use crate::spool::{Answer, Recipient, Spool, State, Status, Timestamp};

/// What every delivery needs.
#[derive(Debug)]
pub(super) struct Deliverer {
    pub(super) spool: Arc<Spool>,
    pub(super) route: Route,
    /// Present with [`Route::Mx`].
    pub(super) exchangers: Option<MailExchangers>,
    pub(super) schedule: Schedule,
    pub(super) tls: ClientTls,
    pub(super) hostname: String,
}

/// A host to try, with the addresses at which it may be reached.
struct Host {
    hop: NextHop,
    addresses: Vec<SocketAddr>,
}

impl Deliverer {
    /// Tries to deliver what is left of a message, and returns when to try again, if at all.
    pub(super) async fn attempt(&self, id: &QueueId) -> Option<Timestamp> {
        match self.go_on(id).await {
            Ok(next) => next,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                // As with a full disk. What was delivered and could not be recorded will be delivered again.
                tracing::error!(%id, %error, "cannot use the spool");
                Some(Timestamp::now().after(self.schedule.first.max(Duration::from_secs(1))))
            }
        }
    }

    async fn go_on(&self, id: &QueueId) -> io::Result<Option<Timestamp>> {
        let mut state = self.spool.load(id)?;
        reports::mark_reported(&self.spool, &state)?;
        // Left by a crash between the last attempt and its report.
        reports::report_failures(&self.spool, &mut state, &self.hostname)?;
        if state.has(Status::Pending) {
            self.deliver(&mut state).await?;
            self.plan(&mut state);
            self.spool.save(&state)?;
            reports::report_failures(&self.spool, &mut state, &self.hostname)?;
        }
        if state.is_finished() {
            self.spool.remove(id)?;
            tracing::info!(%id, "done");
            return Ok(None);
        }
        Ok(Some(state.next_attempt))
    }

    async fn deliver(&self, state: &mut State) -> io::Result<()> {
        let header = Header::read(self.spool.content(&state.id)?)?;
        if header.received > MAX_RECEIVED {
            let text = format!("mail loop: the message has passed {} servers", header.received);
            for recipient in pending(state) {
                fail(recipient, own_words("5.4.6", &text));
            }
            return Ok(());
        }
        for (domain, recipients) in self.groups(state) {
            let hosts = match self.hosts(domain.as_deref()).await {
                Ok(hosts) => hosts,
                Err((permanent, answer)) => {
                    for index in recipients {
                        settle(state, index, permanent, answer.clone());
                    }
                    self.spool.save(state)?;
                    continue;
                }
            };
            for recipients in recipients.chunks(MAX_RECIPIENTS) {
                self.deliver_to(state, recipients, &hosts, header).await?;
            }
        }
        Ok(())
    }

    /// Those of the recipients that are still pending, by where they go. With relays, all go the same way.
    fn groups(&self, state: &State) -> BTreeMap<Option<String>, Vec<usize>> {
        let mut groups = BTreeMap::<_, Vec<_>>::new();
        for (index, recipient) in state.recipients.iter().enumerate() {
            if recipient.status == Status::Pending {
                let domain = match self.route {
                    Route::Relays(_) => None,
                    Route::Mx { .. } => Some(domain(&recipient.forward_path).to_lowercase()),
                };
                groups.entry(domain).or_default().push(index);
            }
        }
        groups
    }

    async fn hosts(&self, domain: Option<&str>) -> Result<Vec<Host>, (bool, Answer)> {
        match (&self.route, &self.exchangers, domain) {
            (Route::Mx { port, .. }, Some(exchangers), Some(domain)) => {
                let found = exchangers.look_up(domain).await.map_err(|error| {
                    (error.is_permanent(), own_words(error.status(), &format!("{domain}: {error}")))
                })?;
                Ok(found
                    .into_iter()
                    .map(|exchanger| Host {
                        addresses: exchanger.addresses.iter().map(|ip| SocketAddr::new(*ip, *port)).collect(),
                        hop: NextHop::exchanger(exchanger.host, *port),
                    })
                    .collect())
            }
            (Route::Relays(relays), ..) => relay_hosts(relays).await,
            (Route::Mx { .. }, ..) => Err((false, own_words("4.3.5", "mail exchangers are not set up"))),
        }
    }

    /// Tries one host after the other until every recipient has an answer that counts.
    async fn deliver_to(
        &self,
        state: &mut State,
        recipients: &[usize],
        hosts: &[Host],
        header: Header,
    ) -> io::Result<()> {
        for host in hosts {
            for address in &host.addresses {
                let left: Vec<usize> = recipients
                    .iter()
                    .copied()
                    .filter(|index| state.recipients.get(*index).is_some_and(|r| r.status == Status::Pending))
                    .collect();
                if left.is_empty() {
                    return Ok(());
                }
                let content = self.spool.content(&state.id)?;
                let spoke = match self.session(*address, &host.hop).await {
                    Ok(session) => {
                        self.transaction(state, &left, session, content, host, header).await?;
                        true
                    }
                    Err(error) => {
                        tracing::info!(id = %state.id, host = %host.hop, %address, %error, "no session");
                        for &index in &left {
                            settle(state, index, error.is_permanent(), answer(&error, &host.hop.host));
                        }
                        false
                    }
                };
                self.spool.save(state)?;
                // Another address of a host that has spoken would say the same.
                if spoke {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn session(&self, address: SocketAddr, hop: &NextHop) -> Result<Session, Error> {
        match Session::open(address, hop, &self.tls, &self.hostname, true).await {
            Err(Error::Handshake(error)) if hop.allows_plaintext() => {
                // RFC 7435: encryption that does not work is no reason to keep mail that may go without.
                tracing::info!(%hop, %error, "STARTTLS failed; going on without");
                Session::open(address, hop, &self.tls, &self.hostname, false).await
            }
            result => result,
        }
    }

    async fn transaction(
        &self,
        state: &mut State,
        left: &[usize],
        mut session: Session,
        content: File,
        host: &Host,
        header: Header,
    ) -> io::Result<()> {
        let octets = content.metadata()?.len();
        let paths: Vec<String> =
            left.iter().filter_map(|index| state.recipients.get(*index)).map(|r| r.forward_path.clone()).collect();
        let recipients: Vec<&str> = paths.iter().map(String::as_str).collect();
        let mail = Mail {
            reverse_path: &state.reverse_path,
            recipients: &recipients,
            eight_bit: state.eight_bit,
            needs_smtputf8: !state.reverse_path.is_ascii()
                || recipients.iter().any(|path| !path.is_ascii())
                || (state.smtputf8 && !header.is_ascii),
            octets,
        };
        let Outcome { refused, others } = session.send(mail, content).await;
        let tls = session.is_encrypted();
        let host = host.hop.host.as_str();
        for (&index, refused) in left.iter().zip(refused) {
            match (refused, &others) {
                (Some(reply), _) => {
                    // RFC 5321, section 4.5.3.1.10: 552 to RCPT is an old way to say "no more in this transaction".
                    let permanent = reply.is_permanent() && reply.code != TOO_MUCH;
                    settle(state, index, permanent, reply_answer(&reply, permanent, host));
                }
                (None, Err(error)) => settle(state, index, error.is_permanent(), answer(error, host)),
                (None, Ok(reply)) => {
                    let id = state.id.clone();
                    if let Some(recipient) = state.recipients.get_mut(index) {
                        tracing::info!(%id, recipient = recipient.forward_path, host, tls, %reply, "delivered");
                        recipient.status = Status::Delivered;
                        let status = reply.enhanced_status().unwrap_or("2.0.0").to_owned();
                        recipient.last = Some(Answer { status, ..reply_answer(reply, false, host) });
                    }
                }
            }
        }
        // Recorded before the goodbye, which may take a while: this is the moment that a crash must not undo.
        self.spool.save(state)?;
        if others.is_ok() || matches!(others, Err(Error::NoRecipients)) {
            session.quit().await;
        }
        Ok(())
    }

    /// Ends an attempt: gives up what is too old, and says when to try the rest again.
    fn plan(&self, state: &mut State) {
        let now = Timestamp::now();
        state.attempts = state.attempts.saturating_add(1);
        if now.since(state.arrived) >= self.schedule.give_up_after {
            for recipient in pending(state) {
                let last = recipient.last.take();
                let last = last.unwrap_or_else(|| own_words("4.4.7", "no attempt was possible"));
                fail(recipient, Answer { status: "4.4.7".to_owned(), ..last });
            }
        }
        // The last attempt is at the very end of the time, not long after it.
        let end = state.arrived.after(self.schedule.give_up_after).max(now.after(self.schedule.first));
        // With nobody left to try, a crash before the report or the end must not put these off.
        let pending = state.has(Status::Pending);
        state.next_attempt = if pending { now.after(self.schedule.pause_after(state.attempts)).min(end) } else { now };
        for recipient in &state.recipients {
            if let (Status::Pending, Some(last)) = (recipient.status, &recipient.last) {
                let pause = state.next_attempt.since(now);
                tracing::warn!(id = %state.id, recipient = recipient.forward_path, %last, ?pause, "deferred");
            }
        }
    }
}

async fn relay_hosts(relays: &[NextHop]) -> Result<Vec<Host>, (bool, Answer)> {
    let mut hosts = Vec::new();
    let mut unknown = None;
    for hop in relays {
        match tokio::net::lookup_host((hop.host.as_str(), hop.port)).await {
            Ok(addresses) => hosts.push(Host { hop: hop.clone(), addresses: addresses.collect() }),
            Err(error) => {
                tracing::warn!(%hop, %error, "cannot look up the relay");
                unknown = Some(own_words("4.4.3", &format!("{}: {error}", hop.host)));
            }
        }
    }
    match unknown {
        Some(answer) if hosts.is_empty() => Err((false, answer)),
        Some(_) | None => Ok(hosts),
    }
}

fn pending(state: &mut State) -> impl Iterator<Item = &mut Recipient> {
    state.recipients.iter_mut().filter(|recipient| recipient.status == Status::Pending)
}

/// Notes what an attempt came to that did not deliver.
fn settle(state: &mut State, index: usize, permanent: bool, answer: Answer) {
    if let Some(recipient) = state.recipients.get_mut(index) {
        recipient.last = Some(answer);
        if permanent {
            recipient.status = Status::Failed;
        }
    }
}

fn fail(recipient: &mut Recipient, answer: Answer) {
    recipient.last = Some(answer);
    recipient.status = Status::Failed;
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

fn own_words(status: &str, text: &str) -> Answer {
    Answer { status: status.to_owned(), remote_mta: None, text: text.to_owned(), is_reply: false, at: Timestamp::now() }
}

fn domain(forward_path: &str) -> &str {
    forward_path.rsplit_once('@').map_or("", |(_, domain)| domain)
}

/// RFC 5321, section 6.3, counts at least a hundred as a sure sign; fifty is what servers do.
const MAX_RECEIVED: usize = 50;
/// RFC 5321, section 4.5.3.1.8: what every server must take.
const MAX_RECIPIENTS: usize = 100;
const TOO_MUCH: u16 = 552;
