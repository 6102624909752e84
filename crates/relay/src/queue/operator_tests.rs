use std::time::Duration;

use super::tests::{SECOND, add, down, limits, opened, poll, queue, up};
use super::*;

#[test]
fn what_is_on_hold_is_neither_sent_nor_given_up() {
    let (mut queue, now) = (queue(limits()), Duration::ZERO);
    add(&mut queue, now, 1, &[7, 8]);
    add(&mut queue, now, 2, &[7]);
    assert!(queue.hold(&1) && queue.hold(&1) && !queue.hold(&3));
    assert_eq!(opened(&poll(&mut queue, now)).iter().map(|open| (open.1, open.2)).collect::<Vec<_>>(), [(7, 2)]);
    // Long after it would have been given up.
    assert_eq!(poll(&mut queue, 100_000 * SECOND), []);
    assert_eq!(queue.counts(), Counts { messages: 2, on_hold: 1, sending: 1, sessions: 1, backed_off: 0 });
    let now = 200_000 * SECOND;
    assert!(queue.release(now, &1) && queue.release(now, &1) && !queue.release(now, &3));
    let mut to: Vec<_> = opened(&poll(&mut queue, now)).iter().map(|open| (open.1, open.2)).collect();
    to.sort_unstable();
    assert_eq!(to, [(8, 1)], "the other waits for the first session to 7");
    assert_eq!(queue.counts().on_hold, 0);
}

#[test]
fn what_waits_at_a_destination_is_held_there_too() {
    let (mut queue, now) = (queue(limits()), Duration::ZERO);
    (1..=3).for_each(|message| add(&mut queue, now, message, &[7]));
    let first = opened(&poll(&mut queue, now))[0].0;
    queue.hold(&2);
    assert_eq!(up(&mut queue, now, first), Next::Send((3, 7)));
    queue.release(now, &2);
    assert_eq!(opened(&poll(&mut queue, now))[0].2, 2);
}

#[test]
fn a_message_in_a_session_is_held_from_its_end_on() {
    let (mut queue, now) = (queue(limits()), Duration::ZERO);
    add(&mut queue, now, 1, &[7]);
    let first = opened(&poll(&mut queue, now))[0].0;
    queue.hold(&1);
    queue.finished(now, first, Outcome::Later, false, Health::Up, false);
    queue.closed(first);
    assert_eq!(poll(&mut queue, now + 100_000 * SECOND), []);
    let now = now + 100_000 * SECOND;
    queue.release(now, &1);
    let again = opened(&poll(&mut queue, now))[0].0;
    queue.hold(&1);
    up(&mut queue, now, again);
    assert!(poll(&mut queue, now).contains(&Action::Finish { message: 1 }), "what is delivered is over");
    assert_eq!(queue.counts().on_hold, 0);
}

#[test]
fn a_release_while_it_is_being_sent_sends_it_no_second_time() {
    let (mut queue, now) = (queue(limits()), Duration::ZERO);
    add(&mut queue, now, 1, &[7]);
    let first = opened(&poll(&mut queue, now))[0].0;
    queue.hold(&1);
    queue.release(now, &1);
    assert_eq!(poll(&mut queue, now + SECOND), []);
    queue.finished(now, first, Outcome::Later, false, Health::Up, false);
    queue.closed(first);
    assert_eq!(poll(&mut queue, now + 59 * SECOND), []);
    assert_eq!(opened(&poll(&mut queue, now + 60 * SECOND)).len(), 1);
}

#[test]
fn a_released_message_is_tried_before_it_is_given_up() {
    let (mut queue, now) = (queue(limits()), Duration::ZERO);
    add(&mut queue, now, 1, &[7]);
    queue.hold(&1);
    let now = 36_001 * SECOND;
    queue.release(now, &1);
    let open = opened(&poll(&mut queue, now));
    assert_eq!(open.len(), 1);
    down(&mut queue, now, open[0].0);
    let rest = poll(&mut queue, now + 60 * SECOND);
    assert!(rest.iter().any(|action| matches!(action, Action::Open { .. } | Action::Expire { .. })), "{rest:?}");
}

#[test]
fn a_released_message_is_not_given_up_at_the_time_that_it_had_before() {
    let (mut queue, begin, now) = (queue(limits()), Duration::ZERO, 35_970 * SECOND);
    (1..=9).for_each(|message| add(&mut queue, begin, message, &[7]));
    assert!((1..=9).all(|message| queue.hold(&message)));
    assert!((1..=9).all(|message| queue.release(now, &message)));
    // The others wait there.
    for open in opened(&poll(&mut queue, now)) {
        down(&mut queue, now, open.0);
    }
    let rest = poll(&mut queue, now + 40 * SECOND);
    assert!(!rest.iter().any(|action| matches!(action, Action::Expire { .. })), "{rest:?}");
}

