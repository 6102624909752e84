//! Properties of the PROXY protocol and of XCLIENT: no input panics, cuts make no difference, nothing is
//! kept beyond its bound, and what is written is what is read.

#![expect(
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test that goes wrong may stop here, and a match names what it is about"
)]

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use sansmtp::proxy::{Address, Reader, Tlv};
use sansmtp::{Action, Config, Connection, Peer, XClient};

#[path = "support/proxy.rs"]
mod support;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

// ---------------------------------------------------------------------------------------------------
// Headers

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&[kind], &length[..], value].concat()
}

/// TLVs of the types that there are, whose values are often right.
fn tlvs() -> impl Strategy<Value = Vec<u8>> {
    let kind = select(vec![1_u8, 2, 3, 4, 5, 0x20, 0x21, 0x22, 0x25, 0x30, 0xEA]);
    let text = "[ -~]{0,12}|\u{fc}|\n".prop_map(String::into_bytes);
    let inner = (any::<[u8; 5]>(), select(vec![0x20_u8, 0x21, 0x22, 0x23]), text.clone())
        .prop_map(|(fields, kind, text)| [&fields[..], &tlv(kind, &text)].concat());
    let value = prop_oneof![4 => text, 2 => inner, 1 => vec(any::<u8>(), 0..140)];
    vec((kind, value).prop_map(|(kind, value)| tlv(kind, &value)), 0..4).prop_map(|tlvs| tlvs.concat())
}

fn binary() -> impl Strategy<Value = Vec<u8>> {
    let command = prop_oneof![8 => Just(0x21_u8), 2 => Just(0x20), 1 => any::<u8>()];
    let family = prop_oneof![8 => select(vec![0x00_u8, 0x11, 0x12, 0x21, 0x31, 0x10]), 1 => any::<u8>()];
    (command, family, tlvs(), any::<u8>(), prop_oneof![8 => Just(0_u16), 1 => 0..4_u16]).prop_map(
        |(command, family, tlvs, filling, missing)| {
            let addresses = [0, 12, 36, 216].get(usize::from(family >> 4)).copied().unwrap_or(0);
            let block = [&vec![filling; addresses][..], &tlvs].concat();
            let length = u16::try_from(block.len()).expect("a length").saturating_sub(missing);
            [SIGNATURE, &[command, family], &length.to_be_bytes(), &block].concat()
        },
    )
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let address = "(25[0-6]|[1-9]?[0-9])(\\.(0?[1-9][0-9]?|0)){3}|[0-9a-fA-F]{1,4}(:[0-9a-f]{1,4}){7}|::1?";
    let fields = (select(vec!["TCP4", "TCP6", "UNKNOWN", "tcp4"]), address, address, any::<u16>(), "0?[0-9]{1,5}");
    fields.prop_map(|(protocol, source, destination, from, to)| {
        format!("PROXY {protocol} {source} {destination} {from} {to}\r\n").into_bytes()
    })
}

