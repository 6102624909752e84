//! The server's certificate, read from PEM files or made on the spot, and whose certificates clients may show.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use zeroize::Zeroizing;

/// What to do about the certificates of clients.
pub(crate) type Clients = Arc<dyn ClientCertVerifier>;

/// Asks clients for a certificate signed by one of those in a PEM file, and lets in those that have none; without a
/// file, asks for none.
///
/// A client whose certificate cannot be verified is refused in the TLS handshake.
///
/// # Errors
/// Says what is wrong with the file.
pub(crate) fn clients(ca: Option<&Path>) -> Result<Clients, Error> {
    let Some(path) = ca else { return Ok(WebPkiClientVerifier::no_client_auth()) };
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(path)? {
        roots.add(certificate).map_err(|error| Error::ClientCa(path.to_owned(), error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| Error::ClientCa(path.to_owned(), error.to_string()))
}

/// Reads a certificate chain and its private key, both PEM.
///
/// # Errors
/// Says which file is wrong; [`Error::Tls`] where the two do not belong together.
pub(crate) fn load(certificate: &Path, key: &Path, clients: Clients) -> Result<Arc<ServerConfig>, Error> {
    let chain = read_chain(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| Error::Pem(key.to_owned(), error))?;
    server_config(chain, key, clients)
}

/// Reads the certificate and the key, or makes both, for `hostname` and for this machine's loopback names.
///
/// The key comes first, so that a start cut short between the two files is repaired by the next one.
///
/// # Errors
/// As [`load`]; also where the certificate exists without its key, which is never overwritten.
pub(crate) fn load_or_make(certificate: &Path, key: &Path, hostname: &str, clients: Clients) -> Result<Made, Error> {
    let exists = |path: &Path| path.try_exists().map_err(|error| Error::File(path.to_owned(), error));
    let new = !exists(certificate)?;
    if new {
        if !exists(key)? {
            let pem = Zeroizing::new(KeyPair::generate()?.serialize_pem());
            write_new(key, pem.as_bytes(), 0o600)?;
        }
        let pem = std::fs::read_to_string(key).map_err(|error| Error::File(key.to_owned(), error))?;
        let pair = KeyPair::from_pem(&Zeroizing::new(pem))?;
        write_new(certificate, parameters(hostname)?.self_signed(&pair)?.pem().as_bytes(), 0o644)?;
    } else if !exists(key)? {
        return Err(Error::KeyMissing(certificate.to_owned(), key.to_owned()));
    }
    Ok(Made { config: load(certificate, key, clients)?, new })
}

/// Makes a certificate that lives as long as the process.
///
/// # Errors
/// Where there is no randomness, or the name cannot stand in a certificate.
#[allow(dead_code, reason = "not every program that includes this file wants all of it")]
pub(crate) fn in_memory(hostname: &str, clients: Clients) -> Result<Arc<ServerConfig>, Error> {
    let pair = KeyPair::generate()?;
    let certificate = parameters(hostname)?.self_signed(&pair)?;
    let key = PrivateKeyDer::try_from(pair.serialize_der()).map_err(Error::Key)?;
    server_config(vec![certificate.der().clone()], key, clients)
}

/// What [`load_or_make`] found or made.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) config: Arc<ServerConfig>,
    /// Whether the certificate was made just now.
    pub(crate) new: bool,
}

/// Why there is no certificate to show.
#[derive(Debug)]
#[non_exhaustive]
pub(crate) enum Error {
    File(PathBuf, io::Error),
    Pem(PathBuf, rustls::pki_types::pem::Error),
    NoCertificate(PathBuf),
    /// The certificate is there, its key is not.
    KeyMissing(PathBuf, PathBuf),
    Key(&'static str),
    ClientCa(PathBuf, String),
    Make(rcgen::Error),
    Tls(rustls::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Pem(path, rustls::pki_types::pem::Error::Io(error)) => write!(f, "{}: {error}", path.display()),
            Self::Pem(path, error) => write!(f, "{}: no PEM file: {error}", path.display()),
            Self::NoCertificate(path) => write!(
                f,
                "{}: no certificate in it (it should have lines of -----BEGIN CERTIFICATE-----)",
                path.display()
            ),
            Self::KeyMissing(certificate, key) => write!(
                f,
                "{} is there but its key {} is not: bring the key back, or remove the certificate to have both made",
                certificate.display(),
                key.display()
            ),
            Self::Key(error) => write!(f, "cannot use the new key: {error}"),
            Self::ClientCa(path, error) => {
                write!(f, "{}: cannot verify clients' certificates by it: {error}", path.display())
            }
            Self::Make(error) => write!(f, "cannot make a certificate: {error}"),
            Self::Tls(error) => write!(f, "cannot use the certificate with its key: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<rcgen::Error> for Error {
    fn from(error: rcgen::Error) -> Self {
        Self::Make(error)
    }
}

/// Reads the certificates in a PEM file, of which there is at least one.
fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| Error::Pem(path.to_owned(), error))?;
    if chain.is_empty() { Err(Error::NoCertificate(path.to_owned())) } else { Ok(chain) }
}

/// The provider is named because another dependency may have turned a second one on.
///
/// AES-128 comes first: with it comes SHA-256, for which processors have instructions, and not SHA-384. That is a tenth
/// of what a handshake costs.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite().as_str().is_none_or(|name| !name.contains("AES_128")));
    Arc::new(provider)
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clients: Clients,
) -> Result<Arc<ServerConfig>, Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .map_err(Error::Tls)?;
    config.ignore_client_order = true;
    Ok(Arc::new(config))
}

