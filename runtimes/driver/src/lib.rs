//! What the adapters of [`sansmtp`], the sans-IO SMTP server engine, have in common.
//!
//! An adapter accepts connections, moves octets, and keeps time. Everything else that a server needs around
//! the engine is here, once:
//!
//! * [`Setup`] and [`setup_methods`]: a server's configuration and surface, its listeners (TCP, unix sockets,
//!   sockets handed over), its limits on connections, its certificates;
//! * [`Conversation`]: one connection between engine and handler. It reduces the engine's actions to a few
//!   [`Step`]s, and knows what becomes of a connection whose handler breaks or whose peer is gone;
//! * [`Desk`]: a blocking handler, with the message that is on its way to it, and [`SharedDesk`], of which more than one
//!   thread knows;
//! * [`lobby`]: where connections wait that are served by threads;
//! * [`Stages`], [`Signal`] and [`Shutdown`]: how a server ends;
//! * [`tasks`]: the whole loop for asynchronous runtimes, of which an adapter only implements
//!   [`Runtime`](tasks::Runtime).
//!
//! `sansmtp-smol`, `sansmtp-tokio` and `sansmtp-threads` are made of it. So can another adapter be: with an
//! asynchronous runtime of which `tasks` knows nothing, or with none:
//!
//! ```
//! use std::io::{self, Read, Write};
//! use std::net::TcpStream;
//!
//! use sansmtp::Handler;
//! use sansmtp_driver::{Conversation, Desk, Out, Step, report};
//!
//! /// Serves one connection; a client that goes silent is left to the socket's own timeouts.
//! fn serve(mut stream: TcpStream, mut conversation: Box<Conversation>, handler: impl Handler) -> io::Result<()> {
//!     let (mut out, mut desk) = (Out::default(), Desk::new(handler));
//!     loop {
//!         match conversation.step(&mut out) {
//!             None => {}
//!             Some(Step::Write { .. }) => drop(out.write(|octets| stream.write(octets))?),
//!             Some(Step::Ask(question, _)) => {
//!                 let outcome = match desk.accept(question) {
//!                     Some(question) => desk.work(question),
//!                     None => Ok(None),
//!                 };
//!                 conversation.settle(outcome.map_err(|_| sansmtp_driver::Unanswered::Panicked));
//!             }
//!             Some(Step::Event(event, span)) => report(event, span, |event| desk.event(event)),
//!             Some(Step::Read { .. }) => drop(conversation.read(|room| stream.read(room))),
//!             Some(Step::Sleep { until }) => std::thread::sleep(until - std::time::Instant::now()),
//!             Some(Step::Close) => return Ok(()),
//!         }
//!     }
//! }
//! ```

mod buffers;
mod conversation;
mod descriptors;
mod engine;
#[cfg(unix)]
mod inherited;
mod limits;
mod listening;
#[cfg(feature = "lobby")]
pub mod lobby;
mod out;
mod question;
mod setup;
mod signal;
mod sockets;
mod surface;
pub mod tasks;
mod time;
mod trace;

pub use conversation::{Conversation, LINGER, Step, Unanswered};
#[cfg(feature = "rustls")]
pub use engine::Certificates;
pub use engine::Security;
#[cfg(unix)]
pub use inherited::{Inherited, inherited_listeners};
pub use limits::{Place, Refused};
pub use listening::Service;
pub use out::{Out, is_nothing_yet};
pub use question::{Desk, OwnedQuestion, Question, SharedDesk};
pub use setup::Setup;
pub use signal::{Alive, Shutdown, Signal, Stages, Wait};
pub use sockets::{Listener, Stream};
pub use time::{after, at};
pub use trace::{put_away, report};

#[cfg(feature = "rustls")]
#[doc(no_inline)]
pub use rustls;
#[doc(no_inline)]
pub use sansmtp;
