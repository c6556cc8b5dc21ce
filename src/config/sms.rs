//! Reads the settings of text messages: their countries and their provider.

use std::collections::BTreeSet;
use std::time::Duration;

use super::providers::SmsProvider;
use super::raw::Variables;
use super::reader::Reader;
use super::validators::{parts, seconds};
use crate::domain::failover::DoubtFailover;
use crate::domain::message_match::InDoubtPolicy;
use crate::domain::phone::{Region, is_code_of_no_country};

impl Reader<'_> {
    /// The chosen provider; `None` without its settings.
    pub(super) fn sms_provider(&mut self, development: bool, variables: &Variables) -> Option<SmsProvider> {
        let file = self.providers_file(variables).map(SmsProvider::File);
        file.or(self.twilio(development).map(SmsProvider::Twilio))
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

    pub(super) fn in_doubt(&mut self) -> DoubtFailover {
        DoubtFailover { after: self.doubt_failover_after(), policy: self.in_doubt_policy() }
    }

    fn in_doubt_policy(&mut self) -> InDoubtPolicy {
        match self.choice("IN_DOUBT_POLICY", "reconcile", &["reconcile", "never_resend", "resend"]).as_str() {
            "never_resend" => InDoubtPolicy::NeverResend,
            "resend" => InDoubtPolicy::Resend,
            _ => InDoubtPolicy::Reconcile,
        }
    }

    fn doubt_failover_after(&mut self) -> Option<Duration> {
        let after = seconds(self.number("DOUBT_FAILOVER_AFTER_SECONDS", 30, 0, 600));
        (!after.is_zero()).then_some(after)
    }

    /// The countries, `None` for all, and the codes of no country.
    pub(super) fn countries(&mut self) -> (Option<BTreeSet<String>>, BTreeSet<String>) {
        let text = self.text("SMS_ALLOWED_COUNTRIES", "CO");
        let is_code = |part: &String| is_code_of_no_country(part);
        let (codes, mut countries): (BTreeSet<String>, BTreeSet<String>) =
            parts(&text).map(str::to_ascii_uppercase).partition(is_code);
        let is_all = countries.remove("*");
        let is_valid = countries.iter().all(|country| country.parse::<Region>().is_ok());
        if !is_valid
            || (is_all && !countries.is_empty())
            || (!is_all && codes.is_empty() && countries.is_empty())
        {
            let rule = "must be a comma list of countries as two letters, such as CO,MX; or *; beside them, codes of \
                        no country, such as +881";
            self.error("SMS_ALLOWED_COUNTRIES", rule);
        }
        ((!is_all).then_some(countries), codes)
    }
}
