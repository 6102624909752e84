//! From a recipient's domain to the hosts that take its mail (RFC 5321, section 5.1).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};

use super::local::is_local;
use crate::delivery::StartError;

/// Looks up mail exchangers.
#[derive(Debug)]
pub(crate) struct MailExchangers {
    resolver: TokioResolver,
    /// Our own name: mail for exchangers behind us must not come round again.
    hostname: String,
    /// Whether they may be this host, or in a private network.
    allow_local: bool,
}

/// One host that takes mail for a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exchanger {
    /// The name, without the last dot, or the address.
    pub(crate) host: String,
    pub(crate) addresses: Vec<IpAddr>,
}

/// Why no host takes mail for a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unroutable {
    /// The domain does not exist.
    NoDomain,
    /// RFC 7505: the domain says that it takes no mail.
    NullMx,
    /// The domain exists, and neither it nor its exchangers have an address.
    NoAddress,
    /// The best exchanger is this host, which is not the domain's end of the line.
    Loop,
    /// Every exchanger is this host, or in a private network.
    Local,
    /// What follows the @ is neither a domain nor an address.
    Syntax,
    /// DNS gave no answer; later it may.
    Unanswered(String),
}

impl MailExchangers {
    /// Prepares to ask `server`, or those that the system is set up to ask. Call within a tokio runtime.
    ///
    /// # Errors
    /// Where the system's configuration cannot be read.
    pub(crate) fn new(server: Option<SocketAddr>, hostname: &str, allow_local: bool) -> Result<Self, StartError> {
        let builder = match server {
            None => TokioResolver::builder_tokio(),
            Some(server) => {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                    connection.port = server.port();
                    connection
                });
                let server = NameServerConfig::new(server.ip(), true, connections.into());
                let config = ResolverConfig::from_name_servers(vec![server]);
                let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
                builder.options_mut().use_hosts_file = ResolveHosts::Never;
                Ok(builder)
            }
        };
        let resolver = builder
            .and_then(hickory_resolver::ResolverBuilder::build)
            .map_err(|error| StartError::Resolver(Box::new(error)))?;
        Ok(Self { resolver, hostname: hostname.trim_end_matches('.').to_owned(), allow_local })
    }

    /// The hosts to try for a domain or an address literal, best first.
    ///
    /// # Errors
    /// As [`Unroutable`] lists.
    pub(crate) async fn look_up(&self, domain: &str) -> Result<Vec<Exchanger>, Unroutable> {
        if let Some(literal) = domain.strip_prefix('[') {
            let literal = literal.strip_suffix(']').ok_or(Unroutable::Syntax)?;
            let exchanger = address_literal(literal)?;
            let is_local = !self.allow_local && exchanger.addresses.iter().copied().any(is_local);
            return if is_local { Err(Unroutable::Local) } else { Ok(vec![exchanger]) };
        }
        let name = absolute(domain)?;
        let mut hosts = match self.resolver.lookup(name.clone(), RecordType::MX).await {
            Ok(lookup) => lookup
                .answers()
                .iter()
                .filter_map(|record| {
                    if let RData::MX(mx) = &record.data { Some((mx.preference, mx.exchange.clone())) } else { None }
                })
                .collect::<Vec<_>>(),
            Err(error) if error.is_nx_domain() => return Err(Unroutable::NoDomain),
            Err(NetError::Dns(DnsError::NoRecordsFound(_))) => Vec::new(),
            Err(error) => return Err(Unroutable::Unanswered(error.to_string())),
        };
        if hosts.is_empty() {
            // The implicit MX: the domain itself.
            hosts.push((0, name));
        } else if hosts.iter().all(|(_, host)| host.is_root()) {
            return Err(Unroutable::NullMx);
        }
        hosts.retain(|(_, host)| !host.is_root());
        self.addresses(self.in_order(hosts)?).await
    }

    /// Lowest preference first, equals shuffled. Where we are an exchanger ourselves, those that are not better
    /// would only send the message back to us (RFC 5321, section 5.1).
    fn in_order(&self, mut hosts: Vec<(u16, Name)>) -> Result<Vec<Name>, Unroutable> {
        let ours = hosts.iter().filter(|(_, host)| host_name(host).eq_ignore_ascii_case(&self.hostname));
        if let Some(ours) = ours.map(|(preference, _)| *preference).min() {
            hosts.retain(|(preference, _)| *preference < ours);
            if hosts.is_empty() {
                return Err(Unroutable::Loop);
            }
        }
        fastrand::shuffle(&mut hosts);
        hosts.sort_by_key(|(preference, _)| *preference);
        Ok(hosts.into_iter().map(|(_, host)| host).take(MAX_HOSTS).collect())
    }

    async fn addresses(&self, hosts: Vec<Name>) -> Result<Vec<Exchanger>, Unroutable> {
        let mut exchangers = Vec::new();
        let mut unanswered = None;
        let mut passed_over = false;
        for host in hosts {
            match self.resolver.lookup_ip(host.clone()).await {
                Ok(lookup) => {
                    let mut addresses: Vec<_> = lookup.iter().collect();
                    if !self.allow_local {
                        let all = addresses.len();
                        addresses.retain(|address| !is_local(*address));
                        passed_over |= addresses.len() < all;
                    }
                    addresses.truncate(MAX_ADDRESSES);
                    exchangers.push(Exchanger { host: host_name(&host), addresses });
                }
                Err(error) if error.is_no_records_found() => {}
                Err(error) => unanswered = Some(error.to_string()),
            }
        }
        exchangers.retain(|exchanger| !exchanger.addresses.is_empty());
        match unanswered {
            _ if !exchangers.is_empty() => Ok(exchangers),
            Some(error) => Err(Unroutable::Unanswered(error)),
            None if passed_over => Err(Unroutable::Local),
            None => Err(Unroutable::NoAddress),
        }
    }
}

