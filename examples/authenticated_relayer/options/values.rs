//! The forms of values that several options have.

use std::ffi::OsStr;
use std::fmt::Display;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command};

/// Reads a value that may hold a password, which clap's own parsers would repeat in the error when it is wrong.
#[derive(Clone)]
pub(super) struct Unrepeated<T, E>(pub(super) fn(&OsStr) -> Result<T, E>);

impl<T: Clone + Send + Sync + 'static, E: Display + Clone + 'static> TypedValueParser for Unrepeated<T, E> {
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, clap::Error> {
        (self.0)(value).map_err(|error| {
            let option = arg.and_then(Arg::get_long).unwrap_or_default();
            clap::Error::raw(ErrorKind::ValueValidation, format!("invalid value for --{option}: {error}\n"))
                .with_cmd(command)
        })
    }
}
