//! The beginning of a connection: versions, mechanisms, and what else Dovecot says of itself.

use super::error::Error;
use super::mechanism::Mechanism;
use super::reply::parse_number;

/// What the client says. It need not wait for the server's part.
///
/// With version 1.3 Dovecot would list mechanisms with channel binding, too, and ask for its data.
pub(super) fn hello() -> String {
    format!("VERSION\t{MAJOR}\t2\nCPID\t{}\n", std::process::id())
}

/// What the server has said so far.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    version_seen: bool,
    lines: usize,
    mechanisms: Vec<Mechanism>,
}

impl Handshake {
    /// Takes a line, without its end. `true` with the last, `DONE`.
    pub(super) fn take(&mut self, line: &[u8]) -> Result<bool, Error> {
        self.lines += 1;
        if self.lines > MAX_LINES {
            return Err(Error::Protocol("its handshake does not end"));
        }
        let mut fields = line.split(|&octet| octet == b'\t');
        match fields.next().unwrap_or_default() {
            b"VERSION" => {
                let major = fields.next().and_then(parse_number);
                if major != Some(MAJOR) {
                    return Err(Error::Protocol("it speaks another version of the protocol"));
                }
                self.version_seen = true;
            }
            _ if !self.version_seen => return Err(Error::Protocol("it does not speak the protocol of auth clients")),
            b"MECH" => self.mechanisms.extend(Mechanism::parse(fields)),
            b"DONE" => return Ok(true),
            // SPID, CUID and COOKIE are for masters, who look up what a client has done.
            _ => {}
        }
        Ok(false)
    }

    pub(super) fn into_mechanisms(self) -> Vec<Mechanism> {
        self.mechanisms
    }
}

const MAJOR: u32 = 1;

/// Dovecot has some 20 mechanisms, and says four things more.
const MAX_LINES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn shake(lines: &str) -> Result<Option<Vec<Mechanism>>, Error> {
        let mut handshake = Handshake::default();
        for line in lines.lines() {
            if handshake.take(line.as_bytes())? {
                return Ok(Some(handshake.into_mechanisms()));
            }
        }
        Ok(None)
    }

    #[test]
    fn the_handshake_of_dovecot_2_3() {
        let said = "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tCRAM-MD5\tdictionary\tactive\nMECH\tSCRAM-SHA-256\tmutual-auth\n\
            MECH\tANONYMOUS\tanonymous\nMECH\tAPOP\tprivate\tdictionary\tactive\nMECH\tno name\nMECH\t\nMECH\tEXTERNAL\n\
            SPID\t18004\nCUID\t1\nCOOKIE\t4c4086fd642a437bf0d8759000178261\nDONE\n";
        let mechanisms = shake(said).unwrap().unwrap();
        let shown = |of: fn(&Mechanism) -> bool| -> Vec<_> {
            mechanisms.iter().filter(|mechanism| of(mechanism)).map(|mechanism| mechanism.name.as_str()).collect()
        };
        assert_eq!(shown(|_| true), ["PLAIN", "CRAM-MD5", "SCRAM-SHA-256", "ANONYMOUS", "APOP", "EXTERNAL"]);
        assert_eq!(shown(|mechanism| mechanism.plaintext), ["PLAIN"]);
        assert_eq!(shown(|mechanism| mechanism.anonymous), ["ANONYMOUS"]);
        assert_eq!(shown(|mechanism| mechanism.private), ["APOP"]);
        assert_eq!(shown(|mechanism| mechanism.channel_binding), [""; 0]);
    }

    #[test]
    fn mechanisms_that_bind_are_known_by_either_sign() {
        let said = "VERSION\t1\t4\nMECH\tSCRAM-SHA-256-PLUS\tmutual-auth\nMECH\tX-BOUND\tchannel-binding\nDONE\n";
        assert!(shake(said).unwrap().unwrap().iter().all(|mechanism| mechanism.channel_binding));
    }

    #[test]
    fn other_servers_and_endless_ones_are_told() {
        assert!(shake("VERSION\t2\t0\nDONE\n").is_err());
        assert!(shake("VERSION\t1x\t0\n").is_err());
        assert!(shake("VERSION\n").is_err());
        assert!(shake("220 mx.example.org ESMTP\n").is_err());
        assert!(shake("MECH\tPLAIN\nVERSION\t1\t2\nDONE\n").is_err());
        assert!(shake("DONE\n").is_err());
        assert!(shake(&format!("VERSION\t1\t2\n{}", "SPID\t1\n".repeat(1_000))).is_err());
        assert_eq!(shake("VERSION\t1\t2\nMECH\tPLAIN\n").unwrap(), None);
    }
}
