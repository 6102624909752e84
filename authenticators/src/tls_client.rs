//! Whom servers' certificates have to come from.

use std::fmt;
use std::io;
#[cfg(feature = "ldap")]
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(any(feature = "ldap", feature = "postgres"))]
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};

/// Why no server's certificate could be verified.
#[derive(Debug)]
#[non_exhaustive]
pub enum InvalidRoots {
    /// The file of root certificates cannot be read.
    #[cfg(feature = "ldap")]
    File(PathBuf, io::Error),
    /// The root certificates are not PEM, or none that a certificate could come from.
    Pem(Box<dyn std::error::Error + Send + Sync>),
    /// There is none in the PEM.
    Empty,
    /// The system has none.
    System(io::Error),
    /// rustls cannot do with what it has.
    Rustls(rustls::Error),
}

/// TLS that trusts these certificates and no others, and speaks through ring.
pub(crate) fn config(roots: RootCertStore) -> Result<Arc<ClientConfig>, InvalidRoots> {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(InvalidRoots::Rustls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The certificates that the system trusts.
pub(crate) fn system_roots() -> Result<RootCertStore, InvalidRoots> {
    let mut roots = RootCertStore::empty();
    // Systems have some that cannot be read, which does not keep from the others.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(InvalidRoots::System(io::ErrorKind::NotFound.into())) } else { Ok(roots) }
}

/// The certificates in a PEM text.
#[cfg(any(feature = "ldap", feature = "postgres"))]
pub(crate) fn pem_roots(pem: &[u8]) -> Result<RootCertStore, InvalidRoots> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| InvalidRoots::Pem(error.into()))?;
        roots.add(certificate).map_err(|error| InvalidRoots::Pem(error.into()))?;
    }
    if roots.is_empty() { Err(InvalidRoots::Empty) } else { Ok(roots) }
}

/// The certificates in a PEM file.
#[cfg(feature = "ldap")]
pub(crate) fn file_roots(path: &Path) -> Result<RootCertStore, InvalidRoots> {
    pem_roots(&std::fs::read(path).map_err(|error| InvalidRoots::File(path.to_owned(), error))?)
}

impl fmt::Display for InvalidRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(feature = "ldap")]
            Self::File(path, error) => write!(f, "cannot read root certificates from {}: {error}", path.display()),
            Self::Pem(error) => write!(f, "the root certificates cannot be used: {error}"),
            Self::Empty => f.write_str("there is no root certificate in the file"),
            Self::System(_) => f.write_str("the system has no root certificates"),
            Self::Rustls(error) => write!(f, "cannot set up TLS: {error}"),
        }
    }
}

impl std::error::Error for InvalidRoots {}
