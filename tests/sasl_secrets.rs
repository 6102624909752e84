//! Looks for what mechanisms hash and compare, in everything that is said, shown or left in freed memory:
//! passwords in any script, SCRAM's keys and proofs, CRAM-MD5's, bearer tokens. `secrets.rs` does so for
//! PLAIN, LOGIN and mechanisms of the embedder's own.
//!
//! What lies on the stack is not looked at.

#![expect(clippy::indexing_slicing, clippy::wildcard_enum_match_arm, reason = "a test that goes wrong may stop here")]

use std::collections::HashSet;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sansmtp::auth::mechanism::{CramMd5, CramMd5Key, OAuthBearer, Scram, XOAuth2};
use sansmtp::auth::{AuthQuestion, KnownPassword, ScramHash, ScramKeys, prepare_password};
use sansmtp::{
    Action, Answer, Auth, AuthRequest, AuthResult, Config, Connection, Peer, Refusal, SecretRef, TlsInfo, TlsVersion,
};

#[path = "support/scram.rs"]
mod scram;

#[global_allocator]
static ALLOCATOR: test_alloc::TestAlloc = test_alloc::TestAlloc;

const HASHES: [ScramHash; 3] = [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512];
const PASSWORD: &str = "Zq7-kW?xv~29 Rj|hu";
const SALT: &[u8] = b"sixteen octets..";

// ---------------------------------------------------------------------------------------------------
// What is looked for

/// Eight octets in a row of a secret, here and there in it: as it is, in hexadecimal digits, and in base64
/// at each of the three places where it may begin in a message.
fn patterns(secrets: &[Vec<u8>]) -> &'static [&'static [u8]] {
    let mut windows: Vec<Vec<u8>> = Vec::new();
    for secret in secrets {
        let hex = secret.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
        let mut forms = vec![secret.clone(), hex.into_bytes()];
        for before in 0..3 {
            let encoded = STANDARD.encode([&vec![0; before], &secret[..]].concat());
            // The characters at both ends hold bits of the neighbours too.
            let (first, last) = ((before * 8).div_ceil(6), (before + secret.len()) * 8 / 6);
            forms.push(encoded.as_bytes()[first..last].to_vec());
        }
        windows.extend(forms.iter().flat_map(|form| form.windows(8)).map(<[u8]>::to_vec));
    }
    let step = windows.len().div_ceil(test_alloc::MAX_PATTERNS).max(1);
    let windows = windows.into_iter().step_by(step).map(|window| &*window.leak());
    windows.collect::<Vec<_>>().leak()
}

/// Runs `body` and says what of the patterns was in blocks of memory that were freed meanwhile.
///
/// One pattern alone is eight octets: a moved value may have taken them along from the stack, in its
/// padding. Of a buffer that is given back, more is found.
fn left_behind(patterns: &'static [&'static [u8]], body: impl FnOnce()) -> Option<String> {
    let times = test_alloc::watch(patterns, body);
    let mut found = patterns.iter().zip(times).filter(|(_, times)| *times > 0);
    let ((first, times), (second, _)) = (found.next()?, found.next()?);
    Some(format!("{times} blocks hold {}, and {}", first.escape_ascii(), second.escape_ascii()))
}

fn shows(patterns: &[&[u8]], text: &[u8]) -> bool {
    let patterns: HashSet<&[u8]> = patterns.iter().copied().collect();
    text.windows(8).any(|window| patterns.contains(window))
}

#[test]
fn the_search_finds_what_is_there() {
    let patterns = patterns(&[PASSWORD.as_bytes().to_vec()]);
    for text in [PASSWORD.to_owned(), STANDARD.encode(format!("n,,{PASSWORD}")), STANDARD.encode(PASSWORD)] {
        assert!(shows(patterns, text.as_bytes()));
        assert!(left_behind(patterns, || drop(std::hint::black_box(text.clone()))).is_some());
    }
    assert!(!shows(patterns, b"The password is correct."));
}

