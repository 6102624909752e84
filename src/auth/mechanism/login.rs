//! LOGIN (draft-murchison-sasl-login): obsolete, and still what many clients speak.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Exchange, First, Mechanism, Start, Step};
use crate::auth::Credentials;
use crate::secret::SecretRef;

/// LOGIN: a prompt for the user name, and one for the password.
///
/// The prompts are `Username:` and `Password:`. Clients compare them to the letter; the draft's own
/// strings, with a NUL at their end, make several abort.
#[derive(Clone, Debug, Default)]
pub struct Login {
    prompts: Option<Arc<[Vec<u8>; 2]>>,
}

impl Login {
    /// LOGIN with the usual prompts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the prompts.
    #[must_use]
    pub fn with_prompts(user_name: &str, password: &str) -> Self {
        Self { prompts: Some(Arc::new([user_name.into(), password.into()])) }
    }
}

impl Mechanism for Login {
    fn name(&self) -> &'static str {
        "LOGIN"
    }

    fn first(&self) -> First {
        First::Either
    }

    fn begin(&self, _start: &Start<'_>) -> Box<dyn Exchange> {
        Box::new(Prompting { prompts: self.prompts.clone(), asked: Asked::Nothing })
    }
}

struct Prompting {
    prompts: Option<Arc<[Vec<u8>; 2]>>,
    asked: Asked,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    UserName,
    Password,
}

impl Exchange for Prompting {
    fn step(&mut self, response: Option<SecretRef<'_>>, credentials: &mut Credentials) -> Step {
        match (self.asked, response) {
            (Asked::Nothing, None) => {
                self.asked = Asked::UserName;
                self.prompt(|[user_name, _]| user_name, b"Username:")
            }
            // An initial response is the user name.
            (Asked::Nothing | Asked::UserName, Some(user_name)) => {
                match credentials.set_authcid(user_name.expose_secret()) {
                    Ok(()) => {
                        self.asked = Asked::Password;
                        self.prompt(|[_, password]| password, b"Password:")
                    }
                    Err(malformed) => malformed.into(),
                }
            }
            (Asked::Password, Some(password)) => match credentials.set_password(password.expose_secret()) {
                Ok(()) => Step::AskPassword,
                Err(malformed) => malformed.into(),
            },
            (Asked::UserName | Asked::Password, None) => Step::Malformed,
        }
    }
}

impl Prompting {
    fn prompt(&self, choose: impl Fn(&[Vec<u8>; 2]) -> &Vec<u8>, usual: &'static [u8]) -> Step {
        Step::Challenge(match &self.prompts {
            Some(prompts) => Cow::Owned(choose(prompts).clone()),
            None => Cow::Borrowed(usual),
        })
    }
}
