//! AUTH (RFC 4954): the login at a next hop.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{Client, SessionLogin};
use crate::delivery::error::{Error, Step};
use crate::delivery::reply::Reply;
use crate::routes::NextHop;
use crate::sasl::{Exchange, Login, SaslMechanism, choose};

impl Client {
    /// Logs in by the mechanism that suits best.
    ///
    /// # Errors
    /// Where the server refuses, or is not the one that it seems to be. Then the session must not be used.
    pub(super) async fn log_in(&mut self, hop: &NextHop, login: SessionLogin<'_>) -> Result<(), Error> {
        let SessionLogin { credentials, secret } = login;
        let (kind, forced) = (credentials.kind(), credentials.mechanism);
        let offered = &self.extensions.mechanisms;
        let mechanism = choose(offered, kind, self.tls.is_some(), forced)
            .ok_or_else(|| Error::NoMechanism { kind, offered: offered.join(" ") })?;
        let binding = self.tls.as_ref().and_then(|tls| tls.binding.clone());
        let login = Login { authcid: &credentials.authcid, secret: secret.expose(), host: &hop.host, port: hop.port };
        let failed = |error| Error::Login(mechanism, error);
        let mut exchange = Exchange::new(mechanism, &login, binding).map_err(failed)?;
        let mut reply = self.begin(mechanism, &mut exchange).await?;
        while reply.code == CHALLENGE {
            let challenge = STANDARD.decode(reply.lines.first().map_or("", |line| line.trim()));
            let challenge = challenge.map_err(|_| failed(crate::sasl::ExchangeError::Challenge))?;
            let response = if exchange.is_slow() {
                // This thread drives all sessions, which must not wait for a slow hash.
                let answered = tokio::task::spawn_blocking(move || {
                    let response = exchange.respond(&challenge);
                    (exchange, response)
                });
                let response;
                // It does not panic; a runtime that ends cancels it.
                (exchange, response) = answered.await.map_err(|error| Error::Network(Step::Auth, error.into()))?;
                response
            } else {
                exchange.respond(&challenge)
            };
            reply = self.command(Step::Auth, &encode(&response.map_err(failed)?)).await?;
        }
        if reply.code == AUTHENTICATED {
            return exchange.succeeded().map_err(failed);
        }
        // There are servers that repeat what they were sent, and do not want. The reply goes to the sender, too.
        let known = secrets_sent(mechanism, &login);
        let reply = Reply { lines: reply.lines.iter().map(|line| without(line, &known)).collect(), ..reply };
        let told = exchange.refusal().map(|told| without(told, &known));
        tracing::warn!(relay = %hop, %mechanism, reply = reply.to_string(), told, "the login is refused");
        Err(Error::Refused(Step::Auth, reply))
    }

    /// Names the mechanism, and says what the client says first.
    async fn begin(&mut self, mechanism: SaslMechanism, exchange: &mut Exchange) -> Result<Reply, Error> {
        let command = format!("AUTH {mechanism}");
        let Some(message) = exchange.initial_response() else { return self.command(Step::Auth, &command).await };
        let message = encode(&message);
        // Where there is no RFC, descriptions and clients have it in one line, however long.
        if command.len() + 1 + message.len() + 2 <= MAX_COMMAND_OCTETS || mechanism == SaslMechanism::XOAuth2 {
            let mut line = Zeroizing::new(String::with_capacity(command.len() + 1 + message.len()));
            line.push_str(&command);
            line.push(' ');
            line.push_str(&message);
            return self.command(Step::Auth, &line).await;
        }
        let reply = self.command(Step::Auth, &command).await?;
        if reply.code == CHALLENGE { self.command(Step::Auth, &message).await } else { Ok(reply) }
    }
}

/// The secret, in the forms in which the server has seen it.
fn secrets_sent(mechanism: SaslMechanism, login: &Login<'_>) -> Vec<Zeroizing<String>> {
    let whole = Exchange::new(mechanism, login, None).ok().and_then(|mut exchange| exchange.initial_response());
    let secret = login.secret;
    let mut known = vec![encode(secret.as_bytes()), Zeroizing::new(secret.to_owned())];
    known.splice(..0, whole.map(|message| encode(&message)));
    known.retain(|secret| !secret.is_empty());
    known
}

fn without(text: &str, known: &[Zeroizing<String>]) -> String {
    known.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "[redacted]"))
}

fn encode(message: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(message))
}

const AUTHENTICATED: u16 = 235;
const CHALLENGE: u16 = 334;
/// RFC 5321, section 4.5.3.1.4; a longer initial response goes into a line of its own (RFC 4954, section 4).
const MAX_COMMAND_OCTETS: usize = 512;
