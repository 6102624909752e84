//! Who may send as whom: what the options say, asked for a connection.

use std::sync::Arc;

use sansmtp::{EnhancedCode, Envelope, Reply, Session, Verdict};
use sansmtp_authenticators::source::{UserSource, Users};
use sansmtp_authenticators::{Addresses, Authenticator, LoginAddresses};
use sansmtp_relay::senders::{CurrentSender, KnownAddresses, Originators, SenderPolicy, SenderRefusal};

use crate::options::{SenderOptions, Senders, Serve};

/// Who may send as whom, for all connections.
pub(crate) struct SenderCheck {
    /// None where anybody may send from any address.
    policy: Option<SenderPolicy>,
    users: Arc<dyn Authenticator>,
}

impl SenderCheck {
    /// As the options say, of these users.
    pub(crate) fn new(options: &Serve, users: Arc<dyn Authenticator>) -> Self {
        let SenderOptions { senders, sender_pattern, subaddress_separator } = &options.senders;
        let policy = || {
            let policy = SenderPolicy::new(options.hostname.as_str())
                // Clients write Info@ for info@, and it is the sender's own domain that is asked about.
                .ignore_case(true)
                .subaddress_separator(*subaddress_separator);
            sender_pattern.iter().cloned().fold(policy, SenderPolicy::pattern)
        };
        let policy = (*senders != Some(Senders::Any)).then(policy);
        Self { policy, users }
    }

    /// Whether the user who is logged in may send from the reverse-path.
    ///
    /// # Errors
    /// What to answer if not.
    pub(crate) fn reverse_path(
        &self,
        sender: &mut CurrentSender,
        session: &Session,
        envelope: &Envelope,
    ) -> Result<(), Verdict> {
        let (Some(policy), Some(login)) = (&self.policy, session.login()) else { return Ok(()) };
        let path = envelope.reverse_path().map(|path| path.as_str()).unwrap_or_default();
        let checked = policy.check_reverse_path(sender, login, path, |login| self.look_up(session, login));
        checked.map_err(|refusal| verdict(&refusal))
    }

    /// Whether the user who is logged in may send a message with this header.
    ///
    /// # Errors
    /// What to answer if not.
    pub(crate) fn header(
        &self,
        sender: &mut CurrentSender,
        session: &Session,
        header: &Originators,
    ) -> Result<(), Verdict> {
        let (Some(policy), Some(login)) = (&self.policy, session.login()) else { return Ok(()) };
        let checked = policy.check_header(sender, login, header, |login| self.look_up(session, login));
        checked.map_err(|refusal| verdict(&refusal))
    }

    fn look_up(&self, session: &Session, login: &str) -> KnownAddresses {
        if let Some(addresses) = session.auth_data::<LoginAddresses>() {
            return KnownAddresses::These(addresses.as_slice().to_vec());
        }
        match self.users.addresses(login) {
            Addresses::Known(addresses) => KnownAddresses::These(addresses),
            Addresses::UnknownLogin => KnownAddresses::These(Vec::new()),
            Addresses::NeverGiven => KnownAddresses::Nobodys,
            Addresses::CannotTell => KnownAddresses::CannotTell,
        }
    }
}

fn verdict(refusal: &SenderRefusal) -> Verdict {
    let (class, subject, detail) = refusal.enhanced_code();
    let code = EnhancedCode::new(class, subject, detail);
    match code.and_then(|enhanced| Reply::new(refusal.code(), enhanced, &refusal.to_string())) {
        Ok(reply) => reply.into(),
        // It cannot be, and is no leave to send.
        Err(_) => Verdict::TryLater,
    }
}

/// Says which rule there is, at the start, and for whom it may be another than expected.
pub(crate) fn log_rule(options: &Serve, users: &Users) {
    let SenderOptions { senders, sender_pattern, .. } = &options.senders;
    if *senders == Some(Senders::Any) {
        tracing::info!("users may send from any address");
        return;
    }
    tracing::info!("users may send from their own addresses only");
    if !sender_pattern.is_empty() {
        return;
    }
    for source in users.without_addresses() {
        tracing::info!(
            users = %source,
            "nobody here has an address, nor a name that is one: until then, these users may send from any"
        );
    }
    for source in users.lacking_addresses() {
        tracing::warn!(
            users = %source,
            "nobody here has an address, nor a name that is one: all mail of these users is refused, until they have some by \
             \"user address add\" or --sender-pattern, or with --senders any"
        );
    }
    let keeps_none =
        |source: &&UserSource| matches!(source, UserSource::Dovecot(_) | UserSource::Jwks(_) | UserSource::Passwd(_));
    for source in options.users.iter().filter(keeps_none) {
        tracing::info!(
            users = %source,
            "no addresses are kept here: users have one if their name is one, or by --sender-pattern"
        );
    }
}
