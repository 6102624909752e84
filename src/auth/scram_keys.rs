//! What a server stores for SCRAM (RFC 5802, sections 3 and 5), in PostgreSQL's text form.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};
use zeroize::Zeroizing;

use super::password::{Password, prepared_form};
use crate::secret::{Secret, SecretRef};

/// The hash function of a SCRAM mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScramHash {
    /// SHA-1 (RFC 5802): for clients that know nothing newer.
    Sha1,
    /// SHA-256 (RFC 7677).
    Sha256,
    /// SHA-512.
    Sha512,
}

/// The keys by which a server knows a user's password without knowing it: whoever steals them cannot log
/// in with them, but can try passwords against them.
///
/// The text form is PostgreSQL's, `SCRAM-SHA-256$4096:salt$StoredKey:ServerKey` in base64, for the other
/// hashes with their names; a `pg_authid.rolpassword` can be used as it is.
///
/// ```
/// use sansmtp::auth::{ScramHash, ScramKeys};
///
/// let keys = ScramKeys::derive(ScramHash::Sha256, b"pencil", b"sixteen octets..", 4096)?;
/// let stored = keys.to_text();
/// assert!(stored.starts_with("SCRAM-SHA-256$4096:"));
/// let read: ScramKeys = stored.parse()?;
/// assert_eq!(read.iterations(), 4096);
/// # Ok::<(), sansmtp::auth::InvalidScramKeys>(())
/// ```
pub struct ScramKeys {
    hash: ScramHash,
    iterations: u32,
    salt: Vec<u8>,
    /// StoredKey and ServerKey, one behind the other. On the heap: a value that is moved, in a vector that
    /// grows or out of a box, would leave them where it was.
    keys: Secret,
}

/// Text that is no [`ScramKeys`], or parameters that none can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidScramKeys {
    /// The text is not of the form `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`.
    Form,
    /// The name in front is of no hash that is known here.
    Hash,
    /// The number of iterations is none, or zero.
    Iterations,
    /// The salt is empty, over 1,024 octets, or not base64.
    Salt,
    /// A key is not base64, or not as long as the hash.
    Key,
}

/// The output of a hash, overwritten with zeros when dropped.
pub(crate) struct Digest {
    octets: Zeroizing<[u8; MAX_DIGEST_OCTETS]>,
    length: usize,
}

impl ScramHash {
    /// The mechanism's name, without `-PLUS`.
    #[must_use]
    pub const fn mechanism(self) -> &'static str {
        match self {
            Self::Sha1 => "SCRAM-SHA-1",
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// The name of the mechanism with channel binding.
    #[must_use]
    pub const fn plus_mechanism(self) -> &'static str {
        match self {
            Self::Sha1 => "SCRAM-SHA-1-PLUS",
            Self::Sha256 => "SCRAM-SHA-256-PLUS",
            Self::Sha512 => "SCRAM-SHA-512-PLUS",
        }
    }

    fn octets(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// H(octets).
    pub(crate) fn digest(self, octets: &[u8]) -> Digest {
        match self {
            Self::Sha1 => Digest::new(&mut Sha1::digest(octets)),
            Self::Sha256 => Digest::new(&mut Sha256::digest(octets)),
            Self::Sha512 => Digest::new(&mut Sha512::digest(octets)),
        }
    }

    /// HMAC(key, the parts one behind the other).
    pub(crate) fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Digest {
        macro_rules! hmac {
            ($hash:ty) => {
                match Hmac::<$hash>::new_from_slice(key) {
                    Ok(mut hmac) => {
                        parts.iter().for_each(|part| hmac.update(part));
                        Digest::new(&mut hmac.finalize().into_bytes())
                    }
                    // HMAC takes keys of any length.
                    Err(_) => Digest::new(&mut []),
                }
            };
        }
        match self {
            Self::Sha1 => hmac!(Sha1),
            Self::Sha256 => hmac!(Sha256),
            Self::Sha512 => hmac!(Sha512),
        }
    }

    /// Hi(password, salt, iterations), which is PBKDF2.
    fn salted_password(self, password: &[u8], salt: &[u8], iterations: u32) -> Digest {
        let mut octets = [0; MAX_DIGEST_OCTETS];
        let room = octets.get_mut(..self.octets()).unwrap_or_default();
        match self {
            Self::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, iterations, room),
            Self::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, room),
            Self::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, iterations, room),
        }
        Digest::new(room)
    }
}

