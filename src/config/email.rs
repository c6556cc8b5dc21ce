//! Reads the settings of the provider of e-mails.
//!
//! Many installations send text messages only: in production the channel is off if nothing is set. A setting of a part, or
//! `EMAIL_OTP_ENABLED=true`, requires the rest.

use super::providers::{EmailProvider, EmailWebhook, SendGrid, Smtp};
use super::reader::Reader;
use crate::domain::email_sender::Mailbox;

pub(super) struct EmailSettings {
    pub(super) enabled: bool,
    pub(super) provider: Option<EmailProvider>,
    pub(super) webhook: Option<EmailWebhook>,
}

const API_KEY: &str = "SENDGRID_API_KEY";
const BASE_URL: &str = "SENDGRID_API_BASE_URL";
const SMTP_URL: &str = "SMTP_URL";
const FROM: &str = "EMAIL_FROM";
const ENABLED: &str = "EMAIL_OTP_ENABLED";
const PROVIDER: &str = "EMAIL_PROVIDER";

impl Reader<'_> {
    pub(super) fn email(&mut self, development: bool) -> EmailSettings {
        let wanted = self.boolean(ENABLED, true);
        let by_smtp = self.choice(PROVIDER, "sendgrid", &["sendgrid", "smtp"]) == "smtp";
        let from = self.email_from();
        let api_key = self.api_key();
        let base_url = self.text(BASE_URL, "https://api.sendgrid.com");
        self.check_base_url(BASE_URL, &base_url);
        let smtp_url = self.smtp_url();
        let ca_file = self.smtp_ca_file(by_smtp, smtp_url.as_deref());
        let webhook_key = self.text("SENDGRID_WEBHOOK_PUBLIC_KEY", "");
        let is_given = [API_KEY, SMTP_URL, FROM, PROVIDER].iter().any(|name| self.is_given(name));
        // In development a setting other than the credential requires nothing: e-mails are simulated.
        let has_credential = if by_smtp { self.is_given(SMTP_URL) } else { self.is_given(API_KEY) };
        let requires_rest = has_credential || (is_given && !development);
        if wanted && requires_rest && self.needs("EMAIL") {
            self.require_email_settings(by_smtp);
        } else if wanted && self.is_given(ENABLED) && !development && self.needs("EMAIL") {
            let remedy =
                "set SENDGRID_API_KEY and EMAIL_FROM, or EMAIL_PROVIDER=smtp, SMTP_URL and EMAIL_FROM";
            self.error(ENABLED, format!("is true, but no e-mail provider is set: {remedy}"));
        }
        let provider = match (by_smtp, from, api_key, smtp_url) {
            (false, Some(from), Some(api_key), _) => {
                Some(EmailProvider::SendGrid(SendGrid { api_key: api_key.into(), from, base_url }))
            }
            (true, Some(from), _, Some(url)) => {
                Some(EmailProvider::Smtp(Smtp { url: url.into(), ca_file, from }))
            }
            _ => None,
        };
        // A process that sends nothing may know that workers send e-mails without holding the key.
        let by_workers = !self.needs("EMAIL") && (is_given || self.is_given(ENABLED));
        if wanted {
            self.notice_email(by_smtp, development, provider.is_some());
        }
        EmailSettings {
            enabled: wanted && (development || provider.is_some() || by_workers),
            provider,
            webhook: Some(webhook_key)
                .filter(|key| !key.is_empty())
                .map(|public_key| EmailWebhook::SendGrid { public_key }),
        }
    }

    /// Adds notices of settings without effect, or with a surprising effect.
    fn notice_email(&mut self, by_smtp: bool, development: bool, is_complete: bool) {
        let given = |name: &&&str| self.is_given(name);
        if self.needs("EMAIL") {
            let (missing, others) = if by_smtp { (SMTP_URL, API_KEY) } else { (API_KEY, SMTP_URL) };
            let choice = if by_smtp { "EMAIL_PROVIDER is smtp" } else { "EMAIL_PROVIDER is not smtp" };
            let set: Vec<&str> = [&PROVIDER, &FROM].into_iter().filter(given).copied().collect();
            let is_simulated = development && !is_complete && !self.is_given(missing);
            if self.is_given(others) {
                let then = if is_simulated { ", and e-mails are simulated" } else { "" };
                self.notices.push(format!("{others} is set, but {choice}: it has no effect{then}"));
            } else if is_simulated && !set.is_empty() {
                let (set, are) = (set.join(" and "), if set.len() > 1 { "are" } else { "is" });
                self.notices.push(format!("{set} {are} set, but {missing} is not: e-mails are simulated"));
            }
        } else if self.needs("HTTP") && !development && !self.is_given(ENABLED) {
            if [API_KEY, SMTP_URL, FROM, PROVIDER].iter().any(|name| self.is_given(name)) {
                return;
            }
            let cause = "EMAIL_OTP_ENABLED is not set, and no e-mail provider is";
            let effect = "requests for codes by e-mail are answered with channel_disabled";
            let remedy = "set EMAIL_OTP_ENABLED to true if workers send e-mails, else to false";
            self.notices.push(format!("{cause}: {effect}; {remedy}"));
        }
    }

    /// Reports each setting that is missing.
    fn require_email_settings(&mut self, by_smtp: bool) {
        if by_smtp && !self.is_given(SMTP_URL) {
            self.error(SMTP_URL, "must be set beside EMAIL_PROVIDER=smtp, as smtps://user:password@host:465");
        }
        if !by_smtp && !self.is_given(API_KEY) {
            let problem = "must be set to send e-mails (or EMAIL_PROVIDER=smtp and SMTP_URL)";
            self.error(API_KEY, problem);
        }
        if !self.is_given(FROM) {
            self.error(FROM, "must be set to send e-mails, such as Shop <codes@shop.example>");
        }
    }

    fn email_from(&mut self) -> Option<Mailbox> {
        let text = self.text(FROM, "");
        if text.is_empty() {
            return None;
        }
        text.parse().map_err(|rule| self.error(FROM, format!("{rule}"))).ok()
    }

    fn api_key(&mut self) -> Option<String> {
        let key = self.secret(API_KEY)?;
        // It goes into a header.
        if key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Some(key);
        }
        self.error(API_KEY, "must be visible ASCII characters, as SG. and more of them");
        None
    }

    fn smtp_url(&mut self) -> Option<String> {
        let url = self.secret(SMTP_URL)?;
        if url.starts_with("smtp://") || url.starts_with("smtps://") {
            return Some(url);
        }
        self.error(SMTP_URL, "must begin with smtp:// or smtps://");
        None
    }
}
