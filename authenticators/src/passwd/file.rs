//! The file itself: whether it has changed, and its octets.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use super::PasswdError;

/// What was seen of a file before it was read.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// `None` where there was none.
    stamp: Option<Stamp>,
    /// The clock of files ticks only every few milliseconds: one that was written just before it was read may have been
    /// written again within the same tick. Until then it is read once more.
    read_once_more_at: Option<SystemTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    octets: u64,
    /// The device, the inode, and when that last changed.
    #[cfg(unix)]
    inode: (u64, u64, i64, i64),
    #[cfg(unix)]
    mode: u32,
}

impl Seen {
    fn now(metadata: &io::Result<Metadata>) -> Self {
        let stamp = metadata.as_ref().ok().map(Stamp::of);
        let settled = stamp.and_then(|stamp| stamp.modified?.checked_add(TICK));
        // One from the future is as settled as any.
        let soon = |at: &SystemTime| at.duration_since(SystemTime::now()).is_ok_and(|left| left <= TICK);
        Self { stamp, read_once_more_at: settled.filter(soon) }
    }

    /// Whether the file is as it was when it was seen.
    pub(super) fn is_current(&self, path: &Path) -> bool {
        // A clock that was set back must not keep the file from being read.
        let soon = |at: SystemTime| at.duration_since(SystemTime::now()).is_ok_and(|left| left <= TICK);
        let settled = self.read_once_more_at.is_none_or(soon);
        settled && path.metadata().ok().as_ref().map(Stamp::of) == self.stamp
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.stamp == other.stamp
    }

    #[cfg(unix)]
    pub(super) fn is_readable_by_everyone(&self) -> bool {
        self.stamp.is_some_and(|stamp| stamp.mode & 0o004 != 0)
    }

    #[cfg(not(unix))]
    pub(super) fn is_readable_by_everyone(&self) -> bool {
        false
    }
}

impl Stamp {
    #[cfg(unix)]
    fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self {
            modified: metadata.modified().ok(),
            octets: metadata.len(),
            inode: (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec()),
            mode: metadata.mode(),
        }
    }

    #[cfg(not(unix))]
    fn of(metadata: &Metadata) -> Self {
        Self { modified: metadata.modified().ok(), octets: metadata.len() }
    }
}

/// Reads the whole file.
pub(super) fn read(path: &Path) -> (Result<Zeroizing<Vec<u8>>, PasswdError>, Seen) {
    // A pipe would wait to be written to when it is opened.
    let metadata = path.metadata();
    let seen = Seen::now(&metadata);
    (read_file(path, metadata), seen)
}

fn read_file(path: &Path, metadata: io::Result<Metadata>) -> Result<Zeroizing<Vec<u8>>, PasswdError> {
    let metadata = metadata.map_err(PasswdError::File)?;
    if !metadata.is_file() {
        return Err(PasswdError::NoFile);
    }
    let room = usize::try_from(metadata.len().min(MOST_OCTETS)).map_err(|_| PasswdError::TooLarge)?;
    // Growing would leave copies behind.
    let mut octets = Zeroizing::new(Vec::with_capacity(room.saturating_add(1)));
    let file = File::open(path).map_err(PasswdError::File)?;
    file.take(MOST_OCTETS + 1).read_to_end(&mut octets).map_err(PasswdError::File)?;
    if octets.len() as u64 > MOST_OCTETS { Err(PasswdError::TooLarge) } else { Ok(octets) }
}

const MOST_OCTETS: u64 = 64 * 1024 * 1024;
/// Longer than any file system's clock takes for a tick: FAT's takes two seconds.
const TICK: Duration = Duration::from_secs(2);
