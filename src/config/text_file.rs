//! Reads a small text file: UTF-8, with or without a byte order mark.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

/// The bytes of a file of at most `bytes_max`. The problem has the form of "names a file that …".
pub(super) fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, ReadFault> {
    // Checked before it is opened: opening a pipe waits for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(ReadFault::NoFile);
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(ReadFault::Long(bytes_max));
    }
    let is_utf_16 = [b"\xff\xfe", b"\xfe\xff"].iter().any(|mark| bytes.starts_with(*mark));
    if is_utf_16 { Err(ReadFault::Utf16) } else { Ok(bytes) }
}

/// The text without its byte order mark.
pub(super) fn text(bytes: Vec<u8>) -> Result<String, ReadFault> {
    let text = String::from_utf8(bytes).map_err(|_| ReadFault::NotUtf8)?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Why a file cannot be used. `Display` follows a subject.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadFault {
    #[error("does not exist")]
    Missing,
    #[error("cannot be read: {0}")]
    Unreadable(ErrorKind),
    #[error("is no file")]
    NoFile,
    #[error("is longer than {}", length(*.0))]
    Long(u64),
    #[error("is UTF-16: save it as UTF-8")]
    Utf16,
    #[error("is not UTF-8")]
    NotUtf8,
}

impl From<io::Error> for ReadFault {
    fn from(error: io::Error) -> ReadFault {
        match error.kind() {
            ErrorKind::NotFound => ReadFault::Missing,
            kind => ReadFault::Unreadable(kind),
        }
    }
}

fn length(bytes: u64) -> String {
    format!("{} KiB", bytes / 1024)
}
