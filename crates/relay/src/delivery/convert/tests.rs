use std::io::Cursor;

use mail_parser::{Message, MessageParser, MessagePart, MimeHeaders, PartType};

use super::*;

/// What a message becomes, however it is cut into pieces.
fn converted(message: &[u8], seven_bit: bool) -> Result<Vec<u8>, Unconvertible> {
    let Some(plan) = Plan::of(Cursor::new(message), seven_bit).unwrap()? else { return Ok(message.to_vec()) };
    let convert = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut conversion, mut out) = (plan.conversion(), Vec::new());
        pieces.for_each(|piece| conversion.push(piece, &mut out));
        conversion.finish(&mut out);
        out
    };
    let whole = convert(&mut std::iter::once(message));
    for size in [1, 2, 3, 7, 64, 1000] {
        assert!(convert(&mut message.chunks(size)) == whole, "{size}: {}", message.escape_ascii());
    }
    assert_eq!(plan.octets, u64::try_from(whole.len()).unwrap());
    assert_eq!(plan.eight_bit, !whole.is_ascii());
    Ok(whole)
}

/// The edits, however the message comes in.
fn plans_the_same(message: &[u8], seven_bit: bool) {
    let plan = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut walk = Walk::new(seven_bit);
        pieces.for_each(|piece| walk.push(piece));
        format!("{:?}", walk.finish())
    };
    let whole = plan(&mut std::iter::once(message));
    for size in [1, 2, 3, 7, 1000, 1024] {
        assert!(plan(&mut message.chunks(size)) == whole, "{size}: {}", message.escape_ascii());
    }
}

fn to_seven_bit(message: &str) -> Result<String, Unconvertible> {
    plans_the_same(message.as_bytes(), true);
    converted(message.as_bytes(), true).map(|message| String::from_utf8(message).unwrap())
}

fn to_short_lines(message: &str) -> String {
    plans_the_same(message.as_bytes(), false);
    String::from_utf8(converted(message.as_bytes(), false).unwrap_or_else(|_| message.into())).unwrap()
}

#[test]
fn text_becomes_quoted_printable_and_anything_else_base64() {
    let header = "Received: by x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain;\r\n charset=utf-8\r\n";
    for encoding in ["8bit", "7bit", "binary", "8BIT (as it is)"] {
        let message = format!("{header}Content-Transfer-Encoding: {encoding}\r\nX: y\r\n\r\nGrüße\r\n\r\n");
        let expected =
            format!("{header}Content-Transfer-Encoding: quoted-printable\r\nX: y\r\n\r\nGr=C3=BC=C3=9Fe\r\n\r\n");
        assert_eq!(to_seven_bit(&message).unwrap(), expected);
    }
    assert_eq!(
        to_seven_bit(&format!("{header}\r\nGrüße")).unwrap(),
        format!("{header}Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe")
    );
    assert_eq!(
        to_seven_bit("MIME-Version: 1.0\r\nContent-Type: application/json\r\nContent-Transfer-Encoding:\r\n 8bit\r\n\r\n\"é\"\r\n").unwrap(),
        "MIME-Version: 1.0\r\nContent-Type: application/json\r\nContent-Transfer-Encoding: base64\r\n\r\nIsOpIg0K"
    );
}

#[test]
fn what_is_not_mime_becomes_that() {
    assert_eq!(
        to_seven_bit("Subject: x\r\n\r\né\r\n").unwrap(),
        "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\n=C3=A9\r\n"
    );
    assert_eq!(
        to_seven_bit("Content-Type: text/html\r\n\r\né\r\n").unwrap(),
        "Content-Type: text/html\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=A9\r\n"
    );
    let long = "x".repeat(1000);
    let short = to_short_lines(&format!("Subject: x\r\n\r\n{long}\r\n"));
    assert!(
        short.starts_with("Subject: x\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nxx")
    );
    assert_eq!(short.replace("=\r\n", "").split_once("\r\n\r\n").unwrap().1, format!("{long}\r\n"));
}

#[test]
fn text_of_which_nobody_says_what_it_is_may_look_like_utf_8() {
    for (text, charset) in [
        (&b"Gr\xc3\xbc\xc3\x9fe \xf0\x9f\x98\x80\r\n"[..], "utf-8"),
        (b"Gr\xfc\xdfe\r\n", "unknown-8bit"),
        (b"\xc3\xbc \xc3\r\n", "unknown-8bit"),
        (b"\xc3\xbc \xf0\x9f\x98", "unknown-8bit"),
        (b"\xc3\xbc \xfc", "unknown-8bit"),
    ] {
        let message = [b"Subject: x\r\n\r\n", text].concat();
        plans_the_same(&message, true);
        let out = String::from_utf8(converted(&message, true).unwrap()).unwrap();
        assert!(out.contains(&format!("\r\nContent-Type: text/plain; charset={charset}\r\n")), "{out}");
    }
}

