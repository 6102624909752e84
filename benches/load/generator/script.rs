//! What a client says in each workload, and what it is to be answered: made once, and sent as it is.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;

use crate::replies::Code;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Sessions in the clear: EHLO, AUTH PLAIN, QUIT.
    Auth,
    /// Sessions with STARTTLS: a full handshake, EHLO, AUTH PLAIN, QUIT.
    Starttls,
    /// Messages of 1 KiB, in sessions that last; each command waits for its reply.
    Submit,
    /// Messages of 1 KiB, in sessions that last; MAIL, RCPT and DATA go together (RFC 2920).
    Pipelined,
    /// Messages of 10 MiB, in sessions that last.
    Large,
    /// Memory of authenticated connections that say nothing.
    Idle,
    /// The same under TLS.
    IdleTls,
}

/// One group of commands, and the replies that end it.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) send: Vec<u8>,
    pub(crate) codes: Vec<Code>,
    /// Whether TLS begins after it.
    pub(crate) starts_tls: bool,
}

/// What follows the last step, which makes one operation complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The server closes the connection, and another one begins.
    Reconnect,
    /// The same connection goes on with this step.
    Repeat(usize),
    /// The connection stays as it is.
    Stay,
}

/// A connection's part in a workload.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) steps: Vec<Step>,
    pub(crate) then: Then,
}

impl Script {
    /// What a client says who logs in with `credentials`, if it does, and sends messages of so many octets.
    pub(crate) fn new(workload: Workload, credentials: Option<(&str, &str)>, octets: usize, recipient: &str) -> Self {
        let rcpt = format!("RCPT TO:<{recipient}>\r\n");
        let ehlo = || step("EHLO client.example\r\n", &["250"]);
        let mut steps = vec![step("", &["220"]), ehlo()];
        if matches!(workload, Workload::Starttls | Workload::IdleTls) {
            steps.push(Step { starts_tls: true, ..step("STARTTLS\r\n", &["220"]) });
            steps.push(ehlo());
        }
        if let Some((user, password)) = credentials {
            let plain = STANDARD.encode(format!("\0{user}\0{password}"));
            steps.push(step(&format!("AUTH PLAIN {plain}\r\n"), &["235"]));
        }
        let transaction = steps.len();
        let then = match workload {
            Workload::Auth | Workload::Starttls => {
                steps.push(step("QUIT\r\n", &["221"]));
                Then::Reconnect
            }
            Workload::Submit | Workload::Large => {
                steps.extend([step(MAIL, &["250"]), step(&rcpt, &["250"]), step("DATA\r\n", &["354"])]);
                steps.push(step(&content(octets), &["250"]));
                Then::Repeat(transaction)
            }
            Workload::Pipelined => {
                steps.push(step(&[MAIL, &rcpt, "DATA\r\n"].concat(), &["250", "250", "354"]));
                steps.push(step(&content(octets), &["250"]));
                Then::Repeat(transaction)
            }
            Workload::Idle | Workload::IdleTls => Then::Stay,
        };
        Self { steps, then }
    }

    /// Whether there is more in a step than a socket may take at once.
    pub(crate) fn fills_sockets(&self) -> bool {
        self.steps.iter().any(|step| step.send.len() > 16 * 1024)
    }
}

impl Workload {
    /// How many octets of content an operation carries, without the end of mail data.
    pub(crate) fn message_octets(self) -> usize {
        match self {
            Self::Submit | Self::Pipelined => 1024,
            Self::Large => 10 << 20,
            Self::Auth | Self::Starttls | Self::Idle | Self::IdleTls => 0,
        }
    }
}

const MAIL: &str = "MAIL FROM:<tim@example.org>\r\n";

fn step(send: &str, codes: &[&str]) -> Step {
    let codes = codes.iter().filter_map(|code| code.as_bytes().try_into().ok()).collect();
    Step { send: send.into(), codes, starts_tls: false }
}

/// A message of `octets`, in lines as those of an attachment, and the end of mail data.
fn content(octets: usize) -> String {
    let mut content = String::from("From: <tim@example.org>\r\nTo: <friend@example.org>\r\nSubject: load\r\n\r\n");
    while let Some(left @ 3..) = octets.checked_sub(content.len()) {
        // What is left has room for this line, and never for a CRLF's half only.
        let line = if left < 2 * LINE { left } else { LINE };
        content.extend(ALPHABET.chars().cycle().take(line - 2));
        content.push_str("\r\n");
    }
    content + ".\r\n"
}

const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// 76 characters of base64 and CRLF.
const LINE: usize = 78;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_has_the_size_that_it_is_said_to_have() {
        for workload in [Workload::Submit, Workload::Pipelined, Workload::Large] {
            let content = content(workload.message_octets());
            assert_eq!(content.len(), workload.message_octets() + 3);
            assert!(content.ends_with("\r\n.\r\n"));
            assert!(content.split_terminator("\r\n").all(|line| line.len() < 160 && line.is_ascii()));
            assert!(!content.trim_end_matches(".\r\n").contains("\r\n."), "it has nothing to double");
        }
    }

    #[test]
    fn each_step_awaits_a_reply() {
        for workload in Workload::value_variants() {
            let script = Script::new(*workload, Some(("tim", "secret")), 1024, "friend@example.org");
            assert!(script.steps.iter().all(|step| !step.codes.is_empty() && step.send.is_ascii()));
            if let Then::Repeat(step) = script.then {
                assert_eq!(script.steps[step - 1].codes, [*b"235"]);
                assert!(script.steps[step].send.starts_with(b"MAIL "));
            }
        }
    }
}
