//! Commands: which may be given when (RFC 5321, section 4.1.4), and what each does.

use alloc::string::String;
use core::time::Duration;

use super::hooks::Asked;
use super::{About, Connection, Lapsed, Outgoing, Stage};
use crate::action::AbortReason;
use crate::canned::{self, Canned};
use crate::command::parameters::{self, BadParameters, MailParameters, Offered};
use crate::command::path::{self, Kind, PathSpan};
use crate::command::{self, Verb, client_name};
use crate::config::{Events, Hooks};
use crate::ehlo::Listed;
use crate::envelope::Body;
use crate::event::{CloseReason, ReachedLimit};
use crate::help::{HelpReplies, Usable};
use crate::session::Greeting;

impl Connection {
    /// Carries a command line out. `nothing_follows` says whether the input ends with it.
    pub(super) fn execute(&mut self, now: Duration, line: &[u8], nothing_follows: bool) {
        let line = command::trim_end(line);
        if command::is_loose(line) {
            self.execute_tidy(now, command::squeeze(line).expose_secret(), nothing_follows);
        } else {
            self.execute_tidy(now, line, nothing_follows);
        }
    }

    /// The same with one space between words, and none at the end.
    fn execute_tidy(&mut self, now: Duration, line: &[u8], nothing_follows: bool) {
        let (verb, arguments) = command::split(line);
        let verb = self.spoken(verb);
        self.counts.commands = self.counts.commands.saturating_add(1);
        if self.config.limits.max_commands.is_some_and(|most| self.counts.commands > most) {
            self.give_up(AbortReason::Reset, CloseReason::Limit);
            self.tell_limit(ReachedLimit::Commands);
            return self.say(canned::TOO_MANY_COMMANDS);
        }
        self.about = Some(About::Command(verb));
        if let Some(reply) = self.bad_octets(verb, line) {
            if verb == Verb::Auth {
                self.malformed_auth_command(reply);
            } else {
                self.say(reply);
            }
            return;
        }
        if verb != Verb::Unknown {
            self.counts.unrecognized = 0;
        }
        // RFC 2920, section 3.2: only replies to RSET, MAIL and RCPT may wait for more of their group.
        self.flush_due = !matches!(verb, Verb::Rset | Verb::Mail | Verb::Rcpt);
        let forbidden = self.forbidden(verb);
        if verb == Verb::Bdat {
            return self.bdat(arguments, forbidden);
        }
        if let Some(reply) = forbidden {
            self.say(reply);
            return;
        }
        match verb {
            Verb::Helo => self.hello(Greeting::Helo, arguments),
            Verb::Ehlo => self.hello(Greeting::Ehlo, arguments),
            Verb::Lhlo => self.hello(Greeting::Lhlo, arguments),
            Verb::Mail => self.mail(arguments),
            Verb::Rcpt => self.rcpt(arguments),
            Verb::Data => self.data(arguments),
            Verb::Rset => self.ask_without_argument(Asked::Reset, arguments),
            Verb::Noop => self.ask(Asked::Noop, arguments),
            Verb::Vrfy => self.ask_with_argument(Asked::Verify, arguments),
            Verb::Expn => self.ask_with_argument(Asked::Expand, arguments),
            Verb::Help => self.ask(Asked::Help, arguments),
            Verb::Quit => self.ask_without_argument(Asked::Quit, arguments),
            Verb::StartTls => self.start_tls(arguments, nothing_follows),
            Verb::Auth => self.auth(now, arguments),
            // Taken above, whatever stands in its way.
            Verb::Bdat => {}
            Verb::XClient => self.xclient(arguments),
            Verb::Unknown if command::is_http(line) => self.say_and_close(canned::NOT_SMTP, CloseReason::ProtocolAbuse),
            Verb::Unknown => self.own_verb(line),
        }
    }

    /// A command that the engine does not know, and its embedder may: for whom it is, as with the engine's own.
    /// RFC 5321, section 4.1.4 wants EHLO before mail transactions only.
    fn own_verb(&mut self, line: &[u8]) {
        let is_known = self.hooks.contains(Hooks::UNKNOWN);
        match self.unserved(true, true).filter(|_| is_known && !self.config.is_open(line)) {
            Some(reply) => self.count_unrecognized(reply),
            None => self.ask(Asked::Unknown, line),
        }
    }

