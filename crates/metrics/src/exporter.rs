//! The exporter for Prometheus: its text format over HTTP.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use crate::Address;

/// The process's recorder, whose numbers Prometheus reads.
pub struct Exporter {
    numbers: PrometheusHandle,
}

/// There is a recorder in this process already.
#[derive(Debug)]
pub struct InstallError(());

impl Exporter {
    /// Makes the process's recorder, before anything is counted: what was counted without one is lost.
    ///
    /// # Errors
    /// Where the process has a recorder.
    pub fn install() -> Result<Self, InstallError> {
        let recorder = PrometheusBuilder::new().build_recorder();
        let numbers = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|_| InstallError(()))?;
        Ok(Self { numbers })
    }

    /// All numbers, in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.numbers.render()
    }

    /// Answers `GET /metrics` there, on a thread of its own, as long as the process runs. At most eight scrapers are
    /// served at once, each for ten seconds; the others wait. Returns where: a port 0 has become a number.
    ///
    /// # Errors
    /// Where it is not possible to listen there.
    pub fn serve(self, address: Address) -> io::Result<Address> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let within = runtime.enter();
        let numbers = self.numbers;
        let (bound, serving): (Address, std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) = match address {
            Address::Loopback(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                let bound = Address::Loopback(listener.local_addr()?);
                let listener = Arc::new(tokio::net::TcpListener::from_std(listener)?);
                let accept = move || {
                    let listener = Arc::clone(&listener);
                    async move { listener.accept().await.map(|(stream, _)| stream) }
                };
                (bound, Box::pin(serve(numbers, accept)))
            }
            #[cfg(unix)]
            Address::Unix(path) => {
                let listener = Arc::new(listen_unix(&path)?);
                let accept = move || {
                    let listener = Arc::clone(&listener);
                    async move { listener.accept().await.map(|(stream, _)| stream) }
                };
                (Address::Unix(path), Box::pin(serve(numbers, accept)))
            }
            #[cfg(not(unix))]
            Address::Unix(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        drop(within);
        thread::Builder::new().name("metrics".to_owned()).spawn(move || runtime.block_on(serving))?;
        Ok(bound)
    }
}

#[cfg(unix)]
fn listen_unix(path: &std::path::Path) -> io::Result<tokio::net::UnixListener> {
    use std::os::unix::net::UnixStream;

    match tokio::net::UnixListener::bind(path) {
        // A server before this one may have left its socket; one that is there is not disturbed.
        Err(error)
            if error.kind() == io::ErrorKind::AddrInUse
                && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) =>
        {
            std::fs::remove_file(path)?;
            tokio::net::UnixListener::bind(path)
        }
        bound => bound,
    }
}

async fn serve<S, F>(numbers: PrometheusHandle, mut accept: impl FnMut() -> F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = io::Result<S>>,
{
    let places = Arc::new(Semaphore::new(SCRAPERS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match accept().await {
            Ok(stream) => {
                let numbers = numbers.clone();
                tokio::spawn(async move {
                    let answer = service_fn(move |request| {
                        let response = answer(&request, &numbers);
                        async move { Ok::<_, Infallible>(response) }
                    });
                    let mut http = http1::Builder::new();
                    http.keep_alive(false)
                        .timer(TokioTimer::new())
                        .header_read_timeout(TIMEOUT)
                        .max_buf_size(BUFFER_OCTETS);
                    // What a scraper does wrong is its own affair.
                    let _ = tokio::time::timeout(TIMEOUT, http.serve_connection(TokioIo::new(stream), answer)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a scraper of the metrics");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn answer(request: &Request<Incoming>, numbers: &PrometheusHandle) -> Response<String> {
    let is_get = request.method() == Method::GET;
    let (status, text) = match (is_get, request.uri().path()) {
        (true, "/metrics") => (StatusCode::OK, numbers.render()),
        (true, _) => (StatusCode::NOT_FOUND, "the metrics are at /metrics\n".to_owned()),
        (false, _) => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    if !is_get {
        headers.insert(ALLOW, HeaderValue::from_static("GET"));
    }
    response
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the process has a recorder of metrics already")
    }
}

impl std::error::Error for InstallError {}

/// Scrapers at once.
const SCRAPERS: usize = 8;
/// For a scraper, from its connecting to its last octet.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The least that hyper allows. A request is a few hundred octets.
const BUFFER_OCTETS: usize = 8192;
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};

    use super::*;

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// The only test that installs the process's recorder.
    #[test]
    fn prometheus_reads_the_numbers_while_others_hang() {
        let exporter = Exporter::install().unwrap();
        assert!(Exporter::install().is_err());
        metrics::counter!("sansmtp_of_this_test_total").increment(3);
        assert!(exporter.render().contains("sansmtp_of_this_test_total 3"));
        let Address::Loopback(address) = exporter.serve("127.0.0.1:0".parse().unwrap()).unwrap() else { panic!() };
        let mut hanging: Vec<TcpStream> = (1..SCRAPERS).map(|_| TcpStream::connect(address).unwrap()).collect();
        hanging[0].write_all(b"GET /metr").unwrap();
        let text = ask(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("\nsansmtp_of_this_test_total 3\n"), "{text}");
        assert!(text.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{text}");
        for (request, status) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "405"),
            ("EHLO x\r\n\r\n", "400"),
        ] {
            let text = ask(address, request);
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {text}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_that_was_left_behind_is_replaced_and_one_in_use_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let numbers = || Exporter { numbers: PrometheusBuilder::new().build_recorder().handle() };
        let address = Address::Unix(path.clone());
        numbers().serve(address.clone()).unwrap();
        assert_eq!(numbers().serve(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.0 200 OK\r\n"), "{text}");
    }
}
