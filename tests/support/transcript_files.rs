//! The sessions of `tests/transcripts/`: what is in a file, and what the words of a session's `config:` mean.

#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sansmtp::auth::mechanism::{Anonymous, CramMd5, External, Login, OAuthBearer, Plain, Scram, XOAuth2};
use sansmtp::auth::{Policy, ScramHash};
use sansmtp::{
    Auth, Config, ConfigBuilder, Events, Extensions, FutureRelease, Hooks, Limits, Network, Newlines, Proxy, Quirks,
    Secret, Timeouts, TlsInfo, TlsVersion, XClient,
};

/// What the words of a `config:` are.
pub(crate) type Words = BTreeMap<String, String>;

/// One session of a file.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) file: String,
    pub(crate) words: Words,
    /// Its lines, and as many empty ones in front that numbers are those of the file.
    pub(crate) lines: String,
}

/// The sessions of all files in `folder`.
pub(crate) fn sessions(folder: &Path) -> Vec<Session> {
    let entries = std::fs::read_dir(folder).expect("the folder of transcripts");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    paths.iter().flat_map(|path| sessions_of(path)).collect()
}

fn sessions_of(path: &Path) -> Vec<Session> {
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let text = std::fs::read_to_string(path).expect("a transcript");
    let begin = |number| Session { file: file.clone(), words: Words::new(), lines: "\n".repeat(number) };
    let mut sessions = vec![begin(0)];
    for (number, line) in text.lines().enumerate() {
        if line.trim_end() == "---" {
            sessions.push(begin(number + 1));
            continue;
        }
        let session = sessions.last_mut().expect("there is one from the start");
        match line.strip_prefix("config:") {
            Some(config) => session.words.extend(config.split_whitespace().map(|word| {
                let (word, value) = word.split_once('=').unwrap_or((word, ""));
                (word.to_owned(), value.to_owned())
            })),
            None => session.lines += line,
        }
        session.lines.push('\n');
    }
    // Comments at a file's end are none.
    sessions.retain(|session| session.lines.lines().any(|line| line.starts_with("S:") || line.starts_with("S*:")));
    sessions
}

/// What TLS negotiates in a session.
pub(crate) fn tls_info(words: &Words) -> TlsInfo {
    let word = |word: &str| words.get(word).map(String::as_str);
    let version = if word("tls-version") == Some("1.2") { TlsVersion::Tls1_2 } else { TlsVersion::Tls1_3 };
    let mut tls = TlsInfo::new(version, "TLS_AES_128_GCM_SHA256");
    tls.exporter = words.get("exporter").map(|data| hex(data).try_into().expect("32 octets"));
    tls.server_end_point = words.get("end-point").map(|data| hex(data));
    if words.contains_key("client-cert") {
        tls.peer_certificates = vec![b"a certificate".to_vec()];
    }
    tls
}

fn hex(digits: &str) -> Vec<u8> {
    let octets = digits.as_bytes().chunks(2);
    octets.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex")).collect()
}

/// Gives out the octets in `entropy`, and zeros behind them.
fn entropy(octets: Vec<u8>) -> impl Fn(&mut [u8]) -> bool + Send + Sync {
    let given = Mutex::new(octets.into_iter());
    move |room| {
        let mut given = given.lock().expect("nobody panics here");
        room.fill_with(|| given.next().unwrap_or_default());
        true
    }
}

fn mechanism(auth: Auth, name: &str, words: &Words) -> Auth {
    let number = |word: &str| words.get(word).map(|value| value.parse::<u32>().expect("a number"));
    let scram = |hash: ScramHash| {
        let scram = if name.ends_with("-PLUS") { Scram::plus(hash) } else { Scram::new(hash) };
        let nonce = number("nonce").unwrap_or(24);
        scram.iterations(number("iterations").unwrap_or(4096)).nonce_octets(nonce.try_into().expect("a length"))
    };
    let scope = words.get("scope").map(|scope| scope.replace("%20", " "));
    match name.strip_suffix("-PLUS").unwrap_or(name) {
        "SCRAM-SHA-1" => auth.mechanism(scram(ScramHash::Sha1)),
        "SCRAM-SHA-256" => auth.mechanism(scram(ScramHash::Sha256)),
        "SCRAM-SHA-512" => auth.mechanism(scram(ScramHash::Sha512)),
        "PLAIN" => auth.mechanism(Plain::new()),
        "LOGIN" => auth.mechanism(Login::new()),
        "CRAM-MD5" => auth.mechanism(CramMd5::new()),
        "EXTERNAL" => auth.mechanism(External::new()),
        "ANONYMOUS" => auth.mechanism(Anonymous::new()),
        "OAUTHBEARER" => {
            let bearer = OAuthBearer::new();
            let bearer = scope.map_or(bearer.clone(), |scope| bearer.scope(&scope));
            let openid = words.get("openid");
            auth.mechanism(openid.map_or(bearer.clone(), |url| bearer.openid_configuration(url)))
        }
        "XOAUTH2" => {
            let bearer = XOAuth2::new();
            let bearer = match words.get("error-object") {
                Some(object) => bearer.error_object(&String::from_utf8(hex(object)).expect("UTF-8")),
                None => bearer,
            };
            auth.mechanism(scope.map_or(bearer.clone(), |scope| bearer.scope(&scope)))
        }
        _ => panic!("no mechanism {name}"),
    }
}

