//! What the spool knows of a message besides its content.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::dsn::{Notify, OriginalRecipient, Ret};
use crate::envelope::{self, Envelope, QueueId};
use crate::idn::path_to_ascii;

/// The envelope of a spooled message and how far its delivery has come. One JSON file each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) id: QueueId,
    /// Empty if null: then nobody is told of failures.
    pub(crate) reverse_path: String,
    /// Whether the content has octets above 127, whatever the client has said of it.
    pub(crate) eight_bit: bool,
    /// Whether it has lines of more than 998 octets.
    #[serde(default)]
    pub(crate) long_lines: bool,
    pub(crate) smtputf8: bool,
    pub(crate) arrived: Timestamp,
    /// How many attempts have ended.
    pub(crate) attempts: u32,
    pub(crate) next_attempt: Timestamp,
    /// Whether an operator has put it on hold: then nothing of it is tried, it does not expire, and its sender is not
    /// told of the delay.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) held: bool,
    pub(crate) recipients: Vec<Recipient>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ret: Option<Ret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) envid: Option<String>,
    /// The CRC-32 of the content, as it was received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) checksum: Option<u32>,
    /// What this message reports on, if it is a report that this spool has written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) report_on: Option<ReportOn>,
    /// How many reports have been written on this message.
    #[serde(default, skip_serializing_if = "is_none")]
    pub(crate) reports: u32,
    /// Reports that are on the disk, and that leave when this state is, which has them recorded.
    #[serde(skip)]
    pub(crate) unannounced: Vec<QueueId>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_none(count: &u32) -> bool {
    *count == 0
}

/// Which recipients of which message a report tells of. With the report, this reaches the disk: from then on, these
/// recipients have been reported, whatever the state of the message says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReportOn {
    pub(crate) id: QueueId,
    /// Their places among the message's recipients, counted from 0.
    pub(crate) recipients: Vec<usize>,
    #[serde(default)]
    pub(crate) kind: ReportKind,
}

/// What a report tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReportKind {
    /// The sender: recipients will not be tried again.
    #[default]
    Failed,
    /// The sender: recipients are still being tried.
    Delayed,
    /// The sender: recipients have been relayed to a server that does not report.
    Relayed,
    /// The postmaster: a message from the null reverse-path, as a report is, has failed.
    Undeliverable,
}

/// One recipient of a spooled message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recipient {
    pub(crate) forward_path: String,
    pub(crate) status: Status,
    /// What the last attempt came to, for the report and for whoever looks into the spool.
    pub(crate) last: Option<Answer>,
    /// The server with which the connection was lost when it had all of the message and had not replied yet. It may
    /// have taken it, and then knows the message when it comes again (RFC 1047).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) in_doubt_at: Option<String>,
    /// As the client said it, to be passed on so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) notify: Option<Notify>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) orcpt: Option<OriginalRecipient>,
    /// Whether the sender has been told that this takes long.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) delay_reported: bool,
    /// Whether the next hop that took responsibility has put it into a mailbox, as with LMTP.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_in_mailbox: bool,
}

/// How far the delivery to one recipient has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// To be tried, or tried again.
    Pending,
    /// The next hop took responsibility or delivered, and does not report on success, of which the sender wants to be told
    /// and has not been yet.
    Relayed,
    /// The next hop took responsibility.
    Delivered,
    /// Will not be tried again; the sender has not been told yet.
    Failed,
    /// Failed, and whoever is to be told has been.
    Reported,
}

/// What an attempt came to: the next hop's reply, or what kept us from getting one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// The enhanced status code (RFC 3463).
    pub(crate) status: String,
    /// The host that we spoke with, or tried to.
    pub(crate) remote_mta: Option<String>,
    /// A reply as it came, or our own words.
    pub(crate) text: String,
    /// Whether `text` is a reply of `remote_mta`.
    pub(crate) is_reply: bool,
    pub(crate) at: Timestamp,
}

/// Milliseconds since 1970: unlike [`std::time::Instant`], this means something after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Timestamp(u64);

