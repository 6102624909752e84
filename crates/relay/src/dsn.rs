//! What a client can ask of delivery status notifications (RFC 3461).

use serde::{Deserialize, Serialize};

/// When a sender wants a report on a recipient: the parameter NOTIFY (RFC 3461, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "RFC 3461 has these three, and a fourth could not be passed on")]
pub struct Notify {
    /// When the message has been delivered, or relayed to where nobody reports that.
    pub success: bool,
    /// When it has failed.
    pub failure: bool,
    /// When its delivery takes long.
    pub delay: bool,
}

impl Notify {
    /// `NEVER`.
    pub const NEVER: Self = Self { success: false, failure: false, delay: false };

    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            success: self.success || other.success,
            failure: self.failure || other.failure,
            delay: self.delay || other.delay,
        }
    }
}

/// Where a client does not say: on failure and on delay (RFC 3461, section 4.1).
impl Default for Notify {
    fn default() -> Self {
        Self { success: false, failure: true, delay: true }
    }
}

/// What a report of failure is to return: the parameter RET (RFC 3461, section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "RFC 3461 has these two")]
pub enum Ret {
    /// `FULL`: the message.
    Full,
    /// `HDRS`: its header section.
    Headers,
}

/// To whom the message was addressed before any server changed that: the parameter ORCPT (RFC 3461, section 4.2; RFC
/// 6533, section 3).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "RFC 3461 has these two")]
pub struct OriginalRecipient {
    /// Such as `rfc822` or `utf-8`.
    pub address_type: String,
    /// Decoded.
    pub address: String,
}
