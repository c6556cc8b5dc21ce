//! Reads the operator's own templates: every file of a directory, within bounds.
//!
//! The text is not checked here. Names that begin with a dot are skipped: mounted volumes keep files of their own there.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

/// More than any set of templates and languages.
const FILES_MAX: usize = 200;
/// The longest message has 1600 characters.
const BYTES_MAX: u64 = 8 * 1024;

#[derive(Clone, Debug)]
pub struct TemplateText {
    pub name: String,
    /// The text, or the reason why it could not be read.
    pub text: Result<String, String>,
}

/// All files of a directory, sorted by name, or the problem with the directory.
pub(super) fn read_directory(directory: &Path) -> Result<Vec<TemplateText>, String> {
    let entries = std::fs::read_dir(directory).map_err(|error| match error.kind() {
        ErrorKind::NotFound => "does not exist".to_owned(),
        ErrorKind::NotADirectory => "is no directory".to_owned(),
        kind => format!("is no readable directory: {kind}"),
    })?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| format!("cannot be read to its end: {}", error.kind()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if files.len() == FILES_MAX {
            return Err(format!("holds more than {FILES_MAX} files"));
        }
        files.push(TemplateText { name, text: read_file(&entry.path()) });
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}

fn read_file(path: &Path) -> Result<String, String> {
    let unread = |error: std::io::Error| format!("cannot be read: {}", error.kind());
    // Checked before it is opened: opening a pipe waits for a writer.
    if !std::fs::metadata(path).map_err(unread)?.is_file() {
        return Err("is no file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(unread)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(format!("is longer than {BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}
