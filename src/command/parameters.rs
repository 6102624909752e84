//! The parameters of MAIL and RCPT (RFC 5321, section 4.1.2), read strictly.

use super::xtext;
use crate::envelope::Body;

/// What MAIL's parameters say. Each may stand once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MailParameters<'l> {
    /// SIZE (RFC 1870).
    pub(crate) size: Option<u64>,
    /// BODY (RFC 6152).
    pub(crate) body: Option<Body>,
    /// AUTH (RFC 4954, section 5), still encoded.
    pub(crate) auth: Option<&'l [u8]>,
    /// SMTPUTF8 (RFC 6531).
    pub(crate) smtputf8: bool,
}

/// What is wrong with the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadParameters {
    /// Bad syntax, a bad value, or one given twice.
    Invalid,
    /// Not offered here.
    Unknown,
}

/// Which parameters are offered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offered {
    pub(crate) auth: bool,
    pub(crate) smtputf8: bool,
    /// HELO offers no extension at all.
    pub(crate) extensions: bool,
}

/// Reads what follows the reverse-path: nothing, or a space and parameters separated by one space.
pub(crate) fn mail(text: &[u8], offered: Offered) -> Result<MailParameters<'_>, BadParameters> {
    let mut parameters = MailParameters::default();
    for parameter in split(text)? {
        let (keyword, value) = parse(parameter)?;
        if !offered.extensions {
            return Err(BadParameters::Unknown);
        }
        let repeated = if keyword.eq_ignore_ascii_case(b"SIZE") {
            parameters.size.replace(size(value)?).is_some()
        } else if keyword.eq_ignore_ascii_case(b"BODY") {
            parameters.body.replace(body(value)?).is_some()
        } else if keyword.eq_ignore_ascii_case(b"AUTH") && offered.auth {
            let value = value.ok_or(BadParameters::Invalid)?;
            if !xtext::is_mailbox_or_null(value) {
                return Err(BadParameters::Invalid);
            }
            parameters.auth.replace(value).is_some()
        } else if keyword.eq_ignore_ascii_case(b"SMTPUTF8") && offered.smtputf8 {
            if value.is_some() {
                return Err(BadParameters::Invalid);
            }
            core::mem::replace(&mut parameters.smtputf8, true)
        } else {
            return Err(BadParameters::Unknown);
        };
        if repeated {
            return Err(BadParameters::Invalid);
        }
    }
    Ok(parameters)
}

/// Reads what follows the forward-path. No extension here gives RCPT a parameter.
pub(crate) fn rcpt(text: &[u8]) -> Result<(), BadParameters> {
    match split(text)?.next() {
        Some(parameter) => parse(parameter).and(Err(BadParameters::Unknown)),
        None => Ok(()),
    }
}

fn split(text: &[u8]) -> Result<impl Iterator<Item = &[u8]>, BadParameters> {
    let rest = match text {
        [] => None,
        [b' ', rest @ ..] => Some(rest),
        _ => return Err(BadParameters::Invalid),
    };
    Ok(rest.into_iter().flat_map(|rest| rest.split(|&octet| octet == b' ')))
}

/// `esmtp-keyword ["=" esmtp-value]`
fn parse(parameter: &[u8]) -> Result<(&[u8], Option<&[u8]>), BadParameters> {
    let (keyword, value) = match memchr::memchr(b'=', parameter) {
        Some(equals) => (parameter.get(..equals).unwrap_or_default(), parameter.get(equals + 1..)),
        None => (parameter, None),
    };
    let keyword_is_good = keyword.first().is_some_and(u8::is_ascii_alphanumeric)
        && keyword.iter().all(|&octet| octet.is_ascii_alphanumeric() || octet == b'-');
    // Any octet but "=", space and controls; UTF-8 beyond ASCII has been checked with the line.
    let value_is_good = value.is_none_or(|value| {
        !value.is_empty() && value.iter().all(|&octet| octet > b' ' && octet != b'=' && octet != 0x7f)
    });
    if keyword_is_good && value_is_good { Ok((keyword, value)) } else { Err(BadParameters::Invalid) }
}

/// `size-value = 1*20DIGIT`; what does not fit in 64 bits is larger than any limit.
fn size(value: Option<&[u8]>) -> Result<u64, BadParameters> {
    let value = value.filter(|value| value.len() <= 20).ok_or(BadParameters::Invalid)?;
    value.iter().try_fold(0u64, |size, digit| match digit {
        b'0'..=b'9' => Ok(size.saturating_mul(10).saturating_add(u64::from(digit - b'0'))),
        _ => Err(BadParameters::Invalid),
    })
}

fn body(value: Option<&[u8]>) -> Result<Body, BadParameters> {
    match value {
        Some(value) if value.eq_ignore_ascii_case(b"7BIT") => Ok(Body::SevenBit),
        Some(value) if value.eq_ignore_ascii_case(b"8BITMIME") => Ok(Body::EightBitMime),
        _ => Err(BadParameters::Invalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Offered = Offered { auth: true, smtputf8: true, extensions: true };

    #[test]
    fn every_parameter_in_any_case_and_order() {
        let read = mail(b" smtputf8 AUTH=e+3Dmc2@b Body=8bitmime SIZE=00017", ALL);
        let wanted =
            MailParameters { size: Some(17), body: Some(Body::EightBitMime), auth: Some(b"e+3Dmc2@b"), smtputf8: true };
        assert_eq!(read, Ok(wanted));
        assert_eq!(mail(b"", ALL), Ok(MailParameters::default()));
        assert_eq!(mail(b" SIZE=99999999999999999999", ALL).map(|read| read.size), Ok(Some(u64::MAX)));
    }

    #[test]
    fn bad_ones() {
        for bad in [
            " ",
            "SIZE=1",
            " SIZE",
            " SIZE=",
            " SIZE=-1",
            " SIZE=1x",
            " SIZE=1 SIZE=1",
            " SIZE=999999999999999999999",
            " BODY",
            " BODY=9BIT",
            " BODY=7BIT BODY=7BIT",
            " SMTPUTF8=1",
            " SMTPUTF8 SMTPUTF8",
            " AUTH",
            " AUTH=",
            " AUTH=+",
            " AUTH=bob",
            " AUTH=<a@b>",
            " AUTH=<> AUTH=<>",
            " SIZE=1  BODY=7BIT",
            " -X=1",
            " =1",
            " X=a=b",
            " SIZE=1\t",
        ] {
            assert_eq!(mail(bad.as_bytes(), ALL), Err(BadParameters::Invalid), "{bad:?}");
        }
        assert_eq!(mail(b" X-FOO=1", ALL), Err(BadParameters::Unknown));
        assert_eq!(mail(b" AUTH=<>", Offered { auth: false, ..ALL }), Err(BadParameters::Unknown));
        assert_eq!(mail(b" SMTPUTF8", Offered { smtputf8: false, ..ALL }), Err(BadParameters::Unknown));
        assert_eq!(mail(b" SIZE=1", Offered { extensions: false, ..ALL }), Err(BadParameters::Unknown));
        assert_eq!(rcpt(b" NOTIFY=NEVER"), Err(BadParameters::Unknown));
        assert_eq!(rcpt(b"x"), Err(BadParameters::Invalid));
        assert_eq!(rcpt(b""), Ok(()));
    }
}
