//! The battery, both ways: mechanisms that the engine runs, and mechanisms that Dovecot runs.

use std::sync::Arc;
use std::time::Duration;

use sansmtp_authenticators::dovecot::{Dovecot, Settings};
use tempfile::TempDir;

use crate::dialogue::{Dialogue, code};
use crate::server::Server;
use crate::support::battery::Backend;
use crate::support::login::Door;
use crate::support::stalled;

/// A socket behind which nobody answers.
struct Stalled {
    directory: TempDir,
}

impl Stalled {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        stalled::unix(&directory.path().join("auth"));
        Self { directory }
    }

    fn dovecot(&self) -> Dovecot {
        Settings::unix(self.directory.path().join("auth")).time_limit(Duration::from_millis(200)).connect_later()
    }
}

mod as_authenticator {
    use super::*;

    struct Asked {
        server: Server,
        stalled: Stalled,
    }

    impl Backend for Asked {
        fn start() -> Option<Self> {
            Some(Self { server: Server::start()?, stalled: Stalled::new() })
        }

        fn door(&self) -> Arc<dyn Door> {
            Arc::new(Dovecot::connect(self.server.socket()).unwrap())
        }

        fn stop(&mut self) -> bool {
            self.server.stop();
            true
        }

        fn start_again(&mut self) {
            self.server.start_again();
        }

        fn stalled(&self) -> Option<Arc<dyn Door>> {
            Some(Arc::new(self.stalled.dovecot()))
        }
    }

    crate::support::battery::battery!(Asked);
}

mod passed_through {
    use super::*;

    struct Passed {
        server: Server,
        stalled: Stalled,
    }

    /// AUTH PLAIN, left to Dovecot.
    struct Through(Dovecot);

    impl Door for Through {
        fn log_in(&self, user: &str, password: &str) -> u16 {
            let auth = sansmtp::Auth::without_mechanisms().handler_mechanism("PLAIN").require_tls(false);
            let mut dialogue = Dialogue::new(self.0.exchange(), auth, sansmtp::Peer::local(), None);
            code(&dialogue.auth("PLAIN", format!("\0{user}\0{password}")))
        }
    }

    impl Backend for Passed {
        fn start() -> Option<Self> {
            Some(Self { server: Server::start()?, stalled: Stalled::new() })
        }

        fn door(&self) -> Arc<dyn Door> {
            Arc::new(Through(Dovecot::connect(self.server.socket()).unwrap()))
        }

        fn stop(&mut self) -> bool {
            self.server.stop();
            true
        }

        fn start_again(&mut self) {
            self.server.start_again();
        }

        fn stalled(&self) -> Option<Arc<dyn Door>> {
            Some(Arc::new(Through(self.stalled.dovecot())))
        }
    }

    crate::support::battery::battery!(Passed);
}
