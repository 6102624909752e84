//! The server: opens what the options name, and runs the listeners.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sansmtp::auth::{AttemptLimits, AttemptLog, MemoryAttemptLog, Policy};
use sansmtp::{Auth, Config, Extensions, Limits, Secret, TlsVersion};
use sansmtp_authenticators::Authenticator;
use sansmtp_authenticators::attempts::{Guarded, ValkeyAttemptLog, ValkeyConfig};
use sansmtp_authenticators::sending::SendingLog;
use sansmtp_authenticators::source::{Refresher, Users};
use sansmtp_metrics::{Address, Exporter};
use sansmtp_relay::maildir::Maildir;
use sansmtp_relay::{self as relay, Route, Spool, TrustHandle, Worker};
use sansmtp_smol::{Certificates, Inherited};

use crate::failure::Failure;
use crate::greeting::{FirstLogin, say};
use crate::handler::{Relayer, Shared};
use crate::listening::{self, Bound};
use crate::mechanisms::Mechanism;
use crate::offer::{offered, passed_through};
use crate::options::{Delivery, Relaying, Serve};
use crate::runtime::{Runtime, Serve as Server};
use crate::senders::{SenderCheck, log_rule};
use crate::service;
use crate::signals::Signals;
use crate::tls_source::TlsSource;
use crate::users;
use sansmtp_relay::durable::random_file;
use sansmtp_relay::store::Store;

/// Serves until SIGINT or SIGTERM; SIGHUP has the files read anew that change while it serves.
///
/// # Errors
/// Says what could not be opened, or bound.
pub(crate) fn run(options: Serve) -> Result<(), Failure> {
    let handed_over = service::handed_over()?;
    if options.listeners.is_empty() && handed_over.is_empty() {
        return Err(Failure::plain("LISTEN_FDS is meant for another process; say where to listen with --listen"));
    }
    let signals = Signals::new()?;
    if let Some(address) = &options.metrics {
        serve_metrics(address)?;
    }
    let tls_source = TlsSource::of(&options);
    let load_tls = || tls_source.load().map_err(|error| Failure::new("cannot set up TLS", error));
    // What the operator has made is looked at first, and what is missing is made last: beside the users, if there are any.
    let of_the_operator = options.tls.is_some().then(load_tls).transpose()?;
    let certificate = tls_source.is_self_signed().then(|| tls_source.certificate().to_owned());
    let mut users = users::open(&options)?;
    log_rule(&options, &users);
    let first_login = users.take_first_user().zip(options.users.first());
    let first_login = first_login.map(|(user, users)| FirstLogin::new(user, users));
    let tls = match of_the_operator {
        Some(tls) => tls,
        None => load_tls()?,
    };
    let (mechanisms, auth) = match users.dovecot() {
        Some(dovecot) => (Vec::new(), passed_through(&options, dovecot)?),
        None => {
            let mechanisms = offered(&options.mechanisms, users.members(), options.client_ca.is_some())?;
            let auth = built_in(&options, &mechanisms, &users)?;
            (mechanisms, auth)
        }
    };
    let attempts = open_attempts(&options)?;
    let config = configure(&options, auth, attempts.log)?;
    let (store, worker) = open_store(&options)?;

    let authenticator = guarded(users.authenticator(), attempts.shared.clone());
    let shared = Arc::new(Shared {
        senders: SenderCheck::new(&options, Arc::clone(&authenticator)),
        users: authenticator,
        dovecot: users.dovecot().cloned(),
        attempts: attempts.shared,
        sending: open_sending(&options)?,
        store,
        min_free: options.min_free,
        hostname: options.hostname.clone(),
        hide_client_address: options.hide_client_address,
        is_counted: options.metrics.is_some(),
    });
    let trust = worker.as_ref().map(Worker::trust);
    let files = Files { tls: tls_source, users: users.refresher(), trust };
    let relayer = move |_| Relayer::new(Arc::clone(&shared));
    let started = |bound: &[Bound]| {
        if let Some(first_login) = first_login {
            let listener = bound.iter().find_map(|bound| Some((bound.address?, bound.implicit_tls)));
            first_login.tell(certificate.as_deref(), listener, &mechanisms);
        }
        // At once, for whoever reads them.
        say(&bound.iter().map(|bound| format!("listening on {}\n", bound.shown)).collect::<String>());
    };
    let served = match options.runtime {
        Runtime::Smol => {
            let blocking = move |peer| sansmtp_smol::Blocking::new(relayer(peer));
            let server = sansmtp_smol::Server::new(config, blocking).tls(tls);
            let reload = files.reload_into(server.tls_handle());
            serve(server, &options, handed_over, signals, reload, started)
        }
        Runtime::Tokio => {
            let blocking = move |peer| sansmtp_tokio::Blocking::new(relayer(peer));
            let server = sansmtp_tokio::Server::new(config, blocking).tls(tls);
            let reload = files.reload_into(server.tls_handle());
            serve(server, &options, handed_over, signals, reload, started)
        }
        Runtime::Threads => {
            let server = sansmtp_threads::Server::new(config, relayer).tls(tls);
            let reload = files.reload_into(server.tls_handle());
            serve(server, &options, handed_over, signals, reload, started)
        }
    };
    if let Some(worker) = worker {
        worker.stop(GRACE);
    }
    served
}

