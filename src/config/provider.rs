//! The settings of who carries the messages.

use secrecy::SecretString;

use super::reader::Reader;
use super::validators::{is_loopback, is_sender, is_sid, parts};
use super::{Twilio, TwilioSender, VerifyService};
use crate::domain::message_match::InDoubtPolicy;

impl Reader<'_> {
    pub(super) fn twilio(&mut self, development: bool) -> Option<Twilio> {
        let account_sid = self.text("TWILIO_ACCOUNT_SID", "");
        let token = self.secret("TWILIO_AUTH_TOKEN");
        let (key_sid, key_secret) =
            (self.text("TWILIO_API_KEY_SID", ""), self.secret("TWILIO_API_KEY_SECRET"));
        let numbers: Vec<String> = self.list("TWILIO_FROM_NUMBER", "", "must be a comma list");
        let service = self.text("TWILIO_MESSAGING_SERVICE_SID", "");
        let base_url = self.text("TWILIO_API_BASE_URL", "https://api.twilio.com");
        let verify = self.verify_service();
        let callback = self.text("TWILIO_STATUS_CALLBACK_URL", "");
        let anything = !account_sid.is_empty() || token.is_some() || !key_sid.is_empty();
        // Whoever answers checks asks Verify.
        let needed = self.needs("TWILIO") || (verify.is_some() && self.needs("CHECKER"));
        if !anything && (development || !needed) {
            if !callback.is_empty() {
                let cause =
                    "TWILIO_STATUS_CALLBACK_URL is set, but TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN are not";
                self.notices.push(format!("{cause}: nobody answers there"));
            }
            return None;
        }
        let before = self.faults.len();
        if !is_sid(&account_sid, "AC") {
            self.fault("TWILIO_ACCOUNT_SID", "must be set to AC and 32 hexadecimal digits");
        }
        // While it is being rotated several are listed: the first signs our calls, callbacks are signed with any.
        let tokens: Vec<SecretString> =
            token.as_deref().into_iter().flat_map(parts).map(|token| token.to_owned().into()).collect();
        let token = token.as_deref().and_then(|tokens| parts(tokens).next()).map(str::to_owned);
        let (user, password) = match (key_sid.is_empty(), key_secret, token) {
            (false, Some(secret), _) => (key_sid.clone(), Some(secret)),
            (false, None, _) => (String::new(), None),
            (true, _, token) => (account_sid.clone(), token),
        };
        match (&password, key_sid.is_empty()) {
            (None, true) => {
                self.fault("TWILIO_AUTH_TOKEN", "must be set (or TWILIO_API_KEY_SID and its secret)")
            }
            (None, false) => self.fault("TWILIO_API_KEY_SECRET", "must be set beside TWILIO_API_KEY_SID"),
            (Some(_), false) if !is_sid(&key_sid, "SK") => {
                self.fault("TWILIO_API_KEY_SID", "must be SK and 32 hexadecimal digits");
            }
            _ => {}
        }
        self.check_base_url("TWILIO_API_BASE_URL", &base_url);
        self.check_callback(&callback, tokens.is_empty(), development);
        if verify.is_some() && !callback.is_empty() {
            let cause = "TWILIO_STATUS_CALLBACK_URL is set, but SMS_PROVIDER=verify";
            self.notices.push(format!("{cause}: Verify reports nothing there"));
        }
        // Without a token nobody could tell its calls from anybody's.
        let status_callback = Some(callback).filter(|url| !url.is_empty() && !tokens.is_empty());
        let sender = match &verify {
            Some(_) => None,
            None => self.sender(numbers, service),
        };
        let password = password?.into();
        (self.faults.len() == before).then_some(Twilio {
            account_sid,
            user,
            password,
            verify,
            sender,
            base_url,
            status_callback,
            tokens,
        })
    }

    /// The service that makes the codes, if one does.
    fn verify_service(&mut self) -> Option<VerifyService> {
        let chosen = self.choice("SMS_PROVIDER", "messages", &["messages", "verify"]) == "verify";
        let sid = self.text("TWILIO_VERIFY_SERVICE_SID", "");
        let base_url = self.text("TWILIO_VERIFY_BASE_URL", "https://verify.twilio.com");
        if !chosen {
            for name in ["TWILIO_VERIFY_SERVICE_SID", "TWILIO_VERIFY_BASE_URL"] {
                if self.is_given(name) {
                    let cause = format!("{name} is set, but SMS_PROVIDER is not verify");
                    self.notices.push(format!("{cause}: it has no effect"));
                }
            }
            return None;
        }
        if !is_sid(&sid, "VA") {
            self.fault("TWILIO_VERIFY_SERVICE_SID", "must be set to VA and 32 hexadecimal digits");
        }
        self.check_base_url("TWILIO_VERIFY_BASE_URL", &base_url);
        Some(VerifyService { sid, base_url })
    }

    fn sender(&mut self, numbers: Vec<String>, service: String) -> Option<TwilioSender> {
        match (numbers.is_empty(), service.is_empty()) {
            (true, true) => {
                // Who only takes Twilio's calls or looks at things sends nothing.
                if self.needs("SENDER") {
                    self.fault("TWILIO_FROM_NUMBER", "must be set (or TWILIO_MESSAGING_SERVICE_SID)");
                }
                None
            }
            (_, false) if !is_sid(&service, "MG") => {
                self.fault("TWILIO_MESSAGING_SERVICE_SID", "must be MG and 32 hexadecimal digits");
                None
            }
            (_, false) => Some(TwilioSender::Service(service)),
            (false, true) if numbers.iter().all(|number| is_sender(number)) => {
                Some(TwilioSender::Numbers(numbers))
            }
            (false, true) => {
                self.fault(
                    "TWILIO_FROM_NUMBER",
                    "must be a comma list of +numbers, short codes or sender names",
                );
                None
            }
        }
    }

    /// Plain HTTP would show credentials and codes on the way: it is for this very machine only.
    pub(super) fn check_base_url(&mut self, name: &str, url: &str) {
        let ok = match url.strip_prefix("http://") {
            Some(rest) => is_loopback(rest),
            None => url.starts_with("https://"),
        };
        if !ok {
            self.fault(name, "must begin with https:// (http:// only for 127.0.0.1 or localhost)");
        }
    }

    /// Twilio calls it from outside, so it is the address that the world sees.
    fn check_callback(&mut self, url: &str, no_token: bool, development: bool) {
        if url.is_empty() {
            return;
        }
        if !(url.starts_with("https://") || (development && url.starts_with("http://"))) {
            self.fault("TWILIO_STATUS_CALLBACK_URL", "must begin with https://");
        } else if no_token {
            let cause = "TWILIO_STATUS_CALLBACK_URL is set, but its calls are signed with TWILIO_AUTH_TOKEN";
            self.notices.push(format!("{cause}, which is not: receipts are asked for instead"));
        }
    }

    /// Messages a second of one sender; nothing where that is not bounded.
    pub(super) fn sender_pace(&mut self) -> Option<f64> {
        let text = self.text("TWILIO_SENDER_MPS", "0");
        match text.parse::<f64>() {
            Ok(0.0) => None,
            Ok(pace) if (0.01..=1_000.0).contains(&pace) => Some(pace),
            _ => {
                self.fault("TWILIO_SENDER_MPS", "must be a number from 0.01 to 1000, or 0 for no bound");
                None
            }
        }
    }

    pub(super) fn in_doubt(&mut self) -> InDoubtPolicy {
        match self.choice("IN_DOUBT_POLICY", "reconcile", &["reconcile", "never_resend", "resend"]).as_str() {
            "never_resend" => InDoubtPolicy::NeverResend,
            "resend" => InDoubtPolicy::Resend,
            _ => InDoubtPolicy::Reconcile,
        }
    }
}
