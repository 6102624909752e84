//! AUTH (RFC 4954): what this side logs in with at a next hop.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::Client;
use crate::delivery::error::{Error, Step};
use crate::routes::Credentials;

impl Client {
    pub(super) async fn log_in(&mut self, credentials: &Credentials) -> Result<(), Error> {
        let encode = |text: &[u8]| Zeroizing::new(STANDARD.encode(text));
        let authcid = &credentials.authcid;
        let password = credentials.password.expose();
        let reply = if self.extensions.auth_plain {
            let message = encode(&Zeroizing::new([b"\0", authcid.as_bytes(), b"\0", password.as_bytes()].concat()));
            let command = Zeroizing::new(format!("AUTH PLAIN {}", *message));
            if command.len() + 2 <= MAX_COMMAND_OCTETS {
                self.command(Step::Auth, &command).await?
            } else {
                self.challenge("AUTH PLAIN").await?;
                self.command(Step::Auth, &message).await?
            }
        } else if self.extensions.auth_login {
            self.challenge("AUTH LOGIN").await?;
            self.challenge(&encode(authcid.as_bytes())).await?;
            self.command(Step::Auth, &encode(password.as_bytes())).await?
        } else {
            return Err(Error::NoMechanism);
        };
        if reply.code == AUTHENTICATED { Ok(()) } else { Err(Error::Refused(Step::Auth, reply)) }
    }

    /// Sends a line of an AUTH exchange that a challenge must answer.
    async fn challenge(&mut self, line: &str) -> Result<(), Error> {
        let reply = self.command(Step::Auth, line).await?;
        if reply.code == CHALLENGE { Ok(()) } else { Err(Error::Refused(Step::Auth, reply)) }
    }
}

const AUTHENTICATED: u16 = 235;
const CHALLENGE: u16 = 334;
/// RFC 5321, section 4.5.3.1.4; a longer initial response goes into a line of its own (RFC 4954, section 4).
const MAX_COMMAND_OCTETS: usize = 512;
