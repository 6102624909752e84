//! Where the server's certificate is, and whose certificates clients may show: read at the start, and on SIGHUP.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;

use crate::certificate;
use crate::options::{Serve, TlsFiles};

/// The files that TLS needs.
#[derive(Debug)]
pub(crate) struct TlsSource {
    files: TlsFiles,
    /// For which host a self-signed certificate is made where there is none; none if the files are the operator's.
    self_signed_for: Option<String>,
    client_ca: Option<PathBuf>,
}

impl TlsSource {
    pub(crate) fn of(options: &Serve) -> Self {
        let own = || TlsFiles {
            certificate: options.beside_users("mail-cert.pem"),
            key: options.beside_users("mail-key.pem"),
        };
        Self {
            files: options.tls.clone().unwrap_or_else(own),
            self_signed_for: options.tls.is_none().then(|| options.hostname.clone()),
            client_ca: options.client_ca.clone(),
        }
    }

    /// Reads them, or makes a self-signed certificate.
    ///
    /// # Errors
    /// Says which file is wrong, and how.
    pub(crate) fn load(&self) -> Result<Arc<ServerConfig>, certificate::Error> {
        let TlsFiles { certificate, key } = &self.files;
        let clients = certificate::clients(self.client_ca.as_deref())?;
        let Some(hostname) = &self.self_signed_for else { return certificate::load(certificate, key, clients) };
        let made = certificate::load_or_make(certificate, key, hostname, clients)?;
        if made.new {
            tracing::info!(certificate = %certificate.display(), "made a self-signed certificate");
        }
        Ok(made.config)
    }

    /// The file of the certificate.
    pub(crate) fn certificate(&self) -> &Path {
        &self.files.certificate
    }

    /// Whether clients have to be given the certificate to trust it.
    pub(crate) fn is_self_signed(&self) -> bool {
        self.self_signed_for.is_some()
    }
}
