use std::cell::Cell;

use super::*;
use crate::envelope::QueueId;
use crate::submission::Submission;

fn policy() -> SenderPolicy {
    SenderPolicy::new("mx.example")
}

fn with(patterns: &[&str]) -> SenderPolicy {
    patterns.iter().fold(policy(), |policy, pattern| policy.pattern(pattern.parse().unwrap()))
}

fn these(addresses: &[&str]) -> KnownAddresses {
    KnownAddresses::These(addresses.iter().map(|address| (*address).to_owned()).collect())
}

/// Whether a login may send from a reverse-path.
fn sends(policy: &SenderPolicy, login: &str, known: &KnownAddresses, reverse_path: &str) -> bool {
    policy.check_reverse_path(&mut CurrentSender::default(), login, reverse_path, |_| known.clone()).is_ok()
}

/// What a message with this header is answered, of `tim`, with the address tim@example.org.
fn sent(policy: &SenderPolicy, header: &str) -> Result<(), String> {
    let message = format!("{header}\r\n\r\nFrom: boss@example.org\r\n");
    let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut submission = Submission::new("mx.example", &QueueId::new());
        pieces.for_each(|piece| submission.push(piece, |_| Ok(())).unwrap());
        let known = these(&["tim@example.org"]);
        let checked =
            policy.check_header(&mut CurrentSender::default(), "tim", submission.originators(), |_| known.clone());
        checked.map_err(|refusal| format!("{} {refusal}", refusal.code()))
    };
    let whole = read(&mut std::iter::once(message.as_bytes()));
    assert_eq!(read(&mut message.as_bytes().chunks(1)), whole, "{header}");
    assert_eq!(read(&mut message.as_bytes().chunks(7)), whole, "{header}");
    whole
}

#[test]
fn a_login_has_its_own_addresses() {
    let many =
        these(&["tim@example.org", "Tim.Public@Bücher.example", "\"a b\"@example.org", "@example.net", "nothing", "@"]);
    let policy = policy();
    for own in [
        "",
        "tim@example.org",
        "tim@EXAMPLE.ORG",
        "\"tim\"@example.org",
        "Tim.Public@xn--bcher-kva.example",
        "Tim.Public@BÜCHER.example",
        "\"a b\"@example.org",
        "anybody@example.net",
        "anybody@Example.NET",
    ] {
        assert!(sends(&policy, "tim", &many, own), "{own}");
    }
    for foreign in [
        "boss@example.org",
        "Tim@example.org",
        "tim+x@example.org",
        "tim@example.com",
        "anybody@sub.example.net",
        "tim",
        "nothing",
        "@example.net",
        "tim@example.org@example.com",
    ] {
        assert!(!sends(&policy, "tim", &many, foreign), "{foreign}");
    }
    // A name that is an address is one; a name that is a domain is none.
    assert!(sends(&policy, "tim@example.org", &these(&[]), "tim@example.org"));
    assert!(!sends(&policy, "@example.org", &these(&[]), "tim@example.org"));
    assert!(sends(&policy, "x", &these(&["root@mx.example"]), "root"));
}

#[test]
fn where_nobody_has_addresses_everybody_may_send() {
    for (policy, free) in [(policy(), true), (with(&["{user}@example.org"]), false)] {
        assert_eq!(sends(&policy, "tim", &KnownAddresses::Nobodys, "boss@example.org"), free);
        assert!(sends(&policy, "tim", &KnownAddresses::Nobodys, "tim@example.org"));
    }
    let mut sender = CurrentSender::default();
    let nobody = Originators::default();
    policy().check_header(&mut sender, "tim", &nobody, |_| KnownAddresses::Nobodys).unwrap();
}

