//! `queue list|show|flush|hold|release|delete`.

use std::io::{self, ErrorKind, Write};

use sansmtp_relay::control::{Change, Control, ControlError, Entry};

use crate::failure::Failure;
use crate::options::{QueueAction, QueueCommand};

/// Shows or changes the queue, whether or not the server runs.
///
/// # Errors
/// Says what could not be done; nothing is changed then.
pub(crate) fn run(command: QueueCommand) -> Result<(), Failure> {
    let explain = |error: ControlError| Failure::plain(error.to_string());
    let control = Control::new(command.spool).map_err(explain)?;
    match command.action {
        QueueAction::List { json } => list(&control, json),
        QueueAction::Show { id, content, json } => {
            let entry = control.show(&id).map_err(explain)?;
            write(|out| if json { writeln!(out, "{}", entry.json()) } else { write!(out, "{}", entry.details()) })?;
            if !content {
                return Ok(());
            }
            let mut file = control.content(&id).map_err(explain)?;
            write(|out| writeln!(out).and_then(|()| io::copy(&mut file, out)).map(drop))
        }
        QueueAction::Flush { id, destination } => match (id, destination) {
            (Some(id), _) => control.flush_message(&id),
            (None, Some(domain)) => control.flush_destination(&domain),
            (None, None) => control.flush(),
        }
        .map_err(explain)
        .and_then(|change| match change {
            Change::Made { messages } => write(|out| writeln!(out, "messages that are tried now: {messages}")),
            Change::AtTheNextStart => {
                write(|out| writeln!(out, "no server runs with this spool; it tries all mail when it starts"))
            }
        }),
        QueueAction::Hold { id } => control.hold(&id).map(drop).map_err(explain),
        QueueAction::Release { id } => control.release(&id).map(drop).map_err(explain),
        QueueAction::Delete { id } => control.delete(&id).map(drop).map_err(explain),
    }
}

fn list(control: &Control, json: bool) -> Result<(), Failure> {
    let cannot = |error: ControlError| Failure::new("cannot list the queue", error);
    let entries = control.list().map_err(cannot)?;
    if !json {
        write(|out| writeln!(out, "{}", Entry::heading()))?;
    }
    for entry in entries {
        let entry = entry.map_err(cannot)?;
        write(|out| writeln!(out, "{}", if json { entry.json() } else { entry.row() }))?;
    }
    Ok(())
}

/// Writes to stdout. A reader that has seen enough, as `head`, is no failure.
fn write(write: impl FnOnce(&mut io::StdoutLock<'static>) -> io::Result<()>) -> Result<(), Failure> {
    match write(&mut io::stdout().lock()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.map_err(|error| Failure::new("cannot write", error)),
    }
}
