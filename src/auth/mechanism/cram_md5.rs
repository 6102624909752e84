//! CRAM-MD5 (RFC 2195): obsolete, for clients that know nothing better and cannot have TLS.
//!
//! It needs the password in the clear, or a [`CramMd5Key`], which is as good as the password for
//! CRAM-MD5 itself. Therefore it is not offered unless asked for.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use md5::Md5;
use md5::block_api::Md5Core;
use md5::digest::block_api::{Block, CoreProxy as _, UpdateCore as _};
use md5::digest::common::hazmat::{SerializableState, SerializedState};
use md5::digest::{FixedOutput as _, Update as _};
use zeroize::{Zeroize as _, Zeroizing};

use super::{Exchange, First, Mechanism, Start, Step};
use crate::auth::password::prepared_form;
use crate::auth::{AuthResult, Credentials, Needs};
use crate::secret::{Secret, SecretRef};

/// CRAM-MD5: the server's challenge, and the client's name with a keyed digest of it.
///
/// The authenticator is asked [`AuthQuestion::CramMd5`](crate::auth::AuthQuestion::CramMd5).
#[derive(Clone, Debug, Default)]
pub struct CramMd5 {
    _private: (),
}

impl CramMd5 {
    /// The mechanism.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Mechanism for CramMd5 {
    fn name(&self) -> &'static str {
        "CRAM-MD5"
    }

    fn first(&self) -> First {
        First::Server
    }

    fn needs(&self) -> Needs {
        Needs::ENTROPY
    }

    fn begin(&self, start: &Start<'_>) -> Box<dyn Exchange> {
        let number = || {
            let mut octets = [0; 8];
            start.fill_random(&mut octets).map(|()| u64::from_le_bytes(octets))
        };
        // RFC 2195, section 2: digits, a timestamp, the host's name. What matters is that it is new.
        let challenge = number().and_then(|first| Ok(format!("<{first}.{}@{}>", number()?, start.hostname())));
        Box::new(Challenging { challenge: challenge.ok().map(Into::into), asked: false })
    }
}

struct Challenging {
    /// `None` if there was no entropy for it.
    challenge: Option<Vec<u8>>,
    asked: bool,
}

impl Exchange for Challenging {
    fn step(&mut self, response: Option<SecretRef<'_>>, credentials: &mut Credentials) -> Step {
        let Some(challenge) = &self.challenge else { return Step::Finish(AuthResult::cannot_tell()) };
        let Some(response) = response.filter(|_| self.asked) else {
            self.asked = true;
            return Step::Challenge(challenge.clone().into());
        };
        // A name may hold spaces; the digest does not.
        let response = response.expose_secret();
        let Some(space) = response.iter().rposition(|&octet| octet == b' ') else { return Step::Malformed };
        let (name, digits) = (response.get(..space).unwrap_or_default(), response.get(space + 1..).unwrap_or_default());
        let Some(digest) = read_hex::<16>(digits) else { return Step::Malformed };
        match credentials.set_authcid(name) {
            Ok(()) if credentials.authcid().is_empty() => Step::Malformed,
            Ok(()) => Step::Ask(Box::new(CramMd5Response { challenge: challenge.clone(), digest })),
            Err(malformed) => malformed.into(),
        }
    }
}

/// A client's proof that it knows the password: an [`AuthRequest`](crate::AuthRequest)'s data.
pub struct CramMd5Response {
    challenge: Vec<u8>,
    digest: Zeroizing<[u8; 16]>,
}

impl CramMd5Response {
    /// Whether it was made with this password, as it is or prepared by SASLprep. Compares in constant time.
    #[must_use]
    pub fn verify(&self, password: SecretRef<'_>) -> bool {
        self.verify_key(&CramMd5Key::derive(password))
    }

    /// Whether it was made with the password from which `key` was derived. Compares in constant time.
    #[must_use]
    pub fn verify_key(&self, key: &CramMd5Key) -> bool {
        // As many digests for every key, so that no time tells whether a password has one form or two.
        key.each()
            .iter()
            .fold(false, |right, states| SecretRef::new(&*hmac(states, &self.challenge)).ct_eq(&*self.digest) | right)
    }
}

impl fmt::Debug for CramMd5Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CramMd5Response([redacted])")
    }
}

