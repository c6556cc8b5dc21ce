//! Failures of the store itself. A refused request is an answer, not an error.

use std::fmt::{self, Display, Formatter};

use super::fault::StoreFault;

/// The store gave no usable answer. The step may have been made or not, and can be repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No answer, or a refusal of the server: a repeated step fails likewise until that has ended.
    #[error("the store is unavailable: {0}")]
    Unavailable(StoreFault),
    /// Something stored is damaged, or of another version: a repeated step fails likewise until it is mended.
    #[error("{damaged} cannot be read ({step}){}", .damaged.remedy())]
    Unreadable {
        damaged: Damaged,
        /// The method of [`super::Store`]. Metrics have step labels of their own.
        step: &'static str,
    },
}

/// Stored data that cannot be read, by the requests that need it. Names no person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damaged {
    /// The record of one request.
    Request,
    /// Data about one recipient, user or client IP: its kind, such as `challenge`.
    Subject(&'static str),
    /// Data that all requests share, by its name. No request ends because of it: all wait, as in an outage.
    Shared(String),
}

impl Damaged {
    /// Follows the sentence of an error in a log. A shared key has its own line and section of the runbook.
    fn remedy(&self) -> &'static str {
        match self {
            Damaged::Request => ": look with `otpost store show --request`, then mend or delete it",
            Damaged::Subject("recipient") => ": look with `otpost store show --to`, then mend or delete it",
            Damaged::Subject(_) => {
                ": find it among the keys of Redis, look with `otpost store show`, then mend or delete it"
            }
            Damaged::Shared(_) => "",
        }
    }
}

impl Display for Damaged {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Damaged::Request => f.write_str("the stored record of a request"),
            Damaged::Subject(kind) => write!(f, "a stored key of kind `{kind}`"),
            Damaged::Shared(key) => write!(f, "the stored key `{key}`, which all requests share,"),
        }
    }
}

impl StoreError {
    /// The step fails again however often it is repeated, and only for this request or those like it.
    pub fn is_permanent(&self) -> bool {
        matches!(self, StoreError::Unreadable { damaged: Damaged::Request | Damaged::Subject(_), .. })
    }

    /// The store as a whole fails, which it logs.
    pub fn is_outage(&self) -> bool {
        matches!(self, StoreError::Unavailable(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_damaged_data_names_the_command_that_shows_it() {
        let text = |damaged| StoreError::Unreadable { damaged, step: "admit" }.to_string();
        for (damaged, command) in [
            (Damaged::Request, "`otpost store show --request`"),
            (Damaged::Subject("recipient"), "`otpost store show --to`"),
            (Damaged::Subject("user"), "`otpost store show`"),
        ] {
            let text = text(damaged);
            assert!(text.contains("cannot be read (admit)") && text.contains(command), "{text}");
        }
        assert!(text(Damaged::Shared("due".to_owned())).ends_with("cannot be read (admit)"));
    }
}
