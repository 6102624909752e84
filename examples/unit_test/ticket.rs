//! A mechanism of one's own: the client shows a ticket that it was given elsewhere.

use sansmtp::SecretRef;
use sansmtp::auth::{Credentials, Exchange, Mechanism, Start, Step};

/// `X-TICKET`: one message, the name and the ticket with a slash between them.
pub(crate) struct Ticket;

/// What the authenticator is asked about.
pub(crate) struct Shown(pub(crate) String);

impl Mechanism for Ticket {
    fn name(&self) -> &'static str {
        "X-TICKET"
    }

    fn begin(&self, _: &Start<'_>) -> Box<dyn Exchange> {
        Box::new(Self)
    }
}

impl Exchange for Ticket {
    fn step(&mut self, response: Option<SecretRef<'_>>, credentials: &mut Credentials) -> Step {
        let message = response.and_then(|response| std::str::from_utf8(response.expose_secret()).ok());
        let Some((name, ticket)) = message.and_then(|message| message.split_once('/')) else { return Step::Malformed };
        match credentials.set_authcid(name.as_bytes()) {
            Ok(()) => Step::Ask(Box::new(Shown(ticket.to_owned()))),
            Err(malformed) => malformed.into(),
        }
    }
}
