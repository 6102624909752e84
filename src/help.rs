//! The replies to HELP (RFC 5321, section 4.1.1.8), put together once: the commands that a client could use.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What differs between connections, and while one lasts.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, each with its own name")]
pub(crate) struct Usable {
    /// EXPN has a hook.
    pub(crate) expn: bool,
    /// So have commands that the engine does not know.
    pub(crate) own_verbs: bool,
    pub(crate) starttls: bool,
    pub(crate) xclient: bool,
}

/// What the lists are made of.
pub(crate) struct Commands<'c> {
    pub(crate) lmtp: bool,
    pub(crate) chunking: bool,
    pub(crate) auth: bool,
    pub(crate) own_verbs: &'c [String],
}

/// A reply for each [`Usable`], by its number.
#[derive(Clone, Debug)]
pub(crate) struct HelpReplies(Vec<String>);

/// Which of the replies it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HelpReply(u8);

impl HelpReplies {
    pub(crate) fn new(commands: &Commands<'_>) -> Self {
        let each = [false, true];
        let usable = each.into_iter().flat_map(|xclient| {
            each.into_iter().flat_map(move |starttls| {
                each.into_iter().flat_map(move |own_verbs| {
                    each.into_iter().map(move |expn| Usable { expn, own_verbs, starttls, xclient })
                })
            })
        });
        Self(usable.map(|usable| compose(commands, usable)).collect())
    }

    pub(crate) fn find(usable: Usable) -> HelpReply {
        let Usable { expn, own_verbs, starttls, xclient } = usable;
        HelpReply(u8::from(expn) | u8::from(own_verbs) << 1 | u8::from(starttls) << 2 | u8::from(xclient) << 3)
    }

    pub(crate) fn get(&self, HelpReply(number): HelpReply) -> &str {
        self.0.get(usize::from(number)).map(String::as_str).unwrap_or_default()
    }
}

fn compose(commands: &Commands<'_>, usable: Usable) -> String {
    let listed = [
        ("HELO", !commands.lmtp),
        ("EHLO", !commands.lmtp),
        ("LHLO", commands.lmtp),
        ("MAIL", true),
        ("RCPT", true),
        ("DATA", true),
        ("BDAT", commands.chunking),
        ("RSET", true),
        ("NOOP", true),
        ("VRFY", true),
        ("EXPN", usable.expn),
        ("HELP", true),
        ("QUIT", true),
        ("STARTTLS", usable.starttls),
        ("AUTH", commands.auth),
        ("XCLIENT", usable.xclient),
    ];
    let listed = listed.into_iter().filter(|(_, is_usable)| *is_usable).map(|(command, _)| command);
    let own: &[String] = if usable.own_verbs { commands.own_verbs } else { &[] };
    let (mut lines, mut line) = (String::new(), String::from("2.0.0 Commands:"));
    for command in listed.chain(own.iter().map(String::as_str)) {
        if line.len() + command.len() > MAX_TEXT_OCTETS {
            lines = lines + "214-" + &line + "\r\n";
            line = String::from("2.0.0");
        }
        line.push(' ');
        line.push_str(command);
    }
    format!("{lines}214 {line}; see RFC 5321\r\n")
}

/// RFC 5321, section 4.5.3.1.5 has 512 for a whole line, with the code, and with the end of the last one.
const MAX_TEXT_OCTETS: usize = 480;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_finds_its_own() {
        let own_verbs = [String::from("XFOO")];
        let replies = HelpReplies::new(&Commands { lmtp: false, chunking: false, auth: false, own_verbs: &own_verbs });
        for bits in 0..16 {
            let has = |bit: u8| bits & bit != 0;
            let usable = Usable { expn: has(1), own_verbs: has(2), starttls: has(4), xclient: has(8) };
            let reply = replies.get(HelpReplies::find(usable));
            for (command, listed) in [("EXPN", has(1)), ("XFOO", has(2)), ("STARTTLS", has(4)), ("XCLIENT", has(8))] {
                assert_eq!(reply.contains(command), listed, "{reply}");
            }
        }
    }
}
