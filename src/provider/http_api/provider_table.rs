//! Reads the table of one provider with an HTTP API.

use reqwest::Method;

use super::HttpApi;
use super::answers::Answers;
use super::authentication::Authentication;
use super::endpoint::Endpoint;
use super::file_settings::FileSettings;
use super::lookup::{Fetch, ListFields, Lookup, MessageFields};
use super::receipts::{HttpApiCallbacks, Receipts};
use super::request::RequestTemplate;
use super::table::{Faults, Table};
use super::variables::{
    self, CALLBACK_URL, IDEMPOTENCY_KEY, MESSAGE_ID, OF_CHECKS, OF_FETCHES, OF_LOOKUPS, OF_MESSAGES,
    REFERENCE, SENDER, TEXT, TO,
};
use crate::provider::http_client;

const SENDERS_MAX: usize = 100;
const SENDER_BYTES_MAX: usize = 32;

/// A provider that a file describes.
pub struct Described {
    pub provider: HttpApi,
    /// `None` without receipts.
    pub callbacks: Option<HttpApiCallbacks>,
}

/// The description of the requests that send a message.
struct SendDescription {
    request: RequestTemplate,
    /// The vendor recognises a repeat by its key.
    is_idempotent: bool,
}

/// `name` is missing if it is a fault.
pub(super) fn read(
    table: &mut Table<'_>,
    name: Option<&'static str>,
    settings: &FileSettings<'_>,
    faults: &mut Faults<'_>,
) -> Option<Described> {
    let at = table.at;
    let senders = senders(table, faults);
    let authentication = authentication(table, settings, faults);
    let receipts = receipts(table, settings, faults);
    let url = receipts.as_ref().and_then(|receipts| receipts.1.as_ref()?.url.clone());
    let mut variables = OF_MESSAGES.to_vec();
    variables.extend(Some(SENDER).filter(|_| !senders.is_empty()));
    variables.extend(Some(CALLBACK_URL).filter(|_| url.is_some()));
    let send = send(table, &variables, faults);
    let check = optional(table, "check", &OF_CHECKS, faults, |_, _| Some(()));
    let lookup = optional(table, "lookup", &OF_LOOKUPS, faults, ListFields::read);
    let fetch = optional(table, "fetch", &OF_FETCHES, faults, MessageFields::read);
    let answers = answers(table, faults);
    let send = send?;
    let is_named = send.request.uses(REFERENCE) || send.request.uses(CALLBACK_URL);
    if let Some((at, Some(_))) = &receipts
        && !is_named
    {
        faults.add(*at, "`receipts` needs {{ ref }} or {{ callback_url }} in `send`: it names the message");
    }
    let receipts = receipts.map_or(Some(None), |(_, receipts)| receipts.map(Some));
    let base = send.request.base.clone();
    let client = http_client::client(&base, settings.timeout).map_err(|problem| problem.to_string());
    let client = faults.ok(at, client)?;
    // Another host may need another way out of the network.
    let mut endpoint = |request: RequestTemplate| {
        let same = request.base.origin() == base.origin();
        let client =
            if same { Ok(client.clone()) } else { http_client::client(&request.base, settings.timeout) };
        let client = faults.ok(at, client.map_err(|problem| problem.to_string()))?;
        Some(Endpoint::new(client, request))
    };
    let SendDescription { request, is_idempotent } = send;
    let send = endpoint(request)?;
    let check = check?.map(|(request, ())| endpoint(request));
    let lookup = lookup?.map(|(request, fields)| Some(Lookup::new(endpoint(request)?, fields)));
    let fetch = fetch?.map(|(request, fields)| Some(Fetch::new(endpoint(request)?, fields)));
    let (name, key) = (name?, settings.reference_key.cloned());
    let callbacks = receipts?.zip(key.clone()).map(|(receipts, key)| receipts.callbacks(name, key));
    let provider = HttpApi {
        name,
        senders,
        send,
        check: check.map_or(Some(None), |check| check.map(Some))?,
        lookup: lookup.map_or(Some(None), |lookup| lookup.map(Some))?,
        fetch: fetch.map_or(Some(None), |fetch| fetch.map(Some))?,
        authentication: authentication?,
        answers: answers?,
        url,
        key,
        repeats_within: Some(settings.timeout / 2).filter(|_| is_idempotent),
    };
    if provider.cannot_be_filled() {
        faults.add(at, "a template of `send` cannot be filled: are its filters and types right?");
    }
    Some(Described { provider, callbacks })
}

