use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::rdata::{A, AAAA, MX};

use super::*;
use crate::testing::{Zone, name_server};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn mx(preference: u16, exchange: &str) -> RData {
    RData::MX(MX::new(preference, Name::from_ascii(exchange).unwrap()))
}

fn a() -> Result<Vec<RData>, ResponseCode> {
    Ok(vec![RData::A(A(ADDRESS))])
}

fn look_up(domain: &str, zone: Zone<'_>) -> Result<Vec<Exchanger>, Unroutable> {
    look_up_with(domain, zone, true)
}

fn look_up_with(domain: &str, zone: Zone<'_>, allow_local: bool) -> Result<Vec<Exchanger>, Unroutable> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = name_server(zone);
    runtime
        .block_on(async { MailExchangers::new(Some(server), "us.example", allow_local).unwrap().look_up(domain).await })
}

fn hosts(found: &[Exchanger]) -> Vec<&str> {
    found.iter().map(|exchanger| exchanger.host.as_str()).collect()
}

#[test]
fn the_lowest_preference_comes_first() {
    let zone = || {
        vec![
            ("example.org", RecordType::MX, Ok(vec![mx(30, "c.example."), mx(10, "a.example."), mx(20, "b.example.")])),
            ("a.example", RecordType::A, a()),
            ("b.example", RecordType::A, a()),
            ("c.example", RecordType::A, a()),
        ]
    };
    let found = look_up("Example.ORG", zone()).unwrap();
    assert_eq!(hosts(&found), ["a.example", "b.example", "c.example"]);
    assert_eq!(found[0].addresses, [ADDRESS]);
}

#[test]
fn equals_share_the_load() {
    let records = || Ok(vec![mx(10, "a.example."), mx(10, "b.example."), mx(20, "c.example.")]);
    let zone = vec![
        ("example.org", RecordType::MX, records()),
        ("a.example", RecordType::A, a()),
        ("b.example", RecordType::A, a()),
        ("c.example", RecordType::A, a()),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = name_server(zone);
    runtime.block_on(async {
        let exchangers = MailExchangers::new(Some(server), "us.example", true).unwrap();
        let mut first = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let found = exchangers.look_up("example.org").await.unwrap();
            assert_eq!(found[2].host, "c.example");
            first.insert(found[0].host.clone());
        }
        assert_eq!(first.len(), 2);
    });
}

#[test]
fn a_domain_without_mx_is_its_own() {
    let v6 = Ok(vec![RData::AAAA(AAAA(Ipv6Addr::LOCALHOST))]);
    let found = look_up("example.org", vec![("example.org", RecordType::AAAA, v6)]).unwrap();
    assert_eq!(found, [Exchanger { host: "example.org".to_owned(), addresses: vec![Ipv6Addr::LOCALHOST.into()] }]);
}

/// Internal names have them, against the rules for host names (RFC 952).
#[test]
fn a_domain_may_have_underscores() {
    let zone = vec![
        ("my_host.example", RecordType::MX, Ok(vec![mx(10, "a_b.example.")])),
        ("a_b.example", RecordType::A, a()),
    ];
    assert_eq!(hosts(&look_up("my_host.example", zone).unwrap()), ["a_b.example"]);
}

#[test]
fn what_will_never_work_is_permanent() {
    assert_eq!(look_up("nowhere.example", vec![]), Err(Unroutable::NoDomain));
    let null = vec![("example.org", RecordType::MX, Ok(vec![mx(0, ".")])), ("example.org", RecordType::A, a())];
    assert_eq!(look_up("example.org", null), Err(Unroutable::NullMx));
    let dangling = vec![("example.org", RecordType::MX, Ok(vec![mx(10, "gone.example.")]))];
    assert_eq!(look_up("example.org", dangling), Err(Unroutable::NoAddress));
    let text_only = vec![("example.org", RecordType::TXT, Ok(vec![]))];
    assert_eq!(look_up("example.org", text_only), Err(Unroutable::NoAddress));
    for domain in ["", ".", "[", "[1.2.3]", "[x:1]", "a..b"] {
        assert_eq!(look_up(domain, vec![]), Err(Unroutable::Syntax), "{domain:?}");
    }
    for error in [Unroutable::NoDomain, Unroutable::NullMx, Unroutable::NoAddress, Unroutable::Syntax] {
        assert!(error.is_permanent() && error.status().starts_with("5."), "{error:?}");
    }
}

