//! The engine's events as numbers.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use sansmtp::{Event, ReplyRef};

/// Counts an event, for the recorder that is installed; without one, nothing happens.
///
/// Have a handler's `events` return [`Events::ALL`](sansmtp::Events::ALL), and call this from its `event`: events that
/// are not told are not counted.
pub fn count(event: &Event<'_>) {
    match *event {
        Event::Opened { .. } => {
            counter!(OPENED).increment(1);
            gauge!(OPEN).increment(1.0);
        }
        Event::Closed { reason, received, sent, .. } => {
            gauge!(OPEN).decrement(1.0);
            counter!(CLOSED, REASON => reason.to_string()).increment(1);
            counter!(RECEIVED).increment(received);
            counter!(SENT).increment(sent);
        }
        Event::TlsEstablished { session, .. } => {
            let version = session.tls().map(|tls| tls.version.to_string()).unwrap_or_default();
            counter!(HANDSHAKES, VERSION => version).increment(1);
        }
        Event::TlsFailed { reason, .. } => counter!(TLS_FAILURES, REASON => reason.to_string()).increment(1),
        Event::ClientRefused { reply, .. } => counter!(CLIENTS_REFUSED, CODE => code(reply)).increment(1),
        Event::CommandRefused { command, reply, .. } => {
            counter!(COMMANDS_REFUSED, COMMAND => command.unwrap_or("unknown"), CODE => code(reply)).increment(1);
        }
        Event::TransactionBegun { .. } => counter!(TRANSACTIONS).increment(1),
        Event::RecipientRefused { reply, .. } => counter!(RECIPIENTS_REFUSED, CODE => code(reply)).increment(1),
        Event::MessageAccepted { octets, .. } => {
            counter!(ACCEPTED).increment(1);
            counter!(MESSAGE_BYTES).increment(octets);
        }
        Event::MessageRefused { reply, .. } => counter!(MESSAGES_REFUSED, CODE => code(reply)).increment(1),
        Event::LimitReached { limit, .. } => counter!(LIMITS, LIMIT => limit.to_string()).increment(1),
        Event::AuthSucceeded { mechanism, .. } => authenticated(mechanism.to_string(), SUCCEEDED.to_owned()),
        Event::AuthFailed { mechanism, reason, .. } => {
            let mechanism = mechanism.map_or_else(|| "unknown".to_owned(), |mechanism| mechanism.to_string());
            authenticated(mechanism, reason.to_string());
        }
        Event::ProxyRefused { reason, .. } => counter!(PROXY_REFUSED, REASON => reason.to_string()).increment(1),
        // Of an engine that is newer than this crate.
        _ => {}
    }
}

/// Describes the metrics of [`count`] to the recorder, and begins those at zero that have no labels. Call it once the
/// recorder is installed. These are, each counter since the start of the process:
///
/// | metric | | what it counts |
/// |---|---|---|
/// | `sansmtp_connections_opened_total` | counter | connections that were served |
/// | `sansmtp_open_connections` | gauge | connections that are open |
/// | `sansmtp_connections_closed_total` | counter | by `reason`, as the log has it: `quit`, `timeout`, `tls-failed`, … |
/// | `sansmtp_received_bytes_total`, `sansmtp_sent_bytes_total` | counter | octets of SMTP of the connections that are closed, without what TLS adds |
/// | `sansmtp_tls_handshakes_total` | counter | handshakes that succeeded, by `version`: `TLSv1.2`, `TLSv1.3` |
/// | `sansmtp_tls_failures_total` | counter | by `reason`: `no-common-version`, `alert-unknown-ca`, … |
/// | `sansmtp_authentications_total` | counter | by `mechanism` and `result`: `succeeded`, or the reason of the log for which it failed |
/// | `sansmtp_clients_refused_total` | counter | clients refused by the connect hook, by `code` of the reply |
/// | `sansmtp_commands_refused_total` | counter | by `command` (`unknown` for a line that is none) and `code` |
/// | `sansmtp_transactions_total` | counter | MAIL commands accepted |
/// | `sansmtp_recipients_refused_total` | counter | by `code` |
/// | `sansmtp_messages_accepted_total` | counter | messages accepted (with LMTP, for a recipient each) |
/// | `sansmtp_message_bytes_total` | counter | their octets |
/// | `sansmtp_messages_refused_total` | counter | messages refused at their end, or within, by `code` |
/// | `sansmtp_limits_reached_total` | counter | by `limit`: `auth-failures`, `recipients`, … |
/// | `sansmtp_proxy_refused_total` | counter | connections of a proxy without a header that can be read, by `reason` |
///
/// Clients that are turned away as there are too many connections have no connection; the log tells of them.
pub fn describe_metrics() {
    for (name, unit, description) in [
        (OPENED, Unit::Count, "Connections that were served"),
        (RECEIVED, Unit::Bytes, "Octets of SMTP received, of closed connections"),
        (SENT, Unit::Bytes, "Octets of SMTP sent, of closed connections"),
        (TRANSACTIONS, Unit::Count, "MAIL commands accepted"),
        (ACCEPTED, Unit::Count, "Messages accepted"),
        (MESSAGE_BYTES, Unit::Bytes, "Octets of the messages accepted"),
    ] {
        describe_counter!(name, unit, description);
        counter!(name).absolute(0);
    }
    for (name, description) in [
        (CLOSED, "Connections closed"),
        (HANDSHAKES, "TLS handshakes that succeeded"),
        (TLS_FAILURES, "TLS handshakes that failed, and TLS that broke"),
        (AUTHENTICATIONS, "AUTH exchanges that ended"),
        (CLIENTS_REFUSED, "Clients refused at their connecting"),
        (COMMANDS_REFUSED, "Commands refused"),
        (RECIPIENTS_REFUSED, "Recipients refused"),
        (MESSAGES_REFUSED, "Messages refused"),
        (LIMITS, "Limits that clients have reached"),
        (PROXY_REFUSED, "Connections of a proxy without a header that can be read"),
    ] {
        describe_counter!(name, Unit::Count, description);
    }
    describe_gauge!(OPEN, Unit::Count, "Connections that are open");
    gauge!(OPEN).set(0.0);
}

