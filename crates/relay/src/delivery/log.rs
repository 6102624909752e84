//! The line in the log that tells what came of an attempt: one for each recipient.

use std::collections::HashMap;
use std::time::Duration;

use super::client::TlsState;
use crate::routes::{Address, Host};
use crate::spool::{State, Status, Timestamp};

/// The host that was spoken with, or tried.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// As in `mx.example.org[192.0.2.1]:25`.
    relay: String,
    tls: &'static str,
    is_verified: bool,
}

/// What one attempt has to tell.
#[derive(Debug)]
pub(super) struct Told {
    octets: u64,
    /// The server that has put off the recipients at these places.
    deferred_by: HashMap<usize, Peer>,
}

impl Peer {
    pub(super) fn new(host: &Host, address: &Address, tls: Option<&TlsState>) -> Self {
        let relay = match address {
            Address::Tcp(address) => format!("{}[{}]:{}", host.next_hop.host, address.ip(), address.port()),
            Address::Unix(path) => path.display().to_string(),
        };
        Self { relay, tls: tls.map_or("none", |tls| tls.version), is_verified: tls.is_some_and(|tls| tls.is_verified) }
    }
}

impl Told {
    /// Of a message of this size.
    pub(super) fn new(octets: u64) -> Self {
        Self { octets, deferred_by: HashMap::new() }
    }

    /// Takes note of what was recorded for the recipients at these places, and tells what will not change any more.
    pub(super) fn recorded(&mut self, state: &State, places: &[usize], peer: Option<&Peer>) {
        for &place in places {
            match state.recipients.get(place).map(|recipient| recipient.status) {
                Some(Status::Pending) => _ = peer.and_then(|peer| self.deferred_by.insert(place, peer.clone())),
                Some(Status::Delivered | Status::Relayed | Status::Failed | Status::Reported) => {
                    self.tell(state, place, peer, None)
                }
                None => {}
            }
        }
    }

    /// Tells of a recipient that the attempt has put off, or given up because its time is over.
    pub(super) fn ended(&self, state: &State, place: usize, retry_in: Option<Duration>) {
        self.tell(state, place, self.deferred_by.get(&place), retry_in);
    }

    fn tell(&self, state: &State, place: usize, peer: Option<&Peer>, retry_in: Option<Duration>) {
        let Some(recipient) = state.recipients.get(place) else { return };
        let (id, from, to) = (&state.id, state.reverse_path.as_str(), recipient.forward_path.as_str());
        let (relay, tls, verified) =
            peer.map_or(("none", "none", false), |peer| (&peer.relay, peer.tls, peer.is_verified));
        let delay = Timestamp::now().since(state.arrived).as_secs_f64();
        let size = self.octets;
        let (dsn, reply) = recipient.last.as_ref().map_or(("", ""), |last| (&last.status, &last.text));
        // Texts of others are recorded as strings, which a subscriber writes in quotes; the other fields are this
        // program's own words.
        match recipient.status {
            Status::Delivered | Status::Relayed => {
                tracing::info!(%id, from, to, relay, %tls, verified, delay, size, status = %"sent", %dsn, reply, "delivery");
            }
            Status::Pending => {
                let retry_in = retry_in.unwrap_or_default().as_secs_f64();
                tracing::warn!(%id, from, to, relay, %tls, verified, delay, size, status = %"deferred", %dsn, reply, retry_in, "delivery");
            }
            Status::Failed | Status::Reported => {
                tracing::warn!(%id, from, to, relay, %tls, verified, delay, size, status = %"bounced", %dsn, reply, "delivery");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::envelope::Envelope;
    use crate::routes::NextHop;
    use crate::spool::Answer;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `tell` has written, as the relayer writes them.
    fn lines(tell: impl FnOnce()) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .finish();
        tracing::subscriber::with_default(subscriber, tell);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn state(recipients: &[(&str, Status, &str)]) -> State {
        let envelope = Envelope::new("tim@sender.example", recipients.iter().map(|(path, ..)| *path));
        let mut state = State::new(envelope);
        for (recipient, (_, status, text)) in state.recipients.iter_mut().zip(recipients) {
            recipient.status = *status;
            recipient.last = Some(Answer::own_words("4.0.0", text));
        }
        state
    }

    fn peer() -> Peer {
        let host = Host { next_hop: "smtp://mx.example".parse::<NextHop>().unwrap(), addresses: Vec::new() };
        let address = Address::from(std::net::SocketAddr::from(([192, 0, 2, 1], 25)));
        Peer { tls: "TLSv1.3", is_verified: true, ..Peer::new(&host, &address, None) }
    }

    /// Without what differs from run to run.
    fn without_delay(line: &str) -> String {
        let words = line.split(' ').filter(|word| !word.starts_with("delay=") && !word.starts_with("id="));
        words.collect::<Vec<_>>().join(" ").trim().to_owned()
    }

    #[test]
    fn one_line_for_each_recipient_tells_what_the_attempt_came_to() {
        let state = state(&[
            ("a@b.example", Status::Delivered, "250 2.0.0 ok"),
            ("b@b.example", Status::Failed, "550 no"),
            ("c@b.example", Status::Pending, "450 later"),
            ("d@b.example", Status::Pending, "cannot look it up"),
        ]);
        let mut told = Told::new(123);
        let seen = lines(|| {
            told.recorded(&state, &[0, 1, 2], Some(&peer()));
            told.recorded(&state, &[3], None);
            told.ended(&state, 2, Some(Duration::from_secs(300)));
            told.ended(&state, 3, Some(Duration::from_secs(300)));
        });
        assert!(seen.iter().all(|line| line.contains(&format!(" delivery id={} from=", state.id))), "{seen:?}");
        assert!(seen.iter().all(|line| line.contains(" delay=0.")), "{seen:?}");
        let relay = "relay=\"mx.example[192.0.2.1]:25\" tls=TLSv1.3 verified=true size=123";
        let expected = [
            format!(r#"INFO delivery from="tim@sender.example" to="a@b.example" {relay} status=sent dsn=4.0.0 reply="250 2.0.0 ok""#),
            format!(r#"WARN delivery from="tim@sender.example" to="b@b.example" {relay} status=bounced dsn=4.0.0 reply="550 no""#),
            format!(r#"WARN delivery from="tim@sender.example" to="c@b.example" {relay} status=deferred dsn=4.0.0 reply="450 later" retry_in=300.0"#),
            r#"WARN delivery from="tim@sender.example" to="d@b.example" relay="none" tls=none verified=false size=123 status=deferred dsn=4.0.0 reply="cannot look it up" retry_in=300.0"#.to_owned(),
        ];
        assert_eq!(seen.iter().map(|line| without_delay(line)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn nothing_that_others_have_written_makes_fields_or_lines() {
        let forged = "\" status=sent dsn=2.0.0\u{1b}[31m\nINFO delivery id=forged reply=\"";
        let state = state(&[(&format!("{forged}@b.example"), Status::Failed, forged)]);
        let seen = lines(|| Told::new(1).recorded(&state, &[0], Some(&peer())));
        let [line] = &seen[..] else { panic!("{seen:?}") };
        // Outside of quotes there is one status, which is ours.
        let mut outside = String::new();
        let (mut is_quoted, mut is_escaped) = (false, false);
        for character in line.chars() {
            match character {
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = true,
                '"' => is_quoted = !is_quoted,
                _ if !is_quoted => outside.push(character),
                _ => {}
            }
        }
        assert_eq!(outside.matches("status=").count(), 1, "{line}");
        assert!(outside.contains("status=bounced dsn=4.0.0 reply=") && !line.contains('\u{1b}'), "{line}");
    }
}
