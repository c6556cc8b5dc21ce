//! One more call of the store after a failure.

use crate::store::StoreError;
use crate::telemetry::events;

/// Calls the store, and once more after a failure. The call must be idempotent.
pub(super) async fn retry_once<T, Call>(
    step: &'static str,
    mut call: impl FnMut() -> Call,
) -> Result<T, StoreError>
where
    Call: Future<Output = Result<T, StoreError>>,
{
    match call().await {
        Err(error) => {
            events::store_failed(step, &error, None);
            call().await
        }
        answer => answer,
    }
}
