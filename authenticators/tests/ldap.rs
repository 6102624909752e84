//! The battery, against OpenLDAP's server: users found by a template and by a search, over each kind of connection.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

#[path = "ldap/slapd.rs"]
mod slapd;

use std::sync::Arc;
use std::time::Duration;

use sansmtp::Secret;
use sansmtp_authenticators::ldap::{Ldap, LdapBuilder};
use slapd::{NOBODY, PEOPLE, SERVICE, SERVICE_PASSWORD, Setup, Slapd};
use support::battery::{Backend, USERS, battery, missing};
use support::login::Door;
use support::stalled;

/// By a template of the entry's name.
fn by_template() -> LdapBuilder {
    Ldap::bind(format!("uid={{user}},{PEOPLE}"))
}

/// By a search, as the service account.
fn by_search() -> LdapBuilder {
    Ldap::search(PEOPLE, "(&(objectClass=inetOrgPerson)(!(employeeType=disabled))(|(uid={user})(mail={user})))")
        .service_account(SERVICE, Secret::from(SERVICE_PASSWORD.as_bytes()))
        .login_attribute("uid")
        .nobody(NOBODY)
}

/// A backend of its own for each way to find users, and each kind of connection.
macro_rules! backends {
    ($($module:ident: $builder:ident, $url:ident, $cleartext:literal, $stalled:expr;)*) => {
        $(
            mod $module {
                use super::*;

                struct Server(Slapd);

                impl Backend for Server {
                    fn start() -> Option<Self> {
                        Slapd::start(&Setup::default()).map(Self)
                    }

                    fn door(&self) -> Arc<dyn Door> {
                        let builder = $builder().server(self.0.$url()).ca_file(self.0.ca_file());
                        let builder = builder.allow_cleartext($cleartext).time_limit(Duration::from_secs(60));
                        Arc::new(builder.max_waiting(1000).build().unwrap())
                    }

                    fn stop(&mut self) -> bool {
                        self.0.stop();
                        true
                    }

                    fn start_again(&mut self) {
                        self.0.start_again();
                    }

                    fn stalled(&self) -> Option<Arc<dyn Door>> {
                        let builder = $builder().server($stalled).ca_file(self.0.ca_file()).allow_cleartext($cleartext);
                        Some(Arc::new(builder.time_limit(Duration::from_millis(500)).build().unwrap()))
                    }
                }

                battery!(Server);
            }
        )*
    };
}

backends! {
    bind_in_the_clear: by_template, url, true, format!("ldap://{}", stalled::tcp());
    bind_over_start_tls: by_template, url, false, format!("ldap://{}", stalled::tcp());
    bind_over_tls: by_template, tls_url, false, format!("ldaps://{}", stalled::tcp());
    bind_over_a_unix_socket: by_template, unix_url, false, stalled_unix();
    search_in_the_clear: by_search, url, true, format!("ldap://{}", stalled::tcp());
    search_over_start_tls: by_search, url, false, format!("ldap://{}", stalled::tcp());
    search_over_tls: by_search, tls_url, false, format!("ldaps://{}", stalled::tcp());
    search_over_a_unix_socket: by_search, unix_url, false, stalled_unix();
}

/// The URL of a socket in a directory that is left to the end of the process.
fn stalled_unix() -> String {
    let path = tempfile::tempdir().unwrap().keep().join("ldapi");
    stalled::unix(&path);
    format!("ldapi://{}", path.display().to_string().replace('/', "%2F"))
}
