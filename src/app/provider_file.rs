//! Builds the provider of `PROVIDERS_FILE`, and shows the request that it would send.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use secrecy::SecretString;

use crate::config::{self, ConfigError, ProvidersFile, Settings, SmsProvider};
use crate::domain::address::Address;
use crate::domain::recipient_keyring::RecipientKeyring;
use crate::domain::request_id::RequestId;
use crate::provider::http_api::file::{self, Described, FileSettings};
use crate::provider::http_api::secrets::SecretPlace;
use crate::provider::{Callbacks, Message, Provider};

const SETTING: &str = "PROVIDERS_FILE";
/// A receipt of a vendor comes within seconds, and settles a doubt.
pub(super) const RECEIPT_WAIT: Duration = Duration::from_secs(20);

/// The errors of the file, by line.
pub(super) fn config_errors(file: &ProvidersFile, settings: &Settings) -> Vec<ConfigError> {
    described(file, settings).err().unwrap_or_default()
}

pub(super) fn provider(file: &ProvidersFile, settings: &Settings) -> anyhow::Result<Arc<dyn Provider>> {
    Ok(Arc::new(described(file, settings).map_err(|errors| failed(&errors))?.provider))
}

pub(super) fn callbacks(
    file: &ProvidersFile,
    settings: &Settings,
) -> anyhow::Result<Option<Arc<dyn Callbacks>>> {
    let callbacks = described(file, settings).map_err(|errors| failed(&errors))?.callbacks;
    Ok(callbacks.map(|callbacks| Arc::new(callbacks) as Arc<dyn Callbacks>))
}

/// A provider of `PROVIDERS_FILE`, and the request that it would send.
pub(crate) struct ShownProvider {
    pub(crate) name: &'static str,
    pub(crate) senders: usize,
    pub(crate) receipts: Option<&'static str>,
    pub(crate) request: Vec<String>,
}

/// `None` without a file. Codes are not known here, and secrets are replaced.
pub(crate) fn shown(settings: &Settings, to: &Address, text: &str) -> anyhow::Result<Option<ShownProvider>> {
    let Some(SmsProvider::File(file)) = &settings.sms_provider else { return Ok(None) };
    let hidden = |_: &SecretPlace| Ok(SecretString::from("***"));
    // The reference of an example is of no use to its reader.
    let keyring = RecipientKeyring::new(&[0; 32]);
    let described = file::read(&FileSettings {
        text: &file.text,
        timeout: settings.provider_timeout,
        reference_key: Some(keyring.reference_key()),
        sending: &hidden,
        receiving: &|place| secret(file, place),
    });
    let described = described.map_err(|_| anyhow!("{SETTING} cannot be read"))?;
    let request_id = RequestId::parse("example").expect("an id");
    let message = Message {
        request_id: &request_id,
        to,
        sender: 0,
        body: text,
        mail: None,
        code: None,
        locale: None,
        user_name: None,
        validity: settings.code_life,
        attempt: 1,
    };
    let request = described.provider.shown_request(&message);
    Ok(Some(ShownProvider {
        name: described.provider.name(),
        senders: described.provider.senders(),
        receipts: described.callbacks.map(|callbacks| callbacks.endpoint().path),
        request: request.ok_or_else(|| anyhow!("{SETTING}: a template cannot be filled for this message"))?,
    }))
}

fn described(file: &ProvidersFile, settings: &Settings) -> Result<Described, Vec<ConfigError>> {
    let read_secret = |place: &SecretPlace| secret(file, place);
    let none = |_: &SecretPlace| Ok(SecretString::default());
    let keyring = settings.recipients.as_ref();
    let described = file::read(&FileSettings {
        text: &file.text,
        timeout: settings.provider_timeout,
        reference_key: keyring.map(|keyring| keyring.reference_key()),
        sending: if file.sends { &read_secret } else { &none },
        receiving: &read_secret,
    });
    described.map_err(|faults| {
        let mut by_line = BTreeMap::<usize, Vec<String>>::new();
        for fault in faults {
            by_line.entry(fault.line).or_default().push(fault.problem);
        }
        let error = |(line, problems): (usize, Vec<String>)| {
            ConfigError::new(&format!("{SETTING} line {line}:"), problems.join("; "))
        };
        by_line.into_iter().map(error).collect()
    })
}

fn secret(file: &ProvidersFile, place: &SecretPlace) -> Result<SecretString, String> {
    match place {
        SecretPlace::Variable(name) => file.variables.get(name).cloned().ok_or_else(|| {
            format!("`env:{name}` must name a variable that is set, and no setting of otpost")
        }),
        SecretPlace::File(path) => {
            config::secret_file(path).map_err(|fault| format!("`file:` names a file that {fault}"))
        }
    }
}

fn failed(errors: &[ConfigError]) -> anyhow::Error {
    anyhow!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}
