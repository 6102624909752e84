//! TLS towards the next hop.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::StartError;

/// The two ways in which a next hop's certificate matters.
#[derive(Clone, Debug)]
pub(crate) struct ClientTls {
    /// The certificate must be valid for the host.
    pub(crate) verified: Arc<ClientConfig>,
    /// Any certificate will do (RFC 7435): who could forge one could also have taken STARTTLS away.
    pub(crate) opportunistic: Arc<ClientConfig>,
}

/// What is trusted now. The files can be read anew while sessions go on.
#[derive(Debug)]
pub(super) struct Trust {
    ca: Option<PathBuf>,
    current: RwLock<ClientTls>,
}

impl Trust {
    /// # Errors
    /// As [`ClientTls::new`].
    pub(super) fn new(ca: Option<PathBuf>) -> Result<Self, StartError> {
        let current = RwLock::new(ClientTls::new(ca.as_deref())?);
        Ok(Self { ca, current })
    }

    pub(super) fn current(&self) -> ClientTls {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the certificates anew, for the sessions to come.
    ///
    /// # Errors
    /// As [`ClientTls::new`]; then what was trusted before stays.
    pub(super) fn reload(&self) -> Result<(), StartError> {
        let new = ClientTls::new(self.ca.as_deref())?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }
}

impl ClientTls {
    /// Trusts the system's certificates, and those in `ca`.
    ///
    /// # Errors
    /// Where `ca` cannot be read. A system without certificates is none: opportunistic TLS needs none.
    pub(crate) fn new(ca: Option<&Path>) -> Result<Self, StartError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = |provider: &Arc<CryptoProvider>| {
            ClientConfig::builder_with_provider(Arc::clone(provider))
                .with_safe_default_protocol_versions()
                .map_err(StartError::Tls)
        };
        let verified = builder(&provider)?.with_root_certificates(roots(ca)?).with_no_client_auth();
        let opportunistic = builder(&provider)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(Arc::clone(&provider))))
            .with_no_client_auth();
        Ok(Self { verified: Arc::new(verified), opportunistic: Arc::new(opportunistic) })
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, StartError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "cannot read some of the system's certificates");
    }
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = ca {
        let explain = |error: String| StartError::Certificates(path.to_owned(), error);
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| explain(error.to_string()))?;
        if certificates.is_empty() {
            return Err(explain("no certificate in it".to_owned()));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| explain(error.to_string()))?;
        }
    }
    Ok(roots)
}

/// Takes any certificate, but still wants the peer to hold its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
