//! The parameters of MAIL and RCPT (RFC 5321, section 4.1.2), read strictly.

use super::date_time::is_date_time;
use super::path::Rules;
use super::xtext;
use crate::envelope::{Body, DeliverBy, Notify, Ret};
use crate::extensions::Extensions;

/// What MAIL's parameters say. Each may stand once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MailParameters<'l> {
    /// SIZE (RFC 1870).
    pub(crate) size: Option<u64>,
    /// BODY (RFC 6152, RFC 3030).
    pub(crate) body: Option<Body>,
    /// AUTH (RFC 4954, section 5), still encoded.
    pub(crate) auth: Option<&'l [u8]>,
    /// SMTPUTF8 (RFC 6531).
    pub(crate) smtputf8: bool,
    /// RET (RFC 3461).
    pub(crate) ret: Option<Ret>,
    /// ENVID (RFC 3461), still encoded.
    pub(crate) envid: Option<&'l [u8]>,
    /// BY (RFC 2852).
    pub(crate) deliver_by: Option<DeliverBy>,
    /// MT-PRIORITY (RFC 6710).
    pub(crate) priority: Option<i8>,
    /// HOLDFOR or HOLDUNTIL (RFC 4865).
    pub(crate) hold: Option<HoldParameter<'l>>,
    /// REQUIRETLS (RFC 8689).
    pub(crate) requiretls: bool,
}

/// HOLDFOR or HOLDUNTIL (RFC 4865).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HoldParameter<'l> {
    For(u32),
    Until(&'l [u8]),
}

/// What RCPT's parameters say (RFC 3461). Each may stand once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RcptParameters<'l> {
    pub(crate) notify: Option<Notify>,
    /// ORCPT: address type, and address, still encoded.
    pub(crate) original: Option<(&'l [u8], &'l [u8])>,
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
pub(crate) struct Offered<'c> {
    pub(crate) auth: bool,
    pub(crate) smtputf8: bool,
    /// What the mailbox of AUTH may look like.
    pub(crate) mailbox: Rules,
    pub(crate) extensions: &'c Extensions,
    /// REQUIRETLS is for connections under TLS.
    pub(crate) under_tls: bool,
    /// HELO offers no extension at all.
    pub(crate) extended: bool,
}

/// Reads what follows the reverse-path: nothing, or a space and parameters separated by one space.
pub(crate) fn mail<'l>(text: &'l [u8], offered: Offered<'_>) -> Result<MailParameters<'l>, BadParameters> {
    let mut parameters = MailParameters::default();
    for parameter in split(text)? {
        let (keyword, value) = parse(parameter)?;
        if !offered.extended {
            return Err(BadParameters::Unknown);
        }
        if mail_parameter(&mut parameters, keyword, value, offered)? == Repeated(true) {
            return Err(BadParameters::Invalid);
        }
    }
    Ok(parameters)
}

/// Whether a parameter has been given before.
#[derive(PartialEq, Eq)]
struct Repeated(bool);

