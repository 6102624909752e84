//! A mail transaction: MAIL, RCPT and the mail data.

use std::io::{self, Read};

use tokio::time::Instant;

use super::extensions::Extensions;
use super::{Client, TRANSACTION};
use crate::delivery::content::Stuffing;
use crate::delivery::convert::Plan;
use crate::delivery::error::{Error, Step};
use crate::delivery::outgoing::Outgoing;
use crate::delivery::reply::Reply;
use crate::routes::Protocol;

/// What to send, apart from the content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mail<'a> {
    pub(crate) reverse_path: &'a str,
    pub(crate) recipients: &'a [&'a str],
    /// What a server that offers DSN is told, behind the reverse-path and behind each recipient.
    pub(crate) mail_dsn: &'a str,
    pub(crate) rcpt_dsn: &'a [String],
    /// Whether the envelope or the header section needs SMTPUTF8. Then the next hop must offer it.
    pub(crate) needs_smtputf8: bool,
}

/// What came of a message.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// For each recipient, the reply that refused it; none where the rest of the session decides.
    pub(crate) refused: Vec<Option<Reply>>,
    /// With LMTP, for each recipient that has one, the reply behind the mail data (RFC 2033, section 4.2).
    pub(crate) settled: Vec<Option<Reply>>,
    /// What became of the recipients that have no reply of their own.
    pub(crate) others: Result<Reply, Error>,
    /// Whether another message may be sent.
    pub(crate) is_open: bool,
}

impl Client {
    /// Whether the server reports on what it was told of (RFC 3461).
    pub(crate) fn offers_dsn(&self) -> bool {
        self.extensions.dsn
    }

    /// How many recipients one transaction may have.
    pub(crate) fn max_recipients(&self) -> usize {
        self.extensions.recipients.unwrap_or(MAX_RECIPIENTS).min(MAX_RECIPIENTS)
    }

    /// Whether octets above 127 may be in content. Those of a message that uses SMTPUTF8 may, whether or not the server
    /// says that it has 8BITMIME, too (RFC 6531, section 3.1).
    pub(crate) fn takes_eight_bit(&self, uses_smtputf8: bool) -> bool {
        self.extensions.eight_bit_mime || (uses_smtputf8 && self.extensions.smtputf8)
    }

    /// Whether UTF-8 may be in the envelope and in the header section.
    pub(crate) fn takes_utf8(&self) -> bool {
        self.extensions.smtputf8
    }

    /// Does without the extensions that have parameters of MAIL, which the server offers and does not seem to know, but
    /// for SMTPUTF8, for which there is no substitute. Says whether there were some.
    pub(crate) fn forget_parameters(&mut self) -> bool {
        let without = Extensions { eight_bit_mime: false, dsn: false, size: None, ..self.extensions.clone() };
        if self.doubted.is_some() || without == self.extensions {
            return false;
        }
        self.doubted = Some(std::mem::replace(&mut self.extensions, without));
        true
    }

    /// Takes back what [`Client::forget_parameters`] did.
    pub(crate) fn remember_parameters(&mut self) {
        if let Some(extensions) = self.doubted.take() {
            self.extensions = extensions;
        }
    }

    /// Sends a message, to no more recipients than [`Client::max_recipients`].
    pub(crate) async fn send(&mut self, mail: Mail<'_>, content: Outgoing) -> Outcome {
        self.deadline = Instant::now() + TRANSACTION;
        let mut refused = Vec::new();
        let mut settled = Vec::new();
        let others = self.transaction(mail, content, &mut refused, &mut settled).await;
        refused.resize(mail.recipients.len(), None);
        settled.resize(mail.recipients.len(), None);
        self.transactions += 1;
        let is_open = match &others {
            _ if self.extensions.transactions.is_some_and(|most| self.transactions >= most) => false,
            _ if self.is_over || settled.iter().flatten().any(Reply::ends_session) => false,
            Ok(_) => true,
            Err(Error::Refused(_, reply)) if reply.is_closing() => false,
            // Nothing of a transaction is left at the server.
            Err(Error::Refused(Step::Mail | Step::EndOfMailData, _) | Error::TooLarge(_)) => true,
            Err(Error::Refused(Step::Data, _) | Error::NoRecipients | Error::ControlCharacter) => self.reset().await,
            // Closing the connection, before the end of mail data, makes the next hop forget what it got.
            Err(_) => false,
        };
        Outcome { refused, settled, others, is_open }
    }

