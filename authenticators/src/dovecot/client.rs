//! What Dovecot is told of a client, and the request that begins with it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use sansmtp::auth::MechanismName;
use sansmtp::proxy::Address;
use sansmtp::{Peer, Session, TlsInfo};
use zeroize::Zeroizing;

use super::error::Error;
use super::line::{Line, TooLong};
use super::link::Request;
use super::reply::Reply;
use super::server::Server;
use super::settings::Settings;

/// What is known of a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client<'c> {
    pub(super) peer: Peer,
    pub(super) tls: Option<&'c TlsInfo>,
    /// The address that it has connected to.
    pub(super) local: Option<SocketAddr>,
    pub(super) session_id: Option<&'c str>,
}

/// Why a request has no reply.
#[derive(Debug)]
pub(super) enum Unanswered {
    Fault(Error),
    /// Dovecot has been restarted, and no longer offers the mechanism. Naming it would end the connection.
    NotOffered,
    TooLong,
}

impl<'c> Client<'c> {
    pub(super) fn of_session(session: &'c Session) -> Self {
        Self {
            peer: session.peer(),
            tls: session.tls().map(|tls| &**tls),
            local: told_local(session),
            session_id: None,
        }
    }

    /// Begins a request, and gives it with the first reply.
    ///
    /// A connection that ends before the reply is made anew once: Dovecot may just have been restarted.
    pub(super) fn begin(
        self,
        server: &Arc<Server>,
        mechanism: MechanismName,
        response: Option<&[u8]>,
    ) -> Result<(Request, Reply), Unanswered> {
        let _place = server.enter()?;
        let settings = server.settings();
        let deadline = Instant::now() + settings.time_limit;
        let mut again = true;
        loop {
            let link = server.link(deadline)?;
            if !link.mechanisms().iter().any(|offered| offered.name == mechanism && !offered.private) {
                return Err(Unanswered::NotOffered);
            }
            let asked = link.request().and_then(|mut request| {
                let line = self.line(settings, request.id(), mechanism, response);
                Ok(match line {
                    Ok(line) => Ok((request.ask(line, deadline)?, request)),
                    Err(TooLong) => Err(Unanswered::TooLong),
                })
            });
            match asked {
                Ok(Ok((reply, request))) => return Ok((request, reply)),
                Ok(Err(unanswered)) => return Err(unanswered),
                Err(Error::Closed) if again => again = false,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn line(
        self,
        settings: &Settings,
        id: u32,
        mechanism: MechanismName,
        response: Option<&[u8]>,
    ) -> Result<Zeroizing<Vec<u8>>, TooLong> {
        let mut line = Line::new("AUTH", id).field(mechanism.as_str().as_bytes()).pair("service", &settings.service);
        if let Some(tls) = self.tls {
            line = line.field(b"secured=tls");
            if let Some(name) = &tls.server_name {
                line = line.pair("local_name", name);
            }
            if !tls.peer_certificates.is_empty() {
                line = line.field(b"valid-client-cert");
            }
            if let Some(name) = settings.name_of(&tls.peer_certificates) {
                line = line.pair("cert_username", &name);
            }
        }
        if let Some(id) = self.session_id {
            line = line.pair("session", id);
        }
        for (ip, port, address) in [("lip", "lport", self.local), ("rip", "rport", self.peer.address())] {
            if let Some(address) = address {
                line = line.pair(ip, &address.ip().to_canonical().to_string());
                line = line.pair(port, &address.port().to_string());
            }
        }
        // Dovecot makes an address wait after refusals. To it, all clients without one are the same.
        if self.peer.address().is_none() {
            line = line.field(b"no-penalty");
        }
        // Nobody will ask a master about this login, so Dovecot need not keep it.
        line = line.field(b"nologin");
        // It has to be the last.
        match response {
            Some(response) => line.base64("resp=", response).finish(),
            None => line.finish(),
        }
    }
}

/// The address that the client has connected to, as a proxy or XCLIENT told.
fn told_local(session: &Session) -> Option<SocketAddr> {
    if let Some(xclient) = session.xclient()
        && let Some(address) = xclient.destination_address().and_then(|address| address.known())
    {
        let port = xclient.destination_port().and_then(|port| port.known());
        return Some(SocketAddr::new(address, port.unwrap_or_default()));
    }
    match session.proxy()?.destination()? {
        Address::Socket(address) => Some(*address),
        Address::Unix(_) | _ => None,
    }
}

impl From<Error> for Unanswered {
    fn from(error: Error) -> Self {
        Self::Fault(error)
    }
}