impl ScramKeys {
    /// Derives the keys from a password, which takes `iterations` rounds of two hashes each: some
    /// milliseconds for the usual 4,096 and more.
    ///
    /// The password is prepared by SASLprep first. One that SASLprep prohibits is taken as it is, as
    /// PostgreSQL and the clients do. `salt` should be 16 random octets, of this user alone.
    ///
    /// # Errors
    ///
    /// [`InvalidScramKeys`] if there are no iterations, or the salt is empty or over 1,024 octets.
    pub fn derive(hash: ScramHash, password: &[u8], salt: &[u8], iterations: u32) -> Result<Self, InvalidScramKeys> {
        let prepared = prepared_form(password).ok().flatten();
        let password = prepared.as_ref().map_or(password, |prepared| prepared.expose_secret());
        Self::derive_unprepared(hash, password, salt, iterations)
    }

    fn derive_unprepared(
        hash: ScramHash,
        password: &[u8],
        salt: &[u8],
        iterations: u32,
    ) -> Result<Self, InvalidScramKeys> {
        if iterations == 0 {
            return Err(InvalidScramKeys::Iterations);
        }
        check_salt(salt)?;
        let salted = hash.salted_password(password, salt, iterations);
        let client_key = hash.hmac(salted.as_ref(), &[b"Client Key"]);
        let (stored_key, server_key) = (hash.digest(client_key.as_ref()), hash.hmac(salted.as_ref(), &[b"Server Key"]));
        Ok(Self::new(hash, iterations, salt, &stored_key, &server_key))
    }

    fn new(hash: ScramHash, iterations: u32, salt: &[u8], stored_key: &Digest, server_key: &Digest) -> Self {
        let mut keys = Secret::with_capacity(hash.octets() * 2);
        keys.extend(stored_key.as_ref());
        keys.extend(server_key.as_ref());
        Self { hash, iterations, salt: salt.into(), keys }
    }

    /// Keys that no password has, with a salt that is `name`'s for as long as `secret` stays the same.
    pub(crate) fn of_nobody(hash: ScramHash, name: &str, secret: &[u8], iterations: u32) -> Self {
        let salt = hash.hmac(secret, &[b"salt\0", hash.mechanism().as_bytes(), b"\0", name.as_bytes()]);
        let salt = salt.as_ref().get(..FAKE_SALT_OCTETS).unwrap_or_default();
        // What hashes to zeros nobody knows, and whoever did would still be refused.
        let zeros = Digest { octets: Zeroizing::new([0; MAX_DIGEST_OCTETS]), length: hash.octets() };
        Self::new(hash, iterations, salt, &zeros, &zeros)
    }

    /// The hash function.
    #[must_use]
    pub fn hash(&self) -> ScramHash {
        self.hash
    }

    /// The number of iterations.
    #[must_use]
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// The salt.
    #[must_use]
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Whether `password` is the one that these keys were derived from. Takes as long as [`derive`](Self::derive), or
    /// twice as long for a password that SASLprep changes: PostgreSQL's preparation prohibits more than ours, and takes
    /// what it prohibits as it is. The comparisons are in constant time.
    #[must_use]
    pub fn verify(&self, password: Password<'_>) -> bool {
        password.check(|form| self.verify_octets(form.expose_secret()))
    }

    /// As [`verify`](Self::verify), for exactly these octets: one form of a password.
    #[must_use]
    pub fn verify_octets(&self, password: &[u8]) -> bool {
        Self::derive_unprepared(self.hash, password, &self.salt, self.iterations)
            .is_ok_and(|derived| SecretRef::new(derived.stored_key()).ct_eq(self.stored_key()))
    }

