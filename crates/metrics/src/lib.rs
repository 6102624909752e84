//! What a server on `sansmtp` counts, and how Prometheus gets it.
//!
//! [`count`] makes numbers of the engine's events, for the recorder of the crate `metrics` that the program has
//! installed; [`Exporter`] installs one and gives its numbers to Prometheus over HTTP.
//!
//! ```no_run
//! use sansmtp::{Event, Events, Handler};
//! use sansmtp_metrics::Exporter;
//!
//! struct Counted;
//!
//! impl Handler for Counted {
//!     type Message = Vec<u8>;
//!
//!     fn events(&self) -> Events {
//!         Events::ALL
//!     }
//!
//!     fn event(&mut self, event: Event<'_>) {
//!         sansmtp_metrics::count(&event);
//!     }
//! }
//!
//! let exporter = Exporter::install()?;
//! sansmtp_metrics::describe_metrics();
//! exporter.serve("127.0.0.1:9125".parse()?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! No label holds an address, a login, or anything else of which a stranger could make many.

#![forbid(unsafe_code)]

mod address;
mod events;
mod exporter;

pub use address::{Address, InvalidAddress};
pub use events::{count, describe_metrics};
pub use exporter::{Exporter, InstallError};
