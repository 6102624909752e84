//! A mail transaction, and what it has reserved.

use std::sync::Arc;

#[cfg(feature = "valkey")]
use super::valkey::Reserved;
use super::{SendingLog, SendingRefused, Sent};

/// A mail transaction of a login. What it has reserved is given back when it is dropped, unless it is
/// [`sent`](Self::sent).
#[must_use = "what it has reserved is given back when it is dropped"]
#[derive(Debug)]
pub struct Transaction {
    log: Arc<SendingLog>,
    key: u64,
    /// As it is to be told.
    login: Box<str>,
    messages: u32,
    recipients: u32,
    #[cfg(feature = "valkey")]
    at_server: Option<Box<Reserved>>,
}

impl Transaction {
    pub(super) fn begin(log: &Arc<SendingLog>, login: &str) -> Result<Self, SendingRefused> {
        let lower_case = login.to_lowercase();
        let mut this = Self {
            log: Arc::clone(log),
            key: log.key(&lower_case),
            login: login.into(),
            messages: 0,
            recipients: 0,
            #[cfg(feature = "valkey")]
            at_server: log.shared.as_ref().map(|shared| Box::new(Reserved::new(shared, &lower_case))),
        };
        this.reserve(Sent::Message)?;
        Ok(this)
    }

    /// Adds a recipient.
    ///
    /// With Valkey it blocks, for the time limit at the most.
    ///
    /// # Errors
    /// [`SendingRefused`] where there is no room for this one, or the server cannot be asked and has to be. Those that
    /// were added before stay.
    pub fn add_recipient(&mut self) -> Result<(), SendingRefused> {
        self.reserve(Sent::Recipient)
    }

    /// The message is sent: what was reserved counts from now on.
    pub fn sent(mut self) {
        let (messages, recipients) = (std::mem::take(&mut self.messages), std::mem::take(&mut self.recipients));
        self.log.here.keep(self.key, Sent::Message, messages);
        self.log.here.keep(self.key, Sent::Recipient, recipients);
        #[cfg(feature = "valkey")]
        if let (Some(shared), Some(at_server)) = (&self.log.shared, self.at_server.take()) {
            at_server.keep(shared);
        }
    }

    fn reserve(&mut self, sent: Sent) -> Result<(), SendingRefused> {
        let reserved = self.log.here.reserve(self.key, sent).and_then(|()| self.reserve_at_server(sent));
        match reserved {
            Ok(()) => {
                let count = match sent {
                    Sent::Message => &mut self.messages,
                    Sent::Recipient => &mut self.recipients,
                };
                *count = count.saturating_add(1);
            }
            Err(SendingRefused::Exceeded(exceeded)) if self.log.here.is_news(self.key, &exceeded) => {
                tracing::warn!(login = &*self.login, "limit reached: {exceeded}");
            }
            Err(_) => {}
        }
        reserved
    }

    #[cfg(feature = "valkey")]
    fn reserve_at_server(&mut self, sent: Sent) -> Result<(), SendingRefused> {
        let (Some(shared), Some(at_server)) = (&self.log.shared, &mut self.at_server) else { return Ok(()) };
        let reserved = at_server.reserve(shared, sent);
        if reserved.is_err() {
            self.log.here.release(self.key, sent, 1);
        }
        reserved
    }

    #[cfg(not(feature = "valkey"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "there is no server")]
    fn reserve_at_server(&mut self, _: Sent) -> Result<(), SendingRefused> {
        Ok(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.log.here.release(self.key, Sent::Message, self.messages);
        self.log.here.release(self.key, Sent::Recipient, self.recipients);
    }
}
