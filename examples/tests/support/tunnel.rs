//! TLS from the first octet for clients that know STARTTLS only, as `stunnel` would do it for them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;

/// Passes what comes to its port in the clear on to a server that speaks TLS. Dropped, it stops.
pub(crate) struct Tunnel {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Tunnel {
    /// Opens a tunnel to a server, whose certificate is in a file.
    pub(crate) fn to(server: SocketAddr, certificate: &Path) -> Self {
        let connector = connector(certificate);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime can be had");
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (stop, stopped) = oneshot::channel();
        let serve = async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server, connector.clone()));
            }
        };
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    /// Its end in the clear.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A panic in there has failed the client's test already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn pass(mut client: TcpStream, server: SocketAddr, connector: TlsConnector) -> std::io::Result<()> {
    let name = ServerName::try_from("localhost").expect("it is a name");
    let mut server = connector.connect(name, TcpStream::connect(server).await?).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

fn connector(certificate: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(certificate).expect("the server has a certificate");
    roots.add(certificate).expect("it can be trusted");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}
