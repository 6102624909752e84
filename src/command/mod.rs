//! Command lines (RFC 5321, section 4.1).

pub(crate) mod date_time;
pub(crate) mod parameters;
pub(crate) mod path;
pub(crate) mod xtext;

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

/// Splits a line into its verb, in any case, and its arguments. White space before the CRLF is
/// tolerated (RFC 5321, section 4.1.1).
pub(crate) fn split(line: &[u8]) -> (Verb, &[u8]) {
    let line = trim_end(line);
    let end = memchr::memchr(b' ', line).unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    (verb(word), rest.get(1..).unwrap_or_default())
}

fn verb(word: &[u8]) -> Verb {
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

pub(crate) fn trim_end(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|octet| !matches!(octet, b' ' | b'\t')).map_or(0, |last| last + 1);
    line.get(..end).unwrap_or_default()
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
        assert_eq!(split(b"QUIT \t "), (Verb::Quit, &b""[..]));
        assert_eq!(split(b"starttls"), (Verb::StartTls, &b""[..]));
        assert_eq!(split(b"xClient ADDR=192.0.2.1"), (Verb::XClient, &b"ADDR=192.0.2.1"[..]));
        assert_eq!(split(b"STARTTLSX").0, Verb::Unknown);
        assert_eq!(split(b"AUTH\x0bPLAIN").0, Verb::Unknown);
        assert_eq!(split(b"").0, Verb::Unknown);
        assert_eq!(split(b" NOOP").0, Verb::Unknown);
    }

    #[test]
    fn http_is_recognised_by_its_request_line() {
        assert!(is_http(b"GET / HTTP/1.1"));
        assert!(!is_http(b"GET / "));
        assert!(!is_http(b"HELO HTTP/1.1"));
    }
}
