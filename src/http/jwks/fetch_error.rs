//! Errors of fetching a key set, and the bounds whose breach is one.

/// Dozens of keys with their certificates.
pub(super) const BODY_BYTES_MAX: usize = 256 * 1024;
/// Issuers publish two to ten.
pub(super) const KEYS_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("{0}")]
    Unreachable(&'static str),
    #[error("the answer is {0}, not 200; redirects are not followed")]
    Status(u16),
    #[error("the answer is longer than {BODY_BYTES_MAX} bytes")]
    TooLong,
    #[error("the answer is not a JSON Web Key Set")]
    Unreadable,
    #[error("the set has more keys than {KEYS_MAX}")]
    TooMany,
}

impl FetchError {
    /// A label value of the metric of failed fetches.
    pub(super) fn reason(self) -> &'static str {
        match self {
            FetchError::Unreachable(_) => "unreachable",
            FetchError::Status(_) => "status",
            FetchError::TooLong => "too_long",
            FetchError::Unreadable => "unreadable",
            FetchError::TooMany => "too_many",
        }
    }
}
