//! `otpost providers`: the providers of `PROVIDERS_FILE`, the requests that they would send, and the route of a number.

use clap::Subcommand;
use serde::Serialize;

use super::output::{Exit, complain, print_json, say};
use crate::app::shown_providers::{self, Example, ShownFile, ShownProvider, ShownRoute};
use crate::config::Settings;
use crate::domain::phone::PhoneNumber;
use crate::domain::purpose::Purpose;

#[derive(Subcommand)]
pub(super) enum ProviderAction {
    /// Check PROVIDERS_FILE, and show the requests that would be sent, with code and secrets masked. Nothing is sent.
    Check {
        /// The recipient of the example: a number in E.164, or a national number of DEFAULT_REGION.
        #[arg(long, value_name = "NUMBER", default_value = "+573001234567", allow_hyphen_values = true)]
        to: String,
        /// The purpose of the example's code, which may choose its route.
        #[arg(long, value_name = "PURPOSE", default_value = "verification")]
        purpose: String,
        /// Show this provider alone.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
}

#[derive(Serialize)]
struct ProviderRow {
    name: &'static str,
    kind: &'static str,
    senders: usize,
    /// The path of the webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipts: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    receipts_only: bool,
    /// The route of the number, by its place in the file.
    route: usize,
    /// The place of the provider in the order for this number; `None` if the route does not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<usize>,
    /// The lines of the request.
    request: Vec<String>,
    /// The lines of the request that checks the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<Vec<String>>,
}

pub(super) fn run(settings: &Settings, action: &ProviderAction, json: bool) -> Exit {
    let ProviderAction::Check { to, purpose, name } = action;
    let Ok(to) = PhoneNumber::parse(to, settings.default_region) else {
        eprintln!("otpost: --to must be a phone number, such as +573001234567");
        return Exit::Unusable;
    };
    if Purpose::parse(purpose).is_none() {
        eprintln!("otpost: --purpose {}", Purpose::RULE_SENTENCE);
        return Exit::Unusable;
    }
    let text = format!("{}: ******", settings.brand);
    let shown = shown_providers::shown(settings, &Example { to: &to, purpose, text: &text });
    let ShownFile { providers, route } = match shown {
        Ok(Some(shown)) => shown,
        Ok(None) => {
            eprintln!("otpost: PROVIDERS_FILE is not set");
            return Exit::Unusable;
        }
        Err(error) => {
            complain(&format!("{error:#}"));
            return Exit::Failed;
        }
    };
    let is_wanted = |provider: &ShownProvider| name.as_deref().is_none_or(|name| name == provider.name);
    let rows: Vec<ProviderRow> =
        providers.into_iter().filter(is_wanted).map(|provider| row(provider, &route)).collect();
    if rows.is_empty() {
        eprintln!("otpost: --name must be the name of a provider in PROVIDERS_FILE");
        return Exit::Unusable;
    }
    print(&rows, &route, json);
    Exit::Done
}

fn row(provider: ShownProvider, route: &ShownRoute) -> ProviderRow {
    let ShownProvider { name, kind, senders, receipts, receipts_only, request, check } = provider;
    let place = route.order.iter().position(|known| *known == name).map(|place| place + 1);
    ProviderRow { name, kind, senders, receipts, receipts_only, route: route.route, place, request, check }
}

fn print(rows: &[ProviderRow], route: &ShownRoute, json: bool) {
    if json {
        return print_json(rows);
    }
    for row in rows {
        say(&format!("provider  {} ({})", row.name, row.kind));
        say(&format!("senders   {}", row.senders));
        let only = if row.receipts_only { ", and sends nothing" } else { "" };
        say(&format!("receipts  {}{only}", row.receipts.unwrap_or("none")));
        say("request");
        row.request.iter().for_each(|line| say(&format!("  {line}")));
        match &row.check {
            Some(check) => {
                say("check");
                check.iter().for_each(|line| say(&format!("  {line}")));
            }
            None => say("check     none"),
        }
        say("");
    }
    say(&format!("route     {}: {}", route.route, route.order.join(", ")));
}
