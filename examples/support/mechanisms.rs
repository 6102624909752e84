//! The SASL mechanisms that a program offers, as its command line names them.

use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use sansmtp::Auth;
use sansmtp::auth::ScramHash;
use sansmtp::auth::mechanism::{Anonymous, CramMd5, External, Login, OAuthBearer, Plain, Scram, XOAuth2};

/// A mechanism, in the order in which EHLO lists them where nothing else is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mechanism {
    #[value(name = "SCRAM-SHA-256-PLUS")]
    ScramSha256Plus,
    #[value(name = "SCRAM-SHA-256")]
    ScramSha256,
    #[value(name = "SCRAM-SHA-512-PLUS")]
    ScramSha512Plus,
    #[value(name = "SCRAM-SHA-512")]
    ScramSha512,
    #[value(name = "SCRAM-SHA-1-PLUS")]
    ScramSha1Plus,
    #[value(name = "SCRAM-SHA-1")]
    ScramSha1,
    #[value(name = "PLAIN")]
    Plain,
    #[value(name = "LOGIN")]
    Login,
    #[value(name = "CRAM-MD5")]
    CramMd5,
    #[value(name = "OAUTHBEARER")]
    OAuthBearer,
    #[value(name = "XOAUTH2")]
    XOAuth2,
    #[value(name = "EXTERNAL")]
    External,
    #[value(name = "ANONYMOUS")]
    Anonymous,
}

impl Mechanism {
    /// Offers the mechanism, behind those that `auth` offers already. SCRAM shows `iterations` for unknown users, and
    /// answers a wrong password as every other mechanism does, which clients know best.
    pub(crate) fn offer(self, auth: Auth, iterations: u32) -> Auth {
        let scram =
            |auth: Auth, mechanism: Scram| auth.mechanism(mechanism.iterations(iterations).tell_invalid_proof(false));
        match self {
            Self::ScramSha256Plus => scram(auth, Scram::plus(ScramHash::Sha256)),
            Self::ScramSha256 => scram(auth, Scram::new(ScramHash::Sha256)),
            Self::ScramSha512Plus => scram(auth, Scram::plus(ScramHash::Sha512)),
            Self::ScramSha512 => scram(auth, Scram::new(ScramHash::Sha512)),
            Self::ScramSha1Plus => scram(auth, Scram::plus(ScramHash::Sha1)),
            Self::ScramSha1 => scram(auth, Scram::new(ScramHash::Sha1)),
            Self::Plain => auth.mechanism(Plain::new()),
            Self::Login => auth.mechanism(Login::new()),
            Self::CramMd5 => auth.mechanism(CramMd5::new()),
            Self::OAuthBearer => auth.mechanism(OAuthBearer::new()),
            Self::XOAuth2 => auth.mechanism(XOAuth2::new()),
            Self::External => auth.mechanism(External::new()),
            Self::Anonymous => auth.mechanism(Anonymous::new()),
        }
    }

    /// All of them, in the order in which EHLO lists them.
    #[allow(dead_code, reason = "not every program that includes this file wants all of it")]
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied()
    }

    /// The name.
    #[allow(dead_code, reason = "not every program that includes this file wants all of it")]
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether the mechanism is one of SCRAM's.
    #[allow(dead_code, reason = "not every program that includes this file wants all of it")]
    pub(crate) fn is_scram(self) -> bool {
        self.binds() || matches!(self, Self::ScramSha256 | Self::ScramSha512 | Self::ScramSha1)
    }

    /// Whether the mechanism binds itself to the TLS connection.
    #[allow(dead_code, reason = "not every program that includes this file wants all of it")]
    pub(crate) fn binds(self) -> bool {
        matches!(self, Self::ScramSha256Plus | Self::ScramSha512Plus | Self::ScramSha1Plus)
    }

    /// Reads a mechanism's name, in any case; one that is not `allowed` is an error that lists those that are.
    pub(crate) fn parser(allowed: impl Fn(Self) -> bool) -> impl TypedValueParser<Value = Self> {
        let names: Vec<PossibleValue> = Self::value_variants()
            .iter()
            .filter(|mechanism| allowed(**mechanism))
            .filter_map(ValueEnum::to_possible_value)
            .collect();
        PossibleValuesParser::new(names).try_map(|name| Self::from_str(&name, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_offered_under_the_name_by_which_it_is_asked_for() {
        for mechanism in Mechanism::value_variants() {
            let name = mechanism.to_possible_value().unwrap().get_name().to_owned();
            let auth = format!("{:?}", mechanism.offer(Auth::without_mechanisms(), 1));
            assert!(auth.contains(&format!("[{name}]")), "{name}: {auth}");
            assert_eq!(Mechanism::from_str(&name.to_lowercase(), true), Ok(*mechanism));
        }
    }
}