// ---------------------------------------------------------------------------------------------------
// What is derived from a password

/// All that follows from a password by SCRAM (RFC 5802, section 3): each opens something.
fn derived(hash: ScramHash, prepared: &str, iterations: u32) -> Vec<Vec<u8>> {
    let client = scram::Client::new(hash, "tim", prepared, SALT, iterations);
    let client_key = scram::hmac(hash, &client.salted_password, b"Client Key");
    let server_key = scram::hmac(hash, &client.salted_password, b"Server Key");
    vec![
        prepared.as_bytes().to_vec(),
        client.salted_password.clone(),
        scram::digest(hash, &client_key),
        client_key,
        server_key,
    ]
}

#[test]
fn scram_keys_leave_nothing_behind() {
    for hash in HASHES {
        let mut secrets = derived(hash, PASSWORD, 3);
        secrets.truncate(5);
        let patterns = patterns(&secrets);
        let mut shown = String::new();
        let left = left_behind(patterns, || {
            let keys = Box::new(ScramKeys::derive(hash, PASSWORD.as_bytes(), SALT, 3).expect("good parameters"));
            assert!(keys.verify_octets(PASSWORD.as_bytes()) && !keys.verify_octets(b"another"));
            let text = keys.to_text();
            let read: ScramKeys = text.parse().expect("its own text");
            // A store moves them when it grows.
            let mut stored = vec![read];
            for _ in 0..5 {
                stored.push(ScramKeys::clone(&keys));
            }
            let unboxed = *keys;
            let result = AuthResult::scram_keys(unboxed);
            let _ = write!(shown, "{:?} {:?} {result:?} {:#?}", stored, result.keys(), result.clone());
            for damage in ["", "$", "\n", "!"] {
                let mut damaged = zeroize::Zeroizing::new(String::with_capacity(text.len() + 1));
                damaged.push_str(&text[..text.len() - 1]);
                damaged.push_str(damage);
                assert!(damaged.parse::<ScramKeys>().is_err());
            }
        });
        assert_eq!(left, None, "{hash:?}");
        assert!(!shows(patterns, shown.as_bytes()), "{shown}");
    }
}

#[test]
fn cram_md5_keys_and_known_passwords_leave_nothing_behind() {
    let key = CramMd5Key::derive(SecretRef::new(PASSWORD.as_bytes())).to_text();
    let half = |digits: &str| {
        let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("digits"));
        pairs.map(|pair| u8::from_str_radix(pair, 16).expect("digits")).collect::<Vec<_>>()
    };
    let mut secrets = vec![PASSWORD.as_bytes().to_vec(), half(&key[..32]), half(&key[32..])];
    for hash in HASHES {
        secrets.extend_from_slice(&derived(hash, PASSWORD, 4096)[1..]);
    }
    // Few enough that each of their windows is looked for.
    for secrets in secrets.chunks(3) {
        let patterns = patterns(secrets);
        let mut shown = String::new();
        let left = left_behind(patterns, || {
            let mut keys = vec![key.parse::<CramMd5Key>().expect("its own text")];
            for _ in 0..5 {
                keys.push(CramMd5Key::derive(SecretRef::new(PASSWORD.as_bytes())));
                drop(Box::new(keys[0].clone()));
                assert_eq!(keys[0].to_text(), key);
            }
            let mut known = vec![KnownPassword::new(PASSWORD.as_bytes(), SALT).expect("a good salt")];
            known.push(KnownPassword::new(PASSWORD.as_bytes(), SALT).expect("a good salt"));
            let _ = write!(shown, "{keys:?} {:?}", Arc::new(known.pop()));
        });
        assert_eq!(left, None);
        assert!(!shows(patterns, shown.as_bytes()), "{shown}");
    }
}

