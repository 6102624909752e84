//! What is for the operator.

use clap::Args;
use sansmtp_metrics::Address;

use crate::runtime::Runtime;

#[derive(Debug, Args)]
pub(super) struct OperationsArguments {
    /// Serve metrics for Prometheus here, under /metrics: IP:PORT on loopback, or unix:PATH [default: none]
    #[arg(long, value_name = "ADDR", help_heading = OPERATIONS)]
    pub(super) metrics: Option<Address>,
    /// What drives the connections
    #[arg(long, value_enum, default_value_t = Runtime::Smol, help_heading = OPERATIONS)]
    pub(super) runtime: Runtime,
}

const OPERATIONS: &str = "Operations";
