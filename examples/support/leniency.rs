//! What a program takes from clients against the RFCs, as its command line says.

use clap::{Args, ValueEnum};
use sansmtp::{ConfigBuilder, Newlines, Quirks};

/// For `#[command(flatten)]`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct Leniency {
    /// Take these from clients, which the RFCs do not allow; none for nothing of the kind
    ///
    /// auth-after-helo: AUTH after HELO. auth-before-ehlo: AUTH as the first command. space-after-colon: MAIL FROM:
    /// <a@b>. bare-paths: MAIL FROM:a@b. dots-in-local-parts: <a..b.@example.jp>. underscores-in-domains: <a@my_host>.
    /// unqualified-paths: <root>, who is somebody here. auth-equals-line: not taken but sent, a second line AUTH= in
    /// the reply to EHLO, for Outlook Express.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        ignore_case = true,
        default_value = "auth-after-helo,auth-before-ehlo,space-after-colon,bare-paths,dots-in-local-parts,\
                         underscores-in-domains,unqualified-paths",
        hide_possible_values = true,
        help_heading = CLIENTS
    )]
    quirks: Vec<Quirk>,
    /// What becomes of a message with a bare CR or LF in it: refuse it, or convert them to CRLF, for old devices
    #[arg(long, value_enum, default_value_t = BareNewlines::Refuse, help_heading = CLIENTS)]
    bare_newlines: BareNewlines,
    /// Refuse names at HELO and EHLO that are neither a domain nor an address literal
    #[arg(long, help_heading = CLIENTS)]
    strict_client_names: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Quirk {
    None,
    AuthAfterHelo,
    AuthBeforeEhlo,
    SpaceAfterColon,
    BarePaths,
    DotsInLocalParts,
    UnderscoresInDomains,
    UnqualifiedPaths,
    AuthEqualsLine,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BareNewlines {
    Refuse,
    Convert,
}

impl Leniency {
    pub(crate) fn apply(&self, builder: ConfigBuilder) -> ConfigBuilder {
        let mut quirks = Quirks::default();
        for quirk in &self.quirks {
            match quirk {
                Quirk::None => {}
                Quirk::AuthAfterHelo => quirks.auth_after_helo = true,
                Quirk::AuthBeforeEhlo => quirks.auth_before_ehlo = true,
                Quirk::SpaceAfterColon => quirks.space_after_colon = true,
                Quirk::BarePaths => quirks.bare_paths = true,
                Quirk::DotsInLocalParts => quirks.dots_in_local_parts = true,
                Quirk::UnderscoresInDomains => quirks.underscores_in_domains = true,
                Quirk::UnqualifiedPaths => quirks.unqualified_paths = true,
                Quirk::AuthEqualsLine => quirks.auth_equals_line = true,
            }
        }
        let newlines = match self.bare_newlines {
            BareNewlines::Refuse => Newlines::Refuse,
            BareNewlines::Convert => Newlines::Convert,
        };
        builder.quirks(quirks).newlines(newlines).strict_client_names(self.strict_client_names)
    }
}

const CLIENTS: &str = "Clients that bend the rules";
