//! What this server is to the authorization server.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sansmtp::Secret;
use zeroize::Zeroizing;

use super::http::Endpoint;

/// How this server shows to the authorization server that it may ask about tokens (RFC 7662, section 2.1).
pub struct IntrospectionClient {
    form: Form,
}

enum Form {
    Basic { id: String, secret: Secret },
    Bearer { token: Secret },
    Post { id: String, secret: Secret },
}

impl IntrospectionClient {
    /// By HTTP's Basic authentication (RFC 6749, section 2.3.1): `client_secret_basic`.
    #[must_use]
    pub fn basic(id: &str, secret: Secret) -> Self {
        Self { form: Form::Basic { id: id.to_owned(), secret } }
    }

    /// In the body of the request (RFC 6749, section 2.3.1): `client_secret_post`.
    #[must_use]
    pub fn post(id: &str, secret: Secret) -> Self {
        Self { form: Form::Post { id: id.to_owned(), secret } }
    }

    /// By a bearer token of its own (RFC 6750, section 2.1).
    #[must_use]
    pub fn bearer(token: Secret) -> Self {
        Self { form: Form::Bearer { token } }
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
        match &self.form {
            Form::Basic { id, secret } | Form::Post { id, secret } => match (id.is_empty(), secret.expose_secret()) {
                (true, _) => Err("there is no client ID"),
                (false, []) => Err("the client secret is empty"),
                (false, _) => Ok(()),
            },
            Form::Bearer { token } => match token.expose_secret() {
                [] => Err("the client's token is empty"),
                // It must not end the line that it is in.
                token if token.iter().all(u8::is_ascii_graphic) => Ok(()),
                _ => Err("the client's token has a character that does not belong there"),
            },
        }
    }

    /// The whole request about a token.
    pub(super) fn request(&self, endpoint: &Endpoint, token: &[u8]) -> Secret {
        let mut body = Wiped::default();
        body.push(b"token=");
        body.push_encoded(token);
        body.push(b"&token_type_hint=access_token");
        if let Form::Post { id, secret } = &self.form {
            body.push(b"&client_id=");
            body.push_encoded(id.as_bytes());
            body.push(b"&client_secret=");
            body.push_encoded(secret.expose_secret());
        }
        let mut request = Wiped::default();
        request.push(format!("POST {} HTTP/1.1\r\nHost: {}\r\n", endpoint.target, endpoint.authority).as_bytes());
        match &self.form {
            Form::Basic { id, secret } => {
                let mut pair = Wiped::default();
                pair.push_encoded(id.as_bytes());
                pair.push(b":");
                pair.push_encoded(secret.expose_secret());
                request.push(b"Authorization: Basic ");
                request.push(Zeroizing::new(BASE64_STANDARD.encode(&*pair.octets)).as_bytes());
                request.push(b"\r\n");
            }
            Form::Bearer { token } => {
                request.push(b"Authorization: Bearer ");
                request.push(token.expose_secret());
                request.push(b"\r\n");
            }
            Form::Post { .. } => {}
        }
        request.push(b"User-Agent: sansmtp\r\nAccept: application/json\r\nConnection: close\r\n");
        request.push(b"Content-Type: application/x-www-form-urlencoded\r\n");
        request.push(format!("Content-Length: {}\r\n\r\n", body.octets.len()).as_bytes());
        request.push(&body.octets);
        Secret::new(std::mem::take(&mut *request.octets))
    }
}

impl fmt::Debug for IntrospectionClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (form, id) = match &self.form {
            Form::Basic { id, .. } => ("basic", Some(id)),
            Form::Bearer { .. } => ("bearer", None),
            Form::Post { id, .. } => ("post", Some(id)),
        };
        f.debug_struct("IntrospectionClient").field("form", &form).field("id", &id).finish_non_exhaustive()
    }
}

/// Octets of which nothing is left behind when they move.
#[derive(Default)]
struct Wiped {
    octets: Zeroizing<Vec<u8>>,
}

impl Wiped {
    fn push(&mut self, more: &[u8]) {
        let wanted = self.octets.len() + more.len();
        if wanted > self.octets.capacity() {
            let mut larger = Vec::with_capacity(wanted.max(2 * self.octets.capacity()).max(1_024));
            larger.extend_from_slice(&self.octets);
            self.octets = Zeroizing::new(larger);
        }
        self.octets.extend_from_slice(more);
    }

    /// As `application/x-www-form-urlencoded`: all but what is unreserved (RFC 3986, section 2.3) in hexadecimal.
    fn push_encoded(&mut self, octets: &[u8]) {
        for &octet in octets {
            if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
                self.push(&[octet]);
            } else {
                let digit = |value: u8| value + if value < 10 { b'0' } else { b'A' - 10 };
                self.push(&[b'%', digit(octet >> 4), digit(octet & 15)]);
            }
        }
    }
}