/// Passwords of which SASLprep (RFC 4013) makes others, by decomposing, sorting, composing and mapping.
#[test]
fn passwords_in_any_script_leave_nothing_behind() {
    for (password, prepared) in [
        ("corre\u{301}ct ho\u{308}rse battery", "corr\u{e9}ct h\u{f6}rse battery"),
        ("soft\u{ad}hyphen and\u{a0}no-break", "softhyphen and no-break"),
        ("ﬁne ﬂowers ﬃ ⅷ ㎨ ㌖ battery", "fine flowers ffi viii m\u{2215}s2 キロメートル battery"),
        // One character that becomes eighteen.
        ("\u{fdfa}", "صلى الله عليه وسلم"),
        // Ten marks on one letter, in the wrong order.
        (
            "q\u{301}\u{300}\u{302}\u{303}\u{323}\u{324}\u{325}\u{304}\u{306}\u{307}q horse",
            "q\u{323}\u{324}\u{325}\u{301}\u{300}\u{302}\u{303}\u{304}\u{306}\u{307}q horse",
        ),
        ("각각각각 한국어 비밀번호", "각각각각 한국어 비밀번호"),
        ("🦀🦀 crustaceans 🦞🦞", "🦀🦀 crustaceans 🦞🦞"),
    ] {
        let characters = |text: &str| text.chars().flat_map(|character| u32::from(character).to_le_bytes()).collect();
        let mut secrets: Vec<Vec<u8>> =
            vec![password.into(), prepared.into(), characters(password), characters(prepared)];
        // As a normaliser keeps them, each with its combining class behind it.
        let far: Vec<char> = prepared.chars().filter(|character| u32::from(*character) > 0x0300).collect();
        secrets.extend(far.iter().take(3).map(|character| {
            let mut pair = u32::from(*character).to_le_bytes().to_vec();
            pair.extend([0, 0, 0, 0]);
            pair
        }));
        let (patterns, prohibited) = (patterns(&secrets), format!("{password}\u{e000}"));
        let left = left_behind(patterns, || {
            let keys = ScramKeys::derive(ScramHash::Sha256, password.as_bytes(), SALT, 1).expect("good parameters");
            assert!(keys.verify_octets(prepared.as_bytes()), "{password}");
            let key = CramMd5Key::derive(SecretRef::new(password.as_bytes()));
            assert!(key.verify_octets(password.as_bytes()) && key.verify_octets(prepared.as_bytes()), "{password}");
            let mut credentials = sansmtp::auth::Credentials::default();
            credentials.set_password(password.as_bytes()).expect("a good password");
            let held = credentials.password().expect("it was set");
            assert!(held.ct_eq(prepared.as_bytes()) && held.ct_eq(password.as_bytes()), "{password}");
            assert!(keys.verify(held), "{password}");
            drop(credentials.clone());
            // What is prohibited has one form.
            credentials.set_password(prohibited.as_bytes()).expect("it is held as it was sent");
            assert!(credentials.password().is_some_and(|held| held.prepared().is_none()), "{password}");
            assert!(prepare_password(prohibited.as_bytes()).is_err(), "{password}");
            drop(prepare_password(password.as_bytes()).expect("it is allowed"));
        });
        assert_eq!(left, None, "{password}");
    }
}

// ---------------------------------------------------------------------------------------------------
// Dialogues

/// What the embedder does when it is asked.
#[derive(Clone, Copy, Debug)]
enum Reaction {
    Knows,
    KnowsAnother,
    Refuses,
    RefusesWithKeys,
    AcceptsWithKeys,
    CannotTell,
    Drops,
    DropsAnswer,
    Panics,
}

const REACTIONS: [Reaction; 9] = [
    Reaction::Knows,
    Reaction::KnowsAnother,
    Reaction::Refuses,
    Reaction::RefusesWithKeys,
    Reaction::AcceptsWithKeys,
    Reaction::CannotTell,
    Reaction::Drops,
    Reaction::DropsAnswer,
    Reaction::Panics,
];

/// Which client, what it sends, and what must not be left of it.
struct Dialogue {
    name: String,
    lines: Vec<String>,
    secrets: Vec<Vec<u8>>,
}

