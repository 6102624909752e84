//! One user in memory, and a directory for what it sends.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sansmtp::auth::KnownPassword;
use sansmtp::{
    AsyncHandler, AuthQuestion, AuthRequest, AuthResult, Envelope, Handler, Hooks, Refusal, Secret, Session, Verdict,
    reply,
};
use sansmtp_authenticators::stored::names_in_certificate;

/// The one user, by all that it may show.
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) password: KnownPassword,
    pub(crate) token: Option<Secret>,
}

impl User {
    fn authenticate(&self, request: &AuthRequest) -> AuthResult {
        let authcid = request.credentials().authcid();
        if let AuthQuestion::Anonymous(_) = request.question() {
            return AuthResult::accept();
        }
        if let AuthQuestion::ClientCertificate(chain) = request.question() {
            return if names_in_certificate(chain).contains(&self.name) {
                AuthResult::accept().with_login(self.name.as_str())
            } else {
                AuthResult::refuse_because(Refusal::UnknownUser)
            };
        }
        let is_user = authcid == self.name;
        if let AuthQuestion::BearerToken(presented) = request.question()
            // OAUTHBEARER names nobody besides the token.
            && (is_user || authcid.is_empty())
        {
            return match &self.token {
                Some(token) if presented.token().ct_eq(token.expose_secret()) => {
                    AuthResult::accept().with_login(self.name.as_str())
                }
                Some(_) | None => AuthResult::refuse(),
            };
        }
        self.password.answer_for(&self.name, request)
    }
}

/// What all connections share.
pub(crate) struct Shared {
    user: User,
    save: Option<PathBuf>,
    /// The number of the next message, which is its file's name.
    next: AtomicU64,
}

impl Shared {
    pub(crate) fn new(user: User, save: Option<PathBuf>) -> Self {
        Self { user, save, next: AtomicU64::new(1) }
    }
}

/// One connection's handler. Everything is quick, so nothing waits; what is saved is gathered first.
pub(crate) struct Sink {
    shared: Arc<Shared>,
}

/// What is saved, if anything is.
type Message = Option<Vec<u8>>;

impl Sink {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Where nothing is saved, a message need not be prepared.
    fn asked(&self) -> Hooks {
        if self.shared.save.is_some() { Hooks::DATA | Hooks::MESSAGE } else { Hooks::MESSAGE }
    }

    /// What saves the message, if it is to be saved.
    fn save(&self, message: Message) -> Option<impl FnOnce() -> io::Result<()> + Send + use<>> {
        let (directory, content) = (self.shared.save.as_ref()?, message?);
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("{number:06}.eml"));
        // Under another name until it is whole: whoever watches the directory sees whole messages only.
        let unfinished = path.with_extension("part");
        Some(move || {
            std::fs::write(&unfinished, content)?;
            std::fs::rename(&unfinished, &path)
        })
    }
}

fn verdict(saved: io::Result<()>) -> Verdict {
    match saved {
        Ok(()) => Verdict::Accept,
        Err(error) => {
            tracing::error!(%error, "cannot save a message");
            reply!("452 4.3.1 The message cannot be saved").into()
        }
    }
}

impl Handler for Sink {
    type Message = Message;

    fn hooks(&self) -> Hooks {
        self.asked()
    }

    fn authenticate(&mut self, _: &Session, request: &AuthRequest) -> AuthResult {
        self.shared.user.authenticate(request)
    }

    fn data(&mut self, _: &Session, _: &Envelope, message: &mut Message) -> Verdict {
        *message = Some(Vec::new());
        Verdict::Accept
    }

    fn message(&mut self, _: &Session, _: &Envelope, message: Message) -> Verdict {
        self.save(message).map_or(Verdict::Accept, |save| verdict(save()))
    }
}

impl AsyncHandler for Sink {
    type Message = Message;

    fn hooks(&self) -> Hooks {
        self.asked()
    }

    async fn authenticate(&mut self, _: &Session, request: &AuthRequest) -> AuthResult {
        self.shared.user.authenticate(request)
    }

    async fn data(&mut self, _: &Session, _: &Envelope, message: &mut Message) -> Verdict {
        *message = Some(Vec::new());
        Verdict::Accept
    }

    async fn message(&mut self, _: &Session, _: &Envelope, message: Message) -> Verdict {
        match self.save(message) {
            // smol's pool needs no smol around it.
            Some(save) => verdict(smol::unblock(save).await),
            None => Verdict::Accept,
        }
    }
}
