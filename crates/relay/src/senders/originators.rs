//! Who a message's header says that it is from (RFC 5322, section 3.6.2).

use std::fmt;

use super::address_list::{self, AddressList};
use super::mailbox::Mailbox;

/// The fields `From:` and `Sender:` of one message, gathered as it comes in: of each, some KiB at the most.
#[derive(Clone, Debug, Default)]
pub struct Originators {
    from: Gathered,
    sender: Gathered,
    /// Which of them goes on.
    current: Option<Field>,
}

/// A field that says who a message is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "RFC 5322, section 3.6.2 has no third with an address of who sends")]
pub enum Field {
    /// `From:`, who wrote the message.
    From,
    /// `Sender:`, who sent it off for them.
    Sender,
}

/// What is wrong with those fields: `550 5.6.0` (RFC 6409, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderFault {
    /// `From:` names nobody.
    NoFrom,
    /// `From:` names several mailboxes, and no `Sender:` says who of them has sent it.
    NoSender,
    /// The field is there more than once, or `Sender:` names several mailboxes.
    Several(Field),
    /// The field has more octets than are looked at: 8 KiB.
    TooLong(Field),
    /// The field is no address list, or not clearly.
    Unreadable(Field),
}

#[derive(Clone, Debug, Default)]
struct Gathered {
    /// How often the field is there.
    fields: u32,
    body: Vec<u8>,
    too_long: bool,
    /// There is a line that may be taken for the field.
    doubtful: bool,
}

/// The mailboxes of the header's fields.
#[derive(Debug)]
pub(super) struct Authors {
    /// None where there is no `From:`.
    pub(super) from: Vec<Mailbox>,
    pub(super) sender: Option<Mailbox>,
    /// What has to be one of the user's all the same, as it may be taken for an address.
    pub(super) names: Vec<(Field, Mailbox)>,
}

impl Originators {
    /// A field of this name begins. The octets that follow belong to it, until another line begins.
    pub(crate) fn begin_field(&mut self, name: &[u8]) {
        self.current = Field::ALL.into_iter().find(|field| name.eq_ignore_ascii_case(field.name().as_bytes()));
        if let Some(gathered) = self.current() {
            gathered.fields = gathered.fields.saturating_add(1);
        }
    }

    /// A line begins so that is no field. Somebody else may take it for one.
    pub(crate) fn begin_other(&mut self, begin: &[u8]) {
        self.current = None;
        for field in Field::ALL {
            let (name, behind) = begin.split_at_checked(field.name().len()).unwrap_or_default();
            let ends = behind.first().is_none_or(|octet| !octet.is_ascii_graphic() || *octet == b':');
            if name.eq_ignore_ascii_case(field.name().as_bytes()) && ends {
                self.gathered(field).doubtful = true;
            }
        }
    }

    /// More of the line, or a line that continues it.
    pub(crate) fn push(&mut self, octets: &[u8]) {
        if let Some(gathered) = self.current() {
            if octets.len() > MAX_OCTETS.saturating_sub(gathered.body.len()) {
                gathered.too_long = true;
            } else {
                gathered.body.extend_from_slice(octets);
            }
        }
    }

    fn current(&mut self) -> Option<&mut Gathered> {
        self.current.map(|field| self.gathered(field))
    }

    fn gathered(&mut self, field: Field) -> &mut Gathered {
        match field {
            Field::From => &mut self.from,
            Field::Sender => &mut self.sender,
        }
    }

    /// Who the message says that it is from.
    pub(super) fn authors(&self, local_domain: &str) -> Result<Authors, HeaderFault> {
        let from = self.from.read(Field::From, local_domain)?;
        if from.as_ref().is_some_and(|from| from.mailboxes.is_empty()) {
            return Err(HeaderFault::NoFrom);
        }
        let from = from.unwrap_or_default();
        let sender = self.sender.read(Field::Sender, local_domain)?.unwrap_or_default();
        let of = |field: Field, names: Vec<Mailbox>| names.into_iter().map(move |name| (field, name));
        let names = of(Field::From, from.names).chain(of(Field::Sender, sender.names)).collect();
        let mut senders = sender.mailboxes.into_iter();
        let authors = Authors { from: from.mailboxes, sender: senders.next(), names };
        match (authors.from.len(), &authors.sender, senders.next()) {
            (_, _, Some(_)) => Err(HeaderFault::Several(Field::Sender)),
            (2.., None, None) => Err(HeaderFault::NoSender),
            (_, _, None) => Ok(authors),
        }
    }
}

impl Gathered {
    fn read(&self, field: Field, local_domain: &str) -> Result<Option<AddressList>, HeaderFault> {
        match self {
            Self { doubtful: true, .. } => Err(HeaderFault::Unreadable(field)),
            Self { fields: 2.., .. } => Err(HeaderFault::Several(field)),
            Self { too_long: true, .. } => Err(HeaderFault::TooLong(field)),
            Self { fields: 0, .. } => Ok(None),
            Self { body, .. } => {
                address_list::parse(body, local_domain).map(Some).ok_or(HeaderFault::Unreadable(field))
            }
        }
    }
}

impl Field {
    const ALL: [Self; 2] = [Self::From, Self::Sender];

    /// Without the colon.
    fn name(self) -> &'static str {
        match self {
            Self::From => "From",
            Self::Sender => "Sender",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.name())
    }
}

impl fmt::Display for HeaderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFrom => f.write_str("From: has no address in it"),
            Self::NoSender => f.write_str(
                "From: has several addresses, or a comma in a name without quotes; of several, a Sender: has to say who sends",
            ),
            Self::Several(Field::From) => f.write_str("The header has more than one From:"),
            Self::Several(Field::Sender) => {
                f.write_str("The header has more than one Sender:, or several addresses in it")
            }
            Self::TooLong(field) => write!(f, "{field} is longer than {MAX_OCTETS} octets"),
            Self::Unreadable(field) => {
                write!(f, "{field} cannot be read; it should be as in {field} \"Tim Example\" <tim@example.org>")
            }
        }
    }
}

impl std::error::Error for HeaderFault {}

/// As many as are gathered of each field.
const MAX_OCTETS: usize = 8192;
