//! The PHC string format: Argon2, scrypt and PBKDF2.

use argon2::Argon2;
use phc::PasswordHash as Phc;
use sansmtp::Secret;
use sansmtp::auth::ScramHash;
use sansmtp_scrypt::ScryptParams;
use sha1::Sha1;
use sha2::{Sha256, Sha512};

use super::{Cost, Form, InvalidHash, MOST_ITERATIONS, is_same};
use crate::stored::hash_memory::HashMemory;

#[derive(Clone)]
pub(super) struct Argon2Hash {
    algorithm: argon2::Algorithm,
    version: argon2::Version,
    params: argon2::Params,
    salted: Salted,
}

#[derive(Clone)]
pub(super) struct ScryptHash {
    params: ScryptParams,
    salted: Salted,
}

#[derive(Clone)]
pub(super) struct Pbkdf2Hash {
    hash: ScramHash,
    iterations: u32,
    salted: Salted,
}

/// The salt, and what came of it and the password.
struct Salted {
    salt: Vec<u8>,
    output: Secret,
}

/// Reads a PHC string of one of the algorithms that are known here.
pub(super) fn read(text: &str) -> Result<Form, InvalidHash> {
    let phc = Phc::new(text).map_err(|_| InvalidHash::Encoding)?;
    let salted = Salted::of(&phc)?;
    let algorithm = phc.algorithm;
    let of_pbkdf2 = |hash| Ok(Form::Pbkdf2(Pbkdf2Hash::new(hash, pbkdf2_iterations(&phc, &salted)?, salted.clone())?));
    match algorithm.as_str() {
        "argon2d" => argon2(&phc, argon2::Algorithm::Argon2d, salted),
        "argon2i" => argon2(&phc, argon2::Algorithm::Argon2i, salted),
        "argon2id" => argon2(&phc, argon2::Algorithm::Argon2id, salted),
        "pbkdf2" | "pbkdf2-sha1" => of_pbkdf2(ScramHash::Sha1),
        "pbkdf2-sha256" => of_pbkdf2(ScramHash::Sha256),
        "pbkdf2-sha512" => of_pbkdf2(ScramHash::Sha512),
        "scrypt" => scrypt(&phc, salted),
        _ => Err(InvalidHash::Form),
    }
}

impl Argon2Hash {
    /// `None` where there is no memory.
    pub(super) fn verify(&self, password: &[u8], memory: &mut HashMemory) -> Option<bool> {
        let mut lent = memory.lend(self.params.block_count())?;
        let argon2 = Argon2::new(self.algorithm, self.version, self.params.clone());
        let make = |salt: &[u8], output: &mut [u8]| {
            argon2.hash_password_into_with_memory(password, salt, output, &mut *lent).is_ok()
        };
        Some(self.salted.verify(make))
    }

    pub(super) fn cost(&self) -> Cost {
        let (variant, version) = (self.algorithm as u32, self.version.into());
        let (memory, passes, lanes) = (self.params.m_cost(), self.params.t_cost(), self.params.p_cost());
        Cost::Argon2 { variant, version, memory, passes, lanes }
    }
}

impl ScryptHash {
    /// `None` where there is no memory.
    pub(super) fn verify(&self, password: &[u8], memory: &mut HashMemory) -> Option<bool> {
        let mut lent = memory.lend(self.params.blocks())?;
        let make = |salt: &[u8], output: &mut [u8]| {
            sansmtp_scrypt::scrypt(password, salt, self.params, &mut lent, output).is_ok()
        };
        Some(self.salted.verify(make))
    }

    pub(super) fn cost(&self) -> Cost {
        Cost::Scrypt { log_n: self.params.log_n(), r: self.params.r(), p: self.params.p() }
    }
}

impl Pbkdf2Hash {
    /// With a salt and an output that are not from a PHC string.
    pub(super) fn from_parts(
        hash: ScramHash,
        iterations: u32,
        salt: Vec<u8>,
        output: Vec<u8>,
    ) -> Result<Self, InvalidHash> {
        Self::new(hash, iterations, Salted { salt, output: Secret::new(output) })
    }

    fn new(hash: ScramHash, iterations: u32, salted: Salted) -> Result<Self, InvalidHash> {
        match iterations {
            0 => Err(InvalidHash::Parameters),
            1..=MOST_ITERATIONS => Ok(Self { hash, iterations, salted }),
            _ => Err(InvalidHash::TooCostly),
        }
    }

