//! Connections as tasks, on whatever asynchronous [`Runtime`].

mod alarm;
mod blocking;
mod combine;
mod connection;
mod runtime;
mod server;

pub use blocking::Blocking;
pub use runtime::Runtime;
pub use server::serve;