impl Unroutable {
    pub(crate) fn is_permanent(&self) -> bool {
        !matches!(self, Self::Unanswered(_))
    }

    /// The enhanced status code (RFC 3463, RFC 7505).
    pub(crate) fn status(&self) -> &'static str {
        match self {
            Self::NoDomain => "5.1.2",
            Self::NullMx => "5.1.10",
            Self::NoAddress => "5.4.4",
            Self::Loop | Self::Local => "5.4.6",
            Self::Syntax => "5.1.3",
            Self::Unanswered(_) => "4.4.3",
        }
    }
}

impl fmt::Display for Unroutable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDomain => f.write_str("the domain does not exist"),
            Self::NullMx => f.write_str("the domain takes no mail (null MX)"),
            Self::NoAddress => f.write_str("no mail exchanger of the domain has an address"),
            Self::Loop => f.write_str("the domain's mail exchanger is this server, which does not take its mail"),
            Self::Local => f.write_str("the domain's mail exchanger is this host, or in a private network"),
            Self::Syntax => f.write_str("what follows the @ is neither a domain nor an address"),
            Self::Unanswered(error) => write!(f, "DNS did not answer: {error}"),
        }
    }
}

fn address_literal(literal: &str) -> Result<Exchanger, Unroutable> {
    let address: IpAddr = match literal.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => {
            IpAddr::V6(literal.get(5..).unwrap_or_default().parse().map_err(|_| Unroutable::Syntax)?)
        }
        Some(_) | None => IpAddr::V4(literal.parse().map_err(|_| Unroutable::Syntax)?),
    };
    Ok(Exchanger { host: address.to_string(), addresses: vec![address] })
}

/// A name as it is, without the search domains that a resolver may add to it.
fn absolute(domain: &str) -> Result<Name, Unroutable> {
    // What is in ASCII is looked up as it is: the rules for internationalised names allow no underscores.
    let name = if domain.is_ascii() { Name::from_ascii(domain) } else { Name::from_utf8(domain) };
    let mut name = name.map_err(|_| Unroutable::Syntax)?;
    name.set_fqdn(true);
    // Neither "" nor "." is anyone's domain.
    if name.is_root() {
        return Err(Unroutable::Syntax);
    }
    Ok(name)
}

fn host_name(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

/// A domain with more exchangers or addresses than these could keep us busy for days.
const MAX_HOSTS: usize = 10;
const MAX_ADDRESSES: usize = 5;

#[cfg(test)]
#[path = "mx_tests.rs"]
mod tests;