fn serve(
    server: impl Server,
    options: &Serve,
    handed_over: Vec<Inherited>,
    signals: Signals,
    reload: impl Fn() + Send + 'static,
    started: impl FnOnce(&[Bound]),
) -> Result<(), Failure> {
    let server = server.limit(&options.limits);
    let (mut server, mut bound) = listening::listen(server, &options.listeners, options.socket_mode)
        .map_err(|error| Failure::plain(error.to_string()))?;
    for inherited in handed_over {
        let implicit_tls = service::is_implicit_tls(&inherited.name);
        let address = inherited.listener.address();
        let is_local = address.is_none_or(|address| address.ip().is_loopback());
        if options.allow_plaintext_auth && !options.plaintext_auth_anywhere && !implicit_tls && !is_local {
            return Err(Failure::plain(format!(
                "with --allow-plaintext-auth, passwords for the socket {:?} could be read on the way; add --i-know",
                inherited.name
            )));
        }
        let shown =
            address.map_or_else(|| format!("the unix socket {:?}", inherited.name), |address| address.to_string());
        bound.push(Bound { shown, address, implicit_tls });
        server = server.inherit(inherited, implicit_tls);
    }
    let reload = move || {
        service::reloading();
        reload();
        service::ready();
    };
    signals.handle(server.shutdown(), GRACE, reload)?;
    started(&bound);
    service::ready();
    server.serve().map_err(|error| Failure::new("cannot serve", error))
}

/// Counts from now on, and lets Prometheus read the numbers there.
fn serve_metrics(address: &Address) -> Result<(), Failure> {
    let what = || format!("cannot serve metrics at {address}");
    let exporter = Exporter::install().map_err(|error| Failure::new(what(), error))?;
    sansmtp_metrics::describe_metrics();
    relay::describe_metrics();
    let address = exporter.serve(address.clone()).map_err(|error| Failure::new(what(), error))?;
    tracing::info!(%address, "serving metrics");
    Ok(())
}

/// The files that are read anew while the server runs, and what is to be asked for anew.
struct Files {
    tls: TlsSource,
    users: Refresher,
    /// Which next hops are trusted.
    trust: Option<TrustHandle>,
}

impl Files {
    /// Reads them, for the connections and the logins to come. What cannot be used is told in the log, and what there
    /// was before it stays.
    fn reload_into(self, certificates: Certificates) -> impl Fn() + Send + 'static {
        move || {
            let certificate = self.tls.certificate().display();
            match self.tls.load() {
                Ok(config) => {
                    certificates.replace(config);
                    tracing::info!(%certificate, "read the certificate anew");
                }
                Err(error) => tracing::error!(%error, "cannot use the new certificate; the one before stays"),
            }
            self.users.refresh();
            if let Some(Err(error)) = self.trust.as_ref().map(TrustHandle::reload) {
                tracing::error!(%error, "cannot use the new certificates for next hops; those before stay");
            }
        }
    }
}

/// Where refused logins are counted.
struct Attempts {
    /// Told by the engine.
    log: Arc<dyn AttemptLog>,
    /// The same, where it has to be asked before an authenticator.
    shared: Option<Arc<ValkeyAttemptLog>>,
}

fn open_attempts(options: &Serve) -> Result<Attempts, Failure> {
    let by_address = options.max_failures_per_address.map_or(0, NonZeroU32::get);
    let limits = AttemptLimits { by_address, ..AttemptLimits::default() };
    let Some(url) = &options.attempts else {
        let started = Instant::now();
        let log = MemoryAttemptLog::new(limits, move || started.elapsed());
        return Ok(Attempts { log: Arc::new(log), shared: None });
    };
    let what = || format!("cannot count in {url}");
    let config = ValkeyConfig::from_url(url.expose_secret()).map_err(|error| Failure::new(what(), error))?;
    let log = ValkeyAttemptLog::new(config.limits(limits)).map_err(|error| Failure::new(what(), error))?;
    let log = Arc::new(log);
    Ok(Attempts { log: Arc::<ValkeyAttemptLog>::clone(&log), shared: Some(log) })
}

/// Counts what logins send, where there is a limit: where refused logins are counted.
fn open_sending(options: &Serve) -> Result<Option<Arc<SendingLog>>, Failure> {
    let limits = options.sending_limits;
    if limits.is_unlimited() {
        return Ok(None);
    }
    let Some(url) = &options.attempts else {
        let started = Instant::now();
        return Ok(Some(Arc::new(SendingLog::in_memory(limits, move || started.elapsed()))));
    };
    let what = || format!("cannot count in {url}");
    let config = ValkeyConfig::from_url(url.expose_secret()).map_err(|error| Failure::new(what(), error))?;
    let log = SendingLog::in_valkey(limits, config).map_err(|error| Failure::new(what(), error))?;
    Ok(Some(Arc::new(log)))
}

