//! What is known of the client.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

use crate::auth::{Credentials, MechanismName};
use crate::command::client_name::ClientName;
use crate::proxy::ProxyInfo;
use crate::xclient::XClientInfo;

/// Where a connection comes from, as its adapter knows it, or as a proxy that is believed has told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    origin: Origin,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Origin {
    #[default]
    Local,
    Unknown,
    Address(SocketAddr),
}

impl Peer {
    /// A peer without a network address: a unix socket, a pipe, a test.
    #[must_use]
    pub fn local() -> Self {
        Self::default()
    }

    /// A peer of whose address nothing is known, as somebody between it and the server does not tell. It
    /// is not [`local`](Self::local), and should be trusted with nothing.
    #[must_use]
    pub fn unknown() -> Self {
        Self { origin: Origin::Unknown }
    }

    /// The peer's address, unless it is local or unknown.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self.origin {
            Origin::Address(address) => Some(address),
            Origin::Local | Origin::Unknown => None,
        }
    }

    /// Whether the peer is on this machine, without a network address. An address of this machine, such as
    /// 127.0.0.1, is a network address.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.origin == Origin::Local
    }
}

impl From<SocketAddr> for Peer {
    /// The peer with this address. One of IPv4 that is written as IPv6 (`::ffff:192.0.2.1`), as a socket for both protocols
    /// gives it, is what it stands for.
    fn from(address: SocketAddr) -> Self {
        let address = match address.ip().to_canonical() {
            IpAddr::V4(ip) => SocketAddr::from((ip, address.port())),
            IpAddr::V6(_) => address,
        };
        Self { origin: Origin::Address(address) }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Origin::Address(address) => address.fmt(f),
            Origin::Local => f.write_str("local"),
            Origin::Unknown => f.write_str("unknown"),
        }
    }
}

/// What is known of the client: its address, its name, its TLS, whom it has proved to be.
///
/// STARTTLS makes the engine forget everything the client said before (RFC 3207, section 4.2).
#[derive(Clone)]
pub struct Session {
    peer: Peer,
    /// Where it came in, if anybody has told.
    arrival: Option<Arc<Arrival>>,
    pub(crate) greeting: Option<Greeting>,
    client_name: String,
    tls: Option<Arc<TlsInfo>>,
    tls_offloaded: bool,
    identity: Identity,
    failed_authentications: u32,
    /// Of the few connections that somebody relays.
    relayed: Option<Arc<Relayed>>,
}

/// What the embedder knows of a connection beside its peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrival {
    pub(crate) id: u64,
    pub(crate) local_address: Option<SocketAddr>,
    pub(crate) listener: Option<Arc<str>>,
}

/// What others have told of the client.
#[derive(Clone, Debug, Default)]
struct Relayed {
    proxy: Option<ProxyInfo>,
    xclient: Option<XClientInfo>,
}

/// How the client introduced itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// HELO: no extension is in use.
    Helo,
    /// EHLO.
    Ehlo,
    /// LHLO (RFC 2033): EHLO's counterpart in LMTP.
    Lhlo,
}

impl Greeting {
    /// Whether extensions are in use.
    #[must_use]
    pub fn is_extended(self) -> bool {
        match self {
            Self::Helo => false,
            Self::Ehlo | Self::Lhlo => true,
        }
    }
}

#[derive(Clone, Default)]
struct Identity {
    mechanism: Option<MechanismName>,
    /// Authcid and authzid, in the buffer in which they were gathered; no password.
    credentials: Credentials,
    /// Apart: most results have none.
    attached: Option<Box<Attached>>,
}

/// What the authenticator's result has brought along.
#[derive(Clone)]
struct Attached {
    /// Where it is not the authcid.
    login: Option<Box<str>>,
    data: Option<Arc<dyn Any + Send + Sync>>,
}

impl Session {
    pub(crate) fn new(peer: Peer, listener: Option<&Arc<str>>) -> Self {
        let arrival = || Arc::new(Arrival { listener: listener.cloned(), ..Arrival::default() });
        Self {
            peer,
            arrival: listener.is_some().then(arrival),
            greeting: None,
            // Names of a usual length then need no further allocation.
            client_name: String::with_capacity(USUAL_NAME_OCTETS),
            tls: None,
            tls_offloaded: false,
            identity: Identity::default(),
            failed_authentications: 0,
            relayed: None,
        }
    }

