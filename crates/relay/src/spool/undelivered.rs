//! The directory of what could neither be delivered nor reported.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::Spool;
use crate::durable::{self, Scratch};
use crate::envelope::QueueId;

impl Spool {
    /// Keeps a copy of a message, below the lines of `head`, until a thousand others or 256 MiB of them are there.
    /// Returns its path. A copy that is there already is replaced.
    ///
    /// # Errors
    /// Where the file system refuses.
    pub(crate) fn keep_undelivered(&self, id: &QueueId, head: &str) -> io::Result<PathBuf> {
        let directory = self.directory.join(DIRECTORY);
        durable::create_directory(&directory)?;
        let mut copy = Scratch::create(self.incoming(id, "undelivered"))?;
        copy.write(head.as_bytes())?;
        let mut content = self.content(id)?;
        let mut piece = vec![0; PIECE_OCTETS];
        loop {
            match content.read(&mut piece)? {
                0 => break,
                read => copy.write(piece.get(..read).unwrap_or_default())?,
            }
        }
        let path = directory.join(format!("{id}.eml"));
        self.change(|| copy.keep(&path))?;
        durable::sync_directory(&directory)?;
        if let Err(error) = remove_oldest(&directory) {
            tracing::error!(directory = %directory.display(), %error, "cannot remove the oldest undelivered reports");
        }
        Ok(path)
    }
}

/// Removes the oldest files but for the last, until the others are few and small enough. Who can send mail could fill the
/// disk otherwise. Names sort by time.
fn remove_oldest(directory: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "eml") {
            files.push((path, entry.metadata()?.len()));
        }
    }
    files.sort();
    for (file, _) in surplus(&files) {
        tracing::warn!(file = %file.display(), "removing the oldest undelivered report: there are too many others");
        std::fs::remove_file(file)?;
    }
    Ok(())
}

/// Those of the files, oldest first and with their sizes, that are too many or too large beside the later ones.
fn surplus<T>(files: &[(T, u64)]) -> &[(T, u64)] {
    let mut octets: u64 = 0;
    let fitting = files.iter().rev().take(MAX_KEPT).take_while(|(_, size)| {
        octets = octets.saturating_add(*size);
        octets <= MAX_KEPT_OCTETS
    });
    let kept = fitting.count().max(1);
    files.get(..files.len().saturating_sub(kept)).unwrap_or_default()
}

const DIRECTORY: &str = "undelivered-reports";
const MAX_KEPT: usize = 1000;
const MAX_KEPT_OCTETS: u64 = 256 * 1024 * 1024;
const PIECE_OCTETS: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept() {
        const MIB: u64 = 1024 * 1024;
        assert!(surplus(&vec![((), 1); MAX_KEPT]).is_empty());
        assert_eq!(surplus(&vec![((), 1); MAX_KEPT + 2]).len(), 2);
        let names = |sizes: &[u64]| {
            let files: Vec<_> = sizes.iter().copied().enumerate().collect();
            surplus(&files).iter().map(|(name, _)| *name).collect::<Vec<_>>()
        };
        assert_eq!(names(&[1, 200 * MIB, 100 * MIB, 100 * MIB]), [0, 1]);
        assert_eq!(names(&[1, 500 * MIB]), [0], "never the last");
        assert!(names(&[]).is_empty());
    }
}
