//! Reads the table of one account at Twilio. Twilio's own adapter sends with it, and knows the rules of its callbacks' URLs.

use secrecy::SecretString;

use super::file_settings::FileSettings;
use super::request::is_loopback;
use super::secrets::{self, ReadSecret};
use super::table::{Faults, Table, Text};
use crate::provider::http_client::base_url;

const BASE_URL: &str = "https://api.twilio.com";
const SENDERS_MAX: usize = 100;
const SENDER_BYTES_MAX: usize = 32;
/// Twilio knows two at a time, and a restart of ours may come between.
const TOKENS_MAX: usize = 4;

/// It holds secrets: no `Debug`.
pub struct TwilioAccount {
    /// `AC…`.
    pub account_sid: String,
    /// The user name of HTTP Basic: the account's SID, or that of an API key.
    pub user: String,
    pub password: SecretString,
    pub sender: TwilioSender,
    pub base_url: String,
    pub status_callback: Option<UrlAt>,
    /// Callbacks are signed with any of them.
    pub tokens: Vec<SecretString>,
    pub keeps_texts: bool,
    pub keeps_addresses: bool,
}

pub enum TwilioSender {
    Numbers(Vec<String>),
    /// A Messaging Service, `MG…`.
    Service(String),
}

pub struct UrlAt {
    pub line: usize,
    pub url: String,
}

impl TwilioAccount {
    pub(super) fn read(
        table: &mut Table<'_>,
        settings: &FileSettings<'_>,
        faults: &mut Faults<'_>,
    ) -> Option<TwilioAccount> {
        let account_sid = table.required("account_sid", faults);
        let account_sid = account_sid.and_then(|text| sid(text, "account_sid", "AC", faults));
        let status_callback = table.text("status_callback_url", faults);
        // The secrets of the account verify callbacks, too.
        let read = if status_callback.is_some() { settings.receiving } else { settings.sending };
        let auth_token = table.text("auth_token", faults);
        let has_auth_token = auth_token.is_some();
        let auth_token = auth_token.and_then(|text| secrets::secret(text, "auth_token", read, faults));
        let key = api_key(table, settings.sending, faults);
        let tokens = tokens(table, auth_token.as_ref(), settings.receiving, faults);
        if let (Some(url), Some([])) = (status_callback, tokens.as_deref())
            && !has_auth_token
        {
            faults.add(url.at, "`status_callback_url` needs `auth_token` or `callback_tokens`: its calls are signed with them");
        }
        let credential = match key {
            Some(key) => key,
            None if has_auth_token => account_sid.clone().zip(auth_token),
            None => {
                faults.add(table.at, "`auth_token` is missing, or `api_key` and `api_secret`");
                None
            }
        };
        let sender = sender(table, faults);
        let base_url = base(table, faults);
        let keeps_texts = keeps(table, "content_retention", "discard", faults);
        let keeps_addresses = keeps(table, "address_retention", "obfuscate", faults);
        let (user, password) = credential?;
        Some(TwilioAccount {
            account_sid: account_sid?,
            user,
            password,
            sender: sender?,
            base_url: base_url?,
            status_callback: status_callback
                .map(|url| UrlAt { line: faults.line(url.at), url: url.text.to_owned() }),
            tokens: tokens?,
            keeps_texts: keeps_texts?,
            keeps_addresses: keeps_addresses?,
        })
    }
}

/// `None` without a key, `Some(None)` for a fault.
fn api_key(
    table: &mut Table<'_>,
    read: &ReadSecret<'_>,
    faults: &mut Faults<'_>,
) -> Option<Option<(String, SecretString)>> {
    let (key, secret) = (table.text("api_key", faults), table.text("api_secret", faults));
    if key.is_some() != secret.is_some() {
        faults.add(table.at, "`api_key` and `api_secret` belong together");
        return Some(None);
    }
    let key = sid(key?, "api_key", "SK", faults);
    let secret = secrets::secret(secret?, "api_secret", read, faults);
    Some(key.zip(secret))
}

/// During a rotation an account has more than one. `None` for a fault.
fn tokens(
    table: &mut Table<'_>,
    auth_token: Option<&SecretString>,
    read: &ReadSecret<'_>,
    faults: &mut Faults<'_>,
) -> Option<Vec<SecretString>> {
    let Some(item) = table.take("callback_tokens") else {
        return Some(auth_token.cloned().into_iter().collect());
    };
    let texts = item.texts("callback_tokens", faults);
    if texts.is_empty() || texts.len() > TOKENS_MAX {
        faults.add(item.at, format!("`callback_tokens` must have 1 to {TOKENS_MAX} elements"));
        return None;
    }
    let read: Vec<Option<SecretString>> =
        texts.into_iter().map(|text| secrets::secret(text, "callback_tokens", read, faults)).collect();
    read.into_iter().collect()
}

fn sender(table: &mut Table<'_>, faults: &mut Faults<'_>) -> Option<TwilioSender> {
    let service = table.text("messaging_service_sid", faults);
    let Some(item) = table.take("senders") else {
        let Some(service) = service else {
            faults.add(table.at, "`senders` is missing, or `messaging_service_sid`");
            return None;
        };
        return sid(service, "messaging_service_sid", "MG", faults).map(TwilioSender::Service);
    };
    if let Some(service) = service {
        faults.add(service.at, "an account has `senders` or `messaging_service_sid`, not both");
    }
    let senders = item.texts("senders", faults);
    if senders.is_empty() || senders.len() > SENDERS_MAX {
        faults.add(item.at, format!("`senders` must have 1 to {SENDERS_MAX} elements"));
        return None;
    }
    for text in
        senders.iter().filter(|t| t.text.len() > SENDER_BYTES_MAX || t.text.contains(char::is_control))
    {
        faults.add(
            text.at,
            format!("a sender must have at most {SENDER_BYTES_MAX} bytes and no control character"),
        );
    }
    Some(TwilioSender::Numbers(senders.iter().map(|text| text.text.to_owned()).collect()))
}

fn base(table: &mut Table<'_>, faults: &mut Faults<'_>) -> Option<String> {
    let Some(text) = table.text("base_url", faults) else { return Some(BASE_URL.to_owned()) };
    let url = faults.ok(text.at, base_url(text.text).map_err(|rule| format!("`base_url`: {rule}")))?;
    if url.scheme() != "https" && !is_loopback(&url) {
        faults.add(text.at, "`base_url` must begin with https://, or name this machine");
    }
    Some(text.text.to_owned())
}

/// True unless Twilio is asked to keep less.
fn keeps(table: &mut Table<'_>, key: &str, less: &str, faults: &mut Faults<'_>) -> Option<bool> {
    if !table.has(key) {
        return Some(true);
    }
    table.choice(key, &["retain", less], faults).map(|place| place == 0)
}

/// A prefix and 32 hexadecimal digits.
fn sid(text: Text<'_>, key: &str, prefix: &str, faults: &mut Faults<'_>) -> Option<String> {
    let digits = text.text.strip_prefix(prefix).unwrap_or_default();
    let is_sid = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let read = is_sid.then(|| text.text.to_owned());
    faults.ok(text.at, read.ok_or_else(|| format!("`{key}` must be {prefix} and 32 hexadecimal digits")))
}
