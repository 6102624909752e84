//! The addresses that a user's entry has.

use ldap3::{Scope, SearchEntry};

use super::fault::{Fault, ResultCode};
use super::pool::Operation;

/// Reads the values of these attributes in the entry of this name, with the rights that the connection is bound with.
pub(super) struct ReadAddresses<'a> {
    pub(super) dn: &'a str,
    pub(super) attributes: &'a [String],
}

impl Operation for ReadAddresses<'_> {
    type Output = Vec<String>;

    /// Where the server does not let them be read, there are none, and no login may send from more for it.
    async fn perform(&self, ldap: &mut ldap3::Ldap) -> Result<Vec<String>, Fault> {
        if self.attributes.is_empty() {
            return Ok(Vec::new());
        }
        let mut stream = ldap.streaming_search(self.dn, Scope::Base, ANY_ENTRY, self.attributes).await?;
        let mut addresses = Vec::new();
        while let Some(entry) = stream.next().await? {
            if !entry.is_ref() && !entry.is_intermediate() {
                addresses.extend(values(SearchEntry::construct(entry)));
            }
        }
        match ResultCode(stream.finish().await.rc) {
            ResultCode::SUCCESS => Ok(addresses),
            code => {
                tracing::warn!(%code, "the directory does not show which addresses a user has; there are none then");
                Ok(Vec::new())
            }
        }
    }
}

/// Whatever the server calls the attributes: none but those was asked for. `smtp:` in front is how Active Directory tells
/// addresses from others in `proxyAddresses`.
fn values(entry: SearchEntry) -> impl Iterator<Item = String> {
    entry.attrs.into_values().flatten().map(|value| match value.get(..SMTP.len()) {
        Some(prefix) if prefix.eq_ignore_ascii_case(SMTP) => value.get(SMTP.len()..).unwrap_or_default().to_owned(),
        Some(_) | None => value,
    })
}

const SMTP: &str = "smtp:";

/// RFC 4512, section 3.3: every entry has one.
pub(super) const ANY_ENTRY: &str = "(objectClass=*)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_addresses_whatever_is_in_front() {
        let proxies =
            ["SMTP:tim@example.org", "smtp:t@example.org", "x500:/o=Example/cn=tim", "plain@example.org", "é"];
        let attrs = [("proxyAddresses".to_owned(), proxies.map(str::to_owned).to_vec())].into();
        let found: Vec<_> = values(SearchEntry { dn: String::new(), attrs, bin_attrs: [].into() }).collect();
        let expected = ["tim@example.org", "t@example.org", "x500:/o=Example/cn=tim", "plain@example.org", "é"];
        assert_eq!(found, expected);
    }
}
