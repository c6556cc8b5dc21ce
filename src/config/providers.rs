//! The settings of providers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::SecretString;

use crate::domain::email_sender::Mailbox;

pub enum SmsProvider {
    Twilio(Twilio),
    File(ProvidersFile),
}

/// The file that describes the providers. Its rules are those of the adapter.
pub struct ProvidersFile {
    pub text: String,
    /// The variables that the text names with `env:`.
    pub variables: BTreeMap<String, SecretString>,
    /// False in a process that only receives: it needs no secret of requests.
    pub sends: bool,
}

pub enum EmailProvider {
    SendGrid(SendGrid),
    Smtp(Smtp),
}

/// Verifies the callbacks of a provider of e-mails. A process can accept them without the account that sends.
pub enum EmailWebhook {
    SendGrid { public_key: String },
}

pub struct Twilio {
    /// `AC…`.
    pub account_sid: String,
    /// The user name of HTTP Basic: the account's SID, or that of an API key.
    pub user: String,
    /// The auth token, or the secret of the API key.
    pub password: SecretString,
    /// The service that makes and checks the codes; `None` if we make them.
    pub verify: Option<VerifyService>,
    /// `None` if a Verify service chooses the sender, or this process sends nothing.
    pub sender: Option<TwilioSender>,
    pub base_url: String,
    /// The URL that Twilio reports statuses to.
    pub status_callback: Option<String>,
    /// The public URL of the webhook for messages of people.
    pub inbound_url: Option<String>,
    pub retention: Retention,
    /// Every auth token in use: during a rotation callbacks are signed with any of them.
    pub tokens: Vec<SecretString>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyService {
    /// `VA…`.
    pub sid: String,
    pub base_url: String,
}

/// The parts of our messages that Twilio keeps once they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub keeps_texts: bool,
    /// Whole numbers of recipients.
    pub keeps_addresses: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TwilioSender {
    /// One or more numbers, short codes or sender names.
    Numbers(Vec<String>),
    /// A Messaging Service, `MG…`.
    Service(String),
}

pub struct SendGrid {
    pub api_key: SecretString,
    pub from: Mailbox,
    pub base_url: String,
}

/// A mail server that relays e-mails.
pub struct Smtp {
    /// Host, user and password.
    pub url: SecretString,
    /// Roots that are trusted beside those of the system.
    pub ca_file: Option<PathBuf>,
    pub from: Mailbox,
}

impl SmsProvider {
    /// True if the provider makes and checks the codes itself.
    pub fn makes_codes(&self) -> bool {
        match self {
            SmsProvider::Twilio(twilio) => twilio.verify.is_some(),
            SmsProvider::File(_) => false,
        }
    }
}
