//! ESMTP extensions that are offered only where the embedder can keep what they promise.

use alloc::string::String;
use core::fmt::Write as _;

use crate::config::{ConfigError, Limits};

/// The extensions that [`ConfigBuilder::extensions`](crate::ConfigBuilder::extensions) turns on, beyond
/// those that the engine alone can answer for. None of them unless set.
///
/// The engine parses and checks what they add to commands and carries it to the
/// [`Envelope`](crate::Envelope); what it asks for is the embedder's to do.
///
/// ```
/// use sansmtp::{Config, Extensions};
///
/// let extensions = Extensions { chunking: true, dsn: true, ..Extensions::default() };
/// let config = Config::builder("mx.example.org").extensions(extensions).build()?;
/// # let _ = config;
/// # Ok::<(), sansmtp::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, each with its own name")]
pub struct Extensions {
    /// CHUNKING (RFC 3030): content by BDAT.
    pub chunking: bool,
    /// BINARYMIME (RFC 3030), which needs CHUNKING: whatever keeps the message must keep every octet.
    pub binarymime: bool,
    /// DSN (RFC 3461): RET, ENVID, NOTIFY and ORCPT.
    pub dsn: bool,
    /// DELIVERBY (RFC 2852), with the shortest time, in seconds, in which the server undertakes to deliver
    /// or return a message; 0 states none.
    pub deliver_by: Option<u32>,
    /// MT-PRIORITY (RFC 6710).
    pub mt_priority: bool,
    /// FUTURERELEASE (RFC 4865).
    pub future_release: Option<FutureRelease>,
    /// REQUIRETLS (RFC 8689), listed under TLS only.
    pub requiretls: bool,
    /// LIMITS (RFC 9422): tells [`Limits::max_recipients`] and [`Limits::max_transactions`].
    pub limits: bool,
}

/// How long FUTURERELEASE may hold a message (RFC 4865, section 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FutureRelease {
    /// The longest time for HOLDFOR, in seconds: 1 to 999,999,999. More is refused with `501 5.5.4`.
    pub max_interval: u32,
    /// The latest time for HOLDUNTIL, as RFC 3339 writes it, in UTC (`2030-01-01T00:00:00Z`). The engine
    /// has no clock: that a time is in the future, and how far, is for the MAIL hook to judge.
    pub max_date_time: String,
}

impl Extensions {
    /// Refuses what cannot be offered.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.binarymime && !self.chunking {
            return Err(ConfigError::BinaryMimeWithoutChunking);
        }
        let release = self.future_release.as_ref();
        if release.is_some_and(|release| {
            !(1..=MAX_INTERVAL).contains(&release.max_interval)
                || !crate::command::date_time::is_utc_date_time(release.max_date_time.as_bytes())
        }) {
            return Err(ConfigError::FutureRelease);
        }
        Ok(())
    }

    /// Appends the lines of EHLO's reply for a connection that is under TLS, or not.
    pub(crate) fn list(&self, under_tls: bool, limits: Limits, lines: &mut String) {
        let flags = [
            (self.chunking, "CHUNKING"),
            (self.binarymime, "BINARYMIME"),
            (self.dsn, "DSN"),
            (self.mt_priority, "MT-PRIORITY"),
            (self.requiretls && under_tls, "REQUIRETLS"),
        ];
        for (_, keyword) in flags.into_iter().filter(|(offered, _)| *offered) {
            let _ = write!(lines, "250-{keyword}\r\n");
        }
        match self.deliver_by {
            Some(0) => lines.push_str("250-DELIVERBY\r\n"),
            Some(least) => {
                let _ = write!(lines, "250-DELIVERBY {least}\r\n");
            }
            None => {}
        }
        if let Some(FutureRelease { max_interval, max_date_time }) = &self.future_release {
            let _ = write!(lines, "250-FUTURERELEASE {max_interval} {max_date_time}\r\n");
        }
        if self.limits {
            let _ = write!(lines, "250-LIMITS RCPTMAX={}", limits.max_recipients);
            if let Some(transactions) = limits.max_transactions {
                let _ = write!(lines, " MAILMAX={transactions}");
            }
            lines.push_str("\r\n");
        }
    }

    /// What the extensions add to the length of MAIL, in octets.
    pub(crate) fn mail_octets(&self) -> usize {
        // " ENVID=" and 100 characters, " RET=FULL"; RFC 2852, section 4; RFC 6710, section 3; RFC 4865,
        // section 4; RFC 8689, section 2.
        let added = [
            (self.dsn, 107 + 9),
            (self.deliver_by.is_some(), 17),
            (self.mt_priority, 15),
            (self.future_release.is_some(), 34),
            (self.requiretls, 11),
        ];
        added.into_iter().filter(|(offered, _)| *offered).map(|(_, octets)| octets).sum()
    }

    /// What they add to the length of RCPT: a parameter ORCPT of 500 characters, and NOTIFY (RFC 3461,
    /// sections 4.1 and 4.2).
    pub(crate) fn rcpt_octets(&self) -> usize {
        if self.dsn { 501 + 29 } else { 0 }
    }
}

/// `1*9DIGIT`.
const MAX_INTERVAL: u32 = 999_999_999;
