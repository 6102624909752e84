//! What users may send, and what is told of them.

use clap::Args;
use sansmtp_authenticators::sending::SendingLimits;

use super::senders::SENDERS;
use crate::units::count;

#[derive(Debug, Args)]
pub(super) struct PolicyArguments {
    /// Messages that a login may send in an hour; 0 for no limit
    ///
    /// What is over a limit is refused for now, 450 4.7.1, with the limit and when to try again, and the log tells of a login
    /// once in each hour or day. Names count in any letter case. What is counted is in memory, and begins anew when the
    /// program does, or in Valkey or Redis, for all servers that count there, with --attempts. An hour is the 60 to 65
    /// minutes before a message, and a day the 24 to 26 hours.
    #[arg(long, value_name = "N", default_value = "0", value_parser = count::<u32>, help_heading = POLICY)]
    max_messages_per_hour: u32,
    /// Messages that a login may send in a day; 0 for no limit
    #[arg(long, value_name = "N", default_value = "0", value_parser = count::<u32>, help_heading = POLICY)]
    max_messages_per_day: u32,
    /// Recipients to whom a login may send in an hour, of all messages together; 0 for no limit
    ///
    /// Of a message that has more than there is room for, those that fit are taken.
    #[arg(long, value_name = "N", default_value = "0", value_parser = count::<u32>, help_heading = POLICY)]
    max_recipients_per_hour: u32,
    /// Recipients to whom a login may send in a day, of all messages together; 0 for no limit
    #[arg(long, value_name = "N", default_value = "0", value_parser = count::<u32>, help_heading = POLICY)]
    max_recipients_per_day: u32,
    /// Leave the client out of Received: its address, the name that it gives itself, its TLS
    ///
    /// They tell every recipient where the sender was. RFC 5321 (section 4.4) wants them there, so they are unless this is
    /// given. The log has them, by the identifier that Received: shows.
    #[arg(long, help_heading = POLICY)]
    pub(super) hide_client_address: bool,
}

impl PolicyArguments {
    pub(super) fn sending_limits(&self) -> SendingLimits {
        SendingLimits {
            messages_per_hour: self.max_messages_per_hour,
            messages_per_day: self.max_messages_per_day,
            recipients_per_hour: self.max_recipients_per_hour,
            recipients_per_day: self.max_recipients_per_day,
            ..SendingLimits::default()
        }
    }
}

const POLICY: &str = SENDERS;
