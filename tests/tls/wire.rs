//! A client of rustls on the other end of a server, and the octets between them.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, SupportedProtocolVersion, version};
use sansmtp::tls::Session;
use sansmtp::{Auth, Config, Connection, Hooks};

use crate::certificates::{client_config, server_config};
use crate::server::Server;

/// How what the client sends is cut into reads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    Whole,
    Octets,
    Random(u64),
}

impl Cut {
    pub(crate) fn next(&mut self, available: usize) -> usize {
        match self {
            Self::Whole => available,
            Self::Octets => 1,
            Self::Random(state) => {
                // xorshift64; small pieces and large ones.
                *state ^= *state << 13;
                *state ^= *state >> 7;
                *state ^= *state << 17;
                let most = if *state & 0x100 == 0 { 40 } else { 9_000 };
                1 + (*state >> 16) as usize % most
            }
        }
        .min(available)
    }
}

pub(crate) struct Wire {
    pub(crate) server: Server,
    pub(crate) client: ClientConnection,
    pub(crate) cut: Cut,
    /// The client has seen close_notify.
    pub(crate) closed_cleanly: bool,
    pub(crate) error: Option<rustls::Error>,
}

pub(crate) fn config(change: impl FnOnce(sansmtp::ConfigBuilder) -> sansmtp::ConfigBuilder) -> Arc<Config> {
    let builder = Config::builder("mx.example.org").auth(Auth::new()).starttls(true).implicit_tls(true);
    change(builder.hooks(Hooks::ALL)).build().unwrap()
}

pub(crate) fn connection(config: Arc<Config>) -> Connection {
    Connection::new(config, SocketAddr::from(([192, 0, 2, 1], 4321)))
}

pub(crate) fn starttls_session() -> Session {
    Session::new(connection(config(|builder| builder)), Some(Arc::new(server_config())))
}

pub(crate) fn implicit_session() -> Session {
    Session::implicit(connection(config(|builder| builder)), Arc::new(server_config())).unwrap()
}

pub(crate) fn client(config: ClientConfig) -> ClientConnection {
    let mut client = ClientConnection::new(Arc::new(config), ServerName::try_from("mx.example.org").unwrap()).unwrap();
    client.set_buffer_limit(None);
    client
}

impl Wire {
    pub(crate) fn new(session: Session, client_config: ClientConfig) -> Self {
        Self {
            server: Server::new(session),
            client: client(client_config),
            cut: Cut::Whole,
            closed_cleanly: false,
            error: None,
        }
    }

    /// Under TLS from the start, greeted and past EHLO.
    pub(crate) fn implicit(version: &'static SupportedProtocolVersion) -> Self {
        let mut wire = Self::new(implicit_session(), client_config(version));
        assert_eq!(wire.shuttle(), "220 mx.example.org ESMTP\r\n");
        assert!(wire.say("EHLO client.example\r\n").starts_with("250-"));
        wire
    }

    pub(crate) fn cut(mut self, cut: Cut) -> Self {
        self.cut = cut;
        self
    }

    /// Carries `octets` to the server as they are.
    pub(crate) fn carry(&mut self, octets: &[u8]) {
        let mut rest = octets;
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(self.cut.next(rest.len()));
            self.server.feed(piece);
            rest = behind;
        }
    }

    /// Says something in the clear; what came back in the clear.
    pub(crate) fn say_in_the_clear(&mut self, text: &str) -> String {
        self.carry(text.as_bytes());
        String::from_utf8(std::mem::take(&mut self.server.sent)).unwrap()
    }

    /// What the client has to send, as ciphertext.
    pub(crate) fn client_sends(&mut self) -> Vec<u8> {
        let mut ciphertext = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut ciphertext).unwrap();
        }
        ciphertext
    }

    /// Lets the client encrypt without sending.
    pub(crate) fn encrypt(&mut self, text: &str) -> Vec<u8> {
        self.client.writer().write_all(text.as_bytes()).unwrap();
        self.client_sends()
    }

    /// Says something under TLS; what came back.
    pub(crate) fn say(&mut self, text: &str) -> String {
        self.client.writer().write_all(text.as_bytes()).unwrap();
        self.shuttle()
    }

    /// Carries octets both ways until nothing moves; what the client could decrypt.
    pub(crate) fn shuttle(&mut self) -> String {
        let mut said = Vec::new();
        loop {
            let to_server = self.client_sends();
            self.carry(&to_server);
            let to_client = std::mem::take(&mut self.server.sent);
            if to_server.is_empty() && to_client.is_empty() {
                return String::from_utf8(said).unwrap();
            }
            self.receive(&to_client, &mut said);
        }
    }

    pub(crate) fn receive(&mut self, mut ciphertext: &[u8], said: &mut Vec<u8>) {
        while !ciphertext.is_empty() && self.error.is_none() {
            self.client.read_tls(&mut ciphertext).unwrap();
            match self.client.process_new_packets() {
                Ok(state) => self.closed_cleanly |= state.peer_has_closed(),
                Err(error) => self.error = Some(error),
            }
            let mut buffer = [0; 4096];
            loop {
                match self.client.reader().read(&mut buffer) {
                    Ok(0) => break,
                    Ok(octets) => said.extend_from_slice(&buffer[..octets]),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        break;
                    }
                }
            }
            if self.closed_cleanly {
                assert!(ciphertext.is_empty(), "close_notify is the last record");
            }
        }
    }

    pub(crate) fn alert(&self) -> String {
        format!("{:?}", self.error)
    }
}

pub(crate) const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// "\0tim\0tanstaaftanstaaf".
pub(crate) const PLAIN: &str = "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n";
