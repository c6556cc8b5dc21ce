//! Failures of the store itself. A refused request is an answer, not an error.

/// The store gave no usable answer. The step may have been made or not, and can be repeated.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No answer in time, or no connection.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The server answered with an error.
    #[error("the store refused: {0}")]
    Refused(String),
    /// Something stored is damaged, or of another version: a repeated step fails likewise.
    #[error("a stored record cannot be read ({step})")]
    Unreadable {
        /// The method of [`super::Store`]. Metrics have step labels of their own.
        step: &'static str,
    },
}

impl StoreError {
    /// The step fails again however often it is repeated.
    pub fn is_permanent(&self) -> bool {
        matches!(self, StoreError::Unreadable { .. })
    }
}