fn authentication(
    table: &mut Table<'_>,
    settings: &FileSettings<'_>,
    faults: &mut Faults<'_>,
) -> Option<Authentication> {
    let Some(item) = table.take("authentication") else { return Some(Authentication::None) };
    let mut table = Table::of(item, "authentication", faults)?;
    let read = Authentication::read(&mut table, settings.sending, faults);
    if read.is_some() {
        table.finish(faults);
    }
    read
}

/// With their place; without a value if they are a fault.
fn receipts(
    table: &mut Table<'_>,
    settings: &FileSettings<'_>,
    faults: &mut Faults<'_>,
) -> Option<(usize, Option<Receipts>)> {
    let mut table = table.table("receipts", faults)?;
    let read = Receipts::read(&mut table, settings.receiving, faults);
    let at = table.at;
    table.finish(faults);
    Some((at, read))
}

fn send(table: &mut Table<'_>, variables: &[&str], faults: &mut Faults<'_>) -> Option<SendDescription> {
    let Some(mut send) = table.table("send", faults) else {
        faults.add(table.at, "`send` is missing: [providers.send]");
        return None;
    };
    let (at, is_idempotent) = (send.at, send.flag("idempotency", faults));
    let request = RequestTemplate::read(&mut send, Method::POST, variables, faults);
    send.finish(faults);
    let request = request?;
    if !request.uses(TEXT) {
        faults.add(at, "`send` needs {{ text }}: without it no message has a code");
    }
    if !TO.iter().any(|name| request.uses(name)) {
        faults.add(at, "`send` needs {{ to }} or {{ to_digits }}: without it no message has a recipient");
    }
    if is_idempotent && !request.uses(IDEMPOTENCY_KEY) {
        faults.add(at, "`idempotency` needs {{ idempotency_key }}, by which the vendor knows a repeat");
    }
    Some(SendDescription { request, is_idempotent })
}

/// A table with a request and members of its own. `Some(None)` if it is not there, `None` for a fault.
fn optional<T>(
    table: &mut Table<'_>,
    key: &str,
    variables: &[&str],
    faults: &mut Faults<'_>,
    read: impl Fn(&mut Table<'_>, &mut Faults<'_>) -> Option<T>,
) -> Option<Option<(RequestTemplate, T)>> {
    let Some(item) = table.take(key) else { return Some(None) };
    let mut table = Table::of(item, key, faults)?;
    let fields = read(&mut table, faults);
    let request = RequestTemplate::read(&mut table, Method::GET, variables, faults);
    table.finish(faults);
    if let Some(request) = &request {
        let (needed, rule) = match key {
            "lookup" => {
                (&TO[..], "`lookup` needs {{ to }} or {{ to_digits }}: it lists the messages to a number")
            }
            "fetch" => (&[MESSAGE_ID][..], "`fetch` needs {{ message_id }}"),
            _ => (&[][..], ""),
        };
        if !needed.is_empty() && !needed.iter().any(|name| request.uses(name)) {
            faults.add(item.at, rule);
        }
        if request.fill(&variables::example()).is_err() {
            faults.add(
                item.at,
                format!("a template of `{key}` cannot be filled: are its filters and types right?"),
            );
        }
    }
    Some(Some((request?, fields?)))
}

fn answers(table: &mut Table<'_>, faults: &mut Faults<'_>) -> Option<Answers> {
    let Some(mut answers) = table.table("answers", faults) else {
        faults.add(table.at, "`answers` is missing: [providers.answers]");
        return None;
    };
    let read = Answers::read(&mut answers, faults);
    answers.finish(faults);
    read
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
