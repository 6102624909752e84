//! Headers, by the specification's own examples and descriptions.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::*;

fn read(octets: &[u8]) -> Result<Option<ProxyInfo>, MalformedHeader> {
    let mut input = octets;
    let info = Reader::new(proxy()).read(&mut input);
    if let Ok(Some(_)) = &info {
        assert_eq!(input, b"", "what is left");
    }
    info
}

fn header(octets: &[u8]) -> ProxyInfo {
    read(octets).expect("sound").expect("whole")
}

fn proxy() -> Peer {
    SocketAddr::from(([127, 0, 0, 1], 4000)).into()
}

fn socket(text: &str) -> Address {
    Address::Socket(text.parse().expect("an address"))
}

/// A header of version 2.
fn binary(version_and_command: u8, family_and_transport: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).expect("a length").to_be_bytes();
    [v2::SIGNATURE, &[version_and_command, family_and_transport], &length, block].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("a length").to_be_bytes();
    [&[kind], &length[..], value].concat()
}

/// PROXY for TCP over IPv4, with TLVs.
fn with_tlvs(tlvs: &[u8]) -> Vec<u8> {
    binary(0x21, 0x11, &[INET, tlvs].concat())
}

#[test]
fn the_example_of_section_2_1() {
    let mut input: &[u8] =
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nGET / HTTP/1.1\r\nHost: 192.168.0.11\r\n\r\n";
    let info = Reader::new(proxy()).read(&mut input).unwrap().unwrap();
    assert!(input.starts_with(b"GET / HTTP/1.1\r\n"));
    assert_eq!((info.version(), info.command(), info.transport()), (Version::One, Command::Proxy, Transport::Stream));
    assert_eq!(info.source(), Some(&socket("192.168.0.1:56324")));
    assert_eq!(info.destination(), Some(&socket("192.168.0.11:443")));
    assert_eq!((info.peer().to_string(), info.proxy()), ("192.168.0.1:56324".into(), proxy()));
    assert_eq!(info.tlvs().count(), 0);
}

#[test]
fn the_longest_lines_of_section_2_1() {
    let long = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    for (line, octets) in [
        ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n".into(), 56),
        (alloc::format!("PROXY TCP6 {long} {long} 65535 65535\r\n"), 104),
        ("PROXY UNKNOWN\r\n".into(), 15),
        (alloc::format!("PROXY UNKNOWN {long} {long} 65535 65535\r\n"), 107),
    ] {
        assert_eq!(line.len(), octets);
        header(line.as_bytes());
    }
    let unknown = header(b"PROXY UNKNOWN\r\n");
    assert_eq!((unknown.source(), unknown.peer()), (None, proxy()));
}

#[test]
fn the_addresses_of_section_2_2() {
    for (transport, octet) in [(Transport::Stream, 1), (Transport::Datagram, 2)] {
        let info = header(&binary(0x21, 0x10 | octet, INET));
        assert_eq!((info.version(), info.command(), info.transport()), (Version::Two, Command::Proxy, transport));
        assert_eq!(info.source(), Some(&socket("192.168.0.1:56324")));
        assert_eq!(info.destination(), Some(&socket("192.168.0.11:25")));

        let ends = ["20010db8000000000000000000000001", "20010db8000000000000000000000002", "dc040019"];
        let info = header(&binary(0x21, 0x20 | octet, &hex(&ends.concat())));
        assert_eq!(info.source(), Some(&socket("[2001:db8::1]:56324")));
        assert_eq!(info.destination(), Some(&socket("[2001:db8::2]:25")));

        let mut paths = [0; 216];
        paths[..4].copy_from_slice(b"/a b");
        paths[108..].fill(b'x');
        let info = header(&binary(0x21, 0x30 | octet, &paths));
        assert_eq!(info.source(), Some(&Address::Unix(b"/a b"[..].into())));
        assert_eq!(info.destination(), Some(&Address::Unix([b'x'; 108][..].into())));
        assert_eq!(info.peer(), Peer::unknown());
    }
    for (command, octet) in [(Command::Local, 0x20), (Command::Proxy, 0x21)] {
        let info = header(&binary(octet, 0x00, b""));
        assert_eq!((info.command(), info.source(), info.peer()), (command, None, proxy()));
    }
}