#[test]
fn every_part_is_changed_that_needs_it_and_no_other() {
    let message = "Content-Type: multipart/mixed; boundary=\"out er\"\r\n\
        Content-Transfer-Encoding: 8bit\r\n\
        MIME-Version: 1.0\r\n\
        \r\n\
        nobody reads this\r\n\
        --out er\r\n\
        \r\n\
        as it is =\r\n\
        --out er \t\r\n\
        Content-Type: multipart/alternative; boundary=inner\r\n\
        Content-Transfer-Encoding: 8bit\r\n\
        \r\n\
        --inner\r\n\
        Content-Transfer-Encoding: 8bit\r\n\
        \r\n\
        only says so\r\n\
        --inner\r\n\
        Content-Type: text/html; charset=utf-8\r\n\
        Content-Transfer-Encoding: 8bit\r\n\
        X-After: x\r\n\
        \r\n\
        <p>é \r\n\
        --inner--\r\n\
        --out er\r\n\
        Content-Type: message/rfc822\r\n\
        Content-Transfer-Encoding: 8bit\r\n\
        \r\n\
        Subject: inside\r\n\
        \r\n\
        ü\r\n\
        \r\n\
        --out er\r\n\
        Content-Type: image/x; name=a\r\n\
        Content-Transfer-Encoding: 8bit\r\n\
        \r\n\
        é\r\n\
        --out er--\r\n\
        the end\r\n";
    let expected = "Content-Type: multipart/mixed; boundary=\"out er\"\r\n\
        Content-Transfer-Encoding: 7bit\r\n\
        MIME-Version: 1.0\r\n\
        \r\n\
        nobody reads this\r\n\
        --out er\r\n\
        \r\n\
        as it is =\r\n\
        --out er \t\r\n\
        Content-Type: multipart/alternative; boundary=inner\r\n\
        Content-Transfer-Encoding: 7bit\r\n\
        \r\n\
        --inner\r\n\
        Content-Transfer-Encoding: 7bit\r\n\
        \r\n\
        only says so\r\n\
        --inner\r\n\
        Content-Type: text/html; charset=utf-8\r\n\
        Content-Transfer-Encoding: quoted-printable\r\n\
        X-After: x\r\n\
        \r\n\
        <p>=C3=A9=20\r\n\
        --inner--\r\n\
        --out er\r\n\
        Content-Type: message/rfc822\r\n\
        Content-Transfer-Encoding: 7bit\r\n\
        \r\n\
        Subject: inside\r\n\
        MIME-Version: 1.0\r\n\
        Content-Type: text/plain; charset=utf-8\r\n\
        Content-Transfer-Encoding: quoted-printable\r\n\
        \r\n\
        =C3=BC\r\n\
        \r\n\
        --out er\r\n\
        Content-Type: image/x; name=a\r\n\
        Content-Transfer-Encoding: base64\r\n\
        \r\n\
        w6k=\r\n\
        --out er--\r\n\
        the end\r\n";
    assert_eq!(to_seven_bit(message).unwrap(), expected);
    assert_eq!(to_short_lines(message), message, "its lines are short");
    assert_eq!(to_seven_bit(expected).unwrap(), expected);
}

#[test]
fn parts_of_a_digest_are_messages() {
    let message = "MIME-Version: 1.0\r\nContent-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: x\r\n\r\né\r\n--b--\r\n";
    let out = to_seven_bit(message).unwrap();
    assert!(out.contains("--b\r\n\r\nSubject: x\r\nMIME-Version: 1.0\r\n"), "{out}");
}