    /// The text form, to be stored. Whoever reads it can try passwords against it: keep it as you keep
    /// password hashes.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        // Nothing of it is moved while it grows.
        let mut text = Zeroizing::new(String::with_capacity(64 + self.salt.len() * 2 + MAX_DIGEST_OCTETS * 3));
        text.push_str(self.hash.mechanism());
        text.push('$');
        text.push_str(&alloc::format!("{}:", self.iterations));
        STANDARD.encode_string(&self.salt, &mut text);
        text.push('$');
        STANDARD.encode_string(self.stored_key(), &mut text);
        text.push(':');
        STANDARD.encode_string(self.server_key(), &mut text);
        text
    }

    pub(crate) fn stored_key(&self) -> &[u8] {
        self.keys.expose_secret().get(..self.hash.octets()).unwrap_or_default()
    }

    pub(crate) fn server_key(&self) -> &[u8] {
        self.keys.expose_secret().get(self.hash.octets()..).unwrap_or_default()
    }
}

impl Clone for ScramKeys {
    fn clone(&self) -> Self {
        let keys = self.keys.expose_secret().into();
        Self { hash: self.hash, iterations: self.iterations, salt: self.salt.clone(), keys }
    }
}

impl FromStr for ScramKeys {
    type Err = InvalidScramKeys;

    fn from_str(text: &str) -> Result<Self, InvalidScramKeys> {
        let mut parts = text.split('$');
        let (Some(name), Some(parameters), Some(keys), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidScramKeys::Form);
        };
        let hash = [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512]
            .into_iter()
            .find(|hash| hash.mechanism() == name)
            .ok_or(InvalidScramKeys::Hash)?;
        let (iterations, salt) = parameters.split_once(':').ok_or(InvalidScramKeys::Form)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(InvalidScramKeys::Form)?;
        let iterations = iterations.parse().ok().filter(|&count: &u32| count > 0);
        let iterations = iterations.ok_or(InvalidScramKeys::Iterations)?;
        let salt = STANDARD.decode(salt).map_err(|_| InvalidScramKeys::Salt)?;
        check_salt(&salt)?;
        let key = |encoded: &str| -> Result<Digest, InvalidScramKeys> {
            let mut octets = Zeroizing::new([0; MAX_DIGEST_OCTETS + 2]);
            let length = STANDARD.decode_slice(encoded, &mut *octets).map_err(|_| InvalidScramKeys::Key)?;
            let key = octets.get_mut(..length).filter(|key| key.len() == hash.octets());
            key.map(Digest::new).ok_or(InvalidScramKeys::Key)
        };
        Ok(Self::new(hash, iterations, &salt, &key(stored_key)?, &key(server_key)?))
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramKeys")
            .field("hash", &self.hash)
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for InvalidScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "not of the form SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey",
            Self::Hash => "not the name of a SCRAM mechanism that is known here",
            Self::Iterations => "not a number of iterations",
            Self::Salt => "the salt is empty, too long, or not base64",
            Self::Key => "a key is not base64, or not as long as the hash",
        })
    }
}

impl core::error::Error for InvalidScramKeys {}

impl Digest {
    /// Takes the octets, of which there are at most 64, and leaves zeros.
    fn new(from: &mut [u8]) -> Self {
        let mut octets = Zeroizing::new([0; MAX_DIGEST_OCTETS]);
        let length = from.len().min(MAX_DIGEST_OCTETS);
        if let (Some(to), Some(from)) = (octets.get_mut(..length), from.get(..length)) {
            to.copy_from_slice(from);
        }
        zeroize::Zeroize::zeroize(from);
        Self { octets, length }
    }

    /// Both, octet by octet.
    pub(crate) fn xor(mut self, other: &[u8]) -> Self {
        self.octets.iter_mut().zip(other).for_each(|(octet, other)| *octet ^= other);
        self
    }

