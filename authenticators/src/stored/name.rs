//! Users' names: as logins bring them, and in certificates.

use sansmtp::auth::{Credentials, MalformedCredentials};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// A user's name as SASLprep has it (RFC 4013), if it is one that a login can bring.
///
/// # Errors
/// Why no login can bring it.
pub fn prepare_name(name: &str) -> Result<String, MalformedCredentials> {
    let mut credentials = Credentials::default();
    credentials.set_authcid(name.as_bytes())?;
    Some(credentials.authcid().to_owned()).filter(|name| !name.is_empty()).ok_or(MalformedCredentials::Empty)
}

/// Whether a stored name is `lower_case`, a name in lower case, in any case of its letters: for
/// [`Store::names_in_any_case`](super::Store::names_in_any_case) of a store of one's own. Allocates nothing.
#[must_use]
pub fn is_in_any_case(stored: &str, lower_case: &str) -> bool {
    stored.chars().flat_map(char::to_lowercase).eq(lower_case.chars())
}

/// The user names in a client's certificate chain, whose first is the client's own: its email addresses (rfc822Name
/// of the subjectAltName, RFC 5280, section 4.2.1.6), or, where it has none, the subject's common name.
///
/// They are prepared as the authcid of any other mechanism is. None means that the certificate names nobody.
#[must_use]
pub fn names_in_certificate(chain: &[Vec<u8>]) -> Vec<String> {
    let Some(certificate) = chain.first().and_then(|own| Certificate::from_der(own).ok()) else { return Vec::new() };
    let own = certificate.tbs_certificate();
    let mut names = Vec::new();
    match own.get_extension::<SubjectAltName>() {
        Ok(Some((_, alternatives))) => {
            let emails = alternatives.0.iter().filter_map(|name| {
                if let GeneralName::Rfc822Name(email) = name { Some(email.as_str().to_owned()) } else { None }
            });
            names.extend(emails);
        }
        Ok(None) => {}
        // What cannot be read may have named somebody else.
        Err(_) => return Vec::new(),
    }
    if names.is_empty()
        && let Ok(Some(common_name)) = own.subject().common_name()
    {
        names.push(common_name.into());
    }
    names.iter().filter_map(|name| prepare_name(name).ok()).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn chain(common_name: Option<&str>, alternatives: &[SanType]) -> Vec<Vec<u8>> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        if let Some(name) = common_name {
            parameters.distinguished_name.push(DnType::CommonName, name);
        }
        parameters.subject_alt_names = alternatives.to_vec();
        vec![parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()]
    }

    fn email(address: &str) -> SanType {
        SanType::Rfc822Name(address.try_into().unwrap())
    }

    #[test]
    fn an_email_address_names_the_user_before_the_common_name() {
        let host = SanType::DnsName("host.example".try_into().unwrap());
        let both = [host.clone(), email("tim@example.org"), email("t@example.org")];
        assert_eq!(names_in_certificate(&chain(Some("Tim"), &both)), ["tim@example.org", "t@example.org"]);
        assert_eq!(names_in_certificate(&chain(Some("tim"), &[host])), ["tim"]);
        assert_eq!(names_in_certificate(&chain(Some("Jose\u{301}"), &[])), ["José"]);
    }

    #[test]
    fn a_certificate_may_name_nobody() {
        assert!(names_in_certificate(&chain(None, &[])).is_empty());
        assert!(names_in_certificate(&chain(Some("a\nb"), &[])).is_empty());
        assert!(names_in_certificate(&chain(Some(""), &[])).is_empty());
        assert!(names_in_certificate(&[]).is_empty());
        assert!(names_in_certificate(&[b"no certificate".to_vec()]).is_empty());
    }
}
