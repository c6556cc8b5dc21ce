//! The settings of who carries the e-mails.
//!
//! Most have text messages only, so that in production nothing set means that the channel is off, and nothing is wrong.
//! Whoever asks for it, or sets a part of it, must set all of it.

use super::reader::Reader;
use super::{EmailProvider, SendGrid, Smtp};
use crate::domain::mailbox::Mailbox;

/// What is set about e-mails.
pub(super) struct EmailSettings {
    pub(super) enabled: bool,
    pub(super) carrier: Option<EmailProvider>,
    pub(super) sendgrid_webhook_key: Option<String>,
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
        let webhook_key = self.text("SENDGRID_WEBHOOK_PUBLIC_KEY", "");
        let anything = [API_KEY, SMTP_URL, FROM, PROVIDER].iter().any(|name| self.is_given(name));
        // In development nothing has to be whole that is not begun: e-mails are shown instead.
        let begun = if by_smtp { self.is_given(SMTP_URL) } else { self.is_given(API_KEY) };
        let must_be_whole = begun || (anything && !development);
        if wanted && must_be_whole && self.needs("EMAIL") {
            self.check_email_whole(by_smtp);
        } else if wanted && self.is_given(ENABLED) && !development && self.needs("EMAIL") {
            let what = "set SENDGRID_API_KEY and EMAIL_FROM, or EMAIL_PROVIDER=smtp, SMTP_URL and EMAIL_FROM";
            self.fault(ENABLED, format!("is true, but nothing carries e-mails: {what}"));
        }
        let carrier = match (by_smtp, from, api_key, smtp_url) {
            (false, Some(from), Some(api_key), _) => {
                Some(EmailProvider::SendGrid(SendGrid { api_key: api_key.into(), from, base_url }))
            }
            (true, Some(from), _, Some(url)) => Some(EmailProvider::Smtp(Smtp { url: url.into(), from })),
            _ => None,
        };
        // Who sends nothing itself need not hold the key to know that somebody does.
        let by_others = !self.needs("EMAIL") && (anything || self.is_given(ENABLED));
        if wanted {
            self.notice_email(by_smtp, development, carrier.is_some());
        }
        EmailSettings {
            enabled: wanted && (development || carrier.is_some() || by_others),
            carrier,
            sendgrid_webhook_key: Some(webhook_key).filter(|key| !key.is_empty()),
        }
    }

    /// Tells of what is set and has no effect, or has another than was surely meant.
    fn notice_email(&mut self, by_smtp: bool, development: bool, is_whole: bool) {
        let given = |name: &&&str| self.is_given(name);
        if self.needs("EMAIL") {
            let (missing, others) = if by_smtp { (SMTP_URL, API_KEY) } else { (API_KEY, SMTP_URL) };
            let other_way = if by_smtp { "EMAIL_PROVIDER is smtp" } else { "EMAIL_PROVIDER is not smtp" };
            let mine: Vec<&str> = [&PROVIDER, &FROM].into_iter().filter(given).copied().collect();
            let is_simulated = development && !is_whole && !self.is_given(missing);
            if self.is_given(others) {
                let then = if is_simulated { ", and e-mails are simulated" } else { "" };
                self.notices.push(format!("{others} is set, but {other_way}: it has no effect{then}"));
            } else if is_simulated && !mine.is_empty() {
                let (set, are) = (mine.join(" and "), if mine.len() > 1 { "are" } else { "is" });
                self.notices.push(format!("{set} {are} set, but {missing} is not: e-mails are simulated"));
            }
        } else if self.needs("HTTP") && !development && !self.is_given(ENABLED) {
            if [API_KEY, SMTP_URL, FROM, PROVIDER].iter().any(|name| self.is_given(name)) {
                return;
            }
            let cause = "EMAIL_OTP_ENABLED is not set, nor who carries e-mails";
            let then = "requests for codes by e-mail are answered with channel_disabled";
            let what = "set it to true here if workers send e-mails, else to false";
            self.notices.push(format!("{cause}: {then}; {what}"));
        }
    }

    /// Names the part that is missing.
    fn check_email_whole(&mut self, by_smtp: bool) {
        if by_smtp && !self.is_given(SMTP_URL) {
            self.fault(SMTP_URL, "must be set beside EMAIL_PROVIDER=smtp, as smtps://user:password@host:465");
        }
        if !by_smtp && !self.is_given(API_KEY) {
            let problem = "must be set to send e-mails (or EMAIL_PROVIDER=smtp and SMTP_URL)";
            self.fault(API_KEY, problem);
        }
        if !self.is_given(FROM) {
            self.fault(FROM, "must be set to send e-mails, as Shop <codes@shop.example>");
        }
    }

    fn email_from(&mut self) -> Option<Mailbox> {
        let text = self.text(FROM, "");
        if text.is_empty() {
            return None;
        }
        text.parse().map_err(|rule| self.fault(FROM, format!("{rule}"))).ok()
    }

    fn api_key(&mut self) -> Option<String> {
        let key = self.secret(API_KEY)?;
        // As a header takes it.
        if key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Some(key);
        }
        self.fault(API_KEY, "must be visible ASCII characters, as SG. and more of them");
        None
    }

    fn smtp_url(&mut self) -> Option<String> {
        let url = self.secret(SMTP_URL)?;
        if url.starts_with("smtp://") || url.starts_with("smtps://") {
            return Some(url);
        }
        self.fault(SMTP_URL, "must begin with smtp:// or smtps://");
        None
    }
}
