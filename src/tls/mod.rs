//! TLS as a layer with the connection's own surface: ciphertext in, ciphertext out.
//!
//! A [`Session`] is polled and answered like a [`Connection`]; what is to be written comes as
//! [`Action::Transmit`] once TLS is active. STARTTLS or implicit TLS is a choice of constructor. Whoever
//! moves the octets sees no TLS at all.
//!
//! rustls is behind its buffered API, and in this file only.

mod end_point;
mod failure;
mod records;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use std::io::{self, BufRead, Read, Write};
use std::sync::{Mutex, PoisonError};

use rustls::server::{ClientHello, ResolvesServerCert, ServerConnection};
use rustls::sign::CertifiedKey;
use rustls::{ProtocolVersion, ServerConfig};

use crate::action::Action;
use crate::connection::{Connection, Next};
use crate::event::{CloseReason, TlsFailure};
use crate::question::{Answer, NotAsked};
use crate::read_buffer::Poll;
use crate::session::{TlsInfo, TlsVersion};

use self::records::Records;

/// A connection that is under TLS, or can become so.
pub struct Session {
    connection: Connection,
    config: Option<Arc<ServerConfig>>,
    /// Apart: a connection in the clear has none.
    layer: Option<Box<Layer>>,
    input_ended: bool,
}

/// TLS, from the first octet of the handshake on.
struct Layer {
    tls: ServerConnection,
    /// What the server shows, where somebody wants to know.
    shown: Option<Arc<Shown>>,
    /// The handshake is done.
    established: bool,
    /// Ciphertext to be given out.
    ciphertext: Vec<u8>,
    /// `ciphertext` was given out by the last poll.
    transmitted: bool,
    /// What is to be done once `ciphertext` has been given out.
    then: Option<Then>,
    /// How many decrypted octets the connection took in the last poll.
    taken: usize,
    /// When the handshake must be done.
    deadline: Option<Duration>,
    /// A record of the handshake has come.
    begun: bool,
    /// Where in a record of the client's the ciphertext is that rustls has taken.
    records: Records,
    /// How many octets of ciphertext rustls has taken since the beginning, and then since it last gave plaintext for
    /// them: it may hold so many.
    undecrypted: usize,
    /// rustls has taken more room for ciphertext than it takes at first.
    has_grown: bool,
    /// TLS failed, or the peer has sent `close_notify`: nothing more is decrypted.
    finished: bool,
    /// TLS failed: nothing more is encrypted but the alert.
    failed: Option<TlsFailure>,
}

#[derive(Clone, Copy)]
enum Then {
    Flush { deadline: Duration },
}

/// What the layer decided.
enum Layered {
    /// The connection's own action.
    Below(Next),
    Transmit,
    Flush {
        deadline: Duration,
    },
    NeedInput {
        deadline: Duration,
    },
    Close,
}

impl Session {
    /// A session that begins in the clear. With `config` it does STARTTLS, if the connection's own
    /// configuration offers that; without, it is the connection as it is.
    #[must_use]
    pub fn new(connection: Connection, config: Option<Arc<ServerConfig>>) -> Self {
        Self { connection, config, layer: None, input_ended: false }
    }

    /// A session that is under TLS from its first octet (RFC 8314, section 3), or, from a trusted proxy, from
    /// the first behind the header of the PROXY protocol.
    ///
    /// # Errors
    ///
    /// What rustls says of a configuration that it cannot use.
    pub fn implicit(connection: Connection, config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let layer = Layer::begin(config, connection.config().binds_channels())?;
        Ok(Self { layer: Some(layer), ..Self::new(connection, None) })
    }

    /// Says what to do next: [`Connection::poll`] over ciphertext.
    pub fn poll<'c, 'i: 'c>(&'c mut self, now: Duration, input: &mut &'i [u8]) -> Action<'c> {
        let whole = *input;
        match self.advance(now, input) {
            Layered::Below(next) => match &mut self.layer {
                Some(layer) if layer.established => self.connection.view(next, layer.plaintext()),
                Some(_) | None => self.connection.view(next, whole),
            },
            Layered::Transmit => Action::Transmit(self.layer.as_ref().map_or(&[], |layer| &layer.ciphertext)),
            Layered::Flush { deadline } => Action::Flush { deadline },
            Layered::NeedInput { deadline } => Action::NeedInput { deadline },
            Layered::Close => Action::Close,
        }
    }

    /// Takes the answer to the open question: [`Connection::answer`].
    ///
    /// # Errors
    ///
    /// [`NotAsked`], as there.
    pub fn answer(&mut self, answer: Answer) -> Result<(), NotAsked> {
        self.connection.answer(answer)
    }

