//! Networks, and who is trusted, as a command line names them.

use std::net::IpAddr;

use clap::Args;
use sansmtp::{ConfigBuilder, Network, Peer, Proxy, XClient};

/// For `#[command(flatten)]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(crate) struct Proxies {
    /// Expect the PROXY protocol (version 1 or 2) from the load balancers of this network, or over unix sockets with
    /// "unix", and take the client's address from it; repeatable
    ///
    /// Each of their connections has to begin with such a header, on --listen-tls in front of TLS; one without is closed.
    /// From anybody else it is refused as any other command that is not known. Whoever is trusted can claim any address, by
    /// which logins and connections are limited and logged.
    #[arg(long, value_name = "NETWORK", value_parser = trusted, help_heading = PROXIES)]
    proxy_from: Vec<Trusted>,
    /// Offer XCLIENT to the proxies and filters of this network, or over unix sockets with "unix"; repeatable
    ///
    /// It tells the client's name and address, not its login: users log in here.
    #[arg(long, value_name = "NETWORK", value_parser = trusted, help_heading = PROXIES)]
    xclient_from: Vec<Trusted>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trusted {
    Network(Network),
    UnixSockets,
}

impl Proxies {
    pub(crate) fn apply(&self, mut builder: ConfigBuilder) -> ConfigBuilder {
        if !self.proxy_from.is_empty() {
            let trusted = self.proxy_from.clone();
            builder = builder.proxy(Proxy::from_trusted(move |peer| is_trusted(&trusted, peer)));
        }
        if !self.xclient_from.is_empty() {
            let trusted = self.xclient_from.clone();
            builder = builder.xclient(XClient::from_trusted(move |peer| is_trusted(&trusted, peer)));
        }
        builder
    }
}

fn is_trusted(trusted: &[Trusted], peer: &Peer) -> bool {
    trusted.iter().any(|trusted| match trusted {
        Trusted::Network(network) => peer.address().is_some_and(|address| network.contains(address.ip())),
        Trusted::UnixSockets => peer.is_local(),
    })
}

/// Reads a network.
///
/// # Errors
/// Says what would be right.
pub(crate) fn network(text: &str) -> Result<Network, String> {
    text.parse().map_err(|_| {
        let parts = text.split_once('/').and_then(|(address, prefix)| Some((address.parse::<IpAddr>().ok()?, prefix)));
        let Some((address, prefix)) = parts else {
            return "a network is 192.0.2.0/24, 2001:db8::/32 or an address alone".to_owned();
        };
        let bits = if address.is_ipv4() { 32 } else { 128 };
        match prefix.parse::<u32>().ok().filter(|prefix| *prefix <= bits) {
            Some(prefix) => {
                format!("it has bits behind its prefix: {}/{prefix}, or {address} alone", masked(address, prefix))
            }
            None => format!("the prefix of a network is a number from 0 to {bits}: {address}/{bits}"),
        }
    })
}

/// The first address of the network.
fn masked(address: IpAddr, prefix: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - prefix.min(32)).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - prefix.min(128)).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

fn trusted(text: &str) -> Result<Trusted, String> {
    if text == "unix" {
        return Ok(Trusted::UnixSockets);
    }
    let network = network(text)?;
    // The largest that one organisation has: 10.0.0.0/8 and fc00::/7.
    let least = if network.is_ipv6() { 7 } else { 8 };
    if network.prefix() < least {
        return Err(format!(
            "this would be everybody, and everybody could claim any address: name the addresses of the proxies, \
             as 192.0.2.7 or 10.1.0.0/16 (a prefix of {least} bits at the least)"
        ));
    }
    Ok(Trusted::Network(network))
}

const PROXIES: &str = "Proxies in front";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_that_are_wrong_are_told_with_what_would_be_right() {
        for (text, right) in [
            ("10.0.0.1/8", "10.0.0.0/8, or 10.0.0.1 alone"),
            ("2001:db8::1/32", "2001:db8::/32, or 2001:db8::1 alone"),
            ("1.2.3.4/0", "0.0.0.0/0, or 1.2.3.4 alone"),
            ("::1/0", "::/0, or ::1 alone"),
            ("10.0.0.0/33", "from 0 to 32: 10.0.0.0/32"),
            ("::1/x", "from 0 to 128: ::1/128"),
            ("example.org", "192.0.2.0/24"),
            ("", "192.0.2.0/24"),
        ] {
            let error = network(text).unwrap_err();
            assert!(error.contains(right), "{text}: {error}");
        }
        for (text, is_taken) in [
            ("0.0.0.0/0", false),
            ("::/0", false),
            ("128.0.0.0/1", false),
            ("2000::/3", false),
            ("::ffff:0:0/96", false),
            ("10.0.0.0/8", true),
            ("fc00::/7", true),
            ("192.0.2.7", true),
            ("unix", true),
        ] {
            let result = trusted(text);
            assert_eq!(result.is_ok(), is_taken, "{text}");
            assert!(result.err().is_none_or(|error| error.contains("everybody")), "{text}");
        }
    }
}
