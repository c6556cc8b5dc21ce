//! Shows the providers of `PROVIDERS_FILE` with the requests that they would send, and the route of a number.

use anyhow::anyhow;
use secrecy::SecretString;

use super::provider_file::{self, SETTING};
use crate::config::{Settings, SmsProvider};
use crate::domain::address::Address;
use crate::domain::phone::PhoneNumber;
use crate::domain::recipient_keyring::RecipientKeyring;
use crate::domain::request_id::RequestId;
use crate::domain::routes::Routes;
use crate::domain::sender_pool::RecipientHash;
use crate::provider::http_api::file::{self, DescribedFile, DescribedProvider, Kind};
use crate::provider::http_api::file_settings::FileSettings;
use crate::provider::http_api::secrets::SecretPlace;
use crate::provider::{Callbacks as _, Message, Provider as _};

/// As long as the usual id of a request.
const REQUEST_ID: &str = "4f273cb7-d65a-43bd-86fb-746e2a9bad55";

pub(crate) struct ShownFile {
    pub(crate) providers: Vec<ShownProvider>,
    pub(crate) route: ShownRoute,
}

pub(crate) struct ShownProvider {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) senders: usize,
    /// The path of the webhook.
    pub(crate) receipts: Option<&'static str>,
    pub(crate) receipts_only: bool,
    pub(crate) request: Vec<String>,
    pub(crate) check: Option<Vec<String>>,
}

/// The route of one number: its place in the file, from 1, and the names of its providers in order.
pub(crate) struct ShownRoute {
    pub(crate) route: usize,
    pub(crate) order: Vec<&'static str>,
}

/// The message of the example.
pub(crate) struct Example<'a> {
    pub(crate) to: &'a PhoneNumber,
    pub(crate) purpose: &'a str,
    /// Codes are not known here.
    pub(crate) text: &'a str,
}

/// `None` without a file. Secrets are replaced.
pub(crate) fn shown(settings: &Settings, example: &Example<'_>) -> anyhow::Result<Option<ShownFile>> {
    let Some(SmsProvider::File(file)) = &settings.sms_provider else { return Ok(None) };
    let hidden = |_: &SecretPlace| Ok(SecretString::from("***"));
    // The reference of an example is of no use to its reader.
    let keyring = RecipientKeyring::new(&[0; 32]);
    let described = file::read(&FileSettings {
        text: &file.text,
        timeout: settings.provider_timeout,
        reference_key: Some(keyring.reference_key()),
        sending: &hidden,
        receiving: &|place| provider_file::secret(file, place),
    });
    let DescribedFile { providers, routes } = described.map_err(|_| anyhow!("{SETTING} cannot be read"))?;
    let names: Vec<&'static str> = providers.iter().map(|provider| provider.name).collect();
    let route = shown_route(&routes, &names, example);
    let shown: anyhow::Result<Vec<ShownProvider>> =
        providers.into_iter().map(|provider| shown_provider(provider, settings, example)).collect();
    Ok(Some(ShownFile { providers: shown?, route }))
}

fn shown_route(routes: &Routes, names: &[&'static str], example: &Example<'_>) -> ShownRoute {
    let route = routes.of(example.to, example.purpose);
    let place = routes.all().iter().position(|known| std::ptr::eq(known, route));
    let order = route.order(RecipientHash::of(example.to.e164()));
    ShownRoute {
        route: place.map_or(0, |place| place + 1),
        order: order.map(|index| names[index.get()]).collect(),
    }
}

fn shown_provider(
    described: DescribedProvider,
    settings: &Settings,
    example: &Example<'_>,
) -> anyhow::Result<ShownProvider> {
    let request_id = RequestId::parse(REQUEST_ID).expect("an id");
    let to = Address::Phone(example.to.clone());
    let message = Message {
        request_id: &request_id,
        to: &to,
        sender: 0,
        body: example.text,
        mail: None,
        code: None,
        locale: None,
        user_name: None,
        validity: settings.code_life,
        attempt: 1,
    };
    let DescribedProvider { name, receipts_only, kind, .. } = described;
    let unfilled = || anyhow!("{SETTING}: a template of {name} cannot be filled for this message");
    Ok(match kind {
        Kind::Http(described) => ShownProvider {
            name,
            kind: "http",
            senders: described.provider.senders(),
            receipts: described.callbacks.map(|callbacks| callbacks.endpoint().path),
            receipts_only,
            request: described.provider.shown_request(&message).ok_or_else(unfilled)?,
            check: described.provider.shown_check(),
        },
        Kind::Twilio(account) => {
            let provider = provider_file::twilio_messages(&account, name, settings)?;
            ShownProvider {
                name,
                kind: "twilio",
                senders: provider.senders(),
                receipts: account.status_callback.map(|_| provider_file::webhook_path(name)),
                receipts_only,
                request: provider.shown_request(&message).ok_or_else(unfilled)?,
                check: Some(provider.shown_check()),
            }
        }
    })
}
