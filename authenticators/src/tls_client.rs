//! Whom servers' certificates have to come from.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Why no server's certificate could be verified.
#[derive(Debug)]
#[non_exhaustive]
pub enum InvalidRoots {
    /// The root certificates are not PEM, or none that a certificate could come from.
    Pem(Box<dyn std::error::Error + Send + Sync>),
    /// There is none in the PEM.
    Empty,
    /// The system has none.
    System(io::Error),
    /// rustls cannot do with what it has.
    Rustls(rustls::Error),
}

/// TLS that trusts the certificates in a PEM text, or those that the system trusts, and speaks through ring.
pub(crate) fn config(pem: Option<&[u8]>) -> Result<ClientConfig, InvalidRoots> {
    let mut roots = RootCertStore::empty();
    if let Some(pem) = pem {
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| InvalidRoots::Pem(error.into()))?;
            roots.add(certificate).map_err(|error| InvalidRoots::Pem(error.into()))?;
        }
        if roots.is_empty() {
            return Err(InvalidRoots::Empty);
        }
    } else {
        // Systems have some that cannot be read, which does not keep from the others.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(InvalidRoots::System(io::ErrorKind::NotFound.into()));
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(InvalidRoots::Rustls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

impl fmt::Display for InvalidRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pem(error) => write!(f, "the root certificates cannot be used: {error}"),
            Self::Empty => f.write_str("there is no root certificate in the file"),
            Self::System(_) => f.write_str("the system has no root certificates"),
            Self::Rustls(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for InvalidRoots {}