fn authenticated(mechanism: String, result: String) {
    counter!(AUTHENTICATIONS, MECHANISM => mechanism, RESULT => result).increment(1);
}

fn code(reply: ReplyRef<'_>) -> String {
    reply.code().to_string()
}

const OPENED: &str = "sansmtp_connections_opened_total";
const OPEN: &str = "sansmtp_open_connections";
const CLOSED: &str = "sansmtp_connections_closed_total";
const RECEIVED: &str = "sansmtp_received_bytes_total";
const SENT: &str = "sansmtp_sent_bytes_total";
const HANDSHAKES: &str = "sansmtp_tls_handshakes_total";
const TLS_FAILURES: &str = "sansmtp_tls_failures_total";
const AUTHENTICATIONS: &str = "sansmtp_authentications_total";
const CLIENTS_REFUSED: &str = "sansmtp_clients_refused_total";
const COMMANDS_REFUSED: &str = "sansmtp_commands_refused_total";
const TRANSACTIONS: &str = "sansmtp_transactions_total";
const RECIPIENTS_REFUSED: &str = "sansmtp_recipients_refused_total";
const ACCEPTED: &str = "sansmtp_messages_accepted_total";
const MESSAGE_BYTES: &str = "sansmtp_message_bytes_total";
const MESSAGES_REFUSED: &str = "sansmtp_messages_refused_total";
const LIMITS: &str = "sansmtp_limits_reached_total";
const PROXY_REFUSED: &str = "sansmtp_proxy_refused_total";
const CODE: &str = "code";
const COMMAND: &str = "command";
const LIMIT: &str = "limit";
const MECHANISM: &str = "mechanism";
const REASON: &str = "reason";
const RESULT: &str = "result";
const SUCCEEDED: &str = "succeeded";
const VERSION: &str = "version";

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;
    use sansmtp::auth::Refusal;
    use sansmtp::testing::Play;
    use sansmtp::{Auth, AuthRequest, AuthResult, Config, Events, Handler, Session};

    use super::*;

    struct OnlyTim;

    impl Handler for OnlyTim {
        type Message = ();

        fn events(&self) -> Events {
            Events::ALL
        }

        fn event(&mut self, event: Event<'_>) {
            count(&event);
        }

        fn authenticate(&mut self, _: &Session, request: &AuthRequest) -> AuthResult {
            let tim = request.credentials().authcid() == "tim";
            if tim { AuthResult::accept() } else { AuthResult::refuse_because(Refusal::UnknownUser) }
        }
    }

    #[test]
    fn events_become_numbers_without_names_of_anybody() {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            describe_metrics();
            let config = Config::builder("mx.example.org").auth(Auth::new().require_tls(false)).events(Events::ALL);
            Play::new(config.build().unwrap())
                .transcript_with(
                    &mut OnlyTim,
                    r"
                    S: 220 mx.example.org ESMTP
                    C: EHLO client.example.net
                    S*: 250
                    C: AUTH PLAIN AGt1cnQAc2VjcmV0
                    P: 0.25
                    S: 535 5.7.8 ...
                    C: AUTH PLAIN AHRpbQBzZWNyZXQ=
                    S: 235 2.7.0 ...
                    C: NONSENSE tim@example.org
                    S: 500 ...
                    C: QUIT
                    S: 221 ...
                    S: <closed>
                    ",
                )
                .unwrap();
        });
        let text = recorder.handle().render();
        for line in [
            "sansmtp_authentications_total{mechanism=\"PLAIN\",result=\"succeeded\"} 1",
            "sansmtp_commands_refused_total{command=\"unknown\",code=\"500\"} 1",
            "sansmtp_messages_accepted_total 0",
            "# TYPE sansmtp_open_connections gauge",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        assert!(
            text.contains("sansmtp_authentications_total{mechanism=\"PLAIN\",result=\"unknown-user\"} 1"),
            "{text}"
        );
        assert!(!text.contains("tim") && !text.contains("example.org") && !text.contains("kurt"), "{text}");
    }
}