/// `NAME:WORD+NAME:WORD`; the words for one name add up.
fn policies(mut auth: Auth, text: &str) -> Auth {
    let mut policies: BTreeMap<&str, Policy> = BTreeMap::new();
    for (name, word) in text.split('+').map(|policy| policy.split_once(':').expect("a policy")) {
        if word == "hidden" {
            let hidden = name.to_owned();
            auth = auth.choose(move |_, mechanism| mechanism != hidden.as_str());
            continue;
        }
        let policy = policies.entry(name).or_default();
        *policy = match word {
            "tls" => policy.require_tls(true),
            "clear" => policy.require_tls(false),
            "tls1.2" => policy.min_tls(TlsVersion::Tls1_2),
            "tls1.3" => policy.min_tls(TlsVersion::Tls1_3),
            "unlisted" => policy.listed(false),
            "client-cert" => policy.require_client_certificate(true),
            _ => panic!("no policy {word}"),
        };
    }
    policies.into_iter().fold(auth, |auth, (name, policy)| auth.policy(name, policy))
}

/// The configuration of a session.
pub(crate) fn configure(words: &Words) -> Arc<Config> {
    builder(words).build().unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

/// The same, to be changed.
pub(crate) fn builder(words: &Words) -> ConfigBuilder {
    let word = |word: &str| words.get(word).map(String::as_str);
    let has = |word: &str| words.contains_key(word);
    let number = |word: &str| words.get(word).map(|value| value.parse::<u32>().expect("a number"));
    let seconds = |word: &str| number(word).map(|seconds| Duration::from_secs(seconds.into()));
    let mut builder = Config::builder(word("hostname").unwrap_or("mx.example.org"))
        .starttls(!has("no-tls"))
        .implicit_tls(has("tls-now"))
        .tls_required(has("require-tls"))
        .auth_required(has("auth-required"))
        .smtputf8(has("smtputf8"))
        .newlines(if word("newlines") == Some("convert") { Newlines::Convert } else { Newlines::Refuse })
        .quirks(Quirks {
            auth_equals_line: has("auth-equals-line"),
            auth_after_helo: has("auth-after-helo"),
            auth_before_ehlo: has("auth-before-ehlo"),
            space_after_colon: has("space-after-colon"),
            bare_paths: has("bare-paths"),
            dots_in_local_parts: has("dots-in-local-parts"),
            underscores_in_domains: has("underscores-in-domains"),
            unqualified_paths: has("unqualified-paths"),
        })
        .timeouts(Timeouts {
            before_auth: seconds("before-auth").or(Timeouts::default().before_auth),
            before_message: seconds("before-message").or(Timeouts::default().before_message),
            session: seconds("session-timeout"),
            ..Timeouts::default()
        })
        .hooks(hooks(word("hooks").unwrap_or("message")))
        .events(word("events").map_or_else(Events::default, events))
        .limits(Limits {
            max_message_octets: number("max-size").unwrap_or(33_554_432).into(),
            max_recipients: number("max-recipients").unwrap_or(100).try_into().expect("a count"),
            max_content_line_octets: number("max-line").unwrap_or(65_536).try_into().expect("a length"),
            max_commands: number("max-commands"),
            max_errors: number("max-errors").or(Limits::default().max_errors),
            max_transactions: number("max-transactions"),
            ..Limits::default()
        });
    let mut extensions = Extensions {
        chunking: has("chunking") || has("binarymime"),
        binarymime: has("binarymime"),
        dsn: has("dsn"),
        deliver_by: number("deliver-by"),
        mt_priority: has("mt-priority"),
        requiretls: has("requiretls"),
        limits: has("limits"),
        ..Extensions::default()
    };
    if let Some((interval, time)) = words.get("future-release").and_then(|release| release.split_once(',')) {
        let max_interval = interval.parse().expect("a number");
        extensions.future_release = Some(FutureRelease { max_interval, max_date_time: time.into() });
    }
    builder = builder.extensions(extensions).lmtp(has("lmtp")).strict_client_names(has("strict-client-names"));
    for verb in words.get("open-verbs").into_iter().flat_map(|verbs| verbs.split(',')) {
        builder = builder.open_verb(verb);
    }
    if let Some(octets) = words.get("entropy") {
        builder = builder.entropy(entropy(hex(octets)));
    }
    if !has("no-auth") {
        let mut auth = match words.get("mechanisms") {
            Some(names) => names.split(',').fold(Auth::without_mechanisms(), |auth, name| mechanism(auth, name, words)),
            // Overriding a mechanism leaves it where it is in the list.
            None if has("nonce") || has("iterations") => mechanism(Auth::new(), "SCRAM-SHA-256", words),
            None => Auth::new(),
        };
        if let Some(text) = words.get("policy") {
            auth = policies(auth, text);
        }
        // Nothing of the entropy that a session gives goes into the key.
        auth =
            auth.salt_key(words.get("salt-key").map_or_else(|| Secret::new(vec![0; 32]), |key| Secret::new(hex(key))));
        auth = auth.require_tls(!has("plaintext-auth") && !has("no-tls")).ignore_case(has("ignore-case"));
        if has("no-tls") && has("tls-now") {
            auth = auth.require_tls(true);
        }
        if has("no-auth-delay") {
            auth = auth.pause(Duration::ZERO, Duration::ZERO);
        }
        if let Some(failures) = number("max-failures") {
            auth = auth.max_failures(failures);
        }
        if let Some(exchanges) = number("max-unfinished") {
            auth = auth.max_unfinished(exchanges);
        }
        for name in words.get("exclude").into_iter().flat_map(|names| names.split(',')) {
            auth = auth.exclude(name);
        }
        if let Some((user_name, password)) = words.get("prompts").and_then(|prompts| prompts.split_once(',')) {
            let decode = |prompt: &str| prompt.replace("%20", " ").replace("%00", "\0");
            auth = auth.mechanism(Login::with_prompts(&decode(user_name), &decode(password)));
        }
        if has("plain-misplaced-identity") {
            auth = auth.mechanism(Plain::new().allow_misplaced_identity(true));
        }
        builder = builder.auth(auth);
    }
    if let Some(trusted) = words.get("proxy-trusted") {
        let mut proxy = Proxy::from_networks(networks(trusted)).believe_offloaded_tls(has("proxy-tls"));
        if let Some(octets) = number("proxy-max") {
            proxy = proxy.max_octets(octets.try_into().expect("a length"));
        }
        builder = builder.proxy(proxy);
    }
    if let Some(trusted) = words.get("xclient") {
        builder = builder.xclient(XClient::from_networks(networks(trusted)).allow_login(has("xclient-login")));
    }
    builder
}

pub(crate) fn networks(text: &str) -> Vec<Network> {
    text.split(',').map(|network| network.parse().expect("a network")).collect()
}

fn hooks(names: &str) -> Hooks {
    names.split(',').fold(Hooks::NONE, |hooks, name| {
        hooks
            | match name {
                "none" => Hooks::NONE,
                "connect" => Hooks::CONNECT,
                "helo" | "ehlo" => Hooks::HELLO,
                "mail" => Hooks::MAIL,
                "rcpt" => Hooks::RCPT,
                "data" => Hooks::DATA,
                "message" => Hooks::MESSAGE,
                "rset" => Hooks::RSET,
                "noop" => Hooks::NOOP,
                "vrfy" => Hooks::VRFY,
                "expn" => Hooks::EXPN,
                "help" => Hooks::HELP,
                "unknown" => Hooks::UNKNOWN,
                "quit" => Hooks::QUIT,
                _ => panic!("no hook is called {name}"),
            }
    })
}

fn events(names: &str) -> Events {
    names.split(',').fold(Events::NONE, |events, name| {
        events
            | match name {
                "none" => Events::NONE,
                "opened" => Events::OPENED,
                "closed" => Events::CLOSED,
                "tls" => Events::TLS_ESTABLISHED | Events::TLS_FAILED,
                "transaction" => Events::TRANSACTION_BEGUN,
                "accepted" => Events::MESSAGE_ACCEPTED,
                "refused" => Events::REFUSED,
                "limit" => Events::LIMIT_REACHED,
                "auth" => Events::AUTH,
                "proxy" => Events::PROXY_REFUSED,
                "all" => Events::ALL,
                _ => panic!("no event is called {name}"),
            }
    })
}
