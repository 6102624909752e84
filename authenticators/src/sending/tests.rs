//! Limits under a clock that is a number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;

/// In seconds.
#[derive(Clone, Default)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn set(&self, seconds: u64) {
        self.0.store(seconds, Ordering::SeqCst);
    }
}

fn log(limits: SendingLimits) -> (Arc<SendingLog>, Clock) {
    let clock = Clock::default();
    let seconds = clock.clone();
    (Arc::new(SendingLog::in_memory(limits, move || Duration::from_secs(seconds.0.load(Ordering::SeqCst)))), clock)
}

fn hourly(messages: u32) -> SendingLimits {
    SendingLimits { messages_per_hour: messages, ..SendingLimits::default() }
}

fn send(log: &Arc<SendingLog>, login: &str) -> bool {
    SendingLog::begin(log, login).map(Transaction::sent).is_ok()
}

fn refused(log: &Arc<SendingLog>, login: &str) -> String {
    SendingLog::begin(log, login).unwrap_err().to_string()
}

#[test]
fn no_limit_costs_nothing() {
    let (log, _) = log(SendingLimits::default());
    assert!(log.limits.is_unlimited() && !hourly(1).is_unlimited());
    assert!((0..1000).all(|number| send(&log, &number.to_string())));
    assert_eq!(log.here.remembered(), 0);
}

#[test]
fn no_hour_has_more_than_the_limit() {
    let (log, clock) = log(hourly(5));
    let mut sent = Vec::new();
    // Tries once a minute.
    for minute in 0..1000 {
        clock.set(minute * 60);
        if send(&log, "tim") {
            sent.push(minute);
        }
        assert!(sent.iter().filter(|earlier| minute - *earlier < 60).count() <= 5, "{sent:?}");
    }
    // The five of an hour, every 65 minutes.
    assert!(sent.len() >= 5 * 1000 / 65, "{sent:?}");
    assert_eq!(sent[..6], [0, 1, 2, 3, 4, 65]);
}

#[test]
fn the_text_tells_when_the_limit_is_over() {
    let (log, clock) = log(SendingLimits { messages_per_day: 3, ..hourly(2) });
    clock.set(7 * 60);
    assert!(send(&log, "tim") && send(&log, "tim"));
    assert_eq!(refused(&log, "tim"), "No more than 2 messages an hour, try again in 63 minutes");
    clock.set(7 * 60 + 63 * 60 - 1);
    assert_eq!(refused(&log, "tim"), "No more than 2 messages an hour, try again in a minute");
    clock.set(7 * 60 + 63 * 60);
    assert!(send(&log, "tim"));
    assert_eq!(refused(&log, "tim"), "No more than 3 messages a day, try again in 25 hours");
    clock.set(26 * 60 * 60 - 1);
    assert!(!send(&log, "tim"));
    clock.set(26 * 60 * 60);
    assert!(send(&log, "tim"));
}

#[test]
fn each_login_has_a_count_in_whatever_case() {
    let (log, _) = log(hourly(1));
    assert!(send(&log, "tim@example.org") && send(&log, "J\u{f6}rg"));
    assert!(send(&log, "tom@example.org"));
    for same in ["tim@example.org", "Tim@Example.ORG", "TIM@EXAMPLE.ORG", "J\u{d6}RG"] {
        assert!(!send(&log, same), "{same}");
    }
}

#[test]
fn recipients_that_fit_are_taken() {
    let (log, clock) = log(SendingLimits { recipients_per_hour: 3, ..SendingLimits::default() });
    let mut transaction = SendingLog::begin(&log, "tim").unwrap();
    let taken: Vec<bool> = (0..5).map(|_| transaction.add_recipient().is_ok()).collect();
    assert_eq!(taken, [true, true, true, false, false]);
    transaction.sent();
    // There is no limit for messages, but nobody left to send to.
    let mut transaction = SendingLog::begin(&log, "tim").unwrap();
    let error = transaction.add_recipient().unwrap_err();
    assert_eq!(error.to_string(), "No more than 3 recipients an hour, try again in 65 minutes");
    clock.set(65 * 60);
    assert!(transaction.add_recipient().is_ok());
}

