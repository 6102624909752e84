//! SCRAM with channel binding over real TLS: each side takes the binding data from its own end of the
//! connection, and a third between them cannot pass a proof on.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use sansmtp::auth::{Auth, KnownPassword, ScramHash, mechanism::Scram};
use sansmtp::tls::Session;
use sansmtp::{Action, Config, Connection, Peer};

#[path = "support/scram.rs"]
mod scram;

const PASSWORD: &str = "tanstaaftanstaaf";
const SALT: &[u8] = b"sixteen octets..";

/// A client and a server with a certificate of its own, joined in memory.
struct Wire {
    client: ClientConnection,
    certificate: CertificateDer<'static>,
    session: Session,
    password: KnownPassword,
}

impl Wire {
    fn new(version: &'static SupportedProtocolVersion) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["mx.example.org".to_owned()]).unwrap().self_signed(&key).unwrap();
        let certificate = certificate.der().clone();
        let provider = Arc::new(ring::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = ClientConnection::new(Arc::new(client), ServerName::try_from("mx.example.org").unwrap()).unwrap();

        let auth = Auth::new().mechanism(Scram::plus(ScramHash::Sha256)).pause(Duration::ZERO, Duration::ZERO);
        let config = Config::builder("mx.example.org").auth(auth).implicit_tls(true).build().unwrap();
        let session = Session::implicit(Connection::new(config, Peer::local()), Arc::new(server)).unwrap();
        let password = KnownPassword::new(PASSWORD.as_bytes(), SALT).unwrap();
        let mut wire = Self { client, certificate, session, password };
        assert!(wire.say("").starts_with("220 "));
        wire
    }

    fn say(&mut self, text: &str) -> String {
        self.client.writer().write_all(text.as_bytes()).unwrap();
        let mut heard = Vec::new();
        loop {
            let mut to_server = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut to_server).unwrap();
            }
            let to_client = self.serve(&to_server);
            if to_server.is_empty() && to_client.is_empty() {
                return String::from_utf8(heard).unwrap();
            }
            let mut rest = &to_client[..];
            while !rest.is_empty() {
                self.client.read_tls(&mut rest).unwrap();
                self.client.process_new_packets().unwrap();
                // A reader that has nothing more says `WouldBlock`.
                let _ = self.client.reader().read_to_end(&mut heard);
            }
        }
    }

    fn serve(&mut self, mut input: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            match self.session.poll(Duration::ZERO, &mut input) {
                Action::Transmit(ciphertext) => out.extend_from_slice(ciphertext),
                Action::CallAuthenticator(request) => {
                    let result = self.password.answer(&request);
                    self.session.answer(request.answer(result)).unwrap();
                }
                Action::NeedInput { .. } | Action::Close => return out,
                Action::Flush { .. } | Action::Event(_) | Action::Pause { .. } => {}
                action @ (Action::Reply(_)
                | Action::Challenge(_)
                | Action::CallAuthHandler(_)
                | Action::CallHook(_)
                | Action::Content(_)
                | Action::Aborted(_)
                | Action::StartTls
                | Action::AwaitAnswer { .. }) => panic!("{action:?}"),
            }
        }
    }

    /// What this client has of its connection.
    fn binding(&self, kind: &str) -> Vec<u8> {
        match kind {
            "tls-exporter" => {
                self.client.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[])).unwrap().to_vec()
            }
            // The certificate is signed with SHA-256.
            _ => scram::digest(ScramHash::Sha256, &self.certificate),
        }
    }

    /// The last two replies of an exchange with this header and this binding data.
    fn authenticate(&mut self, header: &'static str, binding: Vec<u8>) -> [String; 2] {
        let mut client = scram::Client::new(ScramHash::Sha256, "tim", PASSWORD, SALT, 4096);
        (client.header, client.binding) = (header, binding);
        let mechanism = if header.starts_with('p') { "SCRAM-SHA-256-PLUS" } else { "SCRAM-SHA-256" };
        let challenge = self.say(&format!("AUTH {mechanism} {}\r\n", STANDARD.encode(client.first())));
        let decode = |line: &str| {
            let encoded = line.strip_prefix("334 ").unwrap_or_else(|| panic!("{line}")).trim_end();
            String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap()
        };
        let server_first = decode(&challenge);
        if server_first.starts_with("e=") {
            return [server_first, self.say("\r\n")];
        }
        let last = client.last(&server_first);
        let server_last = decode(&self.say(&format!("{}\r\n", STANDARD.encode(&last.message))));
        if server_last.starts_with("v=") {
            assert_eq!(server_last, last.server_last, "the server has proved itself");
        }
        [server_last, self.say("\r\n")]
    }
}

const KINDS: [(&SupportedProtocolVersion, &str, &str); 3] = [
    (&version::TLS13, "tls-exporter", "p=tls-exporter,,"),
    (&version::TLS13, "tls-server-end-point", "p=tls-server-end-point,,"),
    (&version::TLS12, "tls-server-end-point", "p=tls-server-end-point,,"),
];

#[test]
fn both_ends_have_the_same_binding_data() {
    for (version, kind, header) in KINDS {
        let mut wire = Wire::new(version);
        let extensions = wire.say("EHLO client.example\r\n");
        assert!(extensions.contains("AUTH SCRAM-SHA-256 PLAIN LOGIN SCRAM-SHA-256-PLUS\r\n"), "{extensions}");
        let binding = wire.binding(kind);
        let [proof, reply] = wire.authenticate(header, binding);
        assert!(proof.starts_with("v=") && reply.starts_with("235 2.7.0 "), "{kind}: {proof} {reply}");
    }
}

#[test]
fn a_proof_from_another_connection_is_refused() {
    for (version, kind, header) in KINDS {
        // The client that is in between has both connections, with a certificate of its own on one.
        let elsewhere = Wire::new(version).binding(kind);
        let mut wire = Wire::new(version);
        wire.say("EHLO client.example\r\n");
        let [error, reply] = wire.authenticate(header, elsewhere);
        assert_eq!(error, "e=channel-bindings-dont-match", "{kind}");
        assert!(reply.starts_with("535 5.7.8 "), "{kind}: {reply}");
    }
}

#[test]
fn a_client_that_was_shown_no_plus_finds_out() {
    let mut wire = Wire::new(&version::TLS13);
    wire.say("EHLO client.example\r\n");
    let [error, reply] = wire.authenticate("y,,", Vec::new());
    assert_eq!(error, "e=server-does-support-channel-binding");
    assert!(reply.starts_with("535 5.7.8 "), "{reply}");
    // One that knows nothing of channel binding gets in.
    let [proof, reply] = wire.authenticate("n,,", Vec::new());
    assert!(proof.starts_with("v=") && reply.starts_with("235 2.7.0 "), "{proof} {reply}");
}

#[test]
fn the_exporter_is_for_tls_1_3() {
    let mut wire = Wire::new(&version::TLS12);
    wire.say("EHLO client.example\r\n");
    let [error, reply] = wire.authenticate("p=tls-exporter,,", vec![0; 32]);
    assert_eq!(error, "e=unsupported-channel-binding-type");
    assert!(reply.starts_with("535 5.7.8 "), "{reply}");
}
