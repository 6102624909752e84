//! Properties over generated sessions: cuts make no difference, nothing panics or spins, contents and
//! paths and replies come out as they went in, and no omission is a yes.

#![expect(
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test that goes wrong may stop here, and a match names what it is about"
)]

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::{collection::vec, option};

use sansmtp::{
    Action, Answer, Auth, AuthResult, Config, Connection, EnhancedCode, Hooks, Newlines, NotAsked, Peer, Quirks, Reply,
    Verdict,
};

#[path = "support/driver.rs"]
mod driver;
#[path = "support/reference.rs"]
mod reference;

use driver::Setting;

// ---------------------------------------------------------------------------------------------------
// Sessions

fn setting() -> impl Strategy<Value = Setting> {
    let rare = || proptest::bool::weighted(0.2);
    let often = || proptest::bool::weighted(0.8);
    (
        (any::<bool>(), any::<bool>(), rare(), often(), any::<bool>(), rare(), rare()),
        (any::<bool>(), any::<bool>(), rare(), rare(), any::<bool>(), any::<bool>()),
        vec(any::<u8>(), 1..8),
    )
        .prop_map(|(first, second, answers)| {
            let (starttls, tls_from_start, tls_required, auth, auth_requires_tls, auth_required, handler_takes_all) =
                first;
            let (smtputf8, convert, quirks, small_limits, hooks, ends) = second;
            Setting {
                starttls,
                tls_from_start,
                tls_required,
                auth,
                auth_requires_tls,
                auth_required,
                handler_takes_all,
                smtputf8,
                convert,
                quirks,
                small_limits,
                hooks,
                ends,
                answers,
            }
        })
}

/// A command line, good or bad, without its end.
fn command() -> impl Strategy<Value = Vec<u8>> {
    let known = select(vec![
        "EHLO client.example",
        "HELO client.example",
        "EHLO",
        "EHLO [127.0.0.1]",
        "ehlo under_score",
        "EHLO (none) \t <x> \u{e9}",
        "EHLO a\u{2028}b",
        "LHLO x",
        "MAIL FROM:<alice@example.com>",
        "MAIL FROM:<>",
        "mail from:<alice@example.com> size=50 body=8bitmime",
        "MAIL FROM:<alice@example.com> SIZE=99999999999",
        "MAIL FROM:<a@b.example> AUTH=<>",
        "MAIL FROM: <a@b.example>",
        "MAIL\tFROM:<\"a  b\"@b.example>  \tSIZE=1",
        "MAIL FROM:<a..b.@b_c>",
        "RCPT TO:<root>",
        "MAIL FROM:<a@b.example> AUTH=e+3Dmc2@example.com",
        "MAIL FROM:<j\u{fc}rg@b\u{fc}cher.example> SMTPUTF8",
        "MAIL FROM:<\"a b\"@[IPv6:::1]> X=1",
        "MAIL FROM:a@b.example",
        "MAIL",
        "RCPT TO:<bob@example.org>",
        "RCPT TO:<bob@example.org>",
        "RCPT TO:<Postmaster>",
        "RCPT TO:<@a,@b:c@d>",
        "RCPT TO:bob@example.org",
        "RCPT TO:<bob@example.org> NOTIFY=NEVER",
        "RCPT TO:<j\u{fc}rg@example.org>",
        "DATA",
        "DATA",
        "DATA x",
        "RSET",
        "RSET x",
        "NOOP",
        "NOOP a b",
        "VRFY bob",
        "VRFY",
        "EXPN list",
        "HELP",
        "HELP MAIL",
        "VRFY  bob\tSMTPUTF8",
        "QUIT",
        "QUIT now",
        "STARTTLS",
        "starttls ",
        "STARTTLS now",
        "XYZZY",
        "",
        " ",
        ".",
        "..",
        "*",
        "=",
        "GET / HTTP/1.1",
        "AUTH PLAIN AHRpbQBwdw==",
        "auth plain AHRpbQBwdw==",
        "AUTH PLAIN",
        "AUTH PLAIN =",
        "AUTH PLAIN A",
        "AUTH",
        "AUTH LOGIN",
        "AUTH LOGIN dGlt",
        "AUTH LOGIN =",
        "AUTH X-TURNS",
        "AUTH X-TURNS =",
        "AUTH X-TURNS dGlt",
        "AUTH SCRAM-SHA-256",
        "AUTH SCRAM-SHA-256 biwsbj10aW0scj1hYmM=",
        "AUTH GSSAPI",
        "AUTH PLAIN a b",
        "AHRpbQBwdw==",
        "dXJzZWwAdGltAHB3",
        "dGlt",
        "cHc=",
        "AAA=",
        "c2VjcmV0",
        "biwsbj10aW0scj1hYmM=",
    ])
    .prop_map(|line| line.as_bytes().to_vec());
    let long = (
        select(vec!["NOOP ", "MAIL FROM:<a@b.example> AUTH=", "AUTH PLAIN ", "EHLO ", "VRFY ", "", "A"]),
        500..1_200usize,
    )
        .prop_map(|(start, length)| [start.as_bytes(), &vec![b'A'; length]].concat());
    let enormous = (select(vec!["AUTH PLAIN ", "AUTH ", "", "AUTH"]), 12_260..12_300usize)
        .prop_map(|(start, length)| [start.as_bytes(), &vec![b'A'; length]].concat());
    prop_oneof![40 => known, 2 => long, 1 => enormous, 2 => vec(any::<u8>(), 0..20)]
}

