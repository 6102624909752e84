//! Passwords and tokens in files: the first line.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::SecretError;

/// What a file for a password or a token turned out to be.
#[derive(Debug)]
pub(crate) enum SecretFile {
    /// It can be read again whenever a session begins.
    Regular(PathBuf),
    /// A pipe, as `<(command)` in a shell, gives its content once.
    Once(Zeroizing<String>),
}

impl SecretFile {
    /// Reads a file for the first time.
    ///
    /// # Errors
    /// Where it cannot be read, or has no secret.
    pub(crate) fn open(path: &Path) -> Result<Self, SecretError> {
        let (line, is_regular) = read(path)?;
        Ok(if is_regular { Self::Regular(path.to_owned()) } else { Self::Once(line) })
    }
}

/// The first line of a file, without its end.
///
/// # Errors
/// Where the file cannot be read, the line is empty, or no text.
pub(crate) fn read_first_line(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    read(path).map(|(line, _)| line)
}

fn read(path: &Path) -> Result<(Zeroizing<String>, bool), SecretError> {
    let explain = |error: io::Error| SecretError::File(path.into(), error.kind());
    // Growing would leave copies behind.
    let mut content = Zeroizing::new(Vec::with_capacity(MAX_FILE_OCTETS));
    let file = File::open(path).map_err(explain)?;
    let is_regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
    file.take(MAX_FILE_OCTETS as u64).read_to_end(&mut content).map_err(explain)?;
    let line = first_line(&content);
    if line.is_empty() {
        return Err(SecretError::Empty(path.display().to_string()));
    }
    text_of(line).map(|line| (line, is_regular))
}

pub(super) fn first_line(content: &[u8]) -> &[u8] {
    let line = content.split(|octet| *octet == b'\n').next().unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// NUL separates the parts of a PLAIN message and cannot be in one (RFC 4616).
pub(crate) fn text_of(octets: &[u8]) -> Result<Zeroizing<String>, SecretError> {
    match std::str::from_utf8(octets) {
        Ok(text) if !text.contains('\0') => Ok(Zeroizing::new(text.to_owned())),
        Ok(_) | Err(_) => Err(SecretError::NotText),
    }
}

pub(super) const MAX_FILE_OCTETS: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_anew_and_a_pipe_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, "one\nmore\n").unwrap();
        assert!(matches!(SecretFile::open(&path), Ok(SecretFile::Regular(found)) if found == path));
        std::fs::write(&path, "two\r\n").unwrap();
        assert_eq!(read_first_line(&path).unwrap().as_str(), "two");
        let (reader, mut writer) = io::pipe().unwrap();
        io::Write::write_all(&mut writer, b"three\n").unwrap();
        drop(writer);
        let pipe = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        if cfg!(target_os = "linux") {
            assert!(matches!(SecretFile::open(pipe.as_ref()), Ok(SecretFile::Once(line)) if *line == "three"));
        }
    }
}