fn dialogue(name: impl Into<String>, lines: &[&str], secrets: &[Vec<u8>]) -> Dialogue {
    Dialogue {
        name: name.into(),
        lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        secrets: secrets.to_vec(),
    }
}

/// A right exchange, and what can go wrong with its last message.
fn variants(name: &str, first: &str, last: &[u8], secrets: &[Vec<u8>]) -> Vec<Dialogue> {
    let encoded = STANDARD.encode(last);
    let stray = format!("{}!", &encoded[..encoded.len() - 1]);
    let zero = [last, b"\0"].concat();
    let mut dialogues = Vec::new();
    for (what, line) in [
        ("right", encoded.clone()),
        ("stray", stray),
        ("unpadded", encoded.trim_end_matches('=')[..encoded.len() - 3].to_owned()),
        ("with NUL", STANDARD.encode(&zero)),
        ("shortened", STANDARD.encode(&last[..last.len() - 1])),
        ("doubled", STANDARD.encode([last, last].concat())),
        ("spaced", format!("{encoded} ")),
        ("long", STANDARD.encode(last.repeat(40))),
        ("too long", encoded.repeat(200)),
        ("bare", format!("{encoded}\n{encoded}")),
    ] {
        // In a response, or with the command.
        let lines = if first.ends_with(' ') { vec![format!("{first}{line}")] } else { vec![first.to_owned(), line] };
        let name = format!("{name} {what}");
        dialogues.push(Dialogue { name, lines, secrets: secrets.to_vec() });
    }
    dialogues
}

fn dialogues() -> Vec<Dialogue> {
    let mut dialogues = Vec::new();
    for hash in HASHES {
        let client = scram::Client::new(hash, "tim", PASSWORD, SALT, 4096);
        let lines = client.lines(hash.mechanism(), &"A".repeat(24));
        let last = STANDARD.decode(&lines[1]).expect("base64");
        let proof = last.rsplit(|&octet| octet == b'=').next().unwrap_or_default();
        let proof_at = last.windows(3).rposition(|window| window == b",p=").expect("a proof") + 3;
        let proof = STANDARD.decode(if proof.len() > 8 { proof } else { &last[proof_at..] }).expect("base64");
        // The client key comes out of the proof; the salted password never gets here.
        let mut secrets = derived(hash, PASSWORD, 4096).split_off(2);
        secrets.push(proof.clone());
        dialogues.extend(variants(hash.mechanism(), &lines[0], &last, &secrets));
        // The proof itself damaged, and too short.
        let without = &last[..proof_at];
        let encoded = STANDARD.encode(&proof);
        for (what, proof) in [
            ("proof stray", format!("{}!", &encoded[..encoded.len() - 1])),
            ("proof cut", encoded[..encoded.len() - 4].to_owned()),
            ("proof doubled", STANDARD.encode(proof.repeat(2))),
        ] {
            let message = STANDARD.encode([without, proof.as_bytes()].concat());
            dialogues.push(dialogue(format!("{} {what}", hash.mechanism()), &[&lines[0], &message], &secrets));
        }
    }
    let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let bearer = format!("n,a=tim,\x01host=mx.example.org\x01port=587\x01auth=Bearer {token}\x01\x01");
    let twice = format!("n,,\x01auth=Bearer {token}\x01auth=Bearer {token}\x01\x01");
    let basic = format!("n,,\x01auth=Basic {token}\x01x=y\x01\x01");
    let xoauth2 = format!("user=tim\x01auth=Bearer {token}\x01\x01");
    let secrets = [token.as_bytes().to_vec()];
    for first in ["AUTH OAUTHBEARER ", "AUTH OAUTHBEARER", "AUTH XOAUTH2 ", "AUTH XOAUTH2"] {
        for message in [&bearer, &twice, &basic, &xoauth2] {
            dialogues.extend(variants(first, first, message.as_bytes(), &secrets));
        }
    }
    // HMAC-MD5 of the challenge that zeros make, by a password that nobody has: the digest is secret too.
    let digest = "b913a602c7eda7a495b4e6e7334d3890";
    let secrets =
        [digest.as_bytes().to_vec(), b"\xb9\x13\xa6\x02\xc7\xed\xa7\xa4\x95\xb4\xe6\xe7\x33\x4d\x38\x90".to_vec()];
    let mut cram_md5 = variants("CRAM-MD5", "AUTH CRAM-MD5", format!("tim {digest}").as_bytes(), &secrets);
    // There the first digest is a part of the name.
    cram_md5.retain(|dialogue| !dialogue.name.ends_with("doubled"));
    dialogues.append(&mut cram_md5);
    dialogues.push(dialogue("CRAM-MD5 hung up", &["AUTH CRAM-MD5"], &secrets));
    for password in ["Ze\u{301}q7\u{ad}-ﬁkW?xv~29", "\u{fdfa}"] {
        let secrets = [password.as_bytes().to_vec()];
        let message = format!("\0tim\0{password}");
        dialogues.extend(variants("PLAIN", "AUTH PLAIN ", message.as_bytes(), &secrets));
        let mut login = variants("LOGIN", "AUTH LOGIN dGlt", password.as_bytes(), &secrets);
        dialogues.append(&mut login);
    }
    dialogues
}

