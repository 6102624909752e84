//! Certificates for the tests, and clients that trust them.

use std::sync::{Arc, LazyLock};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

pub(crate) static TLS: LazyLock<Ends> = LazyLock::new(|| make(Negotiated::default()));

/// The same with another certificate.
pub(crate) static RENEWED: LazyLock<Ends> = LazyLock::new(|| make(Negotiated::default()));

pub(crate) type Ends = (Arc<ServerConfig>, Arc<ClientConfig>);

/// What else than usual the two ends agree to.
#[derive(Clone, Copy, Default)]
pub(crate) struct Negotiated {
    /// TLS 1.2.
    pub(crate) old: bool,
    /// The client shows a certificate.
    pub(crate) client_certificate: bool,
}

pub(crate) fn make(negotiated: Negotiated) -> Ends {
    let (certificate, key) = certificate("mx.example.org");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let server = server.unwrap();
    let versions = if negotiated.old { &[&TLS12] } else { &[&TLS13] };
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).unwrap();
    let client = client.with_root_certificates(trusting(certificate.clone()));
    let (server, client) = if negotiated.client_certificate {
        let (shown, clients_key) = self::certificate("client.example.net");
        let roots = Arc::new(trusting(shown.clone()));
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
        let client = client.with_client_auth_cert(vec![shown], clients_key).unwrap();
        (server.with_client_cert_verifier(verifier), client)
    } else {
        (server.with_no_client_auth(), client.with_no_client_auth())
    };
    (Arc::new(server.with_single_cert(vec![certificate], key).unwrap()), Arc::new(client))
}

fn certificate(name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    (made.cert.der().clone(), PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap())
}

fn trusting(certificate: CertificateDer<'static>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    roots
}
