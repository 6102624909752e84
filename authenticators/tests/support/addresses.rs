//! What every store does with users' addresses.

use sansmtp_authenticators::stored::{AccountError, Accounts, Keep, Stored, WritableStore};
use sansmtp_authenticators::{Addresses, Authenticator as _, MAX_ADDRESSES};

/// With a store that has no users yet.
pub(crate) fn belong_to_users(store: &impl WritableStore) {
    let users = Accounts::new(store);
    let known = |addresses: &[&str]| Addresses::Known(addresses.iter().map(|one| (*one).to_owned()).collect());
    let strict = Stored::new(store).unwrap();
    let optional = Stored::new(store).unwrap().addresses_are_optional(true);
    users.add("tim", b"x", Keep::Nothing).unwrap();
    users.add("Ann", b"x", Keep::Nothing).unwrap();
    assert_eq!(strict.addresses("tim"), known(&[]));
    assert_eq!(optional.addresses("tim"), Addresses::NeverGiven);
    assert_eq!(optional.addresses("tom"), Addresses::UnknownLogin);

    users.add_address("tim", "tim@Example.org").unwrap();
    users.add_address("tim", "@example.net").unwrap();
    // Twice is once.
    users.add_address("tim", "tim@example.ORG").unwrap();
    users.add_address("Ann", "tim@example.org").unwrap();
    for authenticator in [&strict, &optional] {
        assert_eq!(authenticator.addresses("tim"), known(&["@example.net", "tim@example.org"]));
        assert_eq!(authenticator.addresses("tom"), Addresses::UnknownLogin);
        assert_eq!(authenticator.addresses("ann"), Addresses::UnknownLogin);
        assert_eq!(authenticator.addresses("TIM\0"), Addresses::UnknownLogin);
    }
    assert_eq!(users.addresses("tim").unwrap(), ["@example.net", "tim@example.org"]);
    assert_eq!(Stored::new(store).unwrap().ignore_case(true).addresses("ann"), known(&["tim@example.org"]));

    assert!(matches!(users.add_address("tom", "a@b"), Err(AccountError::Unknown(name)) if name == "tom"));
    assert!(matches!(users.add_address("tim", "tim"), Err(AccountError::Address(text)) if text == "tim"));
    assert!(matches!(users.remove_address("tim", "a@b"), Err(AccountError::UnknownAddress(text)) if text == "a@b"));
    assert!(matches!(users.remove_address("tom", "a@b"), Err(AccountError::Unknown(_))));
    users.remove_address("tim", "tim@EXAMPLE.org").unwrap();
    assert_eq!(users.addresses("tim").unwrap(), ["@example.net"]);

    // A user of the same name has nothing of the one before.
    users.delete("tim").unwrap();
    assert_eq!(strict.addresses("tim"), Addresses::UnknownLogin);
    users.add("tim", b"x", Keep::Nothing).unwrap();
    assert_eq!(optional.addresses("tim"), known(&[]));
    users.remove_address("Ann", "tim@example.org").unwrap();
    assert_eq!(optional.addresses("tim"), Addresses::NeverGiven);
    users.add("eve@example.org", b"x", Keep::Nothing).unwrap();
    assert_eq!(optional.addresses("tim"), known(&[]));
    assert!(!store.insert_address("tom", "a@b").unwrap());
}

/// With the user `tim`, in a store that is quick.
pub(crate) fn are_not_too_many(store: &impl WritableStore) {
    let users = Accounts::new(store);
    for number in 0..MAX_ADDRESSES {
        users.add_address("tim", &format!("{number}@example.org")).unwrap();
    }
    assert!(matches!(users.add_address("tim", "more@example.org"), Err(AccountError::TooManyAddresses)));
    // By whoever asks at the same time.
    assert!(store.insert_address("tim", "more@example.org").unwrap());
    assert_eq!(users.addresses("tim").unwrap().len(), MAX_ADDRESSES);
}
