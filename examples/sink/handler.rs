//! One user in memory, and a directory for what it sends.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sansmtp::{Aborted, AsyncHandler, AuthRequest, AuthResult, Envelope, Hooks, Refusal, Session, Verdict, reply};
use zeroize::Zeroizing;

/// What all connections share.
pub(crate) struct Shared {
    user: String,
    password: Zeroizing<Vec<u8>>,
    save: Option<PathBuf>,
    /// The number of the next message, which is its file's name.
    next: AtomicU64,
}

impl Shared {
    pub(crate) fn new(user: String, password: Zeroizing<Vec<u8>>, save: Option<PathBuf>) -> Self {
        Self { user, password, save, next: AtomicU64::new(1) }
    }
}

/// One connection's state. Everything is quick, so nothing waits; what is saved is gathered first.
pub(crate) struct Sink {
    shared: Arc<Shared>,
    content: Vec<u8>,
}

impl Sink {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, content: Vec::new() }
    }
}

impl AsyncHandler for Sink {
    fn hooks(&self) -> Hooks {
        Hooks::MESSAGE
    }

    async fn authenticate(&mut self, _: &Session, request: &AuthRequest) -> AuthResult {
        let credentials = request.credentials();
        let Some(password) = credentials.password() else { return AuthResult::cannot_tell() };
        let right = password.ct_eq(&self.shared.password);
        match (credentials.authcid() == self.shared.user, right) {
            (true, true) => AuthResult::accept(),
            (true, false) => AuthResult::refuse(),
            (false, _) => AuthResult::refuse_because(Refusal::UnknownUser),
        }
    }

    async fn content(&mut self, piece: &[u8]) {
        if self.shared.save.is_some() {
            self.content.extend_from_slice(piece);
        }
    }

    async fn message(&mut self, _: &Session, _: &Envelope, _: u64) -> Verdict {
        let Some(directory) = &self.shared.save else { return Verdict::Accept };
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let (path, content) = (directory.join(format!("{number:06}.eml")), std::mem::take(&mut self.content));
        // Under another name until it is whole: whoever watches the directory sees whole messages only.
        let unfinished = path.with_extension("part");
        let saved = smol::unblock(move || {
            std::fs::write(&unfinished, content)?;
            std::fs::rename(&unfinished, &path)
        });
        match saved.await {
            Ok(()) => Verdict::Accept,
            Err(error) => {
                tracing::error!(%error, "cannot save a message");
                reply!("452 4.3.1 The message cannot be saved").into()
            }
        }
    }

    async fn aborted(&mut self, _: Aborted) {
        self.content.clear();
    }
}
