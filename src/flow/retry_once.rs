//! Repeats a failed call of the store once.

use crate::store::StoreError;
use crate::telemetry::events;

/// The call must be idempotent.
pub(super) async fn retry_once<T, Call>(
    step: &'static str,
    mut call: impl FnMut() -> Call,
) -> Result<T, StoreError>
where
    Call: Future<Output = Result<T, StoreError>>,
{
    match call().await {
        Err(error) => {
            events::store_failed(step, &error, error.is_outage(), None);
            call().await
        }
        answer => answer,
    }
}
