//! A key that is made once, and kept in a file.

use std::io;
use std::path::Path;

use sansmtp_relay::durable::Scratch;
use zeroize::Zeroizing;

/// Reads a file, making it of so many random octets where there is none. Only its owner may read it.
///
/// # Errors
/// Where the file system refuses, there is no entropy, or there is a file of another length.
pub(crate) fn random_file(path: &Path, octets: usize) -> io::Result<Vec<u8>> {
    if !path.try_exists()? {
        let mut content = Zeroizing::new(vec![0; octets]);
        getrandom::fill(&mut content).map_err(io::Error::other)?;
        // Whole or not at all: a second process may be doing the same, and the one that is later wins.
        let mut scratch = Scratch::create(path.with_extension(format!("{}.new", std::process::id())))?;
        scratch.write(&content)?;
        scratch.keep(path)?;
    }
    let content = std::fs::read(path)?;
    if content.len() == octets { Ok(content) } else { Err(io::Error::other("not a file of this program's")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_file_stays_as_it_was_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mail-salt.key");
        let made = random_file(&path, 32).unwrap();
        assert!(made.len() == 32 && made != [0; 32]);
        assert_eq!(random_file(&path, 32).unwrap(), made);
        assert!(random_file(&path, 16).is_err());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(random_file(&directory.path().join("no/such"), 32).is_err());
    }
}