impl State {
    /// The state of a message that has just arrived.
    pub(crate) fn new(envelope: Envelope) -> Self {
        let now = Timestamp::now();
        Self {
            id: envelope.id,
            reverse_path: envelope.reverse_path,
            eight_bit: false,
            long_lines: false,
            smtputf8: envelope.smtputf8,
            arrived: now,
            attempts: 0,
            next_attempt: now,
            recipients: distinct(envelope.recipients).into_iter().map(Recipient::from).collect(),
            ret: envelope.ret,
            envid: envelope.envid,
            held: false,
            checksum: None,
            report_on: None,
            reports: 0,
            unannounced: Vec::new(),
        }
    }

    /// Whether there is a recipient with this status.
    pub(crate) fn has(&self, status: Status) -> bool {
        self.recipients.iter().any(|recipient| recipient.status == status)
    }

    /// The places of the recipients with this status.
    pub(crate) fn places(&self, status: Status) -> Vec<usize> {
        let with_status = |(_, recipient): &(usize, &Recipient)| recipient.status == status;
        self.recipients.iter().enumerate().filter(with_status).map(|(place, _)| place).collect()
    }

    /// Which reports on a recipient are to be written.
    pub(crate) fn wishes(&self, recipient: &Recipient) -> Notify {
        let only_failure = |failure| Notify { failure, ..Notify::NEVER };
        if self.report_on.is_some() {
            // A report goes out with NOTIFY=NEVER, so no next hop tells of its loss: this program has to.
            return only_failure(true);
        }
        let notify = recipient.notify.unwrap_or_default();
        if self.reverse_path.is_empty() { only_failure(notify.failure) } else { notify }
    }

    /// Whether reports wait for the message's end: one with many recipients that fail one after the other would make
    /// as many.
    pub(crate) fn holds_reports(&self) -> bool {
        self.reports >= MAX_EARLY_REPORTS && self.has(Status::Pending)
    }

    /// Whether there is something to report now.
    pub(crate) fn owes_report(&self) -> bool {
        let is_owed = |recipient: &Recipient| matches!(recipient.status, Status::Failed | Status::Relayed);
        !self.unannounced.is_empty() || self.recipients.iter().any(is_owed) && !self.holds_reports()
    }

    /// When the sender is to be told that recipients are still being tried `after` this time, if there are some of whom
    /// it wants to be told and has not been.
    pub(crate) fn delay_report_due(&self, after: Option<Duration>) -> Option<Timestamp> {
        let is_owed = self.recipients.iter().any(|recipient| self.owes_delay_report(recipient));
        after.filter(|_| is_owed).map(|after| self.arrived.after(after))
    }

    /// The places of the recipients on whose delay a report is to be written now.
    pub(crate) fn late(&self, now: Timestamp, after: Option<Duration>) -> Vec<usize> {
        if self.delay_report_due(after).is_none_or(|due| now < due) {
            return Vec::new();
        }
        let recipients = self.recipients.iter().enumerate();
        recipients.filter(|(_, recipient)| self.owes_delay_report(recipient)).map(|(place, _)| place).collect()
    }

    fn owes_delay_report(&self, recipient: &Recipient) -> bool {
        // What is on hold is not being tried, of which the report would tell.
        !self.held && recipient.status == Status::Pending && !recipient.delay_reported && self.wishes(recipient).delay
    }