#[test]
fn what_is_not_sent_is_given_back() {
    let (log, _) = log(SendingLimits { recipients_per_hour: 2, ..hourly(1) });
    for _ in 0..10 {
        let mut transaction = SendingLog::begin(&log, "tim").unwrap();
        assert!(!send(&log, "tim"));
        assert_eq!([0; 3].map(|_| transaction.add_recipient().is_ok()), [true, true, false]);
    }
    assert!(send(&log, "tim") && !send(&log, "tim"));
}

/// Otherwise, a transaction that is kept open for an hour would cost nothing.
#[test]
fn what_is_reserved_does_not_become_less_with_time() {
    let (log, clock) = log(hourly(2));
    let early = [(); 2].map(|()| SendingLog::begin(&log, "tim").unwrap());
    for hour in 0..30 {
        clock.set(hour * 60 * 60);
        // That is not known.
        assert_eq!(refused(&log, "tim"), "No more than 2 messages an hour, try again in a minute");
    }
    early.into_iter().for_each(Transaction::sent);
    assert_eq!(refused(&log, "tim"), "No more than 2 messages an hour, try again in 65 minutes");
}

#[test]
fn a_crowd_gets_no_more_than_the_limit() {
    let (log, _) = log(SendingLimits { recipients_per_day: 57, ..hourly(10) });
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                let mut sent = (0, 0);
                for number in 0..200 {
                    let Ok(mut transaction) = SendingLog::begin(&log, "tim") else { continue };
                    let recipients = (0..10).filter(|_| transaction.add_recipient().is_ok()).count();
                    // Most are given up.
                    if number % 20 == 19 && recipients > 0 {
                        transaction.sent();
                        sent = (sent.0 + 1, sent.1 + recipients);
                    }
                }
                sent
            })
        })
        .collect();
    let sent: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let messages: usize = sent.iter().map(|(messages, _)| messages).sum();
    let recipients: usize = sent.iter().map(|(_, recipients)| recipients).sum();
    assert!((1..=10).contains(&messages) && recipients <= 57, "{sent:?}");
    // All that was given back is there again.
    let mut rest = 0;
    while let Ok(mut transaction) = SendingLog::begin(&log, "tim") {
        rest += 1;
        assert!(rest <= 10);
        let _ = transaction.add_recipient();
        transaction.sent();
    }
    assert_eq!(messages + rest, 10);
}

#[test]
fn what_is_over_makes_room_and_what_counts_stays() {
    let (log, clock) = log(SendingLimits { max_logins: 3, ..hourly(1) });
    let open = SendingLog::begin(&log, "open").unwrap();
    assert!(send(&log, "a") && send(&log, "b"));
    for _ in 0..3 {
        assert_eq!(SendingLog::begin(&log, "c").unwrap_err(), SendingRefused::CannotTell);
        assert!(!send(&log, "a") && !send(&log, "b") && !send(&log, "open"));
    }
    // That they were told lasts for an hour, too.
    clock.set(2 * 60 * 60);
    assert!(send(&log, "c") && send(&log, "d"));
    assert!(!send(&log, "open") && !send(&log, "e"));
    assert_eq!(log.here.remembered(), 3);
    drop(open);
}

#[test]
fn the_limit_is_told_once_in_a_window() {
    let (log, clock) = log(SendingLimits { recipients_per_hour: 1, ..hourly(1) });
    let told = |log: &SendingLog| {
        let exceeded = Exceeded { sent: Sent::Message, window: Window::Hour, limit: 1, wait: Duration::ZERO };
        log.here.is_news(log.key("tim"), &exceeded)
    };
    assert!(told(&log) && !told(&log));
    let recipients = Exceeded { sent: Sent::Recipient, window: Window::Hour, limit: 1, wait: Duration::ZERO };
    assert!(log.here.is_news(log.key("tim"), &recipients));
    clock.set(60 * 60 - 1);
    assert!(!told(&log));
    clock.set(60 * 60);
    assert!(told(&log) && !told(&log));
}