fn mail_parameter<'l>(
    parameters: &mut MailParameters<'l>,
    keyword: &[u8],
    value: Option<&'l [u8]>,
    offered: Offered<'_>,
) -> Result<Repeated, BadParameters> {
    let extensions = offered.extensions;
    let is = |name: &[u8]| keyword.eq_ignore_ascii_case(name);
    let required = || value.ok_or(BadParameters::Invalid);
    let flag = |flag: &mut bool| match value {
        Some(_) => Err(BadParameters::Invalid),
        None => Ok(core::mem::replace(flag, true)),
    };
    let repeated = if is(b"SIZE") {
        parameters.size.replace(size(value)?).is_some()
    } else if is(b"BODY") {
        parameters.body.replace(body(value, extensions.binarymime)?).is_some()
    } else if is(b"AUTH") && offered.auth {
        let value = required()?;
        if !xtext::is_mailbox_or_null(value, offered.mailbox) {
            return Err(BadParameters::Invalid);
        }
        parameters.auth.replace(value).is_some()
    } else if is(b"SMTPUTF8") && offered.smtputf8 {
        flag(&mut parameters.smtputf8)?
    } else if is(b"RET") && extensions.dsn {
        let ret = match required()? {
            value if value.eq_ignore_ascii_case(b"FULL") => Ret::Full,
            value if value.eq_ignore_ascii_case(b"HDRS") => Ret::Headers,
            _ => return Err(BadParameters::Invalid),
        };
        parameters.ret.replace(ret).is_some()
    } else if is(b"ENVID") && extensions.dsn {
        let value = required()?;
        if value.len() > MAX_ENVID_CHARACTERS || !xtext::is_xtext(value) {
            return Err(BadParameters::Invalid);
        }
        parameters.envid.replace(value).is_some()
    } else if is(b"BY") && extensions.deliver_by.is_some() {
        parameters.deliver_by.replace(deliver_by(required()?)?).is_some()
    } else if is(b"MT-PRIORITY") && extensions.mt_priority {
        parameters.priority.replace(priority(required()?)?).is_some()
    } else if let (true, Some(release)) = (is(b"HOLDFOR") || is(b"HOLDUNTIL"), &extensions.future_release) {
        let value = required()?;
        let hold = if is(b"HOLDFOR") {
            let seconds = number(value, 9).filter(|seconds| (1..=release.max_interval).contains(seconds));
            HoldParameter::For(seconds.ok_or(BadParameters::Invalid)?)
        } else if is_date_time(value) {
            HoldParameter::Until(value)
        } else {
            return Err(BadParameters::Invalid);
        };
        // One of the two, once.
        parameters.hold.replace(hold).is_some()
    } else if is(b"REQUIRETLS") && extensions.requiretls && offered.under_tls {
        flag(&mut parameters.requiretls)?
    } else {
        return Err(BadParameters::Unknown);
    };
    Ok(Repeated(repeated))
}

