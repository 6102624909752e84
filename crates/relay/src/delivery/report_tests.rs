//! What next hops are told of reports, and what becomes of reports there.

use super::tests::{CONTENT, Fixture, QUICK, envelope};
use std::time::{Duration, Instant};

use super::{Delivery, Route};
use crate::control::Control;
use crate::dsn::{Notify, OriginalRecipient, Ret};
use crate::envelope::{Envelope, Recipient};
use crate::spool::State;
use crate::testing::{NextHop, PATIENCE, accept};

#[test]
fn what_the_client_asked_of_reports_goes_on_to_where_they_are_known() {
    let knows = NextHop::start(|_, command| accept(command, &["DSN"]));
    let lacks = NextHop::start(|_, command| accept(command, &[]));
    let success = Notify { success: true, ..Notify::NEVER };
    let recipient = |path: &str, notify| Recipient { notify, ..path.into() };
    let envelope = || Envelope {
        ret: Some(Ret::Headers),
        envid: Some("a=1".to_owned()),
        recipients: vec![
            recipient("told@b.example", Some(success)),
            recipient("never@b.example", Some(Notify::NEVER)),
            Recipient {
                orcpt: Some(OriginalRecipient { address_type: "rfc822".to_owned(), address: "o@b".to_owned() }),
                ..recipient("usual@b.example", None)
            },
        ],
        ..envelope("tim@sender.example", &["x"])
    };
    for hop in [&knows, &lacks] {
        let mut fixture = Fixture::new();
        fixture.add(envelope(), CONTENT);
        fixture.relay(&[hop.url("smtp", "")]).drain();
    }
    let seen = knows.seen();
    for command in [
        "MAIL FROM:<tim@sender.example> RET=HDRS ENVID=a+3D1",
        "RCPT TO:<told@b.example> NOTIFY=SUCCESS",
        "RCPT TO:<never@b.example> NOTIFY=NEVER",
        "RCPT TO:<usual@b.example> ORCPT=rfc822;o@b",
    ] {
        assert!(seen.has(command), "{command}: {seen:#?}");
    }
    assert_eq!(seen.messages.len(), 1, "it reports itself");
    let seen = lacks.seen();
    assert!(seen.has("MAIL FROM:<tim@sender.example>") && seen.has("RCPT TO:<told@b.example>"), "{seen:#?}");
    assert_eq!(seen.messages.len(), 2);
    let report = seen.text(1);
    assert!(report.contains("Original-Envelope-Id: a=1\r\n"), "{report}");
    assert!(
        report.contains("Final-Recipient: rfc822; told@b.example\r\nAction: relayed\r\nStatus: 2.0.0\r\n"),
        "{report}"
    );
    assert!(!report.contains("never@") && !report.contains("usual@"), "{report}");
}

#[test]
fn reports_say_that_nobody_is_to_report_on_them() {
    let hop = NextHop::start(|_, command| match command {
        command if command.starts_with("RCPT TO:<a@") => "550 5.1.1 no\r\n".to_owned(),
        command => accept(command, &["DSN"]),
    });
    Fixture::new().with(&["a@b.example"], CONTENT).relay(&[hop.url("smtp", "")]).drain();
    let seen = hop.seen();
    assert!(seen.has("MAIL FROM:<>") && seen.has("RCPT TO:<tim@sender.example> NOTIFY=NEVER"), "{seen:#?}");
    assert!(seen.text(0).starts_with("Received: by relay.example id "), "{}", seen.text(0));
}

/// A smart host that takes no null reverse-path, as some do.
#[test]
fn what_a_smart_host_does_not_take_from_the_null_reverse_path_it_takes_for_the_postmaster() {
    let hop = NextHop::start(|_, command| match command {
        "MAIL FROM:<>" => "501 5.5.4 Invalid MAIL FROM address provided\r\n".to_owned(),
        "RCPT TO:<a@b.example>" => "550 5.1.1 no such user\r\n".to_owned(),
        command => accept(command, &[]),
    });
    let route = || Route::Relays(vec![hop.url("smtp", "").parse().unwrap()]);
    let fixture = Fixture::new().with(&["a@b.example"], CONTENT).start(route(), QUICK, None);
    fixture.drain();
    let kept: Vec<_> = std::fs::read_dir(fixture.directory().join("undelivered-reports")).unwrap().collect();
    assert_eq!((kept.len(), hop.seen().messages.len()), (1, 0));

    let postmaster = Some("postmaster@relay.example".to_owned());
    let delivery = Delivery { schedule: QUICK, postmaster, ..Delivery::new(route(), "relay.example") };
    let fixture = Fixture::new().with(&["a@b.example"], CONTENT).deliver(delivery);
    fixture.drain();
    let seen = hop.seen();
    assert!(seen.has("MAIL FROM:<postmaster@relay.example>") && seen.has("RCPT TO:<postmaster@relay.example>"));
    assert!(seen.text(0).contains("Final-Recipient: rfc822; a@b.example\r\nAction: failed\r\n"), "{}", seen.text(0));
    assert!(!fixture.directory().join("undelivered-reports").exists());
}

/// The queue hears that a report is due while the message is in a session, and that it is delivered after that.
#[test]
fn a_report_on_delay_that_is_due_during_the_last_attempt_holds_nothing_up() {
    let after = Duration::from_millis(200);
    let hop = NextHop::start(move |_, command| {
        if command == "." {
            std::thread::sleep(2 * after);
        }
        accept(command, &[])
    });
    let route = Route::Relays(vec![hop.url("smtp", "").parse().unwrap()]);
    let delivery =
        Delivery { schedule: QUICK, delay_report_after: Some(after), ..Delivery::new(route, "relay.example") };
    let fixture = Fixture::new().with(&["a@b.example"], CONTENT).deliver(delivery);
    let start = Instant::now();
    // Its content goes when the queue has done with it.
    while std::fs::read_dir(fixture.directory().join("queue")).unwrap().count() > 0 {
        assert!(start.elapsed() < PATIENCE, "nothing ends it");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn nobody_is_told_of_the_delay_of_what_is_on_hold_before_it_is_released() {
    let hop = NextHop::start(|_, command| match command {
        "RCPT TO:<a@b.example>" => "450 4.2.1 later\r\n".to_owned(),
        command => accept(command, &[]),
    });
    let route = Route::Relays(vec![hop.url("smtp", "").parse().unwrap()]);
    let mut fixture = Fixture::new();
    let held = fixture.add(envelope("tim@sender.example", &["a@b.example"]), CONTENT);
    let state = fixture.spool.load(&held).unwrap();
    fixture.spool.save(&State { held: true, ..state }).unwrap();
    fixture.add(envelope("", &["c@b.example"]), CONTENT);
    let delivery =
        Delivery { schedule: QUICK, delay_report_after: Some(Duration::ZERO), ..Delivery::new(route, "relay.example") };
    let fixture = fixture.deliver(delivery);
    hop.wait(|seen| seen.messages.len() == 1);
    let state = fixture.spool.load(&held).unwrap();
    assert!(!state.recipients[0].delay_reported && fixture.states().len() <= 2, "{state:#?}");
    let control = Control::new(fixture.directory()).unwrap();
    control.release(&held).unwrap();
    let seen = hop.wait(|seen| seen.messages.len() == 2);
    assert!(seen.text(1).contains("Action: delayed\r\n"), "{}", seen.text(1));
}
