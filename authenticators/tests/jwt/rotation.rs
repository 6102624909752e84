//! Keys that change.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sansmtp_authenticators::oauth2::{Jwks, JwksError, Jwt};

use super::support::login::{auth, oauthbearer};
use super::support::logs;
use super::support::signer::{Signer, set};
use super::support::wait;
use super::{at_now, claims, rules};

fn code(jwt: &Jwt, signer: &Signer) -> u16 {
    auth(jwt, &oauthbearer("", &signer.token(&claims())))
}

fn file(path: &Path, keys: &[&Signer]) -> Jwt {
    write(path, keys);
    at_now(Jwt::new(rules(), Jwks::file(path).unwrap()).unwrap())
}

/// As it should be done: whole, under another name, and then in its place.
fn write(path: &Path, keys: &[&Signer]) {
    let new = path.with_extension("new");
    fs::write(&new, set(&keys.iter().map(|key| key.jwk()).collect::<Vec<_>>())).unwrap();
    fs::rename(new, path).unwrap();
}

#[test]
fn a_new_key_is_there_with_its_first_token() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jwks.json");
    let (old, new) = (Signer::p256("old"), Signer::ed25519("new"));
    let jwt = file(&path, &[&old]);
    assert_eq!(code(&jwt, &old), 235);
    write(&path, &[&old, &new]);
    assert_eq!((code(&jwt, &new), code(&jwt, &old)), (235, 235));
}

#[test]
fn keys_that_are_away_at_the_start_are_found_later() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jwks.json");
    let signer = Signer::p256("key");
    let open = || Jwks::file_or_later(&path);
    let (jwt, log) = logs::collect_here(|| at_now(Jwt::new(rules(), open().unwrap()).unwrap()));
    assert!(log.starts_with("WARN") && log.contains("jwks.json"), "{log}");
    let (codes, log) = logs::collect_here(|| [code(&jwt, &signer), code(&jwt, &signer)]);
    assert_eq!((codes, log.as_str()), ([454, 454], ""));
    write(&path, &[&signer]);
    wait::until("the keys", || (code(&jwt, &signer) == 235).then_some(()));
    // What is there has to be right.
    fs::write(&path, "{}").unwrap();
    assert!(matches!(open(), Err(JwksError::Syntax { .. })));
}

#[test]
fn a_key_that_is_gone_is_gone_without_a_token_that_misses_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jwks.json");
    let (old, new) = (Signer::p256("old"), Signer::ed25519("new"));
    let jwt = file(&path, &[&old]);
    write(&path, &[&new]);
    wait::until("the old key to go", || (code(&jwt, &old) == 535).then_some(()));
    assert_eq!(code(&jwt, &new), 235);
    // Another key of the same name.
    let again = Signer::ed25519("new");
    write(&path, &[&again]);
    wait::until("the other key", || (code(&jwt, &again) == 235).then_some(()));
    assert_eq!(code(&jwt, &new), 535);
}

#[test]
fn what_is_broken_changes_nothing_and_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jwks.json");
    let (old, new) = (Signer::p256("old"), Signer::ed25519("new"));
    let jwt = file(&path, &[&old]);
    fs::write(&path, "{\"keys\":[").unwrap();
    // It might be the key of that file: nobody can tell.
    let (codes, log) = logs::collect_here(|| [code(&jwt, &new), code(&jwt, &old), code(&jwt, &new)]);
    assert_eq!(codes, [454, 235, 454]);
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.starts_with("WARN") && log.contains("no JWK Set"), "{log}");
    fs::remove_file(&path).unwrap();
    wait::until("somebody to look", || (code(&jwt, &new) == 454).then_some(()));
    assert_eq!(code(&jwt, &old), 235);
    write(&path, &[&new]);
    wait::until("the file that is back", || (code(&jwt, &new) == 235).then_some(()));
    assert_eq!(code(&jwt, &old), 535);
}

/// What was moved away and back is what it was before.
#[test]
fn a_file_that_was_away_is_looked_at_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jwks.json");
    let (old, new) = (Signer::p256("old"), Signer::ed25519("new"));
    let jwt = file(&path, &[&old]);
    fs::rename(&path, path.with_extension("away")).unwrap();
    wait::until("the file to be missed", || (code(&jwt, &new) == 454).then_some(()));
    fs::rename(path.with_extension("away"), &path).unwrap();
    let back = Instant::now();
    wait::until("the file that is back", || (code(&jwt, &new) == 535).then_some(()));
    assert_eq!(code(&jwt, &old), 235);
    // Not only when it is time to look for unknown keys again.
    assert!(back.elapsed() < Duration::from_secs(20));
}

#[test]
fn tokens_with_made_up_keys_do_not_make_it_read_for_each() {
    let (old, new, strange) = (Signer::p256("old"), Signer::ed25519("new"), Signer::ed25519("strange"));
    let fetched = Arc::new(AtomicUsize::new(0));
    let content = Arc::new(Mutex::new(Ok(set(&[old.jwk()]))));
    let waiting = Arc::new(AtomicUsize::new(0));
    let (count, served, others) = (fetched.clone(), content.clone(), waiting.clone());
    let fetch = move || {
        if count.fetch_add(1, Ordering::SeqCst) == 1 {
            // Nobody can see whether they wait, only that they are about to.
            wait::until("all the others", || (others.load(Ordering::SeqCst) == 20).then_some(()));
            std::thread::sleep(Duration::from_millis(100));
        }
        served.lock().unwrap().clone().map_err(|why: &str| why.into())
    };
    let keys = Jwks::fetched(fetch).unwrap();
    let jwt = at_now(Jwt::new(rules(), keys.clone()).unwrap());
    assert_eq!((code(&jwt, &old), fetched.load(Ordering::SeqCst)), (235, 1));
    *content.lock().unwrap() = Ok(set(&[new.jwk()]));
    // All at the same time, of which one fetches, and the others wait for it.
    std::thread::scope(|scope| {
        let log_in = || {
            waiting.fetch_add(1, Ordering::SeqCst);
            code(&jwt, &new)
        };
        let logins: Vec<_> = (0..20).map(|_| scope.spawn(log_in)).collect();
        assert!(logins.into_iter().all(|login| login.join().unwrap() == 235));
    });
    assert_eq!(fetched.load(Ordering::SeqCst), 2);
    for _ in 0..100 {
        assert_eq!((code(&jwt, &strange), code(&jwt, &old), code(&jwt, &new)), (535, 535, 235));
    }
    assert_eq!(fetched.load(Ordering::SeqCst), 2);
    // The embedder knows better.
    keys.replace(&set(&[strange.jwk()])).unwrap();
    assert_eq!((code(&jwt, &strange), code(&jwt, &new)), (235, 535));
    assert!(matches!(keys.replace(b"{}"), Err(JwksError::Syntax { .. })));
    assert_eq!(code(&jwt, &strange), 235);
}

#[test]
fn what_cannot_be_fetched_is_no_refusal() {
    let (old, new) = (Signer::p256("old"), Signer::ed25519("new"));
    let (content, first) = (set(&[old.jwk()]), AtomicUsize::new(0));
    let keys = Jwks::fetched(move || match first.fetch_add(1, Ordering::SeqCst) {
        0 => Ok(content.clone()),
        _ => Err("out of order".into()),
    });
    let jwt = at_now(Jwt::new(rules(), keys.unwrap()).unwrap());
    for _ in 0..3 {
        assert_eq!((code(&jwt, &new), code(&jwt, &old)), (454, 235));
    }
    assert!(matches!(Jwks::fetched(|| Err("out of order".into())), Err(JwksError::Fetch(_))));
}
