//! Names and filters with a place for the user's name.

use ldap3::{dn_escape, ldap_escape};

/// A distinguished name (RFC 4514) with the user's name in it.
#[derive(Clone, Debug)]
pub(super) struct DnTemplate(String);

impl DnTemplate {
    /// `None` where the text, with a name filled in, is no distinguished name, or the user's name has no place in a
    /// value of it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if !text.contains(USER) || !is_dn(&text.replace(USER, SAMPLE)) {
            return None;
        }
        // In an attribute's type it would not be escaped: no attribute type holds a space.
        is_dn(&text.replace(USER, "x y")).then(|| Self(text.to_owned()))
    }

    /// The distinguished name of a user. The value is escaped (RFC 4514, section 2.4), so that it stays one value.
    pub(super) fn fill(&self, user: &str) -> String {
        self.0.replace(USER, &dn_escape(user))
    }
}

/// A search filter (RFC 4515) with the user's name in it.
#[derive(Clone, Debug)]
pub(super) struct FilterTemplate(String);

impl FilterTemplate {
    /// `None` where the text, with a name filled in, is no filter, or the user's name has no place in a value of it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        // In an attribute's type or a matching rule it would choose what is compared. Parentheses in values are
        // escaped (RFC 4515, section 3), so what opens last before a place is the item that it is in.
        let in_values = text.match_indices(USER).all(|(at, _)| {
            let before = text.get(..at).unwrap_or_default();
            let item = before.rsplit('(').next().unwrap_or_default();
            item.contains('=') && !item.contains(')')
        });
        let is_filter = ldap3::parse_filter(text.replace(USER, SAMPLE)).is_ok();
        (text.contains(USER) && text.starts_with('(') && in_values && is_filter).then(|| Self(text.to_owned()))
    }

    /// The filter for a user. The value is escaped (RFC 4515, section 3), so that it stays one value.
    pub(super) fn fill(&self, user: &str) -> String {
        self.0.replace(USER, &ldap_escape(user))
    }
}

/// Whether a text is a distinguished name of at least one part, by its form: which attributes there are, and what they
/// may hold, the server knows.
pub(super) fn is_dn(text: &str) -> bool {
    !text.is_empty()
        && unescaped_parts(text, |octet| octet == ',' || octet == '+')
            .is_some_and(|parts| parts.iter().all(|part| is_attribute(part)))
}

/// Whether a text is a distinguished name, perhaps the empty one, of the root.
pub(super) fn is_dn_or_root(text: &str) -> bool {
    text.is_empty() || is_dn(text)
}

/// Whether a text is an attribute's type: a name, or numbers with dots between them (RFC 4512, section 1.4).
pub(super) fn is_attribute_type(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(|octet| octet.is_ascii_alphanumeric() || octet == '-' || octet == '.')
}

/// Whether a text is a type and a value.
fn is_attribute(text: &str) -> bool {
    let Some((name, value)) = text.split_once('=') else { return false };
    // A value after `#` is written in BER, where nothing could be escaped.
    is_attribute_type(name.trim_matches(' '))
        && !value.trim_matches(' ').is_empty()
        && !value.trim_start_matches(' ').starts_with('#')
}

/// Splits at characters that no backslash precedes. `None` where something is not escaped as RFC 4514, section 3 wants
/// it to be.
fn unescaped_parts(text: &str, is_separator: impl Fn(char) -> bool) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        if is_separator(character) {
            parts.push(text.get(start..at)?);
            start = at + 1;
        }
        match character {
            '\\' => match characters.next()?.1 {
                ' ' | '"' | '#' | '+' | ',' | ';' | '<' | '=' | '>' | '\\' => {}
                first if first.is_ascii_hexdigit() && characters.next()?.1.is_ascii_hexdigit() => {}
                _ => return None,
            },
            '"' | ';' | '<' | '>' | '\0' => return None,
            _ => {}
        }
    }
    parts.push(text.get(start..)?);
    Some(parts)
}

/// What stands where the user's name goes.
pub(super) const USER: &str = "{user}";

/// A name that an escape before it would not fit: no hexadecimal digit is in it, and nothing that may be escaped.
const SAMPLE: &str = "zz";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_in_a_dn() {
        let template = DnTemplate::parse("uid={user},ou=people,dc=example,dc=org").unwrap();
        for (user, value) in [
            ("tim", "tim"),
            ("jürgen", "jürgen"),
            ("tim@example.org", "tim@example.org"),
            ("o'brien", "o'brien"),
            ("tim,ou=people", "tim\\2cou\\3dpeople"),
            ("tim+cn=x", "tim\\2bcn\\3dx"),
            ("#04024869", "\\2304024869"),
            ("tim#", "tim#"),
            (" tim ", "\\20tim\\20"),
            ("tim\\2a", "tim\\5c2a"),
            ("a\"b<c>d;e", "a\\22b\\3cc\\3ed\\3be"),
            ("{user}", "{user}"),
        ] {
            let dn = template.fill(user);
            assert_eq!(dn, format!("uid={value},ou=people,dc=example,dc=org"));
            assert!(is_dn(&dn), "{dn}");
        }
    }

    #[test]
    fn names_are_escaped_in_a_filter() {
        let template = FilterTemplate::parse("(|(uid={user})(mail={user}))").unwrap();
        for (user, value) in [
            ("tim", "tim"),
            ("jürgen", "jürgen"),
            ("*", "\\2a"),
            ("tim)(uid=*", "tim\\29\\28uid=\\2a"),
            ("tim\\2a", "tim\\5c2a"),
            ("a\0b", "a\\00b"),
        ] {
            let filter = template.fill(user);
            assert_eq!(filter, format!("(|(uid={value})(mail={value}))"));
            assert!(ldap3::parse_filter(&filter).is_ok(), "{filter}");
        }
    }

    #[test]
    fn templates_of_names() {
        for good in ["uid={user}", "cn={user}+ou=a\\,b,dc=example", "0.9.2342.19200300.100.1.1 = a {user} z, dc=org"] {
            assert!(DnTemplate::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "{user}",
            "uid=tim",
            "{user}=tim",
            "uid,{user}",
            "uid={user},",
            "uid={user},dc",
            "uid=#{user}",
            "uid=\\{user}",
            "uid=\\4{user}",
            "uid=\"{user}\"",
            "uid={user};dc=org",
            "{user}@example.org",
        ] {
            assert!(DnTemplate::parse(bad).is_none(), "{bad}");
        }
        assert!(is_dn_or_root("") && !is_dn("") && is_dn("dc=org"));
    }

    #[test]
    fn templates_of_filters() {
        for good in
            ["(uid={user})", "(&(objectClass=person)(|(uid={user})(mail={user}@*)))", "(uid:caseExactMatch:={user})"]
        {
            assert!(FilterTemplate::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "uid={user}",
            "(uid=tim)",
            "({user}=tim)",
            "(uid:{user}:=tim)",
            "(|({user}=a)(uid={user}))",
            "(&{user}(uid=x))",
            "(uid={user}",
            "(uid=\\{user})",
            "(uid=\\2{user})",
            "(uid={user}))",
            "(&(uid=x){user})",
        ] {
            assert!(FilterTemplate::parse(bad).is_none(), "{bad}");
        }
    }
}
