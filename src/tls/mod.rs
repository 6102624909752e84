//! TLS as a layer with the connection's own surface: ciphertext in, ciphertext out.
//!
//! A [`Session`] is polled and answered like a [`Connection`]; what is to be written comes as
//! [`Action::Transmit`] once TLS is active. STARTTLS or implicit TLS is a choice of constructor. Whoever
//! moves the octets sees no TLS at all.
//!
//! rustls is behind its buffered API, and in this file only.

mod end_point;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use std::io::{BufRead, Write};
use std::sync::{Mutex, PoisonError};

use rustls::server::{ClientHello, ResolvesServerCert, ServerConnection};
use rustls::sign::CertifiedKey;
use rustls::{ProtocolVersion, ServerConfig};

use crate::action::Action;
use crate::connection::{Connection, Next};
use crate::question::{Answer, NotAsked};
use crate::read_buffer::Poll;
use crate::session::{TlsInfo, TlsVersion};

/// A connection that is under TLS, or can become so.
pub struct Session {
    connection: Connection,
    config: Option<Arc<ServerConfig>>,
    stage: Stage,
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
    input_ended: bool,
    /// A record of the handshake has come.
    begun: bool,
    /// TLS failed, or the peer has sent `close_notify`: nothing more is decrypted.
    finished: bool,
    /// TLS failed: nothing more is encrypted but the alert.
    failed: bool,
}

enum Stage {
    Clear,
    /// With what the server shows, where somebody wants to know.
    Handshake(Box<ServerConnection>, Option<Arc<Shown>>),
    Established(Box<ServerConnection>),
}

