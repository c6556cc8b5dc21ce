//! Builds the providers of `PROVIDERS_FILE`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use secrecy::SecretString;

use super::sms_providers::{ConfiguredProvider, SmsProviders, receipt_due};
use crate::config::{self, ConfigError, ProvidersFile, Settings};
use crate::provider::http_api::file::{self, DescribedFile, DescribedProvider, Kind};
use crate::provider::http_api::file_settings::FileSettings;
use crate::provider::http_api::secrets::{ReadSecret, SecretPlace};
use crate::provider::http_api::table::Fault;
use crate::provider::http_api::twilio_account::{TwilioAccount, TwilioSender};
use crate::provider::http_client::InvalidSettings;
use crate::provider::twilio::callback::TwilioCallbacks;
use crate::provider::twilio::messages::TwilioMessages;
use crate::provider::twilio::{Authentication, Retention, Sender, TwilioSettings, check_status_callback};
use crate::provider::{Callbacks, Provider};

pub(super) const SETTING: &str = "PROVIDERS_FILE";
const SECRETS: &str = "the secrets that PROVIDERS_FILE names";
/// A receipt of a vendor comes within seconds, and settles a doubt.
const RECEIPT_WAIT: Duration = Duration::from_secs(20);

/// The errors of the file, by line.
pub(super) fn config_errors(file: &ProvidersFile, settings: &Settings) -> Vec<ConfigError> {
    let described = match described(file, settings) {
        Ok(described) => described,
        Err(faults) => return by_line(faults),
    };
    let faults = described.providers.iter().filter_map(|provider| {
        let Kind::Twilio(account) = &provider.kind else { return None };
        twilio_fault(account, provider, file.sends, settings)
    });
    by_line(faults.collect())
}

/// The rules that only Twilio's adapter knows.
fn twilio_fault(
    account: &TwilioAccount,
    provider: &DescribedProvider,
    sends: bool,
    settings: &Settings,
) -> Option<Fault> {
    if let Some(url) = &account.status_callback
        && let Err(problem) = check_status_callback(&url.url)
    {
        return Some(Fault { line: url.line, problem: format!("`status_callback_url`: {problem}") });
    }
    let built = if sends { twilio_messages(account, provider.name, settings).map(drop) } else { Ok(()) };
    let fault = |problem: InvalidSettings| Fault { line: provider.line, problem: problem.to_string() };
    built.err().map(fault)
}

pub(super) fn sending(file: &ProvidersFile, settings: &Settings) -> anyhow::Result<SmsProviders> {
    let read_secret = |place: &SecretPlace| secret(file, place);
    let described = read(file, settings, &read_secret).map_err(failed)?;
    let DescribedFile { providers, routes } = described;
    let providers: anyhow::Result<Vec<ConfiguredProvider>> =
        providers.into_iter().map(|described| configured(described, settings)).collect();
    Ok(SmsProviders { providers: providers?, routes })
}

fn configured(described: DescribedProvider, settings: &Settings) -> anyhow::Result<ConfiguredProvider> {
    let DescribedProvider { name, line: _, receipts_only, kind } = described;
    let (provider, receipt_wait, poll_receipt_after): (Arc<dyn Provider>, _, _) = match kind {
        Kind::Http(described) => {
            let has_receipts = described.callbacks.is_some();
            let wait = if has_receipts { RECEIPT_WAIT } else { Duration::ZERO };
            let polled = described.provider.reads_messages().then(|| receipt_due(has_receipts));
            (Arc::new(described.provider), wait, polled)
        }
        Kind::Twilio(account) => {
            let provider = twilio_messages(&account, name, settings)?;
            (Arc::new(provider), Duration::ZERO, Some(receipt_due(account.status_callback.is_some())))
        }
    };
    Ok(ConfiguredProvider { provider, receipt_wait, poll_receipt_after, receipts_only, to_check: SECRETS })
}