fn guarded(users: Arc<dyn Authenticator>, attempts: Option<Arc<ValkeyAttemptLog>>) -> Arc<dyn Authenticator> {
    match attempts {
        Some(log) => Arc::new(Guarded::new(users, log)),
        None => users,
    }
}

/// Offers mechanisms that the engine runs, and asks the users about.
fn built_in(options: &Serve, mechanisms: &[Mechanism], users: &Users) -> Result<Auth, Failure> {
    let mut auth = Auth::without_mechanisms()
        .require_tls(!options.allow_plaintext_auth)
        .ignore_case(options.ignore_case_of_logins);
    if mechanisms.iter().any(|mechanism| mechanism.is_scram()) {
        auth = match users.salt_key() {
            Some(source) => auth.salt_key_from(move || source()),
            None => auth.salt_key(salt_key(options)?),
        };
    }
    for mechanism in mechanisms {
        auth = mechanism.offer(auth, users.scram_iterations());
        if mechanism.binds() {
            // On TLS 1.2 GNU SASL would choose it, and fail: it knows no binding there that could be had.
            auth = auth.policy(&mechanism.name(), Policy::new().min_tls(TlsVersion::Tls1_3));
        }
    }
    Ok(auth)
}

fn configure(options: &Serve, auth: Auth, attempts: Arc<dyn AttemptLog>) -> Result<Arc<Config>, Failure> {
    let builder = Config::builder(options.hostname.as_str())
        .auth(auth.attempts(attempts))
        .auth_required(true)
        .starttls(true)
        .implicit_tls(true)
        .smtputf8(true)
        // In a Maildir nobody would report on success (RFC 3461, section 5.2.3).
        .extensions(Extensions { dsn: !matches!(options.delivery, Delivery::Maildir(_)), ..Extensions::default() })
        .limits(Limits {
            max_message_octets: options.max_size,
            // However long they are, lines take no memory, and the worker breaks them on their way out.
            max_content_line_octets: usize::try_from(options.max_size).unwrap_or(usize::MAX),
            ..Limits::default()
        });
    let config = options.proxies.apply(options.limits.apply(options.leniency.apply(builder))).build();
    config.map_err(|error| Failure::new("cannot use the configuration", error))
}

/// From which unknown users' SCRAM salts are made where no database keeps it: what is kept in a file, so that a restart does
/// not show who is unknown.
fn salt_key(options: &Serve) -> Result<Secret, Failure> {
    let path = options.beside_users("mail-salt.key");
    random_file(&path, SALT_KEY_OCTETS)
        .map(Secret::new)
        .map_err(|error| Failure::new(format!("cannot keep a key in {}", path.display()), error))
}

/// The place for accepted mail, and the worker that takes it further, if it goes further.
fn open_store(options: &Serve) -> Result<(Store, Option<Worker>), Failure> {
    let open_spool = |directory: &PathBuf| {
        Spool::open(directory)
            .map(Arc::new)
            .map_err(|error| Failure::new(format!("cannot open the spool {}", directory.display()), error))
    };
    let start = |spool: &Arc<Spool>, route: Route, relaying: &Relaying, ca: Option<&PathBuf>| {
        let mut delivery = relay::Delivery::new(route, options.hostname.as_str());
        delivery.schedule = relaying.schedule;
        delivery.ca = ca.cloned();
        delivery.delay_report_after = relaying.delay_report_after;
        delivery.postmaster.clone_from(&relaying.postmaster);
        if let Some(sessions) = relaying.sessions_per_destination {
            delivery.sessions_per_destination = sessions;
        }
        Worker::start(Arc::clone(spool), delivery).map_err(|error| Failure::new("cannot deliver mail", error))
    };
    match &options.delivery {
        Delivery::Maildir(directory) => {
            let maildir = Maildir::open(directory, &options.hostname)
                .map_err(|error| Failure::new(format!("cannot open the Maildir {}", directory.display()), error))?;
            Ok((Store::Maildir(Arc::new(maildir)), None))
        }
        Delivery::Relay { relays, ca, relaying } => {
            let spool = open_spool(&relaying.spool)?;
            let worker = start(&spool, Route::Relays(relays.clone()), relaying, ca.as_ref())?;
            Ok((Store::Spool(spool), Some(worker)))
        }
        Delivery::Mx { port, resolver, allow_local, relaying } => {
            let spool = open_spool(&relaying.spool)?;
            let worker = start(
                &spool,
                Route::Mx { port: *port, resolver: *resolver, allow_local: *allow_local },
                relaying,
                None,
            )?;
            Ok((Store::Spool(spool), Some(worker)))
        }
    }
}

const SALT_KEY_OCTETS: usize = 32;

/// How long sessions, and then deliveries, may take to finish once the program was told to stop.
const GRACE: Duration = Duration::from_secs(30);
