//! The directory of what could neither be delivered nor reported.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::Spool;
use crate::durable::{self, Scratch};
use crate::envelope::QueueId;

impl Spool {
    /// Keeps a copy of a message, below the lines of `head`, where nothing but a thousand others removes it. Returns
    /// its path. A copy that is there already is replaced.
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

/// Who can send mail could fill the disk otherwise. Names sort by time.
fn remove_oldest(directory: &Path) -> io::Result<()> {
    let entries = std::fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path()));
    let mut files = entries.collect::<io::Result<Vec<PathBuf>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "eml"));
    files.sort();
    let surplus = files.len().saturating_sub(MAX_KEPT);
    for file in files.iter().take(surplus) {
        tracing::warn!(file = %file.display(), "removing the oldest undelivered report: there are a thousand others");
        std::fs::remove_file(file)?;
    }
    Ok(())
}

const DIRECTORY: &str = "undelivered-reports";
const MAX_KEPT: usize = 1000;
const PIECE_OCTETS: usize = 32 * 1024;