    /// Says that the peer will send nothing more: [`Connection::end_of_input`].
    pub fn end_of_input(&mut self) {
        self.input_ended = true;
        // Under TLS, the connection hears of it when it has all that came before.
        if self.layer.is_none() {
            self.connection.end_of_input();
        }
    }

    /// Begins to shut down: [`Connection::begin_shutdown`].
    pub fn begin_shutdown(&mut self) {
        self.connection.begin_shutdown();
    }

    /// The same for another reason: [`Connection::end_session`].
    pub fn end_session(&mut self, reason: CloseReason) {
        self.connection.end_session(reason);
    }

    /// Says that the connection is over, whatever it was doing: [`Connection::abandon`].
    pub fn abandon(&mut self, reason: CloseReason) {
        self.layer = None;
        self.connection.abandon(reason);
    }

    /// The connection inside.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    fn advance(&mut self, now: Duration, input: &mut &[u8]) -> Layered {
        if let Some(layer) = &mut self.layer {
            layer.forget_what_was_seen();
        }
        loop {
            let layered = match &mut self.layer {
                None => self.advance_clear(now, input),
                Some(layer) => match layer.due() {
                    Some(layered) => return layered,
                    None if layer.established => self.advance_established(now, input),
                    None => self.advance_handshake(now, input),
                },
            };
            if let Some(layered) = layered {
                return layered;
            }
        }
    }

    fn advance_clear(&mut self, now: Duration, input: &mut &[u8]) -> Option<Layered> {
        let next = self.connection.advance(now, input);
        let Next::StartTls = next else { return Some(Layered::Below(next)) };
        let binds_channels = self.connection.config().binds_channels();
        match self.config.clone().map(|config| Layer::begin(config, binds_channels)) {
            Some(Ok(layer)) => self.layer = Some(layer),
            // Without a usable configuration, the handshake that was promised cannot be done.
            Some(Err(_)) | None => self.connection.tls_failed(TlsFailure::Unavailable),
        }
        None
    }

    // Apart, so that sessions in the clear do not pay for the room that rustls takes on the stack.
    #[inline(never)]
    fn advance_handshake(&mut self, now: Duration, input: &mut &[u8]) -> Option<Layered> {
        match self.connection.advance_header(now, input) {
            Some(Next::NeedInput { .. }) if self.input_ended => {
                self.connection.end_of_input();
                return None;
            }
            Some(next) => return Some(Layered::Below(next)),
            None => {}
        }
        let layer = self.layer.as_mut()?;
        let deadline = *layer.deadline.get_or_insert_with(|| self.connection.handshake_deadline(now));
        // The last that TLS 1.3 has to say, session tickets, goes out with the first reply, or before the first
        // wait; the client waits for the last of TLS 1.2.
        let is_done = !layer.tls.is_handshaking() && !layer.finished;
        let can_wait = is_done && layer.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        if layer.tls.wants_write() && !can_wait {
            layer.drain();
            layer.then = Some(Then::Flush { deadline });
            return None;
        }
        if layer.finished {
            let failure = layer.failed.unwrap_or(TlsFailure::ConnectionLost);
            // A client that leaves before it has said anything has not failed at TLS.
            if failure == TlsFailure::ConnectionLost && !layer.begun && self.config.is_none() {
                self.connection.abandon(CloseReason::PeerClosed);
            } else {
                self.connection.tls_failed(failure);
            }
            self.layer = None;
            return None;
        }
        if is_done {
            layer.established = true;
            layer.undecrypted = 0;
            if self.connection.tls_established(layer.describe()).is_err() {
                // The connection gave up on the handshake.
                self.connection.tls_failed(TlsFailure::Other);
                self.layer = None;
            }
            return None;
        }
        match input.first() {
            // Whoever goes on in the clear behind STARTTLS is told so in the clear, by the connection.
            Some(&first) if !layer.begun && self.config.is_some() && first != HANDSHAKE_RECORD => {
                self.layer = None;
                return None;
            }
            Some(_) => {
                layer.begun = true;
                layer.decrypt(input, self.connection.config().limits().max_handshake_octets);
            }
            None if self.input_ended || now >= deadline => {
                layer.finished = true;
                layer.failed = Some(if self.input_ended { TlsFailure::ConnectionLost } else { TlsFailure::Timeout });
            }
            None => return Some(Layered::NeedInput { deadline }),
        }
        None
    }

    #[inline(never)]
    fn advance_established(&mut self, now: Duration, input: &mut &[u8]) -> Option<Layered> {
        let layer = self.layer.as_mut()?;
        let write_deadline = now.saturating_add(self.connection.config().timeouts().write);
        let mut plaintext = layer.plaintext();
        let available = plaintext.len();
        let next = self.connection.advance(now, &mut plaintext);
        let taken = available - plaintext.len();
        if let Next::Piece { .. } = next {
            // The piece lies in this chunk, which must stay until it has been looked at.
            layer.taken = taken;
            return Some(Layered::Below(next));
        }
        layer.consume(taken);
        match next {
            Next::Reply(outgoing) => {
                if layer.failed.is_none() {
                    // rustls buffers all of it; the peer's window is watched by `Flush`.
                    let _ = layer.tls.writer().write_all(self.connection.encoded(outgoing));
                }
            }
            Next::Flush { deadline } => {
                if self.connection.is_closing() {
                    // In the same segment as the last reply.
                    layer.say_goodbye();
                }
                layer.drain();
                layer.shrink();
                layer.then = Some(Then::Flush { deadline });
            }
            Next::Close => {
                layer.say_goodbye();
                layer.drain();
                if layer.ciphertext.is_empty() {
                    return Some(Layered::Close);
                }
                layer.then = Some(Then::Flush { deadline: write_deadline });
            }
            Next::NeedInput { deadline } => {
                if !layer.plaintext().is_empty() {
                    return None;
                }
                if layer.finished {
                    // CVE-2026-45185: nothing behind close_notify is looked at.
                    *input = &[];
                    match layer.failed {
                        Some(failure) => self.connection.tls_broke(failure),
                        None => self.connection.end_of_input(),
                    }
                } else if !input.is_empty() {
                    layer.decrypt(input, MAX_UNDECRYPTED_OCTETS);
                } else if self.input_ended {
                    self.connection.end_of_input();
                } else if layer.tls.wants_write() {
                    layer.drain();
                    layer.then = Some(Then::Flush { deadline: write_deadline });
                } else {
                    layer.shrink();
                    return Some(Layered::NeedInput { deadline });
                }
            }
            Next::CallAuthenticator
            | Next::CallAuthHandler { .. }
            | Next::CallHook(_)
            | Next::Piece { .. }
            | Next::Inserted { .. }
            | Next::Aborted(_)
            | Next::Event(_)
            | Next::StartTls
            | Next::AwaitAnswer { .. }
            | Next::Pause { .. } => return Some(Layered::Below(next)),
        }
        None
    }
}

