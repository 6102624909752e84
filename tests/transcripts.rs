//! Plays every transcript under `tests/transcripts/`, whole and cut.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sansmtp::auth::mechanism::{Login, Plain};
use sansmtp::testing::Play;
use sansmtp::{Auth, Config, Hooks, Limits, Newlines, Quirks, TlsInfo};

#[test]
fn every_transcript_holds_however_it_is_cut() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut failures = Vec::new();
    let (mut sessions, only) = (0, std::env::var("TRANSCRIPT").ok());
    for entry in std::fs::read_dir(&folder).expect("the folder of transcripts") {
        let path = entry.expect("a file").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_none_or(|extension| extension != "txt")
            || only.as_ref().is_some_and(|only| *only != name)
        {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a transcript");
        let mut first_line = 0;
        for session in split_sessions(&text) {
            if session.lines().any(|line| line.starts_with("S:") || line.starts_with("S*:")) {
                sessions += 1;
                for cut in [usize::MAX, 1, 2, 3, 7, 64] {
                    if let Err(mismatch) = play(session, cut) {
                        let line = first_line + mismatch.line;
                        failures.push(format!("{name}:{line}: cut {cut}: {mismatch}"));
                        break;
                    }
                }
            }
            first_line += session.lines().count();
        }
    }
    assert!(sessions > 0, "no transcript was played");
    assert!(failures.is_empty(), "{} of {sessions} sessions fail:\n{}", failures.len(), failures.join("\n"));
}

/// Each session keeps the line that separates it from the one before, so that line numbers add up.
fn split_sessions(text: &str) -> Vec<&str> {
    let (mut sessions, mut start, mut at) = (Vec::new(), 0, 0);
    for line in text.split_inclusive('\n') {
        if line.trim_end() == "---" {
            sessions.extend(text.get(start..at));
            start = at;
        }
        at += line.len();
    }
    sessions.extend(text.get(start..));
    sessions
}

fn play(session: &str, cut: usize) -> Result<(), sansmtp::testing::Mismatch> {
    let mut words = BTreeMap::new();
    let mut lines = String::new();
    for line in session.lines() {
        match line.strip_prefix("config:") {
            Some(config) => {
                words.extend(config.split_whitespace().map(|word| word.split_once('=').unwrap_or((word, ""))))
            }
            None if line != "---" => lines += line,
            None => {}
        }
        lines.push('\n');
    }
    // Octets in the clear behind STARTTLS are refused when they are there: a matter of when they come.
    let cut = if session.contains("554 5.5.0") { usize::MAX } else { cut };
    let play = Play::new(configure(&words)).cut(cut);
    let play = match words.contains_key("tls-now") {
        true => play.implicit_tls(TlsInfo::new("TLSv1.3", "TLS_AES_128_GCM_SHA256")),
        false => play,
    };
    play.transcript(&lines)
}

fn configure(words: &BTreeMap<&str, &str>) -> Arc<Config> {
    let has = |word: &str| words.contains_key(word);
    let number = |word: &str| words.get(word).map(|value| value.parse::<u32>().expect("a number"));
    let mut builder = Config::builder(words.get("hostname").copied().unwrap_or("mx.example.org"))
        .starttls(!has("no-tls"))
        .implicit_tls(has("tls-now"))
        .tls_required(has("require-tls"))
        .auth_required(has("auth-required"))
        .smtputf8(has("smtputf8"))
        .newlines(if words.get("newlines") == Some(&"convert") { Newlines::Convert } else { Newlines::Refuse })
        .quirks(Quirks {
            auth_equals_line: has("auth-equals-line"),
            auth_after_helo: has("auth-after-helo"),
            space_after_colon: has("space-after-colon"),
            bare_paths: has("bare-paths"),
        })
        .hooks(hooks(words.get("hooks").copied().unwrap_or("message")))
        .limits(Limits {
            max_message_octets: number("max-size").unwrap_or(33_554_432).into(),
            max_recipients: number("max-recipients").unwrap_or(100).try_into().expect("a count"),
            max_content_line_octets: number("max-line").unwrap_or(65_536).try_into().expect("a length"),
            ..Limits::default()
        });
    if !has("no-auth") {
        let mut auth = Auth::new().require_tls(!has("plaintext-auth") && !has("no-tls"));
        if has("no-tls") && has("tls-now") {
            auth = auth.require_tls(true);
        }
        if has("no-auth-delay") {
            auth = auth.pause(Duration::ZERO, Duration::ZERO);
        }
        if let Some(failures) = number("max-failures") {
            auth = auth.max_failures(failures);
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
    builder.build().unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

fn hooks(names: &str) -> Hooks {
    names.split(',').fold(Hooks::NONE, |hooks, name| {
        hooks
            | match name {
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
                "unknown" => Hooks::UNKNOWN,
                "quit" => Hooks::QUIT,
                _ => panic!("no hook is called {name}"),
            }
    })
}
