//! The channel binding `tls-server-end-point` (RFC 5929, section 4): a hash of the server's certificate,
//! by the hash function with which that is signed.

use alloc::vec::Vec;

use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};
use spki::der::asn1::{AnyRef, BitStringRef, ContextSpecific};
use spki::der::{Reader as _, SliceReader, Tag, TagNumber, Tagged as _};
use spki::{AlgorithmIdentifierRef, ObjectIdentifier};

/// The binding data, unless the certificate is signed without a hash function of its own (Ed25519), for
/// which the RFC defines none.
pub(super) fn server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let hash = signature_hash(certificate)?;
    Some(match hash {
        Hash::Sha224 => Sha224::digest(certificate).to_vec(),
        Hash::Sha256 => Sha256::digest(certificate).to_vec(),
        Hash::Sha384 => Sha384::digest(certificate).to_vec(),
        Hash::Sha512 => Sha512::digest(certificate).to_vec(),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// RFC 5280, section 4.1: the part that is signed, the signature's algorithm, the signature.
fn signature_hash(certificate: &[u8]) -> Option<Hash> {
    let mut reader = SliceReader::new(certificate).ok()?;
    let algorithm = reader.sequence(|parts| {
        let _signed: AnyRef<'_> = parts.decode()?;
        let algorithm: AlgorithmIdentifierRef<'_> = parts.decode()?;
        let _signature: BitStringRef<'_> = parts.decode()?;
        Ok::<_, spki::der::Error>(algorithm)
    });
    let algorithm = algorithm.ok()?;
    if algorithm.oid == RSASSA_PSS { pss_hash(algorithm.parameters?) } else { hash_of(SIGNATURES, algorithm.oid) }
}

/// RFC 4055, section 3.1: the hash function is the first parameter, SHA-1 if it is not there.
fn pss_hash(parameters: AnyRef<'_>) -> Option<Hash> {
    if parameters.tag() != Tag::Sequence {
        return None;
    }
    let mut reader = SliceReader::new(parameters.value()).ok()?;
    let hash = ContextSpecific::<AlgorithmIdentifierRef<'_>>::decode_explicit(&mut reader, TagNumber(0)).ok()?;
    hash.map_or(Some(Hash::Sha256), |hash| hash_of(HASHES, hash.value.oid))
}

fn hash_of(table: &[(ObjectIdentifier, Hash)], oid: ObjectIdentifier) -> Option<Hash> {
    table.iter().find(|(known, _)| *known == oid).map(|(_, hash)| *hash)
}

const fn oid(dotted: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(dotted)
}

const RSASSA_PSS: ObjectIdentifier = oid("1.2.840.113549.1.1.10");

/// MD5 and SHA-1 count as SHA-256 (RFC 5929, section 4.1).
const SIGNATURES: &[(ObjectIdentifier, Hash)] = &[
    (oid("1.2.840.113549.1.1.4"), Hash::Sha256),
    (oid("1.2.840.113549.1.1.5"), Hash::Sha256),
    (oid("1.2.840.113549.1.1.14"), Hash::Sha224),
    (oid("1.2.840.113549.1.1.11"), Hash::Sha256),
    (oid("1.2.840.113549.1.1.12"), Hash::Sha384),
    (oid("1.2.840.113549.1.1.13"), Hash::Sha512),
    (oid("1.2.840.10045.4.1"), Hash::Sha256),
    (oid("1.2.840.10045.4.3.1"), Hash::Sha224),
    (oid("1.2.840.10045.4.3.2"), Hash::Sha256),
    (oid("1.2.840.10045.4.3.3"), Hash::Sha384),
    (oid("1.2.840.10045.4.3.4"), Hash::Sha512),
];

const HASHES: &[(ObjectIdentifier, Hash)] = &[
    (oid("1.3.14.3.2.26"), Hash::Sha256),
    (oid("2.16.840.1.101.3.4.2.4"), Hash::Sha224),
    (oid("2.16.840.1.101.3.4.2.1"), Hash::Sha256),
    (oid("2.16.840.1.101.3.4.2.2"), Hash::Sha384),
    (oid("2.16.840.1.101.3.4.2.3"), Hash::Sha512),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn signed_by(algorithm: &'static rcgen::SignatureAlgorithm) -> Vec<u8> {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let parameters = rcgen::CertificateParams::new(["localhost".into()]).unwrap();
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_hash_is_that_of_the_signature() {
        let certificate = signed_by(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(server_end_point(&certificate), Some(Sha256::digest(&certificate).to_vec()));
        let certificate = signed_by(&rcgen::PKCS_ECDSA_P384_SHA384);
        assert_eq!(server_end_point(&certificate), Some(Sha384::digest(&certificate).to_vec()));
        assert_eq!(server_end_point(&signed_by(&rcgen::PKCS_ED25519)), None);
        assert_eq!(server_end_point(b"no certificate"), None);
    }

    /// A certificate needs no more than its outline here.
    fn outline(algorithm: &str) -> Vec<u8> {
        let algorithm: Vec<u8> = (0..algorithm.len() / 2)
            .map(|octet| u8::from_str_radix(&algorithm[octet * 2..octet * 2 + 2], 16).unwrap())
            .collect();
        let inner = [&[0x30, 0][..], &algorithm, &[3, 1, 0]].concat();
        [&[0x30, u8::try_from(inner.len()).unwrap()][..], &inner].concat()
    }

    #[test]
    fn rsassa_pss_names_its_hash_and_old_hashes_count_as_sha_256() {
        // sha1WithRSAEncryption, sha512WithRSAEncryption.
        assert_eq!(signature_hash(&outline("300d06092a864886f70d0101050500")), Some(Hash::Sha256));
        assert_eq!(signature_hash(&outline("300d06092a864886f70d01010d0500")), Some(Hash::Sha512));
        // With SHA-384 named; with no parameter named, which means SHA-1.
        let named = "301c06092a864886f70d01010a300fa00d300b0609608648016503040202";
        assert_eq!(signature_hash(&outline(named)), Some(Hash::Sha384));
        assert_eq!(signature_hash(&outline("300d06092a864886f70d01010a3000")), Some(Hash::Sha256));
    }
}