    /// Makes the server forget a transaction. Says whether it did.
    async fn reset(&mut self) -> bool {
        self.command(Step::Mail, "RSET").await.is_ok_and(|reply| reply.is_positive())
    }

    async fn transaction(
        &mut self,
        mail: Mail<'_>,
        content: Outgoing,
        refused: &mut Vec<Option<Reply>>,
        settled: &mut Vec<Option<Reply>>,
    ) -> Result<Reply, Error> {
        let Extensions { eight_bit_mime, size, .. } = self.extensions;
        let octets = content.octets;
        if let Some(limit) = size.filter(|limit| *limit > 0 && octets > *limit) {
            return Err(Error::TooLarge(limit));
        }
        let mut command = format!("MAIL FROM:<{}>", mail.reverse_path);
        if size.is_some() {
            command.push_str(&format!(" SIZE={octets}"));
        }
        if (content.eight_bit || mail.needs_smtputf8) && eight_bit_mime {
            command.push_str(" BODY=8BITMIME");
        }
        if mail.needs_smtputf8 {
            command.push_str(" SMTPUTF8");
        }
        self.silence(Step::Mail).await?;
        let mut recipients: Vec<_> = mail.recipients.iter().map(|recipient| format!("RCPT TO:<{recipient}>")).collect();
        if self.extensions.dsn {
            command.push_str(mail.mail_dsn);
            for (recipient, parameters) in recipients.iter_mut().zip(mail.rcpt_dsn) {
                recipient.push_str(parameters);
            }
        }
        let data = if self.extensions.pipelining {
            // RFC 2920, section 3.1: one round trip for all of them, of which DATA may be the last. LMTP has no reply that
            // tells of the end of mail data for nobody, so there it waits.
            let with_data = self.protocol == Protocol::Smtp;
            let lines = std::iter::once(command.as_str()).chain(recipients.iter().map(String::as_str));
            self.lines(Step::Mail, lines.chain(with_data.then_some("DATA"))).await?;
            let reply = self.reply(Step::Mail).await?;
            if reply.is_positive() {
                self.rcpt_replies(recipients.len(), refused).await?;
            } else {
                // These say no more than that there is no transaction. Some servers hang up instead.
                self.is_over = reply.is_closing() || self.rcpt_replies(recipients.len(), refused).await.is_err();
                refused.clear();
            }
            let is_for_nobody = !reply.is_positive() || refused.iter().all(Option::is_some);
            if with_data && is_for_nobody && !self.is_over {
                self.end_data_for_nobody().await;
            }
            reply.expect(Step::Mail)?;
            if with_data && !is_for_nobody { Some(self.reply(Step::Data).await?) } else { None }
        } else {
            self.command(Step::Mail, &command).await?.expect(Step::Mail)?;
            for recipient in &recipients {
                self.lines(Step::Rcpt, std::iter::once(recipient.as_str())).await?;
                self.rcpt_replies(1, refused).await?;
            }
            None
        };
        if refused.iter().all(Option::is_some) {
            return Err(Error::NoRecipients);
        }
        let reply = match data {
            Some(reply) => reply,
            None => self.command(Step::Data, "DATA").await?,
        };
        if reply.code != START_MAIL_INPUT {
            // One that is positive is about something else.
            return Err(if reply.is_negative() {
                Error::Refused(Step::Data, reply)
            } else {
                Error::Unasked(Step::Data)
            });
        }
        self.content(content).await?;
        match self.protocol {
            Protocol::Lmtp => self.replies_of_recipients(refused, settled).await,
            Protocol::Smtp => self.reply(Step::EndOfMailData).await?.expect(Step::EndOfMailData),
        }
    }

