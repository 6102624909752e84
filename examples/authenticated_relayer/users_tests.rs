use super::*;

fn users() -> (tempfile::TempDir, Users) {
    let directory = tempfile::tempdir().unwrap();
    let users = Users::open_or_create(&directory.path().join("mail.db")).unwrap();
    (directory, users)
}

#[test]
fn right_wrong_unknown_and_disabled() {
    let (_directory, users) = users();
    users.add("tim", b"tanstaaftanstaaf").unwrap();
    assert_eq!(users.check("tim", b"tanstaaftanstaaf").unwrap(), Check::Accepted);
    assert_eq!(users.check("tim", b"tanstaaf").unwrap(), Check::WrongPassword);
    assert_eq!(users.check("tim", b"").unwrap(), Check::WrongPassword);
    assert_eq!(users.check("Tim", b"tanstaaftanstaaf").unwrap(), Check::UnknownUser);
    users.set_disabled("tim", true).unwrap();
    assert_eq!(users.check("tim", b"tanstaaftanstaaf").unwrap(), Check::Disabled);
    assert_eq!(users.check("tim", b"wrong").unwrap(), Check::WrongPassword);
    users.set_disabled("tim", false).unwrap();
    users.set_password("tim", b"other").unwrap();
    assert_eq!(users.check("tim", b"tanstaaftanstaaf").unwrap(), Check::WrongPassword);
    assert_eq!(users.check("tim", b"other").unwrap(), Check::Accepted);
    users.delete("tim").unwrap();
    assert_eq!(users.check("tim", b"other").unwrap(), Check::UnknownUser);
}

#[test]
fn mistakes_have_their_own_errors() {
    let (_directory, users) = users();
    users.add("tim", b"x").unwrap();
    assert!(matches!(users.add("tim", b"y"), Err(Error::Exists(_))));
    assert!(matches!(users.set_password("tam", b"y"), Err(Error::Unknown(_))));
    assert!(matches!(users.delete("tam"), Err(Error::Unknown(_))));
    assert!(matches!(users.add("tam", b""), Err(Error::EmptyPassword)));
    assert!(matches!(users.add("tam", b"a\0b"), Err(Error::NulInPassword)));
    for name in ["", "a\0b", "a\nb", "a\u{7f}", &"x".repeat(256)] {
        assert!(matches!(users.add(name, b"x"), Err(Error::Name)), "{name:?}");
        assert_eq!(users.check(name, b"x").unwrap(), Check::UnknownUser, "{name:?}");
    }
    users.add(&"x".repeat(255), b"x").unwrap();
    let names: Vec<_> = users.list().unwrap().into_iter().map(|user| user.name).collect();
    assert_eq!(names, ["tim".to_owned(), "x".repeat(255)]);
}

#[test]
fn the_first_start_makes_one_user_and_the_second_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mail.db");
    let (users, first) = Users::first_start(&path).unwrap();
    let first = first.unwrap();
    assert!(first.password.len() >= 24);
    assert!(!format!("{first:?}").contains(first.password.as_str()));
    assert_eq!(users.check("user", first.password.as_bytes()).unwrap(), Check::Accepted);
    drop(users);
    let (users, second) = Users::first_start(&path).unwrap();
    assert!(second.is_none());
    assert_eq!(users.check("user", first.password.as_bytes()).unwrap(), Check::Accepted);
    let octets = std::fs::read(&path).unwrap();
    assert!(!octets.windows(first.password.len()).any(|window| window == first.password.as_bytes()));
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let (directory, users) = users();
    users.add("tim", b"x").unwrap();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
    }
}

#[test]
fn another_file_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("notes.txt");
    std::fs::write(&text, "not a database, but long enough to have a header of its own".repeat(10)).unwrap();
    assert!(matches!(Users::open(&text), Err(Error::Foreign)));
    let other = directory.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    assert!(matches!(Users::open(&other), Err(Error::Foreign)));
    let newer = directory.path().join("newer.db");
    Connection::open(&newer).unwrap().execute_batch("PRAGMA user_version = 2").unwrap();
    assert!(matches!(Users::open(&newer), Err(Error::Newer(2))));
    assert!(matches!(Users::open(&directory.path().join("none")), Err(Error::Missing(_))));
}

#[test]
fn threads_share_it() {
    let (_directory, users) = users();
    users.add("tim", b"right").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let users = &users;
            scope.spawn(move || {
                let (password, expected) =
                    if thread % 2 == 0 { ("right", Check::Accepted) } else { ("wrong", Check::WrongPassword) };
                assert_eq!(users.check("tim", password.as_bytes()).unwrap(), expected);
            });
        }
    });
}
