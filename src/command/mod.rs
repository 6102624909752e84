//! Command lines (RFC 5321, section 4.1).

pub(crate) mod client_name;
pub(crate) mod date_time;
pub(crate) mod parameters;
pub(crate) mod path;
pub(crate) mod xtext;

use crate::secret::Secret;

/// The commands that the engine knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Helo,
    Ehlo,
    Lhlo,
    Mail,
    Rcpt,
    Data,
    Bdat,
    Rset,
    Noop,
    Vrfy,
    Expn,
    Help,
    Quit,
    StartTls,
    Auth,
    XClient,
    Unknown,
}

impl Verb {
    /// As the RFCs write it.
    pub(crate) fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::Helo => "HELO",
            Self::Ehlo => "EHLO",
            Self::Lhlo => "LHLO",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Bdat => "BDAT",
            Self::Rset => "RSET",
            Self::Noop => "NOOP",
            Self::Vrfy => "VRFY",
            Self::Expn => "EXPN",
            Self::Help => "HELP",
            Self::Quit => "QUIT",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::XClient => "XCLIENT",
            Self::Unknown => return None,
        })
    }
}

/// Splits a line into its verb, in any case, and its arguments.
pub(crate) fn split(line: &[u8]) -> (Verb, &[u8]) {
    let word = first_word(line);
    (verb(word), line.get(word.len() + 1..).unwrap_or_default())
}

/// What stands in front of the first space.
pub(crate) fn first_word(line: &[u8]) -> &[u8] {
    let end = memchr::memchr(b' ', line).unwrap_or(line.len());
    line.get(..end).unwrap_or_default()
}

/// The command that `word` names, in any case.
pub(crate) fn verb(word: &[u8]) -> Verb {
    let Ok(mut upper) = <[u8; 4]>::try_from(word) else {
        return match word.len() {
            7 if word.eq_ignore_ascii_case(b"XCLIENT") => Verb::XClient,
            8 if word.eq_ignore_ascii_case(b"STARTTLS") => Verb::StartTls,
            _ => Verb::Unknown,
        };
    };
    upper.make_ascii_uppercase();
    match &upper {
        b"HELO" => Verb::Helo,
        b"EHLO" => Verb::Ehlo,
        b"LHLO" => Verb::Lhlo,
        b"MAIL" => Verb::Mail,
        b"RCPT" => Verb::Rcpt,
        b"DATA" => Verb::Data,
        b"BDAT" => Verb::Bdat,
        b"RSET" => Verb::Rset,
        b"NOOP" => Verb::Noop,
        b"VRFY" => Verb::Vrfy,
        b"EXPN" => Verb::Expn,
        b"HELP" => Verb::Help,
        b"QUIT" => Verb::Quit,
        b"AUTH" => Verb::Auth,
        _ => Verb::Unknown,
    }
}

/// The line without the white space at its end, which is tolerated (RFC 5321, section 4.1.1).
pub(crate) fn trim_end(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|octet| !matches!(octet, b' ' | b'\t')).map_or(0, |last| last + 1);
    line.get(..end).unwrap_or_default()
}

/// Whether the line has more white space than one space between its words: several in a row, or a tab.
pub(crate) fn is_loose(line: &[u8]) -> bool {
    memchr::memchr2_iter(b' ', b'\t', line).any(|at| line.get(at) == Some(&b'\t') || line.get(at + 1) == Some(&b' '))
}

/// The line with one space for each run of white space between its words. RFC 5321 has exactly one there
/// (section 4.1.1); servers in the field read any run as one, and clients rely on it.
///
/// What stands in a quoted string is left alone: there each space is a character of its own. A string
/// begins where a word or a path does; a quote further in (`ENVID=a"b`) is a character like others.
pub(crate) fn squeeze(line: &[u8]) -> Secret {
    // The line may hold a password.
    let mut squeezed = Secret::with_capacity(line.len());
    let (mut quoted, mut escaped, mut last) = (false, false, None);
    for &octet in line {
        if quoted {
            quoted = escaped || octet != b'"';
            escaped = !escaped && octet == b'\\';
        } else if matches!(octet, b' ' | b'\t') {
            if last != Some(b' ') {
                squeezed.extend(b" ");
            }
            last = Some(b' ');
            continue;
        } else {
            quoted = octet == b'"' && matches!(last, Some(b' ' | b':' | b'<'));
        }
        squeezed.extend(&[octet]);
        last = Some(octet);
    }
    squeezed
}

