//! The state of the pumping defence, and why a request to a number is refused or not.

use std::time::Duration;

use serde::Serialize;

use crate::domain::conversion::NumberGroups;
use crate::domain::defence::{Budget, DefenceMode, Scope, UnverifiedRecord};
use crate::domain::defence_list::{DefenceDecision, DefenceOverride, DefenceSubject};
use crate::domain::time::{UnixMillis, serialize_rfc3339};
use crate::flow::defence::{DefendedRequest, is_exempt, scopes_of};
use crate::store::{Store, StoreError};

#[derive(Serialize)]
pub struct DefenceReport {
    pub mode: &'static str,
    pub holds: Vec<HoldRow>,
    pub overrides: Vec<OverrideRow>,
}

#[derive(Serialize)]
pub struct HoldRow {
    pub scope: &'static str,
    /// Digits; of a user or a network the beginning of a keyed digest.
    pub name: String,
    /// If no send is added.
    #[serde(serialize_with = "serialize_rfc3339")]
    pub until: UnixMillis,
}

#[derive(Serialize)]
pub struct OverrideRow {
    /// A country, digits, or a masked number.
    pub target: String,
    pub action: &'static str,
    #[serde(serialize_with = "serialize_rfc3339")]
    pub since: UnixMillis,
    #[serde(serialize_with = "serialize_rfc3339")]
    pub until: UnixMillis,
    pub reason: String,
}

impl OverrideRow {
    pub fn of(known: &DefenceOverride) -> OverrideRow {
        OverrideRow {
            target: known.shown.clone(),
            action: known.action.as_str(),
            since: known.since,
            until: known.until,
            reason: known.reason.clone(),
        }
    }
}

pub async fn defence(
    store: &dyn Store,
    mode: DefenceMode,
    now: UnixMillis,
) -> Result<DefenceReport, StoreError> {
    let list = store.defence(&[]).await?.list;
    let holds = list.holds.iter().map(|hold| HoldRow {
        scope: hold.scope.kind.as_str(),
        name: hold.scope.shown(),
        until: now.plus(hold.left),
    });
    Ok(DefenceReport {
        mode: mode.as_str(),
        holds: holds.collect(),
        overrides: list.overrides.iter().map(OverrideRow::of).collect(),
    })
}

#[derive(Serialize)]
pub struct DefenceExplanation {
    /// Masked.
    pub to: String,
    /// `free`, `allowed`, `exempt`, or the rule that refuses.
    pub decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// The number, or the user, has verified a code within 90 days.
    pub has_verified: bool,
    pub scopes: Vec<ScopeRow>,
}

#[derive(Serialize)]
pub struct ScopeRow {
    pub scope: &'static str,
    pub name: String,
    pub held: bool,
    /// Sends of the last three minutes that are not verified yet.
    pub pending: u32,
    pub unverified_hour: u32,
    pub unverified_day: u32,
    pub budget_hour: u32,
    pub budget_day: u32,
}

/// `None`: no phone number.
pub async fn explain(
    store: &dyn Store,
    request: &DefendedRequest<'_>,
    budget_percent: u32,
) -> Result<Option<DefenceExplanation>, StoreError> {
    let DefendedRequest { to, recipient, user, network } = *request;
    let Some(number) = to.phone() else { return Ok(None) };
    let groups = NumberGroups::of(number);
    let scopes = scopes_of(&groups, user, network);
    let asked: Vec<(u64, Scope)> = scopes.iter().map(|scope| (groups.prefix, *scope)).collect();
    let state = store.defence(&asked).await?;
    let mut has_verified = store.has_verified(recipient).await?;
    if let Some(user) = user {
        has_verified |= store.has_verified(user).await?;
    }
    let country = to.country();
    let subject =
        DefenceSubject { digits: &number.e164()[1..], country: country.as_ref(), recipient, scopes: &scopes };
    let (decision, retry_after) = match state.list.decide(&subject, Duration::ZERO) {
        DefenceDecision::Free => ("free", None),
        DefenceDecision::Allowed => ("allowed", None),
        DefenceDecision::Refused { rule, .. } if is_exempt(store, rule, request).await? => ("exempt", None),
        DefenceDecision::Refused { rule, retry_after } => (rule.as_str(), Some(retry_after.as_secs())),
    };
    let is_held = |scope: &Scope| state.list.holds.iter().any(|hold| hold.scope == *scope);
    let rows = scopes.iter().zip(&state.records).map(|(scope, record)| {
        // Without a record the budget is the floor.
        let budget = scope.kind.floor_in_percent(budget_percent);
        let record = record.unwrap_or(UnverifiedRecord { budget, ..UnverifiedRecord::default() });
        row(*scope, is_held(scope), &record)
    });
    Ok(Some(DefenceExplanation {
        to: to.masked(),
        decision,
        retry_after,
        has_verified,
        scopes: rows.collect(),
    }))
}

fn row(scope: Scope, held: bool, record: &UnverifiedRecord) -> ScopeRow {
    let Budget { hour, day } = record.unverified();
    ScopeRow {
        scope: scope.kind.as_str(),
        name: scope.shown(),
        held,
        pending: record.pending_sends(),
        unverified_hour: hour,
        unverified_day: day,
        budget_hour: record.budget.hour,
        budget_day: record.budget.day,
    }
}
