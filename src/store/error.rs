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
    /// The answer has a form that no version of the scripts writes.
    #[error("the store answered in an unknown form to {step}")]
    Garbled {
        /// The method of [`super::Store`]. Metrics have step labels of their own.
        step: &'static str,
    },
}
