//! How many connections a program takes, and for how long without a login, as its command line says.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Args;
use sansmtp::{ConfigBuilder, Network, Timeouts};

use crate::networks::network;
use crate::units::{count, count_above_zero, time};

/// For `#[command(flatten)]`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct ConnectionLimits {
    /// Connections at a time [default: 10000, or half of the files that may be open, and a tenth more for addresses with
    /// few]
    #[arg(long, value_name = "N", value_parser = count_above_zero::<NonZeroUsize>, help_heading = CROWDS)]
    pub(crate) max_connections: Option<NonZeroUsize>,
    /// Connections at a time from one address, loopback included (in IPv6, from one network of 64 bits); 0 for no limit
    /// [default: 50, loopback not included]
    #[arg(long, value_name = "N", value_parser = count::<usize>, help_heading = CROWDS)]
    max_connections_per_address: Option<usize>,
    /// Take any number of connections from the addresses of this network; repeatable
    #[arg(long, value_name = "NETWORK", value_parser = network, help_heading = CROWDS)]
    pub(crate) exempt_network: Vec<Network>,
    /// Time to log in, from the beginning of a connection; 0 for no limit [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = CROWDS)]
    login_timeout: Option<Duration>,
    /// Leave the soft limit on open files as it is, which is otherwise raised to 65536, or to twice --max-connections if
    /// that is more, or to the hard limit if that is less
    #[arg(long, help_heading = CROWDS)]
    pub(crate) keep_open_file_limit: bool,
}

impl ConnectionLimits {
    pub(crate) fn apply(&self, builder: ConfigBuilder) -> ConfigBuilder {
        let Some(timeout) = self.login_timeout else { return builder };
        let before_auth = Some(timeout).filter(|timeout| !timeout.is_zero());
        builder.timeouts(Timeouts { before_auth, ..Timeouts::default() })
    }

    /// None if nothing was said.
    pub(crate) fn per_address(&self) -> Option<usize> {
        self.max_connections_per_address.map(|connections| if connections == 0 { usize::MAX } else { connections })
    }
}

const CROWDS: &str = "Limits on connections";