/// The readers of receipts of all providers, also of those that send nothing more.
pub(super) fn callbacks(
    file: &ProvidersFile,
    settings: &Settings,
) -> anyhow::Result<Vec<Arc<dyn Callbacks>>> {
    let described = described(file, settings).map_err(failed)?;
    let mut callbacks: Vec<Arc<dyn Callbacks>> = Vec::new();
    for DescribedProvider { name, kind, .. } in described.providers {
        match kind {
            Kind::Http(described) => {
                callbacks
                    .extend(described.callbacks.map(|callbacks| Arc::new(callbacks) as Arc<dyn Callbacks>));
            }
            Kind::Twilio(account) => {
                if let Some(url) = account.status_callback {
                    let callbacks_of = TwilioCallbacks::new(&url.url, &account.account_sid, account.tokens)?;
                    callbacks.push(Arc::new(callbacks_of.named(name, webhook_path(name))));
                }
            }
        }
    }
    Ok(callbacks)
}

/// The name of the first provider; `None` for a file with faults.
pub(super) fn first_name(file: &ProvidersFile, settings: &Settings) -> Option<&'static str> {
    described(file, settings).ok()?.providers.first().map(|first| first.name)
}

/// It lives as long as the process.
pub(super) fn webhook_path(name: &str) -> &'static str {
    format!("/webhooks/{name}").leak()
}

pub(super) fn twilio_messages(
    account: &TwilioAccount,
    name: &'static str,
    settings: &Settings,
) -> Result<TwilioMessages, InvalidSettings> {
    let messages = TwilioMessages::new(TwilioSettings {
        account_sid: account.account_sid.clone(),
        authentication: Authentication { user: account.user.clone(), password: account.password.clone() },
        sender: match &account.sender {
            TwilioSender::Numbers(numbers) => Sender::Numbers(numbers.clone()),
            TwilioSender::Service(sid) => Sender::MessagingService(sid.clone()),
        },
        base_url: account.base_url.clone(),
        timeout: settings.provider_timeout,
        status_callback: account.status_callback.as_ref().map(|url| url.url.clone()),
        retention: Retention { keeps_texts: account.keeps_texts, keeps_addresses: account.keeps_addresses },
    })?;
    Ok(messages.named(name))
}

/// A process that only receives needs no secrets of requests.
fn described(file: &ProvidersFile, settings: &Settings) -> Result<DescribedFile, Vec<Fault>> {
    let read_secret = |place: &SecretPlace| secret(file, place);
    let none = |_: &SecretPlace| Ok(SecretString::default());
    read(file, settings, if file.sends { &read_secret } else { &none })
}

fn read(
    file: &ProvidersFile,
    settings: &Settings,
    sending: &ReadSecret<'_>,
) -> Result<DescribedFile, Vec<Fault>> {
    let keyring = settings.recipients.as_ref();
    file::read(&FileSettings {
        text: &file.text,
        timeout: settings.provider_timeout,
        reference_key: keyring.map(|keyring| keyring.reference_key()),
        sending,
        receiving: &|place| secret(file, place),
    })
}

fn by_line(faults: Vec<Fault>) -> Vec<ConfigError> {
    let mut by_line = BTreeMap::<usize, Vec<String>>::new();
    for fault in faults {
        by_line.entry(fault.line).or_default().push(fault.problem);
    }
    let error = |(line, problems): (usize, Vec<String>)| {
        ConfigError::new(&format!("{SETTING} line {line}:"), problems.join("; "))
    };
    by_line.into_iter().map(error).collect()
}

pub(super) fn secret(file: &ProvidersFile, place: &SecretPlace) -> Result<SecretString, String> {
    match place {
        SecretPlace::Variable(name) => file.variables.get(name).cloned().ok_or_else(|| {
            format!("`env:{name}` must name a variable that is set, and no setting of otpost")
        }),
        SecretPlace::File(path) => {
            config::secret_file(path).map_err(|fault| format!("`file:` names a file that {fault}"))
        }
    }
}

fn failed(faults: Vec<Fault>) -> anyhow::Error {
    anyhow!("{}", by_line(faults).iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}
