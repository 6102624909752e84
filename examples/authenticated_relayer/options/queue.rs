//! The command `queue`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sansmtp_relay::QueueId;

/// A look at the queue, or a change to it.
#[derive(Debug, Args)]
pub(crate) struct QueueCommand {
    #[command(subcommand)]
    pub(crate) action: QueueAction,
    /// Where mail waits: the server's --spool
    #[arg(long, global = true, value_name = "DIR", default_value = "./spool")]
    pub(crate) spool: PathBuf,
}

/// What to do with the queue.
#[derive(Debug, Subcommand)]
pub(crate) enum QueueAction {
    /// List the messages, oldest first: id, age, size, time to the next attempt, number of recipients left, sender, the
    /// first of these recipients, last reply
    List {
        /// A JSON object for each message, one a line
        #[arg(long)]
        json: bool,
    },
    /// Show a message's envelope, state, and last replies
    Show {
        /// The message's id, as "queue list" shows it
        #[arg(value_parser = queue_id)]
        id: QueueId,
        /// Show its header and content, too, as they are, with what a terminal takes for its control sequences
        #[arg(long, conflicts_with = "json")]
        content: bool,
        /// As a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Try mail now: this message, the mail for a destination, or all that is not on hold. A start of the server does that, too
    Flush {
        /// The message's id, as "queue list" shows it
        #[arg(value_parser = queue_id)]
        id: Option<QueueId>,
        /// The mail for this domain, or for the mail exchanger of this name (with --mx)
        #[arg(long, value_name = "DOMAIN", conflicts_with = "id")]
        destination: Option<String>,
    },
    /// Put a message on hold: nothing of it is sent, and it does not expire, until it is released
    Hold {
        /// The message's id, as "queue list" shows it
        #[arg(value_parser = queue_id)]
        id: QueueId,
    },
    /// Let a message go that is on hold: it is tried now
    Release {
        /// The message's id, as "queue list" shows it
        #[arg(value_parser = queue_id)]
        id: QueueId,
    },
    /// Remove a message; neither its sender nor its recipients are told
    Delete {
        /// The message's id, as "queue list" shows it
        #[arg(value_parser = queue_id)]
        id: QueueId,
    },
}

fn queue_id(text: &str) -> Result<QueueId, String> {
    QueueId::try_from(text.to_owned())
        .map_err(|_| "an id has letters and digits only, as `queue list` shows it".to_owned())
}
