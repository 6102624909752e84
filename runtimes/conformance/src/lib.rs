//! What whoever embeds [`sansmtp`] has to do, over loopback sockets: transcripts, order, slowness, panics,
//! disconnects, timeouts, many clients, shutdown; in the clear and under TLS.
//!
//! Tests say how a server is started ([`Runtime`], [`AsyncRuntime`]), and macros make a test of each case:
//! [`conformance`] for the adapters, the engine alone and the examples' loop, [`server_conformance`] for the
//! adapters only, because only they are servers.
//!
//! ```ignore
//! mod blocking {
//!     sansmtp_conformance::conformance!(sansmtp_conformance::Blocking<super::Threads>);
//!     sansmtp_conformance::server_conformance!(sansmtp_conformance::Blocking<super::Threads>);
//! }
//! ```
//!
//! Nothing sleeps: what has to be waited for is waited for, and where time itself is the subject, it is
//! configured to be short. Ports are the system's choice.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a panic is how a test fails"
)]

mod certificate;
mod client;
pub mod clients;
pub mod connections;
pub mod events;
mod handler;
pub mod handlers;
pub mod listeners;
pub mod messages;
mod server;
pub mod sessions;
pub mod shutdown;
#[path = "../../../tests/support/transcript_files.rs"]
mod transcript_files;
pub mod transcripts;
#[path = "../../../tests/support/voids.rs"]
mod voids;

use std::time::Duration;

pub use handler::{Scripted, Seen, Waits};
pub use server::{AsyncRuntime, Blocking, Kind, Plan, Runtime, Started, Waiting, another};

/// How long a test waits for what should come at once.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A grace period that is never used up.
const LONG: Duration = Duration::from_secs(60);

/// Makes a test of each case that any embedding of the engine has to pass, for a [`Kind`] of it: an adapter's
/// server, or a loop that is all there is between engine and sockets.
#[macro_export]
macro_rules! conformance {
    ($kind:ty) => {
        $crate::tests!($kind, transcripts:
            transcripts_in_the_clear,
            transcripts_under_tls,
        );
        $crate::tests!($kind, sessions:
            the_replies_to_a_group_come_at_once,
            mail_in_the_clear_after_starttls_and_under_tls,
            ten_mebibytes_arrive_as_they_were_sent,
            lines_that_lie_across_reads_are_read_once,
            a_session_octet_by_octet,
            after_half_a_close_all_replies_arrive,
            two_hundred_at_a_time,
            five_hundred_connects_at_once,
        );
        $crate::tests!($kind, handlers:
            a_slow_authenticator_keeps_nobody_else_waiting,
            what_was_said_before_a_slow_authenticator_goes_out_first,
            no_authentication_in_time_is_454_and_the_end,
            a_panic_is_a_temporary_failure,
            a_message_whose_content_was_not_kept_is_not_accepted,
            a_panic_in_an_event_harms_nobody,
            a_handler_that_cannot_be_made_harms_nobody_else,
            failed_authentications_reach_the_handler,
            a_refusal_has_its_pause,
            what_comes_behind_a_refusal_is_answered_after_it,
        );
        $crate::tests!($kind, messages:
            a_void_message_gets_into_no_other,
            a_message_that_breaks_off_gets_into_no_other,
            chunks_with_commands_between_them_are_one_message,
            a_message_that_is_refused_at_data_gets_into_no_other,
            a_panic_over_a_message_is_its_end,
        );
        $crate::tests!($kind, events:
            events_come_in_their_order,
        );
        $crate::tests!($kind, clients:
            a_client_that_leaves_in_the_middle_of_content,
            a_reset_at_any_step_harms_nobody_else,
            an_exchange_that_ends_in_a_reset_is_reported_too,
            silence_ends_in_421,
            a_client_that_drips_is_cut_off,
            a_slow_handler_closes_the_window,
            a_client_that_does_not_read_is_dropped,
            a_client_that_reads_late_misses_nothing,
            a_client_that_never_pauses_keeps_nobody_else_waiting,
            a_client_that_goes_on_after_the_end_is_not_listened_to_for_long,
        );
    };
}