#[derive(Clone, Copy)]
enum Then {
    Flush { deadline: Duration },
    Close,
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
        Self {
            connection,
            config,
            stage: Stage::Clear,
            ciphertext: Vec::new(),
            transmitted: false,
            then: None,
            taken: 0,
            deadline: None,
            input_ended: false,
            begun: false,
            finished: false,
            failed: false,
        }
    }

    /// A session that is under TLS from its first octet (RFC 8314, section 3), or, from a trusted proxy, from
    /// the first behind the header of the PROXY protocol.
    ///
    /// # Errors
    ///
    /// What rustls says of a configuration that it cannot use.
    pub fn implicit(connection: Connection, config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let (tls, shown) = begin(config, connection.config().binds_channels())?;
        Ok(Self { stage: Stage::Handshake(tls, shown), ..Self::new(connection, None) })
    }

    /// Says what to do next: [`Connection::poll`] over ciphertext.
    pub fn poll<'c, 'i: 'c>(&'c mut self, now: Duration, input: &mut &'i [u8]) -> Action<'c> {
        let whole = *input;
        match self.advance(now, input) {
            Layered::Below(next) => match &mut self.stage {
                Stage::Clear | Stage::Handshake(..) => self.connection.view(next, whole),
                Stage::Established(tls) => {
                    let plaintext = tls.reader().into_first_chunk().unwrap_or_default();
                    self.connection.view(next, plaintext)
                }
            },
            Layered::Transmit => Action::Transmit(&self.ciphertext),
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
        if let Stage::Clear = self.stage {
            self.connection.end_of_input();
        }
    }

    /// Begins to shut down: [`Connection::begin_shutdown`].
    pub fn begin_shutdown(&mut self) {
        self.connection.begin_shutdown();
    }

    /// The connection inside.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    fn advance(&mut self, now: Duration, input: &mut &[u8]) -> Layered {
        if core::mem::take(&mut self.transmitted) {
            self.ciphertext.clear();
            self.ciphertext.shrink_to(KEPT_OCTETS);
        }
        if let Stage::Established(tls) = &mut self.stage {
            consume(tls, core::mem::take(&mut self.taken));
        }
        loop {
            if !self.ciphertext.is_empty() {
                self.transmitted = true;
                return Layered::Transmit;
            }
            match self.then.take() {
                Some(Then::Flush { deadline }) => return Layered::Flush { deadline },
                Some(Then::Close) => {
                    self.then = Some(Then::Close);
                    return Layered::Close;
                }
                None => {}
            }
            let layered = match self.stage {
                Stage::Clear => self.advance_clear(now, input),
                Stage::Handshake(..) => self.advance_handshake(now, input),
                Stage::Established(_) => self.advance_established(now, input),
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
        match self.config.clone().map(|config| begin(config, binds_channels)) {
            Some(Ok((tls, shown))) => self.stage = Stage::Handshake(tls, shown),
            // Without a usable configuration, the handshake that was promised cannot be done.
            Some(Err(_)) | None => self.connection.tls_failed(),
        }
        None
    }

    fn advance_handshake(&mut self, now: Duration, input: &mut &[u8]) -> Option<Layered> {
        match self.connection.advance_header(now, input) {
            Some(Next::NeedInput { .. }) if self.input_ended => {
                self.connection.end_of_input();
                return None;
            }
            Some(next) => return Some(Layered::Below(next)),
            None => {}
        }
        let deadline = *self.deadline.get_or_insert(now.saturating_add(self.connection.config().timeouts().command));
        let Stage::Handshake(tls, shown) = &mut self.stage else { return None };
        if tls.wants_write() {
            drain(tls, &mut self.ciphertext);
            self.then = Some(Then::Flush { deadline });
            return None;
        }
        if self.finished {
            self.connection.tls_failed();
            self.stage = Stage::Clear;
            return None;
        }
        if !tls.is_handshaking() {
            let info = describe(tls, shown.as_deref());
            let Stage::Handshake(tls, _) = core::mem::replace(&mut self.stage, Stage::Clear) else { return None };
            self.stage = Stage::Established(tls);
            if self.connection.tls_established(info).is_err() {
                // The connection gave up on the handshake.
                self.then = Some(Then::Close);
            }
            return None;
        }
        match input.first() {
            // Whoever goes on in the clear behind STARTTLS is told so in the clear, by the connection.
            Some(&first) if !self.begun && self.config.is_some() && first != HANDSHAKE_RECORD => {
                self.stage = Stage::Clear;
                return None;
            }
            Some(_) => {
                self.begun = true;
                self.decrypt(input);
            }
            None if self.input_ended || now >= deadline => self.finished = true,
            None => return Some(Layered::NeedInput { deadline }),
        }
        None
    }

    fn advance_established(&mut self, now: Duration, input: &mut &[u8]) -> Option<Layered> {
        let Stage::Established(tls) = &mut self.stage else { return None };
        let mut plaintext = tls.reader().into_first_chunk().unwrap_or_default();
        let available = plaintext.len();
        let next = self.connection.advance(now, &mut plaintext);
        let taken = available - plaintext.len();
        if let Next::Piece { .. } = next {
            // The piece lies in this chunk, which must stay until it has been looked at.
            self.taken = taken;
            return Some(Layered::Below(next));
        }
        consume(tls, taken);
        match next {
            Next::Reply(outgoing) => {
                if !self.failed {
                    // rustls buffers all of it; the peer's window is watched by `Flush`.
                    let _ = tls.writer().write_all(self.connection.encoded(outgoing));
                }
            }
            Next::Flush { deadline } => {
                drain(tls, &mut self.ciphertext);
                self.then = Some(Then::Flush { deadline });
            }
            Next::Close => {
                if !self.failed {
                    tls.send_close_notify();
                }
                drain(tls, &mut self.ciphertext);
                if self.ciphertext.is_empty() {
                    return Some(Layered::Close);
                }
                self.then =
                    Some(Then::Flush { deadline: now.saturating_add(self.connection.config().timeouts().write) });
            }
            Next::NeedInput { deadline } => {
                if tls.reader().into_first_chunk().is_ok_and(|chunk| !chunk.is_empty()) {
                    return None;
                }
                if self.finished {
                    // CVE-2026-45185: nothing behind close_notify is looked at.
                    *input = &[];
                    self.connection.end_of_input();
                } else if !input.is_empty() {
                    self.decrypt(input);
                } else if self.input_ended {
                    self.connection.end_of_input();
                } else {
                    return Some(Layered::NeedInput { deadline });
                }
            }
            Next::CallAuthenticator
            | Next::CallAuthHandler { .. }
            | Next::CallHook(_)
            | Next::Piece { .. }
            | Next::Inserted(_)
            | Next::Aborted(_)
            | Next::Event(_)
            | Next::ProxyRefused(_)
            | Next::StartTls
            | Next::AwaitAnswer { .. }
            | Next::Pause { .. } => return Some(Layered::Below(next)),
        }
        None
    }

    /// Takes ciphertext in, as much as rustls will have at once.
    fn decrypt(&mut self, input: &mut &[u8]) {
        let (Stage::Handshake(tls, _) | Stage::Established(tls)) = &mut self.stage else { return };
        let read = tls.read_tls(input).map_err(|_| ()).and_then(|_| tls.process_new_packets().map_err(|_| ()));
        match read {
            Ok(state) => self.finished = state.peer_has_closed(),
            Err(()) => (self.finished, self.failed) = (true, true),
        }
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

type Begun = (Box<ServerConnection>, Option<Arc<Shown>>);

fn begin(mut config: Arc<ServerConfig>, watch: bool) -> Result<Begun, rustls::Error> {
    let shown = watch.then(|| {
        let shown = Arc::new(Shown { resolver: config.cert_resolver.clone(), key: Mutex::default() });
        // rustls does not tell which certificate it has shown, so each connection asks for it by itself.
        Arc::make_mut(&mut config).cert_resolver = shown.clone();
        shown
    });
    let mut tls = Box::new(ServerConnection::new(config)?);
    // Beyond its limit, rustls would take a part of a reply only. What bounds the replies between two
    // flushes is the plaintext that is decrypted at once.
    tls.set_buffer_limit(None);
    Ok((tls, shown))
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

/// Moves what TLS has to send into `ciphertext`.
fn drain(tls: &mut ServerConnection, ciphertext: &mut Vec<u8>) {
    while tls.wants_write() {
        // Writing into a vector cannot fail.
        if !matches!(tls.write_tls(ciphertext), Ok(1..)) {
            break;
        }
    }
}

fn consume(tls: &mut ServerConnection, octets: usize) {
    if octets > 0 {
        tls.reader().consume(octets);
    }
}

fn describe(tls: &ServerConnection, shown: Option<&Shown>) -> TlsInfo {
    let version = match tls.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => TlsVersion::Tls1_3,
        // rustls speaks nothing older.
        _ => TlsVersion::Tls1_2,
    };
    // rustls marks the suites of TLS 1.3 in a way of its own; IANA does not.
    let cipher_suite = tls.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or_default();
    let cipher_suite = cipher_suite.replacen("TLS13_", "TLS_", 1);
    let mut info = TlsInfo::new(version, &cipher_suite);
    info.server_name = tls.server_name().map(Into::into);
    info.alpn_protocol = tls.alpn_protocol().map(Into::into);
    // rustls shows a chain only after its verifier has accepted it.
    let certificates = tls.peer_certificates().unwrap_or_default();
    info.peer_certificates = certificates.iter().map(|certificate| certificate.to_vec()).collect();
    if version == TlsVersion::Tls1_3 {
        // RFC 9266, section 2. For earlier versions it needs a session hash that not every peer agrees to.
        info.exporter = tls.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[])).ok();
    }
    info.server_end_point = shown.and_then(Shown::end_point);
    info
}

/// The type of a TLS record that carries a handshake (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// The ciphertext buffer is kept up to this size.
const KEPT_OCTETS: usize = 512;

static_assertions::assert_impl_all!(Session: Send);