impl Layer {
    #[inline(never)]
    fn begin(mut config: Arc<ServerConfig>, watch: bool) -> Result<Box<Self>, rustls::Error> {
        let shown = watch.then(|| {
            let shown = Arc::new(Shown { resolver: config.cert_resolver.clone(), key: Mutex::default() });
            // rustls does not tell which certificate it has shown, so each connection asks for it by itself.
            Arc::make_mut(&mut config).cert_resolver = shown.clone();
            shown
        });
        let mut tls = ServerConnection::new(config)?;
        // Beyond its limit, rustls would take a part of a reply only. What bounds the replies between two
        // flushes is the plaintext that is decrypted at once.
        tls.set_buffer_limit(None);
        Ok(Box::new(Self {
            tls,
            shown,
            established: false,
            ciphertext: Vec::new(),
            transmitted: false,
            then: None,
            taken: 0,
            deadline: None,
            begun: false,
            records: Records::default(),
            undecrypted: 0,
            has_grown: false,
            finished: false,
            failed: None,
        }))
    }

    /// Lets go of what the last poll gave out.
    fn forget_what_was_seen(&mut self) {
        if core::mem::take(&mut self.transmitted) {
            // A connection that waits has nothing to say.
            self.ciphertext = Vec::new();
        }
        let taken = core::mem::take(&mut self.taken);
        self.consume(taken);
    }

    /// What is to be given out before anything else is done.
    fn due(&mut self) -> Option<Layered> {
        if !self.ciphertext.is_empty() {
            self.transmitted = true;
            return Some(Layered::Transmit);
        }
        match self.then {
            Some(Then::Flush { deadline }) => {
                self.then = None;
                Some(Layered::Flush { deadline })
            }
            None => None,
        }
    }

    /// What has been decrypted and not yet taken, or the first part of it.
    fn plaintext(&mut self) -> &[u8] {
        self.tls.reader().into_first_chunk().unwrap_or_default()
    }

    /// Takes decrypted octets off.
    fn consume(&mut self, octets: usize) {
        if octets > 0 {
            self.tls.reader().consume(octets);
        }
    }