    /// Takes the reply to a DATA that was sent with RCPTs of which none was accepted. Servers that look refuse it. One that
    /// invites, or hangs up, is left: an end of mail data, which RFC 2920, section 3.1, has for it, might pass for a message.
    async fn end_data_for_nobody(&mut self) {
        self.is_over = !self.reply(Step::Data).await.is_ok_and(|reply| reply.is_negative());
    }

    /// Reads a reply for each recipient that was accepted, in their order (RFC 2033, section 4.2). Where the connection is
    /// lost among them, those that have come count.
    async fn replies_of_recipients(
        &mut self,
        refused: &[Option<Reply>],
        settled: &mut Vec<Option<Reply>>,
    ) -> Result<Reply, Error> {
        let (mut taken, mut not_taken) = (None, None);
        for refused in refused {
            if refused.is_some() {
                settled.push(None);
                continue;
            }
            let reply = match (self.reply(Step::EndOfMailData).await, &not_taken) {
                (Ok(reply), _) => reply,
                // It has said that it would leave, and why.
                (Err(_), Some(reply)) if Reply::is_closing(reply) => {
                    return Err(Error::Refused(Step::EndOfMailData, reply.clone()));
                }
                (Err(error), _) => return Err(error),
            };
            settled.push(Some(reply.clone()));
            if reply.is_positive() { taken = Some(reply) } else { not_taken = Some(reply) }
        }
        match (taken, not_taken) {
            (Some(reply), _) => Ok(reply),
            (None, Some(reply)) => Err(Error::Refused(Step::EndOfMailData, reply)),
            // With nobody left there was no DATA.
            (None, None) => Err(Error::NoRecipients),
        }
    }

    /// Reads the replies to so many RCPT commands.
    async fn rcpt_replies(&mut self, count: usize, refused: &mut Vec<Option<Reply>>) -> Result<(), Error> {
        for _ in 0..count {
            let reply = self.reply(Step::Rcpt).await?;
            if reply.is_closing() {
                return Err(Error::Refused(Step::Rcpt, reply));
            }
            refused.push((!reply.is_positive()).then_some(reply));
        }
        Ok(())
    }

    async fn content(&mut self, content: Outgoing) -> Result<(), Error> {
        let Outgoing { mut file, plan, .. } = content;
        let mut conversion = plan.as_ref().map(Plan::conversion);
        let mut converted = Vec::new();
        let mut stuffing = Stuffing::new();
        // What a piece becomes may be three times as long.
        let mut piece = vec![0; if plan.is_some() { PIECE_OCTETS / 4 } else { PIECE_OCTETS }];
        let mut out = Vec::with_capacity(PIECE_OCTETS + PIECE_OCTETS / 8);
        loop {
            // The file was written a moment ago or is small enough to be read at once: a thread for it costs more.
            let read = match file.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::Content(error)),
            };
            let mut piece = piece.get(..read).unwrap_or_default();
            if let Some(conversion) = &mut conversion {
                converted.clear();
                conversion.push(piece, &mut converted);
                piece = &converted;
            }
            out.clear();
            // Leaving here, before the end of mail data, makes the next hop forget what it got.
            stuffing.push(piece, &mut out).map_err(|_| Error::BareLineEnd)?;
            if let Err(error) = self.write(Step::MailData, &out).await {
                // It may have said why it hung up.
                self.silence(Step::MailData).await?;
                return Err(error);
            }
        }
        out.clear();
        if let Some(conversion) = conversion {
            converted.clear();
            conversion.finish(&mut converted);
            stuffing.push(&converted, &mut out).map_err(|_| Error::BareLineEnd)?;
        }
        stuffing.finish(&mut out).map_err(|_| Error::BareLineEnd)?;
        // What came early would pass for the reply to the end of mail data, which is what counts.
        self.silence(Step::MailData).await?;
        self.write(Step::MailData, &out).await
    }
}

const START_MAIL_INPUT: u16 = 354;
/// RFC 5321, section 4.5.3.1.8: what every server must take.
const MAX_RECIPIENTS: usize = 100;
const PIECE_OCTETS: usize = 32 * 1024;