fn parameters(hostname: &str) -> Result<CertificateParams, Error> {
    let mut names: Vec<String> = Vec::new();
    // An address literal is not a name that a certificate can hold.
    let wanted = [hostname.trim_matches(['[', ']']), "localhost", "127.0.0.1", "::1"];
    for name in wanted {
        let name = name.strip_prefix("IPv6:").unwrap_or(name);
        if !name.is_empty() && !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            names.push(name.to_owned());
        }
    }
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, "self-signed mail server");
    // Clients trust it as it is. Were it a CA, rustls clients would refuse it as a server's certificate.
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(parameters)
}

/// Writes a file; under its name there is all of it or nothing.
#[cfg_attr(not(unix), allow(unused_variables, reason = "there are no modes elsewhere"))]
fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let explain = |error| Error::File(path.to_owned(), error);
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    let mut file = options.open(&part).map_err(explain)?;
    let written = file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&part, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written.map_err(explain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(directory: &Path) -> (PathBuf, PathBuf) {
        (directory.join("mail-cert.pem"), directory.join("mail-key.pem"))
    }

    fn nobody() -> Clients {
        clients(None).unwrap()
    }

    #[test]
    fn made_once_and_used_again() {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = files(directory.path());
        assert!(load_or_make(&certificate, &key, "mx.example.org", nobody()).unwrap().new);
        let before = std::fs::read(&certificate).unwrap();
        assert!(!load_or_make(&certificate, &key, "mx.example.org", nobody()).unwrap().new);
        assert_eq!(std::fs::read(&certificate).unwrap(), before);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(certificate.metadata().unwrap().permissions().mode() & 0o044, 0o044);
        }
    }

    #[test]
    fn a_start_cut_short_is_repaired_and_a_lost_key_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = files(directory.path());
        load_or_make(&certificate, &key, "localhost", nobody()).unwrap();
        std::fs::remove_file(&certificate).unwrap();
        assert!(load_or_make(&certificate, &key, "localhost", nobody()).unwrap().new);
        std::fs::remove_file(&key).unwrap();
        assert!(matches!(load_or_make(&certificate, &key, "localhost", nobody()), Err(Error::KeyMissing(..))));
    }

    #[test]
    fn mistakes_name_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = files(directory.path());
        assert!(load(&certificate, &key, nobody()).unwrap_err().to_string().contains("mail-cert.pem"));
        std::fs::write(&certificate, "nothing").unwrap();
        assert!(matches!(load(&certificate, &key, nobody()), Err(Error::NoCertificate(_) | Error::Pem(..))));
        std::fs::remove_file(&certificate).unwrap();
        load_or_make(&certificate, &key, "localhost", nobody()).unwrap();
        std::fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        assert!(matches!(load(&certificate, &key, nobody()), Err(Error::Tls(_))));
    }

    #[test]
    fn address_literals_are_names_too() {
        for name in ["mx.example", "[192.0.2.1]", "[IPv6:2001:db8::1]", "localhost"] {
            in_memory(name, nobody()).unwrap();
        }
    }

    #[test]
    fn a_client_ca_is_one() {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = files(directory.path());
        load_or_make(&certificate, &key, "localhost", nobody()).unwrap();
        assert!(clients(Some(&certificate)).unwrap().offer_client_auth());
        assert!(!clients(Some(&certificate)).unwrap().client_auth_mandatory());
        assert!(clients(Some(&key)).unwrap_err().to_string().contains("mail-key.pem"));
        assert!(clients(Some(Path::new("none.pem"))).unwrap_err().to_string().contains("none.pem"));
    }
}
