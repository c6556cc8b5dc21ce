//! A key that verifies tokens.

use jsonwebtoken::{DecodingKey, Validation};

pub(super) struct TokenKey {
    pub(super) key: DecodingKey,
    /// The rules for tokens that this key signs. They name its one algorithm.
    pub(super) validation: Validation,
}
