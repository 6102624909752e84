//! A certificate authority of the tests' own.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore};

/// Signs the server's certificate, and those of clients.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, "authority of a test");
        let key = KeyPair::generate().expect("there is randomness");
        Self { issuer: CertifiedIssuer::self_signed(parameters, key).expect("the certificate can be made") }
    }

    /// Writes `ca.pem`, and for `localhost` `cert.pem` and `key.pem`.
    pub(crate) fn write(&self, directory: &Path) {
        let (certificate, key) = self.sign("localhost", &[], ExtendedKeyUsagePurpose::ServerAuth);
        for (name, content) in
            [("ca.pem", self.issuer.pem()), ("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())]
        {
            fs::write(directory.join(name), content).expect("the directory can be written to");
        }
    }

    /// Writes NAME-cert.pem and NAME-key.pem for a client with this common name.
    pub(crate) fn write_client(&self, directory: &Path, name: &str) {
        let (certificate, key) = self.sign(name, &[], ExtendedKeyUsagePurpose::ClientAuth);
        for (end, content) in [("cert", certificate.pem()), ("key", key.serialize_pem())] {
            fs::write(directory.join(format!("{name}-{end}.pem")), content).expect("the directory can be written to");
        }
    }

    /// A client that trusts this authority and shows no certificate.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        Arc::new(self.trusting().with_no_client_auth())
    }

    /// A client that shows a certificate by `signer`, with this common name and these email addresses.
    pub(crate) fn client_with_certificate(
        &self,
        signer: &Self,
        common_name: &str,
        emails: &[&str],
    ) -> Arc<ClientConfig> {
        let (certificate, key) = signer.sign(common_name, emails, ExtendedKeyUsagePurpose::ClientAuth);
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("it is a key");
        let config = self.trusting().with_client_auth_cert(vec![certificate.der().clone()], key);
        Arc::new(config.expect("the key is the certificate's"))
    }

    fn trusting(&self) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("it is a certificate");
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider knows them")
            .with_root_certificates(roots)
    }

    fn sign(&self, name: &str, emails: &[&str], usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let hosts = if usage == ExtendedKeyUsagePurpose::ServerAuth { vec![name.to_owned()] } else { Vec::new() };
        let mut parameters = CertificateParams::new(hosts).expect("it is a name");
        let email = |address: &&str| SanType::Rfc822Name((*address).try_into().expect("it is ASCII"));
        parameters.subject_alt_names.extend(emails.iter().map(email));
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("there is randomness");
        (parameters.signed_by(&key, &self.issuer).expect("the certificate can be made"), key)
    }
}