/// Content with what line ends and dots can do.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => Just(b"\r\n".to_vec()),
        3 => Just(b".".to_vec()),
        2 => Just(b"\r".to_vec()),
        2 => Just(b"\n".to_vec()),
        1 => Just(b"\0".to_vec()),
        4 => "[a-z ]{1,12}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..4),
    ];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// Content that a receiver takes, but for its size.
fn clean_content() -> impl Strategy<Value = Vec<u8>> {
    vec("\\.{0,3}[a-z \u{e9}]{0,30}", 0..6)
        .prop_map(|lines| lines.iter().flat_map(|line| [line.as_bytes(), b"\r\n"].concat()).collect())
}

/// A few flights of octets: command lines, exchanges, contents, all of it bent here and there.
fn octets() -> impl Strategy<Value = Vec<u8>> {
    let line_end =
        prop_oneof![30 => Just(&b"\r\n"[..]), 1 => Just(&b"\n"[..]), 1 => Just(&b"\r"[..]), 1 => Just(&b"\r\r\n"[..])];
    let line = (command(), line_end).prop_map(|(line, end)| [&line, end].concat());
    let transaction = (content(), any::<bool>()).prop_map(|(content, helo)| {
        let hello = if helo { "HELO a\r\n" } else { "EHLO a\r\n" };
        let commands = "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n";
        [hello.as_bytes(), commands.as_bytes(), &content, b"\r\n.\r\n"].concat()
    });
    let login = select(vec![
        "EHLO a\r\nAUTH PLAIN AHRpbQBwdw==\r\n",
        "EHLO a\r\nAUTH PLAIN dXJzZWwAdGltAHB3\r\n",
        "EHLO a\r\nAUTH LOGIN\r\ndGlt\r\ncHc=\r\n",
        "EHLO a\r\nSTARTTLS\r\nEHLO a\r\n",
        "EHLO a\r\nAUTH X-TURNS\r\ndGlt\r\ncHc=\r\n",
        "EHLO a\r\nSTARTTLS\r\nEHLO a\r\nAUTH PLAIN\r\nAHRpbQBwdw==\r\n",
    ])
    .prop_map(|lines| lines.as_bytes().to_vec());
    let part = prop_oneof![20 => line, 3 => transaction, 3 => login, 1 => content()];
    let mutation = (any::<Index>(), prop_oneof![Just(None), any::<u8>().prop_map(Some)]);
    (vec(part, 1..20), vec(mutation, 0..3)).prop_map(|(parts, mutations)| {
        let mut octets = parts.concat();
        for (at, change) in mutations {
            if !octets.is_empty() {
                let at = at.index(octets.len());
                match change {
                    Some(octet) => octets[at] = octet,
                    None => drop(octets.remove(at)),
                }
            }
        }
        octets
    })
}

