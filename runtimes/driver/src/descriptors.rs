//! How many connections the limit on open files has room for (`RLIMIT_NOFILE`).

use crate::limits::MAX_CONNECTIONS;

/// Raises the process's soft limit on open files, if it may, and says how many connections there may be: as many as the
/// embedder has `asked` for, or else half of what files may be open, and no more than usual.
pub(crate) fn max_connections(asked: Option<usize>, raises: bool) -> usize {
    let wanted = asked.unwrap_or(MAX_CONNECTIONS).saturating_mul(2).max(USUAL_FILES);
    let Some(files) = open_files(wanted, raises) else { return asked.unwrap_or(MAX_CONNECTIONS) };
    let room = Room::of(files);
    let connections = room.connections(asked);
    match asked {
        Some(asked) if connections < asked => {
            tracing::warn!(asked, connections, files, "too few files can be open for so many connections");
        }
        Some(_) if connections > room.usual => {
            tracing::warn!(connections, files, "with all connections in use, handlers may lack descriptors");
        }
        None if connections < MAX_CONNECTIONS => {
            tracing::info!(connections, files, "connections are limited by the files that can be open");
        }
        Some(_) | None => {}
    }
    connections
}

/// What the files that can be open have room for.
struct Room {
    /// Connections, beside a file for each: what a handler writes its message to.
    usual: usize,
    /// Connections, and nothing for handlers.
    most: usize,
}

impl Room {
    fn of(files: usize) -> Self {
        Self { usual: (files / 2).max(1), most: (files - files / 8).max(1) }
    }

    fn connections(&self, asked: Option<usize>) -> usize {
        match asked {
            Some(asked) => asked.min(self.most),
            None => self.usual.min(MAX_CONNECTIONS),
        }
    }
}

/// How many files can be open. Not everywhere is there a limit that can be asked for.
#[cfg(unix)]
fn open_files(wanted: usize, raises: bool) -> Option<usize> {
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
    let raised = if raises { rlimit::increase_nofile_limit(wanted) } else { rlimit::Resource::NOFILE.get_soft() };
    let files = raised.or_else(|error| {
        tracing::warn!(%error, "cannot raise the limit on open files");
        rlimit::Resource::NOFILE.get_soft()
    });
    files.ok().map(|files| usize::try_from(files).unwrap_or(usize::MAX))
}

#[cfg(not(unix))]
fn open_files(_: usize, _: bool) -> Option<usize> {
    None
}

/// The soft limit is raised to this, or to twice the number of connections.
const USUAL_FILES: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_files_are_kept_for_handlers() {
        for (files, asked, connections) in [
            (1_024, None, 512),
            (20_000, None, 10_000),
            (65_536, None, 10_000),
            (64, None, 32),
            (0, None, 1),
            (65_536, Some(20_000), 20_000),
            (1_024, Some(3), 3),
            // More than half, if somebody says so, but never all.
            (1_024, Some(800), 800),
            (1_024, Some(2_000), 896),
            (usize::MAX, None, 10_000),
        ] {
            assert_eq!(Room::of(files).connections(asked), connections, "{files} files, {asked:?} asked for");
        }
    }
}
