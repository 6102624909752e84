//! Properties of every mechanism over bent messages: no panic, no 235 without a yes, no difference by how
//! they are cut. And of the texts in which keys are stored.

#![expect(clippy::indexing_slicing, clippy::wildcard_enum_match_arm, reason = "a test that goes wrong may stop here")]

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use sansmtp::SecretRef;
use sansmtp::auth::mechanism::CramMd5Key;
use sansmtp::auth::{Credentials, MalformedCredentials, Prohibited, ScramHash, ScramKeys, prepare_password};

#[path = "support/dialogue.rs"]
mod dialogue;
#[path = "support/driver.rs"]
mod driver;
#[path = "support/mechanisms.rs"]
mod mechanisms;
#[path = "support/scram.rs"]
mod scram;

use dialogue::{Dialogue, check_text};
use mechanisms::MECHANISMS;

/// Octets of an edit: empty messages, one octet, NUL, random ones, what stands in other messages, changes.
fn edit() -> impl Strategy<Value = Vec<u8>> {
    let given = prop_oneof![
        Just(Vec::new()),
        any::<u8>().prop_map(|octet| vec![octet]),
        Just(vec![0]),
        vec(any::<u8>(), 0..40),
        select(PIECES.to_vec()).prop_map(|piece| piece.as_bytes().to_vec()),
    ];
    (any::<u8>(), any::<u8>(), any::<u8>(), given).prop_map(|(kind, which, at, given)| {
        [&[kind, which, at, given.len().try_into().unwrap_or(0)], &given[..]].concat()
    })
}

/// What means something to one mechanism or another.
const PIECES: [&str; 24] = [
    ",",
    "=",
    "n,,",
    "y,,",
    "p=tls-exporter,,",
    "p=tls-unique,,",
    "n,a=tom,",
    "n=tim",
    ",r=",
    ",m=x",
    ",x=y",
    "=2C",
    "=3D",
    "c=biws",
    ",p=",
    ",p=AAAA",
    "\x01",
    "\x01auth=Bearer x\x01\x01",
    "user=",
    "\u{ad}",
    "\u{fdfa}",
    "*",
    "\r",
    "\n",
];

/// So many cases, unless `PROPTEST_CASES` says otherwise.
fn cases(cases: u32) -> ProptestConfig {
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() { default } else { ProptestConfig { cases, ..default } }
}

proptest! {
    #![proptest_config(cases(6_000))]

    #[test]
    fn bent_messages_never_panic_nor_succeed_by_themselves(
        mechanism in 0..MECHANISMS.len(),
        initial_response in any::<bool>(),
        edits in vec(edit(), 1..4),
        answers in vec(any::<u8>(), 1..4),
        ends in any::<bool>(),
        cuts in vec(any::<Index>(), 1..8),
    ) {
        let mut cuts = cuts.iter().cycle();
        let cut = |left: usize| cuts.next().map_or(left, |cut| cut.index(left.max(1)) + 1);
        let dialogue = Dialogue::right(mechanism, initial_response).edit(&edits.concat());
        dialogue.check(&answers, ends, cut).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn keys_survive_their_text(
        password in prop_oneof![20 => "\\PC{0,20}", 1 => Just("\u{fe00}".to_owned())], salt in vec(any::<u8>(), 1..40), iterations in 1..20_u32,
        hash in select(vec![ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512]),
    ) {
        let keys = ScramKeys::derive(hash, password.as_bytes(), &salt, iterations).expect("good parameters");
        let read: ScramKeys = keys.to_text().parse().expect("its own text");
        let mut credentials = Credentials::default();
        credentials.set_password(password.as_bytes()).expect("text without NUL");
        // What SASLprep maps to nothing is an empty password to whoever logs in.
        let prepared = prepare_password(password.as_bytes());
        let nothing_left = Err(MalformedCredentials::Prohibited(Prohibited::NothingLeft));
        let is_taken = prepared.map(drop) != nothing_left;
        prop_assert_eq!(credentials.password().is_some_and(|password| read.verify(password)), is_taken);
        prop_assert_eq!((read.salt(), read.hash()), (&salt[..], hash));
        prop_assert_eq!(read.iterations(), iterations);
        prop_assert_eq!(read.to_text(), keys.to_text());
        let key = CramMd5Key::derive(SecretRef::new(password.as_bytes()));
        prop_assert_eq!(key.to_text().parse::<CramMd5Key>().expect("its own text").to_text(), key.to_text());
    }

    #[test]
    fn any_text_is_read_or_not(
        text in prop_oneof![
            "\\PC{0,80}",
            "SCRAM-SHA-(1|256|512)\\$[0-9+]{0,12}:[A-Za-z0-9+/=]{0,12}\\$[A-Za-z0-9+/=]{0,90}:[A-Za-z0-9+/=]{0,90}",
            "[0-9a-fA-F]{62,66}",
        ],
        edits in vec((any::<Index>(), any::<char>()), 0..4),
    ) {
        check_text(&text).map_err(TestCaseError::fail)?;
        let mut good: Vec<char> = mechanisms::keys(ScramHash::Sha256).to_text().chars().collect();
        for (at, character) in edits {
            let at = at.index(good.len());
            good[at] = character;
        }
        check_text(&good.into_iter().collect::<String>()).map_err(TestCaseError::fail)?;
    }
}

/// What is bent above succeeds where it is not: by a yes, and by nothing else.
#[test]
fn unbent_messages_succeed_by_a_yes() {
    for (mechanism, name) in MECHANISMS.into_iter().enumerate() {
        for initial_response in [true, false] {
            for answer in 0..10 {
                let succeeded = Dialogue::right(mechanism, initial_response).check(&[answer], false, |left| left);
                // A token or a certificate that the authenticator has no name for is nobody's.
                let nameless = matches!(name, "OAUTHBEARER" | "EXTERNAL");
                assert_eq!(succeeded, Ok(answer < 3 && !nameless), "{name} {answer}");
            }
        }
    }
}
