//! Delivery status notifications: what a sender gets when its message fails, takes long, or has been relayed to a
//! server that does not report (RFC 3461, RFC 3464), and what becomes of those that no next hop takes.
//!
//! ```text
//! message ──failed, delayed, relayed──► report to the reverse-path
//!                                          │ failed
//!                                          ▼
//!      other mail from the null ─────► report to the postmaster, if there is one
//!      reverse-path, failed                │ failed
//!                                          ▼
//!                                      spool/undelivered-reports
//! ```
//!
//! There is no way back, so there is no loop.

mod content;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use self::content::{About, Subject};
use crate::envelope::QueueId;
use crate::metrics;
use crate::spool::{Answer, ReportKind, ReportOn, Spool, State, Status, Timestamp};

/// How a worker reports.
#[derive(Clone, Debug)]
pub(crate) struct Reporting {
    pub(crate) hostname: String,
    /// The age at which a delay is reported; none for never.
    pub(crate) delay_after: Option<Duration>,
    /// The age at which trying ends.
    pub(crate) give_up_after: Duration,
    pub(crate) postmaster: Option<String>,
}

/// Writes what is to be reported on a message by now, and records that.
///
/// A report reaches the disk before the record, and is announced for delivery after it. So a crash in between leaves a
/// report that was not sent yet: the next start finds it. `unreachable` says why a forward-path has
/// not been tried.
///
/// # Errors
/// Where the file system refuses. Then this is to be called again.
pub(crate) fn write(
    spool: &Arc<Spool>,
    state: &mut State,
    reporting: &Reporting,
    unreachable: &dyn Fn(&str) -> Answer,
) -> io::Result<()> {
    if !state.holds_reports() {
        tell_failures(spool, state, reporting)?;
        let relayed = state.places(Status::Relayed);
        report(spool, state, ReportKind::Relayed, relayed, reporting, unreachable)?;
    }
    let late = state.late(Timestamp::now(), reporting.delay_after);
    report(spool, state, ReportKind::Delayed, late, reporting, unreachable)?;
    spool.save(state)?;
    for report in std::mem::take(&mut state.unannounced) {
        spool.announce(report);
    }
    Ok(())
}

fn tell_failures(spool: &Arc<Spool>, state: &mut State, reporting: &Reporting) -> io::Result<()> {
    let (wanted, unwanted): (Vec<usize>, Vec<usize>) = state
        .places(Status::Failed)
        .into_iter()
        .partition(|place| state.recipients.get(*place).is_some_and(|recipient| state.wishes(recipient).failure));
    for place in unwanted {
        if let Some(recipient) = state.recipients.get_mut(place) {
            tracing::info!(id = %state.id, to = recipient.forward_path, "no report, as the sender wants none");
            recipient.status = Status::Reported;
        }
    }
    if !state.reverse_path.is_empty() && !is_last_resort(state) {
        return report(spool, state, ReportKind::Failed, wanted, reporting, &no_reason);
    }
    // RFC 5321, section 6.1: a report on a report would be the beginning of a loop.
    if reporting.postmaster.is_some() && !is_last_resort(state) {
        return report(spool, state, ReportKind::Undeliverable, wanted, reporting, &no_reason);
    }
    if !wanted.is_empty() {
        let path = spool.keep_undelivered(&state.id, &content::undelivered_head(state))?;
        metrics::undelivered();
        tracing::error!(id = %state.id, file = %path.display(), "nobody is told of this failure; the message is kept in a file");
        for place in wanted {
            if let Some(recipient) = state.recipients.get_mut(place) {
                recipient.status = Status::Reported;
            }
        }
    }
    Ok(())
}

/// Whether this is a report to the postmaster.
fn is_last_resort(state: &State) -> bool {
    state.report_on.as_ref().is_some_and(|report_on| report_on.kind == ReportKind::Undeliverable)
}

/// Writes a report of this kind on the recipients at these places, but for those on which there is one already.
fn report(
    spool: &Arc<Spool>,
    state: &mut State,
    kind: ReportKind,
    mut places: Vec<usize>,
    reporting: &Reporting,
    unreachable: &dyn Fn(&str) -> Answer,
) -> io::Result<()> {
    for place in places.clone() {
        if let Some((name, report_on)) = existing(spool, &state.id, kind, place)? {
            state.record_report(&report_on);
            state.unannounced.push(name);
            places.retain(|place| !report_on.recipients.contains(place));
        }
    }
    let Some(first) = places.first() else { return Ok(()) };
    let name = state.id.report(kind, *first);
    // An earlier version named reports otherwise, so one of those may have this name.
    let name = if spool.contains(&name)? { QueueId::new() } else { name };
    let mut shown = state.clone();
    for place in &places {
        if let Some(recipient) = shown.recipients.get_mut(*place) {
            recipient.last.get_or_insert_with(|| unreachable(&recipient.forward_path));
        }
    }
    let about = About { state: &shown, places: &places, reporting };
    let content = spool.content(&state.id)?;
    let (envelope, message) = match (Subject::of(kind), &reporting.postmaster) {
        (Some(subject), _) => about.report(subject, name, content)?,
        (None, Some(postmaster)) => about.to_postmaster(postmaster, name, content)?,
        (None, None) => return Ok(()),
    };
    let to: Vec<_> = envelope.recipients.iter().map(|recipient| recipient.forward_path.clone()).collect();
    let report_on = ReportOn { id: state.id.clone(), recipients: places, kind };
    let mut incoming = Spool::begin_report(spool, envelope, report_on.clone())?;
    incoming.write(&message)?;
    let name = incoming.commit()?;
    tracing::info!(id = %state.id, report = %name, ?kind, to = to.join(" "), "a report is on its way");
    metrics::reported(kind);
    state.record_report(&report_on);
    state.unannounced.push(name);
    Ok(())
}

/// The report of this kind whose first recipient is at `place`, if there is such a report.
fn existing(spool: &Spool, id: &QueueId, kind: ReportKind, place: usize) -> io::Result<Option<(QueueId, ReportOn)>> {
    let name = id.report(kind, place);
    if !spool.contains(&name)? {
        return Ok(None);
    }
    let is_it = |report_on: &ReportOn| report_on.id == *id && report_on.kind == kind;
    match spool.load(&name) {
        Ok(state) => Ok(state.report_on.filter(is_it).map(|report_on| (name, report_on))),
        // Nobody gets it: the next start puts it aside.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(error),
    }
}

fn no_reason(_: &str) -> Answer {
    Answer::own_words("5.0.0", "no reason is known")
}

#[cfg(test)]
mod tests;