/// What a server has to store for CRAM-MD5: the inner state of HMAC-MD5 once it has taken the password
/// in. It opens nothing but CRAM-MD5; for that it is as good as the password, which it also lets whoever
/// steals it look for at the speed of MD5.
///
/// RFC 2195 prepares no password, and most clients send a digest of the password as it was typed; others (GNU SASL)
/// prepare it by SASLprep, as RFC 4422 wants. So a password that SASLprep changes has two states of each kind.
///
/// The text form, 64 hexadecimal digits in lower case, is that of Dovecot's `{CRAM-MD5}` scheme. Behind a comma there may
/// be 64 more, of the prepared password.
pub struct CramMd5Key {
    /// The states after the outer padding and after the inner, for the password as it was given and, where that differs,
    /// as SASLprep has it. On the heap, as SCRAM's keys are.
    states: Secret,
}

impl CramMd5Key {
    /// Derives the key from a password as it was typed.
    #[must_use]
    pub fn derive(password: SecretRef<'_>) -> Self {
        let password = password.expose_secret();
        let prepared = prepared_form(password).ok().flatten();
        let mut states = Secret::with_capacity(KEY_OCTETS * 2);
        for form in core::iter::once(password).chain(prepared.as_ref().map(Secret::expose_secret)) {
            Self::extend(&mut states, form);
        }
        Self { states }
    }

    /// Whether the key was derived from a password of which exactly these octets are a form. Compares in constant time.
    #[must_use]
    pub fn verify_octets(&self, password: &[u8]) -> bool {
        let mut states = Secret::with_capacity(KEY_OCTETS);
        Self::extend(&mut states, password);
        self.each().iter().fold(false, |right, own| states.ct_eq(own) | right)
    }

    /// Adds the states of one form of a password.
    fn extend(states: &mut Secret, password: &[u8]) {
        let mut block = Zeroizing::new([0; BLOCK_OCTETS]);
        // RFC 2104, section 2: a longer key is hashed first.
        if password.len() > BLOCK_OCTETS {
            let mut digest = <Md5 as md5::Digest>::digest(password);
            block.iter_mut().zip(&digest).for_each(|(octet, from)| *octet = *from);
            digest.as_mut_slice().zeroize();
        } else {
            block.iter_mut().zip(password).for_each(|(octet, from)| *octet = *from);
        }
        let state = |pad: u8| {
            let mut padded: Block<Md5Core> = Default::default();
            padded.iter_mut().zip(&*block).for_each(|(octet, from)| *octet = from ^ pad);
            let mut core = Md5Core::default();
            core.update_blocks(core::slice::from_ref(&padded));
            padded.as_mut_slice().zeroize();
            let serialized = core.serialize();
            let mut state = Zeroizing::new([0; 16]);
            state.iter_mut().zip(&serialized).for_each(|(octet, from)| *octet = *from);
            state
        };
        states.extend(&*state(0x5C));
        states.extend(&*state(0x36));
    }

    /// What belongs to each form of the password; twice the same where there is one.
    fn each(&self) -> [&[u8]; 2] {
        let (first, second) = self.states.expose_secret().split_at_checked(KEY_OCTETS).unwrap_or_default();
        [first, if second.is_empty() { first } else { second }]
    }

    /// The text form, to be stored.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(KEY_OCTETS * 4 + 1));
        for (place, octet) in self.states.expose_secret().iter().enumerate() {
            if place == KEY_OCTETS {
                text.push(',');
            }
            for digit in [octet >> 4, octet & 15] {
                text.push(char::from_digit(digit.into(), 16).unwrap_or_default());
            }
        }
        text
    }
}

impl Clone for CramMd5Key {
    fn clone(&self) -> Self {
        Self { states: self.states.expose_secret().into() }
    }
}

/// HMAC-MD5 of the message, by the states of a key.
fn hmac(states: &[u8], message: &[u8]) -> Zeroizing<[u8; 16]> {
    let (outer, inner) = states.split_at_checked(KEY_OCTETS / 2).unwrap_or_default();
    finish(outer, &*finish(inner, message))
}

/// MD5 of a block that led to `state`, and `message` behind it.
fn finish(state: &[u8], message: &[u8]) -> Zeroizing<[u8; 16]> {
    // The state, and how many blocks have gone in: one.
    let mut serialized: SerializedState<Md5Core> = Default::default();
    serialized.iter_mut().zip(state.iter().chain(&1_u64.to_le_bytes())).for_each(|(octet, from)| *octet = *from);
    let mut digest = Zeroizing::new([0; 16]);
    if let Ok(core) = Md5Core::deserialize(&serialized) {
        let mut md5 = Md5::compose(core, Default::default());
        md5.update(message);
        md5.finalize_into((&mut *digest).into());
    }
    digest
}