#[test]
fn what_is_signed_stays_as_it_is() {
    let signed = "Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\né\r\n--s\r\n\
                  Content-Type: application/pgp-signature\r\n\r\nx\r\n--s--\r\n";
    let long = format!("Subject: x\r\nDKIM-Signature: v=1\r\n\r\n{}\r\n", "x ".repeat(600));
    for message in [
        "DKIM-Signature: v=1\r\n\r\né\r\n",
        "dkim-signature : v=1\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\né\r\n",
        signed,
        "Content-Type: application/pkcs7-mime; name=smime.p7m\r\nContent-Transfer-Encoding: binary\r\n\r\né\r\n",
        &format!("Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n{signed}--m--\r\n"),
        "Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\nContent-Type: message/rfc822\r\n\r\nDKIM-Signature: v=1\r\n\r\né\r\n--m--\r\n",
    ] {
        let error = to_seven_bit(message).unwrap_err();
        assert!(matches!(error, Unconvertible::Signed(_)), "{error:?}: {message}");
        assert_eq!(to_short_lines(message), message);
    }
    assert_eq!(to_short_lines(&long), long);
    // The header section of the message is not signed with the content.
    for content in [&signed.replace('é', "e"), "Content-Type: application/pkcs7-mime\r\n\r\nAAAA\r\n"] {
        let out = to_seven_bit(&format!("Subject: é\r\nMIME-Version: 1.0\r\n{content}")).unwrap();
        assert_eq!(out, format!("Subject: =?utf-8?Q?=C3=A9?=\r\nMIME-Version: 1.0\r\n{content}"));
        let long = format!("To: {}\r\n{content}", "a@b,\r\n ".repeat(3) + &"c@d, ".repeat(300));
        let out = to_short_lines(&long);
        assert!(
            out != long && out.ends_with(content) && out.replace("\r\n ", " ") == long.replace("\r\n ", " "),
            "{out}"
        );
    }
    // What stands beside the signed part may be changed.
    let message = format!(
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n{}--m\r\n\r\né\r\n--m--\r\n",
        signed.replace('é', "e")
    );
    let out = to_seven_bit(&message).unwrap();
    assert!(out.contains(&signed.replace('é', "e")) && out.contains("=C3=A9\r\n--m--"), "{out}");
}

#[test]
fn what_makes_no_sense_is_not_changed() {
    let multipart = |rest: &str| format!("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n{rest}");
    for (message, why) in [
        (multipart("\r\né\r\n--b\r\n\r\nx\r\n--b--\r\n"), "in a preamble"),
        (multipart("\r\n--b\r\n\r\nx\r\n--b--\r\né\r\n"), "in an epilogue"),
        (multipart("\r\n--b\r\n\r\nx\r\n--bc\r\n\r\né\r\n--b--\r\n"), "half a boundary"),
        (multipart("\r\n--b\r\nno header\r\n\r\né\r\n--b--\r\n"), "no header"),
        (multipart("Content-Transfer-Encoding: base64\r\n\r\n--b\r\n\r\né\r\n--b--\r\n"), "an encoded multipart"),
        (multipart("Content-Type: text/plain\r\n\r\né\r\n"), "two types"),
        (
            multipart("\r\n--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\né\r\n--b--\r\n"),
            "one boundary",
        ),
        (multipart("\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\né\r\n--b--\r\n"), "no encoding"),
        ("Content-Type: multipart/mixed\r\n\r\n--b\r\n\r\né\r\n".to_owned(), "no boundary"),
        ("Content-Transfer-Encoding: base64\r\n\r\né\r\n".to_owned(), "base64 that is none"),
        ("Content-Transfer-Encoding: quoted-printable\r\n\r\na=é\r\n".to_owned(), "quoted-printable that is none"),
        ("Content-Transfer-Encoding: x-mine\r\n\r\né\r\n".to_owned(), "an unknown encoding"),
        ("Subject: x\r\nand then\r\n\r\né\r\n".to_owned(), "no field"),
        (" Subject: x\r\n\r\né\r\n".to_owned(), "no field at the start"),
    ] {
        let error = to_seven_bit(&message).unwrap_err();
        assert!(matches!(error, Unconvertible::Malformed(_)), "{why}: {error:?}");
    }
    for field in ["References: <é>", "To: é@b", "Content-Transfer-Encoding: é", "Subject: =?utf-8?Q?a?= é"] {
        let name = field.split_once(':').unwrap().0.to_owned();
        assert_eq!(to_seven_bit(&format!("{field}\r\n\r\nx\r\n")), Err(Unconvertible::HeaderField(name)));
    }
    assert!(matches!(to_seven_bit("DKIM-Signature: v=1\r\nSubject: é\r\n\r\nx\r\n"), Err(Unconvertible::Signed(_))));
    for message in ["\r\né\n", "\r\n\né\r\n", "\r\né\r", "\r\n\ré\r\n", "\r\né\r\r\n"] {
        assert_eq!(to_seven_bit(message), Err(Unconvertible::BareLineEnd), "{message:?}");
    }
}

