//! What `crypt(3)` writes: bcrypt, SHA-crypt and yescrypt.

use password_hash::PasswordVerifier;
use sansmtp::Secret;
use sansmtp_scrypt::YescryptParams;
use zeroize::Zeroizing;

use super::{Cost, Form, InvalidHash, MOST_ITERATIONS, is_same};
use crate::stored::hash_memory::HashMemory;

#[derive(Clone)]
pub(super) struct Bcrypt {
    cost: u32,
    salt: [u8; 16],
    /// The whole text, as if it were of version `2b`: for passwords without NUL, in which `2a`, `2b` and `2y` are the
    /// same.
    text: Zeroizing<Vec<u8>>,
}

#[derive(Clone)]
pub(super) struct ShaCrypt {
    sha512: bool,
    rounds: u32,
    text: Zeroizing<String>,
}

pub(super) struct Yescrypt {
    params: YescryptParams,
    salt: Vec<u8>,
    output: Secret,
}

/// Reads a hash of one of the three.
pub(super) fn read(text: &str) -> Result<Form, InvalidHash> {
    match text.get(..3) {
        Some("$5$") => Ok(Form::ShaCrypt(ShaCrypt::new(text, false)?)),
        Some("$6$") => Ok(Form::ShaCrypt(ShaCrypt::new(text, true)?)),
        Some("$y$") => Ok(Form::Yescrypt(Yescrypt::new(text)?)),
        _ => Ok(Form::Bcrypt(Bcrypt::new(text)?)),
    }
}

impl Bcrypt {
    fn new(text: &str) -> Result<Self, InvalidHash> {
        let parts: bcrypt::HashParts = text.parse().map_err(|_| InvalidHash::Encoding)?;
        let cost = parts.get_cost();
        if cost < LEAST_BCRYPT_COST {
            return Err(InvalidHash::Parameters);
        }
        if cost > MOST_BCRYPT_COST {
            return Err(InvalidHash::TooCostly);
        }
        let text = Zeroizing::new(parts.format_for_version(bcrypt::Version::TwoB).into_bytes());
        Ok(Self { cost, salt: parts.get_salt_raw(), text })
    }

    pub(super) fn verify(&self, password: &[u8]) -> bool {
        let computed = bcrypt::hash_with_salt_bytes(password, self.cost, self.salt);
        computed.is_ok_and(|computed| is_same(computed.to_vec(), &Secret::from(self.text.as_slice())))
    }

    pub(super) fn cost(&self) -> Cost {
        Cost::Bcrypt { cost: self.cost }
    }
}

impl ShaCrypt {
    fn new(text: &str, sha512: bool) -> Result<Self, InvalidHash> {
        let mut fields = text.split('$').skip(2);
        let mut salt = fields.next().ok_or(InvalidHash::Encoding)?;
        let mut rounds = DEFAULT_ROUNDS;
        if let Some(digits) = salt.strip_prefix("rounds=") {
            rounds = digits.parse().map_err(|_| InvalidHash::Parameters)?;
            salt = fields.next().ok_or(InvalidHash::Encoding)?;
        }
        if rounds < LEAST_ROUNDS {
            return Err(InvalidHash::Parameters);
        }
        if rounds > MOST_ITERATIONS {
            return Err(InvalidHash::TooCostly);
        }
        let output = fields.next().ok_or(InvalidHash::Encoding)?;
        let (digits, last) =
            if sha512 { (SHA512_DIGITS, SHA512_LAST_DIGITS) } else { (SHA256_DIGITS, SHA256_LAST_DIGITS) };
        // crypt(3) takes no more than 16 characters of salt, and writes no more.
        let whole = (1..=16).contains(&salt.len()) && output.len() == digits && fields.next().is_none();
        let whole = whole && output.ends_with(|digit| last.contains(digit));
        if !whole || !is_encoded(salt) || !is_encoded(output) {
            return Err(InvalidHash::Encoding);
        }
        Ok(Self { sha512, rounds, text: Zeroizing::new(text.to_owned()) })
    }

    pub(super) fn verify(&self, password: &[u8]) -> bool {
        sha_crypt::ShaCrypt::default().verify_password(password, self.text.as_str()).is_ok()
    }

