//! Reads the settings of the provider of text messages.

use super::providers::SmsProvider;
use super::reader::Reader;
use crate::domain::message_match::InDoubtPolicy;

impl Reader<'_> {
    /// The chosen provider; `None` without its settings.
    pub(super) fn sms_provider(&mut self, development: bool) -> Option<SmsProvider> {
        self.twilio(development).map(SmsProvider::Twilio)
    }

    /// Twilio Verify makes the codes and writes the texts.
    pub(super) fn by_verify(&mut self) -> bool {
        self.choice("SMS_PROVIDER", "messages", &["messages", "verify"]) == "verify"
    }

    pub(super) fn sms_provider_makes_codes(&self) -> bool {
        self.raw.get("SMS_PROVIDER") == Some("verify")
    }

    /// Messages a second of one sender; `None` if not limited.
    pub(super) fn sender_rate(&mut self) -> Option<f64> {
        let text = self.text("TWILIO_SENDER_MPS", "0");
        match text.parse::<f64>() {
            Ok(0.0) => None,
            Ok(rate) if (0.01..=1_000.0).contains(&rate) => Some(rate),
            _ => {
                self.error("TWILIO_SENDER_MPS", "must be a number from 0.01 to 1000, or 0 for no limit");
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