/// Something like a header, and something behind it.
fn octets() -> impl Strategy<Value = Vec<u8>> {
    let unknown = "PROXY UNKNOWN [ -~]{80,100}(\r\n)?".prop_map(String::into_bytes);
    let header = prop_oneof![4 => binary(), 4 => line(), 1 => unknown, 1 => vec(any::<u8>(), 0..200)];
    let behind = select(vec![&b""[..], b"EHLO client.example\r\n", b"\r\n", b"\x16\x03\x01"]);
    let change = proptest::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    (header, behind, change).prop_map(|(mut octets, behind, change)| {
        if let (Some((place, octet)), false) = (change, octets.is_empty()) {
            let place = place.index(octets.len());
            octets[place] = octet;
        }
        octets.extend_from_slice(behind);
        octets
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_header_is_the_same_however_it_is_cut(
        octets in octets(),
        max_octets in select(vec![0_u16, 12, 40, 4096]),
        cuts in vec(1..80_usize, 1..6),
    ) {
        let mut cuts = cuts.into_iter().cycle();
        if let Err(difference) = support::check(&octets, max_octets, |left| cuts.next().unwrap_or(left)) {
            return Err(TestCaseError::fail(difference));
        }
    }

    #[test]
    fn what_is_written_is_what_is_read(
        source in any::<(IpAddr, u16)>(),
        destination in any::<(IpAddr, u16)>(),
        id in vec(any::<u8>(), 0..=128),
        custom in vec(any::<u8>(), 0..40),
        kind in 0xE0..=0xFF_u8,
    ) {
        let (source, mut destination) = (SocketAddr::from(source), SocketAddr::from(destination));
        if source.is_ipv4() != destination.is_ipv4() {
            destination.set_ip(source.ip());
        }
        let (name, family, ends) = match (source.ip(), destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ("TCP4", 0x11, [from.octets(), to.octets()].concat()),
            (from, to) => {
                let bits = |address: IpAddr| match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                    IpAddr::V6(address) => address.octets(),
                };
                ("TCP6", 0x21, [bits(from), bits(to)].concat())
            }
        };
        let (from, to) = (source.port(), destination.port());
        let line = format!("PROXY {name} {} {} {from} {to}\r\n", source.ip(), destination.ip());
        let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
        let block = [ends, ports, tlv(Tlv::UNIQUE_ID, &id), tlv(kind, &custom)].concat();
        let length = u16::try_from(block.len()).expect("a length").to_be_bytes();
        let binary = [SIGNATURE, &[0x21, family], &length, &block].concat();
        for octets in [line.as_bytes(), &binary] {
            let info = Reader::new(Peer::local()).read(&mut &*octets).expect("sound").expect("whole");
            prop_assert_eq!(info.peer(), Peer::from(source));
            prop_assert_eq!(info.destination(), Some(&Address::Socket(destination)));
            if octets.starts_with(SIGNATURE) {
                prop_assert_eq!((info.unique_id(), info.tlv(kind)), (Some(&id[..]), Some(&custom[..])));
            }
        }
    }
}

#[test]
fn a_proxy_makes_nothing_grow_beyond_its_limit() {
    for max_octets in [0_u16, 100, 4096] {
        let endless = [SIGNATURE, &[0x21, 0x00], &u16::MAX.to_be_bytes(), &[4; 1 << 17]].concat();
        let length = max_octets.to_be_bytes();
        let longest = [SIGNATURE, &[0x21, 0x00], &length, &vec![4; usize::from(max_octets)], &[0; 4096]].concat();
        for octets in [&endless, &longest, &b"PROXY UNKNOWN ".iter().chain(&[b'x'; 1 << 17]).copied().collect()] {
            let grown = measure(|| {
                let mut reader = Reader::new(Peer::local()).max_octets(max_octets);
                for mut piece in octets.chunks(7) {
                    if !matches!(reader.read(&mut piece), Ok(None)) {
                        break;
                    }
                }
            });
            // A buffer that doubles has both of its sizes for a moment.
            let bound = 3 * (u64::from(max_octets) + 16).max(107);
            assert!(grown.bytes_max <= bound, "{} octets, limit {max_octets}", grown.bytes_max);
        }
    }
}

// ---------------------------------------------------------------------------------------------------
// XCLIENT

fn attribute() -> impl Strategy<Value = String> {
    let name = select(vec!["NAME", "addr", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT", "FOO", ""]);
    let value = prop_oneof![
        select(vec!["[UNAVAILABLE]", "[tempunavail]", "192.0.2.1", "IPV6:2001:db8::1", "25", "SMTP", "a.example"])
            .prop_map(str::to_owned),
        "[!-~]{0,9}",
        "(\\+[0-9A-F]{2}){1,4}",
    ];
    (name, select(vec!["=", "=", "=", ""]), value).prop_map(|(name, equals, value)| format!("{name}{equals}{value}"))
}

/// What is said, and where the connection then comes from.
fn play(config: &Arc<Config>, octets: &[u8], cut: usize) -> String {
    let mut connection = Connection::new(Arc::clone(config), SocketAddr::from(([127, 0, 0, 1], 4000)));
    let (mut said, mut pieces, mut input) = (String::new(), octets.chunks(cut), &[][..]);
    loop {
        match connection.poll(Duration::ZERO, &mut input) {
            Action::Reply(reply) => {
                let reply = String::from_utf8_lossy(reply.as_bytes()).into_owned();
                let _ = writeln!(said, "{} {reply:?}", connection.session().peer());
            }
            Action::NeedInput { .. } => match pieces.next() {
                Some(piece) => input = piece,
                None => return said,
            },
            Action::Flush { .. } | Action::Event(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

proptest! {
    #[test]
    fn xclient_takes_all_of_a_command_or_nothing(
        commands in vec(vec(attribute(), 0..5), 1..5),
        login in any::<bool>(),
        cut in 1..60_usize,
    ) {
        let xclient = XClient::from_trusted(|peer| peer.address().is_some()).allow_login(login);
        let config = Config::builder("mx.example.org").xclient(xclient).build().expect("a sound configuration");
        let mut octets = Vec::new();
        for attributes in commands {
            octets.extend_from_slice(format!("XCLIENT {}\r\nNOOP\r\n", attributes.join(" ")).as_bytes());
        }
        let said = play(&config, &octets, usize::MAX);
        prop_assert_eq!(&said, &play(&config, &octets, cut));
        let mut before = "127.0.0.1:4000";
        for line in said.lines() {
            let (peer, reply) = line.split_once(' ').expect("a line");
            // Only a command that is granted changes where the connection comes from.
            prop_assert!(peer == before || reply.starts_with("\"220 "), "{}", said);
            before = peer;
        }
    }
}
