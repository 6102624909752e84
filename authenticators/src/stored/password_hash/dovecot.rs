//! What `doveadm pw` writes: a scheme in braces, and behind it a hash in everybody's form or in Dovecot's own.

use sansmtp::auth::ScramHash;

use super::phc::Pbkdf2Hash;
use super::{Form, InvalidHash, hash_of, read as read_plain, scram};

/// Reads what follows the opening brace.
pub(super) fn read(text: &str) -> Result<Form, InvalidHash> {
    let (scheme, hash) = text.split_once('}').ok_or(InvalidHash::Form)?;
    let scheme = scheme.to_ascii_uppercase();
    let crypt = |form: &Form| {
        matches!(
            (scheme.as_str(), form),
            ("ARGON2I" | "ARGON2ID", Form::Argon2(_))
                | ("BLF-CRYPT" | "CRYPT", Form::Bcrypt(_))
                | ("SHA256-CRYPT" | "SHA512-CRYPT" | "CRYPT", Form::ShaCrypt(_))
                | ("CRYPT", Form::Yescrypt(_))
        )
    };
    match scheme.as_str() {
        "ARGON2I" | "ARGON2ID" | "BLF-CRYPT" | "CRYPT" | "SHA256-CRYPT" | "SHA512-CRYPT" => {
            read_plain(hash).and_then(|form| if crypt(&form) { Ok(form) } else { Err(InvalidHash::Form) })
        }
        "CRAM-MD5" => hash.parse().map(Form::CramMd5).map_err(InvalidHash::CramMd5Key),
        "PBKDF2" => pbkdf2(hash).map(Form::Pbkdf2),
        "SCRAM-SHA-1" | "SCRAM-SHA-256" => scram_keys(&scheme, hash),
        _ => Err(InvalidHash::Scheme),
    }
}

/// `iterations,salt,StoredKey,ServerKey`, the last three in base64.
fn scram_keys(scheme: &str, text: &str) -> Result<Form, InvalidHash> {
    let wrong = InvalidHash::ScramKeys(sansmtp::auth::InvalidScramKeys::Form);
    let hash = hash_of(scheme).ok_or(wrong)?;
    let mut fields = text.split(',');
    let (Some(iterations), Some(salt), Some(stored), Some(server), None) =
        (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(wrong);
    };
    scram(&zeroize::Zeroizing::new(format!("{}${iterations}:{salt}${stored}:{server}", hash.mechanism())))
}

/// `$1$salt$iterations$output`: SHA-1, the salt as it stands there, the output in hexadecimal.
fn pbkdf2(text: &str) -> Result<Pbkdf2Hash, InvalidHash> {
    let mut fields = text.split('$');
    let (Some(""), Some("1"), Some(salt), Some(iterations), Some(output), None) =
        (fields.next(), fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(InvalidHash::Encoding);
    };
    let iterations = iterations.parse().map_err(|_| InvalidHash::Parameters)?;
    let output = from_hex(output).filter(|output| output.len() == SHA1_OCTETS && !salt.is_empty());
    Pbkdf2Hash::from_parts(ScramHash::Sha1, iterations, salt.into(), output.ok_or(InvalidHash::Encoding)?)
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let octets = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() { octets } else { None }
}

const SHA1_OCTETS: usize = 20;