    pub(super) fn verify(&self, password: &[u8]) -> bool {
        self.salted.verify(|salt, output| {
            match self.hash {
                ScramHash::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, self.iterations, output),
                ScramHash::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, self.iterations, output),
                ScramHash::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, self.iterations, output),
            }
            true
        })
    }

    pub(super) fn cost(&self) -> Cost {
        let octets = self.salted.output.expose_secret().len();
        Cost::Pbkdf2 { mechanism: self.hash.mechanism(), iterations: self.iterations, octets }
    }
}

impl Salted {
    fn of(phc: &Phc) -> Result<Self, InvalidHash> {
        let (Some(salt), Some(output)) = (&phc.salt, &phc.hash) else { return Err(InvalidHash::Encoding) };
        let salt: &[u8] = salt.as_ref();
        Ok(Self { salt: salt.to_vec(), output: output.as_bytes().into() })
    }

    /// Has as many octets made of the salt as there are stored, and compares the two.
    fn verify(&self, make: impl FnOnce(&[u8], &mut [u8]) -> bool) -> bool {
        let mut computed = vec![0; self.output.expose_secret().len()];
        make(&self.salt, &mut computed) && is_same(computed, &self.output)
    }
}

impl Clone for Salted {
    fn clone(&self) -> Self {
        Self { salt: self.salt.clone(), output: self.output.expose_secret().into() }
    }
}

fn argon2(phc: &Phc, algorithm: argon2::Algorithm, salted: Salted) -> Result<Form, InvalidHash> {
    // Strings from before there were versions have none.
    let version = phc.version.unwrap_or(0x10).try_into().map_err(|_| InvalidHash::Parameters)?;
    let params = argon2::Params::try_from(phc).map_err(|_| InvalidHash::Parameters)?;
    let costs = u64::from(params.m_cost()).saturating_mul(params.t_cost().into());
    if params.m_cost() > MOST_KIB || costs > MOST_KIB_FILLED || params.p_cost() > MOST_LANES {
        return Err(InvalidHash::TooCostly);
    }
    Ok(Form::Argon2(Argon2Hash { algorithm, version, params, salted }))
}

fn scrypt(phc: &Phc, salted: Salted) -> Result<Form, InvalidHash> {
    let parameter = |name: &str| phc.params.get_decimal(name).ok_or(InvalidHash::Parameters);
    let (log_n, r, p) = (parameter("ln")?, parameter("r")?, parameter("p")?);
    if phc.version.is_some() || phc.params.iter().count() != 3 || log_n == 0 || r == 0 || p == 0 {
        return Err(InvalidHash::Parameters);
    }
    // 128 * r * N octets, gone over p times.
    let kib = 1_u64.checked_shl(log_n).filter(|_| log_n < u64::BITS).and_then(|n| n.checked_mul(r.into()));
    let kib = kib.map_or(u64::MAX, |blocks| blocks / 8);
    if kib > MOST_KIB.into() || kib.saturating_mul(p.into()) > MOST_KIB_FILLED || r > 1024 || p > 1024 {
        return Err(InvalidHash::TooCostly);
    }
    let log_n = u8::try_from(log_n).map_err(|_| InvalidHash::TooCostly)?;
    let params = ScryptParams::new(log_n, r, p).ok_or(InvalidHash::Parameters)?;
    Ok(Form::Scrypt(ScryptHash { params, salted }))
}

fn pbkdf2_iterations(phc: &Phc, salted: &Salted) -> Result<u32, InvalidHash> {
    if phc.version.is_some() {
        return Err(InvalidHash::Parameters);
    }
    let mut iterations = None;
    for (name, value) in phc.params.iter() {
        let value = value.decimal().map_err(|_| InvalidHash::Parameters)?;
        match name.as_str() {
            "i" => iterations = Some(value),
            // The length, which is there to be seen.
            "l" if usize::try_from(value).is_ok_and(|octets| octets == salted.output.expose_secret().len()) => {}
            _ => return Err(InvalidHash::Parameters),
        }
    }
    iterations.ok_or(InvalidHash::Parameters)
}

/// 1 GiB, as libsodium's most sensitive hashes take.
const MOST_KIB: u32 = 1024 * 1024;
/// Memory times passes: 4 GiB, likewise, which takes some seconds.
const MOST_KIB_FILLED: u64 = 4 * 1024 * 1024;
/// They are filled one after the other here; each has some overhead.
const MOST_LANES: u32 = 64;