impl FromStr for CramMd5Key {
    type Err = InvalidCramMd5Key;

    fn from_str(text: &str) -> Result<Self, InvalidCramMd5Key> {
        let (first, second) = text.split_once(',').map_or((text, None), |(first, second)| (first, Some(second)));
        let mut states = Secret::with_capacity(KEY_OCTETS * 2);
        for digits in core::iter::once(first).chain(second) {
            states.extend(&*read_hex::<KEY_OCTETS>(digits.as_bytes()).ok_or(InvalidCramMd5Key)?);
        }
        Ok(Self { states })
    }
}

impl fmt::Debug for CramMd5Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CramMd5Key([redacted])")
    }
}

/// The text is not 64 hexadecimal digits, nor twice as many with a comma between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidCramMd5Key;

impl fmt::Display for InvalidCramMd5Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a CRAM-MD5 key is 64 hexadecimal digits, or twice as many with a comma between")
    }
}

impl core::error::Error for InvalidCramMd5Key {}

/// RFC 2195, section 2: in lower case.
fn read_hex<const OCTETS: usize>(digits: &[u8]) -> Option<Zeroizing<[u8; OCTETS]>> {
    let mut octets = Zeroizing::new([0; OCTETS]);
    if digits.len() != OCTETS * 2 {
        return None;
    }
    for (octet, pair) in octets.iter_mut().zip(digits.chunks_exact(2)) {
        for &digit in pair {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            *octet = *octet << 4 | value;
        }
    }
    Some(octets)
}

const BLOCK_OCTETS: usize = 64;

/// Two states of MD5.
const KEY_OCTETS: usize = 32;

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned as _;

    use super::*;

    fn response(challenge: &[u8], digest: &str) -> CramMd5Response {
        CramMd5Response { challenge: challenge.into(), digest: read_hex(digest.as_bytes()).unwrap() }
    }

    #[test]
    fn the_example_of_rfc_2195_section_2() {
        let response = response(b"<1896.697170952@postoffice.reston.mci.net>", "b913a602c7eda7a495b4e6e7334d3890");
        assert!(response.verify(SecretRef::new(b"tanstaaftanstaaf")));
        assert!(!response.verify(SecretRef::new(b"tanstaaf")));
    }

    /// RFC 2104's second test vector, and a key longer than a block, by Python's `hmac`.
    #[test]
    fn short_and_long_keys() {
        assert!(
            response(b"what do ya want for nothing?", "750c783e6ab0b503eaa86e310a5db738")
                .verify(SecretRef::new(b"Jefe"))
        );
        assert!(response(b"x", "2917e317832330baa72b773a7941a286").verify(SecretRef::new(&[b'k'; 100])));
    }

    /// The digests by Python's `hmac`.
    #[test]
    #[cfg(feature = "std")]
    fn a_client_prepares_the_password_or_does_not() {
        let key = CramMd5Key::derive(SecretRef::new("m²".as_bytes()));
        let read: CramMd5Key = key.to_text().parse().unwrap();
        for (digest, right) in [
            ("a5f41bba805a72ef58e50f360a43ac89", true),
            ("8bf610ba0698cc1e7c334597fe3050a9", true),
            ("00000000000000000000000000000000", false),
        ] {
            let response = response(b"x", digest);
            assert_eq!(response.verify(SecretRef::new("m²".as_bytes())), right);
            assert_eq!(response.verify_key(&read), right);
        }
        assert!(read.verify_octets("m²".as_bytes()) && read.verify_octets(b"m2") && !read.verify_octets(b"m"));
        assert_eq!(read.to_text().len(), 129);
    }

    #[test]
    fn the_text_form_is_dovecot_s() {
        let key = CramMd5Key::derive(SecretRef::new(b"test"));
        let text = "e02d374fde0dc75a17a557039a3a5338c7743304777dccd376f332bee68d2cf6";
        assert_eq!(key.to_text().as_str(), text);
        let read: CramMd5Key = text.parse().unwrap();
        assert_eq!(read.to_text(), key.to_text());
        assert!(key.verify_octets(b"test") && !key.verify_octets(b"tes"));
        for wrong in ["e02d".to_owned(), format!("{text},"), format!("{text},e02d"), format!("{text},{text},{text}")] {
            assert!(wrong.parse::<CramMd5Key>().is_err(), "{wrong}");
        }
        assert_eq!(alloc::format!("{key:?}"), "CramMd5Key([redacted])");
    }
}