    /// The connection's number: unique in the process where an adapter of this project gives it, and what
    /// [`Connection::with_id`](crate::Connection::with_id) was told otherwise; 0 if it was told nothing.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.arrival.as_ref().map_or(0, |arrival| arrival.id)
    }

    /// The address at which the connection was accepted, that of its own socket: a listener on all addresses has
    /// many. `None` for unix sockets, and where [`Connection::with_local_address`] was told nothing. Behind a
    /// proxy, [`ProxyInfo::destination`] is the one that the client connected to.
    ///
    /// [`Connection::with_local_address`]: crate::Connection::with_local_address
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.arrival.as_ref()?.local_address
    }

    /// What the listener is called that it came by: [`ConfigBuilder::name`](crate::ConfigBuilder::name).
    #[must_use]
    pub fn listener(&self) -> Option<&str> {
        self.arrival.as_ref()?.listener.as_deref()
    }

    pub(crate) fn arrival_mut(&mut self) -> &mut Arrival {
        Arc::make_mut(self.arrival.get_or_insert_default())
    }

    /// Where the connection comes from: the client's address, also where a trusted proxy or XCLIENT client
    /// relays it. The address of the proxy is [`ProxyInfo::proxy`], that of whoever said XCLIENT
    /// [`XClientInfo::sender`].
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// What a trusted proxy has told, if the connection came from one.
    #[must_use]
    pub fn proxy(&self) -> Option<&ProxyInfo> {
        self.relayed.as_deref()?.proxy.as_ref()
    }

    /// What trusted XCLIENT commands have told. STARTTLS makes the engine forget it.
    #[must_use]
    pub fn xclient(&self) -> Option<&XClientInfo> {
        self.relayed.as_deref()?.xclient.as_ref()
    }

    /// How the client introduced itself, once it has.
    #[must_use]
    pub fn greeting(&self) -> Option<Greeting> {
        self.greeting
    }

    /// The name given with HELO, EHLO or LHLO, as the client wrote it: 1–255 octets of UTF-8 without
    /// characters that do not show. It may hold spaces, quotes, parentheses and whatever else can be printed; where
    /// it goes into a field or a line, [`trace_name`](Self::trace_name) is safe. Octets that are no UTF-8
    /// are U+FFFD here. Empty before the command.
    #[must_use]
    pub fn client_name(&self) -> &str {
        &self.client_name
    }

    /// Whether the name is a domain or an address literal: [`ClientName::is_domain_or_literal`].
    #[must_use]
    pub fn is_client_name_valid(&self) -> bool {
        self.trace_name().is_domain_or_literal()
    }

    /// The name for `Received:` fields (RFC 5321, section 4.4) and log lines: [`ClientName`] writes it without
    /// anything that could break out of them, and `unknown` before HELO, EHLO or LHLO.
    #[must_use]
    pub fn trace_name(&self) -> ClientName<'_> {
        ClientName::new(&self.client_name)
    }

    /// What TLS negotiated; `None` in the clear.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<TlsInfo>> {
        self.tls.as_ref()
    }

    /// Whether the connection is under TLS.
    #[must_use]
    pub fn is_under_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether it is a proxy that has said so of the client's TLS, and what comes from there is in the
    /// clear ([`Proxy::believe_offloaded_tls`](crate::Proxy::believe_offloaded_tls)).
    #[must_use]
    pub fn is_tls_offloaded(&self) -> bool {
        self.tls_offloaded
    }

    /// Whether an AUTH has succeeded.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.identity.mechanism.is_some()
    }

    /// The mechanism by which the client authenticated.
    #[must_use]
    pub fn mechanism(&self) -> Option<MechanismName> {
        self.identity.mechanism
    }

    /// The name under which the client is logged in: the authcid, unless the authenticator's result
    /// named another.
    #[must_use]
    pub fn login(&self) -> Option<&str> {
        let identity = &self.identity;
        let login = identity.attached.as_ref().and_then(|attached| attached.login.as_deref());
        let login = login.unwrap_or(identity.credentials.authcid());
        self.is_authenticated().then_some(login)
    }

    /// The identity to act as that the client asked for and was granted (RFC 4422, section 3.4.1), where
    /// it differs from the authcid.
    #[must_use]
    pub fn authzid(&self) -> Option<&str> {
        self.identity.credentials.authzid()
    }

    /// What the authenticator attached to its result, if it is a `T`.
    #[must_use]
    pub fn auth_data<T: 'static>(&self) -> Option<&T> {
        self.identity.attached.as_ref()?.data.as_deref()?.downcast_ref()
    }

    /// How many times credentials were refused on this connection.
    #[must_use]
    pub fn failed_authentications(&self) -> u32 {
        self.failed_authentications
    }

    pub(crate) fn greet(&mut self, greeting: Greeting, name: &[u8]) {
        self.greeting = Some(greeting);
        self.client_name.clear();
        // The name was checked to be UTF-8.
        self.client_name.push_str(core::str::from_utf8(name).unwrap_or_default());
    }

    pub(crate) fn authenticate(
        &mut self,
        mechanism: MechanismName,
        login: Option<String>,
        credentials: Credentials,
        data: Option<Arc<dyn Any + Send + Sync>>,
    ) {
        let is_attached = login.is_some() || data.is_some();
        let attached = is_attached.then(|| Box::new(Attached { login: login.map(Into::into), data }));
        self.identity = Identity { mechanism: Some(mechanism), credentials, attached };
    }

    pub(crate) fn count_failed_authentication(&mut self) -> u32 {
        self.failed_authentications = self.failed_authentications.saturating_add(1);
        self.failed_authentications
    }

    /// RFC 3207, section 4.2: nothing that the client said before TLS is kept. What the server counted
    /// against it is.
    pub(crate) fn enter_tls(&mut self, tls: TlsInfo) {
        self.greeting = None;
        self.client_name.clear();
        self.identity = Identity::default();
        self.tls = Some(Arc::new(tls));
        self.tls_offloaded = false;
        if let Some(relayed) = self.relayed.as_mut().filter(|relayed| relayed.xclient.is_some()) {
            if let Some(xclient) = Arc::make_mut(relayed).xclient.take() {
                self.peer = xclient.sender();
            }
        }
    }

    /// A header has come. `believes_tls` says whether what it tells of the client's TLS counts.
    pub(crate) fn relay(&mut self, proxy: ProxyInfo, believes_tls: bool) {
        self.peer = proxy.peer();
        self.tls = proxy.offloaded_tls().filter(|_| believes_tls).map(Arc::new);
        self.tls_offloaded = self.tls.is_some();
        self.relayed = Some(Arc::new(Relayed { proxy: Some(proxy), xclient: None }));
    }

    /// XCLIENT: as if the client had just connected. TLS stays, and what was counted.
    pub(crate) fn impersonate(&mut self, xclient: XClientInfo) {
        self.greeting = None;
        self.client_name.clear();
        self.identity = Identity::default();
        self.peer = xclient.peer(self.peer);
        Arc::make_mut(self.relayed.get_or_insert_default()).xclient = Some(xclient);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id())
            .field("listener", &self.listener())
            .field("local_address", &self.local_address())
            .field("peer", &self.peer)
            .field("greeting", &self.greeting)
            .field("client_name", &self.client_name)
            .field("tls", &self.tls)
            .field("tls_offloaded", &self.tls_offloaded)
            .field("relayed", &self.relayed)
            .field("mechanism", &self.identity.mechanism)
            .field("login", &self.login())
            .field("authzid", &self.authzid())
            // What an authenticator attaches may be a token.
            .field("has_auth_data", &self.identity.attached.as_ref().is_some_and(|attached| attached.data.is_some()))
            .field("failed_authentications", &self.failed_authentications)
            .finish()
    }
}

