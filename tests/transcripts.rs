//! Plays every transcript under `tests/transcripts/`, whole and cut.

#[path = "support/transcript_files.rs"]
mod transcript_files;

use std::net::SocketAddr;
use std::path::Path;

use sansmtp::Peer;
use sansmtp::testing::{Mismatch, Play};
use transcript_files::{Session, configure, tls_info};

#[test]
fn every_transcript_holds_however_it_is_cut() {
    let only = std::env::var("TRANSCRIPT").ok();
    let mut sessions = transcript_files::sessions(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts"));
    sessions.retain(|session| only.as_ref().is_none_or(|only| *only == session.file));
    assert!(!sessions.is_empty(), "no transcript was played");
    let failures: Vec<_> = sessions.iter().filter_map(|session| play_cut(session).err()).collect();
    assert!(failures.is_empty(), "{} of {} sessions fail:\n{}", failures.len(), sessions.len(), failures.join("\n"));
}

fn play_cut(session: &Session) -> Result<(), String> {
    for cut in [usize::MAX, 1, 2, 3, 7, 64] {
        let describe = |mismatch: Mismatch| format!("{}:{}: cut {cut}: {mismatch}", session.file, mismatch.line);
        play(session, cut).map_err(describe)?;
    }
    Ok(())
}

fn play(session: &Session, cut: usize) -> Result<(), Mismatch> {
    let Session { words, lines, .. } = session;
    // Octets in the clear behind STARTTLS are refused when they are there: a matter of when they come.
    let cut = if lines.contains("554 5.5.0") { usize::MAX } else { cut };
    let address = words.get("peer").map(|peer| peer.parse::<SocketAddr>().expect("an address and port"));
    let play = Play::new(configure(words)).cut(cut).peer(address.map_or_else(Peer::local, Peer::from));
    let tls = tls_info(words);
    let play = if words.contains_key("tls-now") { play.implicit_tls(tls) } else { play.tls(tls) };
    play.transcript(lines)
}
