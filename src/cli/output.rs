//! Exit codes and printing, for all commands.

use std::io::Write as _;
use std::process::ExitCode;

use crate::domain::printable::{is_printable, printable};
use crate::store::StoreError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done,
    Failed,
    /// Wrong usage or settings.
    Unusable,
    /// The answer to the command's question is no.
    No,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        match exit {
            Exit::Done => ExitCode::SUCCESS,
            Exit::Failed => ExitCode::from(1),
            Exit::Unusable => ExitCode::from(2),
            Exit::No => ExitCode::from(3),
        }
    }
}

/// Prints a failure of Redis, without its address.
pub(super) fn store_failed(error: &StoreError) -> Exit {
    match error {
        StoreError::Unavailable(fault) => complain(&format!("Redis (REDIS_URL): {fault}")),
        StoreError::Unreadable { .. } => complain(&format!("Redis (REDIS_URL): {error}")),
    }
    Exit::Failed
}

/// Says that the answer is about an empty store.
pub(super) fn warn_if_empty(is_empty: bool) {
    if is_empty {
        eprintln!("otpost: REDIS_PREFIX holds no data: no worker or API has started with it");
    }
}

pub(super) fn invalid_redis_url() -> Exit {
    eprintln!("otpost: REDIS_URL is not a Redis URL");
    Exit::Unusable
}

/// Prints a list of objects for machines.
pub(super) fn print_json<T: serde::Serialize>(rows: &[T]) {
    print_escaped(&serde_json::to_string_pretty(rows).expect("rows are plain data"));
}

/// Prints one object for machines.
pub(super) fn print_json_line<T: serde::Serialize>(row: &T) {
    print_escaped(&serde_json::to_string(row).expect("rows are plain data"));
}

fn print_escaped(json: &str) {
    // Outside of strings JSON has ASCII only, so such a character is in a string, and may be escaped.
    let is_shown = |character: char| character == '\n' || is_printable(character);
    let mut shown = String::with_capacity(json.len());
    for character in json.chars() {
        if is_shown(character) {
            shown.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                shown.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    let _ = writeln!(std::io::stdout(), "{shown}");
}

/// Prints a line, which may hold text of others. A closed pipe is no error: a reader such as `head` has read enough.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{}", printable(line));
}

/// Ends this process with an error of its arguments, which repeats them, or with the help.
pub(super) fn refuse(error: &clap::Error) -> ! {
    let text = error.render().to_string();
    let is_shown = |character: char| character == '\n' || is_printable(character);
    // With colours on a terminal.
    if text.chars().all(is_shown) {
        error.exit();
    }
    // An argument with a line feed has no line of its own then, but is still inside the quotes of the error.
    eprintln!("{}", text.lines().map(printable).collect::<Vec<_>>().join("\n"));
    std::process::exit(error.exit_code());
}

/// Prints an error, which may hold text of a server.
pub(super) fn complain(error: &str) {
    eprintln!("otpost: {}", printable(error));
}
