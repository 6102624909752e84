use std::num::NonZeroUsize;
use std::time::Duration;

use sansmtp_relay::Schedule;

use super::*;
use crate::listening::Place;

fn serve(arguments: &[&str]) -> Serve {
    match parse(arguments).unwrap() {
        Options::Serve(serve) => serve,
        other @ (Options::Queue(_) | Options::User(_)) => panic!("{other:?}"),
    }
}

fn parse(arguments: &[&str]) -> Result<Options, clap::Error> {
    Options::from_arguments(std::iter::once("authenticated_relayer").chain(arguments.iter().copied()))
}

fn error(arguments: &[&str]) -> String {
    let error = parse(arguments).unwrap_err();
    assert!(error.use_stderr(), "{arguments:?}");
    error.to_string()
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn no_arguments_are_a_local_server() {
    let serve = serve(&[]);
    let place = Place::starttls("127.0.0.1:8025").unwrap();
    assert_eq!(serve.listeners, [Listener { place, implicit_tls: false }]);
    assert!(matches!(serve.delivery, Delivery::Maildir(directory) if directory.as_os_str() == "./mail"));
    assert_eq!((serve.users, serve.init), (vec![UserSource::Sqlite("mail.db".into())], true));
    assert_eq!(serve.max_size, 33_554_432);
    assert!(!serve.allow_plaintext_auth && !serve.hostname.is_empty() && serve.tls.is_none());
}

#[test]
fn a_listener_replaces_the_default_one() {
    let serve = serve(&["--listen-tls", "[::]:465", "--listen", "127.0.0.1:25", "--listen", "127.0.0.1:587"]);
    let shown: Vec<_> = serve.listeners.iter().map(|l| (l.place.to_string(), l.implicit_tls)).collect();
    let expected = [("127.0.0.1:25", false), ("127.0.0.1:587", false), ("[::]:465", true)];
    assert_eq!(shown, expected.map(|(address, tls)| (address.to_owned(), tls)));
}

#[test]
fn mail_goes_to_one_kind_of_place() {
    for two in
        [&["--mx", "--maildir", "m"][..], &["--mx", "--relay", "smtp://a"], &["--maildir", "m", "--relay", "smtp://a"]]
    {
        assert!(error(two).contains("cannot be used with"), "{two:?}");
    }
    let arguments = ["--relay", "smtp://a", "--relay", "smtps://b", "--retry-first", "0.5"];
    let arguments = [&arguments[..], &["--max-connections-per-destination", "7"]].concat();
    let Delivery::Relay { relays, relaying, .. } = serve(&arguments).delivery else { panic!("not a relay") };
    let Relaying { schedule, sessions_per_destination, .. } = relaying;
    assert_eq!(sessions_per_destination, NonZeroUsize::new(7));
    error(&["--mx", "--max-connections-per-destination", "0"]);
    assert_eq!(relays.iter().map(ToString::to_string).collect::<Vec<_>>(), ["smtp://a:25", "smtps://b:465"]);
    assert_eq!(schedule.first, Duration::from_millis(500));
    assert_eq!(schedule.longest, Duration::from_secs(4 * 60 * 60));
    assert_eq!(schedule.give_up_after, Duration::from_secs(5 * 24 * 60 * 60));
}

#[test]
fn plaintext_logins_off_loopback_must_be_insisted_on() {
    let open = ["--listen", "0.0.0.0:25", "--allow-plaintext-auth"];
    assert!(error(&open).contains("0.0.0.0:25"));
    assert!(serve(&[&open[..], &["--i-know"]].concat()).allow_plaintext_auth);
    assert!(serve(&["--listen", "[::1]:25", "--allow-plaintext-auth"]).allow_plaintext_auth);
    assert!(serve(&["--listen", "unix:socket", "--allow-plaintext-auth"]).allow_plaintext_auth);
    assert!(error(&["--listen", ":25", "--allow-plaintext-auth"]).contains(":25"));
    assert!(serve(&["--listen-tls", "0.0.0.0:465", "--allow-plaintext-auth"]).allow_plaintext_auth);
    error(&["--i-know"]);
}

#[test]
fn mechanisms_are_offered_in_the_order_of_the_list() {
    use Mechanism::{CramMd5, Login, ScramSha512Plus};
    assert!(serve(&["--client-ca", "ca.pem"]).mechanisms.is_empty() && serve(&[]).mechanisms.is_empty());
    let list = ["--mechanisms", "login,SCRAM-SHA-512-PLUS,CRAM-MD5"];
    assert_eq!(serve(&list).mechanisms, [Login, ScramSha512Plus, CramMd5]);
    for unknown in ["NTLM", "PLAIN,", "ANONYMOUS", ""] {
        assert!(error(&["--mechanisms", unknown]).contains("OAUTHBEARER"), "{unknown}");
    }
    assert!(error(&["--mechanisms", "EXTERNAL"]).contains("--client-ca"));
    assert!(error(&["--mechanisms", "PLAIN", "--client-ca", "ca.pem"]).contains("EXTERNAL"));
    let external = serve(&["--mechanisms", "EXTERNAL", "--client-ca", "ca.pem"]);
    assert_eq!(external.client_ca.as_deref(), Some(Path::new("ca.pem")));
}

#[test]
fn failures_are_counted_by_address_unless_told_otherwise() {
    assert_eq!(serve(&[]).max_failures_per_address.map(NonZeroU32::get), Some(50));
    assert_eq!(serve(&["--max-failures-per-address", "7"]).max_failures_per_address.map(NonZeroU32::get), Some(7));
    assert_eq!(serve(&["--max-failures-per-address", "0"]).max_failures_per_address, None);
}

#[test]
fn half_a_key_pair_and_options_without_their_use_are_refused() {
    for wrong in [
        &["--tls-cert", "a.pem"][..],
        &["--tls-key", "a.pem"],
        &["--relay-ca", "a.pem"],
        &["--resolver", "127.0.0.1:53"],
        &["--max-size", "0"],
        &["--hostname", "two words"],
        &["--retry-first=-1"],
        &["--listen", "nowhere"],
        &["--runtime", "fibers"],
        &["--listen", ":25", "--socket-mode", "660"],
        &["--listen", ":25", "--listen-tls", "127.0.0.1:25"],
        &["--proxy-from", "0.0.0.0/0"],
        &["--xclient-from", "10.0.0.1/8"],
    ] {
        error(wrong);
    }
}

#[test]
fn options_of_a_route_are_refused_where_mail_goes_into_a_maildir() {
    for (option, value, route) in [
        ("--spool", "spool", "--relay"),
        ("--mx-port", "26", "--mx"),
        ("--max-connections-per-destination", "7", "--relay"),
        ("--retry-first", "5m", "--relay"),
        ("--retry-longest", "1h", "--relay"),
        ("--give-up-after", "2d", "--relay"),
        ("--delay-report-after", "1h", "--relay"),
        ("--postmaster", "root@mx.example", "--relay"),
    ] {
        assert!(error(&[option, value]).contains(route), "{option}");
        assert!(error(&["--maildir", "m", option, value]).contains("--maildir"), "{option}");
        serve(&["--mx", option, value]);
    }
    for of_mx in [&["--mx-port", "26"][..], &["--mx-allow-local"], &["--resolver", "127.0.0.1"]] {
        for route in [&["--relay", "smtp://a"], &["--maildir", "m"]] {
            assert!(error(&[route, of_mx].concat()).contains("cannot be used with"), "{of_mx:?}");
        }
    }
    assert!(error(&["--mx", "--relay-ca", "ca.pem"]).contains("cannot be used with"));
}

#[test]
fn a_wrong_relay_url_is_not_repeated() {
    for url in ["http://me:hunter2@host", "smtp://me:hunter2@host/path", "smtp://me:hunter2@"] {
        let message = error(&["--relay", url]);
        assert!(message.contains("--relay") && !message.contains("hunter2"), "{message}");
    }
}

#[test]
fn users_are_looked_for_in_the_order_of_the_options() {
    let (passwd, sqlite) = (UserSource::Passwd("/etc/users".into()), UserSource::Sqlite("x.db".into()));
    assert!(serve(&["--users", "mail.db", "--init"]).init);
    let serve = serve(&["--users", "passwd:/etc/users", "--users", "sqlite:x.db"]);
    assert_eq!(serve.users, [passwd, sqlite]);
    assert!(!serve.init);
    assert_eq!(serve.beside_users("mail-cert.pem"), Path::new("/etc/mail-cert.pem"));
    for wrong in
        [&["--users", "nowhere://me:hunter2@host"][..], &["user", "list", "--users", "nowhere://me:hunter2@host"]]
    {
        let message = error(wrong);
        assert!(message.contains("--users") && message.contains("sqlite:FILE"), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn senders_are_checked_unless_any_may_be() {
    let options = serve(&[]).senders;
    assert!(options.senders.is_none() && options.sender_pattern.is_empty() && options.subaddress_separator.is_none());
    let patterns = ["--sender-pattern", "{user}@example.org", "--sender-pattern", "@example.net"];
    let options = serve(&[&patterns[..], &["--senders", "own", "--subaddress-separator", "+"]].concat()).senders;
    assert_eq!((options.senders, options.subaddress_separator), (Some(Senders::Own), Some('+')));
    assert_eq!(options.sender_pattern.len(), 2);
    assert_eq!(serve(&["--senders", "any"]).senders.senders, Some(Senders::Any));
    for wrong in ["@", ".", "++", "", "a"] {
        let message = error(&["--subaddress-separator", wrong]);
        assert!(message.contains("such as + or -"), "{message}");
    }
    assert!(error(&["--senders", "mine"]).contains("own"));
    assert!(error(&[&patterns[..], &["--senders", "any"]].concat()).contains("say nothing"));
}

#[test]
fn users_are_named_after_the_action() {
    let Options::User(command) = parse(&["user", "add", "tim", "--users", "x.db"]).unwrap() else {
        panic!("not a user command");
    };
    assert!(matches!(&command.action, UserAction::Add { name, cram_md5: false } if name == "tim"));
    assert_eq!(command.users, UserSource::Sqlite("x.db".into()));
    let Options::User(command) = parse(&["user", "passwd", "--cram-md5", "tim"]).unwrap() else {
        panic!("not a user command");
    };
    assert!(matches!(&command.action, UserAction::Passwd { name, cram_md5: true } if name == "tim"));
    for action in ["token", "revoke"] {
        parse(&["user", action, "tim"]).unwrap();
        error(&["user", action]);
    }
    error(&["user", "add"]);
    error(&["user"]);
}

#[test]
fn the_schedule_is_the_usual_one_unless_told() {
    let Delivery::Mx { relaying, .. } = serve(&["--mx"]).delivery else { panic!("not mx") };
    assert_eq!(relaying.schedule, Schedule::default());
    assert_eq!(relaying.sessions_per_destination, None);
    assert_eq!((relaying.delay_report_after, relaying.postmaster), (Some(Duration::from_secs(4 * 3600)), None));
}

#[test]
fn reports_can_be_given_another_time_and_a_postmaster() {
    for (text, expected) in [("0", None), ("none", None), ("30m", Some(Duration::from_secs(1800)))] {
        let serve = serve(&["--mx", "--delay-report-after", text, "--postmaster", "root@mx.example"]);
        let Delivery::Mx { relaying, .. } = serve.delivery else { panic!("not mx") };
        assert_eq!((relaying.delay_report_after, relaying.postmaster.as_deref()), (expected, Some("root@mx.example")));
    }
    for wrong in ["root", "@mx.example", "<root@mx.example>", "root@", "a@b, c@d"] {
        assert!(error(&["--mx", "--postmaster", wrong]).contains("postmaster@example.org"), "{wrong}");
    }
    error(&["--mx", "--delay-report-after", "soon"]);
    // A Maildir takes everything.
    error(&["--postmaster", "root@mx.example"]);
    error(&["--maildir", "m", "--delay-report-after", "1h"]);
}

#[test]
fn servers_are_named_by_urls_that_are_not_shown() {
    let arguments = ["--users", "postgres://mail:hunter2@db/mail", "--attempts", "rediss://:hunter2@counts:1/2"];
    let serve = serve(&arguments);
    let attempts = serve.attempts.as_ref().unwrap();
    assert_eq!(
        (serve.users[0].to_string(), attempts.to_string()),
        ("postgres://db:5432".into(), "valkey://counts:1".into())
    );
    assert_eq!(attempts.expose_secret(), arguments[3]);
    assert!(!format!("{serve:?}").contains("hunter2"));
    for (option, value) in [
        ("--users", "postgres://mail:hunter2@db/mail?sslmode=prefer"),
        ("--users", "postgres://mail:hunter/2@db/mail"),
        ("--users", "postgres://mail:hunter2@db:x/mail"),
        ("--attempts", "redis://:hunter2@counts/x"),
        ("--attempts", "redis://:hunter#2@counts"),
        ("--attempts", "memcached://:hunter2@counts"),
        ("--attempts", "hunter2"),
    ] {
        let error = error(&[option, value]);
        assert!(
            error.contains(&format!("invalid value for {option}: the URL")) && !error.contains("hunter"),
            "{error}"
        );
    }
    assert!(error(&["--attempts", "redis://counts", "--max-failures-per-address", "0"]).contains("nothing to count"));
}

#[test]
fn what_is_taken_against_the_rfcs_can_be_chosen() {
    let config = |arguments: &[&str]| {
        let builder = sansmtp::Config::builder("relay.example").hooks(sansmtp::Hooks::MESSAGE);
        serve(arguments).leniency.apply(builder).build().unwrap()
    };
    let replies = |arguments: &[&str], [hello, root, content]: [&str; 3]| {
        let root = format!("C: MAIL FROM: <root>\nS: {root} ...\n");
        let content = format!(
            "C: RSET\nS: 250 ...\nC: MAIL FROM:<>\nS: 250 ...\nC: RCPT TO:<a@b>\nS: 250 ...\nC: DATA\nS: 354 ...\nC-: a\\nb\\r\\n.\\r\\n\n{content}"
        );
        let script =
            format!("S: 220 ...\nC: HELO (none)\nS: {hello} ...\nC: HELO client.example\nS: 250 ...\n{root}{content}");
        sansmtp::testing::Play::new(config(arguments)).transcript(&script).unwrap();
    };
    let refused = "A: bare-lf\nS: 554 ...";
    let converted = "?: message 6 -> accept\nS: 250 ...";
    replies(&[], ["250", "250", refused]);
    replies(&["--quirks", "none", "--strict-client-names"], ["501", "501", refused]);
    replies(&["--quirks", "space-after-colon", "--bare-newlines", "convert"], ["250", "501", converted]);
    replies(&["--quirks", "Space-After-Colon,unqualified-paths"], ["250", "250", refused]);
    error(&["--quirks", "all"]);
    error(&["--bare-newlines", "keep"]);
}

#[test]
fn what_is_wrong_is_told_with_what_would_be_right() {
    for (option, value, right) in [
        ("--listen", "0.0.0.0", "0.0.0.0:587"),
        ("--listen-tls", "localhost", "localhost:465"),
        ("--max-connections", "0", "a number from 1, 50 for example"),
        ("--max-connections-per-address", "many", "a number, 50 for example"),
        ("--max-failures-per-address", "-1", "a number, 50 for example"),
        ("--proxy-from", "::/0", "192.0.2.7 or 10.1.0.0/16"),
        ("--exempt-network", "192.0.2.1/24", "192.0.2.0/24"),
        ("--socket-mode", "rw", "660"),
        ("--hostname", "two words", "mail.example.org"),
        ("--runtime", "fibers", "smol, threads, tokio"),
        ("--users", "", "sqlite:mail.db"),
        ("--relay", "smtp://me@host", "?password-file=FILE"),
    ] {
        let error = error(&[&format!("{option}={value}")]);
        assert!(error.contains(option) && error.contains(right), "{error}");
    }
    assert!(error(&["--mx", "--resolver", "ns.example.org"]).contains("192.0.2.53:53"));
    let Delivery::Mx { resolver, .. } = serve(&["--mx", "--resolver", "::1"]).delivery else { panic!("not mx") };
    assert_eq!(resolver, Some("[::1]:53".parse().unwrap()));
}

#[test]
fn sizes_and_times_have_units() {
    let units = ["--max-size", "512k", "--min-free", "1.5G", "--login-timeout", "90s", "--mx"];
    let units = [&units[..], &["--retry-first", "5m", "--retry-longest", "1.5h", "--give-up-after", "2d"]].concat();
    let serve = serve(&units);
    assert_eq!((serve.max_size, serve.min_free), (512 << 10, 3 << 29));
    let Delivery::Mx { relaying: Relaying { schedule, .. }, .. } = serve.delivery else { panic!("not mx") };
    let seconds = [schedule.first, schedule.longest, schedule.give_up_after].map(|time| time.as_secs());
    assert_eq!(seconds, [300, 5400, 172_800]);
    assert!(error(&["--max-size", "32 megs"]).contains("a size is 32M, 512k"));
    assert!(error(&["--max-size", "0"]).contains("a size is 32M, 512k"));
    assert!(error(&["--retry-first=-1"]).contains("a time is 500ms, 90s, 5m"));
}

#[test]
fn crowds_can_be_limited() {
    let timeout = |arguments: &[&str]| {
        let config = serve(arguments).limits.apply(sansmtp::Config::builder("relay.example")).build().unwrap();
        config.timeouts().before_auth
    };
    assert_eq!(timeout(&[]), Some(Duration::from_secs(600)));
    assert_eq!(timeout(&["--login-timeout", "30"]), Some(Duration::from_secs(30)));
    assert_eq!(timeout(&["--login-timeout", "0"]), None);
    let usual = serve(&[]).limits;
    assert_eq!((usual.max_connections, usual.per_address(), usual.keep_open_file_limit), (None, None, false));
    let limits =
        serve(&["--max-connections", "3", "--max-connections-per-address", "0", "--keep-open-file-limit"]).limits;
    assert_eq!(limits.max_connections.map(usize::from), Some(3));
    assert_eq!((limits.per_address(), limits.keep_open_file_limit), (Some(usize::MAX), true));
    let limits = serve(&["--exempt-network", "192.0.2.0/24", "--exempt-network", "2001:db8::1"]).limits;
    assert_eq!(limits.exempt_network.len(), 2);
    assert!(error(&["--exempt-network", "192.0.2.1/24"]).contains("--exempt-network"));
    assert!(error(&["--max-connections", "0"]).contains("--max-connections"));
}

#[test]
fn the_case_of_logins_counts_unless_it_is_to_be_ignored() {
    assert!(!serve(&[]).ignore_case_of_logins);
    assert!(serve(&["--ignore-case-of-logins"]).ignore_case_of_logins);
}

#[test]
fn the_queue_is_named_by_its_spool_and_messages_by_their_ids() {
    let queue = |arguments: &[&str]| match parse(&[&["queue"], arguments].concat()).unwrap() {
        Options::Queue(command) => command,
        other @ (Options::Serve(_) | Options::User(_)) => panic!("{other:?}"),
    };
    let command = queue(&["list"]);
    assert!(matches!(command.action, QueueAction::List { json: false }) && command.spool == Path::new("./spool"));
    assert_eq!(queue(&["hold", "0abc", "--spool", "s"]).spool, Path::new("s"));
    assert!(matches!(queue(&["flush"]).action, QueueAction::Flush { id: None, destination: None }));
    assert!(error(&["queue", "delete", "../x"]).contains("letters and digits"));
    error(&["queue", "flush", "0abc", "--destination", "example.org"]);
    error(&["queue", "delete"]);
    error(&["queue"]);
}

#[test]
fn what_is_sent_can_be_limited() {
    assert!(serve(&[]).sending_limits.is_unlimited());
    let limits = serve(&["--max-messages-per-hour", "10", "--max-recipients-per-day", "500"]).sending_limits;
    assert_eq!((limits.messages_per_hour, limits.messages_per_day), (10, 0));
    assert_eq!((limits.recipients_per_hour, limits.recipients_per_day), (0, 500));
    let limits = serve(&["--max-messages-per-day", "10", "--max-recipients-per-hour", "0"]).sending_limits;
    assert_eq!((limits.messages_per_day, limits.recipients_per_hour), (10, 0));
    error(&["--max-messages-per-hour", "-1"]);
    // There is something to count in Valkey.
    let counted = ["--attempts", "redis://counts", "--max-failures-per-address", "0", "--max-messages-per-day", "1"];
    assert!(serve(&counted).attempts.is_some());
}

#[test]
fn logins_are_remembered_where_a_server_is_asked() {
    assert_eq!(serve(&[]).cache_logins, None);
    let directory = ["--users", "passwd:users", "--users", "ldap://a/dc=org"];
    assert_eq!(
        serve(&[&directory[..], &["--cache-logins", "5m"]].concat()).cache_logins,
        Some(Duration::from_secs(300))
    );
    assert_eq!(serve(&[&directory[..], &["--cache-logins", "0"]].concat()).cache_logins, None);
    assert!(error(&["--cache-logins", "5m"]).contains("PostgreSQL"));
    assert!(error(&["--cache-logins", "5m", "--users", "dovecot:auth"]).contains("auth_cache_size"));
    serve(&["--cache-logins", "5m", "--users", "a", "--users", "dovecot:auth"]);
    error(&["--cache-logins", "soon", "--users", "ldap://a/dc=org"]);
}
