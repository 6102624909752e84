//! What users send, counted for a fleet.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use sansmtp::Secret;
use sansmtp_authenticators::attempts::{ValkeyConfig, WhenUnreachable};
use sansmtp_authenticators::sending::{SendingLimits, SendingLog, SendingRefused, Transaction};

use crate::support::valkey::Valkey;
use crate::support::wait::until;

fn log(url: &str, limits: SendingLimits, policy: WhenUnreachable) -> Arc<SendingLog> {
    let config = ValkeyConfig::from_url(url).unwrap().key(Secret::new(b"the key of the tests".to_vec()));
    let config = config.time_limit(Duration::from_secs(10)).when_unreachable(policy);
    Arc::new(SendingLog::in_valkey(limits, config).unwrap())
}

fn two(server: &Valkey, limits: SendingLimits) -> [Arc<SendingLog>; 2] {
    [(); 2].map(|()| log(&server.url(), limits, WhenUnreachable::Closed))
}

fn send(log: &Arc<SendingLog>, login: &str) -> bool {
    SendingLog::begin(log, login).map(Transaction::sent).is_ok()
}

/// Whether the server has so many in the only count that there is.
fn has(server: &Valkey, count: u32) -> bool {
    let keys: Vec<String> = server.ask(&["KEYS", "sansmtp:sending:*"]);
    let counted: Vec<u32> = keys.first().map(|key| server.ask(&["HVALS", key])).unwrap_or_default();
    counted.iter().sum::<u32>() == count
}

fn messages(limit: u32) -> SendingLimits {
    SendingLimits { messages_per_hour: limit, ..SendingLimits::default() }
}

#[test]
fn servers_count_together_and_keep_it_over_a_restart() {
    let Some(server) = Valkey::start() else { return };
    let [one, other] = two(&server, SendingLimits { recipients_per_day: 3, ..messages(2) });
    assert!(send(&one, "Tim") && send(&other, "tim"));
    for log in [&one, &other] {
        let refused = SendingLog::begin(log, "TIM").unwrap_err();
        let reply = refused.reply().to_string();
        assert!(reply.starts_with("450 4.7.1 No more than 2 messages an hour, try again in 6"), "{reply}");
    }
    assert!(send(&one, "tom"));
    drop((one, other));
    let [again, _] = two(&server, messages(2));
    assert!(!send(&again, "tim") && send(&again, "tom") && !send(&again, "tom"));
    // Nothing is there for ever, and nothing shows who it is.
    let keys = server.times_to_live();
    assert_eq!(keys.len(), 2, "{keys:?}");
    for (key, time_to_live) in keys {
        assert!(key.starts_with("sansmtp:sending:messages-hour:") && !key.contains("tim"), "{key}");
        assert!((1..=70 * 60 * 1000).contains(&time_to_live), "{key}: {time_to_live}");
    }
}

#[test]
fn what_is_not_sent_is_given_back_to_all() {
    let Some(server) = Valkey::start() else { return };
    let [one, other] = two(&server, SendingLimits { recipients_per_day: 3, ..SendingLimits::default() });
    let mut transaction = SendingLog::begin(&one, "tim").unwrap();
    let taken: Vec<bool> = (0..5).map(|_| transaction.add_recipient().is_ok()).collect();
    assert_eq!(taken, [true, true, true, false, false]);
    let mut second = SendingLog::begin(&other, "tim").unwrap();
    assert!(second.add_recipient().is_err() && has(&server, 3));
    drop(transaction);
    until("what is given back", || has(&server, 0).then_some(()));
    assert!(second.add_recipient().is_ok() && second.add_recipient().is_ok());
    second.sent();
    assert!(has(&server, 2));
    let mut third = SendingLog::begin(&one, "tim").unwrap();
    assert_eq!([third.add_recipient().is_ok(), third.add_recipient().is_ok()], [true, false]);
}

#[test]
fn a_crowd_in_all_servers_gets_no_more_than_the_limit() {
    let Some(server) = Valkey::start() else { return };
    let logs = two(&server, messages(17));
    let threads: Vec<_> = (0..8)
        .map(|number: usize| {
            let log = Arc::clone(&logs[number % 2]);
            thread::spawn(move || (0..10).filter(|_| send(&log, "tim")).count())
        })
        .collect();
    let sent: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(sent, 17);
    assert!(has(&server, 17));
}

#[test]
fn what_is_sent_without_the_server_is_told_later() {
    let Some(mut server) = Valkey::start() else { return };
    let open = log(&server.url(), messages(3), WhenUnreachable::Open);
    let closed = log(&server.url(), messages(3), WhenUnreachable::Closed);
    assert!(send(&open, "tim"));
    server.stop();
    until("the loss", || {
        let refused = SendingLog::begin(&closed, "tim").err();
        refused.map(|refused| assert_eq!(refused, SendingRefused::CannotTell))
    });
    // Each process counts for itself.
    assert!(send(&open, "tim") && send(&open, "tim") && !send(&open, "tim"));
    server.start_again();
    until("the server", || (open.is_reachable() && closed.is_reachable()).then_some(()));
    until("what was sent", || has(&server, 3).then_some(()));
    assert!(!send(&closed, "tim"));
}

/// Parts of the window that are over, as the server's clock has them.
#[test]
fn what_is_over_makes_room() {
    let Some(server) = Valkey::start() else { return };
    let [log, _] = two(&server, messages(2));
    assert!(send(&log, "tim"));
    let keys: Vec<String> = server.ask(&["KEYS", "*"]);
    let key = keys[0].as_str();
    let parts: Vec<u64> = server.ask(&["HKEYS", key]);
    let shift = |by: u64| {
        let part = (parts[0] - by).to_string();
        let _: () = server.ask(&["DEL", key]);
        let _: u32 = server.ask(&["HSET", key, &part, "2"]);
    };
    let [other, _] = two(&server, messages(2));
    // The clock may go on to the next part in the meantime.
    shift(10);
    assert!(!send(&other, "tim"));
    shift(13);
    assert!(send(&other, "tim"));
    let left: Vec<u64> = server.ask(&["HKEYS", key]);
    assert!(left.len() == 1 && left[0] >= parts[0], "{left:?} {parts:?}");
}