#[test]
fn a_name_server_in_trouble_is_temporary() {
    let broken = vec![("example.org", RecordType::MX, Err(ResponseCode::ServFail))];
    let error = look_up("example.org", broken).unwrap_err();
    assert!(!error.is_permanent(), "{error:?}");
    assert_eq!(error.status(), "4.4.3");
    let half = vec![
        ("example.org", RecordType::MX, Ok(vec![mx(10, "a.example.")])),
        ("a.example", RecordType::A, Err(ResponseCode::ServFail)),
        ("a.example", RecordType::AAAA, Err(ResponseCode::ServFail)),
    ];
    assert!(!look_up("example.org", half).unwrap_err().is_permanent());
}

#[test]
fn an_exchanger_without_an_address_is_passed_over() {
    let zone = vec![
        ("example.org", RecordType::MX, Ok(vec![mx(10, "gone.example."), mx(20, "b.example.")])),
        ("b.example", RecordType::A, a()),
    ];
    assert_eq!(hosts(&look_up("example.org", zone).unwrap()), ["b.example"]);
}

#[test]
fn a_backup_exchanger_does_not_send_to_itself() {
    let zone = |ours| {
        vec![
            (
                "example.org",
                RecordType::MX,
                Ok(vec![mx(10, "a.example."), mx(ours, "US.example."), mx(20, "b.example.")]),
            ),
            ("a.example", RecordType::A, a()),
            ("b.example", RecordType::A, a()),
            ("us.example", RecordType::A, a()),
        ]
    };
    assert_eq!(hosts(&look_up("example.org", zone(20)).unwrap()), ["a.example"]);
    assert_eq!(look_up("example.org", zone(10)), Err(Unroutable::Loop));
}

#[test]
fn address_literals_need_no_name_server() {
    for (literal, host) in [("[192.0.2.1]", "192.0.2.1"), ("[IPv6:::1]", "::1"), ("[ipv6:2001:db8::1]", "2001:db8::1")]
    {
        assert_eq!(hosts(&look_up(literal, vec![]).unwrap()), [host]);
    }
}

#[test]
fn a_domain_cannot_have_its_mail_sent_to_this_host() {
    let at = |ip: [u8; 4]| Ok(vec![RData::A(A(ip.into()))]);
    let zone = || {
        vec![
            ("evil.example", RecordType::MX, Ok(vec![mx(10, "mx.evil.example.")])),
            ("mx.evil.example", RecordType::A, at([127, 0, 0, 1])),
            ("named.example", RecordType::MX, Ok(vec![mx(10, "localhost.")])),
            ("localhost", RecordType::A, at([127, 0, 0, 1])),
            ("implicit.example", RecordType::A, at([10, 0, 0, 1])),
            ("mapped.example", RecordType::AAAA, Ok(vec![RData::AAAA(AAAA("::ffff:127.0.0.1".parse().unwrap()))])),
            ("half.example", RecordType::MX, Ok(vec![mx(10, "mx.evil.example."), mx(20, "b.example.")])),
            ("b.example", RecordType::A, a()),
        ]
    };
    for domain in [
        "evil.example",
        "named.example",
        "implicit.example",
        "mapped.example",
        "[127.0.0.1]",
        "[0.0.0.0]",
        "[IPv6:::1]",
    ] {
        let error = look_up_with(domain, zone(), false).unwrap_err();
        assert_eq!((&error, error.status(), error.is_permanent()), (&Unroutable::Local, "5.4.6", true), "{domain}");
        assert!(look_up(domain, zone()).is_ok(), "{domain}");
    }
    assert_eq!(hosts(&look_up_with("half.example", zone(), false).unwrap()), ["b.example"]);
    assert_eq!(hosts(&look_up_with("[192.0.2.1]", zone(), false).unwrap()), ["192.0.2.1"]);
}
