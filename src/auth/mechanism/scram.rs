//! SCRAM (RFC 5802, RFC 7677), with and without channel binding (RFC 5929, RFC 9266).
//!
//! The authenticator is asked in the middle, for the user's [`ScramKeys`]; it never sees a proof. An
//! unknown user is given keys that nobody has, with a salt that stays the same, so that the exchange
//! looks like any other whose password is wrong.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Exchange, Mechanism, Start, Step};
use crate::auth::result::Outcome;
use crate::auth::scram_keys::{ScramHash, ScramKeys};
use crate::auth::{AuthResult, Credentials, Needs, Refusal, SaltKey};
use crate::secret::{Secret, SecretRef};

use super::scram_message::{Binding, ClientFinal, ClientFirst, MessageError};

/// A SCRAM mechanism.
///
/// ```
/// use sansmtp::auth::{Auth, ScramHash, mechanism::Scram};
///
/// let auth = Auth::new().mechanism(Scram::plus(ScramHash::Sha256)).mechanism(Scram::new(ScramHash::Sha1));
/// # let _ = auth;
/// ```
///
/// The authenticator is asked [`AuthQuestion::ScramKeys`](crate::auth::AuthQuestion::ScramKeys) and
/// answers with [`AuthResult::scram_keys`].
#[derive(Clone, Debug)]
pub struct Scram {
    hash: ScramHash,
    plus: bool,
    iterations: u32,
    nonce_octets: usize,
    tells_invalid_proof: bool,
}

/// Asks the authenticator for the keys of the credentials' authcid: an [`AuthRequest`](crate::AuthRequest)'s
/// data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScramLookup {
    /// The hash for which keys are wanted.
    pub hash: ScramHash,
}

impl Scram {
    /// The mechanism without channel binding.
    #[must_use]
    pub fn new(hash: ScramHash) -> Self {
        Self {
            hash,
            plus: false,
            iterations: USUAL_ITERATIONS,
            nonce_octets: USUAL_NONCE_OCTETS,
            tells_invalid_proof: true,
        }
    }

    /// The mechanism with channel binding, `tls-exporter` and `tls-server-end-point`, by which the client
    /// proves that its TLS connection ends here.
    ///
    /// Earlier versions of TLS than 1.3 have `tls-server-end-point` only, and `tls-unique`, which GNU SASL
    /// takes there, is not to be had: `.policy(name, Policy::new().min_tls(TlsVersion::Tls1_3))` spares its
    /// users the attempt.
    ///
    /// It is listed only where the TLS layer gives binding data. Some clients choose it because it is
    /// listed, find that they cannot do it, and give up: mutt with GNU SASL is one. Therefore it is not
    /// offered unless asked for.
    #[must_use]
    pub fn plus(hash: ScramHash) -> Self {
        Self { plus: true, ..Self::new(hash) }
    }

    /// How many iterations unknown users appear to have: as many as your stored keys, or they could be
    /// told apart. 4,096 unless changed.
    #[must_use]
    pub fn iterations(mut self, iterations: u32) -> Self {
        self.iterations = iterations.max(1);
        self
    }

    /// Whether a client whose proof is wrong is told so by SCRAM's own `e=invalid-proof`, before the 535. RFC
    /// 5802, section 5.1 leaves it to the server. It is told unless changed; but GNU SASL, in msmtp for one,
    /// takes the message for a broken exchange and never reads the reply by which it would know that the
    /// password is wrong.
    #[must_use]
    pub fn tell_invalid_proof(mut self, told: bool) -> Self {
        self.tells_invalid_proof = told;
        self
    }

    /// The length of the server's part of the nonce: 24 characters unless changed, 16 to 128.
    #[must_use]
    pub fn nonce_octets(mut self, octets: usize) -> Self {
        self.nonce_octets = octets.clamp(16, MAX_NONCE_OCTETS);
        self
    }
}

impl Mechanism for Scram {
    fn name(&self) -> &'static str {
        if self.plus { self.hash.plus_mechanism() } else { self.hash.mechanism() }
    }

    fn needs(&self) -> Needs {
        Needs { channel_binding: self.plus, ..Needs::ENTROPY }
    }

    fn begin(&self, start: &Start<'_>) -> Box<dyn Exchange> {
        let tls = start.session().tls();
        Box::new(Running {
            hash: self.hash,
            binding: match tls {
                Some(tls) if self.plus => {
                    Offered::Bound { exporter: tls.exporter, server_end_point: tls.server_end_point.clone() }
                }
                _ => Offered::Unbound { plus_elsewhere: start.is_offered(self.hash.plus_mechanism()) },
            },
            tells_invalid_proof: self.tells_invalid_proof,
            iterations: self.iterations,
            salt_key: start.salt_key(),
            server_nonce: random_nonce(start, self.nonce_octets),
            state: State::First,
        })
    }
}

struct Running {
    hash: ScramHash,
    binding: Offered,
    iterations: u32,
    tells_invalid_proof: bool,
    salt_key: SaltKey,
    /// `None` if there was no entropy for it.
    server_nonce: Option<String>,
    state: State,
}

