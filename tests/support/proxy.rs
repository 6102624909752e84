//! What must hold for the header of the PROXY protocol, whatever the octets are and however they are cut.

use std::sync::Arc;
use std::time::Duration;

use sansmtp::proxy::{MalformedHeader, ProxyRefusal, Reader, Ssl};
use sansmtp::{Action, Config, Connection, Event, Peer, Proxy, ProxyInfo};

type Found = Result<Option<ProxyInfo>, MalformedHeader>;

/// Reads `octets` whole, octet by octet, and cut by `cut`, by itself and in front of a session.
pub(crate) fn check(octets: &[u8], max_octets: u16, mut cut: impl FnMut(usize) -> usize) -> Result<(), String> {
    let proxy = Proxy::from_trusted(|_| true).max_octets(max_octets).believe_offloaded_tls(true);
    let config = Config::builder("mx.example.org").proxy(proxy).build().expect("a sound configuration");
    let whole = read(octets, max_octets, |left| left)?;
    let mut pieces = Vec::new();
    let mut left = octets.len();
    while left > 0 {
        let piece = cut(left).clamp(1, left);
        pieces.push(piece);
        left -= piece;
    }
    let mut again = pieces.iter().copied();
    for (way, found) in [
        ("octet by octet", read(octets, max_octets, |_| 1)?),
        ("cut", read(octets, max_octets, |left| again.next().unwrap_or(left))?),
    ] {
        if format!("{found:?}") != format!("{whole:?}") {
            return Err(format!("{}\n{way}: {found:?}\nwhole: {whole:?}", octets.escape_ascii()));
        }
    }
    let (found, behind) = whole;
    if let Ok(Some(info)) = &found {
        look(info)?;
    }

    let whole = serve(&config, octets, |left| left);
    let mut again = pieces.into_iter();
    for (way, served) in [
        ("octet by octet", serve(&config, octets, |_| 1)),
        ("cut", serve(&config, octets, |left| again.next().unwrap_or(left))),
    ] {
        if served != whole {
            return Err(format!("{}\n{way}: {served}\nwhole: {whole}", octets.escape_ascii()));
        }
    }
    let expected = match found {
        Ok(None) => "waits".into(),
        Ok(Some(info)) => format!("220 mx.example.org ESMTP\r\nfrom {}, {behind} octets behind", info.peer()),
        Err(malformed) => format!("refused: {malformed}\nclosed"),
    };
    if whole.starts_with(&expected) { Ok(()) } else { Err(format!("{whole}\nexpected: {expected}")) }
}

/// What a reader finds, and how many octets it leaves behind a header.
fn read(octets: &[u8], max_octets: u16, mut cut: impl FnMut(usize) -> usize) -> Result<(Found, usize), String> {
    let mut reader = Reader::new(Peer::local()).max_octets(max_octets);
    let mut rest = octets;
    while !rest.is_empty() {
        let (mut piece, behind) = rest.split_at(cut(rest.len()).clamp(1, rest.len()));
        match reader.read(&mut piece) {
            Ok(None) if piece.is_empty() => rest = behind,
            Ok(None) => return Err("input is left, and no header found".into()),
            Ok(Some(info)) => return Ok((Ok(Some(info)), piece.len() + behind.len())),
            Err(malformed) => return Ok((Err(malformed), 0)),
        }
    }
    Ok((Ok(None), 0))
}

/// Everything that can be asked of a header.
fn look(info: &ProxyInfo) -> Result<(), String> {
    let ssl = info.ssl();
    let texts = [
        info.authority(),
        info.network_namespace(),
        ssl.as_ref().and_then(Ssl::version),
        ssl.as_ref().and_then(Ssl::common_name),
        ssl.as_ref().and_then(Ssl::cipher),
        ssl.as_ref().and_then(Ssl::signature_algorithm),
        ssl.as_ref().and_then(Ssl::key_algorithm),
    ];
    if texts.into_iter().flatten().any(|text| text.contains(char::is_control)) {
        return Err(format!("a control character: {info:?}"));
    }
    if info.unique_id().is_some_and(|id| id.len() > 128) {
        return Err(format!("a long unique ID: {info:?}"));
    }
    if info.source().is_none() && info.peer() != info.proxy() {
        return Err(format!("a peer from nowhere: {info:?}"));
    }
    Ok(())
}

/// What a connection does until it has greeted its client.
fn serve(config: &Arc<Config>, octets: &[u8], mut cut: impl FnMut(usize) -> usize) -> String {
    let mut connection = Connection::new(Arc::clone(config), Peer::local());
    let (mut served, mut rest, mut input) = (String::new(), octets, &[][..]);
    loop {
        match connection.poll(Duration::ZERO, &mut input) {
            Action::Event(Event::ProxyRefused { reason, .. }) => {
                let ProxyRefusal::Malformed(malformed) = reason else { panic!("{reason:?}") };
                served += &format!("refused: {malformed}\n");
            }
            Action::Reply(reply) => {
                served += &String::from_utf8_lossy(reply.as_bytes());
                let left = input.len() + rest.len();
                return format!("{served}from {}, {left} octets behind", connection.session().peer());
            }
            Action::NeedInput { .. } if rest.is_empty() => return served + "waits",
            Action::NeedInput { .. } => {
                assert!(input.is_empty(), "input is used up before more is asked for");
                (input, rest) = rest.split_at(cut(rest.len()).clamp(1, rest.len()));
            }
            Action::Close => return served + "closed",
            other => panic!("before the greeting: {other:?}"),
        }
    }
}