#[test]
fn nesting_without_end_is_not_followed() {
    let deep = |depth: usize| format!("{}\r\né\r\n", "Content-Type: message/rfc822\r\n\r\n".repeat(depth));
    assert!(to_seven_bit(&deep(40)).unwrap().ends_with("=C3=A9\r\n"));
    assert!(matches!(to_seven_bit(&deep(100)), Err(Unconvertible::Malformed(_))));
    let wide = |parts| {
        let parts = "--b\r\n\r\né\r\n".repeat(parts);
        format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{parts}--b--\r\n")
    };
    assert_eq!(to_seven_bit(&wide(1000)).unwrap().matches("=C3=A9\r\n--b").count(), 1000);
    assert!(matches!(to_seven_bit(&wide(5000)), Err(Unconvertible::Malformed(_))));
}

#[test]
fn encodings_are_mended_where_they_say_the_same_then() {
    let header = "MIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n";
    assert_eq!(
        to_seven_bit(&format!("{header}é=C3=A9=\r\n=20\r\n")).unwrap(),
        format!("{header}=C3=A9=C3=A9=\r\n=20\r\n")
    );
    let long = to_short_lines(&format!("{header}{}\r\n", "x=3D".repeat(500)));
    assert!(long.lines().all(|line| line.len() <= 76), "{long}");
    let header = "MIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\n";
    let long = to_short_lines(&format!("{header}{}\r\n", "QUJD".repeat(500)));
    assert_eq!(long.replace("\r\n", ""), format!("{header}{}", "QUJD".repeat(500)).replace("\r\n", ""));
    assert!(long.lines().all(|line| line.len() <= 76), "{long}");
}

#[test]
fn header_fields_become_ascii() {
    let long = "To: a@b,\r\n ".to_owned() + &"Jörg <j@b>, ".repeat(100);
    let message = format!(
        "Subject:\r\n a é\r\n b\r\n{long}c@d\r\nFrom: \"J. Übel\" <j@b>\r\nX-Plain: as it is\r\n\
         MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b; name=é\r\n\r\n--b\r\n\
         Content-Type: application/pdf;\r\n name=\"Übersicht.pdf\"\r\n\
         Content-Disposition: attachment; filename=\"Übersicht.pdf\"\r\n\
         Content-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--b--\r\n"
    );
    let out = to_seven_bit(&message).unwrap();
    assert!(out.is_ascii() && out.lines().all(|line| line.len() <= 998), "{out}");
    let [before, after] = [&message, &out].map(|text| MessageParser::default().parse(text).unwrap());
    assert_eq!(after.subject(), Some("a é b"));
    assert_eq!(after.to().unwrap().iter().filter(|to| to.name() == Some("Jörg")).count(), 100);
    assert_eq!(after.from(), before.from());
    assert!(out.contains("X-Plain: as it is\r\nMIME-Version: 1.0\r\n"));
    assert_eq!(after.attachment(0).unwrap().attachment_name(), Some("Übersicht.pdf"));
    assert_eq!(after.attachment(0).unwrap().content_type().unwrap().attribute("name"), Some("Übersicht.pdf"));
    assert_eq!(to_seven_bit(&out).unwrap(), out);
    assert!(Plan::of(Cursor::new(&message), false).unwrap().unwrap().is_some(), "its line is too long");
    assert!(to_short_lines(&message).contains("Jörg"));
    let endless = format!("{}\r\nx\r\n", format!("X-A: {}\r\n", "é".repeat(5000)).repeat(100));
    assert!(matches!(to_seven_bit(&endless), Err(Unconvertible::HeaderField(_))));
}

#[test]
fn a_header_section_without_content_becomes_ascii_too() {
    for (message, expected) in [
        ("Subject: é\r\n", "Subject: =?utf-8?Q?=C3=A9?=\r\n"),
        ("A: b\r\nSubject: é", "A: b\r\nSubject: =?utf-8?Q?=C3=A9?="),
        ("Subject: é\r\nA: b\r\n", "Subject: =?utf-8?Q?=C3=A9?=\r\nA: b\r\n"),
        (
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Description: é\r\n--b--\r\n",
            "Content-Type: multipart/mixed; boundary=b\r\nMIME-Version: 1.0\r\n\r\n--b\r\n\
             Content-Description: =?utf-8?Q?=C3=A9?=\r\n--b--\r\n",
        ),
    ] {
        assert_eq!(to_seven_bit(message).unwrap(), expected);
    }
    assert!(matches!(to_seven_bit("DKIM-Signature: v=1\r\nSubject: é\r\n"), Err(Unconvertible::Signed(_))));
}