/// Makes a test of each case that is about what a server has beyond its loop: listeners, limits, certificates,
/// a shutdown; and, in `handlers`, that whatever a hook takes its time for, it does beside the loop. A loop that
/// asks its hooks on its own thread has nobody left meanwhile who could write, or keep the time.
#[macro_export]
macro_rules! server_conformance {
    ($kind:ty) => {
        $crate::tests!($kind, handlers:
            what_was_said_before_a_slow_answer_goes_out_first,
            a_handler_that_panics_when_it_is_dropped_harms_nobody_else,
            no_answer_in_time_is_451_and_the_end,
            content_that_is_not_taken_in_time_is_451_and_the_end,
        );
        $crate::tests!($kind, events:
            each_connection_is_closed_once,
            who_is_silent_is_closed_once,
            a_reset_is_told_as_a_loss,
            a_connection_whose_handler_fails_is_closed_once,
            what_is_cut_off_is_closed_once,
            a_shutdown_is_why_connections_close,
            a_session_says_where_it_came_in,
        );
        $crate::tests!($kind, listeners:
            each_listener_has_its_configuration,
            every_listener_that_offers_tls_needs_a_tls_configuration,
            a_unix_socket_is_a_listener_like_any_other,
            a_stale_unix_socket_is_replaced,
            listeners_are_handed_over,
            certificates_are_renewed_while_the_server_runs,
        );
        $crate::tests!($kind, connections:
            who_is_too_many_is_turned_away,
            who_is_too_many_from_one_address_is_turned_away,
            the_clients_of_a_proxy_are_not_counted_as_one,
            each_client_of_a_proxy_is_counted_by_its_address,
            who_is_too_many_behind_a_proxy_costs_the_handler_nothing,
            who_may_use_xclient_is_not_counted,
            fifty_from_one_address_and_any_number_from_loopback,
            a_place_is_free_again_after_a_panic,
        );
        $crate::tests_in_processes!($kind, connections:
            a_crowd_leaves_descriptors_for_handlers,
            descriptors_run_out_and_come_back,
            ten_thousand_connects_at_once,
        );
        $crate::tests!($kind, shutdown:
            a_shutdown_lets_everybody_finish,
            what_does_not_end_is_cut_off,
            under_load_nothing_acknowledged_is_lost,
            cut_off_under_load_nothing_acknowledged_is_lost,
            a_server_that_was_stopped_before_it_ran_ends_at_once,
            tls_that_is_offered_needs_a_configuration,
            an_address_in_use_is_an_error,
        );
    };
}

/// Makes a test of each case that is about servers on an executor, for a [`Kind`] with [`Waiting`] handlers.
#[macro_export]
macro_rules! asynchronous_conformance {
    ($kind:ty) => {
        $crate::tests!($kind, sessions: the_replies_to_a_group_come_at_once_with_hooks_too,);
    };
}

/// Makes a test of each case that is about [`Blocking`] handlers.
#[macro_export]
macro_rules! blocking_conformance {
    ($kind:ty) => {
        $crate::tests!($kind, handlers: a_blocking_handler_is_never_on_the_servers_thread,);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! tests {
    ($kind:ty, $module:ident: $($test:ident,)*) => {
        $(
            #[test]
            fn $test() {
                $crate::$module::$test::<$kind>();
            }
        )*
    };
}

/// The same for cases that start themselves again in other processes, and so need to know what they are called.
#[doc(hidden)]
#[macro_export]
macro_rules! tests_in_processes {
    ($kind:ty, $module:ident: $($test:ident,)*) => {
        $(
            #[test]
            fn $test() {
                let path = concat!(module_path!(), "::", stringify!($test));
                // The harness names a test without its crate.
                let (_, test) = path.split_once("::").unwrap();
                $crate::$module::$test::<$kind>(test);
            }
        )*
    };
}
