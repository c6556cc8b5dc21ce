//! Reads the operator's own templates: every file of a directory, within bounds.
//!
//! The text is not checked here. Names that begin with a dot are skipped: mounted volumes keep files of their own there.

use std::io::ErrorKind;
use std::path::Path;

use super::text_file;

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
    text_file::read(path, BYTES_MAX).and_then(text_file::text).map_err(|fault| fault.to_string())
}