#[test]
fn long_header_lines_are_folded_at_blanks() {
    let words = "word,  ".repeat(400);
    let message = format!("To: {words}x\r\nSubject: x\r\n\r\nbody\r\n");
    let folded = to_short_lines(&message);
    assert!(folded.lines().all(|line| line.len() <= 998 && !line.trim().is_empty() || line.is_empty()), "{folded}");
    assert_eq!(folded.replace("\r\n ", " "), message);
    assert_eq!(folded.matches("\r\n ").count(), 2);
    for as_it_is in [
        format!("To: {}\r\n\r\nx\r\n", "x".repeat(994)),
        format!("X-Long:{}\r\n\r\nx\r\n", "x".repeat(5000)),
        format!("X-Long:x{}\r\n\r\nx\r\n", " ".repeat(5000)),
        format!("DKIM-Signature: x\r\nTo: {words}\r\n\r\nx\r\n"),
    ] {
        assert_eq!(to_short_lines(&as_it_is), as_it_is);
    }
}

#[test]
fn header_lines_that_become_ascii_are_folded_too() {
    let others = "d.name@b.example, ".repeat(200);
    for field in ["To: Jörg <j@b>, ", "To: \"A, é\" <a@b>,\r\n ", "Subject: é ", "X-A: "] {
        let last = if field == "X-A: " { "é" } else { "c@d" };
        let message = format!("{field}{others}{last}\r\nMIME-Version: 1.0\r\n\r\nx\r\n");
        let out = to_seven_bit(&message).unwrap();
        assert!(out.is_ascii() && out.lines().all(|line| line.len() <= 998), "{out}");
        assert_eq!(out.replace("\r\n ", " ").matches("d.name@b.example, ").count(), 200, "{out}");
        assert_eq!(to_seven_bit(&out).unwrap(), out);
    }
    let part = |number: usize| format!("; n{number}=\"{}\"", "é".repeat(100));
    let message = format!("Content-Type: a/b{}{}{}\r\nMIME-Version: 1.0\r\n\r\nx\r\n", part(1), part(2), part(3));
    let out = to_seven_bit(&message).unwrap();
    assert!(out.is_ascii() && out.lines().all(|line| line.len() <= 998), "{out}");
}

#[test]
fn lines_of_998_octets_stay() {
    let with = |count| format!("MIME-Version: 1.0\r\n\r\n{}\r\nx\r\n", "x".repeat(count));
    assert_eq!(to_short_lines(&with(998)), with(998));
    assert_ne!(to_short_lines(&with(999)), with(999));
    let without_end = format!("MIME-Version: 1.0\r\n\r\n{}", "x".repeat(998));
    assert_eq!(to_short_lines(&without_end), without_end);
    assert_ne!(to_short_lines(&format!("{without_end}x")), format!("{without_end}x"));
}

/// What a reader gets to see: for each part its type, its header but for the encoding, and its decoded content.
fn seen(message: &[u8]) -> Vec<String> {
    let message = MessageParser::default().parse(message).unwrap();
    let mut all = Vec::new();
    look(&message, message.root_part(), &mut all);
    all
}

fn look(message: &Message<'_>, part: &MessagePart<'_>, seen: &mut Vec<String>) {
    seen.push(message.subject().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" "));
    let kind = part.content_type().map(|kind| (kind.ctype().to_owned(), kind.subtype().map(str::to_owned)));
    let names: Vec<_> = part
        .headers()
        .iter()
        .map(|header| header.name().to_owned())
        .filter(|name| !["Content-Transfer-Encoding", "MIME-Version"].contains(&name.as_str()))
        .collect();
    seen.push(format!("{kind:?} {names:?}"));
    match &part.body {
        PartType::Multipart(parts) => {
            for inner in parts {
                look(message, &message.parts[usize::try_from(*inner).unwrap()], seen);
            }
        }
        PartType::Message(inner) => look(inner, inner.root_part(), seen),
        PartType::Text(_) | PartType::Html(_) | PartType::Binary(_) | PartType::InlineBinary(_) => {
            // A reader may take the line end in front of a boundary for a part of the text, or not.
            seen.push(part.contents().trim_ascii_end().escape_ascii().to_string());
        }
    }
}

/// Writes messages of all kinds of parts.
struct Writer {
    random: fastrand::Rng,
    boundaries: usize,
}

