//! What a client can ask of delivery status notifications (RFC 3461).

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// When a sender wants a report on a recipient: the parameter NOTIFY (RFC 3461, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "RFC 3461 has these three, and a fourth could not be passed on")]
pub struct Notify {
    /// When the message has been delivered, or relayed to a server that does not report it.
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

/// What MAIL has for a next hop that offers DSN (RFC 3461, section 5.2.1): each parameter with a space in front of it.
pub(crate) fn mail_parameters(ret: Option<Ret>, envid: Option<&str>) -> String {
    let mut parameters = String::new();
    match ret {
        Some(Ret::Full) => parameters.push_str(" RET=FULL"),
        Some(Ret::Headers) => parameters.push_str(" RET=HDRS"),
        None => {}
    }
    if let Some(envid) = envid.map(xtext).filter(|envid| (1..=MAX_ENVID_CHARACTERS).contains(&envid.len())) {
        parameters.push_str(" ENVID=");
        parameters.push_str(&envid);
    }
    parameters
}

/// The same for RCPT.
pub(crate) fn rcpt_parameters(notify: Option<Notify>, orcpt: Option<&OriginalRecipient>) -> String {
    let mut parameters = String::new();
    if let Some(Notify { success, failure, delay }) = notify {
        let wanted = [(success, "SUCCESS"), (failure, "FAILURE"), (delay, "DELAY")];
        let mut words: Vec<_> = wanted.into_iter().filter(|(is_wanted, _)| *is_wanted).map(|(_, word)| word).collect();
        if words.is_empty() {
            words.push("NEVER");
        }
        parameters.push_str(" NOTIFY=");
        parameters.push_str(&words.join(","));
    }
    if let Some(OriginalRecipient { address_type, address }) = orcpt {
        // RFC 6533, section 3: this form needs no SMTPUTF8.
        let is_utf8 = address_type.eq_ignore_ascii_case("utf-8");
        let encoded = if is_utf8 { utf8_addr_xtext(address) } else { xtext(address) };
        let orcpt = format!("ORCPT={address_type};{encoded}");
        let is_atom = address_type.bytes().all(|octet| octet.is_ascii_graphic() && !b";=+ ".contains(&octet));
        if orcpt.len() <= MAX_ORCPT_CHARACTERS && is_atom {
            parameters.push(' ');
            parameters.push_str(&orcpt);
        }
    }
    parameters
}

/// RFC 3461, section 4.
fn xtext(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'+' | b'=' => _ = write!(encoded, "+{octet:02X}"),
            b'!'..=b'~' => encoded.push(char::from(octet)),
            _ => _ = write!(encoded, "+{octet:02X}"),
        }
    }
    encoded
}

/// RFC 6533, section 3.
fn utf8_addr_xtext(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '+' | '=' | '\\' => _ = write!(encoded, "\\x{{{:X}}}", u32::from(character)),
            '!'..='~' => encoded.push(character),
            _ => _ = write!(encoded, "\\x{{{:02X}}}", u32::from(character)),
        }
    }
    encoded
}

/// RFC 3461, section 4.4.
const MAX_ENVID_CHARACTERS: usize = 100;
/// RFC 3461, section 4.2: with the keyword.
const MAX_ORCPT_CHARACTERS: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_written_as_rfc_3461_has_them() {
        assert_eq!(mail_parameters(None, None), "");
        assert_eq!(mail_parameters(Some(Ret::Headers), Some("a+b=c d")), " RET=HDRS ENVID=a+2Bb+3Dc+20d");
        assert_eq!(mail_parameters(Some(Ret::Full), Some(&"=".repeat(34))), " RET=FULL", "too long when encoded");
        assert_eq!(rcpt_parameters(None, None), "");
        assert_eq!(rcpt_parameters(Some(Notify::NEVER), None), " NOTIFY=NEVER");
        let all = Notify { success: true, ..Notify::default() };
        let orcpt = |address_type: &str, address: &str| OriginalRecipient {
            address_type: address_type.to_owned(),
            address: address.to_owned(),
        };
        assert_eq!(
            rcpt_parameters(Some(all), Some(&orcpt("rfc822", "tim+x@b.example"))),
            " NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;tim+2Bx@b.example"
        );
        assert_eq!(
            rcpt_parameters(None, Some(&orcpt("utf-8", "ü+\\@b.example"))),
            " ORCPT=utf-8;\\x{FC}\\x{2B}\\x{5C}@b.example"
        );
        // What an embedder cannot have meant does not break the command.
        for wrong in [orcpt("rfc822 X=Y", "a@b"), orcpt("rfc822", &"a".repeat(500))] {
            assert_eq!(rcpt_parameters(None, Some(&wrong)), "");
        }
        assert_eq!(rcpt_parameters(None, Some(&orcpt("rfc822", "a\r\n@b"))), " ORCPT=rfc822;a+0D+0A@b");
    }
}
