//! What is for those who run the server.

use clap::Args;
use sansmtp_metrics::Address;

#[derive(Debug, Args)]
pub(super) struct OperationsArguments {
    /// Serve metrics for Prometheus here, under /metrics: IP:PORT on loopback, or unix:PATH [default: none]
    #[arg(long, value_name = "ADDR", help_heading = OPERATIONS)]
    pub(super) metrics: Option<Address>,
}

const OPERATIONS: &str = "Operations";