    /// Compares in constant time.
    pub(crate) fn ct_eq(&self, other: &[u8]) -> bool {
        SecretRef::new(self.as_ref()).ct_eq(other)
    }
}

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }
}

fn check_salt(salt: &[u8]) -> Result<(), InvalidScramKeys> {
    if (1..=MAX_SALT_OCTETS).contains(&salt.len()) { Ok(()) } else { Err(InvalidScramKeys::Salt) }
}

const MAX_DIGEST_OCTETS: usize = 64;

/// So that the challenge that carries it stays well under a line of 12,288 octets.
const MAX_SALT_OCTETS: usize = 1_024;

/// As many as PostgreSQL, and everything that `derive` is told to use, has.
const FAKE_SALT_OCTETS: usize = 16;

static_assertions::assert_impl_all!(ScramKeys: Send, Sync);

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn the_text_form_survives_a_round_trip_for_every_hash() {
        for hash in [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512] {
            let keys = ScramKeys::derive(hash, "pässword".as_bytes(), b"0123456789abcdef", 17).unwrap();
            let read: ScramKeys = keys.to_text().parse().unwrap();
            assert_eq!(read.to_text(), keys.to_text());
            assert!(read.verify_octets("pässword".as_bytes()) && !read.verify_octets(b"password"));
            let mut credentials = crate::auth::Credentials::default();
            credentials.set_password("pa\u{308}ssword".as_bytes()).unwrap();
            assert!(read.verify(credentials.password().unwrap()));
        }
    }

    /// The salt and password of RFC 7677, section 3, the keys as Python's `hashlib` derives them.
    #[test]
    fn postgresql_s_form_is_read() {
        let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
                    WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        let keys: ScramKeys = text.parse().unwrap();
        assert!(keys.verify_octets(b"pencil"));
        assert_eq!(keys.to_text().as_str(), text);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let good = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
                    WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        for (change, to, error) in [
            ("$W", ":W", InvalidScramKeys::Form),
            ("SHA-256", "SHA-3", InvalidScramKeys::Hash),
            ("4096", "0", InvalidScramKeys::Iterations),
            ("4096", "x", InvalidScramKeys::Iterations),
            ("W22Z", "W2", InvalidScramKeys::Salt),
            ("W22ZaJ0SNY7soEsUEjb6gQ==", "", InvalidScramKeys::Salt),
            ("WG5d", "", InvalidScramKeys::Key),
            ("WG5d", "WG5dWG5d", InvalidScramKeys::Key),
        ] {
            assert_eq!(good.replacen(change, to, 1).parse::<ScramKeys>().map(|_| ()), Err(error), "{change} -> {to}");
        }
        assert_eq!(ScramKeys::derive(ScramHash::Sha1, b"x", b"", 1).map(|_| ()), Err(InvalidScramKeys::Salt));
        assert_eq!(ScramKeys::derive(ScramHash::Sha1, b"x", b"s", 0).map(|_| ()), Err(InvalidScramKeys::Iterations));
    }

    #[test]
    fn debug_shows_no_key() {
        let keys = ScramKeys::derive(ScramHash::Sha256, b"pencil", b"salt", 1).unwrap();
        assert_eq!(format!("{keys:?}"), "ScramKeys { hash: Sha256, iterations: 1, .. }");
    }

    #[test]
    fn nobody_s_keys_are_stable_and_differ_by_name_and_secret() {
        let salt = |name: &str, secret: &[u8]| ScramKeys::of_nobody(ScramHash::Sha1, name, secret, 4096).salt.clone();
        assert_eq!(salt("tim", b"secret"), salt("tim", b"secret"));
        assert_eq!(salt("tim", b"secret").len(), 16);
        assert_ne!(salt("tim", b"secret"), salt("tom", b"secret"));
        assert_ne!(salt("tim", b"secret"), salt("tim", b"other"));
    }
}