/// Whether all of it is printable ASCII. Without an early exit, it is done sixteen octets at a time.
pub(crate) fn is_printable(text: &[u8]) -> bool {
    text.iter().fold(true, |printable, octet| printable & matches!(octet, b' '..=b'~'))
}

/// Whether the line is an HTTP request: somebody found the wrong port, or a web page was made to
/// speak SMTP through a browser.
pub(crate) fn is_http(line: &[u8]) -> bool {
    let method = line.split(|&octet| octet == b' ').next().unwrap_or_default();
    let known: [&[u8]; 8] = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"PATCH"];
    known.contains(&method) && memchr::memmem::find(line, b" HTTP/").is_some()
}

/// Whether the argument of VRFY or EXPN has the parameter that allows UTF-8 in the reply (RFC 6531, section 3.7.4.2).
pub(crate) fn ends_with_smtputf8(argument: &[u8]) -> bool {
    let mut words = argument.rsplit(|&octet| octet == b' ');
    words.next().is_some_and(|word| word.eq_ignore_ascii_case(b"SMTPUTF8")) && words.next().is_some()
}

/// Takes the keyword that leads the path, `FROM:` or `TO:`, off the arguments of MAIL and RCPT.
pub(crate) fn after_keyword<'l>(arguments: &'l [u8], keyword: &[u8], spaces_allowed: bool) -> Option<&'l [u8]> {
    let (word, rest) = arguments.split_at_checked(keyword.len())?;
    if !word.eq_ignore_ascii_case(keyword) {
        return None;
    }
    if spaces_allowed {
        let spaces = rest.iter().take_while(|&&octet| octet == b' ').count();
        return rest.get(spaces..);
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_known_in_any_case_and_only_whole() {
        assert_eq!(split(b"mAiL FROM:<>"), (Verb::Mail, &b"FROM:<>"[..]));
        assert_eq!(split(trim_end(b"QUIT \t ")), (Verb::Quit, &b""[..]));
        assert_eq!(split(b"starttls"), (Verb::StartTls, &b""[..]));
        assert_eq!(split(b"xClient ADDR=192.0.2.1"), (Verb::XClient, &b"ADDR=192.0.2.1"[..]));
        assert_eq!(split(b"STARTTLSX").0, Verb::Unknown);
        assert_eq!(split(b"AUTH\x0bPLAIN").0, Verb::Unknown);
        assert_eq!(split(b"").0, Verb::Unknown);
        assert_eq!(split(b" NOOP").0, Verb::Unknown);
    }

    #[test]
    fn white_space_in_a_row_is_one_space_but_in_quoted_strings() {
        for (line, squeezed) in [
            (&b"MAIL \t FROM:<a@b>\tSIZE=1  BODY=7BIT"[..], &b"MAIL FROM:<a@b> SIZE=1 BODY=7BIT"[..]),
            (b"RCPT  TO:<\"a  b\"@c>  X", b"RCPT TO:<\"a  b\"@c> X"),
            (b"RCPT TO:<\"a\\\"  b\"@c>  X", b"RCPT TO:<\"a\\\"  b\"@c> X"),
            (b"RCPT TO:<\"a\\\\\"@c>  X", b"RCPT TO:<\"a\\\\\"@c> X"),
            (b"RCPT TO:<@a:\"  \"@c>  X", b"RCPT TO:<@a:\"  \"@c> X"),
            (b"VRFY  \"Sam  Q.\"  SMTPUTF8", b"VRFY \"Sam  Q.\" SMTPUTF8"),
            (b"MAIL FROM:<a@b> ENVID=a\"b  RET=FULL", b"MAIL FROM:<a@b> ENVID=a\"b RET=FULL"),
            (b"NOOP \"never  closed", b"NOOP \"never  closed"),
            (b"  NOOP", b" NOOP"),
        ] {
            assert!(is_loose(line));
            assert_eq!(squeeze(line).expose_secret(), squeezed, "{}", line.escape_ascii());
        }
        assert!(!is_loose(b"MAIL FROM:<a@b> SIZE=1") && !is_loose(b""));
    }

    #[test]
    fn http_is_recognised_by_its_request_line() {
        assert!(is_http(b"GET / HTTP/1.1"));
        assert!(!is_http(b"GET / "));
        assert!(!is_http(b"HELO HTTP/1.1"));
    }
}
