//! Files that are still there after the power has failed.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// A file being written, which disappears when dropped and stays, durably, once [`Scratch::keep`] says so.
#[derive(Debug)]
pub struct Scratch {
    file: BufWriter<File>,
    path: PathBuf,
    kept: bool,
}

impl Scratch {
    /// Makes a file that only its owner may read.
    ///
    /// # Errors
    /// Where it cannot be made, or exists.
    pub fn create(path: PathBuf) -> io::Result<Self> {
        let file = BufWriter::with_capacity(BUFFER_OCTETS, create_new(&path)?);
        Ok(Self { file, path, kept: false })
    }

    /// Adds to the file.
    ///
    /// # Errors
    /// Where the file system refuses.
    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all(piece)
    }

    /// Moves the finished file to `target`, replacing what is there. Its content is on the disk before the name
    /// is; the name is, once the directory has been synchronized too ([`sync_directory`]).
    ///
    /// # Errors
    /// Where the file system refuses; then the file is gone, and `target` as it was.
    pub fn keep(mut self, target: &Path) -> io::Result<()> {
        self.file.flush()?;
        sync(self.file.get_ref())?;
        self.rename(target)
    }

    /// The same without waiting for the disk: the content may get there later than the name, and does with the file
    /// that is returned. To be used where a name alone is taken for nothing after a power failure.
    ///
    /// # Errors
    /// As [`Scratch::keep`].
    pub fn place(mut self, target: &Path) -> io::Result<File> {
        self.file.flush()?;
        let file = self.file.get_ref().try_clone()?;
        self.rename(target)?;
        Ok(file)
    }

    fn rename(&mut self, target: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, target)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed now is removed when the directory is next opened.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Waits until both files, and the names in the directory, are on the disk: for all of them at the same time, as one flush
/// of the disk may cover them all.
///
/// # Errors
/// Where the file system refuses.
pub fn sync_together(one: &File, other: &File, directory: &Path) -> io::Result<()> {
    std::thread::scope(|scope| {
        let files = [one, other].map(|file| {
            let thread = std::thread::Builder::new().name("sync".to_owned());
            // Without a thread it is one after the other.
            thread.spawn_scoped(scope, || sync(file)).map_err(|_| file)
        });
        let synced = sync_directory(directory);
        files.into_iter().fold(synced, |synced, file| {
            let file = match file {
                Ok(thread) => thread.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into())),
                Err(file) => sync(file),
            };
            synced.and(file)
        })
    })
}

/// Makes a new file that only its owner may read.
///
/// # Errors
/// Where it cannot be made, or exists.
pub fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Writes `content` over a file, and blanks over the rest of it, durably. No room is needed for that, unlike for
/// [`Scratch`]. A crash meanwhile can leave the file half written.
///
/// # Errors
/// Where the file is shorter than `content`; then it is as it was. Where the file system refuses.
pub fn overwrite(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if content.len() > length {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let mut whole = content.to_vec();
    whole.resize(length, b' ');
    file.write_all(&whole)?;
    sync(&file)
}

/// Makes a directory that only its owner may enter, and those above it, durably; fine where it exists.
///
/// # Errors
/// Where the file system refuses.
pub fn create_directory(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|ancestor| !ancestor.is_dir()).collect();
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    for parent in missing.iter().filter_map(|made| made.parent()) {
        sync_directory(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
    }
    Ok(())
}

/// Reads a file, making it of so many random octets where there is none. Only its owner may read it.
///
/// # Errors
/// Where the file system refuses, there is no entropy, or there is a file of another length.
pub fn random_file(path: &Path, octets: usize) -> io::Result<Vec<u8>> {
    if !path.try_exists()? {
        let mut content = Zeroizing::new(vec![0; octets]);
        getrandom::fill(&mut content).map_err(io::Error::other)?;
        // Whole or not at all: a second process may be doing the same, and the one that is later wins.
        let mut scratch = Scratch::create(path.with_extension(format!("{}.new", std::process::id())))?;
        scratch.write(&content)?;
        scratch.keep(path)?;
    }
    let content = std::fs::read(path)?;
    if content.len() == octets {
        Ok(content)
    } else {
        Err(io::Error::other(format!("it is there, and has not {octets} octets")))
    }
}

/// Waits until the names in a directory are on the disk.
///
/// # Errors
/// Where the file system refuses.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    // Elsewhere a directory cannot be opened as a file, and the file system keeps its own journal of names.
    if cfg!(unix) { sync(&File::open(path)?) } else { Ok(()) }
}

/// How many octets a process without privileges may still write to the file system of `path`.
///
/// # Errors
/// Where the file system does not say.
pub fn free_octets(path: &Path) -> io::Result<u64> {
    #[cfg(unix)]
    {
        let free = rustix::fs::statvfs(path)?;
        Ok(free.f_bavail.saturating_mul(free.f_frsize))
    }
    #[cfg(not(unix))]
    {
        // What there is no room for fails when it is written.
        path.try_exists().map(|_| u64::MAX)
    }
}

/// Waits until a file, or a directory, is on the disk.
fn sync(file: &File) -> io::Result<()> {
    #[cfg(test)]
    SYNCS.with(|syncs| syncs.set(syncs.get() + 1));
    file.sync_all()
}

#[cfg(test)]
thread_local! {
    /// How often this thread has waited for the disk.
    pub(crate) static SYNCS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Large enough that a message arrives in few system calls, small enough for a thousand messages at once.
const BUFFER_OCTETS: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_file_is_there_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let (scratch, target) = (directory.path().join("scratch"), directory.path().join("target"));
        std::fs::write(&target, "before").unwrap();
        let mut file = Scratch::create(scratch.clone()).unwrap();
        file.write(&[b'x'; 2 * BUFFER_OCTETS]).unwrap();
        assert!(Scratch::create(scratch.clone()).is_err(), "taken");
        assert_eq!(std::fs::read(&target).unwrap(), b"before");
        file.keep(&target).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), [b'x'; 2 * BUFFER_OCTETS]);
        assert!(!scratch.exists());
        drop(Scratch::create(scratch.clone()).unwrap());
        assert!(!scratch.exists());
        assert!(Scratch::create(scratch.clone()).unwrap().keep(&directory.path().join("no/such")).is_err());
        assert!(!scratch.exists());
    }

    #[test]
    fn a_file_is_overwritten_as_far_as_it_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "before").unwrap();
        overwrite(&path, b"after").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"after ");
        assert!(overwrite(&path, b"a longer one").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"after ");
        assert!(overwrite(&directory.path().join("none"), b"").is_err());
        assert!(free_octets(directory.path()).unwrap() > 0);
    }

    #[test]
    fn directories_are_made_with_those_above_them() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("a/b/c");
        create_directory(&deep).unwrap();
        create_directory(&deep).unwrap();
        assert!(deep.is_dir());
        std::fs::write(directory.path().join("file"), "").unwrap();
        assert!(create_directory(&directory.path().join("file/d")).is_err());
    }

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