    /// Notes what a report tells, which is true whatever else is known. Says whether it was not recorded yet.
    pub(crate) fn record_report(&mut self, report_on: &ReportOn) -> bool {
        let mut is_new = false;
        for &place in &report_on.recipients {
            let Some(recipient) = self.recipients.get_mut(place) else { continue };
            let (until, then) = match report_on.kind {
                ReportKind::Delayed => {
                    is_new |= !std::mem::replace(&mut recipient.delay_reported, true);
                    continue;
                }
                ReportKind::Failed | ReportKind::Undeliverable => (Status::Failed, Status::Reported),
                ReportKind::Relayed => (Status::Relayed, Status::Delivered),
            };
            if recipient.status == Status::Pending || recipient.status == until {
                recipient.status = then;
                is_new = true;
            }
        }
        self.reports = self.reports.saturating_add(u32::from(is_new));
        is_new
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_finished(&self) -> bool {
        let is_over = |recipient: &Recipient| matches!(recipient.status, Status::Delivered | Status::Reported);
        self.recipients.iter().all(is_over)
    }
}

/// The recipients without those that were there before. Domains are the same in any case, and in U-labels and
/// A-labels; local-parts are not (RFC 5321, section 2.4). Who is named twice is reported on wherever one of the two asks for it.
fn distinct(recipients: Vec<envelope::Recipient>) -> Vec<envelope::Recipient> {
    let mut seen = HashMap::new();
    let mut distinct: Vec<envelope::Recipient> = Vec::with_capacity(recipients.len());
    for recipient in recipients {
        let path = &path_to_ascii(&recipient.forward_path);
        let (local, domain) = path.rsplit_once('@').unwrap_or((path, ""));
        let place = *seen.entry(format!("{local}@{}", domain.to_lowercase())).or_insert(distinct.len());
        match distinct.get_mut(place) {
            Some(first) if first.notify != recipient.notify => {
                let [one, other] = [first.notify, recipient.notify].map(Option::unwrap_or_default);
                first.notify = Some(one.or(other));
            }
            Some(_) => {}
            None => distinct.push(recipient),
        }
    }
    distinct
}

impl From<envelope::Recipient> for Recipient {
    fn from(recipient: envelope::Recipient) -> Self {
        let envelope::Recipient { forward_path, notify, orcpt } = recipient;
        Self {
            forward_path,
            status: Status::Pending,
            last: None,
            in_doubt_at: None,
            notify,
            orcpt,
            delay_reported: false,
            is_in_mailbox: false,
        }
    }
}

impl Recipient {
    /// Notes what an attempt came to that did not deliver.
    pub(crate) fn settle(&mut self, is_permanent: bool, answer: Answer) {
        self.last = Some(answer);
        if is_permanent {
            self.status = Status::Failed;
        }
    }

    /// Fails because the time is over: for the reason that there was last, or else for this one.
    pub(crate) fn give_up(&mut self, otherwise: Answer) {
        let last = self.last.take().unwrap_or(otherwise);
        self.settle(true, Answer { status: "4.4.7".to_owned(), ..last });
    }
}

impl Timestamp {
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// The time from `earlier` to this; none if this is before it, as after the clock was set back.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    pub(crate) fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    pub(crate) fn as_secs(self) -> i64 {
        i64::try_from(self.0 / 1000).unwrap_or(i64::MAX)
    }
}

impl Answer {
    /// What is known here without a reply.
    pub(crate) fn own_words(status: &str, text: &str) -> Self {
        Self {
            status: status.to_owned(),
            remote_mta: None,
            text: text.to_owned(),
            is_reply: false,
            at: Timestamp::now(),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The reports on failure and success on one message that do not wait for its end. There are one each at its end, and one
/// on delay.
const MAX_EARLY_REPORTS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_named_twice_is_one_recipient_with_the_wishes_of_both() {
        let on_success = Notify { success: true, ..Notify::NEVER };
        let recipient = |path: &str, notify| envelope::Recipient { notify, ..path.into() };
        let state = State::new(Envelope::new(
            "tim@sender.example",
            [
                recipient("a@b.example", Some(on_success)),
                recipient("a@B.example", None),
                recipient("A@b.example", Some(Notify::NEVER)),
                recipient("A@b.example", Some(Notify::NEVER)),
                recipient("c@b.example", None),
                recipient("c@b.example", None),
            ],
        ));
        let kept: Vec<_> = state.recipients.iter().map(|r| (r.forward_path.as_str(), r.notify)).collect();
        let all = Notify { success: true, failure: true, delay: true };
        assert_eq!(kept, [("a@b.example", Some(all)), ("A@b.example", Some(Notify::NEVER)), ("c@b.example", None)]);
    }

    #[test]
    fn states_of_earlier_versions_are_read() {
        let earlier = r#"{"id": "1a", "reverse_path": "", "eight_bit": false, "smtputf8": false, "arrived": 1,
            "attempts": 0, "next_attempt": 1,
            "recipients": [{"forward_path": "a@b.example", "status": "pending", "last": null}]}"#;
        let state: State = serde_json::from_str(earlier).unwrap();
        assert_eq!((state.ret, &state.envid, state.recipients[0].notify), (None, &None, None));
        let text = serde_json::to_string(&state).unwrap();
        assert!(!text.contains("envid") && !text.contains("notify"), "{text}");
    }
}