    /// Takes ciphertext in, up to the end of a record, or less if rustls will not have as much at once. `most` is how much
    /// of it may give no plaintext.
    ///
    /// rustls by itself gathers 64 KiB of a handshake message, from a peer that has proved nothing.
    fn decrypt(&mut self, input: &mut &[u8], most: usize) {
        let available = *input;
        // A record's beginning would keep rustls from giving back the room that the record before took.
        let record = Records::pass_one(&mut { self.records }, available);
        let mut piece = available.get(..record.min(most.saturating_sub(self.undecrypted))).unwrap_or_default();
        let read = self.tls.read_tls(&mut piece);
        let (taken, rest) = available.split_at(*read.as_ref().unwrap_or(&0));
        *input = rest;
        self.records.pass(taken);
        self.undecrypted += taken.len();
        self.has_grown |= self.undecrypted > SMALL_OCTETS;
        let failure = match read {
            Ok(1..) => match self.tls.process_new_packets() {
                Ok(state) => {
                    self.finished = state.peer_has_closed();
                    if state.plaintext_bytes_to_read() > 0 {
                        self.undecrypted = 0;
                    }
                    return;
                }
                Err(error) => failure::from_rustls(&error),
            },
            // More than is kept of a handshake, or of a message that does not end.
            Ok(0) | Err(_) => TlsFailure::Misbehaved,
        };
        (self.finished, self.failed) = (true, Some(failure));
    }

    /// Has rustls give back the room that it took for a long record: a connection that waits has no use for it.
    fn shrink(&mut self) {
        if core::mem::take(&mut self.has_grown) {
            // It does so before it reads; there is nothing to read.
            let _ = self.tls.read_tls(&mut NothingYet);
        }
    }

    /// Sends `close_notify`, once, unless TLS has failed.
    fn say_goodbye(&mut self) {
        if self.failed.is_none() {
            self.tls.send_close_notify();
        }
    }

    /// Moves what TLS has to send into `ciphertext`.
    fn drain(&mut self) {
        while self.tls.wants_write() {
            // Writing into a vector cannot fail.
            if !matches!(self.tls.write_tls(&mut self.ciphertext), Ok(1..)) {
                break;
            }
        }
    }

    fn describe(&self) -> TlsInfo {
        let version = match self.tls.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => TlsVersion::Tls1_3,
            // rustls speaks nothing older.
            _ => TlsVersion::Tls1_2,
        };
        // rustls marks the suites of TLS 1.3 in a way of its own; IANA does not.
        let suite = self.tls.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or_default();
        let mut info = TlsInfo::new(version, &suite.replacen("TLS13_", "TLS_", 1));
        info.server_name = self.tls.server_name().map(Into::into);
        info.alpn_protocol = self.tls.alpn_protocol().map(Into::into);
        // rustls shows a chain only after its verifier has accepted it.
        let certificates = self.tls.peer_certificates().unwrap_or_default();
        info.peer_certificates = certificates.iter().map(|certificate| certificate.to_vec()).collect();
        if version == TlsVersion::Tls1_3 {
            // RFC 9266, section 2. For earlier versions it needs a session hash that not every peer agrees to.
            info.exporter = self.tls.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[])).ok();
        }
        info.server_end_point = self.shown.as_deref().and_then(Shown::end_point);
        info
    }
}

impl Poll for Session {
    fn poll<'c, 'i: 'c>(&'c mut self, now: Duration, input: &mut &'i [u8]) -> Action<'c> {
        Self::poll(self, now, input)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("connection", &self.connection).finish_non_exhaustive()
    }
}

/// Passes a choice of certificate on, and remembers it.
#[derive(Debug)]
struct Shown {
    resolver: Arc<dyn ResolvesServerCert>,
    key: Mutex<Option<Arc<CertifiedKey>>>,
}

impl Shown {
    /// The channel binding to the certificate.
    fn end_point(&self) -> Option<Vec<u8>> {
        let key = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        end_point::server_end_point(key.as_ref()?.cert.first()?)
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let key = self.resolver.resolve(client_hello);
        self.key.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&key);
        key
    }

    fn only_raw_public_keys(&self) -> bool {
        self.resolver.only_raw_public_keys()
    }
}

/// A source in which nothing has come.
struct NothingYet;

impl Read for NothingYet {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// A record has up to 18,437 octets (RFC 5246, section 6.2.3); what gives no plaintext beside it is short: alerts, key
/// updates, a record of padding.
const MAX_UNDECRYPTED_OCTETS: usize = 24 * 1024;

/// How much room rustls takes for ciphertext at first.
const SMALL_OCTETS: usize = 4096;

/// The type of a TLS record that carries a handshake (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

static_assertions::assert_impl_all!(Session: Send);
