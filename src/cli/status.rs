//! `otpost status`: servers, queues, processes, keys and limits, queried from this machine. Problems come first.

mod live;

use super::output::{Exit, complain, print_json, say};
use crate::app;
use crate::config::Settings;
use crate::flow::inspect::problems::Severity;
use crate::flow::inspect::status::{
    EmailRow, Health, HealthRow, HealthState, KillSwitchRow, LimitsRow, StatusRow,
};

pub(super) async fn run(settings: &Settings, json: bool) -> Exit {
    let inspector = match app::status::inspector(settings) {
        Ok(inspector) => inspector,
        Err(error) => {
            complain(&format!("{error:#}"));
            return Exit::Unusable;
        }
    };
    let row = inspector.status().await;
    inspector.close().await;
    let exit = if row.has_error() { Exit::No } else { Exit::Done };
    if json {
        print_json(&[row]);
    } else {
        print_row(&row);
    }
    exit
}

fn line(name: &str, value: &str) {
    say(&format!("{name:<12} {value}"));
}

fn print_row(row: &StatusRow) {
    for problem in &row.problems {
        let severity = if problem.severity == Severity::Error { "ERROR" } else { "warning" };
        line(severity, &problem.detail);
    }
    if row.problems.is_empty() {
        say("all is well");
    }
    say("");
    print_servers(row);
    live::tables(row).iter().for_each(|table| {
        say("");
        table.iter().for_each(|text| say(text));
    });
    say("");
    print_limits(row);
    line(
        "configured",
        &if row.configured.is_empty() { "nothing".to_owned() } else { row.configured.join(" ") },
    );
}

fn print_servers(row: &StatusRow) {
    line("version", row.version);
    line("environment", row.environment);
    line(
        "mode",
        &format!(
            "{}{}",
            by_provider(row.mode, row.provider),
            if row.sms_enabled { "" } else { "; SMS is off" }
        ),
    );
    line("e-mail", &email_in_words(&row.email));
    let HealthRow { redis, rabbitmq, sms_provider } = &row.health;
    for (name, health) in [("redis", redis), ("rabbitmq", rabbitmq), ("SMS provider", sms_provider)] {
        line(name, &in_words(health));
    }
    line("kill switch", &switch_in_words(row.kill_switch.as_ref()));
}

fn print_limits(row: &StatusRow) {
    let LimitsRow {
        per_number,
        window,
        per_day,
        per_user,
        per_ip,
        per_network,
        all_per_hour,
        cooldown,
        wrong_per_code,
        wrong_per_hour,
    } = &row.limits;
    line("a recipient", &format!("{per_number} in {window} s, {per_day} in a day, {cooldown} s between two"));
    line(
        "in an hour",
        &format!(
            "{per_user} for a user, {per_ip} for a client address, {per_network} for its network, {all_per_hour} in all"
        ),
    );
    line("wrong codes", &format!("{wrong_per_code} for a code, {wrong_per_hour} in an hour"));
    if let Some(hits) = &row.limits_hit {
        line("limits hit", &live::limits_in_words(hits));
    }
}

fn email_in_words(email: &EmailRow) -> String {
    match (email.mode, email.provider, &email.health) {
        (_, _, None) => "off".to_owned(),
        (
            Some(mode),
            Some(provider),
            Some(Health { state: HealthState::Simulated | HealthState::NotConfigured, .. }),
        ) => by_provider(mode, provider),
        (Some(mode), Some(provider), Some(health)) => {
            format!("{}: {}", by_provider(mode, provider), in_words(health))
        }
        (_, _, Some(health)) => in_words(health),
    }
}

/// The mode, and the provider unless the mode names it.
fn by_provider(mode: &str, provider: &str) -> String {
    if provider == "simulated" { mode.to_owned() } else { format!("{mode}, by {provider}") }
}

fn in_words(Health { state, detail, ms, .. }: &Health) -> String {
    let state = match state {
        HealthState::Up => "up",
        HealthState::Down => "down",
        HealthState::Refused => "access refused",
        HealthState::Limited => "up, with limited access",
        HealthState::InMemory => "in memory",
        HealthState::Simulated => "simulated",
        HealthState::NotConfigured => "not checked",
        HealthState::Unknown => "unknown",
    };
    let detail = detail.as_ref().map_or_else(String::new, |detail| format!(": {detail}"));
    let took = ms.map_or_else(String::new, |ms| format!(", {ms} ms"));
    format!("{state}{took}{detail}")
}

fn switch_in_words(switch: Option<&KillSwitchRow>) -> String {
    match switch {
        None => "unknown".to_owned(),
        Some(KillSwitchRow { on: false, .. }) => "off".to_owned(),
        Some(KillSwitchRow { since, reason, .. }) => format!(
            "ON since {}: nothing is sent; reason: {}",
            since.as_deref().unwrap_or("?"),
            reason.as_deref().unwrap_or("?")
        ),
    }
}