    /// What keeps the client from a command that needs TLS, or a login, where the server requires those.
    fn unserved(&self, needs_tls: bool, needs_login: bool) -> Option<Canned> {
        // RFC 3207, section 4.
        if needs_tls && self.config.tls_required && !self.session.is_under_tls() {
            return Some(canned::TLS_REQUIRED);
        }
        // RFC 4954, section 6.
        let refused = needs_login && self.config.auth_required && !self.session.is_authenticated();
        refused.then_some(canned::AUTH_REQUIRED)
    }

    /// The command, if it is one of the protocol and the extensions that are spoken here.
    fn spoken(&self, verb: Verb) -> Verb {
        let is_spoken = match verb {
            // RFC 2033, section 4.1.
            Verb::Helo | Verb::Ehlo => !self.config.lmtp,
            Verb::Lhlo => self.config.lmtp,
            Verb::Bdat => self.config.extensions.chunking,
            Verb::XClient => self.config.xclient.is_some(),
            Verb::Mail
            | Verb::Rcpt
            | Verb::Data
            | Verb::Rset
            | Verb::Noop
            | Verb::Vrfy
            | Verb::Expn
            | Verb::Help
            | Verb::Quit
            | Verb::StartTls
            | Verb::Auth
            | Verb::Unknown => true,
        };
        if is_spoken { verb } else { Verb::Unknown }
    }

    /// A line with octets that no command has is thrown away whole. What is said of it depends on
    /// whether there is a command in it (RFC 5321, section 4.1.2: invalid character codes are 501).
    fn bad_octets(&self, verb: Verb, line: &[u8]) -> Option<Canned> {
        if command::is_printable(line) {
            return line.is_empty().then_some(canned::EMPTY_LINE);
        }
        if line.contains(&b'\r') {
            return Some(canned::BARE_NEWLINE);
        }
        if verb == Verb::Unknown || line.contains(&0) {
            return Some(canned::BAD_LINE);
        }
        let hello = matches!(verb, Verb::Helo | Verb::Ehlo | Verb::Lhlo);
        if line.iter().any(u8::is_ascii_control) {
            return Some(if hello { canned::HELLO_ARGUMENT } else { canned::BAD_CHARACTER });
        }
        // The client's name may have them: it is looked at where it is read.
        if hello {
            return None;
        }
        // Octets beyond ASCII are 500 without an extension that says otherwise (section 2.4). With it,
        // paths are looked at where they are read.
        if !self.config.smtputf8 {
            return Some(canned::BAD_LINE);
        }
        let has_path = matches!(verb, Verb::Mail | Verb::Rcpt);
        (!has_path && core::str::from_utf8(line).is_err()).then_some(canned::BAD_CHARACTER)
    }

    /// What stands in the way of a command, whatever its arguments are.
    fn forbidden(&self, verb: Verb) -> Option<Canned> {
        if self.turned_away && verb != Verb::Quit {
            return Some(canned::TURNED_AWAY);
        }
        // RFC 3207, section 4. AUTH has a reply of its own for this, XCLIENT is a proxy's, and what nobody knows
        // is 500.
        let needs_tls = !matches!(
            verb,
            Verb::Ehlo | Verb::Noop | Verb::Quit | Verb::StartTls | Verb::Auth | Verb::XClient | Verb::Unknown
        );
        if let Some(refusal) = self.unserved(needs_tls, false) {
            return Some(refusal);
        }
        let transaction = matches!(verb, Verb::Mail | Verb::Rcpt | Verb::Data | Verb::Bdat);
        if transaction && self.session.greeting().is_none() {
            return Some(if self.config.lmtp { canned::SAY_LHLO_FIRST } else { canned::SAY_HELLO_FIRST });
        }
        let needs_login = transaction || matches!(verb, Verb::Vrfy | Verb::Expn | Verb::Help);
        self.unserved(false, needs_login)
    }

