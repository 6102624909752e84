//! What a command says on stderr, made fit for a log.

/// Leaves out what may be a secret: `known` ones, and words of 20 characters and more that are no path and have a digit
/// in them, as tokens and keys are. Control characters become `?`.
pub(super) fn redacted(text: &str, known: &[&str]) -> String {
    let mut text = text.trim().replace(char::is_control, "?");
    for secret in known.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, REDACTED);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let is_word = is_of_token(first);
        let end = rest.find(|character| is_of_token(character) != is_word).unwrap_or(rest.len());
        let (run, behind) = rest.split_at(end);
        let is_path = run.starts_with(['/', '.', '~']);
        let looks_secret =
            is_word && !is_path && run.len() >= SHORTEST && run.bytes().any(|octet| octet.is_ascii_digit());
        out.push_str(if looks_secret { REDACTED } else { run });
        rest = behind;
    }
    out
}

/// RFC 6750, section 2.1, but for `=`, which is in front of secrets too.
fn is_of_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-._~+/".contains(character)
}

const REDACTED: &str = "[redacted]";
const SHORTEST: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_is_left_out() {
        for (text, expected) in [
            ("curl: (22) The requested URL returned error: 401\n", "curl: (22) The requested URL returned error: 401"),
            (
                "cannot read /home/tim/.config/oauth2/tokens-2026.json",
                "cannot read /home/tim/.config/oauth2/tokens-2026.json",
            ),
            ("refresh_token=1//0gabcdefghijklmnop&x=1", "refresh_token=[redacted]&x=1"),
            ("{\"id_token\":\"eyJhbGciOiJSUzI1NiIsImtpZCI6.eyJp.c2ln\"}", "{\"id_token\":\"[redacted]\"}"),
            ("got s3cret, using it", "got [redacted], using it"),
            ("a\tb\nid=forged", "a?b?id=forged"),
        ] {
            assert_eq!(redacted(text, &["s3cret", ""]), expected);
        }
    }
}
