//! The switch that pauses consumption.

use tokio::sync::watch;

/// Waits until the switch is on or off, as `wanted`. Waits forever if the switch is gone.
pub(crate) async fn pause_is(paused: &mut watch::Receiver<bool>, wanted: bool) {
    if paused.wait_for(|paused| *paused == wanted).await.is_err() {
        std::future::pending().await
    }
}