    /// No policy should rest on what a client calls itself, so that nearly any name will do.
    fn hello(&mut self, greeting: Greeting, name: &[u8]) {
        // Old devices write their owner's language in an encoding of their own.
        let name = String::from_utf8_lossy(name);
        let strict = self.config.strict_client_names;
        if !client_name::is_taken(&name) || strict && !client_name::is_valid(&name) {
            return self.say(canned::HELLO_ARGUMENT);
        }
        self.ask(Asked::Hello(greeting), name.as_bytes());
    }

    /// The reply to HELO or EHLO. What it lists is what could be used right now.
    pub(super) fn hello_reply(&mut self, greeting: Greeting) -> Outgoing {
        if greeting == Greeting::Helo {
            return Outgoing::Helo;
        }
        let listed = Listed {
            starttls: self.config.starttls && !self.session.is_under_tls(),
            under_tls: self.session.is_under_tls(),
            xclient: self.xclient_listed(),
            mechanisms: match &self.config.auth {
                Some(auth) if self.session.auth_hidden(&self.config).is_none() => auth.listed(&self.session),
                Some(_) | None => 0,
            },
        };
        if let Some(usual) = self.config.ehlo.find(listed) {
            return Outgoing::Ehlo(usual);
        }
        self.out.clear();
        self.config.ehlo.compose(listed, &mut self.out);
        Outgoing::Composed
    }

    /// The reply to HELP. What it lists is what could be used right now.
    pub(super) fn help_reply(&self) -> Outgoing {
        Outgoing::Help(HelpReplies::find(Usable {
            expn: self.hooks.contains(Hooks::EXPN),
            own_verbs: self.hooks.contains(Hooks::UNKNOWN),
            starttls: self.config.starttls && !self.session.is_under_tls(),
            xclient: !self.xclient_listed().is_empty(),
        }))
    }

    fn mail(&mut self, arguments: &[u8]) {
        if self.envelope.is_open() {
            return self.say(canned::NESTED_MAIL);
        }
        if self.config.limits.max_transactions.is_some_and(|most| self.counts.transactions >= most) {
            self.tell_limit(ReachedLimit::Transactions);
            return self.say_and_close(canned::TOO_MANY_TRANSACTIONS, CloseReason::Limit);
        }
        let quirks = self.config.quirks;
        let Some(path) = command::after_keyword(arguments, b"FROM:", quirks.space_after_colon) else {
            return self.say(canned::MAIL_SYNTAX);
        };
        let Some((span, used)) = path::parse(path, Kind::Reverse, self.path_rules()) else {
            return self.say(canned::BAD_REVERSE_PATH);
        };
        let parameters = match parameters::mail(path.get(used..).unwrap_or_default(), self.offered()) {
            Ok(parameters) => parameters,
            Err(bad) => return self.say(bad.reply()),
        };
        if let Some(reply) = self.unacceptable(path, span, parameters) {
            return self.say(reply);
        }
        // RFC 4954, section 5: a client that has not authenticated is not believed.
        self.counts.transactions = self.counts.transactions.saturating_add(1);
        self.envelope.open(path, span, parameters, self.session.is_authenticated());
        self.ask(Asked::Mail, &[]);
    }

