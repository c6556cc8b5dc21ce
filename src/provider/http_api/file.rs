//! Reads a file of providers: every fault at once, each with its line.

use std::time::Duration;

use toml::de::DeTable;

use super::HttpApi;
use super::answers::Answers;
use super::authentication::Authentication;
use super::receipts::{HttpApiCallbacks, Receipts};
use super::request::RequestTemplate;
use super::secrets::ReadSecret;
use super::table::{Fault, Faults, Item, Table};
use super::variables::{CALLBACK_URL, OF_MESSAGES, REFERENCE, SENDER};
use crate::domain::encryption::ReferenceKey;
use crate::provider::http_client;

/// Names that are taken: those of other providers, and of their webhooks.
const TAKEN: [&str; 6] = ["twilio", "verify", "sendgrid", "smtp", "simulated", "absent"];
const NAME_LETTERS_MAX: usize = 16;
const SENDERS_MAX: usize = 100;
const SENDER_BYTES_MAX: usize = 32;

pub struct FileSettings<'a> {
    pub text: &'a str,
    /// The limit of one exchange, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// Seals references; `None` where nothing is sent or received.
    pub reference_key: Option<&'a ReferenceKey>,
    /// Reads secrets of requests.
    pub sending: &'a ReadSecret<'a>,
    /// Reads secrets of receipts.
    pub receiving: &'a ReadSecret<'a>,
}

/// The provider that a file describes.
pub struct Described {
    pub provider: HttpApi,
    /// `None` without receipts.
    pub callbacks: Option<HttpApiCallbacks>,
}

pub fn read(settings: &FileSettings<'_>) -> Result<Described, Vec<Fault>> {
    let mut faults = Faults::new(settings.text);
    let (document, errors) = DeTable::parse_recoverable(settings.text);
    for error in &errors {
        faults.add(error.span().map_or(0, |span| span.start), format!("is not TOML: {}", error.message()));
    }
    if !errors.is_empty() {
        return Err(faults.all());
    }
    let mut table = Table::new(0, document.get_ref());
    let providers = match table.take("providers") {
        Some(item) => item.elements("providers", &mut faults),
        None => Vec::new(),
    };
    table.finish(&mut faults);
    let described = match providers[..] {
        [provider] => one(provider, settings, &mut faults),
        [] => {
            faults.add(0, "must name one provider: [[providers]]");
            None
        }
        [_, second, ..] => {
            faults.add(second.at, "must name one provider, and this is the second");
            None
        }
    };
    let faults = faults.all();
    match described {
        Some(described) if faults.is_empty() => Ok(described),
        _ => Err(faults),
    }
}

fn one(item: Item<'_>, settings: &FileSettings<'_>, faults: &mut Faults<'_>) -> Option<Described> {
    let mut table = Table::of(item, "providers", faults)?;
    let name = name(&mut table, faults);
    table.choice("kind", &["http"], faults);
    let senders = senders(&mut table, faults);
    let authentication = match table.table("authentication", faults) {
        Some(mut table) => {
            let read = Authentication::read(&mut table, settings.sending, faults);
            if read.is_some() {
                table.finish(faults);
            }
            read
        }
        None => Some(Authentication::None),
    };
    let receipts = table.table("receipts", faults).map(|mut table| {
        let read = Receipts::read(&mut table, settings.receiving, faults);
        let at = table.at;
        table.finish(faults);
        (at, read)
    });
    let mut variables = OF_MESSAGES.to_vec();
    variables.extend(Some(SENDER).filter(|_| !senders.is_empty()));
    let url = receipts.as_ref().and_then(|(_, receipts)| receipts.as_ref()?.url.clone());
    variables.extend(Some(CALLBACK_URL).filter(|_| url.is_some()));
    let send = request(&mut table, "send", &variables, faults);
    let check = table
        .take("check")
        .map(|item| Table::of(item, "check", faults).and_then(|table| read_request(table, &[], faults)));
    let answers = match table.table("answers", faults) {
        Some(mut answers) => {
            let read = Answers::read(&mut answers, faults);
            answers.finish(faults);
            read
        }
        None => {
            faults.add(table.at, "`answers` is missing: [providers.answers]");
            None
        }
    };
    table.finish(faults);
    let (send, receipts) = (send?, receipts.map(|(at, receipts)| Some((at, receipts?))));
    let is_named = send.uses(REFERENCE) || send.uses(CALLBACK_URL);
    if let Some(Some((at, _))) = &receipts
        && !is_named
    {
        faults.add(*at, "`receipts` needs {{ ref }} or {{ callback_url }} in `send`: it names the message");
    }
    let name: &'static str = name?.leak();
    let timeout = settings.timeout;
    let client = http_client::client(&send.base, timeout).map_err(|problem| problem.to_string());
    let client = faults.ok(item.at, client)?;
    let key = settings.reference_key.cloned();
    let receipts = match receipts {
        None => None,
        Some(receipts) => Some(receipts?.1),
    };
    let callbacks = key.clone().and_then(|key| Some(receipts?.callbacks(name, key)));
    let (check, authentication) = (check.map_or(Some(None), |check| check.map(Some))?, authentication?);
    let provider =
        HttpApi { name, senders, client, send, check, authentication, answers: answers?, url, key };
    if provider.cannot_be_filled() {
        faults.add(item.at, "a template of `send` cannot be filled: are its filters and types right?");
    }
    Some(Described { provider, callbacks })
}

fn request(
    table: &mut Table<'_>,
    key: &str,
    variables: &[&str],
    faults: &mut Faults<'_>,
) -> Option<RequestTemplate> {
    match table.table(key, faults) {
        Some(table) => read_request(table, variables, faults),
        None => {
            faults.add(table.at, format!("`{key}` is missing: [providers.{key}]"));
            None
        }
    }
}

fn read_request(
    mut table: Table<'_>,
    variables: &[&str],
    faults: &mut Faults<'_>,
) -> Option<RequestTemplate> {
    let read = RequestTemplate::read(&mut table, variables, faults);
    table.finish(faults);
    read
}

/// One word: it is a label of metrics and a part of the webhook's path.
fn name(table: &mut Table<'_>, faults: &mut Faults<'_>) -> Option<String> {
    let name = table.required("name", faults)?;
    let is_word =
        name.text.len() <= NAME_LETTERS_MAX && name.text.bytes().all(|byte| byte.is_ascii_lowercase());
    if !is_word {
        faults.add(name.at, format!("`name` must be 1 to {NAME_LETTERS_MAX} lower-case letters"));
    } else if TAKEN.contains(&name.text) {
        faults.add(name.at, format!("`name` must be none of {}", TAKEN.join(", ")));
    }
    Some(name.text.to_owned())
}

fn senders(table: &mut Table<'_>, faults: &mut Faults<'_>) -> Vec<String> {
    let Some(item) = table.take("senders") else { return Vec::new() };
    let items = item.elements("senders", faults);
    if items.is_empty() || items.len() > SENDERS_MAX {
        faults.add(item.at, format!("`senders` must have 1 to {SENDERS_MAX} elements"));
    }
    let texts = items.into_iter().filter_map(|item| item.text("senders", faults)).collect::<Vec<_>>();
    for text in texts.iter().filter(|t| t.text.len() > SENDER_BYTES_MAX || t.text.contains(char::is_control))
    {
        faults.add(
            text.at,
            format!("a sender must have at most {SENDER_BYTES_MAX} bytes and no control character"),
        );
    }
    texts.into_iter().map(|text| text.text.to_owned()).collect()
}