fn config() -> Arc<Config> {
    let auth = Auth::new()
        .mechanism(Scram::new(ScramHash::Sha1))
        .mechanism(Scram::new(ScramHash::Sha512))
        .mechanism(CramMd5::new())
        .mechanism(OAuthBearer::new())
        .mechanism(XOAuth2::new());
    let zeros = |room: &mut [u8]| {
        room.fill(0);
        true
    };
    Config::builder("mx.example.org").auth(auth).implicit_tls(true).entropy(zeros).build().expect("sound")
}

/// The embedder's store, made before memory is watched.
struct Store {
    known: KnownPassword,
    another: KnownPassword,
    keys: Vec<ScramKeys>,
}

impl Store {
    fn new() -> Self {
        let keys = |hash| ScramKeys::derive(hash, PASSWORD.as_bytes(), SALT, 4096).expect("good parameters");
        Self {
            known: KnownPassword::new(PASSWORD.as_bytes(), SALT).expect("a good salt"),
            another: KnownPassword::new(b"another", SALT).expect("a good salt"),
            keys: HASHES.map(keys).into(),
        }
    }

    fn answer(&self, reaction: Reaction, request: AuthRequest, shown: &mut String) -> Option<Answer> {
        let _ = write!(shown, "{request:?} {:#?} {:?}", request.question(), request.credentials());
        let keys = match request.question() {
            AuthQuestion::ScramKeys(hash) => self.keys.iter().find(|keys| keys.hash() == hash).cloned(),
            _ => None,
        };
        let with_keys = |result: AuthResult| keys.into_iter().fold(result, AuthResult::with_scram_keys);
        let result = match reaction {
            Reaction::Knows => self.known.answer(&request).with_login("tim"),
            Reaction::KnowsAnother => self.another.answer(&request),
            Reaction::Refuses => AuthResult::refuse_because(Refusal::UnknownUser),
            Reaction::RefusesWithKeys => with_keys(AuthResult::refuse_because(Refusal::Disabled)),
            Reaction::AcceptsWithKeys => with_keys(AuthResult::accept().with_login("tim")),
            Reaction::CannotTell => AuthResult::cannot_tell(),
            Reaction::Drops => return None,
            Reaction::DropsAnswer => {
                let answer = request.answer(with_keys(AuthResult::accept()));
                let _ = write!(shown, "{answer:?}");
                return None;
            }
            Reaction::Panics => {
                let panicked = catch_unwind(AssertUnwindSafe(move || panic!("{request:?}")));
                let payload = panicked.expect_err("it panics");
                let _ = write!(shown, "{:?}", payload.downcast_ref::<String>());
                return None;
            }
        };
        let _ = write!(shown, "{result:?}");
        let answer = request.answer(result);
        let _ = write!(shown, "{answer:?}");
        Some(answer)
    }
}

