//! Content in the form in which a next hop may have it.

use std::fs::File;
use std::io;

use super::Deliverer;
use super::convert::{Plan, Unconvertible};
use crate::envelope::QueueId;

/// A message's content, and what to change in it on the way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) file: File,
    pub(crate) plan: Option<Plan>,
    /// The size of what is sent.
    pub(crate) octets: u64,
    /// Whether there are octets above 127 in what is sent.
    pub(crate) eight_bit: bool,
}

/// What the spool knows of a message's content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) eight_bit: bool,
    pub(super) long_lines: bool,
}

impl Deliverer {
    /// Opens a message's content for a next hop that takes octets above 127, or does not.
    ///
    /// Long lines are broken where nothing is lost by it. Else they go as they are: there is a chance that the next
    /// hop takes them, and none that a signature survives the change.
    ///
    /// # Errors
    /// Where the content cannot be read; inside, where it has octets above 127 that cannot be converted.
    pub(super) async fn outgoing(
        &self,
        id: &QueueId,
        kind: Kind,
        takes_eight_bit: bool,
    ) -> io::Result<Result<Outgoing, Unconvertible>> {
        let file = self.spool.content(id)?;
        let as_it_is = Outgoing { octets: file.metadata()?.len(), file, plan: None, eight_bit: kind.eight_bit };
        let seven_bit = kind.eight_bit && !takes_eight_bit;
        if !seven_bit && !kind.long_lines {
            return Ok(Ok(as_it_is));
        }
        let content = self.spool.content(id)?;
        let planned = tokio::task::spawn_blocking(move || Plan::of(content, seven_bit)).await;
        Ok(match planned.unwrap_or_else(|panic| Err(io::Error::other(panic)))? {
            Ok(Some(plan)) => {
                tracing::debug!(%id, octets = plan.octets, seven_bit, "converting the content for the next hop");
                Ok(Outgoing { octets: plan.octets, eight_bit: plan.eight_bit, plan: Some(plan), ..as_it_is })
            }
            Ok(None) => Ok(as_it_is),
            Err(unconvertible) if seven_bit => Err(unconvertible),
            Err(unconvertible) => {
                tracing::debug!(%id, %unconvertible, "the lines of more than 998 octets go as they are");
                Ok(as_it_is)
            }
        })
    }
}