/// Reads what follows the forward-path.
pub(crate) fn rcpt<'l>(text: &'l [u8], offered: Offered<'_>) -> Result<RcptParameters<'l>, BadParameters> {
    let mut parameters = RcptParameters::default();
    for parameter in split(text)? {
        let (keyword, value) = parse(parameter)?;
        if !offered.extended || !offered.extensions.dsn {
            return Err(BadParameters::Unknown);
        }
        let required = || value.ok_or(BadParameters::Invalid);
        let repeated = if keyword.eq_ignore_ascii_case(b"NOTIFY") {
            parameters.notify.replace(notify(required()?)?).is_some()
        } else if keyword.eq_ignore_ascii_case(b"ORCPT") {
            let original = original_recipient(parameter, required()?, offered.smtputf8)?;
            parameters.original.replace(original).is_some()
        } else {
            return Err(BadParameters::Unknown);
        };
        if repeated {
            return Err(BadParameters::Invalid);
        }
    }
    Ok(parameters)
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

fn body(value: Option<&[u8]>, binarymime: bool) -> Result<Body, BadParameters> {
    match value {
        Some(value) if binarymime && value.eq_ignore_ascii_case(b"BINARYMIME") => Ok(Body::BinaryMime),
        Some(value) if value.eq_ignore_ascii_case(b"7BIT") => Ok(Body::SevenBit),
        Some(value) if value.eq_ignore_ascii_case(b"8BITMIME") => Ok(Body::EightBitMime),
        _ => Err(BadParameters::Invalid),
    }
}

/// `by-time ";" by-mode [by-trace]` (RFC 2852, section 4).
fn deliver_by(value: &[u8]) -> Result<DeliverBy, BadParameters> {
    let invalid = BadParameters::Invalid;
    let semicolon = value.iter().position(|&octet| octet == b';').ok_or(invalid)?;
    let (time, mode) = (value.get(..semicolon).ok_or(invalid)?, value.get(semicolon + 1..).ok_or(invalid)?);
    let (negative, digits) = match time {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    let seconds = number(digits, 9).and_then(|seconds| i32::try_from(seconds).ok()).ok_or(invalid)?;
    let seconds = if negative { -seconds } else { seconds };
    let (return_it, trace) = match mode.to_ascii_uppercase().as_slice() {
        b"N" => (false, false),
        b"NT" => (false, true),
        b"R" => (true, false),
        b"RT" => (true, true),
        _ => return Err(invalid),
    };
    // To return what is late already is no request that could be granted.
    if return_it && seconds <= 0 {
        return Err(invalid);
    }
    Ok(DeliverBy { seconds, return_it, trace })
}

/// `["-"] one digit` (RFC 6710, section 3).
fn priority(value: &[u8]) -> Result<i8, BadParameters> {
    let (sign, digit) = match value {
        [b'-', digit @ b'1'..=b'9'] => (-1, digit),
        [digit @ b'0'..=b'9'] => (1, digit),
        _ => return Err(BadParameters::Invalid),
    };
    Ok(sign * i8::try_from(digit - b'0').unwrap_or_default())
}

/// `NEVER`, or some of `SUCCESS`, `FAILURE` and `DELAY` (RFC 3461, section 4.1).
fn notify(value: &[u8]) -> Result<Notify, BadParameters> {
    if value.eq_ignore_ascii_case(b"NEVER") {
        return Ok(Notify::NEVER);
    }
    let mut notify = Notify::NEVER;
    for word in value.split(|&octet| octet == b',') {
        let flag = match word.to_ascii_uppercase().as_slice() {
            b"SUCCESS" => &mut notify.success,
            b"FAILURE" => &mut notify.failure,
            b"DELAY" => &mut notify.delay,
            _ => return Err(BadParameters::Invalid),
        };
        *flag = true;
    }
    Ok(notify)
}

/// `addr-type ";" xtext` (RFC 3461, section 4.2), or the internationalised form of RFC 6533, section 3.
fn original_recipient<'l>(
    parameter: &[u8],
    value: &'l [u8],
    smtputf8: bool,
) -> Result<(&'l [u8], &'l [u8]), BadParameters> {
    let semicolon = value.iter().position(|&octet| octet == b';').ok_or(BadParameters::Invalid)?;
    let (kind, address) = (value.get(..semicolon).unwrap_or_default(), value.get(semicolon + 1..).unwrap_or_default());
    let is_atom = |octet: &u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(octet);
    let kind_is_good = !kind.is_empty() && kind.iter().all(is_atom);
    let is_utf8 = smtputf8 && kind.eq_ignore_ascii_case(b"utf-8");
    let address_is_good = if is_utf8 { xtext::is_utf8_address(address) } else { xtext::is_xtext(address) };
    if parameter.len() > MAX_ORCPT_CHARACTERS || !kind_is_good || !address_is_good {
        return Err(BadParameters::Invalid);
    }
    Ok((kind, address))
}

fn number(digits: &[u8], most: usize) -> Option<u32> {
    if digits.is_empty() || digits.len() > most || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(digits).ok()?.parse().ok()
}

/// RFC 3461, section 4.4.
const MAX_ENVID_CHARACTERS: usize = 100;

/// RFC 3461, section 4.2: the whole parameter.
const MAX_ORCPT_CHARACTERS: usize = 500;

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;
    use crate::extensions::FutureRelease;

    const PLAIN: Extensions = Extensions {
        chunking: false,
        binarymime: false,
        dsn: false,
        deliver_by: None,
        mt_priority: false,
        future_release: None,
        requiretls: false,
        limits: false,
    };
    const ALL: Offered<'_> = Offered {
        auth: true,
        smtputf8: true,
        mailbox: Rules::STRICT,
        extensions: &PLAIN,
        under_tls: false,
        extended: true,
    };

    fn everything() -> Extensions {
        Extensions {
            chunking: true,
            binarymime: true,
            dsn: true,
            deliver_by: Some(0),
            mt_priority: true,
            future_release: Some(FutureRelease { max_interval: 3600, max_date_time: "2030-01-01T00:00:00Z".into() }),
            requiretls: true,
            limits: true,
        }
    }

    #[test]
    fn every_extension() {
        let extensions = everything();
        let offered = Offered { extensions: &extensions, under_tls: true, ..ALL };
        let text = b" BODY=binarymime RET=hdrs ENVID=QQ314159 BY=-120;n MT-PRIORITY=-9 HOLDFOR=3600 REQUIRETLS";
        let read = mail(text, offered).unwrap();
        assert_eq!(
            (read.body, read.ret, read.envid),
            (Some(Body::BinaryMime), Some(Ret::Headers), Some(&b"QQ314159"[..]))
        );
        assert_eq!(read.deliver_by, Some(DeliverBy { seconds: -120, return_it: false, trace: false }));
        assert_eq!((read.priority, read.hold, read.requiretls), (Some(-9), Some(HoldParameter::For(3600)), true));
        let until = b"2029-12-31T23:59:59Z";
        assert_eq!(
            mail(&[b" HOLDUNTIL=", &until[..]].concat(), offered).map(|read| read.hold),
            Ok(Some(HoldParameter::Until(until)))
        );
        let read = rcpt(b" NOTIFY=success,Delay ORCPT=rfc822;Bob+40example.org", offered).unwrap();
        assert_eq!(read.notify, Some(Notify { success: true, failure: false, delay: true }));
        assert_eq!(read.original, Some((&b"rfc822"[..], &b"Bob+40example.org"[..])));
        assert_eq!(rcpt(b" NOTIFY=NEVER", offered).map(|read| read.notify), Ok(Some(Notify::NEVER)));
        for bad in [
            " RET",
            " RET=ALL",
            " RET=FULL RET=FULL",
            " ENVID=",
            " ENVID=a=b",
            " ENVID=+4",
            " BY=1",
            " BY=1;",
            " BY=0;R",
            " BY=-1;R",
            " BY=1;X",
            " BY=1;NX",
            " BY=1234567890;N",
            " BY=--1;N",
            " MT-PRIORITY",
            " MT-PRIORITY=10",
            " MT-PRIORITY=-0",
            " MT-PRIORITY=+1",
            " HOLDFOR=0",
            " HOLDFOR=3601",
            " HOLDFOR=x",
            " HOLDUNTIL=tomorrow",
            " HOLDFOR=1 HOLDUNTIL=2029-12-31T23:59:59Z",
            " REQUIRETLS=1",
            " REQUIRETLS REQUIRETLS",
        ] {
            assert_eq!(mail(bad.as_bytes(), offered), Err(BadParameters::Invalid), "{bad}");
        }
        assert_eq!(mail(format!(" ENVID={}", "x".repeat(101)).as_bytes(), offered), Err(BadParameters::Invalid));
        for bad in [
            " NOTIFY",
            " NOTIFY=",
            " NOTIFY=NEVER,DELAY",
            " NOTIFY=SUCCESS,",
            " NOTIFY=ALWAYS",
            " NOTIFY=DELAY NOTIFY=DELAY",
            " ORCPT=bob",
            " ORCPT=;bob",
            " ORCPT=rfc822;",
            " ORCPT=rfc 822;bob",
            " ORCPT=rfc822;a=b",
            " ORCPT=rfc822;+zz",
        ] {
            assert_eq!(rcpt(bad.as_bytes(), offered), Err(BadParameters::Invalid), "{bad}");
        }
        assert_eq!(rcpt(format!(" ORCPT=rfc822;{}", "x".repeat(500)).as_bytes(), offered), Err(BadParameters::Invalid));
        assert_eq!(mail(b" REQUIRETLS", Offered { under_tls: false, ..offered }), Err(BadParameters::Unknown));
        for unknown in [" RET=FULL", " ENVID=x", " BY=1;N", " MT-PRIORITY=1", " HOLDFOR=1", " REQUIRETLS"] {
            assert_eq!(mail(unknown.as_bytes(), ALL), Err(BadParameters::Unknown), "{unknown}");
        }
        assert_eq!(mail(b" BODY=BINARYMIME", ALL), Err(BadParameters::Invalid));
    }

    #[test]
    fn every_parameter_in_any_case_and_order() {
        let read = mail(b" smtputf8 AUTH=e+3Dmc2@b Body=8bitmime SIZE=00017", ALL);
        let wanted = MailParameters {
            size: Some(17),
            body: Some(Body::EightBitMime),
            auth: Some(b"e+3Dmc2@b"),
            smtputf8: true,
            ..MailParameters::default()
        };
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
        let lenient = Offered { mailbox: Rules { dots_anywhere: true, unqualified: true, ..Rules::STRICT }, ..ALL };
        assert!(mail(b" AUTH=a..b@c", lenient).is_ok());
        assert_eq!(mail(b" AUTH=bob", lenient), Err(BadParameters::Invalid));
        assert_eq!(mail(b" X-FOO=1", ALL), Err(BadParameters::Unknown));
        assert_eq!(mail(b" AUTH=<>", Offered { auth: false, ..ALL }), Err(BadParameters::Unknown));
        assert_eq!(mail(b" SMTPUTF8", Offered { smtputf8: false, ..ALL }), Err(BadParameters::Unknown));
        assert_eq!(mail(b" SIZE=1", Offered { extended: false, ..ALL }), Err(BadParameters::Unknown));
        assert_eq!(rcpt(b" NOTIFY=NEVER", ALL), Err(BadParameters::Unknown));
        assert_eq!(rcpt(b"x", ALL), Err(BadParameters::Invalid));
        assert_eq!(rcpt(b"", ALL), Ok(RcptParameters::default()));
    }
}
