//! Every fixed reply of the engine, in one place, as it goes over the wire.
//!
//! RFC 2034, section 4: an enhanced status code begins the text of every 2xx, 4xx and 5xx reply but
//! the greeting and the replies to HELO and EHLO.

/// A fixed reply, CRLF included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Canned(pub(crate) &'static str);

macro_rules! canned {
    ($($name:ident = $text:literal;)*) => {
        $(pub(crate) const $name: Canned = Canned(concat!($text, "\r\n"));)*

        #[cfg(test)]
        pub(crate) const ALL: &[(&str, &str)] = &[$((stringify!($name), $text)),*];
    };
}

canned! {
    // 2xx and 3xx
    RESET = "250 2.0.0 Reset";
    NOOP = "250 2.0.0 Ok";
    MAIL_OK = "250 2.1.0 Reverse-path ok";
    RCPT_OK = "250 2.1.5 Forward-path ok";
    CHUNK_OK = "250 2.0.0 Chunk accepted";
    MESSAGE_OK = "250 2.0.0 Message accepted";
    VRFY = "252 2.5.0 Cannot verify the user, but will accept the message and attempt delivery";
    START_TLS = "220 2.0.0 Ready to start TLS";
    AUTHENTICATED = "235 2.7.0 Authentication successful";
    EMPTY_CHALLENGE = "334 ";
    DATA_START = "354 End data with <CRLF>.<CRLF>";

    // 4xx
    SHUTTING_DOWN = "421 4.3.2 The server is shutting down";
    NOT_GREETED = "421 Temporary failure, try again later";
    TIMEOUT = "421 4.4.2 Timeout, closing the connection";
    TOO_MANY_AUTH_FAILURES = "421 4.7.0 Too many failed authentication attempts";
    TOO_MANY_CANCELLED = "421 4.7.0 Too many unfinished authentication exchanges";
    TOO_MANY_COMMANDS = "421 4.7.0 Too many commands";
    TOO_MANY_ERRORS = "421 4.7.0 Too many errors";
    TOO_MANY_TRANSACTIONS = "421 4.7.0 Too many mail transactions";
    TOO_MANY_UNRECOGNIZED = "421 4.7.0 Too many unrecognized commands";
    PASSWORD_TRANSITION = "432 4.7.12 A password transition is needed";
    NOT_ANSWERED = "451 4.3.0 Temporary failure, try again later";
    NO_MESSAGE_HANDLER = "451 4.3.5 Nothing here takes messages";
    TOO_MANY_RECIPIENTS = "452 4.5.3 Too many recipients";
    TOO_MANY_ATTEMPTS = "454 4.7.0 Too many failed attempts, try again later";
    TOO_MANY_UNFINISHED = "454 4.7.0 Too many unfinished authentication exchanges, try again later";
    AUTH_UNAVAILABLE = "454 4.7.0 Temporary authentication failure";

    // 5xx: syntax
    UNRECOGNIZED = "500 5.5.1 Command not recognized";
    EMPTY_LINE = "500 5.5.2 Syntax error: empty line";
    BAD_LINE = "500 5.5.2 Syntax error: commands are printable ASCII";
    BAD_CHARACTER = "501 5.5.2 Syntax error: arguments are printable ASCII";
    BARE_NEWLINE = "500 5.5.2 Syntax error: lines end in CRLF only";
    LINE_TOO_LONG = "500 5.5.2 Line too long";
    AUTH_LINE_TOO_LONG = "500 5.5.6 Authentication exchange line is too long";
    HELLO_ARGUMENT = "501 Give your domain or address literal";
    NO_ARGUMENT_ALLOWED = "501 5.5.4 This command takes no argument";
    ARGUMENT_REQUIRED = "501 5.5.4 An argument is missing";
    MAIL_SYNTAX = "501 5.5.4 Syntax: MAIL FROM:<reverse-path> [parameters]";
    RCPT_SYNTAX = "501 5.5.4 Syntax: RCPT TO:<forward-path> [parameters]";
    BDAT_SYNTAX = "501 5.5.4 Syntax: BDAT octets [LAST]";
    AUTH_SYNTAX = "501 5.5.4 Syntax: AUTH mechanism [initial-response]";
    BAD_REVERSE_PATH = "501 5.1.7 Bad reverse-path syntax";
    BAD_FORWARD_PATH = "501 5.1.3 Bad forward-path syntax";
    BAD_PARAMETER = "501 5.5.4 Bad or repeated parameter";
    XCLIENT_SYNTAX = "501 5.5.4 Syntax: XCLIENT attribute=value ...";
    BAD_ATTRIBUTE = "501 5.5.4 Unknown, repeated or malformed attribute";
    BAD_BASE64 = "501 5.5.2 The response is not valid base64";
    MALFORMED_RESPONSE = "501 5.5.2 The response is not what the mechanism expects";
    INITIAL_RESPONSE_NOT_ALLOWED = "501 5.7.0 The mechanism takes no initial response";
    AUTH_CANCELLED = "501 5.7.0 Authentication cancelled";
    UNKNOWN_PARAMETER = "555 5.5.4 Parameter not recognized or not implemented";

    // 5xx: sequence and policy
    NOT_IMPLEMENTED = "502 5.5.1 Command not implemented";
    TURNED_AWAY = "503 5.5.1 Only QUIT is answered here";
    SAY_HELLO_FIRST = "503 5.5.1 Say EHLO or HELO first";
    SAY_LHLO_FIRST = "503 5.5.1 Say LHLO first";
    SAY_EHLO_FIRST = "503 5.5.1 Say EHLO first";
    NESTED_MAIL = "503 5.5.1 A mail transaction is in progress";
    NO_RECIPIENTS_LMTP = "503 5.5.1 No valid recipients";
    CHUNKED = "503 5.5.1 DATA and BDAT do not mix in a transaction";
    BINARY_BY_BDAT = "503 5.5.1 BODY=BINARYMIME needs BDAT";
    MAIL_FIRST = "503 5.5.1 MAIL first";
    TLS_ACTIVE = "503 5.5.1 TLS is active already";
    AUTHENTICATED_ALREADY = "503 5.5.1 Authenticated already";
    AUTH_IN_TRANSACTION = "503 5.5.1 AUTH is not permitted during a mail transaction";
    UNKNOWN_MECHANISM = "504 5.5.4 Unrecognized authentication type";
    AUTH_REQUIRED = "530 5.7.0 Authentication required";
    TLS_REQUIRED = "530 5.7.0 Must issue a STARTTLS command first";
    MECHANISM_TOO_WEAK = "534 5.7.9 Authentication mechanism is too weak";
    BAD_CREDENTIALS = "535 5.7.8 Authentication credentials invalid";
    ENCRYPTION_REQUIRED = "538 5.7.11 Encryption required for requested authentication mechanism";
    MESSAGE_TOO_BIG = "552 5.3.4 Message size exceeds fixed maximum message size";
    XCLIENT_NOT_AUTHORIZED = "550 5.7.0 Not authorized to use XCLIENT";
    NON_ASCII_REVERSE_PATH = "550 5.6.7 Non-ASCII addresses need the SMTPUTF8 parameter";
    NON_ASCII_FORWARD_PATH = "553 5.6.7 Non-ASCII addresses need the SMTPUTF8 parameter";
    NO_RECIPIENTS = "554 5.5.1 No valid recipients";
    CLEAR_AFTER_STARTTLS = "554 5.5.0 Octets in the clear behind STARTTLS";
    NOT_SMTP = "554 5.5.1 This port speaks SMTP";
    BAD_CONTENT = "554 5.6.11 The content holds a NUL, or CR or LF on its own";
    CONTENT_LINE_TOO_LONG = "554 5.6.0 The content holds a line that is too long";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::Reply;

    #[test]
    fn every_canned_reply_is_one_that_an_embedder_could_have_made() {
        for (name, text) in ALL {
            // 354 and 334 are the intermediate replies; RFC 2034 gives no enhanced code to 3xx.
            let bare = matches!(*name, "HELLO_ARGUMENT" | "NOT_GREETED") || text.starts_with('3');
            let reply: Reply = text.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(reply.enhanced_code().is_none(), bare, "{name}");
        }
    }
}