#[test]
fn patterns_make_addresses_of_names() {
    let none = these(&[]);
    let policy = with(&[
        "{user}@example.org",
        "{user}.list@example.org",
        "noreply@example.org",
        "@example.net",
        "box@{user}.example",
    ]);
    for own in ["tim@example.org", "tim.list@example.org", "noreply@example.org", "x@example.net", "box@tim.example"] {
        assert!(sends(&policy, "tim", &none, own), "{own}");
    }
    assert!(!sends(&policy, "tim", &none, "boss@example.org"));
    for name in ["\"boss\"", "boss ", "b,oss", "@", "tim@example.com"] {
        assert!(!sends(&policy, name, &none, "boss@example.org"), "{name}");
        assert!(sends(&policy, name, &none, "noreply@example.org"), "{name}");
    }
    for wrong in ["", "{user}", "{name}@example.org", "tim@", "@", "{user}@{host}", "a b@example.org", "@a b"] {
        assert_eq!(wrong.parse::<SenderPattern>(), Err(InvalidSenderPattern), "{wrong}");
    }
}

#[test]
fn case_and_subaddresses_make_no_difference_where_asked_for() {
    let tim = these(&["Tim@example.org"]);
    let (ignoring, plus) = (policy().ignore_case(true), policy().subaddress_separator(Some('+')));
    for (path, exact, ignored, subaddress) in [
        ("Tim@example.org", true, true, true),
        ("tIM@example.org", false, true, false),
        ("Tim+a+b@example.org", false, false, true),
        ("tim+a@example.org", false, false, false),
        ("+Tim@example.org", false, false, false),
        ("Tim-a@example.org", false, false, false),
    ] {
        let found = [policy(), ignoring.clone(), plus.clone()].map(|policy| sends(&policy, "x", &tim, path));
        assert_eq!(found, [exact, ignored, subaddress], "{path}");
    }
    assert!(sends(&ignoring.subaddress_separator(Some('+')), "x", &tim, "tim+A@example.org"));
}

#[test]
fn the_header_tells_who_sends() {
    for good in [
        "From: tim@example.org",
        "Subject: x\r\nfrom : Tim\r\n <tim@example.org>\r\nTo: boss@example.org",
        "From: tim@example.org\r\nSender: tim@example.org",
        "From: tim@example.org\r\nReply-To: boss@example.org\r\nResent-From: boss@example.org\r\nX-From: boss@example.org",
        "From: boss@example.org, Tim <tim@example.org>\r\nSender: tim@example.org",
        "From: Both: boss@example.org, tim@example.org;\r\nSender: tim@example.org",
        "From: tim@example.org <tim@example.org>",
        "From tim@example.org Mon Nov 30 12:00:00 2026\r\nFrom: tim@example.org",
        // Who else reads on behind a line that is no field sees no other.
        "no field\r\nFrom: tim@example.org",
        "Fromage: x\r\nfromage\r\nFrom: tim@example.org",
        // Nobody is named.
        "Subject: x",
        "It works.",
        "",
        "Sender: tim@example.org",
    ] {
        assert_eq!(sent(&policy(), good), Ok(()), "{good}");
    }
    let foreign = "550 From: has boss@example.org, which is no address of the login tim; send from one of yours, or have \
                   it added by who runs this server";
    let unreadable = "550 From: cannot be read; it should be as in From: \"Tim Example\" <tim@example.org>";
    let several = "550 From: has several addresses, or a comma in a name without quotes; of several, a Sender: has to say \
                   who sends";
    let long = format!("From: {} <tim@example.org>", "x".repeat(9000));
    let blanks = format!("From{}: boss@example.org\r\nFrom: tim@example.org", " ".repeat(2000));
    for (bad, refusal) in [
        ("From: boss@example.org", foreign),
        ("From: boss@example.org\r\nResent-From: tim@example.org", foreign),
        ("From: boss@example.org\r\nSender: tim@example.org", foreign),
        ("From: boss@example.org, ceo@example.org\r\nSender: tim@example.org", foreign),
        ("From: boss@example.org <tim@example.org>", foreign),
        ("From:\r\n tim\r\n <boss@example.org>", foreign),
        ("no field\r\nFrom: boss@example.org", foreign),
        (
            "From: tim@example.org\r\nSender: boss@example.org",
            "550 Sender: has boss@example.org, which is no address of the login tim; send from one of yours, or have it \
             added by who runs this server",
        ),
        ("From:", "550 From: has no address in it"),
        ("From: Nobody:;", "550 From: has no address in it"),
        (
            "Sender: tim@example.org, boss@example.org",
            "550 The header has more than one Sender:, or several addresses in it",
        ),
        ("From: tim@example.org\r\nfrom: tim@example.org", "550 The header has more than one From:"),
        ("From: tim@example.org\r\nno field\r\nFrom: boss@example.org", "550 The header has more than one From:"),
        ("From: tim@example.org, boss@example.org", several),
        ("From: Scanner, second floor <tim@example.org>", several),
        ("From: Public, Tim <tim@example.org>", several),
        (
            "From: tim@example.org\r\nSender: tim@example.org, boss@example.org",
            "550 The header has more than one Sender:, or several addresses in it",
        ),
        ("From: tim@example.org boss@example.org", unreadable),
        ("From: Tim tim@example.org", unreadable),
        (&blanks, unreadable),
        (&long, "550 From: is longer than 8192 octets"),
    ] {
        assert_eq!(sent(&policy(), bad), Err(refusal.to_owned()), "{bad}");
    }
}