    fn offered(&self) -> Offered<'_> {
        Offered {
            auth: self.config.auth.is_some(),
            smtputf8: self.config.smtputf8,
            mailbox: self.path_rules(),
            extensions: &self.config.extensions,
            under_tls: self.session.is_under_tls(),
            extended: self.session.greeting().is_some_and(Greeting::is_extended),
        }
    }

    fn path_rules(&self) -> path::Rules {
        let quirks = self.config.quirks;
        path::Rules {
            brackets_optional: quirks.bare_paths,
            utf8: self.config.smtputf8,
            dots_anywhere: quirks.dots_in_local_parts,
            underscores: quirks.underscores_in_domains,
            unqualified: quirks.unqualified_paths,
        }
    }

    fn unacceptable(&self, path: &[u8], span: PathSpan, parameters: MailParameters<'_>) -> Option<Canned> {
        if !parameters.smtputf8 && !is_ascii(path, span) {
            return Some(canned::NON_ASCII_REVERSE_PATH);
        }
        if parameters.size.is_some_and(|size| size > self.config.limits.max_message_octets) {
            return Some(canned::MESSAGE_TOO_BIG);
        }
        None
    }

    fn rcpt(&mut self, arguments: &[u8]) {
        if !self.envelope.is_open() {
            return self.say(canned::MAIL_FIRST);
        }
        let quirks = self.config.quirks;
        let Some(path) = command::after_keyword(arguments, b"TO:", quirks.space_after_colon) else {
            return self.say(canned::RCPT_SYNTAX);
        };
        let Some((span, used)) = path::parse(path, Kind::Forward, self.path_rules()) else {
            return self.say(canned::BAD_FORWARD_PATH);
        };
        let parameters = match parameters::rcpt(path.get(used..).unwrap_or_default(), self.offered()) {
            Ok(parameters) => parameters,
            Err(bad) => return self.say(bad.reply()),
        };
        if !self.envelope.is_smtputf8() && !is_ascii(path, span) {
            return self.say(canned::NON_ASCII_FORWARD_PATH);
        }
        let has_room = self.envelope.recipients() < self.config.limits.max_recipients;
        if !has_room && !self.events.contains(Events::REFUSED) {
            self.tell_limit(ReachedLimit::Recipients);
            return self.say(canned::TOO_MANY_RECIPIENTS);
        }
        self.envelope.push_forward_path(path, span, parameters);
        if !has_room {
            // Only the event about it has to know whom.
            self.lapsed = Some(Lapsed::ForwardPath);
            self.tell_limit(ReachedLimit::Recipients);
            return self.say(canned::TOO_MANY_RECIPIENTS);
        }
        self.ask(Asked::Rcpt, &[]);
    }

    fn data(&mut self, arguments: &[u8]) {
        if !arguments.is_empty() {
            self.say(canned::NO_ARGUMENT_ALLOWED);
        } else if !self.envelope.is_open() {
            self.say(canned::MAIL_FIRST);
        } else if self.envelope.recipients() == 0 {
            self.say(self.no_recipients());
        } else if self.chunks.is_some() {
            self.say(canned::CHUNKED);
        } else if self.envelope.body() == Some(Body::BinaryMime) {
            self.say(canned::BINARY_BY_BDAT);
        } else {
            self.ask(Asked::Data, &[]);
        }
    }

    fn start_tls(&mut self, arguments: &[u8], nothing_follows: bool) {
        if !arguments.is_empty() {
            self.say(canned::NO_ARGUMENT_ALLOWED);
        } else if self.session.is_under_tls() {
            self.say(canned::TLS_ACTIVE);
        } else if !self.config.starttls {
            self.say(canned::NOT_IMPLEMENTED);
        } else if !nothing_follows {
            // CVE-2011-0411: octets that were put behind STARTTLS would be taken for the client's, said
            // under TLS.
            self.say_and_close(canned::CLEAR_AFTER_STARTTLS, CloseReason::ProtocolAbuse);
        } else {
            self.say(canned::START_TLS);
            self.stage = Stage::Upgrading { begun_until: None };
        }
    }

    fn ask_without_argument(&mut self, about: Asked, arguments: &[u8]) {
        if arguments.is_empty() {
            self.ask(about, &[]);
        } else {
            self.say(canned::NO_ARGUMENT_ALLOWED);
        }
    }

    fn ask_with_argument(&mut self, about: Asked, arguments: &[u8]) {
        if arguments.is_empty() {
            self.say(canned::ARGUMENT_REQUIRED);
        } else {
            self.ask(about, arguments);
        }
    }

    /// An unknown command is never echoed: a password out of step looks like one.
    pub(super) fn count_unrecognized(&mut self, reply: Canned) {
        self.counts.unrecognized = self.counts.unrecognized.saturating_add(1);
        if self.counts.unrecognized >= self.config.limits.max_unrecognized_commands {
            self.tell_limit(ReachedLimit::UnrecognizedCommands);
            self.say_and_close(canned::TOO_MANY_UNRECOGNIZED, CloseReason::Limit);
        } else {
            self.say(reply);
        }
    }
}

impl BadParameters {
    fn reply(self) -> Canned {
        match self {
            Self::Invalid => canned::BAD_PARAMETER,
            Self::Unknown => canned::UNKNOWN_PARAMETER,
        }
    }
}

fn is_ascii(line: &[u8], span: PathSpan) -> bool {
    line.get(span.start as usize..span.end as usize).is_some_and(<[u8]>::is_ascii)
}
