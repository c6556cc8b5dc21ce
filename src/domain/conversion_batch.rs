//! The counts and amounts that a process adds to the store at once.

use super::conversion::ConversionEntry;
use super::spend::SpendEntry;

/// The counts of a process since its last batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConversionBatch {
    pub writer: u64,
    /// Rises with each batch of a writer: the store adds each once.
    pub sequence: u32,
    pub entries: Vec<ConversionEntry>,
    pub spend: Vec<SpendEntry>,
}