/// A version of TLS. Newer ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.0 (RFC 2246).
    Tls1_0,
    /// TLS 1.1 (RFC 4346).
    Tls1_1,
    /// TLS 1.2 (RFC 5246).
    Tls1_2,
    /// TLS 1.3 (RFC 8446).
    Tls1_3,
}

impl fmt::Display for TlsVersion {
    /// Writes the name that `Received:` fields and logs use, such as `TLSv1.3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls1_0 => "TLSv1.0",
            Self::Tls1_1 => "TLSv1.1",
            Self::Tls1_2 => "TLSv1.2",
            Self::Tls1_3 => "TLSv1.3",
        })
    }
}

/// What TLS negotiated, told to the engine by whoever did the handshake.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsInfo {
    /// The protocol version.
    pub version: TlsVersion,
    /// The cipher suite's IANA name.
    pub cipher_suite: String,
    /// The server name that the client asked for (RFC 6066, section 3).
    pub server_name: Option<String>,
    /// The application protocol (RFC 7301).
    pub alpn_protocol: Option<Vec<u8>>,
    /// The client's certificate chain in DER, its own certificate first. Empty without one, and only
    /// ever filled with a chain that the TLS configuration has verified.
    pub peer_certificates: Vec<Vec<u8>>,
    /// The `tls-exporter` channel binding (RFC 9266), where the TLS stack gives it.
    pub exporter: Option<[u8; 32]>,
    /// The `tls-server-end-point` channel binding (RFC 5929, section 4): a hash of the server's
    /// certificate.
    pub server_end_point: Option<Vec<u8>>,
}

impl TlsInfo {
    /// What every handshake knows; the other fields can be set on the value.
    #[must_use]
    pub fn new(version: TlsVersion, cipher_suite: &str) -> Self {
        Self {
            version,
            cipher_suite: cipher_suite.into(),
            server_name: None,
            alpn_protocol: None,
            peer_certificates: Vec::new(),
            exporter: None,
            server_end_point: None,
        }
    }

    /// Whether there is data for channel binding.
    pub(crate) fn has_channel_binding(&self) -> bool {
        self.exporter.is_some() || self.server_end_point.is_some()
    }
}

impl fmt::Debug for TlsInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsInfo")
            .field("version", &self.version)
            .field("cipher_suite", &self.cipher_suite)
            .field("server_name", &self.server_name)
            .field("alpn_protocol", &self.alpn_protocol)
            .field("peer_certificates", &self.peer_certificates.len())
            // What is exported from a connection's keys is for its two ends.
            .field("has_exporter", &self.exporter.is_some())
            .field("has_server_end_point", &self.server_end_point.is_some())
            .finish()
    }
}

const USUAL_NAME_OCTETS: usize = 32;
