//! Dovecot's LMTP as the next hop.

use crate::support::dovecot::{Dovecot, USER as OWNER};
use crate::support::{Client, spooled};
use crate::{PASSWORD, SENDER, USER, relayer};

#[test]
fn mail_arrives_in_a_mailbox_and_who_has_none_is_reported() {
    let Some(dovecot) = Dovecot::with_lmtp() else { return };
    let relayer = relayer(&["--relay", &dovecot.lmtp()]);
    let mut client = Client::log_in(relayer.program.address(0), USER, PASSWORD).expect("the server talks");
    let owner = format!("{OWNER}@example.org");
    assert_eq!(SENDER, owner, "reports come back to the same mailbox");
    // One that is good among others, which are not.
    for line in [
        &format!("MAIL FROM:<{SENDER}>"),
        "RCPT TO:<ghost@example.org>",
        &format!("RCPT TO:<{owner}>"),
        "RCPT TO:<nobody@example.org>",
    ] {
        let reply = client.command(line).expect("the server talks");
        assert!(reply.starts_with("250 "), "{line}: {reply}");
    }
    let reply = client.command("DATA").expect("the server talks");
    assert!(reply.starts_with("354 "), "{reply}");
    let reply = client.command("Subject: Greetings\r\n\r\nHello.\r\n.").expect("the server talks");
    assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    relayer.program.stderr.wait(|log| log.matches(" done id=").count() == 2);
    let mails = dovecot.mails();
    let (reports, messages): (Vec<_>, Vec<_>) = mails
        .iter()
        .map(|mail| String::from_utf8_lossy(mail).into_owned())
        .partition(|mail| mail.contains("multipart/report"));
    assert_eq!((reports.len(), messages.len()), (1, 1), "{mails:?}");
    assert!(messages[0].contains("Subject: Greetings") && messages[0].contains("Hello."), "{}", messages[0]);
    for ghost in ["ghost", "nobody"] {
        assert!(reports[0].contains(&format!("Final-Recipient: rfc822; {ghost}@example.org")), "{}", reports[0]);
    }
    assert_eq!(reports[0].matches("Status: 5.1.1").count(), 2, "{}", reports[0]);
    let (_, log) = relayer.program.stop();
    assert_eq!(spooled(&relayer.directory.path().join("spool")), 0);
    let lines: Vec<_> = log.lines().filter(|line| line.contains(" delivery id=")).collect();
    let has = |words: &[&str]| lines.iter().filter(|line| words.iter().all(|word| line.contains(word))).count();
    assert_eq!(has(&["to=\"ghost@example.org\"", "status=bounced dsn=5.1.1", "/lmtp\""]), 1, "{lines:#?}");
    assert_eq!(has(&["to=\"nobody@example.org\"", "status=bounced dsn=5.1.1"]), 1, "{lines:#?}");
    // The message and the report.
    assert_eq!(has(&[&format!("to=\"{owner}\""), "status=sent dsn=2.0.0", "tls=none verified=false"]), 2, "{lines:#?}");
}
