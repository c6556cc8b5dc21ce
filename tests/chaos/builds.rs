//! The binary under test, and another build of it, for upgrades.

use std::fs;
use std::path::{Path, PathBuf};

/// Stands in a script, which the binary holds as text. The function library is named by the digest of that text.
const COMMENT: &[u8] = b"-- Limits. A log lists";
const OTHER_COMMENT: &[u8] = b"-- LIMITS. A log lists";

pub fn binary() -> PathBuf {
    std::env::var_os("CHAOS_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_otpost").into(), PathBuf::from)
}

/// `CHAOS_OTHER_BINARY`, or a copy of the binary with another comment in a script, so that its library has another name.
pub fn other_binary(folder: &Path) -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os("CHAOS_OTHER_BINARY") {
        return Ok(named.into());
    }
    let wrong = |error: std::io::Error| error.to_string();
    let mut bytes = fs::read(binary()).map_err(wrong)?;
    let windows = bytes.windows(COMMENT.len()).enumerate();
    let places: Vec<usize> = windows.filter(|(_, window)| *window == COMMENT).map(|(at, _)| at).collect();
    if places.is_empty() {
        return Err("the scripts lack the comment that is to be changed".to_owned());
    }
    for at in places {
        bytes[at..at + COMMENT.len()].copy_from_slice(OTHER_COMMENT);
    }
    let path = folder.join("otpost-other-build");
    fs::write(&path, bytes).map_err(wrong)?;
    let rights = fs::metadata(binary()).map_err(wrong)?.permissions();
    fs::set_permissions(&path, rights).map_err(wrong)?;
    Ok(path)
}
