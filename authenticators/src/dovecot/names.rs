//! Names that Dovecot gives to users.

/// Whether it is a name for a login, which ends up in logs and in header fields.
pub(super) fn is_login(name: &str) -> bool {
    (1..=MAX_OCTETS).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// As many as the engine lets an authcid have.
const MAX_OCTETS: usize = 255;
