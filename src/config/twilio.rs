//! Reads the settings of an account at Twilio.

use secrecy::SecretString;

use super::providers::{Retention, Twilio, TwilioSender, VerifyService};
use super::providers_file::PROVIDERS_FILE;
use super::reader::Reader;
use super::validators::{is_sender, is_sid, parts};

/// Without effect unless `SMS_PROVIDER=verify`.
const VERIFY_ONLY: [&str; 2] = ["TWILIO_VERIFY_SERVICE_SID", "TWILIO_VERIFY_BASE_URL"];
/// Without effect with `SMS_PROVIDER=verify`, whose service has senders and texts of its own and sends no receipts.
const MESSAGING_ONLY: [&str; 10] = [
    "TWILIO_FROM_NUMBER",
    "TWILIO_MESSAGING_SERVICE_SID",
    "TWILIO_API_BASE_URL",
    "TWILIO_STATUS_CALLBACK_URL",
    "TWILIO_INBOUND_URL",
    "TWILIO_SENDER_MPS",
    "CONTENT_RETENTION",
    "ADDRESS_RETENTION",
    "RECEIPT_WAIT_HOURS",
    "SMS_ENCODING",
];

const CALLBACK_URL: &str = "TWILIO_STATUS_CALLBACK_URL";
const INBOUND_URL: &str = "TWILIO_INBOUND_URL";

/// The credential as set: an auth token, or an API key and its secret.
struct Credential {
    key_sid: String,
    key_secret: Option<String>,
    /// Several tokens, separated by commas, during a rotation: the first signs our calls.
    tokens: Vec<SecretString>,
}

