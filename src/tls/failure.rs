//! What rustls says of a failure, in words that stay the same from version to version and tell nothing secret.

use rustls::{Error, PeerIncompatible};

use crate::event::TlsFailure;

#[expect(clippy::wildcard_enum_match_arm, reason = "rustls adds variants that nobody here has heard of")]
pub(super) fn from_rustls(error: &Error) -> TlsFailure {
    match error {
        Error::AlertReceived(alert) => TlsFailure::Alert((*alert).into()),
        // The first octets of anything else look like a record that cannot be.
        Error::InvalidMessage(_) => TlsFailure::NotTls,
        Error::PeerIncompatible(why) => from_incompatibility(why),
        Error::NoApplicationProtocol => TlsFailure::NoCommonApplicationProtocol,
        Error::NoCertificatesPresented => TlsFailure::NoClientCertificate,
        Error::InvalidCertificate(_) | Error::InvalidCertRevocationList(_) => TlsFailure::BadClientCertificate,
        Error::DecryptError => TlsFailure::Undecipherable,
        Error::PeerMisbehaved(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerSentOversizedRecord => TlsFailure::Misbehaved,
        // As where the resolver has no certificate for the client.
        Error::General(_)
        | Error::FailedToGetRandomBytes
        | Error::FailedToGetCurrentTime
        | Error::EncryptError
        | Error::InconsistentKeys(_) => TlsFailure::Unavailable,
        _ => TlsFailure::Other,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "rustls adds variants that nobody here has heard of")]
fn from_incompatibility(why: &PeerIncompatible) -> TlsFailure {
    match why {
        // rustls looks for signature schemes before it looks at the version, and TLS before 1.2 has none.
        PeerIncompatible::SignatureAlgorithmsExtensionRequired
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => TlsFailure::NoCommonVersion,
        PeerIncompatible::NoCipherSuitesInCommon => TlsFailure::NoCommonCipherSuite,
        PeerIncompatible::NoKxGroupsInCommon => TlsFailure::NoCommonGroup,
        PeerIncompatible::NoSignatureSchemesInCommon => TlsFailure::NoCommonSignatureScheme,
        _ => TlsFailure::Incompatible,
    }
}
