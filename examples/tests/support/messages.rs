//! The messages that the tests send, and the places where they end up.

use std::path::Path;

/// The message that a careless client or server would not carry unchanged.
pub(crate) struct Awkward;

impl Awkward {
    pub(crate) const REVERSE_PATH: &str = "tim@example.org";
    pub(crate) const RECIPIENT: &str = "friend@example.org";

    /// Lines that begin with dots, octets above 127 that are no UTF-8 either, blanks at line ends, an empty line at
    /// the end, and a line of the longest length that RFC 5321, section 4.5.3.1.6 allows.
    pub(crate) fn content() -> Vec<u8> {
        let mut content = b"From: Tim <tim@example.org>\r\n\
            To: friend@example.org\r\n\
            Subject: .\r\n\
            Date: Tue, 01 Apr 2025 12:00:00 +0000\r\n\
            Message-ID: <1@example.org>\r\n\
            MIME-Version: 1.0\r\n\
            Content-Type: text/plain; charset=utf-8\r\n\
            Content-Transfer-Encoding: 8bit\r\n\
            \r\n\
            .\r\n\
            ..\r\n\
            .hidden\r\n\
            Gr\xc3\xbc\xc3\x9fe \xff\xfe\r\n\
            blanks \t\r\n"
            .to_vec();
        content.extend_from_slice(&b"0123456".repeat(998 / 7));
        content.extend_from_slice(b"0123\r\n.\r\nend\r\n\r\n");
        content
    }

    /// The same for clients that add a line end.
    pub(crate) fn content_without_last_line_end() -> Vec<u8> {
        let mut content = Self::content();
        content.truncate(content.len() - 2);
        content
    }

    /// Checks that a file of a Maildir holds the message to the octet, and above it nothing but trace headers: of
    /// ESMTP, under TLS, authenticated (RFC 3848).
    pub(crate) fn assert_delivered(file: &[u8]) {
        let shown = String::from_utf8_lossy(file);
        let trace = file.strip_suffix(&Self::content()[..]).unwrap_or_else(|| panic!("changed on the way:\n{shown}"));
        let trace = std::str::from_utf8(trace).expect("the trace is ASCII");
        let rest = trace.strip_prefix("Return-Path: <tim@example.org>\r\nDelivered-To: friend@example.org\r\n");
        let received = rest.and_then(|rest| rest.strip_prefix("Received: from ")).unwrap_or_else(|| panic!("{shown}"));
        assert!(received.contains(" with ESMTPSA id ") && received.contains("using TLSv1"), "{shown}");
        assert!(received.lines().skip(1).all(|line| line.starts_with('\t')), "{shown}");
    }
}

/// Messages that no server accepts, each for a reason of its own, with the reply's code. All of them say `void`.
pub(crate) fn voids() -> Vec<(Vec<u8>, &'static str)> {
    vec![
        (b"Subject: void\r\n\r\nvo\nid\r\n".to_vec(), "554 5.6.11 "),
        (b"\nvoid\r\n".to_vec(), "554 5.6.11 "),
        (b"Subject: void\r\n\r\nvo\rid\r\n".to_vec(), "554 5.6.11 "),
        (b"Subject: void\r\n\r\nvoid\0\r\n".to_vec(), "554 5.6.11 "),
    ]
}

/// A message with a line that is too long for a server with the usual limits.
pub(crate) fn long_line() -> Vec<u8> {
    [b"Subject: void\r\n\r\n", &b"void".repeat(20_000)[..], b"\r\n"].concat()
}

/// A message that tells its number, different in content and length from every other.
pub(crate) fn numbered(number: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number as u64);
    let mut content = format!(
        "{NUMBER}{number}\r\nDate: Tue, 01 Apr 2025 12:00:00 +0000\r\nMessage-ID: <{number}@example.org>\r\n\r\n"
    )
    .into_bytes();
    for _ in 0..random.usize(..400) {
        let length = random.usize(..80);
        content.extend(std::iter::repeat_with(|| random.choice(*b".ab \xe4").unwrap_or(b'.')).take(length));
        content.extend_from_slice(b"\r\n");
    }
    content
}

/// The number of a message that [`numbered`] made, below whatever trace headers.
///
/// # Panics
/// Where it is not the whole message, octet for octet.
pub(crate) fn number_of(received: &[u8]) -> usize {
    let shown = String::from_utf8_lossy(received);
    let line = shown.lines().find_map(|line| line.strip_prefix(NUMBER)).unwrap_or_else(|| panic!("{shown}"));
    let number = line.parse().unwrap_or_else(|_| panic!("{shown}"));
    assert!(received.ends_with(&numbered(number)), "message {number} was changed on the way");
    number
}

/// The messages in a Maildir.
pub(crate) fn maildir(directory: &Path) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(directory.join("new")).expect("there is a Maildir");
    files.map(|entry| std::fs::read(entry.expect("it can be listed").path()).expect("a message can be read")).collect()
}

/// How many messages wait in a spool.
pub(crate) fn spooled(directory: &Path) -> usize {
    let files = std::fs::read_dir(directory.join("queue")).expect("there is a spool");
    files.filter_map(Result::ok).filter(|entry| entry.path().extension().is_some_and(|end| end == "json")).count()
}

const NUMBER: &str = "X-Number: ";