impl Writer {
    fn entity(&mut self, is_message: bool, is_inner: bool, depth: usize) -> String {
        let mut header = String::new();
        if is_message {
            let subject = self.pick(&["x", "é", "an é and another é word", "ÿ\r\n  folded é"]);
            header.push_str(&format!("Subject: {subject}\r\nMIME-Version: 1.0\r\n"));
        }
        // The reader here does not know messages that are nothing but a message.
        let kinds: &[usize] = match (depth, is_inner) {
            (0, _) => &[0, 1, 2, 3],
            (_, true) => &[0, 1, 2, 3, 5],
            (_, false) => &[0, 1, 2, 3, 4, 5],
        };
        let kind = kinds[self.random.usize(..kinds.len())];
        let declared = self.pick(&["", "Content-Transfer-Encoding: 8bit\r\n"]);
        match kind {
            0..4 => {
                let kind = self.pick(&[
                    "text/plain; charset=utf-8",
                    "text/html; charset=\"utf-8\"",
                    "application/x",
                    "image/png",
                ]);
                let body = self.text();
                format!("{header}Content-Type: {kind}\r\n{declared}\r\n{body}")
            }
            4 => {
                let inner = self.entity(true, true, depth - 1);
                format!("{header}Content-Type: message/rfc822\r\n{declared}\r\n{inner}")
            }
            _ => {
                self.boundaries += 1;
                let boundary = format!("{}=_{}", self.pick(&["b", "- -x", "="]), self.boundaries);
                let mut out =
                    format!("{header}Content-Type: multipart/mixed; boundary=\"{boundary}.\"\r\n{declared}\r\n");
                for _ in 0..self.random.usize(1..4) {
                    out.push_str(&format!("--{boundary}.\r\n{}\r\n", self.entity(false, false, depth - 1)));
                }
                out + &format!("--{boundary}.--\r\n")
            }
        }
    }

    fn text(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..self.random.usize(..6) {
            for _ in 0..self.random.usize(..30) {
                let word =
                    self.pick(&["é", "=", "--", ".", " ", "\t", "word", "=3D", "From ", "\u{1f600}", "x--b=_", "ÿ"]);
                let times = if self.random.u8(..) == 0 { 300 } else { 1 };
                text.push_str(&word.repeat(times));
            }
            text.push_str("\r\n");
        }
        text.push_str(self.pick(&["end", "end\r\n", "é", "e "]));
        text
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.random.usize(..of.len())]
    }
}

#[test]
fn a_reader_sees_the_same_before_and_after() {
    let mut changed = 0;
    for seed in 0..250 {
        let mut writer = Writer { random: fastrand::Rng::with_seed(seed), boundaries: 0 };
        let message = writer.entity(true, false, 4);
        for seven_bit in [true, false] {
            plans_the_same(message.as_bytes(), seven_bit);
            let out = converted(message.as_bytes(), seven_bit)
                .unwrap_or_else(|error| panic!("seed {seed}: {error}\n{message}"));
            assert!(!seven_bit || out.is_ascii(), "seed {seed}");
            assert!(out.split(|octet| *octet == b'\n').all(|line| line.len() <= 999), "seed {seed}");
            assert_eq!(
                seen(&out),
                seen(message.as_bytes()),
                "seed {seed}:\n{message}\nbecomes\n{}",
                out.escape_ascii()
            );
            changed += usize::from(out != message.as_bytes());
            // Once is enough.
            assert_eq!(converted(&out, seven_bit).unwrap(), out, "seed {seed}");
        }
    }
    assert!(changed > 200, "{changed}");
}

#[test]
fn no_input_is_too_strange() {
    let mut random = fastrand::Rng::with_seed(7);
    let words: [&[u8]; 16] = [
        b"\r\n",
        b"\r\n\r\n",
        b"--b",
        b"--b--",
        b"Content-Type: ",
        b"multipart/mixed; boundary=b",
        b"message/rfc822",
        b":",
        b"Content-Transfer-Encoding: ",
        b"8bit",
        b"base64",
        b"quoted-printable",
        b"\xff",
        b"=",
        b" ",
        b"(",
    ];
    for _ in 0..1500 {
        let mut message = b"A: b\r\n".to_vec();
        for _ in 0..random.usize(..40) {
            message.extend_from_slice(words[random.usize(..words.len())]);
        }
        for seven_bit in [true, false] {
            plans_the_same(&message, seven_bit);
            match converted(&message, seven_bit) {
                Ok(out) => assert!(!seven_bit || out.is_ascii(), "{}", message.escape_ascii()),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
}
