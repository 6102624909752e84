//! The addresses that come with a login.

use sansmtp_authenticators::ldap::Ldap;

use super::slapd::{PEOPLE, Setup, Slapd};
use super::{PASSWORD, built, searching};

#[test]
fn addresses_come_with_the_login_if_they_may_be_read() {
    let entries = "dn: uid=ann,ou=people,dc=example,dc=org\nobjectClass: inetOrgPerson\nuid: ann\ncn: x\nsn: x\n\
                   userPassword: tanstaaftanstaaf\nmail: ann@example.org\nmail: SMTP:a@example.org\n\
                   labeledURI: @example.net\n\n\
                   dn: uid=none,ou=people,dc=example,dc=org\nobjectClass: inetOrgPerson\nuid: none\ncn: x\nsn: x\n\
                   userPassword: tanstaaftanstaaf\n\n";
    let by_template = || Ldap::bind(format!("uid={{user}},{PEOPLE}"));
    let by_search = || searching(PEOPLE, "(uid={user})").login_attribute("uid");
    for (database, self_reads) in
        [("access to attrs=mail,labeledURI,entry,objectClass by self read by * read", true), ("", false)]
    {
        let Some(slapd) = Slapd::start(&Setup { entries, database, ..Setup::default() }) else { return };
        for (builder, reads) in [(by_template(), self_reads), (by_search(), true)] {
            let users = built(builder.mail_attribute("mail").mail_attribute("labeledURI"), &slapd);
            let last = users.log_in("ann", PASSWORD);
            assert_eq!(last.code, 235);
            let mut addresses = last.addresses.unwrap().as_slice().to_vec();
            addresses.sort();
            let all = ["@example.net", "a@example.org", "ann@example.org"];
            assert_eq!(addresses, all.get(..if reads { 3 } else { 0 }).unwrap(), "{database}");
            // Who has none is known to have none; who is refused has nothing.
            assert!(users.log_in("none", PASSWORD).addresses.unwrap().as_slice().is_empty());
            let last = users.log_in("ann", "wrong");
            assert_eq!((last.code, last.addresses), (535, None));
        }
        for builder in [by_template(), by_search()] {
            let last = built(builder, &slapd).log_in("ann", PASSWORD);
            assert_eq!((last.code, last.addresses), (235, None));
        }
    }
}