/// What of channel binding is offered to this client.
enum Offered {
    /// Nothing by this mechanism; perhaps by its sibling.
    Unbound {
        plus_elsewhere: bool,
    },
    Bound {
        exporter: Option<[u8; 32]>,
        server_end_point: Option<Vec<u8>>,
    },
}

enum State {
    /// Waits for the client's first message.
    First,
    /// Waits for the authenticator's keys.
    Lookup(Opening),
    /// Waits for the client's final message.
    Final(Box<Challenged>),
    /// The proof was right; waits for the client's empty response to the server's signature.
    Proved(AuthResult),
    Over,
}

/// What the first message leaves behind.
struct Opening {
    /// What `c` must hold: the header of the first message, and the binding data.
    binding: Vec<u8>,
    /// Both sides' nonces.
    nonce: String,
    /// What both sides sign, as far as it has come. What a client puts into it is not known beforehand.
    auth_message: Secret,
}

struct Challenged {
    opening: Opening,
    /// What becomes of it if the proof is right, and the keys.
    result: AuthResult,
}

impl Exchange for Running {
    fn step(&mut self, response: Option<SecretRef<'_>>, credentials: &mut Credentials) -> Step {
        let message = response.map_or(&[][..], SecretRef::expose_secret);
        match core::mem::replace(&mut self.state, State::Over) {
            State::First => self.first(message, credentials),
            State::Final(challenged) => self.last(message, *challenged, credentials),
            // RFC 4422, section 5: the client answers the additional data with an empty response.
            State::Proved(result) if message.is_empty() => Step::Finish(result),
            State::Proved(_) | State::Lookup(_) | State::Over => Step::Malformed,
        }
    }

    fn consulted(&mut self, result: AuthResult, credentials: &mut Credentials) -> Step {
        let State::Lookup(mut opening) = core::mem::replace(&mut self.state, State::Over) else {
            return Step::Malformed;
        };
        let looks_like_any = match result.outcome {
            Outcome::Found { .. } => true,
            Outcome::Refused(refusal) => refusal.is_uniform(),
            Outcome::Accepted { .. } | Outcome::CannotTell | Outcome::Handled => false,
        };
        if result.success() {
            // A look-up cannot accept anybody.
            return Step::Finish(AuthResult::cannot_tell());
        }
        if !looks_like_any {
            return Step::Finish(result);
        }
        // Made for everybody: who there is would show in the time, too.
        let authcid = credentials.authcid();
        let nobody = self.salt_key.with(|key| ScramKeys::of_nobody(self.hash, authcid, key, self.iterations));
        // Challenged would be those that there are, and no others.
        let Some(nobody) = nobody else { return Step::Finish(AuthResult::cannot_tell()) };
        let has_keys = result.keys().is_some_and(|keys| keys.hash() == self.hash);
        let result = match result.outcome {
            _ if has_keys => result,
            Outcome::Refused(_) => result.with_scram_keys(nobody),
            // The wrong kind of keys: whoever answered so did not mean to accept.
            Outcome::Found { .. } | Outcome::Accepted { .. } | Outcome::CannotTell | Outcome::Handled => {
                return Step::Finish(AuthResult::cannot_tell());
            }
        };
        let Some(keys) = result.keys() else { return Step::Finish(AuthResult::cannot_tell()) };
        let salt = STANDARD.encode(keys.salt());
        let server_first = format!("r={},s={salt},i={}", opening.nonce, keys.iterations());
        opening.auth_message.extend(b",");
        opening.auth_message.extend(server_first.as_bytes());
        self.state = State::Final(Box::new(Challenged { opening, result }));
        Step::Challenge(server_first.into_bytes().into())
    }
}

impl Running {
    fn first(&mut self, message: &[u8], credentials: &mut Credentials) -> Step {
        let Some(server_nonce) = &self.server_nonce else { return Step::Finish(AuthResult::cannot_tell()) };
        let first = match ClientFirst::parse(message) {
            Ok(first) => first,
            Err(error) => return error.into(),
        };
        let mut binding = first.gs2_header.to_vec();
        match (&self.binding, first.binding) {
            (Offered::Unbound { .. }, Binding::NotSupported)
            | (Offered::Unbound { plus_elsewhere: false }, Binding::ServerLacks) => {}
            // RFC 5802, section 6: somebody has taken -PLUS out of the list that the client saw.
            (Offered::Unbound { plus_elsewhere: true }, Binding::ServerLacks) => {
                return refuse(Refusal::ChannelBinding, "server-does-support-channel-binding");
            }
            (Offered::Unbound { .. }, Binding::Required(_)) => {
                return refuse(Refusal::ChannelBinding, "channel-binding-not-supported");
            }
            // It has chosen the mechanism that binds, and does not bind.
            (Offered::Bound { .. }, Binding::NotSupported | Binding::ServerLacks) => {
                return refuse(Refusal::ChannelBinding, "channel-bindings-dont-match");
            }
            (Offered::Bound { exporter, server_end_point }, Binding::Required(kind)) => {
                let data = match kind {
                    b"tls-exporter" => exporter.as_ref().map(<[u8; 32]>::as_slice),
                    b"tls-server-end-point" => server_end_point.as_deref(),
                    // `tls-unique` is not what it seems without the extended master secret (RFC 7627).
                    _ => None,
                };
                match data {
                    Some(data) => binding.extend_from_slice(data),
                    None => return refuse(Refusal::ChannelBinding, "unsupported-channel-binding-type"),
                }
            }
        }
        let authzid = first.authzid.as_deref().unwrap_or_default();
        let set = credentials.set_authzid(authzid).and_then(|()| credentials.set_authcid(&first.name));
        if set.is_err() {
            return MessageError::InvalidUsernameEncoding.into();
        }
        // It was checked to be ASCII.
        let client_nonce = core::str::from_utf8(first.nonce).unwrap_or_default();
        self.state = State::Lookup(Opening {
            binding,
            nonce: [client_nonce, server_nonce].concat(),
            auth_message: first.bare.into(),
        });
        Step::Consult(Box::new(ScramLookup { hash: self.hash }))
    }

