//! Reads the file that describes the providers of text messages, and the secrets that it names.

use std::collections::BTreeMap;
use std::path::Path;

use secrecy::SecretString;

use super::providers::ProvidersFile;
use super::raw::{self, Variables};
use super::reader::Reader;
use super::text_file;

pub(super) const PROVIDERS_FILE: &str = "PROVIDERS_FILE";
/// A description of a vendor has a tenth of it.
const BYTES_MAX: u64 = 64 * 1024;
/// The settings of an account at Twilio outside the file.
const TWILIO: [&str; 9] = [
    "TWILIO_ACCOUNT_SID",
    "TWILIO_AUTH_TOKEN",
    "TWILIO_API_KEY_SID",
    "TWILIO_API_KEY_SECRET",
    "TWILIO_FROM_NUMBER",
    "TWILIO_MESSAGING_SERVICE_SID",
    "TWILIO_STATUS_CALLBACK_URL",
    "TWILIO_INBOUND_URL",
    "TWILIO_VERIFY_SERVICE_SID",
];

impl Reader<'_> {
    /// The file; `None` if none is set, or this process neither sends nor receives.
    pub(super) fn providers_file(&mut self, variables: &Variables) -> Option<ProvidersFile> {
        let path = self.text(PROVIDERS_FILE, "");
        if path.is_empty() {
            return None;
        }
        let twilio = TWILIO.iter().find(|name| self.is_given(name)).copied();
        let other = twilio.or(self.sms_provider_makes_codes().then_some("SMS_PROVIDER=verify"));
        if let Some(other) = other {
            let problem = format!(
                "is set beside {other}: the file describes every provider of text messages, also an account at Twilio"
            );
            self.error(PROVIDERS_FILE, problem);
            return None;
        }
        for name in ["CONTENT_RETENTION", "ADDRESS_RETENTION", "TWILIO_API_BASE_URL"] {
            if self.is_given(name) {
                let notice =
                    format!("{name} is set beside {PROVIDERS_FILE}: it has no effect, the file has its own");
                self.notices.push(notice);
            }
        }
        if !self.needs(PROVIDERS_FILE) {
            return None;
        }
        let text = text_file::read(Path::new(&path), BYTES_MAX).and_then(text_file::text);
        match text {
            Ok(text) => Some(ProvidersFile {
                variables: named(&text, variables),
                text,
                sends: self.needs("SENDER") || self.needs("PROVIDERS"),
            }),
            Err(fault) => {
                self.error(PROVIDERS_FILE, format!("names a file that {fault}"));
                None
            }
        }
    }
}

/// The variables that the text names. Settings of ours are no secrets of a vendor.
fn named(text: &str, variables: &Variables) -> BTreeMap<String, SecretString> {
    let is_of_name = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let names = text.split("env:").skip(1);
    let names = names.map(|rest| rest.split(|char| !is_of_name(char)).next().unwrap_or_default());
    let value = |name: &str| {
        let value = variables.get(name).filter(|_| !raw::is_ours(name))?.trim();
        Some((name.to_owned(), SecretString::from(value)))
    };
    names.filter_map(value).collect()
}

/// A secret of one line in a file of its own. The problem has the form of "names a file that …".
pub fn secret_file(path: &Path) -> Result<SecretString, String> {
    let text =
        text_file::read(path, BYTES_MAX).and_then(text_file::text).map_err(|fault| fault.to_string())?;
    match text.trim() {
        "" => Err("is empty".to_owned()),
        secret if secret.contains(char::is_control) => Err("has more than one line".to_owned()),
        secret => Ok(secret.into()),
    }
}
