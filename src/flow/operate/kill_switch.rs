//! Turns the kill switch on and off, and shows it.

use serde::Serialize;

use super::acting::Acting;
use crate::domain::audit::AuditAct;
use crate::flow::inspect::status::KillSwitchRow;
use crate::store::{Store, StoreError};

/// Shown in place of a reason.
pub const NO_REASON: &str = "(none given)";

/// The state now and, after a change, the state before.
#[derive(Serialize)]
pub struct KillSwitchChange {
    #[serde(flatten)]
    pub now: KillSwitchRow,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<KillSwitchRow>,
}

pub async fn show(store: &dyn Store) -> Result<KillSwitchChange, StoreError> {
    Ok(KillSwitchChange { now: KillSwitchRow::of(store.kill_switch().await?), before: None })
}

/// The reason is for the audit record.
pub async fn turn_off(
    store: &dyn Store,
    reason: Option<&str>,
    by: &Acting,
) -> Result<KillSwitchChange, StoreError> {
    let record = by.record(AuditAct::KillSwitchOff).because(reason);
    let before = KillSwitchRow::of(store.set_kill_switch_recorded(None, &record).await?);
    Ok(KillSwitchChange { now: KillSwitchRow::of(None), before: Some(before) })
}

/// Without a new reason, a switch that is on keeps its reason.
pub async fn turn_on(
    store: &dyn Store,
    reason: Option<String>,
    by: &Acting,
) -> Result<KillSwitchChange, StoreError> {
    let record = by.record(AuditAct::KillSwitchOn).because(reason.as_deref());
    let reason = match reason {
        Some(reason) => reason,
        // A damaged switch can still be turned on.
        None => {
            let on = store.kill_switch().await.ok().flatten();
            on.map_or_else(|| NO_REASON.to_owned(), |on| on.reason)
        }
    };
    let before = KillSwitchRow::of(store.set_kill_switch_recorded(Some(&reason), &record).await?);
    let now = KillSwitchRow { on: true, since: before.since.clone(), reason: Some(reason) };
    Ok(KillSwitchChange { now, before: Some(before) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::domain::audit::AuditActor;
    use crate::store::memory::MemoryStore;

    #[tokio::test]
    async fn repeating_a_change_keeps_the_time_and_replaces_only_a_given_reason() {
        let store = MemoryStore::new(Clock::System);
        let by = Acting::new(AuditActor::Command { user: "ana".to_owned() }, Clock::System);
        let on = |reason: Option<&str>| turn_on(&store, reason.map(str::to_owned), &by);
        assert_eq!(on(None).await.expect("answers").now.reason.as_deref(), Some(NO_REASON));
        let since = store.kill_switch().await.expect("answers").expect("it is on").since;
        let row = on(Some("pumping")).await.expect("answers");
        assert_eq!(row.now.since.as_deref(), Some(since.to_string().as_str()));
        assert_eq!(row.before.expect("a change shows the state before").reason.as_deref(), Some(NO_REASON));
        assert_eq!(on(None).await.expect("answers").now.reason.as_deref(), Some("pumping"));
        for was_on in [true, false] {
            let row = turn_off(&store, None, &by).await.expect("answers");
            assert_eq!((row.now.on, row.before.map(|before| before.on)), (false, Some(was_on)));
        }
    }
}