#[test]
fn the_tlvs_of_section_2_2() {
    let ssl = [
        &[0x07, 0, 0, 0, 0][..],
        &tlv(Tlv::SSL_VERSION, b"TLSv1.3"),
        &tlv(Tlv::SSL_CIPHER, b"ECDHE-RSA-AES128-GCM-SHA256"),
        &tlv(Tlv::SSL_SIG_ALG, b"RSA-SHA256"),
        &tlv(Tlv::SSL_KEY_ALG, b"RSA2048"),
        &tlv(Tlv::SSL_CN, "b\u{fc}cher.example".as_bytes()),
    ]
    .concat();
    let tlvs = [
        tlv(Tlv::ALPN, b"smtp"),
        tlv(Tlv::AUTHORITY, b"mx.example.org"),
        tlv(Tlv::NOOP, b"\xff\0"),
        tlv(Tlv::UNIQUE_ID, &[0xAB; 128]),
        tlv(Tlv::SSL, &ssl),
        tlv(Tlv::NETNS, b"blue"),
        tlv(0xEA, b"\x01vpce-08d2bf15fac5001c9"),
    ]
    .concat();
    let info = header(&with_tlvs(&tlvs));
    assert_eq!(info.alpn(), Some(&b"smtp"[..]));
    assert_eq!(info.authority(), Some("mx.example.org"));
    assert_eq!(info.unique_id(), Some(&[0xAB; 128][..]));
    assert_eq!(info.network_namespace(), Some("blue"));
    assert_eq!(info.tlv(0xEA), Some(&b"\x01vpce-08d2bf15fac5001c9"[..]));
    assert_eq!((info.tlvs().count(), info.has_checksum()), (7, false));
    let ssl = info.ssl().unwrap();
    assert!(ssl.is_over_tls() && ssl.has_certificate() && ssl.has_certificate_in_session());
    assert!(ssl.is_certificate_verified());
    assert_eq!(ssl.version(), Some("TLSv1.3"));
    assert_eq!(ssl.cipher(), Some("ECDHE-RSA-AES128-GCM-SHA256"));
    assert_eq!((ssl.signature_algorithm(), ssl.key_algorithm()), (Some("RSA-SHA256"), Some("RSA2048")));
    assert_eq!((ssl.common_name(), ssl.tlvs().count()), (Some("b\u{fc}cher.example"), 5));

    let tls = info.offloaded_tls().unwrap();
    assert_eq!((tls.version, tls.server_name.as_deref()), (crate::TlsVersion::Tls1_3, Some("mx.example.org")));
    assert!(tls.peer_certificates.is_empty() && !tls.has_channel_binding());
}

#[test]
fn a_certificate_is_verified_only_if_there_is_one() {
    for (client, verify, verified) in [(0x03, 0, true), (0x05, 0, true), (0x03, 1, false), (0x01, 0, false)] {
        let info = header(&with_tlvs(&tlv(Tlv::SSL, &[client, 0, 0, 0, verify])));
        assert_eq!(info.ssl().unwrap().is_certificate_verified(), verified, "{client} {verify}");
    }
}

#[test]
fn the_checksum_covers_the_whole_header() {
    let mut octets = with_tlvs(&[tlv(Tlv::CRC32C, &[0; 4]), tlv(Tlv::NOOP, b"behind it")].concat());
    let place = v2::FIXED_OCTETS + INET.len() + 3;
    let sum = checksum::finish(checksum::update(checksum::INITIAL, &octets));
    octets[place..place + 4].copy_from_slice(&sum.to_be_bytes());
    assert!(header(&octets).has_checksum());
    for changed in v2::FIXED_OCTETS..octets.len() {
        let mut wrong = octets.clone();
        wrong[changed] ^= 0x80;
        // With another type it is no checksum.
        assert_eq!(read(&wrong).is_ok(), changed == place - 3, "octet {changed}");
    }
}

#[test]
fn nested_ssl_does_not_nest() {
    let inner = tlv(Tlv::SSL, &[1, 0, 0, 0, 0]);
    let octets = with_tlvs(&tlv(Tlv::SSL, &[&[1, 0, 0, 0, 0][..], &inner].concat()));
    assert_eq!(read(&octets).unwrap_err(), MalformedHeader::Tlv);
}

#[test]
fn what_is_kept_of_a_header_is_bounded() {
    for max_octets in [0, 1, 4096, u16::MAX] {
        let mut reader = Reader::new(proxy()).max_octets(max_octets);
        let mut octets = binary(0x21, 0x00, &alloc::vec![0; usize::from(max_octets)]);
        octets.extend([b'x'; 100]);
        let last = octets.len() - 101;
        let mut input = &octets[..last];
        assert!(reader.read(&mut input).unwrap().is_none() && input.is_empty());
        assert!(reader.kept() <= v2::FIXED_OCTETS + usize::from(max_octets));
        let mut input = &octets[last..];
        assert!(reader.read(&mut input).unwrap().is_some());
        assert_eq!((input.len(), reader.kept()), (100, 0));
    }
    let mut reader = Reader::new(proxy()).max_octets(10);
    for _ in 0..92 {
        assert!(reader.read(&mut &b"PROXY UNKNOWN x"[reader.kept().min(14)..][..1]).unwrap().is_none());
    }
    let mut endless: &[u8] = &[b'x'; 1 << 16];
    assert_eq!(reader.read(&mut endless).unwrap_err(), MalformedHeader::TooLong);
    assert!(reader.kept() <= 107);
}

#[test]
fn what_could_never_work_is_refused_with_the_configuration() {
    use crate::{Auth, Config, ConfigError};

    let everybody = || Proxy::from_trusted(|_| true);
    let build = |proxy| Config::builder("mx.example.org").auth(Auth::new()).proxy(proxy).build().map(|_| ());
    assert_eq!(build(everybody()), Err(ConfigError::AuthNeedsTls));
    assert_eq!(build(everybody().believe_offloaded_tls(true)), Ok(()));
    let hurried = everybody().believe_offloaded_tls(true).timeout(Duration::ZERO);
    assert_eq!(build(hurried), Err(ConfigError::ZeroLimit("proxy.timeout")));
}

/// The example's addresses, and the port of SMTP.
const INET: &[u8] = &[192, 168, 0, 1, 192, 168, 0, 11, 0xDC, 0x04, 0, 25];

fn hex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2).map(|pair| core::str::from_utf8(pair).expect("ASCII"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect()
}
