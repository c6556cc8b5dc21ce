//! Events of the pumping defence. A block beside a masked number shows the number, so no line names a block.

use std::fmt::Display;

use crate::domain::defence::{DefenceRule, ScopeKind};
use crate::domain::defence_list::DefenceList;
use crate::telemetry::metrics::{METRICS, RuleResult, ScopeLabel};
use crate::telemetry::repeats::{About, repeating};

/// In `monitor`: the request goes on.
pub fn defence_would_refuse(rule: DefenceRule, to: &impl Display) {
    count(rule, "monitored");
    let rule = rule.as_str();
    repeating!(warn, "pumping defence would refuse a request", About::reason(rule); rule, %to,);
}

pub fn defence_refused(rule: DefenceRule, to: &str) {
    count(rule, "refused");
    let rule = rule.as_str();
    repeating!(warn, "pumping defence refused a request", About::reason(rule); rule, to,);
}

/// The store did not say whether the request is exempt: it goes on.
pub fn defence_unanswered(rule: DefenceRule, error: &impl Display) {
    count(rule, "unanswered");
    let rule = rule.as_str();
    repeating!(warn, "pumping defence let a request pass without an answer of the store", About::reason(rule); rule, %error,);
}

fn count(rule: DefenceRule, result: &'static str) {
    METRICS.defence.refusals.get_or_create(&RuleResult { rule: rule.as_str(), result }).inc();
}

/// Of all processes, once a second.
pub fn defence_list_read(list: &DefenceList) {
    for kind in ScopeKind::ALL {
        let holds = list.holds.iter().filter(|hold| hold.scope.kind == kind).count();
        let label = ScopeLabel { scope: kind.as_str() };
        METRICS.defence.holds.get_or_create(&label).set(i64::try_from(holds).unwrap_or(i64::MAX));
    }
    if list.unreadable > 0 {
        METRICS.defence.unreadable.inc_by(list.unreadable.into());
        let values = list.unreadable;
        repeating!(warn, "pumping defence skipped values that cannot be read", About::NOTHING; values,);
    }
}

/// `is_lost`: the changes are given up. Else they are added later, once.
pub fn defence_not_counted(error: &impl Display, is_lost: bool) {
    repeating!(warn, "pumping defence not counted", About::NOTHING; %error, is_lost,);
}