/// A directory that is away is no leave to send, and no reason to refuse for good.
#[test]
fn who_cannot_be_looked_up_has_to_wait() {
    let mut sender = CurrentSender::default();
    for _ in 0..2 {
        let refusal =
            policy().check_reverse_path(&mut sender, "tim", "tim@example.org", |_| KnownAddresses::CannotTell);
        let refusal = refusal.unwrap_err();
        assert_eq!((refusal.code(), refusal.enhanced_code()), (451, (4, 3, 0)));
        assert_eq!(refusal.to_string(), "Whose address it is cannot be found out now; try again later");
    }
}

#[test]
fn a_login_is_looked_up_once_and_again_before_it_is_refused() {
    let (asked, policy) = (Cell::new(0), policy());
    let mut sender = CurrentSender::default();
    let mut known = these(&["tim@example.org"]);
    let mut check = |known: &KnownAddresses, login: &str, path: &str| {
        let before = asked.get();
        let look_up = |asked_for: &str| {
            assert_eq!(asked_for, login);
            asked.set(asked.get() + 1);
            known.clone()
        };
        let code = policy
            .check_reverse_path(&mut sender, login, path, look_up)
            .map_or_else(|refusal| refusal.code(), |()| 250);
        (code, asked.get() - before)
    };
    assert_eq!(check(&known, "tim", "tim@example.org"), (250, 1));
    assert_eq!(check(&known, "tim", "tim@example.org"), (250, 0));
    assert_eq!(check(&known, "tim", "new@example.org"), (550, 1));
    known = these(&["tim@example.org", "new@example.org"]);
    assert_eq!(check(&known, "tim", "new@example.org"), (250, 1));
    assert_eq!(check(&known, "tim", "tim@example.org"), (250, 0));
    assert_eq!(check(&KnownAddresses::CannotTell, "tim", "other@example.org"), (451, 1));
    // Another login has nothing of the one before.
    assert_eq!(check(&these(&[]), "boss", "tim@example.org"), (550, 1));
    assert_eq!(check(&these(&[]), "boss", ""), (250, 0));
}

#[test]
fn a_refusal_fits_into_a_reply() {
    let login = "x".repeat(255);
    let refusal = |path: &str, known: &[&str]| {
        policy().check_reverse_path(&mut CurrentSender::default(), &login, path, |_| these(known)).unwrap_err()
    };
    let text = refusal(&format!("\"{}ü\u{7f}\"@example.org", "a\\\r\n".repeat(100)), &[]).to_string();
    assert!(text.len() < 480 && text.bytes().all(|octet| matches!(octet, b' '..=b'~')), "{text}");
    assert!(text.ends_with(", which has none yet; have it added by who runs this server"), "{text}");
    assert_eq!(refusal("boss@example.org", &["@example.net"]).enhanced_code(), (5, 7, 1));
}