    pub(super) fn cost(&self) -> Cost {
        Cost::ShaCrypt { sha512: self.sha512, rounds: self.rounds }
    }
}

impl Yescrypt {
    fn new(text: &str) -> Result<Self, InvalidHash> {
        let mut fields = text.split('$').skip(2);
        let (Some(parameters), Some(salt), Some(output), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(InvalidHash::Encoding);
        };
        // crypt(3) writes the flavor, N and r, a digit each. Behind those might be a factor of time.
        let &[b'j', log_n, r] = parameters.as_bytes() else { return Err(InvalidHash::Parameters) };
        // From 48 on a digit is the first of several.
        let value = |digit| digit_value(digit).filter(|value| *value < 48).map(|value| value + 1);
        let (Some(log_n), Some(r)) = (value(log_n), value(r)) else { return Err(InvalidHash::Parameters) };
        let params = YescryptParams::new(log_n, r.into()).filter(|params| params.blocks() <= MOST_YESCRYPT_KIB);
        let params = params.ok_or(InvalidHash::TooCostly)?;
        if salt.is_empty() || salt.len() > MOST_YESCRYPT_SALT_DIGITS || output.len() != SHA256_DIGITS {
            return Err(InvalidHash::Encoding);
        }
        let (salt, output) = (decode(salt).ok_or(InvalidHash::Encoding)?, decode(output).ok_or(InvalidHash::Encoding)?);
        Ok(Self { params, salt, output: Secret::new(output) })
    }

    /// `None` where there is no memory.
    pub(super) fn verify(&self, password: &[u8], memory: &mut HashMemory) -> Option<bool> {
        let mut lent = memory.lend(self.params.blocks())?;
        let computed = sansmtp_scrypt::yescrypt(password, &self.salt, self.params, &mut lent);
        Some(computed.is_ok_and(|computed| is_same(computed.to_vec(), &self.output)))
    }

    pub(super) fn cost(&self) -> Cost {
        Cost::Yescrypt { log_n: self.params.log_n(), r: self.params.r() }
    }
}

impl Clone for Yescrypt {
    fn clone(&self) -> Self {
        Self { params: self.params, salt: self.salt.clone(), output: self.output.expose_secret().into() }
    }
}

/// Reads crypt(3)'s base64: groups of four digits, the first one with the lowest bits of three octets; of the last
/// group, the bits that make no octet are zero.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len());
    for group in text.as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for digit in group.iter().rev() {
            bits = bits << 6 | u32::from(digit_value(*digit)?);
        }
        let bits = bits.to_le_bytes();
        let (whole, rest) = bits.split_at_checked(group.len() * 6 / 8).filter(|(whole, _)| !whole.is_empty())?;
        if rest.iter().any(|octet| *octet != 0) {
            return None;
        }
        octets.extend_from_slice(whole);
    }
    Some(octets)
}

fn digit_value(digit: u8) -> Option<u8> {
    DIGITS.iter().position(|known| *known == digit).and_then(|value| value.try_into().ok())
}

/// Whether these are digits of crypt(3)'s base64.
fn is_encoded(text: &str) -> bool {
    text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"./".contains(&octet))
}

const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 128 * r * N octets: 1 GiB, as for the others, and libxcrypt's highest cost.
const MOST_YESCRYPT_KIB: usize = 1024 * 1024;
/// Of 64 octets.
const MOST_YESCRYPT_SALT_DIGITS: usize = 86;
const LEAST_BCRYPT_COST: u32 = 4;
/// Each more doubles the time; 12 is a quarter of a second.
const MOST_BCRYPT_COST: u32 = 16;
const DEFAULT_ROUNDS: u32 = 5_000;
/// crypt(3) makes none with fewer.
const LEAST_ROUNDS: u32 = 1_000;
const SHA256_DIGITS: usize = 43;
/// The last one stands for four bits.
const SHA256_LAST_DIGITS: &str = "./0123456789ABCD";
const SHA512_DIGITS: usize = 86;
/// For two.
const SHA512_LAST_DIGITS: &str = "./01";
