//! The battery, both ways: mechanisms that the engine runs, and mechanisms that Dovecot runs.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use sansmtp_authenticators::dovecot::{Dovecot, Settings};
use tempfile::TempDir;

use crate::dialogue::{Dialogue, code};
use crate::server::Server;
use crate::support::battery::Backend;
use crate::support::login::Door;
use crate::support::stalled;

/// A Dovecot, and a socket behind which nobody answers. What is made of either is the way in.
struct Servers<W> {
    dovecot: Server,
    stalled: TempDir,
    way: PhantomData<W>,
}

trait Way {
    fn door(dovecot: Dovecot) -> Arc<dyn Door>;
}

impl<W: Way> Backend for Servers<W> {
    fn start() -> Option<Self> {
        let stalled = tempfile::tempdir().unwrap();
        stalled::unix(&stalled.path().join("auth"));
        Some(Self { dovecot: Server::start()?, stalled, way: PhantomData })
    }

    fn door(&self) -> Arc<dyn Door> {
        W::door(Settings::unix(self.dovecot.socket()).max_waiting(1000).connect().unwrap())
    }

    fn stop(&mut self) -> bool {
        self.dovecot.stop();
        true
    }

    fn start_again(&mut self) {
        self.dovecot.start_again();
    }

    fn stalled(&self) -> Option<Arc<dyn Door>> {
        let settings = Settings::unix(self.stalled.path().join("auth")).time_limit(Duration::from_millis(200));
        Some(W::door(settings.connect_later()))
    }
}

mod as_authenticator {
    use super::*;

    struct Asked;

    impl Way for Asked {
        fn door(dovecot: Dovecot) -> Arc<dyn Door> {
            Arc::new(dovecot)
        }
    }

    crate::support::battery::battery!(Servers<Asked>);
}

mod passed_through {
    use super::*;

    /// AUTH PLAIN, left to Dovecot.
    struct Through(Dovecot);

    impl Door for Through {
        fn log_in(&self, user: &str, password: &str) -> u16 {
            let auth = sansmtp::Auth::without_mechanisms().handler_mechanism("PLAIN").require_tls(false);
            let mut dialogue = Dialogue::new(self.0.exchange(), auth, sansmtp::Peer::local(), None);
            code(&dialogue.auth("PLAIN", format!("\0{user}\0{password}")))
        }
    }

    impl Way for Through {
        fn door(dovecot: Dovecot) -> Arc<dyn Door> {
            Arc::new(Self(dovecot))
        }
    }

    crate::support::battery::battery!(Servers<Through>);
}
