//! Exit codes and printing, for all commands.

use std::io::Write as _;
use std::process::ExitCode;

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
        StoreError::Unavailable(detail) => {
            eprintln!("otpost: Redis (REDIS_URL) cannot be reached: {detail}");
        }
        StoreError::Refused(detail) => eprintln!("otpost: Redis (REDIS_URL) refused: {detail}"),
        StoreError::Unreadable { .. } => eprintln!("otpost: Redis (REDIS_URL): {error}"),
    }
    Exit::Failed
}

pub(super) fn invalid_redis_url() -> Exit {
    eprintln!("otpost: REDIS_URL is not a Redis URL");
    Exit::Unusable
}

/// Prints a list of objects for machines.
pub(super) fn print_json<T: serde::Serialize>(rows: &[T]) {
    say(&serde_json::to_string_pretty(rows).expect("rows are plain data"));
}

/// Prints a line. A closed pipe is no error: a reader such as `head` has read enough.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
