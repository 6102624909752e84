//! How long a client may take: for what comes next, and in all.

use core::time::Duration;

use super::{Connection, Next, Stage};
use crate::action::AbortReason;
use crate::canned;
use crate::event::CloseReason;

impl Connection {
    /// The input is used up in the middle of something.
    #[inline]
    pub(super) fn await_input(&mut self, now: Duration, timeout: Duration) -> Option<Next> {
        if self.input_ended {
            self.give_up(AbortReason::ConnectionLost, CloseReason::PeerClosed);
            return None;
        }
        let mut deadline = *self.deadline.get_or_insert(now.saturating_add(timeout));
        // Between chunks as well: a message that does not go on would be a way around every limit on the time.
        let is_content_due = matches!(self.stage, Stage::Content(_) | Stage::Chunk { .. } | Stage::Discarding { .. });
        if is_content_due || self.chunks.is_some() {
            let message = now.saturating_add(self.config.timeouts.message);
            deadline = deadline.min(*self.message_deadline.get_or_insert(message));
        }
        deadline = self.final_deadline(now).map_or(deadline, |last| deadline.min(last));
        if now >= deadline {
            self.give_up(AbortReason::Timeout, CloseReason::Timeout);
            self.say(canned::TIMEOUT);
            return None;
        }
        Some(self.wait(now, Next::NeedInput { deadline }))
    }

    /// When the client's time is up, whatever it says until then.
    pub(super) fn final_deadline(&mut self, now: Duration) -> Option<Duration> {
        let timeouts = self.config.timeouts;
        let is_content_coming = matches!(self.stage, Stage::Content(_) | Stage::Chunk { .. }) || self.chunks.is_some();
        let limit = if self.session.is_authenticated() || is_content_coming {
            None
        } else if self.config.auth_required {
            timeouts.before_auth
        } else {
            timeouts.before_message
        };
        let unproductive = limit.map(|limit| {
            let since = *self.counts.idle_since.get_or_insert(whole_seconds(now));
            limit.saturating_add(Duration::from_secs(since.into()))
        });
        timeouts.session.into_iter().chain(unproductive).min()
    }

    /// Does not count the time since then, which the client has waited for an answer of the embedder's.
    pub(super) fn excuse_wait(&mut self, begun: Duration, now: Duration) {
        let waited = whole_seconds(now.saturating_sub(begun));
        self.counts.idle_since = self.counts.idle_since.map(|since| since.saturating_add(waited));
    }

    /// When the TLS handshake that begins now must be done.
    #[cfg(feature = "rustls")]
    pub(crate) fn handshake_deadline(&mut self, now: Duration) -> Duration {
        let deadline = now.saturating_add(self.config.timeouts.command);
        self.final_deadline(now).map_or(deadline, |last| deadline.min(last))
    }
}

fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
