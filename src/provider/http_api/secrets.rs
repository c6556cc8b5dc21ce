//! The secrets of a file: named in it, never written in it.

use std::path::PathBuf;

use secrecy::SecretString;

use super::table::{Faults, Table, Text};

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretPlace {
    /// An environment variable.
    Variable(String),
    File(PathBuf),
}

/// Reads a secret, or says why it cannot be used.
pub type ReadSecret<'s> = dyn Fn(&SecretPlace) -> Result<SecretString, String> + 's;

/// A text that may also be no secret, such as a user name.
pub(super) fn plain_or_secret(
    text: Text<'_>,
    read: &ReadSecret<'_>,
    faults: &mut Faults<'_>,
) -> Option<SecretString> {
    match place(text.text) {
        Some(place) => faults.ok(text.at, read(&place)),
        None => Some(text.text.into()),
    }
}

pub(super) fn required(
    table: &mut Table<'_>,
    key: &str,
    read: &ReadSecret<'_>,
    faults: &mut Faults<'_>,
) -> Option<SecretString> {
    let text = table.required(key, faults)?;
    secret(text, key, read, faults)
}

pub(super) fn secret(
    text: Text<'_>,
    key: &str,
    read: &ReadSecret<'_>,
    faults: &mut Faults<'_>,
) -> Option<SecretString> {
    let Some(place) = place(text.text) else {
        let rule = "must name a secret, as env:NAME or file:/path: no secret stands in the file itself";
        faults.add(text.at, format!("`{key}` {rule}"));
        return None;
    };
    faults.ok(text.at, read(&place))
}

fn place(text: &str) -> Option<SecretPlace> {
    let is_name = |name: &&str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if let Some(path) = text.strip_prefix("file:") {
        return path.starts_with('/').then(|| SecretPlace::File(path.into()));
    }
    text.strip_prefix("env:").filter(is_name).map(|name| SecretPlace::Variable(name.to_owned()))
}
