//! Deadlines of a connection, most of which are never met.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use pin_project_lite::pin_project;

use super::Runtime;

pin_project! {
    /// Wakes a task at a point in time, which may be another one in each poll.
    ///
    /// A runtime's alarm is moved only if it would go off too late, because that can cost a system call. If it
    /// goes off too early, nobody notices but the task that is polled once more.
    pub(super) struct Alarm<R: Runtime> {
        #[pin]
        alarm: Option<R::Alarm>,
        set_for: Option<Instant>,
    }
}

impl<R: Runtime> Default for Alarm<R> {
    fn default() -> Self {
        Self { alarm: None, set_for: None }
    }
}

impl<R: Runtime> Alarm<R> {
    /// Waits until `until`.
    pub(super) fn poll_until(self: Pin<&mut Self>, until: Instant, context: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        loop {
            if this.set_for.is_none_or(|set_for| until < set_for) {
                this.alarm.set(Some(R::alarm(until)));
                *this.set_for = Some(until);
            }
            let Some(alarm) = this.alarm.as_mut().as_pin_mut() else { return Poll::Ready(()) };
            if alarm.poll(context).is_pending() {
                return Poll::Pending;
            }
            // It has gone off, for this deadline or for an earlier one.
            *this.set_for = None;
            if Instant::now() >= until {
                return Poll::Ready(());
            }
        }
    }
}
