//! What a next hop offers (RFC 5321, section 4.1.1.1).

use crate::delivery::reply::Reply;

/// What the next hop offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    pub(super) eight_bit_mime: bool,
    pub(super) smtputf8: bool,
    pub(super) dsn: bool,
    pub(super) starttls: bool,
    pub(super) pipelining: bool,
    /// The most recipients of a transaction, and the most transactions of a session, if it says (RFC 9422).
    pub(super) recipients: Option<usize>,
    pub(super) transactions: Option<usize>,
    /// The largest message, if it says (RFC 1870).
    pub(super) size: Option<u64>,
    /// The SASL mechanisms, as they are listed.
    pub(super) mechanisms: Vec<String>,
}

impl Extensions {
    /// Reads a reply to EHLO, whose first line is the greeting (RFC 5321, section 4.1.1.1).
    pub(super) fn of(reply: &Reply) -> Self {
        let mut extensions = Self::default();
        for line in reply.lines.iter().skip(1) {
            // "AUTH=PLAIN" is how the oldest servers wrote it.
            let mut words = line.split([' ', '=']);
            let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
            match keyword.as_str() {
                "8BITMIME" => extensions.eight_bit_mime = true,
                "SMTPUTF8" => extensions.smtputf8 = true,
                "DSN" => extensions.dsn = true,
                "STARTTLS" => extensions.starttls = true,
                "PIPELINING" => extensions.pipelining = true,
                "LIMITS" => {
                    while let (Some(name), Some(limit)) = (words.next(), words.next()) {
                        // Six digits at most, of which the first is not 0.
                        let limit = limit.parse().ok().filter(|limit| *limit > 0);
                        match name.to_ascii_uppercase().as_str() {
                            "RCPTMAX" => extensions.recipients = limit,
                            "MAILMAX" => extensions.transactions = limit,
                            _ => {}
                        }
                    }
                }
                "SIZE" => extensions.size = Some(words.next().and_then(|size| size.parse().ok()).unwrap_or(0)),
                "AUTH" => {
                    let left = MAX_MECHANISMS.saturating_sub(extensions.mechanisms.len());
                    extensions.mechanisms.extend(words.take(left).map(str::to_owned));
                }
                _ => {}
            }
        }
        extensions
    }
}

/// More than any server has; their names go into logs and reports.
const MAX_MECHANISMS: usize = 30;
