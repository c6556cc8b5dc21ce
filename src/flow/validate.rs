//! Checks a request without the store.
//!
//! A request for a disabled channel or with a forbidden code is rejected if it is new. Only the store knows whether it is,
//! so admission decides that.

use super::context::ValidRequest;
use super::gateway::ChannelGateway;
use crate::domain::address::Address;
use crate::domain::code::Code;
use crate::domain::outcome::{ErrorCode, OutcomeError};
use crate::domain::recipient_rules::Rejection;
use crate::domain::request::{AutofillField, SendRequest};
use crate::domain::test_number::Validity;
use crate::telemetry::events;
use crate::text::autofill::{AndroidAppHash, Autofill, WebOtpDomain};

impl ChannelGateway {
    pub(super) fn validate<'a>(&self, request: &'a SendRequest<'a>) -> Result<ValidRequest<'a>, Rejection> {
        let to = self.rules.allowed_address(self.channel, &request.to)?;
        let invalid = |detail: String| Rejection {
            to: to.masked(),
            error: OutcomeError::detailed(ErrorCode::InvalidRequest, detail),
        };
        if self.providers.write_texts()
            && let Some(field) = first_code_or_text_field(request)
        {
            return Err(invalid(format!("`{field}` cannot be chosen: the provider makes codes and texts")));
        }
        let autofill = request.autofill.as_ref().map(parse_autofill).transpose().map_err(invalid)?;
        if let Some(template) =
            request.template.as_deref().filter(|template| !self.texts.has_template(self.channel, template))
        {
            return Err(invalid(format!(
                "`template` is not a known template; got a string of {} characters",
                template.len()
            )));
        }
        Ok(ValidRequest {
            recipient: self.recipient_keyring.address(to.channel(), to.as_str()),
            user: request.user_id.as_deref().map(|user| self.recipient_keyring.user(user)),
            ip: request.client_ip.map(|ip| self.recipient_keyring.ip(ip)),
            network: request.client_ip.map(|ip| self.recipient_keyring.network(ip)),
            order: self.providers.order(&to, request.purpose.as_str()),
            reject_if_new: self.rejection_if_new(request),
            test_code: self.test_code(&to),
            request,
            to,
            autofill,
        })
    }

    /// The code of a test number in force. A caller's own code does not count for it.
    fn test_code(&self, to: &Address) -> Option<Code> {
        let (position, entry) = self.test_numbers.find(to)?;
        match entry.validity(self.clock.now()) {
            Validity::InForce => Some(entry.code().copy()),
            Validity::Expired | Validity::TooLong => {
                events::test_number_not_in_force(position);
                None
            }
        }
    }

    fn rejection_if_new(&self, request: &SendRequest<'_>) -> Option<OutcomeError> {
        if !self.rules.is_enabled(self.channel) {
            return Some(OutcomeError::of(ErrorCode::ChannelDisabled));
        }
        let (digits, digits_min) = (request.code.as_ref()?.expose().len(), self.policy.code_length.get());
        let detail = if !self.policy.caller_codes_allowed {
            "`code` is refused: OTP_CALLER_CODES is `refuse`".to_owned()
        } else if digits < digits_min {
            format!("`code` must have at least {digits_min} digits (OTP_CODE_LENGTH); got {digits}")
        } else {
            return None;
        };
        Some(OutcomeError::detailed(ErrorCode::InvalidRequest, detail))
    }
}

fn first_code_or_text_field(request: &SendRequest<'_>) -> Option<&'static str> {
    let given = [
        ("code", request.code.is_some()),
        ("template", request.template.is_some()),
        ("autofill", request.autofill.is_some()),
    ];
    given.into_iter().find_map(|(field, given)| given.then_some(field))
}

fn parse_autofill(field: &AutofillField<'_>) -> Result<Autofill, String> {
    match field {
        AutofillField::WebOtpDomain(domain) => WebOtpDomain::parse(domain)
            .map(|domain| Autofill::WebOtp { domain })
            .map_err(|error| format!("`autofill.webotp_domain` {error}")),
        AutofillField::AndroidHash(hash) => AndroidAppHash::parse(hash)
            .map(|hash| Autofill::AndroidHash { hash })
            .map_err(|error| format!("`autofill.android_hash` {error}")),
    }
}