impl Reader<'_> {
    /// The account; `None` without one, or with an error in its settings.
    pub(super) fn twilio(&mut self, development: bool) -> Option<Twilio> {
        let account_sid = self.text("TWILIO_ACCOUNT_SID", "");
        let mut credential = self.twilio_credential();
        let numbers: Vec<String> = self.list("TWILIO_FROM_NUMBER", "", "must be a comma list");
        let service = self.text("TWILIO_MESSAGING_SERVICE_SID", "");
        let base_url = self.text("TWILIO_API_BASE_URL", "https://api.twilio.com");
        let by_verify = self.by_verify();
        let retention = self.retention(by_verify);
        let verify = self.verify_service(by_verify);
        let callback = self.text(CALLBACK_URL, "");
        let inbound = self.text(INBOUND_URL, "");
        if self.is_given(PROVIDERS_FILE) {
            return None;
        }
        // A process that checks codes asks Verify.
        let needed = self.needs("TWILIO") || (verify.is_some() && self.needs("CODE_CHECKS"));
        let is_given = match !needed && !development {
            // Settings that all processes share name the account and the key, and only the workers need a secret of them.
            true => {
                self.leave_out_key_of_workers(&mut credential);
                !credential.tokens.is_empty() || credential.key_secret.is_some()
            }
            false => {
                !account_sid.is_empty()
                    || self.is_given("TWILIO_AUTH_TOKEN")
                    || !credential.key_sid.is_empty()
            }
        };
        if !is_given && (development || !needed) {
            for (name, url) in [(CALLBACK_URL, &callback), (INBOUND_URL, &inbound)] {
                if !url.is_empty() {
                    let cause = "is set, but TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN are not";
                    self.notices.push(format!("{name} {cause}: no callback is accepted"));
                }
            }
            return None;
        }
        let before = self.errors.len();
        if !is_sid(&account_sid, "AC") {
            self.error("TWILIO_ACCOUNT_SID", "must be set to AC and 32 hexadecimal digits");
        }
        let (user, password) = self.twilio_user(&account_sid, &credential);
        let tokens = credential.tokens;
        self.check_base_url("TWILIO_API_BASE_URL", &base_url);
        self.check_callback(CALLBACK_URL, &callback, tokens.is_empty(), development);
        self.check_callback(INBOUND_URL, &inbound, tokens.is_empty(), development);
        // Without a token a callback's signature cannot be verified.
        let verified = |url: String| Some(url).filter(|url| !url.is_empty() && !tokens.is_empty());
        let (status_callback, inbound_url) = (verified(callback), verified(inbound));
        let sender = match &verify {
            Some(_) => None,
            None => self.sender(numbers, service),
        };
        let password = password?;
        (self.errors.len() == before).then_some(Twilio {
            account_sid,
            user,
            password,
            verify,
            sender,
            base_url,
            status_callback,
            inbound_url,
            retention,
            tokens,
        })
    }

    /// Twilio lists no message by a number that it does not keep, so nothing can be looked up before a resend.
    fn retention(&mut self, by_verify: bool) -> Retention {
        let retention = Retention {
            keeps_texts: self.choice("CONTENT_RETENTION", "retain", &["retain", "discard"]) == "retain",
            keeps_addresses: self.choice("ADDRESS_RETENTION", "retain", &["retain", "obfuscate"]) == "retain",
        };
        let never_resends = self.raw.get("IN_DOUBT_POLICY") == Some("never_resend");
        if !retention.keeps_addresses && !never_resends && !by_verify {
            let rule = "obfuscate needs IN_DOUBT_POLICY=never_resend: no message can be looked up by its recipient then";
            self.error("ADDRESS_RETENTION", rule);
        }
        retention
    }

    fn twilio_credential(&mut self) -> Credential {
        let tokens = self.secret("TWILIO_AUTH_TOKEN");
        let key_sid = self.text("TWILIO_API_KEY_SID", "");
        let key_secret = self.secret("TWILIO_API_KEY_SECRET");
        let tokens = tokens.as_deref().into_iter().flat_map(parts).map(|token| token.to_owned().into());
        Credential { key_sid, key_secret, tokens: tokens.collect() }
    }

    fn leave_out_key_of_workers(&mut self, credential: &mut Credential) {
        if !credential.key_sid.is_empty() && credential.key_secret.is_none() {
            credential.key_sid.clear();
            let notice = "TWILIO_API_KEY_SID is set without TWILIO_API_KEY_SECRET: it has no effect here";
            self.notices.push(notice.to_owned());
        }
    }

    /// User and password of HTTP Basic: an API key counts for more than an auth token.
    fn twilio_user(&mut self, account_sid: &str, credential: &Credential) -> (String, Option<SecretString>) {
        let Credential { key_sid, key_secret, tokens } = credential;
        match (key_sid.is_empty(), key_secret, tokens.first()) {
            (true, _, Some(token)) => return (account_sid.to_owned(), Some(token.clone())),
            (true, _, None) => {
                self.error("TWILIO_AUTH_TOKEN", "must be set (or TWILIO_API_KEY_SID and its secret)");
            }
            (false, None, _) => {
                self.error("TWILIO_API_KEY_SECRET", "must be set beside TWILIO_API_KEY_SID");
            }
            (false, Some(secret), _) => {
                if !is_sid(key_sid, "SK") {
                    self.error("TWILIO_API_KEY_SID", "must be SK and 32 hexadecimal digits");
                }
                return (key_sid.clone(), Some(secret.clone().into()));
            }
        }
        (String::new(), None)
    }

    /// The service that makes the codes; `None` if Verify is not chosen.
    fn verify_service(&mut self, by_verify: bool) -> Option<VerifyService> {
        let sid = self.text("TWILIO_VERIFY_SERVICE_SID", "");
        let base_url = self.text("TWILIO_VERIFY_BASE_URL", "https://verify.twilio.com");
        if !by_verify {
            self.notice_no_effect(&VERIFY_ONLY, "SMS_PROVIDER is not verify");
            return None;
        }
        self.notice_no_effect(&MESSAGING_ONLY, "SMS_PROVIDER=verify");
        if !is_sid(&sid, "VA") {
            self.error("TWILIO_VERIFY_SERVICE_SID", "must be set to VA and 32 hexadecimal digits");
        }
        self.check_base_url("TWILIO_VERIFY_BASE_URL", &base_url);
        Some(VerifyService { sid, base_url })
    }

    fn notice_no_effect(&mut self, names: &[&'static str], reason: &str) {
        for name in names {
            if self.is_given(name) {
                self.notices.push(format!("{name} is set, but {reason}: it has no effect"));
            }
        }
    }

    fn sender(&mut self, numbers: Vec<String>, service: String) -> Option<TwilioSender> {
        match (numbers.is_empty(), service.is_empty()) {
            (true, true) => {
                // A process that only accepts callbacks or reads needs no sender.
                if self.needs("SENDER") {
                    self.error("TWILIO_FROM_NUMBER", "must be set (or TWILIO_MESSAGING_SERVICE_SID)");
                }
                None
            }
            (_, false) if !is_sid(&service, "MG") => {
                self.error("TWILIO_MESSAGING_SERVICE_SID", "must be MG and 32 hexadecimal digits");
                None
            }
            (_, false) => Some(TwilioSender::Service(service)),
            (false, true) if numbers.iter().all(|number| is_sender(number)) => {
                Some(TwilioSender::Numbers(numbers))
            }
            (false, true) => {
                self.error(
                    "TWILIO_FROM_NUMBER",
                    "must be a comma list of +numbers, short codes or sender names",
                );
                None
            }
        }
    }

    /// Twilio calls it from outside, so it is the public address.
    fn check_callback(&mut self, name: &str, url: &str, no_token: bool, development: bool) {
        if url.is_empty() {
            return;
        }
        if !(url.starts_with("https://") || (development && url.starts_with("http://"))) {
            self.error(name, "must begin with https://");
        } else if no_token {
            let cause = format!("{name} is set, but its calls are signed with TWILIO_AUTH_TOKEN");
            let effect =
                if name == CALLBACK_URL { "receipts are polled instead" } else { "no call is accepted" };
            self.notices.push(format!("{cause}, which is not set: {effect}"));
        }
    }
}
