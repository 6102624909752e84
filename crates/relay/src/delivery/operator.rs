//! What an operator asks for by the control socket.

use std::io;
use std::sync::{Arc, PoisonError};

use super::Deliverer;
use crate::control::{Reply, Request};
use crate::envelope::QueueId;
use crate::idn::same_domain;
use crate::metrics;
use crate::queue::Deleted;
use crate::spool::{State, Timestamp};

impl Deliverer {
    /// Does what an operator asks for. This waits for the disk.
    pub(crate) fn obey(self: &Arc<Self>, request: Request) -> Reply {
        if let Request::Sending = request {
            return Reply::Sending { ids: self.queue().sending() };
        }
        let _one_after_the_other = self.operator.lock().unwrap_or_else(PoisonError::into_inner);
        let reply = match request {
            Request::Sending => Reply::Sending { ids: Vec::new() },
            Request::FlushAll => self.flush(None),
            Request::FlushDestination { domain } => self.flush(Some(&same_domain(&domain))),
            Request::Flush { id } => self.flush_message(&id),
            Request::Hold { id } => self.change_hold(&id, true),
            Request::Release { id } => self.change_hold(&id, false),
            Request::Delete { id } => self.delete(&id),
        };
        self.wake.notify_one();
        reply
    }

    /// Has all mail tried now, or that for a recipients' domain, or for a mail exchanger.
    fn flush(&self, wanted: Option<&str>) -> Reply {
        if wanted.is_some() && self.router.has_one_way() {
            return Reply::Failed { reason: "all mail goes to the relays: flush it without a destination".to_owned() };
        }
        let (now, mut queue) = (self.now(), self.queue());
        let messages = match wanted {
            None => queue.flush(now, |_, _| true),
            Some(name) => queue.flush(now, |part, destination| **part == *name || destination.has(name)),
        };
        drop(queue);
        tracing::info!(messages, destination = wanted, "flushed by an operator");
        Reply::Done { messages }
    }

    fn flush_message(&self, id: &QueueId) -> Reply {
        let (now, mut queue) = (self.now(), self.queue());
        if queue.holds(id) {
            return Reply::OnHold;
        }
        if !queue.flush_message(now, id) {
            return Reply::Unknown;
        }
        drop(queue);
        tracing::info!(%id, "flushed by an operator");
        Reply::Done { messages: 1 }
    }

    /// Puts a message on hold, or releases it. Where that cannot be written, it stays as it was.
    fn change_hold(&self, id: &QueueId, held: bool) -> Reply {
        {
            let mut queue = self.queue();
            // While the state is written, the message does not end.
            if !queue.pin(id) {
                return Reply::Unknown;
            }
            if queue.holds(id) == held {
                queue.unpin(id);
                return Reply::Done { messages: 1 };
            }
            if held {
                queue.hold(id);
            }
        }
        let mut late = None;
        let written = self.messages.open(&self.spool, id).and_then(|message| {
            let written = message.write(|state| self.write_hold(state, held));
            late = message.read(|state| state.delay_report_due(self.reporting.delay_after));
            self.messages.close(id, message);
            written
        });
        let (now, mut queue) = (self.now(), self.queue());
        // What is held is released if that succeeded, and what is to be held if it did not.
        if written.is_ok() != held {
            queue.release(now, id);
        }
        if let Some(late) = late {
            // It is tried first, and may then be gone.
            let pause = late.since(Timestamp::now()).max(self.schedule.first);
            queue.report_delay(now.saturating_add(pause), id);
        }
        queue.unpin(id);
        drop(queue);
        match written {
            Ok(()) => {
                tracing::info!(%id, held, "changed by an operator");
                Reply::Done { messages: 1 }
            }
            // It has just been delivered.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_gone(id) => Reply::Unknown,
            Err(error) => Reply::Failed { reason: format!("the state cannot be written: {error}") },
        }
    }

    /// Whether the disk has forgotten a message.
    pub(super) fn is_gone(&self, id: &QueueId) -> bool {
        self.spool.contains(id).is_ok_and(|is_there| !is_there)
    }

    fn write_hold(&self, state: &mut State, held: bool) -> io::Result<()> {
        let before = std::mem::replace(&mut state.held, held);
        let written = self.spool.save(state);
        if written.is_err() {
            state.held = before;
        }
        written
    }

    fn delete(&self, id: &QueueId) -> Reply {
        // What has been reported is true, and waits for nothing any more.
        let reports = self.messages.open(&self.spool, id).map_or_else(
            |_| Vec::new(),
            |message| {
                let reports = message.read(|state| state.unannounced.clone());
                self.messages.close(id, message);
                reports
            },
        );
        let deleted = self.queue().delete(id);
        match deleted {
            Deleted::Busy => return Reply::Busy,
            Deleted::Unknown => return Reply::Unknown,
            Deleted::Gone => {}
        }
        if let Err(error) = self.spool.forget(id) {
            // It is taken in again. What is known in memory only still counts.
            self.spool.announce(id.clone());
            return Reply::Failed { reason: format!("the files cannot be removed: {error}") };
        }
        self.messages.remove(id);
        for report in reports {
            self.spool.announce(report);
        }
        metrics::deleted();
        tracing::info!(%id, "deleted by an operator; the sender is not told");
        match self.spool.remove(std::slice::from_ref(id)) {
            Ok(()) => Reply::Done { messages: 1 },
            Err(error) => {
                Reply::Failed { reason: format!("it is deleted, and may be back after a power failure: {error}") }
            }
        }
    }
}