#[test]
fn a_flush_tries_now_what_waits_and_ends_a_back_off_for_one_session() {
    let (mut queue, now) = (queue(limits()), Duration::ZERO);
    (1..=10).for_each(|message| add(&mut queue, now, message, &[7]));
    add(&mut queue, now, 20, &[8]);
    for open in opened(&poll(&mut queue, now)) {
        down(&mut queue, now, open.0);
    }
    assert_eq!(poll(&mut queue, now + SECOND), []);
    assert_eq!(queue.counts().backed_off, 2);
    queue.hold(&3);
    assert_eq!(queue.flush(now + SECOND, |_, destination| *destination == 7), 9);
    let open = opened(&poll(&mut queue, now + SECOND));
    assert_eq!(open.iter().map(|open| open.1).collect::<Vec<_>>(), [7], "one finds out");
    assert_eq!(queue.counts().backed_off, 1);
    // The back-off that was ended does not cut the next one short.
    down(&mut queue, now + SECOND, open[0].0);
    assert!(opened(&poll(&mut queue, now + 100 * SECOND)).iter().all(|open| open.1 == 8));
    assert!(queue.flush_message(now + 100 * SECOND, &3) && !queue.flush_message(now, &99));
    assert_eq!(opened(&poll(&mut queue, now + 100 * SECOND)), [], "what is on hold stays there");
    assert!(queue.flush_message(now + 100 * SECOND, &5));
    assert_eq!(opened(&poll(&mut queue, now + 100 * SECOND)).len(), 1);
}

#[test]
fn a_release_ends_a_back_off_too() {
    let (mut queue, now) = (queue(limits()), Duration::ZERO);
    (1..=2).for_each(|message| add(&mut queue, now, message, &[7]));
    queue.hold(&2);
    let first = opened(&poll(&mut queue, now))[0].0;
    down(&mut queue, now, first);
    queue.release(now, &2);
    assert_eq!(opened(&poll(&mut queue, now)).iter().map(|open| open.2).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_flush_of_mail_that_was_deferred_for_itself_tries_it_once() {
    let (mut queue, now) = (queue(limits()), Duration::ZERO);
    add(&mut queue, now, 1, &[7]);
    let open = opened(&poll(&mut queue, now))[0].0;
    queue.finished(now, open, Outcome::Later, false, Health::Up, false);
    queue.closed(open);
    assert_eq!((queue.flush(now, |_, _| true), queue.flush(now, |_, _| true)), (1, 1));
    let open = opened(&poll(&mut queue, now));
    assert_eq!(open.len(), 1);
    up(&mut queue, now, open[0].0);
    assert_eq!(opened(&poll(&mut queue, now + 1000 * SECOND)), []);
}

#[test]
fn what_is_deleted_is_gone_unless_it_is_being_sent() {
    let (mut queue, now) = (queue(limits()), Duration::ZERO);
    (1..=3).for_each(|message| add(&mut queue, now, message, &[7]));
    let first = opened(&poll(&mut queue, now))[0].0;
    assert_eq!(queue.sending(), [1]);
    assert_eq!([1, 2, 4].map(|message| queue.delete(&message)), [Deleted::Busy, Deleted::Gone, Deleted::Unknown]);
    assert_eq!(up(&mut queue, now, first), Next::Send((3, 7)));
    assert_eq!(queue.delete(&2), Deleted::Unknown);
    queue.hold(&3);
    queue.finished(now, first, Outcome::Later, false, Health::Up, false);
    queue.closed(first);
    assert_eq!(queue.delete(&3), Deleted::Gone);
    assert_eq!(poll(&mut queue, now + 100_000 * SECOND), [Action::Finish { message: 1 }]);
    assert!(queue.destinations.is_empty() && queue.jobs.is_empty() && queue.timers.is_empty());
}

#[test]
fn a_delay_is_not_reported_while_a_message_is_on_hold() {
    let (mut queue, now) = (queue(limits()), Duration::ZERO);
    add(&mut queue, now, 1, &[7]);
    queue.hold(&1);
    queue.report_delay(SECOND, &1);
    assert_eq!(poll(&mut queue, 2 * SECOND), []);
    queue.release(2 * SECOND, &1);
    queue.report_delay(3 * SECOND, &1);
    let first = opened(&poll(&mut queue, 2 * SECOND))[0].0;
    queue.finished(2 * SECOND, first, Outcome::Later, false, Health::Up, false);
    assert!(poll(&mut queue, 3 * SECOND).contains(&Action::Report { message: 1 }));
}

#[test]
fn a_message_does_not_end_while_its_state_is_written_for_an_operator() {
    let (mut queue, now) = (queue(limits()), Duration::ZERO);
    add(&mut queue, now, 1, &[7]);
    let first = opened(&poll(&mut queue, now))[0].0;
    assert!(queue.pin(&1) && !queue.pin(&2));
    up(&mut queue, now, first);
    assert_eq!((poll(&mut queue, now), queue.delete(&1)), (vec![], Deleted::Busy));
    queue.unpin(&1);
    assert_eq!(poll(&mut queue, now), [Action::Finish { message: 1 }]);
}

#[test]
fn a_message_whose_report_waits_for_the_disk_can_be_deleted() {
    let (mut queue, now) = (queue(limits()), Duration::ZERO);
    queue.add(1, Vec::new(), true);
    assert_eq!(poll(&mut queue, now), [Action::Report { message: 1 }]);
    assert_eq!(queue.delete(&1), Deleted::Busy, "the report is being written");
    queue.report_later(now, 1);
    assert_eq!(queue.delete(&1), Deleted::Gone);
    assert_eq!(poll(&mut queue, now + 1000 * SECOND), []);
}
