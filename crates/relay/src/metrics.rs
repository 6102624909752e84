//! What there is to count, for the recorder that the program has installed with the crate `metrics`; without one, it
//! costs nothing. No label holds an address, or anything else of which strangers could make many.

use ::metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use crate::queue::{Counts, Outcome};
use crate::spool::ReportKind;

/// Describes the metrics of this crate to the recorder, and begins its counters at zero. Call it once the recorder is
/// installed. These are (each counter since the start of the process):
///
/// | metric | | what it counts |
/// |---|---|---|
/// | `sansmtp_queue_messages` | gauge | messages in the queue, those on hold and in sessions among them |
/// | `sansmtp_queue_held_messages` | gauge | messages on hold |
/// | `sansmtp_delivery_sessions` | gauge | open sessions with next hops, by `state`: `busy`, `idle` |
/// | `sansmtp_backed_off_destinations` | gauge | destinations that are left alone for a while, as they could not be reached |
/// | `sansmtp_queued_messages_total` | counter | messages and reports taken into the spool |
/// | `sansmtp_delivery_attempts_total` | counter | attempts at a message for a destination, by `result`: `delivered` to every recipient, `deferred` for some, `failed` for good for some (even if others are deferred) |
/// | `sansmtp_expired_total` | counter | messages, for a destination, given up because it could not be reached in time |
/// | `sansmtp_finished_messages_total` | counter | messages with which nothing was left to do |
/// | `sansmtp_reports_total` | counter | reports written, by `kind`: to senders `failed`, `delayed` and `relayed`; `undeliverable` to the postmaster |
/// | `sansmtp_undelivered_reports_total` | counter | messages kept in `undelivered-reports` |
/// | `sansmtp_deleted_messages_total` | counter | messages deleted by an operator |
pub fn describe_metrics() {
    describe_gauge!(QUEUE, Unit::Count, "Messages in the queue");
    describe_gauge!(HELD, Unit::Count, "Messages on hold");
    describe_gauge!(SESSIONS, Unit::Count, "Open sessions with next hops");
    describe_gauge!(BACKED_OFF, Unit::Count, "Destinations that are left alone for a while");
    describe_counter!(ATTEMPTS, Unit::Count, "Attempts at a message for a destination");
    for result in [DELIVERED, DEFERRED, FAILED] {
        counter!(ATTEMPTS, RESULT => result).absolute(0);
    }
    describe_counter!(REPORTS, Unit::Count, "Reports written");
    for kind in [ReportKind::Failed, ReportKind::Delayed, ReportKind::Relayed, ReportKind::Undeliverable] {
        counter!(REPORTS, KIND => name(kind)).absolute(0);
    }
    for (name, description) in [
        (QUEUED, "Messages and reports taken into the spool"),
        (EXPIRED, "Messages for a destination given up as it could not be reached in time"),
        (FINISHED, "Messages with which nothing was left to do"),
        (UNDELIVERED, "Messages kept in undelivered-reports"),
        (DELETED, "Messages deleted by an operator"),
    ] {
        describe_counter!(name, Unit::Count, description);
        counter!(name).absolute(0);
    }
    show(Counts::default());
}

/// What there is in the queue now.
pub(crate) fn show(counts: Counts) {
    let Counts { messages, on_hold, sending, sessions, backed_off } = counts;
    let set = |name: &'static str, number: usize| gauge!(name).set(float(number));
    set(QUEUE, messages);
    set(HELD, on_hold);
    set(BACKED_OFF, backed_off);
    gauge!(SESSIONS, STATE => "busy").set(float(sending));
    gauge!(SESSIONS, STATE => "idle").set(float(sessions.saturating_sub(sending)));
}

pub(crate) fn attempted(outcome: Outcome, has_failed: bool) {
    let result = match outcome {
        Outcome::Done | Outcome::Later if has_failed => FAILED,
        Outcome::Done => DELIVERED,
        Outcome::Later => DEFERRED,
    };
    counter!(ATTEMPTS, RESULT => result).increment(1);
}

pub(crate) fn queued() {
    counter!(QUEUED).increment(1);
}

pub(crate) fn expired() {
    counter!(EXPIRED).increment(1);
}

pub(crate) fn finished() {
    counter!(FINISHED).increment(1);
}

pub(crate) fn reported(kind: ReportKind) {
    counter!(REPORTS, KIND => name(kind)).increment(1);
}

pub(crate) fn undelivered() {
    counter!(UNDELIVERED).increment(1);
}

fn name(kind: ReportKind) -> &'static str {
    match kind {
        ReportKind::Failed => "failed",
        ReportKind::Delayed => "delayed",
        ReportKind::Relayed => "relayed",
        ReportKind::Undeliverable => "undeliverable",
    }
}

pub(crate) fn deleted() {
    counter!(DELETED).increment(1);
}

fn float(number: usize) -> f64 {
    // Beyond 4 milliards nobody counts.
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

const QUEUE: &str = "sansmtp_queue_messages";
const HELD: &str = "sansmtp_queue_held_messages";
const SESSIONS: &str = "sansmtp_delivery_sessions";
const BACKED_OFF: &str = "sansmtp_backed_off_destinations";
const QUEUED: &str = "sansmtp_queued_messages_total";
const ATTEMPTS: &str = "sansmtp_delivery_attempts_total";
const EXPIRED: &str = "sansmtp_expired_total";
const FINISHED: &str = "sansmtp_finished_messages_total";
const REPORTS: &str = "sansmtp_reports_total";
const UNDELIVERED: &str = "sansmtp_undelivered_reports_total";
const DELETED: &str = "sansmtp_deleted_messages_total";
const RESULT: &str = "result";
const KIND: &str = "kind";
const DELIVERED: &str = "delivered";
const DEFERRED: &str = "deferred";
const FAILED: &str = "failed";
const STATE: &str = "state";