    fn last(&mut self, message: &[u8], challenged: Challenged, credentials: &Credentials) -> Step {
        let Challenged { opening: Opening { binding, nonce, mut auth_message }, result } = challenged;
        let Some(keys) = result.keys() else { return Step::Finish(AuthResult::cannot_tell()) };
        let last = match ClientFinal::parse(message) {
            Ok(last) => last,
            Err(error) => return error.into(),
        };
        if !last.binding.ct_eq(&binding) {
            return refuse(Refusal::ChannelBinding, "channel-bindings-dont-match");
        }
        if last.nonce != nonce.as_bytes() {
            return refuse(Refusal::NonceChanged, "other-error");
        }
        auth_message.extend(b",");
        auth_message.extend(last.without_proof);
        let auth_message = auth_message.expose_secret();

        // The same work whether or not there is such a user.
        let client_signature = self.hash.hmac(keys.stored_key(), &[auth_message]);
        let server_signature = self.hash.hmac(keys.server_key(), &[auth_message]);
        let whole = last.proof.len() == client_signature.as_ref().len();
        let client_key = client_signature.xor(last.proof.expose_secret());
        let right = self.hash.digest(client_key.as_ref()).ct_eq(keys.stored_key()) & whole;
        match result.outcome {
            // The server proves itself to nobody whom it refuses.
            Outcome::Found { .. } if right && result.denies_authzid(credentials) => {
                refuse(Refusal::AuthzidNotGranted, "other-error")
            }
            Outcome::Found { .. } if right => {
                self.state = State::Proved(result.found_right());
                Step::Challenge(format!("v={}", STANDARD.encode(&server_signature)).into_bytes().into())
            }
            // The keys go now, as everybody's do, and not with the client's next line.
            Outcome::Refused(_) => self.refuse_proof(result.without_attached()),
            Outcome::Found { .. } | Outcome::Accepted { .. } | Outcome::CannotTell | Outcome::Handled => {
                self.refuse_proof(AuthResult::refuse())
            }
        }
    }

    fn refuse_proof(&self, result: AuthResult) -> Step {
        if self.tells_invalid_proof {
            Step::ErrorChallenge(error("invalid-proof").into(), result)
        } else {
            Step::Finish(result)
        }
    }
}

impl From<MessageError> for Step {
    fn from(message_error: MessageError) -> Self {
        Self::ErrorChallengeMalformed(
            error(match message_error {
                MessageError::InvalidEncoding => "invalid-encoding",
                MessageError::ExtensionsNotSupported => "extensions-not-supported",
                MessageError::InvalidUsernameEncoding => "invalid-username-encoding",
            })
            .into(),
        )
    }
}

fn refuse(refusal: Refusal, value: &str) -> Step {
    Step::ErrorChallenge(error(value).into(), AuthResult::refuse_because(refusal))
}

/// The server's final message of an exchange that failed.
fn error(value: &str) -> Vec<u8> {
    [b"e=", value.as_bytes()].concat()
}

/// An octet for each character. Those that can stand in a nonce do; of the others, up to three share a
/// letter, so that each character is worth six bits at least.
fn random_nonce(start: &Start<'_>, octets: usize) -> Option<String> {
    let mut drawn = [0; MAX_NONCE_OCTETS];
    let drawn = drawn.get_mut(..octets)?;
    start.fill_random(drawn).ok()?;
    let character = |&octet: &u8| match octet {
        b'!'..=b'~' if octet != b',' => char::from(octet),
        _ => LETTERS.get(usize::from(octet) % LETTERS.len()).copied().map_or('A', char::from),
    };
    Some(drawn.iter().map(character).collect())
}

/// RFC 7677, section 4: at least.
const USUAL_ITERATIONS: u32 = 4_096;

/// 144 bits.
const USUAL_NONCE_OCTETS: usize = 24;
const MAX_NONCE_OCTETS: usize = 128;

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
