//! What the first start prints: the login, and the lines that send a first mail.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use zeroize::Zeroizing;

use crate::mechanisms::Mechanism;
use sansmtp_authenticators::source::{FirstUser, UserSource};

/// What a first mail needs to know about the server. The address is the bound one: port 0 has become a number.
#[derive(Debug)]
struct Greeting<'a> {
    user: &'a FirstUser,
    users: &'a UserSource,
    /// The certificate to trust, if it is self-signed.
    certificate: Option<&'a Path>,
    /// Where a client gets to, and whether TLS begins at once; none where there are unix sockets only.
    listener: Option<(SocketAddr, bool)>,
    mechanisms: &'a [Mechanism],
}

/// The login that the first start has made. It is told on stdout, also where the start fails after that: nobody else knows
/// the password.
pub(crate) struct FirstLogin<'a> {
    user: FirstUser,
    users: &'a UserSource,
    told: bool,
}

impl<'a> FirstLogin<'a> {
    pub(crate) fn new(user: FirstUser, users: &'a UserSource) -> Self {
        Self { user, users, told: false }
    }

    /// Tells it, with the lines that send a first mail.
    pub(crate) fn tell(
        mut self,
        certificate: Option<&Path>,
        listener: Option<(SocketAddr, bool)>,
        mechanisms: &[Mechanism],
    ) {
        let Self { user, users, told } = &mut self;
        say(&greeting_text(&Greeting { user, users, certificate, listener, mechanisms }));
        *told = true;
    }
}

impl Drop for FirstLogin<'_> {
    fn drop(&mut self) {
        if !self.told {
            let Self { user, users, .. } = self;
            say(&greeting_text(&Greeting { user, users, certificate: None, listener: None, mechanisms: &[] }));
        }
    }
}

/// The text for stdout: the only place where the password is ever shown.
fn greeting_text(greeting: &Greeting<'_>) -> Zeroizing<String> {
    let Greeting { user, users, certificate, listener, mechanisms } = greeting;
    let name = &user.name;
    let password = user.password.as_str();
    let first_mail = listener.as_ref().map_or_else(Zeroizing::default, |(address, implicit_tls)| {
        first_mail(user, *certificate, *address, *implicit_tls, mechanisms)
    });
    let first_mail = first_mail.as_str();
    Zeroizing::new(format!(
        "\
The user database {users} is new. It has one user; the password is shown only now:

    user      {name}
    password  {password}

{first_mail}"
    ))
}

fn first_mail(
    user: &FirstUser,
    certificate: Option<&Path>,
    address: SocketAddr,
    implicit_tls: bool,
    mechanisms: &[Mechanism],
) -> Zeroizing<String> {
    let port = address.port();
    let host = host(address.ip());
    let name = &user.name;
    let password = user.password.as_str();
    let scheme = if implicit_tls { "smtps" } else { "smtp" };
    let trust = certificate.map_or_else(String::new, |path| format!(" --cacert {}", quoted(path)));
    let swaks_mechanism = [(Mechanism::Plain, "PLAIN"), (Mechanism::Login, "LOGIN"), (Mechanism::CramMd5, "CRAM-MD5")]
        .into_iter()
        .find_map(|(mechanism, name)| mechanisms.contains(&mechanism).then_some(name));
    let swaks_tls = if implicit_tls { "--tls-on-connect" } else { "--tls" };
    let first_mail =
        r"printf 'From: user@localhost\r\nTo: friend@example.org\r\nSubject: First mail\r\n\r\nIt works.\r\n'";
    let swaks = Zeroizing::new(swaks_mechanism.map_or_else(String::new, |mechanism| {
        format!(
            "\
or with swaks:

    swaks --server {host} --port {port} {swaks_tls} --auth {mechanism} --auth-user {name} --auth-password '{password}' \\
          --from user@localhost --to friend@example.org --header 'Subject: First mail' --body 'It works.'

"
        )
    }));
    let swaks = swaks.as_str();
    Zeroizing::new(format!(
        "\
Send a first mail with curl:

    {first_mail} | \\
    curl --ssl-reqd{trust} --url {scheme}://{host}:{port} --user '{name}:{password}' \\
         --mail-from user@localhost --mail-rcpt friend@example.org --upload-file -

{swaks}"
    ))
}

/// Writes to stdout; a reader that has gone is no reason to stop serving.
pub(crate) fn say(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// A name or an address under which a client on this machine finds the listener, and which is in the certificate.
fn host(ip: IpAddr) -> String {
    match ip {
        ip if ip.is_loopback() || ip.is_unspecified() => "localhost".to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '+' | ',');
    if !path.is_empty() && path.chars().all(plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(address: &str, implicit_tls: bool, certificate: Option<&str>) -> Zeroizing<String> {
        text_for(address, implicit_tls, certificate, &[Mechanism::ScramSha256, Mechanism::Plain])
    }

    fn text_for(
        address: &str,
        implicit_tls: bool,
        certificate: Option<&str>,
        mechanisms: &[Mechanism],
    ) -> Zeroizing<String> {
        let user = FirstUser { name: "user".to_owned(), password: "p-_0".to_owned().into() };
        greeting_text(&Greeting {
            user: &user,
            users: &UserSource::Sqlite("mail.db".into()),
            certificate: certificate.map(Path::new),
            listener: Some((address.parse().unwrap(), implicit_tls)),
            mechanisms,
        })
    }

    #[test]
    fn the_lines_name_this_server_and_this_login() {
        let greeting = text("127.0.0.1:8025", false, Some("mail-cert.pem"));
        assert!(
            greeting
                .contains("curl --ssl-reqd --cacert mail-cert.pem --url smtp://localhost:8025 --user 'user:p-_0' \\\n")
        );
        assert!(greeting.contains("swaks --server localhost --port 8025 --tls --auth PLAIN"));
        let greeting = text("192.0.2.1:465", true, None);
        assert!(greeting.contains("curl --ssl-reqd --url smtps://192.0.2.1:465 ") && !greeting.contains("cacert"));
        assert!(greeting.contains("--tls-on-connect"));
        assert!(text("[2001:db8::1]:25", false, None).contains("smtp://[2001:db8::1]:25 "));
    }

    #[test]
    fn swaks_is_told_a_mechanism_that_it_has() {
        let with = |mechanisms| text_for("127.0.0.1:25", false, None, mechanisms);
        assert!(with(&[Mechanism::ScramSha1, Mechanism::CramMd5]).contains("--auth CRAM-MD5 "));
        assert!(with(&[Mechanism::CramMd5, Mechanism::Login]).contains("--auth LOGIN "));
        let without = with(&[Mechanism::ScramSha1]);
        assert!(!without.contains("swaks") && without.ends_with("--upload-file -\n\n"), "{without:?}");
    }

    #[test]
    fn paths_are_one_word_each() {
        assert!(text("0.0.0.0:25", false, Some("my dir/it's.pem")).contains(r"--cacert 'my dir/it'\''s.pem' "));
    }
}
