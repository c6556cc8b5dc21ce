//! `otpost providers`: the provider of `PROVIDERS_FILE`, and the request that it would send.

use clap::Subcommand;
use serde::Serialize;

use super::output::{Exit, complain, print_json, say};
use crate::app;
use crate::config::Settings;
use crate::domain::address::Address;
use crate::domain::phone::PhoneNumber;

#[derive(Subcommand)]
pub(super) enum ProviderAction {
    /// Check PROVIDERS_FILE, and show the request that would be sent, with code and secrets masked. Nothing is sent.
    Check {
        /// The recipient of the example: a number in E.164, or a national number of DEFAULT_REGION.
        #[arg(long, value_name = "NUMBER", default_value = "+573001234567", allow_hyphen_values = true)]
        to: String,
    },
}

#[derive(Serialize)]
struct ProviderRow {
    name: &'static str,
    senders: usize,
    /// The path of the webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipts: Option<&'static str>,
    /// The lines of the request.
    request: Vec<String>,
}

pub(super) fn run(settings: &Settings, action: &ProviderAction, json: bool) -> Exit {
    let ProviderAction::Check { to } = action;
    let Ok(to) = PhoneNumber::parse(to, settings.default_region) else {
        eprintln!("otpost: --to must be a phone number, such as +573001234567");
        return Exit::Unusable;
    };
    let text = format!("{}: ******", settings.brand);
    match app::provider_file::shown(settings, &Address::Phone(to), &text) {
        Ok(Some(provider)) => {
            let app::provider_file::ShownProvider { name, senders, receipts, request } = provider;
            print(&ProviderRow { name, senders, receipts, request }, json);
            Exit::Done
        }
        Ok(None) => {
            eprintln!("otpost: PROVIDERS_FILE is not set");
            Exit::Unusable
        }
        Err(error) => {
            complain(&format!("{error:#}"));
            Exit::Failed
        }
    }
}

fn print(row: &ProviderRow, json: bool) {
    if json {
        return print_json(&[row]);
    }
    say(&format!("provider  {}", row.name));
    say(&format!("senders   {}", row.senders));
    say(&format!("receipts  {}", row.receipts.unwrap_or("none")));
    say("request");
    row.request.iter().for_each(|line| say(&format!("  {line}")));
}