fn check_cuts(setting: &Setting, octets: &[u8], cuts: &[Index]) -> Result<(), TestCaseError> {
    let mut cuts = cuts.iter().cycle();
    setting
        .check(octets, |left| cuts.next().map_or(left, |cut| cut.index(left.max(1)) + 1))
        .map_err(TestCaseError::fail)
}

proptest! {
    #![proptest_config(cases(1_500))]

    #[test]
    fn cuts_make_no_difference_to_a_session(
        setting in setting(), octets in octets(), cuts in vec(any::<Index>(), 1..20)
    ) {
        check_cuts(&setting, &octets, &cuts)?;
    }

    #[test]
    fn cuts_make_no_difference_to_random_octets(
        setting in setting(), octets in vec(any::<u8>(), 0..400), cuts in vec(any::<Index>(), 1..20)
    ) {
        check_cuts(&setting, &octets, &cuts)?;
    }

    #[test]
    fn cuts_make_no_difference_to_random_octets_of_smtp(
        setting in setting(),
        octets in vec(select(b"\r\n\r\n\r\n\0. :<>@=*+AEHLODTaehlodt01\x16\xc3\xbc".to_vec()), 0..300),
        cuts in vec(any::<Index>(), 1..20),
    ) {
        let octets = [b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\n", &octets[..]].concat();
        check_cuts(&setting, &octets, &cuts)?;
    }
}

/// So many cases, unless `PROPTEST_CASES` says otherwise.
fn cases(cases: u32) -> ProptestConfig {
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() { default } else { ProptestConfig { cases, ..default } }
}

// ---------------------------------------------------------------------------------------------------
// Contents

proptest! {
    #![proptest_config(cases(10_000))]

    #[test]
    fn content_is_what_the_reference_makes_of_it(
        content in content(), convert in any::<bool>(), cut in 1..40usize, ends in any::<bool>()
    ) {
        let end: &[u8] = if ends { b"\r\n.\r\n" } else { b"" };
        let newlines = if convert { Newlines::Convert } else { Newlines::Refuse };
        let rules = reference::Rules { newlines, max_octets: 10_000, max_line_octets: 10_000 };
        reference::check(&[&content, end].concat(), rules, cut).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn content_within_limits_is_what_the_reference_makes_of_it(
        content in content(), clean in clean_content(), is_clean in any::<bool>(), convert in any::<bool>(),
        cut in 1..40usize, max_octets in 1..60usize, max_line_octets in 1..40usize,
    ) {
        let content = if is_clean { clean } else { content };
        let newlines = if convert { Newlines::Convert } else { Newlines::Refuse };
        let rules = reference::Rules { newlines, max_octets, max_line_octets };
        reference::check(&[&content[..], b"\r\n.\r\n"].concat(), rules, cut).map_err(TestCaseError::fail)?;
    }

    /// What a sender stuffs comes out as it was.
    #[test]
    fn transparency_is_transparent(lines in vec("\\.{0,3}[a-z \u{e9}.]{0,30}", 0..8), cut in 1..60usize) {
        let message: Vec<u8> = lines.iter().flat_map(|line| [line.as_bytes(), b"\r\n"].concat()).collect();
        let stuffed: Vec<u8> = lines
            .iter()
            .flat_map(|line| [if line.starts_with('.') { &b"."[..] } else { b"" }, line.as_bytes(), b"\r\n"].concat())
            .collect();
        let config = Config::builder("mx.example.org").hooks(Hooks::MESSAGE).build().expect("a sound configuration");
        let delivered = reference::deliver(&config, &[&stuffed[..], b".\r\n"].concat(), cut);
        prop_assert_eq!((delivered.code, delivered.accepted), (Some(250), Some(message.len() as u64)));
        prop_assert_eq!(delivered.content, message);
    }
}

/// Every content of up to eight octets from those that matter: no combination is left to chance.
#[test]
fn short_contents_are_what_the_reference_makes_of_them() {
    const OCTETS: [u8; 5] = *b"\r\n.\0x";
    for newlines in [Newlines::Refuse, Newlines::Convert] {
        let rules = reference::Rules { newlines, max_octets: 1_000, max_line_octets: 1_000 };
        for length in 0..=6u32 {
            for number in 0..5u32.pow(length) {
                let octet = |place| OCTETS[(number / 5u32.pow(place) % 5) as usize];
                let content: Vec<u8> = (0..length).map(octet).chain(*b"\r\n.\r\n").collect();
                for cut in [1, 2, usize::MAX] {
                    reference::check(&content, rules, cut).unwrap_or_else(|error| panic!("{error}"));
                }
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------
// Replies

fn enhanced(class: u8) -> impl Strategy<Value = Option<(u8, u16, u16)>> {
    option::of((Just(class), 0..1000u16, 0..1000u16))
}

proptest! {
    #![proptest_config(cases(5_000))]

    #[test]
    fn replies_survive_the_wire(
        (code, parts) in (select(vec![2u8, 4, 5]), 0..100u16).prop_flat_map(|(class, rest)| {
            (Just(u16::from(class) * 100 + rest), enhanced(class))
        }),
        lines in vec("[ -~\u{e9}\u{4e2d}\t]{0,60}", 1..5),
    ) {
        let enhanced = parts.map(|(class, subject, detail)| EnhancedCode::new(class, subject, detail).expect("in range"));
        // A line that reads as an enhanced status code without being one is another matter, below.
        let lines = match enhanced {
            Some(_) => lines,
            None => lines.iter().map(|line| line.trim_start_matches(|first: char| first.is_ascii_digit()).to_owned()).collect(),
        };
        let reply = Reply::new(code, enhanced, &lines.join("\n")).expect("a good reply");
        prop_assert_eq!(reply.code(), code);
        prop_assert_eq!(reply.enhanced_code(), enhanced);

        // RFC 5321, section 4.2.1, and RFC 2034, section 4: read back as a client would.
        let wire = std::str::from_utf8(reply.as_bytes()).expect("UTF-8");
        let prefix = enhanced.map(|enhanced| format!("{enhanced} ")).unwrap_or_default();
        let read: Vec<&str> = wire.strip_suffix("\r\n").expect("CRLF").split("\r\n").collect();
        prop_assert_eq!(read.len(), lines.len());
        for (index, (read, line)) in read.iter().zip(&lines).enumerate() {
            let separator = if index + 1 == lines.len() { ' ' } else { '-' };
            prop_assert_eq!(*read, &format!("{code}{separator}{prefix}{line}"));
        }

        if lines.len() == 1 {
            let parsed: Reply = reply.to_string().parse().expect("what was written can be read");
            prop_assert_eq!(parsed, reply);
        }
    }

    #[test]
    fn any_reply_that_is_made_is_well_formed(code in any::<u16>(), text in "\\PC{0,40}|[\r\n\0-\x1fa]{0,8}|[0-9.]{0,8} ?x") {
        if let Ok(reply) = Reply::new(code, None, &text) {
            let wire = reply.as_bytes();
            prop_assert!(wire.ends_with(b"\r\n"));
            for line in wire.strip_suffix(b"\r\n").unwrap_or_default().split(|&octet| octet == b'\n') {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                prop_assert!(line.len() <= 510 && !line.iter().any(|octet| octet.is_ascii_control() && *octet != b'\t'));
                prop_assert!(line.starts_with(code.to_string().as_bytes()) && matches!(line[3], b' ' | b'-'));
            }
        }
        if let Ok(reply) = text.parse::<Reply>() {
            prop_assert_eq!(reply.to_string().parse::<Reply>(), Ok(reply));
        }
    }
}

/// "No code can contradict its enhanced status code", the documentation of `Reply` says.
#[test]
fn an_enhanced_code_in_the_text_cannot_contradict_the_code() {
    assert!(Reply::new(250, None, "5.7.1 No").is_err());
    assert!(Reply::new(250, EnhancedCode::new(2, 0, 0).expect("a good code"), "5.7.1 is text here").is_ok());
}

// ---------------------------------------------------------------------------------------------------
// Paths and parameters

fn label() -> impl Strategy<Value = String> {
    prop_oneof![9 => "[a-zA-Z0-9]([a-zA-Z0-9-]{0,10}[a-zA-Z0-9])?", 1 => "[a-z0-9][a-z0-9-]{61}[a-z0-9]"]
}

fn domain() -> impl Strategy<Value = String> {
    vec(label(), 1..4).prop_map(|labels| labels.join("."))
}

/// RFC 5321, section 4.1.3.
fn literal() -> impl Strategy<Value = String> {
    let number = || {
        prop_oneof![
            (0..=255u8).prop_map(|number| number.to_string()),
            (0..=255u8).prop_map(|number| format!("{number:03}"))
        ]
    };
    let v4 = (number(), number(), number(), number()).prop_map(|(a, b, c, d)| format!("{a}.{b}.{c}.{d}"));
    let hex = || "[0-9a-fA-F]{1,4}";
    let full = vec(hex(), 8).prop_map(|groups| groups.join(":"));
    let compressed =
        (vec(hex(), 0..4), vec(hex(), 0..3)).prop_map(|(left, right)| left.join(":") + "::" + &right.join(":"));
    let tail = (0..=255u8, 0..=255u8, 0..=255u8, 0..=255u8).prop_map(|(a, b, c, d)| format!("{a}.{b}.{c}.{d}"));
    let with_v4 = (vec(hex(), 6), tail).prop_map(|(groups, v4)| groups.join(":") + ":" + &v4);
    let v6 = prop_oneof![full, compressed, with_v4].prop_map(|address| format!("IPv6:{address}"));
    let general = "[a-z0-9][a-z0-9-]{0,5}[a-z0-9]:[!-Z^-~]{1,12}"
        .prop_filter("not another kind", |text| !text.starts_with("ipv6:"));
    prop_oneof![v4, v6, general].prop_map(|address| format!("[{address}]"))
}

fn local_part() -> impl Strategy<Value = String> {
    let dot_string = vec("[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]{1,12}", 1..4).prop_map(|atoms| atoms.join("."));
    let quoted = vec(prop_oneof![5 => "[ !#-\\[\\]-~]".prop_map(|text| text), 1 => "\\\\[ -~]"], 0..10)
        .prop_map(|text| format!("\"{}\"", text.concat()));
    prop_oneof![3 => dot_string, 1 => quoted.boxed()]
}

fn mailbox() -> impl Strategy<Value = String> {
    (local_part(), prop_oneof![3 => domain(), 1 => literal()])
        .prop_map(|(local_part, domain)| format!("{local_part}@{domain}"))
}

/// Runs commands, accepting whatever is asked, and gives the connection and the code of each reply.
fn run(config: &Arc<Config>, octets: &str) -> (Connection, Vec<u16>) {
    let mut connection = Connection::new(Arc::clone(config), Peer::local());
    let (mut input, mut codes) = (octets.as_bytes(), Vec::new());
    loop {
        match connection.poll(Duration::ZERO, &mut input) {
            Action::Reply(reply) => codes.push(reply.code()),
            Action::CallAuthenticator(request) => {
                let answer = request.answer(AuthResult::accept());
                connection.answer(answer).expect("it was asked");
            }
            Action::NeedInput { .. } | Action::Close => return (connection, codes),
            Action::Flush { .. } | Action::Event(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn with_auth(hooks: Hooks) -> Arc<Config> {
    let auth = Auth::new().require_tls(false);
    Config::builder("mx.example.org").auth(auth).hooks(hooks).build().expect("a sound configuration")
}

/// RFC 3461, section 4.
fn xtext(text: &str, encode_more: &[bool]) -> String {
    let mut more = encode_more.iter().cycle();
    let encode = |octet: u8| match octet {
        b'!'..=b'*' | b','..=b'<' | b'>'..=b'~' if !*more.next().unwrap_or(&false) => char::from(octet).to_string(),
        _ => format!("+{octet:02X}"),
    };
    text.bytes().map(encode).collect()
}

proptest! {
    #![proptest_config(cases(5_000))]

    #[test]
    fn valid_paths_are_taken_and_come_back_verbatim(
        reverse in mailbox(), forward in vec(mailbox(), 1..4), route in vec(domain(), 0..3)
    ) {
        let route = match route.is_empty() {
            true => String::new(),
            false => route.iter().map(|domain| format!("@{domain}")).collect::<Vec<_>>().join(",") + ":",
        };
        // RFC 5321, section 4.5.3.1.
        prop_assume!(route.len() + reverse.len() <= 254 && forward.iter().all(|path| route.len() + path.len() <= 254));
        let mut octets = format!("EHLO a\r\nMAIL FROM:<{route}{reverse}>\r\n");
        for path in &forward {
            octets = octets + "RCPT TO:<" + &route + path + ">\r\n";
        }
        let config = Config::builder("mx.example.org").build().expect("a sound configuration");
        let (connection, codes) = run(&config, &octets);
        prop_assert!(codes[1..].iter().all(|code| *code == 250), "{:?} {}", codes, octets);
        let envelope = connection.envelope();
        prop_assert_eq!(envelope.reverse_path().map(|path| path.as_str()), Some(&*reverse));
        prop_assert_eq!(envelope.forward_paths().map(|path| path.as_str().to_owned()).collect::<Vec<_>>(), forward);
        for path in envelope.forward_paths().chain(envelope.reverse_path()) {
            prop_assert_eq!(format!("{}@{}", path.local_part(), path.domain().unwrap_or("?")), path.as_str());
            prop_assert_eq!(path.to_string(), format!("<{}>", path.as_str()));
        }
    }

    /// Nothing that could break out of an envelope's text gets into one.
    #[test]
    fn what_is_taken_for_a_path_is_harmless(text in "[ -~\u{e9}\t]{0,40}", quirks in any::<bool>(), smtputf8 in any::<bool>()) {
        let quirks = Quirks { bare_paths: quirks, space_after_colon: quirks, ..Quirks::default() };
        let config = Config::builder("mx.example.org").quirks(quirks).smtputf8(smtputf8).build().expect("sound");
        let octets = format!("EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<{text}>\r\nRCPT TO:{text}\r\nRCPT TO:<a@{text}>\r\nRCPT TO:<\"{text}\"@b>\r\n");
        let (connection, codes) = run(&config, &octets);
        prop_assert_eq!(codes.len(), 7);
        let accepted = codes[3..].iter().filter(|code| **code == 250).count();
        prop_assert_eq!(connection.envelope().forward_paths().len(), accepted);
        for path in connection.envelope().forward_paths() {
            prop_assert!(!path.as_str().chars().any(char::is_control) && path.as_str().is_ascii());
            prop_assert!(path.domain().is_some_and(|domain| !domain.contains([' ', '<', '>', '"'])), "{}", path);
            prop_assert!(path.local_part().starts_with('"') || !path.local_part().contains([' ', '<', '>', '"', '@']), "{}", path);
        }
    }

    #[test]
    fn the_auth_parameter_survives_xtext(mailbox in mailbox(), encode_more in vec(any::<bool>(), 1..10)) {
        let encoded = xtext(&mailbox, &encode_more);
        prop_assume!(encoded.len() <= 490);
        let login = "EHLO a\r\nAUTH PLAIN AHRpbQBwdw==\r\n";
        let (connection, codes) = run(&with_auth(Hooks::NONE), &format!("{login}MAIL FROM:<a@b.example> AUTH={encoded}\r\n"));
        prop_assert_eq!(codes, [220, 250, 235, 250], "{}", encoded);
        prop_assert_eq!(connection.envelope().auth(), Some(&*mailbox));
        // RFC 4954, section 5: nobody is believed who has not logged in.
        let (connection, codes) = run(&with_auth(Hooks::NONE), &format!("EHLO a\r\nMAIL FROM:<a@b.example> AUTH={encoded}\r\n"));
        prop_assert_eq!(codes, [220, 250, 250]);
        prop_assert_eq!(connection.envelope().auth(), Some(""));
    }
}

/// RFC 5321, section 4.1.3: the IPv4 part of an IPv6 literal is made of `Snum` too, `1*3DIGIT`.
#[test]
fn an_ipv4_tail_may_have_leading_zeros() {
    let config = Config::builder("mx.example.org").build().expect("a sound configuration");
    let (_, codes) = run(&config, "EHLO a\r\nMAIL FROM:<a@[IPv6:::ffff:127.000.000.001]>\r\n");
    assert_eq!(codes, [220, 250, 250]);
}

// ---------------------------------------------------------------------------------------------------
// Questions that are answered oddly

#[derive(Clone, Copy, Debug)]
enum Oddly {
    /// At once, as it should be.
    Accept,
    Refuse,
    /// Never, and the question is dropped.
    Drop,
    /// By an answer that is dropped.
    DropAnswer,
    /// When its time is over.
    Late,
    /// Never: it is kept.
    Keep,
    /// With a yes to the question that another connection asks.
    WithAnothers,
    /// From another thread, which has it while the connection is polled.
    OnThread,
    /// Dropped on another thread.
    DropOnThread,
    /// With one that was kept from before.
    WithKept,
}

fn oddly() -> impl Strategy<Value = Oddly> {
    use Oddly::{Accept, Drop, DropAnswer, DropOnThread, Keep, Late, OnThread, Refuse, WithAnothers, WithKept};
    select(vec![Accept, Refuse, Drop, DropAnswer, Late, Keep, WithAnothers, OnThread, DropOnThread, WithKept, WithKept])
}

/// Asks another connection's question of the same kind, and answers it with yes.
fn anothers(authenticator: bool) -> Answer {
    let hooks = if authenticator { Hooks::NONE } else { Hooks::ALL };
    let mut other = Connection::new(with_auth(hooks), Peer::local());
    let mut input: &[u8] = b"EHLO a\r\nAUTH PLAIN AHRpbQBwdw==\r\n";
    loop {
        match other.poll(Duration::ZERO, &mut input) {
            Action::CallAuthenticator(request) => return request.answer(AuthResult::accept()),
            Action::CallHook(call) => return call.answer(Verdict::Accept),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn no_odd_answer_is_a_yes(oddities in vec(oddly(), 1..12), hooks in any::<bool>(), accept in any::<bool>()) {
        let hooks = if hooks { Hooks::ALL } else { Hooks::MAIL };
        let mut connection = Connection::new(with_auth(hooks), Peer::local());
        let mut oddities = oddities.iter().copied().cycle();
        let mut input: &[u8] = b"EHLO a\r\nAUTH PLAIN AHRpbQBwdw==\r\nMAIL FROM:<a@b.example>\r\nNOOP\r\nAUTH LOGIN dGlt\r\ncHc=\r\n\
            AUTH PLAIN AHRpbQBwdw==\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n";
        let (mut now, mut yeses, mut kept, mut threads): (_, usize, Vec<Answer>, Vec<std::thread::JoinHandle<()>>) =
            (Duration::ZERO, 0, Vec::new(), Vec::new());
        // What the last question was about, and whether it was given a yes.
        let mut granted = true;
        let mut late: Option<Answer> = None;
        for _ in 0..300 {
            let (answer, is_authenticator) = match connection.poll(now, &mut input) {
                Action::CallAuthenticator(request) => {
                    let result = if accept { AuthResult::accept() } else { AuthResult::refuse() };
                    (request.answer(result), true)
                }
                Action::CallHook(call) => (call.answer(Verdict::Accept), false),
                Action::Reply(reply) => {
                    match reply.code() {
                        235 => {
                            prop_assert!(yeses > 0, "235 without a yes");
                            yeses -= 1;
                        }
                        220 | 250 | 354 => prop_assert!(granted, "{} without a yes", reply),
                        _ => {}
                    }
                    // Commands that no hook is asked about succeed by themselves.
                    granted = true;
                    continue;
                }
                Action::AwaitAnswer { deadline } => {
                    prop_assert!(deadline > now);
                    // Every thread that has an answer or a question has let go of it by now.
                    for thread in threads.drain(..) {
                        thread.join().expect("no panic");
                    }
                    now = deadline;
                    continue;
                }
                Action::Pause { until } => {
                    now = until;
                    continue;
                }
                Action::NeedInput { .. } | Action::Close => break,
                Action::Flush { .. } | Action::Challenge(_) | Action::Event(_) | Action::Content(_) | Action::Aborted(_) => {
                    // The time of a late answer has come and gone.
                    if let Some(answer) = late.take() {
                        prop_assert_eq!(connection.answer(answer), Err(NotAsked));
                    }
                    continue;
                }
                other => panic!("{other:?}"),
            };
            granted = false;
            if let Some(answer) = late.take() {
                prop_assert_eq!(connection.answer(answer), Err(NotAsked), "late");
            }
            let count = usize::from(is_authenticator && accept);
            match oddities.next().unwrap_or(Oddly::Drop) {
                Oddly::Accept | Oddly::Refuse if !is_authenticator => {
                    granted = true;
                    prop_assert_eq!(connection.answer(answer), Ok(()));
                }
                Oddly::Accept | Oddly::Refuse => {
                    (granted, yeses) = (true, yeses + count);
                    prop_assert_eq!(connection.answer(answer), Ok(()));
                }
                Oddly::Drop | Oddly::DropAnswer => drop(answer),
                Oddly::Late => {
                    now = deadline(&mut connection, now, &mut input);
                    late = Some(answer);
                }
                Oddly::Keep => kept.push(answer),
                Oddly::WithAnothers => {
                    prop_assert_eq!(connection.answer(anothers(is_authenticator)), Err(NotAsked));
                    prop_assert_eq!(connection.answer(anothers(!is_authenticator)), Err(NotAsked));
                    kept.push(answer);
                }
                Oddly::OnThread => {
                    let sent = std::thread::spawn(move || answer).join().expect("no panic");
                    (granted, yeses) = (true, yeses + count);
                    prop_assert_eq!(connection.answer(sent), Ok(()));
                }
                Oddly::DropOnThread => threads.push(std::thread::spawn(move || drop(answer))),
                Oddly::WithKept => {
                    for old in kept.drain(..) {
                        prop_assert_eq!(connection.answer(old), Err(NotAsked), "kept");
                    }
                    // The newest question is not hurt by what becomes of the older ones.
                    (granted, yeses) = (true, yeses + count);
                    prop_assert_eq!(connection.answer(answer), Ok(()));
                }
            }
        }
        let logged_in = connection.session().is_authenticated();
        prop_assert!(!logged_in || accept);
    }
}

/// When the time of the open question is over.
fn deadline(connection: &mut Connection, now: Duration, input: &mut &[u8]) -> Duration {
    if let Action::AwaitAnswer { deadline } = connection.poll(now, input) {
        return deadline;
    }
    match connection.poll(now, input) {
        Action::AwaitAnswer { deadline } => deadline,
        other => panic!("an open question is waited for, not {other:?}"),
    }
}
