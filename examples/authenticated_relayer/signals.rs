//! Signals: SIGINT and SIGTERM end the server, and SIGHUP has it read its files anew.

use std::thread;
use std::time::Duration;

use sansmtp_smol::Shutdown;

use crate::failure::Failure;

/// The signals that the program acts on.
///
/// A SIGHUP that comes before the server is up does not end the program: the files are read once more when it is.
#[cfg(unix)]
pub(crate) struct Signals(signal_hook::iterator::Signals);

#[cfg(unix)]
impl Signals {
    /// Begins to take SIGHUP. SIGINT and SIGTERM still end the program at once.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn new() -> Result<Self, Failure> {
        signal_hook::iterator::Signals::new([signal_hook::consts::SIGHUP]).map(Self).map_err(cannot_handle)
    }

    /// From now on, the first SIGINT or SIGTERM lets sessions end, for so long, and the second does not wait. `reload` is
    /// called after a SIGHUP; those that come while it runs make one more call.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn handle(
        mut self,
        shutdown: Shutdown,
        grace: Duration,
        reload: impl Fn() + Send + 'static,
    ) -> Result<(), Failure> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

        for signal in [SIGINT, SIGTERM] {
            self.0.add_signal(signal).map_err(cannot_handle)?;
        }
        // On a thread of its own: a file system that does not answer must not keep SIGTERM waiting.
        let (hung_up, hang_ups) = std::sync::mpsc::sync_channel(1);
        spawn("reload", move || hang_ups.iter().for_each(|()| reload()))?;
        spawn("signals", move || {
            let mut ending = false;
            for signal in self.0.forever() {
                match signal {
                    SIGHUP => {
                        // If one waits there already, it is for this one, too.
                        let _ = hung_up.try_send(());
                    }
                    _ if ending => std::process::exit(1),
                    _ => {
                        ending = true;
                        tracing::info!("shutting down");
                        crate::service::stopping();
                        shutdown.begin(grace);
                    }
                }
            }
        })
    }
}

/// There is no SIGHUP here.
#[cfg(not(unix))]
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self)
    }

    /// From now on, the first SIGINT or SIGTERM lets sessions end, for so long, and the second does not wait. Nothing calls
    /// `reload`.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn handle(
        self,
        shutdown: Shutdown,
        grace: Duration,
        _reload: impl Fn() + Send + 'static,
    ) -> Result<(), Failure> {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicBool, Ordering};

        use signal_hook::consts::{SIGINT, SIGTERM};
        use signal_hook::flag;

        let ending = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal sets what makes the second one end the program.
            flag::register_conditional_shutdown(signal, 1, Arc::clone(&ending)).map_err(cannot_handle)?;
            flag::register(signal, Arc::clone(&ending)).map_err(cannot_handle)?;
        }
        spawn("signals", move || {
            // Signals can be waited for only on Unix.
            while !ending.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(100));
            }
            tracing::info!("shutting down");
            shutdown.begin(grace);
        })
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(cannot_handle)
}

fn cannot_handle(error: std::io::Error) -> Failure {
    Failure::new("cannot handle signals", error)
}