/// Runs a dialogue; gives what was said and shown, and how many questions there were.
fn run(config: &Arc<Config>, store: &Store, octets: &[u8], cut: usize, reaction: Reaction) -> (String, usize) {
    // On the heap, so that what lies in the connection itself is searched too when it is freed.
    let mut connection = Box::new(Connection::new(Arc::clone(config), Peer::local()));
    connection.tls_established(TlsInfo::new(TlsVersion::Tls1_3, "TLS_AES_128_GCM_SHA256")).expect("implicit TLS");
    let (mut shown, mut now, mut questions) = (String::new(), Duration::ZERO, 0);
    let (mut pieces, mut input): (_, &[u8]) = (octets.chunks(cut), &[]);
    loop {
        let answer = match connection.poll(now, &mut input) {
            Action::Reply(reply) => {
                let _ = write!(shown, "{reply} {reply:?}");
                continue;
            }
            // SCRAM's holds the salt, and the server's signature.
            Action::Challenge(challenge) => {
                let _ = write!(shown, "{challenge} {challenge:?}");
                continue;
            }
            Action::Event(event) => {
                let _ = write!(shown, "{event:?} {event:#?}");
                continue;
            }
            Action::CallAuthenticator(request) => {
                questions += 1;
                store.answer(reaction, request, &mut shown)
            }
            Action::NeedInput { .. } => {
                match pieces.next() {
                    Some(piece) => input = piece,
                    None => connection.end_of_input(),
                }
                continue;
            }
            Action::Pause { until } => {
                now = until;
                continue;
            }
            Action::Close => break,
            Action::Flush { .. } => continue,
            other => panic!("{other:?}"),
        };
        if let Some(answer) = answer {
            connection.answer(answer).expect("it was asked");
        }
        let _ = write!(shown, "{connection:?} {:?}", connection.session());
    }
    let _ = write!(shown, "{connection:#?} {:?}", connection.config());
    (shown, questions)
}

#[test]
fn dialogues_show_nothing_and_leave_nothing_behind() {
    quiet_panics();
    let (config, store) = (config(), Store::new());
    let (mut bad, mut asked, mut successes) = (Vec::new(), 0, 0);
    for Dialogue { name, lines, secrets } in dialogues() {
        let patterns = patterns(&secrets);
        let octets = format!("EHLO c.example\r\n{}\r\n\r\nNOOP\r\n", lines.join("\r\n"));
        for reaction in REACTIONS {
            for cut in [usize::MAX, 7, 1] {
                // Lines of 12 KiB need not come octet by octet.
                let cut = if octets.len() > 4_000 { cut.max(999) } else { cut };
                let mut ran = (String::new(), 0);
                let left = left_behind(patterns, || ran = run(&config, &store, octets.as_bytes(), cut, reaction));
                bad.extend(left.map(|left| format!("{name}, {reaction:?}, cut {cut}: {left}")));
                if shows(patterns, ran.0.as_bytes()) {
                    bad.push(format!("{name}, {reaction:?}, cut {cut}: {}", ran.0));
                }
                asked += ran.1;
                successes += usize::from(ran.0.contains("AuthSucceeded"));
            }
        }
    }
    assert!(bad.is_empty(), "{} dialogues leak, such as\n{}", bad.len(), bad[..bad.len().min(12)].join("\n"));
    assert!(asked > 500 && successes > 9, "the dialogues get as far as the authenticator: {asked}, {successes}");
}

/// The panics that the embedder plays say nothing; any other is shown as usual.
fn quiet_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>().map_or("", String::as_str);
        if !text.starts_with("AuthRequest") {
            usual(panic);
        }
    }));
}
