//! What the parts of a URL stand for, and passwords that are not in it.

use std::fs;
use std::io;
use std::path::Path;

use percent_encoding::percent_decode_str;
use sansmtp::Secret;
use zeroize::Zeroizing;

/// Takes the escapes out. `None` where a `%` is not followed by two hexadecimal digits, or where this is no UTF-8.
pub(crate) fn decoded(text: &str) -> Option<String> {
    is_escaped(text).then(|| percent_decode_str(text).decode_utf8().ok().map(Into::into)).flatten()
}

/// Whether two hexadecimal digits follow each `%`.
pub(crate) fn is_escaped(text: &str) -> bool {
    let digits = |escaped: &str| escaped.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    text.split('%').skip(1).all(digits)
}

/// The password in a file's first line. `None` where that is empty.
pub(crate) fn password_in_file(path: &Path) -> io::Result<Option<Secret>> {
    let content = Zeroizing::new(fs::read(path)?);
    let line = content.split(|&octet| octet == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Ok((!line.is_empty()).then(|| Secret::from(line)))
}

/// The password in an environment variable. `None` where there is no such variable, or it is empty or no text.
pub(crate) fn password_in_environment(name: &str) -> Option<Secret> {
    let password = std::env::var(name).ok().filter(|password| !password.is_empty())?;
    Some(Secret::new(password.into_bytes()))
}
